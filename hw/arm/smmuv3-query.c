/*
 * SMMUv3: query-smmuv3
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What every SMMUv3 has; smmuv3-accel-query.c adds what accel=on has.
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_bus.h"
#include "qapi/qapi-commands-smmuv3.h"
#include "smmuv3-query.h"

uint32List *smmuv3_query_idr(const uint32_t idr[6])
{
    uint32List *list = NULL, **tail = &list;

    for (int i = 0; i < 6; i++) {
        QAPI_LIST_APPEND(tail, idr[i]);
    }
    return list;
}

Smmuv3Queue *smmuv3_query_queue(const SMMUQueue *q, bool enabled,
                                Smmuv3QueueOwner owner)
{
    Smmuv3Queue *info = g_new0(Smmuv3Queue, 1);

    info->enabled = enabled;
    info->base = q->base & SMMU_BASE_ADDR_MASK;
    info->entries = 1u << q->log2size;
    info->used = (q->prod - q->cons) & WRAP_INDEX_MASK(q);
    info->prod = q->prod;
    info->cons = q->cons;
    info->owner = owner;
    return info;
}

void smmuv3_query_cons_error(Smmuv3Queue *info)
{
    info->has_error = true;
    info->error = FIELD_EX32(info->cons, CMDQ_CONS, ERR);
}

static Smmuv3QueueList *query_queues(SMMUv3State *s)
{
    Smmuv3QueueList *list = NULL, **tail = &list;
    Smmuv3Queue *cmdq, *eventq;

    cmdq = smmuv3_query_queue(&s->cmdq, smmuv3_cmdq_enabled(s),
                              SMMUV3_QUEUE_OWNER_QEMU);
    cmdq->name = g_strdup("cmdq");
    smmuv3_query_cons_error(cmdq);
    QAPI_LIST_APPEND(tail, cmdq);
    eventq = smmuv3_query_queue(&s->eventq, smmuv3_eventq_enabled(s),
                                SMMUV3_QUEUE_OWNER_QEMU);
    eventq->name = g_strdup("eventq");
    QAPI_LIST_APPEND(tail, eventq);
    if (s->accel_state) {
        smmuv3_accel_query_vcmdqs(s, tail);
    }
    return list;
}

static Smmuv3Info *query_smmu(SMMUv3State *s)
{
    PCIBus *bus = s->smmu_state.primary_bus;
    Smmuv3Info *info = g_new0(Smmuv3Info, 1);

    info->qom_path = object_get_canonical_path(OBJECT(s));
    info->id = g_strdup(DEVICE(s)->id);
    info->bus = bus ? g_strdup(BUS(bus)->name) : NULL;
    info->idr = smmuv3_query_idr(s->idr);
    info->smmuen = smmu_enabled(s);
    info->queues = query_queues(s);
    info->accel = s->accel_state ? smmuv3_accel_query(s) : NULL;
    return info;
}

/* One that is being created or deleted is left out */
static int add_smmu(Object *obj, void *opaque)
{
    Smmuv3InfoList **list = opaque;

    if (object_dynamic_cast(obj, TYPE_ARM_SMMUV3) && DEVICE(obj)->realized) {
        QAPI_LIST_PREPEND(*list, query_smmu(ARM_SMMUV3(obj)));
    }
    return 0;
}

Smmuv3InfoList *qmp_query_smmuv3(Error **errp)
{
    Smmuv3InfoList *list = NULL;

    object_child_foreach_recursive(object_get_root(), add_smmu, &list);
    return list;
}
