/* Input: text NUL value. No crash; references found lie within the text and expand to what is around them and the value;
 * the value is masked however the text is cut, and what was masked holds it nowhere. */
#include "lang/secret.h"

#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* With every reference, what the text would be with `value` for each. */
static char *by_hand(const char *text, const char *value)
{
    struct buf b = {0};
    struct reference r;
    for (; reference_next(text, &r, NULL) > 0; text = r.start + r.len) {
        if (r.start < text || r.start + r.len > text + strlen(text) || r.name <= r.start ||
            r.name + r.name_len + 1 != r.start + r.len)
            abort();
        buf_add(&b, text, (size_t)(r.start - text));
        buf_adds(&b, value);
    }
    buf_adds(&b, text);
    return buf_steal(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(freep) char *text = xmalloc(size + 2);
    memcpy(text, data, size);
    text[size] = text[size + 1] = '\0';
    size_t len = strlen(text);
    const char *value = len < size ? text + len + 1 : "";

    struct secrets *s = secrets_create();
    secrets_want(s, text, "/d");
    for (size_t i = 0; i < secrets_count(s); i++)
        secrets_set(s, i, xstrdup(value), NULL);
    char *expanded = NULL;
    if (secrets_expand(s, text, "/d", &expanded, NULL) < 0)
        abort();
    _cleanup_(freep) char *expected = by_hand(text, value);
    if (!streq(expanded, expected))
        abort();

    struct mask *m = mask_create();
    mask_add(m, value, strlen(value));
    struct buf whole = {0}, pieces = {0};
    mask_bytes(m, expanded, strlen(expanded), &whole);
    struct mask_stream stream = {0};
    size_t n = strlen(expanded);
    for (size_t at = 0, step = 1; at < n; at += step) {
        step = MIN((size_t)1 + (at * 7 + size) % 5, n - at);
        mask_feed(m, &stream, expanded + at, step, &pieces);
    }
    mask_flush(m, &stream, &pieces);
    if (!streq(whole.data ? whole.data : "", pieces.data ? pieces.data : ""))
        abort();
    if (strlen(value) >= MASK_MIN && !strchr(value, '*') && whole.data && strstr(whole.data, value))
        abort();
    buf_fini(&whole);
    buf_fini(&pieces);
    mask_destroy(m);
    free(expanded);
    secrets_destroy(s);
    return 0;
}
