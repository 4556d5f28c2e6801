// Messages as the control plane sees them: a copy of the text, and slices of its fields.
#include <stdlib.h>

#include "builder.h"

// The copy is one block: the struct, then the text, which the fields are slices of. So a message is one allocation, however
// many fields its type has, and one free on whatever thread gives up the last reference.
//
// Only `references` and `account` change once somebody else has the message; both are atomic. The rest is written by the
// thread of the shard before it hands the message on, and read by any thread after that.
struct sc_message {
    _Atomic uint32_t references;
    _Atomic(struct sc_account *) account; // NULL once the message is settled, or is nobody's.
    uint8_t type;
    uint8_t override;
    bool is_void, is_enqueue;
    bool of_heap;
    bool has_caller_key; // `data` names a caller itself.
    uint8_t data_kind;
    bool data_empty;
    uint8_t caller_size;
    uint8_t caller[36];
    struct sc_bytes fields[SC_FIELD_COUNT];
    uint32_t size;
    uint8_t text[];
};

#define NULL_VALUE SC_LITERAL("null")

// What each type must and may have is a table, not code: a field of a new type is one line, and the reader of the fields is
// one loop for all types.
enum requirement { OPTIONAL_ANY, OPTIONAL_STRING, OPTIONAL_OBJECT, REQUIRED_STRING, VALUE };
struct field_rule {
    enum sc_message_field field;
    const char *key;
    enum requirement requirement;
};
struct type_rules {
    const struct field_rule *rules;
    size_t count;
};

#define RULES(name, ...) static const struct field_rule name[] = {__VA_ARGS__}
RULES(register_function, {SC_FIELD_ID, "id", REQUIRED_STRING},
      {SC_FIELD_DESCRIPTION, "description", OPTIONAL_STRING},
      {SC_FIELD_REQUEST_FORMAT, "request_format", OPTIONAL_ANY},
      {SC_FIELD_RESPONSE_FORMAT, "response_format", OPTIONAL_ANY},
      {SC_FIELD_METADATA, "metadata", OPTIONAL_ANY},
      {SC_FIELD_INVOCATION, "invocation", OPTIONAL_OBJECT});
RULES(only_id, {SC_FIELD_ID, "id", REQUIRED_STRING});
RULES(register_trigger_type, {SC_FIELD_ID, "id", REQUIRED_STRING},
      {SC_FIELD_DESCRIPTION, "description", REQUIRED_STRING},
      {SC_FIELD_TRIGGER_REQUEST_FORMAT, "trigger_request_format", OPTIONAL_ANY},
      {SC_FIELD_CALL_REQUEST_FORMAT, "call_request_format", OPTIONAL_ANY});
RULES(register_trigger, {SC_FIELD_ID, "id", REQUIRED_STRING},
      {SC_FIELD_TRIGGER_TYPE, "trigger_type", REQUIRED_STRING},
      {SC_FIELD_FUNCTION_ID, "function_id", REQUIRED_STRING}, {SC_FIELD_CONFIG, "config", VALUE},
      {SC_FIELD_METADATA, "metadata", OPTIONAL_ANY});
RULES(unregister_trigger, {SC_FIELD_ID, "id", REQUIRED_STRING},
      {SC_FIELD_TRIGGER_TYPE, "trigger_type", OPTIONAL_STRING});
RULES(trigger_result, {SC_FIELD_ID, "id", REQUIRED_STRING},
      {SC_FIELD_TRIGGER_TYPE, "trigger_type", REQUIRED_STRING},
      {SC_FIELD_FUNCTION_ID, "function_id", REQUIRED_STRING},
      {SC_FIELD_ERROR, "error", OPTIONAL_OBJECT});
RULES(invoke, {SC_FIELD_FUNCTION_ID, "function_id", REQUIRED_STRING},
      {SC_FIELD_INVOCATION_ID, "invocation_id", OPTIONAL_STRING}, {SC_FIELD_DATA, "data", VALUE},
      {SC_FIELD_ACTION, "action", OPTIONAL_OBJECT},
      {SC_FIELD_TRACEPARENT, "traceparent", OPTIONAL_STRING},
      {SC_FIELD_BAGGAGE, "baggage", OPTIONAL_STRING});
