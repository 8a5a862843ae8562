/* apply and diff: several manifests in one go. They are parsed on the pool, since they may be many. */
#include "api/internal.h"
#include "api/shape.h"

#include "base/loop.h"

#include <errno.h>
#include <uthash.h>

struct given {
    const char *name, *path, *real, *text; /* the body's; paths NULL: nowhere */
    size_t len;
    size_t whole; /* number among the files that are below a manifest directory; 0: it is none */
    struct manifest manifest;
};

struct found {
    UT_hash_handle hh;
    const struct given *file;
    const struct manifest_entry *entry;
    char key[];
};

struct putting {
    struct api *api;
    struct api_call call;
    bool dry_run;
    struct given *files;
    size_t n;
    const char **dirs;
    size_t n_dirs;
    struct found *found; /* by kind and id, in order */
    size_t wrong;
    struct loop_work work;
};

static void putting_free(struct putting *p)
{
    struct found *f = p->found, *next;
    HASH_CLEAR(hh, p->found); /* the table alone; the items stay linked */
    for (; f; f = next) {
        next = f->hh.next;
        free(f);
    }
    for (size_t i = 0; i < p->n; i++)
        manifest_fini(&p->files[i].manifest);
    free(p->files);
    free(p->dirs);
    free(p);
}

void api_problem_put(struct api_call call, const struct put_result *r)
{
    const char *what = r->message ? r->message : "the manifest could not be written";
    int status = 500;
    switch (r->code) {
    case -EINVAL:
        status = 422;
        break;
    case -EEXIST:
    case -EROFS:
    case -EACCES:
    case -EPERM:
    case -EBUSY:
    case -EAGAIN:
        status = 409;
        break;
    case -ESHUTDOWN:
        status = 503;
        break;
    case -ENOSPC:
    case -EDQUOT:
        status = 507;
        break;
    default:
        break;
    }
    api_problem(call, status, "%s", what);
}

/* ---- what was asked ---- */

static const struct found *find(const struct putting *p, enum resource_kind kind, const char *id)
{
    struct found *f;
    _cleanup_(freep) char *key = xasprintf("%s/%s", resource_kind_name(kind), id);
    HASH_FIND_STR(p->found, key, f);
    return f;
}

static void take_entries(struct putting *p, struct given *file)
{
    struct manifest *m = &file->manifest;
    for (size_t i = 0; i < m->n_entries; i++) {
        const struct manifest_entry *e = &m->entries[i];
        if (!e->id || e->bad)
            continue;
        const struct found *first = find(p, e->kind, e->id);
        if (first) {
            manifest_add_among(m, i, "id", "%s \"%s\" is already defined in %s:%u", resource_kind_name(e->kind), e->id,
                               first->file->name, first->entry->line);
            continue;
        }
        _cleanup_(freep) char *key = xasprintf("%s/%s", resource_kind_name(e->kind), e->id);
        struct found *f = xcalloc(1, sizeof(*f) + strlen(key) + 1);
        f->file = file;
        f->entry = e;
        memcpy(f->key, key, strlen(key) + 1);
        HASH_ADD_STR(p->found, key, f);
    }
}

static void parse_all(void *ctx)
{
    struct putting *p = ctx;
    for (size_t i = 0; i < p->n; i++) {
        struct given *f = &p->files[i];
        manifest_parse(f->name, f->text, f->len, &f->manifest);
        take_entries(p, f);
        p->wrong += f->manifest.n_wrong;
    }
}

static bool take_strings(const cJSON *list, const char *name, struct issues *issues)
{
    const cJSON *item;
    bool ok = !list || cJSON_IsArray(list);
    cJSON_ArrayForEach (item, list) {
        ok = ok && cJSON_IsString(item);
    }
    if (!ok)
        issue_add(issues, name, list, "expected a list of strings");
    return ok;
}

SHAPE(ManifestFile, "The text of a manifest", {"name", "string", "What errors call it"},
      {"path", "-path?", "Where it is, absolute; null: nowhere"}, {"real", "-path?", "The same without links"},
      {"text", "string", NULL});
SHAPE(ManifestSet, "Manifests to put, all of them or none", {"files", "[ManifestFile]", NULL},
      {"directories", "-[string]", "Of which all manifests are among the files"},
      {"dry_run", "-boolean", "Only say what would change"});

