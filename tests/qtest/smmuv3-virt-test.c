/*
 * QTest of SMMUv3s that a user creates on the virt machine
 *
 * Checks their properties, where they are, what the guest's tables say about
 * them, which devices are behind them, and what is refused. Nothing runs in
 * the guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "libqtest.h"
#include "hw/pci/pci_regs.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "smmuv3-test-util.h"

#define BINARY "QTEST_QEMU_BINARY"

/* SMMUv3 registers (IHI 0070, 6.2) */
#define SMMU_IDR0               0x0
#define SMMU_IDR3               0xc
#define SMMU_CR0                0x20
#define SMMU_IRQ_CTRL           0x50
#define SMMU_GERROR             0x60
#define SMMU_STRTAB_BASE        0x80
#define SMMU_STRTAB_BASE_CFG    0x88
#define SMMU_CMDQ_BASE          0x90
#define SMMU_CMDQ_PROD          0x98
#define SMMU_CMDQ_CONS          0x9c
#define SMMU_EVENTQ_BASE        0xa0
#define SMMU_EVENTQ_PROD        0x100a8
#define SMMU_SIZE               0x20000

#define CR0_SMMUEN              0x1
#define CR0_EVENTQEN            0x4
#define CR0_CMDQEN              0x8
#define IDR0_S2P                0x1
#define IDR0_S1P                0x2
#define IDR3_FWB                0x100
#define IRQ_CTRL_EVENTQ_IRQEN   0x4
#define EVT_C_BAD_STE           0x4

/* The GICv3's distributor (IHI 0069, 12.9) */
#define GICD_ISPENDR            (0x08000000 + 0x200)
#define GICD_ICFGR              (0x08000000 + 0xc00)

#define V3 SMMUV3_MACHINE

/* A root port below pcie.0, and expander bridges with one each */
#define PORT0 " -device pcie-root-port,id=rp0,bus=pcie.0,addr=1.0,chassis=1"
#define PXB(n, bus_nr) \
    " -device pxb-pcie,id=pxb" #n ",bus=pcie.0,bus_nr=" #bus_nr \
    " -device pcie-root-port,id=rp" #n ",bus=pxb" #n ",chassis=1" #n
#define SMMU(id, bus) \
    " -device arm-smmuv3,primary-bus=" #bus ",id=" #id

/*
 * Configuration space, as firmware would set it up
 */

static uint64_t ecam(int bus, int slot, int reg)
{
    return VIRT_ECAM_BASE + (bus << 20 | slot << 15 | reg);
}

static void set_bridge_buses(QTestState *qts, int bus, int slot,
                             int secondary, int subordinate)
{
    qtest_writeb(qts, ecam(bus, slot, PCI_PRIMARY_BUS), bus);
    qtest_writeb(qts, ecam(bus, slot, PCI_SECONDARY_BUS), secondary);
    qtest_writeb(qts, ecam(bus, slot, PCI_SUBORDINATE_BUS), subordinate);
}

/*
 * Properties
 */

typedef struct PropertyRow {
    const char *name;
    const char *type;
    const char *default_value; /* as JSON, or NULL for none */
} PropertyRow;

/* A new property of the device needs a new row here */
static const PropertyRow properties[] = {
    { "accel", "bool", "false" },
    { "ats", "OnOffAuto", "\"auto\"" },
    { "bus_num", "uint8", "0" },
    { "cmdqv", "OnOffAuto", "\"auto\"" },
    { "cmdqv-poll-us", "uint32", "0" },
    { "identifier", "uint8", NULL },
    { "msi-gpa", "uint64", "0" },
    { "oas", "OasMode", "\"auto\"" },
    { "pasid", "bool", "false" },
    { "primary-bus", "link<PCI>", NULL },
    { "ril", "OnOffAuto", "\"auto\"" },
    { "s2fwb", "bool", "false" },
    { "share-stage2", "bool", "false" },
    { "smmu_per_bus", "bool", "false" },
    { "ssidsize", "SsidSizeMode", "\"auto\"" },
    { "stage", "str", NULL },
    { "x-cmdqv-backend", "CmdqvBackend", "\"auto\"" },
    { "x-direct-registers", "bool", "true" },
    { "x-drain-us", "uint32", "1000" },
};

static void test_properties(void)
{
    QTestState *qts = qtest_init("-machine none");
    QDict *rsp = qtest_qmp(qts, "{ 'execute': 'device-list-properties',"
                           " 'arguments': { 'typename': 'arm-smmuv3' } }");
    QList *list = qdict_get_qlist(rsp, "return");
    QListEntry *e;
    int i, found = 0;

    g_assert(list);
    QLIST_FOREACH_ENTRY(list, e) {
        QDict *prop = qobject_to(QDict, qlist_entry_obj(e));
        const char *name = qdict_get_str(prop, "name");
        QObject *def = qdict_get(prop, "default-value");
        g_autoptr(GString) json = def ? qobject_to_json(def) : NULL;

        for (i = 0; i < ARRAY_SIZE(properties); i++) {
            if (g_str_equal(properties[i].name, name)) {
                break;
            }
        }
        g_test_message("%s: %s, default %s", name, qdict_get_str(prop, "type"),
                       json ? json->str : "none");
        g_assert_cmpint(i, <, ARRAY_SIZE(properties));
        g_assert_cmpstr(qdict_get_str(prop, "type"), ==, properties[i].type);
        g_assert_cmpstr(json ? json->str : NULL, ==,
                        properties[i].default_value);
        /* a sentence, and not the "on/off" of a type; two are the base's */
        if (strcmp(name, "bus_num") && strcmp(name, "smmu_per_bus")) {
            const char *help = qdict_get_try_str(prop, "description");

            g_assert_true(help && strchr(help, ' '));
        }
        found++;
    }
    g_assert_cmpint(found, ==, ARRAY_SIZE(properties));
    qobject_unref(rsp);
    qtest_quit(qts);
}

