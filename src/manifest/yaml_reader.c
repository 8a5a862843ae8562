#include "manifest/yaml_reader.h"

#include "base/util.h"
#include "manifest/yaml_scalar.h"

#include <errno.h>
#include <stdio.h>
#include <uthash.h>
#include <yaml.h>

/* A key met in a mapping that is still open, for duplicates. The first few are looked through, more are in a map. */
#define KEYS_LISTED_MAX 24
struct key_seen {
    const char *text; /* its node's own, once that has its value */
    size_t len;
    unsigned line;
};
struct key_mapped {
    UT_hash_handle hh;
    struct key_seen seen;
};

struct anchor {
    UT_hash_handle hh;
    const cJSON *node;
    bool open; /* its collection has not ended: an alias to it would contain itself */
    char name[];
};

/* A collection that is being read. */
struct frame {
    cJSON *node;
    size_t place;            /* index in the document's places */
    size_t last_end;         /* where its last item ended: a block collection ends there */
    struct key_seen *listed; /* of a mapping: room for the first ones */
    struct key_mapped *keys; /* all of them, where they are more than are listed */
    size_t n_keys;
    struct anchor *anchor;
    bool map, flow;
    bool is_key;     /* it stands where a key should: read, checked, left out */
    bool want_value; /* a mapping: the key is read, its value is next */
    bool drop;       /* that key is in error: its value is read, checked and left out */
    char *key;       /* owned until its node has it */
    size_t key_offset, key_end;
    unsigned key_line, key_column;
};

struct reader {
    struct document_set *set;
    const struct yaml_piece *piece;
    struct document doc;
    size_t places_cap;
    yaml_parser_t parser;
    size_t cursor_index, cursor; /* a character count in the piece and its byte: marks move mostly forward */
    unsigned depth;
    struct anchor *anchors;
    size_t alias_nodes, alias_bytes;
    bool alias_spent;
    struct frame frames[VALUE_DEPTH_MAX]; /* these two, the last, are not zeroed */
    struct key_seen listed[VALUE_DEPTH_MAX][KEYS_LISTED_MAX];
};

/* Where an event stands in the file. */
struct spot {
    size_t offset;
    unsigned line, column;
};

enum progress { GO_ON, DONE, BROKEN };

__attribute__((format(printf, 4, 5))) static void fail(struct reader *r, unsigned line, unsigned column,
                                                       const char *format, ...)
{
    struct error err = ERROR_INIT;
    va_list args;
    va_start(args, format);
    error_setv(&err, -EINVAL, format, args);
    va_end(args);
    document_set_error(r->set, r->set->n_documents, line, column, "%s", err.message);
    r->doc.bad = true;
}

/* --- places --- */

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xC0) == 0x80;
}

/* The byte of a mark: libyaml's index counts characters of the piece, which was checked to be UTF-8. */
static size_t mark_offset(struct reader *r, const yaml_mark_t *mark)
{
    while (r->cursor_index < mark->index && r->cursor < r->piece->to) {
        r->cursor++;
        while (r->cursor < r->piece->to && is_continuation(r->piece->text[r->cursor]))
            r->cursor++;
        r->cursor_index++;
    }
    while (r->cursor_index > mark->index && r->cursor > r->piece->from) {
        r->cursor--;
        while (r->cursor > r->piece->from && is_continuation(r->piece->text[r->cursor]))
            r->cursor--;
        r->cursor_index--;
    }
    return r->cursor;
}

static struct spot spot_of(struct reader *r, const yaml_mark_t *mark)
{
    return (struct spot){.offset = mark_offset(r, mark),
                         .line = r->piece->from_line + (unsigned)mark->line + 1,
                         .column = (unsigned)mark->column + 1};
}

/* The place of a node, without its key. */
static struct document_place *add_place(struct reader *r, const cJSON *node, const struct spot *spot, size_t end)
{
    struct document_place *place = document_place_add(&r->doc, &r->places_cap, node);
    place->offset = spot->offset;
    place->end = end;
    place->line = spot->line;
    place->column = spot->column;
    return place;
}

