#include "fs/manifest.h"

#include "fs/real.h"
#include "manifest/document.h"

#include <fcntl.h>

/* ---- mfiles ---- */

static struct mfile *mfile_get(struct node *n)
{
    if (n->mfile)
        return n->mfile;
    struct mfile *mf = xcalloc(1, sizeof(*mf));
    mf->node = node_ref(n);
    n->mfile = mf;
    DL_APPEND(n->fs->mfiles, mf);
    return mf;
}

/* It goes when nothing is left to be told of it. */
static void mfile_check(struct mfile *mf)
{
    struct node *n = mf->node;
    if (mf->writers > 0 || mf->pending || mf->committing)
        return;
    if (mf->is_new) /* it did not come to be */
        node_unname(n);
    DL_DELETE(n->fs->mfiles, mf);
    n->mfile = NULL;
    free(mf);
    node_unref(n);
}

bool manifest_alive(const struct node *n)
{
    return n->mfile && (n->mfile->pending || n->mfile->committing || (n->mfile->is_new && n->mfile->writers > 0));
}

static void set_pending(struct mfile *mf, struct text *t, struct handle *by)
{
    mf->pending = t;
    mf->by = by;
    mf->ticket = ticket_new(mf->node->fs, mf->node->kind == NODE_OWN_MANIFEST);
}

static void drop_pending(struct mfile *mf)
{
    struct ticket *ticket = steal(&mf->ticket);
    text_unref(mf->pending);
    mf->pending = NULL;
    mf->by = NULL;
    if (ticket)
        ticket_end(mf->node->fs, ticket);
}

void manifest_discard(struct node *n)
{
    struct mfile *mf = n->mfile;
    if (!mf)
        return;
    mf->writers++; /* who waited for what is dropped may look at it again */
    drop_pending(mf);
    mf->newest = NULL;
    mf->is_new = false;
    mf->writers--;
    mfile_check(mf);
}

static void now(struct timespec *ret)
{
    clock_gettime(CLOCK_REALTIME, ret);
}

/* Git and rsync compare a file with what they were told of it before its close. */
bool manifest_stat(const struct node *n, struct stat *st)
{
    const struct mfile *mf = n->mfile;
    if (!mf)
        return false;
    const struct text *t = mf->pending ? mf->pending : mf->committing;
    if (!mf->newest && !t && !mf->is_new)
        return false;
    st->st_size = mf->newest ? (off_t)mf->newest->buffer.len : t ? (off_t)t->len : 0;
    st->st_blocks = (st->st_size + 511) / 512;
    if (mf->written.tv_sec)
        st->st_atim = st->st_mtim = st->st_ctim = mf->written;
    return true;
}

void manifest_set_time(struct node *n, const struct stat *attr, int to_set)
{
    if (n->mfile && (to_set & FUSE_SET_ATTR_MTIME))
        n->mfile->written = attr->st_mtim;
}

/* ---- what an open reads ---- */

struct fetching {
    text_fn *done;
    void *ctx;
};

static void fetched(struct real_job *j)
{
    struct fetching *f = j->ctx;
    struct text *t = NULL;
    if (j->code == 0) {
        t = text_new(&j->buf, j->st.st_mtim.tv_sec * 1000 + j->st.st_mtim.tv_nsec / 1000000);
        t->read_only = j->read_only;
    }
    f->done(f->ctx, j->code, t);
    free(f);
}

static void own_text(struct node *n, text_fn *done, void *ctx)
{
    struct fs *fs = n->fs;
    enum resource_kind kind;
    const char *id = node_resource(n, &kind);
    struct buf b = {0};
    size_t len = 0;
    _cleanup_(freep) char *text = reconcile_good_text(fs->api->reconcile, kind, id, &len);
    if (!text) {
        done(ctx, -ENOENT, NULL);
        return;
    }
    buf_add(&b, text, len);
    if (len > 0 && text[len - 1] != '\n')
        buf_addc(&b, '\n');
    struct text *t = text_new(&b, node_changed_ms(n));
    struct api_trigger_look trigger;
    struct api_pipeline_look pipeline;
    if (kind == RESOURCE_TRIGGER)
        t->read_only = api_look_trigger(fs->api, id, &trigger) && trigger.read_only;
    else
        t->read_only = api_look_pipeline(fs->api, id, &pipeline) && pipeline.read_only;
    done(ctx, 0, t);
}

