// A topic's log: the frames that its subscribers get, one after the other, as bytes of the wire. Whoever is
// ahead brings a frame first; it is parsed and held against the oldest write that has not been seen. All others
// only compare bytes. A `sync` says where in the log its receiver begins: where the items were as it shows them.
#include "load_private.h"

#include "CStreamJSON.h"

#include <stdio.h>
#include <stdlib.h>

#define LOG_LIMIT (256u << 10)
/// A subscriber that is this far behind is given up.
#define LOG_BEHIND_MAX (64u << 20)
/// Writes that are remembered when their frames are not, at least.
#define PAST_MIN 4096u

void sc_load_topic_init(struct topic *topic, struct work *work, uint32_t number) {
    *topic = (struct topic){.work = work, .log_limit = LOG_LIMIT};
    topic->past_capacity = PAST_MIN;
    while (topic->past_capacity < work->config.item_count && topic->past_capacity < 16 * PAST_MIN)
        topic->past_capacity *= 2;
    topic->items = sc_load_allocate(work->config.item_count * sizeof *topic->items);
    memset(topic->items, 0, work->config.item_count * sizeof *topic->items);
    uint8_t digits[20];
    size_t size = sc_decimal_write(digits, number);
    topic->name[0] = (char)('a' + work->index);
    memcpy(topic->name + 1, digits, size);
    topic->name_size = (uint32_t)size + 1;
}

static void syncs_free(struct topic *topic) {
    for (uint32_t i = 0; i < SYNC_REFERENCES_MAX; i++) {
        free(topic->syncs[i].bytes);
        topic->syncs[i] = (struct sync_reference){0};
    }
}

void sc_load_topic_deinit(struct topic *topic) {
    syncs_free(topic);
    sc_buffer_deinit(&topic->log);
    free(topic->items);
    free(topic->entries);
    free(topic->past);
    free(topic->writes);
}

struct entry *sc_load_topic_entry(const struct topic *topic, uint64_t index) {
    assert(index >= topic->entry_base && index < topic->entry_end);
    return &topic->entries[index & (topic->entry_capacity - 1)];
}

// An entry keeps only its end: frames lie one behind the other, so the end of one is the start of the next.
// The first entry of the log has no entry before it and starts where the log does.
static uint64_t entry_start(const struct topic *topic, uint64_t index) {
    return index == topic->entry_base ? topic->log_base
                                      : sc_load_topic_entry(topic, index - 1)->end;
}

// ---- Writes that were asked for

// The ring doubles and is never made smaller: its size is the largest number of writes in flight, which the
// configuration bounds. Copying in order sets the head to 0, so the mask of the new capacity holds.
void sc_load_topic_write_expect(struct topic *topic, const struct call *call) {
    if (topic->write_count == topic->write_capacity) {
        uint32_t capacity = topic->write_capacity == 0 ? 16 : topic->write_capacity * 2;
        struct write *writes = sc_load_allocate(capacity * sizeof *writes);
        for (uint32_t i = 0; i < topic->write_count; i++)
            writes[i] = topic->writes[(topic->write_head + i) & (topic->write_capacity - 1)];
        free(topic->writes);
        topic->writes = writes;
        topic->write_head = 0;
        topic->write_capacity = capacity;
    }
    uint32_t at = (topic->write_head + topic->write_count++) & (topic->write_capacity - 1);
    topic->writes[at] = (struct write){.intended_ns = call->intended_ns,
                                       .old_count = call->old_count,
                                       .new_count = call->new_count,
                                       .item = call->item,
                                       .op = call->op};
}

static const struct write *write_at(const struct topic *topic, uint32_t index) {
    return &topic->writes[(topic->write_head + index) & (topic->write_capacity - 1)];
}

// The write has been seen: the items are as it left them.
static struct write take_write(struct topic *topic) {
    struct write write = *write_at(topic, 0);
    topic->write_head = (topic->write_head + 1) & (topic->write_capacity - 1);
    topic->write_count--;
    topic->seen_number++;
    struct item *item = &topic->items[write.item];
    if (item->seen == 0 && write.new_count != 0) {
        item->created = ++topic->created_next;
        topic->item_count_seen++;
    } else if (item->seen != 0 && write.new_count == 0) {
        topic->item_count_seen--;
    }
    item->seen = write.new_count;
    return write;
}

