#include "base/inotify_internal.h"

#include <unistd.h>
#include <utlist.h>

void watcher_kick(struct watcher *w)
{
    if (!w->closing)
        loop_defer(w->loop, &w->kick_task);
}

/* ---- users of watch descriptors ---- */

/* Its removal waits for watcher_leave(): the results of work may be about to give it to another directory. */
void watcher_note_unused(struct watcher *w, int wd)
{
    if (wd < 0 || wd_find(w->users, wd) || w->closing)
        return;
    w->unused = xreallocarray(w->unused, w->unused_count + 1, sizeof(int));
    w->unused[w->unused_count++] = wd;
}

void watcher_detach(struct watcher *w, struct watch_user *user)
{
    int wd = user->wd;
    if (wd_detach(&w->users, user))
        watcher_note_unused(w, wd);
}

void watcher_attach(struct watcher *w, struct watch_user *user, int wd)
{
    if (user->wd == wd)
        return;
    watcher_detach(w, user);
    wd_attach(&w->users, user, wd);
}

/* ---- calls that may tell the owner: what dies meanwhile is freed at the end ---- */

/* Drop the events that no blocked tree waits for. */
static void prune_held(struct watcher *w)
{
    uint64_t oldest = UINT64_MAX;
    const struct watch_tree *tree;
    DL_FOREACH (w->trees, tree)
        if (tree->blocked && !tree->overflowed)
            oldest = MIN(oldest, tree->blocked_since);
    while (w->held && w->held->seq <= oldest) {
        struct held *held = w->held;
        w->held = held->next;
        w->held_count--;
        free(held);
    }
}

void watcher_enter(struct watcher *w)
{
    w->depth++;
}

void watcher_leave(struct watcher *w)
{
    if (--w->depth > 0)
        return;
    while (w->dead_dirs) {
        struct watch_dir *dir = w->dead_dirs;
        w->dead_dirs = dir->next;
        dir_free(dir);
    }
    while (w->dead_trees) {
        struct watch_tree *tree = w->dead_trees;
        LL_DELETE(w->dead_trees, tree);
        free(tree->links);
        free(tree->todo);
        free(tree->base);
        free(tree->real);
        free(tree);
    }
    for (size_t i = 0; i < w->unused_count; i++)
        if (!wd_find(w->users, w->unused[i]))
            inotify_rm_watch(w->fd->fd, w->unused[i]);
    w->unused_count = 0;
    if (w->held)
        prune_held(w);
}

/* ---- directories of a tree ---- */

void watch_dir_queue(struct watch_dir *dir)
{
    struct watch_tree *tree = dir->tree;
    if (dir->queued)
        return;
    if (tree->todo_from == tree->todo_end)
        tree->todo_from = tree->todo_end = 0;
    if (tree->todo_end == tree->todo_cap) {
        tree->todo_cap = tree->todo_cap ? tree->todo_cap * 2 : 16;
        tree->todo = xreallocarray(tree->todo, tree->todo_cap, sizeof(struct watch_dir *));
    }
    tree->todo[tree->todo_end++] = dir;
    dir->queued = true;
    watcher_kick(tree->watcher);
}

/* Forget the places that point at a directory about to go. */
static void forget_dir(struct watch_tree *tree, const struct watch_dir *dir)
{
    struct move *move;
    if (dir->queued)
        for (size_t i = tree->todo_from; i < tree->todo_end; i++)
            if (tree->todo[i] == dir)
                tree->todo[i] = NULL;
    if (dir->scanning && tree->job && !tree->job->is_probe)
        for (unsigned i = 0; i < tree->job->scan.count; i++)
            if (tree->job->scan.dirs[i].dir == dir)
                tree->job->scan.dirs[i].dir = NULL;
    DL_FOREACH (tree->moves, move) {
        if (move->dir == dir)
            move->dir = NULL;
        if (move->parent == dir)
            move->parent = NULL;
    }
}

/* With all below it. */
void watch_dir_remove(struct watch_dir *top)
{
    struct watch_tree *tree = top->tree;
    struct watcher *w = tree->watcher;
    struct watch_dir *dir = top, *parent;
    do {
        while (dir->children)
            dir = dir->children;
        parent = dir->key->parent;
        forget_dir(tree, dir);
        watcher_detach(w, &dir->user);
        dir_unlink(&tree->names, dir);
        dir->dead = true;
        dir->next = w->dead_dirs;
        w->dead_dirs = dir;
        tree->dir_count--;
        if (dir == top)
            break;
        dir = parent;
    } while (true);
    if (tree->root == top)
        tree->root = NULL;
}

struct watch_dir *watch_dir_add(struct watch_tree *tree, struct watch_dir *parent, const char *name)
{
    tree->dir_count++;
    return dir_create(&tree->names, tree, parent, name);
}

bool watch_tree_may_descend(const struct watch_tree *tree, const char *path)
{
    return tree->options.recursive && (!tree->options.descend || tree->options.descend(tree->options.ctx, path));
}

/* The directory `name` in `parent` exists: have it in the tree, to be scanned, or out of it if it is not wanted. */
struct watch_dir *watch_dir_want(struct watch_dir *parent, const char *name, const char *path)
{
    struct watch_tree *tree = parent->tree;
    struct watch_dir *dir = dir_find(tree->names, parent, name);
    if (!watch_tree_may_descend(tree, path)) {
        if (dir)
            watch_dir_remove(dir);
        return NULL;
    }
    if (!dir)
        dir = watch_dir_add(tree, parent, name);
    watch_dir_queue(dir);
    return dir;
}

/* ---- telling the owner ---- */

void watch_tree_tell(struct watch_tree *tree, const struct watch_event *event)
{
    if (!tree->dead)
        tree->options.event(tree->options.ctx, event);
}

void watch_tree_tell_simple(struct watch_tree *tree, void (*fn)(void *ctx))
{
    if (!tree->dead && fn)
        fn(tree->options.ctx);
}

void watch_tree_note_error(struct watch_tree *tree, const char *path, int code)
{
    if (tree->errors++ == 0)
        error_set(&tree->err, code, "%s: %s", path, watch_reason(code));
}

void watch_tree_tell_errors(struct watch_tree *tree)
{
    struct error err = tree->err;
    if (tree->errors > 1)
        error_set(&err, tree->err.code, "%s (and %u more)", tree->err.message, tree->errors - 1);
    bool any = tree->errors > 0;
    tree->errors = 0;
    if (any && !tree->dead && tree->options.error)
        tree->options.error(tree->options.ctx, &err);
}

void watch_tree_need_probe(struct watch_tree *tree)
{
    tree->need_probe = true;
    watcher_kick(tree->watcher);
}
