// Callers: worker connections that call functions, many at once, and hold every answer against what it must be.
// The first answer of a kind is parsed; of the others only the id and the result can differ.
#include "load_private.h"

#include "CStreamJSON.h"
#include "CStreamWebSocket.h"

#include <stdio.h>
#include <stdlib.h>

// ---- Calls

// Numbers of calls only grow. The ring has a power of two of places.
static struct call *call_at(const struct caller *caller, uint64_t number) {
    return &caller->calls[number & (caller->call_capacity - 1)];
}

// The oldest that is open bounds the ring: answers may come in any order, but one that never comes keeps its place.
static struct call *call_push(struct caller *caller) {
    while (caller->call_first < caller->call_next && !call_at(caller, caller->call_first)->open)
        caller->call_first++;
    if (caller->call_next - caller->call_first == caller->call_capacity) {
        uint32_t capacity = caller->call_capacity == 0 ? 16 : caller->call_capacity * 2;
        struct call *calls = sc_load_allocate(capacity * sizeof *calls);
        for (uint64_t i = caller->call_first; i < caller->call_next; i++)
            calls[i & (capacity - 1)] = *call_at(caller, i);
        free(caller->calls);
        caller->calls = calls;
        caller->call_capacity = capacity;
    }
    return call_at(caller, caller->call_next++);
}

// A peer that only broadcasts answers nothing: what subscribers get says that a write has been there.
static bool is_answered(const struct work *work) {
    return work->load->config.protocol == SC_LOAD_STREAM || work->config.subscribers_per_topic == 0;
}

// What has an event, and so is waited for by subscribers.
static bool changes(uint8_t op) {
    return op == SC_LOAD_SET || op == SC_LOAD_UPDATE || op == SC_LOAD_DELETE;
}

// What the answer must be is known when the call is made, since one caller writes an item: its calls are executed in their order. The
// number of writes of an item stands in its value, and tells each from all before it.
static void plan(struct call *call, struct topic *topic) {
    struct item *item = &topic->items[call->item];
    if (item->sent == 0 && call->op != SC_LOAD_LIST)
        call->op = SC_LOAD_SET; // Nothing to get, change or delete.
    call->old_count = call->new_count = item->sent;
    if (call->op == SC_LOAD_DELETE)
        call->new_count = 0;
    else if (call->op == SC_LOAD_UPDATE)
        call->new_count = item->sent + 1;
    else if (call->op == SC_LOAD_SET)
        call->new_count = item->last + 1;
    if (changes(call->op)) {
        topic->write_number++;
        item->sent = call->new_count;
        if (call->new_count > item->last)
            item->last = call->new_count;
        item->intended_ns = call->intended_ns;
    }
    call->write_number = topic->write_number;
}

// `intended_ns` is when it was due. `check`: it asks for the state in the end, and is not measured.
void sc_load_caller_call(struct topic *topic, uint8_t op, uint32_t item, uint64_t intended_ns,
                         bool check) {
    struct caller *caller = topic->caller;
    struct work *work = topic->work;
    struct call *call = call_push(caller);
    uint64_t number = caller->call_next - 1;
    *call = (struct call){
        .intended_ns = intended_ns, .topic = topic, .item = item, .op = op, .check = check};
    plan(call, topic);
    call->open = is_answered(work);
    caller->open_calls += call->open;
    work->counters.calls++;
    sc_load_call_append(caller, call, number, &caller->connection.out);
    if (changes(call->op) && work->config.subscribers_per_topic > 0)
        sc_load_topic_write_expect(topic, call);
    sc_load_connection_mark_dirty(&caller->connection);
}

// ---- Answers

// With subscribers the window opens when the slowest has the write, not when the caller has its answer.
static void end_call(struct caller *caller, struct call *call) {
    struct work *work = caller->connection.work;
    call->open = false;
    caller->open_calls--;
    if (changes(call->op))
        call->topic->answered_number = call->write_number;
    bool waits_for_delivery = work->config.until_delivered && changes(call->op);
    if (!waits_for_delivery && !call->check && call->topic->in_flight > 0)
        call->topic->in_flight--;
    sc_load_topic_hungry(call->topic);
}

