// JSON the naive way, for the fuzzers to hold the core against: a tree, recursion, a copy of everything.
// Strings and numbers keep the text they were written in. Each fuzzer is one translation unit, so all of
// it is here.
#ifndef JSON_MODEL_H
#define JSON_MODEL_H

#include "fuzz.h"

#include <math.h>

enum model_kind {
    MODEL_NULL,
    MODEL_FALSE,
    MODEL_TRUE,
    MODEL_NUMBER,
    MODEL_STRING,
    MODEL_ARRAY,
    MODEL_OBJECT,
};

struct model {
    enum model_kind kind;
    struct sc_bytes text; // Of a number, and of a string with its quotes.
    struct model **children;
    struct sc_bytes *keys; // Of an object, as written, without quotes.
    size_t count;
};

// ---- Memory: it lives until model_forget

struct model_block {
    struct model_block *next;
    _Alignas(16) uint8_t room[];
};
static struct model_block *model_blocks;

static void *model_take(size_t size) {
    struct model_block *block = calloc(1, sizeof *block + size);
    CHECK(block != NULL);
    block->next = model_blocks;
    model_blocks = block;
    return block->room;
}

static void model_forget(void) {
    while (model_blocks != NULL) {
        struct model_block *next = model_blocks->next;
        free(model_blocks);
        model_blocks = next;
    }
}

static struct model *model_make(enum model_kind kind) {
    struct model *value = model_take(sizeof *value);
    value->kind = kind;
    return value;
}

static void model_add(struct model *container, struct sc_bytes key, struct model *child) {
    size_t count = container->count;
    if ((count & (count - 1)) == 0) { // Full at each power of two.
        size_t capacity = count == 0 ? 1 : 2 * count;
        struct model **children = model_take(capacity * sizeof *children);
        struct sc_bytes *keys = model_take(capacity * sizeof *keys);
        for (size_t i = 0; i < count; i++) {
            children[i] = container->children[i];
            keys[i] = container->keys[i];
        }
        container->children = children;
        container->keys = keys;
    }
    container->children[count] = child;
    container->keys[count] = key;
    container->count++;
}

static inline void model_remove(struct model *container, size_t index) {
    for (size_t i = index + 1; i < container->count; i++) {
        container->children[i - 1] = container->children[i];
        container->keys[i - 1] = container->keys[i];
    }
    container->count--;
    // Room is taken at powers of two only when it is grown: make it anew.
    struct model copy = {.kind = container->kind};
    for (size_t i = 0; i < container->count; i++)
        model_add(&copy, container->keys[i], container->children[i]);
    *container = copy;
}

// ---- Reading

enum model_refusal { MODEL_FINE, MODEL_SYNTAX, MODEL_UTF8, MODEL_DEPTH };

struct model_reader {
    const uint8_t *p, *end;
    unsigned depth, depth_max;
    enum model_refusal refusal; // The first, as it is met from left to right.
};

static void *model_refuse(struct model_reader *reader, enum model_refusal refusal) {
    if (reader->refusal == MODEL_FINE)
        reader->refusal = refusal;
    return NULL;
}

static void model_white(struct model_reader *reader) {
    while (reader->p < reader->end && memchr(" \t\r\n", *reader->p, 4) != NULL)
        reader->p++;
}

static bool model_word(struct model_reader *reader, const char *word) {
    size_t size = strlen(word);
    if ((size_t)(reader->end - reader->p) < size || memcmp(reader->p, word, size) != 0)
        return false;
    reader->p += size;
    return true;
}

static unsigned model_digits(struct model_reader *reader) {
    unsigned count = 0;
    for (; reader->p < reader->end && *reader->p >= '0' && *reader->p <= '9'; reader->p++)
        count++;
    return count;
}

static struct model *model_number(struct model_reader *reader) {
    const uint8_t *start = reader->p;
    (void)model_word(reader, "-");
    if (!model_word(reader, "0") && model_digits(reader) == 0)
        return model_refuse(reader, MODEL_SYNTAX);
    if (model_word(reader, ".") && model_digits(reader) == 0)
        return model_refuse(reader, MODEL_SYNTAX);
    if (model_word(reader, "e") || model_word(reader, "E")) {
        if (!model_word(reader, "+"))
            (void)model_word(reader, "-");
        if (model_digits(reader) == 0)
            return model_refuse(reader, MODEL_SYNTAX);
    }
    struct model *value = model_make(MODEL_NUMBER);
    value->text = (struct sc_bytes){start, (size_t)(reader->p - start)};
    char *text = model_take(value->text.size + 1);
    memcpy(text, start, value->text.size);
    return isfinite(strtod(text, NULL)) ? value : model_refuse(reader, MODEL_SYNTAX);
}

