/*
 * QTest of an emulated SMMUv3's queues: events, interrupts and errors
 *
 * With accel=on the same rules have tests on the host model, in
 * smmuv3-event-test.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "smmuv3-test-util.h"

/* SMMUv3 registers (IHI 0070, 6.2) */
#define SMMU_CR0                0x20
#define SMMU_IRQ_CTRL           0x50
#define SMMU_GERROR             0x60
#define SMMU_GERRORN            0x64
#define SMMU_STRTAB_BASE        0x80
#define SMMU_STRTAB_BASE_CFG    0x88
#define SMMU_CMDQ_BASE          0x90
#define SMMU_CMDQ_PROD          0x98
#define SMMU_CMDQ_CONS          0x9c
#define SMMU_EVENTQ_BASE        0xa0
#define SMMU_EVENTQ_PROD        0x100a8
#define SMMU_EVENTQ_CONS        0x100ac

#define CR0_SMMUEN              0x1
#define CR0_EVENTQEN            0x4
#define CR0_CMDQEN              0x8
#define GERROR_CMDQ_ERR         0x1
#define GERROR_EVENTQ_ABT_ERR   0x4
#define CERROR_ILL              (1u << 24)
#define CERROR_ABT              (2u << 24)
#define OVFLG                   (1u << 31)

#define C_BAD_STE               0x4
#define F_CD_FETCH              0x9

/* Interrupts of virt's SMMU: events, PRI, CMD_SYNC, GERROR */
#define EVENTQ_IRQ              106
#define GERROR_IRQ              109

/* The GICv3's distributor (IHI 0069, 12.9) */
#define GICD_ISPENDR            (0x08000000 + 0x200)
#define GICD_ICPENDR            (0x08000000 + 0x280)
#define GICD_ICFGR              (0x08000000 + 0xc00)

#define STREAM_TABLE            (VIRT_RAM_BASE + 0x1000000)
#define EVENT_QUEUE             (VIRT_RAM_BASE + 0x2000000)
#define COMMAND_QUEUE           (VIRT_RAM_BASE + 0x2100000)
#define NO_MEMORY               (VIRT_RAM_BASE + 0x20000000)

/* An edu */
#define EDU_BAR                 (VIRT_PCIE_MMIO_BASE + 0x1000000)
#define EDU_SID                 (2 << 3)

static uint32_t get(QTestState *qts, unsigned reg)
{
    return qtest_readl(qts, VIRT_SMMU_BASE + reg);
}

static void set(QTestState *qts, unsigned reg, uint32_t value)
{
    qtest_writel(qts, VIRT_SMMU_BASE + reg, value);
}

static void set64(QTestState *qts, unsigned reg, uint64_t value)
{
    qtest_writeq(qts, VIRT_SMMU_BASE + reg, value);
}

/* Take an edge-triggered interrupt, which no vCPU does */
static bool take_irq(QTestState *qts, int gsiv)
{
    uint32_t bit = 1u << (gsiv % 32);
    bool pending = qtest_readl(qts, GICD_ISPENDR + gsiv / 32 * 4) & bit;

    qtest_writel(qts, GICD_ICPENDR + gsiv / 32 * 4, bit);
    return pending;
}

/* Every STE is invalid.  The event queue has two entries. */
static QTestState *start(void)
{
    QTestState *qts = qtest_initf("-nodefaults -cpu max -m 128 -machine %s,"
                                  "iommu=smmuv3 -bios %s -device edu,"
                                  "bus=pcie.0,addr=2.0,dma_mask=0xffffffff",
                                  SMMUV3_MACHINE, smmuv3_firmware());

    smmuv3_edu_enable(qts, VIRT_ECAM_BASE + (EDU_SID << 12), EDU_BAR);
    for (int gsiv = EVENTQ_IRQ; gsiv <= GERROR_IRQ; gsiv++) {
        uint64_t icfgr = GICD_ICFGR + gsiv / 16 * 4;

        qtest_writel(qts, icfgr, qtest_readl(qts, icfgr) |
                                 2u << (gsiv % 16 * 2));
    }
    set64(qts, SMMU_STRTAB_BASE, STREAM_TABLE);
    set(qts, SMMU_STRTAB_BASE_CFG, 16);
    set64(qts, SMMU_CMDQ_BASE, COMMAND_QUEUE | 4);
    set64(qts, SMMU_EVENTQ_BASE, EVENT_QUEUE | 1);
    set(qts, SMMU_IRQ_CTRL, 5);
    set(qts, SMMU_CR0, CR0_SMMUEN | CR0_EVENTQEN | CR0_CMDQEN);
    return qts;
}

