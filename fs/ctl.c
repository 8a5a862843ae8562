/* Control files: ctl, status, test, emit/ENDPOINT. What a write says is done before it is answered, and an error is the
 * write's; the answer is read from the same descriptor.
 *
 * A document (test, emit) is gathered over writes (gather.h); in ctl and status a newline ends a verb. One write may
 * hold several verbs: they are all looked at before the first is carried out, one after the other. What is left without
 * a newline is carried out when the descriptor is closed.
 */
#include "fs/internal.h"

#include <stdio.h>

/* ---- verbs ---- */

enum verb_argument { ARGUMENT_NONE, ARGUMENT_WORD, ARGUMENT_JSON };

struct verb {
    enum node_kind file;
    int resource; /* RESOURCE_…, -1: any */
    const char *word;
    enum verb_argument argument;
    const char *argument_word;
};

static const struct verb verbs[] = {
    {NODE_CTL, RESOURCE_TRIGGER, "pause", ARGUMENT_NONE, NULL},
    {NODE_CTL, RESOURCE_TRIGGER, "resume", ARGUMENT_WORD, "--discard"},
    {NODE_CTL, RESOURCE_TRIGGER, "test", ARGUMENT_JSON, NULL},
    {NODE_CTL, RESOURCE_PIPELINE, "run", ARGUMENT_JSON, NULL},
    {NODE_RUN_CTL, -1, "cancel", ARGUMENT_NONE, NULL},
    {NODE_STATUS, RESOURCE_TRIGGER, "paused", ARGUMENT_NONE, NULL},
    {NODE_STATUS, RESOURCE_TRIGGER, "active", ARGUMENT_NONE, NULL},
};

static bool is_verb_of(const struct verb *v, const struct node *n)
{
    enum resource_kind kind;
    return v->file == n->kind && node_resource(n, &kind) && (v->resource < 0 || v->resource == (int)kind);
}

const char *control_verbs(const struct node *n)
{
    enum resource_kind kind = RESOURCE_TRIGGER;
    node_resource(n, &kind);
    return n->kind == NODE_RUN_CTL     ? "cancel\n"
           : kind == RESOURCE_PIPELINE ? "run [JSON]\n"
                                       : "pause\nresume [--discard]\ntest [JSON]\n";
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* One line: its verb and argument. -EINVAL: it is none. 1: an empty line. With `whole` false more of it may come, and
 * only what can no longer become one is -EINVAL. */
struct command {
    const struct verb *verb;
    cJSON *json;
    bool has_word;
};

static void command_fini(struct command *c)
{
    cJSON_Delete(c->json);
}

static int parse_argument(const struct verb *v, const char *text, size_t len, struct command *ret)
{
    if (len == 0)
        return 0;
    if (v->argument == ARGUMENT_WORD) {
        ret->has_word = len == strlen(v->argument_word) && memcmp(text, v->argument_word, len) == 0;
        return ret->has_word ? 0 : -EINVAL;
    }
    if (v->argument == ARGUMENT_NONE || value_parse(text, len, &ret->json, NULL) < 0)
        return -EINVAL;
    return 0;
}

static int parse_line(const struct node *n, const char *line, size_t len, struct command *ret)
{
    while (len > 0 && is_blank(*line)) {
        line++;
        len--;
    }
    while (len > 0 && is_blank(line[len - 1]))
        len--;
    if (len == 0)
        return 1;
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        size_t word = strlen(verbs[i].word);
        if (!is_verb_of(&verbs[i], n) || len < word || memcmp(line, verbs[i].word, word) != 0)
            continue;
        size_t at = word;
        while (at < len && is_blank(line[at]))
            at++;
        if (at == word && at < len)
            continue;
        *ret = (struct command){.verb = &verbs[i]};
        return parse_argument(&verbs[i], line + at, len - at, ret);
    }
    return -EINVAL;
}

