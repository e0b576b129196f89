/*
 * Accelerated SMMUv3: how the guest's invalidations reach the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Two questions about a prepared command: does a host accept it, by Linux's
 * rules for commands from user space, and does it invalidate all that the guest
 * asked for?  And one about a flush: do the host's caches still hold an entry
 * that the guest has invalidated, and that a stream may still use?
 */

#include "qemu/osdep.h"
#include <float.h>
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qapi/error.h"
#include "hw/arm/smmuv3-accel-batch.h"
#include "hw/misc/smmuv3-recorder.h"

/* Opcodes, IHI 0070 4.1.1 */
#define CFGI_STE        0x03
#define CFGI_CD         0x05
#define CFGI_CD_ALL     0x06
#define NH_ALL          0x10
#define NH_ASID         0x11
#define NH_VA           0x12
#define NH_VAA          0x13
#define NSNH_ALL        0x30
#define ATC_INV         0x40
#define SYNC            0x46

static const uint8_t forwarded[] = {
    CFGI_CD, CFGI_CD_ALL, NH_ALL, NH_ASID, NH_VA, NH_VAA, NSNH_ALL, ATC_INV,
};

#define SSEC            (1ull << 10)

static unsigned opcode(const uint64_t w[2])
{
    return w[0] & 0xff;
}

static bool names_stream(unsigned op)
{
    return op == CFGI_CD || op == CFGI_CD_ALL || op == ATC_INV;
}

/*
 * What a host accepts
 */

typedef struct HostFeatures {
    bool ril, asid16, ats, ds;
    unsigned ssidsize;
} HostFeatures;

#define VMID            0x0000ffff00000000ull
#define ASID8           0x00ff000000000000ull
#define ASID16          0xffff000000000000ull
#define SID             0xffffffff00000000ull
#define SSID            0x00000000fffff000ull
#define PAGE            0xfffffffffffff000ull

/* Features of a host that a field needs */
enum { RIL = 1, DS = 2, WIDE_ASID = 4, SSIDS = 8, ATS = 16 };

/* The bits of each command that a host with these features accepts */
static const struct {
    uint8_t op, needs;
    uint64_t word[2];
} accepted[] = {
    { CFGI_CD, 0, { SID, 1 } },
    { CFGI_CD, SSIDS, { SSID } },
    { CFGI_CD_ALL, 0, { SID } },
    { NH_ALL, 0, { VMID } },
    { NH_ASID, 0, { VMID | ASID8 } },
    { NH_ASID, WIDE_ASID, { ASID16 } },
    { NH_VA, 0, { VMID | ASID8, PAGE | 1 } },
    { NH_VA, WIDE_ASID, { ASID16 } },
    { NH_VA, RIL, { 0x1f << 12 | 0x1f << 20, 0xf00 } },
    { NH_VA, RIL | DS, { 1 << 25 } },
    { NH_VAA, 0, { VMID, PAGE | 1 } },
    { NH_VAA, RIL, { 0x1f << 12 | 0x1f << 20, 0xf00 } },
    { NH_VAA, RIL | DS, { 1 << 25 } },
    { NSNH_ALL },
    { ATC_INV, ATS, { SID, PAGE | 0x3f } },
    { ATC_INV, ATS | SSIDS, { SSID | 1 << 11 | 1 << 9 } },
};

static bool value_is_reserved(const HostFeatures *host, const uint64_t w[2])
{
    /* Bit mask of the valid TTLs, by range or not and by TG */
    static const uint8_t ttls[2][4] = {
        { 0x1, 0xe, 0xe, 0xe }, { 0x0, 0xf, 0xf, 0xf },
    };
    unsigned ttl = w[1] >> 8 & 3, tg = w[1] >> 10 & 3;
    bool range = w[0] & (0x1f << 12 | 0x3f << 20);

    if (opcode(w) == ATC_INV) {
        return (w[1] & 0x3f) > 52;
    }
    return (opcode(w) == NH_VA || opcode(w) == NH_VAA) && host->ril &&
           (!(ttls[range][tg] >> ttl & 1) ||
            (tg == 2 && ttl == 1 && !host->ds));
}

static bool host_takes(const HostFeatures *host, const uint64_t w[2])
{
    unsigned has = (host->ril ? RIL : 0) | (host->ds ? DS : 0) |
                   (host->asid16 ? WIDE_ASID : 0) |
                   (host->ssidsize ? SSIDS : 0) | (host->ats ? ATS : 0);
    uint64_t rest[2] = { w[0] & ~0xffull, w[1] };
    bool known = false;

    for (unsigned i = 0; i < ARRAY_SIZE(accepted); i++) {
        if (accepted[i].op == opcode(w) && !(accepted[i].needs & ~has)) {
            known = true;
            rest[0] &= ~accepted[i].word[0];
            rest[1] &= ~accepted[i].word[1];
        }
    }
    return known && !rest[0] && !rest[1] && !value_is_reserved(host, w);
}

/*
 * What a command invalidates
 */

typedef struct Reach {
    bool every_asid, every_va;
    unsigned asid;
    uint64_t first, last;       /* addresses */
    unsigned level;             /* TTL; 0 is all of them */
    bool leaf;                  /* last-level entries, or leaf CDs, only */
    uint32_t sid;
    uint64_t substream;         /* the fields SSV, SSID and Global */
} Reach;

/* How an SMMU with these features reads @w; @scale_bits is 6 with IDR5.DS */
static Reach reach_of(const uint64_t w[2], bool ril, bool asid16,
                      unsigned ssidsize, bool ds)
{
    Reach r = { .every_va = true, .every_asid = true };
    unsigned tg = ril ? w[1] >> 10 & 3 : 0;
    unsigned ttl = tg ? w[1] >> 8 & 3 : 0;
    unsigned num = tg ? w[0] >> 12 & 0x1f : 0;
    unsigned scale = tg ? w[0] >> 20 & (ds ? 0x3f : 0x1f) : 0;
    unsigned size = w[1] & 0x3f;

    switch (opcode(w)) {
    case NH_VA:
    case NH_VAA:
        r.every_va = false;
        r.leaf = w[1] & 1;
        r.first = w[1] & ~0xfffull;
        r.last = r.first | 0xfff;
        if (num || scale) {
            unsigned shift = 10 + 2 * tg;
            unsigned __int128 end;

            r.first &= ~((1ull << shift) - 1);
            end = (unsigned __int128)r.first +
                  ((unsigned __int128)(num + 1) << scale << shift) - 1;
            r.last = MIN(end, UINT64_MAX);
        }
        /* A TTL that the granule does not have means all levels */
        r.level = tg == 2 && ttl == 1 && !ds ? 0 : ttl;
        if (opcode(w) == NH_VAA) {
            break;
        }
        /* fall through */
    case NH_ASID:
        r.every_asid = false;
        r.asid = w[0] >> 48 & (asid16 ? 0xffff : 0xff);
        break;
    case ATC_INV:
        r.sid = w[0] >> 32;
        r.substream = ssidsize ? w[0] & 0xfffffa00 : 0;
        if (size < 52) {
            r.every_va = false;
            r.first = w[1] & ~((0x1000ull << size) - 1);
            r.last = r.first | ((0x1000ull << size) - 1);
        }
        break;
    case CFGI_CD:
        r.leaf = w[1] & 1;
        r.substream = ssidsize ? w[0] & 0xfffff000 : 0;
        r.sid = w[0] >> 32;
        break;
    case CFGI_CD_ALL:
        r.sid = w[0] >> 32;
        break;
    }
    return r;
}

static bool covers(const Reach *all, const Reach *part)
{
    return (all->every_asid ||
            (!part->every_asid && all->asid == part->asid)) &&
           (all->every_va ||
            (!part->every_va && all->first <= part->first &&
             all->last >= part->last)) &&
           (!all->level || all->level == part->level) &&
           (!all->leaf || part->leaf) &&
           all->sid == part->sid && all->substream == part->substream;
}

/*
 * One command
 */

static void complain(const SMMUv3AccelCmdRules *t, const uint64_t in[2],
                     const SMMUv3HostCmd *out, SMMUv3AccelCmdKind kind,
                     const char *what)
{
    g_error("%s: command 0x%016" PRIx64 " 0x%016" PRIx64 " became 0x%016" PRIx64
            " 0x%016" PRIx64 ", kind %d; guest RIL=%d ASID16=%d ATS=%d "
            "SSIDSIZE=%u SMMUEN=%d DS=%d", what, in[0], in[1],
            le64_to_cpu(out->word[0]), le64_to_cpu(out->word[1]), kind, t->ril,
            t->asid16, t->ats, t->ssidsize, t->smmuen, t->ds);
}

static SMMUv3AccelCmdKind expected_kind(const SMMUv3AccelCmdRules *t,
                                        const uint64_t in[2])
{
    unsigned op = opcode(in);

    /* PREFETCH_* and CFGI_* have SSec; there is no Secure state */
    if ((op >= 1 && op <= CFGI_CD_ALL && (in[0] & SSEC)) ||
        (op == ATC_INV && !t->ats)) {
        return SMMUV3_ACCEL_CMD_ILLEGAL;
    }
    if (op == ATC_INV && !t->smmuen) {
        return SMMUV3_ACCEL_CMD_IGNORED;
    }
    if (op == SYNC) {
        return (in[0] >> 12 & 3) == 3 ? SMMUV3_ACCEL_CMD_ILLEGAL
                                      : SMMUV3_ACCEL_CMD_LOCAL;
    }
    if (op >= 1 && op <= 4) {
        return SMMUV3_ACCEL_CMD_LOCAL;
    }
    if (!memchr(forwarded, op, sizeof(forwarded))) {
        return SMMUV3_ACCEL_CMD_ILLEGAL;
    }
    return names_stream(op) ? SMMUV3_ACCEL_CMD_STREAM : SMMUV3_ACCEL_CMD_TLB;
}

/*
 * Does every host accept @w that may be behind a guest with rules @t?  Such a
 * host has all features that the guest sees, and may have more.
 */
static bool every_host_takes(const SMMUv3AccelCmdRules *t, const uint64_t w[2])
{
    for (int more = 0; more < 32; more++) {
        HostFeatures host = {
            .ril = t->ril || (more & 1), .asid16 = t->asid16 || (more & 2),
            .ats = t->ats || (more & 4),
            .ssidsize = t->ssidsize ?: more & 8 ? 20 : 0,
            .ds = t->ds || (more & 16),
        };

        if (!host_takes(&host, w)) {
            return false;
        }
    }
    return true;
}

static void check_command(const SMMUv3AccelCmdRules *t, const uint64_t in[2])
{
    SMMUv3HostCmd out = { { cpu_to_le64(~0ull), cpu_to_le64(~0ull) } };
    SMMUv3AccelCmdKind kind = smmuv3_accel_cmd_prepare(t, in, &out);
    const uint64_t w[2] = {
        le64_to_cpu(out.word[0]), le64_to_cpu(out.word[1]),
    };
    Reach asked, got;

    if (kind != expected_kind(t, in)) {
        complain(t, in, &out, kind, "the kind is wrong");
    }
    if (kind != SMMUV3_ACCEL_CMD_TLB && kind != SMMUV3_ACCEL_CMD_STREAM) {
        return;
    }
    if (!every_host_takes(t, w)) {
        complain(t, in, &out, kind, "a host refuses it");
    }
    asked = reach_of(in, t->ril, t->asid16, t->ssidsize, t->ds);
    got = reach_of(w, t->ril, t->asid16, t->ssidsize, t->ds);
    if (opcode(w) != opcode(in) || !covers(&got, &asked)) {
        complain(t, in, &out, kind, "it invalidates less than the guest asked");
    }
    if (kind == SMMUV3_ACCEL_CMD_STREAM && in[0] >> 32 != w[0] >> 32) {
        complain(t, in, &out, kind, "the StreamID is wrong");
    }
}

static SMMUv3AccelCmdRules rules_nth(unsigned n)
{
    return (SMMUv3AccelCmdRules) {
        .ril = n & 1, .asid16 = n & 2, .ats = n & 4, .ds = n & 8,
        .ssidsize = n & 16 ? 20 : 0, .smmuen = n & 32,
    };
}

#define RULES 64

/* A loop over the bits of a command that never ends is an error, too */
#define WATCHDOG_S 20

