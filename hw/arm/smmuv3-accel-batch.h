/*
 * Accelerated SMMUv3: invalidations for the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Consecutive commands for the host become one call.  A command enters a batch
 * in a form that the host cannot refuse, because the host's count of completed
 * commands is not reliable after an error (linux/iommufd.h, struct
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
    bool all;           /* invalidates all of the TLB; only TLBIs since then */
    SMMUv3HostCmd cmd[SMMUV3_ACCEL_BATCH_MAX];
    uint32_t cons[SMMUV3_ACCEL_BATCH_MAX];  /* CMDQ_CONS.RD of each */
} SMMUv3AccelBatch;

/* How a flush ended for the guest */
typedef enum SMMUv3AccelFlush {
    SMMUV3_ACCEL_FLUSH_OK,          /* all commands are complete */
    SMMUV3_ACCEL_FLUSH_ILLEGAL,     /* the host refused the one at *cons */
    SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT, /* a device did not answer an ATC_INV */
} SMMUv3AccelFlush;

static inline bool smmuv3_accel_batch_full(const SMMUv3AccelBatch *batch)
{
    return batch->n == SMMUV3_ACCEL_BATCH_MAX;
}

/**
 * smmuv3_accel_batch_add: append a command, unless another one covers it
 * @batch: not full
 * @cmd: prepared
 * @cons: CMDQ_CONS.RD that points at it
 *
 * The host carries out a batch in one call.  By then the guest has written all
 * of its commands and the tables that they concern, and no CMD_SYNC is between
 * them (IHI 0070 4.7.3).  So a TLBI_NSNH_ALL or TLBI_NH_ALL covers every TLBI
 * of the batch before it, and those after it until another kind of command.  A
 * command covers its repetition.  Nothing else is merged: a TLBI_NH_ASID keeps
 * global entries, but a TLBI_NH_VA of that ASID does not.
 */
void smmuv3_accel_batch_add(SMMUv3AccelBatch *batch, const SMMUv3HostCmd *cmd,
                            uint32_t cons);

/**
 * smmuv3_accel_batch_add_pages: append the other pages of an unmap
 * @batch: as smmuv3_accel_batch_add() left it
 * @cmd: the command that was added last, and the @n after it; host endian
 * @n: number of commands after the first
 * @cons: CMDQ_CONS.RD that points at the first of those
 * @mask: of CMDQ_CONS.RD
 *
 * A guest without range invalidation issues a TLBI_NH_VA or TLBI_NH_VAA for
 * each page (IHI 0070 4.4.1).  This function appends those that differ from
 * @cmd in their address only.  The result is that of
 * smmuv3_accel_cmd_prepare() and smmuv3_accel_batch_add(), in a fraction of the
 * time.
 *
 * Returns: how many commands it has handled.  It is 0 if @cmd is of another
 * kind, if all of the TLB is invalidated anyway, and if the batch is full or
 * was flushed.
 */
unsigned smmuv3_accel_batch_add_pages(SMMUv3AccelBatch *batch,
                                      const uint64_t (*cmd)[2], unsigned n,
                                      uint32_t cons, uint32_t mask);

/**
 * smmuv3_accel_batch_to_ranges: replace adjacent pages by ranges
 * @batch: any
 * @granules: IDR5's bits for the granules that the guest may use, if the host
 *            has IDR3.RIL; else 0, which leaves the batch unchanged
 *
 * A range has one granule and need not invalidate entries of another (IHI 0070
 * 4.4.1.1).  The command for a page does not name its granule.  So a run of
 * adjacent pages becomes one range per granule, rounded outwards, if that makes
 * fewer commands.  The ranges invalidate at least what the pages did.
 */
void smmuv3_accel_batch_to_ranges(SMMUv3AccelBatch *batch, unsigned granules);

/* Discard all commands of the batch */
static inline void smmuv3_accel_batch_clear(SMMUv3AccelBatch *batch)
{
    batch->n = 0;
    batch->all = false;
}

/**
 * smmuv3_accel_batch_flush: have the host carry out the batch
 * @vsmmu: with or without streams; without, there is nothing to invalidate
 * @batch: empty on return
 * @cons: on FLUSH_ILLEGAL, CMDQ_CONS.RD of the illegal command; all before it
 *        are complete.  Else unchanged.
 *
 * If the call fails each command is tried alone, which finds the illegal one.
 * Then everything of this vSMMU is invalidated, and also if the host fails for
 * reasons of its own.  If that fails too its streams are parked on abort.  So a
 * stale translation is never used.  A stale vSMMU has no stream that
 * translates, and QEMU does not call the host.
 */
SMMUv3AccelFlush smmuv3_accel_batch_flush(SMMUv3AccelVsmmu *vsmmu,
                                          SMMUv3AccelBatch *batch,
                                          uint32_t *cons);

#endif
