// The frame decoder: any split of the bytes gives the same events, and what the writer writes is read back.
//
// Input: a byte of options, a byte that seeds the splits, then the bytes of a connection or, with
// OPTION_SCRIPT, the messages to write (see write_script).
#include "CStreamWebSocket.h"
#include "fuzz.h"

#include <errno.h>

enum {
    OPTION_CLIENT = 1,
    OPTION_UTF8 = 2,
    OPTION_SMALL_FRAME = 4,
    OPTION_SMALL_MESSAGE = 8,
    OPTION_SCRIPT = 16,
};

enum { KEPT_SIZE_MAX = 130 };

// What a decoder said, independent of the pieces it came in: the payload of all data messages, and marks
// of where in it a message begins and ends, and of the control frames.
struct heard {
    struct sc_buffer marks, payload;
    ssize_t rc;
};

static void mark(struct heard *heard, char kind, uint8_t opcode) {
    struct {
        uint64_t at;
        char kind;
        uint8_t opcode;
        uint8_t zero[6];
    } mark = {heard->payload.size, kind, opcode, {0}};
    sc_buffer_append(&heard->marks, &mark, sizeof mark);
}

static void note(struct heard *heard, const struct sc_ws_event *event) {
    if (event->kind == SC_WS_EVENT_DATA) {
        CHECK(event->opcode == SC_WS_TEXT || event->opcode == SC_WS_BINARY);
        CHECK(event->bytes.size > 0 || event->last);
        if (event->first)
            mark(heard, 'F', event->opcode);
        sc_buffer_append_bytes(&heard->payload, event->bytes);
        if (event->last)
            mark(heard, 'L', event->opcode);
    } else if (event->kind == SC_WS_EVENT_CONTROL) {
        CHECK(event->bytes.size <= SC_WS_CONTROL_SIZE_MAX);
        mark(heard, 'C', event->opcode);
        mark(heard, (char)event->bytes.size, 0);
        sc_buffer_append(&heard->marks, &event->close_code, sizeof event->close_code);
        sc_buffer_append_bytes(&heard->marks, event->bytes);
    }
}

static void heard_deinit(struct heard *heard) {
    sc_buffer_deinit(&heard->marks);
    sc_buffer_deinit(&heard->payload);
}

static struct sc_ws_decoder decoder_of(uint8_t options) {
    struct sc_ws_decoder decoder;
    sc_ws_decoder_init(&decoder, options & OPTION_CLIENT ? SC_WS_CLIENT : SC_WS_SERVER,
                       options & OPTION_SMALL_FRAME ? 20 : SC_FRAME_SIZE_MAX,
                       options & OPTION_SMALL_MESSAGE ? 50 : SC_MESSAGE_SIZE_MAX,
                       (options & OPTION_UTF8) != 0);
    return decoder;
}

// Reads `data` in reads of random sizes up to `read_max` (all of it when 0), as a connection does.
static struct heard hear(uint8_t options, const uint8_t *data, size_t size, size_t read_max,
                         uint64_t seed) {
    struct heard heard = {.rc = 0};
    struct sc_ws_decoder decoder = decoder_of(options);
    uint8_t *kept = NULL;
    size_t kept_size = 0, at = 0;
    bool closed = false;
    while (at < size && heard.rc >= 0) {
        size_t more = read_max == 0 ? size : 1 + next_random(&seed) % read_max;
        more = more < size - at ? more : size - at;
        uint8_t *bytes = malloc(kept_size + more);
        if (kept_size > 0)
            memcpy(bytes, kept, kept_size);
        memcpy(bytes + kept_size, data + at, more);
        free(kept);
        size_t count = kept_size + more, done = 0;
        at += more;
        while (done < count) {
            struct sc_ws_event event;
            memset(&event, 0xAA, sizeof event);
            heard.rc = sc_ws_decode(&decoder, bytes + done, count - done, &event);
            CHECK(heard.rc == -EPROTO || heard.rc == -EILSEQ || heard.rc == -EMSGSIZE ||
                  (heard.rc >= 0 && (size_t)heard.rc <= count - done));
            if (heard.rc <= 0) {
                CHECK(event.kind == SC_WS_EVENT_NONE);
                break;
            }
            CHECK(!closed);
            note(&heard, &event);
            closed = event.kind == SC_WS_EVENT_CONTROL && event.opcode == SC_WS_CLOSE;
            done += (size_t)heard.rc;
        }
        kept_size = count - done;
        CHECK(closed || heard.rc < 0 || kept_size <= KEPT_SIZE_MAX);
        if (closed)
            kept_size = 0;
        kept = copy_of(bytes + done, kept_size);
        free(bytes);
    }
    free(kept);
    return heard;
}

