/* floor: the least program that does the daemon's work and nothing else, to measure the daemon against.
 *
 *   floor emit --db FILE --schema FILE [--socket PATH] [--port N]                    POST → one row, answered when it is
 *                                                                                    on disk
 *   floor run  --db FILE --schema FILE [--socket PATH] [--port N] [-j N] COMMAND...  the same, and a process an event
 *   floor file --db FILE --schema FILE --dir DIR [-j N] COMMAND...                   a file closed in DIR → COMMAND...
 *
 * One epoll loop, and one writer thread that commits what has gathered as one transaction with one sync (WAL,
 * synchronous=FULL). Ends of processes ride on the next commit, or get one after END_WAIT_MS. At most -j processes run
 * at a time (default 64); the others wait in order.
 *
 * The same work: a body is parsed as JSON (cJSON) and answered with its event; the rows are the daemon's, with its
 * indexes (--schema, once for each of its schema files): the event, and for a process also the run and the step with their ends. A
 * process gets its event as JSON on standard input, and both its outputs are captured. Nothing else: no filters but one
 * comparison, no gates, no templates, no limits, no counts, no recovery. `GET /` answers {"events": recorded, "ended":
 * ends recorded}. `ready` on standard output tells that it listens. It trusts its client and ends by a signal.
 */
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define END_WAIT_MS 2 /* as long as the daemon lets an end wait: with its commit it is recorded within 5 */
#define REQUEST_MAX 65536

enum kind { LISTENER, CONNECTION, WAKE, CHILD, DIRECTORY };

/* What an epoll event points to: the first member of whatever owns the descriptor. */
struct handle {
    enum kind kind;
    int fd;
};

struct connection {
    struct handle handle;
    size_t used;
    bool waiting; /* for the commit of its event */
    bool closed;  /* by the client, while waiting */
    char in[REQUEST_MAX];
};

struct event {
    struct handle child; /* its process, by pidfd */
    struct event *next;
    struct connection *from; /* NULL: none waits for the record */
    int64_t seq, started_ms, ended_ms;
    char id[32], run_id[32];
    char *data; /* JSON */
    char *path; /* of the file, else NULL */
    char *out, *err;
    int out_fd, err_fd;
    int status;
};

struct list {
    struct event *first, **last;
};

/* Between loop and writer; all under `lock`. */
struct writer {
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct list inserts, ends, recorded;
    int64_t ends_since_ms;
    int wake; /* eventfd: `recorded` has something */
    sqlite3 *db;
    sqlite3_stmt *event, *run, *event_end, *run_end, *step;
};

