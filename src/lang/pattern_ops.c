/* The entries of a pattern's lists: compiling one, testing a scalar with it, putting it into words. */
#include "lang/pattern_internal.h"

#include "model/value.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>

#define DESCRIBED_MAX 4 /* values of one anything-but that a message names */

typedef int compile_fn(struct predicate *p, const cJSON *operand, struct place *at);

/* Texts and addresses. */

char *pattern_fold(const char *s, size_t len, size_t *ret_len)
{
    bool ascii = true;
    for (size_t i = 0; i < len && ascii; i++)
        ascii = (unsigned char)s[i] < 0x80;
    if (ascii) {
        char *folded = xmalloc(len + 1);
        for (size_t i = 0; i < len; i++)
            folded[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] | 0x20 : s[i]);
        folded[len] = '\0';
        *ret_len = len;
        return folded;
    }
    char *folded = g_utf8_casefold(s, (gssize)len);
    char *copy = xstrdup(folded);
    g_free(folded);
    *ret_len = strlen(copy);
    return copy;
}

void pattern_mask(uint8_t *bytes, unsigned size, unsigned bits)
{
    for (unsigned i = 0; i < size; i++) {
        unsigned keep = bits > i * 8 ? MIN(bits - i * 8, 8) : 0;
        bytes[i] = (uint8_t)(bytes[i] & (0xFF00 >> keep));
    }
}

unsigned pattern_address(const char *s, size_t len, uint8_t out[16])
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    if (len < 2 || len >= INET6_ADDRSTRLEN)
        return 0;
    if (!memchr(s, ':', len))
        return inet_pton(AF_INET, s, out) == 1 ? 4 : 0;
    if (inet_pton(AF_INET6, s, out) != 1)
        return 0;
    if (memcmp(out, mapped, sizeof(mapped)) != 0)
        return 16;
    memmove(out, out + 12, 4);
    return 4;
}

void scalar_init(struct scalar *s, const cJSON *node)
{
    *s = (struct scalar){.node = node, .len = cJSON_IsString(node) ? strlen(node->valuestring) : 0};
}

void scalar_fini(struct scalar *s)
{
    free(s->folded);
}

void scalar_fold(struct scalar *s)
{
    if (!s->folded)
        s->folded = pattern_fold(s->node->valuestring, s->len, &s->folded_len);
}

/* Matching. */

static bool starts_with(const struct text *t, const char *s, size_t len)
{
    return len >= t->len && memcmp(s, t->s, t->len) == 0;
}

static bool ends_with(const struct text *t, const char *s, size_t len)
{
    return len >= t->len && memcmp(s + len - t->len, t->s, t->len) == 0;
}

/* Linear: every chunk between the anchored ends is taken at its first place after the one before, which never loses a
 * match, since a star takes whatever is left. */
static bool wildcard_match(const struct wildcard *w, const char *s, size_t len)
{
    const struct text *first = &w->chunks[0], *last = &w->chunks[w->n - 1];
    if (w->n == 1)
        return text_is(first, s, len);
    if (len < first->len + last->len || !starts_with(first, s, len) || !ends_with(last, s, len))
        return false;
    const char *at = s + first->len, *end = s + len - last->len;
    for (size_t i = 1; i + 1 < w->n; i++) {
        const char *found = memmem(at, (size_t)(end - at), w->chunks[i].s, w->chunks[i].len);
        if (!found)
            return false;
        at = found + w->chunks[i].len;
    }
    return true;
}

static int number_compare(const cJSON *a, const cJSON *b)
{
    if (!cJSON_IsRaw(a) && !cJSON_IsRaw(b))
        return (a->valuedouble > b->valuedouble) - (a->valuedouble < b->valuedouble);
    return value_number_compare(a, b);
}

static bool range_match(const struct range *r, const cJSON *number)
{
    if (r->low) {
        int c = number_compare(number, r->low);
        if (c < 0 || (c == 0 && r->low_open))
            return false;
    }
    if (r->high) {
        int c = number_compare(number, r->high);
        if (c > 0 || (c == 0 && r->high_open))
            return false;
    }
    return true;
}

