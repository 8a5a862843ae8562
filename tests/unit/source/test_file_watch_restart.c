/* file_watch over restarts and crashes, and against a model: the picture that its events paint. */
#include "watch_rig.h"

#define ALL "\"events\": [\"created\", \"modified\", \"deleted\", \"moved\"]"
#define AT_ONCE "*\", \"debounce_seconds\": 0, " ALL
#define SCOPE "snapshot/t"

/* ---- starting ---- */

static void test_first_start(void **state)
{
    struct rig *r = *state;
    make_dir(r, "d");
    write_file(r, "a", "x");
    write_file(r, "d/b", "x");
    rig_start(r, AT_ONCE);
    assert_int_equal(r->w.state, SOURCE_CONNECTED);
    EXPECT(r, "");
    assert_int_equal(kv_count(&r->w, SCOPE), 4); /* with the header */
}

/* Made between the start and its first scan: that is news; written meanwhile: that is not. */
static void test_made_during_the_first_start(void **state)
{
    struct rig *r = *state;
    write_file(r, "old", "x");
    rig_start_only(r, AT_ONCE);
    rig_tick();
    write_file(r, "new", "x");
    write_file(r, "old", "xy");
    WAIT(r, is_connected);
    EXPECT(r, "created new");
    write_file(r, "old", "xyz");
    EXPECT(r, "modified old");
}

static void test_changed_while_down(void **state)
{
    struct rig *r = *state;
    make_dir(r, "d");
    write_file(r, "same", "x");
    write_file(r, "changed", "x");
    write_file(r, "gone", "x");
    write_file(r, "renamed", "x");
    write_file(r, "d/in", "x");
    rig_start(r, AT_ONCE);
    for (int crash = 0; crash < 2; crash++) {
        WAIT(r, is_quiet);
        if (crash)
            rig_crash(r);
        else
            rig_stop(r);
        write_file(r, "changed", crash ? "longest" : "longer");
        drop(r, "gone");
        write_file(r, "new", "x");
        move(r, "renamed", "renamed2");
        move(r, "d", "e");
        rig_start(r, NULL);
        EXPECT(r, "created e, created new, deleted d, deleted gone, modified changed, moved d/in e/in, moved renamed "
                  "renamed2");
        move(r, "renamed2", "renamed");
        move(r, "e", "d");
        drop(r, "new");
        write_file(r, "gone", "x");
        WAIT(r, is_quiet);
        world_forget_events(&r->w);
    }
}

static void test_on_start(void **state)
{
    struct rig *r = *state;
    write_file(r, "a", "x");
    write_file(r, "b", "x");
    rig_start(r, AT_ONCE ", \"on_start\": \"none\"");
    rig_stop(r);
    write_file(r, "a", "xy");
    drop(r, "b");
    write_file(r, "c", "x");
    rig_start(r, NULL);
    EXPECT(r, "");
    assert_int_equal(kv_count(&r->w, SCOPE), 3);
    rig_stop(r);
    for (int i = 0; i < 3; i++) {
        rig_start(r, AT_ONCE ", \"on_start\": \"all\"");
        EXPECT(r, "created a, created c");
        rig_stop(r);
    }
    r->w.host.is_new = true;
    rig_start(r, NULL);
    EXPECT(r, "created a, created c");
}

static void test_a_large_snapshot_comes_in_pages(void **state)
{
    struct rig *r = *state;
    char name[16];
    for (unsigned i = 0; i < FILE_LOAD_PAGE * 2; i++) { /* the last page is full, or (with the header) not */
        snprintf(name, sizeof(name), "f%u", i);
        write_file(r, name, "x");
    }
    rig_start(r, AT_ONCE);
    rig_stop(r);
    write_file(r, "f0", "xy");
    write_file(r, "f1999", "xy");
    drop(r, "f1000");
    r->w.n_pages = 0;
    rig_start(r, NULL);
    EXPECT(r, "deleted f1000, modified f0, modified f1999");
    assert_int_equal(r->w.n_pages, 3);
    rig_stop(r);
    rig_start(r, NULL);
    EXPECT(r, "");
}

