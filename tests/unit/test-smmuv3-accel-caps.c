/*
 * Accelerated SMMUv3: what the guest's ID registers say
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each capability is tried on hosts that have less, as much and more, before
 * and after the guest has seen it.  The positions of the fields are repeated
 * here from IHI 0070 (6.3.1 to 6.3.6), and which of them may be read from
 * linux/iommufd.h (struct iommu_hw_info_arm_smmuv3).
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qapi/error.h"
#include "hw/arm/smmuv3-accel-caps.h"

/* A capability, as the architecture and our documentation describe it */
static const struct {
    const char *field;
    int reg;                    /* IDR number */
    unsigned shift, length;
    unsigned most;              /* that our model has */
    unsigned baseline;          /* without a host */
} fields[SMMUV3_CAP__MAX] = {
    [SMMUV3_CAP_ATS]     = { "IDR0.ATS",     0,  10, 1, 1, 0 },
    [SMMUV3_CAP_ASID16]  = { "IDR0.ASID16",  0,  12, 1, 1, 1 },
    [SMMUV3_CAP_CD2L]    = { "IDR0.CD2L",    0,  19, 1, 1, 0 },
    [SMMUV3_CAP_SSIDSIZE] = { "IDR1.SSIDSIZE", 1, 6, 5, 20, 0 },
    [SMMUV3_CAP_RIL]     = { "IDR3.RIL",     3,  10, 1, 1, 0 },
    [SMMUV3_CAP_BBML]    = { "IDR3.BBML",    3,  11, 2, 2, 0 },
    [SMMUV3_CAP_OAS]     = { "IDR5.OAS",     5,  0,  3, 6, 4 },
    [SMMUV3_CAP_GRAN4K]  = { "IDR5.GRAN4K",  5,  4,  1, 1, 1 },
    [SMMUV3_CAP_GRAN16K] = { "IDR5.GRAN16K", 5,  5,  1, 1, 0 },
    [SMMUV3_CAP_GRAN64K] = { "IDR5.GRAN64K", 5,  6,  1, 1, 1 },
    [SMMUV3_CAP_DS]      = { "IDR5.DS",      5,  7,  1, 1, 0 },
    [SMMUV3_CAP_VAX]     = { "IDR5.VAX",     5,  10, 2, 1, 0 },
};

static const unsigned oas_bits[] = { 32, 36, 40, 42, 44, 48, 52, 56 };

/* Bits of IDR0 to IDR5 that one may read */
static const uint32_t listed[6] = {
    [0] = 0x1f681000 | 0xc, [1] = 0x7ff, [3] = 0x1c00, [5] = 0xcf0,
};

/*
 * OAS is the width of the IOAS, and ATS a question for each device: neither is
 * a field of the host
 */
static void host_set(SMMUv3HostInfo *host, int cap, unsigned value)
{
    uint32_t *reg = &host->idr[fields[cap].reg];

    if (cap == SMMUV3_CAP_OAS) {
        host->address_bits = oas_bits[value];
    } else if (cap == SMMUV3_CAP_ATS) {
        host->ats = value;
    } else {
        *reg = deposit32(*reg, fields[cap].shift, fields[cap].length, value);
    }
}

static unsigned host_get(const SMMUv3HostInfo *host, int cap)
{
    unsigned oas = ARRAY_SIZE(oas_bits) - 1;

    if (cap == SMMUV3_CAP_ATS) {
        return host->ats;
    }
    if (cap != SMMUV3_CAP_OAS) {
        return extract32(host->idr[fields[cap].reg], fields[cap].shift,
                         fields[cap].length);
    }
    while (oas && oas_bits[oas] > host->address_bits) {
        oas--;
    }
    return oas;
}

/* A host that nests and has all that our model has, and no more */
static SMMUv3HostInfo good_host(void)
{
    SMMUv3HostInfo host = {};

    /* TTF AArch64, TTENDIAN little, STALL_MODEL terminate */
    host.idr[0] = 2u << 2 | 2u << 21 | 1u << 24;
    for (int cap = 0; cap < SMMUV3_CAP__MAX; cap++) {
        host_set(&host, cap, fields[cap].most);
    }
    return host;
}

static char *describe(const SMMUv3HostInfo *host)
{
    return g_strdup_printf("host IDR0=0x%08x IDR1=0x%08x IDR3=0x%08x "
                           "IDR5=0x%08x, %u address bits", host->idr[0],
                           host->idr[1], host->idr[3], host->idr[5],
                           host->address_bits);
}

static void expect_value(const SMMUv3AccelCaps *caps, int cap, unsigned value,
                         const SMMUv3HostInfo *host)
{
    g_autofree char *regs = describe(host);

    if (caps->value[cap] != value) {
        g_error("%s: the guest gets %u, expected %u; %s", fields[cap].field,
                caps->value[cap], value, regs);
    }
}

