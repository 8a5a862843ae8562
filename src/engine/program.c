/* Compiling what the languages need: filters, mappings, keys, conditions, outputs, templates. The validator calls the
 * same functions as the engine, so that they agree to the letter. */
#include "engine/internal.h"

/* Compile a path given as text; issues go to `node` under `path`. */
static struct path *compile_path(const char *text, unsigned flags, const cJSON *node, const char *path,
                                 struct issues *issues)
{
    struct path *p = NULL;
    struct error err = ERROR_INIT;
    if (path_compile(text, flags, &p, &err) < 0)
        issue_add(issues, path, node, "not a path: %s (at character %u of %s)", err.message, err.column, text);
    return p;
}

/* `{{ path }}` alone, as in the strings of a step, is that path. NULL: it is not alone. */
static char *path_in_braces(const char *text)
{
    const char *close = strstr(text, "}}");
    if (strncmp(text, "{{", 2) != 0 || !close || close[2] != '\0')
        return NULL;
    for (text += 2; *text == ' '; text++)
        ;
    while (close > text && close[-1] == ' ')
        close--;
    return xstrndup(text, (size_t)(close - text));
}

/* A text that was printed from an object. */
static cJSON *object_of(const char *text)
{
    cJSON *object = NULL;
    value_parse(text, strlen(text), &object, NULL);
    return object;
}

/* Where an error of a filter goes. */
struct filter_errors {
    const cJSON *filter;
    struct issues *issues;
};

/* The message starts with the place within the pattern; it becomes the issue's path. */
static void filter_error(void *ctx, const cJSON *node, const char *text)
{
    const struct filter_errors *to = ctx;
    char path[FIELD_PATH_MAX];
    const char *colon = strstr(text, ": ");
    if (node != to->filter && colon && colon - text < 200) {
        snprintf(path, sizeof(path), "config.filter%s%.*s", *text == '[' ? "" : ".", (int)(colon - text), text);
        text = colon + 2;
    } else {
        snprintf(path, sizeof(path), "config.filter");
    }
    issue_add(to->issues, path, node, "%s", text);
}

static void compile_filter(const struct trigger *t, const cJSON *doc, struct issues *issues, struct trigger_program *p)
{
    /* Nodes of the document, where there is one, so that its positions can be found. */
    if (!t->kind || !t->kind->has_filter)
        return;
    _cleanup_(cjson_deletep) cJSON *config = doc ? NULL : object_of(t->config_text);
    const cJSON *filter = value_get(doc ? value_get(doc, "config") : config, "filter");
    if (!filter || cJSON_IsNull(filter) || pattern_compile(filter, &p->pattern, NULL, NULL) == 0)
        return;
    pattern_errors(filter, filter_error, &(struct filter_errors){filter, issues});
}

static void compile_mapping(const struct trigger *t, const cJSON *doc, struct issues *issues, struct trigger_program *p)
{
    bool top = doc ? value_get(doc, "input_mapping") != NULL : true;
    const cJSON *source = t->input_mapping;
    if (doc)
        source = top ? value_get(doc, "input_mapping") : value_get(value_get(doc, "config"), "input_mapping");
    if (!cJSON_IsObject(source))
        return;
    p->mappings = xcalloc((size_t)cJSON_GetArraySize(source), sizeof(*p->mappings));
    const cJSON *item;
    cJSON_ArrayForEach (item, source) {
        char path[FIELD_PATH_MAX];
        field_path(path, top ? "input_mapping" : "config.input_mapping", item->string);
        if (streq(item->string, "_trigger_event")) {
            issue_warn(issues, path, item, "is always set by triggerd; this has no effect");
            continue;
        }
        if (!cJSON_IsString(item))
            continue; /* an issue already */
        struct mapping *m = &p->mappings[p->n_mappings++];
        m->key = xstrdup(item->string);
        m->path = compile_path(item->valuestring, PATH_MAPPING | PATH_EVENT_DATA, item, path, issues);
    }
}

/* Which of the default inputs hold references; malformed ones are errors. */
static void compile_references(const struct trigger *t, const cJSON *doc, struct issues *issues,
                               struct trigger_program *p)
{
    const cJSON *node = doc ? value_get(doc, "default_inputs") : NULL;
    if (node)
        reference_check(node, "default_inputs", issues);
    const cJSON *item;
    cJSON_ArrayForEach (item, p->inputs) {
        if (streq(item->string, "_trigger_event") || !reference_in(item))
            continue;
        p->referring = xreallocarray(p->referring, p->n_referring + 1, sizeof(*p->referring));
        p->referring[p->n_referring++] = xstrdup(item->string);
    }
    if (doc && t->kind)
        reference_check_fields(t->kind->config, value_get(doc, "config"), false, "config", issues);
}

