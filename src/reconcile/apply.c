/* What was read becomes what the files are, and the engine is brought to it in one go: pipelines before triggers,
 * removals last. */
#include "reconcile/internal.h"

#include "base/log.h"

#include <errno.h>

#define LOOK_AGAIN_MS 1000

/* ---- what a file says ---- */

static void unlink_defs(struct file *f)
{
    for (size_t i = 0; i < f->n_defs; i++)
        if (f->defs[i].res)
            DL_DELETE(f->defs[i].res->defs, &f->defs[i]);
    free(f->defs);
    f->defs = NULL;
    f->n_defs = 0;
}

static bool cannot_be_read(const struct file *f)
{
    return f->present && !f->text;
}

static void broken_remove(struct reconcile *r, const struct file *f)
{
    for (size_t i = 0; i < r->n_broken; i++) {
        if (r->broken[i] != f)
            continue;
        r->broken[i] = r->broken[--r->n_broken];
        return;
    }
}

void file_attend(struct reconcile *r, struct file *f)
{
    if (f->attended)
        return;
    f->attended = true;
    if (r->n_attended == r->attended_cap) {
        r->attended_cap = MAX(r->attended_cap * 2, (size_t)16);
        r->attended = xreallocarray(r->attended, r->attended_cap, sizeof(struct file *));
    }
    r->attended[r->n_attended++] = f;
}

void file_forget_manifest(struct reconcile *r, struct file *f)
{
    struct resource *res;
    if (cannot_be_read(f))
        broken_remove(r, f);
    DL_FOREACH2(f->owned, res, onext)
    {
        resource_keep_text(res);
    }
    unlink_defs(f);
    if (f->manifest.file == f->path)
        f->manifest.file = NULL; /* borrowed: see file_take() */
    manifest_fini(&f->manifest);
    free(f->text);
    f->text = NULL;
    f->present = f->unclear = false;
}

static void touch_all_of(struct reconcile *r, struct file *f)
{
    struct resource *res;
    for (size_t i = 0; i < f->n_defs; i++)
        if (f->defs[i].res)
            resource_touch(r, f->defs[i].res);
    DL_FOREACH2(f->owned, res, onext)
    {
        resource_touch(r, res);
    }
}

/* One def an entry; not yet among those of their resources. */
static struct def *defs_new(struct reconcile *r, struct file *f, const struct manifest *m)
{
    struct def *defs = xcalloc(m->n_entries, sizeof(*defs));
    uint64_t mark = ++r->marks;
    for (size_t i = 0; i < m->n_entries; i++) {
        const struct manifest_entry *e = &m->entries[i];
        defs[i] = (struct def){.file = f, .entry = (unsigned)i, .good = !e->bad};
        defs[i].res = e->id ? resource_get(r, e->kind, e->id) : NULL;
        if (defs[i].res)
            defs[i].res->mark = mark;
    }
    bool lacking = false;
    const struct resource *res;
    DL_FOREACH2(f->owned, res, onext)
    {
        lacking = lacking || res->mark != mark;
    }
    for (size_t i = 0; i < m->n_entries; i++) {
        struct def *def = &defs[i];
        if (def->good || !def->res || def->res->owner == f)
            continue;
        const struct def *before = def_of(def->res, f);
        def->doubt = before ? before->doubt : lacking;
    }
    return defs;
}

static bool is_unclear(const struct file *f)
{
    for (size_t i = 0; i < f->n_defs; i++)
        if (!f->defs[i].good && (!f->defs[i].res || f->defs[i].doubt))
            return true;
    for (size_t i = 0; i < f->manifest.n_errors; i++)
        if (!f->manifest.errors[i].warning && f->manifest.errors[i].entry >= f->n_defs)
            return true;
    return false;
}

