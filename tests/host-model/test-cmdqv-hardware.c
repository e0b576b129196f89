/*
 * Tests of the host model's Tegra241 CMDQV: queues that run
 *
 * The registers are those of VINTF page 0, as Linux's driver uses them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "test-cmdqv.h"

enum { CONS, PROD, CONFIG, STATUS, GERROR, GERRORN };
enum { ERR_NONE, ERR_ILL, ERR_ABT, ERR_ATC_INV_SYNC };

/* Commands */
#define ASID        5ull
#define NH_VA       (0x12 | ASID << 48)
#define NH_ASID(n)  (0x11 | (uint64_t)(n) << 48)
#define ATC_INV     (0x40 | VSID << 32)
#define SYNC        0x46ull
#define ATC_ALL     52ull

/* A queue as its guest sees it */
typedef struct Queue {
    World *w;
    unsigned n;
    unsigned log2size;
    uint32_t prod;
    uint32_t id;
} Queue;

static volatile uint32_t *reg(Queue *q, unsigned r)
{
    return (volatile uint32_t *)(q->w->page0 + q->n * 0x80) + r;
}

/* Waits for up to 5 s until the bits of a register are so */
static bool becomes(Queue *q, unsigned r, uint32_t mask, uint32_t value)
{
    for (unsigned i = 0; i < 50000; i++) {
        if ((__atomic_load_n(reg(q, r), __ATOMIC_ACQUIRE) & mask) == value) {
            return true;
        }
        usleep(100);
    }
    return false;
}

/* Longer than any pause of the model's hardware */
static void pause_for_hardware(void)
{
    usleep(20000);
}

static void set_reg(Queue *q, unsigned r, uint32_t value)
{
    __atomic_store_n(reg(q, r), value, __ATOMIC_RELEASE);
}

static uint64_t *entry(Queue *q, uint32_t index)
{
    index &= (1u << q->log2size) - 1;
    return (uint64_t *)(ram + QUEUES + q->n * 0x10000) + 2 * index;
}

static Queue queue_open(World *w, unsigned n, unsigned log2size)
{
    Queue q = { .w = w, .n = n, .log2size = log2size };

    need(queue_alloc(w, n, QUEUE(n), 16ull << log2size, &q.id), "queue");
    set_reg(&q, CONFIG, 1);
    point(becomes(&q, STATUS, 1, 1), "queue %u is enabled", n);
    return q;
}

static uint32_t wrap(Queue *q, uint32_t index)
{
    return index & ((2u << q->log2size) - 1);
}

static void put(Queue *q, uint64_t word0, uint64_t word1)
{
    entry(q, q->prod)[0] = word0;
    entry(q, q->prod)[1] = word1;
    q->prod = wrap(q, q->prod + 1);
}

static bool halted(Queue *q)
{
    return (*reg(q, GERROR) ^ *reg(q, GERRORN)) & 1;
}

/* Announces what was put.  Returns the error, or 0; 99 if nothing happens. */
static unsigned go(Queue *q)
{
    set_reg(q, PROD, q->prod);
    for (unsigned i = 0; i < 50000; i++) {
        uint32_t cons = __atomic_load_n(reg(q, CONS), __ATOMIC_ACQUIRE);

        if (halted(q)) {
            return *reg(q, CONS) >> 24;
        }
        if (cons == q->prod) {
            return ERR_NONE;
        }
        usleep(20);
    }
    return 99;
}

static unsigned run(Queue *q, uint64_t word0, uint64_t word1)
{
    put(q, word0, word1);
    return go(q);
}

/* As Linux does: the command becomes a CMD_SYNC, and the error is known. */
static unsigned skip_error(Queue *q)
{
    uint32_t cons = *reg(q, CONS) & 0xfffff;

    entry(q, cons)[0] = SYNC;
    entry(q, cons)[1] = 0;
    set_reg(q, GERRORN, *reg(q, GERROR));
    return go(q);
}

