/*
 * Accelerated SMMUv3: a host that is slow
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Who calls the host when the guest's command queue needs it.
 *
 * Usually the drain does so itself, with the BQL held.  Such a call takes
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
 * The thread works on copies (SMMUv3AccelJob), so that everything may change
 * while it runs:
 *
 * - A write of CMDQ_PROD, GERRORN or CR0 starts no drain; the end of the job
 *   does.
 * - Reset, or a change of CMDQEN: the queue's result is discarded.  What the
 *   job finds out about the host still counts.
 * - A stream leaves, or gets another StreamID: if the job fails for that
 *   reason, everything is invalidated again.
 * - The last stream leaves: Linux keeps a vIOMMU that is in use, so its removal
 *   waits until the present call returns.
 * - The machine stops: the drain does not continue before it runs again.
 *
 * CMDQ_CONS stays at the first command of the job until that is complete,
 * because the host may refuse any of them.
 *
 * Attaching a device takes as long as such a call, and blocks QEMU.  So streams
 * that have to be parked are parked one at a time, and QMP gets its turn in
 * between.
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "trace.h"
#include "smmuv3-accel-internal.h"

/*
 * A call that takes this long is slow.  It is less than what a user of QMP
 * notices, and more than what a busy computer adds to a call.
 */
#define SLOW_CALL_NS (100 * SCALE_MS)

/* After a slow call, the thread makes the calls for this time */
#define SLOW_FOR_NS (60 * NANOSECONDS_PER_SECOND)

/* A call was made, and took up to @ns; returns whether that is slow */
static bool note_time(SMMUv3Accel *accel, int64_t now, int64_t ns)
{
    if (ns >= SLOW_CALL_NS) {
        trace_smmuv3_accel_slow(accel->name, ns);
        accel->slow.until = now + SLOW_FOR_NS;
    } else if (now >= accel->slow.until && !accel->vsmmu.stale) {
        /* While stale no call is made, so a quick drain means nothing */
        accel->slow.until = 0;
    }
    accel->vsmmu.slow = accel->slow.until;
    return ns >= SLOW_CALL_NS;
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

static void start_thread(SMMUv3AccelSlow *slow)
{
    qemu_thread_create(&slow->thread, "smmuv3-host", call_host, slow,
                       QEMU_THREAD_JOINABLE);
}

static void set_cons(SMMUv3State *s, uint32_t cons)
{
    SMMUQueue *q = &s->cmdq;

    q->cons = deposit32(q->cons, 0, q->log2size + 1, cons);
}

/* @tried: the host has failed the batch; an empty batch: see job_begin() */
static void start_job(SMMUv3State *s, bool tried)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelSlow *slow = &accel->slow;
    SMMUv3AccelBatch *batch = accel->batch.n ? &accel->batch : NULL;

    slow->busy = true;
    slow->parking = slow->abandoned = false;
    slow->resync = !batch;
    slow->started = get_clock();
    slow->cons = s->cmdq.cons;
    if (batch) {
        set_cons(s, batch->cons[0]);
    }
    smmuv3_accel_job_begin(&slow->job, &accel->vsmmu, batch, tried);
    start_thread(slow);
}

static void note_result(SMMUv3State *s, unsigned result, uint32_t cons)
{
    SMMUv3Accel *accel = s->accel_state;

    if (result & SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT) {
        accel->sync_error = SMMU_CERROR_ATC_INV_SYNC;
    }
    if (result & SMMUV3_ACCEL_FLUSH_FAILED) {
        accel->sync_error = SMMU_CERROR_ABT;
    }
    if (result & SMMUV3_ACCEL_FLUSH_ILLEGAL) {
        set_cons(s, cons);
    }
}

static void job_ended(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelSlow *slow = &accel->slow;
    int64_t now = get_clock();
    unsigned result;
    uint32_t cons;

    qemu_thread_join(&slow->thread);
    note_time(accel, now, now - slow->started);
    result = smmuv3_accel_job_end(&slow->job, &accel->vsmmu, &cons);
    if (result == SMMUV3_ACCEL_FLUSH_AGAIN) {
        start_thread(slow);
        return;
    }
    slow->parking = true;
    if (slow->resync) {
        result &= ~SMMUV3_ACCEL_FLUSH_FAILED;
    }
    if (!slow->abandoned) {
        set_cons(s, slow->cons);
        note_result(s, result, cons);
        if (result & SMMUV3_ACCEL_FLUSH_ILLEGAL) {
            slow->error = SMMU_CERROR_ILL;
        }
    }
}

