/*
 * Accelerated SMMUv3: the guest's event queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Records come from QEMU itself and from the host.  The host keeps its records
 * in a vEVENTQ while EVENTQEN is set.  QEMU reads none while the guest's queue
 * is full, or while the machine is stopped.  What is lost while the guest's
 * queue is full toggles EVENTQ_PROD.OVFLG; of any other loss the user is told.
 * IHI 0070 7.2 and 7.4.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "trace.h"
#include "smmuv3-accel-internal.h"
#include "smmuv3-accel-host-events.h"

/* The longest time between two attempts to free a vEVENTQ */
#define CLOSE_MAX_MS 1000

/* Free places in the queue; 0 if it is off, or its indexes are wrong */
static uint32_t room(SMMUv3State *s)
{
    SMMUQueue *q = &s->eventq;
    uint32_t size = 1u << q->log2size;
    uint32_t used = (q->prod - q->cons) & WRAP_INDEX_MASK(q);

    return smmuv3_eventq_enabled(s) && used < size ? size - used : 0;
}

/* Write a record, without an interrupt; there must be room for it */
static MemTxResult put(SMMUv3State *s, const Evt *evt)
{
    SMMUQueue *q = &s->eventq;
    Evt out = *evt;
    MemTxResult r;

    for (int i = 0; i < ARRAY_SIZE(out.word); i++) {
        cpu_to_le32s(&out.word[i]);
    }
    r = dma_memory_write(&address_space_memory, Q_PROD_ENTRY(q), &out,
                         sizeof(out), smmuv3_table_attrs(s));
    if (r == MEMTX_OK) {
        queue_prod_incr(q);
        smmuv3_accel_publish(s, A_EVENTQ_PROD, q->prod);
        s->accel_state->stats.event[evt->word[0] & 0xff]++;
    }
    return r;
}

static void overflow(SMMUv3State *s)
{
    if (smmuv3_eventq_overflow(&s->eventq)) {
        smmuv3_accel_publish(s, A_EVENTQ_PROD, s->eventq.prod);
        trace_smmuv3_accel_overflow(s->accel_state->name);
        s->accel_state->stats.overflows++;
        smmuv3_accel_tell_events_lost(s, true);
    }
}

MemTxResult smmuv3_accel_write_event(SMMUv3State *s, const Evt *evt)
{
    bool was_empty = smmuv3_q_empty(&s->eventq);
    MemTxResult r;

    if (!room(s)) {
        overflow(s);
        return MEMTX_OK;
    }
    r = put(s, evt);
    if (r == MEMTX_OK && was_empty) {
        smmuv3_trigger_irq(s, SMMU_IRQ_EVTQ, 0);
    }
    return r;
}

/*
 * Records of the host
 */

/* CMD_SYNCs that look for further events after one has come */
#define EXPECT_EVENTS 256

static void put_host_event(void *opaque, const SMMUv3HostEvent *event)
{
    SMMUv3State *s = opaque;
    Evt evt;

    smmuv3_accel_note_msi_fault(s, event);
    for (int i = 0; i < ARRAY_SIZE(event->word); i++) {
        evt.word[2 * i] = extract64(le64_to_cpu(event->word[i]), 0, 32);
        evt.word[2 * i + 1] = extract64(le64_to_cpu(event->word[i]), 32, 32);
    }
    if (smmuv3_eventq_writable(s) && room(s) && put(s, &evt) != MEMTX_OK) {
        smmuv3_trigger_irq(s, SMMU_IRQ_GERROR, R_GERROR_EVENTQ_ABT_ERR_MASK);
    }
}

/*
 * OVFLG says that the guest was too slow (IHI 0070 7.4).  Records that the host
 * or QEMU loses while there is room are lost in silence.
 */
static void host_lost_events(void *opaque)
{
    SMMUv3State *s = opaque;

    s->accel_state->stats.events_lost++;
    if (s->accel_state->events_full) {
        overflow(s);
    } else {
        smmuv3_accel_tell_events_lost(s, false);
    }
}

static void drain_host_events(void *opaque)
{
    SMMUv3State *s = opaque;
    SMMUv3Accel *accel = s->accel_state;
    const SMMUv3AccelEventSink sink = {
        .put = put_host_event,
        .lost = host_lost_events,
        .opaque = s,
    };
    bool was_empty = smmuv3_q_empty(&s->eventq);
    uint32_t before = room(s), after;
    bool alive;

    if (!runstate_is_live(runstate_get())) {
        /* Guest memory must not change now: smmuv3_accel_eventq_run() */
        qemu_set_fd_handler(accel->vsmmu.event_fd, NULL, NULL, NULL);
        return;
    }
    alive = smmuv3_accel_veventq_drain(&accel->vsmmu, before, &sink);
    after = room(s);
    if (was_empty && !smmuv3_q_empty(&s->eventq)) {
        smmuv3_trigger_irq(s, SMMU_IRQ_EVTQ, 0);
    }
    if (after != before) {
        accel->events_expected = EXPECT_EVENTS;
    }
    if (!after) {
        accel->events_full = true;
    } else if (before - after < MIN(before, SMMUV3_HOST_EVENTS_MAX)) {
        accel->events_full = false;     /* the host has no more */
    }
    if (!alive) {
        smmuv3_accel_tell_events_lost(s, false);
    }
    accel->events_failed = !alive;
    accel->events_paused = alive && !after;
    if (!alive || accel->events_paused) {
        qemu_set_fd_handler(accel->vsmmu.event_fd, NULL, NULL, NULL);
    }
}

