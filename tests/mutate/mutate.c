/* Manifests with mistakes: seeds changed at random, the same ones from the same --seed, each judged by
 * manifest_parse().
 *
 *   mutate [--seed N] [--count N] [--only N] [--emit] FILE...
 *
 * A seed is a document of one of the files. Either its tree is changed (members taken out, put in, renamed, values
 * replaced by those that other fields take, numbers moved to the edges of their ranges) and printed as YAML or JSON,
 * or its text is (bytes, pieces, markers), or both. Checked of each:
 *
 *   - every error has a place within the text, and prints as one line of UTF-8;
 *   - a document is refused exactly if it has an error, and what is not refused has its resource.
 *
 * The first that fails is printed and ends the program with 1. --emit prints a line of JSON for each document that
 * parses: {"case", "document": its tree, "errors": [[path, message]...]}, which agree.py compares with the schema.
 * --only prints one case's text. The last line on standard error counts.
 */
#include "base/util.h"
#include "manifest/manifest.h"
#include "manifest/schema.h"
#include "manifest/yaml_print.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define SIZE_BOUND 20000 /* bytes: a seed that grew over it is left as it is */

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
    return n ? (size_t)(roll() % n) : 0;
}

static bool chance(unsigned percent)
{
    return roll() % 100 < percent;
}

/* ---- what to put in ---- */

static const char *const junk[] = {
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "-0",
    "0.5",
    "1.0",
    "1e3",
    "2.5",
    "1e400",
    "-1e-400",
    "9007199254740993",
    "123456789012345678901234567890",
    "\"\"",
    "\"x\"",
    "\"0\"",
    "\" \"",
    "\"a b\"",
    "\"a\\n\"",
    "\"/\"",
    "\"/data/in\"",
    "\"$.a\"",
    "\"$.a[\"",
    "\"a.b\"",
    "\"{{ $.inputs.x }}\"",
    "\"{{\"",
    "\"{{ }}\"",
    "\"}}\"",
    "\"*\"",
    "\"[\"",
    "\"**\"",
    "\"\\u00e9\\u0301\\ud83d\\ude00\"",
    "\"\\u202e\"",
    "\"\\u007f\"",
    "\"events\"",
    "\"Events!\"",
    "\"-\"",
    "\"A\"",
    "\"a=b\"",
    "\"TRIGGERD_RUN_ID\"",
    "\"no\"",
    "\"<<\"",
    "\"?\"",
    "[]",
    "{}",
    "[1]",
    "[\"a\"]",
    "[null]",
    "[[]]",
    "[\"a\", 1]",
    "{\"a\": 1}",
    "{\"a\": \"$.a\"}",
    "{\"\": \"x\"}",
    "{\"x-a\": 1}",
    "{\"a=b\": \"c\"}",
    "{\"TRIGGERD_RUN_ID\": \"c\"}",
    "{\"prefix\": \"a\"}",
    "[{\"prefix\": \"a\"}]",
    "[{\"prefix\": 1}]",
    "[{\"prefx\": \"a\"}]",
    "{\"a\": {}}",
    "{\"a\": []}",
    "[{\"wildcard\": \"a*b\"}]",
    "[{\"wildcard\": \"a**\"}]",
    "[{\"wildcard\": \"\\\\a\"}]",
    "[{\"numeric\": [\">\", 1]}]",
    "[{\"numeric\": [\">\", 2, \"<\", 1]}]",
    "[{\"numeric\": [\"=\", 1, \"<\", 2]}]",
    "[{\"cidr\": \"10.0.0.0/8\"}]",
    "[{\"cidr\": \"10.0.0.0/33\"}]",
    "[{\"cidr\": \"x\"}]",
    "[{\"exists\": true}]",
    "[{\"exists\": 1}]",
    "[{\"anything-but\": [\"a\", 1]}]",
    "[{\"anything-but\": [1, 2]}]",
    "[{\"anything-but\": {\"prefix\": \"\"}}]",
    "[{\"anything-but\": {\"wildcard\": [\"a*\"]}}]",
    "[{\"anything-but\": {\"cidr\": \"a\"}}]",
    "[{\"anything-but\": true}]",
    "{\"$or\": [{\"a\": 1}, {\"b\": [2]}]}",
    "{\"$or\": [{\"a\": 1}]}",
    "{\"$or\": {}}",
    "{\"a\": [[1]]}",
    "{\"type\": \"object\"}",
    "{\"type\": [\"string\", \"null\"]}",
    "{\"typ\": \"object\"}",
    "{\"minItems\": -1}",
    "{\"enum\": []}",
    "{\"pattern\": \"[\"}",
    "{\"multipleOf\": 0}",
    "{\"required\": [1]}",
    "{\"$ref\": \"#\"}",
    "{\"items\": [true]}",
    "{\"properties\": {\"a\": false}}",
    "{\"anyOf\": []}",
};

