#include "base/loop.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static void count(void *ctx)
{
    ++*(int *)ctx;
}

static void nothing_to_do_ends_at_once(void **state)
{
    (void)state;
    struct loop loop;
    assert_int_equal(loop_init(&loop), 0);
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(loop_fini(&loop), 0);
}

/* ---- timers ---- */

struct ticks {
    struct loop loop;
    struct timer timer, other;
    int calls;
    int64_t due, late;
    uint64_t iterations;
};

static void tick(struct timer *timer, void *ctx)
{
    struct ticks *t = ctx;
    int64_t now = loop_now_ms(&t->loop);
    assert_true(now >= timer->due_ms);
    t->late = MAX(t->late, now - timer->due_ms);
    if (++t->calls < 5)
        loop_timer_start(&t->loop, timer, 3);
}

static void timers_run_on_the_loop_and_never_early(void **state)
{
    (void)state;
    struct ticks t = {.calls = 0};
    assert_int_equal(loop_init(&t.loop), 0);
    timer_init(&t.timer, tick, &t);
    timer_init(&t.other, tick, &t);
    loop_timer_start(&t.loop, &t.other, 60000);
    loop_timer_start(&t.loop, &t.timer, 0);
    assert_int_equal(t.loop.armed_ms, t.timer.due_ms);
    loop_timer_stop(&t.loop, &t.other);
    loop_run(&t.loop);
    assert_int_equal(t.calls, 5);
    assert_int_equal(t.loop.armed_ms, -1);
    assert_false(uv_is_active((uv_handle_t *)&t.loop.timer)); /* no wake-up when nothing is due */
    assert_int_equal(loop_fini(&t.loop), 0);
}

static void spin(struct timer *timer, void *ctx)
{
    struct ticks *t = ctx;
    if (t->calls < 1000000)
        timer_start(&t->loop.timers, timer, 0);
    t->calls++;
}

static void end_spin(void *ctx)
{
    struct ticks *t = ctx;
    assert_in_range(t->calls, 1, 1000);
    t->calls = 1000000;
}

static void a_timer_always_due_does_not_starve_the_rest(void **state)
{
    (void)state;
    struct ticks t = {.calls = 0};
    struct loop_task task;
    assert_int_equal(loop_init(&t.loop), 0);
    timer_init(&t.timer, spin, &t);
    loop_task_init(&task, end_spin, &t);
    loop_timer_start(&t.loop, &t.timer, 0);
    loop_defer(&t.loop, &task);
    loop_run(&t.loop);
    assert_in_range(t.calls, 1000000, 1000010);
    assert_int_equal(loop_fini(&t.loop), 0);
}

/* ---- tasks ---- */

struct tasks {
    struct loop loop;
    struct loop_task a, b, c;
    char order[16];
    bool again;
};

static void task_a(void *ctx)
{
    struct tasks *t = ctx;
    strcat(t->order, "a");
    assert_false(loop_task_waiting(&t->a));
    loop_task_cancel(&t->loop, &t->b);
    if (!t->again) {
        t->again = true;
        loop_defer(&t->loop, &t->a);
        loop_defer(&t->loop, &t->a);
        strcat(t->order, "."); /* nothing ran meanwhile */
    }
}

static void task_b(void *ctx)
{
    strcat(((struct tasks *)ctx)->order, "b");
}

static void task_c(void *ctx)
{
    strcat(((struct tasks *)ctx)->order, "c");
}

static void tasks_run_once_in_order_and_can_be_cancelled(void **state)
{
    (void)state;
    struct tasks t = {.again = false};
    assert_int_equal(loop_init(&t.loop), 0);
    loop_task_init(&t.a, task_a, &t);
    loop_task_init(&t.b, task_b, &t);
    loop_task_init(&t.c, task_c, &t);
    loop_defer(&t.loop, &t.a);
    loop_defer(&t.loop, &t.b);
    loop_defer(&t.loop, &t.c);
    assert_string_equal(t.order, "");
    assert_int_equal(loop_fini(&t.loop), -EBUSY);
    loop_run(&t.loop);
    assert_string_equal(t.order, "a.ca");
    loop_defer(&t.loop, &t.b);
    loop_task_cancel(&t.loop, &t.b);
    loop_task_cancel(&t.loop, &t.b);
    assert_int_equal(loop_run(&t.loop), 0);
    assert_string_equal(t.order, "a.ca");
    assert_int_equal(loop_fini(&t.loop), 0);
}

