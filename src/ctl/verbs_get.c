/* get and events: lists of what there is, and one of them by its id. */
#include "ctl/args.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "ctl/views.h"

#include <errno.h>
#include <stdio.h>
#include <uthash.h>

#define PAGE_SIZE 100
#define LIMIT_DEFAULT 50 /* of events and runs, which can be millions */
#define LIMIT_MAX 1000000

/* ---- columns ---- */

enum column_form {
    FORM_TEXT,
    FORM_AGE,    /* how long ago */
    FORM_COUNT,  /* of an array */
    FORM_SOURCE, /* file:line of `source` */
    FORM_TOOK,   /* from started_at to completed_at */
    FORM_WHY,    /* error_message, else reason */
    FORM_COMMIT,
};

struct column {
    const char *head, *member;
    enum column_form form;
    unsigned style;
    bool wide; /* only with -o wide */
};

static const struct column trigger_columns[] = {
    {"ID", "id", FORM_TEXT, 0, false},
    {"STATUS", "status", FORM_TEXT, CELL_STATUS, false},
    {"TYPE", "trigger_type", FORM_TEXT, 0, false},
    {"PIPELINE", "pipeline_id", FORM_TEXT, CELL_CUT, false},
    {"FIRED", "trigger_count", FORM_TEXT, CELL_RIGHT, false},
    {"LAST", "last_triggered_at", FORM_AGE, CELL_RIGHT, false},
    {"MESSAGE", "error_message", FORM_TEXT, 0, true},
    {"SOURCE", "source", FORM_SOURCE, 0, true},
    {"NAME", "name", FORM_TEXT, CELL_CUT, false},
    {0},
};
static const struct column pipeline_columns[] = {
    {"ID", "id", FORM_TEXT, 0, false},
    {"STEPS", "steps", FORM_COUNT, CELL_RIGHT, false},
    {"RUNNING", "running", FORM_TEXT, CELL_RIGHT, false},
    {"AGE", "created_at", FORM_AGE, CELL_RIGHT, false},
    {"SOURCE", "source", FORM_SOURCE, 0, true},
    {"DESCRIPTION", "description", FORM_TEXT, 0, true},
    {"NAME", "name", FORM_TEXT, CELL_CUT, false},
    {0},
};
static const struct column event_columns[] = {
    {"ID", "id", FORM_TEXT, 0, false},
    {"TRIGGER", "trigger_id", FORM_TEXT, 0, false},
    {"TYPE", "event_type", FORM_TEXT, CELL_CUT, false},
    {"STATUS", "status", FORM_TEXT, CELL_STATUS, false},
    {"DECISION", "decision", FORM_TEXT, CELL_STATUS, false},
    {"AGE", "occurred_at", FORM_AGE, CELL_RIGHT, false},
    {"OCCURRED", "occurred_at", FORM_TEXT, 0, true},
    {"RUN", "run_id", FORM_TEXT, 0, true},
    {"ATTEMPT", "attempt", FORM_TEXT, CELL_RIGHT, true},
    {"WHY", NULL, FORM_WHY, CELL_CUT, false},
    {0},
};
static const struct column run_columns[] = {
    {"ID", "id", FORM_TEXT, 0, false},
    {"PIPELINE", "pipeline_id", FORM_TEXT, 0, false},
    {"TRIGGER", "trigger_id", FORM_TEXT, 0, false},
    {"STATUS", "status", FORM_TEXT, CELL_STATUS, false},
    {"ATTEMPT", "attempt", FORM_TEXT, CELL_RIGHT, true},
    {"AGE", "created_at", FORM_AGE, CELL_RIGHT, false},
    {"TOOK", NULL, FORM_TOOK, CELL_RIGHT, false},
    {"EVENT", "event_id", FORM_TEXT, 0, true},
    {"ERROR", "error_message", FORM_TEXT, CELL_CUT, false},
    {0},
};
static const struct column manifest_columns[] = {
    {"RESOURCES", "resources", FORM_COUNT, CELL_RIGHT, false},
    {"ERRORS", "errors", FORM_COUNT, CELL_RIGHT, false},
    {"COMMIT", "commit", FORM_COMMIT, 0, false},
    {"FILE", "file", FORM_TEXT, 0, false},
    {0},
};