// In the mode in which a write counts as done with its delivery, this is the place that lets the next write begin.
void sc_load_topic_delivered(struct topic *topic) {
    if (!topic->work->config.until_delivered)
        return;
    assert(topic->in_flight > 0);
    topic->in_flight--;
    sc_load_topic_hungry(topic);
}

// ---- Trimming

static void keep(uint64_t *least, uint64_t index) {
    if (index < *least)
        *least = index;
}

static struct write *past_at(const struct topic *topic, uint64_t index) {
    return &topic->past[index & (topic->past_capacity - 1)];
}

// A server may begin with an older `sync` and the frames that follow it.
static void past_push(struct topic *topic, uint64_t index, struct write write) {
    if (topic->past == NULL)
        topic->past = sc_load_allocate(topic->past_capacity * sizeof *topic->past);
    *past_at(topic, index) = write;
    if (index + 1 - topic->past_base > topic->past_capacity)
        topic->past_base = index + 1 - topic->past_capacity;
}

// The log's entries before `end` become the past.
static void past_take(struct topic *topic, uint64_t end) {
    for (uint64_t i = topic->entry_base; i < end; i++) {
        const struct entry *entry = sc_load_topic_entry(topic, i);
        past_push(topic, i,
                  (struct write){.item = entry->item,
                                 .old_count = entry->old_count,
                                 .new_count = entry->new_count});
    }
    topic->entry_base = end;
}

// After a `sync` whose items cannot be placed in the past, old writes prove nothing.
static void past_forget(struct topic *topic) {
    topic->past_base = topic->entry_end;
}

// The log is cut at the oldest position that somebody still needs: a subscriber that is live, or a `sync` that is
// kept for comparison. One slow subscriber would pin it for ever: beyond LOG_BEHIND_MAX it is closed and counted.
// The limit is set to twice what remained, so that the cost of moving bytes is spread over as many new ones.
static void trim(struct topic *topic) {
    if (topic->log.size < topic->log_limit)
        return;
    uint64_t least = topic->entry_end;
    for (struct subscriber *each = topic->first; each != NULL; each = each->topic_next) {
        if (each->state != SUBSCRIBER_LIVE || each->connection.state != STATE_OPEN)
            continue;
        if (topic_log_end(topic) - each->position > LOG_BEHIND_MAX)
            sc_load_connection_close(&each->connection, true);
        else
            keep(&least, each->entry);
    }
    for (uint32_t i = 0; i < SYNC_REFERENCES_MAX; i++)
        if (topic->syncs[i].users > 0)
            keep(&least, topic->syncs[i].entry);
    size_t size = (size_t)(entry_start(topic, least) - topic->log_base);
    memmove(topic->log.data, topic->log.data + size, topic->log.size - size);
    topic->log.size -= size;
    topic->log_base += size;
    past_take(topic, least);
    topic->log_limit = LOG_LIMIT + 2 * topic->log.size;
}

// ---- Reading frames

struct event {
    uint64_t timestamp;
    struct sc_bytes id; // Without quotes; data == NULL: null.
    struct sc_bytes type;
    struct sc_json_value data;
};

static struct sc_bytes unquoted(const struct sc_json_member *member) {
    if (member == NULL || member->value.kind != SC_JSON_STRING)
        return (struct sc_bytes){0};
    return (struct sc_bytes){member->value.text.data + 1, member->value.text.size - 2};
}

static bool is_text(const struct sc_json_member *member, struct sc_bytes text) {
    return member != NULL && member->value.kind == SC_JSON_STRING &&
           sc_bytes_equal(unquoted(member), text);
}