static void expect_ok(SMMUv3AccelCaps *caps, const SMMUv3HostInfo *host)
{
    g_autofree char *regs = describe(host);
    Error *err = NULL;

    if (!smmuv3_accel_caps_add_host(caps, host, &err)) {
        g_error("refused: %s; %s", error_get_pretty(err), regs);
    }
    g_assert_null(err);
}

static void expect_text(const char *text, const char *part,
                        const SMMUv3HostInfo *host)
{
    g_autofree char *regs = describe(host);

    if (!strstr(text, part)) {
        g_error("'%s' does not contain '%s'; %s", text, part, regs);
    }
}

/* @host is refused, with all of @parts in the error, and @caps unchanged */
static void expect_refused_list(SMMUv3AccelCaps *caps,
                                const SMMUv3HostInfo *host,
                                const char *const *parts)
{
    SMMUv3AccelCaps before;
    g_autofree char *regs = describe(host);
    Error *err = NULL;

    memcpy(&before, caps, sizeof(before));
    if (smmuv3_accel_caps_add_host(caps, host, &err)) {
        g_error("accepted, expected an error with '%s'; %s", parts[0], regs);
    }
    if (memcmp(&before, caps, sizeof(before))) {
        g_error("a refused host changed the capabilities; %s", regs);
    }
    for (; *parts; parts++) {
        expect_text(error_get_pretty(err), *parts, host);
    }
    error_free(err);
    /* A caller that wants no text gets the same result */
    g_assert_false(smmuv3_accel_caps_add_host(caps, host, NULL));
}

#define expect_refused(caps, host, ...) \
    expect_refused_list(caps, host, (const char *const[]) { __VA_ARGS__, NULL })

static void init_wishes(SMMUv3AccelCaps *caps, OnOffAuto ats, OnOffAuto ril,
                        unsigned oas, int ssidsize)
{
    const SMMUv3AccelWishes wishes = {
        .ats = ats, .ril = ril, .oas = oas, .ssidsize = ssidsize,
    };

    /* Padding is compared too */
    memset(caps, 0, sizeof(*caps));
    smmuv3_accel_caps_init(caps, &wishes);
}

static void init_auto(SMMUv3AccelCaps *caps)
{
    init_wishes(caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_AUTO, 0, -1);
}

static void test_least_of_model_and_host(void)
{
    for (int cap = 0; cap < SMMUV3_CAP__MAX; cap++) {
        for (unsigned v = 0; v < 1u << fields[cap].length; v++) {
            SMMUv3HostInfo host = good_host();
            SMMUv3AccelCaps caps;

            host_set(&host, cap, v);
            init_auto(&caps);
            expect_ok(&caps, &host);
            g_assert_true(caps.seen_host);
            for (int c = 0; c < SMMUV3_CAP__MAX; c++) {
                expect_value(&caps, c, c == cap ? MIN(v, fields[c].most)
                                                : fields[c].most, &host);
            }
        }
    }
}

/* Two hosts before the guest starts: the least of both, in either order */
static void test_least_of_two_hosts(void)
{
    for (int cap = 0; cap < SMMUV3_CAP__MAX; cap++) {
        for (int order = 0; order < 2; order++) {
            SMMUv3HostInfo hosts[2] = { good_host(), good_host() };
            SMMUv3AccelCaps caps;

            host_set(&hosts[1], cap, 0);
            init_auto(&caps);
            expect_ok(&caps, &hosts[order]);
            expect_ok(&caps, &hosts[!order]);
            /* One device with ATS is enough */
            expect_value(&caps, cap, cap == SMMUV3_CAP_ATS, &hosts[1]);
            smmuv3_accel_caps_freeze(&caps);
            expect_value(&caps, cap, cap == SMMUV3_CAP_ATS, &hosts[1]);
        }
    }
}

static void test_baseline_without_host(void)
{
    const SMMUv3HostInfo none = {};
    SMMUv3AccelCaps caps, again;

    init_auto(&caps);
    smmuv3_accel_caps_freeze(&caps);
    g_assert_true(caps.frozen);
    g_assert_false(caps.seen_host);
    for (int cap = 0; cap < SMMUV3_CAP__MAX; cap++) {
        expect_value(&caps, cap, fields[cap].baseline, &none);
    }
    again = caps;
    smmuv3_accel_caps_freeze(&again);
    g_assert_cmpmem(caps.value, sizeof(caps.value),
                    again.value, sizeof(again.value));
}