static bool cidr_match(const struct cidr *cidr, const char *s, size_t len)
{
    uint8_t address[16];
    if (pattern_address(s, len, address) != cidr->size)
        return false;
    pattern_mask(address, cidr->size, cidr->bits);
    return memcmp(address, cidr->bytes, cidr->size) == 0;
}

static bool equal_match(const struct predicate *p, const struct scalar *s)
{
    if (!p->value)
        return cJSON_IsString(s->node) && text_is(&p->text, s->node->valuestring, s->len);
    if (value_is_number(p->value))
        return value_is_number(s->node) && number_compare(p->value, s->node) == 0;
    return (p->value->type & 0xFF) == (s->node->type & 0xFF);
}

static bool string_match(const struct predicate *p, struct scalar *s)
{
    const char *text = s->node->valuestring;
    switch (p->op) {
    case PREDICATE_PREFIX:
        return starts_with(&p->text, text, s->len);
    case PREDICATE_SUFFIX:
        return ends_with(&p->text, text, s->len);
    case PREDICATE_WILDCARD:
        return wildcard_match(p->wildcard, text, s->len);
    case PREDICATE_CIDR:
        return cidr_match(&p->cidr, text, s->len);
    case PREDICATE_FOLD:
        scalar_fold(s);
        return text_is(&p->folded, s->folded, s->folded_len);
    case PREDICATE_PREFIX_FOLD:
        scalar_fold(s);
        return starts_with(&p->folded, s->folded, s->folded_len);
    case PREDICATE_SUFFIX_FOLD:
        scalar_fold(s);
        return ends_with(&p->folded, s->folded, s->folded_len);
    default:
        return false;
    }
}

bool predicate_match(const struct predicate *p, struct scalar *s)
{
    switch (p->op) {
    case PREDICATE_EQUAL:
        return equal_match(p, s);
    case PREDICATE_NUMERIC:
        return value_is_number(s->node) && range_match(&p->range, s->node);
    case PREDICATE_BUT:
        for (size_t i = 0; i < p->but.n; i++)
            if (predicate_match(&p->but.list[i], s))
                return false;
        return true;
    default:
        return cJSON_IsString(s->node) && string_match(p, s);
    }
}

/* Compiling. */

int place_error(const struct place *at, const cJSON *node, const char *format, ...)
{
    enum { PATH_SHOWN = 160 };
    const struct buf *path = &at->path;
    if (at->ret_node)
        *at->ret_node = node;
    va_list args;
    va_start(args, format);
    _cleanup_(freep) char *text = xvasprintf(format, args);
    va_end(args);
    if (path->len == 0)
        return error_set(at->err, -EINVAL, "%s", text);
    size_t shown = path->len;
    if (shown > PATH_SHOWN)
        for (shown = PATH_SHOWN; ((unsigned char)path->data[shown] & 0xC0) == 0x80; shown--)
            ;
    return error_set(at->err, -EINVAL, "%.*s%s: %s", (int)shown, path->data, shown < path->len ? "…" : "", text);
}

static const char *brief(const cJSON *v, char out[160])
{
    return value_brief(v, out, 160);
}

/* The operand's bytes into p->text. */
static int take_string(struct predicate *p, const cJSON *operand, struct place *at)
{
    char got[160];
    if (!cJSON_IsString(operand))
        return place_error(at, operand, "expected a string, got %s", brief(operand, got));
    size_t len = strlen(operand->valuestring);
    if (len > PATTERN_STRING_MAX)
        return place_error(at, operand, "expected at most %d bytes, got %zu", PATTERN_STRING_MAX, len);
    p->text = (struct text){arena_copy(at->arena, operand->valuestring, len), len};
    return 0;
}

static int take_folded(struct predicate *p, const cJSON *operand, struct place *at)
{
    int r = take_string(p, operand, at);
    if (r < 0)
        return r;
    size_t len;
    _cleanup_(freep) char *folded = pattern_fold(p->text.s, p->text.len, &len);
    p->folded = (struct text){arena_copy(at->arena, folded, len), len};
    return 0;
}

