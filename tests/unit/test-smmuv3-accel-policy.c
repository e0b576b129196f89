/*
 * Accelerated SMMUv3: what a stream is attached to, by table and by property
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The rules are stated again here, from IHI 0070 6.3.9.6 and 5.2 and from the
 * masks for a nested HWPT in linux/iommufd.h.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "hw/arm/smmuv3-accel-policy.h"

#define ABORT       SMMUV3_ACCEL_ABORT
#define BYPASS      SMMUV3_ACCEL_BYPASS
#define TRANSLATE   SMMUV3_ACCEL_TRANSLATE

#define NONE            SMMUV3_ACCEL_FAULT_NONE
#define BAD_STREAMID    SMMUV3_ACCEL_FAULT_BAD_STREAMID
#define STE_FETCH       SMMUV3_ACCEL_FAULT_STE_FETCH
#define BAD_STE         SMMUV3_ACCEL_FAULT_BAD_STE

/* An STE's first word: V, Config, S1Fmt, S1ContextPtr, S1CDMax */
#define V               1ull
#define CONFIG(x)       ((uint64_t)(x) << 1)
#define S1FMT(x)        ((uint64_t)(x) << 4)
#define CONTEXTPTR      0x000123456789abc0ull
#define S1CDMAX(x)      ((uint64_t)(x) << 59)
#define S1(fmt, cdmax)  (V | CONFIG(5) | S1FMT(fmt) | CONTEXTPTR | \
                         S1CDMAX(cdmax))

/* Its second: S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS */
#define S1DSS(x)        ((uint64_t)(x) << 0)
#define ATTRS           (1ull << 2 | 1ull << 4 | 3ull << 6)
#define S1STALLD        (1ull << 27)
#define EATS(x)         ((uint64_t)(x) << 28)
#define SHCFG(x)        ((uint64_t)(x) << 44)

/* What Linux accepts for a nested HWPT, as numbers and not by our own macros */
#define HOST_WORD0      0xf80fffffffffffffull
#define HOST_WORD1      0x00000000380000ffull

#define ABORT_STE       (V | CONFIG(0))
#define BYPASS_STE      (V | CONFIG(4))

/* The inputs in words, for messages */
static char *describe(const SMMUv3AccelInputs *in, const SMMUv3AccelSTERules *t)
{
    return g_strdup_printf("SMMUEN=%d GBPA.ABORT=%d fetch=%d STE=0x%016" PRIx64
                           " 0x%016" PRIx64 ", guest SSIDSIZE=%u CD2L=%d "
                           "ATS=%d, host_may_stall=%d", in->smmuen,
                           in->gbpa_abort, in->ste_status, in->ste[0],
                           in->ste[1], t->ssidsize, t->cd2l, t->ats,
                           t->host_may_stall);
}

static void complain(const SMMUv3AccelInputs *in, const SMMUv3AccelSTERules *t,
                     const SMMUv3AccelDecision *d, const char *what)
{
    g_autofree char *inputs = describe(in, t);

    g_error("%s: %s gives %s, fault %d, STE 0x%016" PRIx64 " 0x%016" PRIx64,
            what, inputs, smmuv3_accel_action_name(d->action), d->fault,
            d->ste[0], d->ste[1]);
}

