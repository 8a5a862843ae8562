/* Which files there are: what a name means below a folder, and what a folder lists. */
#include "fs/manifest.h"
#include "fs/real.h"
#include "fs/scratch.h"
#include "fs/stream.h"

#include "manifest/schema.h"

/* ---- names that are always there ---- */

struct fixed {
    enum node_kind parent;
    const char *name;
    enum node_kind kind;
};

static const struct fixed fixed[] = {
    {NODE_ROOT, "README", NODE_README},
    {NODE_ROOT, "version", NODE_VERSION},
    {NODE_ROOT, "health", NODE_HEALTH},
    {NODE_ROOT, "manifests", NODE_MANIFESTS},
    {NODE_ROOT, "triggers", NODE_TRIGGERS},
    {NODE_ROOT, "pipelines", NODE_PIPELINES},
    {NODE_ROOT, "events", NODE_EVENTS},
    {NODE_ROOT, "by-type", NODE_BY_TYPE},
    {NODE_ROOT, "by-pipeline", NODE_BY_PIPELINE},
    {NODE_ROOT, "by-status", NODE_BY_STATUS},
    {NODE_ROOT, "emit", NODE_EMIT},
    {NODE_ROOT, "errors", NODE_ERRORS},
    {NODE_ROOT, "stats.json", NODE_STATS},
    {NODE_ROOT, "metrics", NODE_METRICS},
    {NODE_ROOT, "schemas", NODE_SCHEMAS},
    {NODE_TRIGGER, "manifest.yaml", NODE_OWN_MANIFEST},
    {NODE_TRIGGER, "error", NODE_ERROR},
    {NODE_TRIGGER, "status", NODE_STATUS},
    {NODE_TRIGGER, "status.json", NODE_STATUS_JSON},
    {NODE_TRIGGER, "conditions", NODE_CONDITIONS},
    {NODE_TRIGGER, "ctl", NODE_CTL},
    {NODE_TRIGGER, "test", NODE_TEST},
    {NODE_TRIGGER, "log", NODE_LOG},
    {NODE_TRIGGER, "stream", NODE_STREAM},
    {NODE_TRIGGER, "events", NODE_EVENTS},
    {NODE_PIPELINE, "manifest.yaml", NODE_OWN_MANIFEST},
    {NODE_PIPELINE, "error", NODE_ERROR},
    {NODE_PIPELINE, "status.json", NODE_STATUS_JSON},
    {NODE_PIPELINE, "ctl", NODE_CTL},
    {NODE_PIPELINE, "runs", NODE_RUNS},
    {NODE_RUN, "status.json", NODE_RUN_STATUS},
    {NODE_RUN, "inputs.json", NODE_RUN_INPUTS},
    {NODE_RUN, "outputs.json", NODE_RUN_OUTPUTS},
    {NODE_RUN, "ctl", NODE_RUN_CTL},
    {NODE_RUN, "steps", NODE_STEPS},
    {NODE_STEP, "stdout", NODE_STDOUT},
    {NODE_STEP, "stderr", NODE_STDERR},
};

static bool has_log(const struct node *events)
{
    return events->kind == NODE_EVENTS && events->parent->kind == NODE_ROOT;
}

static uint64_t trigger_there(const struct fs *fs, const char *id)
{
    struct api_trigger_look t;
    return api_look_trigger(fs->api, id, &t) ? (uint64_t)t.created_ms : 0;
}

static uint64_t pipeline_there(const struct fs *fs, const char *id)
{
    struct api_pipeline_look p;
    return api_look_pipeline(fs->api, id, &p) ? (uint64_t)p.created_ms : 0;
}

bool tree_resource_there(const struct fs *fs, enum resource_kind kind, const char *id)
{
    return kind == RESOURCE_TRIGGER ? trigger_there(fs, id) != 0 : pipeline_there(fs, id) != 0;
}

/* A folder made by mkdir is a resource's as soon as there is one. */
static enum node_kind kind_now(const struct node *n)
{
    enum resource_kind kind;
    if (n->kind != NODE_NEW || !tree_resource_there(n->fs, (node_resource(n, &kind), kind), n->name))
        return n->kind;
    return kind == RESOURCE_TRIGGER ? NODE_TRIGGER : NODE_PIPELINE;
}

