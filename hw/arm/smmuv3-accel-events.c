/*
 * Accelerated SMMUv3: the host's events on their way to the guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "trace.h"
#include "smmuv3-accel-events.h"

bool smmuv3_accel_events_open(SMMUv3AccelVsmmu *vsmmu, Error **errp)
{
    int ret = vsmmu->ops->events_alloc(vsmmu->host, vsmmu->viommu,
                                       SMMUV3_ACCEL_EVENTS_DEPTH,
                                       &vsmmu->veventq, &vsmmu->event_fd, errp);

    trace_smmuv3_accel_events_open(vsmmu->name, vsmmu->viommu, ret);
    vsmmu->event_next = -1;
    return !ret;
}

void smmuv3_accel_events_close(SMMUv3AccelVsmmu *vsmmu)
{
    if (vsmmu->veventq) {
        trace_smmuv3_accel_events_close(vsmmu->name, vsmmu->viommu);
        /* The fd holds the object: it goes first */
        close(vsmmu->event_fd);
        vsmmu->ops->destroy(vsmmu->host, vsmmu->veventq);
        vsmmu->veventq = 0;
        vsmmu->event_fd = -1;
    }
}

/* Is there a gap before @event?  Sequences run from 0 to INT_MAX and wrap */
static bool is_gap(SMMUv3AccelVsmmu *vsmmu, const SMMUv3HostEvent *event)
{
    bool gap = vsmmu->event_next >= 0 && event->sequence != vsmmu->event_next;

    vsmmu->event_next = ((int64_t)event->sequence + 1) & INT_MAX;
    return gap;
}

SMMUv3AccelEventsState
smmuv3_accel_events_drain(SMMUv3AccelVsmmu *vsmmu,
                          const SMMUv3AccelEventSink *sink)
{
    SMMUv3HostEvent events[SMMUV3_HOST_EVENTS_MAX];
    int n = vsmmu->ops->events_read(vsmmu->host, vsmmu->event_fd, events,
                                    ARRAY_SIZE(events));
    bool lost = false, full = false;
    int passed = 0;

    if (n == -EAGAIN || n == -EINTR || n == 0) {
        return SMMUV3_ACCEL_EVENTS_OK;
    }
    if (n < 0) {
        warn_report("%s: the host's events cannot be read (%s): faults of its "
                    "devices show in the host's log only",
                    vsmmu->name, strerror(-n));
        return SMMUV3_ACCEL_EVENTS_DEAD;
    }
    for (int i = 0; i < n; i++) {
        lost |= is_gap(vsmmu, &events[i]) || events[i].lost;
        if (!events[i].lost && !full) {
            full = !sink->put(sink->opaque, &events[i]);
            passed += !full;
        }
    }
    trace_smmuv3_accel_events(vsmmu->name, n, passed, lost, full);
    if (lost || full) {
        sink->lost(sink->opaque);
    }
    return full ? SMMUV3_ACCEL_EVENTS_FULL : SMMUV3_ACCEL_EVENTS_OK;
}
