/* The store: rows in memory. What is submitted gathers; a commit takes what gathered, lasts a while, and then its
 * groups are in the rows; a moment later their owner hears of it. A crash comes between any two of these. */
#include "sim.h"

struct kv {
    char *key; /* scope, a zero byte, key */
    size_t key_len, scope_len;
    char *value;
    size_t value_len;
    int64_t expires_ms; /* dedup; 0: never */
    UT_hash_handle hh;
};

struct sim_store {
    struct store_port port;
    struct life *life;
    struct event_row *events, *event_ids;
    struct run_rows *runs, *run_ids;
    struct kv *kv, *dedup;
    int64_t seq;
    struct store_group *queue, *taken, *finished; /* submitted; in the commit under way; done but not told */
    struct store_read *reads;
    struct timer commit, ended, tell, read;
    char notes[6][ID_SIZE], left[24][ID_SIZE]; /* of starts: of this life, of those before */
    size_t n, bytes;
    uint64_t groups;
    bool full, writable, failing;
};

static struct sim *sim_of(struct sim_store *s)
{
    return s->life->sim;
}

static int64_t now(const struct sim_store *s)
{
    return s->life->clock.monotonic_ms;
}

/* ---- rows ---- */

static void copy_event(struct event *to, const struct event *e)
{
    *to = *e;
    to->trigger_id = xstrdup0(e->trigger_id);
    to->pipeline_id = xstrdup0(e->pipeline_id);
    to->event_type = xstrdup0(e->event_type);
    to->data = xstrdup0(e->data);
    to->resolved_inputs = xstrdup0(e->resolved_inputs);
    to->reason = xstrdup0(e->reason);
    to->error_message = xstrdup0(e->error_message);
    to->chain = xstrdup0(e->chain);
    to->concurrency_key = xstrdup0(e->concurrency_key);
    to->traceparent = xstrdup0(e->traceparent);
    to->referring = xstrdup0(e->referring);
}

static void copy_run(struct run_row *to, const struct run_row *r)
{
    *to = *r;
    to->pipeline_id = xstrdup0(r->pipeline_id);
    to->pipeline_text = xstrdup0(r->pipeline_text);
    to->trigger_id = xstrdup0(r->trigger_id);
    to->inputs = xstrdup0(r->inputs);
    to->outputs = xstrdup0(r->outputs);
    to->error_message = xstrdup0(r->error_message);
    to->traceparent = xstrdup0(r->traceparent);
}

static void copy_step(struct step_row *to, const struct step_row *s, bool output)
{
    *to = *s;
    to->step_id = xstrdup0(s->step_id);
    to->output = xstrdup0(s->output);
    to->error_message = xstrdup0(s->error_message);
    to->out = output && s->out ? xmemdup(s->out, s->out_len) : NULL;
    to->err = output && s->err ? xmemdup(s->err, s->err_len) : NULL;
}

static void replace(char **slot, const char *text)
{
    char *copy = xstrdup0(text);
    free(*slot);
    *slot = copy;
}

static void add_event(struct sim_store *s, const struct event *e, uint64_t group)
{
    struct event_row *row = xcalloc(1, sizeof(*row));
    copy_event(&row->e, e);
    row->group = group;
    HASH_ADD(by_seq, s->events, e.seq, sizeof(row->e.seq), row);
    HASH_ADD(by_id, s->event_ids, e.id[0], strlen(row->e.id), row);
    s->seq = MAX(s->seq, e->seq);
}

static struct run_rows *add_run(struct sim_store *s, const struct run_row *r)
{
    struct run_rows *row = xcalloc(1, sizeof(*row));
    copy_run(&row->r, r);
    HASH_ADD(by_seq, s->runs, r.seq, sizeof(row->r.seq), row);
    HASH_ADD(by_id, s->run_ids, r.id[0], strlen(row->r.id), row);
    s->seq = MAX(s->seq, r->seq);
    return row;
}

