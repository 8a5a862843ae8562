/* The floor of the FUSE view: the least low-level program that serves constant files from one thread.
 *
 *   floor_mount DIR BYTES NAMES     DIR/file of BYTES, DIR/ctl that takes any write, DIR/list/ with NAMES folders */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOT = 1, FILE_INO, CTL, LIST, FIRST };
static char *text;
static size_t length, names;

static void fill(struct stat *st, fuse_ino_t ino)
{
    *st = (struct stat){.st_ino = ino, .st_mode = S_IFREG | 0666, .st_nlink = 1};
    if (ino == ROOT || ino >= LIST)
        st->st_mode = S_IFDIR | 0755;
    if (ino == FILE_INO)
        st->st_size = (off_t)length;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e = {0};
    if (parent == ROOT)
        e.ino = strcmp(name, "file") == 0   ? FILE_INO
                : strcmp(name, "ctl") == 0  ? CTL
                : strcmp(name, "list") == 0 ? LIST
                                            : 0;
    else if (parent == LIST && atoi(name + 1) < (int)names)
        e.ino = (fuse_ino_t)(FIRST + atoi(name + 1));
    fill(&e.attr, e.ino);
    if (e.ino)
        fuse_reply_entry(req, &e);
    else
        fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    struct stat st;
    fill(&st, ino);
    fuse_reply_attr(req, &st, 0);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
    (void)attr, (void)to_set;
    op_getattr(req, ino, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    fi->direct_io = 1;
    fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)ino, (void)fi;
    size_t left = (size_t)off < length ? length - (size_t)off : 0;
    fuse_reply_buf(req, text + off, size < left ? size : left);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
    (void)ino, (void)data, (void)off, (void)fi;
    fuse_reply_write(req, size);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    char *out = malloc(size), name[32];
    size_t at = 0;
    for (size_t i = (size_t)off; ino == LIST && i < names; i++) {
        struct stat st;
        fill(&st, FIRST + i);
        snprintf(name, sizeof(name), "t%zu", i);
        size_t n = fuse_add_direntry(req, out + at, size - at, name, &st, (off_t)i + 1);
        if (n > size - at)
            break;
        at += n;
    }
    fuse_reply_buf(req, out, at);
    free(out);
}

static void op_init(void *ctx, struct fuse_conn_info *conn)
{
    (void)ctx;
    conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE);
}

int main(int argc, char **argv)
{
    static const struct fuse_lowlevel_ops ops = {.init = op_init,
                                                 .lookup = op_lookup,
                                                 .getattr = op_getattr,
                                                 .setattr = op_setattr,
                                                 .open = op_open,
                                                 .read = op_read,
                                                 .write = op_write,
                                                 .opendir = op_open,
                                                 .readdir = op_readdir};
    if (argc != 4)
        return 2;
    length = (size_t)atol(argv[2]);
    names = (size_t)atol(argv[3]);
    text = malloc(length + 1);
    memset(text, 'x', length);
    char *own[] = {argv[0], NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, own);
    struct fuse_session *se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
    if (!se || fuse_set_signal_handlers(se) != 0 || fuse_session_mount(se, argv[1]) != 0)
        return 1;
    puts("ready");
    fflush(stdout);
    fuse_session_loop(se);
    fuse_session_unmount(se);
    fuse_remove_signal_handlers(se);
    fuse_session_destroy(se);
    free(text);
    return 0;
}
