/* Edits by the views: one at a time, in the order they came.
 *
 *   queued ─► prepare (pool: read, edit, parse) ─► check ids (loop) ─► write (pool) ─► apply (loop) ─► done
 *                 ▲                                                      │
 *                 └───────── the file changed under a resource's edit ───┘
 *
 * What is written is applied as if it had been read; the watch's echo of it then finds nothing new.
 */
#include "reconcile/internal.h"

#include "manifest/edit.h"
#include "reconcile/write.h"

#include <errno.h>

#define TRIES_MAX 5

enum put_sort {
    PUT_WRITE,
    PUT_CHECK, /* only say what a write would */
    PUT_LOOK,  /* the caller has written: read */
};

struct put {
    struct reconcile *r;
    struct put *prev, *next;
    enum put_sort sort;
    /* asked: a file, or where `id` is set a resource */
    char *path;       /* of a resource, or a new file: found when its turn comes */
    char *dir, *stem; /* of a new file */
    char *besides;    /* a file whose ids are not taken */
    char *text;       /* NULL: delete */
    size_t len;
    enum resource_kind kind;
    char *id;
    uint64_t base; /* what the resource's document must be now, by its digest; 0: any */
    put_done_fn *done;
    void *ctx;
    struct put_set *set; /* several resources in one go: put_set.c does it all; NULL: one file, as follows */
    /* under way */
    struct file *file;
    struct loop_work work;
    struct write_target target;
    struct read_job looks[2]; /* of a LOOK; path NULL: none */
    char *whole;              /* the file's new text; NULL: it goes */
    size_t whole_len;
    struct manifest manifest; /* of the new text */
    bool parsed;
    struct manifest applied; /* the same once more, for the file */
    size_t entry;            /* of the resource in it */
    bool base_known;         /* the text that a resource's edit began with */
    uint64_t base_hash;
    unsigned tries, number; /* of a new file's names */
    int code;
    char *message;
};

static void put_next(struct reconcile *r)
{
    if (r->puts && !r->putting && r->first_done && !r->closing)
        loop_defer(r->loop, &r->put_task);
}

static void put_free(struct put *p)
{
    if (p->parsed)
        manifest_fini(&p->manifest);
    manifest_fini(&p->applied);
    free(p->path);
    free(p->dir);
    free(p->stem);
    free(p->besides);
    free(p->text);
    free(p->id);
    free(p->whole);
    free(p->message);
    free(p);
}

static void put_answer(struct put *p)
{
    const struct put_result result = {
        .code = p->code, .message = p->message, .manifest = p->parsed ? &p->manifest : NULL};
    DL_DELETE(p->r->puts, p);
    p->r->putting = false;
    if (p->done)
        p->done(p->ctx, &result);
    put_next(p->r);
    put_free(p);
}

