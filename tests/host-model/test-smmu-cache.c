/*
 * Tests of the host model's physical SMMUv3: what it has cached
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "test-smmu.h"

/*
 * Configuration caches: a command drops what it covers, and nothing else
 */

static void test_cfgi(void)
{
    enum { STE = 1, CD0 = 2, CD5 = 4, L1 = 8, ALL = 15 };
    static const struct {
        uint64_t w0, w1;
        unsigned gone;
    } rows[] = {
        { CFGI_STE | C_SID(SID), 0, ALL },
        { CFGI_STE | C_SID(SID), 1, ALL },
        { CFGI_STE | C_SID(SID + 1), 0, 0 },
        { CFGI_STE | C_SID(0), 0, 0 },
        { CFGI_RANGE | C_SID(0), 31, ALL },
        { CFGI_RANGE | C_SID(SID), 0, ALL },
        { CFGI_RANGE | C_SID(SID ^ 1), 0, ALL },
        { CFGI_RANGE | C_SID(SID ^ 2), 0, 0 },
        { CFGI_RANGE | C_SID(SID ^ 2), 1, ALL },
        { CFGI_RANGE | C_SID(SID ^ 4), 1, 0 },
        { CFGI_RANGE | C_SID(0x1ff), 7, ALL },
        { CFGI_RANGE | C_SID(0x200), 7, 0 },
        { CFGI_RANGE | C_SID(0), 7, 0 },
        { CFGI_RANGE | C_SID(0), 8, ALL },
        { CFGI_CD | C_SID(SID) | C_SSID(0), 1, CD0 },
        { CFGI_CD | C_SID(SID) | C_SSID(5), 1, CD5 },
        { CFGI_CD | C_SID(SID) | C_SSID(5), 0, CD5 | L1 },
        { CFGI_CD | C_SID(SID) | C_SSID(63), 0, L1 },
        { CFGI_CD | C_SID(SID) | C_SSID(64), 0, 0 },
        { CFGI_CD | C_SID(SID) | C_SSID(6), 1, 0 },
        { CFGI_CD | C_SID(SID + 1) | C_SSID(0), 0, 0 },
        { CFGI_CD_ALL | C_SID(SID), 0, ALL & ~STE },
        { CFGI_CD_ALL | C_SID(SID - 1), 0, 0 },
        { NSNH_ALL, 0, 0 },
        { NH_ALL | C_VMID(1), 0, 0 },
        { SYNC, 0, 0 },
    };
    static const struct {
        const char *counter;
        unsigned bit;
    } kinds[] = { { "smmu.ste.hit", STE }, { "smmu.cd.hit", CD0 } };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world("grace");
        uint64_t table = alloc(w, 4096), leaf = alloc(w, 4096), *ste;
        unsigned gone = 0;

        mem(w, table)[0] = leaf | 1;
        for (unsigned n = 0; n < 8; n++) {
            Space s = space(w, 12, 25, n + 1);

            map(&s, 0x5000, RAM + 0x1000 * n, 3, PAGE);
            set_cd(&s, leaf + 64 * n);
        }
        ste = set_ste(w, SID, NESTED, table, 1);
        ste[0] |= s1cdmax(8) | 1 << 4;
        go_as(w, SID, HM_NO_PASID, 0x5000, HM_READ);
        go_as(w, SID, 5, 0x5000, HM_READ);
        expect(command(w, rows[i].w0, rows[i].w1), 0, "row %u", i);

        for (unsigned k = 0; k < N(kinds); k++) {
            uint64_t before = count(kinds[k].counter);

            /* This reads the STE but needs no CD: a bad SubstreamID. */
            go_as(w, SID, kinds[k].bit == STE ? 0xfffff : HM_NO_PASID, 0x5000,
                  HM_READ);
            gone |= count(kinds[k].counter) == before ? kinds[k].bit : 0;
        }
        {
            uint64_t before = count("smmu.cd.hit");

            go_as(w, SID, 5, 0x5000, HM_READ);
            gone |= count("smmu.cd.hit") == before ? CD5 : 0;
        }
        if (!(gone & L1)) {
            /*
             * A CD that was not used yet shows whether the L1CD is cached.  If
             * CD0 or CD5 was gone, it filled the L1CD again, and this shows
             * nothing.
             */
            mem(w, table)[0] = 0;
            gone |= (rows[i].gone & L1) && (gone & (CD0 | CD5)) ? L1 :
                    go_as(w, SID, 7, 0x5000, HM_READ) == NONE ? L1 : 0;
        }
        expect(gone, rows[i].gone, "row %u: what is gone", i);
    }
}

/* The L1CD by itself: leaf=0 drops it, leaf=1 and other streams do not. */
static void test_cfgi_l1cd(void)
{
    static const struct {
        uint64_t w0, w1;
        bool gone;
    } rows[] = {
        { CFGI_CD | C_SID(SID) | C_SSID(5), 0, true },
        { CFGI_CD | C_SID(SID) | C_SSID(7), 0, true },
        { CFGI_CD | C_SID(SID) | C_SSID(7), 1, false },
        { CFGI_CD | C_SID(SID) | C_SSID(64), 0, false },
        { CFGI_CD_ALL | C_SID(SID), 0, true },
        { CFGI_CD_ALL | C_SID(SID + 1), 0, false },
        { CFGI_STE | C_SID(SID), 1, true },
        { CFGI_STE | C_SID(SID + 1), 0, false },
        { CFGI_RANGE | C_SID(SID), 31, true },
        { NSNH_ALL, 0, false },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world("grace");
        uint64_t table = alloc(w, 4096), leaf = alloc(w, 4096), *ste;
        Space s = space(w, 12, 25, 1);
        uint64_t stales = count("smmu.stale");

        map(&s, 0x5000, RAM, 3, PAGE);
        mem(w, table)[0] = leaf | 1;
        set_cd(&s, leaf + 64 * 5);
        set_cd(&s, leaf + 64 * 7);
        ste = set_ste(w, SID, NESTED, table, 1);
        ste[0] |= s1cdmax(8) | 1 << 4;
        expect(go_as(w, SID, 5, 0x5000, HM_READ), RAM, "row %u", i);
        mem(w, table)[0] = 0;
        expect(command(w, rows[i].w0, rows[i].w1), 0, "row %u", i);
        expect(go_as(w, SID, 7, 0x5000, HM_READ) == NONE, rows[i].gone,
               "row %u", i);
        expect(count("smmu.stale") - stales, !rows[i].gone, "row %u", i);
    }
}

/*
 * TLB
 */

