/* What views show of resources whose manifests hold secrets literally: the tables of their kinds say where. */
#include "api/internal.h"

#include "base/mask.h"
#include "lang/redact.h"
#include "manifest/edit.h"
#include "manifest/kinds.h"
#include "manifest/yaml_print.h"

static const struct field_table *config_table(const cJSON *trigger)
{
    const char *type = value_get_string(trigger, "trigger_type");
    const struct kind *kind = type ? kind_find(manifest_source_kinds(), type) : NULL;
    return kind ? kind->config : NULL;
}

/* A step's members, those whose name is that of a kind of work by its table. */
static void hide_step(cJSON *step)
{
    for (cJSON *item = step->child; item; item = item->next) {
        const struct kind *kind = item->string ? kind_find(manifest_step_kinds(), item->string) : NULL;
        redact(kind ? kind->config : NULL, item);
    }
}

void hide_steps(cJSON *steps)
{
    for (cJSON *step = steps ? steps->child : NULL; step; step = step->next)
        hide_step(step);
}

static void hide_document(enum resource_kind kind, cJSON *doc)
{
    for (cJSON *item = doc->child; item; item = item->next) {
        if (kind == RESOURCE_TRIGGER && streq(item->string, "config"))
            redact(config_table(doc), item);
        else if (kind == RESOURCE_PIPELINE && streq(item->string, "steps"))
            hide_steps(item);
        else if (kind != RESOURCE_MCP_SERVER)
            redact(NULL, item);
    }
    if (kind == RESOURCE_MCP_SERVER)
        redact(&mcp_server_fields, doc);
}

/* The step that this one was: by its id, else its place. */
static const cJSON *step_before(const cJSON *steps, const cJSON *sent, int index)
{
    const cJSON *step;
    const char *id = value_get_string(sent, "id");
    cJSON_ArrayForEach (step, steps) {
        if (id && streq(value_get_string(step, "id"), id))
            return step;
    }
    return cJSON_GetArrayItem(steps, index);
}

static void unhide_steps(cJSON *sent, const cJSON *old)
{
    int index = 0;
    for (cJSON *step = cJSON_IsArray(sent) && cJSON_IsArray(old) ? sent->child : NULL; step; step = step->next) {
        const cJSON *before = step_before(old, step, index++);
        for (cJSON *item = cJSON_IsObject(step) ? step->child : NULL; item; item = item->next) {
            const struct kind *kind = kind_find(manifest_step_kinds(), item->string);
            const cJSON *was = value_get(before, item->string);
            if (was)
                redact_undo(kind ? kind->config : NULL, item, was);
        }
    }
}

void unhide_member(enum resource_kind kind, const cJSON *doc, cJSON *sent)
{
    const cJSON *old = value_get(doc, sent->string);
    if (!old)
        return;
    if (kind == RESOURCE_PIPELINE && streq(sent->string, "steps"))
        unhide_steps(sent, old);
    else if (kind == RESOURCE_MCP_SERVER)
        redact_undo_member(&mcp_server_fields, sent, old);
    else
        redact_undo(kind == RESOURCE_TRIGGER && streq(sent->string, "config") ? config_table(doc) : NULL, sent, old);
}

char *hide_text(enum resource_kind kind, const char *file, const char *text)
{
    enum document_format format = DOCUMENT_YAML;
    struct document_set set;
    char *hidden = NULL;
    size_t len;
    if (!text)
        return NULL;
    if (file)
        document_format_by_name(file, &format);
    document_parse(text, strlen(text), format, &set);
    cJSON *doc = set.n_documents == 1 && cJSON_IsObject(set.documents[0].root) ? set.documents[0].root : NULL;
    cJSON *shown = doc ? cJSON_Duplicate(doc, true) : NULL;
    if (shown)
        hide_document(kind, shown);
    if (shown && !value_equal(shown, doc) && edit_update(text, strlen(text), format, 0, shown, &hidden, &len, NULL) < 0)
        hidden = format == DOCUMENT_JSON ? value_print_pretty(shown) : yaml_print(shown);
    cJSON_Delete(shown);
    document_set_fini(&set);
    if (!hidden)
        hidden = xstrdup(text);
    mask_urls(&hidden); /* those in comments, and in a text that cannot be read */
    return hidden;
}
