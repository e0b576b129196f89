/*
 * Accelerated SMMUv3: what a stream is attached to
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A pure function from the guest's registers and its Stream Table Entry to one
 * of three attachments.  It has no I/O and no state.  Every edge that may move
 * a stream (CFGI_STE, CR0.SMMUEN, GBPA, reset, ...) calls it again.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_POLICY_H
#define HW_ARM_SMMUV3_ACCEL_POLICY_H

#include "hw/registerfields.h"

/*
 * The STE fields that a nested HWPT takes, in the STE's first two 64-bit words
 * (IHI 0070 5.2; linux/iommufd.h, struct iommu_hwpt_arm_smmuv3).  The host
 * refuses a HWPT with any other bit, but a guest's STE may have others set.
 */
FIELD(STE0, V, 0, 1)
FIELD(STE0, CONFIG, 1, 3)
FIELD(STE0, S1FMT, 4, 2)
FIELD(STE0, S1CONTEXTPTR, 6, 46)
FIELD(STE0, S1CDMAX, 59, 5)
#define STE0_HOST_MASK  (R_STE0_V_MASK | R_STE0_CONFIG_MASK | \
                         R_STE0_S1FMT_MASK | R_STE0_S1CONTEXTPTR_MASK | \
                         R_STE0_S1CDMAX_MASK)

FIELD(STE1, S1DSS, 0, 2)
FIELD(STE1, S1CIR, 2, 2)
FIELD(STE1, S1COR, 4, 2)
FIELD(STE1, S1CSH, 6, 2)
FIELD(STE1, S1STALLD, 27, 1)
FIELD(STE1, EATS, 28, 2)
#define STE1_HOST_MASK  (R_STE1_S1DSS_MASK | R_STE1_S1CIR_MASK | \
                         R_STE1_S1COR_MASK | R_STE1_S1CSH_MASK | \
                         R_STE1_S1STALLD_MASK | R_STE1_EATS_MASK)

/* Values of STE.Config (IHI 0070 5.2): every 0b0xx means abort */
enum {
    STE_CONFIG_ABORT  = 0,
    STE_CONFIG_BYPASS = 4,
    STE_CONFIG_S1     = 5,
};

/* Value of STE.EATS: ATS requests and translated transactions pass */
#define STE_EATS_FULL 1

/* Result of reading a stream's STE */
typedef enum SMMUv3AccelSTEStatus {
    /* The words are the guest's */
    SMMUV3_ACCEL_STE_READ,
    /* StreamID beyond the table, or beyond its level-1 descriptor's span */
    SMMUV3_ACCEL_STE_ABSENT,
    /* The table is not in memory that can be read */
    SMMUV3_ACCEL_STE_UNREADABLE,
} SMMUv3AccelSTEStatus;

typedef enum SMMUv3AccelAction {
    SMMUV3_ACCEL_ABORT,
    SMMUV3_ACCEL_BYPASS,
    SMMUV3_ACCEL_TRANSLATE,
} SMMUv3AccelAction;

/* Why a stream aborts, if the architecture records an event for it */
typedef enum SMMUv3AccelFault {
    SMMUV3_ACCEL_FAULT_NONE,
    SMMUV3_ACCEL_FAULT_BAD_STREAMID,    /* C_BAD_STREAMID, IHI 0070 7.3.3 */
    SMMUV3_ACCEL_FAULT_STE_FETCH,       /* F_STE_FETCH, IHI 0070 7.3.4 */
    SMMUV3_ACCEL_FAULT_BAD_STE,         /* C_BAD_STE, IHI 0070 7.3.5 */
} SMMUv3AccelFault;

/* The guest's registers and tables, from which the decision follows */
typedef struct SMMUv3AccelInputs {
    bool smmuen;                    /* CR0.SMMUEN */
    bool gbpa_abort;                /* GBPA.ABORT */
    SMMUv3AccelSTEStatus ste_status;
    uint64_t ste[2];                /* host endian; valid if STE_READ */
} SMMUv3AccelInputs;

/*
 * What an STE may ask for according to the ID registers of guest and host;
 * smmuv3_accel_ste_rules() makes it
 */
typedef struct SMMUv3AccelSTERules {
    uint8_t ssidsize;               /* IDR1.SSIDSIZE, bits */
    bool cd2l;                      /* IDR0.CD2L */
    bool ats;                       /* IDR0.ATS */
    /*
     * The physical SMMU may stall a faulting transaction: IDR0.STALL_MODEL is
     * 0b00 in the host and 0b01 in the guest.
     */
    bool host_may_stall;
} SMMUv3AccelSTERules;

typedef struct SMMUv3AccelDecision {
    SMMUv3AccelAction action;
    SMMUv3AccelFault fault;
    /* Nested HWPT data, host endian, no bit outside STE[01]_HOST_MASK */
    uint64_t ste[2];
} SMMUv3AccelDecision;

/**
 * smmuv3_accel_decide: what a stream is attached to
 * @in: the guest's registers, and the result of the fetch of its STE
 * @rules: what an STE may ask for
 *
 * IHI 0070 3.11 (SMMUEN, GBPA), 5.2 (STE), 5.5 (fault configuration).  A stream
 * aborts if its STE cannot be read, or asks for a feature that the guest's SMMU
 * does not have.
 *
 * Returns: the decision.  Equal inputs give equal decisions, word by word.  So
 * a caller may compare decisions to find out whether a stream has to move.
 */
SMMUv3AccelDecision smmuv3_accel_decide(const SMMUv3AccelInputs *in,
                                        const SMMUv3AccelSTERules *rules);

/**
 * smmuv3_accel_decide_disabled: what a stream is attached to without SMMUEN
 * @abort: GBPA.ABORT
 *
 * A parked stream is attached there too: an abort needs no STE and no vDEVICE.
 */
SMMUv3AccelDecision smmuv3_accel_decide_disabled(bool abort);

/**
 * smmuv3_accel_decision_equal: does @a ask for the same attachment as @b?
 * @a: a decision
 * @b: another
 *
 * The fault is not compared: it concerns the guest alone.
 */
static inline bool smmuv3_accel_decision_equal(const SMMUv3AccelDecision *a,
                                               const SMMUv3AccelDecision *b)
{
    return a->action == b->action && a->ste[0] == b->ste[0] &&
           a->ste[1] == b->ste[1];
}

/* Name of @action for traces and errors, never NULL */
const char *smmuv3_accel_action_name(SMMUv3AccelAction action);

#endif
