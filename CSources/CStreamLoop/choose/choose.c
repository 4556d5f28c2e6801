// Which backend a loop gets: io_uring where the kernel has it for us, else epoll. The only place that knows both.
#include "backend.h"

#include <stdio.h>

// The one of which sc_loop_create made no loop last on this thread. NULL: it has made one since.
static _Thread_local const struct sc_backend_kind *refused;

// Said by a kernel without it, by one that is too old, and by a policy: each loop of a process hears the same. Want of memory
// or descriptors is no such answer.
static bool is_refusal(int rc) {
    return rc == -EPERM || rc == -EACCES || rc == -ENOSYS || rc == -EINVAL || rc == -EOPNOTSUPP;
}

static int create(const struct sc_backend_kind *backend, const struct sc_loop_config *config,
                  const char *reason, struct sc_loop **loop) {
    struct sc_loop_config with_reason = *config;
    with_reason.reason = reason;
    int rc = sc_loop_create_with(backend, &with_reason, loop);
    refused = rc < 0 ? backend : NULL;
    return rc;
}

int sc_loop_create(const struct sc_loop_config *config, struct sc_loop **loop) {
    static const char asked[] = "it was asked for";
    if (config->backend != NULL)
        return create(config->backend, config, asked, loop);
    if (config->io != SC_LOOP_IO_AUTO)
        return create(config->io == SC_LOOP_IO_EPOLL ? &sc_epoll : &sc_uring, config, asked, loop);
    int rc = create(&sc_uring, config, "the kernel has it", loop);
    if (!is_refusal(rc))
        return rc;
    char reason[SC_LOOP_REASON_SIZE];
    sc_loop_explain(rc, reason, sizeof reason);
    return create(&sc_epoll, config, reason, loop);
}

const char *sc_loop_explain(int rc, char *out, size_t size) {
    return sc_loop_explain_as(refused == NULL ? &sc_uring : refused, rc, out, size);
}
