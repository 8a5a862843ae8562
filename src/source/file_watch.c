/* file_watch: files that are created, modified, deleted or moved. An active type; how it works is told in file_watch.h.
 *
 * Event types: file_created, file_modified, file_deleted, file_moved. Event data: path (absolute, from the base as the
 * config names it), event, name, dir, size, mtime (RFC 3339, UTC, milliseconds), is_dir, and for moved old_path. What
 * is deleted has the size and time that were last known. A path that is not UTF-8 is shown with `\xNN` for each byte
 * that is none; path_bytes_base64 (old_path_bytes_base64) then holds it exactly.
 *
 * What matches counts, directories too (is_dir): they are complete when they are made, and never modified. Symbolic
 * links below the base are files, and are not followed.
 *
 * Where `moved` is not among the events, a rename is what remains of it: the old name deleted, the new one created.
 *
 * On start, what is there is compared with the snapshot (on_start: changed), takes its place without events (none), or
 * is created, all of it (all). The very first start takes the snapshot without events, unless `all`; so does a start
 * with another path, recursive or ignore_patterns. What is made after the start has begun is created, even if the
 * snapshot was not yet taken. A base that was not there at start, or went and came back, was empty
 * before: all in it is created, and with it gone, all that was in it is deleted. */
#include "source/file_watch.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* ---- config ---- */

enum on_start { ON_START_CHANGED, ON_START_NONE, ON_START_ALL };
static const char *const on_start_words[] = {"changed", "none", "all", NULL};
static const char *const event_words[] = {"created", "modified", "deleted", "moved", NULL}; /* as enum net_change */

struct config {
    char *path;
    uint64_t events;
    bool recursive;
    double debounce_seconds;
    struct strings ignore_patterns;
    int on_start;
};

static const struct field rows[] = {
    {.name = "path",
     .type = &field_string,
     FIELD(struct config, path, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = GLOB_PATTERN_MAX,
           .change = CHANGE_SOURCE,
           .doc =
               "Which files: an absolute path with *, ?, [a-z], {a,b} and ** in it; the directories before the first "
               "of these are waited for",
           .example = "\"/data/incoming/*.csv\"")},
    {.name = "events",
     .type = &field_words,
     FIELD(struct config, events, uint64_t, .default_json = "[\"created\", \"modified\"]", .words = event_words,
           .flags = FIELD_NOT_EMPTY,
           .doc = "What to tell: created (complete: closed or moved in), modified, deleted, moved (renamed among the "
                  "files watched; without it, that is deleted and created)")},
    {.name = "recursive",
     .type = &field_bool,
     FIELD(struct config, recursive, bool, .default_json = "true", .change = CHANGE_SOURCE,
           .doc = "Match the last component of the path at any depth below the base")},
    {.name = "debounce_seconds",
     .type = &field_seconds,
     FIELD(struct config, debounce_seconds, double, .default_json = "1", .min = 0, .max = 86400,
           .doc = "One event for each file, so long after its last change, for all that changed; 0: at once")},
    {.name = "ignore_patterns",
     .type = &field_strings,
     FIELD(struct config, ignore_patterns, struct strings, .max = 256, .change = CHANGE_SOURCE,
           .doc = "What to leave out: names (*.tmp), names of directories (.git/), or paths from the base (build/*.o)",
           .example = "[\"*.tmp\", \"*.part\"]")},
    {.name = "on_start",
     .type = &field_enum,
     FIELD(struct config, on_start, int, .default_json = "\"changed\"", .words = on_start_words,
           .doc = "Files at start: changed (what changed while triggerd was down), none, all (each as created)")},
};
static const struct field_table table = {"file_watch", "Files that come, change, go or are renamed",
                                         sizeof(struct config), rows, ARRAY_SIZE(rows)};

/* The base, and the pattern of what is below it. */
static int compile_path(const struct config *c, char **ret_base, struct glob **ret, struct error *err)
{
    _cleanup_(freep) char *base = NULL, *rest = NULL;
    if (c->path[0] != '/')
        return error_set(err, -EINVAL, "expected an absolute path, got \"%s\"", c->path);
    _cleanup_(glob_destroyp) struct glob *whole = NULL; /* what is wrong with it, in its own words */
    int r = glob_create(c->path, 0, &whole, err);
    if (r == 0)
        r = glob_split(c->path, &base, &rest, err);
    if (r == 0)
        r = glob_create(rest, c->recursive ? GLOB_RECURSIVE : 0, ret, err);
    if (r == 0)
        *ret_base = steal(&base);
    return r;
}

