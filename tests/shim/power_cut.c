/*
 * Preloaded: a death at a chosen step; a power cut without a machine. Below one directory every write, truncation, sync, renaming and
 * unlinking is a step; what a write or truncation replaces is kept until the file is synced. At the step that
 * was asked for, everything not synced is undone, newest first, and the process ends at once.
 *
 * Names (create, rename, unlink) are taken to be durable at once, contents are not. A file is told by device
 * and inode, since it may be open twice. Memory-mapped files are not followed: SQLite maps only its -shm,
 * which it makes anew after a crash.
 *
 *   void power_cut_arm(const char *directory, long step)    begin; the power goes before that step
 *   void power_cut_now(void)                                the power goes
 *
 * A process that knows nothing of it dies where a plan says so: POWER_CUT_PLAN names a file with a `struct
 * plan`, which may change at any time, POWER_CUT_DIRECTORY the directory. What happens between two of the
 * named steps leaves no trace outside the process, so that to die there is to die at the one or the other:
 *
 *   publish     a PUBLISH with an alarm's `raised` is handed to the socket
 *   puback      a PUBACK has come
 *   wal         a page is written to the write-ahead log
 *   commit      the write-ahead log is synced
 *   checkpoint  a page is written to the database
 *   database    a new database is moved to its place
 *   sound       sound is written to its segment
 *   sound_sync  the segment is synced
 *   erase       a segment is unlinked
 *   accepted    the journal is told that an alarm is safe
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
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

struct plan {
    int32_t armed;
    int32_t after; /* the step, not before it */
    int32_t discard; /* what is not synced; else it is a plain kill */
    int32_t times; /* die when the step is reached so often */
    char step[16];
};

static volatile struct plan *plan;
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

__attribute__((constructor)) static void read_plan(void)
{
    const char *file = getenv("POWER_CUT_PLAN"), *path = getenv("POWER_CUT_DIRECTORY");
    int fd;
    if (!file || !path)
        return;
    fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (plan == MAP_FAILED)
        plan = NULL;
    close(fd);
    power_cut_arm(path, INT64_MAX);
}

static int below_path(const char *path)
{
    return directory_length && strncmp(path, directory, directory_length) == 0;
}

static int ends(const char *path, const char *ending)
{
    size_t length = strlen(path), tail = strlen(ending);
    return length >= tail && strcmp(path + length - tail, ending) == 0;
}

static int path_of(int fd, char path[4096])
{
    char link[64];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, 4095);
    path[length < 0 ? 0 : length] = 0;
    return length >= 0;
}

static int is_below(int fd)
{
    char path[4096];
    if (!directory_length || !path_of(fd, path))
        return 0;
    return !ends(path, "-shm") && below_path(path);
}

static void cut(void)
{
    struct undo *each;
    for (each = newest; each; each = each->older) {
        /* a file system that has turned read-only keeps what it has synced, and no more */
        if (each->length && REAL(pwrite)(each->fd, each->old, each->length, each->offset) < 0 && errno != EROFS)
            _exit(98);
        if (REAL(ftruncate)(each->fd, each->size) < 0 && errno != EROFS)
            _exit(99);
    }
    _exit(137);
}

static void reached(const char *step, int after)
{
    if (!plan || !plan->armed || plan->after != after || strcmp((const char *)plan->step, step) != 0)
        return;
    if (--plan->times > 0)
        return;
    if (plan->discard)
        cut();
    kill(getpid(), SIGKILL);
}

/* The step that a write to this file is, or a sync of it. */
static const char *step_of(int fd, int sync)
{
    char path[4096];
    if (!plan || !path_of(fd, path))
        return "";
    if (ends(path, ".seg"))
        return sync ? "sound_sync" : "sound";
    if (ends(path, "-wal"))
        return sync ? "commit" : "wal";
    return ends(path, ".db") && !sync ? "checkpoint" : "";
}

