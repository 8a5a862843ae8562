#include "base/digest.h"

#include <glib.h>

struct digest digest_sha256(const void *data, size_t len)
{
    struct digest d;
    gsize size = sizeof(d.bytes);
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(sum, data, (gssize)len);
    g_checksum_get_digest(sum, d.bytes, &size);
    g_checksum_free(sum);
    return d;
}

struct digest digest_hmac(const void *key, size_t key_len, const void *data, size_t len)
{
    struct digest d;
    gsize size = sizeof(d.bytes);
    GHmac *hmac = g_hmac_new(G_CHECKSUM_SHA256, key, key_len);
    g_hmac_update(hmac, data, (gssize)len);
    g_hmac_get_digest(hmac, d.bytes, &size);
    g_hmac_unref(hmac);
    return d;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    unsigned differ = 0;
    for (size_t i = 0; i < DIGEST_SIZE; i++)
        differ |= a->bytes[i] ^ b->bytes[i];
    return differ == 0;
}
