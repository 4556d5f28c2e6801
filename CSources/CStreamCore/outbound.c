// Bytes on their way out. Frames are built in chunks shared by all connections of the shard. What a turn
// has for a connection is a few slices of chunks; at the end of the turn each connection gets one send that
// never waits. What its socket does not take goes to the connection's own backlog, charged to its budget,
// so that a slow reader holds nothing that others share.
#include <errno.h>
#include <stdlib.h>

#include "core_functions.h"

#define CHUNK_SIZE (64u << 10)
#define FREE_CHUNKS_MAX 64u
// Bytes of a piece of backlog: with what stands before them they are a size of the heap.
#define PIECE_SIZE ((16u << 10) - sizeof(struct backlog_piece))
// From here on a leftover keeps a reference to a chunk of its own instead of a copy.
#define SHARE_FROM_SIZE (16u << 10)

// ---- Chunks

static struct chunk *chunk_make(struct shard *shard, size_t capacity) {
    if (capacity == CHUNK_SIZE && shard->free_chunks != NULL) {
        struct chunk *chunk = shard->free_chunks;
        shard->free_chunks = chunk->next_free;
        shard->free_chunk_count--;
        chunk->references = 1;
        return chunk;
    }
    struct chunk *chunk = sc_allocate(sizeof *chunk + capacity);
    *chunk = (struct chunk){.references = 1, .capacity = (uint32_t)capacity};
    chunk->data = (uint8_t *)(chunk + 1);
    return chunk;
}

void sc_chunk_recycle(struct shard *shard, struct chunk *chunk) {
    chunk->size = 0;
    if (chunk->capacity == CHUNK_SIZE && shard->free_chunk_count < FREE_CHUNKS_MAX) {
        chunk->next_free = shard->free_chunks;
        shard->free_chunks = chunk;
        shard->free_chunk_count++;
        return;
    }
    sc_blob_release(chunk->external);
    free(chunk);
}

static void chunk_release(struct shard *shard, struct chunk *chunk) {
    sc_slice_release(shard, (struct slice){.chunk = chunk});
}

struct slice sc_frames_take(struct shard *shard, uint32_t lane, size_t size) {
    assert(size > 0 && size <= UINT32_MAX / 2);
    if (size > CHUNK_SIZE / 4) {
        struct chunk *own = chunk_make(shard, size == CHUNK_SIZE ? size + 1 : size);
        own->size = (uint32_t)size;
        return (struct slice){own, 0, (uint32_t)size};
    }
    struct chunk *chunk = shard->chunks[lane];
    if (chunk != NULL && chunk->references == 1)
        chunk->size = 0; // Only ours: all that was in it has left. The same, cache-hot bytes again.
    if (chunk == NULL || chunk->capacity - chunk->size < size) {
        if (chunk != NULL)
            chunk_release(shard, chunk);
        chunk = shard->chunks[lane] = chunk_make(shard, CHUNK_SIZE);
    }
    struct slice slice = {chunk, chunk->size, (uint32_t)size};
    chunk->size += (uint32_t)size;
    chunk->references++;
    return slice;
}

struct slice sc_frames_wrap(struct shard *shard, struct sc_blob *blob, size_t offset) {
    struct chunk *chunk = chunk_make(shard, 0);
    chunk->external = sc_blob_retain(blob);
    chunk->data = blob->data;
    chunk->size = blob->size;
    return (struct slice){chunk, (uint32_t)offset, (uint32_t)(blob->size - offset)};
}

void sc_chunks_free(struct shard *shard) {
    for (uint32_t lane = 0; lane < LANE_COUNT; lane++) {
        if (shard->chunks[lane] != NULL)
            chunk_release(shard, shard->chunks[lane]);
        shard->chunks[lane] = NULL;
    }
    while (shard->free_chunks != NULL) {
        struct chunk *chunk = shard->free_chunks;
        shard->free_chunks = chunk->next_free;
        free(chunk);
    }
}

