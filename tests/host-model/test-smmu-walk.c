/*
 * Tests of the host model's physical SMMUv3: what it does without any cache
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "test-smmu.h"

/*
 * Leaves: every granule, level and half
 */

static void test_leaves(void)
{
    static const struct {
        unsigned granule, tsz, level;
        uint64_t va, size;
    } rows[] = {
        { 12, 16, 3, 0x7fff12345000, 4 * KiB },
        { 12, 16, 2, 0x123456600000, 2 * MiB },
        { 12, 16, 1, 0x123440000000, GiB },
        { 12, 25, 3, 0x7f12345000, 4 * KiB },
        { 12, 25, 2, 0x7f12200000, 2 * MiB },
        { 12, 25, 1, 0x7f00000000, GiB },
        { 12, 32, 3, 0xf2345000, 4 * KiB },
        { 12, 32, 2, 0xf2200000, 2 * MiB },
        { 12, 39, 3, 0x1ff5000, 4 * KiB },
        { 12, 39, 2, 0x1e00000, 2 * MiB },
        { 12, 17, 3, 0x7ffffffff000, 4 * KiB },
        { 14, 16, 3, 0xf23456788000, 16 * KiB },
        { 14, 16, 2, 0xf23456000000, 32 * MiB },
        { 14, 17, 3, 0x723456784000, 16 * KiB },
        { 14, 28, 2, 0xf2000000, 32 * MiB },
        { 14, 39, 3, 0x1ffc000, 16 * KiB },
        { 16, 16, 3, 0xf23456780000, 64 * KiB },
        { 16, 16, 2, 0xf23440000000, 512 * MiB },
        { 16, 22, 3, 0x3f456780000, 64 * KiB },
        { 16, 35, 3, 0x1fff0000, 64 * KiB },
        { 16, 39, 3, 0x1ff0000, 64 * KiB },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        for (unsigned half = 0; half < 2; half++) {
            g_world *w = world("grace");
            Space s = nested(w, rows[i].granule, rows[i].tsz);
            /* The range's last addresses, in the upper half as well */
            uint64_t va = half ? rows[i].va | (UINT64_MAX << (64 - s.tsz))
                               : rows[i].va;
            uint64_t out = (RAM + 32 * MiB) & ~(rows[i].size - 1);
            /* The part of a block that is in RAM and before the hole */
            uint64_t in = RAM + 32 * MiB - out, seen;
            g_autofree char *name = g_strdup_printf(
                "granule %u tsz %u level %u va 0x%" PRIx64, rows[i].granule,
                rows[i].tsz, rows[i].level, va);

            map(&s, va, out, rows[i].level, PAGE);
            for (unsigned hit = 0; hit < 2; hit++) {
                uint64_t before = count("smmu.tlb.hit");

                seen = go(w, va + in + 0x238);
                expect(seen, out + in + 0x238, "%s hit %u", name, hit);
                expect(count("smmu.tlb.hit") - before, hit, "%s hits", name);
                expect(last.len, MIN(rows[i].size - in, HOLE - out - in) -
                       0x238, "%s hit %u len", name, hit);
                /* Instructions too, because nothing is XN */
                expect(last.prot, HM_READ | HM_WRITE | HM_EXEC, "%s prot",
                       name);
            }
            expect(go(w, va + in + MIN(rows[i].size - in, 8 * MiB) - 1),
                   out + in + MIN(rows[i].size - in, 8 * MiB) - 1,
                   "%s last byte", name);
            expect(w->events, 0, "%s events", name);
            expect(go(w, va - 1), NONE, "%s below", name);
            expect(w->event[0] & 0xff, 0x10, "%s below", name);
            if (va + rows[i].size) {
                go(w, va + rows[i].size);
                expect(w->event[0] & 0xff, 0x10, "%s above", name);
            }
        }
    }
}

/* Each level has descriptors that the SMMU must reject. */
static void test_descriptors(void)
{
    static const struct {
        unsigned granule, level;
        uint64_t d;
        unsigned event;
    } rows[] = {
        { 12, 3, 3, 0 },
        { 12, 3, 1, 0x10 },             /* reserved: no block at level 3 */
        { 12, 3, 2, 0x10 }, { 12, 3, 0, 0x10 },
        { 12, 2, 1, 0 }, { 12, 2, 2, 0x10 }, { 12, 2, 0, 0x10 },
        { 12, 1, 1, 0 }, { 12, 1, 0, 0x10 },
        { 12, 0, 1, 0x10 }, { 12, 0, 0, 0x10 },
        { 14, 3, 3, 0 }, { 14, 2, 1, 0 }, { 14, 1, 1, 0x10 },
        { 14, 0, 1, 0x10 },
        { 16, 3, 3, 0 }, { 16, 2, 1, 0 }, { 16, 1, 1, 0x10 },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world("grace");
        Space s = nested(w, rows[i].granule, 16);
        uint64_t size = BIT(shift_of(rows[i].granule, rows[i].level));
        uint64_t va = (size * 3) & (BIT(48) - 1), out = RAM & ~(size - 1);

        *desc(&s, va, rows[i].level) = out | PAGE | rows[i].d;
        go(w, va + (RAM - out));
        expect(w->event[0] & 0xff, rows[i].event, "granule %u level %u of 0x%"
               PRIx64, rows[i].granule, rows[i].level, rows[i].d);
    }
    {
        /* Level 3 is the last, whatever could be read behind it. */
        g_world *w = world("grace");
        Space s = nested(w, 12, 16);
        uint64_t page = alloc(w, 4096);

        for (unsigned i = 0; i < 512; i++) {
            mem(w, page)[i] = page | PAGE | 3;
        }
        *desc(&s, 0x5000, 3) = page | PAGE | 1;
        go(w, 0x5000);
        expect(w->event[0] & 0xff, 0x10, "level 3");
    }
}

/* 52 bits need granules of 64K, and an OAS of 52 bits. */
static void test_52_bits(void)
{
    static const struct {
        unsigned granule, oas, ips;
        uint64_t ipa;                   /* as in the event of stage 2 */
    } rows[] = {
        { 16, 6, 6, 0x5800000030000 },
        { 16, 6, 5, 0x0800000030000 },
        { 16, 5, 6, 0x0800000030000 },
        { 16, 5, 5, 0x0800000030000 },
        { 12, 6, 6, 0x0800000035000 },
    };
    HmSmmuConfig config;

    g_assert(hm_smmu_profile("grace", &config));
    for (unsigned i = 0; i < N(rows); i++) {
        config.idr[5] = (config.idr[5] & ~7u) | rows[i].oas;
        {
            g_world *w = world_new(&config);
            Space s = nested(w, rows[i].granule, 25);
            uint64_t *cd = mem(w, hm_smmu_ste(w->smmu, SID)[0] &
                               0xffffffffffc0);

            *cd = (*cd & ~(7ull << 32)) | (uint64_t)rows[i].ips << 32;
            *desc(&s, 0x50000, 3) = 0x800000035000 | PAGE | 3;
            go(w, 0x50000);
            expect_event(w, "IPA", E0(0x10, SID), E1_IN | E1_READ | E1_S2,
                         0x50000, rows[i].ipa);
        }
    }
    {
        /* Blocks of 4 TiB, and no 16K blocks at level 1 */
        config.idr[5] = (config.idr[5] & ~7u) | 6;
        for (unsigned granule = 14; granule <= 16; granule += 2) {
            g_world *w = world_new(&config);
            Space s = nested(w, granule, 16);

            *desc(&s, 0, 1) = PAGE | 1;
            expect(go(w, RAM + 0x1238), granule == 16 ? RAM + 0x1238 : NONE,
                   "level 1 of granule %u", granule);
        }
    }
}

/* With TBI the TLB ignores the top byte. */
static void test_top_byte(void)
{
    g_world *w = world("grace");
    Space s = nested(w, 12, 25);
    uint64_t *cd = mem(w, hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0);
    uint64_t upper = 0xffffff8000005000;

    cd[0] |= BIT(38) | BIT(39);
    map(&s, 0x5000, RAM, 3, PAGE);
    map(&s, upper, RAM, 3, PAGE);
    expect(go(w, 0xa500000000005000), RAM, "lower");
    expect(hits(w, SID, 0x5000), true, "lower");
    expect(hits(w, SID, 0x7f00000000005000), true, "lower");
    command(w, NH_VA | C_VMID(1) | C_ASID(1), 0x5000);
    expect(hits(w, SID, 0xa500000000005000), false, "lower");
    expect(go(w, 0x00ffff8000005000), RAM, "upper");
    expect(hits(w, SID, upper), true, "upper");
    command(w, NH_VA | C_VMID(1) | C_ASID(1), upper);
    expect(hits(w, SID, 0x00ffff8000005000), false, "upper");
}

