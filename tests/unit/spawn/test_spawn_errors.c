/* Why a start fails: the stage, the errno, the words; and that a failed start leaves nothing behind. */
#include "spawn_fixture.h"

#include <grp.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- why a start fails --------------------------------------------------------------------------------------------
 */

static void assert_fails(struct fixture *f, struct spawn_request *request, struct spawn_result *result, int code,
                         enum spawn_stage stage, const char *message)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    request->fds[1] = ends[1];
    start(f, request, result);
    char expected[512];
    snprintf(expected, sizeof(expected), message, f->dir, f->dir);
    assert_string_equal(result->error.message, expected);
    assert_int_equal(result->error.code, code);
    assert_int_equal(result->stage, stage);
    assert_int_equal(result->pid, 0);
    assert_int_equal(result->pidfd, -1);
    assert_int_equal(result->slot, SPAWN_NO_SLOT);
    char c;
    assert_int_equal(read(ends[0], &c, 1), 0); /* nobody holds the descriptors */
    close(ends[0]);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nor is there a zombie */
    assert_int_equal(errno, ECHILD);
    assert_int_equal(ledger_used(f->ledger), 0);
}

static void test_exec_fails(void **state)
{
    struct fixture *f = *state;
    write_file(f, "plain", "text\n", 0644);
    write_file(f, "text", "text\n", 0755);
    write_file(f, "missing", "#!/usr/bin/foo -x\n", 0755);
    write_file(f, "dos", "#! /bin/sh\r\necho\r\n", 0755);
    write_file(f, "denied", "", 0755);
    write_file(f, "denied", "#!./plain\n", 0755);
    static const struct {
        const char *program;
        int code;
        const char *message;
    } rows[] = {
        {"%s/nope", -ENOENT, "exec: %s/nope: no such file or directory"},
        {"%s/plain/x", -ENOTDIR, "exec: %s/plain/x: not a directory"},
        {"%s/plain", -EACCES, "exec: %s/plain: not executable (permission denied)"},
        {"%s/missing", -ENOENT, "exec: %s/missing: bad interpreter: /usr/bin/foo: no such file or directory"},
        {"%s/dos", -ENOENT,
         "exec: %s/dos: bad interpreter: /bin/sh\\r: no such file or directory (the line ends in a carriage return)"},
        {"%s/denied", -EACCES, "exec: %s/denied: bad interpreter: ./plain: permission denied"},
        {"%s", -EACCES, "exec: %s: is a directory"},
        {"%s/text", -ENOEXEC,
         "exec: %s/text: exec format error (no program of this machine, nor a script that begins with #!)"},
        {"", -EINVAL, "exec: the command is empty"},
        {"no-such-program", -ENOENT, "exec: no-such-program: not found in PATH"},
        {"a\n\x1b/b", -ENOENT, "exec: a\\n\\x1b/b: no such file or directory"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct spawn_result result;
        char program[128];
        snprintf(program, sizeof(program), rows[i].program, f->dir);
        struct spawn_request *request = COMMAND(&result, program);
        request->cwd = xstrdup(f->dir);
        assert_fails(f, request, &result, rows[i].code, SPAWN_STAGE_EXEC, rows[i].message);
    }
}

static void test_exec_fails_on_the_path(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    write_file(f, "script", "#!/usr/bin/foo\n", 0755);
    write_file(f, "plain", "", 0644);
    struct spawn_request *request = COMMAND(&result, "script");
    spawn_request_env(request, "PATH", f->dir);
    assert_fails(f, request, &result, -ENOENT, SPAWN_STAGE_EXEC,
                 "exec: %s/script: bad interpreter: /usr/bin/foo: no such file or directory");
    char path[128];
    snprintf(path, sizeof(path), "/nope:%s:/nope", f->dir);
    request = COMMAND(&result, "script");
    spawn_request_env(request, "PATH", path);
    assert_fails(f, request, &result, -ENOENT, SPAWN_STAGE_EXEC,
                 "exec: %s/script: bad interpreter: /usr/bin/foo: no such file or directory");
    request = COMMAND(&result, "plain");
    spawn_request_env(request, "PATH", path);
    assert_fails(f, request, &result, -EACCES, SPAWN_STAGE_EXEC, "exec: %s/plain: not executable (permission denied)");
}

static void test_other_failures(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;

    struct spawn_request *request = SHELL(&result, "");
    request->cwd = xstrdup("/nope");
    assert_fails(f, request, &result, -ENOENT, SPAWN_STAGE_CWD, "cwd: /nope: no such file or directory");

    request = spawn_request_new();
    request->done = keep_result;
    request->ctx = &result;
    result.pid = -1;
    assert_fails(f, request, &result, -EINVAL, SPAWN_STAGE_EXEC, "exec: the command is empty");
    request = COMMAND(&result, "", "x");
    assert_fails(f, request, &result, -EINVAL, SPAWN_STAGE_EXEC, "exec: the command is empty");

    request = COMMAND(&result, "/bin/echo");
    _cleanup_(freep) char *large = xmalloc(200 << 10);
    memset(large, 'a', (200 << 10) - 1);
    large[(200 << 10) - 1] = '\0';
    spawn_request_arg(request, large);
    assert_fails(f, request, &result, -E2BIG, SPAWN_STAGE_EXEC,
                 "exec: /bin/echo: arguments and environment are too long (204810 bytes in all; one may have 128 KiB)");

    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    request = SHELL(&result, "");
    request->cgroup_fd = ends[0]; /* not to be written to */
    assert_fails(f, request, &result, -EBADF, SPAWN_STAGE_CGROUP, "cgroup: bad file descriptor");
    assert_true(fcntl(ends[0], F_GETFD) < 0);
    close(ends[1]);

    request = SHELL(&result, "");
    request->fds[0] = 19999;
    start(f, request, &result);
    assert_int_equal(result.error.code, -EBADF);
    assert_int_equal(result.stage, SPAWN_STAGE_DESCRIPTORS);
}

static void test_no_descriptors_left(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    struct rlimit old, few;
    int taken[64], n = 0;
    struct spawn_request *request = COMMAND(&result, "true");
    getrlimit(RLIMIT_NOFILE, &old);
    few = old;
    few.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &few);
    while ((taken[n] = dup(STDERR_FILENO)) >= 0)
        n++;
    start(f, request, &result);
    while (n > 0)
        close(taken[--n]);
    setrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(result.error.code, -EMFILE);
    assert_int_equal(result.stage, SPAWN_STAGE_FORK);
    assert_string_equal(result.error.message, "fork: too many open descriptors in the daemon");
    assert_int_equal(ledger_used(f->ledger), 0);
}