/* What the ID registers say for each value of stage and s2fwb */
static void test_stages(void)
{
    static const struct {
        const char *args;
        uint64_t base;
        uint32_t stages, fwb;
    } rows[] = {
        { "-machine " V3 " -device arm-smmuv3,primary-bus=pcie.0",
          VIRT_PLATFORM_BUS_BASE, IDR0_S1P, 0 },
        { "-machine " V3 " -device arm-smmuv3,primary-bus=pcie.0,stage=2",
          VIRT_PLATFORM_BUS_BASE, IDR0_S2P, 0 },
        { "-machine " V3 " -device arm-smmuv3,primary-bus=pcie.0,stage=nested",
          VIRT_PLATFORM_BUS_BASE, IDR0_S1P | IDR0_S2P, 0 },
        { "-machine " V3 " -device arm-smmuv3,primary-bus=pcie.0,stage=nested"
          ",s2fwb=on",
          VIRT_PLATFORM_BUS_BASE, IDR0_S1P | IDR0_S2P, IDR3_FWB },
        { "-machine " V3 " -device arm-smmuv3,primary-bus=pcie.0,stage=2"
          ",s2fwb=on",
          VIRT_PLATFORM_BUS_BASE, IDR0_S2P, IDR3_FWB },
        { "-machine " V3 ",iommu=smmuv3",
          VIRT_SMMU_BASE, IDR0_S1P | IDR0_S2P, 0 },
        /* Where the machine sets no stage, an unknown one means 1 as ever */
        { "-machine virt-9.1,gic-version=3,iommu=smmuv3 "
          "-global arm-smmuv3.stage=x", VIRT_SMMU_BASE, IDR0_S1P, 0 },
        { "-machine " V3 ",iommu=smmuv3 -global arm-smmuv3.stage=nested"
          " -global arm-smmuv3.s2fwb=on",
          VIRT_SMMU_BASE, IDR0_S1P | IDR0_S2P, IDR3_FWB },
    };
    int i;

    for (i = 0; i < ARRAY_SIZE(rows); i++) {
        QTestState *qts = qtest_initf("-nodefaults %s", rows[i].args);

        g_test_message("%s", rows[i].args);
        g_assert_cmphex(qtest_readl(qts, rows[i].base + SMMU_IDR0) &
                        (IDR0_S1P | IDR0_S2P), ==, rows[i].stages);
        g_assert_cmphex(qtest_readl(qts, rows[i].base + SMMU_IDR3) & IDR3_FWB,
                        ==, rows[i].fwb);
        qtest_quit(qts);
    }
}

/*
 * Refusals
 */

typedef struct RefusalRow {
    const char *name;
    const char *machine; /* value of -machine */
    bool firmware;
    const char *args;
    const char *text;    /* what the error says */
} RefusalRow;

static const RefusalRow refusals[] = {
    { "no-primary-bus", V3, true, "-device arm-smmuv3,id=s0",
      "arm-smmuv3 's0': no primary-bus is given: write primary-bus=pcie.0, "
      "or the id of a pxb-pcie" },
    { "no-id", V3, true, "-device arm-smmuv3",
      "arm-smmuv3 '/machine/peripheral-anon/device[0]': no primary-bus" },
    { "empty-primary-bus", V3, true, "-device arm-smmuv3,id=s0,primary-bus=",
      "arm-smmuv3 's0': no primary-bus is given: write primary-bus=pcie.0" },
    { "no-such-bus", V3, true, SMMU(s0, nope),
      "arm-smmuv3 's0': there is no PCI bus 'nope': write primary-bus=pcie.0, "
      "or the id of a pxb-pcie that stands before this device" },
    { "bus-comes-later", V3, true, SMMU(s0, pxb1) PXB(1, 8),
      "arm-smmuv3 's0': there is no PCI bus 'pxb1': write primary-bus=pcie.0, "
      "or the id of a pxb-pcie that stands before this device" },
    { "not-a-bus", V3, true, "-device edu,id=edu0" SMMU(s0, edu0),
      "arm-smmuv3 's0': there is no PCI bus 'edu0'" },
    { "not-a-root-bus", V3, true, PORT0 SMMU(s0, rp0),
      "arm-smmuv3 's0': primary-bus 'rp0' is not a root bus: "
      "write primary-bus=pcie.0" },
    { "not-a-root-bus-pxb", V3, true, PXB(1, 8) SMMU(s0, rp1),
      "arm-smmuv3 's0': primary-bus 'rp1' is not a root bus: "
      "write primary-bus=pxb1" },
    { "no-number", V3, true, "-device pxb-pcie,id=pxb1" SMMU(s0, pxb1),
      "arm-smmuv3 's0': primary-bus 'pxb1' has bus number 0, which 'pcie.0' "
      "has already: write bus_nr=1 or more for its pxb-pcie" },
    { "pxb-cxl", V3, true, "-device pxb-cxl,id=cxl,bus_nr=8" SMMU(s0, cxl),
      "arm-smmuv3 's0': primary-bus 'cxl' is the root bus of a pxb-cxl, "
      "which cannot have an SMMU: use a pxb-pcie" },
    { "bus-taken", V3, true, SMMU(s0, pcie.0) SMMU(s1, pcie.0),
      "arm-smmuv3 's1': primary-bus 'pcie.0' has an IOMMU already: "
      "write another root bus" },
    { "bypass-default-bus", V3 ",default-bus-bypass-iommu=on", true,
      SMMU(s0, pcie.0),
      "arm-smmuv3 's0': primary-bus 'pcie.0' bypasses IOMMUs: "
      "drop -machine default-bus-bypass-iommu=on" },
    { "bypass-pxb", V3, true,
      "-device pxb-pcie,id=pxb1,bus_nr=8,bypass_iommu=on" SMMU(s0, pxb1),
      "arm-smmuv3 's0': primary-bus 'pxb1' bypasses IOMMUs: "
      "drop bypass_iommu=on from its pxb-pcie" },
    { "machine-smmu", V3 ",iommu=smmuv3", true, SMMU(s0, pcie.0),
      "arm-smmuv3 's0': the machine has an SMMU for all of its root complexes "
      "already: leave out either -machine iommu=smmuv3" },
    { "virtio-iommu-first", V3, true,
      "-device virtio-iommu-pci" SMMU(s0, pcie.0),
      "arm-smmuv3 's0': the machine has a virtio-iommu-pci already: "
      "leave out either" },
    { "virtio-iommu-second", V3, true,
      SMMU(s0, pcie.0) " -device virtio-iommu-pci,id=v0",
      "virtio-iommu-pci 'v0': the machine has arm-smmuv3 devices already: "
      "leave out either" },
    { "device-tree-kernel", V3, false, PXB(1, 8) SMMU(s0, pxb1),
      "arm-smmuv3 's0': primary-bus 'pxb1' needs a guest that boots by ACPI, "
      "since the device tree does not show 'pxb1' to it: "
      "add UEFI firmware" },
    { "device-tree-firmware", V3 ",acpi=off", true, PXB(1, 8) SMMU(s0, pxb1),
      "since the device tree does not show 'pxb1' to it: "
      "drop -machine acpi=off, or" },
    { "device-tree-both", V3 ",acpi=off", false, PXB(1, 8) SMMU(s0, pxb1),
      "since the device tree does not show 'pxb1' to it: "
      "drop -machine acpi=off and add UEFI firmware" },
    { "no-its", V3 ",its=off", true, SMMU(s0, pcie.0),
      "arm-smmuv3 's0': the machine has no ITS, which the ACPI tables (IORT) "
      "need behind an SMMU for MSIs: write -machine its=on" },
    { "stage", V3, true,
      "-device arm-smmuv3,primary-bus=pcie.0,id=s0,stage=3",
      "arm-smmuv3 's0': stage=3 is not known: "
      "write stage=1, stage=2 or stage=nested" },
    { "s2fwb", V3, true,
      "-device arm-smmuv3,primary-bus=pcie.0,id=s0,s2fwb=on",
      "arm-smmuv3 's0': s2fwb=on needs stage 2, which stage=1 does not have: "
      "write stage=nested" },
    { "identifier", V3, true,
      PXB(1, 8) SMMU(s0, pcie.0) ",identifier=7" SMMU(s1, pxb1)
      ",identifier=7",
      "arm-smmuv3 's1': identifier=7 is that of arm-smmuv3 's0' already: "
      "write another number, or leave it out" },
    { "number-of-bus", V3, true,
      "-device '{\"driver\": \"arm-smmuv3\", \"primary-bus\": 5}'",
      "Invalid parameter type for 'primary-bus', expected: string" },
    { "two-buses", V3, true,
      "-device pcie-root-port,id=pcie.0,chassis=1" SMMU(s0, pcie.0),
      "arm-smmuv3 's0': there is more than one PCI bus 'pcie.0': give the "
      "device with the other one another id" },
    { "identifier-256", V3, true, SMMU(s0, pcie.0) ",identifier=256",
      "Parameter 'identifier' expects uint8_t" },
    { "s2fwb-machine", "virt-9.1,iommu=smmuv3", true,
      "-global arm-smmuv3.s2fwb=on",
      "s2fwb=on needs stage 2, which stage=1 does not have" },
};

