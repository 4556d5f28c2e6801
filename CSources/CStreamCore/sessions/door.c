// Peers over a limit at the door. The stream port answers 503, from which browsers come again. The worker ports answer
// 101 and close with 1012 later: SDKs of workers come back from that, and not from an answer in HTTP. Such a close is
// sent at a pace, so that those who come back at once do not spend the node's time with nothing but handshakes.
//
// As many as `limits.turned_away` are answered at a time on each kind of port. When so many workers wait for their
// close the worker ports accept no further connection, and the kernel's queue holds the others. On the stream port one
// more is closed without an answer.
#include <stdlib.h>

#include "sessions.h"

// The listeners are the first shard's.
// Listeners of the worker ports are the first shard's: it alone pauses them, in whatever order it is told.
static void look(struct shard *first) {
    struct node *node = first->node;
    bool full = atomic_load_explicit(&node->turned_away[DOOR_WORKER], memory_order_relaxed) >=
                node->config.turned_away_count_max;
    if (sessions_of(first)->listeners.closing || sessions_of(first)->workers_paused == full)
        return;
    sessions_of(first)->workers_paused = full;
    first->counters.accepts_paused += full;
    sc_listeners_pause(&sessions_of(first)->listeners,
                       sessions_of(first)->worker_entrances[0].port.role, full);
}

struct door_message {
    struct sc_loop_message message;
    struct shard *first;
};

static void arrived(struct sc_loop_message *message) {
    struct door_message *own = SC_CONTAINER_OF(message, struct door_message, message);
    look(own->first);
    free(own);
}

// The door became full, or has room again.
static void tell_first(struct shard *shard) {
    struct shard *first = shard->node->shards[0];
    if (shard == first) {
        look(first);
        return;
    }
    struct door_message *message = sc_allocate(sizeof *message);
    *message = (struct door_message){.message.run = arrived, .first = first};
    sc_loop_post(first->loop, &message->message);
}

static void enter(struct shard *shard, enum door door) {
    struct node *node = shard->node;
    uint32_t before = atomic_fetch_add_explicit(&node->turned_away[door], 1, memory_order_relaxed);
    if (door == DOOR_WORKER && before + 1 == node->config.turned_away_count_max)
        tell_first(shard);
}

// Counted for the whole node: a flood spread over shards is one flood.
bool sc_door_enter(struct shard *shard, enum door door, uint32_t places) {
    struct node *node = shard->node;
    if (atomic_load_explicit(&node->turned_away[door], memory_order_relaxed) >= places)
        return false;
    enter(shard, door);
    return true;
}

void sc_door_leave(struct shard *shard, enum door door) {
    struct node *node = shard->node;
    uint32_t before = atomic_fetch_sub_explicit(&node->turned_away[door], 1, memory_order_relaxed);
    if (door == DOOR_WORKER && before == node->config.turned_away_count_max)
        tell_first(shard);
}

// Its head has been answered, so the close frame is understood by its SDK, which then waits before it comes again.
void sc_door_turn_away(struct connection *connection) {
    struct shard *shard = connection_shard(connection);
    struct worker *worker = worker_of(connection);
    if (!worker->over_limit) {
        worker->turned_away = true;
        enter(shard, DOOR_WORKER);
    }
    shard->counters.workers_turned_away++;
    sc_connection_pause(connection); // What it says meanwhile stays in its socket.
    sc_wait_list_add(&sessions_of(shard)->turned_away, &worker->door);
    if (sessions_of(shard)->door_timer.due_ns == 0)
        sc_timer_start(shard->loop, &sessions_of(shard)->door_timer, SC_TURN_AWAY_PACE_MS);
}

// The one place that takes them from their list, but for the end of a connection.
void sc_door_due(struct sc_timer *timer) {
    struct sessions *sessions = SC_CONTAINER_OF(timer, struct sessions, door_timer);
    struct shard *shard = &sessions->calls.streams.shard;
    struct sc_wait_node *node = sc_wait_list_take(&sessions->turned_away);
    if (node == NULL)
        return;
    struct worker *worker = SC_CONTAINER_OF(node, struct worker, door);
    sc_connection_close(&worker->caller.connection, 1012, "too many workers; come again");
    if (!sc_wait_list_is_empty(&sessions->turned_away))
        sc_timer_start(shard->loop, timer, SC_TURN_AWAY_PACE_MS);
}
