// Takes in a directory that the original wrote: a file for each group, `stream:<stream>:<group>` with percent signs,
// whose content is one JSON object in a small archive header (docs/wal-format.md, "The original's files"). The files
// stay as they are.
#define _GNU_SOURCE // memrchr
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node.h"

#define NAME_SIZE 256u
#define REPR_SIZE 8u

struct import {
    struct shard *shard;
    char *reason;
    int directory;
    int rc;
    uint64_t groups, items, broken, ambiguous;
};

static void say(struct import *import, enum sc_log_level level, const char *event,
                const char *text) {
    sc_shard_log(import->shard, level, event, 0,
                 (struct sc_bytes){(const uint8_t *)text, strlen(text)});
}

// A file that cannot be taken in ends the start, or with the option for it is left out.
static void broken(struct import *import, const char *file, const char *why) {
    const struct node *node = import->shard->node;
    char text[SC_REASON_SIZE];
    snprintf(text, sizeof text, "%s/%s cannot be taken in: %s", node->config.storage.path, file,
             why);
    import->broken++;
    if (node->config.storage.import_skips_broken) {
        say(import, SC_LOG_WARN, "import_skipped", text);
        return;
    }
    say(import, SC_LOG_ERROR, "import_failed", text);
    if (import->rc == 0)
        snprintf(import->reason, SC_REASON_SIZE, "%.400s; --import-skip-damaged goes on without it",
                 text);
    import->rc = -EBADMSG;
}

// ---- Names

