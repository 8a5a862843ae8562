/* An occurrence: something that happened, before it is known which triggers want it. */
#ifndef TRIGGERD_ENGINE_OCCURRENCE_H
#define TRIGGERD_ENGINE_OCCURRENCE_H

#include "model/event.h"
#include "model/trigger.h"

struct store_group;

/* How many runs in a row seem to have caused the next event of their own trigger. */
struct round {
    int n;            /* 0: none did */
    bool suspected;   /* by their time alone, and not by names */
    bool proved;      /* of a loop that was found when it was already written */
    int64_t since_ms; /* the first of them; wall clock */
};

struct occurrence {
    const char *event_type; /* `file_created`, `custom_user_events`, … */
    const cJSON *data;      /* the event data, parsed */
    const char *data_text;  /* the same as JSON text, digit for digit; NULL: printed from `data` */
    int64_t occurred_ms;    /* wall clock; 0: now */
    const char *identity;   /* idempotency key, delivery id, a broker's identity; NULL: none */
    bool identity_alone;    /* who comes with it again is the same, whatever the data; else other data are an error */
    uint64_t body_hash;     /* of what is to be the same with one identity, where the data hold more; 0: the data are */
    /* Of an active source: called once where the occurrence is to be recorded, from inside source_occurred(): what it
     * adds is committed with the event or not at all. Not called where nothing is recorded (filtered). NULL: nothing to
     * add; so it must be with an identity, where a look for duplicates comes between. */
    void (*record)(void *ctx, struct store_group *g);
    void *record_ctx;
    /* Of an active source, where it holds several messages: recorded with the event as those that its trigger has. The
     * source has looked for them (source_look_up) and has none of them on its way twice. */
    const char *const *identities;
    size_t n_identities;
    bool stays;     /* of an active source: the data and all texts stay as they are until it is settled */
    bool until_end; /* of an active source: after ack() it is also told how the event ended (source_type.ended) */
    bool unhurried; /* nobody waits for its record, and what it tells of is found again after a kill: while it waits
                       behind others its record may wait for company */
    bool kept; /* nobody has it but us: while the trigger is paused or in error it waits, whatever its pause_policy.
                  Set for sources that are lossless */
    const char *failed; /* of an active source: recorded as failed for this reason, nothing runs (a poison message) */
    const char *also;   /* another channel, whose listeners hear of it in the same transaction; NULL: none */
    const char *traceparent; /* W3C trace context; NULL: one is made */
    /* The chain that led here; NULL or 0 where it starts one. */
    const char *root_event_id;
    const char *chain; /* trigger ids so far: `/a/b/` */
    int depth;
    bool internal;         /* made by triggerd itself (a completion, an `emit` step): never refused for a full queue */
    int64_t written_ms;    /* of a source with own_writes: when it was written, as its file system says; 0: not known */
    struct round round;    /* likewise: the engine's (rounds.c) */
    bool test;             /* of `test`: past the filter, also on a disabled trigger */
    const char *replay_of; /* the event that this one repeats; NULL: none */
    /* May this trigger have it, of those that listen on the channel? Asked before the call returns; NULL: every one. */
    bool (*admits)(void *ctx, const struct trigger *t);
    void *admits_ctx;
};

#endif
