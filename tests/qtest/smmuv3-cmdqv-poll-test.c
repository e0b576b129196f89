/*
 * QTest of accel=on: a thread that watches the guest's own command queues
 *
 * While it watches, no write of PROD exits: page 0 of the VCMDQs is memory. The
 * machine's memory map says whether that is so. Commands must reach the host's
 * model either way, and nobody may notice a change.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "smmuv3-cmdqv.h"

#define INVALIDATE      "IOMMU_HWPT_INVALIDATE"

/*
 * The thread stays awake as long as any point lasts, or for a time in which a
 * busy machine still runs the test
 */
#define LONG            ",cmdqv=on,cmdqv-poll-us=10000000"
#define SHORT_US        300000
#define SHORT           ",cmdqv=on,cmdqv-poll-us=" stringify(SHORT_US)

/* So many writes of PROD wake it */
#define START_AFTER     64
#define START_AFTER_MAX 4096
#define WORTH           1024

static bool polled(CmdqvBed *bed)
{
    return host_has_region(bed->g, "arm-smmuv3-polled");
}

static void wait_until_idle(CmdqvBed *bed)
{
    for (int n = 0; polled(bed); n++) {
        g_assert_cmpint(n, <, 2000);
        g_usleep(1000);
    }
}

/* The thread sees what is written within this time, if it is not overtaken */
static void wait_a_little(void)
{
    g_usleep(20000);
}

static CmdqvBed *bed_new(const char *smmu_args)
{
    CmdqvBed *bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = smmu_args,
    });

    cmdqv_on(bed);
    g_assert_false(polled(bed));
    return bed;
}

/* Write PROD, without a new command */
static void ring(CmdqvBed *bed, unsigned n)
{
    for (; n; n--) {
        cmdqv_set_q(bed, n % N_QUEUES, PROD, bed->prod[n % N_QUEUES]);
    }
}

/* It may take more writes, and not before the last time has quite ended */
static void start(CmdqvBed *bed)
{
    for (int n = 0; !polled(bed); n++) {
        g_assert_cmpint(n, <, 1000);
        ring(bed, START_AFTER);
    }
}

static CmdqvBed *bed_new_polled(void)
{
    CmdqvBed *bed = bed_new(LONG);

    start(bed);
    return bed;
}

/* Both queues invalidate, @n times, and the host hears of it */
static void check_works(CmdqvBed *bed, unsigned n)
{
    uint64_t calls = host_counter(bed->g, "call." INVALIDATE);

    for (unsigned i = 1; i <= n; i++) {
        cmdqv_remap(bed, i % 3 % N_QUEUES, i % 4 < 2 ?
                    CMD_TLBI_NH_VA(1, HOST_VA, i & 1) : CMD_TLBI_NH_ASID(1),
                    i % 2);
    }
    g_assert_cmpuint(host_counter(bed->g, "call." INVALIDATE), >=, calls + n);
}

static void wait_for_cons(CmdqvBed *bed, unsigned q)
{
    cmdqv_wait_for_cons(bed, q, bed->prod[q]);
}

/*
 * When it starts, and when it stops
 */

static void test_start(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(LONG);
    /* One write too few, with those of cmdqv_on(); and to other registers */
    ring(bed, START_AFTER - N_QUEUES - 1);
    for (unsigned n = 0; n < START_AFTER; n++) {
        cmdqv_set_q(bed, 0, GERRORN, 0);
        cmdqv_set(bed->g, VINTF_INT_MASK, 0);
        cmdqv_set(bed->g, GLOBAL + PROD, bed->prod[0]);
    }
    g_assert_false(polled(bed));
    cmdqv_check_owner(bed, "qemu");
    ring(bed, 1);
    g_assert_true(polled(bed));
    check_works(bed, 80);
    cmdqv_check_owner(bed, "thread");
    g_assert_true(polled(bed));
    cmdqv_bed_free(bed);
}

/* Writes that are too far apart do not count */
static void test_gap(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(SHORT);
    for (unsigned n = 0; n < 2; n++) {
        ring(bed, START_AFTER - 1);
        g_usleep(SHORT_US * 5 / 4);
    }
    ring(bed, 1);
    g_assert_false(polled(bed));
    cmdqv_bed_free(bed);
}