static void validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct config *c = config;
    const cJSON *patterns = value_get(node, "ignore_patterns");
    _cleanup_(freep) char *base = NULL;
    _cleanup_(glob_destroyp) struct glob *glob = NULL;
    struct error err = ERROR_INIT;
    char at[FIELD_PATH_MAX], item_at[FIELD_PATH_MAX];
    if (c->path && compile_path(c, &base, &glob, &err) < 0)
        issue_add(issues, field_path(at, path, "path"), value_get(node, "path"), "%s", err.message);
    field_path(at, path, "ignore_patterns");
    for (size_t i = 0; i < c->ignore_patterns.n; i++) {
        const cJSON *item = cJSON_IsArray(patterns) ? cJSON_GetArrayItem(patterns, (int)i) : patterns;
        _cleanup_(glob_destroyp) struct glob *ignore = NULL;
        if (glob_create(c->ignore_patterns.items[i], GLOB_IGNORE, &ignore, &err) < 0)
            issue_add(issues, cJSON_IsArray(patterns) ? field_path_index(item_at, at, i) : at, item, "not a glob: %s",
                      err.message);
    }
}

/* The syntax of globs is left to validate(). */
static const char rules[] = "[{'properties': {'path': {'pattern': '^/'}}}]";

static bool is_ignored(const struct source *s, const char *path, bool is_dir)
{
    for (size_t i = 0; i < s->n_ignore; i++)
        if (glob_ignores(s->ignore[i], s->base, path, is_dir))
            return true;
    return false;
}

bool file_matches(const struct source *s, const char *path, bool is_dir)
{
    return glob_match(s->glob, path) && !is_ignored(s, path, is_dir);
}

/* ---- conditions ---- */

int64_t file_backoff(struct source *s, int64_t *ms)
{
    *ms = *ms ? MIN(*ms * 2, FILE_BACKOFF_MAX_MS) : FILE_BACKOFF_MIN_MS;
    return (int64_t)((double)*ms * (0.8 + 0.4 * random_unit(s->env.random)));
}

static const char *reason_of(int code)
{
    switch (code) {
    case -ENOSPC:
        return "NoWatches";
    case -EACCES:
    case -EPERM:
        return "PermissionDenied";
    case -EXDEV:
        return "SelfMount";
    case -ENOTDIR:
        return "NotADirectory";
    default:
        return "WatchFailed";
    }
}

static void report(struct source *s, enum source_state state, const char *reason, const char *message)
{
    char *text = xasprintf("%d %s %s", (int)state, reason, message);
    if (streq(text, s->shown)) {
        free(text);
        return;
    }
    free(s->shown);
    s->shown = text;
    source_report(s->host, state, reason, message);
}

/* Later than what it shows: a base that is gone is told before the reason. */
static void show(void *ctx)
{
    struct source *s = ctx;
    _cleanup_(freep) char *message = NULL;
    if (s->error.code < 0) {
        report(s, SOURCE_FAILED, reason_of(s->error.code), s->error.message);
    } else if (!s->here && s->started && !s->incomplete) {
        message = xasprintf("%s does not exist", s->base);
        report(s, SOURCE_WAITING, "BaseMissing", message);
    } else if (s->scanned && !s->incomplete) {
        message = xasprintf("watching %s", s->base);
        report(s, SOURCE_CONNECTED, "Watching", message);
    }
}

void file_show(struct source *s)
{
    loop_defer(s->env.loop, &s->show);
}

static void retry_later(struct source *s)
{
    if (!timer_active(&s->retry))
        timer_start(s->env.timers, &s->retry, clock_monotonic_ms(s->env.clock) + file_backoff(s, &s->retry_ms));
}

/* ---- what the watcher tells ---- */

static bool may_descend(void *ctx, const char *dir)
{
    const struct source *s = ctx;
    return glob_may_descend(s->glob, dir) && !is_ignored(s, dir, true);
}

static void on_changed(struct source *s, const struct watch_event *event)
{
    if (event->mask & IN_CREATE)
        file_track_created(s, event->path, event->is_dir);
    else if (event->mask & IN_MOVED_TO)
        file_track_came(s, event->path, event->is_dir);
    else if (event->mask & (IN_DELETE | IN_MOVED_FROM))
        file_track_gone(s, event->path);
    else if (event->mask & IN_CLOSE_WRITE && !event->is_dir)
        file_track_closed(s, event->path);
    else if (event->mask & IN_MODIFY && !event->is_dir)
        file_track_written(s, event->path);
}

