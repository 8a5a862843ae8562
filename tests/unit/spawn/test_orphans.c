/* What an earlier life left is found and killed, strangers are not; a run's tree is killed whole, its neighbours are
 * not.
 *
 * A life is a forked process with a spawner and a ledger that is killed by SIGKILL. This process is the subreaper, so
 * that it can see every orphan end. */
#include "base/util.h"
#include "spawn/orphans.h"
#include "spawn/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 30000

static char *self_path;

struct fixture {
    char dir[64], ledger_path[96], node_id[48], other_id[64];
    int report[2]; /* processes write their pid here, one a line */
    FILE *reports;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    strcpy(f->dir, "/tmp/test_orphans.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->ledger_path, sizeof(f->ledger_path), "%s/children", f->dir);
    snprintf(f->node_id, sizeof(f->node_id), "node_%s", f->dir + strlen(f->dir) - 6);
    snprintf(f->other_id, sizeof(f->other_id), "%s_other", f->node_id);
    assert_int_equal(pipe2(f->report, O_CLOEXEC), 0);
    f->reports = fdopen(f->report[0], "r");
    *state = f;
    return 0;
}

/* Wait for a process that is, or is becoming, this one's child; how it ended, as waitpid() has it. */
static int wait_end(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pid_t left = waitpid(-1, NULL, WNOHANG);
    assert_int_equal(left, -1); /* each test accounts for all its processes */
    fclose(f->reports);
    close(f->report[1]);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static pid_t read_pid(struct fixture *f)
{
    char line[32];
    assert_non_null(fgets(line, sizeof(line), f->reports));
    return (pid_t)atoi(line);
}

/* How many bytes of /proc/PID/NAME fit into `ret`. */
static size_t read_proc(pid_t pid, const char *name, char *ret, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(ret, 1, size - 1, file) : 0;
    ret[n] = '\0';
    if (file)
        fclose(file);
    return n;
}

/* One that has said its pid and becomes `sleep`: in the middle of execve(2) no process has an environment. */
static pid_t read_sleeper(struct fixture *f)
{
    pid_t pid = read_pid(f);
    struct timespec nap = {.tv_nsec = 1000000};
    char text[4096];
    for (int i = 0; i < PATIENCE_MS; i++) {
        if (read_proc(pid, "comm", text, sizeof(text)) > 0 && streq(text, "sleep\n") &&
            read_proc(pid, "environ", text, sizeof(text)) > 0)
            return pid;
        nanosleep(&nap, NULL);
    }
    fail_msg("process %d does not sleep", (int)pid);
    return -1;
}

/* ---- a life -------------------------------------------------------------------------------------------------------
 */

struct life {
    struct spawner *spawner;
    struct ledger *ledger;
    int wake_fd;
};

static void on_wake(void *ctx)
{
    struct life *life = ctx;
    uint64_t one = 1;
    if (write(life->wake_fd, &one, sizeof(one)) != sizeof(one))
        abort();
}

static void keep_result(void *ctx, const struct spawn_result *result)
{
    *(struct spawn_result *)ctx = *result;
}

static void life_begin(struct life *life, const char *ledger_path)
{
    if (ledger_create(ledger_path, &life->ledger, NULL) < 0)
        abort();
    life->wake_fd = eventfd(0, EFD_CLOEXEC);
    const struct spawner_options options = {.ledger = life->ledger, .wake = on_wake, .wake_ctx = life};
    if (spawner_create(&options, &life->spawner, NULL) < 0)
        abort();
}

static void life_end(struct life *life)
{
    spawner_destroy(life->spawner);
    ledger_destroy(life->ledger);
    close(life->wake_fd);
}

static struct spawn_request *request_of(const struct fixture *f, const char *node_id, const char *const *argv)
{
    struct spawn_request *request = spawn_request_new();
    for (; *argv; argv++)
        spawn_request_arg(request, *argv);
    if (node_id)
        spawn_request_env(request, ORPHANS_NODE_VARIABLE, node_id);
    request->fds[1] = fcntl(f->report[1], F_DUPFD_CLOEXEC, 3);
    request->fds[2] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    request->done = keep_result;
    return request;
}
#define SHELL(f, node_id, script) request_of(f, node_id, (const char *const[]){"/bin/sh", "-c", script, NULL})

static struct spawn_result start(struct life *life, struct spawn_request *request)
{
    struct spawn_result result = {.pid = -1};
    request->ctx = &result;
    spawner_submit(life->spawner, request);
    while (result.pid == -1) {
        uint64_t n;
        if (read(life->wake_fd, &n, sizeof(n)) < 0)
            abort();
        spawner_collect(life->spawner, 0);
    }
    if (result.error.code)
        abort();
    return result;
}

static struct child_status reap(struct life *life, const struct spawn_result *result)
{
    struct pollfd p = {.fd = result->pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    struct child_status status;
    assert_int_equal(child_reap(result->pidfd, result->pid, 0, &status), 0);
    ledger_release(life->ledger, (unsigned)result->slot);
    close(result->pidfd);
    return status;
}

/* Fork a life that starts one script and then waits to be killed. */
static pid_t life_with(struct fixture *f, const char *node_id, const char *script)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct life life;
        life_begin(&life, f->ledger_path);
        start(&life, SHELL(f, node_id, script));
        for (;;)
            pause();
    }
    return pid;
}

static void kill_life(pid_t pid)
{
    kill(pid, SIGKILL);
    wait_end(pid);
}

static int hunt(struct fixture *f)
{
    struct error err = ERROR_INIT;
    int n = orphans_kill(f->ledger_path, f->node_id, &err);
    if (n < 0)
        print_error("%s\n", err.message);
    return n;
}

/* It is gone, or goes now: reaped by us, killed, or by its parent if that was killed a moment later. */
static void assert_killed(pid_t pid)
{
    struct timespec nap = {.tv_nsec = 1000000};
    for (int i = 0; i < PATIENCE_MS; i++) {
        int status = 0;
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid) {
            assert_true(WIFSIGNALED(status));
            assert_int_equal(WTERMSIG(status), SIGKILL);
            return;
        }
        if (got < 0 && kill(pid, 0) < 0)
            return;
        nanosleep(&nap, NULL);
    }
    fail_msg("process %d lives", (int)pid);
}

