/*
 * QTest of accel=on: the guest's own command queues in hardware
 *
 * The host is the model with a Tegra241 CMDQV. Its hardware is a thread that
 * reads commands from guest memory, and forgets nothing without them. QEMU must
 * give the queues away and take them back at any time, and nobody may notice.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-cmdqv.h"

#define INVALIDATE      "call.IOMMU_HWPT_INVALIDATE"
#define ON              ",cmdqv=on"
#define HARDWARE        ",cmdqv=on,x-cmdqv-backend=hardware"
#define SOFTWARE        ",cmdqv=on,x-cmdqv-backend=software"

/* Where that is not what the user wants, a person reads so */
#define SOFTWARE_SAYS   "QEMU carries out the commands of VCMDQs"

/* Of the model: a host with a CMDQV */
#define HOST            "cmdqv=1\n"

/* Does the hardware have the queues? Then the guest's page 0 is the host's. */
static bool in_hardware(CmdqvBed *bed)
{
    bool mapped = host_has_region(bed->g, "arm-smmuv3-vintf");

    g_assert_cmpuint(host_objects(bed->g, "hw_queue"), ==,
                     mapped ? N_QUEUES : 0);
    return mapped;
}

static CmdqvBed *bed_new(const char *smmu_args)
{
    return cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = smmu_args, .host = HOST,
    });
}

static CmdqvBed *bed_new_on(void)
{
    CmdqvBed *bed = bed_new(ON);

    cmdqv_on(bed);
    g_assert_true(in_hardware(bed));
    cmdqv_check_owner(bed, "hardware");
    return bed;
}

/* The guest starts a queue anew, which lets QEMU ask the host again */
static void restart_queue(CmdqvBed *bed, unsigned q)
{
    cmdqv_queue_off(bed, q);
    cmdqv_queue_on(bed, q);
}

/* Both queues invalidate, @n times, and no call for it reaches the host */
static void check_works(CmdqvBed *bed, unsigned n, bool hardware)
{
    uint64_t calls = host_counter(bed->g, INVALIDATE);

    for (unsigned i = 1; i <= n; i++) {
        cmdqv_remap(bed, i % 3 % N_QUEUES, i % 4 < 2 ?
                    CMD_TLBI_NH_VA(1, HOST_VA, i & 1) : CMD_TLBI_NH_ASID(1),
                    i % 2);
    }
    g_assert_cmpint(in_hardware(bed), ==, hardware);
    g_assert_cmpint(host_counter(bed->g, INVALIDATE) == calls, ==, hardware);
}

static void use(CmdqvBed *bed, unsigned n)
{
    for (unsigned q = 0; q < n; q++) {
        cmdqv_run_ok(bed, q, CMD_TLBI_NH_ASID(77));
    }
}

/*
 * The hardware has the queues
 */

static void test_invalidate(const void *opaque)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(opaque);
    cmdqv_on(bed);
    /* More than the queues hold, so that they wrap */
    check_works(bed, 80, true);
    /* QEMU has read none of these commands, and knows where the queues are */
    cmdqv_check_owner(bed, "hardware");
    /* The SMMU's own queue serves as before */
    qatomic_set(bed->pte, 0);
    smmu_cmd(bed->g, 0, CMD_TLBI_NSNH_ALL);
    smmu_sync_ok(bed->g, 0);
    host_check_faults(bed->g, 0, HOST_VA);
    cmdqv_bed_free(bed);
}

static void test_software(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(SOFTWARE);
    cmdqv_on(bed);
    check_works(bed, 20, false);
    cmdqv_bed_free(bed);
}

/* An ATC_INV reaches the device whose StreamID it has in the guest */
static void test_atc(void)
{
    uint64_t got = 0, *ste;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .host = HOST, .device = "ats=on",
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
    g_assert_true(in_hardware(bed));
    g_assert_cmpuint(host_atc_entries(bed->g, 0), ==, 0);
    g_assert_false(host_ats_read64(bed->g, 0, HOST_VA, &got));
    cmdqv_bed_free(bed);
}

/* QEMU translates for the MSIs of a port. It sees no TLBI: nothing is cached */
static void test_bridge(void)
{
    uint32_t *target;
    uint64_t *pte, other;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    /* The second device stays, and so do the queues */
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 2, .smmu_args = ON, .host = HOST,
    });
    cmdqv_on(bed);
    target = host_map_port_msi(bed->g, 2, &pte);
    other = host_new_page(bed->g, 0);
    qatomic_set(pte, cpu_to_le64(host_leaf(3, other, PTE_DATA)));
    cmdqv_run_ok(bed, 0, CMD_TLBI_NH_VA(2, HOST_VA, 1));
    qtest_writew(bed->g->qts, host_slot_control(bed->g, 0),
                 host_slot_off(bed->g, 0) | PCI_EXP_SLTCTL_PDCE |
                 PCI_EXP_SLTCTL_HPIE);
    for (int n = 0; !qatomic_read((uint32_t *)host_ram(bed->g, other)); n++) {
        g_assert_cmpint(n, <, 20000);
        qtest_readl(bed->g->qts, CMDQV);
        g_usleep(100);
    }
    g_assert_true(in_hardware(bed));
    g_assert_cmphex(qatomic_read(target), ==, 0);
    host_guest_free(bed->g);
    g_free(bed);
    alarm(0);
}

/* Registers in other pages agree with those that the hardware has */
static void test_registers(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    cmdqv_remap(bed, 1, CMD_TLBI_NH_ASID(1), 1);
    cmdqv_check_registers(bed);
    g_assert_true(in_hardware(bed));
    cmdqv_bed_free(bed);
}

