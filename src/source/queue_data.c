#include "source/queue_data.h"

#include "base/clock.h"
#include "base/util.h"

#include <glib.h>

#define LEVELS_ABOVE 4 /* of a body in a batch, and of an event in what shows it */

/* `name`, or `name_base64` where it is no text that JSON can hold. */
static void add_bytes(cJSON *o, const char *name, const char *data, size_t len)
{
    if (utf8_valid(data, len) && !memchr(data, '\0', len)) {
        cJSON *text = cJSON_CreateNull(); /* which has no text to copy: `data` may go on behind it */
        text->type = cJSON_String;
        text->valuestring = cJSON_malloc(len + 1);
        memcpy(text->valuestring, data, len);
        text->valuestring[len] = '\0';
        cJSON_AddItemToObject(o, name, text);
        return;
    }
    _cleanup_(freep) char *key = xasprintf("%s_base64", name);
    char *text = g_base64_encode((const guchar *)data, len);
    cJSON_AddStringToObject(o, key, text);
    g_free(text);
}

static bool deeper_than(const cJSON *v, int levels)
{
    if (!v->child)
        return false;
    if (levels == 0)
        return true;
    for (const cJSON *child = v->child; child; child = child->next)
        if (child->child && deeper_than(child, levels - 1))
            return true;
    return false;
}

static void add_body(cJSON *o, const char *data, size_t len)
{
    cJSON *v = NULL;
    /* The event must parse as well, with the body some levels down. */
    if (len > 0 && value_parse(data, len, &v, NULL) == 0 && !deeper_than(v, VALUE_DEPTH_MAX - LEVELS_ABOVE)) {
        cJSON_AddItemToObject(o, "body", v);
        return;
    }
    cJSON_Delete(v);
    add_bytes(o, "body", data, len);
}

/* What a broker says is not always text. */
static void clean(cJSON *v)
{
    if (v->string && !utf8_valid(v->string, strlen(v->string))) {
        struct buf b = {0};
        text_escape(&b, v->string);
        cJSON_free(v->string);
        v->string = cJSON_malloc(b.len + 1);
        memcpy(v->string, b.data, b.len + 1);
        buf_fini(&b);
    }
    if (cJSON_IsString(v) && !utf8_valid(v->valuestring, strlen(v->valuestring))) {
        struct buf b = {0};
        text_escape(&b, v->valuestring);
        cJSON_SetValuestring(v, b.data);
        buf_fini(&b);
    }
    for (cJSON *child = v->child; child; child = child->next)
        clean(child);
}

/* The beginning of a body that is too long, without half a character at its end. */
static void add_beginning(cJSON *o, const char *data, size_t len)
{
    size_t n = QUEUE_BODY_KEPT;
    while (n > QUEUE_BODY_KEPT - 4 && ((unsigned char)data[n] & 0xC0) == 0x80)
        n--;
    add_bytes(o, "body", data, n);
    cJSON_AddItemToObject(o, "body_bytes", value_number_from_int((int64_t)len));
}

cJSON *queue_message_data(struct queue_message *m, bool *ret_too_large)
{
    cJSON *o = cJSON_CreateObject();
    *ret_too_large = false;
    if (m->fields) {
        _cleanup_(freep) char *text = value_print(m->fields);
        size_t len = strlen(text);
        *ret_too_large = len > QUEUE_BODY_MAX;
        clean(m->fields);
        if (*ret_too_large)
            add_beginning(o, text, len);
        else
            cJSON_AddItemToObject(o, "body", steal(&m->fields));
        cJSON_Delete(steal(&m->fields));
    } else {
        *ret_too_large = m->len > QUEUE_BODY_MAX;
        (*ret_too_large ? add_beginning : add_body)(o, m->body ? m->body : "", m->len);
    }
    if (m->queue)
        add_bytes(o, "queue", m->queue, strlen(m->queue));
    if (m->headers) {
        clean(m->headers);
        cJSON_AddItemToObject(o, "headers", steal(&m->headers));
    }
    if (m->key)
        add_bytes(o, "key", m->key, m->key_len);
    if (m->has_partition) {
        cJSON_AddItemToObject(o, "partition", value_number_from_int(m->partition));
        cJSON_AddItemToObject(o, "offset", value_number_from_int(m->offset));
    }
    if (m->message_id)
        add_bytes(o, "message_id", m->message_id, strlen(m->message_id));
    if (m->timestamp_ms) {
        char when[TIME_TEXT_SIZE];
        time_format(m->timestamp_ms, when);
        cJSON_AddStringToObject(o, "timestamp", when);
    }
    return o;
}

cJSON *queue_batch_data(const cJSON *const *messages, size_t n)
{
    cJSON *o = cJSON_CreateObject();
    cJSON *bodies = cJSON_AddArrayToObject(o, "body");
    cJSON *list = cJSON_AddArrayToObject(o, "messages");
    for (size_t i = 0; i < n; i++) {
        const cJSON *body = value_get(messages[i], "body");
        cJSON_AddItemToArray(bodies, body ? cJSON_Duplicate(body, true) : cJSON_CreateNull());
        cJSON_AddItemToArray(list, cJSON_Duplicate(messages[i], true));
    }
    return o;
}