// ---- Backlog

static void over_list_remove(struct shard *shard, struct connection *connection) {
    struct backlog *backlog = connection->backlog;
    if (backlog->over_since_ns == 0)
        return;
    backlog->over_since_ns = 0;
    if (backlog->over_previous != NULL)
        backlog->over_previous->backlog->over_next = backlog->over_next;
    else
        shard->over_first = backlog->over_next;
    if (backlog->over_next != NULL)
        backlog->over_next->backlog->over_previous = backlog->over_previous;
    backlog->over_next = backlog->over_previous = NULL;
}

static void over_list_add(struct shard *shard, struct connection *connection) {
    struct backlog *backlog = connection->backlog;
    if (backlog->over_since_ns != 0)
        return;
    backlog->over_since_ns = sc_loop_monotonic_ns(shard->loop);
    backlog->over_next = shard->over_first;
    if (shard->over_first != NULL)
        shard->over_first->backlog->over_previous = connection;
    shard->over_first = connection;
    if (shard->over_timer.due_ns == 0)
        sc_timer_start(shard->loop, &shard->over_timer, shard->node->config.slow_reader_grace_ms);
}

// Backlogs lie where pages go back to the kernel: many of them come and go with slow readers.
static struct backlog_piece *piece_make(struct shard *shard, size_t capacity) {
    size_t size = sizeof(struct backlog_piece) + capacity;
    struct backlog_piece *piece =
        size <= SC_HEAP_SIZE_MAX ? sc_heap_take(shard->heap, size) : sc_grow(NULL, 0, size);
    if (piece == NULL)
        abort();
    *piece = (struct backlog_piece){.capacity = (uint32_t)capacity};
    piece->data = piece->bytes;
    return piece;
}

static void piece_free(struct shard *shard, struct backlog_piece *piece) {
    size_t size = sizeof *piece + piece->capacity;
    if (piece->shared != NULL)
        chunk_release(shard, piece->shared);
    if (size <= SC_HEAP_SIZE_MAX)
        sc_heap_give(piece);
    else
        sc_array_free(piece, size);
}

static void waits(struct connection *connection, uint64_t size) {
    connection->backlog->bytes += size;
    sc_account_charge(sc_connection_account(connection), SC_PLACE_OUTBOX, size);
}

static void waits_no_more(struct connection *connection, uint64_t size) {
    connection->backlog->bytes -= size;
    sc_account_discharge(connection->account, SC_PLACE_OUTBOX, size);
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
        *connection->backlog = (struct backlog){0};
        if (connection->state == STATE_OPEN)
            sc_connection_lives(connection); // From here on only what it takes counts.
    }
    return connection->backlog;
}

// `sent` bytes of the slice are already out: they must belong to its first frame.
static void backlog_append(struct connection *connection, struct slice slice, uint32_t sent) {
    struct backlog *backlog = backlog_of(connection);
    waits(connection, slice.size - sent);
    if (slice.size >= SHARE_FROM_SIZE && slice.chunk->capacity != CHUNK_SIZE) {
        struct backlog_piece *piece = piece_make(connection->shard, 0);
        piece->shared = slice.chunk;
        piece->data = slice_data(slice);
        piece->sent = sent;
        piece->size = slice.size;
        sc_slice_retain(slice);
        piece_append(backlog, piece);
        // The one that is being sent makes place for another: it does not count in any case.
        if ((backlog->huge == NULL || backlog->huge == backlog->first) &&
            slice.size > sc_connection_budget(connection))
            backlog->huge = piece;
        return;
    }
    struct backlog_piece *last = backlog->last;
    // The first piece may be in the kernel's hands, but only its bytes so far are: room behind stays ours.
    if (last == NULL || last->shared != NULL || last->capacity - last->size < slice.size) {
        last = piece_make(connection->shard, slice.size > PIECE_SIZE ? slice.size : PIECE_SIZE);
        last->sent = sent;
        piece_append(backlog, last);
    }
    memcpy(last->bytes + last->size, slice_data(slice), slice.size);
    last->size += slice.size;
}

