/*
 * Host model: what the parts of the physical SMMUv3 share
 *
 *   smmu.c          the path of a transaction, and its events
 *   smmu-config.c   memory; STEs and CDs, and their cache
 *   smmu-walk.c     stage 1's tables (VMSAv8-64)
 *   smmu-tlb.c      the caches of stage 1 and stage 2, and their invalidation
 *   smmu-cmdq.c     commands
 *   smmu-vcmdq.c    command queues of VMs (Tegra241 CMDQV)
 *   smmu-profile.c  hosts by name
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HOST_MODEL_SMMU_INTERNAL_H
#define HOST_MODEL_SMMU_INTERNAL_H

#include <inttypes.h>
#include "model.h"

static inline uint64_t field(uint64_t word, unsigned shift, unsigned length)
{
    return (word >> shift) & (UINT64_MAX >> (64 - length));
}

static inline uint64_t low_mask(unsigned length)
{
    return length ? UINT64_MAX >> (64 - length) : 0;
}

#define ROUND_UP_DIV(n, d)  (((n) + (d) - 1) / (d))

/* IDR0, IDR1, IDR3, IDR5 */
#define IDR0_S2P            (1u << 0)
#define IDR0_S1P            (1u << 1)
#define IDR0_TTF_AA64       (2u << 2)
#define IDR0_COHACC         (1u << 4)
#define IDR0_HTTU(n)        ((n) << 6)
#define IDR0_GET_HTTU(v)    field(v, 6, 2)
#define IDR0_HYP            (1u << 9)
#define IDR0_ATS            (1u << 10)
#define IDR0_NS1ATS         (1u << 11)
#define IDR0_ASID16         (1u << 12)
#define IDR0_MSI            (1u << 13)
#define IDR0_PRI            (1u << 16)
#define IDR0_VMID16         (1u << 18)
#define IDR0_CD2L           (1u << 19)
#define IDR0_TTENDIAN_LE    (2u << 21)
#define IDR0_NO_STALL       (1u << 24)
#define IDR0_STALL_MODEL(v) field(v, 24, 2)
#define IDR0_TERM_MODEL     (1u << 26)
#define IDR0_ST_2LVL        (1u << 27)
#define IDR1_SIDSIZE(v)     field(v, 0, 6)
#define IDR1_SSIDSIZE(v)    field(v, 6, 5)
#define IDR1_ATTR_PERMS_OVR (1u << 26)
#define IDR1_ATTR_TYPES_OVR (1u << 27)
#define IDR3_HAD            (1u << 2)
#define IDR3_FWB            (1u << 8)
#define IDR3_STT            (1u << 9)
#define IDR3_RIL            (1u << 10)
#define IDR3_BBML2          (2u << 11)
#define IDR5_OAS(v)         field(v, 0, 3)
#define IDR5_GRAN4K         (1u << 4)
#define IDR5_GRAN16K        (1u << 5)
#define IDR5_GRAN64K        (1u << 6)
#define IDR5_DS             (1u << 7)
#define IDR5_VAX_52_BITS    (1u << 10)
#define IDR5_VAX_52(v)      (field(v, 10, 2) == 1)

/* STE (5.2) */
#define STE0_V              1
#define STE0_CONFIG(w)      field(w, 1, 3)
#define STE_CONFIG_BYPASS   4
#define STE_CONFIG_S1       1           /* with 4 */
#define STE_CONFIG_S2       2           /* with 4 */
#define STE0_S1FMT(w)       field(w, 4, 2)
#define STE0_S1CTXPTR       0x000fffffffffffc0ull
#define STE0_S1CDMAX(w)     field(w, 59, 5)
#define STE1_S1DSS(w)       field(w, 0, 2)
#define STE1_S1STALLD       (1ull << 27)
#define STE1_EATS(w)        field(w, 28, 2)
#define STE1_STRW(w)        field(w, 30, 2)
#define STE1_PRIVCFG(w)     field(w, 48, 2)
#define STE1_INSTCFG(w)     field(w, 50, 2)
#define STE2_S2VMID(w)      field(w, 0, 16)
#define STE2_S2S            (1ull << 57)
#define STE2_S2R            (1ull << 58)
#define STE3_S2TTB          0x000ffffffffffff0ull

enum { S1FMT_LINEAR, S1FMT_4K, S1FMT_64K, S1FMT_RESERVED };
enum { S1DSS_TERMINATE, S1DSS_BYPASS, S1DSS_SSID0, S1DSS_RESERVED };
enum { EATS_NONE, EATS_FULL, EATS_SPLIT, EATS_DPT };
enum { STRW_EL1 = 0, STRW_EL2 = 2 };

