// Subscribers: what comes is compared with the topic's log, as bytes. Only at the log's end, or where bytes
// differ, are frames looked at.
#include "load_private.h"

#include "CStreamWebSocket.h"

#include <stdlib.h>

static uint64_t entry_start_of(const struct topic *topic, uint64_t index) {
    return index == topic->entry_base ? topic->log_base
                                      : sc_load_topic_entry(topic, index - 1)->end;
}

// ---- Going live, and no longer

static void count_if_level(struct subscriber *subscriber) {
    struct topic *topic = subscriber->topic;
    if (subscriber->counted || subscriber->stalled || subscriber->entry != topic->entry_end)
        return;
    subscriber->counted = true;
    topic->counted++;
}

void sc_load_subscriber_uncount(struct subscriber *subscriber) {
    struct topic *topic = subscriber->topic;
    if (!subscriber->counted)
        return;
    subscriber->counted = false;
    topic->counted--;
    for (uint64_t i = subscriber->entry; i < topic->entry_end; i++)
        if (--sc_load_topic_entry(topic, i)->waiting == 0)
            sc_load_topic_delivered(topic);
}

void sc_load_subscriber_go_live(struct subscriber *subscriber, uint64_t entry) {
    struct topic *topic = subscriber->topic;
    struct work *work = subscriber->connection.work;
    subscriber->state = SUBSCRIBER_LIVE;
    subscriber->entry = entry;
    subscriber->position = entry_start_of(topic, entry);
    topic->live++;
    work->live++;
    work->counters.syncs++;
    sc_histogram_add(&work->latencies[SC_LOAD_LATENCY_SYNC],
                     sc_load_now_ns() - subscriber->connection.started_ns);
    count_if_level(subscriber);
}

static void leave_pending(struct subscriber *subscriber) {
    struct subscriber **link = &subscriber->topic->pending;
    while (*link != subscriber)
        link = &(*link)->pending_next;
    *link = subscriber->pending_next;
}

void sc_load_subscriber_closed(struct subscriber *subscriber) {
    struct topic *topic = subscriber->topic;
    sc_load_subscriber_uncount(subscriber);
    if (subscriber->state == SUBSCRIBER_SYNCING)
        topic->syncs[subscriber->reference].users--;
    if (subscriber->state == SUBSCRIBER_PENDING)
        leave_pending(subscriber);
    if (subscriber->state == SUBSCRIBER_LIVE) {
        topic->live--;
        subscriber->connection.work->live--;
        if (topic->live == 0)
            topic->begun = false; // Nobody is left to carry the log on.
    }
    if (subscriber->stalled)
        subscriber->connection.work->stalled--;
    subscriber->stalled = subscriber->excused = subscriber->half_open = false;
    subscriber->state = SUBSCRIBER_NEW;
}

// One subscription a connection. Its id matters to nobody here.
static void append_join(struct subscriber *subscriber) {
    struct topic *topic = subscriber->topic;
    const char *stream = topic->work->load->config.stream_name;
    struct sc_buffer text = {0};
    sc_buffer_append_bytes(
        &text,
        SC_LITERAL("{\"type\":\"join\",\"data\":{\"subscriptionId\":\"b\",\"streamName\":\""));
    sc_buffer_append(&text, stream, strlen(stream));
    sc_buffer_append_bytes(&text, SC_LITERAL("\",\"groupId\":\""));
    sc_buffer_append(&text, topic->name, topic->name_size);
    sc_buffer_append_bytes(&text, SC_LITERAL("\"}}"));
    sc_load_message_append(&subscriber->connection.out, sc_buffer_bytes(&text));
    sc_buffer_deinit(&text);
}

static void append_text(struct subscriber *subscriber, const char *before, const char *after) {
    struct sc_buffer *out = &subscriber->connection.out;
    sc_buffer_append(out, before, strlen(before));
    sc_buffer_append(out, subscriber->topic->name, subscriber->topic->name_size);
    sc_buffer_append(out, after, strlen(after));
}

// A raw peer has no `sync`: whoever connects gets what comes from then on. So the log of the topic begins with the first of them.
void sc_load_subscriber_opened(struct subscriber *subscriber) {
    const struct sc_load_config *config = &subscriber->connection.load->config;
    subscriber->state = SUBSCRIBER_NEW;
    switch (config->protocol) {
    case SC_LOAD_STREAM:
        if (!config->join_by_message)
            return;
        append_join(subscriber);
        break;
    case SC_LOAD_RAW:
        subscriber->topic->begun = true;
        sc_load_subscriber_go_live(subscriber, subscriber->topic->entry_end);
        return;
    case SC_LOAD_REDIS:
        append_text(subscriber, "SUBSCRIBE ", "\r\n");
        break;
    case SC_LOAD_NATS:
        append_text(subscriber, "CONNECT {\"verbose\":false}\r\nSUB ", " 1\r\nPING\r\n");
        break;
    }
    sc_load_connection_mark_dirty(&subscriber->connection);
}

