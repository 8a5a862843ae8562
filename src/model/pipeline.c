#include "model/pipeline.h"

#include "base/util.h"

#include <errno.h>

#define YEAR 31536000.0

static const struct field retry_rows[] = {
    {.name = "max_attempts",
     .type = &field_int,
     FIELD(struct retry, max_attempts, int64_t, .default_json = "3", .min = 1, .max = 1000,
           .doc = "Attempts in all, the first included")},
    {.name = "initial_seconds",
     .type = &field_seconds,
     FIELD(struct retry, initial_seconds, double, .default_json = "1", .min = 0, .max = YEAR,
           .doc = "The wait before the second attempt")},
    {.name = "factor",
     .type = &field_number,
     FIELD(struct retry, factor, double, .default_json = "2", .min = 1, .max = 100,
           .doc = "Each wait is this many times the one before")},
    {.name = "max_seconds",
     .type = &field_seconds,
     FIELD(struct retry, max_seconds, double, .default_json = "60", .min = 0, .max = YEAR, .doc = "No wait is longer")},
    {.name = "jitter",
     .type = &field_number,
     FIELD(struct retry, jitter, double, .default_json = "0.2", .min = 0, .max = 1,
           .doc = "Each wait is varied at random by up to this part of it, up or down")},
};
static const struct field_table retry_fields = {"retry",
                                                "How often, and after what waits, a failed step is tried again",
                                                sizeof(struct retry), retry_rows, ARRAY_SIZE(retry_rows)};

static const struct field step_rows[] = {
    {.name = "id",
     .type = &field_id,
     FIELD(struct step, id, char *, .flags = FIELD_REQUIRED, .doc = "The step's id, unique in its pipeline",
           .example = "\"load\"")},
    {.name = "description",
     .type = &field_string,
     FIELD(struct step, description, char *, .flags = FIELD_NULL_OK, .max = 10000, .doc = "What it is for")},
    {.name = "needs",
     .type = &field_strings,
     FIELD(struct step, needs, struct strings, .default_json = "[]", .max = PIPELINE_STEPS_MAX,
           .doc = "Ids of the steps that must have completed first; steps without needs start at once",
           .example = "[\"load\"]")},
    {.name = "if",
     .type = &field_string,
     FIELD(struct step, condition, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "A path over inputs and steps; the step runs when it finds something other than false or null",
           .example = "\"$.steps.load[?@.rows > 0]\"")},
    {.name = "timeout_seconds",
     .type = &field_seconds,
     FIELD(struct step, timeout_seconds, double, .min = 0, .max = YEAR, .flags = FIELD_MIN_OPEN | FIELD_NULL_OK,
           .doc = "How long one attempt may take; none by default", .example = "60")},
    {.name = "retry",
     .type = &field_object_opt,
     FIELD(struct step, retry, struct retry *, .sub = &retry_fields, .flags = FIELD_NULL_OK,
           .doc = "How often, and after what waits, a failed attempt is tried again; without it there is one attempt",
           .example = "{\"max_attempts\": 3}")},
};
const struct field_table step_fields = {"step",
                                        "A step of a pipeline: its place in the graph, and one of the kinds of work",
                                        sizeof(struct step), step_rows, ARRAY_SIZE(step_rows)};

static const struct field pipeline_rows[] = {
    {.name = "id",
     .type = &field_id,
     FIELD(struct pipeline, id, char *, .flags = FIELD_REQUIRED, .doc = "The pipeline's id",
           .example = "\"pipe_data_import\"")},
    {.name = "name",
     .type = &field_string,
     FIELD(struct pipeline, name, char *, .flags = FIELD_NULL_OK, .max = 200, .doc = "What people call it")},
    {.name = "description",
     .type = &field_string,
     FIELD(struct pipeline, description, char *, .flags = FIELD_NULL_OK, .max = 10000, .doc = "What it is for")},
    {.name = "inputs",
     .type = &field_json,
     FIELD(struct pipeline, inputs, cJSON *, .flags = FIELD_NULL_OK,
           .doc = "JSON Schema of the inputs, checked before a run starts",
           .example = "{\"type\": \"object\", \"required\": [\"file_path\"]}")},
    {.name = "steps",
     .type = &field_json,
     FIELD(struct pipeline, steps_json, cJSON *, .flags = FIELD_REQUIRED, .doc = "The steps: a graph by their `needs`",
           .example = "[{\"id\": \"load\", \"exec\": {\"command\": [\"/bin/true\"]}}]")},
    {.name = "outputs",
     .type = &field_string_map,
     FIELD(struct pipeline, outputs, cJSON *, .flags = FIELD_NULL_OK,
           .doc = "The run's outputs, as paths over inputs and steps, or templates",
           .example = "{\"rows\": \"$.steps.load.output.rows\"}")},
    {.name = "timeout_seconds",
     .type = &field_seconds,
     FIELD(struct pipeline, timeout_seconds, double, .min = 0, .max = YEAR, .flags = FIELD_MIN_OPEN | FIELD_NULL_OK,
           .doc = "How long a run may take; no limit by default", .example = "600")},
    {.name = "max_concurrent",
     .type = &field_int,
     FIELD(struct pipeline, max_concurrent, int64_t, .min = 1, .max = 100000, .flags = FIELD_NULL_OK,
           .doc = "How many of its runs may be under way at once, over all its triggers; no limit by default",
           .example = "4")},
};
const struct field_table pipeline_fields = {"pipeline", "A pipeline is a graph of steps that a trigger runs",
                                            sizeof(struct pipeline), pipeline_rows, ARRAY_SIZE(pipeline_rows)};

