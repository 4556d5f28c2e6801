// A stream client as the streams see it: what few of them have, and whether it may say more.
#include <stdlib.h>

#include "core_functions.h"
#include "subscription_index.h"

struct client_extra *sc_client_extra(struct connection *connection) {
    struct stream_client *client = client_of(connection);
    if (client->extra == NULL) {
        client->extra = sc_heap_take(connection_shard(connection)->heap, sizeof *client->extra);
        if (client->extra == NULL)
            abort(); // Bookkeeping without memory: see sc_allocate.
        *client->extra = (struct client_extra){.client = client};
    }
    return client->extra;
}

void sc_client_extra_free(struct connection *connection) {
    struct client_extra *extra = client_of(connection)->extra;
    if (extra == NULL)
        return;
    assert(extra->upgrade == NULL);
    sc_blob_release(extra->context);
    sc_index_destroy(extra->index);
    sc_heap_give(extra);
    client_of(connection)->extra = NULL;
}

bool sc_client_may_start(const struct connection *connection) {
    return !client_of(connection)->join_pending && sc_credit_has_room(connection);
}
