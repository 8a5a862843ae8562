/* Reading what references stand for, as a source does it: on a loop, while that goes on. (Where files may lie, and what
 * runs do with it: tests/system/test_secrets.py.) */
#include "engine/secret_read.h"

#include "base/loop.h"
#include "base/self_mount.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
    char dir[64];
    struct loop loop;
    struct secrets *secrets;
    struct strings list;
    char *items[2];
    struct secret_dirs dirs;
    int done;
};

static void put(const struct rig *r, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", r->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void rig_init(struct rig *r)
{
    *r = (struct rig){.dir = "/tmp/test_secret_read.XXXXXX"};
    assert_non_null(mkdtemp(r->dir));
    assert_int_equal(loop_init(&r->loop), 0);
    r->secrets = secrets_create();
    r->items[0] = (char *)"$CREDENTIALS_DIRECTORY";
    r->items[1] = (char *)".";
    r->list = (struct strings){r->items, 2};
    r->dirs = (struct secret_dirs){&r->list, NULL};
    unsetenv("CREDENTIALS_DIRECTORY");
    setenv("TEST_SECRET", "from the environment", 1);
    put(r, "a", "from a file\n");
}

static void rig_fini(struct rig *r)
{
    char path[128];
    secrets_destroy(r->secrets);
    assert_int_equal(loop_fini(&r->loop), 0);
    snprintf(path, sizeof(path), "%s/a", r->dir);
    unlink(path);
    assert_int_equal(rmdir(r->dir), 0);
}

static void done(void *ctx)
{
    ((struct rig *)ctx)->done++;
}

static void assert_expands(const struct rig *r, const char *text, const char *expected)
{
    char *got = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(secrets_expand(r->secrets, text, r->dir, &got, &err), 0);
    assert_string_equal(got, expected);
    secret_free(got);
}

static void variables_come_at_once(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    secrets_want(r.secrets, "redis://u:${env:TEST_SECRET}@h", r.dir);
    assert_null(secret_read_start(&r.loop, &r.dirs, r.secrets, done, &r));
    assert_expands(&r, "redis://u:${env:TEST_SECRET}@h", "redis://u:from the environment@h");
    loop_run(&r.loop);
    assert_int_equal(r.done, 0);
    rig_fini(&r);
}

static void files_come_from_the_loop(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    secrets_want(r.secrets, "${file:a} ${env:TEST_SECRET} ${file:none}", r.dir);
    assert_non_null(secret_read_start(&r.loop, &r.dirs, r.secrets, done, &r));
    assert_int_equal(r.done, 0); /* never from inside */
    loop_run(&r.loop);
    assert_int_equal(r.done, 1);
    assert_expands(&r, "<${file:a}|${env:TEST_SECRET}>", "<from a file|from the environment>");
    char *text = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(secrets_expand(r.secrets, "${file:none}", r.dir, &text, &err), -ENOENT);
    _cleanup_(freep) char *expected = xasprintf("${file:none}: there is no such file below %s", r.dir);
    assert_string_equal(err.message, expected);
    /* Wanted again it is what it is then. */
    put(&r, "a", "changed");
    assert_null(secret_read_start(&r.loop, &r.dirs, r.secrets, done, &r));
    assert_expands(&r, "${file:a}", "from a file");
    secrets_want(r.secrets, "${file:a}", r.dir);
    assert_non_null(secret_read_start(&r.loop, &r.dirs, r.secrets, done, &r));
    loop_run(&r.loop);
    assert_expands(&r, "${file:a}", "changed");
    char *said = xstrdup("it was from a file, and is changed");
    mask_string(secrets_mask(r.secrets), &said);
    assert_string_equal(said, "it was ***, and is ***");
    free(said);
    rig_fini(&r);
}

static void what_was_abandoned_touches_nothing(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    secrets_want(r.secrets, "${file:a}", r.dir);
    secret_read_abandon(secret_read_start(&r.loop, &r.dirs, r.secrets, done, &r));
    secrets_destroy(steal(&r.secrets));
    loop_run(&r.loop);
    assert_int_equal(r.done, 0);
    rig_fini(&r);
}

static void without_a_loop_it_is_read_here(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    setenv("CREDENTIALS_DIRECTORY", r.dir, 1);
    secrets_want(r.secrets, "${file:a}", NULL); /* of no manifest: `.` is nothing */
    assert_null(secret_read_start(NULL, &r.dirs, r.secrets, done, &r));
    char *text = NULL;
    assert_int_equal(secrets_expand(r.secrets, "${file:a}", NULL, &text, NULL), 0);
    assert_string_equal(text, "from a file");
    secret_free(text);
    rig_fini(&r);
}

static void our_own_mount_is_avoided(void **state)
{
    (void)state;
    struct rig r;
    struct stat st;
    struct self_mount own = {0};
    rig_init(&r);
    assert_int_equal(stat(r.dir, &st), 0);
    self_mount_set(&own, st.st_dev);
    r.dirs.avoid = &own;
    secrets_want(r.secrets, "${file:a}", r.dir);
    assert_non_null(secret_read_start(&r.loop, &r.dirs, r.secrets, done, &r));
    loop_run(&r.loop);
    char *text = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(secrets_expand(r.secrets, "${file:a}", r.dir, &text, &err), -ENOENT);
    assert_string_equal(err.message, "${file:a}: lies in triggerd's own mount (SelfMount)");
    rig_fini(&r);
}

static void directories_of_manifests(void **state)
{
    (void)state;
    static const struct {
        const char *file, *dir;
    } cases[] = {{"/etc/m/x.yaml", "/etc/m"}, {"/x.yaml", "/"}, {"x.yaml", "."}, {"a/x.yaml", "a"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_(freep) char *dir = secret_dir_of(cases[i].file);
        assert_string_equal(dir, cases[i].dir);
    }
    assert_null(secret_dir_of(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variables_come_at_once),
        cmocka_unit_test(files_come_from_the_loop),
        cmocka_unit_test(what_was_abandoned_touches_nothing),
        cmocka_unit_test(without_a_loop_it_is_read_here),
        cmocka_unit_test(our_own_mount_is_avoided),
        cmocka_unit_test(directories_of_manifests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
