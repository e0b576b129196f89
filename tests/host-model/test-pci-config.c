/*
 * Tests of the host model's extended configuration space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <linux/pci_regs.h>
#include "model.h"

static GHashTable *counters;

uint64_t *hm_counter(const char *name)
{
    uint64_t *n;

    if (!counters) {
        counters = g_hash_table_new(g_str_hash, g_str_equal);
    }
    n = g_hash_table_lookup(counters, name);
    if (!n) {
        n = g_new0(uint64_t, 1);
        g_hash_table_insert(counters, g_strdup(name), n);
    }
    return n;
}

void hm_log(const char *format, ...)
{
}

static HmDevice *device(const char *ext_caps, unsigned ext_end, bool ats,
                        unsigned pasid_bits)
{
    HmDevice *dev = g_new0(HmDevice, 1);
    g_autofree char *error = NULL;

    dev->name = (char *)"dev0";
    dev->ats = ats;
    dev->pasid_bits = pasid_bits;
    dev->pasid_exec = true;
    if (!hm_pci_init(dev, ext_caps, ext_end, &error)) {
        g_assert_nonnull(error);
        g_free(dev);
        return NULL;
    }
    g_assert_null(error);
    hm_pci_open(dev);
    return dev;
}

static void device_free(HmDevice *dev)
{
    g_free(dev->pci);
    g_free(dev);
}

static uint32_t read32(HmDevice *dev, unsigned at)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < 4; i++) {
        value |= (uint32_t)hm_pci_read(dev, at + i) << 8 * i;
    }
    return value;
}

static void write16(HmDevice *dev, unsigned at, uint16_t value)
{
    hm_pci_write(dev, at, value);
    hm_pci_write(dev, at + 1, value >> 8);
}

/* The chain as a user of VFIO finds it, "f@100 1@140", at most @max of it */
static char *walk(HmDevice *dev, unsigned max)
{
    GString *text = g_string_new(NULL);
    unsigned at = 0x100;

    for (unsigned i = 0; at && i < max; i++) {
        uint32_t header = read32(dev, at);

        g_string_append_printf(text, "%s%x@%x", i ? " " : "", header & 0xffff,
                               at);
        at = header >> 20 & 0xffc;
    }
    return g_string_free(text, false);
}

