// What the control plane hears of: the messages that the core makes itself, each with what a function is to
// be called with as its DATA.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "call_input.h"
#include "core_functions.h"

void sc_announce(struct shard *shard, uint64_t connection, struct sc_message *message) {
    if (message == NULL)
        return;
    const struct sc_node_events *events = &shard->node->events;
    events->message(events->context, connection, message);
    sc_message_release(message);
}

static void add_number(struct message_builder *builder, uint64_t number) {
    uint8_t digits[20];
    sc_builder_add(builder, (struct sc_bytes){digits, sc_decimal_write(digits, number)});
}

static void add_string_or_null(struct message_builder *builder, enum sc_message_field field,
                               const struct sc_bytes *text) {
    if (text == NULL)
        sc_builder_add(builder, SC_LITERAL("null"));
    else
        sc_builder_string(builder, field, *text);
}

// ---- Changes

// {"type":"stream","timestamp":…,"streamName":…,"groupId":…,"id":…,"event":{"type":…},
//  "event_type":…,"stream_name":…,"group_id":…}
struct sc_message *sc_change_message(uint64_t timestamp, const struct sc_group_name *name,
                                     const struct sc_bytes *item, const struct sc_bytes *event,
                                     size_t count, struct sc_bytes kind,
                                     struct sc_account *account) {
    struct message_builder builder = {0};
    sc_builder_begin(&builder, SC_FIELD_DATA);
    sc_builder_add(&builder, SC_LITERAL("{\"type\":\"stream\",\"timestamp\":"));
    add_number(&builder, timestamp);
    sc_builder_add(&builder, SC_LITERAL(",\"streamName\":"));
    sc_builder_string(&builder, SC_FIELD_STREAM, name->stream);
    sc_builder_add(&builder, SC_LITERAL(",\"groupId\":"));
    sc_builder_string(&builder, SC_FIELD_GROUP, name->group);
    sc_builder_add(&builder, SC_LITERAL(",\"id\":"));
    add_string_or_null(&builder, SC_FIELD_ITEM, item);
    sc_builder_add(&builder, SC_LITERAL(",\"event\":{\"type\":"));
    for (size_t i = 0; i < count; i++)
        sc_builder_add(&builder, event[i]);
    sc_builder_add(&builder, SC_LITERAL("},\"event_type\":\""));
    sc_builder_add(&builder, kind);
    sc_builder_add(&builder, SC_LITERAL("\",\"stream_name\":"));
    sc_json_write_string(&builder.text, name->stream);
    sc_builder_add(&builder, SC_LITERAL(",\"group_id\":"));
    sc_json_write_string(&builder.text, name->group);
    sc_builder_add(&builder, SC_LITERAL("}"));
    sc_builder_end(&builder, SC_FIELD_DATA);
    return sc_builder_finish(&builder, SC_MESSAGE_CHANGE, account);
}

// ---- Joins and leaves

// The id by which the node's log names the connection: hexadecimal, without leading zeros.
static void add_connection_id(struct message_builder *builder, uint64_t connection) {
    uint8_t digits[16];
    size_t at = sizeof digits;
    do {
        digits[--at] = (uint8_t)"0123456789abcdef"[connection & 15];
        connection >>= 4;
    } while (connection != 0);
    sc_builder_add(builder, SC_LITERAL(",\"connection_id\":\""));
    sc_builder_add(builder, (struct sc_bytes){digits + at, sizeof digits - at});
    sc_builder_add(builder, SC_LITERAL("\""));
}

