/* A broker as an active source: it gives each message again until it is acknowledged, also to the next life of the
 * daemon. Every delivery must be settled exactly once. */
#include "sim.h"

struct config {
    char *note;
};
static const struct field rows[] = {
    {.name = "note", .type = &field_string, FIELD(struct config, note, char *, .doc = "Nothing")},
};
static const struct field_table table = {"broker", "Messages", sizeof(struct config), rows, ARRAY_SIZE(rows)};

/* A delivery under way. */
struct delivery {
    struct sim_message *message;
    uint64_t token;
    struct delivery *prev, *next;
};

struct source {
    struct life *life;
    struct source_host *host;
    size_t trigger;
    struct timer timer, ended;
    bool paused, up, stopped;
    uint64_t tokens;
    struct delivery *deliveries;
    void (*done)(void *ctx);
    void *done_ctx;
};

static void again(struct source *s, int64_t in_ms)
{
    if (!timer_active(&s->timer))
        timer_start(&s->life->timers, &s->timer, s->life->clock.monotonic_ms + in_ms);
}

static struct delivery *delivery_of(struct source *s, const struct sim_message *m)
{
    struct delivery *d;
    DL_FOREACH (s->deliveries, d) {
        if (d->message == m)
            return d;
    }
    return NULL;
}

static void deliver(struct source *s, struct sim_message *m)
{
    struct delivery *d = xcalloc(1, sizeof(*d));
    d->message = m;
    d->token = ++s->tokens;
    DL_APPEND(s->deliveries, d);
    char text[64], identity[24];
    snprintf(text, sizeof(text), "{\"n\":%" PRId64 ",\"k\":\"%c\"}", m->n, m->k);
    snprintf(identity, sizeof(identity), "m-%" PRId64, m->n);
    cJSON *data = NULL;
    value_parse(text, strlen(text), &data, NULL);
    struct occurrence o = {.event_type = "message", .data = data, .data_text = text, .identity = identity};
    source_occurred(s->host, &o, d->token);
    cJSON_Delete(data);
}

static void tick(struct timer *timer, void *ctx)
{
    (void)timer;
    struct source *s = ctx;
    if (!s->up) {
        s->up = true;
        source_report(s->host, SOURCE_CONNECTED, "Connected", NULL);
    }
    if (s->paused)
        return;
    struct sim_message *m;
    size_t n = 0;
    DL_FOREACH (s->life->sim->brokers[s->trigger].messages, m) {
        if (m->settled || delivery_of(s, m))
            continue;
        deliver(s, m);
        if (s->paused || ++n == 4)
            break;
    }
    if (n > 0)
        again(s, 20);
}

static int create(struct source_host *host, const struct source_env *env, const struct trigger *trigger,
                  struct source **ret, struct error *err)
{
    struct life *life = life_of_timers(env->timers);
    if (!life->sim->calm && random_below(&life->random.random, 30) == 0)
        return error_set(err, -EIO, "the broker cannot be made");
    struct source *s = xcalloc(1, sizeof(*s));
    s->life = life;
    s->host = host;
    s->trigger = trigger_index(s->life->sim, trigger->id);
    timer_init(&s->timer, tick, s);
    *ret = s;
    return 0;
}

static void start(struct source *s)
{
    s->life->sim->brokers[s->trigger].source = s;
    again(s, 1 + (int64_t)random_below(&s->life->random.random, 50));
}

static void ended(struct timer *timer, void *ctx)
{
    (void)timer;
    struct source *s = ctx;
    void (*done)(void *) = s->done;
    void *done_ctx = s->done_ctx;
    struct delivery *d, *next;
    DL_FOREACH_SAFE (s->deliveries, d, next) {
        free(d);
    }
    free(s);
    done(done_ctx);
}

static void stop(struct source *s, void (*done)(void *ctx), void *ctx)
{
    CHECK(s->life->sim, !s->stopped, "a source is stopped twice");
    s->stopped = true;
    if (s->life->sim->brokers[s->trigger].source == s)
        s->life->sim->brokers[s->trigger].source = NULL;
    s->done = done;
    s->done_ctx = ctx;
    timer_stop(&s->life->timers, &s->timer);
    timer_init(&s->ended, ended, s);
    timer_start(&s->life->timers, &s->ended,
                s->life->clock.monotonic_ms + (int64_t)random_below(&s->life->random.random, 200));
}

