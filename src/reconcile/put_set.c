/* Several resources in one go: all of them, or none.
 *
 *   queued ─► plan (loop: which file each lives in) ─► prepare (pool: read, splice, parse) ─► check ids (loop)
 *                                       ▲                                                          │
 *                                       └────────────── a file changed meanwhile ─── write (pool) ◄┘
 *                                                                                        │
 *                                                              done ◄─ apply, one step (loop)
 *
 * Writing goes in two steps: every text to a temporary file, then every rename; where one fails, those before it are
 * put back.
 */
#include "reconcile/internal.h"

#include "manifest/edit.h"
#include "manifest/yaml_print.h"
#include "reconcile/write.h"

#include <ctype.h>
#include <errno.h>
#include <unistd.h>

#define TRIES_MAX 5

struct part;

/* A resource. */
struct item {
    enum resource_kind kind;
    char *id;
    char *text; /* as it should be, without blank lines around it */
    size_t len;
    enum document_format format;
    size_t whole;      /* index + 1 of the file that it stands in as it should be; 0: it is to be written */
    struct part *part; /* the file it lives in */
    bool is_new;       /* that file is its own, and does not exist */
    char *before;      /* NULL: it does not run */
    char *after;       /* NULL: it is deleted */
    enum put_outcome outcome;
    unsigned line;
    bool edited;            /* its document in the file is another one */
    struct item *same_file; /* the next one of its part */
};

/* A file. */
struct part {
    UT_hash_handle hh;
    struct put_set *set;
    char *path;
    char *given; /* its text as its reader found it: nothing is written; NULL: it is edited */
    size_t given_len;
    struct file *file;
    struct write_target target;
    struct item *items; /* by same_file */
    /* prepared */
    struct read_job now;
    char *whole;
    size_t whole_len;
    struct manifest manifest;
    bool parsed;
    bool differs; /* what is to be from what is on disk */
    /* written */
    struct write_pending pending;
    bool written;
    struct manifest applied;
};

struct put_set {
    struct reconcile *r;
    bool dry_run;
    put_set_fn *done;
    void *ctx;
    struct item *items;
    size_t n, n_asked;
    struct part *parts;
    char **whole_paths, **whole_texts;
    size_t *whole_lens, n_wholes;
    char **dirs;
    size_t n_dirs;
    char *new_dir;
    struct loop_work work;
    unsigned tries;
    int code;
    char *message;
    const struct part *failed; /* whose manifest has the errors; NULL: none */
};

/* ---- failing ---- */