/* Each time that was not worth it asks for twice as many writes */
static void test_idle(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(SHORT);
    for (unsigned n = START_AFTER; n <= 4 * START_AFTER; n *= 2) {
        g_usleep(SHORT_US * 5 / 4);
        ring(bed, n - 1);
        g_assert_false(polled(bed));
        ring(bed, 1);
        g_assert_true(polled(bed));
        check_works(bed, 3);
        wait_until_idle(bed);
        cmdqv_check_in_memory(bed);
        check_works(bed, 3);
    }
    cmdqv_bed_free(bed);
}

static void test_worth(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(SHORT);
    start(bed);
    wait_until_idle(bed);
    /* A busy computer may pause in between, and then it was not worth it */
    for (unsigned tries = 0; !polled(bed); tries++) {
        g_assert_cmpint(tries, <, 5);
        start(bed);
        /* Each write is a change, and each is waited for */
        for (unsigned n = 0; n < 2 * WORTH; n++) {
            cmdqv_run_ok(bed, n % N_QUEUES, CMD_TLBI_NH_ASID(7));
        }
        wait_until_idle(bed);
        wait_a_little();
        ring(bed, START_AFTER);
    }
    /* The present one is not, so that more writes come before the next */
    wait_until_idle(bed);
    wait_a_little();
    ring(bed, START_AFTER);
    g_assert_false(polled(bed));
    cmdqv_bed_free(bed);
}

/*
 * It is worth it less and less often, but there is a bound.  A busy computer
 * may pause between the writes, and then it takes more of them, so the bound is
 * seen in one of some rounds.
 */
static void test_bound(void)
{
    unsigned most = 0, least = UINT_MAX;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(SHORT);
    for (unsigned round = 0; round < 10; round++) {
        unsigned n;

        wait_until_idle(bed);
        wait_a_little();
        for (n = 0; !polled(bed); n += START_AFTER) {
            g_assert_cmpint(n, <, 1000 * START_AFTER);
            ring(bed, START_AFTER);
        }
        most = MAX(most, n);
        least = round < 7 ? UINT_MAX : MIN(least, n);
    }
    g_assert_cmpuint(most, >=, START_AFTER_MAX);
    g_assert_cmpuint(least, <=, START_AFTER_MAX + 2 * START_AFTER);
    cmdqv_bed_free(bed);
}

/* A write that exits ends it, whatever it does */
static void test_control(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(LONG);
    for (unsigned n = 0; n < CMDQV_WRITES; n++) {
        start(bed);
        check_works(bed, 2);
        /* A command that the thread may not have seen yet */
        cmdqv_put(bed, 1, CMD_TLBI_NH_ASID(9));
        cmdqv_put(bed, 1, CMD_SYNC);
        cmdqv_set_q(bed, 1, PROD, bed->prod[1]);
        cmdqv_set(bed->g, cmdqv_writes[n].offset, cmdqv_writes[n].value);
        g_assert_false(polled(bed));
        wait_for_cons(bed, 1);
        check_works(bed, 3);
    }
    cmdqv_bed_free(bed);
}

/*
 * What the guest reads and writes meanwhile
 */

/* Registers in other pages agree with what the guest has written to memory */
static void test_registers(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_polled();
    cmdqv_remap(bed, 1, CMD_TLBI_NH_ASID(1), 1);
    cmdqv_check_registers(bed);
    g_assert_true(polled(bed));
    cmdqv_bed_free(bed);
}

/* An error is reported and acknowledged without an exit */
static void test_illegal(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_polled();
    cmdqv_set_edge(bed);
    for (unsigned n = 0; n < 8; n++) {
        cmdqv_check_illegal(bed, n % N_QUEUES, n % 4 < 2 ? CMD_CFGI_ALL :
                            (HostCmd) { { ~0ull, ~0ull } });
        check_works(bed, 3);
    }
    g_assert_true(polled(bed));
    cmdqv_bed_free(bed);
}

/* A queue is disabled in memory, and enabled again elsewhere */
static void test_off(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_polled();
    cmdqv_queue_off(bed, 1);
    cmdqv_put(bed, 1, CMD_SYNC);
    cmdqv_set_q(bed, 1, PROD, bed->prod[1]);
    wait_a_little();
    g_assert_cmphex(cmdqv_q(bed, 1, CONS), !=, bed->prod[1]);
    bed->queue[1] = host_alloc(bed->g, 16 << LOG2);
    cmdqv_queue_on(bed, 1);
    check_works(bed, 4);
    cmdqv_bed_free(bed);
}