RULES(result, {SC_FIELD_INVOCATION_ID, "invocation_id", REQUIRED_STRING},
      {SC_FIELD_FUNCTION_ID, "function_id", REQUIRED_STRING},
      {SC_FIELD_RESULT, "result", OPTIONAL_ANY}, {SC_FIELD_ERROR, "error", OPTIONAL_OBJECT},
      {SC_FIELD_TRACEPARENT, "traceparent", OPTIONAL_STRING},
      {SC_FIELD_BAGGAGE, "baggage", OPTIONAL_STRING});
RULES(reattach, {SC_FIELD_PREVIOUS_WORKER_ID, "previous_worker_id", REQUIRED_STRING},
      {SC_FIELD_REATTACH_TOKEN, "reattach_token", OPTIONAL_STRING});
RULES(error_fields, {SC_FIELD_ERROR_CODE, "code", REQUIRED_STRING},
      {SC_FIELD_ERROR_MESSAGE, "message", REQUIRED_STRING},
      {SC_FIELD_ERROR_STACKTRACE, "stacktrace", OPTIONAL_STRING});

#define TABLE(name) {name, sizeof name / sizeof name[0]}
static const struct type_rules rules_of[] = {
    [SC_MESSAGE_REGISTER_FUNCTION] = TABLE(register_function),
    [SC_MESSAGE_UNREGISTER_FUNCTION] = TABLE(only_id),
    [SC_MESSAGE_REGISTER_TRIGGER_TYPE] = TABLE(register_trigger_type),
    [SC_MESSAGE_UNREGISTER_TRIGGER_TYPE] = TABLE(only_id),
    [SC_MESSAGE_REGISTER_TRIGGER] = TABLE(register_trigger),
    [SC_MESSAGE_UNREGISTER_TRIGGER] = TABLE(unregister_trigger),
    [SC_MESSAGE_TRIGGER_REGISTRATION_RESULT] = TABLE(trigger_result),
    [SC_MESSAGE_REGISTER_SERVICE] = TABLE(only_id),
    [SC_MESSAGE_INVOKE] = TABLE(invoke),
    [SC_MESSAGE_RESULT] = TABLE(result),
    [SC_MESSAGE_REATTACH] = TABLE(reattach),
};
static const struct type_rules error_rules = TABLE(error_fields);

// A member that is null counts as absent, but where a value is asked for: null is a value.
static bool fits(enum requirement requirement, uint8_t kind) {
    switch (requirement) {
    case OPTIONAL_ANY:
    case VALUE:
        return true;
    case OPTIONAL_OBJECT:
        return kind == SC_JSON_OBJECT || kind == SC_JSON_NULL;
    case OPTIONAL_STRING:
        return kind == SC_JSON_STRING || kind == SC_JSON_NULL;
    case REQUIRED_STRING:
        return kind == SC_JSON_STRING;
    }
    return false;
}

// Reads the fields of a table from the members of `parent`. Returns the key of the first that is not what it must be. The
// fields before it are read all the same: a result that is broken further on still says whose call it ends.
static const char *read_fields(struct sc_bytes *fields, struct type_rules table,
                               const struct sc_json_index *index, int parent) {
    for (size_t i = 0; i < table.count; i++) {
        const struct field_rule *rule = &table.rules[i];
        struct sc_json_member scratch;
        struct sc_bytes key = {(const uint8_t *)rule->key, strlen(rule->key)};
        const struct sc_json_member *member = sc_json_index_find(index, parent, key, &scratch);
        if (member == NULL) {
            if (rule->requirement == REQUIRED_STRING)
                return rule->key;
            if (rule->requirement == VALUE)
                fields[rule->field] = NULL_VALUE;
            continue;
        }
        if (!fits(rule->requirement, member->value.kind))
            return rule->key;
        if (member->value.kind != SC_JSON_NULL || rule->requirement == VALUE)
            fields[rule->field] = member->value.text;
    }
    return NULL;
}

static const struct sc_json_member *find(const struct sc_json_index *index, struct sc_bytes key,
                                         struct sc_json_member *scratch) {
    return sc_json_index_find(index, -1, key, scratch);
}

