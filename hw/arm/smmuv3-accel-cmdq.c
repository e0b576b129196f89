/*
 * Accelerated SMMUv3: the guest's invalidations on their way to the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "trace.h"
#include "smmuv3-accel-cmdq.h"

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
#define CMD0_ASID8      MAKE_64BIT_MASK(48, 8)
#define CMD0_ASID16     MAKE_64BIT_MASK(48, 16)

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
 * The range fields of TLBI_NH_VA and TLBI_NH_VAA, IHI 0070 4.4.1.1.  TTL is a
 * hint that names one level; without it all levels are meant, so dropping what
 * is reserved invalidates as much or more.
 */
static void clean_range(const SMMUv3AccelCmdTraits *traits, uint64_t cmd[2])
{
    const uint64_t range = CMD0_NUM | CMD0_SCALE | CMD0_SCALE_DS;
    unsigned tg = extract64(cmd[1], 10, 2);
    unsigned ttl = extract64(cmd[1], 8, 2);

    if (!traits->ds) {
        cmd[0] &= ~CMD0_SCALE_DS;
    }
    if (tg == TG_16K && ttl == 1) {
        cmd[1] &= ~CMD1_TTL;
    }
    if (!traits->ril || !tg || !((cmd[0] & range) | (cmd[1] & CMD1_TTL))) {
        cmd[0] &= ~range;
        cmd[1] &= ~(CMD1_TG | CMD1_TTL);
    }
}

SMMUv3AccelCmdKind smmuv3_accel_cmd_prepare(const SMMUv3AccelCmdTraits *traits,
                                            const uint64_t cmd[2],
                                            SMMUv3HostCmd *out)
{
    uint64_t asid = traits->asid16 ? CMD0_ASID16 : CMD0_ASID8;
    uint64_t allowed[2] = { CMD0_OP, 0 };
    uint64_t clean[2] = { cmd[0], cmd[1] };
    SMMUv3AccelCmdKind kind = SMMUV3_ACCEL_CMD_TLB;

    switch (cmd[0] & CMD0_OP) {
    case SMMUV3_OP_TLBI_NSNH_ALL:
    case SMMUV3_OP_TLBI_NH_ALL:
        break;
    case SMMUV3_OP_TLBI_NH_ASID:
        allowed[0] |= asid;
        break;
    case SMMUV3_OP_TLBI_NH_VA:
        allowed[0] |= asid;
        /* fall through */
    case SMMUV3_OP_TLBI_NH_VAA:
        clean_range(traits, clean);
        allowed[0] |= CMD0_NUM | CMD0_SCALE | CMD0_SCALE_DS;
        allowed[1] |= CMD1_LEAF | CMD1_TTL | CMD1_TG | CMD1_ADDR;
        break;
    case SMMUV3_OP_CFGI_CD:
        allowed[1] |= CMD1_LEAF;
        allowed[0] |= traits->ssidsize ? CMD0_SSID : 0;
        /* fall through */
    case SMMUV3_OP_CFGI_CD_ALL:
        allowed[0] |= CMD0_SID;
        kind = SMMUV3_ACCEL_CMD_STREAM;
        break;
    case SMMUV3_OP_ATC_INV:
        if (!traits->ats) {
            return SMMUV3_ACCEL_CMD_ILLEGAL;
        }
        allowed[0] |= CMD0_SID;
        if (traits->ssidsize) {
            allowed[0] |= CMD0_SSV | CMD0_SSID | CMD0_GLOBAL;
        }
        allowed[1] |= CMD1_ADDR | CMD1_ATC_SIZE;
        if (extract64(cmd[1], 0, 6) > SMMUV3_ATC_SIZE_ALL) {
            clean[1] = SMMUV3_ATC_SIZE_ALL;
        }
        kind = SMMUV3_ACCEL_CMD_STREAM;
        break;
    default:
        return SMMUV3_ACCEL_CMD_LOCAL;
    }

    /* There is no Secure state to reach from here */
    if (kind == SMMUV3_ACCEL_CMD_STREAM && (cmd[0] & CMD0_SSEC)) {
        return SMMUV3_ACCEL_CMD_ILLEGAL;
    }
    out->word[0] = cpu_to_le64(clean[0] & allowed[0]);
    out->word[1] = cpu_to_le64(clean[1] & allowed[1]);
    return kind;
}

static unsigned opcode(const SMMUv3HostCmd *cmd)
{
    return le64_to_cpu(cmd->word[0]) & CMD0_OP;
}

static bool is_tlbi_all(const SMMUv3HostCmd *cmd)
{
    return opcode(cmd) == SMMUV3_OP_TLBI_NSNH_ALL ||
           opcode(cmd) == SMMUV3_OP_TLBI_NH_ALL;
}

static bool is_tlbi(const SMMUv3HostCmd *cmd)
{
    return is_tlbi_all(cmd) || opcode(cmd) == SMMUV3_OP_TLBI_NH_ASID ||
           opcode(cmd) == SMMUV3_OP_TLBI_NH_VA ||
           opcode(cmd) == SMMUV3_OP_TLBI_NH_VAA;
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
    if (is_tlbi_all(cmd)) {
        drop_tlbi(batch);
        batch->all = true;
    } else if (!tlbi) {
        batch->all = false;
    }
    batch->cmd[batch->n] = *cmd;
    batch->cons[batch->n] = cons;
    batch->n++;
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

    if ((opcode(cmd) != SMMUV3_OP_TLBI_NH_VA &&
         opcode(cmd) != SMMUV3_OP_TLBI_NH_VAA) ||
        (word1 & CMD1_TG) || first + 1 == batch->n) {
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
    bool told = vsmmu->stale;
    int ret = smmuv3_accel_vsmmu_resync(vsmmu);

    if (!ret) {
        return;
    }
    if (!told) {
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
        if (ret == -ETIMEDOUT && opcode(&batch->cmd[i]) == SMMUV3_OP_ATC_INV) {
            /* IHI 0070 4.5.1: the device's fault; others go on */
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
