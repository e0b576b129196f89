/*
 * Host model: the physical SMMUv3
 *
 * The path of a transaction (Arm IHI 0070): STE, CD, stage 1, stage 2, and the
 * event if it fails.
 *
 * Stage 2 is opaque: STE.S2TTB is the address of an HmS2 in this process, and
 * its callback stands for the tables.  Without stage 2, a physical address is
 * an address in this process.
 *
 * Not implemented: the stall model (a fault always terminates; STE.S1STALLD and
 * CD.S are only checked for being legal), PRI, Secure state, AArch32 tables,
 * LPA2, HAFT, merging of events (STE.MEV), and abort versus RAZ/WI (CD.A): the
 * transaction fails in both cases.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdlib.h>
#include "smmu-internal.h"

HmSmmu *hm_smmu_new(const HmSmmuConfig *config)
{
    HmSmmu *smmu = g_new0(HmSmmu, 1);
    const char *check = getenv("HOST_MODEL_CHECK");

    smmu->config = *config;
    smmu->config.name = g_strdup(config->name ? config->name : "");
    smmu->check = !check || strcmp(check, "off");
    smmu->stream_table = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    smmu->cmdq = g_array_new(false, false, 2 * sizeof(uint64_t));
    smmu->issued = g_array_new(false, false, sizeof(Issue));
    config_cache_init(smmu);
    tlb_init(smmu);
    return smmu;
}

void hm_smmu_free(HmSmmu *smmu)
{
    if (!smmu) {
        return;
    }
    tlb_free(smmu);
    config_cache_free(smmu);
    g_hash_table_destroy(smmu->stream_table);
    g_array_free(smmu->cmdq, true);
    g_array_free(smmu->issued, true);
    g_free(smmu->config.name);
    g_free(smmu);
}

const HmSmmuConfig *hm_smmu_config(HmSmmu *smmu)
{
    return &smmu->config;
}

void hm_smmu_on_event(HmSmmu *smmu, HmSmmuEventFn *fn)
{
    smmu->event_fn = fn;
}

uint64_t *hm_smmu_ste(HmSmmu *smmu, uint32_t sid)
{
    uint64_t *ste = g_hash_table_lookup(smmu->stream_table,
                                        GUINT_TO_POINTER(sid));

    if (!ste) {
        ste = g_new0(uint64_t, 8);
        g_hash_table_insert(smmu->stream_table, GUINT_TO_POINTER(sid), ste);
    }
    return ste;
}

void hm_smmu_command(HmSmmu *smmu, const uint64_t cmd[2])
{
    g_array_append_vals(smmu->cmdq, cmd, 1);
}

int hm_smmu_sync(HmSmmu *smmu)
{
    int ret = 0;

    HM_COUNT("smmu.sync");
    for (unsigned i = 0; i < smmu->cmdq->len; i++) {
        const uint64_t *queue = (const uint64_t *)smmu->cmdq->data;
        uint64_t cmd[2] = { queue[2 * i], queue[2 * i + 1] };
        int r = cmdq_execute(smmu, cmd);

        if (r == -EIO) {
            HM_COUNT("smmu.ill");
            hm_log("smmu %s: illegal command %016" PRIx64 " %016" PRIx64,
                   smmu->config.name, cmd[0], cmd[1]);
        }
        if (r && ret != -EIO) {
            ret = r;
        }
    }
    g_array_set_size(smmu->cmdq, 0);
    cmdq_synced(smmu);
    return ret;
}

/*
 * The path of a transaction
 */

bool walk_fault(Walk *w, unsigned event, bool s2, unsigned class,
                uint64_t addr)
{
    w->event = event;
    w->fault_s2 = s2;
    w->class = class;
    w->fault_addr = addr;
    return false;
}

/* Which of HM_READ, HM_WRITE and HM_EXEC the transaction needs */
static unsigned wanted(const Walk *w)
{
    if (w->access & HM_WRITE) {
        return w->access & (HM_READ | HM_WRITE);
    }
    return w->access & HM_EXEC ? HM_EXEC : w->access & HM_READ;
}

