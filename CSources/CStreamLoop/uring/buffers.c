// Receive buffers: the kernel takes one for each receive that completes, and gets it back from the loop.
#include "uring.h"

#include <sys/mman.h>

static size_t buffer_ring_size(const struct uring *uring) {
    return uring->base.config->receive_buffer_count * sizeof(struct io_uring_buf);
}

static void *map_memory(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int uring_buffers_open(struct uring *uring) {
    uring->buffer_ring = map_memory(buffer_ring_size(uring));
    if (uring->buffer_ring == NULL || sc_buffers_map(&uring->base) != 0)
        return -ENOMEM;
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)uring->buffer_ring,
                                   .ring_entries = uring->base.config->receive_buffer_count,
                                   .bgid = SC_RING_BUFFER_GROUP};
    int rc = io_uring_register_buf_ring(&uring->ring, &reg, 0);
    if (rc != 0)
        return rc;
    io_uring_buf_ring_init(uring->buffer_ring);
    uring->base.buffers_out = uring->base.config->receive_buffer_count;
    for (uint32_t id = 0; id < uring->base.config->receive_buffer_count; id++)
        uring_give_buffer(&uring->base, id);
    return 0;
}

void uring_buffers_close(struct uring *uring) {
    if (uring->buffer_ring != NULL)
        munmap(uring->buffer_ring, buffer_ring_size(uring));
    sc_buffers_unmap(&uring->base);
}

static uint8_t *buffer_of(const struct uring *uring, uint32_t id) {
    assert(id < uring->base.config->receive_buffer_count);
    return uring->base.buffers + (size_t)id * uring->base.config->receive_buffer_size;
}

void uring_give_buffer(struct sc_backend *backend, uint32_t id) {
    struct uring *uring = uring_of(backend);
    assert(uring->base.buffers_out > 0);
    uring->base.buffers_out--;
    uint32_t mask = uring->base.config->receive_buffer_count - 1;
    io_uring_buf_ring_add(uring->buffer_ring, buffer_of(uring, id),
                          uring->base.config->receive_buffer_size, (uint16_t)id, (int)mask, 0);
    io_uring_buf_ring_advance(uring->buffer_ring, 1);
}

// All buffers are empty when none is out and no completion waits to be looked at. They stay so until this
// thread enters the kernel for completions, which only a ring that defers its work to then can say of itself.
static bool buffers_are_empty(const struct sc_backend *backend) {
    const struct uring *uring = (const struct uring *)(const void *)backend;
    return (uring->ring.flags & IORING_SETUP_DEFER_TASKRUN) != 0 && backend->buffers_out == 0 &&
           io_uring_cq_ready(&uring->ring) == 0;
}

uint64_t uring_end_turn(struct sc_backend *backend) {
    return sc_buffers_trim(backend, &uring_of(backend)->trim, buffers_are_empty);
}
