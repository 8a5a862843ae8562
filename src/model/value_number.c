/* Numbers of JSON: texts into nodes, and exact comparison of decimals. */
#include "model/value_alloc.h"
#include "model/value_internal.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>

#define INTEGER_DIGITS 15                          /* what cJSON prints exactly */
#define EXPONENT_LIMIT INT64_C(100000000000000000) /* decimal exponents are clamped here; sums still fit an int64_t */

size_t value_number_scan(const char *text, size_t len, bool *ret_integer, bool *ret_cut)
{
    const char *p = text, *end = text + len;
    bool plain = true, cut = false;
    size_t digits = 0, used = 0;

    if (p < end && *p == '-')
        p++;
    const char *first = p;
    if (p < end && *p == '0')
        p++;
    else
        while (p < end && *p >= '0' && *p <= '9')
            p++;
    digits = (size_t)(p - first);
    if (digits == 0) {
        cut = p == end;
        goto out;
    }
    if (p < end && *p == '.') {
        const char *fraction = ++p;
        plain = false;
        while (p < end && *p >= '0' && *p <= '9')
            p++;
        if (p == fraction) {
            cut = p == end;
            goto out;
        }
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        plain = false;
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        const char *exponent = p;
        while (p < end && *p >= '0' && *p <= '9')
            p++;
        if (p == exponent) {
            cut = p == end;
            goto out;
        }
    }
    cut = p == end;
    used = (size_t)(p - text);
out:
    *ret_integer = plain && digits <= INTEGER_DIGITS && !(*text == '-' && digits == 1 && *first == '0');
    if (ret_cut)
        *ret_cut = cut;
    return used;
}

static void set_double(cJSON *node, double d)
{
    node->valuedouble = d;
    node->valueint = d >= INT_MAX ? INT_MAX : d <= INT_MIN ? INT_MIN : (int)d;
}

cJSON *value_number_node(const char *text, size_t len, bool integer)
{
    cJSON *node = value_node(integer ? cJSON_Number : cJSON_Raw);
    if (integer) {
        int64_t n = 0;
        for (size_t i = *text == '-'; i < len; i++)
            n = n * 10 + (text[i] - '0');
        set_double(node, (double)(*text == '-' ? -n : n));
    } else {
        node->valuestring = value_alloc(len + 1);
        memcpy(node->valuestring, text, len);
        node->valuestring[len] = '\0';
        set_double(node, strtod(node->valuestring, NULL));
    }
    return node;
}

cJSON *value_number_from_text(const char *text, size_t len)
{
    bool integer;
    if (len == 0 || value_number_scan(text, len, &integer, NULL) != len)
        return NULL;
    return value_number_node(text, len, integer);
}

cJSON *value_number_from_int(int64_t n)
{
    char text[VALUE_DOUBLE_MAX];
    int len = snprintf(text, sizeof(text), "%lld", (long long)n);
    return value_number_from_text(text, (size_t)len);
}

cJSON *value_number_from_double(double d)
{
    char text[VALUE_DOUBLE_MAX];
    size_t len = value_double_text(d, text);
    return value_number_from_text(text, len);
}

size_t value_double_text(double d, char out[VALUE_DOUBLE_MAX])
{
    int len;
    if (!isfinite(d)) {
        len = snprintf(out, VALUE_DOUBLE_MAX, "null");
    } else if (fabs(d) <= 9007199254740992.0 && d == floor(d) && !(d == 0 && signbit(d))) {
        len = snprintf(out, VALUE_DOUBLE_MAX, "%lld", (long long)d);
    } else {
        for (int precision = DBL_DIG;; precision++) {
            len = snprintf(out, VALUE_DOUBLE_MAX, "%.*g", precision, d);
            if (precision == DBL_DIG + 2 || strtod(out, NULL) == d)
                break;
        }
    }
    return (size_t)len;
}

bool value_is_number(const cJSON *v)
{
    return v && (v->type & (cJSON_Number | cJSON_Raw));
}

/* A number read as 0.d1d2d3… × 10^exponent with d1 and the last digit not 0; `digits` points into a text that may hold
 * one '.' between them. Zero has no digits. */
struct decimal {
    bool negative;
    int64_t exponent;
    const char *digits, *end;
    char text[VALUE_DOUBLE_MAX]; /* of a cJSON_Number */
};

static int64_t read_exponent(const char *p)
{
    int64_t n = 0;
    bool negative = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    for (; *p; p++)
        if (n < EXPONENT_LIMIT)
            n = n * 10 + (*p - '0');
    n = MIN(n, EXPONENT_LIMIT);
    return negative ? -n : n;
}