/* Every row of every table. */
static const struct field *rows[512];
static size_t n_rows;

static void gather_rows(const struct field_table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        if (n_rows < ARRAY_SIZE(rows))
            rows[n_rows++] = &t->fields[i];
        if (t->fields[i].sub)
            gather_rows(t->fields[i].sub);
    }
}

static cJSON *parsed(const char *json)
{
    cJSON *v = NULL;
    struct error err = ERROR_INIT;
    if (value_parse(json, strlen(json), &v, &err) < 0) {
        fprintf(stderr, "mutate: %s: %s\n", json, err.message);
        abort();
    }
    return v;
}

/* A text of `n` characters, some of them of more than one byte. */
static cJSON *long_text(size_t n)
{
    struct buf b = {0};
    bool wide = chance(50);
    buf_reserve(&b, n * 2);
    for (size_t i = 0; i < n; i++)
        buf_adds(&b, wide && i % 2 ? "é" : "a");
    cJSON *v = value_string(b.data ? b.data : "");
    buf_fini(&b);
    return v;
}

/* A value at the edge of what the field takes, or its default or example. */
static cJSON *value_for(const struct field *f)
{
    bool number = f->type == &field_int || f->type == &field_number || f->type == &field_seconds;
    if (f->words && chance(60)) {
        size_t n = 0;
        while (f->words[n])
            n++;
        return value_string(f->words[below(n)]);
    }
    if (number && chance(70)) {
        static const double steps[] = {-1, -0.5, 0, 0.5, 1};
        return value_number_from_double((chance(50) ? f->min : f->max) + steps[below(ARRAY_SIZE(steps))]);
    }
    if (f->type == &field_string && f->max > 0 && f->max <= 300 && chance(30))
        return long_text((size_t)f->max + below(3) - 1);
    if (f->type == &field_id && chance(30))
        return long_text(62 + below(3));
    if (f->example && chance(50))
        return parsed(f->example);
    if (f->default_json && chance(50))
        return parsed(f->default_json);
    return parsed(junk[below(ARRAY_SIZE(junk))]);
}

static cJSON *any_value(const char *key)
{
    const struct field *f = rows[below(n_rows)];
    for (size_t i = 0, at = below(n_rows); key && i < n_rows; i++) /* one row of that name, where there are several */
        if (streq(rows[(at + i) % n_rows]->name, key)) {
            f = rows[(at + i) % n_rows];
            break;
        }
    return chance(60) ? value_for(f) : parsed(junk[below(ARRAY_SIZE(junk))]);
}

static char *any_key(const char *now)
{
    static const char *const more[] = {
        "kind", "filter", "input_mapping", "exec", "emit",       "x-note", "x",
        "",     "a.b",    "$or",           "type", "properties", "prefix", "_trigger_event"};
    if (now && *now && chance(40)) { /* a slip of the finger */
        char *key = xasprintf("%s%s", now, chance(50) ? "s" : "");
        size_t n = strlen(key), at = below(n);
        if (!((unsigned char)key[at] & 0x80))
            key[at] = (char)('a' + below(26));
        return key;
    }
    return xstrdup(chance(70) ? rows[below(n_rows)]->name : more[below(ARRAY_SIZE(more))]);
}

/* ---- trees ---- */

static size_t count_nodes(const cJSON *v)
{
    size_t n = 1;
    for (const cJSON *c = v->child; c; c = c->next)
        n += count_nodes(c);
    return n;
}

/* The node number *at below `v` (not `v` itself), and what it is in. */
static cJSON *nth(cJSON *v, size_t *at, cJSON **ret_parent)
{
    for (cJSON *c = v->child; c; c = c->next) {
        if ((*at)-- == 0) {
            *ret_parent = v;
            return c;
        }
        cJSON *found = nth(c, at, ret_parent);
        if (found)
            return found;
    }
    return NULL;
}

static cJSON *pick(cJSON *root, cJSON **ret_parent)
{
    size_t at = below(count_nodes(root) - 1);
    return nth(root, &at, ret_parent);
}

