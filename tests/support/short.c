/* Writes and reads at most TERSOR_SHORT bytes at a time, as a system may; 0 of them where that says 0. Preloaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>

static size_t cut(int fd, size_t n) {
    const char *most = getenv("TERSOR_SHORT");
    size_t limit = most ? (size_t)atol(most) : n;
    return fd > 2 && n > limit ? limit : n;
}

#define CALL(name, buffer, ...) ((ssize_t (*)(int, buffer, size_t, ##__VA_ARGS__))dlsym(RTLD_NEXT, name))

ssize_t write(int fd, const void *b, size_t n) { return CALL("write", const void *)(fd, b, cut(fd, n)); }
ssize_t read(int fd, void *b, size_t n) {
    size_t some = cut(fd, n);
    return CALL("read", void *)(fd, b, some ? some : n);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off_t at) {
    return CALL("pwrite64", const void *, off_t)(fd, b, cut(fd, n), at);
}
ssize_t pread64(int fd, void *b, size_t n, off_t at) {
    size_t some = cut(fd, n);
    return CALL("pread64", void *, off_t)(fd, b, some ? some : n, at);
}
