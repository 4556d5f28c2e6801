// The plain scanner: one pass over the bytes, no tree. It is the meaning of sc_json_scan, and the only one to
// say what is wrong with a text; scan_block.h is the same for good texts, faster.
//
// One loop over three places of the grammar: before a value, after a value, before a key. What is open
// is one bit per level, so hostile nesting costs neither stack nor memory.
#include "grammar.h"

// The levels whose values end up in the index: the root, its members, their members.
enum { LEVELS = 3 };

// All that a scan knows. It lies on the stack of sc_json_scan: a scan allocates nothing, whatever the text is.
struct scan {
    const uint8_t *begin;
    const uint8_t *end;
    const uint8_t *white; // After the last white space met: what starts before it is not compact.
    struct sc_json_index *index;
    unsigned depth; // Containers open.
    unsigned depth_max;
    unsigned record_depth; // Members are recorded down to this depth: 0 in a root array, 2 at most.
    unsigned deepest[LEVELS];     // The deepest level since the value of each level began.
    const uint8_t *start[LEVELS]; // Where the container of each level began.
    int slot[LEVELS];             // The member being read on each level, or -1.
    uint64_t objects[4];          // One bit per open container: set for an object.
    struct fault fault;
};

static inline const uint8_t *skip_white(struct scan *scan, const uint8_t *p) {
    const uint8_t *from = p;
    while (p < scan->end && is_white(*p))
        p++;
    if (p != from)
        scan->white = p;
    return p;
}

// Which closer is right, and whether a key comes next, follows from this bit alone.
static inline bool in_object(const struct scan *scan) {
    unsigned bit = scan->depth - 1;
    return (scan->objects[bit / 64] >> (bit % 64) & 1) != 0;
}

// The depth of a value is how far its deepest part lies below it. Every level that is being recorded keeps its own deepest: a value of a
// member is stored alone later, and its depth must be known without a second scan.
static const uint8_t *open_container(struct scan *scan, const uint8_t *p) {
    if (scan->depth == scan->depth_max)
        return fail(&scan->fault, p, -ELOOP);
    unsigned bit = scan->depth++;
    uint64_t mask = (uint64_t)1 << (bit % 64);
    bool object = *p == '{';
    if (object)
        scan->objects[bit / 64] |= mask;
    else
        scan->objects[bit / 64] &= ~mask;
    if (bit < LEVELS)
        scan->start[bit] = p;
    // Only objects all of whose ancestors are objects have their members recorded.
    if (bit < 2 && scan->record_depth == bit && object)
        scan->record_depth = bit + 1;
    for (unsigned level = 0; level < LEVELS; level++)
        if (scan->deepest[level] < scan->depth)
            scan->deepest[level] = scan->depth;
    return p + 1;
}

// NULL: the index is full, or this member is not one of those that are recorded. The text is still checked to its end.
static struct sc_json_value *value_slot(struct scan *scan, unsigned level) {
    if (level == 0)
        return &scan->index->root;
    return scan->slot[level] < 0 ? NULL : &scan->index->members[scan->slot[level]].value;
}

// Members of what is closed are not looked for any more: `record_depth` falls with the container.
static void close_container(struct scan *scan, const uint8_t *end) {
    unsigned level = --scan->depth;
    if (level >= LEVELS)
        return;
    if (level < scan->record_depth)
        scan->record_depth = level;
    struct sc_json_value *value = level <= scan->record_depth ? value_slot(scan, level) : NULL;
    if (value == NULL)
        return;
    const uint8_t *start = scan->start[level];
    *value = (struct sc_json_value){
        .text = {start, (size_t)(end - start)},
        .kind = *start == '{' ? SC_JSON_OBJECT : SC_JSON_ARRAY,
        .depth = (uint8_t)(scan->deepest[level] - level),
        .compact = scan->white <= start,
    };
}

