/* Patterns: what matches, what does not and why, what is refused and where. In the tables ' stands for ". */
#include "lang/matcher.h"

#include "base/util.h"
#include "model/value.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static char *unquote(const char *text)
{
    char *json = xstrdup(text);
    for (char *p = json; *p; p++)
        if (*p == '\'')
            *p = '"';
    return json;
}

static cJSON *parse(const char *text)
{
    _cleanup_(freep) char *json = unquote(text);
    struct error err = ERROR_INIT;
    cJSON *v = NULL;
    if (value_parse(json, strlen(json), &v, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return v;
}

static struct pattern *compile(const char *text)
{
    _cleanup_(cjson_deletep) cJSON *json = parse(text);
    struct error err = ERROR_INIT;
    struct pattern *p = NULL;
    if (pattern_compile(json, &p, NULL, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return p;
}

static bool match(const char *pattern, const char *event, struct mismatch *why)
{
    struct pattern *p = compile(pattern);
    _cleanup_(cjson_deletep) cJSON *e = parse(event);
    bool matches = pattern_match(p, e, NULL);
    *why = (struct mismatch){0};
    if (pattern_match(p, e, why) != matches)
        fail_msg("%s on %s: asking why changes the answer", pattern, event);
    struct matcher *m = matcher_create();
    void *const *owners;
    matcher_add(m, p, p);
    if ((matcher_match(m, e, &owners) == 1) != matches)
        fail_msg("%s on %s: the matcher does not agree", pattern, event);
    matcher_destroy(m);
    pattern_destroy(p);
    return matches;
}

#define YES true
#define NO false

static const struct {
    const char *pattern, *event;
    bool match;
} matches[] = {
    /* the seed's plain form */
    {"{}", "{}", YES},
    {"{}", "[1, 2]", YES},
    {"{}", "null", YES},
    {"{'action': 'signup'}", "{'action': 'signup', 'user': {'id': 1}}", YES},
    {"{'action': 'signup'}", "{'action': 'login'}", NO},
    {"{'action': 'signup'}", "{}", NO},
    {"{'action': 'signup'}", "{'Action': 'signup'}", NO},
    {"{'action': 'signup'}", "{'action': 'Signup'}", NO},
    {"{'table': 'orders', 'status': 'pending'}", "{'status': 'pending', 'table': 'orders'}", YES},
    {"{'table': 'orders', 'status': 'pending'}", "{'status': 'done', 'table': 'orders'}", NO},
    {"{'a': ''}", "{'a': ''}", YES},
    {"{'a': ''}", "{'a': 'x'}", NO},
    {"{'': 'x'}", "{'': 'x'}", YES},
    {"{'a': 'x'}", "'a'", NO},
    {"{'a': 'x'}", "[]", NO},

    /* type-strict scalars */
    {"{'a': 1}", "{'a': 1}", YES},
    {"{'a': 1}", "{'a': '1'}", NO},
    {"{'a': '1'}", "{'a': 1}", NO},
    {"{'a': true}", "{'a': true}", YES},
    {"{'a': true}", "{'a': 'true'}", NO},
    {"{'a': true}", "{'a': 1}", NO},
    {"{'a': false}", "{'a': true}", NO},
    {"{'a': false}", "{'a': false}", YES},
    {"{'a': false}", "{'a': null}", NO},
    {"{'a': null}", "{'a': null}", YES},
    {"{'a': null}", "{}", NO},
    {"{'a': null}", "{'a': 'null'}", NO},
    {"{'a': [null]}", "{'a': null}", YES},
    {"{'a': 'x'}", "{'a': {'x': 1}}", NO},

    /* numbers by value, without bound */
    {"{'a': 1}", "{'a': 1.0}", YES},
    {"{'a': 1.0}", "{'a': 1}", YES},
    {"{'a': 3.018e2}", "{'a': 301.8}", YES},
    {"{'a': 100}", "{'a': 1e2}", YES},
    {"{'a': 0}", "{'a': -0}", YES},
    {"{'a': 0}", "{'a': 0.0e5}", YES},
    {"{'a': -1}", "{'a': 1}", NO},
    {"{'a': 9007199254740993}", "{'a': 9007199254740992}", NO},
    {"{'a': 9007199254740993}", "{'a': 9007199254740993.0}", YES},
    {"{'a': 123456789012345678901234567890}", "{'a': 123456789012345678901234567890}", YES},
    {"{'a': 123456789012345678901234567890}", "{'a': 123456789012345678901234567891}", NO},
    {"{'a': 0.1}", "{'a': 0.1000000000000000055511151231257827}", NO},
    {"{'a': 1e400}", "{'a': 10e399}", YES},
    {"{'a': 1e400}", "{'a': 1e401}", NO},

    /* lists: any entry */
    {"{'state': ['initializing', 'running']}", "{'state': 'running'}", YES},
    {"{'state': ['initializing', 'running']}", "{'state': 'stopped'}", NO},
    {"{'a': [1, 'x', null, true]}", "{'a': null}", YES},
    {"{'a': [1, 'x', null, true]}", "{'a': true}", YES},
    {"{'a': [1, 'x', null, true]}", "{'a': false}", NO},
    {"{'a': ['x', {'prefix': 'y'}]}", "{'a': 'yes'}", YES},
    {"{'a': ['x', {'prefix': 'y'}]}", "{'a': 'xes'}", NO},

    /* nested objects and dotted keys */
    {"{'user': {'name': 'ann'}}", "{'user': {'name': 'ann', 'age': 3}}", YES},
    {"{'user': {'name': 'ann'}}", "{'user': 'ann'}", NO},
    {"{'user': {'name': 'ann'}}", "{'name': 'ann'}", NO},
    {"{'user.name': 'ann'}", "{'user': {'name': 'ann'}}", YES},
    {"{'user.name': 'ann'}", "{'user': {'name': 'bob'}}", NO},
    {"{'user.name': 'ann'}", "{'user.name': 'ann'}", YES},
    {"{'user': {'name': 'ann'}}", "{'user.name': 'ann'}", YES},
    {"{'a.b': {'c.d': 1}}", "{'a': {'b': {'c': {'d': 1}}}}", YES},
    {"{'a.b': {'c.d': 1}}", "{'a': {'b.c': {'d': 1}}}", YES},
    {"{'a.b': {'c.d': 1}}", "{'a.b.c.d': 1}", YES},
    {"{'a.b': {'c.d': 1}}", "{'a.b': {'c': {'d': 2}}}", NO},
    {"{'a': {'b': 1, 'c': 2}}", "{'a': {'b': 1}, 'a.c': 2}", YES},
    {"{'a': {'b': 1, 'c': 2}}", "{'a.b': 1, 'a.c': 2}", YES},
    {"{'a': {'b': 1, 'c': 2}}", "{'a': [{'b': 1}, {'b': 2}], 'a.c': 2}", YES},
    {"{'a': {'b': 1, 'c': 2}}", "{'a': [{'b': 3}, {'b': 2}], 'a.c': 2}", NO},
    {"{'a.b': 1, 'a': {'c': 2}}", "{'a': {'b': 1, 'c': 2}}", YES},
    {"{'a.b': [1, 2], 'a': {'b': [2, 3]}}", "{'a': {'b': 2}}", YES},
    {"{'a.b': [1, 2], 'a': {'b': [2, 3]}}", "{'a': {'b': 3}}", NO},
    {"{'a.': 1}", "{'a.': 1}", YES},
    {"{'a.': 1}", "{'a': {'': 1}}", YES},
    {"{'a': 1}", "{'a.b': 1}", NO},
    {"{'a': [{'exists': false}]}", "{'a.b': 1}", YES},

    /* arrays in the event */
    {"{'tags': 'b'}", "{'tags': ['a', 'b']}", YES},
    {"{'tags': 'c'}", "{'tags': ['a', 'b']}", NO},
    {"{'tags': ['x', 'b']}", "{'tags': ['a', 'b']}", YES},
    {"{'tags': 'a'}", "{'tags': []}", NO},
    {"{'tags': 'a'}", "{'tags': [['b'], [['a']]]}", YES},
    {"{'items': {'a': 1, 'b': 2}}", "{'items': [{'a': 1}, {'b': 2}]}", NO},
    {"{'items': {'a': 1, 'b': 2}}", "{'items': [{'a': 1}, {'a': 1, 'b': 2}]}", YES},
    {"{'items': {'a': [1], 'b': [2]}}", "{'items': [[{'a': 1, 'b': 3}], [{'a': 1, 'b': 2}]]}", YES},
    {"{'items.a': 1, 'items.b': 2}", "{'items': [{'a': 1}, {'b': 2}]}", NO},
    {"{'items': {'a': 1}, 'x': {'b': 2}}", "{'items': [{'a': 0}, {'a': 1}], 'x': [{'b': 2}]}", YES},
    {"{'u': {'t': {'k': 'color', 'v': 'blue'}}}", "{'u': [{'t': [{'k': 'color'}, {'v': 'blue'}]}]}", NO},
    {"{'u': {'t': {'k': 'color', 'v': 'blue'}}}", "{'u': [{'t': [{'k': 'color', 'v': 'blue'}]}]}", YES},
    {"{'d': {'n': 'x', 'i': {'v': 1}}}", "{'d': [{'n': 'x'}, {'i': {'v': 1}}]}", NO},
    {"{'d': {'tags': 'b', 'type': 'g'}}", "{'d': {'tags': ['a', 'b'], 'type': 'g'}}", YES},
    {"{'employees': {'firstName': 'Anna', 'lastName': 'Jones'}}",
     "{'employees': [{'firstName': 'Anna', 'lastName': 'Smith'}, {'firstName': 'Peter', 'lastName': 'Jones'}]}", NO},
    {"{'a': 'x', 'a.b': 1}", "{'a': ['x', {'b': 1}]}", YES},
    {"{'a': 1}", "[{'a': 2}, {'a': 1}]", YES},

    /* prefix, suffix */
    {"{'a': [{'prefix': '2017-10'}]}", "{'a': '2017-10-02'}", YES},
    {"{'a': [{'prefix': '2017-10'}]}", "{'a': '2017-1'}", NO},
    {"{'a': [{'prefix': '1'}]}", "{'a': 12}", NO},
    {"{'a': [{'prefix': ''}]}", "{'a': ''}", YES},
    {"{'a': [{'prefix': ''}]}", "{'a': null}", NO},
    {"{'a': [{'suffix': '.csv'}]}", "{'a': 'x.csv'}", YES},
    {"{'a': [{'suffix': '.csv'}]}", "{'a': 'csv'}", NO},
    {"{'a': [{'suffix': '.csv'}]}", "{'a': 'x.CSV'}", NO},
    {"{'a': [{'prefix': {'equals-ignore-case': 'EC2'}}]}", "{'a': 'ec2-i'}", YES},
    {"{'a': [{'prefix': {'equals-ignore-case': 'EC2'}}]}", "{'a': 'x-ec2'}", NO},
    {"{'a': [{'suffix': {'equals-ignore-case': '.Csv'}}]}", "{'a': 'x.cSV'}", YES},
    {"{'a': [{'suffix': {'equals-ignore-case': 'ÄÖ'}}]}", "{'a': 'xäö'}", YES},

    /* equals-ignore-case */
    {"{'a': [{'equals-ignore-case': 'aws.EC2'}]}", "{'a': 'AWS.ec2'}", YES},
    {"{'a': [{'equals-ignore-case': 'aws.EC2'}]}", "{'a': 'AWS.ec22'}", NO},
    {"{'a': [{'equals-ignore-case': 'straße'}]}", "{'a': 'STRASSE'}", YES},
    {"{'a': [{'equals-ignore-case': 'ΣΊΣΥΦΟΣ'}]}", "{'a': 'σίσυφος'}", YES},
    {"{'a': [{'equals-ignore-case': '[a]'}]}", "{'a': '{A}'}", NO},
    {"{'a': [{'equals-ignore-case': '1'}]}", "{'a': 1}", NO},

    /* wildcard */
    {"{'a': [{'wildcard': 'Simple*Service'}]}", "{'a': 'SimpleQueueService'}", YES},
    {"{'a': [{'wildcard': 'Simple*Service'}]}", "{'a': 'SimpleService'}", YES},
    {"{'a': [{'wildcard': 'Simple*Service'}]}", "{'a': 'SimpleServic'}", NO},
    {"{'a': [{'wildcard': 'Simple*Service'}]}", "{'a': 'xSimpleService'}", NO},
    {"{'a': [{'wildcard': 'aba*aba'}]}", "{'a': 'ababa'}", NO},
    {"{'a': [{'wildcard': 'aba*aba'}]}", "{'a': 'abaaba'}", YES},
    {"{'a': [{'wildcard': '*'}]}", "{'a': ''}", YES},
    {"{'a': [{'wildcard': '*'}]}", "{'a': 1}", NO},
    {"{'a': [{'wildcard': ''}]}", "{'a': ''}", YES},
    {"{'a': [{'wildcard': ''}]}", "{'a': 'x'}", NO},
    {"{'a': [{'wildcard': 'x'}]}", "{'a': 'x'}", YES},
    {"{'a': [{'wildcard': '*/bin/*.jar'}]}", "{'a': '/usr/bin/x/y.jar'}", YES},
    {"{'a': [{'wildcard': '*/bin/*.jar'}]}", "{'a': '/usr/bin.jar'}", NO},
    {"{'a': [{'wildcard': '*a*b*c*'}]}", "{'a': 'xxaxxbxxcxx'}", YES},
    {"{'a': [{'wildcard': '*a*b*c*'}]}", "{'a': 'xxbxxaxxcxx'}", NO},
    {"{'a': [{'wildcard': '*a*aab'}]}", "{'a': 'aaaab'}", YES},
    {"{'a': [{'wildcard': 'a\\\\*b'}]}", "{'a': 'a*b'}", YES},
    {"{'a': [{'wildcard': 'a\\\\*b'}]}", "{'a': 'axb'}", NO},
    {"{'a': [{'wildcard': 'a\\\\\\\\*'}]}", "{'a': 'a\\\\bc'}", YES},
    {"{'a': [{'wildcard': 'a\\\\\\\\*'}]}", "{'a': 'a*'}", NO},
    {"{'a': [{'wildcard': '*ö*'}]}", "{'a': 'schön'}", YES},
    {"{'a': [{'wildcard': 'A*'}]}", "{'a': 'ab'}", NO},

    /* anything-but */
    {"{'a': [{'anything-but': 'x'}]}", "{'a': 'y'}", YES},
    {"{'a': [{'anything-but': 'x'}]}", "{'a': 'x'}", NO},
    {"{'a': [{'anything-but': 'x'}]}", "{}", NO},
    {"{'a': [{'anything-but': 'x'}]}", "{'a': 5}", YES},
    {"{'a': [{'anything-but': 'x'}]}", "{'a': null}", YES},
    {"{'a': [{'anything-but': 'x'}]}", "{'a': {'b': 1}}", NO},
    {"{'a': [{'anything-but': 'x'}]}", "{'a': []}", NO},
    {"{'a': [{'anything-but': 'x'}]}", "{'a': ['x', 'y']}", YES},
    {"{'a': [{'anything-but': 'x'}]}", "{'a': ['x', 'x']}", NO},
    {"{'a': [{'anything-but': 123}]}", "{'a': 123.0}", NO},
    {"{'a': [{'anything-but': 123}]}", "{'a': '123'}", YES},
    {"{'a': [{'anything-but': ['x', 'y']}]}", "{'a': 'y'}", NO},
    {"{'a': [{'anything-but': ['x', 'y']}]}", "{'a': 'z'}", YES},
    {"{'a': [{'anything-but': [100, 200]}]}", "{'a': 2e2}", NO},
    {"{'a': [{'anything-but': [100, 200]}]}", "{'a': 300}", YES},
    {"{'a': [{'anything-but': {'prefix': 'init'}}]}", "{'a': 'initializing'}", NO},
    {"{'a': [{'anything-but': {'prefix': 'init'}}]}", "{'a': 'running'}", YES},
    {"{'a': [{'anything-but': {'prefix': 'init'}}]}", "{'a': 7}", YES},
    {"{'a': [{'anything-but': {'prefix': ['init', 'err']}}]}", "{'a': 'error'}", NO},
    {"{'a': [{'anything-but': {'suffix': ['1234', '6789']}}]}", "{'a': 'i-6789'}", NO},
    {"{'a': [{'anything-but': {'suffix': '1234'}}]}", "{'a': 'i-6789'}", YES},
    {"{'a': [{'anything-but': {'equals-ignore-case': ['Stopped', 'x']}}]}", "{'a': 'STOPPED'}", NO},
    {"{'a': [{'anything-but': {'equals-ignore-case': 'Stopped'}}]}", "{'a': 'stop'}", YES},
    {"{'a': [{'anything-but': {'wildcard': '*/bin/*.jar'}}]}", "{'a': '/bin/x.jar'}", NO},
    {"{'a': [{'anything-but': {'wildcard': ['*.jar', '*.class']}}]}", "{'a': 'x.java'}", YES},

    /* numeric */
    {"{'a': [{'numeric': ['>', 0, '<=', 5]}]}", "{'a': 5}", YES},
    {"{'a': [{'numeric': ['>', 0, '<=', 5]}]}", "{'a': 0}", NO},
    {"{'a': [{'numeric': ['>', 0, '<=', 5]}]}", "{'a': 5.0000000000000000000001}", NO},
    {"{'a': [{'numeric': ['>', 0, '<=', 5]}]}", "{'a': 0.0000000000000000000001}", YES},
    {"{'a': [{'numeric': ['>', 0, '<=', 5]}]}", "{'a': '3'}", NO},
    {"{'a': [{'numeric': ['<', 10]}]}", "{'a': -1e300}", YES},
    {"{'a': [{'numeric': ['<', 10]}]}", "{'a': 10}", NO},
    {"{'a': [{'numeric': ['>=', 10]}]}", "{'a': 10}", YES},
    {"{'a': [{'numeric': ['>=', 10]}]}", "{'a': 1e999}", YES},
    {"{'a': [{'numeric': ['=', 3.018e2]}]}", "{'a': 301.8}", YES},
    {"{'a': [{'numeric': ['=', 3.018e2]}]}", "{'a': 301}", NO},
    {"{'a': [{'numeric': ['<', 1e400]}]}", "{'a': 9e399}", YES},
    {"{'a': [{'numeric': ['>', 9007199254740992]}]}", "{'a': 9007199254740993}", YES},
    {"{'a': [{'numeric': ['>', 5]}, {'numeric': ['<', 1]}]}", "{'a': 3}", NO},
    {"{'a': [{'numeric': ['>', 5]}, {'numeric': ['<', 1]}]}", "{'a': [3, 0]}", YES},

    /* cidr */
    {"{'ip': [{'cidr': '10.0.0.0/24'}]}", "{'ip': '10.0.0.255'}", YES},
    {"{'ip': [{'cidr': '10.0.0.0/24'}]}", "{'ip': '10.0.1.0'}", NO},
    {"{'ip': [{'cidr': '10.0.0.77/8'}]}", "{'ip': '10.200.1.0'}", YES},
    {"{'ip': [{'cidr': '0.0.0.0/0'}]}", "{'ip': '255.1.2.3'}", YES},
    {"{'ip': [{'cidr': '0.0.0.0/0'}]}", "{'ip': '::1'}", NO},
    {"{'ip': [{'cidr': '10.1.2.3/32'}]}", "{'ip': '10.1.2.3'}", YES},
    {"{'ip': [{'cidr': '10.1.2.3/31'}]}", "{'ip': '10.1.2.2'}", YES},
    {"{'ip': [{'cidr': '10.1.2.3/31'}]}", "{'ip': '10.1.2.4'}", NO},
    {"{'ip': [{'cidr': '10.0.0.0/8'}]}", "{'ip': '10.0.0'}", NO},
    {"{'ip': [{'cidr': '10.0.0.0/8'}]}", "{'ip': '10.0.0.1 '}", NO},
    {"{'ip': [{'cidr': '10.0.0.0/8'}]}", "{'ip': '10.0.0.256'}", NO},
    {"{'ip': [{'cidr': '10.0.0.0/8'}]}", "{'ip': 10.0}", NO},
    {"{'ip': [{'cidr': '2001:db8::/33'}]}", "{'ip': '2001:0DB8:7fff::1'}", YES},
    {"{'ip': [{'cidr': '2001:db8::/33'}]}", "{'ip': '2001:db8:8000::1'}", NO},
    {"{'ip': [{'cidr': '::1/128'}]}", "{'ip': '0:0:0:0:0:0:0:1'}", YES},
    {"{'ip': [{'cidr': '10.0.0.0/8'}]}", "{'ip': '::ffff:10.1.2.3'}", YES},
    {"{'ip': [{'cidr': '::ffff:10.0.0.0/104'}]}", "{'ip': '10.1.2.3'}", YES},
    {"{'ip': '10.0.0.1'}", "{'ip': '10.0.0.1'}", YES},

    /* exists */
    {"{'a': [{'exists': true}]}", "{'a': null}", YES},
    {"{'a': [{'exists': true}]}", "{'a': {}}", YES},
    {"{'a': [{'exists': true}]}", "{'a': []}", YES},
    {"{'a': [{'exists': true}]}", "{'b': 1}", NO},
    {"{'a': [{'exists': false}]}", "{'b': 1}", YES},
    {"{'a': [{'exists': false}]}", "{'a': null}", NO},
    {"{'a': [{'exists': false}]}", "{'a': {'b': 1}}", NO},
    {"{'a': [{'exists': false}]}", "{'a': []}", NO},
    {"{'a': [{'exists': false}]}", "3", YES},
    {"{'a.b': [{'exists': false}]}", "{'a': 1}", YES},
    {"{'a.b': [{'exists': false}]}", "{}", YES},
    {"{'a.b': [{'exists': false}]}", "{'a': []}", YES},
    {"{'a.b': [{'exists': true}]}", "{'a': [1, {'b': []}]}", YES},
    {"{'a': [{'exists': false}, 'x']}", "{}", YES},
    {"{'a': [{'exists': false}, 'x']}", "{'a': 'x'}", YES},
    {"{'a': [{'exists': false}, 'x']}", "{'a': 'y'}", NO},
    {"{'a': [{'exists': true}, {'exists': false}]}", "{}", YES},
    {"{'d': {'a': [{'exists': true}], 'b': [{'exists': false}]}}", "{'d': [{'a': 1, 'b': 2}]}", NO},
    {"{'d': {'a': [{'exists': true}], 'b': [{'exists': false}]}}", "{'d': [{'a': 1, 'b': 2}, {'a': 1}]}", YES},
    {"{'d': {'b': [{'exists': false}]}}", "{'d': [{'b': 1}, {'c': 2}]}", YES},
    {"{'d': {'b': [{'exists': false}]}}", "{'d': [{'b': 1}, {'b': 2}]}", NO},
    {"{'d': {'b': 1, 'a': [{'exists': false}]}}", "{'d': [{'a': 1}, {'b': 1}]}", YES},
    {"{'d': {'b': 1, 'a': [{'exists': false}]}}", "{'d': [{'a': 1, 'b': 1}, {'b': 2}]}", NO},

    /* $or */
    {"{'$or': [{'a': 1}, {'b': 2}]}", "{'a': 1}", YES},
    {"{'$or': [{'a': 1}, {'b': 2}]}", "{'b': 2, 'a': 3}", YES},
    {"{'$or': [{'a': 1}, {'b': 2}]}", "{'a': 2, 'b': 1}", NO},
    {"{'s': 'x', '$or': [{'a': 1}, {'b': 2}]}", "{'a': 1}", NO},
    {"{'s': 'x', '$or': [{'a': 1}, {'b': 2, 'c': 3}]}", "{'s': 'x', 'b': 2, 'c': 3}", YES},
    {"{'s': 'x', '$or': [{'a': 1}, {'b': 2, 'c': 3}]}", "{'s': 'x', 'b': 2}", NO},
    {"{'$or': [{'a': 1}, {'b': 1}], 'd': {'$or': [{'c': 1}, {'e': 1}]}}", "{'b': 1, 'd': {'e': 1}}", YES},
    {"{'$or': [{'a': 1}, {'b': 1}], 'd': {'$or': [{'c': 1}, {'e': 1}]}}", "{'b': 1, 'd': {'b': 1}}", NO},
    {"{'$or': [{'a': 1}, {'b': 1, '$or': [{'c': 1}, {'d': 1}]}]}", "{'b': 1, 'd': 1}", YES},
    {"{'$or': [{'a': 1}, {'b': 1, '$or': [{'c': 1}, {'d': 1}]}]}", "{'b': 1}", NO},
    {"{'i': {'a': 1, '$or': [{'b': 1}, {'c': 1}]}}", "{'i': [{'a': 1}, {'b': 1}]}", NO},
    {"{'i': {'a': 1, '$or': [{'b': 1}, {'c': 1}]}}", "{'i': [{'a': 1, 'c': 1}, {'b': 1}]}", YES},
    {"{'i.a': 1, '$or': [{'i.b': 1}, {'i': {'c': 1}}]}", "{'i': [{'a': 1}, {'b': 1}, {'c': 1}]}", NO},
    {"{'a': ['$or']}", "{'a': '$or'}", YES},

    /* names of operators as names of members */
    {"{'prefix': 'x'}", "{'prefix': 'x'}", YES},
    {"{'exists': true}", "{'exists': true}", YES},
    {"{'exists': true}", "{'exists': false}", NO},
    {"{'a.prefix': 'x'}", "{'a': {'prefix': 'x'}}", YES},
    {"{'a.$or': 'x'}", "{'a': {'$or': 'x'}}", YES},
};

static void test_matches(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(matches); i++) {
        struct mismatch why;
        bool got = match(matches[i].pattern, matches[i].event, &why);
        if (got != matches[i].match)
            fail_msg("%s on %s: %s %s", matches[i].pattern, matches[i].event, got ? "matches" : "does not match",
                     why.text);
        if (!got && (why.text[0] == '\0' || !utf8_valid(why.text, strlen(why.text))))
            fail_msg("%s on %s: no reason", matches[i].pattern, matches[i].event);
    }
}

static const struct {
    const char *pattern, *event, *path, *text;
} reasons[] = {
    {"{'action': 'signup'}", "{'action': 'login'}", "action", "action: expected 'signup', found 'login'"},
    {"{'user.age': [{'numeric': ['>', 18]}]}", "{'user': {}}", "user.age",
     "user.age: expected numeric > 18, found nothing"},
    {"{'user': {'age': [{'numeric': ['>', 0, '<=', 5]}]}}", "{'user': {'age': 6}}", "user.age",
     "user.age: expected numeric > 0 <= 5, found 6"},
    {"{'a': ['x', 1, null, true]}", "{'a': [false, {}]}", "a",
     "a: expected 'x' or 1 or null or true, found [false,{}]"},
    {"{'a': [1, 2, 3, 4, 5, 6, 7]}", "{'a': 0}", "a", "a: expected 1 or 2 or 3 or 4 or 5 or 2 more, found 0"},
    {"{'a': [{'prefix': 'x'}, {'suffix': {'equals-ignore-case': 'Y'}}]}", "{'a': 1}", "a",
     "a: expected prefix 'x' or suffix equals-ignore-case 'Y', found 1"},
    {"{'a': [{'wildcard': 'x*'}, {'equals-ignore-case': 'y'}]}", "{'a': 'z'}", "a",
     "a: expected wildcard 'x*' or equals-ignore-case 'y', found 'z'"},
    {"{'a': [{'anything-but': ['x', 'y']}]}", "{'a': 'y'}", "a", "a: expected anything-but 'x', 'y', found 'y'"},
    {"{'a': [{'anything-but': {'prefix': 'y'}}]}", "{'a': 'y'}", "a", "a: expected anything-but prefix 'y', found 'y'"},
    {"{'a': [{'cidr': '10.0.0.0/8'}]}", "{'a': '11.0.0.1'}", "a", "a: expected cidr 10.0.0.0/8, found '11.0.0.1'"},
    {"{'a': [{'exists': true}]}", "{}", "a", "a: expected a value, found nothing"},
    {"{'a': [{'exists': false}]}", "{'a': {'b': 1}}", "a", "a: expected nothing, found {'b':1}"},
    {"{'a': [{'numeric': ['=', 1.5]}]}", "{'a': 1}", "a", "a: expected numeric = 1.5, found 1"},
    /* the first one in the pattern's order, also where paths share a parent */
    {"{'b': 1, 'a': 2}", "{}", "b", "b: expected 1, found nothing"},
    {"{'a.x': 1, 'b': 2, 'a.y': 3}", "{'a': {'x': 1}}", "b", "b: expected 2, found nothing"},
    /* arrays */
    {"{'i': {'a': 1, 'b': {'c': 'x'}}}", "{'i': [{'a': 1}, {'b': {'c': 'x'}}]}", "i",
     "i: expected an element with a 1 and b.c 'x', found none among 2"},
    {"{'i': {'a': 1}}", "{'i': [{'a': 2}]}", "i.a", "i.a: expected 1, found 2"},
    {"{'i': {'a': 1}}", "{'i': []}", "i.a", "i.a: expected 1, found nothing"},
    {"{'a': 1}", "[{}, {}]", "", "expected an element with a 1, found none among 2"},
    /* $or */
    {"{'s': 1, '$or': [{'a': 1}, {'b': 1}]}", "{'a': 1, 'b': 1}", "s", "s: expected 1, found nothing"},
    {"{'s': 1, '$or': [{'a': 1}, {'b': 1}]}", "{'s': 1, 'b': 2}", "$or",
     "$or: no alternative matches: a: expected 1, found nothing; b: expected 1, found 2"},
};

static void test_reasons(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        struct mismatch why;
        _cleanup_(freep) char *want = unquote(reasons[i].text);
        assert_false(match(reasons[i].pattern, reasons[i].event, &why));
        assert_string_equal(why.text, want);
        assert_string_equal(why.path, reasons[i].path);
    }
}

/* `at`: the node at fault, as names and indices from the pattern's root. */
static const struct {
    const char *pattern, *message, *at;
} errors[] = {
    {"5", "expected an object, got 5", ""},
    {"[{'a': 1}]", "expected an object, got [{'a':1}]", ""},
    {"{'a': {}}", "a: expected at least one member, got {}", "a"},
    {"{'a': {'b': []}}", "a.b: expected at least one value, got []", "a b"},
    {"{'a': [[1]]}", "a[0]: expected a value or an operator, got [1]", "a 0"},
    {"{'a': [1, {}]}", "a[1]: expected a value or an operator, got {}", "a 1"},
    {"{'a': [{'prefix': 'x', 'suffix': 'y'}]}",
     "a[0]: expected one operator (two of them are two entries, either of which matches), got "
     "{'prefix':'x','suffix':'y'}",
     "a 0"},
    /* unknown operators */
    {"{'a': [{'prefx': 'x'}]}", "a[0].prefx: unknown operator, did you mean 'prefix'?", "a 0 prefx"},
    {"{'a.b': [1, {'anything_but': 'x'}]}", "a.b[1].anything_but: unknown operator, did you mean 'anything-but'?",
     "a.b 1 anything_but"},
    {"{'a': [{'Exists': true}]}", "a[0].Exists: unknown operator, did you mean 'exists'?", "a 0 Exists"},
    {"{'a': [{'regex': '.*'}]}", "a[0].regex: unknown operator, did you mean 'prefix'?", "a 0 regex"},
    /* operators outside a list */
    {"{'a': {'prefix': 'x'}}",
     "a.prefix: an operator stands in a list: write [{prefix: 'x'}], or the key 'a.prefix' for a member of that name",
     "a prefix"},
    {"{'a': {'b': {'numeric': ['>', 1]}}}",
     "a.b.numeric: an operator stands in a list: write [{numeric: ['>',1]}], or the key 'a.b.numeric' for a member of "
     "that name",
     "a b numeric"},
    {"{'a': {'exists': true}}",
     "a.exists: an operator stands in a list: write [{exists: true}], or the key 'a.exists' for a member of that name",
     "a exists"},
    {"{'$or': [{'prefix': 'x'}, {'a': 1}]}",
     "$or[0].prefix: an operator stands in the list of a key: write {'key': [{prefix: 'x'}]}", "$or 0 prefix"},
    /* operands */
    {"{'a': [{'prefix': 5}]}", "a[0].prefix: expected a string or {'equals-ignore-case': '…'}, got 5", "a 0 prefix"},
    {"{'a': [{'prefix': ['x']}]}", "a[0].prefix: expected a string or {'equals-ignore-case': '…'}, got ['x']",
     "a 0 prefix"},
    {"{'a': [{'suffix': {'prefix': 'x'}}]}",
     "a[0].suffix: expected a string or {'equals-ignore-case': '…'}, got {'prefix':'x'}", "a 0 suffix"},
    {"{'a': [{'suffix': {'equals-ignore-case': 1}}]}", "a[0].suffix.equals-ignore-case: expected a string, got 1",
     "a 0 suffix equals-ignore-case"},
    {"{'a': [{'equals-ignore-case': null}]}", "a[0].equals-ignore-case: expected a string, got null",
     "a 0 equals-ignore-case"},
    {"{'a': [{'equals-ignore-case': ['x']}]}", "a[0].equals-ignore-case: expected a string, got ['x']",
     "a 0 equals-ignore-case"},
    {"{'a': [{'exists': 'true'}]}", "a[0].exists: expected true or false, got 'true'", "a 0 exists"},
    {"{'a': [{'exists': 1}]}", "a[0].exists: expected true or false, got 1", "a 0 exists"},
    /* wildcards */
    {"{'a': [{'wildcard': 1}]}", "a[0].wildcard: expected a string, got 1", "a 0 wildcard"},
    {"{'a': [{'wildcard': 'a**b'}]}", "a[0].wildcard: two stars in a row at byte 2 of a wildcard: write one",
     "a 0 wildcard"},
    {"{'a': [{'wildcard': 'a\\\\b'}]}", "a[0].wildcard: expected * or \\ after the \\ at byte 2 of a wildcard",
     "a 0 wildcard"},
    {"{'a': [{'wildcard': 'ab\\\\'}]}", "a[0].wildcard: expected * or \\ after the \\ at byte 3 of a wildcard",
     "a 0 wildcard"},
    {"{'a': [{'wildcard': '*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*'}]}",
     "a[0].wildcard: a wildcard costs too much: expected at most 16 stars, got 17", "a 0 wildcard"},
    /* numeric */
    {"{'a': [{'numeric': 5}]}", "a[0].numeric: expected a list such as ['>', 0, '<=', 5], got 5", "a 0 numeric"},
    {"{'a': [{'numeric': []}]}", "a[0].numeric: expected a list such as ['>', 0, '<=', 5], got []", "a 0 numeric"},
    {"{'a.b': [1, {'numeric': ['!=', 5]}]}", "a.b[1].numeric[0]: expected one of < <= = > >=, got '!='",
     "a.b 1 numeric 0"},
    {"{'a': [{'numeric': [5]}]}", "a[0].numeric[0]: expected one of < <= = > >=, got 5", "a 0 numeric 0"},
    {"{'a': [{'numeric': ['>', '5']}]}", "a[0].numeric[1]: expected a number after '>', got '5'", "a 0 numeric 1"},
    {"{'a': [{'numeric': ['>']}]}", "a[0].numeric[1]: expected a number after '>', got nothing", "a 0 numeric 0"},
    {"{'a': [{'numeric': ['>', 1, '>', 5]}]}", "a[0].numeric[2]: expected < or <= after a lower bound, got '>'",
     "a 0 numeric 2"},
    {"{'a': [{'numeric': ['>', 1, '<']}]}", "a[0].numeric[3]: expected a number after '<', got nothing",
     "a 0 numeric 2"},
    {"{'a': [{'numeric': ['<', 5, '>', 1]}]}",
     "a[0].numeric: expected one bound, or a lower and then an upper one, got ['<',5,'>',1]", "a 0 numeric 2"},
    {"{'a': [{'numeric': ['=', 5, '<', 9]}]}",
     "a[0].numeric: expected one bound, or a lower and then an upper one, got ['=',5,'<',9]", "a 0 numeric 2"},
    {"{'a': [{'numeric': ['>', 1, '<', 5, '<', 6]}]}",
     "a[0].numeric: expected one bound, or a lower and then an upper one, got ['>',1,'<',5,'<',6]", "a 0 numeric 4"},
    {"{'a': [{'numeric': ['>', 5, '<', 5]}]}",
     "a[0].numeric: expected a lower bound less than the upper one, got ['>',5,'<',5]", "a 0 numeric"},
    {"{'a': [{'numeric': ['>=', 5, '<=', 1]}]}",
     "a[0].numeric: expected a lower bound less than the upper one, got ['>=',5,'<=',1]", "a 0 numeric"},
    /* cidr */
    {"{'a': [{'cidr': 5}]}", "a[0].cidr: expected a string, got 5", "a 0 cidr"},
    {"{'a': [{'cidr': '10.0.0.1'}]}", "a[0].cidr: expected a block such as 10.0.0.0/8 or 2001:db8::/32, got '10.0.0.1'",
     "a 0 cidr"},
    {"{'a': [{'cidr': '10.0.0/8'}]}", "a[0].cidr: expected a block such as 10.0.0.0/8 or 2001:db8::/32, got '10.0.0/8'",
     "a 0 cidr"},
    {"{'a': [{'cidr': '10.0.0.0/33'}]}", "a[0].cidr: expected a length of at most 32 bits, got 33", "a 0 cidr"},
    {"{'a': [{'cidr': '::/129'}]}", "a[0].cidr: expected a length of at most 128 bits, got 129", "a 0 cidr"},
    {"{'a': [{'cidr': '10.0.0.0/-1'}]}",
     "a[0].cidr: expected a block such as 10.0.0.0/8 or 2001:db8::/32, got '10.0.0.0/-1'", "a 0 cidr"},
    {"{'a': [{'cidr': 'foo/bar/baz'}]}",
     "a[0].cidr: expected a block such as 10.0.0.0/8 or 2001:db8::/32, got 'foo/bar/baz'", "a 0 cidr"},
    {"{'a': [{'cidr': '2400:6500:FF00::36FB:1F80/'}]}",
     "a[0].cidr: expected a block such as 10.0.0.0/8 or 2001:db8::/32, got '2400:6500:FF00::36FB:1F80/'", "a 0 cidr"},
    {"{'a': [{'cidr': '2400:6500:3:3:3:3:3:3:3/122'}]}",
     "a[0].cidr: expected a block such as 10.0.0.0/8 or 2001:db8::/32, got '2400:6500:3:3:3:3:3:3:3/122'", "a 0 cidr"},
    /* anything-but */
    {"{'a': [{'anything-but': []}]}", "a[0].anything-but: expected at least one value, got []", "a 0 anything-but"},
    {"{'a': [{'anything-but': null}]}", "a[0].anything-but: expected strings or numbers, got null", "a 0 anything-but"},
    {"{'a': [{'anything-but': [true]}]}", "a[0].anything-but[0]: expected strings or numbers, got true",
     "a 0 anything-but 0"},
    {"{'a': [{'anything-but': ['x', 1]}]}",
     "a[0].anything-but[1]: expected strings alone or numbers alone, got ['x',1]", "a 0 anything-but 1"},
    {"{'a': [{'anything-but': {'numeric': ['>', 1]}}]}",
     "a[0].anything-but: expected one of prefix, suffix, equals-ignore-case and wildcard, got {'numeric':['>',1]}",
     "a 0 anything-but numeric"},
    {"{'a': [{'anything-but': {}}]}",
     "a[0].anything-but: expected one of prefix, suffix, equals-ignore-case and wildcard, got {}", "a 0 anything-but"},
    {"{'a': [{'anything-but': {'prefix': ''}}]}",
     "a[0].anything-but.prefix: expected a string that is not empty: anything but that is nothing",
     "a 0 anything-but prefix"},
    {"{'a': [{'anything-but': {'suffix': ['x', 5]}}]}",
     "a[0].anything-but.suffix[1]: expected a string or a list of strings, got 5", "a 0 anything-but suffix 1"},
    {"{'a': [{'anything-but': {'wildcard': ['x', 'a**']}}]}",
     "a[0].anything-but.wildcard[1]: two stars in a row at byte 2 of a wildcard: write one",
     "a 0 anything-but wildcard 1"},
    {"{'a': [{'anything-but': {'prefix': {'equals-ignore-case': 'x'}}}]}",
     "a[0].anything-but.prefix: expected a string or a list of strings, got {'equals-ignore-case':'x'}",
     "a 0 anything-but prefix"},
    /* $or */
    {"{'$or': {'a': 1}}", "$or: expected a list of two or more alternatives, got {'a':1}", "$or"},
    {"{'$or': []}", "$or: expected a list of two or more alternatives, got []", "$or"},
    {"{'$or': [{'a': 1}]}", "$or: expected a list of two or more alternatives, got [{'a':1}]", "$or"},
    {"{'$or': [{'a': 1}, 5]}", "$or[1]: expected an object, got 5", "$or 1"},
    {"{'a': {'$or': [{'b': 1}, {}]}}", "a.$or[1]: expected at least one member, got {}", "a $or 1"},
    {"{'$or': [{'a': 1}, {'b': [{'cidrs': 1}]}]}", "$or[1].b[0].cidrs: unknown operator, did you mean 'cidr'?",
     "$or 1 b 0 cidrs"},
};

static const cJSON *locate(const cJSON *node, const char *at)
{
    _cleanup_(freep) char *copy = xstrdup(at);
    char *save = NULL;
    for (char *step = strtok_r(copy, " ", &save); step && node; step = strtok_r(NULL, " ", &save))
        node = cJSON_IsArray(node) ? cJSON_GetArrayItem(node, atoi(step)) : value_get(node, step);
    return node;
}

static void test_errors(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        _cleanup_(cjson_deletep) cJSON *json = parse(errors[i].pattern);
        _cleanup_(freep) char *want = unquote(errors[i].message);
        struct error err = ERROR_INIT;
        struct pattern *p = NULL;
        const cJSON *node = NULL;
        if (pattern_compile(json, &p, &node, &err) != -EINVAL)
            fail_msg("%s compiles", errors[i].pattern);
        assert_null(p);
        assert_string_equal(err.message, want);
        if (node != locate(json, errors[i].at))
            fail_msg("%s: the node at fault is not at '%s'", errors[i].pattern, errors[i].at);
    }
}

static void add_error(void *ctx, const cJSON *node, const char *message)
{
    assert_non_null(node);
    buf_printf(ctx, "%s\n", message);
}

static void test_all_errors_at_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        _cleanup_(cjson_deletep) cJSON *json = parse(errors[i].pattern);
        _cleanup_(freep) char *want = unquote(errors[i].message);
        struct buf b = {0};
        assert_true(pattern_errors(json, add_error, &b) >= 1);
        assert_true(strncmp(b.data, want, strlen(want)) == 0 && b.data[strlen(want)] == '\n');
        buf_fini(&b);
    }
    _cleanup_(cjson_deletep) cJSON *json =
        parse("{'a': {'prefix': 'x'}, 'ok': 1, 'b': [{'bogus': 1}, 2, {'numeric': ['>', 'a']}],"
              " '$or': [{'c': []}, 5, {'d': {'e': {}}}], 'f': [[1]]}");
    struct buf b = {0};
    assert_int_equal(pattern_errors(json, add_error, &b), 7);
    static const char *const places[] = {
        "a.prefix: ", "b[0].bogus: ", "b[2].numeric[1]: ", "$or[0].c: ", "$or[1]: ", "$or[2].d.e: ", "f[0]: "};
    const char *line = b.data;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++, line = strchr(line, '\n') + 1)
        if (strncmp(line, places[i], strlen(places[i])) != 0)
            fail_msg("not %s: %s", places[i], line);
    buf_fini(&b);
    _cleanup_(cjson_deletep) cJSON *good = parse("{'a': 1}");
    assert_int_equal(pattern_errors(good, add_error, &b), 0);
    assert_int_equal(pattern_errors(NULL, add_error, &b), 0);

    struct buf many = {0};
    buf_adds(&many, "{\"a\": [");
    for (size_t i = 0; i < 2 * PATTERN_ERRORS_MAX; i++)
        buf_adds(&many, i ? ",{}" : "{}");
    buf_adds(&many, "]}");
    _cleanup_(cjson_deletep) cJSON *bad = cJSON_Parse(many.data);
    assert_int_equal(pattern_errors(bad, add_error, &b), PATTERN_ERRORS_MAX);
    buf_fini(&many);
    buf_fini(&b);
}

