/*
 * QTest of accel=on: a kernel takes over an SMMU that another one has left on
 *
 * A crash kernel may keep SMMUEN, because devices that nobody has stopped go on
 * with DMA. It adopts the Stream Table where it is, and moves the queues.
 * Firmware may leave an SMMU on as well, with tables that the next kernel does
 * not want. Runs on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define DEVS            3
#define CMDQ_WRAP       ((2u << HOST_CMDQ_LOG2) - 1)
#define EVENTQ_SLOTS    (1u << HOST_EVENTQ_LOG2)
#define MOST_LEFT       200u

static void raise_events(HostGuest *g, unsigned dev, unsigned n)
{
    qobject_unref(host_control(g, "event dma%u 0x%x 0 0x1000 0 %u", dev,
                               F_TRANSLATION, n));
}

static uint64_t moves(HostGuest *g)
{
    return host_counter(g, "call.VFIO_DEVICE_ATTACH_IOMMUFD_PT") +
           host_counter(g, "call.VFIO_DEVICE_DETACH_IOMMUFD_PT") +
           host_counter(g, "call.IOMMU_HWPT_ALLOC") +
           host_counter(g, "call.IOMMU_VDEVICE_ALLOC");
}

/*
 * A crash kernel
 */

typedef struct Crash {
    HostGuest *g;
    unsigned round;
    uint64_t messages;          /* page: IRQs', and one per command */
    unsigned first, left;       /* commands that the dead kernel has left */
    bool syncs[MOST_LEFT];      /* which of them are CMD_SYNCs */
    uint64_t moves;
} Crash;

static void dma_goes_on(Crash *c, const char *when)
{
    for (unsigned dev = 0; dev < DEVS; dev++) {
        uint64_t got = 0;

        if (!host_dma_read64(c->g, dev, HOST_VA, &got) || got != dev + 1) {
            g_error("round %u, %s: device %u reads 0x%" PRIx64, c->round, when,
                    dev, got);
        }
    }
}

static void write_and_check(Crash *c, unsigned reg, uint32_t value,
                            const char *what)
{
    smmu_write(c->g, 0, reg, value);
    dma_goes_on(c, what);
}

static uint64_t message_of(Crash *c, unsigned n)
{
    return c->messages + 64 + n * 4;
}

/* Commands in the queue, in part read; a stopped or full queue; interrupts */
static void die(Crash *c)
{
    HostGuest *g = c->g;
    bool illegal = g_test_rand_int_range(0, 4) == 0;
    unsigned bad = g_test_rand_int_range(0, MOST_LEFT);

    c->first = g->smmu[0].prod;
    c->left = g_test_rand_int_range(0, MOST_LEFT);
    for (unsigned n = 0; n < c->left; n++) {
        c->syncs[n] = false;
        if (illegal && n == bad) {
            smmu_cmd(g, 0, HOST_CMD(0xff, 0));
        } else if (n % 3 == 0) {
            c->syncs[n] = true;
            smmu_cmd(g, 0, CMD_SYNC_MSI(message_of(c, n), c->round));
        } else if (n % 3 == 1) {
            smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1 + n % DEVS));
        } else {
            smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, n % DEVS)));
        }
    }
    switch (g_test_rand_int_range(0, 3)) {
    case 0:
        raise_events(g, 0, EVENTQ_SLOTS + 100);
        break;
    case 1:
        raise_events(g, 1, 10);
        break;
    }
    if (c->left) {
        smmu_kick(g, 0);
    }
}

/* Commands that were consumed have sent their messages, and no others have */
static void check_left(Crash *c, uint32_t cons, const char *when)
{
    unsigned consumed = (cons - c->first) & CMDQ_WRAP;

    g_assert_cmpuint(consumed, <=, c->left);
    for (unsigned n = 0; n < c->left; n++) {
        uint32_t got = le32_to_cpu(qatomic_read(
            (uint32_t *)host_ram(c->g, message_of(c, n))));

        if ((got == c->round) != (c->syncs[n] && n < consumed)) {
            g_error("round %u, %s: of %u commands %u are consumed; the "
                    "message of %u is 0x%x", c->round, when, c->left,
                    consumed, n, got);
        }
    }
}

