// The memory of receive buffers. Which of them are lent, and how the kernel gets them, is the backend's business.
#include "loop_private.h"

#include <sys/mman.h>

static size_t buffers_size(const struct sc_backend *backend) {
    return (size_t)backend->config->receive_buffer_count * backend->config->receive_buffer_size;
}

int sc_buffers_map(struct sc_backend *backend) {
    void *memory = mmap(NULL, buffers_size(backend), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    backend->buffers = memory;
    return 0;
}

void sc_buffers_unmap(struct sc_backend *backend) {
    if (backend->buffers != NULL)
        munmap(backend->buffers, buffers_size(backend));
}

uint64_t sc_buffers_trim(struct sc_backend *backend, struct sc_trim *trim,
                         bool (*are_empty)(const struct sc_backend *backend)) {
    uint64_t receives = backend->counters->receives, now_ns = backend->loop->monotonic_ns;
    if (trim->due_ns == 0) {
        if (receives != trim->receives)
            trim->due_ns = now_ns + SC_BUFFERS_TRIM_MS * 1000000ull;
        return trim->due_ns;
    }
    if (now_ns < trim->due_ns)
        return trim->due_ns;
    bool few = receives - trim->receives < backend->config->receive_buffer_count;
    if (few && are_empty(backend)) {
        (void)madvise(backend->buffers, buffers_size(backend), MADV_DONTNEED);
        backend->counters->receive_buffers_trimmed++;
        trim->due_ns = 0;
    } else {
        trim->due_ns = now_ns + SC_BUFFERS_TRIM_MS * 1000000ull;
    }
    trim->receives = receives;
    return trim->due_ns;
}
