/*
 * QTest: a machine with -machine iommu=smmuv3 is unchanged
 *
 * The environment variable QTEST_QEMU_PRISTINE names another binary, built
 * from sources without user-created SMMUs. Registers, ACPI tables, device tree
 * and migration stream of both must be the same, byte for byte. Without the
 * variable these tests are skipped.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <glib/gstdio.h>
#include "libqtest.h"
#include "hw/pci/pci_regs.h"
#include "qobject/qdict.h"
#include "smmuv3-test-util.h"

#define BINARY   "QTEST_QEMU_BINARY"
#define PRISTINE SMMUV3_PRISTINE

static const char *const binaries[2] = { PRISTINE, BINARY };

#define REGS_SIZE 0x200

/* SMMUv3 registers (IHI 0070, 6.2) */
#define SMMU_GBPA               0x44
#define SMMU_IRQ_CTRL           0x50
#define SMMU_STRTAB_BASE        0x80
#define SMMU_STRTAB_BASE_CFG    0x88
#define SMMU_CMDQ_BASE          0x90
#define SMMU_EVENTQ_BASE        0xa0

/* A fixed date and no randomness, so that both binaries show the same */
#define COMMON "-nodefaults -cpu max -m 64 -rtc base=2026-01-01,clock=vm "

typedef struct CompatRow {
    const char *name;
    const char *machine;
    const char *args;
} CompatRow;

#define PCI_DEVICES \
    " -device pcie-root-port,id=rp0,bus=pcie.0,addr=1.0,chassis=1" \
    " -device pxb-pcie,id=pxb1,bus=pcie.0,addr=2.0,bus_nr=8" \
    " -device pcie-root-port,id=rp1,bus=pxb1,chassis=2"

static const CompatRow rows[] = {
    { "plain", "virt,gic-version=3", "" },
    { "plain-pci", "virt,gic-version=3", PCI_DEVICES },
    { "smmu", "virt,gic-version=3,iommu=smmuv3", "" },
    { "smmu-pci", "virt,gic-version=3,iommu=smmuv3", PCI_DEVICES },
    { "smmu-default-bus-bypass",
      "virt,gic-version=3,iommu=smmuv3,default-bus-bypass-iommu=on",
      PCI_DEVICES },
    { "smmu-pxb-bypass", "virt,gic-version=3,iommu=smmuv3",
      PCI_DEVICES " -device pxb-pcie,bus=pcie.0,bus_nr=32,bypass_iommu=on" },
    { "smmu-gicv2", "virt,gic-version=2,iommu=smmuv3", PCI_DEVICES },
    /* without MSIs there are no root ports */
    { "smmu-no-its", "virt,gic-version=3,its=off,iommu=smmuv3", "" },
    { "smmu-9.1", "virt-9.1,gic-version=3,iommu=smmuv3", PCI_DEVICES },
    { "smmu-6.1", "virt-6.1,gic-version=3,iommu=smmuv3", "" },
    { "smmu-stage2", "virt-9.1,gic-version=3,iommu=smmuv3",
      PCI_DEVICES " -global arm-smmuv3.stage=2" },
    { "virtio-iommu", "virt,gic-version=3",
      PCI_DEVICES " -device virtio-iommu-pci,bus=pcie.0,addr=3.0" },
};

/* Start both; if there are bridges, number their buses */
static void start(const CompatRow *row, QTestState *qts[2])
{
    g_autofree char *args = g_strdup_printf(COMMON "-machine %s,"
                                            "dtb-randomness=off -bios %s %s",
                                            row->machine, smmuv3_firmware(),
                                            row->args);
    uint64_t rp0 = VIRT_ECAM_BASE + (1 << 15);
    uint64_t rp1 = VIRT_ECAM_BASE + (8 << 20);
    int i;

    for (i = 0; i < 2; i++) {
        qts[i] = qtest_init_with_env(binaries[i], args, true);
        if (*row->args) {
            qtest_writeb(qts[i], rp0 + PCI_SECONDARY_BUS, 1);
            qtest_writeb(qts[i], rp0 + PCI_SUBORDINATE_BUS, 3);
            qtest_writeb(qts[i], rp1 + PCI_PRIMARY_BUS, 8);
            qtest_writeb(qts[i], rp1 + PCI_SECONDARY_BUS, 9);
            qtest_writeb(qts[i], rp1 + PCI_SUBORDINATE_BUS, 10);
        }
    }
}

static void stop(QTestState *qts[2])
{
    qtest_quit(qts[0]);
    qtest_quit(qts[1]);
}

static void read_registers(QTestState *qts, uint32_t *regs)
{
    int i;

    for (i = 0; i < REGS_SIZE; i += 4) {
        regs[i / 4] = qtest_readl(qts, VIRT_SMMU_BASE + i);
    }
}

static void compare_registers(const uint32_t *expected, const uint32_t *regs)
{
    int i;

    for (i = 0; i < REGS_SIZE; i += 4) {
        if (expected[i / 4] != regs[i / 4]) {
            g_test_message("register 0x%x: 0x%x, was 0x%x", i, regs[i / 4],
                           expected[i / 4]);
        }
    }
    g_assert_cmpmem(expected, REGS_SIZE, regs, REGS_SIZE);
}

