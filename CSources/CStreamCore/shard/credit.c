// Room for what another message of a connection may bring: its account, and what it has asked for.
#include "shard.h"

bool sc_credit_has_room(const struct connection *connection) {
    const struct sc_account *account = connection->account;
    return account == NULL ||
           (account_in_work(account) <= account->limit &&
            sc_account_messages(account) <= MESSAGES_MAX &&
            sc_account_bytes(account, SC_PLACE_REQUESTS) <= SC_REQUESTS_SIZE_MAX);
}
