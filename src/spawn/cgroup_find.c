#include "spawn/cgroup_find.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TEXT_MAX ((size_t)1 << 20)

static char *read_text(const char *proc, const char *name)
{
    _cleanup_(freep) char *path = xasprintf("%s/%s", proc, name);
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct buf b = {0};
    ssize_t n;
    while (fd >= 0 && b.len < TEXT_MAX && (n = read(fd, buf_reserve(&b, 4096), 4096)) > 0)
        b.len += (size_t)n;
    buf_addc(&b, '\0');
    return buf_steal(&b);
}

/* The path after `0::`, to be freed; NULL: the process is in no group of version 2. */
static char *own_path(const char *proc)
{
    _cleanup_(freep) char *text = read_text(proc, "cgroup");
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (strncmp(line, "0::/", 4) == 0)
            return xstrdup(line + 3);
    return NULL;
}

/* In place: \040 is a blank, and so on. */
static char *unescape(char *s)
{
    char *out = s;
    for (const char *p = s; *p; p++) {
        unsigned code;
        if (*p == '\\' && sscanf(p + 1, "%3o", &code) == 1) {
            *out++ = (char)code;
            p += 3;
        } else {
            *out++ = *p;
        }
    }
    *out = '\0';
    return s;
}

/* Where the group of that path is seen, to be freed; NULL: nowhere. proc_pid_mountinfo(5). */
static char *seen_at(const char *proc, const char *path)
{
    _cleanup_(freep) char *text = read_text(proc, "mountinfo");
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *type = strstr(line, " - "), *field, *fields = NULL;
        if (!type || strncmp(type, " - cgroup2 ", 11) != 0)
            continue;
        char *root = NULL, *point = NULL;
        field = strtok_r(line, " ", &fields);
        for (int i = 0; field && i < 5; i++, field = strtok_r(NULL, " ", &fields)) {
            root = i == 3 ? unescape(field) : root;
            point = i == 4 ? unescape(field) : point;
        }
        size_t len = root ? strlen(root) : 0;
        if (!point)
            continue;
        if (streq(root, "/"))
            return xasprintf("%s%s", point, streq(path, "/") ? "" : path);
        if (strncmp(path, root, len) == 0 && (!path[len] || path[len] == '/'))
            return xasprintf("%s%s", point, path + len);
    }
    return NULL;
}

/* systemd marks what it delegates, for a manager of the system by the first, for a user's by the second. */
static bool is_marked(const char *directory)
{
    static const char *const names[] = {"trusted.delegate", "user.delegate"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char value[8];
        if (getxattr(directory, names[i], value, sizeof(value)) == 1 && value[0] == '1')
            return true;
    }
    return false;
}

static bool is_root_of_all(const char *directory)
{
    _cleanup_(freep) char *type = xasprintf("%s/cgroup.type", directory);
    return access(type, F_OK) < 0;
}

int cgroup_find_given(const char *proc, char **ret_directory, bool *ret_inside, struct error *err)
{
    _cleanup_(freep) char *path = own_path(proc);
    if (!path)
        return error_set(err, -ENOTSUP, "there is no cgroup version 2");
    _cleanup_(freep) char *directory = seen_at(proc, path);
    if (!directory)
        return error_set(err, -ENOTSUP, "the cgroup %s is not mounted", path);
    _cleanup_(freep) char *parent = xstrdup(directory);
    char *slash = strrchr(parent, '/');
    bool top = streq(path, "/");
    *ret_inside = true;
    /* Without a mark: a container's own, whose root it sees as `/`. */
    bool given = is_marked(directory) || (top && !is_root_of_all(directory));
    if (!given && !top && slash && slash != parent) {
        *slash = '\0';
        given = is_marked(parent);
        *ret_inside = false;
    }
    if (!given)
        return error_set(err, -ENOTSUP, "the cgroup %s is not given to triggerd (systemd: Delegate=yes)", path);
    *ret_directory = *ret_inside ? steal(&directory) : steal(&parent);
    return 0;
}
