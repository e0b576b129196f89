/*
 * Accelerated SMMUv3: the guest's command queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What each command does (IHI 0070 4.3 to 4.7).  CFGI_STE and CFGI_STE_RANGE
 * move streams.  TLBI, CFGI_CD and ATC_INV enter the batch for the host
 * (smmuv3-accel-batch.c, called by smmuv3-accel-slow.c).  A CMD_SYNC completes,
 * by memory or by an interrupt, or reports that the host has failed.  This file
 * also decides how far a drain reads ahead, and how long it may take.  A VCMDQ
 * is drained by smmuv3-accel-cmdqv.c, with the same functions.
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "trace.h"
#include "hw/arm/smmuv3-msi.h"
#include "smmuv3-accel-internal.h"

/* After this many commands a drain looks at the clock in any case */
#define LONG_DRAIN 1024

/*
 * What waits for the host
 */

static SMMUCmdError collect(SMMUv3State *s, const SMMUv3HostCmd *cmd)
{
    SMMUv3AccelBatch *batch = &s->accel_state->batch;
    SMMUv3AccelQueue *queue = s->accel_state->drain.queue;
    SMMUQueue *q = queue->q;

    queue->invalidated |= SMMUV3_ACCEL_INVALIDATED_TLB;
    smmuv3_accel_batch_add(batch, cmd, q->cons & WRAP_INDEX_MASK(q));
    return smmuv3_accel_batch_full(batch) ? smmuv3_accel_flush(s)
                                          : SMMU_CERROR_NONE;
}

/*
 * The host knows a stream by the StreamID of its vDEVICE, if it has one.  A
 * device without ATS must get no ATC_INV, because it would not answer.  The
 * caller walks a list of streams, so this command may not stop the drain.
 */
static SMMUCmdError collect_for(SMMUv3State *s, const SMMUv3AccelStream *stream,
                                const SMMUv3HostCmd *cmd)
{
    SMMUv3AccelBatch *batch = &s->accel_state->batch;
    SMMUQueue *q = s->accel_state->drain.queue->q;
    SMMUv3HostCmd named = *cmd;

    if (!stream->has_vdevice ||
        (smmuv3_accel_cmd_is_atc_inv(cmd) &&
         !smmuv3_accel_stream_caches(stream))) {
        return SMMU_CERROR_NONE;
    }
    smmuv3_accel_cmd_set_sid(&named, stream->vdevice_sid);
    smmuv3_accel_batch_add(batch, &named, q->cons & WRAP_INDEX_MASK(q));
    return smmuv3_accel_batch_full(batch) ? smmuv3_accel_flush_now(s)
                                          : SMMU_CERROR_NONE;
}

static SMMUCmdError collect_for_sid(SMMUv3State *s, uint32_t sid,
                                    const SMMUv3HostCmd *cmd)
{
    SMMUCmdError error = smmuv3_accel_make_room(s);
    SMMUv3AccelStream *stream;

    if (error || s->accel_state->slow.busy) {
        return error;
    }
    s->accel_state->drain.queue->invalidated |=
        SMMUV3_ACCEL_INVALIDATED_CONFIG;
    for (stream = smmuv3_accel_vsmmu_find(&s->accel_state->vsmmu, sid);
         stream && !error; stream = QLIST_NEXT(stream, next_of_sid)) {
        error = collect_for(s, stream, cmd);
    }
    return error;
}

/*
 * Commands that QEMU carries out
 */

/*
 * A CFGI_STE covers the stream's CDs too (IHI 0070 4.3.1).  If the stream
 * moves, the host invalidates them without being asked.  If not, it needs a
 * command.
 */
static SMMUCmdError cfgi_ste(SMMUv3State *s, SMMUv3AccelStream *stream)
{
    SMMUv3AccelDecision before = stream->now;
    SMMUv3HostCmd cmd = smmuv3_accel_cmd_cfgi_cd_all(stream->vdevice_sid);

    smmuv3_accel_refresh_and_report(smmuv3_accel_endpoint(stream),
                                    SMMUV3_ACCEL_EDGE_CFGI);
    if (stream->now.action != SMMUV3_ACCEL_TRANSLATE ||
        !smmuv3_accel_decision_equal(&before, &stream->now)) {
        return SMMU_CERROR_NONE;
    }
    return collect_for(s, stream, &cmd);
}

static SMMUCmdError cfgi_ste_sid(SMMUv3State *s, uint32_t sid)
{
    SMMUCmdError error = SMMU_CERROR_NONE;
    SMMUv3AccelStream *stream;

    for (stream = smmuv3_accel_vsmmu_find(&s->accel_state->vsmmu, sid);
         stream && !error; stream = QLIST_NEXT(stream, next_of_sid)) {
        error = cfgi_ste(s, stream);
    }
    return error;
}