/* A block's address has no bits below its size. */
static void test_block_alignment(void)
{
    g_world *w = world("grace");
    Space s = nested(w, 12, 25);

    map(&s, 0x200000, RAM + 2 * MiB + 0x43000, 2, PAGE);
    expect(go(w, 0x200123), RAM + 2 * MiB + 0x123, "2 MiB");
}

/* A table's address has no bits below its size. */
static void test_table_alignment(void)
{
    g_world *w = world("grace");
    Space s = nested(w, 12, 25);
    uint64_t *cd = mem(w, hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0);

    map(&s, 0x5000, RAM, 3, PAGE);
    cd[1] |= 0xff0;
    expect(go(w, 0x5000), RAM, "4 KiB");
    s = space(w, 12, 38, 1);            /* 26 bits: 32 entries at level 2 */
    map(&s, 0x1ff5000, RAM + 0x1000, 3, PAGE);
    s.ttb[0] |= 0xf0;
    set_cd(&s, hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0);
    flush(w);
    expect(go(w, 0x1ff5000), RAM + 0x1000, "256 bytes");
    flush(w);
    s.ttb[0] = (s.ttb[0] & ~0xf0ull) + 0x100;
    memcpy(mem(w, s.ttb[0]), mem(w, s.ttb[0] - 0x100), 0x100);
    set_cd(&s, hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0);
    memset(mem(w, s.ttb[0] - 0x100), 0, 0x100);
    expect(go(w, 0x1ff5000), RAM + 0x1000, "the next 256 bytes");
}

/*
 * Faults and their events
 */

static void test_address_range(void)
{
    static const struct {
        unsigned tsz;
        uint64_t va, flags;
        bool good;
    } rows[] = {
        { 25, 0x7fffffff000, 0, false },
        { 25, 0x7ffffff000, 0, true },
        { 25, 0x8000000000, 0, false },
        { 25, 0xffffff8000000000, 0, true },
        { 25, 0xffffff7ffffff000, 0, false },
        { 25, 0xff7fff8000000000, 0, false },
        { 25, 0x0080007ffffff000, 0, false },
        /* The top byte, with TBI of that half and of the other */
        { 25, 0xa500007ffffff000, 0, false },
        { 25, 0xa500007ffffff000, BIT(38), true },
        { 25, 0xa500007ffffff000, BIT(39), false },
        { 25, 0xa50000fffffff000, BIT(38), false },
        { 25, 0x12ffff8000000000, BIT(39), true },
        { 25, 0x12ffff8000000000, BIT(38), false },
        { 25, 0x127fff8000000000, BIT(39), false },
        /* EPD */
        { 25, 0x7ffffff000, CD_EPD0, false },
        { 25, 0x7ffffff000, CD_EPD1, true },
        { 25, 0xffffff8000000000, CD_EPD1, false },
        { 25, 0xffffff8000000000, CD_EPD0, true },
        { 25, 0, 0, true },
        { 25, 0, CD_EPD0, false },
        { 25, UINT64_MAX - 7, 0, true },
        { 25, UINT64_MAX - 7, CD_EPD1, false },
        { 16, 0xffffffffffff, 0, true },
        { 16, 0x1000000000000, 0, false },
        { 16, 0xffff000000000000, 0, true },
        { 16, 0xfffeffffffffffff, 0, false },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world("grace");
        Space s = nested(w, 12, rows[i].tsz);
        uint64_t va = rows[i].va;
        uint64_t key = va >> 55 & 1 ? va | ~(BIT(56) - 1)
                                    : va & (BIT(56) - 1);

        map(&s, key, RAM, 3, PAGE);
        *mem(w, hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0) |=
            rows[i].flags;
        expect(go(w, va), rows[i].good ? RAM | (va & 0xfff) : NONE,
               "row %u: 0x%" PRIx64, i, va);
        if (!rows[i].good) {
            expect_event(w, "range", E0(0x10, SID), E1_IN | E1_READ, va, 0);
        }
    }
}

/* All fields of an event, by the access that failed */
static void test_records(void)
{
    g_world *w = world("grace");
    Space s = nested(w, 12, 25);
    uint64_t cd = hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0;
    uint64_t *ste = hm_smmu_ste(w->smmu, SID);
    const uint64_t va = 0x12345000, va2 = va + GiB;
    uint64_t table;

    go_as(w, SID, HM_NO_PASID, va + 0x123, HM_READ);
    expect_event(w, "read", E0(0x10, SID), E1_IN | E1_READ, va + 0x123, 0);
    go_as(w, SID, HM_NO_PASID, va, HM_WRITE);
    expect_event(w, "write", E0(0x10, SID), E1_IN, va, 0);
    go_as(w, SID, HM_NO_PASID, va, HM_WRITE | HM_READ | HM_PRIV);
    expect_event(w, "atomic", E0(0x10, SID), E1_IN | E1_PRIV, va, 0);
    go_as(w, SID, HM_NO_PASID, va, HM_READ | HM_EXEC);
    expect_event(w, "fetch", E0(0x10, SID), E1_IN | E1_READ | E1_INST, va, 0);
    /* An instruction access is never a write. */
    go_as(w, SID, HM_NO_PASID, va, HM_WRITE | HM_EXEC);
    expect_event(w, "write, inst", E0(0x10, SID), E1_IN, va, 0);

    /* Faults after a stage-1 leaf */
    map(&s, va, HOLE, 3, PAGE);
    map(&s, va + 0x1000, ROM + 0x3000, 3, PAGE);
    map(&s, va + 0x2000, WOM + 0x3000, 3, PAGE);
    map(&s, va + 0x3000, DOORBELL + 0x7000, 3, PAGE);
    map(&s, va + 0x4000, 0x800000000000, 3, PAGE);
    map(&s, va + 0x5000, RAM, 3, PAGE & ~PAGE_AF);
    map(&s, va + 0x6000, RAM, 3, PAGE | PAGE_RO);
    map(&s, va + 0x7000, WOM, 3, PAGE | PAGE_RO);
    for (int hit = 0; hit < 2; hit++) {
        go(w, va + 8);
        expect_event(w, "stage 2", E0(0x10, SID), E1_IN | E1_READ | E1_S2,
                     va + 8, HOLE);
        expect(go(w, va + 0x1008), ROM + 0x3008, "ROM");
        expect(last.prot, HM_READ | HM_EXEC, "ROM");
        go_as(w, SID, HM_NO_PASID, va + 0x1008, HM_WRITE);
        expect_event(w, "ROM", E0(0x13, SID), E1_IN | E1_S2, va + 0x1008,
                     ROM + 0x3000);
        expect(go_as(w, SID, HM_NO_PASID, va + 0x2000, HM_WRITE),
               WOM + 0x3000, "WOM");
        expect(last.prot, HM_WRITE, "WOM");
        go(w, va + 0x2010);
        expect_event(w, "WOM", E0(0x13, SID), E1_IN | E1_READ | E1_S2,
                     va + 0x2010, WOM + 0x3000);
        go_as(w, SID, HM_NO_PASID, va + 0x2000, HM_READ | HM_EXEC);
        expect_event(w, "WOM", E0(0x13, SID),
                     E1_IN | E1_READ | E1_S2 | E1_INST, va + 0x2000,
                     WOM + 0x3000);
        expect(go_as(w, SID, HM_NO_PASID, va + 0x3040, HM_WRITE), DOORBELL,
               "doorbell");
        go(w, va + 0x4000);
        expect_event(w, "IPA without memory", E0(0x10, SID),
                     E1_IN | E1_READ | E1_S2, va + 0x4000, 0x800000000000);
        go(w, va + 0x5004);
        expect_event(w, "access flag", E0(0x12, SID), E1_IN | E1_READ,
                     va + 0x5004, 0);
        go_as(w, SID, HM_NO_PASID, va + 0x6000, HM_WRITE);
        expect_event(w, "read-only", E0(0x13, SID), E1_IN, va + 0x6000, 0);
        go_as(w, SID, HM_NO_PASID, va + 0x7000, HM_WRITE);
        expect_event(w, "stage 1 first", E0(0x13, SID), E1_IN, va + 0x7000,
                     0);
    }

    /* Tables where nothing is mapped, where none may be, and too far away */
    *desc(&s, va2, 1) = HOLE | 3;
    go_as(w, SID, HM_NO_PASID, va2, HM_WRITE);
    expect_event(w, "table, stage 2", E0(0x10, SID),
                 E1_TT | E1_S2 | E1_TTREAD, va2, HOLE);
    *desc(&s, va2, 1) = (WOM + 0x4000) | 3;
    flush(w);
    go(w, va2);
    expect_event(w, "table, WOM", E0(0x13, SID),
                 E1_TT | E1_S2 | E1_READ | E1_TTREAD, va2, WOM + 0x4000);
    *desc(&s, va2, 1) = (DOORBELL + 0x4000) | 3;
    flush(w);
    go(w, va2);
    expect_event(w, "table, doorbell", E0(0x13, SID),
                 E1_TT | E1_S2 | E1_READ | E1_TTREAD, va2, DOORBELL + 0x4000);
    flush(w);
    table = *desc(&s, va, 2);
    mem(w, cd)[0] &= ~(7ull << 32);             /* IPS: 32 bits */
    expect(go(w, va + 0x1000), ROM + 0x3000, "32 bits");
    go(w, va + 0x4000);
    expect_event(w, "IPS of a page", E0(0x11, SID), E1_IN | E1_READ,
                 va + 0x4000, 0);
    *desc(&s, va, 2) = 0x100000000 | 3;
    flush(w);
    go(w, va + 0x1000);
    expect_event(w, "IPS of a table", E0(0x11, SID), E1_IN | E1_READ,
                 va + 0x1000, 0);
    *desc(&s, va, 2) = table;

    /* CD.R and STE.S2R suppress the events of their stage. */
    flush(w);
    mem(w, cd)[0] &= ~CD_R;
    expect(go(w, va + 0x4000), NONE, "CD.R");
    expect_event(w, "CD.R", 0, 0, 0, 0);
    go(w, va);
    expect(w->events, 1, "CD.R and stage 2");
    mem(w, cd)[0] |= CD_R;
    ste[2] &= ~BIT(58);
    flush(w);
    expect(go(w, va), NONE, "STE.S2R");
    expect_event(w, "STE.S2R", 0, 0, 0, 0);
    go(w, va + 0x4000);
    expect(w->events, 1, "STE.S2R and stage 1");
    ste[2] |= BIT(58);

    /* CDs */
    ste[0] = 1 | NESTED << 1 | HOLE;
    flush(w);
    go(w, va);
    expect_event(w, "CD, stage 2", E0(0x10, SID), E1_S2 | E1_READ, va, HOLE);
    ste[0] = 1 | NESTED << 1 | (WOM + 0x1000);
    flush(w);
    go_as(w, SID, HM_NO_PASID, va, HM_WRITE);
    expect_event(w, "CD, WOM", E0(0x13, SID), E1_S2, va, WOM + 0x1000);
    ste[0] = 1 | NESTED << 1 | alloc(w, 64);
    flush(w);
    go(w, va);
    expect_event(w, "CD.V=0", E0(0x0a, SID), 0, 0, 0);

    /* STEs */
    ste[0] = 0;
    flush(w);
    go(w, va);
    expect_event(w, "STE.V=0", E0(0x04, SID), 0, 0, 0);
    for (unsigned config = 0; config < 4; config++) {
        ste[0] = 1 | config << 1;
        flush(w);
        expect(go(w, va), NONE, "Config %u", config);
        expect_event(w, "abort", 0, 0, 0, 0);
    }
    go_as(w, 0xabcdef12, HM_NO_PASID, va, HM_READ);
    expect_event(w, "unknown", E0(0x04, 0xabcdef12), 0, 0, 0);
}