/* Bounds: the last size that compiles, and the first that does not. */

static int compile_text(const struct buf *text, struct error *err)
{
    _cleanup_(cjson_deletep) cJSON *json = NULL;
    assert_int_equal(value_parse(text->data, text->len, &json, NULL), 0);
    struct pattern *p = NULL;
    int r = pattern_compile(json, &p, NULL, err);
    pattern_destroy(p);
    return r;
}

static void repeat(struct buf *b, const char *text, size_t n, const char *separator)
{
    for (size_t i = 0; i < n; i++) {
        buf_adds(b, i ? separator : "");
        buf_adds(b, text);
    }
}

typedef void make_fn(struct buf *b, size_t n);

static void make_depth(struct buf *b, size_t n)
{
    buf_adds(b, "{\"");
    repeat(b, "a", n, ".");
    buf_adds(b, "\":1}");
}

static void make_nesting(struct buf *b, size_t n)
{
    repeat(b, "{\"a\":", n, "");
    buf_adds(b, "1");
    repeat(b, "}", n, "");
}

static void make_paths(struct buf *b, size_t n)
{
    buf_adds(b, "{");
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s\"a%zu\":1", i ? "," : "", i);
    buf_adds(b, "}");
}

static void make_entries(struct buf *b, size_t n)
{
    buf_adds(b, "{\"a\":[");
    repeat(b, "1", n, ",");
    buf_adds(b, "]}");
}

