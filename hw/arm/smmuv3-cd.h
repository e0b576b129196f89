/*
 * SMMUv3: where a Context Descriptor is
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_SMMUV3_CD_H
#define HW_ARM_SMMUV3_CD_H

#include "hw/arm/smmuv3.h"
#include "smmuv3-internal.h"

/**
 * smmuv3_find_cd: find the CD of a transaction without a SubstreamID
 * @s: any SMMU; one with IDR1.SSIDSIZE above 0 has no stage 2
 * @ste: valid, and with stage 1 enabled
 * @addr: set to the address of the CD
 * @event: its type is set on error
 *
 * IHI 0070 5.2 (S1CDMax, S1Fmt, S1DSS), 5.2.2, 5.3 (L1CD).  No endpoint that
 * QEMU translates for has SubstreamIDs.
 *
 * Returns: 0; 1 if the transaction bypasses stage 1, with @addr unchanged; or
 * -EINVAL.
 */
int smmuv3_find_cd(SMMUv3State *s, const STE *ste, dma_addr_t *addr,
                   SMMUEventInfo *event);

#endif