/* AFFD and HA decide what AF=0 means. */
static void test_access_flag(void)
{
    static const struct {
        const char *profile;
        uint64_t flags;
        unsigned event;
        bool set;
    } rows[] = {
        { "grace", 0, 0x12, false },
        { "grace", BIT(35), 0, false },
        { "grace", CD_HA, 0, true },
        { "grace", CD_HA | BIT(35), 0, true },
        { "kunpeng", BIT(35), 0, false },
        { "kunpeng", CD_HA, 0x0a, false },
        { "grace", CD_HA | CD_HD, 0x0a, false },
        { "httu", CD_HA | CD_HD, 0, true },
        { "httu", CD_HD, 0x12, false },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world(rows[i].profile);
        Space s = nested(w, 12, 25);
        uint64_t old = RAM | 3 | (PAGE & ~PAGE_AF);
        uint64_t *d = desc(&s, 0x5000, 3);

        *d = old;
        *mem(w, hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0) |=
            rows[i].flags;
        go(w, 0x5000);
        expect(w->event[0] & 0xff, rows[i].event, "row %u", i);
        expect(*d, rows[i].set ? old | PAGE_AF : old, "row %u", i);
        expect(w->dirties, rows[i].set, "row %u: table page dirty", i);
        if (rows[i].set) {
            expect(w->dirty, (uint8_t *)d - w->ram + RAM, "row %u", i);
            expect(w->dirty_len, 8, "row %u", i);
            /* A hit does not see that AF was cleared, and sets nothing. */
            *d = old;
            expect(go(w, 0x5000), RAM, "row %u", i);
            expect(*d, old, "row %u: a hit updates nothing", i);
        }
    }
    {
        /* The model can switch off the updates of an SMMU. */
        HmSmmuConfig config;

        g_assert(hm_smmu_profile("grace", &config));
        config.httu_update = false;
        {
            g_world *w = world_new(&config);
            Space s = nested(w, 12, 25);

            map(&s, 0x5000, RAM, 3, PAGE & ~PAGE_AF);
            *mem(w, hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0) |= CD_HA;
            go(w, 0x5000);
            expect(w->event[0] & 0xff, 0x12, "no update");
        }
    }
}

static void test_dirty_state(void)
{
    g_world *w = world("httu");
    Space s = nested(w, 12, 25);
    uint64_t cd = hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0;
    const uint64_t clean = RAM | 3 | PAGE | PAGE_RO | PAGE_DBM;
    uint64_t *d = desc(&s, 0x5000, 3), stales = count("smmu.stale"), before;

    mem(w, cd)[0] |= CD_HA | CD_HD;
    *d = clean;
    expect(go(w, 0x5000), RAM, "read");
    expect(last.prot, HM_READ | HM_WRITE | HM_EXEC, "read");
    expect(*d, clean, "a read leaves it clean");
    /* The read cached it, but the first write must update the table. */
    expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_WRITE), RAM, "write");
    expect(*d, clean & ~PAGE_RO, "a write makes it dirty");
    *d = clean;
    expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_WRITE), RAM, "again");
    expect(*d, clean, "cached as dirty");
    command(w, NH_ALL | C_VMID(1), 0);
    expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_WRITE), RAM, "miss");
    expect(*d, clean & ~PAGE_RO, "a write that misses makes it dirty");

    /* Not writable: by a table above, by privilege, or without HD */
    *d = clean & ~PAGE_USER;
    command(w, NH_ALL | C_VMID(1), 0);
    expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_WRITE), NONE, "user");
    expect(*d, clean & ~PAGE_USER, "user");
    *d = clean;
    *desc(&s, 0x5000, 2) |= BIT(62);
    command(w, NH_ALL | C_VMID(1), 0);
    expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_WRITE), NONE, "APTable");
    expect(*d, clean, "APTable");
    *desc(&s, 0x5000, 2) &= ~BIT(62);
    mem(w, cd)[0] &= ~CD_HD;
    flush(w);
    expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_WRITE), NONE, "HD=0");
    expect(*d, clean, "HD=0");
    mem(w, cd)[0] ^= CD_HD | CD_HA;
    flush(w);
    expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_WRITE), NONE, "HA=0");
    mem(w, cd)[0] |= CD_HA;

    /* A write that is rejected changes nothing in the TLB. */
    *d = clean & ~PAGE_USER;
    flush(w);
    expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_READ | HM_PRIV), RAM,
           "privileged");
    before = count("smmu.tlb.hit");
    expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_WRITE), NONE, "user");
    expect(count("smmu.tlb.hit") - before, 1, "user");
    *d = clean;

    /* The walk for the dirty state replaces the entry, whatever its size. */
    {
        uint64_t table = *desc(&s, 0x5000, 2);

        before = count("smmu.conflict");
        flush(w);
        expect(go(w, 0x5000), RAM, "clean page");
        *desc(&s, 0x5000, 2) = RAM | PAGE | 1;
        command(w, NH_VA | C_VMID(1) | C_ASID(1), 0x6000);
        expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_WRITE), RAM + 0x5000,
               "block");
        expect(go(w, 0x5000), RAM + 0x5000, "block");
        expect(count("smmu.conflict") - before, 0, "block");
        *desc(&s, 0x5000, 2) = table;
    }

    /* A table that stage 2 makes read-only */
    memcpy(mem(w, ROM), mem(w, *desc(&s, 0x5000, 2) & 0xfffffffff000), 4096);
    *desc(&s, 0x5000, 2) = ROM | 3;
    flush(w);
    expect(go(w, 0x5000), RAM, "table in ROM");
    expect(go_as(w, SID, HM_NO_PASID, 0x5000, HM_WRITE), NONE, "ROM");
    expect_event(w, "table in ROM", E0(0x13, SID), E1_TT | E1_S2, 0x5000,
                 ROM);
    expect(count("smmu.stale") - stales, 1, "only the one that was meant");
}

