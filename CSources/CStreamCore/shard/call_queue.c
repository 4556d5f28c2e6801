// Calls that wait at the owner of their groups, one queue a connection. A call runs when it arrives, unless
// something holds it: an earlier call of its connection waits here, its connection's list has not begun, the log or
// another shard has no room for what the call would write, its connection has not yet got the answers to earlier
// ones (the account, which wakes the shard), or its connection has used more of the shard's time
// than its share. A call that must wait goes behind the others of its connection, so their order stays.
//
// The shares follow deficit round robin. Work that takes long is measured and becomes the debt of its
// connection. Each turn pays a slice of every debt, and a connection in debt waits. A turn does a bounded amount of
// such work, and when every queue that may run is in debt, the slices are paid at once: no time is left unused.
//
// One place runs the queues: the turn of their shard, which looks at the conditions again each time. So no queue
// depends on a call that somebody must not forget.
#include <stdlib.h>

#include "shard.h"

struct call_queue {
    struct sc_table_node node; // In call_queues->table, by connection.
    struct call_queue *next;   // Of the ring.
    struct call_queue *previous;
    uint64_t connection;
    struct request *_Nullable first;
    struct request *_Nullable last;
    uint32_t lists; // Lists of the connection that have not begun.
    uint64_t debt_ns;
};

// ---- Which calls wait

static uint64_t hash_of(const struct shard *shard, uint64_t connection) {
    struct sc_bytes bytes = {(const uint8_t *)&connection, sizeof connection};
    return sc_hash(bytes, shard->node->config.seed);
}

static struct call_queue *find(struct shard *shard, uint64_t connection) {
    if (shard->call_queues.table.count == 0)
        return NULL;
    struct sc_table_node *node =
        sc_table_first(&shard->call_queues.table, hash_of(shard, connection));
    for (; node != NULL; node = sc_table_next(node)) {
        struct call_queue *queue = SC_CONTAINER_OF(node, struct call_queue, node);
        if (queue->connection == connection)
            return queue;
    }
    return NULL;
}

static struct call_queue *make(struct shard *shard, uint64_t connection) {
    struct call_queue *queue = find(shard, connection);
    if (queue != NULL)
        return queue;
    struct call_queues *queues = &shard->call_queues;
    queue = sc_allocate(sizeof *queue);
    *queue = (struct call_queue){.node.hash = hash_of(shard, connection), .connection = connection};
    if (sc_table_insert(&queues->table, &queue->node) < 0)
        abort(); // Bookkeeping without memory: see sc_allocate.
    // Behind all others: the turn begins at `next`.
    if (queues->next == NULL) {
        queues->next = queue->next = queue->previous = queue;
        return queue;
    }
    queue->next = queues->next;
    queue->previous = queues->next->previous;
    queue->previous->next = queue->next->previous = queue;
    return queue;
}

static void remove_queue(struct shard *shard, struct call_queue *queue) {
    struct call_queues *queues = &shard->call_queues;
    sc_table_remove(&queues->table, &queue->node);
    if (queues->next == queue)
        queues->next = queue->next == queue ? NULL : queue->next;
    queue->previous->next = queue->next;
    queue->next->previous = queue->previous;
    free(queue);
}

static bool has_room(const struct shard *shard, bool writes) {
    if (writes && shard->stalled)
        return false;
    // Reads wait only where their answer would: for what has been changed before them to be durable.
    return shard->log == NULL || !sc_log_is_full(shard->log) ||
           (!writes && shard->node->config.storage.durability != SC_NODE_COMMIT);
}

static bool request_writes(const struct request *request) {
    return request->kind->is_call && sc_call_writes(request->call.op);
}

// Whether there is room at the caller for what the request brings.
static bool may_answer(const struct shard *shard, const struct request *request) {
    struct sc_account_call call = {request->call.wants_answer, request->call.answer};
    return !request->kind->is_call ||
           sc_account_lets_start(request->call.account, call, shard->index);
}

bool sc_call_queue_holds(struct shard *shard, uint64_t connection, bool writes) {
    if (!has_room(shard, writes))
        return true;
    const struct call_queue *queue = find(shard, connection);
    return queue != NULL && (queue->first != NULL || queue->lists > 0 || queue->debt_ns > 0);
}

