/*
 * QTest of the SMMUv3's registers: each bit, in each state, by the book
 *
 * Which bits of a register can be written, and when, is in a table here, read
 * from Arm IHI 0070 (G.b) 6.2 and 6.3. The same walk runs on an emulated SMMU,
 * on one with accel=on whose guest reads registers from memory, and on one
 * whose guest exits at each read. The latter two run on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define IDR0_MSI        (1u << 13)
#define IDR0_ATS        (1u << 10)

#define CR0_ALL         (SMMU_CR0_SMMUEN | SMMU_CR0_EVENTQEN | SMMU_CR0_CMDQEN)
#define IRQ_GERROR      1u
#define IRQ_EVENTQ      4u

/* In the last quarter of the memory, which no test allocates */
#define STREAM_TABLE    0x4c000000ull
#define COMMANDS        0x4c800000ull
#define EVENTS          0x4c900000ull

/* Bits that a write changes, unless one of these is set in CR0 or IRQ_CTRL */
typedef struct Row {
    const char *name;
    unsigned offset, size;
    uint64_t bits;
    uint32_t cr0, irq_ctrl;
    uint32_t idr0;              /* the bits exist only with this feature */
} Row;

static const Row rows[] = {
    { "CR0", SMMU_CR0, 4, CR0_ALL },
    { "CR0.ATSCHK", SMMU_CR0, 4, 1 << 4, .idr0 = IDR0_ATS },
    { "CR1.QUEUE_*", 0x28, 4, 0x3f, SMMU_CR0_CMDQEN | SMMU_CR0_EVENTQEN },
    { "CR1.TABLE_*", 0x28, 4, 0xfc0, SMMU_CR0_SMMUEN },
    { "CR2", SMMU_CR2, 4, 0x6, SMMU_CR0_SMMUEN },
    { "GBPA", SMMU_GBPA, 4, 0x1f3f1f },
    { "IRQ_CTRL", SMMU_IRQ_CTRL, 4, IRQ_GERROR | IRQ_EVENTQ },
    { "GERRORN", SMMU_GERRORN, 4, 0x5 },
    { "GERRORN.MSI_*", SMMU_GERRORN, 4, 0xb0, .idr0 = IDR0_MSI },
    { "GERROR_IRQ_CFG0", 0x68, 8, 0x00fffffffffffffc, 0, IRQ_GERROR, IDR0_MSI },
    { "GERROR_IRQ_CFG1", 0x70, 4, 0xffffffff, 0, IRQ_GERROR, IDR0_MSI },
    { "GERROR_IRQ_CFG2", 0x74, 4, 0x3f, 0, IRQ_GERROR, IDR0_MSI },
    { "STRTAB_BASE", 0x80, 8, 0x400fffffffffffc0, SMMU_CR0_SMMUEN },
    { "STRTAB_BASE_CFG", 0x88, 4, 0x307ff, SMMU_CR0_SMMUEN },
    { "CMDQ_BASE", 0x90, 8, 0x400fffffffffffff, SMMU_CR0_CMDQEN },
    { "CMDQ_PROD", 0x98, 4, 0xfffff },
    { "CMDQ_CONS", 0x9c, 4, 0x7f0fffff, SMMU_CR0_CMDQEN },
    { "EVENTQ_BASE", 0xa0, 8, 0x400fffffffffffff, SMMU_CR0_EVENTQEN },
    { "EVENTQ_PROD", 0xa8, 4, 0x800fffff, SMMU_CR0_EVENTQEN },
    { "EVENTQ_CONS", 0xac, 4, 0x800fffff },
    { "EVENTQ_IRQ_CFG0", 0xb0, 8, 0x00fffffffffffffc, 0, IRQ_EVENTQ, IDR0_MSI },
    { "EVENTQ_IRQ_CFG1", 0xb8, 4, 0xffffffff, 0, IRQ_EVENTQ, IDR0_MSI },
    { "EVENTQ_IRQ_CFG2", 0xbc, 4, 0x3f, 0, IRQ_EVENTQ, IDR0_MSI },
};

