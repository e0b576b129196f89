/*
 * QTest of accel=on: the whole path, from the guest's tables to a byte
 *
 * The guest's STE, CD, stage-1 tables, registers and invalidations decide what
 * a device reads and writes. Runs on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define VA_HIGH     0xffffff8000000000ull

/*
 * Granules, levels, both halves of the address space
 */

typedef struct TableRow {
    const char *name;
    unsigned granule_shift, txsz;
    int level;
    bool high;
} TableRow;

static const TableRow table_rows[] = {
    { "4k-48-page", 12, 16, 3 },
    { "4k-48-2m", 12, 16, 2 },
    { "4k-48-page-high", 12, 16, 3, true },
    { "4k-48-2m-high", 12, 16, 2, true },
    { "4k-39-page", 12, 25, 3 },
    { "4k-39-2m-high", 12, 25, 2, true },
    { "4k-37-page", 12, 27, 3 },
    { "16k-48-page", 14, 16, 3 },
    { "16k-48-32m", 14, 16, 2 },
    { "16k-47-page-high", 14, 17, 3, true },
    { "16k-38-32m-high", 14, 26, 2, true },
    { "64k-48-page", 16, 16, 3 },
    { "64k-42-page", 16, 22, 3 },
    { "64k-48-page-high", 16, 16, 3, true },
};

static void test_tables(const void *opaque)
{
    const TableRow *row = opaque;
    uint64_t size, va, pa, root, cd, ones;
    g_autofree uint8_t *data = g_malloc(4096), *back = g_malloc(4096);
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    size = host_level_size(row->granule_shift, row->level);
    ones = row->high ? UINT64_MAX << (64 - row->txsz) : 0;
    va = ones | (0x345678000000ull & MAKE_64BIT_MASK(0, 64 - row->txsz) &
                 ~(size - 1));
    pa = host_alloc(g, size);
    root = host_alloc(g, 1ull << row->granule_shift);
    cd = host_alloc(g, 64);
    *host_pte(g, root, row->granule_shift, row->txsz, va, row->level, true) =
        cpu_to_le64(host_leaf(row->level, pa, PTE_DATA));
    host_write_cd(g, cd, &(HostCd) {
        .asid = 7, .ttb = { row->high ? 0 : root, row->high ? root : 0 },
        .txsz = { row->txsz, row->txsz }, .granule_shift = row->granule_shift,
    });
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(cd));

    for (unsigned n = 0; n < 4096; n++) {
        data[n] = n * 7 + (n >> 8);
    }
    /* The device writes at the start, and reads back at the end */
    g_assert_true(host_dma_write(g, 0, va, data, 4096));
    g_assert_cmpmem(host_ram(g, pa), 4096, data, 4096);
    memcpy(host_ram(g, pa + size - 4096), data, 4096);
    g_assert_true(host_dma_read(g, 0, va + size - 4096, back, 4096));
    g_assert_cmpmem(back, 4096, data, 4096);
    /* nothing beside it is mapped */
    host_check_faults(g, 0, va + size);
    host_check_faults(g, 0, va - 8);
    host_check_faults(g, 0, pa);
    host_finish(g);
}

/*
 * What a stream does, depending on registers and STE
 */

static void test_ste(void)
{
    HostGuest *g;
    uint64_t page, cd, other;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    page = host_new_page(g, 0x1111);
    /* Disabled after reset: GBPA bypasses */
    host_check_reads(g, 0, page, 0x1111);

    host_enable(g, 0);
    host_check_faults(g, 0, page);
    host_set_ste(g, 0, STE_BYPASS);
    host_check_reads(g, 0, page, 0x1111);
    host_check_faults(g, 0, HOST_VA);
    cd = host_one_page_cd(g, 1, page);
    host_set_ste(g, 0, STE_S1(cd));
    host_check_reads(g, 0, HOST_VA, 0x1111);
    host_check_faults(g, 0, page);
    host_set_ste(g, 0, STE_ABORT);
    host_check_faults(g, 0, HOST_VA);
    host_check_faults(g, 0, page);
    host_set_ste(g, 0, STE_S1(cd));
    host_check_reads(g, 0, HOST_VA, 0x1111);
    /* Move from one CD to another; the HWPT of the first one is freed */
    other = host_one_page_cd(g, 2, host_new_page(g, 0x1112));
    host_set_ste(g, 0, STE_S1(other));
    host_check_reads(g, 0, HOST_VA, 0x1112);
    g_assert_cmpuint(host_objects(g, "hwpt_nested"), ==, 3);
    host_set_ste(g, 0, 0);
    host_check_faults(g, 0, HOST_VA);
    host_finish(g);
}

static void test_smmuen(void)
{
    HostGuest *g;
    uint64_t page;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 2);
    page = host_new_page(g, 0x2222);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, page)));
    host_set_ste(g, 1, STE_BYPASS);
    host_check_reads(g, 0, HOST_VA, 0x2222);

    smmu_disable(g, 0);
    host_check_reads(g, 0, page, 0x2222);
    host_check_reads(g, 1, page, 0x2222);
    smmu_gbpa(g, 0, true);
    host_check_faults(g, 0, page);
    host_check_faults(g, 1, page);
    host_check_faults(g, 0, HOST_VA);

    smmu_enable(g, 0);
    host_check_reads(g, 0, HOST_VA, 0x2222);
    host_check_reads(g, 1, page, 0x2222);
    /* GBPA has no effect while enabled */
    smmu_gbpa(g, 0, false);
    host_check_faults(g, 0, page);
    host_check_reads(g, 0, HOST_VA, 0x2222);
    smmu_disable(g, 0);
    host_check_reads(g, 0, page, 0x2222);
    host_finish(g);
}

/* A Stream Table that moves while the SMMU is off, and an unreadable one */
static void test_stream_table(void)
{
    HostGuest *g;
    uint64_t page, other;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    page = host_new_page(g, 0x3333);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, page)));
    host_check_reads(g, 0, HOST_VA, 0x3333);

    other = host_alloc(g, 64ull << HOST_SID_BITS);
    smmu_disable(g, 0);
    *(uint64_t *)host_ram(g, other + host_sid(g, 0) * 64) =
        cpu_to_le64(STE_BYPASS);
    g->smmu[0].strtab = other;
    host_enable(g, 0);
    host_check_reads(g, 0, page, 0x3333);

    /* Above all memory: abort, not the old translation */
    smmu_disable(g, 0);
    g->smmu[0].strtab = 0x2000000000ull;
    host_enable(g, 0);
    host_check_faults(g, 0, page);
    host_check_faults(g, 0, HOST_VA);

    /* It is aligned to its size, whatever the address says (6.3.24) */
    for (unsigned bit = 6; bit < 6 + HOST_SID_BITS; bit++) {
        smmu_disable(g, 0);
        g->smmu[0].strtab = other | 1ull << bit;
        host_enable(g, 0);
        host_check_reads(g, 0, page, 0x3333);
    }
    g->smmu[0].strtab = other;
    host_finish(g);
}

/*
 * Several devices and vSMMUs with equal ASIDs and addresses stay apart
 */
static void test_apart(void)
{
    HostGuest *g;
    uint64_t page[4];

    if (host_skipped()) {
        return;
    }
    g = host_start(2, 4);
    host_enable(g, 0);
    host_enable(g, 1);
    for (unsigned dev = 0; dev < 4; dev++) {
        /* Devices of one vSMMU have different ASIDs; the vSMMUs use the same */
        page[dev] = host_new_page(g, 0x4440 + dev);
        host_set_ste(g, dev,
                     STE_S1(host_one_page_cd(g, 5 + dev / 2, page[dev])));
    }
    for (unsigned dev = 0; dev < 4; dev++) {
        host_check_reads(g, dev, HOST_VA, 0x4440 + dev);
    }
    /* Invalidations, tables and SMMUEN of one vSMMU do not affect the other */
    smmu_disable(g, 0);
    host_check_reads(g, 0, page[0], 0x4440);
    host_check_reads(g, 1, HOST_VA, 0x4441);
    host_check_reads(g, 3, HOST_VA, 0x4443);
    smmu_enable(g, 0);
    host_set_ste(g, 2, 0);
    host_check_faults(g, 2, HOST_VA);
    for (unsigned dev = 0; dev < 4; dev++) {
        if (dev != 2) {
            host_check_reads(g, dev, HOST_VA, 0x4440 + dev);
        }
    }
    host_finish(g);
}

/*
 * Edges besides commands
 */

static void test_reset(void)
{
    HostGuest *g;
    uint64_t page;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    page = host_new_page(g, 0x5555);
    host_enable(g, 0);
    smmu_gbpa(g, 0, true);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, page)));
    host_check_reads(g, 0, HOST_VA, 0x5555);

    /* What firmware finds: nothing translates, everything bypasses */
    qtest_system_reset(g->qts);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CR0), ==, 0);
    host_setup_port(g, 0);
    host_setup_device(g, 0);
    host_check_reads(g, 0, page, 0x5555);
    host_check_faults(g, 0, HOST_VA);
    host_finish(g);
}

/* A reset of the device keeps its attachment, and allocates nothing */
static void test_device_reset(const void *opaque)
{
    void (*reset)(HostGuest *g, unsigned dev) = opaque;
    uint64_t page, attached, vdevices, resets;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    page = host_new_page(g, 0x6666);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, page)));
    host_check_reads(g, 0, HOST_VA, 0x6666);
    attached = host_counter(g, "call.VFIO_DEVICE_ATTACH_IOMMUFD_PT");
    vdevices = host_counter(g, "call.IOMMU_VDEVICE_ALLOC");
    resets = host_counter(g, "device.reset");
    for (int round = 0; round < 10; round++) {
        reset(g, 0);
        host_check_reads(g, 0, HOST_VA, 0x6666);
        host_check_faults(g, 0, page);
    }
    g_assert_cmpuint(host_counter(g, "device.reset"), >=, resets + 10);
    g_assert_cmpuint(host_counter(g, "call.IOMMU_VDEVICE_ALLOC"), ==, vdevices);
    g_assert_cmpuint(host_counter(g, "call.VFIO_DEVICE_ATTACH_IOMMUFD_PT"), ==,
                     attached);
    host_finish(g);
}

/* The device reads @want within a second: QEMU may retry for that long */
static void comes_to_read(HostGuest *g, unsigned dev, uint64_t want)
{
    uint64_t got = 0;

    for (int n = 0; n < 100; n++) {
        if (host_dma_read64(g, dev, HOST_VA, &got) && got == want) {
            return;
        }
        g_usleep(10 * 1000);
    }
    g_error("device %u reads 0x%" PRIx64 ", not 0x%" PRIx64, dev, got, want);
}

/* While the host resets the device it refuses to attach: QEMU retries */
static void test_busy(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    host_check_reads(g, 0, HOST_VA, 1);
    qobject_unref(host_control(g, "fail VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+4="
                               "EBUSY"));
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 2, host_new_page(g, 2))));
    comes_to_read(g, 0, 2);
    host_finish(g);
}

/* End QEMU, which has warned @n times of a stream that it cannot move */
static void finish_warned(HostGuest *g, unsigned n)
{
    g_assert_cmpuint(host_said(g, SAID_CANNOT_MOVE), ==, n);
    host_finish(g);
}

/*
 * QEMU warns once about a stream that it cannot move, however long that lasts
 * and however often the guest tries.
 */
static void test_told_once(const void *opaque)
{
    const char *fail = opaque;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    qobject_unref(host_control(g, "%s", fail));
    /*
     * QEMU warns about a transient failure only when it has lasted for 1.28 s
     */
    for (int n = 0; n < 300; n++) {
        host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 2 + n % 2, HOST_VA)));
        if (strstr(fail, "EBUSY")) {
            g_usleep(10 * 1000);
        }
    }
    qobject_unref(host_control(g, "fail clear"));
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 5))));
    host_check_reads(g, 0, HOST_VA, 5);
    finish_warned(g, 1);
}

/* A guest that makes failures come and go: one warning in 10 s */
static void test_told_seldom(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    qobject_unref(host_control(g, "fail IOMMU_HWPT_ALLOC:1+*=EINVAL"));
    for (int n = 0; n < 300; n++) {
        if (n == 100 || n == 200) {
            qobject_unref(host_control(g, "advance 10000000"));
        }
        host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 2, HOST_VA)));
        host_set_ste(g, 0, STE_BYPASS);
    }
    qobject_unref(host_control(g, "fail clear"));
    finish_warned(g, 3);
}

static void test_stop_cont(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    for (int round = 0; round < 3; round++) {
        qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
        qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
        host_check_reads(g, 0, HOST_VA, 1);
        host_check_faults(g, 0, HOST_VA + 4096);
    }
    host_finish(g);
}

/*
 * Two vSMMUs with two empty slots each. The model's device 0 travels: it goes
 * to the first slot of either. Device 1 or 3 may be in the second slots.
 */
