// The scanner and what works on what it found: every instruction set says the same, and all of it is
// what a naive reader says.
//
// Input: a byte (low bits: the depth limit, see depth_limit), then a text.
#include "CStreamJSON.h"
#include "json_model.h"

#include <errno.h>

static unsigned depth_limit(uint8_t byte) {
    return byte < 128 ? SC_JSON_DEPTH_MAX : byte & 7;
}

static struct sc_json_index indexes[4];

static bool same_value(const struct sc_json_value *a, const struct sc_json_value *b) {
    if (a->kind != b->kind)
        return false;
    return a->kind == SC_JSON_ABSENT ||
           (a->text.data == b->text.data && a->text.size == b->text.size && a->depth == b->depth &&
            a->compact == b->compact && a->escaped == b->escaped);
}

static void check_same_index(const struct sc_json_index *a, const struct sc_json_index *b) {
    CHECK(same_value(&a->root, &b->root));
    CHECK(a->error_offset == b->error_offset && a->count == b->count && a->overflow == b->overflow);
    for (uint16_t i = 0; i < a->count; i++) {
        const struct sc_json_member *x = &a->members[i], *y = &b->members[i];
        CHECK(x->key.data == y->key.data && x->key.size == y->key.size);
        CHECK(x->key_escaped == y->key_escaped && x->parent == y->parent);
        CHECK(same_value(&x->value, &y->value));
    }
    CHECK(a->root_count == b->root_count && memcmp(a->roots, b->roots, a->root_count) == 0);
}

static int scan_at_all_levels(struct sc_bytes text, unsigned depth_max) {
    static const enum sc_json_scan_level levels[] = {SC_JSON_SCAN_SCALAR, SC_JSON_SCAN_SSE2,
                                                     SC_JSON_SCAN_AVX2, SC_JSON_SCAN_NEON};
    int rc = 0;
    for (int i = 0; i < 4; i++) {
        if (!sc_json_scan_use_level(levels[i]))
            continue;
        memset(&indexes[i], 0xAA, sizeof indexes[i]);
        int own = sc_json_scan(text, depth_max, &indexes[i]);
        CHECK(i == 0 || own == rc);
        rc = own;
        CHECK(indexes[i].error_offset <= text.size);
        check_same_index(&indexes[0], &indexes[i]);
    }
    return rc;
}

static void check_string(struct sc_bytes raw, bool escaped) {
    struct sc_bytes says = model_decode(raw);
    CHECK(escaped == (raw.size > 0 && memchr(raw.data, '\\', raw.size) != NULL));
    CHECK(sc_json_unescaped_size(raw) == says.size && says.size <= raw.size);
    uint8_t *out = malloc(says.size);
    CHECK(sc_json_unescape(raw, out) == says.size);
    CHECK(says.size == 0 || memcmp(out, says.data, says.size) == 0);
    CHECK(sc_json_string_equal(raw, escaped, says));
    if (says.size > 0) {
        CHECK(!sc_json_string_equal(raw, escaped, (struct sc_bytes){out, says.size - 1}));
        out[says.size / 2] ^= 1;
        CHECK(!sc_json_string_equal(raw, escaped, (struct sc_bytes){out, says.size}));
    }
    free(out);
    // Written again it says the same, in a text that a scan accepts.
    struct sc_buffer written = {0};
    sc_json_write_string(&written, says);
    CHECK(written.size == sc_json_string_size(says));
    static struct sc_json_index index;
    CHECK(sc_json_scan(sc_buffer_bytes(&written), 0, &index) == 0);
    CHECK(index.root.kind == SC_JSON_STRING);
    CHECK(sc_bytes_equal(model_decode(model_inside(sc_buffer_bytes(&written))), says));
    sc_buffer_deinit(&written);
}

// A number survives being read and written. Its text does not have to.
static void check_number(struct sc_bytes text) {
    struct sc_json_number number = sc_json_number_read(text);
    uint8_t out[SC_JSON_NUMBER_SIZE_MAX + 1] = {0};
    size_t size = sc_json_number_write(number, out);
    CHECK(size <= SC_JSON_NUMBER_SIZE_MAX);
    char *copy = model_take(text.size + 1);
    memcpy(copy, text.data, text.size);
    if (number.kind == SC_JSON_DOUBLE) {
        CHECK(number.real == strtod(copy, NULL));
        out[size] = 0;
        CHECK(number.real == strtod((char *)out, NULL));
        CHECK(memchr(out, '.', size) != NULL || memchr(out, 'e', size) != NULL);
    } else {
        CHECK(sc_bytes_equal((struct sc_bytes){out, size}, text));
    }
    struct sc_json_number again = sc_json_number_read((struct sc_bytes){out, size});
    CHECK(again.kind == number.kind && again.uint64 == number.uint64);
}

