/*
 * Accelerated SMMUv3: what the files of its upper half share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The upper half knows SMMUv3State.  Its files are named after what the guest
 * sees: the device (smmuv3-accel.c), its properties (-props), PCI (-pci), what
 * moves a stream (-edges), the queues (-cmdq, -cmdqv, -cmdqv-poll, -cmdqv-hw,
 * -drain, -eventq), registers in memory (-regs-mem), registers of a CMDQV
 * (-tegra241); and after what else happens: a slow host (-slow), a shared
 * stage 2 (-sharers), questions of a person (-query).
 * The lower half knows the interface to the host only.  Its files are named
 * after the objects of the host.
 *
 * All functions are called with the BQL held, for an SMMU with accel=on.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_INTERNAL_H
#define HW_ARM_SMMUV3_ACCEL_INTERNAL_H

#include "qemu/event_notifier.h"
#include "qemu/notify.h"
#include "hw/pci/pci.h"
#include "migration/vmstate.h"
#include "qapi/qapi-types-smmuv3.h"
#include "system/host_iommu_device.h"
#include "system/runstate.h"
#include "hw/arm/smmuv3-accel.h"
#include "smmuv3-internal.h"
#include "smmuv3-accel-batch.h"
#include "smmuv3-accel-caps.h"
#include "smmuv3-accel-drain.h"
#include "smmuv3-accel-stats.h"
#include "smmuv3-accel-stream.h"

/* An assigned device below the SMMU */
typedef struct SMMUv3AccelEndpoint {
    SMMUv3AccelStream stream;       /* the part that the lower half knows */
    SMMUv3State *smmu;
    PCIBus *bus;
    int devfn;
    HostIOMMUDevice *hiod;          /* referenced */
    Smmuv3Cause cause;              /* why the stream is to be where it is */
    Smmuv3Edge edge;                /* what has moved it where it is */
    bool due;                       /* it has to follow an edge still */
    Smmuv3Edge due_edge;
    bool in_range;                  /* and the command at CMDQ_CONS */
    char *error;                    /* why the host last refused, or NULL */
    bool reported;                  /* the user knows the stream's error */
    int64_t report_from;            /* ns; the next one is not told before */
    bool msi_reported;              /* the user knows that its MSIs fault */
} SMMUv3AccelEndpoint;

/* What a slow host is busy with; all queues wait for it */
typedef enum SMMUv3AccelPhase {
    SMMUV3_ACCEL_PHASE_NONE,
    SMMUV3_ACCEL_PHASE_START,   /* the main loop will create a thread */
    SMMUV3_ACCEL_PHASE_CALL,    /* the thread calls; without one, slow_bh() */
    SMMUV3_ACCEL_PHASE_MOVE,    /* streams are parked, or follow an edge */
} SMMUv3AccelPhase;

/* Calls that a thread makes, because the host is slow: smmuv3-accel-slow.c */
typedef struct SMMUv3AccelSlow {
    int64_t until;              /* ns; 0 while the host is quick */
    QEMUBH *bh;                 /* takes the job to its next phase */
    SMMUv3AccelPhase phase;
    SMMUv3AccelQueue *queue;    /* the one that the job is for */
    bool abandoned;             /* the queue that the job is for is no more */
    bool resync;                /* the job invalidates everything */
    bool everything;            /* VCMDQs may have lost what it invalidates */
    bool resynced;              /* for the command at CMDQ_CONS */
    bool restore;               /* streams that wait for the job follow it */
    bool again;                 /* it may have begun too early: once more */
    bool failed;                /* the job: not even everything goes */
    bool paused;                /* no stream has to be parked */
    uint32_t cons;              /* its CONS when the job is complete */
    int64_t started;            /* ns */
    GThread *thread;            /* in PHASE_CALL; NULL if there can be none */
    SMMUv3AccelJob job;         /* the thread's in PHASE_CALL */
} SMMUv3AccelSlow;

typedef struct SMMUv3AccelCmdqv SMMUv3AccelCmdqv;