// A full index is no error: what is not in it is found by walking the text. See sc_json_index_find.
static void begin_member(struct scan *scan, struct sc_bytes key, bool escaped) {
    struct sc_json_index *index = scan->index;
    unsigned level = scan->depth;
    scan->deepest[level] = level;
    if (index->count == SC_JSON_INDEX_MEMBERS_MAX) {
        index->overflow = true;
        scan->slot[level] = -1;
        return;
    }
    int parent = level == 1 ? -1 : scan->slot[1];
    unsigned at = index->count++;
    scan->slot[level] = (int)at;
    struct sc_json_member *member = &index->members[at];
    *member =
        (struct sc_json_member){.key = key, .key_escaped = escaped, .parent = (int16_t)parent};
    if (level == 1)
        index->roots[index->root_count++] = (uint8_t)at;
}

// A scalar is compact by itself. White space around it belongs to what it is in.
static void end_scalar(struct scan *scan, const uint8_t *start, const uint8_t *end, uint8_t kind,
                       bool escaped) {
    struct sc_json_value *value = value_slot(scan, scan->depth);
    if (value != NULL)
        *value = (struct sc_json_value){
            .text = {start, (size_t)(end - start)},
            .kind = kind,
            .compact = true,
            .escaped = escaped,
        };
}

// Runs of plain bytes are passed over at once. What stops a run is an end, an escape, a character of several bytes, or an error.
// Validates a string from after its opening quote. Returns its closing quote.
static const uint8_t *string_end(struct scan *scan, const uint8_t *p, bool *escaped) {
    for (;;) {
        p = run_end_scalar(p, scan->end);
        if (p == scan->end)
            return fail(&scan->fault, p, -EBADMSG);
        uint8_t c = *p;
        if (c == '"')
            return p;
        if (c != '\\' && c < 0x80)
            return fail(&scan->fault, p, -EBADMSG);
        *escaped |= c == '\\';
        p = c == '\\' ? sc_escape_end(&scan->fault, p, scan->end)
                      : sc_utf8_end(&scan->fault, p, scan->end);
        if (p == NULL)
            return NULL;
    }
}

// Reads `"key" :`. Returns what follows the colon.
static const uint8_t *key_end(struct scan *scan, const uint8_t *p) {
    p = skip_white(scan, p);
    if (p == scan->end || *p != '"')
        return fail(&scan->fault, p, -EBADMSG);
    const uint8_t *key = p + 1;
    bool escaped = false;
    p = string_end(scan, key, &escaped);
    if (p == NULL)
        return NULL;
    if (scan->depth <= scan->record_depth)
        begin_member(scan, (struct sc_bytes){key, (size_t)(p - key)}, escaped);
    p = skip_white(scan, p + 1);
    if (p == scan->end || *p != ':')
        return fail(&scan->fault, p, -EBADMSG);
    return p + 1;
}

// The first byte says what it must be. A byte that begins nothing is an error of a number, which says so.
static const uint8_t *scalar_end(struct scan *scan, const uint8_t *start) {
    const uint8_t *p = start, *end = scan->end;
    struct fault *fault = &scan->fault;
    bool escaped = false;
    uint8_t kind;
    switch (*p) {
    case '"':
        p = string_end(scan, p + 1, &escaped);
        kind = SC_JSON_STRING;
        p = p == NULL ? NULL : p + 1;
        break;
    case 't':
        p = literal_end(fault, p, end, "true", 4);
        kind = SC_JSON_TRUE;
        break;
    case 'f':
        p = literal_end(fault, p, end, "false", 5);
        kind = SC_JSON_FALSE;
        break;
    case 'n':
        p = literal_end(fault, p, end, "null", 4);
        kind = SC_JSON_NULL;
        break;
    default:
        p = sc_number_end(fault, p, end);
        kind = SC_JSON_NUMBER;
        break;
    }
    if (p != NULL && scan->depth <= scan->record_depth)
        end_scalar(scan, start, p, kind, escaped);
    return p;
}

static const uint8_t *text_end(struct scan *scan, const uint8_t *p) {
    p = skip_white(scan, p);
    return p == scan->end ? p : fail(&scan->fault, p, -EBADMSG);
}