static int compile_fold(struct predicate *p, const cJSON *operand, struct place *at)
{
    p->op = PREDICATE_FOLD;
    return take_folded(p, operand, at);
}

/* prefix and suffix: a string, or {"equals-ignore-case": string} */
static int compile_end(struct predicate *p, const cJSON *operand, struct place *at, enum predicate_op plain,
                       enum predicate_op folded)
{
    char got[160];
    if (!cJSON_IsObject(operand)) {
        p->op = plain;
        return cJSON_IsString(operand)
                   ? take_string(p, operand, at)
                   : place_error(at, operand, "expected a string or {\"equals-ignore-case\": \"…\"}, got %s",
                                 brief(operand, got));
    }
    const cJSON *inner = operand->child;
    if (!inner || inner->next || !streq(inner->string, "equals-ignore-case"))
        return place_error(at, operand, "expected a string or {\"equals-ignore-case\": \"…\"}, got %s",
                           brief(operand, got));
    p->op = folded;
    size_t outer = at->path.len;
    buf_adds(&at->path, ".equals-ignore-case");
    int r = take_folded(p, inner, at);
    at->path.len = outer;
    return r;
}

static int compile_prefix(struct predicate *p, const cJSON *operand, struct place *at)
{
    return compile_end(p, operand, at, PREDICATE_PREFIX, PREDICATE_PREFIX_FOLD);
}

static int compile_suffix(struct predicate *p, const cJSON *operand, struct place *at)
{
    return compile_end(p, operand, at, PREDICATE_SUFFIX, PREDICATE_SUFFIX_FOLD);
}

static int compile_wildcard(struct predicate *p, const cJSON *operand, struct place *at)
{
    int r = take_string(p, operand, at);
    if (r < 0)
        return r;
    p->op = PREDICATE_WILDCARD;
    const char *s = p->text.s;
    size_t stars = 0, len = p->text.len;
    if (len > PATTERN_WILDCARD_MAX)
        return place_error(at, operand, "a wildcard costs too much: expected at most %d bytes, got %zu",
                           PATTERN_WILDCARD_MAX, len);
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '\\' && s[i + 1] != '*' && s[i + 1] != '\\')
            return place_error(at, operand, "expected * or \\ after the \\ at byte %zu of a wildcard", i + 1);
        if (s[i] == '*' && s[i + 1] == '*')
            return place_error(at, operand, "two stars in a row at byte %zu of a wildcard: write one", i + 1);
        stars += s[i] == '*';
        i += s[i] == '\\';
    }
    if (stars > PATTERN_STARS_MAX)
        return place_error(at, operand, "a wildcard costs too much: expected at most %d stars, got %zu",
                           PATTERN_STARS_MAX, stars);

    size_t n = stars + 1;
    struct wildcard *w = arena_alloc(at->arena, sizeof(*w) + n * sizeof(struct text) + len);
    p->wildcard = w;
    w->n = n;
    char *to = (char *)&w->chunks[n];
    struct text *chunk = w->chunks;
    chunk->s = to;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '*') {
            chunk->len = (size_t)(to - chunk->s);
            (++chunk)->s = to;
            continue;
        }
        i += s[i] == '\\';
        *to++ = s[i];
    }
    chunk->len = (size_t)(to - chunk->s);
    return 0;
}

/* A scalar that is no string. */
static const cJSON *copy_value(const cJSON *v, struct place *at)
{
    cJSON *copy = arena_alloc(at->arena, sizeof(*copy));
    *copy = (cJSON){.type = v->type & 0xFF, .valueint = v->valueint, .valuedouble = v->valuedouble};
    if (cJSON_IsRaw(v))
        copy->valuestring = (char *)arena_copy(at->arena, v->valuestring, strlen(v->valuestring));
    return copy;
}

static int compile_equal(struct predicate *p, const cJSON *value, struct place *at)
{
    p->op = PREDICATE_EQUAL;
    if (cJSON_IsString(value))
        return take_string(p, value, at);
    p->value = copy_value(value, at);
    return 0;
}

