// Taking in a file of the original's: what is in the store afterwards is what a naive reading of its name and its
// content says, or the file is refused and nothing of it is there.
//
// Input: a byte of options, the file's name up to a zero, then its content.
#include "../../CSources/CStreamCore/node/node.h"
#include "../../CSources/CStreamLoop/loop_private.h"
#include "../../CSources/CStreamStore/log/log.h"
#include "json_model.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
    OPTION_LAST = 1,  // Names are split at their last colon.
    OPTION_SKIP = 2,  // What is broken is left out.
    OPTION_WRAP = 4,  // The content is the text alone, and is put into an archived string.
    OPTION_SMALL = 8, // Values over SMALL_VALUE bytes are too large.
};
enum { NAME_MOST = 251, SMALL_VALUE = 64 };

// ---- The least of a node, and a directory

static struct sc_node node;
static struct shard shard, *shards[1] = {&shard};
static struct sc_directory directory;
// A loop that lists directories and does nothing else.
static struct sc_backend backend = {.kind = &sc_uring};
static struct sc_loop loop = {.backend = &backend};
static uint32_t said_imported, said_skipped, said_failed, said_ambiguous;
static char directory_path[] = "/tmp/import-fuzzer-XXXXXX";

static void on_log(void *context, enum sc_log_level level, const char *event, uint64_t connection,
                   struct sc_bytes detail) {
    (void)context, (void)connection;
    CHECK(detail.size < SC_REASON_SIZE && memchr(detail.data, 0, detail.size) == NULL);
    CHECK((level == SC_LOG_ERROR) == (strcmp(event, "import_failed") == 0));
    said_imported += strcmp(event, "imported") == 0;
    said_skipped += strcmp(event, "import_skipped") == 0;
    said_failed += strcmp(event, "import_failed") == 0;
    said_ambiguous += strcmp(event, "import_ambiguous") == 0;
}

static void remove_directory(void) {
    rmdir(directory_path);
}