uint64_t sc_connection_budget(const struct connection *connection) {
    const struct sc_node_config *config = &connection->shard->node->config;
    return connection->port == PORT_WORKER ? config->workers[connection->listener].budget
                                           : config->stream.budget;
}

void sc_out_close_slow(struct connection *connection) {
    connection->shard->counters.slow_readers_closed++;
    sc_shard_log(connection->shard, SC_LOG_WARN, "slow_reader_closed", connection->id,
                 (struct sc_bytes){0});
    sc_out_drop_waiting(connection);
    // SDKs come back from 1012 only.
    sc_connection_close(connection, connection->port == PORT_WORKER ? 1012 : 1013, "too slow");
}

bool sc_out_progress(struct connection *connection) {
    uint32_t kib = sc_socket_unacknowledged(&connection->socket) >> 10;
    uint16_t before = connection->unsent_kib;
    connection->unsent_kib = kib > UINT16_MAX ? UINT16_MAX : (uint16_t)kib;
    return kib < before;
}

// A large frame that is being sent does not count, whatever its size, and neither does one that is bigger than the
// budget, as the `sync` of a large group is: what waits before and behind them does.
static uint64_t counted(const struct backlog *backlog) {
    const struct backlog_piece *first = backlog->first, *huge = backlog->huge;
    uint64_t bytes = backlog->bytes;
    if (first->shared != NULL)
        bytes -= first->size - first->sent;
    if (huge != NULL && huge != first)
        bytes -= huge->size;
    return bytes;
}

// A stream client over its budget for the whole grace, or over the hard limit, is closed. One piece alone never is
// over it. A worker gets no more than there is room for: it is closed only when it takes nothing (look_at).
static void check_budget(struct connection *connection) {
    if (connection->port == PORT_WORKER)
        return;
    struct shard *shard = connection->shard;
    struct backlog *backlog = connection->backlog;
    uint64_t waiting = counted(backlog);
    if (waiting <= shard->node->config.stream.budget || backlog->first == backlog->last) {
        over_list_remove(shard, connection);
        return;
    }
    over_list_add(shard, connection);
    if (waiting > shard->node->config.client_hard_size_max && connection->state == STATE_OPEN)
        sc_out_close_slow(connection);
}

void sc_out_over_budget_check(struct sc_timer *timer) {
    struct shard *shard = SC_CONTAINER_OF(timer, struct shard, over_timer);
    uint64_t grace_ns = (uint64_t)shard->node->config.slow_reader_grace_ms * 1000000u;
    uint64_t now = sc_loop_monotonic_ns(shard->loop);
    struct connection *connection = shard->over_first;
    while (connection != NULL) {
        struct connection *next = connection->backlog->over_next;
        if (connection->state == STATE_OPEN && now - connection->backlog->over_since_ns >= grace_ns)
            sc_out_close_slow(connection);
        connection = next;
    }
    if (shard->over_first != NULL)
        sc_timer_start(shard->loop, timer, shard->node->config.slow_reader_grace_ms / 4 + 1);
}

// ---- What a turn puts together

// Workers come first: an answer does not wait for the end of a large fan-out.
static void mark_dirty(struct connection *connection) {
    if (connection->dirty)
        return;
    struct shard *shard = connection->shard;
    connection->dirty = true;
    if (connection->port == PORT_WORKER && shard->dirty_first != NULL) {
        connection->dirty_next = shard->dirty_first;
        shard->dirty_first = connection;
        return;
    }
    connection->dirty_next = NULL;
    if (shard->dirty_last != NULL)
        shard->dirty_last->dirty_next = connection;
    else
        shard->dirty_first = connection;
    shard->dirty_last = connection;
}

bool sc_out_empty(const struct connection *connection) {
    return connection->ready.chunk == NULL && !sc_socket_sending(&connection->socket) &&
           !sc_out_is_behind(connection);
}

