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
#include "qobject/qlist.h"
#include "smmuv3-cmdqv.h"

#define INVALIDATE      "IOMMU_HWPT_INVALIDATE"
#define ON              ",cmdqv=on"
#define ON_EXITS        ",cmdqv=on,x-direct-registers=off"

static CmdqvBed *bed_new(void)
{
    return cmdqv_bed_new((HostGuestConfig) { .n_devs = 1, .smmu_args = ON });
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
    uint32_t value = cmdqv_get(g, offset), all, one = 0;

    cmdqv_set(g, offset, UINT32_MAX);
    all = cmdqv_get(g, offset);
    if (row->writable && row->writable != ENABLE) {
        cmdqv_set(g, offset, row->writable & 0x5555);
        one = cmdqv_get(g, offset) ^ (row->writable & 0x5555);
    }
    cmdqv_set(g, offset, 0);
    /* A CMDQ_ALLOC is not walked as a value: it says what is mapped */
    if ((offset >= ALLOC(0) && offset < ALLOC(N_QUEUES)) && mapped) {
        cmdqv_set(g, offset, value);
    } else if (value != row->value || cmdqv_get(g, offset) != row->value) {
        g_error("0x%x is 0x%x and then 0x%x, not 0x%x", offset, value,
                cmdqv_get(g, offset), row->value);
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
            cmdqv_set(g, ALLOC(q), ALLOC_LVCMDQ(q) | ALLOC_ALLOCATED);
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
    cmdqv_set(g, GLOBAL + PROD, 0x12345);
    qtest_writeb(g->qts, CMDQV + GLOBAL + PROD, 0);
    qtest_writew(g->qts, CMDQV + GLOBAL + PROD, 0);
    g_assert_cmphex(cmdqv_get(g, GLOBAL + PROD), ==, 0x12345);
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
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    for (unsigned n = 0; n < ARRAY_SIZE(queue_rows); n++) {
        for (unsigned word = 0; word < queue_rows[n].count; word++) {
            uint32_t offset = cmdqv_reg(0, queue_rows[n].offset + 4 * word);
            uint32_t before = cmdqv_get(bed->g, offset);

            if (queue_rows[n].locked) {
                cmdqv_set(bed->g, offset, UINT32_MAX);
                g_assert_cmphex(cmdqv_get(bed->g, offset), ==, before);
                cmdqv_set(bed->g, offset, 0);
                g_assert_cmphex(cmdqv_get(bed->g, offset), ==, before);
            }
        }
    }
    cmdqv_remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    cmdqv_bed_free(bed);
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
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    for (unsigned n = 0; n < ARRAY_SIZE(off); n++) {
        uint32_t before = cmdqv_get(bed->g, off[n].offset);

        cmdqv_set(bed->g, off[n].offset, off[n].value);
        g_assert_cmphex(cmdqv_get(bed->g, GLOBAL + QSTATUS), ==, 0);
        cmdqv_put(bed, 0, CMD_SYNC);
        cmdqv_set(bed->g, GLOBAL + PROD, bed->prod[0]);
        g_assert_cmphex(cmdqv_get(bed->g, GLOBAL + CONS), !=, bed->prod[0]);
        /* What was put meanwhile is carried out when it runs again */
        cmdqv_set(bed->g, off[n].offset, before);
        g_assert_cmphex(cmdqv_q(bed, 0, QSTATUS), ==, ENABLE);
        g_assert_cmphex(cmdqv_q(bed, 0, CONS), ==, bed->prod[0]);
    }
    /* Two queues that are said to be one: the first is it */
    cmdqv_set(bed->g, ALLOC(1), ALLOC_LVCMDQ(0) | ALLOC_ALLOCATED);
    g_assert_cmphex(cmdqv_get(bed->g, GLOBAL + 0x80 + QSTATUS), ==, 0);
    cmdqv_remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    cmdqv_set(bed->g, ALLOC(0), 0);
    g_assert_cmphex(cmdqv_get(bed->g, GLOBAL + 0x80 + QSTATUS), ==, ENABLE);
    g_assert_cmphex(cmdqv_q(bed, 0, BASE), ==, bed->queue[1] | LOG2);
    cmdqv_bed_free(bed);
}

/*
 * Commands
 */

static void test_invalidate(const void *opaque)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) { .n_devs = 1, .smmu_args = opaque });
    cmdqv_on(bed);
    /* More than the queues hold, so that they wrap */
    for (unsigned n = 1; n < 80; n++) {
        cmdqv_remap(bed, n % 3 % N_QUEUES, n % 4 < 2 ?
              CMD_TLBI_NH_VA(1, HOST_VA, n & 1) : CMD_TLBI_NH_ASID(1), n % 2);
    }
    g_assert_cmpuint(host_counter(bed->g, "smmu.stale"), ==, 0);
    /* The SMMU's own queue serves as before */
    qatomic_set(bed->pte, 0);
    smmu_cmd(bed->g, 0, CMD_TLBI_NSNH_ALL);
    smmu_sync_ok(bed->g, 0);
    host_check_faults(bed->g, 0, HOST_VA);
    cmdqv_bed_free(bed);
}

