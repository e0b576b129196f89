/*
 * Accelerated SMMUv3: what the guest's ID registers say
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * IDR0 to IDR5 follow from the host, the user and QEMU's model.  The rules for
 * STEs and commands follow from them.  Of the host QEMU reads only the fields
 * that linux/iommufd.h names (struct iommu_hw_info_arm_smmuv3).
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qapi/error.h"
#include "hw/arm/smmuv3.h"
#include "smmuv3-accel-caps.h"
#include "smmuv3-internal.h"     /* the architecture's constants */

#define IDR_FIELD(_reg, _field) \
    .reg = _reg, \
    .shift = R_IDR ## _reg ## _ ## _field ## _SHIFT, \
    .length = R_IDR ## _reg ## _ ## _field ## _LENGTH

/*
 * @most is what a guest can be given.  @baseline is what is safe to promise
 * while no host is known: what is 0 there is optional for a host.  QEMU reads
 * the field of the host, except for ATS and OAS.
 */
static const struct {
    const char *field;
    uint8_t most, baseline;
    uint8_t reg, shift, length;
    const char *property;
} cap_table[SMMUV3_CAP__MAX] = {
    [SMMUV3_CAP_ATS]     = { "IDR0.ATS",     1, 0, IDR_FIELD(0, ATS), "ats" },
    [SMMUV3_CAP_ASID16]  = { "IDR0.ASID16",  1, 1, IDR_FIELD(0, ASID16) },
    [SMMUV3_CAP_CD2L]    = { "IDR0.CD2L",    1, 0, IDR_FIELD(0, CD2L) },
    [SMMUV3_CAP_SSIDSIZE] = {
        "IDR1.SSIDSIZE", 20, 0, IDR_FIELD(1, SSIDSIZE), "ssidsize"
    },
    [SMMUV3_CAP_RIL]     = { "IDR3.RIL",     1, 0, IDR_FIELD(3, RIL), "ril" },
    [SMMUV3_CAP_BBML]    = { "IDR3.BBML",    2, 0, IDR_FIELD(3, BBML) },
    [SMMUV3_CAP_OAS]     = { "IDR5.OAS",     6, 4, IDR_FIELD(5, OAS), "oas" },
    [SMMUV3_CAP_GRAN4K]  = { "IDR5.GRAN4K",  1, 1, IDR_FIELD(5, GRAN4K) },
    [SMMUV3_CAP_GRAN16K] = { "IDR5.GRAN16K", 1, 0, IDR_FIELD(5, GRAN16K) },
    [SMMUV3_CAP_GRAN64K] = { "IDR5.GRAN64K", 1, 1, IDR_FIELD(5, GRAN64K) },
    [SMMUV3_CAP_DS]      = { "IDR5.DS",      1, 0, IDR_FIELD(5, DS) },
    [SMMUV3_CAP_VAX]     = { "IDR5.VAX",     1, 0, IDR_FIELD(5, VAX) },
};

/* IDR0 fields in which more is not better */
enum { STALL_MODEL_BOTH, STALL_MODEL_NONE, STALL_MODEL_FORCED };
enum { TTENDIAN_MIXED = 0, TTENDIAN_LITTLE = 2 };

/* The largest OAS that @bits of an address allow; @bits is at least 32 */
static unsigned oas_of(unsigned bits)
{
    unsigned oas = cap_table[SMMUV3_CAP_OAS].most;

    while (oas && oas2bits(oas) > bits) {
        oas--;
    }
    return oas;
}

const char *smmuv3_accel_cap_field(SMMUv3AccelCap cap)
{
    return cap_table[cap].field;
}

const char *smmuv3_accel_cap_property(SMMUv3AccelCap cap)
{
    return cap_table[cap].property;
}

unsigned smmuv3_accel_cap_of_host(const SMMUv3HostInfo *host,
                                  SMMUv3AccelCap cap)
{
    if (cap == SMMUV3_CAP_OAS) {
        return oas_of(host->address_bits);
    }
    return extract32(host->idr[cap_table[cap].reg], cap_table[cap].shift,
                     cap_table[cap].length);
}

static unsigned stall_model(const SMMUv3HostInfo *host)
{
    return FIELD_EX32(host->idr[0], IDR0, STALL_MODEL);
}

/* The guest gets just @value of @cap, and each host must have that */
static void want(SMMUv3AccelCaps *caps, SMMUv3AccelCap cap, unsigned value)
{
    caps->value[cap] = value;
    caps->need[cap] = value;
    caps->reason[cap] = SMMUV3_CAP_BY_PROPERTY;
}