static void test_registers(const void *opaque)
{
    const CompatRow *row = opaque;
    uint32_t regs[2][REGS_SIZE / 4];
    QTestState *qts[2];

    if (smmuv3_no_pristine()) {
        return;
    }
    start(row, qts);
    read_registers(qts[0], regs[0]);
    read_registers(qts[1], regs[1]);
    g_assert_cmphex(regs[0][0], !=, 0); /* IDR0: the SMMU is there */
    compare_registers(regs[0], regs[1]);
    stop(qts);
}

/* All tables, including IORT and DSDT, and how they are linked */
static void test_acpi(const void *opaque)
{
    static const char *const files[] = {
        "etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader",
    };
    const CompatRow *row = opaque;
    QTestState *qts[2];
    int i;

    if (smmuv3_no_pristine()) {
        return;
    }
    start(row, qts);
    for (i = 0; i < ARRAY_SIZE(files); i++) {
        size_t len[2];
        g_autofree void *old = smmuv3_fw_cfg_file(qts[0], files[i], &len[0]);
        g_autofree void *new = smmuv3_fw_cfg_file(qts[1], files[i], &len[1]);

        g_assert(old && new);
        g_assert_cmpmem(old, len[0], new, len[1]);
    }
    stop(qts);
}

static void test_dtb(const void *opaque)
{
    const CompatRow *row = opaque;
    g_autofree char *machine = g_strdup_printf("%s,dtb-randomness=off",
                                               row->machine);
    g_autofree char *args = g_strdup_printf("-cpu max %s", row->args);
    g_autofree void *old = NULL, *new = NULL;
    size_t len[2];

    if (smmuv3_no_pristine()) {
        return;
    }
    old = smmuv3_dump_dtb(PRISTINE, machine, args, &len[0]);
    new = smmuv3_dump_dtb(BINARY, machine, args, &len[1]);
    g_assert_cmpmem(old, len[0], new, len[1]);
}

static void migrate_to_file(QTestState *qts, const char *path)
{
    const char *status = "";
    int i;

    qtest_qmp_assert_success(qts, "{ 'execute': 'stop' }");
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-parameters',"
                             " 'arguments': { 'max-bandwidth': 1000000000 } }");
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate', 'arguments':"
                             " { 'uri': %s } }", path);
    for (i = 0; i < 600; i++) {
        QDict *rsp = qtest_qmp(qts, "{ 'execute': 'query-migrate' }");
        QDict *ret = qdict_get_qdict(rsp, "return");
        bool done;

        status = qdict_get_str(ret, "status");
        g_assert_cmpstr(status, !=, "failed");
        done = g_str_equal(status, "completed");
        qobject_unref(rsp);
        if (done) {
            return;
        }
        g_usleep(100 * 1000);
    }
    g_test_message("migration does not complete");
    g_assert_not_reached();
}

/* The source was stopped, so the destination pauses once all is loaded */
static void wait_loaded(QTestState *qts)
{
    bool done = false;
    int i;

    for (i = 0; i < 600 && !done; i++) {
        QDict *rsp = qtest_qmp(qts, "{ 'execute': 'query-status' }");
        QDict *ret = qdict_get_qdict(rsp, "return");

        done = g_str_equal(qdict_get_str(ret, "status"), "paused");
        qobject_unref(rsp);
        g_usleep(100 * 1000);
    }
    g_assert(done);
}

/*
 * Zero the data of one section of a migration stream. The data are @size
 * bytes. The section's type (4), number, name, instance and version precede
 * them. The footer (0x7e and the number again) follows them.
 *
 * Returns: true if the section was found
 */
static bool blank_section(char *data, size_t len, const char *name, size_t size)
{
    size_t name_len = strlen(name), i;

    for (i = 5; i + 1 + name_len + 8 + size + 5 <= len; i++) {
        char *state = data + i + 1 + name_len + 8;

        if (data[i - 5] == 0x4 && data[i] == name_len &&
            !memcmp(data + i + 1, name, name_len) && state[size] == 0x7e &&
            !memcmp(state + size + 1, data + i - 4, 4)) {
            memset(state, 0, size);
            return true;
        }
    }
    return false;
}

/*
 * Return where the state of devices begins in a migration stream: after the
 * last footer (0x7e and the section's number) of the section "ram". How many
 * parts that section has depends on timing, so it is not compared. Its ACPI
 * tables matter, and they have a test of their own.
 */
static size_t device_state(const char *data, size_t len)
{
    const char *ram = NULL;
    size_t i;

    for (i = 0; i + 9 < len && !ram; i++) {
        if (data[i] == 0x1 && !memcmp(data + i + 5, "\3ram", 4)) {
            ram = data + i + 1;
        }
    }
    g_assert(ram);
    for (i = len - 5; i > 0; i--) {
        if (data[i] == 0x7e && !memcmp(data + i + 1, ram, 4)) {
            return i + 5;
        }
    }
    g_assert_not_reached();
}

/*
 * Return the name of the section that holds @data[@pos]. The section's type
 * (4), its number (4 bytes) and the length of the name precede the name. This
 * is a guess, for the log only.
 */
