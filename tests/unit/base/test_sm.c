#include "base/sm.h"

#include "base/util.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { IDLE, BUSY, CLOSED, STATES };

struct owner {
    struct sm sm;
    bool bad;
    unsigned moves, from;
};

static bool invariant(const struct sm *sm)
{
    return !container_of(sm, struct owner, sm)->bad;
}

static const struct sm_state states[STATES] = {
    [IDLE] = {"idle", SM_TO(BUSY) | SM_TO(CLOSED)},
    [BUSY] = {"busy", SM_TO(IDLE) | SM_TO(BUSY)},
    [CLOSED] = {"closed", 0},
};
static const struct sm_table table = {"owner", states, STATES, invariant};

static void trace(void *ctx, const struct sm *sm, unsigned from)
{
    struct owner *o = ctx;
    assert_ptr_equal(sm, &o->sm);
    o->moves++;
    o->from = from;
}

static void allowed_moves(void **state)
{
    (void)state;
    struct owner o = {.bad = false};
    sm_init(&o.sm, &table, IDLE);
    sm_trace(&o.sm, trace, &o);
    assert_string_equal(sm_state_name(&o.sm), "idle");
    assert_false(sm_can_move(&o.sm, IDLE));
    assert_false(sm_can_move(&o.sm, 63));
    assert_false(sm_can_move(&o.sm, 99));
    sm_move(&o.sm, BUSY);
    sm_move(&o.sm, BUSY);
    assert_int_equal(o.from, BUSY);
    sm_move(&o.sm, IDLE);
    sm_move(&o.sm, CLOSED);
    assert_int_equal(sm_state(&o.sm), CLOSED);
    assert_int_equal(o.moves, 4);
    assert_int_equal(o.from, IDLE);
}

/* Does a child that moves an idle machine so end by SIGABRT? */
static bool aborts(unsigned first, unsigned second, bool bad)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct owner o = {.bad = false};
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        sm_init(&o.sm, &table, IDLE);
        sm_move(&o.sm, first);
        o.bad = bad;
        sm_move(&o.sm, second);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void forbidden_moves_end_the_process(void **state)
{
    (void)state;
    assert_false(aborts(BUSY, IDLE, false));
    assert_true(aborts(BUSY, CLOSED, false));
    assert_true(aborts(BUSY, 64, false));
    assert_true(aborts(BUSY, IDLE, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allowed_moves),
        cmocka_unit_test(forbidden_moves_end_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
