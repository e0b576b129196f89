/*
 * QTest of accel=on: command queues that the guest owns (Tegra241 CMDQV)
 *
 * The test does to the registers what a guest's driver does, and what a hostile
 * guest does. Commands in these queues must reach the model of the host, which
 * forgets nothing by itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define INVALIDATE      "IOMMU_HWPT_INVALIDATE"
#define ON              ",cmdqv=on"
#define ON_EXITS        ",cmdqv=on,x-direct-registers=off"

/* Where the board puts the registers: aligned to their size */
#define CMDQV           (VIRT_PLATFORM_BUS_BASE + 0x80000)
#define CMDQV_SIZE      0x50000

/* Pages of 64 KiB */
#define CONFIG_PAGE     0x00000
#define GLOBAL          0x10000 /* page 1 follows */
#define LOGICAL         0x30000

#define N_QUEUES        2

#define CONFIG          0x0000
#define PARAM           0x0004
#define STATUS          0x0008
#define VINTF_ERR_MAP   0x0014
#define VINTF_INT_MASK  0x001c
#define CMDQ_ERR_MAP    0x0024
#define ALLOC(q)        (0x0200 + 4 * (q))
#define VINTF_CONFIG    0x1000
#define VINTF_STATUS    0x1004
#define LVCMDQ_ERR_MAP  0x10c0

#define ALLOC_LVCMDQ(l) ((l) << 1)
#define ALLOC_ALLOCATED 1u
#define HYP_OWN         (1u << 17)
#define ENABLE          1u

/* Of a queue, in page 0 and page 1 */
#define CONS            0x00
#define PROD            0x04
#define QCONFIG         0x08
#define QSTATUS         0x0c
#define GERROR          0x10
#define GERRORN         0x14
#define BASE            0x10000

#define LOG2            4       /* of the entries of the test's queues */
#define WRAP            ((2u << LOG2) - 1)

#define GSIV_CMDQV      148
#define GICD_ISPENDR    (0x08000000 + 0x200)
#define GICD_ICPENDR    (0x08000000 + 0x280)
#define GICD_ICFGR      (0x08000000 + 0xc00)

#define TAG(n)          (0xc0de00ull + (n))
#define WATCHDOG_S      120

typedef struct Bed {
    HostGuest *g;
    uint64_t queue[N_QUEUES];
    uint32_t prod[N_QUEUES];
    uint64_t *pte;              /* of HOST_VA */
    uint64_t page[2];           /* with TAG(0) and TAG(1) */
} Bed;

static uint32_t get(HostGuest *g, uint32_t offset)
{
    return qtest_readl(g->qts, CMDQV + offset);
}

static void set(HostGuest *g, uint32_t offset, uint32_t value)
{
    qtest_writel(g->qts, CMDQV + offset, value);
}

static uint32_t reg(unsigned lvcmdq, uint32_t offset)
{
    return LOGICAL + 0x80 * lvcmdq + offset;
}

static void set_base(Bed *bed, unsigned q, uint64_t base)
{
    qtest_writeq(bed->g->qts, CMDQV + reg(q, BASE), base);
}

static void control(Bed *bed, const char *command)
{
    qobject_unref(host_control(bed->g, "%s", command));
}

/*
 * What a driver does
 */

/* Enable, and check that the status says so */
static void enable(HostGuest *g, uint32_t config, uint32_t status,
                   uint32_t value)
{
    set(g, config, value);
    g_assert_cmphex(get(g, status), ==, value & ENABLE);
}

static void queue_on(Bed *bed, unsigned q)
{
    set(bed->g, reg(q, PROD), 0);
    set(bed->g, reg(q, CONS), 0);
    bed->prod[q] = 0;
    set_base(bed, q, bed->queue[q] | LOG2);
    enable(bed->g, reg(q, QCONFIG), reg(q, QSTATUS), ENABLE);
}

static void queue_off(Bed *bed, unsigned q)
{
    enable(bed->g, reg(q, QCONFIG), reg(q, QSTATUS), 0);
}

static void cmdqv_on(Bed *bed)
{
    HostGuest *g = bed->g;

    enable(g, CONFIG, STATUS, 0);
    enable(g, CONFIG, STATUS, ENABLE);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        set(g, ALLOC(q), ALLOC_LVCMDQ(q));
    }
    enable(g, VINTF_CONFIG, VINTF_STATUS, HYP_OWN | ENABLE);
    /* A guest does not own the hypervisor's VINTF */
    g_assert_cmphex(get(g, VINTF_CONFIG), ==, ENABLE);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        set(g, ALLOC(q), get(g, ALLOC(q)) | ALLOC_ALLOCATED);
        queue_on(bed, q);
    }
}

static void put(Bed *bed, unsigned q, HostCmd cmd)
{
    uint64_t *slot = host_ram(bed->g, bed->queue[q] +
                              16 * (bed->prod[q] & (WRAP >> 1)));

    slot[0] = cpu_to_le64(cmd.word[0]);
    slot[1] = cpu_to_le64(cmd.word[1]);
    bed->prod[q] = (bed->prod[q] + 1) & WRAP;
}

static bool halted(Bed *bed, unsigned q)
{
    return get(bed->g, reg(q, GERROR)) != get(bed->g, reg(q, GERRORN));
}

/* Write PROD, and wait until the queue is empty or halts; returns CONS.ERR */
static unsigned run(Bed *bed, unsigned q)
{
    set(bed->g, reg(q, PROD), bed->prod[q]);
    for (int n = 0; n < 100000; n++) {
        uint32_t cons = get(bed->g, reg(q, CONS));

        if (halted(bed, q)) {
            return extract32(get(bed->g, reg(q, CONS)), 24, 7);
        }
        if ((cons & WRAP) == bed->prod[q]) {
            return SMMU_CERROR_NONE;
        }
        g_usleep(10);
    }
    g_error("the commands of VCMDQ %u are not consumed", q);
}

static void run_ok(Bed *bed, unsigned q, HostCmd cmd)
{
    put(bed, q, cmd);
    put(bed, q, CMD_SYNC);
    g_assert_cmpuint(run(bed, q), ==, SMMU_CERROR_NONE);
}