static void test_permissions(void)
{
    enum { R = HM_READ, W = HM_WRITE, X = HM_EXEC };
    static const struct {
        uint64_t page, table, cd;
        unsigned user, priv;
    } rows[] = {
        { 0, 0, 0, X, R | W | X },
        { PAGE_USER, 0, 0, R | W | X, R | W },
        { PAGE_RO, 0, 0, X, R | X },
        { PAGE_USER | PAGE_RO, 0, 0, R | X, R | X },
        { PAGE_USER | PAGE_UXN, 0, 0, R | W, R | W },
        { PAGE_USER | PAGE_RO | PAGE_UXN, 0, 0, R, R | X },
        { PAGE_USER | PAGE_RO | PAGE_PXN, 0, 0, R | X, R },
        { PAGE_PXN, 0, 0, X, R | W },
        { PAGE_UXN | PAGE_PXN, 0, 0, 0, R | W },
        /* Table attributes: PXN, UXN, no user, read-only */
        { PAGE_USER | PAGE_RO, BIT(59), 0, R | X, R },
        { PAGE_USER | PAGE_RO, BIT(60), 0, R, R | X },
        { PAGE_USER, BIT(61), 0, X, R | W | X },
        { PAGE_USER, BIT(62), 0, R | X, R | X },
        { PAGE_USER, BIT(61) | BIT(62), 0, X, R | X },
        { 0, BIT(59) | BIT(60), 0, 0, R | W },
        /* CD.WXN, CD.PAN, and HAD0, which ignores the table's */
        { PAGE_USER, 0, BIT(36), R | W, R | W },
        { PAGE_USER | PAGE_RO, 0, BIT(36), R | X, R | X },
        { 0, 0, BIT(36), X, R | W },
        { PAGE_USER | PAGE_RO, 0, BIT(40), R | X, X },
        { PAGE_USER, 0, BIT(40), R | W | X, 0 },
        { 0, 0, BIT(40), X, R | W | X },
        { PAGE_USER, BIT(61) | BIT(62), 1, R | W | X, R | W },
    };
    static const unsigned accesses[] = { R, W, R | W, R | X };

    for (unsigned i = 0; i < N(rows); i++) {
        /* Attributes of the table next to the leaf, or of one above it */
        for (unsigned level = 1; level < 3; level++) {
            g_world *w = world("grace");
            Space s = nested(w, 12, 25);
            uint64_t cd = hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0;

            map(&s, 0x5000, RAM, 3, PAGE_AF | PAGE_NG | rows[i].page);
            map(&s, 0x6000, RAM, 3, PAGE_AF | PAGE_NG | rows[i].page);
            *desc(&s, 0x5000, level) |= rows[i].table;
            if (rows[i].cd == 1) {
                mem(w, cd)[1] |= BIT(1);
            } else {
                mem(w, cd)[0] |= rows[i].cd;
            }
            for (unsigned j = 0; j < 3 * 2 * N(accesses); j++) {
                unsigned access = accesses[j % N(accesses)];
                bool priv = j / N(accesses) & 1;
                unsigned prot = priv ? rows[i].priv : rows[i].user;
                unsigned need = access & W ? access : access & X ? X : R;
                /* A walk, a hit, and a walk from the walk cache */
                uint64_t va = j < 2 * 2 * N(accesses) ? 0x5000 : 0x6000;
                bool ok = go_as(w, SID, HM_NO_PASID, va,
                                access | (priv ? HM_PRIV : 0)) != NONE;

                expect(ok, !(need & ~prot),
                       "row %u level %u access %u priv %d va %" PRIx64, i,
                       level, access, priv, va);
                if (ok) {
                    expect(last.prot, prot, "row %u prot", i);
                } else {
                    expect(w->event[0] & 0xff, 0x13, "row %u", i);
                }
            }
        }
    }
}

/* PRIVCFG and INSTCFG of the STE */
static void test_overrides(void)
{
    static const struct {
        uint64_t bits;
        unsigned access;
        uint64_t attrs;
    } rows[] = {
        { 0, HM_READ | HM_PRIV | HM_EXEC, E1_READ | E1_PRIV | E1_INST },
        { 2ull << 48, HM_READ | HM_PRIV | HM_EXEC, E1_READ | E1_INST },
        { 3ull << 48, HM_READ, E1_READ | E1_PRIV },
        { 2ull << 50, HM_READ | HM_PRIV | HM_EXEC, E1_READ | E1_PRIV },
        { 3ull << 50, HM_READ, E1_READ | E1_INST },
        { 3ull << 50, HM_WRITE, 0 },
    };
    HmSmmuConfig config;

    for (unsigned i = 0; i < N(rows); i++) {
        for (int ovr = 0; ovr < 2; ovr++) {
            g_assert(hm_smmu_profile("grace", &config));
            config.idr[1] &= ovr ? UINT32_MAX : ~BIT(26);
            {
                g_world *w = world_new(&config);
                unsigned a = rows[i].access;

                nested(w, 12, 25);
                hm_smmu_ste(w->smmu, SID)[1] |= rows[i].bits;
                go_as(w, SID, HM_NO_PASID, 0x5000, a);
                expect_event(w, "override", E0(0x10, SID), E1_IN |
                             (ovr ? rows[i].attrs :
                              (a & HM_WRITE ? 0 : E1_READ) |
                              (a & HM_PRIV ? E1_PRIV : 0) |
                              (a & HM_EXEC ? E1_INST : 0)), 0x5000, 0);
            }
        }
    }
}

/*
 * What is legal in an STE and in a CD
 */

static void test_legal_ste(void)
{
    enum { NO_EVENT = 0xff };
    static const struct {
        const char *profile;
        unsigned config;
        uint64_t w0, w1, w2;
        unsigned event;                         /* 0: legal */
    } rows[] = {
        { "grace", NESTED, 0, 0, 0, 0 },
        { "grace", NESTED, 3 << 4, 3, 0, 0 },
        { "grace", NESTED, 20ull << 59, 2, 0, 0 },
        { "grace", NESTED, 21ull << 59, 2, 0, 4 },
        { "grace", NESTED, 31ull << 59, 2, 0, 4 },
        /* S1DSS 3 is 0, S1Fmt 3 is a linear table. */
        { "grace", NESTED, 5ull << 59, 3, 0, 6 },
        { "grace", NESTED, 5ull << 59 | 3 << 4, 2, 0, 0 },
        { "grace", NESTED, 0, 1ull << 28, 0, 0 },
        { "grace", NESTED, 0, 2ull << 28, 0, 0 },
        { "grace", NESTED, 0, 2ull << 28, BIT(57), 4 },
        { "grace", NESTED, 0, 1ull << 28, BIT(57), 0 },
        { "grace", NESTED, 0, 3ull << 28, 0, 0 },
        { "grace", S2, 0, 2ull << 28, 0, 4 },
        { "grace", S2, 0, 1ull << 28, 0, 0 },
        { "grace", S2, 0, 3ull << 28, 0, 0 },
        { "grace", ABORT, 0, 2ull << 28, 0, NO_EVENT },
        { "grace", NESTED, 0, 1ull << 30, 0, 4 },
        { "grace", NESTED, 0, 2ull << 30, 0, 4 },
        { "onestage", NESTED, 0, 0, 0, 4 },
        { "onestage", S2, 0, 0, 0, 4 },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world(rows[i].profile);
        Space s = nested(w, 12, 25);
        uint64_t cd = hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0;
        uint64_t *ste = set_ste(w, SID, rows[i].config, cd, 1);

        map(&s, RAM + 0x3000, RAM + 0x3000, 3, PAGE);
        ste[0] |= rows[i].w0;
        ste[1] = rows[i].w1;
        ste[2] |= rows[i].w2;
        expect(go(w, RAM + 0x3000), rows[i].event ? NONE : RAM + 0x3000,
               "row %u", i);
        expect(w->event[0], !rows[i].event || rows[i].event == NO_EVENT ? 0
                            : E0(rows[i].event, SID), "row %u", i);
    }
    {
        g_world *w = world("grace");

        set_ste(w, SID, S2, 0, 1)[3] = 0;
        go(w, RAM);
        expect(w->event[0], E0(4, SID), "no stage 2");
    }
}

