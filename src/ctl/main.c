/* triggerctl: the client of triggerd, over its unix socket, with the same routes as REST; and, without a daemon, the
 * languages and the manifest reader on their own.
 *
 *   table      the one table of verbs and options
 *   args       the command line against it; help and usage errors made of it
 *   client     HTTP by libcurl; request: what verbs ask of it, with the daemon's refusals told
 *   input      JSON from arguments, files and standard input; long lines
 *   print      tables, labelled lines, escapes, colour; views: pieces that verbs share; diff: unified diffs
 *   follow     server-sent events, over restarts of the daemon
 *   verbs_*.c  the verbs
 *
 * Above this program's folder lie only base, model, lang and manifest. One thread.
 */
#include "ctl/args.h"
#include "ctl/print.h"
#include "model/value_alloc.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

/* Where triggerd listens by default, by the same rule as its own; who has none of his own means the machine's. */
static char *default_socket(void)
{
    static const char service[] = "/run/triggerd/triggerd.sock";
    const char *base = getenv("XDG_RUNTIME_DIR");
    if (geteuid() == 0)
        return xstrdup(service);
    char *own = base && base[0] == '/' ? xasprintf("%s/triggerd/triggerd.sock", base)
                                       : xasprintf("/tmp/triggerd-%u/triggerd.sock", (unsigned)getuid());
    if (access(own, F_OK) == 0 || access(service, F_OK) < 0)
        return own;
    free(own);
    return xstrdup(service);
}

static bool wants_colour(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return !(no && *no) && term && !streq(term, "dumb") && isatty(STDOUT_FILENO);
}

/* What could not be written is a failure, whatever the verb came to. */
static int finish(int status)
{
    errno = 0;
    bool failed = ferror(stdout) || fflush(stdout) != 0;
    if (!failed || status != CTL_OK)
        return status;
    complain("standard output: %s", errno ? strerror(errno) : "could not be written");
    return CTL_FAILED;
}

int main(int argc, char **argv)
{
    value_alloc_init();
    /* As in triggerd: what is allocated is small and short-lived. What was freed is kept for the next file. */
    mallopt(M_MXFAST, 0);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    mallopt(M_TOP_PAD, 1 << 20);
    struct args args;
    const char *socket = NULL;
    const char *from_env = getenv("TRIGGERD_SOCKET");
    _cleanup_(freep) char *fallback = default_socket();
    int status = args_parse(argc, argv, &args, &socket);
    if (status < 0) {
        struct ctl c = {.socket = socket                  ? socket
                                  : from_env && *from_env ? from_env
                                                          : fallback,
                        .colour = wants_colour()};
        status = args.verb->run(&c, &args);
        client_destroy(c.client);
    }
    args_fini(&args);
    return finish(status);
}
