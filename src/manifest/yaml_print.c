#include "manifest/yaml_print.h"

#include "manifest/yaml_scalar.h"

#include <strings.h>

/* Words that YAML 1.1 readers take for booleans, in any case. */
static bool is_old_boolean(const char *s)
{
    static const char *const words[] = {"yes", "no", "on", "off"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcasecmp(s, words[i]) == 0)
            return true;
    return false;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

/* The escape of the character at `s` in double quotes, for one that cannot stand there as it is; else NULL. */
static const char *escape_of(const char *s, size_t *ret_len, char room[8])
{
    static const struct {
        const char *text, *escape;
    } known[] = {{"\"", "\\\""},
                 {"\\", "\\\\"},
                 {"\n", "\\n"},
                 {"\t", "\\t"},
                 {"\r", "\\r"},
                 {"\x7F", "\\x7f"},
                 {"\xC2\x85", "\\N"},
                 {"\xE2\x80\xA8", "\\L"},
                 {"\xE2\x80\xA9", "\\P"},
                 {"\xEF\xBB\xBF", "\\ufeff"},
                 {"\xEF\xBF\xBE", "\\ufffe"},
                 {"\xEF\xBF\xBF", "\\uffff"}};
    *ret_len = 1;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        size_t n = strlen(known[i].text);
        if (strncmp(s, known[i].text, n) == 0) {
            *ret_len = n;
            return known[i].escape;
        }
    }
    unsigned char c = (unsigned char)s[0], next = c ? (unsigned char)s[1] : 0;
    bool c1 = c == 0xC2 && next >= 0x80 && next < 0xA0;
    if (c >= ' ' && !c1)
        return NULL;
    static const char hex[] = "0123456789abcdef";
    unsigned char code = c1 ? next : c;
    *ret_len = c1 ? 2 : 1;
    memcpy(room, (char[]){'\\', 'x', hex[code >> 4], hex[code & 15], '\0'}, 5);
    return room;
}

/* Nothing in it but characters that may stand unescaped; `also` are some that would be escaped and may too. */
static bool is_printable(const char *s, const char *also)
{
    char room[8];
    for (size_t n; *s; s += n)
        if (escape_of(s, &n, room) && !strchr(also, *s))
            return false;
    return true;
}

static bool can_be_plain(const char *s, bool flow)
{
    size_t len = strlen(s);
    if (len == 0 || s[len - 1] == ' ' || s[len - 1] == ':' || !is_printable(s, "\"\\") || is_old_boolean(s) ||
        yaml_plain_kind(s, len) != YAML_KIND_STRING)
        return false;
    if (!is_letter(s[0]) && s[0] != '/' && s[0] != '$')
        return false;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] == ':' && (flow || s[i + 1] == ' ')) || (s[i] == '#' && s[i - 1] == ' '))
            return false;
        if (flow && strchr(",[]{}?", s[i]))
            return false;
    }
    return true;
}

static void print_double(struct buf *out, const char *s)
{
    char room[8];
    buf_addc(out, '"');
    for (size_t n; *s; s += n) {
        const char *escape = escape_of(s, &n, room);
        if (escape)
            buf_adds(out, escape);
        else
            buf_add(out, s, n);
    }
    buf_addc(out, '"');
}

static void print_string(struct buf *out, const char *s, bool flow, enum yaml_style style)
{
    if (style == YAML_STYLE_AUTO && can_be_plain(s, flow)) {
        buf_adds(out, s);
    } else if (style == YAML_STYLE_SINGLE && is_printable(s, "\"\\")) {
        buf_addc(out, '\'');
        for (; *s; s++) {
            buf_addc(out, *s);
            if (*s == '\'')
                buf_addc(out, '\'');
        }
        buf_addc(out, '\'');
    } else {
        print_double(out, s);
    }
}

void yaml_print_scalar(struct buf *out, const cJSON *value, bool flow, enum yaml_style style)
{
    if (cJSON_IsString(value)) {
        print_string(out, value->valuestring, flow, style);
        return;
    }
    _cleanup_(freep) char *text = value_print(value);
    buf_adds(out, text);
}

void yaml_print_key(struct buf *out, const char *key, bool flow)
{
    print_string(out, key, flow, YAML_STYLE_AUTO);
}

