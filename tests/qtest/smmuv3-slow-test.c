/*
 * QTest of accel=on: a host whose SMMUv3 does not answer
 *
 * A call for invalidations may take a second and fail. QEMU answers QMP
 * meanwhile, devices leave, the machine is reset and stopped. No test measures
 * a time: the model of the host holds the call until the test lets it go on, so
 * that whatever else happens, happens during the call.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "smmuv3-host.h"

#define INVALIDATE  "IOMMU_HWPT_INVALIDATE"
#define ATTACH      "VFIO_DEVICE_ATTACH_IOMMUFD_PT"
#define N_DEVS      2
#define TAG(dev)    (0x7a60000ull + (dev))

typedef struct Bed {
    HostGuest *g;
    uint64_t pte[N_DEVS];       /* guest-physical, of HOST_VA */
    uint64_t page[N_DEVS], cd[N_DEVS];
} Bed;

static void control(Bed *bed, const char *command)
{
    qobject_unref(host_control(bed->g, "%s", command));
}

static void set_pte(Bed *bed, unsigned dev, bool valid)
{
    qatomic_set((uint64_t *)host_ram(bed->g, bed->pte[dev]), cpu_to_le64(
                valid ? host_leaf(3, bed->page[dev], PTE_DATA) : 0));
}

static void translate(Bed *bed)
{
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        host_set_ste(bed->g, dev, STE_S1(bed->cd[dev]));
        host_check_reads(bed->g, dev, HOST_VA, TAG(dev));
    }
}

/* If QEMU waits for the host, nobody lets the host go on: end the test then */
#define WATCHDOG_S  120

static Bed *bed_new(const char *smmu_args, bool slow)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = N_DEVS, .smmu_args = smmu_args,
    };
    Bed *bed = g_new0(Bed, 1);
    HostGuest *g = bed->g = host_guest_new(&config);

    alarm(WATCHDOG_S);
    host_enable(g, 0);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        uint64_t root = host_alloc(g, 4096);
        uint64_t *pte = host_pte(g, root, 12, 25, HOST_VA, 3, true);

        bed->pte[dev] = (uint8_t *)pte - g->ram + HOST_RAM_BASE;
        bed->page[dev] = host_new_page(g, TAG(dev));
        bed->cd[dev] = host_alloc(g, 64);
        set_pte(bed, dev, true);
        host_write_cd(g, bed->cd[dev], &(HostCd) {
            .asid = 1 + dev, .ttb = { root }, .txsz = { 25 },
            .granule_shift = 12,
        });
    }
    translate(bed);
    if (slow) {
        host_make_slow(bed->g, 0);
    }
    return bed;
}

static void bed_free(Bed *bed)
{
    host_finish(bed->g);
    g_free(bed);
    alarm(0);
}

static void wait_until_held(Bed *bed, unsigned n)
{
    for (int i = 0; host_counter(bed->g, "held") < n; i++) {
        g_assert_cmpint(i, <, 100000);
        g_usleep(100);
    }
}

static uint64_t calls(Bed *bed)
{
    return host_counter(bed->g, "call." INVALIDATE);
}

static uint32_t cons(Bed *bed)
{
    return smmu_read(bed->g, 0, SMMU_CMDQ_CONS) & 0xfffff;
}

/* The guest unmaps HOST_VA of @dev, and the host does not answer */
static void unmap_held(Bed *bed, unsigned dev)
{
    uint32_t before = bed->g->smmu[0].prod;

    control(bed, "fail " INVALIDATE "~hold");
    set_pte(bed, dev, false);
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_VA(1 + dev, HOST_VA, 1));
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    wait_until_held(bed, 1);
    g_assert_cmphex(smmu_read(bed->g, 0, SMMU_CMDQ_PROD), ==,
                    bed->g->smmu[0].prod);
    g_assert_cmphex(cons(bed), ==, before);
}

static void release(Bed *bed)
{
    control(bed, "fail clear");
    control(bed, "release");
}

static void wait_until_consumed(Bed *bed)
{
    for (int i = 0; cons(bed) != bed->g->smmu[0].prod; i++) {
        g_assert_cmpint(i, <, 100000);
        g_assert_cmphex(smmu_read(bed->g, 0, SMMU_GERROR), ==,
                        smmu_read(bed->g, 0, SMMU_GERRORN));
        g_usleep(100);
    }
}

/*
 * QMP answers. The call to the host is held until this test releases it, so an
 * answer at all shows that QMP does not wait for the call. No clock is needed.
 */
static void query(Bed *bed)
{
    qtest_qmp_assert_success(bed->g->qts, "{'execute': 'query-status'}");
    qtest_qmp_assert_success(bed->g->qts, "{'execute': 'query-pci'}");
}

/* QMP answers while the guest waits; the CMD_SYNC completes after the call */
static void test_qmp(const void *args)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(args, true);
    for (unsigned n = 0; n < 3; n++) {
        uint32_t start = bed->g->smmu[0].prod;

        control(bed, "zero");
        unmap_held(bed, n % 2);
        query(bed);
        /* The guest goes on to fill its queue, and no other call is made */
        for (unsigned i = 0; i < 20; i++) {
            smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(1 + i));
            smmu_cmd(bed->g, 0, CMD_SYNC);
            smmu_kick(bed->g, 0);
        }
        g_assert_cmphex(cons(bed), ==, start);
        g_assert_cmpuint(host_counter(bed->g, "call." INVALIDATE), ==, 1);
        release(bed);
        wait_until_consumed(bed);
        host_check_faults(bed->g, n % 2, HOST_VA);
        set_pte(bed, n % 2, true);
        host_check_reads(bed->g, n % 2, HOST_VA, TAG(n % 2));
    }
    bed_free(bed);
}

/*
 * A batch that is full, in the middle of what a CMD_SYNC waits for; @streams:
 * with commands for streams only, of which each may concern several streams
 */
static void test_long_batch(const void *streams)
{
    enum { PAGES = 1000, QUEUE_LOG2 = 11 };
    uint64_t queue, *slot;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(",ril=off", true);
    queue = host_alloc(bed->g, 16ull << QUEUE_LOG2);
    slot = host_ram(bed->g, queue);
    for (uint64_t i = 0; i < PAGES; i++) {
        uint64_t sid = host_sid(bed->g, i % 2);

        *slot++ = cpu_to_le64(streams ? 0x05 | sid << 32
                                      : 0x12 | (i % 7) << 48);
        *slot++ = cpu_to_le64(streams ? 1 : HOST_VA + (i * 3 << 12) + 1);
        *slot++ = cpu_to_le64(0x06 | sid << 32);
        *slot++ = 0;
    }
    *slot++ = cpu_to_le64(0x46);
    *slot++ = 0;
    smmu_use_cmdq(bed->g, 0, queue, QUEUE_LOG2);
    control(bed, "zero");
    control(bed, "fail " INVALIDATE "~hold");
    smmu_write(bed->g, 0, SMMU_CMDQ_PROD, 2 * PAGES + 1);
    wait_until_held(bed, 1);
    query(bed);
    g_assert_cmphex(cons(bed), ==, 0);
    release(bed);
    for (int i = 0; cons(bed) != 2 * PAGES + 1; i++) {
        g_assert_cmpint(i, <, 100000);
        g_usleep(100);
    }
    g_assert_cmpuint(host_counter(bed->g, streams ? "smmu.cmd.CFGI_CD"
                                                  : "smmu.cmd.TLBI_NH_VA"),
                     >=, PAGES);
    g_assert_cmpuint(host_counter(bed->g, "smmu.cmd.CFGI_CD_ALL"), >=, PAGES);
    bed_free(bed);
}

