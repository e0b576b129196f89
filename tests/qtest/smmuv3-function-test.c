/*
 * QTest of accel=on: devices with several functions, switches with several
 * ports, and IOMMU groups of the host
 *
 * Each function has a StreamID of its own, and a stream that moves by itself.
 * But the functions of a slot come and go together, and a bus number is that of
 * all of them. Runs on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define MAX_DEVS    8

/* What each device is to read at HOST_VA; its page, and its STE */
typedef struct Space {
    uint64_t page[MAX_DEVS];
    uint64_t ste[MAX_DEVS];
} Space;

#define TAG(dev)    (0xf000 + (dev))

static Space spaces(HostGuest *g)
{
    Space s = { 0 };

    for (unsigned dev = 0; dev < g->config.n_devs; dev++) {
        s.page[dev] = host_new_page(g, TAG(dev));
        s.ste[dev] = STE_S1(host_one_page_cd(g, 1 + dev, s.page[dev]));
    }
    return s;
}

static void translate(HostGuest *g, const Space *s)
{
    for (unsigned dev = 0; dev < g->config.n_devs; dev++) {
        host_set_ste(g, dev, s->ste[dev]);
    }
}

/* The SMMU is enabled, and all devices translate */
static Space enable(HostGuest *g)
{
    Space s = spaces(g);

    host_enable(g, 0);
    translate(g, &s);
    return s;
}

/* Those of @mask translate, and the other ones that are present abort */
static void check(HostGuest *g, uint32_t mask)
{
    for (unsigned dev = 0; dev < g->config.n_devs; dev++) {
        if (!g->dev[dev].present) {
            continue;
        }
        if (mask & 1u << dev) {
            host_check_reads(g, dev, HOST_VA, TAG(dev));
        } else {
            host_check_faults(g, dev, HOST_VA);
        }
    }
}

/*
 * Functions 0, 1, 2 and 7 of a slot are devices 1 to 4, and 0 and 5 have slots
 * of their own.
 */
#define SLOT    0x1e
#define ALL     0x3f

static HostGuest *start_slot(bool hotplug)
{
    static const unsigned functions[] = { 0, 0, 1, 2, 7, 0 };
    HostGuestConfig config = { .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 6 };

    for (unsigned dev = 0; dev < config.n_devs; dev++) {
        config.dev[dev].function = functions[dev];
        config.dev[dev].hotplug = hotplug && (SLOT & 1u << dev);
    }
    return host_guest_new(&config);
}

static void test_slot(void)
{
    uint64_t again, root, *pte, cd[2];
    HostGuest *g;
    Space s;

    if (host_skipped()) {
        return;
    }
    g = start_slot(false);
    s = enable(g);
    g_assert_cmphex(host_sid(g, 4), ==, host_sid(g, 1) + 7);
    g_assert_cmpuint(host_objects(g, "vdevice"), ==, 6);
    check(g, ALL);

    /* Each moves by itself */
    for (unsigned dev = 1; dev <= 4; dev++) {
        host_set_ste(g, dev, STE_ABORT);
        check(g, ALL & ~(1u << dev));
        host_set_ste(g, dev, STE_BYPASS);
        host_check_reads(g, dev, s.page[0], TAG(0));
        check(g, ALL & ~(1u << dev));
        host_set_ste(g, dev, s.ste[dev]);
    }

    /* A range over the slot, which has a StreamID without a function too */
    for (unsigned dev = 1; dev <= 4; dev++) {
        *smmu_ste(g, 0, host_sid(g, dev)) = cpu_to_le64(STE_ABORT);
    }
    smmu_cmd(g, 0, CMD_CFGI_STE_RANGE(host_sid(g, 1), 2));
    smmu_sync_ok(g, 0);
    check(g, ALL & ~SLOT);
    translate(g, &s);

    /* What Linux does in a group: one set of tables, two Context Descriptors */
    root = host_alloc(g, 4096);
    again = host_new_page(g, 0xa9a);
    pte = host_pte(g, root, 12, 25, HOST_VA, 3, true);
    *pte = cpu_to_le64(host_leaf(3, s.page[2], PTE_DATA));
    for (unsigned n = 0; n < 2; n++) {
        cd[n] = host_alloc(g, 64);
        host_write_cd(g, cd[n], &(HostCd) {
            .asid = 77, .ttb = { root }, .txsz = { 25 }, .granule_shift = 12,
        });
        host_set_ste(g, 2 + n, STE_S1(cd[n]));
        host_check_reads(g, 2 + n, HOST_VA, TAG(2));
    }
    qatomic_set(pte, 0);
    smmu_cmd(g, 0, CMD_TLBI_NH_VA(77, HOST_VA, 1));
    smmu_sync_ok(g, 0);
    check(g, ALL & ~(1u << 2 | 1u << 3));
    qatomic_set(pte, cpu_to_le64(host_leaf(3, again, PTE_DATA)));
    host_check_reads(g, 2, HOST_VA, 0xa9a);
    host_check_reads(g, 3, HOST_VA, 0xa9a);
    /* One of them leaves, and its CD goes */
    host_set_ste(g, 2, STE_ABORT);
    host_clear_cd(g, cd[0]);
    smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, 2)));
    smmu_sync_ok(g, 0);
    host_check_faults(g, 2, HOST_VA);
    host_check_reads(g, 3, HOST_VA, 0xa9a);
    translate(g, &s);
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(77));
    smmu_sync_ok(g, 0);

    /* A reset of one, and of all */
    host_flr(g, 3);
    check(g, ALL);
    host_bus_reset(g, 1);
    check(g, ALL);
    host_finish(g);
}

