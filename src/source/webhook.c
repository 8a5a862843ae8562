#include "source/webhook.h"

#include "base/digest.h"
#include "base/util.h"
#include "lang/secret.h"
#include "source/list.h"

#include <ctype.h>
#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#define SIGNATURES_MAX 16
#define SECRET_BYTES_MAX 1024

/* ---- config ---- */

const char *const webhook_methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", NULL};
static const char *const schemes[] = {"github", "stripe", "standard-webhooks", "hmac-sha256", NULL};

static const struct field signature_rows[] = {
    {.name = "scheme",
     .type = &field_enum,
     FIELD(struct webhook_signature, scheme, int, .flags = FIELD_REQUIRED, .words = schemes,
           .doc = "How requests are signed", .example = "\"github\"")},
    {.name = "secret",
     .type = &field_string,
     FIELD(struct webhook_signature, secret, char *,
           .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY | FIELD_SECRET | FIELD_REFERS, .max = 4096,
           .doc = "The secret shared with the sender", .example = "\"${env:HOOK_SECRET}\"")},
    {.name = "header",
     .type = &field_string,
     FIELD(struct webhook_signature, header, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 128,
           .doc = "hmac-sha256: the header that holds the signature; X-Signature-256 by default",
           .example = "\"X-Signature\"")},
    {.name = "prefix",
     .type = &field_string,
     FIELD(struct webhook_signature, prefix, char *, .flags = FIELD_NULL_OK, .max = 64,
           .doc = "hmac-sha256: what stands before the hex digits; by default \"sha256=\" or nothing",
           .example = "\"v0=\"")},
};
static const struct field_table signature_table = {"signature", "What a request must prove",
                                                   sizeof(struct webhook_signature), signature_rows,
                                                   ARRAY_SIZE(signature_rows)};

static const struct field rows[] = {
    {.name = "path",
     .type = &field_string,
     FIELD(struct webhook_config, path, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = WEBHOOK_PATH_MAX,
           .change = CHANGE_SOURCE, .doc = "Requests to /hooks/PATH are events", .example = "\"github/push\"")},
    {.name = "methods",
     .type = &field_words,
     FIELD(struct webhook_config, methods, uint64_t, .flags = FIELD_NOT_EMPTY, .default_json = "[\"POST\"]",
           .words = webhook_methods, .doc = "The methods that are taken", .example = "[\"POST\"]")},
    {.name = "signature",
     .type = &field_object_opt,
     FIELD(struct webhook_config, signature, struct webhook_signature *, .flags = FIELD_NULL_OK,
           .sub = &signature_table, .doc = "What a request must prove; without it the path is served on loopback only",
           .example = "{\"scheme\": \"github\", \"secret\": \"${env:HOOK_SECRET}\"}")},
};
static const struct field_table table = {"webhook", "Requests of somebody else's server", sizeof(struct webhook_config),
                                         rows, ARRAY_SIZE(rows)};

