#include "ctl/args.h"

#include "base/util.h"
#include "ctl/print.h"

#include <stdio.h>

#define HELP_COLUMN 26 /* where what explains an option starts */
#define USAGE_COLUMNS 110
#define USAGE "usage: "
#define NAMES_MAX 64

/* ---- help ---- */

/* ` VALUE`, with the words where only those are allowed. */
static void add_value(struct buf *b, const struct option_row *o)
{
    if (!o->value)
        return;
    buf_addc(b, ' ');
    if (!o->words)
        buf_adds(b, o->value);
    for (size_t i = 0; o->words && o->words[i]; i++)
        buf_printf(b, "%s%s", i ? "|" : "", o->words[i]);
}

/* `triggerctl VERB ARGUMENTS [OPTIONS]`; lines after the first are indented by `indent`. */
static char *usage_text(const struct verb *v, size_t indent)
{
    struct buf b = {0}, part = {0};
    buf_printf(&b, "triggerctl %s", v->name);
    for (const struct argument *a = v->arguments; a->name; a++)
        buf_printf(&b, " %s%s%s%s", a->optional ? "[" : "", a->name, a->many ? "..." : "", a->optional ? "]" : "");
    size_t line = b.len;
    for (int i = 0; i < OPT_N; i++) {
        const struct option_row *o = &option_rows[i];
        if (!(v->options & OPT(i)))
            continue;
        part.len = 0;
        if (o->letter)
            buf_printf(&part, "[-%c", o->letter);
        else
            buf_printf(&part, "[--%s", o->name);
        add_value(&part, o);
        buf_addc(&part, ']');
        bool fits = line + 1 + part.len <= USAGE_COLUMNS - indent;
        buf_printf(&b, fits ? " %*s%s" : "\n%*s%s", fits ? 0 : (int)indent + 4, "", part.data);
        line = fits ? line + 1 + part.len : 4 + part.len;
    }
    buf_fini(&part);
    return buf_steal(&b);
}

static void print_option(const struct option_row *o)
{
    struct buf b = {0};
    if (o->letter)
        buf_printf(&b, "-%c, ", o->letter);
    buf_printf(&b, "--%s", o->name);
    if (o->value)
        buf_printf(&b, " %s", o->value);
    printf("  %-*s %s", HELP_COLUMN, b.data, o->doc);
    for (size_t i = 0; o->words && o->words[i]; i++)
        printf("%s%s", i ? ", " : ": ", o->words[i]);
    printf("\n");
    buf_fini(&b);
}

static const struct option_row socket_row = {
    .name = "socket",
    .value = "PATH|URL",
    .doc = "where triggerd listens; default TRIGGERD_SOCKET, see triggerctl --help"};
static const struct option_row help_row = {.name = "help", .letter = 'h', .doc = "this text"};

