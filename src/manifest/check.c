#include "manifest/check.h"

#include "base/util.h"
#include "client/queue.h"
#include "manifest/loops.h"
#include "source/list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#define RABBITMQ_PATIENCE_S 1800

struct check_seen {
    UT_hash_handle hh;
    char key[];
};

/* ---- what was read ---- */

/* Where a path leads, its last name kept as it is: two links to one file are two manifests, as for the daemon. */
static char *place_of(struct manifest_check *c, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    _cleanup_(freep) char *dir = slash ? xstrndup(path, MAX((size_t)(slash - path), (size_t)1)) : xstrdup(".");
    if (!streq(dir, c->dir)) { /* files of one folder come one after the other */
        free(c->dir);
        free(c->dir_place);
        c->dir_place = realpath(dir, NULL);
        c->dir = steal(&dir);
    }
    return c->dir_place ? xasprintf("%s/%s", c->dir_place, name) : xstrdup(path);
}

/* False: this text was noted before. */
static bool note(struct check_seen **seen, const char *text)
{
    struct check_seen *found;
    size_t len = strlen(text);
    HASH_FIND(hh, *seen, text, len, found);
    if (found)
        return false;
    found = xcalloc(1, sizeof(*found) + len + 1);
    memcpy(found->key, text, len);
    HASH_ADD_KEYPTR(hh, *seen, found->key, len, found);
    return true;
}

static struct manifest *add_manifest(struct manifest_check *c)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 16;
        c->manifests = xreallocarray(c->manifests, c->cap, sizeof(*c->manifests));
        if (c->keep)
            c->texts = xreallocarray(c->texts, c->cap, sizeof(*c->texts));
    }
    if (c->keep)
        c->texts[c->n] = (struct buf){0};
    return &c->manifests[c->n++];
}

/* ---- files ---- */

/* The whole text; 0, or negative errno (-EFBIG: over the bound). */
static int read_whole(int fd, struct buf *ret)
{
    for (ret->len = 0;;) {
        size_t room = ret->cap > ret->len + 4096 ? ret->cap - ret->len - 1 : 32768;
        ssize_t n = read(fd, buf_reserve(ret, room), room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        ret->len += (size_t)n;
        ret->data[ret->len] = '\0';
        if (n == 0 || ret->len > DOCUMENT_TEXT_MAX)
            return n == 0 ? 0 : -EFBIG;
    }
}

static bool is_link(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static void settle(struct manifest_check *c, size_t index);

/* `r`: what opening gave. */
static void add_text(struct manifest_check *c, const char *path, int fd, int r)
{
    r = r < 0 ? r : read_whole(fd, &c->text);
    if (r < 0)
        manifest_unread(path, r, is_link(path), add_manifest(c));
    else
        manifest_parse(path, c->text.data, c->text.len, add_manifest(c));
    settle(c, c->n - 1);
    if (r == 0 && c->keep)
        c->texts[c->n - 1] = (struct buf){xmemdup(c->text.data, c->text.len + 1), c->text.len, c->text.len + 1};
}

static void add_file(struct manifest_check *c, const char *path)
{
    _cleanup_(freep) char *place = place_of(c, path);
    if (!note(&c->seen, place))
        return;
    struct stat st = {0};
    /* O_NONBLOCK: a FIFO must not keep us waiting. */
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && !S_ISREG(st.st_mode))
        manifest_unreadable(path, "not a regular file", add_manifest(c));
    else
        add_text(c, path, fd, r);
}

/* ---- directories ---- */

struct found_files {
    char **items;
    size_t n, cap;
};

static void found_add(struct found_files *f, char *path)
{
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 64;
        f->items = xreallocarray(f->items, f->cap, sizeof(*f->items));
    }
    f->items[f->n++] = path;
}

static void walk(struct manifest_check *c, const char *path, unsigned depth, struct found_files *found);

