/*
 * Accelerated SMMUv3: what the SMMUv3 device calls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * With accel=on the physical SMMUv3 translates assigned devices by the guest's
 * stage 1 over the host's stage 2.  QEMU's part is to keep each device attached
 * to what the guest's registers and tables say, and to pass invalidations on.
 *
 * All functions are called with the BQL held, and only for an SMMU with
 * accel=on.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_H
#define HW_ARM_SMMUV3_ACCEL_H

#include "hw/arm/smmuv3.h"
#include "smmuv3-internal.h"

/**
 * smmuv3_accel_check: can this SMMU be what its properties ask for?
 * @s: before it is realized
 * @errp: names the property or the device in the way, and the remedy
 *
 * Looks at the properties and at the devices that are below the SMMU's bus
 * already.  Changes nothing.
 */
bool smmuv3_accel_check(SMMUv3State *s, Error **errp);

/**
 * smmuv3_accel_realize: make a realized SMMU an accelerated one
 * @s: an SMMU that smmuv3_accel_check() had nothing against
 * @errp: what is in the way
 *
 * Takes over the bus's IOMMU handlers, takes in
 * assigned devices that were there first, and blocks migration.
 *
 * Returns: false with the bus without handlers and no device taken in.
 */
bool smmuv3_accel_realize(SMMUv3State *s, Error **errp);

/**
 * smmuv3_accel_init_regs: put what the host can do into the ID registers
 * @s: its registers are at their reset values otherwise
 *
 * The first call settles what the guest is told, for good.
 */
void smmuv3_accel_init_regs(SMMUv3State *s);

/**
 * smmuv3_accel_regs_direct: may the guest read registers from QEMU's memory?
 *
 * It maps them as Device memory and reads around the caches, unless stage 2
 * overrides it (FEAT_S2FWB, Arm ARM D8.6.6), which KVM tells by what it allows
 * for memory of VFIO's.  TCG knows no caches.
 */
bool smmuv3_accel_regs_direct(void);

/**
 * smmuv3_accel_regs_reset: have KVM swallow the writes that change nothing
 * @s: after a reset, which all of these registers leave as 0
 *
 * Of a register that holds 0 and that Linux begins with clearing, a write of 0
 * ends in an ioeventfd, which nobody waits for, instead of an exit to QEMU.
 */
void smmuv3_accel_regs_reset(SMMUv3State *s);

/**
 * smmuv3_accel_regs_write: let writes exit again that may change something now
 * @s: before a write by the guest takes effect
 * @offset: of the register, in page 0
 * @size: of the write, in bytes
 * @value: what is written
 *
 * Another VCPU that sees any effect of the write may clear the register, and
 * is to get through.  Until the next reset, lest a guest have KVM add and drop
 * ioeventfds as it likes.
 */
void smmuv3_accel_regs_write(SMMUv3State *s, hwaddr offset, unsigned size,
                             uint64_t value);

/**
 * smmuv3_accel_refresh: put every stream to where the guest wants it now
 * @s: whose registers changed: reset, CR0.SMMUEN, GBPA
 */
void smmuv3_accel_refresh(SMMUv3State *s);

/**
 * smmuv3_accel_cr0: the guest has written CR0
 * @s: with the new value in its register
 * @before: the old one
 *
 * SMMUEN decides where streams are attached, EVENTQEN whether the host keeps
 * events (IHI 0070 6.3.9).
 */
void smmuv3_accel_cr0(SMMUv3State *s, uint32_t before);

/**
 * smmuv3_accel_eventq_moved: the guest has written EVENTQ_CONS
 * @s: with the new value in its register
 *
 * Events of the host's that a full queue held up go on.
 */
void smmuv3_accel_eventq_moved(SMMUv3State *s);

/**
 * smmuv3_accel_command: a command is about to take effect
 * @s: whose command queue it stands in, at CMDQ_CONS
 * @cmd: the command, its words in host endianness
 * @caches_only: whether nothing is left to do but for QEMU's own caches, which
 *               are the caller's
 *
 * Collects it to be forwarded or, if it is no invalidation of the host's,
 * forwards what was collected first and then moves the streams that it
 * concerns (IHI 0070 4.3 to 4.7).
 *
 * Returns: an error for CMDQ_CONS.ERR; CMDQ_CONS.RD is at the command to blame
 * then, which may be an earlier one.
 */
SMMUCmdError smmuv3_accel_command(SMMUv3State *s, const Cmd *cmd,
                                  bool *caches_only);

/**
 * smmuv3_accel_collect_pages: go on with the other pages of an unmap
 * @s: whose command queue has @cmd just before CMDQ_CONS
 * @cmd: taken by smmuv3_accel_command(), and more that stand after it
 * @n: how many more
 *
 * A guest without range invalidation gives a TLBI_NH_VA or TLBI_NH_VAA for each
 * page (IHI 0070 4.4.1). Those that differ from @cmd by their address alone are
 * collected with it, and CMDQ_CONS moves over them.
 *
 * Returns: how many these were; 0 where @cmd is of another kind, where all of
 * the TLB goes anyhow, and where the batch is full.
 */
unsigned smmuv3_accel_collect_pages(SMMUv3State *s, const Cmd *cmd, unsigned n);

/**
 * smmuv3_accel_collecting: whether commands wait to be forwarded together
 * @s: any
 *
 * False after a command that took effect at once, which may have taken long.
 */
bool smmuv3_accel_collecting(SMMUv3State *s);

/**
 * smmuv3_accel_drained: no command follows for now
 * @s: whose command queue was consumed, to its end or to an error
 *
 * Returns: as smmuv3_accel_command().
 */
SMMUCmdError smmuv3_accel_drained(SMMUv3State *s);

#endif