static uint64_t ready_size(const struct connection *connection) {
    uint64_t size = connection->ready.size;
    for (uint32_t i = 0; connection->more != NULL && i < connection->more->count; i++)
        size += connection->more->slices[i].size;
    return size;
}

uint64_t sc_out_waiting(const struct connection *connection) {
    uint64_t behind = connection->backlog == NULL ? 0 : connection->backlog->bytes;
    return connection->ready.chunk == NULL ? behind : behind + ready_size(connection);
}

static bool extends(struct slice *last, struct slice slice) {
    if (last->chunk != slice.chunk || last->offset + last->size != slice.offset)
        return false;
    last->size += slice.size;
    return true;
}

static void ready_to_backlog(struct connection *connection) {
    struct shard *shard = connection->shard;
    if (connection->ready.chunk == NULL)
        return;
    backlog_append(connection, connection->ready, 0);
    sc_slice_release(shard, connection->ready);
    connection->ready = (struct slice){0};
    for (uint32_t i = 0; connection->more != NULL && i < connection->more->count; i++) {
        backlog_append(connection, connection->more->slices[i], 0);
        sc_slice_release(shard, connection->more->slices[i]);
    }
    free(connection->more);
    connection->more = NULL;
}

void sc_out_append(struct connection *connection, struct slice slice) {
    if (connection->state >= STATE_CLOSING)
        return;
    // Most follow on from what the turn has for the connection already.
    if (connection->dirty && connection->more == NULL && !sc_socket_sending(&connection->socket) &&
        connection->ready.chunk != NULL && extends(&connection->ready, slice))
        return;
    if (sc_out_is_behind(connection) || sc_socket_sending(&connection->socket)) {
        backlog_append(connection, slice, 0);
        check_budget(connection);
        if (!sc_socket_sending(&connection->socket))
            mark_dirty(connection); // Its send has just ended, or cannot have begun.
        return;
    }
    mark_dirty(connection);
    if (connection->ready.chunk == NULL) {
        connection->ready = slice;
        sc_slice_retain(slice);
        return;
    }
    struct ready_more *more = connection->more;
    struct slice *last = more == NULL ? &connection->ready : &more->slices[more->count - 1];
    if (extends(last, slice))
        return;
    if (more == NULL) {
        more = connection->more = sc_allocate(sizeof *more);
        more->count = 0;
    }
    if (more->count == READY_SLICES_MAX - 1) {
        ready_to_backlog(
            connection); // More pieces than one send takes: they leave copied together.
        backlog_append(connection, slice, 0);
        return;
    }
    more->slices[more->count++] = slice;
    sc_slice_retain(slice);
}

static struct backlog_piece *piece_of(struct shard *shard, const uint8_t *frame, size_t size) {
    struct backlog_piece *piece = piece_make(shard, size);
    piece->size = (uint32_t)size;
    memcpy(piece->bytes, frame, size);
    return piece;
}

void sc_out_append_control(struct connection *connection, const uint8_t *frame, size_t size) {
    struct shard *shard = connection->shard;
    struct backlog *backlog = connection->backlog;
    if (connection->state >= STATE_CLOSING)
        return;
    if (!sc_out_is_behind(connection)) {
        struct slice slice = sc_frames_take(shard, LANE_PRIVATE, size);
        memcpy(slice_data(slice), frame, size);
        sc_out_append(connection, slice);
        sc_slice_release(shard, slice);
        return;
    }
    // Behind the first piece, which ends with a whole frame and may be half out.
    struct backlog_piece *piece = piece_of(connection->shard, frame, size);
    piece->next = backlog->first->next;
    backlog->first->next = piece;
    if (backlog->last == backlog->first)
        backlog->last = piece;
    waits(connection, size);
}

// ---- Pongs

// At most one of each kind waits: whoever pings and does not read costs no more than that.

