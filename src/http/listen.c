#include "http/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- the unix socket ---- */

static int make_parents(const char *path, struct error *err)
{
    _cleanup_(freep) char *copy = xstrdup(path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return error_set(err, -errno, "cannot make %s: %s", copy, strerror(errno));
        *slash = '/';
    }
    return 0;
}

/* Remove the socket of a server that is no more. A live one answers, or its queue is full (EAGAIN). */
static int remove_stale(const struct sockaddr_un *address, struct error *err)
{
    const char *path = address->sun_path;
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, -EEXIST, "%s exists and is no socket", path);
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, -errno, "socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        return error_set(err, -EADDRINUSE, "another server answers at %s", path);
    if (errno != ECONNREFUSED && errno != ENOENT)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (unlink(path) < 0 && errno != ENOENT)
        return error_set(err, -errno, "cannot remove the stale socket %s: %s", path, strerror(errno));
    return 0;
}

int listen_unix(struct door *d, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(d->path);
    if (len == 0 || len >= sizeof(address.sun_path))
        return error_set(err, -ENAMETOOLONG, "the path of a unix socket has 1 to %zu bytes: %s",
                         sizeof(address.sun_path) - 1, d->path);
    memcpy(address.sun_path, d->path, len + 1);
    int r = make_parents(d->path, err);
    if (r == 0)
        r = remove_stale(&address, err);
    if (r < 0)
        return r;
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* On Linux the mode of the socket becomes that of the file (unix(7) leaves it open, unix_bind() does it): so there
     * is no moment in which others could connect, and no umask to change under other threads. */
    if (fd < 0 || fchmod(fd, 0600) < 0)
        return error_set(err, -errno, "socket: %s", strerror(errno));
    struct stat st;
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || lstat(d->path, &st) < 0)
        return error_set(err, -errno, "cannot bind to %s: %s", d->path, strerror(errno));
    d->dev = st.st_dev;
    d->ino = st.st_ino;
    if (listen(fd, SOMAXCONN) < 0) {
        r = error_set(err, -errno, "cannot listen at %s: %s", d->path, strerror(errno));
        unlink(d->path);
        return r;
    }
    d->listen_fd = steal_fd(&fd);
    return 0;
}

/* ---- TCP ---- */

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

static bool parse_port(const char *s, in_port_t *ret)
{
    unsigned port = 0;
    size_t digits = strspn(s, "0123456789");
    if (digits == 0 || digits > 5 || s[digits])
        return false;
    for (; *s; s++)
        port = port * 10 + (unsigned)(*s - '0');
    if (port > 65535)
        return false;
    *ret = htons((in_port_t)port);
    return true;
}

static int parse_address(const char *text, bool any, union address *ret, socklen_t *ret_len, struct error *err)
{
    const char *colon = strrchr(text, ':');
    in_port_t port;
    if (!colon || !parse_port(colon + 1, &port))
        return error_set(err, -EINVAL, "not HOST:PORT: %s", text);
    size_t len = (size_t)(colon - text);
    bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    if (!bracketed && memchr(text, ':', len))
        return error_set(err, -EINVAL, "an IPv6 address goes in brackets: %s", text);
    _cleanup_(freep) char *host = bracketed ? xstrndup(text + 1, len - 2) : xstrndup(text, len);
    *ret = (union address){.in = {.sin_family = AF_INET, .sin_port = port}};
    *ret_len = sizeof(ret->in);
    if (bracketed) {
        *ret = (union address){.in6 = {.sin6_family = AF_INET6, .sin6_port = port}};
        *ret_len = sizeof(ret->in6);
        if (inet_pton(AF_INET6, host, &ret->in6.sin6_addr) != 1)
            return error_set(err, -EINVAL, "not an IPv6 address: %s", host);
        if (any || IN6_IS_ADDR_LOOPBACK(&ret->in6.sin6_addr))
            return 0;
    } else if (streq(host, "localhost")) {
        ret->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return 0;
    } else if (inet_pton(AF_INET, host, &ret->in.sin_addr) == 1) {
        if (any || ntohl(ret->in.sin_addr.s_addr) >> 24 == 127)
            return 0;
    } else if (any) {
        return error_set(err, -EINVAL, "not an address: %s", host);
    }
    return error_set(
        err, -EACCES,
        "%s is not a loopback address (127.0.0.0/8, [::1], localhost): others need api.tokens, so that not "
        "everybody may run what they like",
        text);
}

int http_listen_check(const char *listen, bool any_address, struct error *err)
{
    union address address = {0};
    socklen_t len = 0;
    return parse_address(listen, any_address, &address, &len, err);
}

int listen_tcp(struct door *d, const char *text, struct error *err)
{
    union address address = {0};
    socklen_t len = 0;
    int r = parse_address(text, d->server->options.any_address, &address, &len, err);
    if (r < 0)
        return r;
    _cleanup_(closep) int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, -errno, "socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* accepted sockets have it too */
    if (bind(fd, &address.any, len) < 0 || listen(fd, SOMAXCONN) < 0 || getsockname(fd, &address.any, &len) < 0)
        return error_set(err, -errno, "cannot listen at %s: %s", text, strerror(errno));
    d->port = ntohs(address.any.sa_family == AF_INET6 ? address.in6.sin6_port : address.in.sin_port);
    d->listen_fd = steal_fd(&fd);
    return 0;
}

void listen_close(struct door *d)
{
    if (d->listen_fd < 0)
        return;
    struct stat st;
    if (d->is_unix && lstat(d->path, &st) == 0 && st.st_dev == d->dev && st.st_ino == d->ino)
        unlink(d->path);
    close(d->listen_fd);
    d->listen_fd = -1;
}
