/*
 * A Tegra241 CMDQV: VINTFs, and command queues that a VM owns
 *
 * Without one there is no point here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "conformance-cmdqv.h"

#define CMDQV       IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV
#define IPA         0x80000000ull
#define PAGES       32
#define QUEUE(n)    (IPA + (n) * PAGE)
#define ENTRIES     (PAGE / 16)
#define TWICE       0x90000000ull       /* one page, at two addresses */

enum { CONS, PROD, CONFIG, STATUS, GERROR, GERRORN };
enum { ERR_NONE, ERR_ILL };

static uint8_t *memory;                 /* PAGES of them */
static uint64_t offset, length;         /* what VIOMMU_ALLOC said */

/*
 * Calls
 */

static long alloc(World *w, void *data, uint32_t len, uint32_t *id)
{
    struct iommu_viommu_alloc arg = {
        .size = sizeof(arg), .type = CMDQV, .dev_id = w->dev_id,
        .hwpt_id = w->parent, .data_len = len, .data_uptr = (uintptr_t)data,
    };
    long ret = call(w->fd, IOMMU_VIOMMU_ALLOC, &arg);

    *id = arg.out_viommu_id;
    return ret;
}

long cmdqv_alloc(World *w)
{
    struct iommu_viommu_tegra241_cmdqv data = {};
    long ret = alloc(w, &data, sizeof(data), &w->viommu);

    offset = data.out_vintf_mmap_offset;
    length = data.out_vintf_mmap_length;
    return ret;
}

/* The last mapping */
static uint8_t *mapped;

static long map_page0(World *w, int prot, int flags, uint64_t at, uint64_t len)
{
    mapped = mmap(NULL, len, prot, flags, w->fd, at);
    return mapped == MAP_FAILED ? -errno : 0;
}

uint8_t *cmdqv_map(World *w)
{
    return map_page0(w, PROT_READ | PROT_WRITE, MAP_SHARED, offset,
                     VINTF_PAGE0) ? NULL : mapped;
}

static long ioas_map(World *w, uint64_t iova, void *at, uint64_t len,
                     uint32_t flags)
{
    struct iommu_ioas_map arg = {
        .size = sizeof(arg), .ioas_id = w->ioas, .user_va = (uintptr_t)at,
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | flags, .length = len,
        .iova = iova,
    };

    return call(w->fd, IOMMU_IOAS_MAP, &arg);
}

#define RW (IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)

static long ioas_unmap(World *w, uint64_t iova, uint64_t len)
{
    struct iommu_ioas_unmap arg = {
        .size = sizeof(arg), .ioas_id = w->ioas, .iova = iova, .length = len,
    };

    return call(w->fd, IOMMU_IOAS_UNMAP, &arg);
}

static long queue_alloc(World *w, uint32_t index, uint64_t iova, uint64_t len,
                        uint32_t *id)
{
    struct iommu_hw_queue_alloc arg = {
        .size = sizeof(arg), .viommu_id = w->viommu,
        .type = IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV, .index = index,
        .nesting_parent_iova = iova, .length = len,
    };
    long ret = call(w->fd, IOMMU_HW_QUEUE_ALLOC, &arg);

    *id = arg.out_hw_queue_id;
    return ret;
}

/*
 * Queues
 */

static uint32_t get(Vcmdq *q, unsigned reg)
{
    uint32_t value = q->regs[reg];

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return value;
}

static void set(Vcmdq *q, unsigned reg, uint32_t value)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    q->regs[reg] = value;
}

/* Waits for up to 2 s until a register has a value */
static long becomes(Vcmdq *q, unsigned reg, uint32_t value)
{
    for (unsigned i = 0; i < 20000 && get(q, reg) != value; i++) {
        usleep(100);
    }
    return get(q, reg);
}

long vcmdq_open(World *w, uint8_t *page0, unsigned n, void *at, uint64_t iova,
                Vcmdq *q)
{
    long ret;

    *q = (Vcmdq) {
        .regs = (volatile uint32_t *)(page0 + n * 0x80), .commands = at,
    };
    ret = queue_alloc(w, n, iova, PAGE, &q->id);
    if (!ret) {
        set(q, CONFIG, 1);
        ret = becomes(q, STATUS, 1) == 1 ? 0 : -ETIMEDOUT;
    }
    return ret;
}

static void put(Vcmdq *q, uint64_t word0, uint64_t word1)
{
    q->commands[q->prod % ENTRIES * 2] = word0;
    q->commands[q->prod % ENTRIES * 2 + 1] = word1;
    q->prod = (q->prod + 1) % (2 * ENTRIES);
}

