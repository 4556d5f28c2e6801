// Connections of both kinds: connecting a few at a time, the upgrade, bytes out.
#include "load_private.h"

#include "CStreamWebSocket.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CONNECTION(pointer) SC_CONTAINER_OF(pointer, struct connection, socket)
#define SUBSCRIBER(pointer) SC_CONTAINER_OF(pointer, struct subscriber, connection)
#define CALLER(pointer) SC_CONTAINER_OF(pointer, struct caller, connection)

// The key of RFC 6455, whose answer even a server knows that computes none.
static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==";

// The first of them say what is wrong, the others only count. A connection that was wrong once is not listened to any more.
void sc_load_connection_violates(struct connection *connection, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *role = connection->role == ROLE_SUBSCRIBER ? "subscriber of " : "caller";
    const char *topic =
        connection->role == ROLE_SUBSCRIBER ? SUBSCRIBER(connection)->topic->name : "";
    sc_load_load_violation(connection->load, "%s%s: %s", role, topic, text);
    sc_load_connection_close(connection, true);
}

// Half a frame waits for the rest. Owns: a copy, as the buffer is lent by the loop.
void sc_load_connection_hold(struct connection *connection, const uint8_t *data, size_t size) {
    sc_buffer_append(&connection->held, data, size);
    if (connection->held.failed)
        abort();
}

// ---- Out

// Each once a turn, however many calls are appended.
void sc_load_connection_mark_dirty(struct connection *connection) {
    if (connection->dirty || connection->state != STATE_OPEN)
        return;
    connection->dirty = true;
    connection->next = connection->load->dirty_first;
    connection->load->dirty_first = connection;
}

static bool speaks_tls(const struct connection *connection) {
    const struct sc_load_config *config = &connection->load->config;
    return connection->role == ROLE_SUBSCRIBER ? config->stream_tls : config->worker_tls;
}

// Makes the next ciphertext what is in flight: what TLS itself has to say, then all of `out` as one.
static void seal(struct connection *connection) {
    struct sc_buffer next = connection->wire, *out = &connection->out;
    connection->wire = (struct sc_buffer){0};
    if (!connection->shakes_hands && out->size > 0) {
        size_t room = sc_tls_sealed_size_max(out->size);
        uint8_t *at = sc_buffer_reserve(&next, room);
        struct sc_bytes piece = sc_buffer_bytes(out);
        ssize_t size = at == NULL ? -ENOMEM : sc_tls_seal(connection->tls, &piece, 1, at, room);
        next.size +=
            size < 0 ? 0 : (size_t)size; // A session that has failed is about to be closed.
        out->size = 0;
    }
    sc_buffer_deinit(&connection->in_flight);
    connection->in_flight = next;
    connection->in_flight_sent = 0;
}

// Two buffers: the kernel has one, calls are appended to the other. They change places when the first has left, so nothing is moved, and what
// the kernel reads is never moved under it.
static void send_next(struct connection *connection) {
    if (sc_socket_sending(&connection->socket))
        return;
    bool is_over = connection->in_flight_sent == connection->in_flight.size;
    if (is_over && connection->tls != NULL) {
        seal(connection);
        if (connection->in_flight.size == 0)
            return;
    }
    if (connection->in_flight_sent == connection->in_flight.size) {
        if (connection->out.size == 0)
            return;
        struct sc_buffer empty = connection->in_flight;
        empty.size = 0;
        connection->in_flight = connection->out;
        connection->out = empty;
        connection->in_flight_sent = 0;
    }
    size_t left = connection->in_flight.size - connection->in_flight_sent;
    struct sc_bytes piece = {connection->in_flight.data + connection->in_flight_sent,
                             left < SC_LOOP_SEND_SIZE_MAX ? left : SC_LOOP_SEND_SIZE_MAX};
    sc_socket_send(&connection->socket, &piece, 1, SC_SEND_WAIT);
}

void sc_load_connection_flush_all(struct sc_load *load) {
    while (load->dirty_first != NULL) {
        struct connection *connection = load->dirty_first;
        load->dirty_first = connection->next;
        connection->dirty = false;
        if (connection->state == STATE_OPEN)
            send_next(connection);
    }
}

// ---- Opening

