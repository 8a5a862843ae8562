#include "fs/manifest.h"
#include "fs/real.h"
#include "fs/scratch.h"
#include "fs/stream.h"

#define DIRECTORY (S_IFDIR | 0777)
#define READABLE (S_IFREG | 0444)
#define WRITABLE (S_IFREG | 0666)
#define WRITE_ONLY (S_IFREG | 0666)

const struct node_info node_infos[NODE_KINDS] = {
    [NODE_ROOT] = {CLASS_DIR, DIRECTORY, true},
    [NODE_README] = {CLASS_TEXT, READABLE, true},
    [NODE_VERSION] = {CLASS_TEXT, READABLE, true},
    [NODE_HEALTH] = {CLASS_TEXT, READABLE, true},
    [NODE_ERRORS] = {CLASS_TEXT, READABLE, true},
    [NODE_STATS] = {CLASS_TEXT, READABLE, true},
    [NODE_METRICS] = {CLASS_TEXT, READABLE, true},
    [NODE_TRIGGERS] = {CLASS_DIR, DIRECTORY, true},
    [NODE_TRIGGER] = {CLASS_DIR, DIRECTORY, false},
    [NODE_PIPELINES] = {CLASS_DIR, DIRECTORY, true},
    [NODE_PIPELINE] = {CLASS_DIR, DIRECTORY, false},
    [NODE_NEW] = {CLASS_DIR, DIRECTORY, false},
    [NODE_OWN_MANIFEST] = {CLASS_MANIFEST, WRITABLE, false},
    [NODE_REJECTED] = {CLASS_TEXT, READABLE, false},
    [NODE_ERROR] = {CLASS_TEXT, READABLE, true},
    [NODE_STATUS] = {CLASS_CONTROL, WRITABLE, true},
    [NODE_STATUS_JSON] = {CLASS_TEXT, READABLE, true},
    [NODE_CONDITIONS] = {CLASS_TEXT, READABLE, true},
    [NODE_CTL] = {CLASS_CONTROL, WRITABLE, true},
    [NODE_TEST] = {CLASS_CONTROL, WRITABLE, true},
    [NODE_LOG] = {CLASS_LOG, READABLE, false},
    [NODE_STREAM] = {CLASS_STREAM, READABLE, true},
    [NODE_EVENTS] = {CLASS_DIR, DIRECTORY, true},
    [NODE_EVENT] = {CLASS_TEXT, READABLE, false},
    [NODE_RUNS] = {CLASS_DIR, DIRECTORY, true},
    [NODE_RUN] = {CLASS_DIR, DIRECTORY, false},
    [NODE_RUN_STATUS] = {CLASS_TEXT, READABLE, true},
    [NODE_RUN_INPUTS] = {CLASS_TEXT, READABLE, true},
    [NODE_RUN_OUTPUTS] = {CLASS_TEXT, READABLE, true},
    [NODE_RUN_CTL] = {CLASS_CONTROL, WRITABLE, true},
    [NODE_STEPS] = {CLASS_DIR, DIRECTORY, true},
    [NODE_STEP] = {CLASS_DIR, DIRECTORY, false},
    [NODE_STDOUT] = {CLASS_TEXT, READABLE, true},
    [NODE_STDERR] = {CLASS_TEXT, READABLE, true},
    [NODE_BY_TYPE] = {CLASS_DIR, DIRECTORY, true},
    [NODE_BY_PIPELINE] = {CLASS_DIR, DIRECTORY, true},
    [NODE_BY_STATUS] = {CLASS_DIR, DIRECTORY, true},
    [NODE_TYPE] = {CLASS_DIR, DIRECTORY, true},
    [NODE_OF_PIPELINE] = {CLASS_DIR, DIRECTORY, false},
    [NODE_OF_STATUS] = {CLASS_DIR, DIRECTORY, true},
    [NODE_LINK] = {CLASS_LINK, S_IFLNK | 0777, false},
    [NODE_EMIT] = {CLASS_DIR, DIRECTORY, true},
    [NODE_ENDPOINT] = {CLASS_CONTROL, WRITABLE, false},
    [NODE_SCHEMAS] = {CLASS_DIR, DIRECTORY, true},
    [NODE_SCHEMA] = {CLASS_TEXT, READABLE, true},
    [NODE_MANIFESTS] = {CLASS_DIR, DIRECTORY, true},
    [NODE_DIR] = {CLASS_DIR, DIRECTORY, false},
    [NODE_FILE] = {CLASS_REAL, WRITABLE, false},
    [NODE_SYMLINK] = {CLASS_LINK, S_IFLNK | 0777, false},
    [NODE_MANIFEST] = {CLASS_MANIFEST, WRITABLE, false},
    [NODE_SCRATCH] = {CLASS_SCRATCH, WRITABLE, false},
};

