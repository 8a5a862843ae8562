/* The spawn threads, what a child gets and is denied, how an end is told; and the ledger. */
#include "spawn_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

/* ---- starts and ends ----------------------------------------------------------------------------------------------
 */

static void test_end_is_told(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *script, *text;
    } rows[] = {
        {"exit 0", "exit code 0"},
        {"exit 3", "exit code 3"},
        {"exit 255", "exit code 255"},
        {"kill -KILL $$", "killed by SIGKILL"},
        {"kill -SEGV $$", "killed by SIGSEGV"}, /* no core: its limit is 0 */
        {"kill -40 $$", "killed by signal 40"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct spawn_result result;
        start(f, SHELL(&result, rows[i].script), &result);
        assert_true(result.pid > 1);
        assert_int_equal(result.stage, SPAWN_STAGE_NONE);
        struct child_status status = reap(f, &result);
        char text[CHILD_STATUS_TEXT_SIZE];
        assert_string_equal(child_status_text(&status, text), rows[i].text);
    }
    char text[CHILD_STATUS_TEXT_SIZE];
    assert_string_equal(child_status_text(&(struct child_status){-1, SIGABRT, true}, text),
                        "killed by SIGABRT (core dumped)");
}

static void test_reap_is_for_the_dead(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    struct child_status status;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct spawn_request *request = COMMAND(&result, "cat");
    request->fds[0] = ends[0];
    start(f, request, &result);
    assert_int_equal(child_reap(result.pidfd, result.pid, CHILD_REAP_GROUP, &status), -EAGAIN);
    assert_int_equal(child_reap(result.pidfd, result.pid, 0, &status), -EAGAIN);
    assert_int_equal(kill(result.pid, 0), 0);
    close(ends[1]);
    int again = dup(result.pidfd);
    assert_int_equal(reap(f, &result).exit_code, 0);
    assert_int_equal(child_reap(again, result.pid, 0, &status), -ECHILD);
    close(again);
}

static void test_reap_kills_the_rest_of_the_group(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct spawn_request *request = SHELL(&result, "sleep 1000 & exit 7");
    request->fds[1] = ends[1];
    start(f, request, &result);
    assert_int_equal(reap(f, &result).exit_code, 7);
    /* The sleep held the pipe: its end of file is that of the sleep. */
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    char c;
    assert_int_equal(read(ends[0], &c, 1), 0);
    close(ends[0]);
}

/* ---- what a child gets --------------------------------------------------------------------------------------------
 */

static void test_environment_is_what_was_given(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    setenv("SECRET_OF_THE_DAEMON", "x", 1);
    struct spawn_request *request = COMMAND(&result, "/usr/bin/env");
    spawn_request_env(request, "A", "1");
    spawn_request_env(request, "AB", "2");
    spawn_request_env(request, "A", "three=3");
    assert_output(f, request, &result, "A=three=3\nAB=2\n");
    assert_output(f, COMMAND(&result, "/usr/bin/env"), &result, "");
}

static void test_arguments_are_not_interpreted(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    assert_output(f, COMMAND(&result, "printf", "[%s]", "$HOME; `id` *", "", "\n\xff"), &result,
                  "[$HOME; `id` *][][\n\xff]");
    struct spawn_request *request = COMMAND(&result, "printf", "%s");
    struct buf expected = {0};
    for (int i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d,", i);
        spawn_request_arg(request, text);
        buf_adds(&expected, text);
    }
    assert_output(f, request, &result, expected.data);
    buf_fini(&expected);
}

static void test_session_signals_and_privileges(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    void (*old)(int) = signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    /* Printed by the shell's own reading, so that /proc/self is the shell. */
    struct spawn_request *request = SHELL(
        &result, "while read key value rest; do case $key in SigBlk:|SigIgn:|NoNewPrivs:) echo $key $value;; esac; "
                 "done < /proc/self/status; read a b c d pgrp session tty rest < /proc/self/stat; "
                 "[ $pgrp = $$ ] && [ $session = $$ ] && [ $tty = 0 ] && echo leader");
    assert_output(f, request, &result, "SigBlk: 0000000000000000\nSigIgn: 0000000000000000\nNoNewPrivs: 1\nleader\n");
    signal(SIGPIPE, old);
    signal(SIGUSR1, SIG_DFL);
}

