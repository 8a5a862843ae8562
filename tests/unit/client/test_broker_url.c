/* What manifests say of brokers: URLs, what fills them in, what is masked, what is shared, how long is waited. */
#include "base/util.h"
#include "client/queue.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* ---- URLs ---- */

static char *shown(const struct queue_url *u)
{
    struct buf b = {0};
    buf_printf(&b, "%s%s", queue_type_words[u->type], u->reference ? " reference" : u->tls ? " tls" : "");
    if (u->user || u->password)
        buf_printf(&b, " user=%s password=%s", u->user ? u->user : "-", u->password ? u->password : "-");
    for (size_t i = 0; i < u->n_hosts; i++)
        buf_printf(&b, " %s %d", u->hosts[i].host, u->hosts[i].port);
    if (u->path)
        buf_printf(&b, " path=%s", u->path);
    if (u->db)
        buf_printf(&b, " db=%lld", (long long)u->db);
    if (u->vhost)
        buf_printf(&b, " vhost=%s", u->vhost);
    if (u->region)
        buf_printf(&b, " region=%s", u->region);
    if (u->endpoint)
        buf_printf(&b, " endpoint=%s", u->endpoint);
    return buf_steal(&b);
}

static const struct {
    enum queue_type type;
    const char *text, *expected; /* what is shown of it, or the error */
} urls[] = {
    {QUEUE_REDIS, "redis://localhost:6379", "redis localhost 6379"},
    {QUEUE_REDIS, "redis://localhost", "redis localhost 6379"},
    {QUEUE_REDIS, "REDIS://h/", "redis h 6379"},
    {QUEUE_REDIS, "rediss://h/3", "redis tls h 6379 db=3"},
    {QUEUE_REDIS, "redis://:p%40%3A%2f@h", "redis user=- password=p@:/ h 6379"},
    {QUEUE_REDIS, "redis://u:p:q@h:1", "redis user=u password=p:q h 1"},
    {QUEUE_REDIS, "redis://u:a@b@h:1", "redis user=u password=a@b h 1"},
    {QUEUE_REDIS, "redis://u:@h", "redis user=u password= h 6379"},
    {QUEUE_REDIS, "redis://[::1]:7000/15", "redis ::1 7000 db=15"},
    {QUEUE_REDIS, "redis://:${file:/run/a@b:c/d?e#f}@h/${env:DB}",
     "redis user=- password=${file:/run/a@b:c/d?e#f} h 6379"},
    {QUEUE_REDIS, "redis://${env:H}:${env:P}", "redis ${env:H} 0"},
    {QUEUE_REDIS, "${env:REDIS_URL}", "redis reference"},
    {QUEUE_REDIS, "redis+unix:///run/redis.sock", "redis path=/run/redis.sock"},
    {QUEUE_REDIS, "redis+unix://:pw@/run/re%20dis.sock?db=2", "redis user=- password=pw path=/run/re dis.sock db=2"},
    {QUEUE_RABBITMQ, "amqp://h", "rabbitmq user=guest password=guest h 5672 vhost=/"},
    {QUEUE_RABBITMQ, "amqp://h/", "rabbitmq user=guest password=guest h 5672 vhost=/"},
    {QUEUE_RABBITMQ, "amqps://u:p@h/%2fa", "rabbitmq tls user=u password=p h 5671 vhost=/a"},
    {QUEUE_RABBITMQ, "amqp://u:p@h:9/my%20host", "rabbitmq user=u password=p h 9 vhost=my host"},
    {QUEUE_KAFKA, "kafka://a,b:1,[::2]:3", "kafka a 9092 b 1 ::2 3"},
    {QUEUE_KAFKA, "kafka://a/", "kafka a 9092"},
    {QUEUE_SQS, "sqs://eu-south-1", "sqs tls region=eu-south-1"},
    {QUEUE_SQS, "sqs://AKIA:a/b+c=@eu-south-1", "sqs tls user=AKIA password=a/b+c= region=eu-south-1"},
    {QUEUE_SQS, "sqs://${env:K}:${env:S}@${env:R}", "sqs tls user=${env:K} password=${env:S} region=${env:R}"},
    {QUEUE_SQS, "https://sqs.eu-west-1.amazonaws.com/123456789012/q",
     "sqs tls region=eu-west-1 endpoint=https://sqs.eu-west-1.amazonaws.com"},
    {QUEUE_SQS, "https://h:8443/", "sqs tls endpoint=https://h:8443"},

    {QUEUE_REDIS, "amqp://h", "expected redis://, rediss:// or redis+unix:// for redis, got amqp://"},
    {QUEUE_RABBITMQ, "http://h", "expected amqp:// or amqps:// for rabbitmq, got http://"},
    {QUEUE_KAFKA, "h:9092", "expected kafka:// for kafka"},
    {QUEUE_SQS, "http://h", "expected sqs:// or https:// for sqs, got http://"},
    {QUEUE_REDIS, "localhost:6379", "expected redis://, rediss:// or redis+unix:// for redis"},
    {QUEUE_REDIS, "${env:A}${env:B}", "expected redis://, rediss:// or redis+unix:// for redis"},
    {QUEUE_REDIS, "redis://", "names no host"},
    {QUEUE_REDIS, "redis:///1", "names no host"},
    {QUEUE_REDIS, "redis://hunter22@h", "expected :PASSWORD or USER:PASSWORD before the `@`"},
    {QUEUE_REDIS, "redis://:hun/ter22@h", "an `@` stands after a `/`, `?` or `#`: in a password these are %2F %3F %23"},
    {QUEUE_REDIS, "redis://h:0", "a port is a number from 1 to 65535"},
    {QUEUE_REDIS, "redis://h:65536", "a port is a number from 1 to 65535"},
    {QUEUE_REDIS, "redis://a,b", "a host has letters, digits and - . _ only (and IPv6 addresses stand in [ ])"},
    {QUEUE_REDIS, "redis://[::1", "a `[` in the host without `]`"},
    {QUEUE_REDIS, "redis://[::1]1", "after the host stands `:` and a port"},
    {QUEUE_REDIS, "redis://h/one", "a database is a number"},
    {QUEUE_REDIS, "redis://h/1?x=y", "has a `?`; redis:// takes no options (in a password it is written %3F)"},
    {QUEUE_REDIS, "redis://h/1#x", "has a `#`; in a password it is written %23"},
    {QUEUE_REDIS, "redis://:a%2@h", "a `%` is followed by two hexadecimal digits, not 00; as itself it is %25"},
    {QUEUE_REDIS, "redis://:a%00@h", "a `%` is followed by two hexadecimal digits, not 00; as itself it is %25"},
    {QUEUE_REDIS, "redis://h /1", "holds a blank or control character"},
    {QUEUE_REDIS, "redis+unix://h/run/s",
     "redis+unix:// is followed by an absolute path (redis+unix:///run/redis.sock)"},
    {QUEUE_REDIS, "redis+unix:///s?a=1", "after the `?` stands db= and a number"},
    {QUEUE_RABBITMQ, "amqp://u@h", "expected USER:PASSWORD before the `@`"},
    {QUEUE_RABBITMQ, "amqp://:p@h", "names no user before the `:`"},
    {QUEUE_RABBITMQ, "amqp://h/a/b", "a virtual host is one part of the path: a `/` in it is written %2F"},
    {QUEUE_KAFKA, "kafka://u:p@h", "kafka:// has no user and password; they belong into `security`"},
    {QUEUE_KAFKA, "kafka://h/topic", "kafka:// has no path; the topic is queue_name"},
    {QUEUE_KAFKA, "kafka://a,,b", "names no host"},
    {QUEUE_SQS, "sqs://key@eu-south-1", "expected KEY:SECRET before the `@`"},
    {QUEUE_SQS, "sqs://EU", "names no region, as in sqs://eu-south-1"},
};

