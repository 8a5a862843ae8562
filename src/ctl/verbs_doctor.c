/* doctor: what the machine, and a daemon where one answers, lack for triggers to work; and what to do about it. */
#include "ctl/args.h"
#include "ctl/print.h"
#include "ctl/request.h"
#include "ctl/views.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define WATCHES_WANTED 65536
#define INSTANCES_WANTED 128
#define QUEUED_WANTED 16384
#define FILES_WANTED 3248                 /* of triggerd itself, and of 256 runs at once */
#define STATE_WANTED ((uint64_t)32 << 20) /* bytes: a state directory of so many is enough to start */
#define NFS_MAGIC 0x6969
#define SMB2_MAGIC 0xFE534D42U

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };
static const char *const verdict_words[] = {"ok", "warn", "fail"};

struct doctor {
    struct ctl *ctl;
    cJSON *status; /* of the daemon; NULL: none answers */
    cJSON *checks;
    enum verdict worst;
};

/* `advice` NULL: nothing is to be done. */
static void found(struct doctor *d, const char *name, enum verdict v, const char *advice, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void found(struct doctor *d, const char *name, enum verdict v, const char *advice, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    _cleanup_(freep) char *text = xvasprintf(format, args);
    va_end(args);
    cJSON *o = cJSON_CreateObject();
    value_set(o, "check", value_string(name));
    value_set(o, "result", value_string(verdict_words[v]));
    value_set(o, "message", value_string(text));
    value_set(o, "advice", value_string(advice));
    cJSON_AddItemToArray(d->checks, o);
    d->worst = MAX(d->worst, v);
}

/* ---- the daemon ---- */

static cJSON *ask(struct doctor *d, const char *path, struct error *err)
{
    struct client_reply reply = {0};
    cJSON *v = NULL;
    struct ctl *c = d->ctl;
    if (!c->client && client_create(c->socket, &c->client, err) < 0)
        return NULL;
    if (client_request(c->client, &(struct client_request){.method = "GET", .path = path}, &reply, err) == 0 &&
        reply.status == 200)
        value_parse(reply.body, reply.len, &v, NULL);
    free(reply.body);
    return v;
}

static void check_daemon(struct doctor *d)
{
    struct error err = ERROR_INIT;
    d->status = ask(d, "/api/v1/status", &err);
    if (!d->status) {
        found(d, "daemon", VERDICT_WARN, "start triggerd, or name its socket by --socket or TRIGGERD_SOCKET", "%s",
              err.code < 0 ? err.message : "it does not tell its state");
        return;
    }
    const char *version = value_get_string(d->status, "version");
    if (cJSON_IsFalse(value_get(d->status, "store_writable")))
        found(d, "daemon", VERDICT_FAIL, "make room where its state directory is; it recovers by itself",
              "triggerd %s cannot write its store, and takes nothing in", version);
    else if (!cJSON_IsTrue(value_get(d->status, "ready")))
        found(d, "daemon", VERDICT_WARN, "wait a moment; its log says what it waits for", "triggerd %s is not ready",
              version);
    else
        found(d, "daemon", VERDICT_OK, NULL, "triggerd %s is ready", version);
    if (cJSON_IsFalse(value_get(d->status, "enabled")))
        found(d, "firing", VERDICT_WARN, "unset FLOWMASON_TRIGGERS_ENABLED and restart it",
              "nothing fires: it was disabled");
}

static void check_manifests(struct doctor *d)
{
    struct error err = ERROR_INIT;
    const cJSON *file;
    size_t files = 0, errors = 0;
    if (!d->status)
        return;
    _cleanup_(cjson_deletep) cJSON *answer = ask(d, "/api/v1/manifests", &err);
    cJSON_ArrayForEach (file, value_get(answer, "manifests")) {
        files++;
        errors += (size_t)cJSON_GetArraySize(value_get(file, "errors"));
    }
    if (errors > 0)
        found(d, "manifests", VERDICT_WARN, "triggerctl get manifests says what and where", "%zu error%s in %zu files",
              errors, errors == 1 ? "" : "s", files);
    else
        found(d, "manifests", VERDICT_OK, NULL, "%zu file%s without errors", files, files == 1 ? "" : "s");
}

/* Brokers, servers, watches: what each trigger says of its own source. */
static void check_sources(struct doctor *d)
{
    struct error err = ERROR_INIT;
    const cJSON *trigger, *condition;
    size_t n = 0, bad = 0;
    if (!d->status)
        return;
    for (int64_t page = 1;; page++) {
        _cleanup_(freep) char *path = xasprintf("/api/v1/triggers?page_size=100&page=%" PRId64, page);
        _cleanup_(cjson_deletep) cJSON *answer = ask(d, path, &err);
        const cJSON *list = value_get(answer, "triggers");
        cJSON_ArrayForEach (trigger, list) {
            n++;
            cJSON_ArrayForEach (condition, value_get(trigger, "conditions")) {
                if (!streq(value_get_string(condition, "type"), "Connected") ||
                    !streq(value_get_string(condition, "status"), "False"))
                    continue;
                bad++;
                const char *why = value_get_string(condition, "message");
                _cleanup_(freep) char *advice =
                    xasprintf("triggerctl describe trigger %s", value_get_string(trigger, "id"));
                found(d, "source", VERDICT_FAIL, advice, "trigger %s is not connected: %s",
                      value_get_string(trigger, "id"), why ? why : "it does not say why");
            }
        }
        if (cJSON_GetArraySize(list) < 100)
            break;
    }
    if (bad == 0)
        found(d, "sources", VERDICT_OK, NULL, "of %zu trigger%s none lacks its source", n, n == 1 ? "" : "s");
}

/* ---- the machine ---- */

static int64_t read_number(const char *path)
{
    FILE *in = fopen(path, "re");
    int64_t n = -1;
    if (in && fscanf(in, "%" SCNd64, &n) != 1)
        n = -1;
    if (in)
        fclose(in);
    return n;
}

static void check_limit(struct doctor *d, const char *name, int64_t wanted)
{
    _cleanup_(freep) char *path = xasprintf("/proc/sys/fs/inotify/%s", name);
    _cleanup_(freep) char *check = xasprintf("inotify %s", name);
    _cleanup_(freep) char *advice = xasprintf("sysctl fs.inotify.%s=%" PRId64, name, wanted);
    int64_t n = read_number(path);
    if (n < 0)
        found(d, check, VERDICT_WARN, NULL, "%s cannot be read", path);
    else
        found(d, check, n < wanted ? VERDICT_WARN : VERDICT_OK, n < wanted ? advice : NULL, "%" PRId64, n);
}

static void check_inotify(struct doctor *d)
{
    check_limit(d, "max_user_watches", WATCHES_WANTED);
    check_limit(d, "max_user_instances", INSTANCES_WANTED);
    check_limit(d, "max_queued_events", QUEUED_WANTED);
    _cleanup_(closep) int fd = inotify_init1(IN_CLOEXEC);
    if (fd < 0 || inotify_add_watch(fd, "/", IN_CREATE) < 0)
        found(d, "inotify", VERDICT_FAIL,
              "raise fs.inotify.max_user_instances or max_user_watches, or end what uses them up",
              "no directory can be watched: %s", strerror(errno));
    else
        found(d, "inotify", VERDICT_OK, NULL, "directories can be watched");
}

/* In PATH; free() it. */
static char *find_program(const char *name)
{
    const char *path = getenv("PATH");
    for (path = path ? path : "/usr/bin:/bin"; *path;) {
        size_t n = strcspn(path, ":");
        char *file = xasprintf("%.*s/%s", (int)n, path, name);
        if (access(file, X_OK) == 0)
            return file;
        free(file);
        path += n + (path[n] == ':');
    }
    return NULL;
}

static void check_fuse(struct doctor *d)
{
    struct stat st;
    _cleanup_(freep) char *mounter = find_program("fusermount3");
    if (access("/dev/fuse", F_OK) < 0)
        found(d, "fuse", VERDICT_WARN, "modprobe fuse; in a container, pass /dev/fuse in",
              "there is no /dev/fuse: --mount will not work");
    else if (access("/dev/fuse", R_OK | W_OK) < 0)
        found(d, "fuse", VERDICT_WARN, "let this user read and write /dev/fuse", "/dev/fuse: %s", strerror(errno));
    else if (geteuid() != 0 && (!mounter || stat(mounter, &st) < 0 || !(st.st_mode & S_ISUID)))
        found(d, "fuse", VERDICT_WARN, "apt install fuse3", "there is no fusermount3 with the rights to mount");
    else
        found(d, "fuse", VERDICT_OK, NULL, "it can be mounted");
}

/* The exit code of a program that writes nowhere; -1: it could not be run. */
static int run_silently(char *const argv[])
{
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = -1;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd <= 2; fd++)
        posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    if (posix_spawn(&pid, argv[0], &actions, NULL, argv, environ) == 0)
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
    posix_spawn_file_actions_destroy(&actions);
    return status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void check_sandbox(struct doctor *d)
{
    _cleanup_(freep) char *bwrap = find_program("bwrap");
    if (!bwrap) {
        found(d, "sandbox", VERDICT_WARN, "apt install bubblewrap",
              "there is no bwrap: steps with sandbox: strict fail");
        return;
    }
    char *const argv[] = {bwrap, "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "/bin/true", NULL};
    if (run_silently(argv) == 0)
        found(d, "sandbox", VERDICT_OK, NULL, "bubblewrap works");
    else
        found(d, "sandbox", VERDICT_WARN,
              "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or the container's policy)",
              "bubblewrap cannot make its namespaces: steps with sandbox: strict fail");
}

static void check_cgroup(struct doctor *d)
{
    const char *told = value_get_string(d->status, "cgroup");
    if (told && told[0] == '/')
        found(d, "cgroup", VERDICT_OK, NULL, "steps have groups of their own in %s", told);
    else if (told)
        found(d, "cgroup", VERDICT_WARN, "Delegate=yes in the unit, or a cgroup version 2 that can be written to",
              "%s: what leaves its process group is found by its environment", told);
    else if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
        found(d, "cgroup", VERDICT_OK, NULL, "version 2");
    else
        found(d, "cgroup", VERDICT_WARN, "boot with systemd.unified_cgroup_hierarchy=1",
              "no cgroup version 2: what leaves its process group is found by its environment");
}

static void check_files(struct doctor *d)
{
    struct rlimit limit = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    bool few = limit.rlim_max != RLIM_INFINITY && limit.rlim_max < FILES_WANTED;
    if (few)
        found(d, "open files", VERDICT_WARN,
              "ulimit -Hn 65536, or LimitNOFILE= in the unit; else fewer runs go side by side",
              "%" PRIu64 " at most, as this shell's limit goes", (uint64_t)limit.rlim_max);
    else
        found(d, "open files", VERDICT_OK, NULL, "enough (%" PRIu64 ")", (uint64_t)limit.rlim_max);
}

/* The daemon's own, or where it would be; free() it. */
static char *state_dir(const struct doctor *d)
{
    const char *told = value_get_string(d->status, "state_dir"), *base = getenv("XDG_STATE_HOME"),
               *home = getenv("HOME");
    if (told)
        return xstrdup(told);
    if (geteuid() == 0)
        return xstrdup("/var/lib/triggerd");
    return base && base[0] == '/' ? xasprintf("%s/triggerd", base)
                                  : xasprintf("%s/.local/state/triggerd", home ? home : "");
}

static void check_state(struct doctor *d)
{
    struct statvfs room;
    struct statfs kind;
    _cleanup_(freep) char *dir = state_dir(d);
    if (statvfs(dir, &room) < 0 || statfs(dir, &kind) < 0) {
        found(d, "state", d->status ? VERDICT_FAIL : VERDICT_OK, d->status ? "see what became of the directory" : NULL,
              "%s: %s", dir,
              errno == ENOENT && !d->status ? "not there yet; it is made at the first start" : strerror(errno));
        return;
    }
    uint64_t left = (uint64_t)room.f_bavail * room.f_frsize;
    if (kind.f_type == NFS_MAGIC || (uint64_t)kind.f_type == SMB2_MAGIC)
        found(d, "state", VERDICT_FAIL, "move it to a local disk (--state)",
              "%s is on a network file system, which SQLite's log cannot be kept on", dir);
    else if (access(dir, W_OK | X_OK) < 0)
        found(d, "state", VERDICT_WARN, "run triggerd as the directory's owner", "%s: %s", dir, strerror(errno));
    else if (left < STATE_WANTED)
        found(d, "state", VERDICT_FAIL, "make room", "%s: %" PRIu64 " MiB are left of the 32 that it takes to start",
              dir, left >> 20);
    else
        found(d, "state", VERDICT_OK, NULL, "%s: %" PRIu64 " MiB left", dir, left >> 20);
}

static void check_clock(struct doctor *d)
{
    struct timex t = {0};
    int state = adjtimex(&t);
    if (state < 0)
        found(d, "clock", VERDICT_WARN, NULL, "the kernel does not tell: %s", strerror(errno));
    else if (state == TIME_ERROR || t.status & STA_UNSYNC)
        found(d, "clock", VERDICT_WARN, "run systemd-timesyncd or chrony: schedules and cooldowns go by the clock",
              "nothing keeps it in step");
    else
        found(d, "clock", VERDICT_OK, NULL, "in step");
    if (access("/usr/share/zoneinfo/Europe/Rome", R_OK) < 0)
        found(d, "time zones", VERDICT_WARN, "apt install tzdata", "schedules with a timezone other than UTC fail");
    else
        found(d, "time zones", VERDICT_OK, NULL, "there");
}

/* ---- the verb ---- */

static void show(const struct doctor *d)
{
    const cJSON *check;
    struct table t = {0};
    table_column(&t, "CHECK", 0);
    table_column(&t, "RESULT", CELL_STATUS);
    table_column(&t, "FOUND", 0);
    cJSON_ArrayForEach (check, d->checks) {
        const char *advice = value_get_string(check, "advice"), *message = value_get_string(check, "message");
        table_cell(&t, value_get_string(check, "check"));
        table_cell(&t, value_get_string(check, "result"));
        table_cellf(&t, "%s%s%s", message, advice ? "; " : "", advice ? advice : "");
    }
    table_print(&t, d->ctl->colour);
}

int verb_doctor(struct ctl *c, const struct args *a)
{
    static void (*const checks[])(struct doctor *) = {check_daemon, check_manifests, check_sources, check_inotify,
                                                      check_fuse,   check_sandbox,   check_cgroup,  check_files,
                                                      check_state,  check_clock};
    struct doctor d = {.ctl = c, .checks = cJSON_CreateArray()};
    for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
        checks[i](&d);
    cJSON *answer = cJSON_CreateObject();
    value_set(answer, "result", value_string(verdict_words[d.worst]));
    cJSON_AddItemReferenceToObject(answer, "checks", d.checks);
    if (!show_value(a, answer))
        show(&d);
    cJSON_Delete(answer);
    cJSON_Delete(d.checks);
    cJSON_Delete(d.status);
    return d.worst == VERDICT_FAIL ? CTL_FAILED : CTL_OK;
}