/* One bus number is that of all functions */
static void test_renumber(void)
{
    unsigned bus;
    HostGuest *g;
    Space s;

    if (host_skipped()) {
        return;
    }
    g = start_slot(false);
    s = enable(g);
    bus = g->dev[1].bus;

    /* Tables for the new StreamIDs are there before, except for function 7 */
    for (unsigned dev = 1; dev <= 3; dev++) {
        *smmu_ste(g, 0, 0x4000 | g->dev[dev].devfn) = cpu_to_le64(s.ste[dev]);
    }
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    host_set_bus(g, 1, 0x40);
    smmu_sync_ok(g, 0);
    g_assert_cmphex(host_sid(g, 3), ==, 0x4002);
    check(g, ALL & ~(1u << 4));
    host_set_ste(g, 4, s.ste[4]);
    check(g, ALL);

    /* The old StreamIDs are nobody's */
    smmu_cmd(g, 0, CMD_CFGI_STE_RANGE(bus << 8, 7));
    for (unsigned dev = 1; dev <= 4; dev++) {
        *smmu_ste(g, 0, bus << 8 | g->dev[dev].devfn) = cpu_to_le64(STE_ABORT);
    }
    smmu_cmd(g, 0, CMD_CFGI_STE_RANGE(bus << 8, 7));
    smmu_sync_ok(g, 0);
    check(g, ALL);

    /* Two slots exchange their buses; a function 7 is in one of them only */
    host_set_bus(g, 5, 0x41);
    host_set_bus(g, 1, 0);
    host_set_bus(g, 5, 0x40);
    host_set_bus(g, 1, 0x41);
    translate(g, &s);
    check(g, ALL);
    g_assert_cmpuint(host_objects(g, "vdevice"), ==, 6);
    host_finish(g);
}

/* They go together, whichever of them the user names */
static void test_unplug(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    for (unsigned named = 1; named <= 4; named++) {
        g = start_slot(false);
        enable(g);
        check(g, ALL);
        host_guest_unplug(g, named);
        for (unsigned dev = 0; dev < 6; dev++) {
            g_assert_cmpint(g->dev[dev].present, ==, !(SLOT & 1u << dev));
        }
        g_assert_cmpuint(host_objects(g, "vdevice"), ==, 2);
        g_assert_cmpuint(host_objects(g, "device"), ==, 2);
        check(g, ALL);
        host_finish(g);
    }
}

static char *hidden_error(HostGuest *g, unsigned dev)
{
    char *error = host_guest_plug(g, dev);

    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "cannot be exposed to guest"));
    return error;
}

/*
 * Functions are plugged in any order, with function 0 as the last one. Until
 * then the guest sees none of them, and each can be removed by itself.
 */
