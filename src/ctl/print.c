#include "ctl/print.h"

#include "base/clock.h"
#include "manifest/yaml_print.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define LABEL_WIDTH 13

#define RED "\x1b[31m"
#define GREEN "\x1b[32m"
#define YELLOW "\x1b[33m"
#define CYAN "\x1b[36m"
#define BOLD "\x1b[1m"
#define RESET "\x1b[0m"

/* ---- text ---- */

size_t text_width(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

void text_wrap(struct buf *b, const char *prefix, const char *text, size_t columns)
{
    while (*text) {
        size_t end = 0, width = text_width(prefix);
        for (size_t i = 0; text[i] && (end == 0 || width <= columns); i++) {
            width += ((unsigned char)text[i] & 0xC0) != 0x80;
            if ((text[i + 1] == ' ' || !text[i + 1]) && (end == 0 || width <= columns))
                end = i + 1;
        }
        buf_printf(b, "%s%.*s\n", prefix, (int)end, text);
        text += end + strspn(text + end, " ");
    }
}

/* ---- colour ---- */

static const char *colour_of(const char *word)
{
    static const struct {
        const char *word, *colour;
    } words[] = {
        {"ok", GREEN},        {"warn", YELLOW},      {"fail", RED},           {"active", GREEN},
        {"completed", GREEN}, {"fired", GREEN},      {"True", GREEN},         {"ready", GREEN},
        {"paused", YELLOW},   {"skipped", YELLOW},   {"pending", YELLOW},     {"cancelled", YELLOW},
        {"disabled", YELLOW}, {"Unknown", YELLOW},   {"filtered", YELLOW},    {"debounced", YELLOW},
        {"cooldown", YELLOW}, {"duplicate", YELLOW}, {"concurrency", YELLOW}, {"replaced", YELLOW},
        {"running", CYAN},    {"executing", CYAN},   {"error", RED},          {"failed", RED},
        {"timed_out", RED},   {"False", RED},        {"loop_blocked", RED},   {"mapping_error", RED},
        {"queue_full", RED},
    };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (streq(words[i].word, word))
            return words[i].colour;
    return NULL;
}

/* ---- tables ---- */

void table_column(struct table *t, const char *head, unsigned style)
{
    t->heads[t->columns] = head;
    t->styles[t->columns++] = style;
}

/* At most TABLE_CELL_MAX characters, the last one then an ellipsis. Takes and gives a text of its own. */
static char *cut(char *text)
{
    static const char ellipsis[] = "…";
    if (text_width(text) <= TABLE_CELL_MAX)
        return text;
    size_t at = 0;
    for (size_t n = 0; n < TABLE_CELL_MAX - 1; n++)
        do
            at++;
        while (((unsigned char)text[at] & 0xC0) == 0x80);
    text = xrealloc(text, at + sizeof(ellipsis));
    memcpy(text + at, ellipsis, sizeof(ellipsis));
    return text;
}

void table_cell(struct table *t, const char *text)
{
    struct buf b = {0};
    text_escape(&b, text && *text ? text : "-");
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->cells = xreallocarray(t->cells, t->cap, sizeof(*t->cells));
    }
    char *cell = buf_steal(&b);
    if (t->styles[t->n % t->columns] & CELL_CUT)
        cell = cut(cell);
    t->cells[t->n++] = cell;
}

void table_cellf(struct table *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    _cleanup_(freep) char *text = xvasprintf(format, args);
    va_end(args);
    table_cell(t, text);
}

static void print_cell(const struct table *t, size_t column, const char *text, size_t width, const char *colour)
{
    size_t own = text_width(text);
    int pad = (int)(width - own);
    bool last = column + 1 == t->columns, right = t->styles[column] & CELL_RIGHT;
    printf("%*s%s%s%s%*s%s", right ? pad : 0, "", colour ? colour : "", text, colour ? RESET : "",
           right || last ? 0 : pad, "", last ? "\n" : "  ");
}

