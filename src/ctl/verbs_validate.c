/* validate: manifests judged as the daemon judges them, for people and for CI. */
#include "ctl/print.h"
#include "ctl/table.h"
#include "manifest/check.h"

#include <stdio.h>
#include <unistd.h>

struct totals {
    size_t resources, errors, warnings;
};

static struct totals count(const struct manifest_check *check)
{
    struct totals t = {0};
    for (size_t i = 0; i < check->n; i++) {
        t.resources += check->manifests[i].n_entries;
        t.errors += check->manifests[i].n_wrong;
        t.warnings += check->manifests[i].n_errors - check->manifests[i].n_wrong;
    }
    return t;
}

typedef void error_fn(void *ctx, const struct manifest *m, const struct manifest_error *e);

static void each_error(const struct manifest_check *check, error_fn *fn, void *ctx)
{
    for (size_t i = 0; i < check->n; i++)
        for (size_t k = 0; k < check->manifests[i].n_errors; k++)
            fn(ctx, &check->manifests[i], &check->manifests[i].errors[k]);
}

/* `field: message`, or the message alone. */
static char *message_of(const struct manifest_error *e)
{
    return xasprintf("%s%s%s", e->path, *e->path ? ": " : "", e->message);
}

/* ---- paths ---- */

/* What tools that know the tree by its own names want: a path below the working directory without it. Within `file`. */
static const char *below_cwd(const char *file)
{
    _cleanup_(freep) char *cwd = getcwd(NULL, 0);
    size_t n = cwd ? strlen(cwd) : 0;
    if (n > 1 && strncmp(file, cwd, n) == 0 && file[n] == '/')
        file += n + 1;
    while (file[0] == '.' && file[1] == '/' && file[2])
        file += 2;
    return file;
}

/* ---- GitHub's workflow commands ---- */

/* `%` and line ends are encoded; in properties `:` and `,` too. */
static void github_text(const char *text, bool property)
{
    for (; *text; text++) {
        if (strchr("%\r\n", *text) || (property && strchr(":,", *text)))
            printf("%%%02X", (unsigned char)*text);
        else
            putchar(*text);
    }
}

static void github_error(void *ctx, const struct manifest *m, const struct manifest_error *e)
{
    (void)ctx;
    _cleanup_(freep) char *message = message_of(e);
    printf("::%s file=", e->warning ? "warning" : "error");
    github_text(below_cwd(m->file), true);
    if (e->line > 0)
        printf(",line=%u,col=%u", e->line, e->column);
    printf("::");
    github_text(message, false);
    printf("\n");
}

/* ---- JSON ---- */

/* Bytes that are no UTF-8 as `\x…`: SARIF and JSON are. */
static cJSON *text_value(const char *text)
{
    if (utf8_valid(text, strlen(text)))
        return value_string(text);
    struct buf b = {0};
    text_escape(&b, text);
    cJSON *v = value_string(b.data);
    buf_fini(&b);
    return v;
}

static void json_error(void *ctx, const struct manifest *m, const struct manifest_error *e)
{
    cJSON *list = ctx, *o = cJSON_CreateObject();
    value_set(o, "file", text_value(m->file));
    value_set(o, "line", cJSON_CreateNumber(e->line));
    value_set(o, "column", cJSON_CreateNumber(e->column));
    value_set(o, "severity", value_string(e->warning ? "warning" : "error"));
    value_set(o, "path", value_string(e->path));
    value_set(o, "message", value_string(e->message));
    cJSON_AddItemToArray(list, o);
}

static void print_report(const struct manifest_check *check)
{
    struct totals t = count(check);
    _cleanup_(cjson_deletep) cJSON *report = cJSON_CreateObject();
    cJSON *list = cJSON_CreateArray();
    each_error(check, json_error, list);
    value_set(report, "valid", cJSON_CreateBool(t.errors == 0));
    value_set(report, "files", cJSON_CreateNumber((double)check->n));
    value_set(report, "resources", cJSON_CreateNumber((double)t.resources));
    value_set(report, "errors", list);
    print_json(report);
}

/* ---- SARIF 2.1.0 (OASIS) ---- */

#define SARIF_ROOT "%SRCROOT%" /* the working directory, by the name that everybody gives it */

/* Path to URI, as RFC 3986 has it. */
static void add_uri(struct buf *b, const char *path)
{
    for (const char *p = path; *p; p++) {
        char c = *p;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-_.~/", c);
        if (plain)
            buf_addc(b, c);
        else
            buf_printf(b, "%%%02X", (unsigned char)c);
    }
}