/* A transaction, which the SMMU aborts */
static void fault(QTestState *qts)
{
    smmuv3_edu_dma(qts, EDU_BAR, true, VIRT_RAM_BASE + 0x100000, 4);
}

static bool have_edu(void)
{
    if (!qtest_has_device("edu")) {
        g_test_skip("no device to cause faults");
        return false;
    }
    return true;
}

/*
 * The interrupt says that the queue was empty (3.18.2). A full queue is an
 * overflow, and no error (7.4).
 */
static void test_events(void)
{
    QTestState *qts;

    if (!have_edu()) {
        return;
    }
    qts = start();
    g_assert_false(take_irq(qts, EVENTQ_IRQ));
    fault(qts);
    g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 1);
    g_assert_cmphex(qtest_readb(qts, EVENT_QUEUE), ==, C_BAD_STE);
    g_assert_true(take_irq(qts, EVENTQ_IRQ));
    fault(qts);
    g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 2);
    g_assert_false(take_irq(qts, EVENTQ_IRQ));

    for (int n = 0; n < 2; n++) {
        fault(qts);
        g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 2 | OVFLG);
        g_assert_cmphex(get(qts, SMMU_GERROR), ==, 0);
        g_assert_false(take_irq(qts, EVENTQ_IRQ));
        g_assert_false(take_irq(qts, GERROR_IRQ));
    }

    /* An overflow that is not acknowledged stops no event */
    set(qts, SMMU_EVENTQ_CONS, 1);
    fault(qts);
    g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 3 | OVFLG);
    g_assert_false(take_irq(qts, EVENTQ_IRQ));
    set(qts, SMMU_EVENTQ_CONS, 3 | OVFLG);
    fault(qts);
    g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 0 | OVFLG);
    g_assert_true(take_irq(qts, EVENTQ_IRQ));
    fault(qts);
    fault(qts);
    g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 1);
    qtest_quit(qts);
}

/* A queue that aborts is not written until the guest acknowledges (7.2.1) */
static void test_abort(void)
{
    QTestState *qts;

    if (!have_edu()) {
        return;
    }
    qts = start();
    set(qts, SMMU_CR0, CR0_SMMUEN | CR0_CMDQEN);
    set64(qts, SMMU_EVENTQ_BASE, NO_MEMORY | 1);
    set(qts, SMMU_CR0, CR0_SMMUEN | CR0_EVENTQEN | CR0_CMDQEN);
    fault(qts);
    g_assert_cmphex(get(qts, SMMU_GERROR), ==, GERROR_EVENTQ_ABT_ERR);
    g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 0);
    g_assert_true(take_irq(qts, GERROR_IRQ));
    g_assert_false(take_irq(qts, EVENTQ_IRQ));

    set(qts, SMMU_CR0, CR0_SMMUEN | CR0_CMDQEN);
    set64(qts, SMMU_EVENTQ_BASE, EVENT_QUEUE | 1);
    set(qts, SMMU_CR0, CR0_SMMUEN | CR0_EVENTQEN | CR0_CMDQEN);
    for (int n = 0; n < 3; n++) {
        fault(qts);
        g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 0);
    }
    set(qts, SMMU_GERRORN, GERROR_EVENTQ_ABT_ERR);
    fault(qts);
    g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 1);
    g_assert_true(take_irq(qts, EVENTQ_IRQ));
    g_assert_false(take_irq(qts, GERROR_IRQ));
    qtest_quit(qts);
}

/* The address of a CD that cannot be read is in the last 64 bits (7.3.10) */
static void test_cd_fetch(void)
{
    QTestState *qts;

    if (!have_edu()) {
        return;
    }
    qts = start();
    qtest_writeq(qts, STREAM_TABLE + EDU_SID * 64, NO_MEMORY | 5 << 1 | 1);
    fault(qts);
    g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 1);
    g_assert_cmphex(qtest_readl(qts, EVENT_QUEUE), ==, F_CD_FETCH);
    g_assert_cmphex(qtest_readl(qts, EVENT_QUEUE + 4), ==, EDU_SID);
    g_assert_cmphex(qtest_readq(qts, EVENT_QUEUE + 16), ==, 0);
    g_assert_cmphex(qtest_readq(qts, EVENT_QUEUE + 24), ==, NO_MEMORY);
    qtest_quit(qts);
}

