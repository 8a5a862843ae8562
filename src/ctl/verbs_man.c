/* man: triggerctl.1 of the table of verbs, triggerd-manifest.5 of the field tables. */
#include "ctl/args.h"
#include "manifest/kinds.h"
#include "manifest/man.h"
#include "model/mcp_server.h"
#include "model/pipeline.h"
#include "model/trigger.h"

#include <stdio.h>

/* ---- triggerctl.1 ---- */

static void add_option(struct buf *b, const struct option_row *o)
{
    struct buf tag = {0}, text = {0};
    if (o->letter)
        buf_printf(&tag, "-%c, ", o->letter);
    buf_printf(&tag, "--%s", o->name);
    buf_adds(&text, o->doc);
    for (size_t i = 0; o->words && o->words[i]; i++)
        buf_printf(&text, "%s%s", i ? ", " : ": ", o->words[i]);
    man_item(b, tag.data, o->value, text.data);
    buf_fini(&tag);
    buf_fini(&text);
}

static void add_verb(struct buf *b, const struct verb *v)
{
    struct buf title = {0}, text = {0};
    buf_adds(&title, v->name);
    for (const struct argument *a = v->arguments; a->name; a++)
        buf_printf(&title, " %s%s%s%s", a->optional ? "[" : "", a->name, a->many ? "..." : "", a->optional ? "]" : "");
    man_subsection(b, title.data);
    size_t len = strlen(v->summary);
    buf_printf(&text, "%s%s", v->summary, v->summary[len - 1] == '?' ? "" : ".");
    man_text(b, text.data);
    if (v->text)
        man_text(b, v->text);
    for (int i = 0; i < OPT_N; i++)
        if (v->options & OPT(i))
            add_option(b, &option_rows[i]);
    man_example(b, v->example);
    buf_fini(&title);
    buf_fini(&text);
}

static void page_of_triggerctl(struct buf *b)
{
    static const char *const see[] = {"triggerd-manifest(5)", "triggerd.yaml(5)", "triggerd(8)", NULL};
    man_begin(b, "triggerctl", 1, "User commands",
              "look at and act on triggers, pipelines, events and runs of triggerd");
    man_section(b, "Synopsis");
    buf_adds(b, ".B triggerctl\n[\\fB\\-\\-socket\\fR \\fIPATH|URL\\fR] \\fIVERB\\fR ...\n");
    man_section(b, "Description");
    man_text(
        b,
        "The client of triggerd, over its unix socket; and, without a daemon, the judge of its manifests and of the\n"
        "languages in them. Options stand before or after the verb's arguments.");
    man_section(b, "Verbs");
    for (size_t i = 0; i < n_verbs; i++)
        if (verbs[i].group)
            add_verb(b, &verbs[i]);
    man_section(b, "Options of all verbs");
    man_item(b, "--socket", "PATH|URL", "where triggerd listens: the path of a socket, or an http:// or https:// URL");
    man_item(b, "-h, --help", NULL, "the verb's options and an example");
    man_section(b, "Exit status");
    man_text(b, "0 done; 1 refused or failed; 2 usage; 3 no daemon at the socket; 4 --timeout ran out.");
    man_section(b, "Environment");
    man_item(
        b, "TRIGGERD_SOCKET", NULL,
        "the socket, where --socket is not given; else, as root, /run/triggerd/triggerd.sock, as a user\n"
        "$XDG_RUNTIME_DIR/triggerd/triggerd.sock or /tmp/triggerd-UID/triggerd.sock, or that of root where one's own\n"
        "is not there");
    man_item(b, "TRIGGERD_TOKEN", NULL, "the bearer token for a URL");
    man_item(b, "TRIGGERD_RUN_ID, TRACEPARENT", NULL, "set in steps: what they emit belongs to the chain of their run");
    man_item(b, "NO_COLOR", NULL, "no colour, on a terminal either");
    man_item(b, "VISUAL, EDITOR", NULL, "the editor of triggerctl edit");
    man_see_also(b, see);
}

/* ---- triggerd-manifest.5 ---- */

static void add_kind(struct buf *b, const char *what, const struct kind *kind)
{
    struct buf title = {0};
    buf_printf(&title, "%s %s", what, kind->name);
    man_subsection(b, title.data);
    buf_fini(&title);
    man_text(b, kind->config->doc);
    man_fields(b, kind->config);
    if (kind->has_filter)
        man_fields(b, &trigger_filter_fields);
}

static void page_of_manifest(struct buf *b)
{
    static const char *const see[] = {"triggerctl(1)", "triggerd.yaml(5)", "triggerd(8)", NULL};
    man_begin(b, "triggerd-manifest", 5, "File formats", "triggers, pipelines and MCP servers as files");
    man_section(b, "Description");
    man_text(
        b,
        "A manifest directory holds *.yaml, *.yml and *.json files, in sub-folders too. Each document of a file is a\n"
        "trigger or, with kind: pipeline, a pipeline, or, with kind: mcp_server, an MCP server. Keys that start with "
        "x- are ignored.\n\n"
        "triggerctl explain tells the same of single keys, triggerctl init prints a manifest to start from.");
    man_section(b, "Trigger");
    man_fields(b, &trigger_fields);
    man_section(b, "Trigger types");
    for (size_t i = 0; manifest_source_kinds()[i]; i++)
        add_kind(b, "config of", manifest_source_kinds()[i]);
    man_section(b, "Pipeline");
    man_fields(b, &pipeline_fields);
    man_section(b, "MCP server");
    man_fields(b, &mcp_server_fields);
    man_section(b, "Step");
    man_fields(b, &step_fields);
    man_section(b, "Kinds of step");
    for (size_t i = 0; manifest_step_kinds()[i]; i++)
        add_kind(b, "step", manifest_step_kinds()[i]);
    man_see_also(b, see);
}

int verb_man(struct ctl *c, const struct args *a)
{
    struct buf b = {0};
    (void)c;
    if (streq(a->words[0], "triggerctl.1"))
        page_of_triggerctl(&b);
    else
        page_of_manifest(&b);
    fputs(b.data, stdout);
    buf_fini(&b);
    return CTL_OK;
}
