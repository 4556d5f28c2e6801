// From the request head to an open connection: where it wants to go, what it is refused with, and the wait
// for the control plane where somebody has to say who may come in.
#include <errno.h>
#include <stdlib.h>

#include "CStreamTLS.h"
#include "core_functions.h"
#include "subscription_index.h"

static void respond_and_close(struct connection *connection, const uint8_t *response, size_t size) {
    connection->shard->counters.handshakes_refused++;
    sc_connection_respond(connection, response, size);
    sc_connection_begin_closing(connection);
}

// `page`: a page that may connect has asked, and may read the answer. Of a WebSocket that fails it is told nothing, so
// it asks by fetch whether anybody is there.
static void refuse(struct connection *connection, int status, bool page) {
    uint8_t out[SC_WS_RESPONSE_SIZE_MAX];
    respond_and_close(connection, out, sc_http_error_write(out, status, page));
}

// ---- What few clients have

struct client *sc_client_of(struct connection *connection) {
    if (connection->client == NULL) {
        connection->client = sc_allocate(sizeof *connection->client);
        *connection->client = (struct client){0};
    }
    return connection->client;
}

static void held_free(struct connection *connection) {
    struct held_upgrade *held = connection->client->held;
    if (held == NULL)
        return;
    connection->client->held = NULL;
    sc_account_discharge(connection->account, SC_PLACE_UPGRADES, sizeof *held);
    sc_upgrade_waits_no_more(connection->shard);
    free(held);
}

void sc_client_free(struct connection *connection) {
    struct client *client = connection->client;
    if (client == NULL)
        return;
    held_free(connection);
    sc_blob_release(client->context);
    sc_index_destroy(client->index);
    free(client);
    connection->client = NULL;
}

// ---- Paths

static enum connection_kind kind_of(struct connection *connection, struct sc_bytes path,
                                    struct sc_stream_path *stream_path, int *status) {
    *status = 0;
    if (connection->port == PORT_STREAM) {
        *status = sc_stream_path_read(path, stream_path);
        return KIND_STREAM;
    }
    if (sc_bytes_equal(path, SC_LITERAL("/")))
        return KIND_WORKER;
    if (sc_bytes_equal(path, SC_LITERAL("/otel")))
        return KIND_TELEMETRY;
    *status = 404;
    return KIND_UNKNOWN;
}

// A path that cannot be decoded names nothing on either port: it is malformed rather than unknown.
static int status_of_unknown(struct sc_bytes path) {
    uint8_t decoded[SC_HTTP_HEAD_SIZE_MAX];
    assert(path.size <= sizeof decoded);
    return sc_http_path_decode(path, decoded) < 0 ? 400 : 404;
}

// ---- Pages

static const struct sc_node_address *address_of(const struct connection *connection) {
    const struct sc_node_config *config = &connection->shard->node->config;
    return connection->port == PORT_STREAM ? &config->stream
                                           : &config->workers[connection->listener];
}

static bool is_page_let_in(const struct connection *connection,
                           const struct sc_http_request *request) {
    struct sc_bytes origin;
    return sc_http_header_get(request, "Origin").data != NULL &&
           !sc_origin_refused(address_of(connection), request, &origin);
}

// Whether the page that opens the connection may; refuses it if not.
static bool refuse_origin(struct connection *connection, const struct sc_http_request *request) {
    bool is_stream = connection->port == PORT_STREAM;
    struct sc_bytes origin;
    if (!sc_origin_refused(address_of(connection), request, &origin))
        return false;
    connection->shard->counters.origins_refused++;
    uint8_t text[SC_ORIGIN_TEXT_SIZE_MAX], out[SC_WS_RESPONSE_SIZE_MAX];
    struct sc_bytes why = {text, sc_origin_describe(is_stream, origin, text)};
    sc_shard_log(connection->shard, SC_LOG_WARN, "origin_refused", connection->id, why);
    respond_and_close(connection, out, sc_http_refusal_write(out, 403, why));
    return true;
}

// ---- Opening

static void open_connection(struct connection *connection, enum connection_kind kind,
                            const char accept[28], bool authorization) {
    uint8_t out[SC_WS_RESPONSE_SIZE_MAX];
    size_t size = sc_ws_response_write(out, accept, authorization ? "Authorization" : NULL);
    sc_connection_respond(connection, out, size);
    connection->kind = (uint8_t)kind & 127;
    connection->state = STATE_OPEN;
    connection->tick = connection->shard->tick;
}