/* Stage 2 with the tables of AArch32, which this SMMU does not have (5.2) */
static void test_aarch32(void)
{
    uint64_t word2 = 25ull << 32 | 1ull << 38;  /* S2T0SZ, S2SL0 */
    QTestState *qts;

    if (!have_edu()) {
        return;
    }
    qts = start();
    qtest_writeq(qts, STREAM_TABLE + EDU_SID * 64, 6 << 1 | 1);
    qtest_writeq(qts, STREAM_TABLE + EDU_SID * 64 + 16, word2);
    fault(qts);
    g_assert_cmphex(get(qts, SMMU_EVENTQ_PROD), ==, 1);
    g_assert_cmphex(qtest_readl(qts, EVENT_QUEUE), ==, C_BAD_STE);
    g_assert_cmphex(qtest_readl(qts, EVENT_QUEUE + 4), ==, EDU_SID);
    qtest_quit(qts);
}

/* A command queue that cannot be read (7.1) */
static void test_command_abort(void)
{
    QTestState *qts = start();

    set(qts, SMMU_CR0, CR0_SMMUEN);
    set64(qts, SMMU_CMDQ_BASE, NO_MEMORY | 4);
    set(qts, SMMU_CR0, CR0_SMMUEN | CR0_CMDQEN);
    set(qts, SMMU_CMDQ_PROD, 1);
    g_assert_cmphex(get(qts, SMMU_CMDQ_CONS), ==, CERROR_ABT);
    g_assert_cmphex(get(qts, SMMU_GERROR), ==, GERROR_CMDQ_ERR);
    g_assert_true(take_irq(qts, GERROR_IRQ));
    qtest_quit(qts);
}

/* Commands that a Non-secure queue never has (4.2, 4.4.2.5) */
static void test_illegal(void)
{
    static const struct {
        uint32_t word0;
        bool ill;
    } rows[] = {
        { 0x01, false }, { 0x02, false }, { 0x01 | 1 << 10, true },
        { 0x02 | 1 << 10, true }, { 0x03 | 1 << 10, true }, { 0x18, true },
        { 0x1a, true }, { 0x46, false }, { 0x50, true },
    };
    QTestState *qts = qtest_initf("-nodefaults -cpu max -m 128 -machine %s,"
                                  "iommu=smmuv3 -bios %s", SMMUV3_MACHINE,
                                  smmuv3_firmware());

    set64(qts, SMMU_CMDQ_BASE, COMMAND_QUEUE | 4);
    for (int n = 0; n < ARRAY_SIZE(rows); n++) {
        uint32_t gerrorn = get(qts, SMMU_GERRORN);

        qtest_writeq(qts, COMMAND_QUEUE, rows[n].word0);
        set(qts, SMMU_CMDQ_PROD, 0);
        set(qts, SMMU_CMDQ_CONS, 0);
        set(qts, SMMU_CR0, CR0_CMDQEN);
        set(qts, SMMU_CMDQ_PROD, 1);
        g_test_message("command 0x%x", rows[n].word0);
        g_assert_cmphex(get(qts, SMMU_CMDQ_CONS), ==,
                        rows[n].ill ? CERROR_ILL : 1);
        g_assert_cmphex(get(qts, SMMU_GERROR), ==,
                        gerrorn ^ (rows[n].ill ? GERROR_CMDQ_ERR : 0));
        set(qts, SMMU_CR0, 0);
        set(qts, SMMU_GERRORN, get(qts, SMMU_GERROR));
    }
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!qtest_has_machine("virt")) {
        return g_test_run();
    }
    qtest_add_func("/smmuv3-queue/events", test_events);
    qtest_add_func("/smmuv3-queue/abort", test_abort);
    qtest_add_func("/smmuv3-queue/cd-fetch", test_cd_fetch);
    qtest_add_func("/smmuv3-queue/aarch32", test_aarch32);
    qtest_add_func("/smmuv3-queue/command-abort", test_command_abort);
    qtest_add_func("/smmuv3-queue/illegal", test_illegal);
    return g_test_run();
}
