/* What libmicrohttpd answers by itself: to a request that is malformed, or whose target or headers are too large, it
 * sends a page of HTML, and no option of it says otherwise. But it queues that page as anybody would, by
 * MHD_queue_response(), and a program's definition of a name stands before a library's. So all that comes through the
 * name below is libmicrohttpd's own; what is ours goes through queue_response(), which has the library's function. */
#include "http/internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int queue_response_find(struct http_server *s, struct error *err)
{
    void *found = dlsym(RTLD_NEXT, "MHD_queue_response");
    if (!found)
        return error_set(err, -ENOSYS, "libmicrohttpd has no MHD_queue_response");
    memcpy(&s->queue_response, &found, sizeof(found)); /* of an object pointer to one of a function, as POSIX has it */
    return 0;
}

enum MHD_Result queue_response(struct conn *c, int status, struct MHD_Response *response)
{
    return c->door->server->queue_response(c->mhd, (unsigned)status, response);
}

static const char *detail_of(unsigned status)
{
    switch (status) {
    case MHD_HTTP_CONTENT_TOO_LARGE:
        return "the body is too large";
    case MHD_HTTP_URI_TOO_LONG:
        return "the request target is too long";
    case MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE:
        return "the headers are too large";
    case MHD_HTTP_HTTP_VERSION_NOT_SUPPORTED:
        return "only HTTP/1.0 and HTTP/1.1 are spoken here";
    default:
        return status < MHD_HTTP_INTERNAL_SERVER_ERROR ? "the request is malformed" : "the request cannot be answered";
    }
}

__attribute__((visibility("default"))) enum MHD_Result MHD_queue_response(struct MHD_Connection *mhd, unsigned status,
                                                                          struct MHD_Response *page)
{
    (void)page; /* libmicrohttpd destroys it */
    struct conn *c = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    refuse_raw(c->door->server, c->fd, conn_tls(c), (int)status, detail_of(status));
    /* The connection is closed. (Had it been queued, some of them would be sent with their headers twice.) */
    return MHD_NO;
}

/* Around every answer libmicrohttpd sets options of TCP, until the socket says that it has none: it waits for ENOPROTOOPT,
 * while a unix socket says EOPNOTSUPP, to each answer anew. */
__attribute__((visibility("default"))) int setsockopt(int fd, int level, int optname, const void *optval,
                                                      socklen_t optlen)
{
    int r = (int)syscall(SYS_setsockopt, fd, level, optname, optval, optlen);
    if (r < 0 && errno == EOPNOTSUPP && level == IPPROTO_TCP)
        errno = ENOPROTOOPT;
    return r;
}