static const struct fixed *find_fixed(const struct node *parent, const char *name)
{
    enum node_kind parent_kind = kind_now(parent);
    static const struct fixed log = {NODE_EVENTS, "log", NODE_LOG}, stream = {NODE_EVENTS, "stream", NODE_STREAM};
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
        if (fixed[i].parent == parent_kind && streq(fixed[i].name, name))
            return &fixed[i];
    if (has_log(parent) && streq(name, "log"))
        return &log;
    if (has_log(parent) && streq(name, "stream"))
        return &stream;
    return NULL;
}

bool tree_is_fixed(const struct node *parent, const char *name)
{
    return find_fixed(parent, name) != NULL;
}

/* ---- names that come and go ---- */

struct searching {
    const char *name;
    bool found;
};

static void search_pipeline(void *ctx, const struct api_trigger_look *t)
{
    struct searching *s = ctx;
    s->found = s->found || streq(t->pipeline_id, s->name);
}

static bool pipeline_is_used(const struct fs *fs, const char *name)
{
    struct searching s = {name, false};
    api_each_trigger(fs->api, search_pipeline, &s);
    return s.found;
}

/* Does the link of this folder lead to the trigger? */
static bool is_linked(const struct node *parent, const struct api_trigger_look *t)
{
    const char *has = parent->kind == NODE_TYPE          ? t->trigger_type
                      : parent->kind == NODE_OF_PIPELINE ? t->pipeline_id
                                                         : t->status;
    return streq(has, parent->name);
}

static bool is_word(const char *word, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (streq(word, words[i]))
            return true;
    return false;
}

static bool is_schema(const char *name)
{
    for (const char *const *kind = manifest_schema_kinds; *kind; kind++)
        if (strncmp(name, *kind, strlen(*kind)) == 0 && streq(name + strlen(*kind), ".json"))
            return true;
    return false;
}

/* What is known without waiting: 0 and the kind, or -ENOENT. */
static int find_now(const struct node *parent, const char *name, enum node_kind *ret_kind, uint64_t *ret_incarnation)
{
    const struct fs *fs = parent->fs;
    struct api_trigger_look t;
    size_t n;
    const char *const *words;
    *ret_incarnation = 0;
    switch (parent->kind) {
    case NODE_TRIGGERS:
        *ret_kind = NODE_TRIGGER;
        *ret_incarnation = trigger_there(fs, name);
        return *ret_incarnation ? 0 : -ENOENT;
    case NODE_PIPELINES:
        *ret_kind = NODE_PIPELINE;
        *ret_incarnation = pipeline_there(fs, name);
        return *ret_incarnation ? 0 : -ENOENT;
    case NODE_BY_TYPE:
        *ret_kind = NODE_TYPE;
        return api_is_trigger_type(fs->api, name) ? 0 : -ENOENT;
    case NODE_BY_STATUS:
        *ret_kind = NODE_OF_STATUS;
        words = api_trigger_statuses(&n);
        return is_word(name, words, n) ? 0 : -ENOENT;
    case NODE_BY_PIPELINE:
        *ret_kind = NODE_OF_PIPELINE;
        return pipeline_is_used(fs, name) ? 0 : -ENOENT;
    case NODE_TYPE:
    case NODE_OF_STATUS:
    case NODE_OF_PIPELINE:
        *ret_kind = NODE_LINK;
        return api_look_trigger(fs->api, name, &t) && is_linked(parent, &t) ? 0 : -ENOENT;
    case NODE_EMIT:
        *ret_kind = NODE_ENDPOINT;
        return api_has_endpoint(fs->api, name) ? 0 : -ENOENT;
    case NODE_SCHEMAS:
        *ret_kind = NODE_SCHEMA;
        return is_schema(name) ? 0 : -ENOENT;
    default:
        return -ENOENT;
    }
}

/* ---- names that the store knows ---- */

struct finding {
    struct node *parent;
    char *name;
    found_fn *found; /* NULL: it took too long, and was told so */
    void *ctx;
    struct timer patience;
};