/* ---- groups ---- */

struct owner {
    struct loop_group group;
    struct loop_poll poll;
    struct loop_async async;
    struct loop_signal signal;
    struct loop_handle pipe_handle;
    uv_pipe_t pipe;
    int pipe_fds[2];
    int *closed, *done;
    bool in_close;
    int polls, events, status;
    char last;
};

static void unexpected_poll(void *ctx, int fd, int events, int status)
{
    (void)ctx;
    (void)fd;
    (void)events;
    (void)status;
    fail();
}

static void unexpected_signal(void *ctx, int signum)
{
    (void)ctx;
    (void)signum;
    fail();
}

static void owner_done(void *ctx)
{
    struct owner *o = ctx;
    assert_false(o->in_close);
    ++*o->done;
    close(o->pipe_fds[0]);
    close(o->pipe_fds[1]);
    free(o);
}

static struct owner *make_owner(struct loop *loop, int *closed, int *done)
{
    struct owner *o = xcalloc(1, sizeof(*o));
    o->closed = closed;
    o->done = done;
    assert_int_equal(pipe2(o->pipe_fds, O_CLOEXEC), 0);
    loop_group_init(&o->group, loop);
    assert_int_equal(loop_poll_init(&o->group, &o->poll, o->pipe_fds[0], unexpected_poll, o), 0);
    assert_int_equal(loop_poll_start(&o->poll, UV_READABLE), 0);
    assert_int_equal(loop_async_init(&o->group, &o->async, count, closed), 0);
    assert_int_equal(loop_signal_init(&o->group, &o->signal, SIGUSR2, unexpected_signal, o), 0);
    assert_int_equal(uv_pipe_init(&loop->uv, &o->pipe, 0), 0);
    loop_handle_add(&o->group, &o->pipe_handle, (uv_handle_t *)&o->pipe);
    return o;
}

static void close_owner(struct owner *o)
{
    o->in_close = true;
    loop_group_close(&o->group, owner_done, o);
    o->in_close = false;
}

static void a_group_closes_all_and_is_done_once(void **state)
{
    (void)state;
    struct loop loop;
    int closed = 0, done = 0;
    assert_int_equal(loop_init(&loop), 0);
    struct owner *o = make_owner(&loop, &closed, &done);
    assert_true(loop_is_open(&o->poll.handle));
    loop_close(&o->poll.handle, count, &closed); /* one before the group, and still counted */
    assert_false(loop_is_open(&o->poll.handle));
    loop_close(&o->poll.handle, NULL, NULL);
    close_owner(o);
    assert_int_equal(done, 0);
    loop_run(&loop);
    assert_int_equal(closed, 1);
    assert_int_equal(done, 1);
    assert_int_equal(loop_fini(&loop), 0);
}

static void an_empty_group_is_done_later(void **state)
{
    (void)state;
    struct loop loop;
    struct loop_group group;
    int done = 0;
    assert_int_equal(loop_init(&loop), 0);
    loop_group_init(&group, &loop);
    loop_group_close(&group, count, &done);
    assert_int_equal(done, 0);
    loop_run(&loop);
    assert_int_equal(done, 1);
    loop_group_close(&group, count, &done); /* used anew */
    loop_run(&loop);
    assert_int_equal(done, 2);
    assert_int_equal(loop_fini(&loop), 0);
}

struct held {
    struct loop loop;
    struct loop_group group;
    struct loop_async async;
    struct loop_work work;
    struct timer timer;
    pthread_t thread;
    int done, worked;
};

