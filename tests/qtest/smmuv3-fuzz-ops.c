/*
 * A hostile guest of accelerated SMMUv3s: what it does
 *
 * Each operation is valid for any bytes. Values come from the ends: see
 * extreme(). Nothing here is true of QEMU that smmuv3-fuzz.c does not check.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/host-utils.h"
#include "qemu/units.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-fuzz.h"
#include "smmuv3-test-util.h"

#define PICK(array, n)  ((array)[(n) % ARRAY_SIZE(array)])

/* Where a guest may point, and where it should not */
static uint64_t place(Fuzz *f, uint64_t x)
{
    const uint64_t places[] = {
        f->first_free, f->pages[0], f->pages[1], HOST_RAM_BASE,
        HOST_RAM_BASE + HOST_RAM_SIZE - 64, HOST_RAM_BASE + HOST_RAM_SIZE,
        f->g->smmu[x >> 16 & 3].cmdq, f->g->smmu[x >> 16 & 3].eventq,
        f->g->smmu[x >> 16 & 3].strtab, f->smmu[x >> 16 & 3].cd[0],
        f->g->smmu[x >> 16 & 3].base, VIRT_PLATFORM_BUS_BASE + 0x80000,
        VIRT_PCIE_MMIO_BASE, VIRT_ECAM_BASE, 0, HOST_MSI_WINDOW, 0x08080000,
        f->edu,
    };

    return PICK(places, x) + (x >> 32 & 0xffff);
}

/* A value that is likely to be at the end of something */
static uint64_t extreme(Fuzz *f, unsigned how, uint64_t x)
{
    switch (how % 8) {
    case 0:
        return x;
    case 1:
        return 1ull << (x & 63);
    case 2:
        return MAKE_64BIT_MASK(0, (x & 63) + 1);
    case 3:
        return ~0ull << (x & 63);
    case 4:
        return place(f, x);
    case 5:
        return x & 0xff;
    case 6:
        return (place(f, x) & ~0xfffull) | (x >> 24 & 0x1f);
    default:
        return (~0ull << (x & 63)) ^ (x >> 8 & 0xffff) << 12;
    }
}

static void set(void *at, uint64_t value)
{
    qatomic_set((uint64_t *)at, cpu_to_le64(value));
}

static unsigned smmu_of(const FuzzOp *op)
{
    return op->target % FUZZ_SMMUS;
}

static unsigned dev_of(const FuzzOp *op)
{
    return (op->target >> 2 & 7) % FUZZ_DEVS;
}

static uint32_t pick_sid(Fuzz *f, unsigned how, uint64_t x)
{
    switch (how % 16) {
    case 8:
        return x;
    case 9:
        return x & 0xffff;
    case 10:
        return extreme(f, x >> 56, x);
    case 11:
        return f->g->dev[x % FUZZ_DEVS].bus << 8 | (x >> 8 & 0xff);
    default:
        return hostile_sid(f, how % 8);
    }
}

/*
 * Registers
 */

static void op_write(Fuzz *f, const FuzzOp *op)
{
    static const uint32_t regs[] = {
        SMMU_CR0, 0x28, SMMU_CR2, SMMU_GBPA, 0x48, SMMU_IRQ_CTRL, SMMU_GERRORN,
        0x68, 0x6c, 0x70, 0x74, 0x80, 0x84, 0x88, 0x90, 0x94, 0x98, 0x9c,
        0xa0, 0xa4, 0xb0, 0xb4, 0xb8, 0xbc, 0x100a8, 0x100ac, 0x24, 0x54, 0x60,
        0x0, 0x40, 0xc0,
    };
    uint64_t at = f->g->smmu[smmu_of(op)].base +
                  (op->a & 0x80 ? op->e & 0x1fff8 : PICK(regs, op->a));
    uint64_t value = extreme(f, op->b, op->x);

    switch (op->c % 8) {
    case 0:
        qtest_writeq(f->g->qts, at & ~7ull, value);
        break;
    case 1:
        qtest_readl(f->g->qts, at);
        break;
    case 2:
        qtest_readq(f->g->qts, at & ~7ull);
        break;
    case 3:
        qtest_writew(f->g->qts, at, value);
        break;
    case 4:
        qtest_writeb(f->g->qts, at + 1, value);
        break;
    default:
        qtest_writel(f->g->qts, at, value);
    }
}

static void op_cr0(Fuzz *f, const FuzzOp *op)
{
    unsigned i = smmu_of(op);

    /* Mostly the SMMU stays enabled */
    smmu_write(f->g, i, SMMU_CR0, op->a & 0xc0 ? 1 | (op->a & 0x3f) | 8
                                               : op->a);
    f->g->smmu[i].enabled = smmu_read(f->g, i, SMMU_CR0) & 1;
}

static void op_gbpa(Fuzz *f, const FuzzOp *op)
{
    smmu_write(f->g, smmu_of(op), SMMU_GBPA,
               (op->a & 1 ? SMMU_GBPA_UPDATE : 0) |
               (op->a & 2 ? SMMU_GBPA_ABORT : 0) | (uint32_t)op->x);
}

