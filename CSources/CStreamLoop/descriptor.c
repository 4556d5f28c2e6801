// Calls on sockets that are done at once, the same with each backend of the kernel's.
#include "loop_private.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

void sc_socket_end_stream(struct sc_backend *backend, int fd) {
    (void)backend;
    (void)shutdown(fd, SHUT_WR); // Fails only when the connection is gone already.
}

uint32_t sc_socket_in_kernel(struct sc_backend *backend, int fd) {
    (void)backend;
    int size = 0;
    return ioctl(fd, SIOCOUTQ, &size) == 0 && size > 0 ? (uint32_t)size : 0;
}

void sc_socket_reset_on_close(int fd) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}
