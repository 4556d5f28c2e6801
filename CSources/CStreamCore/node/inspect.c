// A directory's snapshots and logs as lines of JSON, for people and scripts.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "node.h"

// `out` is one line that is filled again and again; `line` borrows it for the call. NULL: only the sums are wanted.
struct printing {
    void *context;
    void (*line)(void *context, struct sc_bytes json);
    struct sc_storage_summary *summary;
    struct sc_buffer out;
    struct sc_json_updater *updater;
    struct sc_json_index *scratch;
};

static void add_text(struct sc_buffer *out, const char *name, struct sc_bytes value) {
    sc_buffer_append(out, name, strlen(name));
    sc_json_write_string(out, value);
}

static void add_number(struct sc_buffer *out, const char *name, uint64_t value) {
    uint8_t digits[20];
    sc_buffer_append(out, name, strlen(name));
    sc_buffer_append(out, digits, sc_decimal_write(digits, value));
}

// A line is whole or absent: memory that is out leaves lines out, and the sums say how many there should be.
static void end_line(struct printing *printing) {
    sc_buffer_append_bytes(&printing->out, SC_LITERAL("}"));
    if (!printing->out.failed)
        printing->line(printing->context, sc_buffer_bytes(&printing->out));
    printing->out.size = 0;
}

static void print_batch(void *context, const char *file, uint64_t offset, uint64_t number,
                        uint64_t ceiling_ms, uint32_t count) {
    struct printing *printing = context;
    printing->summary->batches++;
    if (printing->line == NULL)
        return;
    struct sc_buffer *out = &printing->out;
    add_text(out, "{\"batch\":{\"file\":", (struct sc_bytes){(const uint8_t *)file, strlen(file)});
    add_number(out, ",\"offset\":", offset);
    add_number(out, ",\"number\":", number);
    add_number(out, ",\"ceiling\":", ceiling_ms);
    add_number(out, ",\"records\":", count);
    sc_buffer_append_bytes(out, SC_LITERAL("}"));
    end_line(printing);
}

// Values are JSON already, and stand in the line as they are.
static void print_record(void *context, const char *kind, struct sc_bytes stream,
                         struct sc_bytes group, struct sc_bytes item, struct sc_bytes value,
                         uint64_t position, uint64_t place, uint64_t stamp_ms) {
    struct printing *printing = context;
    printing->summary->records++;
    if (printing->line == NULL)
        return;
    struct sc_buffer *out = &printing->out;
    bool is_set = strcmp(kind, "set") == 0, is_update = strcmp(kind, "update") == 0;
    add_text(out, "{\"kind\":", (struct sc_bytes){(const uint8_t *)kind, strlen(kind)});
    add_number(out, ",\"position\":", position);
    if (is_set || is_update || strcmp(kind, "delete") == 0) {
        add_text(out, ",\"stream\":", stream);
        add_text(out, ",\"group\":", group);
        add_text(out, ",\"item\":", item);
        add_number(out, ",\"timestamp\":", stamp_ms);
    }
    if (is_set || is_update) {
        add_number(out, ",\"place\":", place);
        sc_buffer_append_bytes(out,
                               is_set ? SC_LITERAL(",\"value\":") : SC_LITERAL(",\"operations\":"));
        sc_buffer_append_bytes(out, value);
    }
    end_line(printing);
}

// A record of an update has operations only. Its value is made as a start would make it.
static int apply(void *context, struct sc_bytes value, struct sc_bytes operations,
                 struct sc_bytes *result) {
    struct printing *printing = context;
    return sc_operations_apply(printing->updater, printing->scratch, value, operations, result);
}

struct reports {
    void *context;
    void (*line)(void *context, struct sc_bytes text);
};

static void report(void *context, enum sc_report_level level, const char *event, const char *text) {
    (void)level;
    (void)event;
    const struct reports *reports = context;
    reports->line(reports->context, (struct sc_bytes){(const uint8_t *)text, strlen(text)});
}

// Reads, and takes no lock: a directory may be inspected while a node runs. What that node is writing may look cut off. The loop is a
// small one of this thread, for nothing but the files.
int sc_storage_inspect(const char *path, void *context,
                       void (*line)(void *context, struct sc_bytes json),
                       void (*remark)(void *context, struct sc_bytes text),
                       struct sc_storage_summary *summary, char *reason) {
    *summary = (struct sc_storage_summary){0};
    struct sc_loop_config loop_config = {.receive_buffer_count = 2};
    struct sc_loop *loop;
    int rc = sc_loop_create(&loop_config, &loop);
    if (rc < 0) {
        sc_loop_explain(rc, reason, SC_REASON_SIZE);
        return rc;
    }
    struct reports reports = {context, remark};
    struct sc_directory_config config = {.path = path,
                                         .shard_count = 1,
                                         .ops = sc_loop_files(loop),
                                         .reporter = {.context = &reports, .report = report}};
    struct printing printing = {.context = context,
                                .line = line,
                                .summary = summary,
                                .updater = sc_json_updater_create(),
                                .scratch = malloc(sizeof *printing.scratch)};
    struct sc_inspection inspection = {
        .context = &printing, .batch = print_batch, .record = print_record, .apply = apply};
    if (printing.updater == NULL || printing.scratch == NULL) {
        rc = -ENOMEM;
        snprintf(reason, SC_REASON_SIZE, "out of memory");
    } else {
        rc = sc_directory_inspect(loop, &config, &inspection, reason);
    }
    sc_buffer_deinit(&printing.out);
    sc_json_updater_destroy(printing.updater);
    free(printing.scratch);
    sc_loop_destroy(loop);
    return rc;
}
