#include "manifest/document.h"

#include "base/util.h"
#include "manifest/yaml_scalar.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define TEXT(s) (s), sizeof(s) - 1

/* The errors as `line:column: message` lines. */
static char *errors_text(const struct document_set *set)
{
    struct buf out = {0};
    for (size_t i = 0; i < set->n_errors; i++)
        buf_printf(&out, "%s%u:%u: %s", i > 0 ? "\n" : "", set->errors[i].line, set->errors[i].column,
                   set->errors[i].message);
    return buf_steal(&out);
}

/* All documents, printed, a line each; `!` before a bad one. */
static char *documents_text(const struct document_set *set)
{
    struct buf out = {0};
    for (size_t i = 0; i < set->n_documents; i++) {
        const struct document *doc = &set->documents[i];
        _cleanup_(freep) char *tree = doc->root ? value_print(doc->root) : xstrdup("-");
        buf_printf(&out, "%s%s%s%s", i > 0 ? "\n" : "", doc->bad ? "!" : "", doc->complete ? "" : "~", tree);
    }
    return buf_steal(&out);
}

struct tree_case {
    const char *text;
    size_t len;
    const char *documents;
};

static void check_trees(const struct tree_case *cases, size_t n, enum document_format format)
{
    for (size_t i = 0; i < n; i++) {
        struct document_set set;
        int rc = document_parse(cases[i].text, cases[i].len, format, &set);
        _cleanup_(freep) char *got = documents_text(&set);
        _cleanup_(freep) char *errors = errors_text(&set);
        if (rc != 0 || !streq(got, cases[i].documents))
            fail_msg("%s\n--- got\n%s\n%s\n--- expected\n%s", cases[i].text, got, errors, cases[i].documents);
        document_set_fini(&set);
    }
}

static void test_yaml_trees(void **state)
{
    (void)state;
    static const struct tree_case cases[] = {
        {TEXT(""), ""},
        {TEXT("\n# only a comment\n\n"), ""},
        {TEXT("---\n# nothing\n---\n...\n---\n"), ""},
        {TEXT("\xEF\xBB\xBF"
              "a: 1\r\nb: 2\r\n"),
         "{\"a\":1,\"b\":2}"},
        {TEXT("\xEF\xBB\xBF---\na: 1\n"), "{\"a\":1}"},
        {TEXT("{}"), "{}"},
        {TEXT("{a: [1, {b: c}, 'd', \"e\"], f: {}}"), "{\"a\":[1,{\"b\":\"c\"},\"d\",\"e\"],\"f\":{}}"},
        {TEXT("{\"a\":1,\"b\":[true,null]}"), "{\"a\":1,\"b\":[true,null]}"},
        {TEXT("a:\n- 1\n- - 2\n  - x: y\n"), "{\"a\":[1,[2,{\"x\":\"y\"}]]}"},
        /* null, bool */
        {TEXT("a:\nb: ~\nc: null\nd: Null\ne: NULL\nf: nUll\n"),
         "{\"a\":null,\"b\":null,\"c\":null,\"d\":null,\"e\":null,\"f\":\"nUll\"}"},
        {TEXT("a: [true, True, TRUE, false, False, FALSE, tRue]"),
         "{\"a\":[true,true,true,false,false,false,\"tRue\"]}"},
        {TEXT("a: [no, off, yes, on, y, n, 1_000, 2024-01-02, 12:30, 1:2]"),
         "{\"a\":[\"no\",\"off\",\"yes\",\"on\",\"y\",\"n\",\"1_000\",\"2024-01-02\",\"12:30\",\"1:2\"]}"},
        /* numbers, exactly */
        {TEXT("a: [0, -0, 007, +5, -007, +007, 00, 12345678901234567890123]"),
         "{\"a\":[0,-0,7,5,-7,7,0,12345678901234567890123]}"},
        {TEXT("a: [.5, +.5, -.5, 5., 5.e3, 1.50, 01.5, 1e3, 1E+3, 1.5e-3, 0.1]"),
         "{\"a\":[0.5,0.5,-0.5,5,5e3,1.50,1.5,1e3,1E+3,1.5e-3,0.1]}"},
        {TEXT("a: [0x1F, 0xff, 0o17, 0x0, 0xFFFFFFFFFFFFFFFFFFFFFFFF, 0o7777777777777777777777777]"),
         "{\"a\":[31,255,15,0,79228162514264337593543950335,37778931862957161709567]}"},
        {TEXT("a: [0x, 0o8, -0x1, +0o7, 0b1, ., +, -, e3, .e3, 1e, 1e+, 1.2.3, 1 2, 0xg, + 1, inf, nan, .in]"),
         "{\"a\":[\"0x\",\"0o8\",\"-0x1\",\"+0o7\",\"0b1\",\".\",\"+\",\"-\",\"e3\",\".e3\",\"1e\",\"1e+\",\"1.2.3\","
         "\"1 2\",\"0xg\",\"+ 1\",\"inf\",\"nan\",\".in\"]}"},
        /* strings */
        {TEXT("a: '1'\nb: \"true\"\nc: |\n  1\nd: >-\n  null\ne: ''\n"),
         "{\"a\":\"1\",\"b\":\"true\",\"c\":\"1\\n\",\"d\":\"null\",\"e\":\"\"}"},
        {TEXT("a: \"\\u00fc\\N\\L\\x41\\/\\\\0\""), "{\"a\":\"\xC3\xBC\xC2\x85\xE2\x80\xA8"
                                                    "A/\\\\0\"}"},
        {TEXT("a: |\r\n  x\r\n  y\r\n"), "{\"a\":\"x\\ny\\n\"}"},
        {TEXT("a: ${env:X}\nb: https://u:p@h/\n"), "{\"a\":\"${env:X}\",\"b\":\"https://u:p@h/\"}"},
        /* tags */
        {TEXT("a: !!str 1\nb: !!int \"7\"\nc: !!float 1\nd: !!bool 'true'\ne: !!null ''\nf: ! 1\n"),
         "{\"a\":\"1\",\"b\":7,\"c\":1,\"d\":true,\"e\":null,\"f\":\"1\"}"},
        {TEXT("!!map\na: !!seq [1]\nb: ! {}\nc: !!map {}\n!!str d: !<tag:yaml.org,2002:str> 1\n"),
         "{\"a\":[1],\"b\":{},\"c\":{},\"d\":\"1\"}"},
        /* keys */
        {TEXT("1: a\ntrue: b\n~: c\n'': d\n\"<<\": e\n? f\n: g\n0x1F: h\n.inf: i\n"),
         "{\"1\":\"a\",\"true\":\"b\",\"~\":\"c\",\"\":\"d\",\"<<\":\"e\",\"f\":\"g\",\"0x1F\":\"h\",\".inf\":\"i\"}"},
        /* anchors: scalars, collections, redefined, of a key, under another key, as a key */
        {TEXT("a: &x 1\nb: *x\nc: &w [*x, &y {k: v}]\nd: *w\ne: *y\n&z key: *z\n"),
         "{\"a\":1,\"b\":1,\"c\":[1,{\"k\":\"v\"}],\"d\":[1,{\"k\":\"v\"}],\"e\":{\"k\":\"v\"},\"key\":\"key\"}"},
        {TEXT("a: &x name\nb: &y 0x10\n*x : 1\n*y : 2\n"), "{\"a\":\"name\",\"b\":16,\"name\":1,\"16\":2}"},
        /* several documents */
        {TEXT("%YAML 1.1\n---\na: 1\n...\n%YAML 1.2\n--- {b: 2}\n--- # c\nc: 3\n...\nd: 4\n---\ne: |\n  x\n---\nf: 5"),
         "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n{\"d\":4}\n{\"e\":\"x\\n\"}\n{\"f\":5}"},
        {TEXT("a: 1\r\n---\r\nb: 2\r\n...\r\n"), "{\"a\":1}\n{\"b\":2}"},
        {TEXT("a: 1\r---\rb: 2\r"), "{\"a\":1}\n{\"b\":2}"},
        {TEXT("a: x\n  ---\n  y\n"), "{\"a\":\"x --- y\"}"},
        {TEXT("a: 1 # \xF0\x9F\x98\x80\n"), "{\"a\":1}"},
    };
    check_trees(cases, ARRAY_SIZE(cases), DOCUMENT_YAML);
}

