#include "model/value_alloc.h"

#include "base/util.h"

#include <cjson/cJSON.h>
#include <malloc.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WATCHED 1
#endif
#endif

#ifdef WATCHED

void value_alloc_init(void)
{
}

void *value_alloc(size_t size)
{
    return xmalloc(size);
}

void value_alloc_trim(void)
{
    malloc_trim(0);
}

#else

#define STEP 16
#define CLASSES 9      /* blocks of up to 136 usable bytes: nodes, keys, short strings */
#define KEPT_MAX 4096u /* blocks a class and thread: at most 5 MiB */

struct block {
    struct block *next;
};

struct kept {
    struct block *list;
    unsigned n;
};

/* A thread that ends leaves what it kept behind; the pools that use trees have few threads, which last. */
static __thread struct kept kept[CLASSES];

static size_t class_of_usable(size_t usable)
{
    return (usable - 8) / STEP; /* malloc's usable sizes are 24, 40, 56, … */
}

void *value_alloc(size_t size)
{
    size_t class = size <= 24 ? 1 : (size - 8 + STEP - 1) / STEP;
    if (class < CLASSES && kept[class].list) {
        struct block *b = kept[class].list;
        kept[class].list = b->next;
        kept[class].n--;
        return b;
    }
    return xmalloc(size);
}

static void take(void *p)
{
    if (!p)
        return;
    size_t usable = malloc_usable_size(p);
    size_t class = usable >= 24 ? class_of_usable(usable) : 0;
    if (class == 0 || class >= CLASSES || kept[class].n >= KEPT_MAX) {
        free(p);
        return;
    }
    struct block *b = p;
    b->next = kept[class].list;
    kept[class].list = b;
    kept[class].n++;
}

void value_alloc_trim(void)
{
    for (size_t i = 0; i < CLASSES; i++) {
        for (struct block *b = kept[i].list, *next; b; b = next) {
            next = b->next;
            free(b);
        }
        kept[i] = (struct kept){0};
    }
    malloc_trim(0);
}

void value_alloc_init(void)
{
    cJSON_Hooks hooks = {value_alloc, take};
    cJSON_InitHooks(&hooks);
}

#endif
