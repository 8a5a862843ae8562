/* A connection to Redis: commands go out as they are given, each answer comes to who gave the command, in that order.
 *
 *   redis_open() ─► wire ─► AUTH, SELECT, CLIENT SETNAME, CLIENT ID, PING ─► ready() ─► … ─► ended()
 *   redis_close(): at any point; nothing is told any more
 *
 * hiredis reads the protocol (RESP 2), the wire carries it: TCP, TLS and Unix sockets are one path.
 *
 * Silence: each command says how long its answer may take, counted from the answer before it; a connection that owes
 * one for longer has ended (`NoAnswer`). While nothing is owed there is no timer.
 *
 * Thread: the loop's. Callbacks come from the loop, never from inside a call; from inside them everything may be called.
 */
#ifndef TRIGGERD_CLIENT_REDIS_H
#define TRIGGERD_CLIENT_REDIS_H

#include "client/queue.h"

struct redisReply;
struct redis;

#define REDIS_PATIENCE_MS 4000 /* of a command that does not wait by itself */

struct redis_events {
    void (*ready)(void *ctx);
    /* It could not be had, or is no more; redis_close() it all the same. `code`: -ECONNREFUSED, -ETIMEDOUT, -ECONNRESET,
     * -EACCES, -EPROTO, -ENOTSUP, -EIO, …. `reason` is a constant in CamelCase; `message` is masked. */
    void (*ended)(void *ctx, int code, const char *reason, const char *message);
    /* A message of a subscription. NULL: none are made. May be taken, as by a redis_reply_fn. */
    void (*message)(void *ctx, struct redisReply **reply);
};

/* `*reply` is freed after the call; who takes it out (sets it to NULL) frees it with redis_reply_free(). */
typedef void redis_reply_fn(void *ctx, struct redisReply **reply);

struct redis_arg {
    const char *data;
    size_t len;
};
#define REDIS_ARG(text)                                                                                                \
    (struct redis_arg)                                                                                                 \
    {                                                                                                                  \
        (text), strlen(text)                                                                                           \
    }

/* `setup` is referenced. `role` is a part of the client's name that the server shows. */
struct redis *redis_open(const struct queue_env *env, struct queue_setup *setup, const char *role,
                         const struct redis_events *events, void *ctx);
/* What was given and not answered is forgotten. NULL is allowed. */
void redis_close(struct redis *r);

bool redis_is_ready(const struct redis *r); /* NULL: false */
/* The name that this connection alone has, and its number at the server; 0: not told. */
const char *redis_name(const struct redis *r);
int64_t redis_client_id(const struct redis *r);
size_t redis_owed(const struct redis *r); /* answers that are to come */

/* Once it is ready. `fn` NULL: the answer is not looked at. */
void redis_command(struct redis *r, redis_reply_fn *fn, void *ctx, int64_t patience_ms, size_t n,
                   const struct redis_arg *args);
/* The same of words that are texts. */
#define redis_say(r, fn, ctx, ...)                                                                                     \
    redis_say_words((r), (fn), (ctx), REDIS_PATIENCE_MS, (const char *const[]){__VA_ARGS__, NULL})
void redis_say_words(struct redis *r, redis_reply_fn *fn, void *ctx, int64_t patience_ms, const char *const *words);
/* Take nothing in for now (subscriptions alone: what is owed would be missed). */
void redis_hold(struct redis *r, bool hold);
/* End it because of an answer that makes it useless: ended() comes, from the loop. `what` goes before the server's words;
 * NULL: nothing. */
void redis_fail(struct redis *r, const struct redisReply *error, const char *what);

/* ---- answers ---- */

void redis_reply_free(struct redisReply *reply); /* NULL is allowed */
bool redis_is_error(const struct redisReply *reply);
/* A negative errno for an error, and its reason in CamelCase: `AuthenticationFailed`, `PermissionDenied`, `WrongType`, … */
int redis_error_code(const struct redisReply *reply, const char **ret_reason);

#endif
