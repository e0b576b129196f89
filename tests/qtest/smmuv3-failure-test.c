/*
 * QTest of accel=on: every call to the host fails once, with every errno
 *
 * A scenario (plug, configure, translate, invalidate, unplug) runs once to
 * count its calls to the host model. Then it runs once per call that can fail
 * and per plausible errno. QEMU must go on. Meanwhile the guest may get a
 * fault, but never the memory of another device. After the failure everything
 * works again, and nothing is left behind.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/units.h"
#include "qemu/bswap.h"
#include "smmuv3-host.h"

#define N_DEVS  2
#define VA      0x1000000000ull

/* Kinds of calls (tests/host-model/README.md) and how they fail */
typedef struct Kind {
    const char *name;
    const char *errnos[5];
    /* The host keeps an object that could not be freed until its fd closes */
    bool keeps_objects;
    /*
     * Besides a single failure, this many calls fail in a row: QEMU tries
     * again, or tries another call
     */
    unsigned in_a_row[4];
    const char *said[4];                /* what QEMU must write about it */
} Kind;

static const Kind kinds[] = {
    { "open./dev/iommu", { "EACCES", "ENOENT", "EMFILE" } },
    { "IOMMU_IOAS_ALLOC", { "ENOMEM" } },
    { "IOMMU_IOAS_MAP", { "ENOMEM", "EFAULT" } },
    { "IOMMU_IOAS_IOVA_RANGES", { "EINVAL" },
      .said = { "Cannot get IOVA ranges", "Fallback to default" } },
    { "IOMMU_HWPT_ALLOC", { "ENOMEM", "EINVAL", "EOPNOTSUPP", "EIO" }, false,
      { 3 }, { SAID_CANNOT_MOVE } },
    { "IOMMU_VIOMMU_ALLOC", { "ENOMEM", "EOPNOTSUPP", "ENOTTY" } },
    { "IOMMU_VDEVICE_ALLOC", { "ENOMEM", "EEXIST", "EOPNOTSUPP" }, false,
      { 3 }, { SAID_CANNOT_MOVE } },
    { "IOMMU_HWPT_INVALIDATE", { "EIO", "ETIMEDOUT", "ENOMEM", "ECANCELED" },
      false, { 2, 3, 4, 5 }, { SAID_CANNOT_MOVE, SAID_TAKES_NONE } },
    { "IOMMU_GET_HW_INFO", { "ENOMEM", "EOPNOTSUPP" } },
    { "IOMMU_VEVENTQ_ALLOC", { "ENOMEM", "ENOTTY", "EEXIST" },
      .said = { SAID_NO_EVENTS } },
    { "veventq.read", { "EIO", "EAGAIN", "ENOMEM" },
      .said = { SAID_NO_EVENTS } },
    { "IOMMU_DESTROY", { "EBUSY" }, true, .said = { "Failed to free id" } },
    { "VFIO_DEVICE_BIND_IOMMUFD", { "EINVAL", "ENODEV" } },
    { "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { "EBUSY", "EINVAL", "ENOMEM",
                                         "ENOENT" }, false, { 3 },
      { SAID_CANNOT_MOVE } },
    { "VFIO_DEVICE_DETACH_IOMMUFD_PT", { "ENODEV" }, true,
      .said = { "detach VFIO_FD", "Failed to free id" } },
    { "VFIO_DEVICE_GET_INFO", { "ENODEV" } },
    { "VFIO_DEVICE_GET_REGION_INFO", { "EINVAL" } },
    { "VFIO_DEVICE_GET_IRQ_INFO", { "EINVAL" } },
    { "VFIO_DEVICE_SET_IRQS", { "EINVAL", "ENOMEM" },
      .said = { "VFIO_DEVICE_SET_IRQS failure" } },
    { "VFIO_DEVICE_FEATURE", { "EINVAL" } },
    { "VFIO_DEVICE_RESET", { "EAGAIN", "ENODEV" } },
    { "smmu.sync", { "ETIMEDOUT" } },
};

typedef struct Fixture {
    HostGuest *g;
    uint64_t page[N_DEVS], cd[N_DEVS], pte[N_DEVS];
    uint64_t other_cd;                  /* of device 0 */
    char *what;
} Fixture;

