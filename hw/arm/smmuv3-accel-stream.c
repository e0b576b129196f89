/*
 * Accelerated SMMUv3: streams and their objects in the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * When the vIOMMU, vDEVICEs and nested HWPTs are allocated and freed, and the
 * one call that moves a stream between HWPTs.
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "trace.h"
#include "hw/arm/smmuv3.h"
#include "smmuv3-accel-stream.h"
#include "smmuv3-internal.h"     /* the architecture's constants */

void smmuv3_accel_vsmmu_init(SMMUv3AccelVsmmu *vsmmu, const SMMUv3HostOps *ops,
                             const char *name)
{
    *vsmmu = (SMMUv3AccelVsmmu) { .ops = ops, .name = name, .event_fd = -1 };
    QLIST_INIT(&vsmmu->streams);
    vsmmu->by_sid = g_new0(SMMUv3AccelStreamList, SMMUV3_ACCEL_SIDS);
    vsmmu->calls = g_new0(SMMUv3AccelCalls, 1);
}

void smmuv3_accel_vsmmu_fini(SMMUv3AccelVsmmu *vsmmu)
{
    g_clear_pointer(&vsmmu->by_sid, g_free);
    g_clear_pointer(&vsmmu->calls, g_free);
}

SMMUv3AccelStream *smmuv3_accel_vsmmu_find(const SMMUv3AccelVsmmu *vsmmu,
                                           uint32_t sid)
{
    return sid < SMMUV3_ACCEL_SIDS ? QLIST_FIRST(&vsmmu->by_sid[sid]) : NULL;
}

static void set_sid(SMMUv3AccelStream *stream, uint32_t sid)
{
    if (stream->sid == sid) {
        return;
    }
    QLIST_SAFE_REMOVE(stream, next_of_sid);
    stream->sid = sid;
    if (sid < SMMUV3_ACCEL_SIDS) {
        QLIST_INSERT_HEAD(&stream->vsmmu->by_sid[sid], stream, next_of_sid);
    }
}

static void destroy(SMMUv3AccelVsmmu *vsmmu, uint32_t *id)
{
    if (*id) {
        vsmmu->ops->destroy(vsmmu->host, *id);
        *id = 0;
    }
}

/* Free children first: a vIOMMU in use cannot be destroyed */
static void vsmmu_close(SMMUv3AccelVsmmu *vsmmu)
{
    trace_smmuv3_accel_viommu_free(vsmmu->name, vsmmu->viommu);
    if (vsmmu->old_veventq) {
        vsmmu->ops->events_free(vsmmu->host, vsmmu->old_veventq, -1, true);
        vsmmu->old_veventq = 0;
    }
    smmuv3_accel_vintf_close(vsmmu);
    destroy(vsmmu, &vsmmu->bypass_hwpt);
    destroy(vsmmu, &vsmmu->abort_hwpt);
    destroy(vsmmu, &vsmmu->viommu);
    vsmmu->stage2 = 0;
    vsmmu->host = NULL;
}

/* The two shared HWPTs have the STEs that the policy uses without SMMUEN */
static int alloc_shared(SMMUv3AccelVsmmu *vsmmu, SMMUv3HostDevice *dev,
                        bool abort, uint32_t *id, Error **errp)
{
    SMMUv3AccelDecision d = smmuv3_accel_decide_disabled(abort);

    return vsmmu->ops->hwpt_alloc(dev, vsmmu->viommu, d.ste, id, errp);
}

static bool vsmmu_open(SMMUv3AccelVsmmu *vsmmu, SMMUv3HostDevice *dev,
                       const SMMUv3HostInfo *info, Error **errp)
{
    const SMMUv3HostOps *ops = vsmmu->ops;
    uint32_t stage2 = ops->stage2(dev);
    int ret = smmuv3_accel_vintf_open(vsmmu, dev, info, stage2, errp);

    if (ret == -EOPNOTSUPP) {
        ret = ops->viommu_alloc(dev, stage2, &vsmmu->viommu, errp);
    }
    if (ret) {
        return false;
    }
    vsmmu->host = ops->host(dev);
    vsmmu->stage2 = stage2;
    vsmmu->info = *info;
    if (alloc_shared(vsmmu, dev, true, &vsmmu->abort_hwpt, errp) ||
        alloc_shared(vsmmu, dev, false, &vsmmu->bypass_hwpt, errp)) {
        vsmmu_close(vsmmu);
        return false;
    }
    trace_smmuv3_accel_viommu_alloc(vsmmu->name, ops->name(dev), vsmmu->viommu,
                                    stage2);
    return true;
}

