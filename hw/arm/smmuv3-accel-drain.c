/*
 * Accelerated SMMUv3: the drain of a command queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A guest may have 2^19 commands in its queue, and each of them may keep the
 * host busy.  Meanwhile a drain holds the BQL and stops a vCPU.  This file
 * decides how far a drain reads ahead, how long it may take, and whether it
 * calls the host itself or leaves that to a thread (smmuv3-accel-slow.c).  It
 * serves the SMMU's own queue (-cmdq.c) and VCMDQs (-cmdqv.c).
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "trace.h"
#include "smmuv3-accel-internal.h"

/* After this many commands a drain looks at the clock in any case */
#define LONG_DRAIN 1024

/*
 * Commands in their order
 */

/*
 * If QEMU caches nothing, later translations read the guest's tables as they
 * are now.  So they do not need the commands that are now in the queue.
 */
static bool caches_nothing(SMMUv3State *s)
{
    SMMUState *bs = ARM_SMMU(s);

    QEMU_LOCK_GUARD(&s->mutex);
    return !g_hash_table_size(bs->iotlb) && !g_hash_table_size(bs->configs) &&
           QLIST_EMPTY(&bs->devices_with_notifiers);
}

/* Read what is between CONS and PROD, up to the end of the queue's memory */
static MemTxResult read_ahead(SMMUv3State *s)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;
    SMMUQueue *q = drain->queue->q;
    unsigned n = MIN((q->prod - q->cons) & WRAP_INDEX_MASK(q),
                     WRAP_MASK(q) - Q_CONS(q));
    MemTxResult r;

    n = MIN(n, SMMUV3_ACCEL_READ_AHEAD);
    r = dma_memory_read(&address_space_memory, Q_CONS_ENTRY(q), drain->cmd,
                        n * sizeof(Cmd), smmuv3_table_attrs(s));
    if (r != MEMTX_OK && n > 1) {
        /* Report an abort at the command that cannot be read, not earlier */
        n = 1;
        r = dma_memory_read(&address_space_memory, Q_CONS_ENTRY(q), drain->cmd,
                            sizeof(Cmd), smmuv3_table_attrs(s));
    }
    if (r != MEMTX_OK) {
        return r;
    }
    for (unsigned i = 0; i < n; i++) {
        le64_to_cpus(&drain->cmd[i][0]);
        le64_to_cpus(&drain->cmd[i][1]);
    }
    drain->next = 0;
    drain->n_read = n;
    drain->no_cache = caches_nothing(s);
    return MEMTX_OK;
}

/*
 * Look at the clock only after a command that took effect, be it in QEMU's own
 * caches, and after LONG_DRAIN others.  So what one CMD_SYNC waits for is
 * mostly one call to the host.
 */
static bool time_is_up(SMMUv3State *s)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;

    if (!drain->worked) {
        return false;
    }
    drain->worked = false;
    return get_clock() - drain->start >= s->accel_props.drain_us * 1000LL;
}

bool smmuv3_accel_drain_fetch(SMMUv3State *s, const uint64_t **words,
                              SMMUCmdError *error)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;

    if (time_is_up(s)) {
        qemu_bh_schedule(drain->bh);
        return false;
    }
    if (drain->next == drain->n_read && read_ahead(s) != MEMTX_OK) {
        *error = SMMU_CERROR_ABT;
        return false;
    }
    *words = drain->cmd[drain->next++];
    return true;
}

/* A CFGI_STE has taken effect even if it only adds a command to the batch */
void smmuv3_accel_drain_note(SMMUv3State *s, SMMUCommandType type)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;

    s->accel_state->stats.command[type]++;
    drain->worked |= !s->accel_state->batch.n || type == SMMU_CMD_CFGI_STE ||
                     type == SMMU_CMD_CFGI_STE_RANGE || !drain->no_cache ||
                     ++drain->n >= LONG_DRAIN;
    if (drain->worked) {
        drain->n = 0;
    }
}

/*
 * A guest without range invalidation issues a TLBI for each page that it
 * unmaps.  Take those that follow the last command and differ in the address
 * only.  They are not traced one by one.
 */
void smmuv3_accel_drain_take_pages(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelDrain *drain = &accel->drain;
    SMMUQueue *q = drain->queue->q;
    unsigned n;

    queue_cons_incr(q);
    n = smmuv3_accel_batch_add_pages(&accel->batch,
                                     &drain->cmd[drain->next - 1],
                                     drain->n_read - drain->next,
                                     q->cons, WRAP_INDEX_MASK(q));
    accel->stats.command[drain->cmd[drain->next - 1][0] & 0xff] += n;
    drain->next += n;
    drain->n += n;
    smmuv3_accel_queue_set_cons(drain->queue, q->cons + n);
}