static void urls_are_taken_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
        struct queue_url u = {0};
        struct error err = ERROR_INIT;
        int rc = queue_url_parse(urls[i].text, urls[i].type, &u, &err);
        _cleanup_(freep) char *got = rc < 0 ? xstrdup(err.message) : shown(&u);
        if (!streq(got, urls[i].expected))
            fail_msg("%s: got `%s`, expected `%s`", urls[i].text, got, urls[i].expected);
        assert_null(strstr(rc < 0 ? got : "", "ter22")); /* of passwords there is no word */
        queue_url_fini(&u);
    }
}

/* ---- setups ---- */

static struct queue_config *config_of(const char *json)
{
    cJSON *v = NULL;
    struct issues issues = ISSUES_INIT;
    struct queue_config *c = xcalloc(1, sizeof(*c));
    assert_int_equal(value_parse(json, strlen(json), &v, NULL), 0);
    if (!fields_parse(&queue_source_fields, v, NULL, c, "config", &issues))
        fail_msg("%s: %s", issues.items[0].path, issues.items[0].message);
    cJSON_Delete(v);
    issues_fini(&issues);
    return c;
}

static void config_free(struct queue_config *c)
{
    fields_fini(&queue_source_fields, c);
    free(c);
}

struct value_of {
    const char *name, *value;
};