static void test_opcodes(void)
{
    alarm(WATCHDOG_S);
    for (unsigned k = 0; k < RULES; k++) {
        SMMUv3AccelCmdRules t = rules_nth(k);

        for (unsigned op = 0; op < 256; op++) {
            const uint64_t plain[2] = { op, 0 };
            const uint64_t full[2] = { ~0xffull | op, ~0ull };
            const uint64_t not_secure[2] = { full[0] & ~SSEC, ~0ull };

            check_command(&t, plain);
            check_command(&t, full);
            check_command(&t, not_secure);
        }
    }
    alarm(0);
}

static void test_ranges(void)
{
    for (unsigned k = 0; k < RULES; k++) {
        SMMUv3AccelCmdRules t = rules_nth(k);

        /* All values of NUM, SCALE with its DS bit, TTL, TG and Leaf */
        for (unsigned n = 0; n < 1u << 16; n++) {
            for (int op = NH_VA; op <= NH_VAA; op++) {
                const uint64_t w[2] = {
                    op | (uint64_t)(n & 0x1f) << 12 |
                    (uint64_t)(n >> 5 & 0x3f) << 20 | 0x1234ull << 48,
                    0x0000ffffdeadb000ull | (n >> 11 & 0xf) << 8 | n >> 15,
                };

                check_command(&t, w);
            }
        }
    }
}

static void test_atc_sizes(void)
{
    for (unsigned k = 0; k < RULES; k++) {
        SMMUv3AccelCmdRules t = rules_nth(k);

        /* All values of Size, G, SSec and SSV */
        for (unsigned n = 0; n < 1u << 9; n++) {
            const uint64_t w[2] = {
                ATC_INV | (uint64_t)(n >> 6) << 9 | 0x12345ull << 12 |
                0xabcdull << 32,
                0x0000ffffdeadbfc0ull | (n & 0x3f),
            };

            check_command(&t, w);
        }
    }
}

/* Each bit alone, set in a plain command and cleared in a full one */
static void test_single_bits(void)
{
    for (unsigned k = 0; k < RULES; k++) {
        SMMUv3AccelCmdRules t = rules_nth(k);

        for (int i = 0; i < sizeof(forwarded); i++) {
            for (int bit = 8; bit < 128; bit++) {
                uint64_t w[2] = { forwarded[i], 0 };

                w[bit / 64] ^= BIT_ULL(bit % 64);
                check_command(&t, w);
                w[0] ^= ~0xffull;
                w[1] ^= ~0ull;
                check_command(&t, w);
                w[0] &= ~SSEC;
                check_command(&t, w);
            }
        }
    }
}

static uint64_t random_word(void)
{
    return (uint64_t)g_test_rand_int() << 32 | (uint32_t)g_test_rand_int();
}

static void test_random_words(void)
{
    for (int i = 0; i < 400000; i++) {
        SMMUv3AccelCmdRules t = rules_nth(g_test_rand_int_range(0, RULES));
        unsigned op = forwarded[g_test_rand_int_range(0, sizeof(forwarded))];
        uint64_t w[2] = { random_word(), random_word() };

        check_command(&t, w);
        w[0] = deposit64(w[0], 0, 8, op);
        check_command(&t, w);
        w[0] &= ~SSEC;
        check_command(&t, w);
        /* Sparse words, too */
        w[0] &= random_word() | 0xff;
        w[1] &= random_word() & random_word();
        check_command(&t, w);
    }
}

/* A clean command is forwarded unchanged */
static void test_clean_commands_stay(void)
{
    static const struct {
        uint64_t in[2];
    } cases[] = {
        { { NSNH_ALL, 0 } },
        { { NH_ALL, 0 } },
        { { NH_ASID | 0xabcdull << 48, 0 } },
        { { NH_VA | 0xabcdull << 48, 0x0000ffffdeadb001ull } },
        { { NH_VAA, 0x0000ffffdeadb000ull } },
        /* 32 << 3 pages of 4K at level 3, 17 of 64K, one block at level 2 */
        { { NH_VA | 31ull << 12 | 3ull << 20 | 7ull << 48,
            0x0000000040000000ull | 1u << 10 | 3u << 8 | 1 } },
        { { NH_VAA | 16ull << 12, 0x0000000040000000ull | 3u << 10 } },
        { { NH_VA, 0x0000000040000000ull | 1u << 10 | 2u << 8 } },
        /* A block of 4K at level 1, one of 16K at level 2 */
        { { NH_VA, 0x0000000040000000ull | 1u << 10 | 1u << 8 } },
        { { NH_VA, 0x0000000040000000ull | 2u << 10 | 2u << 8 } },
        { { CFGI_CD | 5ull << 12 | 0x100ull << 32, 1 } },
        { { CFGI_CD_ALL | 0x100ull << 32, 0 } },
        { { ATC_INV | 1u << 11 | 5ull << 12 | 0x100ull << 32,
            0x0000000040000000ull | 9 } },
        { { ATC_INV | 0x100ull << 32, 52 } },
        { { ATC_INV | 0x100ull << 32, 0x0000000040000000ull | 52 } },
    };
    const SMMUv3AccelCmdRules t = {
        .ril = true, .asid16 = true, .ats = true, .smmuen = true,
        .ssidsize = 8,
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        SMMUv3HostCmd out;
        SMMUv3AccelCmdKind kind = smmuv3_accel_cmd_prepare(&t, cases[i].in,
                                                           &out);

        if (le64_to_cpu(out.word[0]) != cases[i].in[0] ||
            le64_to_cpu(out.word[1]) != cases[i].in[1]) {
            complain(&t, cases[i].in, &out, kind, "changed");
        }
    }
}

static void test_cfgi_cd_all(void)
{
    SMMUv3HostCmd cmd = smmuv3_accel_cmd_cfgi_cd_all(0x1234);

    g_assert_cmphex(le64_to_cpu(cmd.word[0]), ==,
                    CFGI_CD_ALL | 0x1234ull << 32);
    g_assert_cmphex(le64_to_cpu(cmd.word[1]), ==, 0);
}

/*
 * Batches
 */

#define DEVICES 3

typedef struct Bed {
    SMMUv3Host *host;
    SMMUv3HostDevice dev[DEVICES];
    SMMUv3AccelStream *stream[DEVICES];
    SMMUv3AccelVsmmu vsmmu;
    SMMUv3AccelBatch batch;
} Bed;

/* The host has erratum T264-SMMU-3 */
static bool with_erratum;

static uint32_t sid_of(int i)
{
    return (i + 1) << 8;
}

/* Streams that translate: 0 and 1 with ATS, 2 without */
static void bed_init(Bed *bed, bool with_streams)
{
    static const char *const names[DEVICES] = { "dev0", "dev1", "dev2" };
    uint32_t stage2;

    memset(bed, 0, sizeof(*bed));
    bed->host = rec_host_new();
    bed->host->erratum = with_erratum;
    stage2 = rec_stage2_new(bed->host);
    smmuv3_accel_vsmmu_init(&bed->vsmmu, &rec_ops, "smmu0");
    for (int i = 0; with_streams && i < DEVICES; i++) {
        const SMMUv3AccelDecision d = {
            .action = SMMUV3_ACCEL_TRANSLATE,
            .ste = { 0xb | 0x1000ull << i, i < 2 ? 1ull << 28 : 0 },
        };

        rec_device_init(&bed->dev[i], bed->host, names[i], stage2);
        bed->dev[i].info.repeat = with_erratum;
        bed->stream[i] = rec_stream_new(&bed->vsmmu, &bed->dev[i],
                                                 &bed->dev[i].info,
                                                 &error_abort);
        smmuv3_accel_stream_apply(bed->stream[i], sid_of(i), &d, &error_abort);
    }
    rec_forget(bed->host);
}

static void bed_fini(Bed *bed)
{
    bed->host->inject = NULL;
    bed->host->cmd_error = NULL;
    for (int i = 0; i < DEVICES; i++) {
        if (bed->stream[i]) {
            rec_stream_free(bed->stream[i]);
        }
    }
    smmuv3_accel_vsmmu_fini(&bed->vsmmu);
    rec_host_free(bed->host);
}

static bool translates(const Bed *bed, int i)
{
    const uint64_t *ste = rec_attached_ste(&bed->dev[i]);

    return !ste || (ste[0] >> 1 & 7) == 5;
}

static bool aborts(const Bed *bed, int i)
{
    const uint64_t *ste = rec_attached_ste(&bed->dev[i]);

    return ste && (ste[0] & 0xf) == 1;
}

static void add(Bed *bed, uint64_t word0, uint64_t word1, uint32_t cons)
{
    const SMMUv3AccelCmdRules t = {
        .ril = true, .asid16 = true, .ats = true, .smmuen = true,
    };
    const uint64_t w[2] = { word0, word1 };
    SMMUv3HostCmd cmd;
    SMMUv3AccelCmdKind kind = smmuv3_accel_cmd_prepare(&t, w, &cmd);

    g_assert_true(kind == SMMUV3_ACCEL_CMD_TLB ||
                  kind == SMMUV3_ACCEL_CMD_STREAM);
    g_assert_false(smmuv3_accel_batch_full(&bed->batch));
    smmuv3_accel_batch_add(&bed->batch, &cmd, cons);
}

/* Commands that differ, so that their order shows */
static void fill(Bed *bed, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        add(bed, NH_VA | (uint64_t)i << 48, (uint64_t)i << 12, 1000 + i);
    }
}

/*
 * One TLBI, CFGI_CD_ALL for each device, ATC_INV for those with ATS.  With the
 * erratum the ATC_INVs take effect in both calls.
 */
#define RESYNC (1 + DEVICES + (with_erratum ? 4 : 2))

/*
 * The commands that took effect are the first @n of fill(), followed by @after
 * other ones
 */
static void expect_done(const Bed *bed, unsigned n, unsigned after)
{
    unsigned from = bed->host->done->len - n - after;

    g_assert_cmpuint(bed->host->done->len, >=, n + after);
    for (unsigned i = 0; i < n; i++) {
        const SMMUv3HostCmd *cmd = &g_array_index(bed->host->done,
                                                  SMMUv3HostCmd, from + i);

        if (le64_to_cpu(cmd->word[1]) != (uint64_t)i << 12) {
            g_error("command %u of %u was 0x%016" PRIx64 " 0x%016" PRIx64, i, n,
                    le64_to_cpu(cmd->word[0]), le64_to_cpu(cmd->word[1]));
        }
    }
}

#define UNTOUCHED 0xdeadbeef

static unsigned flush(Bed *bed, uint32_t *cons)
{
    return smmuv3_accel_batch_try(&bed->vsmmu, &bed->batch) ?
           SMMUV3_ACCEL_FLUSH_OK :
           smmuv3_accel_batch_recover(&bed->vsmmu, &bed->batch, cons);
}

static void expect_flush(Bed *bed, unsigned want, uint32_t want_cons)
{
    uint32_t cons = UNTOUCHED;
    unsigned got = flush(bed, &cons);
    g_autofree char *story = rec_story(bed->host);

    if (got != want || cons != want_cons) {
        g_error("flush: %u, CONS 0x%x, expected %u, 0x%x, after: %s", got, cons,
                want, want_cons, story);
    }
    g_assert_cmpuint(bed->batch.n, ==, 0);
    g_assert_cmpint(bed->batch.error, ==, 0);
}

static const unsigned lengths[] = { 1, 2, 3, 62, 63, 64, 65, 126, 127, 251,
                                    SMMUV3_ACCEL_BATCH_MAX };

static void test_one_call(void)
{
    for (int l = 0; l < ARRAY_SIZE(lengths); l++) {
        Bed bed;
        g_autoptr(GString) want = g_string_new("");
        g_autofree char *story = NULL;

        for (unsigned i = 0; i < lengths[l]; i += SMMUV3_ACCEL_CALL_MAX) {
            for (int twice = 0; twice <= with_erratum; twice++) {
                g_string_append_printf(want, "%sinvalidate:%u",
                                       want->len ? " " : "",
                                       MIN(lengths[l] - i,
                                           SMMUV3_ACCEL_CALL_MAX));
            }
        }
        bed_init(&bed, true);
        fill(&bed, lengths[l]);
        g_assert_cmpint(smmuv3_accel_batch_full(&bed.batch), ==,
                        lengths[l] == SMMUV3_ACCEL_BATCH_MAX);
        g_assert_true(smmuv3_accel_batch_try(&bed.vsmmu, &bed.batch));
        g_assert_cmpuint(bed.batch.n, ==, 0);
        story = rec_story(bed.host);
        g_assert_cmpstr(story, ==, want->str);
        g_assert_cmpuint(bed.host->done->len, ==, lengths[l]);
        expect_done(&bed, lengths[l], 0);
        bed_fini(&bed);
    }
}