/* The map of an event; -1 if there is none within 5 s (or @wait is false) */
static int64_t event(World *w, bool wait)
{
    struct {
        struct iommufd_vevent_header header;
        struct iommu_vevent_tegra241_cmdqv event;
    } record;

    for (unsigned i = 0; i < (wait ? 50000 : 1); i++) {
        if (read(w->events, &record, sizeof(record)) == sizeof(record)) {
            return record.event.lvcmdq_err_map[1] ?
                   -2 : (int64_t)record.event.lvcmdq_err_map[0];
        }
        usleep(100);
    }
    return -1;
}

/*
 * The guest's tables: pages of IOVA, with ASID
 */

#define PTE         (3ull | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11)

static uint64_t *at(uint64_t offset)
{
    return (uint64_t *)(ram + offset);
}

/* Page @n of IOVA is page @of of DATA, which begins with 0x1000 + @of. */
static void point_to(unsigned n, unsigned of)
{
    at(TABLES + 2 * PAGE)[n] = (IPA + DATA + of * PAGE) | PTE;
    *at(DATA + of * PAGE) = 0x1000 + of;
}

static void make_tables(void)
{
    uint64_t *cd = at(CD_TABLE);

    cd[0] = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 30 | 1ull << 31 |
            5ull << 32 | 1ull << 41 | 1ull << 45 | 1ull << 46 | ASID << 48;
    cd[1] = IPA + TABLES;
    at(TABLES)[IOVA >> 30] = (IPA + TABLES + PAGE) | 3;
    at(TABLES + PAGE)[(IOVA >> 21) % 512] = (IPA + TABLES + 2 * PAGE) | 3;
    for (unsigned n = 0; n < 4; n++) {
        point_to(n, n);
    }
}

/* The device gets stage 1 and ATS. */
static void nest(World *w)
{
    uint64_t ste[2] = { 1 | 5 << 1 | (IPA + CD_TABLE), 1ull << 28 };
    struct iommu_hwpt_alloc arg = {
        .size = sizeof(arg), .dev_id = w->dev_id, .pt_id = w->viommu,
        .data_type = IOMMU_HWPT_DATA_ARM_SMMUV3, .data_len = sizeof(ste),
        .data_uptr = (uintptr_t)ste,
    };
    struct vfio_device_attach_iommufd_pt to = { .argsz = sizeof(to) };

    need(call(w->fd, IOMMU_HWPT_ALLOC, &arg), "nested HWPT");
    to.pt_id = arg.out_hwpt_id;
    need(call(w->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &to), "attach");
}

/* What the device reads from page @n; -1 after a fault */
static int64_t reads(World *w, unsigned n, const char *options)
{
    const char *answer = control("dma %s read 0x%llx%s", w->name,
                                 IOVA + n * PAGE, options);

    return strstr(answer, "\"ok\"") ? value_of(answer, "value") : -1;
}

/*
 * Tests
 */

static void test_enable(void)
{
    World w = world_open("dev0");
    Queue q = { .w = &w, .log2size = 4 };

    set_reg(&q, CONFIG, 1);
    pause_for_hardware();
    is(*reg(&q, STATUS), 0, "STATUS of no queue");
    q = queue_open(&w, 0, 4);
    is(*reg(&q, CONS), 0, "CONS at first");
    /* What is read-only keeps its value. */
    set_reg(&q, CONS, 7);
    set_reg(&q, STATUS, 0);
    set_reg(&q, GERROR, 4);
    point(becomes(&q, CONS, -1, 0), "CONS is read-only while it runs");
    point(becomes(&q, STATUS, -1, 1), "STATUS is read-only");
    point(becomes(&q, GERROR, -1, 0), "GERROR is read-only");
    is(run(&q, SYNC, 0), 0, "a CMD_SYNC");
    set_reg(&q, CONFIG, 0);
    point(becomes(&q, STATUS, 1, 0), "the queue is disabled");
    put(&q, 0, 0);
    set_reg(&q, PROD, q.prod);
    pause_for_hardware();
    is(*reg(&q, CONS), 1, "a queue that is disabled does nothing");
    set_reg(&q, CONS, 2);
    set_reg(&q, CONFIG, 1);
    point(becomes(&q, STATUS, 1, 1), "the queue is enabled again");
    is(run(&q, SYNC, 0), 0, "it goes on where CONS says");
    is(*reg(&q, CONS), 3, "which is now");

    is(destroy(&w, q.id), 0, "DESTROY of a queue that runs");
    is(*reg(&q, CONFIG) | *reg(&q, STATUS) | *reg(&q, PROD) | *reg(&q, CONS),
       0, "its registers");
    pause_for_hardware();
    q = queue_open(&w, 0, 4);
    is(run(&q, SYNC, 0), 0, "another queue");
    world_close(&w);
}

