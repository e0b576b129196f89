/*
 * Accelerated SMMUv3: what a person asks
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The part of query-smmuv3 that is about accel=on, and the events of QMP
 * (qapi/smmuv3.json).
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-events-smmuv3.h"
#include "hw/pci/pci_bus.h"
#include "smmuv3-accel-cmdqv.h"
#include "smmuv3-query.h"

/*
 * Capabilities
 */

static const Smmuv3Reason reasons[] = {
    [SMMUV3_CAP_BY_MODEL] = SMMUV3_REASON_MODEL,
    [SMMUV3_CAP_BY_PROPERTY] = SMMUV3_REASON_PROPERTY,
    [SMMUV3_CAP_BY_HOST] = SMMUV3_REASON_HOST,
    [SMMUV3_CAP_BY_BASELINE] = SMMUV3_REASON_BASELINE,
    [SMMUV3_CAP_BY_DEPENDENCY] = SMMUV3_REASON_DEPENDENCY,
};

/* A person thinks of an address in bits */
static unsigned for_person(SMMUv3AccelCap cap, unsigned value)
{
    return cap == SMMUV3_CAP_OAS ? oas2bits(value) : value;
}

static Smmuv3Capability *query_cap(SMMUv3State *s, SMMUv3AccelCap cap)
{
    SMMUv3Accel *accel = s->accel_state;
    const char *property = smmuv3_accel_cap_property(cap);
    Smmuv3Capability *info = g_new0(Smmuv3Capability, 1);

    info->name = g_strdup(smmuv3_accel_cap_field(cap));
    if (property) {
        info->property = g_strdup(property);
        info->asked = object_property_get_str(OBJECT(s), property,
                                              &error_abort);
    }
    if (!QLIST_EMPTY(&accel->vsmmu.streams) && cap != SMMUV3_CAP_ATS) {
        info->has_host = true;
        info->host = for_person(cap,
                                smmuv3_accel_cap_of_host(&accel->vsmmu.info,
                                                         cap));
    }
    info->guest = for_person(cap, accel->caps.value[cap]);
    info->reason = reasons[accel->caps.reason[cap]];
    return info;
}

static Smmuv3CapabilityList *query_caps(SMMUv3State *s)
{
    Smmuv3CapabilityList *list = NULL, **tail = &list;

    for (int i = 0; i < SMMUV3_CAP__MAX; i++) {
        QAPI_LIST_APPEND(tail, query_cap(s, i));
    }
    return list;
}

/*
 * The host
 */

static strList *query_sharers(SMMUv3State *s)
{
    g_autoptr(GSList) sharers = smmuv3_accel_sharers(s);
    strList *list = NULL;

    for (GSList *next = sharers; next; next = next->next) {
        QAPI_LIST_PREPEND(list, object_get_canonical_path(next->data));
    }
    return list;
}

static Smmuv3Host *query_host(SMMUv3State *s)
{
    SMMUv3AccelVsmmu *vsmmu = &s->accel_state->vsmmu;
    SMMUv3AccelStream *first = QLIST_FIRST(&vsmmu->streams);
    Smmuv3Host *info = g_new0(Smmuv3Host, 1);

    info->iommufd = g_strdup(vsmmu->ops->host_id(vsmmu->ops->host(first->dev)));
    info->idr = smmuv3_query_idr(vsmmu->info.idr);
    info->address_bits = vsmmu->info.address_bits;
    info->repeats_invalidations = vsmmu->info.repeat;
    info->stage2 = vsmmu->stage2;
    info->viommu = vsmmu->viommu;
    info->shares_stage2_with = query_sharers(s);
    info->slow = vsmmu->slow;
    info->stale = vsmmu->stale;
    return info;
}

/*
 * Streams
 */

static const Smmuv3Attachment attachments[] = {
    [SMMUV3_ACCEL_ABORT] = SMMUV3_ATTACHMENT_ABORT,
    [SMMUV3_ACCEL_BYPASS] = SMMUV3_ATTACHMENT_BYPASS,
    [SMMUV3_ACCEL_TRANSLATE] = SMMUV3_ATTACHMENT_TRANSLATE,
};