/* Skip the test if the build has no such device */
static bool needs_device(const char *name)
{
    if (!qtest_has_device(name)) {
        g_autofree char *why = g_strdup_printf("this QEMU has no %s", name);

        g_test_skip(why);
        return false;
    }
    return true;
}

static void test_refusal(const void *opaque)
{
    const RefusalRow *row = opaque;

    if ((strstr(row->args, "edu") && !needs_device("edu")) ||
        (strstr(row->args, "pxb-cxl") && !needs_device("pxb-cxl"))) {
        return;
    }
    smmuv3_check_refused(row->machine, row->firmware, row->args, row->text);
}

/*
 * A configuration of a later QEMU has a version of the machine that this one
 * does not have
 */
static void test_machine_version(void)
{
    static const struct {
        const char *machine;
        bool later;
    } rows[] = {
        { "virt-99.0", true },
        { "virt-9999.9999", true },
        { "virt-1.0", false },
        { "virt-2.99", false },
        { "virt-99", false },
        { "virt-99.0.0", false },
        { "virt-99.x", false },
        { "virt-99999.0", false },
        { "virt-", false },
        { "vir-99.0", false },
        { "virtual-99.0", false },
        { "-99.0", false },
    };
    QTestState *qts = qtest_init("-machine none");
    QDict *rsp = qtest_qmp(qts, "{ 'execute': 'query-machines' }");
    g_autofree char *newest = NULL;
    QListEntry *e;
    int i;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), e) {
        QDict *machine = qobject_to(QDict, qlist_entry_obj(e));

        if (!g_strcmp0(qdict_get_try_str(machine, "alias"), "virt")) {
            newest = g_strdup(qdict_get_str(machine, "name"));
        }
    }
    qobject_unref(rsp);
    qtest_quit(qts);
    g_assert(newest);

    for (i = 0; i < ARRAY_SIZE(rows); i++) {
        g_autofree char *text = rows[i].later ?
            g_strdup_printf("machine type '%s' is of a later QEMU, and %s is "
                            "the newest that QEMU ", rows[i].machine, newest) :
            g_strdup_printf("unsupported machine type: \"%s\"",
                            rows[i].machine);
        g_autofree char *advice =
            g_strdup_printf("has: write -machine %s, in libvirt "
                            "<type machine='%s'>", newest, newest);

        smmuv3_check_refused(rows[i].machine, false, "", text);
        if (rows[i].later) {
            smmuv3_check_refused(rows[i].machine, false, "", advice);
        }
    }
}

/* @nb PXBs, each with one SMMU */
static char *many_smmus(int nb)
{
    GString *args = g_string_new("");
    int i;

    for (i = 1; i <= nb; i++) {
        g_string_append_printf(args, " -device pxb-pcie,id=pxb%d,bus=pcie.0,"
                               "bus_nr=%d -device arm-smmuv3,primary-bus=pxb%d,"
                               "id=s%d", i, i * 8, i, i);
    }
    return g_string_free(args, false);
}

static void test_17th(void)
{
    g_autofree char *sixteen = many_smmus(16);
    g_autofree char *args = g_strdup_printf("%s" SMMU(s17, pcie.0), sixteen);

    smmuv3_check_refused(V3, true, args,
                  "arm-smmuv3 's17': it needs 4 interrupts, and the platform "
                  "bus has 0 of its 64 left: it carries 16 SMMUs at most");
}

/* Valid or not, no SMMU can be hot-plugged, and QEMU goes on */
static void test_hot_plug(void)
{
    QTestState *qts = qtest_initf("-nodefaults -machine " V3 " -bios %s"
                                  PXB(1, 8), smmuv3_firmware());
    static const char *const args[] = {
        "'primary-bus': 'pcie.0'",
        "'primary-bus': 'pxb1'",
        "'primary-bus': 'nope'",
        "'primary-bus': 'rp1'",
        "'stage': 'nested'",
    };
    int i;

    for (i = 0; i < ARRAY_SIZE(args); i++) {
        g_autofree char *cmd = g_strdup_printf(
            "{ 'execute': 'device_add', 'arguments': {"
            " 'driver': 'arm-smmuv3', 'id': 's0', %s } }", args[i]);
        QDict *rsp, *error;

        qtest_qmp_send_raw(qts, "%s", cmd);
        rsp = qtest_qmp_receive(qts);
        error = qdict_get_qdict(rsp, "error");
        g_assert(error);
        g_assert_cmpstr(qdict_get_str(error, "desc"), ==,
                        "Device 'arm-smmuv3' does not support hotplugging");
        qobject_unref(rsp);
    }
    qtest_qmp_assert_success(qts, "{ 'execute': 'query-status' }");
    qtest_quit(qts);
}

/* -device creates SMMUs only on machines that allow it */
static void test_other_machine(void)
{
    g_autofree char *err = NULL;
    int status = smmuv3_run(BINARY, "-machine none" SMMU(s0, pcie.0), &err);

    g_test_message("%d: %s", status, err);
    g_assert_cmpint(status, ==, 1);
    g_assert(strstr(err, "Parameter 'driver' expects a dynamic sysbus device "
                    "type for the machine"));
}