/* Segments of unreserved characters (RFC 3986, 2.3), none of them `.` or `..`. */
static bool path_ok(const char *path)
{
    for (const char *p = path;;) {
        size_t n = 0;
        while (isalnum((unsigned char)p[n]) || (p[n] && strchr("-._~", p[n])))
            n++;
        bool dots = (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.');
        if (n == 0 || dots || (p[n] && p[n] != '/'))
            return false;
        if (!p[n])
            return true;
        p += n + 1;
    }
}

/* RFC 9110, 5.6.2. */
static bool header_name_ok(const char *name)
{
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
            return false;
    return true;
}

static void validate(const void *config, const cJSON *node, const char *path, struct issues *issues)
{
    const struct webhook_config *c = config;
    char at[FIELD_PATH_MAX], inner[FIELD_PATH_MAX];
    if (c->path && *c->path && !path_ok(c->path))
        issue_add(
            issues, field_path(at, path, "path"), value_get(node, "path"),
            "expected segments of letters, digits, \"-\", \".\", \"_\" and \"~\", with \"/\" between them, got \"%s\"",
            c->path);
    const struct webhook_signature *s = c->signature;
    const cJSON *given = value_get(node, "signature");
    if (!s)
        return;
    field_path(at, path, "signature");
    if (s->header && !header_name_ok(s->header))
        issue_add(issues, field_path(inner, at, "header"), value_get(given, "header"), "not the name of a header");
    if (s->scheme != WEBHOOK_HMAC && s->header)
        issue_add(issues, field_path(inner, at, "header"), value_get(given, "header"),
                  "only scheme hmac-sha256 has a header to choose");
    if (s->scheme != WEBHOOK_HMAC && s->prefix)
        issue_add(issues, field_path(inner, at, "prefix"), value_get(given, "prefix"),
                  "only scheme hmac-sha256 has a prefix to choose");
}

static const char rules[] =
    "[{'properties': {'path': {'pattern': "
    "'^(?!\\\\.{1,2}(/|$))[A-Za-z0-9._~-]+(/(?!\\\\.{1,2}(/|$))[A-Za-z0-9._~-]+)*$'}, "
    "'signature': {'properties': {'header': {'pattern': '^[A-Za-z0-9!#\\\\x24%&\\u0027*+.^_`|~-]+$'}}, "
    "'if': {'properties': {'scheme': {'not': {'const': 'hmac-sha256'}}}}, "
    "'then': {'properties': {'header': {'type': 'null'}, 'prefix': {'type': 'null'}}}}}}]";

static size_t channels(const void *config, struct channel_key *ret, size_t cap)
{
    const struct webhook_config *c = config;
    if (cap > 0)
        ret[0] = (struct channel_key){.text = c->path};
    return 1;
}

const struct source_type source_webhook = {
    .kind = {.name = "webhook", .config = &table, .has_filter = true, .validate = validate, .rules = rules},
    .channels = channels,
};

/* ---- signatures ---- */

static const char *request_header(const struct webhook_request *r, const char *name)
{
    return r->header(r->ctx, name);
}

static int missing(struct error *err, const char *name)
{
    return error_set(err, -EACCES, "the header %s is missing", name);
}

static int does_not_fit(struct error *err)
{
    return error_set(err, -EACCES, "the signature does not fit");
}

/* HMAC-SHA256 over `head` and the body. */
static struct digest sign(const void *key, size_t key_len, const char *head, const struct webhook_request *r)
{
    struct buf b = {0};
    buf_adds(&b, head);
    buf_add(&b, r->body, r->len);
    struct digest digest = digest_hmac(key, key_len, b.data, b.len);
    buf_fini(&b);
    return digest;
}

/* The same digest, in hex? Takes the same time wherever they differ. */
static bool hex_fits(const struct digest *digest, const char *text, size_t len)
{
    struct digest given;
    if (len != (size_t)2 * DIGEST_SIZE)
        return false;
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        given.bytes[i] = (uint8_t)(high << 4 | low);
    }
    return digest_equal(digest, &given);
}

/* Strict base64; the number of bytes, or -1. */
static int base64(const char *text, size_t len, unsigned char *to, size_t cap)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (len == 0 || len % 4 != 0 || len / 4 * 3 > cap)
        return -1;
    size_t padding = text[len - 1] != '=' ? 0 : text[len - 2] != '=' ? 1 : 2;
    for (size_t i = 0; i < len - padding; i++) /* GLib would pass over anything else */
        if (!memchr(alphabet, text[i], sizeof(alphabet) - 1))
            return -1;
    gint state = 0;
    guint save = 0;
    return (int)g_base64_decode_step(text, len, to, &state, &save);
}

static bool base64_fits(const struct digest *digest, const char *text, size_t len)
{
    unsigned char bytes[64];
    struct digest given;
    if (base64(text, len, bytes, sizeof(bytes)) != DIGEST_SIZE)
        return false;
    memcpy(given.bytes, bytes, DIGEST_SIZE);
    return digest_equal(digest, &given);
}

static bool is_recent(const char *seconds, int64_t now_ms)
{
    char *end = NULL;
    errno = 0;
    long long t = strtoll(seconds, &end, 10);
    long long now = now_ms / 1000;
    return !errno && end != seconds && t > 0 && t >= now - WEBHOOK_TOLERANCE_S && t <= now + WEBHOOK_TOLERANCE_S;
}

static int too_old(struct error *err)
{
    return error_set(err, -EACCES, "the time of the signature is not within %d s of now", WEBHOOK_TOLERANCE_S);
}