/* Neither one above those that the spawner holds nor one below, with close-on-exec forgotten. */
static void test_descriptors_are_closed(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct spawn_result result;
    int low = open("/proc/uptime", O_RDONLY), high = dup2(low, 777);
    assert_true(low >= 0 && high == 777);
    open_fixture(&f, 0);
    char *output = output_of(&f, SHELL(&result, "for n in /proc/$$/fd/*; do readlink $n; done; echo end"), &result);
    assert_ptr_equal(strstr(output, "/dev/null\npipe:["), output);
    assert_null(strstr(output, "uptime"));
    assert_null(strstr(output, "eventfd"));
    assert_ptr_equal(strstr(strstr(output, "pipe:[") + 1, "pipe:["), NULL);
    assert_non_null(strstr(output, "\nend\n"));
    free(output);
    assert_output(&f, COMMAND(&result, "readlink", "/proc/self/fd/0", "/proc/self/fd/2"), &result,
                  "/dev/null\n/dev/null\n");
    close_fixture(&f);
    close(low);
    close(high);
}

/* Descriptors that are 0–2 themselves, crosswise: 0 is to become 1, 1 to become 2, 2 to become 0. */
static void test_descriptors_overlap(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    int saved[3], in[2], out[2], err[2];
    for (int i = 0; i < 3; i++)
        saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 20);
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
    dup2(out[1], 0);
    dup2(err[1], 1);
    dup2(in[0], 2);
    close(out[1]);
    close(err[1]);
    close(in[0]);
    struct spawn_request *request = SHELL(&result, "read x; echo out $x; echo err $x >&2");
    memcpy(request->fds, (int[]){2, 0, 1}, sizeof(request->fds));
    start(f, request, &result);
    bool closed = fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0;
    for (int i = 0; i < 3; i++) {
        dup2(saved[i], i);
        close(saved[i]);
    }
    assert_true(closed);
    assert_int_equal(write(in[1], "hello\n", 6), 6);
    char text[32] = {0};
    assert_int_equal(read(out[0], text, sizeof(text)), 10);
    assert_memory_equal(text, "out hello\n", 10);
    assert_int_equal(read(err[0], text, sizeof(text)), 10);
    assert_memory_equal(text, "err hello\n", 10);
    assert_int_equal(reap(f, &result).exit_code, 0);
    close(in[1]);
    close(out[0]);
    close(err[0]);
}

static void test_one_descriptor_twice(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct spawn_request *request = SHELL(&result, "echo a; echo b >&2");
    request->fds[1] = request->fds[2] = ends[1];
    start(f, request, &result);
    assert_int_equal(reap(f, &result).exit_code, 0);
    char text[8];
    assert_int_equal(read(ends[0], text, sizeof(text)), 4);
    assert_memory_equal(text, "a\nb\n", 4);
    assert_int_equal(read(ends[0], text, sizeof(text)), 0); /* ours were closed, once */
    close(ends[0]);
}

static void test_umask_and_cwd(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    struct spawn_request *request = SHELL(&result, "umask; pwd");
    request->umask = 027;
    request->cwd = xstrdup("/usr/share");
    assert_output(f, request, &result, "0027\n/usr/share\n");

    write_file(f, "hello", "#!/bin/sh\necho hello from $PWD\n", 0755);
    char expected[128];
    snprintf(expected, sizeof(expected), "hello from %s\n", f->dir);
    request = COMMAND(&result, "./hello");
    request->cwd = xstrdup(f->dir);
    assert_output(f, request, &result, expected);

    request = COMMAND(&result, "hello"); /* an empty element of PATH is the cwd */
    request->cwd = xstrdup(f->dir);
    spawn_request_env(request, "PATH", "/bin:");
    assert_output(f, request, &result, expected);
}