/* IDR1.CMDQS: a queue must fit into a page of the guest's memory */
static void test_size(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(ON);
    g_assert_cmpuint(extract32(smmu_read(bed->g, 0, SMMU_IDR1), 21, 5), ==,
                     ctz64(qemu_real_host_page_size()) - 4);
    g_assert_cmpuint(host_said(bed->g, SAID_SHORT_QUEUES), ==, 1);
    cmdqv_bed_free(bed);
    /* The host's own are shorter, and huge pages would change nothing */
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .host = HOST "cmdqs=7\n",
    });
    g_assert_cmpuint(extract32(smmu_read(bed->g, 0, SMMU_IDR1), 21, 5), ==, 7);
    g_assert_cmpuint(host_said(bed->g, "give the machine huge pages"), ==, 0);
    cmdqv_on(bed);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
    bed = bed_new(SOFTWARE);
    g_assert_cmpuint(extract32(smmu_read(bed->g, 0, SMMU_IDR1), 21, 5), ==, 19);
    cmdqv_bed_free(bed);
}

/* Huge pages permit long queues; the host has such runs of memory then */
static void test_huge_pages(void)
{
    const unsigned log2 = 17;           /* 16 bytes each, in 2 MiB */
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    g_setenv("HOST_MODEL_HUGE_PAGES", "0x200000", true);
    bed = bed_new(ON);
    g_unsetenv("HOST_MODEL_HUGE_PAGES");
    g_assert_cmpuint(extract32(smmu_read(bed->g, 0, SMMU_IDR1), 21, 5), ==,
                     log2);
    g_assert_cmpuint(host_said(bed->g, SAID_SHORT_QUEUES), ==, 0);
    cmdqv_control(bed, "contiguous 0x200000");
    cmdqv_on(bed);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        bed->queue[q] = host_alloc(bed->g, 16 << log2);
        cmdqv_queue_off(bed, q);
        cmdqv_set_q(bed, q, CONS, 0);
        cmdqv_set_base(bed, q, bed->queue[q] | log2);
        cmdqv_queue_enable(bed, q);
    }
    check_works(bed, 10, true);
    cmdqv_bed_free(bed);
}

/*
 * There and back
 */

/* Writes that take the queues back; afterwards the hardware has them again */
static void test_control(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    for (unsigned n = 0; n < CMDQV_WRITES; n++) {
        check_works(bed, 3, true);
        cmdqv_set(bed->g, cmdqv_writes[n].offset, cmdqv_writes[n].value);
        check_works(bed, 6, true);
    }
    /* A command by a global number */
    cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(1));
    qatomic_set(bed->pte, 0);
    cmdqv_put(bed, 0, CMD_SYNC);
    cmdqv_set(bed->g, GLOBAL + PROD, bed->prod[0]);
    cmdqv_wait_for_cons(bed, 0, bed->prod[0]);
    g_assert_true(in_hardware(bed));
    host_check_faults(bed->g, 0, HOST_VA);
    cmdqv_bed_free(bed);
}

/* What is switched off while the hardware has the queues, and on again */
static void test_off(void)
{
    static const struct {
        uint32_t offset, value;
    } off[] = {
        { CONFIG, 0 }, { VINTF_CONFIG, 0 }, { GLOBAL + QCONFIG, 0 },
        { ALLOC(0), 0 }, { ALLOC(0), ALLOC_ALLOCATED | ALLOC_LVCMDQ(2) },
        { ALLOC(0), UINT32_MAX },
    };
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    for (unsigned n = 0; n < ARRAY_SIZE(off); n++) {
        uint32_t before = cmdqv_get(bed->g, off[n].offset);

        cmdqv_set(bed->g, off[n].offset, off[n].value);
        g_assert_cmphex(cmdqv_get(bed->g, GLOBAL + QSTATUS), ==, 0);
        g_assert_false(in_hardware(bed));
        cmdqv_put(bed, 0, CMD_SYNC);
        cmdqv_set(bed->g, GLOBAL + PROD, bed->prod[0]);
        g_assert_cmphex(cmdqv_get(bed->g, GLOBAL + CONS), !=, bed->prod[0]);
        cmdqv_set(bed->g, off[n].offset, before);
        check_works(bed, 4, true);
    }
    /* One queue, in the hardware's own page, and by another base */
    cmdqv_queue_off(bed, 1);
    cmdqv_put(bed, 1, CMD_SYNC);
    cmdqv_set_q(bed, 1, PROD, bed->prod[1]);
    g_usleep(20000);
    g_assert_cmphex(cmdqv_q(bed, 1, CONS), !=, bed->prod[1]);
    bed->queue[1] = host_alloc(bed->g, 16 << LOG2);
    cmdqv_set_q(bed, 1, CONS, 0);
    cmdqv_queue_on(bed, 1);
    check_works(bed, 4, true);
    /* A single one that is allocated: the second must not be there alone */
    cmdqv_queue_off(bed, 1);
    cmdqv_set(bed->g, ALLOC(1), 0);
    cmdqv_remap(bed, 0, CMD_TLBI_NH_ASID(1), 0);
    g_assert_cmpuint(host_objects(bed->g, "hw_queue"), ==, 1);
    cmdqv_set(bed->g, ALLOC(0), 0);
    cmdqv_set(bed->g, ALLOC(1), ALLOC_LVCMDQ(1) | ALLOC_ALLOCATED);
    cmdqv_queue_on(bed, 1);
    cmdqv_remap(bed, 1, CMD_TLBI_NH_ASID(1), 1);
    g_assert_false(in_hardware(bed));
    /* Numbers that are crossed */
    cmdqv_set(bed->g, ALLOC(0), ALLOC_LVCMDQ(1) | ALLOC_ALLOCATED);
    cmdqv_set(bed->g, ALLOC(1), ALLOC_LVCMDQ(0) | ALLOC_ALLOCATED);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_set_q(bed, q, QCONFIG, 0);
        cmdqv_set_q(bed, q, CONS, 0);
        cmdqv_queue_on(bed, q);
    }
    check_works(bed, 8, true);
    cmdqv_bed_free(bed);
}

/* The host is slow, which QEMU notes at one call; the hardware is as before */
static void make_slow(CmdqvBed *bed)
{
    host_make_slow(bed->g, 0);
    check_works(bed, 5, true);
}