static int fail(struct put *p, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int fail(struct put *p, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    free(p->message);
    p->message = xvasprintf(format, args);
    va_end(args);
    p->code = code;
    return code;
}

/* ---- prepare, on the pool ---- */

static void set_whole(struct put *p, char *text, size_t len)
{
    free(p->whole);
    p->whole = text;
    p->whole_len = len;
}

static void parse_whole(struct put *p)
{
    if (p->parsed)
        manifest_fini(&p->manifest);
    manifest_parse(p->path, p->whole, p->whole_len, &p->manifest);
    p->parsed = true;
}

/* The message of the first error that no warning is. */
static int fail_by_manifest(struct put *p, size_t entry)
{
    for (size_t i = 0; i < p->manifest.n_errors; i++) {
        const struct manifest_error *e = &p->manifest.errors[i];
        if (e->warning || (entry != SIZE_MAX && e->entry != entry))
            continue;
        _cleanup_(freep) char *text = manifest_error_text(&p->manifest, e);
        return fail(p, -EINVAL, "%s", text);
    }
    return fail(p, -EINVAL, "%s: the text is not valid", p->path);
}

static void prepare_file(struct put *p)
{
    if (!p->text)
        return;
    set_whole(p, xmemdup(p->text, p->len + 1), p->len);
    parse_whole(p);
    if (p->manifest.n_wrong > 0)
        fail_by_manifest(p, SIZE_MAX);
}

static size_t find_entry(const struct put *p, const struct manifest *m)
{
    size_t found = SIZE_MAX;
    for (size_t i = m->n_entries; i-- > 0;)
        if (m->entries[i].kind == p->kind && streq(m->entries[i].id, p->id) &&
            (found == SIZE_MAX || !m->entries[i].bad))
            found = i;
    return found;
}

/* The file's text with the resource's document replaced or taken out. */
static int edit_document(struct put *p, const struct read_job *now)
{
    enum document_format format = DOCUMENT_YAML;
    struct error err = ERROR_INIT;
    char *edited;
    size_t len;
    p->entry = find_entry(p, &now->manifest);
    if (p->entry == SIZE_MAX)
        return fail(p, -EINVAL, "%s: the document of %s \"%s\" cannot be found in it", p->path,
                    resource_kind_name(p->kind), p->id);
    const struct manifest_entry *e = &now->manifest.entries[p->entry];
    if (p->base && p->base != text_digest(now->text + e->start, e->end - e->start))
        return fail(p, -ESTALE, "%s \"%s\" was changed meanwhile", resource_kind_name(p->kind), p->id);
    document_format_by_name(p->path, &format);
    int rc = p->text ? edit_replace(now->text, now->len, format, p->entry, p->text, p->len, &edited, &len, &err)
                     : edit_delete(now->text, now->len, format, p->entry, &edited, &len, &err);
    if (rc < 0)
        return fail(p, rc == -ENOTSUP ? -EINVAL : rc, "%s: %s", p->path, err.message);
    set_whole(p, edited, len);
    if (!p->text && len == 0)
        set_whole(p, NULL, 0);
    return 0;
}

/* Is the entry the resource's? */
static bool expect_id(struct put *p, size_t entry)
{
    const struct manifest_entry *e = &p->manifest.entries[entry];
    if (e->kind == p->kind && streq(e->id, p->id))
        return true;
    manifest_add_among(&p->manifest, entry, "id", "expected %s \"%s\", got %s \"%s\"", resource_kind_name(p->kind),
                       p->id, resource_kind_name(e->kind), e->id);
    return false;
}

static void check_edited(struct put *p)
{
    parse_whole(p);
    if (!p->text)
        return;
    struct manifest *m = &p->manifest;
    if (p->entry >= m->n_entries || m->entries[p->entry].bad) {
        fail_by_manifest(p, p->entry);
        return;
    }
    if (!expect_id(p, p->entry))
        fail_by_manifest(p, p->entry);
}

/* The text by itself: one good document of this resource. */
static void check_own(struct put *p)
{
    enum document_format format = DOCUMENT_YAML;
    document_format_by_name(p->path ? p->path : "", &format);
    manifest_parse(format == DOCUMENT_JSON ? "manifest.json" : "manifest.yaml", p->text, p->len, &p->manifest);
    p->parsed = true;
    struct manifest *m = &p->manifest;
    if (m->n_wrong == 0 && m->n_entries > 1)
        manifest_add_among(m, 1, "", "expected one document, got %zu", m->n_entries);
    else if (m->n_wrong == 0 && m->n_entries == 1)
        expect_id(p, 0);
    if (m->n_wrong > 0 || m->n_entries == 0)
        fail_by_manifest(p, SIZE_MAX);
}

static void prepare_resource(struct put *p)
{
    if (p->sort == PUT_CHECK)
        check_own(p);
    if (p->code < 0 || !p->path)
        return;
    struct read_job now = {.path = p->path};
    read_job_run(&now);
    if (now.status == READ_GONE)
        fail(p, -ENOENT, "%s is gone", p->path);
    else if (now.status == READ_ERROR)
        fail(p, -EROFS, "%s: %s", p->path, now.manifest.errors[0].message);
    p->base_known = now.status == READ_TEXT;
    p->base_hash = now.hash;
    if (p->code == 0 && edit_document(p, &now) == 0 && p->whole)
        check_edited(p);
    read_job_fini(&now);
}

static void look_at_files(struct put *p)
{
    for (size_t i = 0; i < ARRAY_SIZE(p->looks); i++)
        if (p->looks[i].path)
            read_job_run(&p->looks[i]);
}

static void prepare(void *ctx)
{
    struct put *p = ctx;
    if (p->sort == PUT_LOOK)
        look_at_files(p);
    else if (p->id)
        prepare_resource(p);
    else
        prepare_file(p);
}

/* ---- write, on the pool ---- */

static void write_it(void *ctx)
{
    struct put *p = ctx;
    struct error err = ERROR_INIT;
    int rc = p->base_known ? write_check(p->path, p->base_hash, &err) : 0;
    if (rc == 0)
        rc = p->whole ? write_file(&p->target, p->whole, p->whole_len, &err) : write_delete(&p->target, &err);
    if (rc < 0)
        fail(p, rc, "%s", err.message);
    else if (p->whole)
        manifest_parse(p->path, p->whole, p->whole_len, &p->applied);
}

/* ---- the loop's part ---- */

static void release_looks(struct put *p)
{
    for (size_t i = 0; i < ARRAY_SIZE(p->looks); i++) {
        struct read_job *job = &p->looks[i];
        if (!job->path)
            continue;
        job->file->busy--;
        file_reap(p->r, job->file);
        read_job_fini(job);
        job->path = NULL;
    }
}

static void release_file(struct put *p)
{
    release_looks(p);
    if (!p->file)
        return;
    p->file->busy--;
    file_reap(p->r, p->file);
    p->file = NULL;
}

static void put_end(struct put *p)
{
    struct reconcile *r = p->r;
    release_file(p);
    put_answer(p);
    loop_group_release(&r->group);
}

/* What is asked to go: one resource, or all of the file. */
static void mark_deleted(const struct put *p)
{
    struct resource *res;
    DL_FOREACH2(p->file->owned, res, onext)
    {
        if (p->text || (p->id && (res->kind != p->kind || !streq(res->id, p->id))))
            continue;
        res->deleted = true;
        resource_touch(p->r, res);
    }
}

static void take_over(struct put *p)
{
    struct reconcile *r = p->r;
    struct file *f = p->file;
    struct read_job job = {
        .file = f,
        .path = f->path,
        .status = p->whole ? READ_TEXT : READ_GONE,
        .text = p->whole ? xmemdup(p->whole, p->whole_len + 1) : NULL,
        .len = p->whole_len,
        .hash = hash_bytes(0, p->whole ? p->whole : "", p->whole_len),
        .manifest = p->applied,
        .is_link = f->is_link,
    };
    if (p->whole)
        provenance_changed(r, f, ORIGIN_DIRTY);
    bool waiting = f->dirty; /* events came: it is read again, and found to be the same */
    p->applied = (struct manifest){0};
    job.epoch = ++f->epoch;
    f->busy--;
    mark_deleted(p);
    apply_results(r, &job, 1, NULL);
    read_job_fini(&job);
    p->file = NULL; /* it may have been freed with its last document */
    if (r->closing)
        return;
    if (waiting)
        file_mark_dirty(r, file_get(r, p->path));
    if (waiting)
        watch_burst(r);
    watch_schedule(r);
}

/* What was read counts as of now; where events came meanwhile it is read once more. */
static void looked(struct put *p)
{
    struct reconcile *r = p->r;
    struct read_job jobs[ARRAY_SIZE(p->looks)];
    char *again[ARRAY_SIZE(p->looks)] = {0};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(p->looks); i++) {
        struct read_job *job = &p->looks[i];
        if (!job->path)
            continue;
        if (job->file->dirty)
            again[n] = xstrdup(job->path);
        job->epoch = ++job->file->epoch;
        job->file->busy--;
        job->path = NULL;
        jobs[n++] = *job;
    }
    apply_results(r, jobs, n, NULL);
    for (size_t i = 0; i < n; i++) {
        read_job_fini(&jobs[i]);
        if (again[i] && !r->closing) {
            file_mark_dirty(r, file_get(r, again[i]));
            watch_burst(r);
        }
        free(again[i]);
    }
    if (!r->closing)
        watch_schedule(r);
}

