/* The strict JSON parser: RFC 8259, one pass, straight into cJSON nodes. */
#include "model/value_alloc.h"
#include "model/value_internal.h"

#include <assert.h>
#include <errno.h>
#include <sys/auxv.h>

cJSON *value_node(int type)
{
    cJSON *node = value_alloc(sizeof(*node));
    *node = (cJSON){.type = type};
    return node;
}

/* ---- places ---- */

struct place {
    const char *at;
    unsigned line, column;
};

/* Move a place forward to `to`. A lone CR starts no line, as editors see it. */
static void place_advance(struct place *place, const char *to)
{
    for (const char *p = place->at; p < to; p++) {
        if (*p == '\n') {
            place->line++;
            place->column = 1;
        } else if (((unsigned char)*p & 0xC0) != 0x80) {
            place->column++;
        }
    }
    place->at = to;
}

/* ---- parser ---- */

struct parser {
    const char *start, *p, *end;
    struct error *err;
    value_place_fn *place;
    void *ctx;
    struct place last, key; /* of the last node told, and of its key, while `place` is set */
};

/* -EAGAIN where only the end of the text is at fault, else -EINVAL. */
static int fail(const struct parser *s, const char *at, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int fail(const struct parser *s, const char *at, const char *format, ...)
{
    int code = at >= s->end ? -EAGAIN : -EINVAL;
    if (s->err) {
        va_list args;
        va_start(args, format);
        error_setv(s->err, code, format, args);
        va_end(args);
        struct place place = {s->start, 1, 1};
        place_advance(&place, at);
        s->err->line = place.line;
        s->err->column = place.column;
    }
    return code;
}

static int fail_end(const struct parser *s, const char *inside)
{
    return fail(s, s->end, "the text ends inside %s", inside);
}

static bool word_character(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '.';
}

/* "expected …, got …" at s->p, which is before the end. */
static int fail_expected(const struct parser *s, const char *expected)
{
    size_t left = (size_t)(s->end - s->p), n = 0;
    while (n < MIN(left, 20) && word_character(s->p[n]))
        n++;
    if (n == 0)
        n = utf8_sequence(s->p, left);
    if (n == 0 || (unsigned char)*s->p < 0x20 || *s->p == 0x7F)
        return fail(s, s->p, "expected %s, got the byte 0x%02X", expected, (unsigned char)*s->p);
    return fail(s, s->p, "expected %s, got '%.*s'", expected, (int)n, s->p);
}

static inline void skip_space(struct parser *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
        s->p++;
}

static int read_hex4(const struct parser *s, const char *p, unsigned *ret)
{
    unsigned n = 0;
    for (int i = 0; i < 4; i++) {
        if (p + i == s->end)
            return fail_end(s, "a string");
        unsigned char c = (unsigned char)p[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (c | 0x20U) - 'a' + 10U;
        else
            return fail(s, p + i, "\\u takes four hexadecimal digits");
        n = n << 4 | digit;
    }
    *ret = n;
    return 0;
}

static size_t put_utf8(char *to, unsigned c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xC0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xE0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3F));
        to[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    to[0] = (char)(0xF0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3F));
    to[2] = (char)(0x80 | (c >> 6 & 0x3F));
    to[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

/* The escape at *at (its backslash) into `to`, at most 4 bytes; *at moves past it. Returns their number. */
static int read_escape(const struct parser *s, const char **at, char *to)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *p = *at + 1;
    if (p == s->end)
        return fail_end(s, "a string");
    const char *name = *p ? strchr(names, *p) : NULL;
    if (name) {
        *to = values[name - names];
        *at = p + 1;
        return 1;
    }
    if (*p != 'u')
        return fail(s, p, "no such escape in a string");
    unsigned c = 0, low = 0;
    int r = read_hex4(s, p + 1, &c);
    if (r < 0)
        return r;
    const char *begin = *at;
    p += 5;
    if (c == 0)
        return fail(s, begin, "\\u0000 is refused: a string here cannot hold it");
    if (c >= 0xDC00 && c <= 0xDFFF)
        return fail(s, begin, "\\u%.4s is the second half of a surrogate pair without the first", begin + 2);
    if (c >= 0xD800 && c <= 0xDBFF) {
        if (p == s->end || (p + 1 == s->end && *p == '\\'))
            return fail_end(s, "a string");
        if (p[0] != '\\' || p[1] != 'u')
            return fail(s, begin, "\\u%.4s is the first half of a surrogate pair without the second", begin + 2);
        r = read_hex4(s, p + 2, &low);
        if (r < 0)
            return r;
        if (low < 0xDC00 || low > 0xDFFF)
            return fail(s, begin, "\\u%.4s is the first half of a surrogate pair without the second", begin + 2);
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        p += 6;
    }
    *at = p;
    return (int)put_utf8(to, c);
}

/* Whether the bytes at p, which are no whole UTF-8 sequence, could be made one by more text. */
static bool utf8_cut_off(const char *p, const char *end)
{
    static const char *const tails[] = {"\x80", "\x80\x80", "\x80\x80\x80", "\xA0\x80", "\x90\x80\x80"};
    char whole[8];
    size_t have = (size_t)(end - p);
    if (have > 3)
        return false;
    memcpy(whole, p, have);
    for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
        size_t n = strlen(tails[i]);
        memcpy(whole + have, tails[i], n);
        if (utf8_sequence(whole, have + n) == have + n)
            return true;
    }
    return false;
}

