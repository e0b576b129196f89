/*
 * Accelerated SMMUv3: the host's events on their way to the guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The physical SMMUv3 records what goes wrong in a guest's stage 1.  The host
 * hands such events over in a vEVENTQ of the vIOMMU, with the guest's StreamID
 * in them (linux/iommufd.h, struct iommu_veventq_alloc).
 *
 * Called with the BQL held.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_EVENTS_H
#define HW_ARM_SMMUV3_ACCEL_EVENTS_H

#include "smmuv3-accel-stream.h"

/* Events that the host may keep for us: the guest's queue is rarely longer */
#define SMMUV3_ACCEL_EVENTS_DEPTH 4096

/* The guest's event queue, as far as an event of the host's is concerned */
typedef struct SMMUv3AccelEventSink {
    /* Append @event: there is room for it */
    void (*put)(void *opaque, const SMMUv3HostEvent *event);
    /* Events were lost on the way: tell the guest */
    void (*lost)(void *opaque);
    void *opaque;
} SMMUv3AccelEventSink;

/**
 * smmuv3_accel_events_open: have the host keep events for this vSMMU
 * @vsmmu: with streams, and without a vEVENTQ
 * @errp: what the host has against it
 *
 * Returns: false with nothing changed; or true, and vsmmu->event_fd is readable
 * while there are events.
 */
bool smmuv3_accel_events_open(SMMUv3AccelVsmmu *vsmmu, Error **errp);

/**
 * smmuv3_accel_events_close: forget the vEVENTQ and the events in it
 * @vsmmu: with or without a vEVENTQ
 *
 * To be called before the last stream is freed: the vIOMMU is in use till then.
 */
void smmuv3_accel_events_close(SMMUv3AccelVsmmu *vsmmu);

/**
 * smmuv3_accel_events_drain: pass on what the host has
 * @vsmmu: with a vEVENTQ
 * @room: how many events the guest's queue can take
 * @sink: where to
 *
 * At most @room and SMMUV3_HOST_EVENTS_MAX: a storm holds nobody up, and what
 * the guest has no room for stays with the host, whose vEVENTQ is the one that
 * overflows.  Its word of that, or a gap in its sequence, is a loss.
 *
 * Returns: false if the host failed, which the user was told; do not come back.
 */
bool smmuv3_accel_events_drain(SMMUv3AccelVsmmu *vsmmu, unsigned room,
                               const SMMUv3AccelEventSink *sink);

#endif
