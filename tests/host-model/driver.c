/*
 * Host model: Linux's arm-smmu-v3 driver
 *
 * Domains; the physical STEs and how they change; vIOMMUs; a guest's
 * invalidations; events.  It also plays the part of Linux's iommu.c between the
 * driver and iommufd: who owns a device, and where a device is parked during a
 * reset.
 *
 * One thing is not as in Linux.  A domain that is stage 1 there is a stage 2
 * here, with a VMID of its own from the top of the range.  A stage 1 would need
 * page tables and a CD in memory, and only the kernel's own invalidations could
 * show the difference.  Attachments with a PASID are CDs, so the model only
 * records them.  A device that has nothing else has no CD table, and hardware
 * sees the domain of its RID.  Behind an SMMU without stage 2 a device can be
 * attached, but can do no DMA.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdlib.h>
#include "linux.h"

#define FIELD(value, shift) ((uint64_t)(value) << (shift))
#define MASK(high, low) \
    ((UINT64_MAX >> (63 - (high))) & (UINT64_MAX << (low)))

/* The fields of the ID registers that Linux reads */
#define IDR0_S2P            (1u << 0)
#define IDR0_S1P            (1u << 1)
#define IDR0_HTTU(idr0)     (((idr0) >> 6) & 3)
#define IDR0_HYP            (1u << 9)
#define IDR0_ATS            (1u << 10)
#define IDR0_ASID16         (1u << 12)
#define IDR0_VMID16         (1u << 18)
#define IDR0_CD2L           (1u << 19)
#define IDR0_STALL(idr0)    (((idr0) >> 24) & 3)
#define IDR1_SSIDSIZE(idr1) (((idr1) >> 6) & 0x1f)
#define IDR1_ATTR_TYPES_OVR (1u << 27)
#define IDR3_FWB            (1u << 8)
#define IDR3_RIL            (1u << 10)
#define IDR5_OAS(idr5)      ((idr5) & 7)
#define IDR5_GRAN4K         (1u << 4)
#define IDR5_GRAN16K        (1u << 5)
#define IDR5_GRAN64K        (1u << 6)
#define IDR5_DS             (1u << 7)
#define IDR5_VAX(idr5)      (((idr5) >> 10) & 3)

/* STE (5.2) */
#define STE0_V              1ull
#define STE0_CONFIG         MASK(3, 1)
#define STE0_S1FMT          MASK(5, 4)
#define STE0_S1CTXPTR       MASK(51, 6)
#define STE0_S1CDMAX        MASK(63, 59)
#define STE1_S1DSS          MASK(1, 0)
#define STE1_S1DSS_BYPASS   1
#define STE1_S1CIR          MASK(3, 2)
#define STE1_S1COR          MASK(5, 4)
#define STE1_S1CSH          MASK(7, 6)
#define STE1_MEV            (1ull << 19)
#define STE1_S2FWB          (1ull << 25)
#define STE1_S1STALLD       (1ull << 27)
#define STE1_EATS           MASK(29, 28)
#define STE1_EATS_TRANS     FIELD(EATS_TRANS, 28)
#define STE1_EATS_S1CHK     FIELD(EATS_S1CHK, 28)
#define STE1_STRW           MASK(31, 30)
#define STE1_SHCFG          MASK(45, 44)
#define STE1_SHCFG_INCOMING FIELD(1, 44)
#define STE2_S2VMID         MASK(15, 0)
#define STE2_VTCR           MASK(50, 32)
#define STE2_S2AA64         (1ull << 51)
#define STE2_S2ENDI         (1ull << 52)
#define STE2_S2PTW          (1ull << 54)
#define STE2_S2S            (1ull << 57)
#define STE2_S2R            (1ull << 58)
#define STE3_S2TTB          MASK(51, 4)

#define CONFIG_S1           1           /* bits of STE.Config */
#define CONFIG_S2           2
#define CONFIG_ABORT        0
#define CONFIG_BYPASS       4
#define CONFIG_S1_TRANS     5
#define CONFIG_S2_TRANS     6
#define CONFIG_NESTED       7

#define EATS_NONE           0
#define EATS_TRANS          1
#define EATS_S1CHK          2

static unsigned ste_config(const uint64_t *ste)
{
    return (ste[0] & STE0_CONFIG) >> 1;
}

/* Commands (4.1) */
enum {
    OP_PREFETCH_CFG = 0x01,
    OP_CFGI_STE = 0x03,
    OP_CFGI_ALL = 0x04,
    OP_CFGI_CD = 0x05,
    OP_CFGI_CD_ALL = 0x06,
    OP_TLBI_NH_ALL = 0x10,
    OP_TLBI_NH_ASID = 0x11,
    OP_TLBI_NH_VA = 0x12,
    OP_TLBI_NH_VAA = 0x13,
    OP_TLBI_EL2_ALL = 0x20,
    OP_TLBI_S12_VMALL = 0x28,
    OP_TLBI_S2_IPA = 0x2a,
    OP_TLBI_NSNH_ALL = 0x30,
    OP_ATC_INV = 0x40,
};

#define CMD0_OP             MASK(7, 0)
#define CMD0_SSV            (1ull << 11)
#define CMD0_SSID           MASK(31, 12)
#define CMD0_SID            MASK(63, 32)
#define CFGI1_LEAF          1ull
#define CFGI1_RANGE_ALL     31ull
#define TLBI0_NUM           MASK(16, 12)
#define TLBI0_SCALE         MASK(24, 20)
#define TLBI0_SCALE_TOP     (1ull << 25)
#define TLBI0_VMID          MASK(47, 32)
#define TLBI0_ASID          MASK(63, 48)
#define TLBI0_ASID8         MASK(55, 48)
#define TLBI1_LEAF          1ull
#define TLBI1_TG_TTL        MASK(11, 8)
#define TLBI1_ADDR          MASK(63, 12)
#define ATC0_GLOBAL         (1ull << 9)
#define ATC1_SIZE           MASK(5, 0)
#define ATC1_SIZE_ALL       52
#define ATC1_ADDR           MASK(63, 12)

/* How many commands Linux submits at once (BITS_PER_LONG) */
#define BATCH               64

/* The largest allocation of Linux's kmalloc() */
#define KMALLOC_MAX         (4u << 20)

/* CTXDESC_LINEAR_CDMAX: SubstreamIDs with one level of CDs */
#define LINEAR_CDMAX        10

struct HmDriver {
    HmSmmu *smmu;
    bool s1, s2, nesting;
    bool coherent, canwbs, s2fwb, ats, ril, ds, hd, cd2l;
    bool stall_force, attr_types_ovr;
    unsigned asid_bits, vmid_bits, ssid_bits;
    unsigned oas;
    uint64_t page_size;                 /* the granule that Linux picks */
    bool vax;
    bool *vmid_used;
    GPtrArray *masters;
};

/* A device or PASID that uses a domain, directly or by a nested one */
typedef struct HmDomainUser {
    struct HmMaster *master;
    HmDomain *domain;                   /* that one, or one nested in it */
    uint32_t ssid;
    bool ats;
} HmDomainUser;

typedef struct HmMaster {
    HmDevice *dev;
    HmDriver *driver;
    bool ats_enabled;
    unsigned ssid_bits;
    bool cd_table_in_ste;               /* as Linux sees it */
    GHashTable *ssids;                  /* CDs in use */

    /* Events go to this vIOMMU, under this virtual StreamID. */
    HmViommu *viommu;
    uint64_t vsid;

    /* iommu.c's struct group_device */
    struct HmGroup *group;
    unsigned reset_depth;
    bool blocked;                       /* parked while it is reset */
} HmMaster;

/* iommu.c's group: its devices are attached to one domain together */
typedef struct HmGroup {
    const char *name;                   /* NULL: of one device */
    GPtrArray *masters;
    HmDomain *domain;
    HmDomain *default_domain;
    HmCtx *owner;
    unsigned owner_count;
    GHashTable *pasids;                 /* of HmDomain */
    unsigned recovering;                /* devices that are being reset */
} HmGroup;

static HmDomain blocked_domain = { .type = HM_DOMAIN_BLOCKED };

/* HmDriver by HmSmmu */
static GHashTable *drivers;
/* All groups, of HmGroup */
static GPtrArray *groups;
/* All SMMUs share the ASIDs. */
static bool asid_used[1 << 16];
/* Linux repeats the commands of all SMMUs if one has the erratum. */
static bool repeat_tlbi_cfgi;

