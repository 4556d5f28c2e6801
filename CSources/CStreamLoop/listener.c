// Listening sockets, and the accept that goes on on each.
#include "loop_private.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST_SIZE_MAX 256

// ---- Binding

static int set_option(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

// A first listener binds alone, so that a second process is refused, and only then allows company: the
// kernel looks at the options that other sockets have when a later one binds.
static int bind_address(int fd, const struct addrinfo *address, bool shared) {
    int rc = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    // Accepted sockets inherit it. Sends are whole already: waiting for more would only delay them.
    if (rc == 0)
        rc = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (rc == 0 && shared)
        rc = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0 && address->ai_family == AF_INET6)
        rc = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0); // "::" is every address.
    if (rc == 0 && bind(fd, address->ai_addr, address->ai_addrlen) != 0)
        rc = -errno;
    if (rc == 0 && !shared)
        rc = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    return rc;
}

// The kernel picks one for port 0. All other listeners of the port are told which.
static int read_port(int fd, uint16_t *out) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return -errno;
    // The port is at the same place for both families.
    *out = ntohs(((const struct sockaddr_in *)&address)->sin_port);
    return 0;
}

static int listen_at(const struct addrinfo *address, bool shared, int backlog, uint16_t *port_out) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = bind_address(fd, address, shared);
    if (rc == 0 && listen(fd, backlog) != 0)
        rc = -errno;
    if (rc == 0)
        rc = read_port(fd, port_out);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    return fd;
}

// Errors of the resolver have numbers of their own: callers know those of the system.
static int resolve_error(int error) {
    if (error == EAI_SYSTEM)
        return errno != 0 ? -errno : -EIO;
    return error == EAI_MEMORY ? -ENOMEM : -ENOENT;
}

static int resolve(const char *host, uint16_t port, struct addrinfo **out) {
    char name[HOST_SIZE_MAX], service[8];
    size_t size = strlen(host);
    if (size >= 2 && host[0] == '[' && host[size - 1] == ']') {
        host++;
        size -= 2;
    }
    if (size == 0 || size >= sizeof name)
        return -ENOENT;
    memcpy(name, host, size);
    name[size] = 0;
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    int error = getaddrinfo(name, service, &hints, out);
    return error == 0 ? 0 : resolve_error(error);
}

// A name may resolve to one address several times, once for each kind of socket.
static bool has(const struct sc_host_addresses *addresses, const char *text) {
    for (uint32_t i = 0; i < addresses->count; i++)
        if (strcmp(addresses->texts[i], text) == 0)
            return true;
    return false;
}

// In the order in which the resolver gives them. It may wait for the network: only before a start.
int sc_host_addresses(const char *host, struct sc_host_addresses *out) {
    struct addrinfo *addresses;
    out->count = 0;
    int rc = resolve(host, 0, &addresses);
    if (rc != 0)
        return rc;
    for (const struct addrinfo *address = addresses; address != NULL; address = address->ai_next) {
        char number[NI_MAXHOST], text[sizeof out->texts[0]];
        bool six = address->ai_family == AF_INET6;
        if (out->count == SC_HOST_ADDRESSES_MAX ||
            getnameinfo(address->ai_addr, address->ai_addrlen, number, sizeof number, NULL, 0,
                        NI_NUMERICHOST) != 0 ||
            (size_t)snprintf(text, sizeof text, six ? "[%s]" : "%s", number) >= sizeof text ||
            has(out, text))
            continue;
        memcpy(out->texts[out->count++], text, sizeof text);
    }
    freeaddrinfo(addresses);
    return out->count > 0 ? 0 : -ENOENT;
}

// An address that this host does not have is skipped; one that is taken is not, or a second process would
// get the other address of "localhost" and nobody would know.
static bool is_missing(int rc) {
    return rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT;
}

// Several addresses of a name are alternatives here. Callers that want all of them ask for each.
int sc_listen(const char *host, uint16_t port, bool shared, int backlog, uint16_t *port_out) {
    struct addrinfo *addresses;
    int rc = resolve(host, port, &addresses);
    if (rc != 0)
        return rc;
    rc = -ENOENT;
    for (const struct addrinfo *address = addresses; address != NULL; address = address->ai_next) {
        rc = listen_at(address, shared, backlog, port_out);
        if (!is_missing(rc))
            break;
    }
    freeaddrinfo(addresses);
    return rc;
}

// ---- Accepting

// Goes on by itself, as long as the kernel has descriptors to give.
static void arm_accept(struct sc_loop *loop, struct sc_listener *listener) {
    loop->backend->kind->accept(loop->backend, listener->fd,
                                sc_slot_tag(loop, SC_KIND_ACCEPT, listener->slot));
    listener->in_flight = true;
}

// All of them at once: whether there are descriptors is the same for all.
static void try_again(struct sc_timer *timer) {
    struct sc_loop *loop =
        (struct sc_loop *)(void *)((char *)timer - offsetof(struct sc_loop, accept_timer));
    while (loop->accept_idle.count > 0) {
        uint32_t slot = loop->accept_idle.head;
        sc_slot_list_remove(loop, &loop->accept_idle, slot);
        struct sc_listener *listener = loop->slots.entries[slot].owner;
        listener->idle = false;
        if (!listener->paused)
            arm_accept(loop, listener);
    }
}