static void test_json_trees(void **state)
{
    (void)state;
    static const struct tree_case cases[] = {
        {TEXT("{}"), "{}"},
        {TEXT("\xEF\xBB\xBF {\"a\": 1.50}\r\n"), "{\"a\":1.50}"},
        {TEXT("[]"), ""},
        {TEXT(" [ {\"a\":[1,{}]} ,\n{\"b\":\"]\\\"}\"}]\n"), "{\"a\":[1,{}]}\n{\"b\":\"]\\\"}\"}"},
    };
    check_trees(cases, ARRAY_SIZE(cases), DOCUMENT_JSON);
}

struct error_case {
    const char *text;
    size_t len;
    const char *errors;
};

static void check_errors(const struct error_case *cases, size_t n, enum document_format format)
{
    for (size_t i = 0; i < n; i++) {
        struct document_set set;
        int rc = document_parse(cases[i].text, cases[i].len, format, &set);
        _cleanup_(freep) char *got = errors_text(&set);
        if (rc != -EINVAL || !streq(got, cases[i].errors))
            fail_msg("%s\n--- got\n%s\n--- expected\n%s", cases[i].text, got, cases[i].errors);
        bool any_bad = false;
        for (size_t j = 0; j < set.n_documents; j++)
            any_bad |= set.documents[j].bad;
        for (size_t j = 0; j < set.n_errors; j++)
            if (set.errors[j].document != DOCUMENT_NONE)
                assert_true(set.errors[j].document < set.n_documents && set.documents[set.errors[j].document].bad);
        assert_true(any_bad || set.errors[0].document == DOCUMENT_NONE);
        document_set_fini(&set);
    }
}