static void test_chains(void)
{
    static const struct {
        const char *ext_caps;
        unsigned ext_end;
        bool ats;
        unsigned pasid;
        const char *shown;              /* NULL: not possible */
    } rows[] = {
        { "", 0, false, 0, "0@100" },
        { NULL, 0, true, 0, "f@100" },
        { NULL, 0, true, 20, "f@100" },
        /* Nothing but a hidden one: no list at all */
        { NULL, 0, false, 20, "0@100" },
        { "pasid@100", 0, true, 20, "0@100 f@110" },
        { "pasid@100;ats@200", 0, false, 1, "0@100 f@200" },
        { "aer@100;pasid@150;ats@160", 0, false, 20, "1@100 f@160" },
        { "aer@100;ats@150;pasid@160", 0, false, 20, "1@100 f@150" },
        { "aer@100;pasid@150;1d@180;ats@190", 0, false, 20, "1@100 f@190" },
        /* It ends in the last 8 bytes. */
        { "aer@100;ats@ff8", 0, false, 0, "1@100 f@ff8" },
        { "aer@100;pasid@ff8", 0, true, 8, "1@100 f@130" },
        { "ari@100;ats@200;acs@108:8", 0, false, 0, "e@100 f@200 d@108" },
        /* Full */
        { "vndr@100:f00", 0, false, 0, "b@100" },
        { "vndr@100:f00", 0, true, 0, NULL },
        { "vndr@100:ef0;ats@ff0;acs@ff8", 0, false, 0, "b@100 f@ff0 d@ff8" },
        { "vndr@100:ef4", 0, true, 0, "b@100 f@ff4" },
        { "vndr@100:ef8", 0, true, 0, "b@100 f@ff8" },
        { "vndr@100:efc", 0, true, 0, NULL },
        { "vndr@100:f04", 0, false, 0, NULL },
        /* Loops, and ends that lead nowhere */
        { "aer@100;ats@140", 0x100, false, 0, "1@100 f@140 1@100 f@140" },
        { "aer@100;ats@140", 0x140, false, 0, "1@100 f@140 f@140 f@140" },
        { "aer@100;ats@140", 0x800, false, 0, "1@100 f@140" },
        { "aer@100;ats@140", 0x80, false, 0, "1@100 f@140 0@80" },
        { "aer@100;pasid@140", 0x100, false, 20, "1@100 1@100 1@100 1@100" },
        { "pasid@100", 0x100, false, 20, "0@100" },
        /* What Linux has no length for */
        { "doe@100;aer@200", 0, false, 0, "0@100 1@200" },
        { "null@100;aer@200", 0, false, 0, "0@100 1@200" },
        { "aer@100;7e@200;dsn@300", 0, false, 0, "1@100 3@300" },
        { "pri@100;ltr@110;sriov@120;dvsec@160:14;rebar@180;tph@190;vc@1a0;"
          "pwr@1c0;secpci@1d0;l1ss@1e0;ptm@1f0;dlf@200", 0, false, 0,
          "13@100 18@110 10@120 23@160 15@180 17@190 2@1a0 4@1c0" },
        { "aer@100;dsn@128", 0, false, 0, NULL },
        { "aer@104", 0, false, 0, NULL },
        { "aer@100;dsn@f0", 0, false, 0, NULL },
        { "aer@100;dsn@ff8", 0, false, 0, NULL },
        { "aer@100;dsn@202", 0, false, 0, NULL },
        { "aer", 0, false, 0, NULL },
        { "what@100", 0, false, 0, NULL },
        { "pasid@100", 0, false, 0, NULL },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        HmDevice *dev = device(rows[i].ext_caps, rows[i].ext_end, rows[i].ats,
                               rows[i].pasid);
        g_autofree char *shown = NULL;

        if (!rows[i].shown || !dev) {
            if (dev || rows[i].shown) {
                g_test_message("row %u", i);
                g_test_fail();
            }
            continue;
        }
        /* The standard half of 0x80 is not in this file. */
        shown = walk(dev, rows[i].ext_end == 0x80 ? 2 :
                          rows[i].ext_end ? 4 : 16);
        if (rows[i].ext_end == 0x80) {
            g_assert_cmphex(read32(dev, 0x140) >> 20, ==, 0x80);
            g_assert_true(g_str_has_prefix(rows[i].shown, shown));
        } else if (strcmp(shown, rows[i].shown)) {
            g_test_message("row %u: %s, not %s", i, shown, rows[i].shown);
            g_test_fail();
        }
        device_free(dev);
    }
}

/* VFIO shows the control register of ATS as Linux has it, and ignores writes */
static void test_ats(void)
{
    static const struct {
        unsigned page_shift, stu;
    } rows[] = { { 12, 0 }, { 14, 2 }, { 16, 4 } };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        HmDevice *dev = device("aer@100;ats@ff8", 0, false, 0);
        uint64_t ignored = *hm_counter("vfio.config.ignored");
        uint32_t off = rows[i].stu << 16 | 0x20;

        g_assert_true(dev->ats);
        g_assert_cmphex(read32(dev, 0xffc), ==, 0x20);
        hm_pci_prepare_ats(dev, rows[i].page_shift);
        g_assert_cmphex(read32(dev, 0xffc), ==, off);
        g_assert_false(hm_pci_does_ats(dev));
        write16(dev, 0xffe, 0x801f);
        write16(dev, 0xff8, 0xffff);
        g_assert_cmpuint(*hm_counter("vfio.config.ignored") - ignored, ==, 4);
        g_assert_cmphex(read32(dev, 0xffc), ==, off);
        g_assert_cmphex(read32(dev, 0xff8), ==, 0x1000f);
        hm_pci_set_ats(dev, true);
        g_assert_true(hm_pci_does_ats(dev));
        g_assert_cmphex(read32(dev, 0xffc), ==, off | 0x80000000);
        write16(dev, 0xffe, 0);
        g_assert_true(hm_pci_does_ats(dev));
        /* Linux restores what it had enabled. */
        hm_pci_reset(dev);
        g_assert_cmphex(read32(dev, 0xffc), ==, off | 0x80000000);
        hm_pci_set_ats(dev, false);
        g_assert_cmphex(read32(dev, 0xffc), ==, off);
        hm_pci_reset(dev);
        g_assert_cmphex(read32(dev, 0xffc), ==, 0x20);
        device_free(dev);
    }
}

