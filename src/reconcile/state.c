/* What survives a restart, in scope `manifest` of the store:
 *   `trigger/ID`, `pipeline/ID`   {"file", "line", "text", "dev", "ino"}: which file owns it, its last good text, and
 * the device and number of the manifest directory that it was read from
 */
#include "reconcile/internal.h"

#include "base/log.h"

#include <errno.h>

#define SCOPE "manifest"
#define BATCH_BYTES ((size_t)1 << 20)

static void load_resource(struct reconcile *r, enum resource_kind kind, const char *id, const cJSON *value)
{
    const char *file = value_get_string(value, "file"), *text = value_get_string(value, "text");
    int64_t line = 0, dev = 0, ino = 0;
    if (!file || file[0] != '/' || !text)
        return;
    value_integer(value_get(value, "line"), &line);
    value_integer(value_get(value, "dev"), &dev);
    value_integer(value_get(value, "ino"), &ino);
    struct resource *res = resource_get(r, kind, id);
    resource_copy_text(res, text, strlen(text));
    res->line = (unsigned)line;
    res->dev = (uint64_t)dev;
    res->ino = (uint64_t)ino;
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

void state_put(struct state_batch *b, const struct resource *res)
{
    _cleanup_(cjson_deletep) cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "file", res->owner->path);
    cJSON_AddItemToObject(o, "line", value_number_from_int(res->line));
    _cleanup_(freep) char *own = xstrndup(res->text, res->len);
    cJSON_AddStringToObject(o, "text", own);
    cJSON_AddItemToObject(o, "dev", value_number_from_int((int64_t)res->dev));
    cJSON_AddItemToObject(o, "ino", value_number_from_int((int64_t)res->ino));
    _cleanup_(freep) char *text = value_print(o);
    size_t len = strlen(text);
    store_add_kv_put(group_of(b, len), SCOPE, res->key, strlen(res->key), text, len);
}

void state_delete(struct state_batch *b, const struct resource *res)
{
    store_add_kv_delete(group_of(b, 0), SCOPE, res->key, strlen(res->key));
}

void state_submit(struct state_batch *b)
{
    if (b->group)
        b->r->store->submit(b->r->store, b->group);
    b->group = NULL;
    b->bytes = 0;
}
