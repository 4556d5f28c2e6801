// The poller: set up, sleeping, the line of those that are ready, completions.
#include "epoll.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NS_PER_MS 1000000u
/// The slot of the eventfd.
#define EVENT_SLOT UINT32_MAX

// ---- Set up

static int open_buffers(struct epoll *epoll) {
    uint32_t count = epoll->base.config->receive_buffer_count;
    int rc = sc_buffers_map(&epoll->base);
    epoll->free_buffers = rc == 0 ? calloc(count, sizeof *epoll->free_buffers) : NULL;
    if (epoll->free_buffers == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        epoll->free_buffers[i] = (uint16_t)(count - 1 - i);
    epoll->free_count = count;
    return 0;
}

// Edge-triggered: each write to it is an event, whether or not anybody has read what was written before. So nobody reads it.
static int open_event(struct epoll *epoll) {
    epoll->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (epoll->event_fd < 0)
        return -errno;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = EVENT_SLOT};
    return epoll_ctl(epoll->fd, EPOLL_CTL_ADD, epoll->event_fd, &event) == 0 ? 0 : -errno;
}

static int open_parts(struct epoll *epoll) {
    epoll->fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll->fd < 0)
        return sc_explain_failure("epoll_create1", -errno);
    int rc = open_buffers(epoll);
    if (rc != 0)
        return sc_explain_failure("allocating receive buffers", rc);
    epoll->prepared = calloc(SC_LOOP_SENDS_PER_SLICE, sizeof *epoll->prepared);
    epoll->pieces = calloc(SC_LOOP_SENDS_PER_SLICE, sizeof *epoll->pieces);
    if (epoll->prepared == NULL || epoll->pieces == NULL)
        return sc_explain_failure("allocating the send pool", -ENOMEM);
    rc = open_event(epoll);
    if (rc != 0)
        return sc_explain_failure("eventfd", rc);
    return sc_explain_failure("preparing threads for files", sc_epoll_pool_open(epoll));
}

static void close_parts(struct epoll *epoll) {
    sc_epoll_pool_close(epoll);
    if (epoll->event_fd >= 0)
        close(epoll->event_fd);
    if (epoll->fd >= 0)
        close(epoll->fd);
    sc_buffers_unmap(&epoll->base);
    free(epoll->free_buffers);
    free(epoll->prepared);
    free(epoll->pieces);
    free(epoll->line.slots);
    free(epoll->finished.entries);
    sc_table_deinit(&epoll->sends); // None waits: who sent it has been told.
    while (epoll->spare_sends != NULL) {
        struct sc_table_node *send = epoll->spare_sends;
        epoll->spare_sends = send->next;
        free(send);
    }
    while (epoll->spare_jobs != NULL) {
        struct job *job = epoll->spare_jobs;
        epoll->spare_jobs = job->next;
        free(job);
    }
    free(epoll);
}

static int open_backend(const struct sc_backend *base, struct sc_backend **out) {
    struct epoll *epoll = calloc(1, sizeof *epoll);
    if (epoll == NULL)
        return sc_explain_failure("allocating the poller", -ENOMEM);
    epoll->base = *base;
    epoll->fd = epoll->event_fd = -1;
    sc_sched_give_way(base->config->slice_us);
    snprintf(epoll->base.description, sizeof epoll->base.description,
             "epoll (%u x %u bytes to receive, files by at most %u threads)",
             base->config->receive_buffer_count, base->config->receive_buffer_size,
             SC_EPOLL_THREADS_MAX);
    *out = &epoll->base;
    int rc = open_parts(epoll);
    if (rc != 0)
        close_parts(epoll);
    return rc;
}

static void close_backend(struct sc_backend *backend) {
    close_parts(sc_epoll_of(backend));
}

static void explain(int rc, const char *failed_step, char *out, size_t size) {
    const char *step = failed_step != NULL ? failed_step : "epoll_create1";
    if (rc == -EMFILE || rc == -ENFILE)
        snprintf(out, size,
                 "no descriptor is left (%s): raise the limit of open files (ulimit -n, "
                 "LimitNOFILE=)",
                 step);
    else if (rc == -ENOMEM)
        snprintf(out, size, "no memory for epoll (%s): give the process more memory", step);
    else
        snprintf(out, size, "epoll cannot be used: %s failed: %s", step, strerrordesc_np(-rc));
}

// ---- The line

// EPOLLPRI: receiving stops at urgent data, though there may be more behind it.
int sc_epoll_add(struct epoll *epoll, uint32_t index, struct sc_slot *slot) {
    if ((slot->backend_flags & SLOT_ADDED) != 0)
        return 0;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
                                .data.u32 = index};
    epoll->base.counters->enters++;
    if (epoll_ctl(epoll->fd, EPOLL_CTL_ADD, slot->backend_fd, &event) != 0)
        return -errno;
    slot->backend_flags |= SLOT_ADDED;
    return 0;
}

