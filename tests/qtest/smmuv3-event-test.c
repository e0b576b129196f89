/*
 * QTest of accel=on: events and errors, and how the guest gets them
 *
 * Events of the physical SMMUv3, events that QEMU records, overflow of the
 * event queue, and command errors. Runs on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "smmuv3-host.h"

#define EVENTQ_SLOTS    (1u << HOST_EVENTQ_LOG2)

/*
 * QEMU reads the host's events in its main loop, which also answers qtest. A
 * few rounds give it the time.
 */
static bool next_event(HostGuest *g, unsigned i, uint64_t event[4])
{
    for (int n = 0; n < 100; n++) {
        if (smmu_event(g, i, event)) {
            return true;
        }
        g_usleep(n * 100);
    }
    return false;
}

static void expect_event(HostGuest *g, unsigned i, unsigned type, uint32_t sid)
{
    uint64_t event[4];

    g_assert_true(next_event(g, i, event));
    g_assert_cmphex(event[0] & 0xff, ==, type);
    g_assert_cmphex(event[0] >> 32, ==, sid);
}

static void expect_no_event(HostGuest *g, unsigned i)
{
    uint64_t event[4];

    g_usleep(5 * 1000);
    if (smmu_event(g, i, event)) {
        g_error("unexpected event 0x%" PRIx64 " 0x%" PRIx64, event[0],
                event[1]);
    }
}

/* Take all events; returns whether some were lost */
static bool drop_events(HostGuest *g, unsigned i)
{
    uint64_t event[4];

    while (next_event(g, i, event)) {
        /* the next */
    }
    return smmu_event_overflow(g, i);
}

/* One device that translates HOST_VA, and no events */
static HostGuest *translating_with(unsigned eventq_log2, const char *keys)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .eventq_log2 = eventq_log2,
        .device = keys,
    };
    HostGuest *g = host_guest_new(&config);

    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    host_check_reads(g, 0, HOST_VA, 1);
    expect_no_event(g, 0);
    return g;
}

static HostGuest *translating(void)
{
    return translating_with(HOST_EVENTQ_LOG2, NULL);
}

static void raise_events(HostGuest *g, unsigned dev, unsigned type,
                         uint64_t word1, unsigned n)
{
    QDict *rsp = host_control(g, "event dma%u 0x%x 0x%" PRIx64
                              " 0x123456789abcd000 0xfedcba9876543 %u", dev,
                              type, word1, n);

    g_assert_cmpint(qdict_get_int(rsp, "ret"), ==, 0);
    qobject_unref(rsp);
}

/* A transaction to an unmapped address: address, direction, StreamID */
static void test_fault(void)
{
    uint64_t event[4];
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    for (int write = 0; write < 2; write++) {
        uint64_t iova = HOST_VA + 0x123000 + write * 0x1000, value;

        g_assert_false(write ? host_dma_write64(g, 0, iova, 1)
                             : host_dma_read64(g, 0, iova, &value));
        g_assert_true(next_event(g, 0, event));
        g_assert_cmphex(event[0] & 0xff, ==, F_TRANSLATION);
        g_assert_cmphex(event[0] >> 32, ==, host_sid(g, 0));
        g_assert_cmphex(event[2], ==, iova);
        g_assert_cmpuint(extract64(event[1], 35, 1), ==, !write);
    }
    expect_no_event(g, 0);
    g_assert_false(smmu_event_overflow(g, 0));
    host_finish(g);
}

/* A SubstreamID where the guest's stream has none */
static void test_substream(void)
{
    static const uint32_t pasids[] = { 0, 1, 0xfffff };
    uint64_t event[4], value;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating_with(HOST_EVENTQ_LOG2, "pasid=20");
    for (unsigned i = 0; i < ARRAY_SIZE(pasids); i++) {
        host_dma_as(g, 0, pasids[i], 0);
        g_assert_false(host_dma_read64(g, 0, HOST_VA, &value));
        g_assert_true(next_event(g, 0, event));
        g_assert_cmphex(event[0], ==, C_BAD_SUBSTREAMID | 1 << 11 |
                        (uint64_t)pasids[i] << 12 |
                        (uint64_t)host_sid(g, 0) << 32);
    }
    host_dma_as(g, 0, HOST_NO_PASID, HOST_DMA_ATC);
    host_check_reads(g, 0, HOST_VA, 1);
    g_assert_cmphex(host_ats_request(g, 0, HOST_VA, false), ==, HOST_ATS_NONE);
    g_assert_false(host_ats_read64(g, 0, HOST_VA, &value));
    g_assert_cmpuint(host_atc_entries(g, 0), ==, 0);
    expect_no_event(g, 0);
    host_finish(g);
}

/* Every type that the host forwards, with all of its fields */
static void test_types(void)
{
    static const unsigned types[] = {
        0x04, 0x06, 0x08, 0x0a, 0x10, 0x11, 0x12, 0x13,
    };
    /* All but S2 and STALL, which the host does not forward */
    const uint64_t word1 = 0x1234567ffull << 32 >> 32 | 0x7bull << 32;
    uint64_t event[4];
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    for (int n = 0; n < ARRAY_SIZE(types); n++) {
        raise_events(g, 0, types[n], word1 & ~(BIT_ULL(31) | BIT_ULL(39)), 1);
        g_assert_true(next_event(g, 0, event));
        g_assert_cmphex(event[0], ==,
                        types[n] | (uint64_t)host_sid(g, 0) << 32);
        g_assert_cmphex(event[1], ==, word1 & ~(BIT_ULL(31) | BIT_ULL(39)));
        g_assert_cmphex(event[2], ==, 0x123456789abcd000);
        g_assert_cmphex(event[3], ==, 0xfedcba9876543);
    }
    expect_no_event(g, 0);
    host_finish(g);
}

static void drain_queue(HostGuest *g, unsigned want)
{
    uint64_t event[4];
    unsigned n;

    for (n = 0; next_event(g, 0, event); n++) {
        g_assert_cmphex(event[0] & 0xff, ==, F_TRANSLATION);
    }
    g_assert_cmpuint(n, ==, want);
}

/*
 * While the guest's queue is full, and events wait in the host, QEMU does not
 * look at them again and again.
 */
static void test_full(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    raise_events(g, 0, F_TRANSLATION, 0, EVENTQ_SLOTS + 10);
    for (int n = 0; smmu_read(g, 0, SMMU_EVENTQ_PROD) != EVENTQ_SLOTS; n++) {
        g_assert_cmpint(n, <, 10000);
        g_usleep(1000);
    }
    host_check_rests(g);
    drain_queue(g, EVENTQ_SLOTS + 10);
    g_assert_false(smmu_event_overflow(g, 0));
    host_finish(g);
}

/*
 * Events that do not fit into the full queue wait in the host, which has room
 * for 4096. More events are an overflow, which is no global error.
 */
static void test_overflow(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    raise_events(g, 0, F_TRANSLATION, 0, EVENTQ_SLOTS + 1000);
    g_usleep(20 * 1000);
    g_assert_false(smmu_event_overflow(g, 0));
    drain_queue(g, EVENTQ_SLOTS + 1000);
    g_assert_false(smmu_event_overflow(g, 0));

    raise_events(g, 0, F_TRANSLATION, 0, EVENTQ_SLOTS);
    g_usleep(20 * 1000);
    raise_events(g, 0, F_TRANSLATION, 0, 4096);
    g_assert_false(smmu_event_overflow(g, 0));
    raise_events(g, 0, F_TRANSLATION, 0, 10);
    drain_queue(g, EVENTQ_SLOTS + 4096);
    g_assert_true(smmu_event_overflow(g, 0));
    g_assert_false(smmu_event_overflow(g, 0));

    /* The queue has room again, and events arrive */
    raise_events(g, 0, C_BAD_STE, 0, 3);
    for (int n = 0; n < 3; n++) {
        expect_event(g, 0, C_BAD_STE, host_sid(g, 0));
    }
    expect_no_event(g, 0);
    g_assert_false(smmu_event_overflow(g, 0));

    /* QEMU does not keep its own events: a full queue loses them */
    raise_events(g, 0, F_TRANSLATION, 0, EVENTQ_SLOTS);
    g_usleep(20 * 1000);
    g_assert_false(smmu_event_overflow(g, 0));
    host_set_ste(g, 0, STE_V | 6ull << 1);
    g_assert_true(smmu_event_overflow(g, 0));
    drain_queue(g, EVENTQ_SLOTS);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR), ==,
                    smmu_read(g, 0, SMMU_GERRORN));
    host_finish(g);
}