/* --- the tree --- */

static cJSON *new_node(int type)
{
    cJSON *node = cJSON_CreateNull(); /* by its hooks: model/value_alloc.h */
    if (!node)
        abort(); /* out of memory */
    node->type = type;
    return node;
}

/* Put a value, whose place is number `at`, where it belongs: under the pending key, at the end of the array, or on top.
 * A collection is hung up when it starts, so that a text that breaks off leaves what was read. */
static void attach(struct reader *r, cJSON *node, size_t at)
{
    struct frame *frame = r->depth > 0 ? &r->frames[r->depth - 1] : NULL;
    if (!frame) {
        r->doc.root = node;
        return;
    }
    if (!frame->map) {
        cJSON_AddItemToArray(frame->node, node);
        return;
    }
    struct document_place *place = &r->doc.places[at];
    place->key_offset = frame->key_offset;
    place->key_end = frame->key_end;
    place->key_line = frame->key_line;
    place->key_column = frame->key_column;
    if (frame->drop) {
        document_drop(&r->doc, node);
    } else {
        node->string = steal(&frame->key);
        cJSON_AddItemToArray(frame->node, node); /* appends to an object too, without copying the key again */
    }
    frame->want_value = frame->drop = false;
}

/* The item of the innermost collection ended at `end` (of the text). */
static void item_ended(struct reader *r, size_t end)
{
    if (r->depth > 0)
        r->frames[r->depth - 1].last_end = end;
}

static bool wants_key(const struct reader *r)
{
    return r->depth > 0 && r->frames[r->depth - 1].map && !r->frames[r->depth - 1].want_value;
}

static struct anchor *set_anchor(struct reader *r, const yaml_char_t *name, const cJSON *node, bool open)
{
    if (!name)
        return NULL;
    struct anchor *anchor = NULL;
    HASH_FIND_STR(r->anchors, (const char *)name, anchor);
    if (!anchor) {
        size_t n = strlen((const char *)name);
        anchor = xcalloc(1, sizeof(*anchor) + n + 1);
        memcpy(anchor->name, name, n + 1);
        HASH_ADD_STR(r->anchors, name, anchor);
    }
    anchor->node = node; /* a name may be given again: the latest counts */
    anchor->open = open;
    return anchor;
}

/* --- tags and scalars --- */

enum tag { TAG_NONE, TAG_ANY, TAG_STR, TAG_INT, TAG_FLOAT, TAG_BOOL, TAG_NULL, TAG_MAP, TAG_SEQ, TAG_UNKNOWN };

#define CORE_TAG "tag:yaml.org,2002:"

static enum tag tag_of(const yaml_char_t *tag)
{
    static const struct {
        const char *name;
        enum tag tag;
    } known[] = {{"str", TAG_STR},   {"int", TAG_INT}, {"float", TAG_FLOAT}, {"bool", TAG_BOOL},
                 {"null", TAG_NULL}, {"map", TAG_MAP}, {"seq", TAG_SEQ}};
    const char *text = (const char *)tag;
    if (!text || !*text)
        return TAG_NONE;
    if (streq(text, "!"))
        return TAG_ANY;
    if (strncmp(text, CORE_TAG, strlen(CORE_TAG)) == 0)
        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
            if (streq(text + strlen(CORE_TAG), known[i].name))
                return known[i].tag;
    return TAG_UNKNOWN;
}

static void fail_tag(struct reader *r, const struct spot *spot, const yaml_char_t *tag)
{
    const char *text = (const char *)tag;
    bool core = strncmp(text, CORE_TAG, strlen(CORE_TAG)) == 0;
    fail(r, spot->line, spot->column, "unknown tag %s%s; known are !!str !!int !!float !!bool !!null !!map !!seq",
         core ? "!!" : "", core ? text + strlen(CORE_TAG) : text);
}

