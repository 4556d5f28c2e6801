// Goes through a file batch by batch. Bytes that do not check out are nothing; the caller decides what that means.
#include <errno.h>
#include <stdlib.h>

#include "log.h"

#define WINDOW_SIZE (1u << 20)

void sc_reader_init(struct reader *reader, struct sc_loop *loop, const struct sc_file_ops *ops,
                    int fd, uint64_t file_size, uint32_t seed, uint64_t epoch) {
    *reader = (struct reader){.loop = loop,
                              .ops = ops,
                              .fd = fd,
                              .file_size = file_size,
                              .seed = seed,
                              .epoch = epoch,
                              .offset = WAL_HEADER_SIZE};
}

void sc_reader_deinit(struct reader *reader) {
    sc_buffer_deinit(&reader->window);
}

// The bytes at `offset`; the file has them.
// Reads a megabyte at a time, or a whole batch if that is larger: a batch is contiguous, as its checksum and records are
// read where it lies.
static ssize_t look(struct reader *reader, uint64_t offset, size_t size, const uint8_t **out) {
    struct sc_buffer *window = &reader->window;
    if (offset < reader->window_offset || offset + size > reader->window_offset + window->size) {
        uint64_t wanted = size > WINDOW_SIZE ? size : WINDOW_SIZE;
        if (wanted > reader->file_size - offset)
            wanted = reader->file_size - offset;
        window->size = 0;
        uint8_t *room = sc_buffer_reserve(window, wanted);
        if (room == NULL)
            return -ENOMEM;
        ssize_t got = sc_blocking_read(reader->loop, reader->ops, reader->fd, room, wanted, offset);
        if (got < 0)
            return got;
        window->size = (size_t)got;
        reader->window_offset = offset;
        if ((size_t)got < size)
            return -EIO; // The file has become shorter while it was read.
    }
    *out = window->data + (offset - reader->window_offset);
    return 0;
}

// The size is only believed as far as the file goes, and the batch only when its checksum is right.
int sc_reader_batch(struct reader *reader, struct wal_batch_header *header,
                    struct sc_bytes *batch) {
    if (reader->offset > reader->file_size || reader->file_size - reader->offset < sizeof *header)
        return 0;
    const uint8_t *bytes;
    ssize_t rc = look(reader, reader->offset, sizeof *header, &bytes);
    if (rc < 0)
        return (int)rc;
    memcpy(header, bytes, sizeof *header);
    if (header->magic != WAL_BATCH_MAGIC || header->size < sizeof *header ||
        header->epoch != reader->epoch || header->size > reader->file_size - reader->offset)
        return 0;
    rc = look(reader, reader->offset, header->size, &bytes);
    if (rc < 0)
        return (int)rc;
    if (!sc_wal_batch_is_valid(bytes, reader->seed))
        return 0;
    *batch = (struct sc_bytes){bytes, header->size};
    return 1;
}

void sc_reader_skip(struct reader *reader, const struct wal_batch_header *header) {
    reader->offset += wal_padded(header->size);
}

// Goes on behind a hole: a file that was made to look large costs no more than what it has.
static int skip_hole(struct reader *reader) {
    uint64_t end = reader->window_offset + reader->window.size;
    if (reader->offset >= reader->window_offset &&
        reader->offset + sizeof(struct wal_batch_header) <= end)
        return 0;
    int64_t at = reader->ops->data(reader->loop, reader->fd, reader->offset);
    if (at < 0 && at != -ENXIO)
        return (int)at;
    uint64_t next = at < 0 ? reader->file_size : (uint64_t)at / WAL_ALIGNMENT * WAL_ALIGNMENT;
    if (next > reader->offset)
        reader->offset = next;
    return 0;
}

// Batches begin at multiples of eight, so every such place is looked at. It is the slow way behind damage, and the way
// through the zeros at the end of each log.
int sc_reader_search(struct reader *reader, uint64_t number, struct wal_batch_header *header) {
    for (; reader->offset + sizeof *header <= reader->file_size; reader->offset += WAL_ALIGNMENT) {
        const uint8_t *bytes;
        int skipped = skip_hole(reader);
        if (skipped < 0)
            return skipped;
        if (reader->offset + sizeof *header > reader->file_size)
            return 0;
        ssize_t rc = look(reader, reader->offset, sizeof *header, &bytes);
        if (rc < 0)
            return (int)rc;
        uint32_t magic;
        memcpy(&magic, bytes, sizeof magic);
        if (magic != WAL_BATCH_MAGIC)
            continue;
        struct sc_bytes batch;
        int found = sc_reader_batch(reader, header, &batch);
        if (found < 0 || (found == 1 && header->number >= number))
            return found;
    }
    return 0;
}