/* What holds for every decision, with any inputs */
static void check_properties(const SMMUv3AccelInputs *in,
                             const SMMUv3AccelSTERules *t)
{
    SMMUv3AccelDecision d = smmuv3_accel_decide(in, t);
    SMMUv3AccelDecision again = smmuv3_accel_decide(in, t);
    unsigned config = extract64(d.ste[0], 1, 3);
    unsigned cdmax = extract64(d.ste[0], 59, 5);

    if ((d.ste[0] & ~HOST_WORD0) || (d.ste[1] & ~HOST_WORD1)) {
        complain(in, t, &d, "a bit outside the host's masks");
    }
    if (!(d.ste[0] & V)) {
        complain(in, t, &d, "an STE without V");
    }
    if (config != (d.action == ABORT ? 0 : d.action == BYPASS ? 4 : 5)) {
        complain(in, t, &d, "Config does not match the action");
    }
    if (d.action != TRANSLATE && ((d.ste[0] >> 4) || d.ste[1])) {
        complain(in, t, &d, "more than V and Config without translation");
    }
    if (d.fault != NONE && d.action != ABORT) {
        complain(in, t, &d, "a fault that does not abort");
    }
    if (extract64(d.ste[1], 28, 2) > (t->ats ? 1 : 0)) {
        complain(in, t, &d, "EATS that the host or the guest's IDR0 refuses");
    }
    if (cdmax > t->ssidsize) {
        complain(in, t, &d, "S1CDMax above IDR1.SSIDSIZE");
    }
    if (!cdmax && ((d.ste[0] & S1FMT(3)) || (d.ste[1] & S1DSS(3)))) {
        complain(in, t, &d, "S1Fmt or S1DSS with a single CD");
    }
    if (d.action == TRANSLATE &&
        !!(d.ste[1] & S1STALLD) != t->host_may_stall) {
        complain(in, t, &d, "S1STALLD does not match the host's stalls");
    }
    if (d.action == TRANSLATE && extract64(d.ste[0], 6, 46) !=
        extract64(in->ste[0], 6, 46)) {
        complain(in, t, &d, "S1ContextPtr is not the guest's");
    }
    if (!smmuv3_accel_decision_equal(&d, &again) || d.fault != again.fault) {
        complain(in, t, &again, "equal inputs give another decision");
    }
}

static void check(const char *name, const SMMUv3AccelInputs *in,
                  const SMMUv3AccelSTERules *t, SMMUv3AccelAction action,
                  SMMUv3AccelFault fault, uint64_t word0, uint64_t word1)
{
    SMMUv3AccelDecision d = smmuv3_accel_decide(in, t);

    check_properties(in, t);
    if (d.action != action || d.fault != fault || d.ste[0] != word0 ||
        d.ste[1] != word1) {
        g_autofree char *what =
            g_strdup_printf("'%s': expected %s, fault %d, STE 0x%016" PRIx64
                            " 0x%016" PRIx64, name,
                            smmuv3_accel_action_name(action), fault, word0,
                            word1);

        complain(in, t, &d, what);
    }
}

