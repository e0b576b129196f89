/*
 * QTest of arm-smmuv3 with accel=on, without a host
 *
 * Checks which configurations are refused and with which error, what the ID
 * registers report while there is no device, and that a hot-plug refusal never
 * stops a running machine.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qobject/qdict.h"
#include "smmuv3-test-util.h"

#define ACCEL "-device arm-smmuv3,id=s0,primary-bus=pcie.0,accel=on "
#define PORT "-device pcie-root-port,id=rp0,bus=pcie.0,chassis=1 "

#define IDR0 0x0
#define IDR1 0x4
#define IDR3 0xc
#define IDR5 0x14
#define AIDR 0x1c

/*
 * Refusals, cold: QEMU does not start
 */

typedef struct Row {
    const char *name;
    bool no_firmware;
    const char *args;
    const char *text;
} Row;

static const Row refusals[] = {
    { "device-tree", true, ACCEL "-nic none",
      "arm-smmuv3 's0': accel=on needs a guest that boots by ACPI, since a "
      "device tree cannot tell it to map the host's MSI window: add UEFI "
      "firmware (-bios, pflash) and do not write -machine acpi=off" },
    { "acpi-off", false, "-machine acpi=off " ACCEL "-nic none",
      "arm-smmuv3 's0': accel=on needs a guest that boots by ACPI" },
    /* virt plugs its NICs before any -device; -nodefaults drops the default */
    { "machine-nic", false, "-net nic -global virtio-net-pci.romfile= " ACCEL,
      "cannot be behind arm-smmuv3 's0' with accel=on, which translates "
      "assigned devices only: put it on a root complex without accel=on, or "
      "leave it out (-nic none for the machine's default NIC)" },
    { "emulated-after", false,
      "-nic none " ACCEL "-device virtio-rng-pci,id=rng",
      "virtio-rng-pci 'rng' cannot be behind arm-smmuv3 's0' with accel=on" },
    { "emulated-before", false,
      "-nic none -device virtio-rng-pci,id=rng " ACCEL,
      "virtio-rng-pci 'rng' cannot be behind arm-smmuv3 's0' with accel=on" },
    { "emulated-below-port-after", false,
      "-nic none " PORT ACCEL "-device virtio-rng-pci,id=rng,bus=rp0",
      "virtio-rng-pci 'rng' cannot be behind arm-smmuv3 's0' with accel=on" },
    { "emulated-below-port-before", false,
      "-nic none " PORT "-device virtio-rng-pci,id=rng,bus=rp0 " ACCEL,
      "virtio-rng-pci 'rng' cannot be behind arm-smmuv3 's0' with accel=on" },
    { "emulated-below-pci-bridge", false,
      "-nic none " ACCEL "-device pcie-pci-bridge,id=br,bus=pcie.0 "
      "-device virtio-rng-pci,id=rng,bus=br,addr=1",
      "virtio-rng-pci 'rng' cannot be behind arm-smmuv3 's0' with accel=on" },
    { "vfio-without-iommufd", false,
      "-nic none " ACCEL "-device vfio-pci,id=v0,host=0000:00:00.0",
      "vfio-pci 'v0' cannot be behind arm-smmuv3 's0' with accel=on without "
      "an iommufd: add -object iommufd,id=iommufd0 and give the device "
      "iommufd=iommufd0" },
    { "aliased-requester", false,
      "-nic none " ACCEL "-device pcie-pci-bridge,id=br,bus=pcie.0 "
      "-object iommufd,id=iommufd0 "
      "-device vfio-pci,id=v0,host=0000:00:00.0,iommufd=iommufd0,bus=br,addr=1",
      "vfio-pci 'v0' cannot be behind arm-smmuv3 's0' with accel=on from a "
      "conventional PCI bus, where its requests carry the bridge's StreamID: "
      "put it on a pcie-root-port" },
    { "machine-smmu", false,
      "-nic none -machine iommu=smmuv3 -global arm-smmuv3.accel=on",
      "the SMMU that the machine creates cannot have accel=on: drop -machine "
      "iommu=smmuv3 and write -device arm-smmuv3,primary-bus=pcie.0,accel=on" },
    { "stage-2", false,
      "-nic none -device arm-smmuv3,id=s0,primary-bus=pcie.0,accel=on,stage=2",
      "arm-smmuv3 's0': stage=2 is not possible with accel=on, where stage 2 "
      "belongs to the host: drop stage=" },
    { "stage-nested", false,
      "-nic none "
      "-device arm-smmuv3,id=s0,primary-bus=pcie.0,accel=on,stage=nested",
      "arm-smmuv3 's0': stage=nested is not possible with accel=on" },
    { "cmdqv-hardware", false, "-nic none -device arm-smmuv3,id=s0,"
      "primary-bus=pcie.0,accel=on,cmdqv=off,x-cmdqv-backend=hardware",
      "arm-smmuv3 's0': x-cmdqv-backend=hardware needs cmdqv=on: add that, or "
      "leave it out" },
    { "cmdqv-backend", false, "-nic none -device arm-smmuv3,id=s0,"
      "primary-bus=pcie.0,accel=on,x-cmdqv-backend=software",
      "arm-smmuv3 's0': x-cmdqv-backend=software needs cmdqv=on: add that, or "
      "leave it out" },
    { "cmdqv-poll", false, "-nic none -device arm-smmuv3,id=s0,"
      "primary-bus=pcie.0,accel=on,cmdqv-poll-us=1000",
      "arm-smmuv3 's0': cmdqv-poll-us=1000 needs cmdqv=on: add that, or leave "
      "it out" },
    { "cmdqv-poll-short", false, "-nic none -device arm-smmuv3,id=s0,"
      "primary-bus=pcie.0,accel=on,cmdqv=on,cmdqv-poll-us=9",
      "arm-smmuv3 's0': cmdqv-poll-us=9 is out of range: write 10 to 10000000 "
      "microseconds, 1000 for one, or 0 for no thread" },
    { "cmdqv-poll-long", false, "-nic none -device arm-smmuv3,id=s0,"
      "primary-bus=pcie.0,accel=on,cmdqv=on,cmdqv-poll-us=4294967295",
      "arm-smmuv3 's0': cmdqv-poll-us=4294967295 is out of range" },
    { "ssidsize", false, "-nic none "
      "-device arm-smmuv3,id=s0,primary-bus=pcie.0,accel=on,ssidsize=21",
      "ssidsize" },
    { "oas-value", false, "-nic none "
      "-device arm-smmuv3,id=s0,primary-bus=pcie.0,accel=on,oas=47",
      "oas" },
    { "only-migratable", false, "-only-migratable -nic none " ACCEL,
      "with accel=on, its state and that of the host's SMMUv3 cannot be "
      "migrated or saved yet" },
    { "ril-without-accel", false,
      "-nic none -device arm-smmuv3,id=s0,primary-bus=pcie.0,ril=off",
      "are for an accelerated SMMU: add accel=on, or leave them out" },
    { "oas-without-accel", false,
      "-nic none -device arm-smmuv3,id=s0,primary-bus=pcie.0,oas=48",
      "are for an accelerated SMMU: add accel=on, or leave them out" },
    { "ats-without-accel", false,
      "-nic none -device arm-smmuv3,id=s0,primary-bus=pcie.0,ats=on",
      "are for an accelerated SMMU: add accel=on, or leave them out" },
    { "cmdqv-without-accel", false,
      "-nic none -device arm-smmuv3,id=s0,primary-bus=pcie.0,cmdqv=on",
      "are for an accelerated SMMU: add accel=on, or leave them out" },
    { "ssidsize-without-accel", false,
      "-nic none -device arm-smmuv3,id=s0,primary-bus=pcie.0,ssidsize=1",
      "are for an accelerated SMMU: add accel=on, or leave them out" },
    { "share-stage2-without-accel", false,
      "-nic none -device arm-smmuv3,id=s0,primary-bus=pcie.0,share-stage2=on",
      "are for an accelerated SMMU: add accel=on, or leave them out" },
    { "cmdqv-backend-without-accel", false,
      "-nic none -device arm-smmuv3,id=s0,primary-bus=pcie.0,"
      "x-cmdqv-backend=software",
      "are for an accelerated SMMU: add accel=on, or leave them out" },
    { "cmdqv-poll-without-accel", false,
      "-nic none -device arm-smmuv3,id=s0,primary-bus=pcie.0,"
      "cmdqv-poll-us=1000",
      "are for an accelerated SMMU: add accel=on, or leave them out" },
};