// The key is the same for all: its answer is worked out once, and a server that makes it must work it out each time.
static void append_request(struct connection *connection) {
    struct sc_load *load = connection->load;
    bool subscriber = connection->role == ROLE_SUBSCRIBER;
    char target[512], host[300];
    if (load->config.protocol == SC_LOAD_RAW)
        snprintf(target, sizeof target, "%s",
                 subscriber ? load->config.stream_path : load->config.worker_path);
    else if (subscriber && !load->config.join_by_message)
        snprintf(target, sizeof target, "/stream/%s/%s", load->config.stream_name,
                 SUBSCRIBER(connection)->topic->name);
    else
        snprintf(target, sizeof target, "/");
    snprintf(host, sizeof host, "%s:%u",
             subscriber ? load->config.stream_host : load->config.worker_host,
             subscriber ? load->config.stream_port : load->config.worker_port);
    uint8_t *at = sc_buffer_reserve(&connection->out, 1024);
    ssize_t size =
        at == NULL ? -ENOMEM
                   : sc_ws_request_write(at, 1024, (struct sc_bytes){(uint8_t *)host, strlen(host)},
                                         (struct sc_bytes){(uint8_t *)target, strlen(target)}, key);
    if (size < 0)
        abort(); // Longer names than the options let through.
    connection->out.size += (size_t)size;
}

// Redis and NATS have their own first words.
static bool speaks_http(const struct connection *connection) {
    return connection->load->config.protocol == SC_LOAD_STREAM ||
           connection->load->config.protocol == SC_LOAD_RAW;
}

// The handshake is measured from the first packet to the last byte of the response: what a browser waits for.
static void opened(struct connection *connection) {
    struct sc_load *load = connection->load;
    assert(load->connecting > 0);
    load->connecting--;
    connection->state = STATE_OPEN;
    struct work *work = connection->work;
    work->counters.handshakes++;
    sc_histogram_add(&work->latencies[SC_LOAD_LATENCY_HANDSHAKE],
                     sc_load_now_ns() - connection->started_ns);
    if (connection->role == ROLE_SUBSCRIBER)
        sc_load_subscriber_opened(SUBSCRIBER(connection));
    else
        sc_load_caller_opened(CALLER(connection));
}

static void fail_tls(struct connection *connection) {
    connection->work->counters.connect_failures++;
    sc_load_connection_violates(connection, "TLS with the server failed: %s", sc_tls_failure());
}

static void ask_for_upgrade(struct connection *connection) {
    append_request(connection);
    send_next(connection);
}

// Goes on with the handshake; what comes behind it stays in `in`.
static void shake_hands(struct connection *connection, struct sc_bytes *in) {
    int rc = sc_tls_handshake(connection->tls, in, &connection->wire);
    if (rc < 0) {
        fail_tls(connection);
        return;
    }
    if (rc == 0) {
        send_next(connection);
        return;
    }
    connection->shakes_hands = false;
    ask_for_upgrade(connection);
}

static void begin_tls(struct connection *connection) {
    const struct sc_load_config *config = &connection->load->config;
    bool subscriber = connection->role == ROLE_SUBSCRIBER;
    struct sc_bytes nothing = {0};
    connection->tls = sc_tls_create(connection->load->tls,
                                    subscriber ? config->stream_host : config->worker_host);
    if (connection->tls == NULL)
        abort();
    connection->shakes_hands = true;
    shake_hands(connection, &nothing);
}

static void connected(struct connection *connection) {
    connection->work->counters.connects++;
    if (!speaks_http(connection)) {
        opened(connection);
        return;
    }
    connection->state = STATE_RESPONSE;
    if (speaks_tls(connection))
        begin_tls(connection);
    else
        ask_for_upgrade(connection);
}

// Returns the size of the response, 0 when it is not all there, -1 when it is no upgrade.
// A server answers all upgrades of a load with the same bytes. So the first response is parsed, and the others are compared with it.
static ssize_t read_response(struct sc_load *load, const uint8_t *data, size_t size) {
    const struct sc_buffer *known = &load->response;
    if (known->size > 0 && size >= known->size && memcmp(data, known->data, known->size) == 0)
        return (ssize_t)known->size;
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (end == NULL)
        return size > SC_HTTP_HEAD_SIZE_MAX ? -1 : 0;
    size_t response = (size_t)(end - data) + 4;
    if (response < 12 || memcmp(data, "HTTP/1.1 101", 12) != 0 ||
        memmem(data, response, load->accept, sizeof load->accept) == NULL)
        return -1;
    if (known->size == 0)
        sc_buffer_append(&load->response, data, response);
    return (ssize_t)response;
}