struct sc_message *sc_join_message(enum sc_message_type type, uint64_t timestamp,
                                   uint64_t connection, const struct subscription_name *name,
                                   struct sc_account *account) {
    struct message_builder builder = {0};
    sc_builder_begin(&builder, SC_FIELD_DATA);
    sc_builder_add(&builder, SC_LITERAL("{\"subscription_id\":"));
    sc_builder_string(&builder, SC_FIELD_ID, name->id);
    add_connection_id(&builder, connection);
    sc_builder_add(&builder, SC_LITERAL(",\"stream_name\":"));
    sc_builder_string(&builder, SC_FIELD_STREAM, name->stream);
    sc_builder_add(&builder, SC_LITERAL(",\"group_id\":"));
    sc_builder_string(&builder, SC_FIELD_GROUP, name->group);
    sc_builder_add(&builder, SC_LITERAL(",\"id\":"));
    add_string_or_null(&builder, SC_FIELD_ITEM, name->item);
    sc_builder_add(&builder, SC_LITERAL(",\"context\":"));
    sc_builder_field(&builder, SC_FIELD_METADATA,
                     name->context.data == NULL ? SC_LITERAL("null") : name->context);
    sc_builder_add(&builder, type == SC_MESSAGE_JOIN
                                 ? SC_LITERAL(",\"event_type\":\"stream:join\",\"timestamp\":")
                                 : SC_LITERAL(",\"event_type\":\"stream:leave\",\"timestamp\":"));
    add_number(&builder, timestamp);
    sc_builder_add(&builder, SC_LITERAL("}"));
    sc_builder_end(&builder, SC_FIELD_DATA);
    return sc_builder_finish(&builder, type, account);
}

void sc_announce_leave(struct shard *shard, uint64_t connection,
                       const struct subscription_name *name, struct sc_account *account) {
    if ((sc_watch_flags(shard, name->stream) & SC_WATCH_LEAVES) != 0)
        sc_announce(shard, connection,
                    sc_join_message(SC_MESSAGE_LEAVE, sc_now_ms(shard), connection, name, account));
}

struct sc_message *sc_sync_message(const struct subscription_name *name) {
    struct message_builder builder = {0};
    sc_builder_begin(&builder, SC_FIELD_DATA);
    sc_builder_add(&builder, SC_LITERAL("{\"stream_name\":"));
    sc_builder_string(&builder, SC_FIELD_STREAM, name->stream);
    sc_builder_add(&builder, SC_LITERAL(",\"group_id\":"));
    sc_builder_string(&builder, SC_FIELD_GROUP, name->group);
    if (name->item != NULL) {
        sc_builder_add(&builder, SC_LITERAL(",\"item_id\":"));
        sc_builder_string(&builder, SC_FIELD_ITEM, *name->item);
    }
    sc_builder_add(&builder, SC_LITERAL("}"));
    sc_builder_end(&builder, SC_FIELD_DATA);
    sc_builder_string(&builder, SC_FIELD_ID, name->id);
    return sc_builder_finish(&builder, SC_MESSAGE_SYNC, NULL);
}

// ---- Calls of overridden functions

static void add_name(struct message_builder *builder, enum sc_message_field field,
                     struct sc_bytes key, struct sc_bytes name) {
    sc_builder_add(builder, key);
    sc_builder_string(builder, field, name);
}

static void add_value(struct message_builder *builder, struct sc_json_value value) {
    uint8_t *room = sc_buffer_reserve(&builder->text, value.text.size);
    if (room != NULL)
        builder->text.size += sc_json_compact(value, room);
}

// The declared keys of a call's input, and no others.
static void add_input(struct message_builder *builder, const struct call *call,
                      struct sc_bytes ops) {
    bool has_group = call->op != SC_CALL_LIST_GROUPS;
    bool has_item = has_group && call->op != SC_CALL_LIST;
    sc_builder_begin(builder, SC_FIELD_DATA);
    add_name(builder, SC_FIELD_STREAM, SC_LITERAL("{\"stream_name\":"), call->name.stream);
    if (has_group)
        add_name(builder, SC_FIELD_GROUP, SC_LITERAL(",\"group_id\":"), call->name.group);
    if (has_item)
        add_name(builder, SC_FIELD_ITEM, SC_LITERAL(",\"item_id\":"), call->item);
    if (call->op == SC_CALL_SET) {
        sc_builder_add(builder, SC_LITERAL(",\"data\":"));
        add_value(builder, call->data);
    } else if (call->op == SC_CALL_UPDATE) {
        sc_builder_add(builder, SC_LITERAL(",\"ops\":"));
        sc_builder_add(builder, ops);
    }
    sc_builder_add(builder, SC_LITERAL("}"));
    sc_builder_end(builder, SC_FIELD_DATA);
}

