#include "update_tree.h"

#include <stdalign.h>
#include <stdlib.h>

enum {
    CHUNK_SIZE_MIN = 8 << 10,
    CHUNK_SIZE_KEPT_MAX = 1 << 20,
    SEARCHED_COUNT_MAX = 16, // Objects up to this size are never indexed,
    SEARCHES_MAX = 4,        // nor bigger ones before they have been searched so often.
};

// Memory of one call, taken by moving a pointer and given back all at once. Nothing in it is freed alone.
struct chunk {
    struct chunk *older;
    size_t capacity;
    alignas(16) uint8_t room[];
};

void sc_tree_init(struct tree *tree) {
    *tree = (struct tree){0};
}

static void free_chunks(struct chunk *chunk) {
    while (chunk != NULL) {
        struct chunk *older = chunk->older;
        free(chunk);
        chunk = older;
    }
}

void sc_tree_deinit(struct tree *tree) {
    free_chunks(tree->chunk);
    tree->chunk = NULL;
}

void sc_tree_reset(struct tree *tree) {
    struct chunk *kept = tree->chunk;
    // Each chunk is at least twice the one before: after a few calls of a size one chunk is enough.
    if (kept != NULL && kept->capacity > CHUNK_SIZE_KEPT_MAX) {
        free_chunks(kept);
        kept = NULL;
    } else if (kept != NULL) {
        free_chunks(kept->older);
        kept->older = NULL;
    }
    tree->chunk = kept;
    tree->used = 0;
    tree->failed = false;
}

// Failure is noted in the tree: most callers go on, and the call fails in the end.
void *sc_tree_take(struct tree *tree, size_t size) {
    size = (size + 15) & ~(size_t)15;
    if (tree->chunk == NULL || tree->chunk->capacity - tree->used < size) {
        size_t capacity = tree->chunk == NULL ? CHUNK_SIZE_MIN : 2 * tree->chunk->capacity;
        if (capacity < size)
            capacity = size;
        struct chunk *chunk = malloc(sizeof *chunk + capacity);
        if (chunk == NULL) {
            tree->failed = true;
            return NULL;
        }
        chunk->older = tree->chunk;
        chunk->capacity = capacity;
        tree->chunk = chunk;
        tree->used = 0;
    }
    void *memory = tree->chunk->room + tree->used;
    tree->used += size;
    return memory;
}

// A value that nobody has touched stays the bytes that it was, however large.
struct node sc_node_text(struct sc_json_value value) {
    return (struct node){.form = FORM_TEXT,
                         .kind = value.kind,
                         .depth = value.depth,
                         .compact = value.compact,
                         .text = value.text};
}

// Keys are compared as what they say, not as they are spelled. What is written again keeps its spelling.
struct key sc_tree_key(struct tree *tree, struct sc_bytes raw, bool escaped) {
    struct key key = {raw, escaped, raw};
    if (escaped) {
        uint8_t *text = sc_tree_take(tree, raw.size);
        key.text = (struct sc_bytes){text, text == NULL ? 0 : sc_json_unescape(raw, text)};
    }
    return key;
}

// ---- Objects

// The old array stays in its chunk: the next call gives it back.
static bool grow_members(struct tree *tree, struct object *object) {
    uint32_t capacity = object->capacity == 0 ? 16 : 2 * object->capacity;
    struct member *members = sc_tree_take(tree, capacity * sizeof *members);
    if (members == NULL)
        return false;
    if (object->count > 0)
        memcpy(members, object->members, object->count * sizeof *members);
    object->members = members;
    object->capacity = capacity;
    return true;
}

// Takes apart one level: members keep their texts, and are taken apart themselves when a path goes through them.
bool sc_tree_expand(struct tree *tree, struct node *node) {
    assert(node->form == FORM_TEXT && node->kind == SC_JSON_OBJECT);
    struct object *object = sc_tree_take(tree, sizeof *object);
    if (object == NULL)
        return false;
    *object = (struct object){0};
    struct sc_json_value value = {.text = node->text, .kind = SC_JSON_OBJECT};
    struct walk walk = walk_start(value, 0);
    struct sc_json_member read;
    while (walk_next(&walk, &read)) {
        if (object->count == object->capacity && !grow_members(tree, object))
            return false;
        object->members[object->count++] = (struct member){
            .key = read.key, .escaped = read.key_escaped, .value = sc_node_text(read.value)};
    }
    node->form = FORM_OBJECT;
    node->object = object;
    return true;
}

// The slot of `key`: the one that holds it, or the free one where it belongs.
static uint32_t *find_slot(struct object *object, struct sc_bytes text, uint32_t hash) {
    uint32_t mask = object->slot_count - 1;
    for (uint32_t at = hash & mask;; at = (at + 1) & mask) {
        uint32_t *slot = &object->slots[at];
        if (*slot == 0)
            return slot;
        const struct member *member = &object->members[*slot - 1];
        if (member->hash == hash && sc_json_string_equal(member->key, member->escaped, text))
            return slot;
    }
}

