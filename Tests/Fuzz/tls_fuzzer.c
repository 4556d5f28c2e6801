// The feed of TLS records: whatever comes, in whatever pieces, a session ends in order, keeps no more than a record, and
// hands on nothing that the other side has not sealed.
//
// Input: a byte of options, a byte that seeds the splits, then
//   without OPTION_OPEN, the bytes that a server or a client is sent in place of a handshake,
//   with it, a script for an open session: each step is a byte that says what is done, and its operands.
#include "CStreamTLS.h"
#include "fuzz.h"

#include <errno.h>
#include <unistd.h>

enum {
    OPTION_CLIENT = 1,
    OPTION_TLS_1_2 = 2,
    OPTION_OPEN = 4,
    OPTION_BYTEWISE = 8,
};

enum { STEPS_MAX = 32, MESSAGE_SIZE_MAX = 20000 };

static struct sc_tls_context *server, *client, *client_1_2;

static void make(const char *command) {
    CHECK(system(command) == 0);
}

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count, (void)arguments;
    char folder[] = "/tmp/tls-fuzzer-XXXXXX", command[512], cert[64], key[64];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(cert, sizeof cert, "%s/cert.pem", folder);
    snprintf(key, sizeof key, "%s/key.pem", folder);
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout %s "
             "-out %s -days 30 "
             "-subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null",
             key, cert);
    make(command);
    struct sc_tls_files files = {.cert_file = cert, .key_file = key};
    struct sc_tls_reason reason;
    struct sc_tls_tickets *tickets = sc_tls_tickets_create();
    CHECK(tickets != NULL);
    CHECK(sc_tls_server_create(&files, tickets, &server, &reason) == 0);
    CHECK(sc_tls_client_create(cert, "http/1.1", SC_TLS_1_2, SC_TLS_1_3, &client, &reason) == 0);
    CHECK(sc_tls_client_create(cert, NULL, SC_TLS_1_2, SC_TLS_1_2, &client_1_2, &reason) == 0);
    sc_tls_tickets_release(tickets);
    unlink(cert);
    unlink(key);
    rmdir(folder);
    return 0;
}

struct side {
    struct sc_tls *tls;
    bool open;
    int rc; // Under 0: it has ended.
    struct sc_buffer wire, plain;
};

static void take_piece(struct side *side, const uint8_t *data, size_t size) {
    uint8_t *copy = copy_of(data, size);
    struct sc_bytes in = {copy, size}, plain;
    if (!side->open) {
        int rc = sc_tls_handshake(side->tls, &in, &side->wire);
        side->open = rc == 1;
        side->rc = rc < 0 ? rc : 0;
    }
    int rc = side->open && side->rc == 0 ? 1 : 0;
    while (rc == 1) {
        rc = sc_tls_open(side->tls, &in, &plain, &side->wire);
        if (rc == 1)
            sc_buffer_append_bytes(&side->plain, plain);
    }
    side->rc = rc < 0 ? rc : side->rc;
    CHECK(side->rc < 0 || in.size == 0);
    CHECK(sc_tls_kept_size(side->tls) <= 4 * (SC_TLS_RECORD_SIZE_MAX + 5));
    free(copy);
}

static void take(struct side *side, const uint8_t *data, size_t size, uint8_t options,
                 uint64_t *random) {
    size_t at = 0;
    while (at < size && side->rc == 0) {
        size_t left = size - at;
        size_t piece = (options & OPTION_BYTEWISE) != 0 ? 1 : 1 + next_random(random) % left;
        take_piece(side, data + at, piece);
        at += piece;
    }
}

static void end(struct side *side) {
    sc_tls_destroy(side->tls);
    sc_buffer_deinit(&side->wire);
    sc_buffer_deinit(&side->plain);
}

static void feed_raw(const uint8_t *data, size_t size, uint8_t options, uint64_t *random) {
    bool is_client = (options & OPTION_CLIENT) != 0;
    struct side side = {
        .tls = sc_tls_create(is_client ? client : server, is_client ? "localhost" : NULL)};
    CHECK(side.tls != NULL);
    if (is_client)
        take_piece(&side, (const uint8_t *)"", 0);
    take(&side, data, size, options, random);
    CHECK(!side.open && side.plain.size == 0);
    end(&side);
}

