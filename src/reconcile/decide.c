/* One resource: which document it follows, and what the engine is told of it.
 *
 *   owner's document is good                         → runs as it says
 *   owner's document is bad, or may be a bad one     → goes on as it last was good, Accepted=False
 *   owner's document is gone, its directory is not   → a good document elsewhere takes over; else a bad one; else the
 *                                                      resource is missing, and deleted after the grace (where a
 *                                                      view deleted it, at once, and no bad one is asked)
 *   the directory cannot be trusted                  → goes on, ManifestsReachable=False
 */
#include "reconcile/internal.h"

#include "base/log.h"

struct def *def_of(const struct resource *res, const struct file *f)
{
    struct def *def, *found = NULL;
    DL_FOREACH (res->defs, def)
        if (def->file == f && (!found || def->good > found->good))
            found = def;
    return found;
}

bool file_speaks_for(const struct file *f, const struct resource *res)
{
    return f->present && (f->unclear || def_of(res, f));
}

/* ---- what the engine is told ---- */

static void tell_put(struct reconcile *r, struct resource *res, const struct manifest_entry *e)
{
    if (e->trigger)
        loops_put_trigger(r->loops, e->trigger);
    else if (e->pipeline)
        loops_put_pipeline(r->loops, e->pipeline);
    if (res->kind == RESOURCE_TRIGGER)
        engine_put_trigger(r->engine, e->trigger, res->owner->origin, res->line);
    else if (res->kind == RESOURCE_MCP_SERVER)
        mcp_servers_put(r->options.mcp, e->server, res->owner->origin, res->line);
    else
        engine_put_pipeline(r->engine, e->pipeline, res->owner->origin, res->line);
    res->running = true;
    free(res->rejected);
    res->rejected = NULL;
}

static void tell_rejected(struct reconcile *r, struct resource *res, const char *message)
{
    if (streq(res->rejected, message))
        return;
    free(res->rejected);
    res->rejected = xstrdup0(message);
    tell_refused(res, message);
    res->told = true;
    if (res->kind == RESOURCE_TRIGGER)
        engine_trigger_rejected(r->engine, res->id, message);
    else if (res->kind == RESOURCE_MCP_SERVER)
        mcp_servers_rejected(r->options.mcp, res->id, message);
    else
        engine_pipeline_rejected(r->engine, res->id, message);
}

bool is_foreign(const struct reconcile *r, const struct resource *res)
{
    const struct dir *d = res->owner->dir;
    return d && d->here && res->dev && res->dev != d->dev && (r->first_done || !d->found);
}

static void tell_reachable(struct reconcile *r, struct resource *res, const struct dir *gone)
{
    if (!gone && !res->unreachable)
        return;
    res->unreachable = gone != NULL;
    if (res->kind != RESOURCE_TRIGGER)
        return;
    _cleanup_(freep) char *message =
        gone ? xasprintf("%s: %s", gone->path,
                         gone->trouble ? gone->trouble : "the directory is on another device than before")
             : NULL;
    engine_trigger_condition(r->engine, res->id, "ManifestsReachable", gone ? CONDITION_FALSE : CONDITION_TRUE,
                             gone ? "DirectoryUnreachable" : "Reachable", message);
}

/* ---- outcomes ---- */

static void not_missing(struct reconcile *r, struct resource *res)
{
    if (res->due_ms >= 0)
        DL_DELETE2(r->missing, res, mprev, mnext);
    res->due_ms = -1;
}

/* What names it elsewhere is in error because of it, or not any more. */
static void others_stale(struct reconcile *r, struct resource *res)
{
    struct def *def;
    DL_FOREACH (res->defs, def) {
        if (def->file == res->owner)
            continue;
        def->file->stale = true;
        file_attend(r, def->file);
    }
}

static void own(struct reconcile *r, struct resource *res, struct file *owner)
{
    if (res->owner)
        file_attend(r, res->owner);
    resource_own(res, owner);
}

static void run_def(struct reconcile *r, struct resource *res, struct def *def)
{
    struct file *f = def->file;
    const struct manifest_entry *e = &f->manifest.entries[def->entry];
    const char *text = f->text + e->start;
    size_t len = e->end - e->start;
    bool same_text = res->text && res->len == len && memcmp(res->text, text, len) == 0;
    bool same_place = res->owner == f && res->line == e->line;
    struct change change = {0};
    not_missing(r, res);
    if (res->owner != f) {
        f->stale = true;
        file_attend(r, f);
    }
    change_find(&change, r, res, f, e);
    res->told = res->told || change.accepted;
    own(r, res, f);
    resource_borrow_text(res, text, len);
    res->line = e->line;
    if (!same_place)
        others_stale(r, res);
    bool same_dir = !f->dir || !f->dir->here || (res->dev == f->dir->dev && res->ino == f->dir->ino);
    if (!same_dir) {
        res->dev = f->dir->dev;
        res->ino = f->dir->ino;
    }
    res->save = res->save || !same_text || !same_place || !same_dir;
    res->lost = false;
    tell_change(res, &change);
    if (!res->running || !same_text || !same_place || res->rejected)
        tell_put(r, res, e);
}