#define MALFORMED_RESULT                                                                           \
    SC_LITERAL("{\"code\":\"invalid_message\",\"message\":\"the worker's result is malformed\"}")

// A result whose error is not one: the caller learns that, instead of waiting.
static void check_error(struct sc_bytes *fields, const struct sc_json_index *index) {
    struct sc_json_member scratch;
    const struct sc_json_member *error = find(index, SC_LITERAL("error"), &scratch);
    struct sc_json_value value = error == NULL ? (struct sc_json_value){0} : error->value;
    struct sc_json_index inner;
    const char *wrong =
        value.kind == SC_JSON_OBJECT && sc_json_scan(value.text, SC_JSON_DEPTH_MAX, &inner) == 0
            ? read_fields(fields, error_rules, &inner, -1)
            : "error";
    if (wrong != NULL)
        fields[SC_FIELD_ERROR] = MALFORMED_RESULT;
}

// What could be read of a broken result may be half of a value: its caller gets this error in place of all of it.
void sc_message_set_malformed(struct sc_message *message) {
    message->fields[SC_FIELD_ERROR] = MALFORMED_RESULT;
    message->fields[SC_FIELD_ERROR_CODE] = message->fields[SC_FIELD_ERROR_MESSAGE] =
        (struct sc_bytes){0};
    message->fields[SC_FIELD_ERROR_STACKTRACE] = (struct sc_bytes){0};
}

#define CALLER_KEY SC_LITERAL("_caller_worker_id")

// Notes while the index is at hand what sending the data on will need: after this the text is only copied.
static void look_at_data(struct sc_message *message, const struct sc_json_index *index) {
    struct sc_json_member scratch;
    const struct sc_json_member *data = find(index, SC_LITERAL("data"), &scratch);
    message->data_kind = data == NULL ? SC_JSON_NULL : data->value.kind;
    if (message->data_kind != SC_JSON_OBJECT)
        return;
    size_t offset = 0;
    struct sc_json_member member;
    message->data_empty = true;
    while (sc_json_next(data->value, &offset, &member)) {
        message->data_empty = false;
        message->has_caller_key |= sc_json_string_equal(member.key, member.key_escaped, CALLER_KEY);
    }
}

// From slices of the scanned text, which is gone soon, to slices of the copy.
static void move_fields(struct sc_message *message, const struct sc_bytes *fields,
                        struct sc_bytes text) {
    for (size_t i = 0; i < SC_FIELD_COUNT; i++) {
        bool inside = fields[i].data != NULL && fields[i].data >= text.data &&
                      fields[i].data < text.data + text.size;
        message->fields[i] = fields[i]; // Literals stay where they are.
        if (inside)
            message->fields[i].data = message->text + (fields[i].data - text.data);
    }
}

// Results pass whatever else of their connection waits: they have a place of their own, which waits for nothing but the
// control plane's next turn.
static enum sc_place place_of(enum sc_message_type type) {
    return type == SC_MESSAGE_RESULT ? SC_PLACE_RESULTS
           : type == SC_MESSAGE_JOIN ? SC_PLACE_JOINS
                                     : SC_PLACE_MESSAGES;
}

// The account holds a reference of its own until the message is settled, since a message may outlive its connection.
static struct sc_message *message_allocate(struct sc_heap *heap, enum sc_message_type type,
                                           size_t size, struct sc_account *account) {
    bool of_heap = heap != NULL && sizeof(struct sc_message) + size <= SC_HEAP_SIZE_MAX;
    struct sc_message *message =
        of_heap ? sc_heap_take(heap, sizeof *message + size) : malloc(sizeof *message + size);
    if (message == NULL)
        return NULL;
    *message =
        (struct sc_message){.type = (uint8_t)type, .of_heap = of_heap, .size = (uint32_t)size};
    atomic_init(&message->references, 1);
    atomic_init(&message->account, account);
    sc_account_hand_over(account, place_of(type), sizeof *message + size);
    return message;
}

