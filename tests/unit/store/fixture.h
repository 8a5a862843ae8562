/* What the tests of the store share: a directory, an owner that waits, rows to write. Header only. */
#ifndef TRIGGERD_TESTS_STORE_FIXTURE_H
#define TRIGGERD_TESTS_STORE_FIXTURE_H

#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE __attribute__((unused)) static

struct owner {
    char dir[128];
    struct store_options options;
    struct store_port *port;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool woken;
    int64_t probe_ms;
    int downs, ups; /* state told */
    int soons;      /* flushes asked for */
    char reason[ERROR_MESSAGE_MAX];
};

FIXTURE void owner_wake(void *ctx)
{
    struct owner *o = ctx;
    pthread_mutex_lock(&o->mutex);
    o->woken = true;
    pthread_cond_signal(&o->cond);
    pthread_mutex_unlock(&o->mutex);
}

FIXTURE void owner_state(void *ctx, bool writable, const char *reason)
{
    struct owner *o = ctx;
    assert_int_equal(writable, o->port->writable(o->port));
    if (writable)
        o->ups++;
    else
        o->downs++;
    if (!writable)
        snprintf(o->reason, sizeof(o->reason), "%s", reason);
}

FIXTURE void owner_init(struct owner *o, const char *base)
{
    *o = (struct owner){0};
    snprintf(o->dir, sizeof(o->dir), "%s/triggerd-store-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(o->dir));
    pthread_mutex_init(&o->mutex, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&o->cond, &attr);
    pthread_condattr_destroy(&attr);
    o->options = (struct store_options){.dir = o->dir, .wake = owner_wake, .state = owner_state, .ctx = o};
}

FIXTURE void owner_open(struct owner *o, const char *vfs)
{
    struct error err = ERROR_INIT;
    int r = store_open_hooked(&o->options, &(struct store_hooks){.vfs = vfs, .probe_ms = o->probe_ms}, &o->port, &err);
    if (r < 0)
        fail_msg("store_open: %s", err.message);
}

FIXTURE void owner_close(struct owner *o)
{
    store_close(o->port);
    o->port = NULL;
}

FIXTURE int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

FIXTURE void remove_tree(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

FIXTURE void owner_fini(struct owner *o)
{
    owner_close(o);
    remove_tree(o->dir);
    pthread_mutex_destroy(&o->mutex);
    pthread_cond_destroy(&o->cond);
}

/* Collect until *flag, 20 s at most. */
FIXTURE void owner_wait(struct owner *o, const bool *flag)
{
    int64_t end = monotonic_ns() + 20 * INT64_C(1000000000);
    while (!*flag) {
        pthread_mutex_lock(&o->mutex);
        struct timespec t = {.tv_sec = end / 1000000000, .tv_nsec = end % 1000000000};
        int r = 0;
        while (!o->woken && r == 0)
            r = pthread_cond_timedwait(&o->cond, &o->mutex, &t);
        bool woken = o->woken;
        o->woken = false;
        pthread_mutex_unlock(&o->mutex);
        if (!woken)
            fail_msg("waited in vain");
        store_collect(o->port);
    }
}

struct outcome {
    bool done;
    int result;
    int calls;
};

FIXTURE void group_done(struct store_group *g, int result)
{
    struct outcome *out = g->ctx;
    out->done = true;
    out->result = result;
    out->calls++;
    store_group_free(g);
}

FIXTURE int submit_wait(struct owner *o, struct store_group *g)
{
    struct outcome out = {0};
    g->done = group_done;
    g->ctx = &out;
    o->port->submit(o->port, g);
    assert_false(out.done);
    owner_wait(o, &out.done);
    assert_int_equal(out.calls, 1);
    return out.result;
}

FIXTURE void read_done(struct store_read *r, int result)
{
    struct outcome *out = r->ctx;
    out->done = true;
    out->result = result;
}

/* The caller frees the read. */
FIXTURE int read_wait(struct owner *o, struct store_read *r)
{
    struct outcome out = {0};
    r->done = read_done;
    r->ctx = &out;
    o->port->read(o->port, r);
    assert_false(out.done);
    owner_wait(o, &out.done);
    return out.result;
}

FIXTURE struct store_group *new_group(unsigned flags)
{
    return store_group_new(flags, group_done, NULL);
}

/* An event with the fields that every event has; `n` makes its id. */
FIXTURE struct event make_event(struct store_port *port, const char *trigger, unsigned long long n)
{
    struct event e = {0};
    e.seq = port->next_seq(port);
    snprintf(e.id, sizeof(e.id), "evt_%026llu", n);
    memcpy(e.root_event_id, e.id, sizeof(e.id));
    e.trigger_id = xstrdup(trigger);
    e.pipeline_id = xstrdup("copy");
    e.event_type = xstrdup("file_created");
    e.data = xstrdup("{\"path\":\"/data/in/a.csv\",\"size\":12345678901234567890}");
    e.status = EVENT_PENDING;
    e.decision = DECISION_FIRED;
    e.attempt = 1;
    e.occurred_ms = realtime_ms();
    return e;
}

FIXTURE int insert_event(struct owner *o, struct event *e)
{
    struct store_group *g = new_group(0);
    store_add_event_insert(g, e);
    return submit_wait(o, g);
}

/* 0 or -ENOENT; *ret may be NULL. */
FIXTURE int find_event(struct owner *o, const char *id, struct event *ret)
{
    struct store_read *r = store_read_new(STORE_READ_EVENT, NULL, NULL);
    r->id = xstrdup(id);
    int result = read_wait(o, r);
    if (result == 0 && ret) {
        *ret = r->events[0];
        r->n_events = 0;
    }
    store_read_free(r);
    return result;
}

/* The counts kept beside the rows are those of the rows, and the file is sound. */
FIXTURE void assert_consistent(const char *dir)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/triggerd.db", dir);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    static const char *const checks[] = {
        ("SELECT count(*) FROM (SELECT trigger_id,coalesce(pipeline_id,''),coalesce(event_type,''),status,decision,"
         "count(*) FROM events GROUP BY 1,2,3,4,5 "
         "EXCEPT SELECT trigger_id,pipeline_id,event_type,status,decision,n FROM event_groups)"),
        "SELECT (SELECT count(*) FROM events)<>(SELECT coalesce(sum(n),0) FROM event_groups)",
        ("SELECT count(*) FROM events e LEFT JOIN event_groups g ON g.id=e.group_id WHERE g.trigger_id IS NOT "
         "e.trigger_id OR "
         "g.pipeline_id<>coalesce(e.pipeline_id,'') OR g.event_type<>coalesce(e.event_type,'') OR g.status<>e.status "
         "OR "
         "g.decision<>e.decision"),
        "SELECT (SELECT count(*) FROM runs)<>(SELECT coalesce(sum(n),0) FROM counts)",
        "SELECT count(*) FROM counts WHERE n<0 OR kind<>1",
        "SELECT count(*) FROM event_groups WHERE n<0",
        ("SELECT count(*) FROM (SELECT occurred_ms/60000,status,count(*) FROM events GROUP BY 1,2 "
         "EXCEPT SELECT * FROM event_minutes)"),
        "SELECT (SELECT count(*) FROM events)<>(SELECT coalesce(sum(n),0) FROM event_minutes)",
        "SELECT count(*) FROM steps WHERE run_seq NOT IN (SELECT seq FROM runs)",
        "SELECT count(*) FROM step_logs WHERE run_seq NOT IN (SELECT seq FROM runs)",
        "SELECT count(*) FROM runs WHERE text_id NOT IN (SELECT id FROM pipeline_texts)",
        "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check<>'ok'",
    };
    for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
        sqlite3_stmt *st = NULL;
        assert_int_equal(sqlite3_prepare_v2(db, checks[i], -1, &st, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        if (sqlite3_column_int(st, 0) != 0)
            fail_msg("not so: %s", checks[i]);
        sqlite3_finalize(st);
    }
    sqlite3_close(db);
}

#endif
