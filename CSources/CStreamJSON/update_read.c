// Reads an operation. What is malformed rejects the whole call, in the words of the wire: first what is
// wrong with `type`, then wrong types in the byte order of the keys, then what is missing.
#include "update_op.h"

#include <errno.h>

static const char *const names[] = {"set", "merge", "increment", "decrement", "append", "remove"};

const char *sc_op_name(enum op_type type) {
    return names[type];
}

// The members that an operation may have, as written.
struct fields {
    struct sc_json_value type, path, value, by;
};

// By size first: four names of which at most two have the same size. Other keys are ignored, as on the wire.
static struct sc_json_value *plain_field(struct fields *fields, struct sc_bytes key) {
    switch (key.size) {
    case 2:
        return memcmp(key.data, "by", 2) == 0 ? &fields->by : NULL;
    case 4:
        if (memcmp(key.data, "type", 4) == 0)
            return &fields->type;
        return memcmp(key.data, "path", 4) == 0 ? &fields->path : NULL;
    case 5:
        return memcmp(key.data, "value", 5) == 0 ? &fields->value : NULL;
    default:
        return NULL;
    }
}

// A key may be written with escapes. One that is longer than the longest name, decoded, is no name.
static struct sc_json_value *field(struct fields *fields, const struct sc_json_member *member) {
    if (!member->key_escaped)
        return plain_field(fields, member->key);
    uint8_t text[5];
    if (sc_json_unescaped_size(member->key) > sizeof text)
        return NULL;
    size_t size = sc_json_unescape(member->key, text);
    return plain_field(fields, (struct sc_bytes){text, size});
}

static struct sc_bytes inside(struct sc_bytes quoted) {
    return (struct sc_bytes){quoted.data + 1, quoted.size - 2};
}

static bool find_type(struct sc_json_value type, enum op_type *out) {
    struct sc_bytes text = inside(type.text);
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct sc_bytes name = {(const uint8_t *)names[i], strlen(names[i])};
        if (sc_json_string_equal(text, type.escaped, name)) {
            *out = (enum op_type)i;
            return true;
        }
    }
    return false;
}

static int reject(struct reason *reason, const char *words) {
    sc_reason_say(reason, words);
    return -EINVAL;
}

static int mismatch(struct reason *reason, struct sc_json_value value, const char *expected) {
    sc_reason_mismatch(reason, value, expected);
    return -EINVAL;
}

static int read_type(struct sc_json_value type, enum op_type *out, struct reason *reason) {
    if (type.kind == SC_JSON_ABSENT)
        return reject(reason, "missing field `type`");
    if (type.kind != SC_JSON_STRING)
        return mismatch(reason, type, "variant identifier");
    if (find_type(type, out))
        return 0;
    sc_reason_say(reason, "unknown variant `");
    sc_reason_string(reason, inside(type.text), false);
    return reject(reason, "`, expected one of `set`, `merge`, `increment`, `decrement`, `append`, "
                          "`remove`");
}

// A number of this spelling that does not fit is an integer out of range; with a point or exponent it is a float.
static bool is_integer_text(struct sc_bytes text) {
    return memchr(text.data, '.', text.size) == NULL && memchr(text.data, 'e', text.size) == NULL &&
           memchr(text.data, 'E', text.size) == NULL;
}

// Any spelling of a whole number within i64 will do.
static int read_by(struct sc_json_value by, int64_t *out, struct reason *reason) {
    if (by.kind == SC_JSON_ABSENT)
        return 0;
    if (by.kind != SC_JSON_NUMBER)
        return mismatch(reason, by, "i64");
    struct sc_json_number number = sc_json_number_read(by.text);
    if (number.kind == SC_JSON_INT64) {
        *out = number.int64;
        return 0;
    }
    if (number.kind == SC_JSON_UINT64) {
        sc_reason_say(reason, "invalid value: integer `");
        sc_reason_number(reason, number.uint64);
        return reject(reason, "`, expected i64");
    }
    double real = number.real;
    bool fits = real >= -0x1p63 && real < 0x1p63 && real == (double)(int64_t)real;
    if (!fits || (real != 0 && is_integer_text(by.text)))
        return mismatch(reason, by, "i64");
    *out = (int64_t)real;
    return 0;
}

// The kind of error differs from that of other operations: the wire has a path of two forms here, and says so.
static bool is_merge_path(struct sc_json_value path) {
    if (path.kind != SC_JSON_ARRAY)
        return path.kind <= SC_JSON_NULL || path.kind == SC_JSON_STRING;
    struct walk walk = walk_start(path, 0);
    struct sc_json_member element;
    while (walk_next(&walk, &element))
        if (element.value.kind != SC_JSON_STRING)
            return false;
    return true;
}

static int read_path(struct sc_json_value path, enum op_type type, struct reason *reason) {
    if (type == OP_MERGE) {
        if (!is_merge_path(path))
            return reject(reason, "data did not match any variant of untagged enum MergePath");
    } else if (path.kind != SC_JSON_ABSENT && path.kind != SC_JSON_STRING) {
        return mismatch(reason, path, "a string");
    }
    return 0;
}

// In the order in which the errors win on the wire. 1: the operation is complete.
static int read_fields(const struct fields *fields, struct op *op, struct reason *reason) {
    int rc = read_type(fields->type, &op->type, reason);
    if (rc < 0)
        return rc;
    bool number = op->type == OP_INCREMENT || op->type == OP_DECREMENT;
    if (number && (rc = read_by(fields->by, &op->by, reason)) < 0)
        return rc;
    op->path = fields->path;
    if ((rc = read_path(fields->path, op->type, reason)) < 0)
        return rc;
    op->value = fields->value;
    if (op->type != OP_MERGE && fields->path.kind == SC_JSON_ABSENT)
        return reject(reason, "missing field `path`");
    if (number && fields->by.kind == SC_JSON_ABSENT)
        return reject(reason, "missing field `by`");
    // A remove has no value; one that is there is ignored like any other unknown key.
    if (fields->value.kind != SC_JSON_ABSENT && op->type != OP_REMOVE)
        return 1;
    if (op->type == OP_MERGE || op->type == OP_APPEND)
        return reject(reason, "missing field `value`");
    op->value =
        (struct sc_json_value){.text = SC_LITERAL("null"), .kind = SC_JSON_NULL, .compact = true};
    return 1;
}

int sc_op_read(struct walk *walk, struct op *op, struct reason *reason) {
    const uint8_t *p = walk_white(walk->p, walk->end);
    if (p < walk->end && *p == ',')
        p = walk_white(p + 1, walk->end);
    if (p == walk->end || *p == ']')
        return 0;
    if (*p != '{') {
        struct sc_json_value value;
        walk->p = walk_value(p, walk->end, &value);
        return mismatch(reason, value, "internally tagged enum UpdateOp");
    }
    struct walk members = {.p = p + 1, .end = walk->end, .object = true};
    struct sc_json_member member;
    struct fields fields = {0};
    while (walk_next(&members, &member)) {
        struct sc_json_value *slot = field(&fields, &member);
        if (slot != NULL)
            *slot = member.value; // The last of several wins.
    }
    walk->p = members.p + 1;
    return read_fields(&fields, op, reason);
}