static void test_invalidate(void)
{
    World w = world_open("dev0");
    Queue q = queue_open(&w, 0, 3);
    uint64_t stale = counter("smmu.stale");

    nest(&w);
    point_to(0, 0);
    is(reads(&w, 0, ""), 0x1000, "the device reads");
    point_to(0, 7);
    is(reads(&w, 0, ""), 0x1000, "  what is cached");
    is(counter("smmu.stale"), stale + 1, "  which is stale");
    is(run(&q, NH_VA | 0x7777ull << 32, IOVA), 0, "TLBI_NH_VA");
    is(reads(&w, 0, ""), 0x1000, "  is not done before a CMD_SYNC");
    is(run(&q, SYNC, 0), 0, "CMD_SYNC");
    is(reads(&w, 0, ""), 0x1007, "  is when the device sees it");
    point_to(0, 1);
    run(&q, NH_ASID(ASID + 1), 0);
    is(run(&q, SYNC, 0), 0, "TLBI_NH_ASID of another ASID");
    is(reads(&w, 0, ""), 0x1007, "  does nothing");
    run(&q, NH_ASID(ASID), 0);
    is(run(&q, SYNC, 0), 0, "TLBI_NH_ASID");
    is(reads(&w, 0, ""), 0x1001, "  is seen");
    point_to(0, 2);
    run(&q, NH_VA, IOVA);
    set_reg(&q, CONFIG, 0);
    becomes(&q, STATUS, 1, 0);
    is(reads(&w, 0, ""), 0x1002, "what was fetched is done when it is off");
    set_reg(&q, CONFIG, 1);
    becomes(&q, STATUS, 1, 1);

    point_to(0, 3);
    for (unsigned i = 0; i < 4200; i++) {
        put(&q, NH_VA, IOVA);
        if (i % 7 == 6) {
            go(&q);
        }
    }
    is(reads(&w, 0, ""), 0x1003, "no more than 4096 wait for a CMD_SYNC");

    is(reads(&w, 3, " atc"), 0x1003, "a read through the ATC");
    point(value_of(control("atc dev0"), "entries") > 0, "it has an entry");
    run(&q, ATC_INV, ATC_ALL);
    is(run(&q, SYNC, 0), 0, "ATC_INV");
    is(value_of(control("atc dev0"), "entries"), 0, "  empties it");
    stale = counter("watch.seen");
    control("watch dev0 0x%llx", IOVA);
    run(&q, NH_VA, IOVA);
    is(counter("watch.seen"), stale + 1, "commands are watched");
    world_close(&w);
}

/* The TLBs of one VM are not those of another. */
static void test_two_vms(void)
{
    World w[2] = { world_open("dev0"), world_open("dev6") };
    Queue q[2] = { queue_open(&w[0], 0, 4), queue_open(&w[1], 0, 4) };

    for (unsigned i = 0; i < 2; i++) {
        nest(&w[i]);
        is(reads(&w[i], 1, ""), 0x1001, "VM %u reads", i);
    }
    point_to(1, 5);
    run(&q[0], NH_VA, IOVA + PAGE);
    is(run(&q[0], SYNC, 0), 0, "TLBI_NH_VA of VM 0");
    is(reads(&w[0], 1, ""), 0x1005, "  is seen there");
    is(reads(&w[1], 1, ""), 0x1001, "  and not by VM 1");
    point_to(1, 1);
    world_close(&w[0]);
    world_close(&w[1]);
}