static void pause_source(struct source *s)
{
    CHECK(s->life->sim, !s->paused && !s->stopped, "a source is paused twice");
    s->paused = true;
}

static void resume_source(struct source *s)
{
    CHECK(s->life->sim, !s->stopped, "a source is resumed after its stop");
    s->paused = false;
    again(s, 0);
}

static bool update(struct source *s, const struct trigger *trigger)
{
    CHECK(s->life->sim, !s->stopped, "a source is updated after its stop");
    CHECK(s->life->sim, streq(trigger->id, source_trigger_id(s->host)), "a source is updated for another trigger");
    return true;
}

static void settle(struct source *s, uint64_t token, bool ack)
{
    struct sim *sim = s->life->sim;
    struct delivery *d;
    DL_FOREACH (s->deliveries, d) {
        if (d->token == token)
            break;
    }
    CHECK(sim, d, "delivery %" PRIu64 " to %s is settled, but is not under way", token, sim->triggers[s->trigger].id);
    CHECK(sim, !s->stopped, "a delivery is settled after stop()");
    if (ack && !s->life->ghost) {
        d->message->settled = true;
        sim_trace(sim, "broker: %" PRId64 " acknowledged", d->message->n);
        struct stimulus *st = NULL;
        HASH_FIND(hh, sim->model.stimuli, &d->message->n, sizeof(d->message->n), st);
        const struct want_trigger *t = &sim->triggers[s->trigger];
        bool passes = !t->filter || (t->filter & 1u << (d->message->k - 'a'));
        CHECK(sim, st->rows || !passes || t->edited, "message %" PRId64 " is acknowledged and not recorded",
              d->message->n);
    }
    DL_DELETE(s->deliveries, d);
    free(d);
    if (!ack && !s->paused)
        again(s, 100);
}

static void ack(struct source *s, uint64_t token)
{
    settle(s, token, true);
}

static void nack(struct source *s, uint64_t token, const char *why)
{
    (void)why;
    settle(s, token, false);
}

const struct source_type sim_source_broker = {
    .kind = {.name = "broker", .config = &table, .has_filter = true, .lossless = true},
    .create = create,
    .start = start,
    .stop = stop,
    .pause = pause_source,
    .resume = resume_source,
    .update = update,
    .ack = ack,
    .nack = nack,
};
const struct source_type *const sim_source_types[] = {&source_custom, &source_pipeline_completed, &sim_source_broker,
                                                      NULL};

/* A new message; a source that waits for one finds it. */
void broker_produce(struct sim *sim, size_t trigger)
{
    struct stimulus *s = model_stimulus(sim, (char)('a' + pick(sim, KEYS)));
    struct want_trigger *t = &sim->triggers[trigger];
    snprintf(s->trigger, sizeof(s->trigger), "%s", t->id);
    snprintf(s->key, sizeof(s->key), "m-%" PRId64, s->n);
    struct sim_message *m = xcalloc(1, sizeof(*m));
    m->n = s->n;
    m->k = s->k;
    DL_APPEND(sim->brokers[trigger].messages, m);
    sim->stats->messages++;
    sim_trace(sim, "broker: message %" PRId64 " for %s", m->n, t->id);
    if (sim->brokers[trigger].source)
        again(sim->brokers[trigger].source, 0);
}

void broker_stumble(struct sim *sim, size_t trigger)
{
    struct source *s = sim->brokers[trigger].source;
    if (!s)
        return;
    uint64_t dice = pick(sim, 3);
    if (dice == 0) {
        source_debounced(s->host, 1);
        return;
    }
    source_report(s->host, dice == 1 ? SOURCE_FAILED : SOURCE_WAITING, dice == 1 ? "ConnRefused" : "Missing",
                  "it is gone");
    s->up = false; /* tick() finds it again */
    again(s, 100);
}

size_t broker_unsettled(struct sim *sim, size_t trigger)
{
    size_t n = 0;
    struct sim_message *m;
    DL_FOREACH (sim->brokers[trigger].messages, m) {
        n += !m->settled;
    }
    return n;
}

void broker_fini(struct sim *sim)
{
    for (size_t i = 0; i < MAX_TRIGGERS; i++) {
        struct sim_message *m, *next;
        DL_FOREACH_SAFE (sim->brokers[i].messages, m, next) {
            free(m);
        }
        sim->brokers[i].messages = NULL;
    }
}