static struct queue_setup *setup_of(const char *json, const struct value_of *values, struct error *err)
{
    struct queue_config *c = config_of(json);
    struct secrets *s = secrets_create();
    struct queue_setup *setup = NULL;
    queue_config_want(c, s, "/etc/m");
    for (size_t i = 0; i < secrets_count(s); i++)
        for (const struct value_of *v = values; v && v->name; v++)
            if (streq(secrets_at(s, i)->name, v->name))
                secrets_set(s, i, xstrdup(v->value), NULL);
    int rc = queue_setup_create(c, s, "/etc/m", "orders", "node1", &setup, err);
    assert_true(rc == 0 ? setup != NULL : setup == NULL);
    secrets_destroy(s);
    config_free(c);
    return setup;
}

static void references_are_taken_literally(void **state)
{
    (void)state;
    static const struct value_of values[] = {
        {"PW", "a/b@c:d?%41${env:X}"}, {"H", "redis.example"}, {"P", "7001"}, {"N", "jobs"}, {NULL, NULL}};
    struct error err = ERROR_INIT;
    struct queue_setup *s = setup_of("{\"queue_type\":\"redis\",\"connection_url\":\"redis://:x${env:PW}%41@${env:H}:"
                                     "${env:P}/2\",\"queue_name\":\"${env:N}:pending\",\"batch_size\":500}",
                                     values, &err);
    assert_non_null(s);
    assert_string_equal(s->url.password, "xa/b@c:d?%41${env:X}A");
    assert_null(s->url.user);
    assert_string_equal(s->url.hosts[0].host, "redis.example");
    assert_int_equal(s->url.hosts[0].port, 7001);
    assert_int_equal(s->url.db, 2);
    assert_string_equal(s->config.queue_name, "jobs:pending");
    assert_string_equal(s->dead_letter, "jobs:pending.dead");
    assert_int_equal(s->config.prefetch, 500); /* a batch can get full */
    assert_null(s->group);
    char *text = xstrdup("AUTH xa/b@c:d?%41${env:X}A failed; was a/b@c:d?%41${env:X}");
    mask_string(s->mask, &text);
    assert_string_equal(text, "AUTH *** failed; was ***");
    free(text);
    queue_setup_unref(queue_setup_ref(s));
    queue_setup_unref(s);
}

static void a_whole_url_may_be_one_reference(void **state)
{
    (void)state;
    static const struct value_of values[] = {{"URL", "amqps://u:s3cr3t%21@h/v"}, {NULL, NULL}};
    struct error err = ERROR_INIT;
    struct queue_setup *s =
        setup_of("{\"queue_type\":\"rabbitmq\",\"connection_url\":\"${env:URL}\",\"queue_name\":\"q\"}", values, &err);
    assert_non_null(s);
    assert_true(s->url.tls);
    assert_string_equal(s->url.password, "s3cr3t!");
    assert_string_equal(s->url.vhost, "v");
    char *text = xstrdup("s3cr3t! amqps://u:s3cr3t%21@h/v");
    mask_string(s->mask, &text);
    assert_null(strstr(text, "cr3t"));
    free(text);
    queue_setup_unref(s);
    static const struct value_of nested[] = {{"URL", "redis://:${env:Y}@h"}, {NULL, NULL}};
    s = setup_of("{\"queue_type\":\"redis\",\"connection_url\":\"${env:URL}\",\"queue_name\":\"q\"}", nested, &err);
    assert_non_null(s);
    assert_string_equal(s->url.password, "${env:Y}"); /* what it stands for is not looked through */
    queue_setup_unref(s);
}