static char *section_of(const char *data, size_t pos)
{
    for (size_t at = pos; at > 5; at--) {
        size_t n = (uint8_t)data[at];

        if (data[at - 5] == 0x4 && !data[at - 4] && !data[at - 3] &&
            n >= 3 && at + n < pos && g_ascii_isalnum(data[at + 1]) &&
            g_ascii_isalnum(data[at + n])) {
            return g_strndup(data + at + 1, n);
        }
    }
    return g_strdup("none");
}

static void test_migration(const void *opaque)
{
    const CompatRow *row = opaque;
    g_autofree char *dir = g_dir_make_tmp("smmuv3-mig-XXXXXX", NULL);
    uint32_t regs[2][REGS_SIZE / 4], loaded[REGS_SIZE / 4];
    char *stream[2], *path[2], *uri[2];
    QTestState *qts[2];
    size_t len[2], at[2], pos;
    int i;

    g_assert(dir);
    if (smmuv3_no_pristine()) {
        g_rmdir(dir);
        return;
    }
    start(row, qts);
    for (i = 0; i < 2; i++) {
        uint64_t smmu = VIRT_SMMU_BASE;

        /* not the state after reset; GBPA has a subsection */
        qtest_writel(qts[i], smmu + SMMU_GBPA, 0x80100000);
        qtest_writel(qts[i], smmu + SMMU_IRQ_CTRL, 0x5);
        qtest_writeq(qts[i], smmu + SMMU_STRTAB_BASE, VIRT_RAM_BASE + 0x10000);
        qtest_writel(qts[i], smmu + SMMU_STRTAB_BASE_CFG, 4);
        qtest_writeq(qts[i], smmu + SMMU_CMDQ_BASE, VIRT_RAM_BASE + 0x20004);
        qtest_writeq(qts[i], smmu + SMMU_EVENTQ_BASE, VIRT_RAM_BASE + 0x30004);
        read_registers(qts[i], regs[i]);

        path[i] = g_strdup_printf("%s/%d", dir, i);
        uri[i] = g_strdup_printf("file:%s", path[i]);
        migrate_to_file(qts[i], uri[i]);
        g_assert(g_file_get_contents(path[i], &stream[i], &len[i], NULL));
        /* the host's clock: three times 64 bits */
        g_assert(blank_section(stream[i], len[i], "timer", 24));
        at[i] = device_state(stream[i], len[i]);
        len[i] -= at[i];
        g_assert_cmpuint(len[i], >, 1000);
    }
    compare_registers(regs[0], regs[1]);
    g_assert_cmphex(regs[0][SMMU_GBPA / 4], ==, 0x00100000);
    stop(qts);

    g_assert_cmpuint(len[0], ==, len[1]);
    for (pos = 0; pos < len[0] &&
         stream[0][at[0] + pos] == stream[1][at[1] + pos]; pos++) {
        /* find the first difference */
    }
    if (pos < len[0]) {
        g_autofree char *section = section_of(stream[0] + at[0], pos);

        g_test_message("device states of %zu bytes differ at %zu, in %s: "
                       "0x%02x, 0x%02x", len[0], pos, section,
                       (uint8_t)stream[0][at[0] + pos],
                       (uint8_t)stream[1][at[1] + pos]);
    }
    g_assert_cmpuint(pos, ==, len[0]);

    /* each binary loads the stream of the other */
    for (i = 0; i < 2; i++) {
        g_autofree char *args = g_strdup_printf(
            COMMON "-machine %s,dtb-randomness=off -bios %s %s -incoming %s",
            row->machine, smmuv3_firmware(), row->args, uri[!i]);

        qts[i] = qtest_init_with_env(binaries[i], args, true);
        wait_loaded(qts[i]);
        read_registers(qts[i], loaded);
        compare_registers(regs[!i], loaded);
    }
    stop(qts);

    for (i = 0; i < 2; i++) {
        g_unlink(path[i]);
        g_free(stream[i]);
        g_free(path[i]);
        g_free(uri[i]);
    }
    g_rmdir(dir);
}

static void add(const char *what, const CompatRow *row,
                void (*fn)(const void *))
{
    g_autofree char *path = g_strdup_printf("smmuv3-compat/%s/%s", what,
                                            row->name);

    qtest_add_data_func(path, row, fn);
}

int main(int argc, char **argv)
{
    int i;

    g_test_init(&argc, &argv, NULL);

    if (!qtest_has_machine("virt")) {
        return g_test_run();
    }
    if (!g_getenv(PRISTINE)) {
        fprintf(stderr, "# WARNING: NOTHING is compared: set " PRISTINE
                " to a qemu-system-aarch64 built from the pristine base\n");
    }

    for (i = 0; i < ARRAY_SIZE(rows); i++) {
        add("acpi", &rows[i], test_acpi);
        add("dtb", &rows[i], test_dtb);
        if (strstr(rows[i].machine, "iommu=smmuv3")) {
            add("registers", &rows[i], test_registers);
            add("migration", &rows[i], test_migration);
        }
    }
    return g_test_run();
}