static void op_ack(Fuzz *f, const FuzzOp *op)
{
    unsigned i = smmu_of(op);

    smmu_write(f->g, i, SMMU_GERRORN, smmu_read(f->g, i, SMMU_GERROR));
    if (op->a & 1) {
        /* As Linux: what is left becomes CMD_SYNCs */
        for (unsigned n = 0; n < 1u << HOST_CMDQ_LOG2; n++) {
            uint64_t *slot = host_ram(f->g, f->g->smmu[i].cmdq + 16 * n);

            set(slot, 0x46);
            set(slot + 1, 0);
        }
        hostile_kick(f, i);
    }
    if (op->a & 2) {
        smmu_write(f->g, i, SMMU_EVENTQ_CONS,
                   smmu_read(f->g, i, SMMU_EVENTQ_PROD));
    }
}

/* An SMMU that works: queues, interrupts by message */
static void op_enable(Fuzz *f, const FuzzOp *op)
{
    unsigned i = smmu_of(op);

    if (op->a & 1) {
        smmu_write(f->g, i, SMMU_CR0, 0);
        smmu_write64(f->g, i, SMMU_EVENTQ_IRQ_CFG,
                     extreme(f, op->b, op->x));
        smmu_write64(f->g, i, SMMU_GERROR_IRQ_CFG,
                     extreme(f, op->c, op->x));
        smmu_write(f->g, i, SMMU_IRQ_CTRL, 5);
    }
    if (smmu_read(f->g, i, SMMU_CMDQ_CONS) >> 24) {
        smmu_write(f->g, i, SMMU_CR0, 0);
    }
    smmu_write(f->g, i, SMMU_GERRORN, smmu_read(f->g, i, SMMU_GERROR));
    smmu_enable(f->g, i);
    f->g->smmu[i].prod = smmu_read(f->g, i, SMMU_CMDQ_PROD) &
                         ((2u << HOST_CMDQ_LOG2) - 1);
}

/* Queues at other places, of other sizes */
static void op_queue(Fuzz *f, const FuzzOp *op)
{
    unsigned i = smmu_of(op);
    uint64_t base = (extreme(f, op->b, op->x) & ~0x1full) | (op->c & 0x1f);

    smmu_write(f->g, i, SMMU_CR0, 0);
    if (op->a & 1) {
        smmu_write64(f->g, i, SMMU_CMDQ_BASE, base);
        smmu_write(f->g, i, SMMU_CMDQ_CONS, op->a & 4 ? op->d : 0);
        smmu_write(f->g, i, SMMU_CMDQ_PROD, op->a & 8 ? op->e : 0);
    }
    if (op->a & 2) {
        smmu_write64(f->g, i, SMMU_EVENTQ_BASE, base);
        smmu_write(f->g, i, SMMU_EVENTQ_CONS, op->a & 4 ? op->d : 0);
        smmu_write(f->g, i, SMMU_EVENTQ_PROD, op->a & 8 ? op->e : 0);
    }
    smmu_write(f->g, i, SMMU_CR0, 13);
    smmu_write(f->g, i, SMMU_CMDQ_PROD, op->e);
    f->g->smmu[i].prod = op->e & ((2u << HOST_CMDQ_LOG2) - 1);
}

/*
 * Commands
 */

static const uint8_t opcodes[] = {
    0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x30, 0x40, 0x46,
    0x01, 0x02, 0x07, 0x18, 0x1a, 0x20, 0x22, 0x28, 0x2a, 0x41, 0x44, 0x45,
    0x50, 0x60, 0x70, 0x80, 0x00, 0xff,
};

static HostCmd make_cmd(Fuzz *f, const FuzzOp *op)
{
    uint8_t opcode = op->a & 0x80 ? PICK(opcodes, op->a)
                                  : opcodes[op->a % 11];
    uint64_t w0 = opcode, w1 = extreme(f, op->b, op->x);

    switch (opcode) {
    case 0x03 ... 0x07:
        w0 |= (uint64_t)pick_sid(f, op->c, op->x) << 32;
        w0 |= (uint64_t)(op->e & 7 ? op->e & 3 : op->x >> 44) << 12;
        w1 = opcode == 0x04 ? op->b & 0x1f : op->b & 1;
        break;
    case 0x10 ... 0x13:
        w0 |= (uint64_t)op->e << 48;
        if (op->c & 1) {
            /* NUM, SCALE, TG and TTL */
            w0 |= (op->x >> 3 & 0x1f) << 12 | (uint64_t)(op->c >> 1 & 0x1f) <<
                  20;
            w1 = (w1 & ~0xfffull) | (op->x & 0xf81);
        } else {
            w1 &= ~0xffeull;
        }
        break;
    case 0x40:
        w0 |= (uint64_t)pick_sid(f, op->c, op->x) << 32 |
              (op->e & 1) << 11 | (uint64_t)(op->e >> 1 & 1) << 9 |
              (uint64_t)(op->e & 1 ? op->e >> 4 : 0) << 12;
        w1 = (w1 & ~0xfffull) | (op->e & 8 ? 52 : op->e >> 4 & 0x3f);
        break;
    case 0x46:
        w0 |= (uint64_t)(op->c & 3) << 12 | (op->x & 0xffffull) << 32;
        w1 = op->c & 4 ? w1 & ~3ull : 0;
        break;
    default:
        w0 |= op->x << 32;
    }
    /* And one bit that should not be there */
    if (op->d & 0x80) {
        *(op->d & 0x40 ? &w1 : &w0) ^= 1ull << (op->d & 0x3f);
    }
    return HOST_CMD(w0, w1);
}

