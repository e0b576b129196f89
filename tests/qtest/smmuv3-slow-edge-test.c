/*
 * QTest of accel=on: edges that concern several streams, on a slow host
 *
 * The host takes its time for each attachment. QEMU moves some streams and lets
 * the main loop move the rest, one at a time, so that QMP gets its turn. The
 * guest sees the edge complete when the last one has moved, and each stream
 * moves once. No test measures a time: the delays are so long that not all
 * streams fit into what QEMU may take at once.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-host.h"

#define INVALIDATE      "IOMMU_HWPT_INVALIDATE"
#define ATTACH          "VFIO_DEVICE_ATTACH_IOMMUFD_PT"
#define SLOW_ATTACH     ATTACH ":1+*~110000"
/* QEMU may take three seconds where the guest polls a register, else 100 ms */
#define MANY            56
#define ENOUGH          34
#define FEW             16
#define FUNCTIONS       8
/* Not before so many attachments the main loop would have its turn */
#define TOO_MANY        12
#define CR0_OFF         (SMMU_CR0_EVENTQEN | SMMU_CR0_CMDQEN)
#define CR0_ON          (SMMU_CR0_SMMUEN | CR0_OFF)

typedef struct Bed {
    HostGuest *g;
    unsigned n;                 /* devices */
    uint64_t cd[MANY], other_cd[MANY];
} Bed;

static uint64_t tag(unsigned dev)
{
    return 0x5e0000 + dev;
}

static uint64_t other_tag(unsigned dev)
{
    return 0x5f0000 + dev;
}

static void control(Bed *bed, const char *command)
{
    qobject_unref(host_control(bed->g, "%s", command));
}

static uint64_t attaches(Bed *bed)
{
    return host_counter(bed->g, "call." ATTACH);
}

/* Those from @first on are functions of one slot, so that they have one bus */
static Bed *bed_new_with(unsigned n, unsigned first, const char *smmu_args)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = n,
        .smmu_args = smmu_args,
    };
    Bed *bed = g_new0(Bed, 1);
    HostGuest *g;

    bed->n = n;
    for (unsigned dev = first; dev < n; dev++) {
        config.dev[dev].function = dev - first;
    }
    g = bed->g = host_guest_new(&config);
    host_enable(g, 0);
    for (unsigned dev = 0; dev < bed->n; dev++) {
        bed->cd[dev] = host_one_page_cd(g, 1 + dev, host_new_page(g, tag(dev)));
        bed->other_cd[dev] =
            host_one_page_cd(g, 101 + dev, host_new_page(g, other_tag(dev)));
        host_set_ste(g, dev, STE_S1(bed->cd[dev]));
        host_check_reads(g, dev, HOST_VA, tag(dev));
    }
    return bed;
}

/* @functions: of one slot, or each has its own */
static Bed *bed_new(unsigned n, bool functions, const char *smmu_args)
{
    return bed_new_with(n, functions ? 0 : n, smmu_args);
}

static void bed_free(Bed *bed)
{
    host_finish(bed->g);
    g_free(bed);
}

static void write_ste(Bed *bed, unsigned dev, uint64_t word0)
{
    *smmu_ste(bed->g, 0, host_sid(bed->g, dev)) = cpu_to_le64(word0);
}

static void make_slow(Bed *bed, const char *rule)
{
    control(bed, "zero");
    qobject_unref(host_control(bed->g, "fail %s", rule));
}

static uint32_t cons(Bed *bed)
{
    return smmu_read(bed->g, 0, SMMU_CMDQ_CONS) & 0xfffff;
}

/* QMP answers, and few streams have moved before it does */
static void query(Bed *bed)
{
    uint64_t before = attaches(bed);

    qtest_qmp_assert_success(bed->g->qts, "{'execute': 'query-status'}");
    g_assert_cmpuint(attaches(bed) - before, <, TOO_MANY);
}

