#include "base/inotify_internal.h"

#include <errno.h>
#include <unistd.h>
#include <utlist.h>

#define TOLD_MASK (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
#define READS_MAX 16 /* a wake, 16 KiB each */

/* ---- renames ---- */

/* Where it was, by the names of today. */
static const char *old_path(struct watch_tree *tree, const struct move *move)
{
    dir_path(move->parent, move->name, &tree->watcher->old_path);
    return tree->watcher->old_path.data;
}

/* No second half: it has left. */
static void give_up_move(struct watch_tree *tree, struct move *move)
{
    DL_DELETE(tree->moves, move);
    if (move->dir)
        watch_dir_remove(move->dir);
    if (move->parent && move->doubtful)
        watch_dir_queue(move->parent);
    if (move->parent)
        watch_tree_tell(tree, &(struct watch_event){
                                  .path = old_path(tree, move),
                                  .mask = IN_MOVED_FROM,
                                  .is_dir = move->is_dir,
                              });
    free(move);
}

void watch_tree_give_up_moves(struct watch_tree *tree)
{
    while (tree->moves)
        give_up_move(tree, tree->moves);
}

static void begin_move(struct watch_dir *parent, const struct inotify_event *event, const char *path)
{
    struct watch_tree *tree = parent->tree;
    struct watcher *w = tree->watcher;
    struct move *move = xcalloc(1, sizeof(*move) + strlen(event->name) + 1);
    move->cookie = event->cookie;
    move->is_dir = event->mask & IN_ISDIR;
    move->parent = parent;
    move->doubtful = hash_bytes(0, path, strlen(path)) == tree->last_arrival;
    move->deadline_ms = loop_now_ms(w->loop) + WATCHER_MOVE_TIMEOUT_MS;
    memcpy(move->name, event->name, strlen(event->name));
    if (move->is_dir)
        move->dir = dir_find(tree->names, parent, event->name);
    DL_APPEND(tree->moves, move);
    if (!timer_active(&w->move_timer))
        timer_start(&w->loop->timers, &w->move_timer, move->deadline_ms);
}

/* Is this pair of names the last one turned round? Then it may be the second half of an exchange: what it moves away
 * from its name is not what is known there. */
static bool is_exchange(struct watch_tree *tree, const char *old_path, const char *path)
{
    uint64_t there = hash_bytes(hash_bytes(0, old_path, strlen(old_path) + 1), path, strlen(path));
    uint64_t back = hash_bytes(hash_bytes(0, path, strlen(path) + 1), old_path, strlen(old_path));
    bool turned = tree->last_rename == back;
    tree->last_rename = there;
    return turned;
}

/* A directory known by the name that another takes: renamed over (it was empty then), or exchanged with it
 * (RENAME_EXCHANGE, whose second half follows). What is where will be seen by looking at both places. */
static void clear_name(struct watch_dir *there, const struct watch_dir *mover, struct watch_dir *parent)
{
    if (mover && mover->key->parent)
        watch_dir_queue(mover->key->parent);
    watch_dir_queue(parent);
    watch_dir_remove(there);
}

/* The second half. A pair becomes one MOVED if the picture of what moved can be trusted; else it went, and something
 * came, which is scanned. */
static void end_move(struct watch_dir *parent, const struct inotify_event *event, const char *path, bool racy)
{
    struct watch_tree *tree = parent->tree;
    struct move *move;
    bool is_dir = event->mask & IN_ISDIR;
    struct watch_dir *there = is_dir ? dir_find(tree->names, parent, event->name) : NULL;
    DL_SEARCH_SCALAR(tree->moves, move, cookie, event->cookie);
    tree->last_arrival = hash_bytes(0, path, strlen(path));
    bool exchanged = move && move->parent && is_exchange(tree, old_path(tree, move), path);
    bool as_one = move && move->parent && !exchanged;
    if (exchanged)
        watch_dir_queue(tree->root);
    if (there)
        clear_name(there, move ? move->dir : NULL, parent);
    if (is_dir && (racy || there || (move && move->dir && dir_is_within(parent, move->dir))))
        as_one = false;
    if (move && !as_one) {
        give_up_move(tree, move);
        move = NULL;
        if (tree->dead || parent->dead)
            return;
    }
    if (move && move->dir) {
        dir_rename(&tree->names, move->dir, parent, event->name);
        if (!watch_tree_may_descend(tree, path))
            watch_dir_remove(move->dir);
        else if (tree->options.descend) /* below, it may answer otherwise now */
            watch_dir_queue(move->dir);
    } else if (is_dir) {
        watch_dir_want(parent, event->name, path);
    }
    if (move)
        DL_DELETE(tree->moves, move);
    watch_tree_tell(tree, &(struct watch_event){
                              .kind = move ? WATCH_MOVED : WATCH_CHANGED,
                              .path = path,
                              .old_path = move ? old_path(tree, move) : NULL,
                              .mask = IN_MOVED_TO,
                              .is_dir = is_dir,
                          });
    free(move);
}