static void op_cmd(Fuzz *f, const FuzzOp *op)
{
    unsigned i = smmu_of(op);

    hostile_push(f, i, make_cmd(f, op));
    if (op->target & 0x40) {
        hostile_kick(f, i);
    }
}

static void op_sync(Fuzz *f, const FuzzOp *op)
{
    hostile_push(f, smmu_of(op), CMD_SYNC);
    hostile_kick(f, smmu_of(op));
}

static uint64_t stride_of(unsigned n)
{
    static const uint64_t strides[] = {
        4 * KiB, 4 * KiB, 16 * KiB, 64 * KiB, 2 * MiB, 8 * KiB, 12 * KiB,
        -4 * KiB, -64 * KiB, 0, 1 * GiB, 32 * MiB,
    };

    return PICK(strides, n);
}

/* As an unmap of many pages, or something like it */
static void op_run(Fuzz *f, const FuzzOp *op)
{
    static const uint8_t ops[] = { 0x12, 0x13, 0x12, 0x40, 0x05, 0x11, 0x03 };
    FuzzOp one = *op;
    unsigned i = smmu_of(op);
    HostCmd cmd;

    one.a = 0;
    cmd = make_cmd(f, &one);
    cmd.word[0] = PICK(ops, op->a) | (uint64_t)op->e << 48;
    if (PICK(ops, op->a) != 0x12 && PICK(ops, op->a) != 0x13) {
        cmd.word[0] = PICK(ops, op->a) |
                      (uint64_t)pick_sid(f, op->e, op->x) << 32;
    }
    cmd.word[1] = (extreme(f, op->b, op->x) & ~0xfffull) | (op->d & 1);
    for (unsigned n = 0; n <= op->c; n++) {
        hostile_push(f, i, cmd);
        cmd.word[1] += stride_of(op->d >> 1);
        if (op->d & 0x80 && n == op->c / 2) {
            hostile_push(f, i, CMD_SYNC);
        }
    }
    hostile_push(f, i, CMD_SYNC);
    hostile_kick(f, i);
}

/*
 * Tables
 */

/* IHI 0070 5.2: the fields of stage 2, which only the emulated SMMU has */
static void set_stage_2(Fuzz *f, const FuzzOp *op, uint64_t *ste)
{
    /* S2T0SZ=20, S2SL0=2 (level 0), S2PS=44 bits, S2AA64, S2R */
    uint64_t w2 = (20ull | 2 << 6 | 4 << 16 | 1 << 19 | 1 << 26) << 32 |
                  (op->e & 3);
    uint64_t w3 = f->smmu[FUZZ_EMULATED].root[1][0];

    if (op->e & 0x8000) {
        *(op->e & 0x4000 ? &w3 : &w2) ^= 1ull << (op->e & 0x3f);
    }
    if (op->e & 0x2000) {
        w2 = deposit64(w2, 32, 16, op->x);
    }
    set(ste + 2, w2);
    set(ste + 3, w3);
}

static void op_ste(Fuzz *f, const FuzzOp *op)
{
    unsigned i = smmu_of(op), dev = (op->target >> 2 & 7);
    bool own = dev < FUZZ_DEVS && op->a & 0x80;
    uint32_t sid = own ? host_sid(f->g, dev) : pick_sid(f, op->a, op->x);
    uint64_t w0, w1 = (uint64_t)(op->d & 3) << 28, *ste, cd;
    HostCmd cmd = CMD_CFGI_STE(sid);

    if (own) {
        i = f->g->dev[dev].vsmmu;
    }
    ste = hostile_ste(f, i, sid);
    cd = f->smmu[i].cd[op->x >> 62];
    switch (op->b % 8) {
    case 0:
        w0 = 0;
        break;
    case 1:
        w0 = STE_V | (uint64_t)(op->x & 7) << 1;
        break;
    case 2:
        w0 = STE_BYPASS;
        break;
    case 3:
        w0 = extreme(f, op->c, op->x);
        w1 = extreme(f, op->e, op->x);
        break;
    case 4:
        w0 = STE_S1(f->smmu[i].cd[0]) | (uint64_t)(op->c & 0x1f) << 59 |
             (op->c >> 5 & 3) << 4;
        w1 |= op->e & 0xff;
        break;
    default:
        w0 = STE_S1(cd);
    }
    if (op->d & 0x80) {
        *(op->d & 0x40 ? &w1 : &w0) ^= 1ull << (op->d & 0x3f);
    }
    if (ste && i == FUZZ_EMULATED) {
        set_stage_2(f, op, ste);
        w0 |= op->b % 8 == 1 ? cd : 0;
    }
    if (ste) {
        set(ste + 1, w1);
        set(ste, w0);
    }
    if (!(op->d & 4)) {
        hostile_push(f, i, op->d & 8 ? CMD_CFGI_ALL : cmd);
        if (!(op->d & 0x10)) {
            hostile_push(f, i, CMD_SYNC);
        }
        hostile_kick(f, i);
    }
}

