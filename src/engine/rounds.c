/* Runs that cause the next event of their own trigger.
 *
 * A run that writes what its trigger watches causes the next event, and so on. inotify does not tell who wrote a file, so
 * there are two signs:
 *
 *  - Its name: while the run for a file lasts, that same file changes again, or one appears whose path goes on from it
 *    (`a.csv`, `a.csv.out`). A file that others keep busy gives more than one event a run, and does not count.
 *  - Its time: it was written while runs of this trigger lasted. The time of a file is only that of the kernel's last
 *    tick before; so where inotify told of it at once, that was while they lasted as well: or a script that waits for
 *    each result would be a loop. Alone that may be chance, where others write at about
 *    the pace of the runs. So after ROUNDS_MAX rounds in a row the trigger is held, and stands still for longer than its
 *    runs take: if a file comes that was written meanwhile, when no run was there to write it, then others write; what
 *    waits goes on, and this sign counts for nothing for a while. If none comes, what waits is the loop's, and ends.
 *
 *        free ──ROUNDS_MAX rounds by time──► held ──the last run ends──► still ──file written meanwhile──► free (trusted)
 *                                                                          └──── its time is over ────────► free
 */
#include "engine/internal.h"

#define RUNS_KEPT 8   /* the last ones, running or ended, in whose time a file may have been written */
#define SLACK_MS 100  /* how long after a run's end a change of its own file may still be its doing */
#define TICK_MS 10    /* a file's time is that of the last tick of the kernel's clock */
#define AT_ONCE_MS 20 /* between a file's time and when inotify told of it: else it was found later, by a scan */
#define STILL_MIN_MS 100
#define STILL_MAX_MS 2000
#define TOLD_LATE_MAX_MS 15000 /* how long after it was written a file may be reported, at most: its debounce */
#define TRUSTED_MS 60000

struct round_run {
    const struct live_run *run;   /* NULL: it has ended */
    char *path;                   /* of the file that it ran for; NULL: not known */
    int64_t started_ms, ended_ms; /* wall clock */
    struct round round;           /* of the event that it ran for */
    unsigned caused;              /* by name */
};

struct rounds {
    struct round_run runs[RUNS_KEPT]; /* a ring */
    unsigned n, newest;
    bool held;
    int64_t still_from_ms;    /* wall clock; 0: runs still last */
    int64_t late_ms;          /* how late files are told */
    int64_t over_ms;          /* monotonic: the end of the hold; valid once it is still */
    int64_t trusted_until_ms; /* monotonic */
};

void rounds_free(struct rounds *r)
{
    if (!r)
        return;
    for (unsigned i = 0; i < r->n; i++)
        free(r->runs[i].path);
    free(r);
}

/* ---- the hold ---- */

static int64_t longest_run(const struct rounds *r)
{
    int64_t longest = 0;
    for (unsigned i = 0; i < r->n; i++)
        if (!r->runs[i].run)
            longest = MAX(longest, r->runs[i].ended_ms - r->runs[i].started_ms);
    return longest;
}

static void stand_still(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    int64_t still = MIN(MAX(2 * longest_run(r), STILL_MIN_MS), STILL_MAX_MS);
    r->still_from_ms = engine_wall(t->engine);
    r->over_ms = engine_now(t->engine) + still + r->late_ms;
    timer_start(t->engine->timers, &t->cooldown, r->over_ms);
}

static void begin_hold(struct live_trigger *t, const struct occurrence *o)
{
    struct rounds *r = t->rounds;
    r->held = true;
    r->still_from_ms = 0;
    r->late_ms = MIN(MAX(engine_wall(t->engine) - o->written_ms, 0), TOLD_LATE_MAX_MS);
    if (t->n_running == 0)
        stand_still(t);
}

static void trust(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    r->held = false;
    r->trusted_until_ms = engine_now(t->engine) + TRUSTED_MS;
    for (unsigned i = 0; i < r->n; i++)
        r->runs[i].round = (struct round){0};
    timer_start(t->engine->timers, &t->cooldown, engine_now(t->engine)); /* what waits goes on */
}

int64_t rounds_left(const struct live_trigger *t)
{
    const struct rounds *r = t->rounds;
    if (!r || !r->held)
        return 0;
    if (!r->still_from_ms)
        return STILL_MAX_MS; /* it looks again; the end of the last run sets the time */
    return MAX(r->over_ms - engine_now(t->engine), 0);
}