static Fixture *fixture_new(void)
{
    static const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = N_DEVS,
        .dev = { { .hotplug = true }, { .hotplug = true } },
        .no_iommufd = true,
    };
    Fixture *f = g_new0(Fixture, 1);

    f->g = host_guest_new(&config);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        uint64_t root = host_alloc(f->g, 4096);
        uint64_t *pte = host_pte(f->g, root, 12, 25, VA, 3, true);

        f->page[dev] = host_alloc(f->g, 4096);
        *(uint64_t *)host_ram(f->g, f->page[dev]) = 0xd0 + dev;
        f->cd[dev] = host_alloc(f->g, 64);
        f->pte[dev] = (uint8_t *)pte - f->g->ram + HOST_RAM_BASE;
        host_write_cd(f->g, f->cd[dev], &(HostCd) {
            .asid = 1 + dev, .ttb = { root }, .txsz = { 25 },
            .granule_shift = 12,
        });
    }
    f->other_cd = host_alloc(f->g, 64);
    memcpy(host_ram(f->g, f->other_cd), host_ram(f->g, f->cd[0]), 64);
    return f;
}

static void fixture_free(Fixture *f)
{
    host_guest_free(f->g);
    g_free(f->what);
    g_free(f);
}

static void set_pte(Fixture *f, unsigned dev, bool valid)
{
    qatomic_set((uint64_t *)host_ram(f->g, f->pte[dev]),
                cpu_to_le64(valid ? host_leaf(3, f->page[dev], PTE_DATA) : 0));
}

/* CMD_SYNC; if the queue stops, the guest recovers as Linux's driver does */
static bool cmd_sync(Fixture *f)
{
    unsigned error = smmu_sync(f->g, 0);

    if (error) {
        g_assert_cmpuint(error, >=, SMMU_CERROR_ILL);
        g_assert_cmpuint(error, <=, SMMU_CERROR_ATC);
        smmu_ack(f->g, 0);
    }
    return !error;
}

static void set_ste(Fixture *f, unsigned dev, uint64_t word0)
{
    HostGuest *g = f->g;

    qatomic_set(smmu_ste(g, 0, host_sid(g, dev)), cpu_to_le64(word0));
    smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, dev)));
    cmd_sync(f);
}

/*
 * A device reads at VA. Whatever failed, it must read only its own memory, and
 * nothing after an unmap that has completed.
 */
static bool reads(Fixture *f, unsigned dev, bool may)
{
    uint64_t got = 0;
    bool ok = f->g->dev[dev].present &&
              host_dma_read64(f->g, dev, VA, &got);

    if (ok && (!may || got != 0xd0 + dev)) {
        g_error("%s: device %u read 0x%" PRIx64 "%s", f->what, dev, got,
                may ? "" : " where nothing is mapped");
    }
    return ok;
}

/* A device that was put on abort must not read any more, whatever failed */
static void stops(Fixture *f, unsigned dev)
{
    uint64_t got;

    if (f->g->dev[dev].present && host_dma_read64(f->g, dev, VA, &got)) {
        g_error("%s: device %u still reads, but must abort", f->what, dev);
    }
}

static void plug(Fixture *f, unsigned dev)
{
    g_free(host_guest_plug(f->g, dev));
}

/* The new StreamID of the device already has the same STE */
static bool renumber(Fixture *f, unsigned dev, int by)
{
    HostGuest *g = f->g;
    bool well;

    if (!g->dev[dev].present) {
        return false;
    }
    host_set_bus(g, dev, g->dev[dev].bus + by);
    set_ste(f, dev, STE_S1(f->cd[dev]));
    host_set_bus(g, dev, g->dev[dev].bus - by);
    well = cmd_sync(f);
    host_set_bus(g, dev, g->dev[dev].bus + by);
    well &= cmd_sync(f);
    return reads(f, dev, true) && well;
}

static bool enable(Fixture *f)
{
    smmu_enable(f->g, 0);
    smmu_cmd(f->g, 0, CMD_CFGI_ALL);
    smmu_cmd(f->g, 0, CMD_TLBI_NSNH_ALL);
    return cmd_sync(f);
}

