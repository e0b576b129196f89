/*
 * Accelerated SMMUv3: what a stream is to be attached to
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "smmuv3-accel-policy.h"

#define STE_FIELD(word, field)  (((word) & (field)) >> ctz64(field))

static SMMUv3AccelDecision abort_for(SMMUv3AccelFault fault)
{
    return (SMMUv3AccelDecision) {
        .action = SMMUV3_ACCEL_ABORT,
        .fault = fault,
        .ste = { STE0_V | ((uint64_t)STE_CONFIG_ABORT << 1), 0 },
    };
}

static SMMUv3AccelDecision bypass(void)
{
    return (SMMUv3AccelDecision) {
        .action = SMMUV3_ACCEL_BYPASS,
        .ste = { STE0_V | ((uint64_t)STE_CONFIG_BYPASS << 1), 0 },
    };
}

/* IHI 0070 5.2, the stage 1 fields of an STE whose Config is 0b101 */
static SMMUv3AccelDecision stage1(const uint64_t ste[2],
                                  const SMMUv3AccelTraits *traits)
{
    unsigned cdmax = STE_FIELD(ste[0], STE0_S1CDMAX);
    unsigned fmt = STE_FIELD(ste[0], STE0_S1FMT);
    unsigned dss = STE_FIELD(ste[1], STE1_S1DSS);
    SMMUv3AccelDecision d = { .action = SMMUV3_ACCEL_TRANSLATE };

    if (cdmax > traits->ssidsize) {
        return abort_for(SMMUV3_ACCEL_FAULT_BAD_STE);
    }
    /* S1Fmt and S1DSS are ignored where there is a single CD */
    if (cdmax && (fmt == 3 || (fmt && !traits->cd2l) || dss == 3)) {
        return abort_for(SMMUV3_ACCEL_FAULT_BAD_STE);
    }
    /* The guest's SMMU has no stalls, and its own walker refuses this too */
    if (ste[1] & STE1_S1STALLD) {
        return abort_for(SMMUV3_ACCEL_FAULT_BAD_STE);
    }

    d.ste[0] = ste[0] & STE0_HOST_MASK;
    d.ste[1] = ste[1] & STE1_HOST_MASK;
    if (!cdmax) {
        d.ste[0] &= ~STE0_S1FMT;
        d.ste[1] &= ~STE1_S1DSS;
    }
    /*
     * Full ATS or none: the host takes nothing else.  0b10 (split-stage ATS)
     * belongs to an STE that has a stage 2, which a guest's never has.
     */
    if (!traits->ats || STE_FIELD(ste[1], STE1_EATS) != STE_EATS_FULL) {
        d.ste[1] &= ~STE1_EATS;
    }
    /*
     * A guest that sets CD.S would stall transactions in the physical SMMU,
     * and nobody would ever resume them.  S1STALLD makes such a CD ILLEGAL,
     * as the guest's own IDR0 has it.
     */
    if (traits->host_may_stall) {
        d.ste[1] |= STE1_S1STALLD;
    }
    return d;
}

SMMUv3AccelDecision smmuv3_accel_decide_disabled(bool abort)
{
    return abort ? abort_for(SMMUV3_ACCEL_FAULT_NONE) : bypass();
}

SMMUv3AccelDecision smmuv3_accel_decide(const SMMUv3AccelInputs *in,
                                        const SMMUv3AccelTraits *traits)
{
    unsigned config;

    if (!in->smmuen) {
        return smmuv3_accel_decide_disabled(in->gbpa_abort);
    }

    switch (in->ste_status) {
    case SMMUV3_ACCEL_STE_READ:
        break;
    case SMMUV3_ACCEL_STE_ABSENT:
        return abort_for(SMMUV3_ACCEL_FAULT_BAD_STREAMID);
    case SMMUV3_ACCEL_STE_UNREADABLE:
    default:
        return abort_for(SMMUV3_ACCEL_FAULT_STE_FETCH);
    }

    /*
     * V=0 is how a guest takes an STE down before it writes another: no event
     * until a transaction comes, and that one the host cannot tell us of.
     */
    if (!(in->ste[0] & STE0_V)) {
        return abort_for(SMMUV3_ACCEL_FAULT_NONE);
    }

    config = STE_FIELD(in->ste[0], STE0_CONFIG);
    if (!(config & 4)) {
        return abort_for(SMMUV3_ACCEL_FAULT_NONE);
    }
    if (config == STE_CONFIG_BYPASS) {
        return bypass();
    }
    if (config == STE_CONFIG_S1) {
        return stage1(in->ste, traits);
    }
    /* A stage 2 of the guest's own: its IDR0.S2P is 0 */
    return abort_for(SMMUV3_ACCEL_FAULT_BAD_STE);
}

const char *smmuv3_accel_action_name(SMMUv3AccelAction action)
{
    switch (action) {
    case SMMUV3_ACCEL_BYPASS:
        return "bypass";
    case SMMUV3_ACCEL_TRANSLATE:
        return "translate";
    default:
        return "abort";
    }
}