/* A device with ATS that translates HOST_VA */
static HostGuest *start_with_ats(void)
{
    const uint64_t eats = 1ull << 28;
    HostGuest *g;

    alarm(WATCHDOG_S);
    g = host_guest_new(&(HostGuestConfig) {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .dev[0].keys = "ats=on",
    });
    host_enable(g, 0);
    smmu_ste(g, 0, host_sid(g, 0))[1] = cpu_to_le64(eats);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 5, host_new_page(g, 7))));
    host_check_reads(g, 0, HOST_VA, 7);
    return g;
}

/*
 * A command for a stream, of which there may be several, is the last one that
 * fits into a batch. @refused: the host refuses the batch, and then it is slow.
 */
static void test_full_batch(const void *refused)
{
    enum { ALMOST = 4 * 63 - 1 };
    Bed *bed;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, false);
    g = bed->g;
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        uint64_t cd = host_one_page_cd(g, 5 + dev, bed->page[!dev]);

        memcpy(host_ram(g, bed->cd[dev]), host_ram(g, cd), 64);
    }
    for (unsigned n = 0; n < ALMOST; n++) {
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(100 + n));
    }
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, dev)));
    }
    control(bed, "zero");
    if (refused) {
        control(bed, "fail " INVALIDATE ":1=EIO");
        control(bed, "fail " INVALIDATE ":2+2~110000");
    }
    smmu_sync_ok(g, 0);
    control(bed, "fail clear");
    g_assert_cmpuint(host_counter(g, "smmu.cmd.TLBI_NH_ASID"), ==, ALMOST);
    g_assert_cmpuint(host_counter(g, "smmu.cmd.CFGI_CD_ALL"), ==, N_DEVS);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        host_check_reads(g, dev, HOST_VA, TAG(!dev));
    }
    bed_free(bed);
}

/*
 * The same, on a host that is slow from then on and fails.  The write of
 * CMDQ_PROD, and with it QMP, does not wait until the host is well again, nor
 * for each command.  @silent: the commands are ATC_INVs for a device that does
 * not answer, which Linux reports one by one.
 */
static void test_full_batch_fails(const void *silent)
{
    enum { ALMOST = 4 * 63 - 1, FEW = 8 };
    unsigned error;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_with_ats();
    for (unsigned n = 0; n < ALMOST; n++) {
        if (silent) {
            smmu_cmd(g, 0, CMD_ATC_INV(host_sid(g, 0), HOST_VA + (n << 12), 0));
        } else {
            smmu_cmd(g, 0, CMD_TLBI_NH_ASID(100 + n));
        }
    }
    smmu_cmd(g, 0, CMD_ATC_INV(host_sid(g, 0), 0, 0));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(99));
    smmu_cmd(g, 0, CMD_SYNC);
    qobject_unref(host_control(g, "zero"));
    qobject_unref(host_control(g, "fail " INVALIDATE ":1+*~120000"));
    if (silent) {
        qobject_unref(host_control(g, "atc dma0 dead"));
    } else {
        host_allow(g, SAID_TAKES_NONE);
        qobject_unref(host_control(g, "fail " INVALIDATE ":1+*=ETIMEDOUT"));
    }
    smmu_kick(g, 0);
    qtest_qmp_assert_success(g->qts, "{'execute': 'query-status'}");
    g_assert_cmpuint(host_counter(g, "call." INVALIDATE), <, FEW);
    qobject_unref(host_control(g, "fail clear"));
    if (silent) {
        qobject_unref(host_control(g, "atc dma0 alive"));
    }
    error = smmu_sync(g, 0);
    if (error) {
        g_assert_cmpuint(error, ==, silent ? SMMU_CERROR_ATC :
                                             SMMU_CERROR_ABT);
        smmu_ack(g, 0);
    }
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 6, host_new_page(g, 8))));
    host_check_reads(g, 0, HOST_VA, 8);
    host_finish(g);
    alarm(0);
}

/*
 * An ATC does not answer, which a job finds out, and the CMD_SYNC has to wait
 * for another job. It fails nevertheless. A PREFETCH_CONFIG parts the two jobs.
 */
static void test_atc_timeout_then_job(void)
{
    uint32_t sid;
    Bed bed = {};
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = bed.g = start_with_ats();
    sid = host_sid(g, 0);
    host_make_slow(g, 0);
    control(&bed, "atc dma0 dead");
    smmu_cmd(g, 0, CMD_ATC_INV(sid, HOST_VA, 0));
    smmu_cmd(g, 0, HOST_CMD(0x01 | (uint64_t)sid << 32, 0));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(99));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ATC);
    control(&bed, "atc dma0 alive");
    smmu_ack(g, 0);
    smmu_sync_ok(g, 0);
    host_check_reads(g, 0, HOST_VA, 7);
    host_finish(g);
    alarm(0);
}

/*
 * The host refuses a batch at once, and becomes slow while QEMU looks for the
 * command. A thread goes on where QEMU was. @illegal: there is such a command.
 */
static void test_slow_recovery(const void *illegal)
{
    uint32_t before;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, false);
    control(bed, "zero");
    control(bed, "fail " INVALIDATE ":1=EIO");
    control(bed, "fail " INVALIDATE ":2~110000");
    if (illegal) {
        control(bed, "fail " INVALIDATE ":3=EIO");
    }
    control(bed, "fail " INVALIDATE ":3~hold");
    before = bed->g->smmu[0].prod;
    for (unsigned n = 0; n < 3; n++) {
        smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5 + n));
    }
    smmu_kick(bed->g, 0);
    wait_until_held(bed, 1);
    query(bed);
    g_assert_cmphex(cons(bed), !=, bed->g->smmu[0].prod);
    release(bed);
    if (illegal) {
        g_assert_cmpuint(smmu_sync(bed->g, 0), ==, SMMU_CERROR_ILL);
        g_assert_cmphex(cons(bed), ==, before + 1);
        smmu_ack(bed->g, 0);
    } else {
        smmu_sync_ok(bed->g, 0);
        g_assert_cmpuint(host_counter(bed->g, "smmu.cmd.TLBI_NH_ASID"), ==, 3);
    }
    host_check_reads(bed->g, 0, HOST_VA, TAG(0));
    bed_free(bed);
}

/*
 * The host takes no invalidations, so the streams have to abort. The host is
 * slow then (QMP gets its turn in between), also after a command that it has
 * refused; or it is busy, and QEMU tries again.
 */
