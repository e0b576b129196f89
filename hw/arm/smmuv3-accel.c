/*
 * Accelerated SMMUv3: what PCI, QOM and the SMMUv3 device see
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Ties the parts together: which devices may come below the SMMU, their
 * address space, the edges at which a stream may move, and the way of a
 * command from the guest's queue into a batch.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/vfio/pci.h"
#include "migration/blocker.h"
#include "system/iommufd.h"
#include "trace.h"
#include "smmuv3-accel.h"
#include "smmuv3-accel-caps.h"
#include "smmuv3-accel-cmdq.h"
#include "smmuv3-accel-events.h"
#include "smmuv3-accel-props.h"
#include "smmuv3-accel-stream.h"

/*
 * What the host refuses for the moment passes by itself: it parks a device
 * during its reset (EBUSY), and where two streams swap StreamIDs the one waits
 * for the other to let go (EEXIST).  Ask again after this long, then after
 * twice as long, and so on; say so once it does not pass.
 */
#define RETRY_MIN_MS 10
#define RETRY_TELL_MS 1280
#define RETRY_MAX_MS 5120

/* Where Linux's SMMUv3 driver has the devices' MSIs go (MSI_IOVA_BASE) */
#define HOST_MSI_WINDOW_BASE 0x08000000
#define HOST_MSI_WINDOW_SIZE 0x00100000

typedef struct SMMUv3Accel {
    char *name;
    SMMUv3AccelVsmmu vsmmu;
    SMMUv3AccelCaps caps;
    SMMUv3AccelBatch batch;
    bool atc_timeout;           /* to be told at the next CMD_SYNC */
    QEMUTimer *retry;
    unsigned retry_ms;          /* 0 while nothing is pending */
    bool renumbered;            /* some streams have another StreamID now */
    QEMUBH *renumber;
    bool events_paused;         /* until the guest makes room */
    bool events_refused;        /* by the host, and the user was told so */
    Error *migration_blocker;
} SMMUv3Accel;

/* An assigned device below the SMMU; the opaque of its stream */
typedef struct AccelDevice {
    SMMUv3State *smmu;
    PCIBus *bus;
    int devfn;
    HostIOMMUDeviceIOMMUFD *idev;       /* referenced */
    bool told;                          /* the user, of the stream's error */
} AccelDevice;

static AccelDevice *to_device(const SMMUv3AccelStream *stream)
{
    return stream->opaque;
}

/* Today's StreamID: the guest renumbers buses as it likes */
static uint32_t stream_sid(const SMMUv3AccelStream *stream)
{
    AccelDevice *adev = to_device(stream);

    return PCI_BUILD_BDF(pci_bus_num(adev->bus), adev->devfn);
}

/*
 * Streams
 */

