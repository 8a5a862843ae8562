#include "base/queue.h"

#include "base/loop.h"
#include "base/util.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct message {
    struct queue_node node;
    int producer, number;
};

static void count_wake(void *ctx)
{
    ++*(int *)ctx;
}

static void order_and_wakes(void **state)
{
    (void)state;
    struct queue queue;
    struct message m[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    int wakes = 0;
    queue_init(&queue, count_wake, &wakes);
    assert_true(queue_empty(&queue));
    assert_null(queue_take(&queue));
    for (int i = 0; i < 3; i++)
        queue_push(&queue, &m[i].node);
    assert_int_equal(wakes, 1);
    assert_false(queue_empty(&queue));
    struct queue_node *node = queue_take(&queue);
    for (int i = 0; i < 3; i++, node = node->next)
        assert_int_equal(container_of(node, struct message, node)->number, i);
    assert_null(node);
    assert_true(queue_empty(&queue));
    queue_push(&queue, &m[0].node);
    assert_int_equal(wakes, 2);
    assert_ptr_equal(queue_take(&queue), &m[0].node);
}

enum { PRODUCERS = 3, EACH = 20000 };

struct crowd {
    struct loop loop;
    struct loop_group group;
    struct loop_async async;
    struct queue queue;
    int next[PRODUCERS];
    int taken;
};

struct producer {
    struct crowd *crowd;
    int index;
    pthread_t thread;
};

static void *produce(void *ctx)
{
    struct producer *p = ctx;
    for (int i = 0; i < EACH; i++) {
        struct message *m = xcalloc(1, sizeof(*m));
        m->producer = p->index;
        m->number = i;
        queue_push(&p->crowd->queue, &m->node);
    }
    return NULL;
}

static void wake_loop(void *ctx)
{
    loop_async_send(&((struct crowd *)ctx)->async);
}

static void take_all(void *ctx)
{
    struct crowd *c = ctx;
    for (struct queue_node *node = queue_take(&c->queue), *next; node; node = next) {
        struct message *m = container_of(node, struct message, node);
        next = node->next;
        assert_int_equal(m->number, c->next[m->producer]);
        c->next[m->producer]++;
        c->taken++;
        free(m);
    }
    if (c->taken == PRODUCERS * EACH)
        loop_group_close(&c->group, NULL, NULL);
}

static void none_lost_between_threads(void **state)
{
    (void)state;
    struct crowd c = {.taken = 0};
    struct producer p[PRODUCERS];
    assert_int_equal(loop_init(&c.loop), 0);
    loop_group_init(&c.group, &c.loop);
    assert_int_equal(loop_async_init(&c.group, &c.async, take_all, &c), 0);
    queue_init(&c.queue, wake_loop, &c);
    for (int i = 0; i < PRODUCERS; i++) {
        p[i] = (struct producer){.crowd = &c, .index = i};
        assert_int_equal(pthread_create(&p[i].thread, NULL, produce, &p[i]), 0);
    }
    loop_run(&c.loop); /* ends when the group is closed: a lost wake-up would be a time-out of the test */
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(p[i].thread, NULL);
    assert_int_equal(c.taken, PRODUCERS * EACH);
    assert_int_equal(loop_fini(&c.loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_and_wakes),
        cmocka_unit_test(none_lost_between_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
