/* Input: template NUL document. No crash; what comes out of a tree can be parsed again; text and value agree. */
#include "lang/template.h"

#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(freep) char *text = xmalloc(size + 2);
    memcpy(text, data, size);
    text[size] = text[size + 1] = '\0';
    size_t len = strlen(text);
    if (!utf8_valid(text, len))
        return 0;
    const char *document = text + len + 1;
    _cleanup_(cjson_deletep) cJSON *root = NULL;
    if (len >= size || value_parse(document, size - len - 1, &root, NULL) < 0)
        root = cJSON_CreateObject();

    _cleanup_(template_destroyp) struct template *t = NULL;
    if (template_compile(text, TEMPLATE_TEXT, &t, NULL) < 0)
        return 0;
    cJSON *value = NULL;
    char *as_text = NULL;
    int rc = template_expand(t, root, &value, NULL);
    if (template_expand_text(t, root, &as_text, NULL) != rc || (rc == 0 && !streq(as_text, value->valuestring)))
        abort();
    cJSON_Delete(value);
    free(as_text);

    /* the template as a member of the document itself */
    if (cJSON_IsObject(root))
        value_set(root, "t", value_string(text));
    _cleanup_(template_tree_destroyp) struct template_tree *tree = NULL;
    struct issues issues = ISSUES_INIT;
    if (template_tree_compile(root, 0, "", &tree, &issues) == 0 &&
        template_tree_expand(tree, root, &value, NULL) == 0) {
        _cleanup_(freep) char *printed = value_print(value);
        cJSON *again = NULL;
        if (value_parse(printed, strlen(printed), &again, NULL) < 0 || !value_equal(again, value))
            abort();
        cJSON_Delete(again);
        cJSON_Delete(value);
    }
    issues_fini(&issues);
    return 0;
}