static void test_path_search(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    char path[256];
    /* Passes over a missing folder, a file in place of one, and a file that is not executable. */
    snprintf(path, sizeof(path), "/nope:%s/plain:%s:/usr/bin:/bin", f->dir, f->dir);
    write_file(f, "plain", "", 0644);
    write_file(f, "printf", "", 0644);
    struct spawn_request *request = COMMAND(&result, "printf", "found");
    spawn_request_env(request, "PATH", path);
    assert_output(f, request, &result, "found");
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    struct spawn_request *request =
        SHELL(&result, "echo $(ulimit -c) $(ulimit -v) $(ulimit -St) $(ulimit -Ht) $(ulimit -n) $(ulimit -p)");
    request->limits =
        (struct spawn_limits){.memory_bytes = 512 << 20, .cpu_seconds = 10, .processes = 5000, .open_files = 64};
    assert_output(f, request, &result, "0 524288 10 15 64 5000\n");

    struct rlimit own, core;
    getrlimit(RLIMIT_CORE, &core);
    setrlimit(RLIMIT_CORE, &(struct rlimit){MAX(core.rlim_max, 4096u), MAX(core.rlim_max, 4096u)}); /* if it may */
    getrlimit(RLIMIT_NOFILE, &own);
    char expected[64];
    snprintf(expected, sizeof(expected), "0 %llu\n", (unsigned long long)own.rlim_cur);
    assert_output(f, SHELL(&result, "echo $(ulimit -c) $(ulimit -Sn)"), &result, expected);
    setrlimit(RLIMIT_CORE, &core);
}

static void test_default_open_files(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct spawn_result result;
    open_fixture(&f, 256);
    assert_output(&f, SHELL(&result, "ulimit -Sn"), &result, "256\n");
    struct spawn_request *request = SHELL(&result, "ulimit -Sn");
    request->limits.open_files = 300;
    assert_output(&f, request, &result, "300\n");
    close_fixture(&f);
}

static void test_cpu_limit_ends_it(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    struct spawn_request *request = SHELL(&result, "while :; do :; done");
    request->limits.cpu_seconds = 1;
    start(f, request, &result);
    assert_int_equal(reap(f, &result).signal, SIGXCPU);
}

static void test_user(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    if (geteuid() != 0)
        skip();
    struct spawn_request *request = SHELL(&result, "echo $(id -u) $(id -g) $(id -G); grep CapEff /proc/self/status");
    request->change_user = true;
    request->uid = NOBODY;
    request->gid = 1234;
    request->groups = xcalloc(2, sizeof(gid_t));
    request->groups[0] = 7;
    request->groups[1] = 8;
    request->n_groups = 2;
    assert_output(f, request, &result, "65534 1234 1234 7 8\nCapEff:\t0000000000000000\n");

    request = SHELL(&result, "id -G"); /* no groups of the daemon's */
    request->change_user = true;
    request->uid = request->gid = NOBODY;
    assert_output(f, request, &result, "65534\n");
    assert_int_equal(geteuid(), 0); /* and the daemon is who it was */
}

/* ---- the queue ----------------------------------------------------------------------------------------------------
 */

/* A request whose child hangs before its exec, and with it its thread, until ret_drain is read from. */
static struct spawn_request *hanging_request(struct spawn_result *result, int *ret_drain)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
    char page[4096] = {0};
    assert_int_equal(write(ends[1], page, sizeof(page)), sizeof(page));
    struct spawn_request *request = COMMAND(result, "true");
    request->cgroup_fd = ends[1]; /* "0" does not fit */
    *ret_drain = ends[0];
    return request;
}

static void drain(int fd)
{
    char page[4096];
    assert_int_equal(read(fd, page, sizeof(page)), sizeof(page));
}

/* Lets the hanging child go when a queued request's descriptor was closed, which is when it was cancelled. */
static void *drain_when_cancelled(void *arg)
{
    const int *fds = arg;
    char c;
    if (read(fds[1], &c, 1) == 0)
        drain(fds[0]);
    return NULL;
}

