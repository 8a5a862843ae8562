#include "client/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct field rows[] = {
    {.name = "ca_file",
     .type = &field_string,
     FIELD(struct tls_config, ca_file, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "Certificates (PEM) to trust instead of the system's; an absolute path",
           .example = "\"/etc/ssl/company.pem\"")},
    {.name = "cert_file",
     .type = &field_string,
     FIELD(struct tls_config, cert_file, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "The certificate (PEM) to show to the server; an absolute path",
           .example = "\"/etc/triggerd/client.pem\"")},
    {.name = "key_file",
     .type = &field_string,
     FIELD(struct tls_config, key_file, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "The key (PEM) of cert_file; by default it is in the same file",
           .example = "\"/etc/triggerd/client.key\"")},
    {.name = "verify",
     .type = &field_bool,
     FIELD(struct tls_config, verify, bool, .default_json = "true",
           .doc =
               "Whether the server's certificate must be valid for its name; false protects against nobody who is on "
               "the way")},
};
const struct field_table tls_fields = {"tls", "How the server is known, and we to it", sizeof(struct tls_config), rows,
                                       ARRAY_SIZE(rows)};

void tls_validate(const struct tls_config *c, const cJSON *node, const char *path, struct issues *issues)
{
    char at[FIELD_PATH_MAX];
    const struct {
        const char *key, *value;
    } files[] = {{"ca_file", c->ca_file}, {"cert_file", c->cert_file}, {"key_file", c->key_file}};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        if (files[i].value && *files[i].value != '/')
            issue_add(issues, field_path(at, path, files[i].key), value_get(node, files[i].key),
                      "expected an absolute path, got \"%s\"", files[i].value);
    if (c->key_file && !c->cert_file)
        issue_add_key(issues, field_path(at, path, "key_file"), value_get(node, "key_file"),
                      "a key without `cert_file`");
}

struct tls_config tls_config_copy(const struct tls_config *c)
{
    return (struct tls_config){xstrdup0(c->ca_file), xstrdup0(c->cert_file), xstrdup0(c->key_file), c->verify};
}

static int read_file(const char *path, const struct self_mount *avoid, struct buf *out, struct error *err)
{
    char link[64];
    struct stat st;
    /* A handle without rights first: nothing happens yet to what it leads to. */
    _cleanup_(closep) int place = open(path, O_PATH | O_CLOEXEC);
    if (place < 0 || fstat(place, &st) < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (self_mount_is(avoid, st.st_dev))
        return error_set(err, -ELOOP, "%s: lies in triggerd's own mount (SelfMount)", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, -EINVAL, "%s: is no regular file", path);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", place);
    _cleanup_(closep) int fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    ssize_t n;
    while ((n = read(fd, buf_reserve(out, 16384), 16384)) > 0 || (n < 0 && errno == EINTR)) {
        out->len += n > 0 ? (size_t)n : 0;
        if (out->len > TLS_FILE_MAX)
            return error_set(err, -EFBIG, "%s: has more than %zu bytes", path, TLS_FILE_MAX);
    }
    if (n < 0)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (out->len == 0)
        return error_set(err, -EINVAL, "%s: is empty", path);
    return 0;
}

int tls_files_read(const struct tls_config *c, const struct self_mount *avoid, struct tls_files *ret, struct error *err)
{
    if (c->ca_file && read_file(c->ca_file, avoid, &ret->ca, err) < 0)
        return error_wrap(err, "tls.ca_file");
    if (c->cert_file && read_file(c->cert_file, avoid, &ret->cert, err) < 0)
        return error_wrap(err, "tls.cert_file");
    if (c->key_file && read_file(c->key_file, avoid, &ret->key, err) < 0)
        return error_wrap(err, "tls.key_file");
    return 0;
}

void tls_files_fini(struct tls_files *f)
{
    if (f->key.data)
        explicit_bzero(f->key.data, f->key.len);
    if (f->cert.data)
        explicit_bzero(f->cert.data, f->cert.len);
    buf_fini(&f->ca);
    buf_fini(&f->cert);
    buf_fini(&f->key);
}
