/* Runs that cause the next event of their own trigger.
 *
 * A run that writes what its trigger watches causes the next event, and so on. inotify does not tell who wrote a file, so
 * there are two signs:
 *
 *  - Its name: while the run for a file lasts, that same file changes again, or one appears whose path goes on from it
 *    (`a.csv`, `a.csv.out`).
 *  - Its time: it was written while runs of this trigger lasted. The time of a file is only that of the kernel's last
 *    tick before; so where inotify told of it at once, that was while they lasted as well: or a script that waits for
 *    each result would be a loop.
 *
 * Both may be chance, where others write at about the pace of the runs (a log that is appended to), or many files at
 * once. Of a loop each run writes; so a run of the same minute in whose time nothing was written speaks for all that wait
 * by the second sign. Where there is none, the trigger is held before the last two of the rounds that are allowed: the
 * next run goes alone, and then the trigger stands still for longer than its runs take; and so once more. A run alone
 * that wrote none, or files that are written while nothing runs, at such a pace that one may have come in the time of
 * that run: then others write, what waits goes on, and this sign counts for nothing for a while (the first one: for
 * that name). If each of the two wrote one and nobody else did (of more, if somebody does, but seldom), it is a loop, and
 * all that waits and was written so ends.
 *
 *   FREE ──PROVED_FROM rounds──► DRAINING ──the last run ends──► NEXT ──a run starts──► ALONE ──it ends──► STILL
 *    ▲ ▲                                                          ▲                                        │ │ │
 *    │ │                                                          └──────it wrote, and nobody else─────────┘ │ │
 *    │ └(convicted)──────────────────────so did those before─────────────────────────────────────────────────┘ │
 *    └─(trusted)─────────────────────────it wrote none, or others did──────────────────────────────────────────┘
 */
#include "engine/internal.h"

#define SPANS_MAX 256 /* runs that are kept apart */
#define PROOFS 2      /* runs alone, each of which wrote the next file */
#define PROOFS_AMONG_OTHERS 4
#define PROVED_FROM (ROUNDS_MAX - PROOFS)
#define SLACK_MS 100  /* how long after a run's end a change of its own file may still be its doing */
#define TICK_MS 10    /* a file's time is that of the last tick of the kernel's clock */
#define AT_ONCE_MS 20 /* between a file's time and when inotify told of it: else it was found later, by a scan */
#define TOLD_MS (TICK_MS + AT_ONCE_MS) /* it is told by then, beside what this trigger's are late in any case */
#define STILL_MIN_MS 300
#define STILL_MAX_MS (ROUNDS_WINDOW_MS / ROUNDS_MAX) /* slower runs make no such rounds */
#define LASTED_KEPT 16
#define MANY 16        /* waiting: the runs after them will tell, unless … */
#define MANY_MS 150    /* … rounds are as old as this, and twice the time by which files are told late */
#define TELLING_MS 100 /* files that are told so soon one after the other are more than can be told at once */
#define LOOK_MS 2000
#define STRANGERS_MAX 16
#define BUSY_MAX 8
#define TOLD_LATE_MAX_MS 15000 /* how long after it was written a file may be reported, at most: its debounce */
#define TRUSTED_MS 60000

/* A run, or some that ended one after the other without a pause, of long ago. */
struct span {
    const struct live_run *run;   /* NULL: it has ended */
    int64_t started_ms, ended_ms; /* wall clock */
    struct round round;           /* of the event that it ran for; of several the one with the fewest */
    bool wrote;                   /* something was written in its time */
};

enum hold { FREE, DRAINING, STILL, NEXT, ALONE };

/* A file that others write. */
struct busy {
    char *path;
    int64_t until_ms; /* monotonic */
};

struct rounds {
    struct span *spans; /* by their start */
    size_t n, cap;
    char *path;      /* of the file that the last run is for; NULL: not known */
    unsigned caused; /* by its name */
    int64_t lasted_ms[LASTED_KEPT];
    unsigned n_lasted;
    enum hold hold;
    char *name; /* that it is about; NULL: about time */
    unsigned proofs, strangers, others;
    bool among_others;
    int64_t told_at_ms, told_until_ms; /* wall clock: of the last file that was told, and of its writing */
    int64_t late_ms;                   /* how late files are told, by the last */
    int64_t quiet_ms; /* when the last run began that wrote nothing, of those that are not kept apart; wall clock */
    int64_t still_from_ms;    /* of STILL; wall clock */
    int64_t known_ms;         /* monotonic: by when it is known of a file that the run alone wrote … */
    int64_t over_ms;          /* … and of those that others write meanwhile */
    int64_t still_ms;         /* how long that is */
    int64_t trusted_until_ms; /* monotonic */
    int64_t convicted_ms;     /* wall clock: what was written until then … */
    char *convicted_name;     /* … by this name; NULL: by time */
    struct busy busy[BUSY_MAX];
    unsigned newest_busy;
};

