// The input of stream calls: whatever `data` is, each operation takes it or says why not, and the names that it takes are
// the characters of the last member of their key.
//
// Input: the text of a call.
#include "CStreamProtocol.h"
#include "fuzz.h"

#include <errno.h>

static struct sc_json_value model(struct sc_json_value object, const char *key) {
    struct sc_json_value found = {0};
    struct sc_json_member member;
    for (size_t offset = 0; sc_json_next(object, &offset, &member);)
        if (sc_json_string_equal(member.key, member.key_escaped,
                                 (struct sc_bytes){(const uint8_t *)key, strlen(key)}))
            found = member.value;
    return found;
}

static void check_name(struct sc_json_value data, const char *key, struct sc_bytes name) {
    struct sc_json_value value = model(data, key);
    CHECK(value.kind == SC_JSON_STRING && name.size <= SC_NAME_SIZE_MAX);
    struct sc_bytes raw = {value.text.data + 1, value.text.size - 2};
    CHECK(sc_json_string_equal(raw, value.escaped, name));
}

static void check_input(enum sc_call_op op, struct sc_json_value data,
                        const struct sc_call_input *input) {
    if (op == SC_CALL_LIST_ALL)
        return;
    CHECK(data.kind == SC_JSON_OBJECT);
    check_name(data, "stream_name", input->stream);
    if (op != SC_CALL_LIST_GROUPS)
        check_name(data, "group_id", input->group);
    if (op == SC_CALL_SET || op == SC_CALL_GET || op == SC_CALL_DELETE || op == SC_CALL_UPDATE)
        check_name(data, "item_id", input->item);
    if (op == SC_CALL_SEND) {
        check_name(data, "type", input->type);
        CHECK(input->has_item == (model(data, "id").kind == SC_JSON_STRING));
        if (input->has_item)
            check_name(data, "id", input->item);
    }
    if (op == SC_CALL_SET || op == SC_CALL_SEND)
        CHECK(input->data.text.data == model(data, "data").text.data &&
              input->data.depth <= SC_VALUE_DEPTH_MAX);
    if (op == SC_CALL_UPDATE)
        CHECK(input->ops.kind == SC_JSON_ARRAY &&
              input->ops.text.data == model(data, "ops").text.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct sc_json_index index;
    static struct sc_call_input input;
    uint8_t *copy = copy_of(data, size);
    if (sc_json_scan((struct sc_bytes){copy, size}, SC_JSON_DEPTH_MAX, &index) == 0) {
        struct sc_json_member scratch;
        const struct sc_json_member *member =
            sc_json_index_find(&index, -1, SC_LITERAL("data"), &scratch);
        for (int op = SC_CALL_SET; op <= SC_CALL_UPDATE; op++) {
            memset(&input, 0xAA, sizeof input);
            int rc = sc_call_input_read((enum sc_call_op)op, &index, member, &input);
            CHECK(rc == 0 || rc == -EINVAL);
            if (rc == 0)
                check_input((enum sc_call_op)op,
                            member == NULL ? (struct sc_json_value){0} : member->value, &input);
            else
                CHECK(input.reason.size > 0 && sc_utf8_valid(input.reason));
        }
    }
    (void)sc_call_op_find((struct sc_bytes){copy, size});
    free(copy);
    return 0;
}