/* With a host, the freeze does not lower the values to the baseline */
static void test_freeze_keeps_the_hosts(void)
{
    SMMUv3HostInfo host = good_host();
    SMMUv3AccelCaps caps;

    init_auto(&caps);
    expect_ok(&caps, &host);
    smmuv3_accel_caps_freeze(&caps);
    for (int cap = 0; cap < SMMUV3_CAP__MAX; cap++) {
        expect_value(&caps, cap, fields[cap].most, &host);
    }
    /* The second freeze comes with each reset */
    smmuv3_accel_caps_freeze(&caps);
    for (int cap = 0; cap < SMMUV3_CAP__MAX; cap++) {
        expect_value(&caps, cap, fields[cap].most, &host);
    }
}

/* All that a host lacks is said at once */
static void test_all_that_lacks(void)
{
    SMMUv3HostInfo host = good_host();
    SMMUv3AccelCaps caps;

    init_auto(&caps);
    expect_ok(&caps, &host);
    smmuv3_accel_caps_freeze(&caps);
    host_set(&host, SMMUV3_CAP_RIL, 0);
    host_set(&host, SMMUV3_CAP_GRAN16K, 0);
    host_set(&host, SMMUV3_CAP_ASID16, 0);
    expect_refused(&caps, &host, "IDR0.ASID16 0, the guest was told 1",
                   "; and the host SMMUv3 has IDR3.RIL 0, the guest was told 1",
                   "; and the host SMMUv3 has IDR5.GRAN16K 0, the guest was");
}

/* When frozen, less is refused; as much or more changes nothing */
static void test_frozen(void)
{
    for (int cap = 0; cap < SMMUV3_CAP__MAX; cap++) {
        for (unsigned told = 0; told <= fields[cap].most; told++) {
            for (unsigned v = 0; v < 1u << fields[cap].length; v++) {
                SMMUv3HostInfo first = good_host(), second = good_host();
                SMMUv3AccelCaps caps;
                bool oas = cap == SMMUV3_CAP_OAS;
                g_autofree char *numbers =
                    g_strdup_printf("%s %u, the guest was told %u;",
                                    fields[cap].field, oas ? oas_bits[v] : v,
                                    oas ? oas_bits[told] : told);

                init_auto(&caps);
                host_set(&first, cap, told);
                expect_ok(&caps, &first);
                smmuv3_accel_caps_freeze(&caps);
                host_set(&second, cap, v);
                if (v < told && cap != SMMUV3_CAP_ATS) {
                    expect_refused(&caps, &second, fields[cap].field, numbers,
                           "start QEMU with the device");
                } else {
                    expect_ok(&caps, &second);
                }
                expect_value(&caps, cap, told, &second);
            }
        }
    }
}

/* After the baseline, only a host that lacks part of it is refused */
static void test_hot_plug_after_baseline(void)
{
    for (int cap = 0; cap < SMMUV3_CAP__MAX; cap++) {
        for (unsigned v = 0; v < 1u << fields[cap].length; v++) {
            SMMUv3HostInfo host = good_host();
            SMMUv3AccelCaps caps;

            init_auto(&caps);
            smmuv3_accel_caps_freeze(&caps);
            host_set(&host, cap, v);
            if (v < fields[cap].baseline) {
                expect_refused(&caps, &host, fields[cap].field, "was told");
            } else {
                expect_ok(&caps, &host);
            }
            for (int c = 0; c < SMMUV3_CAP__MAX; c++) {
                expect_value(&caps, c, fields[c].baseline, &host);
            }
        }
    }
}

static void test_ril(void)
{
    for (int has = 0; has < 2; has++) {
        SMMUv3HostInfo host = good_host();
        SMMUv3AccelCaps caps;

        host_set(&host, SMMUV3_CAP_RIL, has);

        init_wishes(&caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_AUTO, 0, -1);
        expect_ok(&caps, &host);
        expect_value(&caps, SMMUV3_CAP_RIL, has, &host);

        init_wishes(&caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_OFF, 0, -1);
        expect_ok(&caps, &host);
        expect_value(&caps, SMMUV3_CAP_RIL, 0, &host);

        init_wishes(&caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_ON, 0, -1);
        if (has) {
            expect_ok(&caps, &host);
        } else {
            expect_refused(&caps, &host, "IDR3.RIL 0", "is to have 1",
                           "use ril=auto");
        }
        expect_value(&caps, SMMUV3_CAP_RIL, 1, &host);

        /* Required without a host: the guest gets it, a later host must too */
        init_wishes(&caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_ON, 0, -1);
        smmuv3_accel_caps_freeze(&caps);
        expect_value(&caps, SMMUV3_CAP_RIL, 1, &host);
        if (has) {
            expect_ok(&caps, &host);
        } else {
            expect_refused(&caps, &host, "IDR3.RIL 0", "was told 1",
                           "ril=auto");
        }

        init_wishes(&caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_OFF, 0, -1);
        smmuv3_accel_caps_freeze(&caps);
        expect_value(&caps, SMMUV3_CAP_RIL, 0, &host);
        expect_ok(&caps, &host);
        expect_value(&caps, SMMUV3_CAP_RIL, 0, &host);
    }
}