/* ---- what can be listed ---- */

struct listing {
    const char *word; /* also the member of the answer that has them */
    const char *path;
    const char *id; /* the member that names one */
    const struct column *columns;
    bool bounded;              /* newest ones only, unless --limit says more */
    bool no_pages;             /* all come at once, and none by its id */
    const char *const *states; /* what --status may say; NULL: it does not apply */
    const char *params[OPT_N]; /* of the options that apply */
};

static const struct listing listings[] = {
    {.word = "triggers",
     .path = "/api/v1/triggers",
     .id = "id",
     .columns = trigger_columns,
     .states = trigger_states,
     .params = {[OPT_TYPE] = "trigger_type", [OPT_STATUS] = "status", [OPT_PIPELINE] = "pipeline_id"}},
    {.word = "pipelines", .path = "/api/v1/pipelines", .id = "id", .columns = pipeline_columns},
    {.word = "events",
     .path = "/api/v1/triggers/events",
     .id = "id",
     .columns = event_columns,
     .states = event_states,
     .bounded = true,
     .params = {[OPT_TYPE] = "event_type",
                [OPT_STATUS] = "status",
                [OPT_DECISION] = "decision",
                [OPT_TRIGGER] = "trigger_id",
                [OPT_PIPELINE] = "pipeline_id",
                [OPT_SINCE] = "since",
                [OPT_UNTIL] = "until"}},
    {.word = "runs",
     .path = "/api/v1/runs",
     .id = "id",
     .columns = run_columns,
     .states = run_states,
     .bounded = true,
     .params = {[OPT_STATUS] = "status",
                [OPT_TRIGGER] = "trigger_id",
                [OPT_PIPELINE] = "pipeline_id",
                [OPT_SINCE] = "since",
                [OPT_UNTIL] = "until"}},
    {.word = "manifests", .path = "/api/v1/manifests", .id = "file", .columns = manifest_columns, .no_pages = true},
};

static const struct listing *listing_of(const char *word)
{
    for (size_t i = 0; i < ARRAY_SIZE(listings); i++)
        if (streq(listings[i].word, word))
            return &listings[i];
    return NULL;
}

/* ---- printing ---- */

static void add_cell(struct table *t, const cJSON *item, const struct column *col)
{
    const cJSON *v = col->member ? value_get(item, col->member) : NULL;
    _cleanup_(freep) char *text = NULL;
    switch (col->form) {
    case FORM_TEXT:
        text = value_text(v);
        break;
    case FORM_AGE:
        text = age_of(cJSON_GetStringValue(v));
        break;
    case FORM_COUNT:
        text = xasprintf("%d", cJSON_GetArraySize(v));
        break;
    case FORM_SOURCE:
        text = source_text(item);
        break;
    case FORM_TOOK:
        text = span_of(value_get_string(item, "started_at"), value_get_string(item, "completed_at"));
        break;
    case FORM_WHY:
        text = xstrdup0(why_text(item));
        break;
    case FORM_COMMIT:
        text = v && cJSON_IsString(v) ? xstrndup(v->valuestring, 12) : NULL;
        break;
    }
    table_cell(t, text);
}

static void print_table(const struct listing *l, const cJSON *items, bool wide, bool colour)
{
    struct table t = {0};
    const cJSON *item;
    for (const struct column *col = l->columns; col->head; col++)
        if (wide || !col->wide)
            table_column(&t, col->head, wide ? col->style & ~(unsigned)CELL_CUT : col->style);
    cJSON_ArrayForEach (item, items) {
        for (const struct column *col = l->columns; col->head; col++)
            if (wide || !col->wide)
                add_cell(&t, item, col);
    }
    table_print(&t, colour);
}

