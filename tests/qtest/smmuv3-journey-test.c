/*
 * QTest of accel=on: what a machine goes through
 *
 * Memory and devices that come and go, devices that sleep, hosts with other
 * granules, bus numbers that collide. Runs on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "hw/pci/pci_regs.h"
#include "qobject/qlist.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define C_BAD_CD    0x0a

/* The next event within a second: the host's reach the guest from a handler */
static void expect_event(HostGuest *g, unsigned i, unsigned type, uint32_t sid)
{
    uint64_t event[4];

    for (int n = 0; !smmu_event(g, i, event); n++) {
        g_assert_cmpint(n, <, 10000);
        g_usleep(100);
    }
    g_assert_cmphex(event[0] & 0xff, ==, type);
    g_assert_cmphex(event[0] >> 32, ==, sid);
}

/*
 * Granules
 *
 * The guest is told exactly the host's. A CD with another one is the host's to
 * judge: it is bad, and the guest gets the event.
 */

static void check_granule(HostGuest *g, unsigned shift, bool has)
{
    enum { PAGES = 8 };
    const uint64_t size = 1ull << shift;
    uint64_t root = host_alloc(g, size), cd = host_alloc(g, 64), event[4];

    for (unsigned n = 0; n < PAGES; n++) {
        uint64_t page = host_alloc(g, size);

        *(uint64_t *)host_ram(g, page + size - 8) = shift << 8 | n;
        *host_pte(g, root, shift, 25, HOST_VA + n * size, 3, true) =
            cpu_to_le64(host_leaf(3, page, PTE_DATA));
    }
    host_write_cd(g, cd, &(HostCd) {
        .asid = shift, .ttb = { root }, .txsz = { 25 }, .granule_shift = shift,
    });
    host_set_ste(g, 0, STE_S1(cd));
    if (!has) {
        uint64_t got;

        g_assert_false(host_dma_read64(g, 0, HOST_VA, &got));
        expect_event(g, 0, C_BAD_CD, host_sid(g, 0));
        return;
    }
    for (unsigned n = 0; n < PAGES; n++) {
        host_check_reads(g, 0, HOST_VA + (n + 1) * size - 8, shift << 8 | n);
    }
    /* As Linux unmaps: the driver invalidates page by page, or a range */
    for (unsigned n = 0; n < PAGES; n++) {
        *host_pte(g, root, shift, 25, HOST_VA + n * size, 3, true) = 0;
        if (n < PAGES / 2) {
            smmu_cmd(g, 0, CMD_TLBI_NH_VA(shift, HOST_VA + n * size, 1));
        }
    }
    if (extract32(smmu_read(g, 0, SMMU_IDR3), 10, 1)) {
        uint64_t tg = (shift - 12) / 2 + 1;

        smmu_cmd(g, 0, HOST_CMD(0x12 | (uint64_t)shift << 48 |
                                (PAGES / 2 - 1) << 12,
                                (HOST_VA + PAGES / 2 * size) | tg << 10 | 1));
    } else {
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(shift));
    }
    smmu_sync_ok(g, 0);
    for (unsigned n = 0; n < PAGES; n++) {
        uint64_t got;

        g_assert_false(host_dma_read64(g, 0, HOST_VA + n * size, &got));
        expect_event(g, 0, F_TRANSLATION, host_sid(g, 0));
    }
    g_assert_false(smmu_event(g, 0, event));
}

static void test_granules(const void *mask_p)
{
    const unsigned mask = GPOINTER_TO_UINT(mask_p);
    g_autofree char *host = g_strdup_printf("profile=grace\nidr5=0x%x",
                                            mask << 4 | 5);
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = host,
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    g_assert_cmphex(extract32(smmu_read(g, 0, SMMU_IDR5), 4, 3), ==, mask);
    host_enable(g, 0);
    for (unsigned shift = 12; shift <= 16; shift += 2) {
        check_granule(g, shift, mask & 1 << (shift - 12) / 2);
    }
    host_finish(g);
}