static void op_cd(Fuzz *f, const FuzzOp *op)
{
    unsigned i = smmu_of(op), n = op->target >> 2 & 3;
    uint64_t *cd = host_ram(f->g, f->smmu[i].cd[n]);

    host_write_cd(f->g, f->smmu[i].cd[n], &(HostCd) {
        .asid = op->e,
        .ttb = { f->smmu[i].root[n][0], op->a & 1 ? f->smmu[i].root[n][1] : 0 },
        .txsz = { op->a & 2 ? op->b & 0x3f : 16,
                  op->a & 4 ? op->b & 0x3f : 16 },
        .granule_shift = 12 + (op->a & 8 ? op->c % 3 * 2 : 0),
    });
    if (op->a & 16) {
        set(&cd[op->c & 3], extreme(f, op->d, op->x));
    }
    if (op->a & 32) {
        set(&cd[op->c >> 2 & 3],
            le64_to_cpu(cd[op->c >> 2 & 3]) ^ 1ull << (op->d & 0x3f));
    }
}

/*
 * The entry of @va, 48 bits by 4 KiB. What is in the way, or is no table of
 * this test, becomes a table.
 */
static uint64_t *entry_of(Fuzz *f, uint64_t table, uint64_t va, int level)
{
    for (int at = 0; ; at++) {
        uint64_t *pte = (uint64_t *)host_ram(f->g, table) +
                        extract64(va, 39 - 9 * at, 9);
        uint64_t next = le64_to_cpu(*pte) & MAKE_64BIT_MASK(12, 36);

        if (at == level) {
            return pte;
        }
        if ((le64_to_cpu(*pte) & 3) != 3 || next < f->first_free ||
            next >= f->g->free_ram) {
            next = host_alloc(f->g, 4096);
            set(pte, next | 3);
        }
        table = next;
    }
}

static bool has_room(Fuzz *f)
{
    return f->g->free_ram < HOST_RAM_BASE + HOST_RAM_SIZE - 32 * MiB;
}

static void op_map(Fuzz *f, const FuzzOp *op)
{
    unsigned i = smmu_of(op), n = op->target >> 2 & 3;
    uint64_t va = extreme(f, op->b, op->x) & ~0xfffull;
    uint64_t pa = op->a & 1 ? f->pages[0] : HOST_RAM_BASE;
    int level = op->c & 3 ?: 3;
    uint64_t *pte;

    if (!has_room(f)) {
        return;
    }
    pte = entry_of(f, f->smmu[i].root[n][va >> 63], va, level);
    if (op->a & 0x40) {
        set(pte, extreme(f, op->d, op->x));
    } else {
        set(pte, host_leaf(level, pa & ~(host_level_size(12, level) - 1),
                           (op->a & 2 ? 0 : PTE_DATA) |
                           (op->a & 4 ? PTE_RO : 0)));
    }
}

/* A Stream Table of two levels, with StreamIDs of devices in it or not */
static void op_two_levels(Fuzz *f, const FuzzOp *op)
{
    unsigned i = smmu_of(op), split = PICK(((uint8_t []){ 6, 8, 10 }), op->a);
    HostVsmmu *s = &f->g->smmu[i];
    bool off = op->a & 0x80;

    if (!has_room(f) || i == FUZZ_EMULATED) {
        return;
    }
    smmu_write(f->g, i, SMMU_CR0, 12);
    s->strtab = off ? f->smmu[i].linear
                    : host_alloc(f->g, 8ull << (HOST_SID_BITS - split));
    s->strtab_cfg = off ? HOST_SID_BITS - op->b % 9
                        : HOST_SID_BITS | split << 6 | 1 << 16;
    for (unsigned dev = 0; !off && dev < FUZZ_DEVS; dev++) {
        uint64_t *l1 = host_ram(f->g, s->strtab +
                                (host_sid(f->g, dev) >> split) * 8ull);
        unsigned span = dev & 1 && op->b & 1 ? op->c & 0x1f : split + 1;

        if (f->g->dev[dev].vsmmu == i && !*l1) {
            set(l1, host_alloc(f->g, 64ull << split) | span);
        }
    }
    if (op->b & 2 && !off) {
        set(host_ram(f->g, s->strtab + (pick_sid(f, op->d, op->x) % 0x10000 >>
                                        split) * 8ull),
            extreme(f, op->e, op->x));
    }
    smmu_enable(f->g, i);
}

/*
 * The machine, and the host
 */

static void op_plug(Fuzz *f, const FuzzOp *op)
{
    unsigned dev = dev_of(op);

    /* The place must be where the guest thinks */
    if (!f->g->dev[dev].bus || f->stopped) {
        return;
    }
    if (f->g->dev[dev].present) {
        hostile_unplug(f, dev, op->a & 3);
    } else {
        hostile_plug(f, dev);
    }
}