static unsigned leaf_prot(const Walk *w, const TlbEntry *leaf)
{
    return w->access & HM_PRIV ? leaf->prot_priv : leaf->prot_user;
}

/*
 * The answer to an ATS request is what is allowed, whatever it asked for
 * (3.9.1).  If nothing is allowed, the request fails.
 */
static bool permitted(const Walk *w, unsigned prot)
{
    if (w->t->ats_request) {
        return prot & (HM_READ | HM_WRITE);
    }
    return !(wanted(w) & ~prot);
}

/* STE.PRIVCFG and INSTCFG replace the attributes of the transaction. */
static void override_attributes(Walk *w)
{
    unsigned priv = STE1_PRIVCFG(w->ste[1]), inst = STE1_INSTCFG(w->ste[1]);

    w->access = w->t->access;
    if (w->smmu->config.idr[1] & IDR1_ATTR_PERMS_OVR) {
        if (priv & 2) {
            w->access &= ~HM_PRIV;
            w->access |= priv & 1 ? HM_PRIV : 0;
        }
        if (inst & 2) {
            w->access &= ~HM_EXEC;
            w->access |= inst & 1 ? HM_EXEC : 0;
        }
    }
    if (w->access & HM_WRITE) {
        w->access &= ~HM_EXEC;
    }
}

/* Select the CD, or none; C_BAD_SUBSTREAMID &c. (3.9, STE.S1DSS) */
static bool resolve_substream(Walk *w, uint32_t *ssid)
{
    unsigned cdmax = STE0_S1CDMAX(w->ste[0]);
    unsigned dss = STE1_S1DSS(w->ste[1]);

    if (!IDR1_SSIDSIZE(w->smmu->config.idr[1])) {
        cdmax = 0;
    }
    *ssid = w->ssv ? w->t->ssid : 0;
    if (w->ssv) {
        if (!w->s1 || !cdmax || *ssid >> cdmax) {
            return walk_fault(w, EVT_C_BAD_SUBSTREAMID, false, CLASS_IN, 0);
        }
        /* That CD serves those without a SubstreamID (7.3.7). */
        if (dss == S1DSS_SSID0 && !*ssid) {
            return walk_fault(w, EVT_F_STREAM_DISABLED, false, CLASS_IN, 0);
        }
    } else if (w->s1 && cdmax) {
        if (dss == S1DSS_TERMINATE || dss == S1DSS_RESERVED) {
            return walk_fault(w, EVT_F_STREAM_DISABLED, false, CLASS_IN, 0);
        }
        w->s1 = dss == S1DSS_SSID0;
    }
    return true;
}

/* The leaf for w->va, from the TLB or by a walk.  A walk fills @own. */
static bool stage1(Walk *w, TlbEntry *own, TlbEntry **leaf)
{
    bool write = w->access & HM_WRITE;
    TtConfig tt;
    bool done;

    if (!tt_select(w, &tt)) {
        return false;
    }
    if (!w->fresh) {
        TlbEntry *e = tlb_lookup(w->smmu, w->regime, CD0_ASID(w->cd[0]),
                                 w->va);

        if (e && e->clean && write && (leaf_prot(w, e) & HM_WRITE)) {
            /* The descriptor must be read again to become dirty: a miss. */
            tlb_remove(w->smmu, e);
            e = NULL;
        }
        if (e) {
            HM_COUNT("smmu.tlb.hit");
            w->hits |= HIT_TLB;
            *leaf = e;
            return true;
        }
        HM_COUNT("smmu.tlb.miss");
    }

    do {
        if (!walk_stage1(w, &tt, own)) {
            return false;
        }
        done = true;
        if (!w->fresh && own->clean && write &&
            (leaf_prot(w, own) & HM_WRITE) &&
            !walk_set_dirty(w, own, &done)) {
            return false;
        }
    } while (!done);
    *leaf = w->fresh ? own : tlb_insert(w->smmu, own);
    return true;
}

/* To the end of the 4K page */
static uint64_t page_rest(uint64_t addr)
{
    return 0x1000 - (addr & 0xfff);
}

