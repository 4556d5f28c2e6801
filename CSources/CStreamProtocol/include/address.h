// Addresses of peers, as bytes and as text.
//
// Thread: any. All of it is pure.
#ifndef CSTREAM_PROTOCOL_ADDRESS_H
#define CSTREAM_PROTOCOL_ADDRESS_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

/// An IP address. One of IPv4 is written as IPv6 has it (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2), so that a peer is
/// the same whether the node listens on IPv4, on both, or hears of it from a proxy.
struct sc_ip {
    uint8_t bytes[16];
};

/// Where a peer is. All zero: nothing is known of it.
struct sc_endpoint {
    struct sc_ip ip;
    uint16_t port; // 0: not known.
    bool known;
};

struct sockaddr_storage;
/// The endpoint that the kernel names. Of another family than IPv4 and IPv6 nothing is known.
struct sc_endpoint sc_endpoint_of(const struct sockaddr_storage *address);

/// The part of an address that limits for each address count: all of IPv4, and the first 64 bits of IPv6, since a host there
/// has as many addresses as it likes (RFC 4291 section 2.5.4).
struct sc_ip sc_ip_network(const struct sc_ip *ip);

#define SC_ENDPOINT_SIZE_MAX 64
/// Writes `ip:port`, an IPv6 address in brackets, and returns the size; without a port that is known the address alone, and
/// `?` for one of which nothing is known. `*ip` is the address in it, without brackets and port.
size_t sc_endpoint_write(const struct sc_endpoint *endpoint,
                         uint8_t out[_Nonnull SC_ENDPOINT_SIZE_MAX], struct sc_bytes *ip);

#pragma clang assume_nonnull end

#endif