/* Look up each StreamID of the range, or each stream if these are fewer */
static SMMUCmdError cfgi_ste_range(SMMUv3State *s, uint32_t sid, unsigned range)
{
    SMMUv3AccelVsmmu *vsmmu = &s->accel_state->vsmmu;
    uint32_t mask = MAKE_64BIT_MASK(0, range + 1);
    SMMUCmdError error = SMMU_CERROR_NONE;
    SMMUv3AccelStream *stream;

    if (mask < vsmmu->n_streams) {
        for (uint32_t i = 0; i <= mask && !error; i++) {
            error = cfgi_ste_sid(s, (sid & ~mask) | i);
        }
        return error;
    }
    QLIST_FOREACH(stream, &vsmmu->streams, next) {
        if (!error && !((stream->sid ^ sid) & ~mask)) {
            error = cfgi_ste(s, stream);
        }
    }
    return error;
}

static SMMUCmdError cfgi(SMMUv3State *s, const Cmd *cmd)
{
    smmuv3_accel_slow_resync(s);
    if (s->accel_state->slow.busy) {
        return SMMU_CERROR_NONE;
    }
    s->accel_state->cmdq.invalidated |= SMMUV3_ACCEL_INVALIDATED_CONFIG;
    return CMD_TYPE(cmd) == SMMU_CMD_CFGI_STE ?
           cfgi_ste_sid(s, CMD_SID(cmd)) :
           cfgi_ste_range(s, CMD_SID(cmd), CMD_STE_RANGE(cmd));
}

SMMUCmdError smmuv3_accel_drain_sync(SMMUv3State *s)
{
    SMMUv3AccelQueue *queue = s->accel_state->drain.queue;
    SMMUCmdError error = queue->sync_error;

    queue->sync_error = SMMU_CERROR_NONE;
    if (!error) {
        smmuv3_accel_eventq_sync(s, queue->invalidated);
        queue->invalidated = 0;
    }
    return error;
}

/*
 * The signal comes last, because software that sees it must see CMDQ_CONS
 * beyond the CMD_SYNC.
 */
static void complete_sync(SMMUv3State *s, const Cmd *cmd)
{
    uint64_t addr = CMD_SYNC_MSI_ADDR(cmd);

    queue_cons_incr(&s->cmdq);
    smmuv3_accel_publish(s, A_CMDQ_CONS, s->cmdq.cons);
    if (!(CMD_SYNC_CS(cmd) & CMD_SYNC_SIG_IRQ)) {
        return;
    }
    if (addr && smmuv3_has_msi(s)) {
        smmuv3_write_msi(s, addr, CMD_SYNC_MSI_DATA(cmd),
                         R_GERROR_MSI_CMDQ_ABT_ERR_MASK);
    }
    /* The wire is pulsed whatever the address (4.7.3) */
    smmuv3_trigger_irq(s, SMMU_IRQ_CMD_SYNC, 0);
}

SMMUCmdError smmuv3_accel_drain_forward(SMMUv3State *s, const uint64_t words[2],
                                        bool *local)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelCmdRules rules =
        smmuv3_accel_cmd_rules(&accel->caps, &accel->vsmmu.info);
    SMMUv3HostCmd out;

    rules.smmuen = smmu_enabled(s);
    smmuv3_accel_refresh_renumbered(s);
    *local = false;
    switch (smmuv3_accel_cmd_prepare(&rules, words, &out)) {
    case SMMUV3_ACCEL_CMD_TLB:
        return collect(s, &out);
    case SMMUV3_ACCEL_CMD_STREAM:
        return collect_for_sid(s, extract64(words[0], 32, 32), &out);
    case SMMUV3_ACCEL_CMD_ILLEGAL:
        return SMMU_CERROR_ILL;
    case SMMUV3_ACCEL_CMD_IGNORED:
        return SMMU_CERROR_NONE;
    case SMMUV3_ACCEL_CMD_LOCAL:
        *local = true;
        break;
    }
    return SMMU_CERROR_NONE;
}

/*
 * Carry a command out on the host and on streams, or add it to the batch.
 * @caches_only: set to whether only QEMU's own caches may need it still; valid
 *               if there is no error
 */
static SMMUCmdError carry_out(SMMUv3State *s, const uint64_t words[2],
                              const Cmd *cmd, bool *caches_only)
{
    SMMUCmdError error;
    bool local;

    *caches_only = true;
    error = smmuv3_accel_drain_forward(s, words, &local);
    if (error || !local) {
        return error;
    }
    error = smmuv3_accel_flush(s);
    if (error || s->accel_state->slow.busy) {
        return error;
    }
    switch (CMD_TYPE(cmd)) {
    case SMMU_CMD_SYNC:
        return smmuv3_accel_drain_sync(s);
    case SMMU_CMD_CFGI_STE:
    case SMMU_CMD_CFGI_STE_RANGE:
        return cfgi(s, cmd);
    default:
        *caches_only = false;
        return SMMU_CERROR_NONE;
    }
}