/* One name of a directory. */
static void walk_entry(struct manifest_check *c, const char *dir, const struct dirent *entry, unsigned depth,
                       struct found_files *found)
{
    struct stat st;
    const char *name = entry->d_name;
    if (name[0] == '.' || !utf8_valid(name, strlen(name)))
        return;
    size_t len = strlen(dir);
    _cleanup_(freep) char *path = xasprintf("%s%s%s", dir, len > 0 && dir[len - 1] == '/' ? "" : "/", name);
    if (entry->d_type == DT_REG && manifest_name_ok(name))
        found_add(found, steal(&path));
    if (entry->d_type == DT_REG || lstat(path, &st) < 0)
        return; /* done, or gone meanwhile */
    bool is_link = S_ISLNK(st.st_mode);
    bool there = !is_link || stat(path, &st) == 0;
    if (S_ISDIR(st.st_mode) && !is_link)
        walk(c, path, depth + 1, found);
    else if (manifest_name_ok(name) && (!there || S_ISREG(st.st_mode)))
        found_add(found, steal(&path));
}

static void walk(struct manifest_check *c, const char *path, unsigned depth, struct found_files *found)
{
    if (depth > MANIFEST_TREE_DEPTH_MAX) {
        manifest_unreadable(path, "too many folders inside one another", add_manifest(c));
        return;
    }
    DIR *d = opendir(path);
    if (!d) {
        manifest_unread(path, -errno, false, add_manifest(c));
        return;
    }
    const struct dirent *entry;
    while ((errno = 0, entry = readdir(d)))
        walk_entry(c, path, entry, depth, found);
    if (errno)
        manifest_unread(path, -errno, false, add_manifest(c));
    closedir(d);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void manifest_check_add(struct manifest_check *c, const char *path)
{
    struct stat st;
    if (streq(path, "-")) {
        if (note(&c->seen, path))
            add_text(c, "<stdin>", STDIN_FILENO, 0);
        return;
    }
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
        add_file(c, path);
        return;
    }
    struct found_files found = {0};
    walk(c, path, 1, &found);
    if (found.n > 1)
        qsort(found.items, found.n, sizeof(*found.items), by_path);
    for (size_t i = 0; i < found.n; i++) {
        add_file(c, found.items[i]);
        free(found.items[i]);
    }
    free(found.items);
}

/* ---- between files ---- */

struct definition {
    UT_hash_handle hh; /* by the entry's id */
    struct check_entry at;
    double timeout_seconds; /* of a pipeline; 0: none */
    char *pipeline_id;      /* of a trigger whose messages RabbitMQ waits for until their run has ended; else NULL */
};

static struct definition *definition_of(struct manifest_check *c, enum resource_kind kind, const char *id)
{
    struct definition *d = NULL;
    HASH_FIND_STR(c->definitions[kind], id, d);
    return d;
}

static bool rabbitmq_waits(const struct trigger *t)
{
    const struct queue_config *c = t->config;
    return t->kind == &source_message_queue.kind && c->queue_type == QUEUE_RABBITMQ && c->ack_mode == ACK_MANUAL;
}

/* What was just parsed: the first good document owns its id, as the daemon has it. Only what loops need is kept of its
 * resources. */
static void settle(struct manifest_check *c, size_t index)
{
    struct manifest *m = &c->manifests[index];
    if (!c->loops)
        c->loops = loops_create();
    for (size_t i = 0; i < m->n_entries; i++) {
        const struct manifest_entry *e = &m->entries[i];
        if (!e->id)
            continue;
        if (e->bad || definition_of(c, e->kind, e->id)) {
            c->later = xreallocarray(c->later, c->n_later + 1, sizeof(*c->later));
            c->later[c->n_later++] = (struct check_entry){index, i};
            continue;
        }
        struct definition *d = xcalloc(1, sizeof(*d));
        d->at = (struct check_entry){index, i};
        d->timeout_seconds = e->pipeline ? e->pipeline->timeout_seconds : 0;
        d->pipeline_id = e->trigger && rabbitmq_waits(e->trigger) ? xstrdup(e->trigger->pipeline_id) : NULL;
        HASH_ADD_KEYPTR(hh, c->definitions[e->kind], e->id, strlen(e->id), d);
        if (e->trigger)
            loops_put_trigger(c->loops, e->trigger);
        else if (e->pipeline)
            loops_put_pipeline(c->loops, e->pipeline);
    }
    manifest_drop_resources(m);
}

