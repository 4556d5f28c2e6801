// Certificates of the ports: read at the start, and again when their files have changed. A pair is checked before it takes
// the place of the one before it, so that a broken one changes nothing. Connections keep what they began with.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "node.h"

#define FILES_OF_A_PORT 3u

// What tells one version of a file from another: an editor that writes a new file and renames it changes the inode, and
// one that writes into it the time.
struct file_seen {
    dev_t device;
    ino_t number;
    off_t size;
    struct timespec modified;
};
struct files_seen {
    struct file_seen files[FILES_OF_A_PORT];
};

struct certificate {
    const struct sc_tls_files *files;
    struct sc_tls_context *context;
    struct sc_tls_tickets *tickets;
    struct files_seen tried; // The files as they were when they were read last,
    struct files_seen seen;  // and when they were looked at last.
};

struct sc_certificates {
    uint32_t count;
    struct certificate
        all[]; // Of the stream port, then of each worker port. Without files: no TLS.
};

static struct files_seen look_at(const struct sc_tls_files *files) {
    const char *names[FILES_OF_A_PORT] = {files->cert_file, files->key_file, files->ca_file};
    struct files_seen seen;
    memset(&seen, 0, sizeof seen); // Compared as bytes.
    for (uint32_t i = 0; i < FILES_OF_A_PORT; i++) {
        struct stat now;
        if (names[i] == NULL || stat(names[i], &now) < 0)
            continue;
        seen.files[i].device = now.st_dev;
        seen.files[i].number = now.st_ino;
        seen.files[i].size = now.st_size;
        seen.files[i].modified = now.st_mtim;
    }
    return seen;
}

static bool same(const struct files_seen *one, const struct files_seen *other) {
    return memcmp(one, other, sizeof *one) == 0;
}

static const struct sc_tls_files *files_of(const struct sc_node *node, uint32_t port) {
    const struct sc_node_config *config = &node->shared.config;
    if (port == 0)
        return config->without_streams ? NULL : config->stream.tls;
    return config->workers[port - 1].tls;
}

// ---- Start and end

int sc_certificates_load(struct sc_node *node) {
    uint32_t count = node->shared.config.without_ports ? 0 : 1 + node->shared.config.worker_count;
    struct sc_certificates *own = sc_allocate(sizeof *own + count * sizeof *own->all);
    memset(own, 0, sizeof *own + count * sizeof *own->all);
    own->count = count;
    node->certificates = own;
    for (uint32_t i = 0; i < count; i++) {
        struct certificate *certificate = &own->all[i];
        certificate->files = files_of(node, i);
        if (certificate->files == NULL)
            continue;
        struct sc_tls_reason reason = {"there is no randomness for the keys of sessions"};
        certificate->tried = certificate->seen = look_at(certificate->files);
        certificate->tickets = sc_tls_tickets_create();
        int rc = certificate->tickets == NULL
                     ? -EIO
                     : sc_tls_server_create(certificate->files, certificate->tickets,
                                            &certificate->context, &reason);
        if (rc < 0) {
            snprintf(node->start_reason, sizeof node->start_reason, "%s", reason.text);
            node->start_step = SC_START_CERTIFICATE;
            return rc;
        }
    }
    return 0;
}

void sc_certificates_free(struct sc_certificates *own) {
    for (uint32_t i = 0; own != NULL && i < own->count; i++) {
        sc_tls_context_release(own->all[i].context);
        sc_tls_tickets_release(own->all[i].tickets);
    }
    free(own);
}

struct sc_tls_context *sc_certificates_context(const struct sc_node *node, uint32_t port) {
    const struct sc_certificates *own = node->certificates;
    if (own == NULL || port >= own->count || own->all[port].context == NULL)
        return NULL;
    return sc_tls_context_retain(own->all[port].context);
}

void sc_certificates_let_go(struct shard *shard) {
    struct sessions *sessions = sessions_of(shard);
    sc_tls_context_release(sessions->stream_entrance.port.tls);
    if (sessions->worker_entrances == NULL)
        return;
    for (uint32_t i = 0; i < shard->node->config.worker_count; i++)
        sc_tls_context_release(sessions->worker_entrances[i].port.tls);
}

// ---- Another one

static int exchange(struct certificate *certificate, struct sc_tls_reason *reason) {
    struct sc_tls_context *context = NULL;
    int rc = sc_tls_server_create(certificate->files, certificate->tickets, &context, reason);
    if (rc < 0)
        return rc;
    // A session that is resumed shows no certificate again: the authorities of before must not let anybody in.
    if (certificate->files->client_auth != SC_TLS_CLIENT_AUTH_NONE)
        sc_tls_tickets_renew(certificate->tickets);
    sc_tls_context_release(certificate->context);
    certificate->context = context;
    return 0;
}

// Files that are being written are looked at again before they are read: they have to be the same twice.
static bool is_due(struct certificate *certificate) {
    struct files_seen now = look_at(certificate->files);
    bool settled = same(&now, &certificate->seen);
    certificate->seen = now;
    return settled && !same(&now, &certificate->tried);
}

struct sc_certificate_look sc_certificates_look_at(struct sc_node *node, uint32_t port,
                                                   uint64_t now_seconds, bool at_once) {
    struct sc_certificate_look look = {0};
    if (node->certificates == NULL || node->certificates->all[port].context == NULL)
        return look;
    assert(port < node->certificates->count);
    struct certificate *certificate = &node->certificates->all[port];
    sc_tls_tickets_rotate(certificate->tickets, now_seconds);
    bool due = is_due(certificate);
    if (!due && !at_once)
        return look;
    certificate->tried = certificate->seen;
    look.refused = exchange(certificate, &look.text) < 0;
    look.taken = !look.refused;
    if (look.taken) {
        sc_tls_context_describe(certificate->context, &look.text);
        look.validity = sc_tls_context_validity(certificate->context);
    }
    return look;
}
