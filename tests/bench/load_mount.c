/* A file, over and over, from threads:
 *
 *   load_mount read|write|list PATH THREADS SECONDS [TEXT]
 *
 * read: open, read to the end, close; write: open, write TEXT, close; list: open, read all names, close. Prints
 * {"rate": PER_SECOND, "bytes": OF_THE_LAST, "names": OF_THE_LAST}. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *mode, *path, *text;
static double seconds;
static atomic_long total, bytes, names;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
    exit(1);
}

static void read_once(char *buf, size_t size)
{
    int fd = open(path, O_RDONLY);
    long all = 0;
    ssize_t n;
    if (fd < 0)
        die("open");
    while ((n = read(fd, buf, size)) > 0)
        all += n;
    if (n < 0 || close(fd) < 0)
        die("read");
    bytes = all;
}

static void write_once(void)
{
    int fd = open(path, O_WRONLY);
    size_t len = strlen(text);
    if (fd < 0 || write(fd, text, len) != (ssize_t)len || close(fd) < 0)
        die("write");
}

static void list_once(void)
{
    long n = 0;
    DIR *dir = opendir(path);
    if (!dir)
        die("opendir");
    while (readdir(dir))
        n++;
    closedir(dir);
    names = n;
}

static void *run(void *arg)
{
    (void)arg;
    size_t size = 65536;
    char *buf = malloc(size);
    double end = now() + seconds;
    long n = 0;
    while (now() < end) {
        if (*mode == 'r')
            read_once(buf, size);
        else if (*mode == 'w')
            write_once();
        else
            list_once();
        n++;
    }
    free(buf);
    total += n;
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];
    if (argc < 5)
        return 2;
    mode = argv[1];
    path = argv[2];
    int n = atoi(argv[3]);
    seconds = atof(argv[4]);
    text = argc > 5 ? argv[5] : "";
    double begin = now();
    for (int i = 0; i < n && i < 64; i++)
        if (pthread_create(&threads[i], NULL, run, NULL) != 0)
            die("thread");
    for (int i = 0; i < n && i < 64; i++)
        pthread_join(threads[i], NULL);
    printf("{\"rate\": %.1f, \"bytes\": %ld, \"names\": %ld}\n", (double)total / (now() - begin), (long)bytes,
           (long)names);
    return 0;
}