/*
 * The drain.  A guest may have 2^19 commands in its queue, and each of them may
 * keep the host busy.  Meanwhile a drain holds the BQL and stops a vCPU.
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
 * Look at the clock only after a command that took effect, and after LONG_DRAIN
 * others.  So what one CMD_SYNC waits for is mostly one call to the host.
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

    drain->worked = !s->accel_state->batch.n || type == SMMU_CMD_CFGI_STE ||
                    type == SMMU_CMD_CFGI_STE_RANGE ||
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
    drain->next += n;
    drain->n += n;
    q->cons = deposit32(q->cons, 0, q->log2size + 1, q->cons + n);
}

static void set_cmd(Cmd *cmd, const uint64_t words[2])
{
    for (int i = 0; i < ARRAY_SIZE(cmd->word); i++) {
        cmd->word[i] = extract64(words[i / 2], i % 2 * 32, 32);
    }
}

bool smmuv3_accel_drain_next(SMMUv3State *s, Cmd *cmd, unsigned *error)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;
    SMMUv3AccelQueue *queue = &s->accel_state->cmdq;
    SMMUCmdError fetch_error = SMMU_CERROR_NONE;
    SMMUQueue *q = &s->cmdq;

    *error = queue->error;
    queue->error = SMMU_CERROR_NONE;
    while (!*error && !smmuv3_q_empty(q)) {
        const uint64_t *words;
        bool caches_only;

        if (!smmuv3_accel_drain_fetch(s, &words, &fetch_error)) {
            *error = fetch_error;
            return false;
        }
        set_cmd(cmd, words);
        trace_smmuv3_cmdq_opcode(smmu_cmd_string(CMD_TYPE(cmd)));
        *error = carry_out(s, words, cmd, &caches_only);
        if (*error || s->accel_state->slow.busy) {
            return false;
        }
        smmuv3_accel_drain_note(s, CMD_TYPE(cmd));
        if (CMD_TYPE(cmd) == SMMU_CMD_SYNC) {
            complete_sync(s, cmd);
        } else if (caches_only && drain->no_cache) {
            smmuv3_accel_drain_take_pages(s);
        } else {
            return true;
        }
    }
    return false;
}

bool smmuv3_accel_drain_start(SMMUv3State *s, SMMUv3AccelQueue *queue)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;

    if (drain->running || s->accel_state->slow.busy) {
        return false;
    }
    if (!s->accel_props.drain_us && !drain->in_bh) {
        qemu_bh_schedule(drain->bh);
        return false;
    }
    drain->running = true;
    drain->queue = queue;
    drain->start = get_clock();
    drain->first = queue->q->cons;
    drain->worked = false;
    drain->n = drain->next = drain->n_read = 0;
    return true;
}

bool smmuv3_accel_do_drain_begin(SMMUv3State *s)
{
    if (s->accel_state->drain.running) {
        return false;
    }
    smmuv3_accel_publish(s, A_CMDQ_PROD, s->cmdq.prod);
    return smmuv3_accel_drain_start(s, &s->accel_state->cmdq);
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
    smmuv3_accel_slow_note(s, now);
    trace_smmuv3_cmdq_drained((q->cons - drain->first) & WRAP_INDEX_MASK(q),
                              now - drain->start);
    /* The command that has caused @error comes again after the job */
    return s->accel_state->slow.busy ? SMMU_CERROR_NONE : late ?: error;
}

unsigned smmuv3_accel_do_drain_end(SMMUv3State *s, unsigned error)
{
    error = smmuv3_accel_drain_stop(s, error);
    smmuv3_accel_publish(s, A_CMDQ_CONS, s->cmdq.cons);
    return error;
}

/*
 * This may run within a drain, if a CMD_SYNC's message goes to a device that
 * runs a main loop of its own.  That drain continues afterwards.  No queue is
 * drained while the machine is stopped.
 */
static void drain_bh(void *opaque)
{
    SMMUv3State *s = opaque;

    if (runstate_is_running()) {
        s->accel_state->drain.in_bh = true;
        smmuv3_cmdq_consume(s);
        smmuv3_accel_cmdqv_drain(s);
        s->accel_state->drain.in_bh = false;
    }
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    SMMUv3State *s = opaque;

    if (running) {
        smmuv3_accel_eventq_run(s);
        qemu_bh_schedule(s->accel_state->drain.bh);
    }
}

void smmuv3_accel_cmdq_realize(SMMUv3State *s)
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

void smmuv3_accel_cmdq_unrealize(SMMUv3State *s)
{
    SMMUv3AccelDrain *drain = &s->accel_state->drain;

    qemu_del_vm_change_state_handler(drain->vm_state);
    smmuv3_accel_slow_unrealize(s);
    qemu_bh_delete(drain->bh);
}

/* No batch is left from before: each drain ends with a flush */
void smmuv3_accel_queue_reset(SMMUv3State *s, SMMUv3AccelQueue *queue)
{
    if (s->accel_state->drain.queue == queue) {
        smmuv3_accel_batch_clear(&s->accel_state->batch);
    }
    queue->sync_error = queue->error = SMMU_CERROR_NONE;
    queue->invalidated = 0;
    smmuv3_accel_slow_abandon(s, queue);
}

void smmuv3_accel_cmdq_reset(SMMUv3State *s)
{
    smmuv3_accel_queue_reset(s, &s->accel_state->cmdq);
}