static int fail(struct put_set *s, const struct part *at, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static int fail(struct put_set *s, const struct part *at, int code, const char *format, ...)
{
    va_list args;
    if (s->code < 0) /* the first one is told */
        return s->code;
    va_start(args, format);
    free(s->message);
    s->message = xvasprintf(format, args);
    va_end(args);
    s->failed = at;
    s->code = code;
    return code;
}

/* The first error that no warning is; of one entry, or SIZE_MAX: of any. */
static int fail_by_manifest(struct put_set *s, const struct part *p, size_t entry)
{
    for (size_t i = 0; i < p->manifest.n_errors; i++) {
        const struct manifest_error *e = &p->manifest.errors[i];
        if (e->warning || (entry != SIZE_MAX && e->entry != entry))
            continue;
        _cleanup_(freep) char *text = manifest_error_text(&p->manifest, e);
        return fail(s, p, -EINVAL, "%s", text);
    }
    return fail(s, p, -EINVAL, "%s: the text is not valid", p->path);
}

/* ---- life ---- */

static void part_unprepare(struct part *p)
{
    read_job_fini(&p->now);
    p->now = (struct read_job){0};
    free(steal(&p->whole));
    if (p->parsed)
        manifest_fini(&p->manifest);
    p->parsed = p->differs = false;
}

static void set_free(struct put_set *s)
{
    struct part *p = s->parts, *next;
    HASH_CLEAR(hh, s->parts); /* the table alone; the items stay linked */
    for (; p; p = next) {
        next = p->hh.next;
        part_unprepare(p);
        manifest_fini(&p->applied);
        write_abandon(&p->pending);
        free(p->given);
        free(p->path);
        free(p);
    }
    for (size_t i = 0; i < s->n; i++) {
        free(s->items[i].id);
        free(s->items[i].text);
        free(s->items[i].before);
        free(s->items[i].after);
    }
    for (size_t i = 0; i < s->n_wholes; i++) {
        free(s->whole_paths[i]);
        free(s->whole_texts[i]);
    }
    for (size_t i = 0; i < s->n_dirs; i++)
        free(s->dirs[i]);
    free(s->items);
    free(s->whole_paths);
    free(s->whole_texts);
    free(s->whole_lens);
    free(s->dirs);
    free(s->new_dir);
    free(s->message);
    free(s);
}

static void answer(struct put_set *s)
{
    struct put_change *changes = xcalloc(s->n, sizeof(*changes));
    for (size_t i = 0; i < s->n && s->code == 0; i++) {
        const struct item *it = &s->items[i];
        changes[i] = (struct put_change){.kind = it->kind,
                                         .id = it->id,
                                         .outcome = it->outcome,
                                         .file = it->part ? it->part->path : NULL,
                                         .line = it->line,
                                         .before = it->before,
                                         .after = it->after};
    }
    const struct put_set_result result = {
        .put = {.code = s->code, .message = s->message, .manifest = s->failed ? &s->failed->manifest : NULL},
        .changes = changes,
        .n = s->code == 0 ? s->n : 0};
    s->done(s->ctx, &result);
    free(changes);
    set_free(s);
}

static void end(struct put_set *s)
{
    struct reconcile *r = s->r;
    for (struct part *p = s->parts; p; p = p->hh.next) {
        if (!p->file)
            continue;
        p->file->busy--;
        file_reap(r, p->file);
        p->file = NULL;
    }
    answer(s);
    put_set_ended(r);
}

/* ---- texts ---- */

/* Without blank lines around it. */
static char *trimmed(const char *text, size_t len, size_t *ret_len)
{
    size_t from = 0;
    for (size_t i = 0; i < len && isspace((unsigned char)text[i]); i++)
        if (text[i] == '\n')
            from = i + 1;
    while (len > from && isspace((unsigned char)text[len - 1]))
        len--;
    if (ret_len)
        *ret_len = len - from;
    return xstrndup(text + from, len - from);
}

/* The item's text in the format of the file that it lives in, with as little as possible changed of `own`, its document
 * there. */
static char *text_for(const struct item *it, enum document_format format, const char *own, size_t own_len)
{
    struct document_set set;
    char *text = NULL;
    size_t len = 0;
    if (it->format == format)
        return xstrndup(it->text, it->len);
    document_parse(it->text, it->len, it->format, &set);
    const cJSON *root = set.n_documents > 0 ? set.documents[0].root : NULL;
    if (own && root && edit_update(own, own_len, format, 0, root, &text, &len, NULL) == 0) {
        char *kept = trimmed(text, len, NULL);
        free(text);
        text = kept;
    } else {
        text = format == DOCUMENT_JSON ? value_print_pretty(root) : yaml_print(root);
    }
    document_set_fini(&set);
    return text;
}

/* ---- plan, on the loop ---- */

static struct part *part_get(struct put_set *s, const char *path)
{
    struct part *p;
    HASH_FIND_STR(s->parts, path, p);
    if (p)
        return p;
    p = xcalloc(1, sizeof(*p));
    p->set = s;
    p->path = xstrdup(path);
    HASH_ADD_KEYPTR(hh, s->parts, p->path, strlen(p->path), p);
    return p;
}

bool put_set_has(const struct put_set *s, const char *path)
{
    struct part *p;
    HASH_FIND_STR(s->parts, path, p);
    return p != NULL;
}

static int place(struct put_set *s, struct item *it)
{
    struct resource *res = resource_find(s->r, it->kind, it->id);
    struct file *owner = res ? res->owner : NULL;
    if (res && res->running)
        it->before = trimmed(res->text, res->len, NULL);
    if (it->whole) {
        it->part = part_get(s, s->whole_paths[it->whole - 1]);
    } else if (owner && owner->dir && !owner->dir->here) {
        return fail(s, NULL, -EROFS, "%s cannot be reached", owner->path);
    } else if (owner && owner->present) {
        it->part = part_get(s, owner->path);
    } else {
        const char *dir = s->new_dir ? s->new_dir : reconcile_writable_dir(s->r);
        if (!dir)
            return fail(s, NULL, -EROFS, "no manifest directory is writable");
        unsigned number = 1;
        _cleanup_(freep) char *path =
            put_free_path(s->r, dir, it->id, it->format == DOCUMENT_JSON ? "json" : "yaml", &number);
        it->part = part_get(s, path);
        it->is_new = true;
    }
    it->same_file = it->part->items;
    it->part->items = it;
    return 0;
}

static bool below_dirs(const struct put_set *s, const char *path)
{
    for (size_t i = 0; i < s->n_dirs; i++) {
        size_t n = strlen(s->dirs[i]);
        if (strncmp(path, s->dirs[i], n) == 0 && path[n] == '/')
            return true;
    }
    return false;
}

/* What runs from below the directories, and has no document any more. */
static void add_deleted(struct put_set *s)
{
    struct resource *res;
    if (s->n_dirs == 0)
        return;
    uint64_t mark = ++s->r->marks;
    for (size_t i = 0; i < s->n; i++)
        if ((res = resource_find(s->r, s->items[i].kind, s->items[i].id)))
            res->mark = mark;
    for (res = s->r->resources; res; res = res->hh.next) {
        if (res->mark == mark || !res->running || !res->owner || !below_dirs(s, res->owner->path))
            continue;
        s->items = xreallocarray(s->items, s->n + 1, sizeof(*s->items));
        s->items[s->n++] = (struct item){.kind = res->kind,
                                         .id = xstrdup(res->id),
                                         .before = trimmed(res->text, res->len, NULL),
                                         .outcome = PUT_DELETED};
    }
}

static int plan(struct put_set *s)
{
    for (size_t i = 0; i < s->n_wholes; i++) {
        struct part *p = part_get(s, s->whole_paths[i]);
        p->given = steal(&s->whole_texts[i]);
        p->given_len = s->whole_lens[i];
    }
    for (size_t i = 0; i < s->n_asked; i++)
        if (place(s, &s->items[i]) < 0)
            return s->code;
    for (struct part *p = s->parts; p; p = p->hh.next) {
        p->file = file_get(s->r, p->path);
        p->file->busy++;
        p->target = (struct write_target){.path = p->path,
                                          .top = p->file->dir->path,
                                          .is_link = p->file->present && p->file->is_link,
                                          .fresh = p->items && p->items->is_new};
    }
    return 0;
}

/* ---- prepare, on the pool ---- */

/* The file's text with the documents of `own` (one an entry; NULL: as it is) in the place of theirs. */
static char *spliced(const struct read_job *now, const struct document_set *set, char *const *own,
                     enum document_format format, size_t *ret_len)
{
    struct buf out = {0};
    size_t at = 0;
    for (size_t i = 0; i < set->n_documents; i++) {
        const struct document *doc = &set->documents[i];
        if (!own[i])
            continue;
        buf_add(&out, now->text + at, doc->start - at);
        if (doc->same_line)
            buf_addc(&out, '\n');
        buf_adds(&out, own[i]);
        if (format == DOCUMENT_YAML)
            buf_addc(&out, '\n');
        at = doc->end;
    }
    buf_add(&out, now->text + at, now->len - at);
    *ret_len = out.len;
    return buf_steal(&out);
}

static size_t entry_of(const struct manifest *m, const struct item *it)
{
    size_t found = SIZE_MAX;
    for (size_t i = m->n_entries; i-- > 0;)
        if (m->entries[i].kind == it->kind && streq(m->entries[i].id, it->id) &&
            (found == SIZE_MAX || !m->entries[i].bad))
            found = i;
    return found;
}

/* Each of the other documents must be what it was. */
static int check_others(struct part *p, const struct document_set *before, char *const *own,
                        enum document_format format)
{
    struct document_set after;
    document_parse(p->whole, p->whole_len, format, &after);
    bool same = after.n_documents == before->n_documents;
    for (size_t i = 0; same && i < before->n_documents; i++)
        same = own[i] || value_equal(before->documents[i].root, after.documents[i].root);
    document_set_fini(&after);
    return same ? 0
                : fail(p->set, NULL, -EINVAL, "%s: it cannot be edited without a change of other documents", p->path);
}

static int splice_items(struct part *p, enum document_format format)
{
    struct put_set *s = p->set;
    struct document_set set;
    document_parse(p->now.text, p->now.len, format, &set);
    char **own = xcalloc(set.n_documents + 1, sizeof(*own));
    bool any = false;
    for (struct item *it = p->items; it && s->code == 0; it = it->same_file) {
        it->edited = false;
        size_t i = entry_of(&p->now.manifest, it);
        if (i >= set.n_documents) {
            fail(s, NULL, -EINVAL, "%s: the document of %s \"%s\" cannot be found in it", p->path,
                 resource_kind_name(it->kind), it->id);
            continue;
        }
        const struct document *doc = &set.documents[i];
        const char *there = p->now.text + doc->start;
        size_t len = doc->end - doc->start;
        _cleanup_(freep) char *had = trimmed(there, len, NULL);
        char *text = text_for(it, format, there, len);
        if (streq(had, text)) {
            free(text);
            continue;
        }
        own[i] = text;
        it->edited = any = true;
    }
    p->whole = any ? spliced(&p->now, &set, own, format, &p->whole_len) : xmemdup(p->now.text, p->now.len + 1);
    p->whole_len = any ? p->whole_len : p->now.len;
    if (any && s->code == 0)
        check_others(p, &set, own, format);
    for (size_t i = 0; i < set.n_documents; i++)
        free(own[i]);
    free(own);
    document_set_fini(&set);
    return s->code;
}

/* The file's new text. */
static int make_whole(struct part *p)
{
    struct put_set *s = p->set;
    enum document_format format = DOCUMENT_YAML;
    document_format_by_name(p->path, &format);
    p->now.path = p->path;
    read_job_run(&p->now);
    if (p->now.status == READ_ERROR)
        return fail(s, NULL, -EROFS, "%s: %s", p->path, p->now.manifest.errors[0].message);
    if (p->given) {
        if (p->now.status != READ_TEXT || p->now.len != p->given_len ||
            memcmp(p->now.text, p->given, p->given_len) != 0)
            return fail(s, NULL, -EAGAIN, "%s changes while it is read", p->path);
        p->whole = xmemdup(p->given, p->given_len + 1);
        p->whole_len = p->given_len;
    } else if (p->items->is_new) {
        if (p->now.status != READ_GONE)
            return fail(s, NULL, -EAGAIN, "%s is there already", p->path);
        _cleanup_(freep) char *text = text_for(p->items, format, NULL, 0);
        p->whole = xasprintf("%s\n", text);
        p->whole_len = strlen(p->whole);
    } else if (p->now.status == READ_GONE) {
        return fail(s, NULL, -EAGAIN, "%s is gone", p->path);
    } else if (splice_items(p, format) < 0) {
        return s->code;
    }
    p->differs =
        p->now.status != READ_TEXT || p->now.len != p->whole_len || memcmp(p->now.text, p->whole, p->whole_len) != 0;
    return 0;
}

/* Every item must come out of it. */
static void judge(struct part *p)
{
    struct put_set *s = p->set;
    manifest_parse(p->path, p->whole, p->whole_len, &p->manifest);
    p->parsed = true;
    for (struct item *it = p->items; it && s->code == 0; it = it->same_file) {
        size_t i = entry_of(&p->manifest, it);
        const struct manifest_entry *e = i < p->manifest.n_entries ? &p->manifest.entries[i] : NULL;
        if (!e || e->bad) {
            fail_by_manifest(s, p, e ? i : SIZE_MAX);
            return;
        }
        free(it->after);
        it->after = trimmed(p->whole + e->start, e->end - e->start, NULL);
        it->line = e->line;
        it->outcome = !it->before                                   ? PUT_CREATED
                      : it->edited || !streq(it->before, it->after) ? PUT_CHANGED
                                                                    : PUT_UNCHANGED;
    }
}

static void prepare(void *ctx)
{
    struct put_set *s = ctx;
    for (struct part *p = s->parts; p && s->code == 0; p = p->hh.next) {
        part_unprepare(p);
        if (make_whole(p) == 0)
            judge(p);
    }
}

/* ---- write, on the pool ---- */

static bool to_write(const struct part *p)
{
    return !p->given && p->differs;
}

static int still_same(struct part *p, struct error *err)
{
    if (p->now.status == READ_TEXT)
        return write_check(p->path, p->now.hash, err);
    return access(p->path, F_OK) < 0 ? 0 : error_set(err, -EAGAIN, "%s is there already", p->path);
}

static void put_back(struct put_set *s)
{
    struct error err = ERROR_INIT;
    for (struct part *p = s->parts; p; p = p->hh.next) {
        int rc = 0;
        if (p->written)
            rc = p->now.status == READ_TEXT ? write_file(&p->target, p->now.text, p->now.len, &err)
                                            : write_delete(&p->target, &err);
        if (rc < 0) { /* said with the failure that led here */
            char *message = xasprintf("%s; and it could not be put back: %s", s->message, err.message);
            free(s->message);
            s->message = message;
        }
        p->written = false;
        write_abandon(&p->pending);
    }
}

static void write_all(void *ctx)
{
    struct put_set *s = ctx;
    struct error err = ERROR_INIT;
    int rc = 0;
    struct part *p;
    for (p = s->parts; p && rc == 0; p = p->hh.next)
        if (to_write(p))
            rc = write_begin(&p->target, p->whole, p->whole_len, &p->pending, &err);
    for (p = s->parts; p && rc == 0; p = p->hh.next)
        if (to_write(p))
            rc = still_same(p, &err);
    for (p = s->parts; p && rc == 0; p = p->hh.next) {
        if (!to_write(p))
            continue;
        rc = write_commit(&p->pending, &err);
        p->written = p->pending.renamed;
    }
    if (rc < 0) {
        fail(s, NULL, rc, "%s", err.message);
        put_back(s);
        return;
    }
    for (p = s->parts; p; p = p->hh.next)
        manifest_parse(p->path, p->whole, p->whole_len, &p->applied);
}

/* ---- the loop's part ---- */

/* Nothing would change, not even on disk. */
static bool is_known(const struct part *p)
{
    const struct file *f = p->file;
    return !p->differs && f->present && f->text && !f->dirty && f->len == p->whole_len &&
           memcmp(f->text, p->whole, f->len) == 0;
}

static struct read_job job_of(struct part *p)
{
    struct file *f = p->file;
    struct read_job job = {
        .file = f,
        .path = f->path,
        .epoch = ++f->epoch,
        .status = READ_TEXT,
        .text = xmemdup(p->whole, p->whole_len + 1),
        .len = p->whole_len,
        .hash = hash_bytes(0, p->whole, p->whole_len),
        .manifest = p->applied,
        .is_link = p->given ? p->now.is_link : f->is_link,
        .read_only = p->given && p->now.read_only,
    };
    p->applied = (struct manifest){0};
    return job;
}

static void take_over(struct put_set *s)
{
    struct reconcile *r = s->r;
    struct read_job *jobs = xcalloc(HASH_COUNT(s->parts), sizeof(*jobs));
    const char **waiting = xcalloc(HASH_COUNT(s->parts), sizeof(*waiting));
    size_t n = 0, n_waiting = 0;
    for (struct part *p = s->parts; p; p = p->hh.next) {
        if (is_known(p))
            continue;
        if (p->file->dirty) /* events came: it is read again, and found to be the same */
            waiting[n_waiting++] = p->path;
        jobs[n++] = job_of(p);
        /* What stands there already may have come by a checkout a moment ago. */
        provenance_changed(r, p->file, p->differs ? ORIGIN_DIRTY : ORIGIN_UNKNOWN);
        p->file->busy--;
        p->file = NULL; /* it may be freed with its last document */
    }
    apply_results(r, jobs, n, NULL);
    for (size_t i = 0; i < n; i++)
        read_job_fini(&jobs[i]);
    for (size_t i = 0; i < n_waiting && !r->closing; i++)
        file_mark_dirty(r, file_get(r, waiting[i]));
    if (n_waiting > 0 && !r->closing)
        watch_burst(r);
    if (!r->closing)
        watch_schedule(r);
    free(jobs);
    free(waiting);
}

static void prepared(void *ctx);

static bool again(struct put_set *s)
{
    if (s->code != -EAGAIN || s->r->closing || ++s->tries >= TRIES_MAX)
        return false;
    s->code = 0;
    loop_work_submit(s->r->loop, &s->work, prepare, prepared, s);
    return true;
}

static void written(void *ctx)
{
    struct put_set *s = ctx;
    if (s->r->closing)
        fail(s, NULL, -ESHUTDOWN, "triggerd is stopping");
    if (again(s))
        return;
    if (s->code == 0)
        take_over(s);
    end(s);
}

/* Ids that are another file's. */
static void check_ids(struct part *p)
{
    struct manifest *m = &p->manifest;
    for (struct item *it = p->items; it; it = it->same_file) {
        const struct resource *res = resource_find(p->set->r, it->kind, it->id);
        if (!res || !res->owner || res->owner == p->file || res->due_ms >= 0)
            continue;
        fail(p->set, p, -EEXIST, "%s \"%s\" is already defined in %s:%u", resource_kind_name(it->kind), it->id,
             res->owner->path, res->line);
        manifest_add_among(m, entry_of(m, it), "id", "%s", p->set->message);
    }
}

static void prepared(void *ctx)
{
    struct put_set *s = ctx;
    bool all_known = true;
    if (s->r->closing)
        fail(s, NULL, -ESHUTDOWN, "triggerd is stopping");
    if (again(s))
        return;
    for (struct part *p = s->parts; p && s->code == 0; p = p->hh.next) {
        check_ids(p);
        all_known = all_known && is_known(p);
    }
    if (s->code < 0 || s->dry_run || all_known)
        end(s);
    else
        loop_work_submit(s->r->loop, &s->work, write_all, written, s);
}

static void ended_at_once(void *ctx)
{
    end(ctx);
}

static void nothing(void *ctx)
{
    (void)ctx;
}

void put_set_run(struct put_set *s)
{
    add_deleted(s);
    if (plan(s) == 0)
        loop_work_submit(s->r->loop, &s->work, prepare, prepared, s);
    else
        loop_work_submit(s->r->loop, &s->work, nothing, ended_at_once, s);
}

void put_set_abandon(struct put_set *s)
{
    fail(s, NULL, -ESHUTDOWN, "triggerd is stopping");
    answer(s);
}

/* ---- asking ---- */

bool reconcile_watches(struct reconcile *r, const char *path)
{
    const struct dir *d = dir_of(r, path);
    return d && put_name_ok(path + d->path_len + 1);
}

void reconcile_put_set(struct reconcile *r, const struct put_request *request, put_set_fn *done, void *ctx)
{
    struct put_set *s = xcalloc(1, sizeof(*s));
    *s = (struct put_set){.r = r, .dry_run = request->dry_run, .done = done, .ctx = ctx};
    s->n = s->n_asked = request->n_docs;
    s->items = xcalloc(s->n, sizeof(*s->items));
    for (size_t i = 0; i < s->n; i++) {
        const struct put_doc *doc = &request->docs[i];
        s->items[i] =
            (struct item){.kind = doc->kind, .id = xstrdup(doc->id), .format = doc->format, .whole = doc->file};
        s->items[i].text = trimmed(doc->text, doc->len, &s->items[i].len);
    }
    s->n_wholes = request->n_files;
    s->whole_paths = xcalloc(s->n_wholes, sizeof(*s->whole_paths));
    s->whole_texts = xcalloc(s->n_wholes, sizeof(*s->whole_texts));
    s->whole_lens = xcalloc(s->n_wholes, sizeof(*s->whole_lens));
    for (size_t i = 0; i < s->n_wholes; i++) {
        s->whole_paths[i] = xstrdup(request->files[i].path);
        s->whole_texts[i] = xstrndup(request->files[i].text, request->files[i].len);
        s->whole_lens[i] = request->files[i].len;
    }
    s->new_dir = xstrdup0(request->new_dir);
    s->n_dirs = request->n_dirs;
    s->dirs = xcalloc(s->n_dirs, sizeof(*s->dirs));
    for (size_t i = 0; i < s->n_dirs; i++)
        s->dirs[i] = xstrdup(request->dirs[i]);
    put_set_queue(r, s);
}
