/* triggerd: pipelines that run when something happens.
 *
 * The map of the tree, lowest first; a folder calls only folders before it:
 *
 *   base/       errors, log, clock, timers, ids, the loop and its handle groups, queues between threads, inotify, masks,
 *               digests, word to a service manager
 *   model/      JSON values with exact numbers; field tables, the one description of each resource; triggers,
 *               pipelines, events, runs, conditions
 *   lang/       the pure languages: paths (RFC 9535), event patterns and the matcher over them, templates, cron,
 *               globs, JSON Schema, references to secrets
 *   store/      what happened: SQLite, one writer thread with group commit, reader threads
 *   spawn/      the spawn threads, what a child does before exec, the ledger of children, orphans, the sweeper,
 *               control groups, the sandbox
 *   engine/     intake, gates, lanes, runs, outcomes, recovery; declares what a source and a step are
 *   client/     one client a protocol, for sources and steps: http (libcurl); wire, a stream of bytes by it too; amqp
 *               (rabbitmq-c's coding) and redis (hiredis's reader) over a wire; kafka (librdkafka); sqs over http; mcp;
 *               tls. Each library is loaded with its first use
 *   source/     file_watch, pipeline_completed, message_queue (a consumer for all who share it, a broker each), custom,
 *               schedule, webhook, mcp_event; list.c has them all
 *   step/       exec, worker (a pool of processes and their lines), http, publish, emit, mcp; list.c has them all
 *   manifest/   text to documents with positions, to resources with every error at its place; edits that keep
 *               comments; loops that manifests tell of
 *   reconcile/  the manifest directories against what runs; the commit of their work trees
 *   api/        operations and renderers behind every view, and the shapes of what they take and give
 *   http/       the server on the loop; the table of routes, dispatch by it, its OpenAPI; the page
 *   fs/         (beside src/) the FUSE view: the mount, its tree, what is written to it
 *   ctl/        triggerctl, a program of its own
 *   package/    what is installed beside the programs; python/ the client and workers in Python
 *   config.c    options and the config file; check.c: what they ask for; man.c: its manual pages; dev.c: --dev
 *   main.c      this: wiring, signals, the order of start and stop
 *
 * Threads: the loop (everything but what follows), the store's writer and readers, the spawn threads, libuv's pool for
 * system calls on users' paths and for parsing manifests; librdkafka's own, while there is a Kafka connection.
 */
#include "api/changes.h"
#include "api/feed.h"
#include "base/inotify.h"
#include "base/log.h"
#include "base/notify.h"
#include "check.h"
#include "client/http.h"
#include "client/mcp_servers.h"
#include "config.h"
#include "dev.h"
#include "engine/secret_read.h"
#include "fs/mount.h"
#include "http/routes.h"
#include "http/tls.h"
#include "model/value_alloc.h"
#include "reconcile/reconcile.h"
#include "source/list.h"
#include "source/message_queue.h"
#include "spawn/cgroup.h"
#include "spawn/orphans.h"
#include "spawn/sandbox.h"
#include "spawn/spawn.h"
#include "spawn/sweeper.h"
#include "step/list.h"
#include "step/publish.h"
#include "step/worker_pool.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define DESCRIPTORS_PER_RUN 11 /* pipes of both sides, the pidfd, of a control group; what a start needs for a moment */
#define DESCRIPTORS_OF_OUR_OWN 1200 /* connections, and what is beside */
#define DESCRIPTORS_BESIDE 100
#define CONNECTIONS_MIN 64
#define CONNECTIONS_MAX 4096
#define SPAWN_THREADS 2
/* After the start: when what it recorded is on disk, and when the store has let go of its cache (retention.c). */
#define TIDY_SOON_MS 400
#define TIDY_LATE_MS 6000