static void print_indented(const char *text)
{
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\n");
        printf("  %.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
}

static void print_verb_help(const struct verb *v)
{
    _cleanup_(freep) char *usage = usage_text(v, strlen(USAGE));
    printf("%s\n\n" USAGE "%s\n", v->summary, usage);
    if (v->text)
        printf("\n%s\n", v->text);
    printf("\noptions:\n");
    for (int i = 0; i < OPT_N; i++)
        if (v->options & OPT(i))
            print_option(&option_rows[i]);
    print_option(&socket_row);
    print_option(&help_row);
    printf("\nexample:\n");
    print_indented(v->example);
}

static void print_help(void)
{
    const char *group = NULL;
    printf("triggerctl: look at and act on triggers, pipelines, events and runs of triggerd\n\n"
           "usage: triggerctl [--socket PATH|URL] VERB ...\n");
    for (size_t i = 0; i < n_verbs; i++) {
        if (!verbs[i].group)
            continue;
        if (!streq(group, verbs[i].group))
            printf("\n%s:\n", group = verbs[i].group);
        printf("  %-11s %s\n", verbs[i].name, verbs[i].summary);
    }
    printf("\n"
           "triggerctl VERB --help shows its options and an example.\n\n"
           "The socket is --socket, else TRIGGERD_SOCKET, else that of triggerd's own defaults: as root\n"
           "/run/triggerd/triggerd.sock, as a user $XDG_RUNTIME_DIR/triggerd/triggerd.sock or, without that variable,\n"
           "/tmp/triggerd-UID/triggerd.sock, and where that is not there, root's. An http:// or https:// URL is used "
           "as it\n"
           "is, with TRIGGERD_TOKEN, where set, as bearer token. In a step, what is emitted belongs to the chain of "
           "its run\n"
           "(TRIGGERD_RUN_ID, TRACEPARENT).\n\n"
           "exit status: 0 done; 1 refused or failed; 2 usage; 3 no daemon at the socket; 4 --timeout ran out\n");
}

/* ---- usage errors ---- */

static void refuse_line(const char *verb, const char *format, va_list args)
{
    _cleanup_(freep) char *text = xvasprintf(format, args);
    struct buf safe = {0};
    text_escape(&safe, text);
    fprintf(stderr, "triggerctl: %s%s%s\n", verb ? verb : "", verb ? ": " : "", safe.data ? safe.data : "");
    buf_fini(&safe);
}

int args_refuse(const struct args *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    refuse_line(a->verb->name, format, args);
    va_end(args);
    _cleanup_(freep) char *usage = usage_text(a->verb, strlen(USAGE));
    fprintf(stderr, USAGE "%s\n", usage);
    return CTL_USAGE;
}

/* One before there is a verb. */
static int refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int refuse(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    refuse_line(NULL, format, args);
    va_end(args);
    fprintf(stderr, "usage: triggerctl [--socket PATH|URL] VERB ... (triggerctl --help)\n");
    return CTL_USAGE;
}

int args_check_word(const struct args *a, const char *what, const char *word, const char *const *words)
{
    size_t n = 0;
    for (; words[n]; n++)
        if (streq(words[n], word))
            return -1;
    return args_refuse(a, "%s: there is no \"%s\"; did you mean \"%s\"?", what, word, nearest_name(word, words, n));
}

/* ---- verbs ---- */

const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < n_verbs; i++)
        if (streq(verbs[i].name, name))
            return &verbs[i];
    return NULL;
}

static int unknown_verb(const char *word)
{
    const char *names[NAMES_MAX];
    size_t n = 0;
    for (size_t i = 0; i < n_verbs && n < NAMES_MAX; i++)
        if (verbs[i].group)
            names[n++] = verbs[i].name;
    return refuse("unknown verb \"%s\"; did you mean \"%s\"?", word, nearest_name(word, names, n));
}

/* ---- options ---- */

struct parser {
    int argc, at;
    char **argv;
    struct args *args;
    const char **socket;
    bool help, version;
};

static int unknown_option(const struct parser *p, const char *word)
{
    const char *names[OPT_N + 3];
    const struct verb *v = p->args->verb;
    size_t n = 0;
    for (int i = 0; v && i < OPT_N; i++)
        if (v->options & OPT(i))
            names[n++] = option_rows[i].name;
    names[n++] = "socket";
    names[n++] = "help";
    if (!v)
        names[n++] = "version";
    const char *near = nearest_name(word + strspn(word, "-"), names, n);
    return v ? args_refuse(p->args, "unknown option \"%s\"; did you mean \"--%s\"?", word, near)
             : refuse("unknown option \"%s\"; did you mean \"--%s\"?", word, near);
}

/* The option's value: what stood after `=` or the letter, else the next word. NULL: there is none. */
static const char *take_value(struct parser *p, const char *inside)
{
    if (inside)
        return inside;
    return p->at < p->argc ? p->argv[p->at++] : NULL;
}

static int missing_value(const struct parser *p, const char *name, const char *value)
{
    return p->args->verb ? args_refuse(p->args, "--%s needs a value: %s", name, value)
                         : refuse("--%s needs a value: %s", name, value);
}

static int set_option(struct parser *p, int id, const char *inside)
{
    const struct option_row *o = &option_rows[id];
    if (!o->value) {
        if (inside)
            return args_refuse(p->args, "--%s takes no value", o->name);
        p->args->values[id] = "";
        return -1;
    }
    const char *value = take_value(p, inside);
    if (!value)
        return missing_value(p, o->name, o->value);
    p->args->values[id] = value;
    _cleanup_(freep) char *what = xasprintf("--%s", o->name);
    return o->words ? args_check_word(p->args, what, value, o->words) : -1;
}

