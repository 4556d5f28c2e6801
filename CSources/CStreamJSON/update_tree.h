// The working value of an update that needs more than one splice: a tree in which only the touched
// containers are taken apart, everything else being slices of the texts that came in.
#ifndef SC_JSON_UPDATE_TREE_H
#define SC_JSON_UPDATE_TREE_H

#include "walk.h"

#pragma clang assume_nonnull begin

enum node_form {
    FORM_TEXT,   // As written: `text`, `depth`, `compact`.
    FORM_NUMBER, // Computed: `number`.
    FORM_LIST,   // A string or an array that was appended to: `list`.
    FORM_OBJECT, // Taken apart: `object`.
};

struct node {
    uint8_t form; // enum node_form
    uint8_t kind; // enum sc_json_kind
    uint8_t depth;
    bool compact;
    union {
        struct sc_bytes text;
        struct sc_json_number number;
        struct list *list;
        struct object *object;
    };
};

/// What was appended, in order, to a string or an array.
struct piece {
    struct piece *_Nullable next;
    struct node value;
};
struct list {
    struct node base; // FORM_TEXT
    struct piece *_Nullable first;
    struct piece *_Nullable last;
};

struct member {
    struct sc_bytes key; // As written, without quotes.
    uint32_t hash;       // Of the decoded key, once the object is indexed.
    uint32_t previous; // One more than the index of an earlier live member with this key; 0: none.
    bool escaped;
    bool dead;
    struct node value;
};

/// Members in their order, dead ones included. Small objects are searched one by one, others get an
/// index: a hash table of the last member of each key.
struct object {
    struct member *members;
    uint32_t count;
    uint32_t capacity;
    uint32_t searches; // Without the index, so far.
    uint32_t slot_count;
    uint32_t keys; // Slots in use.
    uint32_t *_Nullable slots;
};

/// A key to look for or to write.
struct key {
    struct sc_bytes raw; // As written.
    bool escaped;
    struct sc_bytes text; // Decoded.
};

struct chunk;
struct tree {
    struct chunk *_Nullable chunk; // The newest, with the free room.
    size_t used;                   // Of its room.
    bool failed;                   // Memory was out: the tree is of no use any more.
    uint64_t seed;
};

void sc_tree_init(struct tree *tree);
void sc_tree_deinit(struct tree *tree);
/// Forgets everything and keeps a moderate amount of memory.
void sc_tree_reset(struct tree *tree);
/// Memory until the next reset, aligned for anything here. NULL, and `failed`, when it is out.
void *_Nullable sc_tree_take(struct tree *tree, size_t size);

struct node sc_node_text(struct sc_json_value value);
/// The key that a member or a string value stands for. An empty one after a failure.
struct key sc_tree_key(struct tree *tree, struct sc_bytes raw, bool escaped);
/// Takes `node`, an object as written, apart. False after a failure.
bool sc_tree_expand(struct tree *tree, struct node *node);
/// The last live member with `key`, or NULL.
struct member *_Nullable sc_tree_find(struct tree *tree, struct object *object,
                                      const struct key *key);
/// Like find, and removes the earlier members with that key.
struct member *_Nullable sc_tree_claim(struct tree *tree, struct object *object,
                                       const struct key *key);
/// Adds a member with `key`, which has no live one. NULL after a failure.
struct member *_Nullable sc_tree_add(struct tree *tree, struct object *object,
                                     const struct key *key);
/// Members that are alive, counting each key once.
uint32_t sc_tree_key_count(struct tree *tree, struct object *object);
/// Makes `node`, a string or an array as written, ready to be appended to. NULL after a failure.
struct list *_Nullable sc_tree_list(struct tree *tree, struct node *node);
void sc_tree_append(struct tree *tree, struct list *list, struct node value);

/// Containers nested in the value of `node` as far as it has been taken apart.
#define SC_TREE_LEVELS_MAX 40
/// Writes the value as compact text; `depth` gets its containers.
void sc_tree_render(const struct node *root, struct sc_buffer *out, unsigned *depth);

#pragma clang assume_nonnull end

#endif
