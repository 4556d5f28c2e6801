// The history of a topic: its events since the oldest reader's place, in the order in which this shard has them.
//
// One mechanism serves everybody that gets events later than they happen:
//   - a join whose `sync` a function makes reads from the position at which the join took place;
//   - a member that waits for another `sync` of its group stands still at the position of that `sync`;
//   - a kept `sync` stands at its own position, so that the events behind it can follow it to a joiner.
//
// A topic has two histories at most. `topic->history` is of what is delivered on this shard. `topic->progress`, at the
// owner only, is of what happens, which is ahead of what is delivered by the changes that are not durable yet. Both
// exist only while they have a reader: a topic that nobody waits for keeps nothing.
//
// The bytes lie in blobs that are only appended to. Readers, sends on their way out and other shards share them.
//
// Thread: that of the shard.
#ifndef CSTREAM_CORE_HISTORY_H
#define CSTREAM_CORE_HISTORY_H

#include "core_private.h"

#pragma clang assume_nonnull begin

/// What is appended.
struct history_event {
    struct slice
        frame; // Borrowed: its bytes are copied, or shared when they are a blob of their own.
    uint64_t position; // Of the owner's store.
    const struct sc_bytes *_Nullable item;
    bool change; // Of an item in the store; false: an event that a worker has sent.
};

/// Which events a reader is given.
struct history_filter {
    const struct sc_bytes *_Nullable item; // NULL: those of all items, and those without one.
    bool changes;                          // Changes only.
};

/// A run of frames, one behind the other.
struct history_part {
    struct sc_blob *bytes;
    uint32_t offset, size;
    uint32_t count; // Frames.
};
/// Borrows `part->bytes` until it returns.
typedef void history_visit(void *context, const struct history_part *part);

/// Places `reader` behind the newest event of `*home`, which is made when there is none.
///
/// Owns: the history keeps `reader` until sc_history_leave, or until the reader is lost.
void sc_history_enter(struct shard *shard, struct history *_Nullable *_Nonnull home,
                      struct history_reader *reader);
/// Frees what no other reader needs, and `*home` with its last reader. Does nothing for a reader that reads nothing.
void sc_history_leave(struct history_reader *reader);
/// Appends an event. Over the bound of limits.stream_client_outbound_bytes the oldest readers are lost, one after the
/// other, until the rest fits: `lost` is set, and they read nothing any more.
void sc_history_append(struct history *history, const struct history_event *event);
/// Visits the events from the reader's place on, in their order.
void sc_history_read(const struct history_reader *reader, const struct history_filter *filter,
                     history_visit *visit, void *context);
/// Places the reader behind the newest event.
void sc_history_skip(struct history_reader *reader);
/// Bytes of all frames from the reader's place on.
uint64_t sc_history_behind(const struct history_reader *reader);

/// Sends the events from the reader's place on to a connection of this shard, and places the reader behind them.
void sc_history_send(struct history_reader *reader, const struct history_filter *filter,
                     struct connection *connection);

#pragma clang assume_nonnull end

#endif
