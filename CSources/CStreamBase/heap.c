// Regions of 4 MiB are cut in units of 64 KiB, units make slabs, and a slab has slots of one size. The first unit of
// a region holds what is known of the others, so an object's address leads to its slab:
//
//   region | unit 0: struct region | units 1-4: a slab | unit 5: a slab | units 6-13: a slab | ...
//
// A slab of small objects keeps its free slots in a list that runs through them. One of large objects, whose slots
// are whole pages, has a bit for each; the pages of a free one go back to the kernel by themselves.
#include "CStreamBase.h"

#include <stdlib.h>
#include <sys/mman.h>

#define REGION_SIZE (4u << 20)
#define UNIT_SIZE (64u << 10)
#define UNIT_COUNT (REGION_SIZE / UNIT_SIZE)
#define ALL_UNITS (~(uint64_t)1) // All but the first.
/// Up to here classes are 8 bytes apart, beyond there are 8 to a doubling.
#define FINE_SIZE_MAX 128u
#define FINE_COUNT (FINE_SIZE_MAX / 8)
#define CLASS_COUNT (FINE_COUNT + 8 * 10)
/// Above it slots are whole pages.
#define SMALL_SIZE_MAX (16u << 10)
#define PAGE_SIZE 4096u
/// Bytes that a heap keeps, and lets lie idle, besides a share of what is in use.
#define KEPT_LEAST (256u << 10)
/// Bytes given back to the kernel at once: 0.2 ms,
#define RETURN_SIZE (1u << 20)
/// regions looked at for them,
#define TRIM_REGIONS 8
/// and objects from other threads that are taken up at once: 0.4 ms when no cache has them.
#define COLLECT_COUNT 1024
/// By whoever runs out of room: fewer, since one turn may do so for each size.
#define COLLECT_FOR_ROOM 64
/// A slab is sparse when so much of what was touched of it is free: one part of so many.
#define SPARSE_PART 4

_Static_assert(UNIT_COUNT == 64, "a bit for each");

struct slab {
    struct slab *next; // Of its class with free slots.
    struct slab *previous;
    union {
        void *slots;   // Small: given back before; each begins with the next one's address.
        uint64_t bits; // Large.
    } free;
    uint64_t dirty;       // Large: free slots whose pages the kernel has not got back.
    uint32_t used, count; // Slots.
    uint32_t fresh;       // Small: from here on they were never used.
    uint8_t class;
    uint8_t unit, units;
};

struct region {
    struct sc_heap *heap;
    struct region *next; // Of those with free units.
    struct region *previous;
    struct region *all_next;
    struct region *all_previous;
    uint64_t free;                 // Units without a slab.
    uint64_t dirty;                // Of them, those that the kernel has not got back.
    struct slab slabs[UNIT_COUNT]; // By first unit.
    uint8_t first[UNIT_COUNT];     // Of the slab that a unit is part of.
};
_Static_assert(sizeof(struct region) <= PAGE_SIZE, "one page of a region is lost to it");

/// An object given back by another thread.
struct given {
    struct given *next;
};
/// No object: the heap is gone, and others free what is left of it.
#define CLOSED ((struct given *)1)

struct sc_heap {
    _Atomic(const void *) thread;
    struct slab *rooms[CLASS_COUNT];
    struct region *regions; // With free units.
    struct region *all_regions;
    struct region *trim_next; // NULL: the first of all.
    struct given *aside;      // Of `others` before, not taken up yet.
    uint64_t used, idle, kept_units, kept_slots, reserved, objects;
    uint64_t returned;      // Bytes given back to the kernel, ever.
    uint64_t given;         // Bytes, ever,
    uint64_t compacted;     // of them when compacting ended,
    uint64_t sparse;        // and bytes of the sparse objects that were met while it went on.
    bool compacting, dense; // Dense: it ended with few such.
    _Alignas(64) _Atomic(struct given *) others; // Given back by other threads.
    _Atomic int64_t left;                        // Once CLOSED: objects in use.
};

// Objects are for the address sanitizer what they are with malloc.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#define POISON(memory, size) __asan_poison_memory_region(memory, size)
#define UNPOISON(memory, size) __asan_unpoison_memory_region(memory, size)
#define ROOT(memory, size) __lsan_register_root_region(memory, size)
#define UNROOT(memory, size) __lsan_unregister_root_region(memory, size)
#endif
#endif
/// What is given back begins with a link, however small it was.
#define LINK_SIZE sizeof(struct given)
#ifndef POISON
#define POISON(memory, size) ((void)(memory))
#define UNPOISON(memory, size) ((void)(memory))
#define ROOT(memory, size) ((void)(memory))
#define UNROOT(memory, size) ((void)(memory))
#endif

