// The control plane of the node: it decides about joins, makes the `sync`s of streams that a function serves, and writes to
// those. What it is asked waits until the simulator has it answer.
#ifndef NODE_SIMULATOR_CONTROL_H
#define NODE_SIMULATOR_CONTROL_H

#include "CStreamCore.h"
#include "CStreamProtocol.h"
#include "clients.h"

#pragma clang assume_nonnull begin

/// What it is asked by the node.
struct question {
    uint64_t connection;
    struct sc_message *message;
};

struct control {
    struct world *world;
    struct checker *checker;
    struct sc_node *_Nullable node;
    struct client *clients;
    bool decides; // About joins.
    bool serves;  // A function has the groups, and not the store.
    struct question *_Nullable questions;
    uint32_t question_count, question_capacity;
    // Of the function: each change is shown by all that it answers from then on.
    struct group_state groups[GROUPS_MAX];
    uint64_t changes[GROUPS_MAX];
    uint64_t allowed, left; // Joins, and the ends of subscriptions that were announced.
};

/// What the node is to be configured with.
uint32_t control_watched(const struct control *control);
/// Keeps what needs an answer. Retains `message`.
void control_hears(struct control *control, uint64_t connection, struct sc_message *message);
/// Answers one of the questions. False: there is none.
bool control_answers(struct control *control);
/// The function changes an item of its own, and says so to the node.
void control_writes(struct control *control, uint32_t group, uint32_t item);
/// The node has stopped: each join that was let in has ended once.
void control_end(struct control *control);
void control_free(struct control *control);

#pragma clang assume_nonnull end

#endif
