// The end of a connection, as its streams see it: all that it waits for and subscribes to is given up, some of it in a turn.
#include "streams.h"

bool sc_subscriptions_remove_some(struct connection *connection, uint32_t most) {
    if (subscriber_of(connection)->extra != NULL &&
        subscriber_of(connection)->extra->pending_join != NULL)
        sc_pending_join_end(connection);
    sc_catch_up_give_up(connection);
    while (subscriber_of(connection)->memberships != NULL && most > 0) {
        struct membership *membership = subscriber_of(connection)->memberships;
        struct topic *topic = membership->topic;
        uint32_t ended = 0;
        bool last = false;
        while (!last && ended < most) {
            last = sc_subscription_end(membership, membership->subscriptions);
            ended++;
        }
        most -= ended;
        sc_leave_send(connection_shard(connection), topic, ended);
    }
    return subscriber_of(connection)->memberships == NULL;
}
