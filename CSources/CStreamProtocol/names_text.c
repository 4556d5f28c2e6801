// The results of `stream::list_groups`, ["g1","g2"], and of `stream::list_all`,
// {"stream":[{"id":"s1","groups":["g1","g2"]},…],"count":…}, written name by name.
#include "CStreamProtocol.h"

void sc_names_text_begin(struct sc_names_text *text, bool of_one_stream) {
    *text = (struct sc_names_text){.of_one_stream = of_one_stream};
    sc_buffer_append_bytes(&text->out,
                           of_one_stream ? SC_LITERAL("[") : SC_LITERAL("{\"stream\":["));
}

// One name at a time: a list of 300,000 groups is written in many turns, and nobody else waits for it.
void sc_names_text_add(struct sc_names_text *text, struct sc_bytes stream, struct sc_bytes group) {
    struct sc_buffer *out = &text->out;
    bool first = text->group_count++ == 0;
    if (!text->of_one_stream && (first || !sc_bytes_equal(text->stream, stream))) {
        sc_buffer_append_bytes(out, text->stream_count++ > 0 ? SC_LITERAL("]},{\"id\":")
                                                             : SC_LITERAL("{\"id\":"));
        sc_json_write_string(out, stream);
        sc_buffer_append_bytes(out, SC_LITERAL(",\"groups\":["));
        text->stream = stream;
    } else if (!first) {
        sc_buffer_append_bytes(out, SC_LITERAL(","));
    }
    sc_json_write_string(out, group);
}

void sc_names_text_end(struct sc_names_text *text) {
    struct sc_buffer *out = &text->out;
    if (text->of_one_stream) {
        sc_buffer_append_bytes(out, SC_LITERAL("]"));
        return;
    }
    uint8_t digits[20];
    sc_buffer_append_bytes(out, text->stream_count > 0 ? SC_LITERAL("]}],\"count\":")
                                                       : SC_LITERAL("],\"count\":"));
    sc_buffer_append(out, digits, sc_decimal_write(digits, text->stream_count));
    sc_buffer_append_bytes(out, SC_LITERAL("}"));
}
