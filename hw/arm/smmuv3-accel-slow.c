/*
 * Accelerated SMMUv3: a host that is slow
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The thread that calls it for the drain of a command queue.  A host that is
 * busy (EBUSY) is asked again by smmuv3-accel-edges.c.
 *
 * Usually the drain calls the host itself, with the BQL held.  That takes
 * microseconds, and any handover to another thread would cost more.  But if the
 * host's SMMUv3 does not answer, Linux waits a second for it in each call.
 * After one slow call a thread makes the calls, and the drain stops until the
 * thread is done.  The guest's CMD_SYNC completes later, which IHI 0070 4.7.3
 * permits.  The vCPU, the main loop and QMP go on meanwhile.
 *
 * QEMU does not release the BQL in the drain instead, for two reasons.  The
 * write of CMDQ_PROD may come from another device's DMA, and nobody expects
 * that device to change within its own access.  And the main loop may drain,
 * which would not serve QMP then.
 *
 * The main loop creates the thread: a vCPU may be bound to one CPU of the host,
 * which Linux keeps busy, without interrupts, while it waits for its SMMUv3.
 *
 * The thread works on copies (SMMUv3AccelJob), so that everything may change
 * while it runs:
 *
 * - A write of CMDQ_PROD, GERRORN or CR0 starts no drain, of whichever queue
 *   the job is; the end of the job does.
 * - Reset, or a change of CMDQEN, or a VCMDQ that stops: the queue's result is
 *   discarded.  What the job finds out about the host still counts.
 * - A stream leaves, or gets another StreamID: if the job fails for that
 *   reason, everything is invalidated again.
 * - The last stream leaves: Linux keeps a vIOMMU that is in use, so its removal
 *   waits until the present call returns.  No further call is made: the vSMMU
 *   is stale then.
 * - The machine stops: the drain does not continue before it runs again.
 *
 * CONS of the queue stays at the first command of the job until that is
 * complete, because the host may refuse any of them.
 *
 * Attaching a device takes as long as such a call, and blocks QEMU.  So streams
 * that have to be parked are parked one at a time, and QMP gets its turn in
 * between.  The same holds for streams that have to follow an edge, once it has
 * taken its time.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "trace.h"
#include "smmuv3-accel-internal.h"

/* After a slow call, the thread makes the calls for this time */
#define SLOW_FOR_NS (60 * NANOSECONDS_PER_SECOND)

/* A call was made, and took up to @ns; returns whether that is slow */
static bool note_time(SMMUv3Accel *accel, int64_t now, int64_t ns)
{
    if (ns >= SMMUV3_ACCEL_SLOW_CALL_NS) {
        trace_smmuv3_accel_slow(accel->name, ns);
        accel->slow.until = now + SLOW_FOR_NS;
    } else if (now >= accel->slow.until && !accel->vsmmu.stale) {
        /* While stale no call is made, so a quick drain means nothing */
        accel->slow.until = 0;
    }
    accel->vsmmu.slow = accel->slow.until;
    return ns >= SMMUV3_ACCEL_SLOW_CALL_NS;
}

/* A drain ends after its time and one call more */
bool smmuv3_accel_slow_note(SMMUv3State *s, int64_t now)
{
    SMMUv3Accel *accel = s->accel_state;

    return note_time(accel, now, now - accel->drain.start -
                                 s->accel_props.drain_us * 1000LL);
}

void smmuv3_accel_slow_note_since(SMMUv3State *s, int64_t start)
{
    int64_t now = get_clock();

    note_time(s->accel_state, now, now - start);
}

/*
 * The job
 */

static void *call_host(void *opaque)
{
    SMMUv3AccelSlow *slow = opaque;

    rcu_register_thread();
    smmuv3_accel_job_run(&slow->job);
    rcu_unregister_thread();
    qemu_bh_schedule(slow->bh);
    return NULL;
}

/*
 * Signals are for the main loop, but for those of the thread's own faults.
 * Most guests never need a thread, so it is not created with the SMMU.
 */
