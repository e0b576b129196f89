/*
 * Accelerated SMMUv3: streams and their objects in the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each vSMMU has a vIOMMU in the host, over VFIO's stage 2.  It has two nested
 * HWPTs that all its streams share: one aborts, one bypasses stage 1.  They are
 * allocated with the vIOMMU, so that a stream can always be parked.  A stream
 * that translates also has a vDEVICE, which carries its StreamID, and a nested
 * HWPT made from its STE.
 *
 * Called with the BQL held.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_STREAM_H
#define HW_ARM_SMMUV3_ACCEL_STREAM_H

#include "qemu/queue.h"
#include "smmuv3-accel-host.h"
#include "smmuv3-accel-policy.h"
#include "smmuv3-accel-stats.h"
#include "smmuv3-accel-vintf.h"

typedef struct SMMUv3AccelStream SMMUv3AccelStream;

typedef QLIST_HEAD(, SMMUv3AccelStream) SMMUv3AccelStreamList;

/*
 * Commands in one call to the host.  Linux issues them and waits for a CMD_SYNC
 * of its own, for up to a second.  It would do so again for each further 63
 * commands (arm_vsmmu_cache_invalidate(), CMDQ_BATCH_ENTRIES).
 */
#define SMMUV3_ACCEL_CALL_MAX 63

/*
 * A call that takes this long is slow.  It is less than what a user of QMP
 * notices, and more than what a busy computer adds to a call.
 */
#define SMMUV3_ACCEL_SLOW_CALL_NS (100 * 1000000ll)

/* A PCI StreamID is a bus number and a devfn of eight bits each */
#define SMMUV3_ACCEL_SIDS 0x10000

struct SMMUv3AccelVsmmu {
    const SMMUv3HostOps *ops;
    const char *name;           /* the SMMU's, for messages; not owned */
    SMMUv3AccelStreamList streams;
    unsigned n_streams;
    SMMUv3AccelStreamList *by_sid;      /* one for each of SMMUV3_ACCEL_SIDS */
    SMMUv3AccelCalls *calls;    /* a copy counts there too */

    SMMUv3HostInfo info;        /* of the physical SMMUv3; all 0 at first */

    /* All that follows is valid while there are streams */
    SMMUv3Host *host;
    uint32_t stage2;            /* the nesting parent, VFIO's */
    uint32_t viommu;
    uint32_t abort_hwpt;
    uint32_t bypass_hwpt;
    bool stale;                 /* invalidations were lost; outlives @viommu */
    bool slow;                  /* so is the host: the upper half sets it */
    /*
     * In the copy of a job that a thread runs: atomic, says that no further
     * call may be made.  NULL where the BQL is held: then a slow call is the
     * last one.
     */
    const bool *cancelled;
    unsigned epoch;             /* changes when a vDEVICE goes */
    unsigned losses;            /* changes when it becomes stale, or more so */
    bool told;                  /* it is stale, and who shares @stage2 knows */
    uint32_t veventq;           /* smmuv3-accel-host-events.c; 0 without */
    uint32_t old_veventq;       /* closed, but the host still uses it; or 0 */
    int event_fd;
    int64_t event_next;         /* sequence of the next event, or -1 */

    SMMUv3AccelVintf vintf;     /* of @viommu, if it has one */
};

struct SMMUv3AccelStream {
    SMMUv3AccelVsmmu *vsmmu;
    SMMUv3HostDevice *dev;      /* outlives the stream */
    bool ats;                   /* the device can use ATS */
    QLIST_ENTRY(SMMUv3AccelStream) next;
    QLIST_ENTRY(SMMUv3AccelStream) next_of_sid;

    uint32_t sid;               /* StreamID that belongs to @now; -1 at first */
    SMMUv3AccelDecision want;   /* what the guest wants */
    SMMUv3AccelDecision now;    /* in the host; differs after an error */
    bool attached;              /* @now is valid */
    bool detached;              /* from everything: DMA is blocked */
    int error;                  /* why they differ, negative errno, or 0 */
    bool parked;                /* @want is not the guest's: see park_next() */
    uint64_t moves;             /* times that @now has changed */

