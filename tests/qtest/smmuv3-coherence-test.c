/*
 * QTest of accel=on: no translation outlives its invalidation
 *
 * A random guest changes its page tables, CDs, STEs, ASIDs, registers and bus
 * numbers, and issues exactly the invalidations that the architecture
 * requires. Its devices send SubstreamIDs and ask for translations, if the
 * flavour of the host lets them. The caches of the host model, and of its
 * devices, evict nothing by themselves. So an invalidation that is lost, late
 * or changed on its way shows as a wrong byte, and as a stale hit that the
 * model counts.
 *
 * SMMUV3_SEED replays one seed. SMMUV3_OPERATIONS sets the number of
 * operations. SMMUV3_SOAK goes on with new seeds for that many seconds.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/host-utils.h"
#include "qemu/units.h"
#include "qemu/bswap.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define N_SMMUS         2
#define N_DEVS          4               /* two per vSMMU */
#define N_SPACES        3               /* address spaces per vSMMU */
#define N_ASIDS         6
#define N_REGIONS       4               /* of 2 MiB, two per L1 entry */
#define N_PAGES         8               /* used pages per region */
#define N_TABLES        2               /* CD tables per device */
#define N_SSIDS         4               /* used SubstreamIDs per table */
#define N_BUSES         6               /* that a port can get */

/* 4 KiB granule, 39 bits: levels 1 to 3. Nothing else is at these addresses. */
#define GRANULE         12
#define TXSZ            25
#define VA_BASE         0x1000000000ull

/* The memory to map: each 4 KiB begins with a tag of its address */
#define POOL_BLOCKS     8
#define POOL_SIZE       (POOL_BLOCKS * 2 * MiB)
#define TAG(gpa)        ((uint64_t)(gpa) ^ 0xa5a5a5a500000000)

/* STE.S1Fmt */
#define S1FMT_LINEAR    0ull
#define S1FMT_4K        (1ull << 4)
#define S1FMT_64K       (2ull << 4)

typedef enum OpKind {
    OP_DMA,
    OP_MAP_PAGE,
    OP_UNMAP_PAGE,
    OP_PROTECT_PAGE,
    OP_REMAP_PAGE,
    OP_MAP_BLOCK,
    OP_UNMAP_REGION,
    OP_UNMAP_L1,
    OP_CD,
    OP_CD_OF_IDLE,
    OP_LEAF,
    OP_STE,
    OP_STE_SAME,
    OP_ASID,
    OP_TOGGLE,
    OP_GBPA,
    OP_BUS,
    OP_RESET,
    OP_PLUG,
    OP_NOISE,
    OP_SYNC,
    OP_KINDS
} OpKind;

static const struct {
    const char *name;
    unsigned weight;
} op_info[OP_KINDS] = {
    [OP_DMA] = { "dma", 220 },
    [OP_MAP_PAGE] = { "map-page", 110 },
    [OP_UNMAP_PAGE] = { "unmap-page", 20 },
    [OP_PROTECT_PAGE] = { "protect-page", 20 },
    [OP_REMAP_PAGE] = { "remap-page", 20 },
    [OP_MAP_BLOCK] = { "map-block", 20 },
    [OP_UNMAP_REGION] = { "unmap-region", 8 },
    [OP_UNMAP_L1] = { "unmap-l1", 2 },
    [OP_CD] = { "cd", 12 },
    [OP_CD_OF_IDLE] = { "cd-of-idle", 8 },
    [OP_LEAF] = { "leaf", 4 },
    [OP_STE] = { "ste", 14 },
    [OP_STE_SAME] = { "ste-same", 6 },
    [OP_ASID] = { "asid", 8 },
    [OP_TOGGLE] = { "toggle", 10 },
    [OP_GBPA] = { "gbpa", 3 },
    [OP_BUS] = { "bus", 3 },
    [OP_RESET] = { "reset", 2 },
    [OP_PLUG] = { "plug", 1 },
    [OP_NOISE] = { "noise", 6 },
    [OP_SYNC] = { "sync", 10 },
};

/* r[] picks what an operation works on, modulo what there is at that point */
typedef struct Op {
    OpKind kind;
    uint32_t r[4];
} Op;

typedef struct Page {
    bool valid, ro;
    uint64_t pa;
} Page;

typedef struct Region {
    enum { EMPTY, BLOCK, TABLE } kind;
    Page block;
    Page page[N_PAGES];
    uint64_t table[2];                  /* L3 tables, used in turn */
    unsigned turn;
} Region;

typedef struct Space {
    unsigned asid;
    uint64_t root;
    uint64_t l2[2][2];                  /* per L1 entry, used in turn */
    unsigned turn[2];
    bool l1_valid[2];
    Region region[N_REGIONS];
} Space;

typedef enum SteKind { STE_IS_INVALID, STE_IS_ABORT, STE_IS_BYPASS, STE_IS_S1,
                       STE_KINDS } SteKind;

/* One CD if @bits is 0, and else a linear table or one of two levels */
typedef struct CdTable {
    uint64_t base, fmt;
    unsigned bits, n;                   /* S1CDMax; how many SSIDs are used */
    uint32_t ssid[N_SSIDS];
    int space[N_SSIDS];                 /* the CD's address space; -1: V=0 */
    /* Of two levels: the leaf of an SSID, and where to move it */
    uint64_t leaf[N_SSIDS][2];
} CdTable;

enum { DSS_TERMINATE, DSS_BYPASS, DSS_SSID0 };

typedef struct Device {
    CdTable table[N_TABLES];
    SteKind ste;
    unsigned used;                      /* the table that an S1 STE uses */
    unsigned dss;                       /* S1DSS of an S1 STE */
    bool eats;                          /* EATS of an S1 STE */
    uint32_t pasid;                     /* of the last transfer */
    unsigned flags;
} Device;

#define N_VCMDQS        2
#define VCMDQ_LOG2      5
#define VCMDQ_WRAP      ((2u << VCMDQ_LOG2) - 1)

typedef struct Smmu {
    Space space[N_SPACES];
    bool asid_dirty[N_ASIDS];           /* may still be in a TLB */
    bool gbpa_abort;
    bool pending;                       /* commands without a CMD_SYNC */
    bool ril, ats, pasids;
    /* With command queues of the guest's own, some commands go there */
    bool cmdqv, in_cmdq;
    bool hw;                    /* the host's hardware has the VCMDQs */
    bool poll;                  /* a thread watches them */
    unsigned doorbells, polled;
    uint64_t vcmdq[N_VCMDQS];
    uint32_t vcmdq_prod[N_VCMDQS], vcmdq_cons[N_VCMDQS];
} Smmu;

typedef struct Run {
    HostGuest *g;
    Smmu smmu[N_SMMUS];
    Device dev[N_DEVS];
    uint64_t pool, poison;
    uint64_t unique;
    unsigned long dmas, faults, invalidations, with_ssid, by_atc;
    /* The invalidations of operation @drop_at are left out */
    int at, drop_at;
    bool no_plug;
    bool dropped;
    char *failure;
} Run;

static unsigned smmu_of(unsigned dev)
{
    return dev / (N_DEVS / N_SMMUS);
}

static void G_GNUC_PRINTF(2, 3) fail(Run *run, const char *format, ...)
{
    va_list ap;

    if (run->failure) {
        return;
    }
    va_start(ap, format);
    run->failure = g_strdup_vprintf(format, ap);
    va_end(ap);
}

/*
 * Commands
 */

static bool drops(Run *run)
{
    if (run->at == run->drop_at) {
        run->dropped = true;
        return true;
    }
    return false;
}

/* Registers of a CMDQV, and of its logical VCMDQ @q */
static uint64_t cmdqv(unsigned i)
{
    return VIRT_PLATFORM_BUS_BASE + 0x80000 * (i + 1ull);
}

static uint64_t vcmdq(unsigned i, unsigned q)
{
    return cmdqv(i) + 0x30000 + 0x80 * q;
}