// What follows the response is the first frame already, and stays.
static size_t take_response(struct connection *connection, const uint8_t *data, size_t size) {
    ssize_t response = read_response(connection->load, data, size);
    if (response < 0) {
        const uint8_t *line = memchr(data, '\r', size);
        connection->work->counters.connect_failures++;
        sc_load_connection_violates(connection, "the upgrade was refused: %.*s",
                                    (int)(line == NULL ? 0 : line - data), (const char *)data);
        return 0;
    }
    if (response > 0)
        opened(connection);
    return (size_t)response;
}

// Bytes that were held and those that came are one text only while the response is not whole. Then each role holds its own.
static void take(struct connection *connection, const uint8_t *data, size_t size) {
    if (connection->state == STATE_RESPONSE) {
        size_t before = connection->held.size;
        if (before > 0) {
            sc_load_connection_hold(connection, data, size);
            size_t used = take_response(connection, connection->held.data, connection->held.size);
            if (used == 0 || connection->state != STATE_OPEN)
                return;
            assert(used > before);
            connection->held.size = 0;
            data += used - before;
            size -= used - before;
        } else {
            size_t used = take_response(connection, data, size);
            if (used == 0 && connection->state == STATE_RESPONSE)
                sc_load_connection_hold(connection, data, size);
            data += used;
            size -= used;
        }
    }
    if (connection->state != STATE_OPEN || size == 0)
        return;
    if (connection->role == ROLE_SUBSCRIBER)
        sc_load_subscriber_receive(SUBSCRIBER(connection), data, size);
    else
        sc_load_caller_receive(CALLER(connection), data, size);
}

static void take_sealed(struct connection *connection, struct sc_bytes in) {
    if (connection->shakes_hands)
        shake_hands(connection, &in);
    int rc = connection->shakes_hands ? 0 : 1;
    while (rc == 1 && connection->state < STATE_CLOSING) {
        struct sc_bytes plain;
        rc = sc_tls_open(connection->tls, &in, &plain, &connection->wire);
        if (rc == 1)
            take(connection, plain.data, plain.size);
    }
    if (connection->state >= STATE_CLOSING)
        return;
    if (rc < 0 && rc != -EPIPE) // The goodbye is followed by the end of the stream.
        fail_tls(connection);
    else if (connection->wire.size > 0)
        send_next(connection);
}

static void on_receive(struct sc_socket *socket, uint8_t *data, size_t size) {
    struct connection *connection = CONNECTION(socket);
    if (connection->tls != NULL)
        take_sealed(connection, (struct sc_bytes){data, size});
    else
        take(connection, data, size);
}

// With the address: most faults of a run are a port that is another one's.
static void not_connected(struct connection *connection, int reason) {
    const struct sc_load_config *config = &connection->load->config;
    bool subscriber = connection->role == ROLE_SUBSCRIBER;
    sc_load_load_violation(connection->load, "no connection to %s:%u, the %s port: %s",
                           subscriber ? config->stream_host : config->worker_host,
                           subscriber ? config->stream_port : config->worker_port,
                           subscriber ? "stream" : "worker",
                           reason == 0 ? "closed before the upgrade" : strerror(-reason));
}

// A connection that ends is a fault of the server, unless the run wanted it, has said why already, or asked for it by standing still.
static void lost(struct connection *connection, int reason) {
    struct work *work = connection->work;
    bool faulty = connection->role == ROLE_SUBSCRIBER && SUBSCRIBER(connection)->excused;
    if (connection->announced || connection->load->restarting || connection->load->ending) {
        // It was said, or is wanted.
    } else if (faulty) {
        work->counters.stalled_closed++;
    } else if (connection->state <= STATE_CONNECTING) {
        work->counters.connect_failures++;
        not_connected(connection, reason);
    } else {
        work->counters.lost++;
        sc_load_load_violation(connection->load,
                               "the server closed a %s that did nothing wrong (%s)",
                               connection->role == ROLE_SUBSCRIBER ? "subscriber" : "caller",
                               reason == 0 ? "end of the stream" : strerror(-reason));
    }
    sc_load_connection_close(connection, false);
}

