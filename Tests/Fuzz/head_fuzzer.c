// Request heads as an auth function is told of them: whatever a peer sends as a head, the message's data is JSON, with
// each header once.
//
// Input: the bytes of a connection.
#include "CStreamProtocol.h"
#include "fuzz.h"

static void check_data(const struct sc_message *message, bool worker) {
    static struct sc_json_index index;
    CHECK(message != NULL);
    struct sc_bytes data = sc_message_field(message, SC_FIELD_DATA);
    CHECK(sc_json_scan(data, SC_JSON_DEPTH_MAX, &index) == 0 && index.root.kind == SC_JSON_OBJECT);
    struct sc_json_member scratch, member, other;
    const struct sc_json_member *headers =
        sc_json_index_find(&index, -1, SC_LITERAL("headers"), &scratch);
    CHECK(headers != NULL && headers->value.kind == SC_JSON_OBJECT);
    struct sc_json_value all = headers->value;
    for (size_t offset = 0; sc_json_next(all, &offset, &member);) {
        CHECK(member.value.kind == SC_JSON_STRING);
        for (size_t rest = offset; sc_json_next(all, &rest, &other);)
            CHECK(!sc_bytes_equal(member.key, other.key));
    }
    bool has_path = sc_json_index_find(&index, -1, SC_LITERAL("path"), &scratch) != NULL;
    CHECK(has_path != worker);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct sc_http_request request;
    static struct sc_heap *heap;
    if (heap == NULL)
        heap = sc_heap_create();
    CHECK(heap != NULL);
    uint8_t *copy = copy_of(data, size);
    if (sc_http_request_parse(copy, size, &request) > 0) {
        for (int worker = 0; worker < 2; worker++) {
            struct sc_message *message =
                sc_head_message(&request, SC_LITERAL("[::1]:1"), worker == 1, heap, NULL);
            check_data(message, worker == 1);
            sc_message_release(message);
            CHECK(sc_heap_counters(heap).objects == 0);
        }
        (void)sc_head_is_python(&request);
    }
    free(copy);
    return 0;
}
