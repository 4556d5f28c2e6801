// Order of the checks, which callers can see: wrong types in the byte order of the keys, then missing
// fields in the order of their declaration, then limits.
#include "CStreamProtocol.h"

#include <errno.h>
#include <stdio.h>

// In the byte order of their keys.
enum field { DATA, GROUP, ID, ITEM, OPS, STREAM, TYPE, FIELD_COUNT };
_Static_assert(FIELD_COUNT == SC_CALL_FIELD_COUNT, "a room for each");

static const struct sc_bytes keys[FIELD_COUNT] = {
    [DATA] = {(const uint8_t *)"data", 4}, [GROUP] = {(const uint8_t *)"group_id", 8},
    [ID] = {(const uint8_t *)"id", 2},     [ITEM] = {(const uint8_t *)"item_id", 7},
    [OPS] = {(const uint8_t *)"ops", 3},   [STREAM] = {(const uint8_t *)"stream_name", 11},
    [TYPE] = {(const uint8_t *)"type", 4},
};

enum { KEY_SIZE_MAX = 11, REQUIRED_MAX = 4 };

#define BIT(field) (1u << (field))
#define NAMES (BIT(STREAM) | BIT(GROUP))

// Which fields count, which must be there, and in which order a missing one is named: the order is part of the wire, since
// callers see the first complaint only.
struct shape {
    struct sc_bytes expected; // How a wrong input is told what it should have been.
    uint8_t uses;             // A bit for each field that counts,
    uint8_t needs;            // and for each that must be there:
    uint8_t count;
    uint8_t required[REQUIRED_MAX]; // enum field, in the order of their declaration.
};

#define SHAPE(name) {(const uint8_t *)"struct " name, sizeof("struct " name) - 1}
#define BOTH(bits) (bits), (bits)

static const struct shape shapes[] = {
    [SC_CALL_SET] = {SHAPE("StreamSetInput"),
                     BOTH(NAMES | BIT(ITEM) | BIT(DATA)),
                     4,
                     {STREAM, GROUP, ITEM, DATA}},
    [SC_CALL_GET] = {SHAPE("StreamGetInput"), BOTH(NAMES | BIT(ITEM)), 3, {STREAM, GROUP, ITEM}},
    [SC_CALL_DELETE] = {SHAPE("StreamDeleteInput"),
                        BOTH(NAMES | BIT(ITEM)),
                        3,
                        {STREAM, GROUP, ITEM}},
    [SC_CALL_LIST] = {SHAPE("StreamListInput"), BOTH(NAMES), 2, {STREAM, GROUP}},
    [SC_CALL_LIST_GROUPS] = {SHAPE("StreamListGroupsInput"), BOTH(BIT(STREAM)), 1, {STREAM}},
    [SC_CALL_LIST_ALL] = {SHAPE("StreamListAllInput"), BOTH(0), 0, {0}},
    [SC_CALL_SEND] = {SHAPE("StreamSendInput"),
                      NAMES | BIT(TYPE) | BIT(DATA) | BIT(ID),
                      NAMES | BIT(TYPE) | BIT(DATA),
                      4,
                      {STREAM, GROUP, TYPE, DATA}},
    [SC_CALL_UPDATE] = {SHAPE("StreamUpdateInput"),
                        BOTH(NAMES | BIT(ITEM) | BIT(OPS)),
                        4,
                        {STREAM, GROUP, ITEM, OPS}},
};

