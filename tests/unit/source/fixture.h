/* What stands in for the engine and the store in tests of one source: a host that records what it is told and settles
 * it, with the engine's rule for identities, and a store that keeps keys and values in memory. Header only, included by
 * one test program each (the library's own host functions are then not linked).
 *
 * Nothing completes from inside a call: groups, reads and settlements wait until world_work(). A crash is
 * world_crash(): what has not been committed is lost, what was recorded stays known. */
#ifndef TRIGGERD_TESTS_SOURCE_FIXTURE_H
#define TRIGGERD_TESTS_SOURCE_FIXTURE_H

#include "base/util.h"
#include "source/list.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <uthash.h>
#include <utlist.h>

#include <cmocka.h>

#define FIXTURE __attribute__((unused)) static

struct told {
    struct told *prev, *next;
    struct world *world;
    char *event_type, *identity, *text;
    cJSON *data;
    uint64_t token;
    struct store_group *group; /* what the source adds to its record; NULL: nothing */
};

struct memory { /* a key and value, or an identity and the text it came with */
    char *key;  /* `scope` NUL `key` */
    char *value;
    size_t value_len;
    UT_hash_handle hh;
};

struct source_host {
    const char *id;
    bool is_new;
    struct world *world;
};

struct world {
    struct source_host host;
    const struct source_type *type;
    struct trigger trigger;
    struct source *source;
    bool stopped;
    struct source_env env;
    /* what the host was told */
    struct told *unsettled; /* utlist */
    struct told *events;    /* recorded, in order; duplicates are not among them */
    size_t n_events, n_duplicates;
    uint64_t debounced;
    int reports;
    enum source_state state;
    char reason[64], message[512];
    /* how it settles */
    bool hold;           /* not at all */
    int refuse;          /* so many are nacked first */
    struct memory *seen; /* by identity */
    /* the store */
    struct store_port store;
    struct memory *kv;
    struct store_group *groups; /* submitted, utlist by hand */
    struct store_read *reads;
    bool store_fails;
    size_t n_puts, n_groups, n_pages;
};

/* ---- host ---- */

FIXTURE void settle(struct world *w, struct told *t);

FIXTURE void told_committed(struct store_group *g, int result)
{
    struct told *t = g->ctx;
    (void)result;
    settle(t->world, t);
}

void source_occurred(struct source_host *host, const struct occurrence *o, uint64_t token)
{
    struct world *w = host->world;
    struct told *t = xcalloc(1, sizeof(*t));
    assert_false(w->stopped);
    t->event_type = xstrdup(o->event_type);
    t->identity = xstrdup0(o->identity);
    t->text = o->data_text ? xstrdup(o->data_text) : value_print(o->data);
    t->data = cJSON_Duplicate(o->data, true);
    t->token = token;
    t->world = w;
    DL_APPEND(w->unsettled, t);
    if (o->record) { /* committed in its turn among all groups */
        t->group = store_group_new(0, told_committed, t);
        o->record(o->record_ctx, t->group);
        LL_APPEND(w->groups, t->group);
    }
}

void source_report(struct source_host *host, enum source_state state, const char *reason, const char *message)
{
    struct world *w = host->world;
    assert_false(w->stopped);
    w->reports++;
    w->state = state;
    snprintf(w->reason, sizeof(w->reason), "%s", reason);
    snprintf(w->message, sizeof(w->message), "%s", message ? message : "");
}

const char *source_trigger_id(const struct source_host *host)
{
    return host->id;
}

void source_debounced(struct source_host *host, uint64_t n)
{
    host->world->debounced += n;
}

bool source_is_new(const struct source_host *host)
{
    return host->is_new;
}

FIXTURE void told_free(struct told *t)
{
    store_group_free(t->group);
    free(t->event_type);
    free(t->identity);
    free(t->text);
    cJSON_Delete(t->data);
    free(t);
}

FIXTURE void memory_put(struct memory **map, const char *key, size_t key_len, const void *value, size_t value_len)
{
    struct memory *m = NULL;
    HASH_FIND(hh, *map, key, key_len, m);
    if (!m) {
        m = xcalloc(1, sizeof(*m));
        m->key = xmemdup(key, key_len);
        HASH_ADD_KEYPTR(hh, *map, m->key, key_len, m);
    }
    free(m->value);
    m->value = xmalloc(value_len + 1);
    memcpy(m->value, value, value_len);
    m->value[value_len] = '\0';
    m->value_len = value_len;
}

FIXTURE void memory_free(struct memory **map)
{
    struct memory *m, *next;
    HASH_ITER (hh, *map, m, next) {
        HASH_DEL(*map, m);
        free(m->key);
        free(m->value);
        free(m);
    }
}

FIXTURE void kv_apply(struct world *w, const struct store_op *op);