static void test_conflicts(void **state)
{
    (void)state;
    static const struct error_case yaml[] = {
        {TEXT("a: 1\n---\nb: 1\n<<<<<<< HEAD\nc: 2\n=======\nc: 3\n>>>>>>> theirs\n---\nd: 4\n"),
         "4:1: a merge conflict that is not resolved (<<<<<<<)\n"
         "5:1: could not parse: could not find expected ':' (while scanning a simple key at 4:1)"},
        {TEXT("a: [\n<<<<<<<\n=======\n"), /* half a one is none */
         "1:4: could not parse: did not find expected ',' or ']' (while parsing a flow sequence at 1:4)"},
    };
    static const struct error_case json[] = {
        {TEXT("{\n<<<<<<< HEAD\n\"a\": 1\n=======\n\"a\": 2\n>>>>>>> 1f00\n}"),
         "2:1: a merge conflict that is not resolved (<<<<<<<)"},
    };
    static const struct tree_case text[] = {
        {TEXT("a: |\n  <<<<<<< x\n  =======\n  >>>>>>> y\nb: 1\n"),
         "{\"a\":\"<<<<<<< x\\n=======\\n>>>>>>> y\\n\",\"b\":1}"},
    };
    check_errors(yaml, ARRAY_SIZE(yaml), DOCUMENT_YAML);
    check_errors(json, ARRAY_SIZE(json), DOCUMENT_JSON);
    check_trees(text, ARRAY_SIZE(text), DOCUMENT_YAML);
}

static void test_yaml_errors(void **state)
{
    (void)state;
    static const struct error_case cases[] = {
        /* characters */
        {TEXT("a: 1\nb: \xC3\xBC\xFF\n"), "2:5: invalid UTF-8 (byte 0xff)"},
        {TEXT("a: \xED\xA0\x80\n"), "1:4: invalid UTF-8 (byte 0xed)"},
        {TEXT("a: b\r\nc: x\0y\n"), "2:5: a NUL character (if the text is UTF-16, save it as UTF-8)"},
        {TEXT("\xFF\xFE"
              "a\0:\0"),
         "1:1: the text is UTF-16; save it as UTF-8"},
        {TEXT("\xFE\xFF\0a\0:"), "1:1: the text is UTF-16; save it as UTF-8"},
        {TEXT("a: \x07\n# \x1B\n"),
         "1:4: the character U+0007 is not allowed here; in double quotes it can be written \\x07\n"
         "2:3: the character U+001B is not allowed here; in double quotes it can be written \\x1b"},
        {TEXT("a: x\xE2\x80\xA8y\n\xC2\x85\n"),
         "1:5: the character U+2028 is not allowed here; in double quotes it can be written \\L\n"
         "2:1: the character U+0085 is not allowed here; in double quotes it can be written \\N"},
        {TEXT("a: 1\n\xEF\xBB\xBF---\nb: 1\n"),
         "2:1: the character U+FEFF is not allowed here; in double quotes it can be written \\ufeff"},
        {TEXT("a: \"b\\0c\""), "1:6: a string cannot hold a NUL character (\\0)"},
        {TEXT("a: \"\\\\0 \xC3\xBC\n   \\u0000\""), "2:4: a string cannot hold a NUL character (\\u0000)"},
        {TEXT("\"\\x00\": 1"), "1:2: a string cannot hold a NUL character (\\x00)"},
        /* syntax */
        {TEXT("a: 1\n b: 2\n"), "2:3: could not parse: mapping values are not allowed in this context"},
        {TEXT("a: 1\nb\n"), "2:1: could not parse: could not find expected ':' (while scanning a simple key at 2:1)"},
        {TEXT("a:\n  - 1\n b: 2\n"),
         "3:2: could not parse: did not find expected key (while parsing a block mapping at 1:1)"},
        {TEXT("a: [1, 2\n"),
         "1:4: could not parse: did not find expected ',' or ']' (while parsing a flow sequence at 1:4)"},
        {TEXT("a:\n  b: \"x\n  # y\n"),
         "2:6: could not parse: found unexpected end of stream (while scanning a quoted scalar at 2:6)"},
        {TEXT("a:\n\tb: 1\n"),
         "2:1: could not parse: found character that cannot start any token; indent with spaces, not tabs"},
        {TEXT("\xC3\xBC: @x\n"), "1:4: could not parse: found character that cannot start any token; a string that "
                                 "starts with @, ` or % needs quotes"},
        {TEXT("a: *.csv\n"), "1:5: could not parse: did not find expected alphabetic or numeric character (while "
                             "scanning an alias at 1:4); a string that starts with * needs quotes"},
        {TEXT("{a: 1} b\n"), "1:8: could not parse: did not find expected <document start>"},
        {TEXT("a: 1\n... b: 2\n"), "2:5: could not parse: did not find expected <document start>"},
        {TEXT("%YAML 2.0\n---\na: 1\n"), "1:1: could not parse: found incompatible YAML document"},
        {TEXT("%YAML 1.2\na: 1\n"), "2:1: could not parse: did not find expected <document start>"},
        {TEXT("%TAG !e! tag:x,2000:\n---\na: !e!b 1\n"),
         "1:1: %TAG directives are not supported\n"
         "3:4: unknown tag tag:x,2000:b; known are !!str !!int !!float !!bool !!null !!map !!seq"},
        /* keys */
        {TEXT("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n\"a\": 4\n"),
         "4:3: duplicate key \"c\", first given in line 3\n5:1: duplicate key \"a\", first given in line 1\n"
         "6:1: duplicate key \"a\", first given in line 1"},
        {TEXT("{1: a, '1': b}"), "1:8: duplicate key \"1\", first given in line 1"},
        {TEXT("a: &k x\n*k : 1\nx: 2\n"), "3:1: duplicate key \"x\", first given in line 2"},
        {TEXT("? [a, .inf]\n: 1\n? {b: c}\n: {d: .nan}\n"),
         "1:3: a key must be a scalar, got a sequence\n1:7: a number must be finite, got .inf (put a string in "
         "quotes)\n"
         "3:3: a key must be a scalar, got a mapping\n4:7: a number must be finite, got .nan (put a string in quotes)"},
        {TEXT("a: &s [1]\n*s : 1\n"), "2:1: a key must be a scalar, got array"},
        {TEXT("x-b: &b {a: 1}\nc:\n  <<: *b\n"),
         "3:3: merge keys (<<) are not part of YAML 1.2 and not supported; repeat the keys, or alias a whole value"},
        {TEXT("?\n: 1"), "1:2: a key is missing before the colon"},
        {TEXT("!foo a: 1"), "1:1: unknown tag !foo; known are !!str !!int !!float !!bool !!null !!map !!seq"},
        /* scalars and tags */
        {TEXT("a: .inf\nb: -.Inf\nc: .NaN\nd: !!float .INF\n"),
         "1:4: a number must be finite, got .inf (put a string in quotes)\n"
         "2:4: a number must be finite, got -.Inf (put a string in quotes)\n"
         "3:4: a number must be finite, got .NaN (put a string in quotes)\n"
         "4:4: a number must be finite, got .INF (put a string in quotes)"},
        {TEXT("a: !!int 1.5\nb: !!bool no\nc: !!null x\nd: !!float y\ne: !!map 1\nf: !!str [1]\ng: !!seq {}\n"),
         "1:4: tag !!int does not fit \"1.5\"\n2:4: tag !!bool does not fit \"no\"\n3:4: tag !!null does not fit "
         "\"x\"\n"
         "4:4: tag !!float does not fit \"y\"\n5:4: tag !!map does not fit \"1\"\n"
         "6:4: tag !!str does not fit a sequence\n7:4: tag !!seq does not fit a mapping"},
        {TEXT("a: !!binary eA==\nb: !x {c: 1}\n"),
         "1:4: unknown tag !!binary; known are !!str !!int !!float !!bool !!null !!map !!seq\n"
         "2:4: unknown tag !x; known are !!str !!int !!float !!bool !!null !!map !!seq"},
        /* anchors */
        {TEXT("a: *nope\n"), "1:4: unknown anchor nope (a string that starts with * needs quotes)"},
        {TEXT("a: &x\n  b: *x\n"), "2:6: alias *x lies within its own anchor &x"},
        {TEXT("a: &x {k: v}\nb: &x [*x]\n"), "2:8: alias *x lies within its own anchor &x"}, /* the latest counts */
        {TEXT("a: &x [1]\n---\nb: *x\n"), "3:4: unknown anchor x (a string that starts with * needs quotes)"},
        /* the top */
        {TEXT("- a\n"), "1:1: expected a mapping (an object), got [\"a\"]"},
        {TEXT("# c\n\nhello\n"), "3:1: expected a mapping (an object), got \"hello\""},
        {TEXT("--- 5\n"), "1:5: expected a mapping (an object), got 5"},
        {TEXT("--- ~\n"), "1:5: expected a mapping (an object), got null"},
        {TEXT(".inf\n"), "1:1: a number must be finite, got .inf (put a string in quotes)"},
        /* places count from the start of the file, in characters, after any line end */
        {TEXT("\xEF\xBB\xBF\xC3\xBC: .inf\n"), "1:4: a number must be finite, got .inf (put a string in quotes)"},
        {TEXT("a: 1\r\n\r\n---\r\n# c\r\nb: '\xE2\x82\xAC'\r\nc: {\xF0\x9F\x98\x80: .inf}\r\n"),
         "6:8: a number must be finite, got .inf (put a string in quotes)"},
    };
    check_errors(cases, ARRAY_SIZE(cases), DOCUMENT_YAML);
}