/* As Linux does it: a CMD_SYNC in place of the command, and acknowledge */
static void skip_error(Bed *bed, unsigned q)
{
    uint32_t cons = get(bed->g, reg(q, CONS)) & (WRAP >> 1);
    uint64_t *slot = host_ram(bed->g, bed->queue[q] + 16 * cons);

    slot[0] = cpu_to_le64(CMD_SYNC.word[0]);
    slot[1] = 0;
    set(bed->g, reg(q, GERRORN), get(bed->g, reg(q, GERROR)));
}

/*
 * The bed: a device that translates HOST_VA to page[0]
 */

static void bed_translate(Bed *bed)
{
    HostGuest *g = bed->g;
    uint64_t cd = host_alloc(g, 64), root = host_alloc(g, 4096);

    bed->pte = host_pte(g, root, 12, 25, HOST_VA, 3, true);
    for (unsigned n = 0; n < 2; n++) {
        bed->page[n] = host_new_page(g, TAG(n));
    }
    *bed->pte = cpu_to_le64(host_leaf(3, bed->page[0], PTE_DATA));
    host_write_cd(g, cd, &(HostCd) {
        .asid = 1, .ttb = { root }, .txsz = { 25 }, .granule_shift = 12,
    });
    host_set_ste(g, 0, STE_S1(cd));
    host_check_reads(g, 0, HOST_VA, TAG(0));
}

static Bed *bed_new_with(HostGuestConfig config)
{
    Bed *bed = g_new0(Bed, 1);

    config.n_vsmmus = config.n_psmmus = 1;
    bed->g = host_guest_new(&config);
    alarm(WATCHDOG_S);
    host_enable(bed->g, 0);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        bed->queue[q] = host_alloc(bed->g, 16 << LOG2);
    }
    if (config.n_devs) {
        bed_translate(bed);
    }
    return bed;
}

static Bed *bed_new(void)
{
    return bed_new_with((HostGuestConfig) { .n_devs = 1, .smmu_args = ON });
}

static void bed_free(Bed *bed)
{
    host_finish(bed->g);
    g_free(bed);
    alarm(0);
}

/* The guest lets HOST_VA lead to another page, and @cmd says so */
static void remap(Bed *bed, unsigned q, HostCmd cmd, unsigned n)
{
    qatomic_set(bed->pte, cpu_to_le64(host_leaf(3, bed->page[n], PTE_DATA)));
    run_ok(bed, q, cmd);
    host_check_reads(bed->g, 0, HOST_VA, TAG(n));
}

/*
 * Registers
 */

typedef struct Row {
    uint32_t offset;
    unsigned count;
    uint32_t value;             /* after a reset */
    uint32_t writable;
    bool locked;                /* while the queue is enabled */
} Row;

/* What there is, in words; everything else reads as 0 and ignores writes */
static const Row config_rows[] = {
    { CONFIG, 1, 0, ENABLE },
    { PARAM, 1, 0x11 },
    { VINTF_INT_MASK, 1, 0, 1 },
    { ALLOC(0), N_QUEUES, 0, 0x1f80ff },
    { VINTF_CONFIG, 1, 0, 0x1ffff },
    { 0x1040, 1, 0, 0x1fffff },
    { 0x1080, 1, 0, 0xffffffff },
};

static const Row queue_rows[] = {
    { CONS, 1, 0, 0x7f0fffff, true },
    { PROD, 1, 0, 0xfffff },
    { QCONFIG, 1, 0, ENABLE },
    { GERRORN, 1, 0, 1 },
    { BASE, 1, 0, 0xffffffff, true },
    { BASE + 4, 1, 0, 0xffff, true },
    { BASE + 8, 2, 0, 0xffffffff, true },
};

static const Row *find_row(const Row *rows, size_t n, uint32_t offset)
{
    for (; n; n--, rows++) {
        if (offset >= rows->offset && offset < rows->offset + 4 * rows->count) {
            return rows;
        }
    }
    return NULL;
}

static const Row *row_of(uint32_t offset, bool mapped)
{
    uint32_t in_page = offset % 0x10000;
    bool page1 = offset >= GLOBAL && (offset / 0x10000) % 2 == 0;

    if (offset < GLOBAL) {
        return find_row(config_rows, ARRAY_SIZE(config_rows), offset);
    }
    if (in_page >= 0x80 * N_QUEUES || (offset >= LOGICAL && !mapped)) {
        return NULL;
    }
    return find_row(queue_rows, ARRAY_SIZE(queue_rows),
                    in_page % 0x80 + (page1 ? BASE : 0));
}

static void check_register(HostGuest *g, uint32_t offset, bool mapped)
{
    static const Row none;
    const Row *row = row_of(offset, mapped) ?: &none;
    uint32_t value = get(g, offset), all, one = 0;

    set(g, offset, UINT32_MAX);
    all = get(g, offset);
    if (row->writable && row->writable != ENABLE) {
        set(g, offset, row->writable & 0x5555);
        one = get(g, offset) ^ (row->writable & 0x5555);
    }
    set(g, offset, 0);
    /* A CMDQ_ALLOC is not walked as a value: it says what is mapped */
    if ((offset >= ALLOC(0) && offset < ALLOC(N_QUEUES)) && mapped) {
        set(g, offset, value);
    } else if (value != row->value || get(g, offset) != row->value) {
        g_error("0x%x is 0x%x and then 0x%x, not 0x%x", offset, value,
                get(g, offset), row->value);
    }
    if (all != (row->value | row->writable) || one) {
        g_error("0x%x takes 0x%x, not 0x%x", offset, all,
                row->value | row->writable);
    }
}