struct daemon {
    struct config config;
    struct loop loop;
    struct loop_group group;
    struct loop_async store_wake, spawn_wake;
    struct loop_task store_flush;
    struct loop_poll exits; /* of processes */
    struct loop_signal term, interrupt, hangup;
    struct rlimit open_files; /* as we were started: children get it back */
    struct store_port *store;
    struct ledger *ledger;
    struct spawner *spawner;
    struct cgroups *cgroups; /* NULL: none were given to us */
    char *cgroup_text;       /* where they are, or why there are none */
    struct sweeper *sweeper;
    struct sandbox *sandbox;
    struct worker_pools *workers;
    struct watcher *watcher;
    struct http_client *client;
    struct queue_hub *queues;
    struct queue_publishers *publishers;
    struct mcp_servers *mcp;
    struct engine *engine;
    struct reconcile *reconcile;
    struct feed *feed;
    struct dev *dev; /* NULL: without --dev */
    struct changes *changes;
    struct http_server *http;
    unsigned max_connections; /* of it; 0: its own bound */
    struct mount *mount;      /* NULL: none was asked for */
    struct self_mount self_mount;
    struct secret_dirs secrets_dirs;
    struct access *access;
    struct routes routes;
    struct api api;
    struct timer tidy;
    bool stopping, tidied;
    bool unmounted; /* and the triggers say so */
    int status;
};

/* ---- wiring ---- */

static void engine_log(void *ctx, const char *trigger_id, const char *message)
{
    (void)ctx;
    log_at(LOG_LEVEL_INFO, "engine", LOG_FIELDS({"trigger", trigger_id}), "%s", message);
}

static void worker_log(void *ctx, const char *pipeline_id, const char *step_id, const char *message)
{
    (void)ctx;
    log_at(LOG_LEVEL_WARNING, "worker", LOG_FIELDS({"pipeline", pipeline_id}, {"step", step_id}), "%s", message);
}

static void mcp_log(void *ctx, bool warning, const char *server, const char *message)
{
    (void)ctx;
    log_at(warning ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "mcp", LOG_FIELDS({"server", server}), "%s", message);
}

static void mcp_changed(void *ctx, const char *server)
{
    struct daemon *d = ctx;
    if (d->changes)
        changes_tell(d->changes, CHANGED_MCP_SERVERS, server);
}

static void wake_store(void *ctx)
{
    struct daemon *d = ctx;
    loop_async_send(&d->store_wake);
}

static void flush_soon(void *ctx)
{
    struct daemon *d = ctx;
    loop_defer(&d->loop, &d->store_flush);
}

static void flush_store(void *ctx)
{
    struct daemon *d = ctx;
    store_flush(d->store);
}

static void collect_store(void *ctx)
{
    struct daemon *d = ctx;
    store_collect(d->store);
}

static void store_state(void *ctx, bool writable, const char *reason)
{
    struct daemon *d = ctx;
    if (writable)
        log_info("store", "writable again");
    else
        log_error("store", "not writable: %s; nothing is taken in until it is", reason);
    if (d->engine)
        engine_trigger_condition(d->engine, NULL, "StoreWritable", writable ? CONDITION_TRUE : CONDITION_FALSE,
                                 writable ? "Writable" : "NotWritable", reason);
}

static void wake_spawner(void *ctx)
{
    struct daemon *d = ctx;
    loop_async_send(&d->spawn_wake);
}

static void collect_spawner(void *ctx)
{
    struct daemon *d = ctx;
    spawner_collect(d->spawner, 64);
}

static void collect_exits(void *ctx, int fd, int events, int status)
{
    (void)fd, (void)events, (void)status;
    collect_spawner(ctx);
}

/* As many descriptors as we may have; how many runs they allow. */
static int64_t raise_descriptors(struct daemon *d)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &d->open_files) < 0)
        return d->config.max_runs;
    limit = d->open_files;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        limit = d->open_files;
    int64_t allowed = limit.rlim_cur == RLIM_INFINITY
                          ? d->config.max_runs
                          : ((int64_t)limit.rlim_cur - DESCRIPTORS_OF_OUR_OWN) / DESCRIPTORS_PER_RUN;
    if (allowed < 1)
        allowed = 1;
    if (allowed < d->config.max_runs)
        log_warning("main", "max_runs is lowered to %" PRId64 " by the limit of open files (%" PRIu64 ")", allowed,
                    (uint64_t)limit.rlim_cur);
    allowed = MIN(allowed, d->config.max_runs);
    /* A stream holds two. */
    int64_t left =
        limit.rlim_cur == RLIM_INFINITY ? INT64_MAX : (int64_t)limit.rlim_cur - allowed * DESCRIPTORS_PER_RUN;
    d->max_connections = (unsigned)MIN(MAX(left / 2 - DESCRIPTORS_BESIDE, CONNECTIONS_MIN), CONNECTIONS_MAX);
    return allowed;
}

