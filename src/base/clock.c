#include "base/clock.h"

#include "base/util.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#define MS_PER_DAY 86400000LL
#define DURATION_MAX_MS (1000LL * 366 * MS_PER_DAY)

static int64_t read_clock_ms(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t system_realtime_ms(struct clock *clock)
{
    (void)clock;
    return read_clock_ms(CLOCK_REALTIME);
}

static int64_t system_monotonic_ms(struct clock *clock)
{
    (void)clock;
    return read_clock_ms(CLOCK_MONOTONIC);
}

struct clock *clock_system(void)
{
    static struct clock system = {system_realtime_ms, system_monotonic_ms};
    return &system;
}

static int64_t manual_realtime_ms(struct clock *clock)
{
    return container_of(clock, struct clock_manual, clock)->realtime_ms;
}

static int64_t manual_monotonic_ms(struct clock *clock)
{
    return container_of(clock, struct clock_manual, clock)->monotonic_ms;
}

void clock_manual_init(struct clock_manual *manual, int64_t realtime_ms, int64_t monotonic_ms)
{
    *manual = (struct clock_manual){
        .clock = {manual_realtime_ms, manual_monotonic_ms},
        .realtime_ms = realtime_ms,
        .monotonic_ms = monotonic_ms,
    };
}

void clock_manual_advance(struct clock_manual *manual, int64_t ms)
{
    manual->realtime_ms += ms;
    manual->monotonic_ms += ms;
}

/* The proleptic Gregorian calendar, counted in years that begin in March so that the leap day comes last; an era is its
 * cycle of 400 years, 146097 days. Day 0 of the count is 0000-03-01, which is 719468 days before 1970-01-01. */
static int64_t days_from_civil(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void civil_from_days(int64_t days, int *ret_year, int *ret_month, int *ret_day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    *ret_day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    *ret_month = (int)(month < 10 ? month + 3 : month - 9);
    *ret_year = (int)(year_of_era + era * 400 + (*ret_month <= 2));
}

static void put_digits(char *out, int value, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
}

void time_format(int64_t ms, char out[TIME_TEXT_SIZE])
{
    ms = MIN(MAX(ms, TIME_MIN_MS), TIME_MAX_MS);
    int64_t days = ms / MS_PER_DAY;
    int64_t rest = ms % MS_PER_DAY;
    if (rest < 0) {
        rest += MS_PER_DAY;
        days--;
    }
    int year, month, day, of_day = (int)rest;
    civil_from_days(days, &year, &month, &day);
    memcpy(out, "0000-00-00T00:00:00.000Z", TIME_TEXT_SIZE);
    put_digits(out, year, 4);
    put_digits(out + 5, month, 2);
    put_digits(out + 8, day, 2);
    put_digits(out + 11, of_day / 3600000, 2);
    put_digits(out + 14, of_day / 60000 % 60, 2);
    put_digits(out + 17, of_day / 1000 % 60, 2);
    put_digits(out + 20, of_day % 1000, 3);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Exactly `width` digits at *s, which moves past them. */
static bool take_digits(const char **s, int width, int *ret)
{
    int value = 0;
    for (int i = 0; i < width; i++) {
        if (!is_digit((*s)[i]))
            return false;
        value = value * 10 + ((*s)[i] - '0');
    }
    *s += width;
    *ret = value;
    return true;
}

static bool take_char(const char **s, char c)
{
    if (**s != c)
        return false;
    ++*s;
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

static bool take_date(const char **s, int64_t *ret_days)
{
    int year, month, day;
    if (!take_digits(s, 4, &year) || !take_char(s, '-') || !take_digits(s, 2, &month) || !take_char(s, '-') ||
        !take_digits(s, 2, &day))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
        return false;
    *ret_days = days_from_civil(year, month, day);
    return true;
}

/* `.` and one digit or more; milliseconds of it. No `.`: 0. */
static bool take_fraction_ms(const char **s, int *ret_ms)
{
    *ret_ms = 0;
    if (!take_char(s, '.'))
        return true;
    if (!is_digit(**s))
        return false;
    for (int scale = 100; is_digit(**s); ++*s, scale /= 10)
        *ret_ms += (**s - '0') * scale;
    return true;
}

static bool take_offset_minutes(const char **s, int *ret_minutes)
{
    *ret_minutes = 0;
    if (take_char(s, 'Z') || take_char(s, 'z'))
        return true;
    int sign = **s == '-' ? -1 : 1, hours, minutes;
    if (!take_char(s, '+') && !take_char(s, '-'))
        return false;
    if (!take_digits(s, 2, &hours) || !take_char(s, ':') || !take_digits(s, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_minutes = sign * (hours * 60 + minutes);
    return true;
}

int time_parse(const char *text, int64_t *ret_ms)
{
    const char *s = text;
    int64_t days;
    if (!take_date(&s, &days))
        return -EINVAL;
    if (*s == '\0') {
        *ret_ms = days * MS_PER_DAY;
        return 0;
    }
    int hour, minute, second, fraction, offset;
    if (!take_char(&s, 'T') && !take_char(&s, 't') && !take_char(&s, ' '))
        return -EINVAL;
    if (!take_digits(&s, 2, &hour) || !take_char(&s, ':') || !take_digits(&s, 2, &minute) || !take_char(&s, ':') ||
        !take_digits(&s, 2, &second) || !take_fraction_ms(&s, &fraction) || !take_offset_minutes(&s, &offset) || *s)
        return -EINVAL;
    if (hour > 23 || minute > 59 || second > 60)
        return -EINVAL;
    int64_t minutes = days * 1440 + hour * 60 + minute - offset;
    if (second == 60) {
        if ((minutes % 1440 + 1440) % 1440 != 1439)
            return -EINVAL;
        fraction = 0;
    }
    int64_t ms = minutes * 60000 + second * 1000 + fraction;
    if (ms < TIME_MIN_MS || ms > TIME_MAX_MS)
        return -EINVAL;
    *ret_ms = ms;
    return 0;
}

static const struct duration_unit {
    const char *name;
    int64_t ms;
} duration_units[] = {
    {"w", 7 * MS_PER_DAY}, {"d", MS_PER_DAY}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};

/* The index of the unit that the letters at *s name, -1 if none; *s moves past them. */
static int take_unit(const char **s)
{
    size_t len = 0;
    while ((*s)[len] >= 'a' && (*s)[len] <= 'z')
        len++;
    for (size_t i = 0; i < ARRAY_SIZE(duration_units); i++) {
        if (strlen(duration_units[i].name) == len && memcmp(*s, duration_units[i].name, len) == 0) {
            *s += len;
            return (int)i;
        }
    }
    return -1;
}

/* The digits at *s as a number, which stops growing past the longest duration; *ret_any: was there one? */
static int64_t take_number(const char **s, bool *ret_any)
{
    int64_t value = 0;
    for (*ret_any = false; is_digit(**s); ++*s, *ret_any = true)
        if (value <= DURATION_MAX_MS)
            value = value * 10 + (**s - '0');
    return value;
}

int duration_parse(const char *text, int64_t *ret_ms)
{
    const char *s = text;
    int64_t total = 0;
    int last = -1;
    bool too_long = false;
    if (!*s)
        return -EINVAL;
    while (*s) {
        bool any, any_fraction = true;
        int64_t whole = take_number(&s, &any), fraction = 0, scale = 1;
        if (take_char(&s, '.')) {
            for (any_fraction = false; is_digit(*s); s++, any_fraction = true) {
                if (scale < 1000000000) { /* nanoseconds of the unit are plenty, and times a week fit 64 bits */
                    fraction = fraction * 10 + (*s - '0');
                    scale *= 10;
                }
            }
        }
        int unit = any && any_fraction ? take_unit(&s) : -1;
        if (unit <= last)
            return -EINVAL;
        last = unit;
        if (whole > DURATION_MAX_MS / duration_units[unit].ms) {
            too_long = true;
            continue;
        }
        total += whole * duration_units[unit].ms + fraction * duration_units[unit].ms / scale;
    }
    if (too_long || total > DURATION_MAX_MS)
        return -ERANGE;
    *ret_ms = total;
    return 0;
}

int time_parse_since(const char *text, int64_t now_ms, int64_t *ret_ms)
{
    if (time_parse(text, ret_ms) == 0)
        return 0;
    char in_utc[sizeof("2026-01-02T03:04:05.678901234Z")];
    int n = snprintf(in_utc, sizeof(in_utc), "%sZ", text);
    if (n < (int)sizeof(in_utc) && time_parse(in_utc, ret_ms) == 0)
        return 0;
    int64_t ago;
    int r = duration_parse(text, &ago);
    if (r < 0)
        return r;
    *ret_ms = now_ms - ago;
    return 0;
}