static void check_members(struct sc_json_value value, const struct model *model);

static void check_value(struct sc_json_value value, const struct model *model) {
    static const uint8_t kinds[] = {SC_JSON_NULL,   SC_JSON_FALSE, SC_JSON_TRUE,  SC_JSON_NUMBER,
                                    SC_JSON_STRING, SC_JSON_ARRAY, SC_JSON_OBJECT};
    CHECK(value.kind == kinds[model->kind]);
    CHECK(value.depth == model_depth(model));
    if (model->kind == MODEL_STRING)
        check_string(model_inside(value.text), value.escaped);
    if (model->kind == MODEL_NUMBER)
        check_number(value.text);
    if (model->kind >= MODEL_ARRAY)
        check_members(value, model);
}

static void check_members(struct sc_json_value value, const struct model *model) {
    size_t offset = 0, i = 0;
    struct sc_json_member member;
    while (sc_json_next(value, &offset, &member)) {
        CHECK(i < model->count);
        if (model->kind == MODEL_OBJECT) {
            CHECK(member.key.data == model->keys[i].data && member.key.size == model->keys[i].size);
            check_string(member.key, member.key_escaped);
        }
        check_value(member.value, model->children[i++]);
    }
    CHECK(i == model->count);
}

static void check_compact(struct sc_json_value value, const struct model *model) {
    struct sc_buffer want = {0};
    model_write(model, &want);
    CHECK(value.compact == (want.size == value.text.size));
    uint8_t *out = malloc(value.text.size);
    size_t size = sc_json_compact(value, out);
    CHECK(sc_bytes_equal((struct sc_bytes){out, size}, sc_buffer_bytes(&want)));
    // And once more: nothing changes any more.
    static struct sc_json_index index;
    CHECK(sc_json_scan((struct sc_bytes){out, size}, SC_JSON_DEPTH_MAX, &index) == 0);
    CHECK(index.root.compact && index.root.text.size == size);
    index.root.compact = false;
    uint8_t *again = malloc(size);
    CHECK(sc_json_compact(index.root, again) == size && memcmp(out, again, size) == 0);
    free(again);
    free(out);
    sc_buffer_deinit(&want);
}

static struct sc_bytes found(const struct sc_json_index *index, int parent, struct sc_bytes key) {
    struct sc_json_member scratch;
    const struct sc_json_member *member = sc_json_index_find(index, parent, key, &scratch);
    return member == NULL ? (struct sc_bytes){NULL, 0} : member->value.text;
}

static void check_find(const struct sc_json_index *index, int parent, const struct model *object) {
    for (size_t i = 0; i < object->count; i++) {
        struct sc_bytes key = model_decode(object->keys[i]);
        const struct model *last = object->children[model_find(object, key)];
        struct sc_bytes text = found(index, parent, key);
        CHECK(text.data != NULL);
        if (last->kind == MODEL_NUMBER || last->kind == MODEL_STRING)
            CHECK(text.data == last->text.data && text.size == last->text.size);
    }
    struct sc_bytes absent = SC_LITERAL("not a key of the corpus");
    if (model_find(object, absent) < 0)
        CHECK(found(index, parent, absent).data == NULL);
}

static void check_index(const struct sc_json_index *index, const struct model *root) {
    if (root->kind != MODEL_OBJECT) {
        CHECK(index->count == 0);
        return;
    }
    check_find(index, -1, root);
    size_t child = 0;
    for (uint16_t i = 0; i < index->count; i++) {
        if (index->members[i].parent != -1)
            continue;
        const struct model *value = root->children[child++];
        if (value->kind == MODEL_OBJECT)
            check_find(index, i, value);
    }
    CHECK(child == root->count || index->overflow);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 4096)
        return 0;
    unsigned depth_max = depth_limit(data[0]);
    struct sc_bytes text = {copy_of(data + 1, size - 1), size - 1};
    int rc = scan_at_all_levels(text, depth_max);
    enum model_refusal refusal;
    struct model *model = model_read(text, depth_max, &refusal);
    static const int codes[] = {0, -EBADMSG, -EILSEQ, -ELOOP};
    CHECK(rc == codes[refusal]);
    if (model != NULL) {
        check_value(indexes[0].root, model);
        check_compact(indexes[0].root, model);
        check_index(&indexes[0], model);
    } else {
        CHECK(indexes[0].root.kind == SC_JSON_ABSENT);
        for (uint16_t i = 0; i < indexes[0].count; i++)
            CHECK(indexes[0].members[i].value.kind != SC_JSON_ABSENT);
    }
    model_forget();
    free((void *)(uintptr_t)text.data);
    return 0;
}