/* Each register of the page gets each value */
static void test_hostile(void)
{
    static const uint32_t values[] = {
        UINT32_MAX, 0, 1, 0x80000000, 0xfffff, 0x55555555,
    };
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(LONG);
    for (unsigned n = 0; n < ARRAY_SIZE(values); n++) {
        start(bed);
        for (uint32_t at = 0; at < 0x10000; at += at < 0x200 ? 4 : 0x3f0) {
            cmdqv_set(bed->g, LOGICAL + at, values[n]);
        }
        wait_a_little();
        qtest_qmp_assert_success(bed->g->qts, "{ 'execute': 'query-status' }");
        for (unsigned q = 0; q < N_QUEUES; q++) {
            cmdqv_queue_off(bed, q);
            cmdqv_set_q(bed, q, GERRORN, cmdqv_q(bed, q, GERROR));
            cmdqv_queue_on(bed, q);
        }
        check_works(bed, 3);
    }
    cmdqv_bed_free(bed);
}

/* PROD with all bits set, again and again: the thread is not busy for ever */
static void test_wild_prod(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(SHORT);
    start(bed);
    /* The queue halts, so the commands behind PROD do not matter */
    cmdqv_put(bed, 0, CMD_CFGI_ALL);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_ILL);
    cmdqv_set_q(bed, 0, PROD, UINT32_MAX);
    wait_until_idle(bed);
    g_assert_cmphex(cmdqv_q(bed, 0, PROD), ==, 0xfffff);
    cmdqv_queue_off(bed, 0);
    cmdqv_set_q(bed, 0, GERRORN, cmdqv_q(bed, 0, GERROR));
    cmdqv_queue_on(bed, 0);
    check_works(bed, 3);
    cmdqv_bed_free(bed);
}

/* CONS of a queue that is disabled is the guest's to write */
static void test_cons(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(LONG);
    check_works(bed, 5);
    cmdqv_queue_off(bed, 1);
    ring(bed, 2 * START_AFTER);
    g_assert_false(polled(bed));
    cmdqv_queue_on(bed, 1);
    check_works(bed, 3);
    start(bed);
    cmdqv_bed_free(bed);
}

/* A register elsewhere is read before the thread has seen PROD */
static void test_read(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_polled();
    for (unsigned n = 1; n <= 200; n++) {
        unsigned q = n % N_QUEUES;

        cmdqv_put(bed, q, CMD_TLBI_NH_ASID(7));
        cmdqv_put(bed, q, CMD_SYNC);
        cmdqv_set_q(bed, q, PROD, bed->prod[q]);
        g_assert_cmphex(cmdqv_get(bed->g, STATUS), ==, ENABLE);
        wait_for_cons(bed, q);
    }
    g_assert_true(polled(bed));
    cmdqv_bed_free(bed);
}

/*
 * What happens to the machine
 */

static void test_reset(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(LONG);
    for (unsigned n = 0; n < 3; n++) {
        start(bed);
        check_works(bed, 5);
        cmdqv_put(bed, 1, CMD_SYNC);
        cmdqv_set_q(bed, 1, PROD, bed->prod[1]);
        qtest_system_reset(bed->g->qts);
        bed->g->smmu[0].enabled = false;
        g_assert_false(polled(bed));
        for (uint32_t at = 0; at < 0x80; at += 4) {
            g_assert_cmphex(cmdqv_get(bed->g, GLOBAL + at), ==, 0);
            g_assert_cmphex(cmdqv_get(bed->g, LOGICAL + at), ==, 0);
        }
        /* What the thread has seen before does not come back */
        wait_a_little();
        g_assert_cmphex(cmdqv_get(bed->g, GLOBAL + 0x80 + PROD), ==, 0);
        cmdqv_bed_restart(bed);
        cmdqv_on(bed);
    }
    /* What was not worth it before the reset is forgotten */
    wait_a_little();
    ring(bed, START_AFTER);
    g_assert_true(polled(bed));
    cmdqv_bed_free(bed);
}