static HmMaster *master_of(HmDevice *dev)
{
    if (!dev->master) {
        hm_driver_device_probe(dev);
    }
    return dev->master;
}

static HmGroup *group_of(HmDevice *dev)
{
    return master_of(dev)->group;
}

/*
 * Commands
 */

typedef struct HmBatch {
    HmDriver *driver;
    uint64_t cmds[BATCH][2];
    unsigned n;
} HmBatch;

/*
 * Issue a CMD_SYNC and wait for it.  Linux steps over an illegal command and
 * continues as if nothing had happened.  Only a time-out of one second shows
 * that the queue has stopped.
 */
static int driver_sync(HmDriver *driver)
{
    int ret = hm_smmu_sync(driver->smmu);

    if (ret == -EIO) {
        HM_COUNT("driver.illegal");
        return 0;
    }
    return ret;
}

static void batch_put(HmBatch *batch)
{
    for (unsigned i = 0; i < batch->n; i++) {
        hm_smmu_command(batch->driver->smmu, batch->cmds[i]);
    }
}

static int batch_submit(HmBatch *batch)
{
    unsigned op = batch->cmds[0][0] & CMD0_OP;
    int ret;

    if (!batch->n) {
        return 0;
    }
    batch_put(batch);
    ret = driver_sync(batch->driver);
    if (!ret && repeat_tlbi_cfgi && op >= OP_CFGI_STE && op < OP_ATC_INV) {
        batch_put(batch);
        ret = driver_sync(batch->driver);
    }
    batch->n = 0;
    return ret;
}

static void batch_add(HmBatch *batch, uint64_t word0, uint64_t word1)
{
    if (batch->n == BATCH) {
        if (repeat_tlbi_cfgi) {
            batch_submit(batch);
        } else {
            batch_put(batch);
            batch->n = 0;
        }
    }
    batch->cmds[batch->n][0] = word0;
    batch->cmds[batch->n][1] = word1;
    batch->n++;
}

/* One command and a CMD_SYNC */
static int issue(HmDriver *driver, uint64_t word0, uint64_t word1)
{
    HmBatch batch = { .driver = driver };

    batch_add(&batch, word0, word1);
    return batch_submit(&batch);
}

static void add_atc_inv(HmBatch *batch, HmMaster *master, uint32_t ssid,
                        uint64_t addr, unsigned size)
{
    batch_add(batch, OP_ATC_INV | (ssid != HM_RID ? CMD0_SSV : 0) |
                     FIELD(ssid, 12) | FIELD(master->dev->sid, 32),
              (addr & ATC1_ADDR) | size);
}

static void atc_inv_all(HmMaster *master, uint32_t ssid)
{
    HmBatch batch = { .driver = master->driver };

    add_atc_inv(&batch, master, ssid, 0, ATC1_SIZE_ALL);
    batch_submit(&batch);
}

/*
 * TLBI_S2_IPA for a range.  Linux sets TTL because it knows the level of what
 * it unmapped.  There are no levels here, so TTL is 0.
 */
static void add_ipa_range(HmBatch *batch, HmDomain *domain, uint64_t iova,
                          uint64_t size)
{
    uint64_t word0 = OP_TLBI_S2_IPA | FIELD(domain->vmid, 32);
    unsigned shift = __builtin_ctzll(domain->page_size);
    uint64_t pages = size >> shift, end = iova + size;

    if (!domain->driver->ril) {
        for (; iova != end; iova += domain->page_size) {
            batch_add(batch, word0, (iova & TLBI1_ADDR) | TLBI1_LEAF);
        }
        return;
    }
    /* NUM, SCALE and TTL all 0 are reserved. */
    if ((pages & 31) == 1) {
        pages++;
    }
    while (pages) {
        unsigned scale = __builtin_ctzll(pages);
        uint64_t num = (pages >> scale) & 31;

        batch_add(batch, word0 | FIELD(num - 1, 12) | FIELD(scale & 31, 20),
                  (iova & TLBI1_ADDR) | FIELD((shift - 10) / 2, 10) |
                  TLBI1_LEAF);
        iova += num << (scale + shift);
        pages -= num << scale;
    }
}

/* The smallest range of an ATC_INV that covers all of it */
static void add_atc_range(HmBatch *batch, HmDomainUser *user, uint64_t iova,
                          uint64_t size)
{
    uint64_t first = iova >> 12, differ = first ^ ((iova + size - 1) >> 12);
    unsigned span = differ ? 64 - __builtin_clzll(differ) : 0;

    first &= -(1ull << span);
    add_atc_inv(batch, user->master, user->ssid, first << 12, span);
}

void hm_domain_unmapped(HmDomain *domain, uint64_t iova, uint64_t size)
{
    HmBatch batch = { .driver = domain->driver };
    /* More pages than this take longer one by one than all at once. */
    unsigned shift = __builtin_ctzll(domain->page_size);
    uint64_t max = domain->page_size << (shift - 3);
    bool all = !size || (!domain->driver->ril && size >= max);

    if (!domain->users->len || !domain->driver->s2) {
        return;
    }
    if (all) {
        batch_add(&batch, OP_TLBI_S12_VMALL | FIELD(domain->vmid, 32), 0);
    } else {
        add_ipa_range(&batch, domain, iova, size);
    }
    /* Cached stage-1 entries of a guest may contain the old stage 2. */
    if (domain->nest_parent && !all) {
        batch_submit(&batch);
        batch_add(&batch, OP_TLBI_NH_ALL | FIELD(domain->vmid, 32), 0);
    }
    batch_submit(&batch);
    for (unsigned i = 0; i < domain->users->len; i++) {
        HmDomainUser *user = &g_array_index(domain->users, HmDomainUser, i);

        if (!user->ats) {
            continue;
        }
        if (domain->nest_parent) {
            add_atc_inv(&batch, user->master, HM_RID, 0, ATC1_SIZE_ALL);
        } else {
            add_atc_range(&batch, user, iova, size);
        }
    }
    batch_submit(&batch);
}

/*
 * STEs
 */

static void make_abort_ste(uint64_t *ste)
{
    memset(ste, 0, 64);
    ste[0] = STE0_V | FIELD(CONFIG_ABORT, 1);
}

static void make_s2_ste(uint64_t *ste, HmDomain *domain, bool ats)
{
    const HmDriver *driver = domain->driver;

    memset(ste, 0, 64);
    ste[0] = STE0_V | FIELD(CONFIG_S2_TRANS, 1);
    ste[1] = (ats ? STE1_EATS_TRANS : 0) |
             (domain->s2fwb ? STE1_S2FWB : 0) |
             (driver->attr_types_ovr ? STE1_SHCFG_INCOMING : 0);
    ste[2] = domain->vmid | FIELD(domain->vtcr, 32) | STE2_S2AA64 | STE2_S2PTW |
             (driver->stall_force ? STE2_S2S : 0) | STE2_S2R;
    ste[3] = (uintptr_t)&domain->s2;
}

static void make_nested_ste(uint64_t *ste, HmDomain *nested, bool ats)
{
    unsigned config = nested->ste[0] & STE0_V ? ste_config(nested->ste)
                                              : CONFIG_ABORT;

    switch (config) {
    case CONFIG_S1_TRANS:
        make_s2_ste(ste, nested->viommu->s2_parent, ats);
        ste[0] = STE0_V | FIELD(CONFIG_NESTED, 1) |
                 (nested->ste[0] & ~STE0_CONFIG);
        /* Merge the events of a guest that faults all the time. */
        ste[1] |= nested->ste[1] | STE1_MEV;
        break;
    case CONFIG_BYPASS:
        make_s2_ste(ste, nested->viommu->s2_parent, ats);
        break;
    default:
        make_abort_ste(ste);
        break;
    }
}

/*
 * The fields of an STE that hardware reads, of those that Linux writes.  A row
 * counts if Config has a bit of @config.  With @s1dss, S1DSS must be bypass
 * too.
 */
