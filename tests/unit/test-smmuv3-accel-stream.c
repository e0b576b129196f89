/*
 * Accelerated SMMUv3: streams over a host that keeps iommufd's rules
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whichever call fails: nothing leaks, nothing is destroyed in use, no stream
 * keeps a translation that the guest has removed, and a second attempt
 * succeeds.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qapi/error.h"
#include "hw/arm/smmuv3-accel-stream.h"
#include "hw/misc/smmuv3-recorder.h"

#define ATC_INV     0x40
#define STE_S1(n)   (0xbull | (uint64_t)(n) << 12)      /* V, Config 0b101 */

static const SMMUv3AccelDecision to_abort = {
    .action = SMMUV3_ACCEL_ABORT, .ste = { 1, 0 },
};
static const SMMUv3AccelDecision to_bypass = {
    .action = SMMUV3_ACCEL_BYPASS, .ste = { 9, 0 },
};
static const SMMUv3AccelDecision to_s1 = {
    .action = SMMUV3_ACCEL_TRANSLATE, .ste = { STE_S1(1), 0xd4 },
};
static const SMMUv3AccelDecision to_other_s1 = {
    .action = SMMUV3_ACCEL_TRANSLATE, .ste = { STE_S1(2), 0xd4 },
};

static const SMMUv3AccelDecision *const decisions[] = {
    &to_abort, &to_bypass, &to_s1, &to_other_s1,
};

#define DEVICES 3

typedef struct Bed {
    SMMUv3Host *host;
    uint32_t stage2;
    SMMUv3HostDevice dev[DEVICES];
    SMMUv3AccelVsmmu vsmmu;
} Bed;

static void bed_init(Bed *bed)
{
    static const char *const names[DEVICES] = { "dev0", "dev1", "dev2" };

    bed->host = rec_host_new();
    bed->stage2 = rec_stage2_new(bed->host);
    for (int i = 0; i < DEVICES; i++) {
        rec_device_init(&bed->dev[i], bed->host, names[i], bed->stage2);
    }
    smmuv3_accel_vsmmu_init(&bed->vsmmu, &rec_ops, "smmu0");
}

/* All streams are gone, so all their objects in the host must be gone */
static void bed_fini(Bed *bed)
{
    g_assert_true(QLIST_EMPTY(&bed->vsmmu.streams));
    smmuv3_accel_vsmmu_fini(&bed->vsmmu);
    rec_host_free(bed->host);
}

static void expect_story(SMMUv3Host *host, const char *want)
{
    g_autofree char *story = rec_story(host);

    g_assert_cmpstr(story, ==, want);
}

static SMMUv3AccelStream *new_stream(Bed *bed, int i)
{
    Error *err = NULL;
    SMMUv3AccelStream *stream = rec_stream_new(&bed->vsmmu,
                                                        &bed->dev[i],
                                                        &bed->dev[i].info,
                                                        &err);

    if (!stream) {
        g_error("the stream is refused: %s", error_get_pretty(err));
    }
    return stream;
}

static void apply(SMMUv3AccelStream *stream, uint32_t sid,
                  const SMMUv3AccelDecision *decision)
{
    Error *err = NULL;

    if (smmuv3_accel_stream_apply(stream, sid, decision, &err)) {
        g_error("%s", error_get_pretty(err));
    }
    g_assert_null(err);
}

/* Is the device on the STE of @decision? */
static bool is_on(const SMMUv3AccelStream *stream,
                  const SMMUv3AccelDecision *decision)
{
    const uint64_t *ste = rec_attached_ste(stream->dev);

    return ste && ste[0] == decision->ste[0] && ste[1] == decision->ste[1];
}

static void expect_on(const SMMUv3AccelStream *stream,
                      const SMMUv3AccelDecision *decision)
{
    const uint64_t *ste = rec_attached_ste(stream->dev);

    if (!is_on(stream, decision)) {
        g_autofree char *story = rec_story(stream->dev->host);

        g_error("%s StreamID 0x%x: on STE 0x%" PRIx64 " 0x%" PRIx64
                ", expected 0x%" PRIx64 " 0x%" PRIx64 " (error %d) after: %s",
                stream->dev->name, stream->sid, ste ? ste[0] : 0,
                ste ? ste[1] : 0, decision->ste[0], decision->ste[1],
                stream->error, story);
    }
}

