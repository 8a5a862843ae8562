/* Runs that cause the next event of their own trigger.
 *
 * A run that writes what its trigger watches causes the next event, and so on. inotify does not tell who wrote a file, so
 * there are two signs:
 *
 *  - Its name: while the run for a file lasts, that same file changes again, or one appears whose path goes on from it
 *    (`a.csv`, `a.csv.out`). A file that others keep busy gives more than one event a run, and does not count.
 *  - Its time: it was written while runs of this trigger lasted. The time of a file is only that of the kernel's last
 *    tick before; so where inotify told of it at once, that was while they lasted as well: or a script that waits for
 *    each result would be a loop.
 *
 * Time alone may be chance, where others write at about the pace of the runs or many files at once. Of a loop each run
 * writes; so a run of the same minute in whose time nothing was written speaks for all that wait. Where there is none,
 * the trigger is held before the last two of the rounds that are allowed: the next run goes alone, and then the trigger
 * stands still for longer than its runs take; and so once more. A run alone that wrote none, or a file that was written
 * while nothing ran: then others write, what waits goes on, and this sign counts for nothing for a while. If each of the
 * two wrote one and nobody else did, it is a loop, and what waits beyond the rounds that are allowed ends.
 *
 *   FREE ──PROVED_FROM rounds by time──► DRAINING ──the last run ends──► NEXT ──a run starts──► ALONE ──it ends──► STILL
 *    ▲ ▲                                                                  ▲                                        │ │ │
 *    │ │                                                                  └───────it wrote, and nobody else────────┘ │ │
 *    │ └(convicted)─────────────────────────────so did the one before────────────────────────────────────────────────┘ │
 *    └─(trusted)───────────────────────────────it wrote none, or others did────────────────────────────────────────────┘
 */
#include "engine/internal.h"

#define RUNS_KEPT 16 /* the last ones, running or ended, in whose time a file may have been written */
#define PROOFS 2     /* runs alone, each of which wrote the next file */
#define PROVED_FROM (ROUNDS_MAX - PROOFS)
#define SLACK_MS 100  /* how long after a run's end a change of its own file may still be its doing */
#define TICK_MS 10    /* a file's time is that of the last tick of the kernel's clock */
#define AT_ONCE_MS 20 /* between a file's time and when inotify told of it: else it was found later, by a scan */
#define TOLD_MS (TICK_MS + AT_ONCE_MS) /* it is told by then, beside what this trigger's are late in any case */
#define STILL_MIN_MS 100
#define MANY_MS 150 /* how old rounds are at least for which a trigger with many files is held */
#define STILL_MAX_MS 2000
#define TOLD_LATE_MAX_MS 15000 /* how long after it was written a file may be reported, at most: its debounce */
#define TRUSTED_MS 60000

struct round_run {
    const struct live_run *run;   /* NULL: it has ended */
    char *path;                   /* of the file that it ran for; NULL: not known */
    int64_t started_ms, ended_ms; /* wall clock */
    struct round round;           /* of the event that it ran for */
    unsigned caused;              /* by name */
    bool wrote;                   /* something was written in its time */
};

enum hold { FREE, DRAINING, STILL, NEXT, ALONE };