static void test_refusal(const void *opaque)
{
    const Row *row = opaque;

    smmuv3_check_refused(SMMUV3_MACHINE, !row->no_firmware, row->args,
                         row->text);
}

/*
 * Refusals, hot: device_add fails, the machine goes on
 */

static const Row hot_refusals[] = {
    { "emulated", false,
      "'driver': 'virtio-rng-pci', 'id': 'hot', 'bus': 'rp0'",
      "virtio-rng-pci 'hot' cannot be behind arm-smmuv3 's0' with accel=on" },
    { "vfio-without-iommufd", false,
      "'driver': 'vfio-pci', 'id': 'hot', 'bus': 'rp0',"
      "'host': '0000:00:00.0'",
      "vfio-pci 'hot' cannot be behind arm-smmuv3 's0' with accel=on without "
      "an iommufd" },
};

static QTestState *start(const char *args)
{
    return qtest_initf("-machine " SMMUV3_MACHINE " -bios %s -nic none %s",
                       smmuv3_firmware(), args);
}

static void test_hot_refusal(const void *opaque)
{
    const Row *row = opaque;
    QTestState *qts = start(PORT ACCEL);
    QDict *rsp, *error;

    /* twice: a refusal must leave nothing behind */
    for (int i = 0; i < 2; i++) {
        qtest_qmp_send_raw(qts, "{ 'execute': 'device_add', 'arguments': {%s} "
                           "}", row->args);
        rsp = qtest_qmp_receive(qts);
        error = qdict_get_qdict(rsp, "error");
        g_assert(error);
        g_test_message("%s", qdict_get_str(error, "desc"));
        g_assert(strstr(qdict_get_str(error, "desc"), row->text));
        qobject_unref(rsp);
    }
    qtest_qmp_assert_success(qts, "{ 'execute': 'query-status' }");
    qtest_quit(qts);
}

