// The checks of an operation, and its errors. The codes and texts are fixed: docs/update-ops.md.
#include "update_op.h"

static const char *const forbidden[] = {"__proto__", "constructor", "prototype"}; // In byte order.
enum { FORBIDDEN_COUNT = sizeof forbidden / sizeof forbidden[0], FORBIDDEN_SIZE_MIN = 9 };

// Names that change the prototype of an object when a JavaScript client assigns them. Most keys are shorter than the
// shortest of the names and cost one comparison.
static int find_forbidden(struct sc_bytes text) {
    if (text.size < FORBIDDEN_SIZE_MIN)
        return FORBIDDEN_COUNT;
    for (int i = 0; i < FORBIDDEN_COUNT; i++)
        if (text.size == strlen(forbidden[i]) && memcmp(text.data, forbidden[i], text.size) == 0)
            return i;
    return FORBIDDEN_COUNT;
}

// Errors go straight into the array of the answer: each is written once, and an update without errors writes nothing.
// The bytes of the message are escaped here and nowhere else.
void sc_op_fail(struct op_errors *errors, const struct op *op, const char *code,
                const struct reason *message) {
    struct sc_buffer *out = &errors->text;
    struct reason head = {.size = 0};
    sc_reason_say(&head, out->size == 0 ? "[{\"op_index\":" : ",{\"op_index\":");
    sc_reason_number(&head, op->number);
    sc_reason_say(&head, ",\"code\":\"");
    sc_reason_say(&head, sc_op_name(op->type));
    sc_reason_say(&head, ".");
    sc_reason_say(&head, code);
    sc_reason_say(&head, "\",\"message\":");
    sc_buffer_append(out, head.text, head.size);
    sc_json_write_string(out, (struct sc_bytes){message->text, message->size});
    struct sc_bytes tail =
        SC_LITERAL(",\"doc_url\":\"https://iii.dev/docs/workers/iii-state#error-codes\"}");
    sc_buffer_append_bytes(out, tail);
}

// ---- Messages

static const char *kind_name(uint8_t kind) {
    switch (kind) {
    case SC_JSON_FALSE:
    case SC_JSON_TRUE:
        return "boolean";
    case SC_JSON_NUMBER:
        return "number";
    case SC_JSON_STRING:
        return "string";
    case SC_JSON_ARRAY:
        return "array";
    case SC_JSON_OBJECT:
        return "object";
    default:
        return "null";
    }
}

// The first segment only, as clients know it from the original.
static void say_path(struct reason *message, const struct path *path) {
    if (path->count == 0)
        sc_reason_say(message, "root");
    else
        sc_reason_put(message, path->segments[0].text);
}

void sc_op_fail_target(struct op_errors *errors, const struct op *op, const struct path *path,
                       uint8_t kind) {
    struct reason message = {.size = 0};
    sc_reason_say(&message, "Cannot ");
    sc_reason_say(&message, sc_op_name(op->type));
    sc_reason_say(&message, " at path '");
    say_path(&message, path);
    sc_reason_say(&message, "': target is ");
    sc_reason_say(&message, kind_name(kind));
    sc_reason_say(&message, ", expected object.");
    sc_op_fail(errors, op, "target_not_object", &message);
}

void sc_op_fail_number(struct op_errors *errors, const struct op *op, const struct path *path,
                       uint8_t kind) {
    struct reason message = {.size = 0};
    sc_reason_say(&message, "Expected number at path '");
    say_path(&message, path);
    sc_reason_say(&message, "', got ");
    sc_reason_say(&message, kind_name(kind));
    sc_reason_say(&message, ".");
    sc_op_fail(errors, op, "not_number", &message);
}

void sc_op_fail_append(struct op_errors *errors, const struct op *op, const struct path *path,
                       uint8_t kind) {
    struct reason message = {.size = 0};
    bool string = kind == SC_JSON_STRING;
    sc_reason_say(&message,
                  string ? "Expected string append value at path '" : "Cannot append at path '");
    say_path(&message, path);
    sc_reason_say(&message, string ? "', got " : "': target is ");
    sc_reason_say(&message, kind_name(string ? op->value.kind : kind));
    sc_reason_say(&message, string ? "." : ", expected array, string, null, or missing field.");
    sc_op_fail(errors, op, "type_mismatch", &message);
}

// ---- Paths

static bool fail_limit(struct op_errors *errors, const struct op *op, const char *code,
                       const char *before, uint64_t number, const char *after) {
    struct reason message = {.size = 0};
    sc_reason_say(&message, before);
    sc_reason_number(&message, number);
    sc_reason_say(&message, after);
    sc_op_fail(errors, op, code, &message);
    return false;
}

