// What the control plane hears of: the messages that the core makes, each with what a function is to be called with
// as its DATA.
#include "builder.h"

static void add_number(struct sc_message_builder *builder, uint64_t number) {
    uint8_t digits[20];
    sc_builder_add(builder, (struct sc_bytes){digits, sc_decimal_write(digits, number)});
}

static void add_string_or_null(struct sc_message_builder *builder, enum sc_message_field field,
                               const struct sc_bytes *text) {
    if (text == NULL)
        sc_builder_add(builder, SC_LITERAL("null"));
    else
        sc_builder_string(builder, field, *text);
}

// ---- Changes

// {"type":"stream","timestamp":…,"streamName":…,"groupId":…,"id":…,"event":{"type":…},
//  "event_type":…,"stream_name":…,"group_id":…}
struct sc_message *sc_change_message(const struct sc_change_notice *notice,
                                     struct sc_account *account) {
    struct sc_message_builder builder = {0};
    sc_builder_begin(&builder, SC_FIELD_DATA);
    sc_builder_add(&builder, SC_LITERAL("{\"type\":\"stream\",\"timestamp\":"));
    add_number(&builder, notice->timestamp);
    sc_builder_add(&builder, SC_LITERAL(",\"streamName\":"));
    sc_builder_string(&builder, SC_FIELD_STREAM, notice->stream);
    sc_builder_add(&builder, SC_LITERAL(",\"groupId\":"));
    sc_builder_string(&builder, SC_FIELD_GROUP, notice->group);
    sc_builder_add(&builder, SC_LITERAL(",\"id\":"));
    add_string_or_null(&builder, SC_FIELD_ITEM, notice->item);
    sc_builder_add(&builder, SC_LITERAL(",\"event\":{\"type\":"));
    for (size_t i = 0; i < notice->event_count; i++)
        sc_builder_add(&builder, notice->event[i]);
    sc_builder_add(&builder, SC_LITERAL("},\"event_type\":\""));
    sc_builder_add(&builder, notice->kind);
    sc_builder_add(&builder, SC_LITERAL("\",\"stream_name\":"));
    sc_json_write_string(&builder.text, notice->stream);
    sc_builder_add(&builder, SC_LITERAL(",\"group_id\":"));
    sc_json_write_string(&builder.text, notice->group);
    sc_builder_add(&builder, SC_LITERAL("}"));
    sc_builder_end(&builder, SC_FIELD_DATA);
    return sc_builder_finish(&builder, SC_MESSAGE_CHANGE, account);
}

// ---- Joins and leaves

// The id by which the node's log names the connection: hexadecimal, without leading zeros.
static void add_connection_id(struct sc_message_builder *builder, uint64_t connection) {
    uint8_t digits[16];
    size_t at = sizeof digits;
    do {
        digits[--at] = (uint8_t)"0123456789abcdef"[connection & 15];
        connection >>= 4;
    } while (connection != 0);
    sc_builder_add(builder, SC_LITERAL(",\"connection_id\":\""));
    sc_builder_add(builder, (struct sc_bytes){digits + at, sizeof digits - at});
    sc_builder_add(builder, SC_LITERAL("\""));
}

struct sc_message *sc_join_message(enum sc_message_type type, uint64_t timestamp,
                                   uint64_t connection, const struct sc_subscription_name *name,
                                   struct sc_account *account) {
    struct sc_message_builder builder = {0};
    sc_builder_begin(&builder, SC_FIELD_DATA);
    sc_builder_add(&builder, SC_LITERAL("{\"subscription_id\":"));
    sc_builder_string(&builder, SC_FIELD_ID, name->id);
    add_connection_id(&builder, connection);
    sc_builder_add(&builder, SC_LITERAL(",\"stream_name\":"));
    sc_builder_string(&builder, SC_FIELD_STREAM, name->stream);
    sc_builder_add(&builder, SC_LITERAL(",\"group_id\":"));
    sc_builder_string(&builder, SC_FIELD_GROUP, name->group);
    sc_builder_add(&builder, SC_LITERAL(",\"id\":"));
    add_string_or_null(&builder, SC_FIELD_ITEM, name->item);
    sc_builder_add(&builder, SC_LITERAL(",\"context\":"));
    sc_builder_field(&builder, SC_FIELD_METADATA,
                     name->context.data == NULL ? SC_LITERAL("null") : name->context);
    sc_builder_add(&builder, type == SC_MESSAGE_JOIN
                                 ? SC_LITERAL(",\"event_type\":\"stream:join\",\"timestamp\":")
                                 : SC_LITERAL(",\"event_type\":\"stream:leave\",\"timestamp\":"));
    add_number(&builder, timestamp);
    sc_builder_add(&builder, SC_LITERAL("}"));
    sc_builder_end(&builder, SC_FIELD_DATA);
    return sc_builder_finish(&builder, type, account);
}

