// node_simulation THEME FIRST COUNT [verbose]: runs so many seeds of a theme (enum node_simulator_theme), and stops at ten that
// fail. Exit 1: one did.
#include "CNodeSimulator.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    if (argc < 4)
        return 64;
    struct node_simulator_config config = {.theme = (enum node_simulator_theme)atoi(argv[1]),
                                           .verbose = argc > 4};
    uint64_t first = strtoull(argv[2], NULL, 10), count = strtoull(argv[3], NULL, 10), steps = 0;
    uint32_t failed = 0;
    for (config.seed = first; config.seed < first + count && failed < 10; config.seed++) {
        struct node_simulator_result result;
        char message[1024] = "";
        if (node_simulator_run(&config, &result, message, sizeof message) != 0) {
            failed++;
            puts(message);
            fflush(stdout);
        }
        steps += result.steps;
    }
    printf("%llu steps, %u seeds failed\n", (unsigned long long)steps, failed);
    return failed > 0;
}
