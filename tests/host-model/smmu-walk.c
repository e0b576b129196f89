/*
 * Host model: the physical SMMUv3's walk of stage 1
 *
 * VMSAv8-64 as a CD configures it: 4K, 16K and 64K granules and up to 48 bits;
 * 52-bit addresses with 64K only.  CD.DS (LPA2) is not modelled, and IDR5.DS
 * is only about commands here.  Linux 7.3 sets no CD.DS.  The contiguous
 * bit is a hint, and the model ignores it: each entry is cached by itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "smmu-internal.h"

#define DESC_VALID      1
#define DESC_TABLE      2               /* a page, at level 3 */
#define DESC_USER       (1ull << 6)     /* AP[1] */
#define DESC_READ_ONLY  (1ull << 7)     /* AP[2] */
#define DESC_AF         (1ull << 10)
#define DESC_NG         (1ull << 11)
#define DESC_DBM        (1ull << 51)
#define DESC_PXN        (1ull << 53)
#define DESC_UXN        (1ull << 54)
#define DESC_TABLE_ATTRS(d) field(d, 59, 4)

static bool tg_decode(const HmSmmu *smmu, unsigned half, unsigned tg,
                      unsigned *granule)
{
    static const uint8_t tg0[4] = { 12, 16, 14, 0 };
    static const uint8_t tg1[4] = { 0, 14, 12, 16 };
    uint32_t idr5 = smmu->config.idr[5];

    *granule = half ? tg1[tg] : tg0[tg];
    return (*granule == 12 && (idr5 & IDR5_GRAN4K)) ||
           (*granule == 14 && (idr5 & IDR5_GRAN16K)) ||
           (*granule == 16 && (idr5 & IDR5_GRAN64K));
}

bool tt_config(const Walk *w, unsigned half, TtConfig *tt)
{
    const HmSmmu *smmu = w->smmu;
    uint64_t cd0 = w->cd[0], ttb = w->cd[1 + half];
    unsigned tsz = CD0_TSZ(cd0, half), most, least, levels, top;

    *tt = (TtConfig) {
        .disabled = CD0_EPD(cd0, half),
        .tbi = CD0_TBI(cd0, half),
        .had = (ttb & CD1_HAD) && (smmu->config.idr[3] & IDR3_HAD),
    };
    if (tt->disabled) {
        return true;
    }
    if (!tg_decode(smmu, half, CD0_TG(cd0, half), &tt->granule)) {
        return false;
    }
    least = tt->granule == 16 && IDR5_VAX_52(smmu->config.idr[5]) ? 12 : 16;
    most = !(smmu->config.idr[3] & IDR3_STT) ? 39 :
           tt->granule == 16 ? 47 : 48;
    if (tsz < least || tsz > most) {
        return false;
    }
    tt->va_bits = 64 - tsz;
    levels = ROUND_UP_DIV(tt->va_bits - tt->granule, tt->granule - 3);
    tt->start_level = 4 - levels;

    ttb &= CD1_TTB;
    if (ttb >> walk_ips(w)) {
        return false;
    }
    /* A table is aligned to its size, and to 64 bytes at least */
    top = tt->va_bits - level_shift(tt->granule, tt->start_level) + 3;
    tt->table = ttb & ~low_mask(MAX(top, 6));
    return true;
}

bool tt_select(Walk *w, TtConfig *tt)
{
    uint64_t va = w->t->iova;
    unsigned half = field(va, 55, 1), top;
    uint64_t above;

    tt_config(w, half, tt);
    w->va = half ? va | ~low_mask(56) : va & low_mask(56);
    if (tt->disabled) {
        return walk_fault(w, EVT_F_TRANSLATION, false, CLASS_IN, 0);
    }
    top = tt->tbi ? 56 : 64;
    above = field(va, tt->va_bits, top - tt->va_bits);
    if (above != (half ? low_mask(top - tt->va_bits) : 0)) {
        return walk_fault(w, EVT_F_TRANSLATION, false, CLASS_IN, 0);
    }
    return true;
}

/* The address in a descriptor: bits 47 to @low, 52 bits of it with 64K */
static bool desc_address(Walk *w, const TtConfig *tt, uint64_t desc,
                         unsigned low, uint64_t *addr)
{
    unsigned ips = walk_ips(w);

    *addr = desc & low_mask(48) & ~low_mask(low);
    if (tt->granule == 16 && ips == 52) {
        *addr |= field(desc, 12, 4) << 48;
    }
    if (*addr >> ips) {
        return walk_fault(w, EVT_F_ADDR_SIZE, false, CLASS_IN, 0);
    }
    return true;
}

/* Blocks exist at level 2, and at level 1 with 4K, or 64K of 52 bits. */
static bool block_level(const Walk *w, const TtConfig *tt, unsigned level)
{
    return level == 2 ||
           (level == 1 && (tt->granule == 12 ||
                           (tt->granule == 16 && smmu_oas(w->smmu) == 52)));
}