/* The kind of a scalar by its tag and style. False: the tag does not fit, and the error is noted. */
static bool scalar_kind(struct reader *r, const yaml_event_t *event, const struct spot *spot, enum yaml_kind *ret)
{
    static const char *const names[] = {[TAG_INT] = "!!int",   [TAG_FLOAT] = "!!float", [TAG_BOOL] = "!!bool",
                                        [TAG_NULL] = "!!null", [TAG_MAP] = "!!map",     [TAG_SEQ] = "!!seq"};
    const char *text = (const char *)event->data.scalar.value;
    enum yaml_kind kind = yaml_plain_kind(text, event->data.scalar.length);
    enum tag tag = tag_of(event->data.scalar.tag);
    bool fits;
    switch (tag) {
    case TAG_NONE:
        *ret = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? kind : YAML_KIND_STRING;
        return true;
    case TAG_ANY:
    case TAG_STR:
        *ret = YAML_KIND_STRING;
        return true;
    case TAG_UNKNOWN:
        fail_tag(r, spot, event->data.scalar.tag);
        return false;
    case TAG_INT:
        fits = kind == YAML_KIND_INT;
        break;
    case TAG_FLOAT:
        fits = kind == YAML_KIND_INT || kind == YAML_KIND_FLOAT || kind == YAML_KIND_NOT_FINITE;
        break;
    case TAG_BOOL:
        fits = kind == YAML_KIND_BOOL;
        break;
    case TAG_NULL:
        fits = kind == YAML_KIND_NULL;
        break;
    default:
        fits = false;
    }
    if (!fits) {
        char brief[64];
        _cleanup_(cjson_deletep) cJSON *got = value_string(text);
        fail(r, spot->line, spot->column, "tag %s does not fit %s", names[tag], value_brief(got, brief, sizeof(brief)));
        return false;
    }
    *ret = kind;
    return true;
}

/* A NUL in a scalar can only have come from an escape in double quotes; find that escape, to name its place. */
static void fail_nul(struct reader *r, const struct spot *spot, size_t end)
{
    static const char *const escapes[] = {"0", "x00", "u0000", "U00000000"};
    unsigned line = spot->line, column = spot->column;
    const char *p = r->piece->text + spot->offset, *stop = r->piece->text + end;
    for (; p < stop; p++) {
        if (*p == '\\' && p + 1 < stop) {
            for (size_t i = 0; i < ARRAY_SIZE(escapes); i++) {
                size_t n = strlen(escapes[i]);
                if ((size_t)(stop - p - 1) >= n && memcmp(p + 1, escapes[i], n) == 0) {
                    fail(r, line, column, "a string cannot hold a NUL character (\\%s)", escapes[i]);
                    return;
                }
            }
        }
        if (*p == '\n' || (*p == '\r' && !(p + 1 < stop && p[1] == '\n'))) {
            line++;
            column = 1;
        } else if (!is_continuation(*p)) {
            column++;
        }
        if (*p == '\\' && p + 1 < stop && p[1] == '\\') {
            p++;
            column++;
        }
    }
    fail(r, spot->line, spot->column, "a string cannot hold a NUL character");
}

/* The node of a scalar; NULL: refused, and the error is noted. */
static cJSON *scalar_node(struct reader *r, const yaml_event_t *event, const struct spot *spot, size_t end)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    if (memchr(text, '\0', len)) {
        fail_nul(r, spot, end);
        return NULL;
    }
    enum yaml_kind kind;
    if (!scalar_kind(r, event, spot, &kind))
        return NULL;
    switch (kind) {
    case YAML_KIND_NULL:
        return new_node(cJSON_NULL);
    case YAML_KIND_BOOL:
        return new_node(text[0] == 't' || text[0] == 'T' ? cJSON_True : cJSON_False);
    case YAML_KIND_NOT_FINITE:
        fail(r, spot->line, spot->column, "a number must be finite, got %s (put a string in quotes)", text);
        return NULL;
    case YAML_KIND_INT:
    case YAML_KIND_FLOAT: {
        cJSON *number = yaml_number(text, len);
        if (!number)
            fail(r, spot->line, spot->column, "an integer in hexadecimal or octal has at most %d digits, got %zu",
                 YAML_RADIX_DIGITS_MAX, len - 2);
        return number;
    }
    case YAML_KIND_STRING:
        break;
    }
    return value_string(text);
}