/* One entry of each kind that a command distinguishes */
enum {
    PG,             /* VMID 1, ASID 1: a page at VA0 */
    PG_NEXT,        /*   the page after it */
    PG_FAR,         /*   a page in another 1 GiB */
    BLOCK2,         /*   2 MiB at VA2 */
    BLOCK1,         /*   1 GiB at VA1 */
    UPPER,          /*   a page in the upper half */
    GLOBAL,         /*   a global page */
    OTHER_ASID,     /* VMID 1, ASID 2: a page at VA0 */
    OTHER_VMID,     /* VMID 2, ASID 1: a page at VA0 */
    OTHER_GLOBAL,   /*   and a global one at the same VA as GLOBAL */
    KINDS,
};
#define M(kind) BIT(kind)
#define ALL_KINDS (BIT(KINDS) - 1)
#define VMID1 (ALL_KINDS & ~(M(OTHER_VMID) | M(OTHER_GLOBAL)))
#define ASID1 (M(PG) | M(PG_NEXT) | M(PG_FAR) | M(BLOCK2) | M(BLOCK1) | \
               M(UPPER))

#define VA0     0x12345000ull
#define VA_FAR  0x7012345000ull
#define VA2     0x20000000ull
#define VA1     0x4000000000ull
#define VA_UP   0xffffff9000005000ull
#define VA_GLOB 0x13000000ull

static const struct {
    uint32_t sid;
    uint64_t va;
} kinds[KINDS] = {
    [PG] = { SID, VA0 },
    [PG_NEXT] = { SID, VA0 + 0x1000 },
    [PG_FAR] = { SID, VA_FAR },
    [BLOCK2] = { SID, VA2 },
    [BLOCK1] = { SID, VA1 },
    [UPPER] = { SID, VA_UP },
    [GLOBAL] = { SID, VA_GLOB },
    [OTHER_ASID] = { SID + 1, VA0 },
    [OTHER_VMID] = { SID + 2, VA0 },
    [OTHER_GLOBAL] = { SID + 2, VA_GLOB },
};

static void fill_tlb(World *w)
{
    Space s1 = space(w, 12, 25, 1), s2 = space(w, 12, 25, 2);
    Space v2 = space(w, 12, 25, 1);

    set_ste(w, SID, NESTED, new_cd(&s1), 1);
    set_ste(w, SID + 1, NESTED, new_cd(&s2), 1);
    set_ste(w, SID + 2, NESTED, new_cd(&v2), 2);
    map(&s1, VA0, RAM, 3, PAGE);
    map(&s1, VA0 + 0x1000, RAM, 3, PAGE);
    map(&s1, VA_FAR, RAM, 3, PAGE);
    map(&s1, VA2, RAM, 2, PAGE);
    map(&s1, VA1, RAM, 1, PAGE);
    map(&s1, VA_UP, RAM, 3, PAGE);
    map(&s1, VA_GLOB, RAM, 3, PAGE & ~PAGE_NG);
    map(&s2, VA0, RAM, 3, PAGE);
    map(&v2, VA0, RAM, 3, PAGE);
    map(&v2, VA_GLOB, RAM, 3, PAGE & ~PAGE_NG);
    for (unsigned k = 0; k < KINDS; k++) {
        g_assert(go_as(w, kinds[k].sid, HM_NO_PASID, kinds[k].va, HM_READ) ==
                 RAM);
    }
}

static void test_tlbi(void)
{
    static const struct {
        uint64_t w0, w1;
        uint64_t gone;
    } rows[] = {
        { NSNH_ALL, 0, ALL_KINDS },
        { NH_ALL | C_VMID(1), 0, VMID1 },
        { NH_ALL | C_VMID(2), 0, M(OTHER_VMID) | M(OTHER_GLOBAL) },
        { NH_ALL | C_VMID(3), 0, 0 },
        { NH_ALL, 0, 0 },
        { S12_VMALL | C_VMID(1), 0, VMID1 },
        { S12_VMALL | C_VMID(2), 0, M(OTHER_VMID) | M(OTHER_GLOBAL) },
        { S12_VMALL, 0, 0 },
        { S2_IPA | C_VMID(1), RAM, 0 },
        { S2_IPA | C_VMID(1), VA0, 0 },
        /* Not the global ones */
        { NH_ASID | C_VMID(1) | C_ASID(1), 0, ASID1 },
        { NH_ASID | C_VMID(1) | C_ASID(2), 0, M(OTHER_ASID) },
        { NH_ASID | C_VMID(2) | C_ASID(1), 0, M(OTHER_VMID) },
        { NH_ASID | C_VMID(1), 0, 0 },
        { NH_ASID | C_VMID(2) | C_ASID(2), 0, 0 },
        /* One address */
        { NH_VA | C_VMID(1) | C_ASID(1), VA0, M(PG) },
        { NH_VA | C_VMID(1) | C_ASID(1), VA0 | LEAF, M(PG) },
        { NH_VA | C_VMID(1) | C_ASID(1), VA0 + 0x1000, M(PG_NEXT) },
        { NH_VA | C_VMID(1) | C_ASID(1), VA0 + 0x2000, 0 },
        { NH_VA | C_VMID(1) | C_ASID(1), VA0 - 0x1000, 0 },
        { NH_VA | C_VMID(1) | C_ASID(1), VA_FAR, M(PG_FAR) },
        { NH_VA | C_VMID(1) | C_ASID(2), VA0, M(OTHER_ASID) },
        { NH_VA | C_VMID(2) | C_ASID(1), VA0, M(OTHER_VMID) },
        { NH_VA | C_VMID(1) | C_ASID(3), VA0, 0 },
        { NH_VA | C_VMID(3) | C_ASID(1), VA0, 0 },
        /* Any address in a block names the block. */
        { NH_VA | C_VMID(1) | C_ASID(1), VA2, M(BLOCK2) },
        { NH_VA | C_VMID(1) | C_ASID(1), VA2 + 0x1ff000, M(BLOCK2) },
        { NH_VA | C_VMID(1) | C_ASID(1), VA2 + 0x200000, 0 },
        { NH_VA | C_VMID(1) | C_ASID(1), VA2 - 0x1000, 0 },
        { NH_VA | C_VMID(1) | C_ASID(1), VA1 + 0x3ffff000, M(BLOCK1) },
        { NH_VA | C_VMID(1) | C_ASID(1), VA1 + 0x40000000, 0 },
        { NH_VA | C_VMID(1) | C_ASID(1), VA_UP, M(UPPER) },
        /* The top byte of an address is not compared */
        { NH_VA | C_VMID(1) | C_ASID(1), VA_UP & ~(0xffull << 56),
          M(UPPER) },
        { NH_VA | C_VMID(1) | C_ASID(1), VA0 | 0xa5ull << 56, M(PG) },
        { NH_VA | C_VMID(1) | C_ASID(1), VA_UP & (BIT(39) - 1), 0 },
        /* Global entries go with any ASID of their VMID. */
        { NH_VA | C_VMID(1) | C_ASID(1), VA_GLOB, M(GLOBAL) },
        { NH_VA | C_VMID(1) | C_ASID(9), VA_GLOB, M(GLOBAL) },
        { NH_VA | C_VMID(2) | C_ASID(9), VA_GLOB, M(OTHER_GLOBAL) },
        { NH_VA | C_VMID(3) | C_ASID(1), VA_GLOB, 0 },
        /* All ASIDs of a VMID */
        { NH_VAA | C_VMID(1), VA0, M(PG) | M(OTHER_ASID) },
        { NH_VAA | C_VMID(1), VA0 | LEAF, M(PG) | M(OTHER_ASID) },
        { NH_VAA | C_VMID(2), VA0, M(OTHER_VMID) },
        { NH_VAA | C_VMID(1), VA_GLOB, M(GLOBAL) },
        { NH_VAA | C_VMID(1), VA2 + 0x5000, M(BLOCK2) },
        { NH_VAA | C_VMID(1), VA_UP, M(UPPER) },
        /* Ranges */
        { NH_VA | C_VMID(1) | C_ASID(1) | C_NUM(1), VA0 | TG4K,
          M(PG) | M(PG_NEXT) },
        { NH_VA | C_VMID(1) | C_ASID(1) | C_NUM(1), (VA0 - 0x1000) | TG4K,
          M(PG) },
        { NH_VA | C_VMID(1) | C_ASID(1) | C_SCALE(31) | C_NUM(31), TG4K,
          (ASID1 & ~M(UPPER)) | M(GLOBAL) },
        { NH_VAA | C_VMID(1) | C_SCALE(31) | C_NUM(31), TG4K,
          (ASID1 & ~M(UPPER)) | M(GLOBAL) | M(OTHER_ASID) },
        { NH_VA | C_VMID(1) | C_ASID(1) | C_SCALE(31) | C_NUM(31),
          (VA_UP - 0x3000) | TG4K, M(UPPER) },
        /* Configuration is not in the TLB. */
        { CFGI_STE | C_SID(SID), 0, 0 },
        { CFGI_CD_ALL | C_SID(SID), 0, 0 },
        { CFGI_RANGE, 31, 0 },
        { ATC_INV | C_SID(SID), 52, 0 },
        { SYNC, 0, 0 },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world("grace");
        uint64_t gone = 0;

        fill_tlb(w);
        expect(command(w, rows[i].w0, rows[i].w1), 0, "row %u", i);
        for (unsigned k = 0; k < KINDS; k++) {
            gone |= hits(w, kinds[k].sid, kinds[k].va) ? 0 : M(k);
        }
        expect(gone, rows[i].gone, "row %u: what is gone", i);
    }
}

