/* floor_redis: consumers of Redis that only acknowledge, on hiredis, to measure the daemon against. At most WINDOW
 * messages are taken and not acknowledged, as `prefetch` bounds the daemon.
 *
 *   floor_redis list   least PORT QUEUE WINDOW COUNT      LMOVE into a processing list, LREM from it: message by message
 *   floor_redis stream least PORT QUEUE WINDOW COUNT      XREADGROUP of WINDOW entries, XACK of each
 *   floor_redis list   most  PORT QUEUE WINDOW COUNT      LMOVE WINDOW times in one go, then as many LREM
 *   floor_redis stream most  PORT QUEUE WINDOW COUNT      XREADGROUP of WINDOW entries, one XACK of them all
 *
 * `least` is what one writes with the library's plain call, redisCommand(): a command, its answer, the next one; each
 * message is acknowledged by itself, as floor_amqp does. LMOVE takes one message, so there is no window to it.
 * `most` is what the server gives to who says many things at once and needs nothing between: how fast messages can be had
 * at all. Who must write each one to a disk before it may say so is bound by that, and comes nowhere near.
 *
 * Ends after COUNT messages and prints {"rate": messages a second}. */
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GROUP "floor"

struct floor {
    redisContext *c;
    const char *queue, *window_text;
    char processing[256];
    long window;
    redisReply **got;
};

static void fail(const char *what)
{
    fprintf(stderr, "floor_redis: %s\n", what);
    exit(1);
}

static redisReply *checked(const redisContext *c, redisReply *r)
{
    if (!r || r->type == REDIS_REPLY_ERROR)
        fail(r ? r->str : c->errstr);
    return r;
}

static redisReply *answer(redisContext *c)
{
    redisReply *r = NULL;
    return checked(c, redisGetReply(c, (void **)&r) == REDIS_OK ? r : NULL);
}

static long list_least(struct floor *f)
{
    redisReply *r = checked(f->c, redisCommand(f->c, "LMOVE %s %s LEFT RIGHT", f->queue, f->processing));
    bool some = r->type == REDIS_REPLY_STRING;
    if (some)
        freeReplyObject(checked(f->c, redisCommand(f->c, "LREM %s 1 %b", f->processing, r->str, r->len)));
    freeReplyObject(r);
    return some;
}

static long list_most(struct floor *f)
{
    const char *move[] = {"LMOVE", f->queue, f->processing, "LEFT", "RIGHT"};
    long n = 0;
    for (long i = 0; i < f->window; i++)
        redisAppendCommandArgv(f->c, 5, move, NULL);
    for (long i = 0; i < f->window; i++) {
        redisReply *r = answer(f->c);
        if (r->type == REDIS_REPLY_STRING)
            f->got[n++] = r;
        else
            freeReplyObject(r);
    }
    for (long i = 0; i < n; i++) {
        const char *remove[] = {"LREM", f->processing, "1", f->got[i]->str};
        const size_t lengths[] = {4, strlen(f->processing), 1, f->got[i]->len};
        redisAppendCommandArgv(f->c, 4, remove, lengths);
    }
    for (long i = 0; i < n; i++) {
        freeReplyObject(answer(f->c));
        freeReplyObject(f->got[i]);
    }
    return n;
}

/* NULL: nothing came. `*ret_entries` is in it. */
static redisReply *stream_read(struct floor *f, const redisReply **ret_entries)
{
    redisReply *r = checked(f->c, redisCommand(f->c, "XREADGROUP GROUP " GROUP " one COUNT %s BLOCK 1000 STREAMS %s >",
                                               f->window_text, f->queue));
    if (r->type == REDIS_REPLY_ARRAY) {
        *ret_entries = r->element[0]->element[1];
        return r;
    }
    freeReplyObject(r);
    return NULL;
}

static long stream_least(struct floor *f)
{
    const redisReply *entries = NULL;
    redisReply *r = stream_read(f, &entries);
    long n = r ? (long)entries->elements : 0;
    for (long i = 0; i < n; i++)
        freeReplyObject(
            checked(f->c, redisCommand(f->c, "XACK %s " GROUP " %s", f->queue, entries->element[i]->element[0]->str)));
    freeReplyObject(r);
    return n;
}

static long stream_most(struct floor *f)
{
    const redisReply *entries = NULL;
    redisReply *r = stream_read(f, &entries);
    if (!r)
        return 0;
    size_t n = entries->elements;
    const char **ack = calloc(n + 3, sizeof(*ack));
    ack[0] = "XACK";
    ack[1] = f->queue;
    ack[2] = GROUP;
    for (size_t i = 0; i < n; i++)
        ack[i + 3] = entries->element[i]->element[0]->str;
    redisAppendCommandArgv(f->c, (int)n + 3, ack, NULL);
    freeReplyObject(answer(f->c));
    free(ack);
    freeReplyObject(r);
    return (long)n;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        fail("list|stream least|most PORT QUEUE WINDOW COUNT");
    bool stream = strcmp(argv[1], "stream") == 0, most = strcmp(argv[2], "most") == 0;
    struct floor f = {.c = redisConnect("127.0.0.1", (int)strtol(argv[3], NULL, 10)),
                      .queue = argv[4],
                      .window_text = argv[5],
                      .window = strtol(argv[5], NULL, 10)};
    long count = strtol(argv[6], NULL, 10), done = 0;
    if (!f.c || f.c->err)
        fail(f.c ? f.c->errstr : "no memory");
    f.got = calloc((size_t)f.window, sizeof(redisReply *));
    snprintf(f.processing, sizeof(f.processing), "%s:floor", f.queue);
    if (stream)
        freeReplyObject(redisCommand(f.c, "XGROUP CREATE %s " GROUP " 0", f.queue));
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (done < count)
        done += stream ? (most ? stream_most : stream_least)(&f) : (most ? list_most : list_least)(&f);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("{\"rate\": %.0f}\n", (double)done / seconds);
    free(f.got);
    redisFree(f.c);
    return 0;
}
