/*
 * QTest of accel=on: resets of devices, and devices of one IOMMU group
 *
 * While the host resets a device it refuses to move any device of that IOMMU
 * group (EBUSY), and blocks only the one that it resets. Afterwards that device
 * is where it was before. Whatever happens meanwhile: after CFGI_STE and
 * CMD_SYNC no device uses the old STE. Runs on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "smmuv3-host.h"

/* Linux takes care of a reset only if the device has ATS */
static const HostGuestConfig one = {
    .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
    .dev = { { .hotplug = true } },
    .device = "ats=1",
};

/*
 * Two devices of one group. The guest has the first device, and the host keeps
 * the second one. QEMU refuses that if sysfs tells it.
 */
static const HostGuestConfig pair = {
    .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2,
    .dev = { { .hotplug = true }, { .hotplug = true } },
    .device = "ats=1\ngroup=pair\nno_sysfs=1",
};

static void fail(HostGuest *g, const char *rule)
{
    qobject_unref(host_control(g, "fail %s", rule));
}

static void host_resets(HostGuest *g, const char *dev, bool begin)
{
    QDict *answer = host_control(g, "reset %s %s", dev, begin ? "begin" :
                                                                "end");

    g_assert_cmpint(qdict_get_int(answer, "ret"), ==, 0);
    qobject_unref(answer);
}

/* The device reads @want soon, and meanwhile nothing */
static void comes_to_read(HostGuest *g, unsigned dev, uint64_t iova,
                          uint64_t want)
{
    uint64_t got = 0;

    for (int n = 0; n < 800; n++) {
        if (host_dma_read64(g, dev, iova, &got)) {
            break;
        }
        g_usleep(10 * 1000);
    }
    g_assert_cmphex(got, ==, want);
}

/*
 * What the guest may choose: a state of the stream, and what a device reads at
 * HOST_VA and at the address of a page. 0 stands for a fault.
 */
typedef struct Choice {
    uint64_t ste, at_va, at_page;
} Choice;

#define IN_PAGE 0x9a9eull

typedef struct Fixture {
    HostGuest *g;
    uint64_t page;              /* its address is an IOVA of bypass only */
    Choice choice[4];
} Fixture;

static Fixture *fixture_new(const HostGuestConfig *config)
{
    Fixture *f = g_new0(Fixture, 1);
    HostGuest *g = host_guest_new(config);

    f->g = g;
    f->page = host_new_page(g, IN_PAGE);
    f->choice[0].ste = STE_ABORT;
    f->choice[1].ste = STE_BYPASS;
    f->choice[1].at_page = IN_PAGE;
    for (int n = 0; n < 2; n++) {
        f->choice[2 + n].at_va = 1 + n;
        f->choice[2 + n].ste = STE_S1(host_one_page_cd(g, 1 + n,
                                                       host_new_page(g,
                                                                     1 + n)));
    }
    host_enable(g, 0);
    return f;
}

static void fixture_free(Fixture *f)
{
    host_finish(f->g);
    g_free(f);
}

/* The device sees @c, or nothing at all: the host is busy */
static void check_or_blocked(Fixture *f, const Choice *c)
{
    uint64_t got;

    if (host_dma_read64(f->g, 0, HOST_VA, &got)) {
        g_assert_cmphex(got, ==, c->at_va);
    }
    if (host_dma_read64(f->g, 0, f->page, &got)) {
        g_assert_cmphex(got, ==, c->at_page);
    }
}

/* What the device reads, 0 for a fault */
static uint64_t at(Fixture *f, uint64_t iova)
{
    uint64_t got;

    return host_dma_read64(f->g, 0, iova, &got) ? got : 0;
}

static bool sees(Fixture *f, const Choice *c)
{
    return at(f, HOST_VA) == c->at_va && at(f, f->page) == c->at_page;
}

/* The host is not busy any more */
static void comes_to(Fixture *f, const Choice *c)
{
    for (int n = 0; !sees(f, c); n++) {
        check_or_blocked(f, c);
        g_assert_cmpint(n, <, 800);
        g_usleep(10 * 1000);
    }
}

static void check_blocked(Fixture *f)
{
    host_check_faults(f->g, 0, HOST_VA);
    host_check_faults(f->g, 0, f->page);
}

/*
 * EBUSY that does not block the device: the host resets another one of its
 * group. A group of two can abort and bypass, but not translate.
 */
static void test_sibling(void)
{
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    f = fixture_new(&pair);
    g_assert_null(host_guest_plug(f->g, 0));
    for (int from = 0; from < 2; from++) {
        for (int to = 0; to < 2; to++) {
            host_set_ste(f->g, 0, f->choice[from].ste);
            comes_to(f, &f->choice[from]);
            host_resets(f->g, "dma1", true);
            /* Nothing has changed for the device yet */
            g_assert_true(sees(f, &f->choice[from]));
            host_set_ste(f->g, 0, f->choice[to].ste);
            if (from == to) {
                g_assert_true(sees(f, &f->choice[from]));
            } else {
                check_blocked(f);
            }
            host_resets(f->g, "dma1", false);
            comes_to(f, &f->choice[to]);
        }
    }
    fixture_free(f);
}