FIXTURE void record(struct world *w, struct told *t)
{
    if (t->identity)
        memory_put(&w->seen, t->identity, strlen(t->identity), t->text, strlen(t->text));
    for (const struct store_op *op = t->group ? t->group->ops : NULL; op; op = op->next)
        kv_apply(w, op);
    DL_APPEND(w->events, t);
    w->n_events++;
}

/* As the engine does it: one event an identity, and the same identity with another text is refused. */
FIXTURE void settle(struct world *w, struct told *t)
{
    struct memory *m = NULL;
    DL_DELETE(w->unsettled, t);
    if (w->refuse > 0 || (t->group && w->store_fails)) {
        w->refuse -= w->refuse > 0;
        uint64_t token = t->token;
        told_free(t);
        w->type->nack(w->source, token, "the store failed; nothing was recorded");
        return;
    }
    if (t->identity)
        HASH_FIND_STR(w->seen, t->identity, m);
    if (m) {
        assert_string_equal(m->value, t->text);
        w->n_duplicates++;
        uint64_t token = t->token;
        told_free(t);
        w->type->ack(w->source, token);
        return;
    }
    record(w, t);
    w->type->ack(w->source, t->token);
}

/* ---- store ---- */

FIXTURE void store_submit(struct store_port *port, struct store_group *g)
{
    struct world *w = container_of(port, struct world, store);
    g->next = NULL;
    LL_APPEND(w->groups, g);
}

FIXTURE void store_queue_read(struct store_port *port, struct store_read *r)
{
    struct world *w = container_of(port, struct world, store);
    r->next = NULL;
    LL_APPEND(w->reads, r);
}

FIXTURE char *kv_key(const char *scope, const char *key, size_t key_len, size_t *ret_len)
{
    struct buf b = {0};
    buf_add(&b, scope, strlen(scope) + 1);
    buf_add(&b, key, key_len);
    *ret_len = b.len;
    return buf_steal(&b);
}

FIXTURE void kv_clear(struct world *w, const char *scope)
{
    struct memory *m, *next;
    HASH_ITER (hh, w->kv, m, next) {
        if (!streq(m->key, scope))
            continue;
        HASH_DEL(w->kv, m);
        free(m->key);
        free(m->value);
        free(m);
    }
}

FIXTURE void kv_apply(struct world *w, const struct store_op *op)
{
    size_t len;
    if (op->type == STORE_KV_DELETE && !op->key) {
        kv_clear(w, op->scope);
        return;
    }
    _cleanup_(freep) char *key = kv_key(op->scope, op->key, op->key_len, &len);
    struct memory *m = NULL;
    if (op->type == STORE_KV_PUT) {
        w->n_puts++;
        memory_put(&w->kv, key, len, op->value, op->value_len);
        return;
    }
    assert_int_equal(op->type, STORE_KV_DELETE);
    HASH_FIND(hh, w->kv, key, len, m);
    if (m) {
        HASH_DEL(w->kv, m);
        free(m->key);
        free(m->value);
        free(m);
    }
}

FIXTURE int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const struct store_pair *)a)->key, ((const struct store_pair *)b)->key);
}

/* Keys of the scope behind r->key, at most r->page_size of them, in order. */
FIXTURE void answer_page(struct world *w, struct store_read *r)
{
    size_t prefix = strlen(r->scope) + 1;
    r->pairs = xcalloc(HASH_COUNT(w->kv) + 1, sizeof(*r->pairs));
    for (struct memory *m = w->kv; m; m = m->hh.next) {
        size_t len = m->hh.keylen - prefix;
        if (!streq(m->key, r->scope))
            continue;
        char *text = xmalloc(len + m->value_len + 2);
        struct store_pair pair = {text, text + len + 1, len, m->value_len};
        memcpy(pair.key, m->key + prefix, len);
        pair.key[len] = '\0';
        memcpy(pair.value, m->value, m->value_len + 1);
        if (r->key_len > 0 && strncmp(pair.key, r->key, r->key_len) <= 0 &&
            !(strncmp(pair.key, r->key, r->key_len) == 0 && len > r->key_len))
            free(text);
        else
            r->pairs[r->n_pairs++] = pair;
    }
    qsort(r->pairs, r->n_pairs, sizeof(*r->pairs), compare_pairs);
    while (r->n_pairs > (size_t)r->page_size)
        free(r->pairs[--r->n_pairs].key);
    w->n_pages++;
}

FIXTURE void answer_read(struct world *w, struct store_read *r)
{
    size_t len;
    struct memory *m = NULL;
    if (w->store_fails) {
        error_set(&r->error, -EIO, "the test says no");
        r->done(r, -EIO);
        return;
    }
    if (r->type == STORE_READ_KV_PAGE) {
        answer_page(w, r);
        r->done(r, 0);
        return;
    }
    assert_int_equal(r->type, STORE_READ_KV);
    _cleanup_(freep) char *key = kv_key(r->scope, r->key, r->key_len, &len);
    HASH_FIND(hh, w->kv, key, len, m);
    if (m) {
        r->value = xmemdup(m->value, m->value_len + 1);
        r->value_len = m->value_len;
    }
    r->done(r, m ? 0 : -ENOENT);
}

