// The clients of the node: stream clients that join and leave, workers that call. They speak bytes, as real ones do.
#ifndef NODE_SIMULATOR_CLIENTS_H
#define NODE_SIMULATOR_CLIENTS_H

#include "checker.h"
#include "world.h"

#pragma clang assume_nonnull begin

#define CLIENTS_MAX 64u
#define CALLS_MAX 4096u

enum call_kind { CALL_SET, CALL_UPDATE, CALL_DELETE, CALL_CUSTOM, CALL_GET, CALL_LIST };

/// A call of a worker. Its answers come in the order of the calls.
struct call_made {
    enum call_kind kind;
    uint32_t group, item;
    uint64_t number; // What it writes. Of a deletion: 0 until the answer says what went.
    uint64_t least;  // Entries that the order of its group had then.
    bool answered, failed;
    uint64_t old; // By the answer.
};

/// A frame that waits until the order of its group has what came before it.
struct early_frame {
    uint32_t group;
    struct event event;
    uint64_t *_Nullable values; // Of a `sync`.
    uint32_t count;
    uint64_t shown; // As checker_sync has it.
    bool refused;   // In place of a `sync`.
};

struct client {
    uint32_t index;
    struct peer *peer;
    struct checker *checker;
    struct world *world;
    bool worker, open, ended; // `ended`: the node has closed it, or it has closed itself.
    enum node_simulator_harm harm;
    struct early_frame *_Nullable swapped; // It comes after the next one.
    bool slow;                             // Reads now and then, and little.
    struct bytes inbox;                    // Read, not understood yet.
    struct view views[GROUPS_MAX];
    struct early_frame *_Nullable early;
    uint32_t early_count, early_capacity;
    struct call_made *_Nullable calls;
    uint32_t call_count, answered;
};

/// Connects, and asks for the upgrade; with `group` the path names that, which is a join.
bool client_connect(struct client *client, struct world *world, struct checker *checker,
                    uint32_t index, uint32_t listener, uint32_t group, size_t room);
void client_join(struct client *client, uint32_t group, uint32_t id, uint32_t item);
void client_leave(struct client *client, uint32_t group, uint32_t id);
/// What its ids of subscriptions are, written to `out`.
#define SUBSCRIPTION_ID_SIZE 40
int subscription_id_write(char out[SUBSCRIPTION_ID_SIZE], uint32_t client, uint32_t group,
                          uint32_t id);
/// A worker calls. `padding` is what a value has beside its number.
void client_call(struct client *client, enum call_kind kind, uint32_t group, uint32_t item,
                 uint32_t padding);
/// Reads at most so many bytes, and holds them against what must be.
void client_read(struct client *client, size_t most);
/// Goes, with a close frame or without.
void client_close(struct client *client, bool politely);
/// All is quiet.
void client_end(struct client *client);
void client_free(struct client *client);

#pragma clang assume_nonnull end

#endif
