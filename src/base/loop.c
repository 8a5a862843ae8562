#include "base/loop.h"

#include "base/clock.h"
#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <utlist.h>

/* ---- timers: one uv_timer stands for the heap ---- */

/* Both clocks are CLOCK_MONOTONIC; libuv's lags (it is read once an iteration, and coarsely), so that a timer set by it
 * is never early by ours. */
static void arm(struct loop *loop)
{
    int64_t next = timers_next(&loop->timers);
    if (loop->in_timers || next == loop->armed_ms)
        return;
    loop->armed_ms = next;
    if (next < 0) {
        uv_timer_stop(&loop->timer);
        return;
    }
    int64_t delay = next - (int64_t)uv_now(&loop->uv);
    uv_timer_start(&loop->timer, loop->timer.timer_cb, (uint64_t)MAX(delay, 0), 0);
}

static void on_timers_changed(struct timers *timers, void *ctx)
{
    (void)timers;
    arm(ctx);
}

static void on_timer(uv_timer_t *timer)
{
    struct loop *loop = container_of(timer, struct loop, timer);
    loop->in_timers = true;
    timers_run(&loop->timers, loop_now_ms(loop));
    loop->in_timers = false;
    /* What is due already waits for the next millisecond: libuv would come back here before it polls. */
    loop->armed_ms = -1;
    int64_t next = timers_next(&loop->timers), now = (int64_t)uv_now(&loop->uv);
    if (next >= 0 && next <= now) {
        loop->armed_ms = next;
        uv_timer_start(timer, on_timer, 1, 0);
    } else {
        arm(loop);
    }
}

int64_t loop_now_ms(struct loop *loop)
{
    (void)loop;
    return clock_monotonic_ms(clock_system());
}

void loop_timer_start(struct loop *loop, struct timer *timer, int64_t delay_ms)
{
    timer_start(&loop->timers, timer, loop_now_ms(loop) + delay_ms);
}

void loop_timer_stop(struct loop *loop, struct timer *timer)
{
    timer_stop(&loop->timers, timer);
}

/* ---- tasks ---- */

static void on_idle(uv_idle_t *idle)
{
    struct loop *loop = container_of(idle, struct loop, idle);
    loop->now = steal(&loop->tasks);
    for (struct loop_task *task = loop->now; task; task = task->next)
        task->list = &loop->now;
    while (loop->now) {
        struct loop_task *task = loop->now;
        assert(task->next || task->prev == task); /* the item of a list of one is its own predecessor */
        DL_DELETE(loop->now, task);
        task->list = NULL;
        task->fn(task->ctx);
    }
    if (!loop->tasks)
        uv_idle_stop(idle);
}

void loop_task_init(struct loop_task *task, void (*fn)(void *ctx), void *ctx)
{
    *task = (struct loop_task){.fn = fn, .ctx = ctx};
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
    if (task->list)
        return;
    task->list = &loop->tasks;
    DL_APPEND(loop->tasks, task);
    uv_idle_start(&loop->idle, on_idle);
}

void loop_task_cancel(struct loop *loop, struct loop_task *task)
{
    if (!task->list)
        return;
    DL_DELETE(*task->list, task);
    task->list = NULL;
    if (!loop->tasks && !loop->now)
        uv_idle_stop(&loop->idle);
}

bool loop_task_waiting(const struct loop_task *task)
{
    return task->list != NULL;
}

/* ---- the loop ---- */

static void on_internal_closed(uv_handle_t *uv)
{
    struct loop *loop = uv->data;
    loop->internal_open--;
}

int loop_init(struct loop *loop)
{
    *loop = (struct loop){.armed_ms = -1, .internal_open = 2};
    int r = uv_loop_init(&loop->uv);
    if (r < 0)
        return r;
    timers_init(&loop->timers, on_timers_changed, loop);
    uv_timer_init(&loop->uv, &loop->timer);
    loop->timer.timer_cb = on_timer;
    loop->timer.data = loop;
    uv_idle_init(&loop->uv, &loop->idle);
    loop->idle.data = loop;
    return 0;
}

int loop_fini(struct loop *loop)
{
    if (loop->tasks || loop->now)
        return -EBUSY;
    timers_fini(&loop->timers);
    uv_close((uv_handle_t *)&loop->timer, on_internal_closed);
    uv_close((uv_handle_t *)&loop->idle, on_internal_closed);
    while (loop->internal_open > 0)
        uv_run(&loop->uv, UV_RUN_NOWAIT);
    return uv_loop_close(&loop->uv);
}

