/*
 * QTest of accel=on: the place of the MSI doorbell (virt-msi-doorbell.c)
 *
 * The test plays VFIO in the guest, which maps the window of the host to the
 * guest's doorbell. Runs on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define FLASH_END       0x08000000ull
#define FRAME           0x10000ull
#define PIDR2           0xffe8u
#define GICV3           0x3bu           /* ArchRev 3 */
#define V2M_TYPER       0x8u
#define V2M_IIDR        0xfccu

/* Where each part of the GIC is; 0 for a part that the machine does not have */
typedef struct Places {
    uint64_t dist, its, v2m;
} Places;

static const Places usual = { 0x08000000, 0x08080000, 0 };
static const Places window = { 0x08080000, 0x07ff0000, 0 };
static const Places usual_v2 = { 0x08000000, 0, 0x08020000 };
static const Places window_v2 = { 0x08080000, 0, 0x08000000 };

static HostGuest *start(const char *args, unsigned n_vsmmus)
{
    HostGuestConfig config = {
        .n_vsmmus = n_vsmmus, .n_psmmus = n_vsmmus, .n_devs = n_vsmmus,
        .args = args,
    };

    for (unsigned i = 0; i < n_vsmmus; i++) {
        config.dev[i].vsmmu = config.dev[i].psmmu = i;
    }
    return host_guest_new(&config);
}

static uint64_t doorbell(const Places *p)
{
    return p->its ? p->its + FRAME : p->v2m;
}

/* The device tree, from which firmware learns it, is at the start of RAM */
static void check_node(HostGuest *g, const char *name, uint64_t base)
{
    g_autofree char *node = g_strdup_printf("%s@%" PRIx64, name, base);
    uint64_t reg = cpu_to_be64(base);
    uint8_t *at = memmem(g->ram, 1 * MiB, node, strlen(node) + 1);

    g_assert_nonnull(at);
    g_assert_nonnull(memmem(at, 512, &reg, sizeof(reg)));
    /* No other node has this name */
    node = (g_free(node), g_strdup_printf("%s@", name));
    g_assert_null(memmem(at + 1, g->ram + 1 * MiB - at - 1, node,
                         strlen(node)));
}

static void check_places(HostGuest *g, const Places *p)
{
    check_node(g, "intc", p->dist);
    if (p->its) {
        g_assert_cmphex(qtest_readl(g->qts, p->dist + PIDR2), ==, GICV3);
        g_assert_cmphex(qtest_readl(g->qts, p->its + PIDR2), ==, GICV3);
        check_node(g, "its", p->its);
    } else {
        /* ITLinesNumber of GICD_TYPER */
        g_assert_cmphex(qtest_readl(g->qts, p->dist + 4) & 0x1f, !=, 0);
        g_assert_cmphex(qtest_readl(g->qts, p->v2m + V2M_TYPER), !=, 0);
        g_assert_cmphex(qtest_readl(g->qts, p->v2m + V2M_IIDR), !=, 0);
        check_node(g, "v2m", p->v2m);
    }
    /* Erased flash is up to there, in both devices */
    g_assert_cmphex(qtest_readl(g->qts, FLASH_END - FRAME - 4), ==, 0);
    if (p->its != FLASH_END - FRAME) {
        g_assert_cmphex(qtest_readl(g->qts, FLASH_END - 4), ==, 0);
    }
}

/* VFIO in the guest maps its doorbell at the address of the window */
static void check_devices(HostGuest *g, const Places *p, bool arrives)
{
    for (unsigned dev = 0; dev < g->config.n_devs; dev++) {
        host_enable(g, dev);
        host_enable_msix(g, dev, HOST_MSI_WINDOW + 0x40);
        host_set_ste(g, dev, STE_S1(host_page_cd(g, dev + 1, HOST_MSI_WINDOW,
                                                 doorbell(p))));
        g_assert_cmpint(host_msi_arrives(g, dev), ==, arrives);
        /* Its own driver obeys the RMR */
        host_set_ste(g, dev, STE_S1(host_page_cd(g, dev + 10, HOST_MSI_WINDOW,
                                                 HOST_MSI_WINDOW)));
        g_assert_true(host_msi_arrives(g, dev));
    }
}

typedef struct Machine {
    const char *name;
    const char *args;
    const Places *places;
    bool arrives;
} Machine;