/*
 * ID registers while there is no device
 */

typedef struct IdrRow {
    const char *options;
    uint32_t ril;
    uint32_t oas;
    uint32_t ats, ssidsize;
} IdrRow;

static const IdrRow idrs[] = {
    { "", 0, 4 },
    { ",ril=auto,oas=auto", 0, 4 },
    { ",ril=on,oas=48", 1, 5 },
    { ",ril=off,oas=44", 0, 4 },
    { ",oas=52", 0, 6 },
    { ",ats=on,ril=off,ssidsize=20,oas=48", 0, 5, 1, 20 },
    { ",ssidsize=1", 0, 4, 0, 1 },
    { ",ats=off,cmdqv=off,ssidsize=0", 0, 4 },
    { ",ats=auto,cmdqv=auto,ssidsize=auto,share-stage2=on", 0, 4 },
    { ",cmdqv=on", 0, 4 },
    { ",stage=1", 0, 4 },
};

static void test_idr(void)
{
    for (int i = 0; i < ARRAY_SIZE(idrs); i++) {
        g_autofree char *args = g_strdup_printf(
            "-device arm-smmuv3,id=s0,primary-bus=pcie.0,accel=on%s",
            idrs[i].options);
        QTestState *qts = start(args);
        uint64_t base = VIRT_PLATFORM_BUS_BASE;

        /* the second round is after a reset, which must not change anything */
        for (int round = 0; round < 2; round++) {
            uint32_t idr0 = qtest_readl(qts, base + IDR0);
            uint32_t idr1 = qtest_readl(qts, base + IDR1);
            uint32_t idr3 = qtest_readl(qts, base + IDR3);
            uint32_t idr5 = qtest_readl(qts, base + IDR5);
            uint32_t aidr = qtest_readl(qts, base + AIDR);

            g_test_message("accel=on%s: IDR0 0x%x IDR3 0x%x IDR5 0x%x AIDR "
                           "0x%x", idrs[i].options, idr0, idr3, idr5, aidr);
            /*
             * S1P, AArch64, COHACC, ASID16, MSI, LE, no stall, TERM, 2-level
             * STE
             */
            g_assert_cmphex(idr0, ==, 0x0d40301a | idrs[i].ats << 10);
            /* Queues of 2^19 entries, 16 bits of a StreamID */
            g_assert_cmphex(idr1, ==, 0x02730010 | idrs[i].ssidsize << 6);
            /* no BBML: no host has reported it; HAD follows from RIL */
            g_assert_cmphex(idr3, ==, idrs[i].ril << 10 | idrs[i].ril << 2);
            /* 4K and 64K granules */
            g_assert_cmphex(idr5, ==, 0x50 | idrs[i].oas);
            g_assert_cmphex(aidr, ==, idrs[i].ril);
            qtest_system_reset(qts);
        }
        qtest_quit(qts);
    }
}