static void test_json_errors(void **state)
{
    (void)state;
    static const struct error_case tops[] = {
        {TEXT("5"), "1:1: expected a mapping (an object), got 5"},
        {TEXT("[{},\n 1, [], null,{}]"), "2:2: expected a mapping (an object), got 1\n"
                                         "2:5: expected a mapping (an object), got []\n"
                                         "2:9: expected a mapping (an object), got null"},
    };
    check_errors(tops, ARRAY_SIZE(tops), DOCUMENT_JSON);
    /* The words are the parser's and its own test's; the place is that of the file. */
    static const struct {
        const char *text;
        size_t len;
        unsigned line, column;
    } cases[] = {
        {TEXT(""), 1, 1},
        {TEXT("{\n\"a\": 01}"), 2, 6},
        {TEXT("{\"a\":1,\n \"\xC3\xBC\":2, \"a\":3}"), 2, 9},
        {TEXT("{} {}"), 1, 4},
        {TEXT("{\"a\":\"\\u0000\"}"), 1, 7},
        {TEXT("\xEF\xBB\xBF{\"a\":.5}"), 1, 6},
        {TEXT("{\"a\":\"\xFF\"}"), 1, 7},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct document_set set;
        assert_int_equal(document_parse(cases[i].text, cases[i].len, DOCUMENT_JSON, &set), -EINVAL);
        assert_int_equal(set.n_errors, 1);
        if (set.errors[0].line != cases[i].line || set.errors[0].column != cases[i].column)
            fail_msg("%s: got %u:%u: %s", cases[i].text, set.errors[0].line, set.errors[0].column,
                     set.errors[0].message);
        assert_ptr_equal(strstr(set.errors[0].message, "could not parse: "), set.errors[0].message);
        assert_int_equal(set.n_documents, 1);
        assert_true(set.documents[0].bad && !set.documents[0].complete && !set.documents[0].root);
        document_set_fini(&set);
    }
}

