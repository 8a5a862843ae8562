/* Lists of a server, page after page. */
#include "base/util.h"
#include "client/mcp.h"

#include <errno.h>

#define PAGES_MAX 1000
#define ENTRIES_MAX 100000

struct mcp_listing {
    struct mcp *mcp;
    char *method, *member;
    struct mcp_request *request;
    cJSON *items;
    int n_items, pages;
    mcp_done_fn *done;
    void *ctx;
};

static void ask(struct mcp_listing *l, const char *cursor);

static void finish(struct mcp_listing *l, struct mcp_result *result)
{
    l->done(l->ctx, result);
    cJSON_Delete(l->items);
    free(l->method);
    free(l->member);
    free(l);
}

static void finish_wrong(struct mcp_listing *l, const char *why)
{
    struct mcp_result r = {.code = -EREMOTEIO, .message = why};
    finish(l, &r);
}

static void answered(void *ctx, struct mcp_result *result)
{
    struct mcp_listing *l = ctx;
    l->request = NULL;
    if (result->code != 0) {
        finish(l, result);
        return;
    }
    cJSON *page = value_get(result->result, l->member);
    if (!cJSON_IsArray(page)) {
        finish_wrong(l, "the server's answer is no list");
        return;
    }
    while (page->child) {
        cJSON_AddItemToArray(l->items, cJSON_DetachItemViaPointer(page, page->child));
        l->n_items++;
    }
    const char *cursor = value_get_string(result->result, "nextCursor");
    if (cursor && (++l->pages >= PAGES_MAX || l->n_items > ENTRIES_MAX)) {
        finish_wrong(l, "the server's list does not end");
    } else if (cursor) {
        ask(l, cursor);
    } else {
        struct mcp_result whole = {.result = steal(&l->items)};
        finish(l, &whole);
        cJSON_Delete(whole.result);
    }
}

static void ask(struct mcp_listing *l, const char *cursor)
{
    cJSON *params = cursor ? cJSON_CreateObject() : NULL;
    if (cursor)
        cJSON_AddStringToObject(params, "cursor", cursor);
    l->request = mcp_ask(l->mcp, l->method, params, NULL, answered, l);
}

struct mcp_listing *mcp_list(struct mcp *m, const char *method, const char *member, mcp_done_fn *done, void *ctx)
{
    struct mcp_listing *l = xcalloc(1, sizeof(*l));
    *l = (struct mcp_listing){.mcp = m,
                              .method = xstrdup(method),
                              .member = xstrdup(member),
                              .items = cJSON_CreateArray(),
                              .done = done,
                              .ctx = ctx};
    ask(l, NULL);
    return l;
}

void mcp_list_cancel(struct mcp_listing *l)
{
    mcp_cancel(l->request, "nobody waits for it any more");
    cJSON_Delete(l->items);
    free(l->method);
    free(l->member);
    free(l);
}