/* ---- events ---- */

void watch_tree_overflow(struct watch_tree *tree)
{
    tree->overflowed = false;
    watch_tree_give_up_moves(tree);
    watch_tree_tell_simple(tree, tree->options.overflow);
    if (tree->dead)
        return;
    tree->rescan = true;
    watch_tree_need_probe(tree);
}

/* An event of the directory itself. True if it was one. */
static bool on_self_event(struct watch_dir *dir, uint32_t mask)
{
    struct watch_tree *tree = dir->tree;
    bool is_base = dir == tree->root;
    if (mask & IN_UNMOUNT) {
        dir->deleted = true;
        if (!is_base)
            watch_tree_overflow(tree);
    } else if (mask & IN_DELETE_SELF) {
        dir->deleted = true;
    } else if (mask & IN_IGNORED) { /* without the others before it: see inotify_internal.h */
        watcher_detach(tree->watcher, &dir->user);
        if (!is_base && !dir->deleted)
            watch_tree_overflow(tree);
    } else if (!(mask & IN_MOVE_SELF)) {
        return false;
    }
    if (is_base && !tree->dead)
        watch_tree_need_probe(tree);
    return true;
}

static void on_dir_event(struct watch_dir *dir, const struct inotify_event *event, uint64_t epoch)
{
    struct watch_tree *tree = dir->tree;
    if (on_self_event(dir, event->mask) || event->len == 0)
        return;
    dir_path(dir, event->name, &tree->watcher->path);
    const char *path = tree->watcher->path.data;
    bool is_dir = event->mask & IN_ISDIR;
    /* Something else bears the name that a first half has left: nothing may seem to come before it. */
    struct move *move, *next;
    DL_FOREACH_SAFE (tree->moves, move, next)
        if (move->parent == dir && streq(move->name, event->name) &&
            !(event->mask & IN_MOVED_TO && event->cookie == move->cookie)) {
            give_up_move(tree, move);
            break;
        }
    if (tree->dead || dir->dead)
        return;
    if (event->mask & IN_MOVED_FROM) {
        begin_move(dir, event, path);
        return;
    }
    if (event->mask & IN_MOVED_TO) {
        end_move(dir, event, path, epoch <= tree->work_epoch);
        return;
    }
    if (is_dir && event->mask & IN_CREATE) {
        watch_dir_want(dir, event->name, path);
    } else if (is_dir && event->mask & IN_DELETE) {
        struct watch_dir *gone = dir_find(tree->names, dir, event->name);
        if (gone)
            watch_dir_remove(gone);
    }
    uint32_t told = event->mask & (TOLD_MASK | tree->options.mask);
    if (told)
        watch_tree_tell(tree, &(struct watch_event){.path = path, .mask = told, .is_dir = is_dir});
}

static void on_link_event(struct watch_link *link, const struct inotify_event *event)
{
    if (event->mask & (IN_IGNORED | IN_UNMOUNT)) {
        if (event->mask & IN_IGNORED)
            watcher_detach(link->tree->watcher, &link->user);
        watch_tree_need_probe(link->tree);
        return;
    }
    uint32_t mask = event->mask & link->mask;
    if (!mask)
        return;
    bool appeared = mask & (IN_CREATE | IN_MOVED_TO);
    bool self = mask & (IN_DELETE_SELF | IN_MOVE_SELF) || (mask & IN_ATTRIB && event->len == 0);
    if (self || (appeared && event->len > 0 && streq(event->name, link->missing)))
        watch_tree_need_probe(link->tree);
}

static struct watch_tree *user_tree(struct watch_user *user)
{
    return user->is_link ? container_of(user, struct watch_link, user)->tree
                         : container_of(user, struct watch_dir, user)->tree;
}

/* Give the event to the users of its wd: of one tree, or (NULL) of all that are not blocked. Returns true if it must be
 * held for one that is. */
