/* One line of the log for each change: what, from which file and line, at which commit, and which fields. Names of
 * fields alone: values may be secret. */
#include "reconcile/internal.h"

#include "base/log.h"

#include <stdio.h>

#define NAMES_MAX 64

/* ---- which fields ---- */

static void add_name(struct buf *b, const char *prefix, const char *name)
{
    buf_printf(b, "%s%s%s", b->len ? ", " : "", prefix, name);
}

/* Members of one that the other has not, or has otherwise. */
static void compare_config(struct buf *b, const struct trigger *a, const struct trigger *t)
{
    _cleanup_(cjson_deletep) cJSON *old = NULL, *now = NULL;
    const cJSON *item;
    value_parse(a->config_text, strlen(a->config_text), &old, NULL);
    value_parse(t->config_text, strlen(t->config_text), &now, NULL);
    cJSON_ArrayForEach (item, now) {
        const cJSON *was = value_get(old, item->string);
        if (!was || !value_equal(was, item))
            add_name(b, "config.", item->string);
    }
    cJSON_ArrayForEach (item, old) {
        if (!value_get(now, item->string))
            add_name(b, "config.", item->string);
    }
}

static void compare_triggers(struct buf *b, const struct trigger *old, const struct trigger *now)
{
    const char *names[NAMES_MAX];
    size_t n = 0;
    trigger_compare(old, now, names, ARRAY_SIZE(names), &n);
    for (size_t i = 0; i < n; i++) {
        if (streq(names[i], "config"))
            compare_config(b, old, now);
        else
            add_name(b, "", names[i]);
    }
}

static const cJSON *step_of(const cJSON *steps, const char *id)
{
    const cJSON *step;
    cJSON_ArrayForEach (step, steps) {
        if (streq(value_get_string(step, "id"), id))
            return step;
    }
    return NULL;
}

static void compare_steps(struct buf *b, const cJSON *old, const cJSON *now)
{
    const cJSON *step;
    size_t before = b->len;
    cJSON_ArrayForEach (step, now) {
        const char *id = value_get_string(step, "id");
        const cJSON *was = step_of(old, id);
        if (!was || !value_equal(was, step))
            add_name(b, "steps.", id);
    }
    cJSON_ArrayForEach (step, old) {
        const char *id = value_get_string(step, "id");
        if (!step_of(now, id))
            add_name(b, "steps.", id);
    }
    if (b->len == before)
        add_name(b, "", "steps"); /* their order */
}

static void compare_pipelines(struct buf *b, const struct pipeline *old, const struct pipeline *now)
{
    const char *names[NAMES_MAX];
    size_t n = 0;
    fields_compare(&pipeline_fields, old, now, NULL, names, ARRAY_SIZE(names), &n);
    for (size_t i = 0; i < n; i++) {
        if (streq(names[i], "steps"))
            compare_steps(b, old->steps_json, now->steps_json);
        else
            add_name(b, "", names[i]);
    }
}

static void compare_servers(struct buf *b, const struct mcp_server *old, const struct mcp_server *now)
{
    const char *names[NAMES_MAX];
    size_t n = 0;
    fields_compare(&mcp_server_fields, old, now, NULL, names, ARRAY_SIZE(names), &n);
    for (size_t i = 0; i < n; i++)
        add_name(b, "", names[i]);
}

static void compare_running(struct change *c, struct reconcile *r, const struct resource *res,
                            const struct manifest_entry *e)
{
    struct live_trigger *t = res->kind == RESOURCE_TRIGGER ? engine_find_trigger(r->engine, res->id) : NULL;
    struct live_pipeline *p = res->kind == RESOURCE_PIPELINE ? engine_find_pipeline(r->engine, res->id) : NULL;
    const struct mcp_server *s = res->kind == RESOURCE_MCP_SERVER ? mcp_servers_spec(r->options.mcp, res->id) : NULL;
    if (s) {
        c->changed = !mcp_server_equal(s, e->server);
        if (c->changed)
            compare_servers(&c->fields, s, e->server);
    } else if (t) {
        struct trigger_view v;
        trigger_look(t, &v);
        c->changed = !trigger_equal(v.spec, e->trigger);
        if (c->changed)
            compare_triggers(&c->fields, v.spec, e->trigger);
    } else if (p) {
        struct pipeline_view v;
        pipeline_look(p, &v);
        c->changed = !pipeline_equal(v.spec, e->pipeline);
        if (c->changed)
            compare_pipelines(&c->fields, v.spec, e->pipeline);
    }
}