/*
 * While the machine is stopped its memory may be saved or sent elsewhere. The
 * host keeps its events until the machine runs again.
 */
static void test_stopped(void)
{
    const uint64_t *record;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    record = host_ram(g, g->smmu[0].eventq);
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    for (unsigned n = 0; n < 3; n++) {
        raise_events(g, 0, F_TRANSLATION, 0, EVENTQ_SLOTS);
        qtest_qmp_assert_success(g->qts, "{'execute': 'query-status'}");
        g_usleep(20 * 1000);
        g_assert_cmphex(qatomic_read(record), ==, 0);
        g_assert_cmphex(smmu_read(g, 0, SMMU_EVENTQ_PROD), ==, 0);
    }
    qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
    drain_queue(g, 3 * EVENTQ_SLOTS);
    g_assert_false(smmu_event_overflow(g, 0));

    /* A queue that is full, or that has nothing to report, stays as it is */
    raise_events(g, 0, F_TRANSLATION, 0, EVENTQ_SLOTS + 10);
    g_usleep(20 * 1000);
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
    drain_queue(g, EVENTQ_SLOTS + 10);
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
    expect_no_event(g, 0);
    raise_events(g, 0, C_BAD_STE, 0, 1);
    expect_event(g, 0, C_BAD_STE, host_sid(g, 0));
    host_finish(g);
}

/* Invalid queue indexes cost the guest its events, and nothing else */
static void test_nonsense(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    smmu_write(g, 0, SMMU_EVENTQ_CONS, 5);
    raise_events(g, 0, F_TRANSLATION, 0, 1000);
    g_usleep(20 * 1000);
    g_assert_cmphex(smmu_read(g, 0, SMMU_EVENTQ_PROD), ==, 0);
    smmu_write(g, 0, SMMU_EVENTQ_CONS, 0);
    drain_queue(g, 1000);

    /* A queue outside of memory stops nothing else either */
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 3);
    smmu_write64(g, 0, SMMU_EVENTQ_BASE, 0xfff000000000ull | HOST_EVENTQ_LOG2);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    raise_events(g, 0, F_TRANSLATION, 0, 10);
    for (int n = 0; n < 100 && smmu_read(g, 0, SMMU_GERROR) ==
                               smmu_read(g, 0, SMMU_GERRORN); n++) {
        g_usleep(1000);
    }
    /* EVENTQ_ABT_ERR */
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR) ^
                    smmu_read(g, 0, SMMU_GERRORN), ==, 4);
    smmu_cmd(g, 0, CMD_TLBI_NSNH_ALL);
    smmu_sync_ok(g, 0);
    host_check_reads(g, 0, HOST_VA, 1);
    host_finish(g);
}

static uint64_t resident_bytes(HostGuest *g)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status",
                                            qtest_pid(g->qts));
    g_autofree char *text = NULL;
    const char *line;
    uint64_t kib;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "VmRSS:");
    g_assert_nonnull(line);
    kib = g_ascii_strtoull(line + strlen("VmRSS:"), NULL, 10);
    g_assert_cmpuint(kib, >, 0);
    return kib * KiB;
}

/*
 * A million events at once, while the guest takes none: the machine still
 * answers, QEMU's memory does not grow, and the guest sees that events were
 * lost.
 */
static void test_storm(void)
{
    uint64_t before;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    raise_events(g, 0, F_TRANSLATION, 0, 10 * 1000);
    g_assert_true(drop_events(g, 0));
    before = resident_bytes(g);
    raise_events(g, 0, F_TRANSLATION, 0, 1000 * 1000);
    for (int i = 0; i < 1000; i++) {
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        smmu_sync_ok(g, 0);
    }
    host_check_reads(g, 0, HOST_VA, 1);
    /* A MiB is 27,000 events; sanitizers keep freed memory for a while */
    g_assert_cmpuint(resident_bytes(g), <, before + 8 * MiB);
    g_assert_true(drop_events(g, 0));
    raise_events(g, 0, C_BAD_STE, 0, 1);
    expect_event(g, 0, C_BAD_STE, host_sid(g, 0));
    host_finish(g);
}

/*
 * A million events while the guest takes events and waits for CMD_SYNCs. It
 * misses only the events that the host lost.
 *
 * Each read of the host's events takes QEMU 4 ms, so that there are always
 * more. The guest's queue has room for all that arrive. So the guest waits
 * only for the reads that QEMU makes before it answers. One turn of the guest
 * is ten register accesses, in the time of about 16 reads.
 */
static void test_storm_taken(void)
{
    const unsigned n = 1000 * 1000, log2 = 15, reads_a_turn = 64;
    g_autofree uint64_t (*events)[4] = g_malloc(sizeof(*events) << log2);
    unsigned taken = 0, missing = 0, turns = 0, idle = 0, got;
    uint64_t before, next = 0, raised, lost;
    bool overflow = false;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating_with(log2, NULL);
    before = resident_bytes(g);
    qobject_unref(host_control(g, "fail veventq.read:1+*~4000"));
    qobject_unref(host_control(g, "storm dma0 0x%x 0 0 0 %u", F_TRANSLATION,
                               n));
    do {
        raised = host_counter(g, "storm.raised");
        lost = host_counter(g, "event.lost");
        got = smmu_events(g, 0, events, 1u << log2);
        for (unsigned i = 0; i < got; i++) {
            g_assert_cmphex(events[i][0], ==,
                            F_TRANSLATION | (uint64_t)host_sid(g, 0) << 32);
            /* In order, and none twice */
            g_assert_cmpuint(events[i][2], >=, next);
            missing += events[i][2] - next;
            next = events[i][2] + 1;
        }
        taken += got;
        /* Turns before the first event do not count */
        turns += got > 0;
        idle = got ? 0 : idle + 1;
        overflow |= smmu_event_overflow(g, 0);
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        smmu_sync_ok(g, 0);
    } while (idle < 1000 && (raised < n || taken + lost < n));
    g_test_message("%u events in %u turns", taken, turns);
    qobject_unref(host_control(g, "fail clear"));
    expect_no_event(g, 0);
    overflow |= smmu_event_overflow(g, 0);
    missing += n - next;
    g_assert_cmpuint(taken + missing, ==, n);
    g_assert_cmpuint(lost, ==, missing);
    /* The guest's queue was never full (IHI 0070 7.4) */
    g_assert_false(overflow);
    g_assert_cmpuint(taken, <, turns * reads_a_turn * 64);
    /* As above; and the events taken, some 30,000, were in the host's queue */
    g_assert_cmpuint(resident_bytes(g), <, before + 8 * MiB + taken * 256ull);
    host_check_reads(g, 0, HOST_VA, 1);
    host_finish(g);
}

static const HostGuestConfig two_slots = {
    .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2,
    .dev = { { .hotplug = true }, { .hotplug = true } },
};

