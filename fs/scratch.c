#include "fs/scratch.h"

#include "fs/names.h"
#include "fs/real.h"

bool scratch_name(const struct node *parent, const char *name)
{
    if (parent->kind == NODE_DIR)
        return name_is_scratch(name) && !real_is_hidden(parent);
    return node_is_home(parent);
}

struct node *scratch_find(const struct node *parent, const char *name)
{
    struct node *n = node_find(parent, name);
    return n && n->kind == NODE_SCRATCH ? n : NULL;
}

static void touch(struct scratch *s)
{
    clock_gettime(CLOCK_REALTIME, &s->mtime);
}

struct node *scratch_new(struct node *parent, const char *name, mode_t mode, const char *link)
{
    struct fs *fs = parent->fs;
    struct node *old = scratch_find(parent, name);
    if (old)
        scratch_remove(old);
    if (fs->scratch_n >= SCRATCH_FILES_MAX)
        return NULL;
    struct scratch *s = xcalloc(1, sizeof(*s));
    s->node = node_get(parent, name, NODE_SCRATCH, ++fs->generations); /* this reference is its name's */
    s->node->scratch = s;
    s->mode = link ? S_IFLNK | 0777 : S_IFREG | (mode & 07777);
    s->link = xstrdup0(link);
    touch(s);
    fs->scratch_n++;
    DL_APPEND(fs->scratches, s);
    return s->node;
}

void scratch_free(struct scratch *s)
{
    struct fs *fs = s->node->fs;
    fs->scratch_bytes -= s->data.len;
    fs->scratch_n--;
    DL_DELETE(fs->scratches, s);
    buf_fini(&s->data);
    free(s->link);
    free(s);
}

/* Room for so many bytes in all, zeroes after what there is. */
static int grow(struct scratch *s, size_t len)
{
    struct fs *fs = s->node->fs;
    if (len > SCRATCH_FILE_MAX)
        return -EFBIG;
    if (len <= s->data.len)
        return 0;
    size_t more = len - s->data.len;
    if (fs->scratch_bytes + more > SCRATCH_BYTES_MAX)
        return -ENOSPC;
    memset(buf_reserve(&s->data, more), 0, more + 1);
    s->data.len = len;
    fs->scratch_bytes += more;
    return 0;
}

int scratch_truncate(struct node *n, off_t size)
{
    struct scratch *s = n->scratch;
    touch(s);
    if (size < 0 || (size_t)size >= s->data.len)
        return size < 0 ? -EINVAL : grow(s, (size_t)size);
    n->fs->scratch_bytes -= s->data.len - (size_t)size;
    s->data.len = (size_t)size;
    if (s->data.data)
        s->data.data[size] = '\0';
    return 0;
}

int scratch_write(struct node *n, const char *data, size_t len, off_t off, bool append)
{
    struct scratch *s = n->scratch;
    size_t at = append ? s->data.len : (size_t)off;
    if (off < 0 || at > SCRATCH_FILE_MAX || len > SCRATCH_FILE_MAX)
        return -EFBIG;
    int r = grow(s, at + len);
    if (r < 0)
        return r;
    if (len > 0)
        memcpy(s->data.data + at, data, len);
    touch(s);
    return 0;
}

int scratch_set(struct node *n, const char *data, size_t len)
{
    scratch_truncate(n, 0);
    return scratch_write(n, data, len, 0, false);
}

void scratch_remove(struct node *n)
{
    node_unname(n);
    node_unref(n);
}

void scratch_rename(struct node *n, struct node *parent, const char *name)
{
    struct node *there = scratch_find(parent, name);
    if (there == n)
        return;
    if (there)
        scratch_remove(there);
    node_rename(n, parent, name);
}

void scratch_forget_below(struct node *parent)
{
    struct scratch *s, *next;
    DL_FOREACH_SAFE (parent->fs->scratches, s, next)
        if (s->node->parent == parent && s->node->key)
            scratch_remove(s->node);
}

void scratch_stat(const struct node *n, struct stat *st)
{
    const struct scratch *s = n->scratch;
    st->st_mode = S_ISLNK(s->mode) ? s->mode : (mode_t)(s->mode & ~n->fs->umask);
    st->st_size = (off_t)(s->link ? strlen(s->link) : s->data.len);
    st->st_blocks = (st->st_size + 511) / 512;
    st->st_atim = st->st_mtim = st->st_ctim = s->mtime;
}

void scratch_setattr(struct node *n, const struct stat *attr, int to_set)
{
    struct scratch *s = n->scratch;
    if (to_set & FUSE_SET_ATTR_MODE)
        s->mode = (s->mode & S_IFMT) | (attr->st_mode & 07777);
    if (to_set & FUSE_SET_ATTR_MTIME)
        s->mtime = attr->st_mtim;
    else if (to_set & FUSE_SET_ATTR_MTIME_NOW)
        touch(s);
}

void scratch_list(const struct node *parent, struct listing *l)
{
    const struct scratch *s;
    DL_FOREACH (parent->fs->scratches, s)
        if (s->node->parent == parent && s->node->key)
            listing_add(l, s->node->name, s->node->ino, s->mode & S_IFMT);
}