    bool has_vdevice;
    uint32_t vdevice;
    uint32_t vdevice_sid;
    uint32_t nested_hwpt;       /* while translating, else 0 */
};

/**
 * smmuv3_accel_vsmmu_init: a vSMMU without streams
 * @vsmmu: to be initialized; smmuv3_accel_vsmmu_fini() frees it
 * @ops: the host's operations
 * @name: the SMMU's name for messages; must outlive @vsmmu
 */
void smmuv3_accel_vsmmu_init(SMMUv3AccelVsmmu *vsmmu, const SMMUv3HostOps *ops,
                             const char *name);

/**
 * smmuv3_accel_vsmmu_must_stop: may no further call follow for now?
 * @vsmmu: may be a copy, and then no lock is needed
 * @start: when the calls began, as get_clock() says (ns)
 *
 * Returns: whether the thread's job was cancelled.  With the BQL held: whether
 * 100 ms are over.
 */
bool smmuv3_accel_vsmmu_must_stop(const SMMUv3AccelVsmmu *vsmmu, int64_t start);

/**
 * smmuv3_accel_vsmmu_invalidate: have the host carry out commands
 * @vsmmu: with streams; may be a copy, and then no lock is needed
 * @cmds: prepared, for streams that have a vDEVICE
 * @n: their number, at least 1
 * @done: set to how many of the first ones are complete for certain
 *
 * Makes a call for each SMMUV3_ACCEL_CALL_MAX commands.  With the BQL held no
 * call follows after 100 ms.  So this returns after 100 ms and one call, which
 * waits for one sync of the host.
 *
 * All invalidations go through this function.  On a host with erratum
 * T264-SMMU-3 a TLBI or CFGI takes effect only when it is repeated after a sync
 * (linux/iommufd.h, IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI).  Linux
 * repeats its own commands, but not those of user space.  Each call ends with a
 * sync, so this function calls the host twice there.  The second call has the
 * ATC_INVs too, because a device may refill its cache between the calls.  Only
 * ATC_INVs alone are not repeated.
 *
 * Returns: 0; -ECANCELED if it stopped between two calls; or the negative errno
 * of a call, which is -EINVAL if the host itself says ECANCELED.  From @done on
 * each command may be complete or not.
 */
int smmuv3_accel_vsmmu_invalidate(const SMMUv3AccelVsmmu *vsmmu,
                                  const SMMUv3HostCmd *cmds, unsigned n,
                                  unsigned *done);

/**
 * smmuv3_accel_vsmmu_everything: how to invalidate all that is cached
 * @vsmmu: with streams
 * @n: set to the number of commands
 *
 * The commands concern what comes from this vSMMU's guest tables: TLB entries,
 * CDs and, if a stream has ATS, its device's cache (IHI 0070 4.3.4, 4.4, 4.5).
 *
 * Returns: the commands, which the caller issues and frees.
 */
SMMUv3HostCmd *smmuv3_accel_vsmmu_everything(SMMUv3AccelVsmmu *vsmmu,
                                             unsigned *n);

/*
 * All of these were issued; or one failed, or will not be tried for now, with
 * @error, so @vsmmu is stale
 */
void smmuv3_accel_vsmmu_invalidated(SMMUv3AccelVsmmu *vsmmu, int error);

/**
 * smmuv3_accel_vsmmu_resync: invalidate all that the host may have cached
 * @vsmmu: with streams
 *
 * Issues smmuv3_accel_vsmmu_everything(), as smmuv3_accel_vsmmu_invalidate().
 *
 * Returns: 0, or a negative errno after which @vsmmu is stale.  No stream is
 * moved to a translation while @vsmmu is stale.  Each attempt to move one calls
 * this function again, unless the host is slow.
 */
int smmuv3_accel_vsmmu_resync(SMMUv3AccelVsmmu *vsmmu);

/*
 * The same for a caller that tries again by itself.  Returns false after an
 * error, which does not make @vsmmu stale.
 */
bool smmuv3_accel_vsmmu_try_resync(SMMUv3AccelVsmmu *vsmmu);