/* What is wrong in the manifests, as validate says it. */
static void print_errors(const cJSON *files)
{
    const cJSON *file, *e;
    struct buf b = {0}, safe = {0};
    cJSON_ArrayForEach (file, files) {
        cJSON_ArrayForEach (e, value_get(file, "errors")) {
            const char *path = value_get_string(e, "path"), *message = value_get_string(e, "message");
            double line = cJSON_GetNumberValue(value_get(e, "line"));
            buf_adds(&b, value_get_string(file, "file"));
            if (line > 0)
                buf_printf(&b, ":%.0f:%.0f", line, cJSON_GetNumberValue(value_get(e, "column")));
            buf_printf(&b, ": %s%s%s", path ? path : "", path && *path ? ": " : "", message ? message : "");
            text_escape(&safe, b.data);
            buf_addc(&safe, '\n');
            b.len = 0;
        }
    }
    if (safe.len > 0)
        printf("\n%s", safe.data);
    buf_fini(&b);
    buf_fini(&safe);
}

/* `one`: an item that was asked for by its id, whose JSON stands alone. */
static int print_items(const struct ctl *c, const struct listing *l, const char *form, cJSON *items, bool one,
                       double total)
{
    const cJSON *item;
    if (streq(form, "name")) {
        cJSON_ArrayForEach (item, items) {
            const char *id = value_get_string(item, l->id);
            printf("%s\n", id ? id : "");
        }
    } else if (streq(form, "json") || streq(form, "yaml")) {
        void (*print)(const cJSON *) = streq(form, "json") ? print_json : print_yaml;
        cJSON *list = cJSON_CreateObject();
        cJSON_AddItemReferenceToObject(list, l->word, items);
        value_set(list, "total", cJSON_CreateNumber(total));
        print(one ? items->child : list);
        cJSON_Delete(list);
    } else {
        print_table(l, items, streq(form, "wide"), c->colour);
        if (l->columns == manifest_columns)
            print_errors(items);
    }
    return CTL_OK;
}

/* ---- fetching ---- */

struct seen {
    UT_hash_handle hh;
    char id[];
};

/* New arrivals push what was listed onto the next page: each id is taken once. */
static bool take_once(struct seen **seen, const char *id)
{
    struct seen *s;
    size_t len = strlen(id);
    HASH_FIND(hh, *seen, id, len, s);
    if (s)
        return false;
    s = xcalloc(1, sizeof(*s) + len + 1);
    memcpy(s->id, id, len);
    HASH_ADD_KEYPTR(hh, *seen, s->id, len, s);
    return true;
}

static void forget_all(struct seen *seen)
{
    struct seen *s = seen, *next;
    HASH_CLEAR(hh, seen); /* the table alone; the items stay linked */
    for (; s; s = next) {
        next = s->hh.next;
        free(s);
    }
}

/* Move the items of a page to `items`; how many the page had. */
static int take_page(const struct listing *l, cJSON *page, cJSON *items, int64_t limit, struct seen **seen)
{
    cJSON *list = value_get(page, l->word);
    int n = cJSON_GetArraySize(list);
    int64_t taken = cJSON_GetArraySize(items);
    while (list && list->child && taken < limit) {
        cJSON *item = cJSON_DetachItemViaPointer(list, list->child);
        const char *id = value_get_string(item, l->id);
        if (id && take_once(seen, id)) {
            cJSON_AddItemToArray(items, item);
            taken++;
        } else {
            cJSON_Delete(item);
        }
    }
    return n;
}

/* `query` ends with what filters. */
static int fetch(struct ctl *c, const struct listing *l, const char *query, int64_t limit, cJSON *items,
                 double *ret_total)
{
    struct seen *seen = NULL;
    int r = CTL_OK;
    for (int64_t page = 1; r == CTL_OK; page++) {
        struct buf url = {0};
        char number[32];
        url_add(&url, query);
        if (!l->no_pages) {
            snprintf(number, sizeof(number), "%lld", (long long)page);
            url_param(&url, "page", number);
            snprintf(number, sizeof(number), "%lld", (long long)MIN(limit, PAGE_SIZE));
            url_param(&url, "page_size", number);
        }
        cJSON *answer = NULL;
        r = ctl_get(c, url.data, &answer);
        buf_fini(&url);
        if (r != CTL_OK)
            break;
        int n = take_page(l, answer, items, limit, &seen);
        *ret_total = cJSON_GetNumberValue(value_get(answer, "total"));
        cJSON_Delete(answer);
        if (n == 0 || l->no_pages || (double)(page * MIN(limit, PAGE_SIZE)) >= *ret_total ||
            cJSON_GetArraySize(items) >= limit)
            break;
    }
    forget_all(seen);
    return r;
}

