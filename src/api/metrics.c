/* /metrics: what the engine counts, as Prometheus reads it. */
#include "api/api.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

struct metrics {
    struct buf decisions, depth, connected, runs;
};

/* A label's value: backslash, quote and newline escaped. Ids hold none of them; pipeline ids of triggers may. */
static void label(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, "%s=\"", name);
    for (const char *p = value; *p; p++) {
        if (*p == '\n')
            buf_adds(b, "\\n");
        else if (*p == '"' || *p == '\\')
            buf_printf(b, "\\%c", *p);
        else
            buf_addc(b, *p);
    }
    buf_addc(b, '"');
}

static void sample(struct buf *b, const char *metric, const char *name, const char *value, const char *name2,
                   const char *value2, int64_t n)
{
    buf_printf(b, "%s{", metric);
    label(b, name, value);
    if (name2) {
        buf_addc(b, ',');
        label(b, name2, value2);
    }
    buf_printf(b, "} %" PRId64 "\n", n);
}

static void of_trigger(void *ctx, struct live_trigger *t)
{
    struct metrics *m = ctx;
    struct trigger_view v;
    trigger_look(t, &v);
    for (int d = 0; d < DECISION_N; d++) {
        int64_t n = d == DECISION_FILTERED ? v.filtered : v.decisions[d];
        if (n > 0)
            sample(&m->decisions, "triggerd_decisions_total", "trigger", v.spec->id, "decision",
                   decision_name((enum decision)d), n);
    }
    sample(&m->depth, "triggerd_queue_depth", "trigger", v.spec->id, NULL, NULL, v.pending);
    const struct condition *connected = condition_find(v.conditions, "Connected");
    sample(&m->connected, "triggerd_source_connected", "trigger", v.spec->id, NULL, NULL,
           connected && connected->status == CONDITION_TRUE);
}

static void of_pipeline(void *ctx, struct live_pipeline *p)
{
    struct metrics *m = ctx;
    struct pipeline_view v;
    pipeline_look(p, &v);
    for (int s = RUN_COMPLETED; s <= RUN_TIMED_OUT; s++)
        if (v.ended[s] > 0)
            sample(&m->runs, "triggerd_runs_total", "pipeline", v.spec->id, "status",
                   run_status_name((enum run_status)s), v.ended[s]);
}

static void family(struct buf *out, const char *name, const char *type, const char *help, struct buf *samples)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    if (samples->len > 0)
        buf_add(out, samples->data, samples->len);
    buf_fini(samples);
}

/* The process's own, with the names that every client library gives them. */
static void of_process(struct buf *out)
{
    struct timespec cpu;
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        if (fscanf(f, "%ld %ld", &pages, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    buf_printf(out,
               "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n"
               "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %.6f\n",
               (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    buf_printf(out,
               "# HELP process_resident_memory_bytes Resident memory size in bytes.\n"
               "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %ld\n",
               resident * sysconf(_SC_PAGESIZE));
}

void api_metrics(struct api *a, struct api_call call)
{
    struct metrics m = {0};
    struct buf out = {0};
    engine_each_trigger(a->engine, of_trigger, &m);
    engine_each_pipeline(a->engine, of_pipeline, &m);
    family(&out, "triggerd_decisions_total", "counter", "Events by trigger and what was decided of them.",
           &m.decisions);
    family(&out, "triggerd_runs_total", "counter", "Runs that ended, by pipeline and status.", &m.runs);
    family(&out, "triggerd_queue_depth", "gauge", "Events that wait, by trigger.", &m.depth);
    family(&out, "triggerd_source_connected", "gauge", "Whether the source of a trigger works.", &m.connected);
    of_process(&out);
    size_t len = out.len;
    struct api_answer answer = {
        .status = 200, .body = buf_steal(&out), .len = len, .type = "text/plain; version=0.0.4; charset=utf-8"};
    call.answer(call.ctx, &answer);
}