/* Find the end of the string whose first byte after the quote is s->p; checks all but the escapes. */
static int scan_string(const struct parser *s, const char **ret_end, bool *ret_escapes)
{
    const char *p = s->p;
    *ret_escapes = false;
    for (;;) {
        p += ascii_plain(p, (size_t)(s->end - p));
        if (p == s->end)
            return fail_end(s, "a string");
        unsigned char c = (unsigned char)*p;
        if (c == '"') {
            *ret_end = p;
            return 0;
        }
        if (c == '\\') {
            *ret_escapes = true;
            p += p + 1 < s->end ? 2 : 1;
            continue;
        }
        if (c < 0x20)
            return fail(s, p, "the control character 0x%02X must be escaped in a string", c);
        size_t n = utf8_sequence(p, (size_t)(s->end - p));
        if (n == 0) {
            if (utf8_cut_off(p, s->end))
                return fail_end(s, "a character");
            return fail(s, p, "not valid UTF-8 (byte 0x%02X)", c);
        }
        p += n;
    }
}

/* The string after the opening quote at s->p. */
static int parse_string(struct parser *s, char **ret)
{
    const char *p = ++s->p, *end = s->end;
    bool escapes = false;
    int r = scan_string(s, &end, &escapes);
    if (r < 0 && !(r == -EAGAIN && escapes))
        return r;
    if (r < 0)
        end = s->end;                                          /* an escape may be at fault before the end is */
    char *out = value_alloc((size_t)(end - p) + 1), *to = out; /* an escape is never shorter than what it stands for */
    while (p < end) {
        const char *escape = escapes ? memchr(p, '\\', (size_t)(end - p)) : NULL;
        size_t n = (size_t)((escape ? escape : end) - p);
        memcpy(to, p, n);
        to += n;
        p += n;
        if (!escape)
            break;
        int added = read_escape(s, &p, to);
        if (added < 0) {
            free(out);
            return added;
        }
        to += added;
    }
    if (r < 0) {
        free(out);
        return fail_end(s, "a string");
    }
    *to = '\0';
    s->p = end + 1;
    *ret = out;
    return 0;
}

static int parse_number(struct parser *s, cJSON **ret)
{
    bool integer, cut;
    size_t len = value_number_scan(s->p, (size_t)(s->end - s->p), &integer, &cut);
    if (len == 0 && cut)
        return fail_end(s, "a number");
    if (len == 0)
        return fail(s, s->p, "not a number as JSON writes them");
    const char *after = s->p + len, *digit = s->p + (*s->p == '-');
    if (*digit == '0' && after < s->end && *after >= '0' && *after <= '9')
        return fail(s, s->p, "a number has no leading zeros");
    *ret = value_number_node(s->p, len, integer);
    s->p = after;
    return 0;
}

static int parse_word(struct parser *s, cJSON **ret)
{
    static const struct {
        const char *word;
        int type;
    } words[] = {{"true", cJSON_True}, {"false", cJSON_False}, {"null", cJSON_NULL}};
    size_t have = (size_t)(s->end - s->p);
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        size_t n = strlen(words[i].word);
        if (memcmp(s->p, words[i].word, MIN(n, have)) != 0)
            continue;
        if (have < n)
            return fail_end(s, "a value");
        s->p += n;
        *ret = value_node(words[i].type);
        return 0;
    }
    if (have >= 3 && memcmp(s->p, "\xEF\xBB\xBF", 3) == 0)
        return fail(s, s->p, "a byte order mark is no JSON");
    return fail_expected(s, "a value");
}

/* ---- duplicate members ---- */

/* The keys of one object. Small objects are compared key by key; past KEYSET_LINEAR an open hash table takes over,
 * keyed by the process's own random bytes so that nobody can choose keys that collide. */
#define KEYSET_LINEAR 12

struct keyset {
    size_t n, mask;
    struct keyslot {
        uint64_t hash;
        const char *key;
    } * slots;
};

