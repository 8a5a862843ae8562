/* Identifiers: a prefix and a ULID, `evt_01HZX3…`, which sort as text in the order in which they were made.
 *
 * A ULID is 48 bits of wall-clock milliseconds and 80 random bits, in 26 digits of Crockford's base 32, most
 * significant first (https://github.com/ulid/spec). Within one millisecond, and while the clock stands behind a time
 * already used, the last one plus one is given, so that a source never goes back; should the 80 bits overflow, the time
 * moves on by a millisecond. Thread: a source belongs to one thread; the rest is pure.
 */
#ifndef TRIGGERD_BASE_ID_H
#define TRIGGERD_BASE_ID_H

#include "base/clock.h"
#include "base/random.h"

#include <stdbool.h>

#define ID_ULID_LENGTH 26
#define ID_PREFIX_MAX 5
#define ID_SIZE (ID_PREFIX_MAX + ID_ULID_LENGTH + 1) /* of a buffer that holds any id and its NUL */

struct id_source {
    struct clock *clock;
    struct random *random;
    uint64_t time_ms; /* of the last one, 48 bits */
    uint64_t high;    /* its random bits: the upper 40 … */
    uint64_t low;     /* … and the lower 40 */
};

void id_source_init(struct id_source *source, struct clock *clock, struct random *random);

/* Everything from now on is greater than `text` (an id made before a restart, of whatever prefix; the caller checked it
 * with id_valid()). Costs nothing where the clock has gone on since. */
void id_source_after(struct id_source *source, const char *text);

/* Write `prefix` (at most ID_PREFIX_MAX bytes) and the next ULID. */
void id_next(struct id_source *source, const char *prefix, char out[ID_SIZE]);

/* Exactly `prefix` and 26 upper-case digits of a value that fits 128 bits. */
bool id_valid(const char *text, const char *prefix);

/* When a valid id was made, wall-clock milliseconds. */
int64_t id_time_ms(const char *text);

/* The least id of that prefix with that time: the bound for "all since". Times are cut to 48 bits. */
void id_first_at(int64_t time_ms, const char *prefix, char out[ID_SIZE]);

#endif
