/* Paths over a fixed document: what RFC 9535 takes, the extended forms take too, with the same result; nothing is slow,
 * and what is refused is refused with a place. */
#include "base/util.h"
#include "lang/path.h"

#include <errno.h>

static const char document[] =
    "{\"a\":{\"b\":[1,2.50,{\"c\":\"text\",\"d\":[[],{},null]},\"x\"]},\"items\":[{\"n\":1,\"s\":\"one\"},"
    "{\"n\":9007199254740993,\"s\":\"zwei\"},{\"n\":-0,\"s\":\"\"}],\"0\":true,\"@type\":false,\"X-Id\":null,"
    "\"re\":\"(a|b)*c\",\"subject\":\"ababababc\",\"é\":\"😀\"}";

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_value(const struct path *p, const cJSON *doc, const struct path_nodes *nodes)
{
    _cleanup_(cjson_deletep) cJSON *v = NULL;
    int r = path_value(p, doc, &v, NULL);
    must(r == -E2BIG || r == (nodes->n > 0));
    must((r == 1) == (v != NULL));
    must(!path_is_singular(p) || nodes->n <= 1);
    if (r == 1 && path_is_singular(p))
        must(value_equal(v, nodes->list[0]));
    else if (r == 1)
        must((size_t)cJSON_GetArraySize(v) == nodes->n && value_equal(v->child, nodes->list[0]));
}

/* -1: no path; 0: refused for its work; 1: `nodes` is set. */
static int evaluate(const char *text, unsigned flags, const cJSON *doc, struct path_nodes *nodes)
{
    _cleanup_(path_destroyp) struct path *p = NULL;
    struct error err = ERROR_INIT;
    int r = path_compile(text, flags, &p, &err);
    if (r < 0) {
        must(!p && (r == -EINVAL || r == -E2BIG) && err.code == r && err.line == 1 && err.column > 0);
        must(*err.message && utf8_valid(err.message, strlen(err.message)) && !strpbrk(err.message, "\r\n"));
        return -1;
    }
    must(streq(path_text(p), text));
    path_first_name(p);
    r = path_select(p, doc, nodes, &err);
    must(r == 0 || r == -E2BIG);
    if (r == 0 && flags == PATH_STRICT)
        check_value(p, doc, nodes);
    return r == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(cjson_deletep) cJSON *doc = NULL;
    must(value_parse(document, sizeof(document) - 1, &doc, NULL) == 0);
    _cleanup_(freep) char *text = xstrndup((const char *)data, size);
    struct path_nodes strict = {0}, mapping = {0}, event = {0};
    int r = evaluate(text, PATH_STRICT, doc, &strict);
    int m = evaluate(text, PATH_MAPPING, doc, &mapping);
    evaluate(text, PATH_MAPPING | PATH_EVENT_DATA, doc, &event);
    if (r >= 0)
        must(r == m && strict.n == mapping.n);
    for (size_t i = 0; r >= 0 && i < strict.n; i++)
        must(strict.list[i] == mapping.list[i]);
    path_nodes_fini(&strict);
    path_nodes_fini(&mapping);
    path_nodes_fini(&event);
    return 0;
}
