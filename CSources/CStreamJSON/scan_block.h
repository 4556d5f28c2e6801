// The scanner of blocks, compiled once per instruction set by scan_block.c. It expects SCAN_TARGET, the
// attributes of its functions; SCAN_MASK, which finds the special bytes of a block; SCAN_(name), names.
//
// The last byte of the text is a closer, which ends every look ahead: only behind a closer can be the end.

// The special bytes of the block at `base`. The last byte of the text counts as one.
SCAN_TARGET INLINE uint64_t SCAN_(specials)(const struct text *text, const uint8_t *base) {
    size_t left = (size_t)(text->end - base);
    if (LIKELY(left > BLOCK))
        return SCAN_MASK(base);
    return SCAN_MASK(text->end - BLOCK) >> (BLOCK - left) | UINT64_MAX << (left - 1);
}

// The first block from `base` on with a special byte at or after `p`, without those before `p`.
SCAN_TARGET RARE static struct block SCAN_(seek)(const struct text *text, const uint8_t *base,
                                                 const uint8_t *p) {
    size_t before = p > base ? (size_t)(p - base) : 0;
    uint64_t specials = SCAN_(specials)(text, base) >> before << before;
    while (specials == 0) {
        base += BLOCK;
        specials = SCAN_(specials)(text, base);
    }
    return (struct block){base, specials};
}

// The closing quote of the string whose first character is at `p`.
SCAN_TARGET INLINE const uint8_t *SCAN_(string_end)(const struct text *text, struct place *place,
                                                    const uint8_t *p, bool *escaped) {
    size_t at = (size_t)(p - place->block.base);
    uint64_t specials = at < BLOCK ? place->block.specials >> at : 0;
    if (LIKELY(specials != 0)) {
        p += __builtin_ctzll(specials);
    } else {
        size_t blocks = at < BLOCK ? 1 : at / BLOCK;
        place->block = SCAN_(seek)(text, place->block.base + blocks * BLOCK, p);
        p = place->block.base + __builtin_ctzll(place->block.specials);
    }
    if (LIKELY(*p == '"'))
        return p;
    struct rest rest = string_rest(text, p);
    *escaped = rest.escaped;
    return rest.quote;
}

// `"key" :`. Returns what follows, or NULL.
SCAN_TARGET INLINE const uint8_t *SCAN_(key_end)(const struct text *text, struct place *place,
                                                 const uint8_t *p, struct sc_bytes *key,
                                                 bool *escaped) {
    p = to_byte(place, p, '"');
    if (*p != '"')
        return NULL;
    key->data = p + 1;
    p = SCAN_(string_end)(text, place, p + 1, escaped);
    if (p == NULL)
        return NULL;
    key->size = (size_t)(p - key->data);
    p = to_byte(place, p + 1, ':');
    return *p == ':' ? p + 1 : NULL;
}

// Validates the container at `p`, `depth` deep in others, of which nothing is kept. Returns what follows,
// or NULL, with the deepest level in `outer`.
SCAN_TARGET __attribute__((noinline)) static const uint8_t *
SCAN_(skip)(const struct text *text, struct place *outer, const uint8_t *p, unsigned depth) {
    struct place place = *outer; // A copy that nobody else sees stays in registers.
    uint8_t closers[UINT8_MAX], kind, closer;
    unsigned bottom = depth, deepest = 0;
    struct sc_bytes key;
    bool escaped;
open:
    if (depth == text->depth_max)
        return NULL;
    closers[depth++] = closer = *p + CLOSER;
    deepest = depth > deepest ? depth : deepest;
    p = skip_white(&place, p + 1);
    if (*p == closer)
        goto close;
next:
    if (closer == '}') {
        p = SCAN_(key_end)(text, &place, p, &key, &escaped);
        if (p == NULL)
            return NULL;
    }
value:
    if (*p == '"') {
        p = SCAN_(string_end)(text, &place, p + 1, &escaped);
        if (p == NULL)
            return NULL;
        p++;
    } else if (is_opener(*p)) {
        goto open;
    } else if (*p > ' ') {
        p = scalar_end(text, p, &kind);
        if (p == NULL)
            return NULL;
    } else {
        const uint8_t *from = p;
        p = skip_white(&place, p);
        if (p == from)
            return NULL;
        goto value;
    }
after:
    if (*p == ',') {
        p++;
        goto next;
    }
    if (*p != closer) {
        const uint8_t *from = p;
        p = skip_white(&place, p);
        if (p == from)
            return NULL;
        goto after;
    }
close:
    p++;
    if (--depth > bottom && p < text->end) {
        closer = closers[depth - 1];
        goto after;
    }
    *outer = place;
    outer->deepest = deepest;
    return depth == bottom ? p : NULL;
}

