/* Notes of starts: what a life leaves is found by the next, and nothing else. */
#include "store/starts.h"

#include "base/id.h"
#include "fixture.h"

struct rig {
    struct owner owner;
    char path[200];
    struct starts *starts;
};

static void open_again(struct rig *r)
{
    struct error err = ERROR_INIT;
    starts_close(r->starts);
    r->starts = NULL;
    if (starts_open(r->path, &r->starts, &err) < 0)
        fail_msg("%s", err.message);
}

static int setup(void **state)
{
    struct rig *r = xcalloc(1, sizeof(*r));
    owner_init(&r->owner, NULL);
    snprintf(r->path, sizeof(r->path), "%s/starts", r->owner.dir);
    open_again(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;
    starts_close(r->starts);
    owner_fini(&r->owner);
    free(r);
    return 0;
}

#define A "run_01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define B "run_01ARZ3NDEKTSV4RRFFQ69G5FAW"

static void test_notes_are_left_until_cleared(void **state)
{
    struct rig *r = *state;
    int a = starts_note(r->starts, A), b = starts_note(r->starts, B);
    assert_true(a >= 0 && b >= 0 && a != b);
    assert_false(starts_left(r->starts, A)); /* it is of this life */
    starts_clear(r->starts, b);
    open_again(r);
    assert_true(starts_left(r->starts, A));
    assert_false(starts_left(r->starts, B));
    open_again(r); /* not looked at yet: still there */
    assert_true(starts_left(r->starts, A));
    starts_note(r->starts, B);
    starts_clear_left(r->starts);
    assert_false(starts_left(r->starts, A));
    open_again(r);
    assert_false(starts_left(r->starts, A));
    assert_true(starts_left(r->starts, B));
}

static void test_their_number_is_bounded(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < STARTS_MAX; i++)
        assert_true(starts_note(r->starts, A) >= 0);
    assert_int_equal(starts_note(r->starts, B), -ENOSPC);
    starts_clear(r->starts, 7);
    assert_int_equal(starts_note(r->starts, B), 7);
    open_again(r);
    assert_true(starts_left(r->starts, B));
    starts_clear_left(r->starts);
    for (unsigned i = 0; i < STARTS_MAX; i++)
        assert_true(starts_note(r->starts, A) >= 0);
}

static void test_what_is_no_note_is_none(void **state)
{
    struct rig *r = *state;
    starts_close(r->starts);
    r->starts = NULL;
    char junk[STARTS_MAX * ID_SIZE];
    memset(junk, 1, sizeof(junk));
    int fd = open(r->path, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
    close(fd);
    open_again(r);
    assert_false(starts_left(r->starts, A));
    assert_true(starts_note(r->starts, A) >= 0);
    assert_int_equal(truncate(r->path, 10), 0); /* made whole before it is mapped */
    open_again(r);
    assert_false(starts_left(r->starts, A));
    starts_clear(r->starts, starts_note(r->starts, A));
}

static void test_the_port_keeps_them(void **state)
{
    struct rig *r = *state;
    owner_open(&r->owner, NULL);
    struct store_port *p = r->owner.port;
    p->clear_start(p, p->note_start(p, A));
    assert_true(p->note_start(p, B) >= 0);
    assert_false(p->start_left(p, B));
    owner_close(&r->owner);
    owner_open(&r->owner, NULL);
    p = r->owner.port;
    assert_true(p->start_left(p, B));
    assert_false(p->start_left(p, A));
    p->clear_starts_left(p);
    owner_close(&r->owner);
    owner_open(&r->owner, NULL);
    p = r->owner.port;
    assert_false(p->start_left(p, B));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_notes_are_left_until_cleared),
        TEST(test_their_number_is_bounded),
        TEST(test_what_is_no_note_is_none),
        TEST(test_the_port_keeps_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