void rounds_free(struct rounds *r)
{
    if (!r)
        return;
    for (unsigned i = 0; i < BUSY_MAX; i++)
        free(r->busy[i].path);
    free(r->spans);
    free(r->path);
    free(r->name);
    free(r->convicted_name);
    free(r);
}

/* Is one the beginning of the other? */
static bool related(const char *a, const char *b)
{
    return a && b && strncmp(a, b, MIN(strlen(a), strlen(b))) == 0;
}

static bool is_busy(const struct live_trigger *t, const char *path)
{
    const struct rounds *r = t->rounds;
    for (unsigned i = 0; i < BUSY_MAX; i++)
        if (related(r->busy[i].path, path) && engine_now(t->engine) < r->busy[i].until_ms)
            return true;
    return false;
}

/* ---- the hold ---- */

static int64_t longest_run(const struct rounds *r)
{
    int64_t longest = 0;
    for (unsigned i = 0; i < LASTED_KEPT; i++)
        longest = MAX(longest, r->lasted_ms[i]);
    return longest;
}

static void stand_still(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    int64_t now = engine_now(t->engine);
    r->hold = STILL;
    r->others = 0;
    r->still_from_ms = engine_wall(t->engine);
    r->still_ms = MIN(2 * longest_run(r) + STILL_MIN_MS, STILL_MAX_MS);
    r->known_ms = now + TOLD_MS + r->late_ms;
    r->over_ms = now + r->still_ms + r->late_ms;
    timer_start(t->engine->timers, &t->cooldown, r->known_ms);
}

static void go_on(struct live_trigger *t)
{
    timer_start(t->engine->timers, &t->cooldown, engine_now(t->engine));
}

static void trust(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    int64_t until = engine_now(t->engine) + TRUSTED_MS;
    r->hold = FREE;
    if (r->name) {
        struct busy *b = &r->busy[r->newest_busy++ % BUSY_MAX];
        free(b->path);
        *b = (struct busy){steal(&r->name), until};
    } else {
        r->trusted_until_ms = until;
    }
    for (size_t i = 0; i < r->n; i++)
        r->spans[i].round = (struct round){0};
    go_on(t);
}

/* Would it be known of a file that was written until then? They are told in their order, by and large, and where many
 * come at once each of them later than the one before. */
static bool all_told(const struct live_trigger *t, int64_t until_ms)
{
    const struct rounds *r = t->rounds;
    int64_t now = engine_wall(t->engine);
    bool telling = now < r->told_at_ms + TELLING_MS && !t->source_paused;
    return until_ms + TOLD_MS <= (telling ? r->told_until_ms : now - r->late_ms);
}

static bool was_quiet(const struct live_trigger *t, const struct span *span)
{
    return !span->run && !span->wrote && all_told(t, span->ended_ms);
}

/* Others write: that is known since lately, or a run that began in the time of these rounds wrote nothing. */
static bool of_others(const struct live_trigger *t, const struct round *round, const char *path)
{
    const struct rounds *r = t->rounds;
    if (!round->suspected)
        return is_busy(t, path);
    if (engine_now(t->engine) < r->trusted_until_ms || r->quiet_ms >= round->since_ms)
        return true;
    for (size_t i = r->n; i > 0 && r->spans[i - 1].started_ms >= round->since_ms; i--)
        if (was_quiet(t, &r->spans[i - 1]))
            return true;
    return false;
}

bool rounds_suspect(const struct live_trigger *t, const struct round *round, const char *path)
{
    const struct rounds *r = t->rounds;
    if (!r || round->n <= PROVED_FROM || of_others(t, round, path))
        return false;
    return t->n_pending <= MANY || engine_wall(t->engine) - round->since_ms >= MANY_MS + 2 * r->late_ms;
}

void rounds_hold(struct live_trigger *t, const struct round *round, const char *path)
{
    struct rounds *r = t->rounds;
    if (r->hold != FREE)
        return;
    r->hold = t->n_running > 0 ? DRAINING : NEXT;
    r->proofs = r->strangers = 0;
    r->among_others = false;
    free(r->name);
    r->name = round->suspected ? NULL : xstrdup0(path);
}

/* Did the run alone write? */
static bool wrote(const struct rounds *r)
{
    return r->name ? r->caused > 0 : r->spans[r->n - 1].wrote;
}