static bool grow_line(struct line *line) {
    uint32_t capacity = line->capacity == 0 ? 256 : line->capacity * 2;
    uint32_t *slots = malloc(capacity * sizeof *slots);
    if (slots == NULL)
        return false;
    for (uint32_t i = 0; i < line->count; i++)
        slots[i] = line->slots[(line->head + i) & (line->capacity - 1)];
    free(line->slots);
    *line = (struct line){slots, 0, line->count, capacity};
    return true;
}

void sc_epoll_line_up(struct epoll *epoll, uint32_t index, struct sc_slot *slot) {
    struct line *line = &epoll->line;
    if ((slot->backend_flags & SLOT_LISTED) != 0)
        return;
    if (line->count == line->capacity && !grow_line(line)) {
        epoll->base.error = -ENOMEM; // Nobody would serve it any more.
        return;
    }
    slot->backend_flags |= SLOT_LISTED;
    line->slots[(line->head + line->count++) & (line->capacity - 1)] = index;
}

static uint32_t line_first(struct epoll *epoll) {
    struct line *line = &epoll->line;
    uint32_t index = line->slots[line->head];
    line->head = (line->head + 1) & (line->capacity - 1);
    line->count--;
    sc_loop_slot(epoll->base.loop, index)->backend_flags &= (uint16_t)~SLOT_LISTED;
    return index;
}

// ---- Completions

static bool grow(struct finished *finished) {
    uint32_t capacity = finished->capacity == 0 ? 512 : finished->capacity * 2;
    struct sc_completion *entries = malloc(capacity * sizeof *entries);
    if (entries == NULL)
        return false;
    for (uint32_t i = 0; i < finished->count; i++)
        entries[i] = finished->entries[(finished->head + i) & (finished->capacity - 1)];
    free(finished->entries);
    *finished = (struct finished){entries, 0, finished->count, capacity};
    return true;
}

void sc_epoll_finish(struct epoll *epoll, uint64_t tag, int32_t result, uint32_t flags) {
    struct finished *finished = &epoll->finished;
    if (finished->count == finished->capacity && !grow(finished)) {
        epoll->base.error = -ENOMEM; // A completion is lost: nothing can be relied on.
        return;
    }
    uint32_t at = (finished->head + finished->count++) & (finished->capacity - 1);
    finished->entries[at] = (struct sc_completion){tag, result, flags};
}

static uint32_t take_finished(struct epoll *epoll, struct sc_completion *out, uint32_t most) {
    struct finished *finished = &epoll->finished;
    uint32_t count = finished->count < most ? finished->count : most;
    for (uint32_t i = 0; i < count; i++)
        out[i] = finished->entries[(finished->head + i) & (finished->capacity - 1)];
    finished->count -= count;
    finished->head = finished->count == 0 ? 0 : finished->head + count;
    return count;
}

// True: somebody of the line gets a receive in this turn. All that are in the line get one before anybody gets the next.
static bool goes_round(struct epoll *epoll) {
    if (epoll->round_left == 0 && epoll->rounds_left > 0) {
        epoll->rounds_left--;
        epoll->round_left = epoll->line.count;
    }
    return epoll->round_left > 0 && !epoll->starved;
}

static uint32_t take_received(struct epoll *epoll, struct sc_completion *out, uint32_t most) {
    uint32_t count = 0;
    while (count < most && goes_round(epoll)) {
        epoll->round_left--;
        count += sc_epoll_serve(epoll, line_first(epoll), out + count, most - count);
    }
    if (count < most)
        epoll->taking = false;
    return count;
}

// Receives are made by the taking at the beginning of a turn alone: that of a flush wants to know of its sends, and the
// buffers that it would fill are of no use before the next turn.
static uint32_t take(struct sc_backend *backend, struct sc_completion *out, uint32_t most) {
    struct epoll *epoll = sc_epoll_of(backend);
    if (sc_epoll_pool_has_done(epoll))
        sc_epoll_pool_take(epoll);
    uint32_t count = epoll->finished.count > 0 ? take_finished(epoll, out, most) : 0;
    if (epoll->taking && count < most)
        count += take_received(epoll, out + count, most - count);
    backend->counters->completions += count;
    return count;
}

static void run_own(struct sc_backend *backend, const struct sc_completion *completion) {
    (void)backend;
    (void)completion;
    assert(false); // There is none.
}

// ---- Sleeping

