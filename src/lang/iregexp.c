#include "lang/iregexp.h"

#include "base/util.h"

#include <errno.h>
#include <glib.h>

enum op { OP_CHARACTER, OP_ANY, OP_CLASS, OP_SPLIT, OP_JUMP, OP_START, OP_END, OP_MATCH };

/* Targets are relative, so that a piece of program can be moved and copied whole. */
struct inst {
    enum op op;
    union {
        uint32_t character;
        size_t class;
        struct {
            int32_t x, y;
        };
    };
};

/* One range of a class, or (mask not 0) a set of general categories, one bit each by GUnicodeType. */
struct item {
    uint32_t low, high, mask;
};

struct class
{
    bool negated;
    size_t first, n; /* items */
};

struct iregexp {
    struct inst *insts;
    size_t n, cap;
    struct class *classes;
    size_t n_classes;
    struct item *items;
    size_t n_items;
};

/* ---- compiling ---- */

/* A program of n states takes less than 2n to make, copies of copies counted, and a little more to move. */
#define WORK_MAX (16 * IREGEXP_STATES_MAX)

struct compiler {
    const char *text, *p;
    struct iregexp *re;
    struct error *err;
    unsigned depth;
    size_t work; /* states made so far, those dropped again too */
};

static int fail(const struct compiler *c, int code, const char *message)
{
    unsigned column = 1;
    for (const char *p = c->text; p < c->p; p++)
        column += ((unsigned char)*p & 0xC0) != 0x80;
    return error_set_at(c->err, code, 1, column, "%s", message);
}

/* Room for `n` more instructions. */
static int reserve(struct compiler *c, size_t n)
{
    struct iregexp *re = c->re;
    c->work += n;
    if (n > IREGEXP_STATES_MAX - re->n || c->work > WORK_MAX)
        return fail(c, -E2BIG, "the regular expression is too large");
    if (re->n + n > re->cap) {
        re->cap = MAX(re->cap * 2, re->n + n);
        re->insts = xreallocarray(re->insts, re->cap, sizeof(*re->insts));
    }
    return 0;
}

static int emit(struct compiler *c, struct inst inst)
{
    int r = reserve(c, 1);
    if (r >= 0)
        c->re->insts[c->re->n++] = inst;
    return r;
}

static int insert(struct compiler *c, size_t at, struct inst inst)
{
    int r = reserve(c, 1);
    if (r < 0)
        return r;
    struct inst *insts = c->re->insts;
    c->work += (c->re->n - at) / 8;
    memmove(insts + at + 1, insts + at, (c->re->n - at) * sizeof(*insts));
    insts[at] = inst;
    c->re->n++;
    return 0;
}

static uint32_t read_character(const char **p)
{
    const unsigned char *u = (const unsigned char *)*p;
    size_t n = utf8_sequence(*p, strnlen(*p, 4));
    *p += n ? n : 1;
    switch (n) {
    case 1:
        return u[0];
    case 2:
        return (u[0] & 0x1FU) << 6 | (u[1] & 0x3FU);
    case 3:
        return (u[0] & 0x0FU) << 12 | (u[1] & 0x3FU) << 6 | (u[2] & 0x3FU);
    case 4:
        return (u[0] & 0x07U) << 18 | (u[1] & 0x3FU) << 12 | (u[2] & 0x3FU) << 6 | (u[3] & 0x3FU);
    default:
        return 0xFFFD;
    }
}

static void add_item(struct compiler *c, struct class *class, struct item item)
{
    struct iregexp *re = c->re;
    if ((re->n_items & (re->n_items + 1)) == 0) /* full at 0, 1, 3, 7, … */
        re->items = xreallocarray(re->items, (re->n_items + 1) * 2, sizeof(*re->items));
    re->items[re->n_items++] = item;
    class->n++;
}

static int emit_class(struct compiler *c, struct class class)
{
    struct iregexp *re = c->re;
    re->classes = xreallocarray(re->classes, re->n_classes + 1, sizeof(*re->classes));
    re->classes[re->n_classes] = class;
    return emit(c, (struct inst){.op = OP_CLASS, .class = re->n_classes++});
}

