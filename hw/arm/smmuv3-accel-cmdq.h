/*
 * Accelerated SMMUv3: the guest's invalidations on their way to the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Consecutive commands that the host takes become one call.  A command enters
 * a batch in a form that the host cannot refuse, because the host's count of
 * commands done is no measure after an error (linux/iommufd.h, struct
 * iommu_hwpt_invalidate; Linux converts the whole chunk before it issues any).
 *
 * Called with the BQL held.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_CMDQ_H
#define HW_ARM_SMMUV3_ACCEL_CMDQ_H

#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "smmuv3-accel-stream.h"

/* Commands in one call; Linux's driver issues them 63 before a sync */
#define SMMUV3_ACCEL_BATCH_MAX 256

/* What a command may hold, by the guest's ID registers and the host's */
typedef struct SMMUv3AccelCmdTraits {
    bool ril;           /* guest's IDR3.RIL, never without the host's */
    bool asid16;        /* guest's IDR0.ASID16, likewise */
    bool ats;           /* guest's IDR0.ATS, likewise */
    bool ds;            /* host's IDR5.DS */
    uint8_t ssidsize;   /* guest's IDR1.SSIDSIZE */
} SMMUv3AccelCmdTraits;

typedef enum SMMUv3AccelCmdKind {
    SMMUV3_ACCEL_CMD_LOCAL,     /* of no concern to the host */
    SMMUV3_ACCEL_CMD_TLB,       /* for the host; holds no StreamID */
    SMMUV3_ACCEL_CMD_STREAM,    /* for the host, if it knows the StreamID */
    SMMUV3_ACCEL_CMD_ILLEGAL,   /* CERROR_ILL */
} SMMUv3AccelCmdKind;

typedef struct SMMUv3AccelBatch {
    unsigned n;
    bool all;           /* all of the TLB, and only TLBIs since */
    SMMUv3HostCmd cmd[SMMUV3_ACCEL_BATCH_MAX];
    uint32_t cons[SMMUV3_ACCEL_BATCH_MAX];  /* CMDQ_CONS.RD of each */
} SMMUv3AccelBatch;

/* How a flush ended, for the guest */
typedef enum SMMUv3AccelFlush {
    SMMUV3_ACCEL_FLUSH_OK,          /* all are done */
    SMMUV3_ACCEL_FLUSH_ILLEGAL,     /* the host refused the one at *cons */
    SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT, /* a device did not answer an ATC_INV */
} SMMUv3AccelFlush;

/**
 * smmuv3_accel_cmd_prepare: classify a command and clean it for the host
 * @traits: what it may hold
 * @cmd: two 64-bit words, host endian
 * @out: the command to forward, little endian; for TLB and STREAM only
 *
 * IHI 0070 4.3 (CFGI), 4.4 (TLBI), 4.5 (ATC_INV).  RES0 bits are dropped, as
 * 4.1.5 lets an SMMU do, and so is a range that says nothing (TG without NUM,
 * SCALE and TTL, which some Linux guests send).  Secure commands and ATC_INV
 * without ATS are ILLEGAL.
 */
SMMUv3AccelCmdKind smmuv3_accel_cmd_prepare(const SMMUv3AccelCmdTraits *traits,
                                            const uint64_t cmd[2],
                                            SMMUv3HostCmd *out);

/* StreamID of a command of kind STREAM, @cmd as smmuv3_accel_cmd_prepare() */
static inline uint32_t smmuv3_accel_cmd_sid(const uint64_t cmd[2])
{
    return cmd[0] >> 32;
}

/**
 * smmuv3_accel_cmd_alike: whether commands differ by nothing but an address
 * @a, @b: as smmuv3_accel_cmd_prepare()
 *
 * Of TLBI_NH_VA and TLBI_NH_VAA only (IHI 0070 4.4.1): those of a guest's unmap
 * without range invalidation.
 */
static inline bool smmuv3_accel_cmd_alike(const uint64_t a[2],
                                          const uint64_t b[2])
{
    unsigned op = extract64(a[0], 0, 8);

    return (op == SMMUV3_OP_TLBI_NH_VA || op == SMMUV3_OP_TLBI_NH_VAA) &&
           a[0] == b[0] && !extract64(a[1] ^ b[1], 0, 12);
}