/*
 * A machine that starts without a device is told 4K and 64K. A device whose
 * host lacks one of them is rejected later, by name of the field. A host that
 * has 16K as well changes nothing for the guest.
 */
static void test_late_granules(const void *mask_p)
{
    const unsigned mask = GPOINTER_TO_UINT(mask_p);
    g_autofree char *host = g_strdup_printf("profile=grace\nidr5=0x%x",
                                            mask << 4 | 5);
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = host,
        .dev = { { .hotplug = true } },
    };
    g_autofree char *error = NULL;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    g_assert_cmphex(extract32(smmu_read(g, 0, SMMU_IDR5), 4, 3), ==, 5);
    error = host_guest_plug(g, 0);
    if ((mask & 5) == 5) {
        g_assert_null(error);
        host_enable(g, 0);
        check_granule(g, 12, true);
        check_granule(g, 16, true);
    } else {
        g_assert_nonnull(error);
        g_assert_nonnull(strstr(error, "IDR5.GRAN64K 0, the guest was told 1"));
        g_assert_nonnull(strstr(error, "start QEMU with the device"));
    }
    g_assert_cmphex(extract32(smmu_read(g, 0, SMMU_IDR5), 4, 3), ==, 5);
    host_finish(g);
}

/*
 * The machine's first device comes, works, goes, and the guest reboots. Then
 * the same happens again. The guest is told the same each time.
 */
static void test_first_device(const void *cold)
{
    static const unsigned registers[] = {
        SMMU_IDR0, SMMU_IDR1, SMMU_IDR3, SMMU_IDR5,
    };
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .dev = { { .hotplug = !cold } },
    };
    uint32_t told[ARRAY_SIZE(registers)];
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    for (int n = 0; n < ARRAY_SIZE(registers); n++) {
        told[n] = smmu_read(g, 0, registers[n]);
    }
    for (unsigned round = 0; round < 4; round++) {
        uint64_t page = host_new_page(g, 0x100 + round), cd;

        if (!g->dev[0].present) {
            g_assert_null(host_guest_plug(g, 0));
        }
        host_check_reads(g, 0, page, 0x100 + round);
        cd = host_one_page_cd(g, 1, page);
        host_enable(g, 0);
        host_set_ste(g, 0, STE_S1(cd));
        host_check_reads(g, 0, HOST_VA, 0x100 + round);
        host_check_faults(g, 0, page);
        if (round % 2) {
            /* The guest goes down while the device is there */
            qtest_system_reset(g->qts);
            host_setup_port(g, 0);
            host_setup_device(g, 0);
            host_check_reads(g, 0, page, 0x100 + round);
        }
        host_guest_unplug(g, 0);
        g_assert_cmpuint(host_objects(g, "viommu"), ==, 0);
        g_assert_cmpuint(host_objects(g, "vdevice"), ==, 0);
        g_assert_cmpuint(host_objects(g, "hwpt_nested"), ==, 0);
        if (!(round % 2)) {
            qtest_system_reset(g->qts);
            host_setup_port(g, 0);
        }
        for (int n = 0; n < ARRAY_SIZE(registers); n++) {
            g_assert_cmphex(smmu_read(g, 0, registers[n]), ==, told[n]);
        }
    }
    host_finish(g);
}

/*
 * A device sleeps in D3hot. Its stream may move meanwhile, the guest may
 * invalidate, reset, unplug: when it wakes up it translates by what is then.
 */

static void set_power_state(HostGuest *g, unsigned dev, unsigned state)
{
    uint64_t config = VIRT_ECAM_BASE | (uint64_t)host_sid(g, dev) << 12;
    uint64_t control = config + host_find_cap(g, config, PCI_CAP_ID_PM) +
                       PCI_PM_CTRL;

    qtest_writew(g->qts, control, state);
    g_assert_cmphex(qtest_readw(g->qts, control) & PCI_PM_CTRL_STATE_MASK, ==,
                    state);
}

