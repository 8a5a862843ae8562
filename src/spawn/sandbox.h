/* sandbox: strict, by bubblewrap: no network, a read-only file system but for what is named, a /tmp, a /run and a /dev of
 * its own, process numbers of its own, no capabilities.
 *
 *   UNKNOWN ──probe──► (bwrap is looked for on the pool, then runs `true` as a step would be run) ──► WORKS | REFUSED
 *
 * What is found holds until the daemon ends. A step that asks for it is wrapped in bwrap's arguments; it never runs
 * without. Its processes are in bwrap's session and group, so that everything that ends a step's tree ends them too; and
 * bwrap's own end ends them all, which is why a SIGTERM that leaves time must not go to bwrap itself (child_signal_below()).
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_SPAWN_SANDBOX_H
#define TRIGGERD_SPAWN_SANDBOX_H

#include "base/loop.h"
#include "spawn/spawn.h"

enum sandbox_state { SANDBOX_UNKNOWN, SANDBOX_WORKS, SANDBOX_REFUSED };

struct sandbox;

struct sandbox_options {
    struct loop_group *group; /* held while something is under way on the pool */
    struct spawner *spawner;
    struct ledger *ledger;    /* NULL: none is kept */
    const char *path;         /* directories in which bwrap is looked for, as PATH has them; copied */
    void (*known)(void *ctx); /* the state is no longer UNKNOWN; after those who wait were told. NULL: nobody asks */
    void *ctx;
};

struct sandbox *sandbox_create(const struct sandbox_options *options);
/* After spawner_destroy(), before its group is closed. Those who wait are told no more. NULL is allowed. */
void sandbox_destroy(struct sandbox *s);

/* Begin to find out, unless that was begun. Never calls `known` from inside. */
void sandbox_probe(struct sandbox *s);
/* *ret_why: `sandbox: strict is refused: …` where it is REFUSED, borrowed; may be NULL. */
enum sandbox_state sandbox_state(const struct sandbox *s, const char **ret_why);

/* Tell when the state is known: once, never from inside. Begins to find out. The memory is the caller's until then. */
struct sandbox_wait {
    void (*fn)(void *ctx);
    void *ctx;
    struct sandbox_wait *prev, *next;
};
void sandbox_await(struct sandbox *s, struct sandbox_wait *wait);
void sandbox_leave(struct sandbox *s, struct sandbox_wait *wait); /* not told yet: it is not told any more */

/* Only where it WORKS: puts bwrap before the program of a request that is filled in. `writable`: absolute paths, which
 * must exist. `hidden`: a socket that is not to be reached; NULL: none. The cwd, and a program that is named by an
 * absolute path, are seen even where they lie below what is empty inside. */
void sandbox_wrap(const struct sandbox *s, char *const *writable, size_t n_writable, const char *hidden,
                  struct spawn_request *request);

#endif