struct floor {
    struct writer writer;
    int epoll;
    struct list queue; /* recorded, waiting for a process slot */
    unsigned running, limit;
    char **command; /* NULL: none; with a free slot before its NULL for the path */
    size_t n_command;
    const char *dir;
    int64_t n_events;
    atomic_llong n_recorded, n_ended;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void list_init(struct list *l)
{
    l->first = NULL;
    l->last = &l->first;
}

static void list_append(struct list *l, struct event *e)
{
    e->next = NULL;
    *l->last = e;
    l->last = &e->next;
}

static void list_move(struct list *to, struct list *from)
{
    if (from->first) {
        *to->last = from->first;
        to->last = from->last;
        list_init(from);
    }
}

static int64_t now_ms(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- the writer thread ---- */

static void sql(struct writer *w, const char *text)
{
    if (sqlite3_exec(w->db, text, NULL, NULL, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", text, sqlite3_errmsg(w->db));
        exit(1);
    }
}

static void step(struct writer *w, sqlite3_stmt *s)
{
    if (sqlite3_step(s) != SQLITE_DONE || sqlite3_reset(s) != SQLITE_OK) {
        fprintf(stderr, "%s\n", sqlite3_errmsg(w->db));
        exit(1);
    }
}

static sqlite3_stmt *prepare(struct writer *w, const char *text)
{
    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(w->db, text, -1, &s, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", text, sqlite3_errmsg(w->db));
        exit(1);
    }
    return s;
}

static char *file_read(const char *path)
{
    FILE *f = fopen(path, "re");
    char *text = calloc(1, 65536);
    if (!f || fread(text, 1, 65535, f) == 0)
        die(path);
    fclose(f);
    return text;
}

#define SCHEMAS_MAX 4

static void writer_open(struct writer *w, const char *path, const char *const *schemas, int n_schemas)
{
    if (sqlite3_open(path, &w->db) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", path, sqlite3_errmsg(w->db));
        exit(1);
    }
    sql(w, "PRAGMA journal_mode=WAL");
    sql(w, "PRAGMA synchronous=FULL");
    for (int i = 0; i < n_schemas; i++) {
        char *text = file_read(schemas[i]);
        sql(w, text);
        free(text);
    }
    w->event = prepare(w, "INSERT INTO events(seq, status, decision, depth, attempt, occurred_ms, started_ms, "
                          "completed_ms, id, trigger_id, pipeline_id, event_type, run_id, resolved_inputs, data, "
                          "group_id) VALUES(?1, ?2, ?7, 0, 1, ?3, ?3, 0, ?4, 'floor', 'floor', 'custom_bench', ?5, "
                          "?8, ?6, 1 + ?2)"); /* as if the group of each status were known */
    w->run = prepare(w, "INSERT INTO runs(seq, status, attempt, created_ms, started_ms, completed_ms, id, event_id, "
                        "pipeline_id, trigger_id, inputs) VALUES(?1, 1, 1, ?2, ?2, 0, ?3, ?4, 'floor', 'floor', ?5)");
    w->event_end = prepare(w, "UPDATE events SET status = ?2, completed_ms = ?3, group_id = 1 + ?2 WHERE seq = ?1");
    w->run_end = prepare(w, "UPDATE runs SET status = ?2, completed_ms = ?3, outputs = ?4 WHERE seq = ?1");
    w->step = prepare(w, "INSERT INTO steps VALUES(?1, 's', ?2, 1, ?3, 0, ?4, ?5, NULL, ?6)");
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->some, &attr);
    list_init(&w->inserts);
    list_init(&w->ends);
    list_init(&w->recorded);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* Waits until there is something to commit: an insert, or ends that have waited long enough. */
static void writer_take(struct writer *w, struct list *inserts, struct list *ends)
{
    pthread_mutex_lock(&w->lock);
    while (!w->inserts.first) {
        if (!w->ends.first) {
            pthread_cond_wait(&w->some, &w->lock);
            continue;
        }
        int64_t until = w->ends_since_ms + END_WAIT_MS;
        struct timespec t = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
        if (now_ms(CLOCK_MONOTONIC) >= until || pthread_cond_timedwait(&w->some, &w->lock, &t) == ETIMEDOUT)
            break;
    }
    list_move(inserts, &w->inserts);
    list_move(ends, &w->ends);
    pthread_mutex_unlock(&w->lock);
}

static void event_free(struct event *e)
{
    free(e->data);
    free(e->path);
    free(e->out);
    free(e->err);
    free(e);
}

static void record(struct writer *w, struct event *e, bool runs)
{
    sqlite3_bind_int64(w->event, 1, e->seq);
    sqlite3_bind_int64(w->event, 2, runs ? 1 : 4);
    sqlite3_bind_int64(w->event, 3, e->started_ms);
    sqlite3_bind_text(w->event, 4, e->id, -1, SQLITE_STATIC);
    sqlite3_bind_text(w->event, 5, runs ? e->run_id : NULL, -1, SQLITE_STATIC);
    sqlite3_bind_text(w->event, 6, e->data, -1, SQLITE_STATIC);
    sqlite3_bind_int64(w->event, 7, runs ? 12 : 3); /* fired, or held back */
    sqlite3_bind_text(w->event, 8, runs ? e->data : NULL, -1, SQLITE_STATIC);
    step(w, w->event);
    if (!runs)
        return;
    sqlite3_bind_int64(w->run, 1, e->seq);
    sqlite3_bind_int64(w->run, 2, e->started_ms);
    sqlite3_bind_text(w->run, 3, e->run_id, -1, SQLITE_STATIC);
    sqlite3_bind_text(w->run, 4, e->id, -1, SQLITE_STATIC);
    sqlite3_bind_text(w->run, 5, e->data, -1, SQLITE_STATIC);
    step(w, w->run);
}

static void record_end(struct writer *w, struct event *e)
{
    sqlite3_stmt *const ends[] = {w->event_end, w->run_end};
    for (int i = 0; i < 2; i++) {
        sqlite3_bind_int64(ends[i], 1, e->seq);
        sqlite3_bind_int64(ends[i], 2, e->status ? 3 : 2);
        sqlite3_bind_int64(ends[i], 3, e->ended_ms);
    }
    sqlite3_bind_text(w->run_end, 4, e->out, -1, SQLITE_STATIC);
    step(w, w->event_end);
    step(w, w->run_end);
    sqlite3_bind_int64(w->step, 1, e->seq);
    sqlite3_bind_int64(w->step, 2, e->status ? 3 : 2);
    sqlite3_bind_int64(w->step, 3, e->status);
    sqlite3_bind_int64(w->step, 4, e->started_ms);
    sqlite3_bind_int64(w->step, 5, e->ended_ms);
    sqlite3_bind_text(w->step, 6, e->out, -1, SQLITE_STATIC);
    step(w, w->step);
}

static void *writer_main(void *arg)
{
    struct floor *f = arg;
    struct writer *w = &f->writer;
    for (;;) {
        struct list inserts, ends;
        list_init(&inserts);
        list_init(&ends);
        writer_take(w, &inserts, &ends);
        sql(w, "BEGIN IMMEDIATE");
        for (struct event *e = inserts.first; e; e = e->next)
            record(w, e, f->command != NULL);
        for (struct event *e = ends.first; e; e = e->next)
            record_end(w, e);
        sql(w, "COMMIT");
        for (struct event *e = ends.first, *next; e; e = next) {
            next = e->next;
            event_free(e);
            atomic_fetch_add(&f->n_ended, 1);
        }
        if (inserts.first) {
            pthread_mutex_lock(&w->lock);
            list_move(&w->recorded, &inserts);
            pthread_mutex_unlock(&w->lock);
            if (eventfd_write(w->wake, 1) < 0)
                die("eventfd");
        }
    }
    return NULL;
}

/* An id as long as the daemon's: 48 bits of time, a number, base 32. */
static void id_make(char out[32], const char *prefix, int64_t ms, int64_t number)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    strcpy(out, prefix);
    for (int i = 9; i >= 0; i--, ms >>= 5)
        out[4 + i] = digits[ms & 31];
    for (int i = 25; i >= 10; i--, number >>= 5)
        out[4 + i] = digits[number & 31];
    out[30] = '\0';
}

/* Takes `data` and `path`. */
static void event_submit(struct floor *f, char *data, char *path, struct connection *from)
{
    struct event *e = calloc(1, sizeof(*e));
    e->seq = ++f->n_events;
    e->started_ms = now_ms(CLOCK_REALTIME);
    id_make(e->id, "evt_", e->started_ms, e->seq);
    id_make(e->run_id, "run_", e->started_ms, e->seq);
    e->data = data;
    e->path = path;
    e->from = from;
    pthread_mutex_lock(&f->writer.lock);
    list_append(&f->writer.inserts, e);
    pthread_cond_signal(&f->writer.some);
    pthread_mutex_unlock(&f->writer.lock);
}

/* ---- processes ---- */

static void watch(struct floor *f, struct handle *h)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = h};
    if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, h->fd, &ev) < 0)
        die("epoll_ctl");
}