static void wait_for_running_slot(const struct fixture *f, struct ledger_entry *ret)
{
    for (;;) {
        _cleanup_(freep) struct ledger_entry *entries = NULL;
        size_t n;
        assert_int_equal(ledger_read(f->ledger_path, &entries, &n, NULL), 0);
        if (n == 1 && entries[0].pid > 0) {
            *ret = entries[0];
            return;
        }
        sched_yield();
    }
}

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    struct spawn_result first, second, third;
    struct ledger_entry entry;
    int hang, ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0); /* of which the hanging child has no copy */
    struct spawn_request *a = hanging_request(&first, &hang), *b = COMMAND(&second, "true"),
                         *c = COMMAND(&third, "true");
    spawner_submit(f->spawner, a);
    wait_for_running_slot(f, &entry);
    b->fds[0] = ends[0];
    spawner_submit(f->spawner, b);
    spawner_submit(f->spawner, c);
    assert_true(spawner_cancel(f->spawner, b));
    assert_int_equal(second.pid, -1);            /* not from inside the call */
    assert_false(spawner_cancel(f->spawner, b)); /* and not twice */
    assert_false(spawner_cancel(f->spawner, a)); /* on its way */
    finish_start(f, &second);
    assert_int_equal(second.error.code, -ECANCELED);
    assert_int_equal(second.stage, SPAWN_STAGE_QUEUE);
    assert_int_equal(second.pidfd, -1);
    assert_int_equal(write(ends[1], "x", 1), -1); /* SIGPIPE is ignored in main */
    assert_int_equal(errno, EPIPE);
    assert_int_equal(first.pid, -1);
    assert_int_equal(third.pid, -1);
    drain(hang);
    finish_start(f, &first);
    finish_start(f, &third);
    assert_int_equal(reap(f, &first).exit_code, 0);
    assert_int_equal(reap(f, &third).exit_code, 0);
    close(ends[1]);
    close(hang);
}

static void test_destroy_cancels(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct spawn_result results[3];
    struct ledger_entry entry;
    int fds[2], ends[2];
    open_fixture(&f, 0);
    spawner_submit(f.spawner, hanging_request(&results[0], &fds[0]));
    wait_for_running_slot(&f, &entry);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fds[1] = ends[0];
    struct spawn_request *queued = COMMAND(&results[1], "true");
    queued->fds[1] = ends[1];
    spawner_submit(f.spawner, queued);
    spawner_submit(f.spawner, COMMAND(&results[2], "true"));
    /* spawner_destroy() waits for the start under way. */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, drain_when_cancelled, fds), 0);
    spawner_destroy(steal(&f.spawner));
    pthread_join(thread, NULL);
    assert_true(results[0].pid > 1);
    assert_int_equal(results[1].error.code, -ECANCELED);
    assert_int_equal(results[2].error.code, -ECANCELED);
    assert_int_equal(reap(&f, &results[0]).exit_code, 0);
    close(fds[0]);
    close(fds[1]);
    close_fixture(&f);
}

struct chain {
    struct fixture *f;
    unsigned started, ended, to_start, order_errors;
};

static void chain_next(struct chain *chain);

static void chain_done(void *ctx, const struct spawn_result *result)
{
    struct chain *chain = ctx;
    assert_int_equal(result->error.code, 0);
    struct spawn_result copy = *result;
    assert_int_equal(reap(chain->f, &copy).exit_code, 0);
    chain->ended++;
    chain_next(chain);
}

static void chain_next(struct chain *chain)
{
    if (chain->started == chain->to_start)
        return;
    chain->started++;
    struct spawn_request *request = spawn_request_new();
    spawn_request_arg(request, "/bin/true");
    request->done = chain_done;
    request->ctx = chain;
    spawner_submit(chain->f->spawner, request);
}

static void test_many(void **state)
{
    struct fixture *f = *state;
    struct chain chain = {.f = f, .to_start = 600};
    for (int i = 0; i < 16; i++)
        chain_next(&chain);
    while (chain.ended < chain.to_start) {
        wait_wake(f);
        assert_true(spawner_collect(f->spawner, 3) <= 3); /* the rest wakes again */
    }
    assert_int_equal(chain.started, chain.to_start);
}

/* ---- ends that the spawner tells ----------------------------------------------------------------------------------
 */

struct told {
    struct fixture *f;
    struct spawn_exit exit;
    struct spawn_result result;
    unsigned starts, ends, *all_ends;
};

static void told_start(void *ctx, const struct spawn_result *result)
{
    struct told *t = ctx;
    assert_int_equal(t->starts, 0);
    t->starts++;
    t->result = *result;
}