/* A batch: the pages of an unmap become one call */
static void test_batch(void)
{
    uint64_t calls;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    calls = host_counter(bed->g, "call." INVALIDATE);
    for (unsigned n = 0; n < 12; n++) {
        cmdqv_put(bed, 1, CMD_TLBI_NH_VA(1, HOST_VA + n * 4096, 1));
    }
    qatomic_set(bed->pte, 0);
    cmdqv_put(bed, 1, CMD_SYNC);
    g_assert_cmpuint(cmdqv_run(bed, 1), ==, SMMU_CERROR_NONE);
    g_assert_cmpuint(host_counter(bed->g, "call." INVALIDATE), ==, calls + 1);
    host_check_faults(bed->g, 0, HOST_VA);
    cmdqv_bed_free(bed);
}

/* An ATC_INV reaches the device of its StreamID */
static void test_atc(void)
{
    CmdqvBed *bed;
    uint64_t got = 0, *ste;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
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
    cmdqv_run_ok(bed, 0, CMD_TLBI_NH_ASID(1));
    cmdqv_run_ok(bed, 1, CMD_ATC_INV(host_sid(bed->g, 0), HOST_VA, 0));
    g_assert_cmpuint(host_atc_entries(bed->g, 0), ==, 0);
    g_assert_false(host_ats_read64(bed->g, 0, HOST_VA, &got));
    cmdqv_bed_free(bed);
}

/* QEMU itself has a translation, for the MSIs of a port */
static void test_bridge(const void *opaque)
{
    bool by_asid = GPOINTER_TO_INT(opaque);
    uint32_t *target;
    uint64_t *pte;
    HostGuest *g;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    g = bed->g;
    cmdqv_on(bed);
    target = host_map_port_msi(g, 2, &pte);
    qatomic_set(pte, 0);
    cmdqv_run_ok(bed, 0, by_asid ? CMD_TLBI_NH_ASID(2) :
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

/* The numbers are crossed: each map has the number that it is about */
static void test_crossed(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_set(bed->g, ALLOC(q), ALLOC_LVCMDQ(!q) | ALLOC_ALLOCATED);
    }
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_queue_off(bed, q);
        cmdqv_queue_on(bed, q);
    }
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_put(bed, q, CMD_CFGI_ALL);
        g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_ILL);
        g_assert_cmphex(cmdqv_get(bed->g, VINTF_ERR_MAP), ==, 1);
        g_assert_cmphex(cmdqv_get(bed->g, LVCMDQ_ERR_MAP), ==, 1u << q);
        g_assert_cmphex(cmdqv_get(bed->g, CMDQ_ERR_MAP), ==, 1u << !q);
        cmdqv_skip_error(bed, q);
        g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_NONE);
        cmdqv_check_error_maps(bed, 0);
        cmdqv_remap(bed, q, CMD_TLBI_NH_VA(1, HOST_VA, 1), !q);
    }
    cmdqv_bed_free(bed);
}

static void test_illegal(void)
{
    static const uint8_t legal[] = { 0x11, 0x12, 0x40, 0x46 };
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .device = "ats=on",
    });
    cmdqv_on(bed);
    cmdqv_set_edge(bed);
    cmdqv_take_irq(bed);
    for (unsigned op = 0; op < 256; op++) {
        if (!memchr(legal, op, sizeof(legal))) {
            cmdqv_check_illegal(bed, op % N_QUEUES, HOST_CMD(op, 0));
        }
    }
    /* A CMD_SYNC with a signal, or with a reserved one */
    for (uint64_t cs = 1; cs < 4; cs++) {
        cmdqv_check_illegal(bed, 0, HOST_CMD(0x46 | cs << 12, 0));
    }
    cmdqv_set(bed->g, VINTF_INT_MASK, 1);
    cmdqv_check_illegal(bed, 1, CMD_TLBI_NH_ALL);
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    cmdqv_check_illegal(bed, 1, CMD_CFGI_ALL);
    /* The guest knows of an error that is there when the last device goes */
    cmdqv_put(bed, 0, CMD_TLBI_NH_ALL);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_ILL);
    g_assert_true(cmdqv_take_irq(bed));
    host_guest_unplug(bed->g, 0);
    g_assert_false(cmdqv_take_irq(bed));
    cmdqv_bed_free(bed);
}

/* A CMD_SYNC's message must not write to the SMMU's own queues */
static void test_itself(const void *opaque)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) { .n_devs = 1, .smmu_args = opaque });
    cmdqv_on(bed);
    if (g_str_equal(opaque, ON_EXITS)) {
        host_expect(bed->g, "Blocked re-entrant IO on MemoryRegion: "
                            "arm-smmuv3-cmdqv");
    }
    cmdqv_put(bed, 0, CMD_TLBI_NSNH_ALL);
    for (uint32_t base = GLOBAL; base <= LOGICAL; base += LOGICAL - GLOBAL) {
        smmu_cmd(bed->g, 0, CMD_SYNC_MSI(CMDQV + base + PROD, 1));
        smmu_sync_ok(bed->g, 0);
        g_assert_cmphex(cmdqv_q(bed, 0, PROD), ==, 0);
        g_assert_false(cmdqv_halted(bed, 0));
    }
    cmdqv_bed_free(bed);
}

/* The guest reads page 0 of the queues without an exit, and nothing else */
static void test_memory(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_check_in_memory(bed);
    cmdqv_bed_free(bed);
}

