#include "base/log.h"

#include "base/clock.h"
#include "base/mask.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(LOG_LINE_MAX <= PIPE_BUF, "a line must be one atomic write");

/* Room kept at the end of a line for "…", the end of a JSON string and object, and the newline. */
#define TAIL_ROOM 8
/* What the message may take, so that the fields after it find room. */
#define MESSAGE_END (LOG_LINE_MAX * 3 / 4)

_Atomic int log_threshold = LOG_LEVEL_INFO;
static _Atomic int log_format = LOG_FORMAT_TEXT;
static _Atomic int log_fd = STDERR_FILENO;
static _Atomic bool log_priorities = false;

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const char *const level_words[] = {"ERROR", "WARNING", "INFO", "DEBUG"};
static const char *const level_priorities[] = {"<3>", "<4>", "<6>", "<7>"}; /* sd-daemon(3) */
static const char *const format_names[] = {"text", "json"};

/* True if standard error is the stream that JOURNAL_STREAM names as device:inode (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uint64_t device, inode;
    struct stat st;
    if (!stream || sscanf(stream, "%" SCNu64 ":%" SCNu64, &device, &inode) != 2 || fstat(STDERR_FILENO, &st) < 0)
        return false;
    return st.st_dev == device && st.st_ino == inode;
}

void log_init(enum log_level level, enum log_format format)
{
    log_threshold = (int)level;
    log_format = (int)format;
    log_fd = STDERR_FILENO;
    log_priorities = stderr_is_journal();
}

void log_set_level(enum log_level level)
{
    log_threshold = (int)level;
}

void log_set_fd(int fd)
{
    log_fd = fd;
    log_priorities = false;
}

static int parse_name(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (streq(name, names[i]))
            return (int)i;
    return -EINVAL;
}

int log_level_parse(const char *name, enum log_level *ret)
{
    int i = parse_name(name, level_names, ARRAY_SIZE(level_names));
    if (i < 0)
        return i;
    *ret = (enum log_level)i;
    return 0;
}

int log_format_parse(const char *name, enum log_format *ret)
{
    int i = parse_name(name, format_names, ARRAY_SIZE(format_names));
    if (i < 0)
        return i;
    *ret = (enum log_format)i;
    return 0;
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

struct line {
    char data[LOG_LINE_MAX];
    size_t len;
    size_t end; /* what len may not pass */
};

/* All of it or nothing. */
static bool put(struct line *line, const char *data, size_t len)
{
    if (len > line->end - line->len)
        return false;
    memcpy(line->data + line->len, data, len);
    line->len += len;
    return true;
}

static bool puts_(struct line *line, const char *s)
{
    return put(line, s, strlen(s));
}

/* The escape of what must not appear as it is: the `n` bytes at s are one character (or one byte of no character). */
static const char *escape(enum log_format format, const char *s, size_t n, char out[8])
{
    unsigned char c = (unsigned char)s[0];
    bool json = format == LOG_FORMAT_JSON;
    switch (c) {
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '"':
        return json ? "\\\"" : NULL;
    case '\\':
        return json ? "\\\\" : NULL;
    default:
        break;
    }
    if (n == 0) { /* no UTF-8 */
        if (json)
            return "\xEF\xBF\xBD";
        snprintf(out, 8, "\\x%02x", c);
    } else if (c < 0x20 || c == 0x7F) {
        snprintf(out, 8, json ? "\\u%04x" : "\\x%02x", c);
    } else if (n == 2 && c == 0xC2 && (unsigned char)s[1] < 0xA0) { /* U+0080 … U+009F, controls too */
        snprintf(out, 8, "\\u%04x", (unsigned char)s[1]);
    } else {
        return NULL;
    }
    return out;
}

/* Text with escapes, as much as fits, then "…" if some did not. */
static void put_escaped(struct line *line, enum log_format format, const char *s, size_t len)
{
    size_t size = 0;
    for (size_t i = 0; i < len; i += size) {
        char buffer[8];
        size_t n = utf8_sequence(s + i, len - i);
        const char *escaped = escape(format, s + i, n, buffer);
        size = MAX(n, (size_t)1);
        if (!(escaped ? puts_(line, escaped) : put(line, s + i, size))) {
            memcpy(line->data + line->len, "…", strlen("…")); /* TAIL_ROOM is for this */
            line->len += strlen("…");
            return;
        }
    }
}