int trigger_program_compile(const struct trigger *t, const cJSON *doc, struct issues *issues,
                            struct trigger_program **ret)
{
    size_t before = issues->errors;
    struct trigger_program *p = xcalloc(1, sizeof(*p));
    compile_filter(t, doc, issues, p);
    p->inputs = t->default_inputs && !streq(t->default_inputs, "{}") ? object_of(t->default_inputs) : NULL;
    compile_mapping(t, doc, issues, p);
    compile_references(t, doc, issues, p);
    if (t->concurrency_key)
        p->concurrency_key = compile_path(t->concurrency_key, PATH_MAPPING | PATH_EVENT_DATA,
                                          doc ? value_get(doc, "concurrency_key") : NULL, "concurrency_key", issues);
    if (issues->errors != before) {
        trigger_program_free(p);
        return -EINVAL;
    }
    *ret = p;
    return 0;
}

void trigger_program_free(struct trigger_program *p)
{
    if (!p)
        return;
    pattern_destroy(p->pattern);
    cJSON_Delete(p->inputs);
    for (size_t i = 0; i < p->n_mappings; i++) {
        free(p->mappings[i].key);
        path_destroy(p->mappings[i].path);
    }
    free(p->mappings);
    for (size_t i = 0; i < p->n_referring; i++)
        free(p->referring[i]);
    free(p->referring);
    path_destroy(p->concurrency_key);
    free(p);
}

int trigger_check(const struct trigger *t, const cJSON *doc, struct issues *issues)
{
    struct trigger_program *p = NULL;
    int r = trigger_program_compile(t, doc, issues, &p);
    trigger_program_free(p);
    return r;
}

/* A path that starts with `$.steps.X` must name a step; warn, since a filter or wildcard may still be meant. */
struct step_reference {
    const struct pipeline *spec;
    const cJSON *node;
    const char *path;
    struct issues *issues;
};

static void check_reference(void *ctx, const char *text)
{
    struct step_reference *r = ctx;
    const char *rest = NULL;
    if (strncmp(text, "$.steps.", 8) == 0)
        rest = text + 8;
    else if (strncmp(text, "steps.", 6) == 0)
        rest = text + 6;
    if (!rest || !*rest || strchr("*[.", *rest))
        return;
    /* A step id may hold dots: any id that is a prefix of the rest will do. */
    for (size_t i = 0; i < r->spec->n_steps; i++) {
        if (!r->spec->steps[i].id)
            return; /* an issue already; it may be this one */
        size_t n = strlen(r->spec->steps[i].id);
        if (strncmp(rest, r->spec->steps[i].id, n) == 0 && (rest[n] == '\0' || strchr(".[", rest[n])))
            return;
    }
    size_t n = strcspn(rest, ".[");
    issue_add(r->issues, r->path, r->node, "%s: there is no step \"%.*s\"", text, (int)n, rest);
}

static void compile_over_steps(const struct pipeline *spec, const char *text, const cJSON *node, const char *path,
                               struct issues *issues, struct path **ret)
{
    struct step_reference ref = {spec, node, path, issues};
    *ret = compile_path(text, PATH_MAPPING, node, path, issues);
    if (*ret)
        check_reference(&ref, text);
}

static const struct step_type *type_of(const struct step_type *const *types, const struct kind *kind)
{
    for (size_t i = 0; types[i]; i++)
        if (&types[i]->kind == kind)
            return types[i];
    return NULL;
}

struct reference_list {
    struct pipeline_program *program;
    size_t n_steps, step;
};

static void add_reference(void *ctx, const char *text)
{
    struct reference_list *l = ctx;
    struct strings *all = &l->program->references;
    if (!l->program->referring)
        l->program->referring = xcalloc(l->n_steps, sizeof(bool));
    l->program->referring[l->step] = true;
    if (strings_have(all, text))
        return;
    all->items = xreallocarray(all->items, all->n + 1, sizeof(*all->items));
    all->items[all->n++] = xstrdup(text);
}

