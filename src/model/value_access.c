/* Access to trees, and equality. */
#include "model/value_internal.h"

#include <errno.h>

cJSON *value_getn(const cJSON *v, const char *key, size_t len)
{
    if (!v || !(v->type & cJSON_Object))
        return NULL;
    for (cJSON *m = v->child; m; m = m->next)
        if (m->string && strncmp(m->string, key, len) == 0 && strlen(m->string) == len)
            return m;
    return NULL;
}

cJSON *value_get(const cJSON *v, const char *key)
{
    if (!v || !(v->type & cJSON_Object))
        return NULL;
    for (cJSON *m = v->child; m; m = m->next)
        if (m->string && strcmp(m->string, key) == 0)
            return m;
    return NULL;
}

const char *value_get_string(const cJSON *v, const char *key)
{
    const cJSON *m = value_get(v, key);
    return m && (m->type & cJSON_String) ? m->valuestring : NULL;
}

void value_set(cJSON *object, const char *key, cJSON *item)
{
    cJSON *old = value_get(object, key);
    char *name = xstrdup(key);
    if (item->string && !(item->type & cJSON_StringIsConst))
        free(item->string);
    item->type &= ~cJSON_StringIsConst;
    item->string = name;
    if (old)
        cJSON_ReplaceItemViaPointer(object, old, item);
    else
        cJSON_AddItemToArray(object, item); /* leaves the name as it is */
}

cJSON *value_string(const char *text)
{
    if (!text)
        return value_node(cJSON_NULL);
    cJSON *v = value_node(cJSON_String);
    v->valuestring = xstrdup(text);
    return v;
}

cJSON *value_from_bytes(const char *data, size_t len)
{
    struct buf b = {0};
    buf_reserve(&b, len);
    for (size_t i = 0; i < len;) {
        size_t n = utf8_sequence(data + i, len - i);
        if (n == 0 || data[i] == '\0') {
            buf_adds(&b, "\xEF\xBF\xBD");
            i++;
        } else {
            buf_add(&b, data + i, n);
            i += n;
        }
    }
    buf_addc(&b, '\0');
    cJSON *v = cJSON_CreateString("");
    free(v->valuestring); /* a copy would be one more MiB for a moment */
    v->valuestring = buf_steal(&b);
    return v;
}

const char *value_type_name(const cJSON *v)
{
    switch (v ? v->type & 0xFF : cJSON_NULL) {
    case cJSON_Object:
        return "object";
    case cJSON_Array:
        return "array";
    case cJSON_String:
        return "string";
    case cJSON_Number:
    case cJSON_Raw:
        return "number";
    case cJSON_True:
    case cJSON_False:
        return "boolean";
    default:
        return "null";
    }
}

/* ---- equality ---- */

static bool spend(uint64_t *steps, size_t n)
{
    if (*steps < n)
        return false;
    *steps -= n;
    return true;
}

static int string_equal(const char *a, const char *b, uint64_t *steps)
{
    enum { CHUNK = 64 };
    for (;; a += CHUNK, b += CHUNK) {
        if (!spend(steps, 1))
            return -E2BIG;
        if (strncmp(a, b, CHUNK) != 0)
            return 0;
        if (strnlen(a, CHUNK) < CHUNK)
            return 1;
    }
}

static int number_equal(const cJSON *a, const cJSON *b, uint64_t *steps)
{
    size_t bytes =
        (a->type & cJSON_Raw ? strlen(a->valuestring) : 0) + (b->type & cJSON_Raw ? strlen(b->valuestring) : 0);
    if (!spend(steps, 1 + bytes / 16))
        return -E2BIG;
    return value_number_compare(a, b) == 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

static const cJSON **sorted_members(const cJSON *m, size_t n)
{
    const cJSON **out = xreallocarray(NULL, n, sizeof(*out));
    for (size_t i = 0; i < n; i++, m = m->next)
        out[i] = m;
    qsort(out, n, sizeof(*out), by_key);
    return out;
}

/* Members in different orders: `n` of them from a and from b on. */
static int members_equal_sorted(const cJSON *a, const cJSON *b, size_t n, uint64_t *steps)
{
    if (!spend(steps, 8 * n))
        return -E2BIG;
    _cleanup_(freep) const cJSON **x = sorted_members(a, n);
    _cleanup_(freep) const cJSON **y = sorted_members(b, n);
    int r = 1;
    for (size_t i = 0; i < n && r > 0; i++) {
        r = string_equal(x[i]->string, y[i]->string, steps);
        if (r > 0)
            r = value_equal_within(x[i], y[i], steps);
    }
    return r;
}

static int objects_equal(const cJSON *a, const cJSON *b, uint64_t *steps)
{
    const cJSON *m = a->child, *n = b->child;
    size_t members = 0;
    for (; m && n; m = m->next, n = n->next)
        members++;
    if (!spend(steps, 1 + members / 4))
        return -E2BIG;
    if (m || n)
        return 0;
    m = a->child;
    n = b->child;
    for (; m; m = m->next, n = n->next, members--) {
        int r = string_equal(m->string, n->string, steps);
        if (r < 0)
            return r;
        if (r == 0)
            return members_equal_sorted(m, n, members, steps);
        r = value_equal_within(m, n, steps);
        if (r <= 0)
            return r;
    }
    return 1;
}

int value_equal_within(const cJSON *a, const cJSON *b, uint64_t *steps)
{
    if (!spend(steps, 1))
        return -E2BIG;
    if (!a || !b || a == b)
        return a == b;
    if (value_is_number(a) && value_is_number(b))
        return number_equal(a, b, steps);
    if ((a->type & 0xFF) != (b->type & 0xFF))
        return 0;
    if (a->type & cJSON_String)
        return string_equal(a->valuestring, b->valuestring, steps);
    if (a->type & cJSON_Object)
        return objects_equal(a, b, steps);
    if (!(a->type & cJSON_Array))
        return 1;
    const cJSON *x = a->child, *y = b->child;
    for (; x && y; x = x->next, y = y->next) {
        int r = value_equal_within(x, y, steps);
        if (r <= 0)
            return r;
    }
    return x == y;
}

bool value_equal(const cJSON *a, const cJSON *b)
{
    uint64_t steps = UINT64_MAX;
    return value_equal_within(a, b, &steps) > 0;
}