static inline bool smmuv3_accel_batch_full(const SMMUv3AccelBatch *batch)
{
    return batch->n == SMMUV3_ACCEL_BATCH_MAX;
}

/**
 * smmuv3_accel_batch_add: append a command, or nothing if another covers it
 * @batch: not full
 * @cmd: prepared
 * @cons: CMDQ_CONS.RD that points at it
 *
 * The commands of a batch are done in one call, when all of them, and the
 * tables that they are about, have long been written, and no CMD_SYNC is
 * between them (IHI 0070 4.7.3). So a TLBI_NSNH_ALL or TLBI_NH_ALL does for
 * every TLBI of the batch before it, and for those after it until another kind
 * of command; and a command for its repetition. No more is merged: a
 * TLBI_NH_ASID spares global entries, which a TLBI_NH_VA of that ASID does
 * not.  Pages side by side are smmuv3_accel_batch_to_ranges()'s.
 */
void smmuv3_accel_batch_add(SMMUv3AccelBatch *batch, const SMMUv3HostCmd *cmd,
                            uint32_t cons);

/**
 * smmuv3_accel_batch_add_alike: append a command that is like the last one
 * @batch: not full, and the last in it is what a command alike became
 * @cmd: as smmuv3_accel_cmd_prepare()
 * @cons: CMDQ_CONS.RD that points at it
 *
 * As smmuv3_accel_cmd_prepare() and smmuv3_accel_batch_add(), in a fraction of
 * the time.
 */
static inline void smmuv3_accel_batch_add_alike(SMMUv3AccelBatch *batch,
                                                const uint64_t cmd[2],
                                                uint32_t cons)
{
    SMMUv3HostCmd *last = &batch->cmd[batch->n - 1];
    uint64_t word1 = le64_to_cpu(last->word[1]);
    uint64_t next = deposit64(word1, 12, 52, cmd[1] >> 12);

    if (next != word1) {
        last[1] = (SMMUv3HostCmd) { { last->word[0], cpu_to_le64(next) } };
        batch->cons[batch->n++] = cons;
    }
}

/**
 * smmuv3_accel_batch_to_ranges: write pages side by side as ranges
 * @batch: any
 * @granules: IDR5's bits for the granules that the guest may use, of a host
 *            with IDR3.RIL; 0 for one without, which leaves the batch as it is
 *
 * A guest without range invalidation gives a TLBI_NH_VA or TLBI_NH_VAA for each
 * page that it unmaps.  A range is of one granule and need not invalidate what
 * is of another (IHI 0070 4.4.1.1), and a page's command does not tell its own:
 * a run of pages becomes a range of each granule, rounded outwards, where these
 * are fewer.  What is invalidated is as much or more.
 */
void smmuv3_accel_batch_to_ranges(SMMUv3AccelBatch *batch, unsigned granules);

/* Forget what the batch holds */
static inline void smmuv3_accel_batch_clear(SMMUv3AccelBatch *batch)
{
    batch->n = 0;
    batch->all = false;
}

/**
 * smmuv3_accel_batch_flush: have the host do what the batch holds
 * @vsmmu: with or without streams; without, there is nothing to invalidate
 * @batch: empty on return
 * @cons: on FLUSH_ILLEGAL, CMDQ_CONS.RD of the command to blame; all before it
 *        are done.  Else left alone.
 *
 * Where the host fails, each command is tried alone, so that the guest learns
 * which one it was.  Then, and where the host fails for reasons of its own,
 * everything of this vSMMU's is invalidated, and if that fails too, its streams
 * are parked on abort: a stale translation is never used.  A stale vSMMU has no
 * stream that translates, and the host is not asked.
 */
SMMUv3AccelFlush smmuv3_accel_batch_flush(SMMUv3AccelVsmmu *vsmmu,
                                          SMMUv3AccelBatch *batch,
                                          uint32_t *cons);

#endif