/* A bad document in the middle leaves the others, with their places. */
static void test_bad_among_good(void **state)
{
    (void)state;
    static const char text[] = "id: a\n"
                               "---\n"
                               "id: b\nlist: [1, 2\n" /* lines 3, 4 */
                               "---\n"
                               "id: c\nx: \"a\n" /* an open quote ends at the marker */
                               "---\n"
                               "id: d\nid: e\nx: .inf\ny: 1\n" /* read on after errors of meaning */
                               "--- {id: \xFF}\n"
                               "---\n"
                               "id: f\n";
    struct document_set set;
    assert_int_equal(document_parse(text, sizeof(text) - 1, DOCUMENT_YAML, &set), -EINVAL);
    _cleanup_(freep) char *documents = documents_text(&set);
    assert_string_equal(documents, "{\"id\":\"a\"}\n!~{\"id\":\"b\",\"list\":[1,2]}\n!~{\"id\":\"c\"}\n"
                                   "!{\"id\":\"d\",\"x\":null,\"y\":1}\n!~-\n{\"id\":\"f\"}");
    _cleanup_(freep) char *errors = errors_text(&set);
    assert_string_equal(
        errors, "4:7: could not parse: did not find expected ',' or ']' (while parsing a flow sequence at 4:7)\n"
                "7:4: could not parse: found unexpected end of stream (while scanning a quoted scalar at 7:4)\n"
                "10:1: duplicate key \"id\", first given in line 9\n"
                "11:4: a number must be finite, got .inf (put a string in quotes)\n"
                "13:10: invalid UTF-8 (byte 0xff)");
    static const size_t of[] = {1, 2, 3, 3, 4};
    for (size_t i = 0; i < ARRAY_SIZE(of); i++)
        assert_int_equal(set.errors[i].document, of[i]);
    assert_int_equal(set.documents[5].line, 15);
    const struct document *doc = &set.documents[3];
    assert_true(document_place(doc, document_find(doc, "x"))->bad);
    assert_false(document_place(doc, document_find(doc, "y"))->bad);
    document_set_fini(&set);
}

