/*
 * Accelerated SMMUv3: accesses to registers that do not leave the guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/event_notifier.h"
#include "system/kvm.h"
#include "smmuv3-accel.h"

/* uapi linux/kvm.h has it since Linux 6.17, later than the base's copy */
#ifndef KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED
#define KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED 243
#endif

#define PAGE1 0x10000

/* Where Linux writes zeros to begin with, and how wide */
static const struct {
    hwaddr offset;
    unsigned size;
} zero_writes[] = {
    { A_CR0, 4 },
    { A_IRQ_CTRL, 4 },
    { A_GERROR_IRQ_CFG0, 8 },
    { A_CMDQ_PROD, 4 },
    { A_CMDQ_CONS, 4 },
    { PAGE1 | A_EVENTQ_PROD, 4 },
    { PAGE1 | A_EVENTQ_CONS, 4 },
    { A_EVENTQ_IRQ_CFG0, 8 },
};

bool smmuv3_accel_regs_direct(void)
{
    return !kvm_enabled() ||
           kvm_vm_check_extension(kvm_state,
                                  KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED) > 0;
}

/* A queue's indexes move by themselves while it is enabled */
static bool zero_changes_nothing(SMMUv3State *s, hwaddr offset)
{
    switch (offset) {
    case A_CR0:
        return !s->cr[0];
    case A_IRQ_CTRL:
        return !s->irq_ctrl;
    case A_GERROR_IRQ_CFG0:
        return !s->gerror_irq_cfg0;
    case A_EVENTQ_IRQ_CFG0:
        return !s->eventq_irq_cfg0;
    case A_CMDQ_PROD:
        return !smmuv3_cmdq_enabled(s) && !s->cmdq.prod;
    case A_CMDQ_CONS:
        return !smmuv3_cmdq_enabled(s) && !s->cmdq.cons;
    case PAGE1 | A_EVENTQ_PROD:
        return !smmuv3_eventq_enabled(s) && !s->eventq.prod;
    case PAGE1 | A_EVENTQ_CONS:
        return !smmuv3_eventq_enabled(s) && !s->eventq.cons;
    default:
        g_assert_not_reached();
    }
}

void smmuv3_accel_regs_update(SMMUv3State *s)
{
    MemoryRegion *mr = &s->smmu_state.iomem;
    uint32_t now = 0, changed;

    if (!s->zero_written.initialized) {
        return;
    }
    for (int i = 0; i < ARRAY_SIZE(zero_writes); i++) {
        now |= zero_changes_nothing(s, zero_writes[i].offset) ? BIT(i) : 0;
    }
    changed = now ^ s->zero_writes;
    if (!changed) {
        return;
    }
    memory_region_transaction_begin();
    for (int i = 0; i < ARRAY_SIZE(zero_writes); i++) {
        if (changed & now & BIT(i)) {
            memory_region_add_eventfd(mr, zero_writes[i].offset,
                                      zero_writes[i].size, true, 0,
                                      &s->zero_written);
        } else if (changed & BIT(i)) {
            memory_region_del_eventfd(mr, zero_writes[i].offset,
                                      zero_writes[i].size, true, 0,
                                      &s->zero_written);
        }
    }
    memory_region_transaction_commit();
    s->zero_writes = now;
}