static bool dispatch(struct watcher *w, const struct inotify_event *event, uint64_t epoch,
                     const struct watch_tree *only)
{
    struct watch_user *few[8], **users = few;
    size_t count = 0;
    bool hold = false;
    struct watch_user *first = wd_find(w->users, event->wd);
    for (struct watch_user *user = first; user; user = user->next)
        count++;
    /* The list changes while it is walked; what leaves it has no wd then, and its memory stays until watcher_leave().
     */
    if (count > ARRAY_SIZE(few))
        users = xreallocarray(NULL, count, sizeof(struct watch_user *));
    count = 0;
    for (struct watch_user *user = first; user; user = user->next)
        users[count++] = user;
    for (size_t i = 0; i < count; i++) {
        if (users[i]->wd != event->wd)
            continue;
        struct watch_tree *tree = user_tree(users[i]);
        if (only ? tree != only : tree->blocked) {
            hold |= !only && !tree->overflowed;
            continue;
        }
        if (users[i]->is_link)
            on_link_event(container_of(users[i], struct watch_link, user), event);
        else
            on_dir_event(container_of(users[i], struct watch_dir, user), event, epoch);
    }
    if (users != few)
        free(users);
    return hold;
}

/* ---- events that wait ---- */

static struct watch_tree *find_tree(struct watcher *w, bool blocked, bool overflowed)
{
    struct watch_tree *tree;
    DL_FOREACH (w->trees, tree)
        if (tree->blocked == blocked && tree->overflowed == overflowed)
            return tree;
    return NULL;
}

static void hold_event(struct watcher *w, const struct inotify_event *event)
{
    if (w->held_count == WATCHER_HELD_MAX) {
        struct watch_tree *tree;
        DL_FOREACH (w->trees, tree)
            tree->overflowed |= tree->blocked;
        return;
    }
    struct held *held = xmalloc(sizeof(*held) + event->len);
    held->next = NULL;
    held->seq = w->seq;
    held->epoch = w->epoch;
    memcpy(&held->event, event, sizeof(*event) + event->len);
    if (w->held)
        w->held_last->next = held;
    else
        w->held = held;
    w->held_last = held;
    w->held_count++;
}

void watch_tree_replay(struct watch_tree *tree)
{
    struct watcher *w = tree->watcher;
    for (struct held *held = w->held; held && !tree->dead; held = held->next)
        if (held->seq > tree->blocked_since)
            dispatch(w, &held->event, held->epoch, tree);
}

static void on_event(struct watcher *w, const struct inotify_event *event)
{
    w->seq++;
    if (event->mask & IN_Q_OVERFLOW) {
        struct watch_tree *tree;
        DL_FOREACH (w->trees, tree)
            tree->overflowed = true;
        while ((tree = find_tree(w, false, true)))
            watch_tree_overflow(tree);
        return;
    }
    bool unknown = !wd_find(w->users, event->wd);
    if (unknown ? find_tree(w, true, false) != NULL : dispatch(w, event, w->epoch, NULL))
        hold_event(w, event);
}

void watcher_read_events(struct watcher *w)
{
    char buffer[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
    watcher_enter(w);
    for (int reads = 0; reads < READS_MAX && !w->closing; reads++) {
        ssize_t n = read(w->fd->fd, buffer, sizeof(buffer));
        if (n <= 0) {
            if (n < 0 && errno == EAGAIN)
                w->epoch++;
            break;
        }
        for (const char *at = buffer; at < buffer + n && !w->closing;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)at;
            on_event(w, event);
            at += sizeof(*event) + event->len;
        }
    }
    watcher_leave(w);
}

static struct move *find_expired(struct watcher *w, int64_t now_ms, struct watch_tree **ret_tree)
{
    DL_FOREACH (w->trees, *ret_tree) {
        struct move *oldest = (*ret_tree)->moves;
        if (!(*ret_tree)->blocked && oldest && oldest->deadline_ms <= now_ms)
            return oldest;
    }
    return NULL;
}

void watcher_arm_moves(struct watcher *w)
{
    int64_t earliest = INT64_MAX;
    const struct watch_tree *tree;
    DL_FOREACH (w->trees, tree)
        if (!tree->blocked && tree->moves)
            earliest = MIN(earliest, tree->moves->deadline_ms);
    if (earliest < INT64_MAX)
        timer_start(&w->loop->timers, &w->move_timer, earliest);
}

void watcher_on_move_timeout(struct timer *timer, void *ctx)
{
    (void)timer;
    struct watcher *w = ctx;
    struct watch_tree *tree;
    struct move *move;
    int64_t now_ms = loop_now_ms(w->loop);
    watcher_enter(w);
    watcher_read_events(w); /* the loop may have been busy for longer than the time-out */
    while (!w->closing && (move = find_expired(w, now_ms, &tree)))
        give_up_move(tree, move);
    if (!w->closing)
        watcher_arm_moves(w);
    watcher_leave(w);
}