static bool halted(Vcmdq *q)
{
    return (get(q, GERROR) ^ get(q, GERRORN)) & 1;
}

static unsigned go(Vcmdq *q)
{
    set(q, PROD, q->prod);
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t cons = get(q, CONS);

        if (halted(q)) {
            return get(q, CONS) >> 24;
        }
        if ((cons & 0xfffff) == q->prod) {
            return ERR_NONE;
        }
        usleep(100);
    }
    return 99;
}

unsigned vcmdq_run(Vcmdq *q, uint64_t word0, uint64_t word1)
{
    put(q, word0, word1);
    return go(q);
}

/* As Linux does: the command becomes a CMD_SYNC, and the error is known. */
static unsigned skip_error(Vcmdq *q)
{
    uint32_t cons = get(q, CONS) & 0xfffff;

    q->commands[cons % ENTRIES * 2] = VCMDQ_SYNC;
    q->commands[cons % ENTRIES * 2 + 1] = 0;
    set(q, GERRORN, get(q, GERROR));
    return go(q);
}

/*
 * VINTFs
 */

static void vintfs(void)
{
    static const struct {
        const char *name;
        uint32_t len;
        long want;
    } sizes[] = {
        { "15 bytes", 15, -EINVAL }, { "16", 16, 0 }, { "24", 24, -EINVAL },
        { "none", 0, -EINVAL },
    };
    World w = world_open();
    uint64_t data[3] = {};
    uint32_t ids[2];
    void *readonly = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
                          -1, 0);
    long ret;

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        ret = alloc(&w, data, sizes[i].len, &ids[0]);
        is(ret, sizes[i].want, "VIOMMU_ALLOC with a VINTF, and data of %s",
           sizes[i].name);
        if (!ret) {
            destroy(w.fd, ids[0]);
        }
    }
    is(alloc(&w, NULL, 16, &ids[0]), -EFAULT, "  with data at 0");
    is(alloc(&w, readonly, 16, &ids[0]), -EFAULT,
       "  with data that cannot be written");
    is(cmdqv_alloc(&w), 0, "VIOMMU_ALLOC with a VINTF");
    is_hex(offset, PAGE, "  its offset for mmap()");
    is_hex(length, VINTF_PAGE0, "  its length");
    is(vdevice_alloc(&w, 0x100000, &ids[0]), -EINVAL,
       "A vDEVICE with a StreamID of 21 bits");
    is(vdevice_alloc(&w, 0xfffff, &ids[0]), 0, "  of 20 bits");
    is(destroy(w.fd, w.viommu), -EBUSY, "DESTROY of its vIOMMU");
    is(destroy(w.fd, ids[0]), 0, "DESTROY of the vDEVICE");
    is(destroy(w.fd, w.viommu), 0, "DESTROY of the vIOMMU then");
    for (ret = 0; !ret; ) {
        ids[0] = w.viommu;
        ret = cmdqv_alloc(&w);
    }
    is(ret, -ENOSPC, "VIOMMU_ALLOC where no VINTF is left");
    is(destroy(w.fd, ids[0]), 0, "DESTROY of the last one");
    is(cmdqv_alloc(&w), 0, "VIOMMU_ALLOC then");
    is(viommu_alloc(&w, w.parent, &ids[1]), 0, "A vIOMMU without a VINTF");
    w.viommu = ids[1];
    is(queue_alloc(&w, 0, QUEUE(0), PAGE, &ids[0]), -EOPNOTSUPP,
       "HW_QUEUE_ALLOC of that");
    world_close(&w);
    munmap(readonly, PAGE);
}

