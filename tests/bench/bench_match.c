/* How fast one event is matched against 1, 1 000 and 10 000 patterns of one endpoint.
 *
 *     bench_match [SECONDS]        per figure and run, default 0.5; each figure is the median of 3 runs
 *
 * Each pattern has values of its own, and every event matches exactly one pattern. `plain` compares two members with
 * strings. `mixed` takes turns: prefix, numeric range, anything-but beside an equality, wildcard, exists; its figure for
 * one pattern is the mean of the five, each alone. The events are objects of about 300 bytes. `ratio` is the cost of a
 * match over that with one pattern, `parsed` the same of an event that is parsed and matched. Also: the time for adding
 * all patterns one by one, and the memory that a pattern takes.
 *
 * The last line is a JSON object: by kind, events/s and both ratios at 10 000 patterns.
 */
#include "lang/matcher.h"

#include "base/util.h"
#include "model/value.h"

#include <malloc.h>
#include <stdio.h>
#include <time.h>

#define EVENTS 64
#define MIXED_SHAPES 5

typedef void make_fn(struct buf *b, unsigned i);

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static cJSON *parse(const struct buf *text)
{
    struct error err = ERROR_INIT;
    cJSON *v = NULL;
    if (value_parse(text->data, text->len, &v, &err) < 0) {
        fprintf(stderr, "bench_match: %s: %s\n", text->data, err.message);
        exit(1);
    }
    return v;
}

static void plain_pattern(struct buf *b, unsigned i)
{
    buf_printf(b, "{\"action\":\"signup\",\"user\":{\"id\":\"u%06u\"}}", i);
}

static void mixed_pattern(struct buf *b, unsigned i)
{
    switch (i % MIXED_SHAPES) {
    case 0:
        buf_printf(b, "{\"path\":[{\"prefix\":\"/data/%06u/\"}]}", i);
        break;
    case 1:
        buf_printf(b, "{\"size\":[{\"numeric\":[\">=\",%u,\"<\",%u]}]}", i * 10, i * 10 + 10);
        break;
    case 2:
        buf_printf(b, "{\"user\":{\"id\":\"u%06u\"},\"state\":[{\"anything-but\":[\"x%u\",\"off\"]}]}", i, i);
        break;
    case 3:
        buf_printf(b, "{\"title\":[{\"wildcard\":\"*-%06u-*.csv\"}]}", i);
        break;
    default:
        buf_printf(b, "{\"flag%06u\":[{\"exists\":true}]}", i);
        break;
    }
}

/* The event that meets pattern `i` alone, of those of its shape; the other members belong to no pattern. */
static void make_event(struct buf *b, unsigned i)
{
    unsigned turn = i % MIXED_SHAPES;
    buf_printf(b,
               "{\"action\":\"signup\",\"user\":{\"id\":\"u%06u\",\"email\":\"somebody@example.org\",\"age\":31,"
               "\"roles\":[\"reader\",\"writer\"]},\"path\":\"/data/%06u/in.csv\",\"size\":%u,\"state\":\"on\","
               "\"title\":\"report-%06u-final.csv\",\"%s%06u\":1,\"at\":\"2026-03-01T12:00:00.000Z\","
               "\"source\":{\"ip\":\"10.1.2.3\",\"agent\":\"bench/1.0\"}}",
               i, turn == 0 ? i : 999999, turn == 1 ? i * 10 + 5 : 99999999, turn == 3 ? i : 999999,
               turn == 4 ? "flag" : "none", i);
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), compare_double);
    return v[n / 2];
}

/* Nanoseconds an event. */
static double measure(struct matcher *m, cJSON *const *events, double duration)
{
    size_t done = 0;
    double start = now(), end;
    do {
        for (size_t i = 0; i < EVENTS; i++) {
            void *const *found;
            if (matcher_match(m, events[i], &found) != 1) {
                fprintf(stderr, "bench_match: an event should match one pattern\n");
                exit(1);
            }
        }
        done += EVENTS;
        end = now();
    } while (end - start < duration);
    return (end - start) * 1e9 / (double)done;
}

struct figures {
    double ns, added;
    size_t bytes; /* of all patterns */
};