static void decimal_read(struct decimal *d, const cJSON *v)
{
    const char *p = v->valuestring;
    if (!(v->type & cJSON_Raw)) {
        size_t len = value_double_text(isfinite(v->valuedouble) ? v->valuedouble : 0, d->text);
        d->text[len] = '\0';
        p = d->text;
    }
    d->negative = *p == '-';
    if (d->negative)
        p++;
    size_t whole = strspn(p, "0123456789");
    const char *end = p + whole;
    if (*end == '.')
        end += 1 + strspn(end + 1, "0123456789");
    int64_t exponent = *end == 'e' || *end == 'E' ? read_exponent(end + 1) : 0;
    const char *point = p + whole;
    while (p < end && (*p == '0' || *p == '.'))
        p++;
    while (end > p && (end[-1] == '0' || end[-1] == '.'))
        end--;
    d->digits = p;
    d->end = end;
    if (p == end) {
        d->negative = false;
        d->exponent = 0;
    } else {
        /* digits before the point, or minus the zeros between the point and the first digit */
        d->exponent = exponent + (p < point ? point - p : point + 1 - p);
    }
}

static int compare_digits(const struct decimal *a, const struct decimal *b)
{
    const char *p = a->digits, *q = b->digits;
    for (;;) {
        if (p < a->end && *p == '.')
            p++;
        if (q < b->end && *q == '.')
            q++;
        if (p == a->end || q == b->end)
            return (p < a->end) - (q < b->end); /* what goes on goes on to a digit that is not 0 */
        if (*p != *q)
            return *p < *q ? -1 : 1;
        p++;
        q++;
    }
}

int value_number_compare(const cJSON *a, const cJSON *b)
{
    if (!((a->type | b->type) & cJSON_Raw))
        return (a->valuedouble > b->valuedouble) - (a->valuedouble < b->valuedouble);
    struct decimal x, y;
    decimal_read(&x, a);
    decimal_read(&y, b);
    bool x_zero = x.digits == x.end, y_zero = y.digits == y.end;
    int x_sign = x_zero ? 0 : x.negative ? -1 : 1;
    int y_sign = y_zero ? 0 : y.negative ? -1 : 1;
    if (x_sign != y_sign)
        return x_sign < y_sign ? -1 : 1;
    if (x_zero)
        return 0;
    int order = x.exponent != y.exponent ? (x.exponent < y.exponent ? -1 : 1) : compare_digits(&x, &y);
    return x.negative ? -order : order;
}

bool value_integer(const cJSON *v, int64_t *ret)
{
    if (!value_is_number(v))
        return false;
    if (!(v->type & cJSON_Raw)) {
        /* -2^63 and every double below 2^63 in size fit */
        double d = v->valuedouble;
        if (!isfinite(d) || d != floor(d) || d < -9223372036854775808.0 || d >= 9223372036854775808.0)
            return false;
        *ret = (int64_t)d;
        return true;
    }
    struct decimal x;
    decimal_read(&x, v);
    if (x.exponent > 19 || x.exponent < 0)
        return false;
    uint64_t n = 0, limit = x.negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX;
    int64_t left = x.exponent;
    for (const char *p = x.digits; p < x.end; p++) {
        if (*p == '.')
            continue;
        if (left-- == 0)
            return false; /* a fraction that is not 0 */
        uint64_t digit = (uint64_t)(*p - '0');
        if (n > (limit - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    for (; left > 0; left--) {
        if (n > limit / 10)
            return false;
        n *= 10;
    }
    *ret = x.negative ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}

size_t value_number_key(const cJSON *v, char *out, size_t cap)
{
    struct decimal x;
    decimal_read(&x, v);
    size_t n = 0;
    if (x.negative) {
        if (n == cap)
            return 0;
        out[n++] = '-';
    }
    if (x.digits == x.end) {
        if (n == cap)
            return 0;
        out[n++] = '0';
        return n;
    }
    for (const char *p = x.digits; p < x.end; p++) {
        if (*p == '.')
            continue;
        if (n == cap)
            return 0;
        out[n++] = *p;
    }
    char exponent[VALUE_DOUBLE_MAX];
    int len = snprintf(exponent, sizeof(exponent), "e%lld", (long long)x.exponent);
    if (cap - n < (size_t)len)
        return 0;
    memcpy(out + n, exponent, (size_t)len);
    return n + (size_t)len;
}
