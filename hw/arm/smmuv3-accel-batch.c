/*
 * Accelerated SMMUv3: invalidations for the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a command may hold, how commands become one call, how pages become
 * ranges, and how to recover after the host refused one.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "trace.h"
#include "hw/arm/smmuv3.h"
#include "smmuv3-accel-batch.h"
#include "smmuv3-internal.h"     /* the architecture's constants */

/* Fields: the commands' own sections of IHI 0070, 4.3 to 4.5 */
#define CMD0_OP         MAKE_64BIT_MASK(0, 8)
#define CMD0_GLOBAL     BIT_ULL(9)              /* ATC_INV */
#define CMD0_SSEC       BIT_ULL(10)
#define CMD0_SSV        BIT_ULL(11)
#define CMD0_NUM        MAKE_64BIT_MASK(12, 5)  /* TLBI */
#define CMD0_SSID       MAKE_64BIT_MASK(12, 20)
#define CMD0_SCALE      MAKE_64BIT_MASK(20, 5)  /* TLBI, 6 bits with DS */
#define CMD0_SCALE_DS   BIT_ULL(25)
#define CMD0_SID        MAKE_64BIT_MASK(32, 32)
#define CMD0_ASID_LOW   MAKE_64BIT_MASK(48, 8)
#define CMD0_ASID_HIGH  MAKE_64BIT_MASK(56, 8)

#define CMD1_LEAF       BIT_ULL(0)
#define CMD1_TTL        MAKE_64BIT_MASK(8, 2)
#define CMD1_TG         MAKE_64BIT_MASK(10, 2)
#define CMD1_ADDR       MAKE_64BIT_MASK(12, 52)
#define CMD1_ATC_SIZE   MAKE_64BIT_MASK(0, 6)

#define TG_16K          2

/* By TG, which is one more than the place of the granule's bit in IDR5.GRAN* */
static const uint8_t granule_shift[] = { 0, 12, 14, 16 };

#define NUM_MAX         32      /* NUM is one less */
#define SCALE_MAX       31      /* without DS */

/*
 * Groups of bits that a command can have, and what the rules must say for the
 * host to take them
 */
typedef enum CmdBits {
    BITS_ASID, BITS_ASID16, BITS_VA, BITS_RANGE, BITS_RANGE_DS, BITS_LEAF,
    BITS_SID, BITS_SSID, BITS_ATC, BITS_ATC_SSID,
    BITS__MAX,
} CmdBits;

typedef enum CmdNeed {
    NEED_NOTHING, NEED_ASID16, NEED_RIL, NEED_DS, NEED_SSIDS, NEED_ATS,
} CmdNeed;

static const struct {
    uint64_t word[2];
    CmdNeed need;
} cmd_bits[BITS__MAX] = {
    [BITS_ASID]     = { { CMD0_ASID_LOW, 0 } },
    [BITS_ASID16]   = { { CMD0_ASID_HIGH, 0 }, NEED_ASID16 },
    [BITS_VA]       = { { 0, CMD1_ADDR } },
    [BITS_RANGE]    = { { CMD0_NUM | CMD0_SCALE, CMD1_TG | CMD1_TTL },
                        NEED_RIL },
    [BITS_RANGE_DS] = { { CMD0_SCALE_DS, 0 }, NEED_DS },
    [BITS_LEAF]     = { { 0, CMD1_LEAF } },
    [BITS_SID]      = { { CMD0_SID, 0 } },
    [BITS_SSID]     = { { CMD0_SSID, 0 }, NEED_SSIDS },
    [BITS_ATC]      = { { 0, CMD1_ADDR | CMD1_ATC_SIZE } },
    [BITS_ATC_SSID] = { { CMD0_SSV | CMD0_SSID | CMD0_GLOBAL, 0 }, NEED_SSIDS },
};

#define ROW_PAGE (BIT(BITS_VA) | BIT(BITS_RANGE) | BIT(BITS_RANGE_DS) | \
                  BIT(BITS_LEAF))
#define ROW_ASID (BIT(BITS_ASID) | BIT(BITS_ASID16))