/* Both queues halt, and each is acknowledged by itself */
static void test_both(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_put(bed, q, CMD_TLBI_NSNH_ALL);
        g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_ILL);
    }
    cmdqv_check_error_maps(bed, 3);
    cmdqv_skip_error(bed, 0);
    cmdqv_check_error_maps(bed, 2);
    /* A disabled queue keeps its error until that is acknowledged */
    cmdqv_queue_off(bed, 1);
    cmdqv_check_error_maps(bed, 2);
    cmdqv_set_q(bed, 1, GERRORN, cmdqv_q(bed, 1, GERROR));
    cmdqv_check_error_maps(bed, 0);
    cmdqv_queue_on(bed, 1);
    cmdqv_remap(bed, 1, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    cmdqv_bed_free(bed);
}

/* Where no memory is: no base, a device, above the guest's memory */
static void test_abort(void)
{
    static const uint64_t bases[] = {
        0x08000000, VIRT_PLATFORM_BUS_BASE, CMDQV + LOGICAL, 0xffffffffffe0ull,
        HOST_RAM_BASE + HOST_RAM_SIZE,
    };
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    for (unsigned n = 0; n < ARRAY_SIZE(bases); n++) {
        cmdqv_queue_off(bed, 0);
        cmdqv_set_base(bed, 0, bases[n] | LOG2);
        cmdqv_set_q(bed, 0, PROD, 1);
        cmdqv_queue_enable(bed, 0);
        g_assert_true(cmdqv_halted(bed, 0));
        g_assert_cmphex(cmdqv_q(bed, 0, CONS), ==, SMMU_CERROR_ABT << 24);
        cmdqv_set_q(bed, 0, GERRORN, cmdqv_q(bed, 0, GERROR));
        /* It is tried again, and fails again */
        g_assert_true(cmdqv_halted(bed, 0));
        cmdqv_queue_off(bed, 0);
        cmdqv_set_q(bed, 0, GERRORN, cmdqv_q(bed, 0, GERROR));
    }
    cmdqv_queue_on(bed, 0);
    cmdqv_remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    cmdqv_bed_free(bed);
}

/* The host refuses a command of QEMU's, or a device does not answer */
static void test_host_error(void)
{
    uint64_t *ste;
    uint32_t at;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .device = "ats=on\ndead_atc=on",
    });
    cmdqv_on(bed);
    cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(7));
    at = bed->prod[0];
    cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(8));
    cmdqv_put(bed, 0, CMD_SYNC);
    /* The batch, and then the second command alone */
    cmdqv_control(bed, "fail " INVALIDATE ":1+1=EIO");
    cmdqv_control(bed, "fail " INVALIDATE ":3+1=EIO");
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_ILL);
    g_assert_cmphex(cmdqv_q(bed, 0, CONS) & WRAP, ==, at);
    cmdqv_control(bed, "fail clear");
    cmdqv_skip_error(bed, 0);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);

    ste = smmu_ste(bed->g, 0, host_sid(bed->g, 0));
    ste[1] = cpu_to_le64(1ull << 28);   /* EATS */
    host_set_ste(bed->g, 0, le64_to_cpu(ste[0]));
    cmdqv_put(bed, 1, CMD_ATC_INV(host_sid(bed->g, 0), 0, 52));
    at = bed->prod[1];
    cmdqv_put(bed, 1, CMD_SYNC);
    g_assert_cmpuint(cmdqv_run(bed, 1), ==, SMMU_CERROR_ATC);
    g_assert_cmphex(cmdqv_q(bed, 1, CONS) & WRAP, ==, at);
    cmdqv_skip_error(bed, 1);
    g_assert_cmpuint(cmdqv_run(bed, 1), ==, SMMU_CERROR_NONE);
    /* That of another queue is not this one's */
    cmdqv_run_ok(bed, 0, CMD_TLBI_NH_ASID(9));
    smmu_sync_ok(bed->g, 0);
    cmdqv_bed_free(bed);
}

/*
 * Another vSMMU shares the stage 2 and cannot invalidate, nor can this one: its
 * VCMDQs report that, because its streams abort now
 */
static void test_sharer_fails(void)
{
    CmdqvBed beds[2];
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = cmdqv_beds_new((HostGuestConfig) {
        .n_vsmmus = 2, .smmu_args = ON ",share-stage2=on",
    }, beds);
    cmdqv_select(&beds[1]);
    cmdqv_on(&beds[1]);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_run_ok(&beds[1], q, CMD_TLBI_NH_ASID(5));
    }
    for (unsigned n = 0; n < 2; n++) {
        host_expect(g, SAID_TAKES_NONE);
    }
    cmdqv_control(&beds[1], "fail " INVALIDATE ":1+*=ENOMEM");
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(5));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ABT);
    smmu_ack(g, 0);
    host_check_faults(g, 1, HOST_VA);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_check_sync_fails(&beds[1], q);
    }
    cmdqv_control(&beds[1], "fail clear");
    g_assert_cmpuint(smmu_sync(g, 1), ==, SMMU_CERROR_ABT);
    smmu_ack(g, 1);
    smmu_cmd(g, 1, CMD_CFGI_STE(host_sid(g, 1)));
    smmu_sync_ok(g, 1);
    cmdqv_remap(&beds[1], 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    host_finish(g);
    alarm(0);
}

/*
 * Hostile values
 */

