#include "manifest/edit_splice.h"

#include "manifest/yaml_print.h"

#include <errno.h>

struct splice {
    const char *text;
    size_t len, end; /* end: of the document's own text */
    bool json;
    const struct document *doc;
    const char *newline;
    struct buf *out;
};

/* --- the text --- */

static void put(struct splice *s, size_t from, size_t to)
{
    if (to > from)
        buf_add(s->out, s->text + from, to - from);
}

/* text[0, from) + insert + text[to, end) */
static void put_around(struct splice *s, size_t from, const struct buf *insert, size_t to)
{
    put(s, 0, from);
    buf_add(s->out, insert->data ? insert->data : "", insert->len);
    put(s, to, s->len);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static size_t line_start(const struct splice *s, size_t at)
{
    while (at > s->doc->start && s->text[at - 1] != '\n')
        at--;
    return at;
}

/* The line's end before its newline. */
static size_t line_end(const struct splice *s, size_t at)
{
    while (at < s->end && s->text[at] != '\n')
        at++;
    return at > 0 && at < s->end && s->text[at - 1] == '\r' ? at - 1 : at;
}

static size_t next_line(const struct splice *s, size_t at)
{
    while (at < s->end && s->text[at] != '\n')
        at++;
    return at < s->end ? at + 1 : at;
}

static bool starts_line(const struct splice *s, size_t at)
{
    size_t from = line_start(s, at);
    while (from < at && is_blank(s->text[from]))
        from++;
    return from == at;
}

static size_t skip_blanks(const struct splice *s, size_t at)
{
    while (at < s->end && is_blank(s->text[at]))
        at++;
    return at;
}

/* The value's end without the newlines that a block scalar takes in. */
static size_t value_end(const struct splice *s, const struct document_place *place)
{
    size_t end = place->end;
    while (end > place->offset && (s->text[end - 1] == '\n' || s->text[end - 1] == '\r'))
        end--;
    return end;
}

static const struct document_place *place_of(const struct splice *s, const cJSON *node)
{
    return document_place(s->doc, node);
}

static bool is_collection(const cJSON *node)
{
    return cJSON_IsObject(node) || cJSON_IsArray(node);
}

static const cJSON *last_child(const cJSON *node)
{
    return node->child ? node->child->prev : NULL;
}

/* The length of the anchor that the value starts with, 0 without one. It is kept: others may refer to it. */
static size_t anchor_length(const struct splice *s, const struct document_place *place)
{
    size_t n = 0;
    if (s->json || place->offset == place->end || s->text[place->offset] != '&')
        return 0;
    while (place->offset + n < place->end && !strchr(" \t\r\n,[]{}", s->text[place->offset + n]))
        n++;
    return n;
}

static enum yaml_style style_of(const struct splice *s, const struct document_place *place)
{
    size_t at = place->offset, anchor = anchor_length(s, place);
    if (anchor > 0)
        at = skip_blanks(s, at + anchor);
    if (at >= place->end)
        return YAML_STYLE_AUTO;
    char first = s->text[at];
    return first == '\'' ? YAML_STYLE_SINGLE : first == '"' ? YAML_STYLE_DOUBLE : YAML_STYLE_AUTO;
}

/* --- flow style and JSON --- */

/* `text` with the blanks that start the line of `at` after each of its newlines. */
static void put_indented(const struct splice *s, struct buf *insert, const char *text, size_t at)
{
    size_t from = line_start(s, at), to = skip_blanks(s, from);
    for (; *text; text++) {
        if (*text == '\n')
            buf_adds(insert, s->newline);
        else
            buf_addc(insert, *text);
        if (*text == '\n')
            buf_add(insert, s->text + from, to - from);
    }
}

/* A value for flow style; `at` is on a line that is indented as the value's should be; `place` of the old one or NULL.
 */
static void flow_value(const struct splice *s, struct buf *insert, const cJSON *value, size_t at, bool many_lines,
                       const struct document_place *place)
{
    if (s->json) {
        _cleanup_(freep) char *text = many_lines ? value_print_pretty(value) : value_print(value);
        put_indented(s, insert, text, at);
    } else if (is_collection(value)) {
        yaml_print_flow(insert, value);
    } else {
        yaml_print_scalar(insert, value, true, place ? style_of(s, place) : YAML_STYLE_AUTO);
    }
}

static void flow_key(const struct splice *s, struct buf *insert, const char *key)
{
    if (s->json) {
        _cleanup_(cjson_deletep) cJSON *node = value_string(key);
        _cleanup_(freep) char *text = value_print(node);
        buf_adds(insert, text);
    } else {
        yaml_print_key(insert, key, true);
    }
    buf_adds(insert, ": ");
}

static bool has_newline(const struct splice *s, const struct document_place *place)
{
    return memchr(s->text + place->offset, '\n', place->end - place->offset) != NULL;
}

static void flow_replace(struct splice *s, const struct edit_step *step, struct buf *insert)
{
    const struct document_place *place = place_of(s, step->node), *parent = place_of(s, step->parent);
    if (place->offset == place->end) { /* a null that is not written: `{a}`, `{a:}`, `{a: }` */
        bool colon = memchr(s->text + place->key_end, ':', place->offset - place->key_end) != NULL;
        buf_adds(insert, !colon ? ": " : is_blank(s->text[place->offset - 1]) ? "" : " ");
    }
    size_t line = place->key_line > 0 ? place->key_offset : place->offset, anchor = anchor_length(s, place);
    if (anchor > 0)
        buf_add(insert, s->text + place->offset, anchor);
    if (anchor > 0)
        buf_addc(insert, ' ');
    flow_value(s, insert, step->want, line, has_newline(s, parent), place);
    put_around(s, place->offset, insert, place->end);
}

static void flow_add(struct splice *s, const struct edit_step *step, struct buf *insert)
{
    const struct document_place *parent = place_of(s, step->parent);
    const cJSON *last = last_child(step->parent);
    const struct document_place *before = last ? place_of(s, last) : NULL;
    size_t at = before ? before->end : skip_blanks(s, parent->offset + 1); /* or after the bracket */
    size_t line = before ? (before->key_line > 0 ? before->key_offset : before->offset) : parent->offset;
    bool own_line = before && starts_line(s, line), many = has_newline(s, parent);
    if (own_line) {
        size_t from = line_start(s, line);
        buf_printf(insert, ",%s", s->newline);
        buf_add(insert, s->text + from, line - from);
    } else if (before) {
        buf_adds(insert, ", ");
    }
    if (step->key)
        flow_key(s, insert, step->key);
    flow_value(s, insert, step->want, line, many, NULL);
    put_around(s, at, insert, at);
}

static void flow_remove(struct splice *s, const struct edit_step *step, struct buf *insert)
{
    const struct document_place *place = place_of(s, step->node);
    const cJSON *next = step->node->next, *previous = step->node == step->parent->child ? NULL : step->node->prev;
    size_t from = step->key ? place->key_offset : place->offset, to = place->end;
    if (next) {
        const struct document_place *after = place_of(s, next);
        to = step->key ? after->key_offset : after->offset;
    } else if (previous) {
        from = place_of(s, previous)->end;
    }
    put_around(s, from, insert, to);
}

/* --- block style --- */

/* The value's text in the block, for one that stood at `place`, or is new (NULL), below a key or dash at `indent`. */
static void block_value(const struct splice *s, const struct edit_step *step, const struct document_place *place,
                        bool below, unsigned indent, struct buf *head, struct buf *lines)
{
    const cJSON *want = step->want;
    bool same = place && is_collection(want) && (cJSON_IsArray(want) == cJSON_IsArray(step->node));
    if (step->one_line || (same && place->flow && step->node->child && want->child)) {
        yaml_print_flow(head, want);
        return;
    }
    indent = same && below ? place->column - 1 : indent + 2;
    yaml_print_block(head, lines, want, indent, s->newline, place ? style_of(s, place) : YAML_STYLE_AUTO);
}

/* What ends the file and has lines of its own gets a newline: a block scalar would lose its last. */
static void end_last_line(const struct splice *s, struct buf *insert, size_t after)
{
    if (after == s->len && insert->len > 0 && memchr(insert->data, '\n', insert->len) &&
        insert->data[insert->len - 1] != '\n')
        buf_adds(insert, s->newline);
}

static int block_replace_member(struct splice *s, const struct edit_step *step, struct buf *insert)
{
    const struct document_place *place = place_of(s, step->node);
    size_t colon = skip_blanks(s, place->key_end);
    if (colon >= s->end || s->text[colon] != ':')
        return -ENOTSUP; /* `? key` */
    bool below = is_collection(step->node) && !place->flow && place->line > place->key_line;
    size_t end = value_end(s, place);
    size_t tail = below ? colon + 1 : MAX(end, colon + 1), tail_end = line_end(s, tail);
    size_t after = below ? line_end(s, end) : tail_end; /* a comment on the last line goes with the value */
    struct buf head = {0}, lines = {0};
    block_value(s, step, place, below, place->key_column - 1, &head, &lines);
    size_t anchor = anchor_length(s, place);
    bool beside = place->line == place->key_line && place->offset > colon + 1; /* blanks may align it with others */
    if ((head.len > 0 || anchor > 0) && beside)
        buf_add(insert, s->text + colon + 1, place->offset - colon - 1);
    else if (head.len > 0 || anchor > 0)
        buf_addc(insert, ' ');
    buf_add(insert, s->text + place->offset, anchor);
    buf_printf(insert, "%s%s", anchor > 0 && head.len > 0 ? " " : "", head.data ? head.data : "");
    if (skip_blanks(s, tail) < tail_end) /* a comment */
        buf_add(insert, s->text + tail, tail_end - tail);
    buf_add(insert, lines.data ? lines.data : "", lines.len);
    buf_fini(&head);
    buf_fini(&lines);
    end_last_line(s, insert, after);
    put_around(s, colon + 1, insert, after);
    return 0;
}

static void block_replace_item(struct splice *s, const struct edit_step *step, struct buf *insert)
{
    const struct document_place *place = place_of(s, step->node);
    size_t end = value_end(s, place), tail_end = line_end(s, end);
    unsigned column = place->column - 1;
    if (place->offset == place->end) { /* a null that is not written: `-` */
        buf_addc(insert, ' ');
        column++;
    }
    struct buf head = {0}, lines = {0};
    if (step->one_line)
        yaml_print_flow(&head, step->want);
    else
        yaml_print_block(&head, &lines, step->want, column, s->newline, style_of(s, place));
    size_t skip = head.len == 0 ? strlen(s->newline) + column : 0; /* a collection starts on the dash's line */
    const char *rest = lines.len > skip ? lines.data + skip : "";
    size_t first = head.len == 0 ? strcspn(rest, "\r\n") : 0, anchor = head.len > 0 ? anchor_length(s, place) : 0;
    if (anchor > 0)
        buf_add(insert, s->text + place->offset, anchor);
    if (anchor > 0)
        buf_addc(insert, ' ');
    buf_add(insert, head.data ? head.data : "", head.len);
    buf_add(insert, rest, first);
    if (skip_blanks(s, end) < tail_end) /* a comment stays on the first line */
        buf_add(insert, s->text + end, tail_end - end);
    buf_adds(insert, rest + first);
    buf_fini(&head);
    buf_fini(&lines);
    end_last_line(s, insert, tail_end);
    put_around(s, place->offset, insert, tail_end);
}

/* The dash before an item. */
static size_t dash_of(const struct splice *s, const struct document_place *place)
{
    size_t at = place->offset;
    while (at > s->doc->start && s->text[at - 1] != '-')
        at--;
    return at > 0 ? at - 1 : 0;
}

static void block_add(struct splice *s, const struct edit_step *step, struct buf *insert)
{
    const cJSON *last = last_child(step->parent), *deepest = last;
    const struct document_place *before = place_of(s, last);
    while (is_collection(deepest) && deepest->child && !place_of(s, deepest)->flow)
        deepest = last_child(deepest);
    size_t end = value_end(s, before), at = line_end(s, end);
    size_t kept = cJSON_IsString(deepest) ? strlen(deepest->valuestring) : 0;
    if (kept >= 1 && end < before->end && deepest->valuestring[kept - 1] == '\n' &&
        (kept == 1 || deepest->valuestring[kept - 2] == '\n')) /* `|+`: the empty lines belong to it */
        at = before->end;
    bool line_open = at == end || at == 0 || s->text[at - 1] != '\n' || at < before->end;
    if (line_open)
        buf_adds(insert, s->newline);
    if (step->key) {
        const struct document_place *first = place_of(s, step->parent->child);
        unsigned indent = first->key_column - 1;
        struct buf head = {0}, lines = {0};
        buf_printf(insert, "%*s", (int)indent, "");
        yaml_print_key(insert, step->key, false);
        buf_addc(insert, ':');
        block_value(s, step, NULL, false, indent, &head, &lines);
        if (head.len > 0)
            buf_printf(insert, " %s", head.data);
        buf_add(insert, lines.data ? lines.data : "", lines.len);
        buf_fini(&head);
        buf_fini(&lines);
    } else {
        size_t dash = dash_of(s, before);
        unsigned indent = (unsigned)(dash - line_start(s, dash));
        buf_printf(insert, "%*s", (int)indent, "");
        if (step->one_line) {
            buf_adds(insert, "- ");
            yaml_print_flow(insert, step->want);
        } else {
            yaml_print_item(insert, step->want, indent, s->newline);
        }
    }
    if (!line_open)
        buf_adds(insert, s->newline);
    end_last_line(s, insert, at);
    put_around(s, at, insert, at);
}

static void block_remove(struct splice *s, const struct edit_step *step, struct buf *insert)
{
    const struct document_place *place = place_of(s, step->node);
    const cJSON *next = step->node->next;
    size_t from = step->key ? place->key_offset : dash_of(s, place);
    size_t to = next_line(s, MAX(value_end(s, place), from));
    if (starts_line(s, from)) {
        from = line_start(s, from);
    } else if (next) { /* `- a: 1`: the dash stays */
        const struct document_place *after = place_of(s, next);
        to = step->key ? after->key_offset : dash_of(s, after);
    } else {
        to = line_end(s, value_end(s, place));
    }
    put_around(s, from, insert, to);
}

/* The mapping or sequence loses its last child: it is written as an empty one, behind its key. */
static int remove_only(struct splice *s, const struct edit_step *step, struct buf *insert)
{
    const struct document_place *parent = place_of(s, step->parent);
    size_t end = line_end(s, value_end(s, parent)), from = parent->offset;
    if (parent->key_line > 0 && parent->line > parent->key_line) {
        from = skip_blanks(s, parent->key_end) + 1;
        if (from > s->end || s->text[from - 1] != ':')
            return -ENOTSUP;
        buf_addc(insert, ' ');
    }
    buf_adds(insert, step->key ? "{}" : "[]");
    if (from != parent->offset)
        buf_add(insert, s->text + from, line_end(s, from) - from);
    put_around(s, from, insert, end);
    return 0;
}

/* A new item before one that is there. */
static void insert_item(struct splice *s, const struct edit_step *step, bool flow, struct buf *insert)
{
    const struct document_place *next = place_of(s, step->before), *parent = place_of(s, step->parent);
    size_t at = next->offset;
    if (flow) {
        size_t from = line_start(s, at);
        flow_value(s, insert, step->want, at, has_newline(s, parent), NULL);
        if (starts_line(s, at)) {
            buf_printf(insert, ",%s", s->newline);
            buf_add(insert, s->text + from, at - from);
        } else {
            buf_adds(insert, ", ");
        }
        put_around(s, at, insert, at);
        return;
    }
    at = dash_of(s, next);
    unsigned indent = (unsigned)(at - line_start(s, at));
    bool own_line = starts_line(s, at);
    if (own_line) { /* comments above an item stay with it */
        at = line_start(s, at);
        for (size_t above; at > parent->offset; at = above) {
            above = line_start(s, at - 1);
            if (above < parent->offset || s->text[skip_blanks(s, above)] != '#')
                break;
        }
        buf_printf(insert, "%*s", (int)indent, "");
    }
    yaml_print_item(insert, step->want, indent, s->newline);
    buf_printf(insert, "%s%*s", s->newline, own_line ? 0 : (int)indent, "");
    put_around(s, at, insert, at);
}

static int splice(struct splice *s, const struct edit_step *step, struct buf *insert)
{
    const struct document_place *parent = place_of(s, step->parent);
    if (!parent || parent->copied || (!s->json && s->text[parent->offset] == '*'))
        return -ENOTSUP; /* its text is an alias's */
    bool flow = s->json || parent->flow;
    if (!step->want && !flow && !step->parent->child->next)
        return remove_only(s, step, insert);
    if (!step->want)
        (flow ? flow_remove : block_remove)(s, step, insert);
    else if (step->before)
        insert_item(s, step, flow, insert);
    else if (!step->node)
        (flow ? flow_add : block_add)(s, step, insert);
    else if (flow)
        flow_replace(s, step, insert);
    else if (step->key)
        return block_replace_member(s, step, insert);
    else
        block_replace_item(s, step, insert);
    return 0;
}

int edit_splice(const char *text, size_t len, enum document_format format, const struct document *doc,
                const struct edit_step *step, struct buf *out)
{
    const char *first = memchr(text, '\n', len);
    struct splice s = {.text = text,
                       .len = len,
                       .end = doc->end,
                       .json = format == DOCUMENT_JSON,
                       .doc = doc,
                       .newline = first && first > text && first[-1] == '\r' ? "\r\n" : "\n",
                       .out = out};
    struct buf insert = {0};
    int rc = splice(&s, step, &insert);
    buf_fini(&insert);
    return rc;
}
