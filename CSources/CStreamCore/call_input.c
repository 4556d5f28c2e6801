// Order of the checks, which callers can see: wrong types in the byte order of the keys, then missing
// fields in the order of their declaration, then limits.
#include "call_input.h"

#include <errno.h>
#include <stdio.h>

// In the byte order of their keys.
enum field { DATA, GROUP, ID, ITEM, OPS, STREAM, TYPE, FIELD_COUNT };

static const struct sc_bytes keys[FIELD_COUNT] = {
    [DATA] = {(const uint8_t *)"data", 4}, [GROUP] = {(const uint8_t *)"group_id", 8},
    [ID] = {(const uint8_t *)"id", 2},     [ITEM] = {(const uint8_t *)"item_id", 7},
    [OPS] = {(const uint8_t *)"ops", 3},   [STREAM] = {(const uint8_t *)"stream_name", 11},
    [TYPE] = {(const uint8_t *)"type", 4},
};

enum { KEY_SIZE_MAX = 11, REQUIRED_MAX = 4 };

struct shape {
    struct sc_bytes expected; // How a wrong input is told what it should have been.
    uint8_t count;
    uint8_t required[REQUIRED_MAX]; // enum field, in the order of their declaration.
};

#define SHAPE(name) {(const uint8_t *)"struct " name, sizeof("struct " name) - 1}

static const struct shape shapes[] = {
    [SC_CALL_SET] = {SHAPE("StreamSetInput"), 4, {STREAM, GROUP, ITEM, DATA}},
    [SC_CALL_GET] = {SHAPE("StreamGetInput"), 3, {STREAM, GROUP, ITEM}},
    [SC_CALL_DELETE] = {SHAPE("StreamDeleteInput"), 3, {STREAM, GROUP, ITEM}},
    [SC_CALL_LIST] = {SHAPE("StreamListInput"), 2, {STREAM, GROUP}},
    [SC_CALL_LIST_GROUPS] = {SHAPE("StreamListGroupsInput"), 1, {STREAM}},
    [SC_CALL_LIST_ALL] = {SHAPE("StreamListAllInput"), 0, {0}},
    [SC_CALL_SEND] = {SHAPE("StreamSendInput"), 4, {STREAM, GROUP, TYPE, DATA}},
    [SC_CALL_UPDATE] = {SHAPE("StreamUpdateInput"), 4, {STREAM, GROUP, ITEM, OPS}},
};

static int match(struct sc_bytes rest, const char *name, size_t size, enum sc_call_op op) {
    return memcmp(rest.data, name, size) == 0 ? (int)op : -1;
}

int sc_call_op_find(struct sc_bytes id) {
    static const char prefix[] = "stream::";
    enum { PREFIX = sizeof prefix - 1 };
    if (id.size <= PREFIX || memcmp(id.data, prefix, PREFIX) != 0)
        return -1;
    struct sc_bytes rest = {id.data + PREFIX, id.size - PREFIX};
    switch (rest.size) {
    case 3:
        return rest.data[0] == 's' ? match(rest, "set", 3, SC_CALL_SET)
                                   : match(rest, "get", 3, SC_CALL_GET);
    case 4:
        return rest.data[0] == 's' ? match(rest, "send", 4, SC_CALL_SEND)
                                   : match(rest, "list", 4, SC_CALL_LIST);
    case 6:
        return rest.data[0] == 'u' ? match(rest, "update", 6, SC_CALL_UPDATE)
                                   : match(rest, "delete", 6, SC_CALL_DELETE);
    case 8:
        return match(rest, "list_all", 8, SC_CALL_LIST_ALL);
    case 11:
        return match(rest, "list_groups", 11, SC_CALL_LIST_GROUPS);
    default:
        return -1;
    }
}

static int find_field(const struct sc_json_member *member) {
    uint8_t decoded[KEY_SIZE_MAX];
    struct sc_bytes key = member->key;
    if (member->key_escaped) {
        if (sc_json_unescaped_size(key) > sizeof decoded)
            return -1;
        key = (struct sc_bytes){decoded, sc_json_unescape(key, decoded)};
    }
    for (int i = 0; i < FIELD_COUNT; i++)
        if (sc_bytes_equal(key, keys[i]))
            return i;
    return -1;
}

// Of several members with one key the last counts.
static void collect(const struct sc_json_index *index, const struct sc_json_member *data,
                    struct sc_json_value fields[FIELD_COUNT]) {
    if (index->overflow) {
        size_t offset = 0;
        struct sc_json_member member;
        while (sc_json_next(data->value, &offset, &member)) {
            int i = find_field(&member);
            if (i >= 0)
                fields[i] = member.value;
        }
        return;
    }
    int parent = (int)(data - index->members);
    assert(parent >= 0 && parent < index->count);
    for (int at = parent + 1; at < index->count; at++) {
        const struct sc_json_member *member = &index->members[at];
        if (member->parent != parent)
            break; // The next member of the root.
        int i = find_field(member);
        if (i >= 0)
            fields[i] = member->value;
    }
}

static int mismatch(struct sc_call_input *input, struct sc_json_value value,
                    struct sc_bytes expected) {
    input->reason = (struct sc_bytes){input->reason_text,
                                      sc_json_mismatch_write(value, expected, input->reason_text)};
    return -EINVAL;
}