/* Die at a step outside the directory. */
static void passed(const char *step, int after)
{
    pthread_mutex_lock(&lock);
    reached(step, after);
    pthread_mutex_unlock(&lock);
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
    if (undo->fd < 0) {
        if (errno != EROFS)
            _exit(95);
        free(undo);
        return; /* what is about to fail replaces nothing */
    }
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

#define GUARDED(check, name, before, call) \
    do {                                  \
        if (!(check))                     \
            return call;                  \
        const char *name_ = name;         \
        pthread_mutex_lock(&lock);        \
        step();                           \
        reached(name_, 0);                \
        before;                           \
        __typeof__(call) result_ = call;  \
        int error_ = errno;               \
        reached(name_, 1);                \
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

static int says(const void *data, size_t length, const char *words)
{
    return plan && plan->armed && memmem(data, length, words, strlen(words)) != NULL;
}

ssize_t write(int fd, const void *data, size_t length)
{
    if (fd == STDERR_FILENO && says(data, length, ": accepted, the ")) {
        ssize_t result;
        passed("accepted", 0);
        result = REAL(write)(fd, data, length);
        passed("accepted", 1);
        return result;
    }
    GUARDED(is_below(fd), step_of(fd, 0), keep(fd, position(fd), length), REAL(write)(fd, data, length));
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    GUARDED(is_below(fd), step_of(fd, 0), keep(fd, offset, length), REAL(pwrite)(fd, data, length, offset));
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    GUARDED(is_below(fd), step_of(fd, 0), keep(fd, offset, length), REAL(pwrite64)(fd, data, length, offset));
}

/* A truncation loses the file's tail; an extension only its new size. */
int ftruncate(int fd, off_t size)
{
    GUARDED(is_below(fd), "", keep(fd, size, (size_t)1 << 40), REAL(ftruncate)(fd, size));
}

int ftruncate64(int fd, off64_t size)
{
    GUARDED(is_below(fd), "", keep(fd, size, (size_t)1 << 40), REAL(ftruncate64)(fd, size));
}

#define SYNC(real)                        \
    do {                                  \
        int below = is_below(fd), result; \
        const char *name;                 \
        if (!below)                       \
            return REAL(real)(fd);        \
        name = step_of(fd, 1);            \
        pthread_mutex_lock(&lock);        \
        step();                           \
        reached(name, 0);                 \
        result = REAL(real)(fd);          \
        if (result == 0)                  \
            synced(fd);                   \
        reached(name, 1);                 \
        pthread_mutex_unlock(&lock);      \
        return result;                    \
    } while (0)

int fsync(int fd)
{
    SYNC(fsync);
}

int fdatasync(int fd)
{
    SYNC(fdatasync);
}

int unlink(const char *path)
{
    const char *name = ends(path, ".seg") ? "erase" : "";
    GUARDED(below_path(path), name, (void)0, REAL(unlink)(path));
}

int rename(const char *from, const char *to)
{
    const char *name = ends(from, ".db.new") ? "database" : "";
    GUARDED(below_path(from), name, (void)0, REAL(rename)(from, to));
}

ssize_t send(int fd, const void *data, size_t length, int flags)
{
    ssize_t result;
    /* 0x3…: MQTT's PUBLISH */
    if (!length || (*(const unsigned char *)data & 0xf0) != 0x30 || !says(data, length, "\"type\":\"raised\""))
        return REAL(send)(fd, data, length, flags);
    passed("publish", 0);
    result = REAL(send)(fd, data, length, flags);
    passed("publish", 1);
    return result;
}

ssize_t recv(int fd, void *data, size_t length, int flags)
{
    ssize_t result = REAL(recv)(fd, data, length, flags);
    /* a client reads a packet's first byte on its own; 0x40: PUBACK */
    if (plan && plan->armed && result == 1 && *(const unsigned char *)data == 0x40)
        passed("puback", 1);
    return result;
}