static bool is_bare(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == '"' || *s == '=')
            return false;
    return true;
}

static void put_field(struct line *line, enum log_format format, const char *key, const char *value)
{
    bool json = format == LOG_FORMAT_JSON, quoted = json || !is_bare(value);
    size_t start = line->len;
    if (line->len + 2 * TAIL_ROOM > line->end ||
        !(json ? puts_(line, ",\"") && puts_(line, key) && puts_(line, "\":\"")
               : puts_(line, " ") && puts_(line, key) && puts_(line, quoted ? "=\"" : "="))) {
        line->len = start;
        return;
    }
    /* Quoted text must not end early, so its quotes are escaped as JSON does it. */
    put_escaped(line, quoted ? LOG_FORMAT_JSON : format, value, strlen(value));
    if (quoted)
        line->data[line->len++] = '"';
}

static void write_line(const struct line *line)
{
    const char *data = line->data;
    size_t len = line->len;
    while (len > 0) {
        ssize_t n = write(log_fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        data += n;
        len -= (size_t)n;
    }
}

void log_write(enum log_level level, const char *area, const struct log_field *fields, const char *format, ...)
{
    int saved_errno = errno;
    enum log_format as = (enum log_format)atomic_load_explicit(&log_format, memory_order_relaxed);
    bool json = as == LOG_FORMAT_JSON;
    char message[MESSAGE_END], time[TIME_TEXT_SIZE]; /* more than fits after the time: the cut shows in the line */
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    size_t len = wanted < 0 ? 0 : strlen(message);
    if (len > 0 && strstr(message, "://")) { /* before it is cut: half a URL does not show where its password ends */
        va_start(args, format);
        char *whole = xvasprintf(format, args);
        va_end(args);
        mask_urls(&whole);
        snprintf(message, sizeof(message), "%s", whole);
        len = strlen(message);
        free(whole);
    }

    struct line line;
    line.len = 0;
    line.end = MESSAGE_END;
    time_format(clock_realtime_ms(clock_system()), time);
    if (log_priorities)
        puts_(&line, level_priorities[level]);
    if (json) {
        puts_(&line, "{\"time\":\"");
        puts_(&line, time);
        puts_(&line, "\",\"level\":\"");
        puts_(&line, level_names[level]);
        puts_(&line, "\",\"area\":\"");
        puts_(&line, area);
        puts_(&line, "\",\"message\":\"");
    } else {
        puts_(&line, time);
        puts_(&line, " ");
        puts_(&line, level_words[level]);
        puts_(&line, " ");
        puts_(&line, area);
        puts_(&line, ": ");
    }
    put_escaped(&line, as, message, len);
    if (json)
        line.data[line.len++] = '"';
    line.end = LOG_LINE_MAX - TAIL_ROOM;
    for (; fields && fields->key; fields++)
        if (fields->value && strstr(fields->value, "://")) {
            char *value = xstrdup(fields->value);
            mask_urls(&value);
            put_field(&line, as, fields->key, value);
            free(value);
        } else if (fields->value) {
            put_field(&line, as, fields->key, fields->value);
        }
    if (json)
        line.data[line.len++] = '}';
    line.data[line.len++] = '\n';
    write_line(&line);
    errno = saved_errno;
}

bool log_limit_pass(struct log_limit *limit, int64_t now_ms, uint64_t *ret_suppressed)
{
    int64_t passed = limit->interval_ms > 0 ? (now_ms - limit->refilled_ms) / limit->interval_ms : INT64_MAX;
    if (limit->used == 0 || passed >= limit->used) {
        limit->used = 0;
        limit->refilled_ms = now_ms;
    } else if (passed > 0) {
        limit->used -= (unsigned)passed;
        limit->refilled_ms += passed * limit->interval_ms;
    }
    if (limit->used >= limit->burst) {
        limit->suppressed++;
        return false;
    }
    limit->used++;
    *ret_suppressed = limit->suppressed;
    limit->suppressed = 0;
    return true;
}