/* A storm during changes of EVENTQEN, plug, unplug and machine reset */
static void test_storm_churn(void)
{
    const unsigned n = 1000 * 1000;
    uint64_t events[EVENTQ_SLOTS][4], cd;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&two_slots);
    cd = host_one_page_cd(g, 1, host_new_page(g, 1));
    host_enable(g, 0);
    g_assert_null(host_guest_plug(g, 0));
    qobject_unref(host_control(g, "storm dma0 0x%x 0 0 0 %u", F_TRANSLATION,
                               n));
    for (int turn = 0; host_counter(g, "storm.raised") < n; turn++) {
        smmu_events(g, 0, events, EVENTQ_SLOTS);
        smmu_event_overflow(g, 0);
        switch (turn % 6) {
        case 0:
        case 1:
            smmu_write(g, 0, SMMU_CR0, 1 | (turn % 6) << 2 | 1 << 3);
            break;
        case 2:
            g_assert_null(host_guest_plug(g, 1));
            break;
        case 3:
            host_guest_unplug(g, turn & 1);
            host_guest_unplug(g, !(turn & 1));
            break;
        case 4:
            g_assert_null(host_guest_plug(g, 0));
            break;
        case 5:
            qtest_system_reset(g->qts);
            g_assert_cmpuint(host_objects(g, "veventq"), ==, 0);
            host_setup_port(g, 0);
            host_setup_port(g, 1);
            host_setup_device(g, 0);
            host_enable(g, 0);
            break;
        }
        /* There is a vEVENTQ only with EVENTQEN and a device */
        g_assert_cmpuint(host_objects(g, "veventq"), ==, turn % 3 > 0);
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        smmu_sync_ok(g, 0);
    }
    if (!g->dev[0].present) {
        g_assert_null(host_guest_plug(g, 0));
    }
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    host_set_ste(g, 0, STE_S1(cd));
    host_check_reads(g, 0, HOST_VA, 1);
    drop_events(g, 0);
    raise_events(g, 0, C_BAD_STE, 0, 1);
    expect_event(g, 0, C_BAD_STE, host_sid(g, 0));
    host_finish(g);
}

/* The host has a vEVENTQ while the guest has an event queue, and no longer */
static void test_enable(void)
{
    uint64_t page;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&two_slots);
    page = host_new_page(g, 2);
    host_enable(g, 0);
    /* No device, no vIOMMU */
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 0);
    g_assert_null(host_guest_plug(g, 0));
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);
    g_assert_null(host_guest_plug(g, 1));
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);

    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, page)));
    drop_events(g, 0);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 3);     /* all but EVENTQEN */
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 0);
    host_check_faults(g, 0, HOST_VA + 0x1000);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);
    expect_no_event(g, 0);
    host_check_faults(g, 0, HOST_VA + 0x1000);
    expect_event(g, 0, F_TRANSLATION, host_sid(g, 0));
    expect_event(g, 0, F_TRANSLATION, host_sid(g, 0));

    /* Unread events block nothing */
    raise_events(g, 0, F_TRANSLATION, 0, 2 * EVENTQ_SLOTS);
    host_guest_unplug(g, 1);
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);
    host_guest_unplug(g, 0);
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 0);
    g_assert_cmpuint(host_objects(g, "viommu"), ==, 0);

    /* The last device waits for a host that frees the vEVENTQ late */
    *smmu_ste(g, 0, host_sid(g, 0)) = cpu_to_le64(STE_BYPASS);
    g_assert_null(host_guest_plug(g, 0));
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);
    qobject_unref(host_control(g, "fail IOMMU_DESTROY:1+5=EBUSY"));
    host_guest_unplug(g, 0);
    qobject_unref(host_control(g, "fail clear"));
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 0);
    g_assert_cmpuint(host_objects(g, "viommu"), ==, 0);

    g_assert_null(host_guest_plug(g, 0));
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);
    qtest_system_reset(g->qts);
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 0);
    host_finish(g);
}

/*
 * Linux does not free a vEVENTQ (EBUSY) while another thread polls it, and has
 * one at a time. The guest waits for neither, and gets events again when the
 * host has freed the old one.
 */
static void test_slow_free(void)
{
    uint64_t allocs;
    int64_t start;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    for (int turn = 0; turn < 2; turn++) {
        allocs = host_counter(g, "call.IOMMU_VEVENTQ_ALLOC");
        qobject_unref(host_control(g, "fail IOMMU_DESTROY:1+*=EBUSY"));
        start = g_get_monotonic_time();
        smmu_write(g, 0, SMMU_CR0, 1 | 1 << 3);
        if (turn) {
            smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
        }
        g_assert_cmpint(g_get_monotonic_time() - start, <, 80 * 1000);
        g_usleep(200 * 1000);
        g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);
        g_assert_cmpuint(host_counter(g, "call.IOMMU_VEVENTQ_ALLOC"), ==,
                         allocs);
        qobject_unref(host_control(g, "fail clear"));
        /* With EVENTQEN=1 another one comes, else the old one goes */
        for (int n = 0; n < 200; n++) {
            if (turn == 1 ? host_counter(g, "call.IOMMU_VEVENTQ_ALLOC") > allocs
                          : !host_objects(g, "veventq")) {
                break;
            }
            g_usleep(10 * 1000);
        }
        g_assert_cmpuint(host_objects(g, "veventq"), ==, turn == 1);
        g_assert_cmpuint(host_counter(g, "call.IOMMU_VEVENTQ_ALLOC"), ==,
                         allocs + (turn == 1));
        smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
        g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);
        raise_events(g, 0, C_BAD_STE, 0, 1);
        expect_event(g, 0, C_BAD_STE, host_sid(g, 0));
    }
    /* A short wait follows a long one */
    start = g_get_monotonic_time();
    for (int i = 0; i < 2 * HOST_WAIT_S; i++) {
        qobject_unref(host_control(g, "zero"));
        /* When it goes and when the next one comes, but not much later */
        qobject_unref(host_control(g, "fail IOMMU_DESTROY:1+4=EBUSY"));
        smmu_write(g, 0, SMMU_CR0, 1 | 1 << 3);
        smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
        HOST_WAIT(host_counter(g, "call.IOMMU_VEVENTQ_ALLOC"));
    }
    /* Else it would be a second for each */
    g_assert_cmpint(g_get_monotonic_time() - start, <,
                    HOST_WAIT_S * G_TIME_SPAN_SECOND);
    host_finish(g);
}

/* STEs that the host never gets: one event per CFGI, and none for V=0 */
static void test_bad_stes(void)
{
    HostGuest *g;
    uint64_t *ste;
    uint32_t sid;

    if (host_skipped()) {
        return;
    }
    g = translating();
    sid = host_sid(g, 0);
    host_set_ste(g, 0, 0);
    host_set_ste(g, 0, STE_ABORT);
    host_set_ste(g, 0, STE_BYPASS);
    expect_no_event(g, 0);

    host_set_ste(g, 0, STE_V | 6ull << 1);
    expect_event(g, 0, C_BAD_STE, sid);
    host_set_ste(g, 0, STE_V | 6ull << 1);
    expect_event(g, 0, C_BAD_STE, sid);
    host_set_ste(g, 0, STE_V | 7ull << 1);
    expect_event(g, 0, C_BAD_STE, sid);
    ste = smmu_ste(g, 0, sid);
    ste[1] = cpu_to_le64(1ull << 27);   /* S1STALLD */
    host_set_ste(g, 0, STE_V | 5ull << 1);
    expect_event(g, 0, C_BAD_STE, sid);
    host_check_faults(g, 0, HOST_VA);
    expect_no_event(g, 0);

    /* Beyond the table, and a table outside of memory; the queue goes on */
    smmu_disable(g, 0);
    smmu_write(g, 0, SMMU_CR2, 0);
    smmu_write(g, 0, SMMU_STRTAB_CFG, 4);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    smmu_cmd(g, 0, CMD_CFGI_STE(sid));
    smmu_sync_ok(g, 0);
    host_check_faults(g, 0, HOST_VA);
    expect_no_event(g, 0);
    smmu_disable(g, 0);
    smmu_write(g, 0, SMMU_CR2, SMMU_CR2_RECINVSID);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    expect_no_event(g, 0);
    smmu_cmd(g, 0, CMD_CFGI_STE(sid));
    smmu_sync_ok(g, 0);
    expect_event(g, 0, C_BAD_STREAMID, sid);
    smmu_disable(g, 0);
    smmu_write(g, 0, SMMU_STRTAB_CFG, HOST_SID_BITS);
    smmu_write64(g, 0, SMMU_STRTAB_BASE, 0xfff000000000ull);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    expect_event(g, 0, F_STE_FETCH, sid);
    expect_no_event(g, 0);
    host_finish(g);
}