static void on_event(void *ctx, const struct watch_event *event)
{
    struct source *s = ctx;
    file_track_enter(s);
    switch (event->kind) {
    case WATCH_FOUND:
        file_track_found(s, event->path, event->stat);
        break;
    case WATCH_MOVED:
        file_track_moved(s, event->old_path, event->path, event->is_dir);
        break;
    case WATCH_CHANGED:
        on_changed(s, event);
        break;
    }
    file_track_leave(s);
}

static enum start_mode first_mode(const struct source *s)
{
    if (s->on_start == ON_START_ALL)
        return START_ALL;
    return s->fresh || s->on_start == ON_START_NONE ? START_SILENT : START_DIFFER;
}

static void on_base_came(void *ctx, const struct watch_stat *stat)
{
    (void)stat;
    struct source *s = ctx;
    s->mode = s->started ? START_DIFFER : first_mode(s);
    s->started = s->here = true;
    file_track_full_scan(s);
}

static void on_base_gone(void *ctx)
{
    struct source *s = ctx;
    s->started = true;
    s->here = s->scanned = s->full_scan = false;
    s->mode = START_DIFFER;
    s->error.code = 0; /* one that is the reason comes next */
    timer_stop(s->env.timers, &s->retry);
    file_track_enter(s);
    file_track_base_gone(s);
    file_snapshot_complete(s);
    file_track_leave(s);
    file_show(s);
}

static void on_scanned(void *ctx)
{
    struct source *s = ctx;
    if (!s->full_scan)
        return;
    file_track_enter(s);
    file_track_scanned(s);
    file_snapshot_complete(s);
    file_track_leave(s);
    s->scanned = true;
    if (!s->failed) {
        s->error.code = 0;
        s->retry_ms = 0;
        timer_stop(s->env.timers, &s->retry);
    }
    file_show(s);
}

static void on_overflow(void *ctx)
{
    file_track_full_scan(ctx);
}

static void on_error(void *ctx, const struct error *error)
{
    struct source *s = ctx;
    s->failed = true;
    s->error = *error;
    retry_later(s);
    file_show(s);
}

static void watch(struct source *s)
{
    const struct watch_tree_options options = {
        .base = s->base,
        .mask = IN_CLOSE_WRITE | IN_MODIFY,
        .recursive = true,
        .descend = may_descend,
        .event = on_event,
        .base_came = on_base_came,
        .base_gone = on_base_gone,
        .scanned = on_scanned,
        .overflow = on_overflow,
        .error = on_error,
        .ctx = s,
    };
    s->tree = watcher_add_tree(s->env.watcher, &options);
}

/* The clock that file systems stamp changes with, as a new file of our own has it: it moves by ticks, is late by more
 * where those are, and is set forward where a finer time was given out (since Linux 6.13). */