/* --- keys --- */

static const struct key_seen *key_find(const struct frame *frame, const char *text, size_t n)
{
    struct key_mapped *mapped = NULL;
    for (size_t i = 0; !frame->keys && i < frame->n_keys; i++)
        if (frame->listed[i].len == n && memcmp(frame->listed[i].text, text, n) == 0)
            return &frame->listed[i];
    HASH_FIND(hh, frame->keys, text, n, mapped);
    return mapped ? &mapped->seen : NULL;
}

static void key_map(struct frame *frame, const struct key_seen *key)
{
    struct key_mapped *mapped = xcalloc(1, sizeof(*mapped));
    mapped->seen = *key;
    HASH_ADD_KEYPTR(hh, frame->keys, mapped->seen.text, mapped->seen.len, mapped);
}

/* Keep `text`, which lives as long as the mapping is open. */
static void key_add(struct frame *frame, const char *text, size_t n, unsigned line)
{
    const struct key_seen key = {text, n, line};
    if (frame->n_keys == KEYS_LISTED_MAX)
        for (size_t i = 0; i < KEYS_LISTED_MAX; i++)
            key_map(frame, &frame->listed[i]);
    if (frame->n_keys >= KEYS_LISTED_MAX)
        key_map(frame, &key);
    else
        frame->listed[frame->n_keys] = key;
    frame->n_keys++;
}

/* A key is read. NULL text: it is in error. */
static void take_key(struct reader *r, const char *text, const struct spot *spot, size_t end)
{
    struct frame *frame = &r->frames[r->depth - 1];
    frame->want_value = true;
    frame->drop = true;
    frame->key = NULL;
    frame->key_offset = spot->offset;
    frame->key_end = end;
    frame->key_line = spot->line;
    frame->key_column = spot->column;
    if (!text)
        return;
    size_t n = strlen(text);
    const struct key_seen *seen = key_find(frame, text, n);
    if (seen) {
        char brief[64];
        _cleanup_(cjson_deletep) cJSON *got = value_string(text);
        fail(r, spot->line, spot->column, "duplicate key %s, first given in line %u",
             value_brief(got, brief, sizeof(brief)), seen->line);
        return;
    }
    frame->key = xmemdup(text, n + 1);
    key_add(frame, frame->key, n, spot->line);
    frame->drop = false;
}

static void take_scalar_key(struct reader *r, const yaml_event_t *event, const struct spot *spot, size_t end)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    enum yaml_kind kind;
    if (memchr(text, '\0', len)) {
        fail_nul(r, spot, end);
        text = NULL;
    } else if (plain && len == 0) {
        fail(r, spot->line, spot->column, "a key is missing before the colon");
        text = NULL;
    } else if (plain && streq(text, "<<")) {
        fail(r, spot->line, spot->column,
             "merge keys (<<) are not part of YAML 1.2 and not supported; repeat the keys, or alias a whole value");
        text = NULL;
    } else if (!scalar_kind(r, event, spot, &kind)) {
        text = NULL;
    }
    if (text && event->data.scalar.anchor) {
        cJSON *node = value_string(text);
        document_drop(&r->doc, node);
        set_anchor(r, event->data.scalar.anchor, node, false);
    }
    take_key(r, text, spot, end);
}

/* --- aliases --- */

/* Nodes, bytes of strings and height of a tree; stops counting nodes soon after `limit`. */
static void measure(const cJSON *node, size_t limit, size_t *nodes, size_t *bytes, unsigned *height)
{
    unsigned highest = 0;
    (*nodes)++;
    *bytes += node->valuestring ? strlen(node->valuestring) : 0;
    for (const cJSON *child = node->child; child && *nodes <= limit; child = child->next) {
        unsigned below = 0;
        *bytes += child->string ? strlen(child->string) : 0;
        measure(child, limit, nodes, bytes, &below);
        highest = MAX(highest, below);
    }
    *height = highest + (cJSON_IsObject(node) || cJSON_IsArray(node) ? 1 : 0);
}