static void held_work(void *ctx)
{
    struct held *h = ctx;
    h->thread = pthread_self();
}

static void held_worked(void *ctx)
{
    struct held *h = ctx;
    assert_false(pthread_equal(h->thread, pthread_self()));
    assert_int_equal(h->done, 0);
    h->worked++;
    loop_group_release(&h->group);
    assert_int_equal(h->done, 0);
}

static void a_group_waits_for_what_holds_it(void **state)
{
    (void)state;
    struct held h = {.done = 0};
    assert_int_equal(loop_init(&h.loop), 0);
    loop_group_init(&h.group, &h.loop);
    assert_int_equal(loop_async_init(&h.group, &h.async, count, &h.done), 0);
    loop_group_hold(&h.group);
    loop_work_submit(&h.loop, &h.work, held_work, held_worked, &h);
    loop_group_close(&h.group, count, &h.done);
    loop_run(&h.loop);
    assert_int_equal(h.worked, 1);
    assert_int_equal(h.done, 1);
    assert_int_equal(loop_fini(&h.loop), 0);
}

static void free_owner_and_fds(void *ctx)
{
    struct owner *o = ctx;
    close(o->pipe_fds[0]);
    close(o->pipe_fds[1]);
    ++*o->closed;
    free(o);
}

static void a_lone_handle_may_take_its_group_with_it(void **state)
{
    (void)state;
    struct loop loop;
    int closed = 0;
    struct owner *o = xcalloc(1, sizeof(*o));
    assert_int_equal(loop_init(&loop), 0);
    o->closed = &closed;
    assert_int_equal(pipe2(o->pipe_fds, O_CLOEXEC), 0);
    loop_group_init(&o->group, &loop);
    assert_int_equal(loop_poll_init(&o->group, &o->poll, o->pipe_fds[0], unexpected_poll, o), 0);
    loop_close(&o->poll.handle, free_owner_and_fds, o);
    loop_run(&loop);
    assert_int_equal(closed, 1);
    assert_int_equal(loop_fini(&loop), 0);
}

static void what_is_left_open_is_told(void **state)
{
    (void)state;
    struct loop *loop = xcalloc(1, sizeof(*loop));
    struct loop_group group;
    struct loop_async async;
    int calls = 0;
    assert_int_equal(loop_init(loop), 0);
    loop_group_init(&group, loop);
    assert_int_equal(loop_async_init(&group, &async, count, &calls), 0);
    assert_int_equal(loop_fini(loop), -EBUSY);
    loop_group_close(&group, NULL, NULL);
    while (uv_run(&loop->uv, UV_RUN_NOWAIT))
        ;
    assert_int_equal(uv_loop_close(&loop->uv), 0);
    free(loop);
}

/* ---- polls ---- */

static void on_poll(void *ctx, int fd, int events, int status)
{
    struct owner *o = ctx;
    o->polls++;
    o->events = events;
    o->status = status;
    if (status < 0 || read(fd, &o->last, 1) == 0)
        loop_group_close(&o->group, NULL, NULL);
    else if (o->last == 'q')
        loop_stop(o->group.loop);
}

static void polls_tell_readable_and_hang_up(void **state)
{
    (void)state;
    struct loop loop;
    struct owner o = {.polls = 0};
    assert_int_equal(loop_init(&loop), 0);
    loop_group_init(&o.group, &loop);
    assert_int_equal(pipe2(o.pipe_fds, O_CLOEXEC), 0);
    assert_int_equal(loop_poll_init(&o.group, &o.poll, o.pipe_fds[0], on_poll, &o), 0);
    assert_int_equal(loop_poll_start(&o.poll, UV_READABLE), 0);
    assert_int_equal(write(o.pipe_fds[1], "xq", 2), 2);
    assert_int_equal(loop_run(&loop), 1);
    assert_int_equal(o.polls, 2);
    assert_int_equal(o.events, UV_READABLE);
    close(o.pipe_fds[1]);
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(o.polls, 3);
    close(o.pipe_fds[0]);
    assert_int_equal(loop_fini(&loop), 0);
}