static void mappings(void)
{
    const int rw = PROT_READ | PROT_WRITE;
    World w = world_open();
    uint8_t *first;

    need(cmdqv_alloc(&w), "a VINTF");
    is(map_page0(&w, rw, MAP_PRIVATE, offset, length), -EINVAL,
       "mmap() of a VINTF with MAP_PRIVATE");
    is(map_page0(&w, rw | PROT_EXEC, MAP_SHARED, offset, length), -EPERM,
       "  with PROT_EXEC");
    is(map_page0(&w, rw, MAP_SHARED, 0, length), -ENXIO, "  at offset 0");
    is(map_page0(&w, rw, MAP_SHARED, offset + PAGE, length), -ENXIO,
       "  from its second page");
    is(map_page0(&w, rw, MAP_SHARED, offset, length - PAGE), -ENXIO,
       "  without its last page");
    is(map_page0(&w, rw, MAP_SHARED, offset, length + PAGE), -ENXIO,
       "  with a page behind it");
    is(destroy(w.fd, w.viommu), 0, "No failure holds the vIOMMU");
    need(cmdqv_alloc(&w), "a VINTF");
    is(map_page0(&w, rw, MAP_SHARED, offset, length), 0, "mmap() of a VINTF");
    first = mapped;
    is(map_page0(&w, PROT_READ, MAP_SHARED, offset, length), 0, "  twice");
    is(ioas_map(&w, IPA, first, VINTF_PAGE0, RW), -EFAULT,
       "IOAS_MAP of registers");
    is(destroy(w.fd, w.viommu), -EBUSY, "DESTROY of what is mapped twice");
    munmap(first, VINTF_PAGE0);
    is(destroy(w.fd, w.viommu), -EBUSY, "DESTROY of what is mapped");
    munmap(mapped + PAGE, PAGE);
    is(destroy(w.fd, w.viommu), -EBUSY, "DESTROY of what has a hole");
    need(mmap(mapped, VINTF_PAGE0, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
              -1, 0) == MAP_FAILED ? -errno : 0, "other memory");
    is(destroy(w.fd, w.viommu), 0, "DESTROY after other memory was mapped");
    munmap(mapped, VINTF_PAGE0);
    world_close(&w);
}

/*
 * Queues
 */

static World queue_world(void)
{
    World w = world_open();

    need(cmdqv_alloc(&w), "a VINTF");
    need(cmdqv_map(&w) ? 0 : -ENOMEM, "page 0");
    need(vdevice_alloc(&w, VSID, &w.vdev), "a vDEVICE");
    need(ioas_map(&w, IPA, memory, PAGES * PAGE, RW), "memory");
    return w;
}

static void queue_world_close(World *w, uint8_t *page0)
{
    munmap(page0, VINTF_PAGE0);
    world_close(w);
}

static void queue_arguments(void)
{
    static const struct {
        const char *name;
        struct iommu_hw_queue_alloc arg;
        long want;
    } rows[] = {
        { "a flag", { .flags = 1 }, -EOPNOTSUPP },
        { "type 0", { .type = -1u }, -EOPNOTSUPP },
        { "type 2", { .type = 1 }, -EOPNOTSUPP },
        { "no length", { .length = -PAGE }, -EINVAL },
        { "no vIOMMU", { .viommu_id = 999 }, -ENOENT },
        { "an address without memory", { .nesting_parent_iova = -IPA },
          -ENOENT },
        { "memory that ends", { .nesting_parent_iova = (PAGES - 1) * PAGE,
          .length = PAGE }, -ENOENT },
        { "the largest index", { .index = UINT32_MAX }, -EINVAL },
        { "an index before its turn", { .index = 1 }, -EIO },
        { "a length of 1", { .length = 1 - PAGE }, -EINVAL },
        { "a length of 16", { .length = 16 - PAGE }, -EINVAL },
        { "a length of 48", { .length = 48 - PAGE }, -EINVAL },
        { "memory that is not contiguous", { .nesting_parent_iova =
          TWICE - IPA, .length = PAGE }, -EFAULT },
        { "the same, from within a page", { .nesting_parent_iova =
          TWICE - IPA + PAGE / 2 }, -EFAULT },
        { "half of a page", { .nesting_parent_iova = PAGE / 2,
          .length = -(PAGE / 2) }, 0 },
        { "an odd address", { .nesting_parent_iova = 8,
          .length = 32 - PAGE }, -EINVAL },
        { "an address that is no multiple", { .nesting_parent_iova = 32,
          .length = 64 - PAGE }, -EINVAL },
        { "an index before its turn, and a wrong length", { .index = 1,
          .length = 48 - PAGE }, -EIO },
    };
    World w = queue_world();
    uint8_t *page0 = mapped;
    long ret;

    need(ioas_map(&w, TWICE, memory, PAGE, RW), "a page");
    need(ioas_map(&w, TWICE + PAGE, memory, PAGE, RW), "the same page");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct iommu_hw_queue_alloc arg = rows[i].arg;

        arg.size = sizeof(arg);
        arg.viommu_id += arg.viommu_id ? 0 : w.viommu;
        arg.type += IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV;
        arg.nesting_parent_iova += QUEUE(0);
        arg.length += PAGE;
        ret = call(w.fd, IOMMU_HW_QUEUE_ALLOC, &arg);
        is(ret, rows[i].want, "HW_QUEUE_ALLOC with %s", rows[i].name);
        if (!ret) {
            destroy(w.fd, arg.out_hw_queue_id);
        }
    }
    is(ioas_unmap(&w, IPA, PAGES * PAGE), 0, "IOAS_UNMAP after failures");
    need(ioas_map(&w, IPA, memory, PAGE, IOMMU_IOAS_MAP_WRITEABLE), "memory");
    is(queue_alloc(&w, 0, IPA, PAGE, &w.vdev), -EPERM,
       "HW_QUEUE_ALLOC of memory that cannot be read");
    queue_world_close(&w, page0);
}

