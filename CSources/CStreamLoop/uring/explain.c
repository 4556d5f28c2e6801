// Why there is no ring, in one sentence for an operator, with what to do about it.
#include "uring.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#define NEEDED "Linux 6.1 or newer is needed"

// Returns the number at the start of a file, or after `key` in it, or -1.
static long read_number(const char *path, const char *key) {
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    char line[256];
    long number = -1;
    size_t size = strlen(key);
    while (number < 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, size) == 0)
            number = strtol(line + size, NULL, 10);
    }
    fclose(file);
    return number;
}

static bool is_filtered(void) {
    return read_number("/proc/thread-self/status", "Seccomp:") > 0;
}

static const char *kernel_release(void) {
    static _Thread_local struct utsname name;
    return uname(&name) == 0 ? name.release : "unknown";
}

static void explain_refused(char *out, size_t size) {
    long disabled = read_number("/proc/sys/kernel/io_uring_disabled", "");
    if (disabled == 2)
        snprintf(out, size,
                 "io_uring is switched off: the sysctl kernel.io_uring_disabled is 2; set it to 0 "
                 "(sysctl -w kernel.io_uring_disabled=0)");
    else if (disabled == 1)
        snprintf(
            out, size,
            "io_uring is switched off for this user: the sysctl kernel.io_uring_disabled is 1; "
            "set it to 0, or add the user to the group of kernel.io_uring_group");
    else
        snprintf(
            out, size,
            "io_uring is refused by %s, as the default profiles of Docker and containerd do; run "
            "with --security-opt seccomp=<a profile that allows io_uring_setup, io_uring_enter "
            "and io_uring_register>, or with seccomp=unconfined",
            is_filtered() ? "a seccomp filter" : "a security policy, perhaps a seccomp filter");
}

static void explain_absent(char *out, size_t size) {
    if (is_filtered())
        snprintf(
            out, size,
            "io_uring is not there: a seccomp filter hides it, or the kernel (%s) is built without "
            "it; run with --security-opt seccomp=<a profile that allows io_uring_setup, "
            "io_uring_enter and io_uring_register>; " NEEDED,
            kernel_release());
    else
        snprintf(out, size, "the kernel (%s) has no io_uring; " NEEDED ", with CONFIG_IO_URING",
                 kernel_release());
}

static void explain_memory(const char *step, char *out, size_t size) {
    struct rlimit limit;
    char text[32] = "unlimited";
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        snprintf(text, sizeof text, "%llu KiB", (unsigned long long)limit.rlim_cur / 1024);
    snprintf(
        out, size,
        "no memory for an io_uring (%s): give the process more memory, or more locked memory than "
        "its limit of %s (ulimit -l, LimitMEMLOCK=)",
        step, text);
}

void uring_explain(int rc, const char *failed_step, char *out, size_t size) {
    const char *step = failed_step != NULL ? failed_step : "io_uring_setup";
    switch (rc) {
    case -EPERM:
    case -EACCES:
        explain_refused(out, size);
        break;
    case -ENOSYS:
        explain_absent(out, size);
        break;
    case -ENOMEM:
        explain_memory(step, out, size);
        break;
    case -EINVAL:
    case -EOPNOTSUPP:
        snprintf(out, size, "the kernel (%s) is too old: it refuses %s; " NEEDED, kernel_release(),
                 step);
        break;
    case -EMFILE:
    case -ENFILE:
        snprintf(out, size,
                 "no descriptor is left (%s): raise the limit of open files (ulimit -n, "
                 "LimitNOFILE=)",
                 step);
        break;
    default:
        snprintf(out, size, "io_uring cannot be used: %s failed: %s", step, strerrordesc_np(-rc));
    }
}