static void init(void) {
    if (node.shared.shards != NULL)
        return;
    CHECK(mkdtemp(directory_path) != NULL);
    atexit(remove_directory);
    directory.fd = open(directory_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(directory.fd >= 0);
    node.shared.config = sc_node_config_default();
    node.shared.config.seed = 7;
    node.shared.config.storage.path = "DIR";
    node.shared.events.log = on_log;
    node.directory = &directory;
    node.shared.shards = shards;
    node.shared.shard_count = 1;
    shard.node = &node.shared;
    shard.loop = &loop;
}

// ---- The naive reading

struct expected {
    bool refused;
    struct sc_bytes stream, group;
    bool ambiguous;
    struct model *object;
};

static int hex_digit(uint8_t byte) {
    const char *digits = "0123456789ABCDEF";
    const char *at = byte == 0 ? NULL : strchr(digits, byte);
    return at == NULL ? -1 : (int)(at - digits);
}

static bool read_name(struct sc_bytes file, bool at_last, struct expected *out) {
    uint8_t *name = model_take(file.size + 1);
    size_t size = 0;
    for (size_t i = 0; i < file.size; size++) {
        bool escaped = file.data[i] == '%';
        if (escaped && (file.size - i < 3 || hex_digit(file.data[i + 1]) < 0 ||
                        hex_digit(file.data[i + 2]) < 0))
            return false;
        name[size] = escaped
                         ? (uint8_t)(16 * hex_digit(file.data[i + 1]) + hex_digit(file.data[i + 2]))
                         : file.data[i];
        i += escaped ? 3 : 1;
    }
    if (size < 7 || memcmp(name, "stream:", 7) != 0 ||
        !sc_utf8_valid((struct sc_bytes){name + 7, size - 7}))
        return false;
    size_t colons = 0, first = 0, last = 0;
    for (size_t i = 7; i < size; i++)
        if (name[i] == ':')
            first = colons++ == 0 ? i : first, last = i;
    size_t at = at_last ? last : first;
    out->stream = (struct sc_bytes){name + 7, at - 7};
    out->group = (struct sc_bytes){name + at + 1, size - at - 1};
    out->ambiguous = colons > 1;
    return colons > 0;
}

static bool read_archive(struct sc_bytes file, struct sc_bytes *text) {
    if (file.size < 8)
        return false;
    const uint8_t *last = file.data + file.size - 8;
    if (last[0] >> 6 != 2) {
        text->data = last;
        for (text->size = 0; text->size < 8 && last[text->size] != 0xff;)
            text->size++;
        return true;
    }
    uint32_t word =
        last[0] | (uint32_t)last[1] << 8 | (uint32_t)last[2] << 16 | (uint32_t)last[3] << 24;
    int32_t offset = (int32_t)(last[4] | (uint32_t)last[5] << 8 | (uint32_t)last[6] << 16 |
                               (uint32_t)last[7] << 24);
    int64_t size = (word & 0x3f) | ((word & ~0xffu) >> 2), begin = (int64_t)file.size - 8 + offset;
    if (begin < 0 || begin + size > (int64_t)file.size - 8)
        return false;
    *text = (struct sc_bytes){file.data + begin, (size_t)size};
    return true;
}

static bool items_are_good(const struct model *object, struct sc_bytes text, size_t value_most) {
    // The size that counts is that of the value as it is written, which the scanner says.
    static struct sc_json_index index;
    CHECK(sc_json_scan(text, SC_JSON_DEPTH_MAX, &index) == 0);
    struct sc_json_member member;
    size_t at = 0, offset = 0;
    for (; sc_json_next(index.root, &offset, &member); at++) {
        CHECK(at < object->count);
        if (model_decode(object->keys[at]).size > SC_NAME_SIZE_MAX ||
            model_depth(object->children[at]) > SC_VALUE_DEPTH_MAX ||
            member.value.text.size > value_most)
            return false;
    }
    CHECK(at == object->count);
    return true;
}

static struct expected expect(struct sc_bytes file, struct sc_bytes content, uint8_t options) {
    struct expected expected = {.refused = true};
    struct sc_bytes text;
    if (!read_name(file, options & OPTION_LAST, &expected) || !read_archive(content, &text))
        return expected;
    enum model_refusal refusal;
    expected.object = model_read(text, SC_JSON_DEPTH_MAX, &refusal);
    expected.refused = expected.object == NULL || expected.object->kind != MODEL_OBJECT ||
                       !items_are_good(expected.object, text, node.shared.config.value_size_max);
    return expected;
}

// ---- What is there

struct values {
    const struct model *object;
    struct sc_bytes *keys; // In the order in which they first came.
    size_t count, seen;
};

static void check_value(struct sc_blob *value, void *context) {
    struct values *values = context;
    CHECK(values->seen < values->count);
    ssize_t last = model_find(values->object, values->keys[values->seen++]);
    struct sc_buffer text = {0};
    model_write(values->object->children[last], &text);
    CHECK(sc_bytes_equal(sc_blob_bytes(value), sc_buffer_bytes(&text)));
    sc_buffer_deinit(&text);
}

static void check_store(const struct expected *expected) {
    struct sc_store_counters counters = sc_store_counters(shard.store);
    if (expected->refused) {
        CHECK(counters.items == 0 && counters.groups == 0 && counters.value_bytes == 0);
        return;
    }
    const struct model *object = expected->object;
    struct values values = {.object = object,
                            .keys = model_take((object->count + 1) * sizeof *values.keys)};
    struct sc_group_name name = {
        expected->stream, expected->group,
        sc_store_hash(expected->stream, expected->group, node.shared.config.seed)};
    for (size_t i = 0; i < object->count; i++) {
        struct sc_bytes key = model_decode(object->keys[i]);
        bool is_new = true;
        for (size_t j = 0; j < values.count && is_new; j++)
            is_new = !sc_bytes_equal(values.keys[j], key);
        CHECK(sc_store_get(shard.store, &name, key) != NULL);
        if (is_new)
            values.keys[values.count++] = key;
    }
    CHECK(counters.items == values.count);
    struct sc_group *group = sc_store_group_find(shard.store, &name);
    CHECK((group != NULL) == (values.count > 0));
    if (group != NULL)
        sc_group_for_each(group, check_value, &values);
    CHECK(values.seen == values.count);
}

// ---- One file

static void put_file(const char *name, struct sc_bytes content) {
    int fd = openat(directory.fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(content.size == 0 || write(fd, content.data, content.size) == (ssize_t)content.size);
    close(fd);
}

static void import_once(struct sc_bytes file, struct sc_bytes content, uint8_t options) {
    node.shared.config.storage.import_last = options & OPTION_LAST;
    node.shared.config.storage.import_skips_broken = options & OPTION_SKIP;
    node.shared.config.value_size_max = options & OPTION_SMALL ? SMALL_VALUE : SC_VALUE_SIZE_MAX;
    said_imported = said_skipped = said_failed = said_ambiguous = 0;
    struct expected expected = expect(file, content, options);
    char reason[SC_REASON_SIZE] = "";
    shard.store = sc_store_create(node.shared.config.seed);
    int rc = sc_import_originals(&shard, reason);
    bool skips = options & OPTION_SKIP;
    CHECK(rc == (expected.refused && !skips ? -EBADMSG : 0));
    CHECK((rc < 0) == (*reason != 0) && memchr(reason, 0, sizeof reason) != NULL);
    CHECK(said_imported == !expected.refused);
    CHECK(said_skipped == (expected.refused && skips));
    CHECK(said_failed == (expected.refused && !skips));
    if (!expected.refused)
        CHECK(said_ambiguous == (expected.ambiguous && (options & OPTION_LAST) == 0));
    check_store(&expected);
    sc_store_destroy(shard.store);
}

static void wrap(struct sc_bytes text, struct sc_buffer *out) {
    uint32_t size = (uint32_t)text.size;
    uint32_t word = (size & 0x3f) | 0x80 | (size & ~0x3fu) << 2;
    int32_t offset = -(int32_t)size;
    sc_buffer_append_bytes(out, text);
    sc_buffer_append(out, &word, sizeof word);
    sc_buffer_append(out, &offset, sizeof offset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    init();
    const uint8_t *end = size == 0 ? NULL : memchr(data + 1, 0, size - 1);
    if (end == NULL || end == data + 1 || end - data - 1 > NAME_MOST)
        return 0;
    char name[NAME_MOST + sizeof ".bin"];
    struct sc_bytes file = {(const uint8_t *)name, (size_t)(end - data - 1)};
    memcpy(name, data + 1, file.size);
    strcpy(name + file.size, ".bin");
    if (strchr(name, '/') != NULL)
        return 0;
    struct sc_bytes content = {end + 1, size - file.size - 2};
    struct sc_buffer bytes = {0};
    if (data[0] & OPTION_WRAP)
        wrap(content, &bytes);
    else
        sc_buffer_append_bytes(&bytes, content);
    put_file(name, sc_buffer_bytes(&bytes));
    import_once(file, sc_buffer_bytes(&bytes), data[0]);
    CHECK(unlinkat(directory.fd, name, 0) == 0);
    sc_buffer_deinit(&bytes);
    model_forget();
    return 0;
}