/*
 * Which of 64 pages, and of the blocks after them, does a range invalidate?
 * The answer is the same with few entries and with many.
 */
static void test_ranges(void)
{
    enum { PAGES = 64 };
    static const struct {
        unsigned granule;
        uint64_t w0, w1;
        /* pages first to last; what of 16 blocks at level 2 behind them */
        int first, last;
        unsigned blocks;
    } rows[] = {
        { 12, 0, 0x0000 | TG4K | C_TTL(3), 0, 0, 0 },
        { 12, 0, 0x5000 | TG4K | C_TTL(3), 5, 5, 0 },
        { 12, C_NUM(1), 0x5000 | TG4K, 5, 6, 0 },
        { 12, C_NUM(31), 0x0000 | TG4K, 0, 31, 0 },
        { 12, C_NUM(31), 0x3000 | TG4K, 3, 34, 0 },
        { 12, C_SCALE(1), 0x3000 | TG4K, 3, 4, 0 },
        { 12, C_SCALE(3) | C_NUM(2), 0x1000 | TG4K, 1, 24, 0 },
        { 12, C_SCALE(5), 0x8000 | TG4K, 8, 39, 0 },
        { 12, C_SCALE(5) | C_NUM(1), 0x0000 | TG4K, 0, 63, 0 },
        /* 2 MiB of pages reach the end of the first block, ... */
        { 12, C_SCALE(9), 0x0000 | TG4K, 0, 63, 0 },
        /* ... one more reaches the block that begins there */
        { 12, C_SCALE(9), 0x1000 | TG4K, 1, 63, 1 },
        { 12, C_SCALE(9) | C_NUM(2), 0x0000 | TG4K, 0, 63, 3 },
        /* TTL: only that level */
        { 12, C_SCALE(9) | C_NUM(2), 0x0000 | TG4K | C_TTL(3), 0, 63, 0 },
        { 12, C_SCALE(9) | C_NUM(2), 0x0000 | TG4K | C_TTL(2), -1, -1, 3 },
        { 12, C_SCALE(9) | C_NUM(2), 0x0000 | TG4K | C_TTL(1), -1, -1, 0 },
        { 12, 0, 0x200000 | TG4K | C_TTL(2), -1, -1, 1 },
        { 12, 0, 0x400000 | TG4K | C_TTL(2), -1, -1, 2 },
        { 12, 0, 0x400000 | TG4K | C_TTL(3), -1, -1, 0 },
        /* At level 2 no entry begins at such an address. */
        { 12, C_SCALE(9) | C_NUM(2), 0x1000 | TG4K | C_TTL(2), -1, -1, 0 },
        /* TG: entries of other granules stay. */
        { 12, C_SCALE(5) | C_NUM(1), 0x0000 | TG16K, -1, -1, 0 },
        { 12, C_SCALE(5) | C_NUM(1), 0x0000 | TG64K, -1, -1, 0 },
        { 14, 0, 0x4000 | TG16K | C_TTL(3), 1, 1, 0 },
        { 14, C_NUM(1), 0x4000 | TG16K, 1, 2, 0 },
        { 14, C_SCALE(2) | C_NUM(2), 0x8000 | TG16K, 2, 13, 0 },
        { 14, C_SCALE(11) | C_NUM(1), 0x0000 | TG16K, 0, 63, 1 },
        { 14, C_SCALE(11) | C_NUM(1), 0x0000 | TG16K | C_TTL(2), -1, -1, 1 },
        { 14, C_SCALE(11) | C_NUM(1), 0x0000 | TG4K, -1, -1, 0 },
        /* Address bits below the granule are ignored. */
        { 14, C_NUM(1), 0x7000 | TG16K, 1, 2, 0 },
        { 16, 0, 0x30000 | TG64K | C_TTL(3), 3, 3, 0 },
        { 16, C_NUM(4), 0x30000 | TG64K, 3, 7, 0 },
        { 16, C_NUM(4), 0x3f000 | TG64K, 3, 7, 0 },
        { 16, C_SCALE(13) | C_NUM(1), 0x0000 | TG64K, 0, 63, 1 },
        { 16, C_SCALE(13) | C_NUM(1), 0x0000 | TG64K | C_TTL(3), 0, 63, 0 },
        { 16, C_SCALE(13) | C_NUM(1), 0x10000 | TG64K | C_TTL(2), -1, -1, 0 },
        { 16, C_SCALE(13) | C_NUM(1), 0x0000 | TG16K, -1, -1, 0 },
        /* Without TG only the address counts, whatever the granule. */
        { 12, 0, 0x3000, 3, 3, 0 },
        { 14, 0, 0x7000, 1, 1, 0 },
        { 16, 0, 0x3f000, 3, 3, 0 },
    };

    for (unsigned i = 0; i < N(rows) * 4; i++) {
        unsigned r = i / 4;
        bool many = i & 1, vaa = i & 2;
        g_world *w = world("grace");
        unsigned granule = rows[r].granule;
        Space s = nested(w, granule, 16);
        uint64_t block = BIT(shift_of(granule, 2));

        for (unsigned p = 0; p < PAGES; p++) {
            map(&s, BIT(granule) * p, RAM, 3, PAGE);
            g_assert(go(w, BIT(granule) * p) == RAM);
        }
        for (unsigned b = 0; b < 4; b++) {
            map(&s, block * (b + 1), RAM & ~(block - 1), 2, PAGE);
            g_assert(go(w, block * (b + 1) + (RAM & (block - 1))) == RAM);
        }
        for (unsigned n = 0; many && n < 3000; n++) {
            map(&s, BIT(46) + BIT(granule) * n, RAM, 3, PAGE);
            g_assert(go(w, BIT(46) + BIT(granule) * n) == RAM);
        }
        expect(command(w, (vaa ? NH_VAA : NH_VA | C_ASID(1)) | C_VMID(1) |
                       rows[r].w0, rows[r].w1), 0, "row %u", r);
        for (int p = 0; p < PAGES; p++) {
            expect(hits(w, SID, BIT(granule) * p),
                   rows[r].first < 0 || p < rows[r].first || p > rows[r].last,
                   "row %u many %d vaa %d: page %d", r, many, vaa, p);
        }
        for (unsigned b = 0; b < 4; b++) {
            expect(hits(w, SID, block * (b + 1) + (RAM & (block - 1))),
                   !(rows[r].blocks & BIT(b)),
                   "row %u many %d vaa %d: block %u", r, many, vaa, b);
        }
        for (unsigned n = 0; many && n < 3000; n += 100) {
            expect(hits(w, SID, BIT(46) + BIT(granule) * n), true,
                   "row %u: far page %u", r, n);
        }
    }
}