static void test_size(void)
{
    CmdqvBed *bed;
    uint64_t *slot, big;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    big = host_alloc(bed->g, 16 << 19);

    /* One entry: only the bit for the wrap is left of PROD */
    cmdqv_queue_off(bed, 0);
    cmdqv_set_q(bed, 0, CONS, 0);
    cmdqv_set_q(bed, 0, PROD, 0);
    cmdqv_set_base(bed, 0, big);
    slot = host_ram(bed->g, big);
    cmdqv_queue_enable(bed, 0);
    for (unsigned n = 1; n < 5; n++) {
        HostCmd cmd = n % 2 ? CMD_TLBI_NH_VA(1, HOST_VA, 1) : CMD_SYNC;

        slot[0] = cpu_to_le64(cmd.word[0]);
        slot[1] = cpu_to_le64(cmd.word[1]);
        cmdqv_set_q(bed, 0, PROD, n);
        g_assert_cmphex(cmdqv_q(bed, 0, CONS), ==, n % 2);
    }

    /* All ones: IDR1.CMDQS bounds the size, and the address follows it */
    cmdqv_queue_off(bed, 0);
    cmdqv_set_base(bed, 0, (big + 0x12340) | 31);
    cmdqv_set_q(bed, 0, CONS, 0x7fffe);
    cmdqv_set_q(bed, 0, PROD, 0x80001);
    slot = host_ram(bed->g, big + 16 * 0x7fffe);
    slot[0] = cpu_to_le64(CMD_TLBI_NH_VA(1, HOST_VA, 1).word[0]);
    slot[1] = cpu_to_le64(CMD_TLBI_NH_VA(1, HOST_VA, 1).word[1]);
    slot[2] = cpu_to_le64(CMD_SYNC.word[0]);
    slot = host_ram(bed->g, big);
    slot[0] = cpu_to_le64(CMD_SYNC.word[0]);
    slot[1] = 0;
    qatomic_set(bed->pte, 0);
    cmdqv_queue_enable(bed, 0);
    g_assert_false(cmdqv_halted(bed, 0));
    g_assert_cmphex(cmdqv_q(bed, 0, CONS), ==, 0x80001);
    host_check_faults(bed->g, 0, HOST_VA);
    cmdqv_bed_free(bed);
}

/* What QEMU has counted: its drains, and commands of all queues */
typedef struct Stats {
    uint64_t drains, tlbis, syncs;
} Stats;

static Stats stats(CmdqvBed *bed)
{
    QDict *smmu = host_query(bed->g, 0);
    const QDict *dict = qdict_get_qdict(qdict_get_qdict(smmu, "accel"),
                                        "stats");
    const QDict *tlbi = host_find(dict, "commands", "name", "TLBI_NH_VA");
    const QDict *sync = host_find(dict, "commands", "name", "SYNC");
    const QListEntry *e;
    Stats s = {
        .tlbis = tlbi ? qdict_get_int(tlbi, "count") : 0,
        .syncs = sync ? qdict_get_int(sync, "count") : 0,
    };

    QLIST_FOREACH_ENTRY(qdict_get_qlist(dict, "drains"), e) {
        s.drains += qdict_get_int(qobject_to(QDict, qlist_entry_obj(e)),
                                  "count");
    }
    qobject_unref(smmu);
    return s;
}

/* A PROD further ahead than there are entries, and one behind CONS */
static void test_overfull(void)
{
    static const HostGuestConfig config = {
        .n_devs = 1, .smmu_args = ON ",x-drain-us=1",
    };
    enum { N = (2 << 16) - 1, N_SYNCS = N / 16 };
    Stats before, after;
    unsigned own = 0;
    CmdqvBed *bed;
    uint64_t big, *slot;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new(config);
    cmdqv_on(bed);
    before = stats(bed);
    big = host_alloc(bed->g, 16 << 19);
    slot = host_ram(bed->g, big);
    for (unsigned n = 0; n < 1u << 16; n++) {
        slot[2 * n] = cpu_to_le64(n % 16 ? CMD_TLBI_NH_VA(1, 0, 0).word[0] :
                                  CMD_SYNC.word[0]);
        slot[2 * n + 1] = cpu_to_le64(n % 16 ? (uint64_t)n << 12 : 0);
    }
    cmdqv_queue_off(bed, 0);
    cmdqv_set_base(bed, 0, big | 16);
    cmdqv_set_q(bed, 0, CONS, 1);
    cmdqv_set_q(bed, 0, PROD, 0);
    cmdqv_queue_enable(bed, 0);
    /* QEMU answers meanwhile, and the SMMU's own queue is served */
    for (int n = 0; cmdqv_q(bed, 0, CONS); n++) {
        g_assert_cmpint(n, <, 1000000);
        qtest_qmp_assert_success(bed->g->qts, "{ 'execute': 'query-status' }");
        if (n % 64 == 0) {
            smmu_sync_ok(bed->g, 0);
            own++;
        }
    }
    g_assert_false(cmdqv_halted(bed, 0));
    after = stats(bed);
    g_assert_cmpuint(after.syncs - before.syncs, ==, N_SYNCS + own);
    g_assert_cmpuint(after.tlbis - before.tlbis, ==, N - N_SYNCS);
    /* A CMD_SYNC takes longer than a drain may; some share one nevertheless */
    g_assert_cmpuint(after.drains - before.drains, >, N_SYNCS / 4);
    cmdqv_bed_free(bed);
}

