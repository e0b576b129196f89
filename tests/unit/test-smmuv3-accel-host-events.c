/*
 * Accelerated SMMUv3: the host's events, on a host that keeps iommufd's rules
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Every event arrives once, in order and whole, or a loss is reported.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/arm/smmuv3-accel-host-events.h"
#include "hw/misc/smmuv3-recorder.h"

typedef struct Bed {
    SMMUv3Host *host;
    SMMUv3HostDevice dev;
    SMMUv3AccelVsmmu vsmmu;
    SMMUv3AccelStream *stream;
    GArray *got;                /* SMMUv3HostEvent, what the guest got */
    unsigned room;
    unsigned losses;
} Bed;

static void put(void *opaque, const SMMUv3HostEvent *event)
{
    Bed *bed = opaque;

    g_assert_cmpuint(bed->room, >, 0);
    bed->room--;
    g_array_append_val(bed->got, *event);
}

static void lost(void *opaque)
{
    Bed *bed = opaque;

    bed->losses++;
}

static bool drain(Bed *bed)
{
    const SMMUv3AccelEventSink sink = {
        .put = put, .lost = lost, .opaque = bed,
    };

    return smmuv3_accel_veventq_drain(&bed->vsmmu, bed->room, &sink);
}

static void bed_init(Bed *bed)
{
    memset(bed, 0, sizeof(*bed));
    bed->host = rec_host_new();
    rec_device_init(&bed->dev, bed->host, "dev", rec_stage2_new(bed->host));
    smmuv3_accel_vsmmu_init(&bed->vsmmu, &rec_ops, "smmu0");
    bed->stream = rec_stream_new(&bed->vsmmu, &bed->dev,
                                          &bed->dev.info, &error_abort);
    bed->got = g_array_new(false, false, sizeof(SMMUv3HostEvent));
    bed->room = UINT_MAX;
    g_assert_true(smmuv3_accel_veventq_open(&bed->vsmmu, &error_abort));
}

static void bed_fini(Bed *bed)
{
    smmuv3_accel_veventq_close(&bed->vsmmu);
    rec_stream_free(bed->stream);
    smmuv3_accel_vsmmu_fini(&bed->vsmmu);
    g_assert_cmpint(bed->host->busy, ==, 0);
    rec_host_free(bed->host);
    g_array_unref(bed->got);
}

static void host_has(Bed *bed, uint32_t sequence, bool is_lost)
{
    rec_put_event(bed->host, &(SMMUv3HostEvent) {
        .word = { 0x10 | (uint64_t)sequence << 32, 1, 2, ~0ull },
        .sequence = sequence, .lost = is_lost,
    });
}

static void expect(const Bed *bed, unsigned i, uint32_t sequence)
{
    const SMMUv3HostEvent *event = &g_array_index(bed->got, SMMUv3HostEvent, i);

    g_assert_cmpuint(i, <, bed->got->len);
    g_assert_cmphex(event->word[0], ==, 0x10 | (uint64_t)sequence << 32);
    g_assert_cmphex(event->word[3], ==, ~0ull);
}

static void test_order(void)
{
    Bed bed;

    bed_init(&bed);
    g_assert_true(drain(&bed));
    for (unsigned n = 0; n < 1000; n++) {
        host_has(&bed, n, false);
        if (n % 100 == 99) {
            g_assert_true(drain(&bed));
            g_assert_true(drain(&bed));
        }
    }
    g_assert_cmpint(bed.got->len, ==, 1000);
    for (unsigned n = 0; n < 1000; n++) {
        expect(&bed, n, n);
    }
    g_assert_cmpint(bed.losses, ==, 0);
    bed_fini(&bed);
}

/* One drain forwards at most one batch */
static void test_batch(void)
{
    Bed bed;

    bed_init(&bed);
    for (unsigned n = 0; n < 200; n++) {
        host_has(&bed, n, false);
    }
    rec_forget(bed.host);
    drain(&bed);
    g_assert_cmpint(bed.host->calls, ==, 1);
    g_assert_cmpint(bed.got->len, ==, SMMUV3_HOST_EVENTS_MAX);
    bed_fini(&bed);
}

/* The event that is lost is the first after the sequence has wrapped */
static void test_lost_at_wrap(void)
{
    Bed bed;

    bed_init(&bed);
    host_has(&bed, INT_MAX, false);
    host_has(&bed, 1, false);
    drain(&bed);
    g_assert_cmpint(bed.losses, ==, 1);
    g_assert_cmpint(bed.got->len, ==, 2);
    expect(&bed, 1, 1);
    bed_fini(&bed);
}