static void out_of_patience(struct timer *timer, void *ctx)
{
    (void)timer;
    struct finding *f = ctx;
    found_fn *found = f->found;
    f->found = NULL;
    store_answered(f->parent->fs, false);
    found(f->ctx, -EIO, NULL);
}

static void found_later(struct finding *f, int code, enum node_kind kind)
{
    struct fs *fs = f->parent->fs;
    loop_timer_stop(fs->loop, &f->patience);
    store_answered(fs, true);
    if (f->found)
        f->found(f->ctx, code, code < 0 ? NULL : node_get(f->parent, f->name, kind, 0));
    node_unref(f->parent);
    free(f->name);
    free(f);
    fs_release(fs);
}

static struct finding *finding_new(struct node *parent, const char *name, found_fn *found, void *ctx)
{
    struct finding *f = xcalloc(1, sizeof(*f));
    *f = (struct finding){.parent = node_ref(parent), .name = xstrdup(name), .found = found, .ctx = ctx};
    timer_init(&f->patience, out_of_patience, f);
    loop_timer_start(parent->fs->loop, &f->patience, store_patience_ms(parent->fs));
    fs_hold(parent->fs);
    return f;
}

static void event_found(void *ctx, int code, const struct event *e)
{
    struct finding *f = ctx;
    enum resource_kind kind;
    const char *trigger = node_resource(f->parent, &kind);
    if (code == 0 && trigger && !streq(trigger, e->trigger_id))
        code = -ENOENT;
    found_later(f, code == -ENOENT || code == 0 ? code : -EIO, NODE_EVENT);
}

static bool has_step(const char *steps, const char *id)
{
    cJSON *list = NULL;
    const cJSON *item;
    bool found = false;
    if (!steps || value_parse(steps, strlen(steps), &list, NULL) < 0)
        return false;
    cJSON_ArrayForEach (item, list)
        found = found || streq(value_get_string(item, "id"), id);
    cJSON_Delete(list);
    return found;
}

static void run_found(void *ctx, int code, const struct run_row *run, const char *steps)
{
    struct finding *f = ctx;
    enum resource_kind kind;
    const char *pipeline = node_resource(f->parent, &kind);
    if (code == 0 && f->parent->kind == NODE_RUNS && !streq(run->pipeline_id, pipeline))
        code = -ENOENT;
    if (code == 0 && f->parent->kind == NODE_STEPS && !has_step(steps, f->name))
        code = -ENOENT;
    found_later(f, code == -ENOENT || code == 0 ? code : -EIO, f->parent->kind == NODE_RUNS ? NODE_RUN : NODE_STEP);
}

/* False: it is no such folder. */
static bool find_in_store(struct node *parent, const char *name, found_fn *found, void *ctx)
{
    struct api *a = parent->fs->api;
    size_t len = strlen(name);
    if (parent->kind == NODE_EVENTS && len > 5 && streq(name + len - 5, ".json")) {
        _cleanup_(freep) char *id = xstrndup(name, len - 5);
        if (!id_valid(id, "evt_"))
            return false;
        api_read_event(a, id, event_found, finding_new(parent, name, found, ctx));
    } else if (parent->kind == NODE_RUNS && id_valid(name, "run_")) {
        api_read_run(a, name, run_found, finding_new(parent, name, found, ctx));
    } else if (parent->kind == NODE_STEPS) {
        api_read_run(a, parent->parent->name, run_found, finding_new(parent, name, found, ctx));
    } else {
        return false;
    }
    return true;
}

/* ---- manifest directories ---- */

/* Where there is one, manifests/ is it; else it holds them, by their last part, with a number where two have the same. */
static char *dir_name(const struct fs *fs, size_t index)
{
    const char *const *dirs = fs->mount->options.manifests;
    const char *slash = strrchr(dirs[index], '/');
    const char *name = slash && slash[1] ? slash + 1 : "root";
    unsigned same = 1;
    for (size_t i = 0; i < index; i++) {
        const char *other = strrchr(dirs[i], '/');
        same += other && streq(other + 1, name);
    }
    return same > 1 ? xasprintf("%s-%u", name, same) : xstrdup(name);
}