/*
 * The walk cache.  Another table, with other entries at VA0 and VA0+0x2000,
 * replaces a table.  The new one is used only if the cached one is gone.
 */
static void test_walk_cache(void)
{
    static const struct {
        unsigned level;                 /* whose descriptor is replaced */
        uint64_t w0, w1;
        bool gone;
    } rows[] = {
        { 2, NH_VA | C_VMID(1) | C_ASID(1), VA0, true },
        { 1, NH_VA | C_VMID(1) | C_ASID(1), VA0, true },
        { 0, NH_VA | C_VMID(1) | C_ASID(1), VA0, true },
        { 2, NH_VA | C_VMID(1) | C_ASID(1), VA0 | LEAF, false },
        { 1, NH_VA | C_VMID(1) | C_ASID(1), VA0 | LEAF, false },
        { 2, NH_VA | C_VMID(1) | C_ASID(2), VA0, false },
        { 2, NH_VA | C_VMID(2) | C_ASID(1), VA0, false },
        { 2, NH_VA | C_VMID(1) | C_ASID(1), VA0 + 0x1ff000 - 0x145000, true },
        { 2, NH_VA | C_VMID(1) | C_ASID(1), VA0 + 0x200000, false },
        /* The table at level 1 is gone, but that at level 2 is still used. */
        { 1, NH_VA | C_VMID(1) | C_ASID(1), VA0 + 0x200000, false },
        { 2, NH_VAA | C_VMID(1), VA0, true },
        { 2, NH_VAA | C_VMID(1), VA0 | LEAF, false },
        { 2, NH_VAA | C_VMID(2), VA0, false },
        { 2, NH_ASID | C_VMID(1) | C_ASID(1), 0, true },
        { 2, NH_ASID | C_VMID(1) | C_ASID(2), 0, false },
        { 2, NH_ALL | C_VMID(1), 0, true },
        { 2, NH_ALL | C_VMID(2), 0, false },
        { 2, S12_VMALL | C_VMID(1), 0, true },
        { 2, NSNH_ALL, 0, true },
        { 2, S2_IPA | C_VMID(1), VA0, false },
        { 2, CFGI_RANGE, 31, false },
        /* Ranges, and levels above the hint's */
        { 2, NH_VA | C_VMID(1) | C_ASID(1) | C_NUM(1), VA0 | TG4K, true },
        { 2, NH_VA | C_VMID(1) | C_ASID(1) | C_NUM(1), VA0 | TG4K | LEAF,
          false },
        { 2, NH_VA | C_VMID(1) | C_ASID(1), VA0 | TG4K | C_TTL(3), true },
        { 2, NH_VA | C_VMID(1) | C_ASID(1), 0x12200000 | TG4K | C_TTL(2),
          false },
        { 2, NH_VAA | C_VMID(1), 0x12200000 | TG4K | C_TTL(2), false },
        { 2, NH_VA | C_VMID(1) | C_ASID(1) | C_NUM(1), VA0 | TG16K, false },
        { 2, NH_VA | C_VMID(1) | C_ASID(1) | C_SCALE(20), TG4K, true },
    };

    for (unsigned i = 0; i < N(rows) * 2; i++) {
        unsigned r = i / 2;
        g_world *w = world("grace");
        Space s = space(w, 12, 16, 1), other = space(w, 12, 16, 1);
        uint64_t stales = count("smmu.stale");

        set_ste(w, SID, NESTED, new_cd(&s), 1);
        map(&s, VA0, RAM, 3, PAGE);
        map(&s, VA0 + 0x2000, RAM + 0x1000, 3, PAGE);
        map(&other, VA0, RAM + 0x2000, 3, PAGE);
        map(&other, VA0 + 0x2000, RAM + 0x3000, 3, PAGE);
        expect(go(w, VA0), RAM, "row %u", r);
        /* So many entries that a command looks up only what it covers */
        for (unsigned n = 0; i & 1 && n < 1000; n++) {
            map(&s, BIT(46) + 0x1000 * n, RAM, 3, PAGE);
            go(w, BIT(46) + 0x1000 * n);
        }
        *desc(&s, VA0, rows[r].level) = *desc(&other, VA0, rows[r].level);
        expect(command(w, rows[r].w0, rows[r].w1), 0, "row %u", r);
        expect(go(w, VA0 + 0x2000),
               rows[r].gone ? RAM + 0x3000 : RAM + 0x1000, "row %u.%u", r,
               i & 1);
        expect(count("smmu.stale") - stales, !rows[r].gone, "row %u", r);
    }
}

