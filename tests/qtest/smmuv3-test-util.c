/*
 * What the arm-smmuv3 qtests on the virt machine share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include <glib/gstdio.h>
#include "libqtest.h"
#include "hw/nvram/fw_cfg.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-test-util.h"

static char *firmware_path;

static void remove_firmware(void)
{
    g_unlink(firmware_path);
    g_free(firmware_path);
}

static char *temp_file(const char *template, const void *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    char *path = NULL;
    int fd = g_file_open_tmp(template, &path, &error);

    g_assert_no_error(error);
    g_assert(qemu_write_full(fd, data, len) == len);
    close(fd);
    return path;
}

const char *smmuv3_firmware(void)
{
    if (!firmware_path) {
        g_autofree void *zero = g_malloc0(64 * 1024);

        firmware_path = temp_file("smmuv3-fw-XXXXXX", zero, 64 * 1024);
        atexit(remove_firmware);
    }
    return firmware_path;
}

bool smmuv3_no_pristine(void)
{
    if (g_getenv(SMMUV3_PRISTINE)) {
        return false;
    }
    g_test_skip(SMMUV3_PRISTINE " does not name a binary to compare with");
    return true;
}

/* Registers of edu, and the buffer that it sees at the same addresses */
#define EDU_DMA_SRC     0x80
#define EDU_DMA_DST     0x88
#define EDU_DMA_COUNT   0x90
#define EDU_DMA_CMD     0x98
#define EDU_DMA_RUN     1
#define EDU_DMA_WRITE   2       /* from the device to memory */
#define EDU_DMA_BUFFER  0x40000
#define EDU_DMA_NS      (200 * 1000 * 1000)

