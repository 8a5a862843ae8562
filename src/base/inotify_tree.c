#include "base/inotify_tree.h"

#include <assert.h>
#include <utlist.h>

void wd_attach(struct watch_user **table, struct watch_user *user, int wd)
{
    assert(user->wd < 0 && wd >= 0);
    struct watch_user *first = wd_find(*table, wd);
    user->wd = wd;
    if (first) {
        user->next = first->next;
        first->next = user;
    } else {
        user->next = NULL;
        HASH_ADD_INT(*table, wd, user);
    }
}

bool wd_detach(struct watch_user **table, struct watch_user *user)
{
    if (user->wd < 0)
        return false;
    struct watch_user *first = wd_find(*table, user->wd), *next = user->next;
    if (first == user) {
        HASH_DEL(*table, user);
        if (next)
            HASH_ADD_INT(*table, wd, next);
    } else {
        while (first->next != user)
            first = first->next;
        first->next = next;
        next = first;
    }
    user->wd = -1;
    user->next = NULL;
    return !next;
}

struct watch_user *wd_find(struct watch_user *table, int wd)
{
    struct watch_user *first;
    HASH_FIND_INT(table, &wd, first);
    return first;
}

static size_t key_size(const char *name)
{
    return offsetof(struct dir_key, name) + strlen(name);
}

static struct dir_key *make_key(struct watch_dir *parent, const char *name)
{
    size_t size = key_size(name);
    struct dir_key *key = xmalloc(size + 1);
    key->parent = parent;
    memcpy(key->name, name, strlen(name) + 1);
    return key;
}

static void link_to_parent(struct watch_dir **names, struct watch_dir *dir)
{
    struct dir_key *key = dir->key;
    if (!key->parent)
        return;
    DL_APPEND(key->parent->children, dir);
    HASH_ADD_KEYPTR(hh, *names, key, key_size(key->name), dir);
}

void dir_unlink(struct watch_dir **names, struct watch_dir *dir)
{
    if (!dir->key->parent)
        return;
    DL_DELETE(dir->key->parent->children, dir);
    HASH_DEL(*names, dir);
}

struct watch_dir *dir_create(struct watch_dir **names, struct watch_tree *tree, struct watch_dir *parent,
                             const char *name)
{
    struct watch_dir *dir = xcalloc(1, sizeof(*dir));
    dir->user.wd = -1;
    dir->tree = tree;
    dir->key = make_key(parent, name);
    link_to_parent(names, dir);
    return dir;
}

void dir_free(struct watch_dir *dir)
{
    free(dir->key);
    free(dir);
}

struct watch_dir *dir_find(struct watch_dir *names, struct watch_dir *parent, const char *name)
{
    struct watch_dir *dir;
    if (!names)
        return NULL;
    struct dir_key *key = make_key(parent, name);
    HASH_FIND(hh, names, key, key_size(name), dir);
    free(key);
    return dir;
}

void dir_rename(struct watch_dir **names, struct watch_dir *dir, struct watch_dir *parent, const char *name)
{
    assert(dir->key->parent && parent && !dir_is_within(parent, dir));
    struct dir_key *key = make_key(parent, name);
    dir_unlink(names, dir);
    free(dir->key);
    dir->key = key;
    link_to_parent(names, dir);
}

bool dir_is_within(const struct watch_dir *dir, const struct watch_dir *outer)
{
    while (dir && dir != outer)
        dir = dir->key->parent;
    return dir != NULL;
}

void dir_path(const struct watch_dir *dir, const char *name, struct buf *out)
{
    size_t len = name ? strlen(name) : 0;
    for (const struct watch_dir *d = dir; d->key->parent; d = d->key->parent)
        len += strlen(d->key->name) + (len > 0);
    out->len = 0;
    char *end = buf_reserve(out, len) + len;
    *end = '\0';
    out->len = len;
    if (name) {
        end -= strlen(name);
        memcpy(end, name, strlen(name));
    }
    for (const struct watch_dir *d = dir; d->key->parent; d = d->key->parent) {
        size_t n = strlen(d->key->name);
        if (end < out->data + len)
            *--end = '/';
        end -= n;
        memcpy(end, d->key->name, n);
    }
}
