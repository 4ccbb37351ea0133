/* A disk that fails under a real process: preloaded (LD_PRELOAD), it lets reads, writes or syncs of some files fail with EIO
 * while a file says so.
 *
 *     DISK_FAILS_FILE   where that file is. It holds two words, such as "sync /store/restante.db": which calls fail
 *                       (read, write, sync), and what a file's path must contain.
 *
 * A call that fails does nothing, as if the kernel had found out before it began.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssize_t (*plain_read)(int, void *, size_t);

static int fails(const char *call, int fd) {
    const char *said_in = getenv("DISK_FAILS_FILE");
    int file = said_in == NULL ? -1 : open(said_in, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (plain_read == NULL) plain_read = dlsym(RTLD_NEXT, "read");
    char said[256] = "", which[16] = "", where[128] = "", link[64], path[PATH_MAX] = "";
    ssize_t size = plain_read(file, said, sizeof said - 1);
    close(file);
    if (size <= 0 || sscanf(said, "%15s %127s", which, where) != 2 || strcmp(which, call) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0 || strstr(path, where) == NULL) return 0;
    errno = EIO;
    return 1;
}

#define FAILING(result, name, call, parameters, arguments)                    \
    result name parameters {                                                  \
        static result (*plain) parameters;                                    \
        if (plain == NULL) plain = dlsym(RTLD_NEXT, #name);                   \
        return fails(call, fd) ? -1 : plain arguments;                        \
    }

FAILING(ssize_t, read, "read", (int fd, void *to, size_t size), (fd, to, size))
FAILING(ssize_t, pread, "read", (int fd, void *to, size_t size, off_t at), (fd, to, size, at))
FAILING(ssize_t, pread64, "read", (int fd, void *to, size_t size, off64_t at), (fd, to, size, at))
FAILING(ssize_t, write, "write", (int fd, const void *from, size_t size), (fd, from, size))
FAILING(ssize_t, pwrite, "write", (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
FAILING(ssize_t, pwrite64, "write", (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at))
FAILING(int, fsync, "sync", (int fd), (fd))
FAILING(int, fdatasync, "sync", (int fd), (fd))
