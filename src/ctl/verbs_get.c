/* get and events: lists of what there is, one of them by its id, and what comes and changes. */
#include "ctl/args.h"
#include "ctl/follow.h"
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
static const struct column mcp_server_columns[] = {
    {"NAME", "name", FORM_TEXT, 0, false},
    {"STATE", "state", FORM_TEXT, CELL_STATUS, false},
    {"TRANSPORT", "transport", FORM_TEXT, 0, false},
    {"PROTOCOL", "protocol_version", FORM_TEXT, 0, false},
    {"SERVER", "server_name", FORM_TEXT, CELL_CUT, false},
    {"TRIGGERS", "triggers", FORM_TEXT, CELL_RIGHT, false},
    {"SINCE", "since", FORM_AGE, CELL_RIGHT, false},
    {"SOURCE", "source", FORM_SOURCE, 0, true},
    {"MESSAGE", "message", FORM_TEXT, CELL_CUT, false},
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
    bool no_pages;             /* all come at once */
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
    {.word = "mcp_servers",
     .path = "/api/v1/mcp_servers",
     .id = "name",
     .columns = mcp_server_columns,
     .no_pages = true},
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

/* free() it; NULL: nothing to show. */
static char *cell_text(const cJSON *item, const struct column *col)
{
    const cJSON *v = col->member ? value_get(item, col->member) : NULL;
    switch (col->form) {
    case FORM_TEXT:
        return value_text(v);
    case FORM_AGE:
        return age_of(cJSON_GetStringValue(v));
    case FORM_COUNT:
        return xasprintf("%d", cJSON_GetArraySize(v));
    case FORM_SOURCE:
        return source_text(item);
    case FORM_TOOK:
        return span_of(value_get_string(item, "started_at"), value_get_string(item, "completed_at"));
    case FORM_WHY:
        return xstrdup0(why_text(item));
    case FORM_COMMIT:
        return commit_text(item);
    }
    return NULL;
}

static void add_columns(struct table *t, const struct listing *l, bool wide)
{
    for (const struct column *col = l->columns; col->head; col++)
        if (wide || !col->wide)
            table_column(t, col->head, wide ? col->style & ~(unsigned)CELL_CUT : col->style);
}

static void add_row(struct table *t, const struct listing *l, const cJSON *item, bool wide)
{
    for (const struct column *col = l->columns; col->head; col++) {
        if (!wide && col->wide)
            continue;
        _cleanup_(freep) char *text = cell_text(item, col);
        table_cell(t, text);
    }
}

static void print_table(const struct listing *l, const cJSON *items, bool wide, bool colour)
{
    struct table t = {0};
    const cJSON *item;
    add_columns(&t, l, wide);
    cJSON_ArrayForEach (item, items) {
        add_row(&t, l, item, wide);
    }
    table_print(&t, colour);
}

/* What is wrong in the manifests, as validate says it; `list` is errors or warnings. */
static void print_errors(const cJSON *files, const char *list, const char *word)
{
    const cJSON *file, *e;
    struct buf b = {0}, safe = {0};
    cJSON_ArrayForEach (file, files) {
        cJSON_ArrayForEach (e, value_get(file, list)) {
            const char *path = value_get_string(e, "path"), *message = value_get_string(e, "message");
            double line = cJSON_GetNumberValue(value_get(e, "line"));
            buf_adds(&b, value_get_string(file, "file"));
            if (line > 0)
                buf_printf(&b, ":%.0f:%.0f", line, cJSON_GetNumberValue(value_get(e, "column")));
            buf_printf(&b, ": %s%s%s%s", word, path ? path : "", path && *path ? ": " : "", message ? message : "");
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
        if (l->columns == manifest_columns) {
            print_errors(items, "errors", "");
            print_errors(items, "warnings", "warning: ");
        }
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
    if (streq(l->word, "manifests"))
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

/* ---- watching ---- */

struct row {
    UT_hash_handle hh;
    uint64_t digest; /* of what it shows, ages left out */
    uint64_t round;  /* in which it was last there */
    char id[];
};

struct watch {
    struct ctl *ctl;
    struct ctl asking; /* with a connection beside the stream's */
    const struct listing *listing;
    const char *form, *query, *id;
    int64_t limit;
    bool list_first; /* what there is, before what comes */
    size_t widths[TABLE_COLUMNS_MAX];
    bool headed;
    struct row *rows;
    uint64_t round;
    int status;
};

static void show_row(struct watch *w, const cJSON *item)
{
    bool wide = streq(w->form, "wide");
    if (streq(w->form, "name")) {
        const char *id = value_get_string(item, w->listing->id);
        printf("%s\n", id ? id : "");
    } else if (streq(w->form, "json")) {
        _cleanup_(freep) char *text = value_print(item);
        printf("%s\n", text);
    } else if (streq(w->form, "yaml")) {
        printf("---\n");
        print_yaml(item);
    } else {
        struct table t = {.widths = w->widths, .bare = w->headed};
        add_columns(&t, w->listing, wide);
        add_row(&t, w->listing, item, wide);
        table_print(&t, w->ctl->colour);
        w->headed = true;
    }
}

/* What would make a row worth printing again. */
static uint64_t digest_of(const struct watch *w, const cJSON *item)
{
    _cleanup_(freep) char *whole = streq(w->form, "json") || streq(w->form, "yaml") ? value_print(item) : NULL;
    uint64_t digest = whole ? hash_bytes(0, whole, strlen(whole)) : 0;
    for (const struct column *col = w->listing->columns; !whole && col->head; col++) {
        _cleanup_(freep) char *text = col->form == FORM_AGE ? NULL : cell_text(item, col);
        digest = hash_bytes(digest, text ? text : "", text ? strlen(text) + 1 : 1);
    }
    return digest;
}

static void show_gone(const struct watch *w, const char *id)
{
    cJSON *o = cJSON_CreateObject();
    value_set(o, w->listing->id, value_string(id));
    value_set(o, "deleted", cJSON_CreateTrue());
    _cleanup_(freep) char *json = value_print(o);
    struct buf safe = {0};
    text_escape(&safe, id);
    if (streq(w->form, "json")) {
        printf("%s\n", json);
    } else if (streq(w->form, "yaml")) {
        printf("---\n");
        print_yaml(o);
    } else if (!streq(w->form, "name")) {
        printf("%s  deleted\n", safe.data);
    }
    buf_fini(&safe);
    cJSON_Delete(o);
}

static struct row *row_get(struct watch *w, const char *id, bool *ret_new)
{
    struct row *row;
    size_t len = strlen(id);
    HASH_FIND(hh, w->rows, id, len, row);
    *ret_new = !row;
    if (row)
        return row;
    row = xcalloc(1, sizeof(*row) + len + 1);
    memcpy(row->id, id, len);
    HASH_ADD_KEYPTR(hh, w->rows, row->id, len, row);
    return row;
}

static void show_changes(struct watch *w, const cJSON *items)
{
    const cJSON *item;
    struct row *row, *next;
    w->round++;
    cJSON_ArrayForEach (item, items) {
        const char *id = value_get_string(item, w->listing->id);
        bool is_new;
        row = row_get(w, id ? id : "", &is_new);
        uint64_t digest = digest_of(w, item);
        if (is_new || row->digest != digest)
            show_row(w, item);
        row->digest = digest;
        row->round = w->round;
    }
    struct row *all = w->rows;
    HASH_CLEAR(hh, w->rows); /* the table alone; the items stay linked */
    for (row = all; row; row = next) {
        next = row->hh.next;
        if (row->round == w->round) {
            HASH_ADD_KEYPTR(hh, w->rows, row->id, strlen(row->id), row);
            continue;
        }
        if (!w->listing->bounded) /* of those only the newest are looked at */
            show_gone(w, row->id);
        free(row);
    }
    fflush(stdout);
}

/* The newest last, as what follows goes on. */
static void turn_round(cJSON *items)
{
    cJSON *all = items->child, *next;
    items->child = NULL;
    for (; all; all = next) {
        next = all->next;
        all->next = all->prev = NULL;
        cJSON_InsertItemInArray(items, 0, all);
    }
}

/* -1; or the exit code of what failed, which was told. */
static int look_again(void *ctx, struct ctl *asking)
{
    struct watch *w = ctx;
    double total;
    _cleanup_(cjson_deletep) cJSON *items = cJSON_CreateArray();
    w->status = w->id ? get_one(asking, w->listing, w->id, items)
                      : fetch(asking, w->listing, w->query, w->limit, items, &total);
    if (w->listing->bounded)
        turn_round(items);
    if (w->status == CTL_OK)
        show_changes(w, items);
    return w->status == CTL_OK && !ferror(stdout) ? -1 : w->status;
}

/* What was listed just before may come once more. */
static bool was_shown(struct watch *w, const cJSON *item)
{
    const char *id = value_get_string(item, w->listing->id);
    struct row *row = NULL;
    if (id)
        HASH_FIND_STR(w->rows, id, row);
    if (!row)
        return false;
    bool same = row->digest == digest_of(w, item);
    if (!same) {
        HASH_DELETE(hh, w->rows, row);
        free(row);
    }
    return same;
}

static bool watch_message(void *ctx, const cJSON *event)
{
    struct watch *w = ctx;
    if (!was_shown(w, event))
        show_row(w, event);
    return fflush(stdout) == 0;
}

/* The list is asked for when the stream stands, so that nothing falls between the two. */
static bool watch_began(void *ctx)
{
    struct watch *w = ctx;
    bool list = w->list_first;
    w->list_first = false;
    return !list || look_again(w, &w->asking) < 0;
}

static void watch_fini(struct watch *w)
{
    struct row *row = w->rows, *next;
    HASH_CLEAR(hh, w->rows); /* the table alone; the items stay linked */
    for (; row; row = next) {
        next = row->hh.next;
        free(row);
    }
    client_destroy(w->asking.client);
}

/* Events come by themselves; of all else we hear that something changed, and look. */
static int watch(struct watch *w, const struct buf *stream)
{
    const struct follow follow = {.path = stream->data, .began = watch_began, .message = watch_message, .ctx = w};
    const struct watching watching = {
        .kind = w->listing->word, .id = w->listing->no_pages ? NULL : w->id, .look = look_again, .ctx = w};
    bool events = streq(w->listing->word, "events") && !w->id;
    w->asking = (struct ctl){.socket = w->ctl->socket, .colour = w->ctl->colour};
    int r = events ? ctl_follow(w->ctl, &follow) : ctl_watch(w->ctl, &watching);
    r = r == CTL_OK ? w->status : r;
    watch_fini(w);
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

/* The filters that were given, to a list or to the stream. -1: fine; else the exit code of what was said. */
static int add_filters(const struct args *a, const struct listing *l, const char *id, struct buf *url)
{
    static const int filters[] = {OPT_TYPE, OPT_STATUS, OPT_DECISION, OPT_TRIGGER, OPT_PIPELINE, OPT_SINCE, OPT_UNTIL};
    if (a->values[OPT_STATUS] && l->states && args_check_word(a, "--status", a->values[OPT_STATUS], l->states) >= 0)
        return CTL_USAGE;
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        const char *value = a->values[filters[i]];
        if (value && (!l->params[filters[i]] || id))
            return args_refuse(a, "--%s does not apply to %s", option_rows[filters[i]].name,
                               id ? "one by its id" : l->word);
        if (l->params[filters[i]])
            url_param(url, l->params[filters[i]], value);
    }
    return -1;
}

static int list(struct ctl *c, const struct args *a, const struct listing *l, const char *id, const char *trigger)
{
    const char *form = a->values[OPT_OUTPUT] ? a->values[OPT_OUTPUT] : "table";
    struct buf url = {0};
    double total = 1;
    int64_t limit;
    int r = parse_limit(a, l, &limit);
    if (trigger) {
        url_add(&url, "/api/v1/triggers/");
        url_part(&url, trigger);
        url_add(&url, "/events");
    } else {
        url_add(&url, l->path);
    }
    r = r < 0 ? add_filters(a, l, id, &url) : r;
    if (r < 0) {
        _cleanup_(cjson_deletep) cJSON *items = cJSON_CreateArray();
        r = id ? get_one(c, l, id, items) : fetch(c, l, url.data, limit, items, &total);
        if (r == CTL_OK)
            r = print_items(c, l, form, items, id != NULL, total);
    }
    buf_fini(&url);
    return r;
}

/* What comes, at the events' stream; `list_first` before it what there is. */
static int go_on(struct ctl *c, const struct args *a, const struct listing *l, const char *id, const char *trigger,
                 bool list_first)
{
    bool events = streq(l->word, "events");
    struct buf query = {0}, stream = {0};
    struct watch w = {.ctl = c,
                      .listing = l,
                      .form = a->values[OPT_OUTPUT] ? a->values[OPT_OUTPUT] : "table",
                      .id = id,
                      .list_first = list_first};
    int r = parse_limit(a, l, &w.limit);
    url_add(&query, l->path);
    url_add(&stream, "/api/v1/events/stream");
    r = r < 0 ? add_filters(a, l, id, &query) : r;
    if (r < 0 && (a->values[OPT_SINCE] || a->values[OPT_UNTIL]))
        r = args_refuse(a, "--since and --until do not go with --watch or --follow");
    if (r < 0 && events)
        r = add_filters(a, l, id, &stream);
    if (r < 0) {
        url_param(&query, "trigger_id", trigger);
        url_param(&stream, "trigger_id", trigger);
        w.query = query.data;
        r = watch(&w, &stream);
    }
    buf_fini(&query);
    buf_fini(&stream);
    return r;
}

int verb_get(struct ctl *c, const struct args *a)
{
    const struct listing *l = listing_of(a->words[0]);
    const char *id = a->n > 1 ? a->words[1] : NULL;
    return a->values[OPT_WATCH] ? go_on(c, a, l, id, NULL, true) : list(c, a, l, id, NULL);
}

/* A name that is misspelt would be waited for in vain. */
static int check_trigger(struct ctl *c, const char *id)
{
    struct buf url = {0};
    url_add(&url, "/api/v1/triggers/");
    url_part(&url, id);
    cJSON *found = NULL;
    int r = ctl_get(c, url.data, &found);
    cJSON_Delete(found);
    buf_fini(&url);
    return r;
}

int verb_events(struct ctl *c, const struct args *a)
{
    const char *trigger = a->n > 0 ? a->words[0] : NULL;
    if (!a->values[OPT_FOLLOW])
        return list(c, a, listing_of("events"), NULL, trigger);
    int r = trigger ? check_trigger(c, trigger) : CTL_OK;
    return r == CTL_OK ? go_on(c, a, listing_of("events"), NULL, trigger, a->values[OPT_LIMIT] != NULL) : r;
}