/* Every kind of STE, and what an enabled SMMU does with it */
static const struct {
    const char *name;
    SMMUv3AccelSTEStatus status;
    uint64_t ste[2];
    SMMUv3AccelAction action;
    SMMUv3AccelFault fault;
    uint64_t word[2];
} stes[] = {
    /* A fetch that failed: the words do not matter */
    { "absent", SMMUV3_ACCEL_STE_ABSENT, { S1(0, 0), ATTRS },
      ABORT, BAD_STREAMID, { ABORT_STE } },
    { "unreadable", SMMUV3_ACCEL_STE_UNREADABLE, { BYPASS_STE },
      ABORT, STE_FETCH, { ABORT_STE } },
    { "unknown status", (SMMUv3AccelSTEStatus)77, { BYPASS_STE },
      ABORT, STE_FETCH, { ABORT_STE } },
    /* V=0: nothing else in the STE matters, and it is no error */
    { "all zeroes", SMMUV3_ACCEL_STE_READ, { 0, 0 },
      ABORT, NONE, { ABORT_STE } },
    { "V=0 over bypass", SMMUV3_ACCEL_STE_READ, { CONFIG(4), 0 },
      ABORT, NONE, { ABORT_STE } },
    { "V=0 over stage 1", SMMUV3_ACCEL_STE_READ, { S1(0, 0) & ~V, ATTRS },
      ABORT, NONE, { ABORT_STE } },
    { "V=0 over ones", SMMUV3_ACCEL_STE_READ, { ~V, ~0ull },
      ABORT, NONE, { ABORT_STE } },
    /* Config 0b0xx, all four */
    { "Config 0", SMMUV3_ACCEL_STE_READ, { V | CONFIG(0), 0 },
      ABORT, NONE, { ABORT_STE } },
    { "Config 1", SMMUV3_ACCEL_STE_READ, { V | CONFIG(1), 0 },
      ABORT, NONE, { ABORT_STE } },
    { "Config 2", SMMUV3_ACCEL_STE_READ, { V | CONFIG(2), 0 },
      ABORT, NONE, { ABORT_STE } },
    { "Config 3", SMMUV3_ACCEL_STE_READ, { V | CONFIG(3), 0 },
      ABORT, NONE, { ABORT_STE } },
    { "abort over ones", SMMUV3_ACCEL_STE_READ, { ~CONFIG(7) | V, ~0ull },
      ABORT, NONE, { ABORT_STE } },
    /* Bypass: Linux sets SHCFG there, which the host does not accept */
    { "bypass", SMMUV3_ACCEL_STE_READ, { BYPASS_STE, 0 },
      BYPASS, NONE, { BYPASS_STE } },
    { "bypass with SHCFG", SMMUV3_ACCEL_STE_READ, { BYPASS_STE, SHCFG(1) },
      BYPASS, NONE, { BYPASS_STE } },
    { "bypass over ones", SMMUV3_ACCEL_STE_READ,
      { ~CONFIG(3), ~0ull }, BYPASS, NONE, { BYPASS_STE } },
    /* Stage 1 with a single CD */
    { "stage 1", SMMUV3_ACCEL_STE_READ, { S1(0, 0), ATTRS },
      TRANSLATE, NONE, { S1(0, 0), ATTRS } },
    { "stage 1, bits 52 to 58", SMMUV3_ACCEL_STE_READ,
      { S1(0, 0) | MAKE_64BIT_MASK(52, 7), ATTRS },
      TRANSLATE, NONE, { S1(0, 0), ATTRS } },
    { "stage 1, SHCFG STRW MEV", SMMUV3_ACCEL_STE_READ,
      { S1(0, 0), ATTRS | SHCFG(1) | 2ull << 30 | 1ull << 19 },
      TRANSLATE, NONE, { S1(0, 0), ATTRS } },
    { "stage 1, all other bits", SMMUV3_ACCEL_STE_READ,
      { S1(0, 0) | ~HOST_WORD0, ATTRS | ~HOST_WORD1 },
      TRANSLATE, NONE, { S1(0, 0), ATTRS } },
    /* A stage 2, which the guest's IDR0 does not advertise */
    { "stage 2", SMMUV3_ACCEL_STE_READ, { V | CONFIG(6), 0 },
      ABORT, BAD_STE, { ABORT_STE } },
    { "nested", SMMUV3_ACCEL_STE_READ, { V | CONFIG(7) | CONTEXTPTR, ATTRS },
      ABORT, BAD_STE, { ABORT_STE } },
};

static void test_enabled(void)
{
    const SMMUv3AccelSTERules t = {};

    for (int i = 0; i < ARRAY_SIZE(stes); i++) {
        for (int gbpa = 0; gbpa < 2; gbpa++) {
            SMMUv3AccelInputs in = {
                .smmuen = true, .gbpa_abort = gbpa,
                .ste_status = stes[i].status,
                .ste = { stes[i].ste[0], stes[i].ste[1] },
            };

            check(stes[i].name, &in, &t, stes[i].action, stes[i].fault,
                  stes[i].word[0], stes[i].word[1]);
        }
    }
}

/* With SMMUEN=0 GBPA decides, and QEMU reads no table (IHI 0070 6.3.9.6) */
static void test_disabled(void)
{
    const SMMUv3AccelSTERules rules[] = {
        {}, { .ssidsize = 20, .cd2l = true, .ats = true,
              .host_may_stall = true },
    };

    for (int i = 0; i < ARRAY_SIZE(stes); i++) {
        for (int k = 0; k < ARRAY_SIZE(rules); k++) {
            SMMUv3AccelInputs in = {
                .ste_status = stes[i].status,
                .ste = { stes[i].ste[0], stes[i].ste[1] },
            };

            check(stes[i].name, &in, &rules[k], BYPASS, NONE, BYPASS_STE, 0);
            in.gbpa_abort = true;
            check(stes[i].name, &in, &rules[k], ABORT, NONE, ABORT_STE, 0);
        }
    }
}

/* Decide on one stage 1 STE */
static void check_s1(SMMUv3AccelSTERules t, uint64_t word0, uint64_t word1,
                     bool good, uint64_t host0, uint64_t host1)
{
    const SMMUv3AccelInputs in = {
        .smmuen = true, .ste_status = SMMUV3_ACCEL_STE_READ,
        .ste = { word0, word1 },
    };

    if (good) {
        check("a good STE", &in, &t, TRANSLATE, NONE, host0, host1);
    } else {
        check("a bad STE", &in, &t, ABORT, BAD_STE, ABORT_STE, 0);
    }
}

