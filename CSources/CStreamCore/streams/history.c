
#include <stdlib.h>

#include "streams.h"

#define SEGMENT_SIZE (16u << 10)

/// An event in the ring. Each holds a reference to its blob.
struct entry {
    struct history_part frame;
    uint64_t position;
    uint32_t item_offset, item_size; // In `names`, from the first byte that was ever there.
    bool has_item, change;
};

struct history {
    struct shard *shard;
    struct history *_Nullable *_Nonnull home;
    struct entry *_Nullable ring;
    uint32_t mask;
    uint64_t head, tail; // Numbers of events: the oldest one that is kept, and the next one.
    struct sc_buffer names;
    uint32_t names_dropped;            // Bytes of events that have gone, taken off the front.
    struct sc_blob *_Nullable segment; // Has room for frames behind `segment_used`.
    uint32_t segment_used;
    uint64_t appended;                       // Bytes of all frames, ever.
    uint64_t charged;                        // To the shard's account, for what is kept.
    struct history_reader *_Nullable oldest; // Readers by place.
    struct history_reader *_Nullable newest;
};

// Numbers of events only grow. The ring has a power of two of places, so a number finds its own by a mask.
static struct entry *entry_at(const struct history *history, uint64_t number) {
    return &history->ring[number & history->mask];
}

// ---- Readers

// Readers are in the order of their places, since a new one begins at the end: the first one in the list is the oldest.
static void link_newest(struct history *history, struct history_reader *reader) {
    reader->history = history;
    reader->event = history->tail;
    reader->bytes = history->appended;
    reader->next = NULL;
    reader->previous = history->newest;
    if (history->newest != NULL)
        history->newest->next = reader;
    else
        history->oldest = reader;
    history->newest = reader;
}

static void unlink_reader(struct history_reader *reader) {
    struct history *history = reader->history;
    if (reader->previous != NULL)
        reader->previous->next = reader->next;
    else
        history->oldest = reader->next;
    if (reader->next != NULL)
        reader->next->previous = reader->previous;
    else
        history->newest = reader->previous;
    reader->history = NULL;
    reader->next = reader->previous = NULL;
}

// What an entry costs beside its bytes, which the bound must hold too: events may be a few bytes each.
static uint64_t charge_of(const struct entry *entry) {
    return sizeof *entry + entry->frame.size + entry->item_size;
}

static void drop_names(struct history *history) {
    uint32_t gone = history->head == history->tail
                        ? (uint32_t)history->names.size
                        : entry_at(history, history->head)->item_offset - history->names_dropped;
    if (history->head == history->tail) {
        history->names.size = 0;
        history->names_dropped += gone;
    } else if (gone >= history->names.size / 2 && gone > 0) {
        memmove(history->names.data, history->names.data + gone, history->names.size - gone);
        history->names.size -= gone;
        history->names_dropped += gone;
    }
}

// Frees what lies before the oldest reader, all without one.
// Whatever the oldest reader is past is let go of. Without a reader that is everything.
static void trim(struct history *history) {
    uint64_t first = history->oldest == NULL ? history->tail : history->oldest->event;
    if (history->head == first)
        return;
    uint64_t freed = 0;
    for (; history->head < first; history->head++) {
        struct entry *entry = entry_at(history, history->head);
        freed += charge_of(entry);
        sc_blob_release(entry->frame.bytes);
    }
    drop_names(history);
    history->charged -= freed;
    sc_account_discharge(history->shard->account, SC_PLACE_HISTORY, freed);
}

// A topic that nobody waits for costs nothing: not even an empty history.
static void end_if_unread(struct history *history) {
    if (history->oldest != NULL)
        return;
    trim(history);
    assert(history->charged == 0);
    *history->home = NULL;
    sc_blob_release(history->segment);
    sc_buffer_deinit(&history->names);
    free(history->ring);
    free(history);
}

void sc_history_enter(struct shard *shard, struct history **home, struct history_reader *reader) {
    assert(reader->history == NULL);
    if (*home == NULL) {
        struct history *made = sc_allocate(sizeof *made);
        *made = (struct history){.shard = shard, .home = home};
        *home = made;
    }
    *reader = (struct history_reader){0};
    link_newest(*home, reader);
}

void sc_history_leave(struct history_reader *reader) {
    struct history *history = reader->history;
    if (history == NULL)
        return;
    unlink_reader(reader);
    trim(history);
    end_if_unread(history);
}

// The list stays in order: the reader becomes the newest.
void sc_history_skip(struct history_reader *reader) {
    struct history *history = reader->history;
    if (history == NULL)
        return;
    unlink_reader(reader);
    link_newest(history, reader);
    trim(history);
}

uint64_t sc_history_behind(const struct history_reader *reader) {
    return reader->history == NULL ? 0 : reader->history->appended - reader->bytes;
}

// ---- Events

