/* Channels: where passive triggers listen. One index over all filters of a channel, and a memory of the last
 * occurrences that some filter turned away, from which the reasons of non-matches are worked out when somebody asks: so
 * that an event costs nothing for the triggers that it does not reach. */
#include "engine/internal.h"

static size_t recent_take(struct recent_ring *ring, struct recent *r)
{
    DL_DELETE(ring->list, r);
    ring->n--;
    ring->bytes -= r->bytes;
    return r->bytes;
}

static void recent_drop(struct recent_ring *ring, struct recent *r)
{
    recent_take(ring, r);
    free(r);
}

void recent_add(struct recent_ring *ring, int64_t number, const struct occurrence *o, const char *text)
{
    char instead[64];
    size_t type_len = strlen(o->event_type) + 1, len = strlen(text) + 1;
    if (sizeof(struct recent) + type_len + len > RECENT_BYTES_MAX) {
        /* Data larger than the whole ring is remembered by its size only. */
        len = (size_t)snprintf(instead, sizeof(instead), "\"(%zu bytes)\"", len - 1) + 1;
        text = instead;
    }
    size_t bytes = sizeof(struct recent) + type_len + len;
    struct recent *r = NULL;
    while (ring->list && (ring->n >= RECENT_MAX || ring->bytes + bytes > RECENT_BYTES_MAX)) {
        struct recent *oldest = ring->list;
        if (!r && oldest->bytes >= bytes && oldest->bytes / 2 <= bytes)
            bytes = recent_take(ring, r = oldest); /* its memory is used again */
        else
            recent_drop(ring, oldest);
    }
    if (!r)
        r = xmalloc(bytes); /* with its texts behind it */
    *r = (struct recent){.number = number, .occurred_ms = o->occurred_ms, .bytes = bytes};
    r->event_type = (char *)(r + 1);
    r->data = r->event_type + type_len;
    memcpy(r->event_type, o->event_type, type_len);
    memcpy(r->data, text, len);
    ring->n++;
    ring->bytes += bytes;
    DL_APPEND(ring->list, r);
}

void recent_fini(struct recent_ring *ring)
{
    while (ring->list)
        recent_drop(ring, ring->list);
    *ring = (struct recent_ring){0};
}

static struct channel *channel_get(struct engine *e, const char *type, const struct channel_key *key)
{
    _cleanup_(freep) char *name = key->mark ? xasprintf("%s/%c %s %s", type, key->mark, key->scope, key->text)
                                            : xasprintf("%s/%s", type, key->text);
    struct channel **table = key->glob ? &e->globs : &e->channels;
    struct channel *c = NULL;
    HASH_FIND_STR(*table, name, c);
    if (c)
        return c;
    c = xcalloc(1, sizeof(*c));
    c->key = steal(&name);
    c->glob = key->glob;
    if (c->glob && glob_create(key->text, 0, &c->pattern, NULL) < 0)
        c->pattern = NULL; /* its config was checked: matches nothing */
    c->matcher = matcher_create();
    HASH_ADD_KEYPTR(hh, *table, c->key, strlen(c->key), c);
    return c;
}

static void channel_free(struct engine *e, struct channel *c)
{
    if (c->glob)
        HASH_DELETE(hh, e->globs, c);
    else
        HASH_DELETE(hh, e->channels, c);
    matcher_destroy(c->matcher);
    glob_destroy(c->pattern);
    recent_fini(&c->recent);
    free(c->key);
    free(c);
}

void channel_free_all(struct engine *e)
{
    struct channel *c, *tmp;
    HASH_ITER (hh, e->channels, c, tmp) {
        channel_free(e, c);
    }
    HASH_ITER (hh, e->globs, c, tmp) {
        channel_free(e, c);
    }
}

void channel_join(struct live_trigger *t)
{
    struct channel_key keys[256];
    size_t n = t->type->channels(t->spec->config, keys, ARRAY_SIZE(keys));
    for (size_t i = 0; i < n && i < ARRAY_SIZE(keys); i++) {
        struct subscription *s = xcalloc(1, sizeof(*s));
        s->channel = channel_get(t->engine, t->type->kind.name, &keys[i]);
        s->trigger = t;
        s->joined = s->channel->seen;
        matcher_add(s->channel->matcher, s, t->program->pattern);
        DL_APPEND(s->channel->subscriptions, s);
        s->channel->n++;
        s->mine = t->subscriptions;
        t->subscriptions = s;
    }
}

void channel_leave(struct live_trigger *t)
{
    while (t->subscriptions) {
        struct subscription *s = t->subscriptions;
        t->subscriptions = s->mine;
        trigger_counted(t, DECISION_FILTERED, s->channel->seen - s->joined - s->matched);
        matcher_remove(s->channel->matcher, s);
        DL_DELETE(s->channel->subscriptions, s);
        if (--s->channel->n == 0)
            channel_free(t->engine, s->channel);
        free(s);
    }
}

int64_t trigger_filtered_count(const struct live_trigger *t)
{
    int64_t n = t->decisions ? t->decisions[DECISION_FILTERED] : 0;
    for (const struct subscription *s = t->subscriptions; s; s = s->mine)
        n += s->channel->seen - s->joined - s->matched;
    return n;
}

bool trigger_wants(const struct live_trigger *t, const cJSON *data, char *why, size_t cap)
{
    if (t->type->accepts && !t->type->accepts(t->spec->config, data, why, cap))
        return false;
    struct mismatch m;
    if (pattern_match(t->program->pattern, data, why ? &m : NULL))
        return true;
    if (why)
        snprintf(why, cap, "%s", m.text);
    return false;
}