static void take_over(Crash *c)
{
    HostGuest *g = c->g;
    HostVsmmu *s = &g->smmu[0];
    const bool ack_late = g_test_rand_bit();
    uint64_t event[4];
    uint32_t cons;

    /* The queues are off, and what nobody has read is dropped */
    if (g_test_rand_bit()) {
        write_and_check(c, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_EVENTQEN,
                        "CMDQEN=0");
    }
    write_and_check(c, SMMU_CR0, SMMU_CR0_SMMUEN, "no queue");
    g_assert_cmphex(smmu_read(g, 0, SMMU_CR0ACK), ==, SMMU_CR0_SMMUEN);
    cons = smmu_read(g, 0, SMMU_CMDQ_CONS);
    check_left(c, cons & CMDQ_WRAP, "no queue");
    if (!ack_late) {
        write_and_check(c, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR), "ack");
    }
    write_and_check(c, SMMU_IRQ_CTRL, 0, "IRQ_CTRL=0");

    /* What belongs to the table cannot change, so that it may be written */
    g_assert_cmphex(smmu_read(g, 0, SMMU_STRTAB_BASE), ==, s->strtab);
    smmu_write64(g, 0, SMMU_STRTAB_BASE, g_test_rand_bit() ? s->strtab : 0);
    write_and_check(c, SMMU_STRTAB_CFG, g_test_rand_bit() ? s->strtab_cfg : 0,
                    "the table");
    write_and_check(c, SMMU_CR2, 0, "CR2");

    /* Other queues */
    s->cmdq ^= 16 << HOST_CMDQ_LOG2;
    s->eventq ^= 32 << HOST_EVENTQ_LOG2;
    s->prod = s->event_cons = 0;
    smmu_write64(g, 0, SMMU_CMDQ_BASE, s->cmdq | HOST_CMDQ_LOG2);
    smmu_write(g, 0, SMMU_CMDQ_PROD, 0);
    smmu_write(g, 0, SMMU_CMDQ_CONS, 0);
    write_and_check(c, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_CMDQEN, "CMDQEN");
    if (ack_late) {
        write_and_check(c, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR), "ack");
    }
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), ==, 0);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_cmd(g, 0, CMD_TLBI_NSNH_ALL);
    smmu_sync_ok(g, 0);
    dma_goes_on(c, "CFGI_ALL");

    smmu_write64(g, 0, SMMU_EVENTQ_BASE, s->eventq | HOST_EVENTQ_LOG2);
    smmu_write(g, 0, SMMU_EVENTQ_PROD, 0);
    smmu_write(g, 0, SMMU_EVENTQ_CONS, 0);
    write_and_check(c, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_CMDQEN |
                    SMMU_CR0_EVENTQEN, "EVENTQEN");
    smmu_write64(g, 0, SMMU_EVENTQ_IRQ_CFG, c->messages);
    smmu_write64(g, 0, SMMU_GERROR_IRQ_CFG, c->messages + 4);
    write_and_check(c, SMMU_IRQ_CTRL, 5, "IRQ_CTRL");

    check_left(c, cons & CMDQ_WRAP, "the new kernel runs");
    g_assert_cmphex(smmu_read(g, 0, SMMU_CR2), ==, SMMU_CR2_RECINVSID);
    g_assert_cmphex(smmu_read(g, 0, SMMU_STRTAB_CFG), ==, s->strtab_cfg);
    g_assert_cmpuint(moves(g), ==, c->moves);

    /* The new queue begins with an event of its own time */
    raise_events(g, 2, 1);
    for (int n = 0; !smmu_event(g, 0, event); n++) {
        g_assert_cmpint(n, <, 1000);
        g_usleep(100);
    }
    g_assert_cmphex(event[0], ==,
                    F_TRANSLATION | (uint64_t)host_sid(g, 2) << 32);
    g_assert_false(smmu_event(g, 0, event));
    g_assert_false(smmu_event_overflow(g, 0));
}

