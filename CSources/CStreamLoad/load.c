// A load: its loop, its works, what each of them does next, and the goals of a run.
#include "load_private.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

// Filling is no measurement: so many at once fill fast, and leave the server time for the connections that open meanwhile.
#define FILL_IN_FLIGHT 64u
/// Calls that an open loop issues in one turn at most, so that answers are read in between.
#define ISSUED_PER_TURN_MAX 1024u
// How often a run looks at all subscribers: looking costs as much as many deliveries.
#define LOOK_NS 1000000u

// ---- What a work does next

// Spreads the operations evenly: of a total of 10, a weight of 3 comes in places 0, 3 and 6, or the like.
static uint8_t next_op(struct work *work) {
    uint32_t place = (uint32_t)((uint64_t)work->weight_at++ * 7919u % work->weight_total);
    for (uint8_t op = 0; op < SC_LOAD_OP_COUNT; op++) {
        if (place < work->config.weights[op])
            return op;
        place -= work->config.weights[op];
    }
    return SC_LOAD_SET;
}

// Items in turn, so that each has been written before the first is written again.
static void issue(struct topic *topic, uint64_t intended_ns) {
    uint32_t item = topic->item_next;
    topic->item_next = item + 1 == topic->work->config.item_count ? 0 : item + 1;
    topic->in_flight++;
    sc_load_caller_call(topic, next_op(topic->work), item, intended_ns, false);
}

// Every item once, in order. Peers that answer nothing are filled as fast as their socket takes it.
static void fill(struct work *work) {
    while (work->fill_topic < work->config.topic_count) {
        struct topic *topic = &work->topics[work->fill_topic];
        bool answered = work->load->config.protocol == SC_LOAD_STREAM;
        if (!topic->caller->ready || (answered && topic->caller->open_calls >= FILL_IN_FLIGHT))
            return;
        sc_load_caller_call(topic, SC_LOAD_SET, work->fill_item, sc_load_now_ns(), false);
        if (++work->fill_item == work->config.item_count) {
            work->fill_item = 0;
            work->fill_topic++;
        }
    }
}

// The times of an open loop follow from its start alone. A call that is late keeps the time at which it was due: what it waits for counts as
// its latency, so that a server which stands still is not measured by the calls that were never made.
static uint64_t due_ns(const struct work *work) {
    return work->started_ns + (uint64_t)((double)work->issued * 1e9 / work->config.rate);
}

// A caller that is away holds up all behind it: the rate is of the work, not of a connection.
static void feed_by_rate(struct work *work) {
    uint64_t now = sc_load_now_ns();
    for (uint32_t i = 0; i < ISSUED_PER_TURN_MAX; i++) {
        uint64_t due = due_ns(work);
        struct topic *topic = &work->topics[work->topic_next];
        if (due > now || !topic->caller->ready)
            return;
        work->topic_next =
            work->topic_next + 1 == work->config.topic_count ? 0 : work->topic_next + 1;
        work->issued++;
        issue(topic, due);
    }
}

// Only topics that have had an answer are looked at. They note themselves, so a turn costs what has happened in it.
static void feed_by_window(struct work *work) {
    uint32_t count = work->hungry_count;
    uint64_t now = count > 0 ? sc_load_now_ns() : 0;
    work->hungry_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct topic *topic = work->hungry[i];
        topic->is_hungry = false;
        while (topic->caller->ready && topic->in_flight < work->config.window)
            issue(topic, now);
    }
}

void sc_load_work_feed(struct work *work) {
    if (work->filling)
        fill(work);
    if (!work->running)
        return;
    if (work->config.rate > 0)
        feed_by_rate(work);
    else
        feed_by_window(work);
}

// ---- The loop

// The loop sleeps until then at most; UINT64_MAX: until something comes.
static uint64_t next_due(const struct sc_load *load) {
    uint64_t next = load->until_ns;
    for (uint32_t i = 0; i < load->work_count; i++) {
        const struct work *work = load->works[i];
        if (work->running && work->config.rate > 0 && due_ns(work) < next)
            next = due_ns(work);
    }
    return next;
}

