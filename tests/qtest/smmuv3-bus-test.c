/*
 * QTest of SMMUv3s whose PCI buses are renumbered or removed
 *
 * A guest can do both at any time. What an SMMU caches by bus must follow.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qemu/bitops.h"
#include "hw/pci/pci_regs.h"
#include "qobject/qdict.h"
#include "smmuv3-test-util.h"

/* SMMUv3 registers (IHI 0070, 6.2) */
#define SMMU_CR0                0x20
#define SMMU_GERROR             0x60
#define SMMU_STRTAB_BASE        0x80
#define SMMU_STRTAB_BASE_CFG    0x88
#define SMMU_CMDQ_BASE          0x90
#define SMMU_CMDQ_PROD          0x98
#define SMMU_CMDQ_CONS          0x9c
#define SMMU_EVENTQ_BASE        0xa0
#define SMMU_EVENTQ_PROD        0x100a8

#define CR0_SMMUEN              0x1
#define CR0_EVENTQEN            0x4
#define CR0_CMDQEN              0x8
#define QUEUE_LOG2              8
#define EVT_C_BAD_STE           0x4

#define STE_BYPASS              0x9
#define STE_ABORT               0x1
/* The first words. The second is Leaf, or a range of 2^(word + 1) StreamIDs */
#define CMD_CFGI_STE(sid)       (0x3 | (uint64_t)(sid) << 32)
#define CMD_CFGI_STE_RANGE(sid) (0x4 | (uint64_t)(sid) << 32)
#define CMD_SYNC                0x46

/* Guest memory */
#define DMA_TARGET              (VIRT_RAM_BASE + 0x100000)
#define STREAM_TABLE            (VIRT_RAM_BASE + 0x1000000)
#define EVENT_QUEUE             (VIRT_RAM_BASE + 0x2000000)
#define COMMAND_QUEUE           (VIRT_RAM_BASE + 0x2100000)

#define EDU_BAR(n)              (VIRT_PCIE_MMIO_BASE + 0x1000000 * (1 + (n)))

#define PORT(n) \
    " -device pcie-root-port,id=rp" #n ",bus=pcie.0,addr=" #n ".0,chassis=" #n
#define EDU(n) " -device edu,bus=rp" #n ",dma_mask=0xffffffff"

typedef struct Row {
    const char *name;
    const char *machine, *args;
    uint64_t smmu;
    bool accel;
} Row;

static const Row rows[] = {
    { "machine", ",iommu=smmuv3", "", VIRT_SMMU_BASE },
    { "user", "", " -device arm-smmuv3,primary-bus=pcie.0",
      VIRT_PLATFORM_BUS_BASE },
    { "accel", "", " -device arm-smmuv3,primary-bus=pcie.0,accel=on",
      VIRT_PLATFORM_BUS_BASE, true },
};

typedef struct Guest {
    QTestState *qts;
    uint64_t smmu;
    uint32_t prod;
} Guest;

static uint64_t ecam(int bus, int slot, int reg)
{
    return VIRT_ECAM_BASE + (bus << 20 | slot << 15 | reg);
}

/* The bridge at @slot of @bus gets secondary bus @number, up to bus @last */
static void set_bus(Guest *g, int bus, int slot, int number, int last)
{
    qtest_writeb(g->qts, ecam(bus, slot, PCI_PRIMARY_BUS), bus);
    qtest_writeb(g->qts, ecam(bus, slot, PCI_SECONDARY_BUS), number);
    qtest_writeb(g->qts, ecam(bus, slot, PCI_SUBORDINATE_BUS), last);
}

static void start(Guest *g, const Row *row, const char *args)
{
    g_autofree char *line = g_strdup_printf(
        "-nodefaults -cpu max -m 128 -machine " SMMUV3_MACHINE "%s -bios %s"
        "%s%s", row->machine, smmuv3_firmware(), args, row->args);

    /* Freed memory is no bus any more, with and without a sanitizer */
    g_setenv("MALLOC_PERTURB_", "165", true);
    *g = (Guest) { .qts = qtest_init(line), .smmu = row->smmu };
}

static void enable_smmu(Guest *g)
{
    qtest_writeq(g->qts, g->smmu + SMMU_STRTAB_BASE, STREAM_TABLE);
    qtest_writel(g->qts, g->smmu + SMMU_STRTAB_BASE_CFG, 16);
    qtest_writeq(g->qts, g->smmu + SMMU_CMDQ_BASE, COMMAND_QUEUE | QUEUE_LOG2);
    qtest_writeq(g->qts, g->smmu + SMMU_EVENTQ_BASE, EVENT_QUEUE | QUEUE_LOG2);
    qtest_writel(g->qts, g->smmu + SMMU_CR0,
                 CR0_SMMUEN | CR0_EVENTQEN | CR0_CMDQEN);
}