/*
 * The batch
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
    SMMUv3AccelQueue *queue = accel->drain.queue;
    SMMUCmdError error = SMMU_CERROR_NONE;
    bool stale = accel->vsmmu.stale;
    uint32_t cons;
    unsigned result = smmuv3_accel_batch_recover(&accel->vsmmu, &accel->batch,
                                                 &cons);

    smmuv3_accel_tell_if_lost(s, stale);
    smmuv3_accel_queue_note(queue, result, cons);
    if (result & SMMUV3_ACCEL_FLUSH_ILLEGAL) {
        error = SMMU_CERROR_ILL;
    }
    if (result & SMMUV3_ACCEL_FLUSH_AGAIN ||
        !smmuv3_accel_tell_sharers(s, false)) {
        queue->error = error;
        smmuv3_accel_slow_recover(s);
        return SMMU_CERROR_NONE;
    }
    if (accel->vsmmu.stale) {
        smmuv3_accel_retry_pending(s);
    }
    return error;
}

SMMUCmdError smmuv3_accel_flush(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    merge_pages(accel);
    if (accel->slow.until &&
        smmuv3_accel_batch_needs_host(&accel->vsmmu, &accel->batch)) {
        smmuv3_accel_slow_start(s);
        return SMMU_CERROR_NONE;
    }
    if (smmuv3_accel_batch_try(&accel->vsmmu, &accel->batch)) {
        return SMMU_CERROR_NONE;
    }
    if (!accel->batch.error || smmuv3_accel_slow_note(s, get_clock())) {
        smmuv3_accel_slow_recover(s);
        return SMMU_CERROR_NONE;
    }
    return recover_now(s);
}

SMMUCmdError smmuv3_accel_make_room(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    if (SMMUV3_ACCEL_BATCH_MAX - accel->batch.n > accel->vsmmu.n_streams) {
        return SMMU_CERROR_NONE;
    }
    accel->drain.worked = true;
    return smmuv3_accel_flush(s);
}

/*
 * Beginning and end
 */

bool smmuv3_accel_drain_start(SMMUv3State *s, SMMUv3AccelQueue *queue)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;

    if (drain->running || smmuv3_accel_busy(s)) {
        return false;
    }
    if (!s->accel_props.drain_us && !drain->in_bh) {
        qemu_bh_schedule(drain->bh);
        return false;
    }
    drain->running = queue->used = true;
    drain->queue = queue;
    drain->start = get_clock();
    drain->first = queue->q->cons;
    drain->worked = false;
    drain->n = drain->next = drain->n_read = 0;
    return true;
}

SMMUCmdError smmuv3_accel_drain_stop(SMMUv3State *s, SMMUCmdError error)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;
    SMMUQueue *q = drain->queue->q;
    SMMUCmdError late;
    int64_t now;

    drain->running = false;
    late = smmuv3_accel_flush(s);
    now = get_clock();
    s->accel_state->stats.drain_us[
        smmuv3_accel_bin((now - drain->start) / SCALE_US)]++;
    smmuv3_accel_slow_note(s, now);
    trace_smmuv3_cmdq_drained((q->cons - drain->first) & WRAP_INDEX_MASK(q),
                              now - drain->start);
    if (smmuv3_accel_busy(s)) {
        /* The command that has caused @error comes again afterwards */
        drain->queue->error = late ?: drain->queue->error;
        return SMMU_CERROR_NONE;
    }
    return late ?: error;
}

/*
 * This may run within a drain, if a CMD_SYNC's message goes to a device that
 * runs a main loop of its own.  That drain continues afterwards.  No queue is
 * drained while the machine is stopped.
 *
 * If the host is slow, the first drain ends with a job, and keeps the other
 * queues waiting.  So the queues take turns: first comes another one than last
 * time.
 */
static void drain_bh(void *opaque)
{
    SMMUv3State *s = opaque;
    SMMUv3AccelDrain *drain = &s->accel_state->drain;

    if (runstate_is_running()) {
        drain->in_bh = true;
        if (drain->queue == &s->accel_state->cmdq) {
            smmuv3_accel_cmdqv_drain(s);
            smmuv3_cmdq_consume(s);
        } else {
            smmuv3_cmdq_consume(s);
            smmuv3_accel_cmdqv_drain(s);
        }
        drain->in_bh = false;
    }
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    SMMUv3State *s = opaque;

    if (running) {
        smmuv3_accel_eventq_run(s);
        qemu_bh_schedule(s->accel_state->drain.bh);
    } else {
        smmuv3_accel_cmdq_stopped(s);
        smmuv3_accel_cmdqv_stopped(s);
    }
}

void smmuv3_accel_drain_realize(SMMUv3State *s)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;

    s->accel_state->cmdq.q = &s->cmdq;
    drain->queue = &s->accel_state->cmdq;
    /* Guarded: the SMMU's own registers refuse a CMD_SYNC's message */
    drain->bh = qemu_bh_new_guarded(drain_bh, s,
                                    &DEVICE(s)->mem_reentrancy_guard);
    smmuv3_accel_slow_realize(s);
    drain->vm_state = qdev_add_vm_change_state_handler(DEVICE(s),
                                                       vm_state_changed, s);
}

void smmuv3_accel_drain_unrealize(SMMUv3State *s)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;

    qemu_del_vm_change_state_handler(drain->vm_state);
    smmuv3_accel_slow_unrealize(s);
    qemu_bh_delete(drain->bh);
}

void smmuv3_accel_queue_set_cons(SMMUv3AccelQueue *queue, uint32_t cons)
{
    SMMUQueue *q = queue->q;

    q->cons = deposit32(q->cons, 0, q->log2size + 1, cons);
}

void smmuv3_accel_queue_note(SMMUv3AccelQueue *queue, unsigned result,
                             uint32_t cons)
{
    smmuv3_accel_cmdq_note(queue, result);
    if (result & SMMUV3_ACCEL_FLUSH_ILLEGAL) {
        smmuv3_accel_queue_set_cons(queue, cons);
    }
}

/* No batch is left from before: each drain ends with a flush */
void smmuv3_accel_queue_reset(SMMUv3State *s, SMMUv3AccelQueue *queue)
{
    if (s->accel_state->drain.queue == queue) {
        smmuv3_accel_batch_clear(&s->accel_state->batch);
    }
    queue->sync_error = queue->error = SMMU_CERROR_NONE;
    queue->invalidated = 0;
    queue->used = false;
    smmuv3_accel_slow_abandon(s, queue);
}