static void test_nothing_to_do(void)
{
    for (int with_streams = 0; with_streams < 2; with_streams++) {
        Bed bed;

        bed_init(&bed, with_streams);
        g_assert_false(smmuv3_accel_batch_needs_host(&bed.vsmmu, &bed.batch));
        expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        if (!with_streams) {
            fill(&bed, 5);
            expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        }
        g_assert_cmpuint(bed.host->events->len, ==, 0);
        bed_fini(&bed);
    }
}

static const int errnos[] = {
    -EIO, -ENOMEM, -ETIMEDOUT, -EFAULT, -EINVAL, -EOPNOTSUPP, -ECANCELED,
};

/*
 * The whole batch fails, but no single command does.  If the host does not call
 * a command illegal there is none to find, and each call may take a second.
 */
static void test_one_by_one(void)
{
    for (int e = 0; e < ARRAY_SIZE(errnos); e++) {
        for (int l = 0; l < ARRAY_SIZE(lengths); l++) {
            RecFailNth fail = { .nth = 1, .err = errnos[e] };
            Bed bed;

            bed_init(&bed, true);
            fill(&bed, lengths[l]);
            bed.host->inject = rec_fail_nth;
            bed.host->opaque = &fail;
            expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
            if (errnos[e] == -EIO) {
                g_assert_cmpuint(bed.host->events->len, ==, 1 + lengths[l]);
                g_assert_cmpuint(bed.host->done->len, ==, lengths[l]);
                expect_done(&bed, lengths[l], 0);
            } else {
                g_assert_cmpuint(bed.host->events->len, ==, 2);
                g_assert_cmpuint(bed.host->done->len, ==, RESYNC);
            }
            for (int i = 0; i < DEVICES; i++) {
                g_assert_true(translates(&bed, i));
            }
            bed_fini(&bed);
        }
    }
}

static bool was_done(const Bed *bed, uint64_t word0)
{
    for (unsigned i = 0; i < bed->host->done->len; i++) {
        const SMMUv3HostCmd *cmd = &g_array_index(bed->host->done,
                                                  SMMUv3HostCmd, i);

        if (le64_to_cpu(cmd->word[0]) == word0) {
            return true;
        }
    }
    return false;
}

static unsigned op_of(const SMMUv3HostCmd *cmd)
{
    return le64_to_cpu(cmd->word[0]) & 0xff;
}

/* Refuses one command, by its address, whenever it comes */
static int refuse_address(SMMUv3Host *host, const SMMUv3HostCmd *cmd,
                          void *opaque)
{
    uint64_t *address = opaque;

    return (le64_to_cpu(cmd->word[0]) & 0xff) == NH_VA &&
           le64_to_cpu(cmd->word[1]) >> 12 == *address ? -EIO : 0;
}

static void test_illegal_at(void)
{
    for (int l = 0; l < ARRAY_SIZE(lengths); l++) {
        for (uint64_t k = 0; k < lengths[l]; k++) {
            Bed bed;

            bed_init(&bed, true);
            fill(&bed, lengths[l]);
            bed.host->cmd_error = refuse_address;
            bed.host->opaque = &k;
            expect_flush(&bed, SMMUV3_ACCEL_FLUSH_ILLEGAL, 1000 + k);
            /* All before it are done, then a resync, and the streams stay */
            expect_done(&bed, k, RESYNC);
            g_assert_true(was_done(&bed, NSNH_ALL));
            for (int i = 0; i < DEVICES; i++) {
                g_assert_true(translates(&bed, i));
            }
            bed_fini(&bed);
        }
    }
}

/* A StreamID that the host does not know is an error of the guest */
static void test_unknown_streamid(void)
{
    Bed bed;

    bed_init(&bed, true);
    add(&bed, NH_ASID, 0, 1);
    add(&bed, CFGI_CD_ALL | 0x7777ull << 32, 0, 2);
    add(&bed, NH_ASID, 0, 3);
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_ILLEGAL, 2);
    g_assert_cmpuint(bed.host->done->len, ==, 1 + RESYNC);
    bed_fini(&bed);
}

/* The first @nth invalidations fail, whatever they are */
static int fail_first(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    RecFailNth *fail = opaque;

    if (call->call != REC_INVALIDATE || !fail->nth) {
        return 0;
    }
    fail->nth--;
    return fail->err;
}

/* All before the illegal one are done, even if one after it covers them */
static void test_unknown_streamid_merged(void)
{
    Bed bed;

    bed_init(&bed, true);
    add(&bed, NH_ASID, 0, 1);
    add(&bed, CFGI_CD_ALL | 0x7777ull << 32, 0, 2);
    add(&bed, NH_ALL, 0, 3);
    g_assert_cmpuint(bed.batch.n, ==, 2);
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_ILLEGAL, 2);
    g_assert_true(was_done(&bed, NSNH_ALL));
    for (int i = 0; i < DEVICES; i++) {
        g_assert_true(translates(&bed, i));
    }
    bed_fini(&bed);
}

/* The host fails for reasons of its own, then recovers: all is invalidated */
static void test_resync(void)
{
    static const int host_errnos[] = { -ENOMEM, -ETIMEDOUT, -EFAULT };

    for (int e = 0; e < ARRAY_SIZE(host_errnos); e++) {
        RecFailNth fail = { .nth = 1, .err = host_errnos[e] };
        Bed bed;

        bed_init(&bed, true);
        fill(&bed, 10);
        bed.host->inject = fail_first;
        bed.host->opaque = &fail;
        expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        g_assert_true(was_done(&bed, NSNH_ALL));
        for (int i = 0; i < DEVICES; i++) {
            uint64_t sid = (uint64_t)sid_of(i) << 32;

            g_assert_true(was_done(&bed, CFGI_CD_ALL | sid));
            g_assert_cmpint(was_done(&bed, ATC_INV | sid), ==, i < 2);
            g_assert_true(translates(&bed, i));
        }
        bed_fini(&bed);
    }
}

/* The first invalidation fails, and the @nth */
typedef struct FailLater {
    unsigned calls, nth;
} FailLater;

static int fail_later(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    FailLater *fail = opaque;

    if (call->call != REC_INVALIDATE) {
        return 0;
    }
    fail->calls++;
    return fail->calls == 1 || fail->calls == fail->nth ? -ENOMEM : 0;
}

/* Parks the streams one by one; returns how many did not stand still */
static unsigned park_all(Bed *bed)
{
    unsigned parked = 0;

    while (smmuv3_accel_park_next(&bed->vsmmu)) {
        g_assert_cmpuint(++parked, <=, DEVICES);
    }
    return parked;
}

/* The resync, which is one call, fails: no stream translates after it */
static void test_park(void)
{
    for (unsigned nth = 2; nth <= 3; nth++) {
        bool fails = nth == 2;
        FailLater fail = { .nth = nth };
        Bed bed;

        bed_init(&bed, true);
        fill(&bed, 1);
        bed.host->inject = fail_later;
        bed.host->opaque = &fail;
        expect_flush(&bed, fails ? SMMUV3_ACCEL_FLUSH_FAILED
                                 : SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        g_assert_cmpuint(fail.calls, ==, 2);
        for (int i = 0; i < DEVICES; i++) {
            g_assert_cmpint(aborts(&bed, i), ==, fails);
        }
        g_assert_cmpuint(rec_count(bed.host, REC_HWPT), ==,
                         2 + (fails ? 0 : DEVICES));
        bed_fini(&bed);
    }
}

/* The host invalidates nothing and attaches nothing: the move stays pending */
static int nothing_works(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    return call->call == REC_INVALIDATE ? -ENOMEM :
           call->call == REC_ATTACH ? -EBUSY : 0;
}

static void test_park_fails(void)
{
    Bed bed;

    bed_init(&bed, true);
    fill(&bed, 3);
    bed.host->inject = nothing_works;
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_FAILED, UNTOUCHED);
    for (int i = 0; i < DEVICES; i++) {
        g_assert_true(smmuv3_accel_stream_pending(bed.stream[i]));
    }
    bed_fini(&bed);
}

/* A parked stream stays parked until the host accepts invalidations again */
static int no_invalidation(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    return call->call == REC_INVALIDATE ? -ENOMEM : 0;
}

static void test_parked_until_invalidated(void)
{
    /* With a stream that is parked, and with one that could not be parked */
    for (int could_park = 0; could_park < 2; could_park++) {
        Bed bed;
        SMMUv3AccelDecision d;

        bed_init(&bed, true);
        d = bed.stream[0]->now;
        fill(&bed, 3);
        bed.host->inject = could_park ? no_invalidation : nothing_works;
        expect_flush(&bed, SMMUV3_ACCEL_FLUSH_FAILED, UNTOUCHED);

        /* Nothing translates: a host that has failed is not called again */
        rec_forget(bed.host);
        fill(&bed, 3);
        expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        g_assert_cmpuint(bed.host->events->len, ==, 0);

        /* The guest, or a retry, asks for the translation again */
        bed.host->inject = no_invalidation;
        if (!smmuv3_accel_stream_apply(bed.stream[0], sid_of(0), &d, NULL) ||
            !(could_park ? aborts(&bed, 0) : bed.stream[0]->detached)) {
            g_autofree char *story = rec_story(bed.host);

            g_error("the stream translates with stale entries, after: %s",
                    story);
        }
        g_assert_true(smmuv3_accel_stream_pending(bed.stream[0]));

        bed.host->inject = NULL;
        rec_forget(bed.host);
        smmuv3_accel_stream_apply(bed.stream[0], sid_of(0), &d, &error_abort);
        g_assert_true(was_done(&bed, NSNH_ALL));
        g_assert_true(translates(&bed, 0));

        /* One resync is enough */
        rec_forget(bed.host);
        smmuv3_accel_stream_apply(bed.stream[1], sid_of(1), &d, &error_abort);
        g_assert_false(was_done(&bed, NSNH_ALL));
        bed_fini(&bed);
    }
}

/* A device that does not answer an ATC_INV */
static int no_answer(SMMUv3Host *host, const SMMUv3HostCmd *cmd, void *opaque)
{
    uint64_t *sid = opaque;
    uint64_t word = le64_to_cpu(cmd->word[0]);

    return (word & 0xff) == ATC_INV && word >> 32 == *sid ? -ETIMEDOUT : 0;
}

static void test_atc_timeout(void)
{
    uint64_t silent = sid_of(0);
    Bed bed;

    bed_init(&bed, true);
    add(&bed, NH_ASID | 1ull << 48, 0, 1);
    add(&bed, ATC_INV | silent << 32, 52, 2);
    add(&bed, NH_ASID | 2ull << 48, 0, 3);
    add(&bed, ATC_INV | (uint64_t)sid_of(1) << 32, 52, 4);
    bed.host->cmd_error = no_answer;
    bed.host->opaque = &silent;
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT, UNTOUCHED);
    /* The others' ATC_INVs are done, and no stream is parked because of it */
    g_assert_true(was_done(&bed, NH_ASID | 1ull << 48));
    g_assert_true(was_done(&bed, NH_ASID | 2ull << 48));
    g_assert_true(was_done(&bed, ATC_INV | (uint64_t)sid_of(1) << 32));
    g_assert_false(was_done(&bed, ATC_INV | silent << 32));
    for (int i = 0; i < DEVICES; i++) {
        g_assert_true(translates(&bed, i));
    }
    bed_fini(&bed);
}

/* An illegal command follows: the guest gets both errors */
static void test_atc_timeout_then_illegal(void)
{
    uint64_t silent = sid_of(0);
    Bed bed;

    bed_init(&bed, true);
    add(&bed, ATC_INV | silent << 32, 52, 2);
    add(&bed, CFGI_CD_ALL | 0x7777ull << 32, 0, 3);
    bed.host->cmd_error = no_answer;
    bed.host->opaque = &silent;
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_ILLEGAL |
                       SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT, 3);
    bed_fini(&bed);
}