static HostGuest *start_journey(const char *smmu_args)
{
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 4, .smmu_args = smmu_args,
        .dev = {
            { .hotplug = true }, { .hotplug = true },
            { .vsmmu = 1, .hotplug = true }, { .vsmmu = 1, .hotplug = true },
        },
    };
    HostGuest *g = host_guest_new(&config);

    host_enable(g, 0);
    host_enable(g, 1);
    return g;
}

/*
 * Devices that are present translate and have their objects; others have none
 */
static void check_objects(HostGuest *g)
{
    unsigned present[2] = {}, viommus, devices;

    for (unsigned dev = 0; dev < g->config.n_devs; dev++) {
        present[g->dev[dev].vsmmu] += g->dev[dev].present;
    }
    viommus = !!present[0] + !!present[1];
    devices = present[0] + present[1];
    g_assert_cmpuint(host_objects(g, "viommu"), ==, viommus);
    g_assert_cmpuint(host_objects(g, "veventq"), ==, viommus);
    g_assert_cmpuint(host_objects(g, "vdevice"), ==, devices);
    g_assert_cmpuint(host_objects(g, "hwpt_nested"), ==, 2 * viommus + devices);
    g_assert_cmpuint(host_objects(g, "device"), ==, devices);
}

/*
 * A device is removed while its driver uses it. Either the host requests it
 * and the guest turns its slot off at once, or the guest does that by itself.
 * The device does DMA all the time, and a move of its stream waits for the
 * host. (The device's page is mapped at the address of another page, so that
 * DMA that bypasses its tables shows.) Then the device comes back in the same
 * slot, and in another one.
 */
static void test_surprise(const void *opaque)
{
    bool request = !strcmp(opaque, "request");
    enum { ALONE, FIRST, LAST, N_PLACES };
    uint64_t bare, cd[4], other[2], probes, busy;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_journey(NULL);
    bare = host_new_page(g, 0xbad);
    for (unsigned dev = 0; dev < 4; dev++) {
        cd[dev] = host_page_cd(g, 1 + dev, bare, host_new_page(g, 0x10 + dev));
        host_set_ste(g, dev, STE_S1(cd[dev]));
    }
    for (unsigned i = 0; i < 2; i++) {
        other[i] = host_page_cd(g, 9, bare, host_new_page(g, 0x20 + i));
    }
    for (unsigned round = 0; round < N_PLACES * 4; round++) {
        unsigned place = round / 4, i = round / 2 % 2;
        unsigned dev = 2 * i, mate = dev + 1, far = (dev + 3) % 4;

        if (place == LAST) {
            g_assert_null(host_guest_plug(g, mate));
        }
        g_assert_null(host_guest_plug_other(g, dev, 0));
        if (place == FIRST) {
            g_assert_null(host_guest_plug(g, mate));
        }
        if (place != ALONE) {
            g_assert_null(host_guest_plug(g, far));
        }
        check_objects(g);
        host_check_reads(g, dev, bare, 0x10 + dev);

        probes = host_counter(g, "probe.done");
        host_probe_begin(g, dev, bare, 0x10 + dev, 0x20 + i);
        /*
         * The move and the parking fail; in every other round all retries too
         */
        qobject_unref(host_control(g, "fail VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+%s"
                                   "=EBUSY", round % 2 ? "*" : "2"));
        busy = host_counter(g, "injected");
        host_set_ste(g, dev, STE_S1(other[i]));
        g_assert_cmpuint(host_counter(g, "injected"), >, busy);
        if (request) {
            host_request(g, dev, 0);
        }
        host_power_off(g, dev);
        qobject_unref(host_control(g, "fail clear"));
        /*
         * At least the move to abort was probed, before and after the CFGI_STE
         */
        g_assert_cmpuint(host_counter(g, "probe.done"), >=, probes + 2);
        g_assert_cmpuint(host_counter(g, "probe.other"), ==, 0);
        check_objects(g);
        /* A pending retry must do nothing */
        g_usleep(30 * 1000);
        check_objects(g);
        host_set_ste(g, dev, STE_S1(cd[dev]));
        if (place != ALONE) {
            host_check_reads(g, mate, bare, 0x10 + mate);
            host_check_reads(g, far, bare, 0x10 + far);
            host_guest_unplug(g, mate);
            host_guest_unplug(g, far);
        }
        check_objects(g);
    }
    host_finish(g);
}

/*
 * With share-stage2=on all vSMMUs share one VMID. A vSMMU without a device
 * forwards no TLBI. So TLB entries that its last device has left must not be
 * hit by the next user of the ASID, on this vSMMU or on another.
 */
static void test_shared_stage2(void)
{
    static const unsigned journey[] = { 0, 1, 0, 0, 1 };
    uint64_t tag = 0x70, cd, *pte;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_journey(",share-stage2=on");
    cd = host_one_page_cd(g, 7, 0);
    pte = host_pte(g, le64_to_cpu(((uint64_t *)host_ram(g, cd))[1]), 12, 25,
                   HOST_VA, 3, false);
    for (unsigned dev = 0; dev < 4; dev++) {
        host_set_ste(g, dev, STE_S1(dev % 2 == 0 ? cd :
                                    host_one_page_cd(g, dev,
                                                     host_new_page(g, dev))));
    }
    /* One device stays on one vSMMU, then on each, so that the stage 2 stays */
    g_assert_null(host_guest_plug(g, 3));
    for (int both = 0; both < 2; both++) {
        if (both) {
            g_assert_null(host_guest_plug(g, 1));
        }
        for (int n = 0; n < ARRAY_SIZE(journey); n++) {
            unsigned i = journey[n], dev = 2 * i;
            uint64_t page = host_new_page(g, ++tag);

            *pte = cpu_to_le64(host_leaf(3, page, PTE_DATA));
            g_assert_null(host_guest_plug_other(g, dev, 0));
            g_assert_cmpuint(host_objects(g, "hwpt_paging"), ==, 1);
            check_objects(g);
            host_check_reads(g, dev, HOST_VA, tag);
            /* It does DMA until it is detached */
            host_probe_begin(g, dev, HOST_VA, tag, tag);
            host_guest_unplug(g, dev);
            /* The guest unmaps the page after the device has gone */
            *pte = 0;
            smmu_cmd(g, i, CMD_TLBI_NH_VA(7, HOST_VA, 1));
            smmu_sync_ok(g, i);
            host_check_reads(g, 3, HOST_VA, 3);
        }
    }
    host_check_reads(g, 1, HOST_VA, 1);
    host_finish(g);
}

/*
 * Two vSMMUs share a stage 2, and one cannot invalidate what the other may hit.
 * The guest gives the ASID to another domain, behind the other one.  How the
 * first one fails:
 */
static const struct {
    const char *name;
    const char *fail;           /* the calls that fail from then on */
    bool slow;                  /* it is known that the host is slow */
    bool leaves;                /* its last device leaves */
    bool comes;                 /* the other one has its first device later */
    bool both_fail;             /* the other one cannot invalidate either */
} sharers[] = {
    { "quick", ":1+2=ENOMEM" },
    { "both", ":1+*=ENOMEM", .both_fail = true },
    { "slow", ":1+2=ENOMEM", .slow = true },
    { "leaves", ":1=ENOMEM", .leaves = true },
    { "leaves-slowly", "~150000", .slow = true, .leaves = true },
    { "comes", ":1+2=ENOMEM", .comes = true },
    { "comes-slowly", ":1+2=ENOMEM", .slow = true, .comes = true },
};

static void test_stale_sharer(const void *opaque)
{
    unsigned n = GPOINTER_TO_UINT(opaque);
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 3,
        .dev = { {}, { .vsmmu = 1, .hotplug = sharers[n].comes },
                 { .vsmmu = 1, .hotplug = true } },
        .smmu_args = ",share-stage2=on",
    };
    HostGuest *g;
    uint64_t cd;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    host_enable(g, 1);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 7, host_new_page(g, 0xa))));
    host_check_reads(g, 0, HOST_VA, 0xa);
    if (!sharers[n].comes) {
        host_set_ste(g, 1, STE_S1(host_one_page_cd(g, 1,
                                                   host_new_page(g, 0xb))));
        host_check_reads(g, 1, HOST_VA, 0xb);
    }
    if (sharers[n].slow) {
        host_make_slow(g, 0);
    }
    qobject_unref(host_control(g, "zero"));
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE%s",
                               sharers[n].fail));
    if (!sharers[n].leaves && sharers[n].slow) {
        qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:3~150000"));
    }
    if (sharers[n].leaves) {
        host_guest_unplug(g, 0);
    } else {
        host_expect(g, SAID_TAKES_NONE);
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(7));
        g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ABT);
        smmu_ack(g, 0);
        host_check_faults(g, 0, HOST_VA);
        /* Nobody calls the host for this one */
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(7));
        smmu_sync_ok(g, 0);
    }
    g_assert_cmpuint(host_counter(g, "call.IOMMU_HWPT_INVALIDATE"), >, 0);
    if (sharers[n].both_fail) {
        host_check_faults(g, 1, HOST_VA);
        g_assert_cmpuint(smmu_sync(g, 1), ==, SMMU_CERROR_ABT);
        smmu_ack(g, 1);
    } else if (!sharers[n].comes) {
        /* It has invalidated everything, and was not disturbed */
        smmu_sync_ok(g, 1);
        host_check_reads(g, 1, HOST_VA, 0xb);
        /* If that took long QEMU waits for no further call */
        g_assert_true(host_is_slow(g, 1) || !sharers[n].slow);
    }
    qobject_unref(host_control(g, "fail clear"));

    cd = host_one_page_cd(g, 7, host_new_page(g, 0xc));
    if (sharers[n].comes) {
        *smmu_ste(g, 1, host_sid(g, 1)) = cpu_to_le64(STE_S1(cd));
        g_assert_null(host_guest_plug(g, 1));
        g_assert_true(host_is_slow(g, 1) || !sharers[n].slow);
        smmu_sync_ok(g, 1);
    } else {
        host_set_ste(g, 1, STE_S1(cd));
    }
    host_check_reads(g, 1, HOST_VA, 0xc);
    g_assert_null(host_guest_plug(g, 2));
    host_set_ste(g, 2, STE_S1(cd));
    host_check_reads(g, 2, HOST_VA, 0xc);
    if (!sharers[n].leaves && !sharers[n].slow) {
        /* It hears of the next loss as well: the third call is its own */
        host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 7,
                                                   host_new_page(g, 0xd))));
        host_check_reads(g, 0, HOST_VA, 0xd);
        host_expect(g, SAID_TAKES_NONE);
        qobject_unref(host_control(g, "zero"));
        qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:1+2=ENOMEM"));
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(7));
        g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ABT);
        smmu_ack(g, 0);
        g_assert_cmpuint(host_counter(g, "call.IOMMU_HWPT_INVALIDATE"), ==, 3);
        host_check_reads(g, 1, HOST_VA, 0xc);
        qobject_unref(host_control(g, "fail clear"));
    }
    host_finish(g);
}

/*
 * Three vSMMUs share a stage 2.  The last device of the first one leaves, which
 * does not wait for a slow host.  One of the others cannot invalidate either,
 * and its streams take long to park.  The device is not gone before the third
 * one has invalidated everything.
 */
static void test_stale_sharers(void)
{
    enum { EACH = 8 };
    HostGuestConfig config = {
        .n_vsmmus = 3, .n_psmmus = 1, .n_devs = 1 + 2 * EACH,
        .smmu_args = ",share-stage2=on",
    };
    unsigned failed;
    uint64_t value;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    for (unsigned dev = 1; dev < config.n_devs; dev++) {
        config.dev[dev].vsmmu = 1 + dev / (1 + EACH);
    }
    g = host_guest_new(&config);
    for (unsigned i = 0; i < config.n_vsmmus; i++) {
        host_enable(g, i);
    }
    for (unsigned dev = 0; dev < config.n_devs; dev++) {
        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, 1 + dev,
                                                     host_new_page(g, dev))));
        host_check_reads(g, dev, HOST_VA, dev);
    }
    host_make_slow(g, 0);
    host_expect(g, SAID_TAKES_NONE);
    qobject_unref(host_control(g, "zero"));
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:1=ENOMEM"));
    qobject_unref(host_control(g, "fail VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+*"
                               "~110000"));
    host_guest_unplug(g, 0);
    /* The one that cannot may have asked the third one as well by now */
    g_assert_cmpuint(host_counter(g, "call.IOMMU_HWPT_INVALIDATE"), >=, 2);
    qobject_unref(host_control(g, "fail clear"));
    failed = host_dma_read64(g, 1, HOST_VA, &value) ? 2 : 1;
    g_assert_cmpuint(smmu_sync(g, failed), ==, SMMU_CERROR_ABT);
    smmu_ack(g, failed);
    smmu_sync_ok(g, 3 - failed);
    for (unsigned dev = 1; dev < config.n_devs; dev++) {
        if (config.dev[dev].vsmmu == failed) {
            host_check_faults(g, dev, HOST_VA);
        } else {
            host_check_reads(g, dev, HOST_VA, dev);
        }
    }
    host_finish(g);
}