static void test_oas(void)
{
    for (unsigned want = 0; want <= 6; want++) {
        for (unsigned has = 0; has < 8; has++) {
            SMMUv3HostInfo host = good_host();
            SMMUv3AccelCaps caps;
            g_autofree char *have = g_strdup_printf("IDR5.OAS %u,",
                                                    oas_bits[has]);
            g_autofree char *wanted = g_strdup_printf("is to have %u;",
                                                      oas_bits[want]);

            host_set(&host, SMMUV3_CAP_OAS, has);
            init_wishes(&caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_AUTO,
                        oas_bits[want], -1);
            if (has < want) {
                expect_refused(&caps, &host, have, wanted, "use oas=auto");
            } else {
                expect_ok(&caps, &host);
            }
            expect_value(&caps, SMMUV3_CAP_OAS, want, &host);

            /* Without a host: what the user asked for, baseline or not */
            init_wishes(&caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_AUTO,
                        oas_bits[want], -1);
            smmuv3_accel_caps_freeze(&caps);
            expect_value(&caps, SMMUV3_CAP_OAS, want, &host);
        }
    }
}

/* What our model fixes for every guest */
static void test_hard_requirements(void)
{
    static const struct {
        unsigned shift, length, value;
        const char *text;       /* NULL: accepted */
    } cases[] = {
        { 2, 2, 0, "IDR0.TTF" },
        { 2, 2, 1, "IDR0.TTF" },
        { 2, 2, 2, NULL },
        { 2, 2, 3, NULL },
        { 21, 2, 0, NULL },
        { 21, 2, 1, "IDR0.TTENDIAN" },
        { 21, 2, 2, NULL },
        { 21, 2, 3, "IDR0.TTENDIAN" },
        { 24, 2, 0, NULL },
        { 24, 2, 1, NULL },
        { 24, 2, 2, "IDR0.STALL_MODEL" },
        { 24, 2, 3, "IDR0.STALL_MODEL" },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        for (int frozen = 0; frozen < 2; frozen++) {
            SMMUv3HostInfo host = good_host();
            SMMUv3AccelCaps caps;

            host.idr[0] = deposit32(host.idr[0], cases[i].shift,
                                    cases[i].length, cases[i].value);
            init_auto(&caps);
            if (frozen) {
                smmuv3_accel_caps_freeze(&caps);
            }
            if (cases[i].text) {
                expect_refused(&caps, &host, cases[i].text, "without accel=on");
            } else {
                expect_ok(&caps, &host);
            }
        }
    }
}

/* Any width of the IOAS: the guest gets the largest OAS that fits, up to 52 */
static void test_address_bits(void)
{
    for (unsigned bits = 0; bits <= 64; bits++) {
        SMMUv3HostInfo host = good_host();
        SMMUv3AccelCaps caps;

        host.address_bits = bits;
        init_auto(&caps);
        if (bits < 32) {
            expect_refused(&caps, &host, "IOMMU_IOAS_IOVA_RANGES");
            continue;
        }
        expect_ok(&caps, &host);
        expect_value(&caps, SMMUV3_CAP_OAS, MIN(host_get(&host, SMMUV3_CAP_OAS),
                                                6), &host);
    }
}

/*
 * A later kernel may report anything in the bits that one may not read, and
 * what QEMU does remains the same
 */
static void test_unlisted_bits(void)
{
    for (int i = 0; i < 20000; i++) {
        SMMUv3HostInfo hosts[2] = { good_host() };
        SMMUv3AccelCaps caps[2];
        SMMUv3AccelCmdRules cmd[2];
        SMMUv3AccelSTERules ste[2];
        bool ok[2];

        for (int r = 0; r < 6; r++) {
            hosts[0].idr[r] ^= i & 1 ? g_test_rand_int() : 0;
        }
        hosts[1] = hosts[0];
        for (int r = 0; r < 6; r++) {
            hosts[1].idr[r] ^= (i & 2 ? g_test_rand_int() : -1) & ~listed[r];
        }
        for (int k = 0; k < 2; k++) {
            init_auto(&caps[k]);
            ok[k] = smmuv3_accel_caps_add_host(&caps[k], &hosts[k], NULL);
            memset(&cmd[k], 0, sizeof(cmd[k]));
            memset(&ste[k], 0, sizeof(ste[k]));
            cmd[k] = smmuv3_accel_cmd_rules(&caps[k], &hosts[k]);
            ste[k] = smmuv3_accel_ste_rules(&caps[k], &hosts[k], i & 4);
        }
        if (ok[0] != ok[1] || memcmp(&caps[0], &caps[1], sizeof(caps[0])) ||
            memcmp(&cmd[0], &cmd[1], sizeof(cmd[0])) ||
            memcmp(&ste[0], &ste[1], sizeof(ste[0]))) {
            g_autofree char *one = describe(&hosts[0]);
            g_autofree char *other = describe(&hosts[1]);

            g_error("%s and %s differ for the guest", one, other);
        }
    }
}

