/* One field of a random manifest is changed: outside of what was changed every byte stays, and the text says what was
 * meant. The manifests are written in all the ways that people and programs write them: block and flow style, the three
 * quotings and block scalars, comments, blank lines, anchors and aliases, CRLF, a byte order mark, several documents,
 * no newline at the end; JSON with any indentation.
 *
 * EDIT_CASES=N does more of them, EDIT_FROM=N begins elsewhere; a case depends on its number alone. */
#include "manifest/edit.h"

#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* ---- chance ---- */

static uint64_t state;

static uint64_t roll(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15ULL); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return (size_t)(roll() % n);
}

static bool chance(unsigned percent)
{
    return roll() % 100 < percent;
}

/* ---- trees ---- */

static const char *const scalars[] = {"1",
                                      "-7",
                                      "0.5",
                                      "true",
                                      "null",
                                      "\"x\"",
                                      "\"\"",
                                      "\"two words\"",
                                      "\"no\"",
                                      "\"1\"",
                                      "\"it's\"",
                                      "\"a: b\"",
                                      "\"# no\"",
                                      "\"- x\"",
                                      "\"\\\"q\\\"\"",
                                      "\"é 日本 😀\"",
                                      "\"l1\\nl2\"",
                                      "\"l1\\n\\n  l2\\n\"",
                                      "\"*a\"",
                                      "\"{{ $.x }}\"",
                                      "\" s \"",
                                      "12345678901234567890",
                                      "\"\\u0001\"",
                                      "\"a,b\"",
                                      "\"[x]\"",
                                      "\"tab\\there\"",
                                      "\"~\""};

static cJSON *parsed(const char *json)
{
    cJSON *v = NULL;
    assert_int_equal(value_parse(json, strlen(json), &v, NULL), 0);
    return v;
}

static cJSON *random_scalar(void)
{
    return parsed(scalars[below(ARRAY_SIZE(scalars))]);
}

static cJSON *random_tree(unsigned depth)
{
    static const char *const keys[] = {"name", "config", "a", "b.c", "no", "x-y", "é", "with space", "1", "steps", "z"};
    unsigned kind = (unsigned)below(10);
    if (depth > 3 || (kind < 5 && depth > 0))
        return random_scalar();
    cJSON *v = kind < 8 || depth == 0 ? cJSON_CreateObject() : cJSON_CreateArray();
    for (size_t i = below(4) + (depth == 0); i > 0; i--) {
        const char *key = keys[below(ARRAY_SIZE(keys))];
        if (cJSON_IsArray(v))
            cJSON_AddItemToArray(v, random_tree(depth + 1));
        else if (!value_get(v, key))
            value_set(v, key, random_tree(depth + 1));
    }
    return v;
}

/* ---- writing YAML in somebody's way ---- */

struct writer {
    struct buf out;
    const char *newline;
    unsigned anchors;
    const cJSON *anchored[16];
};

static void line_end(struct writer *w)
{
    if (chance(20))
        buf_adds(&w->out, chance(50) || strchr("-:", w->out.data[w->out.len - 1]) ? " # note: x" : "\t# é \"'");
    buf_adds(&w->out, w->newline);
    while (chance(12)) {
        if (chance(60))
            buf_printf(&w->out, "%*s# own line", (int)below(6), "");
        buf_adds(&w->out, w->newline);
    }
}

static void indent(struct writer *w, unsigned n)
{
    buf_printf(&w->out, "%*s", (int)n, "");
}

/* Can it stand without quotes wherever it is? */
static bool is_plain(const char *s)
{
    static const char *const others[] = {"true", "false", "null", "no", "~", "1"};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        if (streq(s, others[i]))
            return false;
    return *s && strspn(s, "abcdefghijklmnopqrstuvwxyz-. ") == strlen(s) && *s != '-' && *s != ' ' && *s != '.' &&
           s[strlen(s) - 1] != ' ';
}

static void write_quoted(struct writer *w, const char *s)
{
    if (!strpbrk(s, "\n\t\001") && chance(50)) {
        buf_addc(&w->out, '\'');
        for (; *s; s++)
            buf_printf(&w->out, "%s%c", *s == '\'' ? "'" : "", *s);
        buf_addc(&w->out, '\'');
        return;
    }
    cJSON v = {.type = cJSON_String, .valuestring = (char *)s};
    _cleanup_(freep) char *text = value_print(&v);
    buf_adds(&w->out, text);
}