static void test_d3hot(void)
{
    uint64_t page[3], cd[2], slept;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 2);
    for (unsigned n = 0; n < 3; n++) {
        page[n] = host_new_page(g, 0x30 + n);
    }
    cd[0] = host_one_page_cd(g, 1, page[0]);
    cd[1] = host_one_page_cd(g, 2, page[1]);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(cd[0]));
    host_set_ste(g, 1, STE_S1(host_one_page_cd(g, 3, page[2])));
    host_check_reads(g, 0, HOST_VA, 0x30);
    slept = host_counter(g, "device.d3hot");

    /* It sleeps, and nothing changes */
    set_power_state(g, 0, 3);
    host_check_reads(g, 1, HOST_VA, 0x32);
    set_power_state(g, 0, 0);
    host_check_reads(g, 0, HOST_VA, 0x30);

    /* Its stream moves */
    set_power_state(g, 0, 3);
    host_set_ste(g, 0, STE_S1(cd[1]));
    set_power_state(g, 0, 0);
    host_check_reads(g, 0, HOST_VA, 0x31);
    set_power_state(g, 0, 3);
    host_set_ste(g, 0, STE_ABORT);
    set_power_state(g, 0, 0);
    host_check_faults(g, 0, HOST_VA);

    /* The guest changes the CD, and resets the SMMU's driver */
    host_set_ste(g, 0, STE_S1(cd[0]));
    host_check_reads(g, 0, HOST_VA, 0x30);
    set_power_state(g, 0, 3);
    smmu_disable(g, 0);
    host_clear_cd(g, cd[0]);
    smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, 0)));
    smmu_sync_ok(g, 0);
    host_enable(g, 0);
    set_power_state(g, 0, 0);
    host_check_faults(g, 0, HOST_VA);

    /* It is reset while it sleeps, which wakes it up */
    host_set_ste(g, 0, STE_S1(cd[1]));
    set_power_state(g, 0, 3);
    host_bus_reset(g, 0);
    host_check_reads(g, 0, HOST_VA, 0x31);
    set_power_state(g, 0, 3);
    qtest_system_reset(g->qts);
    for (unsigned dev = 0; dev < 2; dev++) {
        host_setup_port(g, dev);
        host_setup_device(g, dev);
    }
    host_check_reads(g, 0, page[0], 0x30);

    /* It is unplugged while it sleeps, and comes back awake */
    host_enable(g, 0);
    host_check_reads(g, 0, HOST_VA, 0x31);
    set_power_state(g, 0, 3);
    host_guest_unplug(g, 0);
    g_assert_null(host_guest_plug(g, 0));
    host_check_reads(g, 0, HOST_VA, 0x31);
    host_check_reads(g, 1, HOST_VA, 0x32);
    g_assert_cmpuint(host_counter(g, "device.d3hot") - slept, ==, 7);
    host_finish(g);
}

/*
 * A DIMM comes and goes while the devices of two vSMMUs use it: by stage 1, and
 * by bypass. Nothing reaches memory that has gone, and a new DIMM at the same
 * address is the new one.
 */

#define DIMM_SIZE       (128 * MiB)
#define MEMHP_BASE      0x09070000      /* of virt's ACPI memory hot-plug */
#define MEMHP_SLOT      0x00
#define MEMHP_FLAGS     0x14
#define MEMHP_EJECT     8

static uint64_t plug_dimm(HostGuest *g)
{
    QDict *rsp, *dimm;
    uint64_t at;

    qtest_qmp_assert_success(g->qts, "{'execute': 'object-add', 'arguments': {"
                             "'qom-type': 'memory-backend-ram', 'id': 'more', "
                             "'size': %d}}", (int)DIMM_SIZE);
    qtest_qmp_assert_success(g->qts, "{'execute': 'device_add', 'arguments': {"
                             "'driver': 'pc-dimm', 'id': 'dimm', "
                             "'memdev': 'more'}}");
    rsp = qtest_qmp(g->qts, "{'execute': 'query-memory-devices'}");
    g_assert_cmpuint(qlist_size(qdict_get_qlist(rsp, "return")), ==, 1);
    dimm = qobject_to(QDict, qlist_peek(qdict_get_qlist(rsp, "return")));
    at = qdict_get_int(qdict_get_qdict(dimm, "data"), "addr");
    qobject_unref(rsp);
    return at;
}