static Smmuv3Stream *query_stream(SMMUv3AccelStream *stream)
{
    SMMUv3AccelEndpoint *ep = smmuv3_accel_endpoint(stream);
    PCIDevice *dev = smmuv3_accel_device(ep);
    Smmuv3Stream *info = g_new0(Smmuv3Stream, 1);

    info->qom_path = object_get_canonical_path(OBJECT(dev));
    info->id = g_strdup(DEVICE(dev)->id);
    info->stream_id = stream->sid;
    info->has_vdevice_stream_id = stream->has_vdevice;
    info->vdevice_stream_id = stream->vdevice_sid;
    info->attached = stream->attached ? attachments[stream->now.action] :
                                        SMMUV3_ATTACHMENT_BLOCKED;
    info->wanted = attachments[stream->want.action];
    info->cause = stream->parked ? SMMUV3_CAUSE_RECOVERY : ep->cause;
    info->edge = stream->parked ? SMMUV3_EDGE_RECOVERY : ep->edge;
    info->pending = smmuv3_accel_stream_pending(stream);
    info->last_error = g_strdup(ep->error);
    info->ats = stream->ats;
    info->ats_enabled = stream->attached && smmuv3_accel_stream_caches(stream);
    info->moves = stream->moves;
    info->msi_faults = ep->msi_reported;
    return info;
}

static Smmuv3StreamList *query_streams(SMMUv3State *s)
{
    Smmuv3StreamList *list = NULL;
    SMMUv3AccelStream *stream;

    /* The first one in the list is the newest */
    QLIST_FOREACH(stream, &s->accel_state->vsmmu.streams, next) {
        QAPI_LIST_PREPEND(list, query_stream(stream));
    }
    return list;
}

static Smmuv3EventSource query_event_source(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    if (!smmuv3_eventq_enabled(s) || QLIST_EMPTY(&accel->vsmmu.streams)) {
        return SMMUV3_EVENT_SOURCE_CLOSED;
    }
    if (!accel->vsmmu.veventq) {
        return accel->events_refused ? SMMUV3_EVENT_SOURCE_REFUSED :
                                       SMMUV3_EVENT_SOURCE_CLOSING;
    }
    return accel->events_failed ? SMMUV3_EVENT_SOURCE_FAILED :
           accel->events_paused ? SMMUV3_EVENT_SOURCE_PAUSED :
                                  SMMUV3_EVENT_SOURCE_OPEN;
}

/*
 * Counters
 */

typedef char *CounterName(unsigned i);

static Smmuv3CounterList *query_counters(const uint64_t *counts, unsigned n,
                                         CounterName *name)
{
    Smmuv3CounterList *list = NULL, **tail = &list;

    for (unsigned i = 0; i < n; i++) {
        if (counts[i]) {
            Smmuv3Counter *counter = g_new0(Smmuv3Counter, 1);

            counter->name = name(i);
            counter->count = counts[i];
            QAPI_LIST_APPEND(tail, counter);
        }
    }
    return list;
}

/* @name, as the architecture has it; or a number */
static char *plain_name(const char *name, const char *prefix, unsigned i)
{
    return g_str_has_prefix(name, prefix) ? g_strdup(name + strlen(prefix)) :
                                            g_strdup_printf("0x%02x", i);
}

static char *command_name(unsigned i)
{
    return plain_name(smmu_cmd_string(i), "SMMU_CMD_", i);
}

static char *event_name(unsigned i)
{
    return plain_name(smmu_event_string(i), "SMMU_EVT_", i);
}

static char *exit_name(unsigned i)
{
    static const char *const names[] = {
        [SMMUV3_EXIT_CMDQ_PROD] = "CMDQ_PROD",
        [SMMUV3_EXIT_CMDQ_CONS] = "CMDQ_CONS",
        [SMMUV3_EXIT_EVENTQ_PROD] = "EVENTQ_PROD",
        [SMMUV3_EXIT_EVENTQ_CONS] = "EVENTQ_CONS",
        [SMMUV3_EXIT_OTHER] = "other",
        [SMMUV3_EXIT_VCMDQ_PROD] = "VCMDQ_PROD",
        [SMMUV3_EXIT_VCMDQ_CONS] = "VCMDQ_CONS",
        [SMMUV3_EXIT_CMDQV_OTHER] = "CMDQV other",
    };

    return g_strdup(names[i]);
}

static Smmuv3BinList *query_bins(const uint64_t counts[SMMUV3_ACCEL_BINS])
{
    Smmuv3BinList *list = NULL, **tail = &list;

    for (unsigned i = 0; i < SMMUV3_ACCEL_BINS; i++) {
        if (counts[i]) {
            Smmuv3Bin *bin = g_new0(Smmuv3Bin, 1);

            bin->has_below = i < SMMUV3_ACCEL_BINS - 1;
            bin->below = bin->has_below ? 1ULL << i : 0;
            bin->count = counts[i];
            QAPI_LIST_APPEND(tail, bin);
        }
    }
    return list;
}

