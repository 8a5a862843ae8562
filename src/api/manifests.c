/* Operations that write: a create is a new file, an edit changes the resource's own document and keeps the rest, a
 * delete takes it out. Each is answered when it is in force. */
#include "api/internal.h"
#include "api/shape.h"

#include "manifest/edit.h"
#include "manifest/yaml_print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <utlist.h>

#define TRIES_MAX 5

struct writing {
    struct writing *prev, *next; /* of api.writings, in the order of asking */
    struct api *api;
    struct api_call call;
    enum resource_kind kind;
    char *id;
    int status; /* of success */
    bool removed;
    bool named;     /* a new one, whose id was made from its name */
    bool waits;     /* an edit, for an earlier one of its resource */
    cJSON *body;    /* of an edit; of a new one the document */
    unsigned tries; /* again while others are faster */
};

static void update(struct writing *w, uint64_t base);
static void answer_failure(struct writing *w, const struct put_result *r);

/* It is answered; the next edit of its resource has its turn. `r` as given to done(), NULL: it did not come to that. */
static void writing_end(struct writing *w, const struct put_result *r)
{
    struct api *a = w->api;
    struct writing *next;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): only the last has no next, and the head points to it */
    DL_DELETE(a->writings, w);
    DL_FOREACH (a->writings, next) {
        if (next->waits && next->kind == w->kind && streq(next->id, w->id))
            break;
    }
    free(w->id);
    cJSON_Delete(w->body);
    free(w);
    if (!next)
        return;
    next->waits = false;
    if (r && r->code == -ESHUTDOWN) {
        answer_failure(next, r);
        writing_end(next, r);
    } else {
        update(next, reconcile_digest(a->reconcile, next->kind, next->id));
    }
}

/* The first that was asked for and is not answered; NULL: none. */
static struct writing *writing_of(struct api *a, enum resource_kind kind, const char *id)
{
    struct writing *w;
    DL_FOREACH (a->writings, w) {
        if (w->kind == kind && streq(w->id, id))
            break;
    }
    return w;
}

/* ---- ETags ---- */

const char *api_etag(struct api *a, enum resource_kind kind, const char *id, char out[ETAG_SIZE])
{
    uint64_t digest = reconcile_digest(a->reconcile, kind, id);
    if (!digest)
        return NULL;
    snprintf(out, ETAG_SIZE, "\"%016" PRIx64 "\"", digest);
    return out;
}

void api_answer_resource(struct api *a, enum resource_kind kind, const char *id, struct api_call call, struct buf *body)
{
    char etag[ETAG_SIZE];
    size_t len = body->len;
    struct api_answer answer = {.status = 200, .body = buf_take(body), .len = len, .etag = api_etag(a, kind, id, etag)};
    call.answer(call.ctx, &answer);
}

/* RFC 9110, 13.1.1: `*`, or a list of tags, of which a weak one never matches. */
static bool tag_matches(const char *header, const char *etag)
{
    size_t n = etag ? strlen(etag) : 0;
    if (etag && *header == '*')
        return true;
    for (const char *p = header; etag && *p;) {
        p += strspn(p, " \t,");
        const char *end = *p == '"' ? strchr(p + 1, '"') : NULL;
        size_t len = end ? (size_t)(end + 1 - p) : strcspn(p, ",");
        if (len == n && strncmp(p, etag, n) == 0)
            return true;
        p += len;
    }
    return false;
}

/* The digest that the manifest must keep for the edit. False: it is another one already; answered with 412. */
static bool base_of(struct api *a, enum resource_kind kind, const char *id, const char *if_match, struct api_call call,
                    uint64_t *ret)
{
    char etag[ETAG_SIZE];
    if (if_match && !tag_matches(if_match, api_etag(a, kind, id, etag))) {
        api_problem(call, 412, "the manifest of %s \"%s\" is another one by now", resource_kind_name(kind), id);
        return false;
    }
    *ret = reconcile_digest(a->reconcile, kind, id);
    return true;
}

/* ---- answers ---- */

static void answer_failure(struct writing *w, const struct put_result *r)
{
    if (r->code == -ENOENT)
        api_problem(w->call, 404, "there is no %s \"%s\"", resource_kind_name(w->kind), w->id);
    else if (r->code == -EINVAL && r->manifest)
        api_problem_manifest(w->call, 422, "the manifest is not valid", r->manifest);
    else if (r->code == -ESTALE)
        api_problem(w->call, 412, "%s", r->message);
    else
        api_problem_put(w->call, r);
}