static void set_ste(Guest *g, uint32_t sid, uint64_t word0)
{
    qtest_writeq(g->qts, STREAM_TABLE + sid * 64, word0);
}

/* Issue a command and a CMD_SYNC, which both succeed */
static void command(Guest *g, uint64_t word0, uint64_t word1)
{
    uint64_t cmds[][2] = { { word0, word1 }, { CMD_SYNC, 0 } };

    for (int i = 0; i < ARRAY_SIZE(cmds); i++) {
        uint64_t at = COMMAND_QUEUE + g->prod % BIT(QUEUE_LOG2) * 16;

        qtest_writeq(g->qts, at, cmds[i][0]);
        qtest_writeq(g->qts, at + 8, cmds[i][1]);
        g->prod = (g->prod + 1) % (2 << QUEUE_LOG2);
    }
    qtest_writel(g->qts, g->smmu + SMMU_CMDQ_PROD, g->prod);
    g_assert_cmphex(qtest_readl(g->qts, g->smmu + SMMU_CMDQ_CONS), ==, g->prod);
    g_assert_cmphex(qtest_readl(g->qts, g->smmu + SMMU_GERROR), ==, 0);
}

/* Does a write of edu @n reach memory? */
static bool dma_works(Guest *g, int n)
{
    qtest_writel(g->qts, DMA_TARGET, 0xaaaaaaaa);
    smmuv3_edu_dma(g->qts, EDU_BAR(n), true, DMA_TARGET, 4);
    return qtest_readl(g->qts, DMA_TARGET) == 0;
}

