#include "ctl/input.h"

#include "ctl/print.h"

#include <errno.h>

static int read_stream(FILE *in, const char *name, struct buf *ret)
{
    for (;;) {
        char *room = buf_reserve(ret, 65536);
        size_t n = fread(room, 1, 65536, in);
        ret->len += n;
        ret->data[ret->len] = '\0';
        if (ret->len > INPUT_MAX) {
            complain("%s: more than %zu MiB", name, INPUT_MAX >> 20);
            return -E2BIG;
        }
        if (n > 0)
            continue;
        if (ferror(in)) {
            complain("%s: %s", name, strerror(errno));
            return -EIO;
        }
        return 0;
    }
}

static int parse(const char *name, const struct buf *text, cJSON **ret)
{
    struct error err = ERROR_INIT;
    int r = value_parse(text->data ? text->data : "", text->len, ret, &err);
    if (r < 0)
        complain("%s:%u:%u: %s", name, err.line, err.column, err.message);
    return r;
}

int input_json(cJSON **ret)
{
    struct buf text = {0};
    int r = read_stream(stdin, "standard input", &text);
    r = r < 0 ? r : parse("standard input", &text, ret);
    buf_fini(&text);
    return r;
}

/* The bytes that an argument stands for; *ret_name is what they are called in messages. */
static int read_arg(const char *option, const char *arg, struct buf *ret, const char **ret_name)
{
    *ret_name = option;
    if (streq(arg, "-"))
        return read_stream(stdin, *ret_name = "standard input", ret);
    if (arg[0] != '@') {
        buf_adds(ret, arg);
        return 0;
    }
    *ret_name = arg + 1;
    FILE *in = fopen(arg + 1, "re");
    if (!in) {
        complain("%s: %s", arg + 1, strerror(errno));
        return -ENOENT;
    }
    int r = read_stream(in, arg + 1, ret);
    fclose(in);
    return r;
}

static int data(const char *option, const char *arg, struct buf *ret_text, cJSON **ret)
{
    const char *name;
    int r = read_arg(option, arg, ret_text, &name);
    return r < 0 ? r : parse(name, ret_text, ret);
}

int input_data(const char *name, const char *arg, char **ret_text)
{
    struct buf text = {0};
    cJSON *v = NULL;
    int r = data(name, arg, &text, &v);
    if (r == 0)
        *ret_text = buf_steal(&text);
    cJSON_Delete(v);
    buf_fini(&text);
    return r;
}

int input_data_json(const char *name, const char *arg, cJSON **ret)
{
    struct buf text = {0};
    int r = data(name, arg, &text, ret);
    buf_fini(&text);
    return r;
}

int input_line(FILE *in, struct buf *line)
{
    bool too_long = false, any = false;
    line->len = 0;
    flockfile(in);
    int c;
    while ((c = getc_unlocked(in)) != EOF && c != '\n') {
        any = true;
        if (line->len < INPUT_MAX)
            buf_addc(line, (char)c);
        else
            too_long = true;
    }
    bool failed = ferror(in);
    funlockfile(in);
    if (failed)
        return -EIO;
    if (too_long)
        return -E2BIG;
    if (line->len == 0)
        buf_reserve(line, 1)[0] = '\0';
    return any || c == '\n';
}
