// One operation of an update: its reading, its checks, and the errors it can end with.
#ifndef SC_JSON_UPDATE_OP_H
#define SC_JSON_UPDATE_OP_H

#include "reason.h"
#include "update_tree.h"

#pragma clang assume_nonnull begin

enum {
    PATH_SEGMENTS_MAX = 32,
    SEGMENT_SIZE_MAX = 256,
    MERGE_KEYS_MAX = 1024,
    MERGE_DEPTH_MAX = 16,
};

enum op_type { OP_SET, OP_MERGE, OP_INCREMENT, OP_DECREMENT, OP_APPEND, OP_REMOVE };

struct op {
    uint64_t number; // In the submitted array, from 0.
    enum op_type type;
    struct sc_json_value path;  // ABSENT, NULL, a string, or (merge) an array of strings.
    struct sc_json_value value; // What a missing one stands for is filled in.
    int64_t by;
};

/// Reads the element that `walk`, over the array of operations, stands before.
/// Returns 1, 0 at the end of the array, or -EINVAL with the reason.
SC_CHECKED int sc_op_read(struct walk *walk, struct op *op, struct reason *reason);

const char *sc_op_name(enum op_type type);

/// The keys from the root to the target: none is the root itself.
struct path {
    uint32_t count;
    struct key segments[PATH_SEGMENTS_MAX];
};

/// The errors of one call, as JSON text.
struct op_errors {
    struct sc_buffer text;
};

/// Adds an error with the code "<op>.<code>".
void sc_op_fail(struct op_errors *errors, const struct op *op, const char *code,
                const struct reason *message);

/// Reads and checks the path of `op`. False after it has added the error, or when memory is out.
bool sc_op_path(struct tree *tree, const struct op *op, struct op_errors *errors,
                struct path *path);
/// Whether `text`, without escapes, is a segment that sc_op_path has nothing to say about.
bool sc_op_segment_is_plain(struct sc_bytes text);
/// Whether the value of a merge may be merged. False after it has added the error.
bool sc_op_merge_value(struct tree *tree, const struct op *op, struct op_errors *errors);

/// The result of x + by, or x - by. False when it fits no number.
bool sc_op_arithmetic(enum op_type type, struct sc_json_number x, int64_t by,
                      struct sc_json_number *result);
/// What an increment or a decrement makes of a missing member.
struct sc_json_number sc_op_first_number(enum op_type type, int64_t by);

void sc_op_fail_target(struct op_errors *errors, const struct op *op, const struct path *path,
                       uint8_t kind);
void sc_op_fail_number(struct op_errors *errors, const struct op *op, const struct path *path,
                       uint8_t kind);
/// `kind` is that of the target; a string says that the value was the wrong one for it.
void sc_op_fail_append(struct op_errors *errors, const struct op *op, const struct path *path,
                       uint8_t kind);

/// The working value of a call.
struct working {
    struct tree tree;
    struct node root;
    bool missing; // The item does not exist, and no operation has succeeded yet.
    struct op_errors errors;
};

/// Applies `ops` to `old`, compact text, when that is one operation which changes the only member of its key.
/// Then the root is the new text, in `out`. False, with nothing changed: sc_op_apply has to do it.
bool sc_op_splice(struct working *working, struct sc_bytes old, struct sc_json_value ops,
                  struct sc_buffer *out);
/// Applies one operation. After a failure of memory `working->tree.failed` is set.
void sc_op_apply(struct working *working, const struct op *op);

#pragma clang assume_nonnull end

#endif
