#include "base/random.h"

#include "base/util.h"

#include <errno.h>
#include <sys/random.h>

static void system_fill(struct random *random, void *out, size_t len)
{
    (void)random;
    char *to = out;
    while (len > 0) {
        ssize_t n = getrandom(to, len, 0);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            abort(); /* ENOSYS or a filter that forbids it: going on without randomness is worse */
        }
        to += n;
        len -= (size_t)n;
    }
}

struct random *random_system(void)
{
    static struct random system = {system_fill};
    return &system;
}

static uint64_t rotate_left(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static uint64_t xoshiro_next(uint64_t s[4])
{
    uint64_t result = rotate_left(s[1] * 5, 7) * 9, shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

static void seeded_fill(struct random *random, void *out, size_t len)
{
    struct random_seeded *seeded = container_of(random, struct random_seeded, random);
    char *to = out;
    while (len > 0) {
        uint64_t word = xoshiro_next(seeded->state);
        size_t n = MIN(len, sizeof(word));
        memcpy(to, &word, n);
        to += n;
        len -= n;
    }
}

void random_seeded_init(struct random_seeded *seeded, uint64_t seed)
{
    seeded->random.fill = seeded_fill;
    for (size_t i = 0; i < ARRAY_SIZE(seeded->state); i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15ULL;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
        seeded->state[i] = z ^ z >> 31;
    }
}

uint64_t random_u64(struct random *random)
{
    uint64_t x;
    random_fill(random, &x, sizeof(x));
    return x;
}

uint64_t random_below(struct random *random, uint64_t bound)
{
    uint64_t biased = -bound % bound; /* 2^64 mod bound: that many values at the bottom would come up once too often */
    uint64_t x;
    do
        x = random_u64(random);
    while (x < biased);
    return x % bound;
}

double random_unit(struct random *random)
{
    return (double)(random_u64(random) >> 11) * 0x1p-53;
}