static void op_bus(Fuzz *f, const FuzzOp *op)
{
    unsigned dev = dev_of(op), bus = f->g->dev[dev].port_bus + dev + 1;

    switch (op->a % 8) {
    case 0:
        bus = op->b;
        break;
    case 1:
        bus = 0;
        break;
    case 2:
        bus = f->g->dev[(dev + 1) % FUZZ_DEVS].bus;
        break;
    case 3:
        bus = 0xff;
        break;
    case 4:
        bus = f->g->dev[dev].port_bus + FUZZ_DEVS + 1 + op->b % 16;
        break;
    }
    f->moved = true;
    host_set_bus(f->g, dev, bus);
    if (bus && f->g->dev[dev].present && op->a & 0x80) {
        host_setup_device(f->g, dev);
    }
}

static void op_flr(Fuzz *f, const FuzzOp *op)
{
    unsigned dev = dev_of(op), cap;
    uint64_t config;

    if (!f->g->dev[dev].bus || !f->g->dev[dev].present ||
        qtest_readw(f->g->qts, host_device_config(f->g, dev)) == 0xffff) {
        return;
    }
    f->moved = true;
    config = host_device_config(f->g, dev);
    if (op->a & 1) {
        host_bus_reset(f->g, dev);
    } else if (qtest_readw(f->g->qts, config) == 0x1b36) {
        /* The host may fail to read that */
        cap = host_look_for_cap(f->g, config, PCI_CAP_ID_EXP);
        if (cap) {
            qtest_writew(f->g->qts, config + cap + PCI_EXP_DEVCTL,
                         PCI_EXP_DEVCTL_BCR_FLR);
            host_setup_device(f->g, dev);
        }
    }
}

/* What a person or a manager asks, at any moment */
static void ask(Fuzz *f, bool by_hmp)
{
    QDict *arguments = NULL;

    if (by_hmp) {
        arguments = qdict_new();
        qdict_put_str(arguments, "command-line", "info smmuv3");
    }
    hostile_check(f, hostile_qmp(f, by_hmp ? "human-monitor-command" :
                                             "query-smmuv3", arguments));
}

static void op_machine(Fuzz *f, const FuzzOp *op)
{
    if (op->a % 4 == 3 && op->b & 1) {
        ask(f, op->c & 1);
        return;
    }
    switch (op->a % 4) {
    case 0:
        /* A machine that is stopped stays so, if the test resets it by QMP */
        if (!f->stopped) {
            hostile_reset(f);
        }
        break;
    case 1:
        f->stopped = hostile_qmp(f, "stop", NULL) || f->stopped;
        break;
    default:
        if (f->stopped && hostile_qmp(f, "cont", NULL)) {
            f->stopped = false;
        }
    }
}

static void op_fail(Fuzz *f, const FuzzOp *op)
{
    static const char *const kinds[] = {
        "IOMMU_HWPT_INVALIDATE", "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
        "IOMMU_HWPT_ALLOC", "IOMMU_VDEVICE_ALLOC", "IOMMU_VIOMMU_ALLOC",
        "VFIO_DEVICE_DETACH_IOMMUFD_PT", "IOMMU_DESTROY",
        "IOMMU_VEVENTQ_ALLOC", "veventq.read", "smmu.sync",
        "IOMMU_GET_HW_INFO", "IOMMU_IOAS_IOVA_RANGES", "pthread_create", "*",
    };
    static const char *const errors[] = {
        "EIO", "EBUSY", "ETIMEDOUT", "ENOMEM", "EEXIST", "EINVAL", "EINTR",
        "ENODEV", "EAGAIN", "EOPNOTSUPP", "ENOENT", "EPERM",
    };
    const char *kind = PICK(kinds, op->a);
    unsigned first = 1 + (op->c & 3), count = 1 + (op->c >> 2 & 7);

    if (f->failing >= 8) {
        return;
    }
    f->failing++;
    if (op->d & 0x80 && strcmp(kind, "pthread_create")) {
        /* A slow host, in the time that the program sees */
        qobject_unref(host_control(f->g, "fail %s:%u+%u^%u", kind, first,
                                   count, PICK(((unsigned []) {
                                       1, 99000, 101000, 600000, 2000000
                                   }), op->d)));
    } else {
        /* pthread_create(3) says EAGAIN; for others GLib ends the program */
        qobject_unref(host_control(f->g, "fail %s:%u+%u=%s", kind, first,
                                   count, strcmp(kind, "pthread_create") ?
                                          PICK(errors, op->b) : "EAGAIN"));
    }
}

static void op_heal(Fuzz *f, const FuzzOp *op)
{
    qobject_unref(host_control(f->g, "fail clear"));
}

static void op_time(Fuzz *f, const FuzzOp *op)
{
    qobject_unref(host_control(f->g, "advance %u", PICK(((unsigned []) {
        1000, 10000, 25000, 1000000, 6000000, 61000000
    }), op->a)));
    hostile_pause(f);
}