static void test_places(void **state)
{
    (void)state;
    static const struct {
        enum document_format format;
        const char *text, *path, *bytes;
        unsigned line, column, key_line, key_column;
    } cases[] = {
        {DOCUMENT_YAML, "a: 1", "", "a: 1", 1, 1, 0, 0},
        {DOCUMENT_YAML, "# c\na: 1 # d\n", "", "a: 1", 2, 1, 0, 0},
        {DOCUMENT_YAML, "# c\na:   1  # d\n", "a", "1", 2, 6, 2, 1},
        {DOCUMENT_YAML, "a:\n", "a", "", 1, 3, 1, 1},
        {DOCUMENT_YAML, "a:\n  b: x\n  # c\n\nd: 1\n", "a", "b: x", 2, 3, 1, 1},
        {DOCUMENT_YAML, "a:\n- 1\n-   b: x y\n    c: 2\nd: 1\n", "a", "- 1\n-   b: x y\n    c: 2", 2, 1, 1, 1},
        {DOCUMENT_YAML, "a:\n- 1\n-   b: x y\n    c: 2\nd: 1\n", "a[1].b", "x y", 3, 8, 3, 5},
        {DOCUMENT_YAML, "a:\n- 1\n-   b: x y\n    c: 2\nd: 1\n", "a[0]", "1", 2, 3, 0, 0},
        {DOCUMENT_YAML, "a: { b: [1 , 2 ] } # c\n", "a", "{ b: [1 , 2 ] }", 1, 4, 1, 1},
        {DOCUMENT_YAML, "a: { b: [1 , 2 ] } # c\n", "a.b", "[1 , 2 ]", 1, 9, 1, 6},
        {DOCUMENT_YAML, "a: { b: [1 , 2 ] } # c\n", "a.b[1]", "2", 1, 14, 0, 0},
        {DOCUMENT_YAML, "\xC3\xBC\xE2\x82\xAC: [\xF0\x9F\x98\x80, x]\n", "[\"\xC3\xBC\xE2\x82\xAC\"][1]", "x", 1, 9, 0,
         0},
        {DOCUMENT_YAML, "a: \"x\n  y\" # c\n", "a", "\"x\n  y\"", 1, 4, 1, 1},
        {DOCUMENT_YAML, "a: &x !!str 1 # c\nb: *x\n", "a", "&x !!str 1", 1, 4, 1, 1},
        {DOCUMENT_YAML, "a: &x !!str 1 # c\nb: *x\n", "b", "*x", 2, 4, 2, 1},
        {DOCUMENT_YAML, "a: &x {k: [1]}\nb: *x\n", "b.k[0]", "*x", 2, 4, 0, 0},
        {DOCUMENT_YAML, "a: &x {k: [1]}\nb: *x\n", "b.k", "*x", 2, 4, 2, 4},
        {DOCUMENT_YAML, "a.b: {c: 1}\n", "[\"a.b\"].c", "1", 1, 10, 1, 7},
        {DOCUMENT_YAML, "? a\n: b\n", "a", "b", 2, 3, 1, 3},
        {DOCUMENT_JSON, "{\"a\" : [1, {\"\xC3\xBC\": \"x\", \"b\":\n 2.50}]}", "", NULL, 1, 1, 0, 0},
        {DOCUMENT_JSON, "{\"a\" : [1, {\"\xC3\xBC\": \"x\", \"b\":\n 2.50}]}", "a",
         "[1, {\"\xC3\xBC\": \"x\", \"b\":\n 2.50}]", 1, 8, 1, 2},
        {DOCUMENT_JSON, "{\"a\" : [1, {\"\xC3\xBC\": \"x\", \"b\":\n 2.50}]}", "a[1].b", "2.50", 2, 2, 1, 23},
        {DOCUMENT_JSON, "{\"a\" : [1, {\"\xC3\xBC\": \"x\", \"b\":\n 2.50}]}", "a[0]", "1", 1, 9, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct document_set set;
        assert_int_equal(document_parse(cases[i].text, strlen(cases[i].text), cases[i].format, &set), 0);
        const struct document *doc = &set.documents[0];
        const cJSON *node = document_find(doc, cases[i].path);
        const struct document_place *place = document_place(doc, node);
        if (!place)
            fail_msg("%s: nothing at %s", cases[i].text, cases[i].path);
        if (place->line != cases[i].line || place->column != cases[i].column || place->key_line != cases[i].key_line ||
            place->key_column != cases[i].key_column)
            fail_msg("%s: %s: got %u:%u, key %u:%u", cases[i].text, cases[i].path, place->line, place->column,
                     place->key_line, place->key_column);
        const char *bytes = cases[i].bytes ? cases[i].bytes : cases[i].text;
        if (strlen(bytes) != place->end - place->offset || memcmp(cases[i].text + place->offset, bytes, strlen(bytes)))
            fail_msg("%s: %s: got %.*s", cases[i].text, cases[i].path, (int)(place->end - place->offset),
                     cases[i].text + place->offset);
        unsigned line, column;
        assert_true(document_node_place(doc, node, true, &line, &column));
        assert_int_equal(line, place->key_line ? place->key_line : place->line);
        assert_int_equal(column, place->key_line ? place->key_column : place->column);
        if (place->key_line && !strchr("*", cases[i].text[place->key_offset]))
            assert_non_null(strstr(cases[i].text + place->key_offset, node->string));
        document_set_fini(&set);
    }
}

static void test_find(void **state)
{
    (void)state;
    struct document_set set;
    assert_int_equal(document_parse(TEXT("a: {b: [1, [2]], c.d: 3}"), DOCUMENT_YAML, &set), 0);
    const struct document *doc = &set.documents[0];
    static const char *const missing[] = {"b",     "a.x",  "a.b[2]", "a.b[",  "a.b[x]",          "a.b[0",   "a..b",
                                          ".a",    "a.",   "a.c.d",  "a[0]",  "a[\"c.d\"",       "a[\"\"]", "a.b[0]x",
                                          "a.b.0", "a.[0", "[0]",    "a.b[]", "a.b[99999999999]"};
    for (size_t i = 0; i < ARRAY_SIZE(missing); i++)
        if (document_find(doc, missing[i]))
            fail_msg("%s is found", missing[i]);
    assert_ptr_equal(document_find(doc, ""), doc->root);
    assert_int_equal(document_find(doc, "a.b[1][0]")->valueint, 2);
    assert_int_equal(document_find(doc, "a[\"c.d\"]")->valueint, 3);
    cJSON other = {0};
    unsigned line, column;
    assert_null(document_place(doc, &other));
    assert_null(document_place(doc, NULL));
    assert_false(document_node_place(doc, &other, true, &line, &column));
    document_set_fini(&set);
}

static void test_ranges(void **state)
{
    (void)state;
    static const struct {
        enum document_format format;
        const char *text;
        const char *own[4];
        unsigned lines[4];
        bool same_line[4];
    } cases[] = {
        {DOCUMENT_YAML, "# c\na: 1\n# d\n", {"# c\na: 1\n# d\n"}, {2}, {false}},
        {DOCUMENT_YAML, "\xEF\xBB\xBF# c\na: 1\n", {"# c\na: 1\n"}, {2}, {false}},
        {DOCUMENT_YAML,
         "# head\n---\n# c\na: 1\n# d\n--- # e\nb: 1\n...\n# f\nc: 1\n--- {d: 1}\n",
         {"# c\na: 1\n# d\n", "b: 1\n", "# f\nc: 1\n", "{d: 1}\n"},
         {4, 7, 10, 11},
         {false, false, false, true}},
        {DOCUMENT_YAML, "a: |\n  x\n---\r\nb: 1", {"a: |\n  x\n", "b: 1"}, {1, 4}, {false, false}},
        {DOCUMENT_JSON, " {\"a\":1}\n", {" {\"a\":1}\n"}, {1}, {false}},
        {DOCUMENT_JSON, "[{\"a\":1} ,\n {\"b\":[\"}\"]}\n]", {"{\"a\":1}", "{\"b\":[\"}\"]}"}, {1, 2}, {false, false}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct document_set set;
        assert_int_equal(document_parse(cases[i].text, strlen(cases[i].text), cases[i].format, &set), 0);
        for (size_t j = 0; j < set.n_documents; j++) {
            const struct document *doc = &set.documents[j];
            _cleanup_(freep) char *own = xstrndup(cases[i].text + doc->start, doc->end - doc->start);
            assert_string_equal(own, cases[i].own[j]);
            assert_int_equal(doc->line, cases[i].lines[j]);
            assert_int_equal(doc->same_line, cases[i].same_line[j]);
        }
        assert_true(set.n_documents == 4 || !cases[i].own[set.n_documents]);
        document_set_fini(&set);
    }
}

/* --- bounds --- */

static void repeat(struct buf *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_adds(out, text);
}

/* Parse and free the text; the errors, to be freed. */
static char *errors_of(struct buf *text, enum document_format format, size_t documents)
{
    struct document_set set;
    document_parse(text->data, text->len, format, &set);
    buf_fini(text);
    char *errors = errors_text(&set);
    if (set.n_documents != documents)
        fail_msg("got %zu documents, expected %zu\n%s", set.n_documents, documents, errors);
    document_set_fini(&set);
    return errors;
}

static void expect(struct buf *text, enum document_format format, size_t documents, const char *expected)
{
    _cleanup_(freep) char *errors = errors_of(text, format, documents);
    assert_string_equal(errors, expected);
}

static void test_depth(void **state)
{
    (void)state;
    struct buf text = {0};
    buf_adds(&text, "a: ");
    repeat(&text, "[", VALUE_DEPTH_MAX - 1);
    repeat(&text, "]", VALUE_DEPTH_MAX - 1);
    expect(&text, DOCUMENT_YAML, 1, "");
    buf_adds(&text, "a: ");
    repeat(&text, "[", VALUE_DEPTH_MAX);
    repeat(&text, "]", VALUE_DEPTH_MAX);
    buf_adds(&text, "\n---\nb: 1\n");
    expect(&text, DOCUMENT_YAML, 2, "1:131: nested deeper than 128 levels");
    buf_adds(&text, "a:\n ");
    repeat(&text, "- ", 100000);
    expect(&text, DOCUMENT_YAML, 1, "2:256: nested deeper than 128 levels");
    /* An alias counts with what it holds. */
    buf_adds(&text, "x: &x [[1]]\na: ");
    repeat(&text, "[", VALUE_DEPTH_MAX - 3);
    buf_adds(&text, "*x");
    repeat(&text, "]", VALUE_DEPTH_MAX - 3);
    expect(&text, DOCUMENT_YAML, 1, "");
    buf_adds(&text, "x: &x [[1]]\na: ");
    repeat(&text, "[", VALUE_DEPTH_MAX - 2);
    buf_adds(&text, "*x");
    repeat(&text, "]", VALUE_DEPTH_MAX - 2);
    expect(&text, DOCUMENT_YAML, 1, "2:130: nested deeper than 128 levels");
}

static void test_alias_bounds(void **state)
{
    (void)state;
    struct buf text = {0};
    buf_adds(&text, "a: &a [1, 2, 3]\nb: [");
    repeat(&text, "*a,", DOCUMENT_ALIAS_NODES_MAX / 4);
    buf_adds(&text, "]\n");
    expect(&text, DOCUMENT_YAML, 1, "");
    buf_adds(&text, "a: &a [1, 2, 3]\nb: [");
    repeat(&text, "*a,", DOCUMENT_ALIAS_NODES_MAX / 4 + 5); /* said once */
    buf_adds(&text, "]\n");
    expect(&text, DOCUMENT_YAML, 1, "2:75005: aliases expand to more than 100000 nodes or 16 MiB");
    buf_adds(&text, "a: &a [l, l, l, l, l, l, l, l, l, l]\n");
    for (char c = 'b'; c <= 'j'; c++) {
        buf_printf(&text, "%c: &%c [", c, c);
        for (int i = 0; i < 10; i++)
            buf_printf(&text, "*%c,", c - 1);
        buf_adds(&text, "]\n");
    }
    _cleanup_(freep) char *laughs = errors_of(&text, DOCUMENT_YAML, 1);
    assert_non_null(strstr(laughs, "aliases expand to more than"));
    buf_adds(&text, "a: &a ");
    repeat(&text, "x", 1 << 20);
    buf_adds(&text, "\nb: [");
    repeat(&text, "*a,", 16);
    buf_adds(&text, "]\n");
    expect(&text, DOCUMENT_YAML, 1, "");
    buf_adds(&text, "a: &a ");
    repeat(&text, "x", 1 << 20);
    buf_adds(&text, "\nb: [");
    repeat(&text, "*a,", 17);
    buf_adds(&text, "]\n");
    expect(&text, DOCUMENT_YAML, 1, "2:53: aliases expand to more than 100000 nodes or 16 MiB");
}

static void test_counts(void **state)
{
    (void)state;
    struct buf text = {0};
    repeat(&text, "a: 1\n---\n", DOCUMENT_COUNT_MAX);
    expect(&text, DOCUMENT_YAML, DOCUMENT_COUNT_MAX, "");
    repeat(&text, "a: 1\n---\n", DOCUMENT_COUNT_MAX);
    buf_adds(&text, "b: 1\n");
    expect(&text, DOCUMENT_YAML, DOCUMENT_COUNT_MAX, "20001:1: more than 10000 documents");
    repeat(&text, "---\n", DOCUMENT_COUNT_MAX * 2); /* without content they do not count */
    expect(&text, DOCUMENT_YAML, 0, "");
    buf_adds(&text, "[{}");
    repeat(&text, ",\n{}", DOCUMENT_COUNT_MAX);
    buf_adds(&text, "]");
    expect(&text, DOCUMENT_JSON, DOCUMENT_COUNT_MAX, "10001:1: more than 10000 documents");
    repeat(&text, "#", DOCUMENT_TEXT_MAX);
    expect(&text, DOCUMENT_YAML, 0, "");
    repeat(&text, "#", DOCUMENT_TEXT_MAX + 1);
    expect(&text, DOCUMENT_YAML, 0, "1:1: the text is too long: 4194305 bytes, at most 4194304 are read");

    struct document_set set;
    repeat(&text, "a: 1\n", DOCUMENT_ERRORS_EACH_MAX + 6); /* five too many */
    for (int i = 0; i < 20; i++) {
        buf_adds(&text, "---\n");
        repeat(&text, "a: 1\n", DOCUMENT_ERRORS_EACH_MAX + 1);
    }
    document_parse(text.data, text.len, DOCUMENT_YAML, &set);
    buf_fini(&text);
    assert_int_equal(set.n_errors, DOCUMENT_ERRORS_MAX);
    assert_int_equal(set.n_errors_left_out, 5 + 11 * DOCUMENT_ERRORS_EACH_MAX);
    for (size_t i = 0; i < set.n_documents; i++)
        assert_true(set.documents[i].bad);
    document_set_fini(&set);
}

static void test_big_numbers(void **state)
{
    (void)state;
    struct document_set set;
    struct buf text = {0}, digits = {0};
    repeat(&digits, "9876543210", 10000);
    buf_printf(&text, "a: 00%s\nb: -%s.%s\n", digits.data, digits.data, digits.data);
    assert_int_equal(document_parse(text.data, text.len, DOCUMENT_YAML, &set), 0);
    assert_string_equal(value_get(set.documents[0].root, "a")->valuestring, digits.data);
    assert_int_equal(strlen(value_get(set.documents[0].root, "b")->valuestring), 200002);
    document_set_fini(&set);
    buf_fini(&text);
    buf_fini(&digits);

    /* 16^1024 - 1 */
    buf_adds(&text, "a: 0x");
    repeat(&text, "f", YAML_RADIX_DIGITS_MAX);
    assert_int_equal(document_parse(text.data, text.len, DOCUMENT_YAML, &set), 0);
    const char *decimal = value_get(set.documents[0].root, "a")->valuestring;
    assert_int_equal(strlen(decimal), 1234);
    assert_int_equal(strncmp(decimal, "104438888141315250669175", 24), 0);
    assert_string_equal(decimal + 1234 - 20, "04708340403154190335");
    document_set_fini(&set);
    buf_addc(&text, 'f');
    expect(&text, DOCUMENT_YAML, 1, "1:4: an integer in hexadecimal or octal has at most 1024 digits, got 1025");
}

static void test_format_by_name(void **state)
{
    (void)state;
    enum document_format format = DOCUMENT_JSON;
    assert_int_equal(document_format_by_name("a.yaml", &format), 0);
    assert_int_equal(format, DOCUMENT_YAML);
    assert_int_equal(document_format_by_name("d/a.b.json", &format), 0);
    assert_int_equal(format, DOCUMENT_JSON);
    assert_int_equal(document_format_by_name("a.yml", &format), 0);
    assert_int_equal(format, DOCUMENT_YAML);
    assert_int_equal(document_format_by_name("a.yaml~", &format), -EINVAL);
    assert_int_equal(document_format_by_name(".yaml", &format), -EINVAL);
    assert_int_equal(document_format_by_name("yaml", &format), -EINVAL);
}

/* However many keys a mapping has, one that is there twice is found, with the line of the first. */
static void test_many_keys(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 60; n++) {
        for (unsigned twice = 0; twice < n; twice++) {
            struct buf text = {0};
            struct document_set set;
            for (unsigned i = 0; i < n; i++)
                buf_printf(&text, "k%u: {a: %u}\n", i, i);
            assert_int_equal(document_parse(text.data, text.len, DOCUMENT_YAML, &set), 0);
            document_set_fini(&set);
            buf_printf(&text, "k%u: 1\nk%u: ", twice, n); /* and one whose value never comes */
            document_parse(text.data, text.len, DOCUMENT_YAML, &set);
            assert_int_equal(set.n_errors, 1);
            _cleanup_(freep) char *got = errors_text(&set);
            _cleanup_(freep) char *expected =
                xasprintf("%u:1: duplicate key \"k%u\", first given in line %u", n + 1, twice, twice + 1);
            assert_string_equal(got, expected);
            document_set_fini(&set);
            buf_fini(&text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_keys), cmocka_unit_test(test_yaml_trees),     cmocka_unit_test(test_json_trees),
        cmocka_unit_test(test_conflicts), cmocka_unit_test(test_yaml_errors),    cmocka_unit_test(test_json_errors),
        cmocka_unit_test(test_places),    cmocka_unit_test(test_bad_among_good), cmocka_unit_test(test_find),
        cmocka_unit_test(test_ranges),    cmocka_unit_test(test_depth),          cmocka_unit_test(test_alias_bounds),
        cmocka_unit_test(test_counts),    cmocka_unit_test(test_big_numbers),    cmocka_unit_test(test_format_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