typedef struct SMMUv3Accel {
    char *name;                 /* for messages */
    PCIBus *bus;                /* the primary bus */
    Notifier machine_done;
    uint64_t msi_faults;        /* the property msi-faults */
    SMMUv3AccelStats stats;
    Error *migration_blocker;
    VMStateDescription unmigratable;

    /*
     * The guest's part: what the guest has seen, and what is in progress.  With
     * the registers and msi_pending in SMMUv3State this is all that a migration
     * needs.
     */
    SMMUv3AccelCaps caps;
    uint8_t cmdqs;              /* IDR1.CMDQS, once @caps are frozen */
    SMMUv3AccelQueue cmdq;      /* of SMMUv3State.cmdq */
    SMMUv3AccelCmdqv *cmdqv;    /* NULL without */

    /*
     * The host's part: between drains it can be made again from the guest's
     * registers and tables
     */
    SMMUv3AccelVsmmu vsmmu;     /* its streams are embedded in endpoints */
    uint32_t followed_cr0;      /* the CR0 that this part agrees with */
    QEMUTimer *retry;
    unsigned retry_ms;          /* 0 while nothing is pending */
    QEMUBH *renumber;
    bool renumbered;            /* some streams have another StreamID now */
    bool sids_moved;            /* then those that wait for one may go on */
    bool smmuen_due;            /* CR0ACK does not have CR0's SMMUEN yet */
    bool in_range;              /* some have followed that at CMDQ_CONS */
    SMMUv3AccelBatch batch;
    SMMUv3AccelDrain drain;
    SMMUv3AccelSlow slow;
    QEMUTimer *sync_wire;       /* pulses it after messages of CMD_SYNCs */
    bool events_paused;         /* until the guest makes room */
    bool events_full;           /* since then the host may have lost some */
    bool events_refused;        /* by the host, and the user was warned */
    int64_t events_tell_from;   /* ns; no event of QMP is sent before */
    QEMUTimer *events_close;    /* a vEVENTQ that could not be freed at once */
    unsigned events_close_ms;   /* 0 while there is none */
    bool events_failed;         /* the vEVENTQ could not be read */
    unsigned events_expected;   /* so many CMD_SYNCs look for events first */
    uint8_t *reg_mem;           /* current registers, for the guest to read */
    EventNotifier zero_written; /* nothing waits for it */
    uint32_t zero_writes;       /* bits of the registers that use it */
} SMMUv3Accel;

/* Do the queues of @s wait for a slow host? */
static inline bool smmuv3_accel_busy(const SMMUv3State *s)
{
    return s->accel_state->slow.phase != SMMUV3_ACCEL_PHASE_NONE;
}

/* The endpoint that embeds @stream */
static inline SMMUv3AccelEndpoint *
smmuv3_accel_endpoint(SMMUv3AccelStream *stream)
{
    return container_of(stream, SMMUv3AccelEndpoint, stream);
}

/*
 * PCI (smmuv3-accel-pci.c)
 */

/**
 * smmuv3_accel_pci_realize: replace the bus's IOMMU handlers
 * @s: being realized
 * @errp: names the device that is refused
 *
 * Adopts the assigned devices that are below the bus already.  On failure the
 * caller must call smmuv3_accel_pci_unrealize(), which removes those that were
 * adopted.
 */
bool smmuv3_accel_pci_realize(SMMUv3State *s, Error **errp);

/* The device that @ep is for; not referenced */
PCIDevice *smmuv3_accel_device(const SMMUv3AccelEndpoint *ep);

/* Remove all endpoints; their devices are detached, and stay on the bus */
void smmuv3_accel_pci_unrealize(SMMUv3State *s);

/**
 * smmuv3_accel_note_msi_fault: is an event of the host a lost MSI?
 * @s: whose device has caused the event
 * @event: with a word[]; from the host, so anything may be in it
 *
 * Counts the event if a device has written to the host's MSI window, and warns
 * once for each device.
 */
void smmuv3_accel_note_msi_fault(SMMUv3State *s, const SMMUv3HostEvent *event);

/*
 * Streams (smmuv3-accel-edges.c)
 */

void smmuv3_accel_edges_realize(SMMUv3State *s);
void smmuv3_accel_edges_unrealize(SMMUv3State *s);

/* Is @error temporary?  The host's EBUSY and EEXIST are. */
bool smmuv3_accel_passes_by_itself(int error);

