#include "check.h"

#include "base/util.h"
#include "fs/mount.h"
#include "http/server.h"
#include "http/tls.h"
#include "manifest/check.h"

#include <stdio.h>

int check_access(const struct config *c, struct access **ret, struct error *err)
{
    const struct config_api *api = &c->api;
    const struct config_token *from = api->tokens.items;
    _cleanup_(freep) struct access_token *tokens = xcalloc(api->tokens.n + 1, sizeof(*tokens));
    size_t n = 0;
    for (; n < api->tokens.n; n++)
        tokens[n] = (struct access_token){from[n].name, from[n].file, (unsigned)from[n].scopes << ACCESS_READ};
    if (api->token_file)
        tokens[n++] = (struct access_token){"token_file", api->token_file, 1u << ACCESS_ADMIN};
    struct access_options options = {.tokens = tokens,
                                     .n_tokens = n,
                                     .listen = c->listen,
                                     .hosts = (const char *const *)api->hosts.items,
                                     .n_hosts = api->hosts.n};
    return access_create(&options, ret, err);
}

int check_mount(const struct config *c, struct error *err)
{
    if (!c->mount.dir)
        return 0;
    int r = mount_check_path(c->mount.dir, "state", c->state, err);
    r = r < 0 ? r : mount_check_path(c->mount.dir, "socket", c->socket, err);
    for (size_t i = 0; r == 0 && i < c->manifests.n; i++)
        r = mount_check_path(c->mount.dir, "manifests", c->manifests.items[i], err);
    for (size_t i = 0; r == 0 && i < c->secrets_dirs.n; i++)
        if (c->secrets_dirs.items[i][0] == '/')
            r = mount_check_path(c->mount.dir, "secrets_dirs", c->secrets_dirs.items[i], err);
    return r;
}

static int check_tls(const struct config *c, struct error *err)
{
    const struct config_tls *tls = c->api.tls;
    struct tls_texts texts;
    if (!tls || !c->listen)
        return 0;
    int r = tls_texts_read(tls->cert_file, tls->key_file, tls->client_ca_file, &texts, err);
    if (r < 0)
        return r;
    tls_texts_fini(&texts);
    return 0;
}

static int check_listen(const struct config *c, struct error *err)
{
    return c->listen ? http_listen_check(c->listen, c->api.tokens.n > 0 || c->api.token_file, err) : 0;
}

static int check_tokens(const struct config *c, struct error *err)
{
    struct access *access = NULL;
    int r = check_access(c, &access, err);
    access_destroy(access);
    return r;
}

int check_all(const struct config *c)
{
    static int (*const settings[])(const struct config *, struct error *) = {check_mount, check_listen, check_tokens,
                                                                             check_tls};
    size_t wrong = 0;
    for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
        struct error err = ERROR_INIT;
        if (settings[i](c, &err) < 0) {
            fprintf(stderr, "triggerd: %s\n", err.message);
            wrong++;
        }
    }
    struct manifest_check manifests = {0};
    for (size_t i = 0; i < c->manifests.n; i++)
        manifest_check_add(&manifests, c->manifests.items[i]);
    wrong += manifest_check_finish(&manifests);
    manifest_check_print(&manifests, stdout);
    manifest_check_fini(&manifests);
    return wrong > 0 ? 1 : 0;
}