// A slot without a descriptor, or with another one: see sc_epoll_close_socket.
static void note_event(struct epoll *epoll, const struct epoll_event *event) {
    uint32_t index = event->data.u32, events = event->events;
    if (index == EVENT_SLOT)
        return; // That it has ended the sleep was all.
    struct sc_slot *slot = sc_loop_slot(epoll->base.loop, index);
    if ((slot->backend_flags & SLOT_USED) == 0)
        return;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLERR | EPOLLHUP)) != 0) {
        slot->backend_flags |= SLOT_READABLE;
        if ((events & (EPOLLRDHUP | EPOLLPRI | EPOLLERR | EPOLLHUP)) != 0)
            slot->backend_flags |= SLOT_READ_ON;
        if ((slot->backend_flags & (SLOT_RECEIVING | SLOT_ACCEPTING)) != 0)
            sc_epoll_line_up(epoll, index, slot);
    }
    if ((slot->backend_flags & SLOT_WAITING) != 0 &&
        (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
        sc_epoll_writable(epoll, index, slot);
}

static bool is_refused(int error) {
    return error == ENOSYS || error == EPERM; // By an older kernel, or by an older filter.
}

static int poll_events(struct epoll *epoll, struct epoll_event *events, uint64_t timeout_ns) {
    epoll->base.counters->enters++;
    if (timeout_ns == 0 || timeout_ns == UINT64_MAX)
        return epoll_wait(epoll->fd, events, SC_EPOLL_EVENTS_MAX, timeout_ns == 0 ? 0 : -1);
    if (!epoll->rounded_waits) {
        struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                                   .tv_nsec = (long)(timeout_ns % 1000000000u)};
        int count = epoll_pwait2(epoll->fd, events, SC_EPOLL_EVENTS_MAX, &timeout, NULL);
        if (count >= 0 || !is_refused(errno))
            return count;
        epoll->rounded_waits = true;
    }
    uint64_t timeout_ms = timeout_ns / NS_PER_MS + 1; // Late, and never early.
    return epoll_wait(epoll->fd, events, SC_EPOLL_EVENTS_MAX,
                      timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms);
}

static bool has_ready(const struct epoll *epoll) {
    return epoll->finished.count > 0 || epoll->line.count > 0 || sc_epoll_pool_has_done(epoll);
}

static void gather(struct epoll *epoll, uint64_t timeout_ns) {
    struct epoll_event events[SC_EPOLL_EVENTS_MAX];
    int count = poll_events(epoll, events, timeout_ns);
    if (count < 0 && errno != EINTR)
        epoll->base.error = -errno;
    for (int i = 0; i < count; i++)
        note_event(epoll, &events[i]);
}

static void wait_for_events(struct sc_backend *backend, uint64_t timeout_ns) {
    struct epoll *epoll = sc_epoll_of(backend);
    if (backend->error != 0)
        return;
    sc_epoll_submit(backend);
    gather(epoll, has_ready(epoll) ? 0 : timeout_ns);
    epoll->taking = true;
    epoll->starved = false;
    epoll->rounds_left = SC_EPOLL_RECEIVES_PER_TURN;
    epoll->round_left = 0;
}

static unsigned look(const struct sc_backend *backend) {
    const struct epoll *epoll = (const struct epoll *)(const void *)backend;
    return has_ready(epoll) ? SC_BACKEND_READY : 0;
}

static unsigned look_by_call(struct sc_backend *backend) {
    struct epoll *epoll = sc_epoll_of(backend);
    if (!has_ready(epoll) && backend->error == 0)
        gather(epoll, 0);
    return look(backend);
}

void sc_epoll_wake(struct sc_backend *to, struct sc_backend *from) {
    (void)from;
    // Fails only when the counter is full, after more wake-ups than there can be.
    (void)eventfd_write(sc_epoll_of(to)->event_fd, 1);
}

static bool buffers_are_empty(const struct sc_backend *backend) {
    return backend->buffers_out == 0;
}

static uint64_t end_turn(struct sc_backend *backend) {
    return sc_buffers_trim(backend, &sc_epoll_of(backend)->trim, buffers_are_empty);
}

static uint64_t clock_ns(const struct sc_backend *backend, clockid_t clock) {
    (void)backend;
    return sc_clock_ns(clock);
}

const struct sc_backend_kind sc_epoll = {.name = "epoll",
                                         .open = open_backend,
                                         .close = close_backend,
                                         .explain = explain,
                                         .accept = sc_epoll_accept,
                                         .receive = sc_epoll_receive,
                                         .send = sc_epoll_send,
                                         .connect = sc_epoll_connect,
                                         .cancel = sc_epoll_cancel,
                                         .close_socket = sc_epoll_close_socket,
                                         .shutdown = sc_socket_end_stream,
                                         .unacknowledged = sc_socket_in_kernel,
                                         .give_buffer = sc_epoll_give_buffer,
                                         .files = &sc_epoll_files,
                                         .submit = sc_epoll_submit,
                                         .wait = wait_for_events,
                                         .look = look,
                                         .look_by_call = look_by_call,
                                         .take = take,
                                         .run = run_own,
                                         .end_turn = end_turn,
                                         .wake = sc_epoll_wake,
                                         .clock_ns = clock_ns};
