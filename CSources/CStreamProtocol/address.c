// Addresses of peers. By the C library's means: its forms are those that the kernel and other programs write.
#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static const uint8_t four_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool is_four(const struct sc_ip *ip) {
    return memcmp(ip->bytes, four_prefix, sizeof four_prefix) == 0;
}

struct sc_endpoint sc_endpoint_of(const struct sockaddr_storage *address) {
    struct sc_endpoint endpoint = {.known = true};
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        memcpy(endpoint.ip.bytes, &six->sin6_addr, 16);
        endpoint.port = ntohs(six->sin6_port);
    } else if (address->ss_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)address;
        memcpy(endpoint.ip.bytes, four_prefix, sizeof four_prefix);
        memcpy(endpoint.ip.bytes + 12, &four->sin_addr, 4);
        endpoint.port = ntohs(four->sin_port);
    } else {
        endpoint.known = false;
    }
    return endpoint;
}

struct sc_ip sc_ip_network(const struct sc_ip *ip) {
    struct sc_ip network = *ip;
    if (!is_four(ip))
        memset(network.bytes + 8, 0, 8);
    return network;
}

size_t sc_endpoint_write(const struct sc_endpoint *endpoint, uint8_t out[SC_ENDPOINT_SIZE_MAX],
                         struct sc_bytes *ip) {
    char text[INET6_ADDRSTRLEN] = "?";
    bool six = endpoint->known && !is_four(&endpoint->ip);
    if (six)
        inet_ntop(AF_INET6, endpoint->ip.bytes, text, sizeof text);
    else if (endpoint->known)
        inet_ntop(AF_INET, endpoint->ip.bytes + 12, text, sizeof text);
    bool has_port = endpoint->known && endpoint->port != 0;
    bool bracketed = six && has_port;
    struct sc_buffer buffer = {.data = out, .capacity = SC_ENDPOINT_SIZE_MAX};
    sc_buffer_append(&buffer, "[", bracketed ? 1 : 0);
    sc_buffer_append(&buffer, text, strlen(text));
    *ip = (struct sc_bytes){out + bracketed, strlen(text)};
    if (has_port) {
        uint8_t digits[20];
        sc_buffer_append(&buffer, "]", bracketed ? 1 : 0);
        sc_buffer_append(&buffer, ":", 1);
        sc_buffer_append(&buffer, digits, sc_decimal_write(digits, endpoint->port));
    }
    return buffer.size;
}
