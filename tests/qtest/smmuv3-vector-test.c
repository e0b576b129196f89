/*
 * QTest of accel=on: the MSI-X vectors of an assigned device
 *
 * All that PCI allows, vectors that are masked, and vectors that get another
 * message while they are masked. There is no KVM here, so QEMU itself delivers
 * each message to the guest's ITS. Runs on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define DELIVERED   "gicv3_its_translation_write"

typedef struct Vectors {
    HostGuest *g;
    unsigned n;
    uint64_t control;           /* of the MSI-X capability */
    uint64_t table, pba;
} Vectors;

static void find(Vectors *v)
{
    uint64_t config = host_device_config(v->g, 0);
    uint64_t cap = config + host_find_cap(v->g, config, PCI_CAP_ID_MSIX);

    v->control = cap + PCI_MSIX_FLAGS;
    g_assert_cmpuint((qtest_readw(v->g->qts, v->control) &
                      PCI_MSIX_FLAGS_QSIZE) + 1, ==, v->n);
    /* Both are in BAR 2, 64 KiB behind BAR 0 */
    v->table = v->g->dev[0].bar + 0x10000 +
               (qtest_readl(v->g->qts, cap + PCI_MSIX_TABLE) & ~7);
    v->pba = v->g->dev[0].bar + 0x10000 +
             (qtest_readl(v->g->qts, cap + PCI_MSIX_PBA) & ~7);
}

static Vectors start(unsigned n)
{
    g_autofree char *keys = g_strdup_printf("msix=%u", n);
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .dev = { { .keys = keys } },
        .args = "-trace " DELIVERED,
    };
    Vectors v = { .g = host_guest_new(&config), .n = n };

    host_allow(v.g, DELIVERED);
    find(&v);
    host_enable(v.g, 0);
    host_set_ste(v.g, 0, STE_BYPASS);
    return v;
}

static void set(Vectors *v, unsigned n, uint32_t data, bool masked)
{
    uint64_t at = v->table + n * PCI_MSIX_ENTRY_SIZE;

    qtest_writeq(v->g->qts, at + PCI_MSIX_ENTRY_LOWER_ADDR, HOST_VA);
    qtest_writel(v->g->qts, at + PCI_MSIX_ENTRY_DATA, data);
    qtest_writel(v->g->qts, at + PCI_MSIX_ENTRY_VECTOR_CTRL, masked);
}

static void mask(Vectors *v, unsigned n, bool masked)
{
    qtest_writel(v->g->qts, v->table + n * PCI_MSIX_ENTRY_SIZE +
                 PCI_MSIX_ENTRY_VECTOR_CTRL, masked);
}

static void enable(Vectors *v, unsigned flags)
{
    qtest_writew(v->g->qts, v->control, flags);
}

static void raise_vector(Vectors *v, unsigned n)
{
    qobject_unref(host_control(v->g, "msix dma0 %u", n));
}

static bool pending(Vectors *v, unsigned n)
{
    return qtest_readl(v->g->qts, v->pba + n / 32 * 4) & BIT(n % 32);
}

static void wait_for(Vectors *v, unsigned messages)
{
    for (int i = 0; host_said(v->g, DELIVERED) < messages; i++) {
        g_assert_cmpint(i, <, 10000);
        g_usleep(1000);
    }
    g_assert_cmpuint(host_said(v->g, DELIVERED), ==, messages);
}

/* How often the message @data has come */
static unsigned came(Vectors *v, uint32_t data)
{
    g_autofree char *part = g_strdup_printf(" data 0x%x size", data);
    g_autofree char *text = host_said_text(v->g);
    unsigned n = 0;

    for (char *at = text; (at = strstr(at, part)); at++) {
        n++;
    }
    return n;
}

/* @messages have come in all, and the last one of them is @data */
static void check_last(Vectors *v, unsigned messages, uint32_t data)
{
    g_autofree char *part = g_strdup_printf(" data 0x%x size", data);
    g_autofree char *text = NULL;
    char *last;

    wait_for(v, messages);
    text = host_said_text(v->g);
    last = g_strrstr(text, DELIVERED);
    g_assert_nonnull(last);
    if (!strstr(last, part)) {
        g_error("not 0x%x: %s", data, last);
    }
}

