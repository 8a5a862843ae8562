/* Completion. The shells' scripts are a few lines each and ask `triggerctl __complete WORD...`: what can stand in the
 * place of the last word? The table of verbs answers, and for ids the daemon. A line for each: the word, and after a tab
 * what it means; or one of these for the shell to do: `:files`, `:@files` (with an @ before them). */
#include "ctl/args.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "ctl/views.h"
#include "manifest/kinds.h"
#include "model/mcp_server.h"
#include "model/pipeline.h"
#include "model/trigger.h"

#include <stdio.h>

#define HURRY_MS 2000L /* nobody waits longer for a list */
#define IDS_MAX 500
#define FIELDS_MAX 128

static const char bash_script[] = "# bash completion of triggerctl: source <(triggerctl completion bash)\n"
                                  "_triggerctl() {\n"
                                  "    local words=() word line cur i\n"
                                  "    for ((i = 1; i <= COMP_CWORD; i++)); do\n"
                                  "        word=${COMP_WORDS[i]}\n"
                                  "        # bash cuts --option=value at its =\n"
                                  "        if ((${#words[@]})) && [[ $word == = || ${COMP_WORDS[i - 1]} == = ]]; then\n"
                                  "            words[${#words[@]} - 1]+=$word\n"
                                  "        else\n"
                                  "            words+=(\"$word\")\n"
                                  "        fi\n"
                                  "    done\n"
                                  "    cur=${COMP_WORDS[COMP_CWORD]}\n"
                                  "    [[ $cur == = ]] && cur=\n"
                                  "    COMPREPLY=()\n"
                                  "    while IFS= read -r line; do\n"
                                  "        case $line in\n"
                                  "        :files | :@files)\n"
                                  "            compopt -o filenames 2>/dev/null\n"
                                  "            [[ $line == :@files ]] && word=@ || word=\n"
                                  "            while IFS= read -r line; do COMPREPLY+=(\"$line\"); done < <(compgen -P "
                                  "\"$word\" -f -- \"${cur#\"$word\"}\")\n"
                                  "            ;;\n"
                                  "        *)\n"
                                  "            line=${line%%$'\\t'*}\n"
                                  "            [[ $line == --*=* ]] && line=${line#*=}\n"
                                  "            COMPREPLY+=(\"$line\")\n"
                                  "            ;;\n"
                                  "        esac\n"
                                  "    done < <(\"${COMP_WORDS[0]}\" __complete -- \"${words[@]}\" 2>/dev/null)\n"
                                  "}\n"
                                  "complete -F _triggerctl triggerctl\n";

static const char zsh_script[] =
    "#compdef triggerctl\n"
    "# zsh completion of triggerctl: in fpath as _triggerctl, or source <(triggerctl completion zsh)\n"
    "_triggerctl() {\n"
    "    local -a found\n"
    "    local line\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        :files) _files ;;\n"
    "        :@files) compset -P @ && _files || compadd -S '' -- @ ;;\n"
    "        *) found+=(\"${${line//:/\\\\:}/$'\\t'/:}\") ;;\n"
    "        esac\n"
    "    done < <(\"${words[1]}\" __complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
    "    (( ${#found} )) && _describe triggerctl found\n"
    "}\n"
    "if [[ ${funcstack[1]} == _triggerctl ]]; then\n"
    "    _triggerctl \"$@\"\n"
    "else\n"
    "    compdef _triggerctl triggerctl\n"
    "fi\n";

static const char fish_script[] =
    "# fish completion of triggerctl: triggerctl completion fish | source\n"
    "function __triggerctl_complete\n"
    "    set -l words (commandline -opc)\n"
    "    set -l current (commandline -ct)\n"
    "    for line in ($words[1] __complete -- $words[2..-1] \"$current\" 2>/dev/null)\n"
    "        switch $line\n"
    "            case ':files'\n"
    "                __fish_complete_path \"$current\"\n"
    "            case ':@files'\n"
    "                for path in (__fish_complete_path (string sub -s 2 -- \"$current\"))\n"
    "                    echo @$path\n"
    "                end\n"
    "            case '*'\n"
    "                echo $line\n"
    "        end\n"
    "    end\n"
    "end\n"
    "complete -c triggerctl -f -a '(__triggerctl_complete)'\n";

int verb_completion(struct ctl *c, const struct args *a)
{
    (void)c;
    fputs(streq(a->words[0], "bash") ? bash_script : streq(a->words[0], "zsh") ? zsh_script : fish_script, stdout);
    return CTL_OK;
}