/* Whose id is another file's; the same id twice within one file is the parser's to find. */
static void tell_conflicts(struct manifest_check *c)
{
    for (size_t i = 0; i < c->n_later; i++) {
        struct manifest *m = &c->manifests[c->later[i].manifest];
        const struct manifest_entry *e = &m->entries[c->later[i].entry];
        const struct definition *d = definition_of(c, e->kind, e->id);
        if (d && d->at.manifest != c->later[i].manifest)
            manifest_add_among(m, c->later[i].entry, "id", "%s \"%s\" is already defined in %s:%u",
                               resource_kind_name(e->kind), e->id, c->manifests[d->at.manifest].file,
                               c->manifests[d->at.manifest].entries[d->at.entry].line);
    }
}

static void warn_of_loop(void *ctx, const char *trigger_id, const char *text)
{
    struct manifest_check *c = ctx;
    const struct definition *d = definition_of(c, RESOURCE_TRIGGER, trigger_id);
    manifest_warn_among(&c->manifests[d->at.manifest], d->at.entry, text);
}

/* RabbitMQ closes a channel on which a message stays unacknowledged for longer, and delivers it again. */
static void warn_of_patience(struct manifest_check *c)
{
    for (const struct definition *d = c->definitions[RESOURCE_TRIGGER]; d; d = d->hh.next) {
        const struct definition *p = d->pipeline_id ? definition_of(c, RESOURCE_PIPELINE, d->pipeline_id) : NULL;
        if (!p || (p->timeout_seconds > 0 && p->timeout_seconds <= RABBITMQ_PATIENCE_S))
            continue;
        _cleanup_(freep) char *limit = p->timeout_seconds > 0 ? xasprintf("for %g s", p->timeout_seconds)
                                                              : xstrdup("for any time (it has no timeout_seconds)");
        _cleanup_(freep) char *text =
            xasprintf("pipeline \"%s\" may run %s; RabbitMQ takes a message back that is not acknowledged within %d s "
                      "(its consumer_timeout)",
                      d->pipeline_id, limit, RABBITMQ_PATIENCE_S);
        manifest_warn_among(&c->manifests[d->at.manifest], d->at.entry, text);
    }
}

size_t manifest_check_finish(struct manifest_check *c)
{
    size_t wrong = 0;
    tell_conflicts(c);
    if (c->loops)
        loops_update(c->loops, warn_of_loop, c);
    warn_of_patience(c);
    for (size_t i = 0; i < c->n; i++) {
        manifest_sort_errors(&c->manifests[i]);
        wrong += c->manifests[i].n_wrong;
    }
    return wrong;
}

void manifest_check_fini(struct manifest_check *c)
{
    struct check_seen *s = c->seen, *next;
    for (size_t i = 0; i < RESOURCE_KINDS; i++) {
        struct definition *d = c->definitions[i], *next_definition;
        HASH_CLEAR(hh, c->definitions[i]); /* the table alone; the items stay linked */
        for (; d; d = next_definition) {
            next_definition = d->hh.next;
            free(d->pipeline_id);
            free(d);
        }
    }
    loops_destroy(c->loops);
    buf_fini(&c->text);
    free(c->dir);
    free(c->dir_place);
    free(c->later);
    for (size_t i = 0; i < c->n; i++)
        manifest_fini(&c->manifests[i]);
    for (size_t i = 0; c->keep && i < c->n; i++)
        buf_fini(&c->texts[i]);
    free(c->manifests);
    free(c->texts);
    HASH_CLEAR(hh, c->seen); /* the table alone; the items stay linked */
    for (; s; s = next) {
        next = s->hh.next;
        free(s);
    }
    *c = (struct manifest_check){0};
}

void manifest_check_print(const struct manifest_check *c, FILE *out)
{
    for (size_t i = 0; i < c->n; i++) {
        for (size_t k = 0; k < c->manifests[i].n_errors; k++) {
            _cleanup_(freep) char *text = manifest_error_text(&c->manifests[i], &c->manifests[i].errors[k]);
            fprintf(out, "%s\n", text);
        }
    }
}