/* Which kind of work the step names: exactly one key must be a kind's name. */
static void settle_kind(struct step *s, const cJSON *node, const char *path, const struct kind *const *kinds,
                        struct issues *issues)
{
    for (size_t i = 0; kinds[i]; i++) {
        const cJSON *config = value_get(node, kinds[i]->name);
        if (!config)
            continue;
        char kind_path[FIELD_PATH_MAX];
        field_path(kind_path, path, kinds[i]->name);
        if (s->kind) {
            issue_add_key(issues, kind_path, config, "the step already has `%s`; a step does one kind of work",
                          s->kind->name);
            continue;
        }
        s->kind = kinds[i];
        if (!cJSON_IsObject(config)) {
            char got[64];
            issue_add(issues, kind_path, config, "expected an object, got %s", value_brief(config, got, sizeof(got)));
            continue;
        }
        s->config_json = cJSON_Duplicate(config, true);
        s->config = xcalloc(1, s->kind->config->size);
        enum fields_wrong wrong;
        fields_read(s->kind->config, config, NULL, s->config, kind_path, issues, &wrong);
        size_t before = issues->errors;
        if (wrong == FIELDS_ALONE && s->kind->validate)
            s->kind->validate(s->config, config, kind_path, issues);
        s->sound = wrong == FIELDS_ALONE && issues->errors == before;
    }
    if (s->kind)
        return;
    struct buf b = {0};
    for (size_t i = 0; kinds[i]; i++)
        buf_printf(&b, "%s%s", i ? ", " : "", kinds[i]->name);
    issue_add(issues, path, node, "expected one of %s, got none", b.data ? b.data : "nothing");
    buf_fini(&b);
}

static bool parse_step(struct step *s, const cJSON *node, const char *path, const struct kind *const *kinds,
                       struct issues *issues)
{
    char got[64];
    if (!cJSON_IsObject(node)) {
        issue_add(issues, path, node, "expected an object, got %s", value_brief(node, got, sizeof(got)));
        return false;
    }
    const char *also[32] = {NULL};
    for (size_t i = 0; kinds[i] && i + 1 < ARRAY_SIZE(also); i++)
        also[i] = kinds[i]->name;
    fields_parse(&step_fields, node, also, s, path, issues);
    settle_kind(s, node, path, kinds, issues);
    return true;
}

static size_t step_index(const struct pipeline *p, const char *id)
{
    for (size_t i = 0; i < p->n_steps; i++)
        if (streq(p->steps[i].id, id))
            return i;
    return SIZE_MAX;
}

/* Resolve `needs`; every id must be a step of the pipeline, and ids must differ. */
static void resolve_needs(struct pipeline *p, const cJSON *steps, struct issues *issues)
{
    size_t i = 0;
    const cJSON *node;
    cJSON_ArrayForEach (node, steps) {
        struct step *s = &p->steps[i];
        char base[FIELD_PATH_MAX], path[FIELD_PATH_MAX], item_path[FIELD_PATH_MAX];
        field_path_index(base, "steps", i++);
        size_t first = s->id ? step_index(p, s->id) : SIZE_MAX;
        if (first != SIZE_MAX && &p->steps[first] != s)
            issue_add(issues, field_path(path, base, "id"), value_get(node, "id"),
                      "\"%s\" is also the id of steps[%zu]", s->id, first);
        const cJSON *needs = value_get(node, "needs");
        s->needs_index = xcalloc(s->needs.n, sizeof(size_t));
        for (size_t k = 0; k < s->needs.n; k++) {
            const cJSON *item = cJSON_IsArray(needs) ? cJSON_GetArrayItem(needs, (int)k) : needs;
            s->needs_index[k] = step_index(p, s->needs.items[k]);
            if (s->needs_index[k] == SIZE_MAX)
                issue_add(issues, field_path_index(item_path, field_path(path, base, "needs"), k), item,
                          "there is no step \"%s\"", s->needs.items[k]);
        }
    }
}

