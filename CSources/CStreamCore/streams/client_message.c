// What a stream client says: joins and leaves. It waits for each join before the next one.
#include <errno.h>

#include "streams.h"

static bool is_blank(struct sc_bytes text) {
    for (size_t i = 0; i < text.size; i++)
        if (memchr(" \t\r\n", text.data[i], 4) == NULL)
            return false;
    return true;
}

// A stream client is told nothing: the protocol has no message for that. The line of the log names the field.
static void invalid(struct connection *connection, const char *why) {
    connection_shard(connection)->counters.messages_invalid++;
    sc_shard_log(connection_shard(connection), SC_LOG_WARN, "stream_message_invalid",
                 connection->id, (struct sc_bytes){(const uint8_t *)why, strlen(why)});
}

// A message that must wait is given back whole, and comes again when the join before it is done. So nothing of it may have
// happened: the room is looked at first.
bool sc_stream_message(struct connection *connection, struct sc_bytes text) {
    struct shard *shard = connection_shard(connection);
    if (is_blank(text))
        return true;
    if (!sc_subscriber_may_start(connection))
        return false;
    struct sc_json_index *index = &shard->index_scratch;
    int rc = sc_json_scan(text, SC_JSON_DEPTH_MAX, index);
    if (rc < 0) {
        if (!connection->binary && !sc_utf8_valid(text))
            sc_connection_close(connection, 1007, "text is not UTF-8");
        else
            invalid(connection, rc == -ELOOP ? "the message is nested too deep" : "not JSON");
        return true;
    }
    struct sc_client_message message;
    const char *wrong = sc_client_message_read(&message, index);
    if (wrong != NULL) {
        invalid(connection, wrong);
        return true;
    }
    struct sc_subscription_name name = {.id = message.subscription_id,
                                        .stream = message.stream,
                                        .group = message.group,
                                        .item = message.has_item ? &message.item : NULL,
                                        .context = subscriber_context(connection)};
    if (message.is_join) {
        sc_pace_join(connection);
        sc_join_ask(connection, &name);
    } else
        sc_subscription_remove(connection, message.subscription_id);
    return true;
}