/*
 * Commands and registers work without a device: a bridge's MSIs need them
 */
static void test_commands_without_device(void)
{
    static const uint64_t cmds[][2] = {
        { 0x30, 0 },                        /* TLBI_NSNH_ALL */
        { 0x12, 0x1000 },                   /* TLBI_NH_VA */
        { 0x3 | 1ULL << 40, 0 },            /* CFGI_STE, StreamID 0x100 */
        { 0x4, 31 },                        /* CFGI_ALL */
        { 0x5 | 1ULL << 40, 1 },            /* CFGI_CD */
        { 0x46, 0 },                        /* SYNC */
    };
    QTestState *qts = start(PORT ACCEL);
    uint64_t base = VIRT_PLATFORM_BUS_BASE, queue = VIRT_RAM_BASE + 0x100000;

    for (int i = 0; i < ARRAY_SIZE(cmds); i++) {
        qtest_writeq(qts, queue + i * 16, cmds[i][0]);
        qtest_writeq(qts, queue + i * 16 + 8, cmds[i][1]);
    }
    qtest_writeq(qts, queue + ARRAY_SIZE(cmds) * 16, 0x40); /* ATC_INV */
    qtest_writeq(qts, base + 0x90, queue | 8);              /* CMDQ_BASE */
    qtest_writel(qts, base + 0x20, 0x8);                    /* CR0.CMDQEN */
    qtest_writel(qts, base + 0x98, ARRAY_SIZE(cmds));       /* CMDQ_PROD */
    g_assert_cmphex(qtest_readl(qts, base + 0x9c), ==, ARRAY_SIZE(cmds));
    g_assert_cmphex(qtest_readl(qts, base + 0x60), ==, 0);  /* GERROR */

    /* Without ATS, ATC_INV is illegal: CONS stays at it, GERROR.CMDQ_ERR */
    qtest_writel(qts, base + 0x98, ARRAY_SIZE(cmds) + 1);
    g_assert_cmphex(qtest_readl(qts, base + 0x9c), ==,
                    ARRAY_SIZE(cmds) | 1 << 24);
    g_assert_cmphex(qtest_readl(qts, base + 0x60), ==, 1);

    /* SMMUEN and GBPA, both ways */
    qtest_writel(qts, base + 0x44, 0x80101000);             /* GBPA.ABORT */
    qtest_writel(qts, base + 0x20, 0x9);
    qtest_writel(qts, base + 0x20, 0x8);
    g_assert_cmphex(qtest_readl(qts, base + 0x44), ==, 0x101000);
    qtest_quit(qts);
}