static bool take_file(struct given *f, const cJSON *item, struct issues *issues)
{
    const cJSON *path = value_get(item, "path"), *real = value_get(item, "real");
    f->name = value_get_string(item, "name");
    f->path = cJSON_GetStringValue(path);
    f->real = cJSON_GetStringValue(real);
    f->text = value_get_string(item, "text");
    f->len = f->text ? strlen(f->text) : 0;
    bool ok = f->name && f->text && (!path || cJSON_IsNull(path) || (f->path && f->path[0] == '/')) &&
              (!real || cJSON_IsNull(real) || (f->real && f->real[0] == '/'));
    if (!ok)
        issue_add(issues, "files", item, "expected {name, text} with an absolute path, or none");
    const cJSON *member;
    cJSON_ArrayForEach (member, item) {
        bool known = false;
        for (const struct shape_member *m = shape_ManifestFile.members; m->name; m++)
            known = known || streq(m->name, member->string);
        if (!known)
            issue_add(issues, "files", member, "unknown key \"%s\"; expected name, path, real, text", member->string);
        ok = ok && known;
    }
    return ok;
}

/* NULL: answered. */
static struct putting *putting_new(struct api *a, const cJSON *body, struct api_call call)
{
    struct issues issues = ISSUES_INIT;
    const cJSON *item, *files = value_get(body, "files"), *dirs = value_get(body, "directories");
    const cJSON *dry = value_get(body, "dry_run");
    struct putting *p = xcalloc(1, sizeof(*p));
    *p = (struct putting){.api = a, .call = call, .dry_run = cJSON_IsTrue(dry)};
    p->files = xcalloc((size_t)cJSON_GetArraySize(files) + 1, sizeof(*p->files));
    p->dirs = xcalloc((size_t)cJSON_GetArraySize(dirs) + 1, sizeof(*p->dirs));
    if (!cJSON_IsArray(files))
        issue_add(&issues, "files", files, "expected a list of {name, path, text}");
    if (dry && !cJSON_IsBool(dry))
        issue_add(&issues, "dry_run", dry, "expected true or false");
    cJSON_ArrayForEach (item, files) {
        if (take_file(&p->files[p->n], item, &issues))
            p->n++;
    }
    if (take_strings(dirs, "directories", &issues)) {
        cJSON_ArrayForEach (item, dirs) {
            p->dirs[p->n_dirs++] = item->valuestring;
        }
    }
    if (issues.errors > 0) {
        api_problem_issues(call, 422, "the request is not valid", &issues);
        putting_free(p);
        p = NULL;
    }
    issues_fini(&issues);
    return p;
}

/* ---- the answer ---- */

SHAPE(ManifestChange, "What became of a resource", {"kind", "ResourceKind", NULL}, {"id", "string", NULL},
      {"result", "ChangeResult", NULL}, {"file", "string?", NULL}, {"line", "integer", NULL},
      {"from", "string?", "The name of the file that says it"}, {"before", "-string?", "Its text; with dry_run"},
      {"after", "-string?", "Its text; with dry_run"},
      {"effects", "-[string]", "What happens at runtime; with dry_run"});
SHAPE(ManifestChanges, "What became of the resources", {"resources", "[ManifestChange]", NULL},
      {"total", "integer", NULL});

static void render_change(struct buf *b, const struct putting *p, const struct put_change *c)
{
    static const char *const words[] = {
        [PUT_UNCHANGED] = "unchanged", [PUT_CREATED] = "created", [PUT_CHANGED] = "changed", [PUT_DELETED] = "deleted"};
    const struct found *f = find(p, c->kind, c->id);
    json_open(b, NULL, '{');
    json_string(b, "kind", resource_kind_name(c->kind));
    json_string(b, "id", c->id);
    json_string(b, "result", words[c->outcome]);
    json_string(b, "file", c->file);
    json_int(b, "line", c->line);
    json_string(b, "from", f ? f->file->name : NULL);
    if (p->dry_run) {
        _cleanup_(freep) char *before = hide_text(c->kind, c->file, c->before);
        _cleanup_(freep) char *after = hide_text(c->kind, f ? f->file->name : c->file, c->after);
        json_string(b, "before", before);
        json_string(b, "after", after);
        json_open(b, "effects", '[');
        if (c->outcome != PUT_UNCHANGED && c->kind == RESOURCE_TRIGGER)
            effects_of_trigger(b, p->api, c->id, f ? f->entry->trigger : NULL);
        else if (c->outcome != PUT_UNCHANGED && c->kind == RESOURCE_MCP_SERVER)
            effects_of_mcp_server(b, p->api, c->id, f ? f->entry->server : NULL);
        else if (c->outcome != PUT_UNCHANGED)
            effects_of_pipeline(b, p->api, c->id, f ? f->entry->pipeline : NULL);
        json_close(b, ']');
    }
    json_close(b, '}');
}