/* The host resets the device itself, and then puts it back to where it was */
static void test_own(void)
{
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    f = fixture_new(&one);
    g_assert_null(host_guest_plug(f->g, 0));
    for (int from = 0; from < 4; from++) {
        for (int to = 0; to < 4; to++) {
            host_set_ste(f->g, 0, f->choice[from].ste);
            comes_to(f, &f->choice[from]);
            host_resets(f->g, "dma0", true);
            check_blocked(f);
            host_set_ste(f->g, 0, f->choice[to].ste);
            check_blocked(f);
            host_resets(f->g, "dma0", false);
            check_or_blocked(f, &f->choice[to]);
            comes_to(f, &f->choice[to]);
        }
    }
    fixture_free(f);
}

/* The same at SMMUEN and at GBPA */
static void test_smmuen(void)
{
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    f = fixture_new(&one);
    g_assert_null(host_guest_plug(f->g, 0));
    for (int abort = 0; abort < 2; abort++) {
        host_set_ste(f->g, 0, f->choice[2].ste);
        comes_to(f, &f->choice[2]);
        smmu_gbpa(f->g, 0, abort);
        host_resets(f->g, "dma0", true);
        smmu_disable(f->g, 0);
        check_blocked(f);
        host_resets(f->g, "dma0", false);
        comes_to(f, &f->choice[!abort]);
        host_resets(f->g, "dma0", true);
        smmu_gbpa(f->g, 0, !abort);
        check_blocked(f);
        smmu_enable(f->g, 0);
        check_blocked(f);
        host_resets(f->g, "dma0", false);
        comes_to(f, &f->choice[2]);
    }
    fixture_free(f);
}

/*
 * A device comes while the host is busy. If VFIO cannot attach it, device_add
 * fails, and works later. If only what follows fails, the device comes and is
 * blocked: VFIO's attachment would bypass the guest's SMMU.
 */
static void test_plug(void)
{
    g_autofree char *error = NULL;
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    f = fixture_new(&one);
    fail(f->g, "VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+*=EBUSY");
    error = host_guest_plug(f->g, 0);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, strerror(EBUSY)));
    fail(f->g, "clear");

    for (int n = 0; n < 4; n++) {
        const Choice *c = &f->choice[n];

        *smmu_ste(f->g, 0, host_sid(f->g, 0)) = cpu_to_le64(c->ste);
        smmu_cmd(f->g, 0, CMD_CFGI_ALL);
        smmu_sync_ok(f->g, 0);
        fail(f->g, "VFIO_DEVICE_ATTACH_IOMMUFD_PT:2+*=EBUSY");
        g_assert_null(host_guest_plug(f->g, 0));
        check_blocked(f);
        smmu_cmd(f->g, 0, CMD_CFGI_ALL);
        smmu_sync_ok(f->g, 0);
        check_blocked(f);
        fail(f->g, "clear");
        comes_to(f, c);
        host_guest_unplug(f->g, 0);
    }
    fixture_free(f);
}

/*
 * EBUSY for a minute and a half (with -m slow; else for 3 s), which is longer
 * than the longest pause between two attempts, and for ever: the device goes,
 * another one comes, and the machine is reset meanwhile.
 */
static void test_for_ever(void)
{
    unsigned seconds = g_test_slow() ? 90 : 3;
    uint64_t tries;
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    f = fixture_new(&one);
    host_expect(f->g, SAID_CANNOT_MOVE);
    g_assert_null(host_guest_plug(f->g, 0));
    host_set_ste(f->g, 0, f->choice[2].ste);
    fail(f->g, "VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+*=EBUSY");
    host_set_ste(f->g, 0, f->choice[3].ste);
    tries = host_counter(f->g, "call.VFIO_DEVICE_ATTACH_IOMMUFD_PT");
    for (unsigned n = 0; n < 4 * seconds; n++) {
        check_blocked(f);
        g_usleep(250 * 1000);
    }
    tries = host_counter(f->g, "call.VFIO_DEVICE_ATTACH_IOMMUFD_PT") - tries;
    /* QEMU tries again, and more seldom */
    g_assert_cmpuint(tries, >=, 5);
    g_assert_cmpuint(tries, <, 10 + seconds);
    fail(f->g, "clear");
    comes_to(f, &f->choice[3]);

    fail(f->g, "VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+*=EBUSY");
    host_set_ste(f->g, 0, f->choice[2].ste);
    host_guest_unplug(f->g, 0);
    g_assert_cmpuint(host_objects(f->g, "viommu"), ==, 0);
    fail(f->g, "clear");
    fail(f->g, "VFIO_DEVICE_ATTACH_IOMMUFD_PT:2+*=EBUSY");
    g_assert_null(host_guest_plug(f->g, 0));
    check_blocked(f);

    qtest_system_reset(f->g->qts);
    f->g->smmu[0].enabled = false;
    host_setup_port(f->g, 0);
    host_setup_device(f->g, 0);
    check_blocked(f);
    fail(f->g, "clear");
    comes_to_read(f->g, 0, f->page, IN_PAGE);
    fixture_free(f);
}