/*
 * Two vSMMUs that share a stage 2, with a device each.  SMMU 1 knows that the
 * host is slow.  @cd is that of its device.
 */
static HostGuest *slow_sharer(uint64_t *cd)
{
    HostGuest *g = host_guest_new(&(HostGuestConfig) {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 2, .dev = { {}, { 1 } },
        .smmu_args = ",share-stage2=on",
    });

    for (unsigned i = 0; i < 2; i++) {
        host_enable(g, i);
        *cd = host_one_page_cd(g, 1 + i, host_new_page(g, 0xa + i));
        host_set_ste(g, i, STE_S1(*cd));
        host_check_reads(g, i, HOST_VA, 0xa + i);
    }
    host_make_slow(g, 1);
    return g;
}

/*
 * SMMU 1 invalidates everything, and the host takes its time.  Meanwhile SMMU
 * 0, which shares its stage 2, loses invalidations, and SMMU 1 cannot make up
 * for them.  So it has to invalidate everything once more before it translates.
 */
static void test_stale_during(void)
{
    uint64_t cd;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = slow_sharer(&cd);
    host_expect(g, SAID_TAKES_NONE);
    host_expect(g, SAID_TAKES_NONE);
    qobject_unref(host_control(g, "zero"));
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:1=ETIMEDOUT"));
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:2~hold"));
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:3+3=ENOMEM"));
    smmu_cmd(g, 1, CMD_TLBI_NH_ASID(2));
    smmu_kick(g, 1);
    HOST_WAIT(host_counter(g, "held"));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ABT);
    smmu_ack(g, 0);
    qobject_unref(host_control(g, "release"));
    g_assert_cmpuint(smmu_sync(g, 1), ==, SMMU_CERROR_ABT);
    smmu_ack(g, 1);
    for (unsigned i = 0; i < 2; i++) {
        host_check_faults(g, i, HOST_VA);
    }
    qobject_unref(host_control(g, "fail clear"));
    qobject_unref(host_control(g, "zero"));
    host_set_ste(g, 1, STE_S1(cd));
    host_check_reads(g, 1, HOST_VA, 0xb);
    g_assert_cmpuint(host_counter(g, "call.IOMMU_HWPT_INVALIDATE"), >=, 1);
    host_finish(g);
}

/*
 * SMMU 1 waits for a slow host while SMMU 0, which shares its stage 2, loses
 * invalidations.  SMMU 1 makes up for them at once.  If it cannot, because
 * nothing of it translates either (@stale), what it waits for does not make up
 * for them, even though it is the invalidation of everything: the host may have
 * taken that before.  So it invalidates everything once more.
 */
static void test_stale_meanwhile(const void *stale)
{
    uint64_t cd;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = slow_sharer(&cd);
    host_expect(g, SAID_TAKES_NONE);
    if (stale) {
        /* SMMU 0 makes up for it: the third call */
        qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:1+2=ENOMEM"));
        smmu_cmd(g, 1, CMD_TLBI_NH_ASID(2));
        g_assert_cmpuint(smmu_sync(g, 1), ==, SMMU_CERROR_ABT);
        smmu_ack(g, 1);
        host_check_faults(g, 1, HOST_VA);
        host_check_reads(g, 0, HOST_VA, 0xa);
        qobject_unref(host_control(g, "fail clear"));
    }
    qobject_unref(host_control(g, "zero"));
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:1~hold"));
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:2+2=ENOMEM"));
    smmu_cmd(g, 1, stale ? CMD_CFGI_STE(host_sid(g, 1)) : CMD_TLBI_NH_ASID(2));
    smmu_kick(g, 1);
    for (int i = 0; !host_counter(g, "held"); i++) {
        g_assert_cmpint(i, <, 100000);
        g_usleep(100);
    }
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ABT);
    smmu_ack(g, 0);
    host_check_faults(g, 0, HOST_VA);
    if (stale) {
        host_check_faults(g, 1, HOST_VA);
    } else {
        host_check_reads(g, 1, HOST_VA, 0xb);
    }
    qobject_unref(host_control(g, "release"));
    smmu_sync_ok(g, 1);
    host_check_reads(g, 1, HOST_VA, 0xb);
    g_assert_cmpuint(host_counter(g, "call.IOMMU_HWPT_INVALIDATE"), ==, 4);
    qobject_unref(host_control(g, "fail clear"));
    host_finish(g);
}

/*
 * Two vSMMUs share a stage 2, and neither can invalidate.  The other one's
 * streams have to be parked, which takes long.  Meanwhile its guest unmaps a
 * page: a CMD_SYNC does not complete before the stream stands still.  @how:
 * "leaves", the first one's last device goes meanwhile, and the host is well;
 * "first", the first one's guest unmaps the page, to use it again.
 */
static void test_sharer_parks(const void *how)
{
    bool leaves = !g_strcmp0(how, "leaves");
    unsigned who = g_strcmp0(how, "first") ? 1 : 0;
    static const char slowly[] = "VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+*~110000";
    enum { DEVS = 20 };     /* one is parked between two accesses of a test */
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = DEVS,
        .smmu_args = ",share-stage2=on",
    };
    uint64_t root, cd, *pte, value;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    for (unsigned dev = 1; dev < DEVS; dev++) {
        config.dev[dev].vsmmu = 1;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    host_enable(g, 1);
    for (unsigned dev = 0; dev < DEVS; dev++) {
        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, 100 + dev,
                                                     host_new_page(g, dev))));
    }
    /* The first one that came is the last one to be parked */
    root = host_alloc(g, 4096);
    pte = host_pte(g, root, 12, 25, HOST_VA, 3, true);
    qatomic_set(pte, cpu_to_le64(host_leaf(3, host_new_page(g, 0xb),
                                           PTE_DATA)));
    cd = host_alloc(g, 64);
    host_write_cd(g, cd, &(HostCd) {
        .asid = 1, .ttb = { root }, .txsz = { 25 }, .granule_shift = 12,
    });
    host_set_ste(g, 1, STE_S1(cd));
    host_check_reads(g, 1, HOST_VA, 0xb);

    for (unsigned n = 0; n < 2; n++) {
        host_expect(g, SAID_TAKES_NONE);
    }
    qobject_unref(host_control(g, "zero"));
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:1+*=ETIMEDOUT"));
    qobject_unref(host_control(g, "fail %s", slowly));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(100));
    smmu_cmd(g, 0, CMD_SYNC);
    smmu_kick(g, 0);
    HOST_WAIT(host_counter(g, "call.VFIO_DEVICE_ATTACH_IOMMUFD_PT") >= 2);
    if (leaves) {
        qobject_unref(host_control(g, "fail clear"));
        qobject_unref(host_control(g, "fail %s", slowly));
        host_guest_unplug(g, 0);
        host_dma_read64(g, 1, HOST_VA, &value);     /* cached once more */
    }
    qatomic_set(pte, 0);
    smmu_cmd(g, who, CMD_TLBI_NH_VA(1, HOST_VA, 1));
    smmu_cmd(g, who, CMD_SYNC);
    smmu_kick(g, who);
    /* The guest expects the error, and acknowledges it as soon as it comes */
    HOST_WAIT((smmu_write(g, who, SMMU_GERRORN,
                          smmu_read(g, who, SMMU_GERROR)),
               (smmu_read(g, who, SMMU_CMDQ_CONS) & 0xfffff) ==
               g->smmu[who].prod));
    host_check_faults(g, 1, HOST_VA);
    qobject_unref(host_control(g, "fail clear"));
    if (!leaves && who) {
        smmu_ack(g, 0);
    }
    host_finish(g);
}

/* A device moves from one vSMMU to the other, and back again */
static void test_comes_back(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 2,
        .dev = { { .hotplug = true }, { .vsmmu = 1, .hotplug = true } },
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t cd = host_one_page_cd(g, 1, host_new_page(g, 0x10 + i));

        host_enable(g, i);
        *smmu_ste(g, i, host_sid(g, i)) = cpu_to_le64(STE_S1(cd));
        smmu_cmd(g, i, CMD_CFGI_ALL);
        smmu_sync_ok(g, i);
    }
    for (int round = 0; round < 4; round++) {
        unsigned i = round % 2;

        g_assert_null(host_guest_plug_other(g, i, 0));
        host_check_reads(g, i, HOST_VA, 0x10 + i);
        g_assert_cmpuint(host_objects(g, "viommu"), ==, 1);
        host_guest_unplug(g, i);
        g_assert_cmpuint(host_objects(g, "viommu"), ==, 0);
    }
    host_finish(g);
}

/* Devices are unplugged in every order; the others are not affected */
static void test_unplug_order(void)
{
    static const unsigned orders[][3] = {
        { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
        { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
    };
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 3,
        .dev = {
            { .hotplug = true }, { .hotplug = true }, { .hotplug = true },
        },
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    for (unsigned dev = 0; dev < 3; dev++) {
        uint64_t cd = host_one_page_cd(g, 1 + dev, host_new_page(g, dev));

        *smmu_ste(g, 0, host_sid(g, dev)) = cpu_to_le64(STE_S1(cd));
    }
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    for (int n = 0; n < ARRAY_SIZE(orders); n++) {
        for (unsigned dev = 0; dev < 3; dev++) {
            g_assert_null(host_guest_plug(g, dev));
        }
        for (int gone = 0; gone < 3; gone++) {
            host_guest_unplug(g, orders[n][gone]);
            for (int left = gone + 1; left < 3; left++) {
                host_check_reads(g, orders[n][left], HOST_VA, orders[n][left]);
            }
        }
        g_assert_cmpuint(host_objects(g, "viommu"), ==, 0);
        g_assert_cmpuint(host_objects(g, "vdevice"), ==, 0);
        g_assert_cmpuint(host_objects(g, "hwpt_nested"), ==, 0);
        g_assert_cmpuint(host_objects(g, "veventq"), ==, 0);
    }
    g_assert_cmpuint(host_counter(g, "left.hwpt_nested") +
                     host_counter(g, "left.vdevice") +
                     host_counter(g, "left.viommu") +
                     host_counter(g, "left.veventq"), ==, 0);
    host_finish(g);
}

static void test_renumber(void)
{
    HostGuest *g;
    uint64_t page, cd;
    unsigned bus;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 2);
    page = host_new_page(g, 0x7777);
    host_enable(g, 0);
    cd = host_one_page_cd(g, 1, page);
    host_set_ste(g, 0, STE_S1(cd));
    host_set_ste(g, 1, STE_BYPASS);
    host_check_reads(g, 0, HOST_VA, 0x7777);

    /* To a StreamID that has no STE yet: DMA aborts */
    bus = g->dev[0].bus;
    host_set_bus(g, 0, bus + 8);
    smmu_sync_ok(g, 0);
    host_check_faults(g, 0, HOST_VA);
    host_check_faults(g, 0, page);
    host_set_ste(g, 0, STE_S1(cd));
    host_check_reads(g, 0, HOST_VA, 0x7777);

    /* Back to a StreamID that has an STE: no command is needed */
    host_set_bus(g, 0, bus);
    comes_to_read(g, 0, 0x7777);
    host_set_bus(g, 0, bus + 8);
    comes_to_read(g, 0, 0x7777);

    /* Commands for the new StreamID have an effect */
    host_clear_cd(g, cd);
    smmu_cmd(g, 0, CMD_CFGI_CD(host_sid(g, 0), 0));
    smmu_sync_ok(g, 0);
    host_check_faults(g, 0, HOST_VA);
    host_finish(g);
}

/* Two devices exchange their StreamIDs */
static void test_swap(void)
{
    HostGuest *g;
    uint64_t page[2];
    unsigned bus[2];

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 2);
    host_enable(g, 0);
    for (unsigned dev = 0; dev < 2; dev++) {
        page[dev] = host_new_page(g, 0x8880 + dev);
        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, 1 + dev, page[dev])));
        host_check_reads(g, dev, HOST_VA, 0x8880 + dev);
        bus[dev] = g->dev[dev].bus;
    }
    host_set_bus(g, 0, 0);
    host_set_bus(g, 1, bus[0]);
    host_set_bus(g, 0, bus[1]);
    smmu_sync_ok(g, 0);
    host_setup_device(g, 0);
    host_setup_device(g, 1);
    host_check_reads(g, 0, HOST_VA, 0x8881);
    host_check_reads(g, 1, HOST_VA, 0x8880);
    host_finish(g);
}

