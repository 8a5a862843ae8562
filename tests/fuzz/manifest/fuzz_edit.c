/* A JSON value, a NUL, a manifest text: the first document edited into the value is that value afterwards, if it could
 * be done; and the value printed as YAML reads back. A first byte `J` before the text makes it JSON. */
#include "base/util.h"
#include "manifest/edit.h"
#include "manifest/yaml_print.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

static void check_is(const char *text, size_t len, enum document_format format, const cJSON *value)
{
    struct document_set set;
    document_parse(text, len, format, &set);
    CHECK(set.n_documents > 0 && !set.documents[0].bad && value_equal(set.documents[0].root, value));
    document_set_fini(&set);
}

/* libyaml takes no key over 1024 characters without a `?`. */
static bool has_long_key(const cJSON *value)
{
    for (const cJSON *child = value->child; child; child = child->next)
        if ((child->string && strlen(child->string) > 150) || has_long_key(child))
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *all = (const char *)data, *nul = memchr(all, '\0', size);
    cJSON *wanted = NULL;
    if (!nul || value_parse(all, (size_t)(nul - all), &wanted, NULL) < 0)
        return -1;
    const char *text = nul + 1;
    size_t len = size - (size_t)(text - all);
    enum document_format format = DOCUMENT_YAML;
    if (len > 0 && text[0] == 'J') {
        format = DOCUMENT_JSON;
        text++;
        len--;
    }
    if (cJSON_IsObject(wanted) && !has_long_key(wanted)) {
        char *printed = yaml_print(wanted);
        check_is(printed, strlen(printed), DOCUMENT_YAML, wanted);
        free(printed);
    }
    char *edited = NULL;
    size_t edited_len = 0;
    if (edit_update(text, len, format, 0, wanted, &edited, &edited_len, NULL) == 0)
        check_is(edited, edited_len, format, wanted);
    free(edited);
    if (edit_delete(text, len, format, 0, &edited, &edited_len, NULL) == 0)
        free(edited);
    cJSON_Delete(wanted);
    return 0;
}