/**
 * smmuv3_accel_vsmmu_invalidate_vmid: invalidate the TLB entries of a VMID
 * @vsmmu: with streams; it may share its VMID with others
 *
 * Makes one call, or two on a host with the erratum, however slow they are.
 *
 * Returns: 0, or a negative errno after which @vsmmu is stale.
 */
int smmuv3_accel_vsmmu_invalidate_vmid(SMMUv3AccelVsmmu *vsmmu);

/**
 * smmuv3_accel_vsmmu_fini: free what smmuv3_accel_vsmmu_init() allocated
 * @vsmmu: without streams; must not be used any more
 */
void smmuv3_accel_vsmmu_fini(SMMUv3AccelVsmmu *vsmmu);

/**
 * smmuv3_accel_vsmmu_find: the streams of a StreamID
 * @vsmmu: with or without streams
 * @sid: the StreamID; any value
 *
 * Usually there is one, but several while the guest has not numbered its buses
 * yet.  The cost of a lookup does not depend on the number of streams.
 *
 * Returns: the first, or NULL; next_of_sid leads on.
 */
SMMUv3AccelStream *smmuv3_accel_vsmmu_find(const SMMUv3AccelVsmmu *vsmmu,
                                           uint32_t sid);

/**
 * smmuv3_accel_stream_init: put a device behind a vSMMU
 * @stream: to be initialized; usually embedded in a struct of the caller
 * @vsmmu: the vSMMU; the first stream allocates its vIOMMU
 * @dev: the device, attached to its stage 2; must outlive the stream
 * @info: what is known of @dev and of the physical SMMUv3 above it
 * @errp: why the device is refused
 *
 * The device stays attached as it was: smmuv3_accel_stream_apply() moves it.
 *
 * Returns: true; or false with nothing allocated and @stream unchanged.
 */
bool smmuv3_accel_stream_init(SMMUv3AccelStream *stream,
                              SMMUv3AccelVsmmu *vsmmu, SMMUv3HostDevice *dev,
                              const SMMUv3HostInfo *info, Error **errp);

/**
 * smmuv3_accel_stream_fini: remove a device from its vSMMU
 * @stream: the stream; its objects in the host are freed
 *
 * The device's DMA is blocked until its next attachment.  The last stream
 * frees the vIOMMU.
 */
void smmuv3_accel_stream_fini(SMMUv3AccelStream *stream);

/**
 * smmuv3_accel_stream_apply: move a stream to where the guest wants it
 * @stream: the stream
 * @sid: its current StreamID
 * @decision: the policy's decision
 * @errp: why the host refuses
 *
 * The new attachment replaces the old one in one call, so a running device sees
 * one or the other (linux/vfio.h, VFIO_DEVICE_ATTACH_IOMMUFD_PT).  A stream
 * whose StreamID has changed is parked on abort in between, because its vDEVICE
 * carries the old one.
 *
 * Returns: 0, or a negative errno after which the stream aborts and its @error
 * says why.  If the host refuses the abort too (it does so with -EBUSY while it
 * resets the device, or another one of its IOMMU group), the device is
 * detached, which blocks its DMA.  Call again to try again.
 */
int smmuv3_accel_stream_apply(SMMUv3AccelStream *stream, uint32_t sid,
                              const SMMUv3AccelDecision *decision,
                              Error **errp);

/*
 * The device may have translations of this stream in a cache of its own.  After
 * a detach the host's STE permits no ATS.  The host detaches a device that it
 * resets, and that would answer no ATC_INV.
 */
static inline bool smmuv3_accel_stream_caches(const SMMUv3AccelStream *stream)
{
    return !stream->detached && FIELD_EX64(stream->now.ste[1], STE1, EATS);
}

/* The stream is not where the guest wants it: apply again */
static inline bool smmuv3_accel_stream_pending(const SMMUv3AccelStream *stream)
{
    return stream->error != 0;
}

/* It stands still until an invalidation of everything lets it translate */
static inline bool smmuv3_accel_stream_waits(const SMMUv3AccelStream *stream)
{
    return stream->vsmmu->stale && stream->error == -ETIMEDOUT;
}

#endif