/* An illegal command: the queue stops at it until the guest acknowledges */
static void test_illegal(void)
{
    HostGuest *g;
    uint64_t page;
    unsigned at;

    if (host_skipped()) {
        return;
    }
    g = translating();
    page = host_new_page(g, 3);
    for (int round = 0; round < 3; round++) {
        at = g->smmu[0].prod + 2;
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        smmu_cmd(g, 0, CMD_CFGI_CD(host_sid(g, 0), 0));
        smmu_cmd(g, 0, round ? HOST_CMD(0xff, 0)
                             : HOST_CMD(0x40, 0));     /* ATC_INV, no ATS */
        smmu_cmd(g, 0, CMD_TLBI_NSNH_ALL);
        g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
        g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS) & 0xfffff, ==,
                        at & ((2u << HOST_CMDQ_LOG2) - 1));
        g_assert_cmphex((smmu_read(g, 0, SMMU_GERROR) ^
                         smmu_read(g, 0, SMMU_GERRORN)) & SMMU_GERROR_CMDQ,
                        ==, SMMU_GERROR_CMDQ);
        smmu_ack(g, 0);
        host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, page)));
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        smmu_sync_ok(g, 0);
        host_check_reads(g, 0, HOST_VA, 3);
    }
    host_finish(g);
}

/* A queue outside of memory: CERROR_ABT, and a new queue works */
static void test_abort(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2);
    smmu_write64(g, 0, SMMU_CMDQ_BASE, 0xfff000000000ull | HOST_CMDQ_LOG2);
    smmu_write(g, 0, SMMU_CMDQ_PROD, 0);
    smmu_write(g, 0, SMMU_CMDQ_CONS, 0);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    smmu_write(g, 0, SMMU_CMDQ_PROD, 1);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), ==,
                    SMMU_CERROR_ABT << 24);
    /* Registers and translation still work */
    host_check_reads(g, 0, HOST_VA, 1);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2);
    smmu_write(g, 0, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR));
    smmu_write(g, 0, SMMU_CR0, 0);
    host_enable(g, 0);
    host_set_ste(g, 0, STE_ABORT);
    host_check_faults(g, 0, HOST_VA);
    host_finish(g);
}

/*
 * If a table or a queue lies in a device's registers, QEMU does not access
 * them, because an access could do anything. The device here is the flash,
 * which takes writes as commands.
 */
static void test_registers(void)
{
    const uint64_t flash = 0x04000000;
    uint32_t before, gerror;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    before = qtest_readl(g->qts, flash);

    smmu_disable(g, 0);
    smmu_write64(g, 0, SMMU_STRTAB_BASE, flash);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    expect_event(g, 0, F_STE_FETCH, host_sid(g, 0));
    host_check_faults(g, 0, HOST_VA);
    /* The first level of a table */
    smmu_disable(g, 0);
    smmu_write(g, 0, SMMU_STRTAB_CFG, 1 << 16 | 8 << 6 | HOST_SID_BITS);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    expect_event(g, 0, F_STE_FETCH, host_sid(g, 0));
    host_check_faults(g, 0, HOST_VA);

    /* The event about it cannot be written */
    smmu_write(g, 0, SMMU_CR0, 1 << 3);
    smmu_write64(g, 0, SMMU_EVENTQ_BASE, flash | HOST_EVENTQ_LOG2);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    gerror = smmu_read(g, 0, SMMU_GERROR);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR), ==,
                    gerror ^ SMMU_GERROR_EVENTQ);
    g_assert_cmphex(qtest_readl(g->qts, flash), ==, before);
    smmu_write(g, 0, SMMU_GERRORN, gerror ^ SMMU_GERROR_EVENTQ);

    smmu_write(g, 0, SMMU_CR0, 0);
    smmu_write64(g, 0, SMMU_CMDQ_BASE, flash | HOST_CMDQ_LOG2);
    smmu_write(g, 0, SMMU_CMDQ_PROD, 0);
    smmu_write(g, 0, SMMU_CMDQ_CONS, 0);
    smmu_write(g, 0, SMMU_CR0, 1 << 3);
    smmu_write(g, 0, SMMU_CMDQ_PROD, 2);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), ==,
                    SMMU_CERROR_ABT << 24);
    smmu_write(g, 0, SMMU_CR0, 0);
    smmu_write(g, 0, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR));
    host_finish(g);
}

static void wait_for(HostGuest *g, uint64_t gpa, uint32_t want)
{
    uint32_t got = 0;

    for (int n = 0; n < 1000; n++) {
        got = le32_to_cpu(qatomic_read((uint32_t *)host_ram(g, gpa)));
        if (got == want) {
            return;
        }
        g_usleep(1000);
    }
    g_error("0x%x was not written; memory has 0x%x", want, got);
}

/* MSIs instead of reads and wired interrupts, each after the work is done */
static void test_msi(void)
{
    const unsigned irqs = 1 << 0 | 1 << 2;      /* GERROR, EVENTQ */
    uint64_t page, done, event, gerror;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    g_assert_cmphex(smmu_read(g, 0, SMMU_IDR0) & 1 << 13, !=, 0);
    page = host_new_page(g, 9);
    done = host_alloc(g, 4096);
    event = done + 8;
    gerror = done + 16;

    /* Any address, any data */
    smmu_cmd(g, 0, CMD_SYNC_MSI(done, 0x12345678));
    smmu_sync_ok(g, 0);
    wait_for(g, done, 0x12345678);
    /* The address of its own slot, around the queue; the STE moves before it */
    for (unsigned n = 0; n < 3u << HOST_CMDQ_LOG2; n++) {
        uint64_t cd = n % 64 ? 0 : host_one_page_cd(g, 1, page);

        if (cd) {
            *smmu_ste(g, 0, host_sid(g, 0)) = cpu_to_le64(STE_S1(cd));
            smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, 0)));
            smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        }
        smmu_sync_msi(g, 0);
        if (cd) {
            host_check_reads(g, 0, HOST_VA, 9);
        }
    }

    smmu_write64(g, 0, SMMU_EVENTQ_IRQ_CFG, event);
    smmu_write(g, 0, SMMU_EVENTQ_IRQ_CFG + 8, 0xe7e7);
    smmu_write64(g, 0, SMMU_GERROR_IRQ_CFG, gerror);
    smmu_write(g, 0, SMMU_GERROR_IRQ_CFG + 8, 0x6e6e);
    g_assert_cmphex(smmu_read(g, 0, SMMU_EVENTQ_IRQ_CFG), ==, event);
    g_assert_cmphex(smmu_read(g, 0, SMMU_EVENTQ_IRQ_CFG + 8), ==, 0xe7e7);
    raise_events(g, 0, F_TRANSLATION, 0, 1);
    expect_event(g, 0, F_TRANSLATION, host_sid(g, 0));
    g_assert_cmphex(*(uint32_t *)host_ram(g, event), ==, 0);  /* not enabled */
    smmu_write(g, 0, SMMU_IRQ_CTRL, irqs);
    raise_events(g, 0, F_TRANSLATION, 0, 1);
    wait_for(g, event, 0xe7e7);
    expect_event(g, 0, F_TRANSLATION, host_sid(g, 0));
    smmu_cmd(g, 0, HOST_CMD(0xff, 0));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
    wait_for(g, gerror, 0x6e6e);
    smmu_ack(g, 0);

    /* No memory there: the CMD_SYNC still completes, and GERROR reports it */
    smmu_cmd(g, 0, CMD_SYNC_MSI(0xfff000000000ull, 1));
    smmu_sync_ok(g, 0);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR) ^
                    smmu_read(g, 0, SMMU_GERRORN), ==, 1 << 4);
    smmu_write(g, 0, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR));
    smmu_write(g, 0, SMMU_IRQ_CTRL, 0);
    smmu_write64(g, 0, SMMU_EVENTQ_IRQ_CFG, 0xfff000000000ull);
    smmu_write(g, 0, SMMU_IRQ_CTRL, irqs);
    raise_events(g, 0, F_TRANSLATION, 0, 1);
    expect_event(g, 0, F_TRANSLATION, host_sid(g, 0));
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR) ^
                    smmu_read(g, 0, SMMU_GERRORN), ==, 1 << 5);
    host_finish(g);
}

