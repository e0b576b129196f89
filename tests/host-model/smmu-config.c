/*
 * Host model: how the physical SMMUv3 reads memory and its configuration
 *
 * STEs, CDs and L1CDs are cached as they were read, valid or not, until a
 * CFGI_* covers them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <sys/uio.h>
#include <unistd.h>
#include "smmu-internal.h"

/* Everything that the configuration cache holds: raw words, valid or not. */
typedef struct Config {
    uint64_t key;                       /* StreamID << 32 | SubstreamID */
    unsigned span;                      /* of an L1CD: log2 of its CDs */
    uint64_t words[8];
} Config;

static uint64_t config_key(uint32_t sid, uint32_t ssid)
{
    return (uint64_t)sid << 32 | ssid;
}

void config_cache_init(HmSmmu *smmu)
{
    smmu->ste_cache = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                            g_free);
    smmu->l1cd_cache = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                             g_free);
    smmu->cd_cache = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                           g_free);
}

void config_cache_free(HmSmmu *smmu)
{
    g_hash_table_destroy(smmu->ste_cache);
    g_hash_table_destroy(smmu->l1cd_cache);
    g_hash_table_destroy(smmu->cd_cache);
}

bool process_read(uint64_t addr, void *out, size_t len)
{
    struct iovec local = { out, len };
    struct iovec remote = { (void *)(uintptr_t)addr, len };

    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) ==
           (ssize_t)len;
}

/* Where stage 2 puts a structure that the SMMU itself accesses */
static bool structure_host(Walk *w, uint64_t addr, unsigned class, size_t len,
                           bool write, void **host)
{
    uint64_t avail;
    unsigned prot;

    w->tt_read = !write;
    if (!s2_translate(w, addr, NULL, host, &avail, &prot)) {
        return walk_fault(w, EVT_F_TRANSLATION, true, class, addr);
    }
    /* A doorbell is device memory: S2PTW allows no table there. */
    if (*host == HM_DOORBELL || !(prot & (write ? HM_WRITE : HM_READ))) {
        return walk_fault(w, EVT_F_PERMISSION, true, class, addr);
    }
    if (avail < len || (uintptr_t)*host & 7) {
        return walk_fault(w, class == CLASS_CD ? EVT_F_CD_FETCH
                                               : EVT_F_WALK_EABT,
                          false, class, addr);
    }
    return true;
}

bool walk_read(Walk *w, uint64_t addr, unsigned class, uint64_t *out,
               unsigned n)
{
    void *host;

    if (!w->s2) {
        return process_read(addr, out, 8 * n) ||
               walk_fault(w, class == CLASS_CD ? EVT_F_CD_FETCH
                                               : EVT_F_WALK_EABT,
                          false, class, addr);
    }
    if (!structure_host(w, addr, class, 8 * n, false, &host)) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        out[i] = __atomic_load_n((uint64_t *)host + i, __ATOMIC_ACQUIRE);
    }
    return true;
}