static void vcmdqs_on(Run *run, unsigned i)
{
    QTestState *qts = run->g->qts;

    g_assert_cmphex(qtest_readl(qts, cmdqv(i) + 4), ==, 0x11);
    qtest_writel(qts, cmdqv(i), 1);
    qtest_writel(qts, cmdqv(i) + 0x1000, 1);
    for (unsigned q = 0; q < N_VCMDQS; q++) {
        run->smmu[i].vcmdq[q] = host_alloc(run->g, 16 << VCMDQ_LOG2);
        qtest_writel(qts, cmdqv(i) + 0x200 + 4 * q, q << 1 | 1);
        qtest_writeq(qts, vcmdq(i, q) + 0x10000,
                     run->smmu[i].vcmdq[q] | VCMDQ_LOG2);
        qtest_writel(qts, vcmdq(i, q) + 8, 1);
    }
    run->smmu[i].cmdqv = true;
}

static void vcmdq_put(Run *run, unsigned i, unsigned q, HostCmd cmd)
{
    Smmu *s = &run->smmu[i];
    uint64_t *slot = host_ram(run->g, s->vcmdq[q] +
                              16 * (s->vcmdq_prod[q] & (VCMDQ_WRAP >> 1)));

    slot[0] = cpu_to_le64(cmd.word[0]);
    slot[1] = cpu_to_le64(cmd.word[1]);
    s->vcmdq_prod[q] = (s->vcmdq_prod[q] + 1) & VCMDQ_WRAP;
}

/* An error shows as CONS that stays, and has ERR */
static void vcmdq_stuck(Run *run, unsigned i, unsigned q)
{
    uint32_t cons = qtest_readl(run->g->qts, vcmdq(i, q));
    const uint64_t *slot = host_ram(run->g, run->smmu[i].vcmdq[q] +
                                    16 * (cons & (VCMDQ_WRAP >> 1)));

    g_error("vSMMU %u: VCMDQ %u stays at 0x%x, which is 0x%" PRIx64 " 0x%"
            PRIx64, i, q, cons, le64_to_cpu(slot[0]), le64_to_cpu(slot[1]));
}

/*
 * Write PROD so often that a thread begins to watch it, and sometimes to a
 * register that ends that
 */
static void ring_vcmdq(Run *run, unsigned i, unsigned q)
{
    Smmu *s = &run->smmu[i];
    bool polled = run->smmu[i].poll && s->doorbells % 256 == 255 &&
                  host_has_region(run->g, "arm-smmuv3-polled");

    s->polled += polled;
    if (s->poll && s->doorbells % 2048 == 2047) {
        qtest_writel(run->g->qts, cmdqv(i) + 0x1c, 0);
    }
    for (unsigned n = 0; n < (s->poll ? 8 : 1); n++) {
        qtest_writel(run->g->qts, vcmdq(i, q) + 4, s->vcmdq_prod[q]);
    }
    s->doorbells++;
}

static void vcmdqs_sync(Run *run, unsigned i)
{
    Smmu *s = &run->smmu[i];

    for (unsigned q = 0; q < N_VCMDQS; q++) {
        if (s->vcmdq_prod[q] == s->vcmdq_cons[q]) {
            continue;
        }
        vcmdq_put(run, i, q, CMD_SYNC);
        ring_vcmdq(run, i, q);
        for (int n = 0; qtest_readl(run->g->qts, vcmdq(i, q)) !=
                        s->vcmdq_prod[q]; n++) {
            if (n == 100000) {
                vcmdq_stuck(run, i, q);
            }
            g_usleep(10);
        }
        s->vcmdq_cons[q] = s->vcmdq_prod[q];
    }
}

/*
 * The hardware knows the StreamIDs of devices that have translated. An ATC_INV
 * with any other is an error there.
 */
static bool suits_vcmdq(Run *run, unsigned i, HostCmd cmd)
{
    unsigned op = cmd.word[0] & 0xff;

    if (op != 0x40 || !run->smmu[i].hw) {
        return op == 0x11 || op == 0x12 || op == 0x40;
    }
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        if (smmu_of(dev) == i && run->g->dev[dev].present &&
            run->dev[dev].ste == STE_IS_S1 && run->g->smmu[i].enabled &&
            host_sid(run->g, dev) == cmd.word[0] >> 32) {
            return true;
        }
    }
    return false;
}

/*
 * As Linux chooses the queue. Commands of two queues have no order, so a
 * CMD_SYNC comes before each change between the SMMU's own and the others.
 */
static void issue(Run *run, unsigned i, HostCmd cmd)
{
    Smmu *s = &run->smmu[i];
    unsigned q = run->at >> 1 & 1;

    if (s->cmdqv && suits_vcmdq(run, i, cmd)) {
        if (s->in_cmdq) {
            g_assert_cmpuint(smmu_sync(run->g, i), ==, SMMU_CERROR_NONE);
            s->in_cmdq = false;
        }
        if (((s->vcmdq_prod[q] - s->vcmdq_cons[q]) & VCMDQ_WRAP) >=
            VCMDQ_WRAP >> 1) {
            vcmdqs_sync(run, i);
        }
        vcmdq_put(run, i, q, cmd);
    } else {
        vcmdqs_sync(run, i);
        smmu_cmd(run->g, i, cmd);
        s->in_cmdq = true;
    }
}

static void inv(Run *run, unsigned i, HostCmd cmd)
{
    if (!drops(run)) {
        issue(run, i, cmd);
        run->invalidations++;
    }
    run->smmu[i].pending = true;
}

static void cmd_sync(Run *run, unsigned i)
{
    unsigned error = SMMU_CERROR_NONE;

    vcmdqs_sync(run, i);
    run->smmu[i].in_cmdq = false;
    /* Wait in memory and on the register in turn */
    if (run->at & 1) {
        smmu_sync_msi(run->g, i);
    } else {
        error = smmu_sync(run->g, i);
    }
    run->smmu[i].pending = false;
    if (error) {
        fail(run, "vSMMU %u: CERROR %u", i, error);
    }
}

/* A device may have to wait until the host has forgotten an earlier one */
static void wait_for_slow_host(Run *run, unsigned i)
{
    cmd_sync(run, i);
}

static void maybe_sync(Run *run, unsigned i, uint32_t r)
{
    if (r & 1) {
        cmd_sync(run, i);
    }
}

/* IHI 0070 4.4.1.1, 4 KiB pages: one command for (NUM + 1) * 2^SCALE of them */
static void inv_range(Run *run, unsigned i, unsigned op, unsigned asid,
                      uint64_t va, unsigned pages, unsigned leaf, unsigned ttl)
{
    unsigned scale = ctz32(pages);

    g_assert_cmpuint(pages >> scale, <=, 32);
    inv(run, i, HOST_CMD(op | (uint64_t)((pages >> scale) - 1) << 12 |
                         (uint64_t)scale << 20 | (uint64_t)asid << 48,
                         va | leaf | (uint64_t)ttl << 8 | 1ull << 10));
}

/*
 * Invalidate the TLB entries of @pages pages from @va. @leaf: only leaf
 * entries have changed, and no table was removed. @level: the level of the
 * leaf entries, or 0 if there may be several.
 */
static void inv_va(Run *run, unsigned i, unsigned asid, uint64_t va,
                   unsigned pages, bool leaf, int level, uint32_t r)
{
    bool ril = run->smmu[i].ril;
    unsigned how = r % 16;

    if (how >= 14 || (!leaf && how >= 13)) {
        inv(run, i, CMD_TLBI_NSNH_ALL);
    } else if (how == 13) {
        inv(run, i, CMD_TLBI_NH_ALL);
    } else if (how >= 11) {
        inv(run, i, CMD_TLBI_NH_ASID(asid));
    } else if (ril && how >= 5 && pages > 1) {
        unsigned op = how & 1 ? 0x13 : 0x12;

        inv_range(run, i, op, op == 0x12 ? asid : 0, va, pages, leaf,
                  leaf && how >= 8 ? level : 0);
    } else {
        /* A block is one entry; of a table only N_PAGES entries are used */
        unsigned step = level == 2 ? 512 : 1;
        unsigned n = level == 2 ? pages / 512 : MIN(pages, N_PAGES);

        for (unsigned p = 0; p < n; p++) {
            uint64_t at = va + p * step * 4096ull;

            if (how & 1) {
                inv(run, i, CMD_TLBI_NH_VAA(at, leaf && how & 2));
            } else {
                inv(run, i, CMD_TLBI_NH_VA(asid, at, leaf && how & 2));
            }
        }
    }
}

