/*
 * Accelerated SMMUv3: what is counted
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Counters that query-smmuv3 reports.  They count from the creation of the
 * SMMU on, and a reset changes none.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_STATS_H
#define HW_ARM_SMMUV3_ACCEL_STATS_H

#include "qemu/host-utils.h"
#include "qemu/stats64.h"

/*
 * A histogram with a bin for each power of two: bin 0 counts values of 0, bin i
 * those from 2^(i-1) on and below 2^i.  The last one has no upper bound.
 */
#define SMMUV3_ACCEL_BINS 24

static inline unsigned smmuv3_accel_bin(uint64_t value)
{
    return MIN(64 - clz64(value), SMMUV3_ACCEL_BINS - 1);
}

/* An access that has exited to QEMU, by register */
typedef enum SMMUv3AccelExit {
    SMMUV3_EXIT_CMDQ_PROD,
    SMMUV3_EXIT_CMDQ_CONS,
    SMMUV3_EXIT_EVENTQ_PROD,
    SMMUV3_EXIT_EVENTQ_CONS,
    SMMUV3_EXIT_OTHER,
    SMMUV3_EXIT_VCMDQ_PROD,
    SMMUV3_EXIT_VCMDQ_CONS,
    SMMUV3_EXIT_CMDQV_OTHER,
    SMMUV3_EXIT__MAX,
} SMMUv3AccelExit;

/* Counted with the BQL held */
typedef struct SMMUv3AccelStats {
    uint64_t command[0x100];                /* by opcode */
    uint64_t event[0x100];                  /* by type */
    uint64_t read[SMMUV3_EXIT__MAX];
    uint64_t write[SMMUV3_EXIT__MAX];
    uint64_t drain_us[SMMUV3_ACCEL_BINS];
    uint64_t overflows;
    uint64_t events_lost;
    uint64_t retries;
    uint64_t jobs;
} SMMUv3AccelStats;

/* Counted by the thread that calls a slow host too */
typedef struct SMMUv3AccelCalls {
    Stat64 length[SMMUV3_ACCEL_BINS];       /* calls by number of commands */
    Stat64 errors;
    Stat64 everything;
} SMMUv3AccelCalls;

#endif
