/* JSON values as text. Not cJSON's printer, which indents by tabs and writes 2^53 as 9.00719925474099e+15. */
#include "base/mask.h"
#include "model/value_internal.h"

#include <stdio.h>

struct printer {
    struct buf out;
    bool pretty;
    size_t limit; /* stop adding past so many bytes; SIZE_MAX: none */
};

static void print_string(struct printer *p, const char *s)
{
    static const char hex[] = "0123456789abcdef";
    buf_addc(&p->out, '"');
    while (p->out.len < p->limit) {
        const char *from = s;
        while ((unsigned char)*s >= 0x20 && *s != '"' && *s != '\\')
            s++;
        size_t n = (size_t)(s - from);
        buf_add(&p->out, from, MIN(n, p->limit));
        if (!*s)
            break;
        char escape[6] = {'\\', *s};
        size_t len = 2;
        switch (*s) {
        case '"':
        case '\\':
            break;
        case '\b':
            escape[1] = 'b';
            break;
        case '\f':
            escape[1] = 'f';
            break;
        case '\n':
            escape[1] = 'n';
            break;
        case '\r':
            escape[1] = 'r';
            break;
        case '\t':
            escape[1] = 't';
            break;
        default:
            memcpy(escape + 1, "u00", 3);
            escape[4] = hex[(unsigned char)*s >> 4];
            escape[5] = hex[*s & 15];
            len = 6;
        }
        buf_add(&p->out, escape, len);
        s++;
    }
    buf_addc(&p->out, '"');
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
        print_string(p, v->valuestring ? v->valuestring : "");
        break;
    case cJSON_Array:
    case cJSON_Object: {
        bool object = v->type & cJSON_Object;
        buf_addc(&p->out, object ? '{' : '[');
        for (const cJSON *child = v->child; child && p->out.len < p->limit; child = child->next) {
            print_indent(p, depth + 1);
            if (object) {
                print_string(p, child->string ? child->string : "");
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