/*
 * Signals
 */

/* The interrupts of the SMMU on pcie.0 */
#define GSIV_EVENTQ     144
#define GSIV_SYNC       146
#define GSIV_GERROR     147

static void set_edges(HostGuest *g)
{
    for (int gsiv = GSIV_EVENTQ; gsiv <= GSIV_GERROR; gsiv++) {
        host_set_edge(g, gsiv);
    }
}

/* Take the message at @gpa; the main loop writes it soon after its cause */
static uint32_t take_message(HostGuest *g, uint64_t gpa)
{
    uint32_t *word = host_ram(g, gpa);

    for (int n = 0; n < 20 && !qatomic_read(word); n++) {
        g_usleep(1000);
        smmu_read(g, 0, SMMU_IDR0);
    }
    return le32_to_cpu(qatomic_xchg(word, 0));
}

/*
 * With IDR0.MSI each signal is a message and a pulse of the wire (3.18.2). The
 * event queue's says that the queue was empty.
 */
static void test_wires(void)
{
    uint64_t done, event, gerror;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    set_edges(g);
    done = host_alloc(g, 4096);
    event = done + 8;
    gerror = done + 16;
    smmu_write64(g, 0, SMMU_EVENTQ_IRQ_CFG, event);
    smmu_write(g, 0, SMMU_EVENTQ_IRQ_CFG + 8, 1);
    smmu_write64(g, 0, SMMU_GERROR_IRQ_CFG, gerror);
    smmu_write(g, 0, SMMU_GERROR_IRQ_CFG + 8, 2);
    smmu_write(g, 0, SMMU_IRQ_CTRL, 5);
    for (int gsiv = GSIV_EVENTQ; gsiv <= GSIV_GERROR; gsiv++) {
        host_take_irq(g, gsiv);
    }

    smmu_sync_ok(g, 0);
    g_assert_false(host_take_irq(g, GSIV_SYNC));
    smmu_cmd(g, 0, CMD_SYNC_IRQ);
    smmu_sync_ok(g, 0);
    g_assert_true(host_take_irq(g, GSIV_SYNC));
    smmu_cmd(g, 0, CMD_SYNC_MSI(done, 3));
    smmu_sync_ok(g, 0);
    g_assert_cmphex(take_message(g, done), ==, 3);
    /* The wire follows, once for all messages of ten milliseconds */
    for (int n = 0; !host_take_irq(g, GSIV_SYNC); n++) {
        g_assert_cmpint(n, <, 1000);
        g_usleep(1000);
    }
    g_usleep(20000);
    g_assert_false(host_take_irq(g, GSIV_SYNC));

    /* One signal for events of the host, until the guest has taken all */
    for (int n = 0; n < 3; n++) {
        raise_events(g, 0, F_TRANSLATION, 0, 2);
        g_assert_cmphex(take_message(g, event), ==, n ? 0 : 1);
        g_assert_cmpint(host_take_irq(g, GSIV_EVENTQ), ==, !n);
    }
    expect_event(g, 0, F_TRANSLATION, host_sid(g, 0));
    raise_events(g, 0, F_TRANSLATION, 0, 1);
    g_assert_cmphex(take_message(g, event), ==, 0);
    drop_events(g, 0);

    /* The same for QEMU's own */
    for (int n = 0; n < 3; n++) {
        host_set_ste(g, 0, STE_V | 6ull << 1);
        g_assert_cmphex(take_message(g, event), ==, n ? 0 : 1);
        g_assert_cmpint(host_take_irq(g, GSIV_EVENTQ), ==, !n);
    }
    drop_events(g, 0);
    host_set_ste(g, 0, STE_V | 6ull << 1);
    g_assert_cmphex(take_message(g, event), ==, 1);
    g_assert_true(host_take_irq(g, GSIV_EVENTQ));

    g_assert_false(host_take_irq(g, GSIV_GERROR));
    smmu_cmd(g, 0, HOST_CMD(0xff, 0));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
    g_assert_cmphex(take_message(g, gerror), ==, 2);
    g_assert_true(host_take_irq(g, GSIV_GERROR));
    smmu_ack(g, 0);

    /* A machine that stops does not change afterwards */
    smmu_cmd(g, 0, CMD_SYNC_MSI(done, 3));
    smmu_sync_ok(g, 0);
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    g_assert_true(host_take_irq(g, GSIV_SYNC));
    g_usleep(20000);
    g_assert_false(host_take_irq(g, GSIV_SYNC));
    qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    g_assert_false(host_take_irq(g, GSIV_SYNC));
    qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");

    /* A wire that is to be pulsed is quiet after a reset */
    smmu_cmd(g, 0, CMD_SYNC_MSI(done, 3));
    smmu_sync_ok(g, 0);
    qtest_system_reset(g->qts);
    set_edges(g);
    g_usleep(20000);
    g_assert_false(host_take_irq(g, GSIV_SYNC));
    host_finish(g);
}

/*
 * What happens while an interrupt is disabled is not signalled when the guest
 * enables it (6.3.16): not the record in the queue, nor the active error.
 */
static void test_irq_enable(void)
{
    static const unsigned gerror_en = 1 << 0, eventq_en = 1 << 2;
    const uint32_t on[] = { gerror_en, eventq_en, gerror_en | eventq_en };
    uint64_t event, gerror;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    set_edges(g);
    event = host_alloc(g, 4096);
    gerror = event + 8;
    smmu_write64(g, 0, SMMU_EVENTQ_IRQ_CFG, event);
    smmu_write(g, 0, SMMU_EVENTQ_IRQ_CFG + 8, 1);
    smmu_write64(g, 0, SMMU_GERROR_IRQ_CFG, gerror);
    smmu_write(g, 0, SMMU_GERROR_IRQ_CFG + 8, 2);

    for (int i = 0; i < ARRAY_SIZE(on) * 2; i++) {
        uint32_t irqs = on[i / 2];

        /* An error, and a record of QEMU's own or of the host, in silence */
        smmu_write(g, 0, SMMU_IRQ_CTRL, 0);
        if (i % 2) {
            raise_events(g, 0, F_TRANSLATION, 0, 1);
        } else {
            host_set_ste(g, 0, STE_V | 6ull << 1);
        }
        for (int n = 0; smmu_read(g, 0, SMMU_EVENTQ_PROD) ==
                        smmu_read(g, 0, SMMU_EVENTQ_CONS); n++) {
            g_assert_cmpint(n, <, 1000);
            g_usleep(100);
        }
        smmu_cmd(g, 0, HOST_CMD(0xff, 0));
        g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
        smmu_write(g, 0, SMMU_IRQ_CTRL, irqs);
        g_assert_cmphex(take_message(g, event), ==, 0);
        g_assert_cmphex(take_message(g, gerror), ==, 0);
        g_assert_false(host_take_irq(g, GSIV_EVENTQ));
        g_assert_false(host_take_irq(g, GSIV_GERROR));

        /* The next of each kind is signalled, if it is enabled */
        smmu_ack(g, 0);
        drop_events(g, 0);
        host_set_ste(g, 0, STE_V | 6ull << 1);
        smmu_cmd(g, 0, HOST_CMD(0xff, 0));
        g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
        g_assert_cmphex(take_message(g, event), ==, irqs & eventq_en ? 1 : 0);
        g_assert_cmphex(take_message(g, gerror), ==, irqs & gerror_en ? 2 : 0);
        g_assert_cmpint(host_take_irq(g, GSIV_EVENTQ), ==,
                        !!(irqs & eventq_en));
        g_assert_cmpint(host_take_irq(g, GSIV_GERROR), ==,
                        !!(irqs & gerror_en));
        smmu_ack(g, 0);
        drop_events(g, 0);
    }
    host_finish(g);
}

/*
 * An event is recorded, but no message is enabled for it: the event queue's
 * interrupt is not, only that of errors is, or the message has no address. None
 * is written, and that is no error. An event after that has its message.
 */
