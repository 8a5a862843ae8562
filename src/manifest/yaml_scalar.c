#include "manifest/yaml_scalar.h"

#include "base/util.h"

#include <stdint.h>

static bool one_of(const char *text, size_t len, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0)
            return true;
    return false;
}

static bool is_digit(char c, unsigned radix)
{
    if (radix == 16 && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
        return true;
    return c >= '0' && c <= (radix == 8 ? '7' : '9');
}

static size_t digits(const char *text, size_t len, unsigned radix)
{
    size_t n = 0;
    while (n < len && is_digit(text[n], radix))
        n++;
    return n;
}

/* 16 for 0x…, 8 for 0o…, 10 for all else; a radix prefix takes no sign. */
static unsigned radix_of(const char *text, size_t len)
{
    if (len < 3 || text[0] != '0')
        return 10;
    return text[1] == 'x' ? 16 : text[1] == 'o' ? 8 : 10;
}

static enum yaml_kind number_kind(const char *text, size_t len)
{
    static const char *const infinite[] = {".inf", ".Inf", ".INF"};
    static const char *const nan[] = {".nan", ".NaN", ".NAN"};
    unsigned radix = radix_of(text, len);
    if (radix != 10)
        return digits(text + 2, len - 2, radix) == len - 2 ? YAML_KIND_INT : YAML_KIND_STRING;
    if (one_of(text, len, nan, ARRAY_SIZE(nan)))
        return YAML_KIND_NOT_FINITE;
    size_t at = len > 0 && (text[0] == '-' || text[0] == '+') ? 1 : 0;
    if (one_of(text + at, len - at, infinite, ARRAY_SIZE(infinite)))
        return YAML_KIND_NOT_FINITE;
    size_t whole = digits(text + at, len - at, 10);
    at += whole;
    if (at == len)
        return whole > 0 ? YAML_KIND_INT : YAML_KIND_STRING;
    if (text[at] == '.') {
        at++;
        size_t fraction = digits(text + at, len - at, 10);
        at += fraction;
        if (whole + fraction == 0)
            return YAML_KIND_STRING;
    } else if (whole == 0) {
        return YAML_KIND_STRING;
    }
    if (at < len && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        if (at < len && (text[at] == '-' || text[at] == '+'))
            at++;
        size_t exponent = digits(text + at, len - at, 10);
        if (exponent == 0)
            return YAML_KIND_STRING;
        at += exponent;
    }
    return at == len ? YAML_KIND_FLOAT : YAML_KIND_STRING;
}

enum yaml_kind yaml_plain_kind(const char *text, size_t len)
{
    static const char *const null[] = {"", "~", "null", "Null", "NULL"};
    static const char *const boolean[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    if (one_of(text, len, null, ARRAY_SIZE(null)))
        return YAML_KIND_NULL;
    if (one_of(text, len, boolean, ARRAY_SIZE(boolean)))
        return YAML_KIND_BOOL;
    return number_kind(text, len);
}

static unsigned digit_value(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

/* Schoolbook conversion in limbs of nine decimal digits. */
static cJSON *radix_number(const char *text, size_t len, unsigned radix)
{
    enum { LIMB = 1000000000, LIMBS_MAX = YAML_RADIX_DIGITS_MAX * 4 / 29 + 2 }; /* a limb holds 29 bits and more */
    if (len > YAML_RADIX_DIGITS_MAX)
        return NULL;
    uint32_t limbs[LIMBS_MAX] = {0};
    size_t n = 1;
    for (size_t i = 0; i < len; i++) {
        uint64_t carry = digit_value(text[i]);
        for (size_t j = 0; j < n; j++) {
            carry += (uint64_t)limbs[j] * radix;
            limbs[j] = (uint32_t)(carry % LIMB);
            carry /= LIMB;
        }
        if (carry > 0)
            limbs[n++] = (uint32_t)carry;
    }
    struct buf out = {0};
    buf_printf(&out, "%u", limbs[n - 1]);
    for (size_t i = n - 1; i > 0; i--)
        buf_printf(&out, "%09u", limbs[i - 1]);
    cJSON *number = value_number_from_text(out.data, out.len);
    buf_fini(&out);
    return number;
}

cJSON *yaml_number(const char *text, size_t len)
{
    unsigned radix = radix_of(text, len);
    if (radix != 10)
        return radix_number(text + 2, len - 2, radix);
    struct buf out = {0};
    size_t at = 0;
    if (text[0] == '-')
        buf_addc(&out, '-');
    if (text[0] == '-' || text[0] == '+')
        at++;
    size_t whole = digits(text + at, len - at, 10);
    while (whole > 1 && text[at] == '0') { /* JSON has no leading zeros */
        at++;
        whole--;
    }
    if (whole == 0)
        buf_addc(&out, '0'); /* .5 */
    buf_add(&out, text + at, whole);
    at += whole;
    if (at < len && text[at] == '.' && digits(text + at + 1, len - at - 1, 10) == 0)
        at++; /* 1. and 1.e3 */
    buf_add(&out, text + at, len - at);
    cJSON *number = value_number_from_text(out.data, out.len);
    buf_fini(&out);
    return number;
}