static void test_registers(const void *opaque)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&(HostGuestConfig) { .n_vsmmus = 1, .n_psmmus = 1,
                                            .smmu_args = opaque });
    for (int mapped = 0; mapped < 2; mapped++) {
        for (unsigned q = 0; mapped && q < N_QUEUES; q++) {
            set(g, ALLOC(q), ALLOC_LVCMDQ(q) | ALLOC_ALLOCATED);
        }
        for (uint32_t offset = 0; offset < CMDQV_SIZE; offset += 4) {
            uint32_t in_page = offset % 0x10000;

            if (in_page < (offset < GLOBAL ? 0x1200 : 0x180) ||
                in_page == 0xfffc) {
                check_register(g, offset, mapped);
            }
        }
    }
    /* Other sizes reach no register */
    set(g, GLOBAL + PROD, 0x12345);
    qtest_writeb(g->qts, CMDQV + GLOBAL + PROD, 0);
    qtest_writew(g->qts, CMDQV + GLOBAL + PROD, 0);
    g_assert_cmphex(get(g, GLOBAL + PROD), ==, 0x12345);
    /* 64 bits are two registers, if they are aligned */
    g_assert_cmphex(qtest_readq(g->qts, CMDQV + GLOBAL), ==,
                    0x12345ull << 32);
    qtest_writeq(g->qts, CMDQV + GLOBAL + BASE, 0xfedcba9876543210ull);
    g_assert_cmphex(qtest_readq(g->qts, CMDQV + GLOBAL + BASE), ==,
                    0x0000ba9876543210ull);
    host_guest_free(g);
}

/* While a queue is enabled, some of its registers are locked */
static void test_locked(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    for (unsigned n = 0; n < ARRAY_SIZE(queue_rows); n++) {
        for (unsigned word = 0; word < queue_rows[n].count; word++) {
            uint32_t offset = reg(0, queue_rows[n].offset + 4 * word);
            uint32_t before = get(bed->g, offset);

            if (queue_rows[n].locked) {
                set(bed->g, offset, UINT32_MAX);
                g_assert_cmphex(get(bed->g, offset), ==, before);
                set(bed->g, offset, 0);
                g_assert_cmphex(get(bed->g, offset), ==, before);
            }
        }
    }
    remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    bed_free(bed);
}

/* A queue runs if everything above it is enabled, and it is allocated */
static void test_enable(void)
{
    static const struct {
        uint32_t offset, value;
    } off[] = {
        { CONFIG, 0 }, { VINTF_CONFIG, 0 }, { LOGICAL + QCONFIG, 0 },
        { ALLOC(0), 0 },
        { ALLOC(0), ALLOC_ALLOCATED | 1u << 15 },       /* VINTF 1 */
        { ALLOC(0), ALLOC_ALLOCATED | ALLOC_LVCMDQ(2) },
        { ALLOC(0), ALLOC_ALLOCATED | ALLOC_LVCMDQ(127) },
        { ALLOC(0), UINT32_MAX },
    };
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    for (unsigned n = 0; n < ARRAY_SIZE(off); n++) {
        uint32_t before = get(bed->g, off[n].offset);

        set(bed->g, off[n].offset, off[n].value);
        g_assert_cmphex(get(bed->g, GLOBAL + QSTATUS), ==, 0);
        put(bed, 0, CMD_SYNC);
        set(bed->g, GLOBAL + PROD, bed->prod[0]);
        g_assert_cmphex(get(bed->g, GLOBAL + CONS), !=, bed->prod[0]);
        /* What was put meanwhile is carried out when it runs again */
        set(bed->g, off[n].offset, before);
        g_assert_cmphex(get(bed->g, reg(0, QSTATUS)), ==, ENABLE);
        g_assert_cmphex(get(bed->g, reg(0, CONS)), ==, bed->prod[0]);
    }
    /* Two queues that are said to be one: the first is it */
    set(bed->g, ALLOC(1), ALLOC_LVCMDQ(0) | ALLOC_ALLOCATED);
    g_assert_cmphex(get(bed->g, GLOBAL + 0x80 + QSTATUS), ==, 0);
    remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    set(bed->g, ALLOC(0), 0);
    g_assert_cmphex(get(bed->g, GLOBAL + 0x80 + QSTATUS), ==, ENABLE);
    g_assert_cmphex(get(bed->g, reg(0, BASE)), ==, bed->queue[1] | LOG2);
    bed_free(bed);
}

/*
 * Commands
 */

static void test_invalidate(const void *opaque)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_with((HostGuestConfig) { .n_devs = 1, .smmu_args = opaque });
    cmdqv_on(bed);
    /* More than the queues hold, so that they wrap */
    for (unsigned n = 1; n < 80; n++) {
        remap(bed, n % 3 % N_QUEUES, n % 4 < 2 ?
              CMD_TLBI_NH_VA(1, HOST_VA, n & 1) : CMD_TLBI_NH_ASID(1), n % 2);
    }
    g_assert_cmpuint(host_counter(bed->g, "smmu.stale"), ==, 0);
    /* The SMMU's own queue serves as before */
    qatomic_set(bed->pte, 0);
    smmu_cmd(bed->g, 0, CMD_TLBI_NSNH_ALL);
    smmu_sync_ok(bed->g, 0);
    host_check_faults(bed->g, 0, HOST_VA);
    bed_free(bed);
}

/* A batch: the pages of an unmap become one call */
static void test_batch(void)
{
    uint64_t calls;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    calls = host_counter(bed->g, "call." INVALIDATE);
    for (unsigned n = 0; n < 12; n++) {
        put(bed, 1, CMD_TLBI_NH_VA(1, HOST_VA + n * 4096, 1));
    }
    qatomic_set(bed->pte, 0);
    put(bed, 1, CMD_SYNC);
    g_assert_cmpuint(run(bed, 1), ==, SMMU_CERROR_NONE);
    g_assert_cmpuint(host_counter(bed->g, "call." INVALIDATE), ==, calls + 1);
    host_check_faults(bed->g, 0, HOST_VA);
    bed_free(bed);
}

/* An ATC_INV reaches the device of its StreamID */
static void test_atc(void)
{
    Bed *bed;
    uint64_t got = 0, *ste;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_with((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .device = "ats=on",
    });
    cmdqv_on(bed);
    ste = smmu_ste(bed->g, 0, host_sid(bed->g, 0));
    ste[1] = cpu_to_le64(1ull << 28);   /* EATS */
    host_set_ste(bed->g, 0, le64_to_cpu(ste[0]));
    g_assert_cmphex(host_ats_request(bed->g, 0, HOST_VA, false) &
                    HOST_ATS_SUCCESS, ==, HOST_ATS_SUCCESS);
    g_assert_true(host_ats_read64(bed->g, 0, HOST_VA, &got));
    g_assert_cmphex(got, ==, TAG(0));
    qatomic_set(bed->pte, 0);
    run_ok(bed, 0, CMD_TLBI_NH_ASID(1));
    run_ok(bed, 1, CMD_ATC_INV(host_sid(bed->g, 0), HOST_VA, 0));
    g_assert_cmpuint(host_atc_entries(bed->g, 0), ==, 0);
    g_assert_false(host_ats_read64(bed->g, 0, HOST_VA, &got));
    bed_free(bed);
}

