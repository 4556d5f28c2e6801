// The working value of an update back to compact text.
#include "update_tree.h"

// Slices that touch each other in the text they came from are copied in one go.
struct writer {
    struct sc_buffer *out;
    const uint8_t *run; // Not copied yet: untouched members, from the first key's quote
    size_t run_size;    // to the end of the last value.
    unsigned deepest;
};

// Members that nobody has touched leave as one piece, as long as they lie side by side in the old text.
static void flush(struct writer *writer) {
    sc_buffer_append(writer->out, writer->run, writer->run_size);
    writer->run_size = 0;
}

static void write_byte(struct writer *writer, char c) {
    flush(writer);
    sc_buffer_append(writer->out, &c, 1);
}

// What came with white space loses it here: stored values are compact.
static void write_text(struct writer *writer, const struct node *node) {
    flush(writer);
    if (node->compact) {
        sc_buffer_append_bytes(writer->out, node->text);
        return;
    }
    uint8_t *out = sc_buffer_reserve(writer->out, node->text.size);
    struct sc_json_value value = {.text = node->text, .kind = node->kind};
    if (out != NULL)
        writer->out->size += sc_json_compact(value, out);
}

static void write_inside(struct writer *writer, struct sc_bytes text) {
    sc_buffer_append(writer->out, text.data + 1, text.size - 2);
}

// The text without its last byte, the pieces, and the byte again.
static void write_list(struct writer *writer, const struct node *node, unsigned level) {
    const struct list *list = node->list;
    bool array = node->kind == SC_JSON_ARRAY;
    write_text(writer, &list->base);
    struct sc_buffer *out = writer->out;
    if (out->failed)
        return;
    out->size--; // The closing bracket or quote comes after the pieces.
    unsigned deepest = level + list->base.depth;
    bool comma = array && out->data[out->size - 1] != '[';
    for (const struct piece *piece = list->first; piece != NULL; piece = piece->next) {
        if (comma)
            write_byte(writer, ',');
        comma = array;
        if (array)
            write_text(writer, &piece->value);
        else
            write_inside(writer, piece->value.text);
        if (deepest < level + piece->value.depth + array)
            deepest = level + piece->value.depth + array;
    }
    write_byte(writer, array ? ']' : '"');
    if (writer->deepest < deepest)
        writer->deepest = deepest;
}

// Writes anything but an object that was taken apart. `level` objects are open around it.
static void write_leaf(struct writer *writer, const struct node *node, unsigned level) {
    uint8_t number[SC_JSON_NUMBER_SIZE_MAX];
    switch (node->form) {
    case FORM_NUMBER:
        flush(writer);
        sc_buffer_append(writer->out, number, sc_json_number_write(node->number, number));
        break;
    case FORM_LIST:
        write_list(writer, node, level);
        break;
    default:
        write_text(writer, node);
        if (writer->deepest < level + node->depth)
            writer->deepest = level + node->depth;
        break;
    }
}

// Takes an untouched member into the run. Returns false when it has to be written piece by piece.
static bool extend_run(struct writer *writer, const struct member *member, bool first,
                       unsigned level) {
    const struct node *value = &member->value;
    const uint8_t *start = member->key.data - 1;
    if (value->form != FORM_TEXT || !value->compact ||
        value->text.data != member->key.data + member->key.size + 2)
        return false;
    size_t size = (size_t)(value->text.data + value->text.size - start);
    if (writer->deepest < level + value->depth)
        writer->deepest = level + value->depth;
    if (writer->run_size > 0 && start == writer->run + writer->run_size + 1 && start[-1] == ',') {
        writer->run_size += 1 + size;
        return true;
    }
    if (!first)
        write_byte(writer, ',');
    flush(writer);
    writer->run = start;
    writer->run_size = size;
    return true;
}

// As it was spelled, escapes and all.
static void write_key(struct writer *writer, const struct member *member, bool first) {
    if (!first)
        write_byte(writer, ',');
    write_byte(writer, '"');
    sc_buffer_append_bytes(writer->out, member->key);
    sc_buffer_append(writer->out, "\":", 2);
}

struct level {
    const struct object *object;
    uint32_t next;
    bool first;
};

// Writes members of the object on top until one has to be opened, which it returns, or all are done.
static const struct object *write_members(struct writer *writer, struct level *top,
                                          unsigned level) {
    while (top->next < top->object->count) {
        const struct member *member = &top->object->members[top->next++];
        if (member->dead)
            continue;
        bool first = top->first;
        top->first = false;
        if (extend_run(writer, member, first, level))
            continue;
        write_key(writer, member, first);
        if (member->value.form == FORM_OBJECT)
            return member->value.object;
        write_leaf(writer, &member->value, level);
    }
    return NULL;
}

// A stack of levels in place of recursion: the depth of a value is bounded, that of the machine's stack is not ours.
void sc_tree_render(const struct node *root, struct sc_buffer *out, unsigned *depth) {
    struct writer writer = {.out = out};
    struct level levels[SC_TREE_LEVELS_MAX];
    unsigned open = 0;
    const struct object *object = NULL;
    if (root->form == FORM_OBJECT)
        object = root->object;
    else
        write_leaf(&writer, root, 0);
    while (object != NULL || open > 0) {
        if (object != NULL) {
            assert(open < SC_TREE_LEVELS_MAX);
            write_byte(&writer, '{');
            levels[open++] = (struct level){.object = object, .first = true};
            if (writer.deepest < open)
                writer.deepest = open;
        }
        object = write_members(&writer, &levels[open - 1], open);
        if (object == NULL) {
            write_byte(&writer, '}');
            open--;
        }
    }
    flush(&writer);
    *depth = writer.deepest;
}