static void op_event(Fuzz *f, const FuzzOp *op)
{
    unsigned n = op->c & 0x80 ? op->c & 0x3f : 1;

    qobject_unref(host_control(f->g, "event dma%u 0x%" PRIx64 " 0x%" PRIx64
                               " 0x%" PRIx64 " 0x%" PRIx64 " %u", dev_of(op),
                               (uint64_t)op->a | (uint64_t)op->e << 32, op->x,
                               extreme(f, op->b, op->x),
                               extreme(f, op->d, op->x), n));
}

static void op_host_reset(Fuzz *f, const FuzzOp *op)
{
    unsigned dev = dev_of(op);
    bool begin = !(f->resets & (1u << dev));

    qobject_unref(host_control(f->g, "reset dma%u %s", dev,
                               begin ? "begin" : "end"));
    f->resets ^= 1u << dev;
}

static void op_request(Fuzz *f, const FuzzOp *op)
{
    qobject_unref(host_control(f->g, "request dma%u", dev_of(op)));
}

static void op_dma(Fuzz *f, const FuzzOp *op)
{
    static const char *const ops[] = { "read", "write", "ats", "ats-write" };
    g_autofree char *ssid = g_strdup_printf(" ssid=%u", op->e & 0xf);

    qobject_unref(host_control(f->g, "dma dma%u %s 0x%" PRIx64 "%s%s",
                               dev_of(op), PICK(ops, op->a),
                               extreme(f, op->b, op->x),
                               op->c & 1 ? ssid : "",
                               op->c & 2 && op->a % 4 < 2 ? " atc" : ""));
}

/* The port of device 0 sends a message, which QEMU translates itself */
static void op_port(Fuzz *f, const FuzzOp *op)
{
    if (op->a & 1) {
        host_enable_port_msi(f->g, extreme(f, op->b, op->x) & ~3ull);
    }
    qtest_writew(f->g->qts, host_slot_control(f->g, 0),
                 PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_HPIE |
                 PCI_EXP_SLTCTL_PDCE);
    qobject_unref(host_control(f->g, "request dma0"));
}

/*
 * Command queues of the guest's own
 */

#define CMDQV(i)        (VIRT_PLATFORM_BUS_BASE + 0x80000 * ((i) + 1ull))

static void op_cmdqv(Fuzz *f, const FuzzOp *op)
{
    static const uint32_t regs[] = {
        0x0, 0x4, 0x8, 0x1c, 0x14, 0x24, 0x200, 0x204, 0x1000, 0x1004, 0x1040,
        0x1080, 0x10c0, 0x30000, 0x30004, 0x30008, 0x3000c, 0x30014, 0x40000,
        0x40004, 0x40008, 0x10004, 0x10008, 0x20000, 0x20004,
    };
    uint64_t at = CMDQV(op->target & 1) +
                  (op->a & 0x80 ? op->x % 0x50000 & ~3ull : PICK(regs, op->a) +
                   (op->c & 1) * 0x80 * (PICK(regs, op->a) >= 0x10000));

    if (op->c & 2) {
        qtest_writeq(f->g->qts, at & ~7ull, extreme(f, op->b, op->x));
    } else if (op->c & 4) {
        qtest_readl(f->g->qts, at);
        qtest_readq(f->g->qts, at & ~7ull);
    } else {
        qtest_writel(f->g->qts, at, extreme(f, op->b, op->x));
    }
}

static void op_cmdqv_on(Fuzz *f, const FuzzOp *op)
{
    unsigned i = op->target & 1, q = op->target >> 1 & 1;
    uint64_t base = CMDQV(i);

    qtest_writel(f->g->qts, base, 1);
    qtest_writel(f->g->qts, base + 0x1000, 1);
    qtest_writel(f->g->qts, base + 0x200 + 4 * q, q << 1 | 1);
    qtest_writel(f->g->qts, base + 0x30008 + 0x80 * q, 0);
    qtest_writeq(f->g->qts, base + 0x40000 + 0x80 * q,
                 f->smmu[i].vcmdq[q] | FUZZ_VCMDQ_LOG2);
    qtest_writel(f->g->qts, base + 0x30000 + 0x80 * q, 0);
    qtest_writel(f->g->qts, base + 0x30004 + 0x80 * q, 0);
    qtest_writel(f->g->qts, base + 0x30008 + 0x80 * q, 1);
    f->smmu[i].vcmdq_prod[q] = 0;
    /* So many writes of PROD, and a thread watches it from then on */
    for (unsigned n = 0; op->target & 4 && n < 64; n++) {
        qtest_writel(f->g->qts, base + 0x30004 + 0x80 * q, 0);
    }
}

