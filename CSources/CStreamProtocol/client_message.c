// Messages of stream clients, and the words for what is wrong with one.
#include "CStreamProtocol.h"

#include <assert.h>
#include <string.h>

// A name in `data`, and what is said of it when it is not there, or is none.
struct name_field {
    const char *key;
    const char *missing, *wrong, *long_name;
};

#define NAME_FIELD(name)                                                                           \
    {name, "`data." name "` is missing", "`data." name "` is no string",                           \
     "`data." name "` is longer than 256 bytes"}
static_assert(SC_NAME_SIZE_MAX == 256, "the texts say so");

enum { SUBSCRIPTION_ID, STREAM_NAME, GROUP_ID, ITEM_ID };
static const struct name_field name_fields[] = {[SUBSCRIPTION_ID] = NAME_FIELD("subscriptionId"),
                                                [STREAM_NAME] = NAME_FIELD("streamName"),
                                                [GROUP_ID] = NAME_FIELD("groupId"),
                                                [ITEM_ID] = NAME_FIELD("id")};

// Reads a name. `out` has no data when the message has none. Returns what is wrong, or NULL.
// A name with escapes is decoded into a room for six times its limit first: that is what its longest spelling takes.
static const char *read_name(const struct sc_json_index *index, int parent,
                             const struct name_field *field, uint8_t *storage,
                             struct sc_bytes *out) {
    struct sc_json_member scratch;
    struct sc_bytes key = {(const uint8_t *)field->key, strlen(field->key)};
    const struct sc_json_member *member = sc_json_index_find(index, parent, key, &scratch);
    *out = (struct sc_bytes){0};
    if (member == NULL || member->value.kind == SC_JSON_NULL)
        return NULL;
    if (member->value.kind != SC_JSON_STRING)
        return field->wrong;
    struct sc_bytes raw = {member->value.text.data + 1, member->value.text.size - 2};
    if (!member->value.escaped) {
        *out = raw;
        return raw.size <= SC_NAME_SIZE_MAX ? NULL : field->long_name;
    }
    if (raw.size > 6 * SC_NAME_SIZE_MAX)
        return field->long_name;
    uint8_t decoded[6 * SC_NAME_SIZE_MAX];
    size_t size = sc_json_unescape(raw, decoded);
    if (size > SC_NAME_SIZE_MAX)
        return field->long_name;
    memcpy(storage, decoded, size);
    *out = (struct sc_bytes){storage, size};
    return NULL;
}

static const char *read_type(const struct sc_json_index *index, bool *is_join) {
    struct sc_json_member scratch;
    const struct sc_json_member *type = sc_json_index_find(index, -1, SC_LITERAL("type"), &scratch);
    if (type == NULL)
        return "`type` is missing";
    if (type->value.kind != SC_JSON_STRING)
        return "`type` is no string";
    struct sc_bytes raw = {type->value.text.data + 1, type->value.text.size - 2};
    *is_join = sc_json_string_equal(raw, type->value.escaped, SC_LITERAL("join"));
    if (!*is_join && !sc_json_string_equal(raw, type->value.escaped, SC_LITERAL("leave")))
        return "`type` is neither join nor leave";
    return NULL;
}

// Names are read in the order in which they are named in words, so that the log says the first thing that is wrong. All
// are read of a leave, too, though it needs one: a long name must not be taken just because nobody looks at it.
const char *sc_client_message_read(struct sc_client_message *message,
                                   const struct sc_json_index *index) {
    if (index->root.kind != SC_JSON_OBJECT)
        return "the message is no object";
    const char *wrong = read_type(index, &message->is_join);
    if (wrong != NULL)
        return wrong;
    struct sc_json_member scratch;
    const struct sc_json_member *data = sc_json_index_find(index, -1, SC_LITERAL("data"), &scratch);
    if (data == NULL)
        return "`data` is missing";
    if (data->value.kind != SC_JSON_OBJECT)
        return "`data` is no object";
    if (data == &scratch)
        return "the message has too many members";
    int parent = (int)(data - index->members);
    struct sc_bytes *names[] = {[SUBSCRIPTION_ID] = &message->subscription_id,
                                [STREAM_NAME] = &message->stream,
                                [GROUP_ID] = &message->group,
                                [ITEM_ID] = &message->item};
    for (int i = SUBSCRIPTION_ID; i <= ITEM_ID; i++) {
        wrong = read_name(index, parent, &name_fields[i], message->storage[i], names[i]);
        if (wrong != NULL)
            return wrong;
        // A leave says enough with its subscription.
        bool required = i == SUBSCRIPTION_ID || (message->is_join && i != ITEM_ID);
        if (required && names[i]->data == NULL)
            return name_fields[i].missing;
    }
    message->has_item = message->item.data != NULL;
    return NULL;
}