static void inv_ste(Run *run, unsigned i, uint32_t sid, uint32_t r)
{
    switch (r % 8) {
    case 0:
        inv(run, i, CMD_CFGI_ALL);
        break;
    case 1:
        inv(run, i, CMD_CFGI_STE_RANGE(sid & ~0xfff, 11));
        break;
    default:
        inv(run, i, CMD_CFGI_STE(sid));
    }
}

static void inv_cd(Run *run, unsigned i, uint32_t sid, uint32_t ssid,
                   uint32_t r)
{
    if (r % 4) {
        inv(run, i, CMD_CFGI_CD(sid, ssid));
    } else {
        inv(run, i, CMD_CFGI_CD_ALL(sid));
    }
}

/*
 * Invalidate what a device may have cached of 2^@size pages, once the SMMU has
 * invalidated that. @n: of the @n-th SSID of the used table, and of
 * transactions without one if they use the CD of SSID 0.
 */
static void inv_atc(Run *run, unsigned dev, unsigned n, uint64_t va,
                    unsigned size, uint32_t r)
{
    const Device *d = &run->dev[dev];
    const CdTable *t = &d->table[d->used];
    unsigned i = smmu_of(dev), how = r % 4;
    uint32_t sid = host_sid(run->g, dev);
    bool ssv = t->bits && (n || d->dss != DSS_SSID0);

    if (how == 3 || size == 52) {
        size = 52;
        va = 0;
    }
    if (!ssv || !how) {
        inv(run, i, CMD_ATC_INV(sid, va, size));
    } else {
        inv(run, i, CMD_ATC_INV_SSID(sid, how == 1 ? 0 : t->ssid[n], how == 1,
                                     va, size));
    }
}

static bool asks(Run *run, unsigned dev)
{
    const Device *d = &run->dev[dev];

    return run->smmu[smmu_of(dev)].ats && d->ste == STE_IS_S1 && d->eats;
}

/* The same of each device that uses @space */
static void inv_atcs(Run *run, unsigned i, const Space *space, uint64_t va,
                     unsigned size, uint32_t r)
{
    bool synced = false;

    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        const CdTable *t = &run->dev[dev].table[run->dev[dev].used];

        for (unsigned n = 0; smmu_of(dev) == i && asks(run, dev) && n < t->n;
             n++) {
            if (t->space[n] < 0 || &run->smmu[i].space[t->space[n]] != space) {
                continue;
            }
            if (!synced) {
                cmd_sync(run, i);
                synced = true;
            }
            inv_atc(run, dev, n, va, size, r >> 3);
        }
    }
}

/* All of one device, after its STE has changed */
static void inv_atc_all(Run *run, unsigned dev, uint32_t r)
{
    unsigned i = smmu_of(dev);

    if (run->smmu[i].ats) {
        cmd_sync(run, i);
        inv(run, i, CMD_ATC_INV(host_sid(run->g, dev), 0, 52));
    }
}

/*
 * What DMA must do now
 */

static uint64_t region_va(unsigned region)
{
    return VA_BASE + (region / 2) * GiB + (region % 2) * 2 * MiB;
}

/* Translate @va in @space; returns false if that is a fault */
static bool space_lookup(const Space *space, uint64_t va, uint64_t *pa,
                         bool *ro)
{
    for (unsigned n = 0; n < N_REGIONS; n++) {
        const Region *region = &space->region[n];
        uint64_t offset = va - region_va(n);
        const Page *leaf = &region->block;

        if (va < region_va(n) || offset >= 2 * MiB) {
            continue;
        }
        if (!space->l1_valid[n / 2] || region->kind == EMPTY ||
            (region->kind == TABLE && offset / 4096 >= N_PAGES)) {
            return false;
        }
        if (region->kind == TABLE) {
            leaf = &region->page[offset / 4096];
        }
        if (!leaf->valid) {
            return false;
        }
        *pa = leaf->pa + (region->kind == BLOCK ? offset : offset % 4096);
        *ro = leaf->ro;
        return true;
    }
    return false;
}

static bool in_pool(Run *run, uint64_t gpa)
{
    return gpa >= run->pool && gpa < run->pool + POOL_SIZE;
}

/* With SSID number @n of the used table, or -1 for none */
static bool expected(Run *run, unsigned dev, int n, uint64_t iova,
                     uint64_t *pa, bool *ro)
{
    const Device *d = &run->dev[dev];
    const Smmu *s = &run->smmu[smmu_of(dev)];
    const CdTable *t = &d->table[d->used];
    bool enabled = run->g->smmu[smmu_of(dev)].enabled;

    *pa = iova;
    *ro = false;
    if (!enabled) {
        return n < 0 && !s->gbpa_abort && in_pool(run, iova);
    }
    switch (d->ste) {
    case STE_IS_BYPASS:
        return n < 0 && in_pool(run, iova);
    case STE_IS_S1:
        if (n >= 0 && (!t->bits || (!t->ssid[n] && d->dss == DSS_SSID0))) {
            return false;
        }
        if (n < 0 && t->bits && d->dss != DSS_SSID0) {
            return d->dss == DSS_BYPASS && in_pool(run, iova);
        }
        n = MAX(n, 0);
        return t->space[n] >= 0 &&
               space_lookup(&s->space[t->space[n]], iova, pa, ro);
    default:
        return false;
    }
}

/* The SSID of a transaction, or -1 for none; @r picks */
static int pick_ssid(Run *run, unsigned dev, uint32_t r)
{
    return run->smmu[smmu_of(dev)].pasids ? (int)(r % (N_SSIDS + 1)) - 1 : -1;
}

static void send_as(Run *run, unsigned dev, int n, bool atc)
{
    Device *d = &run->dev[dev];
    uint32_t pasid = n < 0 ? HOST_NO_PASID : d->table[d->used].ssid[n];
    unsigned flags = atc ? HOST_DMA_ATC : 0;

    if (d->pasid != pasid || d->flags != flags) {
        host_dma_as(run->g, dev, pasid, flags);
        d->pasid = pasid;
        d->flags = flags;
    }
    run->with_ssid += n >= 0;
    run->by_atc += atc;
}

static void check(Run *run, unsigned dev, int n, bool atc, uint64_t iova,
                  bool write)
{
    HostGuest *g = run->g;
    uint64_t pa, got = 0;
    bool ro, ok;
    bool want = expected(run, dev, n, iova, &pa, &ro);

    if (!g->dev[dev].present) {
        return;
    }
    send_as(run, dev, n, atc);
    run->dmas++;
    if (write) {
        uint64_t *word = NULL, before = 0, value = ++run->unique;

        want = want && !ro;
        if (want) {
            word = host_ram(g, pa + 8);
            before = *word;
        }
        ok = host_dma_write64(g, dev, iova + 8, value);
        if (ok && want && qatomic_read(word) != value) {
            fail(run, "device %u wrote at 0x%" PRIx64 ", not to 0x%"
                 PRIx64 " (now 0x%" PRIx64 ", before 0x%" PRIx64 ")",
                 dev, iova, pa, *word, before);
        }
    } else {
        ok = host_dma_read64(g, dev, iova, &got);
        if (ok && want && got != TAG(pa)) {
            fail(run, "device %u read at 0x%" PRIx64 ": 0x%" PRIx64
                 ", not the data of 0x%" PRIx64, dev, iova, TAG(got), pa);
        }
    }
    if (ok != want) {
        fail(run, "device %u, SSID %d%s: %s at 0x%" PRIx64 " %s", dev, n,
             atc ? ", ATC" : "", write ? "write" : "read", iova,
             ok ? "succeeded, but must fault"
                : "failed, but memory is mapped");
    }
    run->faults += !want;
}

