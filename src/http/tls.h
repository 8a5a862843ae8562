/* The files of a certificate. Thread: any; a user's paths are read, at the start and at SIGHUP alone. */
#ifndef TRIGGERD_HTTP_TLS_H
#define TRIGGERD_HTTP_TLS_H

#include "http/server.h"

struct tls_texts {
    struct http_tls tls; /* its texts are owned */
};

/* `client_ca` NULL: none. -ENOENT, -EACCES …, -EINVAL: a file is empty or over 1 MiB. */
int tls_texts_read(const char *cert, const char *key, const char *client_ca, struct tls_texts *ret, struct error *err);
/* The key is wiped. */
void tls_texts_fini(struct tls_texts *t);

#endif
