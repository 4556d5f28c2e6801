#include "reason.h"

#include <stdio.h>

// Bytes of somebody else's string in a reason. The words around it need the rest.
enum { QUOTED_SIZE_MAX = 256 };

// A reason is cut at its room and never fails: an error message must not bring a second error.
void sc_reason_put(struct reason *reason, struct sc_bytes text) {
    size_t room = sizeof reason->text - reason->size;
    size_t size = text.size < room ? text.size : room;
    if (size == 0)
        return;
    memcpy(reason->text + reason->size, text.data, size);
    reason->size += size;
}

void sc_reason_say(struct reason *reason, const char *words) {
    sc_reason_put(reason, (struct sc_bytes){(const uint8_t *)words, strlen(words)});
}

void sc_reason_number(struct reason *reason, uint64_t value) {
    uint8_t digits[20];
    sc_reason_put(reason, (struct sc_bytes){digits, sc_decimal_write(digits, value)});
}

// The size of the character at `p`: an escape as written, or a UTF-8 sequence.
// The text has passed the scanner: escapes are complete and UTF-8 is valid, so nothing is checked again.
static size_t written_size(const uint8_t *p) {
    if (*p == '\\') {
        if (p[1] != 'u')
            return 2;
        bool pair = (p[2] | 0x20) == 'd' && memchr("89abAB", p[3], 6) != NULL;
        return pair ? 12 : 6;
    }
    return *p < 0x80 ? 1 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : 4;
}

// Spells a character the way a debugger prints it between quotes.
static size_t spell(uint8_t *character, size_t size, char *out, size_t room) {
    uint8_t c = character[0];
    const char *escape = c == '"'    ? "\\\""
                         : c == '\\' ? "\\\\"
                         : c == '\n' ? "\\n"
                         : c == '\r' ? "\\r"
                         : c == '\t' ? "\\t"
                         : c == 0    ? "\\0"
                                     : NULL;
    if (escape != NULL)
        return (size_t)snprintf(out, room, "%s", escape);
    if (c < 0x20 || c == 0x7F)
        return (size_t)snprintf(out, room, "\\u{%x}", c);
    memcpy(out, character, size);
    return size;
}

// Character by character, so that the cut at QUOTED_SIZE_MAX never falls inside one.
void sc_reason_string(struct reason *reason, struct sc_bytes raw, bool debug) {
    size_t at = 0, written = 0;
    while (at < raw.size) {
        if (written >= QUOTED_SIZE_MAX) {
            sc_reason_say(reason, "…");
            return;
        }
        size_t size = written_size(raw.data + at);
        uint8_t character[4];
        size_t decoded = sc_json_unescape((struct sc_bytes){raw.data + at, size}, character);
        char spelled[16];
        const void *text = character;
        if (debug) {
            decoded = spell(character, decoded, spelled, sizeof spelled);
            text = spelled;
        }
        sc_reason_put(reason, (struct sc_bytes){text, decoded});
        written += decoded;
        at += size;
    }
}

// In the shortest spelling of the value, not as written: this is how the wire has it.
static void put_number(struct reason *reason, struct sc_bytes text) {
    struct sc_json_number number = sc_json_number_read(text);
    uint8_t written[SC_JSON_NUMBER_SIZE_MAX];
    size_t size = sc_json_number_write(number, written);
    sc_reason_say(reason, number.kind == SC_JSON_DOUBLE ? "floating point `" : "integer `");
    sc_reason_put(reason, (struct sc_bytes){written, size});
    sc_reason_say(reason, "`");
}

static struct sc_bytes inside(struct sc_bytes quoted) {
    return (struct sc_bytes){quoted.data + 1, quoted.size - 2};
}

static void put_value(struct reason *reason, struct sc_json_value value) {
    switch (value.kind) {
    case SC_JSON_FALSE:
        return sc_reason_say(reason, "boolean `false`");
    case SC_JSON_TRUE:
        return sc_reason_say(reason, "boolean `true`");
    case SC_JSON_NUMBER:
        return put_number(reason, value.text);
    case SC_JSON_STRING:
        sc_reason_say(reason, "string \"");
        sc_reason_string(reason, inside(value.text), true);
        return sc_reason_say(reason, "\"");
    case SC_JSON_ARRAY:
        return sc_reason_say(reason, "sequence");
    case SC_JSON_OBJECT:
        return sc_reason_say(reason, "map");
    default:
        return sc_reason_say(reason, "null");
    }
}

void sc_reason_mismatch(struct reason *reason, struct sc_json_value value, const char *expected) {
    sc_reason_say(reason, "invalid type: ");
    put_value(reason, value);
    sc_reason_say(reason, ", expected ");
    sc_reason_say(reason, expected);
}

size_t sc_json_mismatch_write(struct sc_json_value value, struct sc_bytes expected, uint8_t *out) {
    struct reason reason = {.size = 0};
    sc_reason_mismatch(&reason, value, "");
    sc_reason_put(&reason, expected);
    memcpy(out, reason.text, reason.size);
    return reason.size;
}