static void test_legal_cd(void)
{
    static const struct {
        const char *profile;
        uint64_t clear, set, w1;
        bool good;
    } rows[] = {
        { "grace", 0, 0, 0, true },
        { "grace", CD_V, 0, 0, false },
        { "grace", CD_AA64, 0, 0, false },
        { "grace", 0, BIT(15), 0, false },              /* ENDI */
        { "grace", CD_A, 0, 0, false },                 /* TERM_MODEL */
        { "grace", 0, CD_S, 0, false },                 /* STALL_MODEL */
        { "grace", CD_R, 0, 0, true },
        { "grace", 0x3f, 16, 0, true },
        { "grace", 0x3f, 15, 0, false },
        { "grace", 0x3f, 15 | CD_EPD0, 0, true },
        { "grace", 0x3f, 40, 0, false },
        { "grace", 0x3full << 16, 15ull << 16, 0, false },
        { "grace", 0x3full << 16, 15ull << 16 | CD_EPD1, 0, true },
        { "grace", 0x3full << 16, 40ull << 16, 0, false },
        { "grace", 0, 3ull << 6, 0, false },            /* TG0 */
        { "grace", 0, 3ull << 6 | CD_EPD0, 0, true },
        { "grace", 3ull << 22, 0, 0, false },           /* TG1 */
        { "grace", 3ull << 22, CD_EPD1, 0, true },
        { "no16k", 0, 2ull << 6, 0, false },
        { "no16k", 3ull << 22, 1ull << 22, 0, false },
        { "grace", 3ull << 22, 1ull << 22, 0, true },
        { "grace", 3ull << 22, 3ull << 22, 0, true },
        { "kunpeng", 0, 2ull << 6, 0, false },
        { "asid8", 0, 0xffull << 48, 0, true },
        { "asid8", 0, 0x100ull << 48, 0, false },
        { "grace", 0, 0x100ull << 48, 0, true },
        { "grace", 0, 0, BIT(47), true },               /* TTB0 */
        { "grace", 7ull << 32, 4ull << 32, BIT(44), false },
        { "grace", 7ull << 32, 4ull << 32, BIT(43), true },
        { "grace", 7ull << 32, 6ull << 32, BIT(48), false },
        { "grace", 7ull << 32, 7ull << 32, BIT(47), true },
        { "oas32", 0, 0, BIT(32), false },
        { "oas32", 0, 0, 0, true },
        { "grace", 7ull << 32, 0, BIT(32), false },
        { "grace", 7ull << 32, 1ull << 32, BIT(35), true },
        { "grace", 7ull << 32, 1ull << 32, BIT(36), false },
        { "grace", 7ull << 32, 2ull << 32, BIT(40), false },
        { "grace", 7ull << 32, 2ull << 32, BIT(39), true },
        { "grace", 7ull << 32, 3ull << 32, BIT(42), false },
        { "grace", 7ull << 32, 3ull << 32, BIT(41), true },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world(rows[i].profile);
        uint64_t *cd;

        nested(w, 12, 25);
        cd = mem(w, hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0);
        cd[0] = (cd[0] & ~rows[i].clear) | rows[i].set;
        cd[1] |= rows[i].w1;
        go(w, 0x5000);
        /* A legal CD leads to tables that are empty, or do not exist. */
        expect(w->event[0], E0(rows[i].good ? (rows[i].clear == CD_R ? 0 : 0x10)
                                            : 0x0a,
                               rows[i].clear == CD_R ? 0 : SID), "row %u", i);
    }
}

/* STALL_MODEL, TERM_MODEL, STT and HYP of other SMMUs */
static void test_legal_models(void)
{
    static const struct {
        unsigned idr;
        uint32_t clear, set;
        uint64_t cd_clear, cd_set, ste1;
        unsigned event;
        uint64_t ste0;
    } rows[] = {
        { 0, BIT(24), 0, 0, CD_S, 0, 0x10, 0 },
        { 0, BIT(24), 0, 0, CD_S, BIT(27), 0x0a, 0 },
        { 0, BIT(24), 0, 0, 0, BIT(27), 0x10, 0 },
        { 0, 0, 0, 0, 0, BIT(27), 0x04, 0 },            /* S1STALLD */
        { 0, BIT(24), BIT(25), 0, CD_S, BIT(27), 0x04, 0 },
        { 0, BIT(26), 0, CD_A, 0, 0, 0x10, 0 },
        { 3, 0, BIT(9), 0x3f, 48, 0, 0x10, 0 },
        { 3, 0, BIT(9), 0x3f, 49, 0, 0x0a, 0 },
        { 3, 0, BIT(9), 0x3f, 47 | 1 << 6, 0, 0x10, 0 },
        { 3, 0, BIT(9), 0x3f, 48 | 1 << 6, 0, 0x0a, 0 },
        { 5, 0, 1 << 10, 0x3f, 12 | 1 << 6, 0, 0x10, 0 },
        { 5, 0, 1 << 10, 0x3f, 12, 0, 0x0a, 0 },
        { 5, 0, 0, 0x3f, 12 | 1 << 6, 0, 0x0a, 0 },
        { 0, BIT(19), 0, 0, 0, 2, 0x04, 5ull << 59 | 1 << 4 },  /* CD2L */
        { 0, BIT(19), 0, 0, 0, 2, 0x04, 5ull << 59 | 3 << 4 },
        { 0, BIT(19), 0, 0, 0, 2, 0x10, 5ull << 59 },
        { 0, 0, BIT(11), 0, 0, 2ull << 28, 0x04, 0 },           /* NS1ATS */
        { 0, BIT(10), 0, 0, 0, 2ull << 28, 0x10, 0 },           /* ATS */
        { 0, 2, 0, 0, 0, 0, 0x04, 0 },                             /* S1P */
        { 0, 0, BIT(9), 0, 0, 2ull << 30, 0x04, 0 },               /* HYP */
        /* Without substreams, their fields are ignored. */
        { 1, 0x7c0, 0, 0, 0, 0, 0x10, 5ull << 59 | 2 << 4 },
        { 1, 0x7c0, 0, 0, 0, 3, 0x10, 21ull << 59 | 3 << 4 },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        HmSmmuConfig config;

        g_assert(hm_smmu_profile("grace", &config));
        config.idr[rows[i].idr] &= ~rows[i].clear;
        config.idr[rows[i].idr] |= rows[i].set;
        {
            g_world *w = world_new(&config);
            uint64_t *cd;

            nested(w, 12, 25);
            cd = mem(w, hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0);
            hm_smmu_ste(w->smmu, SID)[0] |= rows[i].ste0;
            hm_smmu_ste(w->smmu, SID)[1] = rows[i].ste1;
            cd[0] = (cd[0] & ~rows[i].cd_clear) | rows[i].cd_set;
            go(w, 0);
            expect(w->event[0], E0(rows[i].event, SID), "row %u", i);
            expect(w->event[1] & E1_S2, 0, "row %u: not stage 1", i);
        }
    }
}

/*
 * Substreams, and where CDs are
 */