/* Translate w->ipa to memory.  @leaf is the leaf of stage 1, or NULL. */
static bool stage2(Walk *w, TlbEntry *leaf)
{
    uint64_t len;
    unsigned prot;
    char byte;

    if (!w->s2) {
        w->host = (void *)(uintptr_t)w->ipa;
        w->len = MIN(w->len, page_rest(w->ipa));
        /* Nothing answers there.  The SMMU does not record such an abort. */
        return process_read(w->ipa, &byte, 1) ||
               walk_fault(w, EVT_NONE, false, CLASS_IN, w->ipa);
    }
    if (!s2_translate(w, w->ipa, w->fresh ? NULL : leaf, &w->host, &len,
                      &prot)) {
        return walk_fault(w, EVT_F_TRANSLATION, true, CLASS_IN, w->ipa);
    }
    w->len = MIN(w->len, len);
    prot &= HM_READ | HM_WRITE;
    prot |= prot & HM_READ ? HM_EXEC : 0;
    if (!permitted(w, prot)) {
        return walk_fault(w, EVT_F_PERMISSION, true, CLASS_IN, w->ipa);
    }
    w->prot &= prot;
    /* Each stage allows something, but they have nothing in common. */
    if (!permitted(w, w->prot)) {
        return walk_fault(w, EVT_F_PERMISSION, true, CLASS_IN, w->ipa);
    }
    return true;
}

/* An address that the endpoint got by ATS is only checked (ATSCHK=1). */
static bool pass_translated(Walk *w)
{
    uint64_t addr = w->t->iova;
    char byte;

    if (!(STE0_CONFIG(w->ste[0]) & 3) ||
        STE1_EATS(w->ste[1]) != EATS_FULL ||
        !(w->smmu->config.idr[0] & IDR0_ATS)) {
        return walk_fault(w, EVT_F_TRANS_FORBIDDEN, false, CLASS_IN, 0);
    }
    w->host = (void *)(uintptr_t)addr;
    w->len = page_rest(addr);
    w->prot = HM_READ | HM_WRITE;
    return w->host == HM_DOORBELL ||
           process_read(addr, &byte, 1) ||
           walk_fault(w, EVT_NONE, false, CLASS_IN, addr);
}

static bool translate(Walk *w)
{
    const HmTranslation *t = w->t;
    TlbEntry own, *leaf = NULL;
    unsigned cfg, oas = smmu_oas(w->smmu);
    uint32_t ssid;

    w->ssv = t->ssid != HM_NO_PASID;
    w->access = t->access;
    if (!fetch_ste(w)) {
        return false;
    }
    cfg = STE0_CONFIG(w->ste[0]);
    if (!(cfg & STE_CONFIG_BYPASS)) {
        return walk_fault(w, t->ats_translated ? EVT_F_TRANS_FORBIDDEN
                                               : EVT_NONE,
                          false, CLASS_IN, 0);
    }
    if (t->ats_translated) {
        return pass_translated(w);
    }
    if (t->ats_request &&
        (!(cfg & 3) || STE1_EATS(w->ste[1]) != EATS_FULL ||
         !(w->smmu->config.idr[0] & IDR0_ATS))) {
        return walk_fault(w, EVT_F_BAD_ATS_TREQ, false, CLASS_IN, 0);
    }

    override_attributes(w);
    w->s1 = cfg & STE_CONFIG_S1;
    w->vmid = w->smmu->config.idr[0] & IDR0_S2P ? STE2_S2VMID(w->ste[2]) : 0;
    w->regime = w->s1 && STE1_STRW(w->ste[1]) == STRW_EL2 ? REGIME_EL2
                                                          : w->vmid;
    if (cfg & STE_CONFIG_S2) {
        w->s2 = (HmS2 *)(uintptr_t)(w->ste[3] & STE3_S2TTB);
    }
    if (!resolve_substream(w, &ssid)) {
        return false;
    }

    if (w->s1) {
        if (!fetch_cd(w, ssid) || !stage1(w, &own, &leaf)) {
            return false;
        }
        w->prot = leaf_prot(w, leaf);
        /* A request that does not ask to write leaves a clean page clean. */
        if (t->ats_request && leaf->clean) {
            w->prot &= ~HM_WRITE;
        }
        if (!permitted(w, w->prot)) {
            return walk_fault(w, EVT_F_PERMISSION, false, CLASS_IN, 0);
        }
        w->ipa = leaf->output | (w->va & low_mask(leaf->key.size));
        w->len = (1ull << leaf->key.size) -
                 (w->va & low_mask(leaf->key.size));
    } else {
        if (t->iova >> oas) {
            return walk_fault(w, EVT_F_ADDR_SIZE, false, CLASS_IN, 0);
        }
        w->ipa = t->iova;
        w->len = UINT64_MAX;
        w->prot = HM_READ | HM_WRITE | HM_EXEC;
    }
    return stage2(w, leaf);
}