static void test_another_config_is_another_snapshot(void **state)
{
    struct rig *r = *state;
    write_file(r, "a.csv", "x");
    write_file(r, "a.txt", "x");
    rig_start(r, "*.csv\", \"debounce_seconds\": 0");
    rig_stop(r);
    write_file(r, "a.csv", "xy");
    rig_start(r, "*\", \"debounce_seconds\": 0");
    EXPECT(r, "");
    rig_stop(r);
    write_file(r, "a.csv", "xyz");
    rig_start(r, "*\", \"debounce_seconds\": 0.1, \"events\": [\"modified\"]"); /* but for these keys */
    EXPECT(r, "modified a.csv");
}

static void test_the_base_comes_or_goes_while_down(void **state)
{
    struct rig *r = *state;
    make_dir(r, "in");
    write_file(r, "in/a", "x");
    rig_start(r, "in/" AT_ONCE);
    rig_stop(r);
    move(r, "in", "aside");
    rig_start_only(r, NULL);
    WAIT(r, is_waiting);
    EXPECT(r, "deleted in/a");
    rig_stop(r);
    move(r, "aside", "in");
    rig_start(r, NULL);
    EXPECT(r, "created in/a");
    rig_stop(r);
    r->w.host.is_new = true; /* waiting is a first start too */
    rig_start_only(r, "later/" AT_ONCE);
    WAIT(r, is_waiting);
    rig_crash(r);
    make_dir(r, "later");
    write_file(r, "later/a", "x");
    rig_start(r, NULL);
    EXPECT(r, "created later/a");
}

static void test_a_crash_before_the_first_snapshot(void **state)
{
    struct rig *r = *state;
    write_file(r, "a", "x");
    write_file(r, "b", "x");
    rig_start_only(r, AT_ONCE);
    for (int i = 0; i < 20 && r->w.reports == 0; i++)
        uv_run(&r->loop.uv, UV_RUN_NOWAIT);
    rig_crash(r);
    rig_start(r, NULL);
    EXPECT(r, "");
}

static void test_a_store_that_fails(void **state)
{
    struct rig *r = *state;
    write_file(r, "a", "x");
    r->w.store_fails = true;
    rig_start(r, AT_ONCE); /* it watches all the same */
    write_file(r, "b", "x");
    assert_false(rig_try(r, has_event, 300)); /* it could not be recorded either */
    r->w.store_fails = false;
    EXPECT(r, "created b");
    assert_int_equal(kv_count(&r->w, SCOPE), 3);
}

/* ---- crashes with an event on its way ---- */

enum crash { REPORTED, RECORDED, ACKNOWLEDGED };

/* What is reported has been recorded, and the source does not learn it. */
static void record_unsettled(struct world *w)
{
    struct told *t, *next;
    w->hold = true;
    DL_FOREACH_SAFE (w->unsettled, t, next) {
        while (w->groups != t->group) /* in the order of submission: what was submitted before it is on disk */
            world_work_one(w);
        LL_DELETE(w->groups, t->group);
        DL_DELETE(w->unsettled, t);
        record(w, t);
    }
}

static void do_everything(struct rig *r)
{
    write_file(r, "new", "x");
    write_file(r, "changed", "longer");
    drop(r, "gone");
    move(r, "renamed", "renamed2");
}

static bool has_four_unsettled(struct rig *r)
{
    int n = 0;
    const struct told *t;
    DL_COUNT(r->w.unsettled, t, n);
    return n == 4;
}