/* Checks of a daemon without privileges, in a process of their own. Returns its exit code: the number of the check. */
static int as_nobody(void)
{
    struct fixture f = {0};
    struct spawn_result result;
    if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY))
        return 1;
    open_fixture(&f, 0);
    struct spawn_request *request = SHELL(&result, "id -u");
    request->change_user = true;
    request->uid = request->gid = 0;
    start(&f, request, &result);
    if (result.stage != SPAWN_STAGE_SETGROUPS || result.error.code != -EPERM ||
        !streq(result.error.message, "setgroups: 0 supplementary groups: operation not permitted"))
        return 2;

    request = SHELL(&result, "id -u"); /* its own user needs no privilege */
    request->change_user = true;
    request->uid = request->gid = NOBODY;
    _cleanup_(freep) char *output = output_of(&f, request, &result);
    if (!streq(output, "65534\n"))
        return 3;

    struct rlimit own;
    getrlimit(RLIMIT_NOFILE, &own);
    request = SHELL(&result, "ulimit -n"); /* more than the hard limit: that is what it gets */
    request->limits.open_files = own.rlim_max + 1;
    _cleanup_(freep) char *limit = output_of(&f, request, &result);
    if (strtoull(limit, NULL, 10) != own.rlim_max)
        return 4;
    close_fixture(&f);
    return 0;
}

static void test_unprivileged(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    pid_t pid = fork();
    if (pid == 0)
        _exit(as_nobody());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_user_meets_permissions(void **state)
{
    struct fixture *f = *state;
    struct spawn_result result;
    if (geteuid() != 0)
        skip();
    write_file(f, "private", "#!/bin/sh\n", 0700);
    char path[128];
    snprintf(path, sizeof(path), "%s/private", f->dir);
    struct spawn_request *request = COMMAND(&result, path);
    request->change_user = true;
    request->uid = request->gid = NOBODY;
    assert_fails(f, request, &result, -EACCES, SPAWN_STAGE_EXEC, "exec: %s/private: permission denied (as user 65534)");
    snprintf(path, sizeof(path), "%s/folder", f->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    request = SHELL(&result, "");
    request->cwd = xstrdup(path);
    request->change_user = true;
    request->uid = request->gid = NOBODY;
    assert_fails(f, request, &result, -EACCES, SPAWN_STAGE_CWD, "cwd: %s/folder: permission denied (as user 65534)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_exec_fails),          TEST(test_exec_fails_on_the_path),   TEST(test_other_failures),
        TEST(test_no_descriptors_left), cmocka_unit_test(test_unprivileged), TEST(test_user_meets_permissions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
