/*
 * SMMUv3: completions and interrupts by messages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The message itself, and EVENTQ's and GERROR's interrupts.  Who has IDR0.MSI
 * is in smmuv3-accel-caps.c, and a CMD_SYNC completes in smmuv3-accel-cmdq.c.
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "exec/address-spaces.h"
#include "trace.h"
#include "hw/arm/smmuv3-msi.h"
#include "smmuv3-internal.h"

bool smmuv3_has_msi(SMMUv3State *s)
{
    return FIELD_EX32(s->idr[0], IDR0, MSI);
}

void smmuv3_write_msi(SMMUv3State *s, hwaddr addr, uint32_t data,
                      uint32_t abort_mask)
{
    MemTxResult r;

    trace_smmuv3_write_msi(addr, data);
    /* Software that sees the message must see all that QEMU wrote before */
    smp_wmb();
    address_space_stl_le(&address_space_memory, addr, data,
                         MEMTXATTRS_UNSPECIFIED, &r);
    if (r != MEMTX_OK) {
        smmuv3_trigger_irq(s, SMMU_IRQ_GERROR, abort_mask);
    }
}

/* Address of @irq's message, if it has registers for one, or 0 */
static uint64_t irq_addr(SMMUv3State *s, SMMUIrq irq)
{
    uint64_t addr = irq == SMMU_IRQ_EVTQ ? s->eventq_irq_cfg0 :
                    irq == SMMU_IRQ_GERROR ? s->gerror_irq_cfg0 : 0;

    return smmuv3_has_msi(s) ? addr & SMMU_MSI_ADDR_MASK : 0;
}

/* An interrupt may be raised anywhere, but its message is written here only */
static void msi_bh(void *opaque)
{
    SMMUv3State *s = opaque;
    uint32_t pending = s->msi_pending;
    uint64_t addr;

    s->msi_pending = 0;
    addr = irq_addr(s, SMMU_IRQ_EVTQ);
    if (addr && (pending & BIT(SMMU_IRQ_EVTQ))) {
        smmuv3_write_msi(s, addr, s->eventq_irq_cfg1,
                         R_GERROR_MSI_EVENTQ_ABT_ERR_MASK);
    }
    addr = irq_addr(s, SMMU_IRQ_GERROR);
    if (addr && (pending & BIT(SMMU_IRQ_GERROR))) {
        smmuv3_write_msi(s, addr, s->gerror_irq_cfg1,
                         R_GERROR_MSI_GERROR_ABT_ERR_MASK);
    }
}

void smmuv3_raise_msi(SMMUv3State *s, SMMUIrq irq)
{
    if (!irq_addr(s, irq)) {
        return;
    }
    s->msi_pending |= BIT(irq);
    s->msi_bh = s->msi_bh ?: qemu_bh_new(msi_bh, s);
    qemu_bh_schedule(s->msi_bh);
}

void smmuv3_drop_msis(SMMUv3State *s)
{
    if (!smmuv3_eventq_irq_enabled(s)) {
        s->msi_pending &= ~BIT(SMMU_IRQ_EVTQ);
    }
    if (!smmuv3_gerror_irq_enabled(s)) {
        s->msi_pending &= ~BIT(SMMU_IRQ_GERROR);
    }
}

uint64_t smmuv3_read_eventq_irq_cfg(SMMUv3State *s, hwaddr offset)
{
    if (!smmuv3_has_msi(s)) {
        return 0;
    }
    switch (offset) {
    case A_EVENTQ_IRQ_CFG0:
        return s->eventq_irq_cfg0;
    case A_EVENTQ_IRQ_CFG0 + 4:
        return s->eventq_irq_cfg0 >> 32;
    case A_EVENTQ_IRQ_CFG1:
        return s->eventq_irq_cfg1;
    default:    /* A_EVENTQ_IRQ_CFG2 */
        return s->eventq_irq_cfg2;
    }
}