static void put_step(struct run_rows *run, const struct step_row *from)
{
    struct step_rows *at;
    LL_FOREACH (run->steps, at) {
        if (streq(at->s.step_id, from->step_id))
            break;
    }
    if (at) {
        step_row_fini(&at->s);
    } else {
        at = xcalloc(1, sizeof(*at));
        LL_APPEND(run->steps, at);
    }
    copy_step(&at->s, from, true);
}

static struct kv *kv_find(struct kv *table, const char *scope, const char *key, size_t key_len)
{
    char name[512];
    size_t scope_len = strlen(scope) + 1;
    memcpy(name, scope, scope_len);
    memcpy(name + scope_len, key, key_len);
    struct kv *found = NULL;
    HASH_FIND(hh, table, name, scope_len + key_len, found);
    return found;
}

static void kv_drop(struct kv **table, struct kv *k)
{
    HASH_DELETE(hh, *table, k);
    free(k->key);
    free(k->value);
    free(k);
}

static void kv_put(struct kv **table, const char *scope, const char *key, size_t key_len, const char *value,
                   size_t value_len, int64_t expires_ms)
{
    struct kv *k = kv_find(*table, scope, key, key_len);
    if (k)
        kv_drop(table, k);
    k = xcalloc(1, sizeof(*k));
    k->scope_len = strlen(scope) + 1;
    k->key_len = k->scope_len + key_len;
    k->key = xmalloc(k->key_len + 1);
    memcpy(k->key, scope, k->scope_len);
    memcpy(k->key + k->scope_len, key, key_len);
    k->value = xmemdup(value, value_len);
    k->value_len = value_len;
    k->expires_ms = expires_ms;
    HASH_ADD_KEYPTR(hh, *table, k->key, k->key_len, k);
}

static void update_event(struct sim_store *s, const struct event *e)
{
    struct event_row *row = NULL;
    HASH_FIND(by_seq, s->events, &e->seq, sizeof(e->seq), row);
    if (!row)
        return;
    row->e.status = e->status;
    row->e.decision = e->decision;
    row->e.attempt = e->attempt;
    row->e.started_ms = e->started_ms;
    row->e.completed_ms = e->completed_ms;
    memcpy(row->e.run_id, e->run_id, sizeof(row->e.run_id));
    if (e->reason)
        replace(&row->e.reason, e->reason);
    if (e->error_message)
        replace(&row->e.error_message, e->error_message);
    if (e->resolved_inputs)
        replace(&row->e.resolved_inputs, e->resolved_inputs);
}

static void update_run(struct sim_store *s, const struct run_row *r)
{
    struct run_rows *row = NULL;
    HASH_FIND(by_seq, s->runs, &r->seq, sizeof(r->seq), row);
    if (!row)
        return;
    row->r.status = r->status;
    row->r.attempt = r->attempt;
    row->r.started_ms = r->started_ms;
    row->r.completed_ms = r->completed_ms;
    replace(&row->r.error_message, r->error_message);
    replace(&row->r.outputs, r->outputs);
}