bool walk_update(Walk *w, uint64_t addr, uint64_t old, uint64_t new,
                 bool *done)
{
    void *host = (void *)(uintptr_t)addr;

    if (w->s2 && !structure_host(w, addr, CLASS_TT, 8, true, &host)) {
        return false;
    }
    *done = __atomic_compare_exchange_n((uint64_t *)host, &old, new, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    if (*done && w->s2 && w->s2->dirty) {
        w->s2->dirty(w->s2, addr, 8);
    }
    return true;
}

/*
 * Configuration: STE and CD
 */

static const Config *config_insert(GHashTable *cache, uint64_t key,
                                   unsigned span, const uint64_t *words,
                                   unsigned n)
{
    Config *c = g_new0(Config, 1);

    c->key = key;
    c->span = span;
    memcpy(c->words, words, 8 * n);
    g_hash_table_replace(cache, &c->key, c);
    return c;
}

static void load_ste(Walk *w)
{
    uint64_t key = config_key(w->t->sid, 0);
    const uint64_t *memory;
    const Config *c;

    if (!w->fresh) {
        c = g_hash_table_lookup(w->smmu->ste_cache, &key);
        if (c) {
            HM_COUNT("smmu.ste.hit");
            w->hits |= HIT_STE;
            memcpy(w->ste, c->words, sizeof(w->ste));
            return;
        }
    }
    memory = hm_smmu_ste(w->smmu, w->t->sid);
    memcpy(w->ste, memory, sizeof(w->ste));
    if (!w->fresh) {
        config_insert(w->smmu->ste_cache, key, 0, w->ste, 8);
    }
}

/* What makes an STE with V=1 ILLEGAL (5.2): C_BAD_STE */
static bool ste_legal(const Walk *w)
{
    const HmSmmuConfig *config = &w->smmu->config;
    unsigned cfg = STE0_CONFIG(w->ste[0]);
    unsigned ssidsize = IDR1_SSIDSIZE(config->idr[1]);
    unsigned cdmax = STE0_S1CDMAX(w->ste[0]);
    unsigned strw = STE1_STRW(w->ste[1]);
    unsigned eats = STE1_EATS(w->ste[1]);

    if (!(cfg & STE_CONFIG_BYPASS)) {
        return true;
    }
    if (cfg & STE_CONFIG_S1) {
        if (!(config->idr[0] & IDR0_S1P)) {
            return false;
        }
        if (ssidsize && cdmax &&
            (cdmax > ssidsize ||
             (STE0_S1FMT(w->ste[0]) && !(config->idr[0] & IDR0_CD2L)))) {
            return false;
        }
        if ((w->ste[1] & STE1_S1STALLD) &&
            IDR0_STALL_MODEL(config->idr[0])) {
            return false;
        }
        if (strw != STRW_EL1 &&
            (strw != STRW_EL2 || !(config->idr[0] & IDR0_HYP) ||
             (cfg & STE_CONFIG_S2))) {
            return false;
        }
    }
    if (cfg & STE_CONFIG_S2) {
        if (!(config->idr[0] & IDR0_S2P) || !(w->ste[3] & STE3_S2TTB)) {
            return false;
        }
    }
    /* EATS has no meaning in a bypass STE, and 3 is 0 without DPT. */
    return !(config->idr[0] & IDR0_ATS) || !(cfg & 3) || eats != EATS_SPLIT ||
           (cfg == (STE_CONFIG_BYPASS | STE_CONFIG_S1 | STE_CONFIG_S2) &&
            !(w->ste[2] & STE2_S2S) && !(config->idr[0] & IDR0_NS1ATS));
}

unsigned smmu_oas(const HmSmmu *smmu)
{
    static const uint8_t bits[8] = { 32, 36, 40, 42, 44, 48, 52, 52 };

    return bits[IDR5_OAS(smmu->config.idr[5])];
}

unsigned walk_ips(const Walk *w)
{
    static const uint8_t bits[8] = { 32, 36, 40, 42, 44, 48, 52, 52 };

    return MIN(bits[CD0_IPS(w->cd[0])], smmu_oas(w->smmu));
}

bool walk_ha(const Walk *w)
{
    return (w->cd[0] & CD0_HA) && w->smmu->config.httu_update;
}

bool walk_hd(const Walk *w)
{
    return (w->cd[0] & CD0_HD) && walk_ha(w);
}

/* What makes a CD ILLEGAL (5.4): C_BAD_CD */
static bool cd_legal(const Walk *w)
{
    const HmSmmuConfig *config = &w->smmu->config;
    unsigned httu = IDR0_GET_HTTU(config->idr[0]);
    uint64_t cd0 = w->cd[0];
    TtConfig tt;

    if (!(cd0 & CD0_V) || !(cd0 & CD0_AA64) || (cd0 & CD0_ENDI)) {
        return false;
    }
    if ((config->idr[0] & IDR0_TERM_MODEL) && !(cd0 & CD0_A)) {
        return false;
    }
    if ((cd0 & CD0_S) && (IDR0_STALL_MODEL(config->idr[0]) == 1 ||
                          (w->ste[1] & STE1_S1STALLD))) {
        return false;
    }
    if (((cd0 & CD0_HA) && httu < 1) || ((cd0 & CD0_HD) && httu < 2)) {
        return false;
    }
    if (CD0_ASID(cd0) > 0xff && !(config->idr[0] & IDR0_ASID16)) {
        return false;
    }
    return tt_config(w, 0, &tt) && tt_config(w, 1, &tt);
}

/* The L1CD of @ssid, in two-level tables with 2^@span CDs per leaf */
static bool fetch_l1cd(Walk *w, uint32_t ssid, unsigned span, uint64_t *l1cd)
{
    uint32_t first = ssid >> span << span;
    uint64_t key = config_key(w->t->sid, first);
    const Config *c;

    if (!w->fresh) {
        c = g_hash_table_lookup(w->smmu->l1cd_cache, &key);
        if (c) {
            w->hits |= HIT_L1CD;
            *l1cd = c->words[0];
            return true;
        }
    }
    if (!walk_read(w, (w->ste[0] & STE0_S1CTXPTR) + 8 * (ssid >> span),
                   CLASS_CD, l1cd, 1)) {
        return false;
    }
    if (!w->fresh) {
        config_insert(w->smmu->l1cd_cache, key, span, l1cd, 1);
    }
    return true;
}

static bool load_cd(Walk *w, uint32_t ssid)
{
    uint64_t key = config_key(w->t->sid, ssid);
    uint64_t table = w->ste[0] & STE0_S1CTXPTR, l1cd;
    unsigned fmt = STE0_S1FMT(w->ste[0]);
    const Config *c;

    /* 5.2: the reserved format is a linear table. */
    fmt = fmt == S1FMT_RESERVED ? S1FMT_LINEAR : fmt;
    if (!w->fresh) {
        c = g_hash_table_lookup(w->smmu->cd_cache, &key);
        if (c) {
            HM_COUNT("smmu.cd.hit");
            w->hits |= HIT_CD;
            memcpy(w->cd, c->words, sizeof(w->cd));
            return true;
        }
    }
    if (STE0_S1CDMAX(w->ste[0]) && fmt &&
        IDR1_SSIDSIZE(w->smmu->config.idr[1])) {
        /* Leaf tables have 4K or 64K, and are aligned to their size. */
        unsigned span = fmt == S1FMT_4K ? 6 : 10;

        if (!fetch_l1cd(w, ssid, span, &l1cd)) {
            return false;
        }
        if (!(l1cd & 1)) {
            return walk_fault(w, EVT_C_BAD_SUBSTREAMID, false, CLASS_CD, 0);
        }
        table = l1cd & low_mask(52) & ~low_mask(span + 6);
        ssid &= low_mask(span);
    }
    if (!walk_read(w, table + 64ull * ssid, CLASS_CD, w->cd, 8)) {
        return false;
    }
    if (!w->fresh) {
        config_insert(w->smmu->cd_cache, key, 0, w->cd, 8);
    }
    return true;
}

bool fetch_ste(Walk *w)
{
    load_ste(w);
    return ((w->ste[0] & STE0_V) && ste_legal(w)) ||
           walk_fault(w, EVT_C_BAD_STE, false, CLASS_IN, 0);
}

bool fetch_cd(Walk *w, uint32_t ssid)
{
    return load_cd(w, ssid) &&
           (cd_legal(w) || walk_fault(w, EVT_C_BAD_CD, false, CLASS_IN, 0));
}

static void cache_forget(GHashTable *cache, uint32_t sid, uint64_t n)
{
    GHashTableIter iter;
    gpointer p;

    g_hash_table_iter_init(&iter, cache);
    while (g_hash_table_iter_next(&iter, NULL, &p)) {
        Config *c = p;

        if ((c->key >> 32) - sid < n) {
            g_hash_table_iter_remove(&iter);
        }
    }
}

void config_cache_forget_cds(HmSmmu *smmu, uint32_t sid)
{
    cache_forget(smmu->l1cd_cache, sid, 1);
    cache_forget(smmu->cd_cache, sid, 1);
}

void config_cache_forget_ste(HmSmmu *smmu, uint32_t first, uint64_t n)
{
    cache_forget(smmu->ste_cache, first, n);
    cache_forget(smmu->l1cd_cache, first, n);
    cache_forget(smmu->cd_cache, first, n);
}

void config_cache_forget_cd(HmSmmu *smmu, uint32_t sid, uint32_t ssid,
                            bool leaf)
{
    uint64_t key = config_key(sid, ssid);
    GHashTableIter iter;
    gpointer p;

    g_hash_table_remove(smmu->cd_cache, &key);
    if (leaf) {
        return;
    }
    g_hash_table_iter_init(&iter, smmu->l1cd_cache);
    while (g_hash_table_iter_next(&iter, NULL, &p)) {
        Config *c = p;

        if ((key - c->key) >> c->span == 0) {
            g_hash_table_iter_remove(&iter);
        }
    }
}
