/*
 * Accelerated SMMUv3: the guest's command queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What each command does (IHI 0070 4.3 to 4.7).  CFGI_STE and CFGI_STE_RANGE
 * move streams.  TLBI, CFGI_CD and ATC_INV enter the batch for the host
 * (smmuv3-accel-batch.c, called by smmuv3-accel-slow.c).  A CMD_SYNC completes,
 * by memory or by an interrupt, or reports that the host has failed, or that an
 * ATC has not answered.
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "trace.h"
#include "hw/arm/smmuv3-msi.h"
#include "smmuv3-accel-internal.h"

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
 * batch has room, because the caller has asked for it or has flushed.
 */
static void collect_for(SMMUv3State *s, const SMMUv3AccelStream *stream,
                        const SMMUv3HostCmd *cmd)
{
    SMMUv3AccelBatch *batch = &s->accel_state->batch;
    SMMUQueue *q = s->accel_state->drain.queue->q;
    SMMUv3HostCmd named = *cmd;

    if (!stream->has_vdevice ||
        (smmuv3_accel_cmd_is_atc_inv(cmd) &&
         !smmuv3_accel_stream_caches(stream))) {
        return;
    }
    smmuv3_accel_cmd_set_sid(&named, stream->vdevice_sid);
    smmuv3_accel_batch_add(batch, &named, q->cons & WRAP_INDEX_MASK(q));
}

static SMMUCmdError collect_for_sid(SMMUv3State *s, uint32_t sid,
                                    const SMMUv3HostCmd *cmd)
{
    SMMUCmdError error = smmuv3_accel_make_room(s);
    SMMUv3AccelStream *stream;

    if (error || smmuv3_accel_busy(s)) {
        return error;
    }
    s->accel_state->drain.queue->invalidated |=
        smmuv3_accel_cmd_is_atc_inv(cmd) ? SMMUV3_ACCEL_INVALIDATED_TLB :
                                           SMMUV3_ACCEL_INVALIDATED_CONFIG;
    for (stream = smmuv3_accel_vsmmu_find(&s->accel_state->vsmmu, sid);
         stream; stream = QLIST_NEXT(stream, next_of_sid)) {
        collect_for(s, stream, cmd);
    }
    return SMMU_CERROR_NONE;
}

/*
 * Commands that QEMU carries out
 */

/*
 * A CFGI_STE covers the stream's CDs too (IHI 0070 4.3.1).  If the stream
 * moves, the host invalidates them without being asked.  If not, it needs a
 * command.
 */
static void cfgi_ste(SMMUv3State *s, SMMUv3AccelStream *stream)
{
    SMMUv3AccelDecision before = stream->now;
    SMMUv3HostCmd cmd = smmuv3_accel_cmd_cfgi_cd_all(stream->vdevice_sid);

    smmuv3_accel_refresh_and_report(smmuv3_accel_endpoint(stream),
                                    SMMUV3_EDGE_CFGI_STE);
    if (stream->now.action == SMMUV3_ACCEL_TRANSLATE &&
        smmuv3_accel_decision_equal(&before, &stream->now)) {
        collect_for(s, stream, &cmd);
    }
}

/*
 * If a stream takes long the others follow when the main loop had its turn, and
 * the command is complete after them.  Each follows it once.
 */
static void cfgi_ste_range(SMMUv3State *s, uint32_t sid, uint32_t mask)
{
    SMMUv3Accel *accel = s->accel_state;
    int64_t start = get_clock();
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &accel->vsmmu.streams, next) {
        SMMUv3AccelEndpoint *ep = smmuv3_accel_endpoint(stream);

        if (!accel->in_range) {
            ep->in_range = !((stream->sid ^ sid) & ~mask);
        }
    }
    accel->in_range = true;
    QLIST_FOREACH(stream, &accel->vsmmu.streams, next) {
        SMMUv3AccelEndpoint *ep = smmuv3_accel_endpoint(stream);

        if (ep->in_range) {
            ep->in_range = false;
            cfgi_ste(s, stream);
            if (get_clock() - start >= SMMUV3_ACCEL_SLOW_CALL_NS) {
                smmuv3_accel_slow_pause(s);
                return;
            }
        }
    }
    accel->in_range = false;
}

/* Several streams have one StreamID if the guest has numbered buses so */
static void cfgi_ste_sid(SMMUv3State *s, uint32_t sid)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelStream *stream = smmuv3_accel_vsmmu_find(&accel->vsmmu, sid);

    if (accel->in_range || (stream && QLIST_NEXT(stream, next_of_sid))) {
        cfgi_ste_range(s, sid, 0);
    } else if (stream) {
        cfgi_ste(s, stream);
    }
}