// Latency counts from when the call was due: see due_ns.
static void finish(struct caller *caller, struct call *call) {
    struct work *work = caller->connection.work;
    work->counters.answers++;
    uint64_t now_ns = sc_load_now_ns();
    if (!work->filling && !call->check)
        sc_histogram_add(&work->latencies[SC_LOAD_LATENCY_ANSWER + call->op],
                         now_ns > call->intended_ns ? now_ns - call->intended_ns : 0);
    end_call(caller, call);
}

// By hand: this is done for every answer.
static bool read_id(const uint8_t *digits, uint64_t *number) {
    *number = 0;
    for (uint32_t i = 0; i < ID_DIGITS; i++) {
        uint8_t digit = digits[i];
        uint8_t value = digit >= '0' && digit <= '9'   ? (uint8_t)(digit - '0')
                        : digit >= 'a' && digit <= 'f' ? (uint8_t)(digit - 'a' + 10)
                                                       : 16;
        if (value == 16)
            return false;
        *number = *number << 4 | value;
    }
    return true;
}

// An answer to a call that has been answered, or was never made, is a fault.
static struct call *open_call(const struct caller *caller, uint64_t number) {
    if (number < caller->call_first || number >= caller->call_next ||
        !call_at(caller, number)->open)
        return NULL;
    return call_at(caller, number);
}

#define SHOWN(bytes) (int)((bytes).size < 300 ? (bytes).size : 300), (const char *)(bytes).data

// The answers to one function differ in id and result alone. The rest is kept, so that an answer is checked by comparing, and every byte of it is.
static void learn(struct answer_shape *shape, struct sc_bytes text, const uint8_t *id,
                  struct sc_bytes result) {
    size_t id_at = (size_t)(id - text.data), result_at = (size_t)(result.data - text.data);
    size_t tail = text.size - result_at - result.size;
    if (id_at + ID_DIGITS > result_at || result_at > sizeof shape->head ||
        tail > sizeof shape->tail)
        return; // Such an answer is parsed each time.
    shape->id_at = (uint32_t)id_at;
    shape->result_at = (uint32_t)result_at;
    shape->tail_size = (uint32_t)tail;
    memcpy(shape->head, text.data, result_at);
    memcpy(shape->tail, result.data + result.size, tail);
    shape->known = true;
}

// Whether `text` is an answer of the known shape. Sets the call's number and the result.
static bool fits_shape(const struct answer_shape *shape, struct sc_bytes text, uint64_t *number,
                       struct sc_bytes *result) {
    if (!shape->known || text.size < shape->result_at + shape->tail_size)
        return false;
    const uint8_t *after_id = text.data + shape->id_at + ID_DIGITS;
    size_t after = shape->result_at - shape->id_at - ID_DIGITS;
    if (memcmp(text.data, shape->head, shape->id_at) != 0 ||
        memcmp(after_id, shape->head + shape->id_at + ID_DIGITS, after) != 0 ||
        memcmp(text.data + text.size - shape->tail_size, shape->tail, shape->tail_size) != 0)
        return false;
    *result = (struct sc_bytes){text.data + shape->result_at,
                                text.size - shape->result_at - shape->tail_size};
    return read_id(text.data + shape->id_at, number);
}

// Returns whether the result is what it must be.
// A topic that was written while its list was under way may have been either: its length is all that can be said.
static bool judge(struct caller *caller, struct call *call, struct sc_bytes result) {
    struct work *work = caller->connection.work;
    if (call->topic->unknown)
        return true;
    if (call->op == SC_LOAD_LIST) {
        if (call->write_number != call->topic->write_number)
            return result.size >= 2 && result.data[0] == '['; // Changed since: no telling.
        return sc_load_topic_check_list(call->topic, result);
    }
    struct sc_buffer *wanted = &work->load->scratch;
    wanted->size = 0;
    return sc_load_result_append(call, wanted) && sc_bytes_equal(sc_buffer_bytes(wanted), result);
}

// Wrong answers end the connection: what follows from one would be wrong, too.
static void answered(struct caller *caller, struct call *call, struct sc_bytes result,
                     struct sc_bytes text) {
    if (!judge(caller, call, result)) {
        struct sc_buffer *wanted = &caller->connection.load->scratch;
        sc_load_connection_violates(&caller->connection,
                                    "wrong answer: expected the result %.*s, got %.*s",
                                    SHOWN(sc_buffer_bytes(wanted)), SHOWN(text));
        return;
    }
    finish(caller, call);
}

