/*
 * SMMUv3: the monitor's command `info smmuv3`
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Prints what query-smmuv3 returns.
 */

#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/qapi-commands-smmuv3.h"

static const char *name_of(const char *id, const char *qom_path)
{
    return id ?: qom_path;
}

static void print_queue(Monitor *mon, const Smmuv3Queue *q)
{
    monitor_printf(mon, "  %s: %s, %" PRIu32 " of %" PRIu32 " used, at 0x%"
                   PRIx64 ", PROD 0x%" PRIx32 ", CONS 0x%" PRIx32, q->name,
                   q->enabled ? "enabled" : "disabled", q->used, q->entries,
                   q->base, q->prod, q->cons);
    if (q->owner != SMMUV3_QUEUE_OWNER_QEMU) {
        monitor_printf(mon, ", served by %s%s",
                       q->owner == SMMUV3_QUEUE_OWNER_THREAD ? "a " : "",
                       Smmuv3QueueOwner_str(q->owner));
    }
    if (q->error) {
        monitor_printf(mon, ", error %u", q->error);
    }
    monitor_printf(mon, "\n");
}

static void print_capability(Monitor *mon, const Smmuv3Capability *cap)
{
    monitor_printf(mon, "    %-13s %2" PRIu32 "  by %s", cap->name, cap->guest,
                   Smmuv3Reason_str(cap->reason));
    if (cap->has_host) {
        monitor_printf(mon, ", host has %" PRIu32, cap->host);
    }
    if (cap->property) {
        monitor_printf(mon, ", %s=%s", cap->property, cap->asked);
    }
    monitor_printf(mon, "\n");
}

static void print_host(Monitor *mon, const Smmuv3Host *host)
{
    const strList *other = host->shares_stage2_with;
    const uint32List *idr = host->idr;

    monitor_printf(mon, "  host: iommufd %s, stage 2 HWPT %" PRIu32 ", vIOMMU %"
                   PRIu32 ", addresses of %u bits%s%s%s\n  host's IDR0 to "
                   "IDR5:", host->iommufd, host->stage2, host->viommu,
                   host->address_bits,
                   host->repeats_invalidations ? ", repeats invalidations" : "",
                   host->slow ? ", slow" : "",
                   host->stale ? ", has lost invalidations" : "");
    for (; idr; idr = idr->next) {
        monitor_printf(mon, " 0x%08" PRIx32, idr->value);
    }
    monitor_printf(mon, "\n");
    for (; other; other = other->next) {
        monitor_printf(mon, "  shares its stage 2 with %s\n", other->value);
    }
}

static void print_stream(Monitor *mon, const Smmuv3Stream *stream)
{
    monitor_printf(mon, "  StreamID 0x%04" PRIx32 " %s: %s (cause %s, edge %s)",
                   stream->stream_id, name_of(stream->id, stream->qom_path),
                   Smmuv3Attachment_str(stream->attached),
                   Smmuv3Cause_str(stream->cause),
                   Smmuv3Edge_str(stream->edge));
    if (stream->wanted != stream->attached) {
        monitor_printf(mon, ", wanted: %s",
                       Smmuv3Attachment_str(stream->wanted));
    }
    if (stream->has_vdevice_stream_id &&
        stream->vdevice_stream_id != stream->stream_id) {
        monitor_printf(mon, ", 0x%04" PRIx32 " in the host",
                       stream->vdevice_stream_id);
    }
    monitor_printf(mon, ", %" PRIu64 " moves%s%s%s\n", stream->moves,
                   stream->ats ? stream->ats_enabled ? ", ATS on" : ", ATS off"
                               : "",
                   stream->pending ? ", pending" : "",
                   stream->msi_faults ? ", MSIs fault" : "");
    if (stream->last_error) {
        monitor_printf(mon, "    last error: %s\n", stream->last_error);
    }
}

/* Nothing at all if there is nothing to say */
static void print_counters(Monitor *mon, const char *title,
                           const Smmuv3CounterList *list)
{
    for (const Smmuv3CounterList *c = list; c; c = c->next) {
        monitor_printf(mon, "%s%s %" PRIu64, c == list ? title : ", ",
                       c->value->name, c->value->count);
    }
    if (list) {
        monitor_printf(mon, "\n");
    }
}

static void print_bins(Monitor *mon, const char *title,
                       const Smmuv3BinList *list)
{
    for (const Smmuv3BinList *b = list; b; b = b->next) {
        monitor_printf(mon, "%s", b == list ? title : ", ");
        if (b->value->has_below) {
            monitor_printf(mon, "<%" PRIu64, b->value->below);
        } else {
            monitor_printf(mon, "more");
        }
        monitor_printf(mon, ": %" PRIu64, b->value->count);
    }
    if (list) {
        monitor_printf(mon, "\n");
    }
}

static void print_stats(Monitor *mon, const Smmuv3Stats *stats)
{
    print_counters(mon, "  commands: ", stats->commands);
    print_counters(mon, "  register reads that exit: ", stats->register_reads);
    print_counters(mon, "  register writes that exit: ",
                   stats->register_writes);
    print_bins(mon, "  calls to the host, by commands: ", stats->host_calls);
    print_bins(mon, "  drains, by microseconds: ", stats->drains);
    print_counters(mon, "  records: ", stats->events);
    monitor_printf(mon, "  host call errors %" PRIu64 ", all invalidated %"
                   PRIu64 ", jobs %" PRIu64 ", retries %" PRIu64 "\n"
                   "  event queue overflows %" PRIu64 ", events lost %" PRIu64
                   ", MSI faults %" PRIu64 "\n", stats->host_call_errors,
                   stats->invalidated_all, stats->jobs, stats->retries,
                   stats->overflows, stats->events_lost, stats->msi_faults);
}

static void print_accel(Monitor *mon, const Smmuv3Accel *accel)
{
    if (accel->host) {
        print_host(mon, accel->host);
    }
    monitor_printf(mon, "  capabilities%s:\n",
                   accel->fixed ? "" : " (not fixed yet)");
    for (const Smmuv3CapabilityList *c = accel->capabilities; c; c = c->next) {
        print_capability(mon, c->value);
    }
    for (const Smmuv3StreamList *s = accel->streams; s; s = s->next) {
        print_stream(mon, s->value);
    }
    monitor_printf(mon, "  host's events: %s\n",
                   Smmuv3EventSource_str(accel->event_source));
    print_stats(mon, accel->stats);
}

void hmp_info_smmuv3(Monitor *mon, const QDict *qdict)
{
    g_autoptr(Smmuv3InfoList) list = qmp_query_smmuv3(NULL);

    if (!list) {
        monitor_printf(mon, "No SMMUv3\n");
    }
    for (const Smmuv3InfoList *i = list; i; i = i->next) {
        const Smmuv3Info *smmu = i->value;

        monitor_printf(mon, "arm-smmuv3 %s: %s%s%s, SMMUEN=%d\n",
                       name_of(smmu->id, smmu->qom_path),
                       smmu->accel ? "accel=on" : "emulated",
                       smmu->bus ? ", bus " : "", smmu->bus ?: "",
                       smmu->smmuen);
        for (const Smmuv3QueueList *q = smmu->queues; q; q = q->next) {
            print_queue(mon, q->value);
        }
        if (smmu->accel) {
            print_accel(mon, smmu->accel);
        }
    }
}
