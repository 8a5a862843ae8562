#include "client/queue.h"

#include "base/util.h"
#include "client/queue_url.h"

#include <errno.h>
#include <stdio.h>

#define BACKOFF_MIN_MS 500
#define BACKOFF_MAX_MS 8000

/* ---- references ---- */

static bool is_text(const struct field *f)
{
    return f->type == &field_string;
}

static bool is_tree(const struct field *f)
{
    return f->type == &field_json || f->type == &field_string_map;
}

/* connection_url is filled in part by part. */
static bool is_url(const struct field *f)
{
    return streq(f->name, "connection_url") || streq(f->name, "endpoint_url");
}

static void want(const struct field_table *t, const void *config, struct secrets *s, const char *dir)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        const void *slot = (const char *)config + f->offset;
        if (f->type == &field_object_opt && *(void *const *)slot)
            want(f->sub, *(void *const *)slot, s, dir);
        else if ((f->flags & FIELD_REFERS) && is_text(f) && *(char *const *)slot)
            secrets_want(s, *(char *const *)slot, dir);
        else if ((f->flags & FIELD_REFERS) && is_tree(f))
            secrets_want_tree(s, *(cJSON *const *)slot, dir);
    }
}

void queue_config_want(const struct queue_config *c, struct secrets *s, const char *dir)
{
    want(&queue_source_fields, c, s, dir);
}

void queue_config_each_reference(const struct queue_config *c, void (*fn)(void *ctx, const char *text), void *ctx)
{
    struct secrets *s = secrets_create();
    queue_config_want(c, s, NULL);
    for (size_t i = 0; i < secrets_count(s); i++) {
        const struct secret *item = secrets_at(s, i);
        _cleanup_(freep) char *text = xasprintf("${%s:%s}", item->kind == SECRET_ENV ? "env" : "file", item->name);
        fn(ctx, text);
    }
    secrets_destroy(s);
}

static int expand_text(const struct field *f, char **slot, const struct secrets *s, const char *dir, struct error *err)
{
    char *text = NULL;
    if (!*slot || !strstr(*slot, "${"))
        return 0;
    int e = secrets_expand(s, *slot, dir, &text, err);
    if (e < 0)
        return error_wrap(err, "%s", f->name);
    if (!utf8_valid(text, strlen(text)) || ((f->flags & FIELD_NOT_EMPTY) && !*text)) {
        e = error_set(err, -EINVAL, "%s: what `%.200s` stands for is %s", f->name, *slot,
                      *text ? "no UTF-8 text" : "empty");
        secret_free(text);
        return e;
    }
    free(*slot);
    *slot = text;
    return 0;
}

static int expand(const struct field_table *t, void *config, const struct secrets *s, const char *dir,
                  struct error *err)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        void *slot = (char *)config + f->offset;
        int e = 0;
        if (f->type == &field_object_opt && *(void **)slot)
            e = expand(f->sub, *(void **)slot, s, dir, err);
        else if ((f->flags & FIELD_REFERS) && is_text(f) && !is_url(f))
            e = expand_text(f, slot, s, dir, err);
        else if ((f->flags & FIELD_REFERS) && is_tree(f) && *(cJSON **)slot)
            e = secrets_expand_tree(s, *(cJSON **)slot, f->name, dir, err);
        if (e < 0)
            return e;
    }
    return 0;
}

/* ---- the setup ---- */

void queue_config_copy(const struct queue_config *from, struct queue_config *ret)
{
    struct issues none = ISSUES_INIT;
    cJSON *o = fields_print(&queue_source_fields, from, false);
    if (!from->queue_name) /* of a step that names an exchange */
        cJSON_DeleteItemFromObject(o, "queue_name");
    fields_parse(&queue_source_fields, o, NULL, ret, "", &none);
    issues_fini(&none); /* it was parsed once before */
    cJSON_Delete(o);
}

static int fill_url(struct queue_setup *s, const struct queue_config *c, const struct secrets *secrets, const char *dir,
                    struct error *err)
{
    struct queue_filling f = {.secrets = secrets, .dir = dir};
    enum queue_type type = (enum queue_type)c->queue_type;
    int e;
    if (queue_is_reference(c->connection_url)) {
        char *text = NULL;
        f.literal = true;
        e = secrets_expand(secrets, c->connection_url, dir, &text, err);
        if (e == 0)
            e = queue_url_fill(text, type, &f, &s->url, err);
        secret_free(text);
    } else {
        e = queue_url_fill(c->connection_url, type, &f, &s->url, err);
    }
    return e < 0 ? error_wrap(err, "connection_url") : 0;
}

static char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? xstrdup(value) : NULL;
}

/* What AWS's own tools take from the environment, where the manifest does not say it. */
static int fill_sqs(struct queue_setup *s, const struct secrets *secrets, const char *dir, struct error *err)
{
    struct queue_url *u = &s->url;
    if (s->config.endpoint_url) {
        struct queue_filling f = {.secrets = secrets, .dir = dir};
        free(steal(&u->endpoint));
        if (queue_endpoint_fill(s->config.endpoint_url, &f, &u->endpoint, err) < 0)
            return error_wrap(err, "endpoint_url");
    }
    if (!u->user) {
        u->user = variable("AWS_ACCESS_KEY_ID");
        u->password = variable("AWS_SECRET_ACCESS_KEY");
        u->token = variable("AWS_SESSION_TOKEN");
        if (!u->user || !u->password)
            return error_set(
                err, -EACCES,
                "there are no credentials: neither KEY:SECRET@ in connection_url nor AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY in the environment of triggerd");
    }
    if (s->config.region) {
        free(u->region);
        u->region = xstrdup(s->config.region);
    }
    if (!u->region)
        u->region = variable("AWS_REGION");
    if (!u->region)
        u->region = variable("AWS_DEFAULT_REGION");
    if (!u->region && !u->endpoint)
        return error_set(err, -EINVAL, "region: none is known (nor AWS_REGION in the environment of triggerd)");
    if (!u->region) /* what such services take for granted */
        u->region = xstrdup("us-east-1");
    if (!u->endpoint)
        u->endpoint =
            xasprintf("https://sqs.%s.amazonaws.com%s", u->region, strncmp(u->region, "cn-", 3) == 0 ? ".cn" : "");
    return 0;
}

