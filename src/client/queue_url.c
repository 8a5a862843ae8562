#include "client/queue_url.h"

#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

struct scheme {
    const char *name;
    enum queue_type type;
    bool tls, unix_socket;
};
static const struct scheme schemes[] = {
    {"redis", QUEUE_REDIS, false, false},     {"rediss", QUEUE_REDIS, true, false},
    {"redis+unix", QUEUE_REDIS, false, true}, {"amqp", QUEUE_RABBITMQ, false, false},
    {"amqps", QUEUE_RABBITMQ, true, false},   {"kafka", QUEUE_KAFKA, false, false},
    {"sqs", QUEUE_SQS, true, false},          {"https", QUEUE_SQS, true, false},
};

/* ---- references in a text that is being taken apart ---- */

static bool reference_at(const char *p, const char *limit, const struct queue_filling *f, struct reference *ret)
{
    return !f->literal && limit - p > 2 && p[0] == '$' && p[1] == '{' && reference_next(p, ret, NULL) > 0 &&
           ret->start == p && p + ret->len <= limit;
}

bool queue_is_reference(const char *text)
{
    static const struct queue_filling none = {0};
    struct reference r;
    return reference_at(text, text + strlen(text), &none, &r) && !text[r.len];
}

/* A piece of the text; what stands in references does not count as its characters. */
struct span {
    const char *p, *limit;
};

/* The first of `stops` in it, or its limit. */
static const char *first_of(struct span s, const char *stops, const struct queue_filling *f)
{
    struct reference r;
    for (const char *p = s.p; p < s.limit;) {
        if (reference_at(p, s.limit, f, &r))
            p += r.len;
        else if (strchr(stops, *p))
            return p;
        else
            p++;
    }
    return s.limit;
}

/* The last `c` in it; NULL: there is none. */
static const char *last_of(struct span s, char c, const struct queue_filling *f)
{
    const char *found = NULL, stops[2] = {c, '\0'};
    for (const char *p = first_of(s, stops, f); p < s.limit; p = first_of((struct span){p + 1, s.limit}, stops, f))
        found = p;
    return found;
}

static int add_decoded(struct buf *out, const char *p, size_t len, struct error *err)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != '%') {
            buf_addc(out, p[i]);
            continue;
        }
        int high = i + 2 < len ? hex_digit(p[i + 1]) : -1, low = i + 2 < len ? hex_digit(p[i + 2]) : -1;
        if (high < 0 || low < 0 || (high == 0 && low == 0))
            return error_set(err, -EINVAL,
                             "a `%%` is followed by two hexadecimal digits, not 00; as itself it is %%25");
        buf_addc(out, (char)(high << 4 | low));
        i += 2;
    }
    return 0;
}

/* *ret: what it says, percent-decoded and its references replaced. *ret_open: some were left as they are. */
static int fill(struct span s, const struct queue_filling *f, char **ret, bool *ret_open, struct error *err)
{
    struct buf out = {0};
    struct reference r;
    int e = 0;
    bool open = false;
    buf_adds(&out, "");
    for (const char *p = s.p; p < s.limit && e == 0;) {
        if (!reference_at(p, s.limit, f, &r)) {
            const char *start = p;
            while (p < s.limit && !(p > start && reference_at(p, s.limit, f, &r)))
                p++;
            e = add_decoded(&out, start, (size_t)(p - start), err);
            continue;
        }
        p += r.len;
        if (!f->secrets) {
            buf_add(&out, r.start, r.len);
            open = true;
            continue;
        }
        const char *value = secrets_value(f->secrets, &r, f->dir, err);
        e = value ? 0 : -ENOENT;
        if (value)
            buf_adds(&out, value);
    }
    if (e < 0) {
        secret_free(buf_steal(&out));
        return e;
    }
    *ret = buf_steal(&out);
    if (ret_open)
        *ret_open = open;
    return 0;
}

/* ---- host and port ---- */

static bool host_valid(const char *host, bool bracketed)
{
    for (const char *c = host; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr(bracketed ? ":.%-_" : "-._", *c))
            return false;
    return *host != '\0';
}