typedef struct Smmu {
    QTestState *qts;
    HostGuest *g;               /* NULL for an emulated SMMU */
    uint64_t base;
    uint32_t idr0;
    uint32_t cr0, irq_ctrl;     /* of the state that is walked */
} Smmu;

typedef enum Kind { EMULATED, MEMORY, TRAP } Kind;

static bool start(Smmu *s, Kind kind)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .smmu_args = kind == TRAP ? ",x-direct-registers=off" : NULL,
    };

    *s = (Smmu) { .base = VIRT_SMMU_BASE };
    if (kind == EMULATED) {
        s->qts = qtest_initf("-nodefaults -cpu max -m 256 -machine %s,"
                             "iommu=smmuv3 -bios %s", SMMUV3_MACHINE,
                             smmuv3_firmware());
    } else if (host_skipped()) {
        return false;
    } else {
        s->g = host_guest_new(&config);
        s->qts = s->g->qts;
        s->base = s->g->smmu[0].base;
    }
    s->idr0 = qtest_readl(s->qts, s->base + SMMU_IDR0);
    g_assert_cmpint(!!(s->idr0 & IDR0_MSI), ==, kind != EMULATED);
    return true;
}

static void end(Smmu *s)
{
    if (s->g) {
        qtest_writel(s->qts, s->base + SMMU_CR0, 0);
        host_finish(s->g);
    } else {
        qtest_quit(s->qts);
    }
}

static uint32_t get(Smmu *s, unsigned offset)
{
    return qtest_readl(s->qts, s->base + offset);
}

static void set(Smmu *s, unsigned offset, uint32_t value)
{
    qtest_writel(s->qts, s->base + offset, value);
}

static void set64(Smmu *s, unsigned offset, uint64_t value)
{
    qtest_writeq(s->qts, s->base + offset, value);
}

/* What a write to the 32 bits at @offset changes, or could in other states */
static uint32_t bits_at(const Smmu *s, unsigned offset, bool now)
{
    uint32_t bits = 0;

    for (int n = 0; n < ARRAY_SIZE(rows); n++) {
        const Row *row = &rows[n];

        if ((offset & ~(row->size - 1)) == row->offset &&
            (!row->idr0 || (row->idr0 & s->idr0)) &&
            !(now && ((row->cr0 & s->cr0) || (row->irq_ctrl & s->irq_ctrl)))) {
            bits |= row->bits >> (offset - row->offset) * 8;
        }
    }
    return bits;
}

static bool is_64_bit(unsigned offset)
{
    for (int n = 0; n < ARRAY_SIZE(rows); n++) {
        if (rows[n].offset == offset) {
            return rows[n].size == 8;
        }
    }
    return false;
}

static uint32_t expected(const Smmu *s, unsigned offset, uint32_t before,
                         uint32_t value)
{
    uint32_t open = bits_at(s, offset, true), all = bits_at(s, offset, false);

    if (!all || (offset == SMMU_GBPA && !(value & SMMU_GBPA_UPDATE))) {
        return before;
    }
    return (value & open) | (before & all & ~open);
}

static void check(Smmu *s, unsigned offset, uint32_t want, const char *what,
                  uint64_t value)
{
    uint32_t got = get(s, offset);
    unsigned low = offset & ~7;
    uint64_t pair = qtest_readq(s->qts, s->base + low);

    if (got != want) {
        g_error("CR0 0x%x, IRQ_CTRL 0x%x: register 0x%x is 0x%x, not 0x%x, "
                "after %s of 0x%" PRIx64, s->cr0, s->irq_ctrl, offset, got,
                want, what, value);
    }
    if (extract64(pair, (offset & 4) * 8, 32) != want) {
        g_error("64 bits at 0x%x are 0x%" PRIx64 ", but 0x%x is 0x%x",
                low, pair, offset, want);
    }
    if (offset == SMMU_CR0 || offset == SMMU_IRQ_CTRL) {
        g_assert_cmphex(get(s, offset + 4), ==, want);
    }
}