GThread *smmuv3_accel_thread_new(const char *name, GThreadFunc run,
                                 void *opaque)
{
    sigset_t all, old;
    GThread *thread;

    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    thread = g_thread_try_new(name, run, opaque, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return thread;
}

/* Without a thread slow_bh() makes the calls, one at a time */
static void start_thread(SMMUv3AccelSlow *slow)
{
    slow->phase = SMMUV3_ACCEL_PHASE_CALL;
    slow->started = get_clock();
    slow->job.vsmmu.cancelled = &slow->job.cancelled;
    slow->thread = smmuv3_accel_thread_new("smmuv3-host", call_host, slow);
    if (!slow->thread) {
        warn_report_once("the host permits no further thread: while its SMMUv3 "
                         "is slow, QEMU answers nobody for up to a second at a "
                         "time; raise pids.max or RLIMIT_NPROC");
        slow->job.vsmmu.cancelled = NULL;
        qemu_bh_schedule(slow->bh);
    }
}

static void join_thread(SMMUv3AccelSlow *slow)
{
    if (slow->thread) {
        g_thread_join(slow->thread);
        slow->thread = NULL;
    }
}

/*
 * CONS moves over the batch of the job.  Without one the job has not moved it,
 * and the guest may have written it, if its queue is disabled.
 */
static void skip_batch(SMMUv3AccelSlow *slow)
{
    if (!slow->abandoned && !slow->resync) {
        smmuv3_accel_queue_set_cons(slow->queue, slow->cons);
    }
}

/* An empty batch: see job_begin() */
void smmuv3_accel_slow_start(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelSlow *slow = &accel->slow;
    SMMUv3AccelBatch *batch = accel->batch.n ? &accel->batch : NULL;

    accel->stats.jobs++;
    slow->phase = SMMUV3_ACCEL_PHASE_START;
    slow->abandoned = slow->paused = false;
    slow->resync = !batch;
    slow->queue = accel->drain.queue;
    slow->cons = slow->queue->q->cons;
    if (batch) {
        smmuv3_accel_queue_set_cons(slow->queue, batch->cons[0]);
    }
    smmuv3_accel_job_begin(&slow->job, &accel->vsmmu, batch, true);
    qemu_bh_schedule(slow->bh);
}

static void job_ended(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelSlow *slow = &accel->slow;
    bool stale = accel->vsmmu.stale;
    int64_t now = get_clock();
    unsigned result;
    uint32_t cons;

    join_thread(slow);
    note_time(accel, now, now - slow->started);
    result = smmuv3_accel_job_end(&slow->job, &accel->vsmmu, &cons);
    slow->restore |= stale && !accel->vsmmu.stale;
    smmuv3_accel_tell_if_lost(s, stale);
    if (result == SMMUV3_ACCEL_FLUSH_AGAIN) {
        start_thread(slow);
        return;
    }
    slow->phase = SMMUV3_ACCEL_PHASE_MOVE;
    slow->failed = slow->job.invalidated && slow->job.error;
    if (slow->failed && slow->everything) {
        smmuv3_accel_cmdqv_failed(s);
    }
    if (slow->resync) {
        result &= ~SMMUV3_ACCEL_FLUSH_FAILED;
    }
    skip_batch(slow);
    if (!slow->abandoned) {
        smmuv3_accel_queue_note(slow->queue, result, cons);
        if (result & SMMUV3_ACCEL_FLUSH_ILLEGAL) {
            slow->queue->error = SMMU_CERROR_ILL;
        }
    }
}

/* The queues go on */
static void end(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    accel->slow.phase = SMMUV3_ACCEL_PHASE_NONE;
    accel->slow.restore = accel->slow.again = accel->slow.everything = false;
    smmuv3_accel_streams_moved(s);
    qemu_bh_schedule(accel->drain.bh);
}

/* Does a stream wait for a job, because it may not translate before? */
static bool any_waits(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelStream *stream;
    bool waits = false;

    QLIST_FOREACH(stream, &accel->vsmmu.streams, next) {
        waits |= smmuv3_accel_stream_waits(stream);
    }
    return waits && accel->slow.until;
}

static void slow_bh(void *opaque)
{
    SMMUv3State *s = opaque;
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelSlow *slow = &accel->slow;

    if (slow->phase == SMMUV3_ACCEL_PHASE_START) {
        start_thread(slow);
        return;
    }
    if (slow->phase == SMMUV3_ACCEL_PHASE_CALL) {
        if (!slow->thread && !smmuv3_accel_job_run(&slow->job)) {
            qemu_bh_schedule(slow->bh);
            return;
        }
        job_ended(s);
        if (slow->phase == SMMUV3_ACCEL_PHASE_CALL) {
            return;
        }
    }
    /* Something was lost during the job, which is no reason to give up */
    if (!slow->failed &&
        (slow->again || (accel->vsmmu.stale &&
                         (slow->restore || slow->resync)))) {
        slow->again = false;
        smmuv3_accel_slow_start(s);
        return;
    }
    if (accel->vsmmu.stale && !slow->paused &&
        (smmuv3_accel_park_next(&accel->vsmmu) ||
         !smmuv3_accel_tell_sharers(s, false))) {
        qemu_bh_schedule(slow->bh);
        return;
    }
    if (accel->vsmmu.stale) {
        smmuv3_accel_retry_pending(s);
    } else if (slow->restore) {
        slow->restore = false;
        smmuv3_accel_pending_due(s);
    }
    if (smmuv3_accel_refresh_due(s, 0)) {
        end(s);
    } else {
        slow->restore |= any_waits(s);
        qemu_bh_schedule(slow->bh);
    }
}

void smmuv3_accel_slow_cancel(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelSlow *slow = &accel->slow;

    if (!smmuv3_accel_busy(s)) {
        return;
    }
    if (slow->phase != SMMUV3_ACCEL_PHASE_MOVE) {
        qatomic_set(&slow->job.cancelled, true);
        join_thread(slow);
        g_clear_pointer(&slow->job.everything, g_free);
        skip_batch(slow);
    }
    qemu_bh_cancel(slow->bh);
    end(s);
}

static void begin_to_move(SMMUv3State *s, bool failed)
{
    SMMUv3AccelSlow *slow = &s->accel_state->slow;

    if (!smmuv3_accel_busy(s)) {
        slow->phase = SMMUV3_ACCEL_PHASE_MOVE;
        slow->failed = failed;
        slow->resync = false;
        slow->paused = true;
        qemu_bh_schedule(slow->bh);
    }
}

void smmuv3_accel_slow_park(SMMUv3State *s)
{
    begin_to_move(s, true);
    s->accel_state->slow.paused = false;
}

/* There may be a job again, because there is another reason */
static void forget_failure(SMMUv3State *s)
{
    SMMUv3AccelSlow *slow = &s->accel_state->slow;

    if (smmuv3_accel_slow_moves(s)) {
        slow->failed = slow->resync = false;
    }
}

void smmuv3_accel_slow_pause(SMMUv3State *s)
{
    forget_failure(s);
    begin_to_move(s, false);
}

/*
 * Jobs that a drain or an edge needs
 */

void smmuv3_accel_slow_recover(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    note_time(accel, get_clock(), SMMUV3_ACCEL_SLOW_CALL_NS);
    if (accel->batch.n) {
        smmuv3_accel_slow_start(s);
    } else {
        smmuv3_accel_slow_park(s);
    }
}

void smmuv3_accel_slow_resync(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelSlow *slow = &accel->slow;

    if (slow->resynced) {
        slow->resynced = false;
    } else if (accel->vsmmu.stale && slow->until &&
               !QLIST_EMPTY(&accel->vsmmu.streams)) {
        slow->resynced = true;
        smmuv3_accel_slow_start(s);
    }
}

void smmuv3_accel_slow_everything(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    accel->slow.everything = true;
    if (smmuv3_accel_busy(s)) {
        /* The present job may have begun too early: another one follows it */
        accel->vsmmu.losses++;
        accel->slow.again = true;
        forget_failure(s);
    } else {
        smmuv3_accel_slow_start(s);
    }
}

void smmuv3_accel_slow_restore(SMMUv3State *s)
{
    if (!any_waits(s)) {
        return;
    }
    s->accel_state->slow.restore = true;
    if (smmuv3_accel_busy(s)) {
        forget_failure(s);
    } else {
        smmuv3_accel_slow_start(s);
    }
}

void smmuv3_accel_slow_abandon(SMMUv3State *s, SMMUv3AccelQueue *queue)
{
    SMMUv3AccelSlow *slow = &s->accel_state->slow;

    if (slow->queue == queue) {
        slow->abandoned = smmuv3_accel_busy(s);
    }
    if (queue == &s->accel_state->cmdq) {
        slow->resynced = false;
    }
}

void smmuv3_accel_slow_realize(SMMUv3State *s)
{
    s->accel_state->slow.bh = qemu_bh_new(slow_bh, s);
}

void smmuv3_accel_slow_unrealize(SMMUv3State *s)
{
    qemu_bh_delete(s->accel_state->slow.bh);
}