/* QEMU itself has a translation, for the MSIs of a port */
static void test_bridge(const void *opaque)
{
    bool by_asid = GPOINTER_TO_INT(opaque);
    uint32_t *target;
    uint64_t *pte;
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    g = bed->g;
    cmdqv_on(bed);
    target = host_map_port_msi(g, 2, &pte);
    qatomic_set(pte, 0);
    run_ok(bed, 0, by_asid ? CMD_TLBI_NH_ASID(2) :
                             CMD_TLBI_NH_VA(2, HOST_VA, 1));
    host_turn_slot_off(g);
    g_assert_cmphex(qatomic_read(target), ==, 0);
    host_guest_free(g);
    g_free(bed);
    alarm(0);
}

/*
 * Errors
 */

static void set_edge(Bed *bed)
{
    uint64_t icfgr = GICD_ICFGR + GSIV_CMDQV / 16 * 4;

    qtest_writel(bed->g->qts, icfgr, qtest_readl(bed->g->qts, icfgr) |
                                     2u << (GSIV_CMDQV % 16 * 2));
}

static bool take_irq(Bed *bed)
{
    uint64_t word = GSIV_CMDQV / 32 * 4;
    uint32_t bit = 1u << (GSIV_CMDQV % 32);
    bool pending = qtest_readl(bed->g->qts, GICD_ISPENDR + word) & bit;

    qtest_writel(bed->g->qts, GICD_ICPENDR + word, bit);
    return pending;
}

static void check_error_maps(Bed *bed, uint32_t want)
{
    g_assert_cmphex(get(bed->g, VINTF_ERR_MAP), ==, !!want);
    g_assert_cmphex(get(bed->g, VINTF_ERR_MAP + 4), ==, 0);
    g_assert_cmphex(get(bed->g, LVCMDQ_ERR_MAP), ==, want);
    g_assert_cmphex(qtest_readq(bed->g->qts, CMDQV + LVCMDQ_ERR_MAP), ==, want);
    g_assert_cmphex(get(bed->g, CMDQ_ERR_MAP), ==, want);
    g_assert_cmphex(get(bed->g, CMDQ_ERR_MAP + 4), ==, 0);
}

/* @cmd is an error of queue @q alone; afterwards the queue goes on */
static void check_illegal(Bed *bed, unsigned q, HostCmd cmd)
{
    uint32_t at = bed->prod[q];
    unsigned n = 1 - (le64_to_cpu(*bed->pte) ==
                      host_leaf(3, bed->page[1], PTE_DATA));
    bool masked = get(bed->g, VINTF_INT_MASK);

    put(bed, q, cmd);
    put(bed, q, CMD_TLBI_NH_VA(1, HOST_VA, 1));
    put(bed, q, CMD_SYNC);
    if (run(bed, q) != SMMU_CERROR_ILL) {
        g_error("0x%" PRIx64 " 0x%" PRIx64 " is taken", cmd.word[0],
                cmd.word[1]);
    }
    g_assert_cmphex(get(bed->g, reg(q, CONS)), ==, at | SMMU_CERROR_ILL << 24);
    check_error_maps(bed, 1u << q);
    g_assert_cmpint(take_irq(bed), ==, !masked);
    /* A halted queue does nothing, and raises nothing again */
    set(bed->g, reg(q, PROD), bed->prod[q]);
    g_assert_false(take_irq(bed));
    g_assert_cmphex(get(bed->g, reg(q, CONS)) & WRAP, ==, at);
    /* The other one does, and so does the SMMU's own */
    remap(bed, !q, CMD_TLBI_NH_VA(1, HOST_VA, 1), n);
    smmu_sync_ok(bed->g, 0);
    qatomic_set(bed->pte, cpu_to_le64(host_leaf(3, bed->page[!n], PTE_DATA)));
    skip_error(bed, q);
    g_assert_cmpuint(run(bed, q), ==, SMMU_CERROR_NONE);
    check_error_maps(bed, 0);
    host_check_reads(bed->g, 0, HOST_VA, TAG(!n));
}

static void test_illegal(void)
{
    static const uint8_t legal[] = { 0x11, 0x12, 0x40, 0x46 };
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_with((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .device = "ats=on",
    });
    cmdqv_on(bed);
    set_edge(bed);
    take_irq(bed);
    for (unsigned op = 0; op < 256; op++) {
        if (!memchr(legal, op, sizeof(legal))) {
            check_illegal(bed, op % N_QUEUES, HOST_CMD(op, 0));
        }
    }
    /* A CMD_SYNC with a signal, or with a reserved one */
    for (uint64_t cs = 1; cs < 4; cs++) {
        check_illegal(bed, 0, HOST_CMD(0x46 | cs << 12, 0));
    }
    set(bed->g, VINTF_INT_MASK, 1);
    check_illegal(bed, 1, CMD_TLBI_NH_ALL);
    set(bed->g, VINTF_INT_MASK, 0);
    check_illegal(bed, 1, CMD_CFGI_ALL);
    bed_free(bed);
}

/* A CMD_SYNC's message must not write to the SMMU's own queues */
static void test_itself(const void *opaque)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_with((HostGuestConfig) { .n_devs = 1, .smmu_args = opaque });
    cmdqv_on(bed);
    put(bed, 0, CMD_TLBI_NSNH_ALL);
    for (uint32_t base = GLOBAL; base <= LOGICAL; base += LOGICAL - GLOBAL) {
        smmu_cmd(bed->g, 0, CMD_SYNC_MSI(CMDQV + base + PROD, 1));
        smmu_sync_ok(bed->g, 0);
        g_assert_cmphex(get(bed->g, reg(0, PROD)), ==, 0);
        g_assert_false(halted(bed, 0));
    }
    bed_free(bed);
}

