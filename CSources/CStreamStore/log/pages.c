// Batches in a segment that is written past the kernel's cache: by whole pages. A batch begins where the one before ends,
// in the middle of a page, so what is in that page already is kept and written once more, as it is.
#include <stdlib.h>

#include "log.h"

static size_t page_size_of(const struct sc_log *log) {
    return log->directory->config.page_size;
}

bool sc_pages_init(struct sc_log *log) {
    log->pages.bytes = aligned_alloc(SC_LOG_PAGE_SIZE, log->directory->config.piece_size);
    return log->pages.bytes != NULL;
}

// The first page of a file has its header, which preparing it has written. It is written once more with the first batch.
void sc_pages_begin(struct sc_log *log, const struct wal_file_header *header) {
    struct pages *pages = &log->pages;
    pages->kept = log->current.offset % page_size_of(log);
    if (pages->kept == 0)
        return;
    assert(log->current.offset == pages->kept && pages->kept >= sizeof *header);
    memset(pages->bytes, 0, pages->kept);
    memcpy(pages->bytes, header, sizeof *header);
}

// Copies: the memory must be aligned to pages, and the batch begins anywhere in one. A piece is durable before the next one
// is copied over it.
void sc_pages_write(struct sc_log *log) {
    struct pages *pages = &log->pages;
    size_t left = log->in_flight_size - log->in_flight_written;
    size_t room = log->directory->config.piece_size - pages->kept;
    pages->piece_size = left < room ? left : room;
    memcpy(pages->bytes + pages->kept, log->in_flight.data + log->in_flight_written,
           pages->piece_size);
    size_t end = pages->kept + pages->piece_size, page_size = page_size_of(log);
    size_t size = (end + page_size - 1) / page_size * page_size;
    memset(pages->bytes + end, 0, size - end);
    uint64_t offset = log->current.offset + log->in_flight_written - pages->kept;
    assert(offset % page_size == 0);
    assert(offset + size <= log->current.size);
    log->ops->write_pages(log->loop, &log->op, log->current.fd, pages->bytes, (uint32_t)size,
                          offset);
}

size_t sc_pages_written(struct sc_log *log, size_t size) {
    struct pages *pages = &log->pages;
    size_t end = pages->kept + pages->piece_size;
    if (size < end)
        end = size;
    if (end <= pages->kept)
        return 0; // Of what was there already: it got nowhere, and counts as failed.
    size_t written = end - pages->kept;
    pages->kept = end % page_size_of(log);
    memmove(pages->bytes, pages->bytes + end - pages->kept, pages->kept);
    return written;
}