static void test_park(const void *opaque)
{
    const char *how = opaque;
    bool busy = g_str_equal(how, "busy");
    bool illegal = g_str_equal(how, "illegal");
    uint64_t calls;
    uint32_t at;
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, false);
    g = bed->g;
    host_expect(g, SAID_TAKES_NONE);
    if (busy) {
        host_expect(g, SAID_CANNOT_MOVE);
    }
    control(bed, "zero");
    if (illegal) {
        control(bed, "fail " INVALIDATE ":1+2=EIO");
        control(bed, "fail " INVALIDATE ":3+*=ENOMEM");
    } else {
        control(bed, "fail " INVALIDATE ":1+*=ENOMEM");
    }
    if (busy) {
        control(bed, "fail " ATTACH ":1=EBUSY");
    } else {
        control(bed, "fail " ATTACH ":1~110000");
    }
    at = g->smmu[0].prod;
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
    smmu_cmd(g, 0, CMD_SYNC);
    smmu_kick(g, 0);
    for (int i = 0; !(smmu_read(g, 0, SMMU_GERROR) & SMMU_GERROR_CMDQ); i++) {
        g_assert_cmpint(i, <, 100000);
        g_usleep(100);
    }
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), ==,
                    illegal ? SMMU_CERROR_ILL << 24 | at
                            : SMMU_CERROR_ABT << 24 | (at + 1));
    g_assert_cmpuint(host_counter(g, "call." ATTACH), ==, N_DEVS);
    /* To try again, QEMU has to invalidate everything first */
    calls = host_counter(g, "call." INVALIDATE);
    for (int i = 0; busy && host_counter(g, "call." INVALIDATE) == calls; i++) {
        g_assert_cmpint(i, <, 10000);
        g_usleep(1000);
    }
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        host_check_faults(g, dev, HOST_VA);
    }
    control(bed, "fail clear");
    smmu_ack(g, 0);
    translate(bed);
    bed_free(bed);
}

/* A device leaves, and the other one goes on */
static void test_unplug(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    unmap_held(bed, 0);
    host_guest_unplug(bed->g, 1);
    query(bed);
    release(bed);
    wait_until_consumed(bed);
    host_check_faults(bed->g, 0, HOST_VA);
    bed_free(bed);
}

/*
 * The device whose StreamID the commands name leaves: the host refuses them,
 * but the guest has done nothing wrong, and the other device goes on
 */
static void test_unplug_named(void)
{
    uint32_t sid;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    sid = host_sid(bed->g, 1);
    control(bed, "fail " INVALIDATE "~hold");
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5));
    smmu_cmd(bed->g, 0, CMD_CFGI_CD_ALL(sid));
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    wait_until_held(bed, 1);
    host_guest_unplug(bed->g, 1);
    release(bed);
    wait_until_consumed(bed);
    host_check_reads(bed->g, 0, HOST_VA, TAG(0));
    bed_free(bed);
}

/* The last device leaves, which waits for the call, and for no further one */
static void test_unplug_last(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    host_guest_unplug(bed->g, 1);
    control(bed, "fail " INVALIDATE ":1=ETIMEDOUT");
    control(bed, "fail " INVALIDATE "~200000");
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5));
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    host_guest_unplug(bed->g, 0);
    wait_until_consumed(bed);
    g_assert_cmpuint(host_objects(bed->g, "viommu"), ==, 0);

    /* It comes back */
    control(bed, "fail clear");
    g_assert_null(host_guest_plug(bed->g, 0));
    host_set_ste(bed->g, 0, STE_S1(bed->cd[0]));
    host_check_reads(bed->g, 0, HOST_VA, TAG(0));
    bed_free(bed);
}

/*
 * The last device leaves while QEMU looks for the command that the host has
 * refused, with a slow call for each. That search ends, and leaves nothing.
 */
static void test_unplug_last_soon(void)
{
    enum { COMMANDS = 60 };
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    host_guest_unplug(bed->g, 1);
    control(bed, "zero");
    control(bed, "fail " INVALIDATE ":1=EIO");
    control(bed, "fail " INVALIDATE ":1+*~100000");
    for (unsigned n = 0; n < COMMANDS; n++) {
        smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5 + n));
    }
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    host_guest_unplug(bed->g, 0);
    wait_until_consumed(bed);
    g_assert_cmpuint(calls(bed), <, COMMANDS / 2);
    host_check_rests(bed->g);
    g_assert_cmpuint(calls(bed), <, COMMANDS / 2);
    bed_free(bed);
}

/*
 * To remove the last device of a slow host QEMU makes no call that may wait for
 * its queue. The device comes back, and nothing stale is used: host_finish().
 */
static void test_unplug_last_uncalled(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    host_guest_unplug(bed->g, 1);
    control(bed, "zero");
    host_guest_unplug(bed->g, 0);
    g_assert_cmpuint(host_objects(bed->g, "viommu"), ==, 0);
    /* Nor is there anybody whom a command could be about */
    smmu_cmd(bed->g, 0, CMD_CFGI_STE(host_sid(bed->g, 0)));
    smmu_cmd(bed->g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(bed->g, 0);
    g_assert_cmpuint(calls(bed), ==, 0);
    g_assert_null(host_guest_plug(bed->g, 0));
    host_set_ste(bed->g, 0, STE_S1(bed->cd[0]));
    g_assert_cmpuint(calls(bed), >, 0);
    host_check_reads(bed->g, 0, HOST_VA, TAG(0));
    bed_free(bed);
}

/* A host that is quick invalidates all in one call, which has one sync */
static void test_unplug_last_quick(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, false);
    host_guest_unplug(bed->g, 1);
    control(bed, "zero");
    host_guest_unplug(bed->g, 0);
    g_assert_cmpuint(calls(bed), ==, 1);
    g_assert_cmpuint(host_counter(bed->g, "smmu.cmd.CFGI_CD_ALL"), >, 0);
    bed_free(bed);
}

/* It is slow at that call, and the device that comes next does not wait */
static void test_unplug_last_then_slow(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, false);
    host_guest_unplug(bed->g, 1);
    control(bed, "fail " INVALIDATE "~150000");
    host_guest_unplug(bed->g, 0);
    control(bed, "fail clear");
    g_assert_null(host_guest_plug(bed->g, 0));
    g_assert_true(host_is_slow(bed->g, 0));
    bed_free(bed);
}

/* A call that is slow at the end of a drain, with no CMD_SYNC behind it */
static void test_slow_at_end(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, false);
    control(bed, "fail " INVALIDATE "~150000");
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5));
    smmu_kick(bed->g, 0);
    g_assert_true(host_is_slow(bed->g, 0));
    control(bed, "fail clear");
    bed_free(bed);
}

/*
 * QEMU waits for the first slow call, which has one sync. A thread makes those
 * for the rest of the batch, and x-drain-us does not matter.
 */