static void values_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *url, *value, *message;
    } wrong[] = {
        {"redis://${env:V}", "evil/..",
         "connection_url: a host has letters, digits and - . _ only (and IPv6 addresses "
         "stand in [ ])"},
        {"redis://${env:V}", "", "connection_url: names no host"},
        {"redis://h:${env:V}", "70000", "connection_url: a port is a number from 1 to 65535"},
        {"redis://h/${env:V}", "x", "connection_url: a database is a number"},
        {"${env:V}", "http://secret",
         "connection_url: expected redis://, rediss:// or redis+unix:// for redis, got "
         "http://"},
        {"redis://:${env:OTHER}@h", "x", "connection_url: ${env:OTHER}: was not read"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        const struct value_of values[] = {{"V", wrong[i].value}, {NULL, NULL}};
        _cleanup_(freep) char *json =
            xasprintf("{\"queue_type\":\"redis\",\"connection_url\":\"%s\",\"queue_name\":\"q\"}", wrong[i].url);
        struct error err = ERROR_INIT;
        assert_null(setup_of(json, values, &err));
        assert_string_equal(err.message, wrong[i].message);
    }
}

static void groups_have_defaults(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct queue_setup *s =
        setup_of("{\"queue_type\":\"kafka\",\"connection_url\":\"kafka://h\",\"queue_name\":\"t\"}", NULL, &err);
    assert_non_null(s);
    assert_string_equal(s->group, "triggerd-orders");
    assert_string_equal(s->consumer, "node1");
    queue_setup_unref(s);
    s = setup_of("{\"queue_type\":\"redis\",\"redis_mode\":\"stream\",\"connection_url\":\"redis://h\",\"queue_name\":"
                 "\"t\",\"consumer_group\":\"g\",\"consumer_name\":\"c\",\"dead_letter_queue\":\"d\"}",
                 NULL, &err);
    assert_non_null(s);
    assert_string_equal(s->group, "g");
    assert_string_equal(s->consumer, "c");
    assert_string_equal(s->dead_letter, "d");
    queue_setup_unref(s);
}

static void sqs_takes_aws_variables(void **state)
{
    (void)state;
    static const char plain[] = "{\"queue_type\":\"sqs\",\"connection_url\":\"sqs://eu-south-1\",\"queue_name\":\"q\"}";
    struct error err = ERROR_INIT;
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_REGION");
    unsetenv("AWS_DEFAULT_REGION");
    assert_null(setup_of(plain, NULL, &err));
    assert_int_equal(err.code, -EACCES);
    setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "hunter22", 1);
    setenv("AWS_SESSION_TOKEN", "token4711", 1);
    struct queue_setup *s = setup_of(plain, NULL, &err);
    assert_non_null(s);
    assert_string_equal(s->url.user, "AKIAEXAMPLE");
    assert_string_equal(s->url.token, "token4711");
    assert_string_equal(s->url.endpoint, "https://sqs.eu-south-1.amazonaws.com");
    char *text = xstrdup("hunter22 token4711");
    mask_string(s->mask, &text);
    assert_string_equal(text, "*** ***");
    free(text);
    queue_setup_unref(s);
    s = setup_of("{\"queue_type\":\"sqs\",\"connection_url\":\"sqs://K:S/x@cn-north-1\",\"queue_name\":\"q\","
                 "\"endpoint_url\":\"http://localhost:9324/\"}",
                 NULL, &err);
    assert_non_null(s);
    assert_string_equal(s->url.user, "K");
    assert_string_equal(s->url.password, "S/x");
    assert_null(s->url.token);
    assert_string_equal(s->url.region, "cn-north-1");
    assert_string_equal(s->url.endpoint, "http://localhost:9324");
    queue_setup_unref(s);
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    unsetenv("AWS_SESSION_TOKEN");
}

/* ---- what is shared ---- */

static char *key_of(const char *more, const char *dir, const char *group, bool reading)
{
    _cleanup_(freep) char *json = xasprintf(
        "{\"queue_type\":\"redis\",\"connection_url\":\"redis://:${file:pw}@h\",\"queue_name\":\"q\"%s}", more);
    struct queue_config *c = config_of(json);
    char *key = queue_connection_key(c, dir, group, reading);
    config_free(c);
    return key;
}

