/* What the tests of reconcile share: directories with real files, a real store and engine, a loop that is turned until
 * something is so. Header only. */
#ifndef TRIGGERD_TESTS_RECONCILE_FIXTURE_H
#define TRIGGERD_TESTS_RECONCILE_FIXTURE_H

#include "base/log.h"
#include "reconcile/internal.h"
#include "source/list.h"
#include "step/list.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE __attribute__((unused)) static
#define DEADLINE_MS 20000

/* The kinds of source that need nothing of the machine. */
const struct source_type *const source_types[] = {&source_custom, &source_pipeline_completed, NULL};
const struct kind *const source_kinds[] = {&source_custom.kind, &source_pipeline_completed.kind, NULL};

struct fixture {
    char top[64]; /* holds `m` (the manifest directory), `m2`, `state` */
    char dir[80], dir2[80], state[80];
    size_t n_dirs;
    struct loop loop;
    struct loop_group group;
    struct loop_async wake;
    struct timer tick;
    struct store_port *store;
    struct engine *engine;
    struct reconcile *r;
    struct reconcile_delays delays;
    int firsts, passes, stopped, drained;
    int log_fd;
};

FIXTURE int64_t now_ms(void)
{
    return clock_monotonic_ms(clock_system());
}

FIXTURE void on_tick(struct timer *timer, void *ctx)
{
    (void)timer;
    (void)ctx;
}

/* One turn of the loop, of at most 5 ms. */
FIXTURE void turn(struct fixture *f)
{
    loop_timer_start(&f->loop, &f->tick, 5);
    uv_run(&f->loop.uv, UV_RUN_ONCE);
    loop_timer_stop(&f->loop, &f->tick);
}

