/*
 * Accelerated SMMUv3: the host's event queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The physical SMMUv3 records faults in a guest's stage 1.  The host gives
 * such events out in a vEVENTQ of the vIOMMU, with the guest's StreamID in them
 * (linux/iommufd.h, struct iommu_veventq_alloc).
 *
 * Called with the BQL held.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_VEVENTQ_H
#define HW_ARM_SMMUV3_ACCEL_VEVENTQ_H

#include "smmuv3-accel-stream.h"

/* Events that the host may keep for us: the guest's queue is rarely longer */
#define SMMUV3_ACCEL_VEVENTQ_DEPTH 4096

/* The guest's event queue, as an event of the host sees it */
typedef struct SMMUv3AccelEventSink {
    /* Append @event: there is room for it */
    void (*put)(void *opaque, const SMMUv3HostEvent *event);
    /* Events were lost on the way: report an overflow */
    void (*lost)(void *opaque);
    void *opaque;
} SMMUv3AccelEventSink;

/**
 * smmuv3_accel_veventq_open: have the host keep events for this vSMMU
 * @vsmmu: with streams, and without a vEVENTQ
 * @errp: what the host has against it
 *
 * Returns: false with nothing changed; or true, and vsmmu->event_fd is readable
 * while there are events.
 */
bool smmuv3_accel_veventq_open(SMMUv3AccelVsmmu *vsmmu, Error **errp);

/**
 * smmuv3_accel_veventq_close: free the vEVENTQ and the events in it
 * @vsmmu: with or without a vEVENTQ
 *
 * Must be called before the last stream goes, which frees the vIOMMU.
 */
void smmuv3_accel_veventq_close(SMMUv3AccelVsmmu *vsmmu);

/**
 * smmuv3_accel_veventq_drain: forward the host's events
 * @vsmmu: with a vEVENTQ
 * @room: how many events the guest's queue can take
 * @sink: where to
 *
 * Forwards at most @room and SMMUV3_HOST_EVENTS_MAX events, so that a storm
 * blocks nothing.  Without room, events stay with the host, whose vEVENTQ then
 * overflows.  The host's note of that, or a gap in its sequence, is a loss.
 *
 * Returns: false if the host failed.  That was reported to the user, and the
 * vEVENTQ must not be drained again.
 */
bool smmuv3_accel_veventq_drain(SMMUv3AccelVsmmu *vsmmu, unsigned room,
                               const SMMUv3AccelEventSink *sink);

#endif