/*
 * A device is busy for so long that QEMU tries seldom. Another one, which is
 * busy for a moment only, does not wait for that.
 */
static void test_two(void)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2, .device = "ats=1",
    };
    uint64_t got = 0;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_expect(g, SAID_CANNOT_MOVE);
    host_enable(g, 0);
    for (unsigned dev = 0; dev < 2; dev++) {
        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, 1 + dev,
                                                     host_new_page(g, dev))));
    }
    host_resets(g, "dma0", true);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 3, host_new_page(g, 3))));
    for (int n = 0; n < 10; n++) {
        uint64_t tries = host_counter(g, "group.busy");

        qobject_unref(host_control(g, "advance 6000000"));
        for (int i = 0; host_counter(g, "group.busy") == tries; i++) {
            g_assert_cmpint(i, <, 10000);
            smmu_read(g, 0, SMMU_GERRORN);
            g_usleep(1000);
        }
    }
    host_resets(g, "dma1", true);
    host_set_ste(g, 1, STE_S1(host_one_page_cd(g, 4, host_new_page(g, 4))));
    host_resets(g, "dma1", false);
    for (int n = 0; !host_dma_read64(g, 1, HOST_VA, &got); n++) {
        g_assert_cmpint(n, <, 300);
        g_usleep(10 * 1000);
    }
    g_assert_cmphex(got, ==, 4);
    host_resets(g, "dma0", false);
    comes_to_read(g, 0, HOST_VA, 3);
    host_finish(g);
}

/*
 * Many resets by the host, at any moment, against as many STEs of the guest
 * and resets by the guest
 */
static void test_soak(void)
{
    unsigned n_rounds = g_test_slow() ? 10000 : 300;
    /* Its registers must stay, because a reset may come at any time */
    HostGuestConfig config = one;
    const Choice *now;
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    config.device = "ats=1\nignores_resets=1";
    f = fixture_new(&config);
    now = &f->choice[0];
    g_assert_null(host_guest_plug(f->g, 0));
    host_set_ste(f->g, 0, now->ste);
    for (unsigned n = 0; n < n_rounds; n++) {
        if (n % 50 == 0) {
            qobject_unref(host_control(f->g, "resets dma0 100"));
        }
        switch (g_test_rand_int_range(0, 4)) {
        case 0:
            host_flr(f->g, 0);
            break;
        case 1:
            host_bus_reset(f->g, 0);
            break;
        default:
            now = &f->choice[g_test_rand_int_range(0, 4)];
            host_set_ste(f->g, 0, now->ste);
            break;
        }
        check_or_blocked(f, now);
        if (n % 50 == 49) {
            while (host_counter(f->g, "resets.running")) {
                check_or_blocked(f, now);
                g_usleep(1000);
            }
            comes_to(f, now);
        }
    }
    g_test_message("%u resets, %u times EBUSY",
                   (unsigned)host_counter(f->g, "device.reset"),
                   (unsigned)host_counter(f->g, "group.busy"));
    g_assert_cmpuint(host_counter(f->g, "device.reset"), >=, n_rounds);
    g_assert_cmpuint(host_counter(f->g, "group.busy"), >, 0);
    fixture_free(f);
}

/*
 * A device that no reset stops goes on with DMA to the address that it had.
 * After a machine reset the SMMU bypasses, and the address would be one of the
 * guest's memory. Bus mastering must be off before. It must bypass in the end,
 * because firmware boots from such a device.
 */
static void test_ignored_reset(void)
{
    static const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .device = "ignores_resets=1",
    };
    uint64_t page, victim, cd, probes;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    victim = host_new_page(g, 0xbad);
    page = host_new_page(g, 0x600d);
    cd = host_page_cd(g, 1, victim, page);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(cd));
    host_probe_begin(g, 0, victim, 0x600d, 0x600d);
    host_flr(g, 0);
    host_set_ste(g, 0, STE_ABORT);
    host_set_ste(g, 0, STE_S1(cd));
    /* It does go on */
    g_assert_cmpuint(host_probes(g, 0, HOST_PROBES_A), >, 0);

    for (int n = 0; n < 2; n++) {
        probes = host_counter(g, "probe.done");
        qtest_system_reset(g->qts);
        g->smmu[0].enabled = false;
        g_assert_cmpuint(host_counter(g, "probe.done"), >, probes);
        g_assert_cmpuint(host_counter(g, "probe.other"), ==, 0);

        host_setup_port(g, 0);
        host_setup_device(g, 0);
        host_check_reads(g, 0, victim, 0xbad);
        host_probe_begin(g, 0, page, 0x600d, 0x600d);
        host_enable(g, 0);
        host_set_ste(g, 0, STE_S1(cd));
        host_check_reads(g, 0, victim, 0x600d);
        host_probe_begin(g, 0, victim, 0x600d, 0x600d);
    }
    host_finish(g);
}

