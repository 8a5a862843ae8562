/* Where resources come from: one record a manifest file, shared by all that is in it, and one for the commit of its
 * work tree, shared by all files of that. Reconcile writes them; whoever shows a resource reads what is true now.
 *
 * Both are counted. Thread: the loop's (the path of an origin never changes and may be read by others that hold it).
 */
#ifndef TRIGGERD_MODEL_ORIGIN_H
#define TRIGGERD_MODEL_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* HEAD of a git work tree. It changes in place when HEAD moves. */
struct commit {
    unsigned refs;
    char *id;      /* hexadecimal; NULL: no work tree, or no commit in it */
    char *subject; /* UTF-8, one line; NULL as id is */
    int64_t authored_ms;
};

enum origin_state { ORIGIN_UNKNOWN, ORIGIN_CLEAN, ORIGIN_DIRTY }; /* against HEAD; dirty: untracked too */

/* What HEAD has at the path of a file. */
enum stored_kind { STORED_UNKNOWN, STORED_NOTHING, STORED_FILE, STORED_LINK, STORED_OTHER };
struct stored {
    uint8_t kind; /* enum stored_kind */
    uint8_t id[20];
};

struct origin {
    unsigned refs;
    uint8_t state;         /* enum origin_state */
    bool read_only;        /* nothing can be written beside the file */
    struct stored stored;  /* by which an edit is judged without asking for it again */
    struct commit *commit; /* NULL: nobody looks for one */
    char file[];           /* absolute */
};

/* One reference. */
struct commit *commit_new(void);
struct commit *commit_ref(struct commit *c);
void commit_unref(struct commit *c); /* NULL is allowed */
/* `id` NULL: there is none. Returns whether that is another than before. */
bool commit_set(struct commit *c, const char *id, const char *subject, int64_t authored_ms);

/* One reference. */
struct origin *origin_new(const char *file);
struct origin *origin_ref(struct origin *o);
void origin_unref(struct origin *o); /* NULL is allowed */
void origin_set_commit(struct origin *o, struct commit *c);
static inline const char *origin_file(const struct origin *o)
{
    return o ? o->file : NULL;
}

#endif