static void make_but_entries(struct buf *b, size_t n)
{
    buf_adds(b, "{\"a\":[{\"anything-but\":["); /* the entry itself counts too */
    repeat(b, "1", n - 1, ",");
    buf_adds(b, "]}]}");
}

static void make_alternatives(struct buf *b, size_t n)
{
    buf_adds(b, "{\"$or\":[");
    repeat(b, "{\"a\":1}", n / 10, ",");
    buf_adds(b, "],\"b\":{\"$or\":[");
    repeat(b, "{\"a\":1}", 10 + (n % 10 ? 1 : 0), ",");
    buf_adds(b, "]}}");
}

static void make_expanded(struct buf *b, size_t n)
{
    buf_adds(b, "{");
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "\"a%zu\":1,", i);
    buf_adds(b, "\"$or\":[");
    repeat(b, "{\"b\":1}", 500, ",");
    buf_adds(b, "]}");
}

static void make_string(struct buf *b, size_t n)
{
    buf_adds(b, "{\"a\":\"");
    repeat(b, "x", n, "");
    buf_adds(b, "\"}");
}

static void make_key(struct buf *b, size_t n)
{
    buf_adds(b, "{\"");
    repeat(b, "x", n, "");
    buf_adds(b, "\":1}");
}

static void make_wildcard(struct buf *b, size_t n)
{
    buf_adds(b, "{\"a\":[{\"wildcard\":\"");
    repeat(b, "x", n, "");
    buf_adds(b, "\"}]}");
}