/* The streams agree with the host, which has no other objects */
static void check_books(Bed *bed)
{
    SMMUv3AccelStream *stream;
    unsigned streams = 0, vdevices = 0, nested = 0;

    QLIST_FOREACH(stream, &bed->vsmmu.streams, next) {
        streams++;
        vdevices += stream->has_vdevice;
        nested += !!stream->nested_hwpt;
        if (stream->attached) {
            expect_on(stream, &stream->now);
            g_assert_cmpint(!!stream->nested_hwpt, ==,
                            stream->now.action == SMMUV3_ACCEL_TRANSLATE);
        }
        g_assert_cmpint(smmuv3_accel_stream_pending(stream), ==,
                        stream->error != 0);
        if (!stream->error && stream->attached) {
            expect_on(stream, &stream->want);
        }
        if (stream->has_vdevice) {
            g_assert_nonnull(stream->dev->vdevice);
            g_assert_cmphex(stream->dev->vdevice->id, ==, stream->vdevice);
            g_assert_cmphex(stream->dev->vdevice->sid, ==,
                            stream->vdevice_sid);
        } else {
            g_assert_null(stream->dev->vdevice);
        }
    }
    g_assert_cmpuint(rec_count(bed->host, REC_VIOMMU), ==, !!streams);
    g_assert_cmpuint(rec_count(bed->host, REC_VDEVICE), ==, vdevices);
    g_assert_cmpuint(rec_count(bed->host, REC_HWPT), ==,
                     streams ? 2 + nested : 0);
    g_assert_cmpuint(bed->host->busy, ==, 0);
}

static void test_life(void)
{
    Bed bed;
    SMMUv3AccelStream *s0, *s1;

    bed_init(&bed);
    s0 = new_stream(&bed, 0);
    expect_story(bed.host, "viommu hwpt:abort hwpt:bypass");
    /* Not moved yet: still on VFIO's stage 2 */
    g_assert_false(s0->attached);
    g_assert_true(bed.dev[0].attached->kind == REC_STAGE2);
    check_books(&bed);

    rec_forget(bed.host);
    s1 = new_stream(&bed, 1);
    expect_story(bed.host, "");
    check_books(&bed);

    apply(s0, 0x100, &to_s1);
    apply(s1, 0x200, &to_s1);
    check_books(&bed);

    rec_forget(bed.host);
    rec_stream_free(s0);
    expect_story(bed.host, "detach destroy:s1 destroy:vdevice");
    g_assert_null(bed.dev[0].attached);
    check_books(&bed);

    /* The last stream frees the vIOMMU, and the next one allocates another */
    rec_forget(bed.host);
    rec_stream_free(s1);
    expect_story(bed.host, "detach destroy:s1 destroy:vdevice destroy:bypass "
                 "destroy:abort destroy:viommu");
    check_books(&bed);

    rec_forget(bed.host);
    s0 = new_stream(&bed, 0);
    expect_story(bed.host, "viommu hwpt:abort hwpt:bypass");
    rec_stream_free(s0);
    bed_fini(&bed);
}

/* Every move from one attachment to another, and the calls that it makes */
static void test_moves(void)
{
    static const char *const stories[4][4] = {
        /* from abort */
        { "", "attach:bypass", "hwpt:s1 attach:s1", "hwpt:s1 attach:s1" },
        /* from bypass */
        { "attach:abort", "", "hwpt:s1 attach:s1", "hwpt:s1 attach:s1" },
        /* from a translation: attach the new HWPT, then destroy the old one */
        { "attach:abort destroy:s1", "attach:bypass destroy:s1",
          "", "hwpt:s1 attach:s1 destroy:s1" },
        { "attach:abort destroy:s1", "attach:bypass destroy:s1",
          "hwpt:s1 attach:s1 destroy:s1", "" },
    };

    for (int from = 0; from < 4; from++) {
        for (int to = 0; to < 4; to++) {
            Bed bed;
            SMMUv3AccelStream *stream;

            bed_init(&bed);
            stream = new_stream(&bed, 0);
            /* Allocates the vDEVICE, which stays as long as the StreamID */
            apply(stream, 0x100, &to_s1);
            apply(stream, 0x100, decisions[from]);
            rec_forget(bed.host);
            apply(stream, 0x100, decisions[to]);
            expect_story(bed.host, stories[from][to]);
            expect_on(stream, decisions[to]);
            check_books(&bed);
            /* Again: nothing to do */
            rec_forget(bed.host);
            apply(stream, 0x100, decisions[to]);
            expect_story(bed.host, "");
            rec_stream_free(stream);
            bed_fini(&bed);
        }
    }
}

