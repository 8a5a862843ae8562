/* edit: one resource's own text in an editor, until it is valid or left alone. */
#include "ctl/args.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "manifest/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ERROR_MARK "#! " /* starts lines that are ours; taken out again */

struct edit {
    struct ctl *ctl;
    enum resource_kind kind;
    const char *id;
    const char *form; /* yaml, json */
    char *path;       /* of the temporary file */
    char *original;   /* as the daemon gave it */
    char *refused;    /* what was refused last; NULL: nothing yet */
};

/* ---- the file ---- */

static int write_text(int fd, const char *text)
{
    for (size_t len = strlen(text); len > 0;) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

/* `errors`: lines to stand above the text, NULL: none. */
static int file_fill(const struct edit *e, const char *text, const char *errors)
{
    struct buf b = {0};
    for (const char *p = errors; p && *p;) {
        size_t n = strcspn(p, "\n");
        buf_printf(&b, ERROR_MARK "%.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
    buf_adds(&b, text);
    int fd = open(e->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    int r = fd < 0 ? -errno : write_text(fd, b.data ? b.data : "");
    if (fd >= 0)
        close(fd);
    buf_fini(&b);
    if (r < 0)
        complain("%s: %s", e->path, strerror(-r));
    return r;
}

/* Without our lines; NULL: told. */
static char *file_text(const struct edit *e)
{
    struct buf b = {0}, out = {0};
    FILE *in = fopen(e->path, "re");
    size_t n = 0;
    if (!in) {
        complain("%s: %s", e->path, strerror(errno));
        return NULL;
    }
    while ((n = fread(buf_reserve(&b, 65536), 1, 65536, in)) > 0)
        b.len += n;
    fclose(in);
    buf_addc(&b, '\0');
    for (const char *p = b.data; *p;) {
        size_t len = strcspn(p, "\n");
        len += p[len] == '\n';
        if (strncmp(p, ERROR_MARK, strlen(ERROR_MARK)) != 0)
            buf_add(&out, p, len);
        p += len;
    }
    buf_fini(&b);
    return buf_steal(&out);
}

static int file_make(struct edit *e)
{
    const char *dir = getenv("TMPDIR");
    e->path = xasprintf("%s/triggerctl-%s-XXXXXX.%s", dir && *dir ? dir : "/tmp", e->id, e->form);
    int fd = mkostemps(e->path, (int)strlen(e->form) + 1, O_CLOEXEC); /* mode 0600 */
    if (fd < 0) {
        complain("%s: %s", e->path, strerror(errno));
        return -errno;
    }
    close(fd);
    return file_fill(e, e->original, NULL);
}

/* ---- the editor ---- */

/* $VISUAL and $EDITOR may hold arguments: a shell takes them apart. 0, or it was told. */
static int run_editor(const struct edit *e)
{
    const char *editor = getenv("VISUAL");
    editor = editor && *editor ? editor : getenv("EDITOR");
    editor = editor && *editor ? editor : "vi";
    _cleanup_(freep) char *command = xasprintf("%s \"$1\"", editor);
    pid_t pid = fork();
    int status = 0;
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, "sh", e->path, (char *)NULL);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            pid = -1;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    complain("the editor (%s) failed; nothing was changed", editor);
    return -EIO;
}

/* ---- judging ---- */

/* NULL: it is valid, and still the same resource; else its errors, a line each. */
static char *find_errors(const struct edit *e, const char *text)
{
    struct manifest m;
    struct buf b = {0};
    _cleanup_(freep) char *file = xasprintf("%s.%s", e->id, e->form);
    manifest_parse(file, text, strlen(text), &m);
    for (size_t i = 0; i < m.n_errors; i++) {
        if (m.errors[i].warning)
            continue;
        _cleanup_(freep) char *line = manifest_error_text(&m, &m.errors[i]);
        buf_printf(&b, "%s\n", line);
    }
    bool same = m.n_entries == 1 && m.entries[0].kind == e->kind && streq(m.entries[0].id, e->id);
    if (m.n_wrong == 0 && m.n_entries != 1)
        buf_printf(&b, "expected one document, got %zu\n", m.n_entries);
    else if (m.n_wrong == 0 && !same)
        buf_printf(&b, "expected %s \"%s\", got %s \"%s\": neither kind nor id can be edited\n",
                   resource_kind_name(e->kind), e->id, resource_kind_name(m.entries[0].kind), m.entries[0].id);
    manifest_fini(&m);
    return b.len > 0 ? buf_steal(&b) : NULL;
}

static char *errors_of_problem(const struct client_reply *reply)
{
    cJSON *problem = NULL;
    const cJSON *item;
    struct buf b = {0};
    value_parse(reply->body, reply->len, &problem, NULL);
    const char *detail = value_get_string(problem, "detail");
    buf_printf(&b, "%s\n", detail ? detail : "the daemon refused it");
    cJSON_ArrayForEach (item, value_get(problem, "errors")) {
        const char *path = value_get_string(item, "path"), *message = value_get_string(item, "message");
        if (message && !streq(message, detail))
            buf_printf(&b, "%s%s%s\n", path ? path : "", path && *path ? ": " : "", message);
    }
    cJSON_Delete(problem);
    return buf_steal(&b);
}

/* ---- asking the daemon ---- */

static char *resource_path(const struct edit *e)
{
    struct buf url = {0};
    url_add(&url, "/api/v1/manifests/");
    url_add(&url, resource_kind_name(e->kind));
    url_add(&url, "/");
    url_part(&url, e->id);
    return buf_steal(&url);
}

static int fetch(const struct edit *e, cJSON **ret)
{
    _cleanup_(freep) char *path = resource_path(e);
    return ctl_get(e->ctl, path, ret);
}

/* CTL_OK: it is in force; -1: refused, with *ret_errors; else the exit code of what was told. */
static int send(const struct edit *e, const char *text, char **ret_errors)
{
    _cleanup_(cjson_deletep) cJSON *now = NULL;
    int r = fetch(e, &now);
    if (r != CTL_OK)
        return r;
    if (!streq(value_get_string(now, "text"), e->original)) {
        complain("%s \"%s\" was changed by somebody else meanwhile", resource_kind_name(e->kind), e->id);
        return CTL_FAILED;
    }
    cJSON *body = cJSON_CreateObject(), *file = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(body, "files"), file);
    _cleanup_(freep) char *name = xasprintf("%s.%s", e->id, e->form);
    value_set(file, "name", value_string(name));
    value_set(file, "text", value_string(text));
    _cleanup_(freep) char *json = value_print(body);
    cJSON_Delete(body);
    struct client_reply reply = {0};
    r = ctl_raw(
        e->ctl,
        &(struct client_request){.method = "POST", .path = "/api/v1/manifests", .body = json, .body_len = strlen(json)},
        &reply);
    if (r == CTL_OK && reply.status == 422) {
        *ret_errors = errors_of_problem(&reply);
        r = -1;
    } else if (r == CTL_OK && reply.status != 200) {
        ctl_tell_problem(&reply);
        r = CTL_FAILED;
    }
    free(reply.body);
    return r;
}

/* ---- the rounds ---- */

static int keep_file(struct edit *e, int status)
{
    complain("what you wrote is kept in %s", e->path);
    free(steal(&e->path));
    return status;
}

/* One round with the editor. -1: another one is needed. */
static int edit_round(struct edit *e)
{
    if (run_editor(e) < 0)
        return e->refused ? keep_file(e, CTL_FAILED) : CTL_FAILED;
    _cleanup_(freep) char *text = file_text(e);
    if (!text)
        return CTL_FAILED;
    if (streq(text, e->original)) {
        printf("%s/%s unchanged\n", resource_kind_name(e->kind), e->id);
        return CTL_OK;
    }
    if (streq(text, e->refused)) {
        complain("the text is not valid, and was not changed any more");
        return keep_file(e, CTL_FAILED);
    }
    _cleanup_(freep) char *errors = find_errors(e, text);
    int r = errors ? -1 : send(e, text, &errors);
    if (r == CTL_OK) {
        printf("%s/%s changed\n", resource_kind_name(e->kind), e->id);
        return CTL_OK;
    }
    if (r > 0)
        return keep_file(e, r);
    free(e->refused);
    e->refused = xstrdup(text);
    bool comments = streq(e->form, "yaml"); /* JSON has none */
    if (!comments)
        fputs(errors, stderr);
    return file_fill(e, text, comments ? errors : NULL) < 0 ? CTL_FAILED : -1;
}

int verb_edit(struct ctl *c, const struct args *a)
{
    struct edit e = {.ctl = c, .id = a->words[1]};
    e.kind = (enum resource_kind)resource_kind_parse(a->words[0]);
    _cleanup_(cjson_deletep) cJSON *now = NULL;
    int r = fetch(&e, &now);
    if (r != CTL_OK)
        return r;
    const char *file = value_get_string(now, "file"), *text = value_get_string(now, "text");
    enum document_format format = DOCUMENT_YAML;
    if (file)
        document_format_by_name(file, &format);
    e.form = format == DOCUMENT_JSON ? "json" : "yaml";
    e.original = xstrdup(text ? text : "");
    r = file_make(&e) < 0 ? CTL_FAILED : -1;
    while (r < 0)
        r = edit_round(&e);
    if (e.path)
        unlink(e.path);
    free(e.path);
    free(e.original);
    free(e.refused);
    return r;
}
