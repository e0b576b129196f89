/*
 * SMMUv3: which bits of which register a guest may write, and when
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * IHI 0070 6.2 and 6.3.
 */
#ifndef HW_ARM_SMMUV3_REGS_H
#define HW_ARM_SMMUV3_REGS_H

#include "hw/arm/smmuv3.h"

/**
 * smmuv3_may_write: what a write may change now
 * @s: any SMMU, before the write takes effect
 * @offset: of the register in page 0, in bytes
 * @size: of the write in bytes: 4, or 8 for a 64-bit register
 * @value: what the guest writes; reserved bits are cleared, and bits that must
 *         not change now get their current value
 *
 * Registers of a queue or of the Stream Table cannot change while CR0 enables
 * it, and those of a message not while IRQ_CTRL enables its interrupt (IHI 0070
 * 6.2).  SMMUs before SMMUv3.2 may behave otherwise.
 *
 * Returns: false if the write changes nothing at all, and must be ignored.
 */
bool smmuv3_may_write(SMMUv3State *s, hwaddr offset, unsigned size,
                      uint64_t *value);

/**
 * smmuv3_read_pair: read 64 bits
 * @s: any SMMU
 * @offset: of the lower half in page 0, in bytes
 * @value: set to two 32-bit registers, or to the halves of a 64-bit register
 */
MemTxResult smmuv3_read_pair(SMMUv3State *s, hwaddr offset, uint64_t *value);

#endif