void smmuv3_accel_do_eventq_cons(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    if (accel->events_paused && room(s)) {
        accel->events_paused = false;
        qemu_set_fd_handler(accel->vsmmu.event_fd, drain_host_events, NULL, s);
        /* If the host has no more now, it loses no more for want of room */
        drain_host_events(s);
    }
}

void smmuv3_accel_eventq_run(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    if (accel->vsmmu.veventq && !accel->events_paused &&
        !accel->events_failed) {
        qemu_set_fd_handler(accel->vsmmu.event_fd, drain_host_events, NULL, s);
    }
}

/*
 * A vEVENTQ that was closed may be in use in the host for a moment, and the
 * vIOMMU cannot have another one until then.  The guest decides how often that
 * happens, so do not wait for it with the BQL held.
 */
static bool closed(SMMUv3Accel *accel)
{
    if (smmuv3_accel_veventq_closed(&accel->vsmmu)) {
        accel->events_close_ms = 0;
        return true;
    }
    if (!timer_pending(accel->events_close)) {
        accel->events_close_ms = MIN(MAX(accel->events_close_ms * 2, 1),
                                     CLOSE_MAX_MS);
        timer_mod(accel->events_close, accel->events_close_ms +
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME));
    }
    return false;
}

void smmuv3_accel_eventq_stop(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    if (accel->vsmmu.veventq) {
        qemu_set_fd_handler(accel->vsmmu.event_fd, NULL, NULL, NULL);
        smmuv3_accel_veventq_close(&accel->vsmmu);
        closed(accel);
    }
    accel->events_paused = accel->events_failed = false;
    accel->events_full = false;
}

/*
 * Linux hands a record on some time after the fault, so that a record may come
 * later than this.  QEMU cannot do more than to hand on what there is.
 *
 * A read costs a call to the host, which would be a part of each unmap.  So if
 * only TLB entries were invalidated it is made only while devices cause events:
 * after an event, for so many CMD_SYNCs.  A storm of events must not hold a
 * CMD_SYNC back, so further reads have to fit into the time of a drain.
 */
void smmuv3_accel_eventq_sync(SMMUv3State *s, unsigned invalidated)
{
    SMMUv3Accel *accel = s->accel_state;
    bool config = invalidated & SMMUV3_ACCEL_INVALIDATED_CONFIG;
    int64_t end = accel->drain.start + s->accel_props.drain_us * 1000LL;
    uint32_t prod;

    if (!accel->vsmmu.veventq || !invalidated ||
        (!config && !accel->events_expected)) {
        return;
    }
    if (accel->events_expected) {
        accel->events_expected--;
    }
    for (unsigned n = 0; n < SMMUV3_ACCEL_VEVENTQ_DEPTH &&
                         !accel->events_paused && !accel->events_failed;
         n += SMMUV3_HOST_EVENTS_MAX) {
        prod = s->eventq.prod;
        drain_host_events(s);
        if (s->eventq.prod == prod || get_clock() >= end) {
            break;
        }
    }
}

void smmuv3_accel_eventq_update(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    bool want = smmuv3_eventq_enabled(s) && !QLIST_EMPTY(&accel->vsmmu.streams);
    Error *err = NULL;

    if (!want) {
        smmuv3_accel_eventq_stop(s);
    } else if (!accel->vsmmu.veventq && closed(accel)) {
        if (smmuv3_accel_veventq_open(&accel->vsmmu, &err)) {
            qemu_set_fd_handler(accel->vsmmu.event_fd, drain_host_events, NULL,
                                s);
            accel->events_refused = false;
        } else if (!accel->events_refused) {
            accel->events_refused = true;
            smmuv3_accel_tell_events_lost(s, false);
            warn_reportf_err(err, "%s: faults of its devices show in the "
                             "host's log only: ", accel->name);
        } else {
            error_free(err);
        }
    }
}

static void close_timer(void *opaque)
{
    SMMUv3State *s = opaque;

    if (closed(s->accel_state)) {
        smmuv3_accel_eventq_update(s);
    }
}

void smmuv3_accel_eventq_realize(SMMUv3State *s)
{
    s->accel_state->events_close = timer_new_ms(QEMU_CLOCK_REALTIME,
                                                close_timer, s);
}

void smmuv3_accel_eventq_unrealize(SMMUv3State *s)
{
    timer_free(s->accel_state->events_close);
}