/* A timeout without an ATC_INV is a failure of the host */
static void test_timeout_without_atc(void)
{
    RecFailNth fail = { .nth = 2, .err = -ETIMEDOUT };
    Bed bed;

    bed_init(&bed, true);
    add(&bed, NH_ALL, 0, 1);
    add(&bed, ATC_INV | (uint64_t)sid_of(0) << 32, 52, 2);
    bed.host->inject = fail_first;
    bed.host->opaque = &fail;
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    g_assert_true(was_done(&bed, NSNH_ALL));
    bed_fini(&bed);
}

/* The host takes no two commands, and fails an ATC_INV alone with an errno */
static int fail_atc_inv(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    const int *error = opaque;

    if (call->call != REC_INVALIDATE || call->n > 2) {
        return 0;
    }
    return call->n == 2 ? -EIO : op_of(call->cmds) == ATC_INV ? *error : 0;
}

/* No device is silent if the host says something else than that it is */
static void test_atc_inv_is_answered(void)
{
    static int errors[] = { 0, -ENOMEM };

    for (int e = 0; e < ARRAY_SIZE(errors); e++) {
        const uint64_t atc = ATC_INV | (uint64_t)sid_of(0) << 32;
        Bed bed;

        bed_init(&bed, true);
        add(&bed, NH_ASID | 1ull << 48, 0, 1);
        add(&bed, atc, 52, 2);
        bed.host->inject = fail_atc_inv;
        bed.host->opaque = &errors[e];
        expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        g_assert_true(was_done(&bed, NH_ASID | 1ull << 48));
        g_assert_true(was_done(&bed, atc));
        g_assert_cmpint(was_done(&bed, NSNH_ALL), ==, errors[e] != 0);
        bed_fini(&bed);
    }
}

/* An ATC_INV of an earlier batch is no reason to try each command alone */
static void test_no_atc_inv_left(void)
{
    RecFailNth fail = { .nth = 1, .err = -ENOMEM };
    Bed bed;

    bed_init(&bed, true);
    add(&bed, NH_ASID | 1ull << 48, 0, 1);
    add(&bed, ATC_INV | (uint64_t)sid_of(0) << 32, 52, 2);
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    rec_forget(bed.host);
    add(&bed, NH_ASID | 2ull << 48, 0, 3);
    bed.host->inject = fail_first;
    bed.host->opaque = &fail;
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    g_assert_false(was_done(&bed, NH_ASID | 2ull << 48));
    g_assert_true(was_done(&bed, NSNH_ALL));
    bed_fini(&bed);
}

/*
 * Jobs: the same in a thread, while other things happen
 */

static SMMUv3AccelJob *job_of(Bed *bed, bool tried, bool thread)
{
    SMMUv3AccelJob *job = g_new(SMMUv3AccelJob, 1);

    memset(job, 0xa5, sizeof(*job));
    bed->batch.error = tried ? -EIO : 0;
    smmuv3_accel_job_begin(job, &bed->vsmmu, &bed->batch, thread);
    g_assert_cmpuint(bed->batch.n, ==, 0);
    return job;
}

static void expect_end(Bed *bed, SMMUv3AccelJob *job, unsigned want,
                       uint32_t want_cons)
{
    uint32_t cons = UNTOUCHED;

    g_assert_cmpuint(smmuv3_accel_job_end(job, &bed->vsmmu, &cons), ==, want);
    g_assert_cmphex(cons, ==, want_cons);
}

static void test_job(void)
{
    for (int tried = 0; tried < 2; tried++) {
        g_autofree SMMUv3AccelJob *job = NULL;
        g_autofree char *story = NULL;
        Bed bed;

        bed_init(&bed, true);
        fill(&bed, 3);
        job = job_of(&bed, tried, true);
        g_assert_cmpuint(bed.host->events->len, ==, 0);
        smmuv3_accel_job_run(job);
        expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        expect_done(&bed, 3, 0);
        story = rec_story(bed.host);
        g_assert_cmpstr(story, ==, tried ?
                        "invalidate:1 invalidate:1 invalidate:1" :
                        "invalidate:3");
        bed_fini(&bed);
    }
}

/* The run of a job moves no stream, and its end says that they have to move */
static void test_job_fails(void)
{
    g_autofree SMMUv3AccelJob *job = NULL;
    Bed bed;

    bed_init(&bed, true);
    fill(&bed, 3);
    job = job_of(&bed, false, true);
    bed.host->inject = no_invalidation;
    smmuv3_accel_job_run(job);
    g_assert_false(bed.vsmmu.stale);
    bed.vsmmu.losses++;             /* meanwhile, even more was lost */
    expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_FAILED, UNTOUCHED);
    g_assert_true(bed.vsmmu.stale);
    g_assert_cmpuint(park_all(&bed), ==, DEVICES);
    for (int i = 0; i < DEVICES; i++) {
        g_assert_true(aborts(&bed, i));
    }

    /* A job without commands invalidates everything */
    bed.host->inject = NULL;
    rec_forget(bed.host);
    smmuv3_accel_job_begin(job, &bed.vsmmu, NULL, true);
    smmuv3_accel_job_run(job);
    expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    g_assert_cmpuint(bed.host->done->len, ==, 1 + DEVICES);
    g_assert_false(bed.vsmmu.stale);
    bed_fini(&bed);
}

/* Once, even if an invalidation of everything fails again */
static void test_park_is_reported(void)
{
    if (g_test_subprocess()) {
        g_autofree SMMUv3AccelJob *job = g_new(SMMUv3AccelJob, 1);
        RecFailNth fail = { .nth = 1000, .err = -ENOMEM };
        Bed bed;

        bed_init(&bed, true);
        fill(&bed, 1);
        bed.host->inject = fail_first;
        bed.host->opaque = &fail;
        expect_flush(&bed, SMMUV3_ACCEL_FLUSH_FAILED, UNTOUCHED);
        smmuv3_accel_job_begin(job, &bed.vsmmu, NULL, true);
        smmuv3_accel_job_run(job);
        expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_FAILED, UNTOUCHED);
        bed_fini(&bed);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*smmu0: the host SMMUv3 does not take "
                              "invalidations*see the host's log*");
    g_test_trap_assert_stderr_unmatched("*does not take*does not take*");
}

/* Streams that bypass may go on: they use nothing that was not invalidated */
static void test_bypass_is_not_parked(void)
{
    const SMMUv3AccelDecision bypass = smmuv3_accel_decide_disabled(false);
    Bed bed;

    bed_init(&bed, true);
    smmuv3_accel_stream_apply(bed.stream[1], sid_of(1), &bypass, &error_abort);
    fill(&bed, 3);
    bed.host->inject = no_invalidation;
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_FAILED, UNTOUCHED);
    g_assert_true(aborts(&bed, 0));
    g_assert_cmpint(bed.stream[1]->now.action, ==, SMMUV3_ACCEL_BYPASS);
    g_assert_false(aborts(&bed, 1));
    bed_fini(&bed);
}

static int no_attachment(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    return call->call == REC_ATTACH ? -EBUSY : 0;
}

/*
 * The host was busy with a stream, so that it is detached and tried again.
 * Invalidations that are lost meanwhile do not change what it waits for.
 */
static void test_detached_is_not_parked(void)
{
    Bed bed;

    for (int translates = 0; translates < 2; translates++) {
        SMMUv3AccelDecision d = smmuv3_accel_decide_disabled(false);

        bed_init(&bed, true);
        if (translates) {
            d = bed.stream[1]->now;
            d.ste[0] ^= 1ull << 20;             /* another CD table */
        }
        bed.host->inject = no_attachment;
        g_assert_cmpint(smmuv3_accel_stream_apply(bed.stream[1], sid_of(1), &d,
                                                  NULL), ==, -EBUSY);
        g_assert_true(bed.stream[1]->detached);
        fill(&bed, 3);
        bed.host->inject = no_invalidation;
        expect_flush(&bed, SMMUV3_ACCEL_FLUSH_FAILED, UNTOUCHED);
        g_assert_true(aborts(&bed, 0));
        g_assert_true(bed.stream[1]->detached);
        g_assert_true(smmuv3_accel_stream_pending(bed.stream[1]));
        g_assert_true(smmuv3_accel_decision_equal(&bed.stream[1]->want, &d));
        bed_fini(&bed);
    }
}

/* The host does not even detach a device */
static int no_detach(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    return call->call == REC_DETACH ? -EBUSY :
           nothing_works(host, call, opaque);
}

/*
 * A stream is not where the guest wants it.  It has its old translation, or it
 * aborts until it can translate.  Invalidations that are lost park it.  If the
 * host still does not move it, park_next() does not try for ever.
 */
static void test_park_stuck(void)
{
    const SMMUv3AccelDecision park = smmuv3_accel_decide_disabled(true);
    static const struct {
        SMMUv3AccelAction to;
        RecInject *first, *then;
    } cases[] = {
        { SMMUV3_ACCEL_BYPASS, no_detach, no_invalidation },
        { SMMUV3_ACCEL_ABORT, no_detach, no_detach },
        { SMMUV3_ACCEL_TRANSLATE, rec_fail_nth, no_invalidation },
    };

    for (int c = 0; c < ARRAY_SIZE(cases); c++) {
        RecFailNth fail = { .nth = 2, .err = -EBUSY };  /* the attachment */
        bool parks = cases[c].then == no_invalidation;
        SMMUv3AccelDecision d =
            smmuv3_accel_decide_disabled(cases[c].to == SMMUV3_ACCEL_ABORT);
        SMMUv3AccelStream *stream;
        Bed bed;

        bed_init(&bed, true);
        stream = bed.stream[1];
        if (cases[c].to == SMMUV3_ACCEL_TRANSLATE) {
            d = stream->now;
            d.ste[0] ^= 1ull << 20;             /* another CD table */
        }
        bed.host->inject = cases[c].first;
        bed.host->opaque = &fail;
        g_assert_cmpint(smmuv3_accel_stream_apply(stream, sid_of(1), &d, NULL),
                        ==, -EBUSY);
        g_assert_false(stream->detached);
        fill(&bed, 3);
        bed.host->inject = cases[c].then;
        expect_flush(&bed, SMMUV3_ACCEL_FLUSH_FAILED, UNTOUCHED);
        g_assert_cmpuint(park_all(&bed), ==, 0);
        g_assert_true(smmuv3_accel_decision_equal(&stream->want, &park));
        g_assert_cmpint(aborts(&bed, 1), ==, parks);
        g_assert_cmpint(stream->parked, ==, parks);
        g_assert_cmpint(smmuv3_accel_stream_pending(stream), ==, !parks);
        bed_fini(&bed);
    }
}

/* A stream leaves, and the host does not know its StreamID any more */
static void test_job_stream_leaves(void)
{
    for (int before = 0; before < 2; before++) {
        g_autofree SMMUv3AccelJob *job = NULL;
        RecFailNth fail = { .nth = 1, .err = -ETIMEDOUT };
        Bed bed;

        bed_init(&bed, true);
        add(&bed, NH_ASID, 0, 1);
        add(&bed, CFGI_CD_ALL | (uint64_t)sid_of(1) << 32, 0, 2);
        job = job_of(&bed, before, true);
        rec_stream_free(bed.stream[1]);
        bed.stream[1] = NULL;
        bed.host->inject = before ? NULL : fail_first;
        bed.host->opaque = &fail;
        smmuv3_accel_job_run(job);
        /* Neither the guest nor another stream has done anything wrong */
        expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_AGAIN, UNTOUCHED);
        g_assert_false(bed.vsmmu.stale);
        rec_forget(bed.host);
        /* It is still one for a thread, which can be stopped */
        job->cancelled = true;
        g_assert_false(smmuv3_accel_job_run(job));
        g_assert_cmpuint(bed.host->events->len, ==, 0);
        job->cancelled = false;
        smmuv3_accel_job_run(job);
        expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        g_assert_true(was_done(&bed, NSNH_ALL));
        g_assert_false(bed.vsmmu.stale);
        bed_fini(&bed);
    }
}

