// The applier of path operations against a naive one that works on trees: the same value to the byte, the
// same errors to the letter, the same refusals.
//
// Input: a byte of options. With OPTION_TEXT: the old value (nothing when there is none), a line feed, the
// array of operations. Otherwise the bytes choose what both are made of (see make_value, make_operation).
// With FUZZ_SHOW in the environment, what goes in and what comes out is printed.
#include "CStreamJSON.h"
#include "update_model.h"

#include <errno.h>

enum {
    OPTION_TEXT = 1,
    OPTION_MISSING = 2,     // No old value.
    OPTION_SMALL_SIZE = 4,  // The limit on the value's size is 64 bytes,
    OPTION_SMALL_DEPTH = 8, // and on its depth 3.
};

// ---- Making an input of bytes

struct source {
    const uint8_t *p, *end;
};

static unsigned pick(struct source *source, unsigned count) {
    return source->p < source->end ? *source->p++ % count : 0;
}

static const char *const keys[] = {"a",
                                   "b",
                                   "c",
                                   "\\u0061",
                                   "a\\u0062",
                                   "",
                                   "__proto__",
                                   "constructor",
                                   "pr\\u006ftotype",
                                   "k1",
                                   "\\\"",
                                   "é",
                                   "type",
                                   "path",
                                   "value",
                                   "by",
                                   "\\ud83d\\ude00",
                                   "a longer key than a vector register is wide, by some"};
static const char *const scalars[] = {"null",
                                      "true",
                                      "false",
                                      "0",
                                      "-0",
                                      "1",
                                      "-1",
                                      "1.0",
                                      "0.1",
                                      "1e2",
                                      "9223372036854775807",
                                      "-9223372036854775808",
                                      "9223372036854775808",
                                      "18446744073709551615",
                                      "18446744073709551616",
                                      "1.5e300",
                                      "1e-7",
                                      "9007199254740993",
                                      "\"\"",
                                      "\"s\"",
                                      "\"\\n\"",
                                      "\"\\u00e9\"",
                                      "{}",
                                      "[]",
                                      "1.7976931348623157e308"};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void make_key(struct source *source, struct sc_buffer *out) {
    unsigned i = pick(source, 64);
    model_say(out, "\"");
    if (i == 63) { // Around the longest segment.
        for (unsigned left = 254 + pick(source, 4); left > 0; left--)
            model_say(out, "x");
    } else {
        model_say(out, i < COUNT(keys) ? keys[i] : keys[i % 4]);
    }
    model_say(out, "\"");
}

static void make_gap(struct source *source, struct sc_buffer *out) {
    if (source->p < source->end && *source->p % 32 == 31)
        model_say(out, " ");
}

static void make_value(struct source *source, struct sc_buffer *out, unsigned depth) {
    unsigned kind = pick(source, depth > 20 ? 2 : 8);
    if (kind < 3) {
        model_say(out, scalars[pick(source, COUNT(scalars))]);
    } else if (kind == 7) { // Deeper at one go.
        unsigned levels = pick(source, 40);
        for (unsigned i = 0; i < levels; i++)
            model_say(out, i % 2 == 0 ? "[" : "{\"d\":");
        model_say(out, "1");
        for (unsigned i = levels; i-- > 0;)
            model_say(out, i % 2 == 0 ? "]" : "}");
    } else {
        bool object = kind < 6;
        unsigned count = pick(source, 40);
        count = count < 32 ? count % 5 : (count - 31) * 5;
        model_say(out, object ? "{" : "[");
        for (unsigned i = 0; i < count; i++) {
            model_say(out, i == 0 ? "" : ",");
            make_gap(source, out);
            if (object) {
                make_key(source, out);
                make_gap(source, out);
                model_say(out, ":");
            }
            make_value(source, out, depth + 1);
            make_gap(source, out);
        }
        model_say(out, object ? "}" : "]");
    }
}