static void apply(struct sim_store *s, const struct store_group *g)
{
    for (const struct store_op *op = g->ops; op; op = op->next) {
        struct run_rows *run = NULL;
        switch (op->type) {
        case STORE_EVENT_INSERT:
            add_event(s, op->event, g->number);
            break;
        case STORE_EVENT_UPDATE:
            update_event(s, op->event);
            break;
        case STORE_RUN_INSERT:
            add_run(s, op->run);
            break;
        case STORE_RUN_UPDATE:
            update_run(s, op->run);
            break;
        case STORE_STEP_PUT:
            HASH_FIND(by_seq, s->runs, &op->run_seq, sizeof(op->run_seq), run);
            if (run)
                put_step(run, op->step);
            break;
        case STORE_DEDUP_PUT:
            kv_put(&s->dedup, op->scope, op->key, op->key_len, op->value, op->value_len, op->expires_ms);
            break;
        case STORE_KV_PUT:
            kv_put(&s->kv, op->scope, op->key, op->key_len, op->value, op->value_len, 0);
            break;
        case STORE_KV_TALLY: {
            struct kv *k = kv_find(s->kv, op->scope, op->key, op->key_len);
            char text[64] = "";
            if (k)
                memcpy(text, k->value, MIN(k->value_len, sizeof(text) - 1));
            int len = snprintf(text, sizeof(text), "%lld %" PRId64, strtoll(text, NULL, 10) + 1, op->expires_ms);
            kv_put(&s->kv, op->scope, op->key, op->key_len, text, (size_t)len, 0);
            break;
        }
        case STORE_KV_DELETE: {
            struct kv *k, *tmp;
            HASH_ITER (hh, s->kv, k, tmp) {
                bool same_key = !op->key || (k->key_len - k->scope_len == op->key_len &&
                                             memcmp(k->key + k->scope_len, op->key, op->key_len) == 0);
                if (streq(k->key, op->scope) && same_key)
                    kv_drop(&s->kv, k);
            }
            break;
        }
        }
    }
}

/* ---- commits ---- */

static void start(struct sim_store *s, struct timer *timer, int64_t in_ms)
{
    if (!timer_active(timer) || timer->due_ms > now(s) + in_ms)
        timer_start(&s->life->timers, timer, now(s) + in_ms);
}

static void finish(struct sim_store *s, struct store_group *g, int result)
{
    g->result = result;
    LL_APPEND(s->finished, g);
    start(s, &s->tell, (int64_t)random_below(&s->life->random.random, 3));
}

static void tell(struct timer *timer, void *ctx)
{
    (void)timer;
    struct sim_store *s = ctx;
    struct store_group *list = s->finished;
    s->finished = NULL;
    while (list) {
        struct store_group *g = list;
        list = g->next;
        g->next = NULL;
        s->n--;
        s->bytes -= g->bytes;
        model_done(s->life, g, g->result);
        g->done(g, g->result);
    }
}

static void begin_commit(struct timer *timer, void *ctx)
{
    (void)timer;
    struct sim_store *s = ctx;
    if (timer_active(&s->ended) || (!s->queue && s->writable))
        return; /* (one that does not work is tried with nothing) */
    s->taken = s->queue;
    s->queue = NULL;
    start(s, &s->ended, 1 + (int64_t)random_below(&s->life->random.random, 8));
}

/* The commit failed: kept groups stay in front of the queue, the others hear of it. */
static void fail_commit(struct sim_store *s, int code)
{
    struct store_group *g, *tmp, *kept = NULL;
    LL_FOREACH_SAFE(s->taken, g, tmp)
    {
        LL_DELETE(s->taken, g);
        if (g->flags & STORE_KEEP)
            LL_APPEND(kept, g);
        else
            finish(s, g, code);
    }
    LL_CONCAT(kept, s->queue);
    s->queue = kept;
    s->writable = false;
    start(s, &s->commit, 100);
}

static void end_commit(struct timer *timer, void *ctx)
{
    (void)timer;
    struct sim_store *s = ctx;
    struct sim *sim = sim_of(s);
    bool fault = !sim->calm && !s->life->ghost && random_unit(&s->life->random.random) < sim->fault_rate;
    if (s->full || fault) {
        sim->stats->faults++;
        sim_trace(sim, "store: a commit fails (%s)", s->full ? "full" : "EIO");
        fail_commit(s, s->full ? -ENOSPC : -EIO);
        return;
    }
    s->writable = true;
    sim->stats->commits++;
    while (s->taken) {
        struct store_group *g = s->taken;
        s->taken = g->next;
        g->next = NULL;
        apply(s, g);
        model_committed(s->life, g);
        finish(s, g, 0);
    }
    if (s->queue)
        start(s, &s->commit, 0);
}

static struct sim_store *store_of(struct store_port *port)
{
    return container_of(port, struct sim_store, port);
}