static bool fail_words(struct op_errors *errors, const struct op *op, const char *code,
                       const char *before, const char *name, const char *after) {
    struct reason message = {.size = 0};
    sc_reason_say(&message, before);
    sc_reason_say(&message, name);
    sc_reason_say(&message, after);
    sc_op_fail(errors, op, code, &message);
    return false;
}

// The quick test for text that is known to be a string without escapes. What it refuses is looked at again by
// take_segment, which says why.
bool sc_op_segment_is_plain(struct sc_bytes text) {
    return text.size > 0 && text.size <= SEGMENT_SIZE_MAX &&
           find_forbidden(text) == FORBIDDEN_COUNT;
}

// The order of the checks is the order of the errors on the wire. A length is that of the decoded segment: an
// escape must not bring a longer key past the limit, nor a forbidden name past its check.
static bool take_segment(struct tree *tree, const struct op *op, struct op_errors *errors,
                         struct sc_json_value string, struct path *path) {
    struct sc_bytes raw = {string.text.data + 1, string.text.size - 2};
    if (raw.size == 0)
        return fail_words(errors, op, "path.empty_segment", "Path contains an empty segment", "",
                          "");
    size_t size = string.escaped ? sc_json_unescaped_size(raw) : raw.size;
    if (size > SEGMENT_SIZE_MAX)
        return fail_limit(errors, op, "path.segment_too_long", "Path segment of ", size,
                          " bytes exceeds maximum of 256");
    struct key key = sc_tree_key(tree, raw, string.escaped);
    int name = find_forbidden(key.text);
    if (name < FORBIDDEN_COUNT)
        return fail_words(errors, op, "path.proto_polluted", "Path segment '", forbidden[name],
                          "' is not allowed (prototype pollution).");
    path->segments[path->count++] = key;
    return !tree->failed;
}

// An empty string is the root, as is an empty array or a path that is not there. The depth is counted before any
// segment is taken, so that a path of a million segments costs one walk and no memory.
bool sc_op_path(struct tree *tree, const struct op *op, struct op_errors *errors,
                struct path *path) {
    path->count = 0;
    if (op->path.kind == SC_JSON_STRING)
        return op->path.text.size == 2 || take_segment(tree, op, errors, op->path, path);
    if (op->path.kind != SC_JSON_ARRAY)
        return true;
    uint64_t count = 0;
    struct sc_json_member segment;
    struct walk walk = walk_start(op->path, 0);
    while (walk_next(&walk, &segment))
        count++;
    if (count > PATH_SEGMENTS_MAX)
        return fail_limit(errors, op, "path.too_deep", "Path depth ", count,
                          " exceeds maximum of 32");
    walk = walk_start(op->path, 0);
    while (walk_next(&walk, &segment))
        if (!take_segment(tree, op, errors, segment.value, path))
            return false;
    return true;
}

// ---- Merge values

// Members as written: an upper bound of the keys. `first` gets the first forbidden name, if any.
static uint32_t survey(struct sc_json_value value, int *first) {
    uint32_t count = 0;
    uint8_t text[16];
    struct sc_json_member member;
    struct walk walk = walk_start(value, 0);
    *first = FORBIDDEN_COUNT;
    while (walk_next(&walk, &member)) {
        count++;
        struct sc_bytes key = member.key;
        if (member.key_escaped) {
            if (sc_json_unescaped_size(key) > sizeof text)
                continue;
            key = (struct sc_bytes){text, sc_json_unescape(key, text)};
        }
        int name = find_forbidden(key);
        *first = name < *first ? name : *first;
    }
    return count;
}

// Repeated keys count once: only when the members as written are too many are the keys counted exactly, which
// needs a tree. The checks run in the order of the errors on the wire.
bool sc_op_merge_value(struct tree *tree, const struct op *op, struct op_errors *errors) {
    if (op->value.kind != SC_JSON_OBJECT)
        return fail_words(errors, op, "value.not_an_object", "Merge value must be a JSON object",
                          "", "");
    int name;
    uint32_t count = survey(op->value, &name);
    if (count > MERGE_KEYS_MAX) {
        struct node node = sc_node_text(op->value);
        count = sc_tree_expand(tree, &node) ? sc_tree_key_count(tree, node.object) : 0;
        if (tree->failed)
            return false;
    }
    if (count > MERGE_KEYS_MAX)
        return fail_limit(errors, op, "value.too_many_keys", "Merge value has ", count,
                          " top-level keys, exceeds maximum of 1024");
    if (name < FORBIDDEN_COUNT)
        return fail_words(errors, op, "value.proto_polluted", "Merge value top-level key \"",
                          forbidden[name], "\" is a prototype-pollution sink");
    if (op->value.depth > MERGE_DEPTH_MAX)
        return fail_limit(errors, op, "value.too_deep", "Merge value JSON nesting depth ",
                          op->value.depth, " exceeds maximum of 16");
    return true;
}