static void unplug_dimm(HostGuest *g)
{
    qtest_qmp_assert_success(g->qts, "{'execute': 'device_del', 'arguments': "
                             "{'id': 'dimm'}}");
    qtest_writel(g->qts, MEMHP_BASE + MEMHP_SLOT, 0);
    qtest_writeb(g->qts, MEMHP_BASE + MEMHP_FLAGS, MEMHP_EJECT);
    qobject_unref(host_wait_for_event(g, "DEVICE_DELETED"));
    qtest_qmp_assert_success(g->qts, "{'execute': 'object-del', 'arguments': "
                             "{'id': 'more'}}");
}

static void test_dimm(const void *smmu_args)
{
    enum { DEVS = 4, PAGES = 4 };
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = DEVS, .smmu_args = smmu_args,
        .args = "-m 256M,slots=2,maxmem=1G ",
        .dev = { { .vsmmu = 0 }, { .vsmmu = 1 }, { .vsmmu = 0 },
                 { .vsmmu = 1, .hotplug = true } },
    };
    uint64_t at = 0, root[DEVS], cd[DEVS];
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    host_enable(g, 1);
    for (unsigned dev = 0; dev < DEVS; dev++) {
        root[dev] = host_alloc(g, 4096);
        cd[dev] = host_alloc(g, 64);
        /* With one stage 2 for both, ASIDs are unique among the vSMMUs */
        host_write_cd(g, cd[dev], &(HostCd) {
            .asid = 1 + dev, .ttb = { root[dev] }, .txsz = { 25 },
            .granule_shift = 12,
        });
    }
    for (unsigned round = 0; round < 4; round++) {
        uint64_t now = plug_dimm(g);

        g_assert_true(!at || now == at);
        at = now;
        if (round == 2) {
            /* This one arrives when the memory is there */
            g_assert_null(host_guest_plug(g, 3));
        }
        for (unsigned n = 0; n < PAGES; n++) {
            qtest_writeq(g->qts, at + n * 32 * MiB, round << 8 | n);
        }
        for (unsigned dev = 0; dev < DEVS; dev++) {
            if (!g->dev[dev].present) {
                continue;
            }
            host_set_ste(g, dev, dev == 2 ? STE_BYPASS : STE_S1(cd[dev]));
            for (unsigned n = 0; n < PAGES; n++) {
                uint64_t page = at + n * 32 * MiB, va = HOST_VA + n * 4096;

                *host_pte(g, root[dev], 12, 25, va, 3, true) =
                    cpu_to_le64(host_leaf(3, page, PTE_DATA));
                host_check_reads(g, dev, dev == 2 ? page : va, round << 8 | n);
            }
            g_assert_true(host_dma_write64(g, dev, dev == 2 ? at : HOST_VA,
                                           0x5000 + dev));
            g_assert_cmphex(qtest_readq(g->qts, at), ==, 0x5000 + dev);
            qtest_writeq(g->qts, at, round << 8);
        }
        unplug_dimm(g);
        /*
         * The tables of the guest may still name it, and the TLB had it: the
         * host's stage 2 is what has changed
         */
        for (unsigned dev = 0; dev < DEVS; dev++) {
            for (unsigned n = 0; g->dev[dev].present && n < PAGES; n++) {
                host_check_faults(g, dev, dev == 2 ? at + n * 32 * MiB
                                                   : HOST_VA + n * 4096);
            }
        }
    }
    host_finish(g);
}

