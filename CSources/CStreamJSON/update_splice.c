// The usual update: one operation on one member of an object. The text is walked once, and the member's new
// value put between what is before and behind it. Nothing is taken apart.
#include "update_op.h"

// The only member with the key, and how deep its neighbours are.
struct spot {
    struct sc_json_value value;
    unsigned deepest; // Of the other members.
    unsigned count;   // Members with the key.
};

// The end of the number or literal at `p`.
static inline const uint8_t *scalar_end(const uint8_t *p) {
    while (*p != ',' && *p != '}')
        p++;
    return p;
}

// Compact text has nothing between its tokens: this walk looks for less than walk_next does.
static struct spot find_spot(struct sc_bytes text, struct sc_bytes key) {
    struct spot spot = {.count = 0};
    const uint8_t *p = text.data + 1, *end = text.data + text.size;
    while (*p != '}') {
        p += *p == ',';
        assert(p < end && *p == '"');
        bool key_escaped = false, escaped = false;
        struct sc_bytes name = {p + 1, 0};
        p = string_close(p + 1, end, &key_escaped);
        name.size = (size_t)(p - name.data);
        p += 2;
        const uint8_t *value = p;
        struct sc_json_value container = {.depth = 0};
        if (*p == '"')
            p = string_close(p + 1, end, &escaped) + 1;
        else if (*p == '{' || *p == '[')
            p = sc_walk_container(p, end, &container);
        else
            p = scalar_end(p);
        bool same = key_escaped ? sc_json_string_equal(name, true, key) : sc_bytes_equal(name, key);
        if (same) {
            (void)walk_value(value, end, &spot.value);
            spot.count++;
        } else if (spot.deepest < container.depth) {
            spot.deepest = container.depth;
        }
    }
    return spot;
}

// Reads `ops` when it is one operation of the kinds that are spliced, on a member of the root.
static bool read_only_op(struct working *working, struct sc_json_value ops, struct op *op,
                         struct path *path) {
    struct reason ignored;
    ignored.size = 0;
    struct walk walk = walk_start(ops, 0);
    if (sc_op_read(&walk, op, &ignored) != 1)
        return false;
    const uint8_t *next = walk_white(walk.p, walk.end);
    if (next == walk.end || *next != ']')
        return false;
    if (op->type != OP_SET && op->type != OP_INCREMENT && op->type != OP_DECREMENT)
        return false;
    if (!sc_op_path(&working->tree, op, &working->errors, path)) {
        working->errors.text.size = 0; // Said again by who applies it.
        return false;
    }
    return path->count == 1;
}

static void put(struct sc_buffer *out, struct sc_bytes old, struct sc_json_value at,
                struct sc_json_value value) {
    size_t before = (size_t)(at.text.data - old.data);
    size_t after = old.size - before - at.text.size;
    uint8_t *to = sc_buffer_reserve(out, before + value.text.size + after);
    if (to == NULL)
        return;
    memcpy(to, old.data, before);
    size_t size = before + sc_json_compact(value, to + before);
    memcpy(to + size, at.text.data + at.text.size, after);
    out->size += size + after;
}

bool sc_op_splice(struct working *working, struct sc_bytes old, struct sc_json_value ops,
                  struct sc_buffer *out) {
    struct op op = {.number = 0};
    struct path path;
    if (old.size == 0 || old.data[0] != '{' || !read_only_op(working, ops, &op, &path))
        return false;
    struct spot spot = find_spot(old, path.segments[0].text);
    if (spot.count != 1)
        return false; // A new member, or one that is there twice.
    uint8_t digits[SC_JSON_NUMBER_SIZE_MAX];
    struct sc_json_value value = op.value;
    if (op.type != OP_SET) {
        struct sc_json_number number;
        if (spot.value.kind != SC_JSON_NUMBER ||
            !sc_op_arithmetic(op.type, sc_json_number_read(spot.value.text), op.by, &number))
            return false; // An error, which the tree's way tells.
        value = (struct sc_json_value){.text = {digits, sc_json_number_write(number, digits)},
                                       .kind = SC_JSON_NUMBER,
                                       .compact = true};
    }
    put(out, old, spot.value, value);
    unsigned deepest = spot.deepest > value.depth ? spot.deepest : value.depth;
    working->root = (struct node){.form = FORM_TEXT,
                                  .kind = SC_JSON_OBJECT,
                                  .depth = (uint8_t)(deepest + 1),
                                  .compact = true,
                                  .text = sc_buffer_bytes(out)};
    return true;
}