static int model_hex4(const uint8_t *p, const uint8_t *end) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdefABCDEF";
        const char *at = p + i < end ? memchr(digits, p[i], 22) : NULL;
        if (at == NULL)
            return -1;
        int digit = (int)(at - digits);
        value = value * 16 + (digit > 15 ? digit - 6 : digit);
    }
    return value;
}

// The code point of the escape or the UTF-8 sequence at *p, which moves on; -1 when it is none, -2 when it
// is cut by the end.
static int32_t model_character(const uint8_t **p, const uint8_t *end) {
    const uint8_t *at = *p;
    if (*at == '\\') {
        if (at + 1 == end)
            return -1;
        const char *letters = "\"\\/bfnrt", *meaning = "\"\\/\b\f\n\r\t";
        const char *letter = memchr(letters, at[1], 8);
        *p += 2;
        if (letter != NULL)
            return meaning[letter - letters];
        int high = at[1] == 'u' ? model_hex4(at + 2, end) : -1;
        *p += 4;
        if (high < 0 || (high >= 0xDC00 && high < 0xE000))
            return -1;
        if (high < 0xD800 || high >= 0xE000)
            return high;
        bool pair = end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u';
        int low = pair ? model_hex4(*p + 2, end) : -1;
        *p += 6;
        return low < 0xDC00 || low >= 0xE000 ? -1
                                             : 0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00;
    }
    int more = *at < 0x80   ? 0
               : *at < 0xC0 ? -1
               : *at < 0xE0 ? 1
               : *at < 0xF0 ? 2
               : *at < 0xF8 ? 3
                            : -1;
    if (more < 0)
        return -1;
    int32_t c = more == 0 ? *at : *at & (0x3F >> more);
    static const int32_t least[] = {0, 0x80, 0x800, 0x10000}, one[] = {1, 0x40, 0x1000, 0x40000};
    // What can still come of the bytes so far must not be too small, too big or a surrogate alone.
    for (int i = 1; i <= more; i++) {
        if (at + i == end)
            return -2;
        if ((at[i] & 0xC0) != 0x80)
            return -1;
        c = c * 0x40 + (at[i] & 0x3F);
        int32_t first = c * one[more - i], last = first + one[more - i] - 1;
        if (last < least[more] || first > 0x10FFFF || (first >= 0xD800 && last < 0xE000))
            return -1;
    }
    *p += more + 1;
    return c < least[more] ? -1 : c;
}

// Reads a string. False after a refusal; `text` gets it with its quotes.
static bool model_string(struct model_reader *reader, struct sc_bytes *text) {
    const uint8_t *start = reader->p;
    if (!model_word(reader, "\""))
        return model_refuse(reader, MODEL_SYNTAX) != NULL;
    while (reader->p < reader->end && *reader->p != '"') {
        bool ascii = *reader->p < 0x80;
        if (*reader->p < 0x20)
            return model_refuse(reader, MODEL_SYNTAX) != NULL;
        const uint8_t *at = reader->p;
        int32_t c = model_character(&reader->p, reader->end);
        if (c < 0) {
            // A text that was cut is never said to be bad UTF-8.
            bool first_is_bad = !ascii && (*at < 0xC2 || *at > 0xF4);
            bool utf8 = !ascii && (c == -1 || first_is_bad);
            return model_refuse(reader, utf8 ? MODEL_UTF8 : MODEL_SYNTAX) != NULL;
        }
    }
    if (!model_word(reader, "\""))
        return model_refuse(reader, MODEL_SYNTAX) != NULL;
    *text = (struct sc_bytes){start, (size_t)(reader->p - start)};
    return true;
}

static struct sc_bytes model_inside(struct sc_bytes quoted) {
    return (struct sc_bytes){quoted.data + 1, quoted.size - 2};
}

static struct model *model_value(struct model_reader *reader);