/* A copy with the alias's place for every node. Recurses at most VALUE_DEPTH_MAX deep. */
static cJSON *copy_tree(struct reader *r, const cJSON *node, const struct spot *spot, size_t end)
{
    cJSON *copy = new_node(node->type);
    copy->valueint = node->valueint;
    copy->valuedouble = node->valuedouble;
    copy->valuestring = xstrdup0(node->valuestring);
    add_place(r, copy, spot, end);
    for (const cJSON *child = node->child; child; child = child->next) {
        size_t at = r->doc.n_places;
        cJSON *below = copy_tree(r, child, spot, end);
        r->doc.places[at].copied = true;
        if (child->string) {
            below->string = xstrdup(child->string);
            r->doc.places[at].key_offset = spot->offset;
            r->doc.places[at].key_end = end;
            r->doc.places[at].key_line = spot->line;
            r->doc.places[at].key_column = spot->column;
        }
        cJSON_AddItemToArray(copy, below);
    }
    return copy;
}

/* What an alias stands for; NULL: it is in error, which is noted. */
static const cJSON *alias_target(struct reader *r, const char *name, const struct spot *spot)
{
    struct anchor *anchor = NULL;
    HASH_FIND_STR(r->anchors, name, anchor);
    if (!anchor) {
        fail(r, spot->line, spot->column, "unknown anchor %s (a string that starts with * needs quotes)", name);
        return NULL;
    }
    if (anchor->open) {
        fail(r, spot->line, spot->column, "alias *%s lies within its own anchor &%s", name, name);
        return NULL;
    }
    if (r->alias_spent)
        return NULL; /* said once, and measuring on would be work without a bound */
    size_t nodes = 0, bytes = 0;
    unsigned height = 0;
    measure(anchor->node, DOCUMENT_ALIAS_NODES_MAX - r->alias_nodes, &nodes, &bytes, &height);
    if (r->alias_nodes + nodes > DOCUMENT_ALIAS_NODES_MAX || r->alias_bytes + bytes > DOCUMENT_ALIAS_BYTES_MAX) {
        r->alias_spent = true;
        fail(r, spot->line, spot->column, "aliases expand to more than %d nodes or %zu MiB", DOCUMENT_ALIAS_NODES_MAX,
             DOCUMENT_ALIAS_BYTES_MAX >> 20);
        return NULL;
    }
    if (r->depth + height > VALUE_DEPTH_MAX) {
        fail(r, spot->line, spot->column, "nested deeper than %d levels", VALUE_DEPTH_MAX);
        return NULL;
    }
    r->alias_nodes += nodes;
    r->alias_bytes += bytes;
    return anchor->node;
}

static void take_alias(struct reader *r, const char *name, const struct spot *spot, size_t end)
{
    const cJSON *target = alias_target(r, name, spot);
    if (wants_key(r)) {
        if (target && (cJSON_IsObject(target) || cJSON_IsArray(target))) {
            fail(r, spot->line, spot->column, "a key must be a scalar, got %s", value_type_name(target));
            target = NULL;
        }
        _cleanup_(freep) char *printed = target && !cJSON_IsString(target) ? value_print(target) : NULL;
        take_key(r, printed ? printed : target ? target->valuestring : NULL, spot, end);
        return;
    }
    size_t at = r->doc.n_places;
    cJSON *node = target ? copy_tree(r, target, spot, end) : new_node(cJSON_NULL);
    if (!target)
        add_place(r, node, spot, end)->bad = true;
    attach(r, node, at);
    item_ended(r, end);
}

/* --- events --- */

static void take_scalar(struct reader *r, const yaml_event_t *event, const struct spot *spot, size_t end)
{
    if (wants_key(r)) {
        take_scalar_key(r, event, spot, end);
        return;
    }
    size_t at = r->doc.n_places;
    cJSON *node = scalar_node(r, event, spot, end);
    bool bad = !node;
    if (bad)
        node = new_node(cJSON_NULL);
    add_place(r, node, spot, end)->bad = bad;
    set_anchor(r, event->data.scalar.anchor, node, false);
    attach(r, node, at);
    item_ended(r, end);
}