static void make_stars(struct buf *b, size_t n)
{
    buf_adds(b, "{\"a\":[{\"wildcard\":\"");
    repeat(b, "*", n, "x");
    buf_adds(b, "\"}]}");
}

static const struct {
    make_fn *make;
    size_t most;
    const char *message;
} bounds[] = {
    {make_depth, PATTERN_DEPTH_MAX, "expected a path of at most 100 names"},
    {make_nesting, PATTERN_DEPTH_MAX, "expected a path of at most 100 names"},
    {make_paths, PATTERN_PATHS_MAX, "expected at most 1000 paths in a pattern"},
    {make_entries, PATTERN_ENTRIES_MAX, "expected at most 10000 entries in a pattern"},
    {make_but_entries, PATTERN_ENTRIES_MAX, "expected at most 10000 entries in a pattern"},
    {make_alternatives, PATTERN_CONJUNCTIONS_MAX, "multiply out to more than 1000 combinations"},
    {make_expanded, PATTERN_EXPANDED_MAX / 500 - 1, "multiply out to more than 100000 names"},
    {make_string, PATTERN_STRING_MAX, "expected at most 16384 bytes, got 16385"},
    {make_key, PATTERN_STRING_MAX, "expected a key of at most 16384 bytes, got 16385"},
    {make_wildcard, PATTERN_WILDCARD_MAX, "a wildcard costs too much: expected at most 1024 bytes, got 1025"},
    {make_stars, PATTERN_STARS_MAX, "a wildcard costs too much: expected at most 16 stars, got 17"},
};