static void wait_for_hardware(CmdqvBed *bed)
{
    for (int n = 0; !host_has_region(bed->g, "arm-smmuv3-vintf"); n++) {
        g_assert_cmpint(n, <, 10000);
        g_usleep(1000);
    }
}

/*
 * The last device goes and comes: the queues go on where they are.  QEMU
 * invalidates everything once when it goes, which also completes what the
 * hardware has read.  @slow: it does not wait for a slow host.
 */
static void test_plug(const void *slow)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    if (slow) {
        make_slow(bed);
    }
    for (unsigned n = 0; n < 10; n++) {
        char *error;

        check_works(bed, 5, true);
        cmdqv_control(bed, "zero");
        host_guest_unplug(bed->g, 0);
        g_assert_cmpuint(host_counter(bed->g, INVALIDATE), ==, !slow);
        g_assert_false(in_hardware(bed));
        cmdqv_run_ok(bed, n % N_QUEUES, CMD_TLBI_NH_ASID(1));
        if (!n) {
            host_check_rests(bed->g);
        }
        error = host_guest_plug(bed->g, 0);
        g_assert_cmpstr(error, ==, NULL);
        /* The guest does nothing for that */
        if (slow) {
            wait_for_hardware(bed);
        }
        g_assert_true(in_hardware(bed));
        host_setup_device(bed->g, 0);
    }
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

static void test_reset(void)
{
    uint32_t idr1;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    idr1 = smmu_read(bed->g, 0, SMMU_IDR1);
    for (unsigned n = 0; n < 5; n++) {
        cmdqv_remap(bed, 1, CMD_TLBI_NH_ASID(1), n % 2);
        qtest_system_reset(bed->g->qts);
        g_assert_false(in_hardware(bed));
        g_assert_cmphex(smmu_read(bed->g, 0, SMMU_IDR1), ==, idr1);
        g_assert_cmphex(cmdqv_get(bed->g, CONFIG), ==, 0);
        g_assert_cmphex(cmdqv_get(bed->g, GLOBAL + CONS), ==, 0);
        host_setup_pci(bed->g);
        bed->g->smmu[0].enabled = false;
        host_enable(bed->g, 0);
        cmdqv_on(bed);
        check_works(bed, 5, true);
    }
    cmdqv_bed_free(bed);
}

/*
 * Errors of the guest
 */

static void wait_irq(CmdqvBed *bed)
{
    for (int n = 0; n < 100000; n++) {
        if (cmdqv_take_irq(bed)) {
            return;
        }
        g_usleep(10);
    }
    g_error("there is no interrupt");
}

/* A queue halts, the guest is told, and the other one goes on */
static void check_halts(CmdqvBed *bed, unsigned q, HostCmd cmd)
{
    uint32_t at = bed->prod[q];
    bool masked = cmdqv_get(bed->g, VINTF_INT_MASK);

    g_assert_true(in_hardware(bed));
    cmdqv_put(bed, q, cmd);
    cmdqv_put(bed, q, CMD_TLBI_NH_VA(1, HOST_VA, 1));
    cmdqv_put(bed, q, CMD_SYNC);
    g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_ILL);
    g_assert_cmphex(cmdqv_q(bed, q, CONS), ==, at | SMMU_CERROR_ILL << 24);
    cmdqv_check_error_maps(bed, 1u << q);
    if (masked) {
        g_usleep(20000);
        g_assert_false(cmdqv_take_irq(bed));
    } else {
        wait_irq(bed);
    }
    g_assert_true(in_hardware(bed));
    cmdqv_remap(bed, !q, CMD_TLBI_NH_VA(1, HOST_VA, 1), 0);
    smmu_sync_ok(bed->g, 0);
    qatomic_set(bed->pte, cpu_to_le64(host_leaf(3, bed->page[1], PTE_DATA)));
    cmdqv_skip_error(bed, q);
    g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_NONE);
    cmdqv_check_error_maps(bed, 0);
    host_check_reads(bed->g, 0, HOST_VA, TAG(1));
    g_assert_true(in_hardware(bed));
}

static void test_illegal(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    cmdqv_set_edge(bed);
    cmdqv_take_irq(bed);
    for (unsigned op = 0; op < 0x10; op++) {
        check_halts(bed, op % N_QUEUES, HOST_CMD(op, 0));
    }
    check_halts(bed, 0, CMD_TLBI_NSNH_ALL);
    check_halts(bed, 1, CMD_SYNC_IRQ);
    cmdqv_set(bed->g, VINTF_INT_MASK, 1);
    check_halts(bed, 1, CMD_CFGI_ALL);
    cmdqv_bed_free(bed);
}

/* The user names the SMMU behind its device: all is as usual */
static void test_order(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .host = HOST, .no_smmu = true,
        .args = "-device arm-smmuv3,id=s0,accel=on,primary-bus=pcie.0" ON,
    });
    cmdqv_on(bed);
    check_works(bed, 5, true);
    cmdqv_set_edge(bed);
    cmdqv_take_irq(bed);
    check_halts(bed, 0, CMD_CFGI_ALL);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/* A device that comes before its SMMU is refused, after one that was taken */
static void test_order_refused(void)
{
    g_autofree char *err = NULL;

    if (host_skipped()) {
        return;
    }
    err = host_guest_refused(&(HostGuestConfig) {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2, .no_smmu = true,
        .host = HOST "cmdqv_sids=0\n",
        .args = "-device arm-smmuv3,id=s0,accel=on,primary-bus=pcie.0" ON,
    });
    g_assert_nonnull(strstr(err, "has room for 1 devices"));
}

