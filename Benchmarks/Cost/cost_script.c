// A node of the C core on the scripted kernel: works of a fixed size, for counting instructions, system calls
// and entries of the ring. Every answer and every frame of every subscriber is checked, byte by byte.
//
// Prints a line of JSON for each work. Under callgrind with --dump-before=cost_mark each work is a part, and what
// comes before it, joins and a warm-up, is another; --toggle-collect=io_uring_enter2 leaves the kernel's side
// out, which is this file's too.
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plane.h"
#include "scripted_kernel.h"

#define TEXT_SIZE_MAX 1024
#define AT_ONCE_MAX 16
#define SUBSCRIBERS_MAX 100
#define RECEIVED_SIZE_MAX (16u << 10)
#define WARM_UP_ROUNDS 8 // Idle ones with the measured ones are shorter than the time to a ping.

// ---- The works

// In an idle round nothing comes: the node sleeps until its next timer.
enum operation { IDLE, SET, GET, UPDATE };
static const char *const names[] = {"idle", "set", "get", "update"};

// Those without subscribers come first: nobody leaves.
static const struct work {
    enum operation operation;
    uint32_t at_once, subscribers, rounds;
} works[] = {
    {IDLE, 1, 0, 8},     {SET, 1, 0, 256},   {SET, 16, 0, 64},
    {GET, 1, 0, 256},    {GET, 16, 0, 64},   {UPDATE, 1, 0, 256},
    {UPDATE, 16, 0, 64}, {SET, 1, 100, 256}, {SET, 16, 100, 64},
};
#define WORK_COUNT (sizeof works / sizeof *works)