/* From an earlier life, and its document is not good now: as it last was. */
static void revive(struct reconcile *r, struct resource *res)
{
    struct manifest m;
    manifest_parse(res->owner->path, res->text, res->len, &m);
    for (size_t i = 0; i < m.n_entries && !res->running; i++) {
        const struct manifest_entry *e = &m.entries[i];
        if (!e->bad && e->kind == res->kind && streq(e->id, res->id))
            tell_put(r, res, e);
    }
    if (!res->running) {
        _cleanup_(freep) char *why = m.n_errors > 0 ? manifest_error_text(&m, &m.errors[0]) : NULL;
        log_error(AREA, "%s \"%s\" cannot go on as it was: %s", resource_kind_name(res->kind), res->id,
                  why ? why : "its text is another resource's");
        res->lost = true;
    }
    manifest_fini(&m);
}

/* As it was; `message` why not as its file says, or NULL: its file says nothing. */
static void keep(struct reconcile *r, struct resource *res, const char *message)
{
    not_missing(r, res);
    if (!res->running && !res->lost)
        revive(r, res);
    if (res->running && message)
        tell_rejected(r, res, message);
}

void decide_remove(struct reconcile *r, struct resource *res)
{
    not_missing(r, res);
    others_stale(r, res);
    if (res->kind == RESOURCE_TRIGGER)
        loops_remove_trigger(r->loops, res->id);
    else if (res->kind == RESOURCE_PIPELINE)
        loops_remove_pipeline(r->loops, res->id);
    if (res->running) {
        tell_deleted(res);
        if (res->kind == RESOURCE_TRIGGER)
            engine_remove_trigger(r->engine, res->id);
        else if (res->kind == RESOURCE_MCP_SERVER)
            mcp_servers_remove(r->options.mcp, res->id);
        else
            engine_remove_pipeline(r->engine, res->id);
    }
    res->running = res->lost = res->unreachable = false;
    own(r, res, NULL);
    res->save = true; /* that there is nothing */
    resource_copy_text(res, NULL, 0);
    free(res->rejected);
    res->rejected = NULL;
    resource_touch(r, res);
}

static void miss(struct reconcile *r, struct resource *res, int64_t now)
{
    int64_t due = res->deleted || !res->running ? now : now + r->delays.grace_ms;
    if (res->due_ms >= 0 && res->due_ms <= due)
        return;
    not_missing(r, res);
    res->due_ms = due;
    DL_APPEND2(r->missing, res, mprev, mnext);
}

/* ---- the decision ---- */

/* The error that says why the file, or this document of it, was not taken. */
static char *first_error(const struct file *f, const struct def *def)
{
    const struct manifest *m = &f->manifest;
    for (size_t i = 0; i < m->n_errors; i++) {
        const struct manifest_error *e = &m->errors[i];
        size_t entry = e->entry;
        bool fits = def ? entry == def->entry : entry >= f->n_defs || !f->defs[entry].res || f->defs[entry].doubt;
        if (!e->warning && fits)
            return manifest_error_text(m, e);
    }
    return xasprintf("%s is in error", f->path);
}

/* The document that follows the owner's: of the file that was loaded first. */
static struct def *next_def(const struct resource *res, bool good)
{
    struct def *def, *found = NULL;
    DL_FOREACH (res->defs, def)
        if (def->good == good && def->file != res->owner && (!found || def->file->order < found->file->order))
            found = def;
    return found;
}

static void decide_gone(struct reconcile *r, struct resource *res, int64_t now)
{
    struct file *owner = res->owner, *to = owner->renamed_to ? file_find(r, owner->renamed_to) : NULL;
    struct dir *d = owner->dir;
    struct def *def = next_def(res, true);
    bool trusted = !d || res->deleted || (d->trusted && !is_foreign(r, res));
    if (def && (trusted || def->file->dir == d)) {
        run_def(r, res, def);
        return;
    }
    if (!trusted) {
        keep(r, res, NULL);
        return;
    }
    def = next_def(res, false);
    bool renamed = !owner->present && to && to->present && to->unclear;
    if (res->deleted || (!def && !renamed)) {
        miss(r, res, now);
        return;
    }
    others_stale(r, res);
    own(r, res, def ? def->file : to);
    res->save = true;
    _cleanup_(freep) char *why = first_error(res->owner, def);
    keep(r, res, why);
}

static void follow(struct reconcile *r, struct resource *res, int64_t now)
{
    struct file *owner = res->owner;
    struct def *def = owner ? def_of(res, owner) : next_def(res, true);
    if (!owner && !def)
        return; /* nothing good was ever heard of it */
    if (def && def->good) {
        run_def(r, res, def);
    } else if (def || (owner->unclear && !res->deleted)) {
        _cleanup_(freep) char *why = first_error(owner, def);
        keep(r, res, why);
    } else {
        decide_gone(r, res, now);
    }
}

void decide(struct reconcile *r, struct resource *res, int64_t now)
{
    follow(r, res, now);
    const struct file *owner = res->owner;
    if (!owner)
        return;
    const struct dir *d = owner->dir;
    bool has_document = file_speaks_for(owner, res);
    bool out_of_reach = d && ((!d->trusted && (!d->here || !has_document)) || (!has_document && is_foreign(r, res)));
    tell_reachable(r, res, out_of_reach ? d : NULL);
}
