/* Operations that write: a create is a new file, an edit changes the resource's own document and keeps the rest, a
 * delete takes it out. Each is answered when it is in force. */
#include "api/internal.h"

#include "manifest/edit.h"
#include "manifest/yaml_print.h"

#include <errno.h>
#include <stdio.h>

struct writing {
    struct api *api;
    struct api_call call;
    enum resource_kind kind;
    char *id;
    int status; /* of success */
    bool removed;
};

static void writing_free(struct writing *w)
{
    free(w->id);
    free(w);
}

static void answer_failure(struct writing *w, const struct put_result *r)
{
    if (r->code == -ENOENT)
        api_problem(w->call, 404, "there is no %s \"%s\"", resource_kind_name(w->kind), w->id);
    else if (r->code == -EINVAL && r->manifest)
        api_problem_manifest(w->call, 422, "the manifest is not valid", r->manifest);
    else
        api_problem_put(w->call, r);
}

static void answer_removed(struct writing *w)
{
    struct buf b = {0};
    _cleanup_(freep) char *message = xasprintf("%s \"%s\" deleted", resource_kind_name(w->kind), w->id);
    json_open(&b, NULL, '{');
    json_bool(&b, "success", true);
    json_string(&b, "message", message);
    json_string(&b, resource_kind_name(w->kind), NULL);
    json_close(&b, '}');
    api_answer_text(w->call, 200, &b);
}

static void written(void *ctx, const struct put_result *r)
{
    struct writing *w = ctx;
    struct live_trigger *t = engine_find_trigger(w->api->engine, w->id);
    if (r->code < 0) {
        answer_failure(w, r);
    } else if (w->removed) {
        answer_removed(w);
    } else if (!t) {
        api_problem(w->call, 409, "the manifest was written, but another change took the trigger away");
    } else {
        struct buf b = {0};
        render_trigger(&b, NULL, t);
        _cleanup_(freep) char *location = xasprintf("/api/v1/triggers/%s", w->id);
        size_t len = b.len;
        struct api_answer answer = {
            .status = w->status, .body = buf_steal(&b), .len = len, .location = w->status == 201 ? location : NULL};
        w->call.answer(w->call.ctx, &answer);
    }
    writing_free(w);
}

static struct writing *writing_new(struct api *a, struct api_call call, enum resource_kind kind, const char *id,
                                   int status)
{
    struct writing *w = xcalloc(1, sizeof(*w));
    *w = (struct writing){.api = a, .call = call, .kind = kind, .id = xstrdup(id), .status = status};
    return w;
}

/* Is the document a valid trigger? False: answered with 422, each error with its field. */
static bool valid_or_422(const cJSON *doc, struct api_call call)
{
    struct manifest m;
    _cleanup_(freep) char *text = value_print(doc);
    int r = manifest_parse("request.json", text, strlen(text), &m);
    if (r < 0)
        api_problem_manifest(call, 422, "the trigger is not valid", &m);
    manifest_fini(&m);
    return r == 0;
}

