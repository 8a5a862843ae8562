/* load: N keep-alive HTTP/1.1 connections, each with one request under way, from one thread.
 *
 *   load (--unix PATH | --tcp PORT) [-c CONNECTIONS] (-n REQUESTS | -s SECONDS) [-m METHOD] [-p PATH] [-b BODY]
 *        [-H 'Name: value']...
 *
 * In BODY and in headers, ten percent signs in a row are replaced by the number of the request, ten digits. Answers
 * must have a Content-Length. Standard output gets one JSON object: requests answered, by status class, errors
 * (connections lost, answers that were not HTTP), seconds from the first request to the last answer, rate, and
 * latencies in microseconds from the write of a request to the end of its answer. Exit 1 when there was an error or
 * another answer than 2xx.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MARK "%%%%%%%%%%" /* ten: replaced by the request's number */
#define MARK_LEN 10
#define MARKS_MAX 16
#define ANSWER_MAX (256 * 1024)

struct connection {
    int fd;
    int64_t sent_ns;
    size_t used;
    char in[ANSWER_MAX];
};

struct load {
    /* asked */
    const char *unix_path;
    uint16_t port;
    int connections;
    int64_t requests;
    double seconds;
    const char *method, *path, *body;
    char *headers;
    /* the request's text and where its number stands */
    char *request;
    size_t request_len, marks[MARKS_MAX];
    unsigned n_marks;
    /* under way */
    int epoll, open;
    int64_t started_ns, sent, answered, errors, by_class[6];
    uint32_t *latency_us;
    size_t latency_cap;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void request_build(struct load *l)
{
    size_t cap = strlen(l->headers) + strlen(l->body) + strlen(l->path) + 256;
    l->request = malloc(cap);
    int n = snprintf(l->request, cap, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s", l->method, l->path, l->headers);
    if (*l->body)
        n += snprintf(l->request + n, cap - (size_t)n, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                      strlen(l->body));
    n += snprintf(l->request + n, cap - (size_t)n, "\r\n%s", l->body);
    l->request_len = (size_t)n;
    for (char *p = l->request; (p = strstr(p, MARK)) && l->n_marks < MARKS_MAX; p += MARK_LEN)
        l->marks[l->n_marks++] = (size_t)(p - l->request);
}

static bool wants_more(const struct load *l)
{
    if (l->requests > 0)
        return l->sent < l->requests;
    return now_ns() - l->started_ns < (int64_t)(l->seconds * 1e9);
}

static void connection_close(struct load *l, struct connection *c)
{
    close(c->fd);
    c->fd = -1;
    l->open--;
}

static void number_write(char *to, int64_t number)
{
    for (int i = MARK_LEN; i-- > 0; number /= 10)
        to[i] = (char)('0' + number % 10);
}

static void connection_send(struct load *l, struct connection *c)
{
    if (!wants_more(l)) {
        connection_close(l, c);
        return;
    }
    for (unsigned i = 0; i < l->n_marks; i++)
        number_write(l->request + l->marks[i], l->sent);
    l->sent++;
    c->sent_ns = now_ns();
    c->used = 0;
    for (size_t done = 0; done < l->request_len;) {
        ssize_t n = send(c->fd, l->request + done, l->request_len - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            l->errors++;
            connection_close(l, c);
            return;
        }
        done += (size_t)n;
    }
}

static void connection_open(struct load *l, struct connection *c)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(l->port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(l->unix_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r;
    if (l->unix_path) {
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", l->unix_path);
        r = connect(c->fd, (struct sockaddr *)&un, sizeof(un));
    } else {
        r = connect(c->fd, (struct sockaddr *)&in, sizeof(in));
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    }
    if (r < 0)
        die("connect");
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &ev) < 0)
        die("epoll_ctl");
    l->open++;
}

/* 1: a whole answer, its status told; 0: not yet; -1: not HTTP with a length. */
static int answer_parse(struct connection *c, int *ret_status, bool *ret_close)
{
    c->in[c->used] = '\0';
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end)
        return c->used == ANSWER_MAX - 1 ? -1 : 0;
    int status;
    if (sscanf(c->in, "HTTP/1.1 %3d", &status) != 1)
        return -1;
    long length = -1;
    bool last = false;
    for (char *line = strstr(c->in, "\r\n"); line < end; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, "content-length:", 15) == 0)
            length = strtol(line + 17, NULL, 10);
        else if (strncasecmp(line + 2, "connection: close", 17) == 0)
            last = true;
    }
    if (status == 204)
        length = 0;
    size_t head = (size_t)(end + 4 - c->in);
    if (length < 0 || (size_t)length > ANSWER_MAX - 1 - head)
        return -1;
    if (c->used < head + (size_t)length)
        return 0;
    *ret_status = status;
    *ret_close = last;
    return 1;
}