static void test_first_slow_call(void)
{
    enum { PAGES = 1000, QUEUE_LOG2 = 10 };
    uint64_t queue, *slot;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(",ril=off,x-drain-us=100000000", false);
    queue = host_alloc(bed->g, 16ull << QUEUE_LOG2);
    slot = host_ram(bed->g, queue);
    for (uint64_t i = 0; i < PAGES; i++) {
        *slot++ = cpu_to_le64(0x12 | (i % 7) << 48);
        *slot++ = cpu_to_le64(HOST_VA + (i * 3 << 12) + 1);
    }
    smmu_use_cmdq(bed->g, 0, queue, QUEUE_LOG2);
    control(bed, "zero");
    control(bed, "fail " INVALIDATE ":1~150000");
    control(bed, "fail " INVALIDATE ":2~hold");
    smmu_write(bed->g, 0, SMMU_CMDQ_PROD, PAGES);
    wait_until_held(bed, 1);
    query(bed);
    g_assert_cmpuint(calls(bed), ==, 2);
    g_assert_cmpuint(host_counter(bed->g, "smmu.cmd.TLBI_NH_VA"), ==, 63);
    release(bed);
    bed->g->smmu[0].prod = PAGES;
    wait_until_consumed(bed);
    g_assert_cmpuint(host_counter(bed->g, "smmu.cmd.TLBI_NH_VA"), >=, PAGES);
    bed_free(bed);
}

/*
 * A stream could not translate, because the host took no invalidations.  It
 * does when another stream's CFGI_STE has found the host well.
 */
static void test_stale_neighbour(const void *slow)
{
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, slow != NULL);
    g = bed->g;
    host_expect(g, SAID_TAKES_NONE);
    host_expect(g, SAID_CANNOT_MOVE);
    host_expect(g, SAID_CANNOT_MOVE);
    control(bed, "fail " INVALIDATE ":1+*=ENOMEM");
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(99));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ABT);
    smmu_ack(g, 0);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        host_set_ste(g, dev, STE_S1(bed->cd[dev]));
        host_check_faults(g, dev, HOST_VA);
    }
    control(bed, "fail clear");
    host_set_ste(g, 1, STE_S1(bed->cd[1]));
    host_check_reads(g, 1, HOST_VA, TAG(1));
    if (slow) {
        host_check_reads(g, 0, HOST_VA, TAG(0));
    } else {
        uint64_t value;

        HOST_WAIT(host_dma_read64(g, 0, HOST_VA, &value));
        g_assert_cmphex(value, ==, TAG(0));
    }
    bed_free(bed);
}

/*
 * With x-drain-us=0 the main loop drains, also before it is known that the host
 * is slow: the write of CMDQ_PROD does not wait for the call
 */
static void test_main_loop_first(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(",x-drain-us=0", false);
    control(bed, "zero");
    control(bed, "fail " INVALIDATE ":1~hold");
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(99));
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    wait_until_held(bed, 1);
    release(bed);
    wait_until_consumed(bed);
    g_assert_cmpuint(calls(bed), ==, 1);
    bed_free(bed);
}

/*
 * The host permits no further thread, for whatever reason. The calls are made
 * by the main loop, which serves QMP in between.
 */
static void test_no_thread(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    host_expect(bed->g, SAID_NO_THREAD);
    control(bed, "fail pthread_create:1+*=EAGAIN");
    for (unsigned n = 0; n < 3; n++) {
        set_pte(bed, 0, false);
        smmu_cmd(bed->g, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1));
        smmu_sync_ok(bed->g, 0);
        host_check_faults(bed->g, 0, HOST_VA);
        set_pte(bed, 0, true);
    }
    g_assert_cmpuint(host_counter(bed->g, "call.pthread_create"), ==, 3);
    query(bed);

    /*
     * One call at a time, each of them slow, until the host's error is found.
     * What QMP is asked within one call it answers before the last one.
     */
    control(bed, "zero");
    control(bed, "fail " INVALIDATE ":1=EIO");
    control(bed, "fail " INVALIDATE ":12=EIO");
    control(bed, "fail " INVALIDATE ":1+*~110000");
    control(bed, "fail " INVALIDATE ":2~hold");
    control(bed, "fail " INVALIDATE ":12~hold");
    for (unsigned n = 0; n < 12; n++) {
        smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5 + n));
    }
    smmu_kick(bed->g, 0);
    wait_until_held(bed, 1);
    qtest_qmp_send(bed->g->qts, "{'execute': 'query-status'}");
    control(bed, "release");
    wait_until_held(bed, 2);
    alarm(WATCHDOG_S / 4);
    qobject_unref(qtest_qmp_receive(bed->g->qts));
    control(bed, "release");
    g_assert_cmpuint(smmu_sync(bed->g, 0), ==, SMMU_CERROR_ILL);
    g_assert_cmpuint(calls(bed), ==, 13);
    control(bed, "fail clear");
    smmu_ack(bed->g, 0);
    host_check_reads(bed->g, 0, HOST_VA, TAG(0));
    bed_free(bed);
}

static unsigned mappings(Bed *bed)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps",
                                            (int)qtest_pid(bed->g->qts));
    g_autofree char *text = NULL;
    unsigned n = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (const char *p = text; (p = strchr(p, '\n')); p++) {
        n++;
    }
    return n;
}

/* Each thread gives its stack back */
static void test_threads_end(void)
{
    enum { FIRST = 20, THREADS = 100 };
    unsigned before = 0;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    control(bed, "zero");
    for (unsigned n = 0; n < FIRST + THREADS; n++) {
        if (n == FIRST) {
            before = mappings(bed);
        }
        smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5));
        smmu_sync_ok(bed->g, 0);
    }
    g_assert_cmpuint(calls(bed), >=, FIRST + THREADS);
    g_assert_cmpuint(mappings(bed), <, before + THREADS / 2);
    bed_free(bed);
}

/*
 * A batch without an ATC_INV that has timed out holds no command to be found:
 * each further try may take a second
 */
static void test_timeout_once(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    control(bed, "zero");
    control(bed, "fail " INVALIDATE ":1=ETIMEDOUT");
    for (unsigned n = 0; n < 10; n++) {
        smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5 + n));
    }
    smmu_sync_ok(bed->g, 0);
    g_assert_cmpuint(calls(bed), ==, 2);
    host_check_reads(bed->g, 0, HOST_VA, TAG(0));
    bed_free(bed);
}

/* A device arrives */
static void test_plug(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    host_guest_unplug(bed->g, 1);
    unmap_held(bed, 0);
    g_assert_null(host_guest_plug(bed->g, 1));
    host_check_reads(bed->g, 1, HOST_VA, TAG(1));
    release(bed);
    wait_until_consumed(bed);
    host_check_faults(bed->g, 0, HOST_VA);
    host_check_reads(bed->g, 1, HOST_VA, TAG(1));
    bed_free(bed);
}

/* The old queue's error is none of the new one's */
static void fail_held(Bed *bed)
{
    control(bed, "fail " INVALIDATE ":1+2=EIO");
    control(bed, "fail " INVALIDATE "~hold");
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5));
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    wait_until_held(bed, 1);
}

