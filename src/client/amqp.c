#include "client/amqp.h"

#include "base/loop.h"
#include "client/wire.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>

#define FRAME_MAX 131072  /* what RabbitMQ proposes, and rabbitmq-c takes until something else is agreed on */
#define FRAME_HEADER 7    /* type, channel, size; after the payload comes AMQP_FRAME_END */
#define OTHER_VERSION 'A' /* the type that rabbitmq-c gives to a protocol header of the server's */
#define CHANNELS 64       /* numbers below that are used */
#define BODY_MAX ((uint64_t)512 << 20) /* what RabbitMQ can hold at most */
#define TICK_MS (RABBIT_HEARTBEAT_SECONDS * 1000 / 2)

#define FUNCTIONS(X)                                                                                                   \
    X(amqp_new_connection)                                                                                             \
    X(amqp_destroy_connection)                                                                                         \
    X(amqp_tune_connection)                                                                                            \
    X(amqp_handle_input)                                                                                               \
    X(amqp_maybe_release_buffers_on_channel)                                                                           \
    X(amqp_encode_method)                                                                                              \
    X(amqp_encode_properties)

/* The functions have their own names as members. */
struct lib {
#define MEMBER(f) __typeof__ (&(f))(f);
    FUNCTIONS(MEMBER)
#undef MEMBER
};

/* A method that carries content, while that comes; what it points to is the codec's until its channel is released. */
struct incoming {
    amqp_method_t method; /* id 0: none */
    const amqp_basic_properties_t *properties;
    uint64_t size;
    struct buf body; /* where it comes in more than one frame */
};

enum phase { LOADING, CONNECTING, STARTING, TUNING, OPENING, OPEN, CLOSING, DEAD };

struct rabbit {
    struct loop *loop;
    struct http_client *http;
    struct queue_setup *setup;
    char *role;
    const struct rabbit_events *events;
    void *ctx;
    enum phase phase;
    bool loading, closed; /* the pool has it; rabbit_close() was called */
    void (*done)(void *ctx);
    void *done_ctx;
    struct error error; /* of loading */
    struct lib lib;
    struct wire *wire;
    amqp_connection_state_t codec;
    struct timer timer;
    int64_t heard_ms, said_ms, tick_ms;
    char *frame; /* of FRAME_MAX bytes: what is being said */
    size_t frame_max;
    struct incoming incoming[CHANNELS];
    struct loop_work work;
    struct loop_task gone;
};

/* ---- the end ---- */

static void hang_up(struct rabbit *r)
{
    r->phase = DEAD;
    wire_close(steal(&r->wire));
    loop_timer_stop(r->loop, &r->timer);
}

static void on_gone(void *ctx)
{
    struct rabbit *r = ctx;
    void (*done)(void *ctx) = r->done;
    void *done_ctx = r->done_ctx;
    if (r->codec)
        r->lib.amqp_destroy_connection(r->codec);
    for (size_t i = 0; i < CHANNELS; i++)
        buf_fini(&r->incoming[i].body);
    queue_setup_unref(r->setup);
    free(r->frame);
    free(r->role);
    free(r);
    if (done)
        done(done_ctx);
}

/* The owner has left, and nothing holds it any more. It may be in use, below us on the stack. */
static void leave(struct rabbit *r)
{
    hang_up(r);
    if (!r->loading)
        loop_defer(r->loop, &r->gone);
}

static void fail(struct rabbit *r, const char *reason, struct error *err)
{
    if (r->closed) {
        leave(r);
        return;
    }
    hang_up(r);
    error_wrap(err, "%s:%d", r->setup->url.hosts[0].host, r->setup->url.hosts[0].port);
    r->events->ended(r->ctx, reason, err);
}

static void fail_protocol(struct rabbit *r, const char *what)
{
    struct error err = ERROR_INIT;
    error_set(&err, -EPROTO, "%s", what);
    fail(r, "ProtocolError", &err);
}