static void put_back(Smmu *s, unsigned offset, uint32_t value)
{
    set(s, offset, value | (offset == SMMU_GBPA ? SMMU_GBPA_UPDATE : 0));
    g_assert_cmphex(get(s, offset), ==, value);
}

/* Page 1 is an alias; its reads and writes take turns with page 0's */
static void walk_32(Smmu *s, unsigned offset, uint32_t value)
{
    static unsigned page;
    uint32_t before = get(s, offset);
    uint32_t want = expected(s, offset, before, value);

    page ^= 0x10000;
    set(s, offset | page, value);
    check(s, offset, want, "a write", value);
    check(s, offset | (page ^ 0x10000), want, "a write", value);
    if (want != before) {
        put_back(s, offset, before);
    }
}

/* Two 32-bit registers are not written as one */
static void walk_64(Smmu *s, unsigned offset, uint64_t value)
{
    uint32_t before[2] = { get(s, offset), get(s, offset + 4) };

    set64(s, offset, value);
    for (int half = 0; half < 2; half++) {
        unsigned at = offset + half * 4;
        uint32_t want = is_64_bit(offset)
            ? expected(s, at, before[half], value >> half * 32) : before[half];

        check(s, at, want, "a 64-bit write", value);
        if (want != before[half]) {
            put_back(s, at, before[half]);
        }
    }
}

/* Values with all queues empty and all pointers in memory */
static void enter_state(Smmu *s, uint32_t cr0, uint32_t irq_ctrl)
{
    const struct {
        unsigned offset;
        uint64_t value;
    } safe[] = {
        { 0x28, g_test_rand_int() }, { SMMU_CR2, g_test_rand_int() },
        { 0x68, STREAM_TABLE + 0x10 }, { 0x70, g_test_rand_int() },
        { 0x74, g_test_rand_int() }, { 0x80, STREAM_TABLE }, { 0x88, 16 },
        { 0x90, COMMANDS | 4 }, { 0x98, 7 }, { 0x9c, 7 }, { 0xa0, EVENTS | 4 },
        { 0xa8, 9 }, { 0xac, 9 }, { 0xb0, STREAM_TABLE + 0x20 },
        { 0xb8, g_test_rand_int() }, { 0xbc, g_test_rand_int() },
    };

    set(s, SMMU_CR0, 0);
    set(s, SMMU_IRQ_CTRL, 0);
    s->cr0 = s->irq_ctrl = 0;
    set(s, SMMU_GERRORN, get(s, SMMU_GERROR));
    for (int n = 0; n < ARRAY_SIZE(safe); n++) {
        unsigned at = safe[n].offset;

        if (is_64_bit(at)) {
            set64(s, at, safe[n].value);
            g_assert_cmphex(qtest_readq(s->qts, s->base + at), ==,
                            bits_at(s, at, true) ? safe[n].value : 0);
        } else {
            set(s, at, safe[n].value);
            g_assert_cmphex(get(s, at), ==,
                            safe[n].value & bits_at(s, at, true));
        }
    }
    set(s, SMMU_IRQ_CTRL, irq_ctrl);
    set(s, SMMU_CR0, cr0);
    s->cr0 = cr0;
    s->irq_ctrl = irq_ctrl;
    g_assert_cmphex(get(s, SMMU_CR0ACK), ==, cr0);
}

static void walk_state(Smmu *s)
{
    const uint64_t values[] = {
        0, 1, UINT64_MAX, 0x8000000080000000, 0x7fffffff7fffffff,
        0x5555555555555555, 0xaaaaaaaaaaaaaaaa,
        (uint64_t)g_test_rand_int() << 32 | (uint32_t)g_test_rand_int(),
    };

    for (unsigned offset = 0; offset < 0x1000;
         offset += offset == 0x1fc ? 0xdd4 : 4) {
        /* While the queue is on, PROD is no mere value */
        bool drains = offset == SMMU_CMDQ_PROD && (s->cr0 & SMMU_CR0_CMDQEN);

        if (!bits_at(s, offset, false)) {
            walk_32(s, offset, UINT32_MAX);
            walk_32(s, offset, 0);
        } else {
            for (int n = 0; n < ARRAY_SIZE(values) && !drains; n++) {
                walk_32(s, offset, values[n]);
            }
        }
        for (int n = 0; n < ARRAY_SIZE(values) && !(offset & 7); n++) {
            walk_64(s, offset, values[n]);
        }
    }
}