static const struct {
    unsigned config;
    bool s1dss;
    uint64_t words[4];
} ste_reads[] = {
    { CONFIG_S1, false,
      { STE0_S1FMT | STE0_S1CTXPTR | STE0_S1CDMAX,
        STE1_S1DSS | STE1_S1CIR | STE1_S1COR | STE1_S1CSH | STE1_S1STALLD |
        STE1_STRW,
        STE2_S2VMID } },
    { CONFIG_S1, true, { 0, STE1_SHCFG } },
    { CONFIG_S2, false,
      { 0, STE1_S2FWB | STE1_SHCFG,
        STE2_S2VMID | STE2_VTCR | STE2_S2AA64 | STE2_S2ENDI | STE2_S2PTW |
        STE2_S2S | STE2_S2R,
        STE3_S2TTB } },
    { CONFIG_S1 | CONFIG_S2, false, { 0, STE1_EATS | STE1_MEV } },
};

static void ste_used(const uint64_t *ste, uint64_t *used)
{
    bool s1dss = (ste[1] & STE1_S1DSS) == STE1_S1DSS_BYPASS;
    unsigned config = ste_config(ste);

    memset(used, 0, 64);
    used[0] = STE0_V;
    if (!(ste[0] & STE0_V)) {
        return;
    }
    used[0] |= STE0_CONFIG;
    used[1] = config == CONFIG_BYPASS ? STE1_SHCFG : 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(ste_reads); i++) {
        if ((config & ste_reads[i].config) && (s1dss || !ste_reads[i].s1dss)) {
            for (unsigned w = 0; w < G_N_ELEMENTS(ste_reads[i].words); w++) {
                used[w] |= ste_reads[i].words[w];
            }
        }
    }
}

/* Used bits that may change while hardware reads them: mostly EATS and MEV */
static void ste_safe(const uint64_t *ste, const uint64_t *target,
                     uint64_t *safe)
{
    memset(safe, 0, 64);
    if (!((ste[1] | target[1]) & STE1_EATS_S1CHK) &&
        !((ste[2] | target[2]) & STE2_S2S)) {
        safe[1] |= STE1_EATS_TRANS;
    }
    safe[1] |= STE1_MEV;
}

/*
 * Hardware may read the STE now.  Before the CFGI_STE it may still use the old
 * one, so that is no stale hit.
 */
static void ste_step(HmMaster *master, bool synced)
{
    uint64_t *stale = hm_counter("smmu.stale");
    uint64_t before = *stale;

    if (master->dev->ops && master->dev->ops->ste_step) {
        master->dev->ops->ste_step(master->dev);
    }
    if (!synced) {
        *stale = before;
    }
}

static void ste_set(HmMaster *master, uint64_t *ste, const uint64_t *target,
                    unsigned first, unsigned n)
{
    bool changed = false;

    for (unsigned i = first; i < first + n; i++) {
        if (ste[i] != target[i]) {
            __atomic_store_n(&ste[i], target[i], __ATOMIC_RELEASE);
            changed = true;
            ste_step(master, false);
        }
    }
    if (changed) {
        issue(master->driver, OP_CFGI_STE | FIELD(master->dev->sid, 32),
              CFGI1_LEAF);
        ste_step(master, true);
    }
}

/*
 * Change the STE to @target in steps of 64 bits.  Bits that hardware does not
 * read are set first.  If one word holds all remaining differences, that word
 * is set, and the STE is valid at every moment.  Otherwise the STE goes through
 * V=0.
 */
static void write_ste(HmMaster *master, const uint64_t *target)
{
    uint64_t *ste = hm_smmu_ste(master->driver->smmu, master->dev->sid);
    uint64_t used[8], target_used[8], safe[8], first[8];
    uint64_t prefetch[2] = { OP_PREFETCH_CFG | FIELD(master->dev->sid, 32) };
    unsigned differ = 0, word = 0;

    ste_used(ste, used);
    ste_used(target, target_used);
    ste_safe(ste, target, safe);
    for (unsigned i = 0; i < 8; i++) {
        if (target[i] & ~target_used[i]) {
            hm_bug("word %u of an STE has bits that are not used", i);
        }
        used[i] &= ~(safe[i] & target_used[i] & used[i]);
        first[i] = (ste[i] & used[i]) | (target[i] & ~used[i]);
        if ((first[i] & target_used[i]) != target[i]) {
            differ++;
            word = i;
        }
    }

    if (differ == 1) {
        HM_COUNT("driver.ste.gapless");
        first[word] = ste[word];
        ste_set(master, ste, first, 0, 8);
        ste_set(master, ste, target, word, 1);
        ste_set(master, ste, target, 0, 8);
    } else if (differ) {
        HM_COUNT("driver.ste.gap");
        first[0] = 0;
        ste_set(master, ste, first, 0, 1);
        ste_set(master, ste, target, 1, 7);
        ste_set(master, ste, target, 0, 1);
    } else {
        ste_set(master, ste, target, 0, 8);
    }
    hm_smmu_command(master->driver->smmu, prefetch);
}

/*
 * Attachments
 */

typedef struct HmAttach {
    HmMaster *master;
    HmDomain *domain;
    HmDomain *old;
    uint32_t ssid;
    bool disable_ats;
    bool cd_needs_ats;
    bool ats;
    HmViommu *viommu;
    uint64_t vsid;
} HmAttach;

/* The domain that owns the TLB entries, or NULL if there can be none */
static HmDomain *tlb_domain(HmDomain *domain)
{
    switch (domain ? domain->type : HM_DOMAIN_BLOCKED) {
    case HM_DOMAIN_PAGING:
        return domain;
    case HM_DOMAIN_NESTED:
        return domain->viommu->s2_parent;
    default:
        return NULL;
    }
}

static int find_vsid(HmAttach *attach)
{
    unsigned config = ste_config(attach->domain->ste);
    GHashTableIter iter;
    HmVdevice *vdev;

    g_hash_table_iter_init(&iter, attach->domain->viommu->vdevs);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&vdev)) {
        if (vdev->idev->dev == attach->master->dev) {
            attach->viommu = attach->domain->viommu;
            attach->vsid = vdev->virt_id;
            return 0;
        }
    }
    /* Only an STE that translates raises events and has CDs. */
    return config == CONFIG_ABORT || config == CONFIG_BYPASS ? 0 : -ENOENT;
}

static int add_user(HmAttach *attach, HmDomain *tlb)
{
    HmMaster *master = attach->master;
    HmDomainUser user = { master, attach->domain, attach->ssid, attach->ats };
    int ret;

    if (attach->domain->type == HM_DOMAIN_NESTED) {
        ret = find_vsid(attach);
        if (ret) {
            return ret;
        }
    }
    if (tlb->enforce_cc && !master->driver->canwbs) {
        return -EINVAL;
    }
    g_array_append_val(tlb->users, user);
    return 0;
}

/* The device's ATS goes off before its STE changes: attach_commit() flushes. */
static int attach_prepare(HmAttach *attach)
{
    HmDomain *tlb = tlb_domain(attach->domain);
    HmMaster *master = attach->master;
    int ret;

    attach->ats = (tlb || attach->cd_needs_ats) && !attach->disable_ats &&
                  hm_driver_ats_supported(master->dev);
    ret = tlb ? add_user(attach, tlb) : 0;
    if (!ret && !attach->ats && master->ats_enabled) {
        hm_pci_set_ats(master->dev, false);
    }
    return ret;
}

static void remove_user(HmAttach *attach)
{
    HmDomain *tlb = tlb_domain(attach->old);

    if (!tlb) {
        return;
    }
    for (unsigned i = 0; i < tlb->users->len; i++) {
        HmDomainUser *user = &g_array_index(tlb->users, HmDomainUser, i);

        if (user->master == attach->master && user->domain == attach->old &&
            user->ssid == attach->ssid) {
            g_array_remove_index(tlb->users, i);
            break;
        }
    }
    /* From now on no unmap invalidates entries of this VMID. */
    if (!tlb->users->len && tlb->driver->s2) {
        issue(tlb->driver, OP_TLBI_S12_VMALL | FIELD(tlb->vmid, 32), 0);
    }
}

static void attach_commit(HmAttach *attach)
{
    HmMaster *master = attach->master;

    master->viommu = attach->viommu;
    master->vsid = attach->vsid;
    if (attach->ats && master->ats_enabled) {
        atc_inv_all(master, attach->ssid);
    } else if (attach->ats || master->ats_enabled) {
        atc_inv_all(master, HM_RID);
    }
    if (attach->ats && !master->ats_enabled) {
        hm_pci_set_ats(master->dev, true);
    }
    remove_user(attach);
    master->ats_enabled = attach->ats;
}

