#include "store/count.h"

#include <uthash.h>
#include <utlist.h>

#define ENTRIES_MAX 1024 /* beyond, all are dropped after a commit: a bound on memory, not on what is counted */

struct count_entry {
    UT_hash_handle hh;
    struct count_entry *prev, *next; /* in `dirty` */
    bool is_dirty;
    enum count_kind kind;
    int64_t minute;
    const char *texts[3]; /* into key */
    size_t key_len;
    int64_t *groups; /* of events: the id of each cell's, 0: not known; NULL: of none */
    int n[COUNT_CELLS];
    char key[];
};

static struct count_entry *entry_get(struct counts *c, enum count_kind kind, int64_t minute)
{
    struct count_entry *e = c->last;
    if (!e || e->key_len != c->key.len || memcmp(e->key, c->key.data, c->key.len) != 0)
        HASH_FIND(hh, c->entries, c->key.data, c->key.len, e);
    if (!e) {
        e = xcalloc(1, sizeof(*e) + c->key.len + 1);
        e->kind = kind;
        e->minute = minute;
        e->key_len = c->key.len;
        memcpy(e->key, c->key.data, c->key.len);
        if (kind != COUNT_MINUTES) {
            const char *text = e->key + 1;
            for (size_t i = 0; i < ARRAY_SIZE(e->texts); i++) {
                e->texts[i] = text;
                text += strlen(text) + 1;
            }
        }
        HASH_ADD_KEYPTR(hh, c->entries, e->key, e->key_len, e);
        c->n_entries++;
    }
    c->last = e;
    if (!e->is_dirty) {
        e->is_dirty = true;
        DL_APPEND(c->dirty, e);
    }
    return e;
}

static unsigned cell(int status, int decision)
{
    unsigned row = MIN((unsigned)status, COUNT_STATUSES - 1u), column = MIN((unsigned)decision, COUNT_DECISIONS - 1u);
    return row * COUNT_DECISIONS + column;
}

static void key_add_text(struct counts *c, const char *text)
{
    buf_add(&c->key, text ? text : "", text ? strlen(text) + 1 : 1);
}

static struct count_entry *entry_of(struct counts *c, enum count_kind kind, const char *trigger_id,
                                    const char *pipeline_id, const char *event_type)
{
    c->key.len = 0;
    buf_addc(&c->key, (char)kind);
    key_add_text(c, trigger_id);
    key_add_text(c, pipeline_id);
    key_add_text(c, event_type);
    return entry_get(c, kind, 0);
}

void counts_add(struct counts *c, enum count_kind kind, const char *trigger_id, const char *pipeline_id,
                const char *event_type, int status, int decision, int n)
{
    entry_of(c, kind, trigger_id, pipeline_id, event_type)->n[cell(status, decision)] += n;
    c->pending[kind] += n;
}

int64_t *counts_group(struct counts *c, const char *trigger_id, const char *pipeline_id, const char *event_type,
                      int status, int decision)
{
    struct count_entry *e = entry_of(c, COUNT_EVENTS, trigger_id, pipeline_id, event_type);
    if (!e->groups)
        e->groups = xcalloc(COUNT_CELLS, sizeof(*e->groups));
    return &e->groups[cell(status, decision)];
}

void counts_forget_groups(struct counts *c)
{
    for (struct count_entry *e = c->entries; e; e = e->hh.next) {
        free(e->groups);
        e->groups = NULL;
    }
}

void counts_add_minute(struct counts *c, int64_t occurred_ms, int status, int n)
{
    int64_t minute = count_minute(occurred_ms);
    c->key.len = 0;
    buf_addc(&c->key, (char)COUNT_MINUTES);
    buf_add(&c->key, &minute, sizeof(minute));
    entry_get(c, COUNT_MINUTES, minute)->n[cell(status, 0)] += n;
}

int counts_flush(struct counts *c, counts_put_fn *put, void *ctx)
{
    struct count_entry *e;
    DL_FOREACH (c->dirty, e) {
        for (int i = 0; i < COUNT_CELLS; i++) {
            if (e->n[i] == 0)
                continue;
            int r = put(ctx, e->kind, e->minute, e->texts, i / COUNT_DECISIONS, i % COUNT_DECISIONS, e->n[i]);
            if (r != 0)
                return r;
        }
    }
    return 0;
}

static void drop_all(struct counts *c)
{
    struct count_entry *e = c->entries, *next;
    c->last = NULL;
    HASH_CLEAR(hh, c->entries); /* the table alone; the entries stay linked */
    for (; e; e = next) {
        next = e->hh.next;
        free(e->groups);
        free(e);
    }
    c->n_entries = 0;
}

static void settle(struct counts *c)
{
    struct count_entry *e, *next;
    DL_FOREACH_SAFE (c->dirty, e, next) {
        DL_DELETE(c->dirty, e);
        e->is_dirty = false;
        memset(e->n, 0, sizeof(e->n));
    }
    memset(c->pending, 0, sizeof(c->pending));
    if (c->n_entries > ENTRIES_MAX)
        drop_all(c);
}

void counts_commit(struct counts *c)
{
    for (int kind = 0; kind < COUNT_KINDS; kind++)
        c->total[kind] += c->pending[kind];
    settle(c);
}

void counts_rollback(struct counts *c)
{
    counts_forget_groups(c); /* some were of this batch */
    settle(c);
}

void counts_fini(struct counts *c)
{
    settle(c);
    drop_all(c);
    buf_fini(&c->key);
}
