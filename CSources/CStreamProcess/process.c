#include "CStreamProcess.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int argument_count;
static char **arguments;

// The C library hands constructors what it hands to main(). Swift's own list comes from /proc, which is not
// there in every container.
__attribute__((constructor)) static void keep_arguments(int count, char **all) {
    argument_count = count;
    arguments = all;
}

int sc_process_argument_count(void) {
    return argument_count;
}

const char *sc_process_argument(int index) {
    return index >= 0 && index < argument_count ? arguments[index] : NULL;
}

uint64_t sc_process_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? before : limit.rlim_cur;
}

int sc_process_write(int fd, const void *bytes, uint64_t size, uint64_t *written) {
    *written = 0;
    while (*written < size) {
        ssize_t rc = write(fd, (const char *)bytes + *written, size - *written);
        if (rc >= 0) {
            *written += (uint64_t)rc;
        } else if (errno == EAGAIN) { // Somebody else's descriptor, which does not wait by itself.
            struct pollfd wanted = {.fd = fd, .events = POLLOUT};
            if (poll(&wanted, 1, -1) < 0 && errno != EINTR)
                return -errno;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

int sc_process_is_journal(int fd) {
    const char *stream = getenv("JOURNAL_STREAM");
    uintmax_t device, inode;
    struct stat status;
    return stream != NULL && sscanf(stream, "%ju:%ju", &device, &inode) == 2 &&
           fstat(fd, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

void sc_process_return_memory(void) {
    (void)malloc_trim(0);
}