void smmuv3_accel_caps_init(SMMUv3AccelCaps *caps,
                            const SMMUv3AccelWishes *wishes)
{
    *caps = (SMMUv3AccelCaps) { .any_ats = wishes->ats == ON_OFF_AUTO_AUTO };
    for (int i = 0; i < SMMUV3_CAP__MAX; i++) {
        caps->value[i] = cap_table[i].most;
    }
    caps->value[SMMUV3_CAP_ATS] = wishes->ats == ON_OFF_AUTO_ON;
    caps->reason[SMMUV3_CAP_ATS] = caps->any_ats ? SMMUV3_CAP_BY_BASELINE :
                                                   SMMUV3_CAP_BY_PROPERTY;
    if (wishes->ril != ON_OFF_AUTO_AUTO) {
        want(caps, SMMUV3_CAP_RIL, wishes->ril == ON_OFF_AUTO_ON);
    }
    if (wishes->ssidsize >= 0) {
        want(caps, SMMUV3_CAP_SSIDSIZE, wishes->ssidsize);
    }
    if (wishes->oas) {
        want(caps, SMMUV3_CAP_OAS, oas_of(wishes->oas));
    }
}

/*
 * Does the host have what QEMU's model fixes for every guest?  Both stages and
 * coherent walks need no check: the host's kernel refuses to bind the device,
 * or to allocate a HWPT, on a host without them.
 */
static bool host_fits_model(const SMMUv3HostInfo *host, Error **errp)
{
    unsigned ttendian = FIELD_EX32(host->idr[0], IDR0, TTENDIAN);
    const char *lack = NULL;

    if (!(FIELD_EX32(host->idr[0], IDR0, TTF) & 2)) {
        lack = "AArch64 translation tables (IDR0.TTF)";
    } else if (ttendian != TTENDIAN_MIXED && ttendian != TTENDIAN_LITTLE) {
        lack = "little-endian translation tables (IDR0.TTENDIAN)";
    } else if (stall_model(host) != STALL_MODEL_BOTH &&
               stall_model(host) != STALL_MODEL_NONE) {
        lack = "the Terminate model for faults (IDR0.STALL_MODEL)";
    } else if (host->address_bits < oas2bits(0)) {
        lack = "a stage 2 for addresses of 32 bits (IOMMU_IOAS_IOVA_RANGES)";
    }
    if (lack) {
        error_setg(errp, "the host SMMUv3 does not have %s, on which an "
                   "accelerated SMMUv3 relies; assign the device without "
                   "accel=on", lack);
        return false;
    }
    return true;
}

/* Append to @faults that the host has less of @cap than the guest needs */
static void cap_fault(GString *faults, const SMMUv3AccelCaps *caps,
                      SMMUv3AccelCap cap, unsigned have, unsigned want)
{
    const char *prop = cap_table[cap].property;
    g_autofree char *remedy = NULL;

    if (cap == SMMUV3_CAP_OAS) {
        have = oas2bits(have);
        want = oas2bits(want);
    }
    if (caps->need[cap] && prop) {
        remedy = g_strdup_printf("use %s=auto", prop);
    } else if (prop) {
        remedy = g_strdup_printf("set %s on the SMMU to what the host has, or "
                                 "start QEMU with the device", prop);
    } else {
        remedy = g_strdup("start QEMU with the device, so that the guest is "
                          "told what its host has");
    }
    g_string_append_printf(faults, "%sthe host SMMUv3 has %s %u, the guest %s "
                           "%u; %s", faults->len ? "; and " : "",
                           cap_table[cap].field, have,
                           caps->frozen ? "was told" : "is to have", want,
                           remedy);
}

bool smmuv3_accel_caps_add_host(SMMUv3AccelCaps *caps,
                                const SMMUv3HostInfo *host, Error **errp)
{
    g_autoptr(GString) faults = g_string_new(NULL);
    SMMUv3AccelCaps met = *caps;

    if (!host_fits_model(host, errp)) {
        return false;
    }
    met.seen_host = true;
    if (caps->any_ats && !caps->frozen) {
        met.value[SMMUV3_CAP_ATS] |= host->ats;
        met.reason[SMMUV3_CAP_ATS] = SMMUV3_CAP_BY_HOST;
    }
    for (int i = 0; i < SMMUV3_CAP__MAX; i++) {
        unsigned have = smmuv3_accel_cap_of_host(host, i);
        unsigned least = caps->frozen ? caps->value[i] : caps->need[i];

        if (i == SMMUV3_CAP_ATS) {
            continue;       /* a host without it may have other devices */
        }
        if (have < least) {
            cap_fault(faults, caps, i, have, least);
        }
        if (!caps->frozen && have <= met.value[i] &&
            met.reason[i] != SMMUV3_CAP_BY_PROPERTY) {
            met.reason[i] = SMMUV3_CAP_BY_HOST;
        }
        met.value[i] = MIN(met.value[i], have);
    }
    if (faults->len) {
        error_setg(errp, "%s", faults->str);
        return false;
    }
    if (!met.value[SMMUV3_CAP_GRAN4K] && !met.value[SMMUV3_CAP_GRAN16K] &&
        !met.value[SMMUV3_CAP_GRAN64K]) {
        error_setg(errp, "the host SMMUv3 has no translation granule in common "
                   "with the guest's (IDR5); put the device behind an SMMU of "
                   "its own");
        return false;
    }
    *caps = met;
    return true;
}