/* A child between vfork and exec holds a copy of every descriptor, so that a close alone does not end the watch. */
static void unwatch(struct floor *f, struct handle *h)
{
    epoll_ctl(f->epoll, EPOLL_CTL_DEL, h->fd, NULL);
    close(h->fd);
    h->fd = -1;
}

/* Standard input holds the event, both outputs are captured: what a child prints here fits into its pipes. */
static void process_start(struct floor *f, struct event *e)
{
    int in[2], out[2], err[2];
    size_t len = strlen(e->data);
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(err, O_CLOEXEC | O_NONBLOCK) < 0 ||
        write(in[1], e->data, len) != (ssize_t)len)
        die("pipe");
    if (f->dir)
        f->command[f->n_command] = e->path;
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        setsid();
        execv(f->command[0], f->command);
        _exit(127);
    }
    if (pid < 0)
        die("vfork");
    close(in[0]);
    close(in[1]);
    close(out[1]);
    close(err[1]);
    e->out_fd = out[0];
    e->err_fd = err[0];
    e->child.kind = CHILD;
    e->child.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (e->child.fd < 0)
        die("pidfd_open");
    watch(f, &e->child);
    f->running++;
}

static void processes_start(struct floor *f)
{
    while (f->queue.first && f->running < f->limit) {
        struct event *e = f->queue.first;
        f->queue.first = e->next;
        if (!e->next)
            list_init(&f->queue);
        process_start(f, e);
    }
}

static char *output_take(int fd)
{
    char buffer[65536];
    ssize_t n = read(fd, buffer, sizeof(buffer));
    close(fd);
    return n > 0 ? strndup(buffer, (size_t)n) : NULL;
}