void table_print(struct table *t, bool colour)
{
    size_t widths[TABLE_COLUMNS_MAX];
    assert(t->columns > 0);
    for (size_t i = 0; i < t->columns; i++)
        widths[i] = MAX(t->widths ? t->widths[i] : 0, text_width(t->heads[i]));
    for (size_t i = 0; i < t->n; i++)
        widths[i % t->columns] = MAX(widths[i % t->columns], text_width(t->cells[i]));
    for (size_t i = 0; t->widths && i < t->columns; i++)
        t->widths[i] = widths[i];
    if (!t->bare)
        printf("%*s", (int)t->indent, "");
    for (size_t i = 0; i < t->columns && !t->bare; i++)
        print_cell(t, i, t->heads[i], widths[i], colour ? BOLD : NULL);
    for (size_t i = 0; i < t->n; i++) {
        size_t column = i % t->columns;
        if (column == 0)
            printf("%*s", (int)t->indent, "");
        bool status = colour && t->styles[column] & CELL_STATUS;
        print_cell(t, column, t->cells[i], widths[column], status ? colour_of(t->cells[i]) : NULL);
    }
    for (size_t i = 0; i < t->n; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (struct table){0};
}

/* ---- lines ---- */

static void labelled(bool colour, const char *label, const char *text, const char *text_colour)
{
    struct buf b = {0};
    if (!text || !*text)
        return;
    text_escape(&b, text);
    int pad = (int)MAX(1, LABEL_WIDTH - (int)text_width(label) - 1);
    printf("%s%s:%s%*s%s%s%s\n", colour ? BOLD : "", label, colour ? RESET : "", pad, "",
           colour && text_colour ? text_colour : "", b.data, colour && text_colour ? RESET : "");
    buf_fini(&b);
}

void print_line(bool colour, const char *label, const char *text)
{
    labelled(colour, label, text, NULL);
}

void print_linef(bool colour, const char *label, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    _cleanup_(freep) char *text = xvasprintf(format, args);
    va_end(args);
    labelled(colour, label, text, NULL);
}

void print_status(bool colour, const char *label, const char *word)
{
    labelled(colour, label, word, word ? colour_of(word) : NULL);
}

void print_heading(bool colour, const char *text)
{
    printf("\n%s%s%s\n", colour ? BOLD : "", text, colour ? RESET : "");
}

/* ---- values ---- */

char *age_of(const char *time)
{
    int64_t ms;
    if (!time || time_parse(time, &ms) < 0)
        return NULL;
    int64_t s = MAX(0, (clock_realtime_ms(clock_system()) - ms) / 1000);
    if (s < 120)
        return xasprintf("%" PRId64 "s", s);
    if (s < 120 * 60)
        return xasprintf("%" PRId64 "m", s / 60);
    if (s < 48 * 3600)
        return xasprintf("%" PRId64 "h", s / 3600);
    return xasprintf("%" PRId64 "d", s / 86400);
}

char *span_of(const char *from, const char *to)
{
    int64_t a, b;
    if (!from || !to || time_parse(from, &a) < 0 || time_parse(to, &b) < 0)
        return NULL;
    int64_t ms = MAX(0, b - a);
    if (ms < 1000)
        return xasprintf("%" PRId64 "ms", ms);
    if (ms < 60000)
        return xasprintf("%.1fs", (double)ms / 1000);
    if (ms < 3600000)
        return xasprintf("%" PRId64 "m%02" PRId64 "s", ms / 60000, ms / 1000 % 60);
    return xasprintf("%" PRId64 "h%02" PRId64 "m", ms / 3600000, ms / 60000 % 60);
}

void print_json(const cJSON *v)
{
    _cleanup_(freep) char *text = value_print_pretty(v);
    printf("%s\n", text);
}

void print_yaml(const cJSON *v)
{
    _cleanup_(freep) char *text = yaml_print(v);
    fputs(text, stdout);
}

void complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    _cleanup_(freep) char *text = xvasprintf(format, args);
    va_end(args);
    struct buf b = {0};
    text_escape(&b, text);
    fprintf(stderr, "triggerctl: %s\n", b.data ? b.data : "");
    buf_fini(&b);
}
