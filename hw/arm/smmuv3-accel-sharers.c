/*
 * Accelerated SMMUv3: vSMMUs that share a stage 2
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * vSMMUs with share-stage2 have one VMID, and so all TLB entries in common.
 * Those that one of them could not invalidate may hit for a stream of another.
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "smmuv3-accel-internal.h"

typedef struct Sharers {
    SMMUv3State *s;
    GSList *list;
} Sharers;

static int find_sharer(Object *obj, void *opaque)
{
    Sharers *sharers = opaque;
    SMMUv3AccelVsmmu *mine = &sharers->s->accel_state->vsmmu, *other;
    SMMUv3State *s;

    if (!object_dynamic_cast(obj, TYPE_ARM_SMMUV3)) {
        return 0;
    }
    s = ARM_SMMUV3(obj);
    if (s == sharers->s || !s->accel_state) {
        return 0;
    }
    other = &s->accel_state->vsmmu;
    if (other->host == mine->host && other->stage2 == mine->stage2) {
        sharers->list = g_slist_prepend(sharers->list, s);
    }
    return 0;
}

GSList *smmuv3_accel_sharers(SMMUv3State *s)
{
    Sharers sharers = { s };

    object_child_foreach_recursive(object_get_root(), find_sharer, &sharers);
    return sharers.list;
}

/*
 * Returns false if @other is stale from now on.  Its queues wait then, until
 * all of its streams are parked, and their next CMD_SYNCs report that.
 */
static bool invalidate_by(SMMUv3State *other)
{
    SMMUv3Accel *accel = other->accel_state;
    int64_t start = get_clock();
    int ret = smmuv3_accel_vsmmu_invalidate_vmid(&accel->vsmmu);

    smmuv3_accel_slow_note_since(other, start);
    if (ret) {
        smmuv3_accel_vsmmu_report_lost(&accel->vsmmu, ret);
        smmuv3_accel_tell_if_lost(other, false);
        smmuv3_accel_cmdq_note(&accel->cmdq, SMMUV3_ACCEL_FLUSH_FAILED);
        smmuv3_accel_cmdqv_failed(other);
        smmuv3_accel_slow_park(other);
    }
    return !ret;
}

/*
 * @s is stale and parked.  If another vSMMU can invalidate the VMID's entries,
 * nothing stale is left that could hit for others.  Each that cannot is parked
 * as well.  A job of one that was stale before may have begun too early to
 * count.  Makes one call to the host at most; returns whether there is more to
 * do.
 */
static bool tell_next(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    g_autoptr(GSList) sharers = NULL;

    if (!accel->vsmmu.stale || accel->vsmmu.told) {
        return false;
    }
    sharers = smmuv3_accel_sharers(s);
    for (GSList *next = sharers; next; next = next->next) {
        SMMUv3State *other = next->data;
        SMMUv3AccelVsmmu *vsmmu = &other->accel_state->vsmmu;

        if (!vsmmu->stale) {
            accel->vsmmu.told = invalidate_by(other);
            return !accel->vsmmu.told;
        }
        /* @other does so as well, however @s goes on; its queues wait for it */
        if (smmuv3_accel_park_next(vsmmu)) {
            smmuv3_accel_cmdq_note(&other->accel_state->cmdq,
                                   SMMUV3_ACCEL_FLUSH_FAILED);
            return true;
        }
    }
    for (GSList *next = sharers; next; next = next->next) {
        SMMUv3State *other = next->data;

        other->accel_state->vsmmu.losses++;
        other->accel_state->vsmmu.told = true;
    }
    accel->vsmmu.told = true;
    return false;
}

bool smmuv3_accel_tell_sharers(SMMUv3State *s, bool finish)
{
    int64_t start = get_clock();

    while (tell_next(s)) {
        if (!finish && smmuv3_accel_vsmmu_must_stop(&s->accel_state->vsmmu,
                                                    start)) {
            return false;
        }
    }
    return true;
}

void smmuv3_accel_hear_of_sharers(SMMUv3State *s)
{
    g_autoptr(GSList) sharers = smmuv3_accel_sharers(s);

    for (GSList *next = sharers; next; next = next->next) {
        SMMUv3State *other = next->data;

        if (other->accel_state->vsmmu.stale) {
            smmuv3_accel_vsmmu_invalidated(&s->accel_state->vsmmu, -ETIMEDOUT);
        }
        if (other->accel_state->vsmmu.slow) {
            smmuv3_accel_slow_note_since(s, get_clock() -
                                         SMMUV3_ACCEL_SLOW_CALL_NS);
        }
    }
}