static void make_path(struct source *source, struct sc_buffer *out, bool merge) {
    unsigned kind = pick(source, 16);
    if (kind == 0) {
        model_say(out, "\"\"");
    } else if (merge && kind < 8) {
        unsigned count = pick(source, 40);
        count = count < 30 ? count % 4 : count;
        model_say(out, "[");
        for (unsigned i = 0; i < count; i++) {
            model_say(out, i == 0 ? "" : ",");
            make_key(source, out);
        }
        model_say(out, "]");
    } else if (kind == 8 && pick(source, 4) == 0) {
        make_value(source, out, 19);
    } else {
        make_key(source, out);
    }
}

static void make_by(struct source *source, struct sc_buffer *out) {
    static const char *const numbers[] = {"1",
                                          "-1",
                                          "0",
                                          "7",
                                          "2.0",
                                          "1e2",
                                          "-9223372036854775808",
                                          "9223372036854775807",
                                          "9223372036854775808",
                                          "1.5",
                                          "-0",
                                          "1e30",
                                          "9223372036854775807.0",
                                          "null",
                                          "\"1\""};
    unsigned i = pick(source, 64);
    model_say(out, numbers[i < COUNT(numbers) ? i : i % 4]);
}

static void make_operation(struct source *source, struct sc_buffer *out) {
    static const char *const types[] = {"set",    "merge",  "increment",   "decrement",
                                        "append", "remove", "a\\u0070pend"};
    unsigned type = pick(source, COUNT(types)), order = pick(source, 16);
    bool number = type == 2 || type == 3;
    if (order == 15) {
        make_value(source, out, 18); // Not an operation, as a rule.
        return;
    }
    model_say(out, "{");
    if (order != 14) {
        model_say(out, "\"type\":\"");
        model_say(out, types[type]);
        model_say(out, "\",");
    }
    if (order != 13 || type == 1) {
        model_say(out, order == 12 ? "\"p\\u0061th\":" : "\"path\":");
        make_path(source, out, type == 1);
        model_say(out, ",");
    }
    if (number && order != 11) {
        model_say(out, "\"by\":");
        make_by(source, out);
        model_say(out, ",");
    }
    if (!number && order != 10) {
        model_say(out, "\"value\":");
        make_value(source, out, type == 1 && order < 8 ? 4 : 10);
        model_say(out, ",");
    }
    model_say(out, "\"x\":0}");
}

// ---- Comparing

static void check_reason(struct sc_bytes reason) {
    CHECK(reason.size > 0 && reason.size <= SC_JSON_REASON_SIZE_MAX);
    // It is sent inside a string, so it has to be UTF-8.
    struct sc_buffer quoted = {0};
    sc_json_write_string(&quoted, reason);
    static struct sc_json_index index;
    CHECK(sc_json_scan(sc_buffer_bytes(&quoted), 0, &index) == 0);
    sc_buffer_deinit(&quoted);
}

static void show(const char *what, struct sc_bytes text) {
    fprintf(stderr, "%-7s%.*s\n", what, (int)text.size, (const char *)text.data);
}