static void test_no_message(void)
{
    static const struct {
        uint32_t irqs;
        bool address;
    } rows[] = { { 0, true }, { 1, true }, { 4, false }, { 5, false } };
    static const uint64_t zero[4096 / 8];
    uint64_t page;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    set_edges(g);
    page = host_alloc(g, 4096);
    smmu_write64(g, 0, SMMU_GERROR_IRQ_CFG, page + 8);
    smmu_write(g, 0, SMMU_GERROR_IRQ_CFG + 8, 2);
    smmu_write(g, 0, SMMU_EVENTQ_IRQ_CFG + 8, 1);
    for (int i = 0; i < ARRAY_SIZE(rows) * 2; i++) {
        uint32_t irqs = rows[i / 2].irqs;

        smmu_write64(g, 0, SMMU_EVENTQ_IRQ_CFG, rows[i / 2].address ? page : 0);
        smmu_write(g, 0, SMMU_IRQ_CTRL, irqs);
        /* Of the host, or of QEMU's own */
        if (i % 2) {
            raise_events(g, 0, F_TRANSLATION, 0, 1);
        } else {
            host_set_ste(g, 0, STE_V | 6ull << 1);
        }
        expect_event(g, 0, i % 2 ? F_TRANSLATION : C_BAD_STE, host_sid(g, 0));
        g_assert_cmphex(take_message(g, page), ==, 0);
        g_assert_cmpmem(host_ram(g, page), 4096, zero, 4096);
        g_assert_cmpint(host_take_irq(g, GSIV_EVENTQ), ==, !!(irqs & 4));
        g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR), ==, 0);
        smmu_write(g, 0, SMMU_IRQ_CTRL, 0);
    }
    smmu_write64(g, 0, SMMU_EVENTQ_IRQ_CFG, page);
    smmu_write(g, 0, SMMU_IRQ_CTRL, 4);
    raise_events(g, 0, F_TRANSLATION, 0, 1);
    g_assert_cmphex(take_message(g, page), ==, 1);
    expect_event(g, 0, F_TRANSLATION, host_sid(g, 0));
    host_finish(g);
}

/*
 * A disabled interrupt sends no message any more, even for what happened
 * before. Another SMMU writes both registers in one drain, so that QEMU's main
 * loop does not run in between.
 */
static void test_irq_disable(void)
{
    const HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 2, .dev = { {}, { 1 } },
    };
    uint64_t gerror, eventq, registers;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    host_enable(g, 1);
    gerror = host_alloc(g, 4096);
    registers = g->smmu[0].base;
    smmu_write64(g, 0, SMMU_GERROR_IRQ_CFG, gerror);
    smmu_write(g, 0, SMMU_GERROR_IRQ_CFG + 8, 2);
    for (unsigned enabled = 0; enabled < 2; enabled++) {
        smmu_write(g, 0, SMMU_IRQ_CTRL, 1);
        smmu_cmd(g, 0, HOST_CMD(0xff, 0));
        smmu_cmd(g, 1, CMD_SYNC_MSI(registers + SMMU_CMDQ_PROD,
                                    g->smmu[0].prod));
        smmu_cmd(g, 1, CMD_SYNC_MSI(registers + SMMU_IRQ_CTRL, enabled));
        smmu_sync_ok(g, 1);
        g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR) ^
                        smmu_read(g, 0, SMMU_GERRORN), ==, 1);
        g_assert_cmphex(take_message(g, gerror), ==, enabled ? 2 : 0);
        smmu_ack(g, 0);
        g_assert_cmphex(smmu_read(g, 1, SMMU_GERROR), ==, 0);
    }
    /* The same with the interrupt of the event queue */
    smmu_write(g, 0, SMMU_IRQ_CTRL, 0);
    eventq = host_alloc(g, 4096);
    smmu_write64(g, 0, SMMU_EVENTQ_IRQ_CFG, eventq);
    smmu_write(g, 0, SMMU_EVENTQ_IRQ_CFG + 8, 3);
    *smmu_ste(g, 0, host_sid(g, 0)) = cpu_to_le64(STE_V | 6ull << 1);
    for (unsigned enabled = 0; enabled < 2; enabled++) {
        smmu_write(g, 0, SMMU_IRQ_CTRL, 1 << 2);
        smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, 0)));
        smmu_cmd(g, 1, CMD_SYNC_MSI(registers + SMMU_CMDQ_PROD,
                                    g->smmu[0].prod));
        smmu_cmd(g, 1, CMD_SYNC_MSI(registers + SMMU_IRQ_CTRL, enabled << 2));
        smmu_sync_ok(g, 1);
        expect_event(g, 0, C_BAD_STE, host_sid(g, 0));
        g_assert_cmphex(take_message(g, eventq), ==, enabled ? 3 : 0);
        g_assert_cmphex(smmu_read(g, 1, SMMU_GERROR), ==, 0);
    }
    host_finish(g);
}

/* A queue that aborts is not written until the guest acknowledges (7.2.1) */
static void test_unwritable(void)
{
    const uint32_t on = SMMU_CR0_SMMUEN | SMMU_CR0_CMDQEN;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    smmu_write(g, 0, SMMU_CR0, on);
    smmu_write64(g, 0, SMMU_EVENTQ_BASE, 0xfff000000000ull | HOST_EVENTQ_LOG2);
    smmu_write(g, 0, SMMU_EVENTQ_PROD, 0);
    smmu_write(g, 0, SMMU_EVENTQ_CONS, 0);
    smmu_write(g, 0, SMMU_CR0, on | SMMU_CR0_EVENTQEN);
    g->smmu[0].event_cons = 0;
    host_set_ste(g, 0, STE_V | 6ull << 1);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR) ^
                    smmu_read(g, 0, SMMU_GERRORN), ==, SMMU_GERROR_EVENTQ);

    /* The queue is in memory again, but all events are lost */
    smmu_write(g, 0, SMMU_CR0, on);
    smmu_write64(g, 0, SMMU_EVENTQ_BASE, g->smmu[0].eventq | HOST_EVENTQ_LOG2);
    smmu_write(g, 0, SMMU_CR0, on | SMMU_CR0_EVENTQEN);
    host_set_ste(g, 0, STE_V | 6ull << 1);
    raise_events(g, 0, F_TRANSLATION, 0, 2 * EVENTQ_SLOTS);
    expect_no_event(g, 0);
    g_assert_false(smmu_event_overflow(g, 0));

    smmu_write(g, 0, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR));
    expect_no_event(g, 0);
    raise_events(g, 0, F_TRANSLATION, 0, 1);
    expect_event(g, 0, F_TRANSLATION, host_sid(g, 0));
    host_set_ste(g, 0, STE_V | 6ull << 1);
    expect_event(g, 0, C_BAD_STE, host_sid(g, 0));
    host_finish(g);
}

/* What may have happened to the queue before */
typedef enum EventsBefore {
    EVENTS_NONE, EVENTS_TAKEN, EVENTS_OFF,
} EventsBefore;

/* A queue of 2^@log2 is full, and the host has no more */
static void fill_queue(HostGuest *g, unsigned log2)
{
    uint32_t prod = smmu_read(g, 0, SMMU_EVENTQ_PROD);
    unsigned more = 1u << log2;

    while (more) {
        /* The host keeps 4096 at once */
        unsigned n = MIN(more, 3000);

        raise_events(g, 0, F_TRANSLATION, 0, n);
        more -= n;
        prod = (prod + n) & ((2u << log2) - 1);
        HOST_WAIT(smmu_read(g, 0, SMMU_EVENTQ_PROD) == prod);
    }
}

/* The guest's queue has no record; @cons is EVENTQ_CONS */
static void empty_queue(HostGuest *g, uint32_t cons)
{
    g->smmu[0].event_cons = cons;
    smmu_write(g, 0, SMMU_EVENTQ_CONS, cons);
}

/* EVENTQEN off and on: the queue begins anew */
static void restart_queue(HostGuest *g)
{
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 3);
    smmu_write(g, 0, SMMU_EVENTQ_PROD, 0);
    empty_queue(g, 0);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
}

/*
 * The host loses events while the guest's queue has room: no overflow (7.4).
 * That it was full before matters no more.
 */
