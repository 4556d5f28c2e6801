// Messages on their way to the control plane, and the address of a peer in words.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

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