// What was read has made room in the windows: calls are made here, once a turn, and leave with one send a connection.
static void on_turn(void *context) {
    struct sc_load *load = context;
    sc_load_connection_connect_more(load);
    for (uint32_t i = 0; i < load->work_count; i++)
        sc_load_work_feed(load->works[i]);
    sc_load_connection_flush_all(load);
    uint64_t next = next_due(load);
    if (next == UINT64_MAX)
        return;
    // A work whose caller is away is late already: it is looked at again, but not at once.
    uint64_t now = sc_loop_monotonic_ns(load->loop);
    sc_timer_start_at(load->loop, &load->timer, next > now ? next : now + LOOK_NS / 10);
}

static void timer_due(struct sc_timer *timer) {
    (void)timer; // The turn's end does the work.
}

// Everything that was asked for is answered, and every subscriber that is not excused has all of its topic's log.
static bool all_quiet(const struct work *work) {
    if (work->filling && work->fill_topic < work->config.topic_count)
        return false;
    for (uint32_t i = 0; i < work->config.caller_count; i++)
        if (work->callers[i].open_calls > 0)
            return false;
    for (uint32_t i = 0; i < work->config.topic_count; i++) {
        const struct topic *topic = &work->topics[i];
        if (topic->live > 0 && topic->write_count > 0)
            return false;
        for (const struct subscriber *each = topic->first; each != NULL; each = each->topic_next)
            if (each->connection.state == STATE_OPEN && !each->stalled &&
                (each->state != SUBSCRIBER_LIVE || each->position != topic_log_end(topic)))
                return false;
    }
    return true;
}

// Callers are known by the server, subscribers have their `sync`.
static bool all_ready(const struct work *work) {
    return work->open_callers >= work->callers_wanted &&
           (!work->subscribers_wanted || sc_load_missing_subscribers(work->load, work->index) == 0);
}

// Each goal is one of all works: a run ends when the slowest is there.
static bool reached(const struct sc_load *load, enum sc_load_goal goal) {
    if (goal == SC_LOAD_NEVER)
        return false;
    if (goal == SC_LOAD_CLOSED)
        return load->open == 0 && load->queue_first == NULL;
    for (uint32_t i = 0; i < load->work_count; i++)
        if (goal == SC_LOAD_QUIET ? !all_quiet(load->works[i]) : !all_ready(load->works[i]))
            return false;
    return true;
}

int sc_load_run(struct sc_load *load, enum sc_load_goal goal, uint64_t until_ns) {
    load->until_ns = until_ns;
    uint64_t looked_ns = 0;
    sc_timer_start_at(load->loop, &load->timer, sc_load_now_ns()); // What was ordered begins now.
    for (;;) {
        uint64_t now = sc_load_now_ns();
        // Looking at every subscriber is no work for every turn.
        if (goal != SC_LOAD_QUIET || now - looked_ns >= LOOK_NS) {
            looked_ns = now;
            if (reached(load, goal))
                return 1;
        }
        if (now >= until_ns)
            return 0;
        load->until_ns =
            goal == SC_LOAD_QUIET && now + LOOK_NS < until_ns ? now + LOOK_NS : until_ns;
        int rc = sc_loop_run_once(load->loop);
        if (rc < 0)
            return rc;
    }
}

// ---- Life

// Once, before anything is measured. The first address is taken: a peer of a measurement has one.
static int resolve(const char *host, uint16_t port, struct sockaddr_storage *out, uint32_t *size) {
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return -ENOENT;
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *size = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

// Tens of thousands of connections need as many descriptors. What the system refuses shows when they are opened.
static void raise_limits(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); // Sends are meant for an exact time.
}

// Between two system calls the kernel's threads may run, which on the processor of the disk's interrupt have work to do
// for the server: on another machine they would not wait for its clients.
#define SUBMIT_MAX 8u
// Longer than theirs, and shorter than a server's: it reads an answer as soon as the server has sent it.
#define SLICE_US 4000u

// One process has one load.
static struct sc_tls_reason authorities_reason;

const char *sc_load_authorities_reason(void) {
    return authorities_reason.text;
}

