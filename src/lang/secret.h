/* Secrets: references `${env:NAME}` and `${file:PATH}` in the strings of a manifest, and what they stand for.
 *
 *   ${env:NAME}    the variable of triggerd's own environment; NAME is [A-Za-z_][A-Za-z0-9_]*
 *   ${file:PATH}   what a file holds, one newline at its end dropped; PATH is anything but control characters and `}`
 *
 * Any other `${…}` is text: shells and other languages have their own. So is a `:` followed by an operator of the shell
 * (`${file:-x}`, `${env:+x}`, also `=` and `?`).
 *
 * What a manifest says is looked through before anything is pasted into it; what was pasted, and what a reference stands
 * for, is never looked through. So nothing that comes from outside can refer.
 *
 * A struct secrets holds the values while they are needed: references are put into it with the directory of the manifest
 * they stand in, an owner reads them (engine/secret_read.h), then texts are expanded. It knows how to mask what it has
 * ever held. Nothing here reads anything. Thread: any, one user at a time.
 */
#ifndef TRIGGERD_LANG_SECRET_H
#define TRIGGERD_LANG_SECRET_H

#include "base/mask.h"
#include "model/field.h"

enum secret_kind { SECRET_ENV, SECRET_FILE };

struct reference {
    enum secret_kind kind;
    const char *start; /* the `${` */
    size_t len;        /* to the `}` and with it */
    const char *name;  /* the variable's name, the file's path */
    size_t name_len;
};

/* The first reference in `text`. 1: *ret is set; 0: there is none; -EINVAL: one is malformed (line 1 and the column). */
int reference_next(const char *text, struct reference *ret, struct error *err);
/* Do its strings hold any, well-formed or not? Keys do not count. */
bool reference_in(const cJSON *tree);
/* Everything that is wrong with the references in its strings; `path` is where the tree stands. */
void reference_check(const cJSON *tree, const char *path, struct issues *issues);
/* The same where references have no effect: a warning that says `why` for each string that holds one. */
void reference_check_unused(const cJSON *tree, const char *path, const char *why, struct issues *issues);

/* The same for an object described by a table: warnings for the fields whose references are not replaced (no
 * FIELD_REFERS), errors for those whose are, unless `compiled`: then something else looks at these. */
void reference_check_fields(const struct field_table *t, const cJSON *object, bool compiled, const char *path,
                            struct issues *issues);

/* ---- values ---- */

struct secrets;

struct secrets *secrets_create(void);
void secrets_destroy(struct secrets *s); /* wipes; NULL is allowed */

/* Note the references of a text, or of a tree's strings, to be read (again). `dir`: of the manifest it stands in, NULL: not known. */
void secrets_want(struct secrets *s, const char *text, const char *dir);
void secrets_want_tree(struct secrets *s, const cJSON *tree, const char *dir);

/* One of those noted: what it is, and what it stands for. */
struct secret {
    enum secret_kind kind;
    const char *name; /* the variable, the path */
    const char *dir;  /* of a file with a manifest's directory; else NULL */
    char *value;      /* NULL: not read, or `error` says why not */
    char *error;
    bool due; /* wanted since it was last set */
};
size_t secrets_count(const struct secrets *s);
const struct secret *secrets_at(const struct secrets *s, size_t i);
/* Set what was read, either of them; both are taken. What it held before stays masked. */
void secrets_set(struct secrets *s, size_t i, char *value, char *error);

/* What one reference stands for; borrowed. NULL: it could not be read; the message names it, never a value. */
const char *secrets_value(const struct secrets *s, const struct reference *r, const char *dir, struct error *err);
/* What a text says with its references replaced; the caller's to secret_free(). -ENOENT: one could not be read. */
int secrets_expand(const struct secrets *s, const char *text, const char *dir, char **ret, struct error *err);
/* The same for all strings of a tree, in place, where values must be UTF-8 (-EILSEQ); on an error it is left half done.
 * Messages start with the place. */
int secrets_expand_tree(const struct secrets *s, cJSON *tree, const char *path, const char *dir, struct error *err);

/* Never NULL; borrowed. */
const struct mask *secrets_mask(const struct secrets *s);
/* Mask the strings, keys and numbers of a tree. */
void secrets_mask_tree(const struct secrets *s, cJSON *tree);

#endif
