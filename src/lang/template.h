/* Templates: `{{ path }}` in the strings of a step, and the `if` of a step.
 *
 * Between `{{` and `}}` stands a path (lang/path.h, with its extended forms), blanks around it do not count. A `}}`
 * inside a quoted name or text of the path does not end it. A `}}` without `{{` is text. Literal braces are written as
 * a quoted text instead of a path: `{{ "{{" }}` gives `{{` (between the quotes, " or ', all is literal; there are no
 * escapes).
 *
 *   "{{ $.inputs.rows }}"         alone in its string: the value itself, with its type (with TEMPLATE_TEXT: its text)
 *   "rows: {{ $.inputs.rows }}"   inside text: a string as it is, any other value as its compact JSON
 *
 * A path that finds nothing is an error when it is expanded, never an empty text: -ENOENT, naming the path.
 * -E2BIG: more work than a path may take, or more than TEMPLATE_OUTPUT_MAX bytes, or a tree deeper than
 * VALUE_DEPTH_MAX. Keys of objects are never templates.
 *
 * Ownership: what is compiled keeps copies, the source may go. Thread: any; what is compiled is constant.
 */
#ifndef TRIGGERD_LANG_TEMPLATE_H
#define TRIGGERD_LANG_TEMPLATE_H

#include "lang/path.h"
#include "lang/secret.h"
#include "model/field.h"

#define TEMPLATE_OUTPUT_MAX ((size_t)16 << 20) /* bytes that one expansion may give */
#define TEMPLATE_PLACES_MAX 1000               /* `{{ … }}` in one string */

/* The result is text, also where a placeholder stands alone: argv, URLs, environment. */
#define TEMPLATE_TEXT 1u
/* `${env:…}` and `${file:…}` outside of `{{ }}` are references, which the …_with() functions replace; without this they
 * are text. */
#define TEMPLATE_SECRETS 2u

/* What references stand for. */
struct template_secrets {
    const struct secrets *secrets;
    const char *dir; /* of the manifest that the template is of; NULL: not known */
};

struct template;

/* -EINVAL (line 1 and column in `text` are set): `{{` without `}}`, nothing between them, no path; a malformed
 * reference. */
int template_compile(const char *text, unsigned flags, struct template **ret, struct error *err);
void template_destroy(struct template *t);

/* Does it hold no placeholder with a path and no reference, so that it gives the same text each time? */
bool template_is_constant(const struct template *t);

/* The value; the caller's. */
int template_expand(const struct template *t, const cJSON *root, cJSON **ret, struct error *err);
/* The text, whatever the flags; the caller's to free(). */
int template_expand_text(const struct template *t, const cJSON *root, char **ret, struct error *err);
/* The same with references replaced; -ENOENT too where one could not be read. */
int template_expand_text_with(const struct template *t, const cJSON *root, const struct template_secrets *with,
                              char **ret, struct error *err);

/* What the text is made of, in order: the template's own text, what a path gives (a string as it is, else its compact
 * JSON), what a reference stands for (`with` NULL: the reference as it is written). Fails as template_expand_text_with();
 * pieces may have been told by then. */
enum template_piece { TEMPLATE_PIECE_TEXT, TEMPLATE_PIECE_VALUE, TEMPLATE_PIECE_REFERENCE };
typedef void template_piece_fn(void *ctx, enum template_piece kind, const char *text);
int template_each_piece(const struct template *t, const cJSON *root, const struct template_secrets *with,
                        template_piece_fn *fn, void *ctx, struct error *err);

/* Called for each path, in order, as often as it stands there. `where`: the place in the tree (`body.rows[0]`), "" for
 * the root or a single template. */
typedef void template_path_fn(void *ctx, const struct path *p, const char *where);
/* One that hands on the path's text alone; its ctx is a struct path_teller. */
struct path_teller {
    void (*fn)(void *ctx, const char *path);
    void *ctx;
};
void path_tell(void *ctx, const struct path *p, const char *where);
void template_each_path(const struct template *t, template_path_fn *fn, void *ctx);
/* Called for each reference, `${…}` and all. */
void template_each_reference(const struct template *t, void (*fn)(void *ctx, const char *text), void *ctx);

/* The text of one field of a manifest: what is wrong becomes an issue with `node` at `path`. NULL then. */
struct template *template_field(const char *text, unsigned flags, const cJSON *node, const char *path,
                                struct issues *issues);

/* All strings of a JSON tree. */
struct template_tree;

/* Everything that is wrong becomes an issue with its node of `tree`; `path` is where the tree stands (`steps[0].exec`,
 * "" for a whole document), and all places told later start with it. Returns 0, or -EINVAL with at least one error
 * added. */
int template_tree_compile(const cJSON *tree, unsigned flags, const char *path, struct template_tree **ret,
                          struct issues *issues);
void template_tree_destroy(struct template_tree *t);
bool template_tree_is_constant(const struct template_tree *t);

/* A copy of the tree with its templates expanded; the caller's. Messages start with the place in the tree. */
int template_tree_expand(const struct template_tree *t, const cJSON *root, cJSON **ret, struct error *err);
/* The same with references replaced (where it was compiled with TEMPLATE_SECRETS); -ENOENT too where one could not be
 * read, -EILSEQ where it is no UTF-8. */
int template_tree_expand_with(const struct template_tree *t, const cJSON *root, const struct template_secrets *with,
                              cJSON **ret, struct error *err);
void template_tree_each_path(const struct template_tree *t, template_path_fn *fn, void *ctx);
void template_tree_each_reference(const struct template_tree *t, void (*fn)(void *ctx, const char *text), void *ctx);

/* The rule of `if`: *ret is true when the path selects any value but false and null. -E2BIG: too much work. */
int condition_eval(const struct path *p, const cJSON *root, bool *ret, struct error *err);

static inline void template_destroyp(struct template **t)
{
    template_destroy(*t);
}
static inline void template_tree_destroyp(struct template_tree **t)
{
    template_tree_destroy(*t);
}

#endif