/* Usually a mapped address, if the first few tries find one */
static uint64_t pick_iova(Run *run, unsigned dev, int ssid, uint32_t r)
{
    unsigned region = r % N_REGIONS, page = (r >> 4) % N_PAGES;
    uint64_t pa;
    bool ro;

    for (unsigned n = 0; n < 6 && r % 8; n++) {
        uint64_t va = region_va((region + n) % N_REGIONS) +
                      (page + n * 3) % N_PAGES * 4096;

        if (expected(run, dev, ssid, va, &pa, &ro)) {
            return va;
        }
    }

    if ((r >> 8) % 16 == 0) {
        return run->pool + (r >> 12) % (POOL_SIZE / 4096) * 4096;
    }
    return region_va(region) + page * 4096;
}

static void sync_pending(Run *run)
{
    for (unsigned i = 0; i < N_SMMUS; i++) {
        if (run->smmu[i].pending) {
            cmd_sync(run, i);
        }
    }
}

/* Every device accesses every page, which hits and fills the caches */
static void check_all(Run *run)
{
    sync_pending(run);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        for (unsigned n = 0; n < N_REGIONS * N_PAGES; n++) {
            uint64_t va = region_va(n / N_PAGES) + n % N_PAGES * 4096;
            bool atc = run->smmu[smmu_of(dev)].ats && n & 2;

            for (unsigned r = 0; r <= N_SSIDS; r++) {
                int ssid = pick_ssid(run, dev, r);

                check(run, dev, ssid, atc, va, n & 1);
                check(run, dev, ssid, atc, va, !(n & 1));
                if (ssid < 0 && r) {
                    break;
                }
            }
        }
        check(run, dev, -1, false, run->pool, false);
    }
}

/*
 * Operations
 */

static uint64_t *l1_entry(Run *run, Space *space, unsigned l1)
{
    return (uint64_t *)host_ram(run->g, space->root) +
           (VA_BASE / GiB) % 512 + l1;
}

static uint64_t *l2_entry(Run *run, Space *space, unsigned region)
{
    unsigned l1 = region / 2;

    return (uint64_t *)host_ram(run->g, space->l2[l1][space->turn[l1]]) +
           region % 2;
}

static uint64_t *l3_entry(Run *run, Region *region, unsigned page)
{
    return (uint64_t *)host_ram(run->g, region->table[region->turn]) + page;
}

static void set(uint64_t *entry, uint64_t value)
{
    qatomic_set(entry, cpu_to_le64(value));
}

static uint64_t leaf_of(const Page *page, int level)
{
    return page->valid ? host_leaf(level, page->pa,
                                   PTE_DATA | (page->ro ? PTE_RO : 0)) : 0;
}

/* Poison an unused table: a stale walk through it ends at the poison page */
static void poison_table(Run *run, uint64_t table)
{
    uint64_t *entry = host_ram(run->g, table);

    for (unsigned n = 0; n < 16; n++) {
        set(&entry[n], host_leaf(3, run->poison, PTE_DATA));
    }
}

static void ensure_l1(Run *run, Space *space, unsigned l1)
{
    if (!space->l1_valid[l1]) {
        uint64_t table = space->l2[l1][space->turn[l1]];

        memset(host_ram(run->g, table), 0, 4096);
        set(l1_entry(run, space, l1), table | 3);
        space->l1_valid[l1] = true;
    }
}

static Region *ensure_table(Run *run, Space *space, unsigned n)
{
    Region *region = &space->region[n];

    ensure_l1(run, space, n / 2);
    if (region->kind == EMPTY) {
        memset(host_ram(run->g, region->table[region->turn]), 0, 4096);
        memset(region->page, 0, sizeof(region->page));
        set(l2_entry(run, space, n), region->table[region->turn] | 3);
        region->kind = TABLE;
    }
    return region->kind == TABLE ? region : NULL;
}

static void forget_region(Run *run, Space *space, Region *region)
{
    if (region->kind == TABLE) {
        poison_table(run, region->table[region->turn]);
        region->turn ^= 1;
    }
    region->kind = EMPTY;
}

/* Each device that asks for translations uses the page, before and after */
static void touch(Run *run, unsigned i, const Space *space, uint64_t va)
{
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        const Device *d = &run->dev[dev];
        const CdTable *t = &d->table[d->used];

        for (unsigned n = 0; smmu_of(dev) == i && asks(run, dev) && n < t->n;
             n++) {
            bool none = !t->bits || (!n && d->dss == DSS_SSID0);

            if (t->space[n] >= 0 &&
                &run->smmu[i].space[t->space[n]] == space) {
                if (run->smmu[i].pending) {
                    cmd_sync(run, i);
                }
                check(run, dev, none ? -1 : (int)n, true, va, false);
            }
        }
    }
}

static void do_page(Run *run, unsigned i, Space *space, const Op *op)
{
    unsigned n = op->r[1] % N_REGIONS, p = (op->r[1] >> 8) % N_PAGES;
    uint64_t va = region_va(n) + p * 4096;
    Region *region = &space->region[n];
    Page *page, new = {
        .valid = true, .ro = op->r[2] >> 31,
        .pa = run->pool + op->r[2] % (POOL_SIZE / 4096) * 4096,
    };

    if (op->kind == OP_MAP_PAGE) {
        region = ensure_table(run, space, n);
    } else if (!space->l1_valid[n / 2] || region->kind != TABLE) {
        region = NULL;
    }
    if (!region) {
        return;
    }
    page = &region->page[p];
    if (page->valid == (op->kind == OP_MAP_PAGE)) {
        return;
    }

    if (op->kind != OP_MAP_PAGE && op->r[3] >> 31) {
        touch(run, i, space, va);
    }
    switch (op->kind) {
    case OP_MAP_PAGE:
        *page = new;
        set(l3_entry(run, region, p), leaf_of(page, 3));
        break;
    case OP_PROTECT_PAGE:
        page->ro = !page->ro;
        set(l3_entry(run, region, p), leaf_of(page, 3));
        inv_va(run, i, space->asid, va, 1, true, 3, op->r[3]);
        inv_atcs(run, i, space, va, 0, op->r[3] >> 16);
        maybe_sync(run, i, op->r[3] >> 8);
        break;
    default:
        set(l3_entry(run, region, p), 0);
        page->valid = false;
        inv_va(run, i, space->asid, va, 1, true, 3, op->r[3]);
        inv_atcs(run, i, space, va, 0, op->r[3] >> 16);
        if (op->kind == OP_REMAP_PAGE) {
            cmd_sync(run, i);
            *page = new;
            set(l3_entry(run, region, p), leaf_of(page, 3));
        } else {
            maybe_sync(run, i, op->r[3] >> 8);
        }
    }
    if (op->kind != OP_MAP_PAGE && op->r[3] >> 31) {
        touch(run, i, space, va);
    }
}

static void do_map_block(Run *run, unsigned i, Space *space, const Op *op)
{
    unsigned n = op->r[1] % N_REGIONS;
    Region *region = &space->region[n];

    ensure_l1(run, space, n / 2);
    if (region->kind == EMPTY) {
        region->kind = BLOCK;
        region->block = (Page) {
            .valid = true, .ro = op->r[2] >> 31,
            .pa = run->pool + op->r[2] % POOL_BLOCKS * 2 * MiB,
        };
        set(l2_entry(run, space, n), leaf_of(&region->block, 2));
    }
}

static void do_unmap_region(Run *run, unsigned i, Space *space, const Op *op)
{
    unsigned n = op->r[1] % N_REGIONS;
    Region *region = &space->region[n];
    bool block = region->kind == BLOCK;

    if (!space->l1_valid[n / 2] || region->kind == EMPTY) {
        return;
    }
    set(l2_entry(run, space, n), 0);
    inv_va(run, i, space->asid, region_va(n), 512, block, block ? 2 : 0,
           op->r[3]);
    inv_atcs(run, i, space, region_va(n), 9, op->r[3] >> 16);
    /* Reuse the table only when no walk can reach it any more */
    cmd_sync(run, i);
    forget_region(run, space, region);
}