// ---- Classes

static unsigned class_of(size_t size) {
    if (size <= FINE_SIZE_MAX)
        return (unsigned)(size - 1) / 8;
    unsigned top = 63u - (unsigned)__builtin_clzll(size - 1);
    return FINE_COUNT + (top - 7) * 8 + (unsigned)((size - 1) >> (top - 3) & 7);
}

static uint32_t class_size(unsigned class) {
    if (class < FINE_COUNT)
        return (class + 1) * 8;
    unsigned top = 7 + (class - FINE_COUNT) / 8, eighth = (class - FINE_COUNT) % 8;
    uint32_t size = (9 + eighth) << (top - 3);
    return size <= SMALL_SIZE_MAX ? size : (size + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
}

static bool is_large(const struct slab *slab) {
    return class_size(slab->class) > SMALL_SIZE_MAX;
}

// Enough slots that little is lost behind the last one.
static uint8_t units_of(uint32_t size) {
    return size <= 4096 ? 1 : size <= SMALL_SIZE_MAX ? 2 : 8;
}

static struct region *region_of(const void *memory) {
    return (struct region *)((uintptr_t)memory & ~(uintptr_t)(REGION_SIZE - 1));
}

static uint8_t *slab_start(const struct slab *slab) {
    return (uint8_t *)region_of(slab) + (size_t)slab->unit * UNIT_SIZE;
}

static struct slab *slab_of(const void *memory) {
    struct region *region = region_of(memory);
    size_t unit = (size_t)((const uint8_t *)memory - (const uint8_t *)region) / UNIT_SIZE;
    assert(unit > 0);
    return &region->slabs[region->first[unit]];
}

/// What may lie around unused: between objects, and of each kind that is kept.
static uint64_t idle_limit(const struct sc_heap *heap) {
    return heap->used / 6 + KEPT_LEAST;
}
static uint64_t kept_limit(const struct sc_heap *heap) {
    return heap->used / 16 + 2 * KEPT_LEAST;
}

static void give_back(struct sc_heap *heap, void *memory, size_t size) {
    (void)madvise(memory, size, MADV_DONTNEED); // Cannot fail for memory of our own.
    heap->returned += size;
}

// ---- Regions

static void *map_aligned(void) {
    size_t size = 2 * (size_t)REGION_SIZE;
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    size_t before = (size_t)(-(uintptr_t)memory & (REGION_SIZE - 1));
    size_t after = size - before - REGION_SIZE;
    if (before > 0)
        (void)munmap(memory, before);
    if (after > 0)
        (void)munmap(memory + before + REGION_SIZE, after);
    return memory + before;
}

static void room_add(struct sc_heap *heap, struct region *region) {
    region->previous = NULL;
    region->next = heap->regions;
    if (region->next != NULL)
        region->next->previous = region;
    heap->regions = region;
}

static void room_remove(struct sc_heap *heap, struct region *region) {
    *(region->previous != NULL ? &region->previous->next : &heap->regions) = region->next;
    if (region->next != NULL)
        region->next->previous = region->previous;
}

static struct region *region_map(struct sc_heap *heap) {
    struct region *region = map_aligned();
    if (region == NULL)
        return NULL;
    ROOT(region, REGION_SIZE);
    region->heap = heap;
    region->free = ALL_UNITS;
    region->all_next = heap->all_regions;
    if (heap->all_regions != NULL)
        heap->all_regions->all_previous = region;
    heap->all_regions = region;
    room_add(heap, region);
    heap->reserved += REGION_SIZE;
    return region;
}

static void region_unmap(struct region *region) {
    UNROOT(region, REGION_SIZE);
    UNPOISON(region, REGION_SIZE);
    (void)munmap(region, REGION_SIZE);
}

static void region_drop(struct sc_heap *heap, struct region *region) {
    room_remove(heap, region);
    *(region->all_previous != NULL ? &region->all_previous->all_next : &heap->all_regions) =
        region->all_next;
    if (region->all_next != NULL)
        region->all_next->all_previous = region->all_previous;
    if (heap->trim_next == region)
        heap->trim_next = region->all_next;
    uint64_t dirty = (uint64_t)__builtin_popcountll(region->dirty) * UNIT_SIZE;
    heap->kept_units -= dirty;
    heap->returned += dirty;
    heap->reserved -= REGION_SIZE;
    region_unmap(region);
}

// The bits with which as many ones begin.
static uint64_t runs(uint64_t bits, unsigned count) {
    assert((count & (count - 1)) == 0);
    for (unsigned i = 1; i < count; i *= 2)
        bits &= bits >> i;
    return bits;
}

static uint64_t run_at(unsigned unit, unsigned count) {
    return (((uint64_t)1 << count) - 1) << unit;
}

static struct slab *slab_in(struct sc_heap *heap, struct region *region, unsigned units) {
    uint64_t places = runs(region->dirty, units);
    if (places == 0)
        places = runs(region->free, units);
    if (places == 0)
        return NULL;
    unsigned unit = (unsigned)__builtin_ctzll(places);
    uint64_t run = run_at(unit, units);
    heap->kept_units -= (uint64_t)__builtin_popcountll(region->dirty & run) * UNIT_SIZE;
    region->dirty &= ~run;
    region->free &= ~run;
    if (region->free == 0)
        room_remove(heap, region);
    struct slab *slab = &region->slabs[unit];
    *slab = (struct slab){.unit = (uint8_t)unit, .units = (uint8_t)units};
    memset(&region->first[unit], (int)unit, units);
    return slab;
}

static struct slab *slab_make(struct sc_heap *heap, unsigned class) {
    uint32_t size = class_size(class);
    unsigned units = units_of(size);
    struct slab *slab = NULL;
    for (struct region *region = heap->regions; region != NULL && slab == NULL;) {
        struct region *next = region->next;
        slab = slab_in(heap, region, units);
        region = next;
    }
    if (slab == NULL) {
        struct region *region = region_map(heap);
        slab = region == NULL ? NULL : slab_in(heap, region, units);
    }
    if (slab == NULL)
        return NULL;
    slab->class = (uint8_t)class;
    slab->count = units * UNIT_SIZE / size;
    if (is_large(slab))
        slab->free.bits = ((uint64_t)1 << slab->count) - 1;
    POISON(slab_start(slab), (size_t)units * UNIT_SIZE);
    return slab;
}

// ---- Slabs in lists

static void slab_link(struct sc_heap *heap, struct slab *slab) {
    struct slab **head = &heap->rooms[slab->class];
    slab->previous = NULL;
    slab->next = *head;
    if (slab->next != NULL)
        slab->next->previous = slab;
    *head = slab;
}

static void slab_unlink(struct sc_heap *heap, struct slab *slab) {
    *(slab->previous != NULL ? &slab->previous->next : &heap->rooms[slab->class]) = slab->next;
    if (slab->next != NULL)
        slab->next->previous = slab->previous;
}

// Without an object in it. Its pages are kept for the next slab, up to a limit.
static void slab_drop(struct sc_heap *heap, struct slab *slab) {
    struct region *region = region_of(slab);
    uint64_t run = run_at(slab->unit, slab->units);
    uint64_t bytes = (uint64_t)slab->units * UNIT_SIZE;
    slab_unlink(heap, slab);
    if (is_large(slab))
        heap->kept_slots -= (uint64_t)__builtin_popcountll(slab->dirty) * class_size(slab->class);
    else
        heap->idle -= (uint64_t)slab->fresh * class_size(slab->class);
    if (heap->kept_units + bytes <= kept_limit(heap)) {
        region->dirty |= run;
        heap->kept_units += bytes;
    } else {
        give_back(heap, slab_start(slab), bytes);
    }
    if (region->free == 0)
        room_add(heap, region);
    region->free |= run;
    if (region->free == ALL_UNITS && heap->all_regions->all_next != NULL)
        region_drop(heap, region);
}

// ---- Objects

static const void *this_thread(void) {
    static _Thread_local char here;
    return &here;
}

static void *take_large(struct sc_heap *heap, struct slab *slab) {
    uint32_t size = class_size(slab->class);
    unsigned slot = (unsigned)__builtin_ctzll(slab->dirty != 0 ? slab->dirty : slab->free.bits);
    uint64_t bit = (uint64_t)1 << slot;
    if (slab->dirty & bit)
        heap->kept_slots -= size;
    slab->dirty &= ~bit;
    slab->free.bits &= ~bit;
    return slab_start(slab) + (size_t)slot * size;
}

static void give_large(struct sc_heap *heap, struct slab *slab, uint8_t *memory) {
    uint32_t size = class_size(slab->class);
    uint64_t bit = (uint64_t)1 << (size_t)(memory - slab_start(slab)) / size;
    assert((slab->free.bits & bit) == 0);
    slab->free.bits |= bit;
    if (heap->kept_slots + size <= kept_limit(heap)) {
        slab->dirty |= bit;
        heap->kept_slots += size;
    } else {
        give_back(heap, memory, size);
    }
}

static void give_own(struct sc_heap *heap, void *memory) {
    struct slab *slab = slab_of(memory);
    uint32_t size = class_size(slab->class);
    assert(slab->used > 0);
    heap->used -= size;
    heap->given += size;
    heap->objects--;
    if (size > SMALL_SIZE_MAX) {
        give_large(heap, slab, memory);
    } else {
        *(void **)memory = slab->free.slots;
        slab->free.slots = memory;
        heap->idle += size;
    }
    POISON(memory, size);
    if (slab->used-- == slab->count)
        slab_link(heap, slab);
    if (slab->used == 0)
        slab_drop(heap, slab);
}

// Gives back the first object of the list, and returns the rest.
static struct given *give_first(struct sc_heap *heap, struct given *given) {
    struct given *next = given->next;
    give_own(heap, given);
    return next;
}

static void collect(struct sc_heap *heap, int count) {
    if (heap->aside == NULL && atomic_load_explicit(&heap->others, memory_order_relaxed) != NULL)
        heap->aside = atomic_exchange_explicit(&heap->others, NULL, memory_order_acquire);
    uint64_t end = heap->returned + RETURN_SIZE;
    for (int i = 0; i < count && heap->aside != NULL && heap->returned < end; i++)
        heap->aside = give_first(heap, heap->aside);
}

static struct slab *refill(struct sc_heap *heap, unsigned class) {
    collect(heap, COLLECT_FOR_ROOM);
    if (heap->rooms[class] != NULL)
        return heap->rooms[class];
    struct slab *slab = slab_make(heap, class);
    if (slab != NULL)
        slab_link(heap, slab);
    return slab;
}

void *sc_heap_take(struct sc_heap *heap, size_t size) {
    assert(size > 0 && size <= SC_HEAP_SIZE_MAX);
    unsigned class = class_of(size);
    struct slab *slab = heap->rooms[class];
    if (slab == NULL && (slab = refill(heap, class)) == NULL)
        return NULL;
    uint32_t full = class_size(class);
    uint8_t *memory;
    if (full > SMALL_SIZE_MAX) {
        memory = take_large(heap, slab);
        UNPOISON(memory, size);
    } else if (slab->free.slots != NULL) {
        memory = slab->free.slots;
        UNPOISON(memory, size < LINK_SIZE ? LINK_SIZE : size);
        slab->free.slots = *(void **)memory;
        heap->idle -= full;
    } else {
        memory = slab_start(slab) + (size_t)slab->fresh++ * full;
        UNPOISON(memory, size < LINK_SIZE ? LINK_SIZE : size);
    }
    if (++slab->used == slab->count)
        slab_unlink(heap, slab);
    heap->used += full;
    heap->objects++;
    return memory;
}

// ---- Other threads, and the end

static void free_all(struct sc_heap *heap) {
    for (struct region *region = heap->all_regions; region != NULL;) {
        struct region *next = region->all_next;
        region_unmap(region);
        region = next;
    }
    free(heap);
}

static void give_from_afar(struct sc_heap *heap, struct given *given) {
    struct given *head = atomic_load_explicit(&heap->others, memory_order_acquire);
    do {
        if (head == CLOSED) {
            if (atomic_fetch_sub_explicit(&heap->left, 1, memory_order_acq_rel) == 1)
                free_all(heap);
            return;
        }
        given->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&heap->others, &head, given,
                                                    memory_order_release, memory_order_acquire));
}