/* No thread watches while the machine is stopped */
static void test_stop(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_polled();
    check_works(bed, 5);
    qtest_qmp_assert_success(bed->g->qts, "{ 'execute': 'stop' }");
    g_assert_false(polled(bed));
    /* No drain publishes them while the machine is stopped */
    cmdqv_check_registers(bed);
    ring(bed, 4 * START_AFTER);
    g_assert_false(polled(bed));
    qtest_qmp_assert_success(bed->g->qts, "{ 'execute': 'cont' }");
    check_works(bed, 3);
    start(bed);
    cmdqv_bed_free(bed);
}

/* The host becomes slow */
static void test_slow(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_polled();
    cmdqv_make_slow(bed);
    cmdqv_control(bed, "zero");
    cmdqv_control(bed, "fail " INVALIDATE "~hold");
    qatomic_set(bed->pte, 0);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_put(bed, q, CMD_TLBI_NH_VA(1, HOST_VA, 1));
        cmdqv_put(bed, q, CMD_SYNC);
        cmdqv_set_q(bed, q, PROD, bed->prod[q]);
    }
    cmdqv_wait_until_held(bed);
    qtest_qmp_assert_success(bed->g->qts, "{ 'execute': 'query-status' }");
    g_assert_cmphex(cmdqv_q(bed, 1, CONS), !=, bed->prod[1]);
    cmdqv_control(bed, "fail clear");
    cmdqv_control(bed, "release");
    wait_for_cons(bed, 0);
    wait_for_cons(bed, 1);
    host_check_faults(bed->g, 0, HOST_VA);
    check_works(bed, 5);
    g_assert_true(polled(bed));
    cmdqv_bed_free(bed);
}

/* The host refuses a command */
static void test_host_error(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new_polled();
    cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(7));
    cmdqv_put(bed, 0, CMD_TLBI_NH_ASID(8));
    cmdqv_put(bed, 0, CMD_SYNC);
    /* The batch, and then the second command alone */
    cmdqv_control(bed, "fail " INVALIDATE ":1+1=EIO");
    cmdqv_control(bed, "fail " INVALIDATE ":3+1=EIO");
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_ILL);
    cmdqv_control(bed, "fail clear");
    cmdqv_skip_error(bed, 0);
    g_assert_cmpuint(cmdqv_run(bed, 0), ==, SMMU_CERROR_NONE);
    check_works(bed, 3);
    g_assert_true(polled(bed));
    cmdqv_bed_free(bed);
}

/* The last device goes and comes. Then the hardware gets the queues. */
static void test_plug(const void *opaque)
{
    const char *host = opaque;
    CmdqvBed *bed;
    char *error;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = LONG, .host = host,
    });
    host_guest_unplug(bed->g, 0);
    cmdqv_on(bed);
    for (unsigned n = 0; n < 3; n++) {
        start(bed);
        cmdqv_run_ok(bed, 1, CMD_TLBI_NH_ASID(1));
        error = host_guest_plug(bed->g, 0);
        g_assert_cmpstr(error, ==, NULL);
        host_setup_device(bed->g, 0);
        cmdqv_remap(bed, 0, CMD_TLBI_NH_ASID(1), n % 2);
        cmdqv_remap(bed, 1, CMD_TLBI_NH_VA(1, HOST_VA, 1), !(n % 2));
        g_assert_cmpint(polled(bed), ==, !host);
        /* It waits until no vCPU can write to the page any more */
        for (unsigned i = 0; host && !host_objects(bed->g, "hw_queue"); i++) {
            g_assert_cmpint(i, <, 2000);
            g_usleep(5000);
        }
        g_assert_cmpuint(host_objects(bed->g, "hw_queue"), ==,
                         host ? N_QUEUES : 0);
        cmdqv_remap(bed, 0, CMD_TLBI_NH_ASID(1), !(n % 2));
        cmdqv_remap(bed, 1, CMD_TLBI_NH_ASID(1), n % 2);
        host_guest_unplug(bed->g, 0);
        cmdqv_set(bed->g, VINTF_INT_MASK, 0);
        g_assert_false(polled(bed));
    }
    cmdqv_bed_free(bed);
}