static void test_substreams(void)
{
    enum { TERMINATE, BYPASS1, SSID0, RESERVED };
    enum { CD = 1000, IPA = 2000 };     /* or the event */
    static const struct {
        unsigned cdmax, dss;
        uint32_t ssid;
        unsigned want;
    } rows[] = {
        { 0, TERMINATE, HM_NO_PASID, CD + 0 },
        { 0, SSID0, HM_NO_PASID, CD + 0 },
        { 0, SSID0, 0, 8 },
        { 0, TERMINATE, 1, 8 },
        { 0, TERMINATE, 0, 8 },
        { 3, TERMINATE, HM_NO_PASID, 6 },
        { 3, BYPASS1, HM_NO_PASID, IPA },
        { 3, SSID0, HM_NO_PASID, CD + 0 },
        { 3, SSID0, 0, 6 },
        { 3, RESERVED, HM_NO_PASID, 6 },
        { 3, RESERVED, 0, CD + 0 },
        { 3, RESERVED, 5, CD + 5 },
        { 3, TERMINATE, 0, CD + 0 },
        { 3, BYPASS1, 0, CD + 0 },
        { 3, SSID0, 1, CD + 1 },
        { 3, TERMINATE, 7, CD + 7 },
        { 3, TERMINATE, 8, 8 },
        { 3, SSID0, 0xfffff, 8 },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world("grace");
        uint64_t cds = alloc(w, 1024), *ste, want, va = RAM + 0x9000;

        for (unsigned n = 0; n < 8; n++) {
            Space s = space(w, 12, 25, n + 1);

            map(&s, va, RAM + MiB + 0x1000 * n, 3, PAGE);
            set_cd(&s, cds + 64 * n);
        }
        ste = set_ste(w, SID, NESTED, cds, 1);
        ste[0] |= s1cdmax(rows[i].cdmax);
        ste[1] = rows[i].dss;
        for (unsigned hit = 0; hit < 2; hit++) {
            uint64_t got = go_as(w, SID, rows[i].ssid, va, HM_READ);
            unsigned event = rows[i].want < CD ? rows[i].want : 0;

            want = event ? NONE : rows[i].want == IPA ? va :
                   RAM + MiB + 0x1000 * (rows[i].want - CD);
            expect(got, want, "row %u", i);
            expect_event(w, "substream", event ? E0(event, SID) |
                         (rows[i].ssid != HM_NO_PASID ?
                          E0_SSID(rows[i].ssid) : 0) : 0, 0, 0, 0);
        }
        /* Other faults have the SubstreamID too. */
        if (rows[i].want > CD && rows[i].want < IPA) {
            go_as(w, SID, rows[i].ssid, 0x1000, HM_READ);
            expect_event(w, "fault", E0(0x10, SID) | E0_SSID(rows[i].ssid),
                         E1_IN | E1_READ, 0x1000, 0);
        }
    }
}

/* Without stage 1 there are no substreams, and the OAS limits addresses. */
static void test_no_stage1(void)
{
    g_world *w = world("oas32");
    uint64_t *ste = set_ste(w, SID, S2, 0, 1);
    static uint8_t host_memory[8192];
    uint64_t host = (uintptr_t)host_memory;

    expect(go(w, RAM + 0x1238), RAM + 0x1238, "stage 2");
    expect(last.len, HOLE - RAM - 0x1238, "stage 2");
    expect(last.prot, HM_READ | HM_WRITE | HM_EXEC, "stage 2");
    ste[0] |= s1cdmax(8);
    flush(w);
    go_as(w, SID, 5, RAM, HM_READ);
    expect_event(w, "stage 2", E0(8, SID) | E0_SSID(5), 0, 0, 0);
    go(w, 0x80000000);
    expect_event(w, "stage 2", E0(0x10, SID), E1_IN | E1_READ | E1_S2,
                 0x80000000, 0x80000000);
    go(w, BIT(32));
    expect_event(w, "stage 2, OAS", E0(0x11, SID), E1_IN | E1_READ, BIT(32),
                 0);
    expect(go_as(w, SID, HM_NO_PASID, DOORBELL + 0x40, HM_WRITE), DOORBELL,
           "doorbell");
    go_as(w, SID, HM_NO_PASID, ROM, HM_WRITE);
    expect_event(w, "ROM", E0(0x13, SID), E1_IN | E1_S2, ROM, ROM);

    world_end(w);
    w = world("grace");
    ste = set_ste(w, SID, BYPASS, 0, 1);
    go(w, host + 10);
    expect((uintptr_t)last.host, host + 10, "bypass");
    expect(last.len, 0x1000 - ((host + 10) & 0xfff), "bypass");
    go_as(w, SID, 5, host, HM_READ);
    expect_event(w, "bypass", E0(8, SID) | E0_SSID(5), 0, 0, 0);
    go(w, BIT(48));
    expect_event(w, "bypass", E0(0x11, SID), E1_IN | E1_READ, BIT(48), 0);
    expect(go(w, 0x20), NONE, "nothing there");
    expect_event(w, "nothing there", 0, 0, 0, 0);
    /* A second access finds nothing there either. */
    expect(go(w, 0x20), NONE, "nothing there");
    /* A bypass STE has no EATS, so none of its values is bad. */
    ste[1] |= 2ull << 28;
    flush(w);
    last.host = NULL;
    go(w, host);
    expect((uintptr_t)last.host, host, "EATS");
}

/* Stage 1 of the host: CD and tables are memory of the process. */
static void test_stage1_alone(void)
{
    g_world *w = world("onestage");
    Space s = space(w, 12, 25, 1);
    uint64_t cd = new_cd(&s), base = (uintptr_t)w->ram - RAM, *ste;

    map(&s, 0x5000, RAM + 0x7000, 3, PAGE);
    /* IPAs become addresses of the process, from the bottom up. */
    for (unsigned level = 1; level < 4; level++) {
        uint64_t *d = desc(&s, 0x5000, level);

        for (unsigned i = level; i < 3; i++) {
            d = desc(&s, 0x5000, i);
        }
        (void)d;
    }
    {
        uint64_t *d1 = desc(&s, 0x5000, 1), *d2 = desc(&s, 0x5000, 2);
        uint64_t *d3 = desc(&s, 0x5000, 3);

        *d3 += base;
        *d2 += base;
        *d1 += base;
        mem(w, cd)[1] += base;
    }
    ste = set_ste(w, SID, S1, 0, 0);
    ste[0] |= cd + base;
    expect(go(w, 0x5123), RAM + 0x7123, "stage 1");
    expect(go(w, 0x5123), RAM + 0x7123, "stage 1");
    expect(last.len, 0x1000 - 0x123, "stage 1");
    go(w, 0x6000);
    expect_event(w, "stage 1", E0(0x10, SID), E1_IN | E1_READ, 0x6000, 0);

    ste[1] |= 2ull << 30;
    flush(w);
    go(w, 0x5000);
    expect_event(w, "STRW without HYP", E0(4, SID), 0, 0, 0);
    ste[1] = 2;

    /* Without stage 2, a VMID in the STE or in a command means nothing. */
    ste[2] = 7;
    flush(w);
    expect(go(w, 0x5123), RAM + 0x7123, "VMID");
    command(w, NH_ALL | C_VMID(9), 0);
    expect(hits(w, SID, 0x5000), false, "VMID");

    /* An address that cannot be read is an external abort, with word 3. */
    mem(w, cd)[1] = 0x10000;
    flush(w);
    go(w, 0x5000);
    expect_event(w, "walk", E0(0x0b, SID), E1_TT | E1_READ, 0x5000, 0x10000);
    ste[0] = 1 | S1 << 1 | 0x20040;
    flush(w);
    go(w, 0x5000);
    expect_event(w, "CD", E0(0x09, SID), 0, 0, 0x20040);
}