static int attach_paging(HmAttach *attach)
{
    HmMaster *master = attach->master;
    HmDomain *domain = attach->domain;
    uint64_t ste[8];
    int ret;

    if (domain->driver != master->driver) {
        return -EINVAL;
    }
    if (!domain->stage1 && g_hash_table_size(master->ssids)) {
        return -EBUSY;
    }
    ret = attach_prepare(attach);
    if (ret) {
        return ret;
    }
    /* Linux maps the doorbell for interrupts that the device has or gets. */
    domain->msi_page = domain != master->group->default_domain;
    if (domain->driver->s2) {
        make_s2_ste(ste, domain, attach->ats);
    } else {
        make_abort_ste(ste);
    }
    master->cd_table_in_ste = domain->stage1;
    write_ste(master, ste);
    attach_commit(attach);
    return 0;
}

static int attach_nested(HmAttach *attach)
{
    HmMaster *master = attach->master;
    HmDomain *domain = attach->domain;
    uint64_t ste[8];
    int ret;

    if (domain->viommu->driver != master->driver) {
        return -EINVAL;
    }
    if (g_hash_table_size(master->ssids)) {
        return -EBUSY;
    }
    /* The guest sends ATC_INVs itself, but only if it set EATS. */
    if (ste_config(domain->ste) == CONFIG_S1_TRANS) {
        attach->disable_ats = !domain->enable_ats;
    }
    ret = attach_prepare(attach);
    if (ret) {
        return ret;
    }
    domain->viommu->s2_parent->msi_page = true;
    make_nested_ste(ste, domain, attach->ats);
    master->cd_table_in_ste = false;
    write_ste(master, ste);
    attach_commit(attach);
    return 0;
}

static int attach_blocked(HmAttach *attach)
{
    HmMaster *master = attach->master;
    uint64_t ste[8];

    master->viommu = NULL;
    /* A PASID may use ATS. */
    attach->cd_needs_ats = g_hash_table_size(master->ssids);
    attach_prepare(attach);
    make_abort_ste(ste);
    /* The CDs of PASIDs need a CD table that stays. */
    master->cd_table_in_ste = g_hash_table_size(master->ssids);
    write_ste(master, ste);
    attach_commit(attach);
    return 0;
}

static int attach_dev(HmMaster *master, HmDomain *domain, HmDomain *old)
{
    HmAttach attach = {
        .master = master,
        .domain = domain,
        .old = old,
        .ssid = HM_RID,
    };

    switch (domain->type) {
    case HM_DOMAIN_PAGING:
        return attach_paging(&attach);
    case HM_DOMAIN_NESTED:
        return attach_nested(&attach);
    default:
        return attach_blocked(&attach);
    }
}

/* The domain that the device is attached to, as the driver sees it */
static HmDomain *driver_domain(HmMaster *master)
{
    return master->blocked ? &blocked_domain : master->group->domain;
}

/* @domain NULL detaches. */
static int set_pasid(HmMaster *master, uint32_t pasid, HmDomain *domain,
                     HmDomain *old)
{
    HmAttach attach = {
        .master = master,
        .domain = domain,
        .old = old,
        .ssid = pasid,
    };
    void *key = (void *)(uintptr_t)pasid;
    int ret;

    if (!domain) {
        g_hash_table_remove(master->ssids, key);
        if (master->ats_enabled) {
            atc_inv_all(master, pasid);
        }
        remove_user(&attach);
        if (!g_hash_table_size(master->ssids) &&
            driver_domain(master) == &blocked_domain) {
            attach_dev(master, &blocked_domain, &blocked_domain);
        }
        return 0;
    }
    if (domain->driver != master->driver || !domain->stage1 ||
        (!master->cd_table_in_ste &&
         driver_domain(master)->type != HM_DOMAIN_BLOCKED)) {
        return -EINVAL;
    }
    if (pasid >> master->ssid_bits) {
        return -ENOMEM;
    }
    ret = attach_prepare(&attach);
    if (ret) {
        return ret;
    }
    g_hash_table_add(master->ssids, key);
    master->cd_table_in_ste = true;
    attach_commit(&attach);
    return 0;
}

/*
 * iommu.c
 */

/*
 * Attach all devices of @group.  While one of them is being reset this is
 * refused, unless it @must succeed.  The device that is being reset stays
 * parked: hm_iommufd_reset_done() attaches it.
 */
static int group_set_domain(HmGroup *group, HmDomain *domain, bool must)
{
    int ret, result = 0;

    if (group->domain == domain) {
        return 0;
    }
    if (group->recovering && !must) {
        HM_COUNT("group.busy");
        return -EBUSY;
    }
    for (unsigned i = 0; i < group->masters->len; i++) {
        HmMaster *master = group->masters->pdata[i];

        if (master->blocked) {
            continue;
        }
        ret = attach_dev(master, domain, group->domain);
        if (ret && !must) {
            while (i--) {
                attach_dev(group->masters->pdata[i], group->domain, domain);
            }
            return ret;
        }
        if (ret) {
            attach_dev(master, &blocked_domain, group->domain);
            result = ret;
        }
    }
    group->domain = domain;
    return result;
}

/* This cannot fail. */
static void group_set_core_domain(HmGroup *group)
{
    group_set_domain(group, group->owner ? &blocked_domain
                                         : group->default_domain, true);
}

int hm_group_claim(HmDevice *dev, HmCtx *owner)
{
    HmGroup *group = group_of(dev);
    int ret = 0;

    if (group->owner_count) {
        if (group->owner != owner) {
            return -EPERM;
        }
    } else {
        if (group->domain != group->default_domain ||
            g_hash_table_size(group->pasids)) {
            return -EBUSY;
        }
        ret = group_set_domain(group, &blocked_domain, false);
    }
    if (!ret) {
        group->owner = owner;
        group->owner_count++;
    }
    return ret;
}

void hm_group_release(HmDevice *dev)
{
    HmGroup *group = group_of(dev);

    if (!--group->owner_count) {
        group->owner = NULL;
        group_set_core_domain(group);
    }
}

HmDevice *hm_group_member(HmDevice *dev, unsigned n)
{
    HmGroup *group = group_of(dev);

    return n < group->masters->len
           ? ((HmMaster *)group->masters->pdata[n])->dev : NULL;
}

int hm_group_attach(HmDevice *dev, HmDomain *domain)
{
    HmGroup *group = group_of(dev);

    if (group->domain != group->default_domain &&
        group->domain != &blocked_domain) {
        return -EBUSY;
    }
    return group_set_domain(group, domain, false);
}

int hm_group_replace(HmDevice *dev, HmDomain *domain)
{
    return group_set_domain(group_of(dev), domain, false);
}

void hm_group_detach(HmDevice *dev)
{
    group_set_core_domain(group_of(dev));
}

int hm_group_attach_pasid(HmDevice *dev, uint32_t pasid, HmDomain *domain)
{
    HmMaster *master = master_of(dev);
    uint32_t max = hm_driver_max_pasids(dev);
    void *key = (void *)(uintptr_t)pasid;
    int ret = 0;

    if (domain->type != HM_DOMAIN_PAGING) {
        return -EOPNOTSUPP;
    }
    if (master->group->recovering) {
        return -EBUSY;
    }
    if (max && pasid >= max) {
        return -EINVAL;
    }
    if (g_hash_table_contains(master->group->pasids, key)) {
        return -EBUSY;
    }
    if (max) {
        ret = set_pasid(master, pasid, domain, NULL);
    }
    if (!ret) {
        g_hash_table_insert(master->group->pasids, key, domain);
    }
    return ret;
}

int hm_group_replace_pasid(HmDevice *dev, uint32_t pasid, HmDomain *domain)
{
    HmMaster *master = master_of(dev);
    void *key = (void *)(uintptr_t)pasid;
    HmDomain *old = g_hash_table_lookup(master->group->pasids, key);
    int ret = 0;

    if (domain->type != HM_DOMAIN_PAGING) {
        return -EOPNOTSUPP;
    }
    if (master->group->recovering) {
        return -EBUSY;
    }
    if (!old) {
        return -EINVAL;
    }
    if (old != domain && hm_driver_max_pasids(dev)) {
        ret = set_pasid(master, pasid, domain, old);
    }
    if (!ret) {
        g_hash_table_insert(master->group->pasids, key, domain);
    }
    return ret;
}

