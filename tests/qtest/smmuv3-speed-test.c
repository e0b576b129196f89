/*
 * QTest of accel=on: what a command costs
 *
 * Commands go through the queue of an SMMU to the host model, which counts the
 * calls: one for each CMD_SYNC, however many commands are before it.  With
 * "-m perf" it is also measured how long that takes: with an SMMU that has
 * devices, and with one that has none and so calls nobody, all else the same.
 * Nothing is asserted of time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/timer.h"
#include "smmuv3-host.h"

#define QUEUE_LOG2_PERF 13
#define QUEUE_LOG2      10
#define REPEAT          72

/* On the first SMMU are all devices, on the second is none */
enum { LOADED, EMPTY };

static unsigned queue_log2(void)
{
    return g_test_perf() ? QUEUE_LOG2_PERF : QUEUE_LOG2;
}

static HostGuest *start(unsigned n_devs)
{
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = n_devs,
        /* All within the write to PROD, which is what is timed */
        .smmu_args = ",x-drain-us=100000000",
    };
    HostGuest *g = host_guest_new(&config);

    for (int i = LOADED; i <= EMPTY; i++) {
        host_enable(g, i);
    }
    for (unsigned dev = 0; dev < n_devs; dev++) {
        uint64_t page = host_new_page(g, dev);

        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, 1 + dev, page)));
    }
    return g;
}

/* A queue of @cmd (each of another page or ASID), each @batch-th a CMD_SYNC */
static uint64_t fill(HostGuest *g, HostCmd cmd, unsigned batch)
{
    uint64_t queue = host_alloc(g, 16ull << queue_log2());
    HostCmd *at = host_ram(g, queue);

    for (unsigned n = 0; n < 1u << queue_log2(); n++) {
        at[n] = n % (batch + 1) == batch ? CMD_SYNC : cmd;
        if ((at[n].word[0] & 0xff) == 0x12) {
            at[n].word[1] |= (uint64_t)(n & 0xffff) << 12;
        }
    }
    return queue;
}

/* Has SMMU @i carry the queue out; returns ns a command, the best of several */
static double run(HostGuest *g, unsigned i, uint64_t queue)
{
    unsigned n = (1u << queue_log2()) - 1;
    int64_t best = INT64_MAX;

    for (int round = 0; round < (g_test_perf() ? REPEAT : 1); round++) {
        int64_t begin, ns;

        smmu_use_cmdq(g, i, queue, queue_log2());
        begin = get_clock();
        smmu_write(g, i, SMMU_CMDQ_PROD, n);
        ns = get_clock() - begin;
        best = MIN(best, ns);
        g_assert_cmphex(smmu_read(g, i, SMMU_CMDQ_CONS), ==, n);
        g_assert_cmphex(smmu_read(g, i, SMMU_GERROR), ==, 0);
    }
    return (double)best / n;
}

static uint64_t calls(HostGuest *g)
{
    return host_counter(g, "call.IOMMU_HWPT_INVALIDATE");
}

static void tell(const char *what, unsigned n, double loaded, double empty)
{
    if (g_test_perf()) {
        g_test_message("perf: %s %u %.1f %.1f", what, n, loaded, empty);
    }
}

/* By how many commands are before a CMD_SYNC */
static void test_batch(void)
{
    const unsigned total = (1u << queue_log2()) - 1;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(1);
    for (unsigned batch = 1; batch <= 256; batch *= 2) {
        uint64_t before = calls(g);
        uint64_t queue = fill(g, CMD_TLBI_NH_VA(1, HOST_VA, 1), batch);
        double loaded = run(g, LOADED, queue);

        if (!g_test_perf()) {
            g_assert_cmpuint(calls(g) - before, ==,
                             DIV_ROUND_UP(total, batch + 1));
            before = calls(g);
        }
        tell("batch", batch, loaded, run(g, EMPTY, queue));
        if (!g_test_perf()) {
            g_assert_cmpuint(calls(g), ==, before);
        }
    }
    host_finish(g);
}

/* By how many devices there are */
static void test_devices(void)
{
    if (host_skipped()) {
        return;
    }
    for (unsigned n = 1; n <= HOST_MAX_DEVS; n *= 2) {
        HostGuest *g = start(n);
        uint64_t tlbi = fill(g, CMD_TLBI_NH_VA(1, HOST_VA, 1), 64);
        uint64_t cfgi = fill(g, CMD_CFGI_CD_ALL(host_sid(g, n - 1)), 1);
        uint64_t before = calls(g);

        tell("devices-tlbi", n, run(g, LOADED, tlbi), run(g, EMPTY, tlbi));
        g_assert_cmpuint(calls(g), >, before);
        before = calls(g);
        tell("devices-cfgi", n, run(g, LOADED, cfgi), run(g, EMPTY, cfgi));
        g_assert_cmpuint(calls(g), >, before);
        host_finish(g);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3-speed/batch", test_batch);
    qtest_add_func("/smmuv3-speed/devices", test_devices);
    return g_test_run();
}
