/*
 * Host model: what the physical SMMUv3 has cached of translations
 *
 * The caches are unbounded and drop only what a command covers.  The
 * architecture lets hardware drop an entry at any time, but a test needs
 * hardware that does not.  If several entries match, the oldest is used, for
 * the same reason.
 *
 *   leaves     stage 1, by regime (VMID), ASID or global, and the VA range of
 *              the descriptor that was found, whatever its size.  A leaf keeps
 *              the pieces of stage 2 that it led to: stage 1 and 2 combined.
 *              A TLBI_S2_IPA does not invalidate those.
 *   tables     the walk cache: table descriptors by regime, ASID and VA range
 *   stage 2    by VMID and IPA, for tables, CDs, and streams without stage 1
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "smmu-internal.h"

typedef struct S2Entry {
    uint32_t vmid;
    S2Block block;
} S2Entry;

#define S2_BIG   0x200000u
#define S2_SMALL 0x1000u

static uint32_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    return x ^ (x >> 32);
}

static guint tlb_hash(gconstpointer p)
{
    const TlbEntry *e = p;

    return mix(e->key.va ^ (uint64_t)e->key.asid << 48 ^
               (uint64_t)e->key.regime << 1 ^ (uint64_t)e->key.size << 33 ^
               (uint64_t)e->key.kind << 40 ^ (uint64_t)e->key.granule << 42);
}

static gboolean tlb_equal(gconstpointer pa, gconstpointer pb)
{
    const TlbKey *a = &((const TlbEntry *)pa)->key;
    const TlbKey *b = &((const TlbEntry *)pb)->key;

    return a->va == b->va && a->regime == b->regime && a->asid == b->asid &&
           a->size == b->size && a->kind == b->kind &&
           a->granule == b->granule;
}

static void tlb_entry_free(gpointer p)
{
    TlbEntry *e = p;

    if (e->s2) {
        g_array_free(e->s2, true);
    }
    g_free(e);
}

static guint s2_hash(gconstpointer p)
{
    const S2Entry *e = p;

    return mix(e->block.ipa ^ (uint64_t)e->vmid << 40 ^ e->block.size);
}

static gboolean s2_equal(gconstpointer pa, gconstpointer pb)
{
    const S2Entry *a = pa, *b = pb;

    return a->vmid == b->vmid && a->block.ipa == b->block.ipa &&
           a->block.size == b->block.size;
}

void tlb_init(HmSmmu *smmu)
{
    smmu->tlb = g_hash_table_new_full(tlb_hash, tlb_equal, NULL,
                                      tlb_entry_free);
    smmu->s2_tlb = g_hash_table_new_full(s2_hash, s2_equal, NULL, g_free);
}

void tlb_free(HmSmmu *smmu)
{
    g_hash_table_destroy(smmu->tlb);
    g_hash_table_destroy(smmu->s2_tlb);
}

/*
 * Stage 1
 */

static TlbEntry *tlb_find(HmSmmu *smmu, TlbKind kind, uint32_t regime,
                          uint16_t asid, uint64_t va, unsigned size,
                          unsigned granule)
{
    TlbEntry probe = {
        .key = {
            .va = va & ~low_mask(size),
            .regime = regime,
            .asid = kind == TLB_GLOBAL ? 0 : asid,
            .size = size,
            .kind = kind,
            .granule = granule,
        },
    };

    return g_hash_table_lookup(smmu->tlb, &probe);
}

TlbEntry *tlb_lookup(HmSmmu *smmu, uint32_t regime, uint16_t asid, uint64_t va)
{
    TlbEntry *oldest = NULL;

    for (uint64_t sizes = smmu->leaf_sizes; sizes; sizes &= sizes - 1) {
        unsigned size = __builtin_ctzll(sizes);

        for (TlbKind kind = TLB_LEAF; kind <= TLB_GLOBAL; kind++) {
            TlbEntry *e = tlb_find(smmu, kind, regime, asid, va, size, 0);

            if (!e) {
                continue;
            }
            if (oldest) {
                HM_COUNT("smmu.conflict");
            }
            if (!oldest || e->seq < oldest->seq) {
                oldest = e;
            }
        }
    }
    return oldest;
}

TlbEntry *tlb_lookup_table(HmSmmu *smmu, uint32_t regime, uint16_t asid,
                           uint64_t va, unsigned granule, int level)
{
    return tlb_find(smmu, TLB_TABLE, regime, asid, va,
                    level_shift(granule, level), granule);
}