static void write_scalar(struct writer *w, const cJSON *v)
{
    _cleanup_(freep) char *text = cJSON_IsString(v) ? NULL : value_print(v);
    if (text)
        buf_adds(&w->out, cJSON_IsNull(v) && chance(30) ? "~" : text);
    else if (is_plain(v->valuestring) && chance(60))
        buf_adds(&w->out, v->valuestring);
    else
        write_quoted(w, v->valuestring);
}

static void write_flow(struct writer *w, const cJSON *v)
{
    bool map = cJSON_IsObject(v);
    if (!map && !cJSON_IsArray(v)) {
        write_scalar(w, v);
        return;
    }
    const char *space = chance(50) ? " " : "";
    buf_printf(&w->out, "%c%s", map ? '{' : '[', space);
    for (const cJSON *c = v->child; c; c = c->next) {
        if (map) {
            write_quoted(w, c->string);
            buf_adds(&w->out, ": ");
        }
        write_flow(w, c);
        if (c->next)
            buf_printf(&w->out, "%s,%s", chance(20) ? " " : "", chance(80) ? " " : "");
    }
    buf_printf(&w->out, "%s%c", space, map ? '}' : ']');
}

/* A text of lines that a literal block can hold, its indentation found by itself. */
static bool is_literal(const char *s)
{
    return strchr(s, '\n') && *s != ' ' && *s != '\n' && !strpbrk(s, "\001\t");
}

static void write_literal(struct writer *w, const char *s, unsigned at)
{
    size_t n = strlen(s);
    bool ends = s[n - 1] == '\n';
    buf_printf(&w->out, "|%s%s", ends ? "" : "-", w->newline);
    for (const char *p = s; *p;) {
        size_t len = strcspn(p, "\n");
        if (len > 0)
            indent(w, at);
        buf_add(&w->out, p, len);
        buf_adds(&w->out, w->newline);
        p += len + (p[len] == '\n');
    }
}

static void write_block(struct writer *w, const cJSON *v, unsigned at);

/* What follows `key:` or `-` on its line, and below it. */
static void write_value(struct writer *w, const cJSON *v, unsigned at)
{
    for (unsigned i = 0; i < w->anchors; i++)
        if (chance(50) && value_equal(w->anchored[i], v)) {
            buf_printf(&w->out, " *n%u", i);
            line_end(w);
            return;
        }
    bool collection = (cJSON_IsObject(v) || cJSON_IsArray(v)) && v->child;
    if (cJSON_IsNull(v) && chance(30)) {
        line_end(w);
        return;
    }
    if (chance(8) && w->anchors < ARRAY_SIZE(w->anchored)) {
        w->anchored[w->anchors] = v;
        buf_printf(&w->out, " &n%u", w->anchors);
        if (collection) /* known only when it has ended */
            w->anchored[w->anchors] = NULL;
        w->anchors++;
    }
    if (cJSON_IsString(v) && is_literal(v->valuestring) && chance(60)) {
        buf_addc(&w->out, ' ');
        write_literal(w, v->valuestring, at + 1 + (unsigned)below(3));
        return;
    }
    if (collection && chance(70)) {
        line_end(w);
        write_block(w, v, at + (cJSON_IsObject(v) ? 1 + (unsigned)below(4) : (unsigned)below(3)));
        return;
    }
    indent(w, 1 + (chance(10) ? (unsigned)below(3) : 0));
    write_flow(w, v);
    line_end(w);
}

static void write_block(struct writer *w, const cJSON *v, unsigned at)
{
    for (const cJSON *c = v->child; c; c = c->next) {
        indent(w, at);
        if (cJSON_IsArray(v)) {
            buf_addc(&w->out, '-');
        } else {
            if (is_plain(c->string) && chance(80))
                buf_adds(&w->out, c->string);
            else
                write_quoted(w, c->string);
            buf_addc(&w->out, ':');
        }
        /* A list in a list must go further in; within a mapping it need not. */
        write_value(w, c, cJSON_IsArray(v) ? at + 1 : at);
    }
}

