#define _GNU_SOURCE // memmem()
#include "clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 512

// ---- Frames to the node

static void put_frame(struct client *client, uint8_t opcode, const void *data, size_t size) {
    struct bytes *out = &client->peer->to_node;
    uint8_t head[14] = {(uint8_t)(0x80 | opcode)}, mask[4];
    size_t at = 2;
    if (size < 126) {
        head[1] = (uint8_t)(0x80 | size);
    } else if (size < 65536) {
        head[1] = 0x80 | 126;
        head[2] = (uint8_t)(size >> 8), head[3] = (uint8_t)size;
        at = 4;
    } else {
        head[1] = 0x80 | 127;
        for (size_t i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)(size >> (8 * (7 - i)));
        at = 10;
    }
    for (size_t i = 0; i < 4; i++)
        head[at++] = mask[i] = (uint8_t)world_random(client->world, 256);
    bytes_put(out, head, at);
    bytes_put(out, data, size);
    uint8_t *payload = out->data + out->size - size;
    for (size_t i = 0; i < size; i++)
        payload[i] ^= mask[i % 4];
}

static void put_text(struct client *client, const char *text, size_t size) {
    put_frame(client, 1, text, size);
}

bool client_connect(struct client *client, struct world *world, struct checker *checker,
                    uint32_t index, uint32_t listener, uint32_t group, size_t room) {
    struct peer *peer = world_connect(world, listener, room);
    if (peer == NULL)
        return false;
    *client = (struct client){
        .index = index, .peer = peer, .checker = checker, .world = world, .worker = listener == 1};
    for (uint32_t i = 0; i < GROUPS_MAX; i++)
        client->views[i] = (struct view){.client = index, .group = i, .strict_from = UINT64_MAX};
    char text[TEXT_MAX], path[32] = "/";
    if (group < GROUPS_MAX) {
        snprintf(path, sizeof path, "/stream/s/g%u", group);
        checker_join(checker, &client->views[group], 0, NO_ITEM);
    }
    int size = snprintf(text, sizeof text,
                        "GET %s HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: "
                        "Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                        "dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                        path);
    bytes_put(&peer->to_node, text, (size_t)size);
    return true;
}

int subscription_id_write(char out[SUBSCRIPTION_ID_SIZE], uint32_t client, uint32_t group,
                          uint32_t id) {
    return snprintf(out, SUBSCRIPTION_ID_SIZE, "%u-%u-%u", client, group, id);
}

static void put_subscription(struct client *client, const char *type, uint32_t group, uint32_t id,
                             uint32_t item) {
    char text[TEXT_MAX], item_text[32] = "", name[SUBSCRIPTION_ID_SIZE];
    (void)subscription_id_write(name, client->index, group, id);
    if (item != NO_ITEM)
        snprintf(item_text, sizeof item_text, ",\"id\":\"i%u\"", item);
    int size = snprintf(text, sizeof text,
                        "{\"type\":\"%s\",\"data\":{\"subscriptionId\":\"%s\",\"streamName\":"
                        "\"s\",\"groupId\":\"g%u\"%s}}",
                        type, name, group, item_text);
    said(client->checker, "client %u: %s %s, item %d", client->index, type, name, (int)item);
    put_text(client, text, (size_t)size);
}

void client_join(struct client *client, uint32_t group, uint32_t id, uint32_t item) {
    checker_join(client->checker, &client->views[group], id, item);
    put_subscription(client, "join", group, id, item);
}

void client_leave(struct client *client, uint32_t group, uint32_t id) {
    checker_leave(client->checker, &client->views[group], id);
    put_subscription(client, "leave", group, id, NO_ITEM);
}

static const char *const functions[] = {"set", "update", "delete", "send", "get", "list"};