static void add_secret(struct mask *m, const char *value)
{
    if (value)
        mask_add(m, value, strlen(value));
}

/* The password as it stands in the text, and as it is. */
static void fill_mask(struct queue_setup *s, const struct secrets *secrets)
{
    const char *start, *end;
    s->mask = mask_create();
    for (size_t i = 0; secrets && i < secrets_count(secrets); i++)
        add_secret(s->mask, secrets_at(secrets, i)->value);
    if (url_password(s->config.connection_url, &start, &end))
        mask_add(s->mask, start, (size_t)(end - start));
    if (s->config.security)
        add_secret(s->mask, s->config.security->password);
    if (!(s->url.type == QUEUE_RABBITMQ && streq(s->url.user, "guest"))) /* which is no secret */
        add_secret(s->mask, s->url.password);
    add_secret(s->mask, s->url.token);
}

int queue_setup_create(const struct queue_config *c, const struct secrets *s, const char *dir, const char *name,
                       const char *node_id, struct queue_setup **ret, struct error *err)
{
    struct error own = ERROR_INIT;
    struct queue_setup *q = xcalloc(1, sizeof(*q));
    err = err ? err : &own;
    q->refs = 1;
    q->name = xstrdup(name);
    q->node_id = xstrdup(node_id);
    queue_config_copy(c, &q->config);
    q->config.prefetch = MAX(q->config.prefetch, q->config.batch_size);
    int e = expand(&queue_source_fields, &q->config, s, dir, err);
    if (e == 0)
        e = fill_url(q, c, s, dir, err);
    if (e == 0 && c->queue_type == QUEUE_SQS)
        e = fill_sqs(q, s, dir, err);
    if (e < 0) {
        queue_setup_unref(q);
        return e;
    }
    fill_mask(q, s);
    bool grouped = c->queue_type == QUEUE_KAFKA || (c->queue_type == QUEUE_REDIS && c->redis_mode == REDIS_STREAM);
    if (grouped)
        q->group = q->config.consumer_group ? xstrdup(q->config.consumer_group) : xasprintf("triggerd-%s", name);
    if (grouped)
        q->consumer = xstrdup(q->config.consumer_name ? q->config.consumer_name : node_id);
    if (q->config.dead_letter_queue)
        q->dead_letter = xstrdup(q->config.dead_letter_queue);
    else if (q->config.queue_name)
        q->dead_letter = xasprintf("%s.dead", q->config.queue_name);
    *ret = q;
    return 0;
}

struct queue_setup *queue_setup_ref(struct queue_setup *s)
{
    s->refs++;
    return s;
}

void queue_setup_replace(struct queue_setup **slot, struct queue_setup *s)
{
    struct queue_setup *old = *slot;
    *slot = queue_setup_ref(s);
    queue_setup_unref(old);
}

void queue_setup_unref(struct queue_setup *s)
{
    if (!s || --s->refs > 0)
        return;
    if (s->config.security && s->config.security->password)
        explicit_bzero(s->config.security->password, strlen(s->config.security->password));
    fields_fini(&queue_source_fields, &s->config);
    queue_url_fini(&s->url);
    free(s->group);
    free(s->consumer);
    free(s->dead_letter);
    free(s->name);
    free(s->node_id);
    mask_destroy(s->mask);
    free(s);
}

/* ---- what is shared ---- */

char *queue_connection_key(const struct queue_config *c, const char *dir, const char *group, bool reading)
{
    static const char *const connecting[] = {"queue_type", "connection_url", "tls",         "security",
                                             "options",    "region",         "endpoint_url"};
    cJSON *o;
    if (reading) {
        o = fields_print(&queue_source_fields, c, true);
    } else {
        cJSON *all = fields_print(&queue_step_fields, c, true);
        o = cJSON_CreateObject();
        for (size_t i = 0; i < ARRAY_SIZE(connecting); i++) {
            cJSON *item = cJSON_DetachItemFromObjectCaseSensitive(all, connecting[i]);
            if (item)
                cJSON_AddItemToObject(o, connecting[i], item);
        }
        cJSON_Delete(all);
    }
    if (group)
        value_set(o, "consumer_group", value_string(group));
    char *text = value_print(o);
    cJSON_Delete(o);
    if (!dir || !strstr(text, "${file:"))
        return text;
    char *with_dir = xasprintf("%s %s", text, dir); /* a relative path means another file elsewhere */
    secret_free(text);
    return with_dir;
}

/* ---- backoff ---- */

int64_t queue_backoff_next(struct queue_backoff *b, struct random *random)
{
    b->ms = b->ms == 0 ? BACKOFF_MIN_MS : MIN(b->ms * 2, BACKOFF_MAX_MS);
    int64_t spread = b->ms / 5;
    return b->ms - spread + (int64_t)random_below(random, (uint64_t)(2 * spread + 1));
}

void queue_backoff_reset(struct queue_backoff *b)
{
    b->ms = 0;
}
