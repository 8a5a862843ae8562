/* Every row of every field table keeps what the tables promise; the generated schema in schemas/ is not stale. */
#include "base/util.h"
#include "manifest/manifest.h"
#include "manifest/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void parse_row(const struct field *f, const char *json, const char *what)
{
    cJSON *v = NULL;
    struct issues issues = ISSUES_INIT;
    size_t size = f->type == &field_object ? f->sub->size : f->type->size;
    void *slot = xcalloc(1, size), *again = xcalloc(1, size);
    if (value_parse(json, strlen(json), &v, NULL) < 0)
        fail_msg("%s: %s is no JSON: %s", f->name, what, json);
    if (!f->type->parse(f, v, slot, f->name, &issues))
        fail_msg("%s: %s %s: %s", f->name, what, json, issues.items[0].message);
    cJSON *printed = f->type->print(f, slot);
    if (printed && !f->type->parse(f, printed, again, f->name, &issues))
        fail_msg("%s: what is printed does not parse: %s", f->name, issues.items[0].message);
    if (printed && !f->type->equal(f, slot, again))
        fail_msg("%s: parse(print(x)) is not x for %s", f->name, json);
    if (f->type->fini) {
        f->type->fini(f, slot);
        f->type->fini(f, again);
    }
    free(slot);
    free(again);
    issues_fini(&issues);
    cJSON_Delete(printed);
    cJSON_Delete(v);
}

static void check_table(const struct field_table *t, const cJSON *schema)
{
    assert_non_null(t->doc);
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        if (!f->doc || !*f->doc)
            fail_msg("%s.%s has no doc", t->name, f->name);
        if (f->doc[strlen(f->doc) - 1] == '.')
            fail_msg("%s.%s: the doc ends with a full stop", t->name, f->name);
        if (f->default_json)
            parse_row(f, f->default_json, "default");
        if (f->example)
            parse_row(f, f->example, "example");
        if (!value_get(value_get(schema, "properties"), f->name))
            fail_msg("%s.%s is not in the schema", t->name, f->name);
        cJSON *own = value_get(value_get(schema, "properties"), f->name);
        if (f->sub)
            check_table(f->sub, value_get(own, "items") ? value_get(own, "items") : own);
        for (size_t k = 0; k < i; k++)
            if (streq(t->fields[k].name, f->name))
                fail_msg("%s.%s is there twice", t->name, f->name);
    }
}

static void every_row(void **state)
{
    (void)state;
    const char *const *names = manifest_table_names();
    size_t n = 0;
    for (; names[n]; n++) {
        const struct field_table *t = manifest_table(names[n]);
        assert_non_null(t);
        cJSON *schema = fields_schema(t);
        check_table(t, schema);
        cJSON_Delete(schema);
    }
    assert_true(n >= 9);
}

/* UPDATE_SCHEMAS=1 writes them anew. */
static void schemas_are_fresh(void **state)
{
    (void)state;
    for (size_t i = 0; manifest_schema_kinds[i]; i++) {
        _cleanup_(freep) char *path = xasprintf(TEST_SOURCE_DIR "/schemas/%s.json", manifest_schema_kinds[i]);
        cJSON *schema = manifest_schema(manifest_schema_kinds[i]);
        _cleanup_(freep) char *text = value_print_pretty(schema);
        cJSON_Delete(schema);
        if (getenv("UPDATE_SCHEMAS")) {
            FILE *out = fopen(path, "w");
            assert_non_null(out);
            fprintf(out, "%s\n", text);
            fclose(out);
        }
        FILE *in = fopen(path, "r");
        if (!in)
            fail_msg("there is no %s: run this test with UPDATE_SCHEMAS=1", path);
        _cleanup_(freep) char *stored = xcalloc(1, strlen(text) + 2);
        size_t n = fread(stored, 1, strlen(text) + 1, in);
        bool end = fgetc(in) == EOF;
        fclose(in);
        if (!end || n != strlen(text) + 1 || strncmp(stored, text, strlen(text)) != 0)
            fail_msg("%s is stale: run this test with UPDATE_SCHEMAS=1", path);
    }
}

static void seed_examples_are_valid(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{\"name\":\"Process New CSV Files\",\"pipeline_id\":\"pipe_data_import\",\"trigger_type\":\"file_watch\","
        "\"config\":{\"path\":\"/data/incoming/*.csv\",\"events\":[\"created\",\"modified\"],\"recursive\":true,"
        "\"debounce_seconds\":5,\"ignore_patterns\":[\"*.tmp\",\"*.part\"]},\"default_inputs\":{\"mode\":\"batch\"}}",
        "{\"name\":\"Post-Process Data\",\"pipeline_id\":\"pipe_post_process\",\"trigger_type\":\"pipeline_completed\","
        "\"config\":{\"source_pipeline_id\":\"pipe_data_fetch\",\"status\":\"success\",\"pass_outputs\":true,"
        "\"output_mapping\":{\"raw_data\":\"processed_data\"}}}",
        "{\"name\":\"Handle User Events\",\"pipeline_id\":\"pipe_user_handler\",\"trigger_type\":\"custom\",\"config\":"
        "{\"endpoint\":\"user_events\",\"filter\":{\"action\":\"signup\"},\"input_mapping\":{\"user_id\":\"$.user.id\","
        "\"email\":\"$.user.email\"}}}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct manifest m;
        manifest_parse("seed.json", good[i], strlen(good[i]), &m);
        if (m.n_errors > 0)
            fail_msg("%s", m.errors[0].message);
        assert_int_equal(m.n_entries, 1);
        assert_non_null(m.entries[0].trigger);
        manifest_fini(&m);
    }
}

