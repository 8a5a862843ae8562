#include "manifest/man.h"

#include "model/field_doc.h"

#include <ctype.h>

/* A character that is not of ASCII, from its sequence of n bytes. */
static void add_character(struct buf *b, const char *text, size_t n)
{
    const unsigned char *u = (const unsigned char *)text;
    uint32_t c = u[0] & (0xFFU >> (n + 1));
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (u[i] & 0x3F);
    buf_printf(b, "\\[u%04X]", (unsigned)c);
}

/* Within a line; `-` that is typed must stay one. */
static void add_escaped(struct buf *b, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        size_t n = utf8_sequence(text + i, len - i);
        if (n > 1) {
            add_character(b, text + i, n);
            i += n - 1;
        } else if (c == '\\') {
            buf_adds(b, "\\e");
        } else if (c == '-') {
            buf_adds(b, "\\-");
        } else {
            buf_addc(b, c);
        }
    }
}

/* A whole line of text: one that begins with what a request begins with is none. */
static void add_line(struct buf *b, const char *text, size_t len)
{
    if (len > 0 && (text[0] == '.' || text[0] == '\''))
        buf_adds(b, "\\&");
    add_escaped(b, text, len);
    buf_addc(b, '\n');
}

static void add_lines(struct buf *b, const char *text, const char *between)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        if (n == 0)
            buf_adds(b, between);
        else
            add_line(b, text, n);
        text += n + (text[n] == '\n');
    }
}

void man_begin(struct buf *b, const char *name, int section, const char *title, const char *about)
{
    buf_adds(b, ".TH ");
    for (const char *p = name; *p; p++)
        buf_addc(b, (char)toupper((unsigned char)*p));
    buf_printf(b, " %d \"%s\" \"triggerd %s\" \"%s\"\n", section, TRIGGERD_DATE, TRIGGERD_VERSION, title);
    buf_adds(b, ".SH NAME\n");
    add_escaped(b, name, strlen(name));
    buf_adds(b, " \\- ");
    add_escaped(b, about, strlen(about));
    buf_addc(b, '\n');
}

void man_section(struct buf *b, const char *title)
{
    buf_adds(b, ".SH ");
    for (const char *p = title; *p; p++)
        buf_addc(b, (char)toupper((unsigned char)*p));
    buf_addc(b, '\n');
}

void man_subsection(struct buf *b, const char *title)
{
    buf_adds(b, ".SS ");
    add_line(b, title, strlen(title));
}

void man_text(struct buf *b, const char *text)
{
    add_lines(b, text, ".PP\n");
}

void man_example(struct buf *b, const char *text)
{
    size_t line = b->len > 0 ? b->len - 1 : 0;
    while (line > 0 && b->data[line - 1] != '\n')
        line--;
    if (strncmp(b->data + line, ".SH", 3) != 0) /* a section begins with a paragraph of its own */
        buf_adds(b, ".PP\n");
    buf_adds(b, ".RS 4\n.nf\n");
    add_lines(b, text, "\\&\n");
    buf_adds(b, ".fi\n.RE\n");
}

void man_item(struct buf *b, const char *tag, const char *value, const char *text)
{
    buf_adds(b, ".TP\n\\fB");
    add_escaped(b, tag, strlen(tag));
    buf_adds(b, "\\fR");
    if (value) {
        buf_adds(b, " \\fI");
        add_escaped(b, value, strlen(value));
        buf_adds(b, "\\fR");
    }
    buf_addc(b, '\n');
    man_text(b, text);
}

void man_fields(struct buf *b, const struct field_table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->fields[i];
        struct buf summary = {0}, text = {0};
        field_add_summary(&summary, f);
        buf_printf(&text, "%s. (%s)", f->doc, summary.data);
        man_item(b, f->name, NULL, text.data);
        buf_fini(&summary);
        buf_fini(&text);
        if (!f->sub)
            continue;
        buf_adds(b, ".RS\n");
        man_fields(b, f->sub);
        buf_adds(b, ".RE\n");
    }
}

void man_see_also(struct buf *b, const char *const *pages)
{
    man_section(b, "See also");
    for (size_t i = 0; pages[i]; i++) {
        size_t n = strcspn(pages[i], "(");
        buf_adds(b, ".BR ");
        add_escaped(b, pages[i], n);
        buf_printf(b, " %s%s\n", pages[i] + n, pages[i + 1] ? "," : "");
    }
}