/* ---- names ---- */

static char *key_of(const struct node *parent, const char *name)
{
    return xasprintf("%llx/%s", (unsigned long long)parent->generation, name);
}

uint64_t node_ino(uint64_t parent_ino, const char *name, uint64_t incarnation)
{
    uint64_t h = hash_bytes(0, &parent_ino, sizeof(parent_ino));
    h = hash_bytes(h, &incarnation, sizeof(incarnation));
    return hash_bytes(h, name, strlen(name)) | 2; /* neither 0 nor the root's */
}

struct node *node_find(const struct node *parent, const char *name)
{
    struct node *n = NULL;
    _cleanup_(freep) char *key = key_of(parent, name);
    HASH_FIND_STR(parent->fs->nodes, key, n);
    return n;
}

static void set_name(struct node *n, struct node *parent, const char *name)
{
    n->parent = parent ? node_ref(parent) : NULL;
    n->name = xstrdup(name);
    n->key = parent ? key_of(parent, name) : xstrdup("");
    HASH_ADD_KEYPTR(hh, n->fs->nodes, n->key, strlen(n->key), n);
}

void node_unname(struct node *n)
{
    if (!n->key)
        return;
    HASH_DELETE(hh, n->fs->nodes, n);
    free(n->key);
    n->key = NULL;
    DL_APPEND(n->fs->orphans, n);
}

void node_rename(struct node *n, struct node *parent, const char *name)
{
    struct node *old_parent = n->parent;
    struct node *there = node_find(parent, name);
    if (there && there != n)
        node_unname(there);
    node_ref(n);
    if (n->key)
        HASH_DELETE(hh, n->fs->nodes, n);
    else
        DL_DELETE(n->fs->orphans, n);
    free(n->key);
    free(n->name);
    set_name(n, parent, name);
    node_unref(old_parent);
    node_unref(n);
}

struct node *node_ref(struct node *n)
{
    n->refs++;
    return n;
}

static struct node *node_new(struct fs *fs, struct node *parent, const char *name, enum node_kind kind,
                             uint64_t incarnation)
{
    struct node *n = xcalloc(1, sizeof(*n));
    n->fs = fs;
    n->kind = kind;
    n->incarnation = incarnation;
    n->generation = ++fs->generations;
    n->refs = 1;
    bool resource = kind == NODE_TRIGGER || kind == NODE_PIPELINE;
    n->ino = parent ? node_ino(parent->ino, name, resource ? incarnation : 0) : FUSE_ROOT_ID;
    set_name(n, parent, name);
    return n;
}

struct node *node_get(struct node *parent, const char *name, enum node_kind kind, uint64_t incarnation)
{
    struct node *n = node_find(parent, name);
    if (n && n->kind == kind && n->incarnation == incarnation)
        return node_ref(n);
    if (n)
        node_unname(n);
    return node_new(parent->fs, parent, name, kind, incarnation);
}

static void node_fini(struct node *n)
{
    if (n->scratch)
        scratch_free(n->scratch);
    free(n->mfile);
    free(n->key);
    free(n->name);
    free(n->path);
}

static void node_free(struct node *n)
{
    if (n->key)
        HASH_DELETE(hh, n->fs->nodes, n);
    else
        DL_DELETE(n->fs->orphans, n);
    node_fini(n);
    free(n);
}

void node_unref(struct node *n)
{
    while (n && --n->refs == 0) {
        struct node *parent = n->parent;
        node_free(n);
        n = parent;
    }
}

void node_forget(struct node *n, uint64_t lookups)
{
    if (n == n->fs->root || n->lookups == 0)
        return;
    n->lookups -= MIN(lookups, n->lookups);
    if (n->lookups == 0)
        node_unref(n);
}

