#include "config.h"

#include "base/util.h"
#include "dev.h"
#include "man.h"
#include "manifest/document.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const level_words[] = {"error", "warning", "info", "debug", NULL};
static const char *const format_words[] = {"text", "json", NULL};

static const struct field retention_rows[] = {
    {.name = "events",
     .type = &field_int,
     FIELD(struct config_retention, events, int64_t, .default_json = "1000000", .min = 1, .max = 1e12,
           .doc = "How many events are kept at most")},
    {.name = "days",
     .type = &field_number,
     FIELD(struct config_retention, days, double, .default_json = "30", .min = 0, .max = 36500,
           .doc = "How long events and runs are kept, in days")},
    {.name = "run_log_days",
     .type = &field_number,
     FIELD(struct config_retention, run_log_days, double, .default_json = "7", .min = 0, .max = 36500,
           .doc = "How long what steps printed is kept, in days")},
};
static const struct field_table retention_fields = {"retention", "What is kept", sizeof(struct config_retention),
                                                    retention_rows, ARRAY_SIZE(retention_rows)};

static const struct field mount_rows[] = {
    {.name = "dir",
     .type = &field_string,
     FIELD(struct config_mount, dir, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 4000,
           .doc = "Where the files are mounted; none by default", .example = "\"/run/triggerd/mount\"")},
    {.name = "allow_other",
     .type = &field_bool,
     FIELD(struct config_mount, allow_other, bool, .default_json = "false",
           .doc = "Let other users in, as owner, group and modes say; needs user_allow_other in /etc/fuse.conf")},
    {.name = "uid",
     .type = &field_int,
     FIELD(struct config_mount, uid, int64_t, .default_json = "-1", .min = -1, .max = 4294967294.0,
           .doc = "The owner of all files; -1: the daemon's user")},
    {.name = "gid",
     .type = &field_int,
     FIELD(struct config_mount, gid, int64_t, .default_json = "-1", .min = -1, .max = 4294967294.0,
           .doc = "The group of all files; -1: the daemon's group")},
    {.name = "umask",
     .type = &field_string,
     FIELD(struct config_mount, umask, char *, .default_json = "\"0077\"", .flags = FIELD_NOT_EMPTY, .max = 5,
           .doc = "What is taken off the modes, in octal", .example = "\"0027\"")},
};
static const struct field_table mount_fields = {"mount", "The system as files", sizeof(struct config_mount), mount_rows,
                                                ARRAY_SIZE(mount_rows)};
static const char *const scope_words[] = {"read", "emit", "admin", NULL};

static const struct field token_rows[] = {
    {.name = "name",
     .type = &field_string,
     FIELD(struct config_token, name, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 128,
           .doc = "What the log calls it", .example = "\"ci\"")},
    {.name = "file",
     .type = &field_string,
     FIELD(struct config_token, file, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "The file that holds the token; read at start and at SIGHUP",
           .example = "\"/etc/triggerd/ci.token\"")},
    {.name = "scopes",
     .type = &field_words,
     FIELD(struct config_token, scopes, uint64_t, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .words = scope_words,
           .doc = "What it may do: read looks, emit emits, admin does everything and alone writes manifests",
           .example = "[\"read\", \"emit\"]")},
};
static const struct field_table token_fields = {"token", "A bearer token", sizeof(struct config_token), token_rows,
                                                ARRAY_SIZE(token_rows)};

static const struct field tls_rows[] = {
    {.name = "cert_file",
     .type = &field_string,
     FIELD(struct config_tls, cert_file, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "The certificate and those that lead to its authority, PEM; read again at SIGHUP",
           .example = "\"/etc/triggerd/tls.crt\"")},
    {.name = "key_file",
     .type = &field_string,
     FIELD(struct config_tls, key_file, char *, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "Its key, PEM", .example = "\"/etc/triggerd/tls.key\"")},
    {.name = "client_ca_file",
     .type = &field_string,
     FIELD(struct config_tls, client_ca_file, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "Authorities, PEM, of which clients must show a certificate, beside any token",
           .example = "\"/etc/triggerd/clients.crt\"")},
};
static const struct field_table tls_fields = {"tls", "TLS of the API over TCP", sizeof(struct config_tls), tls_rows,
                                              ARRAY_SIZE(tls_rows)};

