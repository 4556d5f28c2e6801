// Messages from any thread: a queue after Dmitry Vyukov's intrusive MPSC. A producer exchanges the tail and
// then links the old tail to its message; the one consumer follows the links. Between the two steps the
// queue is not empty and yet has nothing to take: the consumer then does not sleep.
//
// Sleep: the consumer sets `sleeping` and then looks at the tail; a producer exchanges the tail and then
// looks at `sleeping`. All four are sequentially consistent, so at least one sees the other.
#include "loop_private.h"

#include <sched.h>

_Thread_local struct sc_loop *sc_loop_current;

// `next` is written by a producer while the consumer looks: plain in the header, as Swift reads that.
static struct sc_loop_message *load_next(struct sc_loop_message *message) {
    return __atomic_load_n(&message->next, __ATOMIC_ACQUIRE);
}

void sc_mailbox_init(struct sc_mailbox *mailbox) {
    mailbox->stub.next = NULL;
    mailbox->head = &mailbox->stub;
    atomic_init(&mailbox->tail, &mailbox->stub);
    atomic_init(&mailbox->sleeping, false);
    atomic_init(&mailbox->posting, 0);
}

static void put(struct sc_mailbox *mailbox, struct sc_loop_message *message) {
    __atomic_store_n(&message->next, NULL, __ATOMIC_RELAXED);
    struct sc_loop_message *before = atomic_exchange(&mailbox->tail, message);
    __atomic_store_n(&before->next, message, __ATOMIC_RELEASE);
}

static struct sc_loop_message *take(struct sc_mailbox *mailbox) {
    struct sc_loop_message *head = mailbox->head, *next = load_next(head);
    if (head == &mailbox->stub) {
        if (next == NULL)
            return NULL;
        mailbox->head = head = next;
        next = load_next(head);
    }
    if (next == NULL) {
        // The last one may go only when something stands behind it: the stub does.
        if (atomic_load(&mailbox->tail) != head)
            return NULL;
        put(mailbox, &mailbox->stub);
        next = load_next(head);
        if (next == NULL)
            return NULL;
    }
    mailbox->head = next;
    return head;
}

bool sc_mailbox_is_empty(struct sc_mailbox *mailbox) {
    return mailbox->head == &mailbox->stub && atomic_load(&mailbox->tail) == &mailbox->stub;
}

void sc_mailbox_run(struct sc_loop *loop, uint32_t limit) {
    for (uint32_t i = 0; i < limit; i++) {
        struct sc_loop_message *message = take(&loop->mailbox);
        if (message == NULL)
            return;
        loop->counters.messages++;
        message->run(message);
    }
}

bool sc_mailbox_sleep(struct sc_mailbox *mailbox) {
    atomic_store(&mailbox->sleeping, true);
    if (sc_mailbox_is_empty(mailbox))
        return true;
    sc_mailbox_awake(mailbox);
    return false;
}

void sc_mailbox_awake(struct sc_mailbox *mailbox) {
    // A producer that saw the flag wakes a loop that is awake: harmless.
    atomic_store_explicit(&mailbox->sleeping, false, memory_order_relaxed);
}

void sc_loop_post(struct sc_loop *loop, struct sc_loop_message *message) {
    assert(message->run != NULL);
    struct sc_mailbox *mailbox = &loop->mailbox;
    atomic_fetch_add_explicit(&mailbox->posting, 1, memory_order_relaxed);
    put(mailbox, message);
    // The plain look first: it costs next to nothing while the loop is awake.
    if (loop != sc_loop_current && atomic_load(&mailbox->sleeping) &&
        atomic_exchange(&mailbox->sleeping, false))
        loop->backend->kind->wake(loop->backend,
                                  sc_loop_current == NULL ? NULL : sc_loop_current->backend);
    atomic_fetch_sub_explicit(&mailbox->posting, 1, memory_order_release);
}

void sc_mailbox_end(struct sc_loop *loop) {
    // A message may have told the loop to end while its producer is still in sc_loop_post.
    do {
        sc_mailbox_run(loop, UINT32_MAX);
        if (atomic_load_explicit(&loop->mailbox.posting, memory_order_acquire) != 0)
            sched_yield();
    } while (atomic_load_explicit(&loop->mailbox.posting, memory_order_acquire) != 0 ||
             !sc_mailbox_is_empty(&loop->mailbox));
}