bool smmuv3_accel_stream_init(SMMUv3AccelStream *stream,
                              SMMUv3AccelVsmmu *vsmmu, SMMUv3HostDevice *dev,
                              const SMMUv3HostInfo *info, Error **errp)
{
    const SMMUv3HostOps *ops = vsmmu->ops;

    if (QLIST_EMPTY(&vsmmu->streams)) {
        if (!vsmmu_open(vsmmu, dev, info, errp)) {
            return false;
        }
    } else if (ops->host(dev) != vsmmu->host) {
        error_setg(errp, "the other devices behind this SMMU use another "
                   "iommufd object; give all of them the same iommufd=");
        return false;
    } else if (ops->stage2(dev) != vsmmu->stage2) {
        error_setg(errp, "the other devices behind this SMMU sit behind "
                   "another physical SMMUv3 of the host; put this one on a "
                   "root complex with an arm-smmuv3 of its own");
        return false;
    } else if (vsmmu->vintf.active && vsmmu->n_streams >= vsmmu->vintf.sids) {
        error_setg(errp, "the host's CMDQV has room for %u devices of a vSMMU; "
                   "put this one on a root complex with an arm-smmuv3 of its "
                   "own, or give this SMMU x-cmdqv-backend=software",
                   vsmmu->vintf.sids);
        return false;
    }

    *stream = (SMMUv3AccelStream) {
        .vsmmu = vsmmu, .dev = dev, .ats = info->ats, .sid = -1,
    };
    QLIST_INSERT_HEAD(&vsmmu->streams, stream, next);
    vsmmu->n_streams++;
    return true;
}

static void free_vdevice(SMMUv3AccelStream *stream)
{
    SMMUv3AccelVsmmu *vsmmu = stream->vsmmu;

    if (stream->has_vdevice) {
        trace_smmuv3_accel_vdevice_free(vsmmu->name,
                                        vsmmu->ops->name(stream->dev),
                                        stream->vdevice_sid, stream->vdevice);
        destroy(vsmmu, &stream->vdevice);
        stream->has_vdevice = false;
        vsmmu->epoch++;
    }
}

void smmuv3_accel_stream_fini(SMMUv3AccelStream *stream)
{
    SMMUv3AccelVsmmu *vsmmu = stream->vsmmu;

    /*
     * Free everything even if the detach fails: the device will be closed soon,
     * and then the host frees what is still in use.
     */
    vsmmu->ops->detach(stream->dev, NULL);
    trace_smmuv3_accel_stream_free(vsmmu->name, vsmmu->ops->name(stream->dev),
                                   stream->sid);
    destroy(vsmmu, &stream->nested_hwpt);
    free_vdevice(stream);
    QLIST_SAFE_REMOVE(stream, next_of_sid);
    QLIST_REMOVE(stream, next);
    vsmmu->n_streams--;
    if (QLIST_EMPTY(&vsmmu->streams)) {
        vsmmu_close(vsmmu);
    }
}

/* Attach to a shared HWPT, and free the stream's own one */
static int attach_shared(SMMUv3AccelStream *stream, uint32_t hwpt, Error **errp)
{
    SMMUv3AccelVsmmu *vsmmu = stream->vsmmu;
    int ret = vsmmu->ops->attach(stream->dev, hwpt, errp);

    if (!ret) {
        destroy(vsmmu, &stream->nested_hwpt);
    }
    return ret;
}

static int attach_nested(SMMUv3AccelStream *stream, const uint64_t ste[2],
                         Error **errp)
{
    SMMUv3AccelVsmmu *vsmmu = stream->vsmmu;
    const SMMUv3HostOps *ops = vsmmu->ops;
    uint32_t hwpt;
    int ret;

    if (!stream->has_vdevice) {
        ret = ops->vdevice_alloc(stream->dev, vsmmu->viommu, stream->sid,
                                 &stream->vdevice, errp);
        if (ret) {
            return ret;
        }
        stream->has_vdevice = true;
        stream->vdevice_sid = stream->sid;
        trace_smmuv3_accel_vdevice_alloc(vsmmu->name, ops->name(stream->dev),
                                         stream->sid, stream->vdevice);
    }
    ret = ops->hwpt_alloc(stream->dev, vsmmu->viommu, ste, &hwpt, errp);
    if (ret) {
        return ret;
    }
    ret = ops->attach(stream->dev, hwpt, errp);
    if (ret) {
        destroy(vsmmu, &hwpt);
        return ret;
    }
    destroy(vsmmu, &stream->nested_hwpt);
    stream->nested_hwpt = hwpt;
    return 0;
}

