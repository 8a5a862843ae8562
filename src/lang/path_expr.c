/* Filter expressions: grammar and type rules of RFC 9535 2.3.5 and 2.4. */
#include "lang/path_parser.h"

/* With all that follow it. */
void expr_destroy(struct expr *e)
{
    while (e) {
        struct expr *next = e->next;
        expr_destroy(e->operands);
        cJSON_Delete(e->literal);
        query_destroy(e->query);
        iregexp_destroy(e->pattern);
        free(e);
        e = next;
    }
}

static void expr_destroyp(struct expr **e)
{
    expr_destroy(*e);
}

static struct expr *expr_create(enum expr_kind kind)
{
    struct expr *e = xcalloc(1, sizeof(*e));
    e->kind = kind;
    return e;
}

static int parse_operand(struct parser *s, struct expr **ret);

static int check_argument(const struct parser *s, const char *at, const struct function *f, size_t i,
                          const struct expr *e)
{
    if (f->parameters[i] == TYPE_NODES)
        return e->kind == EXPR_QUERY ? 0 : parser_fail(s, at, -EINVAL, "%s() takes a query", f->name);
    if (e->kind == EXPR_QUERY && !e->query->singular)
        return parser_fail(s, at, -EINVAL, "%s() takes one value; this query may select more", f->name);
    if (e->kind == EXPR_CALL && e->function->result != TYPE_VALUE)
        return parser_fail(s, at, -EINVAL, "%s() takes a value, %s() gives none", f->name, e->function->name);
    return 0;
}

static int parse_arguments(struct parser *s, struct expr *call)
{
    const struct function *f = call->function;
    struct expr **tail = &call->operands;
    for (size_t i = 0; i < f->n_parameters; i++) {
        parser_skip_blanks(s);
        if (i > 0) {
            if (*s->p != ',')
                return parser_fail(s, s->p, -EINVAL, "%s() takes %zu arguments", f->name, f->n_parameters);
            s->p++;
            parser_skip_blanks(s);
        }
        const char *at = s->p;
        int r = parse_operand(s, tail);
        if (r < 0)
            return r;
        r = check_argument(s, at, f, i, *tail);
        if (r < 0)
            return r;
        tail = &(*tail)->next;
    }
    parser_skip_blanks(s);
    if (*s->p == ',')
        return parser_fail(s, s->p, -EINVAL, "%s() takes %zu argument%s", f->name, f->n_parameters,
                           f->n_parameters == 1 ? "" : "s");
    if (*s->p != ')')
        return parser_expected(s, "')'");
    s->p++;
    return 0;
}

/* A literal pattern is compiled once; one that is no I-Regexp matches nothing. */
static int compile_pattern(const struct parser *s, const char *at, struct expr *call)
{
    if (!call->function->has_pattern)
        return 0;
    const struct expr *last = call->operands->next;
    if (last->kind != EXPR_LITERAL || !(last->literal->type & cJSON_String))
        return 0;
    struct error err = ERROR_INIT;
    call->pattern_is_literal = true;
    int r = iregexp_compile(last->literal->valuestring, NULL, &call->pattern, &err);
    return r == -E2BIG ? parser_fail(s, at, r, "%s", err.message) : 0;
}

static int parse_call(struct parser *s, const char *name, struct expr **ret)
{
    const char *at = s->p - strlen(name);
    _cleanup_(expr_destroyp) struct expr *call = expr_create(EXPR_CALL);
    call->function = function_find(name);
    if (!call->function)
        return parser_fail(s, at, -EINVAL, "no function %.64s(); did you mean %s()?", name, function_nearest(name));
    int r = parser_enter(s);
    if (r < 0)
        return r;
    s->p++;
    r = parse_arguments(s, call);
    s->nesting--;
    if (r >= 0)
        r = compile_pattern(s, at, call);
    if (r < 0)
        return r;
    *ret = steal(&call);
    return 0;
}

/* true, false, null, or the name of a function with its arguments. */
static int parse_word(struct parser *s, struct expr **ret)
{
    static const struct {
        const char *word;
        int type;
    } words[] = {{"true", cJSON_True}, {"false", cJSON_False}, {"null", cJSON_NULL}};
    size_t n = 0;
    while (is_lower(s->p[n]) || (n > 0 && (is_digit(s->p[n]) || s->p[n] == '_')))
        n++;
    _cleanup_(freep) char *name = xstrndup(s->p, n);
    if (s->p[n] == '(') {
        s->p += n;
        return parse_call(s, name, ret);
    }
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (streq(name, words[i].word)) {
            s->p += n;
            *ret = expr_create(EXPR_LITERAL);
            (*ret)->literal = xcalloc(1, sizeof(cJSON));
            (*ret)->literal->type = words[i].type;
            return 0;
        }
    return parser_fail(s, s->p, -EINVAL, "'%.*s' is neither true, false, null nor a function", (int)MIN(n, 64), s->p);
}