/* Can a line that begins so become a verb? */
static bool may_become(const struct node *n, const char *line, size_t len)
{
    while (len > 0 && is_blank(*line)) {
        line++;
        len--;
    }
    if (len == 0)
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        size_t word = strlen(verbs[i].word);
        if (!is_verb_of(&verbs[i], n) || memcmp(line, verbs[i].word, MIN(word, len)) != 0)
            continue;
        if (len <= word)
            return true;
        if (!is_blank(line[word]))
            continue;
        size_t at = word, used;
        while (at < len && is_blank(line[at]))
            at++;
        if (at == len)
            return true;
        if (verbs[i].argument == ARGUMENT_WORD)
            return strncmp(line + at, verbs[i].argument_word, MIN(len - at, strlen(verbs[i].argument_word))) == 0;
        struct json_scan scan = {0};
        return verbs[i].argument == ARGUMENT_JSON && json_scan_feed(&scan, line + at, len - at, &used) != JSON_SCAN_BAD;
    }
    return false;
}

/* ---- carrying out ---- */

struct job {
    struct asker asker;
    struct handle *handle;
    size_t size; /* what the write is answered with; of a flush: SIZE_MAX */
    struct command *commands;
    size_t n, next;
    struct buf answer;
};

static void job_end(struct job *j, int code)
{
    struct handle *h = j->handle;
    struct fs *fs = h->fs;
    fuse_req_t req = asker_take(&j->asker);
    if (req && code < 0)
        answer_error(req, code);
    else if (req && j->size == SIZE_MAX)
        fuse_reply_err(req, 0);
    else if (req)
        fuse_reply_write(req, j->size);
    if (req && code == 0 && j->n > 0) {
        text_unref(h->text);
        h->text = text_new(&j->answer, 0);
        h->answered = 0;
    }
    for (size_t i = 0; i < j->n; i++)
        command_fini(&j->commands[i]);
    free(j->commands);
    buf_fini(&j->answer);
    free(j);
    handle_idle(h);
    fs_release(fs);
}

static void job_go_on(struct job *j);

static void job_answered(void *ctx, struct api_answer *answer)
{
    struct job *j = ctx;
    int code = code_of_status(answer->status);
    if (code == 0) {
        buf_add(&j->answer, answer->body, answer->len);
        if (j->answer.len == 0 || j->answer.data[j->answer.len - 1] != '\n')
            buf_addc(&j->answer, '\n');
    }
    free(answer->body);
    if (code < 0 || !asker_waits(&j->asker))
        job_end(j, code);
    else
        job_go_on(j);
}

static void emit(const struct node *n, const struct command *c, struct api_call call)
{
    struct api_emit e = {.endpoint = n->name, .data = c->json};
    api_emit(n->fs->api, &e, call);
}

static void carry_out(struct job *j, const struct command *c)
{
    static cJSON empty = {.type = cJSON_Object};
    const struct node *n = j->handle->node;
    struct api *a = n->fs->api;
    struct api_call call = {job_answered, j};
    enum resource_kind kind;
    const char *id = node_resource(n, &kind);
    const cJSON *data = c->json ? c->json : &empty;
    const char *word = c->verb ? c->verb->word : "";
    if (n->kind == NODE_ENDPOINT)
        emit(n, c, call);
    else if (n->kind == NODE_TEST)
        api_dry_run(a, id, data, call);
    else if (streq(word, "pause") || streq(word, "paused"))
        api_pause(a, id, call);
    else if (streq(word, "resume") || streq(word, "active"))
        api_resume(a, id, c->has_word, call);
    else if (streq(word, "test"))
        api_test(a, id, data, NULL, NULL, call);
    else if (streq(word, "run"))
        api_run_pipeline(a, id, data, NULL, call);
    else
        api_cancel_run(a, node_above(n, NODE_RUN)->name, call);
}

static void job_go_on(struct job *j)
{
    if (j->next == j->n) {
        job_end(j, 0);
        return;
    }
    const struct command *c = &j->commands[j->next++];
    if (c->verb)
        log_change(j->handle, c->verb->word);
    carry_out(j, c);
}