/* The first move leaves VFIO's stage 2, even for a bypass */
static void test_first_move(void)
{
    static const char *const stories[4] = {
        "attach:abort", "attach:bypass", "vdevice:100 hwpt:s1 attach:s1",
        "vdevice:100 hwpt:s1 attach:s1",
    };

    for (int to = 0; to < 4; to++) {
        Bed bed;
        SMMUv3AccelStream *stream;

        bed_init(&bed);
        stream = new_stream(&bed, 0);
        rec_forget(bed.host);
        apply(stream, 0x100, decisions[to]);
        expect_story(bed.host, stories[to]);
        expect_on(stream, decisions[to]);
        check_books(&bed);
        rec_stream_free(stream);
        bed_fini(&bed);
    }
}

/* The first decision is applied even if all of it is 0 */
static void test_first_move_is_made(void)
{
    const SMMUv3AccelDecision zeroes = {};
    SMMUv3AccelStream *stream;
    Bed bed;

    bed_init(&bed);
    stream = new_stream(&bed, 0);
    rec_forget(bed.host);
    apply(stream, 0, &zeroes);
    expect_story(bed.host, "attach:abort");
    rec_stream_free(stream);
    bed_fini(&bed);
}

/* A fault concerns the guest; the host has nothing to do */
static void test_fault_is_no_move(void)
{
    SMMUv3AccelDecision bad_ste = to_abort;
    Bed bed;
    SMMUv3AccelStream *stream;

    bad_ste.fault = SMMUV3_ACCEL_FAULT_BAD_STE;
    bed_init(&bed);
    stream = new_stream(&bed, 0);
    apply(stream, 0x100, &to_abort);
    rec_forget(bed.host);
    apply(stream, 0x100, &bad_ste);
    expect_story(bed.host, "");
    rec_stream_free(stream);
    bed_fini(&bed);
}

static void test_new_streamid(void)
{
    static const char *const stories[4] = {
        "attach:abort destroy:s1 destroy:vdevice",
        "attach:abort destroy:s1 destroy:vdevice attach:bypass",
        "attach:abort destroy:s1 destroy:vdevice vdevice:200 hwpt:s1 attach:s1",
        "attach:abort destroy:s1 destroy:vdevice vdevice:200 hwpt:s1 attach:s1",
    };

    for (int to = 0; to < 4; to++) {
        Bed bed;
        SMMUv3AccelStream *stream;

        bed_init(&bed);
        stream = new_stream(&bed, 0);
        apply(stream, 0x100, &to_s1);
        rec_forget(bed.host);
        apply(stream, 0x200, decisions[to]);
        expect_story(bed.host, stories[to]);
        expect_on(stream, decisions[to]);
        check_books(&bed);
        rec_stream_free(stream);
        bed_fini(&bed);
    }
}

/* Without a vDEVICE nothing carries the old StreamID */
static void test_new_streamid_without_vdevice(void)
{
    Bed bed;
    SMMUv3AccelStream *stream;

    bed_init(&bed);
    stream = new_stream(&bed, 0);
    apply(stream, 0, &to_bypass);
    rec_forget(bed.host);
    apply(stream, 0x300, &to_bypass);
    expect_story(bed.host, "");
    apply(stream, 0x300, &to_s1);
    expect_story(bed.host, "vdevice:300 hwpt:s1 attach:s1");
    rec_stream_free(stream);
    bed_fini(&bed);
}

/*
 * At machine start all bus numbers are 0, so endpoints of different root ports
 * share a StreamID.  This works while none of them translates.
 */
static void test_equal_streamids(void)
{
    Bed bed;
    SMMUv3AccelStream *s0, *s1;
    Error *err = NULL;
    int ret;

    bed_init(&bed);
    s0 = new_stream(&bed, 0);
    s1 = new_stream(&bed, 1);
    apply(s0, 0, &to_bypass);
    apply(s1, 0, &to_bypass);
    apply(s0, 0, &to_s1);
    check_books(&bed);

    /* Only one stream per StreamID can translate: the second aborts */
    ret = smmuv3_accel_stream_apply(s1, 0, &to_other_s1, &err);
    g_assert_cmpint(ret, ==, -EEXIST);
    g_assert_true(strstr(error_get_pretty(err), "dev1") != NULL);
    g_assert_true(strstr(error_get_pretty(err), "StreamID 0x0") != NULL);
    error_free(err);
    expect_on(s1, &to_abort);
    expect_on(s0, &to_s1);
    g_assert_true(smmuv3_accel_stream_pending(s1));
    check_books(&bed);

    /* It can translate with its own StreamID, or when the other is gone */
    apply(s1, 0x100, &to_other_s1);
    expect_on(s1, &to_other_s1);
    g_assert_false(smmuv3_accel_stream_pending(s1));
    rec_stream_free(s0);
    apply(s1, 0, &to_other_s1);
    check_books(&bed);
    rec_stream_free(s1);
    bed_fini(&bed);
}

