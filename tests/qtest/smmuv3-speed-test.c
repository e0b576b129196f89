/*
 * QTest of accel=on: what a command costs
 *
 * Commands go through the queue of an SMMU to the host model, which counts the
 * calls: one per CMD_SYNC, however many commands precede it. With "-m perf"
 * the test also measures the time: with an SMMU that has devices, and with one
 * that has none and so makes no calls. All else is the same. Times are not
 * asserted.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/timer.h"
#include "smmuv3-host.h"

#define QUEUE_LOG2_PERF 13
#define QUEUE_LOG2      10
#define PERF_SECONDS    12

/* All devices are behind the first SMMU, none behind the second */
enum { LOADED, EMPTY };

static unsigned queue_log2(void)
{
    return g_test_perf() ? QUEUE_LOG2_PERF : QUEUE_LOG2;
}

static HostGuest *start(unsigned n_devs)
{
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = n_devs,
        /* The write to PROD, which is timed, does all of the work */
        .smmu_args = ",x-drain-us=100000000",
    };
    HostGuest *g;

    for (unsigned dev = 0; dev < n_devs; dev++) {
        config.dev[dev].devfn = 0x80 + dev;
    }
    g = host_guest_new(&config);
    for (int i = LOADED; i <= EMPTY; i++) {
        host_enable(g, i);
    }
    for (unsigned dev = 0; dev < n_devs; dev++) {
        uint64_t page = host_new_page(g, dev);

        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, 1 + dev, page)));
    }
    return g;
}

/* What commands of one kind cost in @g, with a CMD_SYNC after each @batch */
typedef struct Cost {
    const char *what;
    unsigned n;                 /* commands per CMD_SYNC, or devices */
    HostGuest *g;
    unsigned batch;
    uint64_t queue;             /* full */
    double ns[2];               /* per entry, by SMMU: the least so far */
} Cost;

/* Page by page, as the driver unmaps a buffer */
static HostCmd nth_tlbi(HostGuest *g, unsigned n)
{
    return CMD_TLBI_NH_VA(1, HOST_VA + n * 4096ull, 1);
}

/* Device by device */
static HostCmd nth_cfgi(HostGuest *g, unsigned n)
{
    return CMD_CFGI_CD_ALL(host_sid(g, n % g->config.n_devs));
}

static Cost cost_of(const char *what, unsigned n, HostGuest *g, unsigned batch,
                    HostCmd nth(HostGuest *g, unsigned n))
{
    uint64_t queue = host_alloc(g, 16ull << queue_log2());
    HostCmd *at = host_ram(g, queue);

    for (unsigned i = 0; i < 1u << queue_log2(); i++) {
        unsigned syncs = i / (batch + 1);

        at[i] = i % (batch + 1) == batch ? CMD_SYNC : nth(g, i - syncs);
    }
    return (Cost) {
        .what = what, .n = n, .g = g, .batch = batch, .queue = queue,
        .ns = { DBL_MAX, DBL_MAX },
    };
}

static uint64_t calls(HostGuest *g)
{
    return host_counter(g, "call.IOMMU_HWPT_INVALIDATE");
}

/* QEMU collects so many commands; then pages side by side become a range */
#define BATCH_MAX (4 * 63)

/* Of @n commands each one after @batch others is a CMD_SYNC */
static unsigned calls_for(unsigned n, unsigned batch)
{
    return n / (batch + 1) * DIV_ROUND_UP(batch, BATCH_MAX) +
           DIV_ROUND_UP(n % (batch + 1), BATCH_MAX);
}

/* SMMU @i executes the queue; without devices it makes no call */
static void carry_out(Cost *c, unsigned i)
{
    const unsigned n = (1u << queue_log2()) - 1;
    uint64_t before;
    int64_t begin, ns;

    smmu_use_cmdq(c->g, i, c->queue, queue_log2());
    before = calls(c->g);
    begin = get_clock();
    smmu_write(c->g, i, SMMU_CMDQ_PROD, n);
    ns = get_clock() - begin;
    c->ns[i] = MIN(c->ns[i], (double)ns / n);
    g_assert_cmphex(smmu_read(c->g, i, SMMU_CMDQ_CONS), ==, n);
    g_assert_cmphex(smmu_read(c->g, i, SMMU_GERROR), ==, 0);
    g_assert_cmpuint(calls(c->g) - before, ==,
                     i == LOADED ? calls_for(n, c->batch) : 0);
}

/*
 * Measure all in turn, over and over: other work of this computer, which may
 * last for seconds, then affects all alike. Each runs twice per turn, because
 * caches are cold at first.
 */
static void measure(Cost *costs, unsigned n)
{
    int64_t end = get_clock();

    if (g_test_perf()) {
        end += PERF_SECONDS * NANOSECONDS_PER_SECOND;
    }
    do {
        for (unsigned k = 0; k < n; k++) {
            for (unsigned i = 0; i < 4; i++) {
                carry_out(&costs[k], i / 2);
            }
        }
    } while (get_clock() < end);
    for (unsigned k = 0; k < n && g_test_perf(); k++) {
        g_test_message("perf: %s %u %.1f %.1f", costs[k].what, costs[k].n,
                       costs[k].ns[LOADED], costs[k].ns[EMPTY]);
    }
}

/* Cost by the number of commands before a CMD_SYNC */
static void test_batch(void)
{
    Cost costs[9];
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(1);
    for (unsigned k = 0; k < ARRAY_SIZE(costs); k++) {
        costs[k] = cost_of("batch", 1 << k, g, 1 << k, nth_tlbi);
    }
    measure(costs, ARRAY_SIZE(costs));
    host_finish(g);
}

/* Cost by the number of devices */
static void test_devices(void)
{
    HostGuest *g[7];
    Cost tlbi[7], cfgi[7];

    QEMU_BUILD_BUG_ON(1 << (ARRAY_SIZE(g) - 1) != HOST_MAX_DEVS);
    if (host_skipped()) {
        return;
    }
    for (unsigned k = 0; k < ARRAY_SIZE(g); k++) {
        g[k] = start(1 << k);
        tlbi[k] = cost_of("devices-tlbi", 1 << k, g[k], 64, nth_tlbi);
        cfgi[k] = cost_of("devices-cfgi", 1 << k, g[k], 1, nth_cfgi);
    }
    measure(tlbi, ARRAY_SIZE(tlbi));
    measure(cfgi, ARRAY_SIZE(cfgi));
    for (unsigned k = 0; k < ARRAY_SIZE(g); k++) {
        host_finish(g[k]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3-speed/batch", test_batch);
    qtest_add_func("/smmuv3-speed/devices", test_devices);
    return g_test_run();
}
