/*
 * Accelerated SMMUv3: the registers of a Tegra241 CMDQV
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One table per page says what each register does.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "smmuv3-accel-tegra241.h"
#include "smmuv3-internal.h"     /* the architecture's constants */

#define ENABLE          BIT(0)  /* in each CONFIG, and ENABLED in each STATUS */

#define PARAM_VERSION   1       /* bits 3:0; 7:4 log2 of VCMDQs */

#define ALLOC_ALLOCATED BIT(0)
#define ALLOC_LVCMDQ    MAKE_64BIT_MASK(1, 7)
#define ALLOC_VINTF     MAKE_64BIT_MASK(15, 6)

#define VINTF_VMID      MAKE_64BIT_MASK(1, 16)
#define SID_MATCH       MAKE_64BIT_MASK(0, 21)

#define INDEX           MAKE_64BIT_MASK(0, SMMU_CMDQS + 1)
#define CONS_ERR        R_CMDQ_CONS_ERR_MASK
#define BASE_LOG2SIZE   MAKE_64BIT_MASK(0, 5)
#define BASE_ADDR       MAKE_64BIT_MASK(5, 43)

/*
 * A register, or @count of them in a row.  It has a @cell in the state, or a
 * value that is derived from other registers.
 */
typedef struct Tegra241Reg {
    uint16_t offset;            /* in its page; of a VCMDQ, in its 0x80 bytes */
    uint16_t count;
    uint32_t writable;          /* bits; all others read as they are */
    bool locked;                /* not writable while CONFIG.EN is set */
    size_t cell;                /* offset of the first in its struct */
    size_t stride;              /* from there to the next */
    uint32_t (*derive)(const Tegra241 *t, unsigned i);
} Tegra241Reg;

#define CELL(field)     .cell = offsetof(Tegra241, field)
#define VCELL(field)    .cell = offsetof(Tegra241Vcmdq, field)

/*
 * What is derived
 */

bool tegra241_enabled(const Tegra241 *t)
{
    return t->config & t->vintf_config & ENABLE;
}

/* The logical VCMDQ of VINTF0 that VCMDQ @i is allocated to, or -1 */
static int logical(const Tegra241 *t, unsigned i)
{
    uint32_t alloc = t->vcmdq[i].alloc;
    unsigned lvcmdq = extract32(alloc, 1, 7);

    if (!(alloc & ALLOC_ALLOCATED) || (alloc & ALLOC_VINTF) ||
        lvcmdq >= TEGRA241_VCMDQS) {
        return -1;
    }
    return lvcmdq;
}

/* The VCMDQ that a logical one is, or -1; if the guest names two, the first */
int tegra241_physical(const Tegra241 *t, unsigned lvcmdq)
{
    for (unsigned i = 0; i < TEGRA241_VCMDQS; i++) {
        if (logical(t, i) == lvcmdq) {
            return i;
        }
    }
    return -1;
}

bool tegra241_runs(const Tegra241 *t, unsigned i)
{
    int lvcmdq = logical(t, i);

    return tegra241_enabled(t) && (t->vcmdq[i].config & ENABLE) &&
           lvcmdq >= 0 && tegra241_physical(t, lvcmdq) == i;
}

bool tegra241_halted(const Tegra241 *t, unsigned i)
{
    return t->vcmdq[i].gerror != t->vcmdq[i].gerrorn;
}

static uint32_t param(const Tegra241 *t, unsigned i)
{
    /* One SID slot (15:12) and one VINTF (11:8): their logarithms are 0 */
    return TEGRA241_LOG2_VCMDQS << 4 | PARAM_VERSION;
}

static uint32_t status(const Tegra241 *t, unsigned i)
{
    return t->config & ENABLE;
}

static uint32_t vintf_status(const Tegra241 *t, unsigned i)
{
    return tegra241_enabled(t);
}

static uint32_t vcmdq_status(const Tegra241 *t, unsigned i)
{
    return tegra241_runs(t, i);
}

static uint32_t cmdq_err_map(const Tegra241 *t, unsigned word)
{
    uint32_t map = 0;

    for (unsigned i = 0; i < TEGRA241_VCMDQS && !word; i++) {
        map |= tegra241_halted(t, i) << i;
    }
    return map;
}

static uint32_t lvcmdq_err_map(const Tegra241 *t, unsigned word)
{
    uint32_t map = 0;

    for (unsigned l = 0; l < TEGRA241_VCMDQS && !word; l++) {
        int i = tegra241_physical(t, l);

        map |= (i >= 0 && tegra241_halted(t, i)) << l;
    }
    return map;
}

