/* Of the HTTP client and what shares its library alone: libcurl, loaded when it is needed, and what is read off a URL
 * with it. */
#ifndef TRIGGERD_CLIENT_HTTP_INTERNAL_H
#define TRIGGERD_CLIENT_HTTP_INTERNAL_H

#define CURL_DISABLE_TYPECHECK /* its macros do not know functions that are members */
#include "client/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

#define CURL_FUNCTIONS(X)                                                                                              \
    X(curl_global_init)                                                                                                \
    X(curl_global_cleanup)                                                                                             \
    X(curl_multi_init)                                                                                                 \
    X(curl_multi_setopt)                                                                                               \
    X(curl_multi_cleanup)                                                                                              \
    X(curl_multi_add_handle)                                                                                           \
    X(curl_multi_remove_handle)                                                                                        \
    X(curl_multi_socket_action)                                                                                        \
    X(curl_multi_assign)                                                                                               \
    X(curl_multi_info_read)                                                                                            \
    X(curl_multi_strerror)                                                                                             \
    X(curl_easy_init)                                                                                                  \
    X(curl_easy_setopt)                                                                                                \
    X(curl_easy_getinfo)                                                                                               \
    X(curl_easy_pause)                                                                                                 \
    X(curl_easy_cleanup)                                                                                               \
    X(curl_easy_send)                                                                                                  \
    X(curl_easy_recv)                                                                                                  \
    X(curl_easy_strerror)                                                                                              \
    X(curl_slist_append)                                                                                               \
    X(curl_slist_free_all)                                                                                             \
    X(curl_url)                                                                                                        \
    X(curl_url_set)                                                                                                    \
    X(curl_url_get)                                                                                                    \
    X(curl_url_cleanup)                                                                                                \
    X(curl_url_strerror)                                                                                               \
    X(curl_free)

/* The functions have their own names as members: `lib->curl_easy_init()`. */
struct http_lib {
    pthread_mutex_t lock; /* of loading; what is loaded does not change */
    _Atomic bool loaded;
#define MEMBER(f) __typeof__ (&(f))(f);
    CURL_FUNCTIONS(MEMBER)
#undef MEMBER
};

struct http_lib *http_lib_create(void);
void http_lib_destroy(struct http_lib *lib); /* NULL is allowed */
/* Any thread; it waits for the disk where it was not loaded yet. -ENOPKG: it cannot be; the next call tries again. */
int http_lib_load(struct http_lib *lib, struct error *err);
bool http_lib_loaded(const struct http_lib *lib);

/* The client's, for those that share its library: a group that its closing waits for. */
struct loop_group;
struct http_lib *http_client_lib(struct http_client *c);
struct loop_group *http_client_group(struct http_client *c);
const struct self_mount *http_client_avoid(const struct http_client *c);

struct http_origin {
    char scheme[8], host[256]; /* lower case */
    int port;
};
bool http_origin_equal(const struct http_origin *a, const struct http_origin *b);

/* A URL without userinfo and fragment, spaces and bytes beyond ASCII encoded; *ret_url is to be freed. -EINVAL: it is
 * none, or not http or https. User and password, decoded, NULL where there are none; not wanted: NULL. */
int http_url_parse(struct http_lib *lib, const char *text, char **ret_url, struct http_origin *ret_origin,
                   char **ret_user, char **ret_password, struct error *err);

#endif