static void op_vcmd(Fuzz *f, const FuzzOp *op)
{
    unsigned i = op->target & 1, q = op->target >> 1 & 1;
    FuzzSmmu *s = &f->smmu[i];
    const unsigned mask = (2u << FUZZ_VCMDQ_LOG2) - 1;
    HostCmd cmd = make_cmd(f, op);
    unsigned n = op->target & 0x20 ? 1 + (op->target >> 2 & 7) : 1;

    while (n--) {
        uint64_t *slot = host_ram(f->g, s->vcmdq[q] +
                                  16 * (s->vcmdq_prod[q] & mask >> 1));

        slot[0] = cpu_to_le64(cmd.word[0]);
        slot[1] = cpu_to_le64(cmd.word[1]);
        s->vcmdq_prod[q] = (s->vcmdq_prod[q] + 1) & mask;
        cmd.word[1] += 4096;
    }
    qtest_writel(f->g->qts, CMDQV(i) + 0x30004 + 0x80 * q, s->vcmdq_prod[q]);
    if (op->target & 0x40) {
        qtest_writel(f->g->qts, CMDQV(i) + 0x30014 + 0x80 * q,
                     qtest_readl(f->g->qts, CMDQV(i) + 0x30010 + 0x80 * q));
    }
}

/*
 * An emulated device below an emulated SMMU
 */