static void wait_until_consumed(Bed *bed)
{
    for (int i = 0; cons(bed) != bed->g->smmu[0].prod; i++) {
        g_assert_cmphex(smmu_read(bed->g, 0, SMMU_GERROR), ==,
                        smmu_read(bed->g, 0, SMMU_GERRORN));
        g_assert_cmpint(i, <, 10000);
        query(bed);
        g_usleep(1000);
    }
}

/*
 * The guest has changed @reg. Its @bits are @busy until all streams have
 * moved, in @moves attachments, and no command completes before.
 */
static void wait_for_update(Bed *bed, unsigned reg, uint32_t bits,
                            uint32_t busy, unsigned moves)
{
    HostGuest *g = bed->g;
    uint32_t before = cons(bed);

    g_assert_cmphex(smmu_read(g, 0, reg) & bits, ==, busy);
    g_assert_cmpuint(attaches(bed), <, moves);
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(77));
    smmu_cmd(g, 0, CMD_SYNC);
    smmu_kick(g, 0);
    for (int i = 0;; i++) {
        uint32_t at = cons(bed);

        g_assert_cmpint(i, <, 10000);
        if ((smmu_read(g, 0, reg) & bits) != busy) {
            break;
        }
        g_assert_cmphex(at, ==, before);
        query(bed);
        g_usleep(1000);
    }
    g_assert_cmpuint(attaches(bed), ==, moves);
    control(bed, "fail clear");
    smmu_sync_ok(g, 0);
}

static void test_smmuen(void)
{
    HostGuest *g;
    uint32_t strtab;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(MANY, false, NULL);
    g = bed->g;

    make_slow(bed, SLOW_ATTACH);
    smmu_write(g, 0, SMMU_CR0, CR0_OFF);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CR0), ==, CR0_OFF);
    /* Streams may still read the Stream Table, so it stays where it is */
    strtab = smmu_read(g, 0, SMMU_STRTAB_BASE);
    smmu_write(g, 0, SMMU_STRTAB_BASE, strtab ^ 0x40000000);
    g_assert_cmphex(smmu_read(g, 0, SMMU_STRTAB_BASE), ==, strtab);
    /* Another write does not end it, nor begin it again */
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_CMDQEN);
    smmu_write(g, 0, SMMU_CR0, CR0_OFF);
    wait_for_update(bed, SMMU_CR0ACK, CR0_ON, CR0_ON, bed->n);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CR0ACK), ==, CR0_OFF);
    for (unsigned dev = 0; dev < bed->n; dev++) {
        host_check_reads(g, dev, host_new_page(g, 9), 9);
    }

    make_slow(bed, SLOW_ATTACH);
    smmu_write(g, 0, SMMU_CR0, CR0_ON);
    /* Streams that have not moved go by GBPA still, so an update must wait */
    smmu_gbpa(g, 0, true);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GBPA), ==,
                    SMMU_GBPA_ABORT | SMMU_GBPA_UPDATE);
    wait_for_update(bed, SMMU_CR0ACK, CR0_ON, CR0_OFF, bed->n);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CR0ACK), ==, CR0_ON);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GBPA), ==, SMMU_GBPA_ABORT);
    for (unsigned dev = 0; dev < bed->n; dev++) {
        host_check_reads(g, dev, HOST_VA, tag(dev));
    }
    bed_free(bed);
}

/* A guest that changes SMMUEN before CR0ACK does not make QEMU begin again */
static void test_toggle(void)
{
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(MANY, false, NULL);
    g = bed->g;
    make_slow(bed, SLOW_ATTACH);
    smmu_write(g, 0, SMMU_CR0, CR0_OFF);
    for (unsigned n = 1; n <= 4; n++) {
        uint64_t before = attaches(bed);

        smmu_write(g, 0, SMMU_CR0, n & 1 ? CR0_ON : CR0_OFF);
        g_assert_cmpuint(attaches(bed) - before, <, TOO_MANY);
    }
    control(bed, "fail clear");
    HOST_WAIT(smmu_read(g, 0, SMMU_CR0ACK) == CR0_OFF);
    smmu_sync_ok(g, 0);
    for (unsigned dev = 0; dev < bed->n; dev++) {
        host_check_reads(g, dev, host_new_page(g, 9), 9);
    }
    bed_free(bed);
}

