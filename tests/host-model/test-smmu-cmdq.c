/*
 * Tests of the host model's physical SMMUv3: its command queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "test-smmu.h"

/*
 * Nothing takes effect before a CMD_SYNC.  An illegal command stops only
 * itself.
 */
static void test_queue(void)
{
    g_world *w = world("grace");
    Space s = nested(w, 12, 25);
    uint64_t good[2] = { NH_ALL | C_VMID(1), 0 }, bad[2] = { 0xff, 0 };
    uint64_t atc[2] = { ATC_INV | C_SID(SID), 0x5000 }, n;

    map(&s, 0x5000, RAM, 3, PAGE);
    go(w, 0x5000);
    n = count("smmu.sync");
    hm_smmu_command(w->smmu, good);
    expect(hits(w, SID, 0x5000), true, "before the sync");
    expect(hm_smmu_sync(w->smmu), 0, "sync");
    expect(count("smmu.sync") - n, 1, "syncs");
    expect(hits(w, SID, 0x5000), false, "after the sync");
    expect(hm_smmu_sync(w->smmu), 0, "executed once");
    expect(hits(w, SID, 0x5000), true, "executed once");

    n = count("smmu.cmd.TLBI_NH_ALL");
    hm_smmu_command(w->smmu, bad);
    hm_smmu_command(w->smmu, good);
    expect(hm_smmu_sync(w->smmu), -EIO, "illegal");
    expect(hits(w, SID, 0x5000), false, "the rest is executed");
    expect(count("smmu.cmd.TLBI_NH_ALL") - n, 1, "counted");
    expect(hm_smmu_sync(w->smmu), 0, "reported once");

    atc_invs = 0;
    hm_smmu_command(w->smmu, atc);
    expect(atc_invs, 0, "ATC_INV before the sync");
    expect(hm_smmu_sync(w->smmu), 0, "ATC_INV");
    expect(atc_invs, 1, "ATC_INV");
    expect(atc_inv_last[0], atc[0], "ATC_INV");
    expect(atc_inv_last[1], atc[1], "ATC_INV");
    atc_answers = false;
    hm_smmu_command(w->smmu, atc);
    hm_smmu_command(w->smmu, good);
    expect(hm_smmu_sync(w->smmu), -ETIMEDOUT, "ATC_INV");
    expect(hits(w, SID, 0x5000), false, "the rest is executed");
    hm_smmu_command(w->smmu, bad);
    hm_smmu_command(w->smmu, atc);
    expect(hm_smmu_sync(w->smmu), -EIO, "both");
    atc_answers = true;
}

/* Erratum T264-SMMU-3: a TLBI or CFGI needs an equal one before a CMD_SYNC. */
static void test_repeat(void)
{
    const uint64_t all[2] = { NH_ALL | C_VMID(1), 0 };
    const uint64_t asid[2] = { NH_ASID | C_VMID(1), 0 };
    g_world *w = world("tegra264");
    Space s = nested(w, 12, 25);

    map(&s, 0x5000, RAM, 3, PAGE);
    go(w, 0x5000);
    expect(command(w, all[0], all[1]), 0, "first");
    expect(hits(w, SID, 0x5000), true, "first");
    expect(command(w, all[0], all[1]), 0, "second");
    expect(hits(w, SID, 0x5000), false, "second");
    expect(command(w, all[0], all[1]), 0, "third is a first again");
    expect(hits(w, SID, 0x5000), true, "third is a first again");
    expect(command(w, all[0], all[1]), 0, "fourth");
    expect(hits(w, SID, 0x5000), false, "fourth");

    /* Twice, but without a CMD_SYNC between them */
    go(w, 0x5000);
    hm_smmu_command(w->smmu, all);
    hm_smmu_command(w->smmu, all);
    hm_smmu_sync(w->smmu);
    expect(hits(w, SID, 0x5000), true, "no CMD_SYNC between them");
    expect(command(w, all[0], all[1]), 0, "a CMD_SYNC");
    expect(hits(w, SID, 0x5000), false, "a CMD_SYNC");
    expect(command(w, all[0], all[1]), 0, "none is left");

    /* Others may come between, but not too many */
    go(w, 0x5000);
    command(w, asid[0] | C_ASID(s.asid), 0);
    command(w, CFGI_CD_ALL | C_SID(1), 0);
    expect(hits(w, SID, 0x5000), true, "another between");
    command(w, asid[0] | C_ASID(s.asid), 0);
    expect(hits(w, SID, 0x5000), false, "another between");
    command(w, asid[0] | C_ASID(s.asid), 0);
    for (unsigned i = 0; i < 100; i++) {
        hm_smmu_sync(w->smmu);
    }
    command(w, asid[0] | C_ASID(s.asid), 0);
    expect(hits(w, SID, 0x5000), true, "forgotten");

    /* ATC_INV is not affected, and illegal stays illegal */
    atc_invs = 0;
    expect(command(w, ATC_INV | C_SID(SID), 0), 0, "ATC_INV");
    expect(atc_invs, 1, "ATC_INV");
    expect(command(w, NH_ALL, 1), -EIO, "illegal");
}