static int attach_decision(SMMUv3AccelStream *stream,
                           const SMMUv3AccelDecision *d, Error **errp)
{
    SMMUv3AccelVsmmu *vsmmu = stream->vsmmu;
    int ret;

    switch (d->action) {
    case SMMUV3_ACCEL_TRANSLATE:
        ret = attach_nested(stream, d->ste, errp);
        break;
    case SMMUV3_ACCEL_BYPASS:
        ret = attach_shared(stream, vsmmu->bypass_hwpt, errp);
        break;
    default:
        ret = attach_shared(stream, vsmmu->abort_hwpt, errp);
        break;
    }
    trace_smmuv3_accel_stream_attach(vsmmu->name,
                                     vsmmu->ops->name(stream->dev),
                                     stream->sid,
                                     smmuv3_accel_action_name(d->action),
                                     d->ste[0], d->ste[1], ret);
    if (!ret) {
        stream->now = *d;
        stream->moves++;
        stream->attached = true;
        stream->detached = false;
    }
    return ret;
}

static bool any_repeats(const SMMUv3HostCmd *cmds, unsigned n)
{
    while (n--) {
        if ((le64_to_cpu(cmds[n].word[0]) & 0xff) != SMMU_CMD_ATC_INV) {
            return true;
        }
    }
    return false;
}

bool smmuv3_accel_vsmmu_must_stop(const SMMUv3AccelVsmmu *vsmmu, int64_t start)
{
    return vsmmu->cancelled ? qatomic_read(vsmmu->cancelled) :
           get_clock() - start >= SMMUV3_ACCEL_SLOW_CALL_NS;
}

static int call(const SMMUv3AccelVsmmu *vsmmu, const SMMUv3HostCmd *cmds,
                unsigned n)
{
    int ret = vsmmu->ops->invalidate(vsmmu->host, vsmmu->viommu, cmds, n);

    stat64_add(&vsmmu->calls->length[smmuv3_accel_bin(n)], 1);
    if (ret) {
        stat64_add(&vsmmu->calls->errors, 1);
    }
    /* To the callers it would say that QEMU has stopped, and nothing failed */
    return ret == -ECANCELED ? -EINVAL : ret;
}

int smmuv3_accel_vsmmu_invalidate(const SMMUv3AccelVsmmu *vsmmu,
                                  const SMMUv3HostCmd *cmds, unsigned n,
                                  unsigned *done)
{
    int64_t start = get_clock();
    bool again = false;

    *done = 0;
    while (*done < n) {
        const SMMUv3HostCmd *next = cmds + *done;
        unsigned in_call = MIN(n - *done, SMMUV3_ACCEL_CALL_MAX);
        int ret = call(vsmmu, next, in_call);

        if (ret) {
            return ret;
        }
        again = !again && vsmmu->info.repeat && any_repeats(next, in_call);
        if (!again) {
            *done += in_call;
        }
        /* Whoever calls a host that is known to be slow has to get on */
        if (*done < n && !(again && vsmmu->slow) &&
            smmuv3_accel_vsmmu_must_stop(vsmmu, start)) {
            return -ECANCELED;
        }
    }
    return 0;
}

SMMUv3HostCmd *smmuv3_accel_vsmmu_everything(SMMUv3AccelVsmmu *vsmmu,
                                             unsigned *n)
{
    SMMUv3HostCmd *cmd = g_new(SMMUv3HostCmd, 1 + 2 * vsmmu->n_streams);
    SMMUv3AccelStream *stream;

    *n = 0;
    cmd[(*n)++] = (SMMUv3HostCmd) { { cpu_to_le64(SMMU_CMD_TLBI_NSNH_ALL) } };
    QLIST_FOREACH(stream, &vsmmu->streams, next) {
        uint64_t sid = (uint64_t)stream->vdevice_sid << 32;

        if (!stream->has_vdevice) {
            continue;
        }
        cmd[(*n)++] = (SMMUv3HostCmd) {
            { cpu_to_le64(SMMU_CMD_CFGI_CD_ALL | sid) }
        };
        if (smmuv3_accel_stream_caches(stream)) {
            cmd[(*n)++] = (SMMUv3HostCmd) {
                { cpu_to_le64(SMMU_CMD_ATC_INV | sid),
                  cpu_to_le64(SMMUV3_ATC_SIZE_ALL) }
            };
        }
    }
    return cmd;
}

void smmuv3_accel_vsmmu_invalidated(SMMUv3AccelVsmmu *vsmmu, int error)
{
    vsmmu->stale = error != 0;
    vsmmu->losses += vsmmu->stale;
    vsmmu->told &= vsmmu->stale;
    stat64_add(&vsmmu->calls->everything, 1);
    trace_smmuv3_accel_resync(vsmmu->name, error);
}