static void test_cd_tables(void)
{
    static const struct {
        unsigned fmt, cdmax;
        uint32_t ssid;
    } rows[] = {
        { 0, 1, 1 }, { 0, 8, 255 }, { 0, 8, 64 }, { 3, 8, 64 },
        { 1, 8, 0 }, { 1, 8, 63 }, { 1, 8, 64 }, { 1, 8, 255 },
        { 1, 10, 0x3ff },
        { 2, 8, 255 }, { 2, 11, 1023 }, { 2, 11, 1024 }, { 2, 20, 0xfffff },
        { 2, 20, 0x80400 },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world("grace");
        Space s = space(w, 12, 25, 1);
        unsigned span = rows[i].fmt == 1 ? 6 : 10;
        uint64_t table = alloc(w, 64 * KiB), cd = table, *ste, *l1 = NULL;
        uint32_t ssid = rows[i].ssid;

        if (rows[i].fmt % 3) {
            l1 = mem(w, table) + (ssid >> span);
            cd = alloc(w, 64ull << span);
            *l1 = cd;                           /* V=0 */
            cd += 64ull * (ssid & (BIT(span) - 1));
        } else {
            cd += 64ull * ssid;
        }
        map(&s, 0x5000, RAM + 0x7000, 3, PAGE);
        set_cd(&s, cd);
        ste = set_ste(w, SID, NESTED, table, 1);
        ste[0] |= s1cdmax(rows[i].cdmax) | rows[i].fmt << 4;
        ste[1] = 0;
        if (l1) {
            uint64_t stales = count("smmu.stale");

            go_as(w, SID, ssid, 0x5000, HM_READ);
            expect_event(w, "L1CD.V=0", E0(8, SID) | E0_SSID(ssid), 0, 0, 0);
            *l1 |= 1;
            /* An invalid one is cached as well, and leaf=1 keeps it. */
            expect(go_as(w, SID, ssid, 0x5000, HM_READ), NONE, "row %u", i);
            expect(count("smmu.stale") - stales, 1, "row %u", i);
            command(w, CFGI_CD | C_SID(SID) | C_SSID(ssid), 1);
            expect(go_as(w, SID, ssid, 0x5000, HM_READ), NONE, "row %u", i);
            expect(count("smmu.stale") - stales, 2, "row %u", i);
            /* For another stream, and for the leaf table beside it */
            command(w, CFGI_CD | C_SID(SID + 1) | C_SSID(ssid), 0);
            command(w, CFGI_CD | C_SID(SID) | C_SSID(ssid ^ BIT(span)), 0);
            expect(go_as(w, SID, ssid, 0x5000, HM_READ), NONE, "row %u", i);
            /* For another CD in the same leaf table */
            command(w, CFGI_CD | C_SID(SID) | C_SSID(ssid ^ 1), 0);
        }
        expect(go_as(w, SID, ssid, 0x5000, HM_READ), RAM + 0x7000, "row %u",
               i);
        expect(go_as(w, SID, ssid, 0x5000, HM_READ), RAM + 0x7000, "row %u",
               i);
        if (l1) {
            /* A leaf table is aligned to its size. */
            *l1 |= (64ull << span) - 2;
            command(w, CFGI_CD_ALL | C_SID(SID), 0);
            expect(go_as(w, SID, ssid, 0x5000, HM_READ), RAM + 0x7000,
                   "row %u", i);
            *l1 = BIT(47) | 1;                  /* no memory */
            command(w, CFGI_CD_ALL | C_SID(SID), 0);
            go_as(w, SID, ssid, 0x5000, HM_READ);
            expect(w->event[0], E0(0x10, SID) | E0_SSID(ssid), "row %u", i);
            expect(w->event[1], E1_S2 | E1_READ, "row %u", i);
        }
    }
}

/*
 * ATS
 */
static void test_ats(void)
{
    static const struct {
        unsigned config, eats;
        bool ats;
        bool event;                             /* F_BAD_ATS_TREQ */
    } rows[] = {
        { NESTED, 1, true }, { NESTED, 0, false, true },
        { NESTED, 2, false, true }, { NESTED, 3, false, true },
        { S2, 1, true }, { S2, 0, false, true }, { S2, 3, false, true },
        { BYPASS, 1, false, true }, { BYPASS, 0, false, true },
        { ABORT, 1, false, false }, { ABORT, 0, false, false },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world("httu");
        Space s = nested(w, 12, 25);
        uint64_t cd = hm_smmu_ste(w->smmu, SID)[0] & 0xffffffffffc0;
        uint64_t *ste = set_ste(w, SID, rows[i].config, cd, 1);
        uint64_t page = RAM + 36 * MiB;
        HmTranslation t = { .sid = SID, .ssid = HM_NO_PASID, .iova = page,
                            .access = HM_READ, .ats_request = true };
        uint64_t *d;

        ste[1] |= (uint64_t)rows[i].eats << 28;
        mem(w, cd)[0] |= CD_HA | CD_HD;
        map(&s, page, page, 3, PAGE);
        map(&s, page + 0x1000, page, 3, PAGE | PAGE_RO);
        map(&s, page + 0x2000, page, 3, PAGE & ~PAGE_USER);
        map(&s, page + 0x3000, page, 3, PAGE | PAGE_RO | PAGE_DBM);
        w->events = w->dirties = 0;
        if (rows[i].config == BYPASS) {
            t.iova = (uintptr_t)mem(w, page);   /* there is something */
        }
        expect(hm_smmu_translate(w->smmu, &t), rows[i].ats ? 0 : -EFAULT,
               "row %u", i);
        expect(t.reply, rows[i].ats ? HM_ATS_SUCCESS : HM_ATS_UR, "row %u", i);
        expect_event(w, "request", rows[i].event ? E0(5, SID) : 0, 0,
                     rows[i].event ? t.iova : 0, 0);
        w->events = 0;
        expect(w->dirties, 0, "row %u", i);
        if (rows[i].ats) {
            expect((uintptr_t)t.host, (uintptr_t)mem(w, page), "row %u", i);
            t.iova = 0x8000;
            expect(hm_smmu_translate(w->smmu, &t), -EFAULT, "row %u", i);
            expect(t.reply, HM_ATS_SUCCESS, "row %u: R=W=0", i);
            expect(w->events, 0, "row %u", i);
        }
        if (rows[i].ats && rows[i].config == NESTED) {
            /* The answer to a request to write is what is allowed. */
            t.access = HM_READ | HM_WRITE;
            t.iova = page;
            expect(hm_smmu_translate(w->smmu, &t), 0, "writable");
            expect(t.prot & 3, HM_READ | HM_WRITE, "writable");
            expect(w->dirties, 1, "writable");
            expect(w->dirty_len, 0x1000, "writable");
            t.iova = page + 0x1000;
            expect(hm_smmu_translate(w->smmu, &t), 0, "read-only");
            expect(t.prot & 3, HM_READ, "read-only");
            expect(w->dirties, 1, "read-only");
            t.iova = page + 0x2000;
            expect(hm_smmu_translate(w->smmu, &t), -EFAULT, "nothing");
            t.iova = page + 0x3000;
            d = desc(&s, t.iova, 3);
            t.access = HM_READ;
            for (unsigned hit = 0; hit < 2; hit++) {
                expect(hm_smmu_translate(w->smmu, &t), 0, "to read");
                expect(t.prot & 3, HM_READ, "to read");
                expect(*d & PAGE_RO, PAGE_RO, "to read");
            }
            t.access = HM_READ | HM_WRITE;
            expect(hm_smmu_translate(w->smmu, &t), 0, "clean");
            expect(*d & PAGE_RO, 0, "clean");
            expect(t.prot & 3, HM_READ | HM_WRITE, "clean");
            /* Dirty is all that the endpoint may write to then. */
            map(&s, 0x200000, RAM + 36 * MiB, 2, PAGE);
            t.iova = 0x210000;
            expect(hm_smmu_translate(w->smmu, &t), 0, "block");
            expect(t.len, 2 * MiB - 0x10000, "block");
            expect(w->dirty, RAM + 36 * MiB + 0x10000, "block");
            expect(w->dirty_len, t.len, "block");
        }

        t.ats_request = false;
        t.ats_translated = true;
        t.access = HM_WRITE;
        t.iova = (uintptr_t)mem(w, page) + 0x10;
        w->events = 0;
        memset(w->event, 0, 32);
        expect(hm_smmu_translate(w->smmu, &t), rows[i].ats ? 0 : -EFAULT,
               "row %u: translated", i);
        if (rows[i].ats) {
            expect((uintptr_t)t.host, t.iova, "row %u", i);
            expect(t.len, 0xff0, "row %u", i);
            t.iova = (uintptr_t)HM_DOORBELL;
            expect(hm_smmu_translate(w->smmu, &t), 0, "doorbell");
            t.iova = 0x20;
            expect(hm_smmu_translate(w->smmu, &t), -EFAULT, "nowhere");
            expect(w->events, 0, "nowhere");
        } else {
            expect_event(w, "forbidden", E0(7, SID), 0, t.iova, 0);
        }
    }
}