static void index_member(struct object *object, uint32_t i, struct sc_bytes text, uint32_t hash) {
    struct member *member = &object->members[i];
    uint32_t *slot = find_slot(object, text, hash);
    member->hash = hash;
    member->previous = *slot != 0 && !object->members[*slot - 1].dead ? *slot : 0;
    object->keys += *slot == 0;
    *slot = i + 1;
}

// Makes the index anew, with room for as many keys again.
static bool build_index(struct tree *tree, struct object *object) {
    uint32_t slot_count = 64;
    while (slot_count / 4 < object->count)
        slot_count *= 2;
    uint32_t *slots = sc_tree_take(tree, slot_count * sizeof *slots);
    if (slots == NULL)
        return false;
    memset(slots, 0, slot_count * sizeof *slots);
    object->slots = slots;
    object->slot_count = slot_count;
    object->keys = 0;
    for (uint32_t i = 0; i < object->count; i++) {
        struct member *member = &object->members[i];
        if (member->dead)
            continue;
        struct key key = sc_tree_key(tree, member->key, member->escaped);
        if (tree->failed)
            return false;
        index_member(object, i, key.text, (uint32_t)sc_hash(key.text, tree->seed));
    }
    return true;
}

static bool is_indexed(struct tree *tree, struct object *object) {
    if (object->slots != NULL)
        return true;
    if (object->count <= SEARCHED_COUNT_MAX || object->searches++ < SEARCHES_MAX)
        return false;
    return build_index(tree, object);
}

// From the end: of several with one key the last is the one that counts.
static struct member *find_linear(struct object *object, struct sc_bytes text) {
    for (uint32_t i = object->count; i > 0; i--) {
        struct member *member = &object->members[i - 1];
        if (!member->dead && sc_json_string_equal(member->key, member->escaped, text))
            return member;
    }
    return NULL;
}

struct member *sc_tree_find(struct tree *tree, struct object *object, const struct key *key) {
    bool indexed = is_indexed(tree, object);
    if (tree->failed)
        return NULL;
    if (!indexed)
        return find_linear(object, key->text);
    uint32_t slot = *find_slot(object, key->text, (uint32_t)sc_hash(key->text, tree->seed));
    struct member *member = slot == 0 ? NULL : &object->members[slot - 1];
    return member == NULL || member->dead ? NULL : member;
}

// An object may have a key twice. Who changes it leaves one, as a parser into a map does.
struct member *sc_tree_claim(struct tree *tree, struct object *object, const struct key *key) {
    struct member *last = sc_tree_find(tree, object, key);
    if (last == NULL)
        return NULL;
    if (object->slots == NULL) {
        for (struct member *earlier = object->members; earlier < last; earlier++)
            if (!earlier->dead && sc_json_string_equal(earlier->key, earlier->escaped, key->text))
                earlier->dead = true;
        return last;
    }
    for (uint32_t i = last->previous; i != 0; i = object->members[i - 1].previous)
        object->members[i - 1].dead = true;
    last->previous = 0;
    return last;
}

// Behind all others, as the original does: the order of members is kept.
struct member *sc_tree_add(struct tree *tree, struct object *object, const struct key *key) {
    if (tree->failed || (object->count == object->capacity && !grow_members(tree, object)))
        return NULL;
    if (object->slots != NULL && object->keys >= object->slot_count / 2 &&
        !build_index(tree, object))
        return NULL;
    uint32_t i = object->count++;
    object->members[i] = (struct member){.key = key->raw, .escaped = key->escaped};
    if (object->slots != NULL)
        index_member(object, i, key->text, (uint32_t)sc_hash(key->text, tree->seed));
    return &object->members[i];
}

uint32_t sc_tree_key_count(struct tree *tree, struct object *object) {
    return build_index(tree, object) ? object->keys : 0;
}

// ---- Strings and arrays

// Appends are pieces behind the text: a string or an array that grows by a thousand operations is copied once.
struct list *sc_tree_list(struct tree *tree, struct node *node) {
    if (node->form == FORM_LIST)
        return node->list;
    struct list *list = sc_tree_take(tree, sizeof *list);
    if (list == NULL)
        return NULL;
    *list = (struct list){.base = *node};
    node->form = FORM_LIST;
    node->list = list;
    return list;
}

void sc_tree_append(struct tree *tree, struct list *list, struct node value) {
    struct piece *piece = sc_tree_take(tree, sizeof *piece);
    if (piece == NULL)
        return;
    *piece = (struct piece){.value = value};
    if (list->last == NULL)
        list->first = piece;
    else
        list->last->next = piece;
    list->last = piece;
}
