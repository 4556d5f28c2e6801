// A request head: what an auth function is told of it, and which client it shows.
#define _GNU_SOURCE // memmem
#include <stdlib.h>

#include "builder.h"

bool sc_head_is_python(const struct sc_http_request *request) {
    struct sc_bytes agent = sc_http_header_get(request, "user-agent");
    static const char first[] = "Python/", second[] = " websockets/";
    return agent.size >= sizeof first - 1 && memcmp(agent.data, first, sizeof first - 1) == 0 &&
           memmem(agent.data, agent.size, second, sizeof second - 1) != NULL;
}

// Only visible ASCII, space and tab can be told in JSON as they were sent. RFC 9110 leaves the meaning of other bytes open.
static bool is_plain(struct sc_bytes value) {
    for (size_t i = 0; i < value.size; i++)
        if (value.data[i] != '\t' && (value.data[i] < 0x20 || value.data[i] > 0x7e))
            return false;
    return true;
}

static uint8_t lower(uint8_t byte) {
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte;
}

static bool same_name(struct sc_bytes a, struct sc_bytes b) {
    if (a.size != b.size)
        return false;
    for (size_t i = 0; i < a.size; i++)
        if (lower(a.data[i]) != lower(b.data[i]))
            return false;
    return true;
}

// The value that counts is the last plain one of a name; it stands where the name comes last.
static bool is_last(const struct sc_http_request *request, uint32_t at) {
    for (uint32_t i = at + 1; i < request->header_count; i++)
        if (is_plain(request->headers[i].value) &&
            same_name(request->headers[at].name, request->headers[i].name))
            return false;
    return true;
}

// Names in lower case, each once: what an auth function gets is an object, and HTTP compares names without case.
static void add_headers(struct sc_message_builder *builder, const struct sc_http_request *request) {
    bool begun = false;
    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct sc_http_header *header = &request->headers[i];
        if (!is_plain(header->value) || !is_last(request, i))
            continue;
        sc_builder_add(builder, begun ? SC_LITERAL(",\"") : SC_LITERAL("\""));
        begun = true;
        uint8_t *name = sc_buffer_reserve(&builder->text, header->name.size);
        for (size_t at = 0; name != NULL && at < header->name.size; at++)
            name[at] = lower(header->name.data[at]);
        builder->text.size += name == NULL ? 0 : header->name.size; // A token: nothing to escape.
        sc_builder_add(builder, SC_LITERAL("\":"));
        sc_json_write_string(&builder->text, header->value);
    }
}

struct parameter {
    struct sc_bytes key, value;
};

// By name, and in the order of the query among those of one name: the sort is not stable by itself.
static int compare_parameters(const void *a, const void *b) {
    const struct parameter *left = a, *right = b;
    size_t size = left->key.size < right->key.size ? left->key.size : right->key.size;
    int order = memcmp(left->key.data, right->key.data, size);
    if (order != 0)
        return order;
    if (left->key.size != right->key.size)
        return left->key.size < right->key.size ? -1 : 1;
    return left->key.data < right->key.data ? -1 : 1; // As sent.
}

// Nothing is decoded: what `%20` or `+` mean in a query is for the auth function to say.
static size_t split_query(struct sc_bytes query, struct parameter *out) {
    size_t count = 0;
    for (size_t at = 0; at < query.size;) {
        const uint8_t *ampersand = memchr(query.data + at, '&', query.size - at);
        size_t end = ampersand == NULL ? query.size : (size_t)(ampersand - query.data);
        const uint8_t *equals = memchr(query.data + at, '=', end - at);
        size_t key_end = equals == NULL ? end : (size_t)(equals - query.data);
        struct parameter parameter = {.key = {query.data + at, key_end - at}};
        if (equals != NULL)
            parameter.value = (struct sc_bytes){equals + 1, end - key_end - 1};
        if (parameter.key.size > 0) // A target is ASCII.
            out[count++] = parameter;
        at = end + 1;
    }
    return count;
}

// Sorting brings the values of one name together in n log n; a query of 16 KiB may have thousands of parameters.
static void add_query(struct sc_message_builder *builder, struct sc_bytes query) {
    struct parameter *parameters = malloc((query.size / 2 + 1) * sizeof *parameters);
    if (parameters == NULL) {
        builder->text.failed = true;
        return;
    }
    size_t count = split_query(query, parameters);
    qsort(parameters, count, sizeof *parameters, compare_parameters);
    for (size_t i = 0; i < count; i++) {
        bool first = i == 0 || !sc_bytes_equal(parameters[i - 1].key, parameters[i].key);
        bool last = i + 1 == count || !sc_bytes_equal(parameters[i + 1].key, parameters[i].key);
        if (i > 0)
            sc_builder_add(builder, SC_LITERAL(","));
        if (first) {
            sc_json_write_string(&builder->text, parameters[i].key);
            sc_builder_add(builder, SC_LITERAL(":["));
        }
        sc_json_write_string(&builder->text, parameters[i].value);
        if (last)
            sc_builder_add(builder, SC_LITERAL("]"));
    }
    free(parameters);
}

struct sc_message *sc_head_message(const struct sc_http_request *request, struct sc_bytes address,
                                   bool worker, struct sc_heap *heap, struct sc_account *account) {
    struct sc_message_builder builder = {.heap = heap};
    sc_builder_begin(&builder, SC_FIELD_DATA);
    sc_builder_add(&builder, SC_LITERAL("{\"headers\":{"));
    add_headers(&builder, request);
    sc_builder_add(&builder, SC_LITERAL("},\"query_params\":{"));
    add_query(&builder, request->query);
    if (worker) {
        sc_builder_add(&builder, SC_LITERAL("},\"ip_address\":"));
    } else {
        sc_builder_add(&builder, SC_LITERAL("},\"path\":"));
        sc_json_write_string(&builder.text, request->path);
        sc_builder_add(&builder, SC_LITERAL(",\"addr\":"));
    }
    sc_json_write_string(&builder.text, address);
    sc_builder_add(&builder, SC_LITERAL("}"));
    sc_builder_end(&builder, SC_FIELD_DATA);
    return sc_builder_finish(&builder, SC_MESSAGE_UPGRADE, account);
}