static void test_bounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bounds); i++) {
        struct buf good = {0}, bad = {0};
        struct error err = ERROR_INIT;
        bounds[i].make(&good, bounds[i].most);
        bounds[i].make(&bad, bounds[i].most + 1);
        if (compile_text(&good, &err) < 0)
            fail_msg("%zu: %s", i, err.message);
        assert_int_equal(compile_text(&bad, &err), -EINVAL);
        if (!strstr(err.message, bounds[i].message))
            fail_msg("%zu: %s", i, err.message);
        buf_fini(&good);
        buf_fini(&bad);
    }
}

/* $or inside $or makes no path longer; a tree that no parser made may be deeper than the parser allows. */
static void test_or_depth(void **state)
{
    (void)state;
    for (int n = PATTERN_DEPTH_MAX; n <= PATTERN_DEPTH_MAX + 1; n++) {
        _cleanup_(cjson_deletep) cJSON *json = parse("{'a': 1}");
        for (int i = 0; i < n; i++) {
            cJSON *outer = parse("{'$or': [{'b': 1}]}");
            cJSON_AddItemToArray(outer->child, json);
            json = outer;
        }
        struct error err = ERROR_INIT;
        struct pattern *p = NULL;
        assert_int_equal(pattern_compile(json, &p, NULL, &err), n > PATTERN_DEPTH_MAX ? -EINVAL : 0);
        assert_true(n == PATTERN_DEPTH_MAX || strstr(err.message, "expected objects at most 100 deep"));
        pattern_destroy(p);
    }
}