static void test_hotplug(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2,
        .dev = { [1] = { .hotplug = true }, [0] = { .hotplug = true } },
    };
    HostGuest *g;
    uint64_t page;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    page = host_new_page(g, 0x9999);
    host_enable(g, 0);
    *smmu_ste(g, 0, host_sid(g, 0)) =
        cpu_to_le64(STE_S1(host_one_page_cd(g, 1, page)));
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);

    for (int round = 0; round < 3; round++) {
        g_assert_cmpstr(host_guest_plug(g, 0), ==, NULL);
        /* The STE was there before the device: no command needed */
        host_check_reads(g, 0, HOST_VA, 0x9999);
        g_assert_cmpstr(host_guest_plug(g, 1), ==, NULL);
        host_check_faults(g, 1, HOST_VA);
        host_check_faults(g, 1, page);
        g_assert_cmpuint(host_objects(g, "viommu"), ==, 1);
        host_guest_unplug(g, 1);
        host_check_reads(g, 0, HOST_VA, 0x9999);
        host_guest_unplug(g, 0);
        /* All objects are freed, children first */
        g_assert_cmpuint(host_objects(g, "viommu"), ==, 0);
        g_assert_cmpuint(host_objects(g, "vdevice"), ==, 0);
        g_assert_cmpuint(host_objects(g, "hwpt_nested"), ==, 0);
        g_assert_cmpuint(host_objects(g, "device"), ==, 0);
    }
    host_finish(g);
}

static char *add_device(HostGuest *g, const char *driver, const char *id,
                        const char *bus, const char *more)
{
    g_autofree char *json = g_strdup_printf(
        "{'execute': 'device_add', 'arguments': {'driver': '%s', 'id': '%s', "
        "'bus': '%s'%s}}", driver, id, bus, more);
    QDict *rsp = qtest_qmp(g->qts, json, NULL);
    char *error = NULL;

    if (qdict_haskey(rsp, "error")) {
        error = g_strdup(qdict_get_str(qdict_get_qdict(rsp, "error"), "desc"));
    }
    qobject_unref(rsp);
    return error;
}

/* A device is plugged into a switch whose buses are numbered later */
static void test_switch(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2,
        .dev = { { .below_switch = true, .hotplug = true } },
    };
    g_autofree char *error = NULL;
    HostGuest *g;
    uint64_t page, cd;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    page = host_new_page(g, 0x5151);
    cd = host_one_page_cd(g, 1, page);
    host_enable(g, 0);
    host_set_ste(g, 1, STE_BYPASS);

    /* Its bus still has number 0, where the guest has another STE */
    *smmu_ste(g, 0, 0) = cpu_to_le64(STE_BYPASS);
    *smmu_ste(g, 0, 0x2200) = *smmu_ste(g, 0, 0x3200) = cpu_to_le64(STE_S1(cd));
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    host_set_switch(g, 0, 0x20);
    host_set_bus(g, 0, 0);
    error = host_guest_plug(g, 0);
    g_assert_null(error);
    host_set_bus(g, 0, 0x22);
    host_setup_device(g, 0);
    g_assert_cmphex(host_sid(g, 0), ==, 0x2200);
    comes_to_read(g, 0, 0x5151);

    /* All buses of the switch are renumbered; in between, DMA aborts */
    host_set_bus(g, 0, 0x23);
    smmu_sync_ok(g, 0);
    host_check_faults(g, 0, HOST_VA);
    host_check_faults(g, 0, page);
    host_set_switch(g, 0, 0x30);
    host_setup_device(g, 0);
    comes_to_read(g, 0, 0x5151);

    /* Commands for the old StreamID have no effect, those for the new one do */
    *smmu_ste(g, 0, 0x2200) = 0;
    smmu_cmd(g, 0, CMD_CFGI_STE(0x2200));
    smmu_sync_ok(g, 0);
    host_check_reads(g, 0, HOST_VA, 0x5151);
    host_set_ste(g, 0, STE_ABORT);
    host_check_faults(g, 0, HOST_VA);
    host_check_reads(g, 1, page, 0x5151);
    host_finish(g);
}

/* Plugging and unplugging bridges does not affect the streams of others */
static void test_bridge_hotplug(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 3,
        .dev = { [1] = { .hotplug = true }, [2] = { .hotplug = true } },
    };
    g_autofree char *error = NULL, *fd = NULL;
    QDict *answer;
    HostGuest *g;
    uint64_t page;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    page = host_new_page(g, 0x6161);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, page)));

    g_assert_null(add_device(g, "x3130-upstream", "dev1", "rp1", ""));
    g_assert_null(add_device(g, "pcie-pci-bridge", "dev2", "rp2", ""));
    /* The other bridge stays: the base leaks its SHPC when it is unplugged */
    g->dev[1].present = true;
    host_check_reads(g, 0, HOST_VA, 0x6161);

    /* Requests from there would carry the bridge's StreamID */
    answer = host_control(g, "open dma1");
    fd = g_strdup_printf(", 'fd': '%d', 'iommufd': 'iommufd0', 'addr': '1'",
                         (int)qdict_get_int(answer, "fd"));
    qobject_unref(answer);
    error = add_device(g, "vfio-pci", "below", "dev2", fd);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "conventional PCI bus"));
    host_check_reads(g, 0, HOST_VA, 0x6161);

    host_guest_unplug(g, 1);
    host_check_reads(g, 0, HOST_VA, 0x6161);
    g_assert_null(host_guest_plug(g, 1));
    host_set_ste(g, 1, STE_BYPASS);
    host_check_reads(g, 1, page, 0x6161);
    host_finish(g);
}

/* One vSMMU cannot stand for two physical SMMUs */
static void test_two_hosts(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 2, .n_devs = 2,
        .dev = { { .psmmu = 0 }, { .psmmu = 1, .hotplug = true } },
    };
    g_autofree char *error = NULL;
    HostGuest *g;
    uint64_t page;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    page = host_new_page(g, 0xaaaa);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, page)));
    error = host_guest_plug(g, 1);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "another physical SMMUv3"));
    host_check_reads(g, 0, HOST_VA, 0xaaaa);
    host_finish(g);
}

/* A CMD_SYNC waits for what precedes it, and a full queue of commands works */
static void test_queue(void)
{
    HostGuest *g;
    uint64_t page, root, cd;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    root = host_alloc(g, 4096);
    cd = host_alloc(g, 64);
    host_write_cd(g, cd, &(HostCd) {
        .asid = 1, .ttb = { root }, .txsz = { 25 }, .granule_shift = 12,
    });
    host_set_ste(g, 0, STE_S1(cd));
    for (unsigned n = 0; n < 512; n++) {
        page = host_new_page(g, 0xb000 + n);
        *host_pte(g, root, 12, 25, HOST_VA + n * 4096, 3, true) =
            cpu_to_le64(host_leaf(3, page, PTE_DATA));
    }
    for (unsigned n = 0; n < 512; n++) {
        host_check_reads(g, 0, HOST_VA + n * 4096, 0xb000 + n);
    }
    for (unsigned n = 0; n < 512; n++) {
        *host_pte(g, root, 12, 25, HOST_VA + n * 4096, 3, true) = 0;
        smmu_cmd(g, 0, CMD_TLBI_NH_VA(1, HOST_VA + n * 4096, 1));
    }
    smmu_sync_ok(g, 0);
    for (unsigned n = 0; n < 512; n++) {
        host_check_faults(g, 0, HOST_VA + n * 4096);
    }
    host_finish(g);
}

/*
 * The pages of an unmap follow each other in the queue: in order or not,
 * across the end of the queue, some of them several times, with pages of
 * another ASID or an invalidation of the whole TLB between them. Each page
 * must leave the TLB of the host, whatever its granule is. The command does
 * not contain the granule.
 */
static void test_pages(const void *granule_shift)
{
    enum { PAGES = 64, ROUNDS = 24, DEVS = 2 };
    const unsigned shift = GPOINTER_TO_UINT(granule_shift);
    const uint64_t size = 1ull << shift;
    uint64_t root[DEVS], data[DEVS * PAGES];
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, DEVS);
    host_enable(g, 0);
    for (unsigned dev = 0; dev < DEVS; dev++) {
        uint64_t cd = host_alloc(g, 64);

        root[dev] = host_alloc(g, size);
        host_write_cd(g, cd, &(HostCd) {
            .asid = 1 + dev, .ttb = { root[dev] }, .txsz = { 25 },
            .granule_shift = shift,
        });
        host_set_ste(g, dev, STE_S1(cd));
    }
    for (unsigned i = 0; i < DEVS * PAGES; i++) {
        data[i] = host_alloc(g, size);
    }
    for (int round = 0; round < ROUNDS; round++) {
        unsigned order[DEVS * PAGES];

        for (unsigned i = 0; i < DEVS * PAGES; i++) {
            unsigned dev = i / PAGES, n = i % PAGES;

            *(uint64_t *)host_ram(g, data[i]) = round << 16 | i;
            *host_pte(g, root[dev], shift, 25, HOST_VA + n * size, 3, true) =
                cpu_to_le64(host_leaf(3, data[i], PTE_DATA));
            order[i] = i;
        }
        for (unsigned i = 0; i < DEVS * PAGES; i++) {
            unsigned j = g_test_rand_int_range(i, DEVS * PAGES), tmp = order[i];

            host_check_reads(g, i / PAGES, HOST_VA + i % PAGES * size,
                             round << 16 | i);
            /* In order at first, then more and more at random */
            if (g_test_rand_int_range(0, ROUNDS) < round) {
                order[i] = order[j];
                order[j] = tmp;
            }
        }
        for (unsigned i = 0; i < DEVS * PAGES; i++) {
            unsigned dev = order[i] / PAGES, n = order[i] % PAGES;

            *host_pte(g, root[dev], shift, 25, HOST_VA + n * size, 3, true) = 0;
            if (round % 4 == 3 && !g_test_rand_int_range(0, PAGES)) {
                smmu_cmd(g, 0, CMD_TLBI_NH_ALL);
            }
            for (int times = g_test_rand_int_range(1, 4); times; times--) {
                smmu_cmd(g, 0, CMD_TLBI_NH_VA(1 + dev, HOST_VA + n * size, 1));
            }
        }
        smmu_sync_ok(g, 0);
        for (unsigned i = 0; i < DEVS * PAGES; i++) {
            host_check_faults(g, i / PAGES, HOST_VA + i % PAGES * size);
        }
    }
    host_finish(g);
}

/* More pages than one call to the host takes, in a queue that holds them all */
static void test_long_unmap(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        /* The write to PROD does all of the work */
        .smmu_args = ",x-drain-us=1000000",
    };
    const unsigned log2 = 11, syncs = 2, pages = 1000, in_a_call = 63;
    uint64_t queue, calls, cmds;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_BYPASS);
    queue = host_alloc(g, 16ull << log2);
    /* With these, a call gets full in the middle of what QEMU reads at once */
    for (unsigned n = 0; n < syncs; n++) {
        *(HostCmd *)host_ram(g, queue + n * 16) = CMD_SYNC;
    }
    for (unsigned n = 0; n < pages; n++) {
        /* Not adjacent, or they would become a range */
        *(HostCmd *)host_ram(g, queue + (syncs + n) * 16) =
            CMD_TLBI_NH_VA(1, HOST_VA + n * 8192, 1);
    }
    smmu_use_cmdq(g, 0, queue, log2);
    calls = host_counter(g, "call.IOMMU_HWPT_INVALIDATE");
    cmds = host_counter(g, "smmu.cmd.TLBI_NH_VA");
    smmu_write(g, 0, SMMU_CMDQ_PROD, syncs + pages);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), ==, syncs + pages);
    g_assert_cmpuint(host_counter(g, "call.IOMMU_HWPT_INVALIDATE") - calls, ==,
                     DIV_ROUND_UP(pages, in_a_call));
    g_assert_cmpuint(host_counter(g, "smmu.cmd.TLBI_NH_VA") - cmds, ==, pages);
    host_finish(g);
}

/*
 * IHI 0070 5.1: a level-1 descriptor spans 2^(Span - 1) STEs, and no more than
 * SPLIT bits of a StreamID can name; Span 0 and above 11 is invalid. 6.3.25:
 * SPLIT is 6, 8 or 10, and acts as 6 otherwise. What is behind a level-2 table
 * is memory of something else.
 */
static void test_level_2(void)
{
    static const unsigned splits[] = { 0, 6, 7, 8, 9, 10, 11, 31 };
    const uint32_t sid = 0xdb;
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .dev[0].devfn = sid,
    };
    uint64_t l1, l2, page;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    l1 = host_alloc(g, 0x10000);
    l2 = host_alloc(g, 0x10000);
    page = host_new_page(g, 0x1234);
    /* Both tables are aligned to their sizes, whatever the addresses say */
    g->smmu[0].strtab = l1 | 0x40;
    for (unsigned n = 0; n < ARRAY_SIZE(splits); n++) {
        unsigned split = splits[n] == 8 || splits[n] == 10 ? splits[n] : 6;
        unsigned index = sid & ((1 << split) - 1);
        uint64_t *ste = host_ram(g, l2 + index * 64);

        *ste = cpu_to_le64(STE_BYPASS);
        g->smmu[0].strtab_cfg = 1 << 16 | splits[n] << 6 | 16;
        for (unsigned span = 0; span < 32; span++) {
            bool valid = span && span <= split + 1 && index < 1 << (span - 1);
            uint64_t *desc = host_ram(g, l1 + (sid >> split) * 8);
            uint64_t event[4];

            *desc = cpu_to_le64(l2 | 0x40 | span);
            host_enable(g, 0);
            smmu_cmd(g, 0, CMD_CFGI_STE(sid));
            smmu_sync_ok(g, 0);
            if (valid) {
                host_check_reads(g, 0, page, 0x1234);
                g_assert_false(smmu_event(g, 0, event));
            } else {
                host_check_faults(g, 0, page);
                while (smmu_event(g, 0, event)) {
                    g_assert_cmphex(event[0], ==,
                                    C_BAD_STREAMID | (uint64_t)sid << 32);
                }
            }
            smmu_disable(g, 0);
            *desc = 0;
        }
        *ste = 0;
    }
    host_finish(g);
}