/* The guest swaps the numbers of two buses: in the end both translate */
static void test_swapped_streamids(void)
{
    Bed bed;
    SMMUv3AccelStream *s0, *s1;

    bed_init(&bed);
    s0 = new_stream(&bed, 0);
    s1 = new_stream(&bed, 1);
    apply(s0, 0x100, &to_s1);
    apply(s1, 0x200, &to_other_s1);

    smmuv3_accel_stream_apply(s0, 0x200, &to_other_s1, NULL);
    check_books(&bed);
    if (!is_on(s0, &to_other_s1)) {
        expect_on(s0, &to_abort);
        g_assert_true(smmuv3_accel_stream_pending(s0));
    }
    apply(s1, 0x100, &to_s1);
    apply(s0, 0x200, &to_other_s1);
    expect_on(s0, &to_other_s1);
    expect_on(s1, &to_s1);
    check_books(&bed);
    rec_stream_free(s0);
    rec_stream_free(s1);
    bed_fini(&bed);
}

static void expect_no_stream(Bed *bed, SMMUv3HostDevice *dev, const char *text)
{
    Error *err = NULL;

    rec_forget(bed->host);
    g_assert_null(rec_stream_new(&bed->vsmmu, dev, &dev->info, &err));
    g_assert_nonnull(err);
    if (!strstr(error_get_pretty(err), text)) {
        g_error("'%s' does not contain '%s'", error_get_pretty(err), text);
    }
    error_free(err);
    expect_story(bed->host, "");
    check_books(bed);
}

static void test_strangers(void)
{
    Bed bed;
    SMMUv3Host *other = rec_host_new();
    SMMUv3HostDevice elsewhere, apart;
    SMMUv3AccelStream *stream;

    bed_init(&bed);
    rec_device_init(&elsewhere, other, "elsewhere", rec_stage2_new(other));
    rec_device_init(&apart, bed.host, "apart", rec_stage2_new(bed.host));
    stream = new_stream(&bed, 0);
    expect_no_stream(&bed, &elsewhere, "same iommufd=");
    expect_no_stream(&bed, &apart, "another physical SMMUv3");
    g_assert_cmpuint(other->events->len, ==, 0);

    /* Both are accepted when no other device is behind the SMMU */
    rec_stream_free(stream);
    stream = rec_stream_new(&bed.vsmmu, &elsewhere, &elsewhere.info,
                                     &error_abort);
    apply(stream, 0x100, &to_s1);
    rec_stream_free(stream);
    stream = rec_stream_new(&bed.vsmmu, &apart, &apart.info,
                                     &error_abort);
    apply(stream, 0x100, &to_s1);
    rec_stream_free(stream);
    rec_host_free(other);
    bed_fini(&bed);
}

/*
 * Every call fails once
 */

static const int errnos[] = {
    -EBUSY, -EEXIST, -EINVAL, -EIO, -ENODEV, -ENOENT, -ENOMEM, -EOPNOTSUPP,
};

static void test_new_fails(void)
{
    for (int e = 0; e < ARRAY_SIZE(errnos); e++) {
        for (int nth = 1; nth <= 3; nth++) {
            Bed bed;
            RecFailNth fail = { .nth = nth, .err = errnos[e] };
            SMMUv3AccelStream *stream;
            Error *err = NULL;

            bed_init(&bed);
            bed.host->inject = rec_fail_nth;
            bed.host->opaque = &fail;
            stream = rec_stream_new(&bed.vsmmu, &bed.dev[0],
                                             &bed.dev[0].info, &err);
            g_assert_cmpuint(fail.nth, ==, 0);
            g_assert_null(stream);
            g_assert_nonnull(err);
            error_free(err);
            check_books(&bed);
            g_assert_true(bed.dev[0].attached->kind == REC_STAGE2);

            stream = new_stream(&bed, 0);
            apply(stream, 0x100, &to_s1);
            check_books(&bed);
            rec_stream_free(stream);
            bed_fini(&bed);
        }
    }
}

/*
 * Apply @to with StreamID @sid to a stream that is on @from with StreamID
 * 0x100, while the @nth call fails.  Returns false if there are fewer calls.
 */
