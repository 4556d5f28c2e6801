#define _GNU_SOURCE // memmem
#include "CTransportProbe.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

struct probe {
    struct sc_loop *loop;
    struct sc_heap *heap;
    struct sc_account_sums *sums;
    struct transport transport;
    struct listeners listeners;
    struct role role;
    struct port port;
    struct sc_timer nothing;
    struct sc_buffer events, started;
    uint32_t answer_size, refuse_from;
    bool may_start, may_start_aside, throttled, keep_closed, again;
};

#define PROBE(connection_pointer)                                                                  \
    SC_CONTAINER_OF((connection_pointer)->transport, struct probe, transport)

static void note(struct probe *probe, char event) {
    sc_buffer_append(&probe->events, &event, 1);
}

// ---- The role

static size_t on_head(struct connection *connection, const uint8_t *bytes, size_t size) {
    static const char ok[] = "HTTP/1.1 101 OK\r\n\r\n", no[] = "HTTP/1.1 404 no\r\n\r\n";
    const uint8_t *end = memmem(bytes, size, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    note(PROBE(connection), 'h');
    if (bytes[0] == 'R') {
        sc_connection_refuse(connection, (const uint8_t *)no, sizeof no - 1);
    } else if (bytes[0] == 'A') {
        sc_connection_authenticate(connection);
    } else {
        sc_out_append_bytes(connection, (const uint8_t *)ok, sizeof ok - 1);
        sc_connection_open(connection);
    }
    return (size_t)(end - bytes) + 4;
}

void probe_send(struct connection *connection, uint8_t byte, uint32_t size) {
    struct chunks *chunks = &connection->transport->chunks;
    size_t header = sc_ws_header_size(size);
    struct slice slice = sc_chunks_take(chunks, LANE_PRIVATE, header + size);
    sc_ws_header_write(slice_data(slice), SC_WS_TEXT, true, size, NULL);
    memset(slice_data(slice) + header, byte, size);
    sc_out_append(connection, slice);
    sc_chunks_release(chunks, slice);
}

static bool may_start(const struct connection *connection) {
    return PROBE(connection)->may_start;
}

static bool may_start_aside(const struct connection *connection) {
    return PROBE(connection)->may_start_aside;
}

static bool on_message(struct connection *connection, struct sc_bytes text,
                       enum message_source source) {
    struct probe *probe = PROBE(connection);
    bool is_aside = text.size > 0 && text.data[0] == '!';
    if (is_aside && source != FROM_ASIDE &&
        (!probe->may_start_aside || sc_connection_has_aside(connection))) {
        sc_connection_set_aside(connection, text);
        return true;
    }
    bool others_wait = source == FROM_PEER && sc_connection_has_parked_in_order(connection);
    if (source != FROM_ASIDE && (others_wait || !probe->may_start))
        return false;
    note(probe, is_aside ? 'a' : 'm');
    sc_buffer_append_bytes(&probe->started, text);
    sc_buffer_append(&probe->started, "\n", 1);
    if (text.size == 4 && memcmp(text.data, "ping", 4) == 0)
        sc_out_message_pong(connection);
    else if (probe->answer_size > 0)
        probe_send(connection, 'a', probe->answer_size);
    return true;
}

static bool refuse(struct connection *connection, struct sc_bytes text,
                   struct parked_sums waiting) {
    (void)text;
    if (waiting.count < PROBE(connection)->refuse_from)
        return false;
    note(PROBE(connection), 'r');
    return true;
}

static bool is_throttled(const struct connection *connection) {
    return PROBE(connection)->throttled;
}

static void on_room(struct connection *connection) {
    note(PROBE(connection), 'o');
}

static void on_life(struct connection *connection, bool alive) {
    note(PROBE(connection), alive ? 'l' : 's');
}

static void on_ending(struct connection *connection) {
    note(PROBE(connection), 'e');
}

static void on_closed(struct connection *connection) {
    note(PROBE(connection), 'c');
    if (!PROBE(connection)->keep_closed)
        sc_connection_free(connection);
}

void probe_free(struct connection *connection) {
    sc_connection_free(connection);
}

// ---- The owner of the loop

static void on_dead_peer(struct connection *connection) {
    note(PROBE(connection), 'd');
}

static void on_slow_reader(struct connection *connection) {
    note(PROBE(connection), 'w');
}

static void turn_again(struct transport *transport) {
    SC_CONTAINER_OF(transport, struct probe, transport)->again = true;
}

static void wake(struct transport *transport, uint64_t waiting) {
    (void)transport, (void)waiting;
}

static void on_tls_failed(struct connection *connection, const char *why) {
    assert(why[0] != '\0');
    note(PROBE(connection), 't');
}

static const struct transport_events events = {.on_dead_peer = on_dead_peer,
                                               .on_slow_reader = on_slow_reader,
                                               .on_tls_failed = on_tls_failed,
                                               .turn_again = turn_again,
                                               .wake = wake};

static void on_turn(void *context) {
    struct probe *probe = context;
    if (sc_transport_sweeps(&probe->transport))
        sc_transport_sweep_on(&probe->transport);
    sc_transport_shake_hands(&probe->transport);
    sc_transport_resume(&probe->transport);
    sc_transport_flush(&probe->transport);
}

struct probe *probe_create(const struct probe_config *config) {
    struct probe *probe = calloc(1, sizeof *probe);
    if (probe == NULL)
        return NULL;
    struct sc_loop_config loop = {.on_turn = on_turn, .context = probe};
    probe->heap = sc_heap_create();
    probe->sums = sc_account_sums_create();
    if (probe->heap == NULL || probe->sums == NULL || sc_loop_create(&loop, &probe->loop) < 0)
        abort();
    probe->role = (struct role){.name = "probe",
                                .size = sizeof(struct connection),
                                .slow_code = 1013,
                                .sends_first = config->sends_first,
                                .finishes = config->finishes,
                                .message_pong = SC_LITERAL("\x81\x04pong"),
                                .on_head = on_head,
                                .on_message = on_message,
                                .may_start = may_start,
                                .may_start_aside = may_start_aside,
                                .refuse = refuse,
                                .is_throttled = is_throttled,
                                .on_room = on_room,
                                .on_life = on_life,
                                .on_ending = on_ending,
                                .on_closed = on_closed};
    probe->port = (struct port){.role = &probe->role,
                                .budget = config->budget,
                                .hard_size_max = config->hard_size_max,
                                .tls = config->tls,
                                .channel = config->tls == NULL ? NULL : &sc_channel_tls};
    sc_ws_decoder_init(&probe->port.decoder, SC_WS_SERVER, config->message_size_max,
                       config->message_size_max, false);
    probe->transport = (struct transport){.loop = probe->loop,
                                          .heap = probe->heap,
                                          .sums = probe->sums,
                                          .events = &events,
                                          .limits = config->limits,
                                          .index = 3};
    sc_transport_init(&probe->transport);
    probe->may_start = probe->may_start_aside = true;
    probe->refuse_from = UINT32_MAX;
    return probe;
}

static void on_accept(struct listeners *listeners, const struct port *port, int fd) {
    struct probe *probe = SC_CONTAINER_OF(listeners, struct probe, listeners);
    if (sc_connection_adopt(&probe->transport, port, fd) == NULL)
        abort();
}

int probe_listen(struct probe *probe, struct listen_place *place, uint16_t port,
                 struct listen_reason *reason) {
    int fds[SC_HOST_ADDRESSES_MAX];
    int count = sc_place_bind(place, port, fds, reason);
    if (count < 0)
        return count;
    sc_listeners_init(&probe->listeners, probe->loop, (uint32_t)count, on_accept);
    for (int i = 0; i < count; i++)
        if (sc_listeners_add(&probe->listeners, &probe->port, fds[i]) < 0)
            abort();
    return count;
}

void probe_pause_listening(struct probe *probe, bool pause) {
    sc_listeners_pause(&probe->listeners, &probe->role, pause);
}

void probe_destroy(struct probe *probe) {
    sc_listeners_close(&probe->listeners);
    while (probe->listeners.open > 0)
        probe_turn(probe);
    sc_listeners_deinit(&probe->listeners);
    sc_timer_stop(probe->loop, &probe->nothing);
    sc_timer_stop(probe->loop, &probe->transport.over_timer);
    sc_timer_stop(probe->loop, &probe->transport.parked_timer);
    sc_transport_deinit(&probe->transport);
    sc_loop_destroy(probe->loop);
    sc_account_sums_release(probe->sums);
    sc_heap_destroy(probe->heap);
    sc_buffer_deinit(&probe->events);
    sc_buffer_deinit(&probe->started);
    free(probe);
}

int probe_connect(struct probe *probe, uint32_t buffer_size, uint64_t *id) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
        abort();
    int size = (int)buffer_size;
    for (int i = 0; i < 2 && size > 0; i++)
        (void)setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    struct connection *connection = sc_connection_adopt(&probe->transport, &probe->port, ends[0]);
    if (connection == NULL)
        abort();
    *id = connection->id;
    return ends[1];
}