/*
 * Each opcode is legal or not by IHI 0070 4.1.1 and by the features that the
 * guest's SMMU has: stage 1 alone, and no ATS, PRI, stalls, MPAM, DPT, EL2
 * regime or Secure state.  SSec and CMD_SYNC's CS of 0b11 are not legal.
 */
static void test_opcodes(void)
{
    static const uint8_t legal[] = {
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x30, 0x46,
    };
    const uint64_t ssec = 1 << 10, cs = 3 << 12;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_BYPASS);
    for (unsigned n = 0; n < 3 * 0x100; n++) {
        unsigned op = n & 0xff, error, want;
        bool is_legal = memchr(legal, op, sizeof(legal));
        uint64_t word0 = n < 0x100 ? 0 : n < 0x200 ? ssec : cs;

        /* TLBIs and CMD_SYNC have no SSec; CS is CMD_SYNC's */
        if ((word0 == ssec && op <= 6) || (word0 == cs && op == 0x46)) {
            is_legal = false;
        }
        want = is_legal ? SMMU_CERROR_NONE : SMMU_CERROR_ILL;
        smmu_cmd(g, 0, HOST_CMD(word0 | op, 0));
        error = smmu_sync(g, 0);
        if (error != want) {
            g_error("opcode 0x%02x, word 0 0x%" PRIx64 ": error %u, not %u",
                    op, word0, error, want);
        }
        if (error) {
            smmu_ack(g, 0);
        }
    }
    host_finish(g);
}

/*
 * Every command with every field at its ends, and runs of pages at the ends of
 * all addresses, aligned or not: each drain ends, and the queue goes on.
 */
static void test_ends(void)
{
    static const uint64_t fields[] = {
        0, 1ull << 12, 1ull << 63, 0xffffffff00000000ull, 0xffffffffull, ~0ull,
    };
    static const uint64_t ends[] = { 0, 1ull << 48, 1ull << 52, 1ull << 63 };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_BYPASS);
    for (unsigned op = 0; op < 0x100; op++) {
        for (unsigned n = 0; n < ARRAY_SIZE(fields) * ARRAY_SIZE(fields); n++) {
            uint64_t word0 = fields[n / ARRAY_SIZE(fields)];
            unsigned error;

            smmu_cmd(g, 0, HOST_CMD(deposit64(word0, 0, 8, op),
                                    fields[n % ARRAY_SIZE(fields)]));
            error = smmu_sync(g, 0);
            if (error) {
                g_assert_cmpuint(error, ==, SMMU_CERROR_ILL);
                smmu_ack(g, 0);
            }
        }
    }
    for (unsigned e = 0; e < ARRAY_SIZE(ends); e++) {
        for (unsigned shift = 12; shift <= 16; shift += 2) {
            for (int n = -5; n < 3; n++) {
                uint64_t first = ends[e] + ((uint64_t)n << shift);

                for (uint64_t at = 0; at <= 1ull << shift; at += 0x1000) {
                    for (unsigned page = 0; page < 4; page++) {
                        smmu_cmd(g, 0, CMD_TLBI_NH_VA(
                            1, first + at + ((uint64_t)page << shift), 1));
                    }
                    smmu_sync_ok(g, 0);
                }
            }
        }
    }
    host_finish(g);
}

/* The host refuses command @k of those that wait: CMDQ_CONS stops at it */
static void check_blamed(HostGuest *g, unsigned k)
{
    const uint32_t mask = (2u << HOST_CMDQ_LOG2) - 1;
    uint32_t cons = smmu_read(g, 0, SMMU_CMDQ_CONS) & mask;

    /* The call with all of them fails, then that with command k alone */
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:1=EIO"));
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:%u=EIO", 2 + k));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS) & mask, ==,
                    (cons + k) & mask);
    qobject_unref(host_control(g, "fail clear"));
    smmu_ack(g, 0);
    smmu_sync_ok(g, 0);
}

/* The host refuses one command of many */
static void test_blame(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_BYPASS);
    for (unsigned k = 0; k < 100; k += 1 + k / 4) {
        /* Not adjacent, or they would become a range */
        for (unsigned n = 0; n < 100; n++) {
            smmu_cmd(g, 0, CMD_TLBI_NH_VA(1, HOST_VA + n * 8192, 1));
        }
        check_blamed(g, k);
    }
    host_finish(g);
}

/* The batch is full, so that a command for a stream has to wait for the host */
static void test_blame_full(void)
{
    enum { FULL = 251 };
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        /* The write to PROD does all of the work */
        .smmu_args = ",x-drain-us=1000000",
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_BYPASS);
    for (unsigned k = 0; k < FULL; k += 50) {
        for (unsigned n = 0; n < FULL; n++) {
            smmu_cmd(g, 0, CMD_TLBI_NH_ASID(100 + n));
        }
        smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, 0)));
        check_blamed(g, k);
    }
    host_finish(g);
}

/*
 * Commands take effect in order. Invalidations before a CMD_SYNC are done
 * before its interrupt. Invalidations before a CFGI_STE are done before the
 * stream moves.
 */
static void test_order(void)
{
    static const char *const want[] = {
        "smmuv3_accel_invalidate", "smmuv3_trigger_irq",
        "smmuv3_accel_invalidate", "smmuv3_accel_stream_attach",
        "smmuv3_accel_invalidate", "smmuv3_trigger_irq",
        "smmuv3_accel_invalidate", "smmuv3_write_msi",
        "smmuv3_accel_invalidate", "smmuv3_write_msi",
    };
    HostGuestConfig config = { .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1 };
    g_autofree char *log = NULL, *args = NULL, *text = NULL;
    uint64_t done;
    HostGuest *g;
    const char *at;
    gsize before;
    int fd;

    if (host_skipped()) {
        return;
    }
    fd = g_file_open_tmp("smmuv3-order-XXXXXX", &log, NULL);
    g_assert_cmpint(fd, >=, 0);
    close(fd);
    args = g_strdup_printf("-D %s -trace smmuv3_trigger_irq "
                           "-trace smmuv3_write_msi "
                           "-trace smmuv3_accel_invalidate "
                           "-trace smmuv3_accel_stream_attach", log);
    config.args = args;
    g = host_guest_new(&config);
    done = host_alloc(g, 4096);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_BYPASS);
    g_assert_true(g_file_get_contents(log, &text, &before, NULL));
    g_free(text);

    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
    smmu_cmd(g, 0, CMD_SYNC_IRQ);
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(2));
    *smmu_ste(g, 0, host_sid(g, 0)) = cpu_to_le64(STE_ABORT);
    smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, 0)));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(3));
    smmu_cmd(g, 0, CMD_SYNC_IRQ);
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(4));
    smmu_cmd(g, 0, CMD_SYNC_MSI(done, 1));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(5));
    smmu_cmd(g, 0, CMD_SYNC_MSI(done, 2));
    smmu_sync_ok(g, 0);
    g_assert_cmphex(*(uint32_t *)host_ram(g, done), ==, 2);

    g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
    at = text + before;
    for (int n = 0; n < ARRAY_SIZE(want); n++) {
        const char *next = strstr(at, "smmuv3_");

        if (!next || !g_str_has_prefix(next, want[n])) {
            g_error("event %d is not %s in this trace:\n%s", n, want[n],
                    text + before);
        }
        at = next + strlen(want[n]);
    }
    unlink(log);
    host_finish(g);
}

static void wait_cons(HostGuest *g, uint32_t cons)
{
    for (int n = 0; smmu_read(g, 0, SMMU_CMDQ_CONS) != cons; n++) {
        g_assert_cmpint(n, <, 100000);
    }
}

/* In a stopped machine the drain starts, and most of it waits until cont */
static void kick_stopped(HostGuest *g, unsigned n)
{
    uint32_t cons;

    smmu_kick(g, 0);
    cons = smmu_read(g, 0, SMMU_CMDQ_CONS);
    g_assert_cmpuint(g->smmu[0].prod - cons, >, n / 2);
    for (int i = 0; i < 10; i++) {
        g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), ==, cons);
    }
    qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
    wait_cons(g, g->smmu[0].prod);
}

/* A drain ends after a microsecond, and a device translates */
static HostGuest *start_short_drains(void)
{
    HostGuest *g = host_guest_new(&(HostGuestConfig) {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .smmu_args = ",x-drain-us=1",
    });

    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    return g;
}

/*
 * A drain may leave its vCPU after any CMD_SYNC, but not before one, because
 * that would be another call to the host. It may also leave after a CFGI_STE,
 * even if that moves nothing.
 */
static void test_drain_rests(void)
{
    const unsigned syncs = 30, cmds = 5;
    uint64_t calls;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_short_drains();
    wait_cons(g, g->smmu[0].prod);
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    calls = host_counter(g, "call.IOMMU_HWPT_INVALIDATE");
    for (unsigned n = 0; n < syncs; n++) {
        /* Each with another ASID, or QEMU would merge them */
        for (unsigned asid = 1; asid <= cmds; asid++) {
            smmu_cmd(g, 0, CMD_TLBI_NH_VA(asid, HOST_VA, 1));
        }
        smmu_cmd(g, 0, CMD_SYNC);
    }
    kick_stopped(g, syncs * (cmds + 1));
    g_assert_cmpuint(host_counter(g, "call.IOMMU_HWPT_INVALIDATE") - calls, ==,
                     syncs);

    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    for (unsigned n = 0; n < syncs; n++) {
        smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, 0)));
    }
    kick_stopped(g, syncs);
    host_check_reads(g, 0, HOST_VA, 1);
    host_finish(g);
}

/*
 * Commands that are one for the host take time, too.  @cached: few of them do,
 * as they are also for QEMU's own caches, which have a bridge's translation.
 */
static void test_drain_merged(const void *cached)
{
    enum { QUEUE_LOG2 = 15 };
    const unsigned commands = cached ? 500 : 1 << 14;
    uint64_t queue, *slot, *pte, calls;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_short_drains();
    if (cached) {
        host_map_port_msi(g, 2, &pte);
    }
    queue = host_alloc(g, 16ull << QUEUE_LOG2);
    slot = host_ram(g, queue);
    for (unsigned n = 0; n < commands; n++) {
        slot[2 * n] = cpu_to_le64(cached ? CMD_TLBI_NH_ASID(99).word[0] :
                                           CMD_TLBI_NH_ALL.word[0]);
    }
    smmu_use_cmdq(g, 0, queue, QUEUE_LOG2);
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    calls = host_counter(g, "call.IOMMU_HWPT_INVALIDATE");
    g->smmu[0].prod = commands;
    kick_stopped(g, commands);
    g_assert_cmpuint(host_counter(g, "call.IOMMU_HWPT_INVALIDATE") - calls, >,
                     1);
    host_check_reads(g, 0, HOST_VA, 1);
    if (cached) {
        host_turn_slot_off(g);
        host_guest_free(g);
    } else {
        host_finish(g);
    }
}

/* A call that makes room in the batch takes time like any other */
static void test_drain_room(void)
{
    enum { FULL = 251, MERGED = 700 };
    uint64_t queue, *slot;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_short_drains();
    queue = host_alloc(g, 16 << 10);
    slot = host_ram(g, queue);
    for (unsigned n = 0; n <= FULL + MERGED; n++) {
        HostCmd cmd = n < FULL ? CMD_TLBI_NH_ASID(100 + n) :
                      n > FULL ? CMD_TLBI_NH_ASID(99) :
                                 CMD_CFGI_CD_ALL(host_sid(g, 0));

        slot[2 * n] = cpu_to_le64(cmd.word[0]);
        slot[2 * n + 1] = cpu_to_le64(cmd.word[1]);
    }
    smmu_use_cmdq(g, 0, queue, 10);
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    g->smmu[0].prod = FULL + 1 + MERGED;
    kick_stopped(g, FULL + 1 + MERGED);
    host_check_reads(g, 0, HOST_VA, 1);
    host_finish(g);
}

/*
 * No command reaches the host after a later CMD_SYNC has completed. The TLBIs
 * are numbered, the message of a CMD_SYNC is the number of the last TLBI before
 * it, and the model compares them.
 */