/* A queue stops with commands in it, and starts again elsewhere */
static void test_stop(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    cmdqv_on(bed);
    cmdqv_queue_off(bed, 0);
    cmdqv_put(bed, 0, CMD_CFGI_ALL);
    cmdqv_set_q(bed, 0, PROD, bed->prod[0]);
    g_assert_cmphex(cmdqv_q(bed, 0, CONS), ==, 0);
    /* CONS jumps over the command */
    cmdqv_set_q(bed, 0, CONS, bed->prod[0]);
    cmdqv_queue_enable(bed, 0);
    g_assert_false(cmdqv_halted(bed, 0));
    cmdqv_remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    /* The SMMU's own queue is off: VCMDQs are not */
    smmu_write(bed->g, 0, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_EVENTQEN);
    cmdqv_remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 0);
    cmdqv_bed_free(bed);
}

static void test_reset(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new();
    for (unsigned n = 0; n < 3; n++) {
        cmdqv_on(bed);
        cmdqv_remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
        cmdqv_put(bed, 1, CMD_CFGI_ALL);
        g_assert_cmpuint(cmdqv_run(bed, 1), ==, SMMU_CERROR_ILL);
        qtest_system_reset(bed->g->qts);
        bed->g->smmu[0].enabled = false;
        for (uint32_t offset = 0; offset < 0x1200; offset += 4) {
            const Row *row = row_of(offset, false);

            g_assert_cmphex(cmdqv_get(bed->g, offset), ==,
                            row ? row->value : 0);
        }
        for (unsigned q = 0; q < N_QUEUES; q++) {
            for (uint32_t offset = 0; offset < 0x80; offset += 4) {
                uint32_t at = GLOBAL + 0x80 * q + offset;

                g_assert_cmphex(cmdqv_get(bed->g, at), ==, 0);
                g_assert_cmphex(cmdqv_get(bed->g, at + BASE), ==, 0);
            }
        }
        cmdqv_bed_restart(bed);
    }
    cmdqv_bed_free(bed);
}

/*
 * A slow host
 */

/* One slow call shows that the host is slow */
static CmdqvBed *bed_new_slow(void)
{
    CmdqvBed *bed = bed_new();

    cmdqv_on(bed);
    cmdqv_make_slow(bed);
    return bed;
}

/* A thread waits for the host; QEMU, and then the queue, go on */
static void test_slow(const void *opaque)
{
    const char *how = opaque;
    uint32_t before;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_slow();
    cmdqv_control(bed, "zero");

    if (g_str_equal(how, "illegal")) {
        /* The batch, then the first command alone */
        cmdqv_control(bed, "fail " INVALIDATE ":1=EIO");
        cmdqv_control(bed, "fail " INVALIDATE ":2=EIO");
    }
    cmdqv_control(bed, "fail " INVALIDATE "~hold");
    qatomic_set(bed->pte, 0);
    before = bed->prod[0];
    cmdqv_put(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1));
    if (!g_str_equal(how, "no-sync")) {
        cmdqv_put(bed, 0, CMD_SYNC);
    }
    cmdqv_set_q(bed, 0, PROD, bed->prod[0]);
    cmdqv_wait_until_held(bed);
    g_assert_cmphex(cmdqv_q(bed, 0, CONS), ==, before);
    qtest_qmp_assert_success(bed->g->qts, "{ 'execute': 'query-status' }");
    /* Nothing else is drained now, and everything afterwards */
    cmdqv_put(bed, 1, CMD_TLBI_NH_ASID(1));
    cmdqv_put(bed, 1, CMD_SYNC);
    cmdqv_set_q(bed, 1, PROD, bed->prod[1]);
    g_assert_cmphex(cmdqv_q(bed, 1, CONS), ==, 0);
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    if (g_str_equal(how, "off")) {
        cmdqv_queue_off(bed, 0);
    } else if (g_str_equal(how, "illegal")) {
        /* The result is for the other queue */
        cmdqv_queue_off(bed, 1);
        cmdqv_queue_enable(bed, 1);
    } else if (g_str_equal(how, "reset")) {
        qtest_system_reset(bed->g->qts);
        bed->g->smmu[0].enabled = false;
    }
    cmdqv_control(bed, "release");
    if (g_str_equal(how, "no-sync")) {
        cmdqv_wait_for_cons(bed, 0, bed->prod[0]);
    }
    if (g_str_equal(how, "reset")) {
        cmdqv_bed_restart(bed);
        cmdqv_on(bed);
        cmdqv_remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
        cmdqv_bed_free(bed);
        return;
    }
    smmu_sync_ok(bed->g, 0);
    g_assert_cmpuint(cmdqv_run(bed, 1), ==, SMMU_CERROR_NONE);
    if (g_str_equal(how, "off")) {
        /* The job's result is no concern of a queue that was off */
        g_assert_cmphex(cmdqv_q(bed, 0, CONS), ==, before);
        cmdqv_queue_on(bed, 0);
    } else if (g_str_equal(how, "illegal")) {
        g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_ILL);
        g_assert_cmphex(cmdqv_q(bed, 0, CONS) & WRAP, ==, before);
        cmdqv_check_error_maps(bed, 1);
        cmdqv_skip_error(bed, 0);
        g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);
    } else {
        g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);
    }
    host_check_faults(bed->g, 0, HOST_VA);
    cmdqv_remap(bed, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
    cmdqv_bed_free(bed);
}

/*
 * While the host is slow, each invalidation is a job, and the other queues
 * wait. Those that have work for many jobs do not keep out VCMDQ 1, which has
 * some for one.
 */