// ---- Live

// Everything before `position` has come: counts the frames that are whole now.
// The subscriber that has a frame last completes its delivery, which may open the window of the topic: `waiting` counts down to it.
static void advance(struct subscriber *subscriber, uint64_t position, uint64_t now_ns) {
    struct topic *topic = subscriber->topic;
    struct work *work = topic->work;
    subscriber->position = position;
    uint64_t before = subscriber->entry;
    while (subscriber->entry < topic->entry_end) {
        struct entry *entry = sc_load_topic_entry(topic, subscriber->entry);
        if (entry->end > position)
            break;
        sc_histogram_add(&work->latencies[SC_LOAD_LATENCY_DELIVERY],
                         now_ns > entry->intended_ns ? now_ns - entry->intended_ns : 0);
        subscriber->entry++;
        if (subscriber->counted && --entry->waiting == 0)
            sc_load_topic_delivered(topic);
    }
    work->counters.deliveries += subscriber->entry - before;
    if (!subscriber->counted)
        count_if_level(subscriber);
}

// The bytes from `position` on that the log has, at most `size`, equal `data`: returns how many, or -1.
// All subscribers of a topic get the same bytes. One parses a frame and puts it into the log; for the others a comparison is the whole check,
// at the speed of memory.
static ssize_t compare(const struct subscriber *subscriber, const uint8_t *data, size_t size) {
    const struct topic *topic = subscriber->topic;
    uint64_t left = topic_log_end(topic) - subscriber->position;
    size_t common = left < size ? (size_t)left : size;
    const uint8_t *own = topic->log.data + (subscriber->position - topic->log_base);
    return common == 0 || memcmp(own, data, common) == 0 ? (ssize_t)common : -1;
}

// Pings are answered as a browser does. A close that says why is reported once, with its code.
static void control(struct subscriber *subscriber, const struct frame *frame) {
    struct connection *connection = &subscriber->connection;
    if (frame->kind == FRAME_PING && connection->load->config.protocol == SC_LOAD_NATS)
        sc_buffer_append(&connection->out, "PONG\r\n", 6);
    else if (frame->kind == FRAME_PING)
        sc_load_control_append(&connection->out, SC_WS_PONG, frame->payload);
    if (frame->kind == FRAME_PING)
        sc_load_connection_mark_dirty(connection);
    if (frame->kind == FRAME_CLOSE && !connection->load->restarting && !connection->load->ending &&
        !subscriber->excused) {
        sc_load_load_violation(connection->load, "the server closed a subscriber with %u",
                               frame->close_code);
        connection->announced = true;
    }
}

static void retry_pending(struct topic *topic);

// Whether `data` begins with a whole frame. Bytes that are none end the connection.
// By the protocol of the peer: frames of a WebSocket, replies of Redis, lines of NATS.
static bool whole_frame(struct subscriber *subscriber, const uint8_t *data, size_t size,
                        struct frame *frame) {
    int rc = sc_load_frame_read(subscriber->connection.load->config.protocol, data, size, frame);
    if (rc < 0)
        sc_load_connection_violates(&subscriber->connection, "these bytes are no frame");
    return rc > 0;
}

// At the start of a frame. Returns the bytes used up, 0 when more are needed.
// At the end of the log this subscriber is the first that has the frame: it is parsed, checked and appended. Those that were waiting for
// it look again.
static size_t live_frame(struct subscriber *subscriber, const uint8_t *data, size_t size,
                         uint64_t now_ns) {
    struct topic *topic = subscriber->topic;
    struct frame frame;
    if (!whole_frame(subscriber, data, size, &frame))
        return 0;
    if (frame.kind == FRAME_FRAGMENT) {
        sc_load_connection_violates(&subscriber->connection,
                                    "an event in fragments: values are too large to be checked");
        return 0;
    }
    if (frame.kind != FRAME_DATA) {
        control(subscriber, &frame);
        return frame.size;
    }
    if (subscriber->position == topic_log_end(topic)) {
        if (!sc_load_topic_append(topic, subscriber, &frame, data))
            return 0;
        advance(subscriber, subscriber->position + frame.size, now_ns);
        retry_pending(topic);
        return frame.size;
    }
    if (compare(subscriber, data, frame.size) != (ssize_t)frame.size) {
        sc_load_topic_explain(topic, subscriber, &frame);
        return 0;
    }
    advance(subscriber, subscriber->position + frame.size, now_ns);
    return frame.size;
}