static bool apply_fails(const SMMUv3AccelDecision *from, uint32_t sid,
                        const SMMUv3AccelDecision *to, int nth, int error)
{
    RecFailNth fail = { .nth = nth, .err = error };
    SMMUv3AccelStream *stream;
    Error *err = NULL;
    bool spent;
    Bed bed;
    int ret;

    bed_init(&bed);
    stream = new_stream(&bed, 0);
    apply(stream, 0x100, &to_s1);
    apply(stream, 0x100, from);
    rec_forget(bed.host);

    bed.host->inject = rec_fail_nth;
    bed.host->opaque = &fail;
    ret = smmuv3_accel_stream_apply(stream, sid, to, &err);
    spent = !fail.nth;
    bed.host->inject = NULL;

    check_books(&bed);
    g_assert_cmpint(ret, ==, spent ? error : 0);
    g_assert_cmpint(stream->error, ==, ret);
    g_assert_cmpint(!!err, ==, !!ret);
    g_assert_true(smmuv3_accel_decision_equal(&stream->want, to));
    if (spent) {
        g_autofree char *who = g_strdup_printf("dev0: cannot move StreamID "
                                               "0x%x to %s: ", sid,
                                       smmuv3_accel_action_name(to->action));

        if (!g_str_has_prefix(error_get_pretty(err), who)) {
            g_error("'%s' does not begin with '%s'", error_get_pretty(err),
                    who);
        }
        /*
         * The stream aborts, unless the abort itself has failed: as the move,
         * or as the parking before a new StreamID.  Then the device is
         * detached.
         */
        if (to->action != SMMUV3_ACCEL_ABORT && !(sid != 0x100 && nth == 1)) {
            expect_on(stream, &to_abort);
        } else {
            g_assert_null(rec_attached_ste(stream->dev));
            g_assert_false(stream->attached);
        }
        g_assert_true(smmuv3_accel_stream_pending(stream));
    }
    error_free(err);

    /* The same again without a failure */
    apply(stream, sid, to);
    expect_on(stream, to);
    check_books(&bed);
    if (to->action == SMMUV3_ACCEL_TRANSLATE) {
        g_assert_cmphex(bed.dev[0].vdevice->sid, ==, sid);
    }

    rec_stream_free(stream);
    bed_fini(&bed);
    return spent;
}

static void test_apply_fails(void)
{
    unsigned failures = 0;

    for (int from = 0; from < 4; from++) {
        for (int to = 0; to < 4; to++) {
            for (uint32_t sid = 0x100; sid <= 0x200; sid += 0x100) {
                for (int e = 0; e < ARRAY_SIZE(errnos); e++) {
                    for (int nth = 1; apply_fails(decisions[from], sid,
                                                  decisions[to], nth,
                                                  errnos[e]); nth++) {
                        failures++;
                    }
                }
            }
        }
    }
    g_assert_cmpuint(failures, >, 300);
}

/* The first move of all fails: the device never stays on VFIO's stage 2 */
static void test_first_move_fails(void)
{
    for (int to = 0; to < 4; to++) {
        for (int nth = 1; ; nth++) {
            RecFailNth fail = { .nth = nth, .err = -ENOMEM };
            SMMUv3AccelStream *stream;
            Bed bed;
            int ret;

            bed_init(&bed);
            stream = new_stream(&bed, 0);
            bed.host->inject = rec_fail_nth;
            bed.host->opaque = &fail;
            ret = smmuv3_accel_stream_apply(stream, 0x100, decisions[to], NULL);
            bed.host->inject = NULL;
            check_books(&bed);
            g_assert_cmpint(ret, ==, fail.nth ? 0 : -ENOMEM);
            if (ret && to) {
                expect_on(stream, &to_abort);
            } else if (ret) {
                g_assert_false(stream->attached);
            }
            apply(stream, 0x100, decisions[to]);
            expect_on(stream, decisions[to]);
            rec_stream_free(stream);
            bed_fini(&bed);
            if (fail.nth) {
                break;
            }
        }
    }
}

/*
 * While the host resets any device of the IOMMU group every attach fails.  The
 * stream must not keep what it had, however long that lasts.
 */
static int no_attach(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    return call->call == REC_ATTACH ? -EBUSY : 0;
}

static void test_no_attach_at_all(void)
{
    for (int from = 0; from < 4; from++) {
        for (int to = 0; to < 4; to++) {
            for (uint32_t sid = 0x100; sid <= 0x200; sid += 0x100) {
                SMMUv3AccelStream *stream;
                Bed bed;
                int ret;
                bool moves = from != to || sid != 0x100;

                bed_init(&bed);
                stream = new_stream(&bed, 0);
                apply(stream, 0x100, &to_s1);
                apply(stream, 0x100, decisions[from]);
                bed.host->inject = no_attach;
                for (int again = 0; again < 1000; again++) {
                    rec_forget(bed.host);
                    ret = smmuv3_accel_stream_apply(stream, sid, decisions[to],
                                                    NULL);
                    g_assert_cmpint(ret, ==, moves ? -EBUSY : 0);
                    g_assert_cmpint(smmuv3_accel_stream_pending(stream), ==,
                                    moves);
                    if (moves) {
                        g_assert_null(bed.dev[0].attached);
                    } else {
                        expect_on(stream, decisions[from]);
                    }
                    /* Later attempts make no call more than they must */
                    g_assert_true(!again || bed.host->calls <= 2);
                    check_books(&bed);
                }
                bed.host->inject = NULL;
                apply(stream, sid, decisions[to]);
                expect_on(stream, decisions[to]);
                check_books(&bed);
                rec_stream_free(stream);
                bed_fini(&bed);
            }
        }
    }
}

