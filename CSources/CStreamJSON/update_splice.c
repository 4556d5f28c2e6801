// The usual update: one operation on one member of an object. The text is searched once for the member, and its
// new value put between what is before and behind it. Nothing is taken apart.
#include "update_op.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

// Most values that are counted up or set are numbers: they need no look at what they might be.
static inline struct sc_json_value value_at(const uint8_t *p, const uint8_t *end) {
    struct sc_json_value value = {
        .text = {p, 0}, .kind = SC_JSON_NUMBER, .compact = true}; // As a rule.
    if (*p > '9' || *p == '"')
        (void)walk_value(p, end, &value);
    else
        value.text.size = (size_t)(scalar_end(p) - p);
    return value;
}

// Compact text has nothing between its tokens: this walk looks for less than walk_next does.
static struct spot walk_to_spot(struct sc_bytes text, struct sc_bytes key) {
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
            spot.value = value_at(value, end);
            spot.count++;
        } else if (spot.deepest < container.depth) {
            spot.deepest = container.depth;
        }
    }
    return spot;
}

#if defined(__x86_64__)

enum { STEP = 16, SEARCHED_KEY_SIZE_MAX = STEP - 2 };

static inline __m128i step_at(const uint8_t *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline __m128i equal_to(__m128i v, uint8_t c) {
    return _mm_cmpeq_epi8(v, _mm_set1_epi8((char)c));
}

// Bytes below 2 where a text is too difficult for a search: backslashes, openers of containers, and a bar, which
// looks like a backslash here.
static inline __m128i ease(__m128i v) {
    return _mm_sub_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('{'));
}

// Whether `"key":` stands at `p`, where its first two bytes and its last are known to.
// It is asked seldom, in a loop that a call of memcmp would cost its registers.
static inline bool is_member(const uint8_t *p, struct sc_bytes key) {
    for (size_t i = 1; i < key.size; i++)
        if (p[i + 1] != key.data[i])
            return false;
    return p[key.size + 1] == '"';
}

// Looks for `"key":` in an object without backslashes and without containers. There every quote begins or ends
// a string, and behind one that ends it comes one of `,:}`: with another first character of the key, what is found
// is a member. False: another way has to be gone.
static bool search_spot(struct sc_bytes text, struct sc_bytes key, struct spot *spot) {
    size_t colon = key.size + 2;
    if (key.size == 0 || key.size > SEARCHED_KEY_SIZE_MAX || text.size < 2 * STEP + 2 ||
        memchr(",:}", key.data[0], 3) != NULL)
        return false;
    const uint8_t *p = text.data + 1, *end = text.data + text.size, *found = NULL;
    const uint8_t *last =
        end - STEP - colon; // Of the last step, which may reach back into the one before.
    __m128i least = ease(step_at(end - STEP));
    spot->count = 0;
    for (unsigned fresh = UINT16_MAX; fresh != 0;) {
        __m128i v = step_at(p);
        __m128i hit = _mm_and_si128(equal_to(v, '"'), equal_to(step_at(p + 1), key.data[0]));
        hit = _mm_and_si128(hit, equal_to(step_at(p + colon), ':'));
        least = _mm_min_epu8(least, ease(v));
        for (unsigned hits = (unsigned)_mm_movemask_epi8(hit) & fresh; hits != 0;
             hits &= hits - 1) {
            const uint8_t *at = p + __builtin_ctz(hits);
            if (!is_member(at, key))
                continue;
            found = at;
            spot->count++;
        }
        if (__builtin_expect(p + STEP > last, 0))
            fresh = (unsigned)UINT16_MAX << (p + STEP - last) & UINT16_MAX;
        p = p + STEP > last ? last : p + STEP;
    }
    if (_mm_movemask_epi8(equal_to(_mm_min_epu8(least, _mm_set1_epi8(2)), 2)) != UINT16_MAX)
        return false;
    if (found != NULL)
        spot->value = value_at(found + colon + 1, end);
    spot->deepest = 0;
    return true;
}

#else

static bool search_spot(struct sc_bytes text, struct sc_bytes key, struct spot *spot) {
    (void)text, (void)key, (void)spot;
    return false;
}

#endif

// The search is for most objects that people count in. The walk is for all.
static struct spot find_spot(struct sc_bytes text, const struct key *key) {
    struct spot spot;
    return !key->escaped && search_spot(text, key->text, &spot) ? spot
                                                                : walk_to_spot(text, key->text);
}

// ---- Reading the operation

