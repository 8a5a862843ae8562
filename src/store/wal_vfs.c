#include "store/wal_vfs.h"

#include "base/util.h"

#include <sqlite3.h>

#define GATHERED_MAX (128 * 1024)

/* SQLite's, the base's behind it. */
struct wal_file {
    sqlite3_file base; /* first: pMethods */
    sqlite3_file *real;
    char *bytes; /* NULL: never written to */
    size_t len;
    sqlite3_int64 at; /* where they belong */
};

static struct wal_file *wal_of(sqlite3_file *file)
{
    return (struct wal_file *)file;
}

/* After a failure what was gathered is gone: the commit fails, and is not tried again. */
static int flush(struct wal_file *f)
{
    size_t len = f->len;
    f->len = 0;
    return len > 0 ? f->real->pMethods->xWrite(f->real, f->bytes, (int)len, f->at) : SQLITE_OK;
}

static int wal_close(sqlite3_file *file)
{
    struct wal_file *f = wal_of(file);
    int rc = flush(f), closed = f->real->pMethods->xClose(f->real);
    free(f->bytes);
    return rc == SQLITE_OK ? closed : rc;
}

static int wal_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    struct wal_file *f = wal_of(file);
    int rc = flush(f);
    return rc == SQLITE_OK ? f->real->pMethods->xRead(f->real, to, n, at) : rc;
}

static int wal_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    struct wal_file *f = wal_of(file);
    size_t len = (size_t)n;
    if (f->len > 0 && (at != f->at + (sqlite3_int64)f->len || f->len + len > GATHERED_MAX)) {
        int rc = flush(f);
        if (rc != SQLITE_OK)
            return rc;
    }
    if (len > GATHERED_MAX)
        return f->real->pMethods->xWrite(f->real, from, n, at);
    if (!f->bytes)
        f->bytes = xmalloc(GATHERED_MAX);
    if (f->len == 0)
        f->at = at;
    memcpy(f->bytes + f->len, from, len);
    f->len += len;
    return SQLITE_OK;
}

static int wal_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct wal_file *f = wal_of(file);
    int rc = flush(f);
    return rc == SQLITE_OK ? f->real->pMethods->xTruncate(f->real, size) : rc;
}

static int wal_sync(sqlite3_file *file, int flags)
{
    struct wal_file *f = wal_of(file);
    int rc = flush(f);
    return rc == SQLITE_OK ? f->real->pMethods->xSync(f->real, flags) : rc;
}

static int wal_size(sqlite3_file *file, sqlite3_int64 *ret)
{
    struct wal_file *f = wal_of(file);
    int rc = flush(f);
    return rc == SQLITE_OK ? f->real->pMethods->xFileSize(f->real, ret) : rc;
}

static int wal_lock(sqlite3_file *file, int level)
{
    struct wal_file *f = wal_of(file);
    return f->real->pMethods->xLock(f->real, level);
}

static int wal_unlock(sqlite3_file *file, int level)
{
    struct wal_file *f = wal_of(file);
    return f->real->pMethods->xUnlock(f->real, level);
}

static int wal_check_lock(sqlite3_file *file, int *ret)
{
    struct wal_file *f = wal_of(file);
    return f->real->pMethods->xCheckReservedLock(f->real, ret);
}

static int wal_control(sqlite3_file *file, int op, void *arg)
{
    struct wal_file *f = wal_of(file);
    int rc = flush(f);
    return rc == SQLITE_OK ? f->real->pMethods->xFileControl(f->real, op, arg) : rc;
}

static int wal_sector(sqlite3_file *file)
{
    struct wal_file *f = wal_of(file);
    return f->real->pMethods->xSectorSize(f->real);
}

static int wal_characteristics(sqlite3_file *file)
{
    struct wal_file *f = wal_of(file);
    return f->real->pMethods->xDeviceCharacteristics(f->real);
}

/* Version 1: a log is neither mapped nor shared. */
static const sqlite3_io_methods wal_methods = {
    .iVersion = 1,
    .xClose = wal_close,
    .xRead = wal_read,
    .xWrite = wal_write,
    .xTruncate = wal_truncate,
    .xSync = wal_sync,
    .xFileSize = wal_size,
    .xLock = wal_lock,
    .xUnlock = wal_unlock,
    .xCheckReservedLock = wal_check_lock,
    .xFileControl = wal_control,
    .xSectorSize = wal_sector,
    .xDeviceCharacteristics = wal_characteristics,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    sqlite3_vfs *real = vfs->pAppData;
    if (!(flags & SQLITE_OPEN_WAL))
        return real->xOpen(real, name, file, flags, ret_flags);
    struct wal_file *f = wal_of(file);
    *f = (struct wal_file){.real = (sqlite3_file *)(f + 1)};
    int rc = real->xOpen(real, name, f->real, flags, ret_flags);
    if (rc == SQLITE_OK)
        f->base.pMethods = &wal_methods; /* else it stays NULL, and is not closed */
    return rc;
}

const char *wal_vfs_over(const char *base)
{
    sqlite3_vfs *real = sqlite3_vfs_find(base);
    if (!real)
        return NULL;
    _cleanup_(freep) char *name = xasprintf("gathered-%s", real->zName);
    sqlite3_vfs *vfs = sqlite3_vfs_find(name);
    if (!vfs) {
        /* Known to SQLite until the program ends. What is not opening is the base's own, which looks at nothing of it. */
        vfs = xmemdup(real, sizeof(*real));
        vfs->zName = steal(&name);
        vfs->pNext = NULL;
        vfs->pAppData = real;
        vfs->szOsFile = (int)sizeof(struct wal_file) + real->szOsFile;
        vfs->xOpen = vfs_open;
        sqlite3_vfs_register(vfs, 0);
    }
    return vfs->zName;
}