void client_call(struct client *client, enum call_kind kind, uint32_t group, uint32_t item,
                 uint32_t padding) {
    struct checker *checker = client->checker;
    if (client->call_count == CALLS_MAX)
        return;
    if (client->calls == NULL && (client->calls = calloc(CALLS_MAX, sizeof *client->calls)) == NULL)
        abort();
    bool writes = kind == CALL_SET || kind == CALL_UPDATE || kind == CALL_CUSTOM;
    struct call_made *call = &client->calls[client->call_count];
    *call = (struct call_made){.kind = kind,
                               .group = group,
                               .item = item,
                               .number = writes ? checker_number(checker, group, item) : 0,
                               .least = checker->groups[group].count};
    size_t room = TEXT_MAX + padding, size;
    char *text = malloc(room);
    if (text == NULL)
        abort();
    size = (size_t)snprintf(text, room,
                            "{\"type\":\"invokefunction\",\"invocation_id\":\"00000000-0000-4000-"
                            "8000-%012u\",\"function_id\":\"stream::%s\",\"data\":{\"stream_name\":"
                            "\"s\",\"group_id\":\"g%u\"",
                            client->call_count++, functions[kind], group);
    if (item != NO_ITEM && kind != CALL_LIST)
        size += (size_t)snprintf(text + size, room - size, ",\"%s\":\"i%u\"",
                                 kind == CALL_CUSTOM ? "id" : "item_id", item);
    if (kind == CALL_SET || kind == CALL_CUSTOM)
        size += (size_t)snprintf(text + size, room - size, "%s,\"data\":{\"n\":%llu,\"p\":\"%*s\"}",
                                 kind == CALL_CUSTOM ? ",\"type\":\"t\"" : "",
                                 (unsigned long long)call->number, (int)padding, "");
    if (kind == CALL_UPDATE)
        size += (size_t)snprintf(text + size, room - size,
                                 ",\"ops\":[{\"type\":\"set\",\"path\":\"n\",\"value\":%llu}]",
                                 (unsigned long long)call->number);
    size += (size_t)snprintf(text + size, room - size, "}}");
    put_text(client, text, size);
    free(text);
}

void client_close(struct client *client, bool politely) {
    if (client->ended)
        return;
    if (politely)
        put_frame(client, 8, "\x03\xe8", 2);
    client->peer->client_ended = true;
    client->ended = true;
}

// ---- What the node says. Its texts have a fixed shape, and values are {"n":number,"p":spaces}.

static bool starts(const char **at, const char *end, const char *text) {
    size_t size = strlen(text);
    if ((size_t)(end - *at) < size || memcmp(*at, text, size) != 0)
        return false;
    *at += size;
    return true;
}

static const char *find(const char *at, const char *end, const char *text) {
    return at >= end ? NULL : memmem(at, (size_t)(end - at), text, strlen(text));
}

static uint64_t read_number(const char **at, const char *end) {
    uint64_t number = 0;
    while (*at < end && **at >= '0' && **at <= '9')
        number = number * 10 + (uint64_t)(*(*at)++ - '0');
    return number;
}

// The number of a value, or NONE of null. An updated item that was not there has no padding.
static uint64_t read_value(const char **at, const char *end) {
    if (!starts(at, end, "{\"n\":"))
        return NONE;
    uint64_t number = read_number(at, end);
    const char *close = find(*at, end, "}");
    *at = close == NULL ? end : close + 1;
    return number;
}

static uint32_t read_values(const char *at, const char *end, uint64_t values[ITEMS_MAX]) {
    uint32_t count = 0;
    while (count < ITEMS_MAX && (at = find(at, end, "{\"n\":")) != NULL)
        values[count++] = read_value(&at, end);
    return count;
}

static void unclear(struct client *client, const char *what, const char *text, const char *end) {
    int size = end - text > 200 ? 200 : (int)(end - text);
    violated(client->checker, "client %u: %s: %.*s", client->index, what, size, text);
}

static bool show(struct client *client, const struct early_frame *frame) {
    struct view *view = &client->views[frame->group];
    if (frame->refused) {
        checker_refused(client->checker, view, frame->event.item);
        return true;
    }
    if (frame->values == NULL)
        return checker_event(client->checker, view, &frame->event);
    checker_sync(client->checker, view, frame->event.item, frame->event.stamp, frame->shown,
                 frame->values, frame->count);
    free(frame->values);
    return true;
}

static void show_early(struct client *client) {
    uint32_t kept = 0;
    bool blocked[GROUPS_MAX] = {false};
    for (uint32_t i = 0; i < client->early_count; i++) {
        uint32_t group = client->early[i].group;
        if (!blocked[group] && show(client, &client->early[i]))
            continue;
        blocked[group] = true;
        client->early[kept++] = client->early[i];
    }
    client->early_count = kept;
}

static bool has_early(const struct client *client, uint32_t group) {
    for (uint32_t i = 0; i < client->early_count; i++)
        if (client->early[i].group == group)
            return true;
    return false;
}

static void take_frame(struct client *client, const struct early_frame *frame) {
    if (!has_early(client, frame->group) && show(client, frame))
        return;
    if (client->early_count == client->early_capacity) {
        client->early_capacity = 2 * client->early_capacity + 16;
        client->early = realloc(client->early, client->early_capacity * sizeof *client->early);
        if (client->early == NULL)
            abort();
    }
    client->early[client->early_count++] = *frame;
}