static uint32_t vintf_err_map(const Tegra241 *t, unsigned word)
{
    return !word && lvcmdq_err_map(t, 0);
}

/*
 * The tables
 */

static const Tegra241Reg config_page[] = {
    /* CONFIG: enables all */
    { 0x0000, 1, ENABLE, CELL(config) },
    /* PARAM: how many there are */
    { 0x0004, 1, .derive = param },
    /* STATUS: shows what is enabled */
    { 0x0008, 1, .derive = status },
    /* VINTF_ERR_MAP: bit 0, whether a logical VCMDQ of VINTF0 halts */
    { 0x0014, 2, .derive = vintf_err_map },
    /* VINTF_INT_MASK: bit 0 keeps the interrupt from being raised */
    { 0x001c, 1, BIT(0), CELL(vintf_int_mask) },
    /* CMDQ_ERR_MAP: which VCMDQs halt */
    { 0x0024, 4, .derive = cmdq_err_map },
    /* CMDQ_ALLOC: which logical VCMDQ a VCMDQ is */
    { 0x0200, TEGRA241_VCMDQS, ALLOC_VINTF | ALLOC_LVCMDQ | ALLOC_ALLOCATED,
      CELL(vcmdq[0].alloc), .stride = sizeof(Tegra241Vcmdq) },
    /* VINTF0_CONFIG: enables it; HYP_OWN (bit 17) is 0 for a guest */
    { 0x1000, 1, VINTF_VMID | ENABLE, CELL(vintf_config) },
    /* VINTF0_STATUS */
    { 0x1004, 1, .derive = vintf_status },
    /* VINTF0_SID_MATCH, VINTF0_SID_REPLACE: without effect */
    { 0x1040, 1, SID_MATCH, CELL(sid_match) },
    { 0x1080, 1, UINT32_MAX, CELL(sid_replace) },
    /* VINTF0_LVCMDQ_ERR_MAP_64: which logical VCMDQs halt */
    { 0x10c0, 4, .derive = lvcmdq_err_map },
};

/* Of each VCMDQ and logical VCMDQ */
static const Tegra241Reg vcmdq_page0[] = {
    /* CONS: the next command to carry out; ERR says why it halts */
    { 0x00, 1, INDEX | CONS_ERR, true, VCELL(q.cons) },
    /* PROD: behind the last command; a write starts the drain */
    { 0x04, 1, INDEX, VCELL(q.prod) },
    /* CONFIG: enables it */
    { 0x08, 1, ENABLE, VCELL(config) },
    /* STATUS: whether it runs */
    { 0x0c, 1, .derive = vcmdq_status },
    /* GERROR: bit 0 differs from GERRORN while it halts (IHI 0070 6.3.19) */
    { 0x10, 1, 0, VCELL(gerror) },
    /* GERRORN: the guest acknowledges an error */
    { 0x14, 1, R_GERROR_CMDQ_ERR_MASK, VCELL(gerrorn) },
};

static const Tegra241Reg vcmdq_page1[] = {
    /* BASE: where its commands are, and log2 of how many */
    { 0x00, 1, BASE_LOG2SIZE | (uint32_t)BASE_ADDR, true, VCELL(base[0]) },
    { 0x04, 1, BASE_ADDR >> 32, true, VCELL(base[1]) },
    /* CONS_INDX_BASE: without effect */
    { 0x08, 1, UINT32_MAX, true, VCELL(cons_indx_base[0]) },
    { 0x0c, 1, UINT32_MAX, true, VCELL(cons_indx_base[1]) },
};

static const Tegra241Reg *find(const Tegra241Reg *regs, size_t n,
                               unsigned offset, unsigned *i)
{
    for (; n; n--, regs++) {
        if (offset >= regs->offset && offset < regs->offset + 4 * regs->count) {
            *i = (offset - regs->offset) / 4;
            return regs;
        }
    }
    return NULL;
}

/*
 * The register at @offset.  Sets @i to its number in a row, or to its VCMDQ.
 * Sets @base to the struct that has its cell.
 */