static const struct field api_rows[] = {
    {.name = "manifest_dir",
     .type = &field_string,
     FIELD(struct config_api, manifest_dir, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "The manifest directory that gets what the API creates; by default the first that is writable",
           .example = "\"/etc/triggerd/manifests\"")},
    {.name = "hosts",
     .type = &field_strings,
     FIELD(struct config_api, hosts, struct strings, .default_json = "[]", .max = 100,
           .doc = "Further names in Host and Origin headers that are this server's, such as a proxy's",
           .example = "[\"triggers.example.org\"]")},
    {.name = "max_body_bytes",
     .type = &field_int,
     FIELD(struct config_api, max_body_bytes, int64_t, .default_json = "1048576", .min = 1024, .max = 16777216,
           .doc = "The longest body of a request; a longer one is answered with 413")},
    {.name = "tokens",
     .type = &field_objects,
     FIELD(struct config_api, tokens, struct objects, .default_json = "[]", .max = 1000, .sub = &token_fields,
           .doc = "Bearer tokens; where there is one, every request over TCP needs one",
           .example = "[{\"name\": \"ci\", \"file\": \"/etc/triggerd/ci.token\", \"scopes\": [\"emit\"]}]")},
    {.name = "token_file",
     .type = &field_string,
     FIELD(struct config_api, token_file, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "The file of one token of scope admin", .example = "\"/etc/triggerd/token\"")},
    {.name = "tls",
     .type = &field_object_opt,
     FIELD(struct config_api, tls, struct config_tls *, .flags = FIELD_NULL_OK, .sub = &tls_fields,
           .doc = "Serve TLS over TCP, not the clear",
           .example = "{\"cert_file\": \"/etc/triggerd/tls.crt\", \"key_file\": \"/etc/triggerd/tls.key\"}")},
};
static const struct field_table api_fields = {"api", "The API over TCP", sizeof(struct config_api), api_rows,
                                              ARRAY_SIZE(api_rows)};

