/* YAML text to documents: libyaml's scanner and parser below, everything that YAML leaves open decided here.
 *
 * Scalars follow the core schema of YAML 1.2 (section 10.3): plain `no`, `off`, `1_000`, dates are strings; `0x1F`,
 * `0o17`, `007`, `+5`, `.5` are numbers and become JSON numbers exactly, whatever their size. Quoted and block scalars
 * are strings. Tags `!!str !!int !!float !!bool !!null !!map !!seq` and `!` are checked; any other is an error, as are
 * `.inf` and `.nan`, `%TAG`, keys that are no scalars, duplicate keys, merge keys (`<<` is YAML 1.1), aliases that
 * contain themselves, and a NUL. A plain key that is no string (`1: x`) is taken as its text.
 *
 * Raw U+0085, U+2028 and U+2029 are refused too: libyaml takes them for line breaks as YAML 1.1 did, YAML 1.2 and every
 * editor do not, so lines would be miscounted and strings changed. In double quotes they can be written \N, \L, \P. So
 * is a byte order mark anywhere but at the start of the file, as libyaml skips it at the start of any line.
 *
 * Bounds: those of document.h, and VALUE_DEPTH_MAX. Positions, ownership, thread: document.h.
 */
#ifndef TRIGGERD_MANIFEST_YAML_H
#define TRIGGERD_MANIFEST_YAML_H

#include "manifest/document.h"

/* Append the documents and errors of the text to `set`; documents without content are left out silently. Bytes before
 * `from` (a byte order mark) are skipped. */
void document_read_yaml(const char *text, size_t len, size_t from, struct document_set *set);

#endif