// A refused call is a fault of the run, but no end of it: the others are still measured. What subscribers wait for would
// never come.
static void refused(struct caller *caller, struct call *call, struct sc_bytes text) {
    struct work *work = caller->connection.work;
    work->counters.errors++;
    if (changes(call->op) && work->config.subscribers_per_topic > 0) {
        sc_load_connection_violates(&caller->connection, "a call failed: %.*s", SHOWN(text));
        return;
    }
    sc_load_load_violation(work->load, "caller: a call failed: %.*s", SHOWN(text));
    if (changes(call->op))
        call->topic->unknown = true;
    end_call(caller, call);
}

// The slow way, for the first of each kind and for whatever does not look like it.
static void parse_answer(struct caller *caller, const struct sc_json_index *index,
                         struct sc_bytes text) {
    struct sc_json_member scratch[3];
    struct connection *connection = &caller->connection;
    const struct sc_json_member *id =
        sc_json_index_find(index, -1, SC_LITERAL("invocation_id"), &scratch[0]);
    const struct sc_json_member *result =
        sc_json_index_find(index, -1, SC_LITERAL("result"), &scratch[1]);
    const struct sc_json_member *error =
        sc_json_index_find(index, -1, SC_LITERAL("error"), &scratch[2]);
    uint64_t number;
    struct call *call = NULL;
    if (id != NULL && id->value.text.size == CALL_ID_SIZE + 2 &&
        read_id(id->value.text.data + 1 + CALL_ID_SIZE - ID_DIGITS, &number))
        call = open_call(caller, number);
    if (call == NULL) {
        sc_load_connection_violates(connection, "an answer to no call that is open: %.*s",
                                    SHOWN(text));
        return;
    }
    if (error != NULL || result == NULL) {
        refused(caller, call, text);
        return;
    }
    learn(&connection->work->shapes[call->op], text,
          id->value.text.data + 1 + CALL_ID_SIZE - ID_DIGITS, result->value.text);
    answered(caller, call, result->value.text, text);
}

// ---- The trigger

// Each work has a function of its own, so that several may run beside each other.
static void register_trigger(struct caller *caller) {
    struct work *work = caller->connection.work;
    const char *stream = work->load->config.stream_name;
    char text[512];
    int size =
        snprintf(text, sizeof text,
                 "{\"type\":\"registerfunction\",\"id\":\"bench::on-change-%u\"}", work->index);
    sc_load_message_append(&caller->connection.out,
                           (struct sc_bytes){(uint8_t *)text, (size_t)size});
    size = snprintf(text, sizeof text,
                    "{\"type\":\"registertrigger\",\"id\":\"00000000-0000-4000-9000-%012u\","
                    "\"trigger_type\":\"stream\",\"function_id\":\"bench::on-change-%u\","
                    "\"config\":{\"stream_name\":\"%s\"}}",
                    work->index, work->index, stream);
    sc_load_message_append(&caller->connection.out,
                           (struct sc_bytes){(uint8_t *)text, (size_t)size});
    sc_load_connection_mark_dirty(&caller->connection);
}

