// A WebSocket server that answers every message with itself, for the public conformance suite. It is the
// node's core as it is, listeners, handshake, frames, backlog and closing included; only what a stream
// client's message means is replaced: `.ci/conformance` links it in the place of the node's own.
//
// Prints the port and runs until its standard input ends.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../CSources/CStreamCore/shard/shard.h"

bool sc_stream_message(struct connection *connection, struct sc_bytes text) {
    if (!connection->binary && !sc_utf8_valid(text)) {
        sc_connection_close(connection, 1007, "text is not UTF-8");
        return true;
    }
    uint8_t opcode = connection->binary ? SC_WS_BINARY : SC_WS_TEXT;
    size_t header = sc_ws_header_size(text.size);
    struct slice slice =
        sc_frames_take(connection_shard(connection), LANE_PRIVATE, header + text.size);
    sc_ws_header_write(slice_data(slice), opcode, true, text.size, NULL);
    if (text.size > 0)
        memcpy(slice_data(slice) + header, text.data, text.size);
    sc_out_append(connection, slice);
    sc_slice_release(connection_shard(connection), slice);
    return true;
}

static void note(void *context, enum sc_log_level level, const char *event, uint64_t connection,
                 struct sc_bytes detail) {
    (void)context, (void)level, (void)connection;
    fprintf(stderr, "%s %.*s\n", event, (int)detail.size, (const char *)detail.data);
}

// III_IO: by what it talks to the kernel, as the setting `io`.
static uint32_t io_of_environment(void) {
    const char *name = getenv("III_IO");
    if (name != NULL && strcmp(name, "epoll") == 0)
        return SC_NODE_IO_EPOLL;
    return name != NULL && strcmp(name, "io_uring") == 0 ? SC_NODE_IO_URING : SC_NODE_IO_AUTO;
}

int main(void) {
    struct sc_node_config config = sc_node_config_default();
    config.io = io_of_environment();
    config.stream.port = 0;
    config.stream.budget = 256u << 20; // The suite asks for all it sent back,
    config.client_message_size_max = config.message_size_max; // and sends more than clients say.
    struct sc_node_events events = {.log =
                                        note}; // Without a worker port there are no other events.
    struct sc_node *node = sc_node_create(&config, &events);
    char reason[512] = "out of memory";
    if (node == NULL || sc_node_start(node, reason, sizeof reason) < 0) {
        fprintf(stderr, "echo server: %s\n", reason);
        return EXIT_FAILURE;
    }
    fprintf(stderr, "echo server: %s\n", sc_node_backend(node));
    printf("%u\n", sc_node_port(node, -1));
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    sc_node_stop(node, 1000);
    sc_node_destroy(node);
    return EXIT_SUCCESS;
}