/* The operator's first character, '\0' if it is none; *ret_open: it has no "=". */
static char numeric_operator(const cJSON *v, bool *ret_open)
{
    const char *s = cJSON_IsString(v) ? v->valuestring : "";
    bool known = streq(s, "=") || streq(s, "<") || streq(s, "<=") || streq(s, ">") || streq(s, ">=");
    *ret_open = known && s[1] == '\0';
    return (char)(known ? s[0] : '\0');
}

/* One operator with its number, items `i` and `i + 1` of the list. `first`: it may also be "=" or a lower bound. */
static int numeric_bound(struct range *r, const cJSON *item, int i, struct place *at)
{
    char got[160];
    bool first = i == 0, open;
    char op = numeric_operator(item, &open);
    size_t outer = at->path.len;
    buf_printf(&at->path, "[%d]", i);
    if (op == '\0' || (!first && op != '<'))
        return place_error(at, item, "expected %s, got %s",
                           first ? "one of < <= = > >=" : "< or <= after a lower bound", brief(item, got));
    at->path.len = outer;
    buf_printf(&at->path, "[%d]", i + 1);
    if (!item->next || !value_is_number(item->next))
        return place_error(at, item->next ? item->next : item, "expected a number after \"%s\", got %s",
                           item->valuestring, brief(item->next, got));
    at->path.len = outer;
    if (op != '<') {
        r->low = copy_value(item->next, at);
        r->low_open = open && op == '>';
    }
    if (op != '>') {
        r->high = copy_value(item->next, at);
        r->high_open = open && op == '<';
    }
    return 0;
}

static int compile_numeric(struct predicate *p, const cJSON *operand, struct place *at)
{
    char got[160];
    if (!cJSON_IsArray(operand) || !operand->child)
        return place_error(at, operand, "expected a list such as [\">\", 0, \"<=\", 5], got %s", brief(operand, got));
    p->op = PREDICATE_NUMERIC;
    struct range *range = &p->range;
    const cJSON *item = operand->child;
    int r = numeric_bound(range, item, 0, at);
    item = r == 0 ? item->next->next : NULL;
    if (r == 0 && item && range->low && !range->high) {
        r = numeric_bound(range, item, 2, at);
        item = r == 0 ? item->next->next : NULL;
        if (r == 0 && value_number_compare(range->low, range->high) >= 0)
            return place_error(at, operand, "expected a lower bound less than the upper one, got %s",
                               brief(operand, got));
    }
    if (r == 0 && item)
        return place_error(at, item, "expected one bound, or a lower and then an upper one, got %s",
                           brief(operand, got));
    return r;
}

static int compile_cidr(struct predicate *p, const cJSON *operand, struct place *at)
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    char got[160], address[INET6_ADDRSTRLEN];
    int r = take_string(p, operand, at);
    if (r < 0)
        return r;
    p->op = PREDICATE_CIDR;
    const char *slash = strchr(p->text.s, '/'), *digits = slash ? slash + 1 : "";
    size_t len = slash ? (size_t)(slash - p->text.s) : 0, n = strspn(digits, "0123456789");
    if (len == 0 || len >= sizeof(address) || n == 0 || n > 3 || digits[n] != '\0')
        goto malformed;
    memcpy(address, p->text.s, len);
    address[len] = '\0';
    unsigned bits = (unsigned)strtoul(digits, NULL, 10);
    bool v6 = inet_pton(AF_INET6, address, p->cidr.bytes) == 1;
    if (!v6 && inet_pton(AF_INET, address, p->cidr.bytes) != 1)
        goto malformed;
    if (bits > (v6 ? 128 : 32))
        return place_error(at, operand, "expected a length of at most %d bits, got %u", v6 ? 128 : 32, bits);
    p->cidr.size = v6 ? 16 : 4;
    if (v6 && bits >= 96 && memcmp(p->cidr.bytes, mapped, sizeof(mapped)) == 0) {
        memmove(p->cidr.bytes, p->cidr.bytes + 12, 4);
        p->cidr.size = 4;
        bits -= 96;
    }
    p->cidr.bits = (uint8_t)bits;
    pattern_mask(p->cidr.bytes, p->cidr.size, bits);
    return 0;