/* The same with each granule, and with few and many entries in the TLB */
static void test_walk_cache_granules(void)
{
    for (unsigned i = 0; i < 3 * 3 * 2; i++) {
        unsigned granule = 12 + i % 3 * 2, level = i / 3 % 3;
        bool many = i >= 9;
        g_world *w = world("grace");
        Space s = space(w, granule, 16, 1), other = space(w, granule, 16, 1);

        if (level < start_level(&s)) {
            continue;
        }
        set_ste(w, SID, NESTED, new_cd(&s), 1);
        map(&s, 0, RAM, 3, PAGE);
        map(&other, BIT(granule), RAM + BIT(granule), 3, PAGE);
        expect(go(w, 0), RAM, "granule %u", granule);
        for (unsigned n = 0; many && n < 1000; n++) {
            map(&s, BIT(47) + BIT(granule) * n, RAM, 3, PAGE);
            go(w, BIT(47) + BIT(granule) * n);
        }
        *desc(&s, 0, level) = *desc(&other, BIT(granule), level);
        command(w, NH_VA | C_VMID(1) | C_ASID(1), 0);
        expect(go(w, BIT(granule)), RAM + BIT(granule),
               "granule %u level %u many %d", granule, level, many);
    }
}

/* A walk starts at the deepest cached table, with its attributes. */
static void test_walk_cache_levels(void)
{
    g_world *w = world("grace");
    Space s = nested(w, 12, 16);
    uint64_t before;

    map(&s, 0x1000, RAM, 3, PAGE);
    map(&s, 0x2000, RAM, 3, PAGE);
    map(&s, 0x200000, RAM, 2, PAGE);
    map(&s, GiB, RAM, 1, PAGE);
    map(&s, BIT(40), RAM, 3, PAGE);
    before = count("smmu.walk.hit");
    expect(go(w, 0x1000), RAM, "first");
    expect(count("smmu.walk.hit") - before, 0, "first");
    expect(go(w, 0x2000), RAM, "level 2");
    expect(go(w, 0x200000), RAM, "level 1");
    expect(go(w, GiB), RAM, "level 0");
    expect(count("smmu.walk.hit") - before, 3, "hits");
    expect(go(w, BIT(40)), RAM, "none");
    expect(count("smmu.walk.hit") - before, 3, "hits");
}

/* Two streams share what has the same tags, and nothing else. */
static void test_tags(void)
{
    static const struct {
        unsigned vmid, asid;
        bool global, shared;
    } rows[] = {
        { 1, 1, false, true },
        { 2, 1, false, false },
        { 1, 2, false, false },
        { 1, 2, true, true },
        { 2, 2, true, false },
        { 0x101, 1, false, false },
        { 1, 0x101, false, false },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world("grace");
        Space a = space(w, 12, 25, 1), b = space(w, 12, 25, rows[i].asid);
        uint64_t attrs = rows[i].global ? PAGE & ~PAGE_NG : PAGE;
        uint64_t stales = count("smmu.stale");

        map(&a, 0x5000, RAM, 3, attrs);
        map(&b, 0x5000, RAM + 0x1000, 3, attrs);
        set_ste(w, SID, NESTED, new_cd(&a), 1);
        set_ste(w, SID + 1, NESTED, new_cd(&b), rows[i].vmid);
        expect(go(w, 0x5000), RAM, "row %u", i);
        expect(go_as(w, SID + 1, HM_NO_PASID, 0x5000, HM_READ),
               rows[i].shared ? RAM : RAM + 0x1000, "row %u", i);
        /* Equal tags for different tables are an error of software. */
        expect(count("smmu.stale") - stales, rows[i].shared, "row %u", i);
    }
}

/* Overlap: the oldest entry wins, and the conflict is counted. */
static void test_conflict(void)
{
    g_world *w = world("grace");
    Space s = nested(w, 12, 25);
    uint64_t before = count("smmu.conflict"), stales = count("smmu.stale");

    map(&s, 0x200000, RAM + 0x1000, 3, PAGE);
    expect(go(w, 0x200000), RAM + 0x1000, "page");
    *desc(&s, 0x200000, 2) = (RAM + 2 * MiB) | PAGE | 1;
    command(w, NH_VA | C_VMID(1) | C_ASID(1), 0x201000);
    expect(go(w, 0x201000), RAM + 2 * MiB + 0x1000, "block");
    expect(count("smmu.conflict") - before, 0, "none yet");
    expect(count("smmu.stale") - stales, 0, "none yet");
    expect(go(w, 0x200000), RAM + 0x1000, "the older");
    expect(count("smmu.conflict") - before, 1, "conflict");
    expect(count("smmu.stale") - stales, 1, "conflict");
    /* The same where the block is the older and a page comes later */
    flush(w);
    expect(go(w, 0x200000), RAM + 2 * MiB, "block");
    *desc(&s, 0x200000, 2) = 0;
    map(&s, 0x200000, RAM + 0x1000, 3, PAGE & ~PAGE_NG);
    command(w, NH_VA | C_VMID(1) | C_ASID(1), 0x200000 | TG4K | C_TTL(3));
    expect(go(w, 0x200000), RAM + 2 * MiB, "the block stays: its level");
    expect(count("smmu.stale") - stales, 2, "the block");
}