static SMMUv3AccelTraits accel_traits(const SMMUv3Accel *accel)
{
    return (SMMUv3AccelTraits) {
        .host_may_stall = smmuv3_accel_host_may_stall(&accel->vsmmu.info),
    };
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
 * A configuration error that the host cannot know of, since it sees an abort.
 * The architecture has one event for each transaction that meets it; here it is
 * one for each CFGI that does, for QEMU sees no transactions.
 */
static void tell_fault(SMMUv3State *s, uint32_t sid, SMMUv3AccelFault fault,
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

/* @anew: another stream has come to wait, which may be for a moment only */
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

static bool passes_by_itself(int error)
{
    return error == -EBUSY || error == -EEXIST;
}

/* What makes us ask what a stream is to be attached to */
typedef enum AccelEdge {
    EDGE_CONFIG,        /* a CFGI: an error in the STE is the guest's to know */
    EDGE_OTHER,
} AccelEdge;

static int refresh_stream(SMMUv3AccelStream *stream, AccelEdge edge,
                          Error **errp)
{
    AccelDevice *adev = to_device(stream);
    SMMUv3State *s = adev->smmu;
    SMMUv3AccelTraits traits = accel_traits(s->accel_state);
    bool waited = passes_by_itself(stream->error);
    uint32_t sid = stream_sid(stream);
    SMMUv3AccelInputs in = {
        .smmuen = smmu_enabled(s),
        .gbpa_abort = FIELD_EX32(s->gbpa, GBPA, ABORT),
    };
    SMMUv3AccelDecision decision;
    dma_addr_t fetch_addr = 0;
    int ret;

    if (in.smmuen) {
        fetch_addr = fetch_ste(s, sid, &in);
    }
    decision = smmuv3_accel_decide(&in, &traits);
    if (edge == EDGE_CONFIG) {
        tell_fault(s, sid, decision.fault, fetch_addr);
    }
    ret = smmuv3_accel_stream_apply(stream, sid, &decision, errp);
    if (passes_by_itself(ret)) {
        retry_later(s->accel_state, !waited);
    }
    return ret;
}

/* As refresh_stream(), for edges that have nobody to give an Error to */
static void refresh_and_report(SMMUv3AccelStream *stream, AccelEdge edge)
{
    AccelDevice *adev = to_device(stream);
    SMMUv3Accel *accel = adev->smmu->accel_state;
    Error *err = NULL;
    int ret = refresh_stream(stream, edge, &err);

    /* Once a failure, not once a command */
    if (!ret) {
        adev->told = false;
    } else if (!adev->told && (!passes_by_itself(ret) ||
                               accel->retry_ms >= RETRY_TELL_MS)) {
        adev->told = true;
        warn_report_err(err);
        return;
    }
    error_free(err);
}

void smmuv3_accel_refresh(SMMUv3State *s)
{
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &s->accel_state->vsmmu.streams, next) {
        refresh_and_report(stream, EDGE_OTHER);
    }
}

static bool any_pending(SMMUv3Accel *accel)
{
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &accel->vsmmu.streams, next) {
        if (smmuv3_accel_stream_pending(stream)) {
            return true;
        }
    }
    return false;
}

static void refresh_pending(SMMUv3Accel *accel)
{
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &accel->vsmmu.streams, next) {
        if (smmuv3_accel_stream_pending(stream)) {
            refresh_and_report(stream, EDGE_OTHER);
        }
    }
}

static void accel_retry(void *opaque)
{
    SMMUv3State *s = opaque;
    SMMUv3Accel *accel = s->accel_state;

    refresh_pending(accel);
    if (!timer_pending(accel->retry)) {
        accel->retry_ms = 0;
    }
}

/*
 * The guest has given buses other numbers.  Streams of those have to move
 * before the next command takes effect, which may name the new numbers; and
 * soon if no command comes, as from a bottom half: a guest that numbers its
 * buses writes the bridge's registers several times over, and a machine reset
 * clears all of them, SMMUs after bridges.
 */
static void refresh_renumbered(SMMUv3Accel *accel)
{
    SMMUv3AccelStream *stream;

    if (!accel->renumbered) {
        return;
    }
    accel->renumbered = false;
    QLIST_FOREACH(stream, &accel->vsmmu.streams, next) {
        if (stream->sid != stream_sid(stream)) {
            refresh_and_report(stream, EDGE_OTHER);
        }
    }
    /* The one may have waited for the other to give its StreamID up */
    refresh_pending(accel);
}

static void accel_renumber(void *opaque)
{
    SMMUv3State *s = opaque;

    refresh_renumbered(s->accel_state);
}

static void accel_bus_renumbered(PCIBus *bus, void *opaque)
{
    SMMUv3State *s = opaque;

    trace_smmuv3_accel_bus_renumbered(s->accel_state->name, pci_bus_num(bus));
    s->accel_state->renumbered = true;
    qemu_bh_schedule(s->accel_state->renumber);
}

static SMMUv3AccelStream *find_stream_at(SMMUv3Accel *accel, PCIBus *bus,
                                         int devfn)
{
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &accel->vsmmu.streams, next) {
        if (to_device(stream)->bus == bus &&
            to_device(stream)->devfn == devfn) {
            return stream;
        }
    }
    return NULL;
}

/*
 * Events
 */

static void accel_put_event(void *opaque, const SMMUv3HostEvent *event)
{
    Evt evt;

    for (int i = 0; i < ARRAY_SIZE(event->word); i++) {
        evt.word[2 * i] = extract64(le64_to_cpu(event->word[i]), 0, 32);
        evt.word[2 * i + 1] = extract64(le64_to_cpu(event->word[i]), 32, 32);
    }
    smmuv3_put_event(opaque, &evt);
}