struct rounds {
    struct round_run runs[RUNS_KEPT]; /* a ring */
    unsigned n, newest;
    enum hold hold;
    unsigned proofs;
    int64_t late_ms;       /* how late files are told, by the last */
    int64_t quiet_ms;      /* when the last run began that wrote nothing, of those that are not kept; wall clock */
    int64_t still_from_ms; /* of STILL; wall clock */
    int64_t known_ms;      /* monotonic: by when it is known of a file that the run alone wrote … */
    int64_t over_ms;       /* … and of those that others write meanwhile */
    int64_t trusted_until_ms, convicted_until_ms; /* monotonic */
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

/* The run alone is the newest. */
static void stand_still(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    int64_t now = engine_now(t->engine);
    r->hold = STILL;
    r->still_from_ms = engine_wall(t->engine);
    r->known_ms = now + TOLD_MS + r->late_ms;
    r->over_ms = now + MIN(MAX(2 * longest_run(r), STILL_MIN_MS), STILL_MAX_MS) + r->late_ms;
    timer_start(t->engine->timers, &t->cooldown, r->known_ms);
}

static void go_on(struct live_trigger *t)
{
    timer_start(t->engine->timers, &t->cooldown, engine_now(t->engine));
}

static void trust(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    r->hold = FREE;
    r->trusted_until_ms = engine_now(t->engine) + TRUSTED_MS;
    for (unsigned i = 0; i < r->n; i++)
        r->runs[i].round = (struct round){0};
    go_on(t);
}

/* Has it ended, and would be known of a file that was written in its time? */
static bool was_quiet(const struct live_trigger *t, const struct round_run *run)
{
    return !run->run && !run->wrote && engine_wall(t->engine) >= run->ended_ms + TOLD_MS + t->rounds->late_ms;
}

/* Others write: that is known since lately, or a run that began in the time of these rounds wrote nothing. */
static bool of_others(const struct live_trigger *t, const struct round *round)
{
    const struct rounds *r = t->rounds;
    if (engine_now(t->engine) < r->trusted_until_ms || r->quiet_ms >= round->since_ms)
        return true;
    for (unsigned i = 0; i < r->n; i++)
        if (r->runs[i].started_ms >= round->since_ms && was_quiet(t, &r->runs[i]))
            return true;
    return false;
}

static bool convicted(const struct live_trigger *t)
{
    return engine_now(t->engine) < t->rounds->convicted_until_ms;
}

bool rounds_proved(const struct live_trigger *t, const struct round *round)
{
    return round->n > ROUNDS_MAX && (!round->suspected || convicted(t));
}

static bool by_time(const struct live_trigger *t, const struct round *round)
{
    return round->suspected && round->n > PROVED_FROM && !convicted(t);
}

bool rounds_suspect(const struct live_trigger *t, const struct round *round)
{
    if (!t->rounds || !by_time(t, round) || of_others(t, round))
        return false;
    bool many = t->n_pending > RUNS_KEPT; /* the runs after them will tell */
    return !many || engine_wall(t->engine) - round->since_ms >= MANY_MS;
}

void rounds_hold(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    if (r->hold != FREE)
        return;
    r->hold = t->n_running > 0 ? DRAINING : NEXT;
    r->proofs = 0;
}

int64_t rounds_left(const struct live_trigger *t)
{
    const struct rounds *r = t->rounds;
    if (!r || r->hold == FREE || r->hold == NEXT)
        return 0;
    if (r->hold != STILL)
        return STILL_MAX_MS; /* it looks again; the end of the last run sets the time */
    int64_t until = r->runs[r->newest].wrote ? r->over_ms : r->known_ms;
    return MAX(until - engine_now(t->engine), 1);
}

/* Lasts until its runs have ended, and their files would be known of. */
static void convict(struct live_trigger *t)
{
    t->rounds->convicted_until_ms = engine_now(t->engine) + STILL_MAX_MS + t->rounds->late_ms;
}

static void end_waiting(struct live_trigger *t)
{
    struct lane *l, *tmp;
    HASH_ITER (hh, t->lanes, l, tmp) {
        struct live_event *ev, *next;
        l->busy++;
        DL_FOREACH_SAFE (l->pending, ev, next) {
            if (ev->recorded && ev->round.n > ROUNDS_MAX && ev->round.suspected)
                event_end_pending(ev, EVENT_SKIPPED, DECISION_LOOP_BLOCKED,
                                  ROUNDS_REASON
                                  "; run alone, each of the last %d wrote one, and none came while nothing ran",
                                  ROUNDS_MAX, PROOFS);
        }
        l->busy--;
        lane_reap(l);
    }
}

void rounds_judge(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    if (!r || r->hold != STILL)
        return;
    bool wrote = r->runs[r->newest].wrote;
    int64_t now = engine_now(t->engine), until = wrote ? r->over_ms : r->known_ms;
    if (now < until) {
        timer_start(t->engine->timers, &t->cooldown, until);
    } else if (!wrote) {
        trust(t);
    } else if (++r->proofs < PROOFS) {
        r->hold = NEXT;
    } else {
        r->hold = FREE;
        convict(t);
        end_waiting(t);
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
static const struct round_run *written_during(struct rounds *r, const struct occurrence *o)
{
    const struct round_run *found = NULL;
    int64_t told_ms = o->occurred_ms - o->written_ms < AT_ONCE_MS ? o->occurred_ms : o->written_ms;
    for (unsigned i = 0; i < r->n; i++) {
        struct round_run *run = &r->runs[i];
        if (o->written_ms < run->started_ms - TICK_MS || (!run->run && told_ms > run->ended_ms))
            continue;
        run->wrote = true;
        if (!found || run->round.n < found->round.n)
            found = run;
    }
    return found;
}

struct round rounds_count(struct live_trigger *t, const struct occurrence *o)
{
    struct rounds *r = t->rounds;
    if (!r || r->n == 0 || !t->type->own_writes || t->spec->allow_loops)
        return (struct round){0};
    const struct round_run *run = o->written_ms ? written_during(r, o) : NULL;
    if (caused_by_name(&r->runs[r->newest], o))
        return next_round(&r->runs[r->newest], o->occurred_ms, false);
    if (!o->written_ms || engine_now(t->engine) < r->trusted_until_ms)
        return (struct round){0};
    r->late_ms = MIN(MAX(engine_wall(t->engine) - o->written_ms, 0), TOLD_LATE_MAX_MS);
    if (!run) {
        if (r->hold == STILL && o->written_ms > r->still_from_ms)
            trust(t);
        return (struct round){0};
    }
    return next_round(run, o->written_ms, true);
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
    if (was_quiet(t, this))
        r->quiet_ms = MAX(r->quiet_ms, this->started_ms);
    free(this->path);
    *this =
        (struct round_run){.run = run, .path = steal(&ev->path), .started_ms = run->row.started_ms, .round = ev->round};
    if (r->hold == NEXT) {
        r->hold = ALONE;
    } else if (by_time(t, &ev->round) && of_others(t, &ev->round)) {
        this->round = (struct round){0}; /* what follows is counted anew */
    }
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
    if (r->hold == DRAINING && t->n_running <= 1) { /* it counts until it has left its lane */
        r->hold = NEXT;
        go_on(t);
    } else if (r->hold == ALONE) {
        stand_still(t);
    }
    if (convicted(t))
        convict(t);
}