void hm_group_detach_pasid(HmDevice *dev, uint32_t pasid)
{
    HmMaster *master = master_of(dev);
    void *key = (void *)(uintptr_t)pasid;
    HmDomain *domain = g_hash_table_lookup(master->group->pasids, key);

    if (domain && !master->blocked && hm_driver_max_pasids(dev)) {
        set_pasid(master, pasid, NULL, domain);
    }
    g_hash_table_remove(master->group->pasids, key);
}

bool hm_iommufd_has_msi(HmDevice *dev)
{
    return group_of(dev)->domain != &blocked_domain;
}

/* Only devices with ATS are parked while they are reset. */
void hm_iommufd_reset_prepare(HmDevice *dev)
{
    HmMaster *master = master_of(dev);
    HmGroup *group = master->group;
    GHashTableIter iter;
    void *pasid, *domain;

    if (!dev->ats || master->reset_depth++) {
        return;
    }
    if (group->domain != &blocked_domain) {
        attach_dev(master, &blocked_domain, group->domain);
    }
    master->blocked = true;
    group->recovering++;
    g_hash_table_iter_init(&iter, group->pasids);
    while (g_hash_table_iter_next(&iter, &pasid, &domain)) {
        set_pasid(master, (uintptr_t)pasid, NULL, domain);
    }
}

void hm_iommufd_reset_done(HmDevice *dev)
{
    HmMaster *master = master_of(dev);
    HmGroup *group = master->group;
    GHashTableIter iter;
    void *pasid, *domain;

    if (!dev->ats) {
        return;
    }
    if (!master->reset_depth) {
        hm_bug("%s: a reset ends that did not begin", dev->name);
    }
    if (--master->reset_depth) {
        return;
    }
    /* The domain that the group has, even if it is an old one to its user */
    if (group->domain != &blocked_domain &&
        attach_dev(master, group->domain, &blocked_domain)) {
        /* Linux only warns, so the device stays where it is. */
        HM_COUNT("driver.reset.lost");
        hm_log("%s: not attached again after its reset", dev->name);
    }
    master->blocked = false;
    group->recovering--;
    g_hash_table_iter_init(&iter, group->pasids);
    while (g_hash_table_iter_next(&iter, &pasid, &domain)) {
        set_pasid(master, (uintptr_t)pasid, domain, NULL);
    }
}

/*
 * Capabilities
 */

HmDriver *hm_driver_of(HmDevice *dev)
{
    return master_of(dev)->driver;
}

HmSmmu *hm_driver_smmu(HmDriver *driver)
{
    return driver->smmu;
}

bool hm_driver_coherent(HmDevice *dev)
{
    return hm_driver_of(dev)->coherent;
}

bool hm_driver_canwbs(HmDevice *dev)
{
    return hm_driver_of(dev)->canwbs;
}

bool hm_driver_dirty_capable(HmDevice *dev)
{
    return hm_driver_of(dev)->hd && hm_driver_of(dev)->coherent;
}

bool hm_driver_ats_supported(HmDevice *dev)
{
    return dev->ats && dev->rc_ats && hm_driver_of(dev)->ats;
}

uint32_t hm_driver_max_pasids(HmDevice *dev)
{
    return dev->pasid_bits ? 1u << MIN(dev->pasid_bits,
                                       hm_driver_of(dev)->ssid_bits) : 0;
}

/*
 * The bits of IDR0 to IDR5 that linux/iommufd.h lets one read.  Linux reports
 * the others too, as they are today.
 */
static const uint32_t listed[6] = {
    /* ST_LEVEL, TERM_MODEL, STALL_MODEL, TTENDIAN, CD2L, ASID16, TTF */
    3u << 27 | 1u << 26 | 3u << 24 | 3u << 21 | 1u << 19 | 1u << 12 | 3u << 2,
    /* SIDSIZE, SSIDSIZE */
    0x3f | 0x1fu << 6,
    0,
    /* BBML, RIL */
    3u << 11 | 1u << 10,
    0,
    /* VAX, GRAN64K, GRAN16K, GRAN4K, DS */
    3u << 10 | 1u << 6 | 1u << 5 | 1u << 4 | 1u << 7,
};

int hm_driver_hw_info(HmDevice *dev, uint32_t *type, HmHwInfo *any,
                      uint32_t *len)
{
    const HmSmmuConfig *config = hm_smmu_config(hm_driver_of(dev)->smmu);
    struct iommu_hw_info_arm_smmuv3 *info = &any->smmuv3;

    if (config->no_hw_info || config->vtd) {
        *len = 0;
        *type = config->vtd ? IOMMU_HW_INFO_TYPE_INTEL_VTD :
                              IOMMU_HW_INFO_TYPE_NONE;
        return 0;
    }
    if (*type == IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV) {
        *len = sizeof(any->cmdqv);
        return hm_cmdqv_hw_info(dev, &any->cmdqv);
    }
    if (*type != IOMMU_HW_INFO_TYPE_DEFAULT &&
        *type != IOMMU_HW_INFO_TYPE_ARM_SMMUV3) {
        return -EOPNOTSUPP;
    }
    memset(info, 0, sizeof(*info));
    info->flags = config->hw_info_flags;
    if (repeat_tlbi_cfgi) {
        info->flags |= IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(info->idr); i++) {
        info->idr[i] = config->idr[i] ^ (config->unlisted & ~listed[i]);
    }
    info->iidr = config->iidr ^ config->unlisted;
    info->aidr = config->aidr ^ config->unlisted;
    *type = IOMMU_HW_INFO_TYPE_ARM_SMMUV3;
    *len = sizeof(*info);
    return 0;
}

/*
 * Domains
 */

/* The lowest or the highest free one, but never 0 */
static int alloc_vmid(HmDriver *driver, bool highest)
{
    int last = (1 << driver->vmid_bits) - 1;

    for (int i = 1; i <= last; i++) {
        int vmid = highest ? last + 1 - i : i;

        if (!driver->vmid_used[vmid]) {
            driver->vmid_used[vmid] = true;
            return vmid;
        }
    }
    return -ENOSPC;
}

static int alloc_asid(HmDriver *driver)
{
    for (int asid = 1; asid < 1 << driver->asid_bits; asid++) {
        if (!asid_used[asid]) {
            asid_used[asid] = true;
            return asid;
        }
    }
    return -EBUSY;
}

/* Address bits: at most 48 with granules of 4 and 16 KiB */
static unsigned limit_bits(const HmDriver *driver, unsigned bits)
{
    return driver->page_size == 64 << 10 ? bits : MIN(bits, 48);
}

/* STE.VTCR (5.2) for @ias input bits, with tables laid out as in Linux */
static uint64_t make_vtcr(const HmDriver *driver, unsigned ias)
{
    static const unsigned sizes[] = { 32, 36, 40, 42, 44, 48, 52 };
    unsigned shift = __builtin_ctzll(driver->page_size);
    unsigned oas = limit_bits(driver, driver->oas), ps = 0, sl, tg;
    int start = 4 - (int)(ias - shift + shift - 4) / (int)(shift - 3);

    while (sizes[ps] < oas) {
        ps++;
    }
    /* The architecture demands concatenated tables here. */
    switch (shift) {
    case 12:
        tg = 0;
        start += start == 0 && (oas == 40 || oas == 42);
        sl = start + 1;
        break;
    case 14:
        tg = 2;
        start += (start == 0 && (oas == 48 || ias == 48)) ||
                 (start == 1 && oas == 40);
        sl = start;
        break;
    default:
        tg = 1;
        sl = start;
        break;
    }
    /* S2SH0 inner shareable, S2IR0 and S2OR0 write-back, write-allocate */
    return (64 - ias) | FIELD(~sl & 3, 6) |
           (driver->coherent ? FIELD(1, 8) | FIELD(1, 10) | FIELD(3, 12)
                             : FIELD(2, 12)) |
           FIELD(tg, 14) | FIELD(ps, 16);
}

static HmDomain *domain_new(HmDomainType type)
{
    HmDomain *domain = g_new0(HmDomain, 1);

    if ((uintptr_t)&domain->s2 & 15) {
        hm_bug("an HmS2 is not aligned");
    }
    domain->type = type;
    return domain;
}

void hm_domain_free(HmDomain *domain)
{
    if (domain->type == HM_DOMAIN_PAGING) {
        if (domain->users->len) {
            hm_bug("a domain is freed in use");
        }
        domain->driver->vmid_used[domain->vmid] = false;
        asid_used[domain->asid] = false;
        g_array_free(domain->users, true);
        g_clear_pointer(&domain->dirty, g_hash_table_destroy);
    }
    g_free(domain);
}