/* The two-letter general categories of RFC 9485 (`Cs` is not among them: text has no surrogates). */
static const struct {
    char name[3];
    GUnicodeType type;
} categories[] = {
    {"Lu", G_UNICODE_UPPERCASE_LETTER},    {"Ll", G_UNICODE_LOWERCASE_LETTER},  {"Lt", G_UNICODE_TITLECASE_LETTER},
    {"Lm", G_UNICODE_MODIFIER_LETTER},     {"Lo", G_UNICODE_OTHER_LETTER},      {"Mn", G_UNICODE_NON_SPACING_MARK},
    {"Mc", G_UNICODE_SPACING_MARK},        {"Me", G_UNICODE_ENCLOSING_MARK},    {"Nd", G_UNICODE_DECIMAL_NUMBER},
    {"Nl", G_UNICODE_LETTER_NUMBER},       {"No", G_UNICODE_OTHER_NUMBER},      {"Pc", G_UNICODE_CONNECT_PUNCTUATION},
    {"Pd", G_UNICODE_DASH_PUNCTUATION},    {"Ps", G_UNICODE_OPEN_PUNCTUATION},  {"Pe", G_UNICODE_CLOSE_PUNCTUATION},
    {"Pi", G_UNICODE_INITIAL_PUNCTUATION}, {"Pf", G_UNICODE_FINAL_PUNCTUATION}, {"Po", G_UNICODE_OTHER_PUNCTUATION},
    {"Zs", G_UNICODE_SPACE_SEPARATOR},     {"Zl", G_UNICODE_LINE_SEPARATOR},    {"Zp", G_UNICODE_PARAGRAPH_SEPARATOR},
    {"Sm", G_UNICODE_MATH_SYMBOL},         {"Sc", G_UNICODE_CURRENCY_SYMBOL},   {"Sk", G_UNICODE_MODIFIER_SYMBOL},
    {"So", G_UNICODE_OTHER_SYMBOL},        {"Cc", G_UNICODE_CONTROL},           {"Cf", G_UNICODE_FORMAT},
    {"Cn", G_UNICODE_UNASSIGNED},          {"Co", G_UNICODE_PRIVATE_USE},
};

/* `{Lu}` at c->p after \p or \P. */
static int parse_category(struct compiler *c, bool complement, struct item *ret)
{
    uint32_t mask = 0;
    const char *p = c->p;
    size_t n = *p == '{' ? strcspn(p + 1, "}") : 0;
    if (n == 1 || n == 2)
        for (size_t i = 0; i < ARRAY_SIZE(categories); i++)
            if (strncmp(categories[i].name, p + 1, n) == 0)
                mask |= UINT32_C(1) << categories[i].type;
    if (mask == 0 || p[1 + n] != '}')
        return fail(c, -EINVAL, "expected a general category such as {Lu}");
    c->p += n + 2;
    *ret = (struct item){.mask = complement ? ~mask : mask};
    return 0;
}

/* The character that an escape at c->p, after the backslash, stands for. */
static int parse_escape(struct compiler *c, uint32_t *ret)
{
    switch (*c->p) {
    case 'n':
        *ret = '\n';
        break;
    case 'r':
        *ret = '\r';
        break;
    case 't':
        *ret = '\t';
        break;
    case '(' ... '+':
    case '-':
    case '.':
    case '?':
    case '[' ... '^':
    case '{' ... '}':
        *ret = (uint32_t)*c->p;
        break;
    default:
        return fail(c, -EINVAL, "no such escape in a regular expression");
    }
    c->p++;
    return 0;
}

/* A character of a class, at c->p. */
static int parse_class_character(struct compiler *c, uint32_t *ret)
{
    if (*c->p == '\\') {
        c->p++;
        return parse_escape(c, ret);
    }
    if (!*c->p)
        return fail(c, -EINVAL, "a character class does not end");
    if (*c->p == '[' || *c->p == '-')
        return fail(c, -EINVAL,
                    *c->p == '-' ? "'-' stands first or last in a class" : "'[' must be escaped in a class");
    *ret = read_character(&c->p);
    return 0;
}

