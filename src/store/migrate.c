/* Connections, and the schema by versions: `PRAGMA user_version` counts the steps that were taken. */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define APPLICATION_ID 0x74726764 /* "trgd": what file(1) and the header of the file show */

/* Step i leads from version i to i + 1. Only ever append. */
static const char *const steps[] = {
#include "store/schema.inc"
    ,
    /* Inputs that hold references to secrets; event.referring. */
    "ALTER TABLE events ADD COLUMN referring TEXT",
#include "store/schema_3.inc"
    ,
};

static bool system_is_full(int e)
{
    return e == ENOSPC || e == EDQUOT;
}

int sqlite_code(sqlite3 *db, int rc, const char *path)
{
    int os = db ? sqlite3_system_errno(db) : 0;
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return -EACCES;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_INTERRUPT:
        return -ETIMEDOUT;
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
        return -EINVAL;
    case SQLITE_CANTOPEN:
        return os == EACCES || os == EROFS || os == ENOENT || os == EMFILE || os == ENFILE ? -os
               : system_is_full(os)                                                        ? -ENOSPC
                                                                                           : -EIO;
    case SQLITE_IOERR:
        /* Growing the log's index on a full disk comes as an I/O error without an errno. */
        if (system_is_full(os) || (rc == SQLITE_IOERR_SHMSIZE && disk_free(path) >= 0 && disk_free(path) < 65536))
            return -ENOSPC;
        return os == EROFS ? -EROFS : -EIO;
    default:
        return -EIO;
    }
}

int sqlite_error(sqlite3 *db, int rc, const char *path, const char *what, struct error *err)
{
    int code = sqlite_code(db, rc, path);
    if (code == -EBADMSG)
        return error_set(
            err, code,
            "%s is damaged (%s): restore it from a backup, or move it, its -wal and its -shm away to start "
            "with an empty one",
            path, sqlite3_errstr(rc));
    int os = db ? sqlite3_system_errno(db) : 0;
    if (code == -EIO && os != 0)
        return error_set(err, code, "%s: %s: %s: %s", path, what, sqlite3_errstr(rc), strerror(os));
    if (code == -ENOSPC || code == -EACCES || code == -EROFS || code == -ENOENT || code == -EMFILE || code == -ENFILE)
        return error_set(err, code, "%s: %s: %s", path, what, strerror(-code));
    return error_set(err, code, "%s: %s: %s", path, what, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
}

static int exec(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static int query_int(sqlite3 *db, const char *sql, int64_t *ret)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        *ret = sqlite3_column_int64(st, 0);
        rc = SQLITE_OK;
    }
    int finalized = sqlite3_finalize(st);
    return rc == SQLITE_DONE ? SQLITE_ERROR : finalized != SQLITE_OK ? finalized : rc;
}

static int is_wal(void *ret, int n, char **values, char **names)
{
    (void)names;
    *(bool *)ret = n == 1 && streq(values[0], "wal");
    return 0;
}

static int set_up(sqlite3 *db, enum connection kind)
{
    static const char *const common[] = {
        "PRAGMA temp_store=MEMORY",
        "PRAGMA mmap_size=0",
        "PRAGMA trusted_schema=OFF",
        "PRAGMA cell_size_check=ON",
        NULL,
    };
    /* The log is cut back to 8 MiB when it starts over; until then it is reused, which spares the file system its
     * bookkeeping. Checkpoints are the writer's own. */
    static const char *const writer[] = {
        "PRAGMA page_size=4096",
        "PRAGMA synchronous=FULL",
        "PRAGMA wal_autocheckpoint=0",
        "PRAGMA cache_size=-2048",
        "PRAGMA secure_delete=OFF",
        "PRAGMA foreign_keys=OFF",
        "PRAGMA journal_size_limit=8388608",
        NULL,
    };
    static const char *const reader[] = {"PRAGMA cache_size=-256", "PRAGMA query_only=ON", NULL};
    const char *const *lists[] = {common, kind == CONNECTION_WRITER ? writer : reader};
    for (size_t l = 0; l < ARRAY_SIZE(lists); l++)
        for (const char *const *sql = lists[l]; *sql; sql++) {
            int rc = exec(db, *sql);
            if (rc != SQLITE_OK)
                return rc;
        }
    bool wal = false;
    int rc = sqlite3_exec(db, kind == CONNECTION_WRITER ? "PRAGMA journal_mode=WAL" : "PRAGMA journal_mode", is_wal,
                          &wal, NULL);
    return rc == SQLITE_OK && !wal ? SQLITE_IOERR_LOCK : rc; /* a file system that cannot share memory */
}

