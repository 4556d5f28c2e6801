#include "control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t control_watched(const struct control *control) {
    return (control->decides ? SC_WATCH_JOINS | SC_WATCH_LEAVES : 0u) |
           (control->serves ? SC_WATCH_GET | SC_WATCH_LIST : 0u);
}

void control_hears(struct control *control, uint64_t connection, struct sc_message *message) {
    enum sc_message_type type = sc_message_type(message);
    control->left += type == SC_MESSAGE_LEAVE;
    if (type != SC_MESSAGE_JOIN && type != SC_MESSAGE_SYNC)
        return;
    if (control->question_count == control->question_capacity) {
        control->question_capacity = 2 * control->question_capacity + 16;
        control->questions =
            realloc(control->questions, control->question_capacity * sizeof *control->questions);
        if (control->questions == NULL)
            abort();
    }
    sc_message_retain(message);
    control->questions[control->question_count++] = (struct question){connection, message};
}

// A name such as `g1` or `i12`: its number.
static uint32_t number_of_name(struct sc_bytes name) {
    uint32_t number = 0;
    for (size_t i = 1; i < name.size; i++)
        number = 10 * number + (uint32_t)(name.data[i] - '0');
    return number;
}

// Whether it fails, and its client knows which join that is.
static bool fails(struct control *control, struct sc_bytes id) {
    char text[SUBSCRIPTION_ID_SIZE] = "";
    unsigned client, group, number;
    if (!world_chance(control->world, 10) || id.size >= sizeof text)
        return false;
    memcpy(text, id.data, id.size);
    return sscanf(text, "%u-%u-%u", &client, &group, &number) == 3 && client < CLIENTS_MAX &&
           checker_unanswered(&control->clients[client].views[group], number);
}

// An array of the values, and behind them how many changes of the group they show.
static void answer_sync(struct control *control, const struct question *question) {
    struct sc_message_names names;
    sc_message_names_read(question->message, &names);
    if (fails(control, names.id)) {
        sc_node_sync(control->node, question->connection, question->message, (struct sc_bytes){0});
        return;
    }
    uint32_t group = number_of_name(names.group);
    const struct group_state *state = &control->groups[group];
    char text[32 * (ITEMS_MAX + 1)];
    size_t size = 0;
    text[size++] = '[';
    for (uint32_t i = 0; i < state->count; i++)
        if (names.item.data == NULL || state->values[i] % ITEMS_MAX == number_of_name(names.item))
            size += (size_t)snprintf(text + size, sizeof text - size, "{\"n\":%llu},",
                                     (unsigned long long)state->values[i]);
    size += (size_t)snprintf(text + size, sizeof text - size, "{\"shown\":%llu}]",
                             (unsigned long long)control->changes[group]);
    sc_node_sync(control->node, question->connection, question->message,
                 (struct sc_bytes){(const uint8_t *)text, size});
}

bool control_answers(struct control *control) {
    if (control->question_count == 0)
        return false;
    uint32_t at = (uint32_t)world_random(control->world, control->question_count);
    struct question question = control->questions[at];
    control->questions[at] = control->questions[--control->question_count];
    if (sc_message_type(question.message) == SC_MESSAGE_SYNC) {
        answer_sync(control, &question);
    } else {
        // The order of a group is taken from those who join first, by their paths.
        struct sc_message_names names;
        sc_message_names_read(question.message, &names);
        bool allowed = names.id.size == SC_UUID_SIZE || !world_chance(control->world, 6);
        control->allowed += allowed;
        sc_node_decide_join(control->node, question.connection, question.message, allowed);
    }
    sc_message_release(question.message);
    return true;
}

void control_writes(struct control *control, uint32_t group, uint32_t item) {
    struct group_state *state = &control->groups[group];
    uint64_t before = group_state_value(state, item);
    bool deletes = before != NONE && world_chance(control->world, 4);
    struct event event = {.kind = deletes ? CHANGE_DELETE : CHANGE_SET,
                          .item = item,
                          .number =
                              deletes ? before : checker_number(control->checker, group, item)};
    group_state_apply(state, &event);
    control->changes[group]++;
    char group_name[16], item_name[16], value[64];
    struct sc_override call = {.op = deletes ? SC_CALL_DELETE : SC_CALL_SET,
                               .stream = SC_LITERAL("s"),
                               .group = {(const uint8_t *)group_name, 0},
                               .item = {(const uint8_t *)item_name, 0},
                               .data.text = SC_LITERAL("null"),
                               .function_id = SC_LITERAL("\"stream::set\"")};
    call.data.compact = true;
    call.group.size = (uint64_t)snprintf(group_name, sizeof group_name, "g%u", group);
    call.item.size = (uint64_t)snprintf(item_name, sizeof item_name, "i%u", item);
    int size = snprintf(value, sizeof value, "{\"n\":%llu}", (unsigned long long)event.number);
    struct sc_message *message = sc_override_message(&call, NULL);
    if (message == NULL)
        abort();
    enum sc_event_kind kind = before == NONE ? SC_EVENT_CREATE : SC_EVENT_UPDATE;
    sc_node_emit(control->node, SC_NODE_CONNECTION, message, deletes ? SC_EVENT_DELETE : kind,
                 (struct sc_bytes){(const uint8_t *)value, (size_t)size});
    sc_message_release(message);
}

void control_end(struct control *control) {
    if (control->decides && control->allowed != control->left)
        violated(control->checker, "%llu joins were let in, the ends of %llu were announced",
                 (unsigned long long)control->allowed, (unsigned long long)control->left);
}

void control_free(struct control *control) {
    while (control->question_count > 0)
        sc_message_release(control->questions[--control->question_count].message);
    free(control->questions);
}