static struct node *dir_node(struct node *parent, const char *name, size_t index)
{
    struct node *n = node_get(parent, name, NODE_DIR, 0);
    if (!n->path)
        n->path = xstrdup(parent->fs->mount->options.manifests[index]);
    return n;
}

static struct node *find_dir(struct node *parent, const char *name)
{
    const struct fs *fs = parent->fs;
    size_t n = fs->mount->options.n_manifests;
    if (parent->kind == NODE_ROOT)
        return n == 1 ? dir_node(parent, name, 0) : node_get(parent, name, NODE_MANIFESTS, 0);
    for (size_t i = 0; i < n; i++) {
        _cleanup_(freep) char *own = dir_name(fs, i);
        if (streq(own, name))
            return dir_node(parent, name, i);
    }
    return NULL;
}

/* ---- lookup ---- */

/* Is there a rejected text to be read? */
static bool has_rejected(const struct node *home)
{
    enum resource_kind kind;
    const char *text, *id = node_resource(home, &kind);
    const struct manifest *m;
    size_t len, entry;
    return reject_of(home) || reconcile_bad_text(home->fs->api->reconcile, kind, id, &text, &len, &m, &entry);
}

/* What is only here: in memory, being written, or made by mkdir. Borrowed. */
static struct node *find_here(struct node *parent, const char *name)
{
    struct node *n = node_find(parent, name);
    if (!n)
        return NULL;
    bool here =
        n->kind == NODE_SCRATCH || (n->mfile && manifest_alive(n)) ||
        (n->kind == NODE_NEW &&
         !tree_resource_there(n->fs, parent->kind == NODE_TRIGGERS ? RESOURCE_TRIGGER : RESOURCE_PIPELINE, name));
    return here ? n : NULL;
}

static int find_fixed_node(struct node *parent, const struct fixed *f, struct node **ret)
{
    enum resource_kind kind;
    const char *id = node_resource(parent, &kind);
    if (f->kind == NODE_OWN_MANIFEST && is_absent(parent->fs, kind, id))
        return -ENOENT;
    *ret = f->kind == NODE_MANIFESTS ? find_dir(parent, f->name)
           : f->kind == NODE_LOG     ? log_node(parent, f->name)
                                     : node_get(parent, f->name, f->kind, 0);
    return 0;
}

/* Writes through one inode wait for one another in the kernel, each for its own sync. So who looks an endpoint up while
 * somebody has it open gets an inode of its own: by all that stat shows the same file. Where that happens, also who looks
 * it up when somebody is about to open it; else a watch (inotify) stays on the inode that is written to. */
static struct node *endpoint_node(struct node *parent, const char *name)
{
    struct fs *fs = parent->fs;
    struct node *n = node_find(parent, name);
    int64_t now = loop_now_ms(fs->loop);
    bool in_use = n && n->kind == NODE_ENDPOINT && control_in_use(n);
    if (in_use)
        fs->shared_until_ms = now + SHARED_STAYS_MS;
    if (in_use || (n && now < fs->shared_until_ms && now - n->given_ms < GIVEN_STAYS_MS))
        node_unname(n);
    n = node_get(parent, name, NODE_ENDPOINT, 0);
    n->given_ms = now;
    return n;
}

static void lookup_now(struct node *parent, const char *name, found_fn *found, void *ctx)
{
    const struct fixed *f = find_fixed(parent, name);
    struct node *n = find_here(parent, name);
    enum node_kind kind = NODE_KINDS;
    uint64_t incarnation = 0;
    int code = 0;
    if (n) {
        node_ref(n);
    } else if (parent->kind == NODE_DIR) {
        real_lookup(parent, name, found, ctx);
        return;
    } else if (f) {
        code = find_fixed_node(parent, f, &n);
    } else if (parent->kind == NODE_MANIFESTS) {
        n = find_dir(parent, name);
        code = n ? 0 : -ENOENT;
    } else if (node_is_home(parent) && streq(name, "manifest.rejected.yaml") && has_rejected(parent)) {
        n = node_get(parent, name, NODE_REJECTED, 0);
    } else if (find_in_store(parent, name, found, ctx)) {
        return;
    } else {
        code = find_now(parent, name, &kind, &incarnation);
        n = code < 0                ? NULL
            : kind == NODE_ENDPOINT ? endpoint_node(parent, name)
                                    : node_get(parent, name, kind, incarnation);
    }
    found(ctx, code, n);
}

