// Memory for what one thread makes, by size class, without a header an object, and given back to the kernel when
// it is not used any more.
#ifndef CSTREAM_HEAP_H
#define CSTREAM_HEAP_H

#pragma clang assume_nonnull begin

struct sc_heap;

/// Bytes of the largest object. What is larger comes from malloc.
#define SC_HEAP_SIZE_MAX (128u << 10)

/// NULL when memory is out.
struct sc_heap *_Nullable sc_heap_create(void);
/// Objects that are still in use stay valid; the memory goes with the last of them.
///
/// Thread: that which made the heap.
void sc_heap_destroy(struct sc_heap *_Nullable heap);

/// `size` bytes (1 to SC_HEAP_SIZE_MAX, asserted) on a multiple of 8, with undefined contents, or NULL when memory
/// is out. The least multiple of 8 that fits up to 128 bytes, at most an eighth more beyond.
///
/// Thread: that which made the heap.
void *_Nullable sc_heap_take(struct sc_heap *heap, size_t size);
/// Gives back what sc_heap_take returned.
///
/// Thread: any. Of another one than the heap's it is put aside until the heap is out of room.
void sc_heap_give(void *memory);

// ---- Compacting: objects of slabs that are mostly empty move to others, by their owner's hand

/// Whether so much memory lies idle in slabs that it is worth the while to move objects. If so, the caller goes through
/// all it can move, over as many turns as it likes, and sc_heap_compact_end ends that.
SC_CHECKED bool sc_heap_compact_begin(struct sc_heap *heap);
void sc_heap_compact_end(struct sc_heap *heap);
/// Whether the object is one of the heap's and had better move: a quarter of its slab or more is free, and objects of
/// its size are put into another. What is taken is not sparse.
bool sc_heap_is_sparse(struct sc_heap *heap, const void *memory);
/// Gives a little of the unused memory back to the kernel that was kept for the next objects, and takes up some of what
/// other threads gave back. True: there is more.
bool sc_heap_trim(struct sc_heap *heap);

struct sc_heap_counters {
    uint64_t used;     // Bytes of the objects in use, each rounded up to its class.
    uint64_t idle;     // Between them, in slabs of small objects.
    uint64_t kept;     // Of no object, not yet given back to the kernel.
    uint64_t reserved; // Addresses.
    uint64_t returned; // Given back to the kernel, ever, which takes it 0.2 ms a MiB.
    uint64_t objects;
};
struct sc_heap_counters sc_heap_counters(const struct sc_heap *heap);

#pragma clang assume_nonnull end

#endif