static int parse_class_item(struct compiler *c, struct class *class)
{
    struct item item = {0};
    int r;
    if (c->p[0] == '\\' && (c->p[1] == 'p' || c->p[1] == 'P')) {
        c->p += 2;
        r = parse_category(c, c->p[-1] == 'P', &item);
    } else {
        r = parse_class_character(c, &item.low);
        item.high = item.low;
        if (r >= 0 && c->p[0] == '-' && c->p[1] != ']') {
            c->p++;
            r = parse_class_character(c, &item.high);
            if (r >= 0 && item.high < item.low)
                r = fail(c, -EINVAL, "a range ends before it starts");
        }
    }
    if (r >= 0)
        add_item(c, class, item);
    return r;
}

/* `[…]`, after the bracket. */
static int parse_class(struct compiler *c)
{
    struct class class = {.first = c->re->n_items};
    if (*c->p == '^') {
        class.negated = true;
        c->p++;
    }
    if (*c->p == '-') {
        add_item(c, &class, (struct item){.low = '-', .high = '-'});
        c->p++;
    }
    while (*c->p != ']' || class.n == 0) {
        if (c->p[0] == '-' && c->p[1] == ']' && class.n > 0) {
            add_item(c, &class, (struct item){.low = '-', .high = '-'});
            c->p++;
            break;
        }
        if (*c->p == ']')
            return fail(c, -EINVAL, "a character class is empty");
        int r = parse_class_item(c, &class);
        if (r < 0)
            return r;
    }
    c->p++;
    return emit_class(c, class);
}

static int parse_alternatives(struct compiler *c);

static int parse_group(struct compiler *c)
{
    if (c->depth == IREGEXP_DEPTH_MAX)
        return fail(c, -E2BIG, "groups are nested too deep");
    c->depth++;
    int r = parse_alternatives(c);
    c->depth--;
    if (r < 0)
        return r;
    if (*c->p != ')')
        return fail(c, -EINVAL, "a group does not end");
    c->p++;
    return 0;
}

static int parse_atom(struct compiler *c)
{
    struct item item;
    uint32_t character = 0;
    int r;
    switch (*c->p) {
    case '(':
        c->p++;
        return parse_group(c);
    case '[':
        c->p++;
        return parse_class(c);
    case '.':
        c->p++;
        return emit(c, (struct inst){.op = OP_ANY});
    case '^':
        c->p++;
        return emit(c, (struct inst){.op = OP_START});
    case '$':
        c->p++;
        return emit(c, (struct inst){.op = OP_END});
    case '*':
    case '+':
    case '?':
    case '{':
        return fail(c, -EINVAL, "nothing to repeat");
    case ']':
    case '}':
        return fail(c, -EINVAL, "a closing bracket without its opening one");
    case '\\':
        c->p++;
        if (*c->p == 'p' || *c->p == 'P') {
            c->p++;
            r = parse_category(c, c->p[-1] == 'P', &item);
            struct class class = {.first = c->re->n_items};
            if (r < 0)
                return r;
            add_item(c, &class, item);
            return emit_class(c, class);
        }
        r = parse_escape(c, &character);
        return r < 0 ? r : emit(c, (struct inst){.op = OP_CHARACTER, .character = character});
    default:
        return emit(c, (struct inst){.op = OP_CHARACTER, .character = read_character(&c->p)});
    }
}

static bool parse_count(struct compiler *c, size_t *ret)
{
    if (*c->p < '0' || *c->p > '9')
        return false;
    size_t n = 0;
    for (; *c->p >= '0' && *c->p <= '9'; c->p++)
        n = MIN(n * 10 + (size_t)(*c->p - '0'), IREGEXP_STATES_MAX + 1);
    *ret = n;
    return true;
}

/* Make the piece from `start` on optional (x?) or endless (x*, x+). */
static int repeat(struct compiler *c, size_t start, char how)
{
    int32_t len = (int32_t)(c->re->n - start);
    if (how == '+')
        return emit(c, (struct inst){.op = OP_SPLIT, .x = -len, .y = 1});
    int r = insert(c, start, (struct inst){.op = OP_SPLIT, .x = 1, .y = len + (how == '*' ? 2 : 1)});
    if (r >= 0 && how == '*')
        r = emit(c, (struct inst){.op = OP_JUMP, .x = -(len + 1)});
    return r;
}