int64_t rounds_left(const struct live_trigger *t)
{
    const struct rounds *r = t->rounds;
    if (!r || r->hold == FREE || r->hold == NEXT)
        return 0;
    if (r->hold != STILL)
        return LOOK_MS; /* the end of the last run sets the time */
    return MAX((wrote(r) ? r->over_ms : r->known_ms) - engine_now(t->engine), 1);
}

static void end_waiting(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    struct lane *l, *tmp;
    HASH_ITER (hh, t->lanes, l, tmp) {
        struct live_event *ev, *next;
        l->busy++;
        DL_FOREACH_SAFE (l->pending, ev, next) {
            if (ev->recorded && ev->round.n > 0 && (!r->name || related(r->name, ev->path)))
                event_end_pending(ev, EVENT_SKIPPED, DECISION_LOOP_BLOCKED,
                                  ROUNDS_REASON
                                  "; run alone, each of the last %u wrote one, and %s came while nothing ran",
                                  ROUNDS_MAX, r->proofs, r->among_others ? "few" : "none");
        }
        l->busy--;
        lane_reap(l);
    }
}

static void convict(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    r->hold = FREE;
    end_waiting(t);
    r->convicted_ms = engine_wall(t->engine);
    free(r->convicted_name);
    r->convicted_name = steal(&r->name);
}

void rounds_judge(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    if (!r || r->hold != STILL)
        return;
    bool it_wrote = wrote(r);
    int64_t now = engine_now(t->engine), until = it_wrote ? r->over_ms : r->known_ms;
    if (now < until) {
        timer_start(t->engine->timers, &t->cooldown, until);
    } else if (!it_wrote && !all_told(t, r->still_from_ms) &&
               engine_wall(t->engine) - r->still_from_ms < TOLD_LATE_MAX_MS) {
        r->known_ms = now + TELLING_MS;
        timer_start(t->engine->timers, &t->cooldown, r->known_ms);
    } else if (!it_wrote) {
        trust(t);
    } else if (++r->proofs < (r->among_others ? PROOFS_AMONG_OTHERS : PROOFS)) {
        r->hold = NEXT;
    } else {
        convict(t);
    }
}

/* A file that was written while the trigger stood still. */
static void written_by_others(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    const struct span *alone = &r->spans[r->n - 1];
    int64_t in_its_time = ++r->others * (alone->ended_ms - alone->started_ms + 2 * TICK_MS);
    r->among_others = true;
    if (in_its_time * 4 >= r->still_ms)
        trust(t);
}

/* ---- counting ---- */

static struct round next_round(const struct round *of_run, int64_t at_ms, bool suspected)
{
    struct round round = {.n = of_run->n + 1, .since_ms = of_run->since_ms};
    if (round.n == 1 || at_ms - round.since_ms > ROUNDS_WINDOW_MS)
        round = (struct round){.n = 1, .since_ms = at_ms};
    round.suspected = suspected || (round.n > 1 && of_run->suspected);
    return round;
}

/* Of the last run's. */
static bool is_own_name(const struct rounds *r, const char *path)
{
    return path && r->path && strncmp(path, r->path, strlen(r->path)) == 0;
}

static bool caused_by_name(struct rounds *r, const struct occurrence *o)
{
    const struct span *last = &r->spans[r->n - 1];
    bool during = o->occurred_ms >= last->started_ms && (last->run || o->occurred_ms <= last->ended_ms + SLACK_MS);
    return during && r->caused++ == 0;
}

/* The run in whose time it was written; of several the one with the fewest rounds. */
static const struct span *written_during(struct rounds *r, const struct occurrence *o)
{
    const struct span *found = NULL;
    int64_t told_ms = o->occurred_ms - o->written_ms < AT_ONCE_MS ? o->occurred_ms : o->written_ms;
    for (size_t i = 0; i < r->n; i++) {
        struct span *span = &r->spans[i];
        if (o->written_ms < span->started_ms - TICK_MS || (!span->run && told_ms > span->ended_ms))
            continue;
        span->wrote = true;
        if (!found || span->round.n < found->round.n)
            found = span;
    }
    return found;
}

static struct round count(struct live_trigger *t, const struct occurrence *o, const char *path)
{
    struct rounds *r = t->rounds;
    const struct span *span = o->written_ms ? written_during(r, o) : NULL;
    bool own_name = is_own_name(r, path);
    if (r->hold == STILL && o->written_ms > r->still_from_ms && (own_name || !r->name)) {
        written_by_others(t);
        return (struct round){0};
    }
    if (own_name && is_busy(t, path))
        return (struct round){0};
    if (own_name && caused_by_name(r, o))
        return next_round(&r->spans[r->n - 1].round, o->occurred_ms, false);
    if (!o->written_ms || engine_now(t->engine) < r->trusted_until_ms)
        return (struct round){0};
    return span ? next_round(&span->round, o->written_ms, true) : (struct round){0};
}