static void accel_lost_events(void *opaque)
{
    smmuv3_lost_events(opaque);
}

static void accel_events(void *opaque)
{
    SMMUv3State *s = opaque;
    SMMUv3Accel *accel = s->accel_state;
    const SMMUv3AccelEventSink sink = {
        .put = accel_put_event,
        .lost = accel_lost_events,
        .opaque = s,
    };
    uint32_t prod = s->eventq.prod;
    bool alive = smmuv3_accel_events_drain(&accel->vsmmu,
                                           smmuv3_eventq_room(s), &sink);

    if (s->eventq.prod != prod) {
        smmuv3_announce_events(s);
    }
    accel->events_paused = alive && !smmuv3_eventq_room(s);
    if (!alive || accel->events_paused) {
        qemu_set_fd_handler(accel->vsmmu.event_fd, NULL, NULL, NULL);
    }
}

static void accel_events_stop(SMMUv3Accel *accel)
{
    if (accel->vsmmu.veventq) {
        qemu_set_fd_handler(accel->vsmmu.event_fd, NULL, NULL, NULL);
        smmuv3_accel_events_close(&accel->vsmmu);
    }
    accel->events_paused = false;
}

/*
 * The host keeps events while the guest has a queue for them, and while there
 * is a device that they may come from.
 */
static void accel_events_update(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    bool want = FIELD_EX32(s->cr[0], CR0, EVENTQEN) &&
                !QLIST_EMPTY(&accel->vsmmu.streams);
    Error *err = NULL;

    if (!want) {
        accel_events_stop(accel);
    } else if (!accel->vsmmu.veventq) {
        if (smmuv3_accel_events_open(&accel->vsmmu, &err)) {
            qemu_set_fd_handler(accel->vsmmu.event_fd, accel_events, NULL, s);
            accel->events_refused = false;
        } else if (!accel->events_refused) {
            accel->events_refused = true;
            warn_reportf_err(err, "%s: faults of its devices show in the "
                             "host's log only: ", accel->name);
        } else {
            error_free(err);
        }
    }
}

void smmuv3_accel_eventq_moved(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    if (accel->events_paused && smmuv3_eventq_room(s)) {
        accel->events_paused = false;
        qemu_set_fd_handler(accel->vsmmu.event_fd, accel_events, NULL, s);
    }
}

void smmuv3_accel_cr0(SMMUv3State *s, uint32_t before)
{
    if (FIELD_EX32(s->cr[0] ^ before, CR0, EVENTQEN)) {
        accel_events_update(s);
    }
    if (FIELD_EX32(s->cr[0] ^ before, CR0, CMDQEN)) {
        /* What an ATC_INV of the old queue has come to concerns nobody */
        s->accel_state->atc_timeout = false;
    }
    if (FIELD_EX32(s->cr[0] ^ before, CR0, SMMU_ENABLE)) {
        smmuv3_accel_refresh(s);
    }
}

/*
 * Commands
 */

/* The host's own driver uses ranges wherever IDR3.RIL is, and so may we */
static unsigned range_granules(SMMUv3State *s)
{
    return smmuv3_accel_host_has_ril(&s->accel_state->vsmmu.info) ?
           extract32(s->idr[5], R_IDR5_GRAN4K_SHIFT, 3) : 0;
}

static SMMUCmdError accel_flush(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUQueue *q = &s->cmdq;
    SMMUv3AccelFlush result;
    uint32_t cons;

    smmuv3_accel_batch_to_ranges(&accel->batch, range_granules(s));
    result = smmuv3_accel_batch_flush(&accel->vsmmu, &accel->batch, &cons);
    if (accel->vsmmu.stale && any_pending(accel)) {
        /* It was to be parked, and the host was busy with it */
        retry_later(accel, false);
    }
    switch (result) {
    case SMMUV3_ACCEL_FLUSH_ILLEGAL:
        q->cons = deposit32(q->cons, 0, q->log2size + 1, cons);
        return SMMU_CERROR_ILL;
    case SMMUV3_ACCEL_FLUSH_ATC_TIMEOUT:
        accel->atc_timeout = true;
        return SMMU_CERROR_NONE;
    default:
        return SMMU_CERROR_NONE;
    }
}

