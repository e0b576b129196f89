/*
 * Accelerated SMMUv3: accesses to registers that do not leave the guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/event_notifier.h"
#include "qemu/range.h"
#include "system/kvm.h"
#include "smmuv3-accel.h"

/* uapi linux/kvm.h has it since Linux 6.17, later than the base's copy */
#ifndef KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED
#define KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED 243
#endif

#define PAGE1 0x10000

/*
 * Where Linux writes zeros to begin with, how wide, and by which bit of CR0 the
 * register begins to move by itself
 */
static const struct {
    hwaddr offset;
    unsigned size;
    uint32_t enable;
} zero_writes[] = {
    { A_CR0, 4 },
    { A_IRQ_CTRL, 4 },
    { A_GERROR_IRQ_CFG0, 8 },
    { A_CMDQ_PROD, 4, R_CR0_CMDQEN_MASK },
    { A_CMDQ_CONS, 4, R_CR0_CMDQEN_MASK },
    { PAGE1 | A_EVENTQ_PROD, 4, R_CR0_EVENTQEN_MASK },
    { PAGE1 | A_EVENTQ_CONS, 4, R_CR0_EVENTQEN_MASK },
    { A_EVENTQ_IRQ_CFG0, 8 },
};

bool smmuv3_accel_regs_direct(void)
{
    return !kvm_enabled() ||
           kvm_vm_check_extension(kvm_state,
                                  KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED) > 0;
}

/* Have KVM swallow the zeros that go to these of zero_writes[], as bits */
static void swallow(SMMUv3State *s, uint32_t wanted)
{
    MemoryRegion *mr = &s->smmu_state.iomem;
    uint32_t changed = wanted ^ s->zero_writes;

    if (!changed || !s->zero_written.initialized) {
        return;
    }
    memory_region_transaction_begin();
    for (int i = 0; i < ARRAY_SIZE(zero_writes); i++) {
        if (changed & wanted & BIT(i)) {
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
    s->zero_writes = wanted;
}

void smmuv3_accel_regs_reset(SMMUv3State *s)
{
    swallow(s, MAKE_64BIT_MASK(0, ARRAY_SIZE(zero_writes)));
}

void smmuv3_accel_regs_write(SMMUv3State *s, hwaddr offset, unsigned size,
                             uint64_t value)
{
    uint32_t wanted = s->zero_writes;

    for (int i = 0; i < ARRAY_SIZE(zero_writes); i++) {
        if (ranges_overlap(zero_writes[i].offset & ~PAGE1, zero_writes[i].size,
                           offset, size) ||
            (offset == A_CR0 && (value & zero_writes[i].enable))) {
            wanted &= ~BIT(i);
        }
    }
    swallow(s, wanted);
}
