/* The values of AMQP's tables as JSON, and back. */
#include "client/amqp.h"

#include "base/util.h"
#include "model/value.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define DEPTH_MAX 32 /* an event has a bound on it as well */

static cJSON *table_to_json(const amqp_table_t *t, int depth);
static cJSON *to_json(const amqp_field_value_t *v, int depth);

static cJSON *number(const char *format, uint64_t n)
{
    char text[24];
    snprintf(text, sizeof(text), format, n);
    return value_number_from_text(text, strlen(text));
}

static cJSON *real(double d)
{
    return isfinite(d) ? value_number_from_double(d) : cJSON_CreateNull();
}

/* Not as a double: it is there because somebody wants its digits. */
static cJSON *decimal(const amqp_decimal_t *d)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%" PRIu32 "e-%u", d->value, (unsigned)d->decimals);
    return value_number_from_text(text, d->decimals > 0 ? (size_t)n : strcspn(text, "e"));
}

static cJSON *array(const amqp_array_t *a, int depth)
{
    cJSON *v = cJSON_CreateArray();
    for (int i = 0; i < a->num_entries; i++)
        cJSON_AddItemToArray(v, to_json(&a->entries[i], depth));
    return v;
}

static cJSON *to_json(const amqp_field_value_t *v, int depth)
{
    switch (v->kind) {
    case AMQP_FIELD_KIND_BOOLEAN:
        return cJSON_CreateBool(v->value.boolean);
    case AMQP_FIELD_KIND_I8:
        return value_number_from_int(v->value.i8);
    case AMQP_FIELD_KIND_U8:
        return value_number_from_int(v->value.u8);
    case AMQP_FIELD_KIND_I16:
        return value_number_from_int(v->value.i16);
    case AMQP_FIELD_KIND_U16:
        return value_number_from_int(v->value.u16);
    case AMQP_FIELD_KIND_I32:
        return value_number_from_int(v->value.i32);
    case AMQP_FIELD_KIND_U32:
        return value_number_from_int(v->value.u32);
    case AMQP_FIELD_KIND_I64:
        return value_number_from_int(v->value.i64);
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        return number("%" PRIu64, v->value.u64);
    case AMQP_FIELD_KIND_F32:
        return real(v->value.f32);
    case AMQP_FIELD_KIND_F64:
        return real(v->value.f64);
    case AMQP_FIELD_KIND_DECIMAL:
        return decimal(&v->value.decimal);
    case AMQP_FIELD_KIND_UTF8:
    case AMQP_FIELD_KIND_BYTES:
        return value_from_bytes(v->value.bytes.bytes, v->value.bytes.len);
    case AMQP_FIELD_KIND_ARRAY:
        return depth < DEPTH_MAX ? array(&v->value.array, depth + 1) : cJSON_CreateNull();
    case AMQP_FIELD_KIND_TABLE:
        return depth < DEPTH_MAX ? table_to_json(&v->value.table, depth + 1) : cJSON_CreateNull();
    default:
        return cJSON_CreateNull();
    }
}

static cJSON *table_to_json(const amqp_table_t *t, int depth)
{
    cJSON *o = cJSON_CreateObject();
    for (int i = 0; i < t->num_entries; i++) {
        const amqp_bytes_t *key = &t->entries[i].key;
        cJSON *name = value_from_bytes(key->bytes, key->len);
        value_set(o, name->valuestring, to_json(&t->entries[i].value, depth));
        cJSON_Delete(name);
    }
    return o;
}

cJSON *rabbit_to_json(const amqp_table_t *t)
{
    return table_to_json(t, 1);
}

/* ---- back ---- */

struct pieces {
    amqp_table_entry_t *entries;
    amqp_field_value_t *values;
};

static void count(const cJSON *v, size_t *entries, size_t *values)
{
    const cJSON *e;
    cJSON_ArrayForEach (e, v) {
        ++*(cJSON_IsObject(v) ? entries : values);
        count(e, entries, values);
    }
}

static int from_json(const cJSON *v, struct pieces *p, amqp_field_value_t *ret, struct error *err);

static int from_object(const cJSON *o, struct pieces *p, amqp_table_t *ret, struct error *err)
{
    const cJSON *e;
    int n = cJSON_GetArraySize(o), i = 0, r;
    amqp_table_entry_t *entries = p->entries;
    p->entries += n;
    *ret = (amqp_table_t){n, entries};
    cJSON_ArrayForEach (e, o) {
        entries[i].key = rabbit_bytes(e->string);
        if (entries[i].key.len > 255)
            return error_set(err, -EINVAL, "\"%.40s…\": a name has at most 255 bytes", e->string);
        if ((r = from_json(e, p, &entries[i++].value, err)) < 0)
            return r;
    }
    return 0;
}

static int from_array(const cJSON *a, struct pieces *p, amqp_array_t *ret, struct error *err)
{
    const cJSON *e;
    int n = cJSON_GetArraySize(a), i = 0, r;
    amqp_field_value_t *values = p->values;
    p->values += n;
    *ret = (amqp_array_t){n, values};
    cJSON_ArrayForEach (e, a)
        if ((r = from_json(e, p, &values[i++], err)) < 0)
            return r;
    return 0;
}

static int from_json(const cJSON *v, struct pieces *p, amqp_field_value_t *ret, struct error *err)
{
    if (cJSON_IsObject(v)) {
        ret->kind = AMQP_FIELD_KIND_TABLE;
        return from_object(v, p, &ret->value.table, err);
    }
    if (cJSON_IsArray(v)) {
        ret->kind = AMQP_FIELD_KIND_ARRAY;
        return from_array(v, p, &ret->value.array, err);
    }
    if (cJSON_IsString(v)) {
        ret->kind = AMQP_FIELD_KIND_UTF8;
        ret->value.bytes = rabbit_bytes(v->valuestring);
    } else if (cJSON_IsBool(v)) {
        ret->kind = AMQP_FIELD_KIND_BOOLEAN;
        ret->value.boolean = cJSON_IsTrue(v);
    } else if (value_is_number(v) && value_integer(v, &ret->value.i64)) {
        ret->kind = AMQP_FIELD_KIND_I64;
    } else if (value_is_number(v)) {
        ret->kind = AMQP_FIELD_KIND_F64;
        ret->value.f64 = v->valuedouble;
        if (!isfinite(v->valuedouble))
            return error_set(err, -EINVAL, "\"%s\": the number is too large", v->string ? v->string : "");
    } else {
        ret->kind = AMQP_FIELD_KIND_VOID;
    }
    return 0;
}

int rabbit_from_json(const cJSON *o, amqp_table_t *ret, void **ret_memory, struct error *err)
{
    size_t entries = 0, values = 0;
    amqp_table_t t;
    count(o, &entries, &values);
    char *memory = xcalloc(1, entries * sizeof(amqp_table_entry_t) + values * sizeof(amqp_field_value_t) + 1);
    struct pieces p = {(amqp_table_entry_t *)memory, NULL};
    p.values = (amqp_field_value_t *)(void *)(p.entries + entries);
    int r = from_object(o, &p, &t, err);
    if (r < 0) {
        free(memory);
        return r;
    }
    *ret = t;
    *ret_memory = memory;
    return 0;
}
