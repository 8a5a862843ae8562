/* Lists against a real server: where each message is at any time, whatever is lost between us and the server. */
#include "redis_rig.h"

#define PROCESSING "jobs:triggerd:node-1:t1"

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

static void assert_held(const char *expected)
{
    struct buf b = {0};
    const struct message *m;
    DL_FOREACH (r.host.held, m)
        buf_printf(&b, "%s%s", b.len ? " " : "", m->body);
    assert_string_equal(b.data ? b.data : "", expected);
    buf_fini(&b);
}

static void test_taken_in_order_up_to_prefetch(void **state)
{
    (void)state;
    say(&r, "RPUSH jobs a b c d e");
    broker_begin(&r, "{\"queue_name\": \"jobs\", \"prefetch\": 3}");
    rig_until(&r, r.host.n_held == 3);
    rig_pass(&r, 50);
    assert_held("a b c");
    assert_list(&r, "jobs", "d e");
    assert_list(&r, PROCESSING, "a b c");
    assert_string_equal(r.host.held->queue, "jobs");
    rig_settle(&r, r.host.held->next, QUEUE_DONE); /* b, before a */
    rig_until(&r, r.host.n_held == 3);
    assert_held("a c d");
    while (r.host.held)
        rig_settle(&r, r.host.held, QUEUE_DONE);
    rig_until(&r, r.host.n_held == 1);
    assert_held("e");
    rig_settle(&r, r.host.held, QUEUE_DONE);
    rig_until(&r, count(&r, "EXISTS jobs " PROCESSING) == 0);
    say(&r, "RPUSH jobs f"); /* while it waits */
    rig_until(&r, r.host.n_held == 1);
    assert_held("f");
    assert_int_equal(r.host.max_held, 3);
}

static void test_taken_at_the_right(void **state)
{
    (void)state;
    say(&r, "RPUSH jobs a b c");
    broker_begin(&r, "{\"queue_name\": \"jobs\", \"pop\": \"right\", \"prefetch\": 2}");
    rig_until(&r, r.host.n_held == 2);
    assert_held("c b");
    broker_end(&r);
    assert_list(&r, "jobs", "a b c");
}

static void test_ends_of_a_message(void **state)
{
    (void)state;
    say(&r, "RPUSH jobs a b %b d e", "c\0d", (size_t)3);
    broker_begin(&r, "{\"queue_name\": \"jobs\", \"prefetch\": 4, \"dead_letter_queue\": \"graveyard\"}");
    rig_until(&r, r.host.n_held == 4);
    broker_redis.pause(r.broker);
    rig_settle(&r, r.host.held, QUEUE_AGAIN);
    rig_settle(&r, r.host.held, QUEUE_BACK);
    rig_settle(&r, r.host.held, QUEUE_DEAD_LETTER);
    rig_settle(&r, r.host.held, QUEUE_DONE);
    rig_until(&r, count(&r, "LLEN " PROCESSING) == 0);
    rig_pass(&r, 50);
    assert_list(&r, "jobs", "a b e"); /* at the head, in their order; nothing is taken while paused */
    redisReply *dead = ask(&r, "LRANGE graveyard 0 -1");
    assert_int_equal(dead->elements, 1);
    assert_int_equal(dead->element[0]->len, 3);
    assert_memory_equal(dead->element[0]->str, "c\0d", 3);
    freeReplyObject(dead);
    broker_redis.resume(r.broker);
    rig_until(&r, r.host.n_held == 3);
    assert_held("a b e");
}

static void test_pause_ends_the_wait(void **state)
{
    (void)state;
    broker_begin(&r, "{\"queue_name\": \"jobs\"}");
    rig_pass(&r, 50);
    broker_redis.pause(r.broker);
    rig_pass(&r, 50); /* far less than a wait takes */
    say(&r, "RPUSH jobs a");
    rig_pass(&r, 50);
    assert_int_equal(r.host.n_held, 0);
    assert_list(&r, "jobs", "a");
    broker_redis.resume(r.broker);
    rig_until(&r, r.host.n_held == 1);
}

static void test_an_earlier_life(void **state)
{
    (void)state;
    for (int i = 0; i < 150; i++) /* more than one go */
        say(&r, "RPUSH " PROCESSING " %d", i);
    say(&r, "RPUSH jobs 150 151");
    say(&r, "RPUSH jobs:triggerd:other:t1 x");
    broker_begin(&r, "{\"queue_name\": \"jobs\", \"prefetch\": 1000}");
    rig_until(&r, r.host.n_held == 152);
    int i = 0;
    const struct message *m;
    DL_FOREACH (r.host.held, m)
        assert_int_equal(atoi(m->body), i++);
    assert_list(&r, "jobs:triggerd:other:t1", "x");
}