static bool takes_pongs(const struct connection *connection) {
    return !sc_out_is_behind(connection) &&
           (connection->ready.chunk == NULL || ready_size(connection) <= SC_PONGS_SIZE_MAX);
}

void sc_out_pong(struct connection *connection, struct sc_bytes payload) {
    uint8_t frame[2 + SC_WS_CONTROL_SIZE_MAX];
    size_t size = sc_ws_header_write(frame, SC_WS_PONG, true, payload.size, NULL);
    if (payload.size > 0)
        memcpy(frame + size, payload.data, payload.size);
    size += payload.size;
    if (takes_pongs(connection)) {
        sc_out_append_control(connection, frame, size);
        return;
    }
    struct inbound *inbound = sc_connection_inbound(connection);
    inbound->pong_size = (uint8_t)size;
    memcpy(inbound->pong, frame, size);
}

#define MESSAGE_PONG SC_LITERAL("\x81\x0f{\"type\":\"pong\"}")

void sc_out_message_pong(struct connection *connection) {
    if (takes_pongs(connection))
        sc_connection_respond(connection, MESSAGE_PONG.data, MESSAGE_PONG.size);
    else
        connection->worker->pong_waits = true;
}

static void put_in_front(struct connection *connection, const uint8_t *frame, size_t size) {
    struct backlog *backlog = connection->backlog;
    struct backlog_piece *piece = piece_of(connection->shard, frame, size);
    piece->next = backlog->first;
    backlog->first = piece;
    waits(connection, size);
}

// The next to leave begins with a whole frame: pongs that wait go before it, one that is a message not into the middle
// of another.
static void pongs_to_backlog(struct connection *connection) {
    const struct backlog_piece *first = connection->backlog->first;
    struct inbound *inbound = connection->inbound;
    if (first->sent > 0 || connection->kind == KIND_UNKNOWN)
        return;
    bool between_messages = (first->data[0] & 0x0f) != 0;
    if (connection->worker != NULL && connection->worker->pong_waits && between_messages) {
        connection->worker->pong_waits = false;
        put_in_front(connection, MESSAGE_PONG.data, MESSAGE_PONG.size);
    }
    if (inbound != NULL && inbound->pong_size > 0) {
        put_in_front(connection, inbound->pong, inbound->pong_size);
        inbound->pong_size = 0;
    }
}

// Nothing waits any more.
static void pongs_to_ready(struct connection *connection) {
    struct inbound *inbound = connection->inbound;
    if (connection->worker != NULL && connection->worker->pong_waits) {
        connection->worker->pong_waits = false;
        sc_connection_respond(connection, MESSAGE_PONG.data, MESSAGE_PONG.size);
    }
    if (inbound != NULL && inbound->pong_size > 0) {
        uint8_t size = inbound->pong_size;
        inbound->pong_size = 0;
        sc_connection_respond(connection, inbound->pong, size);
    }
}

// ---- Sending

// Of a worker: what it is sent, and calls that it has begun at other shards, wait for this.
static void room(struct connection *connection) {
    if (connection->worker == NULL)
        return;
    if (!sc_wait_list_is_empty(&connection->worker->deliveries))
        sc_deliveries_resume(connection);
    if (atomic_load_explicit(&connection->account->waiting, memory_order_relaxed) != 0)
        sc_account_fell(connection->shard, connection->account);
}

static void send_backlog(struct connection *connection) {
    pongs_to_backlog(connection);
    struct backlog_piece *piece = connection->backlog->first;
    size_t size = piece->size - piece->sent;
    if (size > SC_LOOP_SEND_SIZE_MAX)
        size = SC_LOOP_SEND_SIZE_MAX;
    struct sc_bytes bytes = {piece->data + piece->sent, size};
    sc_socket_send(&connection->socket, &bytes, 1, SC_SEND_WAIT);
}