/*
 * Migration and snapshots
 */

static void test_migrate(void)
{
    QTestState *qts = start(ACCEL);
    QDict *rsp = qtest_qmp(qts, "{ 'execute': 'migrate', 'arguments': {"
                           "'uri': 'exec:cat >/dev/null' } }");
    QDict *error = qdict_get_qdict(rsp, "error");
    char *hmp;

    g_assert(error);
    g_test_message("%s", qdict_get_str(error, "desc"));
    g_assert(strstr(qdict_get_str(error, "desc"),
                    "arm-smmuv3 's0' with accel=on (its state cannot be "
                    "migrated, saved or loaded yet)"));
    qobject_unref(rsp);

    hmp = qtest_hmp(qts, "savevm now");
    g_test_message("%s", hmp);
    g_assert(strstr(hmp, "cannot be migrated, saved or loaded yet"));
    g_free(hmp);

    /* It asks nobody, so that its file is of no use; QEMU goes on */
    qtest_qmp_assert_success(qts, "{ 'execute': 'xen-save-devices-state', "
                             "'arguments': { 'filename': '/dev/null' } }");
    qtest_qmp_assert_success(qts, "{ 'execute': 'query-status' }");
    qtest_quit(qts);
}

/* The status of a migration that has ended; the caller unrefs it */
static QDict *wait_migration(QTestState *qts)
{
    for (int n = 0; n < 3000; n++) {
        QDict *rsp = qtest_qmp_assert_success_ref(
            qts, "{ 'execute': 'query-migrate' }");
        const char *status = qdict_get_try_str(rsp, "status");

        if (!g_strcmp0(status, "completed") || !g_strcmp0(status, "failed")) {
            return rsp;
        }
        qobject_unref(rsp);
        g_usleep(10000);
    }
    g_error("a migration does not end");
}

/* A state that an SMMU with accel=off has saved does not load with accel=on */
static void test_load(void)
{
    g_autofree char *dir = g_dir_make_tmp("smmuv3-accel-XXXXXX", NULL);
    g_autofree char *file = g_strdup_printf("file:%s/state", dir);
    QTestState *qts = start("-device arm-smmuv3,id=s0,primary-bus=pcie.0");
    QDict *status;

    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate', 'arguments': {"
                             "'uri': %s } }", file);
    status = wait_migration(qts);
    g_assert_cmpstr(qdict_get_str(status, "status"), ==, "completed");
    qobject_unref(status);
    qtest_quit(qts);

    for (int accel = 0; accel < 2; accel++) {
        qts = start(accel ? ACCEL " -incoming defer" :
                    "-device arm-smmuv3,id=s0,primary-bus=pcie.0 "
                    "-incoming defer");
        qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-incoming', "
                                 "'arguments': { 'uri': %s, "
                                 "'exit-on-error': false } }", file);
        status = wait_migration(qts);
        g_assert_cmpstr(qdict_get_str(status, "status"), ==,
                        accel ? "failed" : "completed");
        qobject_unref(status);
        qtest_quit(qts);
    }
    unlink(file + strlen("file:"));
    rmdir(dir);
}

/* The IORT reports the host's MSI window to the guest */
static void test_iort(void)
{
    QTestState *qts = start(ACCEL);
    size_t len;
    g_autofree uint8_t *iort = smmuv3_acpi_table(qts, "IORT", &len);
    g_autofree char *lines = NULL;

    g_assert(iort);
    lines = smmuv3_iort_summary(iort, len);
    g_test_message("%s", lines);
    g_assert(strstr(lines, "IORT rev 5\n"));
    g_assert(strstr(lines, "RMR flags 0x5 0x8000000+0x100000: 0x0+"));
    qtest_quit(qts);
}

/*
 * PCI Firmware Specification, 4.6.5: by function 5 of _DSM a host bridge tells
 * the guest to keep its bus numbers. The maps of the IORT rely on them.
 */