struct wrong {
    const char *text;
    const char *error; /* the first, as it is printed */
};

static const struct wrong wrongs[] = {
    {"name: x\npipeline_id: p\ntrigger_type: custom\nconfig:\n  endpoint: e\ncooldown_seconds: soon\n",
     "m.yaml:6:19: cooldown_seconds: expected a number ≥ 0, got \"soon\""},
    {"name: x\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\nenabeld: true\n",
     "m.yaml:5:1: enabeld: unknown key; did you mean \"enabled\"?"},
    {"name: x\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\nfilter: {a: b}\n",
     "m.yaml:5:1: filter: unknown key; did you mean \"config.filter\"?"},
    {"name: x\npipeline_id: p\ntrigger_type: schedule\nconfig: {every_seconds: 1}\nfilter: {a: b}\n",
     "m.yaml:5:1: filter: unknown key; did you mean \"id\"?"},
    {"name: x\npipeline_id: p\ntrigger_type: custom\nendpoint: e\nconfig: {}\n",
     "m.yaml:4:1: endpoint: unknown key; did you mean \"config.endpoint\"?"},
    {"name: x\npipeline_id: p\ntrigger_type: custom\nconfig:\n  endpoint: e\n  cooldown_seconds: 1\n",
     "m.yaml:6:3: config.cooldown_seconds: unknown key; did you mean \"cooldown_seconds\", beside config?"},
    {"name: x\npipeline_id: p\ntrigger_type: custm\nconfig: {}\n",
     "m.yaml:3:15: trigger_type: expected one of file_watch, pipeline_completed, message_queue, custom, schedule, "
     "webhook, mcp_event, got "
     "\"custm\""},
    {"name: x\npipeline_id: p\ntrigger_type: custom\nconfig:\n  endpoint: e\n  filter:\n    a:\n      - prefx: x\n",
     NULL},
    {"name: x\npipeline_id: p\ntrigger_type: custom\nconfig:\n  endpoint: e\n  input_mapping: {a: '$.['}\n", NULL},
    {"name: '#!?'\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n",
     "m.yaml:1:7: name: gives no id (it has no letter or digit); add an `id`"},
    {"name: Stats\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n",
     "m.yaml:1:7: name: \"stats\" is a word of the API and cannot be an id; add an `id`"},
    {"kind: pipeline\nid: p\nsteps:\n  - id: a\n    needs: [b]\n    exec: {command: [x]}\n",
     "m.yaml:5:13: steps[0].needs[0]: there is no step \"b\""},
    {"kind: pipeline\nid: p\nsteps:\n  - id: a\n    needs: [b]\n    exec: {command: [x]}\n  - id: b\n    needs: [a]\n"
     "    exec: {command: [x]}\n",
     "m.yaml:5:12: steps[0].needs: steps need each other in a circle: a → b → a"},
    {"kind: pipeline\nid: p\nsteps:\n  - id: a\n    exec: {command: ['{{ $.inputs.x']}\n", NULL},
    {"kind: pipeline\nid: p\nsteps:\n  - id: a\n    exec: {command: ['{{ $.steps.nope.output }}']}\n", NULL},
    {"name: {a: ",
     "m.yaml:1:11: could not parse: did not find expected node content (while parsing a flow node at 1:11)"},
    {"name: x\na: \"é",
     "m.yaml:2:4: could not parse: found unexpected end of stream (while scanning a quoted scalar at 2:4)"},
    {"kind: pipeline\nid: p\nsteps: []\n", "m.yaml:3:8: steps: expected a list of at least one step, got []"},
    {"kind: pipline\nid: p\n",
     "m.yaml:1:7: kind: expected trigger, pipeline or mcp_server, got \"pipline\"; did you mean \"pipeline\"?"},
    {"kind: pipeline\nid: p\ninputs: {type: objekt}\nsteps:\n  - id: a\n    exec: {command: [x]}\n", NULL},
};

static void errors_are_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
        struct manifest m;
        int r = manifest_parse("m.yaml", wrongs[i].text, strlen(wrongs[i].text), &m);
        if (r == 0 || m.n_errors == 0)
            fail_msg("valid, but should not be: %s", wrongs[i].text);
        _cleanup_(freep) char *text = manifest_error_text(&m, &m.errors[0]);
        if (m.errors[0].line == 0 || m.errors[0].column == 0)
            fail_msg("no place: %s", text);
        if (wrongs[i].error)
            assert_string_equal(text, wrongs[i].error);
        manifest_fini(&m);
    }
}

static void a_bad_document_leaves_the_good(void **state)
{
    (void)state;
    static const char text[] =
        "name: A\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n---\nname: [\n---\n"
        "name: C\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n";
    struct manifest m;
    assert_int_equal(manifest_parse("m.yaml", text, strlen(text), &m), -22);
    assert_int_equal(m.n_entries, 3);
    assert_non_null(m.entries[0].trigger);
    assert_true(m.entries[1].bad);
    assert_string_equal(m.entries[2].trigger->id, "c");
    manifest_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),
        cmocka_unit_test(schemas_are_fresh),
        cmocka_unit_test(errors_are_exact),
        cmocka_unit_test(a_bad_document_leaves_the_good),
        cmocka_unit_test(seed_examples_are_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
