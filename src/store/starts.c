#include "store/starts.h"

#include "base/id.h"
#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

struct note {
    char run_id[ID_SIZE - 1]; /* without its NUL */
    _Atomic char used;
};
static_assert(sizeof(struct note) == ID_SIZE, "the file's format");

struct starts {
    int fd;
    struct note *notes;
    size_t n_free, n_left;
    uint16_t free[STARTS_MAX]; /* a stack */
    uint16_t left[STARTS_MAX]; /* of the earlier life */
};

static bool plausible(const struct note *n)
{
    char id[ID_SIZE] = "";
    memcpy(id, n->run_id, sizeof(n->run_id));
    return n->used == 1 && id_valid(id, "run_");
}

int starts_open(const char *path, struct starts **ret, struct error *err)
{
    const size_t size = STARTS_MAX * sizeof(struct note);
    struct starts *s = xcalloc(1, sizeof(*s));
    s->notes = MAP_FAILED;
    s->fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    /* Room for all of it: a store into a hole of a full disk would be a SIGBUS. */
    int r = s->fd < 0 ? -errno : -posix_fallocate(s->fd, 0, (off_t)size);
    if (r == 0) {
        s->notes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
        r = s->notes == MAP_FAILED ? -errno : 0;
    }
    if (r < 0) {
        starts_close(s);
        return error_set(err, r, "%s: %s", path, strerrordesc_np(-r));
    }
    for (size_t i = STARTS_MAX; i-- > 0;) {
        if (plausible(&s->notes[i]))
            s->left[s->n_left++] = (uint16_t)i;
        else
            s->free[s->n_free++] = (uint16_t)i;
    }
    *ret = s;
    return 0;
}

void starts_close(struct starts *s)
{
    if (!s)
        return;
    if (s->notes != MAP_FAILED)
        munmap(s->notes, STARTS_MAX * sizeof(struct note));
    closep(&s->fd);
    free(s);
}

int starts_note(struct starts *s, const char *run_id)
{
    if (s->n_free == 0)
        return -ENOSPC;
    uint16_t i = s->free[--s->n_free];
    struct note *n = &s->notes[i];
    memset(n->run_id, 0, sizeof(n->run_id));
    memcpy(n->run_id, run_id, strnlen(run_id, sizeof(n->run_id)));
    atomic_store_explicit(&n->used, 1, memory_order_release);
    return i;
}

void starts_clear(struct starts *s, int note)
{
    assert(note >= 0 && (unsigned)note < STARTS_MAX && s->notes[note].used);
    atomic_store_explicit(&s->notes[note].used, 0, memory_order_release);
    s->free[s->n_free++] = (uint16_t)note;
}

bool starts_left(const struct starts *s, const char *run_id)
{
    for (size_t i = 0; i < s->n_left; i++) {
        const char *id = s->notes[s->left[i]].run_id;
        if (strncmp(id, run_id, ID_SIZE - 1) == 0)
            return true;
    }
    return false;
}

void starts_clear_left(struct starts *s)
{
    while (s->n_left > 0)
        starts_clear(s, s->left[--s->n_left]);
}