// Every member is looked at, and the order of members is not: another server may write them in another order.
// The index is static because a load runs on one thread and it is too large for the stack. Borrows `text`: the
// event points into it.
static const char *read_event(const struct topic *topic, struct sc_bytes text,
                              struct event *event) {
    static struct sc_json_index index;
    static struct sc_json_member scratch[8];
    const char *stream = topic->work->load->config.stream_name;
    if (sc_json_scan(text, SC_JSON_DEPTH_MAX, &index) < 0 || index.root.kind != SC_JSON_OBJECT)
        return "it is not a JSON object";
    if (!is_text(sc_json_index_find(&index, -1, SC_LITERAL("type"), &scratch[0]),
                 SC_LITERAL("stream")))
        return "its type is not \"stream\"";
    if (!is_text(sc_json_index_find(&index, -1, SC_LITERAL("streamName"), &scratch[1]),
                 (struct sc_bytes){(const uint8_t *)stream, strlen(stream)}))
        return "it names another stream";
    if (!is_text(sc_json_index_find(&index, -1, SC_LITERAL("groupId"), &scratch[2]),
                 (struct sc_bytes){(const uint8_t *)topic->name, topic->name_size}))
        return "it names another group";
    const struct sc_json_member *stamp =
        sc_json_index_find(&index, -1, SC_LITERAL("timestamp"), &scratch[3]);
    if (stamp == NULL || stamp->value.kind != SC_JSON_NUMBER)
        return "it has no timestamp";
    struct sc_json_number number = sc_json_number_read(stamp->value.text);
    if (number.kind != SC_JSON_INT64 || number.int64 <= 0)
        return "its timestamp is no positive integer";
    event->timestamp = (uint64_t)number.int64;
    const struct sc_json_member *id = sc_json_index_find(&index, -1, SC_LITERAL("id"), &scratch[4]);
    if (id == NULL || (id->value.kind != SC_JSON_STRING && id->value.kind != SC_JSON_NULL))
        return "its id is neither a string nor null";
    event->id = unquoted(id);
    const struct sc_json_member *inner =
        sc_json_index_find(&index, -1, SC_LITERAL("event"), &scratch[5]);
    if (inner == NULL || inner->value.kind != SC_JSON_OBJECT)
        return "it has no event";
    int parent = (int)(inner - index.members);
    event->type = unquoted(sc_json_index_find(&index, parent, SC_LITERAL("type"), &scratch[6]));
    const struct sc_json_member *data =
        sc_json_index_find(&index, parent, SC_LITERAL("data"), &scratch[7]);
    if (event->type.data == NULL || data == NULL)
        return "its event has no type or no data";
    event->data = data->value;
    return NULL;
}

// ---- New frames

// A count of 0 stands for an item that is not there, so the kind of a change follows from the two counts.
static const char *event_type(const struct write *write) {
    return write->new_count == 0 ? "delete" : write->old_count == 0 ? "create" : "update";
}

#define SHOWN_MAX 200
#define SHOWN(bytes)                                                                               \
    (int)((bytes).size < SHOWN_MAX ? (bytes).size : SHOWN_MAX), (const char *)(bytes).data

// Counts are shown as they are on the wire, with COUNT_BASE, so that they can be found in a capture.
static void describe(char *out, size_t size, const struct write *write) {
    snprintf(out, size, "%s of i%u to count %llu", event_type(write), ITEM_BASE + write->item,
             (unsigned long long)(COUNT_BASE +
                                  (write->new_count != 0 ? write->new_count : write->old_count)));
}

// Whether the event says what the write did.
static bool fits(const struct topic *topic, const struct event *event, const struct write *write) {
    uint8_t name[ITEM_NAME_SIZE];
    sc_load_item_name_write(name, write->item);
    const char *type = event_type(write);
    uint32_t item;
    uint64_t count;
    return sc_bytes_equal(event->id, (struct sc_bytes){name, sizeof name}) &&
           sc_bytes_equal(event->type, (struct sc_bytes){(const uint8_t *)type, strlen(type)}) &&
           sc_load_value_read(topic->work, event->data.text, &item, &count) &&
           item == write->item &&
           count == (write->new_count != 0 ? write->new_count : write->old_count);
}

void sc_load_topic_explain(struct topic *topic, struct subscriber *from,
                           const struct frame *frame) {
    struct connection *connection = &from->connection;
    char wanted[96] = "nothing";
    struct event event = {0};
    const char *wrong = read_event(topic, frame->payload, &event);
    if (wrong != NULL) {
        sc_load_connection_violates(connection, "expected an event, but %s: %.*s", wrong,
                                    SHOWN(frame->payload));
        return;
    }
    bool known = from->entry < topic->entry_end;
    if (known) {
        const struct entry *entry = sc_load_topic_entry(topic, from->entry);
        struct write write = {
            .item = entry->item, .old_count = entry->old_count, .new_count = entry->new_count};
        describe(wanted, sizeof wanted, &write);
    } else if (topic->write_count > 0) {
        describe(wanted, sizeof wanted, write_at(topic, 0));
    }
    uint32_t item;
    uint64_t count;
    const char *kind = "unexpected frame";
    if (sc_load_value_read(topic->work, event.data.text, &item, &count)) {
        uint64_t next = 0;
        if (known && sc_load_topic_entry(topic, from->entry)->item == item)
            next = sc_load_topic_entry(topic, from->entry)->new_count;
        else if (topic->write_count > 0 && write_at(topic, 0)->item == item)
            next = write_at(topic, 0)->new_count;
        for (uint64_t i = topic->entry_base; i < topic->entry_end; i++) {
            const struct entry *entry = sc_load_topic_entry(topic, i);
            if (entry->item == item && entry->new_count == count)
                kind = i < from->entry ? "repeat or reordering: this one came before"
                                       : "gap or reordering: this one comes later";
        }
        for (uint32_t i = known ? 0 : 1; i < topic->write_count; i++)
            if (fits(topic, &event, write_at(topic, i)))
                kind = "gap or reordering: this one comes later";
        if (next != 0 && count < next && strcmp(kind, "unexpected frame") == 0)
            kind = "repeat: an earlier count of the item";
    }
    sc_load_connection_violates(connection, "%s; expected %s, got %.*s", kind, wanted,
                                SHOWN(frame->payload));
}

