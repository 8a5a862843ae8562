#include "spawn/ledger.h"

#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROW_SLOTS 1024u /* 64 KiB */

static const char magic[8] = "trgldg1";

struct header {
    char magic[8];
    uint32_t slot_size;
    uint32_t reserved;
    uint64_t pid_namespace; /* inode of /proc/self/ns/pid */
    char boot_id[40];
};

struct file_layout {
    struct header header;
    struct ledger_slot slots[LEDGER_SLOTS_MAX];
};

static_assert(sizeof(struct header) == 64 && sizeof(struct ledger_slot) == 64, "one cache line each");

struct ledger {
    int fd;
    struct file_layout *map; /* the whole range; only the first `capacity` slots have file behind them */
    uint64_t ticks_per_second;
    pthread_mutex_t lock; /* guards what follows */
    unsigned capacity;
    unsigned n_free;
    uint32_t *free_slots; /* stack of the free ones below capacity */
};

static void fill_header(struct header *h)
{
    *h = (struct header){.slot_size = sizeof(struct ledger_slot)};
    memcpy(h->magic, magic, sizeof(magic));
    struct stat st;
    if (stat("/proc/self/ns/pid", &st) == 0)
        h->pid_namespace = st.st_ino;
    _cleanup_(closep) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, h->boot_id, sizeof(h->boot_id) - 1) < 0)
        h->boot_id[0] = '\0';
}

/* Back GROW_SLOTS more slots with file and disk space: a store beyond the end of the file, or into a hole of a full
 * disk, would be a SIGBUS. The caller holds the lock. */
static int grow(struct ledger *l)
{
    if (l->capacity == LEDGER_SLOTS_MAX)
        return -ENOSPC;
    unsigned capacity = l->capacity + GROW_SLOTS;
    off_t from = (off_t)offsetof(struct file_layout, slots[l->capacity]);
    int error;
    do
        error = posix_fallocate(l->fd, from, (off_t)(GROW_SLOTS * sizeof(struct ledger_slot)));
    while (error == EINTR);
    if (error)
        return -error;
    l->free_slots = xreallocarray(l->free_slots, capacity, sizeof(*l->free_slots));
    for (unsigned i = capacity; i > l->capacity; i--)
        l->free_slots[l->n_free++] = i - 1;
    l->capacity = capacity;
    return 0;
}

/* Make the file `temporary` with GROW_SLOTS slots, map it, and rename it to `path`. */
static int build(struct ledger *l, const char *temporary, const char *path, struct error *err)
{
    if (unlink(temporary) < 0 && errno != ENOENT)
        return error_set(err, -errno, "%s: %s", temporary, strerrordesc_np(errno));
    l->fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (l->fd < 0)
        return error_set(err, -errno, "%s: %s", temporary, strerrordesc_np(errno));
    int r = -posix_fallocate(l->fd, 0, sizeof(struct header));
    if (r == 0)
        r = grow(l);
    if (r < 0)
        return error_set(err, r, "%s: %s", temporary, strerrordesc_np(-r));
    l->map = mmap(NULL, sizeof(struct file_layout), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, l->fd, 0);
    if (l->map == MAP_FAILED)
        return error_set(err, -errno, "%s: mmap: %s", temporary, strerrordesc_np(errno));
    fill_header(&l->map->header);
    if (rename(temporary, path) < 0)
        return error_set(err, -errno, "%s: %s", path, strerrordesc_np(errno));
    return 0;
}

int ledger_create(const char *path, struct ledger **ret, struct error *err)
{
    _cleanup_(freep) char *temporary = xasprintf("%s.new", path);
    struct ledger *l = xcalloc(1, sizeof(*l));
    l->fd = -1;
    l->map = MAP_FAILED;
    l->ticks_per_second = (uint64_t)sysconf(_SC_CLK_TCK);
    pthread_mutex_init(&l->lock, NULL);
    int r = build(l, temporary, path, err);
    if (r < 0) {
        if (l->fd >= 0)
            unlink(temporary);
        ledger_destroy(l);
        return r;
    }
    *ret = l;
    return 0;
}