/* HOST[:PORT] */
static int fill_host(struct span s, const struct queue_filling *f, int port, struct queue_host_port *ret,
                     struct error *err)
{
    int e;
    _cleanup_(freep) char *host = NULL, *number = NULL;
    bool bracketed = s.p < s.limit && *s.p == '[', open = false;
    const char *end = bracketed ? first_of(s, "]", f) : first_of(s, ":", f);
    struct span name = {bracketed ? s.p + 1 : s.p, end};
    if (bracketed && end == s.limit)
        return error_set(err, -EINVAL, "a `[` in the host without `]`");
    if ((e = fill(name, f, &host, &open, err)) < 0)
        return e;
    if (!open && !*host)
        return error_set(err, -EINVAL, "names no host");
    if (!open && !host_valid(host, bracketed))
        return error_set(err, -EINVAL, "a host has letters, digits and - . _ only (and IPv6 addresses stand in [ ])");
    end += bracketed;
    if (end < s.limit) {
        char *rest = NULL;
        if (*end != ':')
            return error_set(err, -EINVAL, "after the host stands `:` and a port");
        if ((e = fill((struct span){end + 1, s.limit}, f, &number, &open, err)) < 0)
            return e;
        long n = strlen(number) > 5 ? 0 : strtol(number, &rest, 10);
        if (!open && (n < 1 || n > 65535 || !rest || *rest || !isdigit((unsigned char)*number)))
            return error_set(err, -EINVAL, "a port is a number from 1 to 65535");
        port = open ? 0 : (int)n;
    }
    *ret = (struct queue_host_port){steal(&host), port};
    return 0;
}

static int fill_hosts(struct span s, const struct queue_filling *f, int port, bool several, struct queue_url *u,
                      struct error *err)
{
    int e;
    for (;;) {
        const char *end = several ? first_of(s, ",", f) : s.limit;
        struct queue_host_port one = {0};
        if ((e = fill_host((struct span){s.p, end}, f, port, &one, err)) < 0)
            return e;
        u->hosts = xreallocarray(u->hosts, u->n_hosts + 1, sizeof(*u->hosts));
        u->hosts[u->n_hosts++] = one;
        if (end == s.limit)
            return 0;
        s.p = end + 1;
    }
}

/* ---- the parts ---- */

/* USER:PASSWORD@, taken off the span. */
static int fill_userinfo(struct span *s, const struct queue_filling *f, struct queue_url *u, struct error *err)
{
    int e;
    const char *at = last_of(*s, '@', f);
    if (!at)
        return 0;
    struct span info = {s->p, at};
    const char *colon = first_of(info, ":", f);
    s->p = at + 1;
    if (u->type == QUEUE_KAFKA)
        return error_set(err, -EINVAL, "kafka:// has no user and password; they belong into `security`");
    if (colon == at)
        return error_set(err, -EINVAL, "expected %s before the `@`",
                         u->type == QUEUE_SQS     ? "KEY:SECRET"
                         : u->type == QUEUE_REDIS ? ":PASSWORD or USER:PASSWORD"
                                                  : "USER:PASSWORD");
    if (colon == info.p && u->type != QUEUE_REDIS)
        return error_set(err, -EINVAL, "names no %s before the `:`", u->type == QUEUE_SQS ? "key" : "user");
    info.limit = colon;
    if (colon > info.p && (e = fill(info, f, &u->user, NULL, err)) < 0)
        return e;
    return fill((struct span){colon + 1, at}, f, &u->password, NULL, err);
}

static int fill_db(struct span s, const struct queue_filling *f, struct queue_url *u, struct error *err)
{
    int e;
    _cleanup_(freep) char *text = NULL;
    bool open = false;
    if ((e = fill(s, f, &text, &open, err)) < 0)
        return e;
    if (open || !*text)
        return 0;
    if (strlen(text) > 9 || text[strspn(text, "0123456789")])
        return error_set(err, -EINVAL, "a database is a number");
    u->db = strtol(text, NULL, 10);
    return 0;
}

static int fill_redis(struct span authority, struct span path, struct span query, bool unix_socket,
                      const struct queue_filling *f, struct queue_url *u, struct error *err)
{
    int e;
    if (!unix_socket) {
        e = fill_hosts(authority, f, 6379, false, u, err);
        return e < 0 ? e : fill_db(path, f, u, err);
    }
    if (authority.p < authority.limit)
        return error_set(err, -EINVAL, "redis+unix:// is followed by an absolute path (redis+unix:///run/redis.sock)");
    path.p--; /* its `/` */
    if ((e = fill(path, f, &u->path, NULL, err)) < 0)
        return e;
    if (streq(u->path, "/"))
        return error_set(err, -EINVAL, "names no socket");
    if (query.p == query.limit)
        return 0;
    if (query.limit - query.p < 3 || strncmp(query.p, "db=", 3) != 0)
        return error_set(err, -EINVAL, "after the `?` stands db= and a number");
    query.p += 3;
    return fill_db(query, f, u, err);
}