/* A consumer by another name on this node was killed, and its trigger is gone or reads under another name now. */
static void test_what_is_nobodys(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        say(&r, "RPUSH jobs:triggerd:node-1:old %d", i);
    say(&r, "RPUSH jobs:triggerd:node-1:t2 in-use");
    say(&r, "RPUSH jobs:triggerd:node-2:t1 another-node");
    say(&r, "RPUSH jobz:triggerd:node-1:old another-queue");
    broker_begin(&r, "{\"queue_name\": \"jobs\", \"prefetch\": 1000}");
    rig_until(&r, r.host.n_held == 100);
    assert_int_equal(count(&r, "EXISTS jobs jobs:triggerd:node-1:old"), 0);
    assert_list(&r, "jobs:triggerd:node-1:t2", "in-use");
    assert_int_equal(count(&r, "LLEN jobs:triggerd:node-2:t1"), 1);
    assert_int_equal(count(&r, "LLEN jobz:triggerd:node-1:old"), 1);
}

static void test_stop_gives_back(void **state)
{
    (void)state;
    say(&r, "RPUSH jobs a b c d");
    broker_begin(&r, "{\"queue_name\": \"jobs\", \"prefetch\": 3}");
    rig_until(&r, r.host.n_held == 3);
    rig_settle(&r, r.host.held->next, QUEUE_DONE);
    broker_end(&r);
    assert_list(&r, "jobs", "a c d");
    assert_list(&r, PROCESSING, "");
}

static void test_settled_while_away(void **state)
{
    (void)state;
    say(&r, "RPUSH jobs a b c d");
    broker_begin(&r, "{\"queue_name\": \"jobs\", \"prefetch\": 4}");
    rig_until(&r, r.host.n_held == 4);
    server_kill(&r);
    rig_pass(&r, 30);
    rig_settle(&r, r.host.held, QUEUE_DONE);
    rig_settle(&r, r.host.held, QUEUE_AGAIN);
    rig_until(&r, r.host.state == SOURCE_FAILED && streq(r.host.reason, "ConnectionRefused"));
    rig_settle(&r, r.host.held, QUEUE_DEAD_LETTER);
    server_start(&r, NULL);
    rig_until(&r, rig_is_up(&r) && r.host.n_held == 2);
    assert_held("d b");
    rig_until(&r, count(&r, "LLEN jobs.dead") == 1);
    assert_list(&r, "jobs.dead", "c");
    assert_list(&r, PROCESSING, "d b");
}

static void test_a_move_that_nobody_told(void **state)
{
    (void)state;
    say(&r, "RPUSH jobs a");
    broker_begin(&r, "{\"queue_name\": \"jobs\"}");
    rig_until(&r, r.host.n_held == 1);
    rig_pass(&r, 30);
    say(&r, "RPUSH " PROCESSING " b"); /* as a move would, whose answer went to a connection that is gone */
    rig_until(&r, r.host.n_held == 2); /* seen when the queue has been empty for a while */
    assert_held("a b");
    while (r.host.held)
        rig_settle(&r, r.host.held, QUEUE_DONE);
    rig_until(&r, count(&r, "EXISTS jobs " PROCESSING) == 0);
}

static void test_wrong_type(void **state)
{
    (void)state;
    say(&r, "SET jobs x");
    broker_make(&r, NULL, "{\"queue_name\": \"jobs\"}");
    rig_until(&r, r.host.reports > 0);
    assert_int_equal(r.host.state, SOURCE_FAILED);
    assert_string_equal(r.host.reason, "WrongType");
    rig_pass(&r, 700);
    assert_int_equal(r.host.state, SOURCE_FAILED);
    say(&r, "DEL jobs");
    rig_until(&r, rig_is_up(&r));
}

static void test_a_dead_letter_list_that_is_none(void **state)
{
    (void)state;
    say(&r, "SET jobs.dead x");
    say(&r, "RPUSH jobs a b");
    broker_begin(&r, "{\"queue_name\": \"jobs\"}");
    rig_until(&r, r.host.n_held == 2);
    rig_settle(&r, r.host.held, QUEUE_DEAD_LETTER);
    rig_until(&r, r.host.state == SOURCE_FAILED);
    assert_non_null(strstr(r.host.text, "jobs.dead"));
    assert_list(&r, PROCESSING, "a b");
    int reports = r.host.reports;
    rig_pass(&r, 1500);
    assert_int_equal(r.host.state, SOURCE_FAILED);
    assert_true(r.host.reports <= reports + 3); /* no flutter */
    say(&r, "DEL jobs.dead");
    rig_until(&r, rig_is_up(&r) && count(&r, "LLEN jobs.dead") == 1);
    assert_held("b");
}