static int alloc_paging(HmDriver *driver, bool stage1, bool nest_parent,
                        bool dirty, HmDomain **out)
{
    unsigned ias = stage1 ? driver->vax ? 52 : 48 : driver->oas;
    HmDomain *domain;
    int asid = 0, vmid;

    if (dirty && !stage1) {
        return -EOPNOTSUPP;
    }
    if (!driver->page_size) {
        return -ENOMEM;
    }
    /* The host's Linux has 48 VA_BITS. */
    ias = limit_bits(driver, stage1 ? MIN(ias, 48) : ias);
    if (stage1) {
        asid = alloc_asid(driver);
        if (asid < 0) {
            return asid;
        }
    }
    vmid = alloc_vmid(driver, stage1);
    if (vmid < 0) {
        asid_used[asid] = false;
        return vmid;
    }
    domain = domain_new(HM_DOMAIN_PAGING);
    domain->s2.lookup = hm_ioas_lookup;
    domain->driver = driver;
    domain->stage1 = stage1;
    domain->nest_parent = nest_parent;
    domain->s2fwb = nest_parent && driver->s2fwb;
    if (dirty) {
        domain->s2.dirty = hm_ioas_dirty;
        domain->dirty = g_hash_table_new(NULL, NULL);
    }
    domain->asid = asid;
    domain->vmid = vmid;
    domain->page_size = driver->page_size;
    domain->aperture_last = (1ull << ias) - 1;
    domain->vtcr = make_vtcr(driver, MIN(ias, limit_bits(driver, driver->oas)));
    domain->users = g_array_new(false, false, sizeof(HmDomainUser));
    *out = domain;
    return 0;
}

int hm_domain_alloc_paging(HmDevice *dev, uint32_t flags, bool data,
                           HmDomain **domain)
{
    HmDriver *driver = hm_driver_of(dev);
    bool dirty = flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING;

    if (data) {
        return -EOPNOTSUPP;
    }
    switch (flags) {
    case 0:
        return alloc_paging(driver, driver->s1, false, false, domain);
    case IOMMU_HWPT_ALLOC_NEST_PARENT:
        if (!driver->nesting) {
            return -EOPNOTSUPP;
        }
        return alloc_paging(driver, false, true, false, domain);
    case IOMMU_HWPT_ALLOC_DIRTY_TRACKING:
    case IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_ALLOC_PASID:
    case IOMMU_HWPT_ALLOC_PASID:
        if (!driver->s1) {
            return -EOPNOTSUPP;
        }
        return alloc_paging(driver, true, false, dirty, domain);
    default:
        return -EOPNOTSUPP;
    }
}

/*
 * Rules for what a guest writes: its STEs and its commands
 */

/* Conditions of a rule: features of the SMMU, and fields of the command */
enum {
    IF_RIL = 1,
    IF_ATS = 2,
    IF_SSIDS = 4,
    IF_ASID16 = 8,
    IF_DS = 16,
    IF_NO_DS = 32,
    IF_RANGE = 64,                      /* NUM or SCALE is not 0 */
    IF_NO_RANGE = 128,
};

/*
 * A field that Linux accepts.  If two rules name the same field, both must
 * allow its value.
 */
typedef struct Rule {
    uint8_t first, last;                /* opcodes that have it; STE: 0 */
    unsigned conditions;                /* all must hold */
    unsigned word;
    uint64_t mask;
    uint64_t values;                    /* the set of them; 0: any value */
} Rule;

#define VALUE(n)        (1ull << (n))
#define VALUES(max)     MASK(max, 0)

/* Whether there are rules for @op, and they allow all bits of @words */
static bool rules_allow(const Rule *rules, unsigned n, unsigned op,
                        unsigned conditions, const uint64_t words[2])
{
    uint64_t rest[2] = { words[0], words[1] };
    bool known = false;

    for (const Rule *r = rules; r < rules + n; r++) {
        uint64_t value = words[r->word] & r->mask;

        if (op < r->first || op > r->last || (r->conditions & ~conditions)) {
            continue;
        }
        if (r->values &&
            !(r->values >> (value >> __builtin_ctzll(r->mask)) & 1)) {
            return false;
        }
        known = true;
        rest[r->word] &= ~r->mask;
    }
    return known && !rest[0] && !rest[1];
}

static const Rule ste_rules[] = {
    { .word = 0, .mask = STE0_V },
    { .word = 0, .mask = STE0_CONFIG,
      .values = VALUE(CONFIG_ABORT) | VALUE(CONFIG_BYPASS) |
                VALUE(CONFIG_S1_TRANS) },
    { .word = 0, .mask = STE0_S1FMT | STE0_S1CTXPTR | STE0_S1CDMAX },
    { .word = 1, .mask = STE1_S1DSS | STE1_S1CIR | STE1_S1COR | STE1_S1CSH |
                         STE1_S1STALLD },
    { .word = 1, .mask = STE1_EATS,
      .values = VALUE(EATS_NONE) | VALUE(EATS_TRANS) },
};

/* What remains in @ste may go to the physical STE.  EATS never does. */
static int validate_ste(uint64_t *ste, bool *enable_ats)
{
    if (!(ste[0] & STE0_V)) {
        ste[0] = ste[1] = 0;
        return 0;
    }
    if (!rules_allow(ste_rules, G_N_ELEMENTS(ste_rules), 0, 0, ste)) {
        return -EIO;
    }
    *enable_ats = ste_config(ste) == CONFIG_S1_TRANS && (ste[1] & STE1_EATS);
    ste[1] &= ~STE1_EATS;
    return 0;
}

int hm_domain_alloc_nested(HmViommu *viommu, uint32_t flags, uint32_t type,
                           uint64_t data, uint32_t len, HmDomain **out)
{
    struct iommu_hwpt_arm_smmuv3 arg;
    uint64_t ste[2];
    bool enable_ats = false;
    HmDomain *domain;
    int ret;

    if (flags) {
        return -EOPNOTSUPP;
    }
    if (type != IOMMU_HWPT_DATA_ARM_SMMUV3 || len != sizeof(arg)) {
        return -EINVAL;
    }
    if (hm_copy_from_user(&arg, data, sizeof(arg))) {
        return -EFAULT;
    }
    ste[0] = GUINT64_FROM_LE(arg.ste[0]);
    ste[1] = GUINT64_FROM_LE(arg.ste[1]);
    ret = validate_ste(ste, &enable_ats);
    if (ret) {
        return ret;
    }
    domain = domain_new(HM_DOMAIN_NESTED);
    domain->viommu = viommu;
    domain->enable_ats = enable_ats;
    memcpy(domain->ste, ste, sizeof(ste));
    *out = domain;
    return 0;
}

/*
 * vIOMMUs
 */

bool hm_driver_viommu_type(HmDevice *dev, uint32_t type)
{
    const HmDriver *driver = hm_driver_of(dev);

    /* A guest must not bypass the CPUs' caches. */
    return driver->nesting && (driver->canwbs || driver->s2fwb) &&
           (type == IOMMU_VIOMMU_TYPE_ARM_SMMUV3 ||
            (type == IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV &&
             hm_smmu_config(driver->smmu)->cmdqv));
}

int hm_driver_viommu_init(HmViommu *viommu, HmDevice *dev, uint64_t data,
                          uint32_t len)
{
    HmDomain *parent = viommu->hwpt->domain;

    viommu->driver = hm_driver_of(dev);
    if (parent->driver != viommu->driver) {
        return -EINVAL;
    }
    viommu->s2_parent = parent;
    viommu->vmid = parent->vmid;
    return viommu->type == IOMMU_VIOMMU_TYPE_ARM_SMMUV3 ? 0 :
           hm_cmdqv_viommu_init(viommu, viommu->driver->smmu, data, len);
}

int hm_driver_vdevice_init(HmVdevice *vdev)
{
    if (vdev->viommu->cmdqv) {
        return hm_cmdqv_vdevice_init(vdev);
    }
    /* A virtual StreamID maps to one StreamID. */
    return vdev->idev->dev->n_sids > 1 ? -EOPNOTSUPP : 0;
}

/* Sets of values of TG and TTL, taken as one field */
#define TG_TTL(tg, ttl) VALUE((tg) << 2 | (ttl))
#define TG_0            (TG_TTL(0, 0) | TG_TTL(0, 1) | TG_TTL(0, 2) | \
                         TG_TTL(0, 3))