static void test_null_pattern(void **state)
{
    (void)state;
    struct pattern *p = NULL;
    assert_int_equal(pattern_compile(NULL, &p, NULL, NULL), 0);
    assert_true(pattern_match(p, NULL, NULL));
    pattern_destroy(p);
    assert_true(pattern_match(NULL, NULL, NULL));
    pattern_destroy(NULL);
}

/* A long reason is cut between characters, and stays valid. */
static void test_reason_cut(void **state)
{
    (void)state;
    struct buf text = {0};
    buf_adds(&text, "{\"");
    repeat(&text, "ä", 400, "");
    buf_adds(&text, "\":1}");
    _cleanup_(cjson_deletep) cJSON *json = parse(text.data);
    struct pattern *p = NULL;
    assert_int_equal(pattern_compile(json, &p, NULL, NULL), 0);
    struct mismatch why;
    assert_false(pattern_match(p, NULL, &why));
    assert_true(utf8_valid(why.text, strlen(why.text)) && utf8_valid(why.path, strlen(why.path)));
    assert_string_equal(why.text + strlen(why.text) - strlen("…"), "…");
    assert_true(strlen(why.path) > 250 && strlen(why.text) > 500);
    pattern_destroy(p);
    buf_fini(&text);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Events made to be expensive end within the budget of steps, and say so. */
static void test_work_is_bounded(void **state)
{
    (void)state;
    struct buf pattern = {0}, event = {0};
    /* dotted names multiply arrays with each other */
    buf_adds(&event, "{\"a\":{\"b\":[");
    repeat(&event, "{\"x\":1}", 3000, ",");
    buf_adds(&event, "]},\"a.b\":[");
    repeat(&event, "{\"y\":1}", 3000, ",");
    buf_adds(&event, "]}");
    struct mismatch why;
    assert_true(match("{'a.b': {'x': 1, 'y': 1}}", event.data, &why));
    assert_false(match("{'a.b': {'x': 1, 'y': 2}}", event.data, &why));
    assert_string_equal(why.text, "the event takes more than 4000000 steps to match");

    /* many values against a long array */
    pattern.len = event.len = 0;
    buf_adds(&pattern, "{\"a\":[");
    repeat(&pattern, "{\"wildcard\":\"*x*y*\"}", 9000, ",");
    buf_adds(&pattern, "]}");
    buf_adds(&event, "{\"a\":[");
    repeat(&event, "\"xxxxxxxxxxxxxxxxxxxxxxxxx\"", 20000, ",");
    buf_adds(&event, "]}");
    double start = seconds();
    assert_false(match(pattern.data, event.data, &why));
    assert_string_equal(why.text, "the event takes more than 4000000 steps to match");
    assert_true(seconds() - start < 20);

    /* nested arrays are no reason to give up */
    pattern.len = event.len = 0;
    buf_adds(&event, "{\"a\":");
    repeat(&event, "[", 120, "");
    buf_adds(&event, "{\"x\":1}");
    repeat(&event, "]", 120, "");
    buf_adds(&event, "}");
    assert_true(match("{\"a\":{\"x\":1}}", event.data, &why));
    buf_fini(&pattern);
    buf_fini(&event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),         cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_errors),          cmocka_unit_test(test_all_errors_at_once),
        cmocka_unit_test(test_bounds),          cmocka_unit_test(test_or_depth),
        cmocka_unit_test(test_null_pattern),    cmocka_unit_test(test_reason_cut),
        cmocka_unit_test(test_work_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