static void keys_are_equal_where_everything_is(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *dir_b;
        bool reading, equal;
    } pairs[] = {
        {"", "", "/m", true, true},
        {"", ",\"batch_size\":1", "/m", true, true}, /* a default is the same as nothing */
        {"", ",\"batch_size\":2", "/m", true, false},
        {"", ",\"batch_size\":2", "/m", false, true},
        {"", ",\"dead_letter_queue\":\"d\"", "/m", true, false},
        {"", ",\"tls\":{\"verify\":false}", "/m", false, false},
        {"", "", "/n", true, false}, /* another file */
        {",\"redis_mode\":\"stream\"", "", "/m", false, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        _cleanup_(freep) char *a = key_of(pairs[i].a, "/m", NULL, pairs[i].reading);
        _cleanup_(freep) char *b = key_of(pairs[i].b, pairs[i].dir_b, NULL, pairs[i].reading);
        if (streq(a, b) != pairs[i].equal)
            fail_msg("%zu: `%s` and `%s`", i, a, b);
    }
    _cleanup_(freep) char *a = key_of("", "/m", "g1", true), *b = key_of("", "/m", "g2", true);
    assert_string_not_equal(a, b);
}

static void backoff_doubles_to_its_bound(void **state)
{
    (void)state;
    struct random_seeded random;
    struct queue_backoff b = {0};
    random_seeded_init(&random, 7);
    for (int round = 0; round < 2; round++) {
        for (int64_t want = 500; want <= 8000; want *= 2) {
            int64_t got = queue_backoff_next(&b, &random.random);
            assert_in_range(got, want - want / 5, want + want / 5);
        }
        int64_t got = queue_backoff_next(&b, &random.random);
        assert_in_range(got, 6400, 9600);
        queue_backoff_reset(&b);
    }
}

/* ---- what manifests may say ---- */