SHAPE(PipelineResult, "What became of a pipeline", {"success", "boolean", NULL}, {"message", "string", NULL},
      {"pipeline", "Pipeline?", "Null: it is deleted"});

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

/* False: it is not there. */
static bool render_resource(struct api *a, enum resource_kind kind, const char *id, struct buf *b)
{
    if (kind == RESOURCE_TRIGGER && engine_find_trigger(a->engine, id))
        render_trigger(b, NULL, engine_find_trigger(a->engine, id));
    else if (kind == RESOURCE_PIPELINE && engine_find_pipeline(a->engine, id))
        render_pipeline(b, NULL, engine_find_pipeline(a->engine, id));
    else if (kind == RESOURCE_MCP_SERVER)
        render_mcp_server(b, NULL, a, id);
    return b->len > 0;
}

static void create(struct writing *w);

static void written(void *ctx, const struct put_result *r)
{
    struct writing *w = ctx;
    struct buf b = {0};
    if (r->code == -EEXIST && w->named && ++w->tries < TRIES_MAX) {
        create(w); /* by another name than what somebody has just written */
        return;
    }
    if (r->code == -ESTALE && w->body && w->status == 200 && ++w->tries < TRIES_MAX) {
        update(w, reconcile_digest(w->api->reconcile, w->kind, w->id)); /* merged into what the faster one left */
        return;
    }
    if (r->code < 0) {
        answer_failure(w, r);
    } else if (w->removed) {
        answer_removed(w);
    } else if (!render_resource(w->api, w->kind, w->id, &b)) {
        api_problem(w->call, 409, "the manifest was written, but another change took the %s away",
                    resource_kind_name(w->kind));
    } else {
        _cleanup_(freep) char *location = xasprintf("/api/v1/%ss/%s", resource_kind_name(w->kind), w->id);
        char etag[ETAG_SIZE];
        size_t len = b.len;
        struct api_answer answer = {.status = w->status,
                                    .body = buf_take(&b),
                                    .len = len,
                                    .location = w->status == 201 ? location : NULL,
                                    .etag = api_etag(w->api, w->kind, w->id, etag)};
        w->call.answer(w->call.ctx, &answer);
    }
    writing_end(w, r);
}

static struct writing *writing_new(struct api *a, struct api_call call, enum resource_kind kind, const char *id,
                                   int status)
{
    struct writing *w = xcalloc(1, sizeof(*w));
    *w = (struct writing){.api = a, .call = call, .kind = kind, .id = xstrdup(id), .status = status};
    DL_APPEND(a->writings, w);
    return w;
}

/* Is the document valid? False: answered with 422, each error with its field. */
static bool valid_or_422(const cJSON *doc, enum resource_kind kind, struct api_call call)
{
    struct manifest m;
    _cleanup_(freep) char *text = value_print(doc);
    int r = manifest_parse("request.json", text, strlen(text), &m);
    _cleanup_(freep) char *detail = xasprintf("the %s is not valid", resource_kind_name(kind));
    if (r < 0)
        api_problem_manifest(call, 422, detail, &m);
    manifest_fini(&m);
    return r == 0;
}

