/* Rendered files: what each of them says. */
#include "fs/manifest.h"

#include "manifest/schema.h"

static const char readme[] =
    "This is triggerd, as files. Everything here is also told by REST and by triggerctl; all three show the same.\n"
    "\n"
    "  health                          ok, or the reasons why not\n"
    "  errors                          every manifest error, as `triggerctl validate` prints them\n"
    "  manifests/                      the manifest directory. Edit here with any tool: what is invalid is refused\n"
    "                                  (EINVAL at close, EBADMSG at rename), and what ran before goes on\n"
    "  triggers/ID/manifest.yaml       one trigger's own document, writable\n"
    "  triggers/ID/error               why the last text was rejected, manifest.rejected.yaml is that text\n"
    "  triggers/ID/status              active, paused, error or disabled; write `paused` or `active`\n"
    "  triggers/ID/status.json         all of it; conditions has one a line\n"
    "  triggers/ID/ctl                 write: pause, resume, test [JSON]; read it for the verbs\n"
    "  triggers/ID/test                write an event, read what would happen; nothing runs\n"
    "  triggers/ID/log, stream         its events and decisions: log grows (tail -f), stream waits (cat)\n"
    "  triggers/ID/events/EVENT.json   its newest events\n"
    "  pipelines/ID/                   the same for pipelines; ctl: run [JSON]; runs/RUN/ has inputs, outputs, steps\n"
    "  events/                         the newest 1000 of all events; any other can be opened by its name\n"
    "  by-type/ by-pipeline/ by-status/  links to triggers\n"
    "  emit/ENDPOINT                   each JSON document written is one event; read the answer from the same "
    "descriptor\n"
    "  stats.json metrics schemas/     numbers, for people and for Prometheus; JSON Schemas for editors\n"
    "\n"
    "Examples:\n"
    "  cat triggers/*/status\n"
    "  echo paused > triggers/orders/status\n"
    "  echo '{\"order\": 7}' > emit/orders\n"
    "  exec 3<> triggers/orders/test; echo '{\"order\": 7}' >&3; cat <&3\n"
    "  tail -f events/log | jq -r '[.trigger_id, .decision, .status] | @tsv'\n"
    "  mkdir triggers/new && cp new.yaml triggers/new/manifest.yaml; rmdir triggers/old\n"
    "  cat triggers/orders/error\n"
    "  ls by-status/error\n"
    "  curl -s --unix-socket SOCKET http://x/api/v1/triggers   # the same over REST\n";

/* ---- texts ---- */

struct text *text_new(struct buf *bytes, int64_t changed_ms)
{
    struct text *t = xcalloc(1, sizeof(*t));
    t->refs = 1;
    t->len = bytes->len;
    t->data = buf_steal(bytes);
    t->changed_ms = changed_ms;
    return t;
}

struct text *text_ref(struct text *t)
{
    t->refs++;
    return t;
}

void text_unref(struct text *t)
{
    if (!t || --t->refs > 0)
        return;
    free(t->data);
    free(t);
}

/* ---- what is there at once ---- */

static int64_t now_ms(const struct fs *fs)
{
    return clock_realtime_ms(fs->api->clock);
}

/* Times of what is put together anew each time: that of the last look that found it different. */
static int64_t seen_change(const struct node *n, const struct buf *b)
{
    struct fs *fs = n->fs;
    struct seen_text *s = &fs->seen[n->kind];
    uint64_t hash = hash_bytes(0, b->data ? b->data : "", b->len);
    if (s->changed_ms && s->hash == hash)
        return s->changed_ms;
    s->changed_ms = s->changed_ms ? now_ms(fs) : fs->started_ms;
    s->hash = hash;
    return s->changed_ms;
}

static void render_schema(const struct node *n, struct buf *b)
{
    _cleanup_(freep) char *kind = xstrndup(n->name, strlen(n->name) - 5); /* .json */
    cJSON *schema = manifest_schema(kind);
    _cleanup_(freep) char *text = value_print_pretty(schema);
    buf_printf(b, "%s\n", text);
    cJSON_Delete(schema);
}

static int render_resource(const struct node *n, struct buf *b, int64_t *ret_ms)
{
    struct api *a = n->fs->api;
    enum resource_kind kind;
    const char *id = node_resource(n, &kind);
    struct api_trigger_look t = {0};
    struct api_pipeline_look p = {0};
    bool trigger = kind == RESOURCE_TRIGGER;
    if (trigger ? !api_look_trigger(a, id, &t) : !api_look_pipeline(a, id, &p))
        return -ENOENT;
    *ret_ms = trigger ? t.changed_ms : p.changed_ms;
    switch (n->kind) {
    case NODE_STATUS:
        buf_printf(b, "%s\n", t.status);
        return 0;
    case NODE_STATUS_JSON:
        if (trigger)
            api_render_trigger(a, id, b);
        else
            api_render_pipeline(a, id, b);
        buf_addc(b, '\n');
        return 0;
    default: /* NODE_CONDITIONS */
        api_conditions(trigger ? t.conditions : p.conditions, b);
        return 0;
    }
}

