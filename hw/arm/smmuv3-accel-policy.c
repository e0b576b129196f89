/*
 * Accelerated SMMUv3: what a stream is attached to
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From SMMUEN, GBPA and the fields of an STE to abort, bypass or translate.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "smmuv3-accel-policy.h"

static uint64_t plain_ste(unsigned config)
{
    return FIELD_DP64(R_STE0_V_MASK, STE0, CONFIG, config);
}

static SMMUv3AccelDecision abort_for(SMMUv3AccelFault fault)
{
    return (SMMUv3AccelDecision) {
        .action = SMMUV3_ACCEL_ABORT,
        .fault = fault,
        .ste = { plain_ste(STE_CONFIG_ABORT), 0 },
    };
}

static SMMUv3AccelDecision bypass(void)
{
    return (SMMUv3AccelDecision) {
        .action = SMMUV3_ACCEL_BYPASS,
        .ste = { plain_ste(STE_CONFIG_BYPASS), 0 },
    };
}

/* A field of two bits in which 3 is reserved and acts as 0 */
static unsigned without_3(unsigned value)
{
    return value == 3 ? 0 : value;
}

/*
 * IHI 0070 5.2, the stage 1 fields of an STE whose Config is 0b101.  Fields
 * that the guest's SMMU ignores become 0 for the host, which may not ignore
 * them: S1CDMax without SubstreamIDs, S1Fmt and S1DSS with a single CD, EATS
 * without ATS.  EATS=2, split-stage ATS, is ILLEGAL without a stage 2.
 */
static SMMUv3AccelDecision stage1(const uint64_t ste[2],
                                  const SMMUv3AccelSTERules *rules)
{
    unsigned cdmax = rules->ssidsize ? FIELD_EX64(ste[0], STE0, S1CDMAX) : 0;
    unsigned fmt = cdmax ? without_3(FIELD_EX64(ste[0], STE0, S1FMT)) : 0;
    unsigned dss = cdmax ? without_3(FIELD_EX64(ste[1], STE1, S1DSS)) : 0;
    unsigned eats = rules->ats ? without_3(FIELD_EX64(ste[1], STE1, EATS)) : 0;
    SMMUv3AccelDecision d = { .action = SMMUV3_ACCEL_TRANSLATE };

    if (cdmax > rules->ssidsize || (fmt && !rules->cd2l) ||
        eats > STE_EATS_FULL) {
        return abort_for(SMMUV3_ACCEL_FAULT_BAD_STE);
    }
    /* The guest's SMMU has no stalls; QEMU's own walker rejects this too */
    if (FIELD_EX64(ste[1], STE1, S1STALLD)) {
        return abort_for(SMMUV3_ACCEL_FAULT_BAD_STE);
    }

    d.ste[0] = ste[0] & STE0_HOST_MASK;
    d.ste[0] = FIELD_DP64(d.ste[0], STE0, S1CDMAX, cdmax);
    d.ste[0] = FIELD_DP64(d.ste[0], STE0, S1FMT, fmt);
    d.ste[1] = ste[1] & STE1_HOST_MASK;
    d.ste[1] = FIELD_DP64(d.ste[1], STE1, S1DSS, dss);
    d.ste[1] = FIELD_DP64(d.ste[1], STE1, EATS, eats);
    /*
     * If the guest sets CD.S the physical SMMU would stall transactions, and
     * nothing would ever resume them.  S1STALLD makes such a CD ILLEGAL, which
     * agrees with the guest's IDR0.
     */
    if (rules->host_may_stall) {
        d.ste[1] |= R_STE1_S1STALLD_MASK;
    }
    return d;
}

SMMUv3AccelDecision smmuv3_accel_decide_disabled(bool abort)
{
    return abort ? abort_for(SMMUV3_ACCEL_FAULT_NONE) : bypass();
}

SMMUv3AccelDecision smmuv3_accel_decide(const SMMUv3AccelInputs *in,
                                        const SMMUv3AccelSTERules *rules)
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
     * A guest clears V before it writes another STE.  That is no error.  A
     * transaction while V is 0 is an error, but the host does not report it.
     */
    if (!FIELD_EX64(in->ste[0], STE0, V)) {
        return abort_for(SMMUV3_ACCEL_FAULT_NONE);
    }

    config = FIELD_EX64(in->ste[0], STE0, CONFIG);
    if (!(config & 4)) {
        return abort_for(SMMUV3_ACCEL_FAULT_NONE);
    }
    if (config == STE_CONFIG_BYPASS) {
        return bypass();
    }
    if (config == STE_CONFIG_S1) {
        return stage1(in->ste, rules);
    }
    /* The guest has no stage 2: its IDR0.S2P is 0 */
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