bool sc_load_topic_past_frame(struct topic *topic, struct subscriber *from,
                              const struct frame *frame, uint64_t entry) {
    struct event event;
    char wanted[96];
    if (entry < topic->past_base) {
        sc_load_connection_violates(&from->connection, "it is too far behind to be checked");
        return false;
    }
    const struct write *write = past_at(topic, entry);
    topic->work->counters.frames_parsed++;
    if (read_event(topic, frame->payload, &event) == NULL && fits(topic, &event, write))
        return true;
    describe(wanted, sizeof wanted, write);
    sc_load_connection_violates(&from->connection,
                                "behind a sync of before the log: expected %s, got %.*s", wanted,
                                SHOWN(frame->payload));
    return false;
}

// Grows like the ring of writes. Entries keep their index for ever: only `entry_base` and `entry_end` move.
static struct entry *entry_push(struct topic *topic) {
    uint64_t count = topic->entry_end - topic->entry_base;
    if (count == topic->entry_capacity) {
        uint32_t capacity = topic->entry_capacity == 0 ? 16 : topic->entry_capacity * 2;
        struct entry *entries = sc_load_allocate(capacity * sizeof *entries);
        for (uint64_t i = topic->entry_base; i < topic->entry_end; i++)
            entries[i & (capacity - 1)] = *sc_load_topic_entry(topic, i);
        free(topic->entries);
        topic->entries = entries;
        topic->entry_capacity = capacity;
    }
    topic->entry_end++;
    return sc_load_topic_entry(topic, topic->entry_end - 1);
}

// The search is bounded: an item that is 256 entries back had its stamp checked then, and a search through the
// whole log for each frame would make the generator slower than the server.
static uint64_t last_timestamp(const struct topic *topic, uint32_t item) {
    uint64_t looked = 0;
    for (uint64_t i = topic->entry_end; i > topic->entry_base && looked < 256; i--, looked++)
        if (sc_load_topic_entry(topic, i - 1)->item == item)
            return sc_load_topic_entry(topic, i - 1)->timestamp;
    return 0;
}

bool sc_load_topic_append(struct topic *topic, struct subscriber *from, const struct frame *frame,
                          const uint8_t *data) {
    struct work *work = topic->work;
    struct event event;
    work->counters.frames_parsed++;
    if (read_event(topic, frame->payload, &event) != NULL || topic->write_count == 0 ||
        !fits(topic, &event, write_at(topic, 0))) {
        sc_load_topic_explain(topic, from, frame);
        return false;
    }
    uint32_t item = write_at(topic, 0)->item;
    if (work->load->config.protocol == SC_LOAD_STREAM &&
        event.timestamp <= last_timestamp(topic, item)) {
        sc_load_connection_violates(&from->connection, "the timestamps of an item must grow: %.*s",
                                    SHOWN(frame->payload));
        return false;
    }
    struct write write = take_write(topic);
    sc_buffer_append(&topic->log, data, frame->size);
    if (topic->log.failed)
        abort();
    struct entry *entry = entry_push(topic);
    *entry = (struct entry){.end = topic_log_end(topic),
                            .intended_ns = write.intended_ns,
                            .old_count = write.old_count,
                            .new_count = write.new_count,
                            .timestamp = event.timestamp,
                            .item = write.item,
                            .waiting = topic->counted};
    if (entry->waiting == 0)
        sc_load_topic_delivered(topic);
    trim(topic);
    return true;
}

// ---- The state that a `sync` shows

