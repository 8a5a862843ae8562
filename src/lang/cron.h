/* Cron expressions: the times at which a schedule fires.
 *
 *   minute        0-59
 *   hour          0-23
 *   day-of-month  1-31
 *   month         1-12 or JAN-DEC
 *   day-of-week   0-7 or SUN-SAT; 0 and 7 are Sunday
 *
 * Fields are separated by blanks. A field is a list (`1,15`) of values, ranges (`9-17`, `FRI-SUN`) and `*`; ranges and
 * `*` take a step (`0-30/10`, every tenth; the step of `*` counts from the field's lowest value). Case does not matter.
 * `@hourly @daily @midnight @weekly @monthly @yearly @annually` stand for the usual expressions.
 *
 * Days: when both day fields are restricted, a day that matches either is a match; when one of them starts with `*`
 * both must match (the rule of Vixie cron; so with `*` in one, the other alone decides).
 *
 * Clock changes. An hour field that does not start with `*` names times of the day: each fires when the local clock
 * first shows it or a later time. So a time that a change skips fires at the first instant after the change, and one
 * that comes twice fires once, the first time. Times that fall on one instant fire it once. An hour field that starts
 * with `*` follows elapsed time: every minute that the clock shows and the fields match, in both passes of a repeated
 * hour, and nothing for a skipped one.
 *
 * Time zones are those of the system's time zone database, by name (`Europe/Rome`), or fixed (`+02:00`).
 * Thread: any; a compiled schedule is constant.
 */
#ifndef TRIGGERD_LANG_CRON_H
#define TRIGGERD_LANG_CRON_H

#include "base/error.h"

#include <stdint.h>

#define CRON_TEXT_MAX 1024 /* bytes of an expression */

struct cron;

/* `zone_name` NULL: UTC. -EINVAL: what is wrong with the expression, naming the field (line 1 and column are set), or
 * with the time zone (no place), or the expression matches no day there is (30 February). */
int cron_create(const char *text, const char *zone_name, struct cron **ret, struct error *err);
void cron_destroy(struct cron *c);

/* Is there such a time zone? For checking it on its own, with a place in the manifest. */
int cron_check_timezone(const char *zone_name, struct error *err);

/* The first time strictly after `after_ms` (Unix milliseconds, from year 1 to 9900). -ERANGE: outside of those years,
 * or nothing within 100 years. Takes microseconds; under a millisecond for the rarest times of a starred hour. */
int cron_next(const struct cron *c, int64_t after_ms, int64_t *ret_ms);

static inline void cron_destroyp(struct cron **c)
{
    cron_destroy(*c);
}

#endif