// Labels in place of a state: each place of the grammar is a place of the code, and the way from one to the next a jump.
// Returns the end of the text, or NULL.
static const uint8_t *scan_plain(struct scan *scan, const uint8_t *p) {
    struct fault *fault = &scan->fault;
    for (;;) {
        p = skip_white(scan, p);
        if (p == scan->end)
            return fail(fault, p, -EBADMSG);
        if (*p == '{' || *p == '[') {
            p = open_container(scan, p);
            if (p == NULL)
                return NULL;
            p = skip_white(scan, p);
            if (p < scan->end && (*p == '}' || *p == ']'))
                goto after; // Empty. A closer of the wrong kind is refused there.
            if (!in_object(scan))
                continue;
            goto key;
        }
        p = scalar_end(scan, p);
        if (p == NULL)
            return NULL;
    after:
        for (;;) {
            if (scan->depth == 0)
                return text_end(scan, p);
            p = skip_white(scan, p);
            if (p == scan->end)
                return fail(fault, p, -EBADMSG);
            if (*p == ',')
                break;
            if (*p != (in_object(scan) ? '}' : ']'))
                return fail(fault, p, -EBADMSG);
            p++;
            close_container(scan, p);
        }
        p++;
        if (!in_object(scan))
            continue;
    key:
        p = key_end(scan, p);
        if (p == NULL)
            return NULL;
    }
}

// ---- Choice of the scanner

// The plain scanner alone, for machines without blocks, and for tests of the others against it.
static bool undecided(struct sc_bytes text, unsigned depth_max, struct sc_json_index *index) {
    (void)text, (void)depth_max, (void)index;
    return false;
}

// NULL where the machine lacks it.
static sc_scan_function *scan_function(enum sc_json_scan_level level) {
    if (level == SC_JSON_SCAN_SCALAR)
        return undecided;
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                __builtin_cpu_supports("bmi2");
    if (level == SC_JSON_SCAN_AVX2)
        return avx2 ? sc_scan_avx2 : NULL;
    if (level == SC_JSON_SCAN_SSE2)
        return sc_scan_sse2;
#elif defined(__aarch64__)
    if (level == SC_JSON_SCAN_NEON)
        return sc_scan_neon;
#endif
    return NULL;
}

// Chosen once, before main. Thread: set before threads start, or by a test that has one.
static sc_scan_function *scan_blocks = undecided;

bool sc_json_scan_use_level(enum sc_json_scan_level level) {
    sc_scan_function *function = scan_function(level);
    if (function != NULL)
        scan_blocks = function;
    return function != NULL;
}

__attribute__((constructor)) static void choose_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    // The last that there is is the best.
    for (int level = SC_JSON_SCAN_SCALAR; level <= SC_JSON_SCAN_NEON; level++)
        (void)sc_json_scan_use_level((enum sc_json_scan_level)level);
}

// After an error: a root member whose value is not complete goes, with the members found in it.
static void drop_incomplete(struct scan *scan) {
    struct sc_json_index *index = scan->index;
    index->root = (struct sc_json_value){0};
    int slot = scan->slot[1];
    if (slot >= 0 && index->members[slot].value.kind == SC_JSON_ABSENT)
        index->count = (uint16_t)slot;
    while (index->root_count > 0 && index->roots[index->root_count - 1] >= index->count)
        index->root_count--;
}

// Members stay as they are: only those below `count` are looked at, and clearing them all would cost more than a short scan.
static void clear(struct sc_json_index *index) {
    index->root = (struct sc_json_value){0};
    index->error_offset = 0;
    index->count = 0;
    index->root_count = 0;
    index->overflow = false;
}

int sc_json_scan(struct sc_bytes text, unsigned depth_max, struct sc_json_index *index) {
    assert(depth_max <= 255);
    clear(index);
    if (text.size == 0)
        return -EBADMSG;
    // A block scanner says yes only to texts that the plain one would take, with the same index. Its no means: look closer.
    if (scan_blocks(text, depth_max, index))
        return 0;
    clear(index);
    struct scan scan = {.begin = text.data,
                        .end = text.data + text.size,
                        .white = text.data,
                        .index = index,
                        .depth_max = depth_max,
                        .slot = {-1, -1, -1}};
    if (scan_plain(&scan, text.data) != NULL)
        return 0;
    drop_incomplete(&scan);
    index->error_offset = (size_t)(scan.fault.at - text.data);
    return scan.fault.rc;
}
