/* Signatures of webhooks: what the schemes' own documentation shows, and what must not pass. */
#include "source/webhook.h"

#include "base/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include <cmocka.h>

#define NOW_S 1614265330 /* the time of Standard Webhooks' example */

struct headers {
    const char *pairs[8]; /* name, value, …, NULL */
};

static const char *header(void *ctx, const char *name)
{
    const struct headers *h = ctx;
    for (size_t i = 0; h->pairs[i]; i += 2)
        if (strcasecmp(h->pairs[i], name) == 0)
            return h->pairs[i + 1];
    return NULL;
}

static int verify(const struct webhook_signature *s, const char *secret, const char *body, int64_t now_s,
                  struct headers h)
{
    struct error err = ERROR_INIT;
    struct webhook_request r = {.header = header, .ctx = &h, .body = body, .len = strlen(body), .now_ms = now_s * 1000};
    int result = webhook_verify(s, secret, &r, &err);
    assert_true((result < 0) == (err.code < 0));
    return result;
}

static const struct webhook_signature github = {.scheme = WEBHOOK_GITHUB};
static const struct webhook_signature stripe = {.scheme = WEBHOOK_STRIPE};
static const struct webhook_signature standard = {.scheme = WEBHOOK_STANDARD};
static const struct webhook_signature plain = {.scheme = WEBHOOK_HMAC};

#define HELLO "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
#define HELLO_SECRET "It's a Secret to Everybody"