void smmuv3_edu_enable(QTestState *qts, uint64_t config, uint64_t bar)
{
    qtest_writel(qts, config + PCI_BASE_ADDRESS_0, bar);
    qtest_writew(qts, config + PCI_COMMAND,
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void smmuv3_edu_dma(QTestState *qts, uint64_t bar, bool write, uint64_t iova,
                    unsigned len)
{
    qtest_writeq(qts, bar + EDU_DMA_SRC, write ? EDU_DMA_BUFFER : iova);
    qtest_writeq(qts, bar + EDU_DMA_DST, write ? iova : EDU_DMA_BUFFER);
    qtest_writeq(qts, bar + EDU_DMA_COUNT, len);
    qtest_writeq(qts, bar + EDU_DMA_CMD,
                 EDU_DMA_RUN | (write ? EDU_DMA_WRITE : 0));
    qtest_clock_step(qts, EDU_DMA_NS);
    g_assert_cmphex(qtest_readq(qts, bar + EDU_DMA_CMD) & EDU_DMA_RUN, ==, 0);
}

int smmuv3_run(const char *binary_env, const char *args, char **err)
{
    const char *binary = g_getenv(binary_env);
    g_autofree char *cmd = NULL, *out = NULL;
    g_autoptr(GError) error = NULL;
    int status;

    g_assert(binary);
    cmd = g_strdup_printf("%s -nodefaults -display none -accel qtest %s",
                          binary, args);
    g_spawn_command_line_sync(cmd, &out, err, &status, &error);
    g_assert_no_error(error);

    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void smmuv3_check_refused(const char *machine, bool firmware,
                          const char *args, const char *text)
{
    g_autofree char *path = temp_file("smmuv3-dtb-XXXXXX", "", 0);
    g_autofree char *cmd = NULL, *err = NULL;
    int status;

    /*
     * A QEMU that does start exits with success. It replaces this file by a
     * new one: never name a device node here.
     */
    cmd = g_strdup_printf("-machine %s,dumpdtb=%s %s%s %s", machine, path,
                          firmware ? "-bios " : "",
                          firmware ? smmuv3_firmware() : "", args);
    status = smmuv3_run("QTEST_QEMU_BINARY", cmd, &err);
    g_unlink(path);
    g_test_message("%s: %d: %s", cmd, status, err);
    g_assert_cmpint(status, ==, 1);
    g_assert(strstr(err, text));
}

void *smmuv3_dump_dtb(const char *binary_env, const char *machine,
                      const char *args, size_t *len)
{
    g_autofree char *path = temp_file("smmuv3-dtb-XXXXXX", "", 0);
    g_autofree char *cmd = g_strdup_printf("-machine %s,dumpdtb=%s %s",
                                           machine, path, args);
    g_autofree char *err = NULL;
    g_autoptr(GError) error = NULL;
    int status = smmuv3_run(binary_env, cmd, &err);
    char *data;

    if (status) {
        g_test_message("%s: %s", cmd, err);
    }
    g_assert_cmpint(status, ==, 0);
    g_file_get_contents(path, &data, len, &error);
    g_assert_no_error(error);
    g_unlink(path);
    return data;
}

/*
 * Read an item of fw_cfg. libqos has the register layout of other machines.
 * Here data is at 0, the selector at 8 and the DMA address at 16.
 */
static void fw_cfg_read(QTestState *qts, uint16_t key, void *data, size_t len)
{
    uint64_t access_addr = VIRT_RAM_BASE, data_addr = VIRT_RAM_BASE + 65536;
    FWCfgDmaAccess access = {
        .control = cpu_to_be32(key << 16 | FW_CFG_DMA_CTL_SELECT |
                               FW_CFG_DMA_CTL_READ),
        .length = cpu_to_be32(len),
        .address = cpu_to_be64(data_addr),
    };

    qtest_memwrite(qts, access_addr, &access, sizeof(access));
    qtest_writeq(qts, VIRT_FW_CFG_BASE + 16, bswap64(access_addr));
    qtest_memread(qts, access_addr, &access, sizeof(access));
    g_assert_cmphex(access.control, ==, 0);
    qtest_memread(qts, data_addr, data, len);
}

void *smmuv3_fw_cfg_file(QTestState *qts, const char *name, size_t *len)
{
    struct {
        uint32_t count;
        FWCfgFile files[64];
    } dir;
    uint32_t i;
    void *data;

    fw_cfg_read(qts, FW_CFG_FILE_DIR, &dir, sizeof(dir));
    for (i = 0; i < MIN(be32_to_cpu(dir.count), ARRAY_SIZE(dir.files)); i++) {
        if (!strcmp(dir.files[i].name, name)) {
            *len = be32_to_cpu(dir.files[i].size);
            data = g_malloc(*len);
            fw_cfg_read(qts, be16_to_cpu(dir.files[i].select), data, *len);
            return data;
        }
    }
    return NULL;
}

uint8_t *smmuv3_acpi_table(QTestState *qts, const char *sig, size_t *len)
{
    size_t size, offset, i;
    g_autofree uint8_t *blob = smmuv3_fw_cfg_file(qts, "etc/acpi/tables",
                                                  &size);
    uint8_t *table, sum = 0;

    g_assert(blob);
    for (offset = 0; offset + 36 <= size; offset += *len) {
        *len = ldl_le_p(blob + offset + 4);
        if (*len < 36 || *len > size - offset) {
            /* what follows the last table is zero */
            return NULL;
        }
        if (!memcmp(blob + offset, sig, 4)) {
            table = g_memdup2(blob + offset, *len);
            /* the guest's firmware would do this */
            table[9] = 0;
            for (i = 0; i < *len; i++) {
                sum += table[i];
            }
            table[9] = -sum;
            return table;
        }
    }
    return NULL;
}

char *smmuv3_decompile(const char *argv0, const void *data, size_t len)
{
    g_autofree char *tool = g_find_program_in_path(argv0);
    g_autofree char *in = NULL, *out = NULL, *cmd = NULL, *err = NULL;
    g_autofree char *chatter = NULL;
    g_autoptr(GError) error = NULL;
    bool iasl = g_str_equal(argv0, "iasl");
    char *text;
    int status;

    if (!tool) {
        return NULL;
    }
    in = temp_file("smmuv3-table-XXXXXX", data, len);
    out = g_strdup_printf("%s.dsl", in);
    cmd = iasl ? g_strdup_printf("%s -p %s -d %s", tool, in, in) :
                 g_strdup_printf("%s -q -I dtb -O dts -o %s %s", tool, out, in);
    /* stdout is for test results */
    g_spawn_command_line_sync(cmd, &chatter, &err, &status, &error);
    g_assert_no_error(error);
    if (status) {
        g_test_message("%s: %s", cmd, err);
    }
    g_assert_cmpint(status, ==, 0);
    g_file_get_contents(out, &text, NULL, &error);
    g_assert_no_error(error);
    g_unlink(in);
    g_unlink(out);
    return text;
}

/* All values of a field in iasl's text, in order and separated by spaces */
static char *iasl_values(const char *text, const char *field)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    GString *values = g_string_new(NULL);
    int i;

    for (i = 0; lines[i]; i++) {
        char *label = strchr(lines[i], ']'), *colon;

        if (!label) {
            continue;
        }
        label = g_strstrip(label + 1);
        colon = strstr(label, " : ");
        if (colon && colon - label == strlen(field) &&
            !strncmp(label, field, strlen(field))) {
            g_string_append_printf(values, "%" PRIx64 " ",
                                   g_ascii_strtoull(colon + 3, NULL, 16));
        }
    }
    return g_string_free(values, false);
}

static void iasl_compare(const char *text, const char *field,
                         const char *expected)
{
    g_autofree char *values = iasl_values(text, field);

    if (strcmp(values, expected)) {
        g_test_message("iasl's reading of \"%s\" differs", field);
        g_test_message("%s", text);
    }
    g_assert_cmpstr(values, ==, expected);
}

char *smmuv3_iort_summary(const uint8_t *iort, size_t len)
{
    uint32_t nb_nodes = ldl_le_p(iort + 36);
    uint32_t offset = ldl_le_p(iort + 40);
    g_autofree uint32_t *offsets = g_new0(uint32_t, nb_nodes);
    GString *out = g_string_new(NULL);
    g_autoptr(GString) bases = g_string_new(NULL);
    g_autoptr(GString) events = g_string_new(NULL);
    g_autoptr(GString) inputs = g_string_new(NULL);
    g_autoptr(GString) counts = g_string_new(NULL);
    g_autoptr(GString) refs = g_string_new(NULL);
    g_autofree char *text = NULL;
    bool has_rmr = false;
    uint32_t i, j, k;

    g_assert(!memcmp(iort, "IORT", 4));
    g_string_append_printf(out, "IORT rev %u\n", iort[8]);

    for (i = 0; i < nb_nodes; i++) {
        g_assert_cmpuint(offset + 16, <=, len);
        offsets[i] = offset;
        offset += lduw_le_p(iort + offset + 1);
    }
    g_assert_cmpuint(offset, ==, len);

    for (i = 0; i < nb_nodes; i++) {
        const uint8_t *node = iort + offsets[i];
        uint32_t nb_maps = ldl_le_p(node + 8);
        const uint8_t *map = node + ldl_le_p(node + 12);
        const uint8_t *desc;

        for (j = 0; j < i; j++) {
            /* identifiers must be unique */
            g_assert_cmpuint(ldl_le_p(node + 4), !=,
                             ldl_le_p(iort + offsets[j] + 4));
        }
        g_string_append_printf(out, "%u ", i);
        if (ldl_le_p(node + 4) != i) {
            g_string_append_printf(out, "#%u ", ldl_le_p(node + 4));
        }
        switch (node[0]) {
        case 0:
            g_string_append(out, "ITS");
            break;
        case 2:
            g_string_append(out, "RC");
            break;
        case 4:
            g_assert_cmpuint(node[3], ==, 4); /* revision */
            g_assert_cmpuint(ldl_le_p(node + 24), ==, 1); /* COHACC */
            g_string_append_printf(out, "SMMUv3 base 0x%" PRIx64
                                   " gsiv %u %u %u %u", ldq_le_p(node + 16),
                                   ldl_le_p(node + 44), ldl_le_p(node + 48),
                                   ldl_le_p(node + 52), ldl_le_p(node + 56));
            g_string_append_printf(bases, "%" PRIx64 " ", ldq_le_p(node + 16));
            g_string_append_printf(events, "%x ", ldl_le_p(node + 44));
            break;
        case 6:
            has_rmr = true;
            g_assert_cmpuint(node[3], ==, 3); /* revision */
            g_assert_cmpuint(ldl_le_p(node + 20), ==, 1);
            desc = node + ldl_le_p(node + 24);
            g_string_append_printf(out, "RMR flags 0x%x 0x%" PRIx64
                                   "+0x%" PRIx64, ldl_le_p(node + 16),
                                   ldq_le_p(desc), ldq_le_p(desc + 8));
            break;
        default:
            g_string_append_printf(out, "type %u?", node[0]);
        }

        for (j = 0; j < nb_maps; j++, map += 20) {
            uint32_t in = ldl_le_p(map), nb = ldl_le_p(map + 4) + 1;
            uint32_t to = ldl_le_p(map + 8), ref = ldl_le_p(map + 12);

            g_assert(map + 20 <= node + lduw_le_p(node + 1));
            g_assert_cmpuint(ldl_le_p(map + 16), ==, 0); /* flags */
            g_string_append_printf(out, "%s0x%x", j ? " " : ": ", in);
            if (to != in) {
                g_string_append_printf(out, "=0x%x", to);
            }
            for (k = 0; k < nb_nodes && offsets[k] != ref; k++) {
                /* find the node */
            }
            g_string_append_printf(out, "+0x%x>%u", nb, k);
            g_string_append_printf(inputs, "%x ", in);
            g_string_append_printf(counts, "%x ", nb - 1);
            g_string_append_printf(refs, "%x ", ref);
        }
        g_string_append_c(out, '\n');
    }

    /* Some versions of iasl do not know RMR nodes */
    text = has_rmr ? NULL : smmuv3_decompile("iasl", iort, len);
    if (text) {
        iasl_compare(text, "Base Address", bases->str);
        iasl_compare(text, "Event GSIV", events->str);
        iasl_compare(text, "Input base", inputs->str);
        iasl_compare(text, "ID Count", counts->str);
        iasl_compare(text, "Output Reference", refs->str);
    } else if (!has_rmr) {
        g_test_message("iasl is not installed: its reading is not compared");
    }

    return g_string_free(out, false);
}