static void test_lost(void)
{
    Bed bed;

    bed_init(&bed);
    /* The sequence may start anywhere, and wraps at INT_MAX */
    host_has(&bed, INT_MAX - 1, false);
    host_has(&bed, INT_MAX, false);
    host_has(&bed, 0, false);
    drain(&bed);
    g_assert_cmpint(bed.losses, ==, 0);
    g_assert_cmpint(bed.got->len, ==, 3);

    /* A gap */
    host_has(&bed, 2, false);
    drain(&bed);
    g_assert_cmpint(bed.losses, ==, 1);
    g_assert_cmpint(bed.got->len, ==, 4);
    expect(&bed, 3, 2);

    /* The host's note; the event after it is no second loss */
    host_has(&bed, 3, true);
    drain(&bed);
    host_has(&bed, 4, false);
    drain(&bed);
    g_assert_cmpint(bed.losses, ==, 2);
    g_assert_cmpint(bed.got->len, ==, 5);
    bed_fini(&bed);
}

/* Events without room stay in the host, and are not lost */
static void test_full(void)
{
    Bed bed;

    bed_init(&bed);
    bed.room = 2;
    for (unsigned n = 0; n < 4; n++) {
        host_has(&bed, n, false);
    }
    g_assert_true(drain(&bed));
    g_assert_cmpint(bed.got->len, ==, 2);
    rec_forget(bed.host);
    g_assert_true(drain(&bed));
    g_assert_cmpint(bed.host->calls, ==, 0);

    bed.room = 5;
    g_assert_true(drain(&bed));
    g_assert_cmpint(bed.got->len, ==, 4);
    for (unsigned n = 0; n < 4; n++) {
        expect(&bed, n, n);
    }
    g_assert_cmpint(bed.losses, ==, 0);
    bed_fini(&bed);
}

static void test_failure(void)
{
    RecFailNth nth = { .nth = 1, .err = -EINTR };
    Error *err = NULL;
    Bed bed;

    bed_init(&bed);
    host_has(&bed, 0, false);
    bed.host->inject = rec_fail_nth;
    bed.host->opaque = &nth;
    g_assert_true(drain(&bed));
    g_assert_cmpint(bed.got->len, ==, 0);
    drain(&bed);
    g_assert_cmpint(bed.got->len, ==, 1);

    nth = (RecFailNth) { .nth = 1, .err = -EIO };
    g_assert_false(drain(&bed));

    smmuv3_accel_veventq_close(&bed.vsmmu);
    smmuv3_accel_veventq_close(&bed.vsmmu);
    nth = (RecFailNth) { .nth = 1, .err = -ENOMEM };
    g_assert_false(smmuv3_accel_veventq_open(&bed.vsmmu, &err));
    g_assert_nonnull(err);
    error_free(err);
    g_assert_cmpint(bed.vsmmu.veventq, ==, 0);
    g_assert_true(smmuv3_accel_veventq_open(&bed.vsmmu, &error_abort));
    bed_fini(&bed);
}

/* The host has a closed vEVENTQ in use for a while, and has one at a time */
static void test_slow_close(void)
{
    Bed bed;

    bed_init(&bed);
    bed.host->veventq_busy = 3;
    smmuv3_accel_veventq_close(&bed.vsmmu);
    g_assert_cmpint(bed.vsmmu.veventq, ==, 0);
    g_assert_cmpint(bed.vsmmu.event_fd, ==, -1);
    for (int n = 0; n < 2; n++) {
        g_assert_false(smmuv3_accel_veventq_closed(&bed.vsmmu));
        smmuv3_accel_veventq_close(&bed.vsmmu);
        g_assert_cmpuint(rec_count(bed.host, REC_VEVENTQ), ==, 1);
    }
    g_assert_true(smmuv3_accel_veventq_closed(&bed.vsmmu));
    g_assert_cmpuint(rec_count(bed.host, REC_VEVENTQ), ==, 0);
    g_assert_true(smmuv3_accel_veventq_closed(&bed.vsmmu));
    g_assert_true(smmuv3_accel_veventq_open(&bed.vsmmu, &error_abort));
    host_has(&bed, 0, false);
    drain(&bed);
    expect(&bed, 0, 0);

    /* The last stream waits for it: the vIOMMU has it as a child */
    bed.host->veventq_busy = 1000;
    bed_fini(&bed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/smmuv3-accel/veventq/order", test_order);
    g_test_add_func("/smmuv3-accel/veventq/batch", test_batch);
    g_test_add_func("/smmuv3-accel/veventq/lost", test_lost);
    g_test_add_func("/smmuv3-accel/veventq/lost-at-wrap",
                    test_lost_at_wrap);
    g_test_add_func("/smmuv3-accel/veventq/full", test_full);
    g_test_add_func("/smmuv3-accel/veventq/failure", test_failure);
    g_test_add_func("/smmuv3-accel/veventq/slow-close", test_slow_close);
    return g_test_run();
}
