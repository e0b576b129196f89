/*
 * Accelerated SMMUv3: the registers of a Tegra241 CMDQV
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A CMDQV is a device beside an SMMUv3.  It has command queues (VCMDQs) that a
 * guest owns, so that several CPUs can issue invalidations at once.  This one
 * has a single virtual interface (VINTF0), which is the guest's own.
 *
 * These functions know registers only: what a guest reads, what a write
 * changes, and which queues run.  The interface has no public specification; it
 * is that which Linux expects (tegra241-cmdqv.c).  Called with the BQL held.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_TEGRA241_H
#define HW_ARM_SMMUV3_ACCEL_TEGRA241_H

#include "hw/arm/smmuv3.h"
#include "smmuv3-accel-vintf.h"

/*
 * Pages of 64 KiB: configuration; VCMDQs, page 0 and page 1; VINTF0's logical
 * VCMDQs, page 0 and page 1
 */
#define TEGRA241_PAGE           0x10000
#define TEGRA241_SIZE           (5 * TEGRA241_PAGE)
#define TEGRA241_GLOBAL         (1 * TEGRA241_PAGE)     /* page 0 */
#define TEGRA241_LOGICAL        (3 * TEGRA241_PAGE)     /* page 0 */

/* In page 0, of a VCMDQ: where the next one is, and how far its registers go */
#define TEGRA241_STRIDE         SMMUV3_ACCEL_VINTF_STRIDE
#define TEGRA241_PAGE0_END      0x18

/* As many as the host's hardware must have, so that it can have them */
#define TEGRA241_LOG2_VCMDQS    SMMUV3_ACCEL_VINTF_LOG2_QUEUES
#define TEGRA241_VCMDQS         SMMUV3_ACCEL_VINTF_QUEUES

typedef struct Tegra241Vcmdq {
    SMMUQueue q;                /* as BASE says; with PROD and CONS */
    uint32_t base[2];
    uint32_t cons_indx_base[2]; /* without effect */
    uint32_t config;
    uint32_t gerror;
    uint32_t gerrorn;
    uint32_t alloc;             /* its CMDQ_ALLOC */
} Tegra241Vcmdq;

typedef struct Tegra241 {
    uint32_t config;
    uint32_t vintf_int_mask;
    uint32_t vintf_config;
    uint32_t sid_match;         /* without effect: the host translates SIDs */
    uint32_t sid_replace;       /* likewise */
    Tegra241Vcmdq vcmdq[TEGRA241_VCMDQS];
} Tegra241;

void tegra241_reset(Tegra241 *t);

/**
 * tegra241_read: the value of a register
 * @t: any
 * @offset: in bytes, a multiple of 4 below TEGRA241_SIZE; the guest's
 *
 * Returns: 0 for what is not a register, and for a logical VCMDQ to which no
 * VCMDQ is allocated.
 */
uint32_t tegra241_read(const Tegra241 *t, hwaddr offset);

/**
 * tegra241_write: write to a register
 * @t: any
 * @offset: as tegra241_read()
 * @value: the guest's
 *
 * May change which queues run.
 *
 * Returns: false if the write is ignored, because the register is read-only, or
 * because it is BASE, CONS_INDX_BASE or CONS of a VCMDQ that has CONFIG.EN set.
 */
bool tegra241_write(Tegra241 *t, hwaddr offset, uint32_t value);

/*
 * Does VCMDQ @i run: are the CMDQV, VINTF0 and the queue enabled, and is it
 * allocated to a logical VCMDQ?
 */
bool tegra241_runs(const Tegra241 *t, unsigned i);

/* The VCMDQ that logical VCMDQ @l of VINTF0 is, or -1 */
int tegra241_physical(const Tegra241 *t, unsigned l);

/* Are the CMDQV and VINTF0 enabled? */
bool tegra241_enabled(const Tegra241 *t);

/* Is there a halted VCMDQ that the interrupt is to tell of? */
bool tegra241_interrupts(const Tegra241 *t);

/**
 * tegra241_take: the hardware has had a VCMDQ
 * @t: any
 * @i: below TEGRA241_VCMDQS
 * @page0: its registers in page 0, as the guest has left them; from the host,
 *         so anything may be in them
 */
void tegra241_take(Tegra241 *t, unsigned i,
                   const uint32_t page0[TEGRA241_PAGE0_END / 4]);

/* The other way round: tegra241_read() of all registers in page 0, but quick */
void tegra241_give(const Tegra241 *t, unsigned i,
                   uint32_t page0[TEGRA241_PAGE0_END / 4]);

/* Has VCMDQ @i an error that the guest has not acknowledged?  Then it halts. */
bool tegra241_halted(const Tegra241 *t, unsigned i);

/**
 * tegra241_set_error: a command has failed
 * @t: with VCMDQ @i not halted, and its CONS at the command
 * @i: below TEGRA241_VCMDQS
 * @error: a value for CONS.ERR (IHI 0070 7.1)
 *
 * Returns: whether to raise the interrupt, which is an edge.
 */
bool tegra241_set_error(Tegra241 *t, unsigned i, unsigned error);

#endif