static int verify_plain(const char *name, const char *const *prefixes, const char *secret,
                        const struct webhook_request *r, struct error *err)
{
    const char *given = request_header(r, name);
    if (!given)
        return missing(err, name);
    struct digest digest = sign(secret, strlen(secret), "", r);
    for (; *prefixes; prefixes++) {
        size_t n = strlen(*prefixes);
        if (strncmp(given, *prefixes, n) == 0 && hex_fits(&digest, given + n, strlen(given + n)))
            return 0;
    }
    return does_not_fit(err);
}

static int verify_stripe(const char *secret, const struct webhook_request *r, struct error *err)
{
    const char *given = request_header(r, "Stripe-Signature");
    if (!given)
        return missing(err, "Stripe-Signature");
    char time[24] = "";
    for (const char *p = given; *p;) {
        size_t n = strcspn(p, ",");
        if (strncmp(p, "t=", 2) == 0 && n - 2 < sizeof(time))
            snprintf(time, sizeof(time), "%.*s", (int)(n - 2), p + 2);
        p += n + (p[n] == ',');
    }
    if (!is_recent(time, r->now_ms) || time[strspn(time, "0123456789")])
        return too_old(err);
    char head[32];
    snprintf(head, sizeof(head), "%s.", time);
    struct digest digest = sign(secret, strlen(secret), head, r);
    unsigned tried = 0;
    for (const char *p = given; *p && tried < SIGNATURES_MAX;) {
        size_t n = strcspn(p, ",");
        if (strncmp(p, "v1=", 3) == 0 && ++tried && hex_fits(&digest, p + 3, n - 3))
            return 0;
        p += n + (p[n] == ',');
    }
    return does_not_fit(err);
}

static int verify_standard(const char *secret, const struct webhook_request *r, struct error *err)
{
    const char *id = request_header(r, "webhook-id"), *time = request_header(r, "webhook-timestamp");
    const char *given = request_header(r, "webhook-signature");
    if (!id || !time || !given)
        return missing(err, !id ? "webhook-id" : !time ? "webhook-timestamp" : "webhook-signature");
    if (!is_recent(time, r->now_ms) || time[strspn(time, "0123456789")])
        return too_old(err);
    unsigned char key[SECRET_BYTES_MAX];
    const char *text = secret;
    int key_len = (int)strlen(secret);
    if (strncmp(text, "whsec_", 6) == 0) {
        key_len = base64(text + 6, strlen(text + 6), key, sizeof(key));
        text = (const char *)key;
    }
    if (key_len <= 0)
        return error_set(err, -EINVAL, "what follows whsec_ in the secret is not base64");
    _cleanup_(freep) char *head = xasprintf("%s.%s.", id, time);
    struct digest digest = sign(text, (size_t)key_len, head, r);
    explicit_bzero(key, sizeof(key));
    unsigned tried = 0;
    for (const char *p = given; *p && tried < SIGNATURES_MAX;) {
        size_t n = strcspn(p, " ");
        if (strncmp(p, "v1,", 3) == 0 && ++tried && base64_fits(&digest, p + 3, n - 3))
            return 0;
        p += n;
        p += strspn(p, " ");
    }
    return does_not_fit(err);
}

int webhook_verify(const struct webhook_signature *s, const char *secret, const struct webhook_request *r,
                   struct error *err)
{
    if (!*secret) /* which everybody knows */
        return error_set(err, -EINVAL, "the secret is empty");
    switch ((enum webhook_scheme)s->scheme) {
    case WEBHOOK_GITHUB:
        return verify_plain("X-Hub-Signature-256", (const char *const[]){"sha256=", NULL}, secret, r, err);
    case WEBHOOK_STRIPE:
        return verify_stripe(secret, r, err);
    case WEBHOOK_STANDARD:
        return verify_standard(secret, r, err);
    case WEBHOOK_HMAC:
        break;
    }
    return verify_plain(s->header ? s->header : "X-Signature-256",
                        s->prefix ? (const char *const[]){s->prefix, NULL} : (const char *const[]){"sha256=", "", NULL},
                        secret, r, err);
}

bool webhook_header_is_secret(const struct webhook_signature *s, const char *name)
{
    static const char *const names[] = {"authorization",       "proxy-authorization", "cookie",
                                        "x-hub-signature-256", "x-hub-signature",     "stripe-signature",
                                        "webhook-signature",   "x-signature-256"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (streq(name, names[i]))
            return true;
    return s && s->header && strcasecmp(name, s->header) == 0;
}