/* ---- stopping, step by step ---- */

static void group_gone(void *ctx)
{
    struct daemon *d = ctx;
    loop_stop(&d->loop);
}

static void sweeper_gone(void *ctx)
{
    struct daemon *d = ctx;
    d->sweeper = NULL;
    loop_close(&d->exits.handle, NULL, NULL); /* before its descriptor */
    spawner_destroy(d->spawner);
    d->spawner = NULL;
    sandbox_destroy(d->sandbox);
    d->sandbox = NULL;
    loop_task_cancel(&d->loop, &d->store_flush);
    store_close(d->store); /* commits what is left; callbacks run here */
    d->store = NULL;
    engine_destroy(d->engine);
    d->engine = NULL;
    cgroups_destroy(d->cgroups);
    d->cgroups = NULL;
    queue_hub_destroy(d->queues);
    d->queues = NULL;
    ledger_destroy(d->ledger);
    d->ledger = NULL;
    loop_group_close(&d->group, group_gone, d);
}

static void client_gone(void *ctx)
{
    struct daemon *d = ctx;
    d->client = NULL;
    if (d->sweeper)
        sweeper_close(d->sweeper, sweeper_gone, d);
    else
        sweeper_gone(d);
}

static void publishers_gone(void *ctx)
{
    struct daemon *d = ctx;
    d->publishers = NULL;
    if (d->client)
        http_client_close(d->client, client_gone, d);
    else
        client_gone(d);
}

static void mcp_gone(void *ctx)
{
    struct daemon *d = ctx;
    d->mcp = NULL;
    if (d->publishers)
        queue_publishers_close(d->publishers, publishers_gone, d);
    else
        publishers_gone(d);
}

static void workers_gone(void *ctx)
{
    struct daemon *d = ctx;
    d->workers = NULL;
    if (d->mcp)
        mcp_servers_close(d->mcp, mcp_gone, d);
    else
        mcp_gone(d);
}

static void watcher_gone(void *ctx)
{
    struct daemon *d = ctx;
    d->watcher = NULL;
    if (d->workers)
        worker_pools_close(d->workers, workers_gone, d);
    else
        workers_gone(d);
}

static void reconcile_gone(void *ctx)
{
    struct daemon *d = ctx;
    d->reconcile = NULL;
    if (d->watcher)
        watcher_close(d->watcher, watcher_gone, d);
    else
        watcher_gone(d);
}

static void resources_changed(void *ctx)
{
    struct daemon *d = ctx;
    if (d->changes)
        changes_tell(d->changes, CHANGED_TRIGGERS | CHANGED_PIPELINES | CHANGED_MANIFESTS | CHANGED_MCP_SERVERS, NULL);
}

static void http_gone(void *ctx)
{
    struct daemon *d = ctx;
    d->http = NULL;
    free(steal(&d->routes.openapi));
    shown_destroy(steal(&d->api.shown));
    access_destroy(d->access);
    d->access = NULL;
    dev_end(d->dev);
    feed_destroy(d->feed);
    d->feed = NULL;
    changes_destroy(d->changes);
    d->changes = NULL;
    if (d->reconcile)
        reconcile_stop(d->reconcile, reconcile_gone, d);
    else
        reconcile_gone(d);
}

static void mount_gone(void *ctx)
{
    struct daemon *d = ctx;
    d->mount = NULL;
    d->api.settle = NULL;
    if (d->http)
        http_server_stop(d->http, false, http_gone, d);
    else
        http_gone(d);
}