FIXTURE size_t kv_count(struct world *w, const char *scope)
{
    size_t n = 0;
    for (struct memory *m = w->kv; m; m = m->hh.next)
        n += streq(m->key, scope);
    return n;
}

/* Complete one thing of those that wait; false: nothing waits. */
FIXTURE bool world_work_one(struct world *w)
{
    if (w->groups && !(w->hold && w->groups->done == told_committed)) {
        struct store_group *g = w->groups;
        LL_DELETE(w->groups, g);
        w->n_groups++;
        if (!w->store_fails && g->done != told_committed)
            for (const struct store_op *op = g->ops; op; op = op->next)
                kv_apply(w, op);
        g->done(g, w->store_fails ? -EIO : 0);
        return true;
    }
    if (w->reads) {
        struct store_read *r = w->reads;
        LL_DELETE(w->reads, r);
        answer_read(w, r);
        return true;
    }
    if (w->unsettled && !w->unsettled->group && !w->hold && w->source) {
        settle(w, w->unsettled);
        return true;
    }
    return false;
}

FIXTURE void world_work(struct world *w)
{
    while (world_work_one(w))
        ;
}

/* ---- life ---- */

FIXTURE void world_init(struct world *w, const struct source_type *type)
{
    *w = (struct world){.host = {.id = "t", .is_new = true}, .type = type};
    w->store = (struct store_port){.submit = store_submit, .read = store_queue_read};
    w->host.world = w;
    w->env = (struct source_env){.random = random_system(), .store = &w->store, .state_dir = "/nonexistent"};
}

/* Parse `json` as the type's config into the trigger. Returns the issues' number; the first in `why`. */
FIXTURE size_t world_config(struct world *w, const char *json, char why[512])
{
    struct issues issues = ISSUES_INIT;
    cJSON *node = NULL;
    struct error err = ERROR_INIT;
    if (value_parse(json, strlen(json), &node, &err) < 0)
        fail_msg("%s: %s", json, err.message);
    const struct field_table *table = w->type->kind.config;
    if (w->trigger.config) {
        fields_fini(table, w->trigger.config);
        free(w->trigger.config);
    }
    w->trigger.config = xcalloc(1, table->size);
    w->trigger.id = (char *)(uintptr_t)w->host.id;
    w->trigger.kind = &w->type->kind;
    if (fields_parse(table, node, NULL, w->trigger.config, "config", &issues))
        w->type->kind.validate(w->trigger.config, node, "config", &issues);
    size_t n = issues.errors;
    if (why)
        snprintf(why, 512, "%s: %s", n ? issues.items[0].path : "", n ? issues.items[0].message : "");
    issues_fini(&issues);
    cJSON_Delete(node);
    return n;
}

FIXTURE void world_start(struct world *w, const char *json)
{
    char why[512];
    struct error err = ERROR_INIT;
    if (json && world_config(w, json, why) > 0)
        fail_msg("%s", why);
    w->stopped = false;
    w->reports = 0;
    if (w->type->create(&w->host, &w->env, &w->trigger, &w->source, &err) < 0)
        fail_msg("create: %s", err.message);
    w->type->start(w->source);
}

FIXTURE void on_source_gone(void *ctx)
{
    struct world *w = ctx;
    assert_null(w->source);
    w->source = (struct source *)w; /* told: see world_stop() */
}

/* Begin to stop; over when w->source is no longer NULL. What is not settled never will be. */
FIXTURE void world_stop_begin(struct world *w)
{
    struct source *s = w->source;
    struct told *t, *next;
    w->source = NULL;
    w->type->stop(s, on_source_gone, w);
    assert_null(w->source); /* never from inside */
    w->stopped = true;
    DL_FOREACH_SAFE (w->unsettled, t, next) {
        DL_DELETE(w->unsettled, t);
        if (t->group)
            LL_DELETE(w->groups, t->group);
        told_free(t);
    }
    w->host.is_new = false;
}

/* What was submitted and is not done will not be. */
FIXTURE void world_lose(struct world *w)
{
    bool fails = w->store_fails;
    w->store_fails = true;
    while (w->groups || w->reads)
        world_work_one(w);
    w->store_fails = fails;
}

FIXTURE void world_forget_events(struct world *w)
{
    struct told *t, *next;
    DL_FOREACH_SAFE (w->events, t, next) {
        DL_DELETE(w->events, t);
        told_free(t);
    }
    w->n_events = w->n_duplicates = 0;
}

FIXTURE void world_fini(struct world *w)
{
    world_lose(w);
    world_forget_events(w);
    memory_free(&w->kv);
    memory_free(&w->seen);
    if (w->trigger.config) {
        fields_fini(w->type->kind.config, w->trigger.config);
        free(w->trigger.config);
    }
}

#endif
