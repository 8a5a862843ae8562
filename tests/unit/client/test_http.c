/* The HTTP client on a loop of its own: it ends exactly once, early ends wait for nobody, and nothing is left open. */
#include "base/loop.h"
#include "client/http.h"

#include <errno.h>
#include <netdb.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

/* Names take as long as the test wants: libcurl's threads come by here, as a program's definition stands before a
 * library's. */
static sem_t resolve, resolving, resolved;

__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
                                                       const struct addrinfo *hints, struct addrinfo **ret)
{
    (void)node, (void)service, (void)hints, (void)ret;
    sem_post(&resolving);
    sem_wait(&resolve);
    sem_post(&resolved);
    return EAI_NONAME;
}

/* Lets the name that is waited for go, and none that comes after it. */
static void let_go(void)
{
    sem_post(&resolve);
    sem_wait(&resolved);
}

struct world {
    struct loop loop;
    struct http_client *client;
    struct timer timer;
    struct http_transfer *transfer;
    int answers;
    struct error error;
    bool in_send;
    void (*act)(struct world *w);
};

static void closed(void *ctx)
{
    (void)ctx;
}

static void answered(void *ctx, struct http_answer *a)
{
    struct world *w = ctx;
    assert_false(w->in_send);
    w->answers++;
    w->error = a->error;
    http_client_close(w->client, closed, w);
}

static void send_to(struct world *w, const char *url, double connect_timeout)
{
    struct http_request r = {.method = xstrdup("GET"),
                             .url = xstrdup(url),
                             .connect_timeout_seconds = connect_timeout,
                             .max_redirects = 1,
                             .max_body_bytes = 100};
    w->in_send = true;
    w->transfer = http_client_send(w->client, &r, answered, w);
    w->in_send = false;
    assert_null(r.url);
}

static void world_init(struct world *w)
{
    *w = (struct world){0};
    assert_int_equal(loop_init(&w->loop), 0);
    w->client = http_client_create(&w->loop, NULL);
}

static void world_end(struct world *w)
{
    assert_int_equal(loop_run(&w->loop), 0);
    assert_int_equal(loop_fini(&w->loop), 0);
}

static void on_timer(struct timer *timer, void *ctx)
{
    struct world *w = ctx;
    if (sem_trywait(&resolving) < 0) {
        loop_timer_start(&w->loop, timer, 1);
        return;
    }
    w->act(w);
}

static void when_resolving(struct world *w, void (*act)(struct world *w))
{
    w->act = act;
    timer_init(&w->timer, on_timer, w);
    loop_timer_start(&w->loop, &w->timer, 1);
}

static void cancel_and_close(struct world *w)
{
    http_transfer_cancel(w->transfer);
    http_client_close(w->client, closed, w);
}

static void close_alone(struct world *w)
{
    http_client_close(w->client, closed, w);
}

/* Were the thread waited for, each of these would never end: it is let go only afterwards. */
static void names_that_do_not_come(void **state)
{
    (void)state;
    void (*const acts[])(struct world *) = {cancel_and_close, close_alone};
    for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
        struct world w;
        world_init(&w);
        send_to(&w, "http://slow.example/", 3600);
        when_resolving(&w, acts[i]);
        world_end(&w);
        assert_int_equal(w.answers, 0);
        let_go();
    }
    struct world w;
    world_init(&w);
    send_to(&w, "http://slow.example/", 0.05);
    world_end(&w);
    assert_int_equal(w.answers, 1);
    assert_int_equal(w.error.code, -ETIMEDOUT);
    sem_wait(&resolving);
    let_go();
}

static void a_name_that_is_none(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    sem_post(&resolve);
    send_to(&w, "http://none.example/", 3600);
    world_end(&w);
    assert_int_equal(w.answers, 1);
    assert_non_null(strstr(w.error.message, "none.example"));
    sem_wait(&resolving);
    sem_wait(&resolved);
}

static void ends_before_the_beginning(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "h", "ftp://h/", "file:///etc/passwd", "http://"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct world w;
        world_init(&w);
        send_to(&w, wrong[i], 1);
        world_end(&w);
        assert_int_equal(w.answers, 1);
        assert_int_equal(w.error.code, -EINVAL);
    }
    /* Cancelled, and closed, while the pool still loads what is needed. */
    struct world w;
    world_init(&w);
    send_to(&w, "http://127.0.0.1:1/", 1);
    cancel_and_close(&w);
    world_end(&w);
    assert_int_equal(w.answers, 0);
    world_init(&w);
    send_to(&w, "http://127.0.0.1:1/", 1);
    close_alone(&w);
    world_end(&w);
    assert_int_equal(w.answers, 0);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    sem_init(&resolve, 0, 0);
    sem_init(&resolving, 0, 0);
    sem_init(&resolved, 0, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_before_the_beginning),
        cmocka_unit_test(names_that_do_not_come),
        cmocka_unit_test(a_name_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