/* ---- what was typed ---- */

struct typed {
    struct ctl *ctl;
    const struct verb *verb; /* NULL: none yet */
    const char *words[ARGUMENTS_MAX + 1];
    size_t n;                       /* positional words before the one that is completed */
    uint64_t given;                 /* options */
    const char *values[OPT_N];      /* of those that have one */
    const struct option_row *wants; /* the option whose value is completed; NULL: none */
    int wants_id;                   /* its number; -1: --socket */
    bool only_words;                /* after -- */
    bool lost;                      /* nothing can be said */
    const char *prefix;             /* of each answer: `--option=`; "" */
    size_t prefix_len;
    const char *now; /* what stands there of the value */
};

static void offer(const struct typed *t, const char *word, const char *about)
{
    struct buf safe = {0};
    if (strncmp(word, t->now, strlen(t->now)) != 0)
        return;
    text_escape(&safe, about ? about : "");
    printf("%.*s%s%s%s\n", (int)t->prefix_len, t->prefix, word, safe.len ? "\t" : "", safe.len ? safe.data : "");
    buf_fini(&safe);
}

static void offer_all(const struct typed *t, const char *const *words)
{
    for (size_t i = 0; words && words[i]; i++)
        offer(t, words[i], NULL);
}

static int find_option(const struct typed *t, const char *name, size_t len, char letter)
{
    for (int i = 0; t->verb && i < OPT_N; i++) {
        const struct option_row *o = &option_rows[i];
        bool by_name = len > 0 && strncmp(o->name, name, len) == 0 && !o->name[len];
        if ((t->verb->options & OPT(i)) && (by_name || (letter && o->letter == letter)))
            return i;
    }
    return OPT_N;
}

static const struct option_row socket_value = {.name = "socket", .value = "PATH", .complete = COMPLETE_FILE};

/* An option before the word that is completed; true: it takes the next word. */
static bool take_option(struct typed *t, const char *word)
{
    bool is_long = word[1] == '-';
    size_t len = is_long ? strcspn(word + 2, "=") : 0;
    int id = find_option(t, word + 2, len, is_long ? '\0' : word[1]);
    bool is_socket = is_long && len == 6 && strncmp(word + 2, "socket", 6) == 0;
    bool inside = is_long ? word[2 + len] == '=' : word[2] != '\0';
    t->wants = is_socket ? &socket_value : id < OPT_N && option_rows[id].value ? &option_rows[id] : NULL;
    t->wants_id = is_socket ? -1 : id;
    if (id < OPT_N)
        t->given |= OPT(id);
    if (inside && is_socket)
        t->ctl->socket = word + 9;
    else if (inside && t->wants)
        t->values[id] = is_long ? word + 3 + len : word + 2;
    if (inside)
        t->wants = NULL;
    return t->wants != NULL;
}

static void take_before(struct typed *t, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *word = words[i];
        if (t->wants && t->wants_id < 0)
            t->ctl->socket = word;
        else if (t->wants)
            t->values[t->wants_id] = word;
        bool was_value = t->wants != NULL;
        t->wants = NULL;
        if (was_value)
            continue;
        if (!t->only_words && streq(word, "--"))
            t->only_words = true;
        else if (!t->only_words && word[0] == '-' && word[1])
            take_option(t, word);
        else if (t->verb)
            t->words[t->n < ARGUMENTS_MAX ? t->n++ : t->n] = word;
        else if (!streq(word, "help") && !(t->verb = verb_find(word)))
            t->lost = true;
    }
}

/* ---- what there is ---- */

/* The list at `path`, one page after the other, `page` from 1; NULL: no answer. Owned by the caller. */
static cJSON *list_page(const struct typed *t, const char *path, bool paged, int page)
{
    struct error err = ERROR_INIT;
    struct ctl *c = t->ctl;
    struct client_reply reply = {0};
    cJSON *answer = NULL;
    if (!c->client && client_create(c->socket, &c->client, &err) < 0)
        return NULL;
    client_hurry(c->client, HURRY_MS);
    _cleanup_(freep) char *url = paged ? xasprintf("%s?page_size=100&page=%d", path, page) : xstrdup(path);
    if (client_request(c->client, &(struct client_request){.method = "GET", .path = url}, &reply, &err) == 0 &&
        reply.status == 200)
        value_parse(reply.body, reply.len, &answer, NULL);
    free(reply.body);
    return answer;
}

