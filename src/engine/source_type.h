/* What a source of events is to the engine: a plug-in of one shape.
 *
 * Two sorts of types:
 *  - Active ones have create(): one `struct source` a trigger, that watches, polls or connects, and calls
 *    source_occurred() for each event.
 *  - Passive ones have channels(): what happens on a named channel (an endpoint, the end of a pipeline's runs) reaches
 *    every trigger that listens there, through one index over all their filters (engine_publish()).
 *
 * Life of an active source: create → start → (pause ⇄ resume | update)* → stop → done. All calls come on the loop
 * thread; none of the functions that a source calls back calls into the source from inside. After stop() a source
 * reports nothing more; `done` comes exactly once, never from inside stop(), and then the source has freed itself.
 *
 * Delivery: each source_occurred() carries a token of the source's choice, settled exactly once by ack() or nack(): ack
 * when the event is recorded (or needed no record: filtered, debounced), nack when it could not be recorded: the source
 * then reports it again later (after resume()), so that nothing is lost. A source that cannot repeat keeps the event
 * until it is acknowledged. What a source keeps in the store of how far it has come belongs into the transaction of the
 * event (occurrence.record): then no crash can come between, and no event is told twice or never.
 */
#ifndef TRIGGERD_ENGINE_SOURCE_TYPE_H
#define TRIGGERD_ENGINE_SOURCE_TYPE_H

#include "base/clock.h"
#include "base/random.h"
#include "base/timer.h"
#include "engine/occurrence.h"
#include "model/condition.h"
#include "model/trigger.h"
#include "store/store.h"

struct live_event;
struct loop;
struct mcp_servers;
struct secret_dirs;
struct source;
struct source_host;
struct watcher;
struct queue_hub;

/* What every source may use. `loop` is NULL in the simulator. */
struct source_env {
    struct loop *loop;
    struct timers *timers;
    struct clock *clock;
    struct random *random;
    struct store_port *store;
    struct watcher *watcher; /* the one inotify descriptor of all sources; NULL in the simulator */
    const char *state_dir;
    struct mcp_servers *mcp;                /* of `mcp_event`; NULL in the simulator */
    const struct secret_dirs *secrets_dirs; /* for what its config refers to: engine/secret_read.h */
    struct queue_hub *queues;               /* what triggers on message queues share; NULL in the simulator */
};

struct channel_key {
    const char *text; /* borrowed from the config */
    bool glob;        /* a pattern over channel names (lang/glob) */
    char mark;        /* not 0: the channel is called `MARK SCOPE TEXT` */
    const char *scope;
};

/* Does a trigger have an event of this identity? */
struct source_known {
    enum {
        KNOWN_NOT,
        KNOWN_OPEN,   /* it waits or runs: source_watch() */
        KNOWN_ENDING, /* it is just ending: ask again */
        KNOWN_ENDED,
    } state;
    enum event_status status; /* of ENDED */
    struct live_event *event; /* of OPEN; valid in the call */
};

struct source_type {
    struct kind kind; /* first: the model's part */

    /* Passive types. Fill at most `cap` keys that the config listens on; returns how many there are. */
    size_t (*channels)(const void *config, struct channel_key *ret, size_t cap);
    /* Does the config want this occurrence at all (before its filter)? NULL: yes. Writes why not. */
    bool (*accepts)(const void *config, const cJSON *data, char *why, size_t why_cap);
    /* Inputs that the type itself gives, between default_inputs and input_mapping: a new object, or NULL for none.
     * *ret_error is set (owned by the caller) when they cannot be made. NULL: none. */
    cJSON *(*inputs)(const void *config, const cJSON *data, char **ret_error);