/* EL2 is a regime of its own, for the host's own streams */
static void test_el2(void)
{
    static const struct {
        uint64_t w0, w1;
        bool gone;
    } rows[] = {
        { EL2_ALL, 0, true },
        { EL2_ASID | C_ASID(1), 0, true },
        { EL2_ASID | C_ASID(2), 0, false },
        { EL2_VA | C_ASID(1), 0x5000, true },
        { EL2_VA | C_ASID(1), 0x6000, false },
        { EL2_VAA, 0x5000, true },
        { NSNH_ALL, 0, false },
        { NH_ALL, 0, false },
        { NH_VA | C_ASID(1), 0x5000, false },
        { NH_VAA, 0x5000, false },
        { S12_VMALL, 0, false },
    };
    HmSmmuConfig config;

    g_assert(hm_smmu_profile("grace", &config));
    config.idr[0] |= BIT(9);
    for (unsigned i = 0; i < N(rows); i++) {
        g_world *w = world_new(&config);
        Space s = space(w, 12, 39, 1);
        uint64_t cd = new_cd(&s), base = (uintptr_t)w->ram - RAM, *ste;
        uint64_t *d2, *d3;

        map(&s, 0x5000, RAM, 3, PAGE);
        d2 = desc(&s, 0x5000, 2);
        d3 = desc(&s, 0x5000, 3);
        *d2 += base;
        *d3 += base;
        mem(w, cd)[1] += base;
        ste = set_ste(w, SID, S1, 0, 0);
        ste[0] |= cd + base;
        ste[1] |= 2ull << 30;
        expect(go(w, 0x5000), RAM, "row %u", i);
        expect(command(w, rows[i].w0, rows[i].w1), 0, "row %u", i);
        expect(hits(w, SID, 0x5000), !rows[i].gone, "row %u", i);
    }
}

/*
 * Stage 2 as cached: with stage 1, and by itself
 */
static void test_stage2_cache(void)
{
    enum { COMBINED = 1, ALONE = 2, TABLE = 4 };
    static const struct {
        uint64_t w0;
        unsigned gone;
        bool page;                      /* the address of what has moved */
        uint64_t w1;
    } rows[] = {
        { SYNC, 0, false, 0 },
        { S2_IPA | C_VMID(1), ALONE | TABLE, true, 0 },
        { S2_IPA | C_VMID(2), 0, true, 0 },
        { S2_IPA | C_VMID(1), 0, false, RAM + 40 * MiB },
        { S2_IPA | C_VMID(1), 0, false, RAM + 33 * MiB },
        { S2_IPA | C_VMID(1) | C_NUM(1), ALONE | TABLE, true, TG4K },
        { S2_IPA | C_VMID(1) | C_SCALE(15) | C_NUM(31), ALONE | TABLE, false,
          RAM | TG4K },
        { NH_ALL | C_VMID(1), COMBINED, false, 0 },
        { NH_ALL | C_VMID(2), 0, false, 0 },
        { NH_VA | C_VMID(1) | C_ASID(1), COMBINED, false, 0x5000 },
        { S12_VMALL | C_VMID(1), COMBINED | ALONE | TABLE, false, 0 },
        { S12_VMALL | C_VMID(2), 0, false, 0 },
        { NSNH_ALL, COMBINED | ALONE | TABLE, false, 0 },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        for (unsigned what = COMBINED; what <= TABLE; what <<= 1) {
            g_world *w = world("grace");
            Space s = nested(w, 12, 25);
            uint64_t page = RAM + 36 * MiB + 0x3000, other = page + MiB;
            uint32_t sid = what == ALONE ? SID + 1 : SID;
            uint64_t va = what == ALONE ? page : 0x5000;
            uint64_t stales, w1 = rows[i].w1;
            bool gone = rows[i].gone & what;

            set_ste(w, SID + 1, S2, 0, 1);
            if (what == TABLE) {
                /* The table at level 3 moves, with its content. */
                memset(mem(w, page), 0, 4096);
                *desc(&s, va, 2) = page | 3;
            }
            map(&s, 0x5000, what == TABLE ? RAM : page, 3, PAGE);
            go_as(w, sid, HM_NO_PASID, va, HM_READ);
            memcpy(mem(w, other), mem(w, page), 4096);
            w->moved = page;
            w->moved_to = other;
            if (what == TABLE) {
                map(&s, 0x6000, RAM, 3, PAGE);
                mem(w, other)[6] = mem(w, page)[6];
                va = 0x6000;
            }
            w1 |= rows[i].page ? page : 0;
            expect(command(w, rows[i].w0, w1), 0, "row %u", i);
            /*
             * A combined entry may be gone while stage 2 alone is still cached.
             */
            if (what == COMBINED && gone && !(rows[i].gone & ALONE)) {
                command(w, S2_IPA | C_VMID(1), page);
            }
            stales = count("smmu.stale");
            expect(go_as(w, sid, HM_NO_PASID, va, HM_READ) & ~0xfffull,
                   what == TABLE ? RAM : other,
                   "row %u.%u: never a pointer that was given up", i, what);
            expect(count("smmu.stale") - stales, !gone, "row %u.%u", i, what);
        }
    }
}

/* Stage 2 is cached in blocks, and the check of a hit caches nothing. */
static void test_stage2_blocks(void)
{
    g_world *w = world("grace");
    uint64_t page = RAM + 36 * MiB, hit = count("smmu.s2.hit");
    uint64_t miss = count("smmu.s2.miss");

    set_ste(w, SID, S2, 0, 1);
    expect(go(w, page + 0x5000), page + 0x5000, "first");
    expect(count("smmu.s2.miss") - miss, 1, "first");
    for (unsigned i = 0; i < 3; i++) {
        go(w, page + 0x1ff000);
        expect(count("smmu.s2.hit") - hit, i + 1, "in the block");
    }
    go(w, page + 0x200000);
    expect(count("smmu.s2.miss") - miss, 2, "the next block");
    command(w, S2_IPA | C_VMID(1), page + 0x77000);
    go(w, page + 0x5000);
    expect(count("smmu.s2.miss") - miss, 3, "any page in it");
    expect(count("smmu.s2.hit") - hit, 3, "hits");
}

