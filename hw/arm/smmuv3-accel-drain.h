/*
 * Accelerated SMMUv3: the drain of a command queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * All functions are called with the BQL held, for an SMMU with accel=on.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_DRAIN_H
#define HW_ARM_SMMUV3_ACCEL_DRAIN_H

#include "system/runstate.h"
#include "smmuv3-internal.h"

/* What commands since the last CMD_SYNC invalidate: a set of bits */
#define SMMUV3_ACCEL_INVALIDATED_TLB    1u      /* or a device's */
#define SMMUV3_ACCEL_INVALIDATED_CONFIG 2u

/* A command queue of the guest: the SMMU's own, or a VCMDQ */
typedef struct SMMUv3AccelQueue {
    SMMUQueue *q;
    SMMUCmdError sync_error;    /* to be reported at the next CMD_SYNC */
    SMMUCmdError error;         /* to be reported at CONS next */
    unsigned invalidated;       /* SMMUV3_ACCEL_INVALIDATED_* */
    bool used;                  /* there were commands in it */
} SMMUv3AccelQueue;

/* Commands that QEMU reads from the guest's queue at once */
#define SMMUV3_ACCEL_READ_AHEAD 64

/* The drain of a command queue, one at a time */
typedef struct SMMUv3AccelDrain {
    QEMUBH *bh;                 /* continues the drain in the main loop */
    VMChangeStateEntry *vm_state;
    bool in_bh;
    bool running;
    SMMUv3AccelQueue *queue;    /* the last one that was drained */
    int64_t start;              /* ns */
    uint32_t first;             /* its CONS at that time */
    bool worked;                /* a command did more than enter the batch */
    unsigned n;                 /* commands since the last look at the clock */

    /* Each slot is read once: a CMD_SYNC's message may overwrite its slot */
    unsigned next, n_read;
    uint64_t cmd[SMMUV3_ACCEL_READ_AHEAD][2];   /* host endian */
    bool no_cache;              /* QEMU caches nothing that is older */
} SMMUv3AccelDrain;

void smmuv3_accel_drain_realize(SMMUv3State *s);
void smmuv3_accel_drain_unrealize(SMMUv3State *s);

/**
 * smmuv3_accel_flush: have the host carry out what the drain has collected
 * @s: a drain is running; the batch is empty afterwards
 *
 * If the host is slow, a thread makes the call, and smmuv3_accel_busy() says
 * so.  Then CONS is at the first of these commands.  The caller must end the
 * drain, without CONS moved; it will continue with the present command.
 *
 * Returns: an error for CONS.ERR, with CONS at the illegal command.
 */
SMMUCmdError smmuv3_accel_flush(SMMUv3State *s);

/* The same if the batch has no room for one command for each stream */
SMMUCmdError smmuv3_accel_make_room(SMMUv3State *s);

/* CONS of @queue is at @cons, an index with its wrap bit; ERR stays */
void smmuv3_accel_queue_set_cons(SMMUv3AccelQueue *queue, uint32_t cons);

/**
 * smmuv3_accel_queue_note: the host has been called for commands of a queue
 * @queue: theirs
 * @result: SMMUV3_ACCEL_FLUSH_*, as for smmuv3_accel_cmdq_note()
 * @cons: where CONS is from now on, if the host refuses that command
 */
void smmuv3_accel_queue_note(SMMUv3AccelQueue *queue, unsigned result,
                             uint32_t cons);

/* What happens to commands of @queue, which stops, no longer matters */
void smmuv3_accel_queue_reset(SMMUv3State *s, SMMUv3AccelQueue *queue);

/**
 * smmuv3_accel_drain_start: a queue is about to be drained
 * @s: its SMMU
 * @queue: enabled
 *
 * Returns: false if the caller must not drain it now: another drain is running,
 * or the main loop will drain it.
 */
bool smmuv3_accel_drain_start(SMMUv3State *s, SMMUv3AccelQueue *queue);

/**
 * smmuv3_accel_drain_fetch: the command at CONS
 * @s: a drain is running, and its queue is not empty
 * @words: set to the command, host endian; valid until the next call
 * @error: set to CERROR_ABT if the command cannot be read
 *
 * Returns: false with @error; or if the time is up, and the main loop will
 * continue.
 */
bool smmuv3_accel_drain_fetch(SMMUv3State *s, const uint64_t **words,
                              SMMUCmdError *error);

/* A command of type @type was carried out, or is in the batch */
void smmuv3_accel_drain_note(SMMUv3State *s, SMMUCommandType type);

/*
 * CONS moves over the command that was fetched last, which needs no more than
 * the host, and over those that differ from it in the address only
 */
void smmuv3_accel_drain_take_pages(SMMUv3State *s);

/**
 * smmuv3_accel_drain_stop: a drain ends
 * @s: a drain is running
 * @error: that ended it, a value for CONS.ERR, or 0
 *
 * Returns: @error, or the error of a command that has waited, with CONS at it.
 */
SMMUCmdError smmuv3_accel_drain_stop(SMMUv3State *s, SMMUCmdError error);

#endif