static void prepared(void *ctx);

static void name_file(struct put *p)
{
    free(p->path);
    p->path = NULL; /* not on its way any more */
    p->path = put_free_path(p->r, p->dir, p->stem, "yaml", &p->number);
}

static void put_start(struct put *p)
{
    struct reconcile *r = p->r;
    if (p->sort != PUT_LOOK && p->path) {
        p->file = file_get(r, p->path);
        p->file->busy++;
        p->target = (struct write_target){.path = p->path,
                                          .top = p->file->dir->path,
                                          .is_link = p->file->present && p->file->is_link,
                                          .fresh = p->dir != NULL};
    }
    loop_work_submit(r->loop, &p->work, prepare, prepared, p);
}

static void written(void *ctx)
{
    struct put *p = ctx;
    struct reconcile *r = p->r;
    if (r->closing)
        fail(p, -ESHUTDOWN, "triggerd is stopping");
    if (p->code == -EAGAIN && ++p->tries < TRIES_MAX) {
        p->code = 0;
        loop_work_submit(r->loop, &p->work, prepare, prepared, p);
        return;
    }
    if (p->code == -EEXIST && p->dir && ++p->tries < TRIES_MAX) { /* somebody has just made it */
        p->code = 0;
        p->number++;
        release_file(p);
        name_file(p);
        put_start(p);
        return;
    }
    if (p->code == 0)
        take_over(p);
    put_end(p);
}