struct looking_up {
    struct node *parent; /* a reference */
    char *name;
    found_fn *found;
    void *ctx;
};

static void lookup_settled(void *ctx)
{
    struct looking_up *l = ctx;
    lookup_now(l->parent, l->name, l->found, l->ctx);
    node_unref(l->parent);
    free(l->name);
    free(l);
}

/* Folders whose names come with manifests: what was written before is in them. */
static bool waits(const struct node *parent)
{
    switch (parent->kind) {
    case NODE_TRIGGERS:
    case NODE_PIPELINES:
    case NODE_BY_TYPE:
    case NODE_BY_PIPELINE:
    case NODE_BY_STATUS:
    case NODE_TYPE:
    case NODE_OF_PIPELINE:
    case NODE_OF_STATUS:
    case NODE_EMIT:
    case NODE_TRIGGER:
    case NODE_PIPELINE:
    case NODE_NEW:
        return parent->fs->tickets != NULL;
    case NODE_MANIFESTS:
    case NODE_DIR: /* what is written here by the name that it has here is shown at once */
        return parent->fs->own_tickets > 0;
    default:
        return false;
    }
}

void tree_lookup(struct node *parent, const char *name, found_fn *found, void *ctx)
{
    if (!waits(parent)) {
        lookup_now(parent, name, found, ctx);
        return;
    }
    struct looking_up *l = xmalloc(sizeof(*l));
    *l = (struct looking_up){node_ref(parent), xstrdup(name), found, ctx};
    manifest_settled_soon(parent->fs, lookup_settled, l);
}

/* ---- listings ---- */

void listing_add(struct listing *l, const char *name, uint64_t ino, mode_t type)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 32;
        l->starts = xreallocarray(l->starts, l->cap, sizeof(*l->starts));
    }
    l->starts[l->n++] = l->names.len;
    buf_addc(&l->names, (char)(type >> 12));
    buf_add(&l->names, &ino, sizeof(ino));
    buf_add(&l->names, name, strlen(name) + 1);
}

void listing_free(struct listing *l)
{
    if (!l)
        return;
    buf_fini(&l->names);
    free(l->starts);
    free(l);
}

struct strings_seen;

struct listing_at {
    struct listing *l;
    const struct node *n;
    struct strings_seen *seen;
};

static void add(struct listing_at *at, const char *name, enum node_kind kind, uint64_t incarnation)
{
    if (*name && !strchr(name, '/') && strlen(name) <= 255)
        listing_add(at->l, name, node_ino(at->n->ino, name, incarnation), node_infos[kind].mode & S_IFMT);
}

static void list_trigger(void *ctx, const char *id, int64_t created_ms)
{
    add(ctx, id, NODE_TRIGGER, (uint64_t)created_ms);
}

static void list_pipeline(void *ctx, const struct api_pipeline_look *p)
{
    add(ctx, p->id, NODE_PIPELINE, (uint64_t)p->created_ms);
}

static void list_linked(void *ctx, const struct api_trigger_look *t)
{
    const struct listing_at *at = ctx;
    if (is_linked(at->n, t))
        add(ctx, t->id, NODE_LINK, 0);
}

static void list_type(void *ctx, const char *name)
{
    add(ctx, name, NODE_TYPE, 0);
}

/* Names that several triggers may share. */
struct strings_seen {
    char *text;
    UT_hash_handle hh;
};

static bool first_seen(struct listing_at *at, const char *text)
{
    struct strings_seen *s = NULL;
    HASH_FIND_STR(at->seen, text, s);
    if (s)
        return false;
    s = xcalloc(1, sizeof(*s));
    s->text = xstrdup(text);
    HASH_ADD_KEYPTR(hh, at->seen, s->text, strlen(s->text), s);
    return true;
}