// The value names the write. What is called for something that nobody wrote is a fault.
static void triggered(struct caller *caller, const struct sc_json_index *index,
                      struct sc_bytes text) {
    struct work *work = caller->connection.work;
    struct sc_json_member scratch[4];
    const struct sc_json_member *id =
        sc_json_index_find(index, -1, SC_LITERAL("invocation_id"), &scratch[0]);
    const struct sc_json_member *data =
        sc_json_index_find(index, -1, SC_LITERAL("data"), &scratch[1]);
    const struct sc_json_member *function =
        sc_json_index_find(index, -1, SC_LITERAL("function_id"), &scratch[3]);
    if (id == NULL || function == NULL || data == NULL || data->value.kind != SC_JSON_OBJECT) {
        sc_load_connection_violates(&caller->connection,
                                    "a call without id, function or data: %.*s", SHOWN(text));
        return;
    }
    int parent = (int)(data - index->members);
    const struct sc_json_member *event =
        sc_json_index_find(index, parent, SC_LITERAL("event"), &scratch[2]);
    size_t offset = 0;
    struct sc_json_member member;
    uint32_t item = 0;
    uint64_t count = 0;
    bool known = false;
    while (event != NULL && sc_json_next(event->value, &offset, &member))
        if (sc_bytes_equal(member.key, SC_LITERAL("data")))
            known = sc_load_value_read(work, member.value.text, &item, &count);
    if (!known) {
        sc_load_connection_violates(&caller->connection, "a trigger for what was not written: %.*s",
                                    SHOWN(text));
        return;
    }
    // With one topic the item names the write; its latency is known while it is the item's last.
    struct item *written = &work->topics[0].items[item];
    work->counters.triggered++;
    if (work->config.topic_count == 1 && written->last == count)
        sc_histogram_add(&work->latencies[SC_LOAD_LATENCY_TRIGGER],
                         sc_load_now_ns() - written->intended_ns);
    struct sc_buffer answer = {0};
    sc_buffer_append_bytes(&answer,
                           SC_LITERAL("{\"type\":\"invocationresult\",\"invocation_id\":"));
    sc_buffer_append_bytes(&answer, id->value.text);
    sc_buffer_append_bytes(&answer, SC_LITERAL(",\"function_id\":"));
    sc_buffer_append_bytes(&answer, function->value.text);
    sc_buffer_append_bytes(&answer, SC_LITERAL(",\"result\":null}"));
    sc_load_message_append(&caller->connection.out, sc_buffer_bytes(&answer));
    sc_buffer_deinit(&answer);
    sc_load_connection_mark_dirty(&caller->connection);
}

// ---- Messages

// The server knows the worker: until then it may refuse its calls.
static void ready(struct caller *caller) {
    if (caller->ready)
        return;
    caller->ready = true;
    caller->connection.work->open_callers++;
    if (caller->serves_trigger)
        register_trigger(caller);
    struct work *work = caller->connection.work;
    for (uint32_t i = 0; i < work->config.topic_count; i++)
        if (work->topics[i].caller == caller)
            sc_load_topic_hungry(&work->topics[i]);
}

// One index for all callers: they take turns, on one thread.
static void parse_message(struct caller *caller, struct sc_bytes text) {
    static struct sc_json_index index;
    struct sc_json_member scratch;
    if (sc_json_scan(text, SC_JSON_DEPTH_MAX, &index) < 0 || index.root.kind != SC_JSON_OBJECT) {
        sc_load_connection_violates(&caller->connection, "no JSON object: %.*s", SHOWN(text));
        return;
    }
    const struct sc_json_member *type =
        sc_json_index_find(&index, -1, SC_LITERAL("type"), &scratch);
    struct sc_bytes name = type == NULL ? (struct sc_bytes){0} : type->value.text;
    if (sc_bytes_equal(name, SC_LITERAL("\"invocationresult\"")))
        parse_answer(caller, &index, text);
    else if (sc_bytes_equal(name, SC_LITERAL("\"workerregistered\"")))
        ready(caller);
    else if (sc_bytes_equal(name, SC_LITERAL("\"invokefunction\"")))
        triggered(caller, &index, text);
    else if (!caller->serves_trigger)
        sc_load_connection_violates(&caller->connection, "a message that nobody asked for: %.*s",
                                    SHOWN(text));
}

// An echo: the call itself comes back.
static void echoed(struct caller *caller, struct sc_bytes text) {
    static const char before[] =
        "{\"type\":\"invokefunction\",\"invocation_id\":\"00000000-0000-4000-8000-";
    uint64_t number;
    struct call *call = NULL;
    if (text.size > sizeof before + ID_DIGITS && read_id(text.data + sizeof before - 1, &number))
        call = open_call(caller, number);
    if (call == NULL)
        sc_load_connection_violates(&caller->connection, "an echo of nothing that was sent: %.*s",
                                    SHOWN(text));
    else
        finish(caller, call);
}

