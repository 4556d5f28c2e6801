#include "CStreamBase.h"

#include <stdio.h>
#include <stdlib.h>

void *sc_allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) {
        fprintf(stderr, "iii-stream: out of memory (%zu bytes)\n", size);
        abort();
    }
    return memory;
}

void *sc_reallocate(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (memory == NULL) {
        fprintf(stderr, "iii-stream: out of memory (%zu bytes)\n", size);
        abort();
    }
    return memory;
}

void *sc_grow(void *array, size_t old_size, size_t new_size) {
    array = sc_array_grow(array, old_size, new_size);
    if (array == NULL) {
        fprintf(stderr, "iii-stream: out of memory (%zu bytes)\n", new_size);
        abort();
    }
    return array;
}