/* Takes manifest and text (NULL: unreadable) of the job. */
static void file_take(struct reconcile *r, struct file *f, struct read_job *job)
{
    struct def *defs = defs_new(r, f, &job->manifest);
    file_forget_manifest(r, f);
    f->manifest = job->manifest;
    job->manifest = (struct manifest){0};
    if (streq(f->manifest.file, f->path)) {
        free(f->manifest.file);
        f->manifest.file = (char *)f->path;
    }
    f->text = steal(&job->text);
    f->hash = job->hash;
    f->len = job->len;
    f->defs = defs;
    f->n_defs = f->manifest.n_entries;
    for (size_t i = 0; i < f->n_defs; i++)
        if (defs[i].res)
            DL_APPEND(defs[i].res->defs, &defs[i]);
    f->present = true;
    f->unclear = is_unclear(f);
    f->is_link = job->is_link;
    f->origin->read_only = job->read_only;
    if (!f->order)
        f->order = ++r->orders;
    free(f->renamed_to);
    f->renamed_to = NULL;
    if (cannot_be_read(f)) {
        r->broken = xreallocarray(r->broken, r->n_broken + 1, sizeof(struct file *));
        r->broken[r->n_broken++] = f;
    }
}

/* Is what was read of the file the last word for now? */
static bool result_counts(struct reconcile *r, struct file *f, const struct read_job *job, int64_t now)
{
    if (job->epoch == f->epoch) {
        if (job->status != READ_WAIT)
            file_clean(r, f);
        return job->status != READ_WAIT;
    }
    /* It was edited by a view since, or changed while it was read, maybe halfway: only where that goes on and on. */
    if (!f->dirty || now < f->dirty_ms + (f->writing ? r->delays.writer_ms : r->delays.burst_max_ms) ||
        job->status == READ_WAIT)
        return false;
    f->dirty_ms = now;
    return true;
}

static void take_result(struct reconcile *r, struct read_job *job, int64_t now)
{
    struct file *f = job->file;
    struct resource *res;
    file_attend(r, f);
    if (!result_counts(r, f, job, now))
        return;
    if (job->traced)
        links_set(r, f, job->leads, job->n_leads);
    if (job->status == READ_SAME)
        return;
    /* In a directory that is gone everything is; when it is back, all in it is read again. */
    if (job->status == READ_GONE && f->dir && (!f->dir->here || f->dir->moved))
        return;
    touch_all_of(r, f);
    f->changed = true;
    if (job->status == READ_GONE) {
        file_forget_manifest(r, f);
        return;
    }
    file_take(r, f, job);
    touch_all_of(r, f);
    if (f->unclear) /* what is missing may have been renamed to this */
        DL_FOREACH2(r->missing, res, mnext)
        {
            resource_touch(r, res);
        }
}

/* ---- directories ---- */

static void take_looks(struct reconcile *r, const struct dir_look *looks, int64_t now)
{
    for (size_t i = 0; i < r->n_dirs; i++) {
        struct dir *d = &r->dirs[i];
        d->writable = looks[i].code == 0 && looks[i].writable;
        if (!d->here || !d->scanned)
            continue;
        d->moved = looks[i].code < 0 || looks[i].dev != d->dev || looks[i].ino != d->ino;
        if (d->moved && now - d->retried_ms >= LOOK_AGAIN_MS)
            watch_look_again(r, d);
    }
}

struct census {
    size_t with;      /* resources that have their document in the directory */
    size_t elsewhere; /* those without that came from another directory at this path … */
    size_t foreign;   /* … on another device */
};

static struct census take_census(const struct reconcile *r, const struct dir *d)
{
    struct census c = {0};
    for (const struct resource *res = r->resources; res; res = res->hh.next) {
        if (!res->owner || res->owner->dir != d)
            continue;
        bool with = file_speaks_for(res->owner, res);
        c.with += with;
        c.elsewhere += !with && res->dev && (res->dev != d->dev || res->ino != d->ino);
        c.foreign += !with && is_foreign(r, res);
    }
    return c;
}

static bool has_files(const struct reconcile *r, const struct dir *d)
{
    for (const struct file *f = r->files; f; f = f->hh.next)
        if (f->dir == d && f->present)
            return true;
    return false;
}