void rounds_judge(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    if (!r || !r->held || rounds_left(t) > 0)
        return;
    r->held = false;
    struct lane *l, *tmp;
    HASH_ITER (hh, t->lanes, l, tmp) {
        struct live_event *ev, *next;
        l->busy++;
        DL_FOREACH_SAFE (l->pending, ev, next) {
            if (ev->recorded && ev->round.n > ROUNDS_MAX && ev->round.suspected)
                event_end_pending(ev, EVENT_SKIPPED, DECISION_LOOP_BLOCKED,
                                  ROUNDS_REASON "; none came while nothing ran", ROUNDS_MAX);
        }
        l->busy--;
        lane_reap(l);
    }
}

/* ---- counting ---- */

static struct round next_round(const struct round_run *run, int64_t at_ms, bool suspected)
{
    struct round round = {.n = run->round.n + 1, .since_ms = run->round.since_ms};
    if (round.n == 1 || at_ms - round.since_ms > ROUNDS_WINDOW_MS)
        round = (struct round){.n = 1, .since_ms = at_ms};
    round.suspected = suspected || (round.n > 1 && run->round.suspected);
    return round;
}

static bool caused_by_name(struct round_run *run, const struct occurrence *o)
{
    const char *path = value_get_string(o->data, "path");
    if (!path || !run->path || strncmp(path, run->path, strlen(run->path)) != 0)
        return false;
    bool during = o->occurred_ms >= run->started_ms && (run->run || o->occurred_ms <= run->ended_ms + SLACK_MS);
    return during && run->caused++ == 0;
}

/* The run in whose time it was written; of several the one with the fewest rounds. */
static const struct round_run *written_during(const struct rounds *r, const struct occurrence *o)
{
    const struct round_run *found = NULL;
    int64_t told_ms = o->occurred_ms - o->written_ms < AT_ONCE_MS ? o->occurred_ms : o->written_ms;
    for (unsigned i = 0; i < r->n; i++) {
        const struct round_run *run = &r->runs[i];
        bool during = o->written_ms >= run->started_ms - TICK_MS && (run->run || told_ms <= run->ended_ms);
        if (during && (!found || run->round.n < found->round.n))
            found = run;
    }
    return found;
}

struct round rounds_count(struct live_trigger *t, const struct occurrence *o)
{
    struct rounds *r = t->rounds;
    if (!r || r->n == 0 || !t->type->own_writes || t->spec->allow_loops)
        return (struct round){0};
    if (caused_by_name(&r->runs[r->newest], o))
        return next_round(&r->runs[r->newest], o->occurred_ms, false);
    if (!o->written_ms || engine_now(t->engine) < r->trusted_until_ms)
        return (struct round){0};
    const struct round_run *run = written_during(r, o);
    if (!run) {
        if (r->held && r->still_from_ms && o->written_ms > r->still_from_ms)
            trust(t);
        return (struct round){0};
    }
    struct round round = next_round(run, o->written_ms, true);
    if (round.n > ROUNDS_MAX && !r->held)
        begin_hold(t, o);
    return round;
}

void rounds_run_started(struct live_trigger *t, const struct live_run *run, struct live_event *ev)
{
    if (!t->type->own_writes)
        return;
    if (!t->rounds)
        t->rounds = xcalloc(1, sizeof(*t->rounds));
    struct rounds *r = t->rounds;
    r->newest = r->n == 0 ? 0 : (r->newest + 1) % RUNS_KEPT;
    r->n = MAX(r->n, r->newest + 1);
    struct round_run *this = &r->runs[r->newest];
    free(this->path);
    *this =
        (struct round_run){.run = run, .path = steal(&ev->path), .started_ms = run->row.started_ms, .round = ev->round};
}

void rounds_run_ended(struct live_trigger *t, const struct live_run *run)
{
    struct rounds *r = t->rounds;
    if (!r)
        return;
    for (unsigned i = 0; i < r->n; i++)
        if (r->runs[i].run == run) {
            r->runs[i].run = NULL;
            r->runs[i].ended_ms = engine_wall(t->engine);
        }
    if (r->held && !r->still_from_ms && t->n_running <= 1) /* it counts until it has left its lane */
        stand_still(t);
}