// Owns: the caller has the load, with its loop, until sc_load_destroy. Thread: all calls come from this one.
int sc_load_create(const struct sc_load_config *config, struct sc_load **out) {
    struct sc_load *load = sc_load_allocate(sizeof *load);
    *load = (struct sc_load){.config = *config, .until_ns = UINT64_MAX};
    load->timer.on_due = timer_due;
    assert(config->poll_us <= SC_LOOP_POLL_US_MAX && config->io <= SC_LOOP_IO_EPOLL);
    raise_limits();
    int rc = resolve(config->stream_host, config->stream_port, &load->stream_address,
                     &load->stream_address_size);
    if (rc == 0)
        rc = resolve(config->worker_host, config->worker_port, &load->worker_address,
                     &load->worker_address_size);
    if (rc == 0)
        rc = sc_tls_websocket_accept(SC_LITERAL("dGhlIHNhbXBsZSBub25jZQ=="), load->accept);
    authorities_reason.text[0] = '\0';
    if (rc == 0 && (config->stream_tls || config->worker_tls)) {
        rc = sc_tls_client_create(config->ca_file, "http/1.1", SC_TLS_1_2, SC_TLS_1_3, &load->tls,
                                  &authorities_reason);
    }
    struct sc_loop_config loop = {.receive_buffer_size = config->receive_buffer_size,
                                  .receive_buffer_count = config->receive_buffer_count,
                                  .slice_us = SLICE_US,
                                  .submit_max = SUBMIT_MAX,
                                  .poll_us = config->poll_us,
                                  .io = (enum sc_loop_io)config->io,
                                  .on_turn = on_turn,
                                  .context = load};
    if (rc == 0)
        rc = sc_loop_create(&loop, &load->loop);
    if (rc < 0) {
        sc_tls_context_release(load->tls);
        free(load);
        return rc;
    }
    *out = load;
    return 0;
}

// Behind the loop: sockets of its connections have been closed by then, and nothing calls back.
static void work_destroy(struct work *work) {
    for (uint32_t i = 0; i < work->config.topic_count; i++)
        sc_load_topic_deinit(&work->topics[i]);
    for (uint32_t i = 0; i < work->config.caller_count; i++)
        free(work->callers[i].calls);
    free(work->topics);
    free(work->callers);
    free(work->subscribers);
    free(work->hungry);
    free(work->value);
    free(work);
}

// Closing takes turns, as each socket says when it is done. The memory of a connection is that of its work.
void sc_load_destroy(struct sc_load *load) {
    if (load == NULL)
        return;
    load->ending = true;
    load->queue_first = load->queue_last = NULL;
    for (uint32_t i = 0; i < load->work_count; i++) {
        struct work *work = load->works[i];
        work->running = work->filling = false;
        for (uint32_t j = 0; j < work->config.caller_count; j++)
            sc_load_connection_close(&work->callers[j].connection, true);
        for (uint32_t j = 0; j < work->subscriber_count; j++)
            sc_load_connection_close(&work->subscribers[j].connection, true);
    }
    while (load->open > 0)
        if (sc_load_run(load, SC_LOAD_CLOSED, sc_load_now_ns() + 1000000000u) < 0)
            abort();
    sc_timer_stop(load->loop, &load->timer);
    sc_loop_destroy(load->loop);
    for (uint32_t i = 0; i < load->work_count; i++)
        work_destroy(load->works[i]);
    for (uint32_t i = 0; i < SC_LOAD_VIOLATION_TEXTS_MAX; i++)
        free(load->violations[i]);
    sc_buffer_deinit(&load->response);
    sc_buffer_deinit(&load->scratch);
    sc_tls_context_release(load->tls);
    free(load);
}

// Embedded in callers and subscribers, whose addresses stay: sockets refer to them.
static void connection_init(struct connection *connection, struct work *work,
                            enum connection_role role) {
    *connection = (struct connection){.load = work->load, .work = work, .role = (uint8_t)role};
}

// Dealt out in turn, so that topics have the same number, and neighbours in time are of different topics.
static void add_subscribers(struct work *work) {
    work->subscriber_count = work->config.subscribers_per_topic * work->config.topic_count;
    work->subscribers = sc_load_allocate(work->subscriber_count * sizeof *work->subscribers);
    for (uint32_t i = 0; i < work->subscriber_count; i++) {
        struct subscriber *subscriber = &work->subscribers[i];
        struct topic *topic = &work->topics[i % work->config.topic_count];
        *subscriber = (struct subscriber){.topic = topic, .topic_next = topic->first};
        connection_init(&subscriber->connection, work, ROLE_SUBSCRIBER);
        topic->first = subscriber;
    }
}