struct node *node_root(struct fs *fs)
{
    return node_new(fs, NULL, "", NODE_ROOT, 0);
}

void nodes_free(struct fs *fs)
{
    struct node *n, *next;
    HASH_ITER (hh, fs->nodes, n, next)
        n->lookups = 0; /* the kernel is gone */
    n = fs->nodes;
    HASH_CLEAR(hh, fs->nodes); /* the table alone; the items stay linked */
    for (; n; n = next) {
        next = n->hh.next;
        node_fini(n);
        free(n);
    }
    DL_FOREACH_SAFE (fs->orphans, n, next) {
        node_fini(n);
        free(n);
    }
    fs->orphans = NULL;
}

/* ---- what it is ---- */

const struct node *node_above(const struct node *n, enum node_kind kind)
{
    while (n && n->kind != kind)
        n = n->parent;
    return n;
}

const char *node_resource(const struct node *n, enum resource_kind *ret_kind)
{
    for (; n; n = n->parent) {
        if (n->kind == NODE_TRIGGER || n->kind == NODE_PIPELINE) {
            *ret_kind = n->kind == NODE_TRIGGER ? RESOURCE_TRIGGER : RESOURCE_PIPELINE;
            return n->name;
        }
        if (n->kind == NODE_NEW) {
            *ret_kind = n->parent->kind == NODE_TRIGGERS ? RESOURCE_TRIGGER : RESOURCE_PIPELINE;
            return n->name;
        }
    }
    return NULL;
}

/* When what it shows last changed. */
int64_t node_changed_ms(const struct node *n)
{
    struct api *a = n->fs->api;
    enum resource_kind kind;
    struct api_trigger_look trigger;
    struct api_pipeline_look pipeline;
    const char *id = node_resource(n, &kind);
    bool manifest = n->kind == NODE_OWN_MANIFEST;
    if (id && kind == RESOURCE_TRIGGER && api_look_trigger(a, id, &trigger))
        return manifest ? trigger.updated_ms : trigger.changed_ms;
    if (id && kind == RESOURCE_PIPELINE && api_look_pipeline(a, id, &pipeline))
        return manifest ? pipeline.updated_ms : pipeline.changed_ms;
    return n->fs->started_ms;
}

void stat_time(struct stat *st, int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    st->st_atim = st->st_mtim = st->st_ctim = t;
}

/* As it is on disk, but for owner and group, which are those of the mount, and what the umask takes. */
static void real_stat(const struct node *n, struct stat *st)
{
    mode_t umask = S_ISLNK(n->seen.st_mode) ? 0 : n->fs->umask;
    st->st_mode = n->seen.st_mode & ~umask;
    st->st_size = n->seen.st_size;
    st->st_blocks = n->seen.st_blocks;
    st->st_nlink = n->kind == NODE_MANIFEST ? 1 : n->seen.st_nlink;
    st->st_atim = n->seen.st_atim;
    st->st_mtim = n->seen.st_mtim;
    st->st_ctim = n->kind == NODE_MANIFEST ? n->seen.st_mtim : n->seen.st_ctim;
    if (n->seen.st_mode == 0) { /* a manifest that is being made */
        st->st_mode = (mode_t)(S_IFREG | (0644 & ~umask));
        st->st_nlink = 1;
        stat_time(st, clock_realtime_ms(n->fs->api->clock));
    }
}

void node_stat(const struct node *n, struct stat *st)
{
    const struct node_info *info = &node_infos[n->kind];
    const struct fs *fs = n->fs;
    mode_t mode = info->mode;
    if (!S_ISLNK(mode))
        mode = (mode_t)(mode & ~fs->umask);
    *st = (struct stat){.st_ino = n->ino,
                        .st_mode = mode,
                        .st_nlink = S_ISDIR(mode) ? 2 : 1,
                        .st_uid = fs->uid,
                        .st_gid = fs->gid,
                        .st_blksize = 4096};
    if (real_is(n)) {
        real_stat(n, st);
        manifest_stat(n, st);
    } else if (n->kind == NODE_LOG) {
        log_stat(n, st);
    } else if (n->scratch) {
        scratch_stat(n, st);
    } else {
        stat_time(st, node_changed_ms(n));
    }
}
