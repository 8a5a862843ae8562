#include "spawn/child.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- between clone and exec ---------------------------------------------------------------------------------------
 * Raw system calls throughout: the C library's setuid() would change every thread of the daemon, and the sanitizers'
 * wrappers keep books in memory that is the parent's. For the same reason this code is not instrumented. */

#define NOT_SANITIZED no_sanitize("address"), no_sanitize("thread"), no_sanitize("undefined")
#if __has_attribute(disable_sanitizer_instrumentation) /* clang: also atomics, and the entry and exit of functions */
#define IN_CHILD __attribute__((NOT_SANITIZED, disable_sanitizer_instrumentation))
#else
#define IN_CHILD __attribute__((NOT_SANITIZED))
#endif

#ifdef SYS_setresuid32 /* the 32-bit machines whose first calls took 16-bit ids */
#define CALL_SETRESUID SYS_setresuid32
#define CALL_SETRESGID SYS_setresgid32
#define CALL_SETGROUPS SYS_setgroups32
#else
#define CALL_SETRESUID SYS_setresuid
#define CALL_SETRESGID SYS_setresgid
#define CALL_SETGROUPS SYS_setgroups
#endif

#define KERNEL_SIGNALS 64
#define KERNEL_SIGSET_SIZE 8
#define CPU_GRACE_SECONDS 5

struct kernel_limit {
    uint64_t soft, hard;
};

IN_CHILD static _Noreturn void fail(struct child_plan *plan, enum spawn_stage stage, int error)
{
    plan->stage = stage;
    plan->error = error;
    for (;;)
        syscall(SYS_exit_group, 127);
}

IN_CHILD static void enter_ledger(const struct child_plan *plan)
{
    struct ledger_slot *slot = plan->slot;
    if (!slot)
        return;
    struct timespec now = {0};
    syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &now);
    uint64_t ticks =
        (uint64_t)now.tv_sec * plan->ticks_per_second + (uint64_t)now.tv_nsec / (1000000000u / plan->ticks_per_second);
    atomic_store_explicit(&slot->start_max, ticks, memory_order_relaxed);
    atomic_store_explicit(&slot->pid, (int32_t)syscall(SYS_getpid), memory_order_relaxed);
    atomic_store_explicit(&slot->state, LEDGER_RUNNING, memory_order_release);
}

/* A handler of the daemon's must not run in here, and ignored signals would stay ignored across exec. */
IN_CHILD static void reset_signals(const struct child_plan *plan)
{
    static const uint64_t default_action[8]; /* a struct of the kernel's, all zero: SIG_DFL, no flags, empty mask */
    for (uint64_t left = plan->signals; left != 0; left &= left - 1)
        syscall(SYS_rt_sigaction, __builtin_ctzll(left) + 1, default_action, NULL, KERNEL_SIGSET_SIZE);
}

/* A table of descriptors of its own, with only those up to the highest parked one, so that the cost does not grow with
 * what the daemon has open. */
IN_CHILD static void leave_shared_descriptors(struct child_plan *plan)
{
    unsigned first = 0;
    for (int i = 0; i < CHILD_PARKED; i++)
        first = MAX(first, (unsigned)plan->parked[i] + 1);
    if (syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_UNSHARE) < 0 && syscall(SYS_unshare, CLONE_FILES) < 0)
        fail(plan, SPAWN_STAGE_DESCRIPTORS, errno);
}

IN_CHILD static void place_descriptors(struct child_plan *plan)
{
    for (int i = 0; i < 3; i++)
        if (syscall(SYS_dup3, plan->parked[i], i, 0) < 0)
            fail(plan, SPAWN_STAGE_DESCRIPTORS, errno);
    if (syscall(SYS_close_range, 3, ~0U, 0) < 0) {
        /* Before Linux 5.9, or forbidden by an old container's filter. */
        struct kernel_limit files = {0};
        syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &files);
        for (uint64_t fd = 3; fd < files.hard && fd < 1u << 20; fd++)
            syscall(SYS_close, (int)fd);
    }
}

IN_CHILD static void set_limit(struct child_plan *plan, const char *name, int resource, uint64_t soft, uint64_t hard)
{
    struct kernel_limit limit = {soft, hard}, old;
    if (syscall(SYS_prlimit64, 0, resource, &limit, NULL) == 0)
        return;
    int error = errno;
    if (error == EPERM && syscall(SYS_prlimit64, 0, resource, NULL, &old) == 0) {
        limit.soft = MIN(soft, old.hard);
        limit.hard = MIN(hard, old.hard);
        if (syscall(SYS_prlimit64, 0, resource, &limit, NULL) == 0)
            return;
        error = errno;
    }
    plan->limit = name;
    fail(plan, SPAWN_STAGE_LIMITS, error);
}

