// Where connections come from: addresses that are bound, and the listeners of a loop.
#ifndef CSTREAM_TRANSPORT_LISTEN_H
#define CSTREAM_TRANSPORT_LISTEN_H

#include "CStreamBase.h"
#include "CStreamLoop.h"

#pragma clang assume_nonnull begin

struct port;
struct role;

/// The addresses of a host, and the port that is bound at all of them.
struct listen_place {
    struct sc_host_addresses host;
    uint16_t port;
};

/// Room for one sentence that says why something cannot be had.
struct listen_reason {
    char text[512];
};

/// Looks the name up. It may wait for the resolver.
///
/// Thread: any.
/// Errors: -ENOENT (no such host), -ENOMEM, ...
SC_CHECKED int sc_place_resolve(struct listen_place *place, const char *host, uint16_t port,
                                struct listen_reason *reason);
/// Binds all addresses of a place to one port; with port 0 the first address picks it. An address that this host does
/// not have is left out of the place from here on, if there are others. Returns how many sockets `fds` has, which the
/// caller owns.
///
/// Thread: any. Waits a little for an address that is being freed (SC_LISTEN_PATIENCE_MS).
/// Errors: -EADDRINUSE, -EACCES, -EADDRNOTAVAIL, ...
SC_CHECKED int sc_place_bind(struct listen_place *place, uint16_t port,
                             int fds[_Nonnull SC_HOST_ADDRESSES_MAX], struct listen_reason *reason);
/// A further socket for an address of a place that is bound, which the caller owns: several loops listen at it.
///
/// Thread: any. Errors: as above.
SC_CHECKED int sc_place_share(const struct listen_place *place, uint32_t index,
                              struct listen_reason *reason);

struct listeners;
struct port_listener {
    struct sc_listener listener;
    struct listeners *listeners;
    const struct port *port;
};

/// The listeners of a loop. All is private but `open`.
///
/// Thread: that of the loop.
struct listeners {
    struct sc_loop *loop;
    void (*on_accept)(struct listeners *listeners, const struct port *port, int fd);
    struct port_listener *_Nullable all;
    uint32_t count, capacity;
    uint32_t open; // Those with which the kernel is not done.
    bool closing;
};

/// Room for `capacity` listeners. `on_accept` owns each `fd` that it is called with. Borrows the loop until deinit.
void sc_listeners_init(struct listeners *listeners, struct sc_loop *loop, uint32_t capacity,
                       void (*on_accept)(struct listeners *listeners, const struct port *port,
                                         int fd));
/// Accepts at a bound socket, which is consumed; `port` is borrowed until deinit.
/// Errors: -ENFILE, -ENOMEM
SC_CHECKED int sc_listeners_add(struct listeners *listeners, const struct port *port, int fd);
/// The ports of a role accept nothing until they are told to go on.
void sc_listeners_pause(struct listeners *listeners, const struct role *role, bool pause);
/// Accepts nothing more. `open` falls to 0 when the kernel has let go of all.
void sc_listeners_close(struct listeners *listeners);
/// None is open (asserted).
void sc_listeners_deinit(struct listeners *listeners);

#pragma clang assume_nonnull end

#endif