static void queue_lives(void)
{
    World w = queue_world();
    uint8_t *page0 = mapped;
    uint32_t ids[2], id;

    is(queue_alloc(&w, 0, QUEUE(0), PAGE, &ids[0]), 0, "HW_QUEUE_ALLOC");
    is(queue_alloc(&w, 0, QUEUE(1), PAGE, &id), -EEXIST, "  again");
    is(queue_alloc(&w, 1, QUEUE(1) + 32, 32, &ids[1]), 0,
       "  of queue 1, with two commands");
    is(ids[1] - ids[0], 2, "  how far apart their IDs are");
    is(destroy(w.fd, ids[0] + 1), -EBUSY, "DESTROY of what has that between");
    is(destroy(w.fd, ids[0]), -EBUSY, "DESTROY of queue 0 before queue 1");
    is(destroy(w.fd, w.viommu), -EBUSY, "DESTROY of the vIOMMU");
    is(ioas_unmap(&w, IPA, PAGES * PAGE), -EBUSY, "IOAS_UNMAP of its memory");
    is(ioas_unmap(&w, 0, UINT64_MAX), -EBUSY, "IOAS_UNMAP of everything");
    is(destroy(w.fd, ids[1]), 0, "DESTROY of queue 1");
    is(queue_alloc(&w, 1, QUEUE(1), PAGE, &ids[1]), 0, "Queue 1 once more");
    is(destroy(w.fd, ids[1]), 0, "  and its DESTROY");
    is(ioas_unmap(&w, IPA, PAGES * PAGE), -EBUSY, "IOAS_UNMAP with queue 0");
    is(destroy(w.fd, ids[0]), 0, "DESTROY of queue 0");
    is(ioas_unmap(&w, IPA, PAGES * PAGE), 0, "IOAS_UNMAP without a queue");
    is(destroy(w.fd, w.vdev), 0, "DESTROY of the vDEVICE");
    is(destroy(w.fd, w.viommu), -EBUSY, "DESTROY of the vIOMMU, mapped");
    munmap(page0, VINTF_PAGE0);
    is(destroy(w.fd, w.viommu), 0, "DESTROY of the vIOMMU");
    world_close(&w);
}

static void registers(void)
{
    World w = queue_world();
    uint8_t *page0 = mapped;
    Vcmdq q = { .regs = (volatile uint32_t *)page0 };

    set(&q, CONFIG, 1);
    usleep(20000);
    is(get(&q, STATUS), 0, "STATUS where there is no queue");
    is(vcmdq_open(&w, page0, 0, memory, QUEUE(0), &q), 0, "A queue is enabled");
    is(get(&q, CONS), 0, "CONS at first");
    set(&q, CONS, 7);
    is(becomes(&q, CONS, 0), 0, "CONS is read-only while the queue runs");
    set(&q, STATUS, 0);
    is(becomes(&q, STATUS, 1), 1, "STATUS is read-only");
    set(&q, GERROR, 1);
    is(becomes(&q, GERROR, 0), 0, "GERROR is read-only");
    is(vcmdq_run(&q, VCMDQ_SYNC, 0), 0, "A CMD_SYNC");
    set(&q, CONFIG, 0);
    is(becomes(&q, STATUS, 0), 0, "The queue is disabled");
    put(&q, 0, 0);
    set(&q, PROD, q.prod);
    usleep(20000);
    is(get(&q, CONS), 1, "CONS after PROD of a queue that is disabled");
    set(&q, CONS, 2);
    set(&q, CONFIG, 1);
    is(becomes(&q, STATUS, 1), 1, "The queue is enabled again");
    is(vcmdq_run(&q, VCMDQ_SYNC, 0), 0, "It goes on where CONS says");
    is(get(&q, CONS), 3, "CONS then");
    for (unsigned n = 0; n < 3 * ENTRIES; n++) {
        put(&q, VCMDQ_SYNC, 0);
        if (n % 100 == 99) {
            go(&q);
        }
    }
    is(go(&q), 0, "Three times around");
    is_hex(get(&q, CONS), q.prod, "CONS then");
    is(destroy(w.fd, q.id), 0, "DESTROY of a queue that runs");
    is(get(&q, CONFIG) | get(&q, STATUS) | get(&q, PROD) | get(&q, CONS), 0,
       "Its registers");
    is(vcmdq_open(&w, page0, 0, memory, QUEUE(0), &q), 0, "Another queue");
    is(vcmdq_run(&q, VCMDQ_SYNC, 0), 0, "  runs");
    queue_world_close(&w, page0);
}