// Bytes that differ in the middle of a frame: looks at the whole frame again, from its start.
// Bytes that differ are looked at as a frame, so that the fault is told in its words and not as an offset.
static void go_back(struct subscriber *subscriber, const uint8_t *data, size_t size) {
    struct topic *topic = subscriber->topic;
    uint64_t start = entry_start_of(topic, subscriber->entry);
    struct sc_buffer whole = {0};
    sc_buffer_append(&whole, topic->log.data + (start - topic->log_base),
                     (size_t)(subscriber->position - start));
    sc_buffer_append(&whole, data, size);
    subscriber->position = start;
    sc_buffer_deinit(&subscriber->connection.held);
    subscriber->connection.held = whole;
}

// As long as bytes are those of the log, any number of frames is one comparison.
static size_t live(struct subscriber *subscriber, const uint8_t *data, size_t size) {
    uint64_t now_ns = sc_load_now_ns();
    size_t at = 0;
    while (at < size && subscriber->connection.state == STATE_OPEN) {
        ssize_t same = compare(subscriber, data + at, size - at);
        if (same > 0) {
            advance(subscriber, subscriber->position + (uint64_t)same, now_ns);
            at += (size_t)same;
            continue;
        }
        if (same < 0 &&
            subscriber->position > entry_start_of(subscriber->topic, subscriber->entry)) {
            go_back(subscriber, data + at, size - at);
            return size;
        }
        size_t used = live_frame(subscriber, data + at, size - at, now_ns);
        if (used == 0)
            break;
        at += used;
    }
    return at;
}

// ---- The sync

// A `sync` names the place in the log behind which the next event must come.
static void synced(struct subscriber *subscriber, size_t size, uint64_t entry) {
    struct topic *topic = subscriber->topic;
    subscriber->connection.work->counters.sync_bytes += size;
    subscriber->entry = entry;
    if (entry < topic->entry_base)
        subscriber->state = SUBSCRIBER_BEHIND;
    else
        sc_load_subscriber_go_live(subscriber, entry);
}

// What follows a `sync` of before the log, up to where the log begins.
static size_t behind_frame(struct subscriber *subscriber, const uint8_t *data, size_t size) {
    struct topic *topic = subscriber->topic;
    struct frame frame;
    if (!whole_frame(subscriber, data, size, &frame))
        return 0;
    if (frame.kind != FRAME_DATA) {
        control(subscriber, &frame);
        return frame.size;
    }
    if (!sc_load_topic_past_frame(topic, subscriber, &frame, subscriber->entry))
        return 0;
    topic->work->counters.deliveries++;
    if (++subscriber->entry == topic->entry_base)
        sc_load_subscriber_go_live(subscriber, topic->entry_base);
    return frame.size;
}

// Returns the bytes used up when they are, as far as they go, those of a `sync` that is known.
// Thousands join with the same `sync`. The first is parsed and kept as a reference, the others are compared with it, also in pieces as they come.
static size_t match_reference(struct subscriber *subscriber, const uint8_t *data, size_t size) {
    struct topic *topic = subscriber->topic;
    for (uint32_t i = 0; topic->begun && i < SYNC_REFERENCES_MAX; i++) {
        struct sync_reference *reference = &topic->syncs[i];
        size_t common = size < reference->size ? size : reference->size;
        if (reference->bytes == NULL || reference->entry < topic->past_base ||
            memcmp(reference->bytes, data, common) != 0)
            continue;
        if (common == reference->size) {
            synced(subscriber, common, reference->entry);
        } else {
            subscriber->state = SUBSCRIBER_SYNCING;
            subscriber->reference = (uint8_t)i;
            subscriber->position = common;
            reference->users++;
        }
        return common;
    }
    return 0;
}

// A `sync` that stops being the reference is put together again, and parsed.
static size_t syncing(struct subscriber *subscriber, const uint8_t *data, size_t size) {
    struct sync_reference *reference = &subscriber->topic->syncs[subscriber->reference];
    size_t left = reference->size - (size_t)subscriber->position;
    size_t common = size < left ? size : left;
    if (memcmp(reference->bytes + subscriber->position, data, common) == 0) {
        subscriber->position += common;
        if (subscriber->position == reference->size) {
            reference->users--;
            subscriber->state = SUBSCRIBER_NEW;
            synced(subscriber, reference->size, reference->entry);
        }
        return common;
    }
    struct sc_buffer whole = {0};
    sc_buffer_append(&whole, reference->bytes, (size_t)subscriber->position);
    sc_buffer_append(&whole, data, size);
    reference->users--;
    subscriber->state = SUBSCRIBER_NEW;
    sc_buffer_deinit(&subscriber->connection.held);
    subscriber->connection.held = whole;
    return size;
}

