/* mark FILE [TEXT]: append "<CLOCK_MONOTONIC in ns> TEXT" as one line to FILE (or a fifo). The time is the first thing
 * that main does; linked statically, so that no loader runs before it. One write of less than PIPE_BUF: lines never
 * mix. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (argc < 2)
        return 2;
    char line[4096];
    int n = snprintf(line, sizeof(line), "%lld %s\n", t.tv_sec * 1000000000LL + t.tv_nsec, argc > 2 ? argv[2] : "");
    int fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 || n >= (int)sizeof(line) || write(fd, line, (size_t)n) != n;
}