static void test_ring(void)
{
    World w = world_open("dev0");
    Queue small = queue_open(&w, 0, 1), large = queue_open(&w, 1, 10);
    uint64_t commands = counter("vcmdq.command"), done = 0;
    unsigned bad = 0;

    for (unsigned i = 0; i < 9; i++) {
        bad += run(&small, SYNC, 0) != 0;
        done++;
    }
    is(bad, 0, "a queue of two commands");
    is(*reg(&small, CONS), 1, "  has wrapped");
    for (unsigned i = 0; i < 20; i++) {
        for (unsigned n = 0; n < 1000; n++) {
            put(&large, n % 100 ? NH_VA : SYNC, n % 100 ? IOVA : 0);
        }
        bad += go(&large) != 0;
        done += 1000;
    }
    is(bad, 0, "20000 commands");
    is(counter("vcmdq.command"), commands + done, "  were counted");
    /* PROD says that there is more than fits. */
    large.prod = wrap(&large, large.prod + 1500);
    for (unsigned n = 0; n < 1024; n++) {
        entry(&large, n)[0] = SYNC;
        entry(&large, n)[1] = 0;
    }
    is(go(&large), 0, "an impossible PROD");
    world_close(&w);
}

static bool allowed(unsigned op)
{
    return op == 0x11 || op == 0x12 || op == 0x40 || op == SYNC;
}

static void test_errors(void)
{
    static const struct {
        const char *name;
        uint64_t word0, word1;
    } rows[] = {
        { "CMD_SYNC with an interrupt", SYNC | 1 << 12 },
        { "CMD_SYNC with an event", SYNC | 2 << 12 },
        { "ATC_INV of another StreamID", ATC_INV + (1ull << 32), ATC_ALL },
        { "ATC_INV of too much", ATC_INV, ATC_ALL + 1 },
        { "a reserved bit of TLBI_NH_VA", NH_VA | 1 << 8, IOVA },
        { "a reserved bit of TLBI_NH_ASID", NH_ASID(ASID), 1 },
    };
    World w = world_open("dev0");
    Queue q, other;
    unsigned wrong = 0;

    need(veventq_alloc(&w, IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV), "vEVENTQ");
    q = queue_open(&w, 0, 3);
    other = queue_open(&w, 1, 3);
    for (unsigned i = 0; i < N(rows); i++) {
        uint32_t at = q.prod;

        is(run(&q, rows[i].word0, rows[i].word1), ERR_ILL, "%s",
           rows[i].name);
        is(*reg(&q, CONS) & 0xfffff, at, "  is where CONS is");
        is(event(&w, true), 1, "  the error map");
        is(skip_error(&q), 0, "  the queue goes on");
    }
    for (unsigned op = 0; op < 256; op++) {
        if (!allowed(op)) {
            wrong += run(&q, op, 0) != ERR_ILL || event(&w, true) != 1 ||
                     skip_error(&q);
        }
    }
    is(wrong, 0, "all other commands are illegal");
    is(event(&w, false), -1, "there is one event for each error");

    is(run(&other, 0, 0), ERR_ILL, "an error of queue 1");
    is(event(&w, true), 2, "  the error map");
    put(&other, SYNC, 0);
    set_reg(&other, PROD, other.prod);
    pause_for_hardware();
    is(*reg(&other, CONS) >> 24, ERR_ILL, "  halts it");
    is(run(&q, SYNC, 0), 0, "  and not queue 0");
    is(run(&q, 0, 0), ERR_ILL, "an error of queue 0");
    is(event(&w, true), 3, "  adds to the error map");
    is(event(&w, false), -1, "  in one event");
    is(skip_error(&other), 0, "queue 1 goes on");
    is(destroy(&w, other.id), 0, "DESTROY of queue 1");
    is(destroy(&w, q.id), 0, "DESTROY of queue 0, which is halted");
    is(*reg(&q, GERROR) ^ *reg(&q, GERRORN), 0, "  ends its error");
    q = queue_open(&w, 0, 3);
    is(run(&q, SYNC, 0), 0, "  and the next one runs");
    is(destroy(&w, w.vdev), 0, "DESTROY of the vDEVICE");
    is(run(&q, ATC_INV, ATC_ALL), ERR_ILL, "ATC_INV of its StreamID");
    is(event(&w, true), 1, "  the error map");
    world_close(&w);
}