SMMUCmdError smmuv3_accel_drained(SMMUv3State *s)
{
    return accel_flush(s);
}

static SMMUCmdError accel_collect(SMMUv3State *s, const SMMUv3HostCmd *cmd)
{
    SMMUv3Accel *accel = s->accel_state;

    smmuv3_accel_batch_add(&accel->batch, cmd,
                           s->cmdq.cons & WRAP_INDEX_MASK(&s->cmdq));
    return smmuv3_accel_batch_full(&accel->batch) ? accel_flush(s)
                                                  : SMMU_CERROR_NONE;
}

/* The host knows a stream by the StreamID of its vDEVICE, if it has one */
static SMMUCmdError accel_collect_for(SMMUv3State *s,
                                      const SMMUv3AccelStream *stream,
                                      const SMMUv3HostCmd *cmd)
{
    SMMUv3HostCmd named = *cmd;

    if (!stream->has_vdevice) {
        return SMMU_CERROR_NONE;
    }
    named.word[0] = cpu_to_le64(deposit64(le64_to_cpu(named.word[0]), 32, 32,
                                          stream->vdevice_sid));
    return accel_collect(s, &named);
}

/*
 * A CFGI_STE covers the stream's CDs too (IHI 0070 4.3.1). Where it moves the
 * stream the host sees to that; where it does not, nobody else would.
 */
static SMMUCmdError accel_cfgi_ste(SMMUv3State *s, SMMUv3AccelStream *stream)
{
    const SMMUv3AccelCmdTraits none = {};
    const uint64_t cfgi_cd_all[2] = { SMMU_CMD_CFGI_CD_ALL, 0 };
    SMMUv3AccelDecision before = stream->now;
    SMMUv3HostCmd cmd;

    refresh_and_report(stream, EDGE_CONFIG);
    if (stream->now.action != SMMUV3_ACCEL_TRANSLATE ||
        !smmuv3_accel_decision_equal(&before, &stream->now)) {
        return SMMU_CERROR_NONE;
    }
    smmuv3_accel_cmd_prepare(&none, cfgi_cd_all, &cmd);
    return accel_collect_for(s, stream, &cmd);
}

static SMMUCmdError accel_cfgi_stes(SMMUv3State *s, uint32_t sid)
{
    SMMUCmdError error = SMMU_CERROR_NONE;
    SMMUv3AccelStream *stream;

    for (stream = smmuv3_accel_vsmmu_find(&s->accel_state->vsmmu, sid);
         stream && !error; stream = QLIST_NEXT(stream, next_of_sid)) {
        error = accel_cfgi_ste(s, stream);
    }
    return error;
}

/* As many lookups as the range has StreamIDs, or as there are streams */
static SMMUCmdError accel_cfgi_ste_range(SMMUv3State *s, uint32_t sid,
                                         unsigned range)
{
    SMMUv3AccelVsmmu *vsmmu = &s->accel_state->vsmmu;
    uint32_t mask = MAKE_64BIT_MASK(0, range + 1);
    SMMUCmdError error = SMMU_CERROR_NONE;
    SMMUv3AccelStream *stream;

    if (mask < vsmmu->n_streams) {
        for (uint32_t i = 0; i <= mask && !error; i++) {
            error = accel_cfgi_stes(s, (sid & ~mask) | i);
        }
        return error;
    }
    QLIST_FOREACH(stream, &vsmmu->streams, next) {
        if (!error && !((stream->sid ^ sid) & ~mask)) {
            error = accel_cfgi_ste(s, stream);
        }
    }
    return error;
}

static SMMUCmdError accel_collect_for_sid(SMMUv3State *s, uint32_t sid,
                                          const SMMUv3HostCmd *cmd)
{
    SMMUCmdError error = SMMU_CERROR_NONE;
    SMMUv3AccelStream *stream;

    for (stream = smmuv3_accel_vsmmu_find(&s->accel_state->vsmmu, sid);
         stream && !error; stream = QLIST_NEXT(stream, next_of_sid)) {
        error = accel_collect_for(s, stream, cmd);
    }
    return error;
}