static void test_reset(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    fail_held(bed);
    qtest_system_reset(bed->g->qts);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        host_setup_port(bed->g, dev);
        host_setup_device(bed->g, dev);
    }
    smmu_enable(bed->g, 0);
    smmu_cmd(bed->g, 0, CMD_CFGI_ALL);
    smmu_cmd(bed->g, 0, CMD_TLBI_NSNH_ALL);
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    query(bed);
    g_assert_cmphex(cons(bed), ==, 0);
    control(bed, "release");
    wait_until_consumed(bed);
    control(bed, "fail clear");
    translate(bed);
    bed_free(bed);
}

/*
 * The guest's queue begins anew, in other memory with @n commands of one word.
 * They are not there yet: PROD is 0.
 */
static void use_commands(Bed *bed, const uint64_t *words, unsigned n)
{
    enum { QUEUE_LOG2 = 4 };
    uint64_t queue = host_alloc(bed->g, 16ull << QUEUE_LOG2);
    uint64_t *slot = host_ram(bed->g, queue);

    for (unsigned i = 0; i < n; i++) {
        slot[2 * i] = cpu_to_le64(words[i]);
    }
    smmu_use_cmdq(bed->g, 0, queue, QUEUE_LOG2);
}

static void issue_commands(Bed *bed, unsigned n)
{
    bed->g->smmu[0].prod = n;
    smmu_kick(bed->g, 0);
}

static void test_cmdqen(void)
{
    static const uint64_t syncs[] = { 0x46, 0x46, 0x46 };
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    fail_held(bed);
    use_commands(bed, syncs, ARRAY_SIZE(syncs));
    issue_commands(bed, ARRAY_SIZE(syncs));
    g_assert_cmphex(cons(bed), ==, 0);
    control(bed, "release");
    wait_until_consumed(bed);
    bed_free(bed);
}

/* A slow host that has failed, so that no stream translates. Device 1 is out */
static Bed *stale_bed(void)
{
    Bed *bed = bed_new(NULL, true);

    host_expect(bed->g, SAID_TAKES_NONE);
    host_guest_unplug(bed->g, 1);
    control(bed, "fail " INVALIDATE ":1+*=ETIMEDOUT");
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5));
    g_assert_cmpuint(smmu_sync(bed->g, 0), ==, SMMU_CERROR_ABT);
    smmu_ack(bed->g, 0);
    return bed;
}

/*
 * An error that waits for the next CMD_SYNC is no more when the queue begins
 * anew
 */
static void test_cmdqen_failed(void)
{
    static const uint64_t sync[] = { 0x46 };
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, false);
    g = bed->g;
    host_expect(g, SAID_TAKES_NONE);
    control(bed, "fail " INVALIDATE ":1+*=ENOMEM");
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
    smmu_kick(g, 0);
    control(bed, "fail clear");
    use_commands(bed, sync, 1);
    issue_commands(bed, 1);
    wait_until_consumed(bed);
    bed_free(bed);
}

/* The queue begins anew while a CFGI_STE waits for a host that fails */
static void test_cmdqen_resync(void)
{
    uint64_t commands[2];
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = stale_bed();
    g = bed->g;
    host_allow(g, SAID_CANNOT_MOVE);
    control(bed, "fail " INVALIDATE ":1+*~hold");
    smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, 0)));
    smmu_kick(g, 0);
    wait_until_held(bed, 1);
    commands[0] = 0x03 | (uint64_t)host_sid(g, 0) << 32;
    commands[1] = 0x46;
    use_commands(bed, commands, 2);
    /* It fails, but the next call would not */
    issue_commands(bed, 2);
    release(bed);
    wait_until_consumed(bed);
    host_check_reads(g, 0, HOST_VA, TAG(0));
    bed_free(bed);
}

/* The machine stops: nothing completes before it runs again */
static void test_stop(void)
{
    uint32_t before;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    unmap_held(bed, 0);
    before = cons(bed);
    qtest_qmp_assert_success(bed->g->qts, "{'execute': 'stop'}");
    release(bed);
    for (unsigned i = 0; i < 50; i++) {
        g_assert_cmphex(cons(bed), ==, before);
        g_usleep(1000);
    }
    qtest_qmp_assert_success(bed->g->qts, "{'execute': 'cont'}");
    wait_until_consumed(bed);
    host_check_faults(bed->g, 0, HOST_VA);
    bed_free(bed);
}

/* The host refuses a command: CMDQ_CONS stops at that one */
static void test_illegal(void)
{
    uint32_t before;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    /* The batch, then each command alone: the second one fails */
    control(bed, "fail " INVALIDATE ":1=EIO");
    control(bed, "fail " INVALIDATE ":3=EIO");
    control(bed, "fail " INVALIDATE "~hold");
    before = bed->g->smmu[0].prod;
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5));
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(6));
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(7));
    smmu_kick(bed->g, 0);
    wait_until_held(bed, 1);
    g_assert_cmphex(cons(bed), ==, before);
    control(bed, "release");
    g_assert_cmpuint(smmu_sync(bed->g, 0), ==, SMMU_CERROR_ILL);
    g_assert_cmphex(cons(bed), ==, before + 1);
    smmu_ack(bed->g, 0);
    control(bed, "fail clear");
    host_check_reads(bed->g, 0, HOST_VA, TAG(0));
    bed_free(bed);
}

/*
 * An illegal command comes after commands that wait for the host. The error
 * must not appear before these are complete, when CMDQ_CONS is at the first.
 */
static void test_illegal_behind(void)
{
    uint32_t before;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    control(bed, "fail " INVALIDATE "~hold");
    before = bed->g->smmu[0].prod;
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5));
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(6));
    smmu_cmd(bed->g, 0, HOST_CMD(0xff, 0));
    smmu_kick(bed->g, 0);
    wait_until_held(bed, 1);
    g_assert_cmphex(smmu_read(bed->g, 0, SMMU_GERROR), ==, 0);
    g_assert_cmphex(cons(bed), ==, before);
    release(bed);
    g_assert_cmpuint(smmu_sync(bed->g, 0), ==, SMMU_CERROR_ILL);
    g_assert_cmphex(cons(bed), ==, before + 2);
    smmu_ack(bed->g, 0);
    bed_free(bed);
}

/* The last device leaves while a CFGI_STE waits for the host */
static void test_unplug_last_resync(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = stale_bed();
    control(bed, "zero");
    control(bed, "fail " INVALIDATE "~400000");
    smmu_cmd(bed->g, 0, CMD_CFGI_STE(host_sid(bed->g, 0)));
    smmu_cmd(bed->g, 0, CMD_SYNC);
    smmu_kick(bed->g, 0);
    host_guest_unplug(bed->g, 0);
    wait_until_consumed(bed);
    /* There is nothing that it could be called for */
    query(bed);
    g_assert_cmpuint(calls(bed), ==, 1);
    g_assert_cmpuint(host_objects(bed->g, "viommu"), ==, 0);
    host_check_rests(bed->g);
    g_assert_cmpuint(calls(bed), ==, 1);
    bed_free(bed);
}

