/* Which control group the daemon may divide, by what /proc says of it, and what is in the way. The groups themselves
 * need a kernel's: tests/system/test_cgroup.py. */
#include "base/util.h"
#include "spawn/cgroup.h"
#include "spawn/cgroup_find.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char dir[64];    /* a place for what stands for /proc/self */
    char groups[96]; /* and for /sys/fs/cgroup */
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    strcpy(f->dir, "/tmp/test_cgroup.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->groups, sizeof(f->groups), "%s/with blank", f->dir);
    assert_int_equal(mkdir(f->groups, 0755), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static void put(const struct fixture *f, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* `root`: what of the hierarchy is mounted. */
static void mounts(const struct fixture *f, const char *root)
{
    char text[512];
    snprintf(text, sizeof(text),
             "22 1 0:20 / /proc rw - proc proc rw\n"
             "23 1 0:21 / %s/one rw shared:9 - cgroup cgroup rw,memory\n"
             "24 1 0:22 %s %s/with\\040blank rw,nosuid shared:10 master:2 - cgroup2 cgroup2 rw\n",
             f->dir, root, f->dir);
    put(f, "mountinfo", text);
}

static void group(const struct fixture *f, const char *path, bool marked)
{
    char full[160];
    snprintf(full, sizeof(full), "%s/%s", f->groups, path);
    assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
    if (marked && setxattr(full, "user.delegate", "1", 1, 0) < 0 && setxattr(full, "trusted.delegate", "1", 1, 0) < 0)
        skip(); /* a file system without either */
}

static void assert_given(const struct fixture *f, const char *path, bool inside)
{
    struct error err = ERROR_INIT;
    _cleanup_(freep) char *found = NULL;
    bool is_inside;
    char expected[160];
    assert_int_equal(cgroup_find_given(f->dir, &found, &is_inside, &err), 0);
    snprintf(expected, sizeof(expected), "%s%s", f->groups, path);
    assert_string_equal(found, expected);
    assert_int_equal(is_inside, inside);
}

static void assert_none(const struct fixture *f, const char *why)
{
    struct error err = ERROR_INIT;
    char *found = NULL;
    bool inside;
    assert_int_equal(cgroup_find_given(f->dir, &found, &inside, &err), -ENOTSUP);
    assert_string_equal(err.message, why);
    assert_null(found);
}

static void test_one_that_is_marked(void **state)
{
    const struct fixture *f = *state;
    mounts(f, "/");
    put(f, "cgroup", "2:memory:/x\n0::/a.service\n");
    group(f, "a.service", false);
    assert_none(f, "the cgroup /a.service is not given to triggerd (systemd: Delegate=yes)");
    group(f, "a.service", true);
    assert_given(f, "/a.service", true);
}

static void test_its_parent_is_marked(void **state)
{
    const struct fixture *f = *state;
    mounts(f, "/");
    put(f, "cgroup", "0::/a.service/main\n");
    group(f, "a.service", true);
    group(f, "a.service/main", false);
    assert_given(f, "/a.service", false);
    put(f, "cgroup", "0::/a.service/main/deeper\n");
    assert_none(f, "the cgroup /a.service/main/deeper is not given to triggerd (systemd: Delegate=yes)");
}

static void test_a_part_is_mounted(void **state)
{
    const struct fixture *f = *state;
    mounts(f, "/box");
    put(f, "cgroup", "0::/box/a\n");
    group(f, "a", true);
    assert_given(f, "/a", true);
    put(f, "cgroup", "0::/boxes/a\n");
    assert_none(f, "the cgroup /boxes/a is not mounted");
}

static void test_the_root(void **state)
{
    const struct fixture *f = *state;
    mounts(f, "/");
    put(f, "cgroup", "0::/\n");
    assert_none(f, "the cgroup / is not given to triggerd (systemd: Delegate=yes)");
    put(f, "with blank/cgroup.type", "domain\n"); /* not the machine's: that of a container */
    assert_given(f, "", true);
}

static void test_none(void **state)
{
    const struct fixture *f = *state;
    put(f, "mountinfo", "22 1 0:20 / /proc rw - proc proc rw\nno line of it - cgroup2\n- cgroup2 \n");
    put(f, "cgroup", "3:pids:/\n2:memory:/x\n");
    assert_none(f, "there is no cgroup version 2");
    put(f, "cgroup", "0::/a\n");
    assert_none(f, "the cgroup /a is not mounted");
    put(f, "mountinfo", "");
    assert_none(f, "the cgroup /a is not mounted");
}

/* A directory is no group: nothing is moved, nothing is left there. */
static void test_what_is_no_group(void **state)
{
    const struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct cgroups *all = NULL;
    assert_int_equal(cgroups_create_in(NULL, f->groups, true, "node_1", &all, &err), -ENOTSUP);
    assert_non_null(strstr(err.message, "no cgroup.kill"));
    assert_int_equal(rmdir(f->groups), 0);
    assert_int_equal(mkdir(f->groups, 0755), 0);
    assert_int_equal(cgroups_create_in(NULL, "/nonexistent", true, "node_1", &all, &err), -ENOENT);
    assert_null(all);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_that_is_marked),
        TEST(test_its_parent_is_marked),
        TEST(test_a_part_is_mounted),
        TEST(test_the_root),
        TEST(test_none),
        TEST(test_what_is_no_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