static void get_words(const Cmd *cmd, uint64_t words[2])
{
    words[0] = deposit64(cmd->word[0], 32, 32, cmd->word[1]);
    words[1] = deposit64(cmd->word[2], 32, 32, cmd->word[3]);
}

SMMUCmdError smmuv3_accel_command(SMMUv3State *s, const Cmd *cmd,
                                  bool *caches_only)
{
    SMMUv3Accel *accel = s->accel_state;
    const SMMUv3AccelCmdTraits traits = {
        .ril = FIELD_EX32(s->idr[3], IDR3, RIL),
        .asid16 = FIELD_EX32(s->idr[0], IDR0, ASID16),
        .ds = smmuv3_accel_host_has_ds(&accel->vsmmu.info),
    };
    SMMUv3HostCmd out;
    uint64_t words[2];
    SMMUCmdError error;

    refresh_renumbered(accel);
    get_words(cmd, words);
    *caches_only = true;
    switch (smmuv3_accel_cmd_prepare(&traits, words, &out)) {
    case SMMUV3_ACCEL_CMD_TLB:
        return accel_collect(s, &out);
    case SMMUV3_ACCEL_CMD_STREAM:
        return accel_collect_for_sid(s, smmuv3_accel_cmd_sid(words), &out);
    case SMMUV3_ACCEL_CMD_ILLEGAL:
        return SMMU_CERROR_ILL;
    case SMMUV3_ACCEL_CMD_LOCAL:
        break;
    }

    error = accel_flush(s);
    if (error) {
        return error;
    }
    switch (CMD_TYPE(cmd)) {
    case SMMU_CMD_SYNC:
        *caches_only = false;
        if (accel->atc_timeout) {
            accel->atc_timeout = false;
            return SMMU_CERROR_ATC_INV_SYNC;
        }
        break;
    case SMMU_CMD_CFGI_STE:
        return CMD_SSEC(cmd) ? SMMU_CERROR_ILL
                             : accel_cfgi_stes(s, CMD_SID(cmd));
    case SMMU_CMD_CFGI_STE_RANGE:
        return CMD_SSEC(cmd) ? SMMU_CERROR_ILL
                             : accel_cfgi_ste_range(s, CMD_SID(cmd),
                                                    CMD_STE_RANGE(cmd));
    default:
        *caches_only = false;
        break;
    }
    return SMMU_CERROR_NONE;
}

unsigned smmuv3_accel_collect_pages(SMMUv3State *s, const Cmd *cmd, unsigned n)
{
    SMMUv3AccelBatch *batch = &s->accel_state->batch;
    SMMUQueue *q = &s->cmdq;
    uint64_t first[2], words[2];
    unsigned done;

    if (!batch->n || batch->all) {
        return 0;
    }
    get_words(cmd, first);
    /* The last place is left: what fills the batch also flushes it */
    for (done = 0; done < n && batch->n < SMMUV3_ACCEL_BATCH_MAX - 1; done++) {
        get_words(&cmd[done + 1], words);
        if (!smmuv3_accel_cmd_alike(first, words)) {
            break;
        }
        trace_smmuv3_cmdq_opcode(smmu_cmd_string(CMD_TYPE(cmd)));
        smmuv3_accel_batch_add_alike(batch, words,
                                     q->cons & WRAP_INDEX_MASK(q));
        queue_cons_incr(q);
    }
    return done;
}

bool smmuv3_accel_collecting(SMMUv3State *s)
{
    return s->accel_state->batch.n;
}

/*
 * PCI
 */

static bool is_bridge(PCIDevice *dev)
{
    return IS_PCI_BRIDGE(dev) ||
           PCI_DEVICE_GET_CLASS(dev)->class_id == PCI_CLASS_BRIDGE_HOST;
}

static bool is_assigned(PCIDevice *dev)
{
    return object_dynamic_cast(OBJECT(dev), TYPE_VFIO_PCI);
}