/* CD (5.4) */
#define CD0_EPD(w, n)       field(w, 14 + 16 * (n), 1)
#define CD0_TSZ(w, n)       field(w, 16 * (n), 6)
#define CD0_TG(w, n)        field(w, 6 + 16 * (n), 2)
#define CD0_ENDI            (1ull << 15)
#define CD0_V               (1ull << 31)
#define CD0_IPS(w)          field(w, 32, 3)
#define CD0_AFFD            (1ull << 35)
#define CD0_WXN             (1ull << 36)
#define CD0_TBI(w, n)       field(w, 38 + (n), 1)
#define CD0_PAN             (1ull << 40)
#define CD0_AA64            (1ull << 41)
#define CD0_HD              (1ull << 42)
#define CD0_HA              (1ull << 43)
#define CD0_S               (1ull << 44)
#define CD0_R               (1ull << 45)
#define CD0_A               (1ull << 46)
#define CD0_ASID(w)         field(w, 48, 16)
#define CD1_HAD             (1ull << 1)
#define CD1_TTB             0x000ffffffffffff0ull

/* Events (7.3), and CLASS in them */
enum {
    EVT_NONE                = 0,        /* terminated without a record */
    EVT_C_BAD_STE           = 0x04,
    EVT_F_BAD_ATS_TREQ      = 0x05,
    EVT_F_STREAM_DISABLED   = 0x06,
    EVT_F_TRANS_FORBIDDEN   = 0x07,
    EVT_C_BAD_SUBSTREAMID   = 0x08,
    EVT_F_CD_FETCH          = 0x09,
    EVT_C_BAD_CD            = 0x0a,
    EVT_F_WALK_EABT         = 0x0b,
    EVT_F_TRANSLATION       = 0x10,
    EVT_F_ADDR_SIZE         = 0x11,
    EVT_F_ACCESS            = 0x12,
    EVT_F_PERMISSION        = 0x13,
};
enum { CLASS_CD, CLASS_TT, CLASS_IN };

/* Commands (4.1) */
enum {
    CMD_PREFETCH_CONFIG     = 0x01,
    CMD_PREFETCH_ADDR       = 0x02,
    CMD_CFGI_STE            = 0x03,
    CMD_CFGI_STE_RANGE      = 0x04,
    CMD_CFGI_CD             = 0x05,
    CMD_CFGI_CD_ALL         = 0x06,
    CMD_TLBI_NH_ALL         = 0x10,
    CMD_TLBI_NH_ASID        = 0x11,
    CMD_TLBI_NH_VA          = 0x12,
    CMD_TLBI_NH_VAA         = 0x13,
    CMD_TLBI_EL2_ALL        = 0x20,
    CMD_TLBI_EL2_ASID       = 0x21,
    CMD_TLBI_EL2_VA         = 0x22,
    CMD_TLBI_EL2_VAA        = 0x23,
    CMD_TLBI_S12_VMALL      = 0x28,
    CMD_TLBI_S2_IPA         = 0x2a,
    CMD_TLBI_NSNH_ALL       = 0x30,
    CMD_ATC_INV             = 0x40,
    CMD_PRI_RESP            = 0x41,
    CMD_RESUME              = 0x44,
    CMD_STALL_TERM          = 0x45,
    CMD_SYNC                = 0x46,
};

/*
 * TLB entries are tagged with a translation regime: NS-EL1 of a VMID, or EL2.
 * A VMID has 16 bits.
 */
#define REGIME_EL2 0x10000u

/* A piece of stage 2 as cached: aligned, 2 MiB or 4 KiB */
typedef struct S2Block {
    uint64_t ipa;
    uint64_t size;
    void *host;
    unsigned prot;
} S2Block;

typedef enum TlbKind {
    TLB_LEAF,                           /* of one ASID */
    TLB_GLOBAL,                         /* a leaf of any ASID */
    TLB_TABLE,                          /* the walk cache: a table descriptor */
} TlbKind;

typedef struct TlbKey {
    uint64_t va;                        /* canonical: bit 55 extended */
    uint32_t regime;
    uint16_t asid;                      /* 0 if global */
    uint8_t size;                       /* log2 of the bytes that it covers */
    uint8_t kind;                       /* TlbKind */
    uint8_t granule;                    /* of a table: log2; of a leaf: 0 */
} TlbKey;