static void data_frame(struct caller *caller, struct sc_bytes text) {
    struct work *work = caller->connection.work;
    if (work->load->config.protocol == SC_LOAD_RAW) {
        // A server may tell its publisher what became of a message; its subscribers tell us.
        if (!sc_load_publishes(work))
            echoed(caller, text);
        return;
    }
    for (uint32_t op = 0; op < SC_LOAD_OP_COUNT; op++) {
        uint64_t number;
        struct sc_bytes result;
        if (!fits_shape(&work->shapes[op], text, &number, &result))
            continue;
        struct call *call = open_call(caller, number);
        if (call != NULL && call->op == op) {
            answered(caller, call, result, text);
            return;
        }
    }
    parse_message(caller, text);
}

static void control_frame(struct caller *caller, const struct frame *frame) {
    struct connection *connection = &caller->connection;
    enum sc_load_protocol protocol = connection->load->config.protocol;
    if (frame->kind == FRAME_PING && protocol == SC_LOAD_NATS)
        sc_buffer_append(&connection->out, "PONG\r\n", 6);
    else if (frame->kind == FRAME_PING)
        sc_load_control_append(&connection->out, SC_WS_PONG, frame->payload);
    if (frame->kind == FRAME_PING)
        sc_load_connection_mark_dirty(connection);
    if (frame->kind == FRAME_CLOSE && !connection->load->restarting && !connection->load->ending) {
        sc_load_load_violation(connection->load, "the server closed a caller with %u",
                               frame->close_code);
        connection->announced = true;
    }
}

// Answers over 8 MiB come in several frames.
static void fragment(struct caller *caller, const struct frame *frame) {
    sc_buffer_append_bytes(&caller->assembly, frame->payload);
    if (caller->assembly.failed)
        abort();
    if (!frame->last)
        return;
    struct sc_buffer whole = caller->assembly;
    caller->assembly = (struct sc_buffer){0};
    data_frame(caller, sc_buffer_bytes(&whole));
    sc_buffer_deinit(&whole);
}

static size_t process(struct caller *caller, const uint8_t *data, size_t size) {
    size_t at = 0;
    while (at < size && caller->connection.state == STATE_OPEN) {
        struct frame frame;
        int rc = sc_load_frame_read(caller->connection.load->config.protocol, data + at, size - at,
                                    &frame);
        if (rc < 0)
            sc_load_connection_violates(
                &caller->connection, "these bytes are no frame, or an error: %.*s",
                (int)(size - at < 80 ? size - at : 80), (const char *)data + at);
        if (rc <= 0)
            break;
        if (frame.kind == FRAME_DATA)
            data_frame(caller, frame.payload);
        else if (frame.kind == FRAME_FRAGMENT)
            fragment(caller, &frame);
        else
            control_frame(caller, &frame);
        at += frame.size;
    }
    return at;
}

void sc_load_caller_receive(struct caller *caller, const uint8_t *data, size_t size) {
    struct connection *connection = &caller->connection;
    if (connection->held.size == 0) {
        size_t used = process(caller, data, size);
        if (used < size && connection->state == STATE_OPEN)
            sc_load_connection_hold(connection, data + used, size - used);
        return;
    }
    sc_load_connection_hold(connection, data, size);
    struct sc_buffer held = connection->held;
    connection->held = (struct sc_buffer){0};
    size_t used = process(caller, held.data, held.size);
    if (used == 0 && connection->state == STATE_OPEN) {
        connection->held = held; // Not copied with each piece of a large frame.
        return;
    }
    if (used < held.size && connection->state == STATE_OPEN)
        sc_load_connection_hold(connection, held.data + used, held.size - used);
    sc_buffer_deinit(&held);
}

void sc_load_caller_opened(struct caller *caller) {
    enum sc_load_protocol protocol = caller->connection.load->config.protocol;
    if (protocol == SC_LOAD_NATS) {
        sc_buffer_append_bytes(&caller->connection.out,
                               SC_LITERAL("CONNECT {\"verbose\":false}\r\n"));
        sc_load_connection_mark_dirty(&caller->connection);
    }
    if (protocol != SC_LOAD_STREAM)
        ready(caller);
}

// What was under way may have happened or not.
void sc_load_caller_closed(struct caller *caller) {
    if (caller->ready)
        caller->connection.work->open_callers--;
    caller->ready = false;
    caller->open_calls = 0;
    sc_buffer_deinit(&caller->assembly);
    caller->call_first = caller->call_next;
}