/* The queues come back while one of them halts, and stay until it goes on */
static void test_halted(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    cmdqv_put(bed, 1, CMD_TLBI_NSNH_ALL);
    g_assert_cmpuint(cmdqv_run(bed, 1), ==, SMMU_CERROR_ILL);
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    g_assert_false(in_hardware(bed));
    cmdqv_check_error_maps(bed, 2);
    g_assert_cmphex(cmdqv_q(bed, 1, CONS) >> 24, ==, SMMU_CERROR_ILL);
    cmdqv_remap(bed, 0, CMD_TLBI_NH_ASID(1), 1);
    g_assert_false(in_hardware(bed));
    cmdqv_check_in_memory(bed);
    cmdqv_skip_error(bed, 1);
    check_works(bed, 5, true);
    cmdqv_check_error_maps(bed, 0);
    cmdqv_bed_free(bed);
}

/* Bits that are reserved, in the page of the hardware, which ignores them */
static void test_reserved(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    use(bed, N_QUEUES);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_set_q(bed, q, GERRORN, cmdqv_q(bed, q, GERROR) | ~1u);
        cmdqv_set_q(bed, q, PROD, bed->prod[q] | ~WRAP);
    }
    cmdqv_check_error_maps(bed, 0);
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    cmdqv_check_error_maps(bed, 0);
    check_works(bed, 3, true);
    cmdqv_bed_free(bed);
}

/* Queues that the host cannot read: QEMU keeps them, and reports as it does */
static void test_hostile(void)
{
    static const uint64_t bases[] = {
        0, 31, 0x1000 | 1, HOST_RAM_BASE + HOST_RAM_SIZE,
        HOST_RAM_BASE + HOST_RAM_SIZE - (16 << LOG2) + (1ull << 40),
        0xffffffffffe0ull | LOG2, UINT64_MAX, CMDQV | LOG2,
        HOST_RAM_BASE | 31, HOST_RAM_BASE | 0,
    };
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    host_expect(bed->g, SOFTWARE_SAYS);
    for (unsigned n = 0; n < ARRAY_SIZE(bases); n++) {
        cmdqv_queue_off(bed, 1);
        cmdqv_set_base(bed, 1, bases[n]);
        cmdqv_set_q(bed, 1, PROD, 0);
        cmdqv_set_q(bed, 1, CONS, 0);
        cmdqv_queue_enable(bed, 1);
        g_assert_false(in_hardware(bed));
        cmdqv_remap(bed, 0, CMD_TLBI_NH_ASID(1), n % 2);
    }
    restart_queue(bed, 1);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/* The machine's memory is that of two NUMA nodes */
static void test_numa(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .host = HOST, .numa = true,
    });
    /* A queue in each of them, which begins or ends the node */
    bed->queue[0] = HOST_RAM_BASE + HOST_RAM_SIZE / 2 - (16 << LOG2);
    bed->queue[1] = HOST_RAM_BASE + HOST_RAM_SIZE / 2;
    g_assert_cmphex(bed->g->free_ram, <=, bed->queue[0]);
    cmdqv_on(bed);
    check_works(bed, 20, true);
    cmdqv_bed_free(bed);
}

/* Memory that may be unmapped: the host would keep it, and VFIO could not */
static void test_dimm(void)
{
    const uint64_t base = 0x80000000;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .host = HOST,
        .args = "-m 256M,slots=1,maxmem=1G "
                "-object memory-backend-ram,id=extra,size=128M "
                "-device pc-dimm,id=dimm0,memdev=extra,addr=0x80000000 ",
    });
    qtest_writeq(bed->g->qts, base, CMD_SYNC.word[0]);
    g_assert_cmphex(qtest_readq(bed->g->qts, base), ==, CMD_SYNC.word[0]);
    host_expect(bed->g, "is not in the machine's main memory");
    cmdqv_on(bed);
    cmdqv_queue_off(bed, 1);
    cmdqv_set_q(bed, 1, CONS, 0);
    cmdqv_set_base(bed, 1, base | LOG2);
    cmdqv_queue_enable(bed, 1);
    g_assert_false(in_hardware(bed));
    cmdqv_set_q(bed, 1, PROD, 1);
    g_assert_cmphex(cmdqv_q(bed, 1, CONS), ==, 1);
    cmdqv_bed_free(bed);
}

/* The memory of a device, which is free to go all the same */
static void test_bar(void)
{
    CmdqvBed *bed;
    HostGuest *g;
    uint64_t base, reg;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 2, .smmu_args = ON, .host = HOST,
        .dev[1].keys = "memory=0x10000\n",
    });
    g = bed->g;
    base = g->dev[1].bar + 0x20000;
    reg = host_device_config(g, 1) + PCI_BASE_ADDRESS_4;
    qtest_writel(g->qts, reg, base);
    qtest_writel(g->qts, reg + 4, base >> 32);
    qtest_writeq(g->qts, base, CMD_SYNC.word[0]);
    g_assert_cmphex(qtest_readq(g->qts, base), ==, CMD_SYNC.word[0]);
    host_expect(g, "is not in the machine's main memory");
    cmdqv_on(bed);
    cmdqv_queue_off(bed, 1);
    cmdqv_set_q(bed, 1, CONS, 0);
    cmdqv_set_base(bed, 1, base | LOG2);
    cmdqv_queue_enable(bed, 1);
    g_assert_false(in_hardware(bed));
    host_guest_unplug(g, 1);
    cmdqv_bed_free(bed);
}

/*
 * Errors of the host
 */

/* A call fails once: whoever has the queues then, they work */
typedef struct FailRow {
    const char *name;
    const char *rule;
    bool hardware;
} FailRow;

static const FailRow fail_rows[] = {
    /* VFIO asks first, then QEMU about the SMMU, then about its CMDQV */
    { "no-cmdqv", "IOMMU_GET_HW_INFO:3=EOPNOTSUPP", false },
    { "info", "IOMMU_GET_HW_INFO:3=EIO", false },
    { "viommu", "IOMMU_VIOMMU_ALLOC:1=ENOSPC", false },
    { "map", "mmap:1=EAGAIN", false },
    { "errors", "IOMMU_VEVENTQ_ALLOC:1=ENOMEM", false },
    /* One queue is enabled first, alone; then both are */
    { "only-queue", "IOMMU_HW_QUEUE_ALLOC:1=EFAULT", true },
    { "first-queue", "IOMMU_HW_QUEUE_ALLOC:2=EFAULT", false },
    { "second-queue", "IOMMU_HW_QUEUE_ALLOC:3=EIO", false },
};

