/* Shared by the files of broker_redis; nobody else includes it.
 *
 *   broker_redis.c          the type: its connections, when they are made anew, states, stop
 *   broker_redis_list.c     lists, by LMOVE into a processing list
 *   broker_redis_stream.c   streams, by a consumer group
 *   broker_redis_pubsub.c   channels
 *
 * Two connections: the reader waits on the server for what comes (BLMOVE, XREADGROUP), and while it waits nothing else can
 * be said on it; the writer says everything else. A subscription needs the reader alone. When one is lost both are made
 * anew, and the mode finds out what the server knows (`connected`).
 *
 *     IDLE ─ start ─► CONNECTING ─ all ready ─► RECOVERING ─ broker_up() ─► UP
 *                         ▲  └──────── ended ──────────┴──────────────────────┤
 *                         └── backoff ── WAITING ◄────────────────────────────┘
 *     UP ─ broker_rest() ─► RESTING ─ resume ─► CONNECTING
 *     stop, in UP: STOPPING (the mode gives back what is not settled) ─► CLOSED; else CLOSED at once
 *
 * A connection that is lost after it has worked for a while is made anew at once, and only if that fails or takes long is
 * it told; one that is lost sooner waits its turn.
 */
#ifndef TRIGGERD_SOURCE_BROKER_REDIS_H
#define TRIGGERD_SOURCE_BROKER_REDIS_H

#include "base/loop.h"
#include "base/util.h"
#include "client/redis.h"
#include "source/broker.h"

#include <hiredis/hiredis.h>
#include <uthash.h>
#include <utlist.h>

/* A waiting read's bound; an answer that is overdue by REDIS_PATIENCE_MS is never to come: both within
 * QUEUE_SILENCE_MS. */
#define REDIS_BLOCK_MS 4000
#define REDIS_BLOCK_SECONDS "4"
#define REDIS_READ_PATIENCE_MS (REDIS_BLOCK_MS + REDIS_PATIENCE_MS)
#define REDIS_BATCH 512 /* messages a command or a pipeline */

/* The id of a stream's entry, `MS-SEQ` or `MS`. */
struct redis_entry_id {
    uint64_t ms, seq;
};
struct redis_entry_id redis_entry_parse(const char *text);
bool redis_entry_before(const char *a, const char *b);

/* What one way to read is to the type. Answers that are errors end the connection by redis_fail(), unless they are
 * expected. */
struct redis_mode_ops {
    bool writer; /* needs one */
    void (*init)(struct broker *b);
    void (*fini)(struct broker *b);
    void (*connected)(struct broker *b); /* … broker_up() later */
    void (*lost)(struct broker *b);      /* no answer will come any more */
    void (*pump)(struct broker *b);      /* take what may be taken; while up and not paused */
    void (*pause)(struct broker *b);
    /* `setup` is another than `before`, which is still there. */
    void (*update)(struct broker *b, const struct queue_setup *before);
    void (*settle)(struct broker *b, uint64_t tag, enum queue_settlement how);
    void (*stop)(struct broker *b); /* … broker_stopped() later; while up */
};
extern const struct redis_mode_ops redis_list_ops, redis_stream_ops, redis_pubsub_ops;

/* A message that we have: taken and not settled, or settled and not confirmed. Its tag is its address. */
struct delivery {
    struct delivery *prev, *next; /* in `known`, in the order of the server */
    struct delivery *sent_next;   /* in `sent`, `todo`, `doing` */
    redisReply *reply;            /* lists: the body. Streams: the fields */
    uint64_t hash;
    enum { DELIVERY_HELD, DELIVERY_DECIDED, DELIVERY_SENT } state;
    enum queue_settlement how;
    bool right; /* lists: the end at which it was taken */
    /* streams */
    char *id;
    int64_t deliveries;
    int64_t fresh_ms; /* when its idle time at the server was zero */
    UT_hash_handle hh;
};

struct redis_list {
    char *processing;
    struct delivery *known; /* a utlist: what may be in the processing list, oldest first */
    size_t n_known, n_held;
    struct delivery *sent, **sent_end; /* settlements under way, in their order */
    size_t asked;                      /* LMOVEs under way */
    bool blocking, empty;              /* one of them waits on the server; the last ones found nothing */
    bool look, looking;                /* whether the processing list holds what we do not know: is due, is under way */
    bool unblocked;                    /* for the stop */
    size_t burst;                      /* so many are asked for at a time */
    size_t asked_when_lost;
    uint64_t last[32]; /* hashes of what came last, by which equal ones are seen */
    unsigned n_last;
    struct loop_task returns;
    size_t prefix_len; /* of `processing`, without the owner's name */
    bool scanned;      /* for lists by other names */
    char *cursor;      /* of that; NULL: none is under way */
    char **strays;     /* found */
    size_t n_strays;
    int64_t stray_moves; /* under way, from the last of them */
    int64_t lag, lag_ms;
};

struct redis_stream {
    struct delivery *known; /* a uthash by id */
    size_t n_held;
    struct delivery *todo, **todo_end; /* settlements, in their order */
    struct delivery *doing;            /* those under way, of one command */
    bool seen;                         /* the group was there once */
    char *last_id;                     /* the newest that was delivered; NULL: none */
    bool reading;                      /* the reader has something to do */
    bool history;                      /* what is pending for us is to be read first … */
    char *after;                       /* … after this id; NULL: from the start */
    int64_t *counts;                   /* of a page of those: deliveries, … */
    char **ids;                        /* … and ids */
    size_t n_page;
    redisReply *claimed; /* of XAUTOCLAIM, until its deliveries are known */
    int64_t claim_due_ms, lag_ms;
    char *cursor;   /* of XAUTOCLAIM; NULL: at its start */
    bool unblocked; /* for the stop */
    struct loop_task flush;
    struct timer fresh;
    int64_t lag;
};

struct redis_pubsub {
    size_t n_held;
    uint64_t tag;
    bool held;         /* nothing is taken in */
    struct timer tick; /* a PING; while held, the end of patience */
};

struct broker {
    struct queue_consumer *host;
    struct queue_env env;
    struct queue_setup *setup;
    const struct redis_mode_ops *ops;
    enum {
        BROKER_IDLE,
        BROKER_CONNECTING,
        BROKER_WAITING,
        BROKER_RECOVERING,
        BROKER_UP,
        BROKER_RESTING,
        BROKER_STOPPING,
        BROKER_CLOSED
    } state;
    bool paused;
    struct redis *reader, *writer;
    struct queue_backoff backoff;
    int64_t up_ms; /* since when */
    bool told;     /* that it does not work */
    char *loss;    /* how it was lost, until it is told or works again */
    const char *loss_reason;
    struct timer retry, late, stop_timer;
    struct loop_task pump, gone;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
    union {
        struct redis_list list;
        struct redis_stream stream;
        struct redis_pubsub pubsub;
    };
};

void redis_pubsub_message(struct broker *b, const redisReply *message);

/* The mode knows what the server knows: it works. `message`: what it does. */
void broker_up(struct broker *b, const char *message);
void broker_stopped(struct broker *b);
/* Soon, `pump` — if it is up and not paused then. */
void broker_pump(struct broker *b);
/* Close the connections until resume(), without a word: nothing is wrong. */
void broker_rest(struct broker *b);
void broker_reopen(struct broker *b);
/* Let the reader's waiting command end now. */
void broker_unblock(struct broker *b);

#endif