static void test_lost_with_room(const void *opaque)
{
    const EventsBefore before = GPOINTER_TO_INT(opaque);
    const unsigned log2 = 13;
    uint64_t event[4];
    unsigned taken = 0;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating_with(log2, NULL);
    if (before) {
        fill_queue(g, log2);
    }
    if (before == EVENTS_TAKEN) {
        empty_queue(g, smmu_read(g, 0, SMMU_EVENTQ_PROD));
    } else if (before == EVENTS_OFF) {
        restart_queue(g);
    }
    raise_events(g, 0, F_TRANSLATION, 0, 5000);
    while (next_event(g, 0, event)) {
        taken++;
        g_assert_false(smmu_event_overflow(g, 0));
    }
    g_assert_cmpuint(taken, <, 5000);
    g_assert_cmpuint(taken + host_counter(g, "event.lost"), ==, 5000);
    host_finish(g);
}

/* A queue that was full begins anew, and the machine stops with an event */
static void test_stopped_anew(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    fill_queue(g, HOST_EVENTQ_LOG2);
    restart_queue(g);
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    raise_events(g, 0, C_BAD_STE, 0, 1);
    /* QEMU looks at it, and leaves it */
    qtest_qmp_assert_success(g->qts, "{'execute': 'query-status'}");
    g_usleep(20 * 1000);
    qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
    expect_event(g, 0, C_BAD_STE, host_sid(g, 0));
    host_finish(g);
}

/* How often QEMU has looked for events of the host */
static uint64_t looks(HostGuest *g)
{
    return host_counter(g, "call.veventq.read");
}

/*
 * After an event each CMD_SYNC looks for more, as the host may have some that
 * are late; but not for ever
 */
static void test_looks_end(void)
{
    uint64_t before;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating_with(HOST_EVENTQ_LOG2, "ats=on");
    raise_events(g, 0, C_BAD_STE, 0, 1);
    expect_event(g, 0, C_BAD_STE, host_sid(g, 0));
    before = looks(g);
    for (int i = 0; i < 300; i++) {
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        smmu_sync_ok(g, 0);
    }
    g_assert_cmpuint(looks(g), >, before);
    before = looks(g);
    for (int i = 0; i < 50; i++) {
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        smmu_cmd(g, 0, CMD_ATC_INV(host_sid(g, 0), HOST_VA, 0));
        smmu_sync_ok(g, 0);
    }
    g_assert_cmpuint(looks(g), ==, before);
    host_finish(g);
}

/*
 * A CMD_SYNC looks for events if it comes after an invalidation and completes.
 * One that fails leaves the look to the one that the guest repeats.
 */
static void test_looks_begin(void)
{
    uint64_t before;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = translating();
    raise_events(g, 0, C_BAD_STE, 0, 1);
    expect_event(g, 0, C_BAD_STE, host_sid(g, 0));
    before = looks(g);
    for (int i = 0; i < 300; i++) {
        smmu_sync_ok(g, 0);
    }
    g_assert_cmpuint(looks(g), ==, before);
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
    smmu_sync_ok(g, 0);
    g_assert_cmpuint(looks(g), ==, before + 1);

    host_expect(g, SAID_TAKES_NONE);
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE:1+*=ENOMEM"));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ABT);
    g_assert_cmpuint(looks(g), ==, before + 1);
    qobject_unref(host_control(g, "fail clear"));
    smmu_ack(g, 0);
    g_assert_cmpuint(looks(g), ==, before + 2);
    host_finish(g);
}

/* The trace of a QEMU, which shows what comes first */
typedef struct Trace {
    char *file;
    gsize seen;
    HostGuest *g;
} Trace;

static void trace_begin(Trace *t)
{
    /* A drain ends within the write, however busy this computer is */
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .smmu_args = ",x-drain-us=1000000",
    };
    g_autofree char *args = NULL;
    int fd = g_file_open_tmp("smmuv3-trace-XXXXXX", &t->file, NULL);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    args = g_strdup_printf("-D %s -trace smmuv3_trigger_irq "
                           "-trace smmuv3_write_msi "
                           "-trace smmuv3_accel_publish", t->file);
    config.args = args;
    t->g = host_guest_new(&config);
    host_enable(t->g, 0);
}

/* The lines since the last call */
static char **trace_lines(Trace *t)
{
    g_autofree char *text = NULL;
    gsize before = t->seen;

    g_assert_true(g_file_get_contents(t->file, &text, &t->seen, NULL));
    return g_strsplit(text + before, "\n", 0);
}

static void trace_end(Trace *t)
{
    unlink(t->file);
    g_free(t->file);
    host_finish(t->g);
}

/* Does a line publish a register?  Which one, and its value */
static bool publishes(const char *line, unsigned *offset, uint32_t *value)
{
    const char *publish = strstr(line, "smmuv3_accel_publish");

    return publish && sscanf(strstr(publish, "register"),
                             "register 0x%x = 0x%x", offset, value) == 2;
}

/* The first line that lets the guest read @bits in @reg; they are there */
static int published(char **lines, unsigned reg, uint32_t bits)
{
    for (int i = 0; lines[i]; i++) {
        unsigned offset;
        uint32_t value;

        if (publishes(lines[i], &offset, &value) && offset == reg &&
            (value & bits) == bits) {
            return i;
        }
    }
    g_assert_not_reached();
}

/*
 * Check that at each signal, a message or a pulse, the register that the guest
 * reads from memory has one of @values in turn.  Returns how many signals.
 */
static unsigned check_signals(char **lines, unsigned reg,
                              const uint32_t *values, unsigned n)
{
    unsigned signals = 0;
    uint32_t now = 0;

    for (int i = 0; lines[i]; i++) {
        unsigned offset;
        uint32_t value;

        if (publishes(lines[i], &offset, &value)) {
            now = offset == reg ? value : now;
        } else if (strstr(lines[i], "smmuv3_trigger_irq") ||
                   strstr(lines[i], "smmuv3_write_msi")) {
            g_assert_cmpuint(signals, <, n);
            if (now != values[signals]) {
                g_error("signal %u comes with 0x%x in register 0x%x, not 0x%x",
                        signals, now, reg, values[signals]);
            }
            signals++;
        }
    }
    g_strfreev(lines);
    return signals;
}

/*
 * A guest that only reads EVENTQ_PROD sees each record.  The interrupt is for
 * the first one alone (IHI 0070 7.2.1), and the guest consumes none here.
 */
static void test_each_visible(void)
{
    if (host_skipped()) {
        return;
    }
    for (int by_host = 0; by_host < 2; by_host++) {
        HostGuest *g = translating();

        for (unsigned n = 1; n <= 5; n++) {
            if (by_host) {
                raise_events(g, 0, F_TRANSLATION, 0, 1);
            } else {
                host_set_ste(g, 0, STE_V | 6ull << 1);
            }
            for (int i = 0; smmu_read(g, 0, SMMU_EVENTQ_PROD) != n; i++) {
                g_assert_cmpint(i, <, 20000);
            }
        }
        host_finish(g);
    }
}

/* A guest that sees a signal must read its cause from memory (3.18, 4.7.3) */
static void test_published_first(void)
{
    uint32_t first, values[4];
    uint64_t done;
    Trace t = {};
    char **lines;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    trace_begin(&t);
    g = t.g;
    done = host_alloc(g, 4096);
    g_strfreev(trace_lines(&t));

    /* CMDQ_CONS, though more commands follow in the same drain */
    first = g->smmu[0].prod;
    smmu_cmd(g, 0, CMD_SYNC_IRQ);
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
    smmu_cmd(g, 0, CMD_SYNC_IRQ);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_cmd(g, 0, CMD_SYNC_MSI(done, 1));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
    smmu_sync_ok(g, 0);
    values[0] = first + 1;
    values[1] = first + 3;
    values[2] = first + 5;                  /* the message */
    values[3] = first + 7;                  /* its wire, after all of them */
    g_usleep(20000);
    smmu_read(g, 0, SMMU_IDR0);
    g_assert_cmpuint(check_signals(trace_lines(&t), SMMU_CMDQ_CONS, values, 4),
                     ==, 4);

    /* EVENTQ_PROD, and then GERROR */
    smmu_write(g, 0, SMMU_IRQ_CTRL, 5);
    host_set_ste(g, 0, STE_V | 6ull << 1);
    values[0] = 1;
    g_assert_cmpuint(check_signals(trace_lines(&t), 0xa8, values, 1), ==, 1);
    smmu_cmd(g, 0, HOST_CMD(0xff, 0));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
    lines = trace_lines(&t);
    /* A guest that sees the error reads which one it is (7.1) */
    g_assert_cmpint(published(lines, SMMU_CMDQ_CONS, SMMU_CERROR_ILL << 24), <,
                    published(lines, SMMU_GERROR, SMMU_GERROR_CMDQ));
    values[0] = SMMU_GERROR_CMDQ;
    g_assert_cmpuint(check_signals(lines, SMMU_GERROR, values, 1), ==, 1);
    smmu_ack(g, 0);
    trace_end(&t);
}