/* Is memory mapped at the address @at of QEMU? */
static bool is_mapped(HostGuest *g, uint64_t at)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps",
                                            (int)qtest_pid(g->qts));
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (int i = 0; *lines[i]; i++) {
        uint64_t begin, end;

        g_assert_cmpint(sscanf(lines[i], "%" SCNx64 "-%" SCNx64, &begin, &end),
                        ==, 2);
        if (begin <= at && at < end) {
            return true;
        }
    }
    return false;
}

static void test_fail(const void *opaque)
{
    const FailRow *row = opaque;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .host = HOST, .fail = row->rule,
    });
    if (!g_str_equal(row->name, "no-cmdqv")) {
        host_expect(bed->g, SOFTWARE_SAYS);
    }
    cmdqv_on(bed);
    check_works(bed, 5, row->hardware);
    if (g_str_equal(row->name, "map")) {
        /* There is other memory in the place of the page */
        uint64_t gap = host_counter(bed->g, "mmap.gap");

        g_assert_cmphex(gap, !=, 0);
        g_assert_true(is_mapped(bed->g, gap));
    }
    /* The guest starts a queue anew, and the host is as it should be */
    restart_queue(bed, 1);
    check_works(bed, 5, row->hardware ||
                        g_str_has_suffix(row->name, "queue"));
    cmdqv_bed_free(bed);
}

/* The errors cannot be read: QEMU has the queues, tells of this one, once */
static void test_unreadable(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    cmdqv_set_edge(bed);
    cmdqv_take_irq(bed);
    cmdqv_control(bed, "fail veventq.read:1+*=EIO");
    cmdqv_put(bed, 0, CMD_CFGI_ALL);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_ILL);
    wait_irq(bed);
    cmdqv_check_error_maps(bed, 1);
    /* A person must not read so again and again */
    g_usleep(100000);
    g_assert_cmpuint(host_said(bed->g, "the host's errors cannot be read"), ==,
                     1);
    cmdqv_skip_error(bed, 0);
    check_works(bed, 5, false);
    cmdqv_bed_free(bed);
}

/* A read of the host's errors that brings none is not the host's failure */
static void test_read_again(const void *what)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    cmdqv_set_edge(bed);
    cmdqv_take_irq(bed);
    qobject_unref(host_control(bed->g, "fail veventq.read:1=%s",
                               (const char *)what));
    cmdqv_put(bed, 0, CMD_CFGI_ALL);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_ILL);
    wait_irq(bed);
    g_assert_true(in_hardware(bed));
    cmdqv_skip_error(bed, 0);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/* The last device goes before QEMU has read of an error */
static void test_late_error(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    cmdqv_set_edge(bed);
    cmdqv_take_irq(bed);
    cmdqv_control(bed, "fail veventq.read:1+*=EAGAIN");
    cmdqv_put(bed, 0, CMD_CFGI_ALL);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_ILL);
    g_assert_false(cmdqv_take_irq(bed));
    host_guest_unplug(bed->g, 0);
    cmdqv_control(bed, "fail clear");
    wait_irq(bed);
    cmdqv_check_error_maps(bed, 1);
    cmdqv_bed_free(bed);
}

/*
 * Commands that the hardware has not read when the last device goes. The guest
 * writes no register: it waits.
 */
static void test_rest(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    host_expect(bed->g, "does not stop in the host");
    cmdqv_control(bed, "vcmdqs hold");
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_put(bed, q, CMD_TLBI_NH_ASID(1));
        cmdqv_put(bed, q, CMD_SYNC);
        cmdqv_set_q(bed, q, PROD, bed->prod[q]);
    }
    host_guest_unplug(bed->g, 0);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        for (int n = 0; (cmdqv_q(bed, q, CONS) & WRAP) != bed->prod[q]; n++) {
            g_assert_cmpint(n, <, 100000);
            g_usleep(10);
        }
    }
    cmdqv_bed_free(bed);
}

/* A host on which each TLBI must be repeated, which the guest does not do */
static void test_erratum(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .host = HOST "repeat=1\n",
    });
    host_expect(bed->g, "erratum T264-SMMU-3");
    cmdqv_on(bed);
    check_works(bed, 10, false);
    cmdqv_bed_free(bed);
}

/* A host whose VINTFs have a single queue */
static void test_few(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .host = HOST "cmdqv_vcmdqs=0\n",
    });
    host_expect(bed->g, "the host has fewer than 2 VCMDQs for a guest");
    cmdqv_on(bed);
    check_works(bed, 10, false);
    cmdqv_bed_free(bed);
}

/* Where its memory is not contiguous, it has the queues when it is */
static CmdqvBed *bed_new_scattered(void)
{
    CmdqvBed *bed = bed_new(ON);

    for (unsigned q = 0; q < N_QUEUES; q++) {
        bed->queue[q] = host_alloc(bed->g, 16 << LOG2);
    }
    cmdqv_control(bed, "contiguous 128");
    cmdqv_on(bed);
    check_works(bed, 5, false);
    return bed;
}

