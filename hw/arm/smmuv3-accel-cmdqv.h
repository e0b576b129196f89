/*
 * Accelerated SMMUv3: command queues that the guest owns (CMDQV)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What smmuv3-accel-cmdqv.c, smmuv3-accel-cmdqv-hw.c and
 * smmuv3-accel-cmdqv-poll.c share.  Called with the BQL held.
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

typedef struct SMMUv3AccelPoll SMMUv3AccelPoll;

struct SMMUv3AccelCmdqv {
    MemoryRegion iomem;
    CmdqvPage page0[2];         /* global, logical */
    qemu_irq irq;
    Tegra241 regs;              /* of page 0: stale while @hw */
    SMMUv3AccelQueue queue[TEGRA241_VCMDQS];    /* of regs.vcmdq[].q */
    unsigned next;              /* whose turn it is */

    /* smmuv3-accel-cmdqv-hw.c */
    MemoryRegion vintf;         /* page 0 of the host's VINTF, while @hw */
    bool hw;                    /* the hardware has the VCMDQs */
    bool refused;               /* by the host, as they are now */
    bool broken;                /* the hardware does not start or stop them */
    bool warned;                /* the user knows that */

    /* smmuv3-accel-cmdqv-poll.c */
    SMMUv3AccelPoll *poll;      /* NULL if nobody watches PROD */
};

/* Bring @cmdqv->regs up to date, whoever has the VCMDQs */
void smmuv3_accel_cmdqv_look(SMMUv3State *s);

/* Let the guest read the registers' current values */
void smmuv3_accel_cmdqv_publish(SMMUv3AccelCmdqv *cmdqv);

/*
 * The same in logical page 0 at @mem.  If the guest @writes there, what it
 * writes stays as it is.
 */
void smmuv3_accel_cmdqv_publish_polled(SMMUv3AccelCmdqv *cmdqv, uint8_t *mem,
                                       bool writes);

/* Write to a register; the caller publishes and drains */
void smmuv3_accel_cmdqv_set(SMMUv3State *s, hwaddr offset, uint32_t value);

/**
 * smmuv3_accel_cmdqv_add_direct: let logical page 0 be other memory at times
 * @s: with a CMDQV
 * @mr: to be initialized; it is disabled
 * @name: of @mr
 * @mem: TEGRA241_PAGE bytes, the caller's; they stay mapped for ever
 *
 * @mr is a "RAM device", which KVM maps into the guest, and which QEMU accesses
 * as registers.  It is no memory for assigned devices, so VFIO does not map it.
 */
void smmuv3_accel_cmdqv_add_direct(SMMUv3State *s, MemoryRegion *mr,
                                   const char *name, void *mem);

/**
 * smmuv3_accel_cmdqv_map_page0: where the guest finds page 0
 * @cmdqv: whose
 * @direct: from smmuv3_accel_cmdqv_add_direct()
 * @on: @direct is logical page 0 now
 * @published: what QEMU has published is current, and the guest may read it
 */
void smmuv3_accel_cmdqv_map_page0(SMMUv3AccelCmdqv *cmdqv, MemoryRegion *direct,
                                  bool on, bool published);

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

/* For the property cmdqv-poll-us */
void smmuv3_accel_cmdqv_poll_init(SMMUv3State *s);

/* A write of PROD has exited.  From the next one on, a thread may watch. */
void smmuv3_accel_cmdqv_poll_doorbell(SMMUv3State *s);

/*
 * Writes exit again; with all that the guest has written until now.  The caller
 * drains.  Does nothing more if they exit anyway.
 */
void smmuv3_accel_cmdqv_poll_leave(SMMUv3State *s);
void smmuv3_accel_cmdqv_poll_reset(SMMUv3State *s);

/* Bring @cmdqv->regs up to date */
void smmuv3_accel_cmdqv_poll_look(SMMUv3State *s);

/*
 * A write that has exited although the guest has the page: a vCPU has waited
 * for the BQL with it.  Returns: whether it is one to that page, and is there.
 */
bool smmuv3_accel_cmdqv_poll_forward(SMMUv3State *s, hwaddr offset,
                                     uint32_t value);

/* Is there a page that the guest writes to, or may be about to? */
bool smmuv3_accel_cmdqv_poll_busy(SMMUv3AccelCmdqv *cmdqv);

/* The page that the guest writes to, or NULL if its writes exit */
uint8_t *smmuv3_accel_cmdqv_poll_mem(SMMUv3AccelCmdqv *cmdqv);

/* Is it the guest that writes to @reg of a VCMDQ there? */
bool smmuv3_accel_cmdqv_poll_is_written(hwaddr reg);

#endif
