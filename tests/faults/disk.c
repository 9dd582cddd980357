/* A disk that fails on demand, for tests: loaded by LD_PRELOAD, told by FULMEN_FAULT="call:errno[:skip]".
 * call is one of write, fsync, rename, symlink, create; only files in a folder *.fault whose name holds "ckpt" are hit.
 * After `skip` good calls (for write: bytes) every further one fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static long done;
static char current[64];

static int fails(const char *call, const char *path, long amount) {
    const char *fault = getenv("FULMEN_FAULT");
    size_t length = strlen(call);
    if (fault == NULL || strncmp(fault, call, length) != 0 || fault[length] != ':') return 0;
    if (path == NULL || strstr(path, "ckpt") == NULL || strstr(path, ".fault") == NULL) return 0;
    if (strncmp(current, fault, sizeof current - 1) != 0) { /* another fault than before: count anew */
        strncpy(current, fault, sizeof current - 1);
        done = 0;
    }
    char *rest;
    long number = strtol(fault + length + 1, &rest, 10);
    long skip = *rest == ':' ? strtol(rest + 1, NULL, 10) : 0;
    done += amount;
    if (done <= skip) return 0;
    errno = (int)number;
    return 1;
}

static const char *name_of(int descriptor, char *buffer, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, buffer, size - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return buffer;
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    char name[4096];
    if (real == NULL) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (getenv("FULMEN_FAULT") != NULL && fails("write", name_of(descriptor, name, sizeof name), (long)count)) return -1;
    return real(descriptor, bytes, count);
}

int fsync(int descriptor) {
    static int (*real)(int);
    char name[4096];
    if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (fails("fsync", name_of(descriptor, name, sizeof name), 1)) return -1;
    return real(descriptor);
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (real == NULL) real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    return fails("rename", to, 1) ? -1 : real(from, to);
}

int symlink(const char *target, const char *path) {
    static int (*real)(const char *, const char *);
    if (real == NULL) real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "symlink");
    return fails("symlink", path, 1) ? -1 : real(target, path);
}

static int opened(const char *path, int flags, va_list arguments, const char *symbol) {
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, symbol);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    if ((flags & O_CREAT) && fails("create", path, 1)) return -1;
    return real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    int result = opened(path, flags, arguments, "open");
    va_end(arguments);
    return result;
}

int open64(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    int result = opened(path, flags, arguments, "open64");
    va_end(arguments);
    return result;
}