/* Members that are observed, not wanted: what a client sends back of them is left alone. */
static bool observed_member(const char *name)
{
    static const char *const names[] = {"status",     "last_triggered_at",   "trigger_count", "error_message",
                                        "created_by", "created_at",          "updated_at",    "conditions",
                                        "generation", "observed_generation", "source",        "running"};
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

/* Of the kind that the route is about. False: answered. */
static bool object_or_422(const cJSON *body, enum resource_kind kind, struct api_call call)
{
    const char *name = resource_kind_name(kind);
    const cJSON *given = value_get(body, "kind");
    if (!cJSON_IsObject(body)) {
        api_problem_at(call, 422, "", "expected a %s object, got %s", name, value_type_name(body));
        return false;
    }
    if (!given || cJSON_IsNull(given) || streq(cJSON_GetStringValue(given), name))
        return true;
    api_problem_at(call, 422, "kind", "kind: expected \"%s\"", name);
    return false;
}

/* There, or on its way. */
static bool taken(struct api *a, const char *id)
{
    return engine_find_trigger(a->engine, id) || writing_of(a, RESOURCE_TRIGGER, id);
}

/* A free id for a name: its slug, or with a number behind it. NULL: the name gives none. */
static char *free_id(struct api *a, const char *name)
{
    char *slug = trigger_slug(name);
    if (!slug || !taken(a, slug))
        return slug;
    for (int i = 2;; i++) {
        char number[16];
        int n = snprintf(number, sizeof(number), "-%d", i);
        char *id = xasprintf("%.*s%s", 63 - n, slug, number);
        if (!taken(a, id)) {
            free(slug);
            return id;
        }
        free(id);
    }
}

static bool exists(struct api *a, enum resource_kind kind, const char *id)
{
    return kind == RESOURCE_TRIGGER    ? engine_find_trigger(a->engine, id) != NULL
           : kind == RESOURCE_PIPELINE ? engine_find_pipeline(a->engine, id) != NULL
                                       : mcp_servers_spec(a->mcp, id) != NULL;
}

/* A server's is its name. */
static const char *id_of(enum resource_kind kind, const cJSON *doc)
{
    return value_get_string(doc, kind == RESOURCE_MCP_SERVER ? "name" : "id");
}

/* What the body wants, as a document: it says its kind, unless it is a trigger, as the seed's are. */
static cJSON *document_of(enum resource_kind kind, const cJSON *body)
{
    cJSON *doc = wanted_members(body);
    if (kind != RESOURCE_TRIGGER && !value_get(doc, "kind")) {
        cJSON *item = cJSON_CreateString(resource_kind_name(kind));
        item->string = strdup("kind");
        cJSON_InsertItemInArray(doc, 0, item);
    }
    return doc;
}

/* Write the new file; an id that is made from the name is made now. */
static void create(struct writing *w)
{
    struct api *a = w->api;
    const char *dir = a->manifest_dir ? a->manifest_dir : reconcile_writable_dir(a->reconcile);
    if (!dir) {
        api_problem(w->call, 409, "no manifest directory is writable");
        writing_end(w, NULL);
        return;
    }
    if (w->named) {
        const char *name = value_get_string(w->body, "name");
        _cleanup_(freep) char *slug = trigger_slug(name);
        char *id = free_id(a, name);
        free(w->id);
        w->id = id;
        if (!streq(slug, id))
            value_set(w->body, "id", cJSON_CreateString(id));
    }
    _cleanup_(freep) char *text = yaml_print(w->body);
    reconcile_create_file(a->reconcile, dir, w->id, text, strlen(text), written, w);
}

SHAPE_OF(TriggerCreate, "A trigger as a manifest says it", &trigger_fields, SHAPE_OPEN, {"name", "=", NULL},
         {"pipeline_id", "=", NULL}, {"trigger_type", "TriggerType", NULL}, {"config", "TriggerConfig", NULL});
SHAPE_OF(PipelineCreate, "A pipeline as a manifest says it", &pipeline_fields, SHAPE_OPEN, {"id", "=", NULL},
         {"inputs", "-any", NULL}, {"steps", "[PipelineStep]", NULL});

void api_create_resource(struct api *a, enum resource_kind kind, const cJSON *body, struct api_call call)
{
    if (!object_or_422(body, kind, call))
        return;
    _cleanup_(cjson_deletep) cJSON *doc = document_of(kind, body);
    if (!valid_or_422(doc, kind, call))
        return;
    const char *id = id_of(kind, doc);
    if (id && exists(a, kind, id)) {
        api_problem(call, 409, "there is already a %s \"%s\"", resource_kind_name(kind), id);
        return;
    }
    struct writing *w = writing_new(a, call, kind, id ? id : "", 201);
    w->body = steal(&doc);
    w->named = !id;
    create(w);
}

/* The document as it is now, parsed, with its text. False: answered. */
static bool current(const struct writing *w, char **ret_text, struct document_set *ret,
                    enum document_format *ret_format)
{
    const char *file = "", *kind = resource_kind_name(w->kind);
    unsigned line;
    char *text = exists(w->api, w->kind, w->id) ? reconcile_text(w->api->reconcile, w->kind, w->id) : NULL;
    if (!text) {
        api_problem(w->call, 404, "there is no %s \"%s\"", kind, w->id);
        return false;
    }
    if (reconcile_source(w->api->reconcile, w->kind, w->id, &file, &line) < 0 ||
        document_format_by_name(file, ret_format) < 0)
        *ret_format = DOCUMENT_YAML;
    document_parse(text, strlen(text), *ret_format, ret);
    if (ret->n_documents == 1 && cJSON_IsObject(ret->documents[0].root) && !ret->documents[0].bad) {
        *ret_text = text;
        return true;
    }
    document_set_fini(ret);
    free(text);
    api_problem(w->call, 409, "the manifest of %s \"%s\" is in error; mend it first", kind, w->id);
    return false;
}

/* What the document is to be: what is absent or null in the body stays, and the id. A new node. */
static cJSON *merged(const struct writing *w, const cJSON *now)
{
    cJSON *wanted = cJSON_Duplicate(now, true);
    _cleanup_(cjson_deletep) cJSON *members = wanted_members(w->body);
    for (const cJSON *item = members->child; item; item = item->next) {
        cJSON *copy = cJSON_Duplicate(item, true);
        unhide_member(w->kind, wanted, copy);
        value_set(wanted, item->string, copy);
    }
    if (w->kind != RESOURCE_TRIGGER)
        return wanted;
    /* input_mapping moves with the config where it stood at the top and now comes inside. */
    if (value_get(value_get(members, "config"), "input_mapping") && !value_get(members, "input_mapping"))
        cJSON_DeleteItemFromObjectCaseSensitive(wanted, "input_mapping");
    _cleanup_(freep) char *slug =
        trigger_slug(value_get_string(wanted, "name") ? value_get_string(wanted, "name") : "");
    if (!value_get(wanted, "id") && !streq(slug, w->id))
        value_set(wanted, "id", cJSON_CreateString(w->id)); /* a renamed trigger keeps its id */
    return wanted;
}

/* Goes on with the edit of a text whose digest is `base`; `w` ends here or when that is written. */
static void update(struct writing *w, uint64_t base)
{
    _cleanup_(freep) char *text = NULL;
    struct document_set set;
    enum document_format format;
    if (!current(w, &text, &set, &format)) {
        writing_end(w, NULL);
        return;
    }
    const char *body_id = id_of(w->kind, w->body);
    _cleanup_(cjson_deletep) cJSON *wanted = merged(w, set.documents[0].root);
    document_set_fini(&set);
    bool other_id = body_id && !streq(body_id, w->id);
    if (other_id)
        api_problem_at(w->call, 422, "id", "id: an id never changes; expected \"%s\", got \"%s\"", w->id, body_id);
    if (other_id || !valid_or_422(wanted, w->kind, w->call)) {
        writing_end(w, NULL);
        return;
    }
    char *edited = NULL;
    size_t len = 0;
    if (edit_update(text, strlen(text), format, 0, wanted, &edited, &len, NULL) < 0) {
        edited = format == DOCUMENT_JSON ? value_print_pretty(wanted) : yaml_print(wanted);
        len = strlen(edited);
    }
    reconcile_put_resource(w->api->reconcile, w->kind, w->id, edited, len, base, written, w);
    free(edited);
}

SHAPE_OF(TriggerUpdate, "What is to change of a trigger", &trigger_fields, SHAPE_OPEN | SHAPE_PARTIAL,
         {"config", "-TriggerConfig", NULL});
SHAPE_OF(PipelineUpdate, "What is to change of a pipeline", &pipeline_fields, SHAPE_OPEN | SHAPE_PARTIAL,
         {"inputs", "-any", NULL}, {"steps", "-[PipelineStep]", NULL});

void api_update_resource(struct api *a, enum resource_kind kind, const char *id, const cJSON *body,
                         const char *if_match, struct api_call call)
{
    uint64_t base;
    if (!object_or_422(body, kind, call) || !base_of(a, kind, id, if_match, call, &base))
        return;
    bool waits = !if_match && writing_of(a, kind, id);
    struct writing *w = writing_new(a, call, kind, id, 200);
    w->body = cJSON_Duplicate(body, true);
    w->tries = if_match ? TRIES_MAX : 0; /* who says what it is based on is not merged into something else */
    w->waits = waits;
    if (!waits)
        update(w, base);
}

void api_delete_resource(struct api *a, enum resource_kind kind, const char *id, const char *if_match,
                         struct api_call call)
{
    uint64_t base;
    if (!exists(a, kind, id)) {
        api_problem(call, 404, "there is no %s \"%s\"", resource_kind_name(kind), id);
        return;
    }
    if (!base_of(a, kind, id, if_match, call, &base))
        return;
    struct writing *w = writing_new(a, call, kind, id, 200);
    w->removed = true;
    reconcile_put_resource(a->reconcile, kind, id, NULL, 0, if_match ? base : 0, written, w);
}
