#include "manifest/check.h"

#include "base/util.h"
#include "manifest/loops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

struct check_seen {
    UT_hash_handle hh;
    char key[];
};

/* ---- what was read ---- */

/* Where a path leads, its last name kept as it is: two links to one file are two manifests, as for the daemon. */
static char *place_of(const char *path)
{
    _cleanup_(freep) char *for_dir = xstrdup(path);
    _cleanup_(freep) char *for_name = xstrdup(path);
    _cleanup_(freep) char *dir = realpath(dirname(for_dir), NULL);
    return dir ? xasprintf("%s/%s", dir, basename(for_name)) : xstrdup(path);
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
    for (;;) {
        ssize_t n = read(fd, buf_reserve(ret, 16384), 16384);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        ret->len += (size_t)n;
        if (ret->len > DOCUMENT_TEXT_MAX)
            return -EFBIG;
    }
}

/* `r`: what opening gave. */
static void add_text(struct manifest_check *c, const char *path, int fd, int r, bool is_link)
{
    struct buf text = {0};
    r = r < 0 ? r : read_whole(fd, &text);
    if (r < 0)
        manifest_unread(path, r, is_link, add_manifest(c));
    else
        manifest_parse(path, text.data ? text.data : "", text.len, add_manifest(c));
    if (r == 0 && c->keep) {
        buf_reserve(&text, 1)[0] = '\0';
        c->texts[c->n - 1] = text;
    } else {
        buf_fini(&text);
    }
}

static void add_file(struct manifest_check *c, const char *path)
{
    _cleanup_(freep) char *place = place_of(path);
    if (!note(&c->seen, place))
        return;
    struct stat st;
    bool is_link = lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
    /* O_NONBLOCK: a FIFO must not keep us waiting. */
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && !S_ISREG(st.st_mode))
        manifest_unreadable(path, "not a regular file", add_manifest(c));
    else
        add_text(c, path, fd, r, is_link);
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
static void walk_entry(struct manifest_check *c, const char *dir, const char *name, unsigned depth,
                       struct found_files *found)
{
    struct stat st;
    if (name[0] == '.' || !utf8_valid(name, strlen(name)))
        return;
    size_t len = strlen(dir);
    _cleanup_(freep) char *path = xasprintf("%s%s%s", dir, len > 0 && dir[len - 1] == '/' ? "" : "/", name);
    if (lstat(path, &st) < 0)
        return; /* gone meanwhile */
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
        walk_entry(c, path, entry->d_name, depth, found);
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
            add_text(c, "<stdin>", STDIN_FILENO, 0, false);
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
    UT_hash_handle hh;
    size_t manifest, entry; /* whose it is; SIZE_MAX: none was good */
    char key[];             /* `kind/id` */
};

static struct definition *definition_of(const struct manifest_entry *e, struct definition **all)
{
    struct definition *d;
    _cleanup_(freep) char *key = xasprintf("%s/%s", resource_kind_name(e->kind), e->id);
    size_t len = strlen(key);
    HASH_FIND(hh, *all, key, len, d);
    if (d)
        return d;
    d = xcalloc(1, sizeof(*d) + len + 1);
    d->manifest = SIZE_MAX;
    memcpy(d->key, key, len);
    HASH_ADD_KEYPTR(hh, *all, d->key, len, d);
    return d;
}

/* As the daemon has it: the first good document owns the id, any other is in error. The same id twice within one file
 * is the parser's to find. */
static void find_conflicts(struct manifest_check *c, struct definition **all)
{
    for (size_t i = 0; i < c->n; i++) {
        for (size_t k = 0; k < c->manifests[i].n_entries; k++) {
            const struct manifest_entry *e = &c->manifests[i].entries[k];
            struct definition *d = e->id && !e->bad ? definition_of(e, all) : NULL;
            if (d && d->manifest == SIZE_MAX) {
                d->manifest = i;
                d->entry = k;
            }
        }
    }
    for (size_t i = 0; i < c->n; i++) {
        struct manifest *m = &c->manifests[i];
        for (size_t k = 0; k < m->n_entries; k++) {
            const struct manifest_entry *e = &m->entries[k];
            const struct definition *d = e->id ? definition_of(e, all) : NULL;
            if (d && d->manifest != SIZE_MAX && d->manifest != i)
                manifest_add_among(m, k, "id", "%s \"%s\" is already defined in %s:%u", resource_kind_name(e->kind),
                                   e->id, c->manifests[d->manifest].file,
                                   c->manifests[d->manifest].entries[d->entry].line);
        }
    }
}

struct warner {
    struct manifest_check *check;
    struct definition **all;
};

static void warn_of_loop(void *ctx, const char *trigger_id, const char *text)
{
    struct warner *w = ctx;
    const struct manifest_entry trigger = {.kind = RESOURCE_TRIGGER, .id = (char *)trigger_id};
    const struct definition *d = definition_of(&trigger, w->all);
    if (text)
        manifest_warn_among(&w->check->manifests[d->manifest], d->entry, text);
}

static void find_loops(struct manifest_check *c, struct definition **all)
{
    _cleanup_(loops_destroyp) struct loops *loops = loops_create();
    for (size_t i = 0; i < c->n; i++) {
        for (size_t k = 0; k < c->manifests[i].n_entries; k++) {
            const struct manifest_entry *e = &c->manifests[i].entries[k];
            if (!e->bad && e->trigger)
                loops_put_trigger(loops, e->trigger);
            else if (!e->bad)
                loops_put_pipeline(loops, e->pipeline);
        }
    }
    loops_update(loops, warn_of_loop, &(struct warner){c, all});
}

size_t manifest_check_finish(struct manifest_check *c)
{
    struct definition *all = NULL;
    size_t wrong = 0;
    find_conflicts(c, &all);
    find_loops(c, &all);
    for (size_t i = 0; i < c->n; i++) {
        manifest_sort_errors(&c->manifests[i]);
        wrong += c->manifests[i].n_wrong;
    }
    struct definition *d = all, *next;
    HASH_CLEAR(hh, all); /* the table alone; the items stay linked */
    for (; d; d = next) {
        next = d->hh.next;
        free(d);
    }
    return wrong;
}

void manifest_check_fini(struct manifest_check *c)
{
    struct check_seen *s = c->seen, *next;
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