// Returns whether a send that does not wait was started.
static bool flush(struct connection *connection) {
    if (connection->state == STATE_GONE || sc_socket_sending(&connection->socket))
        return false;
    if (connection->ready.chunk != NULL && ready_size(connection) > SC_LOOP_SEND_SIZE_MAX)
        ready_to_backlog(connection);
    if (connection->ready.chunk == NULL) {
        if (connection->backlog != NULL && connection->backlog->first != NULL)
            send_backlog(connection);
        return false;
    }
    struct sc_bytes pieces[READY_SLICES_MAX];
    uint32_t count = 1;
    pieces[0] = (struct sc_bytes){slice_data(connection->ready), connection->ready.size};
    for (uint32_t i = 0; connection->more != NULL && i < connection->more->count; i++) {
        struct slice slice = connection->more->slices[i];
        pieces[count++] = (struct sc_bytes){slice_data(slice), slice.size};
    }
    sc_socket_send(&connection->socket, pieces, count, SC_SEND_TRY);
    return true;
}

static struct connection *dirty_pop(struct shard *shard) {
    struct connection *connection = shard->dirty_first;
    shard->dirty_first = connection->dirty_next;
    if (shard->dirty_first == NULL)
        shard->dirty_last = NULL;
    connection->dirty = false;
    return connection;
}

// When those who have waited longest have much to get, no turn ends before all have got theirs: who writes must not
// get ahead of what is sent, or it would be copied to the backlogs of readers that are not slow.
static uint32_t sends_max(const struct connection *waited) {
    bool much = ready_size(waited) > SC_LOOP_SEND_SIZE_MAX / 4 ||
                (waited->more != NULL && waited->more->count >= READY_SLICES_MAX / 2);
    return much ? UINT32_MAX : SC_CLIENT_SENDS_PER_TURN;
}

void sc_out_flush(struct shard *shard) {
    uint32_t started = 0, to_clients = 0, most = SC_CLIENT_SENDS_PER_TURN;
    while (shard->dirty_first != NULL && to_clients < most) {
        struct connection *connection = dirty_pop(shard);
        if (to_clients == 0 && connection->port == PORT_STREAM)
            most = sends_max(connection);
        if (connection->closed) {
            sc_heap_give(connection);
        } else if (flush(connection)) {
            started++;
            to_clients += connection->port == PORT_STREAM;
        }
        bool last = shard->dirty_first == NULL || to_clients == most;
        if (started == SC_LOOP_SENDS_PER_SLICE || (last && started > 0)) {
            int rc =
                sc_loop_flush(shard->loop); // Ends in out_sent, which may make some dirty again.
            assert(rc == 0);
            started = 0;
        }
    }
    if (shard->dirty_first != NULL)
        sc_shard_turn_again(shard);
}

void sc_out_free(struct connection *connection) {
    if (connection->dirty)
        connection->closed = true;
    else
        sc_heap_give(connection);
}

void sc_out_deinit(struct shard *shard) {
    while (shard->dirty_first != NULL) {
        struct connection *connection = dirty_pop(shard);
        assert(connection->closed);
        sc_heap_give(connection);
    }
}

// The bytes of the first frame of a slice that a partial send has begun lie behind this offset.
static uint32_t frame_start_before(const uint8_t *data, uint32_t size, uint32_t sent) {
    uint32_t at = 0;
    for (;;) {
        uint64_t payload = data[at + 1] & 0x7f;
        uint32_t header = payload < 126 ? 2 : payload == 126 ? 4 : 10;
        if (payload >= 126) {
            uint64_t length = 0;
            for (uint32_t i = 2; i < header; i++)
                length = length << 8 | data[at + i];
            payload = length;
        }
        uint64_t next = (uint64_t)at + header + payload;
        if (next > sent || next >= size)
            return at;
        at = (uint32_t)next;
    }
}

