// The operations of stream::update the naive way, on trees, for the fuzzer to hold the applier against. As
// json_model.h, all of it is here.
#ifndef UPDATE_MODEL_H
#define UPDATE_MODEL_H

#include "CStreamJSON.h"
#include "json_model.h"

#include <errno.h>

struct naive {
    struct model *root;
    bool missing;
    struct sc_buffer errors;
    unsigned number; // Of the operation.
    const char *type;
};

static const char *const kind_names[] = {"null",   "boolean", "boolean", "number",
                                         "string", "array",   "object"};

static void fail(struct naive *naive, const char *code, struct sc_buffer *message) {
    char number[32];
    snprintf(number, sizeof number, "%u", naive->number);
    model_say(&naive->errors, naive->errors.size == 0 ? "[" : ",");
    model_say(&naive->errors, "{\"op_index\":");
    model_say(&naive->errors, number);
    model_say(&naive->errors, ",\"code\":\"");
    model_say(&naive->errors, naive->type);
    model_say(&naive->errors, ".");
    model_say(&naive->errors, code);
    model_say(&naive->errors, "\",\"message\":");
    sc_json_write_string(&naive->errors, sc_buffer_bytes(message));
    model_say(&naive->errors,
              ",\"doc_url\":\"https://iii.dev/docs/workers/iii-state#error-codes\"}");
    sc_buffer_deinit(message);
}

static void fail_parts(struct naive *naive, const char *code, const char *a, struct sc_bytes b,
                       const char *c, const char *d, const char *e) {
    struct sc_buffer message = {0};
    model_say(&message, a);
    sc_buffer_append_bytes(&message, b);
    model_say(&message, c);
    model_say(&message, d);
    model_say(&message, e);
    fail(naive, code, &message);
}

static void fail_number(struct naive *naive, const char *code, const char *a, size_t n,
                        const char *b) {
    char text[32];
    snprintf(text, sizeof text, "%zu", n);
    fail_parts(naive, code, a, (struct sc_bytes){(const uint8_t *)text, strlen(text)}, b, "", "");
}

static bool is_sink(struct sc_bytes key) {
    return sc_bytes_equal(key, SC_LITERAL("__proto__")) ||
           sc_bytes_equal(key, SC_LITERAL("constructor")) ||
           sc_bytes_equal(key, SC_LITERAL("prototype"));
}

// The raw segments of a path, none for the root. False after an error.
static bool segments_of(struct naive *naive, const struct model *path, struct sc_bytes *raw,
                        size_t *count) {
    *count = 0;
    if (path == NULL || path->kind == MODEL_NULL ||
        (path->kind == MODEL_STRING && path->text.size == 2))
        return true;
    size_t wanted = path->kind == MODEL_ARRAY ? path->count : 1;
    if (wanted > 32) {
        fail_number(naive, "path.too_deep", "Path depth ", wanted, " exceeds maximum of 32");
        return false;
    }
    for (size_t i = 0; i < wanted; i++) {
        const struct model *string = path->kind == MODEL_ARRAY ? path->children[i] : path;
        raw[i] = model_inside(string->text);
        struct sc_bytes key = model_decode(raw[i]);
        if (key.size == 0) {
            fail_parts(naive, "path.empty_segment", "Path contains an empty segment", key, "", "",
                       "");
            return false;
        }
        if (key.size > 256) {
            fail_number(naive, "path.segment_too_long", "Path segment of ", key.size,
                        " bytes exceeds maximum of 256");
            return false;
        }
        if (is_sink(key)) {
            fail_parts(naive, "path.proto_polluted", "Path segment '", key,
                       "' is not allowed (prototype pollution).", "", "");
            return false;
        }
    }
    *count = wanted;
    return true;
}

// Removes all members with the key of member `index` but that one. Returns where it is then.
static size_t claim(struct model *object, size_t index) {
    struct sc_bytes key = model_decode(object->keys[index]);
    for (size_t i = index; i-- > 0;) {
        if (sc_bytes_equal(model_decode(object->keys[i]), key)) {
            model_remove(object, i);
            index--;
        }
    }
    return index;
}

static void store(struct model *object, struct sc_bytes raw, struct model *value) {
    ssize_t index = model_find(object, model_decode(raw));
    if (index < 0) {
        model_add(object, raw, value);
    } else {
        size_t last = claim(object, (size_t)index);
        object->children[last] = value;
    }
}

