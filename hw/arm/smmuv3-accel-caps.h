/*
 * Accelerated SMMUv3: what the guest's ID registers say
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The physical SMMUv3 walks a guest's stage 1, so the guest must never see a
 * capability that the host lacks.  Each capability here is a number in one
 * field of one ID register, and more is better.  The guest gets the least of
 * what QEMU models, what the user asked for and what each host SMMUv3 has.
 * ATS is a question for each device: the guest's SMMU has it if one device has.
 * The values are frozen when the guest may have read them.  Later devices are
 * checked against them.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_CAPS_H
#define HW_ARM_SMMUV3_ACCEL_CAPS_H

#include "qapi/qapi-types-common.h"
#include "smmuv3-accel-cmd-table.h"
#include "smmuv3-accel-host.h"
#include "smmuv3-accel-policy.h"

typedef enum SMMUv3AccelCap {
    SMMUV3_CAP_ATS,         /* IDR0.ATS */
    SMMUV3_CAP_ASID16,      /* IDR0.ASID16 */
    SMMUV3_CAP_CD2L,        /* IDR0.CD2L */
    SMMUV3_CAP_SSIDSIZE,    /* IDR1.SSIDSIZE, in bits */
    SMMUV3_CAP_RIL,         /* IDR3.RIL */
    SMMUV3_CAP_BBML,        /* IDR3.BBML */
    SMMUV3_CAP_OAS,         /* IDR5.OAS, the field's encoding */
    SMMUV3_CAP_GRAN4K,      /* IDR5.GRAN4K */
    SMMUV3_CAP_GRAN16K,     /* IDR5.GRAN16K */
    SMMUV3_CAP_GRAN64K,     /* IDR5.GRAN64K */
    SMMUV3_CAP_DS,          /* IDR5.DS */
    SMMUV3_CAP_VAX,         /* IDR5.VAX: 0 is 48 bits, 1 is 52 */
    SMMUV3_CAP__MAX,
} SMMUv3AccelCap;

/* What the user asks for; a default of each property is auto */
typedef struct SMMUv3AccelWishes {
    OnOffAuto ats, ril;
    unsigned oas;               /* in bits, or 0 for auto */
    int ssidsize;               /* in bits, or -1 for auto */
} SMMUv3AccelWishes;

/* Why the guest gets a value */
typedef enum SMMUv3AccelCapReason {
    SMMUV3_CAP_BY_MODEL,
    SMMUV3_CAP_BY_PROPERTY,
    SMMUV3_CAP_BY_HOST,
    SMMUV3_CAP_BY_BASELINE,
    SMMUV3_CAP_BY_DEPENDENCY,   /* on another capability, which is absent */
} SMMUv3AccelCapReason;

typedef struct SMMUv3AccelCaps {
    uint8_t value[SMMUV3_CAP__MAX];     /* what the guest gets */
    SMMUv3AccelCapReason reason[SMMUV3_CAP__MAX];
    uint8_t need[SMMUV3_CAP__MAX];      /* what the user insists on */
    bool any_ats;                       /* ATS if one device has it */
    bool seen_host;                     /* they account for some host */
    bool frozen;                        /* the guest may have read them */
} SMMUv3AccelCaps;

/**
 * smmuv3_accel_caps_init: start from what the user asked for
 * @caps: filled
 * @wishes: on or a number requires at least that of each host and shows the
 *          guest just that; off hides it; auto does as the hosts
 *
 * ats=on requires it of no device: a guest sees at each device whether it has
 * ATS.
 */
void smmuv3_accel_caps_init(SMMUv3AccelCaps *caps,
                            const SMMUv3AccelWishes *wishes);

/**
 * smmuv3_accel_caps_add_host: take a host SMMUv3 into account
 * @caps: lowered to what @host has; if frozen, only checked
 * @host: what is known of the physical SMMUv3
 * @errp: names each field that does not fit, and the remedy
 *
 * IHI 0070 6.3.1 to 6.3.6 (IDR0 to IDR5).  An output address of the guest's
 * stage 1 is an input address of the host's stage 2.  So the guest's IDR5.OAS
 * is bounded by what the IOAS maps, and not by the host's IDR5.OAS.
 *
 * Returns: false, with @caps unchanged, if the host lacks what the user
 * requires, what the guest has already seen, or what QEMU's model fixes.
 */
bool smmuv3_accel_caps_add_host(SMMUv3AccelCaps *caps,
                                const SMMUv3HostInfo *host, Error **errp);

/**
 * smmuv3_accel_caps_freeze: fix what the guest is about to see
 * @caps: if there was no host so far, they become the safe baseline, which
 *        every host SMMUv3 that can nest should have
 *
 * Leaves out what may not be there without something else (IHI 0070 2.4, 2.9
 * and 6.3.6): DS without VAX, RIL and BBML; VAX, and an OAS of 52 bits, without
 * a 64K granule or DS.  Does nothing the second time.
 */
void smmuv3_accel_caps_freeze(SMMUv3AccelCaps *caps);

/**
 * smmuv3_accel_caps_to_regs: write the capabilities into ID registers
 * @caps: the capabilities
 * @idr: IDR0 to IDR5 of an emulated SMMU with stage 1
 * @aidr: AIDR
 *
 * Writes the fields of SMMUv3AccelCap, and four that follow.  IDR0.MSI is 1,
 * because QEMU completes CMD_SYNCs.  IDR0.VMID16 is 0, because the guest has no
 * stage 2.  The host's kernel lets nobody read IDR3.HAD and AIDR, but an SMMU
 * has features of the next minor version at most (IHI 0070 2.9).  So one with
 * RIL or BBML, of version 3.2, is a 3.1 or later, and has HAD (2.4).  One with
 * DS, of version 3.4, is a 3.3 or later.
 */
void smmuv3_accel_caps_to_regs(const SMMUv3AccelCaps *caps, uint32_t idr[6],
                               uint32_t *aidr);

/* The field of an ID register, for example "IDR3.RIL" */
const char *smmuv3_accel_cap_field(SMMUv3AccelCap cap);

/* The property that asks for it, or NULL */
const char *smmuv3_accel_cap_property(SMMUv3AccelCap cap);

/* What the physical SMMUv3 has; not valid for SMMUV3_CAP_ATS */
unsigned smmuv3_accel_cap_of_host(const SMMUv3HostInfo *host,
                                  SMMUv3AccelCap cap);

/*
 * The rules that follow from the capabilities and from the host.  Without a
 * device @info is all 0, or that of the last host.
 */

/* What an STE may ask for; @ats says whether the device can use ATS */
SMMUv3AccelSTERules smmuv3_accel_ste_rules(const SMMUv3AccelCaps *caps,
                                           const SMMUv3HostInfo *info,
                                           bool ats);

/* What a command may hold; the caller adds CR0.SMMUEN */
SMMUv3AccelCmdRules smmuv3_accel_cmd_rules(const SMMUv3AccelCaps *caps,
                                           const SMMUv3HostInfo *info);

#endif
