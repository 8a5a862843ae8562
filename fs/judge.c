/* A manifest's text against what there is: judged, committed, rejected. */
#include "fs/manifest.h"

#include "fs/real.h"

/* ---- rejected texts ---- */

static struct reject *reject_find(const struct mount *m, const char *key)
{
    struct reject *j = NULL;
    HASH_FIND_STR(m->rejects, key, j);
    return j;
}

static void reject_fini(struct reject *j)
{
    text_unref(j->text);
    free(j->errors);
    free(j->key);
    free(j);
}

static void reject_free(struct mount *m, struct reject *j)
{
    HASH_DELETE(hh, m->rejects, j);
    reject_fini(j);
}

static void reject_drop(struct mount *m, const char *key)
{
    struct reject *j = reject_find(m, key);
    if (j)
        reject_free(m, j);
}

void rejects_free(struct mount *m)
{
    struct reject *j = m->rejects, *next;
    HASH_CLEAR(hh, m->rejects); /* the table alone; the items stay linked */
    for (; j; j = next) {
        next = j->hh.next;
        reject_fini(j);
    }
}

static void reject_set(struct mount *m, const char *key, const char *text, size_t len, struct buf *errors)
{
    reject_drop(m, key);
    if (HASH_COUNT(m->rejects) >= REJECTS_MAX)
        reject_free(m, m->rejects); /* the oldest */
    struct reject *j = xcalloc(1, sizeof(*j));
    struct buf copy = {0};
    buf_add(&copy, text, len);
    j->key = xstrdup(key);
    j->at_ms = clock_realtime_ms(m->options.api->clock);
    j->text = text_new(&copy, j->at_ms);
    j->errors = buf_steal(errors);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the oldest is out of the table */
    HASH_ADD_KEYPTR(hh, m->rejects, j->key, strlen(j->key), j);
}

static char *resource_key(enum resource_kind kind, const char *id)
{
    return xasprintf("%s/%s", resource_kind_name(kind), id);
}

struct outdating {
    const struct reject *reject;
    bool later; /* something of its file changed since */
};

static void look_later(struct outdating *o, const char *file, int64_t updated_ms)
{
    o->later = o->later || (file && streq(file, o->reject->key) && updated_ms > o->reject->at_ms);
}

static void trigger_later(void *ctx, const struct api_trigger_look *t)
{
    look_later(ctx, t->file, t->updated_ms);
}

static void pipeline_later(void *ctx, const struct api_pipeline_look *p)
{
    look_later(ctx, p->file, p->updated_ms);
}

/* What it was of has changed since, by whatever way, or is gone. */
static bool is_outdated(const struct fs *fs, const struct reject *j)
{
    struct outdating o = {.reject = j};
    if (*j->key == '/') {
        api_each_trigger(fs->api, trigger_later, &o);
        api_each_pipeline(fs->api, pipeline_later, &o);
        return o.later;
    }
    const char *id = strchr(j->key, '/') + 1;
    struct api_trigger_look t;
    struct api_pipeline_look p;
    bool trigger = *j->key == 't';
    if (trigger && api_look_trigger(fs->api, id, &t))
        return t.updated_ms > j->at_ms;
    if (!trigger && api_look_pipeline(fs->api, id, &p))
        return p.updated_ms > j->at_ms;
    return !new_dir_is(fs, trigger ? RESOURCE_TRIGGER : RESOURCE_PIPELINE, id);
}

/* Of a resource: what was refused of itself, or of its file, unless it has changed since. */
const struct reject *reject_of(const struct node *n)
{
    const struct fs *fs = n->fs;
    enum resource_kind kind;
    const char *id = node_resource(n, &kind);
    struct api_trigger_look t = {0};
    struct api_pipeline_look p = {0};
    if (!id)
        return NULL;
    if (kind == RESOURCE_TRIGGER)
        api_look_trigger(fs->api, id, &t);
    else
        api_look_pipeline(fs->api, id, &p);
    const char *file = kind == RESOURCE_TRIGGER ? t.file : p.file;
    _cleanup_(freep) char *key = resource_key(kind, id);
    const struct reject *own = reject_find(fs->mount, key);
    const struct reject *of_file = file ? reject_find(fs->mount, file) : NULL;
    if (own && !is_outdated(fs, own))
        return own;
    return of_file && !is_outdated(fs, of_file) ? of_file : NULL;
}

void reject_forget(struct fs *fs, const char *path)
{
    if (path)
        reject_drop(fs->mount, path);
}