static void test_gbpa(void)
{
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(MANY, false, NULL);
    g = bed->g;
    smmu_write(g, 0, SMMU_CR0, CR0_OFF);

    make_slow(bed, SLOW_ATTACH);
    smmu_gbpa(g, 0, true);
    /* IHI 0070 6.3.14: a write during an update is ignored */
    smmu_gbpa(g, 0, false);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GBPA) & SMMU_GBPA_ABORT, ==,
                    SMMU_GBPA_ABORT);
    wait_for_update(bed, SMMU_GBPA, SMMU_GBPA_UPDATE, SMMU_GBPA_UPDATE, bed->n);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GBPA) & SMMU_GBPA_ABORT, ==,
                    SMMU_GBPA_ABORT);
    for (unsigned dev = 0; dev < bed->n; dev++) {
        host_check_faults(g, dev, host_new_page(g, 9));
    }
    smmu_gbpa(g, 0, false);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GBPA), ==, 0);
    bed_free(bed);
}

/* SMMUEN changes during an update of GBPA, which does not begin anew */
static void test_gbpa_smmuen(void)
{
    uint64_t before;
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(MANY, false, NULL);
    g = bed->g;
    smmu_write(g, 0, SMMU_CR0, CR0_OFF);
    make_slow(bed, SLOW_ATTACH);
    smmu_gbpa(g, 0, true);
    before = attaches(bed);
    smmu_write(g, 0, SMMU_CR0, CR0_ON);
    g_assert_cmpuint(attaches(bed) - before, <, TOO_MANY);
    control(bed, "fail clear");
    HOST_WAIT(smmu_read(g, 0, SMMU_CR0ACK) == CR0_ON);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GBPA), ==, SMMU_GBPA_ABORT);
    for (unsigned dev = 0; dev < bed->n; dev++) {
        host_check_reads(g, dev, HOST_VA, tag(dev));
    }
    bed_free(bed);
}

/* A reset is complete when it ends, however long that takes */
static void test_reset(void)
{
    uint64_t moves;
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(ENOUGH, false, NULL);
    g = bed->g;
    make_slow(bed, SLOW_ATTACH);
    smmu_write(g, 0, SMMU_CR0, CR0_OFF);
    g_assert_cmpuint(attaches(bed), <, bed->n);
    qtest_system_reset(g->qts);
    moves = attaches(bed);
    g_assert_cmpuint(moves, >=, bed->n);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CR0ACK), ==, 0);
    query(bed);
    g_assert_cmpuint(attaches(bed), ==, moves);
    control(bed, "fail clear");
    host_setup_pci(g);
    g->smmu[0].enabled = false;
    host_enable(g, 0);
    for (unsigned dev = 0; dev < bed->n; dev++) {
        host_set_ste(g, dev, STE_S1(bed->cd[dev]));
        host_check_reads(g, dev, HOST_VA, tag(dev));
    }
    bed_free(bed);
}

/* Each stream of the range has another STE now, but for the last device's */
static void change_stes(Bed *bed, bool other)
{
    for (unsigned dev = 0; dev < bed->n - 1; dev++) {
        write_ste(bed, dev, STE_S1(other ? bed->other_cd[dev] : bed->cd[dev]));
    }
}

static void check_changed(Bed *bed, bool other)
{
    for (unsigned dev = 0; dev < bed->n - 1; dev++) {
        host_check_reads(bed->g, dev, HOST_VA,
                         other ? other_tag(dev) : tag(dev));
    }
    host_check_reads(bed->g, bed->n - 1, HOST_VA, tag(bed->n - 1));
}