/* Memory that is not contiguous, until it is */
static void test_contiguous(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_scattered();
    /* QEMU asks again with each start, and says so once */
    for (unsigned q = 0; q < N_QUEUES; q++) {
        restart_queue(bed, q);
        check_works(bed, 5, false);
    }
    g_assert_cmpuint(host_said(bed->g, "IOMMU_HW_QUEUE_ALLOC failed: Bad "
                               "address"), ==, 1);
    cmdqv_control(bed, "contiguous 0");
    /* A command is no reason to ask the host again, but a start is */
    check_works(bed, 5, false);
    restart_queue(bed, 0);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/* The device comes anew, and the host is asked again */
static void test_contiguous_plug(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_scattered();
    g_assert_cmpuint(host_said(bed->g, SOFTWARE_SAYS), ==, 1);
    cmdqv_control(bed, "contiguous 0");
    host_guest_unplug(bed->g, 0);
    g_assert_null(host_guest_plug(bed->g, 0));
    host_setup_device(bed->g, 0);
    wait_for_hardware(bed);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/*
 * QEMU has found an error, and has not reported it.  The hardware knows nothing
 * of it, so QEMU keeps the queues until then.  @opaque: "atc" is an error of
 * the next CMD_SYNC, and a thread finds "illegal".
 */
static void test_error_in_qemu(const void *opaque)
{
    bool atc = g_str_equal(opaque, "atc");
    uint32_t at;
    uint64_t *ste;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = ON, .host = HOST,
        .device = "ats=on\ndead_atc=on",
    });
    host_expect(bed->g, SOFTWARE_SAYS);
    cmdqv_control(bed, "contiguous 128");
    cmdqv_on(bed);
    check_works(bed, 5, false);
    if (atc) {
        ste = smmu_ste(bed->g, 0, host_sid(bed->g, 0));
        ste[1] = cpu_to_le64(1ull << 28);   /* EATS */
        host_set_ste(bed->g, 0, le64_to_cpu(ste[0]));
        cmdqv_put(bed, 0, CMD_ATC_INV(host_sid(bed->g, 0), 0, 52));
        g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);
        at = bed->prod[0];
        cmdqv_control(bed, "contiguous 0");
        restart_queue(bed, 1);
        g_assert_false(in_hardware(bed));
        cmdqv_put(bed, 0, CMD_SYNC);
    } else {
        cmdqv_make_slow(bed);
        /* The batch, then the first command alone */
        cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE:1=EIO");
        cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE:2=EIO");
        cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE~hold");
        at = bed->prod[0];
        cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(1));
        cmdqv_put(bed, 0, CMD_SYNC);
        cmdqv_set_q(bed, 0, PROD, bed->prod[0]);
        cmdqv_wait_until_held(bed);
        cmdqv_control(bed, "contiguous 0");
        restart_queue(bed, 1);
        g_assert_false(in_hardware(bed));
        cmdqv_control(bed, "release");
    }
    for (int n = 0; !cmdqv_halted(bed, 0); n++) {
        g_assert_cmpint(n, <, 100000);
        cmdqv_set_q(bed, 0, PROD, bed->prod[0]);
        g_usleep(10);
    }
    g_assert_cmphex(cmdqv_q(bed, 0, CONS), ==,
                    at | (atc ? SMMU_CERROR_ATC : SMMU_CERROR_ILL) << 24);
    g_assert_false(in_hardware(bed));
    cmdqv_check_error_maps(bed, 1);
    cmdqv_control(bed, "fail clear");
    cmdqv_control(bed, "atc dma0 alive");
    cmdqv_skip_error(bed, 0);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/* The hardware does not start */
static void test_dead(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(ON);
    host_expect(bed->g, "does not start");
    cmdqv_control(bed, "vcmdqs hold");
    cmdqv_on(bed);
    check_works(bed, 5, false);
    cmdqv_control(bed, "vcmdqs go");
    restart_queue(bed, 0);
    check_works(bed, 5, false);
    cmdqv_bed_free(bed);
}

/* It does not start where the queue is, and would carry out old commands */
static void test_elsewhere(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_scattered();
    g_assert_cmpuint(host_said(bed->g, SOFTWARE_SAYS), ==, 1);
    cmdqv_control(bed, "contiguous 0");
    cmdqv_control(bed, "vcmdqs forget");
    g_assert_cmphex(cmdqv_q(bed, 1, CONS), !=, 0);
    restart_queue(bed, 0);
    check_works(bed, 5, false);
    cmdqv_bed_free(bed);
}

/*
 * The hardware has read a TLBI, and QEMU reads its CMD_SYNC: QEMU invalidates.
 * The guest cannot read old registers meanwhile.
 */
static void test_between(void)
{
    g_autofree char *tree = NULL;
    uint64_t calls;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    tree = qtest_hmp(bed->g->qts, "info mtree");
    g_assert_null(strstr(tree, "romd): arm-smmuv3-vcmdq"));
    qatomic_set(bed->pte, 0);
    cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(1));
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);
    calls = host_counter(bed->g, INVALIDATE);
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    g_assert_cmpuint(host_counter(bed->g, INVALIDATE), ==, calls + 1);
    cmdqv_put(bed, 0, CMD_SYNC);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);
    host_check_faults(bed->g, 0, HOST_VA);
    cmdqv_bed_free(bed);
}

/*
 * The host took no invalidations for a while, so a stream could not translate.
 * QEMU invalidates everything when it takes the queues, which lets it.
 */
static void test_between_heals(void)
{
    uint64_t value;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    host_expect(bed->g, SAID_TAKES_NONE);
    host_expect(bed->g, SAID_CANNOT_MOVE);
    cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE:1+*=ENOMEM");
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(77));
    g_assert_cmpuint(smmu_sync(bed->g, 0), ==, SMMU_CERROR_ABT);
    smmu_ack(bed->g, 0);
    smmu_cmd(bed->g, 0, CMD_CFGI_STE(host_sid(bed->g, 0)));
    smmu_sync_ok(bed->g, 0);
    host_check_faults(bed->g, 0, HOST_VA);
    cmdqv_control(bed, "fail clear");
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    HOST_WAIT(host_dma_read64(bed->g, 0, HOST_VA, &value));
    g_assert_cmphex(value, ==, TAG(0));
    cmdqv_bed_free(bed);
}

/*
 * The CMD_SYNC of each VCMDQ that was used reports it, and the next one is
 * complete.  One that is not used does not keep them from the hardware.
 */