// All memory that depends on the size of the work is taken here: while it runs, none is but for buffers.
uint32_t sc_load_work_add(struct sc_load *load, const struct sc_load_work_config *config) {
    assert(load->work_count < WORKS_MAX);
    assert(config->topic_count > 0 && config->item_count > 0);
    struct work *work = sc_load_allocate(sizeof *work);
    *work = (struct work){.load = load, .config = *config, .index = load->work_count};
    load->works[load->work_count++] = work;
    for (uint32_t op = 0; op < SC_LOAD_OP_COUNT; op++)
        work->weight_total += config->weights[op];
    sc_load_value_prepare(work);
    work->topics = sc_load_allocate(config->topic_count * sizeof *work->topics);
    work->hungry = sc_load_allocate(config->topic_count * sizeof(struct topic *));
    work->callers = sc_load_allocate(config->caller_count * sizeof *work->callers);
    for (uint32_t i = 0; i < config->caller_count; i++) {
        work->callers[i] = (struct caller){.serves_trigger = config->trigger && i == 0};
        connection_init(&work->callers[i].connection, work, ROLE_CALLER);
    }
    for (uint32_t i = 0; i < config->topic_count; i++) {
        sc_load_topic_init(&work->topics[i], work, i);
        if (config->caller_count > 0)
            work->topics[i].caller = &work->callers[i % config->caller_count];
    }
    add_subscribers(work);
    for (uint32_t i = 0; i < SC_LOAD_LATENCY_COUNT; i++)
        sc_histogram_clear(&work->latencies[i]);
    return work->index;
}

// ---- Orders

void sc_load_open_callers(struct sc_load *load, uint32_t index) {
    struct work *work = load->works[index];
    work->callers_wanted = work->config.caller_count;
    for (uint32_t i = 0; i < work->config.caller_count; i++)
        sc_load_connection_queue(&work->callers[i].connection);
    sc_load_connection_connect_more(load);
}

void sc_load_open_subscribers(struct sc_load *load, uint32_t index) {
    struct work *work = load->works[index];
    work->subscribers_wanted = true;
    for (uint32_t i = 0; i < work->subscriber_count; i++)
        sc_load_connection_queue(&work->subscribers[i].connection);
    sc_load_connection_connect_more(load);
}

// With `abort` as a machine that goes away, without a close frame: the server hears of a reset.
void sc_load_close_subscribers(struct sc_load *load, uint32_t index, bool abort) {
    struct work *work = load->works[index];
    work->subscribers_wanted = false;
    for (uint32_t i = 0; i < work->subscriber_count; i++)
        sc_load_connection_close(&work->subscribers[i].connection, abort);
}

// As browsers do after a deployment: all at once, whatever state they are in. Each opens when its old socket is gone.
void sc_load_reconnect_subscribers(struct sc_load *load, uint32_t index) {
    struct work *work = load->works[index];
    for (uint32_t i = 0; i < work->subscriber_count; i++) {
        struct connection *connection = &work->subscribers[i].connection;
        if (connection->state == STATE_CLOSED) {
            sc_load_connection_queue(connection);
        } else if (connection->state != STATE_QUEUED) {
            connection->reopen = true;
            sc_load_connection_close(connection, true);
        }
    }
    sc_load_connection_connect_more(load);
}

void sc_load_fill(struct sc_load *load, uint32_t index) {
    struct work *work = load->works[index];
    work->filling = true;
    work->fill_topic = work->fill_item = 0;
}

// Every topic is hungry at first. With a rate that does not matter: the clock says when the first call is due.
void sc_load_start(struct sc_load *load, uint32_t index) {
    struct work *work = load->works[index];
    assert(work->weight_total > 0 && work->config.caller_count > 0);
    work->filling = false;
    work->running = true;
    work->started_ns = sc_load_now_ns();
    work->issued = 0;
    for (uint32_t i = 0; i < work->config.topic_count; i++)
        sc_load_topic_hungry(&work->topics[i]);
}

// What is under way is still answered, and counted: run until quiet to wait for that.
void sc_load_stop(struct sc_load *load, uint32_t index) {
    struct work *work = load->works[index];
    work->running = work->filling = false;
    for (uint32_t i = 0; i < work->hungry_count; i++)
        work->hungry[i]->is_hungry = false;
    work->hungry_count = 0;
}

