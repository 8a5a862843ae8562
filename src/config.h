/* What the daemon is told: the config file, the command line over it, the defaults under both. */
#ifndef TRIGGERD_CONFIG_H
#define TRIGGERD_CONFIG_H

#include "model/field.h"

struct config_retention {
    int64_t events;
    double days, run_log_days;
};

struct config_mount {
    char *dir; /* NULL: none */
    bool allow_other;
    int64_t uid, gid; /* -1: ours */
    char *umask;      /* octal */
    int64_t umask_bits;
};

struct config_token {
    char *name, *file;
    uint64_t scopes; /* bits, in the order of the words */
};

struct config_api {
    char *manifest_dir; /* NULL: the first that is writable */
    struct strings hosts;
    int64_t max_body_bytes;
    struct objects tokens; /* struct config_token; that of token_file is one of them */
    char *token_file;
    struct config_tls *tls; /* NULL: none */
};

struct config_tls {
    char *cert_file, *key_file;
    char *client_ca_file; /* NULL: none */
};

struct config {
    struct strings manifests;
    char *state;
    char *socket;
    char *listen; /* NULL: none */
    int log_level;
    int log_format;
    double shutdown_grace_seconds;
    int64_t max_runs;
    int64_t max_chain_depth;
    struct config_retention retention;
    struct strings secrets_dirs;
    struct config_mount mount;
    struct config_api api;
    /* not in the file */
    bool check;
    char *dev;   /* --dev: the directory that goes away with the daemon; NULL: not asked for */
    bool firing; /* FLOWMASON_TRIGGERS_ENABLED */
};

extern const struct field_table config_fields;

/* 0: go on; 1: done (--help, --version), exit 0; -EINVAL: usage, exit 2; other: exit 1. What is to be said was said. */
int config_read(int argc, char **argv, struct config *ret);
void config_fini(struct config *c);

#endif
