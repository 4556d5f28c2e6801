// What each operation does to the working value.
#include "update_op.h"

// ---- Arithmetic

// Whole numbers stay whole, and doubles stay doubles. What leaves both ranges is an error, never a wrong number.
bool sc_op_arithmetic(enum op_type type, struct sc_json_number x, int64_t by,
                      struct sc_json_number *result) {
    if (x.kind == SC_JSON_DOUBLE) {
        double real = type == OP_INCREMENT ? x.real + (double)by : x.real - (double)by;
        *result = (struct sc_json_number){SC_JSON_DOUBLE, {.real = real}};
        return true;
    }
    // Wide enough for every sum of an i64 or u64 and an i64.
    __int128 start = x.kind == SC_JSON_INT64 ? (__int128)x.int64 : (__int128)x.uint64;
    __int128 sum = type == OP_INCREMENT ? start + by : start - by;
    if (sum >= INT64_MIN && sum <= INT64_MAX)
        *result = (struct sc_json_number){SC_JSON_INT64, {.int64 = (int64_t)sum}};
    else if (sum > 0 && sum <= UINT64_MAX)
        *result = (struct sc_json_number){SC_JSON_UINT64, {.uint64 = (uint64_t)sum}};
    else
        return false;
    return true;
}

// A counter that is not there counts from 0.
struct sc_json_number sc_op_first_number(enum op_type type, int64_t by) {
    struct sc_json_number number;
    struct sc_json_number zero = {SC_JSON_INT64, {.int64 = 0}};
    bool fits = sc_op_arithmetic(type, zero, by, &number);
    assert(fits);
    return number;
}

// ---- Values

// As text, so that it is taken apart only when something is put into it.
static struct node empty_node(uint8_t kind) {
    return (struct node){.form = FORM_TEXT,
                         .kind = kind,
                         .depth = 1,
                         .compact = true,
                         .text = kind == SC_JSON_OBJECT ? SC_LITERAL("{}") : SC_LITERAL("[]")};
}

static struct node number_node(struct sc_json_number number) {
    return (struct node){.form = FORM_NUMBER, .kind = SC_JSON_NUMBER, .number = number};
}

static struct sc_json_number read_number(const struct node *node) {
    return node->form == FORM_NUMBER ? node->number : sc_json_number_read(node->text);
}

// The members of `node`, which is an object.
static struct object *open_object(struct tree *tree, struct node *node) {
    if (node->form != FORM_OBJECT && !sc_tree_expand(tree, node))
        return NULL;
    return node->object;
}

static void put(struct tree *tree, struct object *object, const struct key *key,
                struct node value) {
    struct member *member = sc_tree_claim(tree, object, key);
    if (member == NULL)
        member = sc_tree_add(tree, object, key);
    if (member != NULL)
        member->value = value;
}

// ---- Operations at a member or at the root

// What an operation finds at its path, and what it leaves there.
struct target {
    bool missing;
    struct node value;
};

// What is no number is left as it is: an error is told, and other operations of the call go on.
static bool increment(struct working *working, const struct op *op, const struct path *path,
                      struct target *target) {
    struct sc_json_number number;
    if (target->missing) {
        number = sc_op_first_number(op->type, op->by);
    } else if (target->value.kind != SC_JSON_NUMBER ||
               !sc_op_arithmetic(op->type, read_number(&target->value), op->by, &number)) {
        sc_op_fail_number(&working->errors, op, path, target->value.kind);
        return false;
    }
    target->value = number_node(number);
    return true;
}

// Strings grow by strings, arrays by anything. What is not there, or null, becomes what the value asks for.
static bool append(struct working *working, const struct op *op, const struct path *path,
                   struct target *target) {
    struct node value = sc_node_text(op->value);
    uint8_t kind = target->missing ? SC_JSON_NULL : target->value.kind;
    bool string = value.kind == SC_JSON_STRING;
    if (kind == SC_JSON_NULL && string) {
        target->value = value;
        return true;
    }
    if (kind == SC_JSON_NULL)
        target->value = empty_node(SC_JSON_ARRAY);
    else if (kind != SC_JSON_ARRAY && !(kind == SC_JSON_STRING && string)) {
        sc_op_fail_append(&working->errors, op, path, kind);
        return false;
    }
    struct list *list = sc_tree_list(&working->tree, &target->value);
    if (list != NULL)
        sc_tree_append(&working->tree, list, value);
    return !working->tree.failed;
}