/* The machine's iommu property is about the machine's own SMMU only */
static void test_machine_property(void)
{
    static const char *const rows[][2] = {
        { "", "none" },
        { SMMU(s0, pcie.0), "none" },
        { " -device virtio-iommu-pci", "none" },
        { " -machine iommu=smmuv3", "smmuv3" },
    };
    int i;

    for (i = 0; i < ARRAY_SIZE(rows); i++) {
        QTestState *qts = qtest_initf("-nodefaults -machine " V3 "%s",
                                      rows[i][0]);
        QDict *rsp = qtest_qmp(qts, "{ 'execute': 'qom-get', 'arguments': {"
                               " 'path': '/machine', 'property': 'iommu' } }");

        g_assert_cmpstr(qdict_get_str(rsp, "return"), ==, rows[i][1]);
        qobject_unref(rsp);
        qtest_quit(qts);
    }
}

/* The QOM path of the SMMU that the board made */
static char *machine_smmu_path(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{ 'execute': 'qom-list', 'arguments': {"
                           " 'path': '/machine/unattached' } }");
    QListEntry *e;
    char *path = NULL;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), e) {
        QDict *child = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(child, "type"), "child<arm-smmuv3>")) {
            path = g_strdup_printf("/machine/unattached/%s",
                                   qdict_get_str(child, "name"));
        }
    }
    qobject_unref(rsp);
    g_assert(path);
    return path;
}

/* The board sets which kind an SMMU is; the user cannot */
static void test_per_bus_property(void)
{
    g_autofree char *path = NULL;
    QTestState *qts;

    qts = qtest_init("-nodefaults -machine " V3
                     " -device arm-smmuv3,primary-bus=pcie.0,id=s0,"
                     "smmu_per_bus=off");
    g_assert(qtest_qom_get_bool(qts, "/machine/peripheral/s0",
                                "smmu_per_bus"));
    qtest_quit(qts);

    qts = qtest_init("-nodefaults -machine " V3 ",iommu=smmuv3"
                     " -global arm-smmuv3.smmu_per_bus=on");
    path = machine_smmu_path(qts);
    g_assert(!qtest_qom_get_bool(qts, path, "smmu_per_bus"));
    qtest_quit(qts);
}

/*
 * ACPI: IORT
 */

typedef struct IortRow {
    const char *name;
    const char *machine;
    const char *args;
    int buses[8][4];     /* bus, slot, secondary, subordinate; ends with 0s */
    const char *summary; /* of smmuv3_iort_summary() */
} IortRow;