// Peers without a protocol of streams: the first answer says that the subscription stands.
static bool peer_subscribed(const struct subscriber *subscriber, const struct frame *frame,
                            const uint8_t *data) {
    enum sc_load_protocol protocol = subscriber->connection.load->config.protocol;
    return (protocol == SC_LOAD_REDIS && frame->kind == FRAME_IGNORED) ||
           (protocol == SC_LOAD_NATS && frame->size >= 4 && memcmp(data, "PONG", 4) == 0);
}

// A `sync` that is ahead of the log waits until somebody has brought the events before it: nothing could say whether it is right.
static size_t sync_frame(struct subscriber *subscriber, const uint8_t *data, size_t size) {
    struct topic *topic = subscriber->topic;
    struct frame frame;
    if (!whole_frame(subscriber, data, size, &frame))
        return 0;
    if (peer_subscribed(subscriber, &frame, data)) {
        topic->begun = true;
        sc_load_subscriber_go_live(subscriber, topic->entry_end);
        return frame.size;
    }
    if (frame.kind == FRAME_FRAGMENT) {
        sc_load_connection_violates(&subscriber->connection,
                                    "a sync in fragments: the group is too large to be checked");
        return 0;
    }
    if (frame.kind != FRAME_DATA) {
        control(subscriber, &frame);
        return frame.size;
    }
    uint64_t entry;
    enum sync_verdict verdict = sc_load_topic_sync(topic, subscriber, &frame, data, &entry);
    if (verdict == SYNC_OK) {
        synced(subscriber, frame.size, entry);
        return frame.size;
    }
    if (verdict == SYNC_AHEAD) {
        subscriber->state = SUBSCRIBER_PENDING;
        subscriber->pending_next = topic->pending;
        topic->pending = subscriber;
    }
    return 0;
}

// ---- All states

// Each state says what the next bytes must be. 0: more are needed, or the subscriber waits.
static size_t process(struct subscriber *subscriber, const uint8_t *data, size_t size) {
    size_t at = 0;
    while (at < size && subscriber->connection.state == STATE_OPEN) {
        size_t used = 0;
        switch ((enum subscriber_state)subscriber->state) {
        case SUBSCRIBER_NEW:
            used = match_reference(subscriber, data + at, size - at);
            if (used == 0)
                used = sync_frame(subscriber, data + at, size - at);
            break;
        case SUBSCRIBER_SYNCING:
            used = syncing(subscriber, data + at, size - at);
            break;
        case SUBSCRIBER_LIVE:
            used = live(subscriber, data + at, size - at);
            break;
        case SUBSCRIBER_BEHIND:
            used = behind_frame(subscriber, data + at, size - at);
            break;
        case SUBSCRIBER_PENDING:
            break;
        }
        if (used == 0)
            break;
        at += used;
    }
    return at;
}

// What is held was put there while it was processed, too: goes on until nothing changes.
static void process_held(struct subscriber *subscriber) {
    struct connection *connection = &subscriber->connection;
    while (connection->state == STATE_OPEN && connection->held.size > 0) {
        struct sc_buffer held = connection->held;
        connection->held = (struct sc_buffer){0};
        size_t used = process(subscriber, held.data, held.size);
        bool again = connection->held.size > 0 && connection->state == STATE_OPEN;
        if (used < held.size && connection->state == STATE_OPEN) {
            assert(!again);
            sc_load_connection_hold(connection, held.data + used, held.size - used);
        }
        sc_buffer_deinit(&held);
        if (!again)
            return;
    }
}

// The log has grown. Those that are ahead still put themselves back.
static void retry_pending(struct topic *topic) {
    struct subscriber *each = topic->pending;
    topic->pending = NULL;
    while (each != NULL) {
        struct subscriber *next = each->pending_next;
        each->state = SUBSCRIBER_NEW;
        process_held(each); // May put it back.
        each = next;
    }
}

// Nothing is copied while frames end where receives do, or the log has their bytes already.
void sc_load_subscriber_receive(struct subscriber *subscriber, const uint8_t *data, size_t size) {
    struct connection *connection = &subscriber->connection;
    connection->work->counters.delivered_bytes += size;
    if (connection->held.size > 0) {
        sc_load_connection_hold(connection, data, size);
        process_held(subscriber);
        return;
    }
    size_t used = process(subscriber, data, size);
    if (used < size && connection->state == STATE_OPEN)
        sc_load_connection_hold(connection, data + used, size - used);
    if (connection->held.size > 0 && used == size)
        process_held(subscriber); // Put there to be looked at again.
}