/* The guest reads page 0 of the queues without an exit, and nothing else */
static void test_memory(void)
{
    g_autofree char *tree = NULL;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    tree = qtest_hmp(bed->g->qts, "info mtree");
    g_assert_nonnull(strstr(tree, "c090000-000000000c09ffff (prio 0, romd): "
                            "arm-smmuv3-vcmdq"));
    g_assert_nonnull(strstr(tree, "c0b0000-000000000c0bffff (prio 0, romd): "
                            "arm-smmuv3-vcmdq"));
    bed_free(bed);
}

/* Both queues halt, and each is acknowledged by itself */
static void test_both(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        put(bed, q, CMD_TLBI_NSNH_ALL);
        g_assert_cmpuint(run(bed, q), ==, SMMU_CERROR_ILL);
    }
    check_error_maps(bed, 3);
    skip_error(bed, 0);
    check_error_maps(bed, 2);
    /* A disabled queue keeps its error until that is acknowledged */
    queue_off(bed, 1);
    check_error_maps(bed, 2);
    set(bed->g, reg(1, GERRORN), get(bed->g, reg(1, GERROR)));
    check_error_maps(bed, 0);
    queue_on(bed, 1);
    remap(bed, 1, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    bed_free(bed);
}

/* Where no memory is: no base, a device, above the guest's memory */
static void test_abort(void)
{
    static const uint64_t bases[] = {
        0x08000000, VIRT_PLATFORM_BUS_BASE, CMDQV + LOGICAL, 0xffffffffffe0ull,
        HOST_RAM_BASE + HOST_RAM_SIZE,
    };
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    for (unsigned n = 0; n < ARRAY_SIZE(bases); n++) {
        queue_off(bed, 0);
        set_base(bed, 0, bases[n] | LOG2);
        set(bed->g, reg(0, PROD), 1);
        enable(bed->g, reg(0, QCONFIG), reg(0, QSTATUS), ENABLE);
        g_assert_true(halted(bed, 0));
        g_assert_cmphex(get(bed->g, reg(0, CONS)), ==, SMMU_CERROR_ABT << 24);
        set(bed->g, reg(0, GERRORN), get(bed->g, reg(0, GERROR)));
        /* It is tried again, and fails again */
        g_assert_true(halted(bed, 0));
        queue_off(bed, 0);
        set(bed->g, reg(0, GERRORN), get(bed->g, reg(0, GERROR)));
    }
    queue_on(bed, 0);
    remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    bed_free(bed);
}

/* The host refuses a command of QEMU's, or a device does not answer */
static void test_host_error(void)
{
    uint64_t *ste;
    uint32_t at;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_with((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .device = "ats=on\ndead_atc=on",
    });
    cmdqv_on(bed);
    put(bed, 0, CMD_TLBI_NH_ASID(7));
    at = bed->prod[0];
    put(bed, 0, CMD_TLBI_NH_ASID(8));
    put(bed, 0, CMD_SYNC);
    /* The batch, and then the second command alone */
    control(bed, "fail " INVALIDATE ":1+1=EIO");
    control(bed, "fail " INVALIDATE ":3+1=EIO");
    g_assert_cmpuint(run(bed, 0), ==, SMMU_CERROR_ILL);
    g_assert_cmphex(get(bed->g, reg(0, CONS)) & WRAP, ==, at);
    control(bed, "fail clear");
    skip_error(bed, 0);
    g_assert_cmpuint(run(bed, 0), ==, SMMU_CERROR_NONE);

    ste = smmu_ste(bed->g, 0, host_sid(bed->g, 0));
    ste[1] = cpu_to_le64(1ull << 28);   /* EATS */
    host_set_ste(bed->g, 0, le64_to_cpu(ste[0]));
    put(bed, 1, CMD_ATC_INV(host_sid(bed->g, 0), 0, 52));
    at = bed->prod[1];
    put(bed, 1, CMD_SYNC);
    g_assert_cmpuint(run(bed, 1), ==, SMMU_CERROR_ATC);
    g_assert_cmphex(get(bed->g, reg(1, CONS)) & WRAP, ==, at);
    skip_error(bed, 1);
    g_assert_cmpuint(run(bed, 1), ==, SMMU_CERROR_NONE);
    /* That of another queue is not this one's */
    run_ok(bed, 0, CMD_TLBI_NH_ASID(9));
    smmu_sync_ok(bed->g, 0);
    bed_free(bed);
}

/*
 * Hostile values
 */

static void test_size(void)
{
    Bed *bed;
    uint64_t *slot, big;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    big = host_alloc(bed->g, 16 << 19);

    /* One entry: only the bit for the wrap is left of PROD */
    queue_off(bed, 0);
    set(bed->g, reg(0, CONS), 0);
    set(bed->g, reg(0, PROD), 0);
    set_base(bed, 0, big);
    slot = host_ram(bed->g, big);
    enable(bed->g, reg(0, QCONFIG), reg(0, QSTATUS), ENABLE);
    for (unsigned n = 1; n < 5; n++) {
        HostCmd cmd = n % 2 ? CMD_TLBI_NH_VA(1, HOST_VA, 1) : CMD_SYNC;

        slot[0] = cpu_to_le64(cmd.word[0]);
        slot[1] = cpu_to_le64(cmd.word[1]);
        set(bed->g, reg(0, PROD), n);
        g_assert_cmphex(get(bed->g, reg(0, CONS)), ==, n % 2);
    }

    /* All ones: IDR1.CMDQS bounds the size, and the address follows it */
    queue_off(bed, 0);
    set_base(bed, 0, (big + 0x12340) | 31);
    set(bed->g, reg(0, CONS), 0x7fffe);
    set(bed->g, reg(0, PROD), 0x80001);
    slot = host_ram(bed->g, big + 16 * 0x7fffe);
    slot[0] = cpu_to_le64(CMD_TLBI_NH_VA(1, HOST_VA, 1).word[0]);
    slot[1] = cpu_to_le64(CMD_TLBI_NH_VA(1, HOST_VA, 1).word[1]);
    slot[2] = cpu_to_le64(CMD_SYNC.word[0]);
    slot = host_ram(bed->g, big);
    slot[0] = cpu_to_le64(CMD_SYNC.word[0]);
    slot[1] = 0;
    qatomic_set(bed->pte, 0);
    enable(bed->g, reg(0, QCONFIG), reg(0, QSTATUS), ENABLE);
    g_assert_false(halted(bed, 0));
    g_assert_cmphex(get(bed->g, reg(0, CONS)), ==, 0x80001);
    host_check_faults(bed->g, 0, HOST_VA);
    bed_free(bed);
}

