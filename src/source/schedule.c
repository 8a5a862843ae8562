/* schedule: times as they come, by a cron expression or every so many seconds. An active type.
 *
 * Event data: scheduled_at (the time meant), fired_at (when it was), both RFC 3339 in UTC with milliseconds.
 *
 * One time is reported after the other, the next when the last is recorded. State in the store (scope `schedule`, key:
 * the trigger's id): the schedule's text, the last time reported, when that was, and whether it is known to be
 * recorded:
 *
 *     {"schedule": "cron 30 6 * * 1-5 UTC", "last": 1767335400000, "fired": 1767335400002, "recorded": true}
 *
 * It is written before the report (not recorded) and after it. So a crash between the two repeats the report word for
 * word, which its identity (`schedule/<scheduled_at>`) turns into one event.
 *
 * Missed is a time that passed while nobody looked: over a restart (also while the trigger was disabled), a clock set
 * forward, a machine asleep; while running, one that is more than LATE_MS late beyond its jitter. Of those, catch_up
 * takes none, the last, or all (the newest MISSED_MAX). A changed cron, timezone or every_seconds is a new schedule.
 *
 * cron follows the wall clock: its being set is noticed at once (timerfd), and set back by up to BACK_MAX_MS it fires
 * nothing twice. every_seconds follows elapsed time: a clock that is set shifts all its times. Its first time is that
 * many seconds after the first start; over a restart it keeps its phase. */
#include "base/loop.h"
#include "base/util.h"
#include "lang/cron.h"
#include "source/list.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MISSED_MAX 1000
#define LATE_MS 10000
#define BACK_MAX_MS (3 * 3600000LL)
#define SLEEP_MAX_MS 3600000LL /* where the clock's being set cannot be noticed */
#define JUMP_MS 50             /* wall against monotonic clock: less is rounding */
#define BACKOFF_MIN_MS 500
#define BACKOFF_MAX_MS 8000

/* ---- config ---- */

enum catch_up { CATCH_UP_NONE, CATCH_UP_ONE, CATCH_UP_ALL };
static const char *const catch_up_words[] = {"none", "one", "all", NULL};

struct config {
    char *cron; /* NULL: none */
    char *timezone;
    double every_seconds; /* 0: none */
    double jitter_seconds;
    int catch_up;
};

static const struct field rows[] = {
    {.name = "cron",
     .type = &field_string,
     FIELD(struct config, cron, char *, .max = CRON_TEXT_MAX, .change = CHANGE_SOURCE,
           .doc = "When it fires: minute, hour, day of the month, month, day of the week; or @hourly, @daily, @weekly, "
                  "@monthly, @yearly",
           .example = "\"*/5 * * * *\"")},
    {.name = "timezone",
     .type = &field_string,
     FIELD(struct config, timezone, char *, .default_json = "\"UTC\"", .max = 256, .change = CHANGE_SOURCE,
           .doc = "The time zone that cron is read in: a name of the time zone database, or +02:00",
           .example = "\"Europe/Rome\"")},
    {.name = "every_seconds",
     .type = &field_seconds,
     FIELD(struct config, every_seconds, double, .min = 0.1, .max = 31622400, .change = CHANGE_SOURCE,
           .doc = "Instead of cron: fires so many seconds after its first start and after each time before",
           .example = "30")},
    {.name = "jitter_seconds",
     .type = &field_seconds,
     FIELD(struct config, jitter_seconds, double, .default_json = "0", .min = 0, .max = 86400,
           .doc = "Each time is late by a random part of this, so that not everything starts at once")},
    {.name = "catch_up",
     .type = &field_enum,
     FIELD(struct config, catch_up, int, .default_json = "\"none\"", .words = catch_up_words,
           .doc = "What to do about times missed while triggerd was down: none, one (the last), all (at most 1000)")},
};
static const struct field_table table = {"schedule", "Times as they come", sizeof(struct config), rows,
                                         ARRAY_SIZE(rows)};

static void validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct config *c = config;
    const cJSON *cron_node = value_get(node, "cron"), *every = value_get(node, "every_seconds");
    char at[FIELD_PATH_MAX];
    struct error err = ERROR_INIT;
    _cleanup_(cron_destroyp) struct cron *cron = NULL;
    if (!cron_node && !every)
        issue_add(issues, path, node, "expected cron or every_seconds");
    if (cron_node && every)
        issue_add_key(issues, field_path(at, path, "every_seconds"), every, "cron is given already; only one of both");
    if (c->cron && cron_create(c->cron, NULL, &cron, &err) < 0)
        issue_add(issues, field_path(at, path, "cron"), cron_node, "not a cron expression: %s", err.message);
    if (c->timezone && cron_check_timezone(c->timezone, &err) < 0)
        issue_add(issues, field_path(at, path, "timezone"), value_get(node, "timezone"), "%s", err.message);
}

