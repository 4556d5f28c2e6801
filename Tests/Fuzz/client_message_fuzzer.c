// What stream clients say: a message is taken with names of at most SC_NAME_SIZE_MAX bytes, or refused in words; a path
// is taken, or refused with a status.
//
// Input: the text of a message, and a path.
#include "CStreamProtocol.h"
#include "fuzz.h"

static void check_name(struct sc_bytes name) {
    CHECK(name.size <= SC_NAME_SIZE_MAX && sc_utf8_valid(name));
}

static void check_message(struct sc_bytes text) {
    static struct sc_json_index index;
    static struct sc_client_message message;
    if (sc_json_scan(text, SC_JSON_DEPTH_MAX, &index) < 0)
        return;
    memset(&message, 0xAA, sizeof message);
    const char *wrong = sc_client_message_read(&message, &index);
    if (wrong != NULL) {
        CHECK(strlen(wrong) > 0);
        return;
    }
    CHECK(index.root.kind == SC_JSON_OBJECT && message.subscription_id.data != NULL);
    CHECK(!message.is_join || (message.stream.data != NULL && message.group.data != NULL));
    CHECK(message.has_item == (message.item.data != NULL));
    check_name(message.subscription_id);
    check_name(message.stream);
    check_name(message.group);
    check_name(message.item);
}

static void check_path(struct sc_bytes text) {
    static struct sc_stream_path path, other;
    memset(&path, 0xAA, sizeof path);
    int status = sc_stream_path_read(text, &path);
    CHECK(status == 0 || status == 400 || status == 404);
    if (status != 0)
        return;
    if (!path.joins) {
        CHECK(sc_bytes_equal(text, SC_LITERAL("/")));
        return;
    }
    sc_stream_path_copy(&other, &path);
    for (int i = 0; i < (path.has_item ? 3 : 2); i++) {
        CHECK(path.parts[i].size > 0);
        check_name(path.parts[i]);
        CHECK(other.parts[i].data == other.storage[i] &&
              sc_bytes_equal(path.parts[i], other.parts[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = copy_of(data, size);
    struct sc_bytes text = {copy, size};
    check_message(text);
    check_path(text);
    free(copy);
    return 0;
}
