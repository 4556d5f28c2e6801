// What a process is told by its loader: for the programs, not for the library.
#ifndef CSTREAM_PROCESS_H
#define CSTREAM_PROCESS_H

#include <stdint.h>

#pragma clang assume_nonnull begin

/// How many arguments the program was started with, its name included.
int sc_process_argument_count(void);
/// One of them. Valid as long as the process.
const char *_Nullable sc_process_argument(int index);

/// Raises the soft limit of descriptors to the hard one. Returns the limit that holds then.
uint64_t sc_process_raise_descriptor_limit(void);

/// Writes `size` bytes to the descriptor, in as many pieces as it takes. Waits for a reader of a pipe. Returns 0, or
/// -errno with a part of the bytes written, `*written` of them.
int sc_process_write(int fd, const void *bytes, uint64_t size, uint64_t *written);

/// Whether the descriptor is the journal's, as $JOURNAL_STREAM says.
int sc_process_is_journal(int fd);

/// Gives pages of the heap that hold nothing back to the kernel. It looks at all free pieces, while others wait for the
/// heap: for what was large, and not on a thread that serves.
void sc_process_return_memory(void);

#pragma clang assume_nonnull end

#endif
