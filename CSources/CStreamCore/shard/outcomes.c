// What follows from a change: its event, its answer, the triggers that it fires, the `sync` of a join that came behind it.
// Each is an outcome at the position of the change. Outcomes leave in order, once their position is durable; in memory
// that is at once. So nobody ever sees what a crash can take back.
//
// They leave at the end of a step: when a message of a connection was handled, a request evaluated, a command run, when
// the lists and syncs of a turn have taken their steps, and when the log has written. Those who make an outcome never
// release one, so that no outcome leaves in the middle of what another one follows from.
//
// When a write fails, the store takes its changes back, and each outcome that waited becomes what is true without them.
#include <stdlib.h>

#include "shard.h"

uint64_t sc_durable_position(const struct shard *shard) {
    // In memory a change is as durable as it gets.
    return shard->log == NULL ? sc_store_position(shard->store) : sc_log_released(shard->log);
}

bool sc_read_waits(const struct shard *shard) {
    return shard->log == NULL || shard->node->config.storage.durability == SC_NODE_COMMIT;
}

void sc_read_answered(struct shard *shard, struct request *request,
                      const struct outcome_kind *kind) {
    struct outcome answer = {
        .kind = kind, .request = request, .position = sc_store_position(shard->store)};
    if (sc_read_waits(shard))
        *sc_outcome_push(shard) = answer;
    else
        kind->release(shard, &answer);
}

struct outcome *sc_outcome_push(struct shard *shard) {
    struct outcomes *outcomes = &shard->outcomes;
    uint32_t capacity = outcomes->ring == NULL ? 0 : outcomes->mask + 1;
    if (outcomes->tail - outcomes->head == capacity) {
        uint32_t larger = capacity == 0 ? 64 : capacity * 2;
        struct outcome *ring = sc_allocate(larger * sizeof *ring);
        for (uint32_t i = outcomes->head; i != outcomes->tail; i++)
            ring[i & (larger - 1)] = outcomes->ring[i & outcomes->mask];
        free(outcomes->ring);
        outcomes->ring = ring;
        outcomes->mask = larger - 1;
    }
    struct outcome *outcome = &outcomes->ring[outcomes->tail++ & outcomes->mask];
    *outcome = (struct outcome){.position = sc_store_position(shard->store)};
    return outcome;
}

void sc_outcome_again(struct shard *shard, const struct outcome *outcome) {
    struct outcome *again = sc_outcome_push(shard);
    uint64_t position = again->position;
    *again = *outcome;
    again->position = position;
    memset(again->text_sizes, 0, sizeof again->text_sizes); // Those lie in the ring of before.
}

// ---- Texts

void sc_outcome_keep(struct shard *shard, struct outcome *outcome, const struct sc_bytes *texts,
                     size_t count) {
    struct sc_buffer *kept = &shard->outcomes.texts;
    assert(count <= OUTCOME_TEXTS);
    outcome->text_offset = (uint32_t)kept->size + shard->outcomes.texts_dropped;
    for (size_t i = 0; i < count; i++) {
        outcome->text_sizes[i] = (uint32_t)texts[i].size;
        if (texts[i].size > 0)
            sc_buffer_append_bytes(kept, texts[i]);
    }
    if (kept->failed)
        abort(); // Bookkeeping without memory: see sc_allocate.
}

struct sc_bytes sc_outcome_text(const struct outcomes *outcomes, const struct outcome *outcome,
                                uint32_t index) {
    if (outcome->text_sizes[index] == 0)
        return (struct sc_bytes){0};
    uint32_t offset = outcome->text_offset - outcomes->texts_dropped;
    for (uint32_t i = 0; i < index; i++)
        offset += outcome->text_sizes[i];
    return (struct sc_bytes){outcomes->texts.data + offset, outcome->text_sizes[index]};
}

// While changes wait for the disk all the time the ring is never empty: texts go when half of them are done.
static void drop_texts(struct outcomes *outcomes, const struct outcome *outcome) {
    struct sc_buffer *texts = &outcomes->texts;
    uint32_t end = outcome->text_offset;
    for (uint32_t i = 0; i < OUTCOME_TEXTS; i++)
        end += outcome->text_sizes[i];
    uint32_t done = end - outcomes->texts_dropped;
    if (end == outcome->text_offset || done < 4096 || done < texts->size / 2)
        return;
    memmove(texts->data, texts->data + done, texts->size - done);
    texts->size -= done;
    outcomes->texts_dropped += done;
}

// ---- Accounts

void sc_outcome_charge(struct shard *shard, struct outcome *outcome, struct sc_account *account,
                       uint64_t size) {
    if (account == NULL || outcome->position <= sc_durable_position(shard))
        return; // It leaves before anything else is looked at.
    for (uint32_t i = 0; i < OUTCOME_TEXTS; i++)
        size += outcome->text_sizes[i];
    outcome->account = sc_account_retain(account);
    outcome->charged = sizeof *outcome + size;
    sc_account_charge(account, SC_PLACE_OUTCOMES, outcome->charged);
}

static void settle(struct shard *shard, struct outcome *outcome) {
    if (outcome->account == NULL)
        return;
    sc_account_discharge(outcome->account, SC_PLACE_OUTCOMES, outcome->charged);
    sc_account_fell(shard, outcome->account);
    sc_account_release(outcome->account);
    outcome->account = NULL;
}

// ---- The end of a step, of a write, and of the shard

void sc_outcomes_release_some(struct shard *shard) {
    struct outcomes *outcomes = &shard->outcomes;
    uint64_t durable = sc_durable_position(shard);
    while (outcomes->head != outcomes->tail) {
        struct outcome outcome = outcomes->ring[outcomes->head & outcomes->mask];
        if (outcome.position > durable)
            return;
        outcomes->head++;
        settle(shard, &outcome);
        outcome.kind->release(shard, &outcome);
        drop_texts(outcomes, &outcome);
    }
    outcomes->texts.size = outcomes->texts_dropped = 0;
}

void sc_outcomes_revoke(struct shard *shard, int error, bool unknown) {
    struct outcomes waiting = shard->outcomes;
    struct revocation revocation = {.of = &waiting, .error = error, .unknown = unknown};
    shard->outcomes = (struct outcomes){0};
    for (; waiting.head != waiting.tail; waiting.head++) {
        struct outcome *outcome = &waiting.ring[waiting.head & waiting.mask];
        settle(shard, outcome);
        outcome->kind->revoke(shard, outcome, &revocation);
    }
    free(waiting.ring);
    sc_buffer_deinit(&waiting.texts);
}

void sc_outcomes_deinit(struct shard *shard) {
    assert(shard->outcomes.head == shard->outcomes.tail);
    free(shard->outcomes.ring);
    sc_buffer_deinit(&shard->outcomes.texts);
}