/*
 * After a machine reset the devices are there again, and use no tables
 */
static bool machine_reset(Fixture *f)
{
    HostGuest *g = f->g;

    qtest_system_reset(g->qts);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        host_setup_port(g, dev);
        if (g->dev[dev].present) {
            host_setup_device(g, dev);
        }
        reads(f, dev, false);
    }
    return enable(f);
}

/* The whole life of a device; returns true if all of it worked */
static bool scenario(Fixture *f)
{
    HostGuest *g = f->g;
    bool well = true, unmapped;

    well &= enable(f);
    set_pte(f, 0, true);
    set_pte(f, 1, true);

    plug(f, 0);
    set_ste(f, 0, STE_S1(f->cd[0]));
    well &= reads(f, 0, true);
    plug(f, 1);
    set_ste(f, 1, STE_S1(f->cd[1]));
    well &= reads(f, 1, true);

    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        set_pte(f, dev, false);
        smmu_cmd(g, 0, CMD_TLBI_NH_VA(1 + dev, VA, 1));
        smmu_cmd(g, 0, CMD_TLBI_NH_VA(1 + dev, VA + 4096, 1));
        /* If CMD_SYNC failed, the guest may still expect the old translation */
        unmapped = cmd_sync(f);
        well &= unmapped;
        if (unmapped) {
            reads(f, dev, false);
        }
        set_pte(f, dev, true);
        well &= reads(f, dev, true);
    }
    /* Move to another CD of the same contents: another nested HWPT */
    set_ste(f, 0, STE_S1(f->other_cd));
    well &= reads(f, 0, true);
    set_ste(f, 0, STE_ABORT);
    stops(f, 0);
    set_ste(f, 0, STE_S1(f->cd[0]));
    well &= reads(f, 0, true);
    smmu_cmd(g, 0, CMD_CFGI_CD(host_sid(g, 0), 0));
    well &= cmd_sync(f);
    smmu_disable(g, 0);
    smmu_enable(g, 0);
    well &= reads(f, 1, true);
    if (g->dev[1].present) {
        host_flr(g, 1);
        well &= reads(f, 1, true);
        host_bus_reset(g, 1);
        well &= reads(f, 1, true);
    }
    well &= renumber(f, 0, 8);
    well &= renumber(f, 0, -8);
    for (int on = 0; on < 2; on++) {
        smmu_write(g, 0, SMMU_CR0, 1 | on << 2 | 1 << 3);
        well &= host_objects(g, "veventq") == on;
        well &= reads(f, 0, true);
    }
    well &= machine_reset(f);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        well &= reads(f, dev, true);
    }
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        if (g->dev[dev].present) {
            host_guest_unplug(g, dev);
        }
    }
    smmu_disable(g, 0);
    return well;
}

/* Run the scenario without a failure; returns the counters by kind */
static QDict *count_calls(Fixture *f)
{
    QDict *counters;

    qobject_unref(host_control(f->g, "zero"));
    g_assert_true(host_add_iommufd(f->g));
    g_assert_true(scenario(f));
    counters = host_control(f->g, "counters");
    host_check_freed(f->g, f->what, false);
    return counters;
}

/* Returns how many calls failed */
static unsigned inject(Fixture *f, const Kind *kind, uint64_t n, unsigned row,
                       const char *error)
{
    unsigned injected;

    g_free(f->what);
    f->what = g_strdup_printf("%s number %" PRIu64 " (%u in a row) fails with "
                              "%s", kind->name, n, row, error);
    qobject_unref(host_control(f->g, "zero"));
    g_assert_true(host_add_iommufd(f->g));
    qobject_unref(host_control(f->g, "fail %s:%" PRIu64 "+%u=%s", kind->name,
                               n, row, error));
    scenario(f);
    injected = host_counter(f->g, "injected");
    qobject_unref(host_control(f->g, "fail clear"));
    g_assert_cmpuint(host_counter(f->g, "smmu.stale"), ==, 0);
    host_check_freed(f->g, f->what, kind->keeps_objects);

    /* afterwards everything works again */
    qobject_unref(host_control(f->g, "zero"));
    g_assert_true(host_add_iommufd(f->g));
    if (!scenario(f)) {
        g_error("%s: does not work afterwards", f->what);
    }
    host_check_freed(f->g, f->what, false);
    return injected;
}