/*
 * Events
 */

static bool recorded(const Walk *w)
{
    if (w->event == EVT_NONE) {
        return false;
    }
    /* 7.3.6: the only one that a request can leave, without REC_CFG_ATS */
    if (w->t->ats_request) {
        return w->event == EVT_F_BAD_ATS_TREQ;
    }
    if (w->event >= EVT_F_TRANSLATION) {
        /* CD.R and STE.S2R can suppress only the events of these faults. */
        if (w->fault_s2) {
            return w->ste[2] & STE2_S2R;
        }
        return !w->s1 || (w->cd[0] & CD0_R);
    }
    return true;
}

/* 7.3: a field has the same place in all events that have it. */
static void record(Walk *w)
{
    const HmTranslation *t = w->t;
    uint64_t event[4] = { w->event | (uint64_t)t->sid << 32 };

    if (w->ssv) {
        event[0] |= 1u << 11 | field(t->ssid, 0, 20) << 12;
    }
    if (w->event == EVT_F_BAD_ATS_TREQ) {
        event[2] = t->iova & ~low_mask(12);
    }
    if (w->event >= EVT_F_WALK_EABT || w->event == EVT_F_TRANS_FORBIDDEN) {
        event[1] |= w->access & HM_PRIV ? 1ull << 33 : 0;
        event[1] |= w->access & HM_EXEC ? 1ull << 34 : 0;
        event[1] |= w->access & HM_WRITE ? 0 : 1ull << 35;
        event[2] = t->iova;
    }
    if (w->event >= EVT_F_WALK_EABT) {
        event[1] |= (uint64_t)w->class << 40;
    }
    if (w->fault_s2) {
        event[1] |= 1ull << 39;
        event[1] |= w->class == CLASS_TT && w->tt_read ? 1ull << 44 : 0;
        event[3] = w->fault_addr & low_mask(52) & ~low_mask(12);
    } else if (w->event == EVT_F_WALK_EABT || w->event == EVT_F_CD_FETCH) {
        event[3] = w->fault_addr & low_mask(52) & ~low_mask(3);
    }
    hm_log("smmu %s: event %016" PRIx64 " %016" PRIx64 " %016" PRIx64
           " %016" PRIx64, w->smmu->config.name, event[0], event[1], event[2],
           event[3]);
    if (w->smmu->event_fn) {
        w->smmu->event_fn(w->smmu, event);
    }
}

static void describe(GString *s, const Walk *w, bool ok)
{
    if (ok) {
        g_string_append_printf(s, "ipa=0x%" PRIx64 " host=%p prot=0x%x", w->ipa,
                               w->host, w->prot);
    } else {
        g_string_append_printf(s, "fault=0x%x s2=%d class=%u", w->event,
                               w->fault_s2, w->class);
    }
    g_string_append_printf(s, " ste=%016" PRIx64 " cd=%016" PRIx64
                           " ttb=0x%" PRIx64 "/0x%" PRIx64, w->ste[0], w->cd[0],
                           w->cd[1], w->cd[2]);
}