/* @opaque: how long a drain may take, in microseconds */
static void test_crash(const void *opaque)
{
    g_autofree char *smmu_args = g_strdup_printf(",x-drain-us=%s",
                                                 (const char *)opaque);
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = DEVS, .smmu_args = smmu_args,
    };
    Crash c = {};
    unsigned rounds = g_test_slow() ? 1000 : 100;

    if (host_skipped()) {
        return;
    }
    c.g = host_guest_new(&config);
    c.messages = host_alloc(c.g, 4096);
    /* Two queues of each kind, side by side */
    c.g->smmu[0].cmdq = host_alloc(c.g, 32 << HOST_CMDQ_LOG2);
    c.g->smmu[0].eventq = host_alloc(c.g, 64 << HOST_EVENTQ_LOG2);
    c.g->smmu[0].strtab = host_alloc(c.g, 64ull << HOST_SID_BITS);
    c.g->smmu[0].strtab_cfg = HOST_SID_BITS;
    host_enable(c.g, 0);
    for (unsigned dev = 0; dev < DEVS; dev++) {
        host_set_ste(c.g, dev, STE_S1(host_one_page_cd(c.g, dev + 1,
                                      host_new_page(c.g, dev + 1))));
    }
    c.moves = moves(c.g);
    for (c.round = 1; c.round <= rounds; c.round++) {
        dma_goes_on(&c, "the kernel dies");
        die(&c);
        take_over(&c);
    }
    /* Streams move again when the kernel wants it */
    host_set_ste(c.g, 0, STE_ABORT);
    host_check_faults(c.g, 0, HOST_VA);
    host_check_reads(c.g, 1, HOST_VA, 2);
    host_finish(c.g);
}

/*
 * Firmware
 */

#define SPLIT           8
#define L1_ENTRIES      (1u << (HOST_SID_BITS - SPLIT))
#define L1_CFG          (1u << 16 | SPLIT << 6 | HOST_SID_BITS)

#define STE_S2          (STE_V | 6ull << 1)
#define STE_NESTED      (STE_V | 7ull << 1)

/* All level-1 descriptors name one level-2 table, whose STEs are all @word0 */
static uint64_t shared_table(HostGuest *g, uint64_t word0)
{
    uint64_t l1 = host_alloc(g, 8 * L1_ENTRIES);
    uint64_t l2 = host_alloc(g, 64ull << SPLIT);

    for (unsigned n = 0; n < L1_ENTRIES; n++) {
        ((uint64_t *)host_ram(g, l1))[n] = cpu_to_le64(l2 | (SPLIT + 1));
    }
    for (unsigned n = 0; n < 1u << SPLIT; n++) {
        uint64_t *ste = host_ram(g, l2 + n * 64);

        ste[0] = cpu_to_le64(word0);
        ste[2] = cpu_to_le64(0x1a590ull << 32 | 1);     /* VTCR, VMID 1 */
        ste[3] = cpu_to_le64(l1);                       /* S2TTB */
    }
    return l1;
}

/* One C_BAD_STE for each device, and nothing else */
static void expect_bad_stes(HostGuest *g)
{
    uint64_t event[4];
    unsigned seen = 0;

    for (unsigned n = 0; n < DEVS; n++) {
        g_assert_true(smmu_event(g, 0, event));
        g_assert_cmphex(event[0] & 0xff, ==, C_BAD_STE);
        for (unsigned dev = 0; dev < DEVS; dev++) {
            seen |= event[0] >> 32 == host_sid(g, dev) ? 1u << dev : 0;
        }
    }
    g_assert_cmphex(seen, ==, (1u << DEVS) - 1);
    g_assert_false(smmu_event(g, 0, event));
}

static void all_abort(HostGuest *g)
{
    for (unsigned dev = 0; dev < DEVS; dev++) {
        host_check_faults(g, dev, HOST_RAM_BASE + 0x200000);
        g_assert_false(host_msi_arrives(g, dev));
    }
}

/* Linux reserves the window of MSIs: a STE that bypasses, then a 1:1 mapping */
static void window_works(HostGuest *g)
{
    for (unsigned dev = 0; dev < DEVS; dev++) {
        g_assert_true(host_msi_arrives(g, dev));
    }
}