static const char rules[] = "[{'oneOf': [{'required': ['cron']}, {'required': ['every_seconds']}]}]";

/* ---- the source ---- */

struct source {
    struct source_host *host;
    struct source_env env;
    unsigned refs; /* one for itself, one for each thing asked of the store */
    bool loaded, paused, stopped;
    bool fresh;    /* what the store has under its id was another's */
    bool starting; /* nothing was looked at yet: what passed is missed */
    bool reported;

    struct cron *cron; /* NULL: every period_ms */
    int64_t period_ms, jitter_ms;
    enum catch_up catch_up;
    char *text; /* the schedule as the state has it */

    int64_t last;   /* the last time done with; all times are wall clock, Unix milliseconds */
    int64_t next;   /* the one waited for, 0: none yet */
    int64_t due;    /* when it fires: next and its jitter */
    int64_t told;   /* reported, not settled; 0: none */
    int64_t again;  /* to be reported (again) with `fired`; 0: none */
    int64_t fired;  /* when `told` or `again` fired */
    int64_t offset; /* wall minus monotonic clock */
    bool dropped;   /* of the times missed until dropped_until, the oldest were left out */
    int64_t dropped_until;
    int64_t backoff_ms;
    struct timer timer; /* the next look */
    struct timer gone;  /* without a loop: the end of stop() */

    struct loop_group group; /* with a loop */
    struct loop_poll set;    /* the clock was set */
    int set_fd;
    void (*done)(void *ctx);
    void *done_ctx;
};

static void look(struct source *s);

static void unref(struct source *s)
{
    if (--s->refs > 0)
        return;
    cron_destroy(s->cron);
    free(s->text);
    free(s);
}

static void look_soon(struct source *s, int64_t delay_ms)
{
    timer_start(s->env.timers, &s->timer, clock_monotonic_ms(s->env.clock) + delay_ms);
}

static void on_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    look(ctx);
}

/* ---- times ---- */

static int next_time(const struct source *s, int64_t after, int64_t *ret)
{
    if (s->cron)
        return cron_next(s->cron, after, ret);
    *ret = after + s->period_ms;
    return *ret > TIME_MAX_MS ? -ERANGE : 0;
}

static bool any_time(const struct source *s, int64_t after, int64_t until)
{
    int64_t t;
    return next_time(s, after, &t) == 0 && t <= until;
}

/* The last one in (after, until], which holds one. */
static int64_t latest_time(const struct source *s, int64_t after, int64_t until)
{
    if (!s->cron)
        return after + (until - after) / s->period_ms * s->period_ms;
    while (until - after > 1) {
        int64_t middle = after + (until - after) / 2;
        if (any_time(s, middle, until))
            after = middle;
        else
            until = middle;
    }
    return until;
}

/* Where to go on from so that at most MISSED_MAX times are left until `until`: twice as far back each round, until
 * there are enough. */
static int64_t bounded_start(const struct source *s, int64_t after, int64_t until)
{
    if (!s->cron) {
        int64_t n = (until - after) / s->period_ms;
        return after + MAX(n - MISSED_MAX, 0) * s->period_ms;
    }
    for (int64_t back = 3600000;; back *= 2) {
        int64_t from = MAX(after, until - back), ring[MISSED_MAX], t = from;
        uint64_t n = 0;
        while (next_time(s, t, &t) == 0 && t <= until)
            ring[n++ % MISSED_MAX] = t;
        if (n > MISSED_MAX || (n == MISSED_MAX && from > after))
            return ring[n % MISSED_MAX] - 1;
        if (from == after)
            return after;
    }
}

/* What passed unseen until `until` is done with as catch_up says. */
static void skip_missed(struct source *s, int64_t until)
{
    if (!any_time(s, s->last, until))
        return;
    int64_t latest = latest_time(s, s->last, until);
    int64_t before = s->last;
    switch (s->catch_up) {
    case CATCH_UP_NONE:
        s->last = latest;
        break;
    case CATCH_UP_ONE:
        s->last = latest - (s->cron ? 1 : s->period_ms);
        break;
    case CATCH_UP_ALL:
        s->last = bounded_start(s, s->last, until);
        if (s->last != before) {
            s->dropped = true;
            s->dropped_until = until;
        }
        break;
    }
}

/* The wall clock may have been set since the last look. */
static void notice_jump(struct source *s, int64_t now)
{
    int64_t offset = now - clock_monotonic_ms(s->env.clock), jump = offset - s->offset;
    if (!s->cron && llabs(jump) >= JUMP_MS) {
        s->last += jump;
        s->next = 0;
    } else if (s->cron && s->last - now > BACK_MAX_MS) {
        s->last = now;
        s->next = 0;
    }
    if (s->cron || llabs(jump) >= JUMP_MS)
        s->offset = offset;
}

