/* exec: its config and what is compiled of it. exec.c runs it. */
#ifndef TRIGGERD_STEP_EXEC_CONFIG_H
#define TRIGGERD_STEP_EXEC_CONFIG_H

#include "lang/template.h"
#include "model/pipeline.h"
#include "spawn/spawn.h"

struct exec_limits {
    int64_t memory_bytes, processes, open_files; /* 0: none of its own */
    double cpu_seconds;                          /* likewise */
};

enum exec_sandbox { EXEC_SANDBOX_NONE, EXEC_SANDBOX_STRICT };

struct exec_config {
    struct strings command;
    char *script;
    char *cwd;
    cJSON *env; /* object of strings, NULL if none */
    char *user;
    struct exec_limits limits;
    int sandbox; /* enum exec_sandbox */
    struct strings writable;
    int64_t max_output_bytes;
};

struct exec_program {
    struct template **args;
    size_t n_args;
    struct template *cwd;
    char *script;           /* with a variable for each reference: SECRET_VARIABLE and its number */
    struct strings secrets; /* the references of the script, in order of their numbers */
    struct exec_variable {
        char *name;
        struct template *value;
    } * env;
    size_t n_env;
};

/* The variables that stand for the references of a script, from 1: a value is never pasted into the text. */
#define SECRET_VARIABLE "TRIGGERD_SECRET_"

extern const struct field_table exec_fields;
extern const struct field_table exec_limit_fields; /* of struct exec_limits */

extern const char exec_rules[]; /* as struct kind has them */
void exec_validate(const void *config, const cJSON *node, const char *path, struct issues *issues);
int exec_compile(const struct step *step, const cJSON *node, const char *path, void **ret_program,
                 struct issues *issues);
void exec_program_free(void *program);
void exec_each_path(const void *program, void (*fn)(void *ctx, const char *path), void *ctx);
void exec_each_reference(const void *program, void (*fn)(void *ctx, const char *text), void *ctx);

/* Whom a step runs as: uid, gid, supplementary groups and HOME of a name or a number, into the request. */
int exec_user(const char *user, struct spawn_request *r, struct error *err);

#endif
