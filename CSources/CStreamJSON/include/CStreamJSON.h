// JSON text: a one-pass validating scanner that yields slices, string and number helpers, a compact
// writer, and the applier of path operations. Knows nothing of I/O, streams or storage.
#ifndef CSTREAM_JSON_H
#define CSTREAM_JSON_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

enum sc_json_kind {
    SC_JSON_ABSENT = 0, // No value here: what an all-zero sc_json_value says.
    SC_JSON_NULL,
    SC_JSON_FALSE,
    SC_JSON_TRUE,
    SC_JSON_NUMBER,
    SC_JSON_STRING,
    SC_JSON_ARRAY,
    SC_JSON_OBJECT,
};

/// A validated value inside a scanned text.
struct sc_json_value {
    struct sc_bytes text; // The whole value as written, a string with its quotes.
    uint8_t kind;         // enum sc_json_kind
    uint8_t depth;        // Containers nested in it, itself included; a scalar has 0.
    bool compact;         // No white space between its tokens.
    bool escaped;         // A string with at least one backslash.
};

/// A member of an object that a scan met.
struct sc_json_member {
    struct sc_bytes key; // As written, without the quotes.
    bool key_escaped;
    int16_t parent; // The index of the member whose value is the object, or -1 for the root object.
    struct sc_json_value value;
};

#define SC_JSON_INDEX_MEMBERS_MAX 40
/// What a scan found: the root value, and the members of the root object and of the objects that are
/// direct members of it (depth 1 and 2), in the order of the text.
struct sc_json_index {
    struct sc_json_value root;
    size_t error_offset; // Where the scan stopped, when it failed.
    uint16_t count;
    bool
        overflow; // There were more than SC_JSON_INDEX_MEMBERS_MAX: look members up with sc_json_next.
    uint8_t root_count;
    uint8_t roots[SC_JSON_INDEX_MEMBERS_MAX]; // Which of the members are the root's.
    struct sc_json_member members[SC_JSON_INDEX_MEMBERS_MAX];
};

/// Validates `text` as one JSON value, white space around it allowed, in one pass, and fills `index`.
///
/// Strict RFC 8259, UTF-8 checked (the bytes of strings; anything but ASCII outside of one is a syntax
/// error), no byte order mark, lone surrogates in \u escapes refused, numbers beyond the range of an IEEE
/// double refused. Duplicate keys are accepted. After an error, the root members that were complete before
/// it are in `index`, each with its members; a root member whose value is the broken one is not, nor are
/// the members in it, nor is the root.
/// Errors: -EBADMSG  not JSON.
///         -EILSEQ   a string that is not UTF-8.
///         -ELOOP    more than `depth_max` containers open at once.
SC_CHECKED int sc_json_scan(struct sc_bytes text, unsigned depth_max, struct sc_json_index *index);

/// The last member with `key` (compared unescaped) among those whose parent is `parent`. NULL when there
/// is none. Looks the text itself through when the index overflowed, storing the answer in `scratch`.
const struct sc_json_member *_Nullable sc_json_index_find(const struct sc_json_index *index,
                                                          int parent, struct sc_bytes key,
                                                          struct sc_json_member *scratch);

/// Walks the members of an object, or the elements of an array (their keys are empty), in a text that a
/// scan has accepted. Start with *offset = 0. Returns false at the end.
bool sc_json_next(struct sc_json_value container, size_t *offset, struct sc_json_member *member);

/// Whether a string's characters, `raw` between its quotes as written, are `text`.
bool sc_json_string_equal(struct sc_bytes raw, bool escaped, struct sc_bytes text);
/// Decodes the escapes of `raw` (validated, without quotes) to `out`, which has room for the decoded size
/// (`raw.size` at most), and returns that size.
size_t sc_json_unescape(struct sc_bytes raw, uint8_t *out);
/// The bytes that sc_json_unescape writes.
size_t sc_json_unescaped_size(struct sc_bytes raw);
/// How many bytes of `raw` (validated, without quotes) the longest prefix of whole characters takes that is at
/// most `size` bytes unescaped.
size_t sc_json_prefix_size(struct sc_bytes raw, size_t size);
/// Appends `text` (UTF-8) as a JSON string with quotes, escaping only what RFC 8259 demands.
void sc_json_write_string(struct sc_buffer *out, struct sc_bytes text);
/// The bytes that sc_json_write_string appends.
size_t sc_json_string_size(struct sc_bytes text);
/// Copies a validated value without the white space between its tokens to `out`, which has
/// `value.text.size` bytes, and returns the size. One memcpy when the value is compact.
size_t sc_json_compact(struct sc_json_value value, uint8_t *out);