static const Tegra241Reg *look_up(const Tegra241 *t, hwaddr offset,
                                  unsigned *i, const void **base)
{
    unsigned page = offset / TEGRA241_PAGE, in_page = offset % TEGRA241_PAGE;
    int vcmdq = in_page / TEGRA241_STRIDE;
    const Tegra241Reg *reg;

    *base = t;
    if (!page) {
        return find(config_page, ARRAY_SIZE(config_page), in_page, i);
    }
    if (vcmdq >= TEGRA241_VCMDQS) {
        return NULL;
    }
    if (page > 2) {
        vcmdq = tegra241_physical(t, vcmdq);
        page -= 2;
    }
    if (vcmdq < 0) {
        return NULL;
    }
    in_page %= TEGRA241_STRIDE;
    reg = page == 1 ?
          find(vcmdq_page0, ARRAY_SIZE(vcmdq_page0), in_page, i) :
          find(vcmdq_page1, ARRAY_SIZE(vcmdq_page1), in_page, i);
    *base = &t->vcmdq[vcmdq];
    *i = vcmdq;
    return reg;
}

static uint32_t *cell_of(const Tegra241Reg *reg, unsigned i, const void *base)
{
    return (uint32_t *)((uint8_t *)base + reg->cell + i * reg->stride);
}

uint32_t tegra241_read(const Tegra241 *t, hwaddr offset)
{
    const void *base;
    unsigned i;
    const Tegra241Reg *reg = look_up(t, offset, &i, &base);

    if (!reg) {
        return 0;
    }
    return reg->derive ? reg->derive(t, i) : *cell_of(reg, i, base);
}

/* IDR1.CMDQS bounds the size; Q_BASE() aligns the address to it */
static void set_queue(Tegra241Vcmdq *vcmdq)
{
    SMMUQueue *q = &vcmdq->q;

    q->base = (uint64_t)vcmdq->base[1] << 32 | vcmdq->base[0];
    q->log2size = MIN(vcmdq->base[0] & BASE_LOG2SIZE, SMMU_CMDQS);
    q->entry_size = sizeof(struct Cmd);
}

bool tegra241_write(Tegra241 *t, hwaddr offset, uint32_t value)
{
    const void *base;
    unsigned i;
    const Tegra241Reg *reg = look_up(t, offset, &i, &base);
    uint32_t *cell;

    if (!reg || !reg->writable ||
        (reg->locked && (t->vcmdq[i].config & ENABLE))) {
        return false;
    }
    cell = cell_of(reg, i, base);
    *cell = (*cell & ~reg->writable) | (value & reg->writable);
    if (base != t) {
        set_queue(&t->vcmdq[i]);
    }
    return true;
}

bool tegra241_interrupts(const Tegra241 *t)
{
    return cmdq_err_map(t, 0) && !(t->vintf_int_mask & BIT(0));
}

void tegra241_take(Tegra241 *t, unsigned i,
                   const uint32_t page0[TEGRA241_PAGE0_END / 4])
{
    Tegra241Vcmdq *vcmdq = &t->vcmdq[i];

    vcmdq->q.cons = page0[0] & (INDEX | CONS_ERR);
    vcmdq->q.prod = page0[1] & INDEX;
    vcmdq->config = page0[2] & ENABLE;
    vcmdq->gerror = page0[4] & R_GERROR_CMDQ_ERR_MASK;
    vcmdq->gerrorn = page0[5] & R_GERROR_CMDQ_ERR_MASK;
}

void tegra241_give(const Tegra241 *t, unsigned i,
                   uint32_t page0[TEGRA241_PAGE0_END / 4])
{
    const Tegra241Vcmdq *vcmdq = &t->vcmdq[i];

    page0[0] = vcmdq->q.cons;
    page0[1] = vcmdq->q.prod;
    page0[2] = vcmdq->config;
    page0[3] = vcmdq_status(t, i);
    page0[4] = vcmdq->gerror;
    page0[5] = vcmdq->gerrorn;
}

bool tegra241_set_error(Tegra241 *t, unsigned i, unsigned error)
{
    Tegra241Vcmdq *vcmdq = &t->vcmdq[i];

    vcmdq->q.cons = FIELD_DP32(vcmdq->q.cons, CMDQ_CONS, ERR, error);
    vcmdq->gerror ^= R_GERROR_CMDQ_ERR_MASK;
    return !(t->vintf_int_mask & BIT(0));
}

void tegra241_reset(Tegra241 *t)
{
    *t = (Tegra241) { };
    for (unsigned i = 0; i < TEGRA241_VCMDQS; i++) {
        set_queue(&t->vcmdq[i]);
    }
}