static const struct field rows[] = {
    {.name = "manifests",
     .type = &field_strings,
     FIELD(struct config, manifests, struct strings, .default_json = "[]", .max = 100,
           .doc = "Directories of manifests, in order of precedence", .example = "[\"/etc/triggerd/manifests\"]")},
    {.name = "state",
     .type = &field_string,
     FIELD(struct config, state, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 4096,
           .doc = "The directory of events, runs and state", .example = "\"/var/lib/triggerd\"")},
    {.name = "socket",
     .type = &field_string,
     FIELD(struct config, socket, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 107,
           .doc = "The unix socket of the API", .example = "\"/run/triggerd/triggerd.sock\"")},
    {.name = "listen",
     .type = &field_string,
     FIELD(struct config, listen, char *, .flags = FIELD_NULL_OK | FIELD_NOT_EMPTY, .max = 300,
           .doc = "HOST:PORT of the API over TCP; none by default; other addresses than loopback need api.tokens",
           .example = "\"127.0.0.1:8321\"")},
    {.name = "log_level",
     .type = &field_enum,
     FIELD(struct config, log_level, int, .default_json = "\"info\"", .words = level_words,
           .doc = "The least that is logged")},
    {.name = "log_format",
     .type = &field_enum,
     FIELD(struct config, log_format, int, .default_json = "\"text\"", .words = format_words,
           .doc = "How it is logged")},
    {.name = "shutdown_grace_seconds",
     .type = &field_seconds,
     FIELD(struct config, shutdown_grace_seconds, double, .default_json = "30", .min = 0, .max = 86400,
           .doc = "How long runs may go on after SIGTERM before they are ended and kept for the next start")},
    {.name = "max_runs",
     .type = &field_int,
     FIELD(struct config, max_runs, int64_t, .default_json = "256", .min = 1, .max = 100000,
           .doc = "Runs under way at once, over all triggers; lowered where the limit of open files asks for it")},
    {.name = "max_chain_depth",
     .type = &field_int,
     FIELD(struct config, max_chain_depth, int64_t, .default_json = "32", .min = 1, .max = 10000,
           .doc = "How deep a chain of events may go")},
    {.name = "retention",
     .type = &field_object,
     FIELD(struct config, retention, struct config_retention, .sub = &retention_fields, .doc = "What is kept",
           .example = "{\"days\": 30}")},
    {.name = "secrets_dirs",
     .type = &field_strings,
     FIELD(struct config, secrets_dirs, struct strings,
           .default_json = "[\"/run/secrets\", \"$CREDENTIALS_DIRECTORY\", \".\"]", .max = 100,
           .doc = "Directories below which ${file:PATH} in manifests reads; \".\" is the manifest's own, "
                  "\"$CREDENTIALS_DIRECTORY\" what systemd made for the service",
           .example = "[\"/etc/triggerd/secrets\"]")},
    {.name = "mount",
     .type = &field_object,
     FIELD(struct config, mount, struct config_mount, .sub = &mount_fields, .doc = "The system as files",
           .example = "{\"dir\": \"/run/triggerd/mount\"}")},
    {.name = "api",
     .type = &field_object,
     FIELD(struct config, api, struct config_api, .sub = &api_fields, .doc = "The API over TCP",
           .example = "{\"token_file\": \"/etc/triggerd/token\"}")},
};
const struct field_table config_fields = {"config", "triggerd.yaml", sizeof(struct config), rows, ARRAY_SIZE(rows)};

static const char help[] =
    "usage: triggerd [OPTION]...\n"
    "       triggerd --dev DIR\n"
    "Run pipelines when something happens, as manifests in a directory want it.\n"
    "\n"
    "  --config FILE       settings (default /etc/triggerd/triggerd.yaml, where it exists; see below)\n"
    "  --manifests DIR     directory of manifests; may be given more than once\n"
    "  --state DIR         directory of events, runs and state\n"
    "  --socket PATH       unix socket of the API\n"
    "  --mount DIR         the system as files, mounted there by FUSE\n"
    "  --listen HOST:PORT  the API over TCP too; other addresses than loopback need api.tokens\n"
    "  --log-level L       error, warning, info (default) or debug\n"
    "  --log-format F      text (default) or json\n"
    "  --dev DIR           a look within a minute: manifests from DIR, state in a temporary directory, the page on\n"
    "                      loopback, a mount where there is FUSE, events and decisions told in the terminal\n"
    "  --check             validate settings and manifests, print every error, exit 1 if there is any\n"
    "  --version, --help\n"
    "\n"
    "As root the defaults are /etc/triggerd/manifests, /var/lib/triggerd and /run/triggerd/triggerd.sock; as a user\n"
    "those of XDG ($XDG_CONFIG_HOME, also for triggerd.yaml, $XDG_STATE_HOME, $XDG_RUNTIME_DIR, each with /triggerd).\n"
    "FLOWMASON_TRIGGERS_ENABLED=false starts everything but the firing. SIGTERM drains, SIGHUP reads the manifests "
    "again.\n";

/* ---- the file ---- */

static int read_all(const char *path, struct buf *ret)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    for (;;) {
        if (ret->len > DOCUMENT_TEXT_MAX)
            return -EFBIG;
        char *to = buf_reserve(ret, 65536);
        ssize_t n = read(fd, to, 65536);
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        ret->len += (size_t)n;
        ret->data[ret->len] = '\0';
    }
}