/*
 * For all vSMMUs of a VMID: a call, and with the erratum another one.  If one
 * of them fails the vSMMU is stale.
 */
static int nth_invalidation_fails(SMMUv3Host *host, const RecEvent *call,
                                  void *opaque)
{
    unsigned *nth = opaque;

    return call->call == REC_INVALIDATE && !--*nth ? -ENOMEM : 0;
}

static void test_invalidate_vmid(void)
{
    for (unsigned calls = 1; calls <= 2; calls++) {
        for (unsigned nth = 1; nth <= 3; nth++) {
            unsigned fails = nth;
            SMMUv3AccelStream *stream;
            Bed bed;
            int ret;

            bed_init(&bed);
            bed.dev[0].info.repeat = calls == 2;
            stream = new_stream(&bed, 0);
            bed.host->inject = nth_invalidation_fails;
            bed.host->opaque = &fails;
            rec_forget(bed.host);
            ret = smmuv3_accel_vsmmu_invalidate_vmid(&bed.vsmmu);
            g_assert_cmpint(ret, ==, nth <= calls ? -ENOMEM : 0);
            g_assert_cmpint(bed.vsmmu.stale, ==, nth <= calls);
            g_assert_cmpuint(bed.host->calls, ==, MIN(nth, calls));
            rec_stream_free(stream);
            bed_fini(&bed);
        }
    }
}

/* A new device never stays on VFIO's stage 2, where it would bypass */
static void test_new_no_attach(void)
{
    for (int to = 0; to < 4; to++) {
        SMMUv3AccelStream *stream;
        Bed bed;

        bed_init(&bed);
        stream = new_stream(&bed, 0);
        bed.host->inject = no_attach;
        g_assert_cmpint(smmuv3_accel_stream_apply(stream, 0x100, decisions[to],
                                                  NULL), ==, -EBUSY);
        g_assert_null(bed.dev[0].attached);
        check_books(&bed);
        bed.host->inject = NULL;
        apply(stream, 0x100, decisions[to]);
        expect_on(stream, decisions[to]);
        check_books(&bed);
        rec_stream_free(stream);
        bed_fini(&bed);
    }
}

/* The guest reverts a failed move: no error is left */
static void test_failure_taken_back(void)
{
    SMMUv3AccelStream *stream;
    Bed bed;

    bed_init(&bed);
    stream = new_stream(&bed, 0);
    apply(stream, 0x100, &to_s1);
    bed.host->inject = no_attach;
    g_assert_cmpint(smmuv3_accel_stream_apply(stream, 0x100, &to_bypass, NULL),
                    ==, -EBUSY);
    g_assert_null(bed.dev[0].attached);
    bed.host->inject = NULL;
    rec_forget(bed.host);
    apply(stream, 0x100, &to_s1);
    expect_story(bed.host, "hwpt:s1 attach:s1 destroy:s1");
    expect_on(stream, &to_s1);
    g_assert_false(smmuv3_accel_stream_pending(stream));
    rec_stream_free(stream);
    bed_fini(&bed);
}

/* How many ATC_INVs are among the commands that invalidate everything */
static unsigned n_atc_invs(SMMUv3AccelVsmmu *vsmmu)
{
    unsigned n, atc = 0;
    g_autofree SMMUv3HostCmd *cmd = smmuv3_accel_vsmmu_everything(vsmmu, &n);

    while (n--) {
        atc += (le64_to_cpu(cmd[n].word[0]) & 0xff) == ATC_INV;
    }
    return atc;
}