static void test_kind(const void *opaque)
{
    const Kind *kind = opaque;
    g_autofree char *counter = g_strconcat("call.", kind->name, NULL);
    unsigned injected = 0;
    uint64_t calls;
    QDict *counters;
    Fixture *f;

    if (!host_model_available()) {
        g_test_skip("QTEST_HOST_MODEL does not name the host model");
        return;
    }
    f = fixture_new();
    for (int i = 0; i < ARRAY_SIZE(kind->said) && kind->said[i]; i++) {
        host_expect(f->g, kind->said[i]);
    }
    f->what = g_strdup("without a failure");
    counters = count_calls(f);
    calls = qdict_get_try_int(counters, counter, 0);
    qobject_unref(counters);
    /* A kind that the scenario never calls tests nothing */
    g_assert_cmpuint(calls, >, 0);

    for (const char *const *e = kind->errnos; *e; e++) {
        for (uint64_t n = 1; n <= calls; n++) {
            injected += inject(f, kind, n, 1, *e);
            for (int i = 0; i < ARRAY_SIZE(kind->in_a_row) &&
                            kind->in_a_row[i]; i++) {
                injected += inject(f, kind, n, kind->in_a_row[i], *e);
            }
        }
    }
    g_test_message("%u failures of %" PRIu64 " calls", injected, calls);
    g_assert_cmpuint(injected, >=, calls);
    fixture_free(f);
}

/*
 * Plug and unplug while calls fail. QEMU refuses the device, or has a whole one
 */

static const Kind plug_kinds[] = {
    { "vfio.read", { "EIO", "ENODEV" } },
    { "vfio.write", { "EIO", "ENODEV" } },
    { "VFIO_DEVICE_GET_REGION_INFO", { "EINVAL", "ENODEV" } },
    { "VFIO_DEVICE_GET_IRQ_INFO", { "EINVAL", "ENODEV" } },
};

/*
 * Returns the error by which QEMU refuses the device, or NULL. What is left is
 * checked, and that the device can be plugged afterwards.
 */
static char *plug_failing(Fixture *f, const char *rule)
{
    char *error;

    g_free(f->what);
    f->what = g_strdup_printf("plugged with %s", rule);
    g_assert_true(host_add_iommufd(f->g));
    qobject_unref(host_control(f->g, "fail %s", rule));
    error = host_guest_plug(f->g, 0);
    if (!error) {
        host_guest_unplug(f->g, 0);
    }
    qobject_unref(host_control(f->g, "fail clear"));
    host_check_freed(f->g, f->what, false);

    g_assert_true(host_add_iommufd(f->g));
    g_assert_null(host_guest_plug(f->g, 0));
    set_ste(f, 0, STE_S1(f->cd[0]));
    g_assert_true(reads(f, 0, true));
    host_guest_unplug(f->g, 0);
    host_check_freed(f->g, f->what, false);
    return error;
}

static Fixture *plug_fixture_new(void)
{
    Fixture *f = fixture_new();

    /* What QEMU cannot read or write while it is used or reset */
    host_allow(f->g, "vfio");
    set_pte(f, 0, true);
    g_assert_true(enable(f));
    return f;
}

/* The calls of one kind in a life of a device that nothing fails */
static uint64_t plug_calls(Fixture *f, const char *kind)
{
    g_autofree char *counter = g_strconcat("call.", kind, NULL);
    uint64_t calls;

    g_assert_true(host_add_iommufd(f->g));
    qobject_unref(host_control(f->g, "zero"));
    g_assert_null(host_guest_plug(f->g, 0));
    host_guest_unplug(f->g, 0);
    calls = host_counter(f->g, counter);
    host_check_freed(f->g, f->what, false);
    g_assert_cmpuint(calls, >, 0);
    return calls;
}

static const char *reason(const char *name)
{
    return g_strerror(g_str_equal(name, "EIO") ? EIO :
                      g_str_equal(name, "EINVAL") ? EINVAL : ENODEV);
}