static void test_a_granule_in_common(void)
{
    for (int mask = 0; mask < 64; mask++) {
        SMMUv3HostInfo hosts[2] = { good_host(), good_host() };
        SMMUv3AccelCaps caps;

        for (int i = 0; i < 2; i++) {
            for (int k = 0; k < 3; k++) {
                host_set(&hosts[i], SMMUV3_CAP_GRAN4K + k,
                         mask >> (3 * i + k) & 1);
            }
        }
        init_auto(&caps);
        if (!(mask & 7)) {
            expect_refused(&caps, &hosts[0], "granule", "an SMMU of its own");
            continue;
        }
        expect_ok(&caps, &hosts[0]);
        if (mask & mask >> 3 & 7) {
            expect_ok(&caps, &hosts[1]);
        } else {
            expect_refused(&caps, &hosts[1], "granule", "an SMMU of its own");
        }
    }
}

/* HAD, and AIDR as the features say (IHI 0070 2.4, 2.9) */
static unsigned version_of(const SMMUv3AccelCaps *caps)
{
    return caps->value[SMMUV3_CAP_DS] ? 3 :
           caps->value[SMMUV3_CAP_RIL] || caps->value[SMMUV3_CAP_BBML];
}

/* All other fields stay, except for three */
static void test_to_regs(void)
{
    const uint32_t fills[] = { 0, ~0u, 0xa5a5a5a5 };

    for (int i = 0; i < ARRAY_SIZE(fills); i++) {
        SMMUv3AccelCaps caps;

        for (int cap = -1; cap < SMMUV3_CAP__MAX; cap++) {
            uint32_t idr[6], want[6], aidr = fills[i];

            init_auto(&caps);
            caps.value[SMMUV3_CAP_ATS] = 1;
            if (cap >= 0) {
                caps.value[cap] = 0;
            }
            for (int r = 0; r < 6; r++) {
                idr[r] = want[r] = fills[i];
            }
            for (int c = 0; c < SMMUV3_CAP__MAX; c++) {
                uint32_t *reg = &want[fields[c].reg];

                *reg = deposit32(*reg, fields[c].shift, fields[c].length,
                                 c == cap ? 0 : fields[c].most);
            }
            want[0] = deposit32(want[0], 13, 1, 1);     /* MSI */
            want[0] = deposit32(want[0], 18, 1, 0);     /* VMID16 */
            want[3] = deposit32(want[3], 2, 1, 1);      /* HAD */
            smmuv3_accel_caps_to_regs(&caps, idr, &aidr);
            g_assert_cmphex(aidr, ==, version_of(&caps));
            for (int r = 0; r < 6; r++) {
                if (idr[r] != want[r]) {
                    g_error("IDR%d: 0x%08x over 0x%08x, expected 0x%08x", r,
                            idr[r], fills[i], want[r]);
                }
            }
        }
    }
}

/* What a feature may not be without: all values of the six that matter */
static void test_dependent(void)
{
    for (unsigned n = 0; n < 0x100; n++) {
        unsigned ril = n & 1, bbml = n >> 1 & 3, vax = n >> 3 & 1;
        unsigned ds = n >> 4 & 1, gran64k = n >> 5 & 1, oas = 5 + (n >> 6 & 1);
        bool need = n >> 7;
        SMMUv3HostInfo host = good_host();
        uint32_t idr[6] = {}, aidr;
        SMMUv3AccelCaps caps;

        if (bbml == 3) {
            continue;
        }
        host_set(&host, SMMUV3_CAP_RIL, ril);
        host_set(&host, SMMUV3_CAP_BBML, bbml);
        host_set(&host, SMMUV3_CAP_VAX, vax);
        host_set(&host, SMMUV3_CAP_DS, ds);
        host_set(&host, SMMUV3_CAP_GRAN64K, gran64k);
        host_set(&host, SMMUV3_CAP_OAS, oas);
        init_wishes(&caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_AUTO,
                    need ? oas_bits[oas] : 0, -1);
        expect_ok(&caps, &host);
        smmuv3_accel_caps_freeze(&caps);

        ds &= ril && bbml && vax;
        expect_value(&caps, SMMUV3_CAP_DS, ds, &host);
        expect_value(&caps, SMMUV3_CAP_VAX, vax && (gran64k || ds), &host);
        expect_value(&caps, SMMUV3_CAP_OAS,
                     gran64k || ds || need ? oas : 5, &host);
        smmuv3_accel_caps_to_regs(&caps, idr, &aidr);
        g_assert_cmphex(aidr, ==, ds ? 3 : ril || bbml);
        g_assert_cmphex(extract32(idr[3], 2, 1), ==, ril || bbml);
    }
}