static _Noreturn void fail(const char *form, ...) {
    va_list arguments;
    va_start(arguments, form);
    fprintf(stderr, "cost_script: ");
    vfprintf(stderr, form, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

// ---- Texts

struct text {
    char data[TEXT_SIZE_MAX];
    size_t size;
};

static void append(struct text *text, const char *form, ...) {
    va_list arguments;
    va_start(arguments, form);
    int size = vsnprintf(text->data + text->size, TEXT_SIZE_MAX - text->size, form, arguments);
    va_end(arguments);
    if (size < 0 || text->size + (size_t)size >= TEXT_SIZE_MAX)
        fail("a text of more than %d bytes", TEXT_SIZE_MAX);
    text->size += (size_t)size;
}

// 64 bytes.
static struct text value_text(unsigned number) {
    struct text text = {.size = 0};
    append(&text, "{\"i\":1000000,\"n\":%u,\"text\":\"abcdefghijklmnopqrstuvwxyz0\"}",
           1000000000 + number);
    return text;
}

// 277 bytes, 14 members.
static struct text object_text(unsigned number) {
    struct text text = {.size = 0};
    append(&text, "{\"i\":1000000000,\"n\":%u", 1000000000 + number);
    for (unsigned i = 0; i < 6; i++)
        append(&text, ",\"key%03u\":\"value of %03u\",\"num%03u\":%u", i, i, i, 1000000 + i * 7919);
    append(&text, "}");
    return text;
}

// ---- Calls, and what has to come of them

static struct {
    struct text value, object; // What the node has now.
    unsigned sets, updates, calls;
    uint32_t expected; // Answers, and events for each subscriber.
    struct text answers[AT_ONCE_MAX], events[AT_ONCE_MAX]; // Events from their names on.
    uint8_t calls_data[AT_ONCE_MAX * TEXT_SIZE_MAX];
    size_t calls_size;
} script;

static void put_frame(const struct text *text) {
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    uint8_t *out = script.calls_data + script.calls_size;
    *out++ = 0x81;
    *out++ = 0x80 | 126; // All of them are longer than 125 bytes.
    *out++ = (uint8_t)(text->size >> 8);
    *out++ = (uint8_t)text->size;
    for (size_t i = 0; i < 4; i++)
        *out++ = mask[i];
    for (size_t i = 0; i < text->size; i++)
        *out++ = (uint8_t)text->data[i] ^ mask[i % 4];
    script.calls_size = (size_t)(out - script.calls_data);
}

static void put_call(enum operation operation, const char *item, const char *key,
                     const char *argument) {
    struct text *answer = &script.answers[script.expected], call = {.size = 0};
    append(&call,
           "{\"type\":\"invokefunction\",\"invocation_id\":\"00000000-0000-4000-8000-%012u\","
           "\"function_id\":\"stream::%s\","
           "\"data\":{\"stream_name\":\"cost\",\"group_id\":\"g\",\"item_id\":\"%s\"%s%s}}",
           ++script.calls, names[operation], item, key, argument);
    put_frame(&call);
    answer->size = 0;
    append(answer,
           "{\"type\":\"invocationresult\",\"invocation_id\":\"00000000-0000-4000-8000-%012u\","
           "\"function_id\":\"stream::%s\","
           "\"result\":",
           script.calls, names[operation]);
}

static void expect_change(const char *item, struct text *current, const struct text *next) {
    struct text *event = &script.events[script.expected];
    append(&script.answers[script.expected], "{\"old_value\":%s,\"new_value\":%s}}",
           current->size > 0 ? current->data : "null", next->data);
    event->size = 0;
    append(event,
           ",\"streamName\":\"cost\",\"groupId\":\"g\",\"id\":\"%s\",\"event\":{\"type\":"
           "\"update\",\"data\":%s}}",
           item, next->data);
    *current = *next;
}

static void put_set(const char *item, struct text *current, const struct text *next) {
    put_call(SET, item, ",\"data\":", next->data);
    expect_change(item, current, next);
    script.expected++;
}

static void put_operation(enum operation operation) {
    struct text next;
    switch (operation) {
    case IDLE:
        return;
    case SET:
        next = value_text(++script.sets);
        put_set("i", &script.value, &next);
        return;
    case GET:
        put_call(GET, "i", "", "");
        append(&script.answers[script.expected++], "%s}", script.value.data);
        return;
    case UPDATE:
        next = object_text(++script.updates);
        put_call(UPDATE, "o", ",\"ops\":", "[{\"type\":\"increment\",\"path\":\"n\",\"by\":1}]");
        expect_change("o", &script.object, &next);
        script.expected++;
    }
}

static void deliver_calls(void) {
    if (script.calls_size == 0)
        return;
    kernel_deliver(0, script.calls_data, script.calls_size);
    script.calls_size = 0;
}

// ---- What the node sends

static struct received {
    uint8_t data[RECEIVED_SIZE_MAX];
    size_t size;
} received[1 + SUBSCRIBERS_MAX]; // By peer: the worker is 0, then come the subscribers.

void script_sent(uint32_t peer, const uint8_t *data, size_t size) {
    struct received *to = &received[peer];
    if (size > RECEIVED_SIZE_MAX - to->size)
        fail("peer %u gets more than %u bytes at once", peer, RECEIVED_SIZE_MAX);
    memcpy(to->data + to->size, data, size);
    to->size += size;
}

// The next text frame of `from`, whole and not masked.
static struct sc_bytes take_frame(const struct received *from, size_t *at) {
    const uint8_t *head = from->data + *at;
    size_t left = from->size - *at, header = left >= 2 && head[1] == 126 ? 4 : 2;
    if (left < header || head[0] != 0x81)
        fail("a frame is missing, or is no text");
    size_t size = header == 4 ? (size_t)head[2] << 8 | head[3] : head[1];
    if (left < header + size)
        fail("a frame is cut");
    *at += header + size;
    return (struct sc_bytes){head + header, size};
}

static void check_text(struct sc_bytes got, const struct text *wanted) {
    if (got.size != wanted->size || memcmp(got.data, wanted->data, got.size) != 0)
        fail("got %.*s instead of %s", (int)got.size, (const char *)got.data, wanted->data);
}

static void check_answers(void) {
    size_t at = 0;
    for (uint32_t i = 0; i < script.expected; i++)
        check_text(take_frame(&received[0], &at), &script.answers[i]);
    if (at != received[0].size)
        fail("more than the %u answers of the calls", script.expected);
}

// One subscriber's frames are looked at; those of the others must be the same bytes.
static void check_events(uint32_t subscribers) {
    static const char head[] = "{\"type\":\"stream\",\"timestamp\":";
    static unsigned long long stamp;
    size_t at = 0;
    for (uint32_t i = 0; i < script.expected; i++) {
        struct sc_bytes got = take_frame(&received[1], &at);
        if (got.size < sizeof head || memcmp(got.data, head, sizeof head - 1) != 0)
            fail("no event: %.*s", (int)got.size, (const char *)got.data);
        char *end;
        unsigned long long next = strtoull((const char *)got.data + sizeof head - 1, &end, 10);
        if (next <= stamp)
            fail("the time stamp %llu after %llu", next, stamp);
        stamp = next;
        size_t before = (size_t)((const uint8_t *)end - got.data);
        check_text((struct sc_bytes){got.data + before, got.size - before}, &script.events[i]);
    }
    for (uint32_t i = 1; i <= subscribers; i++)
        if (at != received[i].size || memcmp(received[i].data, received[1].data, at) != 0)
            fail("subscriber %u got something else than the first", i);
}

static void check_joined(uint32_t peer, const char *what) {
    static const char status[] = "HTTP/1.1 101 ";
    struct received *from = &received[peer];
    if (from->size < sizeof status || memcmp(from->data, status, sizeof status - 1) != 0 ||
        memmem(from->data, from->size, what, strlen(what)) == NULL)
        fail("peer %u was not let in: %.*s", peer, (int)from->size, (const char *)from->data);
}

static void forget_received(uint32_t peers) {
    for (uint32_t i = 0; i < peers; i++)
        received[i].size = 0;
}

// ---- The course of things

/// Where a part begins and ends; called for nothing else.
static __attribute__((noinline)) void cost_mark(void) {
    __asm__ volatile("");
}

static struct {
    enum { SETTLED, ACCEPTED, ASKED } joining; // The last peer.
    uint32_t peers, work, round;
    bool has_items;
    struct kernel_counts before;
} course;

static void connect_peer(void) {
    // The node opens its stream port first.
    course.peers = 1 + kernel_connect(course.peers == 0 ? 1 : 0);
    course.joining = ACCEPTED;
}

static void ask_to_join(void) {
    uint32_t peer = course.peers - 1;
    struct text head = {.size = 0};
    append(&head,
           "GET %s HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
           peer == 0 ? "/" : "/stream/cost/g");
    kernel_deliver(peer, (const uint8_t *)head.data, head.size);
    course.joining = ASKED;
}

static void put_items(void) {
    struct text value = value_text(0), object = object_text(0);
    put_set("i", &script.value, &value);
    put_set("o", &script.object, &object);
    course.has_items = true;
}

static void check_received(void) {
    if (course.joining == ASKED) {
        check_joined(course.peers - 1, course.peers == 1 ? "workerregistered" : "sync");
        course.joining = SETTLED;
    } else {
        check_answers();
        if (course.peers > 1)
            check_events(course.peers - 1);
    }
    script.expected = 0;
    forget_received(course.peers);
}

static void report(const struct work *work) {
    struct kernel_counts now = kernel_counts(), before = course.before;
    unsigned operations = work->rounds * work->at_once;
    printf("{\"operation\":\"%s\",\"at_once\":%u,\"subscribers\":%u,\"rounds\":%u,\"operations\":%"
           "u,\"turns\":%llu,"
           "\"enters\":%llu,\"entries\":%llu,\"sends\":%llu}\n",
           names[work->operation], work->at_once, work->subscribers, work->rounds, operations,
           (unsigned long long)(now.turns - before.turns),
           (unsigned long long)(now.enters - before.enters),
           (unsigned long long)(now.entries - before.entries),
           (unsigned long long)(now.sends - before.sends));
}

static void next_round(void) {
    const struct work *work = &works[course.work];
    if (course.round == WARM_UP_ROUNDS) {
        course.before = kernel_counts();
        cost_mark();
    }
    if (course.round == WARM_UP_ROUNDS + work->rounds) {
        cost_mark();
        report(work);
        course.round = 0;
        if (++course.work == WORK_COUNT)
            exit(0);
        if (works[course.work].subscribers >= course.peers) {
            connect_peer();
            return;
        }
    }
    for (uint32_t i = 0; i < works[course.work].at_once; i++)
        put_operation(works[course.work].operation);
    deliver_calls();
    course.round++;
}

void script_next(void) {
    if (course.joining == ACCEPTED) {
        ask_to_join();
        return;
    }
    if (course.peers > 0)
        check_received();
    if (course.peers == 0 || course.peers <= works[course.work].subscribers) {
        connect_peer();
    } else if (!course.has_items) {
        put_items();
        deliver_calls();
    } else {
        next_round();
    }
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    plane_start();
    // The script ends the process, on the node's thread.
    for (;;)
        pause();
}