// A result is never refused for what stands beside its id: its caller would wait for ever. It becomes an error instead.
struct sc_message *sc_message_make(enum sc_message_type type, struct sc_bytes text,
                                   const struct sc_json_index *index, struct sc_bytes caller_id,
                                   struct sc_account *account, const char **why) {
    struct sc_bytes fields[SC_FIELD_COUNT] = {{0}};
    *why = read_fields(fields, rules_of[type], index, -1);
    if (*why != NULL && type != SC_MESSAGE_RESULT)
        return NULL;
    if (type == SC_MESSAGE_RESULT && fields[SC_FIELD_INVOCATION_ID].data == NULL)
        return NULL;
    if (type == SC_MESSAGE_RESULT && (*why != NULL || fields[SC_FIELD_ERROR].data != NULL))
        check_error(fields, index);
    if (type == SC_MESSAGE_TRIGGER_REGISTRATION_RESULT && fields[SC_FIELD_ERROR].data != NULL)
        check_error(fields, index);
    struct sc_message *message = message_allocate(NULL, type, text.size, account);
    if (message == NULL) {
        *why = "memory";
        return NULL;
    }
    assert(caller_id.size <= sizeof message->caller);
    message->caller_size = (uint8_t)caller_id.size;
    if (caller_id.size > 0)
        memcpy(message->caller, caller_id.data, caller_id.size);
    memcpy(message->text, text.data, text.size);
    if (type == SC_MESSAGE_INVOKE)
        look_at_data(message, index);
    move_fields(message, fields, text);
    return message;
}

void sc_message_retain(struct sc_message *message) {
    atomic_fetch_add_explicit(&message->references, 1, memory_order_relaxed);
}

void sc_message_release(struct sc_message *message) {
    if (message == NULL)
        return;
    if (atomic_fetch_sub_explicit(&message->references, 1, memory_order_acq_rel) > 1)
        return;
    sc_message_settle(message);
    if (message->of_heap)
        sc_heap_give(message);
    else
        free(message);
}

// Whoever comes first takes the account out, so that a message that is settled and then released is taken back once.
void sc_message_settle(struct sc_message *message) {
    sc_account_take_back(atomic_exchange_explicit(&message->account, NULL, memory_order_acq_rel),
                         place_of((enum sc_message_type)message->type),
                         sizeof *message + message->size);
}

struct sc_account *sc_message_account(const struct sc_message *message) {
    return atomic_load_explicit(&message->account, memory_order_acquire);
}

enum sc_message_type sc_message_type(const struct sc_message *message) {
    return (enum sc_message_type)message->type;
}

struct sc_bytes sc_message_field(const struct sc_message *message, enum sc_message_field field) {
    return message->fields[field];
}

size_t sc_message_string(const struct sc_message *message, enum sc_message_field field,
                         uint8_t *out) {
    struct sc_bytes text = message->fields[field];
    assert(text.size >= 2 && text.data[0] == '"');
    return sc_json_unescape((struct sc_bytes){text.data + 1, text.size - 2}, out);
}

static struct sc_bytes decode(const struct sc_message *message, enum sc_message_field field,
                              uint8_t storage[SC_NAME_SIZE_MAX]) {
    if (message->fields[field].data == NULL)
        return (struct sc_bytes){0};
    return (struct sc_bytes){storage, sc_message_string(message, field, storage)};
}

void sc_message_names_read(const struct sc_message *message, struct sc_message_names *names) {
    names->id = decode(message, SC_FIELD_ID, names->storage[0]);
    names->stream = decode(message, SC_FIELD_STREAM, names->storage[1]);
    names->group = decode(message, SC_FIELD_GROUP, names->storage[2]);
    names->item = decode(message, SC_FIELD_ITEM, names->storage[3]);
    names->context = message->fields[SC_FIELD_METADATA];
    if (sc_bytes_equal(names->context, NULL_VALUE))
        names->context = (struct sc_bytes){0};
}

void sc_message_set_action(struct sc_message *message, bool is_void, bool is_enqueue) {
    message->is_void = is_void;
    message->is_enqueue = is_enqueue;
}

bool sc_message_is_enqueue(const struct sc_message *message) {
    return message->is_enqueue;
}