/* An ATC that does not answer, and memory that is gone */
static void test_late_errors(void)
{
    World w = world_open("dev0");
    Queue q = queue_open(&w, 0, 8);

    need(veventq_alloc(&w, IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV), "vEVENTQ");
    nest(&w);
    control("atc dev0 dead");
    is(run(&q, ATC_INV, ATC_ALL), 0, "ATC_INV without an answer");
    is(run(&q, SYNC, 0), ERR_ATC_INV_SYNC, "CMD_SYNC fails then");
    is(event(&w, true), 1, "  the error map");
    set_reg(&q, GERRORN, *reg(&q, GERROR));
    is(go(&q), 0, "  and succeeds when it is repeated");
    control("atc dev0 alive");

    need(munmap(ram + QUEUES, PAGE) ? -errno : 0, "munmap");
    q.prod = wrap(&q, q.prod + 1);
    is(go(&q), ERR_ABT, "memory that is not there");
    is(event(&w, true), 1, "  the error map");
    need(mmap(ram + QUEUES, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
              MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -errno : 0,
         "memory");
    is(skip_error(&q), 0, "  that is there again");
    world_close(&w);
}

/* Errors that the control socket asks for */
static void test_injected(void)
{
    static const struct {
        const char *name;
        unsigned want;
    } rows[] = {
        { "EIO", ERR_ILL }, { "EFAULT", ERR_ABT },
        { "ETIMEDOUT", ERR_ATC_INV_SYNC },
    };
    World w = world_open("dev0");
    Queue q = queue_open(&w, 0, 4);

    for (unsigned i = 0; i < N(rows); i++) {
        control("fail vcmdq.command:2=%s", rows[i].name);
        is(run(&q, SYNC, 0), 0, "a command before %s", rows[i].name);
        is(run(&q, SYNC, 0), rows[i].want, "%s in a queue", rows[i].name);
        is(skip_error(&q), 0, "the queue goes on");
        control("fail clear");
    }
    control("fail *:1+*=EIO");
    is(run(&q, SYNC, 0), 0, "a rule for all calls is for no command");
    control("fail clear");
    world_close(&w);
}

/* The other ways to invalidate, and events, are those of a plain vIOMMU. */
static void test_plain(void)
{
    World w = world_open("dev0");
    uint64_t cmd[2] = { NH_VA, IOVA };
    struct iommu_hwpt_invalidate arg = {
        .size = sizeof(arg), .hwpt_id = w.viommu, .entry_len = 16,
        .data_type = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
        .data_uptr = (uintptr_t)cmd, .entry_num = 1,
    };
    char record[64];

    need(veventq_alloc(&w, IOMMU_VEVENTQ_TYPE_ARM_SMMUV3), "vEVENTQ");
    nest(&w);
    is(reads(&w, 2, ""), 0x1002, "the device reads");
    point_to(2, 6);
    cmd[1] += 2 * PAGE;
    is(call(w.fd, IOMMU_HWPT_INVALIDATE, &arg), 0, "IOMMU_HWPT_INVALIDATE");
    is(reads(&w, 2, ""), 0x1006, "  is seen");
    is(reads(&w, 9, ""), -1, "a fault");
    is(read(w.events, record, sizeof(record)), 40, "  has its event");
    world_close(&w);
}

static void test_erratum(void)
{
    World w = world_open("dev7");
    Queue q = queue_open(&w, 0, 4);

    nest(&w);
    point_to(3, 3);
    is(reads(&w, 3, ""), 0x1003, "the device reads");
    point_to(3, 8);
    put(&q, NH_VA, IOVA + 3 * PAGE);
    is(run(&q, SYNC, 0), 0, "TLBI_NH_VA with the erratum");
    is(reads(&w, 3, ""), 0x1003, "  has no effect");
    put(&q, NH_VA, IOVA + 3 * PAGE);
    is(run(&q, SYNC, 0), 0, "  until it is repeated");
    is(reads(&w, 3, ""), 0x1008, "  after a CMD_SYNC");
    world_close(&w);
}

static void test_threads(void)
{
    unsigned i;

    for (i = 0; i < 50000 && counter("vintf.started") !=
                             counter("vintf.ended"); i++) {
        usleep(100);
    }
    point(i < 50000 && counter("vintf.started"), "all threads have ended");
}

void test_hardware(void)
{
    make_tables();
    test_enable();
    test_invalidate();
    test_two_vms();
    test_ring();
    test_errors();
    test_late_errors();
    test_injected();
    test_plain();
    test_erratum();
    test_threads();
}
