/* Events a second into the store, synced: one by one, and as they gather (up to N under way).
 *
 *   bench_store [DIR] [SECONDS]
 *
 * What is measured is the whole way from submit() to done(): insert alone, and an event's life (insert, then an update
 * to its end). A row carries about 200 bytes of data. A plain fdatasync of 4 KiB is the floor that the disk sets.
 */
#include "store/store.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define TRIGGERS 10

struct bench {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool woken;
    struct store_port *port;
    long under_way, done;
    bool life; /* each event gets its update */
    int64_t commits;
};

struct item {
    struct bench *b;
    struct event e;
    bool updated;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wake(void *ctx)
{
    struct bench *b = ctx;
    pthread_mutex_lock(&b->mutex);
    b->woken = true;
    pthread_cond_signal(&b->cond);
    pthread_mutex_unlock(&b->mutex);
}

static void done(struct store_group *g, int result)
{
    struct item *item = g->ctx;
    struct bench *b = item->b;
    if (result != 0) {
        fprintf(stderr, "bench_store: a group failed: %s\n", strerror(-result));
        exit(1);
    }
    store_group_free(g);
    if (b->life && !item->updated) {
        item->updated = true;
        item->e.status = EVENT_COMPLETED;
        item->e.completed_ms = item->e.occurred_ms + 5;
        g = store_group_new(STORE_LAZY | STORE_KEEP, done, item);
        store_add_event_update(g, &item->e);
        b->port->submit(b->port, g);
        return;
    }
    b->under_way--;
    b->done++;
    free(item);
}

static void submit(struct bench *b, long n)
{
    static char names[TRIGGERS][24];
    static char data[] = "{\"path\":\"/var/spool/incoming/2026/07/orders-000123.csv\",\"size\":48213,\"mtime\":"
                         "\"2026-07-01T12:00:00.123Z\",\"event\":\"created\",\"name\":\"orders-000123.csv\",\"dir\":"
                         "\"/var/spool/incoming/2026/07\"}";
    static char pipeline[] = "import-orders", type[] = "file_created", inputs[] = "{\"file\":\"orders-000123.csv\"}";
    char *name = names[n % TRIGGERS];
    if (!name[0])
        snprintf(name, sizeof(names[0]), "orders-%ld", n % TRIGGERS);
    struct item *item = xcalloc(1, sizeof(*item));
    item->b = b;
    struct event *e = &item->e;
    e->seq = b->port->next_seq(b->port);
    snprintf(e->id, sizeof(e->id), "evt_%026lld", (long long)e->seq);
    snprintf(e->run_id, sizeof(e->run_id), "run_%026lld", (long long)e->seq);
    memcpy(e->root_event_id, e->id, sizeof(e->id));
    e->trigger_id = name;
    e->pipeline_id = pipeline;
    e->event_type = type;
    e->data = data;
    e->resolved_inputs = inputs;
    e->decision = DECISION_FIRED;
    e->attempt = 1;
    e->occurred_ms = 1700000000000 + n / 50;
    struct store_group *g = store_group_new(0, done, item);
    store_add_event_insert(g, e);
    b->under_way++;
    b->port->submit(b->port, g);
}

static void wait_done(struct bench *b)
{
    pthread_mutex_lock(&b->mutex);
    while (!b->woken)
        pthread_cond_wait(&b->cond, &b->mutex);
    b->woken = false;
    pthread_mutex_unlock(&b->mutex);
    store_collect(b->port);
}

static double measure(struct bench *b, long window, bool life, double seconds)
{
    double start = now(), start_cpu = cpu(), end = start + seconds;
    struct histogram before = store_commit_times(b->port);
    b->life = life;
    b->done = 0;
    long n = 0;
    while (now() < end || b->under_way > 0) {
        /* A half-empty window is filled again, so that what gathers is about half of it. */
        if (now() < end && b->under_way <= window / 2)
            while (b->under_way < window)
                submit(b, n++);
        wait_done(b);
    }
    struct histogram after = store_commit_times(b->port);
    double commit = after.sum - before.sum, commits = (double)MAX(after.n - before.n, UINT64_C(1));
    double rate = (double)b->done / (now() - start);
    printf("%-14s window %5ld %10.0f events/s  %7.1f a commit of %5.2f ms, %5.1f us CPU an event\n",
           life ? "insert+update" : "insert", window, rate, (double)b->done * (life ? 2 : 1) / commits,
           commit / commits * 1e3, (cpu() - start_cpu) / (double)b->done * 1e6);
    fflush(stdout);
    return rate;
}

static double sync_floor(const char *dir)
{
    _cleanup_(freep) char *path = xasprintf("%s/floor", dir);
    static char page[4096];
    _cleanup_(closep) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    enum { N = 500 };
    double start = now();
    for (int i = 0; i < N; i++)
        if (pwrite(fd, page, sizeof(page), 0) < 0 || fdatasync(fd) < 0)
            return 0;
    unlink(path);
    return N / (now() - start);
}

int main(int argc, char **argv)
{
    char made[] = "/tmp/bench-store-XXXXXX";
    const char *dir = argc > 1 ? argv[1] : mkdtemp(made);
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 3;
    struct bench b = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct store_options options = {.dir = dir, .wake = wake, .ctx = &b};
    struct error err = ERROR_INIT;
    if (!dir || store_open(&options, &b.port, &err) < 0) {
        fprintf(stderr, "bench_store: %s\n", err.message);
        return 1;
    }
    printf("%-14s %25.0f a second\n", "4 KiB fdatasync", sync_floor(dir));
    double one = measure(&b, 1, false, seconds);
    static const long windows[] = {16, 256, 512, 2048, 8192};
    for (size_t i = 0; i < ARRAY_SIZE(windows); i++)
        printf("%-14s %.1f times one by one\n", "", measure(&b, windows[i], false, seconds) / one);
    measure(&b, 1, true, seconds);
    measure(&b, 512, true, seconds);
    measure(&b, 8192, true, seconds);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%-14s %25ld KiB resident at most\n", "", usage.ru_maxrss);
    store_close(b.port);
    if (argc < 2) {
        _cleanup_(freep) char *remove = xasprintf("rm -rf '%s'", dir);
        return system(remove) != 0;
    }
    return 0;
}