static void test_range(void)
{
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(FEW, false, NULL);
    g = bed->g;
    for (int n = 1; n <= 2; n++) {
        make_slow(bed, SLOW_ATTACH);
        change_stes(bed, n & 1);
        smmu_cmd(g, 0, CMD_CFGI_ALL);
        smmu_cmd(g, 0, CMD_SYNC);
        smmu_kick(g, 0);
        g_assert_cmpuint(attaches(bed), <, TOO_MANY);
        g_assert_cmphex(cons(bed), !=, g->smmu[0].prod);
        wait_until_consumed(bed);
        g_assert_cmpuint(attaches(bed), ==, bed->n - 1);
        g_assert_cmpuint(host_counter(g, "smmu.cmd.CFGI_CD_ALL"), ==, 1);
        control(bed, "fail clear");
        check_changed(bed, n & 1);
    }
    bed_free(bed);
}

/* The queue is disabled, and is enabled with @cr0 */
static void restart_queue(Bed *bed, uint32_t cr0)
{
    smmu_write(bed->g, 0, SMMU_CMDQ_CONS, 0);
    smmu_write(bed->g, 0, SMMU_CMDQ_PROD, 0);
    bed->g->smmu[0].prod = 0;
    smmu_write(bed->g, 0, SMMU_CR0, cr0);
}

/*
 * The range is cut short: the guest disables the queue, or the host refuses a
 * command of it. The next one is whole. @refused: arguments of the SMMU, with
 * which QEMU looks for the command at once or by a job.
 */
static void test_range_ends(const void *refused)
{
    HostGuest *g;
    uint32_t at;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(FEW, false, refused);
    g = bed->g;
    make_slow(bed, SLOW_ATTACH);
    if (refused) {
        /* That for the stream that does not move, and twice in search of it */
        control(bed, "fail " INVALIDATE ":1+2=EIO");
    }
    change_stes(bed, true);
    at = g->smmu[0].prod;
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_cmd(g, 0, CMD_SYNC);
    smmu_kick(g, 0);
    g_assert_cmpuint(attaches(bed), <, TOO_MANY);
    if (refused) {
        g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
        g_assert_cmphex(cons(bed), ==, at);
    } else {
        smmu_write(g, 0, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_EVENTQEN);
    }
    g_assert_cmpuint(attaches(bed), <, TOO_MANY);
    control(bed, "fail clear");
    change_stes(bed, false);
    if (refused) {
        smmu_ack(g, 0);
    } else {
        restart_queue(bed, CR0_ON);
    }
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    check_changed(bed, false);
    bed_free(bed);
}

/*
 * The host refuses a command, which the guest would see when all streams have
 * moved. It disables the queue before, so that it never sees it.
 */
static void test_refused_unseen(void)
{
    uint64_t moves;
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(MANY, false, NULL);
    g = bed->g;
    host_make_slow(g, 0);
    make_slow(bed, INVALIDATE ":1+2=EIO");
    control(bed, "fail " INVALIDATE ":1~hold");
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(99));
    smmu_kick(g, 0);
    HOST_WAIT(host_counter(g, "held"));
    control(bed, "fail " SLOW_ATTACH);
    smmu_write(g, 0, SMMU_CR0, CR0_OFF);
    moves = attaches(bed);
    control(bed, "release");
    HOST_WAIT((query(bed), attaches(bed) > moves));
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_EVENTQEN);
    g_assert_cmpuint(attaches(bed), <, bed->n);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR), ==, 0);
    control(bed, "fail clear");
    restart_queue(bed, CR0_OFF);
    smmu_sync_ok(g, 0);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR), ==, 0);
    bed_free(bed);
}

/* Functions that translate elsewhere once their bus is NEW_BUS further up */
#define NEW_BUS 8

static Bed *bed_to_renumber(const char *smmu_args)
{
    Bed *bed = bed_new(FUNCTIONS, true, smmu_args);

    for (unsigned dev = 0; dev < bed->n; dev++) {
        smmu_ste(bed->g, 0, host_sid(bed->g, dev) + (NEW_BUS << 8))[0] =
            cpu_to_le64(STE_S1(bed->other_cd[dev]));
    }
    make_slow(bed, SLOW_ATTACH);
    return bed;
}