struct snapshot {
    uint64_t *counts; // By item.
    uint64_t mismatches;
    uint32_t item_count;
};

// Reads the values of a list. Returns what is wrong with it, or NULL.
static const char *read_values(const struct topic *topic, struct sc_json_value list,
                               struct snapshot *snapshot, bool ordered) {
    const struct work *work = topic->work;
    if (list.kind != SC_JSON_ARRAY)
        return "its data is no array";
    size_t offset = 0;
    struct sc_json_member member;
    uint32_t created = 0;
    snapshot->item_count = 0;
    memset(snapshot->counts, 0, work->config.item_count * sizeof *snapshot->counts);
    while (sc_json_next(list, &offset, &member)) {
        uint32_t item;
        uint64_t count;
        if (!sc_load_value_read(work, member.value.text, &item, &count) || count == 0)
            return "a value is none that was written";
        if (snapshot->counts[item] != 0)
            return "an item is there twice";
        if (ordered && topic->items[item].created < created)
            return "its order is not that of insertion";
        created = topic->items[item].created;
        snapshot->counts[item] = count;
        snapshot->item_count++;
    }
    return NULL;
}

static void compare_with_seen(const struct topic *topic, struct snapshot *snapshot) {
    snapshot->mismatches = 0;
    for (uint32_t i = 0; i < topic->work->config.item_count; i++)
        snapshot->mismatches += snapshot->counts[i] != topic->items[i].seen;
}

// Goes from the state `from` to `to` of one item.
static void step(struct snapshot *snapshot, uint32_t item, uint64_t from, uint64_t to) {
    bool fitted = snapshot->counts[item] == from, fits_now = snapshot->counts[item] == to;
    if (fitted && !fits_now)
        snapshot->mismatches++;
    else if (!fitted && fits_now)
        snapshot->mismatches--;
}

static bool deletes(const struct work *work) {
    return work->config.weights[SC_LOAD_DELETE] > 0;
}

// Undoes the log from its end until the items are as in the snapshot.
static bool find_behind(const struct topic *topic, struct snapshot snapshot, uint64_t timestamp,
                        uint64_t *entry) {
    uint64_t at = topic->entry_end;
    for (;;) {
        // An item that came and went leaves the state as it was: the stamp tells the two apart.
        bool early = deletes(topic->work) && at > topic->entry_base &&
                     sc_load_topic_entry(topic, at - 1)->timestamp > timestamp;
        if (snapshot.mismatches == 0 && !early) {
            *entry = at;
            return true;
        }
        if (at == topic->entry_base)
            break;
        const struct entry *undone = sc_load_topic_entry(topic, --at);
        step(&snapshot, undone->item, undone->new_count, undone->old_count);
    }
    while (at > topic->past_base) {
        const struct write *undone = past_at(topic, --at);
        step(&snapshot, undone->item, undone->new_count, undone->old_count);
        if (snapshot.mismatches == 0) {
            *entry = at;
            return true;
        }
    }
    return false;
}

// How many of the expected writes the snapshot is ahead; -1: none of them leads to it.
static int64_t find_ahead(const struct topic *topic, struct snapshot snapshot) {
    for (uint32_t i = 0;; i++) {
        if (snapshot.mismatches == 0)
            return i;
        if (i == topic->write_count)
            return -1;
        const struct write *write = write_at(topic, i);
        step(&snapshot, write->item, write->old_count, write->new_count);
    }
}

// The writes that the first `sync` after a restart does not show have not happened; if they were answered,
// they are lost.
static void recover(struct topic *topic) {
    struct work *work = topic->work;
    if (topic->seen_number < topic->answered_number)
        sc_load_load_violation(work->load, "%s lost %llu answered writes over a restart",
                               topic->name,
                               (unsigned long long)(topic->answered_number - topic->seen_number));
    topic->recovering = false;
    past_forget(topic);
    topic->write_count = 0;
    topic->write_number = topic->answered_number = topic->seen_number;
    for (uint32_t i = 0; i < work->config.item_count; i++)
        topic->items[i].sent = topic->items[i].seen;
}

// Nobody has the log any more: it begins again, after `count` of the expected writes.
static void begin(struct topic *topic, uint64_t count) {
    past_take(topic, topic->entry_end);
    for (uint64_t i = 0; i < count; i++) {
        struct write write = take_write(topic);
        past_push(topic, topic->entry_end, write);
        topic->entry_base = ++topic->entry_end;
        if (write.op <= SC_LOAD_DELETE && topic->in_flight > 0)
            sc_load_topic_delivered(topic);
    }
    if (topic->recovering)
        recover(topic);
    topic->log_base += topic->log.size;
    topic->log.size = 0;
    topic->begun = true;
}