static void test_legal_commands(void)
{
    static const struct {
        const char *profile;
        uint64_t w0, w1;
        bool good;
    } rows[] = {
        { "grace", 0, 0, false },
        { "grace", 1, 0, true },
        { "grace", 2, 0, true },
        { "grace", 7, 0, false },
        { "grace", 0x18, 0, false }, { "grace", 0x1a, 0, false },
        { "grace", 0x29, 0, false }, { "grace", 0xff, 0, false },
        { "grace", CFGI_STE | C_SID(0xffffffff), 1, true },
        { "grace", CFGI_STE | BIT(10), 0, false },      /* SSec */
        { "grace", CFGI_STE | C_SSID(1), 0, false },
        { "grace", CFGI_STE, 2, false },
        { "grace", CFGI_RANGE | C_SID(5), 0x1f, true },
        { "grace", CFGI_RANGE, 0x20, false },
        { "grace", CFGI_CD | C_SID(1) | C_SSID(0xfffff), 1, true },
        { "grace", CFGI_CD | BIT(11), 0, false },       /* no SSV there */
        { "grace", CFGI_CD_ALL | C_SSID(1), 0, false },
        { "grace", CFGI_CD_ALL, 1, false },
        { "grace", NSNH_ALL | C_VMID(1), 0, false },
        { "grace", NH_ALL | C_ASID(1), 0, false },
        { "grace", NH_ALL, 0x1000, false },
        { "grace", NH_ASID | C_ASID(0xffff) | C_VMID(0xffff), 0, true },
        { "asid8", NH_ASID | C_ASID(0xff), 0, true },
        { "asid8", NH_ASID | C_ASID(0x100), 0, false },
        { "asid8", NH_VA | C_ASID(0x100), 0, false },
        { "asid8", NH_VA | C_ASID(0xff), 0, true },
        { "asid8", CFGI_STE | C_SID(0xffffffff), 0, true },
        { "onestage", NH_ALL | C_VMID(0xff), 0, true },
        { "onestage", NH_ALL | C_VMID(0x100), 0, false },
        { "onestage", S12_VMALL, 0, false },
        { "onestage", S2_IPA, 0, false },
        { "grace", S12_VMALL | C_VMID(1), 0, true },
        { "grace", S2_IPA | C_VMID(1), BIT(51), true },
        { "grace", S2_IPA | C_VMID(1), BIT(52), false },
        { "grace", S2_IPA | C_VMID(1) | C_ASID(1), 0, false },
        { "grace", NH_VAA | C_ASID(1), 0, false },
        { "grace", NH_VA, 2, false },
        { "grace", NH_VA | BIT(11), 0, false },
        { "grace", NH_VA | BIT(17), TG4K, false },
        { "grace", EL2_ALL, 0, false }, { "grace", EL2_ASID, 0, false },
        { "grace", EL2_VA, 0, false }, { "grace", EL2_VAA, 0, false },
        { "grace", PRI_RESP, 0, false },
        { "grace", RESUME, 0, false }, { "grace", STALL_TERM, 0, false },
        { "grace", SYNC | BIT(12), 0, true },
        { "grace", ATC_INV | BIT(11) | BIT(9) | C_SSID(1), 52, true },
        { "grace", ATC_INV, 53, false },
        { "grace", ATC_INV, 63, false },
        { "grace", ATC_INV, 0x40, false },
        /* Ranges */
        { "grace", NH_VA | C_NUM(1), TG4K, true },
        { "grace", NH_VA | C_SCALE(1), TG4K, true },
        { "grace", NH_VA, TG4K | C_TTL(1), true },
        { "grace", NH_VA, TG4K, false },
        { "grace", NH_VA | C_NUM(1), 0, false },
        { "grace", NH_VA | C_SCALE(1), 0, false },
        { "grace", NH_VA, C_TTL(1), false },
        { "grace", NH_VA | C_SCALE(31), TG4K, true },
        { "grace", NH_VA | BIT(25), TG4K, false },
        { "grace", NH_VA | C_NUM(1), TG16K | C_TTL(1), false },
        { "grace", NH_VA | C_NUM(1), TG16K | C_TTL(2), true },
        { "grace", NH_VA | C_NUM(1), TG64K | C_TTL(1), true },
        { "grace", NH_VAA | C_NUM(1), TG64K, true },
        { "grace", NH_VAA | C_NUM(1), 0, false },
        { "grace", S2_IPA | C_NUM(1), TG4K, true },
        { "grace", S2_IPA | C_NUM(1), 0, false },
        { "grace", NH_ASID | C_NUM(1), 0, false },
        { "noril", NH_VA, 0x5001, true },
        { "noril", NH_VA | C_NUM(1), TG4K, false },
        { "noril", NH_VA | C_SCALE(1), 0, false },
        { "noril", NH_VA, TG4K, false },
        { "noril", NH_VA, C_TTL(1), false },
        { "noril", NH_VAA, C_TTL(1), false },
        { "noril", S2_IPA, TG4K, false },
        { "kunpeng", NH_VA | C_NUM(1), TG4K, false },
        /* DS: SCALE has six bits, and 16K has blocks at level 1. */
        { "lpa2", NH_VA | BIT(25), TG4K, true },
        { "lpa2", NH_VA | C_SCALE(63) | C_NUM(31), TG64K, true },
        { "lpa2", NH_VA | BIT(25), 0, false },
        { "lpa2", NH_VA | BIT(26), TG4K, false },
        { "lpa2", NH_VA, TG16K | C_TTL(1), true },
        { "lpa2", NH_VA, TG16K, false },
        { "neoverse", EL2_ALL, 0, true }, { "neoverse", PRI_RESP, 0, true },
        { "neoverse", RESUME, 0, true },
        { "minimal", NH_VA | C_ASID(0xff) | C_VMID(0xff), 1, true },
        { "minimal", NH_VA | C_ASID(0x100), 1, false },
        { "minimal", NH_VA | C_VMID(0x100), 1, false },
        { "minimal", ATC_INV, 52, false },
        { "minimal", CFGI_CD | C_SSID(1), 1, false },
        { "minimal", CFGI_CD, 1, true },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world(rows[i].profile);

        expect(command(w, rows[i].w0, rows[i].w1), rows[i].good ? 0 : -EIO,
               "row %u: 0x%" PRIx64 " 0x%" PRIx64, i, rows[i].w0, rows[i].w1);
    }
}