static const struct {
    const char *json, *problem; /* the first; NULL: none */
    bool step;
} manifests[] = {
    {"{'queue_type':'redis','connection_url':'redis://localhost:6379','queue_name':'jobs:pending','ack_mode':'auto',"
     "'batch_size':1}",
     NULL, false},
    {"{'queue_type':'redis','connection_url':'redis://h','queue_name':'q','bind':{'exchange':'e'}}",
     "config.bind: is a key of rabbitmq, not of redis", false},
    {"{'queue_type':'sqs','connection_url':'sqs://eu-1','queue_name':'q','consumer_group':'g'}",
     "config.consumer_group: is a key of redis and kafka, not of sqs", false},
    {"{'queue_type':'kafka','connection_url':'kafka://h','queue_name':'q','declare':false}",
     "config.declare: is a key of rabbitmq, not of kafka", false},
    {"{'queue_type':'kafka','connection_url':'kafka://h','queue_name':'q','bind':null}", NULL, false},
    {"{'queue_type':'redis','redis_mode':'stream','connection_url':'redis://h','queue_name':'q','pop':'left'}",
     "config.pop: is a key of redis_mode: list, not of stream", false},
    {"{'queue_type':'rabit','connection_url':'amqp://h','queue_name':'q'}",
     "config.queue_type: expected one of redis, rabbitmq, kafka, sqs, got \"rabit\"", false},
    {"{'queue_type':'redis','connection_url':'amqp://h','queue_name':'q'}",
     "config.connection_url: expected redis://, rediss:// or redis+unix:// for redis, got amqp://", false},
    {"{'queue_type':'redis','connection_url':'redis://h','queue_name':'q','tls':{'verify':false}}",
     "config.tls: is for rediss://", false},
    {"{'queue_type':'redis','connection_url':'${env:U}','queue_name':'q','tls':{'verify':false}}", NULL, false},
    {"{'queue_type':'redis','connection_url':'redis://h','queue_name':'q','on_failure':'drop'}",
     "config.on_failure: only with `ack_mode: manual`", false},
    {"{'queue_type':'redis','connection_url':'redis://h','queue_name':'q','on_failure':'drop','ack_mode':'manual'}",
     NULL, false},
    {"{'queue_type':'redis','redis_mode':'pubsub','connection_url':'redis://h','queue_name':'q','ack_mode':'manual'}",
     "config.ack_mode: pub/sub has nothing to acknowledge; expected \"auto\"", false},
    {"{'queue_type':'redis','connection_url':'redis://h','queue_name':'q','batch_size':200}", NULL, false},
    {"{'queue_type':'redis','connection_url':'redis://h','queue_name':'q','batch_size':200,'prefetch':100}",
     "config.prefetch: must be at least batch_size (200), or a batch is never full", false},
    {"{'queue_type':'rabbitmq','connection_url':'amqp://h','queue_name':'q','queue_arguments':{'x-max-length':5}}",
     "config.queue_arguments: only with `declare: true`", false},
    {"{'queue_type':'kafka','connection_url':'kafka://h','queue_name':'q','security':{'protocol':'sasl_ssl',"
     "'username':'u'}}",
     "config.security.password: required for sasl_ssl, but missing", false},
    {"{'queue_type':'kafka','connection_url':'kafka://h','queue_name':'q','security':{'protocol':'ssl',"
     "'username':'u'}}",
     "config.security.username: is for sasl_plaintext and sasl_ssl; ssl has none", false},
    {"{'queue_type':'kafka','connection_url':'kafka://h','queue_name':'q','options':[1]}",
     "config.options: expected an object", false},
    {"{'queue_type':'sqs','connection_url':'sqs://eu-1','queue_name':'q','endpoint_url':'ftp://h'}",
     "config.endpoint_url: expected http:// or https://", false},
    /* A malformed reference is another's to tell; of its URL nothing is said. */
    {"{'queue_type':'sqs','connection_url':'sqs://eu-1','queue_name':'q','endpoint_url':'${env:A B}'}", NULL, false},
    {"{'queue_type':'redis','connection_url':'${env:A B}','queue_name':'q'}", NULL, false},
    {"{'queue_type':'rabbitmq','connection_url':'amqp://h','queue_name':'q','dead_letter_queue':'d'}",
     "config.dead_letter_queue: has no effect: the queue's own dead-letter exchange decides", false},
    {"{'queue_type':'redis','connection_url':'redis://h','queue_name':'q','body':1}", NULL, true},
    {"{'queue_type':'redis','connection_url':'redis://h','queue_name':'q','body':1,'key':'k'}",
     "config.key: is a key of kafka and sqs, not of redis", true},
    {"{'queue_type':'redis','connection_url':'redis://h','queue_name':'q','body':1,'headers':{}}",
     "config.headers: is a key of rabbitmq, kafka and sqs, not of redis", true},
    {"{'queue_type':'redis','connection_url':'redis://h','body':1}", "config.queue_name: required, but missing", true},
    {"{'queue_type':'rabbitmq','connection_url':'amqp://h','exchange':'e','body':1}", NULL, true},
    {"{'queue_type':'rabbitmq','connection_url':'amqp://h','exchange':'e','queue_name':'q','body':1}",
     "config.queue_name: beside `exchange` and `routing_key`; keep one of them", true},
    {"{'queue_type':'rabbitmq','connection_url':'amqp://h','routing_key':'r','body':1}",
     "config.queue_name: required, or `exchange` instead", true},
};

static void problems_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(manifests); i++) {
        _cleanup_(freep) char *json = xstrdup(manifests[i].json);
        for (char *c = json; *c; c++)
            *c = *c == '\'' ? '"' : *c;
        cJSON *v = NULL;
        struct queue_config c = {0};
        struct issues issues = ISSUES_INIT;
        const struct field_table *t = manifests[i].step ? &queue_step_fields : &queue_source_fields;
        assert_int_equal(value_parse(json, strlen(json), &v, NULL), 0);
        if (fields_parse(t, v, NULL, &c, "config", &issues))
            (manifests[i].step ? queue_step_validate : queue_source_validate)(&c, v, "config", &issues);
        _cleanup_(freep) char *got =
            issues.n > 0 ? xasprintf("%s: %s", issues.items[0].path, issues.items[0].message) : NULL;
        if (!streq(got, manifests[i].problem))
            fail_msg("%s: got `%s`", json, got ? got : "nothing");
        fields_fini(t, &c);
        issues_fini(&issues);
        cJSON_Delete(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_taken_apart),
        cmocka_unit_test(references_are_taken_literally),
        cmocka_unit_test(a_whole_url_may_be_one_reference),
        cmocka_unit_test(values_that_do_not_fit_are_refused),
        cmocka_unit_test(groups_have_defaults),
        cmocka_unit_test(sqs_takes_aws_variables),
        cmocka_unit_test(keys_are_equal_where_everything_is),
        cmocka_unit_test(backoff_doubles_to_its_bound),
        cmocka_unit_test(problems_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