// The members of an operation as it is mostly written: without escapes, whole numbers of a few digits.
struct plain_fields {
    struct sc_bytes type, path; // Without the quotes.
    struct sc_json_value value;
    int64_t by;
    bool has_by;
};

// A string without escapes. Returns what follows, or NULL.
static const uint8_t *plain_string(const uint8_t *p, const uint8_t *end, struct sc_bytes *out) {
    bool escaped = false;
    if (*p != '"')
        return NULL;
    const uint8_t *close = string_close(p + 1, end, &escaped);
    *out = (struct sc_bytes){p + 1, (size_t)(close - p) - 1};
    return escaped ? NULL : close + 1;
}

// An integer of at most 18 digits. Returns what follows, or NULL.
static const uint8_t *plain_integer(const uint8_t *p, int64_t *out) {
    bool negative = *p == '-';
    const uint8_t *digits = p + negative;
    int64_t value = 0;
    for (p = digits; (uint8_t)(*p - '0') < 10 && p - digits < 18; p++)
        value = value * 10 + (*p - '0');
    *out = negative ? -value : value;
    return p > digits && (*p == ',' || *p == '}' || is_white(*p)) ? p : NULL;
}

static const uint8_t *plain_field(const uint8_t *p, const uint8_t *end, struct sc_bytes key,
                                  struct plain_fields *fields) {
    if (key.size == 4 && memcmp(key.data, "type", 4) == 0)
        return plain_string(p, end, &fields->type);
    if (key.size == 4 && memcmp(key.data, "path", 4) == 0)
        return plain_string(p, end, &fields->path);
    if (key.size == 2 && memcmp(key.data, "by", 2) == 0) {
        fields->has_by = true;
        return plain_integer(p, &fields->by);
    }
    if (key.size == 5 && memcmp(key.data, "value", 5) == 0)
        return walk_value(p, end, &fields->value);
    return NULL;
}

// Reads the only element of `ops`. False: it has others, or is written in another way.
static bool read_plain(struct sc_json_value ops, struct plain_fields *fields) {
    const uint8_t *end = ops.text.data + ops.text.size;
    const uint8_t *p = walk_white(ops.text.data + 1, end);
    if (*p != '{')
        return false;
    do {
        struct sc_bytes key;
        p = plain_string(walk_white(p + 1, end), end, &key);
        if (p == NULL)
            return false;
        p = walk_white(walk_white(p, end) + 1, end); // Over the colon.
        p = plain_field(p, end, key, fields);
        if (p == NULL)
            return false;
        p = walk_white(p, end);
    } while (*p == ',');
    return *walk_white(p + 1, end) == ']';
}

// Names of operations are letters only, so bytes are compared.
static bool is_word(struct sc_bytes text, const char *word) {
    return text.size == strlen(word) && memcmp(text.data, word, text.size) == 0;
}

// Makes the operation of its fields. False: of another kind, or with something that must be looked at.
static bool take_plain(const struct plain_fields *fields, struct op *op, struct path *path) {
    if (fields->type.data == NULL || fields->path.size == 0 ||
        !sc_op_segment_is_plain(fields->path))
        return false;
    if (is_word(fields->type, "increment"))
        op->type = OP_INCREMENT;
    else if (is_word(fields->type, "set"))
        op->type = OP_SET;
    else if (is_word(fields->type, "decrement"))
        op->type = OP_DECREMENT;
    else
        return false;
    if (op->type == OP_SET ? fields->value.kind == SC_JSON_ABSENT : !fields->has_by)
        return false;
    op->value = fields->value;
    op->by = fields->by;
    path->count = 1;
    path->segments[0] = (struct key){.raw = fields->path, .text = fields->path};
    return true;
}

// Reads `ops` when it is one operation of the kinds that are spliced, on a member of the root.
static bool read_only_op(struct working *working, struct sc_json_value ops, struct op *op,
                         struct path *path) {
    struct plain_fields fields = {.has_by = false};
    if (read_plain(ops, &fields) && take_plain(&fields, op, path))
        return true;
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

// What is before and behind the value is copied as it is: two copies, whatever the object has.
// ---- The new text

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

// Writes to `out` only when it is sure: false leaves everything as it was, and the tree does the same call. So both ways must agree to the
// byte, which a fuzzer compares.
bool sc_op_splice(struct working *working, struct sc_bytes old, struct sc_json_value ops,
                  struct sc_buffer *out) {
    struct op op = {.number = 0};
    struct path path;
    if (old.size == 0 || old.data[0] != '{' || !read_only_op(working, ops, &op, &path))
        return false;
    struct spot spot = find_spot(old, &path.segments[0]);
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