static void compile_step(const struct pipeline *spec, size_t i, const cJSON *node, const struct step_type *const *types,
                         struct issues *issues, struct pipeline_program *p)
{
    const struct step *s = &spec->steps[i];
    char base[FIELD_PATH_MAX], path[FIELD_PATH_MAX];
    field_path_index(base, "steps", i);
    if (s->condition) {
        const cJSON *at = node ? value_get(node, "if") : NULL;
        field_path(path, base, "if");
        _cleanup_(freep) char *inner = path_in_braces(s->condition);
        compile_over_steps(spec, inner ? inner : s->condition, at, path, issues, &p->conditions[i]);
    }
    const struct step_type *type = type_of(types, s->kind);
    if (!type || !type->compile || !s->sound)
        return;
    field_path(path, base, s->kind->name);
    const cJSON *config = node ? value_get(node, s->kind->name) : s->config_json;
    if (type->compile(s, config, path, &p->steps[i], issues) == 0 && type->each_path && p->steps[i]) {
        struct step_reference ref = {spec, config, path, issues};
        type->each_path(p->steps[i], check_reference, &ref);
    }
    if (node)
        reference_check_fields(s->kind->config, config, true, path, issues);
    struct reference_list list = {p, spec->n_steps, i};
    if (p->steps[i] && type->each_reference)
        type->each_reference(p->steps[i], add_reference, &list);
}

static void compile_outputs(const struct pipeline *spec, const cJSON *doc, struct issues *issues,
                            struct pipeline_program *p)
{
    const cJSON *outputs = doc ? value_get(doc, "outputs") : spec->outputs;
    if (!cJSON_IsObject(outputs))
        return;
    p->outputs = xcalloc((size_t)cJSON_GetArraySize(outputs), sizeof(*p->outputs));
    const cJSON *item;
    cJSON_ArrayForEach (item, outputs) {
        char path[FIELD_PATH_MAX];
        field_path(path, "outputs", item->string);
        if (!cJSON_IsString(item))
            continue; /* an issue already */
        struct output *o = &p->outputs[p->n_outputs++];
        o->key = xstrdup(item->string);
        if (!strstr(item->valuestring, "{{") || item->valuestring[0] == '$') {
            compile_over_steps(spec, item->valuestring, item, path, issues, &o->path);
            continue;
        }
        o->template = template_field(item->valuestring, 0, item, path, issues);
        struct step_reference ref = {spec, item, path, issues};
        if (o->template)
            template_each_path(o->template, path_tell, &(struct path_teller){check_reference, &ref});
    }
}

int pipeline_program_compile(const struct pipeline *spec, const cJSON *doc, const struct step_type *const *types,
                             struct issues *issues, struct pipeline_program **ret)
{
    size_t before = issues->errors;
    struct pipeline_program *p = xcalloc(1, sizeof(*p));
    p->refs = 1;
    p->spec = spec;
    p->conditions = xcalloc(spec->n_steps, sizeof(*p->conditions));
    p->steps = xcalloc(spec->n_steps, sizeof(*p->steps));
    const cJSON *inputs = doc ? value_get(doc, "inputs") : spec->inputs;
    if (inputs && spec->inputs)
        schema_compile(inputs, "inputs", &p->inputs, issues);
    const cJSON *steps = doc ? value_get(doc, "steps") : NULL;
    const cJSON *node = steps ? steps->child : NULL;
    for (size_t i = 0; i < spec->n_steps; i++) {
        compile_step(spec, i, node, types, issues, p);
        node = node ? node->next : NULL;
    }
    compile_outputs(spec, doc, issues, p);
    if (issues->errors != before) {
        pipeline_program_unref(p);
        return -EINVAL;
    }
    *ret = p;
    return 0;
}

struct pipeline_program *pipeline_program_ref(struct pipeline_program *p)
{
    p->refs++;
    return p;
}

void pipeline_program_unref(struct pipeline_program *p)
{
    if (!p || --p->refs > 0)
        return;
    for (size_t i = 0; i < p->spec->n_steps; i++) {
        /* A kind is the first member of its type. */
        const struct step_type *type = container_of(p->spec->steps[i].kind, const struct step_type, kind);
        if (p->steps[i] && type->free_program)
            type->free_program(p->steps[i]);
        path_destroy(p->conditions[i]);
    }
    free(p->conditions);
    free(p->steps);
    for (size_t i = 0; i < p->references.n; i++)
        free(p->references.items[i]);
    free(p->references.items);
    free(p->referring);
    for (size_t i = 0; i < p->n_outputs; i++) {
        free(p->outputs[i].key);
        path_destroy(p->outputs[i].path);
        template_destroy(p->outputs[i].template);
    }
    free(p->outputs);
    schema_destroy(p->inputs);
    free(p);
}

int pipeline_check(const struct pipeline *p, const cJSON *doc, const struct step_type *const *types,
                   struct issues *issues)
{
    struct pipeline_program *program = NULL;
    int r = pipeline_program_compile(p, doc, types, issues, &program);
    pipeline_program_unref(program);
    return r;
}
