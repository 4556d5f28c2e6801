// Addresses and listeners. The name of a host may have several addresses: all that this host has are bound, to one port.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "transport_private.h"

#define BACKLOG 4096
// With port 0 the first address picks the port, which may be taken at the next one.
#define PICKS_MAX 16u

// ---- Why an address cannot be had

enum holder { HOLDER_UNKNOWN, HOLDER_LISTENER, HOLDER_CONNECTION };

// The kernel's table of sockets says what has the port, if it can be read.
static enum holder holder_of(const char *table, uint16_t port) {
    FILE *file = fopen(table, "re");
    if (file == NULL)
        return HOLDER_UNKNOWN;
    enum holder holder = HOLDER_UNKNOWN;
    char line[512];
    while (holder != HOLDER_LISTENER && fgets(line, sizeof line, file) != NULL) {
        unsigned local_port, state;
        if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &local_port, &state) == 2 &&
            local_port == port)
            holder = state == 0x0a ? HOLDER_LISTENER : HOLDER_CONNECTION;
    }
    fclose(file);
    return holder;
}

static int explain_in_use(const char *host, uint16_t port, struct listen_reason *reason) {
    enum holder holder = holder_of("/proc/net/tcp", port);
    enum holder other = holder_of("/proc/net/tcp6", port);
    if (other == HOLDER_LISTENER || holder == HOLDER_UNKNOWN)
        holder = other;
    if (holder == HOLDER_CONNECTION)
        snprintf(reason->text, sizeof reason->text,
                 "address %s:%u is already in use: by a connection to which the kernel has lent "
                 "the port; keep it for the node with sysctl -w "
                 "net.ipv4.ip_local_reserved_ports=%u, or choose another one",
                 host, port, port);
    else
        snprintf(reason->text, sizeof reason->text, "address %s:%u is already in use%s", host, port,
                 holder == HOLDER_LISTENER ? ": another process listens there" : "");
    return -EADDRINUSE;
}

static int explain(const char *host, uint16_t port, int rc, struct listen_reason *reason) {
    if (rc == -EADDRINUSE)
        return explain_in_use(host, port, reason);
    snprintf(reason->text, sizeof reason->text, "failed to bind to %s:%u: %s", host, port,
             rc == -ENOENT ? "no such host" : strerror(-rc));
    return rc;
}

// ---- Addresses

int sc_place_resolve(struct listen_place *place, const char *host, uint16_t port,
                     struct listen_reason *reason) {
    int rc = sc_host_addresses(host, &place->host);
    return rc < 0 ? explain(host, port, rc, reason) : 0;
}

// A process that was killed has its addresses for some milliseconds after its end: the kernel frees its ring, and with
// it the listeners, a little later.
static int bind_patiently(const char *host, uint16_t port, bool shared, uint16_t *bound) {
    static const struct timespec pause = {.tv_nsec = 5000000};
    for (uint32_t waited_ms = 0;; waited_ms += 5) {
        int fd = sc_listen(host, port, shared, BACKLOG, bound);
        if (fd != -EADDRINUSE || waited_ms >= SC_LISTEN_PATIENCE_MS)
            return fd;
        nanosleep(&pause, NULL);
    }
}

static bool is_missing(int rc) {
    return rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT;
}

static int bind_all(struct listen_place *place, uint16_t port, int *fds,
                    struct listen_reason *reason) {
    uint32_t count = 0;
    int rc = -ENOENT;
    place->port = port;
    for (uint32_t i = 0; i < place->host.count; i++) {
        const char *host = place->host.texts[i];
        uint16_t bound = place->port;
        rc = bind_patiently(host, place->port, false, &bound);
        if (is_missing(rc) && place->host.count > 1)
            continue;
        if (rc < 0) {
            rc = explain(host, place->port, rc, reason);
            while (count > 0)
                close(fds[--count]);
            return rc;
        }
        place->port = bound;
        fds[count] = rc;
        if (count != i)
            memcpy(place->host.texts[count], host, sizeof place->host.texts[count]);
        count++;
    }
    if (count == 0)
        return explain(place->host.texts[0], port, rc, reason);
    place->host.count = count;
    return (int)count;
}

int sc_place_bind(struct listen_place *place, uint16_t port, int fds[SC_HOST_ADDRESSES_MAX],
                  struct listen_reason *reason) {
    int rc = -EADDRINUSE;
    uint32_t picks = port == 0 ? PICKS_MAX : 1;
    for (uint32_t i = 0; i < picks && rc == -EADDRINUSE; i++)
        rc = bind_all(place, port, fds, reason);
    return rc;
}

int sc_place_share(const struct listen_place *place, uint32_t index, struct listen_reason *reason) {
    uint16_t bound;
    const char *host = place->host.texts[index];
    int fd = bind_patiently(host, place->port, true, &bound);
    return fd < 0 ? explain(host, place->port, fd, reason) : fd;
}

// ---- Listeners

void sc_listeners_init(struct listeners *listeners, struct sc_loop *loop, uint32_t capacity,
                       void (*on_accept)(struct listeners *listeners, const struct port *port,
                                         int fd)) {
    *listeners = (struct listeners){.loop = loop, .on_accept = on_accept, .capacity = capacity};
    listeners->all = sc_allocate(capacity * sizeof *listeners->all);
}

static void accepted(struct sc_listener *listener, int fd) {
    struct port_listener *own = SC_CONTAINER_OF(listener, struct port_listener, listener);
    own->listeners->on_accept(own->listeners, own->port, fd);
}

static void closed(struct sc_listener *listener) {
    SC_CONTAINER_OF(listener, struct port_listener, listener)->listeners->open--;
}

int sc_listeners_add(struct listeners *listeners, const struct port *port, int fd) {
    assert(listeners->count < listeners->capacity);
    struct port_listener *own = &listeners->all[listeners->count];
    *own = (struct port_listener){.listener = {.on_accept = accepted, .on_closed = closed},
                                  .listeners = listeners,
                                  .port = port};
    int rc = sc_listener_open(listeners->loop, &own->listener, fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    listeners->count++;
    listeners->open++;
    return 0;
}

void sc_listeners_pause(struct listeners *listeners, const struct role *role, bool pause) {
    for (uint32_t i = 0; i < listeners->count && !listeners->closing; i++) {
        struct port_listener *own = &listeners->all[i];
        if (own->port->role != role)
            continue;
        if (pause)
            sc_listener_pause(listeners->loop, &own->listener);
        else
            sc_listener_resume(listeners->loop, &own->listener);
    }
}

void sc_listeners_close(struct listeners *listeners) {
    if (listeners->closing)
        return;
    listeners->closing = true;
    for (uint32_t i = 0; i < listeners->count; i++)
        sc_listener_close(listeners->loop, &listeners->all[i].listener);
}

void sc_listeners_deinit(struct listeners *listeners) {
    assert(listeners->open == 0);
    free(listeners->all);
    listeners->all = NULL;
}