/* A command that follows finds all streams at their new StreamIDs */
static void test_renumber(void)
{
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_to_renumber(NULL);
    g = bed->g;
    host_set_bus(g, 0, g->dev[0].bus + NEW_BUS);
    g_assert_cmpuint(attaches(bed), <, 2 * bed->n);
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(77));
    smmu_kick(g, 0);
    query(bed);
    wait_until_consumed(bed);
    /* Each aborts while its vDEVICE is replaced */
    g_assert_cmpuint(attaches(bed), ==, 2 * bed->n);
    control(bed, "fail clear");
    smmu_sync_ok(g, 0);
    for (unsigned dev = 0; dev < bed->n; dev++) {
        host_check_reads(g, dev, HOST_VA, other_tag(dev));
    }
    bed_free(bed);
}

/*
 * The same, but a command has the number written: the message of a CMD_SYNC.
 * No main loop has its turn before the commands that follow.
 */
static void test_renumber_by_command(void)
{
    uint64_t port;
    unsigned bus;
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_to_renumber(",x-drain-us=1000000");
    g = bed->g;
    port = host_port_config(g, 0);
    bus = g->dev[0].bus + NEW_BUS;
    smmu_cmd(g, 0, CMD_SYNC_MSI(port + PCI_PRIMARY_BUS,
                                qtest_readb(g->qts, port + PCI_PRIMARY_BUS) |
                                bus << 8 | bus << 16));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(77));
    smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, 0) + (NEW_BUS << 8)));
    smmu_kick(g, 0);
    HOST_WAIT(host_counter(g, "smmu.cmd.TLBI_NH_ASID"));
    g_assert_cmpuint(attaches(bed), ==, 2 * bed->n);
    wait_until_consumed(bed);
    control(bed, "fail clear");
    g_assert_cmpuint(host_counter(g, "smmu.cmd.TLBI_NH_ASID"), ==, 1);
    g_assert_cmpuint(host_counter(g, "smmu.cmd.CFGI_CD_ALL"), ==, 1);
    /* The port has the number already, and host_sid() has to know it */
    host_set_bus(g, 0, bus);
    for (unsigned dev = 0; dev < bed->n; dev++) {
        host_check_reads(g, dev, HOST_VA, other_tag(dev));
    }
    bed_free(bed);
}

/* The guest numbers buses so that @dev has the StreamID of device 0 */
static void share_sid(Bed *bed, unsigned dev)
{
    host_set_bus(bed->g, dev, host_sid(bed->g, 0) >> 8);
}

/*
 * All streams with the StreamID of device 0 abort. A CFGI_STE that lets them
 * bypass waits for a kick, and the host is slow.
 */
static void abort_sid(Bed *bed)
{
    write_ste(bed, 0, STE_ABORT);
    smmu_cmd(bed->g, 0, CMD_CFGI_STE(host_sid(bed->g, 0)));
    smmu_sync_ok(bed->g, 0);
    make_slow(bed, SLOW_ATTACH);
    write_ste(bed, 0, STE_BYPASS);
    smmu_cmd(bed->g, 0, CMD_CFGI_STE(host_sid(bed->g, 0)));
}

static void test_one_sid(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(FEW, false, NULL);
    for (unsigned dev = 1; dev < bed->n; dev++) {
        share_sid(bed, dev);
    }
    abort_sid(bed);
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    g_assert_cmpuint(attaches(bed), <, TOO_MANY);
    wait_until_consumed(bed);
    g_assert_cmpuint(attaches(bed), ==, bed->n);
    control(bed, "fail clear");
    bed_free(bed);
}

/*
 * One of two streams of a StreamID has moved, and the other one gets another
 * StreamID before it has its turn. The command ends with that, so that the next
 * range is whole. The stream of the StreamID beside it never was in the range.
 */