static void put_in_place(cJSON *parent, cJSON *old, cJSON *new)
{
    free(new->string);
    new->string = cJSON_IsObject(parent) ? xstrdup(old->string) : NULL;
    cJSON_ReplaceItemViaPointer(parent, old, new);
}

static void rename_member(cJSON *parent, cJSON *node, char *key)
{
    _cleanup_(freep) char *owned = key;
    if (value_get(parent, key))
        return;
    free(node->string);
    node->string = steal(&owned);
}

static void add_member(cJSON *object)
{
    _cleanup_(freep) char *key = any_key(NULL);
    if (!value_get(object, key))
        value_set(object, key, any_value(key));
}

static void change_text(cJSON *node)
{
    static const char *const ends[] = {"x", " ", "\n", "é", "/", "{{", "[", ".", "*", "=", "\xe2\x80\xae"};
    const char *end = ends[below(ARRAY_SIZE(ends))], *text = node->valuestring;
    char *changed = chance(50) ? xasprintf("%s%s", text, end) : xasprintf("%s%s", end, text);
    free(node->valuestring);
    node->valuestring = changed;
}

static void change_tree(cJSON *root)
{
    cJSON *parent, *node = pick(root, &parent), *other_parent, *other;
    if (!node || chance(8)) {
        add_member(root);
        return;
    }
    switch (below(9)) {
    case 0:
        cJSON_Delete(cJSON_DetachItemViaPointer(parent, node));
        break;
    case 1:
        if (cJSON_IsObject(parent))
            rename_member(parent, node, any_key(node->string));
        break;
    case 2:
        add_member(cJSON_IsObject(node) ? node : cJSON_IsObject(parent) ? parent : root);
        break;
    case 3:
        if (cJSON_IsArray(node) && node->child)
            cJSON_AddItemToArray(node, cJSON_Duplicate(node->child, true));
        else if (cJSON_IsArray(node))
            cJSON_AddItemToArray(node, any_value(NULL));
        break;
    case 4:
        if (cJSON_IsString(node)) {
            change_text(node);
            break;
        }
        put_in_place(parent, node, any_value(node->string));
        break;
    case 5: /* what stands elsewhere */
        other = pick(root, &other_parent);
        if (count_nodes(other) < 50)
            put_in_place(parent, node, cJSON_Duplicate(other, true));
        break;
    case 6: { /* in a list, or out of it */
        cJSON *list = cJSON_CreateArray();
        if (!cJSON_IsArray(node)) {
            cJSON *copy = cJSON_Duplicate(node, true);
            free(copy->string);
            copy->string = NULL;
            cJSON_AddItemToArray(list, copy);
            put_in_place(parent, node, list);
        } else {
            cJSON_Delete(list);
            if (node->child)
                put_in_place(parent, node, cJSON_Duplicate(node->child, true));
        }
        break;
    }
    default:
        put_in_place(parent, node, any_value(node->string));
    }
}

/* ---- texts ---- */

static void splice(struct buf *b, size_t at, size_t drop, const char *put, size_t put_len)
{
    struct buf out = {0};
    drop = MIN(drop, b->len - at);
    buf_add(&out, b->data ? b->data : "", at);
    buf_add(&out, put, put_len);
    if (b->len > at + drop)
        buf_add(&out, b->data + at + drop, b->len - at - drop);
    buf_fini(b);
    *b = out;
}

static void change_bytes(struct buf *b)
{
    static const char *const pieces[] = {
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "\"",
        "'",
        "\n",
        "\r\n",
        "\r",
        "\t",
        "#",
        " #",
        "&a ",
        "*a",
        "!!str ",
        "!!int ",
        "!x ",
        "---\n",
        "...\n",
        "|\n",
        ">-\n",
        "\xef\xbb\xbf",
        "\xff",
        "\xc3",
        "\xe2\x80\xa8",
        ",",
        "<<: ",
        "? ",
        "%YAML 1.2\n",
        "\\",
        "\\u0000",
        "null",
        "~",
        "0x1F",
        "0o17",
        ".inf",
        "\n  ",
        "é",
        "\xf0\x9f\x98\x80",
        "\"a\": 1,",
        "a: 1\n",
        "a: 1\na: 2\n",
    };
    size_t at = below(b->len + 1);
    switch (below(5)) {
    case 0:
        splice(b, at, 1 + below(3), "", 0);
        break;
    case 1: {
        const char *piece = pieces[below(ARRAY_SIZE(pieces))];
        splice(b, at, chance(30) ? below(4) : 0, piece, strlen(piece));
        break;
    }
    case 2: { /* a piece of itself */
        size_t from = below(b->len + 1), n = below(MIN(b->len - from, (size_t)200) + 1);
        _cleanup_(freep) char *copy = xmemdup(b->data ? b->data + from : "", n);
        splice(b, at, 0, copy, n);
        break;
    }
    case 3: {
        char c = (char)roll();
        splice(b, at, 1, &c, chance(10) ? 1 : 0);
        break;
    }
    default:
        if (chance(20)) {
            splice(b, at, b->len, "", 0); /* it breaks off */
        } else {
            char nul[] = {chance(50) ? '\0' : (char)(below(95) + 32)};
            splice(b, at, 1, nul, 1);
        }
    }
}