static struct job *job_new(fuse_req_t req, struct handle *h, size_t size)
{
    struct job *j = xcalloc(1, sizeof(*j));
    *j = (struct job){.handle = h, .size = size};
    asker_init(&j->asker, h->fs, req);
    handle_busy(h);
    fs_hold(h->fs);
    return j;
}

static void job_add(struct job *j, const struct command *c)
{
    j->commands = xreallocarray(j->commands, j->n + 1, sizeof(*j->commands));
    j->commands[j->n++] = *c;
}

/* ---- writes ---- */

static bool is_document(const struct node *n)
{
    return n->kind == NODE_TEST || n->kind == NODE_ENDPOINT;
}

static void write_document(fuse_req_t req, struct handle *h, const char *data, size_t size)
{
    struct command c = {0};
    int r = gather_write(&h->gather, data, size, &c.json);
    if (r < 0) {
        answer_error(req, r);
        return;
    }
    struct job *j = job_new(req, h, size);
    if (r == 1)
        job_add(j, &c);
    job_go_on(j);
}

/* The lines of the gathered text up to its last newline, parsed into the job; the rest stays. */
static int take_lines(struct handle *h, struct job *j)
{
    const char *at = h->line.data, *end = h->line.data + h->line.len, *newline;
    while ((newline = memchr(at, '\n', (size_t)(end - at)))) {
        struct command c = {0};
        int r = parse_line(h->node, at, (size_t)(newline - at), &c);
        if (r < 0) {
            command_fini(&c);
            return r;
        }
        if (r == 0)
            job_add(j, &c);
        at = newline + 1;
    }
    size_t left = (size_t)(end - at);
    if (!may_become(h->node, at, left))
        return -EINVAL;
    memmove(h->line.data, at, left);
    h->line.len = left;
    return 0;
}

static void write_lines(fuse_req_t req, struct handle *h, const char *data, size_t size)
{
    if (h->line.len + size > GATHER_MAX) {
        h->line.len = 0;
        answer_error(req, -EFBIG);
        return;
    }
    struct job *j = job_new(req, h, size);
    buf_add(&h->line, data, size);
    int r = take_lines(h, j);
    if (r < 0) {
        h->line.len = 0;
        job_end(j, r);
        return;
    }
    job_go_on(j);
}

void control_write(fuse_req_t req, struct handle *h, const char *data, size_t size)
{
    h->answered = SIZE_MAX;
    h->closed = false;
    text_unref(h->text);
    h->text = NULL;
    if (size == 0)
        fuse_reply_write(req, 0);
    else if (is_document(h->node))
        write_document(req, h, data, size);
    else
        write_lines(req, h, data, size);
}

/* The descriptor is closed: what stands without its end. */
void control_flush(fuse_req_t req, struct handle *h)
{
    struct command c = {0};
    h->closed = true;
    int r = is_document(h->node) ? gather_end(&h->gather, &c.json) : 0;
    if (r == 0 && h->line.len > 0) {
        r = parse_line(h->node, h->line.data, h->line.len, &c);
        r = r < 0 ? r : !r;
        h->line.len = 0;
    }
    if (r <= 0) {
        command_fini(&c);
        answer_error(req, r);
        return;
    }
    struct job *j = job_new(req, h, SIZE_MAX);
    job_add(j, &c);
    job_go_on(j);
}

void control_read(fuse_req_t req, struct handle *h, size_t size, off_t off)
{
    const struct text *t = h->text;
    if (h->answered == SIZE_MAX) { /* nothing was answered: what it says of itself, as of the open */
        answer_piece(req, t ? t->data : "", t ? t->len : 0, size, off);
        return;
    }
    size_t n = MIN(size, t->len - h->answered);
    fuse_reply_buf(req, t->data + h->answered, n);
    h->answered += n;
}

bool control_in_use(const struct node *n)
{
    const struct handle *h;
    DL_FOREACH (n->handles, h)
        if (!h->closed)
            return true;
    return false;
}
