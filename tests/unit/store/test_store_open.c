/* The directory: made, private, locked; a database that is newer, damaged, another program's, read-only. */
#include "fixture.h"

#include <signal.h>
#include <sys/wait.h>

static int try_open(struct owner *o, struct error *err)
{
    error_clear(err);
    struct store_port *port = NULL;
    int r = store_open(&o->options, &port, err);
    assert_int_equal(r, err->code);
    store_close(port);
    return r;
}

static mode_t mode_of(const char *dir, const char *name)
{
    char path[256];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void run_sql(const char *dir, const char *sql)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/triggerd.db", dir);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void test_directory(void **state)
{
    (void)state;
    struct owner o;
    owner_init(&o, NULL);
    char deep[192];
    snprintf(deep, sizeof(deep), "%s/state/triggerd/", o.dir);
    o.options.dir = deep;
    mode_t old = umask(0);
    owner_open(&o, NULL);
    struct event e = make_event(o.port, "t", 1);
    assert_int_equal(insert_event(&o, &e), 0);
    umask(old);
    assert_int_equal(mode_of(o.dir, "state"), 0700);
    assert_int_equal(mode_of(deep, ""), 0700);
    static const char *const files[] = {"triggerd.db", "triggerd.db-wal", "triggerd.db-shm", "lock", "reserve"};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        assert_int_equal(mode_of(deep, files[i]), 0600);
    struct stat st;
    char path[256];
    snprintf(path, sizeof(path), "%s/reserve", deep);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4 << 20);
    assert_true(st.st_blocks >= st.st_size / 512);
    owner_close(&o);
    /* One file is left when it is closed. */
    snprintf(path, sizeof(path), "%s/triggerd.db-wal", deep);
    assert_int_equal(access(path, F_OK), -1);
    event_fini(&e);

    struct error err = ERROR_INIT;
    snprintf(path, sizeof(path), "%s/file", o.dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    o.options.dir = path;
    assert_int_equal(try_open(&o, &err), -ENOTDIR);
    assert_non_null(strstr(err.message, path));
    strcat(path, "/below");
    assert_int_equal(try_open(&o, &err), -ENOTDIR);
    o.options.dir = "";
    assert_int_equal(try_open(&o, &err), -EINVAL);
    owner_fini(&o);
}

static void test_lock(void **state)
{
    (void)state;
    struct owner o;
    struct error err = ERROR_INIT;
    owner_init(&o, NULL);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct store_port *port = NULL;
        char ready = store_open(&o.options, &port, NULL) == 0;
        if (write(fds[1], &ready, 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    char ready = 0, number[32];
    assert_int_equal(read(fds[0], &ready, 1), 1);
    assert_int_equal(ready, 1);
    assert_int_equal(try_open(&o, &err), -EBUSY);
    snprintf(number, sizeof(number), "process %ld", (long)pid);
    assert_non_null(strstr(err.message, number));
    assert_non_null(strstr(err.message, o.dir));
    /* A kill leaves no lock behind. */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(try_open(&o, &err), 0);
    /* Within a process too. */
    owner_open(&o, NULL);
    assert_int_equal(try_open(&o, &err), -EBUSY);
    close(fds[0]);
    close(fds[1]);
    owner_fini(&o);
}

static void test_versions(void **state)
{
    (void)state;
    struct owner o;
    struct error err = ERROR_INIT;
    owner_init(&o, NULL);
    owner_open(&o, NULL);
    struct store_group *g = new_group(0);
    struct event events[3];
    for (size_t i = 0; i < 3; i++) {
        events[i] = make_event(o.port, i == 1 ? "b" : "a", i + 1);
        store_add_event_insert(g, &events[i]);
    }
    assert_int_equal(submit_wait(&o, g), 0);
    for (size_t i = 0; i < 3; i++)
        event_fini(&events[i]);
    owner_close(&o);
    run_sql(o.dir, "PRAGMA user_version=7");
    assert_int_equal(try_open(&o, &err), -EPROTO);
    assert_non_null(strstr(err.message, "was written by a newer triggerd (schema 7, this one knows 3)"));
    assert_non_null(strstr(err.message, o.dir));
    run_sql(o.dir, "PRAGMA user_version=-1");
    assert_int_equal(try_open(&o, &err), -EPROTO);
    /* One of the first version is brought up to date. */
    run_sql(o.dir, "INSERT INTO counts SELECT 0,trigger_id,pipeline_id,event_type,status,decision,n FROM event_groups;"
                   "DROP INDEX events_by_group; DROP TABLE event_groups; ALTER TABLE events DROP COLUMN group_id;"
                   "ALTER TABLE events DROP COLUMN referring; CREATE INDEX events_by_trigger ON events (trigger_id);"
                   "CREATE INDEX events_by_status ON events (status);"
                   "CREATE INDEX events_by_decision ON events (decision) WHERE decision<>12; PRAGMA user_version=1");
    assert_int_equal(try_open(&o, &err), 0);
    assert_consistent(o.dir);
    run_sql(o.dir, "UPDATE events SET referring=NULL");

    /* Another program's is not touched. */
    char path[256];
    snprintf(path, sizeof(path), "%s/triggerd.db", o.dir);
    unlink(path);
    run_sql(o.dir, "CREATE TABLE theirs (x)");
    assert_int_equal(try_open(&o, &err), -EBADMSG);
    assert_non_null(strstr(err.message, "another program"));
    run_sql(o.dir, "INSERT INTO theirs VALUES (1)");
    owner_fini(&o);
}

static void overwrite(const char *dir, off_t at, const char *bytes, size_t len)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/triggerd.db", dir);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, at), len);
    close(fd);
}

static void test_damage(void **state)
{
    (void)state;
    static char junk[4096];
    memset(junk, 'j', sizeof(junk));
    static const off_t places[] = {0, 100, 4096};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct owner o;
        struct error err = ERROR_INIT;
        owner_init(&o, NULL);
        owner_open(&o, NULL);
        owner_close(&o);
        overwrite(o.dir, places[i], junk, sizeof(junk));
        assert_int_equal(try_open(&o, &err), -EBADMSG);
        assert_non_null(strstr(err.message, "/triggerd.db is damaged"));
        assert_non_null(strstr(err.message, "restore it"));
        /* The lock was let go. */
        assert_int_equal(try_open(&o, &err), -EBADMSG);
        owner_fini(&o);
    }
}

/* Damage that only a write meets: not writable until a restart, and ends are kept to the close. */
static void test_damage_later(void **state)
{
    (void)state;
    struct owner o;
    owner_init(&o, NULL);
    o.probe_ms = 1;
    owner_open(&o, NULL);
    struct event e = make_event(o.port, "t", 1), other = make_event(o.port, "t", 2);
    assert_int_equal(insert_event(&o, &e), 0);
    owner_close(&o);
    char path[256];
    snprintf(path, sizeof(path), "%s/triggerd.db", o.dir);
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT rootpage FROM sqlite_schema WHERE name='events_by_id'", -1, &st, NULL), 0);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    off_t page = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    static char junk[4096];
    memset(junk, 'j', sizeof(junk));
    overwrite(o.dir, (page - 1) * 4096, junk, sizeof(junk));
    owner_open(&o, NULL);
    assert_int_equal(insert_event(&o, &other), -EIO);
    assert_int_equal(o.downs, 1);
    assert_non_null(strstr(o.reason, "damaged"));
    struct outcome kept = {0};
    struct store_group *g = store_group_new(STORE_KEEP, group_done, &kept);
    store_add_event_update(g, &e);
    o.port->submit(o.port, g);
    assert_int_equal(insert_event(&o, &other), -EIO);
    assert_false(kept.done);
    assert_int_equal(o.ups, 0);
    owner_close(&o);
    assert_int_equal(kept.result, -ESHUTDOWN);
    event_fini(&e);
    event_fini(&other);
    owner_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directory), cmocka_unit_test(test_lock),         cmocka_unit_test(test_versions),
        cmocka_unit_test(test_damage),    cmocka_unit_test(test_damage_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