static void answered(struct load *l, int64_t ns, int status)
{
    if ((size_t)l->answered == l->latency_cap) {
        l->latency_cap = l->latency_cap ? l->latency_cap * 2 : 65536;
        l->latency_us = realloc(l->latency_us, l->latency_cap * sizeof(*l->latency_us));
    }
    l->latency_us[l->answered++] = (uint32_t)(ns / 1000);
    l->by_class[status / 100 <= 5 ? status / 100 : 0]++;
}

static void connection_readable(struct load *l, struct connection *c)
{
    ssize_t n = recv(c->fd, c->in + c->used, ANSWER_MAX - 1 - c->used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        c->used += (size_t)n;
    int status = 0;
    bool last = false;
    int r = n <= 0 ? -1 : answer_parse(c, &status, &last);
    if (r == 0)
        return;
    if (r < 0) {
        l->errors++;
        connection_close(l, c);
        return;
    }
    answered(l, now_ns() - c->sent_ns, status);
    if (last) {
        connection_close(l, c);
        if (!wants_more(l))
            return;
        connection_open(l, c);
    }
    connection_send(l, c);
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int report(struct load *l)
{
    double seconds = (double)(now_ns() - l->started_ns) / 1e9;
    size_t n = (size_t)l->answered;
    uint32_t none = 0, *us = n ? l->latency_us : &none;
    qsort(us, n, sizeof(*us), compare_u32);
    printf("{\"requests\": %lld, \"errors\": %lld, \"status_2xx\": %lld, \"status_4xx\": %lld, \"status_5xx\": %lld, "
           "\"seconds\": %.3f, \"rate\": %.1f, \"p50_us\": %u, \"p90_us\": %u, \"p99_us\": %u, \"max_us\": %u}\n",
           (long long)l->answered, (long long)l->errors, (long long)l->by_class[2], (long long)l->by_class[4],
           (long long)l->by_class[5], seconds, (double)l->answered / seconds, us[n / 2], us[n * 9 / 10],
           us[n * 99 / 100], us[n ? n - 1 : 0]);
    return l->errors > 0 || l->by_class[2] != l->answered;
}

static void header_add(struct load *l, const char *line)
{
    size_t old = strlen(l->headers), cap = old + strlen(line) + 3;
    l->headers = realloc(l->headers, cap);
    snprintf(l->headers + old, cap - old, "%s\r\n", line);
}

static bool options_parse(struct load *l, int argc, char **argv)
{
    static const char usage[] = "usage: load (--unix PATH | --tcp PORT) [-c CONNECTIONS] (-n REQUESTS | -s SECONDS) "
                                "[-m METHOD] [-p PATH] [-b BODY] [-H HEADER]...\n";
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value) {
            break;
        } else if (strcmp(name, "--unix") == 0) {
            l->unix_path = value;
        } else if (strcmp(name, "--tcp") == 0) {
            l->port = (uint16_t)atoi(value);
        } else if (strcmp(name, "-c") == 0) {
            l->connections = atoi(value);
        } else if (strcmp(name, "-n") == 0) {
            l->requests = atoll(value);
        } else if (strcmp(name, "-s") == 0) {
            l->seconds = atof(value);
        } else if (strcmp(name, "-m") == 0) {
            l->method = value;
        } else if (strcmp(name, "-p") == 0) {
            l->path = value;
        } else if (strcmp(name, "-b") == 0) {
            l->body = value;
        } else if (strcmp(name, "-H") == 0) {
            header_add(l, value);
        } else {
            l->connections = 0;
        }
    }
    bool good = argc % 2 == 1 && (l->unix_path || l->port) && l->connections > 0 && (l->requests > 0 || l->seconds > 0);
    if (!good)
        fputs(usage, stderr);
    return good;
}

int main(int argc, char **argv)
{
    struct load l = {.connections = 64, .method = "POST", .path = "/", .body = "", .headers = strdup("")};
    if (!options_parse(&l, argc, argv))
        return 2;
    request_build(&l);
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct connection *cs = calloc((size_t)l.connections, sizeof(*cs));
    for (int i = 0; i < l.connections; i++)
        connection_open(&l, &cs[i]);
    l.started_ns = now_ns();
    for (int i = 0; i < l.connections; i++)
        connection_send(&l, &cs[i]);
    while (l.open > 0) {
        struct epoll_event ready[256];
        int n = epoll_wait(l.epoll, ready, 256, 30000);
        if (n == 0) {
            fprintf(stderr, "load: no answer for 30 s\n");
            l.errors += l.open;
            break;
        }
        for (int i = 0; i < n; i++)
            connection_readable(&l, ready[i].data.ptr);
    }
    return report(&l);
}