// ---- Numbers

// The shortest digits that read back, with `.0` or an exponent.
static void say_double(double value, char *out) {
    char text[40];
    int precision = 1;
    do
        snprintf(text, sizeof text, "%.*e", precision - 1, value);
    while (strtod(text, NULL) != value && precision++ < 17);
    char digits[32] = {0};
    size_t count = 0;
    char *p = text;
    if (*p == '-')
        *out++ = *p++;
    for (; *p != 'e'; p++)
        if (*p != '.')
            digits[count++] = *p;
    while (count > 1 && digits[count - 1] == '0')
        digits[--count] = 0;
    int exponent = atoi(p + 1);
    if (value == 0) {
        strcpy(out, "0.0");
    } else if (exponent < -5 || exponent > 15) {
        out += sprintf(out, "%c%s%s", digits[0], count > 1 ? "." : "", digits + 1);
        sprintf(out, "e%d", exponent);
    } else if (exponent < 0) {
        out += sprintf(out, "0.");
        for (int i = exponent; i < -1; i++)
            *out++ = '0';
        strcpy(out, digits);
    } else {
        for (int i = 0; i <= exponent || (size_t)i < count; i++) {
            if (i == exponent + 1)
                *out++ = '.';
            *out++ = (size_t)i < count ? digits[i] : '0';
        }
        strcpy(out, (int)count <= exponent + 1 ? ".0" : "");
    }
}

static bool is_integer(struct sc_bytes text) {
    for (size_t i = 0; i < text.size; i++)
        if (memchr(".eE", text.data[i], 3) != NULL)
            return false;
    return !sc_bytes_equal(text, SC_LITERAL("-0"));
}

// The value of an integer text that fits i64 or u64. Sums stay far from the limits of the type.
static bool whole(struct sc_bytes text, __int128 *out) {
    if (!is_integer(text) || text.size > 21)
        return false;
    bool negative = text.data[0] == '-';
    __int128 value = 0;
    for (size_t i = negative; i < text.size; i++)
        value = value * 10 + (text.data[i] - '0');
    *out = negative ? -value : value;
    return *out >= INT64_MIN && *out <= UINT64_MAX;
}

static double real_of(struct sc_bytes text) {
    char *copy = model_take(text.size + 1);
    memcpy(copy, text.data, text.size);
    return strtod(copy, NULL);
}

static struct model *number_model(const char *text) {
    struct model *value = model_make(MODEL_NUMBER);
    char *copy = model_take(strlen(text) + 1);
    strcpy(copy, text);
    value->text = (struct sc_bytes){(uint8_t *)copy, strlen(text)};
    return value;
}

static struct model *whole_model(__int128 value) {
    char text[32];
    unsigned long long magnitude = (unsigned long long)(value < 0 ? -value : value);
    snprintf(text, sizeof text, "%s%llu", value < 0 ? "-" : "", magnitude);
    return number_model(text);
}

// x + by; a decrement says -by. NULL when the sum of whole numbers fits no number.
static struct model *sum_model(const struct model *x, __int128 by, bool decrement) {
    __int128 start;
    if (whole(x->text, &start)) {
        __int128 sum = start + by;
        return sum < INT64_MIN || sum > UINT64_MAX ? NULL : whole_model(sum);
    }
    char text[64];
    double real = real_of(x->text);
    // Not always the same: -0.0 - 0 is -0.0.
    say_double(decrement ? real - (double)-by : real + (double)by, text);
    return number_model(text);
}

// ---- Operations

struct operation {
    const struct model *path, *value, *by;
    struct sc_bytes type;
};

static const struct model *member_of(const struct model *op, const char *name) {
    ssize_t index = model_find(op, (struct sc_bytes){(const uint8_t *)name, strlen(name)});
    return index < 0 ? NULL : op->children[index];
}

static bool by_is_good(const struct model *by) {
    if (by->kind != MODEL_NUMBER)
        return false;
    __int128 value;
    if (whole(by->text, &value))
        return value <= INT64_MAX;
    double real = real_of(by->text);
    if (is_integer(by->text))
        return false; // Out of range.
    return real >= -9223372036854775808.0 && real < 9223372036854775808.0 && floor(real) == real;
}