void manifest_text(struct node *n, text_fn *done, void *ctx)
{
    const struct mfile *mf = n->mfile;
    if (mf && (mf->pending || mf->committing)) {
        done(ctx, 0, text_ref(mf->pending ? mf->pending : mf->committing));
    } else if (n->kind == NODE_OWN_MANIFEST) {
        own_text(n, done, ctx);
    } else {
        struct fetching *f = xmalloc(sizeof(*f));
        *f = (struct fetching){done, ctx};
        struct real_job *j = real_read_job(n->parent, n->name, fetched);
        if (!n->key)
            j->code = -ESTALE;
        j->ctx = f;
        real_submit(j);
    }
}

/* ---- open ---- */

static bool writes(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

static void on_idle(struct timer *timer, void *ctx);

static struct handle *open_handle(struct node *n, struct fuse_file_info *fi)
{
    struct handle *h = handle_new(n, fi);
    fi->direct_io = 1;
    timer_init(&h->idle, on_idle, h);
    if (writes(fi->flags))
        mfile_get(n)->writers++;
    else
        fi->noflush = 1;
    return h;
}

struct opening {
    fuse_req_t req;
    struct node *node;
    struct fuse_file_info fi;
};

static void opened(void *ctx, int code, struct text *t)
{
    struct opening *o = ctx;
    bool is_new = o->node->mfile && o->node->mfile->is_new;
    if (code == -ENOENT && is_new)
        code = 0;
    if (code == 0 && t && t->read_only && (writes(o->fi.flags) || (o->fi.flags & O_TRUNC)))
        code = -EROFS;
    if (code < 0) {
        text_unref(t);
        answer_error(o->req, code);
    } else {
        struct handle *h = open_handle(o->node, &o->fi);
        h->text = t;
        h->buffered = writes(o->fi.flags) && (o->fi.flags & O_TRUNC);
        if (fuse_reply_open(o->req, &o->fi) < 0) {
            manifest_released(h);
            handle_release(h);
        }
    }
    node_unref(o->node);
    free(o);
}

void manifest_open(fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
    struct opening *o = xmalloc(sizeof(*o));
    *o = (struct opening){req, node_ref(n), *fi};
    manifest_text(n, opened, o);
}

/* ---- create ---- */

/* `t` (a reference, or NULL) is what is there already. */
static void created(fuse_req_t req, struct node *n, const struct fuse_file_info *given, struct text *t)
{
    struct fuse_file_info fi = *given;
    struct stat st;
    struct handle *h = open_handle(n, &fi);
    struct mfile *mf = mfile_get(n);
    h->text = t;
    h->buffered = !t || (fi.flags & O_TRUNC);
    if (!t && !mf->pending && !mf->committing) {
        mf->is_new = true;
        now(&mf->written);
        handle_by(h, req);
    }
    node_stat(n, &st);
    if (!manifest_stat(n, &st) && t)
        st.st_size = (off_t)t->len;
    answer_create(req, n, &st, &fi, h);
}

struct creating {
    fuse_req_t req;
    struct fuse_file_info fi;
};

static void create_looked(struct real_job *j)
{
    struct creating *c = j->ctx;
    struct text *t = NULL;
    int code = j->code == -ENOENT ? 0 : j->code;
    if (j->code == 0 && (c->fi.flags & O_EXCL))
        code = -EEXIST;
    else if (code == 0 && j->read_only)
        code = -EROFS;
    if (code < 0) {
        answer_error(c->req, code);
    } else {
        if (j->code == 0)
            t = text_new(&j->buf, 0);
        struct node *n = node_get(j->node, j->name, NODE_MANIFEST, 1);
        created(c->req, n, &c->fi, t);
        node_unref(n);
    }
    free(c);
}

void manifest_create(fuse_req_t req, struct node *parent, const char *name, struct fuse_file_info *fi)
{
    enum resource_kind kind;
    const char *id = node_resource(parent, &kind);
    if (id) {
        struct node *n = node_get(parent, name, NODE_OWN_MANIFEST, 0);
        absence_pause(parent->fs, kind, id);
        created(req, n, fi, NULL);
        node_unref(n);
        return;
    }
    struct creating *c = xmalloc(sizeof(*c));
    *c = (struct creating){req, *fi};
    struct real_job *j = real_read_job(parent, name, create_looked);
    j->ctx = c;
    real_submit(j);
}

/* ---- read and write ---- */

void manifest_read(fuse_req_t req, struct handle *h, size_t size, off_t off)
{
    if (h->buffered)
        answer_piece(req, h->buffer.data, h->buffer.len, size, off);
    else
        answer_piece(req, h->text ? h->text->data : "", h->text ? h->text->len : 0, size, off);
}

/* From the first write on, an open sees its own buffer. */
static void start_buffer(struct handle *h)
{
    if (!h->buffered && h->text)
        buf_add(&h->buffer, h->text->data, h->text->len);
    h->buffered = true;
}

static void set_length(struct handle *h, size_t len)
{
    if (len > h->buffer.len)
        memset(buf_reserve(&h->buffer, len - h->buffer.len), 0, len - h->buffer.len);
    else
        buf_reserve(&h->buffer, 0);
    h->buffer.len = len;
    h->buffer.data[len] = '\0';
}

static void written_by(struct mfile *mf, const struct handle *h)
{
    mf->uid = h->uid;
    mf->gid = h->gid;
    mf->pid = h->pid;
}

static void was_written(struct handle *h)
{
    struct mfile *mf = mfile_get(h->node);
    h->written = true;
    h->refused = false;
    mf->wrote = true;
    mf->newest = h;
    written_by(mf, h);
    now(&mf->written);
    if (mf->pending && mf->by == h)
        loop_timer_start(h->fs->loop, &h->idle, COMMIT_IDLE_MS);
}

void manifest_write(fuse_req_t req, struct handle *h, const char *data, size_t size, off_t off, int flags)
{
    start_buffer(h);
    size_t at = flags & O_APPEND ? h->buffer.len : (size_t)off;
    if (off < 0 || at > DOCUMENT_TEXT_MAX || at + size > DOCUMENT_TEXT_MAX) {
        answer_error(req, -EFBIG);
        return;
    }
    if (at + size > h->buffer.len)
        set_length(h, at + size);
    if (size > 0)
        memcpy(h->buffer.data + at, data, size);
    was_written(h);
    fuse_reply_write(req, size);
}

/* ---- commit ---- */

struct committing {
    struct mfile *mf;
    struct text *text;
    struct timespec written;
};

static void touched(struct real_job *j)
{
    (void)j; /* where it cannot be set, the time is that of the commit */
}

/* The time that was shown since the write stays that of the file. */
static void keep_time(struct node *n, const struct timespec *written)
{
    if (n->kind != NODE_MANIFEST || !n->key)
        return;
    struct real_job *j = real_touch_job(n->parent, n->name, touched);
    j->st.st_mtim = *written;
    j->to_set = FUSE_SET_ATTR_MTIME;
    real_submit(j);
}

static void log_commit(const struct mfile *mf)
{
    struct handle by = {.node = mf->node, .uid = mf->uid, .gid = mf->gid, .pid = mf->pid};
    log_change(&by, "written");
}

static void committed(void *ctx, int code)
{
    struct committing *c = ctx;
    struct mfile *mf = c->mf;
    if (code == 0) {
        mf->is_new = false;
        log_commit(mf);
        keep_time(mf->node, &c->written);
    }
    if (mf->committing == c->text) {
        text_unref(mf->committing);
        mf->committing = NULL;
    }
    text_unref(c->text);
    free(c);
    mfile_check(mf);
}

/* What is pending goes to the disk. */
static void commit(struct mfile *mf)
{
    struct node *n = mf->node;
    struct committing *c = xmalloc(sizeof(*c));
    enum resource_kind kind;
    const char *id = node_resource(n, &kind);
    *c = (struct committing){mf, text_ref(mf->pending), mf->written};
    text_unref(mf->committing);
    mf->committing = mf->pending;
    mf->pending = NULL;
    mf->by = NULL;
    if (id)
        absence_end(n->fs, kind, id);
    manifest_commit(n->parent, n->name, c->text->data, c->text->len, steal(&mf->ticket), committed, c);
}

static void on_idle(struct timer *timer, void *ctx)
{
    (void)timer;
    struct handle *h = ctx;
    struct mfile *mf = h->node->mfile;
    if (mf && mf->pending && mf->by == h)
        commit(mf);
}

/* ---- flush ---- */

struct closing {
    struct asker asker;
    struct closing *next;
};

struct flushing {
    struct closing *closings; /* all closes of one open that wait for the verdict */
    struct handle *handle;
    struct mfile *mf;
    struct text *text;
};

struct restoring {
    struct mfile *mf;
};

static void restored(void *ctx, int code)
{
    struct restoring *r = ctx;
    if (code == 0)
        r->mf->is_new = false;
    r->mf->writers--;
    mfile_check(r->mf);
    free(r);
}

/* An invalid text came in the place of a manifest that went a moment ago: it is an edit that failed, and what was there
 * stays. */
static void restore(struct mfile *mf)
{
    struct node *n = mf->node;
    enum resource_kind kind;
    const char *id = node_resource(n, &kind);
    if (id) {
        absence_end(n->fs, kind, id);
        return;
    }
    _cleanup_(freep) char *path = real_path(n, NULL);
    struct text *t = path ? departed_take(n->fs, path) : NULL;
    if (!t)
        return;
    struct restoring *r = xmalloc(sizeof(*r));
    r->mf = mf;
    mf->writers++;
    manifest_restore(n->parent, n->name, t, restored, r);
    text_unref(t);
}

static void flush_judged(void *ctx, int code)
{
    struct flushing *f = ctx;
    struct handle *h = f->handle;
    struct mfile *mf = f->mf;
    if (mf->newest == h && !h->written)
        mf->newest = NULL;
    if (code == 0) {
        struct ticket *before = steal(&mf->ticket);
        drop_pending(mf);
        set_pending(mf, text_ref(f->text), h);
        if (before)
            ticket_end(h->fs, before);
        if (h->released)
            commit(mf);
        else
            loop_timer_start(h->fs->loop, &h->idle, COMMIT_IDLE_MS);
    } else {
        h->refused = !h->written;
        if (mf->by == h)
            drop_pending(mf);
        if (mf->is_new && !mf->pending && !mf->committing)
            restore(mf);
    }
    if (h->flushing == f)
        h->flushing = NULL;
    struct closing *c, *next;
    LL_FOREACH_SAFE(f->closings, c, next)
    {
        fuse_req_t req = asker_take(&c->asker);
        if (req)
            answer_error(req, code);
        free(c);
    }
    text_unref(f->text);
    free(f);
    mf->writers--;
    mfile_check(mf);
    handle_idle(h);
}

static void join(struct flushing *f, fuse_req_t req)
{
    struct closing *c = xmalloc(sizeof(*c));
    asker_init(&c->asker, f->handle->fs, req);
    LL_PREPEND(f->closings, c);
}

void manifest_flush(fuse_req_t req, struct handle *h)
{
    if (!h->written && h->flushing) { /* a child closes what its parent has written, and that is being judged */
        join(h->flushing, req);
        return;
    }
    if (!h->written) { /* of several closes of one open each is told that what it holds is invalid */
        answer_error(req, h->refused ? -EINVAL : 0);
        return;
    }
    struct flushing *f = xmalloc(sizeof(*f));
    struct buf copy = {0};
    buf_add(&copy, h->buffer.data ? h->buffer.data : "", h->buffer.len);
    *f = (struct flushing){
        .handle = h, .mf = h->node->mfile, .text = text_new(&copy, clock_realtime_ms(h->fs->api->clock))};
    join(f, req);
    h->flushing = f;
    h->written = false;
    f->mf->writers++; /* it stays meanwhile */
    handle_busy(h);
    manifest_judge(h->node->parent, h->node->name, NULL, f->text->data, f->text->len, flush_judged, f);
}

void manifest_released(struct handle *h)
{
    struct mfile *mf = h->node->mfile;
    enum resource_kind kind;
    const char *id = node_resource(h->node, &kind);
    h->released = true;
    loop_timer_stop(h->fs->loop, &h->idle);
    if (!writes(h->flags) || !mf)
        return;
    if (mf->newest == h)
        mf->newest = NULL;
    if (mf->pending && mf->by == h)
        commit(mf);
    if (--mf->writers == 0 && id)
        absence_resume(h->fs, kind, id);
    else if (mf->writers == 0 && mf->is_new && !mf->wrote) { /* made, and nothing written: an empty file it is */
        struct buf empty = {0};
        written_by(mf, h);
        set_pending(mf, text_new(&empty, clock_realtime_ms(h->fs->api->clock)), NULL);
        commit(mf);
    }
    mfile_check(mf);
}

/* ---- truncate ---- */

struct truncating {
    fuse_req_t req;
    struct node *node; /* a reference */
    off_t size;
    struct buf text;
    struct mfile *mf;
};

static void truncated(void *ctx, int code)
{
    struct truncating *t = ctx;
    struct stat st;
    struct mfile *mf = t->mf;
    if (code < 0) {
        answer_error(t->req, code);
    } else {
        node_stat(t->node, &st);
        st.st_size = t->size;
        answer_attr(t->req, &st);
        drop_pending(mf);
        set_pending(mf, text_new(&t->text, clock_realtime_ms(t->node->fs->api->clock)), NULL);
        now(&mf->written);
        commit(mf);
    }
    mf->writers--;
    mfile_check(mf);
    buf_fini(&t->text);
    node_unref(t->node);
    free(t);
}

static void truncate_fetched(void *ctx, int code, struct text *now_there)
{
    struct truncating *t = ctx;
    struct node *n = t->node;
    if (code == 0 && now_there->read_only)
        code = -EROFS;
    if (code == 0) {
        size_t keep = MIN(now_there->len, (size_t)t->size);
        buf_add(&t->text, now_there->data, keep);
        memset(buf_reserve(&t->text, (size_t)t->size - keep), 0, (size_t)t->size - keep + 1);
        t->text.len = (size_t)t->size;
        t->mf = mfile_get(n);
        t->mf->writers++;
        manifest_judge(n->parent, n->name, NULL, t->text.data, t->text.len, truncated, t);
    } else {
        answer_error(t->req, code);
        node_unref(n);
        free(t);
    }
    text_unref(now_there);
}

void manifest_truncate(fuse_req_t req, struct node *n, struct handle *h, off_t size)
{
    struct stat st;
    if (size < 0 || size > (off_t)DOCUMENT_TEXT_MAX) {
        answer_error(req, size < 0 ? -EINVAL : -EFBIG);
    } else if (h) {
        start_buffer(h);
        set_length(h, (size_t)size);
        was_written(h);
        node_stat(n, &st);
        manifest_stat(n, &st);
        answer_attr(req, &st);
    } else { /* by name: what is left must be good by itself */
        struct truncating *t = xcalloc(1, sizeof(*t));
        t->req = req;
        t->node = node_ref(n);
        t->size = size;
        manifest_text(n, truncate_fetched, t);
    }
}

/* ---- the end ---- */

void manifest_end(struct fs *fs)
{
    struct mfile *mf, *next;
    struct handle *h;
    DL_FOREACH2(fs->handles, h, of_fs_next)
    {
        if (node_infos[h->node->kind].class == CLASS_MANIFEST)
            loop_timer_stop(fs->loop, &h->idle);
    }
    DL_FOREACH_SAFE (fs->mfiles, mf, next)
        if (mf->pending)
            commit(mf);
}