IN_CHILD static void set_limits(struct child_plan *plan)
{
    const struct spawn_limits *l = &plan->limits;
    set_limit(plan, "core", RLIMIT_CORE, 0, 0);
    if (l->memory_bytes)
        set_limit(plan, "memory", RLIMIT_AS, l->memory_bytes, l->memory_bytes);
    if (l->cpu_seconds)
        set_limit(plan, "cpu", RLIMIT_CPU, l->cpu_seconds, l->cpu_seconds + CPU_GRACE_SECONDS);
    if (l->processes)
        set_limit(plan, "processes", RLIMIT_NPROC, l->processes, l->processes);
    if (l->open_files)
        set_limit(plan, "open_files", RLIMIT_NOFILE, l->open_files, l->open_files);
    else if (plan->default_open_soft)
        set_limit(plan, "open_files", RLIMIT_NOFILE, plan->default_open_soft, plan->default_open_hard);
}

IN_CHILD static void become_user(struct child_plan *plan)
{
    /* Ambient capabilities of the daemon would outlive the change. Unknown before Linux 4.3. */
    syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(CALL_SETGROUPS, plan->n_groups, plan->groups) < 0)
        fail(plan, SPAWN_STAGE_SETGROUPS, errno);
    if (syscall(CALL_SETRESGID, plan->gid, plan->gid, plan->gid) < 0)
        fail(plan, SPAWN_STAGE_SETGID, errno);
    if (syscall(CALL_SETRESUID, plan->uid, plan->uid, plan->uid) < 0)
        fail(plan, SPAWN_STAGE_SETUID, errno);
}

/* As execvpe() searches, but for its fallback to a shell: a file that is no program ends the search. */
IN_CHILD static _Noreturn void exec_candidates(struct child_plan *plan)
{
    int error = ENOENT;
    plan->candidate = 0;
    for (size_t i = 0; plan->candidates[i]; i++) {
        syscall(SYS_execve, plan->candidates[i], plan->argv, plan->envp);
        switch (errno) {
        case ENOENT:
        case ENOTDIR:
        case ESTALE:
        case ENODEV:
        case ETIMEDOUT:
            if (i == 0)
                error = errno;
            continue;
        case EACCES:
            if (error != EACCES)
                plan->candidate = i;
            error = EACCES;
            continue;
        default:
            plan->candidate = i;
            fail(plan, SPAWN_STAGE_EXEC, errno);
        }
    }
    fail(plan, SPAWN_STAGE_EXEC, error);
}

IN_CHILD int child_main(void *arg)
{
    static const uint64_t no_signals;
    struct child_plan *plan = arg;

    enter_ledger(plan);
    leave_shared_descriptors(plan);
    reset_signals(plan);
    syscall(SYS_setsid);
    if (plan->enter_cgroup && syscall(SYS_write, plan->parked[CHILD_CGROUP], "0", 1) < 0)
        fail(plan, SPAWN_STAGE_CGROUP, errno);
    place_descriptors(plan);
    if (plan->umask >= 0)
        syscall(SYS_umask, plan->umask);
    set_limits(plan);
    if (plan->change_user)
        become_user(plan);
    if (plan->cwd && syscall(SYS_chdir, plan->cwd) < 0)
        fail(plan, SPAWN_STAGE_CWD, errno);
    if (syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        fail(plan, SPAWN_STAGE_PRIVILEGES, errno);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &no_signals, NULL, KERNEL_SIGSET_SIZE);
    exec_candidates(plan);
}

uint64_t child_signals(void)
{
    uint64_t found = 0;
    for (int signal = 1; signal <= KERNEL_SIGNALS; signal++) {
        struct sigaction action;
        if (sigaction(signal, NULL, &action) < 0 || action.sa_handler != SIG_DFL) /* of its own, libc tells nothing */
            found |= UINT64_C(1) << (signal - 1);
    }
    return found;
}

/* ---- why it failed ------------------------------------------------------------------------------------------------
 */

