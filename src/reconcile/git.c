#include "reconcile/git.h"

#include "reconcile/internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMIT_BYTES_MAX ((size_t)4 << 20)
#define TREE_BYTES_MAX ((size_t)64 << 20)
#define POINTER_MAX 4096 /* of a file that names another place: .git, commondir */

/* ---- the library ---- */

#define GIT_FUNCTIONS(X)                                                                                               \
    X(git_libgit2_init)                                                                                                \
    X(git_libgit2_shutdown)                                                                                            \
    X(git_libgit2_opts)                                                                                                \
    X(git_error_last)                                                                                                  \
    X(git_repository_open_ext)                                                                                         \
    X(git_repository_free)                                                                                             \
    X(git_repository_is_bare)                                                                                          \
    X(git_repository_workdir)                                                                                          \
    X(git_repository_path)                                                                                             \
    X(git_repository_commondir)                                                                                        \
    X(git_repository_odb)                                                                                              \
    X(git_repository_hashfile)                                                                                         \
    X(git_odb_free)                                                                                                    \
    X(git_odb_read_header)                                                                                             \
    X(git_odb_hash)                                                                                                    \
    X(git_oid_cmp)                                                                                                     \
    X(git_oid_tostr)                                                                                                   \
    X(git_oid_cpy)                                                                                                     \
    X(git_reference_lookup)                                                                                            \
    X(git_reference_free)                                                                                              \
    X(git_reference_type)                                                                                              \
    X(git_reference_target)                                                                                            \
    X(git_reference_symbolic_target)                                                                                   \
    X(git_commit_lookup)                                                                                               \
    X(git_commit_free)                                                                                                 \
    X(git_commit_tree_id)                                                                                              \
    X(git_commit_summary)                                                                                              \
    X(git_commit_author)                                                                                               \
    X(git_tree_lookup)                                                                                                 \
    X(git_tree_free)                                                                                                   \
    X(git_tree_entry_byname)                                                                                           \
    X(git_tree_entry_id)                                                                                               \
    X(git_tree_entry_type)                                                                                             \
    X(git_tree_entry_filemode)

struct git_lib {
    pthread_mutex_t lock; /* of loading; what is loaded does not change */
    bool tried, ready;
    char why[256];                    /* not ready */
#define MEMBER(f) __typeof__(&(f)) f; /* NOLINT(bugprone-macro-parentheses) */
    GIT_FUNCTIONS(MEMBER)
#undef MEMBER
};

struct git_lib *git_lib_create(void)
{
    struct git_lib *lib = xcalloc(1, sizeof(*lib));
    pthread_mutex_init(&lib->lock, NULL);
    return lib;
}

void git_lib_destroy(struct git_lib *lib)
{
    if (!lib)
        return;
    if (lib->ready)
        lib->git_libgit2_shutdown();
    pthread_mutex_destroy(&lib->lock);
    free(lib);
}

/* What a repository may say to change how others behave is not asked: neither the user's nor the system's settings. */
static void configure(struct git_lib *lib)
{
    static const git_config_level_t levels[] = {GIT_CONFIG_LEVEL_PROGRAMDATA, GIT_CONFIG_LEVEL_SYSTEM,
                                                GIT_CONFIG_LEVEL_XDG, GIT_CONFIG_LEVEL_GLOBAL};
    static const char *extensions[] = {"worktreeconfig", "partialclone", "preciousobjects", "relativeworktrees"};
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
        lib->git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "");
    lib->git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    lib->git_libgit2_opts(GIT_OPT_ENABLE_CACHING, 0);
    lib->git_libgit2_opts(GIT_OPT_SET_EXTENSIONS, extensions, ARRAY_SIZE(extensions));
}