void ledger_destroy(struct ledger *l)
{
    if (!l)
        return;
    if (l->map != MAP_FAILED)
        munmap(l->map, sizeof(struct file_layout));
    closep(&l->fd);
    pthread_mutex_destroy(&l->lock);
    free(l->free_slots);
    free(l);
}

int ledger_take(struct ledger *l, const char *tag, unsigned *ret_slot)
{
    pthread_mutex_lock(&l->lock);
    int r = l->n_free > 0 ? 0 : grow(l);
    unsigned index = r < 0 ? 0 : l->free_slots[--l->n_free];
    pthread_mutex_unlock(&l->lock);
    if (r < 0)
        return r;

    struct ledger_slot *slot = &l->map->slots[index];
    size_t len = strnlen(tag, sizeof(slot->tag) - 1);
    memset(slot->tag, 0, sizeof(slot->tag));
    memcpy(slot->tag, tag, len);
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    atomic_store_explicit(&slot->pid, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->start_min, ledger_ticks(&now, l->ticks_per_second), memory_order_relaxed);
    atomic_store_explicit(&slot->start_max, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->state, LEDGER_STARTING, memory_order_release);
    *ret_slot = index;
    return 0;
}

struct ledger_slot *ledger_slot(struct ledger *l, unsigned slot)
{
    assert(slot < LEDGER_SLOTS_MAX);
    return &l->map->slots[slot];
}

void ledger_release(struct ledger *l, unsigned slot)
{
    assert(slot < LEDGER_SLOTS_MAX);
    uint32_t was = atomic_exchange_explicit(&l->map->slots[slot].state, LEDGER_FREE, memory_order_release);
    assert(was != LEDGER_FREE);
    (void)was;
    pthread_mutex_lock(&l->lock);
    l->free_slots[l->n_free++] = slot;
    pthread_mutex_unlock(&l->lock);
}

unsigned ledger_used(struct ledger *l)
{
    pthread_mutex_lock(&l->lock);
    unsigned used = l->capacity - l->n_free;
    pthread_mutex_unlock(&l->lock);
    return used;
}

/* Everything in the file up to the largest a ledger can have. */
static int read_file(int fd, struct buf *b)
{
    while (b->len < sizeof(struct file_layout)) {
        size_t want = MIN((size_t)1 << 16, sizeof(struct file_layout) - b->len);
        ssize_t n = read(fd, buf_reserve(b, want), want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        b->len += (size_t)n;
    }
    return 0;
}

int ledger_read(const char *path, struct ledger_entry **ret, size_t *ret_n, struct error *err)
{
    struct ledger_entry *entries = NULL;
    size_t n = 0, cap = 0;
    _cleanup_(buf_fini) struct buf b = {0};
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno != ENOENT)
        return error_set(err, -errno, "%s: %s", path, strerrordesc_np(errno));
    int r = fd < 0 ? 0 : read_file(fd, &b);
    if (r < 0)
        return error_set(err, r, "%s: %s", path, strerrordesc_np(-r));

    struct header now, then;
    fill_header(&now);
    if (b.len < sizeof(then))
        goto done;
    memcpy(&then, b.data, sizeof(then));
    if (memcmp(&then, &now, sizeof(now)) != 0)
        goto done;
    for (size_t at = sizeof(then); at + sizeof(struct ledger_slot) <= b.len; at += sizeof(struct ledger_slot)) {
        struct ledger_slot slot;
        memcpy(&slot, b.data + at, sizeof(slot));
        if ((slot.state != LEDGER_STARTING && slot.state != LEDGER_RUNNING) || slot.pid < 0)
            continue;
        if (n == cap)
            entries = xreallocarray(entries, cap = cap ? 2 * cap : 64, sizeof(*entries));
        entries[n] = (struct ledger_entry){
            .pid = slot.state == LEDGER_RUNNING ? slot.pid : 0,
            .start_min = slot.start_min,
            .start_max = slot.start_max,
        };
        memcpy(entries[n].tag, slot.tag, sizeof(slot.tag));
        entries[n++].tag[LEDGER_TAG_SIZE - 1] = '\0';
    }
done:
    *ret = entries;
    *ret_n = n;
    return 0;
}