static void test_plug(void)
{
    static const unsigned orders[][3] = { { 2, 3, 4 }, { 4, 2, 3 } };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_slot(true);
    enable(g);
    for (unsigned n = 0; n < ARRAY_SIZE(orders); n++) {
        for (unsigned i = 0; i < 3; i++) {
            unsigned dev = orders[n][i];

            g_assert_null(host_guest_plug(g, dev));
            g_assert_cmphex(qtest_readl(g->qts, host_device_config(g, dev)),
                            ==, UINT32_MAX);
        }
        /* One of them was a mistake */
        qtest_qmp_assert_success(g->qts, "{'execute': 'device_del', "
                                 "'arguments': {'id': 'dev3'}}");
        qobject_unref(host_wait_for_event(g, "DEVICE_DELETED"));
        g->dev[3].present = false;
        g_assert_cmpuint(host_objects(g, "device"), ==, 4);
        if (n) {
            g_assert_null(host_guest_plug(g, 3));
        }
        g_assert_null(host_guest_plug(g, 1));
        for (unsigned dev = 1; dev <= 4; dev++) {
            g_assert_cmpint(qtest_readl(g->qts, host_device_config(g, dev)) !=
                            UINT32_MAX, ==, g->dev[dev].present);
        }
        check(g, ALL);
        /* The guest has looked already */
        if (!n) {
            g_autofree char *error = hidden_error(g, 3);

            check(g, ALL);
        }
        host_guest_unplug(g, 2);
        g_assert_cmpuint(host_objects(g, "device"), ==, 2);
        check(g, ALL);
    }
    host_finish(g);
}

/*
 * Devices 0 to 2 are below one switch, at two ports: 1 and 2 are functions of
 * one slot. Device 3 has a root port.
 */
#define SWITCH_BUS      0x20

static HostGuest *start_switch(void)
{
    static const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 4,
        .dev = {
            { .below_switch = true }, { .beside = true }, { .function = 1 },
            { 0 },
        },
    };

    return host_guest_new(&config);
}

static void number_switch(HostGuest *g, unsigned bus)
{
    host_set_switch(g, 0, bus);
    for (unsigned dev = 0; dev < 3; dev++) {
        if (g->dev[dev].present) {
            host_setup_device(g, dev);
        }
    }
}

static void test_switch(void)
{
    HostGuest *g;
    Space s;

    if (host_skipped()) {
        return;
    }
    g = start_switch();
    s = spaces(g);
    host_enable(g, 0);
    number_switch(g, SWITCH_BUS);
    g_assert_cmphex(host_sid(g, 0), ==, (SWITCH_BUS + 2) << 8);
    g_assert_cmphex(host_sid(g, 2), ==, (SWITCH_BUS + 3) << 8 | 1);
    translate(g, &s);
    check(g, 0xf);
    for (unsigned dev = 0; dev < 3; dev++) {
        host_set_ste(g, dev, STE_ABORT);
        check(g, 0xf & ~(1u << dev));
        host_set_ste(g, dev, s.ste[dev]);
    }

    /* The two ports exchange their numbers */
    host_set_bus(g, 0, 0);
    host_set_bus(g, 1, SWITCH_BUS + 2);
    host_set_bus(g, 0, SWITCH_BUS + 3);
    translate(g, &s);
    check(g, 0xf);

    /* All buses get other numbers; the tables follow one by one */
    number_switch(g, SWITCH_BUS + 0x10);
    smmu_sync_ok(g, 0);
    check(g, 8);
    for (unsigned dev = 0; dev < 3; dev++) {
        host_set_ste(g, dev, s.ste[dev]);
        check(g, 8 | MAKE_64BIT_MASK(0, dev + 1));
    }

    /* A reset above takes the numbers of all of them */
    host_switch_reset(g, 0);
    host_check_reads(g, 3, HOST_VA, TAG(3));
    number_switch(g, SWITCH_BUS);
    translate(g, &s);
    check(g, 0xf);

    /* One slot becomes empty, and then the other one */
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned dev = 0; dev < 2; dev++) {
            host_guest_unplug(g, dev);
            check(g, 0xf);
            g_assert_null(host_guest_plug_other(g, dev ? 2 : 0, dev ? 2 : 0));
            if (dev) {
                g_assert_null(host_guest_plug(g, 1));
            }
            check(g, 0xf);
        }
    }
    host_finish(g);
}