static void submit(struct store_port *port, struct store_group *g)
{
    struct sim_store *s = store_of(port);
    g->next = NULL;
    g->number = ++s->groups;
    s->n++;
    s->bytes += g->bytes;
    model_submitted(s->life, g);
    if (!s->writable && !(g->flags & STORE_KEEP)) {
        finish(s, g, -ENOSPC);
        return;
    }
    LL_APPEND(s->queue, g);
    if (s->writable)
        start(s, &s->commit, g->flags & STORE_LAZY ? STORE_LAZY_MS : (int64_t)random_below(&s->life->random.random, 3));
}

/* ---- reads ---- */

static char *value_of(const struct kv *k, size_t *ret_len)
{
    char *text = xmalloc(k->value_len + 1);
    memcpy(text, k->value, k->value_len);
    text[k->value_len] = '\0';
    *ret_len = k->value_len;
    return text;
}

static int answer(struct sim_store *s, struct store_read *r)
{
    if (!sim_of(s)->calm && !s->life->ghost && random_unit(&s->life->random.random) < sim_of(s)->fault_rate)
        return error_set(&r->error, -EIO, "the simulator says no");
    if (r->type == STORE_READ_EVENT) {
        struct event_row *row = sim_store_event(s, r->id);
        if (!row)
            return -ENOENT;
        r->events = xcalloc(1, sizeof(*r->events));
        r->n_events = 1;
        copy_event(r->events, &row->e);
        return 0;
    }
    if (r->type == STORE_READ_DEDUP) {
        for (size_t i = 0; i < r->n_lookups; i++) {
            struct store_lookup *l = &r->lookups[i];
            struct kv *k = l->key ? kv_find(s->dedup, l->scope, l->key, strlen(l->key)) : NULL;
            if (k && k->expires_ms > r->now_ms)
                l->value = value_of(k, &l->value_len);
        }
        return 0;
    }
    CHECK(sim_of(s), r->type == STORE_READ_KV, "a read of type %d", (int)r->type);
    struct kv *k = kv_find(s->kv, r->scope, r->key, r->key_len);
    if (!k)
        return -ENOENT;
    r->value = value_of(k, &r->value_len);
    return 0;
}

static void read_done(struct timer *timer, void *ctx)
{
    (void)timer;
    struct sim_store *s = ctx;
    struct store_read *r = s->reads;
    LL_DELETE(s->reads, r);
    if (s->reads)
        start(s, &s->read, (int64_t)random_below(&s->life->random.random, 5));
    int result = answer(s, r);
    r->done(r, result);
}

static void read_start(struct store_port *port, struct store_read *r)
{
    struct sim_store *s = store_of(port);
    r->next = NULL;
    LL_APPEND(s->reads, r);
    start(s, &s->read, (int64_t)random_below(&s->life->random.random, 5));
}

static int64_t next_seq(struct store_port *port)
{
    return ++store_of(port)->seq;
}

static bool writable(struct store_port *port)
{
    return store_of(port)->writable;
}

static size_t backlog(struct store_port *port, size_t *ret_bytes)
{
    *ret_bytes = store_of(port)->bytes;
    return store_of(port)->n;
}

/* ---- starts ---- */

static int note_start(struct store_port *port, const char *run_id)
{
    struct sim_store *s = store_of(port);
    for (int i = 0; i < (int)ARRAY_SIZE(s->notes); i++)
        if (!s->notes[i][0]) {
            snprintf(s->notes[i], ID_SIZE, "%s", run_id);
            return i;
        }
    return -ENOSPC;
}

static void clear_start(struct store_port *port, int note)
{
    store_of(port)->notes[note][0] = '\0';
}

static bool start_left(struct store_port *port, const char *run_id)
{
    struct sim_store *s = store_of(port);
    for (size_t i = 0; i < ARRAY_SIZE(s->left); i++)
        if (streq(s->left[i], run_id))
            return true;
    return false;
}

static void clear_starts_left(struct store_port *port)
{
    memset(store_of(port)->left, 0, sizeof(store_of(port)->left));
}