const char *spawn_stage_name(enum spawn_stage stage)
{
    static const char *const names[] = {
        [SPAWN_STAGE_NONE] = "none",     [SPAWN_STAGE_QUEUE] = "queue",
        [SPAWN_STAGE_LEDGER] = "ledger", [SPAWN_STAGE_FORK] = "fork",
        [SPAWN_STAGE_CGROUP] = "cgroup", [SPAWN_STAGE_DESCRIPTORS] = "descriptors",
        [SPAWN_STAGE_LIMITS] = "limits", [SPAWN_STAGE_SETGROUPS] = "setgroups",
        [SPAWN_STAGE_SETGID] = "setgid", [SPAWN_STAGE_SETUID] = "setuid",
        [SPAWN_STAGE_CWD] = "cwd",       [SPAWN_STAGE_PRIVILEGES] = "no_new_privs",
        [SPAWN_STAGE_EXEC] = "exec",
    };
    return stage < ARRAY_SIZE(names) ? names[stage] : "unknown";
}

/* strerror() in the middle of a sentence: "no such file or directory", but "RPC struct is bad". */
static void reason_text(int error, char out[64])
{
    const char *text = strerrordesc_np(error);
    if (!text)
        snprintf(out, 64, "error %d", error);
    else
        snprintf(out, 64, "%s", text);
    if (out[0] >= 'A' && out[0] <= 'Z' && out[1] >= 'a' && out[1] <= 'z')
        out[0] = (char)(out[0] - 'A' + 'a');
}

/* `s` on one line: a control character as \r, \n, \t or \x1b. Cut to what `out` holds. */
static void printable(const char *s, char *out, size_t cap)
{
    size_t n = 0;
    for (; *s && n + 5 < cap; s++) {
        unsigned char c = (unsigned char)*s;
        if (c >= 0x20 && c != 0x7f)
            out[n++] = *s;
        else if (c == '\r' || c == '\n' || c == '\t')
            n += (size_t)snprintf(out + n, cap - n, "\\%c", c == '\r' ? 'r' : c == '\n' ? 'n' : 't');
        else
            n += (size_t)snprintf(out + n, cap - n, "\\x%02x", c);
    }
    out[n] = '\0';
}

/* The interpreter that the file's first line names (execve(2): at most 255 bytes are looked at), or "". */
static void read_interpreter(int dir, const char *path, char out[256])
{
    char line[256];
    out[0] = '\0';
    _cleanup_(closep) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
    if (n < 3 || line[0] != '#' || line[1] != '!')
        return;
    line[n] = '\0';
    char *start = line + 2 + strspn(line + 2, " \t");
    start[strcspn(start, " \t\n")] = '\0';
    memcpy(out, start, strlen(start) + 1);
}

static size_t strings_size(char *const *strings)
{
    size_t size = 0;
    for (; *strings; strings++)
        size += strlen(*strings) + 1;
    return size;
}

/* EXEC: `path` was tried and gave `error`. */
static int explain_file(const struct child_plan *plan, int dir, const char *path, int error, struct error *ret)
{
    char shown[256], reason[64], interpreter[256];
    struct stat st;
    bool exists = fstatat(dir, path, &st, 0) == 0;
    printable(path, shown, sizeof(shown));
    reason_text(error, reason);
    if (exists && S_ISDIR(st.st_mode))
        return error_set(ret, -error, "exec: %s: is a directory", shown);
    if (error == EACCES && exists && S_ISREG(st.st_mode) && !(st.st_mode & 0111))
        return error_set(ret, -error, "exec: %s: not executable (permission denied)", shown);
    if (exists && (error == ENOENT || error == EACCES || error == ENOTDIR || error == ELOOP)) {
        read_interpreter(dir, path, interpreter);
        struct stat other;
        bool bad = interpreter[0] && (error != EACCES || fstatat(dir, interpreter, &other, 0) < 0 ||
                                      !S_ISREG(other.st_mode) || !(other.st_mode & 0111));
        if (bad) {
            char name[256];
            printable(interpreter, name, sizeof(name));
            bool carriage_return = interpreter[strlen(interpreter) - 1] == '\r';
            return error_set(ret, -error, "exec: %s: bad interpreter: %s: %s%s", shown, name, reason,
                             carriage_return ? " (the line ends in a carriage return)" : "");
        }
        if (error == ENOENT)
            return error_set(ret, -error, "exec: %s: the dynamic loader it was linked for is missing", shown);
    }
    switch (error) {
    case EACCES:
        if (plan->change_user)
            return error_set(ret, -error, "exec: %s: %s (as user %u)", shown, reason, (unsigned)plan->uid);
        break;
    case ENOEXEC:
        return error_set(ret, -error,
                         "exec: %s: exec format error (no program of this machine, nor a script that "
                         "begins with #!)",
                         shown);
    case E2BIG:
        return error_set(ret, -error,
                         "exec: %s: arguments and environment are too long (%zu bytes in all; one may "
                         "have 128 KiB)",
                         shown, strings_size(plan->argv) + strings_size(plan->envp));
    case EAGAIN:
        return error_set(ret, -error, "exec: %s: too many processes of this user", shown);
    default:
        break;
    }
    return error_set(ret, -error, "exec: %s: %s", shown, reason);
}