/*
 * Bus numbers that collide
 */

/*
 * The guest gives a bus below one vSMMU a number that belongs to the other
 * one's root complex. Each device is translated by its own vSMMU, and in the
 * IORT each StreamID belongs to one SMMU.
 */
static void test_foreign_number(void)
{
    g_autofree uint8_t *table = NULL;
    g_autofree char *iort = NULL;
    uint64_t cd[2];
    HostGuest *g;
    size_t len;

    if (host_skipped()) {
        return;
    }
    g = host_start(2, 2);
    host_set_bus(g, 0, g->dev[1].bus);
    g_assert_cmphex(host_sid(g, 0), ==, host_sid(g, 1));
    for (unsigned dev = 0; dev < 2; dev++) {
        host_enable(g, dev);
        cd[dev] = host_one_page_cd(g, 1, host_new_page(g, dev));
        host_set_ste(g, dev, STE_S1(cd[dev]));
    }
    for (unsigned dev = 0; dev < 2; dev++) {
        host_check_reads(g, dev, HOST_VA, dev);
        host_set_ste(g, dev, STE_ABORT);
        host_check_faults(g, dev, HOST_VA);
        host_check_reads(g, !dev, HOST_VA, !dev);
        host_set_ste(g, dev, STE_S1(cd[dev]));
    }
    table = smmuv3_acpi_table(g->qts, "IORT", &len);
    iort = smmuv3_iort_summary(table, len);
    g_test_message("%s", iort);
    g_assert_nonnull(strstr(iort, "RC: 0x0+0x5000>1 0x5000+0x300>2 "));
    g_assert_nonnull(strstr(iort, "0x8000000+0x100000: 0x0+0x5000>1\n"));
    g_assert_nonnull(strstr(iort, "0x8000000+0x100000: 0x5000+0x300>2\n"));
    host_finish(g);
}

/*
 * Two devices of one vSMMU get one StreamID, and keep it. One of them has it,
 * the other's DMA aborts until the guest numbers its bus properly.
 */
static void test_same_number(void)
{
    unsigned bus;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 2);
    host_enable(g, 0);
    for (unsigned dev = 0; dev < 2; dev++) {
        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, 1 + dev,
                                                     host_new_page(g, dev))));
        host_check_reads(g, dev, HOST_VA, dev);
    }
    bus = g->dev[1].bus;
    host_set_bus(g, 1, g->dev[0].bus);
    smmu_sync_ok(g, 0);
    host_check_reads(g, 0, HOST_VA, 0);
    host_check_faults(g, 1, HOST_VA);
    /* Commands go to the one that has it */
    smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, 0)));
    host_set_ste(g, 0, STE_ABORT);
    host_check_faults(g, 0, HOST_VA);
    host_check_faults(g, 1, HOST_VA);
    host_set_bus(g, 1, bus);
    smmu_sync_ok(g, 0);
    host_check_reads(g, 1, HOST_VA, 1);
    host_check_faults(g, 0, HOST_VA);
    host_finish(g);
}

/*
 * Root complexes that are too close together, and one that is too close to the
 * end: the user hears which, and what to write. Where there are numbers enough,
 * QEMU says nothing.
 */
typedef struct NumberRow {
    const char *name;
    const char *args;
    const char *say[3];         /* none: no warning */
} NumberRow;

#define PXB(id, nr)     "-device pxb-pcie,id=" id ",bus=pcie.0,bus_nr=" nr " "
#define SMMU_ON(bus)    "-device arm-smmuv3,primary-bus=" bus " "
#define PORT(bus, n)    "-device pcie-root-port,bus=" bus ",chassis=" n " "