/* ---- loading ---- */

static int by_event_seq(struct event_row *a, struct event_row *b)
{
    return a->e.seq < b->e.seq ? -1 : a->e.seq > b->e.seq;
}

static int load_open_events(struct store_port *port, int (*fn)(void *ctx, struct event *e), void *ctx,
                            struct error *err)
{
    (void)err;
    struct sim_store *s = store_of(port);
    HASH_SRT(by_seq, s->events, by_event_seq);
    int r = 0;
    for (struct event_row *row = s->events; row && r == 0; row = row->by_seq.next) {
        if (event_status_final(row->e.status))
            continue;
        struct event e;
        copy_event(&e, &row->e);
        r = fn(ctx, &e);
        event_fini(&e);
    }
    return r;
}

static int load_run(struct store_port *port, const char *run_id, struct run_row *ret, struct step_row **ret_steps,
                    size_t *ret_n, struct error *err)
{
    struct run_rows *row = sim_store_run(store_of(port), run_id);
    if (!row)
        return error_set(err, -ENOENT, "there is no run %s", run_id);
    copy_run(ret, &row->r);
    struct sim *sim = store_of(port)->life->sim;
    if (!sim->calm && chance(sim, 0.01)) /* a pipeline that a newer version wrote */
        replace(&ret->pipeline_text, "{\"id\":\"px\",\"steps\":[{\"id\":\"s0\",\"unheard_of\":{}}]}");
    size_t n = 0;
    struct step_rows *step;
    LL_COUNT(row->steps, step, n);
    *ret_steps = xcalloc(n + 1, sizeof(**ret_steps));
    *ret_n = 0;
    LL_FOREACH (row->steps, step) {
        copy_step(&(*ret_steps)[(*ret_n)++], &step->s, false);
    }
    return 0;
}

static int by_run_seq(struct run_rows *a, struct run_rows *b)
{
    return a->r.seq < b->r.seq ? -1 : a->r.seq > b->r.seq;
}

static int load_open_runs(struct store_port *port, int (*fn)(void *ctx, struct run_row *r), void *ctx,
                          struct error *err)
{
    (void)err;
    struct sim_store *s = store_of(port);
    HASH_SRT(by_seq, s->runs, by_run_seq);
    int r = 0;
    for (struct run_rows *row = s->runs; row && r == 0; row = row->by_seq.next) {
        if (run_status_final(row->r.status))
            continue;
        struct run_row copy;
        copy_run(&copy, &row->r);
        r = fn(ctx, &copy);
        run_row_fini(&copy);
    }
    return r;
}

static int load_kv(struct store_port *port, const char *scope,
                   int (*fn)(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len),
                   void *ctx, struct error *err)
{
    (void)err;
    struct sim_store *s = store_of(port);
    for (struct kv *k = s->kv; k; k = k->hh.next) {
        if (strcmp(k->key, scope) != 0)
            continue;
        int r = fn(ctx, k->key + k->scope_len, k->key_len - k->scope_len, k->value, k->value_len);
        if (r != 0)
            return r;
    }
    return 0;
}

/* ---- life ---- */

struct sim_store *sim_store_create(struct life *life)
{
    struct sim_store *s = xcalloc(1, sizeof(*s));
    s->life = life;
    s->writable = true;
    s->port = (struct store_port){
        .submit = submit,
        .read = read_start,
        .next_seq = next_seq,
        .writable = writable,
        .backlog = backlog,
        .note_start = note_start,
        .clear_start = clear_start,
        .start_left = start_left,
        .clear_starts_left = clear_starts_left,
        .load_open_events = load_open_events,
        .load_run = load_run,
        .load_open_runs = load_open_runs,
        .load_kv = load_kv,
    };
    timer_init(&s->commit, begin_commit, s);
    timer_init(&s->ended, end_commit, s);
    timer_init(&s->tell, tell, s);
    timer_init(&s->read, read_done, s);
    return s;
}