/* The same with IDRs that no profile has */
static void test_legal_commands_idr(void)
{
    static const struct {
        unsigned idr;
        uint32_t clear, set;
        uint64_t w0, w1;
        bool good;
    } rows[] = {
        { 0, BIT(10), 0, ATC_INV, 0, false },
        { 0, 0, 0, ATC_INV, 0, true },
        { 0, 2, 0, CFGI_CD, 0, false },
        { 0, 2, 0, NH_ALL, 0, false },
        { 0, 2, 0, NH_VA, 0, false },
        { 0, 2, 0, CFGI_STE, 0, true },
        { 0, 0, BIT(9), EL2_ALL, 0, true },
        { 0, 0, BIT(9), EL2_ASID | C_ASID(1), 0, true },
        { 0, 0, BIT(9), EL2_VA | C_ASID(1), 0x1000, true },
        { 0, 0, BIT(9), EL2_VAA, 0x1000, true },
        { 0, 0, BIT(9), EL2_VA | C_VMID(1), 0, false },
        { 0, 0, BIT(16), PRI_RESP, 0, true },
        { 0, BIT(24), 0, RESUME, 0, true },
        { 0, BIT(24), 0, STALL_TERM, 0, true },
        { 1, 0x7c0, 0, CFGI_CD | C_SSID(1), 0, false },
        { 1, 0x7c0, 0, CFGI_CD, 0, true },
        { 1, 0x7c0, 0, ATC_INV | BIT(11), 0, false },
        { 1, 0x7c0, 0, ATC_INV | BIT(9), 0, false },
        { 1, 0x7c0, 0, ATC_INV | C_SSID(1), 0, false },
        { 1, 0x7c0, 0, ATC_INV, 0, true },
        { 0, BIT(18), 0, NH_ALL | C_VMID(0x100), 0, false },
        { 0, BIT(18), 0, NH_ALL | C_VMID(0xff), 0, true },
        { 0, BIT(18), 0, CFGI_STE | C_SID(0x100), 0, true },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        HmSmmuConfig config;

        g_assert(hm_smmu_profile("grace", &config));
        config.idr[rows[i].idr] &= ~rows[i].clear;
        config.idr[rows[i].idr] |= rows[i].set;
        {
            g_world *w = world_new(&config);

            expect(command(w, rows[i].w0, rows[i].w1),
                   rows[i].good ? 0 : -EIO, "row %u", i);
        }
    }
}