static void test_slow_turns(const void *opaque)
{
    const char *busy = opaque;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_slow();
    cmdqv_control(bed, "fail " INVALIDATE ":1~hold");
    cmdqv_control(bed, "fail " INVALIDATE ":3~hold");
    for (unsigned n = 0; n < 4; n++) {
        smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(2 + n));
        smmu_cmd(bed->g, 0, CMD_SYNC);
        cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(12 + n));
        cmdqv_put(bed, 0, CMD_SYNC);
    }
    if (!g_str_equal(busy, "vcmdq")) {
        smmu_kick(bed->g, 0);
        cmdqv_wait_until_held(bed);
    }
    if (!g_str_equal(busy, "own")) {
        cmdqv_set_q(bed, 0, PROD, bed->prod[0]);
        cmdqv_wait_until_held(bed);
    }
    cmdqv_put(bed, 1, CMD_TLBI_NH_ASID(99));
    cmdqv_put(bed, 1, CMD_SYNC);
    cmdqv_set_q(bed, 1, PROD, bed->prod[1]);
    g_assert_cmphex(cmdqv_q(bed, 1, CONS), ==, 0);
    cmdqv_control(bed, "release");
    for (int n = 0; host_counter(bed->g, "held") < 2; n++) {
        g_assert_cmpint(n, <, 100000);
        g_usleep(100);
    }
    /* The second job was its TLBI */
    g_assert_cmphex(cmdqv_q(bed, 1, CONS), ==, 1);
    cmdqv_control(bed, "release");
    for (unsigned q = 0; q < N_QUEUES; q++) {
        g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_NONE);
    }
    smmu_sync_ok(bed->g, 0);
    cmdqv_bed_free(bed);
}

/*
 * A job lets streams follow SMMUEN, and belongs to no queue.  Meanwhile the
 * guest sets a disabled queue up anew: @opaque, "own" or a VCMDQ.
 */
static void test_slow_restore(const void *opaque)
{
    bool own = g_str_equal(opaque, "own");
    HostGuest *g;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_slow();
    g = bed->g;
    host_expect(g, SAID_TAKES_NONE);
    host_expect(g, SAID_CANNOT_MOVE);
    cmdqv_control(bed, "fail " INVALIDATE ":1+*=ETIMEDOUT");
    cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(5));
    cmdqv_put(bed, 0, CMD_SYNC);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_ABT);
    cmdqv_set(g, cmdqv_reg(0, GERRORN), cmdqv_get(g, cmdqv_reg(0, GERROR)));
    if (own) {
        /* The last queue that was drained is the SMMU's own */
        smmu_sync_ok(g, 0);
    }
    cmdqv_queue_off(bed, 0);

    cmdqv_control(bed, "fail clear");
    cmdqv_control(bed, "zero");
    cmdqv_control(bed, "fail " INVALIDATE "~hold");
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_EVENTQEN);
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_EVENTQEN | SMMU_CR0_SMMUEN);
    cmdqv_wait_until_held(bed);
    cmdqv_set(g, cmdqv_reg(0, PROD), 0);
    cmdqv_set(g, cmdqv_reg(0, CONS), 0);
    smmu_write(g, 0, SMMU_CMDQ_PROD, 0);
    smmu_write(g, 0, SMMU_CMDQ_CONS, 0);
    cmdqv_control(bed, "release");
    cmdqv_control(bed, "fail clear");
    /* It is drained after the job */
    cmdqv_put(bed, 1, CMD_SYNC);
    g_assert_cmpuint(cmdqv_run(bed, 1), ==, SMMU_CERROR_NONE);
    g_assert_cmphex(cmdqv_get(g, cmdqv_reg(0, CONS)), ==, 0);
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_EVENTQEN | SMMU_CR0_SMMUEN |
               SMMU_CR0_CMDQEN);
    cmdqv_enable(g, cmdqv_reg(0, QCONFIG), cmdqv_reg(0, QSTATUS), ENABLE);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), ==, 0);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR), ==,
                    smmu_read(g, 0, SMMU_GERRORN));
    g_assert_cmphex(cmdqv_get(g, cmdqv_reg(0, CONS)), ==, 0);
    g_assert_cmphex(cmdqv_get(g, cmdqv_reg(0, GERROR)), ==,
                    cmdqv_get(g, cmdqv_reg(0, GERRORN)));
    cmdqv_bed_free(bed);
}

/* A batch is full, in the middle of what a CMD_SYNC waits for */
static void test_slow_full(void)
{
    enum { N = 600, BIG_LOG2 = 10 };
    uint64_t queue, *slot;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_slow();
    cmdqv_queue_off(bed, 0);
    queue = host_alloc(bed->g, 16 << BIG_LOG2);
    slot = host_ram(bed->g, queue);
    for (unsigned n = 0; n <= N; n++) {
        HostCmd cmd = n < N ? CMD_TLBI_NH_ASID(n + 2) : CMD_SYNC;

        *slot++ = cpu_to_le64(cmd.word[0]);
        *slot++ = cpu_to_le64(cmd.word[1]);
    }
    cmdqv_set_q(bed, 0, PROD, 0);
    cmdqv_set_q(bed, 0, CONS, 0);
    cmdqv_set_base(bed, 0, queue | BIG_LOG2);
    cmdqv_queue_enable(bed, 0);
    cmdqv_control(bed, "zero");
    cmdqv_control(bed, "fail " INVALIDATE "~hold");
    cmdqv_set_q(bed, 0, PROD, N + 1);
    cmdqv_wait_until_held(bed);
    g_assert_cmphex(cmdqv_q(bed, 0, CONS), ==, 0);
    qtest_qmp_assert_success(bed->g->qts, "{ 'execute': 'query-status' }");
    cmdqv_control(bed, "fail clear");
    cmdqv_control(bed, "release");
    cmdqv_wait_for_cons(bed, 0, N + 1);
    g_assert_cmpuint(host_counter(bed->g, "smmu.cmd.TLBI_NH_ASID"), >=, N);
    cmdqv_bed_free(bed);
}