#define TTL_0           (TG_TTL(0, 0) | TG_TTL(1, 0) | TG_TTL(2, 0) | \
                         TG_TTL(3, 0))

/* What a guest may send: opcodes, conditions, word, mask, values */
static const Rule command_rules[] = {
    { OP_TLBI_NSNH_ALL, OP_TLBI_NSNH_ALL },
    { OP_TLBI_NH_ALL, OP_TLBI_NH_VAA, 0, 0, TLBI0_VMID },
    { OP_TLBI_NH_ASID, OP_TLBI_NH_VA, 0, 0, TLBI0_ASID8 },
    { OP_TLBI_NH_ASID, OP_TLBI_NH_VA, IF_ASID16, 0, TLBI0_ASID },
    { OP_TLBI_NH_VA, OP_TLBI_NH_VAA, 0, 1, TLBI1_LEAF | TLBI1_ADDR },
    { OP_TLBI_NH_VA, OP_TLBI_NH_VAA, IF_RIL, 0, TLBI0_NUM | TLBI0_SCALE },
    { OP_TLBI_NH_VA, OP_TLBI_NH_VAA, IF_RIL | IF_DS, 0, TLBI0_SCALE_TOP },
    /* The combinations that are not reserved (4.4.1.1) */
    { OP_TLBI_NH_VA, OP_TLBI_NH_VAA, IF_RIL | IF_RANGE, 1, TLBI1_TG_TTL,
      ~TG_0 },
    { OP_TLBI_NH_VA, OP_TLBI_NH_VAA, IF_RIL | IF_NO_RANGE, 1, TLBI1_TG_TTL,
      ~(TG_0 | TTL_0) | TG_TTL(0, 0) },
    { OP_TLBI_NH_VA, OP_TLBI_NH_VAA, IF_RIL | IF_NO_DS, 1, TLBI1_TG_TTL,
      ~TG_TTL(2, 1) },
    { OP_CFGI_CD, OP_CFGI_CD_ALL, 0, 0, CMD0_SID },
    { OP_CFGI_CD, OP_CFGI_CD, 0, 1, CFGI1_LEAF },
    { OP_CFGI_CD, OP_CFGI_CD, IF_SSIDS, 0, CMD0_SSID },
    { OP_ATC_INV, OP_ATC_INV, IF_ATS, 0, CMD0_SID },
    { OP_ATC_INV, OP_ATC_INV, IF_ATS, 1, ATC1_ADDR },
    { OP_ATC_INV, OP_ATC_INV, IF_ATS, 1, ATC1_SIZE, VALUES(ATC1_SIZE_ALL) },
    { OP_ATC_INV, OP_ATC_INV, IF_ATS | IF_SSIDS, 0,
      CMD0_SSV | CMD0_SSID | ATC0_GLOBAL },
};

static bool valid_command(const HmDriver *driver, const uint64_t *cmd)
{
    const uint64_t fields[2] = { cmd[0] & ~CMD0_OP, cmd[1] };
    bool range = cmd[0] & (TLBI0_NUM | TLBI0_SCALE | TLBI0_SCALE_TOP);
    unsigned conditions = (driver->ril ? IF_RIL : 0) |
                          (driver->ats ? IF_ATS : 0) |
                          (driver->ssid_bits ? IF_SSIDS : 0) |
                          (driver->asid_bits == 16 ? IF_ASID16 : 0) |
                          (driver->ds ? IF_DS : IF_NO_DS) |
                          (range ? IF_RANGE : IF_NO_RANGE);

    return rules_allow(command_rules, G_N_ELEMENTS(command_rules),
                       cmd[0] & CMD0_OP, conditions, fields);
}

/*
 * The physical queue needs other IDs in a command: the host's VMID in a TLBI,
 * the physical StreamID in all others.
 */
static int convert_command(HmViommu *viommu, uint64_t *cmd)
{
    uint64_t vsid;
    HmVdevice *vdev;
    unsigned op;

    cmd[0] = GUINT64_FROM_LE(cmd[0]);
    cmd[1] = GUINT64_FROM_LE(cmd[1]);
    if (!valid_command(viommu->driver, cmd)) {
        return -EIO;
    }
    op = cmd[0] & CMD0_OP;
    if (op >= OP_TLBI_NH_ALL && op <= OP_TLBI_NSNH_ALL) {
        /* A guest has one VMID: "all" is all entries of that VMID. */
        op = op == OP_TLBI_NSNH_ALL ? OP_TLBI_NH_ALL : op;
        cmd[0] = (cmd[0] & ~(CMD0_OP | TLBI0_VMID)) | op |
                 FIELD(viommu->vmid, 32);
        return 0;
    }
    vsid = cmd[0] >> 32;
    vdev = g_hash_table_lookup(viommu->vdevs, &vsid);
    if (!vdev) {
        return -EIO;
    }
    cmd[0] = (cmd[0] & ~CMD0_SID) | FIELD(vdev->idev->dev->sid, 32);
    return 0;
}

/*
 * Issue one chunk.  An injected failure replaces it: no command was executed,
 * which is the worst case behind an error.
 */
static int invalidate_chunk(HmDriver *driver, uint64_t (*cmds)[2], unsigned n)
{
    int err = hm_fail("smmu.sync");

    if (err) {
        return -err;
    }
    for (unsigned i = 0; i < n; i++) {
        hm_smmu_command(driver->smmu, cmds[i]);
    }
    return driver_sync(driver);
}

static int copy_commands(uint64_t (*cmds)[2], uint32_t type, uint64_t data,
                         uint32_t entry_len, uint32_t num)
{
    int ret = 0;

    if (type != IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 || !num) {
        return -EINVAL;
    }
    if (entry_len == sizeof(*cmds)) {
        return hm_copy_from_user(cmds, data, num * sizeof(*cmds));
    }
    for (uint32_t i = 0; !ret && i < num; i++) {
        ret = hm_copy_struct_from_user(cmds[i], sizeof(*cmds),
                                       data + (uint64_t)entry_len * i,
                                       entry_len);
    }
    return ret;
}

/*
 * The watched word is in the guest's memory and is read through a device of the
 * guest.  It holds the number of the last command that the guest knows to be
 * done.  A command with that number or a lower one is late: it breaks that
 * promise.
 */
static HmDevice *watch_dev;
static uint64_t watch_iova;

void hm_driver_watch(HmDevice *dev, uint64_t iova)
{
    watch_dev = dev;
    watch_iova = iova;
}

static void watch_commands(uint64_t (*cmds)[2], uint32_t num)
{
    uint32_t done;

    if (!watch_dev || hm_dma(watch_dev, HM_NO_PASID, watch_iova, &done,
                             sizeof(done), false)) {
        return;
    }
    for (uint32_t i = 0; i < num; i++) {
        if ((cmds[i][0] & 0xff) == OP_TLBI_NH_VA) {
            HM_COUNT("watch.seen");
            if (le32toh(done) >= cmds[i][1] >> 12) {
                HM_COUNT("watch.late");
            }
        }
    }
}

void hm_driver_watch_command(const uint64_t cmd[2])
{
    uint64_t copy[1][2] = { { cmd[0], cmd[1] } };

    watch_commands(copy, 1);
}

int hm_driver_invalidate(HmViommu *viommu, uint32_t type, uint64_t data,
                         uint32_t entry_len, uint32_t *num)
{
    g_autofree uint64_t (*cmds)[2] = NULL;
    uint32_t cur = 0, first = 0;
    int ret;

    if (*num > KMALLOC_MAX / sizeof(*cmds)) {
        return -ENOMEM;
    }
    cmds = g_malloc0(MAX(*num, 1) * sizeof(*cmds));
    ret = copy_commands(cmds, type, data, entry_len, *num);
    if (!ret) {
        watch_commands(cmds, *num);
    }
    while (!ret && cur < *num) {
        ret = convert_command(viommu, cmds[cur]);
        if (ret) {
            break;
        }
        cur++;
        if (cur < *num && cur - first != BATCH - 1) {
            continue;
        }
        ret = invalidate_chunk(viommu->driver, cmds + first, cur - first);
        if (ret) {
            cur--;
            break;
        }
        first = cur;
    }
    *num = cur;
    return ret;
}

/*
 * Events
 */

#define EVENT0_ID           MASK(7, 0)
#define EVENT0_SID          MASK(63, 32)
#define EVENT1_STALL        (1ull << 31)
#define EVENT1_S2           (1ull << 39)