/* A PROD further ahead than there are entries, and one behind CONS */
static void test_overfull(void)
{
    static const HostGuestConfig config = {
        .n_devs = 1, .smmu_args = ON ",x-drain-us=1",
    };
    Bed *bed;
    uint64_t big, *slot;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_with(config);
    cmdqv_on(bed);
    big = host_alloc(bed->g, 16 << 19);
    slot = host_ram(bed->g, big);
    for (unsigned n = 0; n < 1u << 16; n++) {
        slot[2 * n] = cpu_to_le64(n % 16 ? CMD_TLBI_NH_VA(1, 0, 0).word[0] :
                                  CMD_SYNC.word[0]);
        slot[2 * n + 1] = cpu_to_le64(n % 16 ? (uint64_t)n << 12 : 0);
    }
    queue_off(bed, 0);
    set_base(bed, 0, big | 16);
    set(bed->g, reg(0, CONS), 1);
    set(bed->g, reg(0, PROD), 0);
    enable(bed->g, reg(0, QCONFIG), reg(0, QSTATUS), ENABLE);
    /* QEMU answers meanwhile, and the SMMU's own queue is served */
    for (int n = 0; get(bed->g, reg(0, CONS)); n++) {
        g_assert_cmpint(n, <, 1000000);
        qtest_qmp_assert_success(bed->g->qts, "{ 'execute': 'query-status' }");
        if (n % 64 == 0) {
            smmu_sync_ok(bed->g, 0);
        }
    }
    g_assert_false(halted(bed, 0));
    bed_free(bed);
}

/* A queue stops with commands in it, and starts again elsewhere */
static void test_stop(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    queue_off(bed, 0);
    put(bed, 0, CMD_CFGI_ALL);
    set(bed->g, reg(0, PROD), bed->prod[0]);
    g_assert_cmphex(get(bed->g, reg(0, CONS)), ==, 0);
    /* CONS jumps over the command */
    set(bed->g, reg(0, CONS), bed->prod[0]);
    enable(bed->g, reg(0, QCONFIG), reg(0, QSTATUS), ENABLE);
    g_assert_false(halted(bed, 0));
    remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    /* The SMMU's own queue is off: VCMDQs are not */
    smmu_write(bed->g, 0, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_EVENTQEN);
    remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 0);
    bed_free(bed);
}

static void test_reset(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    for (unsigned n = 0; n < 3; n++) {
        cmdqv_on(bed);
        remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
        put(bed, 1, CMD_CFGI_ALL);
        g_assert_cmpuint(run(bed, 1), ==, SMMU_CERROR_ILL);
        qtest_system_reset(bed->g->qts);
        bed->g->smmu[0].enabled = false;
        for (uint32_t offset = 0; offset < 0x1200; offset += 4) {
            const Row *row = row_of(offset, false);

            g_assert_cmphex(get(bed->g, offset), ==, row ? row->value : 0);
        }
        for (unsigned q = 0; q < N_QUEUES; q++) {
            for (uint32_t offset = 0; offset < 0x80; offset += 4) {
                uint32_t at = GLOBAL + 0x80 * q + offset;

                g_assert_cmphex(get(bed->g, at), ==, 0);
                g_assert_cmphex(get(bed->g, at + BASE), ==, 0);
            }
        }
        host_setup_port(bed->g, 0);
        host_setup_device(bed->g, 0);
        host_enable(bed->g, 0);
        bed_translate(bed);
    }
    bed_free(bed);
}

/*
 * A slow host
 */

static void wait_until_held(Bed *bed)
{
    for (int i = 0; !host_counter(bed->g, "held"); i++) {
        g_assert_cmpint(i, <, 100000);
        g_usleep(100);
    }
}

static void wait_for_cons(Bed *bed, uint32_t cons)
{
    for (int i = 0; get(bed->g, reg(0, CONS)) != cons; i++) {
        g_assert_cmpint(i, <, 100000);
        g_usleep(100);
    }
}

/* One slow call shows that the host is slow */
static Bed *bed_new_slow(void)
{
    Bed *bed = bed_new();

    cmdqv_on(bed);
    control(bed, "fail " INVALIDATE "~150000");
    run_ok(bed, 0, CMD_TLBI_NH_ASID(99));
    control(bed, "fail clear");
    return bed;
}