/* Stage 2 unmaps: the old entry must not be used, but must stay cached. */
static void test_stage2_gone(void)
{
    g_world *w = world("grace");
    uint64_t page = RAM + 36 * MiB, stales = count("smmu.stale");

    set_ste(w, SID, S2, 0, 1);
    expect(go(w, page), page, "there");
    w->gone = page;
    expect(go(w, page + 8), NONE, "gone");
    expect_event(w, "gone", E0(0x10, SID), E1_IN | E1_READ | E1_S2, page + 8,
                 page);
    expect(count("smmu.stale") - stales, 1, "noticed");
    command(w, S2_IPA | C_VMID(1), page);
    expect(go(w, page), NONE, "gone");
    expect(count("smmu.stale") - stales, 1, "done properly");
    w->gone = 0;
    expect(go(w, page), page, "there again");
    w->gone = page;
    go(w, page);
    expect(count("smmu.stale") - stales, 2, "noticed");
    command(w, S2_IPA | C_VMID(1), page);
    /* A piece that ends in the middle of a cached one */
    expect(go(w, page - 0x1000), page - 0x1000, "below");
    expect(last.len, 0x1000, "below");
    expect(go(w, page + 0x1004), page + 0x1004, "above");
    expect(last.len, HOLE - page - 0x1004, "above");
    expect(count("smmu.stale") - stales, 2, "cached by themselves");

    /* Permissions that stage 2 removed */
    page += 4 * MiB;
    expect(go(w, page), page, "writable");
    w->read_only = page;
    expect(go_as(w, SID, HM_NO_PASID, page, HM_WRITE), NONE, "read-only");
    expect(w->event[0] & 0xff, 0x13, "read-only");
    expect(count("smmu.stale") - stales, 3, "read-only");

    /* A page that moved is not part of the block around it. */
    page += 4 * MiB;
    w->moved = page + 0x5000;
    w->moved_to = RAM + 32 * MiB;
    expect(go(w, page), page, "beside");
    expect(go(w, page + 0x5000), RAM + 32 * MiB, "elsewhere");
    expect(go(w, page + 0x6000), page + 0x6000, "beside");
    expect(count("smmu.stale") - stales, 3, "elsewhere");

    /* The doorbell is one address. */
    for (unsigned i = 0; i < 4; i++) {
        expect(go(w, DOORBELL + 0x40 * i), DOORBELL, "doorbell");
    }
    expect(count("smmu.stale") - stales, 3, "doorbell");
}

/*
 * Stale: every kind of hit that the tables would not give now
 */
static void test_stale(void)
{
    enum { LEAF_GONE, LEAF_MOVED, LEAF_RO, LEAF_NEW, CD_GONE, CD_TTB, STE_GONE,
           STE_CD, TABLE_GONE, LEAF_UNUSED, HOW };
    static const char *const by[HOW] = {
        " TLB,", " TLB,", " TLB,", NULL, " CD,", " walk", " STE,", " STE,",
        " walk", NULL,
    };

    for (unsigned how = 0; how < HOW; how++) {
        for (unsigned off = 0; off < 2; off++) {
            g_world *w = NULL;
            Space s, s2;
            uint64_t cd, *ste, stales, va = 0x5000, want = RAM;
            bool expected = how != LEAF_NEW && how != LEAF_UNUSED;

            if (off) {
                g_setenv("HOST_MODEL_CHECK", "off", true);
            }
            w = world("grace");
            g_unsetenv("HOST_MODEL_CHECK");
            s = nested(w, 12, 25);
            s2 = space(w, 12, 25, 1);
            ste = hm_smmu_ste(w->smmu, SID);
            cd = ste[0] & 0xffffffffffc0;
            map(&s, va, RAM, 3, PAGE);
            map(&s2, va, RAM + 0x9000, 3, PAGE);
            map(&s2, va + 0x1000, RAM + 0x9000, 3, PAGE);
            expect(go(w, va), RAM, "%u", how);
            switch (how) {
            case LEAF_GONE:
                *desc(&s, va, 3) = 0;
                break;
            case LEAF_MOVED:
                map(&s, va, RAM + 0x7000, 3, PAGE);
                break;
            case LEAF_RO:
                map(&s, va, RAM, 3, PAGE | PAGE_RO);
                break;
            case LEAF_NEW:              /* invalid ones are never cached */
                go(w, va + 0x1000);
                map(&s, va + 0x1000, RAM + 0x1000, 3, PAGE);
                va += 0x1000;
                want = RAM + 0x1000;
                break;
            case CD_GONE:
                mem(w, cd)[0] = 0;
                break;
            case CD_TTB:
                mem(w, cd)[1] = s2.ttb[0];
                va += 0x1000;
                want = NONE;
                break;
            case STE_GONE:
                ste[0] = 0;
                break;
            case STE_CD:
                ste[0] = 1 | NESTED << 1 | new_cd(&s2);
                break;
            case TABLE_GONE:
                *desc(&s, va, 2) = *desc(&s2, va, 2);
                va += 0x1000;
                want = NONE;
                break;
            case LEAF_UNUSED:           /* a bit for software */
                *desc(&s, va, 3) |= BIT(55);
                break;
            }
            stales = count("smmu.stale");
            g_string_truncate(log_lines ? log_lines :
                              (log_lines = g_string_new(NULL)), 0);
            expect(go(w, va), want, "%u: the cached is used", how);
            expect(count("smmu.stale") - stales, expected && !off,
                   "%u check %d", how, !off);
            expect(!!strstr(log_lines->str, "stale"), expected && !off,
                   "%u: the log: %s", how, log_lines->str);
            if (expected && !off) {
                g_autofree char *where = g_strdup_printf(
                    "sid=0x%x ssid=0x%x va=0x%" PRIx64, SID, HM_NO_PASID, va);

                expect(!!strstr(log_lines->str, where), true, "%u: %s", how,
                       log_lines->str);
                expect(!!strstr(log_lines->str, by[how]), true, "%u: %s", how,
                       log_lines->str);
            }
            flush(w);
            expect(stale(w, va), false, "%u: after all is invalidated", how);
        }
    }
}

/* One fault instead of another is stale as well. */
static void test_stale_faults(void)
{
    g_world *w = world("grace");
    Space s = nested(w, 12, 25), s2 = space(w, 12, 25, 1);
    uint64_t stales = count("smmu.stale");

    map(&s, 0x5000, RAM, 3, PAGE);
    map(&s, 0x6000, HOLE, 3, PAGE);
    map(&s2, 0x7000, RAM, 3, PAGE & ~PAGE_AF);
    go(w, 0x5000);
    *desc(&s, 0x5000, 2) = *desc(&s2, 0x7000, 2);
    go(w, 0x8000);
    expect(w->event[0] & 0xff, 0x10, "no page in either");
    expect(count("smmu.stale") - stales, 0, "no page in either");
    go(w, 0x7000);
    expect(w->event[0] & 0xff, 0x10, "no page, for AF=0");
    expect(count("smmu.stale") - stales, 1, "no page, for AF=0");
    *desc(&s, 0x5000, 2) = HOLE | 3;
    go(w, 0x6000);
    expect(w->event[1], E1_IN | E1_READ | E1_S2, "a page, for a table");
    expect(count("smmu.stale") - stales, 2, "a page, for a table");
}

