/*
 * Accelerated SMMUv3: the edges at which a stream's attachment may change
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The attachment of a stream is a function of the current registers and tables
 * (smmuv3-accel-policy.c).  This file calls it at every edge that can change
 * the result, moves the stream (smmuv3-accel-stream.c), and tries again after a
 * temporary error of the host.  If an edge concerns several streams, and the
 * host is slow, some move later, and the main loop has its turn in between
 * (smmuv3-accel-slow.c).
 * GBPA and another bus number come here first.
 * CFGI_STE and CFGI_STE_RANGE come from smmuv3-accel-cmdq.c, which knows the
 * streams that they name, and SMMUEN and reset from smmuv3-accel.c.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "trace.h"
#include "smmuv3-accel-internal.h"

/*
 * Some errors of the host are temporary: it resets the device (EBUSY), or two
 * streams swap StreamIDs and one waits for the other's (EEXIST).  Try again
 * after this time, then after twice the time, and so on.  Report the error if
 * it lasts.
 */
#define RETRY_MIN_MS 10
#define RETRY_REPORT_MS 1280
#define RETRY_MAX_MS 5120

/*
 * How long a write of SMMUEN or GBPA may move streams with the BQL held.  The
 * guest polls for the end of what is left, but Linux gives up after a second
 * (ARM_SMMU_POLL_TIMEOUT_US).  A guest that waits in the write does not.
 */
#define EDGE_NS (3 * NANOSECONDS_PER_SECOND)

/* A guest causes failures at will, and must not fill the user's log */
#define REPORT_PAUSE_NS (10 * NANOSECONDS_PER_SECOND)

bool smmuv3_accel_passes_by_itself(int error)
{
    return error == -EBUSY || error == -EEXIST;
}

/* The current StreamID: the guest may renumber buses at any time */
static uint32_t stream_sid(const SMMUv3AccelEndpoint *ep)
{
    return PCI_BUILD_BDF(pci_bus_num(ep->bus), ep->devfn);
}

/* Returns the address that could not be read, for F_STE_FETCH */
static dma_addr_t fetch_ste(SMMUv3State *s, uint32_t sid,
                            SMMUv3AccelInputs *in)
{
    SMMUEventInfo event = { .sid = sid, .inval_ste_allowed = true };
    STE ste;

    if (!smmu_find_ste(s, sid, &ste, &event)) {
        in->ste_status = SMMUV3_ACCEL_STE_READ;
        in->ste[0] = deposit64(ste.word[0], 32, 32, ste.word[1]);
        in->ste[1] = deposit64(ste.word[2], 32, 32, ste.word[3]);
    } else if (event.type == SMMU_EVT_F_STE_FETCH) {
        in->ste_status = SMMUV3_ACCEL_STE_UNREADABLE;
        return event.u.f_ste_fetch.addr;
    } else {
        in->ste_status = SMMUV3_ACCEL_STE_ABSENT;
    }
    return 0;
}

/*
 * Record a configuration error.  The host cannot do so, because it sees only an
 * abort.  The architecture has one event per transaction with the error.  Here
 * it is one event per CFGI, because QEMU sees no transactions.
 */
static void record_fault(SMMUv3State *s, uint32_t sid, SMMUv3AccelFault fault,
                         dma_addr_t fetch_addr)
{
    SMMUEventInfo event = { .sid = sid };

    switch (fault) {
    case SMMUV3_ACCEL_FAULT_BAD_STREAMID:
        if (!FIELD_EX32(s->cr[2], CR2, RECINVSID)) {
            return;     /* IHI 0070 6.3.12: the guest wants none of these */
        }
        event.type = SMMU_EVT_C_BAD_STREAMID;
        break;
    case SMMUV3_ACCEL_FAULT_STE_FETCH:
        event.type = SMMU_EVT_F_STE_FETCH;
        event.u.f_ste_fetch.addr = fetch_addr;
        break;
    case SMMUV3_ACCEL_FAULT_BAD_STE:
        event.type = SMMU_EVT_C_BAD_STE;
        break;
    default:
        return;
    }
    smmuv3_record_event(s, &event);
}

/*
 * Trying again
 */

/* @anew: one more stream waits now, perhaps for a moment only */
static void retry_later(SMMUv3Accel *accel, bool anew)
{
    if (anew) {
        accel->retry_ms = 0;
        timer_del(accel->retry);
    }
    if (!timer_pending(accel->retry)) {
        accel->retry_ms = accel->retry_ms ? MIN(accel->retry_ms * 2,
                                                RETRY_MAX_MS) : RETRY_MIN_MS;
        timer_mod(accel->retry,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + accel->retry_ms);
    }
}

/* If no stream waits for the timer, the next one begins with a short time */
static void retries_over(SMMUv3Accel *accel)
{
    if (!timer_pending(accel->retry)) {
        accel->retry_ms = 0;
    }
}

