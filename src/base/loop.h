/* The event loop: libuv with timers, deferred calls, and handles that are counted until they are closed.
 *
 * A libuv handle lives inside its owner and may be freed only after its close callback. So each belongs to a group,
 * which the owner embeds, and the owner goes away in one place:
 *
 *     struct conn { struct loop_group group; struct loop_poll poll; struct loop_async wake; … };
 *     loop_group_init(&conn->group, loop);
 *     loop_poll_init(&conn->group, &conn->poll, fd, on_ready, conn);
 *     …
 *     loop_group_close(&conn->group, on_gone, conn);      on_gone(): close the descriptors, tell, free(conn)
 *
 * Completions must not come from inside the call that started them: a call that is done at once defers its callback
 * with loop_defer().
 *
 * Errors are negative errno (libuv's codes are the same on Linux). Thread: the loop's, but for loop_async_send().
 */
#ifndef TRIGGERD_BASE_LOOP_H
#define TRIGGERD_BASE_LOOP_H

#include "base/timer.h"

#include <uv.h>

struct loop_task;

struct loop {
    uv_loop_t uv;
    struct timers timers;
    uv_timer_t timer; /* armed for armed_ms */
    int64_t armed_ms; /* -1: not armed */
    bool in_timers;
    uv_idle_t idle;          /* active while there are tasks: the loop does not sleep then */
    struct loop_task *tasks; /* a utlist, oldest first */
    struct loop_task *now;   /* those of this iteration not yet run */
    unsigned internal_open;
};

int loop_init(struct loop *loop);
/* 0, or -EBUSY if a handle, a piece of work or a task is left: a bug of its owner, and the loop must stay in memory. */
int loop_fini(struct loop *loop);

/* Run until loop_stop(), or until nothing is active. 0, or 1 where it was stopped with something active. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Monotonic milliseconds, read afresh; what timers go by. */
int64_t loop_now_ms(struct loop *loop);
/* timer_start() so many milliseconds from now; stop it with timer_stop(&loop->timers, …). */
void loop_timer_start(struct loop *loop, struct timer *timer, int64_t delay_ms);
void loop_timer_stop(struct loop *loop, struct timer *timer);

/* A call deferred: once, soon, never from inside loop_defer(). Tasks run in the order of their defers. */
struct loop_task {
    void (*fn)(void *ctx);
    void *ctx;
    struct loop_task **list; /* NULL: idle */
    struct loop_task *prev, *next;
};
void loop_task_init(struct loop_task *task, void (*fn)(void *ctx), void *ctx);
/* Nothing more happens if it is waiting already. A task is idle when it is called, and may free itself or defer again.
 */
void loop_defer(struct loop *loop, struct loop_task *task);
void loop_task_cancel(struct loop *loop, struct loop_task *task);
bool loop_task_waiting(const struct loop_task *task);

/* Work on libuv's pool (4 threads for all: nothing that waits for the network, and files of users are slow at worst).
 * `work` runs on a pool thread, then `done` on the loop, exactly once. Neither can be stopped: an owner that closes
 * waits for it (loop_group_hold()) or leaves it everything it touches. The loop stays alive meanwhile. */
struct loop_work {
    uv_work_t uv;
    void (*work)(void *ctx);
    void (*done)(void *ctx);
    void *ctx;
};
void loop_work_submit(struct loop *loop, struct loop_work *work, void (*run)(void *ctx), void (*done)(void *ctx),
                      void *ctx);

/* A handle group. `open` counts the handles until their close callbacks have run, and the holds. */
struct loop_handle;
struct loop_group {
    struct loop *loop;
    struct loop_handle *handles; /* those that nobody has closed; a utlist */
    unsigned open;
    bool closing;
    void (*done)(void *ctx);
    void *done_ctx;
    struct loop_task done_task;
};

void loop_group_init(struct loop_group *group, struct loop *loop);
/* Close whatever is still open. `done` (may be NULL) is called exactly once, never from inside this call, when the last
 * close callback has run and the last hold is released; it may free the group, or use it anew. Once per use. */
void loop_group_close(struct loop_group *group, void (*done)(void *ctx), void *ctx);
/* Let `done` also wait for something that is no handle: a request under way. Also while the group is closing, as long
 * as `done` has not been called. */
void loop_group_hold(struct loop_group *group);
void loop_group_release(struct loop_group *group);

/* What all handles have in common. Zeroed memory is a handle that was never opened. */
struct loop_handle {
    struct loop_group *group; /* NULL: closed, or never opened */
    uv_handle_t *uv;
    void (*closed)(void *ctx);
    void *closed_ctx;
    struct loop_handle *prev, *next;
};
/* Take a libuv handle that was just initialised on the group's loop (uv_pipe_init(), …) into the group; sets its data.
 */
void loop_handle_add(struct loop_group *group, struct loop_handle *handle, uv_handle_t *uv);
/* Close this one; its callbacks are not called any more. `closed` (may be NULL) is called once its memory may go; the
 * group must stay. A handle that is closed or closing is left alone, and then `closed` must be NULL. */
void loop_close(struct loop_handle *handle, void (*closed)(void *ctx), void *ctx);
/* Open and not closing. */
bool loop_is_open(const struct loop_handle *handle);

/* A descriptor, level-triggered. `status` 0: `events` of UV_READABLE, UV_WRITABLE, UV_DISCONNECT (the other side has
 * shut down its writing; ask for it) and UV_PRIORITIZED. A hang-up comes as the events asked for: read or write, and
 * see. `status` < 0 (-EBADF is all that libuv tells of any error state): polling has stopped; reading, writing or
 * SO_ERROR gives the reason, and loop_poll_start() starts it again. libuv makes the descriptor non-blocking, allows one
 * poll a descriptor (-EEXIST), and no plain files (-EPERM). The descriptor is the owner's, to be closed after
 * loop_close(), not before. */
struct loop_poll;
typedef void loop_poll_fn(void *ctx, int fd, int events, int status);
struct loop_poll {
    struct loop_handle handle;
    uv_poll_t uv;
    int fd;
    int events; /* asked for; 0: stopped */
    loop_poll_fn *fn;
    void *ctx;
};
int loop_poll_init(struct loop_group *group, struct loop_poll *poll, int fd, loop_poll_fn *fn, void *ctx);
/* Watch for `events` from now on; 0 stops. */
int loop_poll_start(struct loop_poll *poll, int events);

/* Wake the loop from any thread. Several sends may come as one call. */
struct loop_async {
    struct loop_handle handle;
    uv_async_t uv;
    void (*fn)(void *ctx);
    void *ctx;
};
int loop_async_init(struct loop_group *group, struct loop_async *async, void (*fn)(void *ctx), void *ctx);
/* Any thread; the owner sees to it that no thread sends after loop_close(). */
void loop_async_send(struct loop_async *async);

/* A signal, from now on. */
struct loop_signal {
    struct loop_handle handle;
    uv_signal_t uv;
    void (*fn)(void *ctx, int signum);
    void *ctx;
};
int loop_signal_init(struct loop_group *group, struct loop_signal *signal, int signum,
                     void (*fn)(void *ctx, int signum), void *ctx);

#endif