// Works out the new value of `target`. False after an error, which leaves everything as it was.
static bool change(struct working *working, const struct op *op, const struct path *path,
                   struct target *target) {
    switch (op->type) {
    case OP_INCREMENT:
    case OP_DECREMENT:
        return increment(working, op, path, target);
    case OP_APPEND:
        return append(working, op, path, target);
    default:
        target->value = sc_node_text(op->value);
        return true;
    }
}

// A path without segments is the value itself.
static bool apply_at_root(struct working *working, const struct op *op, const struct path *path) {
    struct target target = {working->missing, working->root};
    if (!change(working, op, path, &target))
        return false;
    working->root = target.value;
    return true;
}

// Paths of these operations have one segment: the original looks no deeper.
static bool apply_at_member(struct working *working, const struct op *op, const struct path *path) {
    struct tree *tree = &working->tree;
    if (working->root.kind != SC_JSON_OBJECT) {
        sc_op_fail_target(&working->errors, op, path, working->root.kind);
        return false;
    }
    struct object *object = open_object(tree, &working->root);
    if (object == NULL)
        return false;
    const struct key *key = &path->segments[0];
    struct member *member = sc_tree_find(tree, object, key);
    if (op->type == OP_REMOVE) {
        if (member != NULL && sc_tree_claim(tree, object, key) == member)
            member->dead = true;
        return !tree->failed;
    }
    struct target target = {.missing = member == NULL};
    if (member != NULL)
        target.value = member->value;
    if (!change(working, op, path, &target))
        return false;
    put(tree, object, key, target.value);
    return !tree->failed;
}

// ---- Merge

// The object at `key` of `object`, made when there is none.
static struct object *step(struct tree *tree, struct object *object, const struct key *key) {
    struct member *member = sc_tree_claim(tree, object, key);
    if (member == NULL) {
        member = sc_tree_add(tree, object, key);
        if (member == NULL)
            return NULL;
        member->value = empty_node(SC_JSON_OBJECT);
    } else if (member->value.kind != SC_JSON_OBJECT) {
        member->value = empty_node(SC_JSON_OBJECT);
    }
    return open_object(tree, &member->value);
}

// Objects on the way are made, and replace what is no object: a merge always finds its place.
static bool merge(struct working *working, const struct op *op, const struct path *path) {
    struct tree *tree = &working->tree;
    if (!sc_op_merge_value(tree, op, &working->errors))
        return false;
    if (working->root.kind != SC_JSON_OBJECT) {
        if (path->count == 0)
            return true; // As it always was: nothing happens, and nothing is said.
        working->root = empty_node(SC_JSON_OBJECT);
    }
    struct object *object = open_object(tree, &working->root);
    for (uint32_t i = 0; i < path->count && object != NULL; i++)
        object = step(tree, object, &path->segments[i]);
    if (object == NULL)
        return false;
    struct walk walk = walk_start(op->value, 0);
    struct sc_json_member read;
    while (!tree->failed && walk_next(&walk, &read)) {
        struct key key = sc_tree_key(tree, read.key, read.key_escaped);
        put(tree, object, &key, sc_node_text(read.value));
    }
    return !tree->failed;
}

// An operation that failed leaves everything as it was; its error is one of the list.
void sc_op_apply(struct working *working, const struct op *op) {
    struct path path;
    if (!sc_op_path(&working->tree, op, &working->errors, &path))
        return;
    bool done;
    if (op->type == OP_MERGE)
        done = merge(working, op, &path);
    else if (path.count == 0)
        done = apply_at_root(working, op, &path);
    else
        done = apply_at_member(working, op, &path);
    if (done)
        working->missing = false;
}
