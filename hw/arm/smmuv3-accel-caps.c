/*
 * Accelerated SMMUv3: what the guest's ID registers say
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qapi/error.h"
#include "smmuv3-accel-caps.h"

#define AIDR 6      /* index of AIDR behind IDR0 to IDR5 */

/*
 * @most is what our model knows, @baseline what is safe to promise before any
 * host was seen.  16K granules, HAD, RIL and BBML are optional for a host.
 */
static const struct {
    const char *field;
    const char *property;
    uint8_t most, baseline;
    uint8_t reg, shift, length;
} cap_table[SMMUV3_CAP__MAX] = {
    [SMMUV3_CAP_ASID16]  = { "IDR0.ASID16",  NULL,  1, 1, 0,    12, 1 },
    [SMMUV3_CAP_HAD]     = { "IDR3.HAD",     NULL,  1, 0, 3,    2,  1 },
    [SMMUV3_CAP_RIL]     = { "IDR3.RIL",     "ril", 1, 0, 3,    10, 1 },
    [SMMUV3_CAP_BBML]    = { "IDR3.BBML",    NULL,  2, 0, 3,    11, 2 },
    [SMMUV3_CAP_OAS]     = { "IDR5.OAS",     "oas", 5, 4, 5,    0,  3 },
    [SMMUV3_CAP_GRAN4K]  = { "IDR5.GRAN4K",  NULL,  1, 1, 5,    4,  1 },
    [SMMUV3_CAP_GRAN16K] = { "IDR5.GRAN16K", NULL,  1, 0, 5,    5,  1 },
    [SMMUV3_CAP_GRAN64K] = { "IDR5.GRAN64K", NULL,  1, 1, 5,    6,  1 },
    [SMMUV3_CAP_ARCH]    = { "AIDR",         NULL,  1, 1, AIDR, 0,  4 },
};

/* IDR5.OAS, IHI 0070 6.3.6 */
static const uint8_t oas_bits[] = { 32, 36, 40, 42, 44, 48, 52, 56 };

/* IDR0 fields that are no matter of more or less */
enum { STALL_MODEL_BOTH, STALL_MODEL_NONE, STALL_MODEL_FORCED };
enum { TTENDIAN_MIXED = 0, TTENDIAN_LITTLE = 2 };

static unsigned host_cap(const SMMUv3HostInfo *host, SMMUv3AccelCap cap)
{
    unsigned reg = cap_table[cap].reg;

    return extract32(reg == AIDR ? host->aidr : host->idr[reg],
                     cap_table[cap].shift, cap_table[cap].length);
}

static unsigned stall_model(const SMMUv3HostInfo *host)
{
    return extract32(host->idr[0], 24, 2);
}

bool smmuv3_accel_host_may_stall(const SMMUv3HostInfo *host)
{
    return stall_model(host) == STALL_MODEL_BOTH;
}

bool smmuv3_accel_host_has_ril(const SMMUv3HostInfo *host)
{
    return extract32(host->idr[3], 10, 1);
}

bool smmuv3_accel_host_has_ds(const SMMUv3HostInfo *host)
{
    return extract32(host->idr[5], 7, 1);
}

void smmuv3_accel_caps_init(SMMUv3AccelCaps *caps, OnOffAuto ril,
                            unsigned oas)
{
    *caps = (SMMUv3AccelCaps) {};
    for (int i = 0; i < SMMUV3_CAP__MAX; i++) {
        caps->value[i] = cap_table[i].most;
    }
    if (ril != ON_OFF_AUTO_AUTO) {
        caps->value[SMMUV3_CAP_RIL] = ril == ON_OFF_AUTO_ON;
        caps->need[SMMUV3_CAP_RIL] = ril == ON_OFF_AUTO_ON;
    }
    for (int i = 0; oas && i <= cap_table[SMMUV3_CAP_OAS].most; i++) {
        if (oas_bits[i] == oas) {
            caps->value[SMMUV3_CAP_OAS] = i;
            caps->need[SMMUV3_CAP_OAS] = i;
        }
    }
}

/* What our model fixes for every guest, whatever the user asks for */
static bool host_fits_model(const SMMUv3HostInfo *host, Error **errp)
{
    unsigned ttendian = extract32(host->idr[0], 21, 2);
    const char *lack = NULL;

    if (!extract32(host->idr[0], 0, 1) || !extract32(host->idr[0], 1, 1)) {
        lack = "both stages of translation (IDR0.S1P, IDR0.S2P)";
    } else if (!extract32(host->idr[0], 3, 1)) {
        lack = "AArch64 translation tables (IDR0.TTF)";
    } else if (!extract32(host->idr[0], 4, 1)) {
        lack = "coherent table walks (IDR0.COHACC)";
    } else if (ttendian != TTENDIAN_MIXED && ttendian != TTENDIAN_LITTLE) {
        lack = "little-endian translation tables (IDR0.TTENDIAN)";
    } else if (stall_model(host) != STALL_MODEL_BOTH &&
               stall_model(host) != STALL_MODEL_NONE) {
        lack = "the Terminate model for faults (IDR0.STALL_MODEL)";
    }
    if (lack) {
        error_setg(errp, "the host SMMUv3 does not have %s, on which an "
                   "accelerated SMMUv3 relies; assign the device without "
                   "accel=on", lack);
        return false;
    }
    return true;
}

static void cap_error(const SMMUv3AccelCaps *caps, SMMUv3AccelCap cap,
                      unsigned have, unsigned want, Error **errp)
{
    const char *prop = cap_table[cap].property;
    g_autofree char *remedy = NULL;

    if (cap == SMMUV3_CAP_OAS) {
        have = oas_bits[have];
        want = oas_bits[want];
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
    error_setg(errp, "the host SMMUv3 has %s %u, the guest %s %u; %s",
               cap_table[cap].field, have,
               caps->frozen ? "was told" : "is to have", want, remedy);
}

bool smmuv3_accel_caps_add_host(SMMUv3AccelCaps *caps,
                                const SMMUv3HostInfo *host, Error **errp)
{
    SMMUv3AccelCaps met = *caps;

    if (!host_fits_model(host, errp)) {
        return false;
    }
    met.seen_host = true;
    for (int i = 0; i < SMMUV3_CAP__MAX; i++) {
        unsigned have = host_cap(host, i);
        unsigned want = caps->frozen ? caps->value[i] : caps->need[i];

        if (have < want) {
            cap_error(caps, i, have, want, errp);
            return false;
        }
        met.value[i] = MIN(met.value[i], have);
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

void smmuv3_accel_caps_freeze(SMMUv3AccelCaps *caps)
{
    if (caps->frozen) {
        return;
    }
    caps->frozen = true;
    if (caps->seen_host) {
        return;
    }
    for (int i = 0; i < SMMUV3_CAP__MAX; i++) {
        caps->value[i] = MAX(caps->need[i],
                             MIN(caps->value[i], cap_table[i].baseline));
    }
}

void smmuv3_accel_caps_to_regs(const SMMUv3AccelCaps *caps, uint32_t idr[6],
                               uint32_t *aidr)
{
    for (int i = 0; i < SMMUV3_CAP__MAX; i++) {
        unsigned reg = cap_table[i].reg;
        uint32_t *r = reg == AIDR ? aidr : &idr[reg];

        *r = deposit32(*r, cap_table[i].shift, cap_table[i].length,
                       caps->value[i]);
    }
}