// `old` and `ops` are JSON, `old` is compact; both are copied to memory of exactly their size.
static void check_update(uint8_t options, const struct sc_bytes *old, struct sc_bytes ops) {
    static struct sc_json_updater *updater; // Kept: what it keeps must not matter.
    static struct sc_json_index index;
    if (updater == NULL)
        updater = sc_json_updater_create();
    CHECK(sc_json_scan(ops, SC_JSON_DEPTH_MAX, &index) == 0);
    size_t size_max = options & OPTION_SMALL_SIZE ? 64 : SC_VALUE_SIZE_MAX;
    unsigned depth_max = options & OPTION_SMALL_DEPTH ? 3 : SC_VALUE_DEPTH_MAX;
    struct sc_json_update update;
    memset(&update, 0xAA, sizeof update);
    struct sc_bytes none = {NULL, 0};
    int rc = sc_json_update_apply(updater, old == NULL ? none : *old, index.root, size_max,
                                  depth_max, &update);

    enum model_refusal refusal;
    struct naive naive = {.missing = old == NULL};
    naive.root = old == NULL ? model_make(MODEL_OBJECT) : model_read(*old, 255, &refusal);
    struct sc_buffer value = {0};
    int want = naive_update(&naive, model_read(ops, 255, &refusal), size_max, depth_max, &value);
    if (getenv("FUZZ_SHOW") != NULL) {
        fprintf(stderr, "rc %d, want %d\n", rc, want);
        show("old", old == NULL ? none : *old);
        show("ops", ops);
        show("new", update.value);
        show("want", sc_buffer_bytes(&value));
        show("errors", update.errors);
        show("want", sc_buffer_bytes(&naive.errors));
        show("reason", update.reason);
    }
    CHECK(rc == want);
    if (rc == 0) {
        CHECK(sc_bytes_equal(update.value, sc_buffer_bytes(&value)));
        CHECK(sc_bytes_equal(update.errors, sc_buffer_bytes(&naive.errors)));
        CHECK(update.depth == model_depth(naive.root));
        CHECK(sc_json_scan(update.value, depth_max, &index) == 0 && index.root.compact);
    } else if (rc == -EINVAL) {
        check_reason(update.reason);
    }
    sc_buffer_deinit(&value);
    sc_buffer_deinit(&naive.errors);
}

// Compacts `text` to memory of exactly its size. NULL when it is no value that could be stored.
static struct sc_bytes *compacted(struct sc_bytes text, struct sc_bytes *out) {
    static struct sc_json_index index;
    if (sc_json_scan(text, SC_VALUE_DEPTH_MAX, &index) != 0)
        return NULL;
    uint8_t *wide = malloc(index.root.text.size);
    size_t size = sc_json_compact(index.root, wide);
    *out = (struct sc_bytes){copy_of(wide, size), size};
    free(wide);
    return out;
}

static void run(uint8_t options, struct sc_bytes old_text, struct sc_bytes ops_text) {
    static struct sc_json_index index;
    bool missing = old_text.size == 0 || (options & OPTION_MISSING) != 0;
    struct sc_bytes old = {NULL, 0}, ops = {copy_of(ops_text.data, ops_text.size), ops_text.size};
    bool good =
        sc_json_scan(ops, SC_JSON_DEPTH_MAX, &index) == 0 && index.root.kind == SC_JSON_ARRAY;
    good = good && (missing || compacted(old_text, &old) != NULL);
    if (good)
        check_update(options, missing ? NULL : &old, ops);
    free((void *)(uintptr_t)old.data);
    free((void *)(uintptr_t)ops.data);
}

static void run_made(uint8_t options, struct source source) {
    struct sc_buffer old = {0}, ops = {0};
    make_value(&source, &old, 0);
    model_say(&ops, "[");
    for (unsigned i = 0; i < 24 && source.p < source.end; i++) {
        model_say(&ops, i == 0 ? "" : ",");
        make_operation(&source, &ops);
    }
    model_say(&ops, "]");
    if (ops.size < 1 << 16 && old.size < 1 << 16)
        run(options, sc_buffer_bytes(&old), sc_buffer_bytes(&ops));
    sc_buffer_deinit(&old);
    sc_buffer_deinit(&ops);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 8192)
        return 0;
    const uint8_t *start = data + 1, *end = data + size;
    if ((data[0] & OPTION_TEXT) == 0) {
        run_made(data[0], (struct source){start, end});
    } else {
        const uint8_t *feed = memchr(start, '\n', size - 1);
        if (feed != NULL)
            run(data[0], (struct sc_bytes){start, (size_t)(feed - start)},
                (struct sc_bytes){feed + 1, (size_t)(end - feed - 1)});
    }
    model_forget();
    return 0;
}