/* The same, and the device of the other stream has not answered before */
static void test_job_stream_leaves_silent(void)
{
    g_autofree SMMUv3AccelJob *job = NULL;
    uint64_t silent = sid_of(0);
    Bed bed;

    bed_init(&bed, true);
    add(&bed, ATC_INV | silent << 32, 52, 1);
    add(&bed, CFGI_CD_ALL | (uint64_t)sid_of(1) << 32, 0, 2);
    job = job_of(&bed, false, true);
    bed.host->cmd_error = no_answer;
    bed.host->opaque = &silent;
    rec_stream_free(bed.stream[1]);
    bed.stream[1] = NULL;
    smmuv3_accel_job_run(job);
    expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_AGAIN, UNTOUCHED);
    bed.host->cmd_error = NULL;
    smmuv3_accel_job_run(job);
    expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT, UNTOUCHED);
    g_assert_false(bed.vsmmu.stale);
    bed_fini(&bed);
}

/* A job that has succeeded, at once or in the end, is not run again */
static void test_job_stream_leaves_after(void)
{
    for (unsigned fails = 0; fails < 2; fails++) {
        RecFailNth fail = { .nth = fails, .err = -ENOMEM };
        g_autofree SMMUv3AccelJob *job = NULL;
        Bed bed;

        bed_init(&bed, true);
        fill(&bed, 3);
        job = job_of(&bed, false, true);
        bed.host->inject = fail_first;
        bed.host->opaque = &fail;
        g_assert_true(smmuv3_accel_job_run(job));
        rec_stream_free(bed.stream[1]);
        bed.stream[1] = NULL;
        expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        g_assert_cmpint(was_done(&bed, NSNH_ALL), ==, fails);
        bed_fini(&bed);
    }
}

/* Another thread cancels the job during its first call */
static int cancel_job(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    SMMUv3AccelJob *job = opaque;

    qatomic_set(&job->cancelled, true);
    return -ETIMEDOUT;
}

static void test_job_cancelled(void)
{
    g_autofree SMMUv3AccelJob *job = NULL;
    Bed bed;

    bed_init(&bed, true);
    fill(&bed, 10);
    job = job_of(&bed, false, true);
    bed.host->inject = cancel_job;
    bed.host->opaque = job;
    smmuv3_accel_job_run(job);
    g_assert_cmpuint(bed.host->events->len, ==, 1);
    g_free(job->everything);
    bed_fini(&bed);
}

/*
 * With the BQL held, a slow call is the last one.  What follows is exactly what
 * was not complete.
 */
static int take_long(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    unsigned *nth = opaque;

    if (call->call == REC_INVALIDATE && !--*nth) {
        g_usleep(SMMUV3_ACCEL_SLOW_CALL_NS / 1000);
    }
    return 0;
}

static int always_take_long(SMMUv3Host *host, const RecEvent *call,
                            void *opaque)
{
    if (call->call == REC_INVALIDATE) {
        g_usleep(SMMUV3_ACCEL_SLOW_CALL_NS / 1000);
    }
    return 0;
}

static void test_stops_if_slow(void)
{
    const unsigned per_call = with_erratum ? 2 : 1;

    for (unsigned slow = 1; slow <= 2 * per_call; slow++) {
        unsigned nth = slow;
        g_autofree SMMUv3AccelJob *job = NULL;
        Bed bed;

        bed_init(&bed, true);
        fill(&bed, SMMUV3_ACCEL_BATCH_MAX);
        bed.host->inject = take_long;
        bed.host->opaque = &nth;
        g_assert_false(smmuv3_accel_batch_try(&bed.vsmmu, &bed.batch));
        g_assert_cmpint(bed.batch.error, ==, 0);
        g_assert_cmpuint(bed.batch.done, ==,
                         slow / per_call * SMMUV3_ACCEL_CALL_MAX);
        g_assert_cmpuint(bed.host->events->len, ==, slow);

        /* A thread takes its time */
        bed.host->inject = NULL;
        job = g_new(SMMUv3AccelJob, 1);
        smmuv3_accel_job_begin(job, &bed.vsmmu, &bed.batch, true);
        nth = 1;
        bed.host->inject = take_long;
        g_assert_true(smmuv3_accel_job_run(job));
        expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        g_assert_cmpuint(bed.host->done->len, ==, SMMUV3_ACCEL_BATCH_MAX);
        expect_done(&bed, SMMUV3_ACCEL_BATCH_MAX, 0);
        bed_fini(&bed);
    }
}

/* Runs a job again until it is complete, @max times at most */
static void run_in_steps(SMMUv3AccelJob *job, unsigned max)
{
    unsigned runs = 1;

    while (!smmuv3_accel_job_run(job)) {
        g_assert_cmpuint(++runs, <=, max);
    }
}

/* Without a thread, each attempt gets on: with the erratum it is two calls */
static void test_slow_without_thread(void)
{
    g_autofree SMMUv3AccelJob *job = NULL;
    Bed bed;

    bed_init(&bed, true);
    fill(&bed, 2 * SMMUV3_ACCEL_CALL_MAX);
    bed.vsmmu.slow = true;
    bed.host->inject = always_take_long;
    job = job_of(&bed, false, false);
    run_in_steps(job, 2);
    expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    g_assert_cmpuint(bed.host->events->len, ==, with_erratum ? 4 : 2);
    expect_done(&bed, 2 * SMMUV3_ACCEL_CALL_MAX, 0);
    bed_fini(&bed);
}

/* A recovery, too: a call for each command, then one for everything */
static int slow_and_refused(SMMUv3Host *host, const RecEvent *call,
                            void *opaque)
{
    if (call->call == REC_INVALIDATE && call->n == 1) {
        g_usleep(SMMUV3_ACCEL_SLOW_CALL_NS / 1000);
    }
    return call->call == REC_INVALIDATE && call->n == 3 ? -EIO : 0;
}

static int slow_and_silent(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    return slow_and_refused(host, call, opaque) ? -ETIMEDOUT : 0;
}

/* With the erratum it even stops between a command and its repetition, once */
static void test_recovery_stops_if_slow(void)
{
    const unsigned again = 2 + with_erratum;
    uint32_t cons = UNTOUCHED;
    Bed bed;

    bed_init(&bed, true);
    fill(&bed, 3);
    bed.host->inject = slow_and_refused;
    g_assert_false(smmuv3_accel_batch_try(&bed.vsmmu, &bed.batch));
    for (unsigned n = 1; n <= again + 1; n++) {
        unsigned result = smmuv3_accel_batch_recover(&bed.vsmmu, &bed.batch,
                                                     &cons);

        g_assert_cmpuint(result, ==, n <= again ?
                         SMMUV3_ACCEL_FLUSH_AGAIN : SMMUV3_ACCEL_FLUSH_OK);
        g_assert_cmpuint(bed.batch.done, ==, n <= again ? n - with_erratum : 0);
        bed.vsmmu.slow = with_erratum;
    }
    g_assert_cmpuint(bed.host->done->len, ==, 3);
    expect_done(&bed, 3, 0);
    g_assert_cmphex(cons, ==, UNTOUCHED);
    bed_fini(&bed);
}

/* A recovery has this result, and leaves @left commands in the batch */
static void expect_recover(Bed *bed, unsigned want, unsigned left)
{
    uint32_t cons = UNTOUCHED;

    g_assert_cmpuint(smmuv3_accel_batch_recover(&bed->vsmmu, &bed->batch,
                                                &cons), ==, want);
    g_assert_cmphex(cons, ==, UNTOUCHED);
    g_assert_cmpuint(bed->batch.n, ==, left);
}

/* The erratum: it stops between everything and its repetition */
static void test_everything_stops_if_slow(void)
{
    RecFailNth fail = { .nth = 1, .err = -ENOMEM };
    unsigned nth = 1;
    Bed bed;

    bed_init(&bed, true);
    fill(&bed, 3);
    bed.host->inject = fail_first;
    bed.host->opaque = &fail;
    g_assert_false(smmuv3_accel_batch_try(&bed.vsmmu, &bed.batch));
    bed.host->inject = take_long;
    bed.host->opaque = &nth;
    expect_recover(&bed, SMMUV3_ACCEL_FLUSH_AGAIN, 3);
    g_assert_false(was_done(&bed, NSNH_ALL));
    expect_recover(&bed, SMMUV3_ACCEL_FLUSH_OK, 0);
    g_assert_true(was_done(&bed, NSNH_ALL));
    bed_fini(&bed);
}

/* It stops after an illegal command, which a job finds again */
static void test_illegal_stops_if_slow(void)
{
    g_autofree SMMUv3AccelJob *job = NULL;
    uint64_t refused = 0;
    Bed bed;

    bed_init(&bed, true);
    fill(&bed, 3);
    bed.host->inject = slow_and_refused;
    bed.host->cmd_error = refuse_address;
    bed.host->opaque = &refused;
    g_assert_false(smmuv3_accel_batch_try(&bed.vsmmu, &bed.batch));
    expect_recover(&bed, SMMUV3_ACCEL_FLUSH_AGAIN, 3);
    g_assert_cmpuint(bed.host->done->len, ==, 0);
    job = job_of(&bed, true, true);
    g_assert_true(smmuv3_accel_job_run(job));
    expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_ILLEGAL, 1000);
    g_assert_true(was_done(&bed, NSNH_ALL));
    bed_fini(&bed);
}

static int slow_to_park(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    if (call->call == REC_ATTACH) {
        g_usleep(SMMUV3_ACCEL_SLOW_CALL_NS / 1000);
    }
    return no_invalidation(host, call, opaque);
}

/* It stops after it has parked one stream: the caller parks the others */
static void test_park_stops_if_slow(void)
{
    unsigned parked = 0;
    Bed bed;

    bed_init(&bed, true);
    fill(&bed, 3);
    bed.host->inject = slow_to_park;
    g_assert_false(smmuv3_accel_batch_try(&bed.vsmmu, &bed.batch));
    expect_recover(&bed, SMMUV3_ACCEL_FLUSH_FAILED | SMMUV3_ACCEL_FLUSH_AGAIN,
                   0);
    for (int i = 0; i < DEVICES; i++) {
        parked += aborts(&bed, i);
    }
    g_assert_cmpuint(parked, ==, 1);
    g_assert_cmpuint(park_all(&bed), ==, DEVICES - 1);
    bed_fini(&bed);
}

/*
 * A recovery that stops reports an ATC that has not answered until then.  When
 * it goes on it still knows that the ATC may have caused the error.
 */
static void test_atc_timeout_stops(const void *silent_host)
{
    static const unsigned want[] = {
        SMMUV3_ACCEL_FLUSH_AGAIN | SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT,
        SMMUV3_ACCEL_FLUSH_AGAIN, SMMUV3_ACCEL_FLUSH_OK,
    };
    uint64_t silent = sid_of(0);
    Bed bed;

    bed_init(&bed, true);
    add(&bed, ATC_INV | silent << 32, 52, 1);
    add(&bed, NH_ASID | 1ull << 48, 0, 2);
    add(&bed, NH_ASID | 2ull << 48, 0, 3);
    bed.host->inject = silent_host ? slow_and_silent : slow_and_refused;
    bed.host->cmd_error = no_answer;
    bed.host->opaque = &silent;
    g_assert_false(smmuv3_accel_batch_try(&bed.vsmmu, &bed.batch));
    for (unsigned n = 0; n < ARRAY_SIZE(want); n++) {
        expect_recover(&bed, want[n],
                       want[n] & SMMUV3_ACCEL_FLUSH_AGAIN ? 3 : 0);
    }
    g_assert_true(was_done(&bed, NH_ASID | 1ull << 48));
    g_assert_true(was_done(&bed, NH_ASID | 2ull << 48));
    bed_fini(&bed);
}

/* Without a thread, a recovery gets on: it finds a refused command once */
static void test_refused_without_thread(void)
{
    g_autofree SMMUv3AccelJob *job = NULL;
    uint64_t refused = 1;
    Bed bed;

    bed_init(&bed, true);
    fill(&bed, 3);
    bed.vsmmu.slow = true;
    bed.host->inject = always_take_long;
    bed.host->cmd_error = refuse_address;
    bed.host->opaque = &refused;
    job = job_of(&bed, true, false);
    run_in_steps(job, 3);
    expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_ILLEGAL, 1001);
    expect_done(&bed, 1, RESYNC);
    g_assert_true(was_done(&bed, NSNH_ALL));
    bed_fini(&bed);
}