/* `n` patterns from number `from` on. */
static struct figures bench(make_fn *make_pattern, unsigned from, unsigned n, double duration)
{
    struct buf text = {0};
    struct pattern **patterns = xcalloc(n, sizeof(struct pattern *));
    cJSON **json = xcalloc(n, sizeof(cJSON *));
    for (unsigned i = 0; i < n; i++) {
        text.len = 0;
        make_pattern(&text, from + i);
        json[i] = parse(&text);
    }
    size_t before = mallinfo2().uordblks;
    for (unsigned i = 0; i < n; i++)
        if (pattern_compile(json[i], &patterns[i], NULL, NULL) < 0)
            exit(1);
    double start = now();
    struct matcher *m = matcher_create();
    for (unsigned i = 0; i < n; i++)
        matcher_add(m, &patterns[i], patterns[i]);
    struct figures f = {.added = now() - start, .bytes = mallinfo2().uordblks - before};

    cJSON *events[EVENTS];
    for (unsigned i = 0; i < EVENTS; i++) {
        text.len = 0;
        make_event(&text, from + (unsigned)((uint64_t)i * 7919 % n));
        events[i] = parse(&text);
    }
    double runs[3];
    for (size_t i = 0; i < ARRAY_SIZE(runs); i++)
        runs[i] = measure(m, events, duration);
    f.ns = median(runs, ARRAY_SIZE(runs));

    matcher_destroy(m);
    for (unsigned i = 0; i < EVENTS; i++)
        cJSON_Delete(events[i]);
    for (unsigned i = 0; i < n; i++) {
        pattern_destroy(patterns[i]);
        cJSON_Delete(json[i]);
    }
    free(patterns);
    free(json);
    buf_fini(&text);
    return f;
}

/* Nanoseconds. */
static double bench_parse(double duration)
{
    struct buf text = {0};
    make_event(&text, 1);
    double runs[3];
    for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
        size_t done = 0;
        double start = now(), end;
        do {
            for (size_t k = 0; k < EVENTS; k++)
                cJSON_Delete(parse(&text));
            done += EVENTS;
            end = now();
        } while (end - start < duration);
        runs[i] = (end - start) * 1e9 / (double)done;
    }
    double ns = median(runs, ARRAY_SIZE(runs));
    printf("parsing one event of %zu bytes: %.0f/s, %.0f ns\n\n", text.len, 1e9 / ns, ns);
    buf_fini(&text);
    return ns;
}

static void bench_kind(const char *name, make_fn *make_pattern, unsigned shapes, double duration, double parsing,
                       struct buf *summary)
{
    static const unsigned sizes[] = {1, 1000, 10000};
    double base = 0, ratio = 0, parsed = 0, rate = 0;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct figures f = {0};
        unsigned times = sizes[i] == 1 ? shapes : 1;
        for (unsigned k = 0; k < times; k++) {
            struct figures one = bench(make_pattern, k, sizes[i], duration);
            f.ns += one.ns / times;
            f.added += one.added / times;
            f.bytes += one.bytes / times;
        }
        base = base > 0 ? base : f.ns;
        ratio = f.ns / base;
        parsed = (f.ns + parsing) / (base + parsing);
        rate = 1e9 / f.ns;
        printf("%-8s %9u %12.0f %10.0f %8.2f %8.2f %10.1f %14zu\n", name, sizes[i], rate, f.ns, ratio, parsed,
               f.added * 1e3, f.bytes / sizes[i]);
    }
    buf_printf(summary, "%s\"%s\":{\"rate\":%.0f,\"ratio\":%.3f,\"parsed\":%.3f}", summary->len > 1 ? "," : "", name,
               rate, ratio, parsed);
}

int main(int argc, char **argv)
{
    double duration = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    if (argc > 2 || duration <= 0) {
        fprintf(stderr, "usage: bench_match [SECONDS]\n");
        return 2;
    }
    double parsing = bench_parse(duration);
    printf("%-8s %9s %12s %10s %8s %8s %10s %14s\n", "patterns", "number", "events/s", "ns/event", "ratio", "parsed",
           "add ms", "bytes/pattern");
    struct buf summary = {0};
    buf_adds(&summary, "{");
    bench_kind("plain", plain_pattern, 1, duration, parsing, &summary);
    bench_kind("mixed", mixed_pattern, MIXED_SHAPES, duration, parsing, &summary);
    printf("%s}\n", summary.data);
    buf_fini(&summary);
    return 0;
}