/* A thread waits for the host; QEMU, and then the queue, go on */
static void test_slow(const void *opaque)
{
    const char *how = opaque;
    uint32_t before;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_slow();
    control(bed, "zero");

    if (g_str_equal(how, "illegal")) {
        /* The batch, then the first command alone */
        control(bed, "fail " INVALIDATE ":1=EIO");
        control(bed, "fail " INVALIDATE ":2=EIO");
    }
    control(bed, "fail " INVALIDATE "~hold");
    qatomic_set(bed->pte, 0);
    before = bed->prod[0];
    put(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1));
    if (!g_str_equal(how, "no-sync")) {
        put(bed, 0, CMD_SYNC);
    }
    set(bed->g, reg(0, PROD), bed->prod[0]);
    wait_until_held(bed);
    g_assert_cmphex(get(bed->g, reg(0, CONS)), ==, before);
    qtest_qmp_assert_success(bed->g->qts, "{ 'execute': 'query-status' }");
    /* Nothing else is drained now, and everything afterwards */
    put(bed, 1, CMD_TLBI_NH_ASID(1));
    put(bed, 1, CMD_SYNC);
    set(bed->g, reg(1, PROD), bed->prod[1]);
    g_assert_cmphex(get(bed->g, reg(1, CONS)), ==, 0);
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    if (g_str_equal(how, "off")) {
        queue_off(bed, 0);
    } else if (g_str_equal(how, "illegal")) {
        /* The result is for the other queue */
        queue_off(bed, 1);
        enable(bed->g, reg(1, QCONFIG), reg(1, QSTATUS), ENABLE);
    } else if (g_str_equal(how, "reset")) {
        qtest_system_reset(bed->g->qts);
        bed->g->smmu[0].enabled = false;
    }
    control(bed, "release");
    if (g_str_equal(how, "no-sync")) {
        wait_for_cons(bed, bed->prod[0]);
    }
    if (g_str_equal(how, "reset")) {
        host_setup_port(bed->g, 0);
        host_setup_device(bed->g, 0);
        host_enable(bed->g, 0);
        bed_translate(bed);
        cmdqv_on(bed);
        remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
        bed_free(bed);
        return;
    }
    smmu_sync_ok(bed->g, 0);
    g_assert_cmpuint(run(bed, 1), ==, SMMU_CERROR_NONE);
    if (g_str_equal(how, "off")) {
        /* The job's result is no concern of a queue that was off */
        g_assert_cmphex(get(bed->g, reg(0, CONS)), ==, before);
        queue_on(bed, 0);
    } else if (g_str_equal(how, "illegal")) {
        g_assert_cmpuint(run(bed, 0), ==, SMMU_CERROR_ILL);
        g_assert_cmphex(get(bed->g, reg(0, CONS)) & WRAP, ==, before);
        check_error_maps(bed, 1);
        skip_error(bed, 0);
        g_assert_cmpuint(run(bed, 0), ==, SMMU_CERROR_NONE);
    } else {
        g_assert_cmpuint(run(bed, 0), ==, SMMU_CERROR_NONE);
    }
    host_check_faults(bed->g, 0, HOST_VA);
    remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    bed_free(bed);
}

/*
 * A job lets streams follow SMMUEN, and belongs to no queue.  Meanwhile the
 * guest sets a disabled queue up anew: @opaque, "own" or a VCMDQ.
 */
static void test_slow_restore(const void *opaque)
{
    bool own = g_str_equal(opaque, "own");
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_slow();
    g = bed->g;
    control(bed, "fail " INVALIDATE ":1+*=ETIMEDOUT");
    put(bed, 0, CMD_TLBI_NH_ASID(5));
    put(bed, 0, CMD_SYNC);
    g_assert_cmpuint(run(bed, 0), ==, SMMU_CERROR_ABT);
    set(g, reg(0, GERRORN), get(g, reg(0, GERROR)));
    if (own) {
        /* The last queue that was drained is the SMMU's own */
        smmu_sync_ok(g, 0);
    }
    queue_off(bed, 0);

    control(bed, "fail clear");
    control(bed, "zero");
    control(bed, "fail " INVALIDATE "~hold");
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_EVENTQEN);
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_EVENTQEN | SMMU_CR0_SMMUEN);
    wait_until_held(bed);
    set(g, reg(0, PROD), 0);
    set(g, reg(0, CONS), 0);
    smmu_write(g, 0, SMMU_CMDQ_PROD, 0);
    smmu_write(g, 0, SMMU_CMDQ_CONS, 0);
    control(bed, "release");
    control(bed, "fail clear");
    /* It is drained after the job */
    put(bed, 1, CMD_SYNC);
    g_assert_cmpuint(run(bed, 1), ==, SMMU_CERROR_NONE);
    g_assert_cmphex(get(g, reg(0, CONS)), ==, 0);
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_EVENTQEN | SMMU_CR0_SMMUEN |
               SMMU_CR0_CMDQEN);
    enable(g, reg(0, QCONFIG), reg(0, QSTATUS), ENABLE);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), ==, 0);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR), ==,
                    smmu_read(g, 0, SMMU_GERRORN));
    g_assert_cmphex(get(g, reg(0, CONS)), ==, 0);
    g_assert_cmphex(get(g, reg(0, GERROR)), ==, get(g, reg(0, GERRORN)));
    bed_free(bed);
}

/* A batch is full, in the middle of what a CMD_SYNC waits for */
static void test_slow_full(void)
{
    enum { N = 600, BIG_LOG2 = 10 };
    uint64_t queue, *slot;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_slow();
    queue_off(bed, 0);
    queue = host_alloc(bed->g, 16 << BIG_LOG2);
    slot = host_ram(bed->g, queue);
    for (unsigned n = 0; n <= N; n++) {
        HostCmd cmd = n < N ? CMD_TLBI_NH_ASID(n + 2) : CMD_SYNC;

        *slot++ = cpu_to_le64(cmd.word[0]);
        *slot++ = cpu_to_le64(cmd.word[1]);
    }
    set(bed->g, reg(0, PROD), 0);
    set(bed->g, reg(0, CONS), 0);
    set_base(bed, 0, queue | BIG_LOG2);
    enable(bed->g, reg(0, QCONFIG), reg(0, QSTATUS), ENABLE);
    control(bed, "zero");
    control(bed, "fail " INVALIDATE "~hold");
    set(bed->g, reg(0, PROD), N + 1);
    wait_until_held(bed);
    g_assert_cmphex(get(bed->g, reg(0, CONS)), ==, 0);
    qtest_qmp_assert_success(bed->g->qts, "{ 'execute': 'query-status' }");
    control(bed, "fail clear");
    control(bed, "release");
    wait_for_cons(bed, N + 1);
    g_assert_cmpuint(host_counter(bed->g, "smmu.cmd.TLBI_NH_ASID"), >=, N);
    bed_free(bed);
}

/* Each drain in the main loop */
static void test_main_loop(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_with((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON ",x-drain-us=0",
    });
    cmdqv_on(bed);
    for (unsigned n = 1; n < 9; n++) {
        remap(bed, n % 3 % N_QUEUES, CMD_TLBI_NH_VA(1, HOST_VA, 1), n % 2);
    }
    put(bed, 0, CMD_TLBI_NSNH_ALL);
    g_assert_cmpuint(run(bed, 0), ==, SMMU_CERROR_ILL);
    bed_free(bed);
}

/*
 * The board
 */

static uint32_t word_at(const uint8_t *p)
{
    return ldl_le_p(p);
}

