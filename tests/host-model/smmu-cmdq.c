/*
 * Host model: commands of the physical SMMUv3 (Arm IHI 0070, chapter 4)
 *
 * A bit that a command does not have on this SMMU makes it illegal.  Hardware
 * may ignore some of these bits, but it may also stop the queue that all share.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "smmu-internal.h"

#define BITS(high, low) \
    ((UINT64_MAX >> (63 - (high))) & (UINT64_MAX << (low)))

#define OPCODE  BITS(7, 0)
#define SSV     BITS(11, 11)
#define SSID    BITS(31, 12)
#define SID     BITS(63, 32)
#define VMID    BITS(47, 32)
#define ASID    BITS(63, 48)
#define LEAF    BITS(0, 0)
#define VA      BITS(63, 12)
#define IPA     BITS(51, 12)
/* The fields of a range.  Bit 25, above SCALE, needs IDR5.DS. */
#define RANGE0  (BITS(16, 12) | BITS(24, 20))
#define SCALE_DS BITS(25, 25)
#define RANGE1  BITS(11, 8)

/* What an SMMU must have for a command to be legal */
enum {
    NEED_S1 = 1,
    NEED_S2 = 2,
    NEED_HYP = 4,
    NEED_ATS = 8,
    NEED_PRI = 16,
    NEED_STALL = 32,
};

typedef struct Command {
    const char *name;
    unsigned needs;
    uint64_t bits[2];
    bool range;
    uint64_t *counter;
} Command;

static Command commands[256] = {
    [CMD_PREFETCH_CONFIG] = { "PREFETCH_CONFIG", 0,
                              { SSV | SSID | SID, BITS(4, 0) } },
    [CMD_PREFETCH_ADDR] = { "PREFETCH_ADDR", 0,
                            { SSV | SSID | SID, VA | BITS(9, 0) } },
    [CMD_CFGI_STE] = { "CFGI_STE", 0, { SID, LEAF } },
    [CMD_CFGI_STE_RANGE] = { "CFGI_STE_RANGE", 0, { SID, BITS(4, 0) } },
    [CMD_CFGI_CD] = { "CFGI_CD", NEED_S1, { SSID | SID, LEAF } },
    [CMD_CFGI_CD_ALL] = { "CFGI_CD_ALL", NEED_S1, { SID } },
    [CMD_TLBI_NH_ALL] = { "TLBI_NH_ALL", NEED_S1, { VMID } },
    [CMD_TLBI_NH_ASID] = { "TLBI_NH_ASID", NEED_S1, { VMID | ASID } },
    [CMD_TLBI_NH_VA] = { "TLBI_NH_VA", NEED_S1, { VMID | ASID, LEAF | VA },
                         .range = true },
    [CMD_TLBI_NH_VAA] = { "TLBI_NH_VAA", NEED_S1, { VMID, LEAF | VA },
                          .range = true },
    [CMD_TLBI_EL2_ALL] = { "TLBI_EL2_ALL", NEED_HYP },
    [CMD_TLBI_EL2_ASID] = { "TLBI_EL2_ASID", NEED_HYP, { ASID } },
    [CMD_TLBI_EL2_VA] = { "TLBI_EL2_VA", NEED_HYP, { ASID, LEAF | VA },
                          .range = true },
    [CMD_TLBI_EL2_VAA] = { "TLBI_EL2_VAA", NEED_HYP, { 0, LEAF | VA },
                           .range = true },
    [CMD_TLBI_S12_VMALL] = { "TLBI_S12_VMALL", NEED_S2, { VMID } },
    [CMD_TLBI_S2_IPA] = { "TLBI_S2_IPA", NEED_S2, { VMID, LEAF | IPA },
                          .range = true },
    [CMD_TLBI_NSNH_ALL] = { "TLBI_NSNH_ALL" },
    [CMD_ATC_INV] = { "ATC_INV", NEED_ATS,
                      { BITS(9, 9) | SSV | SSID | SID, BITS(5, 0) | VA } },
    [CMD_PRI_RESP] = { "PRI_RESP", NEED_PRI,
                       { SSV | SSID | SID, BITS(8, 0) | BITS(13, 12) } },
    [CMD_RESUME] = { "RESUME", NEED_STALL,
                     { BITS(13, 12) | SID, BITS(15, 0) } },
    [CMD_STALL_TERM] = { "STALL_TERM", NEED_STALL, { SID } },
    [CMD_SYNC] = { "SYNC", 0,
                   { BITS(13, 12) | BITS(23, 22) | BITS(27, 24) | SID, IPA |
                     BITS(11, 2) } },
};