static void end_line(struct buf *b)
{
    if (b->len > 0 && b->data[b->len - 1] != '\n')
        buf_addc(b, '\n');
}

/* What was refused last of the resource, or why. */
static int render_rejected(const struct node *n, struct buf *b, int64_t *ret_ms)
{
    enum resource_kind kind;
    const char *id = node_resource(n, &kind), *text;
    const struct reject *j = reject_of(n);
    const struct manifest *m;
    size_t len, entry;
    *ret_ms = node_changed_ms(n);
    if (j) {
        *ret_ms = j->at_ms;
        if (n->kind == NODE_REJECTED)
            buf_add(b, j->text->data, j->text->len);
        else
            buf_adds(b, j->errors);
    } else if (reconcile_bad_text(n->fs->api->reconcile, kind, id, &text, &len, &m, &entry)) {
        if (n->kind == NODE_REJECTED)
            buf_add(b, text, len);
        else
            api_manifest_errors(m, entry, m->file, b);
    } else if (n->kind == NODE_REJECTED) {
        return -ENOENT;
    }
    end_line(b);
    return 0;
}

/* 1: it is one of those that are not there at once. */
static int render_now(const struct node *n, struct buf *b, int64_t *ret_ms)
{
    *ret_ms = n->fs->started_ms;
    switch (n->kind) {
    case NODE_README:
        buf_adds(b, readme);
        return 0;
    case NODE_VERSION:
        buf_adds(b, TRIGGERD_VERSION "\n");
        return 0;
    case NODE_HEALTH:
        api_health(n->fs->api, b);
        *ret_ms = seen_change(n, b);
        return 0;
    case NODE_ERRORS:
        api_errors(n->fs->api, b);
        reject_errors(n->fs->mount, b);
        *ret_ms = seen_change(n, b);
        return 0;
    case NODE_SCHEMA:
        render_schema(n, b);
        return 0;
    case NODE_CTL:
    case NODE_RUN_CTL:
        buf_adds(b, control_verbs(n));
        return 0;
    case NODE_ERROR:
    case NODE_REJECTED:
        return render_rejected(n, b, ret_ms);
    case NODE_TEST:
    case NODE_ENDPOINT:
        return 0;
    case NODE_STATUS:
    case NODE_STATUS_JSON:
    case NODE_CONDITIONS:
        return render_resource(n, b, ret_ms);
    default:
        return 1;
    }
}

/* ---- what is asked for ---- */

struct rendering {
    struct node *node;
    text_fn *done; /* NULL: it took too long, and was told so */
    void *ctx;
    struct timer patience;
};

static void out_of_patience(struct timer *timer, void *ctx)
{
    (void)timer;
    struct rendering *r = ctx;
    text_fn *done = r->done;
    r->done = NULL;
    store_answered(r->node->fs, false);
    done(r->ctx, -EIO, NULL);
}

static void rendered(struct rendering *r, int code, struct buf *b, int64_t changed_ms)
{
    loop_timer_stop(r->node->fs->loop, &r->patience);
    store_answered(r->node->fs, true);
    if (r->done)
        r->done(r->ctx, code, code == 0 ? text_new(b, changed_ms) : NULL);
    buf_fini(b);
    fs_release(r->node->fs);
    node_unref(r->node);
    free(r);
}

static struct rendering *rendering_new(struct node *n, text_fn *done, void *ctx)
{
    struct rendering *r = xcalloc(1, sizeof(*r));
    *r = (struct rendering){.node = node_ref(n), .done = done, .ctx = ctx};
    timer_init(&r->patience, out_of_patience, r);
    loop_timer_start(n->fs->loop, &r->patience, store_patience_ms(n->fs));
    fs_hold(n->fs);
    return r;
}

/* A read of the store that fails for whatever reason is an EIO. */
static int read_code(int code)
{
    return code == -ENOENT ? -ENOENT : -EIO;
}

static void event_read(void *ctx, int code, const struct event *e)
{
    struct rendering *r = ctx;
    struct buf b = {0};
    enum resource_kind kind;
    const char *trigger = node_resource(r->node, &kind);
    if (code == 0 && trigger && !streq(trigger, e->trigger_id))
        code = -ENOENT;
    if (code < 0) {
        rendered(r, read_code(code), &b, 0);
        return;
    }
    render_event(&b, NULL, e);
    buf_addc(&b, '\n');
    rendered(r, 0, &b, MAX(MAX(e->occurred_ms, e->started_ms), e->completed_ms));
}

