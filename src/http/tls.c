#include "http/tls.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define TEXT_MAX ((size_t)1 << 20)

static int text_read(const char *path, const char **ret, struct error *err)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, -errno, "TLS: %s: %s", path, strerror(errno));
    char *text = xmalloc(TEXT_MAX + 1);
    size_t len = 0;
    ssize_t n = 0;
    while (len < TEXT_MAX && (n = read(fd, text + len, TEXT_MAX - len)) > 0)
        len += (size_t)n;
    int r = 0;
    if (n < 0)
        r = error_set(err, -errno, "TLS: %s: %s", path, strerror(errno));
    else if (len == 0 || len == TEXT_MAX)
        r = error_set(err, -EINVAL, "TLS: %s: expected PEM text below 1 MiB", path);
    text[len] = '\0';
    if (r == 0)
        *ret = xstrndup(text, len);
    explicit_bzero(text, len);
    free(text);
    return r;
}

int tls_texts_read(const char *cert, const char *key, const char *client_ca, struct tls_texts *ret, struct error *err)
{
    struct tls_texts t = {.tls = {NULL, NULL, NULL}};
    int r = text_read(cert, &t.tls.cert, err);
    if (r == 0)
        r = text_read(key, &t.tls.key, err);
    if (r == 0 && client_ca)
        r = text_read(client_ca, &t.tls.client_ca, err);
    if (r < 0)
        tls_texts_fini(&t);
    else
        *ret = t;
    return r;
}

void tls_texts_fini(struct tls_texts *t)
{
    if (t->tls.key)
        explicit_bzero((char *)(uintptr_t)t->tls.key, strlen(t->tls.key));
    free((char *)(uintptr_t)t->tls.key);
    free((char *)(uintptr_t)t->tls.cert);
    free((char *)(uintptr_t)t->tls.client_ca);
    *t = (struct tls_texts){.tls = {NULL, NULL, NULL}};
}