static void open_stream(struct connection *connection, const char accept[28], bool authorization,
                        const struct sc_stream_path *path) {
    open_connection(connection, KIND_STREAM, accept, authorization);
    connection->shard->stream_connections++;
    if (path->joins)
        sc_join_by_path(connection, path->parts[0], path->parts[1],
                        path->has_item ? &path->parts[2] : NULL);
}

bool sc_upgrade_may_wait(struct shard *shard) {
    struct sc_node *node = shard->node;
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

static void hold(struct connection *connection, const struct sc_http_request *request,
                 const char accept[28], bool authorization, const struct sc_stream_path *path) {
    struct shard *shard = connection->shard;
    bool page = is_page_let_in(connection, request);
    if (!sc_upgrade_may_wait(shard)) {
        refuse(connection, 503, page);
        return;
    }
    struct held_upgrade *held = sc_allocate(sizeof *held);
    sc_account_charge(sc_connection_account(connection), SC_PLACE_UPGRADES, sizeof *held);
    memcpy(held->accept, accept, 28);
    held->authorization = authorization;
    held->page = page;
    sc_stream_path_copy(&held->path, path);
    sc_client_of(connection)->held = held;
    connection->state = STATE_HELD;
    connection->paused = true; // What comes before the answer can wait in the socket.
    sc_socket_pause(&connection->socket);
    uint8_t text[PEER_ADDRESS_SIZE_MAX];
    size_t ip_size, size = sc_peer_address(connection->socket.fd, text, &ip_size);
    struct sc_message *message =
        sc_head_message(request, (struct sc_bytes){text, size}, false, connection->account);
    if (message == NULL)
        refuse(connection, 503, page);
    else
        sc_announce(shard, connection->id, message);
}

void sc_upgrade_decide(struct connection *connection, int status, struct sc_bytes context) {
    if (connection->state != STATE_HELD)
        return;
    struct client *client = connection->client;
    struct held_upgrade *held = client->held;
    if (context.data != NULL) {
        client->context = sc_blob_create(context.size);
        if (client->context != NULL)
            memcpy(client->context->data, context.data, context.size);
        else
            status = 503;
    }
    if (status != 101) {
        refuse(connection, status, held->page);
        connection->paused = false;
        sc_socket_resume(&connection->socket);
    } else {
        open_stream(connection, held->accept, held->authorization, &held->path);
    }
    held_free(connection);
    uint32_t most = SC_PARKED_PER_SLICE;
    if (status == 101)
        sc_connection_resume(connection, &most); // The rest of them is on the list of the shard.
}

static void upgrade(struct connection *connection, const struct sc_http_request *request) {
    struct sc_stream_path path;
    struct sc_bytes key = {0};
    int status = 0;
    enum connection_kind kind = kind_of(connection, request->path, &path, &status);
    if (status == 404)
        status = status_of_unknown(request->path);
    if (status == 0)
        status = sc_ws_handshake_check(request, &key);
    if (status == 101 && refuse_origin(connection, request))
        return;
    char accept[28];
    if (status == 101 && sc_tls_websocket_accept(key, accept) < 0)
        status = 503;
    if (status == 101 && connection->over_limit && kind == KIND_STREAM)
        status = 503;
    if (status != 101) {
        refuse(connection, status, is_page_let_in(connection, request));
        return;
    }
    bool authorization = sc_http_header_get(request, "Sec-WebSocket-Protocol").data != NULL &&
                         sc_ws_protocol_offered(request, "Authorization");
    if (kind != KIND_STREAM) {
        open_connection(connection, kind, accept, authorization);
        sc_worker_opened(connection, request);
    } else if (connection->shard->node->config.authenticates) {
        hold(connection, request, accept, authorization, &path);
    } else {
        open_stream(connection, accept, authorization, &path);
    }
}

size_t sc_upgrade_read(struct connection *connection, const uint8_t *bytes, size_t size) {
    struct sc_http_request request;
    ssize_t used = sc_http_request_parse(bytes, size, &request);
    if (used == 0)
        return 0;
    if (used < 0) {
        refuse(connection, used == -E2BIG ? 431 : 400, false);
        return size;
    }
    upgrade(connection, &request);
    return (size_t)used;
}