static void told_end(void *ctx)
{
    struct told *t = ctx;
    struct child_status status;
    assert_int_equal(t->starts, 1); /* first */
    assert_int_equal(t->ends, 0);
    t->ends++;
    assert_int_equal(child_reap(t->result.pidfd, t->result.pid, CHILD_REAP_GROUP | CHILD_REAP_DEAD, &status), 0);
    assert_int_equal(status.exit_code, 5);
    ledger_release(t->f->ledger, (unsigned)t->result.slot);
    close(t->result.pidfd);
    if (t->all_ends)
        ++*t->all_ends;
}

static struct spawn_request *told_request(struct fixture *f, struct told *t, const char *script)
{
    struct spawn_request *request = spawn_request_new();
    *t = (struct told){.f = f, .exit = {.fn = told_end, .ctx = t}};
    spawn_request_arg(request, "/bin/sh");
    spawn_request_arg(request, "-c");
    spawn_request_arg(request, script);
    request->done = told_start;
    request->ctx = t;
    request->exit = &t->exit;
    return request;
}

static bool readable(int fd, int patience_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, patience_ms) == 1;
}

static void test_exit_is_told(void **state)
{
    struct fixture *f = *state;
    struct told t;
    spawner_submit(f->spawner, told_request(f, &t, "exit 5"));
    assert_true(readable(spawner_exits_fd(f->spawner), PATIENCE_MS));
    assert_false(readable(f->wake_fd, 0)); /* that it started is no reason to wake anybody */
    assert_int_equal(t.starts, 0);
    assert_int_equal(spawner_collect(f->spawner, 0), 2);
    assert_int_equal(t.ends, 1);
    assert_false(readable(spawner_exits_fd(f->spawner), 0));
}

static void test_exit_of_what_never_started(void **state)
{
    struct fixture *f = *state;
    struct told t;
    struct spawn_request *request = told_request(f, &t, "exit 5");
    request->cwd = xstrdup("/nowhere");
    spawner_submit(f->spawner, request);
    wait_wake(f);
    assert_int_equal(spawner_collect(f->spawner, 0), 1);
    assert_int_equal(t.result.error.code, -ENOENT);
    assert_int_equal(t.ends, 0);
    assert_false(readable(spawner_exits_fd(f->spawner), 0));
}

/* Who wants to end it must hear of it. */
static void test_cancel_tells_of_a_start(void **state)
{
    struct fixture *f = *state;
    struct told t;
    struct ledger_entry entry;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct spawn_request *request = told_request(f, &t, "read line; exit 5");
    request->fds[0] = ends[0];
    spawner_submit(f->spawner, request);
    wait_for_running_slot(f, &entry);
    assert_false(spawner_cancel(f->spawner, request)); /* starting, or started and not told */
    wait_wake(f);
    spawner_collect(f->spawner, 0);
    assert_int_equal(t.starts, 1);
    assert_int_equal(t.ends, 0);
    close(ends[1]);
    assert_true(readable(spawner_exits_fd(f->spawner), PATIENCE_MS));
    spawner_collect(f->spawner, 0);
    assert_int_equal(t.ends, 1);
}

static void test_many_exits(void **state)
{
    struct fixture *f = *state;
    static struct told all[300];
    unsigned ended = 0;
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        struct spawn_request *request = told_request(f, &all[i], "exit 5");
        all[i].all_ends = &ended;
        spawner_submit(f->spawner, request);
    }
    while (ended < ARRAY_SIZE(all)) {
        struct pollfd p[] = {{.fd = f->wake_fd, .events = POLLIN},
                             {.fd = spawner_exits_fd(f->spawner), .events = POLLIN}};
        assert_true(poll(p, ARRAY_SIZE(p), PATIENCE_MS) > 0);
        if (p[0].revents)
            wait_wake(f);
        spawner_collect(f->spawner, 2); /* ends are seen before their start was told */
    }
}

/* ---- several threads ---------------------------------------------------------------------------------------------
 */

