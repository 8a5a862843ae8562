/* The floor of validation: every *.yaml below a directory, read and parsed to events by libyaml, and nothing else done
 * with them.
 *
 *   yaml_events DIR      prints how many files, bytes and events there were
 */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

static char text[4 << 20];
static unsigned long files, bytes, events;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "yaml_events: %s: %s\n", what, why);
    exit(1);
}

static void parse(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = -1;
    while (fd >= 0 && len < sizeof(text) && (n = read(fd, text + len, sizeof(text) - len)) > 0)
        len += (size_t)n;
    if (n < 0)
        die(path, strerror(errno));
    close(fd);
    yaml_parser_t parser;
    yaml_event_t event;
    if (!yaml_parser_initialize(&parser))
        abort();
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    for (int done = 0; !done; events++) {
        if (!yaml_parser_parse(&parser, &event))
            die(path, parser.problem);
        done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    files++;
    bytes += len;
}

int main(int argc, char **argv)
{
    char *const roots[] = {argc == 2 ? argv[1] : NULL, NULL};
    FTS *tree = roots[0] ? fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL) : NULL;
    if (!tree)
        die("usage", "yaml_events DIR");
    for (FTSENT *e; (e = fts_read(tree));)
        if (e->fts_info == FTS_F && e->fts_namelen > 5 && strcmp(e->fts_name + e->fts_namelen - 5, ".yaml") == 0)
            parse(e->fts_accpath);
    fts_close(tree);
    printf("%lu files, %lu bytes, %lu events\n", files, bytes, events);
    return 0;
}