static const char *load(struct git_lib *lib)
{
    /* It stays: threads of the pool end after us, and the library has something to do then. */
    void *handle = dlopen("libgit2.so." LIBGIT2_SOVERSION, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle)
        return dlerror();
#define RESOLVE(f)                                                                                                     \
    *(void **)&lib->f = dlsym(handle, #f);                                                                             \
    if (!lib->f)                                                                                                       \
        return dlerror();
    GIT_FUNCTIONS(RESOLVE)
#undef RESOLVE
    if (lib->git_libgit2_init() < 0)
        return "libgit2 cannot be initialised";
    configure(lib);
    return NULL;
}

static bool lib_ready(struct git_lib *lib)
{
    pthread_mutex_lock(&lib->lock);
    if (!lib->tried) {
        const char *why = load(lib);
        snprintf(lib->why, sizeof(lib->why), "%s", why ? why : "");
        lib->ready = !why;
        lib->tried = true;
    }
    pthread_mutex_unlock(&lib->lock);
    return lib->ready;
}

/* ---- pieces ---- */

static int trouble(struct git_look *look, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int trouble(struct git_look *look, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(look->trouble, sizeof(look->trouble), format, args);
    va_end(args);
    return -1;
}

static int git_trouble(struct git_look *look, const char *what)
{
    const git_error *e = look->lib->git_error_last();
    return trouble(look, "%s: %s", what, e && e->message ? e->message : "unknown error");
}

static void watch_place(struct git_look *look, const char *dir, size_t len, const char *name)
{
    while (len > 1 && dir[len - 1] == '/')
        len--;
    look->places = xreallocarray(look->places, look->n_places + 1, sizeof(*look->places));
    look->places[look->n_places++] = (struct git_place){.dir = xstrndup(dir, len), .name = xstrdup0(name)};
}

/* Opening something else than a file could block for ever (a FIFO), or never end. */
static bool is_harmless(const char *dir, const char *name)
{
    struct stat st;
    _cleanup_(freep) char *path = xasprintf("%s/%s", dir, name);
    return stat(path, &st) < 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode);
}

/* The one line of a small file, or NULL. */
static char *read_pointer(const char *dir, const char *name)
{
    struct stat st;
    struct buf b = {0};
    _cleanup_(freep) char *path = xasprintf("%s/%s", dir, name);
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > POINTER_MAX || read_all(fd, &b) < 0 ||
        b.len == 0) {
        buf_fini(&b);
        return NULL;
    }
    b.data[strcspn(b.data, "\r\n")] = '\0';
    return buf_steal(&b);
}

/* `to` as seen from `dir`, real; NULL: it is not there. */
static char *resolve(const char *dir, const char *to)
{
    _cleanup_(freep) char *path = to[0] == '/' ? xstrdup(to) : xasprintf("%s/%s", dir, to);
    return realpath(path, NULL);
}

/* Text of others on one line: what is no UTF-8 and what is no character is replaced. */
static void copy_line(char *to, size_t cap, const char *from)
{
    size_t used = 0;
    for (size_t len = from ? strlen(from) : 0; len > 0;) {
        size_t n = utf8_sequence(from, len), step = MAX(n, (size_t)1);
        bool control = n == 1 && ((unsigned char)*from < 0x20 || *from == 0x7F);
        const char *put = n == 0 ? "\xEF\xBF\xBD" : control ? " " : from;
        size_t put_len = n == 0 ? 3 : control ? 1 : n;
        if (used + put_len + 1 > cap)
            break;
        memcpy(to + used, put, put_len);
        used += put_len;
        from += step;
        len -= step;
    }
    to[used] = '\0';
}

/* ---- the work tree ---- */

/* Up from `real`: where `.git` is; every place where one could come is watched. */
static bool find_root(struct git_look *look, const char *real)
{
    struct stat st, git;
    dev_t dev = 0;
    _cleanup_(freep) char *at = xstrdup(real);
    for (bool first = true;; first = false) {
        if (stat(*at ? at : "/", &st) < 0 || (!first && (st.st_dev != dev || look->nested)) || (st.st_mode & S_ISVTX))
            return false;
        dev = st.st_dev;
        _cleanup_(freep) char *path = xasprintf("%s/.git", at);
        watch_place(look, path, strlen(path), NULL);
        if (lstat(path, &git) == 0) {
            snprintf(look->root, sizeof(look->root), "%s", *at ? at : "/");
            return true;
        }
        char *slash = strrchr(at, '/');
        if (!slash)
            return false;
        *slash = '\0';
    }
}