static bool merge_path_is_good(const struct model *path) {
    if (path == NULL || path->kind == MODEL_NULL || path->kind == MODEL_STRING)
        return true;
    if (path->kind != MODEL_ARRAY)
        return false;
    for (size_t i = 0; i < path->count; i++)
        if (path->children[i]->kind != MODEL_STRING)
            return false;
    return true;
}

static const char *const type_names[] = {"set",       "merge",  "increment",
                                         "decrement", "append", "remove"};

// Whether `op` is an operation at all; a call with one that is not is rejected.
static bool is_operation(const struct model *op, const char **type) {
    if (op->kind != MODEL_OBJECT)
        return false;
    const struct model *name = member_of(op, "type"), *path = member_of(op, "path");
    const struct model *value = member_of(op, "value"), *by = member_of(op, "by");
    *type = NULL;
    for (size_t i = 0; name != NULL && name->kind == MODEL_STRING && i < 6; i++) {
        struct sc_bytes text = {(const uint8_t *)type_names[i], strlen(type_names[i])};
        if (sc_bytes_equal(model_decode(model_inside(name->text)), text))
            *type = type_names[i];
    }
    if (*type == NULL)
        return false;
    if (strcmp(*type, "merge") == 0)
        return merge_path_is_good(path) && value != NULL;
    if (path == NULL || path->kind != MODEL_STRING)
        return false;
    if (strstr(*type, "crement") != NULL)
        return by != NULL && by_is_good(by);
    return strcmp(*type, "append") != 0 || value != NULL;
}

static struct model *copy_model(const struct model *value) {
    struct model *copy = model_make(value->kind);
    copy->text = value->text;
    for (size_t i = 0; i < value->count; i++)
        model_add(copy, value->keys[i], copy_model(value->children[i]));
    return copy;
}

static bool merge_value_is_good(struct naive *naive, const struct model *value) {
    struct sc_bytes none = {NULL, 0};
    if (value->kind != MODEL_OBJECT) {
        fail_parts(naive, "value.not_an_object", "Merge value must be a JSON object", none, "", "",
                   "");
        return false;
    }
    size_t count = 0;
    const char *sink = NULL;
    for (size_t i = 0; i < value->count; i++) {
        struct sc_bytes key = model_decode(value->keys[i]);
        count += model_find(value, key) == (ssize_t)i;
        if (!is_sink(key))
            continue;
        char *text = model_take(key.size + 1);
        memcpy(text, key.data, key.size);
        sink = sink == NULL || strcmp(text, sink) < 0 ? text : sink;
    }
    unsigned depth = model_depth(value);
    if (count > 1024)
        fail_number(naive, "value.too_many_keys", "Merge value has ", count,
                    " top-level keys, exceeds maximum of 1024");
    else if (sink != NULL)
        fail_parts(naive, "value.proto_polluted", "Merge value top-level key \"",
                   (struct sc_bytes){(const uint8_t *)sink, strlen(sink)},
                   "\" is a prototype-pollution sink", "", "");
    else if (depth > 16)
        fail_number(naive, "value.too_deep", "Merge value JSON nesting depth ", depth,
                    " exceeds maximum of 16");
    else
        return true;
    return false;
}

static bool merge(struct naive *naive, const struct sc_bytes *raw, size_t count,
                  const struct model *value) {
    if (!merge_value_is_good(naive, value))
        return false;
    if (naive->root->kind != MODEL_OBJECT) {
        if (count == 0)
            return true;
        naive->root = model_make(MODEL_OBJECT);
    }
    struct model *at = naive->root;
    for (size_t i = 0; i < count; i++) {
        ssize_t index = model_find(at, model_decode(raw[i]));
        struct model *next = index < 0 ? NULL : at->children[index];
        if (next == NULL || next->kind != MODEL_OBJECT)
            next = model_make(MODEL_OBJECT);
        store(at, raw[i], next);
        at = next;
    }
    for (size_t i = 0; i < value->count; i++)
        store(at, value->keys[i], copy_model(value->children[i]));
    return true;
}

