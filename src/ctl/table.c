#include "ctl/table.h"

#include "base/util.h"

static const char *const output_words[] = {"table", "wide", "json", "yaml", "name", NULL};
static const char *const format_words[] = {"text", "json", "yaml", NULL};
static const char *const report_words[] = {"text", "json", "github", "sarif", NULL};

const struct option_row option_rows[OPT_N] = {
    [OPT_OUTPUT] = {"output", 'o', "FORM", output_words, "what to print", COMPLETE_NONE},
    [OPT_FORMAT] = {"output", 'o', "FORM", format_words, "what to print", COMPLETE_NONE},
    [OPT_REPORT] = {"output", 'o', "FORM", report_words, "what to print", COMPLETE_NONE},
    [OPT_TYPE] = {"type", 0, "T", NULL, "only this type of trigger, or of event", COMPLETE_TYPE},
    [OPT_STATUS] = {"status", 0, "S", NULL, "only those with this status", COMPLETE_STATE},
    [OPT_DECISION] = {"decision", 0, "D", NULL, "only events with this decision", COMPLETE_DECISION},
    [OPT_TRIGGER] = {"trigger", 0, "ID", NULL, "only those of this trigger", COMPLETE_TRIGGER},
    [OPT_PIPELINE] = {"pipeline", 0, "ID", NULL, "only those of this pipeline", COMPLETE_PIPELINE},
    [OPT_SINCE] = {"since", 0, "T", NULL, "only from then on: a time (2026-01-31T12:00:00Z) or a duration back (15m)",
                   COMPLETE_NONE},
    [OPT_UNTIL] = {"until", 0, "T", NULL, "only before then: likewise", COMPLETE_NONE},
    [OPT_LIMIT] = {"limit", 0, "N", NULL, "at most so many, the newest; of events and runs 50 by default",
                   COMPLETE_NONE},
    [OPT_DATA] = {"data", 0, "JSON|@FILE|-", NULL,
                  "the event's data: the text, a file, or standard input; {} by default", COMPLETE_DATA},
    [OPT_KEY] = {"idempotency-key", 0, "K", NULL, "the same key at the same endpoint gives one event, not two",
                 COMPLETE_NONE},
    [OPT_DRY_RUN] = {"dry-run", 0, NULL, NULL, "only tell what would happen", COMPLETE_NONE},
    [OPT_DISCARD] = {"discard", 0, NULL, NULL, "drop the events that were held back for the resume", COMPLETE_NONE},
    [OPT_INPUTS] = {"inputs", 0, "JSON|@FILE|-", NULL,
                    "the run's inputs: the text, a file, or standard input; {} by default", COMPLETE_DATA},
    [OPT_WAIT] = {"wait", 0, NULL, NULL, "wait for the end of the run; exit 1 unless it completed", COMPLETE_NONE},
    [OPT_FOR] = {"for", 0, "STATE", NULL, "the state to wait for; completed by default, for triggers active",
                 COMPLETE_STATE},
    [OPT_TIMEOUT] = {"timeout", 0, "S", NULL, "give up after so many seconds, or a duration (5m), with exit 4",
                     COMPLETE_NONE},
    [OPT_STEP] = {"step", 0, "S", NULL, "only this step, its bytes as they are", COMPLETE_STEP},
    [OPT_BATCH] = {"batch", 0, NULL, NULL, "a JSON line in, a JSON line out", COMPLETE_NONE},
    [OPT_FOLLOW] = {"follow", 'f', NULL, NULL, "go on with what comes", COMPLETE_NONE},
    [OPT_EXIT_CODE] = {"exit-code", 0, NULL, NULL, "tell by the exit code: 0 the same, 1 different, 2 an error",
                       COMPLETE_NONE},
    [OPT_ARGS] = {"args", 0, "JSON|@FILE|-", NULL,
                  "what the tool is given: the text, a file, or standard input; {} by default", COMPLETE_DATA},
    [OPT_WATCH] = {"watch", 'w', NULL, NULL, "go on with what changes", COMPLETE_NONE},
};

static const char *const list_words[] = {"triggers", "pipelines", "events", "runs", "manifests", "mcp_servers", NULL};
static const char *const resource_words[] = {"trigger", "pipeline", "run", "event", "mcp_server", NULL};
static const char *const wait_words[] = {"trigger", "run", "event", NULL};
static const char *const shell_words[] = {"bash", "zsh", "fish", NULL};
static const char *const man_words[] = {"triggerctl.1", "triggerd-manifest.5", NULL};
static const char *const own_words[] = {"trigger", "pipeline", "mcp_server", NULL};
static const char *const mcp_words[] = {"list", "tools", "call", "listen", NULL};