static int64_t files_now_ns(struct clock *clock)
{
    struct stat st;
    int fd = memfd_create("file_watch", MFD_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        st.st_ctim = (struct timespec){.tv_sec = clock_realtime_ms(clock) / 1000};
    closep(&fd);
    return (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
}

/* ---- life ---- */

void file_source_unref(struct source *s)
{
    if (--s->refs > 0)
        return;
    for (size_t i = 0; i < s->n_ignore; i++)
        glob_destroy(s->ignore[i]);
    free(s->ignore);
    glob_destroy(s->glob);
    free(s->base);
    free(s->config_text);
    free(s->scope);
    free(s->shown);
    free(s);
}

void file_snapshot_loaded(struct source *s, const struct error *err)
{
    if (!err) {
        s->error.code = 0;
        s->retry_ms = 0;
        watch(s);
        file_report_soon(s);
        return;
    }
    s->error = *err;
    retry_later(s);
    file_show(s);
}

/* What an earlier source of this trigger has submitted is on disk now. */
static void on_settled(struct store_group *g, int result)
{
    (void)result;
    struct source *s = g->ctx;
    store_group_free(g);
    if (!s->stopped)
        file_snapshot_load(s);
    file_source_unref(s);
}

static void retry_now(struct source *s)
{
    timer_stop(s->env.timers, &s->retry);
    if (!s->tree) {
        file_snapshot_load(s);
        return;
    }
    if (s->here)
        file_track_full_scan(s);
    watcher_retry(s->tree);
}

static void on_retry(struct timer *timer, void *ctx)
{
    (void)timer;
    retry_now(ctx);
}

static void on_refused_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    file_report_resume(ctx);
}

static void on_save_retry(struct timer *timer, void *ctx)
{
    (void)timer;
    file_report_soon(ctx);
}

static void on_pump(void *ctx)
{
    file_report_pump(ctx);
}

static void on_gone(void *ctx)
{
    struct source *s = ctx;
    s->done(s->done_ctx);
    file_source_unref(s);
}

/* What may change without a new start. */
static void take_config(struct source *s, const struct config *c)
{
    s->wants = (unsigned)c->events << NET_CREATED;
    s->debounce_ms = llround(c->debounce_seconds * 1000);
    s->on_start = c->on_start;
}

static int compile_config(struct source *s, const struct config *c, struct error *err)
{
    struct buf text = {0};
    int r = compile_path(c, &s->base, &s->glob, err);
    s->ignore = xcalloc(c->ignore_patterns.n + 1, sizeof(struct glob *));
    buf_printf(&text, "1\n%d\n%s", c->recursive, c->path);
    for (size_t i = 0; r == 0 && i < c->ignore_patterns.n; i++) {
        buf_printf(&text, "\n%s", c->ignore_patterns.items[i]);
        r = glob_create(c->ignore_patterns.items[i], GLOB_IGNORE, &s->ignore[s->n_ignore], err);
        s->n_ignore += r == 0;
    }
    s->config_text = buf_steal(&text);
    return r;
}

static int create(struct source_host *host, const struct source_env *env, const struct trigger *trigger,
                  struct source **ret, struct error *err)
{
    if (!env->loop || !env->watcher)
        return error_set(err, -ENOTSUP, "there is no file system to watch");
    struct source *s = xcalloc(1, sizeof(*s));
    s->host = host;
    s->env = *env;
    s->refs = 1;
    int r = compile_config(s, trigger->config, err);
    if (r < 0) {
        file_source_unref(s);
        return r;
    }
    take_config(s, trigger->config);
    s->fresh = source_is_new(host);
    s->began_ns = files_now_ns(env->clock);
    s->scope = xasprintf("snapshot/%s", source_trigger_id(host));
    watched_init(s);
    timer_init(&s->retry, on_retry, s);
    timer_init(&s->refused_timer, on_refused_timer, s);
    timer_init(&s->save_retry, on_save_retry, s);
    loop_task_init(&s->pump, on_pump, s);
    loop_task_init(&s->show, show, s);
    loop_task_init(&s->gone, on_gone, s);
    *ret = s;
    return 0;
}

static void start(struct source *s)
{
    s->refs++;
    s->env.store->submit(s->env.store, store_group_new(0, on_settled, s));
}

static void stop(struct source *s, void (*done)(void *ctx), void *ctx)
{
    s->done = done;
    s->done_ctx = ctx;
    watcher_remove_tree(s->tree);
    file_check_abandon(s);
    file_snapshot_stop(s);
    s->stopped = true;
    timer_stop(s->env.timers, &s->retry);
    timer_stop(s->env.timers, &s->refused_timer);
    timer_stop(s->env.timers, &s->save_retry);
    loop_task_cancel(s->env.loop, &s->pump);
    loop_task_cancel(s->env.loop, &s->show);
    file_report_forget(s);
    watched_free(s);
    loop_defer(s->env.loop, &s->gone);
}

static void pause_source(struct source *s)
{
    s->paused = true;
}

static void resume(struct source *s)
{
    s->paused = false;
    file_report_resume(s);
    if (timer_active(&s->retry))
        retry_now(s);
}

static bool update(struct source *s, const struct trigger *trigger)
{
    take_config(s, trigger->config);
    return true;
}

static void forget(struct store_group *g, const char *trigger_id)
{
    _cleanup_(freep) char *scope = xasprintf("snapshot/%s", trigger_id);
    store_add_kv_delete(g, scope, NULL, 0);
}

static void ack(struct source *s, uint64_t token)
{
    file_report_ack(s, token);
}

static void nack(struct source *s, uint64_t token, const char *why)
{
    (void)why;
    file_report_nack(s, token);
}

const struct source_type source_file_watch = {
    .kind = {.name = "file_watch", .config = &table, .has_filter = true, .validate = validate, .rules = rules},
    .own_writes = true,
    .create = create,
    .start = start,
    .stop = stop,
    .pause = pause_source,
    .resume = resume,
    .update = update,
    .ack = ack,
    .nack = nack,
    .forget = forget,
};