malformed:
    return place_error(at, operand, "expected a block such as 10.0.0.0/8 or 2001:db8::/32, got %s",
                       brief(operand, got));
}

static int compile_exists(struct predicate *p, const cJSON *operand, struct place *at)
{
    char got[160];
    if (!cJSON_IsBool(operand))
        return place_error(at, operand, "expected true or false, got %s", brief(operand, got));
    p->op = cJSON_IsTrue(operand) ? PREDICATE_PRESENT : PREDICATE_ABSENT;
    return 0;
}

static int count_entry(const cJSON *node, struct place *at)
{
    if (++at->n_entries > PATTERN_ENTRIES_MAX)
        return place_error(at, node, "expected at most %d entries in a pattern", PATTERN_ENTRIES_MAX);
    return 0;
}

/* One value of an anything-but, with `compile` the operator that it stands under. */
static int but_value(struct predicate *p, const cJSON *value, compile_fn *compile, struct place *at)
{
    char got[160];
    bool values = compile == compile_equal;
    if (!cJSON_IsString(value) && !(values && value_is_number(value)))
        return place_error(at, value, "expected %s, got %s",
                           values ? "strings or numbers" : "a string or a list of strings", brief(value, got));
    if ((compile == compile_prefix || compile == compile_suffix) && value->valuestring[0] == '\0')
        return place_error(at, value, "expected a string that is not empty: anything but that is nothing");
    int r = count_entry(value, at);
    if (r < 0)
        return r;
    return compile(&p->but.list[p->but.n++], value, at);
}

static int but_list(struct predicate *p, const cJSON *operand, compile_fn *compile, struct place *at)
{
    char got[160];
    if (!cJSON_IsArray(operand)) {
        p->but.list = arena_alloc(at->arena, sizeof(*p->but.list));
        return but_value(p, operand, compile, at);
    }
    if (!operand->child)
        return place_error(at, operand, "expected at least one value, got []");
    p->but.list = arena_alloc(at->arena, (size_t)cJSON_GetArraySize(operand) * sizeof(*p->but.list));
    size_t outer = at->path.len;
    const cJSON *item;
    int i = 0;
    cJSON_ArrayForEach (item, operand) {
        buf_printf(&at->path, "[%d]", i++);
        int r = but_value(p, item, compile, at);
        if (r == 0 && value_is_number(item) != value_is_number(operand->child))
            r = place_error(at, item, "expected strings alone or numbers alone, got %s", brief(operand, got));
        if (r < 0)
            return r;
        at->path.len = outer;
    }
    return 0;
}

static int compile_but(struct predicate *p, const cJSON *operand, struct place *at);

static const struct operator
{
    const char *name;
    compile_fn *compile;
    bool negatable; /* may stand in an anything-but */
}
operators[] = {
    {"prefix", compile_prefix, true},
    {"suffix", compile_suffix, true},
    {"equals-ignore-case", compile_fold, true},
    {"wildcard", compile_wildcard, true},
    {"anything-but", compile_but, false},
    {"numeric", compile_numeric, false},
    {"cidr", compile_cidr, false},
    {"exists", compile_exists, false},
};

static const struct operator* operator_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(operators); i++)
        if (streq(operators[i].name, name))
            return &operators[i];
    return NULL;
}

bool predicate_is_operator(const char *name)
{
    return operator_find(name) != NULL;
}

static int compile_but(struct predicate *p, const cJSON *operand, struct place *at)
{
    p->op = PREDICATE_BUT;
    if (!cJSON_IsObject(operand))
        return but_list(p, operand, compile_equal, at);
    const cJSON *inner = operand->child;
    const struct operator* op = inner && !inner->next ? operator_find(inner->string) : NULL;
    if (!op || !op->negatable) {
        char got[160];
        return place_error(at, inner && !inner->next ? inner : operand,
                           "expected one of prefix, suffix, equals-ignore-case and wildcard, got %s",
                           brief(operand, got));
    }
    size_t outer = at->path.len;
    buf_printf(&at->path, ".%s", op->name);
    int r = but_list(p, inner, op->compile, at);
    at->path.len = outer;
    return r;
}