/* The batch is empty */
static void cfgi(SMMUv3State *s, const Cmd *cmd)
{
    bool known_slow = s->accel_state->slow.until;

    if (!s->accel_state->in_range) {
        smmuv3_accel_slow_resync(s);
    }
    if (smmuv3_accel_busy(s)) {
        return;
    }
    s->accel_state->cmdq.invalidated |= SMMUV3_ACCEL_INVALIDATED_CONFIG;
    if (CMD_TYPE(cmd) == SMMU_CMD_CFGI_STE) {
        cfgi_ste_sid(s, CMD_SID(cmd));
    } else {
        cfgi_ste_range(s, CMD_SID(cmd),
                       MAKE_64BIT_MASK(0, CMD_STE_RANGE(cmd) + 1));
    }
    if (!known_slow) {
        /* It has just become slow, in the middle of an invalidation */
        smmuv3_accel_slow_restore(s);
    }
}

void smmuv3_accel_cmdq_note(SMMUv3AccelQueue *queue, unsigned result)
{
    if (result & SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT) {
        queue->sync_error = SMMU_CERROR_ATC_INV_SYNC;
    }
    if (result & SMMUV3_ACCEL_FLUSH_FAILED) {
        queue->sync_error = SMMU_CERROR_ABT;
    }
}

SMMUCmdError smmuv3_accel_cmdq_sync(SMMUv3State *s)
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
 * The wire is pulsed whatever the address (4.7.3), and pulses may coalesce
 * (3.18.2).  Under KVM a pulse takes two system calls, in each unmap.  Software
 * that gives an address does not wait for the wire.  So it is pulsed once for
 * all messages of this time.
 */
#define WIRE_MS 10

static void wire_timer(void *opaque)
{
    smmuv3_trigger_irq(opaque, SMMU_IRQ_CMD_SYNC, 0);
}

static void pulse_later(SMMUv3State *s)
{
    QEMUTimer *wire = s->accel_state->sync_wire;

    if (!timer_pending(wire)) {
        timer_mod(wire, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + WIRE_MS);
    }
}

void smmuv3_accel_cmdq_stopped(SMMUv3State *s)
{
    QEMUTimer *wire = s->accel_state->sync_wire;

    if (timer_pending(wire)) {
        timer_del(wire);
        wire_timer(s);
    }
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
        pulse_later(s);
    } else {
        smmuv3_trigger_irq(s, SMMU_IRQ_CMD_SYNC, 0);
    }
}

SMMUCmdError smmuv3_accel_cmdq_forward(SMMUv3State *s, const uint64_t words[2],
                                        bool *local)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelCmdRules rules =
        smmuv3_accel_cmd_rules(&accel->caps, &accel->vsmmu.info);
    SMMUv3HostCmd out;

    *local = false;
    smmuv3_accel_refresh_renumbered(s);
    if (smmuv3_accel_busy(s)) {
        return SMMU_CERROR_NONE;
    }
    rules.smmuen = smmu_enabled(s);
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
    error = smmuv3_accel_cmdq_forward(s, words, &local);
    if (error || !local) {
        return error;
    }
    error = smmuv3_accel_flush(s);
    if (error || smmuv3_accel_busy(s)) {
        return error;
    }
    switch (CMD_TYPE(cmd)) {
    case SMMU_CMD_SYNC:
        return smmuv3_accel_cmdq_sync(s);
    case SMMU_CMD_CFGI_STE:
    case SMMU_CMD_CFGI_STE_RANGE:
        cfgi(s, cmd);
        return SMMU_CERROR_NONE;
    default:
        *caches_only = false;
        return SMMU_CERROR_NONE;
    }
}

/*
 * The SMMU's own queue
 */

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
        if (*error || smmuv3_accel_busy(s)) {
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

bool smmuv3_accel_do_drain_begin(SMMUv3State *s)
{
    if (s->accel_state->drain.running) {
        return false;
    }
    smmuv3_accel_publish(s, A_CMDQ_PROD, s->cmdq.prod);
    return smmuv3_accel_drain_start(s, &s->accel_state->cmdq);
}

unsigned smmuv3_accel_do_drain_end(SMMUv3State *s, unsigned error)
{
    error = smmuv3_accel_drain_stop(s, error);
    if (error) {
        /* The guest may issue another command */
        s->accel_state->in_range = false;
    }
    smmuv3_accel_publish(s, A_CMDQ_CONS, s->cmdq.cons);
    return error;
}

void smmuv3_accel_cmdq_realize(SMMUv3State *s)
{
    s->accel_state->sync_wire = timer_new_ms(QEMU_CLOCK_REALTIME, wire_timer,
                                             s);
}

void smmuv3_accel_cmdq_unrealize(SMMUv3State *s)
{
    timer_free(s->accel_state->sync_wire);
}

void smmuv3_accel_cmdq_reset(SMMUv3State *s)
{
    timer_del(s->accel_state->sync_wire);
    s->accel_state->in_range = false;
    smmuv3_accel_queue_reset(s, &s->accel_state->cmdq);
}
