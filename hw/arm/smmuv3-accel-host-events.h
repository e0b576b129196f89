/*
 * Accelerated SMMUv3: the host's event queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The physical SMMUv3 records faults in a guest's stage 1.  The host provides
 * these events in a vEVENTQ of the vIOMMU, and puts the guest's StreamID into
 * them (linux/iommufd.h, struct iommu_veventq_alloc).
 *
 * Called with the BQL held.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_HOST_EVENTS_H
#define HW_ARM_SMMUV3_ACCEL_HOST_EVENTS_H

#include "smmuv3-accel-stream.h"

/* Events that the host may keep; the guest's queue is rarely longer */
#define SMMUV3_ACCEL_VEVENTQ_DEPTH 4096

/* How to reach the guest's event queue */
typedef struct SMMUv3AccelEventSink {
    /* Append @event: there is room for it */
    void (*put)(void *opaque, const SMMUv3HostEvent *event);
    /* Events were lost on the way: report an overflow */
    void (*lost)(void *opaque);
    void *opaque;
} SMMUv3AccelEventSink;

/**
 * smmuv3_accel_veventq_open: have the host keep events for this vSMMU
 * @vsmmu: with streams, without a vEVENTQ, and with none that is still in use
 * @errp: why the host refuses
 *
 * Returns: false with nothing changed; or true.  Then vsmmu->event_fd is
 * readable while there are events.
 */
bool smmuv3_accel_veventq_open(SMMUv3AccelVsmmu *vsmmu, Error **errp);

/**
 * smmuv3_accel_veventq_close: free the vEVENTQ and the events in it
 * @vsmmu: with or without a vEVENTQ
 *
 * Must be called before the last stream is removed, which frees the vIOMMU.
 * The host may use the vEVENTQ a little longer, and has one at a time: call
 * smmuv3_accel_veventq_closed() before the next one is opened.
 */
void smmuv3_accel_veventq_close(SMMUv3AccelVsmmu *vsmmu);

/**
 * smmuv3_accel_veventq_closed: whether the last vEVENTQ is gone
 * @vsmmu: without a vEVENTQ
 *
 * Never waits.
 *
 * Returns: false while the host still uses the one that was closed.  Call again
 * later.
 */
bool smmuv3_accel_veventq_closed(SMMUv3AccelVsmmu *vsmmu);

/**
 * smmuv3_accel_veventq_drain: forward the host's events
 * @vsmmu: with a vEVENTQ
 * @room: how many events the guest's queue has room for
 * @sink: receives them
 *
 * Forwards at most @room and SMMUV3_HOST_EVENTS_MAX events, so that a storm
 * blocks nothing.  Without room events stay in the host, and its vEVENTQ may
 * overflow.  A note of the host, or a gap in its sequence, shows a loss.
 *
 * Returns: false if the host has failed.  The user was warned then, and the
 * vEVENTQ must not be drained again.
 */
bool smmuv3_accel_veventq_drain(SMMUv3AccelVsmmu *vsmmu, unsigned room,
                               const SMMUv3AccelEventSink *sink);

#endif