static void put_done(void *ctx, const struct put_set_result *result)
{
    struct putting *p = ctx;
    const struct put_result *r = &result->put;
    if (r->code == -EINVAL && r->manifest) {
        api_problem_files(p->call, 422, r->message, &r->manifest, 1);
    } else if (r->code < 0) {
        api_problem_put(p->call, r);
    } else {
        struct buf b = {0};
        json_open(&b, NULL, '{');
        json_open(&b, "resources", '[');
        for (size_t i = 0; i < result->n; i++)
            render_change(&b, p, &result->changes[i]);
        json_close(&b, ']');
        json_int(&b, "total", (int64_t)result->n);
        json_close(&b, '}');
        api_answer_text(p->call, 200, &b);
    }
    putting_free(p);
}

static void answer_errors(struct putting *p)
{
    const struct manifest **files = xcalloc(p->n, sizeof(const struct manifest *));
    for (size_t i = 0; i < p->n; i++)
        files[i] = &p->files[i].manifest;
    api_problem_files(p->call, 422, "the manifests are not valid; nothing was changed", files, p->n);
    free(files);
    putting_free(p);
}

/* By which of its names the file is below a manifest directory; NULL: it is not. */
static const char *watched_path(const struct putting *p, const struct given *f)
{
    if (f->path && reconcile_watches(p->api->reconcile, f->path))
        return f->path;
    return f->real && reconcile_watches(p->api->reconcile, f->real) ? f->real : NULL;
}

static void parsed(void *ctx)
{
    struct putting *p = ctx;
    if (p->wrong > 0) {
        answer_errors(p);
        return;
    }
    size_t n_docs = HASH_COUNT(p->found), n_wholes = 0, i = 0;
    struct put_doc *docs = xcalloc(n_docs, sizeof(*docs));
    struct put_whole *wholes = xcalloc(p->n, sizeof(*wholes));
    for (size_t k = 0; k < p->n; k++) {
        struct given *f = &p->files[k];
        const char *path = watched_path(p, f);
        if (!path)
            continue;
        wholes[n_wholes++] = (struct put_whole){.path = path, .text = f->text, .len = f->len};
        f->whole = n_wholes;
    }
    for (const struct found *f = p->found; f; f = f->hh.next) {
        const struct manifest_entry *e = f->entry;
        struct put_doc *doc = &docs[i++];
        *doc = (struct put_doc){.kind = e->kind,
                                .id = e->id,
                                .text = f->file->text + e->start,
                                .len = e->end - e->start,
                                .format = DOCUMENT_YAML,
                                .file = f->file->whole};
        document_format_by_name(f->file->name, &doc->format);
    }
    const struct put_request request = {.docs = docs,
                                        .n_docs = n_docs,
                                        .files = wholes,
                                        .n_files = n_wholes,
                                        .dirs = p->dirs,
                                        .n_dirs = p->n_dirs,
                                        .new_dir = p->api->manifest_dir,
                                        .dry_run = p->dry_run};
    reconcile_put_set(p->api->reconcile, &request, put_done, p);
    free(docs);
    free(wholes);
}

void api_put_manifests(struct api *a, const cJSON *body, struct api_call call)
{
    struct putting *p = putting_new(a, body, call);
    if (p)
        loop_work_submit(a->loop, &p->work, parse_all, parsed, p);
}

SHAPE(ManifestText, "A resource's own text", {"kind", "ResourceKind", NULL}, {"id", "string", NULL},
      {"file", "string?", NULL}, {"line", "integer", NULL}, {"text", "string", NULL});

void api_get_manifest(struct api *a, const char *kind_name, const char *id, struct api_call call)
{
    int kind = resource_kind_parse(kind_name);
    _cleanup_(freep) char *text = kind >= 0 ? reconcile_text(a->reconcile, (enum resource_kind)kind, id) : NULL;
    if (!text) {
        api_problem(call, 404, "there is no %s \"%s\"", kind_name, id);
        return;
    }
    struct buf b = {0};
    const char *file = NULL;
    unsigned line = 0;
    reconcile_source(a->reconcile, (enum resource_kind)kind, id, &file, &line);
    json_open(&b, NULL, '{');
    json_string(&b, "kind", kind_name);
    json_string(&b, "id", id);
    json_string(&b, "file", file);
    json_int(&b, "line", line);
    json_string(&b, "text", text);
    json_close(&b, '}');
    api_answer_text(call, 200, &b);
}