/*
 * Assigned devices only: TLBI commands carry no StreamID, so an emulated
 * endpoint beside them would need QEMU's IOTLB invalidated on each command
 * too.  Bridges issue no DMA but their own MSIs.
 */
static bool accel_accept_device(PCIDevice *dev, void *opaque, Error **errp)
{
    SMMUv3State *s = opaque;
    const char *type = object_get_typename(OBJECT(dev));
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));
    g_autofree char *smmu = qdev_get_human_name(DEVICE(s));

    if (is_bridge(dev)) {
        return true;
    }
    if (!is_assigned(dev)) {
        error_setg(errp, "%s '%s' cannot be behind arm-smmuv3 '%s' with "
                   "accel=on, which translates assigned devices only: put it "
                   "on a root complex without accel=on, or leave it out "
                   "(-nic none for the machine's default NIC)",
                   type, name, smmu);
        return false;
    }
    /* The link is always there; whether it leads anywhere counts */
    if (!object_property_get_link(OBJECT(dev), "iommufd", NULL)) {
        error_setg(errp, "%s '%s' cannot be behind arm-smmuv3 '%s' with "
                   "accel=on without an iommufd: add -object "
                   "iommufd,id=iommufd0 and give the device iommufd=iommufd0",
                   type, name, smmu);
        return false;
    }
    if (!pci_bus_is_express(pci_get_bus(dev))) {
        error_setg(errp, "%s '%s' cannot be behind arm-smmuv3 '%s' with "
                   "accel=on from a conventional PCI bus, where its requests "
                   "carry the bridge's StreamID: put it on a pcie-root-port",
                   type, name, smmu);
        return false;
    }
    return true;
}

static AddressSpace *accel_get_address_space(PCIBus *bus, void *opaque,
                                             int devfn)
{
    PCIDevice *dev = bus->devices[devfn];

    /*
     * An assigned device's DMA never passes through here; what VFIO maps is
     * the stage 2, all of guest memory.  One pointer for all of them lets VFIO
     * keep one IOAS for the whole machine.
     */
    return dev && is_assigned(dev) ? &address_space_memory
                                   : smmu_find_add_as(bus, opaque, devfn);
}

static uint64_t accel_get_viommu_flags(void *opaque)
{
    SMMUv3State *s = opaque;

    return VIOMMU_FLAG_WANT_NESTING_PARENT |
           (s->share_stage2 ? VIOMMU_FLAG_SHARE_NESTING_PARENT : 0);
}

static bool accel_get_msi_doorbell(PCIDevice *dev, void *opaque, hwaddr *gpa)
{
    SMMUv3State *s = opaque;

    if (!s->msi_gpa || !is_assigned(dev)) {
        return false;
    }
    *gpa = s->msi_gpa;
    return true;
}

static void accel_remove(SMMUv3AccelStream *stream)
{
    AccelDevice *adev = to_device(stream);
    SMMUv3AccelVsmmu *vsmmu = stream->vsmmu;

    /*
     * Without streams this vSMMU passes no TLBI on, while its stage 2, and so
     * the VMID, goes on living: until VFIO lets go of it or, if it is shared,
     * with another vSMMU. Leave no TLB entry behind.
     */
    if (vsmmu->n_streams == 1) {
        vsmmu->ops->detach(stream->dev, NULL);
        smmuv3_accel_vsmmu_resync(vsmmu);
        accel_events_stop(adev->smmu->accel_state);
    }
    smmuv3_accel_stream_free(stream);
    object_unref(OBJECT(adev->idev));
    g_free(adev);
}

