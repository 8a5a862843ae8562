/* What survives a restart, in scope `manifest` of the store:
 *   `trigger/ID`, `pipeline/ID`   {"file", "line", "text"}: which file owns it, and its last good text
 *   `dir/PATH`                    {"dev"}: the device that its resources came from
 */
#include "reconcile/internal.h"

#include "base/log.h"

#include <errno.h>

#define SCOPE "manifest"
#define BATCH_BYTES ((size_t)1 << 20)

static void load_dir(struct reconcile *r, const char *path, const cJSON *value)
{
    for (size_t i = 0; i < r->n_dirs; i++) {
        int64_t dev;
        if (streq(r->dirs[i].path, path) && value_integer(value_get(value, "dev"), &dev)) {
            r->dirs[i].dev_known = true;
            r->dirs[i].known_dev = (uint64_t)dev;
        }
    }
}

static void load_resource(struct reconcile *r, enum resource_kind kind, const char *id, const cJSON *value)
{
    const char *file = value_get_string(value, "file"), *text = value_get_string(value, "text");
    int64_t line = 0;
    if (!file || file[0] != '/' || !text)
        return;
    value_integer(value_get(value, "line"), &line);
    struct resource *res = resource_get(r, kind, id);
    free(res->text);
    res->text = xstrdup(text);
    res->len = strlen(text);
    res->line = (unsigned)line;
    resource_own(res, file_get(r, file));
    resource_touch(r, res);
}

static int load_row(void *ctx, const char *key, size_t key_len, const char *value, size_t value_len)
{
    struct reconcile *r = ctx;
    _cleanup_(freep) char *name = xstrndup(key, key_len);
    _cleanup_(cjson_deletep) cJSON *v = NULL;
    char *slash = strchr(name, '/');
    if (!slash || value_parse(value, value_len, &v, NULL) < 0) {
        log_warning(AREA, "what was kept of \"%s\" cannot be read", name);
        return 0;
    }
    *slash = '\0';
    int kind = resource_kind_parse(name);
    if (kind >= 0)
        load_resource(r, (enum resource_kind)kind, slash + 1, v);
    else if (streq(name, "dir"))
        load_dir(r, slash + 1, v);
    return 0;
}

int state_load(struct reconcile *r, struct error *err)
{
    return r->store->load_kv(r->store, SCOPE, load_row, r, err);
}

/* ---- writing: kept in order by the store when its disk is full ---- */

static void written(struct store_group *g, int result)
{
    if (result < 0 && result != -ESHUTDOWN)
        log_error(AREA, "the state of manifests could not be recorded: %s", strerror(-result));
    store_group_free(g);
}

static struct store_group *group_of(struct state_batch *b, size_t bytes)
{
    if (b->group && b->bytes + bytes > BATCH_BYTES)
        state_submit(b);
    if (!b->group)
        b->group = store_group_new(STORE_LAZY | STORE_KEEP, written, NULL);
    b->bytes += bytes;
    return b->group;
}

static void put_json(struct state_batch *b, const char *key, const cJSON *o)
{
    _cleanup_(freep) char *text = value_print(o);
    size_t len = strlen(text);
    store_add_kv_put(group_of(b, len), SCOPE, key, strlen(key), text, len);
}

void state_put(struct state_batch *b, const struct resource *res)
{
    _cleanup_(cjson_deletep) cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "file", res->owner->path);
    cJSON_AddItemToObject(o, "line", value_number_from_int(res->line));
    cJSON_AddStringToObject(o, "text", res->text);
    put_json(b, res->key, o);
}

void state_delete(struct state_batch *b, const struct resource *res)
{
    store_add_kv_delete(group_of(b, 0), SCOPE, res->key, strlen(res->key));
}

void state_put_dir(struct state_batch *b, const struct dir *d)
{
    _cleanup_(cjson_deletep) cJSON *o = cJSON_CreateObject();
    _cleanup_(freep) char *key = xasprintf("dir/%s", d->path);
    cJSON_AddItemToObject(o, "dev", value_number_from_int((int64_t)d->known_dev));
    put_json(b, key, o);
}

void state_submit(struct state_batch *b)
{
    if (b->group)
        b->r->store->submit(b->r->store, b->group);
    b->group = NULL;
    b->bytes = 0;
}