/* A manifest is asked for by its file, or the end of it. */
static bool file_fits(const char *file, const char *asked)
{
    size_t n = strlen(file), k = strlen(asked);
    return k <= n && streq(file + n - k, asked) && (k == n || file[n - k - 1] == '/');
}

static int get_file(struct ctl *c, const struct listing *l, const char *asked, cJSON *items)
{
    double total;
    _cleanup_(cjson_deletep) cJSON *all = cJSON_CreateArray();
    int r = fetch(c, l, l->path, INT64_MAX, all, &total);
    cJSON *item, *next;
    for (item = all->child; r == CTL_OK && item; item = next) {
        next = item->next;
        const char *file = value_get_string(item, l->id);
        if (file && file_fits(file, asked) && !items->child)
            cJSON_AddItemToArray(items, cJSON_DetachItemViaPointer(all, item));
    }
    if (r == CTL_OK && !items->child) {
        complain("there is no manifest \"%s\"", asked);
        r = CTL_FAILED;
    }
    return r;
}

static int get_one(struct ctl *c, const struct listing *l, const char *id, cJSON *items)
{
    if (l->no_pages)
        return get_file(c, l, id, items);
    struct buf url = {0};
    cJSON *item = NULL;
    url_add(&url, l->path);
    url_add(&url, "/");
    url_part(&url, id);
    int r = ctl_get(c, url.data, &item);
    if (r == CTL_OK)
        cJSON_AddItemToArray(items, item);
    buf_fini(&url);
    return r;
}

/* ---- verbs ---- */

static int parse_limit(const struct args *a, const struct listing *l, int64_t *ret)
{
    const char *text = a->values[OPT_LIMIT];
    char *end = NULL;
    *ret = l->bounded ? LIMIT_DEFAULT : INT64_MAX;
    if (!text)
        return -1;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < 1 || n > LIMIT_MAX)
        return args_refuse(a, "--limit: expected a number from 1 to %d, got \"%s\"", LIMIT_MAX, text);
    *ret = n;
    return -1;
}

static int list(struct ctl *c, const struct args *a, const struct listing *l, const char *id, const char *trigger)
{
    static const int filters[] = {OPT_TYPE, OPT_STATUS, OPT_DECISION, OPT_TRIGGER, OPT_PIPELINE, OPT_SINCE, OPT_UNTIL};
    const char *form = a->values[OPT_OUTPUT] ? a->values[OPT_OUTPUT] : "table";
    struct buf url = {0};
    double total = 1;
    int64_t limit;
    int r = parse_limit(a, l, &limit);
    if (r < 0 && a->values[OPT_STATUS] && l->states)
        r = args_check_word(a, "--status", a->values[OPT_STATUS], l->states);
    if (trigger) {
        url_add(&url, "/api/v1/triggers/");
        url_part(&url, trigger);
        url_add(&url, "/events");
    } else {
        url_add(&url, l->path);
    }
    for (size_t i = 0; r < 0 && i < ARRAY_SIZE(filters); i++) {
        const char *value = a->values[filters[i]];
        if (value && (!l->params[filters[i]] || id))
            r = args_refuse(a, "--%s does not apply to %s", option_rows[filters[i]].name,
                            id ? "one by its id" : l->word);
        else if (l->params[filters[i]])
            url_param(&url, l->params[filters[i]], value);
    }
    if (r < 0) {
        _cleanup_(cjson_deletep) cJSON *items = cJSON_CreateArray();
        r = id ? get_one(c, l, id, items) : fetch(c, l, url.data, limit, items, &total);
        if (r == CTL_OK)
            r = print_items(c, l, form, items, id != NULL, total);
    }
    buf_fini(&url);
    return r;
}

int verb_get(struct ctl *c, const struct args *a)
{
    return list(c, a, listing_of(a->words[0]), a->n > 1 ? a->words[1] : NULL, NULL);
}

int verb_events(struct ctl *c, const struct args *a)
{
    return list(c, a, listing_of("events"), NULL, a->n > 0 ? a->words[0] : NULL);
}