static const Machine machines[] = {
    { "its", NULL, &window, true },
    { "v2m", "-machine gic-version=2", &window_v2, true },
    { "off", "-machine msi-window=off", &usual, false },
    { "v2m-off", "-machine gic-version=2,msi-window=off", &usual_v2, false },
    { "old", "-machine type=virt-9.2", &usual, false },
    { "old-on", "-machine type=virt-9.2,msi-window=on", &window, true },
};

static void test_machine(const void *opaque)
{
    const Machine *m = opaque;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    /* Only the first of two SMMUs moves it */
    for (unsigned n = 1; n <= 2; n++) {
        g = start(m->args, n);
        g_assert_cmpint(qtest_qom_get_bool(g->qts, "/machine", "msi-window"),
                        ==, m->arrives);
        check_places(g, m->places);
        check_devices(g, m->places, m->arrives);
        qtest_system_reset(g->qts);
        check_places(g, m->places);
        host_guest_free(g);
    }
}

/* Without accel=on all stays where it was */
static void test_emulated(void)
{
    HostGuestConfig config = {
        .n_psmmus = 1, .no_smmu = true,
        .args = "-device arm-smmuv3,primary-bus=pcie.0",
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    check_places(g, &usual);
    host_guest_free(g);
}

/*
 * QEMU itself writes the message, since there is no KVM: to the doorbell, and
 * not to the address that the guest's driver has for it
 */
static void test_own_message(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start("-trace gicv3_its_translation_write", 1);
    host_enable(g, 0);
    host_enable_msix(g, 0, HOST_VA);
    host_set_ste(g, 0, STE_BYPASS);
    host_allow(g, "gicv3_its_translation_write");
    g_assert_true(host_msi_arrives(g, 0));
    for (int tries = 0; tries < 1000 &&
         !host_said(g, "gicv3_its_translation_write"); tries++) {
        g_usleep(1000);
    }
    g_assert_cmpuint(host_said(g, "gicv3_its_translation_write"), ==, 1);
    host_guest_free(g);
}

/* The same with a GICv2m, whose message has an SPI in it */
static void test_own_message_v2m(void)
{
    uint64_t pending;
    unsigned spi;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start("-machine gic-version=2", 1);
    spi = extract32(qtest_readl(g->qts, window_v2.v2m + V2M_TYPER), 16, 10) + 1;
    host_enable(g, 0);
    host_enable_msix_data(g, 0, HOST_VA, spi);
    host_set_ste(g, 0, STE_BYPASS);
    host_set_edge(g, spi);
    pending = window_v2.dist + 0x200 + spi / 32 * 4;
    g_assert_cmphex(qtest_readl(g->qts, pending) & 1u << spi % 32, ==, 0);
    g_assert_true(host_msi_arrives(g, 0));
    HOST_WAIT(qtest_readl(g->qts, pending) & 1u << spi % 32);
    host_guest_free(g);
}

/* Firmware passes the places on to a guest that reads ACPI */
static void test_acpi(const void *opaque)
{
    const Places *p = opaque;
    g_autofree char *args =
        g_strdup_printf("-machine gic-version=2,msi-window=%s -bios %s",
                        p == &window_v2 ? "on" : "off", smmuv3_firmware());
    g_autofree uint8_t *madt = NULL;
    unsigned found = 0;
    HostGuest *g;
    size_t len;

    if (host_skipped()) {
        return;
    }
    g = start(args, 1);
    madt = smmuv3_acpi_table(g->qts, "APIC", &len);
    g_assert_nonnull(madt);
    for (size_t at = 44; at < len; at += madt[at + 1]) {
        g_assert_cmpuint(madt[at + 1], >=, 8);
        if (madt[at] == 0x0c || madt[at] == 0x0d) {     /* GICD, MSI frame */
            g_assert_cmphex(ldq_le_p(madt + at + 8), ==,
                            madt[at] == 0x0c ? p->dist : p->v2m);
            found++;
        }
    }
    g_assert_cmpuint(found, ==, 2);
    host_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned n = 0; n < ARRAY_SIZE(machines); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-doorbell/%s",
                                                machines[n].name);

        qtest_add_data_func(path, &machines[n], test_machine);
    }
    qtest_add_func("/smmuv3-doorbell/emulated", test_emulated);
    qtest_add_func("/smmuv3-doorbell/own-message", test_own_message);
    qtest_add_func("/smmuv3-doorbell/own-message-v2m", test_own_message_v2m);
    qtest_add_data_func("/smmuv3-doorbell/acpi/v2m", &window_v2, test_acpi);
    qtest_add_data_func("/smmuv3-doorbell/acpi/v2m-off", &usual_v2, test_acpi);
    return g_test_run();
}
