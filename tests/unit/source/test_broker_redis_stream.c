/* Streams and channels against a real server: groups, what is pending and for whom, counts of deliveries, losses. */
#include "redis_rig.h"

static struct rig r;

static int setup(void **state)
{
    (void)state;
    rig_init(&r, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_fini(&r);
    return 0;
}

#define STREAM "\"queue_name\": \"log\", \"redis_mode\": \"stream\", \"consumer_group\": \"g\""

static void add(const char *id)
{
    say(&r, "XADD log %s body %s", id, id);
}

static long long pending(void)
{
    redisReply *reply = ask(&r, "XPENDING log g");
    long long n = reply->element[0]->integer;
    freeReplyObject(reply);
    return n;
}

/* How often the server has delivered it, and to whom; 0: it is not pending. */
static long long deliveries(const char *id, char *consumer)
{
    redisReply *reply = ask(&r, "XPENDING log g %s %s 1", id, id);
    long long n = reply->elements == 1 ? reply->element[0]->element[3]->integer : 0;
    if (consumer)
        snprintf(consumer, 32, "%s", n ? reply->element[0]->element[1]->str : "");
    freeReplyObject(reply);
    return n;
}

static struct message *held(const char *id)
{
    struct message *m;
    DL_FOREACH (r.host.held, m)
        if (streq(m->id, id))
            return m;
    fail_msg("%s is not held", id);
    return NULL;
}

static void test_a_group_is_made(void **state)
{
    (void)state;
    add("1-1");
    broker_begin(&r, "{" STREAM "}"); /* latest */
    add("2-1");
    rig_until(&r, r.host.n_held == 1);
    assert_string_equal(r.host.held->id, "2-1");
    assert_string_equal(r.host.held->body, "2-1");
    assert_string_equal(r.host.held->queue, "log");
    assert_int_equal(r.host.held->deliveries, 1);
    broker_end(&r);
    say(&r, "XGROUP DESTROY log g");
    broker_begin(&r, "{" STREAM ", \"start\": \"earliest\"}");
    rig_until(&r, r.host.n_held == 2);
    broker_end(&r);
    broker_begin(&r, "{\"queue_name\": \"new\", \"redis_mode\": \"stream\"}"); /* a stream that is not there yet */
    assert_int_equal(count(&r, "XLEN new"), 0);
    redisReply *groups = ask(&r, "XINFO GROUPS new");
    assert_string_equal(groups->element[0]->element[1]->str, "triggerd-t1");
    freeReplyObject(groups);
}

static void test_bodies(void **state)
{
    (void)state;
    broker_begin(&r, "{" STREAM "}");
    say(&r, "XADD log 1-1 a 1 b two a 3");
    say(&r, "XADD log 1-2 body {\"x\":1} traceparent 00-ab");
    say(&r, "XADD log 1-3 bin %b", "\xff\0", (size_t)2);
    rig_until(&r, r.host.n_held == 3);
    assert_string_equal(held("1-1")->body, "{\"b\":\"two\",\"a\":\"3\"}");
    assert_null(held("1-1")->headers);
    assert_string_equal(held("1-2")->body, "{\"x\":1}");
    assert_string_equal(held("1-2")->headers, "{\"traceparent\":\"00-ab\"}");
    assert_string_equal(held("1-3")->body, "{\"bin_base64\":\"/wA=\"}");
}

static void test_acknowledged(void **state)
{
    (void)state;
    broker_begin(&r, "{" STREAM ", \"prefetch\": 3}");
    for (int i = 0; i < 5; i++)
        say(&r, "XADD log %d-1 body x", i + 1);
    rig_until(&r, r.host.n_held == 3);
    rig_pass(&r, 50);
    assert_int_equal(pending(), 3);
    rig_settle(&r, held("2-1"), QUEUE_DONE);
    rig_until(&r, r.host.n_held == 3);
    assert_int_equal(deliveries("2-1", NULL), 0);
    while (r.host.held)
        rig_settle(&r, r.host.held, QUEUE_DONE);
    rig_until(&r, r.host.n_held == 1);
    rig_settle(&r, r.host.held, QUEUE_DONE);
    rig_until(&r, pending() == 0);
    assert_int_equal(r.host.max_held, 3);
}

static void test_ends_of_an_entry(void **state)
{
    (void)state;
    broker_begin(&r, "{" STREAM "}");
    add("1-1");
    add("2-1");
    say(&r, "XADD log 3-1 body x extra %b", "\0\1", (size_t)2);
    rig_until(&r, r.host.n_held == 3);
    rig_settle(&r, held("1-1"), QUEUE_AGAIN);
    rig_until(&r, r.host.n_held == 3);
    assert_int_equal(held("1-1")->deliveries, 2);
    assert_int_equal(deliveries("1-1", NULL), 2);
    rig_settle(&r, held("3-1"), QUEUE_DEAD_LETTER);
    rig_until(&r, count(&r, "XLEN log.dead") == 1);
    assert_int_equal(deliveries("3-1", NULL), 0);
    redisReply *dead = ask(&r, "XRANGE log.dead - +");
    const redisReply *fields = dead->element[0]->element[1];
    assert_int_equal(fields->elements, 4);
    assert_string_equal(fields->element[1]->str, "x");
    assert_int_equal(fields->element[3]->len, 2);
    freeReplyObject(dead);
    broker_redis.pause(r.broker);
    rig_settle(&r, held("2-1"), QUEUE_BACK);
    rig_pass(&r, 50);
    assert_int_equal(r.host.n_held, 1);
    broker_redis.resume(r.broker);
    rig_until(&r, r.host.n_held == 2);
    assert_int_equal(held("2-1")->deliveries, 1); /* it does not count */
    say(&r, "XDEL log 2-1");
    rig_settle(&r, held("2-1"), QUEUE_AGAIN); /* there is nothing to deliver any more */
    rig_until(&r, pending() == 1);
    assert_int_equal(r.host.n_held, 1);
}

static void test_an_earlier_life(void **state)
{
    (void)state;
    say(&r, "XGROUP CREATE log g 0 MKSTREAM");
    for (int i = 0; i < 250; i++)
        say(&r, "XADD log %d-1 body x", i + 1);
    say(&r, "XREADGROUP GROUP g node-1 COUNT 230 STREAMS log >");
    say(&r, "XDEL log 7-1");
    broker_begin(&r, "{" STREAM ", \"prefetch\": 1000}");
    rig_until(&r, r.host.n_held == 249);
    assert_int_equal(held("1-1")->deliveries, 2);
    assert_int_equal(held("230-1")->deliveries, 2);
    assert_int_equal(held("231-1")->deliveries, 1);
    assert_int_equal(pending(), 249);
}

static void test_what_a_dead_consumer_left(void **state)
{
    (void)state;
    char consumer[32];
    say(&r, "XGROUP CREATE log g 0 MKSTREAM");
    add("1-1");
    add("2-1");
    say(&r, "XREADGROUP GROUP g other COUNT 1 STREAMS log >");
    broker_begin(&r, "{" STREAM ", \"claim_idle_seconds\": 0.3}");
    rig_until(&r, r.host.n_held == 2);
    assert_int_equal(held("1-1")->deliveries, 2);
    assert_int_equal(held("2-1")->deliveries, 1);
    /* What we hold is ours for as long as we hold it. */
    rig_pass(&r, 900);
    redisReply *claimed = ask(&r, "XAUTOCLAIM log g other 250 0");
    assert_int_equal(claimed->element[1]->elements, 0);
    freeReplyObject(claimed);
    assert_int_equal(r.host.delivered, 2);
    assert_int_equal(deliveries("2-1", consumer), 1);
    assert_string_equal(consumer, "node-1");
    /* What we give back is everyone's at once. */
    broker_end(&r);
    claimed = ask(&r, "XAUTOCLAIM log g other 250 0");
    assert_int_equal(claimed->element[1]->elements, 2);
    freeReplyObject(claimed);
    assert_int_equal(deliveries("2-1", NULL), 1);
}

static void test_the_group_is_gone(void **state)
{
    (void)state;
    broker_begin(&r, "{" STREAM "}");
    add("1-1");
    rig_until(&r, r.host.n_held == 1);
    rig_pass(&r, 1100); /* so that the loss is no reason to wait */
    say(&r, "XGROUP DESTROY log g");
    add("2-1");
    rig_until(&r, r.host.n_held == 2); /* on from where it was */
    rig_pass(&r, 1100);
    say(&r, "DEL log");
    say(&r, "XADD log 1-5 body new");
    rig_until(&r, r.host.n_held == 3); /* another stream, from its start */
    assert_string_equal(held("1-5")->body, "new");
}

static void test_settled_while_away(void **state)
{
    (void)state;
    broker_begin(&r, "{" STREAM "}");
    add("1-1");
    add("2-1");
    add("3-1");
    rig_until(&r, r.host.n_held == 3);
    server_kill(&r);
    rig_until(&r, r.host.state == SOURCE_FAILED && streq(r.host.reason, "ConnectionRefused"));
    rig_settle(&r, held("1-1"), QUEUE_DONE);
    rig_settle(&r, held("2-1"), QUEUE_AGAIN);
    server_start(&r, NULL);
    rig_until(&r, rig_is_up(&r) && r.host.n_held == 2);
    assert_int_equal(held("2-1")->deliveries, 2);
    rig_until(&r, pending() == 2);
    assert_int_equal(r.host.delivered, 4);
}

static void test_losses_at_random(void **state)
{
    (void)state;
    enum { MESSAGES = 600 };
    bool seen[MESSAGES + 1] = {false};
    size_t done = 0, pushed = 0;
    unsigned seed = 4;
    broker_begin(&r, "{" STREAM ", \"prefetch\": 20}");
    while (done < MESSAGES || pending() > 0) {
        for (int i = 0; i < 7 && pushed < MESSAGES; i++)
            say(&r, "XADD log %d-1 body x", (int)++pushed);
        broker_redis.resume(r.broker);
        rig_turn(&r);
        struct message *m, *next;
        DL_FOREACH_SAFE (r.host.held, m, next) {
            int dice = rand_r(&seed) % 10, n = atoi(m->id);
            assert_false(seen[n]);
            if (dice < 4)
                continue;
            if (dice > 5) {
                seen[n] = true;
                done++;
            }
            rig_settle(&r, m, dice == 4 ? QUEUE_AGAIN : dice == 5 ? QUEUE_BACK : QUEUE_DONE);
        }
        if (rand_r(&seed) % 30 == 0)
            say(&r, "CLIENT KILL TYPE normal SKIPME yes");
    }
    assert_true(r.host.max_held <= 20);
}

/* ---- channels ---- */

static void test_channels(void **state)
{
    (void)state;
    broker_begin(&r, "{\"queue_name\": \"news\", \"redis_mode\": \"pubsub\"}");
    assert_non_null(strstr(r.host.text, "lost"));
    assert_int_equal(count(&r, "PUBLISH news a"), 1);
    rig_until(&r, r.host.n_held == 1);
    assert_string_equal(r.host.held->body, "a");
    assert_string_equal(r.host.held->queue, "news");
    broker_end(&r);
    broker_begin(&r, "{\"queue_name\": \"news.*\", \"redis_mode\": \"pubsub\", \"pattern\": true, \"prefetch\": 2}");
    assert_int_equal(count(&r, "PUBLISH news a"), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(count(&r, "PUBLISH news.it %d", i), 1);
    for (int i = 0; i < 5; i++) {
        rig_until(&r, r.host.held);
        assert_int_equal(atoi(r.host.held->body), i);
        assert_string_equal(r.host.held->queue, "news.it");
        rig_settle(&r, r.host.held, QUEUE_DONE);
    }
    assert_true(r.host.max_held <= 2);
    say(&r, "CLIENT KILL TYPE pubsub");
    rig_until(&r, count(&r, "PUBLISH news.it again") == 1);
    rig_until(&r, r.host.n_held == 1);
}

static void test_a_channel_is_held_back(void **state)
{
    (void)state;
    enum { MESSAGES = 20000 };
    _cleanup_(freep) char *body = xmalloc(1000);
    size_t next = 0;
    memset(body, 'x', 1000);
    broker_begin(&r, "{\"queue_name\": \"news\", \"redis_mode\": \"pubsub\", \"prefetch\": 10}");
    say(&r, "CONFIG SET client-output-buffer-limit %s", "pubsub 0 0 0");
    for (int i = 0; i < MESSAGES; i++)
        say(&r, "PUBLISH news %d:%b", i, body, (size_t)1000);
    rig_pass(&r, 200);
    assert_int_equal(r.host.n_held, 10);
    while (next < MESSAGES) {
        rig_until(&r, r.host.held);
        assert_int_equal(atoi(r.host.held->body), next++);
        rig_settle(&r, r.host.held, QUEUE_DONE);
    }
    broker_redis.pause(r.broker);
    rig_pass(&r, 30);
    say(&r, "PUBLISH news %d", MESSAGES);
    rig_pass(&r, 50);
    assert_int_equal(r.host.n_held, 0);
    broker_redis.resume(r.broker);
    rig_until(&r, r.host.n_held == 1);
}

int main(void)
{
    RIG_NEEDS_SERVER();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_group_is_made, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bodies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends_of_an_entry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_earlier_life, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_a_dead_consumer_left, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_group_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_settled_while_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_losses_at_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_channels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_channel_is_held_back, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