static bool accel_add(SMMUv3State *s, PCIBus *bus, int devfn,
                      HostIOMMUDeviceIOMMUFD *idev, Error **errp)
{
    ERRP_GUARD();
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3HostDevice *dev = (SMMUv3HostDevice *)idev;
    SMMUv3AccelCaps caps = accel->caps;
    SMMUv3AccelStream *stream;
    SMMUv3HostInfo info;
    AccelDevice *adev;
    int ret;

    if (!HOST_IOMMU_DEVICE_IOMMUFD_GET_CLASS(idev)->nest(idev, errp) ||
        accel->vsmmu.ops->info(dev, &info, errp) ||
        !smmuv3_accel_caps_add_host(&caps, &info, errp)) {
        return false;
    }
    stream = smmuv3_accel_stream_new(&accel->vsmmu, dev, &info, errp);
    if (!stream) {
        return false;
    }
    adev = g_new0(AccelDevice, 1);
    *adev = (AccelDevice) {
        .smmu = s, .bus = bus, .devfn = devfn, .idev = idev,
    };
    object_ref(OBJECT(idev));
    stream->opaque = adev;

    ret = refresh_stream(stream, EDGE_OTHER, errp);
    if (ret && !passes_by_itself(ret)) {
        if (ret == -ENOENT) {
            error_prepend(errp, "the host's kernel must be Linux 6.19 or "
                          "later, which attaches a device before its StreamID "
                          "is known: ");
        }
        accel_remove(stream);
        return false;
    }
    if (ret) {
        error_free(*errp);
        *errp = NULL;
    }
    accel->caps = caps;
    accel_events_update(s);
    return true;
}

static bool accel_set_iommu_device(PCIBus *bus, void *opaque, int devfn,
                                   HostIOMMUDevice *hiod, Error **errp)
{
    ERRP_GUARD();
    SMMUv3State *s = opaque;
    Object *idev = object_dynamic_cast(OBJECT(hiod),
                                       TYPE_HOST_IOMMU_DEVICE_IOMMUFD);

    if (!idev) {
        error_setg(errp, "%s has no iommufd: add -object iommufd,id=iommufd0 "
                   "and give the device iommufd=iommufd0", hiod->name);
        return false;
    }
    if (!accel_add(s, bus, devfn, HOST_IOMMU_DEVICE_IOMMUFD(idev), errp)) {
        error_prepend(errp, "%s cannot be behind %s: ", hiod->name,
                      s->accel_state->name);
        return false;
    }
    return true;
}

static void accel_unset_iommu_device(PCIBus *bus, void *opaque, int devfn)
{
    SMMUv3State *s = opaque;
    SMMUv3AccelStream *stream = find_stream_at(s->accel_state, bus, devfn);

    if (stream) {
        accel_remove(stream);
    }
}

static const PCIIOMMUOps accel_iommu_ops = {
    .get_address_space = accel_get_address_space,
    .set_iommu_device = accel_set_iommu_device,
    .unset_iommu_device = accel_unset_iommu_device,
    .accept_device = accel_accept_device,
    .get_viommu_flags = accel_get_viommu_flags,
    .get_msi_doorbell = accel_get_msi_doorbell,
    .bus_renumbered = accel_bus_renumbered,
};

static bool accel_take_in(PCIDevice *dev, void *opaque, Error **errp)
{
    if (!is_assigned(dev)) {
        return true;
    }
    if (!dev->host_iommu_device) {
        g_autofree char *name = qdev_get_human_name(DEVICE(dev));

        error_setg(errp, "vfio-pci '%s' is a mediated device, which has no "
                   "stage 1 in the host's IOMMU: put it on a root complex "
                   "without accel=on", name);
        return false;
    }
    return accel_set_iommu_device(pci_get_bus(dev), opaque, dev->devfn,
                                  dev->host_iommu_device, errp);
}

/*
 * The device
 */

static bool not_built_yet(SMMUv3State *s, const char *prop, Error **errp)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(s));

    error_setg(errp, "arm-smmuv3 '%s': %s is not supported yet: leave it out, "
               "or set it to auto or off (0 for ssidsize)", name, prop);
    return false;
}