static void test_one_sid_left(void)
{
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_with(3, 1, NULL);
    g = bed->g;
    share_sid(bed, 1);
    write_ste(bed, 2, STE_S1(bed->cd[2]));
    smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, 2)));
    abort_sid(bed);
    write_ste(bed, 2, STE_S1(bed->other_cd[2]));
    /* No stream has its turn while the machine is stopped */
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    smmu_kick(g, 0);
    query(bed);
    g_assert_cmpuint(attaches(bed), ==, 1);
    g_assert_cmphex(cons(bed), !=, g->smmu[0].prod);
    control(bed, "fail clear");
    /* The last one that came has moved first */
    host_set_bus(g, 0, g->dev[0].bus + NEW_BUS);
    qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
    wait_until_consumed(bed);
    host_check_reads(g, 2, HOST_VA, tag(2));
    write_ste(bed, 1, STE_S1(bed->cd[1]));
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    host_check_reads(g, 1, HOST_VA, tag(1));
    host_check_reads(g, 2, HOST_VA, other_tag(2));
    bed_free(bed);
}

/* A CFGI_STE for one stream needs no further turn, however long that takes */
static void test_one_stream(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(1, false, NULL);
    abort_sid(bed);
    qtest_qmp_assert_success(bed->g->qts, "{'execute': 'stop'}");
    smmu_kick(bed->g, 0);
    g_assert_cmphex(cons(bed), ==, bed->g->smmu[0].prod);
    g_assert_cmpuint(attaches(bed), ==, 1);
    qtest_qmp_assert_success(bed->g->qts, "{'execute': 'cont'}");
    control(bed, "fail clear");
    bed_free(bed);
}

/* The host was busy with all of them */
static void test_retry(void)
{
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(FEW, false, NULL);
    g = bed->g;
    make_slow(bed, ATTACH ":1+*=EBUSY");
    host_allow(g, SAID_CANNOT_MOVE);
    change_stes(bed, true);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    control(bed, "fail clear");
    make_slow(bed, SLOW_ATTACH);
    HOST_WAIT((query(bed), attaches(bed) >= bed->n - 1));
    control(bed, "fail clear");
    smmu_sync_ok(g, 0);
    check_changed(bed, true);
    bed_free(bed);
}

/*
 * The host is busy and slow. QEMU tries again when all streams had their turn,
 * not before: else the last one would keep its translation.
 */
static void test_busy(void)
{
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(ENOUGH + 4, false, NULL);
    g = bed->g;
    host_allow(g, SAID_CANNOT_MOVE);
    make_slow(bed, ATTACH ":1+*=EBUSY");
    smmu_write(g, 0, SMMU_CR0, CR0_OFF);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CR0ACK), ==, CR0_OFF);
    make_slow(bed, SLOW_ATTACH);
    smmu_write(g, 0, SMMU_CR0, CR0_ON);
    HOST_WAIT((query(bed), smmu_read(g, 0, SMMU_CR0ACK) == CR0_ON));
    /* They are detached already, so there is nothing else to try */
    g_assert_cmpuint(attaches(bed), <, bed->n + TOO_MANY);
    control(bed, "fail clear");
    smmu_sync_ok(g, 0);
    bed_free(bed);
}

/* What the host has cached is not invalidated yet, and the host is slow */
static void make_stale(Bed *bed)
{
    host_expect(bed->g, SAID_TAKES_NONE);
    host_make_slow(bed->g, 0);
    control(bed, "fail " INVALIDATE ":1+*=ETIMEDOUT");
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(99));
    g_assert_cmpuint(smmu_sync(bed->g, 0), ==, SMMU_CERROR_ABT);
    smmu_ack(bed->g, 0);
    smmu_sync_ok(bed->g, 0);
}