/* Would the transaction have the same result without any cache? */
static bool as_tables_say(const Walk *w, bool ok)
{
    static const char *const names[] = {
        "STE", "L1CD", "CD", "TLB", "walk cache", "stage 2",
    };
    Walk f = { .smmu = w->smmu, .t = w->t, .fresh = true };
    bool fresh_ok = translate(&f);
    g_autoptr(GString) line = NULL;

    if (ok == fresh_ok &&
        (ok ? w->host == f.host && w->prot == f.prot
            : w->event == f.event && w->fault_s2 == f.fault_s2 &&
              w->class == f.class)) {
        return true;
    }

    line = g_string_new(NULL);
    g_string_append_printf(line, "smmu %s: stale: sid=0x%x ssid=0x%x va=0x%"
                           PRIx64 " access=0x%x vmid=0x%x asid=0x%x by",
                           w->smmu->config.name, w->t->sid, w->t->ssid,
                           w->t->iova, w->t->access, w->vmid,
                           (unsigned)CD0_ASID(w->cd[0]));
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (w->hits & (1u << i)) {
            g_string_append_printf(line, " %s,", names[i]);
        }
    }
    g_string_append(line, " cached: ");
    describe(line, w, ok);
    g_string_append(line, "; tables: ");
    describe(line, &f, fresh_ok);
    hm_log("%s", line->str);
    return false;
}

/* 3.9.1.2: how a request that got no translation is answered */
static HmAtsReply ats_reply(const Walk *w)
{
    switch (w->event) {
    case EVT_F_BAD_ATS_TREQ:
        return HM_ATS_UR;
    case EVT_NONE:
        /* STE.Config says abort, or there is no memory. */
        return STE0_CONFIG(w->ste[0]) & STE_CONFIG_BYPASS ? HM_ATS_SUCCESS
                                                          : HM_ATS_UR;
    case EVT_F_TRANSLATION:
    case EVT_F_ADDR_SIZE:
    case EVT_F_ACCESS:
    case EVT_F_PERMISSION:
        return HM_ATS_SUCCESS;
    default:
        return HM_ATS_CA;
    }
}

static void set_result(const Walk *w, HmTranslation *t)
{
    t->host = w->host;
    t->len = w->len;
    t->prot = w->prot;
    t->reply = HM_ATS_SUCCESS;
}

int hm_smmu_translate_fresh(HmSmmu *smmu, HmTranslation *t)
{
    Walk w = { .smmu = smmu, .t = t, .fresh = true };

    if (!translate(&w)) {
        t->reply = ats_reply(&w);
        return -EFAULT;
    }
    set_result(&w, t);
    return 0;
}

void hm_smmu_check_atc(HmSmmu *smmu, const HmTranslation *t)
{
    unsigned access = t->access & (HM_READ | HM_WRITE);
    HmTranslation now = *t;

    now.ats_request = true;
    if (!smmu->check ||
        (!hm_smmu_translate_fresh(smmu, &now) && now.host == t->host &&
         !(access & ~now.prot))) {
        return;
    }
    HM_COUNT("smmu.stale");
    HM_COUNT("atc.stale");
    hm_log("smmu %s: stale ATC: sid=0x%x ssid=0x%x va=0x%" PRIx64
           " access=0x%x host=%p prot=0x%x; tables: reply=%u host=%p prot=0x%x",
           smmu->config.name, t->sid, t->ssid, t->iova, t->access, t->host,
           t->prot, now.reply, now.host, now.prot);
}

int hm_smmu_translate(HmSmmu *smmu, HmTranslation *t)
{
    Walk w = { .smmu = smmu, .t = t };
    bool ok = translate(&w);

    HM_COUNT("smmu.translate");
    if (w.s2_stale || (smmu->check && w.hits && !as_tables_say(&w, ok))) {
        HM_COUNT("smmu.stale");
    }
    if (!ok) {
        HM_COUNT("smmu.fault");
        t->reply = ats_reply(&w);
        if (recorded(&w)) {
            record(&w);
        }
        return -EFAULT;
    }
    set_result(&w, t);
    /*
     * A write ends within the 4K page.  After an ATS request the endpoint may
     * write to all of the range, and the SMMU does not see that.
     */
    if (w.s2 && w.s2->dirty && (w.access & w.prot & HM_WRITE) &&
        w.host != HM_DOORBELL) {
        w.s2->dirty(w.s2, w.ipa, t->ats_request ?
                    w.len : MIN(w.len, page_rest(w.ipa)));
    }
    return 0;
}
