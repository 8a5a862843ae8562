/* libmicrohttpd's own ceiling: a server whose handler answers every request with the same bytes.
 *
 *   floor_http SOCKET SIZE
 *
 * One thread, epoll, connections kept alive, as the daemon has it. Prints "ready" when it listens on the unix socket; ends with
 * SIGTERM.
 */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static enum MHD_Result answer(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **context)
{
    (void)url;
    (void)method;
    (void)version;
    (void)upload;
    if (!*context) { /* the headers: the request comes once more when it is whole */
        *context = cls;
        return MHD_YES;
    }
    if (*upload_size > 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    return MHD_queue_response(mhd, MHD_HTTP_OK, cls);
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1024) < 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: floor_http SOCKET SIZE\n");
        return 2;
    }
    size_t size = (size_t)atol(argv[2]);
    char *body = malloc(size + 1);
    if (!body)
        return 1;
    memset(body, 'x', size);
    struct MHD_Response *response = MHD_create_response_from_buffer(size, body, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, "\"0123456789abcdef\"");
    struct MHD_Daemon *d = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, answer, response, MHD_OPTION_LISTEN_SOCKET,
                                            listen_at(argv[1]), MHD_OPTION_CONNECTION_LIMIT, 10000U, MHD_OPTION_END);
    if (!d) {
        fprintf(stderr, "libmicrohttpd does not start\n");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;)
        MHD_run_wait(d, -1);
}