static void check_syncs_fail(CmdqvBed *bed, unsigned n)
{
    for (unsigned q = 0; q < n; q++) {
        g_assert_false(in_hardware(bed));
        cmdqv_check_sync_fails(bed, q);
    }
    g_assert_true(in_hardware(bed));
}

/* QEMU cannot invalidate then: the device must not translate by old entries */
static void test_between_fails(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    use(bed, 1);
    cmdqv_check_owner(bed, "hardware");
    /* PROD and CONS are 0 again, as those of a queue that nobody uses */
    for (unsigned n = 0; n < (1 << LOG2) - 1; n++) {
        use(bed, 1);
    }
    g_assert_cmphex(bed->prod[0], ==, 0);
    host_expect(bed->g, SAID_TAKES_NONE);
    cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE:1+*=EIO");
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    check_syncs_fail(bed, 1);
    host_check_faults(bed->g, 0, HOST_VA);
    cmdqv_control(bed, "fail clear");
    smmu_cmd(bed->g, 0, CMD_CFGI_STE(host_sid(bed->g, 0)));
    smmu_sync_ok(bed->g, 0);
    check_works(bed, 5, true);
    /* The next time is as good as the first */
    use(bed, 1);
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    cmdqv_put(bed, 0, CMD_SYNC);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/*
 * The same, and another vSMMU shares the stage 2.  What QEMU could not
 * invalidate may hit there, and the host invalidates nothing for it either.
 */
static void test_between_fails_shared(void)
{
    uint64_t cd;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_vsmmus = 2, .n_devs = 2, .dev[1].vsmmu = 1,
        .smmu_args = ON ",share-stage2=on", .host = HOST,
    });
    cmdqv_on(bed);
    g_assert_true(in_hardware(bed));
    use(bed, N_QUEUES);
    host_enable(bed->g, 1);
    cd = host_one_page_cd(bed->g, 2, host_new_page(bed->g, TAG(2)));
    host_set_ste(bed->g, 1, STE_S1(cd));
    host_check_reads(bed->g, 1, HOST_VA, TAG(2));

    cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE:1+*=EIO");
    for (unsigned n = 0; n < 2; n++) {
        host_expect(bed->g, SAID_TAKES_NONE);
    }
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    check_syncs_fail(bed, N_QUEUES);
    host_check_faults(bed->g, 0, HOST_VA);
    host_check_faults(bed->g, 1, HOST_VA);
    g_assert_cmpuint(smmu_sync(bed->g, 1), ==, SMMU_CERROR_ABT);
    smmu_ack(bed->g, 1);
    cmdqv_control(bed, "fail clear");
    for (unsigned dev = 0; dev < 2; dev++) {
        smmu_cmd(bed->g, dev, CMD_CFGI_STE(host_sid(bed->g, dev)));
        smmu_sync_ok(bed->g, dev);
    }
    host_check_reads(bed->g, 1, HOST_VA, TAG(2));
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/*
 * A slow host: QEMU does not wait for it, but a CMD_SYNC of the guest's does.
 * @busy: the host is called for the SMMU's own queue then, which is too early.
 */
static void test_slow(const void *busy)
{
    uint64_t calls;
    uint32_t cons;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    make_slow(bed);
    cmdqv_control(bed, "zero");
    cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE~hold");
    if (busy) {
        smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(98));
        smmu_kick(bed->g, 0);
        cmdqv_wait_until_held(bed);
    }
    qatomic_set(bed->pte, 0);
    cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(1));
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);
    cons = cmdqv_q(bed, 0, CONS);
    alarm(WATCHDOG_S / 4);
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    cmdqv_wait_until_held(bed);
    g_assert_false(in_hardware(bed));
    cmdqv_put(bed, 0, CMD_SYNC);
    cmdqv_set_q(bed, 0, PROD, bed->prod[0]);
    qtest_qmp_assert_success(bed->g->qts, "{'execute': 'query-status'}");
    g_assert_cmphex(cmdqv_q(bed, 0, CONS), ==, cons);
    calls = host_counter(bed->g, INVALIDATE);
    cmdqv_control(bed, "fail clear");
    cmdqv_control(bed, "release");
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);
    g_assert_cmpuint(host_counter(bed->g, INVALIDATE) - calls, ==, !!busy);
    host_check_faults(bed->g, 0, HOST_VA);
    wait_for_hardware(bed);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/* QEMU waits for the first call that is slow, and for no further one */
static void test_first_slow(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE~150000");
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    g_assert_true(host_is_slow(bed->g, 0));
    cmdqv_control(bed, "fail clear");
    wait_for_hardware(bed);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/*
 * The machine is reset while a slow host is called for what the hardware had
 * read, and fails.  The VCMDQs of the new system do not hear of that.
 */
static void test_slow_reset(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    make_slow(bed);
    use(bed, 1);
    cmdqv_control(bed, "zero");
    cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE:1+*=EIO");
    cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE~hold");
    host_expect(bed->g, SAID_TAKES_NONE);
    host_allow(bed->g, SAID_CANNOT_MOVE);
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    cmdqv_wait_until_held(bed);
    qtest_system_reset(bed->g->qts);
    host_setup_pci(bed->g);
    cmdqv_on(bed);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_put(bed, q, CMD_SYNC);
        cmdqv_put(bed, q, CMD_SYNC);
        cmdqv_set_q(bed, q, PROD, bed->prod[q]);
    }
    cmdqv_control(bed, "release");
    for (unsigned q = 0; q < N_QUEUES; q++) {
        g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_NONE);
    }
    cmdqv_control(bed, "fail clear");
    bed->g->smmu[0].enabled = false;
    host_enable(bed->g, 0);
    cmdqv_bed_translate(bed);
    wait_for_hardware(bed);
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/* The hardware does not stop in time: QEMU has the queues from then on */
static void test_stuck(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_on();
    host_expect(bed->g, "does not stop in the host");
    cmdqv_control(bed, "vcmdqs hold");
    cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(1));
    qatomic_set(bed->pte, 0);
    cmdqv_put(bed, 0, CMD_SYNC);
    cmdqv_set_q(bed, 0, PROD, bed->prod[0]);
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    cmdqv_control(bed, "vcmdqs go");
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);
    host_check_faults(bed->g, 0, HOST_VA);
    check_works(bed, 5, false);
    restart_queue(bed, 0);
    check_works(bed, 5, false);
    cmdqv_bed_free(bed);
}

