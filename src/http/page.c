/* The page at `/`: one file, which asks nobody but this server, under a policy that lets it do nothing else. */
#include "http/exchange.h"

#include "base/digest.h"

#include <glib.h>

static const char page[] =
#include "http/page.inc"
    ;

/* Of the text between two tags, as a content security policy names it; g_free() it. */
static char *hash_between(const char *open, const char *close)
{
    const char *from = strstr(page, open) + strlen(open);
    struct digest digest = digest_sha256(from, (size_t)(strstr(from, close) - from));
    return g_base64_encode(digest.bytes, sizeof(digest.bytes));
}

void page_handle(struct exchange *x)
{
    char *script = hash_between("<script>", "</script>"), *style = hash_between("<style>", "</style>");
    _cleanup_(freep) char *policy =
        xasprintf("default-src 'none'; script-src 'sha256-%s'; style-src 'sha256-%s'; connect-src 'self'; "
                  "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                  script, style);
    g_free(script);
    g_free(style);
    struct http_reply reply = {.status = 200,
                               .content_type = "text/html; charset=utf-8",
                               .body = xstrdup(page),
                               .body_len = sizeof(page) - 1,
                               .headers = {{"Content-Security-Policy", policy},
                                           {"X-Content-Type-Options", "nosniff"},
                                           {"Referrer-Policy", "no-referrer"},
                                           {"Cache-Control", "no-cache"}}};
    http_reply(x->request, &reply);
    exchange_free(x);
}
