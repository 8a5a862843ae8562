/* JSON values as text. Not cJSON's printer, which indents by tabs and writes 2^53 as 9.00719925474099e+15. */
#include "base/mask.h"
#include "model/value_internal.h"

#include <stdio.h>

struct printer {
    struct buf out;
    bool pretty;
    size_t limit; /* stop adding past so many bytes; SIZE_MAX: none */
};

static size_t escape_of(unsigned char c, char out[6])
{
    static const char hex[] = "0123456789abcdef", from[] = "\b\f\n\r\t", to[] = "bfnrt";
    const char *short_form = strchr(from, c);
    out[0] = '\\';
    if (c >= 0x20 || short_form) {
        out[1] = short_form ? to[short_form - from] : (char)c;
        return 2;
    }
    memcpy(out + 1, "u00", 3);
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return 6;
}

void value_print_string(struct buf *b, const char *s, size_t limit)
{
    size_t len = strlen(s);
    if (len <= limit - MIN(b->len, limit) && ascii_plain(s, len) == len) {
        char *to = buf_reserve(b, len + 2);
        to[0] = '"';
        memcpy(to + 1, s, len);
        memcpy(to + 1 + len, "\"", 2);
        b->len += len + 2;
        return;
    }
    const char *end = s + len;
    char escape[6];
    buf_addc(b, '"');
    while (b->len < limit) {
        const char *from = s;
        do
            s += ascii_plain(s, (size_t)(end - s));
        while ((unsigned char)*s >= 0x80 && s++);
        buf_add(b, from, MIN((size_t)(s - from), limit));
        if (s == end)
            break;
        buf_add(b, escape, escape_of((unsigned char)*s++, escape));
    }
    buf_addc(b, '"');
}

static void print_indent(struct printer *p, unsigned depth)
{
    if (!p->pretty)
        return;
    char *to = buf_reserve(&p->out, 1 + 2 * (size_t)depth);
    to[0] = '\n';
    memset(to + 1, ' ', 2 * (size_t)depth);
    to[1 + 2 * (size_t)depth] = '\0';
    p->out.len += 1 + 2 * (size_t)depth;
}

static void print_value(struct printer *p, const cJSON *v, unsigned depth)
{
    char number[VALUE_DOUBLE_MAX];
    switch (v->type & 0xFF) {
    case cJSON_False:
        buf_add(&p->out, "false", 5);
        break;
    case cJSON_True:
        buf_add(&p->out, "true", 4);
        break;
    case cJSON_Number:
        buf_add(&p->out, number, value_double_text(v->valuedouble, number));
        break;
    case cJSON_Raw:
        buf_adds(&p->out, v->valuestring);
        break;
    case cJSON_String:
        value_print_string(&p->out, v->valuestring ? v->valuestring : "", p->limit);
        break;
    case cJSON_Array:
    case cJSON_Object: {
        bool object = v->type & cJSON_Object;
        buf_addc(&p->out, object ? '{' : '[');
        for (const cJSON *child = v->child; child && p->out.len < p->limit; child = child->next) {
            print_indent(p, depth + 1);
            if (object) {
                value_print_string(&p->out, child->string ? child->string : "", p->limit);
                buf_add(&p->out, ": ", p->pretty ? 2 : 1);
            }
            print_value(p, child, depth + 1);
            if (child->next)
                buf_addc(&p->out, ',');
        }
        if (v->child)
            print_indent(p, depth);
        buf_addc(&p->out, object ? '}' : ']');
        break;
    }
    default:
        buf_add(&p->out, "null", 4);
    }
}

char *value_print(const cJSON *v)
{
    struct printer p = {.limit = SIZE_MAX};
    buf_reserve(&p.out, 511);
    print_value(&p, v, 0);
    return buf_steal(&p.out);
}

char *value_print_pretty(const cJSON *v)
{
    struct printer p = {.limit = SIZE_MAX, .pretty = true};
    buf_reserve(&p.out, 511);
    print_value(&p, v, 0);
    return buf_steal(&p.out);
}

char *value_brief(const cJSON *v, char *out, size_t cap)
{
    enum { BRIEF_BYTES = 120, BRIEF_CHARACTERS = 40 };
    static const char mark[] = "…";
    if (cap == 0)
        return out;
    if (!v) {
        snprintf(out, cap, "nothing");
        return out;
    }
    struct printer p = {.limit = BRIEF_BYTES * 2};
    print_value(&p, v, 0);
    if (p.out.data &&
        strstr(p.out.data, "://")) { /* before it is cut: half a URL does not show where its password ends */
        char *whole = value_print(v);
        buf_fini(&p.out);
        mask_urls(&whole);
        p.out = (struct buf){.data = whole, .len = strlen(whole)};
    }
    size_t len = p.out.len, end = 0, room = cap > sizeof(mark) ? MIN(cap - sizeof(mark), BRIEF_BYTES) : 0;
    size_t fit = 0; /* what can stay before a mark */
    for (size_t characters = 0; end < len && characters < BRIEF_CHARACTERS && end < cap; characters++) {
        size_t n = utf8_sequence(p.out.data + end, len - end);
        end += n ? n : 1;
        if (end <= room)
            fit = end;
    }
    if (end == len && len < cap)
        snprintf(out, cap, "%s", p.out.data);
    else
        snprintf(out, cap, "%.*s%s", (int)fit, p.out.data, room > 0 ? mark : "");
    buf_fini(&p.out);
    return out;
}
