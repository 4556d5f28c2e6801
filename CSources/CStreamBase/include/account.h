// Accounts: every byte that waits, for a peer or from it, in C or in Swift, is charged to what has caused it, and has a
// limit. The table below is the only list of the places where bytes wait; docs/limits.md shows it.
#ifndef CSTREAM_ACCOUNT_H
#define CSTREAM_ACCOUNT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// PLACE(NAME, name, owner, writers, setting, at_limit, counter)
///
/// owner:    whose account is charged, CONNECTION, SHARD or NODE.
/// writers:  ONE  only the thread of the account's shard charges and discharges: plain loads and stores.
///           ANY  any thread does.
/// setting:  the key that sets the limit, or the name of a limit in limits.h.
/// at_limit: what happens there.
/// counter:  counts how often that was; every place has a gauge of its own, `waiting_<name>_bytes`.
#define SC_PLACES(PLACE)                                                                           \
    PLACE(OUTBOX, outbox, CONNECTION, ONE,                                                         \
          "limits.stream_client_budget_bytes, limits.worker_budget_bytes",                         \
          "a stream client is closed with 1013 after the grace; a worker's calls wait",            \
          "slow_readers_closed")                                                                   \
    PLACE(UNFINISHED, unfinished, CONNECTION, ONE,                                                 \
          "limits.client_message_bytes, limits.message_bytes", "closed with 1009",                 \
          "messages_too_large")                                                                    \
    PLACE(RECORDS, records, CONNECTION, ONE, "SC_TLS_RECORD_SIZE_MAX, SC_TLS_HANDSHAKE_SIZE_MAX",  \
          "the connection ends", "tls_failures, tls_handshakes_failed")                            \
    PLACE(PARKED, parked, CONNECTION, ONE, "SC_PARKED_SIZE_MAX",                                   \
          "the connection is read no further; calls of an executor are answered too_many_calls",   \
          "calls_parked")                                                                          \
    PLACE(REQUESTS, requests, CONNECTION, ONE, "SC_REQUESTS_SIZE_MAX",                             \
          "no further call of the connection starts", "calls_parked")                              \
    PLACE(ANSWERS, answers, CONNECTION, ANY, "limits.worker_budget_bytes",                         \
          "the worker's calls wait", "calls_parked")                                               \
    PLACE(OUTCOMES, outcomes, CONNECTION, ANY, "limits.worker_budget_bytes",                       \
          "the worker's calls wait", "calls_parked")                                               \
    PLACE(DELIVERIES, deliveries, CONNECTION, ONE, "limits.worker_budget_bytes",                   \
          "a result that waits beyond twice the budget reaches its caller as an error",            \
          "results_too_large")                                                                     \
    PLACE(UPGRADES, upgrades, CONNECTION, ONE, "limits.held_upgrades",                             \
          "503 with Retry-After; a worker is closed with 1012", "upgrades_refused")                \
    PLACE(RESULTS, results, CONNECTION, ANY, "SC_RESULTS_SIZE_MAX",                                \
          "the connection is read no further", "results_held")                                     \
    PLACE(MESSAGES, messages, CONNECTION, ANY,                                                     \
          "limits.stream_client_budget_bytes, limits.worker_budget_bytes",                         \
          "further messages of the connection are parked", "calls_parked")                         \
    PLACE(                                                                                         \
        EVENTS, events, CONNECTION, ANY, "limits.writer_event_bytes",                              \
        "what the connection writes to watched streams and logs waits; after timeouts.handler_ms " \
        "the oldest events are dropped",                                                           \
        "trigger_writers_held")                                                                    \
    PLACE(JOINS, joins, CONNECTION, ANY, "limits.client_message_bytes",                            \
          "a connection joins once at a time: its further messages are parked", "joins_asked")     \
    PLACE(GATHERS, gathers, CONNECTION, ANY, "limits.message_bytes",                               \
          "the list of names is answered result_too_large", "results_too_large")                   \
    PLACE(SNAPSHOTS, snapshots, SHARD, ONE, "limits.snapshot_bytes",                               \
          "joins of large groups wait until there is room", "joins_waited")                        \
    PLACE(HISTORY, history, SHARD, ONE, "limits.stream_client_budget_bytes",                       \
          "the oldest reader is lost: its client gets a newer sync, or is closed with 1013",       \
          "history_readers_lost")                                                                  \
    PLACE(BATCHES, batches, SHARD, ONE, "SC_BATCHES_SIZE_MAX",                                     \
          "no change starts on the shard until the other one has delivered them", "batches_full")

