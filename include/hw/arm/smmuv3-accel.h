/*
 * Accelerated SMMUv3: what the SMMUv3 device calls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * With accel=on the physical SMMUv3 translates assigned devices by the guest's
 * stage 1 over the host's stage 2.  QEMU attaches each device to what the
 * guest's registers and tables say, and forwards invalidations.
 *
 * Call these functions for an SMMU with accel=on, with the BQL held.  The
 * static inline functions may be called for any SMMU.  With accel=off they do
 * nothing and need no lock.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_H
#define HW_ARM_SMMUV3_ACCEL_H

#include "hw/arm/smmuv3.h"

struct Cmd;
struct Evt;

/**
 * smmuv3_accel_check_devices: does the SMMU support all devices below it?
 * @s: before it is realized, with its primary bus or without one
 * @faults: of char *, see smmuv3_find_faults().  Each device that does not fit
 *          appends a text that names it, and the remedy.
 *
 * In a QEMU without iommufd, that is the fault.  Changes nothing.
 */
void smmuv3_accel_check_devices(SMMUv3State *s, GPtrArray *faults);

/**
 * smmuv3_accel_realize: make an SMMU an accelerated one
 * @s: checked by smmuv3_check_properties(), and set up by its base class
 * @ops: accesses to its registers
 * @errp: why that is not possible
 *
 * Initializes the region of the registers, replaces the bus's IOMMU handlers,
 * adopts the assigned devices that are below the bus already, and blocks
 * migration.
 *
 * Returns: true; or false, with no handlers on the bus and no device adopted.
 */
bool smmuv3_accel_realize(SMMUv3State *s, const MemoryRegionOps *ops,
                          Error **errp);

/* Out of line: see the functions without "do" */
void smmuv3_accel_do_init_cmdqv(SMMUv3State *s);
void smmuv3_accel_do_reset(SMMUv3State *s);
void smmuv3_accel_do_cr0(SMMUv3State *s);
void smmuv3_accel_do_gbpa(SMMUv3State *s);
void smmuv3_accel_do_eventq_cons(SMMUv3State *s);
void smmuv3_accel_do_read(SMMUv3State *s, hwaddr offset);
bool smmuv3_accel_do_write_begin(SMMUv3State *s, hwaddr offset, unsigned size,
                                 uint64_t value);
void smmuv3_accel_do_write_end(SMMUv3State *s, hwaddr offset);
void smmuv3_accel_do_publish_causes(SMMUv3State *s);
bool smmuv3_accel_do_drain_begin(SMMUv3State *s);
unsigned smmuv3_accel_do_drain_end(SMMUv3State *s, unsigned error);

/**
 * smmuv3_accel_init_cmdqv: create the command queues that the guest owns
 * @s: has its own region and interrupts
 *
 * If smmuv3_has_cmdqv(), adds one more region and one more interrupt to the
 * sysbus device.
 */
static inline void smmuv3_accel_init_cmdqv(SMMUv3State *s)
{
    if (s->accel) {
        smmuv3_accel_do_init_cmdqv(s);
    }
}

/*
 * Registers
 */

/**
 * smmuv3_accel_reset: continue a reset
 * @s: its registers have the reset values of an emulated SMMU
 *
 * Writes what the host can do into the ID registers.  The first call fixes
 * their values for good.  Attaches all streams to what the registers say.
 */
static inline void smmuv3_accel_reset(SMMUv3State *s)
{
    if (s->accel) {
        smmuv3_accel_do_reset(s);
    }
}

/**
 * smmuv3_accel_cr0: the guest has written CR0
 * @s: with the new value in its register
 *
 * SMMUEN decides where streams are attached.  EVENTQEN decides whether the host
 * keeps events (IHI 0070 6.3.9).  If the host is slow, CR0ACK keeps the old
 * SMMUEN until all streams have moved.
 */
static inline void smmuv3_accel_cr0(SMMUv3State *s)
{
    if (s->accel) {
        smmuv3_accel_do_cr0(s);
    }
}

/**
 * smmuv3_accel_gbpa: the guest has written GBPA with UPDATE
 * @s: with the new value in its register
 *
 * GBPA.ABORT decides where streams are attached while SMMUEN is 0 (IHI 0070
 * 6.3.14).  Else the new value takes effect when SMMUEN is cleared.  If the
 * host is slow, GBPA shows UPDATE until all streams have moved.
 */
static inline void smmuv3_accel_gbpa(SMMUv3State *s)
{
    if (s->accel) {
        smmuv3_accel_do_gbpa(s);
    }
}

/**
 * smmuv3_accel_eventq_cons: the guest has written EVENTQ_CONS
 * @s: with the new value in its register
 *
 * Resumes the host's events if a full queue has paused them.
 */
static inline void smmuv3_accel_eventq_cons(SMMUv3State *s)
{
    if (s->accel) {
        smmuv3_accel_do_eventq_cons(s);
    }
}