// Whether the shorter one is how the longer one starts.
static bool same_start(const struct sc_buffer *a, const struct sc_buffer *b) {
    size_t size = a->size < b->size ? a->size : b->size;
    return size == 0 || memcmp(a->data, b->data, size) == 0;
}

// After an error what came just before it may have been said in one split and not in another.
static void check_same(const struct heard *whole, const struct heard *split) {
    bool failed = whole->rc < 0 || split->rc < 0;
    if (failed)
        CHECK(whole->rc == split->rc);
    CHECK(same_start(&whole->marks, &split->marks));
    CHECK(same_start(&whole->payload, &split->payload));
    CHECK(failed ||
          (whole->marks.size == split->marks.size && whole->payload.size == split->payload.size));
}

static struct heard check_splits(uint8_t options, uint8_t seed, const uint8_t *data, size_t size) {
    struct heard whole = hear(options, data, size, 0, 0);
    static const size_t read_max[] = {1, 7, 200};
    size_t scale = 1 + size / 2000; // Some hundred reads are enough.
    for (int i = 0; i < 3; i++) {
        struct heard split = hear(options, data, size, read_max[i] * scale, seed);
        check_same(&whole, &split);
        heard_deinit(&split);
    }
    return whole;
}

// ---- Writing

static void write_frame(struct sc_buffer *wire, uint8_t opcode, bool final, const uint8_t *payload,
                        size_t size, const uint8_t *mask) {
    uint8_t header[SC_WS_HEADER_SIZE_MAX];
    size_t header_size = sc_ws_header_write(header, opcode, final, size, mask);
    CHECK(header_size == sc_ws_header_size(size) + (mask == NULL ? 0 : 4));
    sc_buffer_append(wire, header, header_size);
    uint8_t *copy = copy_of(payload, size);
    if (mask != NULL)
        sc_ws_mask(copy, size, mask, 0);
    sc_buffer_append(wire, copy, size);
    free(copy);
}

// Each command: a byte (1: not final, 2: stretched, 4: a ping before it), a size, that many bytes.
static void write_script(uint8_t options, const uint8_t *data, size_t size) {
    struct sc_buffer wire = {0};
    struct heard want = {.rc = 0};
    bool inside = false; // A message is under way,
    bool begun = false;  // and something was said of it: an empty fragment says nothing.
    while (size >= 2) {
        uint8_t command = data[0];
        size_t count = data[1] < size - 2 ? data[1] : size - 2;
        size_t stretch = (command & 2) == 0 ? 1 : (command & 0xF8) == 0xF8 ? 4096 : 1 + command / 8;
        bool final = (command & 1) == 0;
        const uint8_t *mask =
            options & OPTION_CLIENT ? NULL : (const uint8_t[]){1, command, 0, 255};
        struct sc_buffer payload = {0};
        for (size_t i = 0; i < stretch && payload.size + count <= 70000; i++)
            sc_buffer_append(&payload, data + 2, count);
        if (command & 4) {
            size_t ping_size = count < SC_WS_CONTROL_SIZE_MAX ? count : SC_WS_CONTROL_SIZE_MAX;
            struct sc_ws_event ping = {
                .kind = SC_WS_EVENT_CONTROL, .opcode = SC_WS_PING, .bytes = {data + 2, ping_size}};
            write_frame(&wire, SC_WS_PING, true, data + 2, ping_size, mask);
            note(&want, &ping);
        }
        write_frame(&wire, inside ? SC_WS_CONTINUATION : SC_WS_BINARY, final, payload.data,
                    payload.size, mask);
        begun = inside && begun;
        struct sc_ws_event piece = {.kind = SC_WS_EVENT_DATA,
                                    .opcode = SC_WS_BINARY,
                                    .first = !begun,
                                    .last = final,
                                    .bytes = sc_buffer_bytes(&payload)};
        if (payload.size > 0 || final) {
            note(&want, &piece);
            begun = true;
        }
        inside = !final;
        sc_buffer_deinit(&payload);
        data += 2 + count;
        size -= 2 + count;
    }
    uint8_t plain = options & OPTION_CLIENT;
    struct heard got = check_splits(plain, 1, wire.data, wire.size);
    CHECK(got.rc >= 0 && want.rc == 0);
    check_same(&got, &want);
    heard_deinit(&got);
    heard_deinit(&want);
    sc_buffer_deinit(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    if (data[0] & OPTION_SCRIPT) {
        write_script(data[0], data + 2, size - 2);
        return 0;
    }
    struct heard whole = check_splits(data[0], data[1], data + 2, size - 2);
    heard_deinit(&whole);
    return 0;
}