void sc_heap_give(void *memory) {
    struct sc_heap *heap = region_of(memory)->heap;
    if (atomic_load_explicit(&heap->thread, memory_order_relaxed) == this_thread())
        give_own(heap, memory);
    else
        give_from_afar(heap, memory);
}

struct sc_heap *sc_heap_create(void) {
    struct sc_heap *heap = aligned_alloc(_Alignof(struct sc_heap), sizeof *heap);
    if (heap == NULL)
        return NULL;
    *heap = (struct sc_heap){0};
    atomic_store_explicit(&heap->thread, this_thread(), memory_order_relaxed);
    return heap;
}

// Whoever gives the last object back frees the heap: it, or a thread that counts down what was left.
void sc_heap_destroy(struct sc_heap *heap) {
    if (heap == NULL)
        return;
    atomic_store_explicit(&heap->thread, NULL, memory_order_relaxed);
    struct given *given = atomic_exchange_explicit(&heap->others, CLOSED, memory_order_acq_rel);
    while (given != NULL)
        given = give_first(heap, given);
    while (heap->aside != NULL)
        heap->aside = give_first(heap, heap->aside);
    int64_t left = (int64_t)heap->objects;
    if (atomic_fetch_add_explicit(&heap->left, left, memory_order_acq_rel) + left == 0)
        free_all(heap);
}