/* SCALE with DS: up to 39, whatever it says, and the range does not wrap */
static void test_scale(void)
{
    static const struct {
        const char *profile;
        unsigned scale;
        uint64_t page;
        bool hit;                               /* it stays */
    } rows[] = {
        { "grace", 31, BIT(42), false }, { "grace", 31, BIT(43), true },
        { "lpa2", 31, BIT(43), true }, { "lpa2", 32, BIT(43), false },
        { "lpa2", 34, BIT(46) | BIT(45), true },
        { "lpa2", 35, BIT(46) | BIT(45), false },
        { "lpa2", 39, BIT(46) | BIT(45), false },
        { "lpa2", 63, BIT(46) | BIT(45), false },
        { "lpa2", 63, ~0ull << 47, true },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world(rows[i].profile);
        Space s = nested(w, 12, 16);

        map(&s, rows[i].page, RAM, 3, PAGE);
        expect(go(w, rows[i].page), RAM, "row %u", i);
        expect(command(w, NH_VAA | C_VMID(1) | C_SCALE(rows[i].scale), TG4K), 0,
               "row %u", i);
        expect(hits(w, SID, rows[i].page), rows[i].hit, "row %u", i);
    }
}

/* Registers of all profiles: what the architecture demands together */
static void test_profiles_idr(void)
{
    static const struct {
        const char *name;
        unsigned oas, ssidsize;
        bool ats, cd2l, ds;
    } rows[] = {
        { "grace", 5, 20, true, true, false },
        { "kunpeng", 5, 20, true, true, false },
        { "neoverse", 5, 20, true, true, false },
        { "lpa2", 6, 20, true, true, true },
        { "minimal", 2, 0, false, false, false },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        HmSmmuConfig c;
        unsigned vax, cmdqs;

        g_assert(hm_smmu_profile(rows[i].name, &c));
        vax = c.idr[5] >> 10 & 3;
        cmdqs = c.idr[1] >> 21 & 31;
        expect(c.idr[5] & 7, rows[i].oas, "%s: OAS", rows[i].name);
        expect(c.idr[1] >> 6 & 31, rows[i].ssidsize, "%s", rows[i].name);
        expect(!!(c.idr[0] & BIT(10)), rows[i].ats, "%s: ATS", rows[i].name);
        expect(!!(c.idr[0] & BIT(19)), rows[i].cd2l, "%s: CD2L", rows[i].name);
        expect(!!(c.idr[5] & BIT(7)), rows[i].ds, "%s: DS", rows[i].name);
        expect((c.idr[5] & 7) == 6, vax == 1, "%s: VAX", rows[i].name);
        /* 2.9: DS is of v3.4, so v3.3 is the least; RIL and FWB need v3.1. */
        expect(!rows[i].ds || c.aidr >= 3, true, "%s: AIDR", rows[i].name);
        expect(!(c.idr[3] & (BIT(10) | BIT(8))) || c.aidr >= 1, true,
               "%s: AIDR", rows[i].name);
        expect((c.idr[1] & 63) >= 16, true, "%s: SIDSIZE", rows[i].name);
        expect((c.idr[0] >> 27 & 3) == 1, true, "%s: ST_LEVEL", rows[i].name);
        expect(cmdqs > 6 && cmdqs <= 19, true, "%s: CMDQS", rows[i].name);
        expect(c.canwbs || (c.idr[3] & BIT(8)), true, "%s", rows[i].name);
    }
}

void add_command_tests(void)
{
    g_test_add_func("/smmu/profiles-idr", test_profiles_idr);
    g_test_add_func("/smmu/scale", test_scale);

    g_test_add_func("/smmu/legal/commands", test_legal_commands);
    g_test_add_func("/smmu/legal/commands-idr", test_legal_commands_idr);
    g_test_add_func("/smmu/queue", test_queue);
    g_test_add_func("/smmu/repeat", test_repeat);
}