/* The edu behind port @n, which is on bus @number now */
static void enable_edu(Guest *g, int n, int number)
{
    uint64_t port = ecam(0, n, 0), edu = ecam(number, 0, 0);

    qtest_writew(g->qts, port + PCI_MEMORY_BASE, EDU_BAR(n) >> 16);
    qtest_writew(g->qts, port + PCI_MEMORY_LIMIT, EDU_BAR(n) >> 16);
    qtest_writew(g->qts, port + PCI_COMMAND,
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    smmuv3_edu_enable(g->qts, edu, EDU_BAR(n));
}

/*
 * Two devices exchange their bus numbers. Each has the STE of its new StreamID
 * at once, and CFGI_STE reaches the device that has the StreamID now.
 */
static void test_renumbered(const void *opaque)
{
    static const uint64_t cfgi[][2] = {
        { CMD_CFGI_STE(0x100), 1 },
        { CMD_CFGI_STE_RANGE(0x100), 0 },
        { CMD_CFGI_STE_RANGE(0), 31 },
    };
    Guest g;

    for (int way = 0; way < ARRAY_SIZE(cfgi); way++) {
        start(&g, opaque, PORT(1) PORT(2) EDU(1) EDU(2));
        set_bus(&g, 0, 1, 1, 1);
        set_bus(&g, 0, 2, 2, 2);
        enable_edu(&g, 1, 1);
        enable_edu(&g, 2, 2);
        enable_smmu(&g);
        set_ste(&g, 0x100, STE_BYPASS);
        set_ste(&g, 0x200, STE_ABORT);
        command(&g, CMD_CFGI_STE(0x100), 1);
        command(&g, CMD_CFGI_STE(0x200), 1);
        g_assert_true(dma_works(&g, 1));
        g_assert_false(dma_works(&g, 2));

        set_bus(&g, 0, 1, 3, 3);
        set_bus(&g, 0, 2, 1, 1);
        set_bus(&g, 0, 1, 2, 2);
        g_assert_false(dma_works(&g, 1));
        g_assert_true(dma_works(&g, 2));

        /* By the book the old STE holds until the CFGI_STE */
        set_ste(&g, 0x100, STE_ABORT);
        command(&g, cfgi[way][0], cfgi[way][1]);
        g_assert_false(dma_works(&g, 2));
        set_ste(&g, 0x200, STE_BYPASS);
        command(&g, CMD_CFGI_STE(0x200), 1);
        g_assert_true(dma_works(&g, 1));
        qtest_quit(g.qts);
    }
}

/* Where the device at @config has capability @id */
static uint64_t find_cap_of(Guest *g, uint64_t config, int id)
{
    int at = qtest_readb(g->qts, config + PCI_CAPABILITY_LIST);

    while (qtest_readb(g->qts, config + at) != id) {
        at = qtest_readb(g->qts, config + at + 1);
        g_assert_cmpint(at, !=, 0);
    }
    return config + at;
}

/* The same of port 1 */
static uint64_t find_cap(Guest *g, int id)
{
    return find_cap_of(g, ecam(0, 1, 0), id);
}

/* Port 1 signals what happens in its slot by a message to DMA_TARGET */
static void enable_port_msi(Guest *g)
{
    uint64_t table = VIRT_PCIE_MMIO_BASE + 0x8000000;

    qtest_writel(g->qts, ecam(0, 1, PCI_BASE_ADDRESS_0), table);
    qtest_writew(g->qts, ecam(0, 1, PCI_COMMAND),
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    qtest_writeq(g->qts, table + PCI_MSIX_ENTRY_LOWER_ADDR, DMA_TARGET);
    qtest_writel(g->qts, table + PCI_MSIX_ENTRY_DATA, 0xabcd);
    qtest_writel(g->qts, table + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
    qtest_writew(g->qts, find_cap(g, PCI_CAP_ID_MSIX) + PCI_MSIX_FLAGS,
                 PCI_MSIX_FLAGS_ENABLE);
    set_ste(g, 8, STE_BYPASS);
    command(g, CMD_CFGI_STE(8), 1);
}

/* Address spaces that the SMMU has made for devices */
static int address_spaces(Guest *g)
{
    g_autofree char *tree = qtest_hmp(g->qts, "info mtree");
    int n = 0;

    for (char *at = tree; (at = strstr(at, "address-space: smmuv3-iommu"));
         at++) {
        n++;
    }
    return n;
}

/*
 * The guest turns off a slot with a switch in it, and goes on. QEMU translates
 * the port's message about it: without a message an SMMU with accel=on has no
 * cache of its own that a CFGI_STE could reach.
 */
static void test_switch_removed(const void *opaque)
{
    static const uint32_t sids[] = { 0x100, 0x200, 0x208, 0x300, 0x400, 0 };
    Guest g;

    for (int lookup_before = 0; lookup_before < 2; lookup_before++) {
        start(&g, opaque, PORT(1)
              " -device x3130-upstream,id=up,bus=rp1"
              " -device xio3130-downstream,id=d0,bus=up,addr=0.0,chassis=8"
              " -device xio3130-downstream,id=d1,bus=up,addr=1.0,chassis=9");
        set_bus(&g, 0, 1, 1, 4);
        set_bus(&g, 1, 0, 2, 4);
        set_bus(&g, 2, 0, 3, 3);
        set_bus(&g, 2, 1, 4, 4);
        enable_smmu(&g);
        for (int i = 0; lookup_before && i < ARRAY_SIZE(sids); i++) {
            command(&g, CMD_CFGI_STE(sids[i]), 1);
        }

        enable_port_msi(&g);
        qtest_writew(g.qts, find_cap(&g, PCI_CAP_ID_EXP) + PCI_EXP_SLTCTL,
                     PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_HPIE |
                     PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_PWR_IND_OFF);
        g_assert_cmphex(qtest_readl(g.qts, ecam(1, 0, 0)), ==, 0xffffffff);
        g_assert_cmphex(qtest_readl(g.qts, DMA_TARGET), ==, 0xabcd);

        for (int i = 0; i < ARRAY_SIZE(sids); i++) {
            command(&g, CMD_CFGI_STE(sids[i]), 1);
            command(&g, CMD_CFGI_STE_RANGE(sids[i]), 8);
        }
        command(&g, CMD_CFGI_STE_RANGE(0), 31);
        qtest_system_reset(g.qts);
        enable_smmu(&g);
        g.prod = 0;
        command(&g, CMD_CFGI_STE(0x100), 1);
        qtest_quit(g.qts);
    }
}

/*
 * A port of a switch signals by a message to DMA_TARGET. Its bus gets a number
 * whose STE aborts, and nothing else happens: the next message is lost.
 */
static void test_port_renumbered(const void *opaque)
{
    uint64_t port = ecam(2, 0, 0), msi, slot;
    Guest g;

    start(&g, opaque, PORT(1)
          " -device x3130-upstream,id=up,bus=rp1"
          " -device xio3130-downstream,id=d0,bus=up,addr=0.0,chassis=8"
          " -device x3130-upstream,id=up2,bus=d0");
    set_bus(&g, 0, 1, 1, 6);
    set_bus(&g, 1, 0, 2, 6);
    set_bus(&g, 2, 0, 3, 3);
    enable_smmu(&g);
    set_ste(&g, 0x200, STE_BYPASS);
    set_ste(&g, 0x400, STE_ABORT);
    command(&g, CMD_CFGI_STE_RANGE(0), 31);

    msi = find_cap_of(&g, port, PCI_CAP_ID_MSI);
    qtest_writew(g.qts, port + PCI_COMMAND, PCI_COMMAND_MASTER);
    qtest_writel(g.qts, msi + PCI_MSI_ADDRESS_LO, DMA_TARGET);
    qtest_writel(g.qts, msi + PCI_MSI_ADDRESS_HI, 0);
    qtest_writew(g.qts, msi + PCI_MSI_DATA_64, 0xabcd);
    qtest_writew(g.qts, msi + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE);
    slot = find_cap_of(&g, port, PCI_CAP_ID_EXP) - port + PCI_EXP_SLTCTL;
    qtest_writew(g.qts, port + slot, PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_HPIE);
    qtest_qmp_assert_success(g.qts, "{ 'execute': 'device_del', "
                             "'arguments': { 'id': 'up2' } }");
    g_assert_cmphex(qtest_readl(g.qts, DMA_TARGET), ==, 0xabcd);
    qtest_writew(g.qts, port + slot + PCI_EXP_SLTSTA - PCI_EXP_SLTCTL,
                 PCI_EXP_SLTSTA_ABP);

    set_bus(&g, 1, 0, 4, 6);
    port = ecam(4, 0, 0);
    qtest_writel(g.qts, DMA_TARGET, 0);
    qtest_writew(g.qts, port + slot, PCI_EXP_SLTCTL_PDCE |
                 PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_PCC |
                 PCI_EXP_SLTCTL_PWR_IND_OFF);
    g_assert_cmphex(qtest_readw(g.qts, port + slot + PCI_EXP_SLTSTA -
                                PCI_EXP_SLTCTL) & PCI_EXP_SLTSTA_PDC, ==,
                    PCI_EXP_SLTSTA_PDC);
    g_assert_cmphex(qtest_readl(g.qts, DMA_TARGET), ==, 0);
    qtest_quit(g.qts);
}

/* A bus that comes takes over what one that went has left behind */
static void test_bus_again(const void *opaque)
{
    int before = 0;
    Guest g;

    /* The base leaks a pcie-pci-bridge's SHPC when the bridge is unplugged */
    g_setenv("ASAN_OPTIONS", "detect_leaks=0", true);
    start(&g, opaque, PORT(1));
    g_unsetenv("ASAN_OPTIONS");
    for (int round = 0; round < 4; round++) {
        uint64_t slot;

        qtest_qmp_assert_success(g.qts, "{ 'execute': 'device_add', "
            "'arguments': { 'driver': 'pcie-pci-bridge', 'id': 'br', "
            "'bus': 'rp1' } }");
        qtest_qmp_assert_success(g.qts, "{ 'execute': 'device_add', "
            "'arguments': { 'driver': 'edu', 'id': 'edu', 'bus': 'br', "
            "'addr': '1' } }");
        if (!round) {
            before = address_spaces(&g);
            g_assert_cmpint(before, >=, 2);
        }
        g_assert_cmpint(address_spaces(&g), ==, before);
        set_bus(&g, 0, 1, 1, 4);
        slot = find_cap(&g, PCI_CAP_ID_EXP) + PCI_EXP_SLTCTL;
        qtest_writew(g.qts, slot, PCI_EXP_SLTCTL_PWR_IND_ON);
        qtest_writew(g.qts, slot, PCI_EXP_SLTCTL_PCC |
                     PCI_EXP_SLTCTL_PWR_IND_OFF);
        g_assert_cmphex(qtest_readl(g.qts, ecam(1, 0, 0)), ==, 0xffffffff);
    }
    qtest_quit(g.qts);
}

static void add(const char *name, const Row *row, void (*test)(const void *))
{
    g_autofree char *path = g_strdup_printf("smmuv3-bus/%s/%s", name,
                                            row->name);

    qtest_add_data_func(path, row, test);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    if (!qtest_has_machine("virt") || !qtest_has_device("edu") ||
        !qtest_has_device("x3130-upstream") ||
        !qtest_has_device("pcie-pci-bridge")) {
        return g_test_run();
    }
    for (int i = 0; i < ARRAY_SIZE(rows); i++) {
        const Row *row = &rows[i];

        add("switch-removed", row, test_switch_removed);
        add("port-renumbered", row, test_port_renumbered);
        /* accel=on has no emulated device behind it */
        if (!row->accel) {
            add("renumbered", row, test_renumbered);
            add("again", row, test_bus_again);
        }
    }
    return g_test_run();
}