/* Members of a trigger object that are observed, not wanted: what a client sends back of them is left alone. */
static bool observed_member(const char *name)
{
    static const char *const names[] = {"status",     "last_triggered_at",   "trigger_count", "error_message",
                                        "created_by", "created_at",          "updated_at",    "conditions",
                                        "generation", "observed_generation", "source"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (streq(name, names[i]))
            return true;
    return false;
}

/* What the body wants: without nulls and without what is only observed. */
static cJSON *wanted_members(const cJSON *body)
{
    cJSON *doc = cJSON_CreateObject();
    const cJSON *item;
    cJSON_ArrayForEach (item, body) {
        if (!cJSON_IsNull(item) && !observed_member(item->string))
            cJSON_AddItemToObject(doc, item->string, cJSON_Duplicate(item, true));
    }
    return doc;
}

static bool object_or_422(const cJSON *body, struct api_call call)
{
    if (cJSON_IsObject(body))
        return true;
    api_problem(call, 422, "expected a trigger object, got %s", value_type_name(body));
    return false;
}

/* A free id for a name: its slug, or with a number behind it. NULL: the name gives none. */
static char *free_id(struct api *a, const char *name)
{
    char *slug = trigger_slug(name);
    if (!slug || !engine_find_trigger(a->engine, slug))
        return slug;
    for (int i = 2;; i++) {
        char number[16];
        int n = snprintf(number, sizeof(number), "-%d", i);
        char *id = xasprintf("%.*s%s", 63 - n, slug, number);
        if (!engine_find_trigger(a->engine, id)) {
            free(slug);
            return id;
        }
        free(id);
    }
}

void api_create_trigger(struct api *a, const cJSON *body, struct api_call call)
{
    if (!object_or_422(body, call))
        return;
    const char *dir = a->manifest_dir ? a->manifest_dir : reconcile_writable_dir(a->reconcile);
    cJSON *doc = wanted_members(body);
    if (valid_or_422(doc, call)) {
        const char *explicit_id = value_get_string(doc, "id");
        _cleanup_(freep) char *id = explicit_id ? xstrdup(explicit_id) : free_id(a, value_get_string(doc, "name"));
        if (explicit_id && engine_find_trigger(a->engine, id)) {
            api_problem(call, 409, "there is already a trigger \"%s\"", id);
        } else if (!dir) {
            api_problem(call, 409, "no manifest directory is writable");
        } else {
            _cleanup_(freep) char *slug = trigger_slug(value_get_string(doc, "name"));
            if (!explicit_id && !streq(slug, id))
                value_set(doc, "id", cJSON_CreateString(id));
            _cleanup_(freep) char *text = yaml_print(doc);
            _cleanup_(freep) char *path = reconcile_free_path(a->reconcile, dir, id);
            reconcile_put_file(a->reconcile, path, text, strlen(text), written,
                               writing_new(a, call, RESOURCE_TRIGGER, id, 201));
        }
    }
    cJSON_Delete(doc);
}

/* The document as it is now, parsed, with its text. False: answered. */
static bool current(struct api *a, const char *id, struct api_call call, char **ret_text, struct document_set *ret,
                    enum document_format *ret_format)
{
    struct live_trigger *t = engine_find_trigger(a->engine, id);
    char *text = t ? reconcile_text(a->reconcile, RESOURCE_TRIGGER, id) : NULL;
    if (!text) {
        api_problem(call, 404, "there is no trigger \"%s\"", id);
        return false;
    }
    struct trigger_view v;
    trigger_look(t, &v);
    if (!v.origin || document_format_by_name(v.origin->file, ret_format) < 0)
        *ret_format = DOCUMENT_YAML;
    document_parse(text, strlen(text), *ret_format, ret);
    if (ret->n_documents == 1 && cJSON_IsObject(ret->documents[0].root) && !ret->documents[0].bad) {
        *ret_text = text;
        return true;
    }
    document_set_fini(ret);
    free(text);
    api_problem(call, 409, "the manifest of trigger \"%s\" is in error; mend it first", id);
    return false;
}

void api_update_trigger(struct api *a, const char *id, const cJSON *body, struct api_call call)
{
    _cleanup_(freep) char *text = NULL;
    struct document_set set;
    enum document_format format;
    if (!object_or_422(body, call) || !current(a, id, call, &text, &set, &format))
        return;
    cJSON *wanted = cJSON_Duplicate(set.documents[0].root, true);
    cJSON *members = wanted_members(body);
    const char *body_id = value_get_string(members, "id");
    bool other_id = body_id && !streq(body_id, id);
    for (const cJSON *item = members->child; item; item = item->next) {
        cJSON *copy = cJSON_Duplicate(item, true);
        unhide_member(wanted, copy);
        value_set(wanted, item->string, copy);
    }
    /* input_mapping moves with the config where it stood at the top and now comes inside. */
    if (value_get(value_get(members, "config"), "input_mapping") && !value_get(members, "input_mapping"))
        cJSON_DeleteItemFromObjectCaseSensitive(wanted, "input_mapping");
    _cleanup_(freep) char *slug =
        trigger_slug(value_get_string(wanted, "name") ? value_get_string(wanted, "name") : "");
    if (!value_get(wanted, "id") && !streq(slug, id))
        value_set(wanted, "id", cJSON_CreateString(id)); /* a renamed trigger keeps its id */
    if (other_id) {
        api_problem(call, 422, "id: an id never changes; expected \"%s\", got \"%s\"", id, body_id);
    } else if (valid_or_422(wanted, call)) {
        char *edited = NULL;
        size_t len = 0;
        if (edit_update(text, strlen(text), format, 0, wanted, &edited, &len, NULL) < 0) {
            edited = format == DOCUMENT_JSON ? value_print_pretty(wanted) : yaml_print(wanted);
            len = strlen(edited);
        }
        reconcile_put_resource(a->reconcile, RESOURCE_TRIGGER, id, edited, len, written,
                               writing_new(a, call, RESOURCE_TRIGGER, id, 200));
        free(edited);
    }
    cJSON_Delete(members);
    cJSON_Delete(wanted);
    document_set_fini(&set);
}

void api_delete_resource(struct api *a, enum resource_kind kind, const char *id, struct api_call call)
{
    bool there = kind == RESOURCE_TRIGGER ? engine_find_trigger(a->engine, id) != NULL
                                          : engine_find_pipeline(a->engine, id) != NULL;
    if (!there) {
        api_problem(call, 404, "there is no %s \"%s\"", resource_kind_name(kind), id);
        return;
    }
    struct writing *w = writing_new(a, call, kind, id, 200);
    w->removed = true;
    reconcile_put_resource(a->reconcile, kind, id, NULL, 0, written, w);
}