static void forget_seen(struct listing_at *at)
{
    struct strings_seen *s = at->seen, *next;
    HASH_CLEAR(hh, at->seen);
    for (; s; s = next) {
        next = s->hh.next;
        free(s->text);
        free(s);
    }
}

static void list_pipeline_of(void *ctx, const struct api_trigger_look *t)
{
    if (first_seen(ctx, t->pipeline_id))
        add(ctx, t->pipeline_id, NODE_OF_PIPELINE, 0);
}

static void list_endpoint(void *ctx, const struct api_trigger_look *t)
{
    if (t->endpoint && first_seen(ctx, t->endpoint))
        add(ctx, t->endpoint, NODE_ENDPOINT, 0);
}

static void list_schemas(struct listing_at *at)
{
    for (const char *const *kind = manifest_schema_kinds; *kind; kind++) {
        _cleanup_(freep) char *name = xasprintf("%s.json", *kind);
        add(at, name, NODE_SCHEMA, 0);
    }
}

static void list_now(struct listing_at *at)
{
    struct api *a = at->n->fs->api;
    const char *const *words;
    size_t n;
    switch (at->n->kind) {
    case NODE_TRIGGERS:
        api_each_trigger_id(a, list_trigger, at);
        break;
    case NODE_PIPELINES:
        api_each_pipeline(a, list_pipeline, at);
        break;
    case NODE_BY_TYPE:
        api_each_trigger_type(a, list_type, at);
        break;
    case NODE_BY_STATUS:
        words = api_trigger_statuses(&n);
        for (size_t i = 0; i < n; i++)
            add(at, words[i], NODE_OF_STATUS, 0);
        break;
    case NODE_BY_PIPELINE:
        api_each_trigger(a, list_pipeline_of, at);
        break;
    case NODE_TYPE:
    case NODE_OF_STATUS:
    case NODE_OF_PIPELINE:
        api_each_trigger(a, list_linked, at);
        break;
    case NODE_EMIT:
        api_each_trigger(a, list_endpoint, at);
        break;
    case NODE_SCHEMAS:
        list_schemas(at);
        break;
    default:
        break;
    }
    forget_seen(at);
}

struct enumerating {
    struct node *node;
    struct listing *l;
    listed_fn *listed; /* NULL: it took too long, and was told so */
    void *ctx;
    bool of_store;
    struct timer patience; /* with the store */
};

static void list_too_late(struct timer *timer, void *ctx)
{
    (void)timer;
    struct enumerating *e = ctx;
    listed_fn *listed = e->listed;
    e->listed = NULL;
    store_answered(e->node->fs, false);
    listed(e->ctx, -EIO, NULL);
}

static void listed_later(struct enumerating *e, int code)
{
    struct fs *fs = e->node->fs;
    loop_timer_stop(fs->loop, &e->patience);
    if (e->of_store)
        store_answered(fs, true);
    if (code < 0 || !e->listed) {
        listing_free(e->l);
        e->l = NULL;
    }
    if (e->listed)
        e->listed(e->ctx, code < 0 ? -EIO : 0, e->l);
    node_unref(e->node);
    free(e);
    fs_release(fs);
}

static void ids_listed(void *ctx, int code, const char *const *ids, size_t n)
{
    struct enumerating *e = ctx;
    struct listing_at at = {e->l, e->node, NULL};
    for (size_t i = 0; i < n; i++) {
        char name[ID_TEXT_MAX + 5];
        snprintf(name, sizeof(name), "%s%s", ids[i], e->node->kind == NODE_EVENTS ? ".json" : "");
        add(&at, name, e->node->kind == NODE_EVENTS ? NODE_EVENT : NODE_RUN, 0);
    }
    listed_later(e, code);
}

static void steps_listed(void *ctx, int code, const struct run_row *run, const char *steps)
{
    (void)run;
    struct enumerating *e = ctx;
    struct listing_at at = {e->l, e->node, NULL};
    cJSON *list = NULL;
    const cJSON *item;
    if (steps)
        value_parse(steps, strlen(steps), &list, NULL);
    cJSON_ArrayForEach (item, list) {
        const char *id = value_get_string(item, "id");
        if (id)
            add(&at, id, NODE_STEP, 0);
    }
    cJSON_Delete(list);
    listed_later(e, code);
}