static int fill_amqp(struct span authority, struct span path, const struct queue_filling *f, struct queue_url *u,
                     struct error *err)
{
    int e;
    if ((e = fill_hosts(authority, f, u->tls ? 5671 : 5672, false, u, err)) < 0)
        return e;
    if (first_of(path, "/", f) < path.limit)
        return error_set(err, -EINVAL, "a virtual host is one part of the path: a `/` in it is written %%2F");
    if (path.p == path.limit)
        u->vhost = xstrdup("/");
    else if ((e = fill(path, f, &u->vhost, NULL, err)) < 0)
        return e;
    if (!u->user) {
        u->user = xstrdup("guest");
        u->password = xstrdup("guest");
    }
    return 0;
}

static int fill_region(struct span s, const struct queue_filling *f, char **ret, struct error *err)
{
    int e;
    _cleanup_(freep) char *text = NULL;
    bool open = false;
    if ((e = fill(s, f, &text, &open, err)) < 0)
        return e;
    if (!open && (!*text || text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-")]))
        return error_set(err, -EINVAL, "names no region, as in sqs://eu-south-1");
    *ret = steal(&text);
    return 0;
}

/* `sqs.REGION.amazonaws.com`; else nothing is set. */
static void region_of_host(const char *host, char **ret)
{
    const char *start = strncmp(host, "sqs.", 4) == 0 ? host + 4 : NULL, *end = start ? strchr(start, '.') : NULL;
    if (end && strncmp(end, ".amazonaws.com", 14) == 0)
        *ret = xstrndup(start, (size_t)(end - start));
}

static char *endpoint_text(const char *scheme, const struct queue_host_port *h)
{
    bool v6 = strchr(h->host, ':') != NULL;
    _cleanup_(freep) char *port = h->port ? xasprintf(":%d", h->port) : xstrdup("");
    return xasprintf("%s://%s%s%s%s", scheme, v6 ? "[" : "", h->host, v6 ? "]" : "", port);
}

static int fill_https(struct span authority, const struct queue_filling *f, struct queue_url *u, struct error *err)
{
    struct queue_host_port h = {0};
    int e = fill_host(authority, f, 0, &h, err);
    if (!h.host)
        return e;
    u->endpoint = endpoint_text("https", &h);
    region_of_host(h.host, &u->region);
    free(h.host);
    return 0;
}

/* ---- the whole ---- */

static int wrong_scheme(const char *text, size_t n, enum queue_type type, struct error *err)
{
    struct buf b = {0};
    size_t left = 0;
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
        left += schemes[i].type == type;
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
        if (schemes[i].type == type) {
            left--;
            buf_printf(&b, "%s%s://", b.len == 0 ? "" : left ? ", " : " or ", schemes[i].name);
        }
    bool shown = n > 0 && n <= 20 && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-.") == n;
    if (shown)
        error_set(err, -EINVAL, "expected %s for %s, got %.*s://", b.data, queue_type_words[type], (int)n, text);
    else
        error_set(err, -EINVAL, "expected %s for %s", b.data, queue_type_words[type]);
    buf_fini(&b);
    return -EINVAL;
}

static const struct scheme *scheme_find(const char *name, size_t n, enum queue_type type)
{
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
        if (schemes[i].type == type && strlen(schemes[i].name) == n && strncasecmp(schemes[i].name, name, n) == 0)
            return &schemes[i];
    return NULL;
}

static int check_characters(struct span s, const struct queue_filling *f, struct error *err)
{
    const char *bad = first_of(s,
                               "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14"
                               "\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f \x7f",
                               f);
    return bad < s.limit ? error_set(err, -EINVAL, "holds a blank or control character") : 0;
}

static int fill_parts(const struct scheme *scheme, struct span rest, const struct queue_filling *f, struct queue_url *u,
                      struct error *err)
{
    bool region = streq(scheme->name, "sqs"); /* nothing follows it, so that keys with a `/` are understood */
    struct span authority = {rest.p, region ? rest.limit : first_of(rest, "/?#", f)};
    struct span path = {authority.limit, first_of((struct span){authority.limit, rest.limit}, "?#", f)};
    struct span query = {path.limit, first_of((struct span){path.limit, rest.limit}, "#", f)};
    if (!scheme->unix_socket && !last_of(authority, '@', f) && last_of(rest, '@', f))
        return error_set(err, -EINVAL, "an `@` stands after a `/`, `?` or `#`: in a password these are %%2F %%3F %%23");
    if (query.limit < rest.limit)
        return error_set(err, -EINVAL, "has a `#`; in a password it is written %%23");
    if (query.p < query.limit && !scheme->unix_socket)
        return error_set(err, -EINVAL, "has a `?`; %s:// takes no options (in a password it is written %%3F)",
                         scheme->name);
    query.p += query.p < query.limit;
    path.p += path.p < path.limit;
    if (scheme->unix_socket && path.p == path.limit)
        return error_set(err, -EINVAL, "names no socket (redis+unix:///run/redis.sock)");
    int e = fill_userinfo(&authority, f, u, err);
    if (e < 0)
        return e;
    switch (u->type) {
    case QUEUE_REDIS:
        return fill_redis(authority, path, query, scheme->unix_socket, f, u, err);
    case QUEUE_RABBITMQ:
        return fill_amqp(authority, path, f, u, err);
    case QUEUE_KAFKA:
        if (path.p < path.limit)
            return error_set(err, -EINVAL, "kafka:// has no path; the topic is queue_name");
        return fill_hosts(authority, f, 9092, true, u, err);
    default:
        return region ? fill_region(authority, f, &u->region, err) : fill_https(authority, f, u, err);
    }
}

int queue_url_fill(const char *text, enum queue_type type, const struct queue_filling *f, struct queue_url *ret,
                   struct error *err)
{
    struct error own = ERROR_INIT;
    struct queue_url u = {.type = type};
    struct span all = {text, text + strlen(text)};
    err = err ? err : &own;
    if (!f->literal && queue_is_reference(text)) {
        u.reference = true;
        *ret = u;
        return 0;
    }
    const char *colon = strstr(text, "://");
    const struct scheme *scheme = colon ? scheme_find(text, (size_t)(colon - text), type) : NULL;
    if (!scheme)
        return wrong_scheme(text, colon ? (size_t)(colon - text) : 0, type, err);
    u.tls = scheme->tls;
    int e = check_characters(all, f, err);
    if (e == 0)
        e = fill_parts(scheme, (struct span){colon + 3, all.limit}, f, &u, err);
    if (e < 0)
        queue_url_fini(&u);
    else
        *ret = u;
    return e;
}

int queue_url_parse(const char *text, enum queue_type type, struct queue_url *ret, struct error *err)
{
    static const struct queue_filling as_text = {0};
    return queue_url_fill(text, type, &as_text, ret, err);
}

int queue_endpoint_fill(const char *text, const struct queue_filling *f, char **ret, struct error *err)
{
    struct error own = ERROR_INIT;
    struct queue_host_port h = {0};
    _cleanup_(freep) char *filled = NULL;
    struct queue_filling literal = *f;
    int e;
    err = err ? err : &own;
    if (!f->literal && queue_is_reference(text)) {
        if (!f->secrets) {
            *ret = xstrdup(text);
            return 0;
        }
        e = secrets_expand(f->secrets, text, f->dir, &filled, err);
        if (e < 0)
            return e;
        text = filled;
        literal.literal = true;
    }
    bool tls = strncasecmp(text, "https://", 8) == 0;
    if (!tls && strncasecmp(text, "http://", 7) != 0)
        return error_set(err, -EINVAL, "expected http:// or https://");
    struct span rest = {text + (tls ? 8 : 7), text + strlen(text)};
    struct span authority = {rest.p, first_of(rest, "/?#", &literal)};
    if ((e = check_characters(rest, &literal, err)) < 0)
        return e;
    if (last_of(authority, '@', &literal))
        return error_set(err, -EINVAL, "has no user and password; they belong into connection_url");
    if (rest.limit - authority.limit > 1 || (authority.limit < rest.limit && *authority.limit != '/'))
        return error_set(err, -EINVAL, "is scheme, host and port alone");
    e = fill_host(authority, &literal, 0, &h, err);
    if (!h.host)
        return e;
    *ret = endpoint_text(tls ? "https" : "http", &h);
    free(h.host);
    return 0;
}

void queue_url_fini(struct queue_url *u)
{
    for (size_t i = 0; i < u->n_hosts; i++)
        free(u->hosts[i].host);
    free(u->hosts);
    secret_free(u->user);
    secret_free(u->password);
    secret_free(u->token);
    free(u->path);
    free(u->vhost);
    free(u->region);
    free(u->endpoint);
    *u = (struct queue_url){0};
}
