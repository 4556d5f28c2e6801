// From the request head to an open connection, for every role: what a head is refused with, and the answer that lets it
// in. Where it wants to go is its role's business.
#include <errno.h>

#include "CStreamTLS.h"
#include "sessions.h"

// `page`: of a WebSocket that fails a page is told nothing, so it asks by fetch whether anybody is there.
// A refused connection is closed behind its answer: no second request is read.
static void refuse_with(struct connection *connection, const uint8_t *response, size_t size) {
    connection_shard(connection)->counters.handshakes_refused++;
    sc_connection_refuse(connection, response, size);
}

void sc_upgrade_refuse(struct connection *connection, int status, bool page) {
    uint8_t out[SC_WS_RESPONSE_SIZE_MAX];
    refuse_with(connection, out, sc_http_error_write(out, status, page));
}

// A path that cannot be decoded names nothing on either port: it is malformed rather than unknown.
static int status_of_unknown(struct sc_bytes path) {
    uint8_t decoded[SC_HTTP_HEAD_SIZE_MAX];
    assert(path.size <= sizeof decoded);
    return sc_http_path_decode(path, decoded) < 0 ? 400 : 404;
}

// ---- Pages

bool sc_upgrade_is_page(const struct connection *connection,
                        const struct sc_http_request *request) {
    const struct sc_node_address *address = entrance_of(connection->port)->address;
    struct sc_bytes origin;
    return sc_http_header_get(request, "Origin").data != NULL &&
           !sc_origin_refused(address->origin_rule, address->origins, request, &origin);
}

// Whether the page that opens the connection may; refuses it if not.
static bool refuse_origin(struct connection *connection, const struct sc_http_request *request) {
    struct shard *shard = connection_shard(connection);
    const struct sc_node_address *address = entrance_of(connection->port)->address;
    struct sc_bytes origin;
    if (!sc_origin_refused(address->origin_rule, address->origins, request, &origin))
        return false;
    shard->counters.origins_refused++;
    uint8_t text[SC_ORIGIN_TEXT_SIZE_MAX], out[SC_WS_RESPONSE_SIZE_MAX];
    bool is_stream = entrance_of(connection->port)->door == DOOR_STREAM;
    struct sc_bytes why = {text, sc_origin_describe(is_stream, origin, text)};
    sc_shard_log(shard, SC_LOG_WARN, "origin_refused", connection->id, why);
    refuse_with(connection, out, sc_http_refusal_write(out, 403, why));
    return true;
}

// ---- The way in

// Of the node: peers that come back all at once come to all shards. One that is refused is not counted, or a flood would let in
// nobody at all.
bool sc_upgrade_is_in_time(struct shard *shard) {
    struct node *node = shard->node;
    uint32_t per_second = node->config.handshakes_per_second_max;
    if (per_second == 0)
        return true;
    uint64_t now_ns = sc_loop_monotonic_ns(shard->loop), next;
    uint64_t paced = atomic_load_explicit(&node->handshakes_paced_ns, memory_order_relaxed);
    do {
        next = sc_rate_next(paced, now_ns, per_second);
        if (sc_rate_is_over(next, now_ns)) {
            shard->counters.handshakes_over_rate++;
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&node->handshakes_paced_ns, &paced, next,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

// Counted for the node, since one auth function answers for all shards.
bool sc_upgrade_may_wait(struct shard *shard) {
    struct node *node = shard->node;
    uint32_t before = atomic_fetch_add_explicit(&node->upgrade_count, 1, memory_order_relaxed);
    if (before < node->config.held_upgrade_count_max)
        return true;
    shard->counters.upgrades_refused++;
    sc_upgrade_waits_no_more(shard);
    return false;
}

void sc_upgrade_waits_no_more(struct shard *shard) {
    atomic_fetch_sub_explicit(&shard->node->upgrade_count, 1, memory_order_relaxed);
}

void sc_upgrade_accept(struct connection *connection, const char accept[28], bool authorization) {
    uint8_t out[SC_WS_RESPONSE_SIZE_MAX];
    size_t size = sc_ws_response_write(out, accept, authorization ? "Authorization" : NULL);
    sc_out_append_bytes(connection, out, size);
    sc_connection_open(connection);
}

// In the order of the original, whose answers are recorded: what is wrong first is answered.
bool sc_upgrade_check(struct connection *connection, struct upgrade *upgrade, int status) {
    const struct sc_http_request *request = &upgrade->request;
    struct sc_bytes key = {0};
    if (status == 404)
        status = status_of_unknown(request->path);
    if (status == 0)
        status = sc_ws_handshake_check(request, &key);
    if (status == 101 && refuse_origin(connection, request))
        return false;
    if (status == 101 && sc_tls_websocket_accept(key, upgrade->accept) < 0)
        status = 503;
    if (status != 101) {
        sc_upgrade_refuse(connection, status, sc_upgrade_is_page(connection, request));
        return false;
    }
    upgrade->authorization = sc_http_header_get(request, "Sec-WebSocket-Protocol").data != NULL &&
                             sc_ws_protocol_offered(request, "Authorization");
    return true;
}

size_t sc_upgrade_read(struct connection *connection, const uint8_t *bytes, size_t size,
                       struct upgrade *upgrade) {
    ssize_t used = sc_http_request_parse(bytes, size, &upgrade->request);
    if (used >= 0)
        return (size_t)used;
    sc_upgrade_refuse(connection, used == -E2BIG ? 431 : 400, false);
    return size;
}