void sc_load_check_state(struct sc_load *load, uint32_t index) {
    struct work *work = load->works[index];
    for (uint32_t i = 0; i < work->config.topic_count; i++)
        if (work->topics[i].caller->ready)
            sc_load_caller_call(&work->topics[i], SC_LOAD_LIST, 0, sc_load_now_ns(), true);
}

// ---- Faults

static bool may_fail(const struct subscriber *subscriber) {
    return subscriber->connection.state == STATE_OPEN && subscriber->state == SUBSCRIBER_LIVE &&
           !subscriber->stalled;
}

void sc_load_stall(struct sc_load *load, uint32_t index, uint32_t count, bool for_good) {
    struct work *work = load->works[index];
    for (uint32_t i = 0; i < work->subscriber_count && count > 0; i++) {
        struct subscriber *subscriber = &work->subscribers[i];
        if (!may_fail(subscriber))
            continue;
        sc_load_subscriber_uncount(subscriber);
        subscriber->stalled = subscriber->excused = true;
        subscriber->half_open = for_good;
        sc_socket_pause(&subscriber->connection.socket);
        work->stalled++;
        count--;
    }
}

void sc_load_unstall(struct sc_load *load, uint32_t index) {
    struct work *work = load->works[index];
    for (uint32_t i = 0; i < work->subscriber_count; i++) {
        struct subscriber *subscriber = &work->subscribers[i];
        if (!subscriber->stalled || subscriber->half_open)
            continue;
        subscriber->stalled = false;
        work->stalled--;
        if (subscriber->connection.state == STATE_OPEN)
            sc_socket_resume(&subscriber->connection.socket);
    }
}

void sc_load_kill(struct sc_load *load, uint32_t index, uint32_t count) {
    struct work *work = load->works[index];
    for (uint32_t i = 0; i < work->subscriber_count && count > 0; i++) {
        struct subscriber *subscriber =
            &work->subscribers[work->kill_next++ % work->subscriber_count];
        if (!may_fail(subscriber))
            continue;
        subscriber->connection.reopen = true;
        sc_load_connection_close(&subscriber->connection, true);
        work->counters.killed++;
        count--;
    }
}

// From here on ends of connections are no faults, and nobody is waited for.
void sc_load_expect_restart(struct sc_load *load) {
    load->restarting = true;
    for (uint32_t i = 0; i < load->work_count; i++) {
        load->works[i]->callers_wanted = 0;
        load->works[i]->subscribers_wanted = false;
    }
}

// `empty`: it keeps nothing. Else what was answered must be there, and what was not may be.
void sc_load_restarted(struct sc_load *load, bool empty) {
    load->restarting = false;
    for (uint32_t i = 0; i < load->work_count; i++)
        for (uint32_t j = 0; j < load->works[i]->config.topic_count; j++)
            sc_load_topic_forget(&load->works[i]->topics[j], empty);
}

// ---- What came out

const struct sc_histogram *sc_load_latency(const struct sc_load *load, uint32_t index,
                                           enum sc_load_latency which) {
    return &load->works[index]->latencies[which];
}

struct sc_load_counters sc_load_counters(const struct sc_load *load, uint32_t index) {
    return load->works[index]->counters;
}

// Time that the generator spent looking for work is none that it needed: its share of a core is without that.
uint64_t sc_load_polled_ns(const struct sc_load *load) {
    return sc_loop_counters(load->loop)->polled_ns;
}

// Between the warm-up and what is measured. What is under way counts in the part in which it ends.
void sc_load_reset(struct sc_load *load) {
    for (uint32_t i = 0; i < load->work_count; i++) {
        load->works[i]->counters = (struct sc_load_counters){0};
        for (uint32_t j = 0; j < SC_LOAD_LATENCY_COUNT; j++)
            sc_histogram_clear(&load->works[i]->latencies[j]);
    }
}

uint32_t sc_load_live_subscribers(const struct sc_load *load, uint32_t index) {
    return load->works[index]->live;
}

uint32_t sc_load_missing_subscribers(const struct sc_load *load, uint32_t index) {
    const struct work *work = load->works[index];
    return work->subscriber_count - work->live;
}