/* A stop is no failure, even between a command and its repetition */
static void test_search_goes_on(void)
{
    g_autofree SMMUv3AccelJob *job = NULL;
    unsigned nth = 1;
    Bed bed;

    bed_init(&bed, true);
    fill(&bed, 3);
    bed.host->inject = take_long;
    bed.host->opaque = &nth;
    job = job_of(&bed, true, false);
    run_in_steps(job, 4);
    expect_end(&bed, job, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    g_assert_cmpuint(bed.host->done->len, ==, 3);
    expect_done(&bed, 3, 0);
    bed_fini(&bed);
}

/* While the host is slow, a move of a stream does not invalidate by itself */
static void test_slow_host(void)
{
    SMMUv3AccelDecision d;
    Bed bed;

    bed_init(&bed, true);
    d = bed.stream[0]->now;
    fill(&bed, 3);
    bed.host->inject = no_invalidation;
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_FAILED, UNTOUCHED);
    bed.host->inject = NULL;
    rec_forget(bed.host);
    bed.vsmmu.slow = true;
    g_assert_cmpint(smmuv3_accel_stream_apply(bed.stream[0], sid_of(0), &d,
                                              NULL), ==, -ETIMEDOUT);
    g_assert_true(aborts(&bed, 0));
    g_assert_cmpuint(bed.host->done->len, ==, 0);
    bed.vsmmu.slow = false;
    smmuv3_accel_stream_apply(bed.stream[0], sid_of(0), &d, &error_abort);
    g_assert_true(translates(&bed, 0));
    bed_fini(&bed);
}

/*
 * Whatever fails, this holds for each command that is complete for the guest:
 * it was done, or everything was invalidated, or no stream uses what it
 * concerns.
 */

static int at_random(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    const int *odds = opaque;

    if (call->call != REC_INVALIDATE || g_test_rand_int_range(0, *odds)) {
        return 0;
    }
    return errnos[g_test_rand_int_range(0, ARRAY_SIZE(errnos))];
}

static bool done_or_moot(const Bed *bed, const SMMUv3HostCmd *cmd)
{
    uint64_t word = le64_to_cpu(cmd->word[0]);
    unsigned op = word & 0xff;
    uint64_t sid = word & 0xffffffff00000000ull;
    bool any_translates = false;

    for (unsigned i = 0; i < bed->host->done->len; i++) {
        const SMMUv3HostCmd *done = &g_array_index(bed->host->done,
                                                   SMMUv3HostCmd, i);

        if (!memcmp(done, cmd, sizeof(*cmd))) {
            return true;
        }
    }
    for (int i = 0; i < DEVICES; i++) {
        any_translates |= translates(bed, i);
        if (names_stream(op) && sid_of(i) == sid >> 32 &&
            (aborts(bed, i) || (op == ATC_INV && i == 2))) {
            return true;
        }
    }
    if (!any_translates) {
        return true;
    }
    return op == ATC_INV ? was_done(bed, ATC_INV | sid) :
           names_stream(op) ? was_done(bed, CFGI_CD_ALL | sid) :
           was_done(bed, NSNH_ALL);
}

/*
 * Does the batch cover command @i of @all, which had CONS i?  It does if it
 * holds the command itself, or one before it that this one repeats.  Or, if the
 * command is a TLBI, if it holds an invalidation of the whole TLB that comes
 * later, or earlier with nothing but TLBIs between.
 */
static bool is_covered(const SMMUv3AccelBatch *batch, const SMMUv3HostCmd *all,
                       uint32_t i)
{
    for (unsigned b = 0; b < batch->n; b++) {
        const SMMUv3HostCmd *cmd = &batch->cmd[b];
        uint32_t at = batch->cons[b], from = MIN(at, i);
        bool same = !memcmp(cmd, &all[i], sizeof(*cmd)), tlbis = true;

        for (uint32_t j = from; j < i; j++) {
            same &= !memcmp(&all[j], &all[i], sizeof(*cmd));
            tlbis &= !names_stream(op_of(&all[j]));
        }
        if ((same && at <= i) ||
            (!names_stream(op_of(&all[i])) && tlbis &&
             (op_of(cmd) == NSNH_ALL || op_of(cmd) == NH_ALL))) {
            return true;
        }
    }
    return false;
}

static void test_merge(void)
{
    static const uint64_t words[][2] = {
        { NH_VA | 1ull << 48, 0x1000 }, { NH_VA | 1ull << 48, 0x1001 },
        { NH_VA | 2ull << 48, 0x1000 }, { NH_VAA, 0x2000 },
        { NH_ASID | 1ull << 48, 0 }, { CFGI_CD | 0x100ull << 32, 1 },
        { CFGI_CD_ALL | 0x200ull << 32, 0 }, { NH_ALL, 0 }, { NSNH_ALL, 0 },
        { ATC_INV | 0x100ull << 32, 52 },
    };
    unsigned merged = 0;

    for (int round = 0; round < 2000; round++) {
        SMMUv3HostCmd all[24];
        uint32_t last = 0;
        Bed bed;

        memset(&bed, 0, sizeof(bed));
        for (uint32_t i = 0; i < ARRAY_SIZE(all); i++) {
            const uint64_t *w = words[g_test_rand_int_range(
                                          0, ARRAY_SIZE(words))];

            all[i].word[0] = cpu_to_le64(w[0]);
            all[i].word[1] = cpu_to_le64(w[1]);
            add(&bed, w[0], w[1], i);
        }
        for (unsigned b = 0; b < bed.batch.n; b++) {
            /* The batch holds original commands only, in order */
            g_assert_cmpmem(&bed.batch.cmd[b], sizeof(all[0]),
                            &all[bed.batch.cons[b]], sizeof(all[0]));
            g_assert_true(!b || bed.batch.cons[b] > last);
            last = bed.batch.cons[b];
        }
        for (uint32_t i = 0; i < ARRAY_SIZE(all); i++) {
            if (!is_covered(&bed.batch, all, i)) {
                g_error("round %d: nothing covers command %u", round, i);
            }
        }
        merged += ARRAY_SIZE(all) - bed.batch.n;
    }
    g_assert_cmpuint(merged, >, 2000);
}

/*
 * A command that is like the one before it results in the same batch, whether
 * it is added as a page of the same unmap or by itself.  Only such a command is
 * added as a page.
 */
static void test_pages(void)
{
    const uint32_t mask = 0xf;
    unsigned alike = 0;

    for (int round = 0; round < 200000; round++) {
        SMMUv3AccelCmdRules t = rules_nth(g_test_rand_int_range(0, RULES));
        unsigned op = forwarded[g_test_rand_int_range(0, sizeof(forwarded))];
        uint64_t cmd[2][2] = {
            { deposit64(random_word(), 0, 8, op) & ~SSEC, random_word() },
        };
        SMMUv3AccelBatch quick, slow;
        SMMUv3HostCmd out;
        bool want;

        cmd[1][0] = cmd[0][0];
        cmd[1][1] = deposit64(cmd[0][1], 12, 52, random_word());
        if (g_test_rand_bit()) {
            unsigned bit = g_test_rand_int_range(0, 128);

            cmd[1][bit / 64] ^= BIT_ULL(bit % 64);
        }
        if (!g_test_rand_int_range(0, 4)) {
            cmd[1][1] = cmd[0][1];
        }
        want = (op == NH_VA || op == NH_VAA) && cmd[0][0] == cmd[1][0] &&
               cmd[0][1] << 52 == cmd[1][1] << 52;
        memset(&quick, 0, sizeof(quick));
        if (smmuv3_accel_cmd_prepare(&t, cmd[0], &out) ==
            SMMUV3_ACCEL_CMD_ILLEGAL) {
            continue;
        }
        smmuv3_accel_batch_add(&quick, &out, 7);
        slow = quick;
        g_assert_cmpuint(smmuv3_accel_batch_add_pages(&quick, cmd, 1, 0x18,
                                                      mask), ==, want);
        if (!want) {
            g_assert_cmpmem(&quick, sizeof(quick), &slow, sizeof(slow));
            continue;
        }
        alike++;
        smmuv3_accel_cmd_prepare(&t, cmd[1], &out);
        smmuv3_accel_batch_add(&slow, &out, 8);
        g_assert_cmpmem(&quick, sizeof(quick), &slow, sizeof(slow));
    }
    g_assert_cmpuint(alike, >, 10000);
}

/* Pages fill a batch but for its last place, and follow no other command */
static void test_pages_end(void)
{
    uint64_t cmd[SMMUV3_ACCEL_BATCH_MAX + 2][2];
    SMMUv3AccelBatch batch;

    for (unsigned i = 0; i < ARRAY_SIZE(cmd); i++) {
        cmd[i][0] = NH_VA;
        cmd[i][1] = i * 0x2000ull;
    }
    memset(&batch, 0, sizeof(batch));
    g_assert_cmpuint(smmuv3_accel_batch_add_pages(&batch, cmd, 8, 0, ~0u), ==,
                     0);
    smmuv3_accel_batch_add(&batch, &(SMMUv3HostCmd) { { NSNH_ALL } }, 0);
    g_assert_cmpuint(smmuv3_accel_batch_add_pages(&batch, cmd, 8, 0, ~0u), ==,
                     0);
    smmuv3_accel_batch_clear(&batch);
    smmuv3_accel_batch_add(&batch, &(SMMUv3HostCmd) {
        { cpu_to_le64(NH_VA), 0 } }, 0);
    g_assert_cmpuint(smmuv3_accel_batch_add_pages(&batch, cmd,
                                                  ARRAY_SIZE(cmd) - 1, 1, ~0u),
                     ==, SMMUV3_ACCEL_BATCH_MAX - 2);
    g_assert_cmpuint(batch.n, ==, SMMUV3_ACCEL_BATCH_MAX - 1);
    g_assert_cmpuint(batch.cons[batch.n - 1], ==, batch.n - 1);
}

/* What one batch covers does not affect the next */
static void test_merge_ends(void)
{
    Bed bed;

    bed_init(&bed, true);
    add(&bed, NSNH_ALL, 0, 0);
    add(&bed, NH_ASID, 0, 1);
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    g_assert_cmpuint(bed.host->done->len, ==, 1);
    add(&bed, NH_ASID, 0, 2);
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    add(&bed, NH_ASID, 0, 3);
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    g_assert_cmpuint(bed.host->done->len, ==, 3);
    bed_fini(&bed);
}

/* Does a command of @batch cover @w in translations of granule @tg? */
static bool is_covered_in(const SMMUv3AccelBatch *batch, const uint64_t w[2],
                          unsigned tg)
{
    Reach part = reach_of(w, true, true, 0, false);

    for (unsigned b = 0; b < batch->n; b++) {
        const uint64_t have[2] = {
            le64_to_cpu(batch->cmd[b].word[0]),
            le64_to_cpu(batch->cmd[b].word[1]),
        };
        unsigned of = have[1] >> 10 & 3;
        Reach all = reach_of(have, true, true, 0, false);

        if (opcode(have) == opcode(w) && (!of || of == tg) &&
            covers(&all, &part)) {
            return true;
        }
    }
    return false;
}

/* Any address, most likely near the first or the last one */
static uint64_t any_address(void)
{
    static const uint64_t ends[] = {
        0, 1ull << 32, 1ull << 48, 1ull << 52, 1ull << 63, -(1ull << 48),
    };
    unsigned n = g_test_rand_int_range(0, ARRAY_SIZE(ends) + 2);
    uint64_t pages = g_test_rand_int_range(-1024, 1024);

    return n < ARRAY_SIZE(ends) ? ends[n] + pages * 0x1000
                                : random_word() & ~0xfffull;
}

/*
 * Runs of pages become fewer ranges.  A host accepts these, and they cover each
 * page in each granule.  All other commands stay, in order.
 */