// Validates the object at `p`, which is the root (`level` 0) or the value of `parent` (1), and keeps its
// members in `index`. Returns what follows, or NULL, with the deepest level in `outer`.
SCAN_TARGET INLINE const uint8_t *SCAN_(members)(const struct text *text, struct place *outer,
                                                 const uint8_t *p, unsigned level, int parent,
                                                 scan_members *inner) {
    struct place place = *outer;
    struct sc_json_member *member;
    unsigned deepest = level + 1;
    if (level >= text->depth_max)
        return NULL;
    p = skip_white(&place, p + 1);
    if (*p == '}')
        goto close;
next: {
    struct sc_bytes key;
    bool escaped = false;
    p = SCAN_(key_end)(text, &place, p, &key, &escaped);
    if (p == NULL)
        return NULL;
    member = keep_member(text, &place, parent, key, escaped);
}
value:
    member->value.text.data = p;
    if (*p == '"') {
        bool escaped = false;
        p = SCAN_(string_end)(text, &place, p + 1, &escaped);
        if (p == NULL)
            return NULL;
        p++;
        keep_scalar(&member->value, p, SC_JSON_STRING, escaped);
    } else if (is_opener(*p)) {
        struct place below = place;
        p = level == 0 && *p == '{' ? inner(text, &below, p, member)
                                    : SCAN_(skip)(text, &below, p, level + 1);
        if (p == NULL || p == text->end)
            return NULL;
        place = below;
        deepest = place.deepest > deepest ? place.deepest : deepest;
        keep_container(&member->value, p, place.deepest - level - 1, place.white);
    } else if (*p > ' ') {
        uint8_t kind;
        p = scalar_end(text, p, &kind);
        if (p == NULL)
            return NULL;
        keep_scalar(&member->value, p, kind, false);
    } else {
        const uint8_t *from = p;
        p = skip_white(&place, p);
        if (p == from)
            return NULL;
        goto value;
    }
after:
    if (*p == ',') {
        p++;
        goto next;
    }
    if (*p != '}') {
        const uint8_t *from = p;
        p = skip_white(&place, p);
        if (p == from)
            return NULL;
        goto after;
    }
close:
    *outer = place;
    outer->deepest = deepest;
    return p + 1;
}

SCAN_TARGET __attribute__((noinline)) static const uint8_t *
SCAN_(inner)(const struct text *text, struct place *outer, const uint8_t *p,
             struct sc_json_member *member) {
    // Of no use when it is the spare one: then no member of it is kept.
    int parent = (int)(member - text->index->members);
    const uint8_t *start = p;
    p = SCAN_(members)(text, outer, p, 1, parent, NULL);
    member->value.text.data = start; // The spare one has had others in between.
    return p;
}

SCAN_TARGET bool SCAN_(sc_scan)(struct sc_bytes bytes, unsigned depth_max,
                                struct sc_json_index *index) {
    struct sc_json_member spare;
    struct text text = {.depth_max = depth_max,
                        .index = index,
                        .members_end = index->members + SC_JSON_INDEX_MEMBERS_MAX,
                        .spare = &spare};
    if (!text_trim(&text, bytes))
        return false;
    const uint8_t *p = text.begin;
    struct place place = {
        .white = p, .block.base = p, .next = index->members, .root = index->roots};
    if (text.end - p >= BLOCK) {
        place.block.specials = SCAN_(specials)(&text, p);
    } else {
        uint8_t copy[BLOCK] = {0};
        size_t size = (size_t)(text.end - p);
        memcpy(copy, p, size);
        place.block.specials = SCAN_MASK(copy) | UINT64_MAX << (size - 1);
    }
    const uint8_t *end = *p == '{' ? SCAN_(members)(&text, &place, p, 0, -1, SCAN_(inner))
                                   : SCAN_(skip)(&text, &place, p, 0);
    if (end != text.end)
        return false;
    index->count = (uint16_t)(place.next - index->members);
    index->root_count = (uint8_t)(place.root - index->roots);
    index->root.text.data = p;
    keep_container(&index->root, end, place.deepest, place.white);
    return true;
}

#undef SCAN_TARGET
#undef SCAN_MASK
#undef SCAN_