void reject_errors(const struct mount *m, struct buf *b)
{
    for (const struct reject *j = m->rejects; j; j = j->hh.next) {
        const char *line = is_outdated(m->fs, j) ? "" : j->errors, *end;
        for (; (end = strchr(line, '\n')); line = end + 1) {
            const char *word = strstr(line, " error: ");
            if (word && word < end) {
                buf_add(b, line, (size_t)(word - line) + 1);
                buf_add(b, word + 8, (size_t)(end - word) - 7);
            } else {
                buf_add(b, line, (size_t)(end - line) + 1);
            }
        }
    }
}

/* ---- verdicts ---- */

struct verdict {
    struct fs *fs;
    struct node *parent; /* a reference */
    char *name;
    char *path; /* of a file below a manifest directory; NULL: of a resource */
    enum resource_kind kind;
    char *id;
    char *text;
    size_t len;
    struct ticket *ticket; /* of a commit */
    bool restores;         /* what was refused stays refused */
    judged_fn *done;
    void *ctx;
};

static struct verdict *verdict_new(struct node *parent, const char *name, const char *text, size_t len, judged_fn *done,
                                   void *ctx)
{
    struct verdict *v = xcalloc(1, sizeof(*v));
    v->fs = parent->fs;
    v->parent = node_ref(parent);
    v->name = xstrdup(name);
    v->text = xmalloc(len + 1);
    memcpy(v->text, text, len);
    v->text[len] = '\0';
    v->len = len;
    v->done = done;
    v->ctx = ctx;
    const char *id = node_resource(parent, &v->kind);
    v->id = xstrdup0(id);
    v->path = id ? NULL : real_path(parent, name);
    fs_hold(v->fs);
    return v;
}

static void verdict_end(struct verdict *v, int code)
{
    struct fs *fs = v->fs;
    v->done(v->ctx, code);
    node_unref(v->parent);
    free(v->name);
    free(v->path);
    free(v->id);
    free(v->text);
    free(v);
    fs_release(fs);
}

static char *verdict_key(const struct verdict *v)
{
    return v->id ? resource_key(v->kind, v->id) : xstrdup(v->path);
}

/* The file that its errors are in: where the rejected text can be read, or would be. */
static char *verdict_file(const struct verdict *v)
{
    return v->id ? xasprintf("%s/%ss/%s/manifest.rejected.yaml", v->fs->mount->dir, resource_kind_name(v->kind), v->id)
                 : xstrdup(v->path);
}

static void rejected(struct verdict *v, const struct put_result *r)
{
    struct buf errors = {0};
    _cleanup_(freep) char *key = verdict_key(v), *file = verdict_file(v);
    if (r->manifest)
        api_manifest_errors(r->manifest, SIZE_MAX, file, &errors);
    if (errors.len == 0)
        buf_printf(&errors, "%s:1:1: error: %s\n", file, r->message ? r->message : strerror(-r->code));
    log_warning(AREA, "%s: rejected: %.*s", key, (int)strcspn(errors.data, "\n"), errors.data);
    reject_set(v->fs->mount, key, v->text, v->len, &errors);
}

static void accepted(struct verdict *v, const struct put_result *r)
{
    struct mount *m = v->fs->mount;
    if (v->restores)
        return;
    _cleanup_(freep) char *key = verdict_key(v);
    reject_drop(m, key);
    for (size_t i = 0; r->manifest && i < r->manifest->n_entries; i++) {
        const struct manifest_entry *e = &r->manifest->entries[i];
        _cleanup_(freep) char *own = e->id ? resource_key(e->kind, e->id) : NULL;
        if (own)
            reject_drop(m, own);
    }
}

static void judged(void *ctx, const struct put_result *r)
{
    struct verdict *v = ctx;
    bool refused = r->code == -EINVAL || r->code == -EEXIST;
    if (refused)
        rejected(v, r);
    verdict_end(v, refused ? -EINVAL : r->code < 0 ? -EIO : 0);
}

void manifest_judge(struct node *parent, const char *name, const char *besides, const char *text, size_t len,
                    judged_fn *done, void *ctx)
{
    struct verdict *v = verdict_new(parent, name, text, len, done, ctx);
    struct reconcile *r = v->fs->api->reconcile;
    if (v->id)
        reconcile_check_resource(r, v->kind, v->id, text, len, judged, v);
    else if (v->path)
        reconcile_check_file(r, v->path, besides, text, len, judged, v);
    else
        judged(v, &(struct put_result){.code = -ESTALE});
}

/* ---- commits ---- */

/* A change on its way: judged good, and not yet in force or dropped. */
struct ticket {
    uint64_t number;
    bool own;
    struct ticket *prev, *next; /* of fs->tickets, by number */
};

