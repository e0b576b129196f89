/*
 * Host model: physical SMMUs by name
 *
 * What hosts report in their ID registers, as far as the model implements it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "smmu-internal.h"

enum { OAS_32 = 0, OAS_40 = 2, OAS_48 = 5, OAS_52 = 6 };

typedef struct Profile {
    const char *name;
    /* What differs from grace */
    uint32_t idr0_clear, idr0_set, idr3_clear, idr3_set, idr5_clear, idr5_set;
    uint32_t idr1;                      /* 0: grace's */
    bool incoherent;
    bool canwbs;
    bool httu_update;
    bool repeat;
    bool cmdqv;                         /* version 1, 64 VINTFs with 2 VCMDQs
                                           and 16 StreamIDs each */
    uint32_t iidr;
    uint8_t aidr;                       /* minor version; 0: 2 */
} Profile;

#define GRACE_IDR0 (IDR0_S2P | IDR0_S1P | IDR0_TTF_AA64 | IDR0_COHACC | \
                    IDR0_HTTU(1) | IDR0_ATS | IDR0_ASID16 | IDR0_MSI | \
                    IDR0_VMID16 | IDR0_CD2L | IDR0_TTENDIAN_LE | \
                    IDR0_NO_STALL | IDR0_TERM_MODEL | IDR0_ST_2LVL)
/* SIDSIZE 32, SSIDSIZE 20, 2^16 entries in the PRI queue, 2^19 in the others */
#define GRACE_IDR1 (32u | 20u << 6 | 16u << 11 | 19u << 16 | 19u << 21 | \
                    IDR1_ATTR_PERMS_OVR | IDR1_ATTR_TYPES_OVR)
#define GRACE_IDR3 (IDR3_HAD | IDR3_FWB | IDR3_RIL | IDR3_BBML2)
#define GRACE_IDR5 (IDR5_GRAN4K | IDR5_GRAN16K | IDR5_GRAN64K | OAS_48)

static const Profile profiles[] = {
    /* NVIDIA's.  HTTU is only the access flag here. */
    { "grace", .httu_update = true, .iidr = 0x0000036b },
    /* The same with its CMDQV */
    { "grace-cmdqv", .cmdqv = true, .httu_update = true, .iidr = 0x0000036b },
    /* HiSilicon's: coherent by CANWBS */
    { "kunpeng", .idr0_clear = IDR0_HTTU(3u), .canwbs = true,
      .idr3_clear = IDR3_FWB | IDR3_RIL | IDR3_BBML2,
      .idr5_clear = IDR5_GRAN16K, .iidr = 0x00000736 },
    /*
     * Arm's Neoverse reference designs: MMU-700 r1p1, with EL2, stalls and
     * dirty state
     */
    { "neoverse", .idr0_clear = IDR0_HTTU(3u) | IDR0_NO_STALL | IDR0_TERM_MODEL,
      .idr0_set = IDR0_HTTU(2u) | IDR0_HYP | IDR0_PRI, .idr3_set = IDR3_STT,
      .httu_update = true, .iidr = 0x4871143b },
    /* 52 bits.  Tables of 4K and 16K have 48 all the same: smmu-walk.c */
    { "lpa2", .idr3_set = IDR3_STT, .idr5_clear = OAS_48,
      .idr5_set = OAS_52 | IDR5_DS | IDR5_VAX_52_BITS, .httu_update = true,
      .aidr = 4 },
    /* The least that Linux can nest on, for PCIe (16.4): SIDSIZE is 16. */
    { "minimal", .idr0_clear = IDR0_HTTU(3u) | IDR0_ATS | IDR0_ASID16 |
                               IDR0_MSI | IDR0_VMID16 | IDR0_CD2L,
      .idr1 = 16u | 7u << 16 | 8u << 21, .idr3_clear = UINT32_MAX,
      .idr5_clear = IDR5_GRAN16K | IDR5_GRAN64K | OAS_48, .idr5_set = OAS_40,
      .canwbs = true, .aidr = 1 },
    /* Linux reports dirty tracking if HTTU has dirty state. */
    { "httu", .idr0_clear = IDR0_HTTU(3u), .idr0_set = IDR0_HTTU(2u),
      .httu_update = true },
    { "no16k", .idr5_clear = IDR5_GRAN16K, .httu_update = true },
    { "noril", .idr3_clear = IDR3_RIL, .httu_update = true },
    { "oas32", .idr5_clear = OAS_48, .httu_update = true },
    { "asid8", .idr0_clear = IDR0_ASID16, .httu_update = true },
    /* NVIDIA's with erratum T264-SMMU-3 */
    { "tegra264", .repeat = true, .httu_update = true },
    { "nocoherent", .idr0_clear = IDR0_COHACC, .incoherent = true,
      .httu_update = true },
    /* Nesting is impossible */
    { "onestage", .idr0_clear = IDR0_S2P | IDR0_VMID16, .idr3_clear = IDR3_FWB,
      .httu_update = true },
    { "nofwb", .idr3_clear = IDR3_FWB, .httu_update = true },
};

bool hm_smmu_profile(const char *name, HmSmmuConfig *out)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(profiles); i++) {
        const Profile *p = &profiles[i];

        if (strcmp(p->name, name)) {
            continue;
        }
        *out = (HmSmmuConfig) {
            .idr = {
                (GRACE_IDR0 & ~p->idr0_clear) | p->idr0_set,
                p->idr1 ? p->idr1 : GRACE_IDR1,
                0,
                (GRACE_IDR3 & ~p->idr3_clear) | p->idr3_set,
                0,
                (GRACE_IDR5 & ~p->idr5_clear) | p->idr5_set,
            },
            .iidr = p->iidr,
            .aidr = p->aidr ? p->aidr : 2,      /* SMMUv3.2 */
            .coherent = !p->incoherent,
            .canwbs = p->canwbs,
            .repeat = p->repeat,
            .httu_update = p->httu_update,
            .cmdqv = p->cmdqv,
            .cmdqv_vintfs = 6,
            .cmdqv_vcmdqs = 1,
            .cmdqv_sids = 4,
        };
        return true;
    }
    return false;
}