static void test_a_wrong_password(void **state)
{
    (void)state;
    say(&r, "CONFIG SET requirepass geheimnis");
    _cleanup_(freep) char *url = xasprintf("redis+unix://:falsches@%s", r.path);
    broker_make(&r, url, "{\"queue_name\": \"jobs\"}");
    rig_until(&r, r.host.reports > 0);
    assert_int_equal(r.host.state, SOURCE_FAILED);
    assert_string_equal(r.host.reason, "AuthenticationFailed");
    assert_null(strstr(r.host.text, "falsches"));
    broker_end(&r);
    r.host.reports = 0;
    broker_make(&r, NULL, "{\"queue_name\": \"jobs\"}");
    rig_until(&r, r.host.reports > 0);
    assert_string_equal(r.host.reason, "AuthenticationFailed");
    broker_end(&r);
    say(&r, "ACL SETUSER reader on >ge@im/nis ~* +@all");
    _cleanup_(freep) char *good = xasprintf("redis+unix://reader:ge%%40im%%2Fnis@%s?db=3", r.path);
    r.host.reports = 0;
    broker_make(&r, good, "{\"queue_name\": \"jobs\"}");
    rig_until(&r, rig_is_up(&r));
    say(&r, "SELECT 3");
    say(&r, "RPUSH jobs in-three");
    rig_until(&r, r.host.n_held == 1);
    redisReply *clients = ask(&r, "CLIENT LIST");
    assert_non_null(strstr(clients->str, "name=triggerd:node-1:t1:read:"));
    assert_non_null(strstr(clients->str, "user=reader"));
    freeReplyObject(clients);
}

/* ---- losses at random ---- */

struct tally {
    size_t pushed, done, twice;
    bool *seen;
    unsigned seed;
};

/* Settles a part of what is held, in any order; loses the connections now and then. */
static void churn(struct tally *t, bool equal)
{
    struct message *m, *next;
    DL_FOREACH_SAFE (r.host.held, m, next) {
        int dice = rand_r(&t->seed) % 10;
        if (dice < 4)
            continue;
        if (dice == 4 && !equal) {
            rig_settle(&r, m, dice % 2 ? QUEUE_AGAIN : QUEUE_BACK);
            continue;
        }
        if (!equal) {
            size_t n = (size_t)atoi(m->body);
            t->twice += t->seen[n];
            t->seen[n] = true;
        }
        t->done++;
        rig_settle(&r, m, QUEUE_DONE);
    }
    if (rand_r(&t->seed) % 30 == 0) {
        static const char *const kinds[] = {"normal", "normal", "read", "write"};
        const char *kind = kinds[rand_r(&t->seed) % 4];
        if (streq(kind, "normal")) {
            say(&r, "CLIENT KILL TYPE normal SKIPME yes");
        } else {
            redisReply *clients = ask(&r, "CLIENT LIST");
            for (char *line = strtok(clients->str, "\n"); line; line = strtok(NULL, "\n"))
                if (strstr(line, streq(kind, "read") ? ":read:" : ":write:"))
                    freeReplyObject(redisCommand(r.redis, "CLIENT KILL ID %lld", strtoll(line + 3, NULL, 10)));
            freeReplyObject(clients);
        }
    }
}

static void lose_at_random(bool equal, size_t messages, unsigned seed)
{
    struct tally t = {.seen = xcalloc(messages, 1), .seed = seed};
    broker_begin(&r, "{\"queue_name\": \"jobs\", \"prefetch\": 20}");
    int64_t last = loop_now_ms(&r.loop);
    while (t.done < messages || count(&r, "EXISTS jobs " PROCESSING) > 0) {
        if (r.host.held || t.pushed < messages)
            last = loop_now_ms(&r.loop);
        if (loop_now_ms(&r.loop) - last > RIG_PATIENCE_MS)
            fail_msg("seed %u: %zu of %zu came", seed, t.done, messages);
        for (int i = 0; i < 7 && t.pushed < messages; i++, t.pushed++)
            say(&r, "RPUSH jobs %d", equal ? 1 : (int)t.pushed);
        broker_redis.resume(r.broker); /* connects at once, whatever was lost how often */
        rig_turn(&r);
        churn(&t, equal);
    }
    if (!equal) {
        for (size_t i = 0; i < messages; i++)
            assert_true(t.seen[i]);
        assert_int_equal(t.twice, 0);
    }
    assert_true(r.host.max_held <= 20 * 2);
    free(t.seen);
    broker_end(&r);
}

static void test_losses_at_random(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 4; seed++)
        lose_at_random(false, 400, seed);
}

static void test_losses_at_random_of_equal_messages(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 4; seed++)
        lose_at_random(true, 400, seed);
}

int main(void)
{
    RIG_NEEDS_SERVER();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_taken_in_order_up_to_prefetch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_at_the_right, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends_of_a_message, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause_ends_the_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_earlier_life, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_nobodys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_gives_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_settled_while_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_move_that_nobody_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_type, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_dead_letter_list_that_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_wrong_password, setup, teardown),
        cmocka_unit_test_setup_teardown(test_losses_at_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_losses_at_random_of_equal_messages, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