// The new value in place of `old` (NULL: missing), or NULL after an error.
static struct model *changed(struct naive *naive, const struct model *op, struct sc_bytes label,
                             struct model *old) {
    const struct model *value = member_of(op, "value");
    if (strstr(naive->type, "crement") != NULL) {
        struct sc_bytes text = member_of(op, "by")->text;
        __int128 by;
        if (!whole(text, &by))
            by = (__int128)real_of(text);
        bool decrement = strcmp(naive->type, "decrement") == 0;
        by = decrement ? -by : by;
        struct model *sum = old == NULL                 ? whole_model(by)
                            : old->kind == MODEL_NUMBER ? sum_model(old, by, decrement)
                                                        : NULL;
        if (sum == NULL)
            fail_parts(naive, "not_number", "Expected number at path '", label, "', got ",
                       kind_names[old->kind], ".");
        return sum;
    }
    if (strcmp(naive->type, "set") == 0)
        return value == NULL ? model_make(MODEL_NULL) : copy_model(value);
    CHECK(strcmp(naive->type, "append") == 0);
    enum model_kind kind = old == NULL ? MODEL_NULL : old->kind;
    struct model *out = model_make(MODEL_ARRAY);
    if (kind == MODEL_NULL && value->kind == MODEL_STRING)
        return copy_model(value);
    if (kind == MODEL_STRING && value->kind == MODEL_STRING) {
        size_t size = old->text.size + value->text.size - 2;
        uint8_t *text = model_take(size);
        memcpy(text, old->text.data, old->text.size - 1);
        memcpy(text + old->text.size - 1, value->text.data + 1, value->text.size - 1);
        out->kind = MODEL_STRING;
        out->text = (struct sc_bytes){text, size};
        return out;
    }
    if (kind == MODEL_STRING) {
        fail_parts(naive, "type_mismatch", "Expected string append value at path '", label,
                   "', got ", kind_names[value->kind], ".");
        return NULL;
    }
    if (kind != MODEL_NULL && kind != MODEL_ARRAY) {
        fail_parts(naive, "type_mismatch", "Cannot append at path '", label, "': target is ",
                   kind_names[kind], ", expected array, string, null, or missing field.");
        return NULL;
    }
    if (kind == MODEL_ARRAY)
        out = copy_model(old);
    model_add(out, (struct sc_bytes){NULL, 0}, copy_model(value));
    return out;
}

static bool apply_at_root(struct naive *naive, const struct model *op) {
    struct model *old = naive->missing ? NULL : naive->root;
    struct model *value = strcmp(naive->type, "remove") == 0
                              ? model_make(MODEL_NULL)
                              : changed(naive, op, SC_LITERAL("root"), old);
    if (value != NULL)
        naive->root = value;
    return value != NULL;
}

static bool apply_at_member(struct naive *naive, const struct model *op, struct sc_bytes raw) {
    struct model *root = naive->root;
    struct sc_bytes key = model_decode(raw);
    if (root->kind != MODEL_OBJECT) {
        char words[32] = "Cannot ";
        strcat(words, naive->type);
        strcat(words, " at path '");
        fail_parts(naive, "target_not_object", words, key, "': target is ", kind_names[root->kind],
                   ", expected object.");
        return false;
    }
    ssize_t index = model_find(root, key);
    if (strcmp(naive->type, "remove") == 0) {
        if (index >= 0)
            model_remove(root, claim(root, (size_t)index));
        return true;
    }
    struct model *value = changed(naive, op, key, index < 0 ? NULL : root->children[index]);
    if (value == NULL)
        return false;
    store(root, raw, value);
    return true;
}

static void apply(struct naive *naive, const struct model *op) {
    struct sc_bytes raw[32];
    size_t count;
    if (!segments_of(naive, member_of(op, "path"), raw, &count))
        return;
    bool done;
    if (strcmp(naive->type, "merge") == 0)
        done = merge(naive, raw, count, member_of(op, "value"));
    else if (count == 0)
        done = apply_at_root(naive, op);
    else
        done = apply_at_member(naive, op, raw[0]);
    naive->missing = naive->missing && !done;
}

static int naive_update(struct naive *naive, const struct model *ops, size_t size_max,
                        unsigned depth_max, struct sc_buffer *value) {
    const char *type;
    for (size_t i = 0; i < ops->count; i++)
        if (!is_operation(ops->children[i], &type))
            return -EINVAL;
    for (size_t i = 0; i < ops->count; i++) {
        (void)is_operation(ops->children[i], &naive->type);
        naive->number = (unsigned)i;
        apply(naive, ops->children[i]);
    }
    if (naive->errors.size > 0)
        model_say(&naive->errors, "]");
    model_write(naive->root, value);
    if (value->size > size_max || naive->errors.size > size_max)
        return -EMSGSIZE;
    return model_depth(naive->root) > depth_max ? -ELOOP : 0;
}

#endif