/* Requests with and without a SubstreamID: S1DSS, and bad configurations */
static void test_ats_substreams(void)
{
    enum { TERMINATE, BYPASS1, SSID0, RESERVED };
    enum { OK, NOTHING, CA };                   /* NOTHING: R=W=0 */
    enum { EMPTY = 6, BAD = 7 };                /* a CD with V=0; S1DSS aside */
    static const struct {
        unsigned config, dss;
        uint32_t ssid;
        unsigned want;
        uint32_t cd;                            /* if OK; NO_PASID: identity */
    } rows[] = {
        { NESTED, TERMINATE, HM_NO_PASID, CA },
        { NESTED, RESERVED, HM_NO_PASID, CA },
        { NESTED, BYPASS1, HM_NO_PASID, OK, HM_NO_PASID },
        { NESTED, SSID0, HM_NO_PASID, OK, 0 },
        { NESTED, SSID0, 0, CA },
        { NESTED, TERMINATE, 0, OK, 0 },
        { NESTED, BYPASS1, 5, OK, 5 },
        { NESTED, TERMINATE, EMPTY, NOTHING },
        { NESTED, TERMINATE, BAD, CA },
        { NESTED, TERMINATE, 8, CA },
        { NESTED, SSID0, 0xfffff, CA },
        { S2, TERMINATE, HM_NO_PASID, OK, HM_NO_PASID },
        { S2, TERMINATE, 1, CA },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world("grace");
        uint64_t cds = alloc(w, 8 * 64), *ste, va = RAM + 0x9000;
        HmTranslation t = { .sid = SID, .ssid = rows[i].ssid, .iova = va,
                            .access = HM_READ, .ats_request = true };

        for (unsigned n = 0; n < 8; n++) {
            Space s = space(w, 12, 25, n + 1);

            if (n != EMPTY) {
                map(&s, va, RAM + MiB + 0x1000 * n, 3, PAGE);
            }
            set_cd(&s, cds + 64 * n);
        }
        mem(w, cds + 64 * BAD)[0] &= ~CD_V;
        ste = set_ste(w, SID, rows[i].config, cds, 1);
        ste[0] |= s1cdmax(3);
        ste[1] = rows[i].dss | 1ull << 28;
        w->events = 0;
        for (unsigned fresh = 0; fresh < 3; fresh++) {
            int ret = fresh == 0 ? hm_smmu_translate_fresh(w->smmu, &t)
                                 : hm_smmu_translate(w->smmu, &t);

            expect(ret, rows[i].want == OK ? 0 : -EFAULT, "row %u", i);
            expect(t.reply, rows[i].want == CA ? HM_ATS_CA : HM_ATS_SUCCESS,
                   "row %u", i);
            if (rows[i].want == OK) {
                expect((uint8_t *)t.host - w->ram + RAM,
                       rows[i].cd == HM_NO_PASID ? va
                       : RAM + MiB + 0x1000 * rows[i].cd, "row %u", i);
                expect(t.prot & 3, HM_READ | HM_WRITE, "row %u", i);
            }
            expect(w->events, 0, "row %u: no record", i);
        }
    }
}

/* What the SMMU reports of pages that are written to */
static void test_dirty_callback(void)
{
    g_world *w = world("grace");
    Space s = nested(w, 12, 25);

    map(&s, 0x5000, RAM + 0x3000, 3, PAGE);
    map(&s, 0x200000, RAM, 2, PAGE);
    map(&s, 0x6000, DOORBELL, 3, PAGE);
    go(w, 0x5010);
    expect(w->dirties, 0, "read");
    go_as(w, SID, HM_NO_PASID, 0x5010, HM_WRITE);
    expect(w->dirties, 1, "write");
    expect(w->dirty, RAM + 0x3010, "write");
    expect(w->dirty_len, 0xff0, "write");
    go_as(w, SID, HM_NO_PASID, 0x201100, HM_WRITE | HM_READ);
    expect(w->dirties, 2, "block");
    expect(w->dirty, RAM + 0x1100, "block");
    expect(w->dirty_len, 0xf00, "block");
    go_as(w, SID, HM_NO_PASID, 0x6000, HM_WRITE);
    expect(w->dirties, 2, "doorbell");
    go_as(w, SID, HM_NO_PASID, 0x7000, HM_WRITE);
    expect(w->dirties, 2, "fault");
}

/*
 * Profiles
 */
static void test_profiles(void)
{
    static const struct {
        const char *name;
        uint32_t idr0, idr1, idr3, idr5;
        bool canwbs, incoherent, repeat;
    } rows[] = {
        { "grace", 0x0d4c345b, 0x0e738520, 0x1504, 0x75, false },
        { "kunpeng", 0x0d4c341b, 0x0e738520, 0x0004, 0x55, true },
        { "httu", 0x0d4c349b, 0x0e738520, 0x1504, 0x75, false },
        { "no16k", 0x0d4c345b, 0x0e738520, 0x1504, 0x55, false },
        { "noril", 0x0d4c345b, 0x0e738520, 0x1104, 0x75, false },
        { "oas32", 0x0d4c345b, 0x0e738520, 0x1504, 0x70, false },
        { "asid8", 0x0d4c245b, 0x0e738520, 0x1504, 0x75, false },
        { "tegra264", 0x0d4c345b, 0x0e738520, 0x1504, 0x75, .repeat = true },
        { "nocoherent", 0x0d4c344b, 0x0e738520, 0x1504, 0x75,
          .incoherent = true },
        { "onestage", 0x0d48345a, 0x0e738520, 0x1404, 0x75, false },
        { "nofwb", 0x0d4c345b, 0x0e738520, 0x1404, 0x75, false },
    };
    HmSmmuConfig config;

    for (unsigned i = 0; i < N(rows); i++) {
        g_assert(hm_smmu_profile(rows[i].name, &config));
        expect(config.idr[0], rows[i].idr0, "%s IDR0", rows[i].name);
        expect(config.idr[1], rows[i].idr1, "%s IDR1", rows[i].name);
        expect(config.idr[2], 0, "%s IDR2", rows[i].name);
        expect(config.idr[3], rows[i].idr3, "%s IDR3", rows[i].name);
        expect(config.idr[4], 0, "%s IDR4", rows[i].name);
        expect(config.idr[5], rows[i].idr5, "%s IDR5", rows[i].name);
        expect(config.canwbs, rows[i].canwbs, "%s CANWBS", rows[i].name);
        expect(config.coherent, !rows[i].incoherent, "%s", rows[i].name);
        expect(config.repeat, rows[i].repeat, "%s", rows[i].name);
        g_assert(!config.name);
    }
    g_assert(!hm_smmu_profile("", &config));
    g_assert(!hm_smmu_profile("grac", &config));
}

void add_walk_tests(void)
{
    g_test_add_func("/smmu/leaves", test_leaves);
    g_test_add_func("/smmu/descriptors", test_descriptors);
    g_test_add_func("/smmu/52-bits", test_52_bits);
    g_test_add_func("/smmu/top-byte", test_top_byte);
    g_test_add_func("/smmu/block-alignment", test_block_alignment);
    g_test_add_func("/smmu/table-alignment", test_table_alignment);
    g_test_add_func("/smmu/address-range", test_address_range);
    g_test_add_func("/smmu/records", test_records);
    g_test_add_func("/smmu/access-flag", test_access_flag);
    g_test_add_func("/smmu/dirty-state", test_dirty_state);
    g_test_add_func("/smmu/permissions", test_permissions);
    g_test_add_func("/smmu/overrides", test_overrides);
    g_test_add_func("/smmu/legal/ste", test_legal_ste);
    g_test_add_func("/smmu/legal/cd", test_legal_cd);
    g_test_add_func("/smmu/legal/models", test_legal_models);
    g_test_add_func("/smmu/substreams", test_substreams);
    g_test_add_func("/smmu/no-stage1", test_no_stage1);
    g_test_add_func("/smmu/stage1-alone", test_stage1_alone);
    g_test_add_func("/smmu/cd-tables", test_cd_tables);
    g_test_add_func("/smmu/ats", test_ats);
    g_test_add_func("/smmu/ats-substreams", test_ats_substreams);
    g_test_add_func("/smmu/dirty-callback", test_dirty_callback);
    g_test_add_func("/smmu/profiles", test_profiles);
}
