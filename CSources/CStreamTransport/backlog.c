// What a socket did not take at once. It is the connection's own, and charged to its account: small frames are copied
// together, so that no shared chunk is held for a slow reader; of a large frame a reference is kept. The first piece is
// in the kernel's hands while a send waits.
#include <stdlib.h>

#include "transport_private.h"

// Bytes of a piece: with what stands before them they are a size of the heap.
#define PIECE_SIZE ((16u << 10) - sizeof(struct backlog_piece))
// From here on a leftover keeps a reference to a chunk of its own instead of a copy.
#define SHARE_FROM_SIZE (16u << 10)

// ---- Pieces

// They lie where pages go back to the kernel: many of them come and go with slow readers.
static struct backlog_piece *piece_make(struct transport *transport, size_t capacity) {
    size_t size = sizeof(struct backlog_piece) + capacity;
    struct backlog_piece *piece =
        size <= SC_HEAP_SIZE_MAX ? sc_heap_take(transport->heap, size) : sc_grow(NULL, 0, size);
    if (piece == NULL)
        abort(); // Bookkeeping without memory: see sc_allocate.
    *piece = (struct backlog_piece){.capacity = (uint32_t)capacity};
    piece->data = piece->bytes;
    return piece;
}

static void piece_free(struct transport *transport, struct backlog_piece *piece) {
    size_t size = sizeof *piece + piece->capacity;
    if (piece->shared != NULL)
        sc_chunks_release(&transport->chunks, (struct slice){.chunk = piece->shared});
    if (size <= SC_HEAP_SIZE_MAX)
        sc_heap_give(piece);
    else
        sc_array_free(piece, size);
}

static struct backlog_piece *piece_of(struct transport *transport, const uint8_t *frame,
                                      size_t size) {
    struct backlog_piece *piece = piece_make(transport, size);
    piece->size = (uint32_t)size;
    memcpy(piece->bytes, frame, size);
    return piece;
}

static void waits(struct connection *connection, uint64_t size) {
    connection->backlog->bytes += size;
    sc_account_charge(sc_connection_account(connection), SC_PLACE_OUTBOX, size);
}

static void waits_no_more(struct connection *connection, uint64_t size) {
    connection->backlog->bytes -= size;
    sc_account_discharge(connection->account, SC_PLACE_OUTBOX, size);
}

// The last piece that has begun to leave: behind what is sealed already there may be the rest of what it was sealed of.
static struct backlog_piece *last_begun(const struct backlog *backlog) {
    struct backlog_piece *piece = backlog->first;
    while (piece->sealed && piece->next != NULL && (piece->next->sealed || piece->next->sent > 0))
        piece = piece->next;
    return piece;
}

static void piece_append(struct backlog *backlog, struct backlog_piece *piece) {
    if (backlog->last != NULL)
        backlog->last->next = piece;
    else
        backlog->first = piece;
    backlog->last = piece;
}

static struct backlog *backlog_of(struct connection *connection) {
    if (connection->backlog == NULL) {
        connection->backlog = sc_allocate(sizeof *connection->backlog);
        *connection->backlog = (struct backlog){.connection = connection};
        if (sc_connection_serves(connection))
            sc_connection_lives(connection); // From here on only what it takes counts.
    }
    return connection->backlog;
}

void sc_backlog_append(struct connection *connection, struct slice slice, uint32_t sent) {
    struct backlog *backlog = backlog_of(connection);
    waits(connection, slice.size - sent);
    if (slice.size >= SHARE_FROM_SIZE && slice.chunk->capacity != CHUNK_SIZE) {
        struct backlog_piece *piece = piece_make(connection->transport, 0);
        piece->shared = slice.chunk;
        piece->data = slice_data(slice);
        piece->sent = sent;
        piece->size = slice.size;
        sc_slice_retain(slice);
        piece_append(backlog, piece);
        // The one that is being sent makes place for another: it does not count in any case.
        if ((backlog->huge == NULL || backlog->huge == last_begun(backlog)) &&
            slice.size > connection->port->budget)
            backlog->huge = piece;
        return;
    }
    struct backlog_piece *last = backlog->last;
    // The first piece may be in the kernel's hands, but only its bytes so far are: room behind stays ours.
    if (last == NULL || last->sealed || last->shared != NULL ||
        last->capacity - last->size < slice.size) {
        last = piece_make(connection->transport, slice.size > PIECE_SIZE ? slice.size : PIECE_SIZE);
        last->sent = sent;
        piece_append(backlog, last);
    }
    memcpy(last->bytes + last->size, slice_data(slice), slice.size);
    last->size += slice.size;
}

