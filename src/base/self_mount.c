#include "base/self_mount.h"

#include "base/util.h"

#include <errno.h>
#include <sys/stat.h>

bool self_mount_holds(const struct self_mount *m, const char *path)
{
    struct stat st;
    _cleanup_(freep) char *at = xstrdup(path);
    while (stat(at, &st) < 0) {
        char *slash = strrchr(at, '/');
        if ((errno != ENOENT && errno != ENOTDIR) || !slash)
            return false;
        while (slash > at && slash[-1] == '/')
            slash--;
        if (slash == at && slash[1] == '\0')
            return false;
        slash[slash == at] = '\0';
    }
    return self_mount_is(m, st.st_dev);
}