/* ---- judging ---- */

static void refuse(uint64_t number, const struct buf *text, const char *what)
{
    fprintf(stderr, "case %" PRIu64 ": %s\n--- text\n%.*s\n", number, what, (int)text->len, text->data);
    exit(1);
}

/* Is the place in the text: a line of it (or the one behind the last), a column of that line or the one behind it? In
 * JSON a carriage return alone ends no line. */
static bool in_text(const struct buf *text, enum document_format format, unsigned line, unsigned column)
{
    const char *p = text->data, *end = p + text->len, *ends = format == DOCUMENT_YAML ? "\n\r" : "\n";
    for (unsigned at = 1; at < line; at++) {
        while (p < end && (!*p || !strchr(ends, *p)))
            p++;
        if (p == end)
            return false;
        p += *p == '\r' && p + 1 < end && p[1] == '\n' ? 2 : 1;
    }
    size_t columns = 1;
    for (; p < end && (!*p || !strchr(ends, *p)); p++)
        columns += ((unsigned char)*p & 0xC0) != 0x80;
    return line >= 1 && column >= 1 && column <= columns;
}

static void check_errors(uint64_t number, const struct buf *text, enum document_format format, const struct manifest *m)
{
    for (size_t i = 0; i < m->n_errors; i++) {
        const struct manifest_error *e = &m->errors[i];
        _cleanup_(freep) char *line = manifest_error_text(m, e);
        if (!in_text(text, format, e->line, e->column))
            refuse(number, text, line);
        if (!utf8_valid(line, strlen(line)) || strpbrk(line, "\n\r") || !*e->message)
            refuse(number, text, "an error is no line of text");
    }
}

static void check_entries(uint64_t number, const struct buf *text, const struct manifest *m, int r)
{
    if ((r < 0) != (m->n_wrong > 0))
        refuse(number, text, "the result is not what the errors say");
    for (size_t i = 0; i < m->n_entries; i++) {
        const struct manifest_entry *e = &m->entries[i];
        size_t wrong = 0;
        for (size_t k = 0; k < m->n_errors; k++)
            wrong += m->errors[k].entry == i && !m->errors[k].warning;
        if (e->bad != (wrong > 0))
            refuse(number, text, "a document is refused without an error, or taken with one");
        const void *resources[RESOURCE_KINDS] = {
            [RESOURCE_TRIGGER] = e->trigger, [RESOURCE_PIPELINE] = e->pipeline, [RESOURCE_MCP_SERVER] = e->server};
        bool right = true;
        for (size_t k = 0; k < RESOURCE_KINDS; k++)
            right = right && (resources[k] != NULL) == (!e->bad && k == e->kind);
        if (!right)
            refuse(number, text, "a document that is taken has no resource, or one that is refused has");
    }
}

/* The documents that parse, for agree.py. */
static void emit(uint64_t number, const struct buf *text, enum document_format format, const struct manifest *m)
{
    struct document_set set;
    document_parse(text->data, text->len, format, &set);
    for (size_t i = 0; i < set.n_documents; i++) {
        const struct document *doc = &set.documents[i];
        if (doc->bad || !doc->complete || !doc->root)
            continue;
        _cleanup_(cjson_deletep) cJSON *line = cJSON_CreateObject(), *errors = cJSON_CreateArray();
        for (size_t k = 0; k < m->n_errors; k++) {
            const struct manifest_error *e = &m->errors[k];
            if (e->entry != i || e->warning)
                continue;
            cJSON *pair = cJSON_CreateArray();
            cJSON_AddItemToArray(pair, value_string(e->path));
            cJSON_AddItemToArray(pair, value_string(e->message));
            cJSON_AddItemToArray(errors, pair);
        }
        value_set(line, "case", value_number_from_int((int64_t)number));
        value_set(line, "document", cJSON_Duplicate(doc->root, true));
        value_set(line, "errors", steal(&errors));
        _cleanup_(freep) char *printed = value_print(line);
        puts(printed);
    }
    document_set_fini(&set);
}