/* One start that hangs holds up one thread; what the others start gets its own descriptors and none of another's. */
static void test_threads(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct spawn_result hanging, results[40];
    struct ledger_entry entry;
    int hang, ends[ARRAY_SIZE(results)][2];
    open_fixture(&f, 0);
    spawner_destroy(steal(&f.spawner));
    const struct spawner_options options = {.ledger = f.ledger, .wake = on_wake, .wake_ctx = &f, .threads = 3};
    assert_int_equal(spawner_create(&options, &f.spawner, NULL), 0);
    spawner_submit(f.spawner, hanging_request(&hanging, &hang));
    wait_for_running_slot(&f, &entry);
    for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
        struct spawn_request *request =
            SHELL(&results[i], "echo $I; for n in /proc/$$/fd/*; do readlink $n; done | grep -c pipe:");
        char text[16];
        snprintf(text, sizeof(text), "%zu", i);
        spawn_request_env(request, "I", text);
        assert_int_equal(pipe2(ends[i], O_CLOEXEC), 0);
        request->fds[1] = ends[i][1];
        spawner_submit(f.spawner, request);
    }
    for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
        char expected[32], got[64] = "";
        size_t n = 0;
        finish_start(&f, &results[i]);
        assert_int_equal(results[i].error.code, 0);
        for (ssize_t r = 1; r > 0; n += (size_t)r) {
            r = read(ends[i][0], got + n, sizeof(got) - 1 - n);
            assert_true(r >= 0);
        }
        snprintf(expected, sizeof(expected), "%zu\n1\n", i);
        assert_string_equal(got, expected);
        assert_int_equal(reap(&f, &results[i]).exit_code, 0);
        close(ends[i][0]);
    }
    assert_int_equal(hanging.pid, -1);
    drain(hang);
    finish_start(&f, &hanging);
    assert_int_equal(reap(&f, &hanging).exit_code, 0);
    close(hang);
    close_fixture(&f);
}

/* ---- the ledger ---------------------------------------------------------------------------------------------------
 */

static uint64_t start_time_of(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    char *at = strrchr(text, ')');
    for (int field = 2; field < 22; field++)
        at = strchr(at + 1, ' ');
    return strtoull(at, NULL, 10);
}

static void test_ledger_names_the_child(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    struct ledger_entry entry;
    int hang;
    struct spawn_request *request = hanging_request(&result, &hang);
    strcpy(request->tag, "run_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    spawner_submit(f->spawner, request);
    wait_for_running_slot(f, &entry); /* before its exec already */
    uint64_t started = start_time_of(entry.pid);
    assert_true(entry.start_min <= started && started <= entry.start_max);
    assert_true(entry.start_max - entry.start_min <= 1000);
    assert_string_equal(entry.tag, "run_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    drain(hang);
    finish_start(f, &result);
    assert_int_equal(entry.pid, result.pid);
    assert_int_equal(ledger_used(f->ledger), 1);
    reap(f, &result);
    struct ledger_entry *entries;
    size_t n;
    assert_int_equal(ledger_read(f->ledger_path, &entries, &n, NULL), 0);
    assert_int_equal(n, 0);
    free(entries);
    close(hang);
}

static size_t entries_in(const char *path)
{
    struct ledger_entry *entries;
    size_t n = 99;
    assert_int_equal(ledger_read(path, &entries, &n, NULL), 0);
    free(entries);
    return n;
}

static void overwrite(const char *path, off_t at, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, text, strlen(text), at), strlen(text));
    close(fd);
}