/* One call fails, or all from that one on: the device is gone */
static void test_plug(const void *opaque)
{
    const Kind *kind = opaque;
    unsigned refused = 0, bars = 0;
    uint64_t calls;
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    f = plug_fixture_new();
    calls = plug_calls(f, kind->name);
    for (const char *const *e = kind->errnos; *e; e++) {
        for (uint64_t n = 1; n <= calls; n++) {
            for (int all = 0; all < 2; all++) {
                g_autofree char *rule = g_strdup_printf(
                    "%s:%" PRIu64 "%s=%s", kind->name, n, all ? "+*" : "", *e);
                g_autofree char *error = plug_failing(f, rule);

                if (!error) {
                    continue;
                }
                g_test_message("%s: %s", rule, error);
                refused++;
                bars |= strstr(error, "BAR 0:") ? 1 << 0 : 0;
                bars |= strstr(error, "BAR 2:") ? 1 << 2 : 0;
                g_assert_true(g_str_has_prefix(error, "vfio VFIO_FD"));
                g_assert_true(strstr(error, reason(*e)) ||
                              strstr(error, "PCI_INTERRUPT_PIN"));
            }
        }
    }
    g_test_message("refused %u times, of %" PRIu64 " calls", refused, calls);
    /* QEMU needs all that it reads of a BAR, and nothing that it writes */
    g_assert_cmpint(refused > 0, ==, !g_str_equal(kind->name, "vfio.write"));
    g_assert_cmphex(bars, ==, g_str_equal(kind->name, "vfio.read") ? 5 : 0);
    fixture_free(f);
}

/* The same for a device of the command line: QEMU does not start */
static void test_cold_plug(void)
{
    unsigned refused = 0;
    uint64_t calls;
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    f = plug_fixture_new();
    calls = plug_calls(f, "vfio.read");
    for (uint64_t n = 1; n <= calls; n++) {
        g_autofree char *rule = g_strdup_printf("vfio.read:%" PRIu64 "=EIO", n);
        g_autofree char *hot = plug_failing(f, rule);
        HostGuestConfig config = {
            .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .fail = rule,
        };
        g_autofree char *cold = NULL;

        if (hot) {
            cold = host_guest_refused(&config);
            g_assert_nonnull(strstr(cold, "vfio VFIO_FD100: "));
            /* After the device's name both say the same */
            g_assert_nonnull(strstr(cold, strstr(hot, ": ")));
            refused++;
        }
    }
    g_assert_cmpuint(refused, >, 0);
    fixture_free(f);
}

/* A device that is gone answers a guest with all ones */
static void test_dead_config(void)
{
    uint64_t config;
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    f = plug_fixture_new();
    g_assert_true(host_add_iommufd(f->g));
    g_assert_null(host_guest_plug(f->g, 0));
    config = host_device_config(f->g, 0);
    g_assert_cmphex(qtest_readl(f->g->qts, config), !=, UINT32_MAX);
    qobject_unref(host_control(f->g, "fail vfio.read:1+*=EIO"));
    g_assert_cmphex(qtest_readl(f->g->qts, config), ==, UINT32_MAX);
    g_assert_cmphex(qtest_readw(f->g->qts, config), ==, UINT16_MAX);
    g_assert_cmphex(qtest_readb(f->g->qts, config + 1), ==, UINT8_MAX);
    host_guest_unplug(f->g, 0);
    qobject_unref(host_control(f->g, "fail clear"));
    host_check_freed(f->g, f->what, false);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int n = 0; n < ARRAY_SIZE(kinds); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-failure/%s",
                                                kinds[n].name);

        qtest_add_data_func(path, &kinds[n], test_kind);
    }
    for (int n = 0; n < ARRAY_SIZE(plug_kinds); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-failure/plug/%s",
                                                plug_kinds[n].name);

        qtest_add_data_func(path, &plug_kinds[n], test_plug);
    }
    qtest_add_func("/smmuv3-failure/plug/cold", test_cold_plug);
    qtest_add_func("/smmuv3-failure/plug/dead-config", test_dead_config);
    return g_test_run();
}
