/* What triggerctl writes: tables, labelled lines, JSON and YAML, with colour only on a terminal.
 *
 * Names and data come from whoever wrote a manifest or sent an event: in tables and lines, control characters, and
 * those that change the direction of text, are shown as escapes, so that nothing can draw on the terminal. */
#ifndef TRIGGERD_CTL_PRINT_H
#define TRIGGERD_CTL_PRINT_H

#include "base/util.h"
#include "model/value.h"

#include <stdbool.h>

/* Columns on a terminal, counted as code points. */
size_t text_width(const char *text);
/* Append `text` in lines of at most `columns` characters where its words allow it, each starting with `prefix`. */
void text_wrap(struct buf *b, const char *prefix, const char *text, size_t columns);

/* ---- tables ---- */

#define TABLE_COLUMNS_MAX 12
#define TABLE_CELL_MAX 60 /* characters of a cell that may be cut */

enum cell_style {
    CELL_PLAIN,
    CELL_STATUS = 1 << 0, /* coloured by its word */
    CELL_CUT = 1 << 1,    /* cut with … at TABLE_CELL_MAX */
    CELL_RIGHT = 1 << 2,  /* a number */
};

struct table {
    size_t columns;
    const char *heads[TABLE_COLUMNS_MAX];
    unsigned styles[TABLE_COLUMNS_MAX];
    char **cells; /* row by row; escaped */
    size_t n, cap;
    unsigned indent;
    size_t *widths; /* of columns at least, and as printed; NULL: nobody keeps them */
    bool bare;      /* without heads */
};
void table_column(struct table *t, const char *head, unsigned style);
/* The next cell, row by row; NULL and "" are shown as `-`. */
void table_cell(struct table *t, const char *text);
void table_cellf(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Print with heads, and empty the table. */
void table_print(struct table *t, bool colour);

/* ---- lines ---- */

/* `Label:      text`; nothing where text is NULL or "". */
void print_line(bool colour, const char *label, const char *text);
void print_linef(bool colour, const char *label, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same with a status word. */
void print_status(bool colour, const char *label, const char *word);
/* A heading over what follows, with an empty line before. */
void print_heading(bool colour, const char *text);

/* ---- values ---- */

/* A time as RFC 3339 to how long ago that is: `12s`, `5m`, `7h`, `3d`; NULL where it is no time. free() it. */
char *age_of(const char *time);
/* From one time to another: `12ms`, `3.4s`, `2m05s`. NULL where one is no time. free() it. */
char *span_of(const char *from, const char *to);

void print_json(const cJSON *v);
void print_yaml(const cJSON *v);

/* An error on standard error: `triggerctl: …`, escaped. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