/* Ids of the new text that are another file's. */
static void check_ids(struct put *p)
{
    struct manifest *m = &p->manifest;
    if (p->id && !p->text) /* what stays in the file was there before */
        return;
    for (size_t i = 0; p->parsed && i < m->n_entries; i++) {
        struct manifest_entry *e = &m->entries[i];
        const struct resource *res = e->id && !e->bad ? resource_find(p->r, e->kind, e->id) : NULL;
        if (!res || !res->owner || res->owner == p->file || res->due_ms >= 0 || (p->id && i != p->entry) ||
            streq(res->owner->path, p->besides))
            continue;
        fail(p, -EEXIST, "%s \"%s\" is already defined in %s:%u", resource_kind_name(e->kind), e->id, res->owner->path,
             res->line);
        manifest_add_among(m, i, "id", "%s", p->message);
    }
}

/* Nothing would change, not even on disk. */
static bool is_known(const struct put *p)
{
    const struct file *f = p->file;
    return p->whole && f->present && f->text && !f->dirty && f->len == p->whole_len &&
           memcmp(f->text, p->whole, f->len) == 0;
}

static void prepared(void *ctx)
{
    struct put *p = ctx;
    if (p->r->closing)
        fail(p, -ESHUTDOWN, "triggerd is stopping");
    if (p->code == 0 && p->sort == PUT_LOOK) {
        looked(p);
        put_end(p);
        return;
    }
    if (p->code == 0)
        check_ids(p);
    if (p->code < 0 || p->sort == PUT_CHECK || is_known(p)) {
        put_end(p);
        return;
    }
    loop_work_submit(p->r->loop, &p->work, write_it, written, p);
}

bool put_name_ok(const char *name)
{
    for (const char *slash; (slash = strchr(name, '/')); name = slash + 1)
        if (name[0] == '.' || name == slash)
            return false;
    return manifest_name_ok(name) && utf8_valid(name, strlen(name));
}

/* Below a manifest directory, and a name that the watch reads. */
static int check_path(struct put *p)
{
    const struct dir *d = dir_of(p->r, p->path);
    if (!d)
        return fail(p, -EINVAL, "%s is below no manifest directory", p->path);
    if (!put_name_ok(p->path + d->path_len + 1) || !utf8_valid(p->path, strlen(p->path)))
        return fail(p, -EINVAL, "%s is no manifest's name; expected *.yaml, *.yml or *.json, not hidden", p->path);
    return 0;
}

static bool begin_look(struct put *p)
{
    struct reconcile *r = p->r;
    bool any = false;
    for (size_t i = 0; i < ARRAY_SIZE(p->looks); i++) {
        struct read_job *job = &p->looks[i];
        char *path = i == 0 ? p->path : p->text;
        const struct dir *d = path ? dir_of(r, path) : NULL;
        if (!d || !d->here || !d->scanned || !watch_path_ok(path + d->path_len + 1))
            continue;
        struct file *f = file_get(r, path);
        *job = (struct read_job){.file = f,
                                 .path = f->path,
                                 .avoid = r->options.avoid,
                                 .known = f->text != NULL,
                                 .hash = f->hash,
                                 .len = f->len};
        f->busy++;
        any = true;
    }
    return any;
}

/* What can be said without a look at the disk. True: there is more to do. */
static bool begin(struct put *p)
{
    struct reconcile *r = p->r;
    if (p->sort == PUT_LOOK)
        return begin_look(p);
    if (p->dir)
        name_file(p);
    if (!p->id)
        return check_path(p) == 0;
    struct resource *res = resource_find(r, p->kind, p->id);
    if ((!res || !res->owner) && p->sort == PUT_CHECK)
        return true;
    if (!res || !res->owner) {
        fail(p, -ENOENT, "there is no %s \"%s\"", resource_kind_name(p->kind), p->id);
        return false;
    }
    struct file *f = res->owner;
    p->path = xstrdup(f->path);
    if (f->present && f->dir && f->dir->here)
        return true;
    if (p->text || (f->dir && !f->dir->here)) {
        fail(p, -EROFS, "%s cannot be reached", f->path);
        return false;
    }
    /* Kept though it has no document (its directory came back as another): nothing is left to edit. */
    res->deleted = true;
    resource_touch(r, res);
    apply_results(r, NULL, 0, NULL);
    return false;
}