/* ---- what is only here ---- */

static void list_here(struct listing_at *at)
{
    const struct node *n = at->n;
    const struct mfile *mf;
    const struct new_dir *d;
    scratch_list(n, at->l);
    DL_FOREACH (n->fs->mfiles, mf)
        if (mf->node->parent == n && mf->node->key && mf->is_new && manifest_alive(mf->node))
            add(at, mf->node->name, mf->node->kind, 0);
    DL_FOREACH (n->fs->new_dirs, d)
        if (d->node->parent == n && find_here((struct node *)n, d->node->name) == d->node)
            add(at, d->node->name, NODE_NEW, 0);
}

static void real_listed(void *ctx, int code, struct listing *l)
{
    struct enumerating *e = ctx;
    struct listing_at at = {l, e->node, NULL};
    e->l = l;
    if (code == 0)
        list_here(&at);
    struct fs *fs = e->node->fs;
    e->listed(e->ctx, code, l);
    node_unref(e->node);
    free(e);
    fs_release(fs);
}

static void list_dirs(struct listing_at *at)
{
    for (size_t i = 0; i < at->n->fs->mount->options.n_manifests; i++) {
        _cleanup_(freep) char *name = dir_name(at->n->fs, i);
        add(at, name, NODE_DIR, 0);
    }
}

static void list_fixed(struct listing_at *at)
{
    enum node_kind own = kind_now(at->n);
    enum resource_kind kind;
    const char *id = node_resource(at->n, &kind);
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
        if (fixed[i].parent == own && !(fixed[i].kind == NODE_OWN_MANIFEST && is_absent(at->n->fs, kind, id)))
            add(at, fixed[i].name, fixed[i].kind, 0);
    if (has_log(at->n)) {
        add(at, "log", NODE_LOG, 0);
        add(at, "stream", NODE_STREAM, 0);
    }
    if (node_is_home(at->n) && has_rejected(at->n))
        add(at, "manifest.rejected.yaml", NODE_REJECTED, 0);
}

static struct enumerating *enumerating_new(struct node *n, struct listing *l, listed_fn *listed, void *ctx)
{
    struct enumerating *e = xcalloc(1, sizeof(*e));
    *e = (struct enumerating){.node = node_ref(n), .l = l, .listed = listed, .ctx = ctx};
    timer_init(&e->patience, list_too_late, e);
    fs_hold(n->fs);
    return e;
}

static void list_settled(void *ctx)
{
    struct enumerating *e = ctx;
    struct node *n = e->node;
    struct api *a = n->fs->api;
    enum resource_kind kind;
    const char *id = node_resource(n, &kind);
    if (n->kind == NODE_DIR) {
        real_list(n, real_listed, e);
        return;
    }
    struct listing *l = e->l = xcalloc(1, sizeof(*l));
    struct listing_at at = {l, n, NULL};
    listing_add(l, ".", n->ino, S_IFDIR);
    listing_add(l, "..", n->parent ? n->parent->ino : n->ino, S_IFDIR);
    list_fixed(&at);
    e->of_store = n->kind == NODE_EVENTS || n->kind == NODE_RUNS || n->kind == NODE_STEPS;
    if (e->of_store)
        loop_timer_start(n->fs->loop, &e->patience, store_patience_ms(n->fs));
    if (n->kind == NODE_EVENTS) {
        api_event_ids(a, id, LISTED_MAX, ids_listed, e);
    } else if (n->kind == NODE_RUNS) {
        api_run_ids(a, id, LISTED_MAX, ids_listed, e);
    } else if (n->kind == NODE_STEPS) {
        api_read_run(a, n->parent->name, steps_listed, e);
    } else {
        if (n->kind == NODE_MANIFESTS)
            list_dirs(&at);
        list_now(&at);
        list_here(&at);
        listed_later(e, 0);
    }
}

void tree_list(struct node *n, listed_fn *listed, void *ctx)
{
    struct enumerating *e = enumerating_new(n, NULL, listed, ctx);
    if (waits(n))
        manifest_settled_soon(n->fs, list_settled, e);
    else
        list_settled(e);
}