/* What each of a list says: at `id` of its member `in` (NULL: of itself), and at `about` what that is (NULL: nothing). */
static void offer_list(const struct typed *t, const char *path, const char *member, const char *in, const char *id,
                       const char *about)
{
    bool bounded = streq(member, "events") || streq(member, "runs"); /* the newest will do */
    bool paged = !streq(member, "manifests");
    for (int page = 1; page <= IDS_MAX / 100; page++) {
        _cleanup_(cjson_deletep) cJSON *answer = list_page(t, path, paged, page);
        const cJSON *list = value_get(answer, member), *item;
        cJSON_ArrayForEach (item, list) {
            const char *word = value_get_string(in ? value_get(item, in) : item, id);
            if (word)
                offer(t, word, about ? value_get_string(item, about) : NULL);
        }
        if (cJSON_GetArraySize(list) < 100 || bounded || !paged)
            break;
    }
}

/* Of a path that has a dot: what may stand after the last one. */
static void offer_fields(const struct typed *t)
{
    const char *names[FIELDS_MAX];
    _cleanup_(freep) char *path = xstrndup(t->now, (size_t)(strrchr(t->now, '.') - t->now));
    size_t n = explain_below(path, names, FIELDS_MAX);
    for (size_t i = 0; i < n; i++) {
        _cleanup_(freep) char *word = xasprintf("%s.%s", path, names[i]);
        offer(t, word, NULL);
    }
}

/* Ids of what the first word says: `trigger`, `triggers`, … */
static void offer_ids(const struct typed *t, const char *kind)
{
    if (strncmp(kind, "trigger", 7) == 0)
        offer_list(t, "/api/v1/triggers", "triggers", NULL, "id", "name");
    else if (strncmp(kind, "pipeline", 8) == 0)
        offer_list(t, "/api/v1/pipelines", "pipelines", NULL, "id", "name");
    else if (strncmp(kind, "mcp_server", 10) == 0)
        offer_list(t, "/api/v1/mcp_servers", "mcp_servers", NULL, "name", "message");
    else if (strncmp(kind, "run", 3) == 0)
        offer_list(t, "/api/v1/runs", "runs", NULL, "id", "pipeline_id");
    else if (strncmp(kind, "event", 5) == 0)
        offer_list(t, "/api/v1/triggers/events", "events", NULL, "id", "trigger_id");
    else if (strncmp(kind, "manifest", 8) == 0)
        offer_list(t, "/api/v1/manifests", "manifests", NULL, "file", NULL);
}

static void offer_steps(const struct typed *t)
{
    struct error err = ERROR_INIT;
    struct client_reply reply = {0};
    struct buf url = {0};
    cJSON *run = NULL;
    const cJSON *step;
    struct ctl *c = t->ctl;
    if (t->n == 0 || (!c->client && client_create(c->socket, &c->client, &err) < 0))
        return;
    client_hurry(c->client, HURRY_MS);
    url_add(&url, "/api/v1/runs/");
    url_part(&url, t->words[0]);
    if (client_request(c->client, &(struct client_request){.method = "GET", .path = url.data}, &reply, &err) == 0)
        value_parse(reply.body, reply.len, &run, NULL);
    cJSON_ArrayForEach (step, value_get(run, "steps")) {
        offer(t, value_get_string(step, "id"), value_get_string(step, "status"));
    }
    free(reply.body);
    buf_fini(&url);
    cJSON_Delete(run);
}

static void offer_kinds(const struct typed *t, const struct kind *const *kinds)
{
    for (size_t i = 0; kinds[i]; i++)
        offer(t, kinds[i]->name, kinds[i]->config->doc);
}

static void offer_states(const struct typed *t)
{
    const char *kind = t->n > 0 ? t->words[0] : "events";
    offer_all(t, strncmp(kind, "trigger", 7) == 0 && !streq(t->verb->name, "events") ? trigger_states
                 : strncmp(kind, "run", 3) == 0                                      ? run_states
                                                                                     : event_states);
}

static void offer_decisions(const struct typed *t)
{
    static const char *const words[] = {"fired",       "filtered",     "duplicate",     "disabled", "paused",
                                        "error",       "loop_blocked", "debounced",     "cooldown", "queue_full",
                                        "concurrency", "replaced",     "mapping_error", NULL};
    offer_all(t, words);
}

static void offer_files(const struct typed *t, const char *how)
{
    if (t->prefix_len == 0)
        printf("%s\n", how);
}