/* An edge has had to wait; then the host fails, and all streams are parked */
static void test_then_dead(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(FEW, false, NULL);
    make_slow(bed, SLOW_ATTACH);
    change_stes(bed, true);
    smmu_cmd(bed->g, 0, CMD_CFGI_ALL);
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    wait_until_consumed(bed);
    control(bed, "fail clear");
    make_stale(bed);
    for (unsigned dev = 0; dev < bed->n; dev++) {
        host_check_faults(bed->g, dev, HOST_VA);
    }
    bed_free(bed);
}

/* Streams that may translate after a job only are not the first to move */
static void test_stale(void)
{
    unsigned aborting;
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(ENOUGH + 4, false, NULL);
    g = bed->g;
    aborting = ENOUGH;
    host_allow(g, SAID_CANNOT_MOVE);
    make_stale(bed);
    control(bed, "fail clear");
    smmu_disable(g, 0);
    /* The last one that came moves first */
    for (unsigned dev = bed->n - aborting; dev < bed->n; dev++) {
        write_ste(bed, dev, 0);
    }
    make_slow(bed, SLOW_ATTACH);
    smmu_write(g, 0, SMMU_CR0, CR0_ON);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CR0ACK), ==, CR0_OFF);
    HOST_WAIT((query(bed), smmu_read(g, 0, SMMU_CR0ACK) == CR0_ON));
    control(bed, "fail clear");
    for (unsigned dev = 0; dev < bed->n - aborting; dev++) {
        host_check_reads(g, dev, HOST_VA, tag(dev));
    }
    bed_free(bed);
}

/* One job for a command, not one for each pause */
static void test_stale_range(void)
{
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(FEW, false, NULL);
    g = bed->g;
    make_stale(bed);
    make_slow(bed, SLOW_ATTACH);
    control(bed, "fail " INVALIDATE ":1+*=ETIMEDOUT");
    for (unsigned dev = 0; dev < bed->n; dev++) {
        write_ste(bed, dev, STE_BYPASS);
    }
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_cmd(g, 0, CMD_SYNC);
    smmu_kick(g, 0);
    wait_until_consumed(bed);
    g_assert_cmpuint(attaches(bed), ==, bed->n);
    g_assert_cmpuint(host_counter(g, "call." INVALIDATE), ==, 1);
    control(bed, "fail clear");
    bed_free(bed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3-slow-edge/smmuen", test_smmuen);
    qtest_add_func("/smmuv3-slow-edge/toggle", test_toggle);
    qtest_add_func("/smmuv3-slow-edge/gbpa", test_gbpa);
    qtest_add_func("/smmuv3-slow-edge/gbpa-smmuen", test_gbpa_smmuen);
    qtest_add_func("/smmuv3-slow-edge/reset", test_reset);
    qtest_add_func("/smmuv3-slow-edge/range", test_range);
    qtest_add_data_func("/smmuv3-slow-edge/range-ends/disabled", NULL,
                        test_range_ends);
    qtest_add_data_func("/smmuv3-slow-edge/range-ends/refused", "",
                        test_range_ends);
    qtest_add_data_func("/smmuv3-slow-edge/range-ends/refused-at-once",
                        ",x-drain-us=500000", test_range_ends);
    qtest_add_func("/smmuv3-slow-edge/refused-unseen", test_refused_unseen);
    qtest_add_func("/smmuv3-slow-edge/renumber", test_renumber);
    qtest_add_func("/smmuv3-slow-edge/renumber-by-command",
                   test_renumber_by_command);
    qtest_add_func("/smmuv3-slow-edge/one-sid", test_one_sid);
    qtest_add_func("/smmuv3-slow-edge/one-sid-left", test_one_sid_left);
    qtest_add_func("/smmuv3-slow-edge/one-stream", test_one_stream);
    qtest_add_func("/smmuv3-slow-edge/retry", test_retry);
    qtest_add_func("/smmuv3-slow-edge/busy", test_busy);
    qtest_add_func("/smmuv3-slow-edge/then-dead", test_then_dead);
    qtest_add_func("/smmuv3-slow-edge/stale", test_stale);
    qtest_add_func("/smmuv3-slow-edge/stale-range", test_stale_range);
    return g_test_run();
}