static void print_issues(const char *path, const struct document *doc, const struct issues *issues)
{
    for (size_t i = 0; i < issues->n; i++) {
        unsigned line = 1, column = 1;
        if (issues->items[i].node)
            document_node_place(doc, issues->items[i].node, issues->items[i].at_key, &line, &column);
        fprintf(stderr, "%s:%u:%u: %s%s%s\n", path, line, column, issues->items[i].path,
                *issues->items[i].path ? ": " : "", issues->items[i].message);
    }
}

static int read_file(const char *path, struct config *c)
{
    struct buf text = {0};
    int r = read_all(path, &text);
    if (r < 0) {
        fprintf(stderr, "triggerd: %s: %s\n", path, strerror(-r));
        buf_fini(&text);
        return -EIO;
    }
    struct document_set set;
    struct issues issues = ISSUES_INIT;
    r = document_parse(text.data ? text.data : "", text.len, DOCUMENT_YAML, &set);
    for (size_t i = 0; i < set.n_errors; i++)
        fprintf(stderr, "%s:%u:%u: %s\n", path, set.errors[i].line, set.errors[i].column, set.errors[i].message);
    if (set.n_documents > 1) {
        fprintf(stderr, "%s:%u:1: expected one document\n", path, set.documents[1].line);
        r = -EINVAL;
    }
    if (r == 0 && set.n_documents == 1) {
        if (!fields_parse(&config_fields, set.documents[0].root, NULL, c, "", &issues))
            r = -EIO;
        print_issues(path, &set.documents[0], &issues);
    } else {
        fields_defaults(&config_fields, c);
    }
    issues_fini(&issues);
    document_set_fini(&set);
    buf_fini(&text);
    return r < 0 ? -EIO : 0;
}

/* ---- defaults and the environment ---- */

/* `$VARIABLE/triggerd/NAME`, or `$HOME/FALLBACK/triggerd/NAME`. */
static char *xdg(const char *variable, const char *fallback, const char *name)
{
    const char *base = getenv(variable), *home = getenv("HOME");
    const char *slash = *name ? "/" : "";
    if (base && base[0] == '/')
        return xasprintf("%s/triggerd%s%s", base, slash, name);
    if (fallback)
        return xasprintf("%s/%s/triggerd%s%s", home ? home : "/tmp", fallback, slash, name);
    return xasprintf("/tmp/triggerd-%u%s%s", (unsigned)getuid(), slash, name);
}

static void fill_defaults(struct config *c)
{
    bool root = geteuid() == 0;
    if (!c->state)
        c->state = root ? xstrdup("/var/lib/triggerd") : xdg("XDG_STATE_HOME", ".local/state", "");
    if (!c->socket)
        c->socket = root ? xstrdup("/run/triggerd/triggerd.sock") : xdg("XDG_RUNTIME_DIR", NULL, "triggerd.sock");
    if (c->manifests.n == 0) {
        free(c->manifests.items);
        c->manifests.items = xcalloc(1, sizeof(char *));
        c->manifests.items[c->manifests.n++] =
            root ? xstrdup("/etc/triggerd/manifests") : xdg("XDG_CONFIG_HOME", ".config", "manifests");
    }
}

static int read_switch(struct config *c)
{
    static const char *const yes[] = {"true", "1", "yes"}, *const no[] = {"false", "0", "no"};
    const char *text = getenv("FLOWMASON_TRIGGERS_ENABLED");
    c->firing = true;
    if (!text)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0)
            return 0;
        if (strcasecmp(text, no[i]) == 0) {
            c->firing = false;
            return 0;
        }
    }
    fprintf(stderr, "triggerd: FLOWMASON_TRIGGERS_ENABLED: expected true or false, got \"%s\"\n", text);
    return -EIO;
}