static void test_ranges_of_pages(void)
{
    const HostFeatures host = { .ril = true, .asid16 = true };
    unsigned before = 0, after = 0;

    for (int round = 0; round < 3000; round++) {
        unsigned granules = g_test_rand_int_range(0, 8);
        uint64_t in[SMMUV3_ACCEL_BATCH_MAX][2];
        unsigned n = 0, others = 0, left = 0;
        Bed bed;

        memset(&bed, 0, sizeof(bed));
        while (n < 200) {
            unsigned shift = 10 + 2 * g_test_rand_int_range(1, 5);
            unsigned pages = g_test_rand_int_range(1, 50);
            uint64_t op = g_test_rand_bit() ? NH_VAA : NH_VA | 3ull << 48;
            uint64_t word1 = any_address() | g_test_rand_bit();

            if (g_test_rand_int_range(0, 4) == 0) {
                in[n][0] = CFGI_CD | (uint64_t)n << 32;
                in[n++][1] = 1;
                others++;
                continue;
            }
            for (unsigned i = 0; i < pages; i++, n++) {
                in[n][0] = op;
                in[n][1] = word1 + ((uint64_t)i << shift);
            }
        }
        for (unsigned i = 0; i < n; i++) {
            add(&bed, in[i][0], in[i][1], i);
        }
        before += bed.batch.n;
        smmuv3_accel_batch_to_ranges(&bed.batch, granules);
        g_assert_cmpuint(bed.batch.n, <=, n);
        after += granules ? bed.batch.n : 0;

        for (unsigned b = 0; b < bed.batch.n; b++) {
            const uint64_t w[2] = {
                le64_to_cpu(bed.batch.cmd[b].word[0]),
                le64_to_cpu(bed.batch.cmd[b].word[1]),
            };

            g_assert_true(host_takes(&host, w));
            g_assert_true(!b || bed.batch.cons[b] >= bed.batch.cons[b - 1]);
            if (opcode(w) == CFGI_CD) {
                g_assert_cmphex(w[0] >> 32, ==, bed.batch.cons[b]);
                left++;
            }
        }
        g_assert_cmpuint(left, ==, others);
        for (unsigned i = 0; i < n; i++) {
            for (unsigned tg = 1; tg <= 3; tg++) {
                bool known = granules & 1u << (tg - 1);

                if ((!granules || known) && opcode(in[i]) != CFGI_CD &&
                    !is_covered_in(&bed.batch, in[i], tg)) {
                    g_error("round %d, granules 0x%x: nothing covers page %u "
                            "of 0x%" PRIx64, round, granules, i, in[i][1]);
                }
            }
        }
    }
    g_assert_cmpuint(after, <, before / 2);
}

/* No range replaces adjacent addresses of commands that differ otherwise */
static void test_ranges_keep(void)
{
    static const uint64_t rows[][3][2] = {
        { { NH_VA | 1ull << 48, 0x1000 }, { NH_VA | 2ull << 48, 0x2000 } },
        { { NH_VA, 0x1000 }, { NH_VAA, 0x2000 } },
        /* A range of the guest begins a page after another one */
        { { NH_VA | 15ull << 12, 0x10000 | 1u << 10 },
          { NH_VA | 15ull << 12, 0x11000 | 1u << 10 } },
        /* Only a TLBI has ranges */
        { { ATC_INV | 0x100ull << 32, 0x1000 },
          { ATC_INV | 0x100ull << 32, 0x2000 },
          { ATC_INV | 0x100ull << 32, 0x3000 } },
    };

    for (int r = 0; r < ARRAY_SIZE(rows); r++) {
        SMMUv3AccelBatch before;
        Bed bed;

        memset(&bed, 0, sizeof(bed));
        for (int i = 0; i < ARRAY_SIZE(rows[r]) && rows[r][i][0]; i++) {
            add(&bed, rows[r][i][0], rows[r][i][1], i);
        }
        before = bed.batch;
        smmuv3_accel_batch_to_ranges(&bed.batch, 1);
        g_assert_cmpmem(&bed.batch, sizeof(before), &before, sizeof(before));
    }
}

/* A page that an earlier batch has left behind belongs to no range */
static void test_ranges_end(void)
{
    Bed bed;

    memset(&bed, 0, sizeof(bed));
    for (unsigned pages = 4; pages >= 3; pages--) {
        smmuv3_accel_batch_clear(&bed.batch);
        for (unsigned i = 0; i < pages; i++) {
            add(&bed, NH_VA, (i + 1) * 0x1000, i);
        }
        smmuv3_accel_batch_to_ranges(&bed.batch, 1);
        g_assert_cmpuint(bed.batch.n, ==, 1);
        g_assert_cmphex(le64_to_cpu(bed.batch.cmd[0].word[0]), ==,
                        NH_VA | (pages - 1) << 12);
        g_assert_cmphex(le64_to_cpu(bed.batch.cmd[0].word[1]), ==,
                        0x1000 | 1u << 10);
    }
}

/*
 * What Linux issues for 128 KiB.  Ranges do not wrap at the last page, and are
 * less than twice as long as their pages.
 */
static void test_one_range_a_granule(void)
{
    static const struct {
        uint64_t first;
        unsigned pages, granules, want;
        unsigned stride;            /* 0 means 0x1000 */
    } cases[] = {
        { 0xffffe000, 32, 7, 3 }, { 0xffffe000, 32, 1, 1 },
        { 0xffffe000, 32, 0, 32 }, { 0x1000, 3, 7, 3 }, { 0x1000, 4, 7, 3 },
        { 0x1000, 2, 1, 1 }, { 0x1000, 1, 1, 1 },
        { 0xfffffffffffe0000ull, 32, 7, 3 },
        /* Rounding up must end at the last of all or of the lower addresses */
        { 0xfffffffffffdf000ull, 33, 7, 3 }, { 0xfffffffffffff000ull, 1, 7, 1 },
        { 0xffffffffffffc000ull, 4, 7, 3 }, { 0xfffffffdf000ull, 33, 7, 3 },
        { 0xffffffffd000ull, 3, 4, 1 },
        /* The page at 0 does not follow the last one */
        { 0xffffffffffffc000ull, 8, 7, 6 }, { 0xffffffffffffe000ull, 4, 1, 2 },
        /* Misaligned pages, the last of which ends beyond all addresses */
        { 0xfffffffffffc1000ull, 4, 7, 3, 0x10000 },
        { 0xffffffffffff1000ull, 4, 7, 3, 0x4000 },
        { 0xfffffffffff01000ull, 17, 7, 4, 0x10000 },
    };

    for (unsigned c = 0; c < ARRAY_SIZE(cases); c++) {
        uint64_t stride = cases[c].stride ?: 0x1000;
        Bed bed;

        memset(&bed, 0, sizeof(bed));
        for (unsigned i = 0; i < cases[c].pages; i++) {
            add(&bed, NH_VA, cases[c].first + i * stride, i);
        }
        smmuv3_accel_batch_to_ranges(&bed.batch, cases[c].granules);
        g_assert_cmpuint(bed.batch.n, ==, cases[c].want);
        g_assert_cmpuint(bed.batch.cons[0], ==, 0);
        for (unsigned b = 0; b < bed.batch.n; b++) {
            uint64_t w0 = le64_to_cpu(bed.batch.cmd[b].word[0]);
            uint64_t w1 = le64_to_cpu(bed.batch.cmd[b].word[1]);
            unsigned tg = w1 >> 10 & 3;
            uint64_t start = w1 & ~0xfffull, unit = 1ull << (10 + 2 * tg);
            uint64_t size = unit * ((w0 >> 12 & 0x1f) + 1)
                                 << (w0 >> 20 & 0x1f);

            g_assert_true(!tg || (start + size - 1) >> 48 == start >> 48);
            g_assert_true(!tg ||
                          size <= 2 * (cases[c].pages * stride + unit));
        }
        for (unsigned i = 0; i < cases[c].pages; i++) {
            const uint64_t page[2] = { NH_VA, cases[c].first + i * stride };

            for (unsigned tg = 1; tg <= 3; tg++) {
                g_assert_true(!(cases[c].granules & 1u << (tg - 1)) ||
                              is_covered_in(&bed.batch, page, tg));
            }
        }
    }
}

static void test_random_failures(void)
{
    for (int round = 0; round < 500; round++) {
        int odds = g_test_rand_int_range(2, 40);
        unsigned n = g_test_rand_int_range(1, 100), until;
        unsigned result;
        SMMUv3AccelBatch batch;
        uint32_t cons = UNTOUCHED;
        Bed bed;

        bed_init(&bed, true);
        for (unsigned i = 0; i < n; i++) {
            uint64_t sid = (uint64_t)sid_of(g_test_rand_int_range(0, DEVICES));

            switch (g_test_rand_int_range(0, 4)) {
            case 0:
                add(&bed, CFGI_CD | sid << 32, 1, i);
                break;
            case 1:
                add(&bed, ATC_INV | sid << 32, (uint64_t)i << 12, i);
                break;
            default:
                add(&bed, NH_VA | (uint64_t)i << 48, (uint64_t)i << 12, i);
                break;
            }
        }
        batch = bed.batch;
        bed.host->inject = at_random;
        bed.host->opaque = &odds;
        result = flush(&bed, &cons);
        g_assert_cmpuint(bed.batch.n, ==, 0);
        g_assert_cmpint(cons != UNTOUCHED, ==,
                        !!(result & SMMUV3_ACCEL_FLUSH_ILLEGAL));
        until = result & SMMUV3_ACCEL_FLUSH_ILLEGAL ? cons : n;
        for (unsigned i = 0; i < batch.n && batch.cons[i] < until; i++) {
            bool atc = (le64_to_cpu(batch.cmd[i].word[0]) & 0xff) == ATC_INV;

            /* An ATC_INV may time out, which the flush or an ILLEGAL reports */
            if (!done_or_moot(&bed, &batch.cmd[i]) &&
                !(atc && result != SMMUV3_ACCEL_FLUSH_OK)) {
                g_autofree char *story = rec_story(bed.host);

                g_error("command %u of %u, 0x%016" PRIx64 " 0x%016" PRIx64
                        ": not done; flush %u, after: %s", i, n,
                        le64_to_cpu(batch.cmd[i].word[0]),
                        le64_to_cpu(batch.cmd[i].word[1]), result, story);
            }
        }
        bed_fini(&bed);
    }
}

/*
 * Erratum T264-SMMU-3.  These tests need a host that has it.
 */

/* A guest may repeat a command by itself, and then it is merged */
static void test_repeated_by_the_guest(void)
{
    for (unsigned times = 1; times < 4; times++) {
        Bed bed;

        bed_init(&bed, true);
        for (unsigned i = 0; i < times; i++) {
            add(&bed, NH_ASID | 1ull << 48, 0, i);
        }
        expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
        g_assert_true(was_done(&bed, NH_ASID | 1ull << 48));
        bed_fini(&bed);
    }
}

/* An ATC_INV alone comes once.  Behind a TLBI it comes after its effect. */
static void test_atc_inv_once(void)
{
    const uint64_t atc = ATC_INV | (uint64_t)sid_of(0) << 32;
    g_autofree char *story = NULL;
    SMMUv3HostCmd *done;
    Bed bed;

    bed_init(&bed, true);
    add(&bed, atc, 52, 1);
    add(&bed, ATC_INV | (uint64_t)sid_of(1) << 32, 52, 2);
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    story = rec_story(bed.host);
    g_assert_cmpstr(story, ==, "invalidate:2");

    add(&bed, NH_ASID, 0, 3);
    add(&bed, atc, 52, 4);
    expect_flush(&bed, SMMUV3_ACCEL_FLUSH_OK, UNTOUCHED);
    done = &g_array_index(bed.host->done, SMMUv3HostCmd,
                          bed.host->done->len - 2);
    g_assert_cmphex(le64_to_cpu(done[0].word[0]), ==, NH_ASID);
    g_assert_cmphex(le64_to_cpu(done[1].word[0]), ==, atc);
    bed_fini(&bed);
}

/* Either call fails, or both: all is done in the end, or nothing translates */
static void test_either_call_fails(void)
{
    for (int e = 0; e < ARRAY_SIZE(errnos); e++) {
        for (unsigned nth = 1; nth <= 2 + 2 * 3; nth++) {
            RecFailNth fail = { .nth = nth, .err = errnos[e] };
            SMMUv3AccelBatch batch;
            unsigned result;
            uint32_t cons = UNTOUCHED;
            unsigned until;
            Bed bed;

            bed_init(&bed, true);
            add(&bed, NH_ASID | 1ull << 48, 0, 0);
            add(&bed, CFGI_CD | (uint64_t)sid_of(0) << 32, 1, 1);
            add(&bed, NH_VAA, 0x1000, 2);
            batch = bed.batch;
            bed.host->inject = rec_fail_nth;
            bed.host->opaque = &fail;
            result = flush(&bed, &cons);
            g_assert_false(result & SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT);
            until = result & SMMUV3_ACCEL_FLUSH_ILLEGAL ? cons : batch.n;
            for (unsigned i = 0; i < until; i++) {
                if (!done_or_moot(&bed, &batch.cmd[i])) {
                    g_autofree char *story = rec_story(bed.host);

                    g_error("errno %d at call %u: command %u is not done, "
                            "after: %s", errnos[e], nth, i, story);
                }
            }
            bed_fini(&bed);
        }
    }
}