/* The hardware will have the queues as soon as the guest goes on */
static void test_halted(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = LONG, .host = "cmdqv=1\n",
    });
    cmdqv_on(bed);
    cmdqv_put(bed, 1, CMD_CFGI_ALL);
    g_assert_cmpuint(cmdqv_run(bed, 1), ==, SMMU_CERROR_ILL);
    cmdqv_set(bed->g, VINTF_INT_MASK, 0);
    for (unsigned n = 0; n < 5; n++) {
        ring(bed, 2 * START_AFTER);
        g_assert_false(polled(bed));
        g_assert_cmpuint(host_objects(bed->g, "hw_queue"), ==, 0);
    }
    cmdqv_remap(bed, 0, CMD_TLBI_NH_ASID(1), 1);
    cmdqv_skip_error(bed, 1);
    g_assert_cmpuint(host_objects(bed->g, "hw_queue"), ==, N_QUEUES);
    cmdqv_remap(bed, 1, CMD_TLBI_NH_ASID(1), 0);
    cmdqv_bed_free(bed);
}

/* The host permits no thread: each write exits, and is carried out */
static void test_no_thread(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(SHORT);
    cmdqv_control(bed, "fail pthread_create:1+*=EAGAIN");
    for (unsigned n = 0; n < 3; n++) {
        ring(bed, START_AFTER);
        g_assert_false(polled(bed));
        check_works(bed, 3);
        /* The guest begins anew, and QEMU does not */
        g_usleep(SHORT_US + SHORT_US / 4);
    }
    g_assert_cmpuint(host_counter(bed->g, "call.pthread_create"), ==, 1);
    host_expect(bed->g, "the host permits no further thread: cmdqv-poll-us");
    cmdqv_bed_free(bed);
}

/* The guest cannot share memory with QEMU */
static void test_exits(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = 1, .smmu_args = LONG ",x-direct-registers=off",
    });
    cmdqv_on(bed);
    ring(bed, 2 * START_AFTER);
    check_works(bed, 3);
    host_expect(bed->g, "cmdqv-poll-us has no effect");
    cmdqv_bed_free(bed);
}

/* Each drain in the main loop */
static void test_main_loop(void)
{
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    bed = bed_new(LONG ",x-drain-us=0");
    start(bed);
    check_works(bed, 20);
    g_assert_true(polled(bed));
    cmdqv_bed_free(bed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3-cmdqv-poll/start", test_start);
    qtest_add_func("/smmuv3-cmdqv-poll/gap", test_gap);
    qtest_add_func("/smmuv3-cmdqv-poll/idle", test_idle);
    qtest_add_func("/smmuv3-cmdqv-poll/worth", test_worth);
    qtest_add_func("/smmuv3-cmdqv-poll/bound", test_bound);
    qtest_add_func("/smmuv3-cmdqv-poll/control", test_control);
    qtest_add_func("/smmuv3-cmdqv-poll/registers", test_registers);
    qtest_add_func("/smmuv3-cmdqv-poll/illegal", test_illegal);
    qtest_add_func("/smmuv3-cmdqv-poll/off", test_off);
    qtest_add_func("/smmuv3-cmdqv-poll/hostile", test_hostile);
    qtest_add_func("/smmuv3-cmdqv-poll/wild-prod", test_wild_prod);
    qtest_add_func("/smmuv3-cmdqv-poll/cons", test_cons);
    qtest_add_func("/smmuv3-cmdqv-poll/read", test_read);
    qtest_add_func("/smmuv3-cmdqv-poll/reset", test_reset);
    qtest_add_func("/smmuv3-cmdqv-poll/stop", test_stop);
    qtest_add_func("/smmuv3-cmdqv-poll/slow", test_slow);
    qtest_add_func("/smmuv3-cmdqv-poll/host-error", test_host_error);
    qtest_add_data_func("/smmuv3-cmdqv-poll/plug/software", NULL, test_plug);
    qtest_add_data_func("/smmuv3-cmdqv-poll/plug/hardware", "cmdqv=1\n",
                        test_plug);
    qtest_add_func("/smmuv3-cmdqv-poll/halted", test_halted);
    qtest_add_func("/smmuv3-cmdqv-poll/no-thread", test_no_thread);
    qtest_add_func("/smmuv3-cmdqv-poll/exits", test_exits);
    qtest_add_func("/smmuv3-cmdqv-poll/main-loop", test_main_loop);
    return g_test_run();
}
