// The directory of a store: its lock, its manifest, and the files of the run before.
//
// Every start is a new epoch. The manifest names the epoch whose files count; a start writes all it has read
// to files of the next one, and then replaces the manifest. Until then nothing of the old epoch is touched.
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "log.h"

#define MANIFEST "MANIFEST"
#define MANIFEST_PART "MANIFEST.part"
#define LOCK "LOCK"

void sc_directory_report(const struct sc_directory *directory, enum sc_report_level level,
                         const char *event, const char *format, ...) {
    char text[SC_REASON_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const struct sc_reporter *reporter = &directory->config.reporter;
    reporter->report(reporter->context, level, event, text);
}

int sc_directory_explain(const struct sc_directory *directory, int rc, const char *what,
                         const char *name, char *reason) {
    snprintf(reason, SC_REASON_SIZE, "%s %s%s%s: %s", what, directory->path, *name == 0 ? "" : "/",
             name, strerror(-rc));
    return rc;
}

// Without waiting: to open a pipe would, until somebody writes to it. The size is asked of a regular file only, which says
// what it is.
int sc_directory_open_file(struct sc_loop *loop, const struct sc_directory *directory, uint8_t site,
                           const char *name, int flags, int64_t *size, char *reason) {
    int fd = sc_blocking_open(loop, directory->ops, site, directory->fd, name,
                              flags | O_CLOEXEC | O_NONBLOCK, 0600);
    if (fd == -ENOENT)
        return fd;
    *size = fd < 0 ? fd : directory->ops->size(loop, fd);
    if (*size >= 0)
        return fd;
    if (fd >= 0)
        sc_blocking_close(loop, directory->ops, fd);
    if (*size == -ENOTSUP || *size == -ENXIO) {
        snprintf(reason, SC_REASON_SIZE, "%s/%s is no regular file", directory->path, name);
        return -EBADMSG;
    }
    return sc_directory_explain(directory, (int)*size, "cannot open", name, reason);
}

// ---- Making it

static int flush_directory(struct sc_loop *loop, struct sc_directory *directory, const char *path) {
    int fd = sc_blocking_open(loop, directory->ops, SC_SITE_DIRECTORY_OPEN, AT_FDCWD, path,
                              O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd == -EACCES)
        return 0; // Somebody else's: it was there before.
    if (fd < 0)
        return fd;
    int rc = sc_blocking_flush(loop, directory->ops, SC_SITE_DIRECTORY_PARENT_FLUSH, fd);
    sc_blocking_close(loop, directory->ops, fd);
    return rc;
}

// Makes each part of the path that is missing. The parent of each is flushed also if it was there: whoever
// made it may not have come that far.
static int make_path(struct sc_loop *loop, struct sc_directory *directory) {
    char *path = strdup(directory->path);
    if (path == NULL)
        return -ENOMEM;
    int rc = 0;
    for (char *end = path; rc >= 0 && *end != 0;) {
        char *begin = end;
        while (*begin == '/')
            begin++;
        if (*begin == 0)
            break;
        end = begin + strcspn(begin, "/");
        char kept = *end;
        *end = 0;
        rc = sc_blocking_mkdir(loop, directory->ops, SC_SITE_DIRECTORY_MAKE, AT_FDCWD, path, 0700);
        *end = kept;
        if (rc == -EEXIST || rc == -EROFS || rc == -EACCES)
            rc = 0; // There, or opening it will say what is wrong.
        kept = *begin;
        *begin = 0;
        if (rc >= 0)
            rc = flush_directory(loop, directory, *path == 0 ? "." : path);
        *begin = kept;
    }
    free(path);
    return rc < 0 ? rc : 0;
}

// ---- What is in it

// Names that are not ours stay unknown: whatever else lies in the directory is somebody's.
static void note_file(const char *text, void *context) {
    struct sc_directory *directory = context;
    struct found_file file = {0};
    if (!sc_wal_name_read(text, &file.name))
        return;
    if (directory->file_count == directory->file_capacity) {
        size_t capacity = directory->file_capacity == 0 ? 64 : directory->file_capacity * 2;
        struct found_file *files = realloc(directory->files, capacity * sizeof *files);
        if (files == NULL) {
            directory->list_failed = true;
            return;
        }
        directory->files = files;
        directory->file_capacity = capacity;
    }
    snprintf(file.text, sizeof file.text, "%s", text);
    directory->files[directory->file_count++] = file;
}

static int list_files(struct sc_loop *loop, struct sc_directory *directory) {
    int rc = directory->ops->list(loop, directory->fd, note_file, directory);
    return rc < 0 ? rc : directory->list_failed ? -ENOMEM : 0;
}

// A start that was never finished has left nothing but empty logs.
static int check_first_start(struct sc_loop *loop, struct sc_directory *directory, char *reason) {
    for (size_t i = 0; i < directory->file_count; i++) {
        const struct found_file *file = &directory->files[i];
        bool holds_data = file->name.epoch > 1;
        if (!holds_data && file->name.kind == WAL_LOG) {
            int64_t size;
            int fd = sc_directory_open_file(loop, directory, SC_SITE_RECOVER_OPEN, file->text,
                                            O_RDONLY, &size, reason);
            if (fd == -ENOENT)
                continue; // Gone meanwhile.
            if (fd < 0)
                return fd;
            uint32_t magic = 0;
            ssize_t got =
                sc_blocking_read(loop, directory->ops, fd, &magic, sizeof magic, WAL_HEADER_SIZE);
            sc_blocking_close(loop, directory->ops, fd);
            holds_data = got == sizeof magic && magic != 0;
        }
        if (!holds_data)
            continue;
        snprintf(reason, SC_REASON_SIZE,
                 "%s has data (%s) but no " MANIFEST
                 ", without which nobody knows which of it counts",
                 directory->path, file->text);
        return -EBADMSG;
    }
    return 0;
}

// A manifest that is there and not whole stops the start: it was written under another name and flushed before it got
// this one, so no crash leaves half of it.
static int read_manifest(struct sc_loop *loop, struct sc_directory *directory, char *reason) {
    int64_t size;
    int fd = sc_directory_open_file(loop, directory, SC_SITE_MANIFEST_OPEN, MANIFEST, O_RDONLY,
                                    &size, reason);
    if (fd == -ENOENT)
        return check_first_start(loop, directory, reason);
    if (fd < 0)
        return fd;
    struct wal_file_header header = {0};
    ssize_t got = sc_blocking_read(loop, directory->ops, fd, &header, sizeof header, 0);
    sc_blocking_close(loop, directory->ops, fd);
    if (got < 0)
        return sc_directory_explain(directory, (int)got, "cannot read", MANIFEST, reason);
    const char *problem = sc_wal_header_check(&header);
    if (problem == NULL && (header.kind != WAL_MANIFEST || header.epoch == 0 ||
                            header.shard_count == 0 || header.shard_count > SC_SHARD_COUNT_MAX))
        problem = "it is no manifest";
    if (problem != NULL) {
        snprintf(reason, SC_REASON_SIZE, "%s/" MANIFEST " is damaged at byte 0: %s",
                 directory->path, problem);
        return -EBADMSG;
    }
    directory->old_epoch = header.epoch;
    directory->old_shard_count = header.shard_count;
    directory->old_version = header.version;
    memcpy(directory->id, header.directory_id, sizeof directory->id);
    return 0;
}

// Files that no manifest names are of a start, or a snapshot, that was not finished.
static void remove_leftovers(struct sc_loop *loop, struct sc_directory *directory) {
    size_t kept = 0;
    for (size_t i = 0; i < directory->file_count; i++) {
        const struct found_file *file = &directory->files[i];
        bool counts = file->name.epoch == directory->old_epoch && file->name.finished &&
                      file->name.shard < directory->old_shard_count;
        if (counts)
            directory->files[kept++] = *file;
        else
            sc_blocking_unlink(loop, directory->ops, directory->fd, file->text);
    }
    directory->file_count = kept;
}

// ---- Opening and closing

// The kernel gives the lock back when the process ends, however it does. The file stays: to remove it would let two
// processes lock two files of that name.
static int take_lock(struct sc_loop *loop, struct sc_directory *directory, char *reason) {
    int64_t size;
    int fd = sc_directory_open_file(loop, directory, SC_SITE_LOCK_OPEN, LOCK, O_RDWR | O_CREAT,
                                    &size, reason);
    if (fd < 0)
        return fd == -ENOENT ? sc_directory_explain(directory, fd, "cannot open", LOCK, reason)
                             : fd;
    directory->lock_fd = fd;
    int rc = directory->ops->lock(loop, fd);
    if (rc == -EWOULDBLOCK)
        snprintf(reason, SC_REASON_SIZE, "%s is in use by another process", directory->path);
    else if (rc < 0)
        return sc_directory_explain(directory, rc, "cannot lock", LOCK, reason);
    return rc;
}

// The lock comes before anything is read: what another process is writing would look like damage.
static int open_parts(struct sc_loop *loop, struct sc_directory *directory, char *reason,
                      bool make) {
    int rc = make ? make_path(loop, directory) : 0;
    if (rc < 0)
        return sc_directory_explain(directory, rc, "cannot make the directory", "", reason);
    directory->fd = sc_blocking_open(loop, directory->ops, SC_SITE_DIRECTORY_OPEN, AT_FDCWD,
                                     directory->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory->fd < 0)
        return sc_directory_explain(directory, directory->fd, "cannot open the directory", "",
                                    reason);
    rc = take_lock(loop, directory, reason);
    if (rc < 0)
        return rc;
    rc = list_files(loop, directory);
    if (rc < 0)
        return sc_directory_explain(directory, rc, "cannot list", "", reason);
    return read_manifest(loop, directory, reason);
}

static struct sc_directory *make(const struct sc_directory_config *config) {
    struct sc_directory *directory = calloc(1, sizeof *directory);
    if (directory == NULL)
        return NULL;
    directory->config = *config;
    directory->ops = config->ops;
    directory->fd = directory->lock_fd = -1;
    if (directory->config.segment_size == 0)
        directory->config.segment_size = SC_SEGMENT_SIZE;
    if (directory->config.page_size == 0)
        directory->config.page_size = SC_LOG_PAGE_SIZE;
    if (directory->config.piece_size == 0)
        directory->config.piece_size = SC_LOG_PIECE_SIZE;
    if (directory->config.update_size_least == 0)
        directory->config.update_size_least = SC_LOG_UPDATE_SIZE_LEAST;
    if (directory->config.replay_work_max == 0)
        directory->config.replay_work_max = SC_LOG_REPLAY_WORK_MAX;
    assert(SC_LOG_PAGE_SIZE % directory->config.page_size == 0);
    assert(directory->config.piece_size % SC_LOG_PAGE_SIZE == 0);
    assert(directory->config.page_size % WAL_HEADER_SIZE == 0);
    memcpy(directory->id, config->random, sizeof directory->id);
    directory->path = strdup(config->path);
    if (directory->path != NULL)
        return directory;
    free(directory);
    return NULL;
}

int sc_directory_open(struct sc_loop *loop, const struct sc_directory_config *config,
                      struct sc_directory **out, char *reason) {
    assert(config->shard_count > 0 && config->shard_count <= SC_SHARD_COUNT_MAX);
    struct sc_directory *directory = make(config);
    int rc = directory == NULL ? -ENOMEM : open_parts(loop, directory, reason, true);
    if (rc < 0) {
        sc_directory_close(loop, directory);
        return rc;
    }
    remove_leftovers(loop, directory);
    directory->epoch = directory->old_epoch + 1;
    *out = directory;
    return 0;
}

bool sc_directory_is_new(const struct sc_directory *directory) {
    return directory->old_epoch == 0;
}

int sc_directory_fd(const struct sc_directory *directory) {
    return directory->fd;
}

void sc_directory_close(struct sc_loop *loop, struct sc_directory *directory) {
    if (directory == NULL)
        return;
    sc_blocking_close(loop, directory->ops, directory->lock_fd); // Gives the lock back.
    sc_blocking_close(loop, directory->ops, directory->fd);
    free(directory->files);
    free(directory->path);
    free(directory);
}

// Under another name first, flushed, then renamed, then the directory: at each moment one manifest is there, and whole.
static int write_manifest(struct sc_loop *loop, struct sc_directory *directory) {
    struct wal_file_header header = {.kind = WAL_MANIFEST,
                                     .epoch = directory->epoch,
                                     .shard_count = directory->config.shard_count};
    memcpy(header.directory_id, directory->id, sizeof directory->id);
    sc_wal_header_seal(&header);
    sc_blocking_unlink(loop, directory->ops, directory->fd, MANIFEST_PART); // A file of any kind.
    int fd = sc_blocking_open(loop, directory->ops, SC_SITE_MANIFEST_OPEN, directory->fd,
                              MANIFEST_PART, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fd;
    int rc = sc_blocking_write_flush(loop, directory->ops, SC_SITE_MANIFEST_WRITE, fd, &header,
                                     sizeof header, 0);
    sc_blocking_close(loop, directory->ops, fd);
    if (rc == 0)
        rc = sc_blocking_rename(loop, directory->ops, SC_SITE_MANIFEST_RENAME, directory->fd,
                                MANIFEST_PART, MANIFEST);
    if (rc == 0)
        rc = sc_blocking_flush(loop, directory->ops, SC_SITE_MANIFEST_DIRECTORY_FLUSH,
                               directory->fd);
    return rc;
}

// From the rename on the new epoch counts. The old one is removed only then, and what cannot be removed is ignored by the
// next start, as no manifest names it.
int sc_directory_commit(struct sc_loop *loop, struct sc_directory *directory, char *reason) {
    int rc = write_manifest(loop, directory);
    if (rc < 0)
        return sc_directory_explain(directory, rc, "cannot write", MANIFEST, reason);
    for (size_t i = 0; i < directory->file_count; i++)
        sc_blocking_unlink(loop, directory->ops, directory->fd, directory->files[i].text);
    directory->file_count = 0;
    return 0;
}

// ---- Looking into it

static bool owns_all(void *context, uint64_t group_hash) {
    (void)context;
    (void)group_hash;
    return true;
}

// Into a store that nobody looks at: whether an update can be applied is known only by doing it.
static int inspect(struct sc_loop *loop, struct sc_directory *directory,
                   const struct sc_inspection *inspection, char *reason) {
    struct sc_store *store = sc_store_create(1);
    if (store == NULL)
        return sc_directory_explain(directory, -ENOMEM, "cannot inspect", "", reason);
    struct recover_config config = {.loop = loop,
                                    .directory = directory,
                                    .reports = true,
                                    .inspection = inspection,
                                    .store = store,
                                    .owns = owns_all,
                                    .apply = inspection->apply,
                                    .context = inspection->context};
    struct recovered recovered;
    int rc = sc_recover(&config, &recovered, reason);
    sc_store_destroy(store);
    return rc;
}

int sc_directory_inspect(struct sc_loop *loop, const struct sc_directory_config *config,
                         const struct sc_inspection *inspection, char *reason) {
    struct sc_directory *directory = make(config);
    int rc = directory == NULL ? -ENOMEM : open_parts(loop, directory, reason, false);
    if (rc == 0)
        rc = inspect(loop, directory, inspection, reason);
    sc_directory_close(loop, directory);
    return rc;
}