/* IHI 0070 2.4, 2.9, 6.3.6: what a feature may not be without */
static void drop_dependent(SMMUv3AccelCaps *caps)
{
    SMMUv3AccelCaps before = *caps;
    uint8_t *value = caps->value;

    if (!value[SMMUV3_CAP_RIL] || !value[SMMUV3_CAP_BBML] ||
        !value[SMMUV3_CAP_VAX]) {
        value[SMMUV3_CAP_DS] = 0;
    }
    if (!value[SMMUV3_CAP_GRAN64K] && !value[SMMUV3_CAP_DS]) {
        value[SMMUV3_CAP_VAX] = 0;
        value[SMMUV3_CAP_OAS] = MAX(caps->need[SMMUV3_CAP_OAS],
                                    MIN(value[SMMUV3_CAP_OAS], oas_of(48)));
    }
    for (int i = 0; i < SMMUV3_CAP__MAX; i++) {
        if (value[i] != before.value[i]) {
            caps->reason[i] = SMMUV3_CAP_BY_DEPENDENCY;
        }
    }
}

void smmuv3_accel_caps_freeze(SMMUv3AccelCaps *caps)
{
    if (caps->frozen) {
        return;
    }
    caps->frozen = true;
    for (int i = 0; !caps->seen_host && i < SMMUV3_CAP__MAX; i++) {
        if (i != SMMUV3_CAP_ATS) {
            caps->value[i] = MAX(caps->need[i], MIN(caps->value[i],
                                                    cap_table[i].baseline));
            if (caps->reason[i] != SMMUV3_CAP_BY_PROPERTY) {
                caps->reason[i] = SMMUV3_CAP_BY_BASELINE;
            }
        }
    }
    drop_dependent(caps);
}

void smmuv3_accel_caps_to_regs(const SMMUv3AccelCaps *caps, uint32_t idr[6],
                               uint32_t *aidr)
{
    bool v3_1 = caps->value[SMMUV3_CAP_RIL] || caps->value[SMMUV3_CAP_BBML];

    for (int i = 0; i < SMMUV3_CAP__MAX; i++) {
        uint32_t *r = &idr[cap_table[i].reg];

        *r = deposit32(*r, cap_table[i].shift, cap_table[i].length,
                       caps->value[i]);
    }
    idr[0] = FIELD_DP32(idr[0], IDR0, MSI, 1);
    idr[0] = FIELD_DP32(idr[0], IDR0, VMID16, 0);
    idr[3] = FIELD_DP32(idr[3], IDR3, HAD, v3_1);
    *aidr = caps->value[SMMUV3_CAP_DS] ? 3 : v3_1;
}

SMMUv3AccelSTERules smmuv3_accel_ste_rules(const SMMUv3AccelCaps *caps,
                                           const SMMUv3HostInfo *info, bool ats)
{
    return (SMMUv3AccelSTERules) {
        .ssidsize = caps->value[SMMUV3_CAP_SSIDSIZE],
        .cd2l = caps->value[SMMUV3_CAP_CD2L],
        .ats = caps->value[SMMUV3_CAP_ATS] && ats,
        .host_may_stall = stall_model(info) == STALL_MODEL_BOTH,
    };
}

SMMUv3AccelCmdRules smmuv3_accel_cmd_rules(const SMMUv3AccelCaps *caps,
                                           const SMMUv3HostInfo *info)
{
    const uint8_t *value = caps->value;
    unsigned granules = value[SMMUV3_CAP_GRAN4K] |
                        value[SMMUV3_CAP_GRAN16K] << 1 |
                        value[SMMUV3_CAP_GRAN64K] << 2;

    return (SMMUv3AccelCmdRules) {
        .ril = value[SMMUV3_CAP_RIL],
        .asid16 = value[SMMUV3_CAP_ASID16],
        .ats = value[SMMUV3_CAP_ATS],
        .ds = value[SMMUV3_CAP_DS],
        .ssidsize = value[SMMUV3_CAP_SSIDSIZE],
        /* Linux's own driver uses ranges wherever IDR3.RIL is set */
        .page_ranges = FIELD_EX32(info->idr[3], IDR3, RIL) ? granules : 0,
    };
}