TlbEntry *tlb_insert(HmSmmu *smmu, const TlbEntry *entry)
{
    TlbEntry *e = g_memdup2(entry, sizeof(*entry));

    e->seq = smmu->seq++;
    e->s2 = NULL;
    if (e->key.kind != TLB_TABLE) {
        smmu->leaf_sizes |= 1ull << e->key.size;
    }
    g_hash_table_replace(smmu->tlb, e, e);
    return e;
}

void tlb_remove(HmSmmu *smmu, TlbEntry *entry)
{
    g_hash_table_remove(smmu->tlb, entry);
}

static bool tlb_matches(const TlbEntry *e, const TlbMatch *m)
{
    bool table = e->key.kind == TLB_TABLE;

    if (m->any_regime ? e->key.regime == REGIME_EL2
                      : e->key.regime != m->regime) {
        return false;
    }
    if (table && m->leaf) {
        return false;
    }
    if (!m->any_asid) {
        if (e->key.kind == TLB_GLOBAL ? m->keep_global
                                      : e->key.asid != m->asid) {
            return false;
        }
    }
    if (m->by_va && (e->key.va > m->last ||
                     (e->key.va | low_mask(e->key.size)) < m->first)) {
        return false;
    }
    /* Entries that the hints exclude need not be invalidated (4.4.1). */
    if (m->granule && e->granule != m->granule) {
        return false;
    }
    if (m->ttl) {
        return table ? e->level < m->ttl : e->level == m->ttl;
    }
    return true;
}

/* How many entries of 2^@size bytes a range of @m may contain */
static uint64_t tlb_slots(const TlbMatch *m, unsigned size)
{
    return (m->last >> size) - (m->first >> size) + 1;
}

/* If a command covers few entries, look up only those. */
static bool tlb_invalidate_places(HmSmmu *smmu, const TlbMatch *m)
{
    static const unsigned granules[] = { 12, 14, 16 };
    uint64_t places = 0;

    if (!m->by_va || m->any_asid || m->any_regime) {
        return false;
    }
    for (uint64_t sizes = smmu->leaf_sizes; sizes; sizes &= sizes - 1) {
        uint64_t n = tlb_slots(m, __builtin_ctzll(sizes));

        places = n > UINT32_MAX ? UINT32_MAX : places + n;
        if (places > g_hash_table_size(smmu->tlb) / 2) {
            return false;
        }
    }
    /* Without leaves, tables of the smallest size are the most. */
    if (tlb_slots(m, level_shift(granules[0], 2)) >
        g_hash_table_size(smmu->tlb) + 1ull) {
        return false;
    }

    for (uint64_t sizes = smmu->leaf_sizes; sizes; sizes &= sizes - 1) {
        unsigned size = __builtin_ctzll(sizes);
        uint64_t n = tlb_slots(m, size);

        for (uint64_t i = 0; i < n; i++) {
            uint64_t va = ((m->first >> size) + i) << size;

            for (TlbKind kind = TLB_LEAF; kind <= TLB_GLOBAL; kind++) {
                TlbEntry *e = tlb_find(smmu, kind, m->regime, m->asid, va,
                                       size, 0);

                if (e && tlb_matches(e, m)) {
                    tlb_remove(smmu, e);
                }
            }
        }
    }
    if (m->leaf) {
        return true;
    }
    /* Tables cover more than leaves, so there are fewer of them. */
    for (unsigned g = 0; g < G_N_ELEMENTS(granules); g++) {
        for (int level = 0; level < 3; level++) {
            unsigned size = level_shift(granules[g], level);
            uint64_t n = size < 64 ? tlb_slots(m, size) : 0;

            for (uint64_t i = 0; i < n; i++) {
                TlbEntry *e = tlb_find(smmu, TLB_TABLE, m->regime, m->asid,
                                       ((m->first >> size) + i) << size, size,
                                       granules[g]);

                if (e && tlb_matches(e, m)) {
                    tlb_remove(smmu, e);
                }
            }
        }
    }
    return true;
}

void tlb_invalidate(HmSmmu *smmu, const TlbMatch *m)
{
    GHashTableIter iter;
    gpointer p;

    if (tlb_invalidate_places(smmu, m)) {
        return;
    }
    g_hash_table_iter_init(&iter, smmu->tlb);
    while (g_hash_table_iter_next(&iter, &p, NULL)) {
        if (tlb_matches(p, m)) {
            g_hash_table_iter_remove(&iter);
        }
    }
}