void sc_call_queue_append(struct shard *shard, struct request *request) {
    struct call_queue *queue = make(shard, request->call.connection);
    request->next_waiting = NULL;
    if (queue->last != NULL)
        queue->last->next_waiting = request;
    else
        queue->first = request;
    queue->last = request;
    shard->call_queues.waiting++;
    shard->counters.calls_queued++;
    sc_shard_turn_again(shard);
}

static void run(struct shard *shard, struct request *request) {
    request->kind->evaluate(shard, request);
    sc_outcomes_release(shard);
}

void sc_call_queue_take(struct shard *shard, struct request *request) {
    if (sc_call_queue_holds(shard, request->call.connection, request_writes(request)) ||
        !may_answer(shard, request))
        sc_call_queue_append(shard, request);
    else
        run(shard, request);
}

// ---- What makes them wait

void sc_call_queue_list_waits(struct shard *shard, uint64_t connection) {
    if (connection != SC_NODE_CONNECTION) // Calls of the node are independent of each other.
        make(shard, connection)->lists++;
}

void sc_call_queue_list_begun(struct shard *shard, uint64_t connection) {
    struct call_queue *queue = find(shard, connection);
    if (queue == NULL)
        return;
    assert(queue->lists > 0);
    queue->lists--;
}

void sc_call_queue_charge(struct shard *shard, uint64_t connection, uint64_t ns) {
    shard->call_queues.turn_ns += ns;
    if (connection != SC_NODE_CONNECTION)
        make(shard, connection)->debt_ns += ns;
}

// ---- The turn

static bool is_runnable(const struct shard *shard, const struct call_queue *queue) {
    return queue->first != NULL && queue->lists == 0 &&
           has_room(shard, request_writes(queue->first)) && may_answer(shard, queue->first);
}

static void run_first(struct shard *shard, struct call_queue *queue) {
    struct request *request = queue->first;
    queue->first = request->next_waiting;
    if (queue->first == NULL)
        queue->last = NULL;
    shard->call_queues.waiting--;
    run(shard, request);
}

static uint64_t paid(uint64_t debt_ns, uint64_t payment_ns) {
    return debt_ns > payment_ns ? debt_ns - payment_ns : 0;
}

// One round: each queue pays a slice of its debt, and those without runs calls until it has one. Returns the least
// debt among those that only wait for that, or UINT64_MAX.
static uint64_t run_round(struct shard *shard, uint64_t payment_ns, uint32_t *calls) {
    struct call_queues *queues = &shard->call_queues;
    uint64_t least_ns = UINT64_MAX;
    size_t count = queues->table.count;
    for (size_t i = 0; i < count && queues->next != NULL; i++) {
        struct call_queue *queue = queues->next;
        queues->next = queue->next;
        queue->debt_ns = paid(queue->debt_ns, payment_ns);
        while (is_runnable(shard, queue) && queue->debt_ns == 0 &&
               *calls < SC_QUEUED_CALLS_PER_TURN && queues->turn_ns < SC_QUEUED_WORK_NS_PER_TURN) {
            run_first(shard, queue);
            ++*calls;
        }
        if (is_runnable(shard, queue) && queue->debt_ns < least_ns)
            least_ns = queue->debt_ns;
        if (queue->first == NULL && queue->lists == 0 && queue->debt_ns == 0)
            remove_queue(shard, queue);
    }
    return least_ns;
}

void sc_call_queues_turn(struct shard *shard) {
    struct call_queues *queues = &shard->call_queues;
    uint32_t calls = 0;
    uint64_t least_ns = run_round(shard, SC_CALL_SLICE_NS, &calls);
    while (least_ns != UINT64_MAX && calls < SC_QUEUED_CALLS_PER_TURN &&
           queues->turn_ns < SC_QUEUED_WORK_NS_PER_TURN)
        least_ns = run_round(shard, least_ns, &calls);
    queues->turn_ns = 0;
    if (least_ns != UINT64_MAX)
        sc_shard_turn_again(shard);
}

bool sc_call_queues_may_run(const struct shard *shard) {
    return has_room(shard, true);
}
