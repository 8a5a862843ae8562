/* The daemon's manual pages: triggerd.8 and triggerd.yaml.5. */
#ifndef TRIGGERD_MAN_H
#define TRIGGERD_MAN_H

#include <stdbool.h>

/* Print a page on standard output; false: there is none of that name. `help`: the text of --help. */
bool man_print(const char *page, const char *help);

#endif
