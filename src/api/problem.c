/* Problem answers: RFC 9457. */
#include "api/api.h"

#include <stdio.h>
#include <string.h>

static const char *title_of(int status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 412:
        return "Precondition Failed";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 415:
        return "Unsupported Media Type";
    case 422:
        return "Unprocessable Content";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 505:
        return "HTTP Version Not Supported";
    case 507:
        return "Insufficient Storage";
    default:
        return "Internal Server Error";
    }
}

static void open_problem(struct buf *b, int status, const char *detail)
{
    json_open(b, NULL, '{');
    json_string(b, "type", "about:blank");
    json_string(b, "title", title_of(status));
    json_int(b, "status", status);
    json_string(b, "detail", detail);
}

char *api_problem_text(int status, const char *detail)
{
    struct buf b = {0};
    open_problem(&b, status, detail);
    json_close(&b, '}');
    return buf_steal(&b);
}

static void one_error(struct buf *b, const char *path, const char *message)
{
    json_open(b, NULL, '{');
    json_string(b, "path", path);
    json_string(b, "message", message);
    json_close(b, '}');
}

static void answer_problem(struct api_call call, int status, struct buf *b)
{
    size_t len = b->len;
    struct api_answer answer = {.status = status,
                                .body = buf_steal(b),
                                .len = len,
                                .problem = true,
                                .retry_after = status == 429 || status == 503 ? 1 : 0};
    call.answer(call.ctx, &answer);
}

/* 400 and 422 always say in `errors` what is wrong where. */
static void problem(struct api_call call, int status, const char *path, const char *format, va_list args)
{
    _cleanup_(freep) char *detail = xvasprintf(format, args);
    struct buf b = {0};
    open_problem(&b, status, detail);
    if (status == 400 || status == 422) {
        json_open(&b, "errors", '[');
        size_t n = strlen(path); /* the detail names the place too, the message has it beside it */
        bool named = n > 0 && strncmp(detail, path, n) == 0 && strncmp(detail + n, ": ", 2) == 0;
        one_error(&b, path, named ? detail + n + 2 : detail);
        json_close(&b, ']');
    }
    json_close(&b, '}');
    answer_problem(call, status, &b);
}

void api_problem(struct api_call call, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    problem(call, status, "", format, args);
    va_end(args);
}

void api_problem_at(struct api_call call, int status, const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    problem(call, status, path, format, args);
    va_end(args);
}

void api_problem_issues(struct api_call call, int status, const char *detail, const struct issues *issues)
{
    struct buf b = {0};
    open_problem(&b, status, detail);
    json_open(&b, "errors", '[');
    for (size_t i = 0; i < issues->n; i++)
        if (issues->items[i].severity == ISSUE_ERROR)
            one_error(&b, issues->items[i].path, issues->items[i].message);
    json_close(&b, ']');
    json_close(&b, '}');
    answer_problem(call, status, &b);
}

void api_problem_manifest(struct api_call call, int status, const char *detail, const struct manifest *m)
{
    struct buf b = {0};
    open_problem(&b, status, detail);
    json_open(&b, "errors", '[');
    for (size_t i = 0; i < m->n_errors; i++)
        if (!m->errors[i].warning)
            one_error(&b, m->errors[i].path, m->errors[i].message);
    json_close(&b, ']');
    json_close(&b, '}');
    answer_problem(call, status, &b);
}

void api_problem_files(struct api_call call, int status, const char *detail, const struct manifest *const *files,
                       size_t n)
{
    struct buf b = {0};
    open_problem(&b, status, detail);
    json_open(&b, "errors", '[');
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < files[i]->n_errors; k++) {
            const struct manifest_error *e = &files[i]->errors[k];
            if (e->warning)
                continue;
            json_open(&b, NULL, '{');
            json_string(&b, "path", e->path);
            json_string(&b, "message", e->message);
            json_string(&b, "file", files[i]->file);
            json_int(&b, "line", e->line);
            json_int(&b, "column", e->column);
            json_close(&b, '}');
        }
    }
    json_close(&b, ']');
    json_close(&b, '}');
    answer_problem(call, status, &b);
}

void api_answer_text(struct api_call call, int status, struct buf *body)
{
    size_t len = body->len;
    struct api_answer answer = {.status = status, .body = buf_take(body), .len = len};
    call.answer(call.ctx, &answer);
}
