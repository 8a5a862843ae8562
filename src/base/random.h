/* Randomness: the port, the kernel's source, and a repeatable one for tests and the simulator.
 *
 * Thread: random_system() any; a struct random_seeded belongs to one thread.
 */
#ifndef TRIGGERD_BASE_RANDOM_H
#define TRIGGERD_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
    void (*fill)(struct random *random, void *out, size_t len);
};

/* getrandom(2), which cannot fail once the machine has booted (else the process ends). Always the same object; it holds
 * no state, not even a buffer, so that every thread may use it and nothing is left in memory. */
struct random *random_system(void);

/* xoshiro256**, its state spread from the seed by splitmix64: the same seed gives the same bytes. Not for secrets. */
struct random_seeded {
    struct random random;
    uint64_t state[4];
};
void random_seeded_init(struct random_seeded *seeded, uint64_t seed);

static inline void random_fill(struct random *random, void *out, size_t len)
{
    random->fill(random, out, len);
}

uint64_t random_u64(struct random *random);
/* Uniform in [0, bound), without bias; bound > 0. */
uint64_t random_below(struct random *random, uint64_t bound);
/* Uniform in [0, 1), 53 bits. */
double random_unit(struct random *random);

#endif
