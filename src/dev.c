#include "dev.h"

#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REASON_COLUMNS 120

/* ---- where everything is ---- */

static int free_port(unsigned short wanted)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(wanted)};
    socklen_t len = sizeof(address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return -1;
    return ntohs(address.sin_port);
}

int dev_config(const char *dir, struct config *c)
{
    struct stat st;
    char made[] = "/tmp/triggerd-dev-XXXXXX";
    int r = stat(dir, &st) < 0 ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
    if (r != 0) {
        const char *why = r == ENOENT ? "no such directory" : r == ENOTDIR ? "not a directory" : strerror(r);
        fprintf(stderr, "triggerd: --dev: %s: %s\n", dir, why);
        return -EIO;
    }
    if (!mkdtemp(made)) {
        fprintf(stderr, "triggerd: --dev: %s: %s\n", made, strerror(errno));
        return -EIO;
    }
    c->dev = xstrdup(made);
    c->manifests.items = xreallocarray(c->manifests.items, c->manifests.n + 1, sizeof(char *));
    c->manifests.items[c->manifests.n++] = xstrdup(dir);
    if (!c->state)
        c->state = xasprintf("%s/state", made);
    if (!c->socket)
        c->socket = xasprintf("%s/sock", made);
    if (!c->mount.dir && access("/dev/fuse", R_OK | W_OK) == 0)
        c->mount.dir = xasprintf("%s/mount", made);
    if (!c->listen) {
        int port = free_port(DEV_PORT);
        port = port < 0 ? free_port(0) : port;
        c->listen = xasprintf("127.0.0.1:%d", port < 0 ? DEV_PORT : port);
    }
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

void dev_remove(const struct config *c)
{
    if (c->dev)
        nftw(c->dev, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* ---- what happens ---- */

struct dev {
    struct engine *engine;
    const struct config *config;
    struct feed_listener listener;
    bool colour;
};

static const char *tint(const struct dev *d, const char *code)
{
    return d->colour ? code : "";
}

static const char *tint_of(const struct dev *d, const struct event *e)
{
    switch (e->status) {
    case EVENT_COMPLETED:
        return tint(d, "\033[32m");
    case EVENT_FAILED:
        return tint(d, "\033[31m");
    case EVENT_SKIPPED:
    case EVENT_CANCELLED:
        return tint(d, "\033[33m");
    case EVENT_PENDING:
    case EVENT_EXECUTING:
        break;
    }
    return "";
}

/* The beginning of a text on one line, control characters as spaces. */
static void one_line(const char *text, char out[REASON_COLUMNS + 8])
{
    size_t n = 0;
    for (size_t len = strlen(text), step; len > 0 && n < REASON_COLUMNS; text += step, len -= step) {
        step = utf8_sequence(text, len);
        step = step == 0 ? 1 : step;
        if ((unsigned char)*text < 0x20 || (unsigned char)*text == 0x7f ||
            (step == 1 && (unsigned char)*text >= 0x80)) {
            out[n++] = ' ';
            continue;
        }
        memcpy(out + n, text, step);
        n += step;
    }
    out[n] = '\0';
}

static void clock_text(int64_t wall_ms, char out[16])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    strftime(out, 16, "%H:%M:%S", localtime_r(&seconds, &tm));
}

/* 09:41:03  orders  custom_orders  fired → completed in 0.012 s  evt_…  */
static void tell(struct feed_listener *l, const struct event *e)
{
    struct dev *d = container_of(l, struct dev, listener);
    const char *why = e->error_message ? e->error_message : e->reason;
    char clock[16], text[REASON_COLUMNS + 8] = "", took[32] = "";
    int64_t at = e->completed_ms ? e->completed_ms : e->started_ms ? e->started_ms : e->occurred_ms;
    clock_text(at, clock);
    if (why)
        one_line(why, text);
    if (e->completed_ms && e->started_ms)
        snprintf(took, sizeof(took), " in %.3f s", (double)(e->completed_ms - e->started_ms) / 1000);
    printf("%s%s%s  %s%s%s  %s  %s → %s%s%s%s  %s%s%s%s%s\n", tint(d, "\033[2m"), clock, tint(d, "\033[0m"),
           tint(d, "\033[1m"), e->trigger_id, tint(d, "\033[0m"), e->event_type, decision_name(e->decision),
           tint_of(d, e), event_status_name(e->status), took, tint(d, "\033[0m"), tint(d, "\033[2m"), e->id,
           tint(d, "\033[0m"), *text ? "\n          " : "", text);
    fflush(stdout);
}

/* 09:41:03  orders  custom_orders  filtered  $.amount: expected … */
static void tell_filtered(struct feed_listener *l, const char *trigger_id, const struct filtered_entry *f)
{
    struct dev *d = container_of(l, struct dev, listener);
    char clock[16], text[REASON_COLUMNS + 8];
    clock_text(f->occurred_ms, clock);
    one_line(f->reason, text);
    printf("%s%s%s  %s%s%s  %s  %s%s%s\n          %s\n", tint(d, "\033[2m"), clock, tint(d, "\033[0m"),
           tint(d, "\033[1m"), trigger_id, tint(d, "\033[0m"), f->event_type, tint(d, "\033[33m"),
           decision_name(DECISION_FILTERED), tint(d, "\033[0m"), text);
    fflush(stdout);
}

struct dev *dev_begin(struct engine *e, const struct config *c)
{
    struct dev *d = xcalloc(1, sizeof(*d));
    const char *no_colour = getenv("NO_COLOR");
    d->engine = e;
    d->config = c;
    d->colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour);
    d->listener.fn = tell;
    d->listener.filtered = tell_filtered;
    engine_listen(e, &d->listener);
    printf("\n  manifests  %s\n  page       http://%s/\n  API        http://%s/api/v1/triggers\n"
           "  socket     export TRIGGERD_SOCKET=%s\n",
           c->manifests.items[0], c->listen, c->listen, c->socket);
    if (c->mount.dir)
        printf("  files      %s\n", c->mount.dir);
    printf("\nEvents and decisions as they come; Ctrl-C ends it, and nothing stays.\n\n");
    fflush(stdout);
    return d;
}

void dev_end(struct dev *d)
{
    if (!d)
        return;
    engine_unlisten(d->engine, &d->listener);
    free(d);
}