struct sc_message *sc_override_message(const struct call *call, struct sc_bytes ops, uint32_t bit) {
    struct message_builder builder = {.override = (uint8_t)bit, .is_void = !call->wants_answer};
    add_input(&builder, call, ops);
    if (call->wants_answer)
        sc_builder_field(&builder, SC_FIELD_INVOCATION_ID, call->invocation_id);
    sc_builder_field(&builder, SC_FIELD_FUNCTION_ID, call->function_id);
    sc_builder_field(&builder, SC_FIELD_TRACEPARENT, call->traceparent);
    sc_builder_field(&builder, SC_FIELD_BAGGAGE, call->baggage);
    return sc_builder_finish(&builder, SC_MESSAGE_OVERRIDE, call->account);
}

// ---- Request heads

size_t sc_peer_address(int fd, uint8_t out[PEER_ADDRESS_SIZE_MAX], size_t *ip_size) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char ip[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    bool six = false;
    if (getpeername(fd, (struct sockaddr *)&address, &length) == 0) {
        if (address.ss_family == AF_INET6) {
            const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
            inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof ip);
            port = ntohs(in6->sin6_port);
            six = true;
        } else if (address.ss_family == AF_INET) {
            const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
            inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
            port = ntohs(in->sin_port);
        }
    }
    struct sc_buffer text = {.data = out, .capacity = PEER_ADDRESS_SIZE_MAX};
    sc_buffer_append(&text, "[", six ? 1 : 0);
    sc_buffer_append(&text, ip, strlen(ip));
    *ip_size = text.size - (six ? 1 : 0);
    sc_buffer_append(&text, "]", six ? 1 : 0);
    sc_buffer_append(&text, ":", 1);
    uint8_t digits[20];
    sc_buffer_append(&text, digits, sc_decimal_write(digits, port));
    return text.size;
}

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

static void add_headers(struct message_builder *builder, const struct sc_http_request *request) {
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

static void add_query(struct message_builder *builder, struct sc_bytes query) {
    struct parameter *parameters = sc_allocate((query.size / 2 + 1) * sizeof *parameters);
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
                                   bool worker, struct sc_account *account) {
    struct message_builder builder = {0};
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

static void sip_round(uint64_t v[4]) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = (v[1] << 13 | v[1] >> 51) ^ v[0];
    v[3] = (v[3] << 16 | v[3] >> 48) ^ v[2];
    v[0] = v[0] << 32 | v[0] >> 32;
    v[2] += v[1];
    v[0] += v[3];
    v[1] = (v[1] << 17 | v[1] >> 47) ^ v[2];
    v[3] = (v[3] << 21 | v[3] >> 43) ^ v[0];
    v[2] = v[2] << 32 | v[2] >> 32;
}

// SipHash-2-4 of the eight bytes of `number`, with 128 bits of output.
static void sip_hash(const uint64_t key[2], uint64_t number, uint64_t out[2]) {
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d ^ 0xee,
                     key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
    const uint64_t words[2] = {number, (uint64_t)sizeof number << 56};
    for (unsigned word = 0; word < 2; word++) {
        v[3] ^= words[word];
        sip_round(v);
        sip_round(v);
        v[0] ^= words[word];
    }
    v[2] ^= 0xee;
    for (unsigned half = 0; half < 2; half++) {
        for (unsigned round = 0; round < 4; round++)
            sip_round(v);
        out[half] = v[0] ^ v[1] ^ v[2] ^ v[3];
        v[1] ^= 0xdd;
    }
}

void sc_uuid_write(uint8_t out[UUID_TEXT_SIZE], uint64_t number, const uint64_t key[2]) {
    uint64_t halves[2];
    sip_hash(key, number, halves);
    halves[0] = (halves[0] & ~0xf000ull) | 0x4000;
    halves[1] = (halves[1] & ~(3ull << 62)) | 2ull << 62;
    size_t at = 0;
    for (unsigned digit = 0; digit < 32; digit++) {
        if (digit == 8 || digit == 12 || digit == 16 || digit == 20)
            out[at++] = '-';
        out[at++] = (uint8_t)"0123456789abcdef"[halves[digit / 16] >> (60 - 4 * (digit % 16)) & 15];
    }
}