static void test_crash(void **state)
{
    struct rig *r = *state;
    for (int crash = REPORTED; crash <= ACKNOWLEDGED; crash++) {
        for (int later = 0; later < 2; later++) {
            write_file(r, "changed", "x");
            write_file(r, "gone", "x");
            write_file(r, "renamed", "x");
            r->w.host.is_new = true;
            rig_start(r, AT_ONCE);
            r->w.hold = crash != ACKNOWLEDGED;
            do_everything(r);
            if (crash == ACKNOWLEDGED) {
                WAIT(r, has_event);
            } else {
                WAIT(r, has_four_unsettled);
                if (crash == RECORDED)
                    record_unsettled(&r->w);
            }
            rig_crash(r);
            r->w.hold = false;
            if (later) { /* and goes on while it is down */
                drop(r, "new");
                write_file(r, "changed", "once more");
            }
            rig_start(r, NULL);
            if (crash == REPORTED && later) /* the net change */
                EXPECT(r, "deleted gone, modified changed, moved renamed renamed2");
            else if (crash == RECORDED && later)
                EXPECT(r, "created new, deleted gone, deleted new, modified changed, modified changed, moved renamed "
                          "renamed2");
            else if (!later)
                EXPECT(r, "created new, deleted gone, modified changed, moved renamed renamed2");
            WAIT(r, is_quiet);
            world_forget_events(&r->w);
            drop(r, "renamed2");
            (void)!remove(AT(r, "new"));
            rig_stop(r);
        }
    }
}

/* ---- a model ---- */

struct model {
    char *path;
    int64_t size;
    UT_hash_handle hh;
};

static void model_set(struct model **models, const char *path, bool here, int64_t size)
{
    struct model *m;
    HASH_FIND_STR(*models, path, m);
    if (here && m) {
        m->size = size;
    } else if (here) {
        m = xcalloc(1, sizeof(*m));
        m->path = xstrdup(path);
        m->size = size;
        HASH_ADD_KEYPTR(hh, *models, m->path, strlen(m->path), m);
    } else if (!here && m) {
        HASH_DEL(*models, m);
        free(m->path);
        free(m);
    }
}

static bool model_has(struct model *models, const char *path)
{
    struct model *m;
    HASH_FIND_STR(models, path, m);
    return m != NULL;
}

/* Every event must make sense where it comes. */
static void paint(struct model **models, struct rig *r, unsigned seed)
{
    const struct told *t;
    DL_FOREACH (r->w.events, t) {
        const char *event = value_get_string(t->data, "event"), *path = value_get_string(t->data, "path");
        const char *old_path = value_get_string(t->data, "old_path");
        bool sense = streq(event, "created") ? !model_has(*models, path)
                     : streq(event, "moved") ? model_has(*models, old_path)
                                             : model_has(*models, path);
        if (!sense) {
            dump(r);
            fail_msg("seed %u: no sense: %s", seed, t->text);
        }
        if (old_path)
            model_set(models, old_path, false, 0);
        int64_t size = 0;
        if (cJSON_IsFalse(value_get(t->data, "is_dir")))
            value_integer(value_get(t->data, "size"), &size);
        model_set(models, path, !streq(event, "deleted"), size);
    }
    world_forget_events(&r->w);
}

static struct model *on_disk; /* for nftw() */
static size_t base_len;

static int add_to_disk(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)walk;
    if (strlen(path) > base_len)
        model_set(&on_disk, path, true, type == FTW_D ? 0 : st->st_size);
    return 0;
}

static void compare(struct model *models, struct rig *r, unsigned seed)
{
    struct model *m, *next;
    base_len = strlen(r->data);
    nftw(r->data, add_to_disk, 16, FTW_PHYS);
    for (m = models; m; m = m->hh.next)
        if (!model_has(on_disk, m->path))
            fail_msg("seed %u: %s is told and not there", seed, m->path);
    for (m = on_disk; m; m = m->hh.next) {
        const struct model *told;
        HASH_FIND_STR(models, m->path, told);
        if (!told)
            fail_msg("seed %u: %s is there and not told", seed, m->path);
        if (told->size != m->size)
            fail_msg("seed %u: %s has %d bytes, told was %d", seed, m->path, (int)m->size, (int)told->size);
    }
    HASH_ITER (hh, on_disk, m, next)
        model_set(&on_disk, m->path, false, 0);
}