/* Every command that is forwarded */
static const struct CmdRow {
    SMMUv3AccelCmdKind kind;
    uint16_t bits;              /* by CmdBits */
    CmdNeed need;               /* or the command is ILLEGAL */
    bool all;                   /* invalidates all of the TLB */
    bool page;                  /* of one page or range */
} cmd_rows[] = {
    [SMMU_CMD_TLBI_NSNH_ALL] = { SMMUV3_ACCEL_CMD_TLB, .all = true },
    [SMMU_CMD_TLBI_NH_ALL] = { SMMUV3_ACCEL_CMD_TLB, .all = true },
    [SMMU_CMD_TLBI_NH_ASID] = { SMMUV3_ACCEL_CMD_TLB, ROW_ASID },
    [SMMU_CMD_TLBI_NH_VA] = {
        SMMUV3_ACCEL_CMD_TLB, ROW_ASID | ROW_PAGE, .page = true,
    },
    [SMMU_CMD_TLBI_NH_VAA] = {
        SMMUV3_ACCEL_CMD_TLB, ROW_PAGE, .page = true,
    },
    [SMMU_CMD_CFGI_CD] = {
        SMMUV3_ACCEL_CMD_STREAM,
        BIT(BITS_SID) | BIT(BITS_SSID) | BIT(BITS_LEAF),
    },
    [SMMU_CMD_CFGI_CD_ALL] = { SMMUV3_ACCEL_CMD_STREAM, BIT(BITS_SID) },
    [SMMU_CMD_ATC_INV] = {
        SMMUV3_ACCEL_CMD_STREAM,
        BIT(BITS_SID) | BIT(BITS_ATC) | BIT(BITS_ATC_SSID), NEED_ATS,
    },
};

static const struct CmdRow *cmd_row(unsigned op)
{
    static const struct CmdRow none = { SMMUV3_ACCEL_CMD_LOCAL };

    return op < ARRAY_SIZE(cmd_rows) ? &cmd_rows[op] : &none;
}

static unsigned opcode(const SMMUv3HostCmd *cmd)
{
    return le64_to_cpu(cmd->word[0]) & CMD0_OP;
}

static bool is_met(const SMMUv3AccelCmdRules *rules, CmdNeed need)
{
    switch (need) {
    case NEED_ASID16:
        return rules->asid16;
    case NEED_RIL:
        return rules->ril;
    case NEED_DS:
        return rules->ril && rules->ds;
    case NEED_SSIDS:
        return rules->ssidsize;
    case NEED_ATS:
        return rules->ats;
    default:
        return true;
    }
}

/*
 * What the table cannot say of the range fields, IHI 0070 4.4.1.1.  TTL is a
 * hint that names one level.  Without it all levels are meant, so that without
 * what is reserved the command invalidates as much or more.
 */
static void clean_range(uint64_t cmd[2])
{
    const uint64_t range = CMD0_NUM | CMD0_SCALE | CMD0_SCALE_DS;
    unsigned tg = extract64(cmd[1], 10, 2);
    unsigned ttl = extract64(cmd[1], 8, 2);

    if (tg == TG_16K && ttl == 1) {
        cmd[1] &= ~CMD1_TTL;
    }
    if (!tg || !((cmd[0] & range) | (cmd[1] & CMD1_TTL))) {
        cmd[0] &= ~range;
        cmd[1] &= ~(CMD1_TG | CMD1_TTL);
    }
}

SMMUv3AccelCmdKind smmuv3_accel_cmd_prepare(const SMMUv3AccelCmdRules *rules,
                                            const uint64_t cmd[2],
                                            SMMUv3HostCmd *out)
{
    const struct CmdRow *row = cmd_row(cmd[0] & CMD0_OP);
    uint64_t may[2] = { CMD0_OP, 0 };
    uint64_t clean[2] = { cmd[0], cmd[1] };

    if (row->kind == SMMUV3_ACCEL_CMD_LOCAL) {
        return row->kind;
    }
    /* There is no Secure state to reach from here */
    if (!is_met(rules, row->need) ||
        (row->kind == SMMUV3_ACCEL_CMD_STREAM && (cmd[0] & CMD0_SSEC))) {
        return SMMUV3_ACCEL_CMD_ILLEGAL;
    }
    for (unsigned bits = row->bits; bits; bits &= bits - 1) {
        unsigned group = ctz32(bits);

        if (is_met(rules, cmd_bits[group].need)) {
            may[0] |= cmd_bits[group].word[0];
            may[1] |= cmd_bits[group].word[1];
        }
    }
    clean[0] &= may[0];
    clean[1] &= may[1];
    if (row->page) {
        clean_range(clean);
    }
    if ((row->bits & BIT(BITS_ATC)) &&
        (clean[1] & CMD1_ATC_SIZE) > SMMUV3_ATC_SIZE_ALL) {
        clean[1] = SMMUV3_ATC_SIZE_ALL;
    }
    out->word[0] = cpu_to_le64(clean[0]);
    out->word[1] = cpu_to_le64(clean[1]);
    return row->kind;
}