/* Each drain in the main loop */
static void test_main_loop(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON ",x-drain-us=0",
    });
    cmdqv_on(bed);
    for (unsigned n = 1; n < 9; n++) {
        cmdqv_remap(bed, n % 3 % N_QUEUES, CMD_TLBI_NH_VA(1, HOST_VA, 1),
                    n % 2);
    }
    cmdqv_put(bed, 0, CMD_TLBI_NSNH_ALL);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_ILL);
    cmdqv_bed_free(bed);
}

/*
 * The board
 */

static uint32_t word_at(const uint8_t *p)
{
    return ldl_le_p(p);
}

/*
 * The device of a CMDQV in the DSDT has its SMMU's identifier, and by that a
 * name of its own.
 */
static const uint8_t *find_acpi_device(const uint8_t *dsdt, size_t len,
                                       uint8_t identifier)
{
    g_autofree char *head = g_strdup_printf("CQ%02X\x08_HID\x0dNVDA200C",
                                            identifier);
    const uint8_t uid[] = { 0, 0x08, '_', 'U', 'I', 'D', 0x0a, identifier };
    const uint8_t *at = memmem(dsdt, len, head, strlen(head));

    g_assert_nonnull(at);
    at += strlen(head);
    g_assert_cmpmem(at, sizeof(uid), uid, sizeof(uid));
    return at;
}

static void test_acpi(void)
{
    static const uint8_t ids[] = { 200, 17 };
    static const uint8_t memory[] = { 0x86, 9, 0, 1 };
    static const uint8_t irq[] = { 0x89, 6, 0, 0x03, 1 };
    g_autofree char *args = g_strdup_printf(
        "-machine " SMMUV3_MACHINE " -bios %s -nic none "
        "-device pxb-pcie,id=pxb1,bus_nr=8,bus=pcie.0 "
        "-device pxb-pcie,id=pxb2,bus_nr=16,bus=pcie.0 "
        "-device arm-smmuv3,primary-bus=pcie.0,accel=on "
        "-device arm-smmuv3,primary-bus=pxb1,accel=on,cmdqv=on,identifier=200 "
        "-device arm-smmuv3,primary-bus=pxb2,accel=on,cmdqv=on,identifier=17",
        smmuv3_firmware());
    QTestState *qts = qtest_init(args);
    g_autofree uint8_t *dsdt = NULL;
    size_t len;

    dsdt = smmuv3_acpi_table(qts, "DSDT", &len);
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
        const uint8_t *at = find_acpi_device(dsdt, len, ids[i]), *p;
        size_t left = dsdt + len - at;

        p = memmem(at, left, memory, sizeof(memory));
        g_assert_nonnull(p);
        g_assert_cmphex(word_at(p + 4), ==, CMDQV + i * CMDQV_STRIDE);
        g_assert_cmphex(word_at(p + 8), ==, CMDQV_SIZE);
        g_assert_cmphex(qtest_readl(qts, word_at(p + 4) + PARAM), ==, 0x11);
        p = memmem(at, left, irq, sizeof(irq));
        g_assert_nonnull(p);
        g_assert_cmpuint(word_at(p + 5), ==, GSIV_CMDQV + 4 + GSIVS * i);
    }
    g_assert_null(memmem(dsdt, len, "CQ00", 4));
    qtest_quit(qts);
}

/*
 * Many SMMUs
 */

/* So many fit, because each needs 5 of the platform bus's 64 interrupts */
#define FIT     12

