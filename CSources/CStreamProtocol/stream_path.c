// The path of a stream client's request.
#include "CStreamProtocol.h"

// A segment is at most as long as a name whose every byte is written as an escape: a longer one names nothing, and decoding
// needs a room of fixed size. Empty segments name nothing either, since a name that was left out by mistake looks like one.
int sc_stream_path_read(struct sc_bytes path, struct sc_stream_path *out) {
    out->joins = out->has_item = false;
    if (sc_bytes_equal(path, SC_LITERAL("/")))
        return 0;
    if (path.size < 8 || memcmp(path.data, "/stream/", 8) != 0)
        return 404;
    size_t at = 8, count = 0;
    while (at < path.size) {
        const uint8_t *slash = memchr(path.data + at, '/', path.size - at);
        size_t end = slash == NULL ? path.size : (size_t)(slash - path.data);
        struct sc_bytes segment = {path.data + at, end - at};
        if (count == 3 || segment.size == 0 || segment.size > sizeof out->storage[0])
            return 404;
        ssize_t size = sc_http_path_decode(segment, out->storage[count]);
        if (size < 0)
            return 400;
        if (size > SC_NAME_SIZE_MAX)
            return 404;
        out->parts[count] = (struct sc_bytes){out->storage[count], (size_t)size};
        count++;
        at = end + 1;
    }
    out->joins = true;
    out->has_item = count == 3;
    return count < 2 ? 404 : 0;
}

// The parts point into the path's own storage, so a plain copy would point into the original.
void sc_stream_path_copy(struct sc_stream_path *out, const struct sc_stream_path *path) {
    *out = *path;
    for (size_t i = 0; i < sizeof out->parts / sizeof out->parts[0]; i++)
        out->parts[i].data = out->storage[i];
}
