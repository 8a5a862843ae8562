#include "manifest/check.h"

#include "base/util.h"

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
    }
    return &c->manifests[c->n++];
}

/* ---- files ---- */

/* At most one byte more than a manifest may have: that it is too long is then the parser's to say. */
static int read_bounded(int fd, struct buf *ret)
{
    while (ret->len <= DOCUMENT_TEXT_MAX) {
        ssize_t n = read(fd, buf_reserve(ret, 65536), 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        ret->len += (size_t)n;
        ret->data[ret->len] = '\0';
    }
    return 0;
}

static void add_file(struct manifest_check *c, const char *path)
{
    _cleanup_(freep) char *place = place_of(path);
    if (!note(&c->seen, place))
        return;
    /* O_NONBLOCK: a FIFO must not keep us waiting. */
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st = {0};
    struct buf text = {0};
    int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && !S_ISREG(st.st_mode)) {
        manifest_unreadable(path, "not a regular file", add_manifest(c));
        return;
    }
    r = r < 0 ? r : read_bounded(fd, &text);
    if (r < 0)
        manifest_unreadable(path, strerror(-r), add_manifest(c));
    else
        manifest_parse(path, text.data ? text.data : "", text.len, add_manifest(c));
    buf_fini(&text);
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
        manifest_unreadable(path, strerror(errno), add_manifest(c));
        return;
    }
    const struct dirent *entry;
    while ((errno = 0, entry = readdir(d)))
        walk_entry(c, path, entry->d_name, depth, found);
    if (errno)
        manifest_unreadable(path, strerror(errno), add_manifest(c));
    closedir(d);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void manifest_check_add(struct manifest_check *c, const char *path)
{
    struct stat st;
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
    size_t manifest; /* index of the file that has it */
    unsigned line;
    char key[]; /* `kind/id` */
};

/* The error that was added last goes where its place puts it: what a file says stays sorted. */
static void settle_last(struct manifest *m)
{
    for (size_t i = m->n_errors - 1; i > 0; i--) {
        struct manifest_error *a = &m->errors[i - 1], *b = &m->errors[i];
        if (a->line < b->line || (a->line == b->line && a->column <= b->column))
            break;
        struct manifest_error swap = *a;
        *a = *b;
        *b = swap;
    }
}

/* The same id twice within one file is the parser's to find. */
static void define(struct manifest_check *c, size_t index, size_t entry, struct definition **all)
{
    struct manifest *m = &c->manifests[index];
    const struct manifest_entry *e = &m->entries[entry];
    struct definition *d;
    if (!e->id)
        return;
    _cleanup_(freep) char *key = xasprintf("%s/%s", resource_kind_name(e->kind), e->id);
    size_t len = strlen(key);
    HASH_FIND(hh, *all, key, len, d);
    if (d && d->manifest != index) {
        manifest_add_error(m, entry, e->line, e->column, "id", "%s \"%s\" is already defined in %s:%u",
                           resource_kind_name(e->kind), e->id, c->manifests[d->manifest].file, d->line);
        settle_last(m);
    } else if (!d) {
        d = xcalloc(1, sizeof(*d) + len + 1);
        d->manifest = index;
        d->line = e->line;
        memcpy(d->key, key, len);
        HASH_ADD_KEYPTR(hh, *all, d->key, len, d);
    }
}

size_t manifest_check_finish(struct manifest_check *c)
{
    struct definition *all = NULL;
    size_t wrong = 0;
    for (size_t i = 0; i < c->n; i++) {
        for (size_t k = 0; k < c->manifests[i].n_entries; k++)
            define(c, i, k, &all);
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
    free(c->manifests);
    HASH_CLEAR(hh, c->seen); /* the table alone; the items stay linked */
    for (; s; s = next) {
        next = s->hh.next;
        free(s);
    }
    *c = (struct manifest_check){0};
}

size_t manifest_check_tree(const char *path, FILE *out)
{
    struct manifest_check c = {0};
    manifest_check_add(&c, path);
    size_t wrong = manifest_check_finish(&c);
    for (size_t i = 0; i < c.n; i++) {
        for (size_t k = 0; k < c.manifests[i].n_errors; k++) {
            _cleanup_(freep) char *text = manifest_error_text(&c.manifests[i], &c.manifests[i].errors[k]);
            fprintf(out, "%s\n", text);
        }
    }
    manifest_check_fini(&c);
    return wrong;
}