// NULL: in front of all.
static void insert_behind(struct backlog *backlog, struct backlog_piece *_Nullable before,
                          struct backlog_piece *piece) {
    struct backlog_piece **link = before == NULL ? &backlog->first : &before->next;
    piece->next = *link;
    *link = piece;
    if (backlog->last == before)
        backlog->last = piece;
}

// So many bytes of the first piece wait no more.
static void take_first(struct connection *connection, uint64_t size) {
    struct backlog *backlog = connection->backlog;
    struct backlog_piece *piece = backlog->first;
    waits_no_more(connection, size);
    piece->sent += (uint32_t)size;
    if (piece->sent < piece->size)
        return;
    backlog->first = piece->next;
    if (backlog->first == NULL)
        backlog->last = NULL;
    if (backlog->huge == piece)
        backlog->huge = NULL;
    piece_free(connection->transport, piece);
}

void sc_backlog_put_first(struct connection *connection, const uint8_t *frame, size_t size) {
    struct backlog *backlog = connection->backlog;
    insert_behind(backlog, NULL, piece_of(connection->transport, frame, size));
    waits(connection, size);
}

void sc_backlog_put_second(struct connection *connection, const uint8_t *frame, size_t size) {
    struct backlog *backlog = connection->backlog;
    struct backlog_piece *before = last_begun(backlog);
    insert_behind(backlog, before, piece_of(connection->transport, frame, size));
    waits(connection, size);
}

// ---- Ciphertext

// Plaintext that is put together for one send: from here on it is sealed without a copy of it.
#define SEALED_PIECES_MAX 16u

void sc_backlog_put_sealed(struct connection *connection, struct sc_bytes bytes, bool first) {
    struct backlog *backlog = backlog_of(connection);
    struct backlog_piece *piece = piece_of(connection->transport, bytes.data, bytes.size);
    struct backlog_piece *before = NULL, *next = first ? NULL : backlog->first;
    for (; next != NULL && next->sealed; next = next->next)
        before = next;
    piece->sealed = true;
    insert_behind(backlog, before, piece);
    waits(connection, bytes.size);
}

// What comes first, as much as one send takes. Returns how many pieces that are.
static uint32_t gather(const struct backlog *backlog, struct sc_bytes *pieces, size_t *size) {
    uint32_t count = 0;
    *size = 0;
    for (struct backlog_piece *piece = backlog->first;
         piece != NULL && count < SEALED_PIECES_MAX && *size < SC_TLS_SEND_SIZE_MAX;
         piece = piece->next) {
        size_t left = piece->size - piece->sent, room = SC_TLS_SEND_SIZE_MAX - *size;
        pieces[count] = (struct sc_bytes){piece->data + piece->sent, left < room ? left : room};
        *size += pieces[count++].size;
    }
    return count;
}

// Ciphertext that waits for one peer holds no chunk that others share.
static struct backlog_piece *piece_for_sealed(struct transport *transport, size_t capacity) {
    if (capacity <= PIECE_SIZE)
        return piece_make(transport, capacity);
    struct slice slice = sc_chunks_take(&transport->chunks, LANE_SEALED, capacity);
    struct backlog_piece *piece = piece_make(transport, 0);
    piece->shared = slice.chunk;
    piece->data = slice_data(slice);
    return piece;
}

bool sc_backlog_seal(struct connection *connection, struct sc_tls *tls) {
    struct backlog *backlog = connection->backlog;
    if (backlog->first->sealed)
        return true;
    struct sc_bytes pieces[SEALED_PIECES_MAX];
    size_t size;
    uint32_t count = gather(backlog, pieces, &size);
    size_t capacity = sc_tls_sealed_size_max(size);
    struct backlog_piece *sealed = piece_for_sealed(connection->transport, capacity);
    uint8_t *out = sealed->shared == NULL ? sealed->bytes : sealed->shared->data;
    ssize_t written = sc_tls_seal(tls, pieces, count, out, capacity);
    if (written < 0) {
        piece_free(connection->transport, sealed);
        return false;
    }
    sealed->sealed = true;
    sealed->size = (uint32_t)written;
    for (uint32_t i = 0; i < count; i++)
        take_first(connection, pieces[i].size);
    insert_behind(backlog, NULL, sealed);
    waits(connection, (uint64_t)written);
    return true;
}