#define WAIT(f, condition)                                                                                             \
    do {                                                                                                               \
        int64_t deadline_ = now_ms() + DEADLINE_MS;                                                                    \
        while (!(condition)) {                                                                                         \
            if (now_ms() > deadline_)                                                                                  \
                fail_msg("waited in vain for %s", #condition);                                                         \
            turn(f);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Nothing of it happens for `ms`. */
#define HOLDS(f, condition, ms)                                                                                        \
    for (int64_t end_ = now_ms() + (ms); now_ms() < end_; turn(f))                                                     \
    assert_true(condition)

/* ---- files ---- */

FIXTURE char *path_in(const char *dir, const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

/* As an editor that is in no hurry to be safe: open, write, close. */
FIXTURE void write_text(const char *dir, const char *name, const char *text)
{
    _cleanup_(freep) char *path = path_in(dir, name);
    FILE *file = fopen(path, "w");
    if (!file)
        fail_msg("%s: %s", path, strerror(errno));
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

FIXTURE void make_dir(const char *dir, const char *name)
{
    _cleanup_(freep) char *path = path_in(dir, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

FIXTURE void move(const char *dir, const char *from, const char *to)
{
    _cleanup_(freep) char *a = path_in(dir, from), *b = path_in(dir, to);
    assert_int_equal(rename(a, b), 0);
}

FIXTURE void delete_file(const char *dir, const char *name)
{
    _cleanup_(freep) char *path = path_in(dir, name);
    assert_int_equal(unlink(path), 0);
}

FIXTURE char *read_text(const char *dir, const char *name)
{
    _cleanup_(freep) char *path = path_in(dir, name);
    struct buf b = {0};
    FILE *file = fopen(path, "r");
    if (!file)
        return NULL;
    for (int c; (c = fgetc(file)) != EOF;)
        buf_addc(&b, (char)c);
    fclose(file);
    return buf_steal(&b);
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
    nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

/* A trigger's document, valid; `extra` are more lines of it, or "". */
FIXTURE char *trigger_text(const char *id, const char *extra)
{
    return xasprintf("id: %s\nname: %s\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: %s}\n%s", id, id, id,
                     extra);
}

FIXTURE void write_trigger(const char *dir, const char *name, const char *id, const char *extra)
{
    _cleanup_(freep) char *text = trigger_text(id, extra);
    write_text(dir, name, text);
}

/* ---- life ---- */

FIXTURE void on_wake(void *ctx)
{
    struct fixture *f = ctx;
    if (f->store)
        store_collect(f->store);
}

FIXTURE void store_wakes(void *ctx)
{
    struct fixture *f = ctx;
    loop_async_send(&f->wake);
}

FIXTURE void count(void *ctx)
{
    ++*(int *)ctx;
}

FIXTURE void on_first(void *ctx)
{
    struct fixture *f = ctx;
    assert_int_equal(f->firsts++, 0);
    engine_start(f->engine);
}

FIXTURE void on_changed(void *ctx)
{
    ((struct fixture *)ctx)->passes++;
}

/* A daemon's life; waits for the first pass. */
FIXTURE void start(struct fixture *f)
{
    struct error err = ERROR_INIT;
    const char *dirs[] = {f->dir, f->dir2};
    f->firsts = f->passes = f->stopped = f->drained = 0;
    assert_int_equal(loop_init(&f->loop), 0);
    timer_init(&f->tick, on_tick, f);
    loop_group_init(&f->group, &f->loop);
    assert_int_equal(loop_async_init(&f->group, &f->wake, on_wake, f), 0);
    const struct store_options store = {.dir = f->state, .wake = store_wakes, .ctx = f};
    if (store_open(&store, &f->store, &err) < 0)
        fail_msg("%s", err.message);
    const struct engine_options engine = {
        .source_env = {.loop = &f->loop,
                       .timers = &f->loop.timers,
                       .clock = clock_system(),
                       .random = random_system(),
                       .store = f->store,
                       .state_dir = f->state},
        .step_env = {.loop = &f->loop, .timers = &f->loop.timers, .clock = clock_system(), .random = random_system()},
        .source_types = source_types,
        .step_types = step_types,
        .firing = true,
    };
    assert_int_equal(engine_create(&engine, &f->engine, &err), 0);
    assert_int_equal(engine_load(f->engine, &err), 0);
    const struct reconcile_options options = {.loop = &f->loop,
                                              .engine = f->engine,
                                              .store = f->store,
                                              .clock = clock_system(),
                                              .dirs = dirs,
                                              .n_dirs = f->n_dirs,
                                              .first = on_first,
                                              .changed = on_changed,
                                              .ctx = f};
    if (reconcile_create(&options, &f->r, &err) < 0)
        fail_msg("%s", err.message);
    reconcile_set_delays(f->r, &f->delays);
    reconcile_start(f->r);
    assert_int_equal(f->firsts, 0); /* never from inside */
    WAIT(f, f->firsts > 0);
}

FIXTURE void stop(struct fixture *f)
{
    reconcile_stop(f->r, count, &f->stopped);
    assert_int_equal(f->stopped, 0);
    WAIT(f, f->stopped > 0);
    engine_drain(f->engine, 1000, count, &f->drained);
    WAIT(f, f->drained > 0);
    store_close(f->store);
    f->store = NULL;
    engine_destroy(f->engine);
    int closed = 0;
    loop_group_close(&f->group, count, &closed);
    WAIT(f, closed > 0);
    assert_int_equal(loop_fini(&f->loop), 0);
}

FIXTURE struct fixture *fixture_new(size_t n_dirs)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    snprintf(f->top, sizeof(f->top), "/tmp/triggerd-reconcile-XXXXXX");
    assert_non_null(mkdtemp(f->top));
    snprintf(f->dir, sizeof(f->dir), "%s/m", f->top);
    snprintf(f->dir2, sizeof(f->dir2), "%s/m2", f->top);
    snprintf(f->state, sizeof(f->state), "%s/state", f->top);
    f->n_dirs = n_dirs;
    make_dir(f->top, "m");
    if (n_dirs > 1)
        make_dir(f->top, "m2");
    f->delays = (struct reconcile_delays){
        .quiet_ms = 30, .burst_max_ms = 300, .writer_ms = 1500, .grace_ms = 400, .check_ms = 200, .first_ms = 5000};
    f->log_fd = memfd_create("log", MFD_CLOEXEC);
    log_set_fd(f->log_fd);
    return f;
}

FIXTURE void fixture_free(struct fixture *f)
{
    remove_tree(f->top);
    log_set_fd(2);
    close(f->log_fd);
    free(f);
}

/* ---- looking ---- */

FIXTURE bool has(struct fixture *f, const char *id)
{
    return engine_find_trigger(f->engine, id) != NULL;
}

FIXTURE struct trigger_view view_of(struct fixture *f, const char *id)
{
    struct trigger_view v;
    struct live_trigger *t = engine_find_trigger(f->engine, id);
    if (!t)
        fail_msg("there is no trigger %s", id);
    trigger_look(t, &v);
    return v;
}

/* -1: it does not have the condition. */
FIXTURE int condition_of(struct fixture *f, const char *id, const char *type)
{
    struct trigger_view v = view_of(f, id);
    const struct condition *c = condition_find(v.conditions, type);
    return c ? (int)c->status : -1;
}

FIXTURE bool accepted(struct fixture *f, const char *id)
{
    return condition_of(f, id, "Accepted") == CONDITION_TRUE;
}

FIXTURE const char *file_of(struct fixture *f, const char *id)
{
    const char *file = view_of(f, id).origin->file;
    return strrchr(file, '/') + 1;
}

FIXTURE const char *description_of(struct fixture *f, const char *id)
{
    const char *d = view_of(f, id).spec->description;
    return d ? d : "";
}

struct errors {
    const char *name;
    char first[512];
    size_t n, files;
};

FIXTURE void collect_errors(void *ctx, const struct manifest_file_view *view)
{
    struct errors *e = ctx;
    e->files++;
    if (!streq(strrchr(view->path, '/') + 1, e->name))
        return;
    e->n = view->manifest->n_wrong;
    _cleanup_(freep) char *text = e->n > 0 ? manifest_error_text(view->manifest, &view->manifest->errors[0]) : NULL;
    snprintf(e->first, sizeof(e->first), "%s", text ? text : "");
}

/* Errors of the file with that name (without directories). */
FIXTURE size_t errors_of(struct fixture *f, const char *name)
{
    struct errors e = {.name = name};
    reconcile_each_file(f->r, collect_errors, &e);
    return e.n;
}

FIXTURE bool logged(struct fixture *f, const char *what)
{
    off_t len = lseek(f->log_fd, 0, SEEK_END);
    _cleanup_(freep) char *text = xcalloc(1, (size_t)len + 1);
    assert_int_equal(pread(f->log_fd, text, (size_t)len, 0), len);
    return strstr(text, what) != NULL;
}

/* ---- edits ---- */

struct put_seen {
    int calls, code;
    char message[512];
    size_t errors;
};

FIXTURE void put_done(void *ctx, const struct put_result *result)
{
    struct put_seen *seen = ctx;
    seen->calls++;
    seen->code = result->code;
    seen->errors = result->manifest ? result->manifest->n_wrong : 0;
    snprintf(seen->message, sizeof(seen->message), "%s", result->message ? result->message : "");
}

FIXTURE struct put_seen put_file(struct fixture *f, const char *name, const char *text)
{
    _cleanup_(freep) char *path = name[0] == '/' ? xstrdup(name) : path_in(f->dir, name);
    struct put_seen seen = {0};
    reconcile_put_file(f->r, path, text, text ? strlen(text) : 0, put_done, &seen);
    assert_int_equal(seen.calls, 0);
    WAIT(f, seen.calls > 0);
    assert_int_equal(seen.calls, 1);
    return seen;
}

FIXTURE struct put_seen put_resource(struct fixture *f, enum resource_kind kind, const char *id, const char *text)
{
    struct put_seen seen = {0};
    reconcile_put_resource(f->r, kind, id, text, text ? strlen(text) : 0, 0, put_done, &seen);
    assert_int_equal(seen.calls, 0);
    WAIT(f, seen.calls > 0);
    assert_int_equal(seen.calls, 1);
    return seen;
}

#endif