/* The piece from `start` on `min` to `max` times; max SIZE_MAX: no end. */
static int repeat_counted(struct compiler *c, size_t start, size_t min, size_t max)
{
    size_t len = c->re->n - start;
    if (max == 0)
        c->re->n = start;
    if (max == 0 || len == 0)
        return 0;
    _cleanup_(freep) struct inst *piece = xmemdup(c->re->insts + start, len * sizeof(*piece));
    c->re->n = start;
    size_t copies = max == SIZE_MAX ? MAX(min, 1) : max;
    for (size_t i = 1; i <= copies; i++) {
        size_t at = c->re->n;
        int r = reserve(c, len);
        if (r < 0)
            return r;
        memcpy(c->re->insts + at, piece, len * sizeof(*piece));
        c->re->n += len;
        if (max == SIZE_MAX && i == copies)
            r = repeat(c, at, min == 0 ? '*' : '+');
        else if (i > min)
            r = repeat(c, at, '?');
        if (r < 0)
            return r;
    }
    return 0;
}

static int parse_quantifier(struct compiler *c, size_t start)
{
    if (*c->p == '*' || *c->p == '+' || *c->p == '?') {
        char how = *c->p++;
        return repeat(c, start, how);
    }
    if (*c->p != '{')
        return 0;
    size_t min = 0, max;
    c->p++;
    bool good = parse_count(c, &min);
    max = min;
    if (good && *c->p == ',') {
        c->p++;
        if (*c->p == '}')
            max = SIZE_MAX;
        else
            good = parse_count(c, &max) && max >= min;
    }
    if (!good || *c->p != '}')
        return fail(c, -EINVAL, "not a repetition: {2}, {2,} or {2,5}");
    c->p++;
    return repeat_counted(c, start, min, max);
}

/* Alternatives up to ')' or the end. */
static int parse_alternatives(struct compiler *c)
{
    size_t start = c->re->n, jumps = SIZE_MAX; /* the jumps to the end, each holding the place of the one before */
    int r = 0;
    for (;;) {
        while (r >= 0 && *c->p && *c->p != '|' && *c->p != ')') {
            size_t piece = c->re->n;
            r = parse_atom(c);
            if (r >= 0)
                r = parse_quantifier(c, piece);
        }
        if (r < 0)
            return r;
        if (*c->p != '|')
            break;
        c->p++;
        r = insert(c, start, (struct inst){.op = OP_SPLIT, .x = 1, .y = (int32_t)(c->re->n - start) + 2});
        if (r >= 0)
            r = emit(c, (struct inst){.op = OP_JUMP, .x = jumps == SIZE_MAX ? -1 : (int32_t)jumps});
        if (r < 0)
            return r;
        jumps = c->re->n - 1;
        start = c->re->n;
    }
    while (jumps != SIZE_MAX) {
        struct inst *jump = &c->re->insts[jumps];
        size_t before = jump->x < 0 ? SIZE_MAX : (size_t)jump->x;
        jump->x = (int32_t)(c->re->n - jumps);
        jumps = before;
    }
    return 0;
}

int iregexp_compile(const char *pattern, uint64_t *steps, struct iregexp **ret, struct error *err)
{
    struct iregexp *re = xcalloc(1, sizeof(*re));
    struct compiler c = {.text = pattern, .p = pattern, .re = re, .err = err};
    int r = utf8_valid(pattern, strlen(pattern)) ? parse_alternatives(&c) : fail(&c, -EINVAL, "not valid UTF-8");
    if (r >= 0 && *c.p)
        r = fail(&c, -EINVAL, "a closing bracket without its opening one");
    if (r >= 0)
        r = emit(&c, (struct inst){.op = OP_MATCH});
    if (steps)
        *steps -= MIN(*steps, c.work + re->n_items);
    if (r < 0) {
        iregexp_destroy(re);
        return r;
    }
    *ret = re;
    return 0;
}

void iregexp_destroy(struct iregexp *re)
{
    if (!re)
        return;
    free(re->insts);
    free(re->classes);
    free(re->items);
    free(re);
}

/* ---- matching ---- */