static void leftover(struct connection *connection, struct slice slice, uint64_t *sent) {
    struct shard *shard = connection->shard;
    if (*sent >= slice.size) {
        *sent -= slice.size;
    } else {
        uint32_t out = (uint32_t)*sent;
        // Before the upgrade there are no frames: the response is one piece.
        uint32_t start = connection->kind == KIND_UNKNOWN || out == 0
                             ? 0
                             : frame_start_before(slice_data(slice), slice.size, out);
        struct slice rest = {slice.chunk, slice.offset + start, slice.size - start};
        backlog_append(connection, rest, out - start);
        *sent = 0;
    }
    sc_slice_release(shard, slice);
}

static void sent_ready(struct connection *connection, uint64_t sent) {
    struct slice first = connection->ready;
    struct ready_more *more = connection->more;
    connection->ready = (struct slice){0};
    connection->more = NULL;
    leftover(connection, first, &sent);
    for (uint32_t i = 0; more != NULL && i < more->count; i++)
        leftover(connection, more->slices[i], &sent);
    free(more);
}

static void sent_backlog(struct connection *connection, uint64_t sent) {
    struct backlog *backlog = connection->backlog;
    struct backlog_piece *piece = backlog->first;
    waits_no_more(connection, sent);
    if (sent > 0 && connection->state == STATE_OPEN)
        sc_connection_lives(connection);
    piece->sent += (uint32_t)sent;
    if (piece->sent < piece->size)
        return;
    backlog->first = piece->next;
    if (backlog->first == NULL)
        backlog->last = NULL;
    if (backlog->huge == piece)
        backlog->huge = NULL;
    piece_free(connection->shard, piece);
}

void sc_out_sent(struct connection *connection, ssize_t result) {
    if (connection->state == STATE_GONE)
        return;
    if (result < 0 && result != -EAGAIN && result != -ECANCELED && result != -EINTR) {
        sc_connection_abort(connection);
        return;
    }
    uint64_t sent = result > 0 ? (uint64_t)result : 0;
    if (connection->ready.chunk != NULL)
        sent_ready(connection, sent);
    else
        sent_backlog(connection, sent);
    if (sc_out_is_behind(connection)) {
        check_budget(connection);
        room(connection);
        if (connection->state != STATE_GONE && !sc_socket_sending(&connection->socket))
            send_backlog(connection);
        return;
    }
    if (connection->backlog != NULL) {
        over_list_remove(connection->shard, connection);
        free(connection->backlog);
        connection->backlog = NULL;
    }
    if (connection->inbound != NULL ||
        (connection->worker != NULL && connection->worker->pong_waits))
        pongs_to_ready(connection);
    if (connection->worker != NULL)
        room(connection);
    if (connection->state == STATE_CLOSING)
        sc_connection_drained(connection);
}

void sc_out_drop_waiting(struct connection *connection) {
    struct shard *shard = connection->shard;
    struct backlog *backlog = connection->backlog;
    if (backlog == NULL || backlog->first == NULL)
        return;
    struct backlog_piece *piece = backlog->first->next;
    backlog->first->next = NULL;
    backlog->last = backlog->first;
    if (backlog->huge != backlog->first)
        backlog->huge = NULL;
    while (piece != NULL) {
        struct backlog_piece *next = piece->next;
        waits_no_more(connection, piece->size - piece->sent);
        piece_free(shard, piece);
        piece = next;
    }
    over_list_remove(shard, connection);
}

void sc_out_discard(struct connection *connection) {
    struct shard *shard = connection->shard;
    sc_slice_release(shard, connection->ready);
    connection->ready = (struct slice){0};
    for (uint32_t i = 0; connection->more != NULL && i < connection->more->count; i++)
        sc_slice_release(shard, connection->more->slices[i]);
    free(connection->more);
    connection->more = NULL;
    struct backlog *backlog = connection->backlog;
    if (backlog == NULL)
        return;
    over_list_remove(shard, connection);
    waits_no_more(connection, backlog->bytes);
    while (backlog->first != NULL) {
        struct backlog_piece *piece = backlog->first;
        backlog->first = piece->next;
        piece_free(shard, piece);
    }
    free(backlog);
    connection->backlog = NULL;
}
