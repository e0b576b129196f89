/*
 * Accelerated SMMUv3: command queues that the guest owns (CMDQV)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What smmuv3-accel-cmdqv.c and smmuv3-accel-cmdqv-hw.c share.  Called with the
 * BQL held.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_CMDQV_H
#define HW_ARM_SMMUV3_ACCEL_CMDQV_H

#include "smmuv3-accel-internal.h"
#include "smmuv3-accel-tegra241.h"

/* Page 0 of the VCMDQs, by global number or by logical one */
typedef struct CmdqvPage {
    SMMUv3State *s;
    hwaddr offset;              /* in the CMDQV */
    MemoryRegion rom;
    uint8_t *mem;               /* NULL if each read exits to QEMU */
} CmdqvPage;

struct SMMUv3AccelCmdqv {
    MemoryRegion iomem;
    CmdqvPage page0[2];         /* global, logical */
    qemu_irq irq;
    Tegra241 regs;              /* of page 0: stale while @hw */
    SMMUv3AccelQueue queue[TEGRA241_VCMDQS];    /* of regs.vcmdq[].q */

    /* smmuv3-accel-cmdqv-hw.c */
    MemoryRegion vintf;         /* page 0 of the host's VINTF, while @hw */
    bool hw;                    /* the hardware has the VCMDQs */
    bool refused;               /* by the host, as they are now */
    bool broken;                /* the hardware does not start or stop them */
    bool warned;                /* the user knows that */
};

/* Let the guest read the registers' current values */
void smmuv3_accel_cmdqv_publish(SMMUv3AccelCmdqv *cmdqv);

/* The region for the hardware's registers, below @cmdqv->iomem */
void smmuv3_accel_cmdqv_hw_init(SMMUv3State *s);

/*
 * Give the hardware the VCMDQs, if it can have them now: all that are allocated
 * are enabled, and QEMU is done with them
 */
void smmuv3_accel_cmdqv_hw_enter(SMMUv3State *s);

/* QEMU has them again, as the guest and the hardware have left them */
void smmuv3_accel_cmdqv_hw_leave(SMMUv3State *s);

/* Bring @cmdqv->regs up to date */
void smmuv3_accel_cmdqv_hw_look(SMMUv3State *s);

#endif