static void remember(struct topic *topic, const uint8_t *data, size_t size, uint64_t entry) {
    struct sync_reference *reference = NULL;
    for (uint32_t i = 0; i < SYNC_REFERENCES_MAX && reference == NULL; i++) {
        struct sync_reference *each = &topic->syncs[topic->sync_next++ % SYNC_REFERENCES_MAX];
        if (each->users == 0)
            reference = each;
    }
    if (reference == NULL)
        return;
    free(reference->bytes);
    reference->bytes = sc_load_allocate(size);
    memcpy(reference->bytes, data, size);
    reference->size = size;
    reference->entry = entry;
}

enum sync_verdict sc_load_topic_sync(struct topic *topic, struct subscriber *from,
                                     const struct frame *frame, const uint8_t *data,
                                     uint64_t *entry) {
    struct work *work = topic->work;
    struct event event;
    work->counters.syncs_parsed++;
    const char *wrong = read_event(topic, frame->payload, &event);
    if (wrong == NULL && !sc_bytes_equal(event.type, SC_LITERAL("sync")))
        wrong = "the first frame is no sync";
    struct snapshot snapshot = {.counts =
                                    sc_load_allocate(work->config.item_count * sizeof(uint64_t))};
    if (wrong == NULL)
        wrong = read_values(topic, event.data, &snapshot, topic->begun && !deletes(work));
    if (wrong != NULL) {
        sc_load_connection_violates(&from->connection, "expected a sync, but %s: %.*s", wrong,
                                    SHOWN(frame->payload));
        free(snapshot.counts);
        return SYNC_WRONG;
    }
    compare_with_seen(topic, &snapshot);
    bool behind = !topic->recovering && find_behind(topic, snapshot, event.timestamp, entry);
    int64_t ahead = behind ? 0 : find_ahead(topic, snapshot);
    free(snapshot.counts);
    if (ahead < 0) {
        sc_load_connection_violates(
            &from->connection, "a sync of %u items shows a state that the group never had: %.*s",
            snapshot.item_count, SHOWN(frame->payload));
        return SYNC_WRONG;
    }
    if (topic->begun && ahead > 0 && topic->live > 0)
        return SYNC_AHEAD;
    if (!topic->begun || ahead > 0) {
        begin(topic, (uint64_t)ahead);
        *entry = behind ? *entry : topic->entry_end;
    }
    remember(topic, data, frame->size, *entry);
    return SYNC_OK;
}

// ---- At the end, and after a restart

bool sc_load_topic_check_list(struct topic *topic, struct sc_bytes result) {
    struct work *work = topic->work;
    static struct sc_json_index index;
    struct snapshot snapshot = {.counts =
                                    sc_load_allocate(work->config.item_count * sizeof(uint64_t))};
    const char *wrong =
        sc_json_scan(result, SC_JSON_DEPTH_MAX, &index) < 0 ? "it is not JSON" : NULL;
    if (wrong == NULL)
        wrong = read_values(topic, index.root, &snapshot, topic->begun && !deletes(work));
    for (uint32_t i = 0; wrong == NULL && i < work->config.item_count; i++) {
        if (snapshot.counts[i] != topic->items[i].sent)
            wrong = "an item is not as it was written last";
        else if (topic->begun && topic->live > 0 && snapshot.counts[i] != topic->items[i].seen)
            wrong = "an item is not as its subscribers saw it last";
    }
    free(snapshot.counts);
    if (wrong != NULL)
        sc_load_load_violation(work->load, "the list of %s: %s", topic->name, wrong);
    return wrong == NULL;
}

void sc_load_topic_forget(struct topic *topic, bool empty) {
    syncs_free(topic);
    topic->begun = false;
    topic->pending = NULL;
    topic->in_flight = 0;
    topic->recovering = !empty;
    if (!empty)
        return;
    past_take(topic, topic->entry_end);
    past_forget(topic);
    topic->write_count = 0;
    topic->seen_number = topic->answered_number = topic->write_number;
    topic->item_count_seen = 0;
    for (uint32_t i = 0; i < topic->work->config.item_count; i++)
        topic->items[i].sent = topic->items[i].seen = 0;
}