/* After a reset no message goes to where the last guest wanted it */
static void test_messages(void)
{
    static const unsigned regs[] = { SMMU_EVENTQ_IRQ_CFG,
                                     SMMU_GERROR_IRQ_CFG };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&one);
    for (int i = 0; i < ARRAY_SIZE(regs); i++) {
        uint64_t at = g->smmu[0].base + regs[i];

        smmu_write64(g, 0, regs[i], 0xa5a5a5a5a5a4ull);
        g_assert_cmphex(qtest_readq(g->qts, at), ==, 0xa5a5a5a5a5a4ull);
        qtest_system_reset(g->qts);
        g_assert_cmphex(qtest_readq(g->qts, at), ==, 0);
    }
    host_finish(g);
}

/* @error names both devices, and says what to do about the mate */
static void check_group_error(const char *error, unsigned mate, bool bridge)
{
    g_autofree char *names =
        g_strdup_printf(" shares its IOMMU group in the host with dma%u%s,",
                        mate, bridge ? " (a bridge)" : "");

    if (!error || !strstr(error, "VFIO_FD") || !strstr(error, names) ||
        !!strstr(error, "NAME/remove") == bridge ||
        !!strstr(error, "the bridge must stay") != bridge) {
        g_error("not \"%s\", or other advice: %s", names, error);
    }
}

/* The same at start, and with a bridge in the group */
static void test_group_cold(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2,
        .dev = { { .keys = "group=pair" }, { .hotplug = true } },
    };
    static const struct {
        const char *mate;
        bool bridge;
    } rows[] = {
        { "group=pair", false },
        { "group=pair\nclass=0x060400", true },
        { "group=pair\nclass=0x060401", true },
        { "group=pair\nclass=0x060100", false },
        { "group=pair\nclass=0x040300", false },
    };
    g_autofree char *three = NULL;

    if (host_skipped()) {
        return;
    }
    for (int i = 0; i < ARRAY_SIZE(rows); i++) {
        g_autofree char *error = NULL;

        config.dev[1].keys = rows[i].mate;
        error = host_guest_refused(&config);
        check_group_error(error, 1, rows[i].bridge);
    }
    config.n_devs = 3;
    config.dev[1].keys = config.dev[2].keys = "group=pair";
    config.dev[2].hotplug = true;
    three = host_guest_refused(&config);
    g_assert_true(strstr(three, "dma1, dma2,") || strstr(three, "dma2, dma1,"));
}

/*
 * A device that is not alone in its group is refused, and both are named. Those
 * that are alone go on.
 */
static void test_group(void)
{
    static const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 4,
        .dev = {
            { .keys = "group=pair\nats=1", .hotplug = true },
            { .keys = "group=pair", .hotplug = true },
            { .keys = "group=other", .hotplug = true },
            { .hotplug = true },
        },
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    for (unsigned dev = 2; dev < 4; dev++) {
        g_assert_null(host_guest_plug(g, dev));
        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, dev,
                                                     host_new_page(g, dev))));
    }
    for (unsigned dev = 0; dev < 2; dev++) {
        g_autofree char *error = host_guest_plug(g, dev);

        check_group_error(error, !dev, false);
    }
    for (unsigned dev = 2; dev < 4; dev++) {
        host_check_reads(g, dev, HOST_VA, dev);
    }
    host_finish(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3-reset/sibling", test_sibling);
    qtest_add_func("/smmuv3-reset/own", test_own);
    qtest_add_func("/smmuv3-reset/smmuen", test_smmuen);
    qtest_add_func("/smmuv3-reset/plug", test_plug);
    qtest_add_func("/smmuv3-reset/for-ever", test_for_ever);
    qtest_add_func("/smmuv3-reset/two", test_two);
    qtest_add_func("/smmuv3-reset/soak", test_soak);
    qtest_add_func("/smmuv3-reset/ignored", test_ignored_reset);
    qtest_add_func("/smmuv3-reset/messages", test_messages);
    qtest_add_func("/smmuv3-reset/group", test_group);
    qtest_add_func("/smmuv3-reset/group-cold", test_group_cold);
    return g_test_run();
}
