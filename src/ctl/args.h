/* The command line against the table of verbs, and the help that the table makes. */
#ifndef TRIGGERD_CTL_ARGS_H
#define TRIGGERD_CTL_ARGS_H

#include "ctl/table.h"

/* Parse. -1: go on with *ret (args_fini() it); else the exit code of what was said (help, version, a usage error).
 * `*ret_socket` is set where --socket was given. */
int args_parse(int argc, char **argv, struct args *ret, const char **ret_socket);
void args_fini(struct args *a);

/* A usage error on standard error, with the verb's usage line; gives CTL_USAGE. */
int args_refuse(const struct args *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A word that must be one of a NULL-terminated list. -1: it is; else CTL_USAGE, said with the nearest one. */
int args_check_word(const struct args *a, const char *what, const char *word, const char *const *words);

#endif