static void expect_reasons(const SMMUv3AccelCaps *caps,
                           const SMMUv3AccelCapReason *want)
{
    for (int cap = 0; cap < SMMUV3_CAP__MAX; cap++) {
        if (caps->reason[cap] != want[cap]) {
            g_error("%s: the reason is %d, expected %d", fields[cap].field,
                    caps->reason[cap], want[cap]);
        }
    }
}

static void all_reasons(SMMUv3AccelCapReason *want, SMMUv3AccelCapReason reason)
{
    for (int cap = 0; cap < SMMUV3_CAP__MAX; cap++) {
        want[cap] = reason;
    }
}

/* Why the guest gets what it gets, before and after the guest may know it */
static void test_reasons(void)
{
    SMMUv3AccelCapReason want[SMMUV3_CAP__MAX];
    SMMUv3HostInfo host = good_host(), more = good_host();
    SMMUv3AccelCaps caps, none;

    init_auto(&caps);
    none = caps;
    all_reasons(want, SMMUV3_CAP_BY_MODEL);
    want[SMMUV3_CAP_ATS] = SMMUV3_CAP_BY_BASELINE;
    expect_reasons(&caps, want);

    /* No host: all is the baseline, but for what the user has set */
    smmuv3_accel_caps_freeze(&none);
    all_reasons(want, SMMUV3_CAP_BY_BASELINE);
    expect_reasons(&none, want);
    expect_ok(&none, &host);
    expect_reasons(&none, want);
    init_wishes(&none, ON_OFF_AUTO_OFF, ON_OFF_AUTO_OFF, 48, 0);
    smmuv3_accel_caps_freeze(&none);
    want[SMMUV3_CAP_ATS] = want[SMMUV3_CAP_RIL] = SMMUV3_CAP_BY_PROPERTY;
    want[SMMUV3_CAP_OAS] = want[SMMUV3_CAP_SSIDSIZE] = SMMUV3_CAP_BY_PROPERTY;
    expect_reasons(&none, want);

    /* A host that has more than the model is not the reason */
    host_set(&more, SMMUV3_CAP_SSIDSIZE, 21);
    host_set(&more, SMMUV3_CAP_BBML, 3);
    expect_ok(&caps, &more);
    all_reasons(want, SMMUV3_CAP_BY_HOST);
    want[SMMUV3_CAP_SSIDSIZE] = want[SMMUV3_CAP_BBML] = SMMUV3_CAP_BY_MODEL;
    expect_reasons(&caps, want);
    expect_ok(&caps, &host);
    all_reasons(want, SMMUV3_CAP_BY_HOST);
    expect_reasons(&caps, want);

    /* What goes with a feature that is absent */
    host_set(&host, SMMUV3_CAP_RIL, 0);
    host_set(&host, SMMUV3_CAP_GRAN64K, 0);
    expect_ok(&caps, &host);
    smmuv3_accel_caps_freeze(&caps);
    want[SMMUV3_CAP_DS] = want[SMMUV3_CAP_VAX] = SMMUV3_CAP_BY_DEPENDENCY;
    want[SMMUV3_CAP_OAS] = SMMUV3_CAP_BY_DEPENDENCY;
    expect_reasons(&caps, want);

    /* The user's are the reason, whatever the host has */
    init_wishes(&caps, ON_OFF_AUTO_ON, ON_OFF_AUTO_OFF, 44, 4);
    host.ats = false;
    expect_ok(&caps, &host);
    all_reasons(want, SMMUV3_CAP_BY_HOST);
    want[SMMUV3_CAP_ATS] = want[SMMUV3_CAP_RIL] = SMMUV3_CAP_BY_PROPERTY;
    want[SMMUV3_CAP_OAS] = want[SMMUV3_CAP_SSIDSIZE] = SMMUV3_CAP_BY_PROPERTY;
    expect_reasons(&caps, want);
    smmuv3_accel_caps_freeze(&caps);
    want[SMMUV3_CAP_DS] = want[SMMUV3_CAP_VAX] = SMMUV3_CAP_BY_DEPENDENCY;
    expect_reasons(&caps, want);
}