static void test_walk(const void *opaque)
{
    static const uint32_t irqs[] = {
        0, IRQ_GERROR, IRQ_EVENTQ, IRQ_GERROR | IRQ_EVENTQ,
    };
    Smmu s;

    if (!start(&s, (uintptr_t)opaque)) {
        return;
    }
    for (uint32_t cr0 = 0; cr0 <= CR0_ALL; cr0++) {
        for (int n = 0; n < ARRAY_SIZE(irqs) && !(cr0 & ~CR0_ALL); n++) {
            enter_state(&s, cr0, irqs[n]);
            walk_state(&s);
        }
    }
    end(&s);
}

/* All of both pages, in every way that a guest may read them */
static void read_pages(Smmu *s, uint64_t *to)
{
    for (unsigned offset = 0; offset < 0x1000; offset += 8) {
        uint64_t page1 = qtest_readq(s->qts, s->base + 0x10000 + offset);
        uint64_t low = get(s, offset), high = get(s, offset + 4);

        to[offset / 8] = qtest_readq(s->qts, s->base + offset);
        g_assert_cmphex(to[offset / 8], ==, low | high << 32);
        g_assert_cmphex(page1, ==, low | high << 32);
    }
}

static void check_same(Smmu *s)
{
    uint64_t pages[2][0x200];

    g_usleep(20 * 1000);                /* events arrive in the main loop */
    read_pages(&s[0], pages[0]);
    read_pages(&s[1], pages[1]);
    for (int n = 0; n < ARRAY_SIZE(pages[0]); n++) {
        if (pages[0][n] != pages[1][n]) {
            g_error("64 bits at 0x%x are 0x%" PRIx64 " in memory, and 0x%"
                    PRIx64 " by a trap", n * 8, pages[0][n], pages[1][n]);
        }
    }
}

/*
 * Memory and a trap show the same: after reset, in use, with events, lost
 * events and an error. A driver may read EVENTQ_PROD and EVENTQ_CONS as one, as
 * FreeBSD does.
 */
static void test_reads(void)
{
    Smmu s[2];

    if (!start(&s[0], MEMORY)) {
        return;
    }
    start(&s[1], TRAP);
    check_same(s);
    for (int i = 0; i < 2; i++) {
        host_enable(s[i].g, 0);
        host_set_ste(s[i].g, 0, STE_V | 6ull << 1);
    }
    check_same(s);
    for (int i = 0; i < 2; i++) {
        for (int n = 0; n <= 1 << HOST_EVENTQ_LOG2; n++) {
            host_set_ste(s[i].g, 0, STE_V | 6ull << 1);
        }
        smmu_cmd(s[i].g, 0, HOST_CMD(0xff, 0));
        g_assert_cmpuint(smmu_sync(s[i].g, 0), ==, SMMU_CERROR_ILL);
        g_assert_cmphex(qtest_readq(s[i].qts, s[i].base + SMMU_EVENTQ_PROD),
                        ==, 0x80000000u | 1u << HOST_EVENTQ_LOG2);
        set(&s[i], SMMU_EVENTQ_CONS, 1u << HOST_EVENTQ_LOG2);
        g_assert_cmphex(qtest_readq(s[i].qts, s[i].base + SMMU_EVENTQ_PROD),
                        ==, (1ull << HOST_EVENTQ_LOG2) << 32 | 0x80000000u |
                        1u << HOST_EVENTQ_LOG2);
        g_assert_cmphex(qtest_readq(s[i].qts, s[i].base + SMMU_CMDQ_PROD),
                        ==, (uint64_t)get(&s[i], SMMU_CMDQ_CONS) << 32 |
                        s[i].g->smmu[0].prod);
    }
    check_same(s);
    for (int i = 0; i < 2; i++) {
        qtest_system_reset(s[i].qts);
    }
    check_same(s);
    host_guest_free(s[0].g);
    host_guest_free(s[1].g);
}

