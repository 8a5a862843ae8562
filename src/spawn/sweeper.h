/* The sweeper: what a step left behind in sessions of its own is ended soon after the step. Looking through /proc for
 * each step would cost more than most steps; so the ends of half a second are looked for at once, on the pool. Idle it
 * does nothing. Thread: the loop's. */
#ifndef TRIGGERD_SPAWN_SWEEPER_H
#define TRIGGERD_SPAWN_SWEEPER_H

#include "base/loop.h"

struct sweeper;

struct sweeper *sweeper_create(struct loop *loop);
/* An attempt has ended; its tag (ORPHANS_TAG_VARIABLE) is copied. */
void sweeper_note(struct sweeper *s, const char *tag);
/* Sweeps a last time if there is anything to sweep; then frees, and `done`, never from inside. NULL: not allowed. */
void sweeper_close(struct sweeper *s, void (*done)(void *ctx), void *ctx);

#endif
