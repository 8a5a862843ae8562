/* A trigger as its manifest wants it: the seed's object, the gates' settings, and the config of its type.
 *
 * Immutable once parsed, and counted: the engine, a reconcile pass and a view may hold one at a time (loop thread
 * only).
 */
#ifndef TRIGGERD_MODEL_TRIGGER_H
#define TRIGGERD_MODEL_TRIGGER_H

#include "model/kind.h"

enum cooldown_policy { COOLDOWN_SKIP, COOLDOWN_LATEST, COOLDOWN_QUEUE };
enum concurrency_policy { CONCURRENCY_QUEUE, CONCURRENCY_SKIP, CONCURRENCY_REPLACE };
enum pause_policy { PAUSE_SKIP, PAUSE_HOLD };
enum interrupt_policy { INTERRUPT_RETRY, INTERRUPT_FAIL };

struct trigger {
    unsigned refs;
    /* what the table describes */
    char *id;
    char *name;
    char *description;
    char *pipeline_id;
    char *trigger_type;
    char *config_text;    /* JSON, as the manifest says, without defaults */
    cJSON *input_mapping; /* from the top or from config; object of paths; NULL if none */
    bool enabled;
    int64_t max_concurrent;
    double cooldown_seconds;
    char *default_inputs; /* JSON, an object; NULL if none */
    int cooldown_policy;  /* enum cooldown_policy; `queue` by default where the type is lossless */
    int concurrency_policy;
    char *concurrency_key; /* path text, NULL if none */
    int64_t queue_limit;
    int pause_policy;
    bool allow_loops;
    int64_t failure_threshold;
    int64_t storm_limit;
    int on_interrupt;
    int64_t max_interruptions;
    double dedup_window_seconds;
    /* what comes with it */
    const struct kind *kind; /* of trigger_type */
    void *config;            /* parsed by kind->config */
    bool config_mapping;     /* input_mapping is the one in config */
};

extern const struct field_table trigger_fields;
/* `filter`, which the config of kinds with has_filter takes beside its own keys: documentation, without a struct. */
extern const struct field_table trigger_filter_fields;
extern const char *const trigger_reserved_ids[]; /* words that are routes; NULL-terminated */

/* Parse a trigger document. `kinds` lists the source types. *ret is set (one reference) when no error was added. */
int trigger_parse(const cJSON *doc, const struct kind *const *kinds, struct trigger **ret, struct issues *issues);
/* The same, but gives what there is of a document with errors too, for trigger_check() alone. */
struct trigger *trigger_read(const cJSON *doc, const struct kind *const *kinds, struct issues *issues);
struct trigger *trigger_ref(struct trigger *t);
void trigger_unref(struct trigger *t);

/* Same content (comments, order and position of the text do not count). */
bool trigger_equal(const struct trigger *a, const struct trigger *b);
/* What an edit from a to b costs; names of changed fields as in fields_compare. A changed type costs CHANGE_TRIGGER. */
enum field_change trigger_compare(const struct trigger *a, const struct trigger *b, const char **names, size_t cap,
                                  size_t *ret_n);

/* `Process New CSV Files` → `process-new-csv-files`, at most 63 characters; NULL when nothing is left. free() it. */
char *trigger_slug(const char *name);

#endif
