// A stream client as the streams see it: what few of them have, and whether it may say more.
#include <stdlib.h>

#include "streams.h"

// Most clients subscribe by path once and never need it: 144 bytes are all that they cost.
struct subscriber_extra *sc_subscriber_extra(struct connection *connection) {
    struct subscriber *subscriber = subscriber_of(connection);
    if (subscriber->extra == NULL) {
        subscriber->extra =
            sc_heap_take(connection_shard(connection)->heap, sizeof *subscriber->extra);
        if (subscriber->extra == NULL)
            abort(); // Bookkeeping without memory: see sc_allocate.
        *subscriber->extra = (struct subscriber_extra){.subscriber = subscriber};
    }
    return subscriber->extra;
}

// Behind the last subscription: the leaves that are announced carry the context.
void sc_subscriber_extra_free(struct connection *connection) {
    struct subscriber_extra *extra = subscriber_of(connection)->extra;
    if (extra == NULL)
        return;
    assert(extra->upgrade == NULL);
    sc_blob_release(extra->context);
    sc_index_destroy(extra->index);
    sc_heap_give(extra);
    subscriber_of(connection)->extra = NULL;
}

bool sc_subscriber_may_start(const struct connection *connection) {
    return !subscriber_of(connection)->join_pending && sc_credit_has_room(connection);
}