/**
 * smmuv3_accel_refresh_stream: attach a stream to what the guest wants now
 * @ep: the endpoint
 * @edge: what has changed; SMMUV3_EDGE_CFGI_STE records an error in the STE
 * @errp: why the host refuses
 *
 * Returns: 0, or a negative errno; see smmuv3_accel_stream_apply().  After a
 * temporary error QEMU tries again later.
 */
int smmuv3_accel_refresh_stream(SMMUv3AccelEndpoint *ep, Smmuv3Edge edge,
                                Error **errp);

/* The same, for edges without a caller that could handle an Error */
void smmuv3_accel_refresh_and_report(SMMUv3AccelEndpoint *ep,
                                     Smmuv3Edge edge);

/**
 * smmuv3_accel_refresh_all: the same for all streams of an SMMU
 * @s: its registers have changed
 * @edge: reset, CR0.SMMUEN or GBPA; a reset takes however long it takes
 *
 * Returns: whether all streams have moved.  If not, the main loop moves the
 * rest, the queues wait for that, and smmuv3_accel_streams_moved() follows.
 */
bool smmuv3_accel_refresh_all(SMMUv3State *s, Smmuv3Edge edge);

/**
 * smmuv3_accel_refresh_due: move the streams that have to follow an edge still
 * @s: with such streams, or without
 * @ns: no other one is begun after this time
 *
 * Returns: true if there are none any more.
 */
bool smmuv3_accel_refresh_due(SMMUv3State *s, int64_t ns);

/* No stream is due any more: CR0ACK and GBPA show that */
void smmuv3_accel_streams_moved(SMMUv3State *s);

/* Some stream is not where the guest wants it: try again later */
void smmuv3_accel_retry_pending(SMMUv3State *s);

/* The same now, by smmuv3_accel_refresh_due() */
void smmuv3_accel_pending_due(SMMUv3State *s);

/* A bus has another number, which changes the StreamIDs of its devices */
void smmuv3_accel_bus_renumbered(PCIBus *bus, void *opaque);

/*
 * Move the streams of renumbered buses, before a command takes effect.  If that
 * takes long smmuv3_accel_busy() says so, and the command must wait.
 */
void smmuv3_accel_refresh_renumbered(SMMUv3State *s);

/*
 * vSMMUs that share a stage 2 (smmuv3-accel-sharers.c)
 */

/* The SMMUs that share the stage 2 of @s, as a list that the caller frees */
GSList *smmuv3_accel_sharers(SMMUv3State *s);

/**
 * smmuv3_accel_tell_sharers: what @s could not invalidate may hit for no other
 * @s: if it is stale, its streams are parked
 * @finish: however long it takes
 *
 * Sees to that for those that share its stage 2.  Does so once, until @s is no
 * longer stale.  Without @finish no call to the host follows after 100 ms.
 *
 * Returns: false if there is more to do, so that the caller must call again.
 */
bool smmuv3_accel_tell_sharers(SMMUv3State *s, bool finish);

/* The first stream of @s shares a stage 2: is one of the others stale? */
void smmuv3_accel_hear_of_sharers(SMMUv3State *s);

/*
 * The command queue (smmuv3-accel-cmdq.c)
 */

void smmuv3_accel_cmdq_realize(SMMUv3State *s);
void smmuv3_accel_cmdq_unrealize(SMMUv3State *s);
void smmuv3_accel_cmdq_reset(SMMUv3State *s);

/* The machine stops: a wire that is due is pulsed now, and not afterwards */
void smmuv3_accel_cmdq_stopped(SMMUv3State *s);

/**
 * smmuv3_accel_cmdq_forward: add a command to the batch for the host
 * @s: a drain is running
 * @words: as smmuv3_accel_drain_fetch()
 * @local: set to whether the command is one that QEMU has to carry out
 *
 * As smmuv3_accel_flush(), which this may call.
 */
SMMUCmdError smmuv3_accel_cmdq_forward(SMMUv3State *s, const uint64_t words[2],
                                        bool *local);