#define ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = ROTATE(v[1], 13) ^ v[0];
    v[0] = ROTATE(v[0], 32);
    v[2] += v[3];
    v[3] = ROTATE(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = ROTATE(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = ROTATE(v[1], 17) ^ v[2];
    v[2] = ROTATE(v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein) of a key. */
static uint64_t key_hash(const char *key)
{
    static const uint64_t fallback[2] = {0x243F6A8885A308D3, 0x13198A2E03707344};
    const void *random = (const void *)getauxval(AT_RANDOM); /* 16 bytes, from the kernel at exec */
    uint64_t k[2], m;
    memcpy(k, random ? random : fallback, sizeof(k));
    uint64_t v[4] = {k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d, k[0] ^ 0x6c7967656e657261,
                     k[1] ^ 0x7465646279746573};
    size_t len = strlen(key), left = len;
    for (; left >= 8; left -= 8, key += 8) {
        memcpy(&m, key, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    m = (uint64_t)len << 56;
    for (size_t i = 0; i < left; i++)
        m |= (uint64_t)(unsigned char)key[i] << (8 * i);
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
    v[2] ^= 0xFF;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* False: the key is there already. The table has room. */
static bool keyset_insert(struct keyset *set, uint64_t hash, const char *key)
{
    size_t i = hash & set->mask;
    for (; set->slots[i].key; i = (i + 1) & set->mask)
        if (set->slots[i].hash == hash && strcmp(set->slots[i].key, key) == 0)
            return false;
    set->slots[i] = (struct keyslot){hash, key};
    return true;
}

static void keyset_resize(struct keyset *set, size_t size)
{
    struct keyset larger = {.mask = size - 1, .slots = xcalloc(size, sizeof(*larger.slots))};
    for (size_t i = 0; set->slots && i <= set->mask; i++)
        if (set->slots[i].key)
            keyset_insert(&larger, set->slots[i].hash, set->slots[i].key);
    free(set->slots);
    set->slots = larger.slots;
    set->mask = larger.mask;
}

/* Add the key of a member of `object` that is not yet linked in. False: it has one by that name. */
static bool keyset_add(struct keyset *set, const cJSON *object, const char *key)
{
    set->n++;
    if (!set->slots) {
        for (const cJSON *m = object->child; m; m = m->next)
            if (m->string[0] == key[0] && strcmp(m->string, key) == 0)
                return false;
        if (set->n <= KEYSET_LINEAR)
            return true;
        keyset_resize(set, 64);
        for (const cJSON *m = object->child; m; m = m->next)
            keyset_insert(set, key_hash(m->string), m->string);
    } else if (set->n > set->mask / 2) {
        keyset_resize(set, (set->mask + 1) * 4);
    }
    return keyset_insert(set, key_hash(key), key);
}

/* ---- containers ---- */

static int parse_value(struct parser *s, unsigned depth, char *key, cJSON **ret);

static inline void append(cJSON *container, cJSON *node)
{
    assert(node); /* parse_value() made it */
    cJSON *head = container->child;
    if (head) {
        head->prev->next = node;
        node->prev = head->prev;
        head->prev = node;
    } else {
        container->child = node;
        node->prev = node;
    }
}

/* One key and its colon; *ret_at is where the key began. */
static int parse_key(struct parser *s, char **ret, const char **ret_at)
{
    if (s->p == s->end)
        return fail_end(s, "an object");
    if (*s->p != '"')
        return fail_expected(s, *s->p == '}' ? "a member after ','" : "a key in double quotes");
    const char *at = s->p;
    _cleanup_(freep) char *key = NULL;
    int r = parse_string(s, &key);
    if (r < 0)
        return r;
    skip_space(s);
    if (s->p == s->end)
        return fail_end(s, "an object");
    if (*s->p != ':')
        return fail_expected(s, "':'");
    s->p++;
    *ret_at = at;
    *ret = steal(&key);
    return 0;
}

static int fail_twice(const struct parser *s, const char *at, char *key)
{
    char brief[VALUE_BRIEF_MAX];
    cJSON name = {.type = cJSON_String};
    name.valuestring = key;
    return fail(s, at, "the member %s is there twice", value_brief(&name, brief, sizeof(brief)));
}

static int parse_members(struct parser *s, unsigned depth, cJSON *object, struct keyset *keys)
{
    skip_space(s);
    if (s->p < s->end && *s->p == '}') {
        s->p++;
        return 0;
    }
    for (;;) {
        _cleanup_(freep) char *key = NULL;
        const char *at = NULL;
        skip_space(s);
        int r = parse_key(s, &key, &at);
        if (r < 0)
            return r;
        assert(key); /* parse_key() read it */
        if (!keyset_add(keys, object, key))
            return fail_twice(s, at, key);
        if (s->place) {
            place_advance(&s->last, at);
            s->key = s->last;
        }
        cJSON *member = NULL;
        r = parse_value(s, depth, steal(&key), &member);
        if (r < 0)
            return r;
        append(object, member);
        skip_space(s);
        if (s->p == s->end)
            return fail_end(s, "an object");
        if (*s->p == '}') {
            s->p++;
            return 0;
        }
        if (*s->p != ',')
            return fail_expected(s, "',' or '}'");
        s->p++;
    }
}

static int parse_elements(struct parser *s, unsigned depth, cJSON *array)
{
    skip_space(s);
    if (s->p < s->end && *s->p == ']') {
        s->p++;
        return 0;
    }
    for (;;) {
        cJSON *element = NULL;
        int r = parse_value(s, depth, NULL, &element);
        if (r < 0)
            return r;
        append(array, element);
        skip_space(s);
        if (s->p == s->end)
            return fail_end(s, "an array");
        if (*s->p == ']') {
            s->p++;
            return 0;
        }
        if (*s->p != ',')
            return fail_expected(s, "',' or ']'");
        s->p++;
    }
}

static void tell_place(struct parser *s, const cJSON *node, const char *at)
{
    if (!s->place)
        return;
    place_advance(&s->last, at);
    bool member = node->string != NULL;
    s->place(s->ctx, node, s->last.line, s->last.column, member ? s->key.line : 0, member ? s->key.column : 0);
}

/* White space and a value; takes `key`. */
static int parse_value(struct parser *s, unsigned depth, char *key, cJSON **ret)
{
    _cleanup_(cjson_deletep) cJSON *node = NULL;
    _cleanup_(freep) char *name = key;
    skip_space(s);
    if (s->p == s->end)
        return fail(s, s->end, depth == 0 ? "expected a value, the text is empty" : "the text ends before a value");
    const char *at = s->p;
    int r = 0;
    switch (*at) {
    case '{':
    case '[':
        if (depth == VALUE_DEPTH_MAX)
            return fail(s, at, "nested deeper than %d", VALUE_DEPTH_MAX);
        node = value_node(*at == '{' ? cJSON_Object : cJSON_Array);
        break;
    case '"':
        node = value_node(cJSON_String);
        r = parse_string(s, &node->valuestring);
        break;
    case '-':
    case '0' ... '9':
        r = parse_number(s, &node);
        break;
    default:
        r = parse_word(s, &node);
    }
    if (r < 0)
        return r;
    assert(node);
    node->string = steal(&name);
    tell_place(s, node, at);
    if (*at == '{') {
        struct keyset keys = {0};
        s->p++;
        r = parse_members(s, depth + 1, node, &keys);
        free(keys.slots);
    } else if (*at == '[') {
        s->p++;
        r = parse_elements(s, depth + 1, node);
    }
    if (r < 0)
        return r;
    *ret = steal(&node);
    return 0;
}

static struct parser parser_init(const char *text, size_t len, struct error *err)
{
    if (!text)
        text = "";
    return (struct parser){.start = text, .p = text, .end = text + len, .err = err, .last = {text, 1, 1}};
}

static int parse_whole(struct parser *s, cJSON **ret)
{
    _cleanup_(cjson_deletep) cJSON *v = NULL;
    int r = parse_value(s, 0, NULL, &v);
    if (r >= 0) {
        skip_space(s);
        if (s->p < s->end)
            r = fail_expected(s, "nothing after the value");
    }
    if (r < 0) {
        if (s->err)
            s->err->code = -EINVAL;
        return -EINVAL;
    }
    *ret = steal(&v);
    return 0;
}

int value_parse(const char *text, size_t len, cJSON **ret, struct error *err)
{
    struct parser s = parser_init(text, len, err);
    return parse_whole(&s, ret);
}

int value_parse_places(const char *text, size_t len, value_place_fn *place, void *ctx, cJSON **ret, struct error *err)
{
    struct parser s = parser_init(text, len, err);
    s.place = place;
    s.ctx = ctx;
    return parse_whole(&s, ret);
}

int value_parse_prefix(const char *text, size_t len, cJSON **ret, size_t *ret_used, struct error *err)
{
    struct parser s = parser_init(text, len, err);
    _cleanup_(cjson_deletep) cJSON *v = NULL;
    int r = parse_value(&s, 0, NULL, &v);
    if (r < 0)
        return r;
    if (s.p == s.end && value_is_number(v))
        return fail_end(&s, "a number");
    *ret_used = (size_t)(s.p - s.start);
    *ret = steal(&v);
    return 0;
}