static void drained(void *ctx)
{
    struct daemon *d = ctx;
    log_info("main", "drained");
    if (d->mount)
        mount_stop(d->mount, mount_gone, d);
    else
        mount_gone(d);
}

static void mcp_settled(void *ctx)
{
    struct daemon *d = ctx;
    engine_drain(d->engine, (int64_t)(d->config.shutdown_grace_seconds * 1000), drained, d);
}

static void stop(struct daemon *d)
{
    if (d->stopping)
        return;
    d->stopping = true;
    d->api.ready = false;
    loop_timer_stop(&d->loop, &d->tidy);
    notify_manager("STOPPING=1");
    mcp_servers_settle(d->mcp, mcp_settled, d);
}

/* Tokens are as their files say now; where one cannot be read, those of before go on. */
static int read_tokens(struct daemon *d, struct error *err)
{
    struct access *access = NULL;
    int r = check_access(&d->config, &access, err);
    if (r < 0)
        return r;
    access_destroy(d->access);
    d->access = access;
    d->routes = (struct routes){.api = &d->api,
                                .access = access,
                                .on_loopback = !d->config.listen || access_loopback(d->config.listen),
                                .secrets_dirs = &d->secrets_dirs,
                                .loop = &d->loop,
                                .openapi = d->routes.openapi};
    return 0;
}

static void reload_tokens(struct daemon *d)
{
    struct error err = ERROR_INIT;
    if (d->access && read_tokens(d, &err) < 0)
        log_error("http", "%s; the tokens of before stay", err.message);
}

/* Certificates as their files say now, for connections to come. */
static void reload_tls(struct daemon *d)
{
    struct error err = ERROR_INIT;
    struct tls_texts texts;
    const struct config_tls *c = d->config.api.tls;
    if (!d->http || !d->config.listen || !c)
        return;
    int r = tls_texts_read(c->cert_file, c->key_file, c->client_ca_file, &texts, &err);
    if (r == 0) {
        r = http_server_set_tls(d->http, &texts.tls, &err);
        tls_texts_fini(&texts);
    }
    if (r < 0)
        log_error("http", "%s; the certificate of before stays", err.message);
}

static void on_signal(void *ctx, int signum)
{
    struct daemon *d = ctx;
    if (signum == SIGHUP) {
        log_info("main", "SIGHUP: reading the manifests again");
        if (d->reconcile)
            reconcile_reload(d->reconcile);
        reload_tokens(d);
        reload_tls(d);
        return;
    }
    if (d->stopping) {
        log_warning("main", "second signal: exiting at once; what runs is taken up at the next start");
        _exit(1);
    }
    log_info("main", "%s: draining for up to %g s", signum == SIGTERM ? "SIGTERM" : "SIGINT",
             d->config.shutdown_grace_seconds);
    stop(d);
}

/* ---- starting ---- */

/* Reading and recording many manifests at once leaves holes in the heap. */
static void tidy(struct timer *timer, void *ctx)
{
    struct daemon *d = ctx;
    value_alloc_trim();
    if (!d->tidied)
        loop_timer_start(&d->loop, timer, TIDY_LATE_MS - TIDY_SOON_MS);
    d->tidied = true;
}

static void first_reconcile(void *ctx)
{
    struct daemon *d = ctx;
    engine_start(d->engine);
    if (d->mount)
        mount_start(d->mount);
    if (!d->stopping)
        loop_timer_start(&d->loop, &d->tidy, TIDY_SOON_MS);
    d->api.started = d->api.ready = true;
    log_info("main", "ready");
    if (d->config.dev)
        d->dev = dev_begin(d->engine, &d->config);
    notify_manager("READY=1");
}

static void mount_state(void *ctx, bool mounted, const char *why)
{
    struct daemon *d = ctx;
    dev_t dev = 0;
    self_mount_set(&d->self_mount, mount_identity(d->mount, &dev) ? dev : 0);
    if (mounted)
        watcher_look_again(d->watcher);
    if (mounted && !d->unmounted)
        return; /* as it should be: nothing to be told of */
    d->unmounted = !mounted;
    engine_trigger_condition(d->engine, NULL, "Mounted", mounted ? CONDITION_TRUE : CONDITION_FALSE,
                             mounted ? "Mounted" : "NotMounted", why);
}

