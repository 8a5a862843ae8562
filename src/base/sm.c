#include "base/sm.h"

#include <stdio.h>
#include <stdlib.h>

static const char *name_of(const struct sm_table *table, unsigned state)
{
    return state < table->count ? table->states[state].name : "?";
}

static void check_invariant(const struct sm *sm)
{
    if (sm->table->invariant && !sm->table->invariant(sm)) {
        fprintf(stderr, "%s: the invariant does not hold in state %s\n", sm->table->name, sm_state_name(sm));
        abort();
    }
}

void sm_init(struct sm *sm, const struct sm_table *table, unsigned state)
{
    if (table->count > SM_STATES_MAX || state >= table->count) {
        fprintf(stderr, "%s: no state %u\n", table->name, state);
        abort();
    }
    *sm = (struct sm){.table = table, .state = state};
    check_invariant(sm);
}

void sm_trace(struct sm *sm, void (*trace)(void *ctx, const struct sm *sm, unsigned from), void *ctx)
{
    sm->trace = trace;
    sm->trace_ctx = ctx;
}

bool sm_can_move(const struct sm *sm, unsigned to)
{
    return to < sm->table->count && (sm->table->states[sm->state].next & SM_TO(to));
}

void sm_move(struct sm *sm, unsigned to)
{
    unsigned from = sm->state;
    if (!sm_can_move(sm, to)) {
        fprintf(stderr, "%s: no move from %s to %s\n", sm->table->name, name_of(sm->table, from),
                name_of(sm->table, to));
        abort();
    }
    sm->state = to;
    check_invariant(sm);
    if (sm->trace)
        sm->trace(sm->trace_ctx, sm, from);
}

const char *sm_state_name(const struct sm *sm)
{
    return name_of(sm->table, sm->state);
}
