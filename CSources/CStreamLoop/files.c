// Operations on files that are done at once or while a store opens, where waiting is allowed. All backends of the kernel's
// share them.
#define _GNU_SOURCE // O_DIRECT, statx()
#include "loop_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int sc_file_list(struct sc_loop *loop, int directory_fd,
                 void (*body)(const char *name, void *context), void *context) {
    (void)loop;
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    struct dirent *entry;
    while (errno = 0, (entry = readdir(directory)) != NULL)
        body(entry->d_name, context);
    int rc = -errno;
    closedir(directory);
    return rc;
}

// Of a pipe, a device and the like nobody knows when a read ends.
int64_t sc_file_size(struct sc_loop *loop, int fd) {
    (void)loop;
    struct stat status;
    if (fstat(fd, &status) != 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -ENOTSUP;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0)
        return -errno;
    return status.st_size;
}

int64_t sc_file_data(struct sc_loop *loop, int fd, uint64_t offset) {
    (void)loop;
    off_t at = lseek(fd, (off_t)offset, SEEK_DATA);
    return at >= 0 ? at : errno == ENXIO ? -ENXIO : (int64_t)offset;
}

int64_t sc_file_links(struct sc_loop *loop, int fd) {
    (void)loop;
    struct stat status;
    return fstat(fd, &status) == 0 ? (int64_t)status.st_nlink : -errno;
}

// That a file can be made so says little: some file systems accept it, and refuse each write. Those that can say how
// since Linux 6.1; no others are trusted.
int sc_file_direct(struct sc_loop *loop, int fd) {
    (void)loop;
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_DIOALIGN, &status) != 0)
        return -errno;
    uint32_t offset = status.stx_dio_offset_align, memory = status.stx_dio_mem_align;
    if ((status.stx_mask & STATX_DIOALIGN) == 0 || offset == 0 || SC_LOG_PAGE_SIZE % offset != 0 ||
        memory == 0 || SC_LOG_PAGE_SIZE % memory != 0)
        return -EOPNOTSUPP;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0 ? 0 : -errno;
}

int sc_file_lock(struct sc_loop *loop, int fd) {
    (void)loop;
    return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
}
