// Operations on files that never wait, behind a table: a loop gives the real one, a test one that
// fails, stalls, or loses what was not flushed.
#ifndef CSTREAM_FILE_OPS_H
#define CSTREAM_FILE_OPS_H

#pragma clang assume_nonnull begin

struct sc_loop;

enum sc_file_kind {
    SC_FILE_READ,
    SC_FILE_WRITE,
    SC_FILE_WRITE_FLUSH,
    SC_FILE_WRITE_PAGES,
    SC_FILE_FLUSH,
    SC_FILE_OPEN,
    SC_FILE_ALLOCATE,
    SC_FILE_RENAME,
    SC_FILE_UNLINK,
    SC_FILE_MKDIR,
    SC_FILE_CLOSE,
    SC_FILE_FORGET,
};

/// One operation on a file, embedded in what waits for it; in flight at most once.
struct sc_file_op {
    uint8_t kind; // The table's, as `slot`.
    uint8_t site; // The caller says what for: tests make the operations of one site fail.
    uint32_t slot;
    // The table's too, of SC_FILE_WRITE_PAGES:
    bool linked; // Its flush is an operation of its own.
    int32_t fd;
    uint64_t began_ns;
    void (*on_complete)(struct sc_file_op *op, ssize_t result);
};

/// Results as the system calls', -errno on failure; short reads and writes are the caller's to continue.
/// The op, its bytes and its paths stay put until `on_complete`.
struct sc_file_ops {
    void (*read)(struct sc_loop *, struct sc_file_op *, int fd, void *data, uint32_t size,
                 uint64_t offset);
    void (*write)(struct sc_loop *, struct sc_file_op *, int fd, const void *data, uint32_t size,
                  uint64_t offset);
    /// As `write` and then `sync` of what was written, data_only: when it completes the bytes are durable.
    void (*write_flush)(struct sc_loop *, struct sc_file_op *, int fd, const void *data,
                        uint32_t size, uint64_t offset);
    /// As `write_flush`, of whole pages from memory that is aligned to one, to a file that is `direct`: the disk gets
    /// them at once, where `write_flush` waits until the kernel has a thread for it.
    void (*write_pages)(struct sc_loop *, struct sc_file_op *, int fd, const void *data,
                        uint32_t size, uint64_t offset);
    void (*flush)(struct sc_loop *, struct sc_file_op *, int fd, bool data_only);
    void (*open)(struct sc_loop *, struct sc_file_op *, int directory_fd, const char *path,
                 int flags, uint32_t mode);
    void (*allocate)(struct sc_loop *, struct sc_file_op *, int fd, uint64_t offset, uint64_t size);
    void (*rename)(struct sc_loop *, struct sc_file_op *, int directory_fd, const char *from,
                   const char *to);
    void (*unlink)(struct sc_loop *, struct sc_file_op *, int directory_fd, const char *path);
    void (*mkdir)(struct sc_loop *, struct sc_file_op *, int directory_fd, const char *path,
                  uint32_t mode);
    void (*close)(struct sc_loop *, struct sc_file_op *, int fd);
    /// Lets go of the memory in which the kernel has the file's bytes, as far as they are flushed.
    void (*forget)(struct sc_loop *, struct sc_file_op *, int fd);

    // Only while a store is opened or closed: these wait.

    /// Runs the loop until something has completed. 0 or -errno of a loop that is broken.
    int (*wait)(struct sc_loop *);
    /// Calls `body` with each name in the directory. 0 or -errno.
    int (*list)(struct sc_loop *, int directory_fd, void (*body)(const char *name, void *context),
                void *context);
    /// The size of the file, or -errno: -ENOTSUP of what is no regular file. Opened with O_NONBLOCK, it waits from here on.
    int64_t (*size)(struct sc_loop *, int fd);
    /// Where the next bytes from `offset` on lie that are not a hole; `offset` where the file system cannot tell. -ENXIO:
    /// there are none.
    int64_t (*data)(struct sc_loop *, int fd, uint64_t offset);
    /// From here on the descriptor takes whole pages only, past the kernel's cache. Never waits. 0, or -errno:
    /// -EOPNOTSUPP where the file system does not say that it can, or not by pages. Then all is as before.
    int (*direct)(struct sc_loop *, int fd);
    /// How many names the file or directory has, or -errno. Never waits.
    int64_t (*links)(struct sc_loop *, int fd);
    /// Takes the lock of the open file for this process, without waiting. -EWOULDBLOCK: another has it.
    int (*lock)(struct sc_loop *, int fd);
};

#pragma clang assume_nonnull end

#endif
