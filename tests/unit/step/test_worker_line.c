/* What is spoken with workers: requests as they are printed, answers as they are understood, lines however they come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "step/worker_line.h"

#include <errno.h>

static void requests(void **state)
{
    (void)state;
    struct buf b = {0};
    struct worker_request r = {.id = 7,
                               .run_id = "run_1",
                               .step = "a\"b",
                               .attempt = 2,
                               .idempotency_key = "run_1/s",
                               .traceparent = "",
                               .inputs_text = "{\"n\":\n12345678901234567890}"};
    worker_request_print(&r, &b);
    assert_string_equal(b.data, "{\"id\":7,\"run_id\":\"run_1\",\"step\":\"a\\\"b\",\"attempt\":2,\"idempotency_key\":"
                                "\"run_1/s\",\"inputs\":{\"n\": 12345678901234567890}}\n");
    b.len = 0;
    r.traceparent = "00-x";
    worker_request_print(&r, &b);
    assert_non_null(strstr(b.data, ",\"traceparent\":\"00-x\",\"inputs\":"));
    buf_fini(&b);
}

static void parse(const char *text, int64_t id, const char *output, const char *error)
{
    struct worker_answer a = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(worker_answer_parse(text, strlen(text), &a, &err), 0);
    assert_int_equal(a.id, id);
    _cleanup_(freep) char *printed = a.output ? value_print(a.output) : NULL;
    assert_true(streq(printed, output));
    assert_true(streq(a.error, error));
    worker_answer_fini(&a);
}

static void answers(void **state)
{
    (void)state;
    parse("{\"id\":1,\"output\":{\"a\":[1.50]},\"other\":1}", 1, "{\"a\":[1.50]}", NULL);
    parse(" {\"output\":null,\"id\":2} \r", 2, "null", NULL);
    parse("{\"id\":3,\"output\":1,\"error\":null}", 3, "1", NULL);
    parse("{\"id\":4,\"output\":1,\"error\":\"no\"}", 4, NULL, "no");
    parse("{\"id\":5,\"error\":{\"code\":1}}", 5, NULL, "{\"code\":1}");
}

static void no_answers(void **state)
{
    (void)state;
    static const char *const bad[][2] = {{"", "no answer"},
                                         {"hello", "\"hello\""},
                                         {"[]", "no object"},
                                         {"{\"id\":1}", "neither"},
                                         {"{\"output\":1}", "no `id`"},
                                         {"{\"id\":\"1\",\"output\":1}", "`id`"},
                                         {"{\"id\":1.5,\"output\":1}", "`id`"},
                                         {"{\"id\":1,\"error\":null}", "neither"},
                                         {"{\"id\":1,\"id\":1,\"output\":1}", "no answer"},
                                         {"{\"id\":1,\"output\":1} x", "no answer"}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct worker_answer a;
        struct error err = ERROR_INIT;
        assert_int_equal(worker_answer_parse(bad[i][0], strlen(bad[i][0]), &a, &err), -EINVAL);
        assert_non_null(strstr(err.message, bad[i][1]));
    }
}

static void long_errors_are_cut(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_adds(&b, "{\"id\":1,\"error\":\"");
    for (size_t i = 0; i < WORKER_ERROR_MAX; i++)
        buf_adds(&b, "ä");
    buf_adds(&b, "\"}");
    struct worker_answer a;
    assert_int_equal(worker_answer_parse(b.data, b.len, &a, NULL), 0);
    assert_true(strlen(a.error) <= WORKER_ERROR_MAX + 3);
    assert_true(utf8_valid(a.error, strlen(a.error)));
    worker_answer_fini(&a);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),
        cmocka_unit_test(answers),
        cmocka_unit_test(no_answers),
        cmocka_unit_test(long_errors_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