struct sim_store *sim_store_fork(const struct sim_store *from, struct life *life)
{
    struct sim_store *s = sim_store_create(life);
    s->groups = from->groups;
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(from->left) && n < ARRAY_SIZE(s->left); i++)
        if (from->left[i][0])
            memcpy(s->left[n++], from->left[i], ID_SIZE);
    for (size_t i = 0; i < ARRAY_SIZE(from->notes) && n < ARRAY_SIZE(s->left); i++)
        if (from->notes[i][0])
            memcpy(s->left[n++], from->notes[i], ID_SIZE);
    for (struct event_row *row = from->events; row; row = row->by_seq.next)
        add_event(s, &row->e, row->group);
    for (struct run_rows *row = from->runs; row; row = row->by_seq.next) {
        struct run_rows *copy = add_run(s, &row->r);
        struct step_rows *step;
        LL_FOREACH (row->steps, step) {
            put_step(copy, &step->s);
        }
    }
    for (struct kv *k = from->kv; k; k = k->hh.next)
        kv_put(&s->kv, k->key, k->key + k->scope_len, k->key_len - k->scope_len, k->value, k->value_len, 0);
    for (struct kv *k = from->dedup; k; k = k->hh.next)
        kv_put(&s->dedup, k->key, k->key + k->scope_len, k->key_len - k->scope_len, k->value, k->value_len,
               k->expires_ms);
    return s;
}

void sim_store_close(struct sim_store *s)
{
    CHECK(sim_of(s), s->n == 0 && !s->reads, "the store is closed with %zu groups under way", s->n);
    timer_stop(&s->life->timers, &s->commit);
    timer_stop(&s->life->timers, &s->ended);
}

void sim_store_destroy(struct sim_store *s)
{
    struct event_row *e, *next_event;
    HASH_ITER (by_seq, s->events, e, next_event) {
        HASH_DELETE(by_seq, s->events, e);
        HASH_DELETE(by_id, s->event_ids, e);
        event_fini(&e->e);
        free(e);
    }
    struct run_rows *r, *next_run;
    HASH_ITER (by_seq, s->runs, r, next_run) {
        HASH_DELETE(by_seq, s->runs, r);
        HASH_DELETE(by_id, s->run_ids, r);
        struct step_rows *step, *next;
        LL_FOREACH_SAFE(r->steps, step, next)
        {
            step_row_fini(&step->s);
            free(step);
        }
        run_row_fini(&r->r);
        free(r);
    }
    while (s->kv)
        kv_drop(&s->kv, s->kv);
    while (s->dedup)
        kv_drop(&s->dedup, s->dedup);
    free(s);
}

struct store_port *sim_store_port(struct sim_store *s)
{
    return &s->port;
}

void sim_store_full(struct sim_store *s, bool full)
{
    s->full = full;
}

struct event_row *sim_store_events(struct sim_store *s)
{
    HASH_SRT(by_seq, s->events, by_event_seq);
    return s->events;
}

struct event_row *sim_store_event(struct sim_store *s, const char *id)
{
    struct event_row *row = NULL;
    HASH_FIND(by_id, s->event_ids, id, strlen(id), row);
    return row;
}

struct run_rows *sim_store_runs(struct sim_store *s)
{
    HASH_SRT(by_seq, s->runs, by_run_seq);
    return s->runs;
}

struct run_rows *sim_store_run(struct sim_store *s, const char *id)
{
    struct run_rows *row = NULL;
    HASH_FIND(by_id, s->run_ids, id, strlen(id), row);
    return row;
}

const struct step_row *sim_store_step(struct sim_store *s, const char *run_id, const char *step_id)
{
    struct run_rows *run = sim_store_run(s, run_id);
    struct step_rows *step;
    LL_FOREACH (run ? run->steps : NULL, step) {
        if (streq(step->s.step_id, step_id))
            return step->s.status >= STEP_COMPLETED ? &step->s : NULL;
    }
    return NULL;
}