/* ---- cases ---- */

static void make_case(cJSON *const *seeds, size_t n, struct buf *text, enum document_format *format)
{
    _cleanup_(cjson_deletep) cJSON *tree = cJSON_Duplicate(seeds[below(n)], true);
    unsigned how = (unsigned)below(100); /* below 85 the tree, from 75 on the text */
    for (size_t i = chance(70) ? 1 : 3; how < 85 && i > 0; i--)
        change_tree(tree);
    *format = chance(50) ? DOCUMENT_YAML : DOCUMENT_JSON;
    _cleanup_(freep) char *printed = *format == DOCUMENT_YAML ? yaml_print(tree) : value_print_pretty(tree);
    buf_adds(text, printed);
    for (size_t i = chance(70) ? 1 : 4; how >= 75 && i > 0 && text->len < SIZE_BOUND; i--)
        change_bytes(text);
    buf_reserve(text, 1)[0] = '\0';
}

static void add_seeds(const char *path, cJSON ***seeds, size_t *n)
{
    FILE *in = fopen(path, "r");
    struct buf text = {0};
    if (!in) {
        perror(path);
        exit(2);
    }
    for (size_t got = 1; got > 0; text.len += got)
        got = fread(buf_reserve(&text, 65536), 1, 65536, in);
    fclose(in);
    struct document_set set;
    enum document_format format = DOCUMENT_YAML;
    document_format_by_name(path, &format);
    if (document_parse(text.data, text.len, format, &set) < 0) {
        fprintf(stderr, "%s: %s\n", path, set.errors[0].message);
        exit(2);
    }
    for (size_t i = 0; i < set.n_documents; i++) {
        *seeds = xreallocarray(*seeds, *n + 1, sizeof(**seeds));
        (*seeds)[(*n)++] = cJSON_Duplicate(set.documents[i].root, true);
    }
    document_set_fini(&set);
    buf_fini(&text);
}

struct options {
    uint64_t seed, count, only;
    bool emit;
};

static void run(const struct options *o, cJSON *const *seeds, size_t n)
{
    uint64_t good = 0, bad = 0, errors = 0;
    for (uint64_t i = 0; i < o->count; i++) {
        struct buf text = {0};
        enum document_format format;
        struct manifest m;
        state = o->seed * 0x100000001b3ULL + i;
        roll();
        make_case(seeds, n, &text, &format);
        if (o->only == i)
            fwrite(text.data, 1, text.len, stdout);
        if (o->only == UINT64_MAX || o->only == i) {
            int r = manifest_parse(format == DOCUMENT_YAML ? "m.yaml" : "m.json", text.data, text.len, &m);
            check_errors(i, &text, format, &m);
            check_entries(i, &text, &m, r);
            if (o->emit)
                emit(i, &text, format, &m);
            good += r == 0;
            bad += r < 0;
            errors += m.n_wrong;
            manifest_fini(&m);
        }
        buf_fini(&text);
    }
    fprintf(stderr, "%" PRIu64 " taken, %" PRIu64 " refused with %" PRIu64 " errors\n", good, bad, errors);
}

int main(int argc, char **argv)
{
    struct options o = {.seed = 1, .count = 3000, .only = UINT64_MAX};
    cJSON **seeds = NULL;
    size_t n = 0;
    for (int i = 1; i < argc; i++) {
        if (streq(argv[i], "--emit"))
            o.emit = true;
        else if (i + 1 < argc && streq(argv[i], "--seed"))
            o.seed = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && streq(argv[i], "--count"))
            o.count = strtoull(argv[++i], NULL, 10);
        else if (i + 1 < argc && streq(argv[i], "--only"))
            o.only = strtoull(argv[++i], NULL, 10);
        else
            add_seeds(argv[i], &seeds, &n);
    }
    if (n == 0) {
        fprintf(stderr, "usage: mutate [--seed N] [--count N] [--only N] [--emit] FILE...\n");
        return 2;
    }
    if (o.only != UINT64_MAX)
        o.count = o.only + 1;
    for (size_t i = 0; manifest_table_names()[i]; i++)
        gather_rows(manifest_table(manifest_table_names()[i]));
    run(&o, seeds, n);
    for (size_t i = 0; i < n; i++)
        cJSON_Delete(seeds[i]);
    free(seeds);
    return 0;
}