/**
 * smmuv3_accel_read: a read of a register has exited
 * @s: any SMMU
 * @offset: of the register in page 0, in bytes
 *
 * Counts it, for query-smmuv3.
 */
static inline void smmuv3_accel_read(SMMUv3State *s, hwaddr offset)
{
    if (s->accel) {
        smmuv3_accel_do_read(s, offset);
    }
}

/**
 * smmuv3_accel_write_begin: the guest writes a register
 * @s: before the write takes effect
 * @offset: of the register in page 0, in bytes
 * @size: of the write, in bytes
 * @value: what is written
 *
 * Returns: false if the write must be refused with an access error, because
 * the SMMU itself has issued it.  Else the caller must call
 * smmuv3_accel_write_end().
 */
static inline bool smmuv3_accel_write_begin(SMMUv3State *s, hwaddr offset,
                                            unsigned size, uint64_t value)
{
    return !s->accel || smmuv3_accel_do_write_begin(s, offset, size, value);
}

/**
 * smmuv3_accel_write_end: the write has taken effect
 * @s: as smmuv3_accel_write_begin()
 * @offset: likewise
 *
 * Publishes the registers, for a guest that reads them from memory.
 */
static inline void smmuv3_accel_write_end(SMMUv3State *s, hwaddr offset)
{
    if (s->accel) {
        smmuv3_accel_do_write_end(s, offset);
    }
}

/**
 * smmuv3_accel_publish_causes: an interrupt may be signalled next
 * @s: with its cause in CMDQ_CONS or GERROR
 *
 * A cause must be visible before its signal (IHI 0070 3.18).
 */
static inline void smmuv3_accel_publish_causes(SMMUv3State *s)
{
    if (s->accel) {
        smmuv3_accel_do_publish_causes(s);
    }
}

/*
 * Queues
 */

/**
 * smmuv3_table_attrs: how to access Stream Tables and queues
 * @s: any SMMU
 *
 * With accel=on they have to be in memory, or in a BAR that VFIO maps.  A guest
 * could place them in a device's registers instead, and an access there can do
 * anything.  It could unplug the device whose stream QEMU is working on.
 */
static inline MemTxAttrs smmuv3_table_attrs(SMMUv3State *s)
{
    return s->accel ? (MemTxAttrs) { .memory = 1 } : MEMTXATTRS_UNSPECIFIED;
}

/**
 * smmuv3_accel_drain_begin: the command queue is about to be drained
 * @s: with CMDQEN set
 *
 * Returns: false if the caller must not drain the queue, because a drain is
 * running already or the main loop will drain it.
 */
static inline bool smmuv3_accel_drain_begin(SMMUv3State *s)
{
    return !s->accel || smmuv3_accel_do_drain_begin(s);
}

/**
 * smmuv3_accel_drain_next: carry out commands up to one that QEMU must see
 * @s: drained; its queue is not empty
 * @cmd: set to that command, at which CMDQ_CONS stands
 * @error: set to a value for CMDQ_CONS.ERR (IHI 0070 7.1), or 0
 *
 * Forwards commands to the host, moves the streams that they concern, and
 * completes each CMD_SYNC (IHI 0070 4.3 to 4.7).  CMDQ_CONS moves over each
 * CMD_SYNC, and over commands for QEMU's own caches alone while these are
 * empty.
 *
 * Returns: true if the caller has to carry out @cmd on QEMU's own caches and by
 * QEMU's own rules.  Its effect on streams is complete.  Its effect on the host
 * may wait for the next flush.  False if the drain ends: the queue is empty,
 * the time is up and the main loop continues, or @error is set.  With an error
 * CMDQ_CONS is at the command that caused it, and @cmd is set if that could be
 * read.
 */
bool smmuv3_accel_drain_next(SMMUv3State *s, struct Cmd *cmd, unsigned *error);

/**
 * smmuv3_accel_drain_end: a drain ends
 * @s: drained
 * @error: that ended it, a value for CMDQ_CONS.ERR, or 0
 *
 * Forwards what waits, and publishes CMDQ_CONS.
 *
 * Returns: @error, or the error of a command that has waited.  CMDQ_CONS is at
 * that command then.
 */
static inline unsigned smmuv3_accel_drain_end(SMMUv3State *s, unsigned error)
{
    return s->accel ? smmuv3_accel_do_drain_end(s, error) : error;
}

/**
 * smmuv3_accel_write_event: record an event of QEMU's own
 * @s: with EVENTQEN set
 * @evt: the record, its words in host endianness
 *
 * A full queue sets EVENTQ_PROD.OVFLG instead (IHI 0070 7.4).
 *
 * Returns: an error if the queue is not in memory that can be written.
 */
MemTxResult smmuv3_accel_write_event(SMMUv3State *s, const struct Evt *evt);

#endif
