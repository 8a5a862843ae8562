#include "http/access.h"

#include "base/digest.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#define TOKEN_MAX 4096

struct token {
    struct digest digest;
    unsigned scopes;
};

struct access {
    struct token *tokens;
    size_t n_tokens;
    char **hosts; /* lower case, without ports */
    size_t n_hosts;
    bool any_address; /* every address of the machine is listened to */
};

/* ---- tokens ---- */

static int token_read(const struct access_token *from, struct token *ret, struct error *err)
{
    char text[TOKEN_MAX + 2];
    _cleanup_(closep) int fd = open(from->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
    if (n < 0)
        return error_set(err, -errno, "token \"%s\": %s: %s", from->name, from->file, strerror(errno));
    if (n > 0 && text[n - 1] == '\n')
        n--;
    if (n > 0 && text[n - 1] == '\r')
        n--;
    int r = 0;
    if (n == 0 || n > TOKEN_MAX)
        r = error_set(err, -EINVAL, "token \"%s\": %s: expected a token of 1 to %d bytes", from->name, from->file,
                      TOKEN_MAX);
    else
        ret->digest = digest_sha256(text, (size_t)n);
    ret->scopes = from->scopes;
    explicit_bzero(text, sizeof(text));
    return r;
}

/* The scopes of a token, 0 where there is none such. Every one is compared, whatever was found. */
static unsigned token_scopes(const struct access *a, const char *text)
{
    struct digest digest = digest_sha256(text, strlen(text));
    unsigned scopes = 0;
    for (size_t i = 0; i < a->n_tokens; i++)
        if (digest_equal(&digest, &a->tokens[i].digest))
            scopes |= a->tokens[i].scopes;
    return scopes;
}

/* RFC 9110, 11.4: the scheme in any case, blanks, the token. NULL: not a bearer token. */
static const char *bearer(const char *header)
{
    if (!header || strncasecmp(header, "Bearer ", 7) != 0)
        return NULL;
    header += 7;
    return header + strspn(header, " ");
}

/* ---- hosts ---- */

/* The host of `host`, `host:port`, `[address]` or `[address]:port`, in lower case. False: it is none. */
static bool host_of(const char *authority, size_t len, char *to, size_t cap)
{
    size_t n;
    if (len > 0 && authority[0] == '[') {
        const char *end = memchr(authority, ']', len);
        n = end ? (size_t)(end - authority) + 1 : 0;
    } else {
        const char *colon = memchr(authority, ':', len);
        n = colon ? (size_t)(colon - authority) : len;
    }
    if (n == 0 || n >= cap || (n < len && authority[n] != ':') || strspn(authority + n, ":0123456789") < len - n)
        return false;
    for (size_t i = 0; i < n; i++)
        to[i] = authority[i] >= 'A' && authority[i] <= 'Z' ? (char)(authority[i] | 0x20) : authority[i];
    to[n] = '\0';
    return true;
}

static bool loopback(const char *host)
{
    struct in_addr v4;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    struct in6_addr v6;
    char inner[INET6_ADDRSTRLEN + 2];
    size_t len = strlen(host);
    if (host[0] != '[' || len < 3 || len > sizeof(inner))
        return streq(host, "localhost");
    memcpy(inner, host + 1, len - 2);
    inner[len - 2] = '\0';
    return inet_pton(AF_INET6, inner, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool access_loopback(const char *listen)
{
    char host[300];
    return host_of(listen, strlen(listen), host, sizeof(host)) && loopback(host);
}

static bool host_listed(const struct access *a, const char *host)
{
    for (size_t i = 0; i < a->n_hosts; i++)
        if (streq(a->hosts[i], host))
            return true;
    return false;
}

static bool host_is_ours(const struct access *a, const char *host)
{
    struct in_addr v4;
    return loopback(host) || host_listed(a, host) ||
           (a->any_address && (host[0] == '[' || inet_pton(AF_INET, host, &v4) == 1));
}

static void host_add(struct access *a, const char *authority)
{
    char host[300];
    if (host_of(authority, strlen(authority), host, sizeof(host)))
        a->hosts[a->n_hosts++] = xstrdup(host);
}

/* `null`, and whatever else is no scheme://host, is nobody. */
static bool origin_is_ours(const struct access *a, const char *origin, const char *host_header)
{
    char host[300];
    const char *authority = strstr(origin, "://");
    if (!authority || (strncasecmp(origin, "http:", 5) != 0 && strncasecmp(origin, "https:", 6) != 0))
        return false;
    authority += 3;
    if (!host_of(authority, strlen(authority), host, sizeof(host)))
        return false;
    return (host_header && strcasecmp(authority, host_header) == 0) || host_listed(a, host);
}

/* ---- the check ---- */

int access_check(const struct access *a, const struct http_request *r, enum access_scope need, const char **ret_detail)
{
    if (http_over_unix_socket(r))
        return 0;
    char host[300];
    const char *header = http_header(r, "Host"), *origin = http_header(r, "Origin");
    if (header && (!host_of(header, strlen(header), host, sizeof(host)) || !host_is_ours(a, host))) {
        *ret_detail = "the Host header names no address that is listened to; see api.hosts";
        return 403;
    }
    if (origin && !origin_is_ours(a, origin, header)) {
        *ret_detail = "a request of another origin; see api.hosts";
        return 403;
    }
    if (a->n_tokens == 0 || need == ACCESS_OPEN)
        return 0;
    const char *token = bearer(http_header(r, "Authorization"));
    unsigned scopes = token ? token_scopes(a, token) : 0;
    if (scopes == 0) {
        *ret_detail = token ? "there is no such token" : "a token is needed: Authorization: Bearer TOKEN";
        return 401;
    }
    if (!(scopes & (1u << need | 1u << ACCESS_ADMIN))) {
        *ret_detail = need == ACCESS_READ   ? "this needs a token of scope read"
                      : need == ACCESS_EMIT ? "this needs a token of scope emit"
                                            : "this needs a token of scope admin";
        return 403;
    }
    return 0;
}

/* ---- making ---- */

static int tokens_read(struct access *a, const struct access_options *options, struct error *err)
{
    a->tokens = xcalloc(options->n_tokens, sizeof(*a->tokens));
    for (size_t i = 0; i < options->n_tokens; i++) {
        int r = token_read(&options->tokens[i], &a->tokens[i], err);
        if (r < 0)
            return r;
        for (size_t k = 0; k < i; k++)
            if (digest_equal(&a->tokens[k].digest, &a->tokens[i].digest))
                return error_set(err, -EINVAL, "tokens \"%s\" and \"%s\" are the same", options->tokens[k].name,
                                 options->tokens[i].name);
        a->n_tokens++;
    }
    return 0;
}

int access_create(const struct access_options *options, struct access **ret, struct error *err)
{
    struct access *a = xcalloc(1, sizeof(*a));
    int r = tokens_read(a, options, err);
    if (r < 0) {
        access_destroy(a);
        return r;
    }
    a->hosts = xcalloc(options->n_hosts + 1, sizeof(*a->hosts));
    for (size_t i = 0; i < options->n_hosts; i++)
        host_add(a, options->hosts[i]);
    if (options->listen) {
        a->any_address = strncmp(options->listen, "0.0.0.0:", 8) == 0 || strncmp(options->listen, "[::]:", 5) == 0;
        host_add(a, options->listen);
    }
    *ret = a;
    return 0;
}

void access_destroy(struct access *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n_hosts; i++)
        free(a->hosts[i]);
    free(a->hosts);
    if (a->tokens)
        explicit_bzero(a->tokens, a->n_tokens * sizeof(*a->tokens));
    free(a->tokens);
    free(a);
}
