// Large groups are read in steps, so that nobody waits for a list or a `sync` of a million items: a step a turn, one group
// at a time. What is read is the group as it was when its turn came. Why a group is read is said by the kind of its reading.
#include <errno.h>
#include <stdlib.h>

#include "shard.h"

// How soon readings for which there is no room look again. The progress of clients makes some, which nobody tells of.
#define ROOM_LOOK_MS 20

// ---- The array of a group's values

uint64_t sc_group_array_size(const struct sc_group *group) {
    size_t items = group == NULL ? 0 : sc_group_item_count(group);
    return items == 0 ? 2 : sc_group_value_bytes(group) + items - 1 + 2;
}

struct value_writer {
    uint8_t *at;
    bool begun;
};

static void write_value(struct sc_blob *value, void *context) {
    struct value_writer *writer = context;
    if (writer->begun)
        *writer->at++ = ',';
    writer->begun = true;
    memcpy(writer->at, value->data, value->size);
    writer->at += value->size;
}

bool sc_group_array_write(struct sc_buffer *out, const struct sc_group *group) {
    uint64_t size = sc_group_array_size(group);
    uint8_t *data = sc_buffer_reserve(out, size);
    if (data == NULL)
        return false;
    struct value_writer writer = {.at = data + 1};
    data[0] = '[';
    if (group != NULL)
        sc_group_for_each(group, write_value, &writer);
    *writer.at++ = ']';
    assert((uint64_t)(writer.at - data) == size);
    out->size += size;
    return true;
}

// ---- The list of readings

void sc_reading_add(struct shard *shard, struct reading *reading) {
    struct readings *readings = &shard->readings;
    reading->next = NULL;
    if (readings->last != NULL)
        readings->last->next = reading;
    else
        readings->first = reading;
    readings->last = reading;
    shard->stepped++;
    sc_shard_turn_again(shard);
}

static struct reading *take_first(struct shard *shard) {
    struct reading *reading = shard->readings.first;
    shard->stepped--;
    shard->readings.first = reading->next;
    if (shard->readings.first == NULL)
        shard->readings.last = NULL;
    return reading;
}

static void reading_free(struct reading *reading) {
    sc_blob_release(reading->blob);
    free(reading);
}

static uint64_t size_of(struct shard *shard, const struct reading *reading) {
    struct sc_group_name name = reading->kind->name(reading);
    return sc_group_array_size(sc_store_group_find(shard->store, &name));
}

// One for which there is no room waits behind the others; if all wait for that, until a timer is due.
static bool has_room(struct shard *shard) {
    struct readings *readings = &shard->readings;
    for (struct reading *last = readings->last, *reading = NULL; reading != last;) {
        reading = readings->first;
        if (reading->kind->has_room == NULL ||
            reading->kind->has_room(shard, reading, size_of(shard, reading)))
            return true;
        if (readings->first == readings->last)
            break;
        readings->first = reading->next;
        reading->next = NULL;
        readings->last->next = reading;
        readings->last = reading;
    }
    return false;
}

// ---- Steps

struct step {
    struct reading *reading;
    uint64_t size, size_max;
    uint64_t items, items_max;
};

static bool put_value(struct sc_blob *value, void *context) {
    struct step *step = context;
    struct reading *reading = step->reading;
    sc_ws_writer_put(&reading->writer, reading->any ? SC_LITERAL(",") : SC_LITERAL("["));
    reading->any = true;
    sc_ws_writer_put(&reading->writer, sc_blob_bytes(value));
    step->size += value->size + 1;
    return ++step->items < step->items_max && step->size < step->size_max;
}

static struct step step_of(struct shard *shard, struct reading *reading) {
    uint64_t times = reading->kind->haste == NULL ? 1 : reading->kind->haste(shard, reading);
    if (times == UINT64_MAX)
        return (struct step){.reading = reading, .items_max = times, .size_max = times};
    return (struct step){.reading = reading,
                         .items_max = SC_GROUP_STEP_ITEMS * times,
                         .size_max = SC_GROUP_STEP_SIZE * times};
}

// It cannot be read in steps, or need not be any more: at once then, with whatever error that gives.
static void finish_at_once(struct shard *shard) {
    struct reading *reading = take_first(shard);
    reading->kind->at_once(shard, reading);
    reading_free(reading);
}

static bool is_wanted(struct shard *shard, struct reading *reading) {
    return reading->kind->is_wanted == NULL || reading->kind->is_wanted(shard, reading);
}

static void begin(struct shard *shard) {
    struct reading *reading = shard->readings.first;
    struct sc_group_name name = reading->kind->name(reading);
    struct sc_group *group = sc_store_group_find(shard->store, &name);
    uint64_t size = sc_group_array_size(group);
    if (!is_wanted(shard, reading) || size <= SC_GROUP_STEP_SIZE ||
        !reading->kind->begin(shard, reading, size)) {
        finish_at_once(shard);
        return;
    }
    sc_read_view_begin(shard->store, group);
    reading->kind->begun(shard, reading);
}

static void finish(struct shard *shard) {
    struct reading *reading = take_first(shard);
    sc_read_view_end(shard->store);
    sc_ws_writer_put(&reading->writer, SC_LITERAL("]"));
    reading->kind->finish(shard, reading);
    reading_free(reading);
}

static void go_on(struct shard *shard) {
    struct reading *reading = shard->readings.first;
    int rc = -ECANCELED;
    if (is_wanted(shard, reading)) {
        struct step step = step_of(shard, reading);
        rc = sc_read_view_step(shard->store, put_value, &step);
    }
    if (rc == 0) {
        finish(shard);
    } else if (rc < 0) {
        sc_read_view_end(shard->store);
        finish_at_once(shard);
    }
}

void sc_reading_turn(struct shard *shard) {
    if (shard->readings.first == NULL)
        return;
    if (sc_read_view_is_active(shard->store)) {
        go_on(shard);
    } else if (has_room(shard)) {
        begin(shard);
    } else {
        if (shard->readings.room_timer.due_ns == 0)
            sc_timer_start(shard->loop, &shard->readings.room_timer, ROOM_LOOK_MS);
        return;
    }
    if (shard->readings.first != NULL)
        sc_shard_turn_again(shard);
}

void sc_reading_rollback(struct shard *shard, int error, bool unknown) {
    if (!sc_read_view_is_active(shard->store))
        return;
    sc_read_view_end(shard->store);
    struct reading *reading = shard->readings.first;
    if (reading->kind->rollback(shard, reading, error, unknown)) {
        reading_free(take_first(shard));
        return;
    }
    sc_blob_release(reading->blob);
    reading->blob = NULL;
    reading->any = false;
}