static void do_unmap_l1(Run *run, unsigned i, Space *space, const Op *op)
{
    unsigned l1 = op->r[1] % 2;

    if (!space->l1_valid[l1]) {
        return;
    }
    set(l1_entry(run, space, l1), 0);
    for (unsigned n = 2 * l1; n < 2 * l1 + 2; n++) {
        inv_va(run, i, space->asid, region_va(n), 512, false, 0, op->r[3]);
    }
    inv_atcs(run, i, space, region_va(2 * l1), 18, op->r[3] >> 16);
    cmd_sync(run, i);
    poison_table(run, space->l2[l1][space->turn[l1]]);
    space->turn[l1] ^= 1;
    space->l1_valid[l1] = false;
    for (unsigned n = 2 * l1; n < 2 * l1 + 2; n++) {
        forget_region(run, space, &space->region[n]);
    }
}

static unsigned leaf_bits(const CdTable *t)
{
    return t->fmt == S1FMT_4K ? 6 : 10;
}

/* Where the CD of the @n-th SSID is */
static uint64_t cd_at(Run *run, const CdTable *t, unsigned n)
{
    unsigned bits = leaf_bits(t);
    uint64_t *l1;

    if (!t->fmt) {
        return t->base + t->ssid[n] * 64ull;
    }
    l1 = host_ram(run->g, t->base + (t->ssid[n] >> bits) * 8ull);
    return (le64_to_cpu(*l1) & ~0xfffull) +
           (t->ssid[n] & MAKE_64BIT_MASK(0, bits)) * 64;
}

static void write_cd(Run *run, unsigned dev, unsigned slot, unsigned n,
                     int space)
{
    CdTable *t = &run->dev[dev].table[slot];

    t->space[n] = space;
    if (space < 0) {
        host_clear_cd(run->g, cd_at(run, t, n));
    } else {
        Space *s = &run->smmu[smmu_of(dev)].space[space];

        host_write_cd(run->g, cd_at(run, t, n), &(HostCd) {
            .asid = s->asid, .ttb = { s->root }, .txsz = { TXSZ },
            .granule_shift = GRANULE,
        });
    }
}

static bool table_is_live(Run *run, unsigned dev, unsigned slot)
{
    return run->dev[dev].ste == STE_IS_S1 && run->dev[dev].used == slot;
}

/* Replace a CD that may be cached: break before make */
static void replace_cd(Run *run, unsigned dev, unsigned slot, unsigned n,
                       int space, uint32_t r)
{
    CdTable *t = &run->dev[dev].table[slot];
    unsigned i = smmu_of(dev);
    uint32_t sid = host_sid(run->g, dev);

    host_clear_cd(run->g, cd_at(run, t, n));
    inv_cd(run, i, sid, t->ssid[n], r);
    cmd_sync(run, i);
    if (asks(run, dev)) {
        inv_atc(run, dev, n, 0, 52, r >> 2);
        cmd_sync(run, i);
    }
    write_cd(run, dev, slot, n, space);
    inv_cd(run, i, sid, t->ssid[n], r >> 4);
}

/* Pick the address space of a CD, or -1 for none */
static int pick_space(const Op *op)
{
    return op->r[2] % 8 ? (int)(op->r[2] / 8 % N_SPACES) : -1;
}

static void do_cd(Run *run, unsigned dev, const Op *op)
{
    unsigned slot = op->r[1] % N_TABLES, n;
    int space = pick_space(op);

    if (table_is_live(run, dev, slot) == (op->kind == OP_CD_OF_IDLE)) {
        slot ^= 1;
    }
    n = op->r[1] / N_TABLES % run->dev[dev].table[slot].n;
    if (table_is_live(run, dev, slot)) {
        replace_cd(run, dev, slot, n, space, op->r[3]);
        maybe_sync(run, smmu_of(dev), op->r[3] >> 8);
    } else {
        /* No STE uses this CD; the CFGI_STE of a later one covers it */
        write_cd(run, dev, slot, n, space);
    }
}

/* Move a leaf of a CD table of two levels; what stays behind is poison */
static void do_leaf(Run *run, unsigned dev, const Op *op)
{
    unsigned slot = op->r[1] % N_TABLES, i = smmu_of(dev), bits, n;
    CdTable *t = &run->dev[dev].table[slot];
    uint32_t sid = host_sid(run->g, dev), ssid;
    uint64_t *l1, old;
    void *to;

    n = op->r[1] / N_TABLES % t->n;
    bits = leaf_bits(t);
    if (!t->fmt) {
        return;
    }
    l1 = host_ram(run->g, t->base + (t->ssid[n] >> bits) * 8ull);
    old = le64_to_cpu(*l1) & ~0xfffull;
    set(l1, 0);
    /* Any SSID of the leaf names its L1CD */
    ssid = (t->ssid[n] >> bits << bits) + op->r[2] % (1 << bits);
    for (unsigned k = 0; k < t->n; k++) {
        if (t->ssid[k] >> bits == t->ssid[n] >> bits) {
            inv(run, i, CMD_CFGI_CD(sid, t->ssid[k]));
        }
    }
    inv(run, i, HOST_CMD(0x05 | (uint64_t)ssid << 12 | (uint64_t)sid << 32, 0));
    cmd_sync(run, i);
    to = host_ram(run->g, t->leaf[n][t->leaf[n][0] == old]);
    memcpy(to, host_ram(run->g, old), 64ull << bits);
    memset(host_ram(run->g, old), 0, 64ull << bits);
    set(l1, t->leaf[n][t->leaf[n][0] == old] | 1);
    inv(run, i, HOST_CMD(0x05 | (uint64_t)ssid << 12 | (uint64_t)sid << 32, 0));
    maybe_sync(run, i, op->r[3] >> 8);
}

static void write_ste(Run *run, unsigned dev, uint32_t sid)
{
    Device *d = &run->dev[dev];
    CdTable *t = &d->table[d->used];
    uint64_t *ste = smmu_ste(run->g, smmu_of(dev), sid);
    uint64_t words[STE_KINDS] = {
        0, STE_ABORT, STE_BYPASS,
        STE_S1(t->base) | t->fmt | (uint64_t)t->bits << 59,
    };

    set(&ste[1], d->ste == STE_IS_S1 ? d->dss | (uint64_t)d->eats << 28 : 0);
    set(&ste[0], words[d->ste]);
}

static void clear_ste(Run *run, unsigned dev, uint32_t sid)
{
    set(smmu_ste(run->g, smmu_of(dev), sid), 0);
}

static SteKind pick_ste(const Op *op)
{
    static const SteKind others[] = {
        STE_IS_BYPASS, STE_IS_ABORT, STE_IS_INVALID,
    };
    unsigned n = op->r[1] % 10;

    return n < ARRAY_SIZE(others) ? others[n] : STE_IS_S1;
}

static void do_ste(Run *run, unsigned dev, const Op *op)
{
    Device *d = &run->dev[dev];
    unsigned i = smmu_of(dev);
    uint32_t sid = host_sid(run->g, dev);

    /* Words 0 and 1 change one after the other: break before make */
    if (run->smmu[i].pasids || run->smmu[i].ats || op->r[2] & 0x100) {
        clear_ste(run, dev, sid);
        inv_ste(run, i, sid, op->r[3]);
        cmd_sync(run, i);
    }
    d->ste = pick_ste(op);
    d->used = op->r[2] % N_TABLES;
    d->dss = op->r[2] / N_TABLES % 3;
    d->eats = op->r[2] >> 4 & 1;
    write_ste(run, dev, sid);
    inv_ste(run, i, sid, op->r[3] >> 4);
    inv_atc_all(run, dev, op->r[3]);
    maybe_sync(run, i, op->r[3] >> 8);
}

/* Change the CD and send CFGI_STE, which also covers the CDs below the STE */
static void do_ste_same(Run *run, unsigned dev, const Op *op)
{
    Device *d = &run->dev[dev];
    CdTable *t = &d->table[d->used];
    unsigned i = smmu_of(dev), n = op->r[1] % t->n;
    uint32_t sid = host_sid(run->g, dev);

    if (d->ste != STE_IS_S1) {
        return;
    }
    host_clear_cd(run->g, cd_at(run, t, n));
    inv_ste(run, i, sid, op->r[3]);
    inv_atc_all(run, dev, op->r[3]);
    cmd_sync(run, i);
    write_cd(run, dev, d->used, n, pick_space(op));
    inv_ste(run, i, sid, op->r[3] >> 4);
    maybe_sync(run, i, op->r[3] >> 8);
}

