/* TLS as manifests say it, for every client: `tls: {ca_file, cert_file, key_file, verify}`.
 *
 * The files are read on the pool (no path of a user can hold up the loop), each time anew, so that what was renewed is
 * used by the next connection. Nothing is read in triggerd's own mount.
 */
#ifndef TRIGGERD_CLIENT_TLS_H
#define TRIGGERD_CLIENT_TLS_H

#include "base/self_mount.h"
#include "base/util.h"
#include "model/field.h"

#define TLS_FILE_MAX ((size_t)1 << 20)

struct tls_config {
    char *ca_file, *cert_file, *key_file; /* absolute; NULL: none */
    bool verify;
};

extern const struct field_table tls_fields;
/* What spans fields, for a validate() of the kind that has the table; `path` is that of the object. */
void tls_validate(const struct tls_config *c, const cJSON *node, const char *path, struct issues *issues);

struct tls_config tls_config_copy(const struct tls_config *c); /* for fields_fini(&tls_fields, …) */

/* PEM texts; NULL: none. */
struct tls_files {
    struct buf ca, cert, key;
};
/* Waits for the disk: on the pool only. On an error (it names the key and the file) what was read stays for fini. */
int tls_files_read(const struct tls_config *c, const struct self_mount *avoid, struct tls_files *ret,
                   struct error *err);
void tls_files_fini(struct tls_files *f); /* wipes */

#endif