void smmuv3_accel_retry_pending(SMMUv3State *s)
{
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &s->accel_state->vsmmu.streams, next) {
        /* Time alone does not help one that waits for an invalidation */
        if (smmuv3_accel_stream_pending(stream) &&
            !smmuv3_accel_stream_waits(stream)) {
            retry_later(s->accel_state, false);
            return;
        }
    }
}

/*
 * Edges
 */

static Smmuv3Cause cause_of(const SMMUv3AccelInputs *in, SMMUv3AccelFault fault)
{
    if (!in->smmuen) {
        return SMMUV3_CAUSE_DISABLED;
    }
    switch (fault) {
    case SMMUV3_ACCEL_FAULT_BAD_STREAMID:
        return SMMUV3_CAUSE_STE_ABSENT;
    case SMMUV3_ACCEL_FAULT_STE_FETCH:
        return SMMUV3_CAUSE_STE_UNREADABLE;
    case SMMUV3_ACCEL_FAULT_BAD_STE:
        return SMMUV3_CAUSE_STE_ILLEGAL;
    default:
        return FIELD_EX64(in->ste[0], STE0, V) ? SMMUV3_CAUSE_STE :
                                                 SMMUV3_CAUSE_STE_INVALID;
    }
}

int smmuv3_accel_refresh_stream(SMMUv3AccelEndpoint *ep, Smmuv3Edge edge,
                                Error **errp)
{
    ERRP_GUARD();
    SMMUv3State *s = ep->smmu;
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelStream *stream = &ep->stream;
    const SMMUv3AccelSTERules rules =
        smmuv3_accel_ste_rules(&accel->caps, &accel->vsmmu.info, stream->ats);
    bool waited = smmuv3_accel_passes_by_itself(stream->error);
    uint32_t sid = stream_sid(ep);
    SMMUv3AccelInputs in = {
        .smmuen = smmu_enabled(s),
        .gbpa_abort = FIELD_EX32(s->gbpa, GBPA, ABORT),
    };
    SMMUv3AccelDecision decision;
    uint64_t moves = stream->moves;
    dma_addr_t fetch_addr = 0;
    int64_t start;
    int ret;

    if (in.smmuen) {
        fetch_addr = fetch_ste(s, sid, &in);
    }
    decision = smmuv3_accel_decide(&in, &rules);
    if (edge == SMMUV3_EDGE_CFGI_STE) {
        record_fault(s, sid, decision.fault, fetch_addr);
    }
    start = accel->vsmmu.stale ? get_clock() : 0;
    ret = smmuv3_accel_stream_apply(stream, sid, &decision, errp);
    ep->cause = cause_of(&in, decision.fault);
    if (stream->moves != moves) {
        ep->edge = edge;
    }
    if (ret) {
        g_free(ep->error);
        ep->error = g_strdup(error_get_pretty(*errp));
    }
    if (start) {
        /* It may have called a host that does not answer */
        smmuv3_accel_slow_note_since(s, start);
        if (!accel->vsmmu.stale) {
            /* Others have waited for that as well */
            smmuv3_accel_retry_pending(s);
        }
    }
    if (smmuv3_accel_passes_by_itself(ret)) {
        retry_later(accel, !waited);
    }
    return ret;
}

void smmuv3_accel_refresh_and_report(SMMUv3AccelEndpoint *ep,
                                     Smmuv3Edge edge)
{
    SMMUv3Accel *accel = ep->smmu->accel_state;
    Error *err = NULL;
    int ret = smmuv3_accel_refresh_stream(ep, edge, &err);
    int64_t now = ret ? get_clock() : 0;

    /* Once per failure, not once per command */
    if (!ret) {
        ep->reported = false;
    } else if (!ep->reported && now >= ep->report_from &&
               (!smmuv3_accel_passes_by_itself(ret) ||
                accel->retry_ms >= RETRY_REPORT_MS)) {
        ep->reported = true;
        ep->report_from = now + REPORT_PAUSE_NS;
        smmuv3_accel_tell_stream_error(ep, error_get_pretty(err));
        warn_report_err(err);
        return;
    }
    error_free(err);
}

/*
 * Edges that concern several streams
 */

static void set_due(SMMUv3AccelStream *stream, Smmuv3Edge edge)
{
    SMMUv3AccelEndpoint *ep = smmuv3_accel_endpoint(stream);

    ep->due = true;
    ep->due_edge = edge;
}

void smmuv3_accel_pending_due(SMMUv3State *s)
{
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &s->accel_state->vsmmu.streams, next) {
        if (smmuv3_accel_stream_pending(stream)) {
            set_due(stream, SMMUV3_EDGE_RETRY);
        }
    }
}

/* Returns false if @ns had passed since @start after one of them */
static bool move_due(SMMUv3State *s, int64_t start, int64_t ns)
{
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &s->accel_state->vsmmu.streams, next) {
        SMMUv3AccelEndpoint *ep = smmuv3_accel_endpoint(stream);

        if (ep->due) {
            ep->due = false;
            smmuv3_accel_refresh_and_report(ep, ep->due_edge);
            if (get_clock() - start >= ns) {
                return false;
            }
        }
    }
    return true;
}