/*
 * Give an address space another ASID. TLB entries of the new ASID must be
 * invalidated first. Entries of the old ASID may stay until that ASID is used
 * again.
 */
static void do_asid(Run *run, unsigned i, Space *space, const Op *op)
{
    Smmu *s = &run->smmu[i];
    unsigned asid = op->r[1] % N_ASIDS;

    for (unsigned n = 0; n < N_SPACES; n++) {
        if (s->space[n].asid == asid + 1) {
            return;
        }
    }
    if (s->asid_dirty[asid]) {
        if (op->r[3] % 4) {
            inv(run, i, CMD_TLBI_NH_ASID(asid + 1));
        } else {
            inv(run, i, CMD_TLBI_NH_ALL);
        }
        cmd_sync(run, i);
    }
    s->asid_dirty[space->asid - 1] = true;
    s->asid_dirty[asid] = false;
    space->asid = asid + 1;
    for (unsigned k = 0; k < N_DEVS * N_TABLES * N_SSIDS; k++) {
        unsigned dev = k / (N_TABLES * N_SSIDS), n = k % N_SSIDS;
        unsigned slot = k / N_SSIDS % N_TABLES;
        CdTable *t = &run->dev[dev].table[slot];

        if (smmu_of(dev) != i || n >= t->n || t->space[n] < 0 ||
            &s->space[t->space[n]] != space) {
            continue;
        }
        if (table_is_live(run, dev, slot)) {
            replace_cd(run, dev, slot, n, t->space[n], op->r[3] >> 4);
        } else {
            write_cd(run, dev, slot, n, t->space[n]);
        }
    }
    maybe_sync(run, i, op->r[3] >> 12);
}

static void do_bus(Run *run, unsigned dev, const Op *op)
{
    HostGuest *g = run->g;
    unsigned i = smmu_of(dev);
    uint32_t old = host_sid(g, dev), new;
    unsigned bus = g->dev[dev].port_bus + 1 + op->r[1] % N_BUSES;

    for (unsigned n = 0; n < N_DEVS; n++) {
        if (g->dev[n].bus == bus) {
            return;
        }
    }
    new = bus << 8;
    if (op->r[2] & 1) {
        /* Write the STE before the device gets its StreamID */
        write_ste(run, dev, new);
        inv_ste(run, i, new, op->r[3]);
        cmd_sync(run, i);
        host_set_bus(g, dev, bus);
        clear_ste(run, dev, old);
        inv_ste(run, i, old, op->r[3] >> 4);
        cmd_sync(run, i);
    } else {
        clear_ste(run, dev, old);
        inv_ste(run, i, old, op->r[3]);
        host_set_bus(g, dev, bus);
        write_ste(run, dev, new);
        inv_ste(run, i, new, op->r[3] >> 4);
        cmd_sync(run, i);
    }
}

/* A reset has set the PASID and the flags of the device to these */
static void forget_attributes(Run *run, unsigned dev)
{
    run->dev[dev].pasid = HOST_NO_PASID;
    run->dev[dev].flags = 0;
}

/* Unplug the device, or plug it again; its STE may have stayed valid */
static void do_plug(Run *run, unsigned dev)
{
    g_autofree char *error = NULL;

    if (run->no_plug) {
        return;
    }
    if (run->g->dev[dev].present) {
        /* Its StreamID goes with it */
        vcmdqs_sync(run, smmu_of(dev));
        host_guest_unplug(run->g, dev);
        return;
    }
    error = host_guest_plug(run->g, dev);
    wait_for_slow_host(run, smmu_of(dev));
    forget_attributes(run, dev);
    if (error) {
        fail(run, "device %u cannot be plugged again: %s", dev, error);
    }
}

static void do_noise(Run *run, unsigned i, const Op *op)
{
    uint32_t sid = host_sid(run->g, op->r[1] % N_DEVS);

    switch (op->r[2] % (run->smmu[i].ats ? 8 : 6)) {
    case 0:
        issue(run, i, CMD_TLBI_NH_ASID(op->r[1] % 256));
        break;
    case 1:
        issue(run, i, CMD_TLBI_NH_VA(op->r[1] % 8, VA_BASE, 1));
        break;
    case 2:
        issue(run, i, CMD_CFGI_CD(sid, run->smmu[i].pasids ?
                                       op->r[1] & 0xfffff : 0));
        break;
    case 3:
        issue(run, i, CMD_CFGI_STE(sid));
        break;
    case 4:
        /* A StreamID of no device */
        issue(run, i, CMD_CFGI_CD_ALL(0xfff8));
        break;
    case 6:
        issue(run, i, CMD_ATC_INV(sid, VA_BASE, op->r[1] % 53));
        break;
    case 7:
        issue(run, i, CMD_ATC_INV_SSID(sid, op->r[1] & 0xfffff,
                                       op->r[2] >> 8 & 1, VA_BASE, 3));
        break;
    default:
        issue(run, i, CMD_TLBI_NH_VAA(VA_BASE, 0));
    }
    run->smmu[i].pending = true;
}

static void do_toggle(Run *run, unsigned i, const Op *op)
{
    HostGuest *g = run->g;

    cmd_sync(run, i);
    if (!g->smmu[i].enabled) {
        smmu_enable(g, i);
        wait_for_slow_host(run, i);
    } else if (op->r[1] % 4 == 0) {
        smmu_disable(g, i);
    }
}

static void execute(Run *run, const Op *op)
{
    unsigned dev = op->r[0] % N_DEVS, i = op->r[0] % N_SMMUS;
    Space *space = &run->smmu[i].space[(op->r[0] >> 8) % N_SPACES];
    int n;

    switch (op->kind) {
    case OP_DMA:
        if (!run->g->dev[dev].present && op->r[3] % 4 == 0) {
            do_plug(run, dev);
        }
        if (run->smmu[smmu_of(dev)].pending) {
            cmd_sync(run, smmu_of(dev));
        }
        n = pick_ssid(run, dev, op->r[2] >> 8);
        check(run, dev, n, run->smmu[smmu_of(dev)].ats && op->r[2] & 2,
              pick_iova(run, dev, n, op->r[1]), op->r[2] & 1);
        break;
    case OP_MAP_PAGE:
    case OP_UNMAP_PAGE:
    case OP_PROTECT_PAGE:
    case OP_REMAP_PAGE:
        do_page(run, i, space, op);
        break;
    case OP_MAP_BLOCK:
        do_map_block(run, i, space, op);
        break;
    case OP_UNMAP_REGION:
        do_unmap_region(run, i, space, op);
        break;
    case OP_UNMAP_L1:
        do_unmap_l1(run, i, space, op);
        break;
    case OP_CD:
    case OP_CD_OF_IDLE:
        do_cd(run, dev, op);
        break;
    case OP_LEAF:
        do_leaf(run, dev, op);
        break;
    case OP_STE:
        do_ste(run, dev, op);
        break;
    case OP_STE_SAME:
        do_ste_same(run, dev, op);
        break;
    case OP_ASID:
        do_asid(run, i, space, op);
        break;
    case OP_TOGGLE:
        do_toggle(run, i, op);
        break;
    case OP_GBPA:
        run->smmu[i].gbpa_abort = op->r[1] & 1;
        smmu_gbpa(run->g, i, op->r[1] & 1);
        break;
    case OP_BUS:
        do_bus(run, dev, op);
        break;
    case OP_RESET:
        if (run->g->dev[dev].present) {
            host_flr(run->g, dev);
            forget_attributes(run, dev);
        }
        break;
    case OP_PLUG:
        do_plug(run, dev);
        break;
    case OP_NOISE:
        do_noise(run, i, op);
        break;
    default:
        cmd_sync(run, i);
    }
}

/*
 * Runs
 */