void targets_init(struct targets *t)
{
    t->list = t->few;
    t->n = 0;
    t->cap = TARGETS_FEW;
}

void targets_add(struct targets *t, struct live_trigger *trigger)
{
    if (t->n == t->cap) {
        t->cap *= 2;
        if (t->list == t->few)
            t->list = memcpy(xcalloc(t->cap, sizeof(*t->list)), t->few, sizeof(t->few));
        else
            t->list = xreallocarray(t->list, t->cap, sizeof(*t->list));
    }
    t->list[t->n++] = trigger;
}

void targets_fini(struct targets *t)
{
    if (t->list != t->few)
        free(t->list);
}

bool filtered_heard(const struct engine *e)
{
    const struct feed_listener *l = e->listeners;
    while (l && !l->filtered)
        l = l->next;
    return l;
}

void filtered_tell(const struct live_trigger *t, const struct occurrence *o, const char *text)
{
    char why[512] = "";
    if (!filtered_heard(t->engine) || trigger_wants(t, o->data, why, sizeof(why)))
        return;
    struct filtered_entry f = {o->occurred_ms, o->event_type, text, why};
    struct feed_listener *l, *tmp;
    DL_FOREACH_SAFE (t->engine->listeners, l, tmp) {
        if (l->filtered)
            l->filtered(l, t->id, &f);
    }
}

static void match_one(struct engine *e, struct channel *c, const struct occurrence *o, const char *text,
                      struct targets *ret)
{
    c->seen++;
    void *const *owners = NULL;
    size_t matched = matcher_match(c->matcher, o->data, &owners);
    size_t taken = 0;
    for (size_t i = 0; i < matched; i++) {
        struct subscription *s = owners[i];
        struct live_trigger *t = s->trigger;
        if (t->type->accepts && !t->type->accepts(t->spec->config, o->data, NULL, 0))
            continue;
        if (o->admits && !o->admits(o->admits_ctx, t->spec))
            continue;
        s->matched++;
        taken++;
        bool twice = false; /* it may listen here by a name and by a pattern */
        for (size_t k = 0; k < ret->n && c->glob; k++)
            twice = twice || ret->list[k] == t;
        if (!twice)
            targets_add(ret, t);
    }
    if (taken == c->n)
        return;
    recent_add(&c->recent, c->seen, o, text);
    struct subscription *s;
    DL_FOREACH (filtered_heard(e) ? c->subscriptions : NULL, s)
        filtered_tell(s->trigger, o, text);
}

/* The channel of exactly this name, NULL if there is none. */
static struct channel *channel_find(struct engine *e, const char *type, const char *name)
{
    char key[512];
    size_t type_len = strlen(type), len = type_len + 1 + strlen(name);
    struct channel *c = NULL;
    if (len > sizeof(key))
        return NULL;
    memcpy(key, type, type_len);
    key[type_len] = '/';
    memcpy(key + type_len + 1, name, len - type_len - 1);
    HASH_FIND(hh, e->channels, key, len, c);
    return c;
}

static bool glob_hears(const struct channel *c, const char *type, const char *name)
{
    size_t len = strlen(type);
    return strncmp(c->key, type, len) == 0 && c->key[len] == '/' && c->pattern && glob_match(c->pattern, name);
}

bool channel_heard(struct engine *e, const char *type, const char *name)
{
    if (channel_find(e, type, name))
        return true;
    for (const struct channel *c = e->globs; c; c = c->hh.next)
        if (glob_hears(c, type, name))
            return true;
    return false;
}

void channel_match(struct engine *e, const char *type, const char *name, const struct occurrence *o, const char *text,
                   struct targets *ret)
{
    struct channel *c = channel_find(e, type, name), *tmp;
    if (c)
        match_one(e, c, o, text, ret);
    c = o->also ? channel_find(e, type, o->also) : NULL;
    if (c)
        match_one(e, c, o, text, ret);
    HASH_ITER (hh, e->globs, c, tmp) {
        if (glob_hears(c, type, name))
            match_one(e, c, o, text, ret);
    }
}

void engine_each_listener(struct engine *e, const char *type, const char *channel,
                          void (*fn)(void *ctx, struct live_trigger *t), void *ctx)
{
    _cleanup_(freep) char *key = xasprintf("%s/%s", type, channel);
    struct channel *c = NULL;
    HASH_FIND_STR(e->channels, key, c);
    struct subscription *s;
    DL_FOREACH (c ? c->subscriptions : NULL, s)
        fn(ctx, s->trigger);
}

void trigger_each_filtered(struct live_trigger *t, void (*fn)(void *ctx, const struct filtered_entry *f), void *ctx)
{
    size_t shown = 0;
    struct subscription own = {.joined = t->recent_from};
    struct subscription *s = t->subscriptions ? t->subscriptions : &own;
    for (; s && shown < FILTERED_SHOWN_MAX; s = s->mine) {
        const struct recent_ring *ring = s->channel ? &s->channel->recent : &t->recent;
        if (!ring->list)
            continue;
        /* A utlist's head knows its tail: newest first. */
        for (struct recent *r = ring->list->prev; shown < FILTERED_SHOWN_MAX; r = r->prev) {
            if (r->number <= s->joined)
                break;
            char why[512] = "";
            cJSON *data = NULL;
            if (value_parse(r->data, strlen(r->data), &data, NULL) == 0 && !trigger_wants(t, data, why, sizeof(why))) {
                struct filtered_entry f = {r->occurred_ms, r->event_type, r->data, why};
                fn(ctx, &f);
                shown++;
            }
            cJSON_Delete(data);
            if (r == ring->list)
                break;
        }
    }
}