uint32_t sc_message_override(const struct sc_message *message) {
    assert(message->type == SC_MESSAGE_OVERRIDE);
    return message->override;
}

struct sc_bytes sc_message_text(const struct sc_message *message) {
    return (struct sc_bytes){message->text, message->size};
}

bool sc_message_is_void(const struct sc_message *message) {
    return message->is_void || message->fields[SC_FIELD_INVOCATION_ID].data == NULL;
}

// Without the closing brace: the caller's id follows. A caller may write the key itself, but must not pass for another.
static void copy_without_caller(const struct sc_message *message, struct sc_buffer *out) {
    struct sc_json_value data = {.text = message->fields[SC_FIELD_DATA], .kind = SC_JSON_OBJECT};
    size_t offset = 0;
    struct sc_json_member member;
    sc_buffer_append(out, "{", 1);
    while (sc_json_next(data, &offset, &member)) {
        if (sc_json_string_equal(member.key, member.key_escaped, CALLER_KEY))
            continue;
        sc_buffer_append(out, out->size > 1 ? ",\"" : "\"", out->size > 1 ? 2 : 1);
        sc_buffer_append_bytes(out, member.key);
        sc_buffer_append(out, "\":", 2);
        sc_buffer_append_bytes(out, member.value.text);
    }
}

// Nearly always the data is sent as it was written, with the id put before its closing brace: no copy, whatever its size.
size_t sc_message_data_parts(const struct sc_message *message, struct sc_buffer *scratch,
                             struct sc_bytes parts[SC_MESSAGE_DATA_PARTS_MAX]) {
    struct sc_bytes data = message->fields[SC_FIELD_DATA];
    parts[0] = data;
    if (message->data_kind != SC_JSON_OBJECT || message->caller_size == 0)
        return 1;
    bool empty = message->data_empty;
    if (message->has_caller_key) {
        copy_without_caller(message, scratch);
        parts[0] = sc_buffer_bytes(scratch);
        empty = scratch->size == 1;
    } else {
        parts[0].size--; // Without the closing brace.
    }
    parts[1] =
        empty ? SC_LITERAL("\"_caller_worker_id\":\"") : SC_LITERAL(",\"_caller_worker_id\":\"");
    parts[2] = (struct sc_bytes){message->caller, message->caller_size};
    parts[3] = SC_LITERAL("\"}");
    return 4;
}

// ---- Messages that the core makes

void sc_builder_begin(struct sc_message_builder *builder, enum sc_message_field field) {
    builder->starts[field] = (uint32_t)builder->text.size;
}

void sc_builder_end(struct sc_message_builder *builder, enum sc_message_field field) {
    builder->ends[field] = (uint32_t)builder->text.size;
}

void sc_builder_add(struct sc_message_builder *builder, struct sc_bytes text) {
    sc_buffer_append_bytes(&builder->text, text);
}

void sc_builder_field(struct sc_message_builder *builder, enum sc_message_field field,
                      struct sc_bytes text) {
    if (text.data == NULL)
        return;
    sc_builder_begin(builder, field);
    sc_builder_add(builder, text);
    sc_builder_end(builder, field);
}

void sc_builder_string(struct sc_message_builder *builder, enum sc_message_field field,
                       struct sc_bytes text) {
    sc_builder_begin(builder, field);
    sc_json_write_string(&builder->text, text);
    sc_builder_end(builder, field);
}

struct sc_message *sc_builder_finish(struct sc_message_builder *builder, enum sc_message_type type,
                                     struct sc_account *account) {
    struct sc_buffer *text = &builder->text;
    struct sc_message *message = text->failed || text->size > UINT32_MAX
                                     ? NULL
                                     : message_allocate(builder->heap, type, text->size, account);
    if (message != NULL) {
        memcpy(message->text, text->data, text->size);
        message->override = builder->override;
        message->is_void = builder->is_void;
        for (size_t i = 0; i < SC_FIELD_COUNT; i++)
            if (builder->ends[i] > builder->starts[i])
                message->fields[i] = (struct sc_bytes){message->text + builder->starts[i],
                                                       builder->ends[i] - builder->starts[i]};
    }
    sc_buffer_deinit(text);
    return message;
}