/// A number as the operations see it: an integer in i64 or u64, anything else a double. `-0`, and
/// integers out of both ranges, are doubles.
enum sc_json_number_kind { SC_JSON_INT64, SC_JSON_UINT64, SC_JSON_DOUBLE };
struct sc_json_number {
    enum sc_json_number_kind kind;
    union {
        int64_t int64;   // The kind of every integer that fits it.
        uint64_t uint64; // Only of integers over INT64_MAX.
        double real;
    };
};
struct sc_json_number sc_json_number_read(struct sc_bytes text);
#define SC_JSON_NUMBER_SIZE_MAX 32
/// Writes the shortest text that reads back as the same number; doubles always with `.0` or an exponent.
size_t sc_json_number_write(struct sc_json_number number, uint8_t *out);

/// Room for what sc_json_mismatch_write and a rejected update say.
#define SC_JSON_REASON_SIZE_MAX 512
/// Says that `value` is not the `expected` one in the words of the wire, such as
/// "invalid type: integer `5`, expected a string", to `out` (SC_JSON_REASON_SIZE_MAX bytes), and returns
/// the size. The text of a long string is cut.
size_t sc_json_mismatch_write(struct sc_json_value value, struct sc_bytes expected, uint8_t *out);

/// The instruction sets that the scanner is compiled for.
enum sc_json_scan_level {
    SC_JSON_SCAN_SCALAR,
    SC_JSON_SCAN_SSE2,
    SC_JSON_SCAN_AVX2,
    SC_JSON_SCAN_NEON,
};
/// Makes every later scan use `level` instead of the best one. Returns false when the machine lacks it.
///
/// Thread: while no other thread scans: for tests and benchmarks.
bool sc_json_scan_use_level(enum sc_json_scan_level level);

// ---- Path operations (docs of the wire form: stream::update)

/// Scratch memory of the applier, kept from call to call so that a steady state allocates nothing.
struct sc_json_updater;
struct sc_json_updater *_Nullable sc_json_updater_create(void);
void sc_json_updater_destroy(struct sc_json_updater *_Nullable updater);

struct sc_json_update {
    struct sc_bytes value;  // The new value, compact JSON text.
    struct sc_bytes errors; // The array of operation errors, JSON text; empty when there were none.
    unsigned depth;         // Of the new value, as in sc_json_value.
    uint64_t work; // Of applying them: bytes of text, each counted by what reading it costs.
    struct sc_bytes reason; // -EINVAL: why the call was rejected, UTF-8 text to follow
                            // "Failed to deserialize input for stream::update: ".
};

/// Applies the operations `ops` (a validated JSON array of any content) to `old` (validated compact
/// JSON text; data == NULL when the item does not exist) in order.
///
/// A failed operation adds one error and changes nothing; a malformed one rejects the call before any is
/// applied. Object members that no operation touches keep their text, their order and their number
/// spelling. Duplicate keys: an operation acts on the last and removes the others. Duplicate keys inside an
/// operation: the last wins. Only the touched path is taken apart: a single field of a small object costs
/// no allocation and about one pass over the text.
///
/// The result follows from the bytes of `old` and `ops` alone. Logs on disk rely on that (docs/wal-format.md): operations
/// that are applied in another way than before are another format of the log.
///
/// Owns:   the slices of `update` are the updater's until its next call; a slice may also point into `old`
///         or `ops`.
/// Errors: -EINVAL    malformed operations: `update->reason` says which, nothing was applied.
///         -EMSGSIZE  the new value, or the errors, are over `size_max` bytes.
///         -ELOOP     the new value is deeper than `depth_max`.
///         -ENOMEM    memory is out.
/// Source: the operations' table in docs/update-ops.md.
SC_CHECKED int sc_json_update_apply(struct sc_json_updater *updater, struct sc_bytes old,
                                    struct sc_json_value ops, size_t size_max, unsigned depth_max,
                                    struct sc_json_update *update);

/// Checks `ops` as sc_json_update_apply does and writes them to `update->value` with their own keys only:
/// `set` always with a value, `merge` always with a path, `by` as an integer.
///
/// Owns:   `update->value` is the updater's until its next call.
/// Errors: -EINVAL  malformed operations: `update->reason` says which.
///         -ENOMEM  memory is out.
SC_CHECKED int sc_json_update_normalise(struct sc_json_updater *updater, struct sc_json_value ops,
                                        struct sc_json_update *update);

#pragma clang assume_nonnull end

#endif