// Moves what one side has to say to the other one.
static void move(struct side *from, struct side *to, uint8_t options, uint64_t *random) {
    struct sc_buffer wire = from->wire;
    from->wire = (struct sc_buffer){0};
    take(to, wire.data, wire.size, options, random);
    sc_buffer_deinit(&wire);
}

static void seal(struct side *from, size_t size, uint8_t byte, struct sc_buffer *sent) {
    static uint8_t bytes[MESSAGE_SIZE_MAX];
    static uint8_t out[2 * MESSAGE_SIZE_MAX];
    memset(bytes, byte, size);
    struct sc_bytes pieces[3] = {
        {bytes, size / 3}, {bytes, size / 3}, {bytes, size - 2 * (size / 3)}};
    CHECK(sc_tls_sealed_size_max(size) <= sizeof out);
    ssize_t written = sc_tls_seal(from->tls, pieces, 3, out, sc_tls_sealed_size_max(size));
    if (written < 0)
        return;
    CHECK((size_t)written > size);
    sc_buffer_append(&from->wire, out, (size_t)written);
    sc_buffer_append(sent, bytes, size);
}

// Steps: 0 seals, 1 delivers, 2 changes a byte of the wire, 3 cuts its end off, 4 puts bytes in, 5 says goodbye.
static void run_script(const uint8_t *data, size_t size, uint8_t options, uint64_t *random) {
    struct side a = {.tls = sc_tls_create(server, NULL)};
    struct side b = {
        .tls = sc_tls_create((options & OPTION_TLS_1_2) != 0 ? client_1_2 : client, "localhost")};
    CHECK(a.tls != NULL && b.tls != NULL);
    take_piece(&b, (const uint8_t *)"", 0);
    for (int i = 0; i < 4; i++) {
        move(&b, &a, options, random);
        move(&a, &b, options, random);
    }
    CHECK(a.open && b.open && a.rc == 0 && b.rc == 0);
    struct side *from = (options & OPTION_CLIENT) != 0 ? &b : &a, *to = from == &a ? &b : &a;
    struct sc_buffer sent = {0};
    bool spoilt = false;
    for (int step = 0; step < STEPS_MAX && size >= 3; step++, data += 3, size -= 3) {
        size_t number = (size_t)data[1] << 8 | data[2];
        size_t left = from->wire.size;
        switch (data[0] % 6) {
        case 0:
            seal(from, 1 + number % (MESSAGE_SIZE_MAX - 1), data[2], &sent);
            break;
        case 1:
            move(from, to, options, random);
            break;
        case 2:
            if (left > 0) {
                from->wire.data[number % left] ^= (uint8_t)(1 + data[2] % 255);
                spoilt = true;
            }
            break;
        case 3:
            from->wire.size -= left > 0 ? number % left : 0;
            spoilt = spoilt || (left > 0 && number % left > 0);
            break;
        case 4:
            sc_buffer_append(&from->wire, data, 3);
            spoilt = true;
            break;
        default:
            sc_tls_say_goodbye(from->tls, &from->wire);
        }
    }
    move(from, to, options, random);
    // What is handed on is a beginning of what was sealed, and all of it when nothing was done to the wire.
    CHECK(to->plain.size <= sent.size);
    CHECK(to->plain.size == 0 || memcmp(to->plain.data, sent.data, to->plain.size) == 0);
    if (!spoilt)
        CHECK(to->plain.size == sent.size && (to->rc == 0 || to->rc == -EPIPE));
    sc_buffer_deinit(&sent);
    end(&a);
    end(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    uint8_t options = data[0];
    uint64_t random = data[1];
    if ((options & OPTION_OPEN) != 0)
        run_script(data + 2, size - 2, options, &random);
    else
        feed_raw(data + 2, size - 2, options, &random);
    return 0;
}