/* An edge without a command about the device, after which its STE translates */
typedef enum Edge { EDGE_PLUG, EDGE_ENABLE, EDGE_RENUMBER } Edge;

/*
 * The host works again, but no command has told QEMU so when @edge comes. The
 * STE translates without a CFGI_STE. QEMU does not wait for the host; a
 * CMD_SYNC does. @busy: the host cannot attach then, and later it can.
 */
static void recover(Bed *bed, Edge edge, bool busy)
{
    unsigned dev = edge == EDGE_PLUG ? 1 : 0;
    HostGuest *g = bed->g;
    uint64_t value;
    uint8_t bus;

    control(bed, "fail clear");
    control(bed, "fail " INVALIDATE "~hold");
    switch (edge) {
    case EDGE_PLUG:
        g_assert_null(host_guest_plug(g, 1));
        break;
    case EDGE_ENABLE:
        host_expect(g, SAID_CANNOT_MOVE);
        smmu_disable(g, 0);
        smmu_enable(g, 0);
        break;
    case EDGE_RENUMBER:
        host_allow(g, SAID_CANNOT_MOVE);
        bus = g->dev[dev].bus + 8;
        *smmu_ste(g, 0, bus << 8) =
            cpu_to_le64(STE_S1(bed->cd[dev]));
        host_set_bus(g, dev, bus);
        break;
    }
    wait_until_held(bed, 1);
    query(bed);
    host_check_faults(g, dev, HOST_VA);
    if (busy) {
        host_allow(g, SAID_CANNOT_MOVE);
        control(bed, "fail " ATTACH ":1+*=EBUSY");
        control(bed, "release");
        /* The queues do not wait for that */
        smmu_sync_ok(g, 0);
        control(bed, "fail clear");
        HOST_WAIT(host_dma_read64(g, dev, HOST_VA, &value));
    } else {
        release(bed);
        smmu_sync_ok(g, 0);
    }
    host_check_reads(g, dev, HOST_VA, TAG(dev));
}

static void test_stale(const void *edge)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = stale_bed();
    recover(bed, GPOINTER_TO_INT(edge), false);
    bed_free(bed);
}

static void test_stale_busy(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = stale_bed();
    recover(bed, EDGE_ENABLE, true);
    bed_free(bed);
}

/* Two edges want the same of the host, which gets one call for both */
static void test_stale_both(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = stale_bed();
    host_expect(bed->g, SAID_CANNOT_MOVE);
    control(bed, "fail clear");
    control(bed, "zero");
    control(bed, "fail " INVALIDATE ":1+*~hold");
    smmu_disable(bed->g, 0);
    smmu_enable(bed->g, 0);
    wait_until_held(bed, 1);
    g_assert_null(host_guest_plug(bed->g, 1));
    query(bed);
    g_usleep(20 * 1000);
    g_assert_cmpuint(calls(bed), ==, 1);
    release(bed);
    smmu_sync_ok(bed->g, 0);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        host_check_reads(bed->g, dev, HOST_VA, TAG(dev));
    }
    bed_free(bed);
}

/*
 * A host that has failed at once is slow at the next attempt, which the guest
 * causes. QEMU waits for that call, and has a thread for the next one.
 */
static void test_stale_slow(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, false);
    host_expect(bed->g, SAID_TAKES_NONE);
    host_expect(bed->g, SAID_CANNOT_MOVE);
    control(bed, "fail " INVALIDATE ":1+*=ENOMEM");
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5));
    g_assert_cmpuint(smmu_sync(bed->g, 0), ==, SMMU_CERROR_ABT);
    smmu_ack(bed->g, 0);
    control(bed, "fail clear");
    control(bed, "fail " INVALIDATE ":1+2=ETIMEDOUT");
    control(bed, "fail " INVALIDATE ":1+2~110000");
    smmu_disable(bed->g, 0);
    control(bed, "zero");
    smmu_enable(bed->g, 0);
    g_assert_true(host_is_slow(bed->g, 0));
    smmu_sync_ok(bed->g, 0);
    g_assert_cmpuint(calls(bed), <=, 2);
    control(bed, "fail clear");
    translate(bed);
    bed_free(bed);
}

/*
 * A host whose SMMU has the erratum gets each call twice. The first of the
 * calls that let a stream translate again takes its time. QEMU does not wait
 * for the second one then, and a job makes both.
 */
static void test_stale_stops(const void *opaque)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = "profile=tegra264",
    };
    bool plug = g_str_equal(opaque, "plug");
    uint64_t value;
    HostGuest *g;
    Bed bed = {};

    if (host_skipped()) {
        return;
    }
    bed.g = g = host_guest_new(&config);
    alarm(WATCHDOG_S);
    host_enable(g, 0);
    bed.cd[0] = host_one_page_cd(g, 1, host_new_page(g, TAG(0)));
    host_set_ste(g, 0, STE_S1(bed.cd[0]));
    host_check_reads(g, 0, HOST_VA, TAG(0));
    host_expect(g, SAID_TAKES_NONE);
    host_allow(g, SAID_CANNOT_MOVE);
    control(&bed, "fail " INVALIDATE ":1+*=ENOMEM");
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(5));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ABT);
    smmu_ack(g, 0);
    if (plug) {
        host_guest_unplug(g, 0);
    }
    control(&bed, "fail clear");
    control(&bed, "fail " INVALIDATE ":1^110000");
    control(&bed, "zero");
    if (plug) {
        g_assert_null(host_guest_plug(g, 0));
    } else if (g_str_equal(opaque, "enable")) {
        smmu_disable(g, 0);
        smmu_enable(g, 0);
    } else {
        host_set_ste(g, 0, STE_S1(bed.cd[0]));
    }
    HOST_WAIT(host_dma_read64(g, 0, HOST_VA, &value));
    g_assert_cmphex(value, ==, TAG(0));
    /* That one, the job's, and for a CFGI_STE those about its CDs */
    g_assert_cmpuint(calls(&bed), <=, 5);
    host_finish(g);
    alarm(0);
}

/* The threads that QEMU wants for an unmap, none of which it gets */
static unsigned unmap_threads(Bed *bed)
{
    unsigned threads;

    host_allow(bed->g, SAID_NO_THREAD);
    control(bed, "zero");
    control(bed, "fail pthread_create:1+*=EAGAIN");
    set_pte(bed, 0, false);
    smmu_cmd(bed->g, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1));
    smmu_sync_ok(bed->g, 0);
    host_check_faults(bed->g, 0, HOST_VA);
    set_pte(bed, 0, true);
    threads = host_counter(bed->g, "call.pthread_create");
    control(bed, "fail clear");
    return threads;
}

/*
 * The guest's commands are quick for more than a minute, as none of them needs
 * the host while nothing translates. That says nothing of the host: when a
 * device comes, QEMU still does not wait for it. This call shows that the host
 * is quick: QEMU needs no thread for the next ones. After a slow one it does,
 * for a minute.
 */