static Smmuv3Stats *query_stats(SMMUv3State *s)
{
    const SMMUv3AccelStats *stats = &s->accel_state->stats;
    const SMMUv3AccelCalls *calls = s->accel_state->vsmmu.calls;
    uint64_t length[SMMUV3_ACCEL_BINS];
    Smmuv3Stats *info = g_new0(Smmuv3Stats, 1);

    for (unsigned i = 0; i < SMMUV3_ACCEL_BINS; i++) {
        length[i] = stat64_get(&calls->length[i]);
    }
    info->commands = query_counters(stats->command, ARRAY_SIZE(stats->command),
                                    command_name);
    info->register_reads = query_counters(stats->read, SMMUV3_EXIT__MAX,
                                          exit_name);
    info->register_writes = query_counters(stats->write, SMMUV3_EXIT__MAX,
                                           exit_name);
    info->host_calls = query_bins(length);
    info->host_call_errors = stat64_get(&calls->errors);
    info->invalidated_all = stat64_get(&calls->everything);
    info->jobs = stats->jobs;
    info->drains = query_bins(stats->drain_us);
    info->events = query_counters(stats->event, ARRAY_SIZE(stats->event),
                                  event_name);
    info->overflows = stats->overflows;
    info->events_lost = stats->events_lost;
    info->msi_faults = s->accel_state->msi_faults;
    info->retries = stats->retries;
    return info;
}

Smmuv3Accel *smmuv3_accel_query(SMMUv3State *s)
{
    Smmuv3Accel *info = g_new0(Smmuv3Accel, 1);

    info->capabilities = query_caps(s);
    info->fixed = s->accel_state->caps.frozen;
    if (!QLIST_EMPTY(&s->accel_state->vsmmu.streams)) {
        info->host = query_host(s);
    }
    info->streams = query_streams(s);
    info->event_source = query_event_source(s);
    info->stats = query_stats(s);
    return info;
}

void smmuv3_accel_query_vcmdqs(SMMUv3State *s, Smmuv3QueueList **tail)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;
    Smmuv3QueueOwner owner;

    if (!cmdqv) {
        return;
    }
    smmuv3_accel_cmdqv_look(s);
    owner = cmdqv->hw ? SMMUV3_QUEUE_OWNER_HARDWARE :
            smmuv3_accel_cmdqv_poll_mem(cmdqv) ? SMMUV3_QUEUE_OWNER_THREAD :
                                                 SMMUV3_QUEUE_OWNER_QEMU;
    for (unsigned i = 0; i < TEGRA241_VCMDQS; i++) {
        Smmuv3Queue *info = smmuv3_query_queue(&cmdqv->regs.vcmdq[i].q,
                                               tegra241_runs(&cmdqv->regs, i),
                                               owner);

        info->name = g_strdup_printf("vcmdq%u", i);
        smmuv3_query_cons_error(info);
        QAPI_LIST_APPEND(tail, info);
    }
}

/*
 * Events of QMP
 */

/* A guest causes some at will, and a manager must not drown in them */
#define TELL_PAUSE_NS (10 * NANOSECONDS_PER_SECOND)

void smmuv3_accel_tell_stream_error(SMMUv3AccelEndpoint *ep, const char *error)
{
    g_autofree char *smmu = object_get_canonical_path(OBJECT(ep->smmu));
    g_autofree char *dev =
        object_get_canonical_path(OBJECT(smmuv3_accel_device(ep)));

    qapi_event_send_smmuv3_stream_error(smmu, dev, ep->stream.sid, error);
}

void smmuv3_accel_tell_if_lost(SMMUv3State *s, bool was_stale)
{
    if (s->accel_state->vsmmu.stale && !was_stale) {
        g_autofree char *smmu = object_get_canonical_path(OBJECT(s));

        qapi_event_send_smmuv3_invalidations_lost(smmu);
    }
}

void smmuv3_accel_tell_events_lost(SMMUv3State *s, bool overflow)
{
    g_autofree char *smmu = NULL;
    int64_t now = get_clock();

    if (now < s->accel_state->events_tell_from) {
        return;
    }
    s->accel_state->events_tell_from = now + TELL_PAUSE_NS;
    smmu = object_get_canonical_path(OBJECT(s));
    qapi_event_send_smmuv3_events_lost(smmu, overflow);
}
