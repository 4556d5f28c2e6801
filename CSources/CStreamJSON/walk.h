// Steps over validated text: no checks, only boundaries. The public face is sc_json_next.
#ifndef SC_JSON_WALK_H
#define SC_JSON_WALK_H

#include "bytes.h"

#pragma clang assume_nonnull begin

static inline const uint8_t *walk_white(const uint8_t *p, const uint8_t *end) {
    while (p < end && is_white(*p))
        p++;
    return p;
}

/// Reads the value at `p` (not white space) and returns what follows it.
const uint8_t *sc_walk_container(const uint8_t *p, const uint8_t *end, struct sc_json_value *value);

static inline const uint8_t *walk_scalar(const uint8_t *p, const uint8_t *end) {
    while (p < end && *p != ',' && *p != '}' && *p != ']' && *p > ' ')
        p++;
    return p;
}

static inline const uint8_t *walk_value(const uint8_t *p, const uint8_t *end,
                                        struct sc_json_value *value) {
    assert(p < end);
    const uint8_t *start = p;
    bool escaped = false;
    uint8_t kind;
    switch (*p) {
    case '"':
        p = string_close(p + 1, end, &escaped) + 1;
        kind = SC_JSON_STRING;
        break;
    case '{':
    case '[':
        return sc_walk_container(p, end, value);
    case 't':
        p += 4;
        kind = SC_JSON_TRUE;
        break;
    case 'f':
        p += 5;
        kind = SC_JSON_FALSE;
        break;
    case 'n':
        p += 4;
        kind = SC_JSON_NULL;
        break;
    default:
        p = walk_scalar(p, end);
        kind = SC_JSON_NUMBER;
        break;
    }
    *value = (struct sc_json_value){
        .text = {start, (size_t)(p - start)}, .kind = kind, .compact = true, .escaped = escaped};
    return p;
}

/// A walk over the members of an object or the elements of an array.
struct walk {
    const uint8_t *p; // Before the next member: after the opening bracket or a comma.
    const uint8_t *end;
    bool object;
};

/// Starts a walk over `container`; `offset` is 0 or what an earlier walk stopped at.
static inline struct walk walk_start(struct sc_json_value container, size_t offset) {
    assert(container.kind == SC_JSON_OBJECT || container.kind == SC_JSON_ARRAY);
    assert(offset <= container.text.size);
    const uint8_t *begin = container.text.data;
    return (struct walk){.p = begin + (offset == 0 ? 1 : offset),
                         .end = begin + container.text.size,
                         .object = container.kind == SC_JSON_OBJECT};
}

static inline bool walk_next(struct walk *walk, struct sc_json_member *member) {
    const uint8_t *end = walk->end, *p = walk_white(walk->p, end);
    if (p < end && *p == ',')
        p = walk_white(p + 1, end);
    if (p == end || *p == ']' || *p == '}') {
        walk->p = p;
        return false;
    }
    member->key = (struct sc_bytes){p, 0};
    member->key_escaped = false;
    member->parent = -1;
    if (walk->object) {
        const uint8_t *key = p + 1;
        p = string_close(key, end, &member->key_escaped);
        member->key = (struct sc_bytes){key, (size_t)(p - key)};
        p = walk_white(p + 1, end);
        assert(p < end && *p == ':');
        p = walk_white(p + 1, end);
    }
    walk->p = walk_value(p, end, &member->value);
    return true;
}

#pragma clang assume_nonnull end

#endif
