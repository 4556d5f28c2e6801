// Waking a loop that sleeps: by a message from ring to ring, which leaves with the sender's next submit, or by an eventfd,
// which each ring reads from all the time.
#include "uring.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

// Guards the list of live rings, and with it that their eventfd is still theirs.
static pthread_mutex_t live_lock = PTHREAD_MUTEX_INITIALIZER;
static struct uring *live_head;
static uint64_t live_last_id;

static void arm_event(struct uring *uring) {
    struct io_uring_sqe *sqe = uring_entry(uring);
    io_uring_prep_read(sqe, uring->event_fd, &uring->event_value, sizeof uring->event_value, 0);
    sqe->user_data = uring_own(URING_EVENT, 0);
    uring->event_armed = true;
}

// The kernel may write to `event_value` until the read is over.
static void disarm_event(struct uring *uring) {
    struct io_uring_sqe *sqe = uring_entry(uring);
    io_uring_prep_cancel64(sqe, uring_own(URING_EVENT, 0), 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = sc_tag(SC_KIND_NONE, 0);
    struct sc_completion completion;
    while (uring->event_armed && uring_wait_for_one(uring, &completion) == 0) {
        if (completion.tag == uring_own(URING_EVENT, 0))
            uring->event_armed = false;
    }
}

static void live_insert(struct uring *uring) {
    pthread_mutex_lock(&live_lock);
    uring->id = ++live_last_id;
    uring->prev_live = NULL;
    uring->next_live = live_head;
    if (live_head != NULL)
        live_head->prev_live = uring;
    live_head = uring;
    pthread_mutex_unlock(&live_lock);
}

static void live_remove(struct uring *uring) {
    pthread_mutex_lock(&live_lock);
    if (uring->prev_live != NULL)
        uring->prev_live->next_live = uring->next_live;
    else
        live_head = uring->next_live;
    if (uring->next_live != NULL)
        uring->next_live->prev_live = uring->prev_live;
    pthread_mutex_unlock(&live_lock);
}

int uring_wake_open(struct uring *uring) {
    uring->event_fd = eventfd(0, EFD_CLOEXEC);
    if (uring->event_fd < 0)
        return sc_explain_failure("eventfd", -errno);
    arm_event(uring);
    live_insert(uring);
    return 0;
}

void uring_wake_close(struct uring *uring) {
    if (uring->id != 0)
        live_remove(uring);
    if (uring->event_armed)
        disarm_event(uring);
    if (uring->event_fd >= 0)
        close(uring->event_fd);
}

void uring_run_event(struct uring *uring, int32_t result) {
    uring->event_armed = false;
    if (result < 0 && result != -EINTR && result != -EAGAIN)
        uring->base.error = result; // Nobody could wake this loop any more.
    else
        arm_event(uring);
}

static void write_event(const struct uring *uring) {
    // Fails only when the counter is full, and then the loop is being woken anyway.
    (void)eventfd_write(uring->event_fd, 1);
}

void uring_wake(struct sc_backend *to, struct sc_backend *from) {
    struct uring *uring = uring_of(to);
    if (from == NULL || from->kind != &sc_uring || !uring_of(from)->ring_messages ||
        from->error != 0) {
        write_event(uring);
        return;
    }
    struct io_uring_sqe *sqe = uring_entry(uring_of(from));
    io_uring_prep_msg_ring(sqe, uring->ring.ring_fd, 0, uring_own(URING_WOKEN, 0), 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = uring_own(URING_WAKE_FAILED, uring->id);
    from->counters->wakeups_sent++;
}

// A ring message that failed wakes by eventfd, when its loop still lives: it may have run the message, for
// another reason, and ended before the ring message left.
void uring_run_wake_failed(uint64_t id) {
    pthread_mutex_lock(&live_lock);
    for (struct uring *uring = live_head; uring != NULL; uring = uring->next_live) {
        if (uring->id == id)
            write_event(uring);
    }
    pthread_mutex_unlock(&live_lock);
}