static bool is_collection(const cJSON *value)
{
    return cJSON_IsObject(value) || cJSON_IsArray(value);
}

void yaml_print_flow(struct buf *out, const cJSON *value)
{
    if (!is_collection(value)) {
        yaml_print_scalar(out, value, true, YAML_STYLE_AUTO);
        return;
    }
    bool object = cJSON_IsObject(value);
    buf_addc(out, object ? '{' : '[');
    for (const cJSON *child = value->child; child; child = child->next) {
        if (child != value->child)
            buf_adds(out, ", ");
        if (object) {
            yaml_print_key(out, child->string, true);
            buf_adds(out, ": ");
        }
        yaml_print_flow(out, child);
    }
    buf_addc(out, object ? '}' : ']');
}

/* A string that reads well as a literal block: several lines, the first of them neither empty nor indented. */
static bool can_be_literal(const char *s)
{
    size_t len = strlen(s);
    const char *newline = strchr(s, '\n');
    return newline && newline != s && newline[1] && s[0] != ' ' && s[0] != '\t' && is_printable(s, "\"\\\n\t") &&
           !(len >= 2 && s[len - 1] == '\n' && s[len - 2] == '\n');
}

static void print_literal(struct buf *head, struct buf *lines, const char *s, unsigned indent, const char *newline)
{
    size_t len = strlen(s);
    buf_adds(head, s[len - 1] == '\n' ? "|" : "|-");
    while (*s) {
        size_t n = strcspn(s, "\n");
        buf_adds(lines, newline);
        if (n > 0)
            buf_printf(lines, "%*s%.*s", (int)indent, "", (int)n, s);
        s += n + (s[n] == '\n');
    }
}

/* The members of a collection, each on lines of its own. */
static void print_members(struct buf *lines, const cJSON *value, unsigned indent, const char *newline)
{
    for (const cJSON *child = value->child; child; child = child->next) {
        buf_printf(lines, "%s%*s", newline, (int)indent, "");
        if (cJSON_IsArray(value)) {
            yaml_print_item(lines, child, indent, newline);
            continue;
        }
        yaml_print_key(lines, child->string, false);
        buf_addc(lines, ':');
        struct buf head = {0}, below = {0};
        yaml_print_block(&head, &below, child, indent + 2, newline, YAML_STYLE_AUTO);
        if (head.len > 0)
            buf_printf(lines, " %s", head.data);
        buf_add(lines, below.data, below.len);
        buf_fini(&head);
        buf_fini(&below);
    }
}

void yaml_print_item(struct buf *lines, const cJSON *value, unsigned indent, const char *newline)
{
    struct buf head = {0}, below = {0};
    yaml_print_block(&head, &below, value, indent + 2, newline, YAML_STYLE_AUTO);
    buf_adds(lines, "- ");
    size_t skip = head.len == 0 ? strlen(newline) + indent + 2 : 0; /* the first line's start */
    buf_add(lines, head.data, head.len);
    buf_add(lines, below.len > skip ? below.data + skip : "", below.len > skip ? below.len - skip : 0);
    buf_fini(&head);
    buf_fini(&below);
}

void yaml_print_block(struct buf *head, struct buf *lines, const cJSON *value, unsigned indent, const char *newline,
                      enum yaml_style style)
{
    if (is_collection(value) && value->child)
        print_members(lines, value, indent, newline);
    else if (is_collection(value))
        yaml_print_flow(head, value);
    else if (cJSON_IsString(value) && can_be_literal(value->valuestring))
        print_literal(head, lines, value->valuestring, indent, newline);
    else
        yaml_print_scalar(head, value, false, style);
}

char *yaml_print(const cJSON *value)
{
    struct buf head = {0}, lines = {0};
    yaml_print_block(&head, &lines, value, cJSON_IsString(value) ? 2 : 0, "\n", YAML_STYLE_AUTO);
    struct buf out = {0};
    buf_add(&out, head.data, head.len);
    size_t skip = head.len == 0 ? 1 : 0;
    buf_add(&out, lines.len > skip ? lines.data + skip : "", lines.len > skip ? lines.len - skip : 0);
    buf_addc(&out, '\n');
    buf_fini(&head);
    buf_fini(&lines);
    return buf_steal(&out);
}
