// Look-ups of members in what a scan found.
#include "CStreamJSON.h"

static const struct sc_json_member *
find_in_text(struct sc_json_value container, struct sc_bytes key, struct sc_json_member *scratch) {
    bool found = false;
    size_t offset = 0;
    struct sc_json_member member;
    if (container.kind != SC_JSON_OBJECT)
        return NULL;
    while (sc_json_next(container, &offset, &member)) {
        if (sc_json_string_equal(member.key, member.key_escaped, key)) {
            *scratch = member;
            found = true;
        }
    }
    return found ? scratch : NULL;
}

static inline bool has_key(const struct sc_json_member *member, struct sc_bytes key) {
    if (member->key_escaped)
        return sc_json_string_equal(member->key, true, key);
    return member->key.size == key.size && sc_bytes_equal(member->key, key);
}

const struct sc_json_member *sc_json_index_find(const struct sc_json_index *index, int parent,
                                                struct sc_bytes key,
                                                struct sc_json_member *scratch) {
    assert(parent >= -1 && parent < index->count);
    if (index->overflow && index->root.kind != SC_JSON_ABSENT) {
        const struct sc_json_member *found =
            find_in_text(parent < 0 ? index->root : index->members[parent].value, key, scratch);
        if (found != NULL)
            scratch->parent = (int16_t)parent;
        return found;
    }
    if (parent < 0) {
        for (unsigned i = index->root_count; i-- > 0;)
            if (has_key(&index->members[index->roots[i]], key))
                return &index->members[index->roots[i]];
        return NULL;
    }
    for (int i = index->count - 1; i > parent; i--)
        if (index->members[i].parent == parent && has_key(&index->members[i], key))
            return &index->members[i];
    return NULL;
}