static int open_store(struct daemon *d, struct error *err)
{
    loop_task_init(&d->store_flush, flush_store, d);
    struct store_options options = {
        .dir = d->config.state, .wake = wake_store, .soon = flush_soon, .state = store_state, .ctx = d};
    int r = store_open(&options, &d->store, err);
    if (r < 0)
        return r;
    struct store_retention keep = {d->config.retention.events, d->config.retention.days,
                                   d->config.retention.run_log_days};
    store_set_retention(d->store, &keep);
    return 0;
}

/* Without them steps run all the same: what gets away from them is looked for. */
static void open_cgroups(struct daemon *d)
{
    struct error err = ERROR_INIT;
    int r = cgroups_create(&d->loop, store_node_id(d->store), &d->cgroups, &err);
    d->cgroup_text = r < 0 ? xstrdup(err.message) : xstrdup(cgroups_text(d->cgroups));
    if (r == 0)
        log_info("main", "steps run in control groups of their own in %s", d->cgroup_text);
    else if (r != -ENOTSUP)
        log_warning("main", "steps run without control groups of their own: %s", err.message);
}

static int open_spawner(struct daemon *d, struct error *err)
{
    open_cgroups(d);
    _cleanup_(freep) char *path = xasprintf("%s/children", d->config.state);
    int killed = orphans_kill(path, store_node_id(d->store), err);
    if (killed < 0)
        log_warning("main", "processes of an earlier life: %s", err->message);
    else if (killed > 0)
        log_info("main", "ended %d processes of an earlier life", killed);
    int r = ledger_create(path, &d->ledger, err);
    if (r < 0)
        return r;
    struct spawner_options options = {.ledger = d->ledger,
                                      .wake = wake_spawner,
                                      .wake_ctx = d,
                                      .default_open_soft = d->open_files.rlim_cur,
                                      .default_open_hard = d->open_files.rlim_max,
                                      .threads = SPAWN_THREADS,
                                      .avoid = &d->self_mount};
    r = spawner_create(&options, &d->spawner, err);
    if (r < 0)
        return r;
    r = loop_poll_init(&d->group, &d->exits, spawner_exits_fd(d->spawner), collect_exits, d);
    r = r < 0 ? r : loop_poll_start(&d->exits, UV_READABLE);
    return r < 0 ? error_set(err, r, "spawner: poll: %s", strerror(-r)) : 0;
}

static void sandbox_known(void *ctx)
{
    struct daemon *d = ctx;
    const char *why = NULL;
    if (sandbox_state(d->sandbox, &why) == SANDBOX_REFUSED)
        log_warning("main", "%s", why);
    if (d->engine)
        engine_fit_pipelines(d->engine);
}