bool smmuv3_accel_refresh_due(SMMUv3State *s, int64_t ns)
{
    SMMUv3Accel *accel = s->accel_state;
    int64_t start = get_clock();

    if (!move_due(s, start, ns)) {
        return false;
    }
    if (accel->sids_moved) {
        /* A stream may have waited for the StreamID of another */
        accel->sids_moved = false;
        smmuv3_accel_pending_due(s);
        return move_due(s, start, ns);
    }
    return true;
}

/* Returns false if the main loop moves the rest, as it may do already */
static bool refresh_for(SMMUv3State *s, int64_t ns)
{
    SMMUv3Accel *accel = s->accel_state;
    bool later = smmuv3_accel_slow_moves(s) &&
                 (!accel->slow.paused || accel->smmuen_due ||
                  FIELD_EX32(s->gbpa, GBPA, UPDATE));
    bool done = !later && smmuv3_accel_refresh_due(s, ns);

    if (!done) {
        smmuv3_accel_slow_pause(s);
    }
    return done;
}

static void retry_timer(void *opaque)
{
    SMMUv3State *s = opaque;
    SMMUv3Accel *accel = s->accel_state;
    bool known_slow = accel->slow.until;

    if (smmuv3_accel_slow_moves(s)) {
        /* Those that wait must not overtake those that are due */
        retry_later(accel, false);
        return;
    }
    accel->stats.retries++;
    smmuv3_accel_pending_due(s);
    if (refresh_for(s, SMMUV3_ACCEL_SLOW_CALL_NS)) {
        retries_over(accel);
    }
    if (!known_slow) {
        smmuv3_accel_slow_restore(s);
    }
}

bool smmuv3_accel_refresh_all(SMMUv3State *s, Smmuv3Edge edge)
{
    SMMUv3AccelStream *stream;
    bool done;

    QLIST_FOREACH(stream, &s->accel_state->vsmmu.streams, next) {
        set_due(stream, edge);
    }
    /* A reset has no end that the guest could wait for */
    done = edge == SMMUV3_EDGE_RESET ? smmuv3_accel_refresh_due(s, INT64_MAX) :
                                       refresh_for(s, EDGE_NS);
    smmuv3_accel_slow_restore(s);
    return done;
}

void smmuv3_accel_streams_moved(SMMUv3State *s)
{
    retries_over(s->accel_state);
    s->accel_state->smmuen_due = false;
    s->cr0ack = s->cr[0] & ~SMMU_CR0_RESERVED;
    s->gbpa &= ~R_GBPA_UPDATE_MASK;
    smmuv3_accel_publish(s, A_CR0ACK, s->cr0ack);
    smmuv3_accel_publish(s, A_GBPA, s->gbpa);
}

void smmuv3_accel_do_gbpa(SMMUv3State *s)
{
    bool done = smmu_enabled(s) ? !s->accel_state->smmuen_due :
                smmuv3_accel_refresh_all(s, SMMUV3_EDGE_GBPA);

    if (!done) {
        s->gbpa |= R_GBPA_UPDATE_MASK;
    }
}

/*
 * The streams of a renumbered bus have to move before the next command takes
 * effect, because the command may name the new numbers.  If no command comes
 * they move soon, but not at once: a guest that numbers its buses writes a
 * bridge's registers several times, and a machine reset clears all of them and
 * resets SMMUs after bridges.
 */
void smmuv3_accel_refresh_renumbered(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelStream *stream;

    if (!accel->renumbered) {
        return;
    }
    accel->renumbered = false;
    accel->sids_moved = true;
    QLIST_FOREACH(stream, &accel->vsmmu.streams, next) {
        if (stream->sid != stream_sid(smmuv3_accel_endpoint(stream))) {
            set_due(stream, SMMUV3_EDGE_RENUMBERED);
        }
    }
    refresh_for(s, SMMUV3_ACCEL_SLOW_CALL_NS);
    smmuv3_accel_slow_restore(s);
}

static void renumber_bh(void *opaque)
{
    smmuv3_accel_refresh_renumbered(opaque);
}

void smmuv3_accel_bus_renumbered(PCIBus *bus, void *opaque)
{
    SMMUv3State *s = opaque;

    trace_smmuv3_accel_bus_renumbered(s->accel_state->name, pci_bus_num(bus));
    smmu_bus_renumbered(bus, &s->smmu_state);
    s->accel_state->renumbered = true;
    qemu_bh_schedule(s->accel_state->renumber);
}

void smmuv3_accel_edges_realize(SMMUv3State *s)
{
    s->accel_state->retry = timer_new_ms(QEMU_CLOCK_REALTIME, retry_timer, s);
    s->accel_state->renumber = qemu_bh_new(renumber_bh, s);
}

void smmuv3_accel_edges_unrealize(SMMUv3State *s)
{
    qemu_bh_delete(s->accel_state->renumber);
    timer_free(s->accel_state->retry);
}
