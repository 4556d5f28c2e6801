// Numbers: text to integer or double, and the shortest text back.
//
// Neither direction depends on the locale: strtod is given digits and an exponent but no decimal point,
// and what snprintf puts between the digits is skipped.
#include "number.h"

#include <stdio.h>
#include <stdlib.h>

// More significant digits than these never change the rounding, only whether any of them is not 0.
enum { DIGITS_MAX = 770 };
// An exponent beyond this is as good as infinite, for any text that fits memory.
enum { EXPONENT_MAX = 1 << 30 };

static const double powers_of_ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                       1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                       1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

// A number taken apart: digits (without leading zeros) times ten to `exponent`.
struct decimal {
    bool negative;
    bool integer; // Written without fraction and exponent.
    bool more;    // There were digits other than 0 beyond DIGITS_MAX.
    int64_t exponent;
    size_t count;
    char digits[DIGITS_MAX];
};

// Zeros in front change nothing but the exponent.
static void take_digit(struct decimal *decimal, uint8_t c, bool fraction) {
    if (decimal->count == 0 && c == '0') {
        decimal->exponent -= fraction;
        return;
    }
    if (decimal->count == DIGITS_MAX) {
        decimal->more |= c != '0';
        decimal->exponent += !fraction;
        return;
    }
    decimal->digits[decimal->count++] = (char)c;
    decimal->exponent -= fraction;
}

// Capped, so that an exponent of a million digits neither wraps nor takes longer than reading it.
static int64_t read_exponent(const uint8_t *p, const uint8_t *end) {
    bool negative = *p == '-';
    int64_t value = 0;
    for (p += *p == '-' || *p == '+'; p < end; p++)
        if (value < EXPONENT_MAX)
            value = value * 10 + (*p - '0');
    return negative ? -value : value;
}

static void take_apart(struct sc_bytes text, struct decimal *decimal) {
    const uint8_t *p = text.data, *end = p + text.size;
    decimal->negative = *p == '-';
    decimal->integer = true;
    decimal->more = false;
    decimal->exponent = 0;
    decimal->count = 0;
    bool fraction = false;
    for (p += decimal->negative; p < end; p++) {
        if (*p == '.') {
            fraction = true;
            decimal->integer = false;
        } else if ((*p | 0x20) == 'e') {
            decimal->integer = false;
            decimal->exponent += read_exponent(p + 1, end);
            return;
        } else {
            take_digit(decimal, *p, fraction);
        }
    }
}

// The C library rounds right for any number of digits, which is more than a loop of ours should promise.
static double big_value(struct decimal *decimal) {
    char text[DIGITS_MAX + 32];
    memcpy(text, decimal->digits, decimal->count);
    size_t size = decimal->count;
    int64_t exponent = decimal->exponent;
    if (decimal->more) { // A last digit that stands for all that were left out.
        text[size++] = '1';
        exponent--;
    }
    snprintf(text + size, sizeof text - size, "e%lld", (long long)exponent);
    return strtod(text, NULL);
}

static double decimal_value(struct decimal *decimal) {
    double value;
    uint64_t digits = 0;
    for (size_t i = 0; i < decimal->count && i < 19; i++)
        digits = digits * 10 + (uint64_t)(decimal->digits[i] - '0');
    bool exact = decimal->count <= 19 && digits <= (uint64_t)1 << 53;
    // Both factors are exact doubles, so one rounding gives the right result.
    if (decimal->count == 0)
        value = 0;
    else if (exact && decimal->exponent >= 0 && decimal->exponent <= 22)
        value = (double)digits * powers_of_ten[decimal->exponent];
    else if (exact && decimal->exponent < 0 && decimal->exponent >= -22)
        value = (double)digits / powers_of_ten[-decimal->exponent];
    else
        value = big_value(decimal);
    return decimal->negative ? -value : value;
}

// The smallest integer that rounds to infinity: halfway between the largest double and 2^1024, where a tie goes
// to the even one of the two.
static const char infinite_from[] =
    "17976931348623158079372897140530341507993413271003782693617377898044496829276475"
    "09466490179775872070963302864166928879109465555478519404026306574886715058206819"
    "08902000708383676273854845817711531764475730270069855571366959622842914819860834"
    "936475292719074168444365510704342711559699508093042880177904174497792";