static void test_s1cdmax(void)
{
    for (unsigned ssidsize = 0; ssidsize <= 20; ssidsize++) {
        for (unsigned cdmax = 0; cdmax < 32; cdmax++) {
            SMMUv3AccelSTERules t = { .ssidsize = ssidsize };

            /* Without SubstreamIDs there is one CD, whatever S1CDMax says */
            check_s1(t, S1(0, cdmax), ATTRS, !ssidsize || cdmax <= ssidsize,
                     S1(0, ssidsize ? cdmax : 0), ATTRS);
        }
    }
}

/*
 * S1Fmt and S1DSS matter only if there is more than one CD.  Their value 3 is
 * reserved and acts as 0.
 */
static void test_s1fmt(void)
{
    for (unsigned fmt = 0; fmt < 4; fmt++) {
        for (int cd2l = 0; cd2l < 2; cd2l++) {
            SMMUv3AccelSTERules t = { .ssidsize = 8, .cd2l = cd2l };

            check_s1(t, S1(fmt, 0), ATTRS, true, S1(0, 0), ATTRS);
            check_s1(t, S1(fmt, 8), ATTRS, cd2l || fmt == 0 || fmt == 3,
                     S1(fmt % 3, 8), ATTRS);
            t.ssidsize = 0;
            check_s1(t, S1(fmt, 8), ATTRS, true, S1(0, 0), ATTRS);
        }
    }
}

static void test_s1dss(void)
{
    const SMMUv3AccelSTERules t = { .ssidsize = 8 };

    for (unsigned dss = 0; dss < 4; dss++) {
        check_s1(t, S1(0, 0), ATTRS | S1DSS(dss), true, S1(0, 0), ATTRS);
        check_s1(t, S1(0, 1), ATTRS | S1DSS(dss), true, S1(0, 1),
                 ATTRS | S1DSS(dss % 3));
    }
}

static void test_eats(void)
{
    for (unsigned eats = 0; eats < 4; eats++) {
        for (int ats = 0; ats < 2; ats++) {
            SMMUv3AccelSTERules t = { .ats = ats };

            check_s1(t, S1(0, 0), ATTRS | EATS(eats), !ats || eats != 2,
                     S1(0, 0), ATTRS | (ats && eats == 1 ? EATS(1) : 0));
        }
    }
}

/* The guest's IDR0.STALL_MODEL is 0b01, the host's may be 0b00 */
static void test_stall(void)
{
    SMMUv3AccelSTERules t = {};

    check_s1(t, S1(0, 0), ATTRS, true, S1(0, 0), ATTRS);
    check_s1(t, S1(0, 0), ATTRS | S1STALLD, false, 0, 0);
    t.host_may_stall = true;
    check_s1(t, S1(0, 0), ATTRS, true, S1(0, 0), ATTRS | S1STALLD);
    check_s1(t, S1(0, 0), ATTRS | S1STALLD, false, 0, 0);
}

/* Each of an STE's 128 bits alone, over each kind of STE */
static void test_single_bits(void)
{
    for (int i = 0; i < ARRAY_SIZE(stes); i++) {
        for (int bit = 0; bit < 128; bit++) {
            for (int k = 0; k < 16; k++) {
                SMMUv3AccelSTERules t = {
                    .ssidsize = k & 1 ? 20 : 0, .cd2l = k & 2,
                    .ats = k & 4, .host_may_stall = k & 8,
                };
                SMMUv3AccelInputs in = {
                    .smmuen = true, .ste_status = stes[i].status,
                    .ste = { stes[i].ste[0], stes[i].ste[1] },
                };

                in.ste[bit / 64] ^= BIT_ULL(bit % 64);
                check_properties(&in, &t);
            }
        }
    }
}