typedef struct Flavour {
    const char *name;
    const char *host;
    const char *smmu_args;
    uint32_t seed;
    const char *device;                 /* whether it has PASIDs and ATS */
    bool slow;                          /* a thread calls the host */
    bool poll;                          /* a thread watches the VCMDQs */
} Flavour;

/* QEMU calls the host from a thread for a minute after one slow call */
static void make_slow(Run *run)
{
    qobject_unref(host_control(run->g, "fail IOMMU_HWPT_INVALIDATE~120000"));
    for (unsigned i = 0; i < N_SMMUS; i++) {
        smmu_cmd(run->g, i, CMD_TLBI_NH_ASID(99));
        cmd_sync(run, i);
    }
    qobject_unref(host_control(run->g, "fail clear"));
}

/* Each device has tables of two formats, if it has SSIDs. The ends are used. */
static void make_table(Run *run, unsigned dev, unsigned slot, bool ssids)
{
    static const struct {
        uint64_t fmt;
        unsigned bits;
        uint32_t ssid[N_SSIDS];
    } kinds[] = {
        { S1FMT_LINEAR, 4, { 0, 1, 8, 15 } },
        { S1FMT_4K, 10, { 0, 63, 64, 1023 } },
        { S1FMT_64K, 20, { 0, 1023, 1024, 0xfffff } },
        { S1FMT_LINEAR, 0, { 0, 1, 2, 0xfffff } },
    };
    unsigned kind = ssids ? (dev * 2 + slot * 5) % 4 : 3;
    CdTable *t = &run->dev[dev].table[slot];
    unsigned bits;

    t->fmt = kinds[kind].fmt;
    t->bits = kinds[kind].bits;
    t->n = t->bits ? N_SSIDS : 1;
    memcpy(t->ssid, kinds[kind].ssid, sizeof(t->ssid));
    bits = leaf_bits(t);
    t->base = host_alloc(run->g, t->fmt ? 8ull << (t->bits - bits)
                                        : 64ull << t->bits);
    for (unsigned n = 0; t->fmt && n < t->n; n++) {
        uint64_t *l1 = host_ram(run->g, t->base + (t->ssid[n] >> bits) * 8ull);
        unsigned same = n && t->ssid[n - 1] >> bits == t->ssid[n] >> bits;

        for (unsigned k = 0; k < 2; k++) {
            t->leaf[n][k] = same ? t->leaf[n - 1][k]
                                 : host_alloc(run->g, 64ull << bits);
        }
        set(l1, t->leaf[n][0] | 1);
    }
    for (unsigned n = 0; n < t->n; n++) {
        write_cd(run, dev, slot, n, (dev + slot + n) % N_SPACES);
    }
}

static void begin(Run *run, const Flavour *f)
{
    HostGuestConfig config = {
        .n_vsmmus = N_SMMUS, .n_psmmus = 1, .n_devs = N_DEVS,
        .host = f->host, .smmu_args = f->smmu_args, .device = f->device,
    };
    bool pasids = f->device && strstr(f->device, "pasid");
    HostGuest *g;

    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        config.dev[dev].vsmmu = smmu_of(dev);
    }
    *run = (Run) { .drop_at = -1 };
    run->g = g = host_guest_new(&config);
    run->pool = host_alloc(g, POOL_SIZE);
    run->poison = host_alloc(g, 4096);
    for (uint64_t at = 0; at < POOL_SIZE; at += 4096) {
        *(uint64_t *)host_ram(g, run->pool + at) = TAG(run->pool + at);
    }
    *(uint64_t *)host_ram(g, run->poison) = TAG(0xdeadull);
    for (unsigned i = 0; i < N_SMMUS; i++) {
        for (unsigned n = 0; n < N_SPACES; n++) {
            Space *space = &run->smmu[i].space[n];

            space->asid = n + 1;
            space->root = host_alloc(g, 4096);
            for (unsigned t = 0; t < 4; t++) {
                space->l2[t / 2][t % 2] = host_alloc(g, 4096);
            }
            for (unsigned t = 0; t < 2 * N_REGIONS; t++) {
                space->region[t / 2].table[t % 2] = host_alloc(g, 4096);
            }
        }
        run->smmu[i].ril = smmu_read(g, i, SMMU_IDR3) & (1 << 10);
        run->smmu[i].ats = smmu_read(g, i, SMMU_IDR0) & (1 << 10);
        run->smmu[i].pasids = pasids;
        smmu_enable(g, i);
        if (f->smmu_args && strstr(f->smmu_args, "cmdqv=on")) {
            vcmdqs_on(run, i);
            run->smmu[i].hw = strstr(f->host, "cmdqv");
            run->smmu[i].poll = f->poll;
            if (run->smmu[i].hw) {
                host_allow(g, SAID_SHORT_QUEUES);
            }
        }
        inv(run, i, CMD_CFGI_ALL);
        inv(run, i, CMD_TLBI_NSNH_ALL);
        cmd_sync(run, i);
    }
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        Device *d = &run->dev[dev];

        for (unsigned slot = 0; slot < N_TABLES; slot++) {
            make_table(run, dev, slot, pasids);
        }
        forget_attributes(run, dev);
        d->ste = STE_IS_S1;
        d->dss = DSS_SSID0;
        d->eats = true;
        write_ste(run, dev, host_sid(g, dev));
        inv_ste(run, smmu_of(dev), host_sid(g, dev), 7);
        cmd_sync(run, smmu_of(dev));
    }
}

static void end(Run *run)
{
    if (!run->failure) {
        host_check_empty(run->g);
    }
    host_guest_free(run->g);
    g_free(run->failure);
}

static void check_counters(Run *run)
{
    uint64_t stale = host_counter(run->g, "smmu.stale") +
                     host_counter(run->g, "atc.stale");
    uint64_t conflicts = host_counter(run->g, "smmu.conflict");

    if (stale || conflicts) {
        fail(run, "the host model saw %" PRIu64 " stale hits, %" PRIu64
             " conflicting entries", stale, conflicts);
    }
}

/* At the end of a run: were the VCMDQs where the flavour wants them? */
static void check_vcmdqs(Run *run)
{
    unsigned polled = 0;

    for (unsigned i = 0; i < N_SMMUS; i++) {
        polled += run->smmu[i].polled;
    }
    if (run->smmu[0].poll && !polled) {
        fail(run, "no thread watches the VCMDQs");
    }
    if (run->smmu[0].hw && host_counter(run->g, "vcmdq.sync") < 100) {
        fail(run, "the hardware does not have the VCMDQs");
    }
}

/* Run @ops; returns the index of the one that failed, or -1 */
static int play(Run *run, const Op *ops, int n, bool slow)
{
    for (int at = 0; at < n; at++) {
        run->at = at;
        if (slow && at % 4096 == 0) {
            make_slow(run);
        }
        execute(run, &ops[at]);
        if (at % 4096 == 4095 || at == n - 1) {
            run->at = -2;
            check_all(run);
            check_counters(run);
            if (at == n - 1 && n >= 10000) {
                check_vcmdqs(run);
            }
        } else if (at % 256 == 0) {
            check_counters(run);
        }
        if (run->failure) {
            return at;
        }
    }
    return -1;
}

static Op random_op(GRand *rand)
{
    unsigned total = 0, pick;
    Op op = {};

    for (OpKind kind = 0; kind < OP_KINDS; kind++) {
        total += op_info[kind].weight;
    }
    pick = g_rand_int_range(rand, 0, total);
    while (pick >= op_info[op.kind].weight) {
        pick -= op_info[op.kind++].weight;
    }
    for (int n = 0; n < 4; n++) {
        op.r[n] = g_rand_int(rand);
    }
    return op;
}

static Op *random_ops(uint32_t seed, int n)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    Op *ops = g_new(Op, n);

    for (int at = 0; at < n; at++) {
        ops[at] = random_op(rand);
    }
    return ops;
}

static bool still_fails(const Flavour *f, const Op *ops, int n)
{
    Run run;
    bool fails;

    begin(&run, f);
    fails = play(&run, ops, n, f->slow) >= 0;
    end(&run);
    return fails;
}

