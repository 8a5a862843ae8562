/* Kafka's consumer, of broker_kafka*.c alone.
 *
 *   broker_kafka.c            the client: opened, joined, how it stands, closed, opened again; its events
 *   broker_kafka_partition.c  partitions and what was taken of them; what may be committed; lag
 *
 * A partition's deliveries form a list in order of their offsets. What is not in it, and below the next offset to be
 * read, is settled; so the offset of the first one, or the next one to be read where there is none, is what is committed.
 */
#ifndef TRIGGERD_SOURCE_BROKER_KAFKA_H
#define TRIGGERD_SOURCE_BROKER_KAFKA_H

#include "client/kafka.h"
#include "source/broker.h"

#include <pthread.h>
#include <uthash.h>

struct partition;

enum delivery_state {
    DELIVERY_IN_HAND, /* the host's, until it settles it */
    DELIVERY_LINED,   /* to be handed over again */
    DELIVERY_DYING,   /* on its way to the dead-letter topic */
};

struct delivery {
    struct broker *broker;
    struct partition *partition;  /* NULL: that is not ours any more, and how it ends is of no matter */
    struct delivery *prev, *next; /* of the partition's */
    struct delivery *line_prev, *line_next;
    enum delivery_state state;
    int64_t offset, timestamp_ms;
    int64_t count;      /* of deliveries, this one included */
    struct timer pause; /* of the next attempt to bury it */
    struct queue_publish *burial;
    rd_kafka_headers_t *headers;
    const char *key, *body; /* into `bytes`; NULL: none */
    size_t key_len, len;
    char bytes[];
};

/* How often what is not settled was delivered, kept over the loss of a partition. */
struct tally {
    int64_t offset;
    int64_t count;
    UT_hash_handle hh;
};

struct partition {
    int32_t number;
    bool ours;        /* assigned to us */
    bool leaving;     /* revoked: nothing more is taken */
    int64_t next;     /* to be read; -1: not known yet */
    int64_t sent;     /* last sent to be committed; -1: nothing */
    int64_t high;     /* where the log ends, as far as known; -1 */
    int64_t end;      /* where the reader was told that there is no more; -1 */
    int64_t moved_ms; /* when something last came of it */
    unsigned seeks;   /* of a stuck one, in a row */
    bool seen;        /* was read in this life */
    struct delivery *deliveries;
    struct tally *tallies;
    UT_hash_handle hh;
};

enum kafka_phase {
    PHASE_CLOSED, /* not started, or waiting for the next attempt */
    PHASE_OPENING,
    PHASE_OPEN,
    PHASE_LEAVING, /* the group */
    PHASE_ENDING,  /* the client's threads */
};

struct kafka_note {
    const char *reason; /* NULL: nothing is wrong */
    char *text;
};

struct kafka_probe {
    pthread_t thread;
    rd_kafka_topic_partition_list_t *list; /* NULL: none is under way */
    rd_kafka_resp_err_t result;
};

struct broker {
    struct queue_consumer *host;
    struct queue_env env;
    struct queue_setup *setup;
    const char *topic;
    struct loop_group group;
    enum kafka_phase phase;
    bool paused, stopping;
    void (*done)(void *ctx);
    void *done_ctx;

    struct kafka_opening *opening;
    struct kafka_lib lib;
    rd_kafka_t *rk;
    rd_kafka_queue_t *events, *messages;
    struct kafka_wake wake;
    struct loop_async probed;
    struct loop_task task;  /* serves the queues */
    struct timer tick;      /* once a second while it is open */
    struct timer urge;      /* often, while it is open and not in its group */
    struct timer again;     /* to open it anew */
    struct timer bound;     /* of leaving */
    struct timer commit_at; /* not before */
    struct timer back_at;   /* what came back is offered again */
    struct queue_backoff backoff;
    int64_t opened_ms;

    struct partition *partitions; /* by number; they stay */
    int32_t known_partitions;     /* of the topic, when it was first seen; -1: not yet */
    bool was_missing;             /* the topic was not there in this life: all of it is new */
    size_t held;                  /* deliveries that exist */
    struct delivery *line;        /* to be handed over again */
    struct delivery *orphans;     /* in hand, of partitions that are not ours any more */
    bool line_waits;              /* for back_at */
    int64_t hungry_ms;            /* since then all that came was taken, and there is room; 0: not so */
    size_t taken, taken_bytes;    /* since the reader was last told that there is room */
    bool committing;
    int64_t committed_ms;
    struct queue_publisher *graves; /* made with the first burial */

    rd_kafka_topic_partition_list_t *revoked; /* to be given back; NULL: none */
    int64_t revoked_due_ms;
    struct kafka_probe probe;
    int64_t probed_ms;

    /* how it stands */
    bool joined, up, down;
    bool renew;                                            /* to be opened anew, once nothing of it is in use */
    unsigned not_up;                                       /* times in a row */
    struct kafka_note link, topic_note, grave_note, stuck; /* the connection; the topic or the group; … */
};

/* ---- broker_kafka_partition.c ---- */

struct partition *kafka_partition_get(struct broker *b, int32_t number);
void kafka_partition_begin(struct broker *b, struct partition *p);
/* It is not ours any more, or is read from elsewhere: what was taken of it is forgotten. `others`: somebody else has it
 * now, and counts its deliveries. */
void kafka_partition_forget(struct broker *b, struct partition *p, bool others);
void kafka_partitions_fini(struct broker *b);
void kafka_partition_take(struct broker *b, const rd_kafka_message_t *m);
void kafka_partition_end(struct broker *b, struct partition *p, int64_t offset);
bool kafka_has_room(const struct broker *b);
void kafka_redeliver(struct broker *b);
void kafka_settle(struct broker *b, uint64_t tag, enum queue_settlement how);
/* Send what may be committed, now. False: there is nothing, or it is under way. */
bool kafka_commit(struct broker *b);
void kafka_commit_soon(struct broker *b);
void kafka_committed(struct broker *b, rd_kafka_event_t *ev);
bool kafka_partition_settled(const struct broker *b, const struct partition *p); /* and committed */
int64_t kafka_lag(const struct broker *b);
void kafka_watermarks(struct broker *b);

/* ---- broker_kafka.c ---- */

void kafka_note(struct broker *b, struct kafka_note *note, const char *reason, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void kafka_judge(struct broker *b);
void kafka_kick(struct broker *b); /* serve soon */

#endif
