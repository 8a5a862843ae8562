/* What a step may cause, by its config: any kind of step with `command` or `script` and `cwd` runs programs. */
#include "manifest/loops_internal.h"

#include "base/util.h"

#include <stdio.h>

#define FILLED "x" /* stands for what a template or a variable gives */
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/* ---- emits ---- */

static bool has_template(const cJSON *v)
{
    if (cJSON_IsString(v))
        return strstr(v->valuestring, "{{") != NULL;
    for (const cJSON *c = v->child; c; c = c->next)
        if (has_template(c))
            return true;
    return false;
}

/* Does the value at a path of names depend on a template? */
static bool is_open(const cJSON *data, const char *path)
{
    const cJSON *at = data;
    while (at && *path) {
        if (cJSON_IsString(at) || cJSON_IsArray(at))
            return has_template(at);
        const cJSON *next = NULL;
        for (const cJSON *c = at->child; c && !next; c = c->next) { /* a name may hold dots */
            size_t n = strlen(c->string);
            if (strncmp(path, c->string, n) == 0 && (path[n] == '\0' || path[n] == '.')) {
                next = c;
                path += n + (path[n] == '.');
            }
        }
        at = next;
    }
    return at && has_template(at);
}

bool loop_emit_may_match(const struct loop_emit *emit, const struct pattern *pattern)
{
    struct mismatch why;
    _cleanup_(cjson_deletep) cJSON *empty = emit->data ? NULL : cJSON_CreateObject();
    const cJSON *data = emit->data ? emit->data : empty;
    if (pattern_match(pattern, data, &why))
        return true;
    if (strstr(why.path, "$or") || strstr(why.path, "…"))
        return has_template(data);
    return is_open(data, why.path);
}

static void read_emit(const struct step *s, struct loop_effects *e)
{
    const char *endpoint = value_get_string(s->config_json, "endpoint");
    if (!endpoint || strstr(endpoint, "{{") || strstr(endpoint, "${"))
        return;
    const cJSON *data = value_get(s->config_json, "data");
    e->emits = xreallocarray(e->emits, e->n_emits + 1, sizeof(*e->emits));
    e->emits[e->n_emits++] = (struct loop_emit){
        .endpoint = xstrdup(endpoint), .data = data && !cJSON_IsNull(data) ? cJSON_Duplicate(data, true) : NULL};
}

/* ---- writes ---- */

/* The path without `.`, `..` and repeated slashes; takes `path`, which is absolute. */
static char *normal(char *path)
{
    struct buf out = {0};
    buf_reserve(&out, 1)[0] = '\0';
    for (char *p = path, *next; *p; p = next) {
        while (*p == '/')
            p++;
        size_t n = strcspn(p, "/");
        next = p + n;
        if (n == 0 || (n == 1 && *p == '.'))
            continue;
        if (n == 2 && p[0] == '.' && p[1] == '.') {
            char *slash = out.len ? strrchr(out.data, '/') : NULL;
            out.len = slash ? (size_t)(slash - out.data) : 0;
            out.data[out.len] = '\0';
            continue;
        }
        buf_addc(&out, '/');
        buf_add(&out, p, n);
    }
    if (out.len == 0)
        buf_addc(&out, '/');
    free(path);
    return buf_steal(&out);
}

/* Takes `path`. */
static void add_write(struct loop_effects *e, char *path, bool inside)
{
    size_t n = strlen(path);
    e->writes = xreallocarray(e->writes, e->n_writes + 1, sizeof(*e->writes));
    struct loop_write *w = &e->writes[e->n_writes++];
    w->inside = inside || path[n - 1] == '/';
    w->path = normal(path);
    /* A last name without a dot may be a directory as well as a file. */
    w->inside = w->inside || !strchr(strrchr(w->path, '/'), '.');
}

/* The text with something in the place of each `{{ … }}`; NULL: it starts with one, so that nothing is known. */
static char *fill(const char *text)
{
    struct buf out = {0};
    const char *open, *close;
    if (strncmp(text, "{{", 2) == 0 || strstr(text, "${"))
        return NULL;
    for (; (open = strstr(text, "{{")) && (close = strstr(open, "}}")); text = close + 2) {
        buf_add(&out, text, (size_t)(open - text));
        buf_adds(&out, FILLED);
    }
    buf_adds(&out, text);
    return buf_steal(&out);
}

/* An argument that names a path: `/data/x`, `--out=/data/x`, `of=/data/x`, or one with a slash in it from `cwd`. */
static void read_argument(const char *argument, const char *cwd, struct loop_effects *e)
{
    _cleanup_(freep) char *text = fill(argument);
    if (!text || strstr(text, "://"))
        return;
    const char *equals = strchr(text, '='), *slash = strchr(text, '/');
    const char *path = equals && (!slash || equals < slash) ? equals + 1 : text;
    if (*path == '/')
        add_write(e, xstrdup(path), false);
    else if (cwd && *path && *path != '-' && strchr(path, '/'))
        add_write(e, xasprintf("%s/%s", cwd, path), false);
}