static void polls_hand_on_errors(void **state)
{
    (void)state;
    struct loop loop;
    struct owner o = {.polls = 0};
    assert_int_equal(loop_init(&loop), 0);
    loop_group_init(&o.group, &loop);
    assert_int_equal(pipe2(o.pipe_fds, O_CLOEXEC), 0);
    close(o.pipe_fds[0]); /* the writer of a pipe without readers sees POLLERR */
    assert_int_equal(loop_poll_init(&o.group, &o.poll, o.pipe_fds[1], on_poll, &o), 0);
    assert_int_equal(loop_poll_start(&o.poll, UV_WRITABLE), 0);
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(o.polls, 1);
    assert_int_equal(o.status, UV_EBADF);
    assert_int_equal(o.events, 0);
    assert_int_equal(o.poll.events, 0);
    close(o.pipe_fds[1]);

    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_int_equal(loop_poll_init(&o.group, &o.poll, fd, on_poll, &o), -EPERM);
    close(fd);
    assert_int_equal(loop_fini(&loop), 0);
}

static void a_stopped_poll_is_silent(void **state)
{
    (void)state;
    struct loop loop;
    struct owner o = {.polls = 0};
    assert_int_equal(loop_init(&loop), 0);
    loop_group_init(&o.group, &loop);
    assert_int_equal(pipe2(o.pipe_fds, O_CLOEXEC), 0);
    assert_int_equal(loop_poll_init(&o.group, &o.poll, o.pipe_fds[0], on_poll, &o), 0);
    assert_int_equal(loop_poll_start(&o.poll, UV_READABLE), 0);
    assert_int_equal(write(o.pipe_fds[1], "q", 1), 1);
    assert_int_equal(loop_poll_start(&o.poll, 0), 0);
    assert_int_equal(loop_run(&loop), 0);
    assert_int_equal(o.polls, 0);
    assert_int_equal(loop_poll_start(&o.poll, UV_READABLE), 0);
    assert_int_equal(loop_run(&loop), 1);
    assert_int_equal(o.polls, 1);
    loop_group_close(&o.group, NULL, NULL);
    loop_run(&loop);
    close(o.pipe_fds[0]);
    close(o.pipe_fds[1]);
    assert_int_equal(loop_fini(&loop), 0);
}

static void on_usr1(void *ctx, int signum)
{
    struct owner *o = ctx;
    o->polls = signum;
    loop_group_close(&o->group, NULL, NULL);
}

static void signals_arrive(void **state)
{
    (void)state;
    struct loop loop;
    struct owner o = {.polls = 0};
    assert_int_equal(loop_init(&loop), 0);
    loop_group_init(&o.group, &loop);
    assert_int_equal(loop_signal_init(&o.group, &o.signal, SIGUSR1, on_usr1, &o), 0);
    raise(SIGUSR1);
    loop_run(&loop);
    assert_int_equal(o.polls, SIGUSR1);
    struct loop_signal bad;
    assert_int_equal(loop_signal_init(&o.group, &bad, 0, on_usr1, &o), -EINVAL);
    loop_run(&loop);
    assert_int_equal(loop_fini(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_do_ends_at_once),
        cmocka_unit_test(timers_run_on_the_loop_and_never_early),
        cmocka_unit_test(a_timer_always_due_does_not_starve_the_rest),
        cmocka_unit_test(tasks_run_once_in_order_and_can_be_cancelled),
        cmocka_unit_test(a_group_closes_all_and_is_done_once),
        cmocka_unit_test(an_empty_group_is_done_later),
        cmocka_unit_test(a_group_waits_for_what_holds_it),
        cmocka_unit_test(a_lone_handle_may_take_its_group_with_it),
        cmocka_unit_test(what_is_left_open_is_told),
        cmocka_unit_test(polls_tell_readable_and_hang_up),
        cmocka_unit_test(polls_hand_on_errors),
        cmocka_unit_test(a_stopped_poll_is_silent),
        cmocka_unit_test(signals_arrive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
