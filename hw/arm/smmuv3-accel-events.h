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
    /* Append @event, or return false: there is no room, nothing was done */
    bool (*put)(void *opaque, const SMMUv3HostEvent *event);
    /* Events were lost on the way: tell the guest */
    void (*lost)(void *opaque);
    void *opaque;
} SMMUv3AccelEventSink;

typedef enum SMMUv3AccelEventsState {
    SMMUV3_ACCEL_EVENTS_OK,     /* come again when the fd is readable */
    SMMUV3_ACCEL_EVENTS_FULL,   /* come again when the guest has made room */
    SMMUV3_ACCEL_EVENTS_DEAD,   /* the host failed: do not come again */
} SMMUv3AccelEventsState;

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
 * @sink: where to
 *
 * At most SMMUV3_HOST_EVENTS_MAX, so that a storm holds nobody up.  A gap in
 * the host's sequence is a loss, as the host's own word of one is.  What comes
 * while the guest's queue is full is a loss too (IHI 0070 7.4), but no more of
 * it is fetched than what came in the same call.
 */
SMMUv3AccelEventsState
smmuv3_accel_events_drain(SMMUv3AccelVsmmu *vsmmu,
                          const SMMUv3AccelEventSink *sink);

#endif
