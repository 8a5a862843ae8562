/* Runs whose start is not on disk yet, noted where a kill -9 cannot reach.
 *
 * A queued event starts while the record of its start still waits for a commit. Should the daemon die in between, the
 * store has the event as pending, and its first attempt would be made a second time. So the id of the run is noted
 * first, in a file that is mapped shared: what was stored there is in the page cache and survives the process at any
 * instruction. After a power loss a note may be missing or left over; a note that is left over is still true.
 *
 * Thread: the owner's.
 */
#ifndef TRIGGERD_STORE_STARTS_H
#define TRIGGERD_STORE_STARTS_H

#include "base/error.h"

#include <stdbool.h>

#define STARTS_MAX 1024u

struct starts;

/* Maps PATH, made where missing, and reads what an earlier life has left in it. */
int starts_open(const char *path, struct starts **ret, struct error *err);
void starts_close(struct starts *s); /* NULL is allowed; notes stay in the file */
/* The number of the note, or -ENOSPC. */
int starts_note(struct starts *s, const char *run_id);
void starts_clear(struct starts *s, int note);
/* Is it among those of the earlier life? */
bool starts_left(const struct starts *s, const char *run_id);
/* What follows from those of the earlier life is on disk. */
void starts_clear_left(struct starts *s);

#endif