// Passes frames on, but for one in a few, to which the harm is done.
static void on_frame(struct client *client, struct early_frame *frame) {
    static const char *const kinds[] = {"set", "delete", "custom"};
    said(client->checker, "client %u, group %u: %s of item %d, number %llu, stamp %llu",
         client->index, frame->group,
         frame->refused          ? "a refusal"
         : frame->values != NULL ? "a sync"
                                 : kinds[frame->event.kind],
         (int)frame->event.item, (unsigned long long)frame->event.number,
         (unsigned long long)frame->event.stamp);
    bool is_sync = frame->values != NULL, wants_sync = client->harm == NODE_SIMULATOR_FORGETS;
    bool harms = client->harm != NODE_SIMULATOR_UNHARMED && is_sync == wants_sync &&
                 (!is_sync || frame->count > 0) && world_chance(client->world, 16);
    client->checker->result->harmed += harms;
    if (harms && client->harm == NODE_SIMULATOR_DROPS)
        return;
    if (harms && client->harm == NODE_SIMULATOR_SWAPS && client->swapped == NULL) {
        if ((client->swapped = malloc(sizeof *frame)) == NULL)
            abort();
        *client->swapped = *frame;
        return;
    }
    if (harms && client->harm == NODE_SIMULATOR_FORGETS)
        frame->count--;
    take_frame(client, frame);
    if (harms && client->harm == NODE_SIMULATOR_REPEATS)
        take_frame(client, frame);
    if (client->swapped != NULL) {
        struct early_frame later = *client->swapped;
        free(client->swapped);
        client->swapped = NULL;
        take_frame(client, &later);
    }
}

static void on_stream(struct client *client, const char *text, const char *end) {
    const char *at = text;
    uint64_t values[ITEMS_MAX];
    struct event event = {.item = NO_ITEM};
    if (!starts(&at, end, "{\"type\":\"stream\",\"timestamp\":")) {
        unclear(client, "no frame of a stream", text, end);
        return;
    }
    event.stamp = read_number(&at, end);
    if (!starts(&at, end, ",\"streamName\":\"s\",\"groupId\":\"g")) {
        unclear(client, "another stream", text, end);
        return;
    }
    uint32_t group = (uint32_t)read_number(&at, end);
    if (starts(&at, end, "\",\"id\":\"i"))
        event.item = (uint32_t)read_number(&at, end);
    at = find(at, end, "\"event\":{\"type\":");
    const char *shown = find(text, end, "{\"shown\":");
    if (at == NULL || group >= client->checker->group_count ||
        (event.item != NO_ITEM && event.item >= ITEMS_MAX)) {
        unclear(client, "another group", text, end);
        return;
    }
    at += strlen("\"event\":{\"type\":");
    if (starts(&at, end, "\"sync\",\"data\":")) {
        uint32_t count = read_values(at, end, values);
        client->checker->result->large_syncs += end - text > (256 << 10);
        struct early_frame sync = {
            .group = group, .event = event, .count = count, .shown = OF_STORE};
        if (shown != NULL && starts(&shown, end, "{\"shown\":"))
            sync.shown = read_number(&shown, end);
        client->checker->result->made_syncs += sync.shown != OF_STORE;
        if ((sync.values = malloc((count + 1) * sizeof *values)) == NULL)
            abort();
        memcpy(sync.values, values, count * sizeof *values);
        on_frame(client, &sync);
        return;
    }
    if (starts(&at, end, "\"unauthorized\"")) {
        on_frame(client, &(struct early_frame){.group = group, .event = event, .refused = true});
        return;
    }
    event.creates = starts(&at, end, "\"create\",\"data\":");
    if (event.creates || starts(&at, end, "\"update\",\"data\":")) {
        event.kind = CHANGE_SET;
        event.number = read_value(&at, end);
    } else if (starts(&at, end, "\"delete\",\"data\":")) {
        event.kind = CHANGE_DELETE;
        event.number = read_value(&at, end);
    } else if (starts(&at, end, "\"event\",")) {
        event.kind = CHANGE_CUSTOM;
        at = find(at, end, "{\"n\":");
        event.number = at == NULL ? 0 : read_value(&at, end);
    } else {
        unclear(client, "an unknown event", text, end);
        return;
    }
    on_frame(client, &(struct early_frame){.group = group, .event = event});
}

static void on_answer(struct client *client, const char *text, const char *end) {
    const char *at = text, *body;
    if (!starts(&at, end,
                "{\"type\":\"invocationresult\",\"invocation_id\":\"00000000-0000-4000-"
                "8000-"))
        return; // What a worker is told besides.
    uint32_t index = (uint32_t)read_number(&at, end);
    if (index != client->answered || index >= client->call_count) {
        unclear(client, "an answer that is not due", text, end);
        return;
    }
    struct call_made *call = &client->calls[client->answered++];
    call->answered = true;
    if ((body = find(at, end, "\"error\":{")) != NULL) {
        call->failed = true;
        client->checker->result->rolled_back++;
        return;
    }
    uint64_t values[ITEMS_MAX];
    if (call->kind == CALL_LIST) {
        uint32_t count = read_values(at, end, values);
        checker_list(client->checker, call->group, client->index, call->least, values, count);
        return;
    }
    body = find(at, end, "\"old_value\":");
    if (body != NULL) {
        body += strlen("\"old_value\":");
        call->old = read_value(&body, end);
        if (call->kind == CALL_DELETE)
            call->number = call->old;
    }
}