static unsigned draw(struct random_seeded *random, unsigned bound)
{
    return (unsigned)random_below(&random->random, bound);
}

/* One act on a few names, which may fail. */
static void act(struct rig *r, struct random_seeded *random)
{
    static const char *const names[] = {"a", "b", "c", "x", "y", "x/a", "x/b", "y/a", "x/z", "x/z/a", "../out", "y/z"};
    const char *name = AT(r, names[draw(random, ARRAY_SIZE(names))]);
    const char *other = AT(r, names[draw(random, ARRAY_SIZE(names))]);
    int fd;
    switch (draw(random, 8)) {
    case 0:
        (void)!mkdir(name, 0755);
        break;
    case 1:
        (void)!remove(name);
        break;
    case 2:
    case 3:
        (void)!rename(name, other);
        break;
    case 4:
        (void)!renameat2(AT_FDCWD, name, AT_FDCWD, other, RENAME_EXCHANGE);
        break;
    case 5:
        remove_all(name);
        break;
    default:
        if ((fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC | (draw(random, 2) ? O_TRUNC : O_APPEND), 0644)) >= 0) {
            put(fd, "x");
            close(fd);
        }
    }
}

static bool never(struct rig *r)
{
    (void)r;
    return false;
}

static void run_model(struct rig *r, unsigned seed)
{
    struct random_seeded random;
    struct model *models = NULL, *m, *next;
    random_seeded_init(&random, seed);
    r->w.host.is_new = true;
    rig_start(r, draw(&random, 2) ? AT_ONCE : "*\", \"debounce_seconds\": 0.02, " ALL);
    for (int i = 0; i < 60; i++) {
        act(r, &random);
        switch (draw(&random, 16)) {
        case 0:
            rig_stop(r);
            act(r, &random);
            rig_start(r, NULL);
            break;
        case 1:
            if (draw(&random, 2))
                record_unsettled(&r->w);
            rig_crash(r);
            r->w.hold = false;
            act(r, &random);
            rig_start(r, NULL);
            break;
        case 2:
            r->w.hold = !r->w.hold;
            break;
        case 3:
            r->w.refuse = 2;
            break;
        case 4:
        case 5:
        case 6:
        case 7:
            rig_try(r, never, draw(&random, 30));
        }
    }
    r->w.hold = false;
    WAIT(r, is_quiet);
    paint(&models, r, seed);
    compare(models, r, seed);
    remove_all(AT(r, "../out"));
    for (unsigned i = 0; i < 3; i++)
        remove_all(AT(r, i == 0 ? "x" : i == 1 ? "y" : "a"));
    remove_all(AT(r, "b"));
    remove_all(AT(r, "c"));
    rig_stop(r);
    world_forget_events(&r->w);
    HASH_ITER (hh, models, m, next)
        model_set(&models, m->path, false, 0);
}

static void test_model(void **state)
{
    const char *seeds = getenv("SEEDS"), *first = getenv("SEED");
    unsigned from = first ? (unsigned)atoi(first) : 1, n = seeds ? (unsigned)atoi(seeds) : 12;
    for (unsigned seed = from; seed < from + n; seed++)
        run_model(*state, seed);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_first_start),
        TEST(test_made_during_the_first_start),
        TEST(test_changed_while_down),
        TEST(test_on_start),
        TEST(test_a_large_snapshot_comes_in_pages),
        TEST(test_another_config_is_another_snapshot),
        TEST(test_the_base_comes_or_goes_while_down),
        TEST(test_a_crash_before_the_first_snapshot),
        TEST(test_a_store_that_fails),
        TEST(test_crash),
        TEST(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
