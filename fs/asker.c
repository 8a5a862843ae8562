/* Who asked for a change, and waits until it is made: not for ever. */
#include "fs/internal.h"

fuse_req_t asker_take(struct asker *a)
{
    fuse_req_t req = steal(&a->req);
    if (req) {
        loop_timer_stop(a->fs->loop, &a->patience);
        fuse_req_interrupt_func(req, NULL, NULL);
    }
    return req;
}

static void out_of_patience(struct timer *timer, void *ctx)
{
    (void)timer;
    struct asker *a = ctx;
    answer_error(asker_take(a), a->interrupted ? -EINTR : -ETIMEDOUT);
}

/* What is answered in a moment is better answered: who is told EINTR asks again, and would emit twice. */
static void interrupted(fuse_req_t req, void *ctx)
{
    (void)req;
    struct asker *a = ctx;
    if (!a->interrupted)
        loop_timer_start(a->fs->loop, &a->patience, INTERRUPTED_WAITS_MS);
    a->interrupted = true;
}

void asker_init(struct asker *a, struct fs *fs, fuse_req_t req)
{
    *a = (struct asker){.req = req, .fs = fs};
    timer_init(&a->patience, out_of_patience, a);
    loop_timer_start(fs->loop, &a->patience, WRITER_WAITS_MS);
    fuse_req_interrupt_func(req, interrupted, a);
}