/* What will be read is looked at before libgit2 opens it. */
static int check_files(struct git_look *look, char **ret_git, char **ret_common)
{
    struct stat st;
    _cleanup_(freep) char *path = xasprintf("%s/.git", look->root);
    if (stat(path, &st) < 0)
        return trouble(look, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        *ret_git = realpath(path, NULL);
    } else {
        _cleanup_(freep) char *pointer = read_pointer(look->root, ".git");
        if (!pointer || strncmp(pointer, "gitdir:", 7) != 0)
            return trouble(look, "%s is no repository, and names none", path);
        *ret_git = resolve(look->root, pointer + 7 + strspn(pointer + 7, " "));
    }
    if (!*ret_git)
        return trouble(look, "%s leads nowhere", path);
    watch_place(look, *ret_git, strlen(*ret_git), NULL);
    _cleanup_(freep) char *common = read_pointer(*ret_git, "commondir");
    *ret_common = common ? resolve(*ret_git, common) : xstrdup(*ret_git);
    if (!*ret_common)
        return trouble(look, "%s/commondir leads nowhere", *ret_git);
    watch_place(look, *ret_common, strlen(*ret_common), NULL);
    static const char *const names[] = {"HEAD", "commondir", "gitdir", "config.worktree"};
    static const char *const common_names[] = {"config", "packed-refs", "shallow", "objects/info/alternates"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (!is_harmless(*ret_git, names[i]))
            return trouble(look, "%s/%s is no file", *ret_git, names[i]);
    for (size_t i = 0; i < ARRAY_SIZE(common_names); i++)
        if (!is_harmless(*ret_common, common_names[i]))
            return trouble(look, "%s/%s is no file", *ret_common, common_names[i]);
    return 0;
}

static int open_repository(struct git_look *look, const char *real, git_repository **ret)
{
    struct git_lib *lib = look->lib;
    if (lib->git_repository_open_ext(ret, look->root, GIT_REPOSITORY_OPEN_NO_SEARCH, NULL) < 0)
        return git_trouble(look, look->root);
    const char *work = lib->git_repository_workdir(*ret);
    if (lib->git_repository_is_bare(*ret) || !work)
        return trouble(look, "%s: the repository has no work tree", look->root);
    _cleanup_(freep) char *real_work = realpath(work, NULL);
    size_t len = real_work ? strlen(real_work) : 0;
    while (len > 0 && real_work[len - 1] == '/')
        len--;
    if (len == 0 || strncmp(real, real_work, len) != 0 || (real[len] && real[len] != '/'))
        return trouble(look, "%s: its work tree is elsewhere", look->root);
    snprintf(look->root, sizeof(look->root), "%s", real_work);
    return 0;
}

/* ---- HEAD ---- */

/* From HEAD to the commit; each reference on the way is watched. */
static int resolve_head(struct git_look *look, git_repository *repo, const char *git, const char *common, git_oid *ret)
{
    struct git_lib *lib = look->lib;
    _cleanup_(freep) char *name = xstrdup("HEAD");
    for (int i = 0; i < GIT_REFS_MAX; i++) {
        git_reference *ref = NULL;
        if (i > 0) {
            _cleanup_(freep) char *path = xasprintf("%s/%s", common, name);
            const char *leaf = strrchr(path, '/') + 1;
            watch_place(look, path, (size_t)(leaf - path), leaf);
        }
        if (!is_harmless(common, name) || !is_harmless(git, name))
            return trouble(look, "%s is no file", name);
        int r = lib->git_reference_lookup(&ref, repo, name);
        if (r == GIT_ENOTFOUND && i > 0)
            return trouble(look, "%s: there is no commit yet on %s", look->root, name);
        if (r < 0)
            return git_trouble(look, name);
        const char *next = lib->git_reference_symbolic_target(ref);
        bool found = lib->git_reference_type(ref) == GIT_REFERENCE_DIRECT;
        if (found)
            lib->git_oid_cpy(ret, lib->git_reference_target(ref));
        free(name);
        name = xstrdup(next ? next : "");
        lib->git_reference_free(ref);
        if (found)
            return 0;
    }
    return trouble(look, "HEAD goes on for ever");
}

static bool is_small(struct git_lib *lib, git_odb *odb, const git_oid *id, git_object_t type, size_t max)
{
    size_t len;
    git_object_t found;
    return lib->git_odb_read_header(&len, &found, odb, id) == 0 && found == type && len <= max;
}

static int read_commit(struct git_look *look, git_repository *repo, git_odb *odb, const git_oid *id, git_oid *ret_tree)
{
    struct git_lib *lib = look->lib;
    git_commit *commit = NULL;
    if (!is_small(lib, odb, id, GIT_OBJECT_COMMIT, COMMIT_BYTES_MAX) || lib->git_commit_lookup(&commit, repo, id) < 0)
        return git_trouble(look, "the commit of HEAD");
    const git_signature *author = lib->git_commit_author(commit);
    lib->git_oid_tostr(look->id, sizeof(look->id), id);
    lib->git_oid_cpy(ret_tree, lib->git_commit_tree_id(commit));
    lib->git_oid_tostr(look->tree, sizeof(look->tree), ret_tree);
    copy_line(look->subject, sizeof(look->subject), lib->git_commit_summary(commit));
    look->authored_ms = author ? author->when.time * 1000 : 0;
    lib->git_commit_free(commit);
    return 0;
}

/* ---- files against a tree ---- */

/* The directory of a tree that was last asked for: files come by directory. */
struct tree_dir {
    struct git_lib *lib;
    git_repository *repo;
    git_odb *odb;
    git_oid root;
    bool valid; /* `path` was looked for */
    char *path;
    git_tree *tree; /* NULL: there is no such directory */
    bool broken;    /* … or it cannot be read */
};

static void tree_dir_fini(struct tree_dir *d)
{
    if (d->tree)
        d->lib->git_tree_free(d->tree);
    free(d->path);
}

static git_tree *open_tree(struct tree_dir *d, const git_oid *id)
{
    git_tree *tree = NULL;
    if (!is_small(d->lib, d->odb, id, GIT_OBJECT_TREE, TREE_BYTES_MAX) ||
        d->lib->git_tree_lookup(&tree, d->repo, id) < 0)
        d->broken = true;
    return tree;
}

static void tree_dir_go(struct tree_dir *d, const char *path, size_t len)
{
    if (d->valid && strlen(d->path) == len && strncmp(d->path, path, len) == 0)
        return;
    if (d->tree)
        d->lib->git_tree_free(d->tree);
    free(d->path);
    d->path = xstrndup(path, len);
    d->valid = true;
    d->broken = false;
    d->tree = open_tree(d, &d->root);
    for (const char *name = d->path; *name && d->tree;) {
        size_t n = strcspn(name, "/");
        _cleanup_(freep) char *part = xstrndup(name, n);
        const git_tree_entry *entry = d->lib->git_tree_entry_byname(d->tree, part);
        bool is_tree = entry && d->lib->git_tree_entry_type(entry) == GIT_OBJECT_TREE;
        git_tree *next = is_tree ? open_tree(d, d->lib->git_tree_entry_id(entry)) : NULL;
        d->lib->git_tree_free(d->tree);
        d->tree = next;
        name += n + (name[n] == '/');
    }
}

/* The entry of a path relative to the root; NULL: none (or `broken`). It lives until the next call. */
static const git_tree_entry *tree_dir_entry(struct tree_dir *d, const char *path)
{
    const char *slash = strrchr(path, '/');
    tree_dir_go(d, path, slash ? (size_t)(slash - path) : 0);
    return d->tree ? d->lib->git_tree_entry_byname(d->tree, slash ? slash + 1 : path) : NULL;
}

/* What would be stored of the file as it is now; of a link, what it says. 0, or -1: it cannot be told. */
static int hash_file(struct git_lib *lib, const char *path, bool *ret_link, struct buf *text, git_oid *ret)
{
    struct stat st;
    text->len = 0;
    if (lstat(path, &st) < 0)
        return -1;
    *ret_link = S_ISLNK(st.st_mode);
    if (*ret_link) {
        char target[PATH_MAX];
        ssize_t n = readlink(path, target, sizeof(target));
        return n < 0 ? -1 : lib->git_odb_hash(ret, target, (size_t)n, GIT_OBJECT_BLOB);
    }
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || read_all(fd, text) < 0)
        return -1;
    return lib->git_odb_hash(ret, text->data ? text->data : "", text->len, GIT_OBJECT_BLOB);
}