/* What _DSM of bridge @name does once it has seen its UUID */
static const uint8_t *find_dsm(const uint8_t *dsdt, size_t len,
                               const char *name)
{
    static const uint8_t uuid[] = {
        0xd0, 0x37, 0xc9, 0xe5, 0x53, 0x35, 0x7a, 0x4d,
        0x91, 0x17, 0xea, 0x4d, 0x19, 0xc3, 0x43, 0x4d,
    };
    g_autofree char *begin = g_strconcat(name, "\x08_HID", NULL);
    const uint8_t *at = memmem(dsdt, len, begin, strlen(begin));

    g_assert_nonnull(at);
    at = memmem(at, dsdt + len - at, uuid, sizeof(uuid));
    g_assert_nonnull(at);
    return at + sizeof(uuid);
}

static void check_dsm(const uint8_t *dsdt, size_t len, const char *name,
                      bool keeps)
{
    /* If (Arg2 == 0) { Return (Buffer (1) { functions 0 and 5 }) } */
    static const uint8_t kept[] = {
        0xa0, 9, 0x93, 0x6a, 0, 0xa4, 0x11, 3, 1, 1 << 0 | 1 << 5,
        /* If (Arg2 == 5) { Return (Zero) } */
        0xa0, 7, 0x93, 0x6a, 0x0a, 5, 0xa4, 0,
    };
    /* The same with no function, and then Return (Buffer (1) { 0 }) */
    static const uint8_t free[] = {
        0xa0, 9, 0x93, 0x6a, 0, 0xa4, 0x11, 3, 1, 0, 0xa4, 0x11, 3, 1, 0,
    };
    const uint8_t *dsm = find_dsm(dsdt, len, name);

    if (keeps) {
        g_assert_cmpmem(dsm, sizeof(kept), kept, sizeof(kept));
    } else {
        g_assert_cmpmem(dsm, sizeof(free), free, sizeof(free));
    }
}

static void test_dsm(void)
{
    for (int smmus = 0; smmus < 4; smmus++) {
        g_autofree char *args = g_strdup_printf(
            "-device pxb-pcie,id=pxb1,bus_nr=8,bus=pcie.0 "
            "-device pxb-pcie,id=pxb2,bus_nr=16,bus=pcie.0 "
            "-device arm-smmuv3,primary-bus=pxb2 %s %s",
            smmus & 1 ? ACCEL : "",
            smmus & 2 ? "-device arm-smmuv3,primary-bus=pxb1,accel=on" : "");
        QTestState *qts = start(args);
        size_t len;
        g_autofree uint8_t *dsdt = smmuv3_acpi_table(qts, "DSDT", &len);

        g_assert(dsdt);
        check_dsm(dsdt, len, "PCI0", smmus & 1);
        check_dsm(dsdt, len, "PC08", smmus & 2);
        check_dsm(dsdt, len, "PC10", false);
        qtest_quit(qts);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    for (int i = 0; i < ARRAY_SIZE(refusals); i++) {
        g_autofree char *path = g_strdup_printf("smmuv3-accel/refuse/%s",
                                                refusals[i].name);

        qtest_add_data_func(path, &refusals[i], test_refusal);
    }
    for (int i = 0; i < ARRAY_SIZE(hot_refusals); i++) {
        g_autofree char *path = g_strdup_printf("smmuv3-accel/refuse-hot/%s",
                                                hot_refusals[i].name);

        qtest_add_data_func(path, &hot_refusals[i], test_hot_refusal);
    }
    qtest_add_func("smmuv3-accel/idr", test_idr);
    qtest_add_func("smmuv3-accel/commands", test_commands_without_device);
    qtest_add_func("smmuv3-accel/migrate", test_migrate);
    qtest_add_func("smmuv3-accel/load", test_load);
    qtest_add_func("smmuv3-accel/iort", test_iort);
    qtest_add_func("smmuv3-accel/dsm", test_dsm);
    return g_test_run();
}