static int invalidate_everything(SMMUv3AccelVsmmu *vsmmu)
{
    unsigned n, done;
    g_autofree SMMUv3HostCmd *cmd = smmuv3_accel_vsmmu_everything(vsmmu, &n);

    return smmuv3_accel_vsmmu_invalidate(vsmmu, cmd, n, &done);
}

int smmuv3_accel_vsmmu_resync(SMMUv3AccelVsmmu *vsmmu)
{
    int ret = invalidate_everything(vsmmu);

    smmuv3_accel_vsmmu_invalidated(vsmmu, ret);
    return ret;
}

int smmuv3_accel_vsmmu_invalidate_vmid(SMMUv3AccelVsmmu *vsmmu)
{
    const SMMUv3HostCmd cmd = { { cpu_to_le64(SMMU_CMD_TLBI_NSNH_ALL) } };
    int ret = call(vsmmu, &cmd, 1);

    if (!ret && vsmmu->info.repeat) {
        ret = call(vsmmu, &cmd, 1);
    }
    if (ret) {
        smmuv3_accel_vsmmu_invalidated(vsmmu, ret);
    }
    return ret;
}

bool smmuv3_accel_vsmmu_try_resync(SMMUv3AccelVsmmu *vsmmu)
{
    if (invalidate_everything(vsmmu)) {
        return false;
    }
    smmuv3_accel_vsmmu_invalidated(vsmmu, 0);
    return true;
}

/*
 * The host has refused @decision with @error.  The stream must not keep its old
 * translation.  Attach it to abort or, if the host refuses that too, detach it.
 *
 * Linux refuses each attachment (EBUSY) while it resets any device of the same
 * IOMMU group.  It blocks the DMA of that device only, and attaches it to the
 * HWPT of before when the reset is done.  So the old translation is in force,
 * or will be again.  A detach cannot fail then, and also decides where the
 * device is after its reset (drivers/iommu/iommu.c: recovery_cnt,
 * IOMMU_SET_DOMAIN_MUST_SUCCEED).
 */
static void park_stream(SMMUv3AccelStream *stream,
                        const SMMUv3AccelDecision *decision, int error)
{
    SMMUv3AccelVsmmu *vsmmu = stream->vsmmu;
    SMMUv3AccelDecision park = smmuv3_accel_decide_disabled(true);

    if (stream->detached) {
        return;
    }
    if (!smmuv3_accel_decision_equal(&park, decision)) {
        error = attach_decision(stream, &park, NULL);
    }
    if (error) {
        stream->detached = !vsmmu->ops->detach(stream->dev, NULL);
        stream->attached = false;
    }
}

int smmuv3_accel_stream_apply(SMMUv3AccelStream *stream, uint32_t sid,
                              const SMMUv3AccelDecision *decision,
                              Error **errp)
{
    ERRP_GUARD();
    SMMUv3AccelVsmmu *vsmmu = stream->vsmmu;
    SMMUv3AccelDecision park = smmuv3_accel_decide_disabled(true);
    int ret = 0;

    set_sid(stream, sid);
    stream->want = *decision;
    stream->parked = false;
    if (stream->has_vdevice && stream->vdevice_sid != sid) {
        ret = attach_decision(stream, &park, errp);
        if (ret) {
            park_stream(stream, &park, ret);
            goto out;
        }
        free_vdevice(stream);
    }
    /* Invalidate stale entries before the stream translates again */
    if (vsmmu->stale && decision->action == SMMUV3_ACCEL_TRANSLATE) {
        ret = vsmmu->slow ? -ETIMEDOUT : smmuv3_accel_vsmmu_resync(vsmmu);
        /* What has stopped because the host is slow is left to a job */
        ret = ret == -ECANCELED ? -ETIMEDOUT : ret;
        if (ret) {
            error_setg_errno(errp, -ret, "the host takes no invalidations");
            park_stream(stream, decision, ret);
            goto out;
        }
    }
    if (stream->attached &&
        smmuv3_accel_decision_equal(&stream->now, decision)) {
        goto out;
    }
    ret = attach_decision(stream, decision, errp);
    if (ret) {
        /* Report the first error only */
        park_stream(stream, decision, ret);
    }
out:
    stream->error = ret;
    if (ret) {
        error_prepend(errp, "%s: cannot move StreamID 0x%x to %s: ",
                      vsmmu->ops->name(stream->dev), sid,
                      smmuv3_accel_action_name(decision->action));
    }
    return ret;
}