/* Line ends and keywords may be stored in another form than they are checked out in; those conversions are built in. */
static bool same_when_stored(struct git_look *look, struct tree_dir *d, const char *path, const struct buf *text,
                             const git_oid *stored)
{
    git_oid id;
    if (!memchr(text->data, '\r', text->len) && !memmem(text->data, text->len, "$Id", 3))
        return false;
    _cleanup_(freep) char *dir = xstrdup(look->root);
    for (const char *at = path;; at += strcspn(at, "/") + 1) {
        if (!is_harmless(dir, ".gitattributes"))
            return false;
        if (!strchr(at, '/'))
            break;
        char *below = xasprintf("%s/%.*s", dir, (int)strcspn(at, "/"), at);
        free(dir);
        dir = below;
    }
    return d->lib->git_repository_hashfile(&id, d->repo, path, GIT_OBJECT_BLOB, path) == 0 &&
           d->lib->git_oid_cmp(&id, stored) == 0;
}

static struct stored find_stored(struct tree_dir *d, const char *path)
{
    const git_tree_entry *entry = tree_dir_entry(d, path);
    struct stored s = {.kind = d->broken ? STORED_UNKNOWN : STORED_NOTHING};
    if (!entry)
        return s;
    s.kind = STORED_FILE;
    if (d->lib->git_tree_entry_type(entry) != GIT_OBJECT_BLOB)
        s.kind = STORED_OTHER;
    else if (d->lib->git_tree_entry_filemode(entry) == GIT_FILEMODE_LINK)
        s.kind = STORED_LINK;
    memcpy(s.id, d->lib->git_tree_entry_id(entry)->id, sizeof(s.id));
    return s;
}