/*
 * A queue is aligned to its size, and to 32 bytes at least (6.3.26). At the
 * aligned place are CMD_SYNCs, and before and after it illegal commands.
 */
static void test_alignment(const void *opaque)
{
    Smmu s;

    if (!start(&s, (uintptr_t)opaque)) {
        return;
    }
    for (unsigned log2 = 0; log2 <= 8; log2++) {
        unsigned n = 1u << log2, least = MAX(n, 2);
        uint64_t at = COMMANDS + MAX(0x1000, 16 * least) + 16 * least;

        set(&s, SMMU_CR0, 0);
        for (uint64_t gpa = at - 16 * least; gpa < at + 32 * least; gpa += 16) {
            bool in = gpa >= at && gpa < at + 16 * n;

            qtest_writeq(s.qts, gpa, in ? 0x46 : 0xff);
            qtest_writeq(s.qts, gpa + 8, 0);
        }
        /* The address that is written lies in the middle of the queue */
        set64(&s, SMMU_CMDQ_BASE, at | (n > 2 ? 8 * n : 0) | log2);
        set(&s, SMMU_CMDQ_PROD, 0);
        set(&s, SMMU_CMDQ_CONS, 0);
        set(&s, SMMU_CR0, SMMU_CR0_CMDQEN);
        set(&s, SMMU_CMDQ_PROD, n);
        for (int i = 0; i < 1000 && get(&s, SMMU_CMDQ_CONS) != n; i++) {
            g_usleep(100);
        }
        g_assert_cmphex(get(&s, SMMU_CMDQ_CONS), ==, n);
        g_assert_cmphex(get(&s, SMMU_GERROR), ==, 0);
    }
    set(&s, SMMU_CR0, 0);
    end(&s);
}

/* A guest cannot move CMDQ_CONS or the queue under a drain that goes on */
static void test_drain(void)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .smmu_args = ",x-drain-us=0",
    };
    const unsigned n = 100;
    uint64_t before;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    /* With a stream that translates the host gets all commands */
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    before = host_counter(g, "smmu.cmd.TLBI_NH_ASID");
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    for (unsigned i = 0; i < n; i++) {
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(i + 1));
        smmu_cmd(g, 0, CMD_SYNC);
    }
    smmu_kick(g, 0);
    smmu_write(g, 0, SMMU_CMDQ_CONS, g->smmu[0].prod);
    smmu_write64(g, 0, SMMU_CMDQ_BASE, EVENTS | HOST_CMDQ_LOG2);
    smmu_write(g, 0, SMMU_CMDQ_BASE, EVENTS | 1);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), !=, g->smmu[0].prod);
    qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
    for (int i = 0; smmu_read(g, 0, SMMU_CMDQ_CONS) != g->smmu[0].prod; i++) {
        g_assert_cmpint(i, <, 100000);
    }
    g_assert_cmpuint(host_counter(g, "smmu.cmd.TLBI_NH_ASID") - before, ==, n);
    host_finish(g);
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = { "emulated", "memory", "trap" };

    g_test_init(&argc, &argv, NULL);
    if (!qtest_has_machine("virt")) {
        return g_test_run();
    }
    for (uintptr_t kind = EMULATED; kind <= TRAP; kind++) {
        g_autofree char *walk = g_strdup_printf("/smmuv3-register/walk/%s",
                                                kinds[kind]);
        g_autofree char *align = g_strdup_printf("/smmuv3-register/align/%s",
                                                 kinds[kind]);

        qtest_add_data_func(walk, (void *)kind, test_walk);
        qtest_add_data_func(align, (void *)kind, test_alignment);
    }
    qtest_add_func("/smmuv3-register/reads", test_reads);
    qtest_add_func("/smmuv3-register/drain", test_drain);
    return g_test_run();
}