/* A device that the host resets is detached, and would answer no ATC_INV */
static void test_detached_caches_nothing(void)
{
    static const SMMUv3AccelDecision to_ats = {
        .action = SMMUV3_ACCEL_TRANSLATE, .ste = { STE_S1(3), 0x100000d4 },
    };
    SMMUv3AccelStream *s0, *s1;
    Bed bed;

    bed_init(&bed);
    s0 = new_stream(&bed, 0);
    s1 = new_stream(&bed, 1);
    apply(s0, 0x100, &to_ats);
    apply(s1, 0x200, &to_ats);
    g_assert_cmpuint(n_atc_invs(&bed.vsmmu), ==, 2);
    bed.host->inject = no_attach;
    g_assert_cmpint(smmuv3_accel_stream_apply(s0, 0x100, &to_bypass, NULL), ==,
                    -EBUSY);
    g_assert_null(bed.dev[0].attached);
    g_assert_false(smmuv3_accel_stream_caches(s0));
    g_assert_true(smmuv3_accel_stream_caches(s1));
    g_assert_cmpuint(n_atc_invs(&bed.vsmmu), ==, 1);
    bed.host->inject = NULL;
    apply(s0, 0x100, &to_ats);
    g_assert_cmpuint(n_atc_invs(&bed.vsmmu), ==, 2);
    rec_stream_free(s0);
    rec_stream_free(s1);
    bed_fini(&bed);
}

static int no_detach(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    return call->call == REC_DETACH ? -ENODEV : 0;
}

/* The host has lost the device already: the stream is removed anyway */
static void test_detach_fails(void)
{
    SMMUv3AccelStream *s0, *s1;
    Bed bed;

    bed_init(&bed);
    s0 = new_stream(&bed, 0);
    s1 = new_stream(&bed, 1);
    apply(s0, 0x100, &to_bypass);
    apply(s1, 0x200, &to_s1);
    bed.host->inject = no_detach;
    rec_stream_free(s0);
    bed.host->inject = NULL;
    rec_device_release(&bed.dev[0]);

    /* The other stream is not affected */
    check_books(&bed);
    apply(s1, 0x200, &to_other_s1);
    rec_stream_free(s1);
    bed_fini(&bed);
}

/*
 * A random guest over a host that fails at random
 */

static int at_random(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    if (call->call == REC_DETACH || g_test_rand_int_range(0, 4)) {
        return 0;
    }
    return errnos[g_test_rand_int_range(0, ARRAY_SIZE(errnos))];
}

/* The device may be on nothing, on the wanted attachment or on abort */
static void check_allowed(SMMUv3AccelStream *stream,
                          const SMMUv3AccelDecision *before, int ret)
{
    if (!stream->attached || is_on(stream, &stream->want) ||
        is_on(stream, &to_abort)) {
        return;
    }
    /* The old attachment may stay only if every attach has failed */
    expect_on(stream, before);
    g_assert_cmpint(ret, !=, 0);
}

static void test_random(void)
{
    for (int round = 0; round < 300; round++) {
        SMMUv3AccelStream *streams[DEVICES] = {};
        Bed bed;

        bed_init(&bed);
        for (int step = 0; step < 60; step++) {
            int i = g_test_rand_int_range(0, DEVICES);
            uint32_t sid = g_test_rand_int_range(0, 4) << 8;
            const SMMUv3AccelDecision *d =
                decisions[g_test_rand_int_range(0, 4)];

            bed.host->inject = g_test_rand_bit() ? at_random : NULL;
            if (!streams[i]) {
                streams[i] = rec_stream_new(&bed.vsmmu, &bed.dev[i],
                                                     &bed.dev[i].info, NULL);
            } else if (!g_test_rand_int_range(0, 10)) {
                rec_stream_free(streams[i]);
                streams[i] = NULL;
            } else {
                SMMUv3AccelDecision before = streams[i]->now;
                int ret = smmuv3_accel_stream_apply(streams[i], sid, d, NULL);

                check_allowed(streams[i], &before, ret);
            }
            check_books(&bed);
        }
        /* Without failures and equal StreamIDs, all is as the guest wants */
        bed.host->inject = NULL;
        for (int i = 0; i < DEVICES; i++) {
            if (streams[i]) {
                apply(streams[i], (i + 8) << 8, &to_s1);
                expect_on(streams[i], &to_s1);
            }
        }
        for (int i = 0; i < DEVICES; i++) {
            if (streams[i]) {
                rec_stream_free(streams[i]);
            }
        }
        bed_fini(&bed);
    }
}

#define MANY 4096

typedef struct Crowd {
    SMMUv3HostDevice dev[MANY];
    SMMUv3AccelStream *stream[MANY];
} Crowd;

static Crowd *crowd_new(Bed *bed, int n)
{
    Crowd *crowd = g_new0(Crowd, 1);

    for (int i = 0; i < n; i++) {
        rec_device_init(&crowd->dev[i], bed->host, "dev", bed->stage2);
        crowd->stream[i] = rec_stream_new(&bed->vsmmu,
                                                   &crowd->dev[i],
                                                   &crowd->dev[i].info,
                                                   &error_abort);
        apply(crowd->stream[i], i * 16, &to_bypass);
    }
    return crowd;
}

