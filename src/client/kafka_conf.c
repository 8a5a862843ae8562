#include "client/kafka.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

int kafka_lib_load(struct kafka_lib *ret, struct error *err)
{
    /* It stays: its threads and what it brings along have something to do when a process ends. */
    void *handle = dlopen("librdkafka.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle)
        return error_set(err, -ENOPKG, "Kafka needs librdkafka: %s", dlerror());
    struct kafka_lib lib;
#define RESOLVE(f)                                                                                                     \
    *(void **)&lib.f = dlsym(handle, #f);                                                                              \
    if (!lib.f)                                                                                                        \
        return error_set(err, -ENOPKG, "Kafka needs a newer librdkafka: %s", dlerror());
    KAFKA_FUNCTIONS(RESOLVE)
#undef RESOLVE
    *ret = lib;
    return 0;
}

/* ---- what an error means ---- */

const char *kafka_reason(rd_kafka_resp_err_t code, const char *text)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
        return "AuthenticationFailed";
    case RD_KAFKA_RESP_ERR__SSL:
        return "TLSFailed";
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        return "QueueNotFound";
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        return "AccessDenied";
    case RD_KAFKA_RESP_ERR__RESOLVE:
        return "HostNotFound";
    default:
        return text && strstr(text, "Connection refused") ? "ConnectionRefused" : "ConnectionLost";
    }
}

int kafka_errno(rd_kafka_resp_err_t code, const char *text)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        return -EACCES;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        return -ENOENT;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return -EMSGSIZE;
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
        return -ETIMEDOUT;
    default:
        return text && strstr(text, "Connection refused") ? -ECONNREFUSED : -EIO;
    }
}

/* ---- options ---- */

/* What has a key of ours, or is not the user's to choose. */
static const struct {
    const char *name, *key; /* key NULL: triggerd sets it itself */
    bool unless;            /* allowed where `security` is not given */
} managed[] = {
    {"bootstrap.servers", "connection_url", false},
    {"metadata.broker.list", "connection_url", false},
    {"group.id", "consumer_group", false},
    {"auto.offset.reset", "start", false},
    {"security.protocol", "security.protocol", true},
    {"sasl.mechanism", "security.mechanism", true},
    {"sasl.mechanisms", "security.mechanism", true},
    {"sasl.username", "security.username", false},
    {"sasl.password", "security.password", false},
    {"ssl.ca.location", "tls.ca_file", false},
    {"ssl.certificate.location", "tls.cert_file", false},
    {"ssl.key.location", "tls.key_file", false},
    {"enable.ssl.certificate.verification", "tls.verify", false},
    {"ssl.endpoint.identification.algorithm", "tls.verify", false},
    {"enable.auto.commit", NULL, false},
    {"auto.commit.enable", NULL, false},
    {"auto.commit.interval.ms", NULL, false},
    {"enable.auto.offset.store", NULL, false},
    {"enable.partition.eof", NULL, false},
    {"partition.assignment.strategy", NULL, false},
    {"statistics.interval.ms", NULL, false},
    {"enabled_events", NULL, false},
    {"log.queue", NULL, false},
    {"acks", NULL, false},
    {"request.required.acks", NULL, false},
    {"enable.idempotence", NULL, false},
    {"delivery.report.only.error", NULL, false},
    {"plugin.library.paths", NULL, false},
};

/* These are secrets by nature, and `options` are shown as they are written. */
static const char *const secret_names[] = {"ssl.key.password", "ssl.key.pem", "ssl.keystore.password",
                                           "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config"};

/* A value as librdkafka takes it; to be freed. NULL: it is no scalar. */
static char *option_text(const cJSON *v)
{
    if (cJSON_IsString(v))
        return xstrdup(v->valuestring);
    if (cJSON_IsBool(v))
        return xstrdup(cJSON_IsTrue(v) ? "true" : "false");
    return cJSON_IsNumber(v) || cJSON_IsRaw(v) ? value_print(v) : NULL;
}

static void unknown_option(const struct kafka_lib *lib, rd_kafka_conf_t *conf, const cJSON *v, const char *at,
                           struct issues *issues)
{
    size_t n = 0;
    const char **pairs = lib->rd_kafka_conf_dump(conf, &n);
    const char **names = xcalloc(n / 2 + 1, sizeof(*names));
    for (size_t i = 0; i < n / 2; i++)
        names[i] = pairs[2 * i];
    const char *nearest = nearest_name(v->string, names, n / 2);
    issue_add_key(issues, at, v, "librdkafka knows no \"%s\"; did you mean \"%s\"?", v->string, nearest ? nearest : "");
    free(names);
    lib->rd_kafka_conf_dump_free(pairs, n);
}

/* True where there is nothing more to say of it. */
static bool option_managed(const struct queue_config *c, const cJSON *v, const char *at, struct issues *issues)
{
    for (size_t i = 0; i < ARRAY_SIZE(managed); i++)
        if (streq(v->string, managed[i].name) && (!managed[i].unless || c->security)) {
            if (managed[i].key)
                issue_add_key(issues, at, v, "is said by `%s`", managed[i].key);
            else
                issue_add_key(issues, at, v, "is not to be set: triggerd goes by it itself");
            return true;
        }
    for (size_t i = 0; i < ARRAY_SIZE(secret_names); i++)
        if (streq(v->string, secret_names[i]) && !(cJSON_IsString(v) && reference_in(v))) {
            issue_add(issues, at, v, "is a secret; expected a reference: \"${env:NAME}\" or \"${file:PATH}\"");
            return true;
        }
    return false;
}

static void option_check(const struct kafka_lib *lib, rd_kafka_conf_t *conf, const cJSON *v, const char *at,
                         struct issues *issues)
{
    char why[256];
    _cleanup_(freep) char *text = option_text(v);
    rd_kafka_conf_res_t r =
        lib ? lib->rd_kafka_conf_set(conf, v->string, text ? text : "", why, sizeof(why)) : RD_KAFKA_CONF_OK;
    if (r == RD_KAFKA_CONF_UNKNOWN)
        unknown_option(lib, conf, v, at, issues);
    else if (!text)
        issue_add(issues, at, v, "expected a string, a number or true or false");
    else if (r != RD_KAFKA_CONF_OK && !(cJSON_IsString(v) && reference_in(v)))
        issue_add(issues, at, v, "%s", why);
}

void kafka_options_validate(const struct queue_config *c, const cJSON *node, const char *path, struct issues *issues)
{
    struct kafka_lib lib;
    char options[FIELD_PATH_MAX], at[FIELD_PATH_MAX];
    /* The tree that was written, whose nodes have places, not the copy in the config. */
    const cJSON *given = value_get(node, "options"), *v;
    if (!cJSON_IsObject(given) || !given->child)
        return;
    field_path(options, path, "options");
    bool loaded = kafka_lib_load(&lib, NULL) == 0;
    rd_kafka_conf_t *conf = loaded ? lib.rd_kafka_conf_new() : NULL;
    cJSON_ArrayForEach (v, given) {
        field_path(at, options, v->string);
        if (strncmp(v->string, "x-", 2) != 0 && !option_managed(c, v, at, issues))
            option_check(loaded ? &lib : NULL, conf, v, at, issues);
    }
    if (conf)
        lib.rd_kafka_conf_destroy(conf);
}