static void on_message(struct client *client, uint8_t opcode, const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    if (opcode == 9) {
        put_frame(client, 10, data, size);
    } else if (opcode == 8) {
        if (!client->ended) {
            client->checker->result->slow_closed +=
                size >= 2 && (unsigned)(data[0] << 8 | data[1]) == 1013;
            put_frame(client, 8, data, size < 2 ? 0 : 2);
            client->peer->client_ended = true;
            client->ended = true;
        }
    } else if (opcode == 1 && client->worker) {
        on_answer(client, text, text + size);
    } else if (opcode == 1 && !client->ended) {
        on_stream(client, text, text + size);
    }
}

// Whole frames of `inbox`, one after the other. The node fragments nothing of the sizes here.
static void understand(struct client *client) {
    struct bytes *inbox = &client->inbox;
    if (!client->open) {
        const char *front = (const char *)bytes_front(inbox), *end = front + bytes_left(inbox);
        const char *head = bytes_left(inbox) == 0 ? NULL : find(front, end, "\r\n\r\n");
        if (head == NULL)
            return;
        if (memcmp(front, "HTTP/1.1 101 ", 13) != 0)
            unclear(client, "no upgrade", front, end);
        client->open = true;
        bytes_take(inbox, (size_t)(head + 4 - front));
    }
    while (bytes_left(inbox) >= 2 && !client->checker->failed) {
        const uint8_t *front = bytes_front(inbox);
        size_t left = bytes_left(inbox), header = 2;
        uint64_t size = front[1] & 0x7f;
        if (size >= 126) {
            header = size == 126 ? 4 : 10;
            if (left < header)
                return;
            size = 0;
            for (size_t i = 2; i < header; i++)
                size = size << 8 | front[i];
        }
        if (left < header + size)
            return;
        if ((front[0] & 0x80) == 0)
            violated(client->checker, "client %u: a fragment", client->index);
        on_message(client, front[0] & 0x0f, front + header, size);
        bytes_take(inbox, header + size);
    }
}

void client_read(struct client *client, size_t most) {
    struct peer *peer = client->peer;
    size_t size = bytes_left(&peer->to_client) < most ? bytes_left(&peer->to_client) : most;
    if (size > 0) {
        bytes_put(&client->inbox, bytes_front(&peer->to_client), size);
        bytes_take(&peer->to_client, size);
    }
    if (!peer->closed)
        world_make_room(client->world, peer);
    understand(client);
    show_early(client);
    if (peer->node_ended && bytes_left(&peer->to_client) == 0)
        client->ended = true;
}

// ---- The end

// What the answers say against what the order says.
static void check_calls(struct client *client) {
    struct checker *checker = client->checker;
    for (uint32_t i = 0; i < client->call_count; i++) {
        const struct call_made *call = &client->calls[i];
        if (!call->answered) {
            violated(checker, "client %u: call %u has no answer", client->index, i);
            return;
        }
        if (call->kind >= CALL_GET || call->number == 0)
            continue;
        static const enum change_kind kinds[] = {CHANGE_SET, CHANGE_SET, CHANGE_DELETE,
                                                 CHANGE_CUSTOM};
        uint64_t at = checker->numbers[call->number / ITEMS_MAX - 1].at[kinds[call->kind]];
        if ((at != 0) == call->failed)
            violated(checker,
                     "client %u: call %u (%s of %llu) was answered with %s, and its event %s",
                     client->index, i, functions[call->kind], (unsigned long long)call->number,
                     call->failed ? "an error" : "success", at != 0 ? "has come" : "has not come");
        if (at != 0 && call->kind != CALL_CUSTOM &&
            checker->groups[call->group].entries[at - 1].before != call->old)
            violated(checker, "client %u: call %u changed %llu by its answer, %llu by the order",
                     client->index, i, (unsigned long long)call->old,
                     (unsigned long long)checker->groups[call->group].entries[at - 1].before);
    }
}

void client_end(struct client *client) {
    if (client->worker) {
        check_calls(client);
        return;
    }
    if (client->ended)
        return;
    for (uint32_t i = 0; i < client->checker->group_count; i++) {
        if (has_early(client, i))
            violated(client->checker, "client %u, group %u: events that the group's order lacks",
                     client->index, i);
        checker_end_view(client->checker, &client->views[i]);
    }
}

void client_free(struct client *client) {
    bytes_free(&client->inbox);
    free(client->swapped);
    for (uint32_t i = 0; i < client->early_count; i++)
        free(client->early[i].values);
    free(client->early);
    free(client->calls);
}