/* {uri, uriBaseId}: relative to the root where the file is below it, else absolute. */
static cJSON *sarif_artifact(const char *file)
{
    cJSON *o = cJSON_CreateObject();
    struct buf uri = {0};
    file = below_cwd(file);
    _cleanup_(freep) char *real = strncmp(file, "../", 3) == 0 ? realpath(file, NULL) : NULL;
    if (real)
        file = real;
    if (file[0] == '/')
        buf_adds(&uri, "file://");
    add_uri(&uri, file);
    value_set(o, "uri", value_string(uri.data));
    if (file[0] != '/')
        value_set(o, "uriBaseId", value_string(SARIF_ROOT));
    buf_fini(&uri);
    return o;
}

static void sarif_error(void *ctx, const struct manifest *m, const struct manifest_error *e)
{
    cJSON *results = ctx, *result = cJSON_CreateObject();
    _cleanup_(freep) char *message = message_of(e);
    cJSON_AddItemToArray(results, result);
    value_set(result, "ruleId", value_string("manifest"));
    value_set(result, "ruleIndex", cJSON_CreateNumber(0));
    value_set(result, "level", value_string(e->warning ? "warning" : "error"));
    value_set(cJSON_AddObjectToObject(result, "message"), "text", text_value(message));
    cJSON *location = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(result, "locations"), location);
    cJSON *physical = cJSON_AddObjectToObject(location, "physicalLocation");
    value_set(physical, "artifactLocation", sarif_artifact(m->file));
    if (e->line == 0)
        return;
    cJSON *region = cJSON_AddObjectToObject(physical, "region");
    value_set(region, "startLine", cJSON_CreateNumber(e->line));
    value_set(region, "startColumn", cJSON_CreateNumber(e->column));
}

static void print_sarif(const struct manifest_check *check)
{
    _cleanup_(cjson_deletep) cJSON *sarif = cJSON_CreateObject();
    value_set(sarif, "version", value_string("2.1.0"));
    value_set(sarif, "$schema", value_string("https://json.schemastore.org/sarif-2.1.0.json"));
    cJSON *run = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(sarif, "runs"), run);
    cJSON *driver = cJSON_AddObjectToObject(cJSON_AddObjectToObject(run, "tool"), "driver");
    value_set(driver, "name", value_string("triggerctl validate"));
    value_set(driver, "version", value_string(TRIGGERD_VERSION));
    cJSON *rule = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(driver, "rules"), rule);
    value_set(rule, "id", value_string("manifest"));
    value_set(rule, "name", value_string("Manifest"));
    value_set(cJSON_AddObjectToObject(rule, "shortDescription"), "text",
              value_string("A manifest is what triggerd accepts."));
    value_set(cJSON_AddObjectToObject(rule, "fullDescription"), "text",
              value_string("triggerd does not take over a document that has an error; it runs one with a warning."));
    cJSON *root = cJSON_AddObjectToObject(cJSON_AddObjectToObject(run, "originalUriBaseIds"), SARIF_ROOT);
    _cleanup_(freep) char *cwd = getcwd(NULL, 0);
    struct buf uri = {0};
    buf_adds(&uri, "file://");
    add_uri(&uri, cwd ? cwd : "/");
    if (uri.data[uri.len - 1] != '/')
        buf_addc(&uri, '/');
    value_set(root, "uri", value_string(uri.data));
    buf_fini(&uri);
    value_set(run, "columnKind", value_string("unicodeCodePoints"));
    cJSON *results = cJSON_AddArrayToObject(run, "results");
    each_error(check, sarif_error, results);
    print_json(sarif);
}

int verb_validate(struct ctl *c, const struct args *a)
{
    (void)c;
    const char *form = a->values[OPT_REPORT];
    struct manifest_check check = {0};
    for (size_t i = 0; i < a->n; i++)
        manifest_check_add(&check, a->words[i]);
    size_t wrong = manifest_check_finish(&check);
    if (streq(form, "json")) {
        print_report(&check);
    } else if (streq(form, "sarif")) {
        print_sarif(&check);
    } else if (streq(form, "github")) {
        each_error(&check, github_error, NULL);
    } else {
        struct totals t = count(&check);
        manifest_check_print(&check, stdout);
        fflush(stdout);
        fprintf(stderr, "%zu file%s, %zu resource%s: %zu error%s", check.n, check.n == 1 ? "" : "s", t.resources,
                t.resources == 1 ? "" : "s", t.errors, t.errors == 1 ? "" : "s");
        if (t.warnings > 0)
            fprintf(stderr, ", %zu warning%s", t.warnings, t.warnings == 1 ? "" : "s");
        fprintf(stderr, "\n");
    }
    manifest_check_fini(&check);
    return wrong > 0 ? CTL_FAILED : CTL_OK;
}
