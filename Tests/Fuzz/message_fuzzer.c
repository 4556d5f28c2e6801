// Messages for the control plane: whatever a worker says, each type takes it or names a field, every field lies in the
// copy, and what goes on to an executor or a caller is JSON with one caller's id.
//
// Input: the text of a message.
#include "CStreamProtocol.h"
#include "fuzz.h"

static const struct sc_bytes worker_id = {(const uint8_t *)"0b6b1c9e-7c7b-4f6d-9a52-3d5f8a1e2c4d",
                                          36};

static void check_fields(const struct sc_message *message) {
    struct sc_bytes text = sc_message_text(message);
    for (int field = 0; field < SC_FIELD_COUNT; field++) {
        struct sc_bytes value = sc_message_field(message, (enum sc_message_field)field);
        static struct sc_json_index index;
        if (value.data == NULL)
            continue;
        CHECK(sc_json_scan(value, SC_JSON_DEPTH_MAX, &index) == 0);
        if (value.data >= text.data && value.data < text.data + text.size)
            CHECK(value.data + value.size <= text.data + text.size);
    }
}

// Puts the parts together, checks that they are JSON, and returns how often its `data` names the caller.
static int callers_of(const struct sc_bytes *parts, size_t count) {
    struct sc_buffer whole = {0};
    for (size_t i = 0; i < count; i++)
        sc_buffer_append_bytes(&whole, parts[i]);
    CHECK(!whole.failed);
    static struct sc_json_index index;
    // Data may be as deep as a message, and is one level deeper here.
    CHECK(sc_json_scan(sc_buffer_bytes(&whole), SC_JSON_DEPTH_MAX + 1, &index) == 0);
    struct sc_json_member scratch, member;
    const struct sc_json_member *data =
        sc_json_index_find(&index, -1, SC_LITERAL("data"), &scratch);
    int callers = 0;
    if (data != NULL && data->value.kind == SC_JSON_OBJECT)
        for (size_t offset = 0; sc_json_next(data->value, &offset, &member);)
            callers += sc_json_string_equal(member.key, member.key_escaped,
                                            SC_LITERAL("_caller_worker_id"));
    bool object = data != NULL && data->value.kind == SC_JSON_OBJECT;
    sc_buffer_deinit(&whole);
    return object ? callers : -1;
}

static void check_forward(enum sc_message_type type, const struct sc_message *message) {
    static struct sc_forward forward;
    struct sc_echo echo = {.invocation_id = SC_LITERAL("\"1\""),
                           .function_id = SC_LITERAL("f\"\n"),
                           .traceparent = SC_LITERAL("t"),
                           .baggage = SC_LITERAL("\\")};
    if (type == SC_MESSAGE_INVOKE) {
        CHECK(sc_forward_call(&forward, message, worker_id, echo.function_id));
        int callers = callers_of(forward.parts, forward.count);
        CHECK(callers == -1 || callers == 1);
        sc_forward_end(&forward);
    }
    if (type == SC_MESSAGE_RESULT) {
        CHECK(sc_forward_result(&forward, message, &echo));
        (void)callers_of(forward.parts, forward.count);
        sc_forward_result_too_large(&forward);
        (void)callers_of(forward.parts, forward.count);
        sc_forward_end(&forward);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct sc_json_index index;
    uint8_t *copy = copy_of(data, size);
    struct sc_bytes text = {copy, size};
    int rc = sc_json_scan(text, SC_JSON_DEPTH_MAX, &index);
    for (int type = 0; type <= SC_MESSAGE_REATTACH; type++) {
        // Of what could not be scanned to its end only a result is made.
        if (rc < 0 && type != SC_MESSAGE_RESULT)
            continue;
        const char *why = NULL;
        struct sc_message *message =
            sc_message_make((enum sc_message_type)type, text, &index, worker_id, NULL, &why);
        CHECK(message != NULL || (why != NULL && strlen(why) > 0));
        if (message == NULL)
            continue;
        CHECK(sc_message_type(message) == (enum sc_message_type)type);
        CHECK(sc_bytes_equal(sc_message_text(message), text));
        if (rc < 0)
            sc_message_set_malformed(message);
        check_fields(message);
        check_forward((enum sc_message_type)type, message);
        sc_message_release(message);
    }
    free(copy);
    return 0;
}