// The old places are copied by number, not by index: the mask of the larger ring puts them elsewhere.
static void make_room_in_ring(struct history *history) {
    uint64_t count = history->tail - history->head;
    uint32_t capacity = history->ring == NULL ? 0 : history->mask + 1;
    if (count < capacity)
        return;
    uint32_t wider = capacity == 0 ? 16 : capacity * 2;
    struct entry *ring = sc_allocate(wider * sizeof *ring);
    for (uint64_t number = history->head; number < history->tail; number++)
        ring[number & (wider - 1)] = *entry_at(history, number);
    free(history->ring);
    history->ring = ring;
    history->mask = wider - 1;
}

// Where the bytes of the frame lie from now on, with a reference. A large frame shares the blob that it has, or gets
// one of its own; small ones lie side by side.
// Small frames are copied behind each other into a blob, so that a reader sends many with one piece. A large one in a blob of its own is
// shared. The blob is never moved: sends under way point into it.
static bool store_frame(struct history *history, struct slice frame, struct history_part *out) {
    *out = (struct history_part){.size = frame.size, .count = 1};
    if (frame.chunk->external != NULL) {
        out->bytes = sc_blob_retain(frame.chunk->external);
        out->offset = frame.offset;
        return true;
    }
    bool own = frame.size > SEGMENT_SIZE / 4;
    if (!own && (history->segment == NULL || SEGMENT_SIZE - history->segment_used < frame.size)) {
        sc_blob_release(history->segment);
        history->segment = sc_blob_create(SEGMENT_SIZE);
        history->segment_used = 0;
    }
    out->bytes = own ? sc_blob_create(frame.size) : history->segment;
    if (out->bytes == NULL)
        return false;
    if (!own) {
        (void)sc_blob_retain(out->bytes);
        out->offset = history->segment_used;
        history->segment_used += frame.size;
    }
    memcpy(out->bytes->data + out->offset, slice_data(frame), frame.size);
    return true;
}

// One at a time, and only as many as must be: a reader that is lost costs a `sync`.
static void lose_oldest(struct history *history) {
    struct history_reader *reader = history->oldest;
    unlink_reader(reader);
    reader->lost = true;
    history->shard->counters.history_readers_lost++;
    trim(history);
}

void sc_history_append(struct history *history, const struct history_event *event) {
    struct entry entry = {.position = event->position,
                          .has_item = event->item != NULL,
                          .change = event->change,
                          .item_offset = (uint32_t)history->names.size + history->names_dropped};
    assert(history->head == history->tail ||
           entry_at(history, history->tail - 1)->position <= event->position);
    bool stored = store_frame(history, event->frame, &entry.frame);
    if (event->item != NULL) {
        entry.item_size = (uint32_t)event->item->size;
        sc_buffer_append_bytes(&history->names, *event->item);
    }
    if (!stored || history->names.failed)
        abort(); // Bookkeeping without memory: see sc_allocate.
    make_room_in_ring(history);
    *entry_at(history, history->tail++) = entry;
    history->appended += entry.frame.size;
    history->charged += charge_of(&entry);
    sc_account_charge(history->shard->account, SC_PLACE_HISTORY, charge_of(&entry));
    while (history->oldest != NULL && history->charged > history->shard->node->config.stream.budget)
        lose_oldest(history);
    end_if_unread(history);
}

// ---- Reading

static bool passes(const struct history *history, const struct entry *entry,
                   const struct history_filter *filter) {
    if (filter->changes && !entry->change)
        return false;
    if (filter->wants == NULL)
        return true;
    struct sc_bytes item = {history->names.data + (entry->item_offset - history->names_dropped),
                            entry->item_size};
    return filter->wants(filter->context, entry->has_item ? &item : NULL);
}

// Two runs that lie behind each other are one piece of a send.
static bool continues(const struct history_part *part, const struct history_part *next) {
    return part->bytes == next->bytes && part->offset + part->size == next->offset;
}

void sc_history_read(const struct history_reader *reader, const struct history_filter *filter,
                     history_visit *visit, void *context) {
    const struct history *history = reader->history;
    if (history == NULL)
        return;
    struct history_part run = {0};
    for (uint64_t number = reader->event; number < history->tail; number++) {
        const struct entry *entry = entry_at(history, number);
        if (!passes(history, entry, filter))
            continue;
        if (run.count > 0 && continues(&run, &entry->frame)) {
            run.size += entry->frame.size;
            run.count++;
            continue;
        }
        if (run.count > 0)
            visit(context, &run);
        run = entry->frame;
    }
    if (run.count > 0)
        visit(context, &run);
}

// The slice holds the blob as long as the socket has not taken it, whatever becomes of the history.
static void send_part(void *context, const struct history_part *part) {
    struct connection *connection = context;
    struct shard *shard = connection_shard(connection);
    struct slice slice = sc_frames_wrap(shard, part->bytes, part->offset);
    slice.size = part->size;
    sc_out_append(connection, slice);
    sc_slice_release(shard, slice);
    shard->counters.deliveries += part->count;
}

void sc_history_send(struct history_reader *reader, const struct history_filter *filter,
                     struct connection *connection) {
    sc_history_read(reader, filter, send_part, connection);
    sc_history_skip(reader);
}
