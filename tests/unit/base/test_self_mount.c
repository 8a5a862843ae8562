/* What lies in the mount: by its device, whatever the way there. /proc stands in for it. */
#include "base/self_mount.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void what_lies_in_it(void **state)
{
    (void)state;
    struct self_mount m = {0};
    struct stat st;
    char dir[] = "/tmp/triggerd-self-XXXXXX", link[64], behind[96];
    assert_int_equal(stat("/proc", &st), 0);
    assert_non_null(mkdtemp(dir));
    snprintf(link, sizeof(link), "%s/link", dir);
    snprintf(behind, sizeof(behind), "%s/none/deeper", link);
    assert_int_equal(symlink("/proc/self", link), 0);

    assert_false(self_mount_holds(&m, "/proc")); /* there is none */
    assert_false(self_mount_is(&m, 0));
    self_mount_set(&m, st.st_dev);
    assert_true(self_mount_is(&m, st.st_dev));
    assert_false(self_mount_is(NULL, st.st_dev));
    assert_true(self_mount_holds(&m, "/proc"));
    assert_true(self_mount_holds(&m, "/proc/self/status"));
    assert_true(self_mount_holds(&m, "/proc/self/none//and/more/"));
    assert_true(self_mount_holds(&m, link));
    assert_true(self_mount_holds(&m, behind));
    assert_false(self_mount_holds(&m, "/"));
    assert_false(self_mount_holds(&m, "/none"));
    assert_false(self_mount_holds(&m, "none"));
    assert_false(self_mount_holds(&m, dir));
    assert_false(self_mount_holds(&m, ""));
    self_mount_set(&m, 0);
    assert_false(self_mount_holds(&m, "/proc"));
    unlink(link);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_lies_in_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
