#include "manifest/yaml.h"

#include "base/util.h"
#include "manifest/yaml_reader.h"

#include <stdio.h>

/* The escape for a character that is refused as it stands, NULL for one that is not. */
static const char *refused_character(unsigned code, char out[16])
{
    if (code == 0x85 || code == 0x2028 || code == 0x2029)
        return code == 0x85 ? "\\N" : code == 0x2028 ? "\\L" : "\\P";
    bool control = (code < ' ' && code != '\t' && code != '\n' && code != '\r') || (code >= 0x7F && code < 0xA0);
    if (!control && code != 0xFEFF && code != 0xFFFE && code != 0xFFFF)
        return NULL;
    snprintf(out, 16, control ? "\\x%02x" : "\\u%04x", code);
    return out;
}

/* What libyaml would refuse without a place, or read in another way than YAML 1.2. False: there is such a thing. */
static bool check_characters(const struct yaml_piece *piece, struct document_set *set)
{
    unsigned line = piece->from_line + 1, column = 1;
    bool good = true;
    for (size_t at = piece->from, n; at < piece->to; at += n) {
        const char *c = piece->text + at;
        if (*c >= ' ' && *c < 0x7F) { /* nearly all of them */
            n = 1;
            column++;
            continue;
        }
        n = utf8_sequence(c, piece->to - at);
        if (n == 0) {
            document_set_error(set, set->n_documents, line, column, "invalid UTF-8 (byte 0x%02x)", (unsigned char)*c);
            return false; /* what follows is a guess */
        }
        unsigned code = utf8_decode(c, n);
        if (code == 0) {
            document_set_error(set, set->n_documents, line, column,
                               "a NUL character (if the text is UTF-16, save it as UTF-8)");
            return false;
        }
        char room[16];
        const char *escape = refused_character(code, room);
        if (escape) {
            document_set_error(set, set->n_documents, line, column,
                               "the character U+%04X is not allowed here; in double quotes it can be written %s", code,
                               escape);
            good = false;
        }
        bool last = at + 1 >= piece->to;
        column++;
        if (code == '\n' || (code == '\r' && (last || c[1] != '\n'))) {
            line++;
            column = 1;
        }
    }
    return good;
}

/* --- cutting the text at its document markers --- */

/* A marker counts anywhere at the start of a line, in block scalars and quotes too (YAML 1.2, 9.1.2). */
static bool is_marker(const char *line, size_t n, const char *marker)
{
    return n >= 3 && memcmp(line, marker, 3) == 0 && (n == 3 || strchr(" \t\r\n", line[3]));
}

static bool is_blank_line(const char *line, size_t n)
{
    size_t at = 0;
    while (at < n && (line[at] == ' ' || line[at] == '\t' || line[at] == '\r' || line[at] == '\n'))
        at++;
    return at == n || line[at] == '#';
}

static size_t line_length(const char *text, size_t len)
{
    for (size_t n = 0; n < len; n++)
        if (text[n] == '\n' || (text[n] == '\r' && !(n + 1 < len && text[n + 1] == '\n')))
            return n + 1;
    return len;
}

/* The piece that is being gathered: it starts with the directives and comments before its `---`. */
struct gathered {
    struct yaml_piece piece;
    bool marked; /* has its `---` */
    bool content, directive;
    unsigned parsed; /* pieces before it that were parsed */
};

static void gather_from(struct gathered *gathered, const char *text, size_t at, unsigned line)
{
    gathered->piece = (struct yaml_piece){.text = text, .from = at, .from_line = line, .start = at, .start_line = line};
    gathered->marked = gathered->content = gathered->directive = false;
}

/* A `---` line: the text of the document itself starts after it. */
static void mark(struct gathered *gathered, size_t at, size_t n, unsigned line)
{
    struct yaml_piece *piece = &gathered->piece;
    gathered->marked = true;
    piece->same_line = !is_blank_line(piece->text + at + 3, n - 3);
    gathered->content = piece->same_line;
    piece->start = at + n;
    if (piece->same_line) { /* there is content on it, where this ends */
        piece->start = at + 3;
        while (piece->text[piece->start] == ' ' || piece->text[piece->start] == '\t')
            piece->start++;
    }
    piece->start_line = piece->same_line ? line : line + 1;
}

/* The document ends at `end`; libyaml sees the text up to `to` (a `...` line included). False: too many documents. */
static bool finish(struct gathered *gathered, size_t end, size_t to, struct document_set *set)
{
    struct yaml_piece *piece = &gathered->piece;
    if (!gathered->content && !gathered->directive)
        return true;
    if (++gathered->parsed > DOCUMENT_COUNT_MAX) {
        document_set_error(set, DOCUMENT_NONE, piece->start_line + 1, 1, "more than %d documents", DOCUMENT_COUNT_MAX);
        return false;
    }
    piece->end = end;
    piece->to = to;
    if (check_characters(piece, set)) {
        yaml_read_piece(piece, set);
    } else {
        struct document doc = {.start = piece->start, .end = end, .line = piece->start_line + 1, .bad = true};
        doc.same_line = piece->same_line;
        document_set_add(set, &doc);
    }
    return true;
}

void document_read_yaml(const char *text, size_t len, size_t from, struct document_set *set)
{
    unsigned line = 0;
    struct gathered gathered = {0};
    gather_from(&gathered, text, from, line);
    for (size_t at = from, n; at < len; at += n, line++) {
        n = line_length(text + at, len - at);
        if (is_marker(text + at, n, "---")) {
            if (gathered.marked || gathered.content) {
                if (!finish(&gathered, at, at, set))
                    return;
                gather_from(&gathered, text, at, line);
            }
            mark(&gathered, at, n, line);
        } else if (is_marker(text + at, n, "...")) {
            if (!finish(&gathered, at, at + n, set))
                return;
            gather_from(&gathered, text, at + n, line + 1);
        } else if (!gathered.content && !is_blank_line(text + at, n)) {
            bool directive = text[at] == '%' && !gathered.marked;
            gathered.directive |= directive;
            gathered.content = !directive;
        }
    }
    finish(&gathered, len, len, set);
}