static void offer_some(const struct typed *t, enum complete what)
{
    switch (what) {
    case COMPLETE_NONE:
        break;
    case COMPLETE_FILE:
        offer_files(t, ":files");
        break;
    case COMPLETE_DATA:
        if (t->now[0] == '@')
            offer_files(t, ":@files");
        break;
    case COMPLETE_ID:
        offer_ids(t, t->n > 0 ? t->words[0] : "");
        break;
    case COMPLETE_TRIGGER:
        offer_ids(t, "trigger");
        break;
    case COMPLETE_PIPELINE:
        offer_ids(t, "pipeline");
        break;
    case COMPLETE_RUN:
        offer_ids(t, "run");
        break;
    case COMPLETE_EVENT:
        offer_ids(t, "event");
        break;
    case COMPLETE_MCP_SERVER:
        if (t->n == 1 && !streq(t->words[0], "list"))
            offer_ids(t, "mcp_server");
        break;
    case COMPLETE_ENDPOINT:
        offer_list(t, "/api/v1/triggers/type/custom", "triggers", "config", "endpoint", "name");
        break;
    case COMPLETE_TYPE:
        offer_kinds(t, manifest_source_kinds());
        break;
    case COMPLETE_INIT:
        offer_kinds(t, manifest_source_kinds());
        offer(t, "pipeline", pipeline_fields.doc);
        offer(t, "mcp_server", mcp_server_fields.doc);
        break;
    case COMPLETE_EXPLAIN:
        if (strchr(t->now, '.')) {
            offer_fields(t);
            break;
        }
        offer(t, "trigger", trigger_fields.doc);
        offer(t, "pipeline", pipeline_fields.doc);
        offer(t, "mcp_server", mcp_server_fields.doc);
        offer(t, "step", step_fields.doc);
        offer_kinds(t, manifest_source_kinds());
        offer_kinds(t, manifest_step_kinds());
        break;
    case COMPLETE_STATE:
        offer_states(t);
        break;
    case COMPLETE_DECISION:
        offer_decisions(t);
        break;
    case COMPLETE_STEP:
        offer_steps(t);
        break;
    }
}

/* ---- the verb ---- */

static void offer_options(const struct typed *t)
{
    for (int i = 0; t->verb && i < OPT_N; i++) {
        if (!(t->verb->options & OPT(i)) || t->given & OPT(i))
            continue;
        _cleanup_(freep) char *word = xasprintf("--%s", option_rows[i].name);
        offer(t, word, option_rows[i].doc);
    }
    offer(t, "--help", "options and an example");
    offer(t, "--socket", "where triggerd listens");
    if (!t->verb)
        offer(t, "--version", NULL);
}

static void offer_verbs(const struct typed *t)
{
    for (size_t i = 0; i < n_verbs; i++)
        if (verbs[i].group)
            offer(t, verbs[i].name, verbs[i].summary);
}

static void offer_argument(const struct typed *t)
{
    const struct argument *a = t->verb->arguments;
    for (size_t i = 0; i < t->n && a->name; i++)
        if (!a->many)
            a++;
    if (a->name && a->words)
        offer_all(t, a->words);
    else if (a->name)
        offer_some(t, a->complete);
}

/* `--option=value` under way. */
static void open_inside(struct typed *t, const char *word)
{
    const char *equals = strchr(word, '=');
    if (t->only_words || strncmp(word, "--", 2) != 0 || !equals)
        return;
    _cleanup_(freep) char *before = xstrndup(word, (size_t)(equals - word));
    if (!take_option(t, before))
        t->lost = true;
    t->prefix = word;
    t->prefix_len = (size_t)(equals - word) + 1;
    t->now = equals + 1;
}

int verb_complete(struct ctl *c, const struct args *a)
{
    struct typed t = {.ctl = c, .prefix = ""};
    const char *last = a->n > 0 ? a->words[a->n - 1] : "";
    take_before(&t, a->words, a->n > 0 ? a->n - 1 : 0);
    t.now = last;
    if (!t.wants)
        open_inside(&t, last);
    if (t.lost)
        return CTL_OK;
    if (t.wants && t.wants->words)
        offer_all(&t, t.wants->words);
    else if (t.wants)
        offer_some(&t, t.wants->complete);
    else if (last[0] == '-' && !t.only_words)
        offer_options(&t);
    else if (!t.verb)
        offer_verbs(&t);
    else
        offer_argument(&t);
    return CTL_OK;
}
