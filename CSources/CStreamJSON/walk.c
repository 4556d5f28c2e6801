// Walks over validated text, and the copy of it without white space.
#include "walk.h"

// One pass over validated text finds the end and what the caller would otherwise look for again: the depth, and
// whether it can be copied as it is. Braces in strings are passed over with the string.
const uint8_t *sc_walk_container(const uint8_t *start, const uint8_t *end,
                                 struct sc_json_value *value) {
    unsigned depth = 0, deepest = 0;
    bool compact = true, escaped = false;
    const uint8_t *p = start;
    do {
        assert(p < end);
        uint8_t c = *p++;
        if (c == '"') {
            p = string_close(p, end, &escaped) + 1;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if (c == '}' || c == ']') {
            depth--;
        } else if (c <= ' ') {
            compact = false;
        }
    } while (depth > 0);
    *value = (struct sc_json_value){
        .text = {start, (size_t)(p - start)},
        .kind = *start == '{' ? SC_JSON_OBJECT : SC_JSON_ARRAY,
        .depth = (uint8_t)deepest,
        .compact = compact,
    };
    return p;
}

bool sc_json_next(struct sc_json_value container, size_t *offset, struct sc_json_member *member) {
    struct walk walk = walk_start(container, *offset);
    bool more = walk_next(&walk, member);
    *offset = (size_t)(walk.p - container.text.data);
    return more;
}

// Most values come without white space: for these it is one copy. Writes at most as many bytes as it reads.
size_t sc_json_compact(struct sc_json_value value, uint8_t *out) {
    if (value.compact) {
        memcpy(out, value.text.data, value.text.size);
        return value.text.size;
    }
    const uint8_t *p = value.text.data, *end = p + value.text.size;
    uint8_t *to = out;
    while (p < end) {
        const uint8_t *from = p;
        if (*p == '"') {
            bool escaped;
            p = string_close(p + 1, end, &escaped) + 1;
        } else if (is_white(*p)) {
            p++;
            continue;
        } else {
            while (p < end && *p != '"' && !is_white(*p))
                p++;
        }
        memcpy(to, from, (size_t)(p - from));
        to += p - from;
    }
    return (size_t)(to - out);
}