static void write_yaml(struct writer *w, cJSON *const *trees, size_t n)
{
    w->newline = chance(30) ? "\r\n" : "\n";
    if (chance(15))
        buf_adds(&w->out, "\xEF\xBB\xBF");
    if (chance(30))
        buf_printf(&w->out, "# first%s", w->newline);
    for (size_t i = 0; i < n; i++) {
        w->anchors = 0;
        if (i > 0 || chance(30))
            buf_printf(&w->out, "---%s%s", chance(20) ? " # doc" : "", w->newline);
        if (chance(15)) {
            write_flow(w, trees[i]);
            line_end(w);
        } else {
            write_block(w, trees[i], chance(10) ? 2 : 0);
        }
        if (chance(10))
            buf_printf(&w->out, "...%s", w->newline);
        if (chance(10))
            buf_printf(&w->out, "---%s# an empty one%s", w->newline, w->newline);
    }
    size_t end = strlen(w->newline);
    if (chance(20) && !strchr(w->out.data, '|') && w->out.len > end &&
        memcmp(w->out.data + w->out.len - end, w->newline, end) == 0)
        w->out.data[w->out.len -= end] = '\0';
}

/* ---- writing JSON ---- */

static void write_json(struct buf *b, const cJSON *v, const char *newline, const char *step, unsigned depth)
{
    bool map = cJSON_IsObject(v);
    if ((!map && !cJSON_IsArray(v)) || !v->child) {
        _cleanup_(freep) char *text = value_print(v);
        buf_adds(b, text);
        return;
    }
    buf_addc(b, map ? '{' : '[');
    for (const cJSON *c = v->child; c; c = c->next) {
        buf_adds(b, newline);
        for (unsigned i = 0; *newline && i <= depth; i++)
            buf_adds(b, step);
        if (map) {
            cJSON key = {.type = cJSON_String, .valuestring = c->string};
            _cleanup_(freep) char *text = value_print(&key);
            buf_printf(b, "%s:%s", text, *newline ? " " : "");
        }
        write_json(b, c, newline, step, depth + 1);
        buf_adds(b, c->next ? "," : newline);
    }
    for (unsigned i = 0; *newline && i < depth; i++)
        buf_adds(b, step);
    buf_addc(b, map ? '}' : ']');
}

/* ---- edits ---- */

struct change {
    char path[512];
    cJSON *value; /* NULL: remove it */
    const cJSON *node, *parent;
};

/* A step down from `node`, at random; NULL: it holds nothing. */
static const cJSON *step_down(const cJSON *node, char path[512])
{
    size_t n = (size_t)cJSON_GetArraySize(node);
    if (n == 0)
        return NULL;
    size_t i = below(n), len = strlen(path);
    const cJSON *child = cJSON_GetArrayItem(node, (int)i);
    if (cJSON_IsArray(node))
        snprintf(path + len, 512 - len, "[%zu]", i);
    else if (strpbrk(child->string, ".["))
        snprintf(path + len, 512 - len, "[\"%s\"]", child->string);
    else
        snprintf(path + len, 512 - len, "%s%s", len ? "." : "", child->string);
    return child;
}

static void pick_change(const struct document *doc, struct change *c)
{
    size_t above = 0; /* length of the parent's path */
    const cJSON *parent = doc->root, *node = step_down(parent, c->path);
    while (node->child && chance(75)) {
        above = strlen(c->path);
        parent = node;
        node = step_down(parent, c->path);
    }
    c->parent = parent;
    c->node = node;
    unsigned what = (unsigned)below(10);
    if (what < 2) {
        c->value = NULL;
    } else if (what < 4 && cJSON_IsObject(parent) && !value_get(parent, "fresh")) {
        snprintf(c->path + above, sizeof(c->path) - above, "%sfresh", above ? "." : ""); /* a new member beside it */
        c->node = NULL;
        c->value = chance(70) ? random_scalar() : random_tree(2);
    } else {
        c->value = chance(80) ? random_scalar() : random_tree(2);
    }
}

static void line_start(const char *text, size_t *at)
{
    while (*at > 0 && text[*at - 1] != '\n')
        (*at)--;
}

