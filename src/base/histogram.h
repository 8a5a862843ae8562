/* A histogram of durations, as Prometheus counts them: buckets by upper bound, their sum and number. Zero-initialised is
 * empty. Thread: one user at a time. */
#ifndef TRIGGERD_BASE_HISTOGRAM_H
#define TRIGGERD_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS 18

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS + 1]; /* each bucket alone; the last is what is past every bound */
    uint64_t n;
    double sum; /* seconds */
};

/* Upper bounds in seconds, ascending, bounds included. */
extern const double histogram_bounds[HISTOGRAM_BUCKETS];

void histogram_add(struct histogram *h, double seconds); /* less than 0 (a clock was set back) counts as 0 */

#endif