/// The members of the input that are fields; of several with one key the last.
struct input_fields {
    unsigned present;                                // A bit for each field that is there,
    unsigned strings;                                // and for each that is a string.
    const struct sc_json_value *values[FIELD_COUNT]; // Of those that are there.
    struct sc_json_value own[FIELD_COUNT];           // Theirs when the index overflowed.
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

static int field_of(struct sc_bytes key) {
    switch (key.size) {
    case 2:
        return memcmp(key.data, "id", 2) == 0 ? ID : -1;
    case 3:
        return memcmp(key.data, "ops", 3) == 0 ? OPS : -1;
    case 4:
        return memcmp(key.data, "data", 4) == 0   ? DATA
               : memcmp(key.data, "type", 4) == 0 ? TYPE
                                                  : -1;
    case 7:
        return memcmp(key.data, "item_id", 7) == 0 ? ITEM : -1;
    case 8:
        return memcmp(key.data, "group_id", 8) == 0 ? GROUP : -1;
    case 11:
        return memcmp(key.data, "stream_name", 11) == 0 ? STREAM : -1;
    default:
        return -1;
    }
}

static int field_of_escaped(struct sc_bytes key) {
    uint8_t decoded[KEY_SIZE_MAX];
    if (sc_json_unescaped_size(key) > sizeof decoded)
        return -1;
    return field_of((struct sc_bytes){decoded, sc_json_unescape(key, decoded)});
}

static inline int take_field(struct input_fields *fields, const struct sc_json_member *member) {
    int field = member->key_escaped ? field_of_escaped(member->key) : field_of(member->key);
    if (field < 0)
        return field;
    unsigned string = member->value.kind == SC_JSON_STRING;
    fields->present |= BIT(field);
    fields->strings = (fields->strings & ~BIT(field)) | string << field;
    fields->values[field] = &member->value;
    return field;
}

// The members of `data` follow it in the index, so the walk ends at the first one that is not its own.
static void collect(const struct sc_json_index *index, const struct sc_json_member *data,
                    struct input_fields *fields) {
    if (index->overflow) {
        size_t offset = 0;
        struct sc_json_member member;
        while (sc_json_next(data->value, &offset, &member)) {
            int field = take_field(fields, &member);
            if (field < 0)
                continue;
            fields->own[field] = member.value;
            fields->values[field] = &fields->own[field];
        }
        return;
    }
    int parent = (int)(data - index->members);
    assert(parent >= 0 && parent < index->count);
    const struct sc_json_member *end = index->members + index->count;
    for (const struct sc_json_member *member = data + 1; member < end; member++) {
        if (member->parent != parent)
            break; // The next member of the root.
        (void)take_field(fields, member);
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

// Types first, for all fields: a field of the wrong type is named even when another one is missing.
static int check_types(const struct shape *shape, const struct input_fields *fields,
                       struct sc_call_input *input) {
    unsigned typed = shape->uses & fields->present & ~BIT(DATA);
    unsigned left = typed & (~fields->strings | BIT(OPS)); // The others are what they must be.
    for (; left != 0; left &= left - 1) {
        int field = __builtin_ctz(left); // In the byte order of the keys.
        struct sc_json_value value = *fields->values[field];
        if (field == OPS && value.kind != SC_JSON_ARRAY)
            return mismatch(input, value, SC_LITERAL("a sequence"));
        if (field != OPS && !(field == ID && value.kind == SC_JSON_NULL))
            return mismatch(input, value, SC_LITERAL("a string"));
    }
    return 0;
}

static int check_missing(const struct shape *shape, const struct input_fields *fields,
                         struct sc_call_input *input) {
    if ((shape->needs & ~fields->present) == 0)
        return 0;
    unsigned i = 0;
    while (fields->present & BIT(shape->required[i]))
        i++;
    assert(i < shape->count);
    return refuse(input,
                  snprintf(reason_room(input), sizeof input->reason_text, "missing field `%s`",
                           (const char *)keys[shape->required[i]].data));
}

// Names with escapes, and those that may be too long: few, so that the common ones are slices without a copy.
static int take_odd_name(struct sc_call_input *input, enum field field,
                         const struct sc_json_value *value, uint8_t room[SC_NAME_SIZE_MAX],
                         struct sc_bytes *name) {
    struct sc_bytes raw = {value->text.data + 1, value->text.size - 2};
    size_t size = value->escaped ? sc_json_unescaped_size(raw) : raw.size;
    if (size > SC_NAME_SIZE_MAX)
        return refuse(input, snprintf(reason_room(input), sizeof input->reason_text,
                                      "`%s` of %zu bytes exceeds maximum of %d",
                                      (const char *)keys[field].data, size, SC_NAME_SIZE_MAX));
    *name = (struct sc_bytes){room, sc_json_unescape(raw, room)};
    return 0;
}

// Names that the operation does not have, or that are null, stay empty.
static inline int take_name(struct sc_call_input *input, const struct input_fields *fields,
                            unsigned there, enum field field, struct sc_bytes *name) {
    if ((there & BIT(field)) == 0)
        return 0;
    const struct sc_json_value *value = fields->values[field];
    if (value->escaped || value->text.size - 2 > SC_NAME_SIZE_MAX)
        return take_odd_name(input, field, value, input->names[field], name);
    *name = (struct sc_bytes){value->text.data + 1, value->text.size - 2};
    return 0;
}

static int take_names(enum sc_call_op op, const struct input_fields *fields,
                      struct sc_call_input *input) {
    unsigned there = shapes[op].uses & fields->strings;
    input->has_item = (there & (BIT(ITEM) | BIT(ID))) != 0;
    int rc = take_name(input, fields, there, STREAM, &input->stream);
    if (rc == 0)
        rc = take_name(input, fields, there, GROUP, &input->group);
    if (rc == 0)
        rc = take_name(input, fields, there, op == SC_CALL_SEND ? ID : ITEM, &input->item);
    if (rc == 0)
        rc = take_name(input, fields, there, TYPE, &input->type);
    return rc;
}

// The limits of a value leave room for the frame around it: see SC_VALUE_DEPTH_MAX.
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

// The input is not cleared as a whole: its rooms for names are two kilobytes, and most calls use none of them.
int sc_call_input_read(enum sc_call_op op, const struct sc_json_index *index,
                       const struct sc_json_member *data, struct sc_call_input *input) {
    assert(op <= SC_CALL_UPDATE);
    // Field by field: the rooms for names and reason need no clearing.
    input->stream = input->group = input->item = input->type = (struct sc_bytes){0};
    input->has_item = false;
    input->data = input->ops = (struct sc_json_value){0};
    input->reason = (struct sc_bytes){0};
    static const struct sc_json_value absent;
    const struct sc_json_value *whole = data == NULL ? &absent : &data->value;
    struct input_fields fields;
    fields.present = fields.strings = 0; // The values need no clearing.
    if (whole->kind == SC_JSON_OBJECT)
        collect(index, data, &fields);
    else if (op != SC_CALL_LIST_ALL || whole->kind > SC_JSON_NULL)
        return mismatch(input, *whole, shapes[op].expected);
    const struct shape *shape = &shapes[op];
    int rc = check_types(shape, &fields, input);
    if (rc == 0)
        rc = check_missing(shape, &fields, input);
    if (rc == 0)
        rc = take_names(op, &fields, input);
    if (rc == 0 && shape->uses & BIT(DATA))
        rc = take_data(*fields.values[DATA], input);
    if (rc == 0 && op == SC_CALL_UPDATE)
        input->ops = *fields.values[OPS];
    return rc;
}