/* https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries */
static void of_github(void **state)
{
    (void)state;
    const char *secret = HELLO_SECRET, *body = "Hello, World!";
    assert_int_equal(verify(&github, secret, body, 1, (struct headers){{"X-Hub-Signature-256", "sha256=" HELLO}}), 0);
    static const char *const bad[] = {HELLO,
                                      "sha256=",
                                      "sha256=" HELLO "00",
                                      "sha1=" HELLO,
                                      "SHA256=" HELLO,
                                      "",
                                      "sha256=857107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
                                      "sha256=zz7107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(verify(&github, secret, body, 1, (struct headers){{"X-Hub-Signature-256", bad[i]}}), -EACCES);
    assert_int_equal(verify(&github, secret, body, 1, (struct headers){{NULL}}), -EACCES);
    assert_int_equal(verify(&github, "another", body, 1, (struct headers){{"X-Hub-Signature-256", "sha256=" HELLO}}),
                     -EACCES);
    assert_int_equal(
        verify(&github, secret, "Hello, World", 1, (struct headers){{"X-Hub-Signature-256", "sha256=" HELLO}}),
        -EACCES);
    assert_int_equal(verify(&github, "", body, 1, (struct headers){{"X-Hub-Signature-256", "sha256=" HELLO}}), -EINVAL);
}

static void of_any_sender(void **state)
{
    (void)state;
    const char *secret = HELLO_SECRET, *body = "Hello, World!";
    assert_int_equal(verify(&plain, secret, body, 1, (struct headers){{"X-Signature-256", HELLO}}), 0);
    assert_int_equal(verify(&plain, secret, body, 1, (struct headers){{"x-signature-256", "sha256=" HELLO}}), 0);
    assert_int_equal(verify(&plain, secret, body, 1, (struct headers){{"X-Hub-Signature-256", HELLO}}), -EACCES);
    struct webhook_signature own = {.scheme = WEBHOOK_HMAC, .header = "X-Mine", .prefix = "v0="};
    assert_int_equal(verify(&own, secret, body, 1, (struct headers){{"X-Mine", "v0=" HELLO}}), 0);
    assert_int_equal(verify(&own, secret, body, 1, (struct headers){{"X-Mine", HELLO}}), -EACCES);
    assert_true(webhook_header_is_secret(&own, "x-mine"));
    assert_false(webhook_header_is_secret(NULL, "x-mine"));
    assert_true(webhook_header_is_secret(NULL, "authorization"));
}

/* The example of https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md */
static void of_standard_webhooks(void **state)
{
    (void)state;
    const char *secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", *body = "{\"test\": 2432232314}";
    const char *good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const char *time = "1614265330", *id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
#define SIGNED(id, time, signature)                                                                                    \
    ((struct headers){{"webhook-id", id, "webhook-timestamp", time, "webhook-signature", signature}})
    assert_int_equal(verify(&standard, secret, body, NOW_S, SIGNED(id, time, good)), 0);
    _cleanup_(freep) char *two = xasprintf("v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,x %s", good);
    assert_int_equal(verify(&standard, secret, body, NOW_S, SIGNED(id, time, two)), 0);
    assert_int_equal(verify(&standard, secret, body, NOW_S + 300, SIGNED(id, time, good)), 0);
    assert_int_equal(verify(&standard, secret, body, NOW_S + 301, SIGNED(id, time, good)), -EACCES);
    assert_int_equal(verify(&standard, secret, body, NOW_S - 301, SIGNED(id, time, good)), -EACCES);
    assert_int_equal(verify(&standard, secret, body, NOW_S, SIGNED("msg_2", time, good)), -EACCES);
    assert_int_equal(verify(&standard, secret, body, NOW_S, SIGNED(id, "1614265331", good)), -EACCES);
    assert_int_equal(verify(&standard, secret, body, NOW_S, SIGNED(id, "1614265330 ", good)), -EACCES);
    assert_int_equal(verify(&standard, secret, body, NOW_S, SIGNED(id, time, good + 3)), -EACCES);
    assert_int_equal(verify(&standard, secret, body, NOW_S, SIGNED(id, time, "v1,")), -EACCES);
    assert_int_equal(verify(&standard, secret, body, NOW_S, SIGNED(id, time, "v1,====")), -EACCES);
    assert_int_equal(verify(&standard, "whsec_", body, NOW_S, SIGNED(id, time, good)), -EINVAL);
    assert_int_equal(verify(&standard, "whsec_!!!!", body, NOW_S, SIGNED(id, time, good)), -EINVAL);
    struct headers none = {{"webhook-id", id, "webhook-timestamp", time}};
    assert_int_equal(verify(&standard, secret, body, NOW_S, none), -EACCES);
}

/* HMAC-SHA256 of `1614265330.{"id":"evt_1"}` with the secret whsec_test_secret, as openssl dgst gives it. */
#define STRIPE_V1 "e135cdbed3dda004bf8a2fb350f2541d299393c770e0b9e6e319dc595e9072aa"

static void of_stripe(void **state)
{
    (void)state;
    const char *secret = "whsec_test_secret", *body = "{\"id\":\"evt_1\"}";
    _cleanup_(freep) char *good = xasprintf("t=1614265330,v1=%s", STRIPE_V1);
    _cleanup_(freep) char *rotated = xasprintf("t=1614265330,v1=%s,v1=%s,v0=abc", HELLO, STRIPE_V1);
    _cleanup_(freep) char *other_time = xasprintf("t=1614265331,v1=%s", STRIPE_V1);
    _cleanup_(freep) char *old_scheme = xasprintf("t=1614265330,v0=%s", STRIPE_V1);
    assert_int_equal(verify(&stripe, secret, body, NOW_S, (struct headers){{"Stripe-Signature", good}}), 0);
    assert_int_equal(verify(&stripe, secret, body, NOW_S, (struct headers){{"Stripe-Signature", rotated}}), 0);
    assert_int_equal(verify(&stripe, secret, body, NOW_S + 301, (struct headers){{"Stripe-Signature", good}}), -EACCES);
    const char *bad[] = {other_time,
                         old_scheme,
                         "",
                         "t=1614265330",
                         "v1=" STRIPE_V1,
                         "t=,v1=" STRIPE_V1,
                         "t=99999999999999999999999,v1=" STRIPE_V1};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(verify(&stripe, secret, body, NOW_S, (struct headers){{"Stripe-Signature", bad[i]}}), -EACCES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_github),
        cmocka_unit_test(of_any_sender),
        cmocka_unit_test(of_standard_webhooks),
        cmocka_unit_test(of_stripe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