enum { INFINITE_DIGITS = sizeof infinite_from - 1 };

// Where the digits that count begin and end: after the leading zeros, before the exponent. They hold at most one
// point. `magnitude`: the value is 0.DIGITS times ten to it.
struct significand {
    const uint8_t *begin, *end;
    int64_t magnitude;
};

// A number may have megabytes of digits. Whether it is finite is said by the first three hundred.
static struct significand significand_of(struct sc_bytes text) {
    const uint8_t *end = text.data + text.size;
    const uint8_t *p = text.data + (*text.data == '-');
    bool fraction = *p == '0';
    p += fraction; // A zero before the point is the only one.
    if (fraction && p < end && *p == '.')
        p++;
    const uint8_t *zeros = p;
    while (fraction && p < end && *p == '0')
        p++;
    struct significand number = {.begin = p, .magnitude = zeros - p};
    while (p < end && (uint8_t)(*p - '0') < 10)
        p++;
    if (!fraction) {
        number.magnitude = p - number.begin;
        if (p < end && *p == '.')
            for (p++; p < end && (uint8_t)(*p - '0') < 10;)
                p++;
    }
    number.end = p;
    if (p < end)
        number.magnitude += read_exponent(p + 1, end);
    return number;
}

bool sc_number_is_finite(struct sc_bytes text) {
    struct significand number = significand_of(text);
    if (number.begin == number.end || number.magnitude < INFINITE_DIGITS)
        return true;
    if (number.magnitude > INFINITE_DIGITS)
        return false;
    size_t at = 0;
    for (const uint8_t *p = number.begin; p < number.end && at < INFINITE_DIGITS; p++) {
        if (*p == '.')
            continue;
        if (*p != infinite_from[at])
            return *p < infinite_from[at];
        at++;
    }
    return at < INFINITE_DIGITS; // Its last digits are 2: what is shorter is less.
}

