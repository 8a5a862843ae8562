/* Any bytes as a YAML file: every node has a place within the text, every bad document an error with a place, and a
 * good document's own text, taken alone, is that document again. */
#include "manifest/document.h"

#include <stdlib.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

static void check_node(const struct document *doc, const cJSON *node, size_t len)
{
    const struct document_place *place = document_place(doc, node);
    CHECK(place && place->line >= 1 && place->column >= 1);
    CHECK(place->offset <= place->end && place->end <= len);
    CHECK((place->key_line > 0) == (node->string != NULL));
    CHECK(place->key_offset <= place->offset);
    for (const cJSON *child = node->child; child; child = child->next)
        check_node(doc, child, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *text = (const char *)data;
    struct document_set set;
    int rc = document_parse(text, len, DOCUMENT_YAML, &set);
    CHECK((rc == 0) == (set.n_errors == 0));
    for (size_t i = 0; i < set.n_errors; i++)
        CHECK(set.errors[i].line >= 1 && set.errors[i].column >= 1 && set.errors[i].message[0]);
    size_t end = 0;
    for (size_t i = 0; i < set.n_documents; i++) {
        const struct document *doc = &set.documents[i];
        CHECK(doc->start >= end && doc->start <= doc->end && doc->end <= len && doc->line >= 1);
        end = doc->end;
        if (doc->root)
            check_node(doc, doc->root, len);
        if (doc->bad) {
            bool said = set.n_errors_left_out > 0;
            for (size_t j = 0; j < set.n_errors; j++)
                said |= set.errors[j].document == i;
            CHECK(said);
            continue;
        }
        CHECK(cJSON_IsObject(doc->root) && doc->complete);
        struct document_set own;
        CHECK(document_parse(text + doc->start, doc->end - doc->start, DOCUMENT_YAML, &own) == 0);
        CHECK(own.n_documents == 1 && value_equal(own.documents[0].root, doc->root));
        document_set_fini(&own);
    }
    document_set_fini(&set);
    return 0;
}