SMMUv3HostCmd smmuv3_accel_cmd_cfgi_cd_all(uint32_t sid)
{
    SMMUv3HostCmd cmd = { { cpu_to_le64(SMMU_CMD_CFGI_CD_ALL), 0 } };

    smmuv3_accel_cmd_set_sid(&cmd, sid);
    return cmd;
}

static bool is_tlbi(const SMMUv3HostCmd *cmd)
{
    return cmd_row(opcode(cmd))->kind == SMMUV3_ACCEL_CMD_TLB;
}

static void drop_tlbi(SMMUv3AccelBatch *batch)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < batch->n; i++) {
        if (!is_tlbi(&batch->cmd[i])) {
            batch->cmd[kept] = batch->cmd[i];
            batch->cons[kept++] = batch->cons[i];
        }
    }
    batch->n = kept;
}

void smmuv3_accel_batch_add(SMMUv3AccelBatch *batch, const SMMUv3HostCmd *cmd,
                            uint32_t cons)
{
    bool tlbi = is_tlbi(cmd);

    if ((batch->all && tlbi) ||
        (batch->n && !memcmp(cmd, &batch->cmd[batch->n - 1], sizeof(*cmd)))) {
        return;
    }
    if (cmd_row(opcode(cmd))->all) {
        drop_tlbi(batch);
        batch->all = true;
    } else if (!tlbi) {
        batch->all = false;
    }
    batch->cmd[batch->n] = *cmd;
    batch->cons[batch->n] = cons;
    batch->n++;
}

/* Whether commands differ by nothing but an address */
static bool alike(const uint64_t a[2], const uint64_t b[2])
{
    return a[0] == b[0] && !((a[1] ^ b[1]) & ~CMD1_ADDR);
}

unsigned smmuv3_accel_batch_add_pages(SMMUv3AccelBatch *batch,
                                      const uint64_t (*cmd)[2], unsigned n,
                                      uint32_t cons, uint32_t mask)
{
    unsigned done;

    if (!batch->n || batch->all || !cmd_row(cmd[0][0] & CMD0_OP)->page) {
        return 0;
    }
    /* The last place is left: the command that fills the batch flushes it */
    for (done = 0; done < n && batch->n < SMMUV3_ACCEL_BATCH_MAX - 1 &&
                   alike(cmd[0], cmd[done + 1]); done++) {
        SMMUv3HostCmd *last = &batch->cmd[batch->n - 1];
        uint64_t word1 = le64_to_cpu(last->word[1]);
        uint64_t next = (word1 & ~CMD1_ADDR) | (cmd[done + 1][1] & CMD1_ADDR);

        if (next != word1) {
            last[1] = (SMMUv3HostCmd) { { last->word[0], cpu_to_le64(next) } };
            batch->cons[batch->n++] = (cons + done) & mask;
        }
    }
    return done;
}

/*
 * How many commands from @first on are of pages side by side, all else equal.
 * The page at 0 is beside no other: a range does not go on there.
 */
static unsigned run_length(const SMMUv3AccelBatch *batch, unsigned first)
{
    const SMMUv3HostCmd *cmd = &batch->cmd[first];
    uint64_t word1 = le64_to_cpu(cmd->word[1]);
    uint64_t page;
    unsigned n = 1;

    if (!cmd_row(opcode(cmd))->page || (word1 & CMD1_TG) ||
        first + 1 == batch->n) {
        return 1;
    }
    page = le64_to_cpu(cmd[1].word[1]) - word1;
    while (first + n < batch->n && cmd[n].word[0] == cmd->word[0] &&
           le64_to_cpu(cmd[n].word[1]) == word1 + n * page &&
           word1 + n * page > word1) {
        n++;
    }
    for (unsigned tg = 1; tg < ARRAY_SIZE(granule_shift); tg++) {
        if (page == 1ULL << granule_shift[tg]) {
            return n;
        }
    }
    return 1;
}

/*
 * A range of granule @tg in place of the TLBIs of @cmd and of what stands up to
 * address @last after it; of whole units, which are aligned, so that it ends
 * where addresses do at the latest.
 */