static int explain_exec(const struct child_plan *plan, struct error *ret)
{
    _cleanup_(closep) int opened = plan->cwd ? open(plan->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    int dir = opened >= 0 ? opened : AT_FDCWD;
    size_t at = plan->candidate;
    bool missing = plan->error == ENOENT || plan->error == ENOTDIR;
    if (missing && plan->candidates[1]) {
        /* One that is there and yet "does not exist" is a script without its interpreter. */
        struct stat st;
        for (at = 0; plan->candidates[at] && fstatat(dir, plan->candidates[at], &st, 0) < 0; at++)
            ;
        if (!plan->candidates[at]) {
            char shown[256];
            printable(plan->argv[0], shown, sizeof(shown));
            return error_set(ret, -ENOENT, "exec: %s: not found in PATH", shown);
        }
    }
    return explain_file(plan, dir, plan->candidates[at], plan->error, ret);
}

int child_explain(const struct child_plan *plan, struct error *ret)
{
    char reason[64], shown[256];
    reason_text(plan->error, reason);
    int code = -plan->error;
    switch (plan->stage) {
    case SPAWN_STAGE_EXEC:
        return explain_exec(plan, ret);
    case SPAWN_STAGE_CWD:
        printable(plan->cwd, shown, sizeof(shown));
        if (plan->error == EACCES && plan->change_user)
            return error_set(ret, code, "cwd: %s: %s (as user %u)", shown, reason, (unsigned)plan->uid);
        return error_set(ret, code, "cwd: %s: %s", shown, reason);
    case SPAWN_STAGE_LIMITS:
        return error_set(ret, code, "limits: %s: %s", plan->limit, reason);
    case SPAWN_STAGE_SETGROUPS:
        return error_set(ret, code, "setgroups: %zu supplementary groups: %s", plan->n_groups, reason);
    case SPAWN_STAGE_SETGID:
        return error_set(ret, code, "setgid: group %u: %s", (unsigned)plan->gid, reason);
    case SPAWN_STAGE_SETUID:
        return error_set(ret, code, "setuid: user %u: %s", (unsigned)plan->uid, reason);
    default:
        return error_set(ret, code, "%s: %s", spawn_stage_name(plan->stage), reason);
    }
}

/* ---- how it ended -------------------------------------------------------------------------------------------------
 */

static int wait_exited(int pidfd, int flags, siginfo_t *info)
{
    memset(info, 0, sizeof(*info));
    while (waitid(P_PIDFD, (id_t)pidfd, info, WEXITED | WNOHANG | flags) < 0)
        if (errno != EINTR)
            return -errno;
    return info->si_pid == 0 ? -EAGAIN : 0;
}

int child_reap(int pidfd, pid_t pid, unsigned flags, struct child_status *ret)
{
    siginfo_t info;
    int r;
    if (flags & CHILD_REAP_GROUP && !(flags & CHILD_REAP_DEAD)) {
        r = wait_exited(pidfd, WNOWAIT, &info);
        if (r < 0)
            return r;
        if (info.si_pid != pid)
            return -EINVAL;
    }
    if (flags & CHILD_REAP_GROUP)
        kill(-pid, SIGKILL);
    r = wait_exited(pidfd, 0, &info);
    if (r < 0)
        return r;
    bool exited = info.si_code == CLD_EXITED;
    *ret = (struct child_status){
        .exit_code = exited ? info.si_status : -1,
        .signal = exited ? 0 : info.si_status,
        .core = info.si_code == CLD_DUMPED,
    };
    return 0;
}

const char *child_status_text(const struct child_status *status, char out[CHILD_STATUS_TEXT_SIZE])
{
    if (status->signal == 0) {
        snprintf(out, CHILD_STATUS_TEXT_SIZE, "exit code %d", status->exit_code);
        return out;
    }
    const char *name = sigabbrev_np(status->signal);
    const char *core = status->core ? " (core dumped)" : "";
    if (name)
        snprintf(out, CHILD_STATUS_TEXT_SIZE, "killed by SIG%s%s", name, core);
    else
        snprintf(out, CHILD_STATUS_TEXT_SIZE, "killed by signal %d%s", status->signal, core);
    return out;
}