enum sc_place {
#define SC_PLACE_CONSTANT(NAME, ...) SC_PLACE_##NAME,
    SC_PLACES(SC_PLACE_CONSTANT)
#undef SC_PLACE_CONSTANT
        SC_PLACE_COUNT
};

enum sc_place_owner { SC_OWNER_CONNECTION, SC_OWNER_SHARD, SC_OWNER_NODE };

/// A row of the table.
struct sc_place_row {
    const char *name, *setting, *at_limit, *counter;
    uint8_t owner; // enum sc_place_owner
    bool any_thread;
};
extern const struct sc_place_row sc_places[SC_PLACE_COUNT];
/// The same for who cannot index an array of C.
const struct sc_place_row *sc_place_row(enum sc_place place);

/// Bytes that wait by place, over all accounts that were made with it: the gauges.
struct sc_account_sums {
    _Atomic uint32_t references;
    _Atomic uint64_t bytes[SC_PLACE_COUNT];
};
/// With one reference; NULL when memory is out.
struct sc_account_sums *_Nullable sc_account_sums_create(void);
void sc_account_sums_release(struct sc_account_sums *_Nullable sums);
uint64_t sc_account_sums_bytes(const struct sc_account_sums *sums, enum sc_place place);

/// The end of the connection that an account is of, if it has come.
enum sc_account_owner_state {
    SC_ACCOUNT_OPEN,
    SC_ACCOUNT_LEFT, // By the peer: what it asked for before is done, as far as somebody else sees it.
    SC_ACCOUNT_CUT, // By us, or by a reset: what has not begun is not done.
};

/// Bytes that wait because of one connection, shard or node. The account outlives the connection while some wait: each
/// message in Swift's hands holds a reference.
///
/// Thread: retain, release, and places of ANY from any thread; places of ONE from that of the account's shard.
struct sc_account {
    _Atomic uint32_t references;
    _Atomic uint32_t messages;    // In the control plane's hands.
    _Atomic uint8_t state;        // enum sc_account_owner_state; only ever grows.
    _Atomic uint32_t next_answer; // The place of the one that is to leave next.
    _Atomic uint64_t waiting;     // Shards that want to hear when there is room again.
    _Atomic uint64_t own;         // Of the places of ONE,
    _Atomic uint64_t shared;      // and of ANY.
    _Atomic uint64_t bytes[SC_PLACE_COUNT];
    uint64_t limit;
    struct sc_account_sums *sums;
};

/// With one reference; NULL when memory is out. Retains `sums`.
struct sc_account *_Nullable sc_account_create(uint64_t limit, struct sc_account_sums *sums);
static inline struct sc_account *_Nullable sc_account_retain(struct sc_account *_Nullable account) {
    if (account != NULL)
        atomic_fetch_add_explicit(&account->references, 1, memory_order_relaxed);
    return account;
}
/// Frees it with the last reference; nothing may wait any more then (asserted).
void sc_account_release(struct sc_account *_Nullable account);

static inline bool sc_place_is_shared(enum sc_place place) {
    static const bool shared[] = {
#define SC_WRITERS_ONE false
#define SC_WRITERS_ANY true
#define SC_PLACE_SHARED(NAME, name, owner, writers, ...) SC_WRITERS_##writers,
        SC_PLACES(SC_PLACE_SHARED)
#undef SC_PLACE_SHARED
    };
    return shared[place];
}

// Of a word that one thread writes and others read.
static inline void sc_account_add_alone(_Atomic uint64_t *word, uint64_t change) {
    uint64_t before = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, before + change, memory_order_relaxed);
}

static inline void sc_account_change(struct sc_account *account, enum sc_place place,
                                     uint64_t change) {
    if (sc_place_is_shared(place)) {
        atomic_fetch_add_explicit(&account->bytes[place], change, memory_order_relaxed);
        atomic_fetch_add_explicit(&account->shared, change, memory_order_relaxed);
        atomic_fetch_add_explicit(&account->sums->bytes[place], change, memory_order_relaxed);
    } else {
        sc_account_add_alone(&account->bytes[place], change);
        sc_account_add_alone(&account->own, change);
        sc_account_add_alone(&account->sums->bytes[place], change);
    }
}

