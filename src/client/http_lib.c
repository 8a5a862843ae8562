#include "client/http_internal.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

struct http_lib *http_lib_create(void)
{
    struct http_lib *lib = xcalloc(1, sizeof(*lib));
    pthread_mutex_init(&lib->lock, NULL);
    return lib;
}

void http_lib_destroy(struct http_lib *lib)
{
    if (!lib)
        return;
    if (lib->loaded)
        lib->curl_global_cleanup();
    pthread_mutex_destroy(&lib->lock);
    free(lib);
}

static const char *load(struct http_lib *lib)
{
    /* It stays: what it brings along has something to do when a process or a thread ends. */
    void *handle = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle)
        return dlerror();
#define RESOLVE(f)                                                                                                     \
    *(void **)&lib->f = dlsym(handle, #f);                                                                             \
    if (!lib->f)                                                                                                       \
        return dlerror();
    CURL_FUNCTIONS(RESOLVE)
#undef RESOLVE
    if (lib->curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
        return "libcurl cannot be initialised";
    return NULL;
}

int http_lib_load(struct http_lib *lib, struct error *err)
{
    const char *why = NULL;
    pthread_mutex_lock(&lib->lock);
    if (!lib->loaded) {
        why = load(lib);
        lib->loaded = !why;
    }
    pthread_mutex_unlock(&lib->lock);
    return why ? error_set(err, -ENOPKG, "HTTP needs libcurl: %s", why) : 0;
}

bool http_lib_loaded(const struct http_lib *lib)
{
    return lib->loaded;
}

bool http_origin_equal(const struct http_origin *a, const struct http_origin *b)
{
    return streq(a->scheme, b->scheme) && streq(a->host, b->host) && a->port == b->port;
}

/* A part into a buffer, in lower case. False: it is not there, or does not fit. */
static bool take_part(struct http_lib *lib, CURLU *u, CURLUPart part, char *out, size_t cap)
{
    char *text = NULL;
    if (lib->curl_url_get(u, part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK)
        return false;
    size_t len = strlen(text);
    bool fits = len < cap;
    if (fits)
        memcpy(out, text, len + 1);
    for (char *p = out; fits && *p; p++)
        *p = (char)tolower((unsigned char)*p);
    lib->curl_free(text);
    return fits;
}

static char *take_userinfo(struct http_lib *lib, CURLU *u, CURLUPart part)
{
    char *text = NULL, *copy = NULL;
    if (lib->curl_url_get(u, part, &text, CURLU_URLDECODE) == CURLUE_OK) {
        copy = xstrdup(text);
        explicit_bzero(text, strlen(text));
        lib->curl_free(text);
    }
    return copy;
}

static int parse(struct http_lib *lib, CURLU *u, const char *text, struct http_origin *origin, struct error *err)
{
    char port[8];
    CURLUcode code = lib->curl_url_set(u, CURLUPART_URL, text, CURLU_PATH_AS_IS | CURLU_URLENCODE);
    if (code != CURLUE_OK)
        return error_set(err, -EINVAL, "url: %s", lib->curl_url_strerror(code));
    if (!take_part(lib, u, CURLUPART_SCHEME, origin->scheme, sizeof(origin->scheme)) ||
        (!streq(origin->scheme, "http") && !streq(origin->scheme, "https")))
        return error_set(err, -EINVAL, "url: expected http:// or https://");
    if (!take_part(lib, u, CURLUPART_HOST, origin->host, sizeof(origin->host)) ||
        !take_part(lib, u, CURLUPART_PORT, port, sizeof(port)))
        return error_set(err, -EINVAL, "url: the host is too long");
    origin->port = (int)strtol(port, NULL, 10);
    return 0;
}

int http_url_parse(struct http_lib *lib, const char *text, char **ret_url, struct http_origin *ret_origin,
                   char **ret_user, char **ret_password, struct error *err)
{
    char *url = NULL;
    CURLU *u = lib->curl_url();
    struct http_origin origin = {0};
    int r = u ? parse(lib, u, text, &origin, err) : error_set(err, -ENOMEM, "no memory");
    if (r == 0) {
        char *user = ret_user ? take_userinfo(lib, u, CURLUPART_USER) : NULL;
        char *password = ret_password ? take_userinfo(lib, u, CURLUPART_PASSWORD) : NULL;
        lib->curl_url_set(u, CURLUPART_USER, NULL, 0);
        lib->curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
        lib->curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
        CURLUcode code = lib->curl_url_get(u, CURLUPART_URL, &url, 0);
        if (code != CURLUE_OK) {
            free(user);
            free(password);
            r = error_set(err, -EINVAL, "url: %s", lib->curl_url_strerror(code));
        } else {
            *ret_url = xstrdup(url);
            *ret_origin = origin;
            if (ret_user)
                *ret_user = user;
            if (ret_password)
                *ret_password = password;
        }
    }
    lib->curl_free(url);
    lib->curl_url_cleanup(u);
    return r;
}