// Reads an integer that fits i64 or u64. Returns false for anything else, `-0` too.
static bool read_integer(struct sc_bytes text, struct sc_json_number *number) {
    bool negative = text.data[0] == '-';
    uint64_t value = 0;
    size_t i = negative, safe = text.size < 18 ? text.size : 18; // So many digits always fit.
    for (; i < safe; i++) {
        uint8_t digit = (uint8_t)(text.data[i] - '0');
        if (digit > 9)
            return false;
        value = value * 10 + digit;
    }
    for (; i < text.size; i++) {
        uint8_t digit = (uint8_t)(text.data[i] - '0');
        if (digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    if (negative) {
        if (value == 0 || value > (uint64_t)INT64_MAX + 1)
            return false;
        *number = (struct sc_json_number){SC_JSON_INT64, {.int64 = (int64_t)(0 - value)}};
    } else if (value <= INT64_MAX) {
        *number = (struct sc_json_number){SC_JSON_INT64, {.int64 = (int64_t)value}};
    } else {
        *number = (struct sc_json_number){SC_JSON_UINT64, {.uint64 = value}};
    }
    return true;
}

struct sc_json_number sc_json_number_read(struct sc_bytes text) {
    assert(text.size > 0);
    struct sc_json_number number;
    if (read_integer(text, &number))
        return number;
    struct decimal decimal;
    take_apart(text, &decimal);
    return (struct sc_json_number){SC_JSON_DOUBLE, {.real = decimal_value(&decimal)}};
}

// Digits (the last one not 0) and where the decimal point stands after the first of them.
struct shortest {
    unsigned count;
    int point; // value = 0.DIGITS times ten to `point`.
    char digits[24];
};

// The shortest text has none at its end.
static void drop_zeros(struct shortest *shortest) {
    while (shortest->count > 1 && shortest->digits[shortest->count - 1] == '0')
        shortest->count--;
}

// Prints `value` with `precision` digits. Returns whether they read back as `value`.
static bool try_precision(double value, int precision, struct shortest *shortest) {
    char text[40];
    snprintf(text, sizeof text, "%.*e", precision - 1, value);
    shortest->count = 0;
    const char *p = text;
    for (; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            shortest->digits[shortest->count++] = *p;
    shortest->point = atoi(p + 1) + 1;
    return strtod(text, NULL) == value;
}

// Most decimals that people write have a few digits after the point: an integer over a power of ten.
// Below ten to the 15 such a quotient has no second spelling of the same length.
static bool try_short_fraction(double value, struct shortest *shortest) {
    if (value < 1e-5 || value >= 1e15)
        return false;
    for (int k = 1; k <= 19; k++) {
        double scaled = (double)(uint64_t)(value * powers_of_ten[k] + 0.5);
        if (scaled >= 1e15)
            return false;
        if (scaled / powers_of_ten[k] != value)
            continue;
        shortest->count = (unsigned)sc_decimal_write((uint8_t *)shortest->digits, (uint64_t)scaled);
        shortest->point = (int)shortest->count - k;
        drop_zeros(shortest);
        return true;
    }
    return false;
}

// The fewest digits that read back as the same double: what is stored and what is sent are the same number.
static void find_shortest(double value, struct shortest *shortest) {
    if (try_short_fraction(value, shortest))
        return;
    // 15 digits always survive the way to a double and back, but not where doubles lose precision
    // towards 0: there, look for the first that does.
    int precision = value < 0x1p-1022 ? 1 : 15;
    while (!try_precision(value, precision, shortest))
        precision++;
    drop_zeros(shortest);
}

static size_t put(uint8_t *out, size_t size, const void *data, size_t count) {
    memcpy(out + size, data, count);
    return size + count;
}

static size_t put_zeros(uint8_t *out, size_t size, int count) {
    for (; count > 0; count--)
        out[size++] = '0';
    return size;
}

// d.ddde-x
// As the original writes: no plus, no zeros in front of the exponent.
static size_t write_scientific(const struct shortest *shortest, uint8_t *out, size_t size) {
    out[size++] = (uint8_t)shortest->digits[0];
    if (shortest->count > 1) {
        out[size++] = '.';
        size = put(out, size, shortest->digits + 1, shortest->count - 1);
    }
    out[size++] = 'e';
    int exponent = shortest->point - 1;
    if (exponent < 0)
        out[size++] = '-';
    return size + sc_decimal_write(out + size, (uint64_t)(exponent < 0 ? -exponent : exponent));
}

// Plain digits between 1e-5 and 1e16, with a point, so that a double stays one when it is read again.
static size_t write_shortest(const struct shortest *shortest, uint8_t *out, size_t size) {
    int count = (int)shortest->count, point = shortest->point;
    if (point <= -5 || point > 16)
        return write_scientific(shortest, out, size);
    if (point <= 0) { // 0.00123
        size = put(out, size, "0.", 2);
        size = put_zeros(out, size, -point);
        return put(out, size, shortest->digits, shortest->count);
    }
    if (point >= count) { // 12300.0
        size = put(out, size, shortest->digits, shortest->count);
        size = put_zeros(out, size, point - count);
        return put(out, size, ".0", 2);
    }
    size = put(out, size, shortest->digits, (size_t)point); // 1.23
    out[size++] = '.';
    return put(out, size, shortest->digits + point, (size_t)(count - point));
}

// JSON has no infinity and no NaN: the scanner refuses what would become one.
static size_t write_double(double value, uint8_t *out) {
    assert(__builtin_isfinite(value));
    size_t size = 0;
    if (__builtin_signbit(value))
        out[size++] = '-';
    value = __builtin_fabs(value);
    if (value < 0x1p53 && value == (double)(uint64_t)value) {
        size += sc_decimal_write(out + size, (uint64_t)value);
        return put(out, size, ".0", 2);
    }
    struct shortest shortest;
    find_shortest(value, &shortest);
    return write_shortest(&shortest, out, size);
}

size_t sc_json_number_write(struct sc_json_number number, uint8_t *out) {
    switch (number.kind) {
    case SC_JSON_INT64: {
        size_t size = number.int64 < 0;
        if (number.int64 < 0)
            out[0] = '-';
        uint64_t value = number.int64 < 0 ? 0 - (uint64_t)number.int64 : (uint64_t)number.int64;
        return size + sc_decimal_write(out + size, value);
    }
    case SC_JSON_UINT64:
        return sc_decimal_write(out, number.uint64);
    case SC_JSON_DOUBLE:
        break;
    }
    return write_double(number.real, out);
}