struct settled_call {
    struct fs *fs;
    uint64_t until; /* no ticket up to this is open; where `commits`: so many commits have ended, which end in order */
    bool commits;
    void (*fn)(void *ctx);
    void *ctx;
    struct timer patience;
    struct settled_call *prev, *next;
};

static void call_settled(struct settled_call *c)
{
    struct fs *fs = c->fs;
    DL_DELETE(fs->settled, c);
    loop_timer_stop(fs->loop, &c->patience);
    c->fn(c->ctx);
    free(c);
    fs_release(fs);
}

static struct settled_call *next_settled(const struct fs *fs)
{
    struct settled_call *c;
    DL_FOREACH (fs->settled, c)
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): one that was called is out of the list */
        if (c->commits ? c->until <= fs->commits_ended : !fs->tickets || fs->tickets->number > c->until)
            return c;
    return NULL;
}

static void call_all_settled(struct fs *fs)
{
    struct settled_call *c;
    while ((c = next_settled(fs))) /* a call may end others */
        call_settled(c);
}

struct ticket *ticket_new(struct fs *fs, bool own)
{
    struct ticket *t = xcalloc(1, sizeof(*t));
    t->number = ++fs->ticket_number;
    t->own = own;
    fs->own_tickets += own;
    DL_APPEND(fs->tickets, t);
    return t;
}

void ticket_end(struct fs *fs, struct ticket *t)
{
    DL_DELETE(fs->tickets, t);
    fs->own_tickets -= t->own;
    free(t);
    call_all_settled(fs);
}

static void out_of_patience(struct timer *timer, void *ctx)
{
    (void)timer;
    call_settled(ctx);
}

static struct settled_call *wait_settled(struct fs *fs, void (*fn)(void *ctx), void *ctx)
{
    struct settled_call *c = xcalloc(1, sizeof(*c));
    c->fs = fs;
    c->fn = fn;
    c->ctx = ctx;
    timer_init(&c->patience, out_of_patience, c);
    DL_APPEND(fs->settled, c);
    fs_hold(fs);
    return c;
}

void manifest_settled(struct fs *fs, void (*fn)(void *ctx), void *ctx)
{
    if (fs->commits == 0) {
        fn(ctx);
        return;
    }
    struct settled_call *c = wait_settled(fs, fn, ctx);
    c->commits = true;
    c->until = fs->commits_ended + fs->commits;
}

void manifest_settled_soon(struct fs *fs, void (*fn)(void *ctx), void *ctx)
{
    if (!fs->tickets) {
        fn(ctx);
        return;
    }
    struct settled_call *c = wait_settled(fs, fn, ctx);
    c->until = fs->ticket_number;
    loop_timer_start(fs->loop, &c->patience, READER_WAITS_MS);
}

static void commit_done(void *ctx, const struct put_result *r)
{
    struct verdict *v = ctx;
    struct fs *fs = v->fs;
    if (r->code < 0)
        rejected(v, r);
    else
        accepted(v, r);
    int code = r->code == -EEXIST || r->code == -EINVAL ? -EINVAL : r->code;
    struct ticket *ticket = v->ticket;
    fs_hold(fs);
    verdict_end(v, code);
    fs->commits--;
    fs->commits_ended++;
    ticket_end(fs, ticket);
    fs_release(fs);
}

static void put(struct verdict *v, struct ticket *ticket)
{
    struct reconcile *r = v->fs->api->reconcile;
    const char *text = v->text;
    size_t len = v->len;
    v->ticket = ticket ? ticket : ticket_new(v->fs, v->id != NULL);
    v->fs->commits++;
    if (v->id && tree_resource_there(v->fs, v->kind, v->id)) {
        reconcile_put_resource(r, v->kind, v->id, text, len, 0, commit_done, v);
    } else if (v->id) {
        const char *dir = v->fs->api->manifest_dir ? v->fs->api->manifest_dir : reconcile_writable_dir(r);
        if (dir)
            reconcile_create_file(r, dir, v->id, text, len, commit_done, v);
        else
            commit_done(v, &(struct put_result){.code = -EROFS, .message = "no manifest directory is writable"});
    } else if (v->path) {
        reconcile_put_file(r, v->path, text, len, commit_done, v);
    } else {
        commit_done(v, &(struct put_result){.code = -ESTALE});
    }
}

void manifest_commit(struct node *parent, const char *name, const char *text, size_t len, struct ticket *ticket,
                     judged_fn *done, void *ctx)
{
    put(verdict_new(parent, name, text, len, done, ctx), ticket);
}

void manifest_restore(struct node *parent, const char *name, const struct text *text, judged_fn *done, void *ctx)
{
    struct verdict *v = verdict_new(parent, name, text->data, text->len, done, ctx);
    v->restores = true;
    put(v, NULL);
}
