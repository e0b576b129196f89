/*
 * Accelerated SMMUv3: invalidations for the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Consecutive commands for the host become few calls.  A command enters a batch
 * in a form that the host cannot refuse, because the host's count of completed
 * commands is not reliable after an error (linux/iommufd.h, struct
 * iommu_hwpt_invalidate; Linux converts a whole chunk before it issues any).
 *
 * Called with the BQL held.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_BATCH_H
#define HW_ARM_SMMUV3_ACCEL_BATCH_H

#include "smmuv3-accel-cmd-table.h"
#include "smmuv3-accel-stream.h"

/* Adjacent pages become ranges before the batch becomes calls */
#define SMMUV3_ACCEL_BATCH_MAX (4 * SMMUV3_ACCEL_CALL_MAX)

typedef struct SMMUv3AccelBatch {
    unsigned n;
    unsigned done;      /* so many of the first ones are complete */
    int error;          /* of the host for the others, negative errno, or 0 */
    bool all;           /* invalidates all of the TLB; only TLBIs since then */
    SMMUv3HostCmd cmd[SMMUV3_ACCEL_BATCH_MAX];
    uint32_t cons[SMMUV3_ACCEL_BATCH_MAX];  /* CMDQ_CONS.RD of each */
} SMMUv3AccelBatch;

/* How a flush ended for the guest: a set, because a batch has many commands */
typedef enum SMMUv3AccelFlush {
    SMMUV3_ACCEL_FLUSH_OK = 0,              /* all commands are complete */
    SMMUV3_ACCEL_FLUSH_ILLEGAL = 1 << 0,    /* the host refused one of them */
    /* A device did not answer an ATC_INV */
    SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT = 1 << 1,
    /* The host invalidates nothing: the vSMMU is stale, its streams abort */
    SMMUV3_ACCEL_FLUSH_FAILED = 1 << 2,
    /* Not complete: a stream has left meanwhile, or the BQL is held too long */
    SMMUV3_ACCEL_FLUSH_AGAIN = 1 << 3,
} SMMUv3AccelFlush;

/*
 * A batch for the host, and what to do if the host fails.  The host's SMMUv3
 * waits up to a second for its queue in each call, so a job may take seconds.
 * It has copies of all that it needs.  So a thread can run it, while this vSMMU
 * is used without it.
 */
typedef struct SMMUv3AccelJob {
    SMMUv3AccelVsmmu vsmmu;     /* a copy, whose lists must not be used */
    SMMUv3AccelBatch batch;     /* empty if there is only @everything to do */
    SMMUv3HostCmd *everything;  /* owned */
    unsigned n_everything;
    unsigned done;              /* so many of those are complete */
    bool failed;                /* everything has to be invalidated */
    bool cancelled;             /* atomic: call the host no more */

    bool invalidated;           /* everything, as far as @error says */
    int error;
    unsigned result;            /* of SMMUV3_ACCEL_FLUSH_* */
    uint32_t cons;              /* CMDQ_CONS.RD of the illegal command */
} SMMUv3AccelJob;

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
 * The host carries out a batch in order.  By then the guest has written all
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
    batch->n = batch->done = 0;
    batch->error = 0;
    batch->all = false;
}

/* Must the host be called?  While stale no stream translates */
static inline bool
smmuv3_accel_batch_needs_host(const SMMUv3AccelVsmmu *vsmmu,
                              const SMMUv3AccelBatch *batch)
{
    return batch->n && !QLIST_EMPTY(&vsmmu->streams) && !vsmmu->stale;
}

/**
 * smmuv3_accel_batch_try: have the host carry out the batch
 * @vsmmu: with or without streams; without, there is nothing to invalidate
 * @batch: empty on success; else its @done and @error say what is left
 *
 * As smmuv3_accel_vsmmu_invalidate().
 *
 * Returns: false if it failed, or if it stopped because the host is slow; then
 * batch->error is 0.  The caller must call smmuv3_accel_batch_recover(), or run
 * a job.
 */
bool smmuv3_accel_batch_try(SMMUv3AccelVsmmu *vsmmu, SMMUv3AccelBatch *batch);

/**
 * smmuv3_accel_batch_recover: make up for a call that failed
 * @vsmmu: with streams
 * @batch: the host has failed it; empty on return, unless with FLUSH_AGAIN
 * @cons: with FLUSH_ILLEGAL, CMDQ_CONS.RD of the illegal command; all before it
 *        are complete.  Else unchanged.
 *
 * If the host calls a command illegal (EIO), or if one of them is an ATC_INV
 * whose device may not answer, tries each command alone.  Else the host fails
 * for reasons of its own, and each call more may take a second.  Then
 * everything of this vSMMU is invalidated, and also after an illegal command.
 * If that fails too its streams are parked on abort.  So a stale translation is
 * never used.  A stale vSMMU has no stream that translates, and QEMU does not
 * call the host.
 *
 * Returns: a set of SMMUV3_ACCEL_FLUSH_*.  With AGAIN it has stopped because
 * the host is slow: run a job for the rest of the batch, and if there is none,
 * call smmuv3_accel_park_next() until it returns false.  Or call this again.
 */
unsigned smmuv3_accel_batch_recover(SMMUv3AccelVsmmu *vsmmu,
                                    SMMUv3AccelBatch *batch, uint32_t *cons);

/**
 * smmuv3_accel_job_begin: prepare what a thread can do
 * @job: not running; need not be initialized
 * @vsmmu: with streams
 * @batch: moved to the job, and empty on return; or NULL to invalidate
 *         everything of this vSMMU
 * @thread: a thread will run it, without the BQL
 *
 * The vIOMMU and the host must exist until smmuv3_accel_job_run() returns.
 */
void smmuv3_accel_job_begin(SMMUv3AccelJob *job, SMMUv3AccelVsmmu *vsmmu,
                            SMMUv3AccelBatch *batch, bool thread);

/**
 * smmuv3_accel_job_run: call the host
 * @job: begun; nothing else is used
 *
 * Does what smmuv3_accel_batch_try() and smmuv3_accel_batch_recover() do, up to
 * the parking.  Needs no lock if a thread runs it.
 *
 * Returns: false if it has stopped, because the job was cancelled, or because
 * the BQL is held and the host is slow.  It goes on if it is called again.
 */
bool smmuv3_accel_job_run(SMMUv3AccelJob *job);

/**
 * smmuv3_accel_job_end: account for what a job did
 * @job: has run; what it owns is freed
 * @vsmmu: its vSMMU, with streams; some may have come or gone meanwhile
 * @cons: as smmuv3_accel_batch_recover()
 *
 * Returns: a set of SMMUV3_ACCEL_FLUSH_*.  It is AGAIN alone if the job must be
 * run again, because it named a StreamID that is gone.  If @vsmmu is stale the
 * caller must call smmuv3_accel_park_next() until it returns false.
 */
unsigned smmuv3_accel_job_end(SMMUv3AccelJob *job, SMMUv3AccelVsmmu *vsmmu,
                              uint32_t *cons);

/* Tell the user that @vsmmu is stale, because of the negative errno @error */
void smmuv3_accel_vsmmu_report_lost(const SMMUv3AccelVsmmu *vsmmu, int error);

/* Park one more stream on abort; returns false if all stand still already */
bool smmuv3_accel_park_next(SMMUv3AccelVsmmu *vsmmu);

#endif