static int hex(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

// Decodes a file name without its ending. False: it is not one of the original's.
static bool decode_name(const char *file, size_t size, uint8_t *out, size_t *out_size) {
    size_t at = 0;
    for (size_t i = 0; i < size; i++) {
        if (file[i] != '%') {
            out[at++] = (uint8_t)file[i];
            continue;
        }
        int high = i + 2 < size ? hex(file[i + 1]) : -1, low = i + 2 < size ? hex(file[i + 2]) : -1;
        if (high < 0 || low < 0)
            return false;
        out[at++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    *out_size = at;
    return true;
}

struct index_name {
    uint8_t bytes[NAME_SIZE];
    struct sc_bytes stream, group;
    bool ambiguous;
};

// Names of the original join stream and group by a colon, which either may have too. So a name with several is ambiguous, and is split
// where the operator says.
static const char *read_index_name(const char *file, bool at_last, struct index_name *name) {
    static const char prefix[] = "stream:";
    size_t size = strlen(file) - strlen(".bin"), decoded = 0, skip = sizeof prefix - 1;
    if (size > NAME_SIZE || !decode_name(file, size, name->bytes, &decoded) || decoded < skip ||
        memcmp(name->bytes, prefix, skip) != 0)
        return "its name is not that of a group";
    const uint8_t *rest = name->bytes + skip;
    size_t left = decoded - skip;
    const uint8_t *first = memchr(rest, ':', left), *last = memrchr(rest, ':', left);
    if (first == NULL)
        return "its name has a stream but no group";
    if (!sc_utf8_valid((struct sc_bytes){rest, left}))
        return "its name is not UTF-8";
    const uint8_t *colon = at_last ? last : first;
    name->stream = (struct sc_bytes){rest, (size_t)(colon - rest)};
    name->group = (struct sc_bytes){colon + 1, left - name->stream.size - 1};
    name->ambiguous = first != last;
    return NULL;
}

// ---- Content

// The JSON text in an archived string. False: it is none.
static bool archived_text(struct sc_bytes file, struct sc_bytes *text) {
    if (file.size < REPR_SIZE)
        return false;
    const uint8_t *repr = file.data + file.size - REPR_SIZE;
    if ((repr[0] & 0xc0) != 0x80) { // Up to eight bytes are inside, padded with 0xff.
        const uint8_t *end = memchr(repr, 0xff, REPR_SIZE);
        *text = (struct sc_bytes){repr, end == NULL ? REPR_SIZE : (size_t)(end - repr)};
        return true;
    }
    uint32_t word;
    int32_t offset;
    memcpy(&word, repr, sizeof word);
    memcpy(&offset, repr + sizeof word, sizeof offset);
    uint32_t size = (word & 0x3f) | (word & ~0xffu) >> 2;
    int64_t begin = (int64_t)(file.size - REPR_SIZE) + offset;
    if (begin < 0 || (uint64_t)begin + size > file.size - REPR_SIZE)
        return false;
    *text = (struct sc_bytes){file.data + begin, size};
    return true;
}

// The limits of a `set`: what could not be stored by a call is not stored by an import.
static const char *check_item(const struct import *import, const struct sc_json_member *member) {
    const struct sc_node_config *config = &import->shard->node->config;
    if (sc_json_unescaped_size(member->key) > SC_NAME_SIZE_MAX)
        return "the name of an item is longer than 256 bytes";
    if (member->value.depth > SC_VALUE_DEPTH_MAX)
        return "an item nests deeper than 124";
    if (member->value.text.size > config->value_size_max)
        return "an item is larger than limits.value_bytes";
    return NULL;
}

// An id may be written with six bytes a character. Values are stored as calls store them, without blanks.
static const char *import_item(struct import *import, const struct sc_group_name *name,
                               const struct sc_json_member *member) {
    uint8_t *bytes = sc_allocate(6 * SC_NAME_SIZE_MAX + member->value.text.size);
    size_t id_size = sc_json_unescape(member->key, bytes);
    uint8_t *value = bytes + 6 * SC_NAME_SIZE_MAX;
    size_t size = sc_json_compact(member->value, value);
    int rc = sc_store_import(import->shard->store, name, (struct sc_bytes){bytes, id_size},
                             (struct sc_bytes){value, size});
    free(bytes);
    import->items++;
    return rc < 0 ? "out of memory" : NULL;
}

static const char *import_group(struct import *import, const struct sc_group_name *name,
                                struct sc_bytes file) {
    struct sc_bytes text;
    if (!archived_text(file, &text))
        return "it does not end in an archived string";
    struct sc_json_index *index = &import->shard->index_scratch;
    if (sc_json_scan(text, SC_JSON_DEPTH_MAX, index) < 0 || index->root.kind != SC_JSON_OBJECT)
        return "its text is no JSON object";
    struct sc_json_value root = index->root;
    struct sc_json_member member;
    const char *problem = NULL;
    for (size_t offset = 0; problem == NULL && sc_json_next(root, &offset, &member);)
        problem = check_item(import, &member); // All of a group, or nothing of it.
    for (size_t offset = 0; problem == NULL && sc_json_next(root, &offset, &member);)
        problem = import_item(import, name, &member);
    import->groups += problem == NULL;
    return problem;
}

// A file that is no regular one could make the start wait for ever: it is opened without waiting, and refused.
static const char *read_whole(int directory, const char *file, struct sc_buffer *out) {
    int fd = openat(directory, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        if (fd >= 0)
            close(fd);
        return "it cannot be opened";
    }
    const char *problem = NULL;
    while (problem == NULL && out->size < (size_t)status.st_size) {
        uint8_t *room = sc_buffer_reserve(out, (size_t)status.st_size - out->size);
        ssize_t got = room == NULL ? -1 : read(fd, room, (size_t)status.st_size - out->size);
        if (got <= 0)
            problem = "it cannot be read";
        else
            out->size += (size_t)got;
    }
    close(fd);
    return problem;
}

// ---- The directory

static void say_ambiguous(struct import *import, const char *file, const struct index_name *name) {
    char text[SC_REASON_SIZE];
    snprintf(text, sizeof text,
             "%s could mean several groups, and is taken as group '%.*s' of stream '%.*s'; "
             "`iii-stream import DIR "
             "--split last` (into a directory without a log) splits such names at their last colon",
             file, (int)name->group.size, (const char *)name->group.data, (int)name->stream.size,
             (const char *)name->stream.data);
    import->ambiguous++;
    say(import, SC_LOG_WARN, "import_ambiguous", text);
}

// All shards list the directory, and each takes the files of its groups: nobody waits for another one.
static void import_file(const char *file, void *context) {
    struct import *import = context;
    struct shard *shard = import->shard;
    size_t size = strlen(file);
    if (size < 5 || strcmp(file + size - 4, ".bin") != 0)
        return;
    bool at_last = shard->node->config.storage.import_last;
    struct index_name name;
    const char *problem = read_index_name(file, at_last, &name);
    if (problem != NULL) {
        if (shard->index == 0) // It is no group of anybody's.
            broken(import, file, problem);
        return;
    }
    struct sc_group_name group = {name.stream, name.group,
                                  sc_store_hash(name.stream, name.group, shard->node->config.seed)};
    if (sc_shard_of(shard, group.hash) != shard)
        return;
    if (name.ambiguous && !at_last)
        say_ambiguous(import, file, &name);
    struct sc_buffer bytes = {0};
    problem = read_whole(import->directory, file, &bytes);
    if (problem == NULL)
        problem = import_group(import, &group, sc_buffer_bytes(&bytes));
    sc_buffer_deinit(&bytes);
    if (problem != NULL)
        broken(import, file, problem);
}

int sc_import_originals(struct shard *shard, char *reason) {
    struct import import = {
        .shard = shard, .reason = reason, .directory = sc_directory_fd(node_of(shard)->directory)};
    int rc = sc_loop_files(shard->loop)->list(shard->loop, import.directory, import_file, &import);
    if (rc < 0) {
        snprintf(reason, SC_REASON_SIZE, "cannot list %s: %s", shard->node->config.storage.path,
                 strerror(-rc));
        return rc;
    }
    if (import.groups > 0) {
        char text[160];
        snprintf(
            text, sizeof text,
            "shard %u took in %llu groups with %llu items from files of the original, which stay",
            shard->index, (unsigned long long)import.groups, (unsigned long long)import.items);
        say(&import, SC_LOG_INFO, "imported", text);
    }
    return import.rc;
}