static bool event_for_guest(unsigned id)
{
    switch (id) {
    case 0x04:                          /* C_BAD_STE */
    case 0x06:                          /* F_STREAM_DISABLED */
    case 0x08:                          /* C_BAD_SUBSTREAMID */
    case 0x0a:                          /* C_BAD_CD */
    case 0x10:                          /* F_TRANSLATION */
    case 0x11:                          /* F_ADDR_SIZE */
    case 0x12:                          /* F_ACCESS */
    case 0x13:                          /* F_PERMISSION */
        return true;
    default:
        return false;
    }
}

static int handle_event(HmDriver *driver, const uint64_t *event)
{
    struct iommu_vevent_arm_smmuv3 vevent;
    HmMaster *master = NULL;

    if (!event_for_guest(event[0] & EVENT0_ID)) {
        return -EOPNOTSUPP;
    }
    for (unsigned i = 0; i < driver->masters->len; i++) {
        HmMaster *m = driver->masters->pdata[i];

        if (m->dev->sid == event[0] >> 32) {
            master = m;
        }
    }
    if (!master) {
        return -EINVAL;
    }
    /* Stalls go to fault handlers, and these need PRI or SVA. */
    if ((event[1] & (EVENT1_STALL | EVENT1_S2)) || !master->viommu) {
        return -EOPNOTSUPP;
    }
    vevent.evt[0] = GUINT64_TO_LE((event[0] & ~EVENT0_SID) |
                                  FIELD(master->vsid, 32));
    for (unsigned i = 1; i < 4; i++) {
        vevent.evt[i] = GUINT64_TO_LE(event[i]);
    }
    return hm_viommu_report_event(master->viommu,
                                  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, &vevent,
                                  sizeof(vevent));
}

static int count_event(HmDriver *driver, const uint64_t *event)
{
    int ret = handle_event(driver, event);

    if (ret) {
        HM_COUNT("event.host");
        hm_log("event 0x%02x of SID 0x%x stays with the host: %s",
               (unsigned)(event[0] & EVENT0_ID), (unsigned)(event[0] >> 32),
               strerror(-ret));
    } else {
        HM_COUNT("event.guest");
    }
    return ret;
}

static void on_event(HmSmmu *smmu, const uint64_t event[4])
{
    count_event(g_hash_table_lookup(drivers, smmu), event);
}

int hm_driver_raise_event(HmDevice *dev, const uint64_t event[4])
{
    uint64_t own[4];

    memcpy(own, event, sizeof(own));
    own[0] = (own[0] & ~EVENT0_SID) | FIELD(dev->sid, 32);
    return count_event(hm_driver_of(dev), own);
}

/*
 * Probing
 */

/* Parts (by IIDR) on which Linux does not nest */
static bool nesting_erratum(uint32_t iidr)
{
    unsigned product = iidr >> 20, variant = (iidr >> 16) & 0xf;
    unsigned revision = (iidr >> 12) & 0xf;

    if ((iidr & 0xfff) != 0x43b) {      /* Arm */
        return false;
    }
    switch (product) {
    case 0x483:                         /* MMU-600 */
        return variant < 2;
    case 0x487:                         /* MMU-700 */
        return variant < 1 || revision < 1;
    default:
        return false;
    }
}

void hm_driver_probe(HmSmmu *smmu)
{
    static const uint8_t oas[] = { 32, 36, 40, 42, 44, 48, 52, 48 };
    const HmSmmuConfig *config = hm_smmu_config(smmu);
    const uint32_t *idr = config->idr;
    HmDriver *driver;

    if (!drivers) {
        drivers = g_hash_table_new(NULL, NULL);
    }
    if (g_hash_table_contains(drivers, smmu)) {
        return;
    }
    driver = g_new0(HmDriver, 1);
    driver->smmu = smmu;
    driver->s1 = idr[0] & IDR0_S1P;
    driver->s2 = idr[0] & IDR0_S2P;
    driver->nesting = driver->s1 && driver->s2 &&
                      !nesting_erratum(config->iidr);
    /* Firmware is believed, not IDR0.COHACC. */
    driver->coherent = config->coherent;
    driver->canwbs = config->canwbs;
    driver->s2fwb = idr[3] & IDR3_FWB;
    driver->ats = idr[0] & IDR0_ATS;
    driver->cd2l = idr[0] & IDR0_CD2L;
    driver->ril = idr[3] & IDR3_RIL;
    driver->ds = idr[5] & IDR5_DS;
    driver->hd = IDR0_HTTU(idr[0]) >= 2;
    driver->stall_force = IDR0_STALL(idr[0]) == 2;
    driver->attr_types_ovr = idr[1] & IDR1_ATTR_TYPES_OVR;
    repeat_tlbi_cfgi |= config->repeat;
    driver->asid_bits = idr[0] & IDR0_ASID16 ? 16 : 8;
    driver->vmid_bits = idr[0] & IDR0_VMID16 ? 16 : 8;
    driver->ssid_bits = IDR1_SSIDSIZE(idr[1]);
    driver->oas = oas[IDR5_OAS(idr[5])];
    driver->vax = IDR5_VAX(idr[5]) == 1;
    driver->page_size = idr[5] & IDR5_GRAN4K ? 4 << 10 :
                        idr[5] & IDR5_GRAN16K ? 16 << 10 :
                        idr[5] & IDR5_GRAN64K ? 64 << 10 : 0;
    driver->vmid_used = g_new0(bool, 1 << driver->vmid_bits);
    driver->masters = g_ptr_array_new();
    g_hash_table_insert(drivers, smmu, driver);

    hm_smmu_on_event(smmu, on_event);
    issue(driver, OP_CFGI_ALL, CFGI1_RANGE_ALL);
    if (idr[0] & IDR0_HYP) {
        issue(driver, OP_TLBI_EL2_ALL, 0);
    }
    issue(driver, OP_TLBI_NSNH_ALL, 0);
}

/*
 * The group of a device.  The first one of a group brings the domain that the
 * host's own DMA API uses.  Only the devices' drivers would map anything in it,
 * and VFIO never does.
 */
static HmGroup *group_join(HmMaster *master)
{
    HmGroup *group;
    int ret;

    if (!groups) {
        groups = g_ptr_array_new();
    }
    for (unsigned i = 0; i < groups->len; i++) {
        group = groups->pdata[i];
        if (master->dev->group && !g_strcmp0(group->name, master->dev->group)) {
            g_ptr_array_add(group->masters, master);
            return group;
        }
    }
    group = g_new0(HmGroup, 1);
    group->name = master->dev->group;
    group->masters = g_ptr_array_new();
    group->pasids = g_hash_table_new(NULL, NULL);
    ret = alloc_paging(master->driver, master->driver->s1, false, false,
                       &group->default_domain);
    if (ret) {
        hm_bug("%s: no default domain: %s", master->dev->name, strerror(-ret));
    }
    group->domain = group->default_domain;
    g_ptr_array_add(group->masters, master);
    g_ptr_array_add(groups, group);
    return group;
}

void hm_driver_device_probe(HmDevice *dev)
{
    HmMaster *master;
    int ret;

    if (dev->master) {
        return;
    }
    hm_driver_probe(dev->smmu);
    master = g_new0(HmMaster, 1);
    master->dev = dev;
    master->driver = g_hash_table_lookup(drivers, dev->smmu);
    master->ssids = g_hash_table_new(NULL, NULL);
    g_ptr_array_add(master->driver->masters, master);
    dev->master = master;
    hm_pci_enable_pasid(dev);
    master->ssid_bits = MIN(dev->pasid_bits, master->driver->ssid_bits);
    if (!master->driver->cd2l) {
        master->ssid_bits = MIN(master->ssid_bits, LINEAR_CDMAX);
    }
    if (hm_driver_ats_supported(dev)) {
        hm_pci_prepare_ats(dev, __builtin_ctzll(master->driver->page_size));
    }

    make_abort_ste(hm_smmu_ste(dev->smmu, dev->sid));
    master->group = group_join(master);
    if (master->group->masters->len > 1 && dev->pasid_bits) {
        hm_bug("%s: PASIDs in a group of several are not modelled", dev->name);
    }
    ret = attach_dev(master, master->group->default_domain, NULL);
    if (ret) {
        hm_bug("%s: not attached to the default domain: %s", dev->name,
               strerror(-ret));
    }
}