static int unknown_operator(const cJSON *member, struct place *at)
{
    const char *names[ARRAY_SIZE(operators)];
    for (size_t i = 0; i < ARRAY_SIZE(operators); i++)
        names[i] = operators[i].name;
    buf_printf(&at->path, ".%s", member->string);
    return place_error(at, member, "unknown operator, did you mean \"%s\"?",
                       nearest_name(member->string, names, ARRAY_SIZE(operators)));
}

static int compile_entry(struct predicate *p, const cJSON *json, struct place *at)
{
    char got[160];
    int r = count_entry(json, at);
    if (r < 0)
        return r;
    if (cJSON_IsArray(json))
        return place_error(at, json, "expected a value or an operator, got %s", brief(json, got));
    if (!cJSON_IsObject(json))
        return compile_equal(p, json, at);

    const cJSON *member = json->child;
    if (!member)
        return place_error(at, json, "expected a value or an operator, got {}");
    if (member->next)
        return place_error(at, json,
                           "expected one operator (two of them are two entries, either of which matches), got %s",
                           brief(json, got));
    const struct operator* op = operator_find(member->string);
    if (!op)
        return unknown_operator(member, at);
    buf_printf(&at->path, ".%s", op->name);
    return op->compile(p, member, at);
}

int predicate_compile(struct predicate *p, const cJSON *json, struct place *at)
{
    size_t outer = at->path.len;
    int r = compile_entry(p, json, at);
    at->path.len = outer;
    return r;
}

/* In words. */

static void describe_text(const struct text *t, const char *word, struct buf *out)
{
    char quoted[160];
    cJSON reference = {.type = cJSON_String, .valuestring = (char *)t->s};
    buf_printf(out, "%s%s", word, brief(&reference, quoted));
}

static void describe_range(const struct range *r, struct buf *out)
{
    char number[160];
    if (r->low && r->high && !r->low_open && !r->high_open && value_number_compare(r->low, r->high) == 0) {
        buf_printf(out, "numeric = %s", brief(r->low, number));
        return;
    }
    buf_adds(out, "numeric");
    if (r->low)
        buf_printf(out, " %s %s", r->low_open ? ">" : ">=", brief(r->low, number));
    if (r->high)
        buf_printf(out, " %s %s", r->high_open ? "<" : "<=", brief(r->high, number));
}

void predicate_describe(const struct predicate *p, struct buf *out)
{
    static const char *const words[] = {
        [PREDICATE_PREFIX] = "prefix ",
        [PREDICATE_SUFFIX] = "suffix ",
        [PREDICATE_FOLD] = "equals-ignore-case ",
        [PREDICATE_PREFIX_FOLD] = "prefix equals-ignore-case ",
        [PREDICATE_SUFFIX_FOLD] = "suffix equals-ignore-case ",
        [PREDICATE_WILDCARD] = "wildcard ",
    };
    char value[160];
    switch (p->op) {
    case PREDICATE_EQUAL:
        if (p->value)
            buf_adds(out, brief(p->value, value));
        else
            describe_text(&p->text, "", out);
        break;
    case PREDICATE_NUMERIC:
        describe_range(&p->range, out);
        break;
    case PREDICATE_CIDR:
        buf_printf(out, "cidr %s", p->text.s);
        break;
    case PREDICATE_PRESENT:
        buf_adds(out, "a value");
        break;
    case PREDICATE_ABSENT:
        buf_adds(out, "nothing");
        break;
    case PREDICATE_BUT:
        buf_adds(out, "anything-but ");
        for (size_t i = 0; i < p->but.n && i < DESCRIBED_MAX; i++) {
            buf_adds(out, i ? ", " : "");
            predicate_describe(&p->but.list[i], out);
        }
        buf_adds(out, p->but.n > DESCRIBED_MAX ? ", …" : "");
        break;
    default:
        describe_text(&p->text, words[p->op], out);
        break;
    }
}