/**
 * smmuv3_accel_cmdq_note: the host has been called for a queue
 * @queue: whose commands they were
 * @result: SMMUV3_ACCEL_FLUSH_*; those that a CMD_SYNC reports are kept for the
 *          next one (IHI 0070 3.9.1.4, 4.7.3)
 */
void smmuv3_accel_cmdq_note(SMMUv3AccelQueue *queue, unsigned result);

/**
 * smmuv3_accel_cmdq_sync: a CMD_SYNC is at CONS
 * @s: a drain is running, and the batch is empty
 *
 * Returns: the error of a command before it, for CONS.ERR (IHI 0070 4.7.3).
 * After an error the guest issues another CMD_SYNC.
 */
SMMUCmdError smmuv3_accel_cmdq_sync(SMMUv3State *s);

/*
 * Command queues that the guest owns (smmuv3-accel-cmdqv.c)
 */

/**
 * smmuv3_accel_cmdqv_cmdqs: how long a command queue may be
 * @s: about to tell the guest
 *
 * Where the hardware may read VCMDQs, one must be contiguous in the host, and
 * no longer than the host's own may be.  So it shall fit into a page of the
 * guest's memory.
 *
 * Returns: a value for IDR1.CMDQS.
 */
unsigned smmuv3_accel_cmdqv_cmdqs(SMMUv3State *s);

/* Does nothing without a CMDQV, like the next ones */
void smmuv3_accel_cmdqv_reset(SMMUv3State *s);

/* The machine stops: no thread watches the VCMDQs */
void smmuv3_accel_cmdqv_stopped(SMMUv3State *s);

/*
 * The first device has come, with a vIOMMU, or the last one is about to go: the
 * hardware can have the VCMDQs, or not any more
 */
void smmuv3_accel_cmdqv_host_new(SMMUv3State *s);
void smmuv3_accel_cmdqv_host_gone(SMMUv3State *s);

/*
 * The next CMD_SYNC of each VCMDQ that the guest has used reports that
 * invalidations have failed.  This does not concern those in hardware.
 */
void smmuv3_accel_cmdqv_failed(SMMUv3State *s);

/* Drain the VCMDQs that run; no drain is running, or it will be continued */
void smmuv3_accel_cmdqv_drain(SMMUv3State *s);

/*
 * A host that is slow (smmuv3-accel-slow.c)
 */

/**
 * smmuv3_accel_thread_new: a thread for calls to the host, or for a queue
 * @name: up to 15 characters, for debug-threads=on
 * @run: what it does, with @opaque; it registers for RCU
 *
 * qemu_thread_create() would stop QEMU if the host permits no further thread
 * (RLIMIT_NPROC, or pids.max of a control group).
 *
 * It has the CPUs and the priority of the caller's thread.  So the main loop
 * is to call this, not a vCPU, which may be bound to one CPU.
 *
 * Returns: the caller's reference, or NULL if there can be no thread.
 */
GThread *smmuv3_accel_thread_new(const char *name, GThreadFunc run,
                                 void *opaque);

void smmuv3_accel_slow_realize(SMMUv3State *s);
void smmuv3_accel_slow_unrealize(SMMUv3State *s);

/*
 * What the drain has collected, or without that everything, goes to the host by
 * a job.  CONS of the queue is at the first of its commands until that ends.
 */
void smmuv3_accel_slow_start(SMMUv3State *s);

/*
 * The host was too slow to do all of a recovery now: a job does the rest of the
 * batch.  If there is none, the main loop parks the streams.
 */
void smmuv3_accel_slow_recover(SMMUv3State *s);

/* As smmuv3_accel_flush(): before a CFGI_STE, let streams translate again */
void smmuv3_accel_slow_resync(SMMUv3State *s);

/*
 * Streams are new or SMMUEN has changed, with no command that the host could be
 * called for.  If they have to wait for a slow host, a job of their own calls
 * it once, and the commands wait for that.
 */
void smmuv3_accel_slow_restore(SMMUv3State *s);

/**
 * smmuv3_accel_slow_note: a drain ends, or a call to the host has failed
 * @s: drained
 * @now: the time, in ns
 *
 * Returns: whether the host is slow now.
 */
bool smmuv3_accel_slow_note(SMMUv3State *s, int64_t now);