/* Why what is not in the directory is not taken as deleted; NULL: it is. */
static const char *find_trouble(const struct reconcile *r, struct dir *d)
{
    if (!d->here)
        return d->error ? d->error : "the directory is not there";
    if (!d->scanned)
        return r->first_done ? d->trouble : "the directory could not be read yet";
    if (d->moved)
        return d->trouble ? d->trouble : "another directory is in its place";
    if (!r->first_done) {
        struct census c = take_census(r, d);
        d->found = c.with > 0;
        d->suspect = !d->found && c.elsewhere > 0;
    }
    d->suspect = d->suspect && !has_files(r, d);
    return d->suspect ? "the directory is empty since it came back" : NULL;
}

static void touch_dir(struct reconcile *r, const struct dir *d)
{
    for (struct resource *res = r->resources; res; res = res->hh.next)
        if (res->owner && res->owner->dir == d)
            resource_touch(r, res);
}

/* Another directory is judged than the last time, and it was read: is it on another device? */
static void judge_device(struct reconcile *r, struct dir *d)
{
    bool other = d->judged_dev != d->dev || d->judged_ino != d->ino;
    if (!other && !d->foreign)
        return;
    bool foreign = take_census(r, d).foreign > 0;
    if (foreign && !d->foreign)
        log_warning(AREA, "%s: the directory is on another device than before; what is not in it goes on as it was",
                    d->path);
    d->foreign = foreign;
    d->judged_dev = d->dev;
    d->judged_ino = d->ino;
    if (other)
        touch_dir(r, d);
}

static void judge_dirs(struct reconcile *r)
{
    for (size_t i = 0; i < r->n_dirs; i++) {
        struct dir *d = &r->dirs[i];
        const char *trouble = find_trouble(r, d);
        if (!trouble && d->scanned)
            judge_device(r, d);
        if (streq(trouble, d->trouble))
            continue;
        if (trouble)
            log_warning(AREA, "%s: %s; what it defined goes on as it was", d->path, trouble);
        else
            log_info(AREA, "%s: the directory is back", d->path);
        char *copy = xstrdup0(trouble);
        free(d->trouble);
        d->trouble = copy;
        d->trusted = trouble == NULL;
        touch_dir(r, d);
    }
}

/* ---- the order of a pass ---- */

static void decide_kind(struct reconcile *r, enum resource_kind kind, int64_t now)
{
    struct resource *res;
    LL_FOREACH2(r->touched, res, tnext)
    {
        if (res->kind == kind)
            decide(r, res, now);
    }
}

/* Those whose time is over; where a file or directory is still to be read, it may bring them back. `all` false: only
 * those touched now. */
static void remove_due(struct reconcile *r, enum resource_kind kind, int64_t now, bool all)
{
    struct resource *res, *next;
    for (res = r->missing; res; res = next) {
        next = res->mnext;
        if (res->kind != kind || res->due_ms > now || !(all || res->touched))
            continue;
        const struct file *owner = res->owner;
        if (all && owner->dir && (owner->dirty || !owner->dir->here || !owner->dir->scanned || owner->dir->moved))
            res->due_ms = now + r->delays.grace_ms;
        else
            decide_remove(r, res);
    }
}

/* ---- errors ---- */

static void tell_conflicts(struct file *f)
{
    struct manifest *m = &f->manifest;
    manifest_drop_among(m);
    for (size_t i = 0; i < f->n_defs; i++) {
        const struct resource *res = f->defs[i].res;
        if (res && res->owner && res->owner != f)
            manifest_add_among(m, i, "id", "%s \"%s\" is already defined in %s:%u", resource_kind_name(res->kind),
                               res->id, res->owner->path, res->line);
        else if (res && res->loop && res->owner)
            manifest_warn_among(m, i, res->loop);
    }
    manifest_sort_errors(m);
    f->stale = false;
}

static bool any_told(const struct file *f)
{
    const struct resource *res;
    DL_FOREACH2(f->owned, res, onext)
    {
        if (res->told)
            return true;
    }
    return false;
}

