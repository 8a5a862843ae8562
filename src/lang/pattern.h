/* Event patterns: the filter language of triggers, that of Amazon EventBridge with the seed's plain form as its
 * simplest case. A pattern is compiled once and then says of any event whether it matches, and if not, why.
 *
 *     {"action": "signup",                                    a scalar is short for [scalar]
 *      "user.age": [{"numeric": [">", 18]}],                  a dotted key is the nested spelling
 *      "user": {"email": [{"suffix": "@example.org"}, null]}, a list: any of its entries
 *      "$or": [{"plan": "pro"}, {"trial": true}]}             alternatives: any of the objects
 *
 * Every path of a pattern must match (a path that is spelled twice must match both times). Entries of a list:
 *
 *     scalar                                 the same value, type-strict; numbers by value (1 = 1.0), without bound
 *     {"prefix": "x"} {"suffix": "x"}        strings; also {"prefix": {"equals-ignore-case": "x"}}, suffix likewise
 *     {"equals-ignore-case": "x"}            strings, by Unicode's full case folding
 *     {"wildcard": "a*b"}                    strings; * is any number of characters, \* and \\ stand for themselves,
 *                                            two stars in a row are an error
 *     {"anything-but": …}                    any scalar but: a string, a number, a list of either; or one operator of
 *                                            prefix suffix equals-ignore-case wildcard with a string or a list of them
 *     {"numeric": [">", 0, "<=", 5]}         numbers; one bound, or a lower and then an upper one, or ["=", 5]
 *     {"cidr": "10.0.0.0/8"}                 strings that are an address in the block, IPv4 or IPv6
 *     {"exists": true}  {"exists": false}    any value, objects and arrays too; no value
 *
 * Where an event's value is an array, a list matches if an element does (nested arrays count as one), and the members
 * below it match together: one element has to satisfy all of them. An empty array has no members, nor has a scalar. An
 * event's member with dots in its name is that nested path as well. `$or` is distributed before it is merged, so that
 * {"items.a": 1, "$or": [{"items.b": 2}, …]} asks for one element with both.
 * Rules in doubt are those of github.com/aws/event-ruler (README.md, JsonRuleCompiler.java); different on purpose:
 * exists, numbers without bound, absence inside arrays does not depend on the order of names, /32 and /128 blocks.
 *
 * Bounds (exceeding one is a compile error): the constants below. A match takes at most PATTERN_STEPS_MAX steps, which
 * is proportional to work; an event that would take more does not match, with that reason.
 *
 * Ownership: a pattern copies what it needs of its JSON. Thread: any; a compiled pattern is never written to, so any
 * number of threads may match with it.
 */
#ifndef TRIGGERD_LANG_PATTERN_H
#define TRIGGERD_LANG_PATTERN_H

#include "base/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

#define PATTERN_DEPTH_MAX 100         /* names in a path, dotted ones counted apart */
#define PATTERN_PATHS_MAX 1000        /* lists (paths with their values) in a pattern */
#define PATTERN_ENTRIES_MAX 10000     /* entries of all lists, those of anything-but included */
#define PATTERN_CONJUNCTIONS_MAX 1000 /* combinations that the $or of a pattern multiply out to */
#define PATTERN_EXPANDED_MAX 100000   /* names of the paths in all those combinations together */
#define PATTERN_STRING_MAX 16384      /* bytes of a string or a key */
#define PATTERN_WILDCARD_MAX 1024     /* bytes of a wildcard */
#define PATTERN_STARS_MAX 16          /* stars in a wildcard */
#define PATTERN_ERRORS_MAX 100        /* told at once */
#define PATTERN_STEPS_MAX 4000000

struct pattern;

/* Why an event does not match. Both are valid UTF-8 and cut with "…" where they do not fit.
 * `path`: the first path, in the pattern's order, that failed; "$or" if each alternative failed in a place of its own.
 * `text`: a whole sentence with the path in it: `action: expected "signup", found "login"`. */
struct mismatch {
    char path[256];
    char text[512];
};

/* Compile `json` (NULL and {}: matches everything). On failure returns -EINVAL with a message that starts with the
 * place
 * (`user.age[0].numeric[1]: expected a number, got "5"`), and *ret_node, unless NULL, is the node of `json` at fault;
 * if that is `json` itself the message has no place. */
int pattern_compile(const cJSON *json, struct pattern **ret, const cJSON **ret_node, struct error *err);
/* All that is wrong with it: `fn` for each of the errors, in the pattern's order, at most PATTERN_ERRORS_MAX of them; the
 * first is that of pattern_compile(). Returns how many. */
typedef void pattern_error_fn(void *ctx, const cJSON *node, const char *message);
size_t pattern_errors(const cJSON *json, pattern_error_fn *fn, void *ctx);
void pattern_destroy(struct pattern *pattern);

/* Does `event` (any JSON value) match? If not, and `ret_why` is not NULL, it says why. NULL pattern: true. */
bool pattern_match(const struct pattern *pattern, const cJSON *event, struct mismatch *ret_why);

#endif
