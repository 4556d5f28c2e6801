// The scanner, compiled once per instruction set by scan.c. It expects three macros: SCAN_NAME, the
// function; SCAN_TARGET, its attributes; SCAN_RUN_END, which skips the plain characters of a string.
//
// One loop over three places of the grammar: before a value, after a value, before a key. What is open
// is one bit per level, so hostile nesting costs neither stack nor memory.

// Validates a string from after its opening quote. Returns its closing quote, or NULL with `scan->rc`.
SCAN_TARGET static inline const uint8_t *SCAN_STRING(struct scan *scan, const uint8_t *p,
                                                     bool *escaped) {
    for (;;) {
        p = SCAN_RUN_END(p, scan->end);
        if (p == scan->end)
            return fail(scan, p, -EBADMSG);
        uint8_t c = *p;
        if (c == '"')
            return p;
        const uint8_t *next;
        if (c == '\\') {
            *escaped = true;
            next = escape_end(scan, p);
        } else if (c >= 0x80) {
            next = utf8_end(scan, p);
        } else {
            return fail(scan, p, -EBADMSG);
        }
        if (next == NULL)
            return NULL;
        p = next;
    }
}

// Reads `"key" :`. Returns what follows the colon.
SCAN_TARGET static inline const uint8_t *SCAN_KEY(struct scan *scan, const uint8_t *p) {
    p = skip_white(scan, p);
    if (p == scan->end || *p != '"')
        return fail(scan, p, -EBADMSG);
    const uint8_t *key = p + 1;
    bool escaped = false;
    p = SCAN_STRING(scan, key, &escaped);
    if (p == NULL)
        return NULL;
    if (scan->depth <= scan->record_depth)
        begin_member(scan, (struct sc_bytes){key, (size_t)(p - key)}, escaped);
    p++;
    if (p < scan->end && *p != ':')
        p = skip_white(scan, p);
    if (p == scan->end || *p != ':')
        return fail(scan, p, -EBADMSG);
    return p + 1;
}

SCAN_TARGET static int SCAN_NAME(struct scan *scan, const uint8_t *p) {
    for (;;) {
        p = skip_white(scan, p);
        if (p == scan->end)
            return stop(scan, p, -EBADMSG);
        const uint8_t *start = p;
        bool escaped = false;
        uint8_t kind;
        switch (*p) {
        case '"':
            p = SCAN_STRING(scan, p + 1, &escaped);
            kind = SC_JSON_STRING;
            p = p == NULL ? NULL : p + 1;
            break;
        case '{':
        case '[':
            p = open_container(scan, p);
            if (p == NULL)
                return scan->rc;
            p = skip_white(scan, p);
            if (p < scan->end && (*p == '}' || *p == ']'))
                goto after; // Empty. A closer of the wrong kind is refused there.
            if (!in_object(scan))
                continue;
            goto key;
        case 't':
            p = literal_end(scan, p, "true", 4);
            kind = SC_JSON_TRUE;
            break;
        case 'f':
            p = literal_end(scan, p, "false", 5);
            kind = SC_JSON_FALSE;
            break;
        case 'n':
            p = literal_end(scan, p, "null", 4);
            kind = SC_JSON_NULL;
            break;
        default:
            p = number_end(scan, p);
            kind = SC_JSON_NUMBER;
            break;
        }
        if (p == NULL)
            return scan->rc;
        if (scan->depth <= scan->record_depth)
            end_scalar(scan, start, p, kind, escaped);
    after:
        for (;;) {
            if (scan->depth == 0)
                return end_text(scan, p);
            p = skip_white(scan, p);
            if (p == scan->end)
                return stop(scan, p, -EBADMSG);
            if (*p == ',')
                break;
            if (*p != (in_object(scan) ? '}' : ']'))
                return stop(scan, p, -EBADMSG);
            p++;
            close_container(scan, p);
        }
        p++;
        if (!in_object(scan))
            continue;
    key:
        p = SCAN_KEY(scan, p);
        if (p == NULL)
            return scan->rc;
    }
}

#undef SCAN_NAME
#undef SCAN_KEY
#undef SCAN_STRING
#undef SCAN_TARGET
#undef SCAN_RUN_END