/* Whether the line of a resource has just said it; where it is not known whose the error is, it is everybody's. */
static bool is_told(const struct file *f, const struct manifest_error *e)
{
    const struct resource *res = e->entry < f->n_defs ? f->defs[e->entry].res : NULL;
    return res ? res->told && res->owner == f : any_told(f);
}

/* One line a change of a file's errors, for what no line of a resource says. */
static void log_errors(struct file *f)
{
    const struct manifest *m = &f->manifest;
    _cleanup_(freep) char *first = NULL;
    uint64_t digest = 0;
    size_t n = 0;
    for (size_t i = 0; i < m->n_errors; i++) {
        if (m->errors[i].warning)
            continue;
        _cleanup_(freep) char *text = manifest_error_text(m, &m->errors[i]);
        digest = hash_bytes(digest, text, strlen(text) + 1);
        if (is_told(f, &m->errors[i]))
            continue;
        if (n++ == 0)
            first = steal(&text);
    }
    if (digest == f->reported)
        return;
    if (n > 1)
        log_warning(AREA, "%s (and %zu more)", first, n - 1);
    else if (n > 0)
        log_warning(AREA, "%s", first);
    else if (digest == 0 && f->present && !any_told(f))
        log_info(AREA, "%s: no errors any more", f->path);
    f->reported = digest;
}

/* ---- loops ---- */

static void tell_loop(void *ctx, const char *trigger_id, const char *text)
{
    struct reconcile *r = ctx;
    struct resource *res = resource_find(r, RESOURCE_TRIGGER, trigger_id);
    if (!res)
        return;
    free(res->loop);
    res->loop = xstrdup0(text);
    if (!res->owner)
        return;
    res->owner->stale = true;
    file_attend(r, res->owner);
    if (text)
        log_warning(AREA, "%s:%u: %s", res->owner->path, res->line, text);
    else
        log_info(AREA, "%s:%u: trigger \"%s\" is in no loop any more", res->owner->path, res->line, res->id);
}

/* ---- the end of a pass ---- */

static void finish_files(struct reconcile *r)
{
    for (size_t i = 0; i < r->n_attended; i++) {
        struct file *f = r->attended[i];
        bool told = f->stale || f->changed;
        if (told)
            tell_conflicts(f);
        if (told)
            log_errors(f);
        f->changed = f->attended = false;
        file_reap(r, f);
    }
    free(steal(&r->attended)); /* it may have been all of them */
    r->n_attended = r->attended_cap = 0;
}

static void finish_resources(struct reconcile *r, struct state_batch *batch)
{
    struct resource *res, *next;
    for (res = r->touched; res; res = next) {
        next = res->tnext;
        res->touched = res->told = false;
        if (res->save && res->owner)
            state_put(batch, res);
        else if (res->save)
            state_delete(batch, res);
        res->save = res->deleted = false;
        resource_reap(r, res);
    }
    r->touched = NULL;
}

void apply_results(struct reconcile *r, struct read_job *jobs, size_t n, const struct dir_look *looks)
{
    int64_t now = reconcile_now(r);
    struct state_batch batch = {.r = r};
    bool all = looks != NULL;
    if (looks)
        take_looks(r, looks, now);
    for (size_t i = 0; i < n; i++)
        take_result(r, &jobs[i], now);
    if (looks)
        judge_dirs(r);
    decide_kind(r, RESOURCE_MCP_SERVER, now);
    decide_kind(r, RESOURCE_PIPELINE, now);
    decide_kind(r, RESOURCE_TRIGGER, now);
    remove_due(r, RESOURCE_TRIGGER, now, all);
    remove_due(r, RESOURCE_PIPELINE, now, all);
    remove_due(r, RESOURCE_MCP_SERVER, now, all);
    loops_update(r->loops, tell_loop, r);
    finish_files(r);
    finish_resources(r, &batch);
    state_submit(&batch);
    bool first = !r->first_done;
    r->first_done = true;
    if (first && r->options.first)
        r->options.first(r->options.ctx);
    if (r->options.changed)
        r->options.changed(r->options.ctx);
    if (first && r->puts)
        loop_defer(r->loop, &r->put_task);
}