struct sc_heap_counters sc_heap_counters(const struct sc_heap *heap) {
    return (struct sc_heap_counters){.used = heap->used,
                                     .idle = heap->idle,
                                     .kept = heap->kept_units + heap->kept_slots,
                                     .reserved = heap->reserved,
                                     .returned = heap->returned,
                                     .objects = heap->objects};
}

// ---- Compacting

// Nothing goes through the slabs, of which a heap of 10 GB has 160,000: what a slab is like when its owner comes by
// with an object of it decides.

// How many bytes are given back between one round of compacting and the next. Where no slab is sparse less than a third
// of what is in use is idle, and objects would be looked at in vain.
static uint64_t pause_size(const struct sc_heap *heap) {
    if (heap->dense && heap->idle <= heap->used / 8 * 3)
        return 4 * heap->used;
    return idle_limit(heap) / 2;
}

bool sc_heap_compact_begin(struct sc_heap *heap) {
    assert(!heap->compacting);
    if (heap->idle <= idle_limit(heap) || heap->given - heap->compacted < pause_size(heap))
        return false;
    collect(heap, COLLECT_COUNT);
    heap->sparse = 0;
    heap->compacting = true;
    return true;
}

void sc_heap_compact_end(struct sc_heap *heap) {
    assert(heap->compacting);
    heap->compacting = false;
    heap->compacted = heap->given;
    heap->dense = heap->sparse < idle_limit(heap) / 8;
}

