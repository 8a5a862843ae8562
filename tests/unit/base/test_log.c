#include "base/log.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int fds[2];

static int setup(void **state)
{
    (void)state;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    log_init(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
    log_set_fd(fds[1]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_init(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    close(fds[0]);
    close(fds[1]);
    return 0;
}

/* What was written since the last call, without its time stamp, whose form is checked. */
static char *written(void)
{
    static char text[2 * LOG_LINE_MAX];
    ssize_t n = read(fds[0], text, sizeof(text) - 1);
    text[MAX(n, 0)] = '\0';
    if (n <= 0)
        return text;
    char *time = text[0] == '{' ? text + strlen("{\"time\":\"") : text;
    assert_true(strlen(time) > 25);
    assert_int_equal(time[10], 'T');
    assert_int_equal(time[23], 'Z');
    return time + 24 + (text[0] == '{' ? 2 : 1);
}

static void json(enum log_level level)
{
    log_init(level, LOG_FORMAT_JSON);
    log_set_fd(fds[1]);
}

static void text_lines(void **state)
{
    (void)state;
    log_info("engine", "fired %d of %s", 3, "x y");
    assert_string_equal(written(), "INFO engine: fired 3 of x y\n");
    log_at(LOG_LEVEL_WARNING, "source",
           LOG_FIELDS({"trigger", "orders"}, {"none", NULL}, {"why", "no \"route\"\n"}, {"empty", ""}, {"q", "a=b"}),
           "failed");
    assert_string_equal(written(),
                        "WARNING source: failed trigger=orders why=\"no \\\"route\\\"\\n\" empty=\"\" q=\"a=b\"\n");
}

static void json_lines(void **state)
{
    (void)state;
    json(LOG_LEVEL_INFO);
    log_at(LOG_LEVEL_ERROR, "http", LOG_FIELDS({"peer", "a\\b"}), "bad \"%s\"\t", "thing");
    assert_string_equal(
        written(), "\"level\":\"error\",\"area\":\"http\",\"message\":\"bad \\\"thing\\\"\\t\",\"peer\":\"a\\\\b\"}\n");
}

static void nobody_forges_a_line(void **state)
{
    (void)state;
    log_info("a", "%s", "x\n2026 ERROR y\r\x1b[31m\x7f\xff\xc2\x85 é€");
    assert_string_equal(written(), "INFO a: x\\n2026 ERROR y\\r\\x1b[31m\\x7f\\xff\\u0085 é€\n");
    json(LOG_LEVEL_INFO);
    log_info("a", "%s", "x\n\x1b\x7f\xff\xc2\x85 é");
    assert_string_equal(written(),
                        "\"level\":\"info\",\"area\":\"a\",\"message\":\"x\\n\\u001b\\u007f\xEF\xBF\xBD\\u0085 é\"}\n");
}

static int evaluated;
static int evaluate(void)
{
    return ++evaluated;
}

static void levels_are_filtered_before_arguments_are_evaluated(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_WARNING);
    evaluated = 0;
    log_info("a", "%d", evaluate());
    log_debug("a", "%d", evaluate());
    assert_string_equal(written(), "");
    assert_int_equal(evaluated, 0);
    log_warning("a", "%d", evaluate());
    assert_string_equal(written(), "WARNING a: 1\n");
    log_error("a", "%d", evaluate());
    assert_string_equal(written(), "ERROR a: 2\n");
}

static void long_lines_are_cut_and_stay_whole(void **state)
{
    (void)state;
    _cleanup_(freep) char *big = xmalloc(10001);
    for (int i = 0; i < 10000; i += 2)
        memcpy(big + i, "é", 2);
    big[10000] = '\0';
    for (int as_json = 0; as_json < 2; as_json++) {
        if (as_json)
            json(LOG_LEVEL_INFO);
        log_at(LOG_LEVEL_INFO, "a", LOG_FIELDS({"first", "1"}, {"big", big}, {"last", "2"}), "%s", big);
        char *line = written();
        size_t len = strlen(line);
        assert_in_range(len, 3900, LOG_LINE_MAX);
        assert_true(utf8_valid(line, len));
        assert_non_null(strstr(line, as_json ? "é…\",\"first\":\"1\",\"big\":\"é" : "é… first=1 big=é"));
        assert_string_equal(line + len - strlen(as_json ? "é…\"}\n" : "é…\n"), as_json ? "é…\"}\n" : "é…\n");
        assert_ptr_equal(strchr(line, '\n'), line + len - 1);
    }
    /* Every length around the cuts, where escapes make the most of it. */
    for (int len = 1000; len < 1400; len++) {
        memset(big, '\x01', (size_t)len);
        big[len] = '\0';
        log_at(LOG_LEVEL_INFO, "a", LOG_FIELDS({"big", big}, {"k", "v"}), "%s", big + len / 2);
        char *line = written();
        size_t got = strlen(line);
        assert_true(got < LOG_LINE_MAX - 24);
        assert_string_equal(line + got - 3, "\"}\n");
    }
}

static void errno_is_kept(void **state)
{
    (void)state;
    errno = ENOENT;
    log_info("a", "%m");
    assert_int_equal(errno, ENOENT);
    assert_string_equal(written(), "INFO a: No such file or directory\n");
}

/* In a child, whose standard error is a file that JOURNAL_STREAM names, or does not. */
static void journal_priorities(void **state)
{
    (void)state;
    for (int right = 0; right < 2; right++) {
        char path[] = "/tmp/test_log.XXXXXX", text[200] = "", stream[64];
        int fd = mkostemp(path, O_CLOEXEC);
        assert_true(fd >= 0);
        struct stat st;
        assert_int_equal(fstat(fd, &st), 0);
        snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + !right);
        pid_t pid = fork();
        if (pid == 0) {
            dup2(fd, STDERR_FILENO);
            setenv("JOURNAL_STREAM", stream, 1);
            log_init(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
            log_warning("a", "x");
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
        assert_memory_equal(text, right ? "<4>2" : "2", right ? 4 : 1);
        unlink(path);
        close(fd);
    }
}

enum { THREADS = 3, LINES = 300 };

static void *log_lines(void *ctx)
{
    for (int i = 0; i < LINES; i++)
        log_info("thread", "%s", (const char *)ctx);
    return NULL;
}

static void threads_do_not_mix(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    char texts[THREADS][2001];
    assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0);
    for (int i = 0; i < THREADS; i++) {
        memset(texts[i], 'a' + i, 2000);
        texts[i][2000] = '\0';
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, texts[i]), 0);
    }
    assert_int_equal(fcntl(fds[0], F_SETFL, 0), 0);
    FILE *in = fdopen(dup(fds[0]), "r");
    _cleanup_(freep) char *line = NULL;
    size_t cap = 0;
    for (int n = 0; n < THREADS * LINES; n++) {
        ssize_t len = getline(&line, &cap, in);
        assert_int_equal(len, 25 + strlen("INFO thread: ") + 2000 + 1);
        const char *text = line + len - 2001;
        assert_int_equal(strspn(text, (char[]){text[0], '\0'}), 2000);
    }
    fclose(in);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void limits(void **state)
{
    (void)state;
    struct log_limit limit = LOG_LIMIT_INIT(3, 100);
    uint64_t suppressed = 42;
    int64_t now = 5000;
    for (int i = 0; i < 3; i++) {
        assert_true(log_limit_pass(&limit, now, &suppressed));
        assert_int_equal(suppressed, 0);
    }
    for (int i = 0; i < 7; i++)
        assert_false(log_limit_pass(&limit, now + 99, &suppressed));
    assert_true(log_limit_pass(&limit, now + 100, &suppressed));
    assert_int_equal(suppressed, 7);
    assert_false(log_limit_pass(&limit, now + 199, &suppressed));
    assert_true(log_limit_pass(&limit, now + 250, &suppressed));
    assert_int_equal(suppressed, 1);
    assert_true(log_limit_pass(&limit, now + 300, &suppressed)); /* the half interval was not lost */
    for (int i = 0; i < 3; i++)
        assert_true(log_limit_pass(&limit, now + 100000, &suppressed));
    assert_false(log_limit_pass(&limit, now + 100000, &suppressed));
}

static void names(void **state)
{
    (void)state;
    enum log_level level = LOG_LEVEL_INFO;
    enum log_format format = LOG_FORMAT_TEXT;
    assert_int_equal(log_level_parse("debug", &level), 0);
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_string_equal(log_level_name(level), "debug");
    assert_int_equal(log_level_parse("Debug", &level), -EINVAL);
    assert_int_equal(log_format_parse("json", &format), 0);
    assert_int_equal(format, LOG_FORMAT_JSON);
    assert_int_equal(log_format_parse("", &format), -EINVAL);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(text_lines),
        TEST(json_lines),
        TEST(nobody_forges_a_line),
        TEST(levels_are_filtered_before_arguments_are_evaluated),
        TEST(long_lines_are_cut_and_stay_whole),
        TEST(errno_is_kept),
        TEST(journal_priorities),
        TEST(threads_do_not_mix),
        TEST(limits),
        TEST(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
