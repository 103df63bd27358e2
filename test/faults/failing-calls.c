/*
 * Preloaded into a service: one of its calls on files below a folder fails, the Nth of a kind. Told by the environment:
 * FAIL_DIR, FAIL_CALL (open read write short fsync link rename unlink close), FAIL_ERRNO, FAIL_AT (N, from 1), FAIL_LOG (a file that gets the path when it happens).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long passed;

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static int below(const char *path) {
  const char *dir = getenv("FAIL_DIR");
  size_t length = dir ? strlen(dir) : 0;
  return length > 0 && strncmp(path, dir, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* Is this the Nth such call? */
static int fails(const char *call, const char *path) {
  const char *kind = getenv("FAIL_CALL");
  if (kind == NULL || strcmp(kind, call) != 0 || !below(path)) return 0;
  if (atomic_fetch_add(&passed, 1) + 1 != atol(getenv("FAIL_AT"))) return 0;
  int log = REAL(open)(getenv("FAIL_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (log >= 0) {
    dprintf(log, "%s %s\n", call, path);
    syscall(SYS_close, log);
  }
  errno = atoi(getenv("FAIL_ERRNO"));
  return 1;
}

static int failsOn(const char *call, int fd) {
  const char *kind = getenv("FAIL_CALL");
  if (kind == NULL || strcmp(kind, call) != 0) return 0;
  char name[64], path[PATH_MAX];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(name, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return fails(call, path);
}

#define OPEN(name)                                             \
  int name(const char *path, int flags, ...) {                 \
    va_list more;                                              \
    va_start(more, flags);                                     \
    mode_t mode = va_arg(more, mode_t);                        \
    va_end(more);                                              \
    return fails("open", path) ? -1 : REAL(name)(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                    \
  int name(int dir, const char *path, int flags, ...) {                 \
    va_list more;                                                       \
    va_start(more, flags);                                              \
    mode_t mode = va_arg(more, mode_t);                                 \
    va_end(more);                                                       \
    return fails("open", path) ? -1 : REAL(name)(dir, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int fd, void *bytes, size_t size) { return failsOn("read", fd) ? -1 : REAL(read)(fd, bytes, size); }
ssize_t pread(int fd, void *bytes, size_t size, off_t at) { return failsOn("read", fd) ? -1 : REAL(pread)(fd, bytes, size, at); }
ssize_t pread64(int fd, void *bytes, size_t size, off64_t at) { return failsOn("read", fd) ? -1 : REAL(pread64)(fd, bytes, size, at); }

/* A short write takes half of the bytes and is no error. */
#define HALF(fd, size) ((size) > 1 && failsOn("short", fd) ? (size) / 2 : (size))
ssize_t write(int fd, const void *bytes, size_t size) { return failsOn("write", fd) ? -1 : REAL(write)(fd, bytes, HALF(fd, size)); }
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return failsOn("write", fd) ? -1 : REAL(pwrite)(fd, bytes, HALF(fd, size), at); }
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) { return failsOn("write", fd) ? -1 : REAL(pwrite64)(fd, bytes, HALF(fd, size), at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return failsOn("write", fd) ? -1 : REAL(writev)(fd, parts, count); }

int fsync(int fd) { return failsOn("fsync", fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return failsOn("fsync", fd) ? -1 : REAL(fdatasync)(fd); }
int link(const char *from, const char *to) { return fails("link", to) ? -1 : REAL(link)(from, to); }
int rename(const char *from, const char *to) { return fails("rename", to) ? -1 : REAL(rename)(from, to); }
int unlink(const char *path) { return fails("unlink", path) ? -1 : REAL(unlink)(path); }
int close(int fd) {
  int failed = failsOn("close", fd);
  int result = REAL(close)(fd);
  return failed ? (errno = atoi(getenv("FAIL_ERRNO")), -1) : result;
}

/* libuv closes by syscall(2). */
long syscall(long number, ...) {
  va_list more;
  va_start(more, number);
  long a[6];
  for (int i = 0; i < 6; i += 1) a[i] = va_arg(more, long);
  va_end(more);
  int failed = number == SYS_close && failsOn("close", (int)a[0]);
  long result = REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  return failed ? (errno = atoi(getenv("FAIL_ERRNO")), -1) : result;
}
