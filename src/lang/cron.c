/* Two calendars: next_match() works on the local one, as minutes of a clock without zone; the rest maps between it and
 * Unix time. GLib knows the offset at an instant but keeps its transitions to itself; they are found by bisection over
 * the number of the interval that an instant lies in. */
#include "lang/cron.h"

#include "base/util.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <strings.h>

#define MINUTES_PER_DAY 1440
#define SEARCH_YEARS 100
#define MS_MIN (-62135596800000) /* 0001-01-01 */
#define MS_MAX 250246627200000   /* 9900-01-01 */
/* No clock differs from UTC by more, and no change moved one by more. */
#define OFFSET_MAX_SECONDS (26 * 3600)

enum field { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };

struct cron {
    uint64_t match[FIELDS]; /* a bit for each value; Sunday is 0 */
    bool starred[FIELDS];   /* the field starts with `*` */
    GTimeZone *zone;
};

static const struct field_rule {
    const char *name;
    unsigned min, max;
    const char *const *names; /* of the values from `min` on */
    unsigned name_count;
} rules[FIELDS] = {
    [MINUTE] = {"minute", 0, 59, NULL, 0},
    [HOUR] = {"hour", 0, 23, NULL, 0},
    [DAY] = {"day-of-month", 1, 31, NULL, 0},
    [MONTH] = {"month", 1, 12,
               (const char *const[]){"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV",
                                     "DEC"},
               12},
    [WEEKDAY] = {"day-of-week", 0, 7, (const char *const[]){"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}, 7},
};

/* ---- Parsing -------------------------------------------------------------------------------------------------------
 */

/* Column (in characters, from 1) of `at`. */
static unsigned column_of(const char *text, const char *at)
{
    unsigned column = 1;
    for (; text < at; text++)
        column += ((unsigned char)*text & 0xC0) != 0x80;
    return column;
}

struct parser {
    const char *text;
    const struct field_rule *rule;
    const char *p, *end; /* of the current field */
    struct error *err;
};

/* What is wrong at p: a sign known from other dialects, or anything else. */
static int fail_here(const struct parser *s, const char *expected)
{
    static const struct {
        const char *sign, *meaning;
    } dialects[] = {
        {"?", "`?` is not cron's, write `*`"},          {"L", "`L` (last) is not supported"},
        {"#", "`#` (n-th weekday) is not supported"},   {"W", "`W` (nearest working day) is not supported"},
        {"H", "`H` (spread by hash) is not supported"}, {"~", "`~` (random) is not supported"},
    };
    unsigned column = column_of(s->text, s->p);
    for (size_t i = 0; s->p < s->end && i < ARRAY_SIZE(dialects); i++)
        if (g_ascii_toupper(*s->p) == *dialects[i].sign && (s->p + 1 == s->end || !g_ascii_isalpha(s->p[1])))
            return error_set_at(s->err, -EINVAL, 1, column, "%s: %s", s->rule->name, dialects[i].meaning);
    if (s->p == s->end)
        return error_set_at(s->err, -EINVAL, 1, column, "%s: expected %s at its end", s->rule->name, expected);
    size_t rest = (size_t)(s->end - s->p);
    return error_set_at(s->err, -EINVAL, 1, column, "%s: expected %s, got `%.*s`", s->rule->name, expected,
                        (int)MIN(rest, 64), s->p);
}

/* A number without sign or bounds: digits past any limit stay huge. */
static bool parse_number(struct parser *s, unsigned *ret)
{
    unsigned n = 0;
    const char *start = s->p;
    for (; s->p < s->end && g_ascii_isdigit(*s->p); s->p++)
        n = MIN(n * 10 + (unsigned)(*s->p - '0'), 100000u);
    *ret = n;
    return s->p > start;
}

/* A value of the field: a number or a name. */
static int parse_value(struct parser *s, unsigned *ret)
{
    const struct field_rule *rule = s->rule;
    const char *start = s->p;
    unsigned n;
    if (parse_number(s, &n)) {
        if (n < rule->min || n > rule->max)
            return error_set_at(s->err, -EINVAL, 1, column_of(s->text, start), "%s: %.*s is not in %u-%u", rule->name,
                                (int)MIN(s->p - start, 64), start, rule->min, rule->max);
        *ret = n;
        return 0;
    }
    for (unsigned i = 0; i < rule->name_count; i++)
        if (s->end - s->p >= 3 && strncasecmp(s->p, rule->names[i], 3) == 0 &&
            (s->p + 3 == s->end || !g_ascii_isalpha(s->p[3]))) {
            s->p += 3;
            *ret = rule->min + i;
            return 0;
        }
    char expected[64];
    snprintf(expected, sizeof(expected), "%u-%u%s%s%s%s or `*`", rule->min, rule->max, rule->names ? ", " : "",
             rule->names ? rule->names[0] : "", rule->names ? "-" : "",
             rule->names ? rule->names[rule->name_count - 1] : "");
    return fail_here(s, expected);
}

/* One entry of a list: `*`, a value, or a range, and a step. */
static int parse_entry(struct parser *s, uint64_t *match)
{
    const struct field_rule *rule = s->rule;
    const char *start = s->p;
    unsigned first = rule->min, last = rule == &rules[WEEKDAY] ? 6 : rule->max, every = 1;
    bool range = true;
    if (s->p < s->end && *s->p == '*') {
        s->p++;
    } else {
        int rc = parse_value(s, &first);
        if (rc < 0)
            return rc;
        last = first;
        range = s->p < s->end && *s->p == '-';
        if (range) {
            s->p++;
            rc = parse_value(s, &last);
            if (rc < 0)
                return rc;
            if (rule == &rules[WEEKDAY] && last == 0 && first > 0)
                last = 7; /* FRI-SUN */
            if (last < first)
                return error_set_at(s->err, -EINVAL, 1, column_of(s->text, start),
                                    "%s: the range %.*s goes backwards, write it as two", rule->name,
                                    (int)(s->p - start), start);
        }
    }
    if (s->p < s->end && *s->p == '/') {
        if (!range)
            return error_set_at(s->err, -EINVAL, 1, column_of(s->text, s->p),
                                "%s: a step needs a range, write %u-%u/… or */…", rule->name, first, rule->max);
        const char *at = ++s->p;
        if (!parse_number(s, &every))
            return fail_here(s, "a step");
        if (every < 1 || every > rule->max)
            return error_set_at(s->err, -EINVAL, 1, column_of(s->text, at), "%s: the step %.*s is not in 1-%u",
                                rule->name, (int)MIN(s->p - at, 64), at, rule->max);
    }
    for (unsigned n = first; n <= last; n += every)
        *match |= 1ull << (rule == &rules[WEEKDAY] ? n % 7 : n);
    return 0;
}

static int parse_field(struct parser *s, uint64_t *match)
{
    for (;;) {
        int rc = parse_entry(s, match);
        if (rc < 0)
            return rc;
        if (s->p == s->end)
            return 0;
        if (*s->p != ',')
            return fail_here(s, "`,`");
        s->p++;
    }
}

/* The five fields that an @word stands for; `text` itself when it is none. */
static int expand_word(const char *text, const char *p, size_t len, const char **ret, struct error *err)
{
    static const char *const words[][2] = {
        {"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@weekly", "0 0 * * 0"},
        {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strlen(words[i][0]) == len && strncasecmp(p, words[i][0], len) == 0) {
            *ret = words[i][1];
            return 0;
        }
    return error_set_at(err, -EINVAL, 1, column_of(text, p),
                        "`%.*s` is none of @hourly @daily @midnight @weekly @monthly @yearly @annually",
                        (int)MIN(len, 64), p);
}

static int parse_text(const char *text, struct cron *c, struct error *err)
{
    if (strlen(text) > CRON_TEXT_MAX)
        return error_set_at(err, -EINVAL, 1, 1, "a cron expression has at most %d bytes", CRON_TEXT_MAX);
    struct parser s = {.text = text, .p = text, .err = err};
    s.p += strspn(s.p, " \t");
    if (*s.p == '@') {
        size_t len = strcspn(s.p, " \t"), after = len + strspn(s.p + len, " \t");
        if (s.p[after])
            return error_set_at(err, -EINVAL, 1, column_of(text, s.p + after), "nothing may follow `%.*s`",
                                (int)MIN(len, 64), s.p);
        int rc = expand_word(text, s.p, len, &s.text, err);
        if (rc < 0)
            return rc;
        s.p = s.text;
    }
    unsigned count = 0;
    for (const char *p = s.p; *p; count++) {
        p += strcspn(p, " \t");
        p += strspn(p, " \t");
    }
    if (count != FIELDS)
        return error_set_at(err, -EINVAL, 1, 1,
                            "expected the 5 fields minute hour day-of-month month day-of-week, got %u%s", count,
                            count == 6 || count == 7 ? " (there are no seconds or years)" : "");
    for (unsigned f = 0; f < FIELDS; f++) {
        s.rule = &rules[f];
        s.end = s.p + strcspn(s.p, " \t");
        c->starred[f] = *s.p == '*';
        int rc = parse_field(&s, &c->match[f]);
        if (rc < 0)
            return rc;
        s.p = s.end + strspn(s.end, " \t");
    }
    return 0;
}

/* ---- Time zones ----------------------------------------------------------------------------------------------------
 */

/* Names of the database start with a capital in every part. What GLib takes beside them is refused: paths, files of the
 * database that are no zone, and POSIX rules, by which `UTC+2` would be two hours behind UTC. */
static bool timezone_name_ok(const char *name)
{
    static const char *const with_digits[] = {"EST5EDT", "CST6CDT", "MST7MDT", "PST8PDT", "GMT0", "GMT+0", "GMT-0"};
    bool part = true, slash = false, digit = false;
    size_t len = strlen(name);
    if (len == 0 || len > 64)
        return false;
    if (*name == '+' || *name == '-')
        return len == 6 && strspn(name + 1, "0123456789") == 2 && name[3] == ':' && name[1] <= '2' &&
               strspn(name + 4, "0123456789") == 2 && name[4] <= '5';
    for (const char *p = name; *p; p++) {
        if (part ? !g_ascii_isupper(*p) : !g_ascii_isalnum(*p) && !strchr("_+-/", *p))
            return false;
        part = *p == '/';
        slash |= part;
        digit |= g_ascii_isdigit(*p);
    }
    if (part)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(with_digits); i++)
        if (streq(name, with_digits[i]))
            return true;
    return !digit || slash;
}

static int open_timezone(const char *zone_name, GTimeZone **ret, struct error *err)
{
    if (!zone_name || streq(zone_name, "UTC")) {
        *ret = g_time_zone_new_utc();
        return 0;
    }
    GTimeZone *zone = timezone_name_ok(zone_name) ? g_time_zone_new_identifier(zone_name) : NULL;
    if (!zone)
        return error_set(err, -EINVAL, "no time zone \"%.64s\" (expected a name such as Europe/Rome, or +02:00)",
                         zone_name);
    *ret = zone;
    return 0;
}

int cron_check_timezone(const char *zone_name, struct error *err)
{
    GTimeZone *zone = NULL;
    int rc = open_timezone(zone_name, &zone, err);
    if (rc == 0)
        g_time_zone_unref(zone);
    return rc;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* The stretch of constant offset that `at` (seconds) lies in. */
static int interval_at(const GTimeZone *zone, int64_t at, int64_t *ret_offset)
{
    int i = g_time_zone_find_interval((GTimeZone *)zone, G_TIME_TYPE_UNIVERSAL, at);
    *ret_offset = g_time_zone_get_offset((GTimeZone *)zone, i);
    return i;
}

/* The first second of (low, high] in another interval than low's; high + 1 if there is none. */
static int64_t interval_end(const GTimeZone *zone, int64_t low, int64_t high)
{
    int64_t offset;
    int interval = interval_at(zone, low, &offset);
    if (low >= high || interval_at(zone, high, &offset) == interval)
        return high + 1;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (interval_at(zone, middle, &offset) == interval)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* ---- The calendar --------------------------------------------------------------------------------------------------
 */

/* Days since 1970-01-01 of a date, and back: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
    y -= m <= 2;
    int64_t era = floor_div(y, 400);
    int64_t year = y - era * 400;
    int64_t day = (153 * (int64_t)(m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    return era * 146097 + year * 365 + year / 4 - year / 100 + day - 719468;
}

static void civil_from_days(int64_t days, int64_t *ret_y, unsigned *ret_m, unsigned *ret_d)
{
    days += 719468;
    int64_t era = floor_div(days, 146097), day = days - era * 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t of_year = day - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;
    *ret_d = (unsigned)(of_year - (153 * month + 2) / 5 + 1);
    *ret_m = (unsigned)(month < 10 ? month + 3 : month - 9);
    *ret_y = year + era * 400 + (*ret_m <= 2);
}

static unsigned month_days(int64_t y, unsigned m)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[m - 1] + (m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0));
}

static bool day_matches(const struct cron *c, int64_t days, unsigned d)
{
    bool by_day = c->match[DAY] >> d & 1, by_weekday = c->match[WEEKDAY] >> ((days % 7 + 11) % 7) & 1;
    return c->starred[DAY] || c->starred[WEEKDAY] ? by_day && by_weekday : by_day || by_weekday;
}

/* The lowest bit of `set` from `from` on; -1: none. */
static int next_bit(uint64_t set, unsigned from)
{
    set = from < 64 ? set >> from << from : 0;
    return set ? __builtin_ctzll(set) : -1;
}

/* The first matching minute from local minute `from` on (minutes since 1970-01-01 00:00 of the local clock). */
static int next_match(const struct cron *c, int64_t from, int64_t *ret)
{
    int64_t y, days = floor_div(from, MINUTES_PER_DAY);
    unsigned m, d, minute_of_day = (unsigned)(from - days * MINUTES_PER_DAY);
    civil_from_days(days, &y, &m, &d);
    for (int64_t last = y + SEARCH_YEARS; y <= last; y++, m = 1) {
        for (int next; (next = next_bit(c->match[MONTH], m)) > 0; m = (unsigned)next + 1, d = 1, minute_of_day = 0) {
            if ((unsigned)next != m)
                d = 1, minute_of_day = 0;
            m = (unsigned)next;
            days = days_from_civil(y, m, d);
            for (unsigned n = month_days(y, m); d <= n; d++, days++, minute_of_day = 0) {
                if (!day_matches(c, days, d))
                    continue;
                int minute = next_bit(c->match[MINUTE], minute_of_day % 60);
                int hour = next_bit(c->match[HOUR], minute_of_day / 60 + (minute < 0));
                if (hour < 0)
                    continue;
                if (minute < 0 || (unsigned)hour != minute_of_day / 60)
                    minute = next_bit(c->match[MINUTE], 0);
                *ret = days * MINUTES_PER_DAY + hour * 60 + minute;
                return 0;
            }
        }
        d = 1, minute_of_day = 0;
    }
    return -ERANGE;
}

static bool never_fires(const struct cron *c)
{
    if (!c->starred[DAY] && !c->starred[WEEKDAY])
        return false; /* some weekday comes every week */
    for (unsigned m = 1; m <= 12; m++)
        if ((c->match[MONTH] >> m & 1) && (unsigned)next_bit(c->match[DAY], 1) <= month_days(2000, m))
            return false;
    return true;
}

/* ---- Schedules -----------------------------------------------------------------------------------------------------
 */

int cron_create(const char *text, const char *zone_name, struct cron **ret, struct error *err)
{
    _cleanup_(cron_destroyp) struct cron *c = xcalloc(1, sizeof(*c));
    int rc = parse_text(text, c, err);
    if (rc < 0)
        return rc;
    if (never_fires(c))
        return error_set_at(err, -EINVAL, 1, 1, "day-of-month: never fires, no such month has that day");
    rc = open_timezone(zone_name, &c->zone, err);
    if (rc < 0)
        return rc;
    *ret = steal(&c);
    return 0;
}

void cron_destroy(struct cron *c)
{
    if (!c)
        return;
    if (c->zone)
        g_time_zone_unref(c->zone);
    free(c);
}

/* The latest time that the local clock has shown up to `at_ms`: later than what it shows in a repeated hour. */
static int64_t local_maximum(const struct cron *c, int64_t at_ms)
{
    int64_t at = floor_div(at_ms, 1000), offset;
    interval_at(c->zone, at, &offset);
    int64_t max = at_ms + offset * 1000;
    for (int64_t s = at - 2 * OFFSET_MAX_SECONDS, end; (end = interval_end(c->zone, s, at)) <= at; s = end) {
        interval_at(c->zone, s, &offset);
        max = MAX(max, (end + offset) * 1000 - 1); /* the clock came close to the end, without showing it */
    }
    return max;
}

/* Times of the day: the first instant after `after` (seconds) at which the local clock shows `local` (seconds) or
 * later. */
static int64_t first_reached(const struct cron *c, int64_t after, int64_t local)
{
    int64_t s = MAX(after, local - OFFSET_MAX_SECONDS), high = MAX(after, local + OFFSET_MAX_SECONDS);
    for (;;) {
        int64_t offset, end = interval_end(c->zone, s, high);
        interval_at(c->zone, s, &offset);
        int64_t at = MAX(local - offset, s);
        if (at < end || end > high)
            return at;
        s = end;
    }
}

/* Elapsed time: the first instant after `after_ms` at which the local clock shows a match. */
static int next_shown(const struct cron *c, int64_t after_ms, int64_t *ret)
{
    int64_t s = floor_div(after_ms, 1000), offset, minute;
    int64_t limit = s + (int64_t)SEARCH_YEARS * 366 * 86400;
    interval_at(c->zone, s, &offset);
    int64_t from = floor_div(after_ms + offset * 1000, 60000) + 1;
    for (;;) {
        int rc = next_match(c, from, &minute);
        if (rc < 0)
            return rc;
        int64_t at = minute * 60 - offset, end = interval_end(c->zone, s, at);
        if (end > at) {
            *ret = at;
            return 0;
        }
        if (end > limit)
            return -ERANGE;
        s = end;
        interval_at(c->zone, s, &offset);
        from = -floor_div(-(s + offset), 60); /* rounded up */
    }
}

int cron_next(const struct cron *c, int64_t after_ms, int64_t *ret_ms)
{
    int64_t at;
    if (after_ms < MS_MIN || after_ms > MS_MAX)
        return -ERANGE;
    if (c->starred[HOUR]) {
        int rc = next_shown(c, after_ms, &at);
        if (rc < 0)
            return rc;
    } else {
        int64_t minute;
        int rc = next_match(c, floor_div(local_maximum(c, after_ms), 60000) + 1, &minute);
        if (rc < 0)
            return rc;
        at = first_reached(c, floor_div(after_ms, 1000), minute * 60);
    }
    *ret_ms = at * 1000;
    return 0;
}