static void on_end(struct sc_socket *socket, int reason) {
    lost(CONNECTION(socket), reason);
}

// A connect completes as a send does. Subscribers give their buffers back: they say nothing more.
static void on_sent(struct sc_socket *socket, ssize_t result) {
    struct connection *connection = CONNECTION(socket);
    if (connection->state == STATE_CONNECTING) {
        if (result < 0)
            lost(connection, (int)result);
        else
            connected(connection);
        return;
    }
    if (result < 0) {
        lost(connection, (int)result);
        return;
    }
    connection->in_flight_sent += (size_t)result;
    if (connection->role == ROLE_SUBSCRIBER &&
        connection->in_flight_sent == connection->in_flight.size && connection->out.size == 0) {
        // Thousands of them never send again.
        sc_buffer_deinit(&connection->in_flight);
        sc_buffer_deinit(&connection->out);
        connection->in_flight_sent = 0;
        return;
    }
    send_next(connection);
}

// The place is free for the next one in the queue, which may be this connection again.
static void on_closed(struct sc_socket *socket) {
    struct connection *connection = CONNECTION(socket);
    struct sc_load *load = connection->load;
    assert(load->open > 0);
    load->open--;
    connection->state = STATE_CLOSED;
    sc_buffer_deinit(&connection->out);
    sc_buffer_deinit(&connection->in_flight);
    sc_buffer_deinit(&connection->held);
    sc_buffer_deinit(&connection->wire);
    sc_tls_destroy(connection->tls);
    connection->tls = NULL;
    connection->shakes_hands = false;
    connection->in_flight_sent = 0;
    if (connection->reopen && !load->ending) {
        connection->reopen = false;
        sc_load_connection_queue(connection);
    }
    sc_load_connection_connect_more(load);
}

static const struct sc_socket_handler handler = {
    .on_receive = on_receive, .on_end = on_end, .on_sent = on_sent, .on_closed = on_closed};

// Its role hears of the end at once, the socket closes in turns to come.
void sc_load_connection_close(struct connection *connection, bool abort) {
    struct sc_load *load = connection->load;
    if (connection->state == STATE_CLOSING || connection->state <= STATE_QUEUED)
        return;
    uint8_t state = connection->state;
    connection->state = STATE_CLOSING;
    if (state != STATE_OPEN)
        load->connecting--;
    else if (connection->role == ROLE_SUBSCRIBER)
        sc_load_subscriber_closed(SUBSCRIBER(connection));
    else
        sc_load_caller_closed(CALLER(connection));
    sc_socket_close(&connection->socket, abort);
}

// Without a descriptor there is no connection, and the run says so instead of waiting for it.
static void dial(struct connection *connection) {
    struct sc_load *load = connection->load;
    bool subscriber = connection->role == ROLE_SUBSCRIBER;
    const struct sockaddr_storage *address =
        subscriber ? &load->stream_address : &load->worker_address;
    uint32_t address_size = subscriber ? load->stream_address_size : load->worker_address_size;
    connection->started_ns = sc_load_now_ns();
    connection->announced = false;
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = fd < 0 ? -errno
                    : sc_socket_connect(load->loop, &connection->socket, fd,
                                        (const struct sockaddr *)address, address_size, &handler);
    if (rc < 0) {
        if (fd >= 0)
            close(fd);
        connection->state = STATE_CLOSED;
        connection->work->counters.connect_failures++;
        not_connected(connection, rc);
        return;
    }
    connection->state = STATE_CONNECTING;
    load->open++;
    load->connecting++;
}

// A few at a time: a server is to be measured by handshakes, not by the length of the kernel's queue.
void sc_load_connection_connect_more(struct sc_load *load) {
    while (load->queue_first != NULL && load->connecting < load->config.connecting_max) {
        struct connection *connection = load->queue_first;
        load->queue_first = connection->next;
        if (load->queue_first == NULL)
            load->queue_last = NULL;
        dial(connection);
    }
}

// In the order in which they were asked for, so that a run opens the same connections each time.
void sc_load_connection_queue(struct connection *connection) {
    struct sc_load *load = connection->load;
    if (connection->state != STATE_CLOSED)
        return;
    connection->state = STATE_QUEUED;
    connection->next = NULL;
    if (load->queue_last != NULL)
        load->queue_last->next = connection;
    else
        load->queue_first = connection;
    load->queue_last = connection;
}