/* A literal, a query or a call. */
static int parse_operand(struct parser *s, struct expr **ret)
{
    _cleanup_(expr_destroyp) struct expr *e = NULL;
    int r;
    if (*s->p == '@' || *s->p == '$') {
        e = expr_create(EXPR_QUERY);
        r = parser_query(s, &e->query);
    } else if (*s->p == '\'' || *s->p == '"') {
        char *text;
        e = expr_create(EXPR_LITERAL);
        r = parser_string(s, &text);
        if (r >= 0) {
            e->literal = xcalloc(1, sizeof(*e->literal));
            e->literal->type = cJSON_String;
            e->literal->valuestring = text;
        }
    } else if (*s->p == '-' || is_digit(*s->p)) {
        e = expr_create(EXPR_LITERAL);
        r = parser_number(s, &e->literal);
    } else if (is_lower(*s->p)) {
        r = parse_word(s, &e);
    } else {
        r = parser_expected(s, "a query (@… or $…), a literal or a function");
    }
    if (r < 0)
        return r;
    *ret = steal(&e);
    return 0;
}

static bool parse_compare_op(struct parser *s, enum compare_op *ret)
{
    static const struct {
        char text[3];
        enum compare_op op;
    } ops[] = {{"==", COMPARE_EQ}, {"!=", COMPARE_NE}, {"<=", COMPARE_LE},
               {">=", COMPARE_GE}, {"<", COMPARE_LT},  {">", COMPARE_GT}};
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
        if (strncmp(s->p, ops[i].text, strlen(ops[i].text)) == 0) {
            s->p += strlen(ops[i].text);
            *ret = ops[i].op;
            return true;
        }
    return false;
}

static int check_comparable(const struct parser *s, const char *at, const struct expr *e)
{
    if (e->kind == EXPR_QUERY && !e->query->singular)
        return parser_fail(s, at, -EINVAL, "this query may select more than one value, which cannot be compared");
    if (e->kind == EXPR_CALL && e->function->result != TYPE_VALUE)
        return parser_fail(s, at, -EINVAL, "what %s() returns cannot be compared", e->function->name);
    return 0;
}

static int check_test(const struct parser *s, const char *at, const struct expr *e)
{
    if (e->kind == EXPR_LITERAL)
        return parser_fail(s, at, -EINVAL, "a literal must be compared with something");
    if (e->kind == EXPR_CALL && e->function->result != TYPE_LOGICAL)
        return parser_fail(s, at, -EINVAL, "what %s() returns must be compared with something", e->function->name);
    return 0;
}

/* `!…`: a test or parentheses, no comparison. */
static int parse_comparison_or_test(struct parser *s, bool may_compare, struct expr **ret)
{
    const char *at = s->p;
    _cleanup_(expr_destroyp) struct expr *left = NULL;
    int r = parse_operand(s, &left);
    if (r < 0)
        return r;
    const char *after = s->p;
    enum compare_op op;
    parser_skip_blanks(s);
    if (!may_compare || !parse_compare_op(s, &op)) {
        s->p = after;
        r = check_test(s, at, left);
        if (r >= 0)
            *ret = steal(&left);
        return r;
    }
    r = check_comparable(s, at, left);
    if (r < 0)
        return r;
    parser_skip_blanks(s);
    at = s->p;
    r = parse_operand(s, &left->next);
    if (r >= 0)
        r = check_comparable(s, at, left->next);
    if (r < 0)
        return r;
    *ret = expr_create(EXPR_COMPARE);
    (*ret)->op = op;
    (*ret)->operands = steal(&left);
    return 0;
}

static int parse_basic(struct parser *s, struct expr **ret)
{
    bool negated = *s->p == '!';
    if (negated) {
        s->p++;
        parser_skip_blanks(s);
    }
    _cleanup_(expr_destroyp) struct expr *e = NULL;
    int r;
    if (*s->p == '(') {
        r = parser_enter(s);
        if (r < 0)
            return r;
        s->p++;
        parser_skip_blanks(s);
        r = parser_logical(s, &e);
        s->nesting--;
        parser_skip_blanks(s);
        if (r >= 0 && *s->p != ')')
            r = parser_expected(s, "')'");
        if (r >= 0)
            s->p++;
    } else {
        r = parse_comparison_or_test(s, !negated, &e);
    }
    if (r < 0)
        return r;
    if (negated) {
        *ret = expr_create(EXPR_NOT);
        (*ret)->operands = steal(&e);
    } else {
        *ret = steal(&e);
    }
    return 0;
}

/* One or more of what is a level lower, joined by `||` or, a level lower, `&&`. */
static int parse_chain(struct parser *s, enum expr_kind kind, struct expr **ret)
{
    const char *joint = kind == EXPR_OR ? "||" : "&&";
    _cleanup_(expr_destroyp) struct expr *chain = expr_create(kind);
    struct expr **tail = &chain->operands;
    for (;;) {
        int r = kind == EXPR_OR ? parse_chain(s, EXPR_AND, tail) : parse_basic(s, tail);
        if (r < 0)
            return r;
        const char *after = s->p;
        parser_skip_blanks(s);
        if (strncmp(s->p, joint, 2) != 0) {
            s->p = after;
            break;
        }
        s->p += 2;
        parser_skip_blanks(s);
        tail = &(*tail)->next;
    }
    *ret = chain->operands->next ? steal(&chain) : steal(&chain->operands);
    return 0;
}

int parser_logical(struct parser *s, struct expr **ret)
{
    return parse_chain(s, EXPR_OR, ret);
}
