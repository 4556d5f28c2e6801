// What every file of a load may call: for memory, for the time, and to note what a server has done wrong.
#include "load_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void *sc_load_allocate(size_t size) {
    void *memory = malloc(size > 0 ? size : 1);
    if (memory == NULL) {
        fprintf(stderr, "iii-stream-bench: out of memory (%zu bytes)\n", size);
        abort();
    }
    return memory;
}

uint64_t sc_load_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void sc_load_load_violation(struct sc_load *load, const char *format, ...) {
    uint64_t index = load->violation_count++;
    if (index >= SC_LOAD_VIOLATION_TEXTS_MAX)
        return;
    char text[1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    load->violations[index] = strdup(text);
}

uint64_t sc_load_violation_count(const struct sc_load *load) {
    return load->violation_count;
}
const char *sc_load_violation(const struct sc_load *load, uint32_t index) {
    return index < SC_LOAD_VIOLATION_TEXTS_MAX ? load->violations[index] : NULL;
}