/* Absolute, so that nothing depends on the working directory later. */
static void make_absolute(char **path)
{
    char cwd[PATH_MAX];
    if (!*path || (*path)[0] == '/' || !getcwd(cwd, sizeof(cwd)))
        return;
    const char *rest = strncmp(*path, "./", 2) == 0 ? *path + 2 : *path;
    char *full = streq(rest, ".") ? xstrdup(cwd) : xasprintf("%s/%s", cwd, rest);
    free(*path);
    *path = full;
}

static int read_umask(struct config *c)
{
    char *end = NULL;
    c->mount.umask_bits = strtol(c->mount.umask, &end, 8);
    if (!*end && c->mount.umask[0] >= '0' && c->mount.umask[0] <= '7' && c->mount.umask_bits <= 0777)
        return 0;
    fprintf(stderr, "triggerd: mount.umask: expected an octal number up to 0777, got \"%s\"\n", c->mount.umask);
    return -EIO;
}

/* ---- the command line ---- */

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"manifests", required_argument, NULL, 'm'},
    {"state", required_argument, NULL, 's'},
    {"socket", required_argument, NULL, 'S'},
    {"mount", required_argument, NULL, 'M'},
    {"listen", required_argument, NULL, 'l'},
    {"log-level", required_argument, NULL, 'L'},
    {"log-format", required_argument, NULL, 'F'},
    {"dev", required_argument, NULL, 'd'},
    {"check", no_argument, NULL, 'k'},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {"man", required_argument, NULL, 'P'}, /* for the build: triggerd.8, triggerd.yaml.5 */
    {NULL, 0, NULL, 0},
};

struct overrides {
    const char *config, *dev, *state, *socket, *mount, *listen, *level, *format;
    const char **manifests;
    size_t n_manifests;
    bool check;
};

static int parse_options(int argc, char **argv, struct overrides *o)
{
    int ch;
    while ((ch = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (ch) {
        case 'c':
            o->config = optarg;
            break;
        case 'm':
            o->manifests = xreallocarray(o->manifests, o->n_manifests + 1, sizeof(*o->manifests));
            o->manifests[o->n_manifests++] = optarg;
            break;
        case 's':
            o->state = optarg;
            break;
        case 'S':
            o->socket = optarg;
            break;
        case 'M':
            o->mount = optarg;
            break;
        case 'l':
            o->listen = optarg;
            break;
        case 'L':
            o->level = optarg;
            break;
        case 'F':
            o->format = optarg;
            break;
        case 'd':
            o->dev = optarg;
            break;
        case 'k':
            o->check = true;
            break;
        case 'V':
            puts("triggerd " TRIGGERD_VERSION);
            return 1;
        case 'h':
            fputs(help, stdout);
            return 1;
        case 'P':
            return man_print(optarg, help) ? 1 : -EINVAL;
        default:
            fputs("triggerd: try --help\n", stderr);
            return -EINVAL;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "triggerd: unexpected argument \"%s\"; try --help\n", argv[optind]);
        return -EINVAL;
    }
    return 0;
}

/* One option given as text, parsed by its row: range and words are those of the file. */
static int override_in(const struct field_table *table, void *in, const char *name, const char *option,
                       const char *text)
{
    if (!text)
        return 0;
    const struct field *f = fields_find(table, name);
    void *slot = (char *)in + f->offset;
    struct issues issues = ISSUES_INIT;
    cJSON *v = cJSON_CreateString(text);
    if (f->type->fini)
        f->type->fini(f, slot);
    int r = f->type->parse(f, v, slot, option, &issues) ? 0 : -EINVAL;
    for (size_t i = 0; i < issues.n; i++)
        fprintf(stderr, "triggerd: %s: %s\n", issues.items[i].path, issues.items[i].message);
    cJSON_Delete(v);
    issues_fini(&issues);
    return r;
}

static int override(struct config *c, const char *name, const char *option, const char *text)
{
    return override_in(&config_fields, c, name, option, text);
}

/* HOST:PORT; where it may listen is the server's to say. */
static bool listen_ok(const char *text)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    return colon && colon > text && end != colon + 1 && !*end && port >= 0 && port <= 65535;
}

