/* apply and diff: files against what runs. They are judged here first, by the daemon's own code. */
#include "ctl/args.h"
#include "ctl/diff.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "ctl/views.h"
#include "manifest/check.h"

#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIFF_DIFFERS 1
#define DIFF_ERROR 2

static const char route[] = "/api/v1/manifests";

/* ---- the request ---- */

/* As it is named from the root, links and all; free() it. */
static char *absolute(const char *path)
{
    if (path[0] == '/')
        return xstrdup(path);
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    _cleanup_(freep) char *cwd = getcwd(NULL, 0);
    return xasprintf("%s/%s", cwd ? cwd : "", path);
}

/* Where its directory really is, its last name kept as it is; NULL where that cannot be told. */
static char *real(const char *path)
{
    _cleanup_(freep) char *for_dir = xstrdup(path);
    _cleanup_(freep) char *for_name = xstrdup(path);
    _cleanup_(freep) char *dir = realpath(dirname(for_dir), NULL);
    return dir ? xasprintf("%s/%s", streq(dir, "/") ? "" : dir, basename(for_name)) : NULL;
}

static cJSON *file_json(const struct manifest *m, const struct buf *text)
{
    cJSON *o = cJSON_CreateObject();
    value_set(o, "name", value_string(m->file));
    if (!streq(m->file, "<stdin>")) {
        _cleanup_(freep) char *path = absolute(m->file);
        _cleanup_(freep) char *place = real(m->file);
        value_set(o, "path", value_string(path));
        value_set(o, "real", value_string(place));
    }
    value_set(o, "text", value_string(text->data ? text->data : ""));
    return o;
}

static void add_directory(cJSON *list, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return;
    _cleanup_(freep) char *named = absolute(path);
    _cleanup_(freep) char *place = realpath(path, NULL);
    for (size_t n = strlen(named); n > 1 && named[n - 1] == '/'; n--)
        named[n - 1] = '\0';
    cJSON_AddItemToArray(list, value_string(named));
    if (place && !streq(place, named))
        cJSON_AddItemToArray(list, value_string(place));
}

/* Read and judge. CTL_OK with *ret_body; else what is wrong was told. */
static int collect(const struct args *a, bool dry_run, char **ret_body)
{
    struct manifest_check check = {.keep = true};
    for (size_t i = 0; i < a->n; i++)
        manifest_check_add(&check, a->words[i]);
    size_t wrong = manifest_check_finish(&check);
    manifest_check_print(&check, stderr); /* warnings too */
    if (wrong == 0) {
        cJSON *body = cJSON_CreateObject(), *files = cJSON_AddArrayToObject(body, "files");
        cJSON *dirs = cJSON_AddArrayToObject(body, "directories");
        for (size_t i = 0; i < check.n; i++)
            cJSON_AddItemToArray(files, file_json(&check.manifests[i], &check.texts[i]));
        for (size_t i = 0; i < a->n && dry_run; i++)
            add_directory(dirs, a->words[i]);
        value_set(body, "dry_run", cJSON_CreateBool(dry_run));
        *ret_body = value_print(body);
        cJSON_Delete(body);
    }
    manifest_check_fini(&check);
    return wrong > 0 ? CTL_FAILED : CTL_OK;
}

static char *name_of(const cJSON *resource)
{
    const char *kind = value_get_string(resource, "kind"), *id = value_get_string(resource, "id");
    return xasprintf("%s/%s", kind ? kind : "", id ? id : "");
}

/* ---- apply ---- */

int verb_apply(struct ctl *c, const struct args *a)
{
    _cleanup_(freep) char *body = NULL;
    _cleanup_(cjson_deletep) cJSON *answer = NULL;
    int r = collect(a, false, &body);
    r = r == CTL_OK ? ctl_send(c, "POST", route, body, &answer) : r;
    const cJSON *resource, *list = value_get(answer, "resources");
    if (r != CTL_OK || show_value(a, answer))
        return r;
    cJSON_ArrayForEach (resource, list) {
        _cleanup_(freep) char *name = name_of(resource);
        printf("%s %s\n", name, value_get_string(resource, "result"));
    }
    if (cJSON_GetArraySize(list) > 0)
        return CTL_OK;
    complain("there are no manifests to apply");
    return CTL_FAILED;
}

/* ---- diff ---- */

static void show_difference(const struct ctl *c, const cJSON *resource, bool first)
{
    const char *before = value_get_string(resource, "before"), *after = value_get_string(resource, "after");
    const char *from = value_get_string(resource, "from");
    const cJSON *effect;
    _cleanup_(freep) char *name = name_of(resource);
    _cleanup_(freep) char *running = before ? xasprintf("%s as it runs", name) : xstrdup("/dev/null");
    _cleanup_(freep) char *wanted = after ? xasprintf("%s in %s", name, from ? from : "") : xstrdup("/dev/null");
    struct buf before_name = {0}, after_name = {0};
    text_escape(&before_name, running);
    text_escape(&after_name, wanted);
    if (!first)
        printf("\n");
    diff_print(before_name.data, before, after_name.data, after, c->colour);
    cJSON_ArrayForEach (effect, value_get(resource, "effects")) {
        struct buf line = {0};
        text_escape(&line, cJSON_GetStringValue(effect));
        printf("=> %s: %s\n", name, line.data ? line.data : "");
        buf_fini(&line);
    }
    buf_fini(&before_name);
    buf_fini(&after_name);
}

static size_t show_differences(const struct ctl *c, const cJSON *list, bool silent)
{
    const cJSON *resource;
    size_t n = 0;
    cJSON_ArrayForEach (resource, list) {
        if (streq(value_get_string(resource, "result"), "unchanged"))
            continue;
        if (!silent)
            show_difference(c, resource, n == 0);
        n++;
    }
    return n;
}

int verb_diff(struct ctl *c, const struct args *a)
{
    bool code = a->values[OPT_EXIT_CODE] != NULL;
    _cleanup_(freep) char *body = NULL;
    _cleanup_(cjson_deletep) cJSON *answer = NULL;
    int r = collect(a, true, &body);
    r = r == CTL_OK ? ctl_send(c, "POST", route, body, &answer) : r;
    if (r != CTL_OK)
        return code && r == CTL_FAILED ? DIFF_ERROR : r;
    size_t n = show_differences(c, value_get(answer, "resources"), show_value(a, answer));
    return code && n > 0 ? DIFF_DIFFERS : CTL_OK;
}