/* The target of a redirection, from behind `>`: an absolute path, variables filled in. Words as a shell reads them, but
 * for quotes inside of them. */
static void read_target(const char *p, struct loop_effects *e)
{
    p += strspn(p, ">| \t");
    char quote = *p == '"' || *p == '\'' ? *p++ : '\0';
    struct buf out = {0};
    if (*p != '/')
        return;
    while (*p && (quote ? *p != quote : !strchr(" \t\n;|&<>()\"'", *p))) {
        if (*p == '$' && quote != '\'') {
            const char *close = p[1] == '{' ? "}" : p[1] == '(' ? ")" : NULL;
            p++;
            p += close ? strcspn(p, close) + (strpbrk(p, close) != NULL) : strspn(p, NAME_CHARACTERS);
            buf_adds(&out, FILLED);
        } else {
            buf_addc(&out, *p++);
        }
    }
    add_write(e, buf_steal(&out), false);
}

static void read_programs(const struct step *s, struct loop_effects *e)
{
    const cJSON *config = s->config_json, *command = value_get(config, "command");
    const char *script = value_get_string(config, "script"), *cwd = value_get_string(config, "cwd");
    if (!command && !script)
        return;
    if (cwd && (cwd[0] != '/' || strstr(cwd, "{{") || strstr(cwd, "${")))
        cwd = NULL;
    if (cwd)
        add_write(e, xasprintf("%s/", cwd), true);
    if (command && cJSON_IsArray(command) && command->child) /* the first is the program */
        for (const cJSON *a = command->child->next; a; a = a->next)
            if (cJSON_IsString(a))
                read_argument(a->valuestring, cwd, e);
    for (const char *p = script; p && (p = strchr(p, '>')); p += strspn(p, ">"))
        read_target(p, e);
}

void loop_effects_read(const struct pipeline *p, struct loop_effects *ret)
{
    *ret = (struct loop_effects){0};
    for (size_t i = 0; i < p->n_steps; i++) {
        const struct step *s = &p->steps[i];
        if (streq(s->kind->name, "emit"))
            read_emit(s, ret);
        else
            read_programs(s, ret);
    }
}

void loop_effects_fini(struct loop_effects *e)
{
    for (size_t i = 0; i < e->n_writes; i++)
        free(e->writes[i].path);
    for (size_t i = 0; i < e->n_emits; i++) {
        free(e->emits[i].endpoint);
        cJSON_Delete(e->emits[i].data);
    }
    free(e->writes);
    free(e->emits);
    *e = (struct loop_effects){0};
}

/* ---- watches ---- */

/* Is anything but `deleted` told? By default it is. */
static bool tells_writes(const cJSON *events)
{
    if (!cJSON_IsArray(events))
        return true;
    for (const cJSON *e = events->child; e; e = e->next)
        if (cJSON_IsString(e) && !streq(e->valuestring, "deleted"))
            return true;
    return false;
}

bool loop_watch_read(cJSON *config, struct loop_watch *ret)
{
    const char *path = value_get_string(config, "path");
    struct loop_watch w = {0};
    struct error err = ERROR_INIT;
    if (!path || !tells_writes(value_get(config, "events")) || glob_split(path, &w.base, &w.pattern, &err) < 0)
        return false;
    w.base = normal(w.base);
    w.recursive = !cJSON_IsFalse(value_get(config, "recursive"));
    w.ignore = cJSON_DetachItemFromObjectCaseSensitive(config, "ignore_patterns");
    *ret = w;
    return true;
}

void loop_watch_fini(struct loop_watch *w)
{
    cJSON_Delete(w->ignore);
    free(w->pattern);
    free(w->base);
    *w = (struct loop_watch){0};
}

static bool is_ignored(const struct loop_watch *w, const char *relative, bool is_dir)
{
    const cJSON *one = cJSON_IsArray(w->ignore) ? w->ignore->child : w->ignore;
    for (; one; one = cJSON_IsArray(w->ignore) ? one->next : NULL) {
        struct error err = ERROR_INIT;
        _cleanup_(glob_destroyp) struct glob *g = NULL;
        if (cJSON_IsString(one) && glob_create(one->valuestring, GLOB_IGNORE, &g, &err) == 0 &&
            glob_ignores(g, w->base, relative, is_dir))
            return true;
    }
    return false;
}

bool loop_watch_sees(const struct loop_watch *w, const struct loop_write *write)
{
    struct error err = ERROR_INIT;
    _cleanup_(glob_destroyp) struct glob *glob = NULL;
    size_t n = strlen(w->base);
    const char *relative = write->path + (n == 1 ? 0 : n); /* base `/` is its own slash */
    relative += *relative == '/';
    if (glob_create(w->pattern, w->recursive ? GLOB_RECURSIVE : 0, &glob, &err) < 0)
        return false;
    return (*relative && glob_match(glob, relative) && !is_ignored(w, relative, false)) ||
           (write->inside && glob_may_descend(glob, relative) && !(*relative && is_ignored(w, relative, true)));
}