static void test_stale_later(void)
{
    uint64_t before;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = stale_bed();
    before = calls(bed);
    for (unsigned n = 0; n < 3; n++) {
        control(bed, "advance 61000000");
        smmu_cmd(bed->g, 0, CMD_TLBI_NH_ASID(5));
        smmu_sync_ok(bed->g, 0);
    }
    g_assert_cmpuint(calls(bed), ==, before);
    recover(bed, EDGE_PLUG, false);
    host_set_ste(bed->g, 0, STE_S1(bed->cd[0]));

    g_assert_cmpuint(unmap_threads(bed), ==, 0);
    host_make_slow(bed->g, 0);
    g_assert_cmpuint(unmap_threads(bed), ==, 1);
    control(bed, "advance 61000000");
    g_assert_cmpuint(unmap_threads(bed), ==, 1);
    g_assert_cmpuint(unmap_threads(bed), ==, 0);
    bed_free(bed);
}

/* One attempt to call a host that is dead, and no further one by itself */
static void test_plug_dead(void)
{
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, true);
    host_guest_unplug(bed->g, 1);
    host_guest_unplug(bed->g, 0);
    control(bed, "zero");
    control(bed, "fail " INVALIDATE ":1+*=ETIMEDOUT");
    g_assert_null(host_guest_plug(bed->g, 0));
    smmu_sync_ok(bed->g, 0);
    g_usleep(50000);
    g_assert_cmpuint(calls(bed), ==, 1);
    host_check_faults(bed->g, 0, HOST_VA);
    control(bed, "fail clear");
    host_set_ste(bed->g, 0, STE_S1(bed->cd[0]));
    host_check_reads(bed->g, 0, HOST_VA, TAG(0));
    bed_free(bed);
}

/*
 * The host's queue is dead: each call takes long, and fails. The guest sees one
 * error, at the CMD_SYNC, and its devices abort. When the host works again, so
 * do they.
 */
static void test_dead(const void *opaque)
{
    bool known = opaque;
    uint32_t at;
    uint64_t calls;
    QDict *event;
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, known);
    g = bed->g;
    host_expect(g, SAID_TAKES_NONE);
    host_expect(g, SAID_CANNOT_MOVE);
    control(bed, "fail " INVALIDATE ":1+*=ETIMEDOUT");
    if (known) {
        control(bed, "fail " INVALIDATE ":1~hold");
    } else {
        /* QEMU waits for the call that shows it, and for no further one */
        control(bed, "fail " INVALIDATE ":1~150000");
        control(bed, "fail " INVALIDATE ":2~hold");
    }
    set_pte(bed, 0, false);
    at = g->smmu[0].prod + 1;
    smmu_cmd(g, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1));
    smmu_cmd(g, 0, CMD_SYNC);
    smmu_kick(g, 0);
    wait_until_held(bed, 1);
    query(bed);
    control(bed, "release");
    for (int i = 0; !(smmu_read(g, 0, SMMU_GERROR) & SMMU_GERROR_CMDQ); i++) {
        g_assert_cmpint(i, <, 100000);
        g_usleep(100);
    }
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), ==,
                    SMMU_CERROR_ABT << 24 | at);
    /* QMP was told before, so that an answer comes after that */
    query(bed);
    event = qtest_qmp_event_ref(g->qts, "SMMUV3_INVALIDATIONS_LOST");
    g_assert_nonnull(event);
    qobject_unref(event);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        host_check_faults(g, dev, HOST_VA);
    }

    /* Linux tries again; as nothing translates, the host is not called */
    calls = host_counter(g, "call." INVALIDATE);
    smmu_write(g, 0, SMMU_GERRORN, SMMU_GERROR_CMDQ);
    for (unsigned i = 0; i < 5; i++) {
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1 + i));
        smmu_sync_ok(g, 0);
    }
    g_assert_cmpuint(host_counter(g, "call." INVALIDATE), ==, calls);

    /* To translate again everything has to be invalidated, which may wait */
    control(bed, "fail " INVALIDATE "~hold");
    smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, 0)));
    smmu_cmd(g, 0, CMD_SYNC);
    smmu_kick(g, 0);
    wait_until_held(bed, 2);
    query(bed);
    control(bed, "release");
    wait_until_consumed(bed);
    host_check_faults(g, 0, HOST_VA);
    g_assert_cmpuint(host_counter(g, "call." INVALIDATE), ==, calls + 1);

    control(bed, "fail clear");
    set_pte(bed, 0, true);
    translate(bed);
    bed_free(bed);
}

/* What comes before the first CMD_SYNC */
typedef enum Before { TLBI_CD, TLBI_STE, CD_TLBI } Before;

static void *kick(void *opaque)
{
    smmu_kick(opaque, 0);
    return NULL;
}

/*
 * Events before a CMD_SYNC: QEMU is in a call, and the main loop cannot read
 * the event meanwhile. Nor can it afterwards, because another call follows the
 * CMD_SYNC.
 */
static void test_events(const void *opaque)
{
    const Before before = GPOINTER_TO_INT(opaque);
    static const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .smmu_args = ",x-drain-us=100000000",
    };
    unsigned events = 0;
    Bed bed = {};
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = bed.g = host_guest_new(&config);
    alarm(WATCHDOG_S);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    /* The second time only TLB entries go, but there was an event before */
    for (unsigned n = 0; n < 2; n++) {
        GThread *guest;
        uint32_t *record = host_ram(g, g->smmu[0].eventq + 32 * events++);

        control(&bed, "zero");
        control(&bed, "fail " INVALIDATE ":1~hold");
        /* A CFGI_STE comes after a call, and causes one */
        control(&bed, before == TLBI_STE && !n ? "fail " INVALIDATE ":3~hold"
                                               : "fail " INVALIDATE ":2~hold");
        if (!n && before == CD_TLBI) {
            smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, 0)));
        }
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        if (!n && before == TLBI_CD) {
            smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, 0)));
        } else if (!n && before == TLBI_STE) {
            smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, 0)));
        }
        smmu_cmd(g, 0, CMD_SYNC);
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(2));
        smmu_cmd(g, 0, CMD_SYNC);
        guest = g_thread_new("guest", kick, g);
        wait_until_held(&bed, 1);
        qobject_unref(host_control(g, "event dma0 0x%x 0 0x%x 0",
                                   F_TRANSLATION, 0x1000));
        g_assert_cmphex(qatomic_read(record), ==, 0);
        control(&bed, "release");
        wait_until_held(&bed, 2);
        g_assert_cmphex(le32_to_cpu(qatomic_read(record)) & 0xff, ==,
                        F_TRANSLATION);
        release(&bed);
        g_thread_join(guest);
        wait_until_consumed(&bed);
        g_assert_cmphex(smmu_read(g, 0, SMMU_EVENTQ_PROD), ==, events);
    }
    host_finish(g);
    alarm(0);
}

/*
 * The host was busy with a stream that should bypass, so that the stream is
 * detached. Before it is tried again invalidations are lost, which is no reason
 * to park that stream.
 */