// The first slab of a class stays, there its objects go. Whichever comes to be the first fills up again, so that each
// of the others ends up empty, or dense.
bool sc_heap_is_sparse(struct sc_heap *heap, const void *memory) {
    if (region_of(memory)->heap != heap)
        return false;
    const struct slab *slab = slab_of(memory);
    if (is_large(slab) || slab->previous == NULL ||
        (slab->fresh - slab->used) * SPARSE_PART < slab->fresh)
        return false;
    heap->sparse += class_size(slab->class);
    return true;
}

static void trim_slots(struct sc_heap *heap, struct slab *slab) {
    uint32_t size = class_size(slab->class);
    for (; slab->dirty != 0; slab->dirty &= slab->dirty - 1) {
        unsigned slot = (unsigned)__builtin_ctzll(slab->dirty);
        give_back(heap, slab_start(slab) + (size_t)slot * size, size);
        heap->kept_slots -= size;
    }
}

static void trim_slabs(struct sc_heap *heap, struct region *region, uint64_t end) {
    for (unsigned unit = 1; unit < UNIT_COUNT && heap->returned < end;) {
        bool is_free = (region->free >> unit & 1) != 0;
        struct slab *slab = &region->slabs[unit];
        if (!is_free && is_large(slab))
            trim_slots(heap, slab);
        unit += is_free ? 1 : slab->units;
    }
}

static void trim_units(struct sc_heap *heap, struct region *region, uint64_t end) {
    for (; region->dirty != 0 && heap->returned < end; region->dirty &= region->dirty - 1) {
        unsigned unit = (unsigned)__builtin_ctzll(region->dirty);
        give_back(heap, (uint8_t *)region + (size_t)unit * UNIT_SIZE, UNIT_SIZE);
        heap->kept_units -= UNIT_SIZE;
    }
}

// Goes around all regions, a few in each call: which of them have something to give is not known.
bool sc_heap_trim(struct sc_heap *heap) {
    uint64_t end = heap->returned + RETURN_SIZE;
    if (heap->aside != NULL)
        collect(heap, COLLECT_COUNT);
    uint64_t limit = 2 * kept_limit(heap);
    bool units = heap->kept_units > limit, slots = heap->kept_slots > limit;
    for (unsigned i = 0; i < TRIM_REGIONS && (units || slots) && heap->returned < end; i++) {
        struct region *region = heap->trim_next != NULL ? heap->trim_next : heap->all_regions;
        if (units)
            trim_units(heap, region, end);
        if (slots)
            trim_slabs(heap, region, end);
        heap->trim_next = heap->returned < end ? region->all_next : region;
        units = heap->kept_units > limit;
        slots = heap->kept_slots > limit;
    }
    return units || slots || heap->aside != NULL;
}