static const NumberRow number_rows[] = {
    { "enough", PXB("a", "1") PXB("b", "4") PXB("c", "253") SMMU_ON("a")
      PORT("a", "1") PORT("a", "2") PORT("b", "3") PORT("c", "4")
      PORT("c", "5") },
    { "adjacent", PXB("c", "40") PXB("b", "9") PXB("a", "8") SMMU_ON("a")
      PORT("a", "1") PORT("b", "2"),
      { "'a' has bus numbers 8 to 8, but each bridge below it (1) needs",
        "give 'b' bus_nr=10 or more" } },
    { "main", PXB("a", "1") SMMU_ON("a") PORT("pcie.0", "1")
      PORT("pcie.0", "2"),
      { "'pcie.0' has bus numbers 0 to 0, but each bridge below it (2) needs",
        "give 'a' bus_nr=3 or more" } },
    { "end", PXB("a", "254") SMMU_ON("a") PORT("a", "1") PORT("a", "2"),
      { "'a' has bus numbers 254 to 255, but each bridge below it (2) needs",
        "give 'a' bus_nr=253 or less" } },
    { "switch", PXB("a", "8") PXB("b", "10") SMMU_ON("a")
      "-device pcie-root-port,id=p,bus=a,chassis=1 "
      "-device x3130-upstream,id=u,bus=p "
      "-device xio3130-downstream,bus=u,chassis=2 ",
      { "'a' has bus numbers 8 to 9, but each bridge below it (3) needs",
        "give 'b' bus_nr=12 or more" } },
    { "no-smmu", PXB("a", "8") PXB("b", "9") PORT("a", "1") },
};

static void test_numbers(const void *opaque)
{
    const NumberRow *row = opaque;
    HostGuest *g = host_guest_emulated("QTEST_QEMU_BINARY", SMMUV3_MACHINE,
                                       row->args, 0);

    g_assert_cmpint(!!host_said(g, "bus numbers"), ==, !!row->say[0]);
    for (int n = 0; n < ARRAY_SIZE(row->say) && row->say[n]; n++) {
        g_assert_cmpuint(host_said(g, row->say[n]), >, 0);
    }
    host_guest_free(g);
}

/* Two root buses with one number cannot be told apart by StreamID */
static void test_number_taken(void)
{
    smmuv3_check_refused(SMMUV3_MACHINE, true,
                         "-device pxb-pcie,id=a,bus=pcie.0 " SMMU_ON("a"),
                         "primary-bus 'a' has bus number 0, which 'pcie.0' has "
                         "already: write bus_nr=1");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* The model's host has 4K pages, and cannot use an SMMU without them */
    for (unsigned mask = 1; mask < 8; mask += 2) {
        g_autofree char *name = g_strdup_printf(
            "4K%s%s", mask & 2 ? "-16K" : "", mask & 4 ? "-64K" : "");
        g_autofree char *path = g_strconcat("/smmuv3-journey/granules/",
                                            name, NULL);
        g_autofree char *late = g_strconcat("/smmuv3-journey/late-granules/",
                                            name, NULL);

        qtest_add_data_func(path, GUINT_TO_POINTER(mask), test_granules);
        qtest_add_data_func(late, GUINT_TO_POINTER(mask), test_late_granules);
    }
    qtest_add_data_func("/smmuv3-journey/first-device/hot", NULL,
                        test_first_device);
    qtest_add_data_func("/smmuv3-journey/first-device/cold", "cold",
                        test_first_device);
    qtest_add_func("/smmuv3-journey/d3hot", test_d3hot);
    qtest_add_data_func("/smmuv3-journey/dimm/apart", NULL, test_dimm);
    qtest_add_data_func("/smmuv3-journey/dimm/shared-stage2",
                        ",share-stage2=on", test_dimm);
    qtest_add_func("/smmuv3-journey/foreign-number", test_foreign_number);
    qtest_add_func("/smmuv3-journey/same-number", test_same_number);
    for (int n = 0; n < ARRAY_SIZE(number_rows); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-journey/numbers/%s",
                                                number_rows[n].name);

        qtest_add_data_func(path, &number_rows[n], test_numbers);
    }
    qtest_add_func("/smmuv3-journey/number-taken", test_number_taken);
    return g_test_run();
}
