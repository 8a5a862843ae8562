#include "fault_vfs.h"

#include <pthread.h>
#include <sqlite3.h>
#include <string.h>

struct fault_file {
    sqlite3_file base;
    sqlite3_file *real; /* behind this struct */
};

static struct {
    pthread_mutex_t mutex;
    unsigned calls;
    long countdown, times, count, hits;
    int code;
} armed = {.mutex = PTHREAD_MUTEX_INITIALIZER};

void fault_arm(unsigned calls, long countdown, long times, int code)
{
    pthread_mutex_lock(&armed.mutex);
    armed.calls = calls;
    armed.countdown = countdown;
    armed.times = times;
    armed.count = armed.hits = 0;
    armed.code = code;
    pthread_mutex_unlock(&armed.mutex);
}

void fault_disarm(void)
{
    pthread_mutex_lock(&armed.mutex);
    armed.calls = 0;
    pthread_mutex_unlock(&armed.mutex);
}

long fault_count(void)
{
    pthread_mutex_lock(&armed.mutex);
    long n = armed.count;
    pthread_mutex_unlock(&armed.mutex);
    return n;
}

long fault_hits(void)
{
    pthread_mutex_lock(&armed.mutex);
    long n = armed.hits;
    pthread_mutex_unlock(&armed.mutex);
    return n;
}

/* SQLITE_OK, or what this call fails with. */
static int strike(enum fault_call call)
{
    int rc = SQLITE_OK;
    pthread_mutex_lock(&armed.mutex);
    if (armed.calls & call) {
        long i = armed.count++ - armed.countdown;
        if (i >= 0 && i < armed.times) {
            rc = armed.code;
            armed.hits++;
        }
    }
    pthread_mutex_unlock(&armed.mutex);
    return rc;
}

#define REAL(file) (((struct fault_file *)(file))->real)

static int f_close(sqlite3_file *f)
{
    return REAL(f)->pMethods ? REAL(f)->pMethods->xClose(REAL(f)) : SQLITE_OK;
}
static int f_read(sqlite3_file *f, void *out, int n, sqlite3_int64 at)
{
    int rc = strike(FAULT_READ);
    return rc == SQLITE_OK ? REAL(f)->pMethods->xRead(REAL(f), out, n, at) : rc;
}
static int f_write(sqlite3_file *f, const void *data, int n, sqlite3_int64 at)
{
    int rc = strike(FAULT_WRITE);
    if (rc == SQLITE_OK)
        return REAL(f)->pMethods->xWrite(REAL(f), data, n, at);
    REAL(f)->pMethods->xWrite(REAL(f), data, n / 2, at);
    return rc;
}
static int f_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    int rc = strike(FAULT_TRUNCATE);
    return rc == SQLITE_OK ? REAL(f)->pMethods->xTruncate(REAL(f), size) : rc;
}
static int f_sync(sqlite3_file *f, int flags)
{
    int rc = strike(FAULT_SYNC);
    return rc == SQLITE_OK ? REAL(f)->pMethods->xSync(REAL(f), flags) : rc;
}
static int f_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return REAL(f)->pMethods->xFileSize(REAL(f), size);
}
static int f_lock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xLock(REAL(f), level);
}
static int f_unlock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xUnlock(REAL(f), level);
}
static int f_check(sqlite3_file *f, int *out)
{
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), out);
}
static int f_control(sqlite3_file *f, int op, void *arg)
{
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}
static int f_sector(sqlite3_file *f)
{
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}
static int f_device(sqlite3_file *f)
{
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}
static int f_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    int rc = extend ? strike(FAULT_MAP) : SQLITE_OK;
    return rc == SQLITE_OK ? REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, out) : rc;
}
static int f_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return REAL(f)->pMethods->xShmLock(REAL(f), offset, n, flags);
}
static void f_barrier(sqlite3_file *f)
{
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}
static int f_unmap(sqlite3_file *f, int remove)
{
    return REAL(f)->pMethods->xShmUnmap(REAL(f), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_check,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_device,
    .xShmMap = f_map,
    .xShmLock = f_shm_lock,
    .xShmBarrier = f_barrier,
    .xShmUnmap = f_unmap,
};

static int v_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    sqlite3_vfs *real = vfs->pAppData;
    struct fault_file *f = (struct fault_file *)file;
    f->base.pMethods = NULL;
    f->real = (sqlite3_file *)(f + 1);
    int rc = strike(FAULT_OPEN);
    if (rc == SQLITE_OK)
        rc = real->xOpen(real, name, f->real, flags, out);
    if (rc == SQLITE_OK)
        f->base.pMethods = &methods;
    return rc;
}

void fault_register(void)
{
    static sqlite3_vfs vfs;
    if (vfs.zName)
        return;
    sqlite3_vfs *real = sqlite3_vfs_find(NULL);
    vfs = *real;
    vfs.zName = FAULT_VFS;
    vfs.pNext = NULL;
    vfs.pAppData = real;
    vfs.szOsFile = (int)sizeof(struct fault_file) + real->szOsFile;
    vfs.xOpen = v_open;
    sqlite3_vfs_register(&vfs, 0);
}