static bool check_properties(SMMUv3State *s, Error **errp)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(s));

    if (!s->smmu_state.smmu_per_bus) {
        error_setg(errp, "arm-smmuv3 '%s': the SMMU that the machine creates "
                   "cannot have accel=on: drop -machine iommu=smmuv3 and write "
                   "-device arm-smmuv3,primary-bus=pcie.0,accel=on", name);
        return false;
    }
    if (s->ats == ON_OFF_AUTO_ON) {
        return not_built_yet(s, "ats=on", errp);
    }
    if (s->cmdqv == ON_OFF_AUTO_ON) {
        return not_built_yet(s, "cmdqv=on", errp);
    }
    if (s->ssidsize > SMMUV3_SSIDSIZE_0) {
        return not_built_yet(s, "ssidsize above 0", errp);
    }
    if (s->stage && strcmp(s->stage, "1")) {
        error_setg(errp, "arm-smmuv3 '%s': stage=%s is not possible with "
                   "accel=on, where stage 2 is the host's: drop stage=",
                   name, s->stage);
        return false;
    }
    if (s->s2fwb) {
        error_setg(errp, "arm-smmuv3 '%s': s2fwb=on is not possible with "
                   "accel=on, where stage 2 is the host's: drop s2fwb=", name);
        return false;
    }
    return true;
}

bool smmuv3_accel_check(SMMUv3State *s, Error **errp)
{
    PCIBus *bus = s->smmu_state.primary_bus;

    /* Whoever realizes an SMMU without a bus is told so by the base class */
    return check_properties(s, errp) &&
           (!bus || smmu_each_device_below(bus, accel_accept_device, s, errp));
}

static void accel_destroy(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelStream *stream, *next;

    QLIST_FOREACH_SAFE(stream, &accel->vsmmu.streams, next, next) {
        accel_remove(stream);
    }
    migrate_del_blocker(&accel->migration_blocker);
    smmuv3_accel_vsmmu_fini(&accel->vsmmu);
    qemu_bh_delete(accel->renumber);
    timer_free(accel->retry);
    g_free(accel->name);
    g_free(accel);
    s->accel_state = NULL;
}

bool smmuv3_accel_realize(SMMUv3State *s, Error **errp)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(s));
    PCIBus *bus = s->smmu_state.primary_bus;
    SMMUv3Accel *accel = g_new0(SMMUv3Accel, 1);

    s->accel_state = accel;
    accel->name = g_strdup_printf("arm-smmuv3 '%s'", name);
    accel->retry = timer_new_ms(QEMU_CLOCK_REALTIME, accel_retry, s);
    accel->renumber = qemu_bh_new(accel_renumber, s);
    smmuv3_accel_vsmmu_init(&accel->vsmmu, &smmuv3_iommufd_ops, accel->name);
    smmuv3_accel_caps_init(&accel->caps, s->ril, smmuv3_oas_bits(s->oas));

    error_setg(&accel->migration_blocker, "%s: with accel=on, its state and "
               "that of the host's SMMUv3 cannot be migrated or saved yet",
               accel->name);
    if (migrate_add_blocker(&accel->migration_blocker, errp) < 0) {
        goto fail;
    }
    pci_setup_iommu_per_bus(bus, &accel_iommu_ops, s);
    if (!smmu_each_device_below(bus, accel_take_in, s, errp)) {
        goto fail;
    }
    s->smmu_state.msi_window_base = HOST_MSI_WINDOW_BASE;
    s->smmu_state.msi_window_size = HOST_MSI_WINDOW_SIZE;
    return true;

fail:
    bus->iommu_ops = NULL;
    accel_destroy(s);
    return false;
}

void smmuv3_accel_init_regs(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    smmuv3_accel_caps_freeze(&accel->caps);
    smmuv3_accel_caps_to_regs(&accel->caps, s->idr, &s->aidr);
    /* A property of stage 2, which the guest does not have */
    s->idr[0] = FIELD_DP32(s->idr[0], IDR0, VMID16, 0);
    /*
     * QEMU's own, whatever the host has: a guest that sees it waits for its
     * CMD_SYNCs in memory, and not by reading a register, which would trap.
     */
    s->idr[0] = FIELD_DP32(s->idr[0], IDR0, MSI, 1);
    s->eventq_irq_cfg0 = 0;
    s->gerror_irq_cfg0 = 0;
    s->msi_pending = 0;
    smmuv3_accel_batch_clear(&accel->batch);
    accel->atc_timeout = false;
    accel->renumbered = false;
    accel_events_stop(accel);
    trace_smmuv3_accel_idr(accel->name, s->idr[0], s->idr[3], s->idr[5],
                           accel->caps.seen_host);
}