/* ---- orphans ------------------------------------------------------------------------------------------------------
 */

static void test_nothing_to_do(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(hunt(f), 0); /* no ledger */
    struct ledger *ledger;
    assert_int_equal(ledger_create(f->ledger_path, &ledger, NULL), 0);
    ledger_destroy(ledger);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    assert_int_equal(hunt(f), 0);
    assert_int_equal(orphans_kill(f->ledger_path, NULL, NULL), 0);
    clock_gettime(CLOCK_MONOTONIC, &to);
    assert_true(to.tv_sec - from.tv_sec < ORPHANS_DEADLINE_MS / 1000);
    struct error err = ERROR_INIT;
    assert_int_equal(orphans_kill(f->dir, NULL, &err), -EISDIR);
}

static void test_by_ledger(void **state)
{
    struct fixture *f = *state;
    pid_t life = life_with(f, NULL, "echo $$; exec sleep 1000");
    pid_t child = read_pid(f);
    kill_life(life);
    assert_int_equal(kill(child, 0), 0);
    assert_int_equal(hunt(f), 1);
    assert_killed(child);
    assert_int_equal(hunt(f), 0);
}

static void test_by_environment(void **state)
{
    struct fixture *f = *state;
    pid_t life = life_with(f, f->node_id, "echo $$; exec sleep 1000");
    pid_t child = read_sleeper(f);
    kill_life(life);
    assert_int_equal(unlink(f->ledger_path), 0);
    assert_int_equal(hunt(f), 1);
    assert_killed(child);
}

/* The grandchild left the session, and cleared its environment: found as a child of one that is found. */
static void test_descendant_in_disguise(void **state)
{
    struct fixture *f = *state;
    pid_t life = life_with(f, f->node_id, "env -i setsid sh -c 'echo $$; exec sleep 1000' & echo $$; wait");
    pid_t a = read_pid(f), b = read_pid(f);
    kill_life(life);
    assert_int_equal(hunt(f), 2);
    assert_killed(a);
    assert_killed(b);
}

/* The leader has gone with the old life's ledger entry still there; a member is left that shows nothing but its
 * session. */