void sc_listener_init(struct sc_loop *loop) {
    loop->accept_timer.on_due = try_again;
}

// Asking again at once would fail at once: a process without descriptors would spin. Connections wait in the kernel's queue meanwhile.
static void wait_for_descriptors(struct sc_loop *loop, struct sc_listener *listener) {
    loop->counters.accepts_failed++;
    sc_slot_list_append(loop, &loop->accept_idle, listener->slot);
    listener->idle = true;
    if (loop->accept_timer.due_ns == 0)
        sc_timer_start(loop, &loop->accept_timer, SC_LOOP_ACCEPT_RETRY_MS);
}

void sc_listen_unsent(int fd, uint32_t size) {
    if (size > 0) // Not every socket is TCP; what the kernel holds then is no fault of ours.
        (void)set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)size);
}

// Takes the descriptor over when it succeeds. Thread: that of the loop.
int sc_listener_open(struct sc_loop *loop, struct sc_listener *listener, int fd) {
    assert(sc_loop_is_current(loop));
    assert(fd >= 0 && listener->on_accept != NULL && listener->on_closed != NULL);
    int rc = sc_slot_take(loop, listener, &listener->slot);
    if (rc != 0)
        return rc;
    listener->fd = fd;
    listener->closing = listener->paused = listener->idle = false;
    arm_accept(loop, listener);
    return 0;
}

static void close_if_idle(struct sc_loop *loop, struct sc_listener *listener) {
    if (listener->in_flight)
        return;
    loop->backend->kind->close_socket(loop->backend, listener->fd, false,
                                      sc_slot_tag(loop, SC_KIND_LISTENER_CLOSED, listener->slot));
}

// A connection that is accepted nevertheless is handed over, or closed when the listener closes.
static void cancel_accept(struct sc_loop *loop, struct sc_listener *listener) {
    loop->backend->kind->cancel(loop->backend, listener->fd,
                                sc_slot_tag(loop, SC_KIND_ACCEPT, listener->slot),
                                sc_slot_tag(loop, SC_KIND_CANCEL_ACCEPT, listener->slot));
}

// `on_closed` comes later, when nothing of it is in the kernel's hands.
void sc_listener_close(struct sc_loop *loop, struct sc_listener *listener) {
    assert(sc_loop_is_current(loop));
    assert(!listener->closing);
    listener->closing = true;
    if (listener->in_flight) {
        cancel_accept(loop, listener);
        return;
    }
    if (listener->idle)
        sc_slot_list_remove(loop, &loop->accept_idle, listener->slot);
    if (loop->accept_idle.count == 0)
        sc_timer_stop(loop, &loop->accept_timer);
    close_if_idle(loop, listener);
}

// Connections wait in the queue of the kernel, whose length is that of `listen`.
void sc_listener_pause(struct sc_loop *loop, struct sc_listener *listener) {
    assert(sc_loop_is_current(loop));
    if (listener->paused || listener->closing)
        return;
    listener->paused = true;
    if (listener->in_flight)
        cancel_accept(loop, listener);
}

// An accept that is still being cancelled is armed again when it has ended.
void sc_listener_resume(struct sc_loop *loop, struct sc_listener *listener) {
    assert(sc_loop_is_current(loop));
    if (!listener->paused || listener->closing)
        return;
    listener->paused = false;
    if (!listener->in_flight && !listener->idle)
        arm_accept(loop, listener);
}

// Errors of the connection that was to be accepted, not of accepting.
static bool is_passing(int result) {
    return result == -ECONNABORTED || result == -EINTR || result == -EAGAIN ||
           result == -ECANCELED || result == -EPERM;
}

static void run_accept(struct sc_loop *loop, struct sc_listener *listener,
                       const struct sc_completion *completion) {
    if (completion->result >= 0) {
        loop->counters.accepts++;
        if (listener->closing)
            close(completion->result);
        else
            listener->on_accept(listener, completion->result);
    }
    if (sc_completion_goes_on(completion))
        return;
    listener->in_flight = false; // Not before the callback, which may close.
    if (listener->closing)
        close_if_idle(loop, listener);
    else if (completion->result >= 0 || is_passing(completion->result)) {
        if (!listener->paused)
            arm_accept(loop, listener);
    } else
        wait_for_descriptors(loop, listener);
}

void sc_listener_run(struct sc_loop *loop, struct sc_listener *listener,
                     const struct sc_completion *completion) {
    switch (sc_tag_kind(completion->tag)) {
    case SC_KIND_ACCEPT:
        run_accept(loop, listener, completion);
        return;
    case SC_KIND_CANCEL_ACCEPT:
        // Found nothing: it came too late, as a rule; else it is tried again.
        if (completion->result < 0 && listener->in_flight &&
            (listener->closing || listener->paused))
            cancel_accept(loop, listener);
        return;
    default:
        sc_slot_give(loop, listener->slot);
        listener->fd = -1;
        listener->on_closed(listener);
    }
}