/* The VCMDQs of each invalidate, and tell of errors, whoever carries it out */
static void check_many(unsigned n, const char *smmu_args, bool hardware)
{
    CmdqvBed beds[FIT];
    HostGuest *g = cmdqv_beds_new((HostGuestConfig) {
        .n_vsmmus = n, .smmu_args = smmu_args, .host = "cmdqv=1\n",
    }, beds);
    uint64_t calls;

    for (unsigned i = 0; i < n; i++) {
        cmdqv_select(&beds[i]);
        cmdqv_on(&beds[i]);
        cmdqv_set_edge(&beds[i]);
        cmdqv_take_irq(&beds[i]);
    }
    g_assert_cmpuint(host_objects(g, "hw_queue"), ==,
                     hardware ? n * N_QUEUES : 0);
    calls = host_counter(g, "call.IOMMU_HWPT_INVALIDATE");
    /* All have the same ASID and address; an invalidation is one SMMU's */
    for (unsigned i = 0; i < n; i++) {
        cmdqv_select(&beds[i]);
        cmdqv_remap(&beds[i], 0, CMD_TLBI_NH_VA(1, HOST_VA, 1), 1);
        cmdqv_remap(&beds[i], 1, CMD_TLBI_NH_ASID(1), 0);
    }
    calls = host_counter(g, "call.IOMMU_HWPT_INVALIDATE") - calls;
    g_assert_cmpuint(calls, ==, hardware ? 0 : n * N_QUEUES);
    for (unsigned i = 0; i < n; i++) {
        cmdqv_select(&beds[i]);
        cmdqv_put(&beds[i], i % N_QUEUES, CMD_CFGI_ALL);
        g_assert_cmpuint(cmdqv_run(&beds[i], i % N_QUEUES), ==,
                         SMMU_CERROR_ILL);
        for (unsigned other = 0; other < n; other++) {
            cmdqv_select(&beds[other]);
            cmdqv_check_error_maps(&beds[other],
                                   other == i ? 1u << i % N_QUEUES : 0);
        }
        cmdqv_select(&beds[i]);
        for (int t = 0; !cmdqv_take_irq(&beds[i]); t++) {
            g_assert_cmpint(t, <, 100000);
            g_usleep(10);
        }
        cmdqv_skip_error(&beds[i], i % N_QUEUES);
        g_assert_cmpuint(cmdqv_run(&beds[i], i % N_QUEUES), ==,
                         SMMU_CERROR_NONE);
    }
    for (unsigned i = 0; i < n; i++) {
        cmdqv_select(&beds[i]);
        g_assert_false(cmdqv_take_irq(&beds[i]));
    }
    host_finish(g);
    alarm(0);
}

static void test_many(const void *opaque)
{
    bool hardware = g_str_equal(opaque, "hardware");
    g_autofree char *args = g_strconcat(ON ",x-cmdqv-backend=", opaque, NULL);

    if (host_skipped()) {
        return;
    }
    for (unsigned n = 1; n <= FIT; n++) {
        if (g_test_slow() || n == 1 || n == 5 || n == FIT) {
            check_many(n, args, hardware);
        }
    }
}

static char *many(unsigned n, const char *last)
{
    GString *args = g_string_new("-nic none");

    for (unsigned i = 1; i <= n; i++) {
        g_string_append_printf(args, " -device pxb-pcie,id=pxb%u,bus=pcie.0,"
                               "bus_nr=%u -device arm-smmuv3,accel=on%s,"
                               "primary-bus=pxb%u,id=s%u", i, i * 8,
                               i > FIT ? last : ON, i, i);
    }
    return g_string_free(args, false);
}

/* One without takes the last interrupts */
static void test_too_many(void)
{
    g_autofree char *fit = many(FIT + 1, ""), *one = many(FIT + 1, ON);
    g_autofree char *two = many(FIT + 2, "");
    QTestState *qts = qtest_initf("-machine " SMMUV3_MACHINE " -bios %s %s",
                                  smmuv3_firmware(), fit);
    uint32_t found = 0;

    for (uint64_t at = 0; at < 32 * MiB; at += CMDQV_STRIDE) {
        found += qtest_readl(qts, VIRT_PLATFORM_BUS_BASE + at + PARAM) == 0x11;
    }
    g_assert_cmpuint(found, ==, FIT);
    qtest_quit(qts);
    smmuv3_check_refused(SMMUV3_MACHINE, true, one,
                         "arm-smmuv3 's13': it needs 5 interrupts, and the "
                         "platform bus has 4 of its 64 left: it carries 12 "
                         "SMMUs with cmdqv=on at most, leave this one out, or "
                         "its cmdqv=on");
    smmuv3_check_refused(SMMUV3_MACHINE, true, two,
                         "arm-smmuv3 's14': it needs 4 interrupts, and the "
                         "platform bus has 0 of its 64 left: it carries 16 "
                         "SMMUs at most, leave this one out");
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
    qtest_add_func("/smmuv3-cmdqv/crossed", test_crossed);
    qtest_add_func("/smmuv3-cmdqv/illegal", test_illegal);
    qtest_add_data_func("/smmuv3-cmdqv/itself/memory", ON, test_itself);
    qtest_add_data_func("/smmuv3-cmdqv/itself/exit", ON_EXITS, test_itself);
    qtest_add_func("/smmuv3-cmdqv/memory", test_memory);
    qtest_add_func("/smmuv3-cmdqv/both", test_both);
    qtest_add_func("/smmuv3-cmdqv/abort", test_abort);
    qtest_add_func("/smmuv3-cmdqv/host-error", test_host_error);
    qtest_add_func("/smmuv3-cmdqv/sharer-fails", test_sharer_fails);
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
    qtest_add_data_func("/smmuv3-cmdqv/slow/turns/vcmdq", "vcmdq",
                        test_slow_turns);
    qtest_add_data_func("/smmuv3-cmdqv/slow/turns/own", "own",
                        test_slow_turns);
    qtest_add_data_func("/smmuv3-cmdqv/slow/turns/both", "both",
                        test_slow_turns);
    qtest_add_func("/smmuv3-cmdqv/slow/full", test_slow_full);
    qtest_add_func("/smmuv3-cmdqv/main-loop", test_main_loop);
    qtest_add_func("/smmuv3-cmdqv/acpi", test_acpi);
    qtest_add_data_func("/smmuv3-cmdqv/many/software", "software", test_many);
    qtest_add_data_func("/smmuv3-cmdqv/many/hardware", "hardware", test_many);
    qtest_add_func("/smmuv3-cmdqv/many/too-many", test_too_many);
    return g_test_run();
}