struct round rounds_count(struct live_trigger *t, const struct occurrence *o)
{
    struct rounds *r = t->rounds;
    if (!r || r->n == 0 || !t->type->own_writes || t->spec->allow_loops)
        return (struct round){0};
    const char *path = value_get_string(o->data, "path");
    if (o->written_ms) {
        r->told_at_ms = engine_wall(t->engine);
        r->told_until_ms = o->written_ms;
        r->late_ms = MIN(MAX(engine_wall(t->engine) - o->written_ms, 0), TOLD_LATE_MAX_MS);
    }
    struct round round = count(t, o, path);
    bool at_issue = !r->convicted_name || related(r->convicted_name, path);
    round.proved = round.n > 0 && at_issue && o->written_ms && o->written_ms <= r->convicted_ms;
    if (!round.proved && rounds_suspect(t, &round, path))
        rounds_hold(t, &round, path);
    return round;
}

/* ---- runs ---- */

/* One span of two, the first of which may be of several runs. */
static void join(struct live_trigger *t, struct span *a, const struct span *b)
{
    struct rounds *r = t->rounds;
    if (was_quiet(t, a))
        r->quiet_ms = MAX(r->quiet_ms, a->started_ms);
    if (was_quiet(t, b))
        r->quiet_ms = MAX(r->quiet_ms, b->started_ms);
    a->ended_ms = MAX(a->ended_ms, b->ended_ms);
    a->wrote |= b->wrote;
    if (b->round.n < a->round.n)
        a->round = b->round;
}

/* Make room: what is too old goes, of others two become one where no time lies between them; or else the oldest goes. */
static void thin_out(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    int64_t old = engine_wall(t->engine) - TOLD_LATE_MAX_MS;
    size_t n = 0;
    bool joined = true; /* nothing is joined to the one before */
    for (size_t i = 0; i < r->n; i++) {
        const struct span *span = &r->spans[i];
        struct span *before = n > 0 ? &r->spans[n - 1] : NULL;
        if (!span->run && span->ended_ms < old) {
            if (was_quiet(t, span))
                r->quiet_ms = MAX(r->quiet_ms, span->started_ms);
        } else if (!joined && !span->run && !before->run && span->started_ms <= before->ended_ms + TICK_MS) {
            join(t, before, span);
            joined = true;
        } else {
            r->spans[n++] = *span;
            joined = false;
        }
    }
    r->n = n;
    if (n < SPANS_MAX)
        return;
    size_t oldest = 0;
    while (oldest + 1 < n && r->spans[oldest].run)
        oldest++;
    memmove(&r->spans[oldest], &r->spans[oldest + 1], (n - oldest - 1) * sizeof(*r->spans));
    r->n--;
}

void rounds_run_started(struct live_trigger *t, const struct live_run *run, struct live_event *ev)
{
    if (!t->type->own_writes)
        return;
    if (!t->rounds)
        t->rounds = xcalloc(1, sizeof(*t->rounds));
    struct rounds *r = t->rounds;
    bool go_anew = ev->round.n > PROVED_FROM && r->hold == FREE && of_others(t, &ev->round, ev->path);
    if (r->n == SPANS_MAX)
        thin_out(t);
    if (r->n == r->cap) {
        r->cap = MIN(r->cap ? r->cap * 2 : 8, SPANS_MAX);
        r->spans = xreallocarray(r->spans, r->cap, sizeof(*r->spans));
    }
    r->spans[r->n++] =
        (struct span){.run = run, .started_ms = run->row.started_ms, .round = go_anew ? (struct round){0} : ev->round};
    free(r->path);
    r->path = steal(&ev->path);
    r->caused = 0;
    if (r->hold == NEXT)
        r->hold = ALONE;
}

static void alone_ended(struct live_trigger *t)
{
    struct rounds *r = t->rounds;
    if (!r->name || related(r->name, r->path)) {
        stand_still(t);
    } else if (++r->strangers > STRANGERS_MAX) {
        trust(t);
    } else {
        r->hold = NEXT;
        go_on(t);
    }
}

void rounds_run_ended(struct live_trigger *t, const struct live_run *run)
{
    struct rounds *r = t->rounds;
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        if (r->spans[i].run == run) {
            r->spans[i].run = NULL;
            r->spans[i].ended_ms = engine_wall(t->engine);
            r->lasted_ms[r->n_lasted++ % LASTED_KEPT] = r->spans[i].ended_ms - r->spans[i].started_ms;
        }
    if (r->hold == DRAINING && t->n_running <= 1) { /* it counts until it has left its lane */
        r->hold = NEXT;
        go_on(t);
    } else if (r->hold == ALONE) {
        alone_ended(t);
    }
}