static enum progress start_collection(struct reader *r, const yaml_event_t *event, const struct spot *spot)
{
    bool map = event->type == YAML_MAPPING_START_EVENT;
    const yaml_char_t *tag = map ? event->data.mapping_start.tag : event->data.sequence_start.tag;
    const yaml_char_t *name = map ? event->data.mapping_start.anchor : event->data.sequence_start.anchor;
    bool flow = map ? event->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE
                    : event->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
    if (r->depth == VALUE_DEPTH_MAX) {
        fail(r, spot->line, spot->column, "nested deeper than %d levels", VALUE_DEPTH_MAX);
        return BROKEN;
    }
    enum tag kind = tag_of(tag);
    if (kind == TAG_UNKNOWN)
        fail_tag(r, spot, tag);
    else if (kind != TAG_NONE && kind != TAG_ANY && kind != (map ? TAG_MAP : TAG_SEQ))
        fail(r, spot->line, spot->column, "tag !!%s does not fit a %s", (const char *)tag + strlen(CORE_TAG),
             map ? "mapping" : "sequence");
    cJSON *node = new_node(map ? cJSON_Object : cJSON_Array);
    struct frame frame = {.node = node, .map = map, .flow = flow, .place = r->doc.n_places, .last_end = spot->offset};
    add_place(r, node, spot, spot->offset)->flow = flow;
    frame.anchor = set_anchor(r, name, node, true);
    if (wants_key(r)) {
        fail(r, spot->line, spot->column, "a key must be a scalar, got a %s", map ? "mapping" : "sequence");
        document_drop(&r->doc, node);
        frame.is_key = true;
    } else {
        attach(r, node, frame.place);
    }
    frame.listed = r->listed[r->depth];
    r->frames[r->depth++] = frame;
    return GO_ON;
}

static void free_keys(struct frame *frame)
{
    struct key_mapped *k = frame->keys, *next;
    HASH_CLEAR(hh, frame->keys); /* frees the table; the list through the items stays */
    for (; k; k = next) {
        next = k->hh.next;
        free(k);
    }
    free(steal(&frame->key)); /* the text broke off before its value */
}

static void end_collection(struct reader *r, size_t end)
{
    struct frame *frame = &r->frames[--r->depth];
    size_t real_end = frame->flow ? end : frame->last_end; /* libyaml ends a block where the next token starts */
    struct document_place *place = &r->doc.places[frame->place];
    place->end = real_end;
    if (frame->anchor && frame->anchor->node == frame->node)
        frame->anchor->open = false;
    free_keys(frame);
    if (frame->is_key)
        take_key(r, NULL, &(struct spot){place->offset, place->line, place->column}, real_end);
    item_ended(r, real_end);
}

static enum progress take_event(struct reader *r, const yaml_event_t *event)
{
    struct spot spot = spot_of(r, &event->start_mark);
    size_t end = mark_offset(r, &event->end_mark);
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (event->data.document_start.tag_directives.start != event->data.document_start.tag_directives.end)
            fail(r, spot.line, spot.column, "%%TAG directives are not supported");
        return GO_ON;
    case YAML_ALIAS_EVENT:
        take_alias(r, (const char *)event->data.alias.anchor, &spot, end);
        return GO_ON;
    case YAML_SCALAR_EVENT:
        take_scalar(r, event, &spot, end);
        return GO_ON;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return start_collection(r, event, &spot);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        end_collection(r, end);
        return GO_ON;
    case YAML_STREAM_END_EVENT:
        return DONE;
    default:
        return GO_ON;
    }
}

/* --- errors of libyaml --- */

/* Only white space and comments from here to the end of the piece. */
static bool nothing_follows(const struct reader *r, size_t at)
{
    bool comment = false;
    for (; at < r->piece->to; at++) {
        char c = r->piece->text[at];
        if (c == '\n' || c == '\r')
            comment = false;
        else if (c == '#')
            comment = true;
        else if (!comment && c != ' ' && c != '\t')
            return false;
    }
    return true;
}

