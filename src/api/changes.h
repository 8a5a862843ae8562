/* That something which views show is not as it was: what a client asks again for, instead of asking now and then.
 *
 * No more is told than which kinds of resource; what changed is the client's to look at. Each reader has one bit a kind,
 * and hears of it at most every CHANGES_PACE_MS: a reader that stops reading costs nothing and misses nothing. Who has
 * not read since the last look may hear of what it has seen. While there are no readers nothing is done.
 *
 * Thread: the loop's.
 */
#ifndef TRIGGERD_API_CHANGES_H
#define TRIGGERD_API_CHANGES_H

#include "base/loop.h"
#include "engine/engine.h"

#define CHANGES_PACE_MS 50

struct changes;
struct change_reader;

/* The bits, in the order of change_kind_name(). */
enum {
    CHANGED_TRIGGERS = 1 << 0,
    CHANGED_PIPELINES = 1 << 1,
    CHANGED_RUNS = 1 << 2,
    CHANGED_EVENTS = 1 << 3,
    CHANGED_MANIFESTS = 1 << 4,
    CHANGED_MCP_SERVERS = 1 << 5,
    CHANGED_ALL = (1 << 6) - 1,
};
/* `triggers`, …; NULL past the last. */
const char *change_kind_name(int i);

struct changes *changes_create(struct loop *loop, struct engine *engine);
/* Every reader is closed. NULL is allowed. */
void changes_destroy(struct changes *c);
/* Of these kinds (bits) something has changed: `id`, NULL: it may be any. */
void changes_tell(struct changes *c, unsigned kinds, const char *id);

/* From now on, of these kinds; `id`: of this resource alone, NULL: of all; copied. `wake` comes when there is something
 * for a reader that was told there is nothing; never from inside a call of the reader's. */
struct change_reader *change_reader_open(struct changes *c, unsigned kinds, const char *id, void (*wake)(void *ctx),
                                         void *ctx);
void change_reader_close(struct change_reader *r);
/* The kinds of which something changed since the last call; 0: nothing now. */
unsigned change_reader_take(struct change_reader *r);

#endif
