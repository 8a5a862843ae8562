/* Options, the history of one seed, statistics. See sim.h. */
#include "sim.h"

#include <getopt.h>
#include <unistd.h>

static struct sim *current; /* for the moment when a sanitizer ends the process */

uint64_t pick(struct sim *sim, uint64_t below)
{
    return random_below(&sim->random.random, below);
}

bool chance(struct sim *sim, double p)
{
    return random_unit(&sim->random.random) < p;
}

void sim_trace(struct sim *sim, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = xvasprintf(format, args);
    va_end(args);
    char *line = xasprintf("%10.3f  %s", sim->life ? (double)(life_now(sim->life) - SIM_EPOCH_MS) / 1000 : 0.0, text);
    free(text);
    sim->digest = hash_bytes(sim->digest, line, strlen(line));
    if (sim->verbose)
        puts(line);
    free(sim->trace[sim->traced % TRACE_KEPT]);
    sim->trace[sim->traced++ % TRACE_KEPT] = line;
}

static void tell_place(void)
{
    struct sim *sim = current;
    if (!sim)
        return;
    current = NULL;
    fflush(stdout);
    if (!sim->verbose)
        for (size_t i = sim->traced > TRACE_KEPT ? sim->traced - TRACE_KEPT : 0; i < sim->traced; i++)
            fprintf(stderr, "%s\n", sim->trace[i % TRACE_KEPT]);
    fprintf(stderr, "seed %" PRIu64 " (again: --seed %" PRIu64 " --verbose)\n", sim->seed, sim->seed);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    (void)sim;
    tell_place();
    va_list args;
    va_start(args, format);
    fputs("FAILED: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
    va_end(args);
    _exit(1); /* no leak check: nothing was freed */
}

/* Present where the program is built with a sanitizer. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* ---- one seed ---- */

static void settle(struct sim *sim, const char *what)
{
    sim_trace(sim, "---- %s ----", what);
    CHECK(sim, life_settle(sim->life, 8 * 3600 * 1000), "%s: it never ends", what);
}

/* No faults any more: everything that can end does. Then nothing is held any more either. */
static void wind_down(struct sim *sim)
{
    sim->calm = true;
    sim_store_full(sim->life->store, false);
    if (!sim->life->firing)
        life_restart(sim, 0);
    settle(sim, "calm");
    model_quiet(sim->life, false);
    for (int i = 0; i < 1000; i++) { /* what goes on may latch a trigger again */
        bool again = false;
        for (size_t k = 0; k < sim->n_triggers; k++) {
            struct want_trigger *t = &sim->triggers[k];
            struct live_trigger *live = engine_find_trigger(sim->life->engine, t->id);
            struct trigger_view v;
            if (!live)
                continue;
            trigger_look(live, &v);
            if (v.status != TRIGGER_PAUSED && v.status != TRIGGER_ERROR)
                continue;
            again = true;
            sim_trace(sim, "resume %s", t->id);
            t->paused = false;
            engine_resume(sim->life->engine, t->id, false, NULL, NULL);
        }
        if (!again)
            break;
        settle(sim, "resumed");
    }
    model_quiet(sim->life, true);
}

static uint64_t run_seed(uint64_t seed, size_t steps, bool verbose, struct stats *stats)
{
    struct sim sim = {.seed = seed, .verbose = verbose, .stats = stats};
    current = &sim;
    random_seeded_init(&sim.random, seed);
    config_make(&sim);
    life_begin(&sim, NULL, SIM_EPOCH_MS);
    int64_t pace = (int64_t[]){20, 100, 500, 2000}[pick(&sim, 4)];
    for (size_t i = 0; i < steps; i++) {
        operate(&sim);
        life_run(sim.life, (int64_t)pick(&sim, (uint64_t)(chance(&sim, 0.3) ? pace * 4 : pace / 4 + 1)));
    }
    wind_down(&sim);
    stats->simulated_ms += life_now(sim.life) - SIM_EPOCH_MS;
    life_end(&sim);
    model_fini(&sim);
    broker_fini(&sim);
    config_fini(&sim);
    for (size_t i = 0; i < TRACE_KEPT; i++)
        free(sim.trace[i]);
    stats->seeds++;
    current = NULL;
    return sim.digest;
}

/* ---- all of them ---- */

static void print_stats(const struct stats *s)
{
    static const struct {
        const char *name;
        size_t offset;
    } rows[] = {
#define ROW(name) {#name, offsetof(struct stats, name)}
        ROW(lives),     ROW(crashes),     ROW(drains),      ROW(emits),    ROW(refused),   ROW(duplicates),
        ROW(conflicts), ROW(messages),    ROW(events),      ROW(runs),     ROW(hand_runs), ROW(cancels),
        ROW(steps),     ROW(interrupted), ROW(completions), ROW(dry_runs), ROW(commits),   ROW(faults),
#undef ROW
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        printf("%s%s %" PRId64, i % 9 == 0 ? "\n  " : ", ", rows[i].name,
               *(const int64_t *)(const void *)((const char *)s + rows[i].offset));
    printf("\n  decisions:");
    for (int d = 0; d < DECISION_N; d++)
        printf(" %s %" PRId64, decision_name((enum decision)d), s->decisions[d]);
    printf("\n  events:");
    for (int i = EVENT_PENDING; i <= EVENT_CANCELLED; i++)
        printf(" %s %" PRId64, event_status_name((enum event_status)i), s->statuses[i]);
    printf("\n  runs:");
    for (int i = RUN_COMPLETED; i <= RUN_TIMED_OUT; i++)
        printf(" %s %" PRId64, run_status_name((enum run_status)i), s->run_statuses[i]);
    printf("\n");
}

static const char usage[] = "usage: sim [--seeds N] [--seed S] [--steps N] [--repeat] [--verbose]\n"
                            "  --seeds N   that many, from 1 or from S (25)\n"
                            "  --seed S    this one, with its digest\n"
                            "  --steps N   operations of a history (200)\n"
                            "  --repeat    run each twice: both must be the same\n"
                            "  --verbose   tell all that happens\n";

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 'n'},
        {"seed", required_argument, NULL, 's'},
        {"steps", required_argument, NULL, 'k'},
        {"repeat", no_argument, NULL, 'r'},
        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    setenv("SIM_SECRET", SECRET_VALUE, 1);
    uint64_t first = 1, n = 0;
    bool one = false;
    size_t steps = 200;
    bool verbose = false, repeat = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'n':
            n = strtoull(optarg, NULL, 10);
            break;
        case 's':
            first = strtoull(optarg, NULL, 10);
            one = true;
            break;
        case 'k':
            steps = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            repeat = true;
            break;
        case 'v':
            verbose = true;
            break;
        default:
            fputs(usage, c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(tell_place);
    struct stats stats = {0};
    uint64_t last = first + (n ? n : one ? 1 : 25) - 1;
    for (uint64_t seed = first; seed <= last; seed++) {
        uint64_t digest = run_seed(seed, steps, verbose, &stats);
        if (first == last)
            printf("seed %" PRIu64 ": digest %016" PRIx64 "\n", seed, digest);
        if (repeat && run_seed(seed, steps, false, &stats) != digest) {
            fprintf(stderr, "FAILED: seed %" PRIu64 " does not repeat\n", seed);
            return 1;
        }
        if ((seed % 10 == 0 || seed == last) && __lsan_do_recoverable_leak_check &&
            __lsan_do_recoverable_leak_check()) {
            fprintf(stderr, "FAILED: seeds %" PRIu64 " … %" PRIu64 " leak\n", seed >= first + 9 ? seed - 9 : first,
                    seed);
            _exit(1);
        }
    }
    printf("%" PRId64 " seeds, %.1f simulated hours", stats.seeds, (double)stats.simulated_ms / 3600000);
    print_stats(&stats);
    return 0;
}