/* The device in the DSDT, found by its SMMU's identifier */
static void test_acpi(void)
{
    static const uint8_t uid[] = "\x08_UID\x0a\xc8";
    static const uint8_t memory[] = { 0x86, 9, 0, 1 };
    static const uint8_t irq[] = { 0x89, 6, 0, 0x03, 1 };
    g_autofree char *args = g_strdup_printf(
        "-machine " SMMUV3_MACHINE " -bios %s -nic none "
        "-device pxb-pcie,id=pxb1,bus_nr=8 "
        "-device arm-smmuv3,primary-bus=pcie.0,accel=on "
        "-device arm-smmuv3,primary-bus=pxb1,accel=on,cmdqv=on,identifier=200",
        smmuv3_firmware());
    QTestState *qts = qtest_init(args);
    g_autofree uint8_t *dsdt = NULL;
    const uint8_t *at, *p;
    size_t len;

    dsdt = smmuv3_acpi_table(qts, "DSDT", &len);
    at = memmem(dsdt, len, "NVDA200C", 8);
    g_assert(at);
    len -= at - dsdt;
    g_assert_null(memmem(at + 1, len - 1, "NVDA200C", 8));
    g_assert_nonnull(memmem(at, len, uid, sizeof(uid) - 1));
    p = memmem(at, len, memory, sizeof(memory));
    g_assert_nonnull(p);
    g_assert_cmphex(word_at(p + 4), ==, CMDQV);
    g_assert_cmphex(word_at(p + 8), ==, CMDQV_SIZE);
    g_assert_cmphex(qtest_readl(qts, word_at(p + 4) + PARAM), ==, 0x11);
    p = memmem(at, len, irq, sizeof(irq));
    g_assert_nonnull(p);
    g_assert_cmpuint(word_at(p + 5), ==, GSIV_CMDQV + 4);
    qtest_quit(qts);
}

static char *many(unsigned n)
{
    GString *args = g_string_new("-nic none");

    for (unsigned i = 1; i <= n; i++) {
        g_string_append_printf(args, " -device pxb-pcie,id=pxb%u,bus=pcie.0,"
                               "bus_nr=%u -device arm-smmuv3,accel=on,cmdqv=on,"
                               "primary-bus=pxb%u,id=s%u", i, i * 8, i, i);
    }
    return g_string_free(args, false);
}

/* As many as there are interrupts for */
static void test_many(void)
{
    g_autofree char *fit = many(12), *more = many(13);
    QTestState *qts = qtest_initf("-machine " SMMUV3_MACHINE " -bios %s %s",
                                  smmuv3_firmware(), fit);
    uint32_t found = 0;

    for (uint64_t at = 0; at < 32 * MiB; at += 0x80000) {
        found += qtest_readl(qts, VIRT_PLATFORM_BUS_BASE + at + PARAM) == 0x11;
    }
    g_assert_cmpuint(found, ==, 12);
    qtest_quit(qts);
    smmuv3_check_refused(SMMUV3_MACHINE, true, more,
                         "arm-smmuv3 's13': it needs 5 interrupts, and the "
                         "platform bus has 4 of its 64 left: it carries 12 "
                         "SMMUs with cmdqv=on at most, leave this one out, or "
                         "its cmdqv=on");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!qtest_has_machine("virt")) {
        return g_test_run();
    }
    qtest_add_data_func("/smmuv3-cmdqv/registers/memory", ON, test_registers);
    qtest_add_data_func("/smmuv3-cmdqv/registers/exit", ON_EXITS,
                        test_registers);
    qtest_add_func("/smmuv3-cmdqv/locked", test_locked);
    qtest_add_func("/smmuv3-cmdqv/enable", test_enable);
    qtest_add_data_func("/smmuv3-cmdqv/invalidate/memory", ON, test_invalidate);
    qtest_add_data_func("/smmuv3-cmdqv/invalidate/exit", ON_EXITS,
                        test_invalidate);
    qtest_add_func("/smmuv3-cmdqv/batch", test_batch);
    qtest_add_func("/smmuv3-cmdqv/atc", test_atc);
    qtest_add_data_func("/smmuv3-cmdqv/bridge/va", GINT_TO_POINTER(0),
                        test_bridge);
    qtest_add_data_func("/smmuv3-cmdqv/bridge/asid", GINT_TO_POINTER(1),
                        test_bridge);
    qtest_add_func("/smmuv3-cmdqv/illegal", test_illegal);
    qtest_add_data_func("/smmuv3-cmdqv/itself/memory", ON, test_itself);
    qtest_add_data_func("/smmuv3-cmdqv/itself/exit", ON_EXITS, test_itself);
    qtest_add_func("/smmuv3-cmdqv/memory", test_memory);
    qtest_add_func("/smmuv3-cmdqv/both", test_both);
    qtest_add_func("/smmuv3-cmdqv/abort", test_abort);
    qtest_add_func("/smmuv3-cmdqv/host-error", test_host_error);
    qtest_add_func("/smmuv3-cmdqv/size", test_size);
    qtest_add_func("/smmuv3-cmdqv/overfull", test_overfull);
    qtest_add_func("/smmuv3-cmdqv/stop", test_stop);
    qtest_add_func("/smmuv3-cmdqv/reset", test_reset);
    qtest_add_data_func("/smmuv3-cmdqv/slow/on", "on", test_slow);
    qtest_add_data_func("/smmuv3-cmdqv/slow/restore", "own",
                        test_slow_restore);
    qtest_add_data_func("/smmuv3-cmdqv/slow/restore-vcmdq", "vcmdq",
                        test_slow_restore);
    qtest_add_data_func("/smmuv3-cmdqv/slow/no-sync", "no-sync", test_slow);
    qtest_add_data_func("/smmuv3-cmdqv/slow/off", "off", test_slow);
    qtest_add_data_func("/smmuv3-cmdqv/slow/illegal", "illegal", test_slow);
    qtest_add_data_func("/smmuv3-cmdqv/slow/reset", "reset", test_slow);
    qtest_add_func("/smmuv3-cmdqv/slow/full", test_slow_full);
    qtest_add_func("/smmuv3-cmdqv/main-loop", test_main_loop);
    qtest_add_func("/smmuv3-cmdqv/acpi", test_acpi);
    qtest_add_func("/smmuv3-cmdqv/many", test_many);
    return g_test_run();
}