static void test_busy_and_lost(void)
{
    uint64_t value, page;
    GThread *guest;
    HostGuest *g;
    Bed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(NULL, false);
    g = bed->g;
    page = host_new_page(g, 9);
    host_allow(g, SAID_CANNOT_MOVE);
    host_expect(g, SAID_TAKES_NONE);
    control(bed, "fail " ATTACH ":1+*=EBUSY");
    host_set_ste(g, 1, STE_BYPASS);
    host_check_faults(g, 1, page);
    control(bed, "fail " INVALIDATE ":1=ENOMEM");
    control(bed, "fail " INVALIDATE ":1~hold");
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(5));
    guest = g_thread_new("guest", kick, g);
    wait_until_held(bed, 1);
    control(bed, "fail clear");
    control(bed, "fail " INVALIDATE ":1+*=ENOMEM");
    control(bed, "release");
    g_thread_join(guest);
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ABT);
    smmu_ack(g, 0);
    host_check_faults(g, 0, HOST_VA);
    HOST_WAIT(host_dma_read64(g, 1, page, &value));
    g_assert_cmphex(value, ==, 9);
    control(bed, "fail clear");
    bed_free(bed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_data_func("/smmuv3-slow/qmp/trap", NULL, test_qmp);
    qtest_add_data_func("/smmuv3-slow/qmp/main-loop", ",x-drain-us=0",
                        test_qmp);
    qtest_add_data_func("/smmuv3-slow/qmp/trapped-reads",
                        ",x-direct-registers=off", test_qmp);
    qtest_add_data_func("/smmuv3-slow/long-batch/pages", NULL,
                        test_long_batch);
    qtest_add_data_func("/smmuv3-slow/long-batch/streams", "streams",
                        test_long_batch);
    qtest_add_data_func("/smmuv3-slow/full-batch/quick", NULL,
                        test_full_batch);
    qtest_add_data_func("/smmuv3-slow/full-batch/refused", "refused",
                        test_full_batch);
    qtest_add_data_func("/smmuv3-slow/full-batch/dead", NULL,
                        test_full_batch_fails);
    qtest_add_data_func("/smmuv3-slow/full-batch/silent", "silent",
                        test_full_batch_fails);
    qtest_add_func("/smmuv3-slow/atc-timeout-then-job",
                   test_atc_timeout_then_job);
    qtest_add_data_func("/smmuv3-slow/recovery/legal", NULL,
                        test_slow_recovery);
    qtest_add_data_func("/smmuv3-slow/recovery/illegal", "illegal",
                        test_slow_recovery);
    qtest_add_data_func("/smmuv3-slow/park/slow", "slow", test_park);
    qtest_add_data_func("/smmuv3-slow/park/illegal", "illegal", test_park);
    qtest_add_data_func("/smmuv3-slow/park/busy", "busy", test_park);
    qtest_add_func("/smmuv3-slow/unplug", test_unplug);
    qtest_add_func("/smmuv3-slow/unplug-named", test_unplug_named);
    qtest_add_func("/smmuv3-slow/unplug-last", test_unplug_last);
    qtest_add_func("/smmuv3-slow/unplug-last-soon", test_unplug_last_soon);
    qtest_add_func("/smmuv3-slow/unplug-last-resync", test_unplug_last_resync);
    qtest_add_func("/smmuv3-slow/unplug-last-uncalled",
                   test_unplug_last_uncalled);
    qtest_add_func("/smmuv3-slow/unplug-last-quick", test_unplug_last_quick);
    qtest_add_func("/smmuv3-slow/unplug-last-then-slow",
                   test_unplug_last_then_slow);
    qtest_add_func("/smmuv3-slow/at-end", test_slow_at_end);
    qtest_add_func("/smmuv3-slow/first-slow-call", test_first_slow_call);
    qtest_add_func("/smmuv3-slow/main-loop-first", test_main_loop_first);
    qtest_add_func("/smmuv3-slow/no-thread", test_no_thread);
    qtest_add_func("/smmuv3-slow/threads-end", test_threads_end);
    qtest_add_func("/smmuv3-slow/timeout-once", test_timeout_once);
    qtest_add_func("/smmuv3-slow/plug", test_plug);
    qtest_add_func("/smmuv3-slow/reset", test_reset);
    qtest_add_func("/smmuv3-slow/cmdqen", test_cmdqen);
    qtest_add_func("/smmuv3-slow/cmdqen-failed", test_cmdqen_failed);
    qtest_add_func("/smmuv3-slow/cmdqen-resync", test_cmdqen_resync);
    qtest_add_func("/smmuv3-slow/stop", test_stop);
    qtest_add_func("/smmuv3-slow/illegal", test_illegal);
    qtest_add_func("/smmuv3-slow/illegal-behind", test_illegal_behind);
    qtest_add_data_func("/smmuv3-slow/stale/plug",
                        GINT_TO_POINTER(EDGE_PLUG), test_stale);
    qtest_add_data_func("/smmuv3-slow/stale/enable",
                        GINT_TO_POINTER(EDGE_ENABLE), test_stale);
    qtest_add_data_func("/smmuv3-slow/stale/renumber",
                        GINT_TO_POINTER(EDGE_RENUMBER), test_stale);
    qtest_add_func("/smmuv3-slow/stale/host-busy", test_stale_busy);
    qtest_add_data_func("/smmuv3-slow/stale/neighbour", "slow",
                        test_stale_neighbour);
    qtest_add_data_func("/smmuv3-slow/stale/neighbour-quick", NULL,
                        test_stale_neighbour);
    qtest_add_func("/smmuv3-slow/stale/both", test_stale_both);
    qtest_add_func("/smmuv3-slow/stale/slow", test_stale_slow);
    qtest_add_data_func("/smmuv3-slow/stale/stops/ste", "ste",
                        test_stale_stops);
    qtest_add_data_func("/smmuv3-slow/stale/stops/enable", "enable",
                        test_stale_stops);
    qtest_add_data_func("/smmuv3-slow/stale/stops/plug", "plug",
                        test_stale_stops);
    qtest_add_func("/smmuv3-slow/stale/later", test_stale_later);
    qtest_add_func("/smmuv3-slow/busy-and-lost", test_busy_and_lost);
    qtest_add_func("/smmuv3-slow/plug-dead", test_plug_dead);
    qtest_add_data_func("/smmuv3-slow/dead/known", "known", test_dead);
    qtest_add_data_func("/smmuv3-slow/dead/new", NULL, test_dead);
    qtest_add_data_func("/smmuv3-slow/events-before-sync/cd",
                        GINT_TO_POINTER(TLBI_CD), test_events);
    qtest_add_data_func("/smmuv3-slow/events-before-sync/ste",
                        GINT_TO_POINTER(TLBI_STE), test_events);
    qtest_add_data_func("/smmuv3-slow/events-before-sync/cd-first",
                        GINT_TO_POINTER(CD_TLBI), test_events);
    return g_test_run();
}