/*
 * Two devices of one IOMMU group can both be assigned where there is no SMMU,
 * beside a device that has one: in each order, and in each order they go. At
 * any time a place behind the SMMU is refused to them.
 */
static void check_refused(HostGuest *g, unsigned model)
{
    g_autofree char *error = host_guest_plug_other(g, 3, model);
    g_autofree char *mate = g_strdup_printf(" shares its IOMMU group in the "
                                            "host with dma%u,", 3 - model);

    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, mate));
    g_assert_nonnull(strstr(error, "assign both without accel=on"));
}

static void test_group(void)
{
    static const HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 4, .no_smmu = true,
        .dev = {
            { 0 },
            { .vsmmu = 1, .keys = "group=pair", .hotplug = true },
            { .vsmmu = 1, .keys = "group=pair", .hotplug = true },
            { .hotplug = true },
        },
        .args = "-device arm-smmuv3,id=s0,accel=on,primary-bus=pcie.0 ",
    };
    uint64_t page;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    page = host_new_page(g, 0x9999);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, page)));
    for (unsigned n = 0; n < 4; n++) {
        unsigned first = 1 + n % 2, leaves = 1 + n / 2;

        check_refused(g, 1);
        check_refused(g, 2);
        g_assert_null(host_guest_plug(g, first));
        host_check_reads(g, first, page, 0x9999);
        check_refused(g, 3 - first);
        g_assert_null(host_guest_plug(g, 3 - first));
        host_check_reads(g, 1, page, 0x9999);
        host_check_reads(g, 2, page, 0x9999);

        host_guest_unplug(g, leaves);
        check_refused(g, leaves);
        host_check_reads(g, 3 - leaves, page, 0x9999);
        host_check_reads(g, 0, HOST_VA, 0x9999);
        host_guest_unplug(g, 3 - leaves);
        host_check_reads(g, 0, HOST_VA, 0x9999);
    }
    host_finish(g);
}

/* Saves the guest for a reboot of the host; returns how that ended */
static char *save_for_reboot(HostGuest *g)
{
    char *status = NULL;

    qtest_qmp_assert_success(g->qts, "{'execute': 'migrate-set-parameters', "
                             "'arguments': {'mode': 'cpr-reboot'}}");
    qtest_qmp_assert_success(g->qts, "{'execute': 'migrate', 'arguments': "
                             "{'uri': 'exec:cat >/dev/null'}}");
    for (int n = 0; !status; n++) {
        QDict *rsp = qtest_qmp_assert_success_ref(
            g->qts, "{'execute': 'query-migrate'}");
        const char *now = qdict_get_try_str(rsp, "status");

        if (!g_strcmp0(now, "completed") || !g_strcmp0(now, "failed")) {
            status = g_strdup(now);
        }
        qobject_unref(rsp);
        g_assert_cmpint(n, <, 3000);
        g_usleep(10000);
    }
    return status;
}

/* Devices that have gone have no say in it, and one that is there has */
static void test_save_for_reboot(void)
{
    static const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .no_smmu = true,
        .dev[0].hotplug = true,
    };
    g_autofree char *first = NULL, *second = NULL;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_allow(g, "only supports cpr-reboot for runstate suspended");
    for (unsigned n = 0; n < 2; n++) {
        g_assert_null(host_guest_plug(g, 0));
        host_guest_unplug(g, 0);
    }
    g_assert_null(host_guest_plug(g, 0));
    first = save_for_reboot(g);
    g_assert_cmpstr(first, ==, "failed");
    host_guest_unplug(g, 0);
    second = save_for_reboot(g);
    g_assert_cmpstr(second, ==, "completed");
    host_finish(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3-function/slot", test_slot);
    qtest_add_func("/smmuv3-function/renumber", test_renumber);
    qtest_add_func("/smmuv3-function/unplug", test_unplug);
    qtest_add_func("/smmuv3-function/plug", test_plug);
    qtest_add_func("/smmuv3-function/switch", test_switch);
    qtest_add_func("/smmuv3-function/group", test_group);
    qtest_add_func("/smmuv3-function/save-for-reboot", test_save_for_reboot);
    return g_test_run();
}