static void test_linear(const void *drain)
{
    g_autofree char *smmu_args = g_strconcat(",x-drain-us=", drain, NULL);
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2, .smmu_args = smmu_args,
    };
    /* Not adjacent pages: a run of those would reach the host as a range */
    const uint32_t step = 3;
    uint32_t number = 0;
    uint64_t done;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    done = host_alloc(g, 4096);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, done)));
    host_set_ste(g, 1, STE_BYPASS);
    host_check_reads(g, 1, done, 0);
    qobject_unref(host_control(g, "watch dma1 0x%" PRIx64, done));

    for (int round = 0; round < 300; round++) {
        int n = g_test_rand_int_range(0, g_test_rand_int_range(2, 200));

        while (n--) {
            number += step;
            smmu_cmd(g, 0, CMD_TLBI_NH_VA(1, (uint64_t)number << 12, 1));
            switch (g_test_rand_int_range(0, 60)) {
            case 0:
                smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, 0)));
                break;
            case 1:
                smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, 0)));
                break;
            case 2:
                smmu_cmd(g, 0, CMD_SYNC);
                break;
            case 3:
                smmu_kick(g, 0);
                break;
            }
        }
        smmu_cmd(g, 0, CMD_SYNC_MSI(done, number));
        if (g_test_rand_bit()) {
            smmu_kick(g, 0);
        }
    }
    smmu_sync_ok(g, 0);
    g_assert_cmpuint(*(uint32_t *)host_ram(g, done), ==, number);
    g_assert_cmpuint(host_counter(g, "watch.seen"), ==, number / step);

    /* A command without a CMD_SYNC behind it reaches the host as well */
    smmu_cmd(g, 0, CMD_TLBI_NH_VA(1, (uint64_t)(number + step) << 12, 1));
    smmu_kick(g, 0);
    for (int n = 0; host_counter(g, "watch.seen") == number / step; n++) {
        g_assert_cmpint(n, <, 10000);
        g_usleep(100);
    }
    g_assert_cmpuint(host_counter(g, "watch.late"), ==, 0);
    host_finish(g);
}

/*
 * The queue crosses the end of memory: readable commands take effect, and CONS
 * stops at the first unreadable one.
 */
static void test_abort(void)
{
    /* A queue is aligned to its size, so it is twice as large as its memory */
    const uint64_t base = 0x80000000;
    const unsigned log2 = 18, first = (1u << (log2 - 1)) - 40, readable = 40;
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .args = "-m 256M,slots=1,maxmem=1G "
                "-object memory-backend-ram,id=dimm,size=2M "
                "-device pc-dimm,memdev=dimm,addr=0x80000000",
    };
    HostGuest *g;
    uint64_t page, cd;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    page = host_new_page(g, 0xcccc);
    cd = host_one_page_cd(g, 1, page);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(cd));
    host_check_reads(g, 0, HOST_VA, 0xcccc);

    for (unsigned n = 0; n < readable; n++) {
        HostCmd cmd = n < readable - 1 ? CMD_TLBI_NH_ASID(n)
                                       : CMD_CFGI_CD(host_sid(g, 0), 0);

        qtest_writeq(g->qts, base + (first + n) * 16, cmd.word[0]);
        qtest_writeq(g->qts, base + (first + n) * 16 + 8, cmd.word[1]);
    }
    host_clear_cd(g, cd);
    smmu_write(g, 0, SMMU_CR0, 0);
    smmu_write64(g, 0, SMMU_CMDQ_BASE, base | log2);
    smmu_write(g, 0, SMMU_CMDQ_PROD, first);
    smmu_write(g, 0, SMMU_CMDQ_CONS, first);
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_CMDQEN);
    smmu_write(g, 0, SMMU_CMDQ_PROD, first + readable + 3);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), ==,
                    (first + readable) | SMMU_CERROR_ABT << 24);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR), ==, SMMU_GERROR_CMDQ);
    host_check_faults(g, 0, HOST_VA);

    /* The guest repairs the queue, and everything works again */
    smmu_write(g, 0, SMMU_CR0, 1);
    smmu_write(g, 0, SMMU_GERRORN, SMMU_GERROR_CMDQ);
    smmu_enable(g, 0);
    host_set_ste(g, 0, STE_BYPASS);
    host_check_reads(g, 0, page, 0xcccc);
    host_finish(g);
}

/* As many devices as possible, each behind its own port */
static void test_many_ports(void)
{
    uint64_t calls;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, HOST_MAX_DEVS);
    host_enable(g, 0);
    for (unsigned dev = 0; dev < HOST_MAX_DEVS; dev++) {
        uint64_t page = host_new_page(g, dev);

        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, 1 + dev, page)));
    }
    for (unsigned dev = 0; dev < HOST_MAX_DEVS; dev++) {
        host_check_reads(g, dev, HOST_VA, dev);
    }
    calls = host_counter(g, "call.IOMMU_HWPT_INVALIDATE");
    smmu_cmd(g, 0, CMD_TLBI_NH_ALL);
    smmu_sync_ok(g, 0);
    g_assert_cmpuint(host_counter(g, "call.IOMMU_HWPT_INVALIDATE") - calls, ==,
                     1);
    host_finish(g);
}

/*
 * QEMU translates the MSIs of bridges with its own caches. Commands must
 * invalidate those caches too, and must still reach the host.
 */
static void test_bridge_msi(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .dev = { { .hotplug = true } },
    };
    const uint64_t table = VIRT_PCIE_MMIO_BASE + 0x8000000;
    uint64_t port, page[2], root, cd, sid;
    unsigned msix;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    root = host_alloc(g, 4096);
    cd = host_alloc(g, 64);
    host_write_cd(g, cd, &(HostCd) {
        .asid = 9, .ttb = { root }, .txsz = { 25 }, .granule_shift = 12,
    });
    host_enable(g, 0);
    sid = g->dev[0].port_bus << 8 | g->dev[0].port_devfn;
    *smmu_ste(g, 0, sid) = cpu_to_le64(STE_S1(cd));
    smmu_cmd(g, 0, CMD_CFGI_STE(sid));
    smmu_sync_ok(g, 0);

    /* The port's message goes to HOST_VA */
    port = host_port_config(g, 0);
    qtest_writel(g->qts, port + PCI_BASE_ADDRESS_0, table);
    msix = host_find_cap(g, port, PCI_CAP_ID_MSIX);
    qtest_writeq(g->qts, table + PCI_MSIX_ENTRY_LOWER_ADDR, HOST_VA);
    qtest_writel(g->qts, table + PCI_MSIX_ENTRY_DATA, 0xabcd);
    qtest_writel(g->qts, table + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
    qtest_writew(g->qts, port + msix + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);

    for (int round = 0; round < 2; round++) {
        uint64_t slot = host_slot_control(g, 0);

        page[round] = host_alloc(g, 4096);
        *host_pte(g, root, 12, 25, HOST_VA, 3, true) =
            cpu_to_le64(host_leaf(3, page[round], PTE_DATA));
        smmu_cmd(g, 0, CMD_TLBI_NH_VA(9, HOST_VA, 1));
        smmu_sync_ok(g, 0);
        qtest_writew(g->qts, slot, PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_HPIE |
                     host_slot_off(g, 0));
        qtest_writew(g->qts, slot + 2, PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_ABP);
        g_assert_null(host_guest_plug(g, 0));
        g_assert_cmphex(*(uint32_t *)host_ram(g, page[round]), ==, 0xabcd);
        host_guest_unplug(g, 0);
    }
    host_finish(g);
}

/*
 * QEMU carries out what a command says of its own caches while one of the two
 * has an entry. @config: the one of configurations, else that of translations
 */
static void test_bridge_cache(const void *config)
{
    uint32_t *target, sid;
    uint64_t *pte;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    target = host_map_port_msi(g, 1, &pte);
    sid = host_port_sid(g);
    smmu_cmd(g, 0, config ? CMD_TLBI_NSNH_ALL : CMD_CFGI_STE(sid));
    smmu_sync_ok(g, 0);
    if (config) {
        *smmu_ste(g, 0, sid) = cpu_to_le64(STE_ABORT);
        smmu_cmd(g, 0, CMD_CFGI_STE(sid));
    } else {
        qatomic_set(pte, 0);
        smmu_cmd(g, 0, CMD_TLBI_NH_VA(1, HOST_VA, 1));
    }
    smmu_sync_ok(g, 0);
    host_turn_slot_off(g);
    g_assert_cmphex(qatomic_read(target), ==, 0);
    host_guest_free(g);
}

/*
 * Hosts: what the ID registers report for each, and which are refused
 */

typedef struct HostRow {
    const char *name;           /* of a profile of the model, without @keys */
    bool ril, gran16k, asid16;
    unsigned oas;               /* IDR5.OAS */
    const char *refused;        /* what the error says */
    const char *keys;
} HostRow;

static const HostRow host_rows[] = {
    { "grace", true, true, true, 5 },
    { "kunpeng", false, false, true, 5 },
    { "httu", true, true, true, 5 },
    { "no16k", true, false, true, 5 },
    { "noril", false, true, true, 5 },
    { "asid8", true, true, false, 5 },
    { "oas32", true, true, true, 0 },
    { "onestage", .refused = "Failed to allocate hwpt" },
    { "nofwb", .refused = "IOMMU_VIOMMU_ALLOC failed" },
    { "nocoherent", .refused = "error bind device" },
    { "tegra264", true, true, true, 5 },
    /* Firmware overrides IDR0.COHACC, both ways */
    { "coherent-by-firmware", true, true, true, 5,
      .keys = "profile=nocoherent\ncoherent=1" },
    { "incoherent-by-firmware", .refused = "error bind device",
      .keys = "profile=grace\ncoherent=0" },
    /* Bits that one may not read: S1P, S2P, HAD, OAS and all others */
    { "unlisted-bits", true, true, true, 5,
      .keys = "profile=grace\nunlisted=0xffffffff" },
    /* IDR5.OAS says less, or more, than the IOAS */
    { "oas-too-low", true, true, true, 5,
      .keys = "profile=grace\nunlisted=7" },
    { "oas-too-high", true, true, true, 0,
      .keys = "profile=oas32\nunlisted=7" },
};

static void test_host(const void *opaque)
{
    const HostRow *row = opaque;
    g_autofree char *host = row->keys ? g_strdup(row->keys)
                            : g_strconcat("profile=", row->name, NULL);
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = host,
        .dev = { { .hotplug = row->refused } },
    };
    HostGuest *g;
    uint64_t page;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    if (row->refused) {
        g_autofree char *error = host_guest_plug(g, 0);

        g_assert_nonnull(error);
        g_test_message("%s", error);
        g_assert_nonnull(strstr(error, row->refused));
        g_assert_cmpuint(host_objects(g, "device"), ==, 0);
        g_assert_cmpuint(host_objects(g, "hwpt_paging"), ==, 0);
        host_finish(g);
        return;
    }
    if (!row->oas) {
        host_expect(g, "addresses have 32 bits (IDR5.OAS)");
    }
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR3), 10, 1), ==,
                     row->ril);
    /* HAD is as RIL and BBML say, whatever the bit of the host */
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR3), 2, 1), ==,
                     smmu_read(g, 0, SMMU_AIDR));
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR5), 5, 1), ==,
                     row->gran16k);
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR0), 12, 1), ==,
                     row->asid16);
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR5), 0, 3), ==,
                     row->oas);
    page = host_new_page(g, 0xe000);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, page)));
    host_check_reads(g, 0, HOST_VA, 0xe000);
    host_check_faults(g, 0, page);
    host_finish(g);
}

/*
 * All devices share one IOAS, which is as narrow as the narrowest stage 2.  So
 * a device that comes later, behind an SMMU of fewer bits, is judged by what
 * the IOAS takes then.  The guest was told 44 bits.
 */
static void test_narrow_host(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 2, .n_devs = 2,
        .host = "profile=grace", .last_host = "profile=grace\nidr5=0x72",
        .dev = { { 0 }, { .vsmmu = 1, .psmmu = 1, .hotplug = true } },
    };
    g_autofree char *error = NULL;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR5), 0, 3), ==, 5);
    g_assert_cmpuint(extract32(smmu_read(g, 1, SMMU_IDR5), 0, 3), ==, 4);
    error = host_guest_plug(g, 1);
    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, "IDR5.OAS 40"));
    host_finish(g);
}

/*
 * Erratum T264-SMMU-3: each batch with a TLBI or CFGI_CD comes twice.  Linux
 * reports it for all SMMUs if one has it.
 */