/* ATS is a wish for the guest, and no demand to any host */
static void test_ats(void)
{
    for (int wish = 0; wish < 3; wish++) {
        for (int hosts = 0; hosts < 4; hosts++) {
            for (int cold = 0; cold <= 2; cold++) {
                bool on = wish == ON_OFF_AUTO_ON;
                SMMUv3HostInfo host = good_host();
                SMMUv3AccelCaps caps;

                init_wishes(&caps, wish, ON_OFF_AUTO_AUTO, 0, -1);
                for (int k = 0; k < 2; k++) {
                    host.ats = hosts >> k & 1;
                    if (k == cold) {
                        smmuv3_accel_caps_freeze(&caps);
                    } else if (k < cold && wish == ON_OFF_AUTO_AUTO) {
                        on |= host.ats;
                    }
                    expect_ok(&caps, &host);
                    expect_value(&caps, SMMUV3_CAP_ATS, on, &host);
                }
                g_assert_cmpint(smmuv3_accel_cmd_rules(&caps, &host).ats, ==,
                                on);
            }
        }
    }
}

static void test_ssidsize(void)
{
    for (int want = -1; want <= 20; want++) {
        for (unsigned has = 0; has < 32; has++) {
            SMMUv3HostInfo host = good_host();
            SMMUv3AccelCaps caps;
            g_autofree char *text =
                g_strdup_printf("IDR1.SSIDSIZE %u, the guest is to have %d; "
                                "use ssidsize=auto", has, want);

            host_set(&host, SMMUV3_CAP_SSIDSIZE, has);
            init_wishes(&caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_AUTO, 0, want);
            if ((int)has < want) {
                expect_refused(&caps, &host, text);
            } else {
                expect_ok(&caps, &host);
            }
            expect_value(&caps, SMMUV3_CAP_SSIDSIZE,
                         want < 0 ? MIN(has, 20) : want, &host);

            init_wishes(&caps, ON_OFF_AUTO_AUTO, ON_OFF_AUTO_AUTO, 0, want);
            smmuv3_accel_caps_freeze(&caps);
            expect_value(&caps, SMMUV3_CAP_SSIDSIZE, MAX(want, 0), &host);
        }
    }
}

/* Random hosts: every host so far has what the guest sees */
static void test_random_hosts(void)
{
    for (int i = 0; i < 20000; i++) {
        SMMUv3HostInfo hosts[4];
        SMMUv3AccelCaps caps;
        bool in[4] = {};
        int freeze_at = g_test_rand_int_range(0, 5);

        init_wishes(&caps, g_test_rand_int_range(0, 3),
                    g_test_rand_int_range(0, 3),
                    oas_bits[g_test_rand_int_range(0, 7)],
                    g_test_rand_int_range(-1, 21));
        for (int k = 0; k < 4; k++) {
            SMMUv3AccelCaps before = caps;

            hosts[k] = good_host();
            for (int r = 0; r < 6; r++) {
                hosts[k].idr[r] ^= r ? g_test_rand_int() : 0;
            }
            host_set(&hosts[k], SMMUV3_CAP_ASID16, g_test_rand_bit());
            hosts[k].address_bits = g_test_rand_int_range(30, 65);
            hosts[k].ats = g_test_rand_bit();
            if (k == freeze_at) {
                smmuv3_accel_caps_freeze(&caps);
                before = caps;
            }
            in[k] = smmuv3_accel_caps_add_host(&caps, &hosts[k], NULL);
            for (int c = 0; c < SMMUV3_CAP__MAX; c++) {
                g_autofree char *regs = describe(&hosts[k]);

                if ((caps.value[c] > before.value[c] && c != SMMUV3_CAP_ATS) ||
                    (caps.frozen && caps.value[c] != before.value[c]) ||
                    caps.value[c] < caps.need[c]) {
                    g_error("%s: %u from %u, need %u, frozen %d; %s",
                            fields[c].field, caps.value[c], before.value[c],
                            caps.need[c], caps.frozen, regs);
                }
            }
        }
        for (int k = 0; k < 4; k++) {
            for (int c = 0; in[k] && c < SMMUV3_CAP__MAX; c++) {
                unsigned have = host_get(&hosts[k], c);
                g_autofree char *regs = describe(&hosts[k]);

                if (caps.value[c] > have && c != SMMUV3_CAP_ATS) {
                    g_error("%s: guest has %u, its host %u; %s",
                            fields[c].field, caps.value[c], have, regs);
                }
            }
        }
    }
}