/* Is what stands before the line, up to a dash, only white space and comments? */
static bool is_note(const char *text, size_t at)
{
    size_t before = at - 1, dash;
    line_start(text, &before);
    dash = before + strspn(text + before, " ");
    if (text[dash] == '-' && strchr(" \t\r\n", text[dash + 1]))
        return true;
    return strchr("#\r\n", text[dash]) != NULL;
}

/* Does the value have an anchor that an alias refers to? Then what the alias stands for is written out, and more around
 * it may be written anew. */
static bool is_referred_to(const struct document_place *place, const char *text)
{
    for (size_t at = place->offset; at + 3 < place->end; at++) {
        char alias[] = {'*', text[at + 1], text[at + 2], '\0'};
        if (text[at] == '&' && strstr(text, alias))
            return true;
    }
    return false;
}

/* What may change: [*from, *to) of the text. */
static void allowed(const struct document *doc, const struct change *c, const char *text, size_t len, size_t *from,
                    size_t *to)
{
    const struct document_place *place = document_place(doc, c->node ? c->node : c->parent);
    *from = is_referred_to(place, text) ? 0 : place->offset;
    *to = *from == 0 ? len : place->end;
    bool whole = !c->node || !c->value; /* in its place within its parent */
    bool simple = c->node && c->value && !strchr("|>", text[place->offset]) && !place->copied &&
                  !(cJSON_IsString(c->value) && strchr(c->value->valuestring, '\n')) && !cJSON_IsObject(c->value) &&
                  !cJSON_IsArray(c->value) && !c->node->child && place->end > place->offset;
    if (simple)
        return;
    bool last =
        c->node && !c->value && !c->node->next && c->node == c->parent->child; /* the parent is empty after it */
    if (place->copied || whole || place->end == place->offset) { /* an alias below which it is goes with it */
        const struct document_place *parent = document_place(doc, c->parent);
        *from = MIN(*from, parent->offset);
        *to = MAX(*to, parent->end);
        place = last ? parent : place;
    }
    if (place->key_end)
        *from = MIN(*from, place->key_offset);
    /* Lines are put in and taken out as a whole; a comment may move behind what it stood before. */
    line_start(text, from);
    while (!place->key_end && *from > 0 && is_note(text, *from)) { /* below its dash */
        (*from)--;
        line_start(text, from);
    }
    while (*to < len && text[*to] != '\n')
        (*to)++;
    *to += *to < len;
}

static void report(uint64_t number, const char *what, const char *text, const struct change *c, const char *got)
{
    _cleanup_(freep) char *value = c->value ? value_print(c->value) : xstrdup("gone");
    fail_msg("case %" PRIu64 ": %s\n--- %s = %s\n%s\n--- gave\n%s\n---", number, what, c->path, value, text,
             got ? got : "");
}

/* The tree that the change means. */
static cJSON *meant_tree(const struct document *doc, const struct change *c)
{
    cJSON *copy = cJSON_Duplicate(doc->root, true);
    const cJSON *way[64];
    size_t n = 0, index[64];
    for (const cJSON *at = doc->root; at != c->parent;) { /* the same way in the copy */
        size_t i = 0;
        const cJSON *child = at->child;
        for (; child; child = child->next, i++) {
            bool inside = child == c->parent;
            for (const cJSON *stack[64] = {child}, **top = stack + 1; top > stack && !inside;) {
                const cJSON *v = *--top;
                inside = v == c->parent;
                for (const cJSON *k = v->child; k && top < stack + 63; k = k->next)
                    *top++ = k;
            }
            if (inside)
                break;
        }
        assert_non_null(child);
        way[n] = child;
        index[n++] = i;
        at = child;
    }
    (void)way;
    cJSON *parent = copy;
    for (size_t i = 0; i < n; i++)
        parent = cJSON_GetArrayItem(parent, (int)index[i]);
    if (!c->node) {
        value_set(parent, "fresh", cJSON_Duplicate(c->value, true));
        return copy;
    }
    int at = 0;
    for (const cJSON *k = c->parent->child; k != c->node; k = k->next)
        at++;
    cJSON *old = cJSON_GetArrayItem(parent, at);
    if (!c->value) {
        cJSON_Delete(cJSON_DetachItemViaPointer(parent, old));
        return copy;
    }
    cJSON *new = cJSON_Duplicate(c->value, true);
    if (old->string)
        new->string = xstrdup(old->string);
    cJSON_ReplaceItemViaPointer(parent, old, new);
    return copy;
}