/* The states alive between two characters; `place` says where a state stands in the list, if it does. */
struct states {
    uint32_t *list, *place;
    size_t n;
};

struct matcher {
    const struct iregexp *re;
    uint64_t *steps;
    uint32_t *stack;
    bool at_start, at_end; /* of the text, where states are being added */
    bool matched;          /* OP_MATCH was reached there */
};

static bool states_has(const struct states *set, uint32_t pc)
{
    return set->place[pc] < set->n && set->list[set->place[pc]] == pc;
}

/* Add `pc` and all that can be reached from it without a character. */
static int add_state(struct matcher *m, struct states *set, uint32_t pc)
{
    size_t depth = 0;
    m->stack[depth++] = pc;
    while (depth > 0) {
        pc = m->stack[--depth];
        if (states_has(set, pc))
            continue;
        if ((*m->steps)-- == 0) {
            *m->steps = 0;
            return -E2BIG;
        }
        set->place[pc] = (uint32_t)set->n;
        set->list[set->n++] = pc;
        const struct inst *inst = &m->re->insts[pc];
        switch (inst->op) {
        case OP_SPLIT:
            m->stack[depth++] = pc + (uint32_t)inst->y;
            m->stack[depth++] = pc + (uint32_t)inst->x;
            break;
        case OP_JUMP:
            m->stack[depth++] = pc + (uint32_t)inst->x;
            break;
        case OP_START:
            if (m->at_start)
                m->stack[depth++] = pc + 1;
            break;
        case OP_END:
            if (m->at_end)
                m->stack[depth++] = pc + 1;
            break;
        case OP_MATCH:
            m->matched = true;
            break;
        default:
            break;
        }
    }
    return 0;
}

static bool class_has(const struct iregexp *re, const struct class *class, uint32_t character, uint64_t *steps)
{
    *steps -= MIN(*steps, class->n / 8);
    for (size_t i = class->first; i < class->first + class->n; i++) {
        const struct item *item = &re->items[i];
        bool in = item->mask ? item->mask >> g_unichar_type(character) & 1
                             : character >= item->low && character <= item->high;
        if (in)
            return !class->negated;
    }
    return class->negated;
}

static bool takes(const struct matcher *m, const struct inst *inst, uint32_t character)
{
    switch (inst->op) {
    case OP_CHARACTER:
        return inst->character == character;
    case OP_ANY:
        return character != '\n' && character != '\r';
    case OP_CLASS:
        return class_has(m->re, &m->re->classes[inst->class], character, m->steps);
    default:
        return false;
    }
}

static int run(struct matcher *m, struct states *now, struct states *next, const char *p, bool search)
{
    int r;
    m->at_start = true;
    m->at_end = !*p;
    r = add_state(m, now, 0);
    while (r >= 0 && *p && !(search && m->matched) && (search || now->n > 0)) {
        uint32_t character = read_character(&p);
        m->at_start = false;
        m->at_end = !*p;
        m->matched = false;
        next->n = 0;
        for (size_t i = 0; i < now->n && r >= 0; i++)
            if (takes(m, &m->re->insts[now->list[i]], character))
                r = add_state(m, next, now->list[i] + 1);
        if (r >= 0 && search)
            r = add_state(m, next, 0);
        struct states *swap = now;
        now = next;
        next = swap;
    }
    return r < 0 ? r : m->matched && (search || !*p);
}

int iregexp_match(const struct iregexp *re, const char *subject, bool search, uint64_t *steps)
{
    /* two lists, two places, and a stack, which holds each state at most twice (once for each way into it) */
    uint32_t few[64 * 6];
    size_t n = re->n;
    uint32_t *memory = n <= 64 ? few : xreallocarray(NULL, n, 6 * sizeof(*memory));
    memset(memory, 0, n * 6 * sizeof(*memory));
    struct states now = {.list = memory, .place = memory + n}, next = {.list = memory + 2 * n, .place = memory + 3 * n};
    struct matcher m = {.re = re, .steps = steps, .stack = memory + 4 * n};
    *steps -= MIN(*steps, n / 16);
    int r = run(&m, &now, &next, subject, search);
    if (memory != few)
        free(memory);
    return r;
}