static void nothing(struct sc_timer *timer) {
    (void)timer;
}

void probe_turn(struct probe *probe) {
    probe->nothing.on_due = nothing;
    sc_timer_start(probe->loop, &probe->nothing, 0); // So that it does not sleep.
    if (sc_loop_run_once(probe->loop) < 0)
        abort();
}

void probe_sweep(struct probe *probe) {
    sc_transport_sweep(&probe->transport);
}

struct connection *probe_find(struct probe *probe, uint64_t id) {
    return sc_transport_find(&probe->transport, id);
}

struct transport *probe_transport(struct probe *probe) {
    return &probe->transport;
}

struct probe_log probe_log(const struct probe *probe) {
    return (struct probe_log){(const char *)probe->events.data, probe->events.size};
}

struct sc_bytes probe_started(const struct probe *probe) {
    return sc_buffer_bytes(&probe->started);
}

uint64_t probe_waiting(const struct probe *probe, enum sc_place place) {
    return sc_account_sums_bytes(probe->sums, place);
}

void probe_let_start(struct probe *probe, bool starts, bool starts_aside) {
    probe->may_start = starts;
    probe->may_start_aside = starts_aside;
}

void probe_refuse_from(struct probe *probe, uint32_t count) {
    probe->refuse_from = count;
}

void probe_answer(struct probe *probe, uint32_t size) {
    probe->answer_size = size;
}

void probe_throttle(struct probe *probe, bool throttled) {
    probe->throttled = throttled;
    for (uint32_t i = 0; throttled && i < probe->transport.slot_count; i++)
        if (sc_transport_at(&probe->transport, i) != NULL)
            sc_connection_throttle(sc_transport_at(&probe->transport, i));
}

void probe_keep_closed(struct probe *probe, bool keep) {
    probe->keep_closed = keep;
}
