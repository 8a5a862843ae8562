/* E. W. Myers, "An O(ND) Difference Algorithm and Its Variations", Algorithmica 1 (1986): the greedy one, with a trace. */
#include "ctl/diff.h"

#include "ctl/print.h"

#include <stdio.h>

#define EDITS_MAX 2000 /* past so many, the rest is shown as all removed and all added */

#define RED "\x1b[31m"
#define GREEN "\x1b[32m"
#define CYAN "\x1b[36m"
#define BOLD "\x1b[1m"
#define RESET "\x1b[0m"

struct lines {
    char **at;
    long n;
};

static struct lines lines_of(const char *text)
{
    size_t cap = 64;
    struct lines l = {.at = xcalloc(cap, sizeof(*l.at))};
    for (; text && *text; l.n++) {
        size_t n = strcspn(text, "\n");
        if ((size_t)l.n == cap)
            l.at = xreallocarray(l.at, cap *= 2, sizeof(*l.at));
        l.at[l.n] = xstrndup(text, n);
        text += n + (text[n] == '\n');
    }
    return l;
}

static void lines_fini(struct lines *l)
{
    for (long i = 0; i < l->n; i++)
        free(l->at[i]);
    free(l->at);
}

/* What becomes of each line: `gone` of the one text, `come` of the other. */
struct script {
    const struct lines *a, *b;
    bool *gone, *come;
};

/* Back along the trace: which step led here? */
static void walk_back(struct script *s, long **trace, long d, long x, long y, long from)
{
    for (; d > 0; d--) {
        const long *v = trace[d] + d + 1; /* of the round before: diagonals -d … d */
        long k = x - y;
        bool down = k == -d || (k != d && v[k - 1] < v[k + 1]);
        long k_before = down ? k + 1 : k - 1, x_before = v[k_before], y_before = x_before - k_before;
        if (down)
            s->come[from + y_before] = true;
        else
            s->gone[from + x_before] = true;
        x = x_before;
        y = y_before;
    }
}

static void all_differ(struct script *s, long from, long n, long m)
{
    for (long i = 0; i < n; i++)
        s->gone[from + i] = true;
    for (long i = 0; i < m; i++)
        s->come[from + i] = true;
}

/* `from`: lines at the start that are the same; n and m lines after it. */
static void compare(struct script *s, long from, long n, long m)
{
    long **trace = xcalloc((size_t)MIN(n + m, EDITS_MAX) + 2, sizeof(*trace));
    long max = MIN(n + m, EDITS_MAX), d, x = 0;
    bool found = false;
    long *v = xcalloc((size_t)(2 * max + 3), sizeof(*v));
    long *mid = v + max + 1;
    for (d = 0; d <= max && !found; d++) {
        trace[d] = xmalloc((size_t)(2 * d + 3) * sizeof(long));
        memcpy(trace[d], mid - d - 1, (size_t)(2 * d + 3) * sizeof(long));
        for (long k = -d; k <= d && !found; k += 2) {
            x = k == -d || (k != d && mid[k - 1] < mid[k + 1]) ? mid[k + 1] : mid[k - 1] + 1;
            while (x < n && x - k < m && streq(s->a->at[from + x], s->b->at[from + x - k]))
                x++;
            mid[k] = x;
            found = x >= n && x - k >= m;
        }
        if (found)
            break;
    }
    if (found)
        walk_back(s, trace, d, n, m, from);
    else
        all_differ(s, from, n, m);
    for (long i = 0; i <= max; i++)
        free(trace[i]);
    free(trace);
    free(v);
}

/* ---- printing ---- */

static void print_row(char mark, const char *line, bool colour)
{
    const char *c = !colour ? NULL : mark == '-' ? RED : mark == '+' ? GREEN : NULL;
    struct buf safe = {0};
    for (const char *p = line; *p;) { /* a tab stays one */
        size_t n = strcspn(p, "\t");
        _cleanup_(freep) char *part = xstrndup(p, n);
        text_escape(&safe, part);
        if (p[n] == '\t')
            buf_addc(&safe, '\t');
        p += n + (p[n] == '\t');
    }
    printf("%s%c%s%s\n", c ? c : "", mark, safe.data ? safe.data : "", c ? RESET : "");
    buf_fini(&safe);
}

/* From one place in both texts to another. */
static void print_hunk(const struct script *s, long a, long a_end, long b, long b_end, bool colour)
{
    printf("%s@@ -%ld,%ld +%ld,%ld @@%s\n", colour ? CYAN : "", a_end > a ? a + 1 : a, a_end - a, b_end > b ? b + 1 : b,
           b_end - b, colour ? RESET : "");
    while (a < a_end || b < b_end) {
        if (a < a_end && s->gone[a])
            print_row('-', s->a->at[a++], colour);
        else if (b < b_end && s->come[b])
            print_row('+', s->b->at[b++], colour);
        else {
            print_row(' ', s->a->at[a++], colour);
            b++;
        }
    }
}

static void print_hunks(const struct script *s, bool colour)
{
    long a = 0, b = 0, n = s->a->n, m = s->b->n;
    while (a < n || b < m) {
        while (a < n && b < m && !s->gone[a] && !s->come[b])
            a++, b++;
        if (a == n && b == m)
            return;
        long before = MIN(MIN(a, b), DIFF_CONTEXT), a_begin = a - before, b_begin = b - before, same = 0;
        /* To where twice the context follows that is the same: nearer changes are one hunk. */
        while ((a < n || b < m) && same <= 2 * DIFF_CONTEXT) {
            if (a < n && s->gone[a])
                a++, same = 0;
            else if (b < m && s->come[b])
                b++, same = 0;
            else
                a++, b++, same++;
        }
        long back = MAX(0, same - DIFF_CONTEXT);
        print_hunk(s, a_begin, a - back, b_begin, b - back, colour);
        a -= back;
        b -= back;
    }
}

void diff_print(const char *before_name, const char *before, const char *after_name, const char *after, bool colour)
{
    struct lines a = lines_of(before), b = lines_of(after);
    struct script s = {.a = &a, .b = &b};
    long from = 0, n = a.n, m = b.n;
    while (from < n && from < m && streq(a.at[from], b.at[from]))
        from++;
    while (n > from && m > from && streq(a.at[n - 1], b.at[m - 1]))
        n--, m--;
    if (n > from || m > from || (before == NULL) != (after == NULL)) {
        s.gone = xcalloc((size_t)a.n + 1, sizeof(bool));
        s.come = xcalloc((size_t)b.n + 1, sizeof(bool));
        compare(&s, from, n - from, m - from);
        printf("%s--- %s\n+++ %s%s\n", colour ? BOLD : "", before_name, after_name, colour ? RESET : "");
        print_hunks(&s, colour);
        free(s.gone);
        free(s.come);
    }
    lines_fini(&a);
    lines_fini(&b);
}