void put_run(void *ctx)
{
    struct reconcile *r = ctx;
    struct put *p = r->puts;
    if (!p || r->putting || r->closing || !r->first_done)
        return;
    r->putting = true;
    if (p->set) {
        loop_group_hold(&r->group);
        put_set_run(p->set);
        return;
    }
    if (!begin(p)) {
        put_answer(p);
        return;
    }
    loop_group_hold(&r->group);
    put_start(p);
}

static void put_queue(struct reconcile *r, struct put *p)
{
    DL_APPEND(r->puts, p);
    put_next(r);
}

static struct put *put_new(struct reconcile *r, const char *text, size_t len, put_done_fn *done, void *ctx)
{
    struct put *p = xcalloc(1, sizeof(*p));
    p->r = r;
    if (text) {
        p->text = xmalloc(len + 1);
        memcpy(p->text, text, len);
        p->text[len] = '\0';
    }
    p->len = len;
    p->done = done;
    p->ctx = ctx;
    return p;
}

void reconcile_put_file(struct reconcile *r, const char *path, const char *text, size_t len, put_done_fn *done,
                        void *ctx)
{
    struct put *p = put_new(r, text, len, done, ctx);
    p->path = xstrdup(path);
    put_queue(r, p);
}

void reconcile_create_file(struct reconcile *r, const char *dir, const char *id, const char *text, size_t len,
                           put_done_fn *done, void *ctx)
{
    struct put *p = put_new(r, text, len, done, ctx);
    p->dir = xstrdup(dir);
    p->stem = xstrdup(id);
    p->number = 1;
    put_queue(r, p);
}

void reconcile_put_resource(struct reconcile *r, enum resource_kind kind, const char *id, const char *text, size_t len,
                            uint64_t base, put_done_fn *done, void *ctx)
{
    struct put *p = put_new(r, text, len, done, ctx);
    p->kind = kind;
    p->base = base;
    p->id = xstrdup(id);
    put_queue(r, p);
}

void put_set_queue(struct reconcile *r, struct put_set *set)
{
    struct put *p = put_new(r, NULL, 0, NULL, NULL);
    p->set = set;
    put_queue(r, p);
}

void put_set_ended(struct reconcile *r)
{
    put_answer(r->puts);
    loop_group_release(&r->group);
}

void reconcile_check_file(struct reconcile *r, const char *path, const char *besides, const char *text, size_t len,
                          put_done_fn *done, void *ctx)
{
    struct put *p = put_new(r, text, len, done, ctx);
    p->besides = xstrdup0(besides);
    p->sort = PUT_CHECK;
    p->path = xstrdup(path);
    put_queue(r, p);
}

void reconcile_check_resource(struct reconcile *r, enum resource_kind kind, const char *id, const char *text,
                              size_t len, put_done_fn *done, void *ctx)
{
    struct put *p = put_new(r, text, len, done, ctx);
    p->sort = PUT_CHECK;
    p->kind = kind;
    p->id = xstrdup(id);
    put_queue(r, p);
}

void reconcile_look(struct reconcile *r, const char *path, const char *other, put_done_fn *done, void *ctx)
{
    struct put *p = put_new(r, other, other ? strlen(other) : 0, done, ctx);
    p->sort = PUT_LOOK;
    p->path = xstrdup(path);
    put_queue(r, p);
}

static bool queued_for(const struct reconcile *r, const char *path)
{
    const struct put *p;
    DL_FOREACH (r->puts, p)
        if ((p->path && streq(p->path, path)) || (p->set && put_set_has(p->set, path)))
            return true;
    return false;
}

char *put_free_path(struct reconcile *r, const char *dir, const char *id, const char *end, unsigned *number)
{
    for (;; ++*number) {
        char *path =
            *number == 1 ? xasprintf("%s/%s.%s", dir, id, end) : xasprintf("%s/%s-%u.%s", dir, id, *number, end);
        const struct file *f = file_find(r, path);
        if (!(f && (f->present || f->owned)) && !queued_for(r, path))
            return path;
        free(path);
    }
}

void put_abandon(struct reconcile *r)
{
    struct put *p, *next;
    loop_task_cancel(r->loop, &r->put_task);
    DL_FOREACH_SAFE (r->puts, p, next) {
        if (r->putting && p == r->puts)
            continue; /* answered when its work is done */
        fail(p, -ESHUTDOWN, "triggerd is stopping");
        const struct put_result result = {.code = p->code, .message = p->message};
        DL_DELETE(r->puts, p);
        if (p->set)
            put_set_abandon(p->set);
        else if (p->done)
            p->done(p->ctx, &result);
        put_free(p);
    }
}