static void process_ended(struct floor *f, struct event *e)
{
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)e->child.fd, &info, WEXITED) < 0)
        die("waitid");
    unwatch(f, &e->child);
    e->status = info.si_code == CLD_EXITED ? info.si_status : -1;
    e->ended_ms = now_ms(CLOCK_REALTIME);
    e->out = output_take(e->out_fd);
    e->err = output_take(e->err_fd);
    f->running--;
    struct writer *w = &f->writer;
    pthread_mutex_lock(&w->lock);
    if (!w->ends.first) {
        w->ends_since_ms = now_ms(CLOCK_MONOTONIC);
        pthread_cond_signal(&w->some);
    }
    list_append(&w->ends, e);
    pthread_mutex_unlock(&w->lock);
    processes_start(f);
}

/* ---- HTTP ---- */

static void connection_close(struct floor *f, struct connection *c)
{
    unwatch(f, &c->handle);
    c->closed = true;
    if (!c->waiting)
        free(c);
}

static void answer(struct connection *c, const char *body)
{
    char text[REQUEST_MAX + 1024];
    int n = snprintf(text, sizeof(text),
                     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
                     body);
    /* An answer fits into the socket's buffer: the client has one request under way. */
    if (send(c->handle.fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        perror("send");
}

/* The length of the first whole request in the buffer, its body's place and length; 0: more is needed. */
static size_t request_parse(const struct connection *c, const char **ret_body, size_t *ret_len)
{
    const char *end = memmem(c->in, c->used, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t length = 0;
    for (const char *line = c->in; line < end;) {
        const char *eol = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
        if (strncasecmp(line, "content-length:", 15) == 0)
            length = strtoul(line + 15, NULL, 10);
        line = eol + 2;
    }
    size_t head = (size_t)(end + 4 - c->in);
    if (length > REQUEST_MAX - head || c->used < head + length)
        return 0;
    *ret_body = end + 4;
    *ret_len = length;
    return head + length;
}

/* {"endpoint": …, "data": {"kind": …, …}} */
static void emit(struct floor *f, const char *body, size_t len, struct connection *c)
{
    cJSON *json = cJSON_ParseWithLength(body, len);
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(json, "data");
    const cJSON *endpoint = cJSON_GetObjectItemCaseSensitive(json, "endpoint");
    const cJSON *kind = cJSON_GetObjectItemCaseSensitive(data, "kind");
    if (!cJSON_IsString(endpoint) || strcmp(endpoint->valuestring, "bench") != 0 || !cJSON_IsString(kind))
        die("not what the benchmark sends");
    event_submit(f, cJSON_PrintUnformatted(data), NULL, c);
    cJSON_Delete(json);
}

static void connection_serve(struct floor *f, struct connection *c)
{
    while (!c->waiting) {
        const char *body;
        size_t len, whole = request_parse(c, &body, &len);
        if (!whole)
            return;
        if (memcmp(c->in, "POST ", 5) == 0) {
            c->waiting = true;
            emit(f, body, len, c);
        } else {
            char text[128];
            snprintf(text, sizeof(text), "{\"events\": %lld, \"ended\": %lld}\n", atomic_load(&f->n_recorded),
                     atomic_load(&f->n_ended));
            answer(c, text);
        }
        memmove(c->in, c->in + whole, c->used - whole);
        c->used -= whole;
    }
}

static void connection_readable(struct floor *f, struct connection *c)
{
    ssize_t n = recv(c->handle.fd, c->in + c->used, sizeof(c->in) - c->used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        connection_close(f, c);
        return;
    }
    c->used += (size_t)n;
    connection_serve(f, c);
}

static void listener_readable(struct floor *f, struct handle *h)
{
    int fd = accept4(h->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct connection *c = calloc(1, sizeof(*c));
    c->handle = (struct handle){CONNECTION, fd};
    watch(f, &c->handle);
}

static void events_recorded(struct floor *f)
{
    eventfd_t n;
    eventfd_read(f->writer.wake, &n);
    struct list recorded;
    list_init(&recorded);
    pthread_mutex_lock(&f->writer.lock);
    list_move(&recorded, &f->writer.recorded);
    pthread_mutex_unlock(&f->writer.lock);
    for (struct event *e = recorded.first, *next; e; e = next) {
        next = e->next;
        atomic_fetch_add(&f->n_recorded, 1);
        struct connection *c = e->from;
        if (c) {
            c->waiting = false;
            if (c->closed) {
                free(c);
            } else {
                char text[REQUEST_MAX + 512];
                snprintf(text, sizeof(text),
                         "{\"triggered_count\":1,\"events\":[{\"id\":\"%s\",\"trigger_id\":\"floor\",\"status\":"
                         "\"executing\","
                         "\"event_data\":%s,\"occurred_at\":%lld}]}",
                         e->id, e->data, (long long)e->started_ms);
                answer(c, text);
                connection_serve(f, c);
            }
        }
        if (f->command) {
            list_append(&f->queue, e);
        } else {
            event_free(e);
        }
    }
    processes_start(f);
}

/* ---- files ---- */

static void directory_readable(struct floor *f, struct handle *h)
{
    char buffer[65536] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n = read(h->fd, buffer, sizeof(buffer));
    if (n < 0)
        return;
    for (char *p = buffer; p < buffer + n;) {
        const struct inotify_event *ev = (const struct inotify_event *)p;
        if (ev->mask & IN_Q_OVERFLOW)
            fprintf(stderr, "inotify: overflow\n");
        const char *name = ev->len ? ev->name : "";
        char *path = NULL, *data = NULL;
        struct stat st;
        if (asprintf(&path, "%s/%s", f->dir, name) < 0 || stat(path, &st) < 0 ||
            asprintf(
                &data,
                "{\"path\":\"%s\",\"event\":\"created\",\"name\":\"%s\",\"dir\":\"%s\",\"size\":%lld,\"mtime\":%lld,"
                "\"is_dir\":false}",
                path, name, f->dir, (long long)st.st_size, (long long)st.st_mtime) < 0)
            die(path);
        event_submit(f, data, path, NULL);
        p += sizeof(*ev) + ev->len;
    }
}

/* ---- wiring ---- */

static struct handle *handle_new(struct floor *f, enum kind kind, int fd, const char *what)
{
    if (fd < 0)
        die(what);
    struct handle *h = calloc(1, sizeof(*h));
    *h = (struct handle){kind, fd};
    watch(f, h);
    return h;
}

static void listen_on(struct floor *f, const struct sockaddr *address, socklen_t len)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, address, len) < 0 || listen(fd, 128) < 0)
        die("bind");
    handle_new(f, LISTENER, fd, "socket");
}

static void options_parse(struct floor *f, int argc, char **argv)
{
    const char *db = NULL, *schemas[SCHEMAS_MAX];
    int n_schemas = 0;
    int i = 2;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--db") == 0) {
            db = value;
        } else if (strcmp(argv[i], "--schema") == 0) {
            if (n_schemas < SCHEMAS_MAX)
                schemas[n_schemas++] = value;
        } else if (strcmp(argv[i], "--socket") == 0) {
            struct sockaddr_un a = {.sun_family = AF_UNIX};
            snprintf(a.sun_path, sizeof(a.sun_path), "%s", value);
            listen_on(f, (struct sockaddr *)&a, sizeof(a));
        } else if (strcmp(argv[i], "--port") == 0) {
            struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(value))};
            a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            listen_on(f, (struct sockaddr *)&a, sizeof(a));
        } else if (strcmp(argv[i], "--dir") == 0) {
            f->dir = value;
            int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
            if (inotify_add_watch(fd, value, IN_CLOSE_WRITE) < 0)
                die(value);
            handle_new(f, DIRECTORY, fd, "inotify");
        } else if (strcmp(argv[i], "-j") == 0) {
            f->limit = (unsigned)atoi(value);
        }
    }
    if (db && n_schemas)
        writer_open(&f->writer, db, schemas, n_schemas);
    if (i < argc) {
        f->n_command = (size_t)(argc - i);
        f->command = calloc(f->n_command + 2, sizeof(char *));
        memcpy(f->command, argv + i, f->n_command * sizeof(char *));
    }
}