/* ---- state ---- */

static void saved(struct store_group *g, int result)
{
    (void)result; /* what is not written is repeated after a crash, and then found to be a repetition */
    unref(g->ctx);
    store_group_free(g);
}

static void save(struct source *s, int64_t last, int64_t fired, bool recorded)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "schedule", s->text);
    cJSON_AddItemToObject(o, "last", value_number_from_int(last));
    cJSON_AddItemToObject(o, "fired", value_number_from_int(fired));
    cJSON_AddBoolToObject(o, "recorded", recorded);
    _cleanup_(freep) char *value = value_print(o);
    cJSON_Delete(o);
    const char *id = source_trigger_id(s->host);
    struct store_group *g = store_group_new(STORE_LAZY, saved, s);
    store_add_kv_put(g, "schedule", id, strlen(id), value, strlen(value));
    s->refs++;
    s->env.store->submit(s->env.store, g);
}

static void take_state(struct source *s, const cJSON *state)
{
    int64_t now = clock_realtime_ms(s->env.clock), last = 0, fired = 0;
    s->offset = now - clock_monotonic_ms(s->env.clock);
    bool known = !s->fresh && streq(value_get_string(state, "schedule"), s->text) &&
                 value_integer(value_get(state, "last"), &last) && value_integer(value_get(state, "fired"), &fired) &&
                 last > 0;
    if (known && cJSON_IsFalse(value_get(state, "recorded"))) {
        s->again = last;
        s->fired = fired;
    }
    s->last = known ? last : now;
    if (s->last > now && (!s->cron || s->last - now > BACK_MAX_MS))
        s->last = now;
    if (!known)
        save(s, now, 0, true); /* from now on times can be missed */
}

static void on_read(struct store_read *r, int result)
{
    struct source *s = r->ctx;
    _cleanup_(cjson_deletep) cJSON *state = NULL;
    if (!s->stopped) {
        if (result == 0)
            value_parse(r->value, r->value_len, &state, NULL);
        take_state(s, state);
        s->loaded = s->starting = true;
        look(s);
    }
    unref(s);
    store_read_free(r);
}

/* What an earlier source of this trigger has submitted is on disk now. */
static void on_settled(struct store_group *g, int result)
{
    (void)result;
    struct source *s = g->ctx;
    store_group_free(g);
    if (s->stopped) {
        unref(s);
        return;
    }
    const char *id = source_trigger_id(s->host);
    struct store_read *r = store_read_new(STORE_READ_KV, on_read, s);
    r->scope = xstrdup("schedule");
    r->key = xstrdup(id);
    r->key_len = strlen(id);
    s->env.store->read(s->env.store, r);
}

/* ---- firing ---- */

static void report_next(struct source *s)
{
    char at[TIME_TEXT_SIZE], more[80] = "";
    time_format(s->next, at);
    if (s->dropped)
        snprintf(more, sizeof(more), "; more than %d times were missed, the oldest are left out", MISSED_MAX);
    _cleanup_(freep) char *message = s->next ? xasprintf("next at %s%s", at, more) : xstrdup("never again");
    s->reported = true;
    source_report(s->host, SOURCE_CONNECTED, "Scheduled", message);
}

static void fire(struct source *s, int64_t time, int64_t fired)
{
    char scheduled_at[TIME_TEXT_SIZE], fired_at[TIME_TEXT_SIZE];
    time_format(time, scheduled_at);
    time_format(fired, fired_at);
    if (time != s->again)
        save(s, time, fired, false);
    s->told = time;
    s->again = 0;
    s->fired = fired;
    _cleanup_(cjson_deletep) cJSON *data = cJSON_CreateObject();
    cJSON_AddStringToObject(data, "scheduled_at", scheduled_at);
    cJSON_AddStringToObject(data, "fired_at", fired_at);
    _cleanup_(freep) char *identity = xasprintf("schedule/%s", scheduled_at);
    source_occurred(s->host, &(struct occurrence){.event_type = "schedule", .data = data, .identity = identity},
                    (uint64_t)time);
}

/* Fire what is due, or sleep until something is. */
static void look(struct source *s)
{
    if (!s->loaded || s->paused || s->stopped || s->told)
        return;
    if (s->again) {
        if (!s->reported)
            source_report(s->host, SOURCE_CONNECTED, "Scheduled", NULL);
        fire(s, s->again, s->fired);
        return;
    }
    int64_t now = clock_realtime_ms(s->env.clock), before = s->next, next;
    notice_jump(s, now);
    int64_t missed_until = s->starting ? now : now - LATE_MS - s->jitter_ms;
    s->starting = false;
    skip_missed(s, missed_until);
    if (next_time(s, s->last, &next) < 0) {
        s->next = 0;
        report_next(s);
        look_soon(s, SLEEP_MAX_MS);
        return;
    }
    if (next != s->next) {
        s->next = next;
        s->due = next;
        if (s->jitter_ms > 0 && next > missed_until)
            s->due += (int64_t)random_below(s->env.random, (uint64_t)s->jitter_ms);
    }
    if (s->next != before && (now < s->due || !s->reported))
        report_next(s);
    if (now >= s->due) {
        s->dropped = s->dropped && s->next <= s->dropped_until;
        fire(s, s->next, now);
        return;
    }
    look_soon(s, MIN(s->due - now, SLEEP_MAX_MS));
}