struct tally {
    size_t done, refused;
};

static void check_result(uint64_t number, const struct document_set *set, size_t index, enum document_format format,
                         const char *text, size_t len, const struct change *c, const char *got, size_t got_len)
{
    struct document_set now;
    if (document_parse(got, got_len, format, &now) < 0)
        report(number, "it does not parse any more", text, c, got);
    if (now.n_documents != set->n_documents)
        report(number, "documents came or went", text, c, got);
    _cleanup_(cjson_deletep) cJSON *meant = meant_tree(&set->documents[index], c);
    for (size_t i = 0; i < now.n_documents; i++)
        if (!value_equal(now.documents[i].root, i == index ? meant : set->documents[i].root))
            report(number, "another tree", text, c, got);
    document_set_fini(&now);
    size_t from, to, same = 0, same_end = 0;
    allowed(&set->documents[index], c, text, len, &from, &to);
    while (same < len && same < got_len && text[same] == got[same])
        same++;
    while (same_end < len && same_end < got_len && text[len - 1 - same_end] == got[got_len - 1 - same_end])
        same_end++;
    if (same < from)
        report(number, "bytes before it changed", text, c, got);
    if (same_end < len - to)
        report(number, "bytes behind it changed", text, c, got);
}

static void run_case(uint64_t number, struct tally *tally)
{
    cJSON *trees[3];
    size_t n = 1 + below(3);
    struct writer w = {0};
    enum document_format format = chance(70) ? DOCUMENT_YAML : DOCUMENT_JSON;
    for (size_t i = 0; i < n; i++)
        trees[i] = random_tree(0);
    if (format == DOCUMENT_YAML) {
        write_yaml(&w, trees, n);
    } else {
        static const char *const steps[] = {"  ", "    ", "\t", " "};
        static const char *const newlines[] = {"\n", "\n", "\r\n", ""};
        for (; n > 1; n--)
            cJSON_Delete(trees[n - 1]);
        write_json(&w.out, trees[0], newlines[below(4)], steps[below(4)], 0);
        buf_adds(&w.out, chance(70) ? "\n" : "");
    }
    struct document_set set;
    document_parse(w.out.data, w.out.len, format, &set);
    if (set.n_errors > 0 || set.n_documents < 1)
        fail_msg("case %" PRIu64 ": what was written is no good: %u:%u: %s\n%s", number, set.errors[0].line,
                 set.errors[0].column, set.errors[0].message, w.out.data);
    for (size_t i = 0; i < n; i++)
        if (!value_equal(set.documents[i].root, trees[i]))
            fail_msg("case %" PRIu64 ": what was written is something else:\n%s", number, w.out.data);
    struct change c = {0};
    size_t index = below(set.n_documents), got_len = 0;
    char *got = NULL;
    struct error err = ERROR_INIT;
    pick_change(&set.documents[index], &c);
    int r = c.value ? edit_set(w.out.data, w.out.len, format, index, c.path, c.value, &got, &got_len, &err)
                    : edit_remove(w.out.data, w.out.len, format, index, c.path, &got, &got_len, &err);
    if (r == 0)
        check_result(number, &set, index, format, w.out.data, w.out.len, &c, got, got_len);
    else if (r != -ENOTSUP)
        report(number, err.message, w.out.data, &c, got);
    tally->done += r == 0;
    tally->refused += r < 0;
    free(got);
    cJSON_Delete(c.value);
    document_set_fini(&set);
    buf_fini(&w.out);
    for (size_t i = 0; i < n; i++)
        cJSON_Delete(trees[i]);
}

static void test_edits(void **unused)
{
    (void)unused;
    const char *cases = getenv("EDIT_CASES"), *from = getenv("EDIT_FROM");
    uint64_t count = cases ? strtoull(cases, NULL, 10) : 3000, first = from ? strtoull(from, NULL, 10) : 0;
    struct tally tally = {0};
    for (uint64_t i = first; i < first + count; i++) {
        state = i * 0x100000001b3ULL;
        roll();
        run_case(i, &tally);
    }
    print_message("%zu edits, %zu refused\n", tally.done, tally.refused);
    assert_true(tally.refused * 50 <= tally.done + 50); /* seldom the document would have to be written anew */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_edits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
