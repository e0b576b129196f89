/*
 * SMMUv3: completions and interrupts by messages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * IHI 0070 3.18.  Without IDR0.MSI there are no messages.  Called with the BQL
 * held.
 */
#ifndef HW_ARM_SMMUV3_MSI_H
#define HW_ARM_SMMUV3_MSI_H

#include "hw/arm/smmuv3.h"

/* Can the SMMU send messages for CMD_SYNCs and interrupts? */
bool smmuv3_has_msi(SMMUv3State *s);

/**
 * smmuv3_write_msi: write a message to where the guest wants it
 * @s: any SMMU
 * @addr: guest-physical; an interrupt controller, memory, or anything else
 * @data: 32 bits
 * @abort_mask: bit of GERROR for a write that is refused (IHI 0070 6.3.19)
 *
 * What the message announces must be complete.  The caller must hold no lock
 * but the BQL.  Any device may be gone afterwards, because the guest may direct
 * the message to a register that unplugs one.
 */
void smmuv3_write_msi(SMMUv3State *s, hwaddr addr, uint32_t data,
                      uint32_t abort_mask);

/**
 * smmuv3_raise_msi: raise an interrupt by a message, if it has one
 * @s: any SMMU
 * @irq: the interrupt, which is enabled
 *
 * A bottom half writes the message.  The caller pulses the wire in any case
 * (IHI 0070 3.18.2).
 */
void smmuv3_raise_msi(SMMUv3State *s, SMMUIrq irq);

/**
 * smmuv3_drop_msis: IRQ_CTRL has changed
 * @s: any SMMU
 *
 * No message of a disabled interrupt follows, because software that has seen
 * IRQ_CTRLACK may use the memory for something else (IHI 0070 6.3.16).
 */
void smmuv3_drop_msis(SMMUv3State *s);

/**
 * smmuv3_read_eventq_irq_cfg: read EVENTQ_IRQ_CFG0, 1 or 2
 * @s: any SMMU
 * @offset: of the register, or of the upper half of EVENTQ_IRQ_CFG0, in bytes
 *
 * Returns: its value; 0 without IDR0.MSI (IHI 0070 6.3.30 to 6.3.32).
 */
uint64_t smmuv3_read_eventq_irq_cfg(SMMUv3State *s, hwaddr offset);

#endif