/* Remove operations that the failure does not need: halves, quarters, ... */
static int shrink(const Flavour *f, Op *ops, int n)
{
    int tries = 150;

    for (int size = n / 2; size && tries; size /= 2) {
        for (int at = 0; at + size <= n && tries; ) {
            g_autofree Op *without = g_new(Op, n);

            memcpy(without, ops, at * sizeof(Op));
            memcpy(without + at, ops + at + size,
                   (n - at - size) * sizeof(Op));
            tries--;
            if (still_fails(f, without, n - size)) {
                n -= size;
                memcpy(ops, without, n * sizeof(Op));
            } else {
                at += size;
            }
        }
    }
    return n;
}

static void report(const Flavour *f, uint32_t seed, Op *ops, int n,
                   const char *failure)
{
    g_test_message("seed %u (%s): operation %d: %s", seed, f->name, n - 1,
                   failure);
    n = shrink(f, ops, n);
    g_test_message("%d operations are enough:", n);
    for (int at = 0; at < n; at++) {
        g_test_message("  %s %08x %08x %08x %08x", op_info[ops[at].kind].name,
                       ops[at].r[0], ops[at].r[1], ops[at].r[2],
                       ops[at].r[3]);
    }
    g_test_fail();
}

/* While a thread watches, a run takes four times as long */
static int operations(const Flavour *f)
{
    const char *n = getenv("SMMUV3_OPERATIONS");

    return n ? atoi(n) : f->poll ? 12500 : 50000;
}

/* Returns false if it failed; the failure has been reported */
static bool run_seed(const Flavour *f, uint32_t seed)
{
    int n = operations(f);
    g_autofree Op *ops = random_ops(seed, n);
    g_autofree char *failure = NULL;
    Run run;
    int at;

    begin(&run, f);
    at = play(&run, ops, n, f->slow);
    g_test_message("seed %u (%s): %d operations, %lu DMAs (%lu must fault), "
                   "%lu invalidations, %lu with SSIDs, %lu by an ATC", seed,
                   f->name, at < 0 ? n : at + 1, run.dmas, run.faults,
                   run.invalidations, run.with_ssid, run.by_atc);
    failure = g_strdup(run.failure);
    end(&run);
    if (at >= 0) {
        report(f, seed, ops, at + 1, failure);
    }
    return at < 0;
}

static bool skipped(void)
{
    if (host_model_available()) {
        return false;
    }
    g_test_skip("QTEST_HOST_MODEL does not name the host model");
    return true;
}

static void test_random(const void *opaque)
{
    const Flavour *flavour = opaque;
    const char *seed = getenv("SMMUV3_SEED");
    const char *soak = getenv("SMMUV3_SOAK");
    int64_t until = g_get_monotonic_time() +
                    (soak ? atoll(soak) * G_USEC_PER_SEC : 0);
    uint32_t next = seed ? g_ascii_strtoull(seed, NULL, 0)
                    : soak ? g_random_int() : flavour->seed;

    if (skipped()) {
        return;
    }
    do {
        if (!run_seed(flavour, next++)) {
            break;
        }
    } while (g_get_monotonic_time() < until);
}

/*
 * The test of the test: a guest that leaves out one invalidation is caught
 * every time.
 */

/* Does @op, now, change a translation that DMA uses? */
static bool matters(Run *run, const Op *op)
{
    unsigned i = op->r[0] % N_SMMUS, n = op->r[1] % N_REGIONS;
    int at = (op->r[0] >> 8) % N_SPACES;
    Space *space = &run->smmu[i].space[at];
    Region *region = &space->region[n];
    unsigned page = (op->r[1] >> 8) % N_PAGES;
    bool used = false;

    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        Device *d = &run->dev[dev];

        used |= smmu_of(dev) == i && d->ste == STE_IS_S1 &&
                d->table[d->used].space[0] == at;
    }
    if (!used || !run->g->smmu[i].enabled || !space->l1_valid[n / 2]) {
        return false;
    }
    switch (op->kind) {
    case OP_UNMAP_PAGE:
    case OP_PROTECT_PAGE:
        return region->kind == TABLE && region->page[page].valid;
    case OP_UNMAP_REGION:
        return region->kind == BLOCK ||
               (region->kind == TABLE && region->page[0].valid);
    default:
        return false;
    }
}

/* Does @op, now, change a CD or an STE that DMA uses? */
static bool matters_to_device(Run *run, const Op *op)
{
    unsigned dev = op->r[0] % N_DEVS;
    Device *d = &run->dev[dev];
    Space *space;

    if (d->ste != STE_IS_S1 || !run->g->smmu[smmu_of(dev)].enabled ||
        d->table[d->used].space[0] < 0) {
        return false;
    }
    space = &run->smmu[smmu_of(dev)].space[d->table[d->used].space[0]];
    if (!space->l1_valid[0] || space->region[0].kind != BLOCK) {
        return false;
    }
    switch (op->kind) {
    case OP_CD:
        return pick_space(op) < 0 &&
               op->r[1] % N_TABLES == d->used;
    case OP_STE:
        return pick_ste(op) != STE_IS_S1;
    default:
        return false;
    }
}

static void test_forgotten(const void *opaque)
{
    static const Flavour flavour = { "forgotten" };
    OpKind kind = GPOINTER_TO_INT(opaque);
    unsigned caught = 0, runs = 4;

    if (skipped()) {
        return;
    }
    for (uint32_t seed = 1; seed <= runs; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed * 7919);
        Run run;

        begin(&run, &flavour);
        /* Unplugging the last device would also remove the stale entries */
        run.no_plug = true;
        for (run.at = 0; !run.dropped && run.at < 200000; run.at++) {
            Op op = random_op(rand);

            if (run.at > 300 && op.kind == kind &&
                (matters(&run, &op) || matters_to_device(&run, &op))) {
                run.drop_at = -1;
                check_all(&run);
                run.drop_at = run.at;
            }
            execute(&run, &op);
            g_assert_cmpstr(run.failure, ==, NULL);
        }
        g_assert_true(run.dropped);
        run.at = -2;
        check_all(&run);
        check_counters(&run);
        if (run.failure) {
            caught++;
        } else {
            g_test_message("seed %u: not caught", seed);
        }
        end(&run);
    }
    g_assert_cmpuint(caught, ==, runs);
}

int main(int argc, char **argv)
{
    static const char both[] = "pasid=20\nats=on";
    static const Flavour flavours[] = {
        { "grace", "profile=grace", NULL, 1, both },
        { "kunpeng", "profile=kunpeng", NULL, 2, both },
        { "ril-off", "profile=grace", ",ril=off", 3 },
        { "asid8", "profile=asid8", NULL, 4, "pasid=20" },
        { "ats", "profile=neoverse", ",ssidsize=0", 6, "ats=on" },
        { "tegra264", "profile=tegra264", NULL, 5, both },
        { "slow", "profile=grace", NULL, 7, both, true },
        { "cmdqv", "profile=grace", ",cmdqv=on", 8, both },
        { "cmdqv-erratum", "profile=tegra264", ",cmdqv=on,ril=off", 9, both },
        { "cmdqv-slow", "profile=grace", ",cmdqv=on", 10, both, true },
        { "cmdqv-poll", "profile=grace", ",cmdqv=on,cmdqv-poll-us=1000000", 11,
          both, .poll = true },
        { "cmdqv-hw", "profile=grace-cmdqv", ",cmdqv=on", 12, both },
    };
    static const OpKind forgotten[] = {
        OP_UNMAP_PAGE, OP_PROTECT_PAGE, OP_UNMAP_REGION, OP_CD, OP_STE,
    };

    g_test_init(&argc, &argv, NULL);
    for (int n = 0; n < ARRAY_SIZE(flavours); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-coherence/random/%s",
                                                flavours[n].name);

        qtest_add_data_func(path, &flavours[n], test_random);
    }
    for (int n = 0; n < ARRAY_SIZE(forgotten); n++) {
        g_autofree char *path =
            g_strdup_printf("/smmuv3-coherence/forgotten/%s",
                            op_info[forgotten[n]].name);

        qtest_add_data_func(path, GINT_TO_POINTER(forgotten[n]),
                            test_forgotten);
    }
    return g_test_run();
}
