// CRC32C (Castagnoli), the checksum of everything on disk.
#ifndef CSTREAM_STORE_CRC32C_H
#define CSTREAM_STORE_CRC32C_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

/// Goes on from `crc` (0 at first) over `size` bytes. Hardware where the processor has it.
uint32_t sc_crc32c(uint32_t crc, const void *_Nullable data, size_t size);
/// The same, a table look-up per byte: what the fast one is tested against, and runs without hardware.
uint32_t sc_crc32c_scalar(uint32_t crc, const void *_Nullable data, size_t size);

#pragma clang assume_nonnull end

#endif