static void test_erratum(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 2, .n_devs = 2,
        .host = "profile=tegra264", .last_host = "profile=grace",
        .dev = { { 0 }, { .vsmmu = 1, .psmmu = 1 } },
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t page = host_new_page(g, 0xa0), next = host_new_page(g, 0xa1);
        uint64_t root = host_alloc(g, 4096), cd[2] = { host_alloc(g, 64),
                                                       host_alloc(g, 64) };
        uint64_t *pte = host_pte(g, root, 12, 25, HOST_VA, 3, true), calls, n;

        host_enable(g, i);
        *pte = cpu_to_le64(host_leaf(3, page, PTE_DATA));
        for (unsigned k = 0; k < 2; k++) {
            host_write_cd(g, cd[k], &(HostCd) {
                .asid = 5, .ttb = { root }, .txsz = { 25 }, .granule_shift = 12,
            });
        }
        host_set_ste(g, i, STE_S1(cd[0]));
        host_check_reads(g, i, HOST_VA, 0xa0);

        /* The page changes, and one TLBI is enough for the guest */
        *pte = cpu_to_le64(host_leaf(3, next, PTE_DATA));
        calls = host_counter(g, "call.IOMMU_HWPT_INVALIDATE");
        n = host_counter(g, "smmu.cmd.TLBI_NH_VA");
        smmu_cmd(g, i, CMD_TLBI_NH_VA(5, HOST_VA, 1));
        smmu_sync_ok(g, i);
        host_check_reads(g, i, HOST_VA, 0xa1);
        g_assert_cmpuint(host_counter(g, "call.IOMMU_HWPT_INVALIDATE"), ==,
                         calls + 2);
        g_assert_cmpuint(host_counter(g, "smmu.cmd.TLBI_NH_VA"), ==, n + 2);

        /* The same for a CD */
        host_clear_cd(g, cd[0]);
        smmu_cmd(g, i, CMD_CFGI_CD(host_sid(g, i), 0));
        smmu_sync_ok(g, i);
        host_check_faults(g, i, HOST_VA);

        /* Linux repeats what it issues itself */
        host_set_ste(g, i, STE_S1(cd[1]));
        host_check_reads(g, i, HOST_VA, 0xa1);
    }
    host_finish(g);
}

/*
 * IHI 0070 4.4.1.1: bit 25 belongs to SCALE only with IDR5.DS.  The guest was
 * told that there is none, so the bit is reserved, whatever the host has.
 */
static void test_scale_without_ds(void)
{
    static const char *const hosts[] = {
        "profile=grace", "profile=grace\nidr5=0xf5",
    };

    if (host_skipped()) {
        return;
    }
    for (unsigned n = 0; n < ARRAY_SIZE(hosts); n++) {
        HostGuestConfig config = {
            .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = hosts[n],
        };
        HostGuest *g = host_guest_new(&config);

        g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR5), 7, 1), ==, 0);
        host_enable(g, 0);
        smmu_cmd(g, 0, HOST_CMD(0x12 | 1 << 25 | 1 << 12, HOST_VA | 1 << 10));
        smmu_sync_ok(g, 0);
        g_assert_cmpuint(host_counter(g, "smmu.cmd.TLBI_NH_VA"), ==, 1);
        g_assert_cmpuint(host_counter(g, "smmu.ill"), ==, 0);
        host_finish(g);
    }
}

/*
 * An STE changes from one CD to another without a gap (IHI 0070 5.2: all that
 * differs is in one 64-bit word). Whenever hardware looks, either the old or
 * the new translation is valid.
 */
static void test_gapless(void)
{
    HostGuest *g;
    uint64_t cd[2];

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    for (unsigned n = 0; n < 2; n++) {
        cd[n] = host_one_page_cd(g, 1 + n, host_new_page(g, 0xa0 + n));
    }
    host_set_ste(g, 0, STE_S1(cd[0]));
    host_probe_begin(g, 0, HOST_VA, 0xa0, 0xa1);
    for (unsigned n = 1; n <= 10000; n++) {
        host_set_ste(g, 0, STE_S1(cd[n % 2]));
    }
    /*
     * Each change is probed before and after: 10000 reads of each value, or
     * more
     */
    g_assert_cmpuint(host_probes(g, 0, HOST_PROBES_A), >=, 5000);
    g_assert_cmpuint(host_probes(g, 0, HOST_PROBES_B), >=, 5000);
    g_assert_cmpuint(host_probes(g, 0, HOST_PROBES_OTHER), ==, 0);
    g_assert_cmpuint(host_probes(g, 0, HOST_PROBES_FAULT), ==, 0);

    /* A change through V=0 has a gap, and the probe sees it */
    host_set_ste(g, 0, 0);
    host_set_ste(g, 0, STE_S1(cd[0]));
    g_assert_cmpuint(host_probes(g, 0, HOST_PROBES_FAULT), >, 0);
    host_finish(g);
}

/*
 * Change each kind of STE to each other. The host needs a gap only if bits in
 * use on both sides differ in two 64-bit words: here, the CD and its
 * cacheability. Each kind reads its own page at the same address.
 */
typedef struct SteKind {
    const char *name;
    bool aborts, stage1;
    int cd;
    uint64_t word1;
    uint64_t value;
} SteKind;

/* S1CIR, S1COR and S1CSH */
#define STE1_S1_CACHED  (1ull << 2 | 1ull << 4 | 3ull << 6)

static const SteKind ste_kinds[] = {
    { "V=0", .aborts = true },
    { "abort", .aborts = true },
    { "bypass", .value = 0xb0 },
    { "CD 0", .stage1 = true, .value = 0xa0 },
    { "CD 1", .stage1 = true, .cd = 1, .value = 0xa1 },
    { "CD 0, cached", .stage1 = true, .word1 = STE1_S1_CACHED, .value = 0xa0 },
};

static void change_kind(HostGuest *g, const SteKind *from, const SteKind *to,
                        uint64_t iova, const uint64_t words[2])
{
    bool gap = from->stage1 && to->stage1 && from->cd != to->cd &&
               from->word1 != to->word1;
    uint64_t gaps = host_counter(g, "driver.ste.gap"), faults;

    host_probe_begin(g, 0, iova, from->value, to->value);
    smmu_ste(g, 0, host_sid(g, 0))[1] = cpu_to_le64(words[1]);
    host_set_ste(g, 0, words[0]);
    gaps = host_counter(g, "driver.ste.gap") - gaps;
    faults = host_probes(g, 0, HOST_PROBES_FAULT);
    if (gaps != gap || host_probes(g, 0, HOST_PROBES_OTHER) ||
        (faults && !gap && !from->aborts && !to->aborts)) {
        g_error("from %s to %s: %" PRIu64 " gaps, %" PRIu64 " faults, %" PRIu64
                " reads of another value", from->name, to->name, gaps, faults,
                host_probes(g, 0, HOST_PROBES_OTHER));
    }
    if (to->aborts) {
        host_check_faults(g, 0, iova);
    } else {
        host_check_reads(g, 0, iova, to->value);
    }
}

static void test_gapless_kinds(void)
{
    const int n = ARRAY_SIZE(ste_kinds);
    uint64_t words[ARRAY_SIZE(ste_kinds)][2], bare, cd[2], gaps;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 1);
    host_enable(g, 0);
    bare = host_new_page(g, 0xb0);
    for (int i = 0; i < 2; i++) {
        cd[i] = host_page_cd(g, 1 + i, bare, host_new_page(g, 0xa0 + i));
    }
    for (int i = 0; i < n; i++) {
        const SteKind *kind = &ste_kinds[i];

        words[i][0] = i == 0 ? 0 : kind->aborts ? STE_ABORT :
                      kind->stage1 ? STE_S1(cd[kind->cd]) : STE_BYPASS;
        words[i][1] = kind->word1;
    }
    for (int from = 0; from < n; from++) {
        for (int to = 0; to < n; to++) {
            change_kind(g, &ste_kinds[0], &ste_kinds[from], bare, words[from]);
            change_kind(g, &ste_kinds[from], &ste_kinds[to], bare, words[to]);
            change_kind(g, &ste_kinds[to], &ste_kinds[0], bare, words[0]);
        }
    }

    /* SMMUEN off and on: from bypass to the tables of the guest, and back */
    host_set_ste(g, 0, STE_S1(cd[0]));
    gaps = host_counter(g, "driver.ste.gap");
    host_probe_begin(g, 0, bare, 0xb0, 0xa0);
    for (int i = 0; i < 10; i++) {
        smmu_disable(g, 0);
        host_check_reads(g, 0, bare, 0xb0);
        smmu_enable(g, 0);
        host_check_reads(g, 0, bare, 0xa0);
    }
    g_assert_cmpuint(host_probes(g, 0, HOST_PROBES_A), >=, 10);
    g_assert_cmpuint(host_probes(g, 0, HOST_PROBES_B), >=, 10);
    g_assert_cmpuint(host_probes(g, 0, HOST_PROBES_OTHER), ==, 0);
    g_assert_cmpuint(host_probes(g, 0, HOST_PROBES_FAULT), ==, 0);
    g_assert_cmpuint(host_counter(g, "driver.ste.gap"), ==, gaps);
    host_finish(g);
}

/* ASIDs that differ in their upper eight bits only */
static void test_asid16(void)
{
    static const unsigned asid[] = { 0x0142, 0x4242 };
    HostGuest *g;
    uint64_t page[2];

    if (host_skipped()) {
        return;
    }
    g = host_start(1, 2);
    host_enable(g, 0);
    for (unsigned dev = 0; dev < 2; dev++) {
        uint64_t root = host_alloc(g, 4096), cd = host_alloc(g, 64);
        uint64_t *pte = host_pte(g, root, 12, 25, HOST_VA, 3, true);

        page[dev] = host_new_page(g, 0xc000 + dev);
        *pte = cpu_to_le64(host_leaf(3, page[dev], PTE_DATA));
        host_write_cd(g, cd, &(HostCd) {
            .asid = asid[dev], .ttb = { root }, .txsz = { 25 },
            .granule_shift = 12,
        });
        host_set_ste(g, dev, STE_S1(cd));
        host_check_reads(g, dev, HOST_VA, 0xc000 + dev);
        *pte = 0;
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(asid[dev]));
        smmu_sync_ok(g, 0);
        host_check_faults(g, dev, HOST_VA);
    }
    host_finish(g);
}

/*
 * Errors that an admin can meet: the message names the device, the cause, and
 * what to do. Without the failure the same command works.
 */
typedef struct ErrorRow {
    const char *name;
    const char *host;           /* keys of the model's [smmu], or NULL */
    const char *fail;           /* rule for a call that fails, or NULL */
    const char *say[4];
} ErrorRow;

#define OLD_KERNEL "must be Linux 6.19 or later"

static const ErrorRow error_rows[] = {
    { "no-iommufd", NULL, "open./dev/iommu=ENOENT",
      { "/dev/iommu", "load the module" } },
    /* The node is there, and the module is not */
    { "no-module", NULL, "open./dev/iommu=ENODEV",
      { "/dev/iommu", "load the module" } },
    { "no-permission", NULL, "open./dev/iommu=EACCES",
      { "/dev/iommu", "QEMU's user", "udev" } },
    /* By a control group, as libvirt and containers have it */
    { "not-permitted", NULL, "open./dev/iommu=EPERM",
      { "/dev/iommu", "QEMU's user", "udev" } },
    { "in-use", NULL, "VFIO_DEVICE_BIND_IOMMUFD=EINVAL", { "in use already" } },
    { "memory-lock", NULL, "IOMMU_IOAS_MAP=ENOMEM",
      { "LimitMEMLOCK", "Cannot allocate memory" } },
    { "no-nesting", NULL, "IOMMU_HWPT_ALLOC=EOPNOTSUPP",
      { "cannot nest", "CONFIG_ARM_SMMU_V3_IOMMUFD" } },
    { "one-stage", "profile=onestage", NULL,
      { "cannot nest", "both stages" } },
    { "bypasses-caches", NULL, "IOMMU_VIOMMU_ALLOC=EOPNOTSUPP",
      { "smmuv3 's0'", "S2FWB" } },
    { "no-viommu", NULL, "IOMMU_VIOMMU_ALLOC=ENOTTY",
      { "smmuv3 's0'", OLD_KERNEL } },
    { "no-hw-info", NULL, "IOMMU_GET_HW_INFO:2=EOPNOTSUPP", { OLD_KERNEL } },
    { "no-attach-without-vdevice", NULL,
      "VFIO_DEVICE_ATTACH_IOMMUFD_PT:2+*=ENOENT", { OLD_KERNEL } },
};

static void test_error(const void *opaque)
{
    const ErrorRow *row = opaque;
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = row->host,
        .dev = { { .hotplug = true } },
    };
    g_autofree char *error = NULL;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    if (row->fail) {
        qobject_unref(host_control(g, "fail %s", row->fail));
    }
    error = host_guest_plug(g, 0);
    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, "VFIO_FD"));
    for (int n = 0; n < ARRAY_SIZE(row->say) && row->say[n]; n++) {
        if (!strstr(error, row->say[n])) {
            g_error("no \"%s\" in: %s", row->say[n], error);
        }
    }
    if (row->fail) {
        qobject_unref(host_control(g, "fail clear"));
        g_assert_null(host_guest_plug(g, 0));
    }
    host_finish(g);
}