const char *rabbit_closed(uint16_t code, amqp_bytes_t text, struct error *err)
{
    static const struct {
        uint16_t code;
        int error;
        const char *reason;
    } known[] = {
        {AMQP_ACCESS_REFUSED, -EACCES, "AccessRefused"},
        {AMQP_NOT_FOUND, -ENOENT, "QueueNotFound"},
        {AMQP_RESOURCE_LOCKED, -EBUSY, "QueueLocked"},
        {AMQP_PRECONDITION_FAILED, -EINVAL, "PreconditionFailed"},
        {AMQP_CONTENT_TOO_LARGE, -EMSGSIZE, "ContentTooLarge"},
        {AMQP_CONNECTION_FORCED, -ECONNRESET, "ConnectionLost"},
        {AMQP_NOT_ALLOWED, -EACCES, "NotAllowed"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (known[i].code == code) {
            error_set(err, known[i].error, "%.*s", (int)text.len, (const char *)text.bytes);
            return known[i].reason;
        }
    }
    error_set(err, -EPROTO, "%.*s", (int)text.len, (const char *)text.bytes);
    return "ProtocolError";
}

/* ---- what is said ---- */

static void put16(char *at, unsigned v)
{
    at[0] = (char)(v >> 8);
    at[1] = (char)v;
}

static void put32(char *at, size_t v)
{
    put16(at, (unsigned)(v >> 16));
    put16(at + 2, (unsigned)v);
}

/* The payload is in its place already, or (`body`) is added. */
static void send_frame(struct rabbit *r, int type, amqp_channel_t channel, const char *body, size_t len)
{
    const char end = (char)AMQP_FRAME_END;
    r->frame[0] = (char)type;
    put16(r->frame + 1, channel);
    put32(r->frame + 3, len);
    wire_write(r->wire, r->frame, FRAME_HEADER + (body ? 0 : len));
    if (body)
        wire_write(r->wire, body, len);
    wire_write(r->wire, &end, 1);
    r->said_ms = loop_now_ms(r->loop);
}

/* Where a payload goes, less what comes before what is encoded. */
static amqp_bytes_t room(struct rabbit *r, size_t before)
{
    return (amqp_bytes_t){r->frame_max - FRAME_HEADER - 1 - before, r->frame + FRAME_HEADER + before};
}

static int encode_method(struct rabbit *r, amqp_method_number_t id, void *decoded, size_t *ret_len)
{
    int n = r->lib.amqp_encode_method(id, decoded, room(r, 4));
    if (n < 0)
        return -EMSGSIZE;
    put32(r->frame + FRAME_HEADER, id);
    *ret_len = 4 + (size_t)n;
    return 0;
}

int rabbit_send(struct rabbit *r, amqp_channel_t channel, amqp_method_number_t id, void *decoded)
{
    size_t len;
    if (r->phase == DEAD)
        return 0; /* as if it were lost on the way */
    int e = encode_method(r, id, decoded, &len);
    if (e == 0)
        send_frame(r, AMQP_FRAME_METHOD, channel, NULL, len);
    return e;
}

/* Class, weight and size, and what rabbitmq-c encodes. */
static int encode_header(struct rabbit *r, amqp_basic_properties_t *p, size_t body, size_t *ret_len)
{
    char *at = r->frame + FRAME_HEADER;
    int n = r->lib.amqp_encode_properties(AMQP_BASIC_CLASS, p, room(r, 12));
    if (n < 0)
        return -EMSGSIZE;
    put16(at, AMQP_BASIC_CLASS);
    put16(at + 2, 0);
    put32(at + 4, body >> 32);
    put32(at + 8, body);
    *ret_len = 12 + (size_t)n;
    return 0;
}

int rabbit_publish(struct rabbit *r, amqp_channel_t channel, amqp_basic_publish_t *m, amqp_basic_properties_t *p,
                   const char *body, size_t len)
{
    size_t n, piece;
    if (r->phase == DEAD)
        return 0;
    /* The header first, in vain: a method without one cannot be taken back. */
    int e = encode_header(r, p, len, &n);
    if (e == 0)
        e = rabbit_send(r, channel, AMQP_BASIC_PUBLISH_METHOD, m);
    if (e < 0)
        return e;
    encode_header(r, p, len, &n);
    send_frame(r, AMQP_FRAME_HEADER, channel, NULL, n);
    for (size_t at = 0; at < len; at += piece) {
        piece = MIN(len - at, r->frame_max - FRAME_HEADER - 1);
        send_frame(r, AMQP_FRAME_BODY, channel, body + at, piece);
    }
    return 0;
}

/* ---- the handshake ---- */

static amqp_table_entry_t entry(const char *key, uint8_t kind, amqp_field_value_t value)
{
    value.kind = kind;
    return (amqp_table_entry_t){rabbit_bytes(key), value};
}

static amqp_table_entry_t text_entry(const char *key, const char *text)
{
    return entry(key, AMQP_FIELD_KIND_UTF8, (amqp_field_value_t){.value.bytes = rabbit_bytes(text)});
}

static bool offers(amqp_bytes_t mechanisms, const char *name)
{
    const char *p = mechanisms.bytes, *end = p + mechanisms.len;
    size_t n = strlen(name);
    for (; p < end; p = memchr(p, ' ', (size_t)(end - p)) ? (char *)memchr(p, ' ', (size_t)(end - p)) + 1 : end)
        if ((size_t)(end - p) >= n && memcmp(p, name, n) == 0 && (p + n == end || p[n] == ' '))
            return true;
    return false;
}

/* A certificate says who we are where the URL says nobody and the server can take it. */
static bool by_certificate(const struct rabbit *r, amqp_bytes_t mechanisms)
{
    const struct queue_url *u = &r->setup->url;
    const struct tls_config *tls = r->setup->config.tls;
    return u->tls && tls && tls->cert_file && streq(u->user, "guest") && streq(u->password, "guest") &&
           offers(mechanisms, "EXTERNAL");
}

static void send_start_ok(struct rabbit *r, const amqp_connection_start_t *start)
{
    static const char *const can[] = {"authentication_failure_close", "basic.nack", "connection.blocked",
                                      "consumer_cancel_notify", "publisher_confirms"};
    const struct queue_url *u = &r->setup->url;
    bool external = by_certificate(r, start->mechanisms);
    if (!external && !offers(start->mechanisms, "PLAIN")) {
        struct error err = ERROR_INIT;
        error_set(&err, -EACCES, "the server takes no passwords (of its mechanisms, `%.*s`, triggerd knows PLAIN)",
                  (int)start->mechanisms.len, (const char *)start->mechanisms.bytes);
        fail(r, "AuthenticationFailed", &err);
        return;
    }
    amqp_table_entry_t abilities[ARRAY_SIZE(can)];
    for (size_t i = 0; i < ARRAY_SIZE(can); i++)
        abilities[i] = entry(can[i], AMQP_FIELD_KIND_BOOLEAN, (amqp_field_value_t){.value.boolean = 1});
    _cleanup_(freep) char *name = xasprintf("triggerd %s %s (%s)", r->role, r->setup->name, r->setup->node_id);
    amqp_table_entry_t properties[] = {
        text_entry("product", "triggerd"),
        text_entry("version", TRIGGERD_VERSION),
        text_entry("connection_name", name),
        entry("capabilities", AMQP_FIELD_KIND_TABLE,
              (amqp_field_value_t){.value.table = {ARRAY_SIZE(abilities), abilities}}),
    };
    struct buf login = {0};
    if (!external) {
        buf_addc(&login, '\0');
        buf_adds(&login, u->user);
        buf_addc(&login, '\0');
        buf_adds(&login, u->password ? u->password : "");
    }
    amqp_connection_start_ok_t ok = {{ARRAY_SIZE(properties), properties},
                                     rabbit_bytes(external ? "EXTERNAL" : "PLAIN"),
                                     {login.len, login.data},
                                     rabbit_bytes("en_US")};
    rabbit_send(r, 0, AMQP_CONNECTION_START_OK_METHOD, &ok);
    explicit_bzero(r->frame, FRAME_MAX);
    if (login.data)
        explicit_bzero(login.data, login.len);
    buf_fini(&login);
    r->phase = TUNING;
}

static void send_tune_ok(struct rabbit *r, const amqp_connection_tune_t *tune)
{
    struct queue_url *u = &r->setup->url;
    r->frame_max = tune->frame_max == 0 ? FRAME_MAX : MIN(tune->frame_max, FRAME_MAX);
    r->lib.amqp_tune_connection(r->codec, 0, (int)r->frame_max,
                                0); /* which must be between two frames, as it is here */
    uint16_t channels = (uint16_t)(tune->channel_max == 0 ? CHANNELS : MIN(tune->channel_max, CHANNELS));
    amqp_connection_tune_ok_t ok = {channels, (uint32_t)r->frame_max, RABBIT_HEARTBEAT_SECONDS};
    amqp_connection_open_t open = {rabbit_bytes(u->vhost), rabbit_bytes(""), 0};
    rabbit_send(r, 0, AMQP_CONNECTION_TUNE_OK_METHOD, &ok);
    if (rabbit_send(r, 0, AMQP_CONNECTION_OPEN_METHOD, &open) < 0) {
        fail_protocol(r, "the name of the virtual host is too long");
        return;
    }
    r->phase = OPENING;
}

/* ---- what is heard ---- */

static void on_close(struct rabbit *r, const amqp_connection_close_t *m)
{
    struct error err = ERROR_INIT;
    amqp_connection_close_ok_t ok = {0};
    const char *reason = rabbit_closed(m->reply_code, m->reply_text, &err);
    if (r->phase == TUNING && m->reply_code == AMQP_ACCESS_REFUSED)
        reason = "AuthenticationFailed";
    if (m->reply_code == AMQP_NOT_FOUND) /* of a connection it is the virtual host */
        reason = "NotAllowed";
    rabbit_send(r, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
    fail(r, reason, &err);
}

static void on_connection_method(struct rabbit *r, const amqp_method_t *m)
{
    if (m->id == AMQP_CONNECTION_CLOSE_METHOD) {
        on_close(r, m->decoded);
    } else if (m->id == AMQP_CONNECTION_CLOSE_OK_METHOD && r->phase == CLOSING) {
        leave(r);
    } else if (r->phase == CLOSING) {
        return;
    } else if (m->id == AMQP_CONNECTION_START_METHOD && r->phase == STARTING) {
        send_start_ok(r, m->decoded);
    } else if (m->id == AMQP_CONNECTION_TUNE_METHOD && r->phase == TUNING) {
        send_tune_ok(r, m->decoded);
    } else if (m->id == AMQP_CONNECTION_OPEN_OK_METHOD && r->phase == OPENING) {
        r->phase = OPEN;
        r->tick_ms = loop_now_ms(r->loop);
        loop_timer_start(r->loop, &r->timer, TICK_MS);
        r->events->opened(r->ctx);
    } else if (m->id == AMQP_CONNECTION_BLOCKED_METHOD) {
        const amqp_connection_blocked_t *b = m->decoded;
        _cleanup_(freep) char *why = xstrndup(b->reason.bytes, b->reason.len);
        if (r->events->blocked)
            r->events->blocked(r->ctx, why);
    } else if (m->id == AMQP_CONNECTION_UNBLOCKED_METHOD) {
        if (r->events->blocked)
            r->events->blocked(r->ctx, NULL);
    } else {
        fail_protocol(r, "the server says what does not belong here");
    }
}

static void on_channel_method(struct rabbit *r, amqp_channel_t channel, const amqp_method_t *m)
{
    struct incoming *in = &r->incoming[channel];
    amqp_channel_close_ok_t ok = {0};
    if (m->id == AMQP_BASIC_DELIVER_METHOD || m->id == AMQP_BASIC_RETURN_METHOD) {
        in->method = *m;
        in->properties = NULL;
        in->body.len = 0;
        return;
    }
    if (m->id == AMQP_CHANNEL_CLOSE_METHOD)
        rabbit_send(r, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    r->events->method(r->ctx, channel, m);
}

static void on_content(struct rabbit *r, amqp_channel_t channel, const char *body, size_t len)
{
    struct incoming *in = &r->incoming[channel];
    amqp_method_t method = in->method;
    in->method.id = 0;
    r->events->content(r->ctx, channel, &method, in->properties, body, len);
    if (in->body.cap > FRAME_MAX)
        buf_fini(&in->body);
}

/* A header, or a piece of the body. False: it does not belong here. */
static bool on_part(struct rabbit *r, const amqp_frame_t *f)
{
    struct incoming *in = &r->incoming[f->channel];
    amqp_bytes_t piece = f->payload.body_fragment;
    if (in->method.id == 0)
        return false;
    if (f->frame_type == AMQP_FRAME_HEADER) {
        if (in->properties || f->payload.properties.class_id != AMQP_BASIC_CLASS ||
            f->payload.properties.body_size > BODY_MAX)
            return false;
        in->properties = f->payload.properties.decoded;
        in->size = f->payload.properties.body_size;
        if (in->size == 0)
            on_content(r, f->channel, "", 0);
        return true;
    }
    if (!in->properties || piece.len > in->size - in->body.len)
        return false;
    if (piece.len == in->size) {
        on_content(r, f->channel, piece.bytes, piece.len);
        return true;
    }
    buf_add(&in->body, piece.bytes, piece.len);
    if (in->body.len == in->size)
        on_content(r, f->channel, in->body.data, in->body.len);
    return true;
}

static void on_frame(struct rabbit *r, const amqp_frame_t *f)
{
    bool content = f->frame_type == AMQP_FRAME_HEADER || f->frame_type == AMQP_FRAME_BODY;
    if (f->frame_type == AMQP_FRAME_HEARTBEAT)
        return;
    if (f->frame_type == OTHER_VERSION)
        fail_protocol(r, "the server speaks another version of AMQP than 0-9-1");
    else if (f->frame_type == AMQP_FRAME_METHOD && f->channel == 0)
        on_connection_method(r, &f->payload.method);
    else if (r->phase == CLOSING)
        return;
    else if (r->phase != OPEN || f->channel == 0 || f->channel >= CHANNELS)
        fail_protocol(r, "the server says what does not belong here");
    else if (f->frame_type == AMQP_FRAME_METHOD)
        on_channel_method(r, f->channel, &f->payload.method);
    else if (!content || !on_part(r, f))
        fail_protocol(r, "content comes out of order");
}

static void on_received(void *ctx, const char *data, size_t len)
{
    struct rabbit *r = ctx;
    r->heard_ms = loop_now_ms(r->loop);
    while (len > 0 && r->phase != DEAD) {
        amqp_frame_t f;
        int n = r->lib.amqp_handle_input(r->codec, (amqp_bytes_t){len, (void *)data}, &f);
        if (n < 0) {
            fail_protocol(r, "the server speaks no AMQP 0-9-1");
            return;
        }
        data += n;
        len -= (size_t)n;
        if (f.frame_type == 0)
            continue;
        on_frame(r, &f);
        /* The codec's memory is needed until the last part has come. */
        if (f.channel >= CHANNELS || r->incoming[f.channel].method.id == 0)
            r->lib.amqp_maybe_release_buffers_on_channel(r->codec, f.channel);
    }
}

static void on_wire_ended(void *ctx, const struct error *err)
{
    struct rabbit *r = ctx;
    struct error e = *err;
    const char *reason = "ConnectionFailed";
    if (r->phase >= STARTING)
        reason = "ConnectionLost";
    else if (e.code == -ECONNREFUSED)
        reason = "ConnectionRefused";
    else if (e.code == -ETIMEDOUT)
        reason = "ConnectionTimedOut";
    else if (e.code == -EHOSTUNREACH)
        reason = "HostNotFound";
    else if (e.code == -EPROTO)
        reason = "TLSFailed";
    fail(r, reason, &e);
}

static void on_connected(void *ctx)
{
    struct rabbit *r = ctx;
    static const char greeting[8] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
    wire_write(r->wire, greeting, sizeof(greeting));
    r->phase = STARTING;
    loop_timer_start(r->loop, &r->timer, QUEUE_SILENCE_MS);
}

/* ---- time ---- */

static void on_timer(struct timer *timer, void *ctx)
{
    (void)timer;
    struct rabbit *r = ctx;
    struct error err = ERROR_INIT;
    int64_t now = loop_now_ms(r->loop), late = now - r->tick_ms - TICK_MS;
    if (r->phase == CLOSING) {
        leave(r);
        return;
    }
    if (r->phase != OPEN) {
        error_set(&err, -ETIMEDOUT, "no login within %d s", QUEUE_SILENCE_MS / 1000);
        fail(r, "ConnectionTimedOut", &err);
        return;
    }
    /* Where we ourselves stood still, what came meanwhile is not read yet. */
    if (late > TICK_MS)
        r->heard_ms += late;
    r->tick_ms = now;
    if (now - r->heard_ms >= RABBIT_DEAD_MS) {
        error_set(&err, -ETIMEDOUT, "no sign of life for %d s", RABBIT_DEAD_MS / 1000);
        fail(r, "ConnectionLost", &err);
        return;
    }
    if (now - r->said_ms >= TICK_MS)
        send_frame(r, AMQP_FRAME_HEARTBEAT, 0, NULL, 0);
    loop_timer_start(r->loop, &r->timer, TICK_MS);
}

/* ---- the beginning ---- */

static void load(void *ctx)
{
    struct rabbit *r = ctx;
    /* It stays, with what it brings along. */
    void *handle = dlopen("librabbitmq.so.4", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) {
        error_set(&r->error, -ENOPKG, "RabbitMQ needs librabbitmq: %s", dlerror());
        return;
    }
#define RESOLVE(f)                                                                                                     \
    *(void **)&r->lib.f = dlsym(handle, #f);                                                                           \
    if (!r->lib.f) {                                                                                                   \
        error_set(&r->error, -ENOPKG, "RabbitMQ needs librabbitmq: %s", dlerror());                                    \
        return;                                                                                                        \
    }
    FUNCTIONS(RESOLVE)
#undef RESOLVE
}

static void loaded(void *ctx)
{
    struct rabbit *r = ctx;
    static const struct wire_events events = {on_connected, on_received, on_wire_ended};
    const struct queue_url *u = &r->setup->url;
    r->loading = false;
    if (r->closed) {
        leave(r);
    } else if (r->error.code != 0) {
        fail(r, "LibraryMissing", &r->error);
    } else {
        r->codec = r->lib.amqp_new_connection();
        r->phase = CONNECTING;
        const struct wire_target t = {.host = u->hosts[0].host,
                                      .port = u->hosts[0].port,
                                      .tls = u->tls,
                                      .config = r->setup->config.tls,
                                      .connect_ms = QUEUE_CONNECT_MS};
        r->wire = wire_open(r->http, &t, &events, r);
    }
}

struct rabbit *rabbit_open(const struct queue_env *env, struct queue_setup *setup, const char *role,
                           const struct rabbit_events *events, void *ctx)
{
    struct rabbit *r = xcalloc(1, sizeof(*r));
    r->loop = env->loop;
    r->http = env->http;
    r->setup = queue_setup_ref(setup);
    r->role = xstrdup(role);
    r->events = events;
    r->ctx = ctx;
    r->frame = xmalloc(FRAME_MAX);
    r->frame_max = FRAME_MAX;
    timer_init(&r->timer, on_timer, r);
    loop_task_init(&r->gone, on_gone, r);
    r->loading = true;
    loop_work_submit(r->loop, &r->work, load, loaded, r);
    return r;
}

/* ---- rabbit_close() ---- */

struct farewell {
    struct loop_task task;
    void (*done)(void *ctx);
    void *ctx;
};

static void on_farewell(void *ctx)
{
    struct farewell *f = ctx;
    f->done(f->ctx);
    free(f);
}

void rabbit_close(struct rabbit *r, struct loop *loop, void (*done)(void *ctx), void *ctx)
{
    if (!r && done) {
        struct farewell *f = xcalloc(1, sizeof(*f));
        f->done = done;
        f->ctx = ctx;
        loop_task_init(&f->task, on_farewell, f);
        loop_defer(loop, &f->task);
    }
    if (!r)
        return;
    r->closed = true;
    r->done = done;
    r->done_ctx = ctx;
    if (r->phase != OPEN) {
        leave(r);
        return;
    }
    amqp_connection_close_t bye = {AMQP_REPLY_SUCCESS, rabbit_bytes("bye"), 0, 0};
    rabbit_send(r, 0, AMQP_CONNECTION_CLOSE_METHOD, &bye);
    r->phase = CLOSING;
    loop_timer_start(r->loop, &r->timer, RABBIT_FAREWELL_MS);
}
