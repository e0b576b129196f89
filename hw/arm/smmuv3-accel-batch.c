/*
 * Accelerated SMMUv3: invalidations for the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How commands become one call, how pages become ranges, and how to recover
 * after the host has refused a command.
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

/* Indexed by TG; the granule's bit in IDR5.GRAN* is TG - 1 */
static const uint8_t granule_shift[] = { 0, 12, 14, 16 };

#define NUM_MAX         32      /* the field NUM holds one less */
#define SCALE_MAX       31      /* without DS */

static unsigned opcode(const SMMUv3HostCmd *cmd)
{
    return le64_to_cpu(cmd->word[0]) & CMD0_OP;
}

static const SMMUv3AccelCmdType *type_of(const SMMUv3HostCmd *cmd)
{
    return smmuv3_accel_cmd_type(opcode(cmd));
}

static bool is_tlbi(const SMMUv3HostCmd *cmd)
{
    return type_of(cmd)->kind == SMMUV3_ACCEL_CMD_TLB;
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
    const SMMUv3AccelCmdType *type = type_of(cmd);
    bool tlbi = type->kind == SMMUV3_ACCEL_CMD_TLB;

    if ((batch->all && tlbi) ||
        (batch->n && !memcmp(cmd, &batch->cmd[batch->n - 1], sizeof(*cmd)))) {
        return;
    }
    if (type->all) {
        drop_tlbi(batch);
        batch->all = true;
    } else if (!tlbi) {
        batch->all = false;
    }
    batch->cmd[batch->n] = *cmd;
    batch->cons[batch->n] = cons;
    batch->n++;
}

/* Do two commands differ in their address only? */
static bool alike(const uint64_t a[2], const uint64_t b[2])
{
    return a[0] == b[0] && !((a[1] ^ b[1]) & ~CMD1_ADDR);
}

unsigned smmuv3_accel_batch_add_pages(SMMUv3AccelBatch *batch,
                                      const uint64_t (*cmd)[2], unsigned n,
                                      uint32_t cons, uint32_t mask)
{
    unsigned done;

    if (!batch->n || batch->all ||
        !smmuv3_accel_cmd_type(cmd[0][0] & CMD0_OP)->page) {
        return 0;
    }
    /* Leave the last place free: the command that fills a batch flushes it */
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
 * Returns how many commands from @first on name adjacent pages and are equal
 * otherwise.  The page at 0 follows no other page, because ranges do not wrap.
 */
static unsigned run_length(const SMMUv3AccelBatch *batch, unsigned first)
{
    const SMMUv3HostCmd *cmd = &batch->cmd[first];
    uint64_t word1 = le64_to_cpu(cmd->word[1]);
    uint64_t page;
    unsigned n = 1;

    if (!type_of(cmd)->page || (word1 & CMD1_TG) ||
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
 * Returns a range of granule @tg that replaces @cmd and the TLBIs after it, up
 * to address @last.  The range consists of whole, aligned units.  So it does
 * not extend beyond the last address.
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
    /* NUM, SCALE and TTL are reserved if all are 0: one page becomes two */
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
    int ret = smmuv3_accel_vsmmu_invalidate(vsmmu, cmd, n);

    trace_smmuv3_accel_invalidate(vsmmu->name, n, opcode(cmd), ret);
    return ret;
}

/* Nothing invalidates any more: no stream may continue to translate */
static void park_all(SMMUv3AccelVsmmu *vsmmu)
{
    SMMUv3AccelDecision park = smmuv3_accel_decide_disabled(true);
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &vsmmu->streams, next) {
        smmuv3_accel_stream_apply(stream, stream->sid, &park, NULL);
    }
}

/* Invalidate everything, or else park all streams */
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
            /* The guest may repeat the command or, like Linux, skip it */
            invalidate_all(vsmmu);
            *cons = batch->cons[i];
            return SMMUV3_ACCEL_FLUSH_ILLEGAL;
        }
        if (ret == -ETIMEDOUT && opcode(&batch->cmd[i]) == SMMU_CMD_ATC_INV) {
            /* IHI 0070 3.9.1.4, 4.7.3: the device's fault; continue */
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

    /* While stale, no stream translates: there is nothing to invalidate */
    if (batch->n && !QLIST_EMPTY(&vsmmu->streams) && !vsmmu->stale &&
        issue(vsmmu, batch->cmd, batch->n)) {
        result = recover(vsmmu, batch, cons);
    }
    smmuv3_accel_batch_clear(batch);
    return result;
}
