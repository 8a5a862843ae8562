/* floor_redis: the least consumer of Redis that only acknowledges, to measure the daemon against.
 *
 *   floor_redis list   PORT QUEUE WINDOW COUNT      LMOVE into a processing list, WINDOW at a time, then LREM of each
 *   floor_redis stream PORT QUEUE WINDOW COUNT      XREADGROUP of WINDOW entries, then one XACK of them
 *
 * Commands of a window go out together. Ends after COUNT messages and prints {"rate": messages a second}. */
#include <hiredis/hiredis.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void fail(const char *what)
{
    fprintf(stderr, "floor_redis: %s\n", what);
    exit(1);
}

static redisReply *answer(redisContext *c)
{
    redisReply *r = NULL;
    if (redisGetReply(c, (void **)&r) != REDIS_OK || r->type == REDIS_REPLY_ERROR)
        fail(r ? r->str : c->errstr);
    return r;
}

static long list_window(redisContext *c, const char *queue, const char *processing, long window, redisReply **got)
{
    const char *move[] = {"LMOVE", queue, processing, "LEFT", "RIGHT"};
    long n = 0;
    for (long i = 0; i < window; i++)
        redisAppendCommandArgv(c, 5, move, NULL);
    for (long i = 0; i < window; i++) {
        redisReply *r = answer(c);
        if (r->type == REDIS_REPLY_STRING)
            got[n++] = r;
        else
            freeReplyObject(r);
    }
    for (long i = 0; i < n; i++) {
        const char *remove[] = {"LREM", processing, "1", got[i]->str};
        const size_t lengths[] = {4, strlen(processing), 1, got[i]->len};
        redisAppendCommandArgv(c, 4, remove, lengths);
    }
    for (long i = 0; i < n; i++) {
        freeReplyObject(answer(c));
        freeReplyObject(got[i]);
    }
    return n;
}

static long stream_window(redisContext *c, const char *queue, const char *window)
{
    const char *read[] = {"XREADGROUP", "GROUP", "floor",   "one", "COUNT", window,
                          "BLOCK",      "1000",  "STREAMS", queue, ">"};
    redisAppendCommandArgv(c, 11, read, NULL);
    redisReply *r = answer(c);
    if (r->type != REDIS_REPLY_ARRAY) {
        freeReplyObject(r);
        return 0;
    }
    redisReply *entries = r->element[0]->element[1];
    size_t n = entries->elements;
    const char **ack = calloc(n + 3, sizeof(*ack));
    ack[0] = "XACK";
    ack[1] = queue;
    ack[2] = "floor";
    for (size_t i = 0; i < n; i++)
        ack[i + 3] = entries->element[i]->element[0]->str;
    redisAppendCommandArgv(c, (int)n + 3, ack, NULL);
    freeReplyObject(answer(c));
    free(ack);
    freeReplyObject(r);
    return (long)n;
}

int main(int argc, char **argv)
{
    if (argc != 6)
        fail("list|stream PORT QUEUE WINDOW COUNT");
    redisContext *c = redisConnect("127.0.0.1", atoi(argv[2]));
    if (!c || c->err)
        fail(c ? c->errstr : "no memory");
    const char *queue = argv[3];
    long window = atol(argv[4]), count = atol(argv[5]), done = 0;
    redisReply **got = calloc((size_t)window, sizeof(redisReply *));
    char processing[256];
    snprintf(processing, sizeof(processing), "%s:floor", queue);
    if (strcmp(argv[1], "stream") == 0)
        freeReplyObject(redisCommand(c, "XGROUP CREATE %s floor 0", queue));
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (done < count)
        done += strcmp(argv[1], "list") == 0 ? list_window(c, queue, processing, window, got)
                                             : stream_window(c, queue, argv[4]);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("{\"rate\": %.0f}\n", (double)done / seconds);
    free(got);
    redisFree(c);
    return 0;
}
