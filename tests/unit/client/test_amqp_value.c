/* AMQP's tables as JSON and back. */
#include "base/util.h"
#include "client/amqp.h"
#include "model/value.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void check_json(amqp_field_value_t v, const char *expected)
{
    amqp_table_entry_t e = {rabbit_bytes("k"), v};
    amqp_table_t t = {1, &e};
    cJSON *o = rabbit_to_json(&t);
    char *text = value_print(o), *whole = xasprintf("{\"k\":%s}", expected);
    assert_string_equal(text, whole);
    free(text);
    free(whole);
    cJSON_Delete(o);
}

#define CHECK(kind_, member, v, expected)                                                                              \
    check_json((amqp_field_value_t){.kind = AMQP_FIELD_KIND_##kind_, .value.member = (v)}, expected)

static void test_to_json(void **state)
{
    (void)state;
    CHECK(BOOLEAN, boolean, 1, "true");
    CHECK(I8, i8, -128, "-128");
    CHECK(U8, u8, 255, "255");
    CHECK(I16, i16, -32768, "-32768");
    CHECK(U16, u16, 65535, "65535");
    CHECK(I32, i32, INT32_MIN, "-2147483648");
    CHECK(U32, u32, UINT32_MAX, "4294967295");
    CHECK(I64, i64, INT64_MIN, "-9223372036854775808");
    CHECK(U64, u64, UINT64_MAX, "18446744073709551615");
    CHECK(TIMESTAMP, u64, 1700000000, "1700000000");
    CHECK(F32, f32, 0.5F, "0.5");
    CHECK(F64, f64, 0.1, "0.1");
    CHECK(F64, f64, NAN, "null");
    CHECK(DECIMAL, decimal, ((amqp_decimal_t){2, 12345}), "12345e-2");
    CHECK(DECIMAL, decimal, ((amqp_decimal_t){0, 7}), "7");
    CHECK(UTF8, bytes, rabbit_bytes("a \"text\""), "\"a \\\"text\\\"\"");
    CHECK(BYTES, bytes,
          ((amqp_bytes_t){4, "a\0\xff"
                             "b"}),
          "\"a\xEF\xBF\xBD\xEF\xBF\xBD"
          "b\"");
    CHECK(VOID, u8, 0, "null");

    amqp_field_value_t items[] = {{.kind = AMQP_FIELD_KIND_I32, .value.i32 = 1},
                                  {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = rabbit_bytes("x")}};
    CHECK(ARRAY, array, ((amqp_array_t){2, items}), "[1,\"x\"]");
    CHECK(ARRAY, array, ((amqp_array_t){0, NULL}), "[]");
    amqp_table_entry_t twice[] = {{rabbit_bytes("a"), items[0]}, {rabbit_bytes("a"), items[1]}};
    CHECK(TABLE, table, ((amqp_table_t){2, twice}), "{\"a\":\"x\"}");
}

/* What somebody sends is no deeper here than an event may be. */
static void test_depth(void **state)
{
    (void)state;
    static amqp_field_value_t levels[10000];
    static amqp_table_entry_t entries[ARRAY_SIZE(levels)];
    levels[0] = (amqp_field_value_t){.kind = AMQP_FIELD_KIND_I32, .value.i32 = 1};
    for (size_t i = 1; i < ARRAY_SIZE(levels); i++) {
        entries[i] = (amqp_table_entry_t){rabbit_bytes("k"), levels[i - 1]};
        levels[i].kind = i % 2 ? AMQP_FIELD_KIND_TABLE : AMQP_FIELD_KIND_ARRAY;
        if (i % 2)
            levels[i].value.table = (amqp_table_t){1, &entries[i]};
        else
            levels[i].value.array = (amqp_array_t){1, &levels[i - 1]};
    }
    amqp_table_entry_t outer = {rabbit_bytes("k"), levels[ARRAY_SIZE(levels) - 1]};
    amqp_table_t t = {1, &outer};
    cJSON *o = rabbit_to_json(&t);
    size_t depth = 0;
    for (const cJSON *v = o; v; v = v->child)
        depth++;
    assert_true(depth > 8 && depth <= VALUE_DEPTH_MAX / 2);
    cJSON_Delete(o);
}

static void check_back(const char *text)
{
    cJSON *o;
    amqp_table_t t;
    void *memory;
    assert_int_equal(value_parse(text, strlen(text), &o, NULL), 0);
    assert_int_equal(rabbit_from_json(o, &t, &memory, NULL), 0);
    cJSON *again = rabbit_to_json(&t);
    assert_true(value_equal(o, again));
    cJSON_Delete(again);
    cJSON_Delete(o);
    free(memory);
}

static int check_refused(const char *text, struct error *err)
{
    cJSON *o;
    amqp_table_t t;
    void *memory;
    assert_int_equal(value_parse(text, strlen(text), &o, NULL), 0);
    int r = rabbit_from_json(o, &t, &memory, err);
    cJSON_Delete(o);
    return r;
}

static void test_from_json(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    check_back("{}");
    check_back(
        "{\"x-queue-type\":\"quorum\",\"x-max-length\":10,\"x-a\":[1,[],[2.5,null,{\"b\":{}}],\"t\"],\"x-b\":false}");
    check_back("{\"n\":9223372036854775807,\"m\":-9223372036854775808,\"d\":1e300}");
    check_back("{\"a\":{\"b\":{\"c\":[{\"d\":1},{\"e\":2}]}},\"f\":[[[1],2],3]}");
    assert_int_equal(check_refused("{\"a\":[{\"far\":1e400}]}", &err), -EINVAL);
    assert_non_null(strstr(err.message, "\"far\""));

    char name[300];
    memset(name, 'n', 256);
    name[256] = '\0';
    char *text = xasprintf("{\"%s\":1}", name);
    assert_int_equal(check_refused(text, &err), -EINVAL);
    free(text);
    text = xasprintf("{\"%s\":1}", name + 1);
    check_back(text);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_json),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_from_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
