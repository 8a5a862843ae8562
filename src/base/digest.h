/* SHA-256, HMAC with it, and comparing what must not be guessed. By GLib, which is there anyway: libcrypto takes more
 * than a megabyte of an idle daemon. Thread: any. */
#ifndef TRIGGERD_BASE_DIGEST_H
#define TRIGGERD_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 32

struct digest {
    uint8_t bytes[DIGEST_SIZE];
};

struct digest digest_sha256(const void *data, size_t len);
/* RFC 2104. */
struct digest digest_hmac(const void *key, size_t key_len, const void *data, size_t len);
/* Takes as long whatever they are. */
bool digest_equal(const struct digest *a, const struct digest *b);

#endif