/* The same after an attempt to let a stream translate, made at @start, in ns */
void smmuv3_accel_slow_note_since(SMMUv3State *s, int64_t start);

/*
 * Invalidate everything, in a job of its own, for VCMDQs that may have lost
 * invalidations.  The queues wait for it.  If it fails they wait until all
 * streams are parked, and the next CMD_SYNC of each VCMDQ reports that.
 */
void smmuv3_accel_slow_everything(SMMUv3State *s);

/* @s is stale: its queues wait until all of its streams are parked */
void smmuv3_accel_slow_park(SMMUv3State *s);

/*
 * The queues of @s wait until the main loop had its turn and has moved the
 * streams that are due, if there are any
 */
void smmuv3_accel_slow_pause(SMMUv3State *s);

/* Does the main loop move streams of @s? */
static inline bool smmuv3_accel_slow_moves(const SMMUv3State *s)
{
    return s->accel_state->slow.phase == SMMUV3_ACCEL_PHASE_MOVE;
}

/* @queue is no more; the thread goes on, and its result is discarded */
void smmuv3_accel_slow_abandon(SMMUv3State *s, SMMUv3AccelQueue *queue);

/*
 * The last stream leaves: wait until the thread has ended its present call.
 * Its batch is not complete, so the caller must invalidate everything, or make
 * the vSMMU stale.
 */
void smmuv3_accel_slow_cancel(SMMUv3State *s);

/*
 * The event queue (smmuv3-accel-eventq.c)
 */

void smmuv3_accel_eventq_realize(SMMUv3State *s);
void smmuv3_accel_eventq_unrealize(SMMUv3State *s);

/* The machine runs: hand on the events that the host has kept meanwhile */
void smmuv3_accel_eventq_run(SMMUv3State *s);

/**
 * smmuv3_accel_eventq_sync: a CMD_SYNC is about to complete
 * @s: with or without an event queue
 * @invalidated: what it waited for
 *
 * After it no record of what was invalidated may come (IHI 0070 4.7.3).  So
 * this forwards what the host has recorded.
 */
void smmuv3_accel_eventq_sync(SMMUv3State *s, unsigned invalidated);

/**
 * smmuv3_accel_eventq_update: start or stop the host's events
 * @s: its EVENTQEN or endpoints have changed
 *
 * The host keeps events while the guest's queue is enabled and there is a
 * device that may cause them.  After a fast change of EVENTQEN they start a few
 * milliseconds later, when the host has freed the old vEVENTQ.
 */
void smmuv3_accel_eventq_update(SMMUv3State *s);

/* The host keeps no events any more */
void smmuv3_accel_eventq_stop(SMMUv3State *s);

/*
 * What a person asks (smmuv3-accel-query.c)
 */

/* Events of QMP: the host refuses what a stream is to be attached to */
void smmuv3_accel_tell_stream_error(SMMUv3AccelEndpoint *ep, const char *error);

/*
 * If the host has lost invalidations, so that all streams are parked.  It is no
 * news if it had before (@was_stale).
 */
void smmuv3_accel_tell_if_lost(SMMUv3State *s, bool was_stale);

/* The guest will not see some events; at most one in ten seconds is sent */
void smmuv3_accel_tell_events_lost(SMMUv3State *s, bool overflow);

/*
 * Registers in memory (smmuv3-accel-regs-mem.c)
 */

/* May the guest read registers from memory? */
bool smmuv3_accel_can_read_memory(SMMUv3State *s);

/**
 * smmuv3_accel_regs_realize: initialize the region of the registers
 * @s: being realized
 * @ops: accesses to the registers
 *
 * The guest reads them from memory if the host allows that and if the memory
 * can be allocated.
 */
void smmuv3_accel_regs_realize(SMMUv3State *s, const MemoryRegionOps *ops);

/* All registers are at their reset values */
void smmuv3_accel_regs_reset(SMMUv3State *s);

/**
 * smmuv3_accel_publish: let the guest read a register's current value
 * @s: any with accel=on; does nothing if reads exit to QEMU
 * @offset: of the register in page 0, in bytes
 * @value: that smmu_readl() would return
 */
void smmuv3_accel_publish(SMMUv3State *s, hwaddr offset, uint32_t value);

#endif