/*
 * Stage 2
 */

/* The doorbell is one address, not memory: no bytes follow it. */
static void *s2_host(const S2Block *block, uint64_t ipa)
{
    return block->host == HM_DOORBELL ?
           HM_DOORBELL : (char *)block->host + (ipa - block->ipa);
}

/* The largest aligned piece around @ipa that stage 2 maps as one */
static bool s2_block(HmS2 *s2, uint64_t ipa, S2Block *block)
{
    static const uint32_t sizes[] = { S2_BIG, S2_SMALL };

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        uint64_t len;

        block->size = sizes[i];
        block->ipa = ipa & ~(block->size - 1);
        if (s2->lookup(s2, block->ipa, &block->host, &len, &block->prot) &&
            len >= block->size) {
            return true;
        }
    }
    return false;
}

static S2Block *s2_find_combined(TlbEntry *combined, uint64_t ipa)
{
    for (unsigned i = 0; combined->s2 && i < combined->s2->len; i++) {
        S2Block *block = &g_array_index(combined->s2, S2Block, i);

        if (ipa >= block->ipa && ipa - block->ipa < block->size) {
            return block;
        }
    }
    return NULL;
}

static S2Block *s2_find(HmSmmu *smmu, uint32_t vmid, uint64_t ipa)
{
    static const uint32_t sizes[] = { S2_BIG, S2_SMALL };

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        S2Entry probe = {
            .vmid = vmid,
            .block = { .ipa = ipa & ~(uint64_t)(sizes[i] - 1),
                       .size = sizes[i] },
        };
        S2Entry *e = g_hash_table_lookup(smmu->s2_tlb, &probe);

        if (e) {
            return &e->block;
        }
    }
    return NULL;
}

bool s2_translate(Walk *w, uint64_t ipa, TlbEntry *combined, void **host,
                  uint64_t *len, unsigned *prot)
{
    HmSmmu *smmu = w->smmu;
    S2Block *cached = NULL, made;
    bool mapped, in_combined = false;

    *len = 0;
    mapped = w->s2->lookup(w->s2, ipa, host, len, prot) && *len;
    if (w->fresh) {
        return mapped;
    }

    if (combined) {
        cached = s2_find_combined(combined, ipa);
        in_combined = cached;
    }
    if (!cached) {
        cached = s2_find(smmu, w->vmid, ipa);
    }
    if (cached) {
        HM_COUNT("smmu.s2.hit");
        w->hits |= HIT_S2;
        if (!mapped || s2_host(cached, ipa) != *host ||
            cached->prot != *prot) {
            w->s2_stale = true;
            hm_log("smmu %s: stale stage 2: vmid=0x%x ipa=0x%" PRIx64
                   " %s gave %p prot=0x%x, is %p prot=0x%x",
                   smmu->config.name, w->vmid, ipa,
                   in_combined ? "with stage 1" : "alone",
                   s2_host(cached, ipa), cached->prot,
                   mapped ? *host : NULL, mapped ? *prot : 0);
        }
    } else {
        HM_COUNT("smmu.s2.miss");
        if (mapped && s2_block(w->s2, ipa, &made)) {
            S2Entry *e = g_new(S2Entry, 1);

            e->vmid = w->vmid;
            e->block = made;
            g_hash_table_replace(smmu->s2_tlb, e, e);
            cached = &made;
        }
    }
    if (combined && cached && !in_combined) {
        if (!combined->s2) {
            combined->s2 = g_array_new(false, false, sizeof(S2Block));
        }
        g_array_append_vals(combined->s2, cached, 1);
    }
    return mapped;
}

void s2_invalidate(HmSmmu *smmu, uint32_t vmid, uint64_t first, uint64_t last)
{
    GHashTableIter iter;
    gpointer p;

    g_hash_table_iter_init(&iter, smmu->s2_tlb);
    while (g_hash_table_iter_next(&iter, &p, NULL)) {
        S2Entry *e = p;

        if (e->vmid == vmid && e->block.ipa <= last &&
            e->block.ipa + (e->block.size - 1) >= first) {
            g_hash_table_iter_remove(&iter);
        }
    }
}

void s2_invalidate_all(HmSmmu *smmu)
{
    g_hash_table_remove_all(smmu->s2_tlb);
}