#define LOOK "look"
#define ACT "act"
#define APPLY "change what is wanted"
#define WRITE "write manifests (no daemon needed)"
#define LANGUAGES "try out (no daemon needed)"
#define SHELL "the shell"
#define FORM OPT(OPT_FORMAT)

const struct verb verbs[] = {
    {.name = "get",
     .group = LOOK,
     .summary = "List triggers, pipelines, events, runs, manifests or MCP servers, or show one of them",
     .text = "The newest come first. -o name prints ids alone, for scripts; -o json the same objects as REST. With "
             "--watch\n"
             "what there is comes first, then a row for each change; -o json gives a line a row. What an MCP\n"
             "server sends is told by `triggerctl mcp listen`.",
     .example = "triggerctl get triggers --type file_watch\n"
                "triggerctl get events --status failed --since 1h -o wide\n"
                "triggerctl get mcp_servers --watch\n"
                "triggerctl get runs run_01HZY3Q8W2V5T9K4M7N1P6R0XD -o json",
     .arguments = {{.name = "triggers|pipelines|events|runs|manifests|mcp_servers", .words = list_words},
                   {.name = "ID", .optional = true, .complete = COMPLETE_ID}},
     .options = OPT(OPT_OUTPUT) | OPT(OPT_TYPE) | OPT(OPT_STATUS) | OPT(OPT_DECISION) | OPT(OPT_TRIGGER) |
                OPT(OPT_PIPELINE) | OPT(OPT_SINCE) | OPT(OPT_UNTIL) | OPT(OPT_LIMIT) | OPT(OPT_WATCH),
     .run = verb_get},
    {.name = "describe",
     .group = LOOK,
     .summary = "Tell all about one of them: why did it not fire?",
     .text =
         "Of a trigger: its status, conditions, last decisions with their reasons, and what its filter turned away.",
     .example = "triggerctl describe trigger process-new-csv-files\n"
                "triggerctl describe event evt_01HZY3Q8W2V5T9K4M7N1P6R0XD",
     .arguments = {{.name = "trigger|pipeline|run|event|mcp_server", .words = resource_words},
                   {.name = "ID", .complete = COMPLETE_ID}},
     .options = FORM,
     .run = verb_describe},
    {.name = "events",
     .group = LOOK,
     .summary = "List the newest events, of all triggers or of one, or follow them",
     .text = "-f prints a row each time that an event's status changes, from now on (with --limit also the newest "
             "before);\n"
             "-o json a line each. Where the daemon is restarted meanwhile, it goes on with the new one.",
     .example = "triggerctl events process-new-csv-files --limit 10\n"
                "triggerctl events -f --status failed -o json",
     .arguments = {{.name = "TRIGGER", .optional = true, .complete = COMPLETE_TRIGGER}},
     .options = OPT(OPT_OUTPUT) | OPT(OPT_TYPE) | OPT(OPT_STATUS) | OPT(OPT_DECISION) | OPT(OPT_SINCE) |
                OPT(OPT_UNTIL) | OPT(OPT_LIMIT) | OPT(OPT_FOLLOW),
     .run = verb_events},
    {.name = "logs",
     .group = LOOK,
     .summary = "Print what the steps of a run wrote, standard output and standard error",
     .text =
         "Both are printed on standard output. Without --step each has a title. -f goes on until the run has ended.",
     .example = "triggerctl logs run_01HZY3Q8W2V5T9K4M7N1P6R0XD --step load -f",
     .arguments = {{.name = "RUN", .complete = COMPLETE_RUN}},
     .options = OPT(OPT_STEP) | OPT(OPT_FOLLOW),
     .run = verb_logs},
    {.name = "stats",
     .group = LOOK,
     .summary = "Show how many triggers there are, and what their events of the last 24 hours came to",
     .example = "triggerctl stats -o json",
     .options = FORM,
     .run = verb_stats},
    {.name = "status",
     .group = LOOK,
     .summary = "Show the daemon's own state",
     .example = "triggerctl status",
     .options = FORM,
     .run = verb_status},
    {.name = "version",
     .group = LOOK,
     .summary = "Show the version of triggerctl, and of the daemon where one answers",
     .example = "triggerctl version",
     .options = FORM,
     .run = verb_version},
    {.name = "doctor",
     .group = LOOK,
     .summary = "Check what triggers need of this machine, and tell what to do about it",
     .text = "inotify, FUSE, the sandbox, limits, the state directory, the clock; where a daemon answers, also its "
             "store, its\n"
             "manifests and whether its sources are connected. Each line is ok, warn or fail; exit 1 if any fails.",
     .example = "triggerctl doctor",
     .options = FORM,
     .run = verb_doctor},
    {.name = "wait",
     .group = LOOK,
     .summary = "Wait until a trigger, a run or an event is in a state",
     .text =
         "Ends when the state is reached (exit 0), at any other state that is final (exit 1), or when --timeout runs\n"
         "out (exit 4). Runs and events end as completed, failed, cancelled, timed_out (runs) or skipped (events); a\n"
         "trigger's state is never final, and a trigger that does not exist yet is waited for.",
     .example = "triggerctl wait event evt_01HZY3Q8W2V5T9K4M7N1P6R0XD --timeout 60\n"
                "triggerctl wait trigger process-new-csv-files --for active --timeout 5",
     .arguments = {{.name = "trigger|run|event", .words = wait_words}, {.name = "ID", .complete = COMPLETE_ID}},
     .options = OPT(OPT_FOR) | OPT(OPT_TIMEOUT) | FORM,
     .run = verb_wait},
    {.name = "emit",
     .group = ACT,
     .summary = "Emit an event at an endpoint",
     .text = "Prints a line for each trigger that took it: event, trigger, status, decision and reason.",
     .example = "triggerctl emit user_events --data '{\"action\": \"signup\", \"user\": {\"id\": 7}}'\n"
                "triggerctl emit user_events --data @event.json --idempotency-key order-17",
     .arguments = {{.name = "ENDPOINT", .complete = COMPLETE_ENDPOINT}},
     .options = OPT(OPT_DATA) | OPT(OPT_KEY) | FORM,
     .run = verb_emit},
    {.name = "test",
     .group = ACT,
     .summary = "Run a trigger's pipeline with data of your own, or tell what would happen",
     .text =
         "Past the filter, also of a disabled trigger, but obeying pause, cooldown and limits. --dry-run runs nothing\n"
         "and goes through the filter first.",
     .example = "triggerctl test handle-user-events --data '{\"action\": \"signup\"}' --dry-run",
     .arguments = {{.name = "TRIGGER", .complete = COMPLETE_TRIGGER}},
     .options = OPT(OPT_DATA) | OPT(OPT_DRY_RUN) | FORM,
     .run = verb_test},
    {.name = "run",
     .group = ACT,
     .summary = "Start a run of a pipeline by hand",
     .example = "triggerctl run pipe_data_import --inputs '{\"file_path\": \"/data/a.csv\"}' --wait",
     .arguments = {{.name = "PIPELINE", .complete = COMPLETE_PIPELINE}},
     .options = OPT(OPT_INPUTS) | OPT(OPT_WAIT) | OPT(OPT_TIMEOUT) | FORM,
     .run = verb_run},
    {.name = "cancel",
     .group = ACT,
     .summary = "Cancel a run that is under way",
     .example = "triggerctl cancel run_01HZY3Q8W2V5T9K4M7N1P6R0XD",
     .arguments = {{.name = "RUN", .complete = COMPLETE_RUN}},
     .options = FORM,
     .run = verb_cancel},
    {.name = "replay",
     .group = ACT,
     .summary = "Make new events from the data of old ones",
     .text = "The old ones are named, or found by a filter: then all that it finds up to now are replayed, the oldest\n"
             "first. --dry-run only shows them. Inputs are mapped anew, by the trigger as it is now.",
     .example = "triggerctl replay evt_01HZY3Q8W2V5T9K4M7N1P6R0XD\n"
                "triggerctl replay --trigger process-new-csv-files --status failed --since 2h --dry-run",
     .arguments = {{.name = "EVENT", .optional = true, .many = true, .complete = COMPLETE_EVENT}},
     .options = OPT(OPT_TRIGGER) | OPT(OPT_PIPELINE) | OPT(OPT_TYPE) | OPT(OPT_STATUS) | OPT(OPT_DECISION) |
                OPT(OPT_SINCE) | OPT(OPT_UNTIL) | OPT(OPT_DRY_RUN) | FORM,
     .run = verb_replay},
    {.name = "pause",
     .group = ACT,
     .summary = "Pause a trigger; its manifest stays as it is",
     .example = "triggerctl pause process-new-csv-files",
     .arguments = {{.name = "TRIGGER", .complete = COMPLETE_TRIGGER}},
     .options = FORM,
     .run = verb_pause},
    {.name = "resume",
     .group = ACT,
     .summary = "Resume a trigger that is paused or in error",
     .example = "triggerctl resume process-new-csv-files --discard",
     .arguments = {{.name = "TRIGGER", .complete = COMPLETE_TRIGGER}},
     .options = OPT(OPT_DISCARD) | FORM,
     .run = verb_resume},
    {.name = "mcp",
     .group = ACT,
     .summary = "List MCP servers and their tools, call a tool, or listen to what a server sends",
     .text = "SERVER is the name of a declared one, which the daemon asks over the connection that it has. A command "
             "behind --,\n"
             "or a URL, is asked from here and needs no daemon:\n"
             "  mcp list\n"
             "  mcp tools SERVER|URL              mcp tools -- COMMAND...\n"
             "  mcp call SERVER|URL TOOL          mcp call TOOL -- COMMAND...\n"
             "  mcp listen SERVER|URL             mcp listen -- COMMAND...\n"
             "call exits 1 where the tool says that it failed. listen prints a JSON line {\"event_type\", \"method\", "
             "\"params\"}\n"
             "for each notification: what would my trigger see?",
     .example = "triggerctl mcp tools -- npx -y @modelcontextprotocol/server-everything\n"
                "triggerctl mcp call database query --args '{\"id\": 7}'\n"
                "triggerctl mcp listen database",
     .arguments =
         {{.name = "list|tools|call|listen", .words = mcp_words},
          {.name = "SERVER|URL|TOOL", .optional = true, .many = true, .empty = true, .complete = COMPLETE_MCP_SERVER}},
     .options = FORM | OPT(OPT_ARGS) | OPT(OPT_TIMEOUT),
     .run = verb_mcp},
    {.name = "diff",
     .group = APPLY,
     .summary = "Show how manifests differ from what runs, and what applying them would do",
     .text =
         "Below each difference stands what it does at runtime. Directories that are the daemon's also show what is\n"
         "gone from them. With --exit-code: 0 the same, 1 different, 2 an error.",
     .example = "triggerctl diff manifests/\n"
                "triggerctl diff trigger.yaml --exit-code > /dev/null || echo it differs",
     .arguments = {{.name = "PATH", .many = true, .complete = COMPLETE_FILE}},
     .options = OPT(OPT_EXIT_CODE) | FORM,
     .run = verb_diff},
    {.name = "apply",
     .group = APPLY,
     .summary = "Bring manifests into force: all of them, or none",
     .text =
         "A resource that exists is edited in the file that it lives in, the rest of which is kept; one that does not\n"
         "becomes a file in the daemon's first writable manifest directory. - reads standard input. When it returns,\n"
         "all is in force; for each resource it says created, changed or unchanged.",
     .example = "triggerctl apply manifests/\n"
                "triggerctl init custom | sed 's/My custom/Orders/' | triggerctl apply -",
     .arguments = {{.name = "PATH", .many = true, .complete = COMPLETE_FILE}},
     .options = FORM,
     .run = verb_apply},
    {.name = "edit",
     .group = APPLY,
     .summary = "Edit the manifest of a trigger, a pipeline or an MCP server in $VISUAL or $EDITOR",
     .text = "What is not valid is opened again with its errors as comments. Left as it was, nothing happens; left "
             "invalid,\n"
             "the text is kept in a file.",
     .example = "EDITOR=nano triggerctl edit trigger process-new-csv-files",
     .arguments = {{.name = "trigger|pipeline|mcp_server", .words = own_words},
                   {.name = "ID", .complete = COMPLETE_ID}},
     .run = verb_edit},
    {.name = "delete",
     .group = APPLY,
     .summary = "Delete a trigger, a pipeline or an MCP server from its manifest, at once",
     .example = "triggerctl delete trigger process-new-csv-files",
     .arguments = {{.name = "trigger|pipeline|mcp_server", .words = own_words},
                   {.name = "ID", .complete = COMPLETE_ID}},
     .options = FORM,
     .run = verb_delete},
    {.name = "validate",
     .group = WRITE,
     .summary = "Check manifests; every error as FILE:LINE:COL: message",
     .text =
         "Directories are walked: *.yaml, *.yml, *.json that are not hidden; - is standard input. Needs no daemon.\n"
         "Exit 0 if there is no error (warnings are none), 1 if there is any, 2 for wrong usage.\n"
         "-o github prints workflow commands, -o sarif SARIF 2.1.0, -o json one object:\n"
         "{\"valid\", \"files\", \"resources\", \"errors\": [{\"file\", \"line\", \"column\", \"severity\": \"error\" "
         "or\n"
         "\"warning\", \"path\": the field, \"message\"}]}; line and column are 0 where a file cannot be read.",
     .example = "triggerctl validate manifests/\n"
                "git show HEAD:manifests/a.yaml | triggerctl validate -\n"
                "triggerctl validate manifests/ -o sarif > manifests.sarif",
     .arguments = {{.name = "PATH", .many = true, .complete = COMPLETE_FILE}},
     .options = OPT(OPT_REPORT),
     .run = verb_validate},
    {.name = "explain",
     .group = WRITE,
     .summary = "Explain a key of manifests: type, range, default, meaning",
     .text = "KIND is trigger, pipeline, mcp_server, step, retry, a type of trigger, or a kind of step.",
     .example = "triggerctl explain trigger\n"
                "triggerctl explain file_watch.debounce_seconds\n"
                "triggerctl explain step.retry.factor",
     .arguments = {{.name = "KIND[.FIELD...]", .complete = COMPLETE_EXPLAIN}},
     .run = verb_explain},
    {.name = "init",
     .group = WRITE,
     .summary = "Print a manifest to start from: a type of trigger, pipeline, or mcp_server",
     .example = "triggerctl init file_watch > manifests/incoming.yaml",
     .arguments = {{.name = "TYPE", .complete = COMPLETE_INIT}},
     .run = verb_init},
    {.name = "path",
     .group = LANGUAGES,
     .summary = "Select from the JSON on standard input by an RFC 9535 path",
     .text =
         "Prints what it selects as one JSON array. With --batch each line {\"selector\", \"document\"} gives a line\n"
         "{\"result\": [...]} or {\"error\": \"...\"}.",
     .example = "echo '{\"a\": [1, 2, 3]}' | triggerctl path '$.a[?@ > 1]'",
     .arguments = {{.name = "EXPR", .optional = true}},
     .options = OPT(OPT_BATCH),
     .run = verb_path},
    {.name = "match",
     .group = LANGUAGES,
     .summary = "Tell whether an event pattern (a trigger's filter) matches the JSON on standard input",
     .text =
         "Prints `match` and exits 0, or prints why it does not and exits 1. PATTERN is JSON or @FILE. With --batch "
         "each\n"
         "line {\"pattern\", \"event\"} gives a line {\"match\": true}, {\"match\": false, \"reason\": \"...\"} or\n"
         "{\"error\": \"...\"}.",
     .example = "echo '{\"age\": 20}' | triggerctl match '{\"age\": [{\"numeric\": [\">=\", 18]}]}'",
     .arguments = {{.name = "PATTERN", .optional = true}},
     .options = OPT(OPT_BATCH),
     .run = verb_match},
    {.name = "completion",
     .group = SHELL,
     .summary = "Print the completion of bash, zsh or fish; ids come from the daemon",
     .text = "An installed triggerctl brings it along.",
     .example = "source <(triggerctl completion bash)\n"
                "triggerctl completion fish | source",
     .arguments = {{.name = "bash|zsh|fish", .words = shell_words}},
     .run = verb_completion},
    {.name = "man",
     .summary = "Print a manual page, made of the same tables",
     .example = "triggerctl man triggerctl.1 | man -l -",
     .arguments = {{.name = "triggerctl.1|triggerd-manifest.5", .words = man_words}},
     .run = verb_man},
    {.name = "__complete",
     .summary = "Tell what can stand in the place of the last word; for the shells' completions",
     .example = "triggerctl __complete -- get tr",
     .arguments = {{.name = "WORD", .many = true, .empty = true}},
     .run = verb_complete},
};
const size_t n_verbs = ARRAY_SIZE(verbs);