/* A VINTF has room for some devices */
static void test_room(void)
{
    g_autofree char *error = NULL;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 3, .smmu_args = ON, .host = HOST "cmdqv_sids=1\n",
        .dev = { [2] = { .hotplug = true } },
    });
    cmdqv_on(bed);
    check_works(bed, 5, true);
    error = host_guest_plug(bed->g, 2);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "has room for 2 devices"));
    check_works(bed, 5, true);
    cmdqv_bed_free(bed);
}

/* The user insists */
static void test_required(void)
{
    g_autofree char *text = NULL;

    if (host_skipped()) {
        return;
    }
    text = host_guest_refused(&(HostGuestConfig) {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .smmu_args = HARDWARE,
    });
    if (!strstr(text, "x-cmdqv-backend=hardware needs a host")) {
        g_error("%s", text);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_data_func("/smmuv3-cmdqv-hw/invalidate/auto", ON,
                        test_invalidate);
    qtest_add_data_func("/smmuv3-cmdqv-hw/invalidate/hardware", HARDWARE,
                        test_invalidate);
    qtest_add_func("/smmuv3-cmdqv-hw/software", test_software);
    qtest_add_func("/smmuv3-cmdqv-hw/atc", test_atc);
    qtest_add_func("/smmuv3-cmdqv-hw/bridge", test_bridge);
    qtest_add_func("/smmuv3-cmdqv-hw/registers", test_registers);
    qtest_add_func("/smmuv3-cmdqv-hw/size", test_size);
    qtest_add_func("/smmuv3-cmdqv-hw/huge-pages", test_huge_pages);
    qtest_add_func("/smmuv3-cmdqv-hw/control", test_control);
    qtest_add_func("/smmuv3-cmdqv-hw/off", test_off);
    qtest_add_data_func("/smmuv3-cmdqv-hw/plug", NULL, test_plug);
    qtest_add_data_func("/smmuv3-cmdqv-hw/plug-slow", "slow", test_plug);
    qtest_add_func("/smmuv3-cmdqv-hw/reset", test_reset);
    qtest_add_func("/smmuv3-cmdqv-hw/illegal", test_illegal);
    qtest_add_func("/smmuv3-cmdqv-hw/order", test_order);
    qtest_add_func("/smmuv3-cmdqv-hw/order-refused", test_order_refused);
    qtest_add_func("/smmuv3-cmdqv-hw/halted", test_halted);
    qtest_add_func("/smmuv3-cmdqv-hw/hostile", test_hostile);
    qtest_add_func("/smmuv3-cmdqv-hw/numa", test_numa);
    qtest_add_func("/smmuv3-cmdqv-hw/dimm", test_dimm);
    qtest_add_func("/smmuv3-cmdqv-hw/bar", test_bar);
    qtest_add_func("/smmuv3-cmdqv-hw/required", test_required);
    for (unsigned n = 0; n < ARRAY_SIZE(fail_rows); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-cmdqv-hw/fail/%s",
                                                fail_rows[n].name);

        qtest_add_data_func(path, &fail_rows[n], test_fail);
    }
    qtest_add_func("/smmuv3-cmdqv-hw/erratum", test_erratum);
    qtest_add_func("/smmuv3-cmdqv-hw/few", test_few);
    qtest_add_func("/smmuv3-cmdqv-hw/late-error", test_late_error);
    qtest_add_func("/smmuv3-cmdqv-hw/rest", test_rest);
    qtest_add_func("/smmuv3-cmdqv-hw/unreadable", test_unreadable);
    qtest_add_data_func("/smmuv3-cmdqv-hw/read-again/interrupted", "EINTR",
                        test_read_again);
    qtest_add_data_func("/smmuv3-cmdqv-hw/read-again/nothing", "NOTHING",
                        test_read_again);
    qtest_add_func("/smmuv3-cmdqv-hw/contiguous", test_contiguous);
    qtest_add_func("/smmuv3-cmdqv-hw/contiguous-plug", test_contiguous_plug);
    qtest_add_func("/smmuv3-cmdqv-hw/elsewhere", test_elsewhere);
    qtest_add_func("/smmuv3-cmdqv-hw/reserved", test_reserved);
    qtest_add_func("/smmuv3-cmdqv-hw/first-slow", test_first_slow);
    qtest_add_func("/smmuv3-cmdqv-hw/slow-reset", test_slow_reset);
    qtest_add_data_func("/smmuv3-cmdqv-hw/error-in-qemu/atc", "atc",
                        test_error_in_qemu);
    qtest_add_data_func("/smmuv3-cmdqv-hw/error-in-qemu/illegal", "illegal",
                        test_error_in_qemu);
    qtest_add_func("/smmuv3-cmdqv-hw/room", test_room);
    qtest_add_data_func("/smmuv3-cmdqv-hw/slow/idle", NULL, test_slow);
    qtest_add_data_func("/smmuv3-cmdqv-hw/slow/busy", "busy", test_slow);
    qtest_add_func("/smmuv3-cmdqv-hw/stuck", test_stuck);
    qtest_add_func("/smmuv3-cmdqv-hw/dead", test_dead);
    qtest_add_func("/smmuv3-cmdqv-hw/between", test_between);
    qtest_add_func("/smmuv3-cmdqv-hw/between-heals", test_between_heals);
    qtest_add_func("/smmuv3-cmdqv-hw/between-fails", test_between_fails);
    qtest_add_func("/smmuv3-cmdqv-hw/between-fails-shared",
                   test_between_fails_shared);
    return g_test_run();
}