static const IortRow iorts[] = {
    { "0-smmus", V3, PORT0 PXB(1, 8), { },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 RC: 0x0+0x10000>0\n" },
    { "1-smmu", V3, SMMU(s0, pcie.0), { },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 SMMUv3 base 0xc000000 gsiv 144 145 147 146: 0x0+0x10000>0\n"
      "2 RC: 0x0+0x100>1 0x100+0xff00>0\n" },
    /* an SMMU on pcie.0 covers the buses below its bridges, not the PXB */
    { "1-smmu-pxb-uncovered", V3, PORT0 PXB(1, 8) SMMU(s0, pcie.0),
      { { 0, 1, 1, 3 }, { 8, 0, 9, 10 } },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 SMMUv3 base 0xc000000 gsiv 144 145 147 146: 0x0+0x10000>0\n"
      "2 RC: 0x0+0x400>1 0x400+0xfc00>0\n" },
    { "1-smmu-pcie0-uncovered", V3, PORT0 PXB(1, 8) SMMU(s0, pxb1),
      { { 0, 1, 1, 3 }, { 8, 0, 9, 10 } },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 SMMUv3 base 0xc000000 gsiv 144 145 147 146: 0x0+0x10000>0\n"
      "2 RC: 0x800+0x300>1 0x0+0x800>0 0xb00+0xf500>0\n" },
    /* before firmware, a bridge has bus numbers 0, which no PXB has */
    { "1-smmu-no-firmware-yet", V3, PORT0 PXB(1, 8) SMMU(s0, pxb1), { },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 SMMUv3 base 0xc000000 gsiv 144 145 147 146: 0x0+0x10000>0\n"
      "2 RC: 0x800+0x100>1 0x0+0x800>0 0x900+0xf700>0\n" },
    /* a guest that gives a bridge more buses than its root complex has */
    { "1-smmu-hostile", V3, PORT0 PXB(1, 8) SMMU(s0, pcie.0),
      { { 0, 1, 1, 255 } },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 SMMUv3 base 0xc000000 gsiv 144 145 147 146: 0x0+0x10000>0\n"
      "2 RC: 0x0+0x800>1 0x800+0xf800>0\n" },
    /*
     * nodes are in the order of bus numbers, places on the platform bus in that
     * of the command line; the PXB at 16 has no SMMU
     */
    { "3-smmus", V3, PORT0 PXB(1, 8) PXB(2, 16) PXB(3, 32)
      SMMU(s3, pxb3) SMMU(s0, pcie.0) SMMU(s1, pxb1),
      { { 0, 1, 1, 1 }, { 8, 0, 9, 9 }, { 16, 0, 17, 17 }, { 32, 0, 33, 36 } },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 SMMUv3 base 0xc020000 gsiv 148 149 151 150: 0x0+0x10000>0\n"
      "2 SMMUv3 base 0xc040000 gsiv 152 153 155 154: 0x0+0x10000>0\n"
      "3 SMMUv3 base 0xc000000 gsiv 144 145 147 146: 0x0+0x10000>0\n"
      "4 RC: 0x0+0x200>1 0x800+0x200>2 0x2000+0x500>3"
      " 0x200+0x600>0 0xa00+0x1600>0 0x2500+0xdb00>0\n" },
    /* no ITS with a GICv2, so no mapping to one */
    { "1-smmu-gicv2", "virt,gic-version=2", PXB(1, 8) SMMU(s0, pxb1), { },
      "IORT rev 3\n"
      "0 SMMUv3 base 0xc000000 gsiv 144 145 147 146\n"
      "1 RC: 0x800+0x100>0\n" },
    /* the machine's own SMMU covers all root complexes, in any order */
    { "machine-smmu", V3 ",iommu=smmuv3", PORT0 PXB(1, 8),
      { { 0, 1, 1, 3 }, { 8, 0, 9, 10 } },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 SMMUv3 base 0x9050000 gsiv 106 107 109 108: 0x0+0x10000>0\n"
      "2 RC: 0x0+0x400>1 0x800+0x300>1 0x400+0x400>0 0xb00+0xf500>0\n" },
};

/* Identifiers that the user has chosen, and the others keep away from them */
static const IortRow identifiers[] = {
    { "some", V3, PXB(1, 8) PXB(3, 32) SMMU(s3, pxb3) ",identifier=1"
      SMMU(s0, pcie.0) ",identifier=255" SMMU(s1, pxb1), { },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 #255 SMMUv3 base 0xc020000 gsiv 148 149 151 150: 0x0+0x10000>0\n"
      "2 SMMUv3 base 0xc040000 gsiv 152 153 155 154: 0x0+0x10000>0\n"
      "3 #1 SMMUv3 base 0xc000000 gsiv 144 145 147 146: 0x0+0x10000>0\n"
      "4 #3 RC: 0x0+0x100>1 0x800+0x100>2 0x2000+0x100>3"
      " 0x100+0x700>0 0x900+0x1700>0 0x2100+0xdf00>0\n" },
    { "that-of-its", V3, SMMU(s0, pcie.0) ",identifier=0", { },
      "IORT rev 3\n"
      "0 #1 ITS\n"
      "1 #0 SMMUv3 base 0xc000000 gsiv 144 145 147 146: 0x0+0x10000>0\n"
      "2 RC: 0x0+0x100>1 0x100+0xff00>0\n" },
    { "that-of-rc", V3, SMMU(s0, pcie.0) ",identifier=2", { },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 #2 SMMUv3 base 0xc000000 gsiv 144 145 147 146: 0x0+0x10000>0\n"
      "2 #1 RC: 0x0+0x100>1 0x100+0xff00>0\n" },
    { "machine-smmu", V3 ",iommu=smmuv3", "-global arm-smmuv3.identifier=9",
      { },
      "IORT rev 3\n"
      "0 ITS\n"
      "1 #9 SMMUv3 base 0x9050000 gsiv 106 107 109 108: 0x0+0x10000>0\n"
      "2 #1 RC: 0x0+0x100>1 0x100+0xff00>0\n" },
};

static QDict *qom_get(QTestState *qts, const char *path, const char *property)
{
    return qtest_qmp(qts, "{ 'execute': 'qom-get', 'arguments': {"
                     " 'path': %s, 'property': %s } }", path, property);
}

/* The property is the path of the bus. Nobody writes it after realize. */
static void test_primary_bus_property(void)
{
    QTestState *qts = qtest_init("-nodefaults -machine " V3 ",acpi=off"
                                 SMMU(s0, pcie.0));
    QDict *rsp = qom_get(qts, "s0", "primary-bus");
    const char *path = qdict_get_str(rsp, "return");

    g_assert_true(g_str_has_suffix(path, "/pcie.0"));
    qobject_unref(rsp);
    for (int n = 0; n < 2; n++) {
        rsp = n ? qtest_qmp(qts, "{ 'execute': 'qom-set', 'arguments': {"
                            " 'path': 's0', 'property': 'primary-bus',"
                            " 'value': 1 } }")
                : qtest_qmp(qts, "{ 'execute': 'qom-set', 'arguments': {"
                            " 'path': 's0', 'property': 'primary-bus',"
                            " 'value': '' } }");
        g_assert_true(qdict_haskey(rsp, "error"));
        qobject_unref(rsp);
    }
    rsp = qom_get(qts, "s0", "primary-bus");
    g_assert_true(g_str_has_suffix(qdict_get_str(rsp, "return"), "/pcie.0"));
    qobject_unref(rsp);
    qtest_quit(qts);
}

/* The property says what the table says, whoever has chosen it */
static void test_identifier_property(void)
{
    QTestState *qts = qtest_initf("-nodefaults -machine " V3 " -bios %s"
                                  PXB(1, 8) SMMU(s0, pcie.0) SMMU(s1, pxb1)
                                  ",identifier=1", smmuv3_firmware());

    for (int i = 0; i < 2; i++) {
        QDict *rsp = qom_get(qts, i ? "s1" : "s0", "identifier");

        g_assert_cmpint(qdict_get_int(rsp, "return"), ==, i ? 1 : 2);
        qobject_unref(rsp);
    }
    qtest_quit(qts);
}

static void test_iort(const void *opaque)
{
    const IortRow *row = opaque;
    QTestState *qts = qtest_initf("-nodefaults -cpu max -machine %s -bios %s"
                                  " %s", row->machine, smmuv3_firmware(),
                                  row->args);
    g_autofree uint8_t *table = NULL;
    g_autofree char *summary = NULL;
    size_t len;
    int i;

    for (i = 0; row->buses[i][2]; i++) {
        set_bridge_buses(qts, row->buses[i][0], row->buses[i][1],
                         row->buses[i][2], row->buses[i][3]);
    }
    table = smmuv3_acpi_table(qts, "IORT", &len);
    g_assert(table);
    summary = smmuv3_iort_summary(table, len);
    g_assert_cmpstr(summary, ==, row->summary);
    qtest_quit(qts);
}

static void test_16(void)
{
    g_autofree char *args = many_smmus(16);
    QTestState *qts = qtest_initf("-nodefaults -cpu max -machine " V3
                                  " -bios %s%s", smmuv3_firmware(), args);
    g_autofree uint8_t *table = NULL;
    g_autofree char *summary = NULL;
    g_autoptr(GString) expected = g_string_new("IORT rev 3\n0 ITS\n");
    size_t len;
    int i;

    for (i = 0; i < 16; i++) {
        uint64_t base = VIRT_PLATFORM_BUS_BASE + i * SMMU_SIZE;
        int gsiv = 144 + i * 4;

        g_string_append_printf(expected, "%d SMMUv3 base 0x%" PRIx64
                               " gsiv %d %d %d %d: 0x0+0x10000>0\n", i + 1,
                               base, gsiv, gsiv + 1, gsiv + 3, gsiv + 2);
        g_assert_cmphex(qtest_readl(qts, base + SMMU_IDR0) & IDR0_S1P, !=, 0);
    }
    table = smmuv3_acpi_table(qts, "IORT", &len);
    g_assert(table);
    summary = smmuv3_iort_summary(table, len);
    g_assert(g_str_has_prefix(summary, expected->str));
    qtest_quit(qts);
}

/* Without an MSI window no host bridge needs its bus numbers kept (_DSM) */
static void test_dsdt(void)
{
    static const char *const args[] = {
        PORT0 PXB(1, 8), PORT0 PXB(1, 8) SMMU(s0, pcie.0) SMMU(s1, pxb1)
    };
    uint8_t *dsdt[2];
    size_t len[2];
    int i;

    for (i = 0; i < 2; i++) {
        QTestState *qts = qtest_initf("-nodefaults -cpu max -machine " V3
                                      " -bios %s %s", smmuv3_firmware(),
                                      args[i]);

        dsdt[i] = smmuv3_acpi_table(qts, "DSDT", &len[i]);
        g_assert(dsdt[i]);
        qtest_quit(qts);
    }
    g_assert_cmpmem(dsdt[0], len[0], dsdt[1], len[1]);
    g_free(dsdt[0]);
    g_free(dsdt[1]);
}

/*
 * Device tree
 */

typedef struct DtbRow {
    const char *name;
    const char *args;
    int firmware;
    int nb_nodes;      /* of SMMUs */
    const char *node;  /* name of pcie.0's SMMU, or NULL */
    const char *reg;
    const char *interrupts;
} DtbRow;

static const DtbRow dtbs[] = {
    { "0-smmus", PORT0, false, 0 },
    { "1-smmu", PORT0 SMMU(s0, pcie.0), false, 1, "smmuv3@c000000",
      "<0x00 0xc000000 0x00 0x20000>",
      "<0x00 0x70 0x01 0x00 0x71 0x01 0x00 0x72 0x01 0x00 0x73 0x01>" },
    /* PXBs are not in the device tree, so their SMMUs are not */
    { "3-smmus", PXB(1, 8) PXB(2, 16)
      SMMU(s1, pxb1) SMMU(s0, pcie.0) SMMU(s2, pxb2), true, 1,
      "smmuv3@c020000", "<0x00 0xc020000 0x00 0x20000>",
      "<0x00 0x74 0x01 0x00 0x75 0x01 0x00 0x76 0x01 0x00 0x77 0x01>" },
    { "2-smmus-pxb", PXB(1, 8) PXB(2, 16) SMMU(s1, pxb1) SMMU(s2, pxb2),
      true, 0 },
};

static void assert_has_line(const char *text, const char *line)
{
    if (!strstr(text, line)) {
        g_test_message("no line %s in", line);
        g_test_message("%s", text);
        g_test_fail();
    }
}

static void test_dtb(const void *opaque)
{
    const DtbRow *row = opaque;
    g_autofree char *args = g_strdup_printf("%s%s %s",
                                            row->firmware ? "-bios " : "",
                                            row->firmware ?
                                            smmuv3_firmware() : "", row->args);
    g_autofree void *dtb = NULL;
    g_autofree char *dts = NULL, *node = NULL, *line = NULL;
    const char *s, *phandle;
    size_t len;
    int nb = 0;

    dtb = smmuv3_dump_dtb(BINARY, V3, args, &len);
    dts = smmuv3_decompile("dtc", dtb, len);
    if (!dts) {
        g_test_skip("dtc is not installed");
        return;
    }

    for (s = dts; (s = strstr(s, "smmuv3@")); s++) {
        nb++;
    }
    g_assert_cmpint(nb, ==, row->nb_nodes);
    if (!row->node) {
        g_assert(!strstr(dts, "iommu-map"));
        return;
    }

    s = strstr(dts, row->node);
    g_assert(s && strstr(s, "};"));
    node = g_strndup(s, strstr(s, "};") - s);

    assert_has_line(node, "compatible = \"arm,smmu-v3\";");
    /* dtc 1.7 prints a list of strings */
    if (!strstr(node, "\"eventq\", \"priq\", \"cmdq-sync\", \"gerror\";")) {
        assert_has_line(node, "interrupt-names = "
                        "\"eventq\\0priq\\0cmdq-sync\\0gerror\";");
    }
    assert_has_line(node, "#iommu-cells = <0x01>;");
    assert_has_line(node, "dma-coherent;");
    line = g_strdup_printf("reg = %s;", row->reg);
    assert_has_line(node, line);
    g_free(line);
    line = g_strdup_printf("interrupts = %s;", row->interrupts);
    assert_has_line(node, line);
    g_free(line);

    phandle = strstr(node, "phandle = <");
    g_assert(phandle);
    phandle += strlen("phandle = <");
    line = g_strdup_printf("iommu-map = <0x00 %.*s 0x00 0x10000>;",
                           (int)strcspn(phandle, ">"), phandle);
    assert_has_line(strstr(dts, "pcie@"), line);
}

/*
 * Which devices are behind which SMMU: tested by DMA of an emulated device
 */

#define DMA_TARGET      (VIRT_RAM_BASE + 0x100000)
#define STREAM_TABLE    (VIRT_RAM_BASE + 0x1000000)
#define EVENT_QUEUE     (VIRT_RAM_BASE + 0x2000000)
#define COMMAND_QUEUE   (VIRT_RAM_BASE + 0x2100000)

#define EDU0_BAR        (VIRT_PCIE_MMIO_BASE + 0x1000000)
#define EDU1_BAR        (VIRT_PCIE_MMIO_BASE + 0x2000000)

#define EDU0 " -device edu,bus=pcie.0,addr=2.0,dma_mask=0xffffffff"
#define EDU1 " -device edu,bus=rp1,dma_mask=0xffffffff"

typedef struct DmaRow {
    const char *name;
    const char *machine;
    const char *args;
    uint64_t smmu;    /* registers of the one that gets enabled */
    int gsiv;         /* of its event queue, as the tables have it */
    bool covers_pcie0;
    bool covers_pxb;
} DmaRow;

#define SMMU_1ST VIRT_PLATFORM_BUS_BASE
#define SMMU_2ND (VIRT_PLATFORM_BUS_BASE + SMMU_SIZE)

static const DmaRow dmas[] = {
    { "pcie.0", V3, PXB(1, 8) SMMU(s0, pcie.0) EDU0 EDU1,
      SMMU_1ST, 144, true, false },
    { "pcie.0-after-devices", V3, PXB(1, 8) EDU0 EDU1 SMMU(s0, pcie.0),
      SMMU_1ST, 144, true, false },
    { "pxb", V3, PXB(1, 8) SMMU(s1, pxb1) EDU0 EDU1,
      SMMU_1ST, 144, false, true },
    { "pxb-after-devices", V3, PXB(1, 8) EDU0 EDU1 SMMU(s1, pxb1),
      SMMU_1ST, 144, false, true },
    { "both-1st", V3, PXB(1, 8) SMMU(s0, pcie.0) SMMU(s1, pxb1) EDU0 EDU1,
      SMMU_1ST, 144, true, false },
    { "both-2nd", V3, PXB(1, 8) SMMU(s0, pcie.0) SMMU(s1, pxb1) EDU0 EDU1,
      SMMU_2ND, 148, false, true },
    { "machine", V3 ",iommu=smmuv3", PXB(1, 8) EDU0 EDU1,
      VIRT_SMMU_BASE, 106, true, true },
};

/* Is an edge-triggered interrupt pending? No vCPU takes it */
static bool irq_pending(QTestState *qts, int gsiv)
{
    return qtest_readl(qts, GICD_ISPENDR + gsiv / 32 * 4) >> (gsiv % 32) & 1;
}

/*
 * Let an edu write at @iova, which leads to DMA_TARGET. If the STE is bad
 * (@covered) the SMMU aborts the write and records an event at @events.
 */
static void check_dma_to(QTestState *qts, uint64_t bar, uint64_t iova,
                         uint64_t smmu, uint64_t events, uint32_t sid,
                         bool covered)
{
    uint32_t prod = qtest_readl(qts, smmu + SMMU_EVENTQ_PROD);
    uint64_t evt = events + prod * 32;

    qtest_writel(qts, DMA_TARGET, 0xaaaaaaaa);
    smmuv3_edu_dma(qts, bar, true, iova, 4);
    g_assert_cmphex(qtest_readl(qts, DMA_TARGET), ==,
                    covered ? 0xaaaaaaaa : 0);
    g_assert_cmphex(qtest_readl(qts, smmu + SMMU_EVENTQ_PROD), ==,
                    prod + covered);
    if (covered) {
        g_assert_cmphex(qtest_readb(qts, evt), ==, EVT_C_BAD_STE);
        g_assert_cmphex(qtest_readl(qts, evt + 4), ==, sid);
    }
}

/* The same at the target's own address. Every STE is invalid */
static void check_dma(QTestState *qts, uint64_t bar, uint64_t smmu,
                      uint32_t sid, bool covered)
{
    check_dma_to(qts, bar, DMA_TARGET, smmu, EVENT_QUEUE, sid, covered);
}

static void test_dma(const void *opaque)
{
    const DmaRow *row = opaque;
    QTestState *qts;

    if (!needs_device("edu")) {
        return;
    }
    qts = qtest_initf("-nodefaults -cpu max -m 128 -machine %s -bios %s %s",
                      row->machine, smmuv3_firmware(), row->args);

    smmuv3_edu_enable(qts, ecam(0, 2, 0), EDU0_BAR);
    set_bridge_buses(qts, 8, 0, 9, 9);
    qtest_writew(qts, ecam(8, 0, PCI_MEMORY_BASE), EDU1_BAR >> 16);
    qtest_writew(qts, ecam(8, 0, PCI_MEMORY_LIMIT), EDU1_BAR >> 16);
    qtest_writew(qts, ecam(8, 0, PCI_COMMAND),
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    smmuv3_edu_enable(qts, ecam(9, 0, 0), EDU1_BAR);

    /* a disabled SMMU bypasses */
    check_dma(qts, EDU0_BAR, row->smmu, 0, false);
    check_dma(qts, EDU1_BAR, row->smmu, 0, false);

    /* a linear stream table of zeros, for all StreamIDs */
    qtest_writeq(qts, row->smmu + SMMU_STRTAB_BASE, STREAM_TABLE);
    qtest_writel(qts, row->smmu + SMMU_STRTAB_BASE_CFG, 16);
    qtest_writeq(qts, row->smmu + SMMU_CMDQ_BASE, COMMAND_QUEUE | 4);
    qtest_writeq(qts, row->smmu + SMMU_EVENTQ_BASE, EVENT_QUEUE | 4);
    qtest_writel(qts, row->smmu + SMMU_IRQ_CTRL, IRQ_CTRL_EVENTQ_IRQEN);
    qtest_writel(qts, row->smmu + SMMU_CR0,
                 CR0_SMMUEN | CR0_EVENTQEN | CR0_CMDQEN);

    qtest_writel(qts, GICD_ICFGR + row->gsiv / 16 * 4,
                 2U << (row->gsiv % 16 * 2)); /* edge */
    g_assert(!irq_pending(qts, row->gsiv));

    check_dma(qts, EDU0_BAR, row->smmu, 2 << 3, row->covers_pcie0);
    check_dma(qts, EDU1_BAR, row->smmu, 9 << 8, row->covers_pxb);
    g_assert(irq_pending(qts, row->gsiv));
    qtest_quit(qts);
}

/*
 * IHI 0070 5.2: an STE's fields of stage 1 matter only if stage 1 is on, and
 * S1CDMax only if there are SubstreamIDs, which an emulated SMMU does not have
 */

#define TABLE           (VIRT_RAM_BASE + 0x300000)
#define CD              (VIRT_RAM_BASE + 0x310000)
#define EDU0_SID        (2 << 3)
#define IOVA            (DMA_TARGET + 2 * GiB)

#define STE0_CONFIG(n)  (1 | (n) << 1)
#define STE0_S1FMT(n)   ((n) << 4)
#define STE0_S1CDMAX(n) ((uint64_t)(n) << 59)
#define STE1_S1STALLD   (1 << 27)

typedef struct SteRow {
    const char *name;
    const char *stage;
    uint64_t word[2];
    bool bad;
    bool high;          /* queues and tables are above 4 GiB */
    bool level_2;       /* the Stream Table has two levels */
    uint64_t ips;       /* of the CD; 4 if it is 0 */
    uint64_t s2t0sz;    /* 25 if it is 0; else the address has 31 bits */
} SteRow;

/* The guest's memory ends at 5 GiB then */
#define HIGH            (3 * GiB)
#define LEVEL_2         (VIRT_RAM_BASE + 0x1800000)
#define SPLIT           8

static const SteRow stes[] = {
    { "stage-1", "1", { STE0_CONFIG(5) } },
    { "s1cdmax", "1", { STE0_CONFIG(5) | STE0_S1CDMAX(4) } },
    { "s1cdmax-all-ones", "1",
      { STE0_CONFIG(5) | STE0_S1CDMAX(31) | STE0_S1FMT(3) } },
    { "s1stalld", "1", { STE0_CONFIG(5), STE1_S1STALLD }, true },
    { "stage-2", "2", { STE0_CONFIG(6) } },
    { "stage-2-s1cdmax", "2",
      { STE0_CONFIG(6) | STE0_S1CDMAX(4), STE1_S1STALLD } },
    /* Level 1, which begins at bit 30, resolves one bit, or none at all */
    { "s2t0sz-33", "2", { STE0_CONFIG(6) }, .s2t0sz = 33 },
    { "s2t0sz-34", "2", { STE0_CONFIG(6) }, true, .s2t0sz = 34 },
    { "s2t0sz-39", "2", { STE0_CONFIG(6) }, true, .s2t0sz = 39 },
    /* 52 bits and a reserved value act as what the SMMU has */
    { "ips-52", "1", { STE0_CONFIG(5) }, .ips = 6 },
    { "ips-reserved", "1", { STE0_CONFIG(5) }, .ips = 7 },
    { "high", "1", { STE0_CONFIG(5) }, .high = true },
    { "high-stage-2", "2", { STE0_CONFIG(6) }, .high = true },
    { "high-bad", "1", { STE0_CONFIG(5), STE1_S1STALLD }, true, .high = true },
    { "two-levels", "1", { STE0_CONFIG(5) }, .level_2 = true },
    { "high-two-levels", "1", { STE0_CONFIG(5) }, .high = true,
      .level_2 = true },
    { "high-two-levels-bad", "1", { STE0_CONFIG(5), STE1_S1STALLD }, true,
      .high = true, .level_2 = true },
};

static uint64_t iova_of(const SteRow *row)
{
    return row->s2t0sz ? DMA_TARGET : IOVA;
}

/* Tables of one level for 39 bits, which map IOVA to the target of the DMA */
static void write_tables(QTestState *qts, const SteRow *row)
{
    uint64_t high = row->high ? HIGH : 0;
    uint64_t table = high + TABLE, cd = high + CD;
    uint64_t ste = high + (row->level_2 ? LEVEL_2 : STREAM_TABLE) +
                   EDU0_SID * 64;

    if (row->level_2) {
        qtest_writeq(qts, high + STREAM_TABLE,
                     (high + LEVEL_2) | (SPLIT + 1));
    }
    /* A block of 1 GiB: readable and writable for all, in either stage */
    qtest_writeq(qts, table + iova_of(row) / GiB * 8,
                 VIRT_RAM_BASE | 1 | 1 << 6 | (*row->stage == '2') << 7 |
                 3 << 8 | 1 << 10);
    /* T0SZ=25, EPD1, V, IPS=44 bits, AA64, R, A, ASET */
    qtest_writeq(qts, cd, 25 | 1 << 30 | 1u << 31 | (row->ips ?: 4) << 32 |
                 1ull << 41 | 7ull << 45);
    qtest_writeq(qts, cd + 8, table);
    qtest_writeq(qts, cd + 24, 0xff);

    qtest_writeq(qts, ste + 8, row->word[1]);
    /* S2T0SZ, S2SL0=1 (level 1), S2PS=44 bits, S2AA64, S2R */
    qtest_writeq(qts, ste + 16, ((row->s2t0sz ?: 25) | 1 << 6 | 4 << 16 |
                                 1 << 19 | 1 << 26) << 32);
    qtest_writeq(qts, ste + 24, table);
    qtest_writeq(qts, ste, row->word[0] | cd);
}

/* A CMD_SYNC is complete, in a queue at @queue that was not used */
static void check_sync(QTestState *qts, uint64_t queue)
{
    qtest_writeq(qts, queue, 0x46);
    qtest_writeq(qts, queue + 8, 0);
    qtest_writel(qts, SMMU_1ST + SMMU_CMDQ_PROD, 1);
    g_assert_cmphex(qtest_readl(qts, SMMU_1ST + SMMU_CMDQ_CONS), ==, 1);
    g_assert_cmphex(qtest_readl(qts, SMMU_1ST + SMMU_GERROR), ==, 0);
}

static void test_ste(const void *opaque)
{
    const SteRow *row = opaque;
    uint64_t high = row->high ? HIGH : 0;
    QTestState *qts;

    if (!needs_device("edu")) {
        return;
    }
    qts = qtest_initf("-nodefaults -cpu max -m %u -machine %s -bios %s "
                      "-global arm-smmuv3.stage=%s " SMMU(s0, pcie.0) EDU0,
                      row->high ? 4096 : 128, V3, smmuv3_firmware(),
                      row->stage);
    smmuv3_edu_enable(qts, ecam(0, 2, 0), EDU0_BAR);
    write_tables(qts, row);
    qtest_writeq(qts, SMMU_1ST + SMMU_STRTAB_BASE, high + STREAM_TABLE);
    qtest_writel(qts, SMMU_1ST + SMMU_STRTAB_BASE_CFG,
                 row->level_2 ? 1 << 16 | SPLIT << 6 | 16 : 16);
    qtest_writeq(qts, SMMU_1ST + SMMU_CMDQ_BASE, (high + COMMAND_QUEUE) | 4);
    qtest_writeq(qts, SMMU_1ST + SMMU_EVENTQ_BASE, (high + EVENT_QUEUE) | 4);
    qtest_writel(qts, SMMU_1ST + SMMU_CR0,
                 CR0_SMMUEN | CR0_EVENTQEN | CR0_CMDQEN);
    check_dma_to(qts, EDU0_BAR, iova_of(row), SMMU_1ST, high + EVENT_QUEUE,
                 EDU0_SID, row->bad);
    check_sync(qts, high + COMMAND_QUEUE);
    qtest_quit(qts);
}

/* Without firmware a guest reads no ACPI, so its devices may have no ITS */
static void test_no_its_by_tree(void)
{
    size_t len;
    g_autofree void *dtb =
        smmuv3_dump_dtb(BINARY, V3 ",its=off", "-device arm-smmuv3,"
                        "primary-bus=pcie.0", &len);

    g_assert_nonnull(memmem(dtb, len, "arm,smmu-v3", 12));
}

int main(int argc, char **argv)
{
    int i;

    g_test_init(&argc, &argv, NULL);

    if (!qtest_has_machine("virt") || !qtest_has_device("pxb-pcie") ||
        !qtest_has_device("pcie-root-port")) {
        return g_test_run();
    }

    qtest_add_func("smmuv3-virt/properties", test_properties);
    qtest_add_func("smmuv3-virt/stages", test_stages);
    qtest_add_func("smmuv3-virt/machine-property", test_machine_property);
    qtest_add_func("smmuv3-virt/per-bus-property", test_per_bus_property);

    for (i = 0; i < ARRAY_SIZE(refusals); i++) {
        g_autofree char *path = g_strdup_printf("smmuv3-virt/refuse/%s",
                                                refusals[i].name);

        qtest_add_data_func(path, &refusals[i], test_refusal);
    }
    qtest_add_func("smmuv3-virt/refuse/machine-version", test_machine_version);
    qtest_add_func("smmuv3-virt/refuse/17th", test_17th);
    qtest_add_func("smmuv3-virt/no-its-by-tree", test_no_its_by_tree);
    qtest_add_func("smmuv3-virt/refuse/hot-plug", test_hot_plug);
    qtest_add_func("smmuv3-virt/refuse/other-machine", test_other_machine);

    for (i = 0; i < ARRAY_SIZE(iorts); i++) {
        g_autofree char *path = g_strdup_printf("smmuv3-virt/iort/%s",
                                                iorts[i].name);

        qtest_add_data_func(path, &iorts[i], test_iort);
    }
    for (i = 0; i < ARRAY_SIZE(identifiers); i++) {
        g_autofree char *path = g_strdup_printf("smmuv3-virt/identifier/%s",
                                                identifiers[i].name);

        qtest_add_data_func(path, &identifiers[i], test_iort);
    }
    qtest_add_func("smmuv3-virt/identifier/property", test_identifier_property);
    qtest_add_func("smmuv3-virt/primary-bus", test_primary_bus_property);
    qtest_add_func("smmuv3-virt/iort/16-smmus", test_16);
    qtest_add_func("smmuv3-virt/dsdt", test_dsdt);

    for (i = 0; i < ARRAY_SIZE(dtbs); i++) {
        g_autofree char *path = g_strdup_printf("smmuv3-virt/dtb/%s",
                                                dtbs[i].name);

        qtest_add_data_func(path, &dtbs[i], test_dtb);
    }

    for (i = 0; i < ARRAY_SIZE(dmas); i++) {
        g_autofree char *path = g_strdup_printf("smmuv3-virt/dma/%s",
                                                dmas[i].name);

        qtest_add_data_func(path, &dmas[i], test_dma);
    }

    for (i = 0; i < ARRAY_SIZE(stes); i++) {
        g_autofree char *path = g_strdup_printf("smmuv3-virt/ste/%s",
                                                stes[i].name);

        qtest_add_data_func(path, &stes[i], test_ste);
    }

    return g_test_run();
}