static void firmware_starts(HostGuest *g, uint64_t word0)
{
    HostVsmmu *s = &g->smmu[0];

    s->strtab = shared_table(g, word0);
    s->strtab_cfg = L1_CFG;
    smmu_write(g, 0, SMMU_CR0, 0);
    smmu_enable(g, 0);
    all_abort(g);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_cmd(g, 0, CMD_TLBI_NSNH_ALL);
    smmu_sync_ok(g, 0);
    expect_bad_stes(g);
    for (unsigned dev = 0; dev < DEVS; dev++) {
        smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, dev)));
    }
    smmu_sync_ok(g, 0);
    expect_bad_stes(g);
    all_abort(g);
}

/* A table of the new kernel's own, with STEs that bypass */
static uint64_t bypass_table(HostGuest *g)
{
    uint64_t l1 = host_alloc(g, 8 * L1_ENTRIES);

    for (unsigned dev = 0; dev < DEVS; dev++) {
        uint64_t l2 = host_alloc(g, 64ull << SPLIT);
        uint32_t sid = host_sid(g, dev);

        ((uint64_t *)host_ram(g, l1))[sid >> SPLIT] =
            cpu_to_le64(l2 | (SPLIT + 1));
        *(uint64_t *)host_ram(g, l2 + (sid & ((1u << SPLIT) - 1)) * 64) =
            cpu_to_le64(STE_BYPASS);
    }
    return l1;
}

/* The default domain of each device, in its STE in the table at @l1 */
static void translate_all(HostGuest *g, uint64_t l1)
{
    for (unsigned dev = 0; dev < DEVS; dev++) {
        uint32_t sid = host_sid(g, dev);
        uint64_t l2 = le64_to_cpu(
            ((uint64_t *)host_ram(g, l1))[sid >> SPLIT]) & ~0x1full;
        uint64_t *ste = host_ram(g, l2 + (sid & ((1u << SPLIT) - 1)) * 64);

        memset(ste, 0, 64);
        qatomic_set(ste, cpu_to_le64(STE_S1(host_page_cd(g, dev + 1,
                                                         HOST_MSI_WINDOW,
                                                         HOST_MSI_WINDOW))));
        smmu_cmd(g, 0, CMD_CFGI_STE(sid));
    }
    smmu_sync_ok(g, 0);
    window_works(g);
    for (unsigned dev = 0; dev < DEVS; dev++) {
        host_check_faults(g, dev, HOST_RAM_BASE + 0x200000);
    }
}

/* As Linux does if it finds SMMUEN: GBPA.ABORT, CR0, a new table, SMMUEN */
static void linux_resets(HostGuest *g)
{
    HostVsmmu *s = &g->smmu[0];

    smmu_gbpa(g, 0, true);
    smmu_write(g, 0, SMMU_CR0, 0);
    all_abort(g);
    s->strtab = bypass_table(g);
    smmu_enable(g, 0);
    window_works(g);
    translate_all(g, s->strtab);
}

/* A kernel that keeps SMMUEN writes other level-1 descriptors, and CFGI_ALL */
static void linux_adopts(HostGuest *g)
{
    HostVsmmu *s = &g->smmu[0];
    uint64_t own = bypass_table(g);

    memcpy(host_ram(g, s->strtab), host_ram(g, own), 8 * L1_ENTRIES);
    all_abort(g);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    window_works(g);
    translate_all(g, s->strtab);
}

/* Firmware's stage-2 STEs, which a vSMMU without stage 2 does not have */
static void test_firmware(void)
{
    HostGuestConfig config = { .n_vsmmus = 1, .n_psmmus = 1, .n_devs = DEVS };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    for (unsigned dev = 0; dev < DEVS; dev++) {
        host_enable_msix(g, dev, host_alloc(g, 4096));
    }
    for (int n = 0; n < 4; n++) {
        firmware_starts(g, n & 1 ? STE_NESTED : STE_S2);
        if (n & 2) {
            linux_adopts(g);
        } else {
            linux_resets(g);
        }
        smmu_gbpa(g, 0, false);
    }
    host_finish(g);
}

int main(int argc, char **argv)
{
    static const char *const drains[] = { "0", "1", "1000" };

    g_test_init(&argc, &argv, NULL);
    for (int n = 0; n < ARRAY_SIZE(drains); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-takeover/crash/%s-us",
                                                drains[n]);

        qtest_add_data_func(path, drains[n], test_crash);
    }
    qtest_add_func("/smmuv3-takeover/firmware", test_firmware);
    return g_test_run();
}
