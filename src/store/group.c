/* Groups and reads as the owner builds them. */
#include "store/store.h"

#include "base/util.h"

void store_group_init(struct store_group *g, unsigned flags, void (*done)(struct store_group *, int), void *ctx)
{
    *g = (struct store_group){.flags = flags, .done = done, .ctx = ctx};
}

struct store_group *store_group_new(unsigned flags, void (*done)(struct store_group *, int), void *ctx)
{
    struct store_group *g = xmalloc(sizeof(*g));
    store_group_init(g, flags, done, ctx);
    return g;
}

void store_group_fini(struct store_group *g)
{
    size_t i = 0;
    for (struct store_op *op = g->ops, *next; op; op = next) {
        next = op->next;
        free(op->scope);
        free(op->key);
        free(op->value);
        if (i++ >= STORE_FEW_OPS)
            free(op);
    }
}

void store_group_free(struct store_group *g)
{
    if (!g)
        return;
    store_group_fini(g);
    free(g);
}

static size_t length(const char *text)
{
    return text ? strlen(text) : 0;
}

static struct store_op *add(struct store_group *g, enum store_op_type type, size_t bytes)
{
    struct store_op *op = g->n_ops < STORE_FEW_OPS ? &g->few[g->n_ops] : xcalloc(1, sizeof(*op));
    op->type = type;
    if (g->last)
        g->last->next = op;
    else
        g->ops = op;
    g->last = op;
    g->n_ops++;
    g->bytes += sizeof(*op) + bytes;
    return op;
}

void store_add_event_insert(struct store_group *g, struct event *e)
{
    size_t bytes = sizeof(*e) + length(e->trigger_id) + length(e->pipeline_id) + length(e->event_type) +
                   length(e->data) + length(e->resolved_inputs) + length(e->reason) + length(e->error_message) +
                   length(e->chain) + length(e->concurrency_key) + length(e->referring);
    add(g, STORE_EVENT_INSERT, bytes)->event = e;
}

void store_add_event_update(struct store_group *g, struct event *e)
{
    size_t bytes = sizeof(*e) + length(e->resolved_inputs) + length(e->reason) + length(e->error_message);
    add(g, STORE_EVENT_UPDATE, bytes)->event = e;
}

void store_add_run_insert(struct store_group *g, struct run_row *r)
{
    size_t bytes = sizeof(*r) + length(r->pipeline_id) + length(r->trigger_id) + length(r->inputs) +
                   length(r->outputs) + length(r->error_message);
    add(g, STORE_RUN_INSERT, bytes)->run = r;
}

void store_add_run_update(struct store_group *g, struct run_row *r)
{
    add(g, STORE_RUN_UPDATE, sizeof(*r) + length(r->outputs) + length(r->error_message))->run = r;
}

void store_add_step(struct store_group *g, int64_t run_seq, struct step_row *s)
{
    size_t bytes = sizeof(*s) + length(s->output) + length(s->error_message) + s->out_len + s->err_len;
    struct store_op *op = add(g, STORE_STEP_PUT, bytes);
    op->run_seq = run_seq;
    op->step = s;
}

void store_add_dedup(struct store_group *g, const char *scope, const char *key, const char *value, int64_t expires_ms)
{
    struct store_op *op = add(g, STORE_DEDUP_PUT, strlen(scope) + strlen(key) + length(value));
    op->scope = xstrdup(scope);
    op->key = xstrdup(key);
    op->key_len = strlen(key);
    op->value = xstrdup0(value);
    op->value_len = length(value);
    op->expires_ms = expires_ms;
}

void store_add_kv_put(struct store_group *g, const char *scope, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct store_op *op = add(g, STORE_KV_PUT, strlen(scope) + key_len + value_len);
    op->scope = xstrdup(scope);
    op->key = xmemdup(key, key_len);
    op->key_len = key_len;
    op->value = xmemdup(value, value_len);
    op->value_len = value_len;
}

void store_add_kv_tally(struct store_group *g, const char *scope, const char *key, int64_t last_ms)
{
    struct store_op *op = add(g, STORE_KV_TALLY, strlen(scope) + strlen(key));
    op->scope = xstrdup(scope);
    op->key = xstrdup(key);
    op->key_len = strlen(key);
    op->expires_ms = last_ms;
}

void store_add_kv_delete(struct store_group *g, const char *scope, const void *key, size_t key_len)
{
    struct store_op *op = add(g, STORE_KV_DELETE, strlen(scope) + key_len);
    op->scope = xstrdup(scope);
    op->key = key ? xmemdup(key, key_len) : NULL;
    op->key_len = key_len;
}

struct store_read *store_read_new(enum store_read_type type, void (*done)(struct store_read *, int), void *ctx)
{
    struct store_read *r = xcalloc(1, sizeof(*r));
    r->type = type;
    r->filter.status = r->filter.decision = -1;
    r->page = 1;
    r->page_size = 50;
    r->done = done;
    r->ctx = ctx;
    return r;
}

void store_read_free(struct store_read *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_events; i++)
        event_fini(&r->events[i]);
    free(r->events);
    for (size_t i = 0; i < r->n_runs; i++)
        run_row_fini(&r->runs[i]);
    free(r->runs);
    for (size_t i = 0; i < r->n_steps; i++)
        step_row_fini(&r->steps[i]);
    free(r->steps);
    free(r->steps_end);
    free(r->filter.trigger_id);
    free(r->filter.pipeline_id);
    free(r->filter.event_type);
    free(r->id);
    free(r->step_id);
    free(r->scope);
    free(r->key);
    for (size_t i = 0; i < r->n_pairs; i++)
        free(r->pairs[i].key);
    free(r->pairs);
    for (size_t i = 0; i < r->n_lookups; i++)
        free(r->lookups[i].value);
    free(r->lookups);
    for (size_t i = 0; i < r->n_seen; i++) {
        free(r->seen[i].key);
        free(r->seen[i].event);
    }
    free(r->seen);
    free(r->value);
    free(r);
}