static struct model *model_container(struct model_reader *reader, bool object) {
    if (reader->depth == reader->depth_max)
        return model_refuse(reader, MODEL_DEPTH);
    reader->depth++;
    reader->p++;
    const char *closer = object ? "}" : "]";
    struct model *container = model_make(object ? MODEL_OBJECT : MODEL_ARRAY);
    model_white(reader);
    bool empty = model_word(reader, closer);
    while (!empty) {
        struct sc_bytes key = {NULL, 0};
        model_white(reader);
        if (object) {
            if (!model_string(reader, &key))
                return NULL;
            key = model_inside(key);
            model_white(reader);
            if (!model_word(reader, ":"))
                return model_refuse(reader, MODEL_SYNTAX);
        }
        struct model *child = model_value(reader);
        if (child == NULL)
            return NULL;
        model_add(container, key, child);
        model_white(reader);
        if (model_word(reader, closer))
            break;
        if (!model_word(reader, ","))
            return model_refuse(reader, MODEL_SYNTAX);
    }
    reader->depth--;
    return container;
}

static struct model *model_value(struct model_reader *reader) {
    model_white(reader);
    if (reader->p == reader->end)
        return model_refuse(reader, MODEL_SYNTAX);
    switch (*reader->p) {
    case '{':
    case '[':
        return model_container(reader, *reader->p == '{');
    case '"': {
        struct model *value = model_make(MODEL_STRING);
        return model_string(reader, &value->text) ? value : NULL;
    }
    case 'n':
        return model_word(reader, "null") ? model_make(MODEL_NULL)
                                          : model_refuse(reader, MODEL_SYNTAX);
    case 't':
        return model_word(reader, "true") ? model_make(MODEL_TRUE)
                                          : model_refuse(reader, MODEL_SYNTAX);
    case 'f':
        return model_word(reader, "false") ? model_make(MODEL_FALSE)
                                           : model_refuse(reader, MODEL_SYNTAX);
    default:
        return model_number(reader);
    }
}

// Reads a text. NULL when it is refused, with the first reason in *refusal.
static struct model *model_read(struct sc_bytes text, unsigned depth_max,
                                enum model_refusal *refusal) {
    struct model_reader reader = {.p = text.data, .end = text.data, .depth_max = depth_max};
    if (text.size > 0)
        reader.end += text.size;
    struct model *value = model_value(&reader);
    model_white(&reader);
    if (value != NULL && reader.p != reader.end)
        value = model_refuse(&reader, MODEL_SYNTAX);
    *refusal = reader.refusal;
    return value;
}

// ---- Questions and writing

static inline unsigned model_depth(const struct model *value) {
    unsigned deepest = 0;
    for (size_t i = 0; i < value->count; i++) {
        unsigned depth = model_depth(value->children[i]);
        deepest = depth > deepest ? depth : deepest;
    }
    return value->kind >= MODEL_ARRAY ? 1 + deepest : 0;
}

static void model_say(struct sc_buffer *out, const char *text) {
    sc_buffer_append(out, text, strlen(text));
}

static void model_write(const struct model *value, struct sc_buffer *out) {
    static const char *const words[] = {"null", "false", "true"};
    if (value->kind <= MODEL_TRUE) {
        model_say(out, words[value->kind]);
    } else if (value->kind <= MODEL_STRING) {
        sc_buffer_append_bytes(out, value->text);
    } else {
        bool object = value->kind == MODEL_OBJECT;
        model_say(out, object ? "{" : "[");
        for (size_t i = 0; i < value->count; i++) {
            model_say(out, i == 0 ? "" : ",");
            if (object) {
                model_say(out, "\"");
                sc_buffer_append_bytes(out, value->keys[i]);
                model_say(out, "\":");
            }
            model_write(value->children[i], out);
        }
        model_say(out, object ? "}" : "]");
    }
}

// What a string says, `raw` without its quotes.
static struct sc_bytes model_decode(struct sc_bytes raw) {
    uint8_t *out = model_take(raw.size + 1);
    size_t size = 0;
    const uint8_t *p = raw.data, *end = p + raw.size;
    while (p < end) {
        int32_t c = model_character(&p, end);
        CHECK(c >= 0);
        if (c < 0x80) {
            out[size++] = (uint8_t)c;
            continue;
        }
        int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        out[size++] = (uint8_t)((0xFF00 >> (more + 1) & 0xFF) | c >> 6 * more);
        while (more-- > 0)
            out[size++] = (uint8_t)(0x80 | (c >> 6 * more & 0x3F));
    }
    return (struct sc_bytes){out, size};
}

// The last member with the decoded `key`, or -1.
static inline ssize_t model_find(const struct model *object, struct sc_bytes key) {
    for (size_t i = object->count; i-- > 0;)
        if (sc_bytes_equal(model_decode(object->keys[i]), key))
            return (ssize_t)i;
    return -1;
}

#endif