/* `--name`, `--name=value`. -1: taken. */
static int long_option(struct parser *p, const char *word)
{
    const char *name = word + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const char *inside = equals ? equals + 1 : NULL;
    _cleanup_(freep) char *text = xstrndup(name, len);
    const struct verb *v = p->args->verb;
    for (int i = 0; v && i < OPT_N; i++)
        if ((v->options & OPT(i)) && streq(option_rows[i].name, text))
            return set_option(p, i, inside);
    if (streq(text, "socket")) {
        const char *value = take_value(p, inside);
        if (!value || !*value)
            return missing_value(p, "socket", socket_row.value);
        *p->socket = value;
        return -1;
    }
    if (!inside && streq(text, "help")) {
        p->help = true;
        return -1;
    }
    if (!inside && !v && streq(text, "version")) {
        p->version = true;
        return -1;
    }
    return unknown_option(p, word);
}

/* `-o value`, `-ovalue`; `-h`. -1: taken. */
static int short_option(struct parser *p, const char *word)
{
    const struct verb *v = p->args->verb;
    const char *inside = word[2] ? word + 2 : NULL;
    for (int i = 0; v && i < OPT_N; i++)
        if ((v->options & OPT(i)) && option_rows[i].letter == word[1])
            return set_option(p, i, inside);
    if (word[1] == 'h' && !inside) {
        p->help = true;
        return -1;
    }
    return unknown_option(p, word);
}

/* ---- words ---- */

/* The word, or that of many where one was meant: `get trigger`. */
static const char *one_of_many(const char *word, const char *const *words)
{
    size_t n = strlen(word);
    for (size_t i = 0; n > 0 && words && words[i]; i++)
        if (strncmp(words[i], word, n) == 0 && streq(words[i] + n, "s"))
            return words[i];
    return word;
}

static int check_words(const struct args *a)
{
    const struct argument *arg = a->verb->arguments;
    for (size_t i = 0; i < a->n; i++) {
        if (!arg->name)
            return args_refuse(a, "\"%s\" is one argument too many", a->words[i]);
        a->words[i] = one_of_many(a->words[i], arg->words);
        if (arg->words && args_check_word(a, arg->name, a->words[i], arg->words) >= 0)
            return CTL_USAGE;
        if (!*a->words[i] && !arg->empty)
            return args_refuse(a, "%s is empty", arg->name);
        if (!arg->many)
            arg++;
    }
    if (arg->name && !arg->optional && !(arg->many && arg - a->verb->arguments < (long)a->n))
        return args_refuse(a, "%s is missing", arg->name);
    return -1;
}

static int take_word(struct parser *p, const char *word)
{
    struct args *a = p->args;
    if (a->verb) {
        a->words[a->n++] = word;
        return -1;
    }
    if (streq(word, "help")) {
        p->help = true;
        return -1;
    }
    a->verb = verb_find(word);
    return a->verb ? -1 : unknown_verb(word);
}

static int take_all(struct parser *p)
{
    bool only_words = false;
    while (p->at < p->argc) {
        const char *word = p->argv[p->at++];
        int r = -1;
        if (!only_words && streq(word, "--"))
            only_words = true, p->args->dashes = p->args->n;
        else if (only_words || word[0] != '-' || !word[1])
            r = take_word(p, word);
        else if (word[1] == '-')
            r = long_option(p, word);
        else
            r = short_option(p, word);
        if (r >= 0)
            return r;
    }
    return -1;
}

int args_parse(int argc, char **argv, struct args *ret, const char **ret_socket)
{
    *ret = (struct args){.words = xcalloc((size_t)argc + 1, sizeof(*ret->words)), .dashes = SIZE_MAX};
    struct parser p = {.argc = argc, .at = 1, .argv = argv, .args = ret, .socket = ret_socket};
    int r = take_all(&p);
    if (r >= 0)
        return r;
    ret->dashes = MIN(ret->dashes, ret->n);
    if (p.help && ret->verb)
        print_verb_help(ret->verb);
    else if (p.help)
        print_help();
    else if (p.version)
        printf("triggerctl %s\n", TRIGGERD_VERSION);
    else
        return ret->verb ? check_words(ret) : refuse("a verb is missing");
    return CTL_OK;
}

void args_fini(struct args *a)
{
    free(a->words);
    *a = (struct args){0};
}