/*
 * Errors
 */

/* The map of the next event; -1 if there is none within 2 s, or at once */
static long event(int fd, bool wait)
{
    struct {
        struct iommufd_vevent_header header;
        struct iommu_vevent_tegra241_cmdqv event;
    } record;

    for (unsigned i = 0; i < (wait ? 20000 : 1); i++) {
        if (read(fd, &record, sizeof(record)) == sizeof(record)) {
            return record.event.lvcmdq_err_map[1] ? -2 :
                   (long)record.event.lvcmdq_err_map[0];
        }
        usleep(100);
    }
    return -EAGAIN;
}

static bool allowed(unsigned op)
{
    return op == 0x11 || op == 0x12 || op == 0x40 || op == VCMDQ_SYNC;
}

static void errors(void)
{
    static const struct {
        const char *name;
        uint64_t word0, word1;
    } rows[] = {
        { "CMD_SYNC with an interrupt", VCMDQ_SYNC | 1 << 12 },
        { "CMD_SYNC with an event", VCMDQ_SYNC | 2 << 12 },
        { "ATC_INV of another StreamID", 0x40 | (VSID + 1ull) << 32, 52 },
        { "TLBI_NH_ALL", 0x10 },
        { "CFGI_STE", 0x03 | (uint64_t)VSID << 32, 1 },
    };
    World w = queue_world();
    struct iommu_veventq_alloc events = {
        .size = sizeof(events), .viommu_id = w.viommu, .veventq_depth = 300,
        .type = IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
    };
    uint8_t *page0 = mapped;
    Vcmdq q, other;
    unsigned wrong = 0;
    int fd;

    need(call(w.fd, IOMMU_VEVENTQ_ALLOC, &events), "a VEVENTQ");
    fd = events.out_veventq_fd;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    need(vcmdq_open(&w, page0, 0, memory, QUEUE(0), &q), "queue 0");
    need(vcmdq_open(&w, page0, 1, memory + PAGE, QUEUE(1), &other), "queue 1");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        uint32_t at = q.prod;

        is(vcmdq_run(&q, rows[i].word0, rows[i].word1), ERR_ILL, "%s",
           rows[i].name);
        is(get(&q, CONS) & 0xfffff, at, "  CONS");
        is_hex(event(fd, true), 1, "  the error map of the event");
        is(skip_error(&q), 0, "  the queue goes on");
    }
    for (unsigned op = 0; op < 256; op++) {
        if (!allowed(op)) {
            wrong += vcmdq_run(&q, op, 0) != ERR_ILL || event(fd, true) != 1 ||
                     skip_error(&q);
        }
    }
    is(wrong, 0, "How many other commands are legal");
    is(event(fd, false), -EAGAIN, "More events than errors");

    is(vcmdq_run(&other, 0, 0), ERR_ILL, "An error of queue 1");
    is_hex(event(fd, true), 2, "  the error map of the event");
    put(&other, VCMDQ_SYNC, 0);
    set(&other, PROD, other.prod);
    usleep(20000);
    is(get(&other, CONS) >> 24, ERR_ILL, "  halts it");
    is(vcmdq_run(&q, VCMDQ_SYNC, 0), 0, "  and not queue 0");
    is(vcmdq_run(&q, 0, 0), ERR_ILL, "An error of queue 0");
    is_hex(event(fd, true), 3, "  the error map of the event");
    is(event(fd, false), -EAGAIN, "  and of another one");
    is(skip_error(&other), 0, "Queue 1 goes on");
    is(destroy(w.fd, other.id), 0, "DESTROY of queue 1");
    is(destroy(w.fd, q.id), 0, "DESTROY of queue 0, which is halted");
    is(halted(&q), 0, "  ends its error");
    need(vcmdq_open(&w, page0, 0, memory, QUEUE(0), &q), "queue 0");
    is(vcmdq_run(&q, VCMDQ_SYNC, 0), 0, "  and the next one runs");
    is(destroy(w.fd, w.vdev), 0, "DESTROY of the vDEVICE");
    is(vcmdq_run(&q, 0x40 | (uint64_t)VSID << 32, 52), ERR_ILL,
       "ATC_INV of its StreamID");
    close(fd);
    queue_world_close(&w, page0);
}

void test_cmdqv(void)
{
    World w = world_open();

    world_close(&w);
    if (!w.cmdqv) {
        return;
    }
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    vintfs();
    mappings();
    queue_arguments();
    queue_lives();
    registers();
    errors();
}