static void leaf_permissions(const Walk *w, uint64_t desc, unsigned attrs,
                             TlbEntry *leaf)
{
    uint64_t cd0 = w->cd[0];
    bool user = (desc & DESC_USER) && !(attrs & ATTR_NO_USER);
    bool write = !(desc & DESC_READ_ONLY);
    bool uxn = (desc & DESC_UXN) || (attrs & ATTR_UXN);
    bool pxn = (desc & DESC_PXN) || (attrs & ATTR_PXN);
    bool dirty_managed = !write && (desc & DESC_DBM) && walk_hd(w);
    unsigned rw;

    write = (write || dirty_managed) && !(attrs & ATTR_READ_ONLY);
    leaf->clean = write && dirty_managed;
    rw = HM_READ | (write ? HM_WRITE : 0);
    /* Privileged code cannot execute what unprivileged code may write. */
    pxn |= write && user;
    if (cd0 & CD0_WXN) {
        uxn |= write && user;
        pxn |= write;
    }
    leaf->prot_user = (user ? rw : 0) | (uxn ? 0 : HM_EXEC);
    leaf->prot_priv = (user && (cd0 & CD0_PAN) ? 0 : rw) | (pxn ? 0 : HM_EXEC);
}

bool walk_set_dirty(Walk *w, TlbEntry *leaf, bool *done)
{
    if (!walk_update(w, leaf->desc_addr, leaf->desc,
                     leaf->desc & ~DESC_READ_ONLY, done)) {
        return false;
    }
    leaf->clean = !*done;
    return true;
}

/*
 * Returns false after a fault.  *again is set if the descriptor changed while
 * its access flag was updated.
 */
static bool leaf_entry(Walk *w, const TtConfig *tt, unsigned level,
                       uint64_t desc, uint64_t desc_addr, unsigned attrs,
                       TlbEntry *out, bool *again)
{
    unsigned size = level_shift(tt->granule, level);
    uint64_t addr;

    if (!desc_address(w, tt, desc, size, &addr)) {
        return false;
    }
    if (!(desc & DESC_AF)) {
        if (walk_ha(w)) {
            bool done = true;

            if (!w->fresh &&
                !walk_update(w, desc_addr, desc, desc | DESC_AF, &done)) {
                return false;
            }
            if (!done) {
                *again = true;
                return true;
            }
        } else if (!(w->cd[0] & CD0_AFFD)) {
            return walk_fault(w, EVT_F_ACCESS, false, CLASS_IN, 0);
        }
    }
    *out = (TlbEntry) {
        .key = {
            .va = w->va & ~low_mask(size),
            .regime = w->regime,
            .asid = desc & DESC_NG ? CD0_ASID(w->cd[0]) : 0,
            .size = size,
            .kind = desc & DESC_NG ? TLB_LEAF : TLB_GLOBAL,
        },
        .output = addr,
        .desc = desc | DESC_AF,
        .desc_addr = desc_addr,
        .level = level,
        .granule = tt->granule,
        .table_attrs = attrs,
    };
    leaf_permissions(w, desc, attrs, out);
    return true;
}

/* The deepest cached table on the walk for w->va */
static TlbEntry *cached_table(Walk *w, const TtConfig *tt)
{
    for (int level = 2; level >= (int)tt->start_level; level--) {
        TlbEntry *e = tlb_lookup_table(w->smmu, w->regime,
                                       CD0_ASID(w->cd[0]), w->va,
                                       tt->granule, level);

        if (e) {
            return e;
        }
    }
    return NULL;
}

static void cache_table(Walk *w, const TtConfig *tt, unsigned level,
                        uint64_t table, unsigned attrs)
{
    unsigned size = level_shift(tt->granule, level);
    TlbEntry entry = {
        .key = {
            .va = w->va & ~low_mask(size),
            .regime = w->regime,
            .asid = CD0_ASID(w->cd[0]),
            .size = size,
            .kind = TLB_TABLE,
            .granule = tt->granule,
        },
        .output = table,
        .level = level,
        .granule = tt->granule,
        .table_attrs = attrs,
    };

    tlb_insert(w->smmu, &entry);
}

bool walk_stage1(Walk *w, const TtConfig *tt, TlbEntry *out)
{
    uint64_t table = tt->table;
    unsigned level = tt->start_level, attrs = 0;
    TlbEntry *cached = w->fresh ? NULL : cached_table(w, tt);

    if (cached) {
        HM_COUNT("smmu.walk.hit");
        w->hits |= HIT_WALK;
        table = cached->output;
        attrs = cached->table_attrs;
        level = cached->level + 1;
    }

    for (;;) {
        unsigned shift = level_shift(tt->granule, level);
        unsigned bits = level == tt->start_level ? tt->va_bits - shift
                                                 : tt->granule - 3;
        uint64_t addr = table + 8 * field(w->va, shift, bits), desc;
        bool again = false;

        if (!walk_read(w, addr, CLASS_TT, &desc, 1)) {
            return false;
        }
        if (!(desc & DESC_VALID)) {
            return walk_fault(w, EVT_F_TRANSLATION, false, CLASS_IN, 0);
        }
        if (level == 3 ? desc & DESC_TABLE : !(desc & DESC_TABLE)) {
            if (level < 3 && !block_level(w, tt, level)) {
                return walk_fault(w, EVT_F_TRANSLATION, false, CLASS_IN, 0);
            }
            if (!leaf_entry(w, tt, level, desc, addr, attrs, out, &again)) {
                return false;
            }
            if (!again) {
                return true;
            }
            continue;
        }
        if (level == 3) {
            return walk_fault(w, EVT_F_TRANSLATION, false, CLASS_IN, 0);
        }
        if (!desc_address(w, tt, desc, tt->granule, &table)) {
            return false;
        }
        if (!tt->had) {
            attrs |= DESC_TABLE_ATTRS(desc);
        }
        if (!w->fresh) {
            cache_table(w, tt, level, table, attrs);
        }
        level++;
    }
}
