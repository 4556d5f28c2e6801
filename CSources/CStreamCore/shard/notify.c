// Messages on their way to the control plane.
#include "shard.h"

void sc_announce(struct shard *shard, uint64_t connection, struct sc_message *message) {
    if (message == NULL)
        return;
    const struct sc_node_events *events = &shard->node->events;
    events->message(events->context, connection, message);
    sc_message_release(message);
}

void sc_announce_leave(struct shard *shard, uint64_t connection,
                       const struct sc_subscription_name *name, struct sc_account *account) {
    if ((sc_watch_flags(shard, name->stream) & SC_WATCH_LEAVES) != 0)
        sc_announce(shard, connection,
                    sc_join_message(SC_MESSAGE_LEAVE, sc_now_ms(shard), connection, name, account));
}