/*
 * A message that aborts is an error, and so is the message about that error.
 * The latter error has no signal of its own (6.3.19).
 */
static void test_aborting_messages(void)
{
    const uint64_t nowhere = 0xfff000000000ull;
    const uint32_t any[4] = {};
    Trace t = {};
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    trace_begin(&t);
    g = t.g;
    smmu_write64(g, 0, SMMU_EVENTQ_IRQ_CFG, nowhere);
    smmu_write64(g, 0, SMMU_GERROR_IRQ_CFG, nowhere);
    smmu_write(g, 0, SMMU_IRQ_CTRL, 5);
    for (int bit = 4; bit <= 5; bit++) {
        uint32_t want = 1u << bit | 1u << 7, got;

        g_strfreev(trace_lines(&t));
        if (bit == 4) {
            smmu_cmd(g, 0, CMD_SYNC_MSI(nowhere, 1));
            smmu_sync_ok(g, 0);
        } else {
            host_set_ste(g, 0, STE_V | 6ull << 1);
        }
        for (int n = 0; n < 20; n++) {
            g_usleep(1000);
            got = smmu_read(g, 0, SMMU_GERROR) ^ smmu_read(g, 0, SMMU_GERRORN);
        }
        g_assert_cmphex(got, ==, want);
        /* The first message and its wire, and GERROR's of both kinds, once */
        g_assert_cmpuint(check_signals(trace_lines(&t), UINT_MAX, any, 4), ==,
                         4);
        smmu_write(g, 0, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR));
    }
    trace_end(&t);
}

/* MSIs into the SMMU's own registers, and into the slot of a device */
static void test_hostile_msi(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .dev = { { .hotplug = true } },
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    g_assert_null(host_guest_plug(g, 0));
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    for (unsigned reg = 0; reg < 0x100; reg += 4) {
        if (reg == SMMU_CR0 || reg == SMMU_IRQ_CTRL) {
            continue;
        }
        smmu_cmd(g, 0, CMD_SYNC_MSI(g->smmu[0].base + reg, 0xffffffff));
        smmu_sync_ok(g, 0);
        smmu_write(g, 0, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR));
    }
    host_check_reads(g, 0, HOST_VA, 1);

    /* The MSI of an event about a device turns off the slot of that device */
    smmu_write64(g, 0, SMMU_EVENTQ_IRQ_CFG, host_slot_control(g, 0));
    smmu_write(g, 0, SMMU_EVENTQ_IRQ_CFG + 8, host_slot_off(g, 0));
    smmu_write(g, 0, SMMU_IRQ_CTRL, 1 << 2);
    *smmu_ste(g, 0, host_sid(g, 0)) = cpu_to_le64(STE_V | 6ull << 1);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_cmd(g, 0, CMD_CFGI_STE(host_sid(g, 0)));
    smmu_sync_ok(g, 0);
    qobject_unref(host_wait_for_event(g, "DEVICE_DELETED"));
    g->dev[0].present = false;
    g_assert_cmpuint(host_objects(g, "viommu"), ==, 0);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_sync_ok(g, 0);
    host_finish(g);
}

/* A message into the SMMU's own registers, also from QEMU's main loop */
static void test_own_registers(const void *smmu_args)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .smmu_args = smmu_args,
    };
    static const unsigned regs[] = {
        SMMU_CR2, SMMU_GBPA, SMMU_IRQ_CTRL, SMMU_STRTAB_BASE,
        SMMU_EVENTQ_BASE, SMMU_CMDQ_BASE, SMMU_CMDQ_PROD, SMMU_CR0,
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    for (unsigned n = 0; n < ARRAY_SIZE(regs); n++) {
        uint32_t value = smmu_read(g, 0, regs[n]);

        smmu_cmd(g, 0, CMD_SYNC_MSI(g->smmu[0].base + regs[n], ~value));
        smmu_sync_ok(g, 0);
        g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR) ^
                        smmu_read(g, 0, SMMU_GERRORN), ==, 1 << 4);
        smmu_write(g, 0, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR));
        g_assert_cmphex(smmu_read(g, 0, regs[n]), ==,
                        regs[n] == SMMU_CMDQ_PROD ? g->smmu[0].prod : value);
    }
    host_finish(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3-event/fault", test_fault);
    qtest_add_func("/smmuv3-event/substream", test_substream);
    qtest_add_func("/smmuv3-event/types", test_types);
    qtest_add_func("/smmuv3-event/full", test_full);
    qtest_add_func("/smmuv3-event/overflow", test_overflow);
    qtest_add_func("/smmuv3-event/stopped", test_stopped);
    qtest_add_func("/smmuv3-event/bad-indexes", test_nonsense);
    qtest_add_func("/smmuv3-event/storm", test_storm);
    qtest_add_func("/smmuv3-event/storm-taken", test_storm_taken);
    qtest_add_func("/smmuv3-event/storm-churn", test_storm_churn);
    qtest_add_func("/smmuv3-event/enable", test_enable);
    qtest_add_func("/smmuv3-event/slow-free", test_slow_free);
    qtest_add_func("/smmuv3-event/msi", test_msi);
    qtest_add_func("/smmuv3-event/hostile-msi", test_hostile_msi);
    qtest_add_data_func("/smmuv3-event/own-registers/trap", NULL,
                        test_own_registers);
    qtest_add_data_func("/smmuv3-event/own-registers/main-loop",
                        ",x-drain-us=0", test_own_registers);
    qtest_add_func("/smmuv3-event/wires", test_wires);
    qtest_add_func("/smmuv3-event/irq-enable", test_irq_enable);
    qtest_add_func("/smmuv3-event/irq-disable", test_irq_disable);
    qtest_add_func("/smmuv3-event/no-message", test_no_message);
    qtest_add_func("/smmuv3-event/unwritable", test_unwritable);
    qtest_add_data_func("/smmuv3-event/lost-with-room",
                        GINT_TO_POINTER(EVENTS_NONE), test_lost_with_room);
    qtest_add_data_func("/smmuv3-event/lost-with-room/full-before",
                        GINT_TO_POINTER(EVENTS_TAKEN), test_lost_with_room);
    qtest_add_data_func("/smmuv3-event/lost-with-room/full-and-off",
                        GINT_TO_POINTER(EVENTS_OFF), test_lost_with_room);
    qtest_add_func("/smmuv3-event/stopped-anew", test_stopped_anew);
    qtest_add_func("/smmuv3-event/looks-begin", test_looks_begin);
    qtest_add_func("/smmuv3-event/looks-end", test_looks_end);
    qtest_add_func("/smmuv3-event/published-first", test_published_first);
    qtest_add_func("/smmuv3-event/each-visible", test_each_visible);
    qtest_add_func("/smmuv3-event/aborting-messages", test_aborting_messages);
    qtest_add_func("/smmuv3-event/bad-stes", test_bad_stes);
    qtest_add_func("/smmuv3-event/illegal", test_illegal);
    qtest_add_func("/smmuv3-event/abort", test_abort);
    qtest_add_func("/smmuv3-event/registers", test_registers);
    return g_test_run();
}