static unsigned smmu_has(const HmSmmuConfig *config)
{
    uint32_t idr0 = config->idr[0];

    return (idr0 & IDR0_S1P ? NEED_S1 : 0) | (idr0 & IDR0_S2P ? NEED_S2 : 0) |
           (idr0 & IDR0_HYP ? NEED_HYP : 0) | (idr0 & IDR0_ATS ? NEED_ATS : 0) |
           (idr0 & IDR0_PRI ? NEED_PRI : 0) |
           (IDR0_STALL_MODEL(idr0) != 1 ? NEED_STALL : 0);
}

/* Whether this combination of NUM, SCALE, TG and TTL is legal (4.4.1) */
static bool range_legal(const HmSmmuConfig *config, const uint64_t cmd[2])
{
    bool range = cmd[0] & (RANGE0 | SCALE_DS);
    unsigned tg = field(cmd[1], 10, 2), ttl = field(cmd[1], 8, 2);

    if (!tg) {
        return !range && !ttl;
    }
    /* Without IDR5.DS, 16K has no blocks at level 1. */
    return (range || ttl) &&
           !(tg == 2 && ttl == 1 && !(config->idr[5] & IDR5_DS));
}

static bool legal(const HmSmmu *smmu, const Command *c, const uint64_t cmd[2])
{
    const HmSmmuConfig *config = &smmu->config;
    unsigned op = cmd[0] & OPCODE;
    uint64_t bits0 = c->bits[0] | OPCODE, bits1 = c->bits[1];

    if (c->needs & ~smmu_has(config)) {
        return false;
    }
    if (c->range && (config->idr[3] & IDR3_RIL)) {
        if (!range_legal(config, cmd)) {
            return false;
        }
        bits0 |= RANGE0 | (config->idr[5] & IDR5_DS ? SCALE_DS : 0);
        bits1 |= RANGE1;
    }
    if (op >= CMD_TLBI_NH_ALL && op <= CMD_TLBI_S2_IPA) {
        bits0 &= config->idr[0] & IDR0_ASID16 ? UINT64_MAX : ~BITS(63, 56);
        bits0 &= config->idr[0] & IDR0_VMID16 ? UINT64_MAX : ~BITS(47, 40);
    }
    if ((op == CMD_CFGI_CD || op == CMD_ATC_INV) &&
        !IDR1_SSIDSIZE(config->idr[1])) {
        bits0 &= ~(SSV | SSID | BITS(9, 9));
    }
    if (op == CMD_ATC_INV && field(cmd[1], 0, 6) > 52) {
        return false;
    }
    return !(cmd[0] & ~bits0) && !(cmd[1] & ~bits1);
}

/* The addresses that a command covers, inclusive.  False: none. */
static bool range(const HmSmmu *smmu, const uint64_t cmd[2], TlbMatch *m)
{
    static const uint8_t granules[4] = { 0, 12, 14, 16 };
    uint64_t addr = cmd[1] & VA, bytes;
    /* 4.4.1.1: more than 39 acts as 39 */
    unsigned scale = MIN(field(cmd[0], 20, 6), 39);

    /* Cached addresses have bit 55 extended, whatever TBI ignores above it. */
    addr = field(addr, 55, 1) ? addr | ~low_mask(56) : addr & low_mask(56);
    m->by_va = true;
    m->granule = granules[field(cmd[1], 10, 2)];
    m->ttl = field(cmd[1], 8, 2);
    m->leaf = cmd[1] & LEAF;
    if (!m->granule) {
        m->first = m->last = addr;
        return true;
    }
    addr &= ~low_mask(m->granule);
    bytes = (field(cmd[0], 12, 5) + 1) << scale << m->granule;
    m->first = addr;
    m->last = addr + (bytes - 1) < addr ? UINT64_MAX : addr + (bytes - 1);
    /* No entry of that level starts at such an address: nothing matches. */
    return !m->ttl || !(addr & low_mask(level_shift(m->granule, m->ttl)));
}

static void invalidate_va(HmSmmu *smmu, const uint64_t cmd[2], TlbMatch *m)
{
    if (range(smmu, cmd, m)) {
        tlb_invalidate(smmu, m);
    }
}