/*
 * Registers that are read from memory have the values that a trap would
 * return, and writes that never reach QEMU would have changed nothing. Two
 * guests do the same; one of them exits at each access.
 */

static const unsigned known_registers[][2] = {
    { 0x00, 0x2c }, { 0x40, 0x44 }, { 0x50, 0x54 }, { 0x60, 0x74 },
    { 0x80, 0x88 }, { 0x90, 0xbc }, { 0xfd0, 0xffc },
};

/* A write that both guests do; half of them are 0, as Linux's first ones are */
typedef struct RegisterWrite {
    unsigned reg, size;
    uint64_t value;
} RegisterWrite;

static RegisterWrite random_write(const uint64_t *queues, uint64_t page)
{
    static const struct {
        unsigned reg, size;
        uint64_t mask;
        bool pointer;
    } registers[] = {
        { SMMU_CR0, 4, 0xd }, { SMMU_CR0, 4, 0xd }, { 0x28, 4, 0xfff },
        { SMMU_CR2, 4, 7 }, { SMMU_IRQ_CTRL, 4, 5 }, { SMMU_GERRORN, 4, 5 },
        { SMMU_GBPA, 4, SMMU_GBPA_UPDATE | SMMU_GBPA_ABORT },
        { SMMU_GERROR_IRQ_CFG, 8, 0xffc, true }, { 0x70, 4, UINT32_MAX },
        { 0x74, 4, 0x3f }, { SMMU_STRTAB_BASE, 8, 0, true },
        { SMMU_STRTAB_CFG, 4, 0x1f }, { SMMU_CMDQ_PROD, 4, 0x1f },
        { SMMU_CMDQ_PROD, 4, 0x1f }, { SMMU_CMDQ_PROD, 4, 0x1f },
        { SMMU_CMDQ_CONS, 4, 0x1f }, { SMMU_EVENTQ_PROD, 4, 0x1f },
        { SMMU_EVENTQ_CONS, 4, 0x1f }, { SMMU_EVENTQ_IRQ_CFG, 8, 0xffc, true },
        { 0xb8, 4, UINT32_MAX }, { 0xbc, 4, 0x3f },
    };
    int n = g_test_rand_int_range(0, ARRAY_SIZE(registers) + 1);
    RegisterWrite write;

    if (n == ARRAY_SIZE(registers)) {
        return (RegisterWrite) {
            SMMU_CMDQ_BASE, 8, queues[g_test_rand_bit()] | 4,
        };
    }
    write = (RegisterWrite) { registers[n].reg, registers[n].size };
    if (g_test_rand_bit()) {
        write.value = (uint32_t)g_test_rand_int() & registers[n].mask;
        write.value |= registers[n].pointer ? page : 0;
    }
    /* Page 1 is an alias */
    write.reg ^= g_test_rand_int_range(0, 8) ? 0 : 0x10000;
    return write;
}

/*
 * The write of this round. After every other reset five fixed writes come
 * first: they stop the queue with an error for certain, and then clear
 * CMDQ_CONS. All others are random.
 */
static RegisterWrite round_write(int round, const uint64_t *queues,
                                 uint64_t page)
{
    const struct {
        int since;
        RegisterWrite write;
    } fixed[] = {
        { 0, { SMMU_CMDQ_BASE, 8, queues[1] | 4 } },
        { 1, { SMMU_CR0, 4, SMMU_CR0_CMDQEN } },
        { 2, { SMMU_CMDQ_PROD, 4, 12 } },
        { 3, { SMMU_CR0, 4, 0 } },
        { 4, { SMMU_CMDQ_CONS, 4, 0 } },
    };

    for (int n = 0; n < ARRAY_SIZE(fixed); n++) {
        if (round % 200 == fixed[n].since) {
            return fixed[n].write;
        }
    }
    return random_write(queues, page);
}

static void check_registers_equal(HostGuest *const *g, int round)
{
    for (int n = 0; n < ARRAY_SIZE(known_registers); n++) {
        for (unsigned reg = known_registers[n][0];
             reg <= known_registers[n][1]; reg += 4) {
            for (unsigned page = 0; page <= 0x10000; page += 0x10000) {
                uint32_t a = smmu_read(g[0], 0, reg | page);
                uint32_t b = smmu_read(g[1], 0, reg | page);

                if (a != b) {
                    g_error("round %d: register 0x%x is 0x%x, not 0x%x",
                            round, reg | page, a, b);
                }
            }
        }
    }
}

static void test_registers(void)
{
    HostGuestConfig config = { .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1 };
    HostGuest *g[2];
    uint64_t page[2], queues[2][2], events[2];
    unsigned errors = 0;

    if (host_skipped()) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        g_autofree char *tree = NULL;

        /* A drain ends within the write, however busy this computer is */
        config.smmu_args = i ? ",x-drain-us=1000000,x-direct-registers=off"
                             : ",x-drain-us=1000000";
        g[i] = host_guest_new(&config);
        tree = qtest_hmp(g[i]->qts, "info mtree");
        g_assert_cmpint(!!strstr(tree, ", romd): arm-smmuv3"), ==, !i);

        page[i] = host_alloc(g[i], 4096);
        events[i] = host_alloc(g[i], 4096);
        for (int q = 0; q < 2; q++) {
            HostCmd *cmd;

            queues[i][q] = host_alloc(g[i], 4096);
            cmd = host_ram(g[i], queues[i][q]);
            for (int n = 0; n < 16; n++) {
                cmd[n] = n % 3 == 0 ? CMD_SYNC :
                         n % 3 == 1 ? CMD_CFGI_STE(host_sid(g[i], 0) + n) :
                         CMD_SYNC_MSI(page[i], n + 1);
            }
            cmd[11] = q ? HOST_CMD(0x7f, 0) : CMD_CFGI_ALL;
        }
        smmu_write64(g[i], 0, SMMU_EVENTQ_BASE, events[i] | 4);
    }
    g_assert_cmphex(page[0], ==, page[1]);
    g_assert_cmphex(queues[0][1], ==, queues[1][1]);

    for (int round = 0; round < 600; round++) {
        RegisterWrite write = round_write(round, queues[0], page[0]);

        for (int i = 0; i < 2; i++) {
            if (round % 100 == 99) {
                qtest_system_reset(g[i]->qts);
            } else if (write.size == 8) {
                smmu_write64(g[i], 0, write.reg, write.value);
            } else {
                smmu_write(g[i], 0, write.reg, write.value);
            }
        }
        check_registers_equal(g, round);
        for (int i = 0; i < 2 && round % 100 == 99; i++) {
            smmu_write64(g[i], 0, SMMU_EVENTQ_BASE, events[i] | 4);
        }
        g_assert_cmpmem(host_ram(g[0], events[0]), 4096,
                        host_ram(g[1], events[1]), 4096);
        errors += smmu_read(g[0], 0, SMMU_GERROR) & 1;
    }
    g_assert_cmpuint(errors, >=, 3);
    for (int i = 0; i < 2; i++) {
        host_guest_free(g[i]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int n = 0; n < ARRAY_SIZE(table_rows); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-host/tables/%s",
                                                table_rows[n].name);

        qtest_add_data_func(path, &table_rows[n], test_tables);
    }
    for (int n = 0; n < ARRAY_SIZE(host_rows); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-host/hosts/%s",
                                                host_rows[n].name);

        qtest_add_data_func(path, &host_rows[n], test_host);
    }
    for (int n = 0; n < ARRAY_SIZE(error_rows); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-host/errors/%s",
                                                error_rows[n].name);

        qtest_add_data_func(path, &error_rows[n], test_error);
    }
    qtest_add_func("/smmuv3-host/registers", test_registers);
    qtest_add_func("/smmuv3-host/ste", test_ste);
    qtest_add_func("/smmuv3-host/smmuen", test_smmuen);
    qtest_add_func("/smmuv3-host/stream-table", test_stream_table);
    qtest_add_func("/smmuv3-host/apart", test_apart);
    qtest_add_func("/smmuv3-host/reset", test_reset);
    qtest_add_data_func("/smmuv3-host/flr", host_flr, test_device_reset);
    qtest_add_data_func("/smmuv3-host/bus-reset", host_bus_reset,
                        test_device_reset);
    qtest_add_func("/smmuv3-host/busy", test_busy);
    qtest_add_data_func("/smmuv3-host/warn-once/busy",
                        "fail VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+100000=EBUSY",
                        test_told_once);
    qtest_add_data_func("/smmuv3-host/warn-once/no-memory",
                        "fail VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+100000=ENOMEM",
                        test_told_once);
    qtest_add_func("/smmuv3-host/warn-seldom", test_told_seldom);
    qtest_add_func("/smmuv3-host/stop-cont", test_stop_cont);
    qtest_add_func("/smmuv3-host/comes-back", test_comes_back);
    qtest_add_func("/smmuv3-host/unplug-order", test_unplug_order);
    qtest_add_func("/smmuv3-host/many-ports", test_many_ports);
    qtest_add_func("/smmuv3-host/shared-stage2", test_shared_stage2);
    for (unsigned n = 0; n < ARRAY_SIZE(sharers); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-host/stale-sharer/%s",
                                                sharers[n].name);

        qtest_add_data_func(path, GUINT_TO_POINTER(n), test_stale_sharer);
    }
    qtest_add_data_func("/smmuv3-host/sharer-parks/stays", NULL,
                        test_sharer_parks);
    qtest_add_data_func("/smmuv3-host/sharer-parks/leaves", "leaves",
                        test_sharer_parks);
    qtest_add_data_func("/smmuv3-host/sharer-parks/first", "first",
                        test_sharer_parks);
    qtest_add_func("/smmuv3-host/stale-sharers", test_stale_sharers);
    qtest_add_func("/smmuv3-host/stale-during", test_stale_during);
    qtest_add_data_func("/smmuv3-host/stale-meanwhile/pages", NULL,
                        test_stale_meanwhile);
    qtest_add_data_func("/smmuv3-host/stale-meanwhile/everything", "stale",
                        test_stale_meanwhile);
    qtest_add_data_func("/smmuv3-host/surprise/request", "request",
                        test_surprise);
    qtest_add_data_func("/smmuv3-host/surprise/power", "power", test_surprise);
    qtest_add_func("/smmuv3-host/renumber", test_renumber);
    qtest_add_func("/smmuv3-host/swap", test_swap);
    qtest_add_func("/smmuv3-host/hotplug", test_hotplug);
    qtest_add_func("/smmuv3-host/switch", test_switch);
    qtest_add_func("/smmuv3-host/bridge-hotplug", test_bridge_hotplug);
    qtest_add_func("/smmuv3-host/two-hosts", test_two_hosts);
    qtest_add_func("/smmuv3-host/queue", test_queue);
    for (unsigned shift = 12; shift <= 16; shift += 2) {
        g_autofree char *path = g_strdup_printf("/smmuv3-host/pages/%uK",
                                                1 << (shift - 10));

        qtest_add_data_func(path, GUINT_TO_POINTER(shift), test_pages);
    }
    qtest_add_func("/smmuv3-host/long-unmap", test_long_unmap);
    qtest_add_func("/smmuv3-host/level-2", test_level_2);
    qtest_add_func("/smmuv3-host/opcodes", test_opcodes);
    qtest_add_func("/smmuv3-host/ends", test_ends);
    qtest_add_func("/smmuv3-host/refused-command", test_blame);
    qtest_add_func("/smmuv3-host/refused-in-full-batch", test_blame_full);
    qtest_add_func("/smmuv3-host/order", test_order);
    qtest_add_data_func("/smmuv3-host/linear/trap", "1000", test_linear);
    qtest_add_data_func("/smmuv3-host/linear/slices", "1", test_linear);
    qtest_add_data_func("/smmuv3-host/linear/main-loop", "0", test_linear);
    qtest_add_func("/smmuv3-host/drain-pauses", test_drain_rests);
    qtest_add_func("/smmuv3-host/drain-room", test_drain_room);
    qtest_add_data_func("/smmuv3-host/drain-merged/host", NULL,
                        test_drain_merged);
    qtest_add_data_func("/smmuv3-host/drain-merged/own-caches", "cached",
                        test_drain_merged);
    qtest_add_func("/smmuv3-host/abort", test_abort);
    qtest_add_func("/smmuv3-host/bridge-msi", test_bridge_msi);
    qtest_add_data_func("/smmuv3-host/bridge-cache/translation", NULL,
                        test_bridge_cache);
    qtest_add_data_func("/smmuv3-host/bridge-cache/config", "config",
                        test_bridge_cache);
    qtest_add_func("/smmuv3-host/asid16", test_asid16);
    qtest_add_func("/smmuv3-host/narrow-host", test_narrow_host);
    qtest_add_func("/smmuv3-host/erratum", test_erratum);
    qtest_add_func("/smmuv3-host/scale-without-ds", test_scale_without_ds);
    qtest_add_func("/smmuv3-host/gapless", test_gapless);
    qtest_add_func("/smmuv3-host/gapless-kinds", test_gapless_kinds);
    return g_test_run();
}