    /* Active types. */
    bool remote;     /* what it connects to is elsewhere: being ready does not wait for it */
    bool own_writes; /* what a run writes may be an event of its own trigger: such rounds are counted */
    /* ack() and nack() also come after stop(): every token is settled, and `done` waits for that. While triggerd shuts
     * down it is paused until all runs have ended, and then stopped. */
    bool settles_late;
    int (*create)(struct source_host *host, const struct source_env *env, const struct trigger *trigger,
                  struct source **ret, struct error *err);
    void (*start)(struct source *s);
    void (*stop)(struct source *s, void (*done)(void *ctx), void *ctx);
    void (*pause)(struct source *s);  /* take nothing more in; what is reported is still settled */
    void (*resume)(struct source *s); /* also: try to connect at once */
    /* The trigger was edited without CHANGE_SOURCE: take over what changed. `trigger` lives until the next update. False:
     * that cannot be done now, and it is stopped and made anew. */
    bool (*update)(struct source *s, const struct trigger *trigger);
    void (*ack)(struct source *s, uint64_t token);
    void (*nack)(struct source *s, uint64_t token, const char *why);
    /* Of occurrences with until_end, once, after ack(), not after stop(): its event has ended (that is on disk), as
     * `status` says; EVENT_SKIPPED where there is none, for it was filtered. Where the identity was known, the status of
     * the event that has it, which is told when that ends; a failed event does not make its redelivery a duplicate. */
    void (*ended)(struct source *s, uint64_t token, enum event_status status);
    /* What source_look_up() asked, once, also after stop(): an answer for each, in order; NULL: it cannot be said now. */
    void (*known)(struct source *s, uint64_t token, const struct source_known *answers);
    /* The trigger is deleted, or of another type now: add to `g` the deletion of what the type keeps in the store under
     * its id. NULL: nothing. */
    void (*forget)(struct store_group *g, const char *trigger_id);
};

/* ---- what a source calls; implemented by the engine, or by a test that stands in for it ---- */

/* Something happened. Borrows `given` for the call. The source's token is settled later, never from inside. */
void source_occurred(struct source_host *host, const struct occurrence *given, uint64_t token);

/* Which of these identities (NULL: none) does the trigger know? For several in one event: source_type.known() is told
 * later, and `settles_late` sources wait for it in stop(). Borrows for the call. At most SOURCE_LOOK_UP_MAX. */
#define SOURCE_LOOK_UP_MAX 1000
void source_look_up(struct source_host *host, const char *const *identities, size_t n, uint64_t token);
/* From inside known(), of an open one: ended() is told of `token` when that event has ended. */
void source_watch(struct source_host *host, const struct source_known *known, uint64_t token);

enum source_state {
    SOURCE_WAITING,   /* nothing is wrong, but what it watches is not there yet: condition `Waiting` */
    SOURCE_CONNECTED, /* works */
    SOURCE_FAILED,    /* does not work; retries by itself: status `error` */
};
/* Report a change; `reason` is a constant in CamelCase (`ConnRefused`), `message` is copied. */
void source_report(struct source_host *host, enum source_state state, const char *reason, const char *message);
/* How it goes: the last event (0: none yet), what is taken and not settled, what waits outside (-1: not known). Shown
 * with the condition, as long as it is connected. */
void source_progress(struct source_host *host, int64_t last_ms, int64_t in_flight, int64_t lag);
/* Of an occurrence with until_end that was acknowledged: forget how it ends, and end its event as cancelled if nothing
 * of it has started. True: it was so, and who delivers it again does not make it run twice. */
bool source_withdraw(struct source_host *host, uint64_t token);
/* The id of the trigger it works for (for logs and for state kept under its name). */
const char *source_trigger_id(const struct source_host *host);
/* The directory of its manifest, for secrets_want(); free() it. NULL: not known. */
char *source_manifest_dir(const struct source_host *host);
/* What happened was folded into a later event by the source itself: counted as `debounced`. */
void source_debounced(struct source_host *host, uint64_t n);
/* It brought again what was known: counted as `duplicate`. */
void source_duplicates(struct source_host *host, uint64_t n);
/* In create(): this is the first source of this trigger ever (what the store has under its id was another's). */
bool source_is_new(const struct source_host *host);

#endif
