/* State machines as tables: which state may follow which, checked at every move.
 *
 *     enum { CONN_IDLE, CONN_DIALING, CONN_UP, CONN_CLOSED, CONN_N };
 *     static const struct sm_state conn_states[CONN_N] = {
 *         [CONN_IDLE]    = {"idle",    SM_TO(CONN_DIALING) | SM_TO(CONN_CLOSED)},
 *         [CONN_DIALING] = {"dialing", SM_TO(CONN_UP) | SM_TO(CONN_IDLE) | SM_TO(CONN_CLOSED)},
 *         [CONN_UP]      = {"up",      SM_TO(CONN_IDLE) | SM_TO(CONN_CLOSED)},
 *         [CONN_CLOSED]  = {"closed",  0},
 *     };
 *     static const struct sm_table conn_table = {"conn", conn_states, CONN_N, conn_invariant};
 *
 * A move that the table does not allow is a bug and ends the process, in release builds too. The machine lives inside
 * its owner and owns nothing. Thread: its owner's.
 */
#ifndef TRIGGERD_BASE_SM_H
#define TRIGGERD_BASE_SM_H

#include <stdbool.h>
#include <stdint.h>

struct sm;

struct sm_state {
    const char *name;
    uint64_t next; /* SM_TO() of every state that may follow; a state that may follow itself says so */
};
#define SM_TO(state) (UINT64_C(1) << (state))
#define SM_STATES_MAX 64

struct sm_table {
    const char *name;
    const struct sm_state *states;
    unsigned count; /* ≤ SM_STATES_MAX */
    /* Must hold at init and after every move (NULL: nothing to check); the owner is container_of(sm, …). */
    bool (*invariant)(const struct sm *sm);
};

struct sm {
    const struct sm_table *table;
    unsigned state;
    void (*trace)(void *ctx, const struct sm *sm, unsigned from); /* after every move; sm->state is where it went */
    void *trace_ctx;
};

void sm_init(struct sm *sm, const struct sm_table *table, unsigned state);
/* Tell `trace` about every move from now on; NULL: no longer. */
void sm_trace(struct sm *sm, void (*trace)(void *ctx, const struct sm *sm, unsigned from), void *ctx);

bool sm_can_move(const struct sm *sm, unsigned to);
void sm_move(struct sm *sm, unsigned to);

static inline unsigned sm_state(const struct sm *sm)
{
    return sm->state;
}
const char *sm_state_name(const struct sm *sm);

#endif