static void test_ledger_reading(void **state)
{
    struct fixture *f = *state;
    struct ledger *ledger;
    struct error err = ERROR_INIT;
    char path[128];
    unsigned slot;
    snprintf(path, sizeof(path), "%s/other", f->dir);
    assert_int_equal(entries_in(path), 0); /* none there */
    assert_int_equal(ledger_create(path, &ledger, &err), 0);
    assert_int_equal(ledger_take(ledger, "a tag that is longer than forty bytes, by far", &slot), 0);
    assert_int_equal(ledger_take(ledger, "", &slot), 0);
    ledger_destroy(ledger);

    struct ledger_entry *entries;
    size_t n;
    assert_int_equal(ledger_read(path, &entries, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_string_equal(entries[0].tag, "a tag that is longer than forty bytes, ");
    assert_int_equal(entries[0].pid, 0);
    free(entries);

    assert_int_equal(truncate(path, 64 + 64 + 10), 0); /* the second cut off */
    assert_int_equal(entries_in(path), 1);
    overwrite(path, 24, "x"); /* another boot */
    assert_int_equal(entries_in(path), 0);
    assert_int_equal(truncate(path, 10), 0);
    assert_int_equal(entries_in(path), 0);

    assert_int_equal(ledger_create(path, &ledger, &err), 0); /* replaces it, empty */
    assert_int_equal(entries_in(path), 0);
    assert_int_equal(ledger_take(ledger, "", &slot), 0);
    assert_int_equal(entries_in(path), 1);
    overwrite(path, 0, "X"); /* no ledger at all */
    assert_int_equal(entries_in(path), 0);
    ledger_destroy(ledger);

    assert_int_equal(ledger_create("/nope/children", &ledger, &err), -ENOENT);
    assert_string_equal(err.message, "/nope/children.new: No such file or directory");
    assert_int_equal(ledger_read(f->dir, &entries, &n, &err), -EISDIR);
}

static void test_ledger_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    unsigned slot, highest = 0;
    struct stat st;
    for (unsigned i = 0; i < LEDGER_SLOTS_MAX; i++) {
        assert_int_equal(ledger_take(f->ledger, "x", &slot), 0);
        highest = MAX(highest, slot);
    }
    assert_int_equal(highest, LEDGER_SLOTS_MAX - 1);
    assert_int_equal(ledger_take(f->ledger, "x", &slot), -ENOSPC);
    assert_int_equal(stat(f->ledger_path, &st), 0);
    assert_int_equal(st.st_size, 64 + 64 * LEDGER_SLOTS_MAX);
    assert_int_equal(entries_in(f->ledger_path), LEDGER_SLOTS_MAX);
    start(f, COMMAND(&result, "true"), &result);
    assert_int_equal(result.error.code, -ENOSPC);
    assert_int_equal(result.stage, SPAWN_STAGE_LEDGER);

    ledger_release(f->ledger, 4321);
    assert_int_equal(ledger_take(f->ledger, "x", &slot), 0);
    assert_int_equal(slot, 4321);
    for (unsigned i = 0; i < LEDGER_SLOTS_MAX; i++)
        ledger_release(f->ledger, i);
    start(f, COMMAND(&result, "true"), &result);
    assert_int_equal(reap(f, &result).exit_code, 0);
}

static void test_without_ledger(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    struct spawner *with = f->spawner;
    const struct spawner_options options = {.wake = on_wake, .wake_ctx = f};
    assert_int_equal(spawner_create(&options, &f->spawner, NULL), 0);
    start(f, COMMAND(&result, "true"), &result);
    assert_int_equal(result.slot, SPAWN_NO_SLOT);
    assert_int_equal(reap(f, &result).exit_code, 0);
    spawner_destroy(f->spawner);
    f->spawner = with;
    spawner_destroy(NULL);
    ledger_destroy(NULL);
    spawn_request_free(NULL);
    spawn_request_free(COMMAND(&result, "never", "submitted"));
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        TEST(test_end_is_told),
        TEST(test_reap_is_for_the_dead),
        TEST(test_reap_kills_the_rest_of_the_group),
        TEST(test_environment_is_what_was_given),
        TEST(test_arguments_are_not_interpreted),
        TEST(test_session_signals_and_privileges),
        cmocka_unit_test(test_descriptors_are_closed),
        TEST(test_descriptors_overlap),
        TEST(test_one_descriptor_twice),
        TEST(test_umask_and_cwd),
        TEST(test_path_search),
        TEST(test_limits),
        cmocka_unit_test(test_default_open_files),
        TEST(test_cpu_limit_ends_it),
        TEST(test_user),
        TEST(test_cancel),
        cmocka_unit_test(test_destroy_cancels),
        TEST(test_exit_is_told),
        TEST(test_exit_of_what_never_started),
        TEST(test_cancel_tells_of_a_start),
        TEST(test_many_exits),
        TEST(test_many),
        cmocka_unit_test(test_threads),
        TEST(test_ledger_names_the_child),
        TEST(test_ledger_reading),
        TEST(test_ledger_is_bounded),
        TEST(test_without_ledger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