static int64_t run_changed_ms(const struct run_row *r)
{
    return MAX(MAX(r->created_ms, r->started_ms), r->completed_ms);
}

static void run_read(void *ctx, int code, const struct run_row *run, const char *steps)
{
    struct rendering *r = ctx;
    struct buf b = {0};
    if (code < 0) {
        rendered(r, read_code(code), &b, 0);
        return;
    }
    if (r->node->kind == NODE_RUN_STATUS)
        render_run(&b, NULL, run, steps);
    else if (r->node->kind == NODE_RUN_INPUTS)
        buf_adds(&b, run->inputs ? run->inputs : "null");
    else
        buf_adds(&b, run->outputs ? run->outputs : "null");
    buf_addc(&b, '\n');
    rendered(r, 0, &b, run_changed_ms(run));
}

/* The body of an operation's answer as a file. */
static void answered(void *ctx, struct api_answer *answer)
{
    struct rendering *r = ctx;
    struct buf b = {.data = answer->body, .len = answer->len, .cap = answer->len + 1};
    bool text = r->node->kind != NODE_STDOUT && r->node->kind != NODE_STDERR;
    int code = answer->status == 404 ? -ENOENT : answer->status != 200 ? -EIO : 0;
    if (code == 0 && text && (b.len == 0 || b.data[b.len - 1] != '\n'))
        buf_addc(&b, '\n');
    int64_t changed = !text                           ? id_time_ms(node_above(r->node, NODE_RUN)->name)
                      : r->node->kind == NODE_METRICS ? now_ms(r->node->fs)
                                                      : seen_change(r->node, &b);
    rendered(r, code, &b, changed);
}

static void render_later(struct node *n, struct rendering *r)
{
    struct api *a = n->fs->api;
    struct api_call call = {answered, r};
    _cleanup_(freep) char *id = NULL;
    switch (n->kind) {
    case NODE_STATS:
        api_stats(a, call);
        break;
    case NODE_METRICS:
        api_metrics(a, call);
        break;
    case NODE_EVENT:
        id = xstrndup(n->name, strlen(n->name) - 5); /* .json */
        api_read_event(a, id, event_read, r);
        break;
    case NODE_STDOUT:
    case NODE_STDERR:
        api_step_output(a, node_above(n, NODE_RUN)->name, n->parent->name, n->kind == NODE_STDERR, 0, call);
        break;
    default: /* of a run */
        api_read_run(a, node_above(n, NODE_RUN)->name, run_read, r);
        break;
    }
}

struct waiting_text {
    struct node *node; /* a reference */
    text_fn *done;
    void *ctx;
};

/* What it would be rendered from: a text of the same mark is the same. 0: not known. */
static uint64_t mark_of(const struct node *n)
{
    enum resource_kind kind;
    if (n->kind == NODE_SCHEMA)
        return 1;
    const char *id = n->kind == NODE_STATUS_JSON ? node_resource(n, &kind) : NULL;
    return id && kind == RESOURCE_TRIGGER ? api_trigger_mark(n->fs->api, id) : 0;
}

void kept_texts_free(struct fs *fs)
{
    for (size_t i = 0; i < TEXTS_KEPT; i++) {
        text_unref(fs->kept[i].text);
        fs->kept[i] = (struct kept_text){0};
    }
}

static void render(struct node *n, text_fn *done, void *ctx)
{
    struct buf b = {0};
    int64_t changed = 0;
    struct kept_text *kept = &n->fs->kept[n->generation % TEXTS_KEPT];
    uint64_t mark = mark_of(n);
    if (mark && kept->generation == n->generation && kept->mark == mark) {
        done(ctx, 0, text_ref(kept->text));
        return;
    }
    int code = render_now(n, &b, &changed);
    if (code == 1) {
        render_later(n, rendering_new(n, done, ctx));
        return;
    }
    struct text *t = code == 0 ? text_new(&b, changed) : NULL;
    if (mark && t) {
        text_unref(kept->text);
        *kept = (struct kept_text){n->generation, mark, text_ref(t)};
    }
    done(ctx, code, t);
    buf_fini(&b);
}

static void render_settled(void *ctx)
{
    struct waiting_text *w = ctx;
    render(w->node, w->done, w->ctx);
    node_unref(w->node);
    free(w);
}

/* What was written before is in it. */
void text_render(struct node *n, text_fn *done, void *ctx)
{
    if (!n->fs->tickets) {
        render(n, done, ctx);
        return;
    }
    struct waiting_text *w = xmalloc(sizeof(*w));
    *w = (struct waiting_text){node_ref(n), done, ctx};
    manifest_settled_soon(n->fs, render_settled, w);
}
