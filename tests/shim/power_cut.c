/*
 * Preloaded: a power cut without a machine. Below one directory every write, truncation, sync, renaming and
 * unlinking is a step; what a write or truncation replaces is kept until the file is synced. At the step that
 * was asked for, everything not synced is undone, newest first, and the process ends at once.
 *
 * Names (create, rename, unlink) are taken to be durable at once, contents are not. A file is told by device
 * and inode, since it may be open twice. Memory-mapped files are not followed: SQLite maps only its -shm,
 * which it makes anew after a crash.
 *
 *   void power_cut_arm(const char *directory, long step)    begin; the power goes before that step
 *   void power_cut_now(void)                                the power goes
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

struct undo {
    struct undo *older;
    dev_t device;
    ino_t inode;
    int fd; /* our own descriptor: the process may have closed its own, or unlinked the file */
    off_t size; /* of the file before */
    off_t offset;
    size_t length;
    char old[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct undo *newest;
static char directory[4096];
static size_t directory_length;
static long cut_at, steps;

void power_cut_arm(const char *path, long at)
{
    snprintf(directory, sizeof directory, "%s", path);
    directory_length = strlen(directory);
    cut_at = at;
    steps = 0;
}

static int below_path(const char *path)
{
    return directory_length && strncmp(path, directory, directory_length) == 0;
}

static int is_below(int fd)
{
    char link[64], path[4096];
    ssize_t length;
    if (!directory_length)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (length > 4 && strcmp(path + length - 4, "-shm") == 0)
        return 0;
    return below_path(path);
}

static void cut(void)
{
    struct undo *each;
    for (each = newest; each; each = each->older) {
        if (each->length && REAL(pwrite)(each->fd, each->old, each->length, each->offset) < 0)
            _exit(98);
        if (REAL(ftruncate)(each->fd, each->size) < 0)
            _exit(99);
    }
    _exit(137);
}

static void step(void)
{
    if (++steps >= cut_at)
        cut();
}

void power_cut_now(void)
{
    pthread_mutex_lock(&lock);
    cut();
}

/* Keep what a write of `length` bytes at `offset` is about to replace. */
static void keep(int fd, off_t offset, size_t length)
{
    struct stat status;
    struct undo *undo;
    char link[64];
    if (fstat(fd, &status) < 0)
        _exit(97);
    if (offset >= status.st_size)
        length = 0;
    else if (offset + (off_t)length > status.st_size)
        length = status.st_size - offset;
    undo = malloc(sizeof *undo + length);
    if (!undo)
        _exit(96);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    undo->fd = REAL(open)(link, O_RDWR | O_CLOEXEC);
    if (undo->fd < 0)
        _exit(95);
    undo->device = status.st_dev;
    undo->inode = status.st_ino;
    undo->size = status.st_size;
    undo->offset = offset;
    undo->length = length;
    if (length && pread(undo->fd, undo->old, length, offset) != (ssize_t)length)
        _exit(94);
    undo->older = newest;
    newest = undo;
}

/* The file is durable: what was kept of it is not needed any more. */
static void synced(int fd)
{
    struct stat status;
    struct undo **link = &newest;
    if (fstat(fd, &status) < 0)
        return;
    while (*link) {
        struct undo *undo = *link;
        if (undo->device == status.st_dev && undo->inode == status.st_ino) {
            *link = undo->older;
            REAL(close)(undo->fd);
            free(undo);
        } else {
            link = &undo->older;
        }
    }
}

#define GUARDED(check, before, call)      \
    do {                                  \
        if (!(check))                     \
            return call;                  \
        pthread_mutex_lock(&lock);        \
        step();                           \
        before;                           \
        __typeof__(call) result_ = call;  \
        int error_ = errno;               \
        pthread_mutex_unlock(&lock);      \
        errno = error_;                   \
        return result_;                   \
    } while (0)

static off_t position(int fd)
{
    struct stat status;
    if (fcntl(fd, F_GETFL) & O_APPEND)
        return fstat(fd, &status) < 0 ? 0 : status.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t length)
{
    GUARDED(is_below(fd), keep(fd, position(fd), length), REAL(write)(fd, data, length));
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    GUARDED(is_below(fd), keep(fd, offset, length), REAL(pwrite)(fd, data, length, offset));
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    GUARDED(is_below(fd), keep(fd, offset, length), REAL(pwrite64)(fd, data, length, offset));
}

/* A truncation loses the file's tail; an extension only its new size. */
int ftruncate(int fd, off_t size)
{
    GUARDED(is_below(fd), keep(fd, size, (size_t)1 << 40), REAL(ftruncate)(fd, size));
}

int ftruncate64(int fd, off64_t size)
{
    GUARDED(is_below(fd), keep(fd, size, (size_t)1 << 40), REAL(ftruncate64)(fd, size));
}

int fsync(int fd)
{
    int below = is_below(fd), result;
    if (!below)
        return REAL(fsync)(fd);
    pthread_mutex_lock(&lock);
    step();
    result = REAL(fsync)(fd);
    if (result == 0)
        synced(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

int fdatasync(int fd)
{
    int below = is_below(fd), result;
    if (!below)
        return REAL(fdatasync)(fd);
    pthread_mutex_lock(&lock);
    step();
    result = REAL(fdatasync)(fd);
    if (result == 0)
        synced(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path)
{
    GUARDED(below_path(path), (void)0, REAL(unlink)(path));
}

int rename(const char *from, const char *to)
{
    GUARDED(below_path(from), (void)0, REAL(rename)(from, to));
}