static void test_session_of_a_dead_child(void **state)
{
    struct fixture *f = *state;
    pid_t life = life_with(f, NULL, "env -i sh -c 'echo $$; exec sleep 1000' & echo $$");
    pid_t a = read_pid(f), b = read_pid(f);
    kill_life(life);
    siginfo_t info = {0};
    pid_t member, leader;
    /* Which is which: the leader ends by itself. */
    assert_int_equal(waitid(P_ALL, 0, &info, WEXITED), 0);
    leader = info.si_pid;
    assert_true(leader == a || leader == b);
    member = leader == a ? b : a;
    assert_int_equal(kill(member, 0), 0);
    assert_int_equal(hunt(f), 1);
    assert_killed(member);
}

/* Killed between clone and exec: the child's environment is still the daemon's, the ledger has it all the same. */
static void test_child_before_its_exec(void **state)
{
    struct fixture *f = *state;
    int full[2];
    char page[4096] = {0};
    assert_int_equal(pipe2(full, O_CLOEXEC), 0);
    assert_int_equal(fcntl(full[1], F_SETPIPE_SZ, 4096), 4096);
    assert_int_equal(write(full[1], page, sizeof(page)), sizeof(page));
    pid_t pid = fork();
    if (pid == 0) {
        struct life life;
        life_begin(&life, f->ledger_path);
        struct spawn_request *request = SHELL(f, f->node_id, "echo ran");
        request->cgroup_fd = full[1]; /* hangs there */
        start(&life, request);
        _exit(1);
    }
    struct ledger_entry entry = {0};
    while (entry.pid == 0) {
        struct ledger_entry *entries;
        size_t n;
        assert_int_equal(ledger_read(f->ledger_path, &entries, &n, NULL), 0);
        if (n == 1)
            entry = entries[0];
        free(entries);
    }
    kill_life(pid);
    assert_int_equal(kill(entry.pid, 0), 0);
    assert_int_equal(hunt(f), 1);
    assert_killed(entry.pid);
    close(full[0]);
    close(full[1]);
}

/* A slot that was taken, and no child came to be: neither an error nor a long wait. */
static void test_slot_without_child(void **state)
{
    struct fixture *f = *state;
    struct ledger *ledger;
    unsigned slot;
    assert_int_equal(ledger_create(f->ledger_path, &ledger, NULL), 0);
    assert_int_equal(ledger_take(ledger, "run_x", &slot), 0);
    assert_int_equal(hunt(f), 0);
    ledger_destroy(ledger);
}

static void test_forks_while_hunted(void **state)
{
    struct fixture *f = *state;
    pid_t life = life_with(f, f->node_id,
                           "while :; do setsid sh -c 'while :; do setsid sleep 1000 & echo 0; sleep 0.02; done' & "
                           "sleep 0.02; done");
    for (int i = 0; i < 20; i++) /* it is well under way */
        read_pid(f);
    kill_life(life);
    assert_true(hunt(f) > 20);
    /* Of every process only the zombie is left, and nothing more comes. */
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    assert_int_equal(errno, ECHILD);
    assert_int_equal(hunt(f), 0);
}

/* ---- who is no orphan ---------------------------------------------------------------------------------------------
 */

/* A process of no life: with or without the mark in its environment and no_new_privs. */
static pid_t stranger(struct fixture *f, const char *node_id, bool no_new_privs)
{
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        if (no_new_privs)
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        dup2(f->report[1], 1);
        char *env = xasprintf("%s=%s", ORPHANS_NODE_VARIABLE, node_id);
        execle("/bin/sh", "sh", "-c", "echo $$; exec sleep 1000", NULL, (char *[]){env, NULL});
        _exit(1);
    }
    assert_int_equal(read_sleeper(f), pid);
    return pid;
}

static void assert_lives_then_end(pid_t pid)
{
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    kill(pid, SIGTERM);
    assert_int_equal(WTERMSIG(wait_end(pid)), SIGTERM);
}