/* With what ran in an earlier life. */
static void compare_kept(struct change *c, const struct resource *res, const struct manifest_entry *e)
{
    struct manifest m;
    bool found = false;
    manifest_parse(res->owner->path, res->text, res->len, &m);
    for (size_t i = 0; i < m.n_entries && !found; i++) {
        const struct manifest_entry *old = &m.entries[i];
        found = !old->bad && old->kind == res->kind && streq(old->id, res->id);
        if (!found)
            continue;
        if (res->kind == RESOURCE_TRIGGER)
            c->changed = !trigger_equal(old->trigger, e->trigger);
        else if (res->kind == RESOURCE_MCP_SERVER)
            c->changed = !mcp_server_equal(old->server, e->server);
        else
            c->changed = !pipeline_equal(old->pipeline, e->pipeline);
        if (c->changed && res->kind == RESOURCE_TRIGGER)
            compare_triggers(&c->fields, old->trigger, e->trigger);
        else if (c->changed && res->kind == RESOURCE_MCP_SERVER)
            compare_servers(&c->fields, old->server, e->server);
        else if (c->changed)
            compare_pipelines(&c->fields, old->pipeline, e->pipeline);
    }
    c->changed = c->changed || !found;
    manifest_fini(&m);
}

void change_find(struct change *c, struct reconcile *r, const struct resource *res, const struct file *f,
                 const struct manifest_entry *e)
{
    bool same_text = res->text && res->len == e->end - e->start && memcmp(res->text, f->text + e->start, res->len) == 0;
    c->created = !res->running && !res->text;
    c->accepted = res->rejected != NULL;
    c->moved_from = res->owner && res->owner != f ? xstrdup(res->owner->path) : NULL;
    if (res->running && (!same_text || c->accepted))
        compare_running(c, r, res, e);
    else if (!res->running && res->owner && res->text && !same_text)
        compare_kept(c, res, e);
}

/* ---- lines ---- */

struct place {
    char commit[GIT_ID_SIZE + 8]; /* twelve digits, `-dirty` where the file differs from it; "": none */
    char *file;                   /* with its line */
};

static void place_of(const struct resource *res, struct place *ret)
{
    const struct origin *o = res->owner->origin;
    ret->commit[0] = '\0';
    if (o->commit && o->commit->id)
        snprintf(ret->commit, sizeof(ret->commit), "%.12s%s", o->commit->id, o->state == ORIGIN_DIRTY ? "-dirty" : "");
    ret->file = xasprintf("%s:%u", o->file, res->line);
}

#define PLACE_FIELDS(place) LOG_FIELDS({"file", (place).file}, {"commit", (place).commit[0] ? (place).commit : NULL})

void tell_change(const struct resource *res, struct change *c)
{
    struct buf b = {0};
    struct place place;
    if (c->created)
        buf_adds(&b, "created");
    if (c->accepted)
        buf_adds(&b, "accepted again");
    if (c->moved_from)
        buf_printf(&b, "%smoved from %s", b.len ? ", " : "", c->moved_from);
    if (c->changed)
        buf_printf(&b, "%schanged%s%s", b.len ? ", " : "", c->fields.len ? ": " : "",
                   c->fields.len ? c->fields.data : "");
    if (b.len > 0) {
        place_of(res, &place);
        log_at(LOG_LEVEL_INFO, AREA, PLACE_FIELDS(place), "%s \"%s\" %s", resource_kind_name(res->kind), res->id,
               b.data);
        free(place.file);
    }
    buf_fini(&b);
    buf_fini(&c->fields);
    free(c->moved_from);
}

void tell_deleted(const struct resource *res)
{
    struct place place;
    place_of(res, &place);
    log_at(LOG_LEVEL_INFO, AREA, PLACE_FIELDS(place), "%s \"%s\" deleted", resource_kind_name(res->kind), res->id);
    free(place.file);
}

void tell_refused(const struct resource *res, const char *message)
{
    struct place place;
    place_of(res, &place);
    log_at(LOG_LEVEL_WARNING, AREA, LOG_FIELDS({"commit", place.commit[0] ? place.commit : NULL}),
           "%s \"%s\" rejected, it goes on as it was: %s", resource_kind_name(res->kind), res->id, message);
    free(place.file);
}
