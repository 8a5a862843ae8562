/* path and match: the languages of manifests over JSON on standard input, without a daemon. */
#include "ctl/args.h"
#include "ctl/input.h"
#include "ctl/print.h"
#include "lang/path.h"
#include "lang/pattern.h"

#include <errno.h>
#include <stdio.h>

/* Compact JSON that is one line to every reader: some take U+0085, U+2028 and U+2029 for line ends, so these are
 * escaped (they can stand in strings alone). */
static void print_compact(const cJSON *v)
{
    _cleanup_(freep) char *text = value_print(v);
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\xC2\xE2");
        fwrite(p, 1, n, stdout);
        p += n;
        if (strncmp(p, "\xC2\x85", 2) == 0) {
            fputs("\\u0085", stdout);
            p += 2;
        } else if (strncmp(p, "\xE2\x80\xA8", 3) == 0 || strncmp(p, "\xE2\x80\xA9", 3) == 0) {
            printf("\\u202%c", p[2] == '\xA8' ? '8' : '9');
            p += 3;
        } else if (*p) {
            putchar(*p++);
        }
    }
}

/* A line of --batch to its answer on standard output. */
typedef void batch_fn(const cJSON *line);

static void answer_error(const char *message)
{
    _cleanup_(cjson_deletep) cJSON *answer = cJSON_CreateObject();
    value_set(answer, "error", value_string(message));
    print_compact(answer);
    printf("\n");
}

static void one_line(const struct buf *text, batch_fn *fn)
{
    struct error err = ERROR_INIT;
    _cleanup_(cjson_deletep) cJSON *line = NULL;
    if (value_parse(text->data, text->len, &line, &err) < 0) {
        error_wrap(&err, "column %u", err.column);
        answer_error(err.message);
    } else {
        fn(line);
    }
    fflush(stdout); /* whoever writes a line may wait for its answer */
}

static int batch(batch_fn *fn)
{
    struct buf line = {0};
    int r;
    while ((r = input_line(stdin, &line)) == 1 || r == -E2BIG) {
        if (r == -E2BIG)
            answer_error("the line is longer than 64 MiB");
        else if (line.data[strspn(line.data, " \t\r")])
            one_line(&line, fn);
    }
    buf_fini(&line);
    if (r < 0)
        complain("standard input: %s", strerror(-r));
    return r < 0 ? CTL_FAILED : CTL_OK;
}

/* ---- path ---- */

/* One array, value by value: what a path selects can be many times the document. */
static void print_nodes(const struct path_nodes *nodes)
{
    printf("[");
    for (size_t i = 0; i < nodes->n; i++) {
        fputs(i ? "," : "", stdout);
        print_compact(nodes->list[i]);
    }
    printf("]");
}

static void path_line(const cJSON *line)
{
    const char *selector = value_get_string(line, "selector");
    const cJSON *document = value_get(line, "document");
    struct error err = ERROR_INIT;
    _cleanup_(path_destroyp) struct path *p = NULL;
    struct path_nodes nodes = {0};
    if (!selector || !document) {
        answer_error("expected {\"selector\": a text, \"document\": any value}");
    } else if (path_compile(selector, PATH_STRICT, &p, &err) < 0 || path_select(p, document, &nodes, &err) < 0) {
        answer_error(err.message);
    } else {
        printf("{\"result\":");
        print_nodes(&nodes);
        printf("}\n");
    }
    path_nodes_fini(&nodes);
}

static int path_once(const char *text)
{
    struct error err = ERROR_INIT;
    _cleanup_(path_destroyp) struct path *p = NULL;
    _cleanup_(cjson_deletep) cJSON *document = NULL;
    struct path_nodes nodes = {0};
    if (path_compile(text, PATH_STRICT, &p, &err) < 0) {
        if (err.column > 0)
            complain("%s: character %u: %s", text, err.column, err.message);
        else
            complain("%s", err.message);
        return CTL_FAILED;
    }
    if (input_json(&document) < 0)
        return CTL_FAILED;
    int r = path_select(p, document, &nodes, &err);
    if (r < 0) {
        complain("%s", err.message);
    } else {
        print_nodes(&nodes);
        printf("\n");
    }
    path_nodes_fini(&nodes);
    return r < 0 ? CTL_FAILED : CTL_OK;
}

int verb_path(struct ctl *c, const struct args *a)
{
    (void)c;
    bool batched = a->values[OPT_BATCH];
    if (batched == (a->n > 0))
        return args_refuse(a, "expected either EXPR or --batch");
    return batched ? batch(path_line) : path_once(a->words[0]);
}

/* ---- match ---- */

static void match_line(const cJSON *line)
{
    const cJSON *json = value_get(line, "pattern"), *event = value_get(line, "event");
    struct error err = ERROR_INIT;
    struct pattern *pattern = NULL;
    struct mismatch why = {0};
    if (!json || !event) {
        answer_error("expected {\"pattern\": an object, \"event\": any value}");
    } else if (pattern_compile(json, &pattern, NULL, &err) < 0) {
        answer_error(err.message);
    } else if (pattern_match(pattern, event, &why)) {
        printf("{\"match\":true}\n");
    } else {
        _cleanup_(cjson_deletep) cJSON *answer = cJSON_CreateObject();
        value_set(answer, "match", cJSON_CreateFalse());
        value_set(answer, "reason", value_string(why.text));
        print_compact(answer);
        printf("\n");
    }
    pattern_destroy(pattern);
}

static int match_event(const struct pattern *pattern)
{
    struct mismatch why = {0};
    _cleanup_(cjson_deletep) cJSON *event = NULL;
    if (input_json(&event) < 0)
        return CTL_FAILED;
    if (pattern_match(pattern, event, &why)) {
        printf("match\n");
        return CTL_OK;
    }
    struct buf b = {0};
    text_escape(&b, why.text);
    printf("%s\n", b.data);
    buf_fini(&b);
    return CTL_FAILED;
}

static int match_once(const char *text)
{
    struct error err = ERROR_INIT;
    _cleanup_(cjson_deletep) cJSON *json = NULL;
    struct pattern *pattern = NULL;
    if (streq(text, "-")) {
        complain("the pattern cannot come from standard input: the event does; give it as @FILE");
        return CTL_FAILED;
    }
    if (input_data_json("pattern", text, &json) < 0)
        return CTL_FAILED;
    if (pattern_compile(json, &pattern, NULL, &err) < 0) {
        complain("%s", err.message);
        return CTL_FAILED;
    }
    int r = match_event(pattern);
    pattern_destroy(pattern);
    return r;
}

int verb_match(struct ctl *c, const struct args *a)
{
    (void)c;
    bool batched = a->values[OPT_BATCH];
    if (batched == (a->n > 0))
        return args_refuse(a, "expected either PATTERN or --batch");
    return batched ? batch(match_line) : match_once(a->words[0]);
}