/* Ours, and not newer than this program; changes nothing. */
static int check_version(sqlite3 *db, const char *path, int64_t *ret_version, struct error *err)
{
    int64_t version = 0, application = 0, objects = 0;
    int rc = query_int(db, "PRAGMA user_version", &version);
    if (rc == SQLITE_OK)
        rc = query_int(db, "PRAGMA application_id", &application);
    if (rc == SQLITE_OK)
        rc = query_int(db, "SELECT count(*) FROM sqlite_schema", &objects);
    if (rc != SQLITE_OK)
        return sqlite_error(db, rc, path, "cannot read", err);
    if (application != APPLICATION_ID && (application != 0 || version != 0 || objects != 0))
        return error_set(err, -EBADMSG, "%s is a database of another program; move it away", path);
    if (version < 0 || version > (int64_t)ARRAY_SIZE(steps))
        return error_set(err, -EPROTO, "%s was written by a newer triggerd (schema %lld, this one knows %zu)", path,
                         (long long)version, ARRAY_SIZE(steps));
    *ret_version = version;
    return 0;
}

int connection_open(const char *path, const char *vfs, enum connection kind, sqlite3 **ret, struct error *err)
{
    if (kind == CONNECTION_WRITER) {
        /* Ours to make, so that it, and what SQLite makes beside it in its likeness, is private. */
        _cleanup_(closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) {
            int code = -errno;
            return error_set(err, code, "%s: %s", path, strerror(-code));
        }
    }
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
                (kind == CONNECTION_WRITER ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
    int rc = sqlite3_open_v2(path, &db, flags, vfs);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(db, kind == CONNECTION_WRITER ? 5000 : 2000);
    int64_t version;
    int r = rc == SQLITE_OK && kind == CONNECTION_WRITER ? check_version(db, path, &version, err) : 0;
    if (r == 0 && rc == SQLITE_OK)
        rc = set_up(db, kind);
    if (rc != SQLITE_OK)
        r = sqlite_error(db, rc, path, "cannot open", err);
    if (r < 0) {
        sqlite3_close(db);
        return r;
    }
    *ret = db;
    return 0;
}

static int take_steps(sqlite3 *db, int64_t from)
{
    int rc = exec(db, "BEGIN IMMEDIATE");
    for (int64_t i = from; rc == SQLITE_OK && i < (int64_t)ARRAY_SIZE(steps); i++)
        rc = exec(db, steps[i]);
    if (rc == SQLITE_OK) {
        char sql[96];
        sqlite3_snprintf(sizeof(sql), sql, "PRAGMA application_id=%d; PRAGMA user_version=%d", APPLICATION_ID,
                         (int)ARRAY_SIZE(steps));
        rc = exec(db, sql);
    }
    if (rc == SQLITE_OK)
        rc = exec(db, "COMMIT");
    if (rc != SQLITE_OK && !sqlite3_get_autocommit(db))
        exec(db, "ROLLBACK");
    return rc;
}

int migrate_schema(sqlite3 *db, const char *path, struct error *err)
{
    int64_t version = 0;
    int r = check_version(db, path, &version, err);
    if (r < 0 || version == (int64_t)ARRAY_SIZE(steps))
        return r;
    int rc = take_steps(db, version);
    if (rc != SQLITE_OK)
        return sqlite_error(db, rc, path, "cannot bring the schema up to date", err);
    return 0;
}
