// Envelopes of workers: each field is the last member of its key, whatever the order, the spelling and the count of the
// members, and nothing that a message says is read beyond it.
//
// Input: the text of a message.
#include "CStreamProtocol.h"
#include "fuzz.h"

static const struct sc_bytes keys[SC_ENVELOPE_FIELD_COUNT] = {
    [SC_ENVELOPE_TYPE] = {(const uint8_t *)"type", 4},
    [SC_ENVELOPE_DATA] = {(const uint8_t *)"data", 4},
    [SC_ENVELOPE_ACTION] = {(const uint8_t *)"action", 6},
    [SC_ENVELOPE_BAGGAGE] = {(const uint8_t *)"baggage", 7},
    [SC_ENVELOPE_FUNCTION_ID] = {(const uint8_t *)"function_id", 11},
    [SC_ENVELOPE_TRACEPARENT] = {(const uint8_t *)"traceparent", 11},
    [SC_ENVELOPE_INVOCATION_ID] = {(const uint8_t *)"invocation_id", 13},
};

// The last member of `key`, found by walking the text.
static struct sc_json_value model(struct sc_json_value object, struct sc_bytes key) {
    struct sc_json_value found = {0};
    struct sc_json_member member;
    for (size_t offset = 0; sc_json_next(object, &offset, &member);)
        if (sc_json_string_equal(member.key, member.key_escaped, key))
            found = member.value;
    return found;
}

static void check_fields(const struct sc_envelope *envelope, struct sc_json_value root) {
    for (int field = 0; field < SC_ENVELOPE_FIELD_COUNT; field++) {
        struct sc_json_value want = {0};
        if (root.kind == SC_JSON_OBJECT)
            want = model(root, keys[field]);
        const struct sc_json_member *member = envelope->fields[field];
        CHECK((member == NULL) == (want.kind == SC_JSON_ABSENT));
        if (member != NULL)
            CHECK(member->value.kind == want.kind && member->value.text.data == want.text.data &&
                  member->value.text.size == want.text.size);
    }
}

// The operation is that of the decoded id.
static void check_op(const struct sc_envelope *envelope) {
    struct sc_bytes id = sc_envelope_string(envelope, SC_ENVELOPE_FUNCTION_ID);
    int op = sc_envelope_stream_op(envelope);
    CHECK(op >= -1 && op <= SC_CALL_UPDATE);
    if (id.data == NULL) {
        CHECK(op == -1);
        return;
    }
    uint8_t *decoded = malloc(id.size);
    CHECK(decoded != NULL);
    size_t size = sc_json_unescape((struct sc_bytes){id.data + 1, id.size - 2}, decoded);
    CHECK(op == sc_call_op_find((struct sc_bytes){decoded, size}));
    free(decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct sc_json_index index;
    memset(&index, 0xAA, sizeof index);
    uint8_t *copy = copy_of(data, size);
    struct sc_bytes text = {copy, size};
    int rc = sc_json_scan(text, SC_JSON_DEPTH_MAX, &index);
    struct sc_envelope envelope;
    memset(&envelope, 0xAA, sizeof envelope);
    sc_envelope_read(&envelope, &index);
    if (rc == 0)
        check_fields(&envelope, index.root);
    int type = sc_envelope_type(&envelope);
    CHECK((type >= -1 && type <= SC_MESSAGE_REATTACH) || type == SC_TYPE_PING ||
          type == SC_TYPE_IGNORED);
    enum sc_action action = sc_envelope_action(&envelope);
    CHECK(action <= SC_ACTION_INVALID);
    const char *problem = sc_envelope_call_check(&envelope, action);
    if (problem == NULL)
        CHECK(sc_envelope_string(&envelope, SC_ENVELOPE_FUNCTION_ID).size >= 2);
    CHECK(problem == sc_envelope_call_problem(&envelope, action));
    check_op(&envelope);
    if (sc_text_is_blank(text))
        CHECK(rc < 0);
    (void)sc_telemetry_kind(text);
    free(copy);
    return 0;
}