/// Notes that `size` more bytes wait in `place`. Charging never fails: who can wait asks sc_account_has_room before.
static inline void sc_account_charge(struct sc_account *account, enum sc_place place,
                                     uint64_t size) {
    sc_account_change(account, place, size);
}
/// They wait no more.
static inline void sc_account_discharge(struct sc_account *account, enum sc_place place,
                                        uint64_t size) {
    assert(atomic_load_explicit(&account->bytes[place], memory_order_relaxed) >= size);
    sc_account_change(account, place, 0 - size);
}

static inline uint64_t sc_account_bytes(const struct sc_account *_Nullable account,
                                        enum sc_place place) {
    return account == NULL ? 0 : atomic_load_explicit(&account->bytes[place], memory_order_relaxed);
}
static inline uint64_t sc_account_total(const struct sc_account *_Nullable account) {
    return account == NULL ? 0
                           : atomic_load_explicit(&account->own, memory_order_relaxed) +
                                 atomic_load_explicit(&account->shared, memory_order_relaxed);
}
/// Whether `size` more bytes may wait. One thing that alone is larger than the limit is let into an empty account.
static inline bool sc_account_has_room(const struct sc_account *_Nullable account, uint64_t size) {
    uint64_t total = sc_account_total(account);
    return total == 0 || (total <= account->limit && size <= account->limit - total);
}

static inline enum sc_account_owner_state
sc_account_state(const struct sc_account *_Nullable account) {
    return account == NULL ? SC_ACCOUNT_OPEN
                           : (enum sc_account_owner_state)atomic_load_explicit(
                                 &account->state, memory_order_relaxed);
}
/// Thread: that of the connection.
static inline void sc_account_end(struct sc_account *_Nullable account,
                                  enum sc_account_owner_state state) {
    if (sc_account_state(account) == SC_ACCOUNT_OPEN && account != NULL)
        atomic_store_explicit(&account->state, (uint8_t)state, memory_order_relaxed);
}

// ---- Room for what goes out

/// Bytes that wait to be sent to the owner, or to those whom its calls concern.
static inline uint64_t sc_account_outgoing(const struct sc_account *account) {
    return sc_account_bytes(account, SC_PLACE_OUTBOX) +
           sc_account_bytes(account, SC_PLACE_ANSWERS) +
           sc_account_bytes(account, SC_PLACE_OUTCOMES) +
           sc_account_bytes(account, SC_PLACE_DELIVERIES);
}
/// A call that has to start, as far as its answer takes room.
struct sc_account_call {
    bool answers;
    uint32_t slot; // Of its answer. The one that all others wait for does not wait for them.
};
/// Whether a call may start for what it may bring: it may go over the limit, the next one waits then. If not,
/// sc_account_take_waiting tells `shard` (under SC_SHARD_COUNT_MAX) when there is room.
///
/// Thread: any.
bool sc_account_lets_start(struct sc_account *_Nullable account, struct sc_account_call call,
                           uint32_t shard);
/// The shards that wait for room, once there is some; 0: none. For who has discharged something.
uint64_t sc_account_take_waiting(struct sc_account *account);
/// The answer in `slot` is the next: the shards that wait look whether theirs is it. 0: none.
///
/// Thread: that of the account's shard.
uint64_t sc_account_answer_next(struct sc_account *account, uint32_t slot);

// ---- Messages in the control plane's hands

/// Charges a message of `size` bytes, which holds a reference; nothing for NULL. Those of SC_PLACE_MESSAGES are counted.
void sc_account_hand_over(struct sc_account *_Nullable account, enum sc_place place, uint64_t size);
/// The message is dealt with.
void sc_account_take_back(struct sc_account *_Nullable account, enum sc_place place, uint64_t size);
static inline uint32_t sc_account_messages(const struct sc_account *_Nullable account) {
    return account == NULL ? 0 : atomic_load_explicit(&account->messages, memory_order_relaxed);
}

#pragma clang assume_nonnull end

#endif