/* What is probably meant, for the mistakes that are made most. */
static const char *hint(const char *context, const char *problem, const char *at, const char *end)
{
    if (strstr(context, "scanning an alias"))
        return "; a string that starts with * needs quotes";
    if (strstr(context, "scanning an anchor"))
        return "; a string that starts with & needs quotes";
    if (strstr(context, "scanning a tag") || strstr(context, "parsing a tag"))
        return "; a string that starts with ! needs quotes";
    if (at < end && strstr(problem, "cannot start any token")) {
        if (*at == '\t')
            return "; indent with spaces, not tabs";
        if (*at == '@' || *at == '`' || *at == '%')
            return "; a string that starts with @, ` or % needs quotes";
    }
    return "";
}

/* A spot of an error. At the end of a text without a last newline libyaml is a line too far. */
static struct spot error_spot(struct reader *r, const yaml_mark_t *mark)
{
    struct spot spot = spot_of(r, mark);
    const char *text = r->piece->text;
    size_t end = r->piece->to, at = end;
    if (spot.offset < end || mark->column > 0 || end == r->piece->from || text[end - 1] == '\n' ||
        text[end - 1] == '\r')
        return spot;
    while (at > r->piece->from && text[at - 1] != '\n' && text[at - 1] != '\r')
        at--;
    spot.line--;
    for (; at < end; at++)
        spot.column += !is_continuation(text[at]);
    return spot;
}

static void fail_syntax(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem ? p->problem : "out of memory", *context = p->context ? p->context : "";
    struct spot spot = error_spot(r, &p->problem_mark);
    const char *more = hint(context, problem, r->piece->text + spot.offset, r->piece->text + r->piece->to);
    if (!*context || strstr(context, "for the next token")) { /* which is where the problem is */
        fail(r, spot.line, spot.column, "could not parse: %s%s", problem, more);
        return;
    }
    struct spot from = error_spot(r, &p->context_mark);
    if (nothing_follows(r, spot.offset)) /* where it began says more than the end of the text, which may be no line */
        spot = from;
    fail(r, spot.line, spot.column, "could not parse: %s (%s at %u:%u)%s", problem, context, from.line, from.column,
         more);
}

/* --- documents --- */

/* True: the text of the document was read to its end. */
static bool read_events(struct reader *r, bool *ret_empty)
{
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&r->parser, &event)) {
            fail_syntax(r);
            return false;
        }
        if (event.type == YAML_SCALAR_EVENT && r->depth == 0 && event.data.scalar.length == 0 &&
            event.data.scalar.plain_implicit && !event.data.scalar.anchor)
            *ret_empty = true;
        enum progress progress = take_event(r, &event);
        yaml_event_delete(&event);
        if (progress != GO_ON)
            return progress == DONE;
    }
}

static void free_anchors(struct anchor *anchors)
{
    struct anchor *anchor = anchors;
    HASH_CLEAR(hh, anchors);
    while (anchor) {
        struct anchor *next = anchor->hh.next;
        free(anchor);
        anchor = next;
    }
}

void yaml_read_piece(const struct yaml_piece *piece, struct document_set *set)
{
    _cleanup_(freep) struct reader *r = xmalloc(sizeof(*r));
    memset(r, 0, offsetof(struct reader, frames));
    r->set = set;
    r->piece = piece;
    r->cursor = piece->from;
    r->doc = (struct document){.start = piece->start, .end = piece->end, .same_line = piece->same_line};
    if (!yaml_parser_initialize(&r->parser))
        abort(); /* out of memory */
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)piece->text + piece->from, piece->to - piece->from);
    bool empty = false;
    r->doc.complete = read_events(r, &empty);
    yaml_parser_delete(&r->parser);
    while (r->depth > 0)
        free_keys(&r->frames[--r->depth]);
    free_anchors(r->anchors);
    if ((empty || !r->doc.root) && !r->doc.bad) {
        document_fini(&r->doc);
        return;
    }
    r->doc.line = r->doc.n_places > 0 ? r->doc.places[0].line : piece->start_line + 1;
    document_check_top(set, &r->doc, set->n_documents);
    document_set_add(set, &r->doc);
}
