#include "man.h"

#include "config.h"
#include "manifest/man.h"

#include <stdio.h>

/* An option of the text of --help: `  --name VALUE    what it does`. False: the line is none. */
static bool option_line(const char *line, size_t len, struct buf *ret_tag, char **ret_value, char **ret_text)
{
    const char *end = line + len, *p = line + 2;
    if (len < 5 || strncmp(line, "  --", 4) != 0)
        return false;
    ret_tag->len = 0;
    while (p < end && *p != ' ')
        buf_addc(ret_tag, *p++);
    const char *value = p < end && p[0] == ' ' && p + 1 < end && p[1] != ' ' ? p + 1 : NULL;
    for (p = value ? value : p; value && p < end && strncmp(p, "  ", 2) != 0;)
        p++;
    *ret_value = value ? xstrndup(value, (size_t)(p - value)) : NULL;
    while (p < end && *p == ' ')
        p++;
    *ret_text = xstrndup(p, (size_t)(end - p));
    return true;
}

static void page_of_triggerd(struct buf *b, const char *help)
{
    static const char *const see[] = {"triggerctl(1)", "triggerd.yaml(5)", "triggerd-manifest(5)", NULL};
    struct buf tag = {0};
    man_begin(b, "triggerd", 8, "System administration", "run pipelines when something happens");
    man_section(b, "Synopsis");
    buf_adds(b, ".B triggerd\n[\\fIOPTION\\fR]...\n");
    man_section(b, "Description");
    man_text(
        b,
        "Watches directories of manifests, runs what they want: sources of events, triggers, pipelines; records what\n"
        "happens before it is acknowledged, and answers for each event and trigger why it did or did not fire.");
    man_section(b, "Options");
    for (const char *p = help; *p;) {
        size_t n = strcspn(p, "\n");
        char *value = NULL, *text = NULL;
        if (option_line(p, n, &tag, &value, &text))
            man_item(b, tag.data, value, *text ? text : "as usual");
        free(value);
        free(text);
        p += n + (p[n] == '\n');
    }
    man_section(b, "Environment");
    man_item(b, "FLOWMASON_TRIGGERS_ENABLED", NULL, "false starts everything but the firing");
    man_section(b, "Signals");
    man_item(
        b, "SIGTERM, SIGINT", NULL,
        "drain: take no more events, let runs end for shutdown_grace_seconds, keep the others for the next start; a\n"
        "second one exits at once");
    man_item(b, "SIGHUP", NULL, "read the manifests again");
    man_section(b, "Files");
    man_item(b, "/etc/triggerd/triggerd.yaml", NULL, "settings");
    man_item(b, "/etc/triggerd/manifests", NULL, "manifests");
    man_item(b, "/var/lib/triggerd", NULL, "events, runs and state");
    man_item(b, "/run/triggerd/triggerd.sock", NULL, "the API");
    man_text(b, "\nAs a user, those of XDG: see --help.");
    man_see_also(b, see);
    buf_fini(&tag);
}

static void page_of_config(struct buf *b)
{
    static const char *const see[] = {"triggerd(8)", "triggerctl(1)", "triggerd-manifest(5)", NULL};
    man_begin(b, "triggerd.yaml", 5, "File formats", "settings of triggerd");
    man_section(b, "Description");
    man_text(b,
             "One YAML document, at /etc/triggerd/triggerd.yaml (for other users than root $XDG_CONFIG_HOME/triggerd/"
             "triggerd.yaml) or where --config says. What the command line says wins.");
    man_section(b, "Keys");
    man_fields(b, &config_fields);
    man_section(b, "Example");
    man_example(b, "manifests: [/etc/triggerd/manifests]\n"
                   "log_format: json\n"
                   "retention: {days: 30}");
    man_see_also(b, see);
}

bool man_print(const char *page, const char *help)
{
    struct buf b = {0};
    if (streq(page, "triggerd.8"))
        page_of_triggerd(&b, help);
    else if (streq(page, "triggerd.yaml.5"))
        page_of_config(&b);
    else
        return false;
    fputs(b.data, stdout);
    buf_fini(&b);
    return true;
}