/* A hidden capability is still there: nothing owns its bytes. */
static void test_pasid(void)
{
    static const char *const layouts[] = {
        "aer@100;pasid@140", "pasid@100;aer@140",
    };

    for (unsigned i = 0; i < 2; i++) {
        HmDevice *dev = device(layouts[i], 0, false, 20);
        unsigned at = i ? 0x100 : 0x140;
        uint64_t raw;

        g_assert_cmphex(read32(dev, at + 4), ==, 20 << 8 | 2);
        hm_pci_enable_pasid(dev);
        g_assert_cmphex(hm_pci_pasid_control(dev), ==, 3);
        g_assert_cmphex(read32(dev, at + 4), ==, 3 << 16 | 20 << 8 | 2);
        /* The header: raw, or the anchor of the chain */
        g_assert_cmphex(read32(dev, at), ==, i ? 0x14000000 : 0x0001001b);
        raw = *hm_counter("vfio.config.raw");
        write16(dev, at, 0xffff);
        g_assert_cmpuint(*hm_counter("vfio.config.raw") - raw, ==, i ? 0 : 2);
        g_assert_cmphex(read32(dev, at) & 0xffff, ==, i ? 0 : 0x1b);
        write16(dev, at + 6, 0);
        g_assert_cmpuint(*hm_counter("vfio.config.raw") - raw, ==, i ? 2 : 4);
        g_assert_cmphex(hm_pci_pasid_control(dev), ==, 0);
        hm_pci_reset(dev);
        g_assert_cmphex(hm_pci_pasid_control(dev), ==, 3);
        device_free(dev);
    }
}

/* Writes: gaps and vendors' are raw, AER by its mask, most are ignored */
static void test_writes(void)
{
    HmDevice *dev = device("aer@100;vndr@200:20;dvsec@240:20;ltr@280;pwr@300",
                           0, false, 0);
    static const struct {
        unsigned at;
        uint16_t want;                  /* of 0xffff */
        unsigned raw;
    } rows[] = {
        { 0x104, 0, 0 }, { 0x108, 0xf031, 0 }, { 0x10a, 0x03ff, 0 },
        { 0x10c, 0xf031, 0 }, { 0x114, 0xf1c1, 0 }, { 0x118, 0, 0 },
        { 0x100, 1, 0 }, { 0x202, 0x2401, 0 }, { 0x208, 0xffff, 0 },
        { 0x21e, 0xffff, 0 }, { 0x220, 0, 2 }, { 0x248, 0xffff, 0 },
        { 0x242, 0x2801, 0 }, { 0x284, 0, 0 }, { 0x304, 0, 0 },
        { 0xffe, 0, 2 }, { 0x12c, 0, 2 },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint64_t raw = *hm_counter("vfio.config.raw");
        unsigned at = rows[i].at;

        write16(dev, at, 0xffff);
        if ((hm_pci_read(dev, at) | hm_pci_read(dev, at + 1) << 8) !=
            rows[i].want ||
            *hm_counter("vfio.config.raw") - raw != rows[i].raw) {
            g_test_message("0x%x: 0x%x%02x, %u raw", at,
                           hm_pci_read(dev, at + 1), hm_pci_read(dev, at),
                           (unsigned)(*hm_counter("vfio.config.raw") - raw));
            g_test_fail();
        }
    }
    device_free(dev);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_set_nonfatal_assertions();
    g_test_add_func("/pci-config/chains", test_chains);
    g_test_add_func("/pci-config/ats", test_ats);
    g_test_add_func("/pci-config/pasid", test_pasid);
    g_test_add_func("/pci-config/writes", test_writes);
    return g_test_run();
}
