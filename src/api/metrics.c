/* /metrics: what the engine counts, as Prometheus reads it. */
#include "api/api.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct metrics {
    struct buf decisions, depth, connected, lag, runs;
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
    if (v.source_lag >= 0)
        sample(&m->lag, "triggerd_source_lag", "trigger", v.spec->id, NULL, NULL, v.source_lag);
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

static void of_file(void *ctx, const struct manifest_file_view *v)
{
    size_t *wrong = ctx;
    *wrong += v->manifest->n_wrong;
}

static void family(struct buf *out, const char *name, const char *type, const char *help, struct buf *samples)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    if (samples->len > 0)
        buf_add(out, samples->data, samples->len);
    buf_fini(samples);
}

static void histogram(struct buf *out, const char *name, const char *help, const struct histogram *h)
{
    uint64_t below = 0;
    buf_printf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += h->counts[i];
        buf_printf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, histogram_bounds[i], below);
    }
    buf_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.6f\n%s_count %" PRIu64 "\n", name, h->n, name, h->sum,
               name, h->n);
}

static void process(struct buf *out, const char *name, const char *type, const char *help, double value)
{
    buf_printf(out, "# HELP process_%s %s\n# TYPE process_%s %s\nprocess_%s %.17g\n", name, help, name, type, name,
               value);
}

static double open_descriptors(void)
{
    double n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n > 3 ? n - 3 : 0; /* `.`, `..`, and the directory's own */
}

/* When it started, in Unix seconds: the 22nd field of its stat counts ticks since boot. */
static double start_time(void)
{
    char text[1024] = "";
    FILE *f = fopen("/proc/self/stat", "re");
    size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    const char *p = strrchr(text, ')'); /* what is in it may be anything */
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    struct timespec boot, wall;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    clock_gettime(CLOCK_REALTIME, &wall);
    double ticks = p ? strtod(p, NULL) : 0;
    return (double)(wall.tv_sec - boot.tv_sec) + (double)(wall.tv_nsec - boot.tv_nsec) / 1e9 +
           ticks / (double)sysconf(_SC_CLK_TCK);
}

/* The process's own, with the names that every client library gives them. */
static void of_process(struct buf *out)
{
    struct timespec cpu;
    struct rlimit files;
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        if (fscanf(f, "%ld %ld", &pages, &resident) != 2)
            pages = resident = 0;
        fclose(f);
    }
    double page = (double)sysconf(_SC_PAGESIZE);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    process(out, "cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
            (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    process(out, "resident_memory_bytes", "gauge", "Resident memory size in bytes.", (double)resident * page);
    process(out, "virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", (double)pages * page);
    process(out, "open_fds", "gauge", "Number of open file descriptors.", open_descriptors());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        process(out, "max_fds", "gauge", "Maximum number of open file descriptors.", (double)files.rlim_cur);
    process(out, "start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", start_time());
}

void api_metrics(struct api *a, struct api_call call)
{
    struct metrics m = {0};
    struct buf out = {0}, errors = {0};
    size_t wrong = 0;
    engine_each_trigger(a->engine, of_trigger, &m);
    engine_each_pipeline(a->engine, of_pipeline, &m);
    reconcile_each_file(a->reconcile, of_file, &wrong);
    buf_printf(&errors, "triggerd_manifest_errors %zu\n", wrong);
    family(&out, "triggerd_decisions_total", "counter", "Events by trigger and what was decided of them.",
           &m.decisions);
    family(&out, "triggerd_runs_total", "counter", "Runs that ended, by pipeline and status.", &m.runs);
    family(&out, "triggerd_queue_depth", "gauge", "Events that wait, by trigger.", &m.depth);
    family(&out, "triggerd_source_connected", "gauge", "Whether the source of a trigger works.", &m.connected);
    family(&out, "triggerd_source_lag", "gauge", "Messages that wait in the broker, by trigger, where it tells.",
           &m.lag);
    family(&out, "triggerd_manifest_errors", "gauge", "Errors in manifests.", &errors);
    histogram(&out, "triggerd_event_to_start_seconds", "From an event to the start of its run.",
              engine_start_times(a->engine));
    histogram(&out, "triggerd_run_seconds", "From the start of a run to its end.", engine_run_times(a->engine));
    struct histogram commits = store_commit_times(a->store);
    histogram(&out, "triggerd_store_commit_seconds", "How long a commit of the store took, its sync included.",
              &commits);
    of_process(&out);
    size_t len = out.len;
    struct api_answer answer = {
        .status = 200, .body = buf_steal(&out), .len = len, .type = "text/plain; version=0.0.4; charset=utf-8"};
    call.answer(call.ctx, &answer);
}
