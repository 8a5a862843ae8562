/* The least worker: answers each request with "said". */
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, stdin) > 0) {
        printf("{\"id\":%ld,\"output\":\"said\"}\n", strtol(line + sizeof("{\"id\":") - 1, NULL, 10));
        fflush(stdout);
    }
    free(line);
    return 0;
}