static int execute(HmSmmu *smmu, const uint64_t cmd[2])
{
    uint32_t sid = cmd[0] >> 32;
    uint32_t vmid = smmu->config.idr[0] & IDR0_S2P ? field(cmd[0], 32, 16) : 0;
    TlbMatch m = { .regime = vmid, .asid = cmd[0] >> 48 };
    unsigned span;

    switch (cmd[0] & OPCODE) {
    case CMD_CFGI_STE:
        /* 4.3.1: this includes the CDs that were reached through it. */
        config_cache_forget_ste(smmu, sid, 1);
        break;
    case CMD_CFGI_STE_RANGE:
        span = field(cmd[1], 0, 5) + 1;
        config_cache_forget_ste(smmu, (uint64_t)sid >> span << span,
                                1ull << span);
        break;
    case CMD_CFGI_CD:
        config_cache_forget_cd(smmu, sid, field(cmd[0], 12, 20),
                               cmd[1] & LEAF);
        break;
    case CMD_CFGI_CD_ALL:
        config_cache_forget_cds(smmu, sid);
        break;
    case CMD_TLBI_EL2_ALL:
        m.regime = REGIME_EL2;
        /* fall through */
    case CMD_TLBI_NH_ALL:
        m.any_asid = true;
        tlb_invalidate(smmu, &m);
        break;
    case CMD_TLBI_EL2_ASID:
        m.regime = REGIME_EL2;
        /* fall through */
    case CMD_TLBI_NH_ASID:
        m.keep_global = true;
        tlb_invalidate(smmu, &m);
        break;
    case CMD_TLBI_EL2_VA:
        m.regime = REGIME_EL2;
        /* fall through */
    case CMD_TLBI_NH_VA:
        invalidate_va(smmu, cmd, &m);
        break;
    case CMD_TLBI_EL2_VAA:
        m.regime = REGIME_EL2;
        /* fall through */
    case CMD_TLBI_NH_VAA:
        m.any_asid = true;
        invalidate_va(smmu, cmd, &m);
        break;
    case CMD_TLBI_S12_VMALL:
        m.any_asid = true;
        tlb_invalidate(smmu, &m);
        s2_invalidate(smmu, vmid, 0, UINT64_MAX);
        break;
    case CMD_TLBI_S2_IPA:
        /* TG and TTL describe tables, and this stage 2 has none. */
        range(smmu, cmd, &m);
        s2_invalidate(smmu, vmid, m.first, m.last);
        break;
    case CMD_TLBI_NSNH_ALL:
        m.any_regime = m.any_asid = true;
        tlb_invalidate(smmu, &m);
        s2_invalidate_all(smmu);
        break;
    case CMD_ATC_INV:
        return hm_device_atc_inv(sid, smmu, cmd) ? 0 : -ETIMEDOUT;
    }
    return 0;
}

/*
 * Erratum T264-SMMU-3: a TLBI or CFGI has no effect, unless an equal one was
 * issued before and a CMD_SYNC has completed since.  An issue counts once, and
 * for a number of CMD_SYNCs that no caller needs: a call with 256 commands of
 * a guest makes 5.
 */
#define ISSUE_SYNCS 64

static bool takes_effect(HmSmmu *smmu, const uint64_t cmd[2])
{
    unsigned op = cmd[0] & OPCODE;
    Issue issue = { { cmd[0], cmd[1] }, smmu->syncs };

    if (!smmu->config.repeat || op < CMD_CFGI_STE || op >= CMD_ATC_INV) {
        return true;
    }
    for (guint i = 0; i < smmu->issued->len; i++) {
        Issue *first = &g_array_index(smmu->issued, Issue, i);

        if (first->sync < smmu->syncs &&
            !memcmp(first->cmd, issue.cmd, sizeof(issue.cmd))) {
            g_array_remove_index(smmu->issued, i);
            return true;
        }
    }
    g_array_append_val(smmu->issued, issue);
    HM_COUNT("smmu.ineffective");
    return false;
}

void cmdq_synced(HmSmmu *smmu)
{
    smmu->syncs++;
    while (smmu->issued->len && g_array_index(smmu->issued, Issue, 0).sync +
                                ISSUE_SYNCS < smmu->syncs) {
        g_array_remove_index(smmu->issued, 0);
    }
}

bool cmdq_legal(const HmSmmu *smmu, const uint64_t cmd[2])
{
    const Command *c = &commands[cmd[0] & OPCODE];

    return c->name && legal(smmu, c, cmd);
}

int cmdq_execute(HmSmmu *smmu, const uint64_t cmd[2])
{
    Command *c = &commands[cmd[0] & OPCODE];

    if (!cmdq_legal(smmu, cmd)) {
        return -EIO;
    }
    if (!c->counter) {
        g_autofree char *name = g_strconcat("smmu.cmd.", c->name, NULL);

        c->counter = hm_counter(name);
    }
    if ((cmd[0] & OPCODE) == CMD_CFGI_STE_RANGE && field(cmd[1], 0, 5) == 31) {
        HM_COUNT("smmu.cmd.CFGI_ALL");
    } else {
        (*c->counter)++;
    }
    return takes_effect(smmu, cmd) ? execute(smmu, cmd) : 0;
}