static void crowd_free(Crowd *crowd, int n)
{
    for (int i = 0; i < n; i++) {
        rec_stream_free(crowd->stream[i]);
    }
    g_free(crowd);
}

/* Each of 4096 streams is found under its StreamID and no other, and moves */
static void test_find(void)
{
    Crowd *crowd;
    Bed bed;

    bed_init(&bed);
    g_assert_null(smmuv3_accel_vsmmu_find(&bed.vsmmu, 0));
    crowd = crowd_new(&bed, MANY);
    g_assert_cmpuint(bed.vsmmu.n_streams, ==, MANY);
    for (uint32_t sid = 0; sid < SMMUV3_ACCEL_SIDS + 0x100; sid++) {
        SMMUv3AccelStream *want = sid % 16 || sid >= SMMUV3_ACCEL_SIDS
                                  ? NULL : crowd->stream[sid / 16];

        g_assert_true(smmuv3_accel_vsmmu_find(&bed.vsmmu, sid) == want);
    }
    g_assert_null(smmuv3_accel_vsmmu_find(&bed.vsmmu, UINT32_MAX));

    /* Two on one StreamID, and back */
    apply(crowd->stream[7], 0x80, &to_bypass);
    g_assert_null(smmuv3_accel_vsmmu_find(&bed.vsmmu, 0x70));
    g_assert_true(smmuv3_accel_vsmmu_find(&bed.vsmmu, 0x80) ==
                  crowd->stream[7]);
    g_assert_true(QLIST_NEXT(crowd->stream[7], next_of_sid) ==
                  crowd->stream[8]);
    g_assert_null(QLIST_NEXT(crowd->stream[8], next_of_sid));
    apply(crowd->stream[8], 0xffff, &to_bypass);
    g_assert_true(smmuv3_accel_vsmmu_find(&bed.vsmmu, 0xffff) ==
                  crowd->stream[8]);
    g_assert_null(QLIST_NEXT(crowd->stream[7], next_of_sid));

    crowd_free(crowd, MANY);
    for (uint32_t sid = 0; sid < SMMUV3_ACCEL_SIDS; sid++) {
        g_assert_null(smmuv3_accel_vsmmu_find(&bed.vsmmu, sid));
    }
    bed_fini(&bed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/smmuv3-accel/stream/life", test_life);
    g_test_add_func("/smmuv3-accel/stream/moves-without-a-gap", test_moves);
    g_test_add_func("/smmuv3-accel/stream/first-move", test_first_move);
    g_test_add_func("/smmuv3-accel/stream/first-move-is-made",
                    test_first_move_is_made);
    g_test_add_func("/smmuv3-accel/stream/a-fault-is-no-move",
                    test_fault_is_no_move);
    g_test_add_func("/smmuv3-accel/stream/new-streamid", test_new_streamid);
    g_test_add_func("/smmuv3-accel/stream/new-streamid-without-vdevice",
                    test_new_streamid_without_vdevice);
    g_test_add_func("/smmuv3-accel/stream/equal-streamids",
                    test_equal_streamids);
    g_test_add_func("/smmuv3-accel/stream/swapped-streamids",
                    test_swapped_streamids);
    g_test_add_func("/smmuv3-accel/stream/strangers-are-refused",
                    test_strangers);
    g_test_add_func("/smmuv3-accel/stream/new-fails", test_new_fails);
    g_test_add_func("/smmuv3-accel/stream/apply-fails", test_apply_fails);
    g_test_add_func("/smmuv3-accel/stream/first-move-fails",
                    test_first_move_fails);
    g_test_add_func("/smmuv3-accel/stream/no-attach-at-all",
                    test_no_attach_at_all);
    g_test_add_func("/smmuv3-accel/stream/new-no-attach",
                    test_new_no_attach);
    g_test_add_func("/smmuv3-accel/stream/failure-taken-back",
                    test_failure_taken_back);
    g_test_add_func("/smmuv3-accel/stream/detached-caches-nothing",
                    test_detached_caches_nothing);
    g_test_add_func("/smmuv3-accel/stream/detach-fails", test_detach_fails);
    g_test_add_func("/smmuv3-accel/stream/invalidate-vmid",
                    test_invalidate_vmid);
    g_test_add_func("/smmuv3-accel/stream/random", test_random);
    g_test_add_func("/smmuv3-accel/stream/find", test_find);
    return g_test_run();
}