static void op_edu(Fuzz *f, const FuzzOp *op)
{
    uint64_t config = VIRT_ECAM_BASE | (uint64_t)FUZZ_EDU_SID << 12;
    uint64_t port = VIRT_ECAM_BASE | 0xf008ull << 12;
    uint64_t iova = extreme(f, op->b, op->x);
    bool out = op->a & 1;

    if (qtest_readl(f->g->qts, config + PCI_BASE_ADDRESS_0) != f->edu) {
        qtest_writel(f->g->qts, port + PCI_PRIMARY_BUS, 0xf1f1f0);
        qtest_writel(f->g->qts, port + PCI_MEMORY_BASE,
                     (f->edu >> 16 & 0xfff0) * 0x10001);
        qtest_writew(f->g->qts, port + PCI_COMMAND,
                     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        qtest_writel(f->g->qts, config + PCI_BASE_ADDRESS_0, f->edu);
        qtest_writew(f->g->qts, config + PCI_COMMAND,
                     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    }
    qtest_writeq(f->g->qts, f->edu + 0x80, out ? 0x40000 : iova);
    qtest_writeq(f->g->qts, f->edu + 0x88, out ? iova : 0x40000);
    qtest_writeq(f->g->qts, f->edu + 0x90, 1 + op->c);
    qtest_writeq(f->g->qts, f->edu + 0x98, out ? 3 : 1);
    qtest_clock_step(f->g->qts, 200 * 1000 * 1000);
}

/*
 * An honest guest
 */

static void op_settle(Fuzz *f, const FuzzOp *op)
{
    unsigned i = smmu_of(op);

    hostile_calm(f);
    hostile_restart(f, i);
    hostile_check_streams(f, i);
}

typedef struct Unmap {
    unsigned i, dev, n, asid;
    uint64_t first, stride;
    uint64_t cd, root[2];
} Unmap;

static uint64_t page_of(const Unmap *u, unsigned n)
{
    return u->first + n * u->stride;
}

static uint64_t *pte_of(Fuzz *f, const Unmap *u, unsigned n)
{
    uint64_t va = page_of(u, n);

    return host_pte(f->g, u->root[va >> 63], 12, 16, va, 3, true);
}

static bool prepare(Fuzz *f, const FuzzOp *op, Unmap *u)
{
    static const uint64_t ends[] = {
        0, 1ull << 48, 0xffff000000000000, 0, 1ull << 32, 1ull << 47, 1ull << 40
    };
    static const uint64_t strides[] = { 4 * KiB, 16 * KiB, 64 * KiB, 2 * MiB };
    unsigned n_found = 0;

    /* The first or the second device of the SMMU */
    for (unsigned dev = 0; dev < FUZZ_DEVS; dev++) {
        if (f->g->dev[dev].vsmmu == smmu_of(op) && f->g->dev[dev].present &&
            n_found++ == (op->target >> 2 & 1)) {
            u->dev = dev;
        }
    }
    if (u->dev == FUZZ_DEVS || !has_room(f)) {
        return false;
    }
    hostile_fill_page(f, 0);
    hostile_fill_page(f, 1);
    u->i = smmu_of(op);
    u->n = 1 + op->c % 160;
    u->stride = PICK(strides, op->d);
    u->asid = 1 + op->e % 255;
    /* Up to an end of the address space, from one, or across something */
    u->first = PICK(ends, op->b) + (op->x & 0xff) * 4 * KiB;
    if (op->b & 0x80) {
        u->first = PICK(ends, op->b) - u->n * u->stride +
                   (op->x >> 8 & 3) * u->stride;
    }
    for (unsigned n = 0; n < u->n; n++) {
        uint64_t va = page_of(u, n);

        if (va >> 47 >> 1 != 0 && va >> 48 != 0xffff) {
            u->n = n;
        }
    }
    u->cd = host_alloc(f->g, 64);
    u->root[0] = host_alloc(f->g, 4096);
    u->root[1] = host_alloc(f->g, 4096);
    return u->n;
}

static void check_pages(Fuzz *f, const Unmap *u, bool mapped, uint64_t tag)
{
    for (unsigned n = 0; n < u->n; n++) {
        uint64_t got = 0;
        bool ok = host_dma_read64(f->g, u->dev, page_of(u, n), &got);

        if (ok != mapped || (ok && got != tag)) {
            hostile_fail(f, "device %u reads page %u of %u (stride 0x%" PRIx64
                      ") at 0x%" PRIx64 ": %s 0x%" PRIx64 ", and not %s 0x%"
                      PRIx64, u->dev, n, u->n, u->stride, page_of(u, n),
                      ok ? "ok" : "fault", got, mapped ? "ok" : "fault", tag);
        }
    }
}

/* What makes the TLB forget the pages, of all that is legal */
static void forget(Fuzz *f, const FuzzOp *op, const Unmap *u)
{
    unsigned leaf = op->x >> 16 & 1;
    unsigned how = op->x >> 17 & 7;
    bool ril = smmu_read(f->g, u->i, SMMU_IDR3) & (1 << 10);
    unsigned scale = 0;

    if (how == 7) {
        smmu_cmd(f->g, u->i, op->x & 1 << 20 ? CMD_TLBI_NH_ALL
                                             : CMD_TLBI_NH_ASID(u->asid));
        return;
    }
    if (how == 6 && ril && u->stride == 4 * KiB) {
        uint64_t first = u->first;

        while (DIV_ROUND_UP(u->n, 1u << scale) > 32) {
            scale++;
        }
        smmu_cmd(f->g, u->i, HOST_CMD(0x12 | (uint64_t)u->asid << 48 |
            (uint64_t)(MAX(DIV_ROUND_UP(u->n, 1u << scale), 2) - 1) << 12 |
            (uint64_t)scale << 20, first | leaf | 1 << 10));
        return;
    }
    for (unsigned k = 0; k < u->n; k++) {
        unsigned n = how == 5 ? u->n - 1 - k : k;
        uint64_t va = page_of(u, n);

        smmu_cmd(f->g, u->i, how & 1 ? CMD_TLBI_NH_VAA(va, leaf)
                                     : CMD_TLBI_NH_VA(u->asid, va, leaf));
        if (how == 3 && k % 7 == 6) {
            /* Another one of the kind, twice, and a CFGI in between */
            smmu_cmd(f->g, u->i, CMD_TLBI_NH_VA(u->asid, va, leaf));
            smmu_cmd(f->g, u->i, CMD_CFGI_CD(host_sid(f->g, u->dev), 0));
        }
    }
}

/*
 * Pages are used, then they are others or none, and a TLBI of each, or of all,
 * says so
 */
static void op_honest(Fuzz *f, const FuzzOp *op)
{
    Unmap u = { .dev = FUZZ_DEVS };
    bool remap = op->x >> 24 & 1;
    uint64_t stale, *ste;

    if (smmu_of(op) == FUZZ_EMULATED) {
        return;
    }
    hostile_calm(f);
    hostile_restart(f, smmu_of(op));
    if (!prepare(f, op, &u)) {
        return;
    }
    ste = hostile_ste(f, u.i, host_sid(f->g, u.dev));
    if (!ste) {
        return;
    }
    for (unsigned n = 0; n < u.n; n++) {
        set(pte_of(f, &u, n), host_leaf(3, f->pages[0], PTE_DATA));
    }
    host_write_cd(f->g, u.cd, &(HostCd) {
        .asid = u.asid, .ttb = { u.root[0], u.root[1] }, .txsz = { 16, 16 },
        .granule_shift = 12,
    });
    set(ste, 0);
    set(ste + 1, 0);
    set(ste, STE_S1(u.cd));
    smmu_cmd(f->g, u.i, CMD_CFGI_STE(host_sid(f->g, u.dev)));
    smmu_sync_ok(f->g, u.i);
    host_dma_as(f->g, u.dev, HOST_NO_PASID, 0);
    check_pages(f, &u, true, FUZZ_TAG(0));
    stale = host_counter(f->g, "smmu.stale");
    for (unsigned n = 0; n < u.n; n++) {
        set(pte_of(f, &u, n), remap ? host_leaf(3, f->pages[1], PTE_DATA) : 0);
    }
    forget(f, op, &u);
    if (op->x >> 25 & 1 && smmu_read(f->g, u.i, SMMU_IDR0) & (1 << 13)) {
        smmu_sync_msi(f->g, u.i);
    } else {
        smmu_sync_ok(f->g, u.i);
    }
    check_pages(f, &u, remap, FUZZ_TAG(1));
    if (host_counter(f->g, "smmu.stale") != stale) {
        hostile_fail(f, "device %u: stale after an honest unmap", u.dev);
    }
    f->honest++;
}

void hostile_op(Fuzz *f, const FuzzOp *op)
{
    static void (*const ops[])(Fuzz *, const FuzzOp *) = {
        op_write, op_cmd, op_ste, op_run, op_cd, op_map, op_honest, op_sync,
        op_dma, op_fail, op_vcmd, op_bus, op_cr0, op_gbpa, op_ack, op_enable,
        op_queue, op_two_levels, op_plug, op_flr, op_machine, op_heal, op_time,
        op_event, op_host_reset, op_request, op_port, op_cmdqv, op_cmdqv_on,
        op_edu, op_settle, op_cmd,
    };

    QEMU_BUILD_BUG_ON(ARRAY_SIZE(ops) != 32);
    PICK(ops, op->kind)(f, op);
}