int loop_run(struct loop *loop)
{
    return uv_run(&loop->uv, UV_RUN_DEFAULT) != 0;
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

/* ---- work ---- */

static void on_work(uv_work_t *uv)
{
    struct loop_work *work = container_of(uv, struct loop_work, uv);
    work->work(work->ctx);
}

static void on_work_done(uv_work_t *uv, int status)
{
    (void)status; /* nothing cancels it */
    struct loop_work *work = container_of(uv, struct loop_work, uv);
    work->done(work->ctx);
}

void loop_work_submit(struct loop *loop, struct loop_work *work, void (*run)(void *ctx), void (*done)(void *ctx),
                      void *ctx)
{
    work->work = run;
    work->done = done;
    work->ctx = ctx;
    uv_queue_work(&loop->uv, &work->uv, on_work, on_work_done);
}

/* ---- groups ---- */

static void group_done(void *ctx)
{
    struct loop_group *group = ctx;
    void (*done)(void *) = group->done;
    void *done_ctx = group->done_ctx;
    loop_group_init(group, group->loop);
    if (done)
        done(done_ctx);
}

void loop_group_init(struct loop_group *group, struct loop *loop)
{
    *group = (struct loop_group){.loop = loop};
    loop_task_init(&group->done_task, group_done, group);
}

void loop_group_close(struct loop_group *group, void (*done)(void *ctx), void *ctx)
{
    assert(!group->closing);
    group->closing = true;
    group->done = done;
    group->done_ctx = ctx;
    while (group->handles)
        loop_close(group->handles, NULL, NULL);
    if (group->open == 0)
        loop_defer(group->loop, &group->done_task);
}

void loop_group_hold(struct loop_group *group)
{
    assert(!group->closing || group->open > 0);
    group->open++;
}

/* Deferred, not called: who releases is in the middle of something. */
void loop_group_release(struct loop_group *group)
{
    assert(group->open > 0);
    if (--group->open == 0 && group->closing)
        loop_defer(group->loop, &group->done_task);
}

/* ---- handles ---- */

void loop_handle_add(struct loop_group *group, struct loop_handle *handle, uv_handle_t *uv)
{
    assert(!group->closing);
    *handle = (struct loop_handle){.group = group, .uv = uv};
    uv->data = handle;
    group->open++;
    DL_APPEND(group->handles, handle);
}

static void on_closed(uv_handle_t *uv)
{
    struct loop_handle *handle = uv->data;
    struct loop_group *group = handle->group;
    void (*closed)(void *) = handle->closed;
    void *ctx = handle->closed_ctx;
    handle->group = NULL;
    /* A group that is closing outlives `closed`, since its `done` is still to come; any other may go with the handle.
     */
    bool last = --group->open == 0 && group->closing;
    if (closed)
        closed(ctx);
    if (last)
        group_done(group);
}

void loop_close(struct loop_handle *handle, void (*closed)(void *ctx), void *ctx)
{
    if (!loop_is_open(handle)) {
        assert(!closed);
        return;
    }
    DL_DELETE(handle->group->handles, handle);
    handle->closed = closed;
    handle->closed_ctx = ctx;
    uv_close(handle->uv, on_closed);
}

bool loop_is_open(const struct loop_handle *handle)
{
    return handle->group && !uv_is_closing(handle->uv);
}

static void on_poll(uv_poll_t *uv, int status, int events)
{
    struct loop_poll *poll = container_of(uv, struct loop_poll, uv);
    if (status < 0)
        poll->events = 0; /* libuv has stopped it */
    poll->fn(poll->ctx, poll->fd, status < 0 ? 0 : events, status);
}

int loop_poll_init(struct loop_group *group, struct loop_poll *poll, int fd, loop_poll_fn *fn, void *ctx)
{
    int r = uv_poll_init(&group->loop->uv, &poll->uv, fd);
    if (r < 0)
        return r;
    loop_handle_add(group, &poll->handle, (uv_handle_t *)&poll->uv);
    poll->fd = fd;
    poll->events = 0;
    poll->fn = fn;
    poll->ctx = ctx;
    return 0;
}

int loop_poll_start(struct loop_poll *poll, int events)
{
    assert(loop_is_open(&poll->handle));
    if (events == poll->events)
        return 0;
    int r = events ? uv_poll_start(&poll->uv, events, on_poll) : uv_poll_stop(&poll->uv);
    if (r == 0)
        poll->events = events;
    return r;
}

static void on_async(uv_async_t *uv)
{
    struct loop_async *async = container_of(uv, struct loop_async, uv);
    async->fn(async->ctx);
}

int loop_async_init(struct loop_group *group, struct loop_async *async, void (*fn)(void *ctx), void *ctx)
{
    int r = uv_async_init(&group->loop->uv, &async->uv, on_async);
    if (r < 0)
        return r;
    loop_handle_add(group, &async->handle, (uv_handle_t *)&async->uv);
    async->fn = fn;
    async->ctx = ctx;
    return 0;
}

void loop_async_send(struct loop_async *async)
{
    uv_async_send(&async->uv);
}

static void on_signal(uv_signal_t *uv, int signum)
{
    struct loop_signal *signal = container_of(uv, struct loop_signal, uv);
    signal->fn(signal->ctx, signum);
}

int loop_signal_init(struct loop_group *group, struct loop_signal *signal, int signum,
                     void (*fn)(void *ctx, int signum), void *ctx)
{
    int r = uv_signal_init(&group->loop->uv, &signal->uv);
    if (r < 0)
        return r;
    loop_handle_add(group, &signal->handle, (uv_handle_t *)&signal->uv);
    signal->fn = fn;
    signal->ctx = ctx;
    r = uv_signal_start(&signal->uv, on_signal, signum);
    if (r < 0)
        loop_close(&signal->handle, NULL, NULL);
    return r;
}
