#include "model/condition.h"

#include "base/clock.h"
#include "base/mask.h"

#define CONDITIONS_USUAL 4 /* room at first */

bool condition_set(struct conditions *cs, const char *type, enum condition_status status, const char *reason,
                   const char *message, int64_t now_ms, int64_t generation)
{
    struct condition *c = NULL;
    _cleanup_(freep) char *shown = message && strstr(message, "://") ? xstrdup(message) : NULL;
    if (shown) {
        mask_urls(&shown);
        message = shown;
    }
    for (unsigned i = 0; i < cs->n; i++)
        if (strcmp(cs->items[i].type, type) == 0)
            c = &cs->items[i];
    bool fresh = !c;
    if (fresh) {
        if (cs->n == CONDITIONS_MAX)
            return false;
        if (cs->n == 0 || cs->n == CONDITIONS_USUAL)
            cs->items = xreallocarray(cs->items, cs->n ? CONDITIONS_MAX : CONDITIONS_USUAL, sizeof(*cs->items));
        c = &cs->items[cs->n++];
        *c = (struct condition){.type = type, .reason = "", .transition_ms = now_ms};
    }
    bool changed = fresh || c->status != status || !streq(c->reason, reason) || !streq(c->message, message);
    if (fresh || c->status != status)
        c->transition_ms = now_ms;
    if (changed) {
        char *copy = xstrdup0(message);
        free(c->message);
        c->message = copy;
        c->status = status;
        c->reason = reason;
    }
    c->observed_generation = generation;
    return changed;
}

void condition_remove(struct conditions *cs, const char *type)
{
    for (unsigned i = 0; i < cs->n; i++) {
        if (strcmp(cs->items[i].type, type) != 0)
            continue;
        free(cs->items[i].message);
        memmove(&cs->items[i], &cs->items[i + 1], (cs->n - i - 1) * sizeof(cs->items[0]));
        cs->n--;
        if (cs->n == 0) {
            free(cs->items);
            cs->items = NULL;
        }
        return;
    }
}

const struct condition *condition_find(const struct conditions *cs, const char *type)
{
    for (unsigned i = 0; i < cs->n; i++)
        if (strcmp(cs->items[i].type, type) == 0)
            return &cs->items[i];
    return NULL;
}

cJSON *conditions_print(const struct conditions *cs)
{
    static const char *const words[] = {"False", "True", "Unknown"};
    cJSON *a = cJSON_CreateArray();
    for (unsigned i = 0; i < cs->n; i++) {
        const struct condition *c = &cs->items[i];
        char when[25];
        time_format(c->transition_ms, when);
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "type", c->type);
        cJSON_AddStringToObject(o, "status", words[c->status]);
        cJSON_AddStringToObject(o, "reason", c->reason);
        cJSON_AddStringToObject(o, "message", c->message ? c->message : "");
        cJSON_AddStringToObject(o, "last_transition_time", when);
        cJSON_AddItemToObject(o, "observed_generation", value_number_from_int(c->observed_generation));
        cJSON_AddItemToArray(a, o);
    }
    return a;
}

void conditions_fini(struct conditions *cs)
{
    for (unsigned i = 0; i < cs->n; i++)
        free(cs->items[i].message);
    free(cs->items);
    *cs = (struct conditions){0};
}