static void test_another_node_is_spared(void **state)
{
    struct fixture *f = *state;
    pid_t other = stranger(f, f->other_id, true);
    pid_t prefix = stranger(f, "node_", true);
    assert_int_equal(hunt(f), 0);
    assert_lives_then_end(other);
    assert_lives_then_end(prefix);

    /* Even below an orphan: a daemon of another node that a step had started. */
    char script[160];
    snprintf(script, sizeof(script), "env -i %s=%s setsid sh -c 'echo $$; exec sleep 1000' & wait",
             ORPHANS_NODE_VARIABLE, f->other_id);
    pid_t life = life_with(f, f->node_id, script);
    other = read_sleeper(f);
    kill_life(life);
    assert_int_equal(hunt(f), 1);
    siginfo_t info;
    assert_int_equal(waitid(P_ALL, 0, &info, WEXITED), 0); /* the step itself */
    assert_int_equal(info.si_status, SIGKILL);
    assert_lives_then_end(other);
}

/* A whole container can have the variable. */
static void test_mark_without_no_new_privs_is_spared(void **state)
{
    struct fixture *f = *state;
    pid_t pid = stranger(f, f->node_id, false);
    assert_int_equal(hunt(f), 0);
    assert_lives_then_end(pid);
    pid = stranger(f, f->node_id, true); /* the difference is that alone */
    assert_int_equal(hunt(f), 1);
    assert_killed(pid);
}

/* Ledger entries whose number was used again: by a process of another start time, by a session leader that is gone. */
static void test_reused_numbers_are_spared(void **state)
{
    struct fixture *f = *state;
    struct ledger *ledger;
    unsigned slot;
    pid_t pid = stranger(f, "x", true);
    assert_int_equal(ledger_create(f->ledger_path, &ledger, NULL), 0);
    assert_int_equal(ledger_take(ledger, "", &slot), 0);
    struct ledger_slot *s = ledger_slot(ledger, slot);
    s->pid = pid;
    s->start_max = s->start_min;
    s->state = LEDGER_RUNNING;
    uint64_t now = s->start_min;
    s->start_min = 0;
    s->start_max = 1; /* long before */
    assert_int_equal(hunt(f), 0);
    s->start_min = now + 1000;
    s->start_max = now + 1000; /* after */
    assert_int_equal(hunt(f), 0);

    pid_t forker = fork(); /* a session whose leader is gone, older than the entry, and one without no_new_privs */
    if (forker == 0) {
        setsid();
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (fork() == 0) {
            dprintf(f->report[1], "%d\n", (int)getpid());
            for (;;)
                pause();
        }
        _exit(0);
    }
    wait_end(forker);
    pid_t member = read_pid(f);
    s->pid = forker;
    assert_int_equal(hunt(f), 0);
    s->start_min = 0; /* not older: the entry's own session, then */
    assert_int_equal(hunt(f), 1);
    assert_killed(member);

    s->pid = 1; /* damage: process 1, none, a group of all */
    s->start_max = UINT64_MAX;
    assert_int_equal(hunt(f), 0);
    s->pid = -1;
    assert_int_equal(hunt(f), 0);
    s->pid = INT32_MAX;
    assert_int_equal(hunt(f), 0);
    ledger_destroy(ledger);
    assert_lives_then_end(pid);
}

/* The program again, as a child of a spawner: it hunts for the node it belongs to itself, and lives to tell. */
static void test_never_itself(void **state)
{
    struct fixture *f = *state;
    struct life life;
    life_begin(&life, f->ledger_path);
    char script[512]; /* a shell as ancestor in between, a sibling as prey */
    snprintf(script, sizeof(script), "setsid sleep 1000 & %s hunt %s %s; exit $?", self_path, f->ledger_path,
             f->node_id);
    struct spawn_result result = start(&life, SHELL(f, f->node_id, script));
    struct child_status status = reap(&life, &result);
    assert_int_equal(status.exit_code, 1); /* the sibling alone */
    life_end(&life);
    while (waitpid(-1, NULL, WNOHANG) > 0) /* unless the shell has reaped it */
        ;
}

/* ---- the tree of a run --------------------------------------------------------------------------------------------
 */

