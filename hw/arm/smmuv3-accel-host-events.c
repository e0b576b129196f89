/*
 * Accelerated SMMUv3: the host's event queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Allocates, reads and frees a vEVENTQ.  smmuv3-accel-eventq.c decides when.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "trace.h"
#include "smmuv3-accel-host-events.h"

bool smmuv3_accel_veventq_open(SMMUv3AccelVsmmu *vsmmu, Error **errp)
{
    int ret = vsmmu->ops->events_alloc(vsmmu->host, vsmmu->viommu,
                                       SMMUV3_ACCEL_VEVENTQ_DEPTH,
                                       &vsmmu->veventq, &vsmmu->event_fd, errp);

    trace_smmuv3_accel_events_open(vsmmu->name, vsmmu->viommu, ret);
    vsmmu->event_next = -1;
    return !ret;
}

void smmuv3_accel_veventq_close(SMMUv3AccelVsmmu *vsmmu)
{
    if (vsmmu->veventq) {
        trace_smmuv3_accel_events_close(vsmmu->name, vsmmu->viommu);
        if (vsmmu->ops->events_free(vsmmu->host, vsmmu->veventq,
                                    vsmmu->event_fd, false)) {
            vsmmu->old_veventq = vsmmu->veventq;
        }
        vsmmu->veventq = 0;
        vsmmu->event_fd = -1;
    }
}

bool smmuv3_accel_veventq_closed(SMMUv3AccelVsmmu *vsmmu)
{
    if (vsmmu->old_veventq &&
        !vsmmu->ops->events_free(vsmmu->host, vsmmu->old_veventq, -1, false)) {
        vsmmu->old_veventq = 0;
    }
    return !vsmmu->old_veventq;
}

/* Is there a gap before @event?  Sequences run from 0 to INT_MAX and wrap */
static bool is_gap(SMMUv3AccelVsmmu *vsmmu, const SMMUv3HostEvent *event)
{
    bool gap = vsmmu->event_next >= 0 && event->sequence != vsmmu->event_next;

    vsmmu->event_next = ((int64_t)event->sequence + 1) & INT_MAX;
    return gap;
}

bool smmuv3_accel_veventq_drain(SMMUv3AccelVsmmu *vsmmu, unsigned room,
                               const SMMUv3AccelEventSink *sink)
{
    SMMUv3HostEvent events[SMMUV3_HOST_EVENTS_MAX];
    bool lost = false;
    int passed = 0;
    int n;

    if (!room) {
        return true;
    }
    n = vsmmu->ops->events_read(vsmmu->host, vsmmu->event_fd, events,
                                MIN(room, ARRAY_SIZE(events)));
    if (n == -EAGAIN || n == -EINTR) {
        return true;
    }
    if (n < 0) {
        warn_report("%s: the host's events cannot be read (%s): faults of its "
                    "devices show in the host's log only",
                    vsmmu->name, strerror(-n));
        return false;
    }
    for (int i = 0; i < n; i++) {
        lost |= is_gap(vsmmu, &events[i]) || events[i].lost;
        if (!events[i].lost) {
            sink->put(sink->opaque, &events[i]);
            passed++;
        }
    }
    if (lost) {
        sink->lost(sink->opaque);
    }
    trace_smmuv3_accel_events(vsmmu->name, passed, lost);
    return true;
}