/* A bit that the host does not accept does not change the decision */
static void test_masked_bits_are_no_news(void)
{
    const SMMUv3AccelSTERules t = { .ssidsize = 4, .cd2l = true, .ats = true };
    const SMMUv3AccelInputs in = {
        .smmuen = true, .ste_status = SMMUV3_ACCEL_STE_READ,
        .ste = { S1(1, 4), ATTRS | S1DSS(2) | EATS(1) },
    };
    SMMUv3AccelDecision plain = smmuv3_accel_decide(&in, &t);

    for (int bit = 0; bit < 128; bit++) {
        SMMUv3AccelInputs other = in;
        SMMUv3AccelDecision d;
        uint64_t host = bit < 64 ? HOST_WORD0 : HOST_WORD1;

        other.ste[bit / 64] ^= BIT_ULL(bit % 64);
        d = smmuv3_accel_decide(&other, &t);
        if (smmuv3_accel_decision_equal(&d, &plain) !=
            !(host & BIT_ULL(bit % 64))) {
            complain(&other, &t, &d, "a bit inside the host's masks changes "
                     "nothing, or one outside does");
        }
    }
}

static void test_random(void)
{
    for (int i = 0; i < 300000; i++) {
        uint64_t r = (uint64_t)g_test_rand_int() << 32 |
                     (uint32_t)g_test_rand_int();
        uint64_t word1 = (uint64_t)g_test_rand_int() << 32 |
                         (uint32_t)g_test_rand_int();
        unsigned k = g_test_rand_int();
        SMMUv3AccelSTERules t = {
            .ssidsize = (k & 15) + (k & 16 ? 5 : 0), .cd2l = k & 32,
            .ats = k & 64, .host_may_stall = k & 128,
        };
        SMMUv3AccelInputs in = {
            .smmuen = k & 0x700, .gbpa_abort = k & 0x800,
            .ste_status = k & 0x7000 ? SMMUV3_ACCEL_STE_READ : k >> 15 & 3,
            .ste = { k & 0x20000 ? r | V : r, word1 },
        };

        /* Make most words stage 1 STEs that may be valid */
        if (k & 0x40000) {
            in.ste[0] = deposit64(in.ste[0], 1, 3, 5);
            in.ste[1] &= ~S1STALLD;
        }
        check_properties(&in, &t);
    }
}

static void test_equal(void)
{
    const SMMUv3AccelDecision a = {
        .action = TRANSLATE, .fault = NONE, .ste = { S1(0, 0), ATTRS },
    };
    SMMUv3AccelDecision b = a;

    g_assert_true(smmuv3_accel_decision_equal(&a, &b));
    b.fault = BAD_STE;
    g_assert_true(smmuv3_accel_decision_equal(&a, &b));
    b = a;
    b.action = BYPASS;
    g_assert_false(smmuv3_accel_decision_equal(&a, &b));
    for (int bit = 0; bit < 128; bit++) {
        b = a;
        b.ste[bit / 64] ^= BIT_ULL(bit % 64);
        g_assert_false(smmuv3_accel_decision_equal(&a, &b));
    }
}

static void test_names(void)
{
    g_assert_cmpstr(smmuv3_accel_action_name(ABORT), ==, "abort");
    g_assert_cmpstr(smmuv3_accel_action_name(BYPASS), ==, "bypass");
    g_assert_cmpstr(smmuv3_accel_action_name(TRANSLATE), ==, "translate");
    g_assert_cmpstr(smmuv3_accel_action_name(99), ==, "abort");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/smmuv3-accel/policy/enabled-goes-by-the-ste",
                    test_enabled);
    g_test_add_func("/smmuv3-accel/policy/disabled-goes-by-gbpa",
                    test_disabled);
    g_test_add_func("/smmuv3-accel/policy/s1cdmax-within-ssidsize",
                    test_s1cdmax);
    g_test_add_func("/smmuv3-accel/policy/s1fmt-with-many-cds-only",
                    test_s1fmt);
    g_test_add_func("/smmuv3-accel/policy/s1dss-with-many-cds-only",
                    test_s1dss);
    g_test_add_func("/smmuv3-accel/policy/eats-is-full-or-none", test_eats);
    g_test_add_func("/smmuv3-accel/policy/no-stalls", test_stall);
    g_test_add_func("/smmuv3-accel/policy/single-bits", test_single_bits);
    g_test_add_func("/smmuv3-accel/policy/masked-bits-are-no-news",
                    test_masked_bits_are_no_news);
    g_test_add_func("/smmuv3-accel/policy/random-inputs", test_random);
    g_test_add_func("/smmuv3-accel/policy/equal", test_equal);
    g_test_add_func("/smmuv3-accel/policy/names", test_names);
    return g_test_run();
}