/* Configuration is cached before it is valid. */
static void test_invalid_cached(void)
{
    g_world *w = world("grace");
    Space s = space(w, 12, 25, 1);
    uint64_t cd = alloc(w, 64), stales = count("smmu.stale");

    map(&s, 0x5000, RAM, 3, PAGE);
    expect(go(w, 0x5000), NONE, "STE.V=0");
    set_ste(w, SID, NESTED, cd, 1);
    expect(go(w, 0x5000), NONE, "STE.V=1 not seen yet");
    expect(w->event[0], E0(4, SID), "STE.V=1 not seen yet");
    expect(count("smmu.stale") - stales, 1, "STE");
    command(w, CFGI_STE | C_SID(SID), 1);
    expect(go(w, 0x5000), NONE, "CD.V=0");
    expect(w->event[0], E0(0x0a, SID), "CD.V=0");
    set_cd(&s, cd);
    expect(go(w, 0x5000), NONE, "CD.V=1 not seen yet");
    expect(count("smmu.stale") - stales, 2, "CD");
    command(w, CFGI_CD | C_SID(SID), 1);
    expect(go(w, 0x5000), RAM, "valid");
    expect(count("smmu.stale") - stales, 2, "valid");
}

/* Leaves with AF=0, and descriptors that fault, are not cached. */
static void test_faults_not_cached(void)
{
    g_world *w = world("grace");
    Space s = nested(w, 12, 25);
    uint64_t stales = count("smmu.stale");

    map(&s, 0x5000, RAM, 3, PAGE & ~PAGE_AF);
    map(&s, 0x6000, BIT(47), 3, PAGE);
    expect(go(w, 0x5000), NONE, "AF=0");
    expect(go(w, 0x6000), NONE, "no memory");
    map(&s, 0x5000, RAM, 3, PAGE);
    expect(go(w, 0x5000), RAM, "AF=1");
    expect(go(w, 0x1200000), NONE, "no table");
    map(&s, 0x1200000, RAM, 3, PAGE);
    expect(go(w, 0x1200000), RAM, "a table");
    expect(count("smmu.stale") - stales, 0, "nothing stale");
    /* But a leaf is cached if its permission or its stage 2 fails. */
    map(&s, 0x7000, RAM, 3, PAGE | PAGE_RO);
    go_as(w, SID, HM_NO_PASID, 0x7000, HM_WRITE);
    map(&s, 0x7000, RAM, 3, PAGE);
    expect(go_as(w, SID, HM_NO_PASID, 0x7000, HM_WRITE), NONE, "cached");
    map(&s, 0x6000, RAM, 3, PAGE);
    expect(go(w, 0x6000), NONE, "cached");
    expect(count("smmu.stale") - stales, 2, "stale");
}

/*
 * Random software that does what the architecture demands never sees a stale
 * hit.  If it leaves out one command, it does.
 */
typedef struct Random {
    uint64_t state;
} Random;

static unsigned rnd(Random *r, unsigned n)
{
    r->state = r->state * 6364136223846793005ull + 1442695040888963407ull;
    return (r->state >> 33) % n;
}

static uint64_t random_run(const char *profile, unsigned steps, uint64_t seed,
                           unsigned granule, bool forget)
{
    g_world *w = world(profile);
    bool ril = hm_smmu_config(w->smmu)->idr[3] & BIT(10);
    Space s[4];
    uint64_t stales = count("smmu.stale"), memory[4][64] = {};
    Random r = { seed };

    for (unsigned i = 0; i < 4; i++) {
        s[i] = space(w, granule, 25, 1 + i % 2);
        set_ste(w, SID + i, NESTED, new_cd(&s[i]), 1 + i / 2);
    }
    for (unsigned step = 0; step < steps; step++) {
        unsigned i = rnd(&r, 4), p = rnd(&r, 64), n;
        uint64_t va = BIT(30) + BIT(granule) * p;
        uint64_t tags = C_VMID(1 + i / 2) | C_ASID(1 + i % 2);

        switch (rnd(&r, 8)) {
        case 0:
            memory[i][p] = RAM + 32 * MiB + BIT(granule) * rnd(&r, 64);
            *desc(&s[i], va, 3) = 0;
            if (!forget) {
                command(w, NH_VA | tags, va | LEAF);
            }
            map(&s[i], va, memory[i][p], 3, PAGE);
            break;
        case 1:
            n = 1 + rnd(&r, MIN(32, 64 - p));
            for (unsigned k = p; k < p + n; k++) {
                *desc(&s[i], BIT(30) + BIT(granule) * k, 3) = 0;
                memory[i][k] = 0;
                if (!ril && !forget) {
                    command(w, NH_VA | tags, (BIT(30) + BIT(granule) * k) |
                            LEAF);
                }
            }
            if (ril && !forget) {
                command(w, NH_VA | tags | C_NUM(n - 1), va | LEAF |
                        C_TG((granule - 10) / 2) | C_TTL(3));
            }
            break;
        default:
            expect(go_as(w, SID + i, HM_NO_PASID, va + 0x123, HM_READ) ==
                   (memory[i][p] ? memory[i][p] + 0x123 : NONE) || forget,
                   true, "seed %" PRIu64 " step %u", seed, step);
        }
    }
    return count("smmu.stale") - stales;
}

static void test_random(void)
{
    static const unsigned granules[] = { 12, 14, 16 };

    for (unsigned seed = 1; seed <= 12; seed++) {
        unsigned granule = granules[seed % 3];

        expect(random_run("grace", 20000, seed, granule, false), 0,
               "seed %u", seed);
        expect(random_run("noril", 5000, seed, granule, false), 0,
               "seed %u", seed);
        expect(random_run("grace", 500, seed, granule, true) > 0, true,
               "seed %u", seed);
    }
}

void add_cache_tests(void)
{
    g_test_add_func("/smmu/cfgi", test_cfgi);
    g_test_add_func("/smmu/cfgi-l1cd", test_cfgi_l1cd);
    g_test_add_func("/smmu/tlbi", test_tlbi);
    g_test_add_func("/smmu/ranges", test_ranges);
    g_test_add_func("/smmu/walk-cache", test_walk_cache);
    g_test_add_func("/smmu/walk-cache-granules", test_walk_cache_granules);
    g_test_add_func("/smmu/walk-cache-levels", test_walk_cache_levels);
    g_test_add_func("/smmu/tags", test_tags);
    g_test_add_func("/smmu/el2", test_el2);
    g_test_add_func("/smmu/conflict", test_conflict);
    g_test_add_func("/smmu/stage2-cache", test_stage2_cache);
    g_test_add_func("/smmu/stage2-blocks", test_stage2_blocks);
    g_test_add_func("/smmu/stage2-gone", test_stage2_gone);
    g_test_add_func("/smmu/stale", test_stale);
    g_test_add_func("/smmu/stale-faults", test_stale_faults);
    g_test_add_func("/smmu/invalid-cached", test_invalid_cached);
    g_test_add_func("/smmu/faults-not-cached", test_faults_not_cached);
    g_test_add_func("/smmu/random", test_random);
}