static void slow_bh(void *opaque)
{
    SMMUv3State *s = opaque;
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelSlow *slow = &accel->slow;

    if (!slow->parking) {
        job_ended(s);
    }
    if (!slow->parking) {
        return;
    }
    if (accel->vsmmu.stale && smmuv3_accel_park_next(&accel->vsmmu)) {
        qemu_bh_schedule(slow->bh);
        return;
    }
    if (accel->vsmmu.stale) {
        smmuv3_accel_retry_pending(s);
    }
    slow->busy = slow->parking = false;
    qemu_bh_schedule(accel->drain.bh);
}

void smmuv3_accel_slow_cancel(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelSlow *slow = &accel->slow;

    if (!slow->busy) {
        return;
    }
    if (!slow->parking) {
        qatomic_set(&slow->job.cancelled, true);
        qemu_thread_join(&slow->thread);
        g_clear_pointer(&slow->job.everything, g_free);
        if (!slow->abandoned) {
            set_cons(s, slow->cons);
        }
    }
    qemu_bh_cancel(slow->bh);
    slow->busy = slow->parking = false;
    qemu_bh_schedule(accel->drain.bh);
}

/*
 * The drain
 */

static void merge_pages(SMMUv3Accel *accel)
{
    if (accel->batch.n > 1) {
        const SMMUv3AccelCmdRules rules =
            smmuv3_accel_cmd_rules(&accel->caps, &accel->vsmmu.info);

        smmuv3_accel_batch_to_ranges(&accel->batch, rules.page_ranges);
    }
}

static SMMUCmdError recover_now(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    uint32_t cons;
    unsigned result = smmuv3_accel_batch_recover(&accel->vsmmu, &accel->batch,
                                                 &cons);

    note_result(s, result, cons);
    if (accel->vsmmu.stale) {
        smmuv3_accel_retry_pending(s);
    }
    return result & SMMUV3_ACCEL_FLUSH_ILLEGAL ? SMMU_CERROR_ILL
                                               : SMMU_CERROR_NONE;
}

SMMUCmdError smmuv3_accel_flush_now(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    merge_pages(accel);
    return smmuv3_accel_batch_try(&accel->vsmmu, &accel->batch) ?
           SMMU_CERROR_NONE : recover_now(s);
}

SMMUCmdError smmuv3_accel_flush(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    merge_pages(accel);
    if (accel->slow.until &&
        smmuv3_accel_batch_needs_host(&accel->vsmmu, &accel->batch)) {
        start_job(s, false);
        return SMMU_CERROR_NONE;
    }
    if (smmuv3_accel_batch_try(&accel->vsmmu, &accel->batch)) {
        return SMMU_CERROR_NONE;
    }
    if (smmuv3_accel_slow_note(s, get_clock())) {
        start_job(s, true);
        return SMMU_CERROR_NONE;
    }
    return recover_now(s);
}

SMMUCmdError smmuv3_accel_make_room(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    if (accel->slow.until && SMMUV3_ACCEL_BATCH_MAX - accel->batch.n <=
                             accel->vsmmu.n_streams) {
        return smmuv3_accel_flush(s);
    }
    return SMMU_CERROR_NONE;
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
        start_job(s, false);
    }
}

void smmuv3_accel_slow_abandon(SMMUv3State *s)
{
    SMMUv3AccelSlow *slow = &s->accel_state->slow;

    slow->abandoned = slow->busy;
    slow->resynced = false;
    slow->error = SMMU_CERROR_NONE;
}

void smmuv3_accel_slow_realize(SMMUv3State *s)
{
    s->accel_state->slow.bh = qemu_bh_new(slow_bh, s);
}

void smmuv3_accel_slow_unrealize(SMMUv3State *s)
{
    qemu_bh_delete(s->accel_state->slow.bh);
}
