#include "spawn/lines.h"

#include <errno.h>

#define KEPT_MAX (64 * 1024) /* memory that an empty buffer keeps */

char *lines_room(struct lines *l, size_t room)
{
    if (l->from > 0) {
        l->held.len -= l->from;
        memmove(l->held.data, l->held.data + l->from, l->held.len);
        l->seen -= l->from;
        l->from = 0;
    }
    if (l->held.len == 0 && l->held.cap > KEPT_MAX)
        buf_fini(&l->held);
    return buf_reserve(&l->held, room);
}

void lines_filled(struct lines *l, size_t len)
{
    l->held.len += len;
}

static const char *find_newline(const struct lines *l)
{
    return l->seen < l->held.len ? memchr(l->held.data + l->seen, '\n', l->held.len - l->seen) : NULL;
}

void lines_skip(struct lines *l)
{
    const char *newline = find_newline(l);
    l->skipping = !newline;
    l->from = l->seen = newline ? (size_t)(newline - l->held.data) + 1 : l->held.len;
}

int lines_next(struct lines *l, const char **ret, size_t *ret_len)
{
    if (l->skipping)
        lines_skip(l);
    const char *newline = find_newline(l);
    size_t end = newline ? (size_t)(newline - l->held.data) : l->held.len;
    if (end - l->from > l->max)
        return -EMSGSIZE;
    l->seen = end;
    if (!newline)
        return 0;
    *ret = l->held.data + l->from;
    *ret_len = end - l->from;
    l->from = l->seen = end + 1;
    return 1;
}

size_t lines_rest(const struct lines *l)
{
    return l->held.len - l->from;
}

void lines_fini(struct lines *l)
{
    buf_fini(&l->held);
    *l = (struct lines){0};
}