/* The rules follow from the guest's capabilities and some fields of the host */
static void test_rules(void)
{
    for (unsigned n = 0; n < 0x400; n++) {
        SMMUv3HostInfo host = {};
        SMMUv3AccelCaps caps;
        SMMUv3AccelCmdRules cmd;
        SMMUv3AccelSTERules ste;
        unsigned model = n & 3, granules = n >> 2 & 7;
        bool ril = n & 0x20, asid16 = n & 0x40;
        bool host_ril = n & 0x80, host_ds = n & 0x100, ats = n & 8;
        unsigned ssidsize = n % 21;

        memset(&caps, 0, sizeof(caps));
        caps.value[SMMUV3_CAP_RIL] = ril;
        caps.value[SMMUV3_CAP_ASID16] = asid16;
        caps.value[SMMUV3_CAP_ATS] = ats;
        caps.value[SMMUV3_CAP_CD2L] = !ats;
        caps.value[SMMUV3_CAP_SSIDSIZE] = ssidsize;
        caps.value[SMMUV3_CAP_DS] = asid16;
        caps.value[SMMUV3_CAP_GRAN4K] = granules & 1;
        caps.value[SMMUV3_CAP_GRAN16K] = granules >> 1 & 1;
        caps.value[SMMUV3_CAP_GRAN64K] = granules >> 2;
        if (n & 0x200) {
            /* All fields that do not concern the rules */
            memset(&host, 0xff, sizeof(host));
        }
        host.idr[0] = deposit32(host.idr[0], 24, 2, model);
        host.idr[3] = deposit32(host.idr[3], 10, 1, host_ril);
        host.idr[5] = deposit32(host.idr[5], 7, 1, host_ds);

        /* Both the guest's SMMU and the device must have ATS */
        g_assert_false(smmuv3_accel_ste_rules(&caps, &host, false).ats);
        ste = smmuv3_accel_ste_rules(&caps, &host, true);
        g_assert_cmpint(ste.host_may_stall, ==, model == 0);
        g_assert_cmpint(ste.ats, ==, ats);
        g_assert_cmpint(ste.cd2l, ==, !ats);
        g_assert_cmpint(ste.ssidsize, ==, ssidsize);
        cmd = smmuv3_accel_cmd_rules(&caps, &host);
        g_assert_cmpint(cmd.ril, ==, ril);
        g_assert_cmpint(cmd.asid16, ==, asid16);
        /* What the guest was told, whatever the host has */
        g_assert_cmpint(cmd.ds, ==, asid16);
        g_assert_cmphex(cmd.page_ranges, ==, host_ril ? granules : 0);
        g_assert_cmpint(cmd.ats, ==, ats);
        g_assert_cmpint(cmd.ssidsize, ==, ssidsize);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/smmuv3-accel/caps/least-of-model-and-host",
                    test_least_of_model_and_host);
    g_test_add_func("/smmuv3-accel/caps/least-of-two-hosts",
                    test_least_of_two_hosts);
    g_test_add_func("/smmuv3-accel/caps/baseline-without-host",
                    test_baseline_without_host);
    g_test_add_func("/smmuv3-accel/caps/freeze-keeps-the-hosts",
                    test_freeze_keeps_the_hosts);
    g_test_add_func("/smmuv3-accel/caps/frozen-is-checked", test_frozen);
    g_test_add_func("/smmuv3-accel/caps/all-that-lacks", test_all_that_lacks);
    g_test_add_func("/smmuv3-accel/caps/hot-plug-after-baseline",
                    test_hot_plug_after_baseline);
    g_test_add_func("/smmuv3-accel/caps/ril", test_ril);
    g_test_add_func("/smmuv3-accel/caps/oas", test_oas);
    g_test_add_func("/smmuv3-accel/caps/ats", test_ats);
    g_test_add_func("/smmuv3-accel/caps/ssidsize", test_ssidsize);
    g_test_add_func("/smmuv3-accel/caps/dependent", test_dependent);
    g_test_add_func("/smmuv3-accel/caps/hard-requirements",
                    test_hard_requirements);
    g_test_add_func("/smmuv3-accel/caps/address-bits", test_address_bits);
    g_test_add_func("/smmuv3-accel/caps/unlisted-bits", test_unlisted_bits);
    g_test_add_func("/smmuv3-accel/caps/a-granule-in-common",
                    test_a_granule_in_common);
    g_test_add_func("/smmuv3-accel/caps/to-regs-touches-its-fields-only",
                    test_to_regs);
    g_test_add_func("/smmuv3-accel/caps/reasons", test_reasons);
    g_test_add_func("/smmuv3-accel/caps/random-hosts", test_random_hosts);
    g_test_add_func("/smmuv3-accel/caps/rules", test_rules);
    return g_test_run();
}