static SMMUv3HostCmd range_of(const SMMUv3HostCmd *cmd, uint64_t last,
                              unsigned tg)
{
    uint64_t word0 = le64_to_cpu(cmd->word[0]);
    uint64_t word1 = le64_to_cpu(cmd->word[1]);
    unsigned shift = granule_shift[tg], scale = 0;
    uint64_t first = word1 & CMD1_ADDR;
    uint64_t pages;

    while ((last >> shift) - (first >> shift) >= NUM_MAX && scale < SCALE_MAX) {
        shift++;
        scale++;
    }
    /* NUM, SCALE and TTL of 0 are reserved: a page becomes two */
    if (!scale && first >> shift == last >> shift) {
        first &= ~(1ULL << shift);
        last |= 1ULL << shift;
    }
    pages = (last >> shift) - (first >> shift) + 1;
    first = first >> shift << shift;
    word0 = deposit64(word0, 12, 5, pages - 1);
    word0 = deposit64(word0, 20, 5, scale);
    word1 = first | deposit64(word1 & CMD1_LEAF, 10, 2, tg);
    return (SMMUv3HostCmd) { { cpu_to_le64(word0), cpu_to_le64(word1) } };
}

void smmuv3_accel_batch_to_ranges(SMMUv3AccelBatch *batch, unsigned granules)
{
    unsigned kept = 0, n;

    if (!granules) {
        return;
    }
    for (unsigned i = 0; i < batch->n; i += n) {
        SMMUv3HostCmd first = batch->cmd[i];
        uint32_t cons = batch->cons[i];
        uint64_t last;

        n = run_length(batch, i);
        if (n <= ctpop32(granules)) {
            n = 1;
            batch->cmd[kept] = first;
            batch->cons[kept++] = cons;
            continue;
        }
        last = le64_to_cpu(batch->cmd[i + n - 1].word[1]) & CMD1_ADDR;
        for (unsigned tg = 1; tg < ARRAY_SIZE(granule_shift); tg++) {
            if (granules & BIT(tg - 1)) {
                batch->cmd[kept] = range_of(&first, last, tg);
                batch->cons[kept++] = cons;
            }
        }
    }
    batch->n = kept;
}

static int issue(SMMUv3AccelVsmmu *vsmmu, const SMMUv3HostCmd *cmd, unsigned n)
{
    int ret = vsmmu->ops->invalidate(vsmmu->host, vsmmu->viommu, cmd, n);

    trace_smmuv3_accel_invalidate(vsmmu->name, n, opcode(cmd), ret);
    return ret;
}

/* Nothing invalidates any more: no stream may go on translating */
static void park_all(SMMUv3AccelVsmmu *vsmmu)
{
    SMMUv3AccelDecision park = smmuv3_accel_decide_disabled(true);
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &vsmmu->streams, next) {
        smmuv3_accel_stream_apply(stream, stream->sid, &park, NULL);
    }
}

/* Have nothing old be used, whatever was to be invalidated */
static void invalidate_all(SMMUv3AccelVsmmu *vsmmu)
{
    bool reported = vsmmu->stale;
    int ret = smmuv3_accel_vsmmu_resync(vsmmu);

    if (!ret) {
        return;
    }
    if (!reported) {
        error_report("%s: the host SMMUv3 does not take invalidations (%s): "
                     "its streams abort until the guest configures them "
                     "again; see the host's log", vsmmu->name, strerror(-ret));
    }
    park_all(vsmmu);
}

static SMMUv3AccelFlush recover(SMMUv3AccelVsmmu *vsmmu,
                                const SMMUv3AccelBatch *batch, uint32_t *cons)
{
    SMMUv3AccelFlush result = SMMUV3_ACCEL_FLUSH_OK;

    for (unsigned i = 0; i < batch->n; i++) {
        int ret = issue(vsmmu, &batch->cmd[i], 1);

        if (ret == -EIO) {
            /* Whether the guest gives it again or skips it, as Linux does */
            invalidate_all(vsmmu);
            *cons = batch->cons[i];
            return SMMUV3_ACCEL_FLUSH_ILLEGAL;
        }
        if (ret == -ETIMEDOUT && opcode(&batch->cmd[i]) == SMMU_CMD_ATC_INV) {
            /* IHI 0070 3.9.1.4, 4.7.3: the device's fault; others go on */
            result = SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT;
        } else if (ret) {
            invalidate_all(vsmmu);
            break;
        }
    }
    return result;
}

SMMUv3AccelFlush smmuv3_accel_batch_flush(SMMUv3AccelVsmmu *vsmmu,
                                          SMMUv3AccelBatch *batch,
                                          uint32_t *cons)
{
    SMMUv3AccelFlush result = SMMUV3_ACCEL_FLUSH_OK;

    /* Stale: nothing translates before all of it has been invalidated */
    if (batch->n && !QLIST_EMPTY(&vsmmu->streams) && !vsmmu->stale &&
        issue(vsmmu, batch->cmd, batch->n)) {
        result = recover(vsmmu, batch, cons);
    }
    smmuv3_accel_batch_clear(batch);
    return result;
}
