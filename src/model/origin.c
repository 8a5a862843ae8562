#include "model/origin.h"

#include "base/util.h"

struct commit *commit_new(void)
{
    struct commit *c = xcalloc(1, sizeof(*c));
    c->refs = 1;
    return c;
}

struct commit *commit_ref(struct commit *c)
{
    c->refs++;
    return c;
}

void commit_unref(struct commit *c)
{
    if (!c || --c->refs > 0)
        return;
    free(c->id);
    free(c->subject);
    free(c);
}

bool commit_set(struct commit *c, const char *id, const char *subject, int64_t authored_ms)
{
    if (streq(c->id, id))
        return false;
    free(c->id);
    free(c->subject);
    c->id = xstrdup0(id);
    c->subject = xstrdup0(subject);
    c->authored_ms = authored_ms;
    return true;
}

struct origin *origin_new(const char *file)
{
    size_t len = strlen(file) + 1;
    struct origin *o = xcalloc(1, sizeof(*o) + len);
    o->refs = 1;
    memcpy(o->file, file, len);
    return o;
}

struct origin *origin_ref(struct origin *o)
{
    o->refs++;
    return o;
}

void origin_unref(struct origin *o)
{
    if (!o || --o->refs > 0)
        return;
    commit_unref(o->commit);
    free(o);
}

void origin_set_commit(struct origin *o, struct commit *c)
{
    struct commit *old = o->commit;
    o->commit = c ? commit_ref(c) : NULL;
    commit_unref(old);
}