int main(int argc, char **argv)
{
    static struct floor f = {.limit = 64};
    list_init(&f.queue);
    f.epoll = epoll_create1(EPOLL_CLOEXEC);
    options_parse(&f, argc, argv);
    if (argc < 4 || !f.writer.db || (strcmp(argv[1], "emit") != 0 && !f.command)) {
        fprintf(stderr, "usage: floor emit|run|file --db FILE --schema FILE [--socket PATH] [--port N] [--dir DIR] [-j "
                        "N] [COMMAND...]\n");
        return 2;
    }
    handle_new(&f, WAKE, f.writer.wake, "eventfd");
    pthread_t thread;
    if (pthread_create(&thread, NULL, writer_main, &f) != 0)
        die("pthread_create");
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[128];
        int n = epoll_wait(f.epoll, ready, 128, -1);
        for (int i = 0; i < n; i++) {
            struct handle *h = ready[i].data.ptr;
            switch (h->kind) {
            case LISTENER:
                listener_readable(&f, h);
                break;
            case CONNECTION:
                connection_readable(&f, (struct connection *)h);
                break;
            case WAKE:
                events_recorded(&f);
                break;
            case CHILD:
                process_ended(&f, (struct event *)h);
                break;
            case DIRECTORY:
                directory_readable(&f, h);
                break;
            }
        }
    }
}