static void test_tree(void **state)
{
    struct fixture *f = *state;
    struct life life;
    life_begin(&life, f->ledger_path);
    /* In the group; in a session of its own below the child; one of those in disguise; one whose parent is gone and
     * that shows only the mark. All go. A step of the same run with another mark stays. */
    struct spawn_request *request = SHELL(
        f, f->node_id,
        "sleep 1000 & echo $!; setsid sh -c 'echo $$; exec sleep 1000' & env -i setsid sh -c 'echo $$; exec sleep "
        "1000' & (setsid sh -c 'echo $$; exec sleep 1000' &) ; wait");
    spawn_request_env(request, "TRIGGERD_STEP_TAG", "run_1/a");
    struct spawn_result result = start(&life, request);
    pid_t members[4], neighbours[2];
    for (int i = 0; i < 4; i++)
        members[i] = read_pid(f);
    struct spawn_request *neighbour = SHELL(f, f->node_id, "setsid sh -c 'echo $$; exec sleep 1000' & echo $$; wait");
    spawn_request_env(neighbour, "TRIGGERD_STEP_TAG", "run_1/ab");
    struct spawn_result other = start(&life, neighbour);
    for (int i = 0; i < 2; i++)
        neighbours[i] = read_pid(f);

    assert_int_equal(child_kill_tree(result.pid, "TRIGGERD_STEP_TAG=run_1/a", SIGKILL), 0);
    assert_int_equal(reap(&life, &result).signal, SIGKILL);
    for (int i = 0; i < 4; i++)
        assert_killed(members[i]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(kill(neighbours[i], 0), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), 0); /* alive, both */

    assert_int_equal(child_kill_tree(other.pid, NULL, SIGKILL), 0);
    assert_int_equal(reap(&life, &other).signal, SIGKILL);
    assert_killed(neighbours[0] == other.pid ? neighbours[1] : neighbours[0]);
    life_end(&life);
}

static void test_other_signals_go_to_the_group(void **state)
{
    struct fixture *f = *state;
    struct life life;
    life_begin(&life, f->ledger_path);
    struct spawn_result result = start(
        &life, SHELL(f, f->node_id, "setsid sh -c 'echo $$; exec sleep 1000' & trap 'exit 9' TERM; echo 0; wait"));
    pid_t a = read_pid(f), b = read_pid(f), away = a == 0 ? b : a;
    assert_int_equal(child_kill_tree(result.pid, NULL, SIGTERM), 0);
    assert_int_equal(reap(&life, &result).exit_code, 9);
    assert_lives_then_end(away);
    life_end(&life);
    assert_int_equal(child_kill_tree(1, NULL, SIGKILL), -EINVAL);
    assert_int_equal(child_kill_tree(0, NULL, SIGTERM), -EINVAL);
    assert_int_equal(child_kill_tree(-1, NULL, SIGKILL), -EINVAL);
}

/* The leader has ended and waits to be reaped: its session is still its own. */
static void test_tree_of_a_zombie(void **state)
{
    struct fixture *f = *state;
    struct life life;
    life_begin(&life, f->ledger_path);
    char script[256];
    snprintf(script, sizeof(script), "%s regroup & exit 0", self_path);
    struct spawn_result result = start(&life, SHELL(f, f->node_id, script));
    pid_t member = read_pid(f); /* in a group of its own */
    struct pollfd p = {.fd = result.pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_int_equal(child_kill_tree(result.pid, NULL, SIGKILL), 0);
    assert_killed(member);
    assert_int_equal(reap(&life, &result).exit_code, 0);
    life_end(&life);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (argc == 4 && streq(argv[1], "hunt"))
        return orphans_kill(argv[2], argv[3], NULL);
    if (argc == 2 && streq(argv[1], "regroup")) {
        setpgid(0, 0);
        dprintf(STDOUT_FILENO, "%d\n", (int)getpid());
        for (;;)
            pause();
    }
    self_path = realpath("/proc/self/exe", NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_to_do),
        TEST(test_by_ledger),
        TEST(test_by_environment),
        TEST(test_descendant_in_disguise),
        TEST(test_session_of_a_dead_child),
        TEST(test_child_before_its_exec),
        TEST(test_slot_without_child),
        TEST(test_forks_while_hunted),
        TEST(test_another_node_is_spared),
        TEST(test_mark_without_no_new_privs_is_spared),
        TEST(test_reused_numbers_are_spared),
        TEST(test_never_itself),
        TEST(test_tree),
        TEST(test_other_signals_go_to_the_group),
        TEST(test_tree_of_a_zombie),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(self_path);
    return failed;
}
