/*
 * Accelerated SMMUv3: invalidations for the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Consecutive commands that the host takes become one call.  A command enters
 * a batch in a form that the host cannot refuse, because the host's count of
 * commands done is no measure after an error (linux/iommufd.h, struct
 * iommu_hwpt_invalidate; Linux converts a whole chunk before it issues any).
 *
 * Called with the BQL held.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_BATCH_H
#define HW_ARM_SMMUV3_ACCEL_BATCH_H

#include "smmuv3-accel-cmd.h"
#include "smmuv3-accel-stream.h"

/* Commands in one call; Linux's driver issues them 63 before a sync */
#define SMMUV3_ACCEL_BATCH_MAX 256

typedef struct SMMUv3AccelBatch {
    unsigned n;
    bool all;           /* all of the TLB, and only TLBIs since */
    SMMUv3HostCmd cmd[SMMUV3_ACCEL_BATCH_MAX];
    uint32_t cons[SMMUV3_ACCEL_BATCH_MAX];  /* CMDQ_CONS.RD of each */
} SMMUv3AccelBatch;

/* How a flush ended, as the guest has to see it */
typedef enum SMMUv3AccelFlush {
    SMMUV3_ACCEL_FLUSH_OK,          /* all are done */
    SMMUV3_ACCEL_FLUSH_ILLEGAL,     /* the host refused the one at *cons */
    SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT, /* a device did not answer an ATC_INV */
} SMMUv3AccelFlush;

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
 * The commands of a batch are done in one call.  By then the guest has written
 * all of them and the tables that they are about, and no CMD_SYNC is between
 * them (IHI 0070 4.7.3).  So a TLBI_NSNH_ALL or TLBI_NH_ALL covers every TLBI
 * of the batch before it, and those after it until another kind of command;
 * and a command covers its repetition.  Nothing else is merged: a TLBI_NH_ASID
 * spares global entries, which a TLBI_NH_VA of that ASID does not.
 */
void smmuv3_accel_batch_add(SMMUv3AccelBatch *batch, const SMMUv3HostCmd *cmd,
                            uint32_t cons);

/**
 * smmuv3_accel_batch_add_pages: go on with the other pages of an unmap
 * @batch: as smmuv3_accel_batch_add() left it
 * @cmd: the command that was added last, and after it @n more; host endian
 * @n: how many
 * @cons: CMDQ_CONS.RD that points at the first of those
 * @mask: of CMDQ_CONS.RD
 *
 * A guest without range invalidation issues a TLBI_NH_VA or TLBI_NH_VAA for
 * each page (IHI 0070 4.4.1).  This appends those that differ from @cmd by
 * their address alone, as smmuv3_accel_cmd_prepare() and
 * smmuv3_accel_batch_add() would, in a fraction of the time.
 *
 * Returns: how many these were; 0 where @cmd is of another kind, where all of
 * the TLB is invalidated anyway, and where the batch is full or was flushed.
 */
unsigned smmuv3_accel_batch_add_pages(SMMUv3AccelBatch *batch,
                                      const uint64_t (*cmd)[2], unsigned n,
                                      uint32_t cons, uint32_t mask);

/**
 * smmuv3_accel_batch_to_ranges: write pages side by side as ranges
 * @batch: any
 * @granules: IDR5's bits for the granules that the guest may use, of a host
 *            with IDR3.RIL; 0 for one without, which leaves the batch as it is
 *
 * A range is of one granule and need not invalidate entries of another (IHI
 * 0070 4.4.1.1), and the command of a page does not name its granule.  So a run
 * of pages side by side becomes a range of each granule, rounded outwards,
 * where these are fewer.  What is invalidated is as much or more.
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
 * Where the host fails, each command is tried alone, which shows the one to
 * blame.  Then, and where the host fails for reasons of its own, everything of
 * this vSMMU is invalidated.  If that fails too its streams are parked on
 * abort: a stale translation is never used.  A stale vSMMU has no stream that
 * translates, and the host is not asked.
 */
SMMUv3AccelFlush smmuv3_accel_batch_flush(SMMUv3AccelVsmmu *vsmmu,
                                          SMMUv3AccelBatch *batch,
                                          uint32_t *cons);

#endif
