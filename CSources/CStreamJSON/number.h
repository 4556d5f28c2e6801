// What the scanner asks of number.c beyond the public header.
#ifndef SC_JSON_NUMBER_H
#define SC_JSON_NUMBER_H

#include "CStreamJSON.h"

#pragma clang assume_nonnull begin

/// Whether a grammatical number rounds to a finite IEEE double.
bool sc_number_is_finite(struct sc_bytes text);

#pragma clang assume_nonnull end

#endif