/* Each vector has a message of its own, and that arrives once */
static void test_many(const void *opaque)
{
    unsigned n = GPOINTER_TO_UINT(opaque);
    g_auto(GStrv) lines = NULL;
    g_autofree char *text = NULL;
    int64_t began;
    Vectors v;

    if (host_skipped()) {
        return;
    }
    v = start(n);
    for (unsigned i = 0; i < n; i++) {
        set(&v, i, 0x1000 + i, false);
    }
    for (unsigned round = 1; round <= 2; round++) {
        g_autofree unsigned *times = g_new0(unsigned, n);

        began = g_get_monotonic_time();
        enable(&v, PCI_MSIX_FLAGS_ENABLE);
        g_test_message("%u vectors enabled in %" PRId64 " us", n,
                       g_get_monotonic_time() - began);
        for (unsigned i = 0; i < n; i++) {
            raise_vector(&v, i);
        }
        wait_for(&v, round * n);
        g_free(text);
        text = host_said_text(v.g);
        for (char *at = text; (at = strstr(at, " data 0x1")); at++) {
            unsigned data = g_ascii_strtoull(at + strlen(" data "), NULL, 16);

            g_assert_cmpuint(data - 0x1000, <, n);
            times[data - 0x1000]++;
        }
        for (unsigned i = 0; i < n; i++) {
            g_assert_cmpuint(times[i], ==, round);
        }
        /* And again, as by a driver that is bound a second time */
        began = g_get_monotonic_time();
        enable(&v, 0);
        g_test_message("disabled in %" PRId64 " us",
                       g_get_monotonic_time() - began);
    }
    g_assert_cmpuint(host_counter(v.g, "msi.delivered"), ==, 2 * n);
    host_finish(v.g);
}

/* A vector that is masked waits; it delivers what it is told until then */
static void test_masked(void)
{
    Vectors v;

    if (host_skipped()) {
        return;
    }
    v = start(8);
    for (unsigned i = 0; i < 8; i++) {
        set(&v, i, 0x1000 + i, i == 5);
    }
    enable(&v, PCI_MSIX_FLAGS_ENABLE);
    raise_vector(&v, 2);
    check_last(&v, 1, 0x1002);

    mask(&v, 2, true);
    for (int i = 0; i < 3; i++) {
        raise_vector(&v, 2);
    }
    raise_vector(&v, 3);
    check_last(&v, 2, 0x1003);
    g_assert_true(pending(&v, 2));
    g_assert_false(pending(&v, 3));
    set(&v, 2, 0x2002, true);
    g_assert_true(pending(&v, 2));
    mask(&v, 2, false);
    check_last(&v, 3, 0x2002);
    g_assert_false(pending(&v, 2));
    raise_vector(&v, 2);
    check_last(&v, 4, 0x2002);

    /* Rewritten without an interrupt in between, many times */
    for (unsigned i = 0; i < 100; i++) {
        mask(&v, 4, true);
        set(&v, 4, 0x3000 + i, i % 2);
        mask(&v, 4, false);
        raise_vector(&v, 4);
        check_last(&v, 5 + i, 0x3000 + i);
    }

    /* One that is masked from the start, and the mask of all */
    set(&v, 5, 0x4005, false);
    raise_vector(&v, 5);
    check_last(&v, 105, 0x4005);
    enable(&v, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    raise_vector(&v, 6);
    raise_vector(&v, 7);
    set(&v, 7, 0x4007, false);
    for (int i = 0; !pending(&v, 6) || !pending(&v, 7); i++) {
        g_assert_cmpint(i, <, 10000);
        g_usleep(1000);
    }
    wait_for(&v, 105);
    enable(&v, PCI_MSIX_FLAGS_ENABLE);
    wait_for(&v, 107);
    g_assert_cmpuint(came(&v, 0x1006), ==, 1);
    g_assert_cmpuint(came(&v, 0x4007), ==, 1);
    host_finish(v.g);
}

/*
 * A reset of the bus or the machine forgets vectors, and the next driver has
 * its own. An FLR does not, because the host restores them.
 */
static void test_reset(void)
{
    Vectors v;

    if (host_skipped()) {
        return;
    }
    v = start(8);
    for (unsigned way = 0; way < 3; way++) {
        uint64_t lost = host_counter(v.g, "msi.off");

        set(&v, 1, 0x5000 + way, false);
        enable(&v, PCI_MSIX_FLAGS_ENABLE);
        raise_vector(&v, 1);
        check_last(&v, way ? 2 + way : 1, 0x5000 + way);
        if (way == 0) {
            host_flr(v.g, 0);
            mask(&v, 1, true);
            raise_vector(&v, 1);
            mask(&v, 1, false);
            check_last(&v, 2, 0x5000);
            enable(&v, 0);
        } else if (way == 1) {
            host_bus_reset(v.g, 0);
        } else {
            qtest_system_reset(v.g->qts);
            host_setup_port(v.g, 0);
            host_setup_device(v.g, 0);
        }
        g_assert_false(qtest_readw(v.g->qts, v.control) &
                       PCI_MSIX_FLAGS_ENABLE);
        raise_vector(&v, 1);
        g_assert_cmpuint(host_counter(v.g, "msi.off"), ==, lost + 1);
        wait_for(&v, 2 + way);
    }
    host_finish(v.g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_data_func("/smmuv3-vector/many/64", GUINT_TO_POINTER(64),
                        test_many);
    qtest_add_data_func("/smmuv3-vector/many/2048", GUINT_TO_POINTER(2048),
                        test_many);
    qtest_add_func("/smmuv3-vector/masked", test_masked);
    qtest_add_func("/smmuv3-vector/reset", test_reset);
    return g_test_run();
}
