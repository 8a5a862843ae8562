/* Any bytes as a JSON file: every node has its place, and the bytes there are the value. */
#include "manifest/document.h"

#include <stdlib.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

static void check_node(const struct document *doc, const cJSON *node, const char *text, size_t len)
{
    const struct document_place *place = document_place(doc, node);
    CHECK(place && place->line >= 1 && place->column >= 1);
    CHECK(place->offset < place->end && place->end <= len);
    CHECK((place->key_line > 0) == (node->string != NULL));
    CHECK(!node->string || text[place->key_offset] == '"');
    cJSON *again = NULL;
    CHECK(value_parse(text + place->offset, place->end - place->offset, &again, NULL) == 0);
    CHECK(value_equal(again, node));
    cJSON_Delete(again);
    for (const cJSON *child = node->child; child; child = child->next)
        check_node(doc, child, text, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *text = (const char *)data;
    struct document_set set;
    int rc = document_parse(text, len, DOCUMENT_JSON, &set);
    CHECK((rc == 0) == (set.n_errors == 0));
    for (size_t i = 0; i < set.n_errors; i++)
        CHECK(set.errors[i].line >= 1 && set.errors[i].column >= 1 && set.errors[i].message[0]);
    for (size_t i = 0; i < set.n_documents; i++) {
        const struct document *doc = &set.documents[i];
        CHECK(doc->start <= doc->end && doc->end <= len);
        CHECK(doc->bad || cJSON_IsObject(doc->root));
        if (doc->root)
            check_node(doc, doc->root, text, len);
    }
    document_set_fini(&set);
    return 0;
}