static void run_with_erratum(gconstpointer test)
{
    with_erratum = true;
    ((GTestFunc)test)();
    with_erratum = false;
}

/* Tests of recovery, which must hold with the erratum, too */
static const struct {
    const char *name;
    GTestFunc test;
} erratum_tests[] = {
    { "a-batch-is-two-calls-in-order", test_one_call },
    { "repeated-by-the-guest", test_repeated_by_the_guest },
    { "atc-inv-once", test_atc_inv_once },
    { "either-call-fails", test_either_call_fails },
    { "illegal-is-the-kth", test_illegal_at },
    { "unknown-streamid", test_unknown_streamid },
    { "unknown-streamid-merged", test_unknown_streamid_merged },
    { "resync", test_resync },
    { "stops-if-slow", test_stops_if_slow },
    { "slow-without-thread", test_slow_without_thread },
    { "refused-without-thread", test_refused_without_thread },
    { "search-goes-on", test_search_goes_on },
    { "recovery-stops-if-slow", test_recovery_stops_if_slow },
    { "everything-stops-if-slow", test_everything_stops_if_slow },
    { "illegal-stops-if-slow", test_illegal_stops_if_slow },
    { "atc-timeout", test_atc_timeout },
    { "timeout-without-atc", test_timeout_without_atc },
    { "atc-inv-is-answered", test_atc_inv_is_answered },
    { "no-atc-inv-left", test_no_atc_inv_left },
    { "merge-ends", test_merge_ends },
    { "random-failures", test_random_failures },
};

typedef struct Streams {
    SMMUv3Host *host;
    SMMUv3AccelVsmmu vsmmu;
    SMMUv3HostDevice *dev;
    uint32_t *sid;              /* in the order of commands, which repeats */
    unsigned n;                 /* a power of 2, like the number of commands */
    double best;                /* shortest time of all commands, in seconds */
} Streams;

static void streams_init(Streams *s, unsigned n, unsigned apart, bool shuffled)
{
    const SMMUv3AccelDecision bypass = smmuv3_accel_decide_disabled(false);
    uint32_t stage2;

    s->host = rec_host_new();
    stage2 = rec_stage2_new(s->host);
    s->dev = g_new0(SMMUv3HostDevice, n);
    s->sid = g_new(uint32_t, n);
    s->n = n;
    s->best = DBL_MAX;
    smmuv3_accel_vsmmu_init(&s->vsmmu, &rec_ops, "smmu0");
    for (unsigned i = 0; i < n; i++) {
        rec_device_init(&s->dev[i], s->host, "dev", stage2);
        smmuv3_accel_stream_apply(
            rec_stream_new(&s->vsmmu, &s->dev[i], &s->dev[i].info,
                                    &error_abort),
            i * apart, &bypass, &error_abort);
        s->sid[i] = i * apart;
    }
    for (unsigned i = 0; i < n && shuffled; i++) {
        unsigned j = g_test_rand_int_range(i, n);
        uint32_t sid = s->sid[i];

        s->sid[i] = s->sid[j];
        s->sid[j] = sid;
    }
}

static void streams_fini(Streams *s)
{
    while (!QLIST_EMPTY(&s->vsmmu.streams)) {
        rec_stream_free(QLIST_FIRST(&s->vsmmu.streams));
    }
    smmuv3_accel_vsmmu_fini(&s->vsmmu);
    rec_host_free(s->host);
    g_free(s->dev);
    g_free(s->sid);
}

/* Prepare @commands commands, find their streams, and add them to a batch */
static void streams_collect(Streams *s, SMMUv3AccelBatch *batch,
                            unsigned commands)
{
    /* Each has another substream, because a repeated command costs less */
    const SMMUv3AccelCmdRules rules = { .ssidsize = 8 };

    g_test_timer_start();
    for (unsigned i = 0; i < commands; i++) {
        const uint64_t w[2] = {
            CFGI_CD | (i & 0xff) << 12 |
            (uint64_t)s->sid[i & (s->n - 1)] << 32, 0,
        };
        SMMUv3AccelStream *stream;
        SMMUv3HostCmd cmd;

        smmuv3_accel_cmd_prepare(&rules, w, &cmd);
        stream = smmuv3_accel_vsmmu_find(&s->vsmmu, w[0] >> 32);
        smmuv3_accel_cmd_set_sid(&cmd, stream->sid);
        smmuv3_accel_batch_add(batch, &cmd, i);
        if (smmuv3_accel_batch_full(batch)) {
            smmuv3_accel_batch_clear(batch);
        }
    }
    s->best = MIN(s->best, g_test_timer_elapsed());
}

/*
 * With -m perf: the cost of a command that names one of 1 to 4096 streams, with
 * StreamIDs in order, in order and 16 apart, and in random order.
 */
static void test_cost(void)
{
    static const struct {
        unsigned apart;
        bool shuffled;
    } kinds[] = { { 1, false }, { 16, false }, { 1, true } };
    const unsigned commands = 1 << 20;
    g_autofree SMMUv3AccelBatch *batch = g_new0(SMMUv3AccelBatch, 1);
    Streams s[5][ARRAY_SIZE(kinds)];

    for (unsigned k = 0; k < ARRAY_SIZE(s); k++) {
        for (unsigned j = 0; j < ARRAY_SIZE(kinds); j++) {
            streams_init(&s[k][j], 1 << 3 * k, kinds[j].apart,
                         kinds[j].shuffled);
        }
    }
    /* In turn, so that other load on this computer affects all equally */
    for (int round = 0; round < 40; round++) {
        for (unsigned k = 0; k < ARRAY_SIZE(s); k++) {
            for (unsigned j = 0; j < ARRAY_SIZE(kinds); j++) {
                streams_collect(&s[k][j], batch, commands);
            }
        }
    }
    for (unsigned k = 0; k < ARRAY_SIZE(s); k++) {
        const double ns = 1e9 / commands;

        g_test_message("perf: streams %u %.2f %.2f %.2f", s[k][0].n,
                       s[k][0].best * ns, s[k][1].best * ns,
                       s[k][2].best * ns);
        for (unsigned j = 0; j < ARRAY_SIZE(kinds); j++) {
            streams_fini(&s[k][j]);
        }
    }
}

int main(int argc, char **argv)
{
    /* Streams are parked on purpose here: keep the reports off stderr */
    setenv("QTEST_SILENT_ERRORS", "1", 1);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/smmuv3-accel/batch/opcodes", test_opcodes);
    g_test_add_func("/smmuv3-accel/batch/ranges", test_ranges);
    g_test_add_func("/smmuv3-accel/batch/atc-sizes", test_atc_sizes);
    g_test_add_func("/smmuv3-accel/batch/single-bits", test_single_bits);
    g_test_add_func("/smmuv3-accel/batch/random-words", test_random_words);
    g_test_add_func("/smmuv3-accel/batch/clean-commands-stay",
                    test_clean_commands_stay);
    g_test_add_func("/smmuv3-accel/batch/cfgi-cd-all", test_cfgi_cd_all);
    g_test_add_func("/smmuv3-accel/batch/a-batch-is-one-call-in-order",
                    test_one_call);
    g_test_add_func("/smmuv3-accel/batch/nothing-to-do", test_nothing_to_do);
    g_test_add_func("/smmuv3-accel/batch/one-by-one-after-an-error",
                    test_one_by_one);
    g_test_add_func("/smmuv3-accel/batch/illegal-is-the-kth", test_illegal_at);
    g_test_add_func("/smmuv3-accel/batch/unknown-streamid",
                    test_unknown_streamid);
    g_test_add_func("/smmuv3-accel/batch/unknown-streamid-merged",
                    test_unknown_streamid_merged);
    g_test_add_func("/smmuv3-accel/batch/resync", test_resync);
    g_test_add_func("/smmuv3-accel/batch/resync-fails-all-park", test_park);
    g_test_add_func("/smmuv3-accel/batch/park-fails", test_park_fails);
    g_test_add_func("/smmuv3-accel/batch/parked-until-invalidated",
                    test_parked_until_invalidated);
    g_test_add_func("/smmuv3-accel/batch/park-is-reported",
                    test_park_is_reported);
    g_test_add_func("/smmuv3-accel/batch/atc-timeout", test_atc_timeout);
    g_test_add_func("/smmuv3-accel/batch/atc-timeout-then-illegal",
                    test_atc_timeout_then_illegal);
    g_test_add_data_func("/smmuv3-accel/batch/atc-timeout-stops/illegal", NULL,
                         test_atc_timeout_stops);
    g_test_add_data_func("/smmuv3-accel/batch/atc-timeout-stops/silent",
                         "silent", test_atc_timeout_stops);
    g_test_add_func("/smmuv3-accel/batch/timeout-without-atc",
                    test_timeout_without_atc);
    g_test_add_func("/smmuv3-accel/batch/atc-inv-is-answered",
                    test_atc_inv_is_answered);
    g_test_add_func("/smmuv3-accel/batch/no-atc-inv-left",
                    test_no_atc_inv_left);
    g_test_add_func("/smmuv3-accel/batch/job", test_job);
    g_test_add_func("/smmuv3-accel/batch/job-fails", test_job_fails);
    g_test_add_func("/smmuv3-accel/batch/job-stream-leaves",
                    test_job_stream_leaves);
    g_test_add_func("/smmuv3-accel/batch/job-stream-leaves-after",
                    test_job_stream_leaves_after);
    g_test_add_func("/smmuv3-accel/batch/job-stream-leaves-silent",
                    test_job_stream_leaves_silent);
    g_test_add_func("/smmuv3-accel/batch/job-cancelled", test_job_cancelled);
    g_test_add_func("/smmuv3-accel/batch/bypass-is-not-parked",
                    test_bypass_is_not_parked);
    g_test_add_func("/smmuv3-accel/batch/detached-is-not-parked",
                    test_detached_is_not_parked);
    g_test_add_func("/smmuv3-accel/batch/park-stuck", test_park_stuck);
    g_test_add_func("/smmuv3-accel/batch/slow-host", test_slow_host);
    g_test_add_func("/smmuv3-accel/batch/stops-if-slow", test_stops_if_slow);
    g_test_add_func("/smmuv3-accel/batch/slow-without-thread",
                    test_slow_without_thread);
    g_test_add_func("/smmuv3-accel/batch/refused-without-thread",
                    test_refused_without_thread);
    g_test_add_func("/smmuv3-accel/batch/search-goes-on", test_search_goes_on);
    g_test_add_func("/smmuv3-accel/batch/recovery-stops-if-slow",
                    test_recovery_stops_if_slow);
    g_test_add_func("/smmuv3-accel/batch/illegal-stops-if-slow",
                    test_illegal_stops_if_slow);
    g_test_add_func("/smmuv3-accel/batch/park-stops-if-slow",
                    test_park_stops_if_slow);
    g_test_add_func("/smmuv3-accel/batch/merge", test_merge);
    g_test_add_func("/smmuv3-accel/batch/pages", test_pages);
    g_test_add_func("/smmuv3-accel/batch/pages-end", test_pages_end);
    g_test_add_func("/smmuv3-accel/batch/merge-ends", test_merge_ends);
    g_test_add_func("/smmuv3-accel/batch/ranges-of-pages",
                    test_ranges_of_pages);
    g_test_add_func("/smmuv3-accel/batch/ranges-keep", test_ranges_keep);
    g_test_add_func("/smmuv3-accel/batch/ranges-end", test_ranges_end);
    g_test_add_func("/smmuv3-accel/batch/one-range-a-granule",
                    test_one_range_a_granule);
    g_test_add_func("/smmuv3-accel/batch/random-failures",
                    test_random_failures);
    for (int i = 0; i < ARRAY_SIZE(erratum_tests); i++) {
        g_autofree char *path =
            g_strdup_printf("/smmuv3-accel/batch/erratum/%s",
                            erratum_tests[i].name);

        g_test_add_data_func(path, erratum_tests[i].test, run_with_erratum);
    }
    if (g_test_perf()) {
        g_test_add_func("/smmuv3-accel/batch/cost", test_cost);
    }
    return g_test_run();
}