static int refuse(struct sc_call_input *input, int size) {
    assert(size > 0 && size < (int)sizeof input->reason_text);
    input->reason = (struct sc_bytes){input->reason_text, (size_t)size};
    return -EINVAL;
}

static char *reason_room(struct sc_call_input *input) {
    return (char *)input->reason_text;
}

static bool is_used(enum sc_call_op op, enum field field) {
    const struct shape *shape = &shapes[op];
    for (unsigned i = 0; i < shape->count; i++)
        if (shape->required[i] == field)
            return true;
    return op == SC_CALL_SEND && field == ID;
}

static int check_types(enum sc_call_op op, const struct sc_json_value fields[FIELD_COUNT],
                       struct sc_call_input *input) {
    for (enum field field = DATA; field < FIELD_COUNT; field++) {
        struct sc_json_value value = fields[field];
        if (value.kind == SC_JSON_ABSENT || field == DATA || !is_used(op, field))
            continue;
        if (field == OPS) {
            if (value.kind != SC_JSON_ARRAY)
                return mismatch(input, value, SC_LITERAL("a sequence"));
        } else if (value.kind != SC_JSON_STRING && !(field == ID && value.kind == SC_JSON_NULL)) {
            return mismatch(input, value, SC_LITERAL("a string"));
        }
    }
    return 0;
}

static int check_missing(enum sc_call_op op, const struct sc_json_value fields[FIELD_COUNT],
                         struct sc_call_input *input) {
    const struct shape *shape = &shapes[op];
    for (unsigned i = 0; i < shape->count; i++) {
        enum field field = shape->required[i];
        if (fields[field].kind == SC_JSON_ABSENT)
            return refuse(input, snprintf(reason_room(input), sizeof input->reason_text,
                                          "missing field `%s`", (const char *)keys[field].data));
    }
    return 0;
}

static int take_name(struct sc_call_input *input, enum field field, struct sc_json_value value,
                     uint8_t room[SC_NAME_SIZE_MAX], struct sc_bytes *name) {
    if (value.kind != SC_JSON_STRING)
        return 0;
    struct sc_bytes raw = {value.text.data + 1, value.text.size - 2};
    size_t size = value.escaped ? sc_json_unescaped_size(raw) : raw.size;
    if (size > SC_NAME_SIZE_MAX)
        return refuse(input, snprintf(reason_room(input), sizeof input->reason_text,
                                      "`%s` of %zu bytes exceeds maximum of %d",
                                      (const char *)keys[field].data, size, SC_NAME_SIZE_MAX));
    *name = raw;
    if (value.escaped)
        *name = (struct sc_bytes){room, sc_json_unescape(raw, room)};
    return 0;
}

static int take_names(enum sc_call_op op, const struct sc_json_value fields[FIELD_COUNT],
                      struct sc_call_input *input) {
    enum field item = op == SC_CALL_SEND ? ID : ITEM;
    const struct {
        enum field field;
        struct sc_bytes *name;
    } names[] = {{STREAM, &input->stream},
                 {GROUP, &input->group},
                 {item, &input->item},
                 {TYPE, &input->type}};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        enum field field = names[i].field;
        if (!is_used(op, field))
            continue;
        int rc = take_name(input, field, fields[field], input->names[i], names[i].name);
        if (rc < 0)
            return rc;
    }
    input->has_item = is_used(op, item) && fields[item].kind == SC_JSON_STRING;
    return 0;
}

static int take_data(struct sc_json_value data, struct sc_call_input *input) {
    if (data.depth > SC_VALUE_DEPTH_MAX)
        return refuse(input, snprintf(reason_room(input), sizeof input->reason_text,
                                      "`data` of depth %u exceeds maximum of %d", data.depth,
                                      SC_VALUE_DEPTH_MAX));
    if (data.text.size > SC_VALUE_SIZE_MAX)
        return refuse(input, snprintf(reason_room(input), sizeof input->reason_text,
                                      "`data` of %zu bytes exceeds maximum of %u", data.text.size,
                                      SC_VALUE_SIZE_MAX));
    input->data = data;
    return 0;
}

int sc_call_input_read(enum sc_call_op op, const struct sc_json_index *index,
                       const struct sc_json_member *data, struct sc_call_input *input) {
    assert(op <= SC_CALL_UPDATE);
    // Field by field: the rooms for names and reason need no clearing.
    input->stream = input->group = input->item = input->type = (struct sc_bytes){0};
    input->has_item = false;
    input->data = input->ops = (struct sc_json_value){0};
    input->reason = (struct sc_bytes){0};
    struct sc_json_value whole = data == NULL ? (struct sc_json_value){0} : data->value;
    struct sc_json_value fields[FIELD_COUNT] = {0};
    if (whole.kind == SC_JSON_OBJECT)
        collect(index, data, fields);
    else if (op != SC_CALL_LIST_ALL || whole.kind > SC_JSON_NULL)
        return mismatch(input, whole, shapes[op].expected);
    int rc = check_types(op, fields, input);
    if (rc == 0)
        rc = check_missing(op, fields, input);
    if (rc == 0)
        rc = take_names(op, fields, input);
    if (rc == 0 && is_used(op, DATA))
        rc = take_data(fields[DATA], input);
    if (rc == 0 && op == SC_CALL_UPDATE)
        input->ops = fields[OPS];
    return rc;
}