struct sc_message *sc_sync_message(const struct sc_subscription_name *name) {
    struct sc_message_builder builder = {0};
    sc_builder_begin(&builder, SC_FIELD_DATA);
    sc_builder_add(&builder, SC_LITERAL("{\"stream_name\":"));
    sc_builder_string(&builder, SC_FIELD_STREAM, name->stream);
    sc_builder_add(&builder, SC_LITERAL(",\"group_id\":"));
    sc_builder_string(&builder, SC_FIELD_GROUP, name->group);
    if (name->item != NULL) {
        sc_builder_add(&builder, SC_LITERAL(",\"item_id\":"));
        sc_builder_string(&builder, SC_FIELD_ITEM, *name->item);
    }
    sc_builder_add(&builder, SC_LITERAL("}"));
    sc_builder_end(&builder, SC_FIELD_DATA);
    sc_builder_string(&builder, SC_FIELD_ID, name->id);
    return sc_builder_finish(&builder, SC_MESSAGE_SYNC, NULL);
}

struct sc_message *sc_logs_message(struct sc_bytes records, struct sc_account *account) {
    struct sc_message_builder builder = {0};
    sc_builder_field(&builder, SC_FIELD_DATA, records);
    return sc_builder_finish(&builder, SC_MESSAGE_LOGS, account);
}

// ---- Calls of overridden functions

// Names are written as characters: how the caller spelt them must not reach a handler.
static void add_name(struct sc_message_builder *builder, enum sc_message_field field,
                     struct sc_bytes key, struct sc_bytes name) {
    sc_builder_add(builder, key);
    sc_builder_string(builder, field, name);
}

static void add_value(struct sc_message_builder *builder, struct sc_json_value value) {
    uint8_t *room = sc_buffer_reserve(&builder->text, value.text.size);
    if (room != NULL)
        builder->text.size += sc_json_compact(value, room);
}

// The declared keys of a call's input, and no others.
static void add_input(struct sc_message_builder *builder, const struct sc_override *call) {
    bool has_group = call->op != SC_CALL_LIST_GROUPS;
    bool has_item = has_group && call->op != SC_CALL_LIST;
    sc_builder_begin(builder, SC_FIELD_DATA);
    add_name(builder, SC_FIELD_STREAM, SC_LITERAL("{\"stream_name\":"), call->stream);
    if (has_group)
        add_name(builder, SC_FIELD_GROUP, SC_LITERAL(",\"group_id\":"), call->group);
    if (has_item)
        add_name(builder, SC_FIELD_ITEM, SC_LITERAL(",\"item_id\":"), call->item);
    if (call->op == SC_CALL_SET) {
        sc_builder_add(builder, SC_LITERAL(",\"data\":"));
        add_value(builder, call->data);
    } else if (call->op == SC_CALL_UPDATE) {
        sc_builder_add(builder, SC_LITERAL(",\"ops\":"));
        sc_builder_add(builder, call->ops);
    }
    sc_builder_add(builder, SC_LITERAL("}"));
    sc_builder_end(builder, SC_FIELD_DATA);
}

struct sc_message *sc_override_message(const struct sc_override *call, struct sc_account *account) {
    struct sc_message_builder builder = {.override = (uint8_t)call->bit,
                                         .is_void = !call->wants_answer};
    add_input(&builder, call);
    if (call->wants_answer)
        sc_builder_field(&builder, SC_FIELD_INVOCATION_ID, call->invocation_id);
    sc_builder_field(&builder, SC_FIELD_FUNCTION_ID, call->function_id);
    sc_builder_field(&builder, SC_FIELD_TRACEPARENT, call->traceparent);
    sc_builder_field(&builder, SC_FIELD_BAGGAGE, call->baggage);
    return sc_builder_finish(&builder, SC_MESSAGE_OVERRIDE, account);
}