/* The result of a stage-1 descriptor */
typedef struct TlbEntry {
    TlbKey key;
    uint64_t seq;                       /* age: the lowest is the oldest */
    uint64_t output;                    /* of a leaf, or the next table */
    uint64_t desc, desc_addr;           /* a leaf's descriptor, and where */
    uint8_t level;
    uint8_t granule;                    /* log2 */
    uint8_t table_attrs;                /* ATTR_*, accumulated down to here */
    uint8_t prot_user, prot_priv;       /* HM_READ|HM_WRITE|HM_EXEC */
    bool clean;                         /* a write must set dirty state first */
    GArray *s2;                         /* of S2Block: stage 1 and 2 combined */
} TlbEntry;

/* Attributes of table descriptors: bits 59 to 62, moved to 0 */
enum {
    ATTR_PXN = 1,
    ATTR_UXN = 2,
    ATTR_NO_USER = 4,
    ATTR_READ_ONLY = 8,
};

/* One half of the VA space, as a CD configures it */
typedef struct TtConfig {
    bool disabled;                      /* EPD */
    bool tbi;
    bool had;
    unsigned granule;                   /* log2 */
    unsigned va_bits;
    unsigned start_level;
    uint64_t table;                     /* TTB without its low, unused bits */
} TtConfig;

/* The caches that a translation used */
enum {
    HIT_STE = 1,
    HIT_L1CD = 2,
    HIT_CD = 4,
    HIT_TLB = 8,
    HIT_WALK = 16,
    HIT_S2 = 32,
};

/* A transaction in progress */
typedef struct Walk {
    HmSmmu *smmu;
    const HmTranslation *t;
    /*
     * Use and fill no cache, change no memory, count nothing: the result is
     * what the tables say now.
     */
    bool fresh;
    unsigned hits;                      /* HIT_* */
    bool s2_stale;
    unsigned access;                    /* of the transaction, with overrides */

    /* What the STE and the CD decided */
    uint64_t ste[8];
    HmS2 *s2;                           /* NULL: stage 2 is not used */
    uint32_t vmid;                      /* tag of stage 2 */
    uint32_t regime;                    /* tag of stage 1 */
    bool ssv;
    uint64_t cd[8];
    bool s1;                            /* translated by stage 1, with @cd */
    uint64_t va;                        /* canonical */

    /* How it ended: a fault */
    uint8_t event;                      /* EVT_* */
    uint8_t class;                      /* CLASS_* */
    bool fault_s2;
    bool tt_read;                       /* a descriptor was read, not written */
    uint64_t fault_addr;                /* IPA, or what could not be fetched */

    /* or a translation */
    uint64_t ipa;                       /* after stage 1 */
    void *host;
    uint64_t len;
    unsigned prot;
} Walk;

/* A TLBI or CFGI that had no effect, because of config.repeat */
typedef struct Issue {
    uint64_t cmd[2];
    uint64_t sync;                      /* HmSmmu.syncs at that time */
} Issue;

struct HmSmmu {
    HmSmmuConfig config;
    GHashTable *stream_table;           /* SID to eight words: memory */
    HmSmmuEventFn *event_fn;
    GArray *cmdq;                       /* of uint64_t[2] */
    uint64_t syncs;                     /* CMD_SYNCs so far */
    GArray *issued;                     /* of Issue, the oldest first */
    bool check;                         /* compare hits with the tables */

    /* Caches, which drop only what a command covers */
    GHashTable *ste_cache, *l1cd_cache, *cd_cache;
    GHashTable *tlb;                    /* a set of TlbEntry by key */
    GHashTable *s2_tlb;                 /* a set of S2Entry */
    uint64_t leaf_sizes;                /* bit n: a leaf of 2^n may be there */
    uint64_t seq;
};

/* smmu.c */

/* End the transaction.  Always returns false. */
bool walk_fault(Walk *w, unsigned event, bool s2, unsigned class,
                uint64_t addr);

/* smmu-config.c */

/* Read memory of this process.  A bad address is no crash. */
bool process_read(uint64_t addr, void *out, size_t len);
/*
 * Read @n 64-bit words of a structure at @addr (an IPA with stage 2), each word
 * by one access.  @class is CLASS_CD or CLASS_TT.
 */
bool walk_read(Walk *w, uint64_t addr, unsigned class, uint64_t *out,
               unsigned n);
/*
 * Hardware update of a descriptor: it becomes @new if it still is @old.
 * Returns false after a fault; otherwise *@done says whether it was updated.
 */