/* Depth-first over needs; `colour`: 0 new, 1 on the way, 2 done. Writes the cycle found into `ret`. */
static bool find_cycle(const struct pipeline *p, size_t at, char *colour, size_t *stack, size_t depth, struct buf *ret)
{
    colour[at] = 1;
    stack[depth] = at;
    for (size_t k = 0; k < p->steps[at].needs.n; k++) {
        size_t next = p->steps[at].needs_index[k];
        if (colour[next] == 1) {
            size_t from = depth;
            while (stack[from] != next)
                from--;
            for (size_t i = from; i <= depth; i++)
                buf_printf(ret, "%s → ", p->steps[stack[i]].id);
            buf_adds(ret, p->steps[next].id);
            return true;
        }
        if (colour[next] == 0 && find_cycle(p, next, colour, stack, depth + 1, ret))
            return true;
    }
    colour[at] = 2;
    return false;
}

static void check_cycles(const struct pipeline *p, const cJSON *steps, struct issues *issues)
{
    _cleanup_(freep) char *colour = xcalloc(p->n_steps, 1);
    _cleanup_(freep) size_t *stack = xcalloc(p->n_steps, sizeof(size_t));
    for (size_t i = 0; i < p->n_steps; i++) {
        struct buf cycle = {0};
        if (colour[i] == 0 && find_cycle(p, i, colour, stack, 0, &cycle)) {
            char path[FIELD_PATH_MAX], base[FIELD_PATH_MAX];
            const cJSON *node = cJSON_GetArrayItem(steps, (int)i);
            issue_add(issues, field_path(path, field_path_index(base, "steps", i), "needs"), value_get(node, "needs"),
                      "steps need each other in a circle: %s", cycle.data);
            buf_fini(&cycle);
            return;
        }
    }
}

static void parse_steps(struct pipeline *p, const cJSON *steps, const struct kind *const *kinds, struct issues *issues)
{
    char got[64];
    if (!cJSON_IsArray(steps) || !steps->child) {
        issue_add(issues, "steps", steps, "expected a list of at least one step, got %s",
                  value_brief(steps, got, sizeof(got)));
        return;
    }
    size_t n = (size_t)cJSON_GetArraySize(steps);
    if (n > PIPELINE_STEPS_MAX) {
        issue_add(issues, "steps", steps, "expected at most %d steps, got %zu", PIPELINE_STEPS_MAX, n);
        return;
    }
    size_t before = issues->errors;
    p->steps = xcalloc(n, sizeof(*p->steps));
    const cJSON *node;
    cJSON_ArrayForEach (node, steps) {
        char path[FIELD_PATH_MAX];
        parse_step(&p->steps[p->n_steps], node, field_path_index(path, "steps", p->n_steps), kinds, issues);
        p->n_steps++;
    }
    resolve_needs(p, steps, issues);
    if (issues->errors == before)
        check_cycles(p, steps, issues);
}

struct pipeline *pipeline_read(const cJSON *doc, const struct kind *const *kinds, struct issues *issues)
{
    static const char *const also[] = {"kind", NULL};
    struct pipeline *p = xcalloc(1, sizeof(*p));
    p->refs = 1;
    fields_parse(&pipeline_fields, doc, also, p, "", issues);
    const cJSON *steps = value_get(doc, "steps");
    if (steps)
        parse_steps(p, steps, kinds, issues);
    p->text = value_print(doc);
    return p;
}

int pipeline_parse(const cJSON *doc, const struct kind *const *kinds, struct pipeline **ret, struct issues *issues)
{
    size_t before = issues->errors;
    struct pipeline *p = pipeline_read(doc, kinds, issues);
    if (issues->errors != before) {
        pipeline_unref(p);
        return -EINVAL;
    }
    *ret = p;
    return 0;
}

struct pipeline *pipeline_ref(struct pipeline *p)
{
    p->refs++;
    return p;
}

static void step_fini(struct step *s)
{
    if (s->config) {
        fields_fini(s->kind->config, s->config);
        free(s->config);
    }
    cJSON_Delete(s->config_json);
    free(s->needs_index);
    fields_fini(&step_fields, s);
}

void pipeline_unref(struct pipeline *p)
{
    if (!p || --p->refs > 0)
        return;
    for (size_t i = 0; i < p->n_steps; i++)
        step_fini(&p->steps[i]);
    free(p->steps);
    free(p->text);
    fields_fini(&pipeline_fields, p);
    free(p);
}

bool pipeline_equal(const struct pipeline *a, const struct pipeline *b)
{
    return fields_equal(&pipeline_fields, a, b);
}
