/* The one table of verbs: from it come parsing, --help, usage errors and their suggestions (and later man pages and
 * completions). A new verb is a row here and a handler in a verbs_*.c file. */
#ifndef TRIGGERD_CTL_TABLE_H
#define TRIGGERD_CTL_TABLE_H

#include "ctl/client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ctl_exit {
    CTL_OK = 0,
    CTL_FAILED = 1,
    CTL_USAGE = 2,
    CTL_NO_DAEMON = 3, /* nobody listens at the socket */
    CTL_TIMEOUT = 4,   /* --timeout ran out */
};

enum option_id {
    OPT_OUTPUT, /* -o of lists */
    OPT_FORMAT, /* -o of one answer */
    OPT_REPORT, /* -o of validate */
    OPT_TYPE,
    OPT_STATUS,
    OPT_DECISION,
    OPT_TRIGGER,
    OPT_PIPELINE,
    OPT_SINCE,
    OPT_UNTIL,
    OPT_LIMIT,
    OPT_DATA,
    OPT_KEY,
    OPT_DRY_RUN,
    OPT_DISCARD,
    OPT_INPUTS,
    OPT_WAIT,
    OPT_FOR,
    OPT_TIMEOUT,
    OPT_STEP,
    OPT_BATCH,
    OPT_FOLLOW,
    OPT_WATCH,
    OPT_EXIT_CODE,
    OPT_ARGS,
    OPT_N,
};
#define OPT(id) (UINT64_C(1) << (id))

/* What completion offers for a value that has no list of words. */
enum complete {
    COMPLETE_NONE,
    COMPLETE_FILE,
    COMPLETE_DATA, /* a file after an @ */
    COMPLETE_ID,   /* of what the first word says */
    COMPLETE_TRIGGER,
    COMPLETE_PIPELINE,
    COMPLETE_RUN,
    COMPLETE_EVENT,
    COMPLETE_ENDPOINT,
    COMPLETE_TYPE,    /* of trigger */
    COMPLETE_INIT,    /* the same, and pipeline */
    COMPLETE_EXPLAIN, /* kinds of all sorts */
    COMPLETE_STATE,   /* of what the first word says; of events by default */
    COMPLETE_DECISION,
    COMPLETE_MCP_SERVER,
    COMPLETE_STEP, /* of the run that is the first word */
};

struct option_row {
    const char *name;         /* without dashes; several rows may share one, a verb takes at most one of them */
    char letter;              /* 0: none */
    const char *value;        /* what stands for its value in help; NULL: a flag */
    const char *const *words; /* the values that are allowed; NULL: any */
    const char *doc;
    enum complete complete;
};
extern const struct option_row option_rows[OPT_N];

#define ARGUMENTS_MAX 3
struct argument {
    const char *name;         /* as help shows it; NULL ends the list */
    const char *const *words; /* what is allowed; NULL: anything but an empty text */
    bool optional;
    bool many;  /* takes all that is left */
    bool empty; /* may be an empty text */
    enum complete complete;
};

struct ctl;
struct args;
typedef int verb_fn(struct ctl *c, const struct args *a); /* gives the exit code */

struct verb {
    const char *name;
    const char *group; /* heading in --help; NULL: hidden */
    const char *summary;
    const char *text; /* more, for the verb's own --help; NULL: none */
    const char *example;
    struct argument arguments[ARGUMENTS_MAX + 1];
    uint64_t options; /* OPT(…) | … */
    verb_fn *run;
};
extern const struct verb verbs[];
extern const size_t n_verbs;
const struct verb *verb_find(const char *name);

/* What was asked for. */
struct args {
    const struct verb *verb;
    const char *values[OPT_N]; /* NULL: not given; a flag that is given is "" */
    const char **words;        /* positional */
    size_t n;
    size_t dashes; /* of the words, the first that stood behind `--`; `n`: none did */
};

/* What verbs share. */
struct ctl {
    const char *socket;    /* a path, or a URL; as asked for, or the default */
    struct client *client; /* made at the first request */
    bool colour;           /* standard output is a terminal that wants it */
};

/* Handlers. */
verb_fn verb_get, verb_describe, verb_events, verb_stats, verb_status, verb_version, verb_logs;
verb_fn verb_pause, verb_resume, verb_test, verb_emit, verb_run, verb_replay, verb_cancel, verb_delete, verb_wait;
verb_fn verb_completion, verb_complete, verb_man;
verb_fn verb_mcp;
verb_fn verb_apply, verb_diff, verb_edit, verb_doctor;
verb_fn verb_validate, verb_path, verb_match, verb_explain, verb_init;

/* Of explain, for completion: the names that may stand after `path.`, at most `cap`; none where there is no such path. */
size_t explain_below(const char *path, const char **ret, size_t cap);

#endif