static int open_engine(struct daemon *d, int64_t max_runs, struct error *err)
{
    d->secrets_dirs = (struct secret_dirs){&d->config.secrets_dirs, &d->self_mount};
    int r = watcher_create(&d->loop, NULL, &d->watcher, err);
    if (r < 0)
        return r;
    watcher_avoid(d->watcher, &d->self_mount);
    watcher_follow_mounts(d->watcher);
    d->sweeper = sweeper_create(&d->loop);
    d->sandbox = sandbox_create(&(struct sandbox_options){.group = &d->group,
                                                          .spawner = d->spawner,
                                                          .ledger = d->ledger,
                                                          .path = getenv("PATH"),
                                                          .known = sandbox_known,
                                                          .ctx = d});
    d->client = http_client_create(&d->loop, &d->self_mount);
    d->workers = worker_pools_create(&(struct worker_pools_options){.loop = &d->loop, .log = worker_log});
    struct queue_env queue_env = {.loop = &d->loop,
                                  .clock = clock_system(),
                                  .random = random_system(),
                                  .avoid = &d->self_mount,
                                  .http = d->client};
    d->queues = queue_hub_create(&queue_env, &d->secrets_dirs, store_node_id(d->store), queue_brokers);
    d->publishers = queue_publishers_create(&queue_env, queue_publisher_types);
    d->mcp = mcp_servers_create(
        &(struct mcp_servers_options){.env = {.process = {&d->loop, d->spawner, d->ledger, d->sweeper, d->cgroups},
                                              .http = d->client,
                                              .random = random_system(),
                                              .secrets_dirs = &d->secrets_dirs,
                                              .node_id = store_node_id(d->store)},
                                      .log = mcp_log,
                                      .changed = mcp_changed,
                                      .ctx = d});
    struct engine_options options = {
        .source_env = {.loop = &d->loop,
                       .timers = &d->loop.timers,
                       .clock = clock_system(),
                       .random = random_system(),
                       .store = d->store,
                       .watcher = d->watcher,
                       .state_dir = d->config.state,
                       .mcp = d->mcp,
                       .secrets_dirs = &d->secrets_dirs,
                       .queues = d->queues},
        .step_env = {.loop = &d->loop,
                     .timers = &d->loop.timers,
                     .clock = clock_system(),
                     .random = random_system(),
                     .spawner = d->spawner,
                     .ledger = d->ledger,
                     .sweeper = d->sweeper,
                     .cgroups = d->cgroups,
                     .sandbox = d->sandbox,
                     .http = d->client,
                     .workers = d->workers,
                     .publishers = d->publishers,
                     .mcp = d->mcp,
                     .node_id = store_node_id(d->store),
                     .socket_path = d->config.socket,
                     .secrets_dirs = &d->secrets_dirs},
        .source_types = source_types,
        .step_types = step_types,
        .firing = d->config.firing,
        .max_chain_depth = d->config.max_chain_depth,
        .max_runs = max_runs,
        .log = engine_log,
        .ctx = d,
    };
    r = engine_create(&options, &d->engine, err);
    if (r < 0)
        return r;
    mcp_servers_set_engine(d->mcp, d->engine);
    return engine_load(d->engine, err);
}

static int open_server(struct daemon *d, struct http_server_options *options, struct error *err)
{
    struct tls_texts texts;
    const struct config_tls *c = d->config.api.tls;
    int r = 0;
    if (c && options->listen) {
        r = tls_texts_read(c->cert_file, c->key_file, c->client_ca_file, &texts, err);
        if (r < 0)
            return r;
        options->tls = &texts.tls;
    }
    r = http_server_create(options, &d->http, err);
    if (options->tls)
        tls_texts_fini(&texts);
    return r;
}