static void ack(struct source *s, uint64_t token)
{
    if (s->told == 0 || (int64_t)token != s->told)
        return;
    s->last = MAX(s->last, s->told);
    save(s, s->told, s->fired, true);
    s->told = 0;
    s->next = 0;
    s->backoff_ms = 0;
    look_soon(s, 0);
}

static void nack(struct source *s, uint64_t token, const char *why)
{
    (void)why;
    if (s->told == 0 || (int64_t)token != s->told)
        return;
    s->again = s->told;
    s->told = 0;
    s->backoff_ms = s->backoff_ms ? MIN(s->backoff_ms * 2, BACKOFF_MAX_MS) : BACKOFF_MIN_MS;
    look_soon(s, (int64_t)((double)s->backoff_ms * (0.8 + 0.4 * random_unit(s->env.random))));
}

/* ---- life ---- */

static void take_config(struct source *s, const struct config *c)
{
    s->jitter_ms = llround(c->jitter_seconds * 1000);
    s->catch_up = (enum catch_up)c->catch_up;
}

static int create(struct source_host *host, const struct source_env *env, const struct trigger *trigger,
                  struct source **ret, struct error *err)
{
    const struct config *c = trigger->config;
    struct cron *cron = NULL;
    if (c->cron) {
        int r = cron_create(c->cron, c->timezone, &cron, err);
        if (r < 0)
            return r;
    }
    struct source *s = xcalloc(1, sizeof(*s));
    s->host = host;
    s->env = *env;
    s->refs = 1;
    s->fresh = source_is_new(host);
    s->cron = cron;
    s->period_ms = llround(c->every_seconds * 1000);
    s->text = cron ? xasprintf("cron %s %s", c->cron, c->timezone) : xasprintf("every %" PRId64 " ms", s->period_ms);
    s->set_fd = -1;
    take_config(s, c);
    timer_init(&s->timer, on_timer, s);
    *ret = s;
    return 0;
}

static void arm_set(struct source *s)
{
    const struct itimerspec far = {.it_value.tv_sec = TIME_MAX_MS / 1000};
    timerfd_settime(s->set_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL);
}

static void on_set(void *ctx, int fd, int events, int status)
{
    (void)events;
    (void)status;
    struct source *s = ctx;
    uint64_t n;
    ssize_t got = read(fd, &n, sizeof(n)); /* -ECANCELED: that is what is waited for */
    (void)got;
    arm_set(s);
    look(s);
}

static void start(struct source *s)
{
    if (s->env.loop) {
        loop_group_init(&s->group, s->env.loop);
        s->set_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    }
    if (s->set_fd >= 0 && loop_poll_init(&s->group, &s->set, s->set_fd, on_set, s) == 0) {
        arm_set(s);
        loop_poll_start(&s->set, UV_READABLE);
    }
    s->refs++;
    s->env.store->submit(s->env.store, store_group_new(0, on_settled, s));
}

static void on_gone(void *ctx)
{
    struct source *s = ctx;
    closep(&s->set_fd);
    s->done(s->done_ctx);
    unref(s);
}

static void on_gone_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    on_gone(ctx);
}

static void stop(struct source *s, void (*done)(void *ctx), void *ctx)
{
    s->stopped = true;
    s->done = done;
    s->done_ctx = ctx;
    timer_stop(s->env.timers, &s->timer);
    if (s->env.loop) {
        loop_group_close(&s->group, on_gone, s);
        return;
    }
    timer_init(&s->gone, on_gone_timer, s);
    timer_start(s->env.timers, &s->gone, clock_monotonic_ms(s->env.clock));
}

static void pause_source(struct source *s)
{
    s->paused = true;
    timer_stop(s->env.timers, &s->timer);
}

static void resume(struct source *s)
{
    s->paused = false;
    s->backoff_ms = 0;
    look_soon(s, 0);
}

static void forget(struct store_group *g, const char *trigger_id)
{
    store_add_kv_delete(g, "schedule", trigger_id, strlen(trigger_id));
}

static bool update(struct source *s, const struct trigger *trigger)
{
    take_config(s, trigger->config);
    s->next = 0;
    look_soon(s, 0);
    return true;
}

const struct source_type source_schedule = {
    .kind = {.name = "schedule", .config = &table, .validate = validate, .rules = rules},
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