void sc_backlog_sent(struct connection *connection, uint64_t sent) {
    if (sent > 0 && sc_connection_serves(connection))
        sc_connection_lives(connection);
    take_first(connection, sent);
}

void sc_backlog_drop_waiting(struct connection *connection) {
    struct backlog *backlog = connection->backlog;
    struct backlog_piece *last = last_begun(backlog), *piece = last->next;
    last->next = NULL;
    backlog->last = last;
    if (backlog->huge != last)
        backlog->huge = NULL;
    while (piece != NULL) {
        struct backlog_piece *next = piece->next;
        waits_no_more(connection, piece->size - piece->sent);
        piece_free(connection->transport, piece);
        piece = next;
    }
    sc_wait_list_remove(&backlog->wait);
}

void sc_backlog_free(struct connection *connection) {
    struct backlog *backlog = connection->backlog;
    sc_wait_list_remove(&backlog->wait);
    if (backlog->bytes > 0)
        waits_no_more(connection, backlog->bytes);
    while (backlog->first != NULL) {
        struct backlog_piece *piece = backlog->first;
        backlog->first = piece->next;
        piece_free(connection->transport, piece);
    }
    free(backlog);
    connection->backlog = NULL;
}

// ---- Budgets

// A large frame that is being sent does not count, whatever its size, and neither does one that is bigger than the
// budget, as the `sync` of a large group is: what waits before and behind them does.
static uint64_t counted(const struct backlog *backlog) {
    const struct backlog_piece *begun = last_begun(backlog), *huge = backlog->huge;
    uint64_t bytes = backlog->bytes;
    if (begun->shared != NULL)
        bytes -= begun->size - begun->sent;
    if (huge != NULL && huge != begun)
        bytes -= huge->size;
    return bytes;
}

// A peer over its budget for the whole grace, or over the hard limit, is closed. One piece alone never is over it. A peer
// without a hard limit gets no more than there is room for: it is closed only when it takes nothing.
void sc_backlog_check(struct connection *connection) {
    struct transport *transport = connection->transport;
    const struct port *port = connection->port;
    struct backlog *backlog = connection->backlog;
    if (port->hard_size_max == 0)
        return;
    uint64_t waiting = counted(backlog);
    if (waiting <= port->budget || last_begun(backlog) == backlog->last) {
        sc_wait_list_remove(&backlog->wait);
        return;
    }
    if (!sc_wait_node_waits(&backlog->wait)) {
        backlog->over_since_ns = sc_loop_monotonic_ns(transport->loop);
        sc_wait_list_add(&transport->over_budget, &backlog->wait);
        if (transport->over_timer.due_ns == 0)
            sc_timer_start(transport->loop, &transport->over_timer,
                           transport->limits.slow_reader_grace_ms);
    }
    if (waiting > port->hard_size_max && sc_connection_serves(connection))
        sc_out_close_slow(connection);
}

// The grace is the same for all: the one that came first is the first that is due.
void sc_backlog_over_due(struct sc_timer *timer) {
    struct transport *transport = SC_CONTAINER_OF(timer, struct transport, over_timer);
    struct sc_wait_list *over = &transport->over_budget;
    uint64_t grace_ns = (uint64_t)transport->limits.slow_reader_grace_ms * 1000000u;
    uint64_t now_ns = sc_loop_monotonic_ns(transport->loop);
    while (!sc_wait_list_is_empty(over)) {
        struct backlog *backlog = SC_CONTAINER_OF(over->first, struct backlog, wait);
        if (now_ns - backlog->over_since_ns < grace_ns) {
            sc_timer_start_at(transport->loop, timer, backlog->over_since_ns + grace_ns);
            return;
        }
        sc_wait_list_remove(&backlog->wait);
        if (sc_connection_serves(backlog->connection))
            sc_out_close_slow(backlog->connection);
    }
}