bool walk_update(Walk *w, uint64_t addr, uint64_t old, uint64_t new,
                 bool *done);
unsigned smmu_oas(const HmSmmu *smmu);          /* bits */
/* IPS of the CD, bounded by the SMMU's OAS */
unsigned walk_ips(const Walk *w);
/* Whether CD.HA, or HD with it, has an effect */
bool walk_ha(const Walk *w);
bool walk_hd(const Walk *w);

void config_cache_init(HmSmmu *smmu);
void config_cache_free(HmSmmu *smmu);
/* Load w->ste and w->cd.  False after a fault. */
bool fetch_ste(Walk *w);
bool fetch_cd(Walk *w, uint32_t ssid);
/* @n StreamIDs from @first */
void config_cache_forget_ste(HmSmmu *smmu, uint32_t first, uint64_t n);
void config_cache_forget_cd(HmSmmu *smmu, uint32_t sid, uint32_t ssid,
                            bool leaf);
void config_cache_forget_cds(HmSmmu *smmu, uint32_t sid);

/* smmu-walk.c */

/* False if a walk of that half cannot use the CD */
bool tt_config(const Walk *w, unsigned half, TtConfig *tt);
/* The half that an address is in; false if the address is out of range */
bool tt_select(Walk *w, TtConfig *tt);
/* Walk for w->va.  @out is a leaf, ready for the TLB. */
bool walk_stage1(Walk *w, const TtConfig *tt, TlbEntry *out);
/*
 * Set the dirty state of a clean leaf.  Returns false after a fault.  *done is
 * false if the descriptor has changed: walk again.
 */
bool walk_set_dirty(Walk *w, TlbEntry *leaf, bool *done);
/* log2 of what a descriptor of @level covers */
static inline unsigned level_shift(unsigned granule, int level)
{
    return granule + (3 - level) * (granule - 3);
}

/* smmu-tlb.c */

void tlb_init(HmSmmu *smmu);
void tlb_free(HmSmmu *smmu);
/* The oldest entry that matches.  If several do, a conflict is counted. */
TlbEntry *tlb_lookup(HmSmmu *smmu, uint32_t regime, uint16_t asid, uint64_t va);
/* The cached table descriptor of @level */
TlbEntry *tlb_lookup_table(HmSmmu *smmu, uint32_t regime, uint16_t asid,
                           uint64_t va, unsigned granule, int level);
/* Takes a copy, and returns the one that is in the cache. */
TlbEntry *tlb_insert(HmSmmu *smmu, const TlbEntry *entry);
void tlb_remove(HmSmmu *smmu, TlbEntry *entry);

/* Which entries of stage 1 a command invalidates */
typedef struct TlbMatch {
    uint32_t regime;
    bool any_regime;                    /* NS-EL1 of any VMID */
    bool any_asid;
    uint16_t asid;
    bool keep_global;                   /* with an ASID: not global leaves */
    bool by_va;
    uint64_t first, last;               /* if by_va: canonical, inclusive */
    unsigned granule;                   /* 0: any */
    unsigned ttl;                       /* 0: any level; with a granule */
    bool leaf;                          /* the walk cache stays */
} TlbMatch;

void tlb_invalidate(HmSmmu *smmu, const TlbMatch *m);

/*
 * Stage 2 of @ipa.  @combined is the stage-1 leaf that led there, or NULL.
 * Returns false if nothing is mapped.  The result is always the current one:
 * the memory behind an old pointer may be gone, and using it would crash this
 * process.  If the cache had another result, w->s2_stale is set.
 */
bool s2_translate(Walk *w, uint64_t ipa, TlbEntry *combined, void **host,
                  uint64_t *len, unsigned *prot);
void s2_invalidate(HmSmmu *smmu, uint32_t vmid, uint64_t first, uint64_t last);
void s2_invalidate_all(HmSmmu *smmu);

/* smmu-cmdq.c */

/* 0, -EIO (CERROR_ILL) or -ETIMEDOUT (CERROR_ATC_INV_SYNC) */
int cmdq_execute(HmSmmu *smmu, const uint64_t cmd[2]);
/* Whether the SMMU accepts the command */
bool cmdq_legal(const HmSmmu *smmu, const uint64_t cmd[2]);
/* A CMD_SYNC has completed */
void cmdq_synced(HmSmmu *smmu);

#endif /* HOST_MODEL_SMMU_INTERNAL_H */