static int open_views(struct daemon *d, struct error *err)
{
    struct reconcile_options options = {.loop = &d->loop,
                                        .engine = d->engine,
                                        .mcp = d->mcp,
                                        .store = d->store,
                                        .clock = clock_system(),
                                        .dirs = (const char *const *)d->config.manifests.items,
                                        .n_dirs = d->config.manifests.n,
                                        .avoid = &d->self_mount,
                                        .first = first_reconcile,
                                        .changed = resources_changed,
                                        .ctx = d};
    int r = reconcile_create(&options, &d->reconcile, err);
    if (r < 0)
        return r;
    r = feed_create(&d->loop, d->engine, clock_system(), &d->feed);
    if (r < 0)
        return r;
    d->changes = changes_create(&d->loop, d->engine);
    d->api = (struct api){.engine = d->engine,
                          .mcp = d->mcp,
                          .feed = d->feed,
                          .changes = d->changes,
                          .loop = &d->loop,
                          .state_dir = d->config.state,
                          .cgroup = d->cgroup_text,
                          .store = d->store,
                          .reconcile = d->reconcile,
                          .clock = clock_system(),
                          .manifest_dir = d->config.api.manifest_dir,
                          .firing = d->config.firing};
    r = read_tokens(d, err);
    if (r < 0)
        return r;
    bool tokens = d->config.api.tokens.n > 0 || d->config.api.token_file;
    struct http_server_options server = {.loop = &d->loop,
                                         .socket_path = d->config.socket,
                                         .listen = d->config.listen,
                                         .any_address = tokens,
                                         .max_body = (size_t)d->config.api.max_body_bytes,
                                         .max_connections = d->max_connections,
                                         .handle = routes_handle,
                                         .body_bound = routes_body_bound,
                                         .problem = api_problem_text,
                                         .ctx = &d->routes};
    r = open_server(d, &server, err);
    if (r < 0)
        return r;
    if (d->config.mount.dir) {
        d->mount = mount_create(&(struct mount_options){.loop = &d->loop,
                                                        .api = &d->api,
                                                        .dir = d->config.mount.dir,
                                                        .allow_other = d->config.mount.allow_other,
                                                        .uid = d->config.mount.uid,
                                                        .gid = d->config.mount.gid,
                                                        .umask = d->config.mount.umask_bits,
                                                        .manifests = (const char *const *)d->config.manifests.items,
                                                        .n_manifests = d->config.manifests.n,
                                                        .state = mount_state,
                                                        .ctx = d});
        d->api.settle = mount_settle;
        d->api.settle_ctx = d->mount;
    }
    if (d->config.listen && !d->config.api.tls && !access_loopback(d->config.listen))
        log_warning("http", "%s is served without TLS: tokens travel in the clear", d->config.listen);
    reconcile_start(d->reconcile);
    return 0;
}

static int start(struct daemon *d, struct error *err)
{
    if (check_mount(&d->config, err) < 0)
        return err->code;
    int64_t max_runs = raise_descriptors(d);
    int r = loop_async_init(&d->group, &d->store_wake, collect_store, d);
    r = r < 0 ? r : loop_async_init(&d->group, &d->spawn_wake, collect_spawner, d);
    r = r < 0 ? r : loop_signal_init(&d->group, &d->term, SIGTERM, on_signal, d);
    r = r < 0 ? r : loop_signal_init(&d->group, &d->interrupt, SIGINT, on_signal, d);
    r = r < 0 ? r : loop_signal_init(&d->group, &d->hangup, SIGHUP, on_signal, d);
    if (r < 0)
        return error_set(err, r, "loop: %s", strerror(-r));
    r = open_store(d, err);
    r = r < 0 ? r : open_spawner(d, err);
    r = r < 0 ? r : open_engine(d, max_runs, err);
    return r < 0 ? r : open_views(d, err);
}

int main(int argc, char **argv)
{
    struct daemon d = {0};
    struct error err = ERROR_INIT;
    int r = config_read(argc, argv, &d.config);
    if (r != 0)
        return r == 1 ? 0 : r == -EINVAL ? 2 : 1;
    if (d.config.check) {
        r = check_all(&d.config);
        config_fini(&d.config);
        return r;
    }
    log_init((enum log_level)d.config.log_level, (enum log_format)d.config.log_format);
    value_alloc_init();
    /* What this program allocates is small and short-lived: without fast bins nothing is ever consolidated in one go,
     * and two arenas are enough for threads that allocate little. */
    mallopt(M_MXFAST, 0);
    mallopt(M_ARENA_MAX, 2);
    signal(SIGPIPE, SIG_IGN);
    r = loop_init(&d.loop);
    if (r < 0) {
        log_error("main", "loop: %s", strerror(-r));
        return 1;
    }
    loop_group_init(&d.group, &d.loop);
    timer_init(&d.tidy, tidy, &d);
    r = start(&d, &err);
    if (r < 0) {
        log_error("main", "%s", err.message);
        d.status = 1;
        mount_gone(&d); /* whatever was opened so far, from there on */
    }
    loop_run(&d.loop);
    r = loop_fini(&d.loop);
    free(d.cgroup_text);
    dev_remove(&d.config);
    config_fini(&d.config);
    if (r < 0) { /* a thread of the pool sits in a file system, or a FIFO: libuv would wait for it */
        log_warning("main", "a system call that does not return is left behind");
        _exit(d.status);
    }
    return d.status;
}
