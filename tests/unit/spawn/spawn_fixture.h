/* A spawner with a ledger in a folder of its own, and what tests do with it: start, wait, reap, read the output.
 * Included by one test program each; an assertion ends the test. */
#ifndef TRIGGERD_TESTS_SPAWN_FIXTURE_H
#define TRIGGERD_TESTS_SPAWN_FIXTURE_H

#include "base/util.h"
#include "spawn/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY 65534
#define PATIENCE_MS 30000

struct fixture {
    struct spawner *spawner;
    struct ledger *ledger;
    int wake_fd;
    char dir[64];
    char ledger_path[96];
};

static inline void on_wake(void *ctx)
{
    struct fixture *f = ctx;
    uint64_t one = 1;
    if (write(f->wake_fd, &one, sizeof(one)) != sizeof(one))
        abort();
}

static inline void open_fixture(struct fixture *f, uint64_t default_open)
{
    struct error err = ERROR_INIT;
    strcpy(f->dir, "/tmp/test_spawn.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(chmod(f->dir, 0755), 0);
    snprintf(f->ledger_path, sizeof(f->ledger_path), "%s/children", f->dir);
    f->wake_fd = eventfd(0, EFD_CLOEXEC);
    assert_true(f->wake_fd >= 0);
    assert_int_equal(ledger_create(f->ledger_path, &f->ledger, &err), 0);
    const struct spawner_options options = {
        .ledger = f->ledger, .wake = on_wake, .wake_ctx = f, .default_open_soft = default_open};
    assert_int_equal(spawner_create(&options, &f->spawner, &err), 0);
}

static inline void close_fixture(struct fixture *f)
{
    spawner_destroy(f->spawner);
    assert_int_equal(ledger_used(f->ledger), 0);
    ledger_destroy(f->ledger);
    close(f->wake_fd);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
}

static inline int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    open_fixture(f, 0);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    close_fixture(*state);
    free(*state);
    return 0;
}

static inline void wait_wake(struct fixture *f)
{
    struct pollfd p = {.fd = f->wake_fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    uint64_t n;
    assert_int_equal(read(f->wake_fd, &n, sizeof(n)), sizeof(n));
}

static inline void keep_result(void *ctx, const struct spawn_result *result)
{
    *(struct spawn_result *)ctx = *result;
}

static inline struct spawn_request *request_of(const char *const *argv, struct spawn_result *result)
{
    struct spawn_request *r = spawn_request_new();
    for (; *argv; argv++)
        spawn_request_arg(r, *argv);
    result->pid = -1; /* not called yet */
    r->done = keep_result;
    r->ctx = result;
    return r;
}
#define COMMAND(result, ...) request_of((const char *const[]){__VA_ARGS__, NULL}, result)
#define SHELL(result, script) COMMAND(result, "/bin/sh", "-c", script)

static inline void finish_start(struct fixture *f, struct spawn_result *result)
{
    while (result->pid == -1) {
        wait_wake(f);
        spawner_collect(f->spawner, 0);
    }
}

static inline void start(struct fixture *f, struct spawn_request *request, struct spawn_result *result)
{
    spawner_submit(f->spawner, request);
    finish_start(f, result);
}

static inline struct child_status reap(struct fixture *f, struct spawn_result *result)
{
    struct pollfd p = {.fd = result->pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    struct child_status status;
    assert_int_equal(child_reap(result->pidfd, result->pid, CHILD_REAP_GROUP, &status), 0);
    if (result->slot != SPAWN_NO_SLOT)
        ledger_release(f->ledger, (unsigned)result->slot);
    close(result->pidfd);
    return status;
}

/* Run it to its end with a pipe as its stdout; what it printed, to be freed. */
static inline char *output_of(struct fixture *f, struct spawn_request *request, struct spawn_result *result)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    request->fds[1] = ends[1];
    start(f, request, result);
    if (result->error.code)
        print_error("%s\n", result->error.message);
    assert_int_equal(result->error.code, 0);
    struct buf b = {0};
    ssize_t n;
    while ((n = read(ends[0], buf_reserve(&b, 4096), 4096)) > 0)
        b.len += (size_t)n;
    buf_addc(&b, '\0');
    close(ends[0]);
    struct child_status status = reap(f, result);
    assert_int_equal(status.exit_code, 0);
    return buf_steal(&b);
}

#define assert_output(f, request, result, expected)                                                                    \
    do {                                                                                                               \
        char *output_ = output_of(f, request, result);                                                                 \
        assert_string_equal(output_, expected);                                                                        \
        free(output_);                                                                                                 \
    } while (0)

static inline void write_file(const struct fixture *f, const char *name, const char *text, mode_t mode)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