static int apply_overrides(struct config *c, const struct overrides *o)
{
    int r = override(c, "state", "--state", o->state);
    r = r < 0 ? r : override(c, "socket", "--socket", o->socket);
    r = r < 0 ? r : override(c, "listen", "--listen", o->listen);
    r = r < 0 ? r : override_in(&mount_fields, &c->mount, "dir", "--mount", o->mount);
    r = r < 0 ? r : override(c, "log_level", "--log-level", o->level);
    r = r < 0 ? r : override(c, "log_format", "--log-format", o->format);
    if (r == 0 && o->listen && !listen_ok(o->listen)) {
        fprintf(stderr, "triggerd: --listen: expected HOST:PORT, got \"%s\"\n", o->listen);
        r = -EINVAL;
    }
    if (r < 0 || o->n_manifests == 0)
        return r;
    const struct field *f = fields_find(&config_fields, "manifests");
    f->type->fini(f, &c->manifests);
    c->manifests.items = xcalloc(o->n_manifests, sizeof(char *));
    for (size_t i = 0; i < o->n_manifests; i++)
        c->manifests.items[c->manifests.n++] = xstrdup(o->manifests[i]);
    return 0;
}

static bool manifest_dir_ok(const struct config *c)
{
    const char *dir = c->api.manifest_dir;
    for (size_t i = 0; dir && i < c->manifests.n; i++) {
        size_t len = strlen(c->manifests.items[i]);
        if (strncmp(dir, c->manifests.items[i], len) == 0 && (dir[len] == '\0' || dir[len] == '/'))
            return true;
    }
    return !dir;
}

int config_read(int argc, char **argv, struct config *ret)
{
    struct overrides o = {0};
    *ret = (struct config){0};
    int r = parse_options(argc, argv, &o);
    if (r == 0 && o.dev && o.n_manifests > 0) {
        fputs("triggerd: --dev DIR has the manifests; --manifests goes without it\n", stderr);
        r = -EINVAL;
    }
    _cleanup_(freep) char *standard =
        geteuid() == 0 ? xstrdup("/etc/triggerd/triggerd.yaml") : xdg("XDG_CONFIG_HOME", ".config", "triggerd.yaml");
    if (r == 0 && !o.config && !o.dev && access(standard, F_OK) == 0)
        o.config = standard;
    if (r == 0 && o.config)
        r = read_file(o.config, ret);
    else if (r == 0)
        fields_defaults(&config_fields, ret);
    if (r == 0)
        r = apply_overrides(ret, &o);
    if (r == 0)
        r = read_switch(ret);
    if (r == 0)
        r = read_umask(ret);
    if (r == 0 && o.dev)
        r = dev_config(o.dev, ret);
    free(o.manifests);
    if (r != 0) {
        config_fini(ret);
        return r;
    }
    ret->check = o.check;
    fill_defaults(ret);
    make_absolute(&ret->state);
    make_absolute(&ret->socket);
    make_absolute(&ret->mount.dir);
    make_absolute(&ret->api.manifest_dir);
    for (size_t i = 0; i < ret->manifests.n; i++)
        make_absolute(&ret->manifests.items[i]);
    for (size_t i = 0; i < ret->secrets_dirs.n; i++)
        if (!streq(ret->secrets_dirs.items[i], ".") && ret->secrets_dirs.items[i][0] != '$')
            make_absolute(&ret->secrets_dirs.items[i]);
    if (!manifest_dir_ok(ret)) {
        fprintf(stderr,
                "triggerd: api.manifest_dir: expected one of the manifest directories or a folder in one, got \"%s\"\n",
                ret->api.manifest_dir);
        config_fini(ret);
        return -EIO;
    }
    return 0;
}

void config_fini(struct config *c)
{
    fields_fini(&config_fields, c);
    free(c->dev);
}