static bool same_stored(const struct stored *a, const struct stored *b)
{
    return a->kind == b->kind && memcmp(a->id, b->id, sizeof(a->id)) == 0;
}

static uint8_t judge(struct git_look *look, struct tree_dir *d, const char *path, const char *full,
                     const struct stored *stored, struct buf *text)
{
    git_oid id, wanted;
    bool is_link;
    if (stored->kind == STORED_UNKNOWN || hash_file(look->lib, full, &is_link, text, &id) < 0)
        return ORIGIN_UNKNOWN;
    if (stored->kind != (is_link ? STORED_LINK : STORED_FILE))
        return ORIGIN_DIRTY;
    memcpy(wanted.id, stored->id, sizeof(wanted.id));
    bool same = look->lib->git_oid_cmp(&wanted, &id) == 0 ||
                (!is_link && text->len > 0 && same_when_stored(look, d, path, text, &wanted));
    return same ? ORIGIN_CLEAN : ORIGIN_DIRTY;
}

static int by_path(const void *a, const void *b)
{
    const struct git_file *x = *(const struct git_file *const *)a, *y = *(const struct git_file *const *)b;
    return strcmp(x->path, y->path);
}

static void compare_files(struct git_look *look, git_repository *repo, git_odb *odb, const char *real,
                          const git_oid *tree)
{
    struct git_lib *lib = look->lib;
    struct tree_dir now = {.lib = lib, .repo = repo, .odb = odb, .root = *tree};
    struct buf text = {0};
    const char *below_root = real + strlen(look->root);
    bool same_root = streq(look->known_root, look->root), same_tree = same_root && streq(look->known_tree, look->tree);
    _cleanup_(freep) struct git_file **order = xcalloc(look->n_files, sizeof(struct git_file *));
    for (size_t i = 0; i < look->n_files; i++)
        order[i] = &look->files[i];
    if (look->n_files > 1)
        qsort(order, look->n_files, sizeof(struct git_file *), by_path);
    for (size_t i = 0; i < look->n_files; i++) {
        struct git_file *f = order[i];
        _cleanup_(freep) char *full = xasprintf("%s%s", real, f->path + strlen(look->start));
        const char *path = full + (below_root - real);
        path += *path == '/';
        bool known = same_tree && f->stored.kind != STORED_UNKNOWN;
        struct stored stored = known ? f->stored : find_stored(&now, path);
        bool same = same_root && same_stored(&stored, &f->stored);
        f->stored = stored;
        if (!same || f->state == ORIGIN_UNKNOWN)
            f->state = judge(look, &now, path, full, &stored, &text);
    }
    buf_fini(&text);
    tree_dir_fini(&now);
}

/* ---- a look ---- */

static void look_inside(struct git_look *look, const char *real)
{
    struct git_lib *lib = look->lib;
    git_repository *repo = NULL;
    git_odb *odb = NULL;
    git_oid id, tree;
    _cleanup_(freep) char *git = NULL, *common = NULL;
    if (check_files(look, &git, &common) < 0)
        return;
    if (!lib_ready(lib)) {
        trouble(look, "%s", lib->why);
        return;
    }
    if (open_repository(look, real, &repo) == 0) {
        if (lib->git_repository_odb(&odb, repo) < 0)
            git_trouble(look, look->root);
        else if (resolve_head(look, repo, git, common, &id) == 0 && read_commit(look, repo, odb, &id, &tree) == 0 &&
                 look->n_files > 0)
            compare_files(look, repo, odb, real, &tree);
    }
    if (odb)
        lib->git_odb_free(odb);
    if (repo)
        lib->git_repository_free(repo);
}

void git_look_run(struct git_look *look)
{
    _cleanup_(freep) char *real = realpath(look->start, NULL);
    look->gone = !real;
    if (real && find_root(look, real))
        look_inside(look, real);
    for (size_t i = 0; i < look->n_files && !look->id[0]; i++) {
        look->files[i].state = ORIGIN_UNKNOWN;
        look->files[i].stored.kind = STORED_UNKNOWN;
    }
}

void git_look_fini(struct git_look *look)
{
    for (size_t i = 0; i < look->n_places; i++) {
        free(look->places[i].dir);
        free(look->places[i].name);
    }
    free(look->places);
    look->places = NULL;
    look->n_places = 0;
}
