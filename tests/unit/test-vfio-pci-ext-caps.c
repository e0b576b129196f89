/*
 * Tests of the walk through a device's extended capabilities
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "hw/vfio/pci-ext-caps.h"

/* A page, and behind it a page that nobody may read */
static uint8_t *config;
static VFIOExtCaps caps;

/* Capabilities, each followed by the next; ends with an offset of 0 */
typedef struct Layout {
    unsigned at, id, word1, word2;
} Layout;

static void lay_out(const Layout *c, unsigned end)
{
    memset(config, 0, PCI_CFG_SPACE_EXP_SIZE);
    for (; c->at; c++) {
        unsigned next = c[1].at ? c[1].at : end;

        stl_le_p(config + c->at, c->id | 1 << 16 | next << 20);
        if (c->word1) {
            stl_le_p(config + c->at + 4, c->word1);
        }
        if (c->word2) {
            stl_le_p(config + c->at + 8, c->word2);
        }
    }
    vfio_ext_caps_walk(&caps, config);
}

#define LAY_OUT(end, ...) lay_out((Layout[]) { __VA_ARGS__, { } }, end)

static void check_list(unsigned n, bool broken)
{
    g_assert_cmpuint(caps.n, ==, n);
    g_assert_cmpint(caps.broken, ==, broken);
}

static void check_cap(unsigned i, unsigned at, unsigned size, bool sized)
{
    g_assert_cmphex(caps.cap[i].offset, ==, at);
    g_assert_cmphex(caps.cap[i].size, ==, size);
    g_assert_cmpint(caps.cap[i].sized, ==, sized);
}

static void test_lists(void)
{
    memset(config, 0, PCI_CFG_SPACE_EXP_SIZE);
    vfio_ext_caps_walk(&caps, config);
    check_list(0, false);
    memset(config, 0xff, PCI_CFG_SPACE_EXP_SIZE);
    vfio_ext_caps_walk(&caps, config);
    check_list(0, true);

    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS }, { 0xff8, PCI_EXT_CAP_ID_DSN },
            { 0x108, PCI_EXT_CAP_ID_LTR });
    check_list(3, false);
    check_cap(0, 0x100, 8, true);
    check_cap(1, 0xff8, 8, true);
    check_cap(2, 0x108, 8, true);
    g_assert(vfio_ext_caps_find(&caps, 0x100) == &caps.cap[0]);
    g_assert(vfio_ext_caps_find(&caps, 0xff8) == &caps.cap[1]);
    g_assert(vfio_ext_caps_find(&caps, 0x108) == &caps.cap[2]);
    g_assert_null(vfio_ext_caps_find(&caps, 0xff4));
    /* A shorter list leaves nothing of a longer one */
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS }, { 0xff8, PCI_EXT_CAP_ID_DSN });
    check_list(2, false);
    g_assert_null(vfio_ext_caps_find(&caps, 0x108));

    /* A header that hides a capability may be followed by one at once */
    LAY_OUT(0, { 0x100, 0 }, { 0x104, PCI_EXT_CAP_ID_ATS });
    check_list(2, false);
    check_cap(0, 0x100, 4, true);
}

/* Where the list leads, and how many capabilities are taken before that */
static void test_broken_lists(void)
{
    static const struct { unsigned end, n; } cases[] = {
        { 0x100, 2 }, { 0x140, 2 },                 /* loops */
        { 0x104, 2 }, { 0x144, 2 },                 /* into a capability */
        { 0x004, 2 }, { 0x0fc, 2 }, { 0xffc, 2 },   /* out of the space */
        { 0x000, 0 }, { 0x108, 0 }, { 0x13c, 0 }, { 0x148, 0 }, { 0xff8, 0 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_test_message("the second capability leads to 0x%x", cases[i].end);
        LAY_OUT(cases[i].end, { 0x100, PCI_EXT_CAP_ID_ATS },
                { 0x140, PCI_EXT_CAP_ID_ATS });
        /* A header of 0 is a capability that the kernel hides */
        if (cases[i].n) {
            check_list(cases[i].n, true);
        } else {
            check_list(2 + (cases[i].end != 0), false);
        }
    }
    LAY_OUT(0x100, { 0x100, PCI_EXT_CAP_ID_ATS });
    check_list(1, true);
    /* The third one reaches into the second */
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS }, { 0x140, PCI_EXT_CAP_ID_ATS },
            { 0x13c, PCI_EXT_CAP_ID_ATS });
    check_list(2, true);
}

/* The most capabilities that can be: headers without an ID, backwards too */
static void test_longest_list(void)
{
    memset(config, 0, PCI_CFG_SPACE_EXP_SIZE);
    for (unsigned at = 0x100; at < 0xffc; at += 4) {
        stl_le_p(config + at, (at == 0xff8 ? 0x100 : at + 4) << 20);
    }
    vfio_ext_caps_walk(&caps, config);
    check_list((0xffc - 0x100) / 4, true);
    g_assert_cmpuint(caps.n, <=, VFIO_EXT_CAPS_MAX);
}

static void test_sizes(void)
{
    static const struct { unsigned id, word1, word2, size; } cases[] = {
        { PCI_EXT_CAP_ID_ERR, 0, 0, 0x48 },
        { PCI_EXT_CAP_ID_DSN, 0, 0, 0x0c },
        { PCI_EXT_CAP_ID_PASID, 0, 0, 8 },
        { PCI_EXT_CAP_ID_PRI, 0, 0, 0x10 },
        { PCI_EXT_CAP_ID_VNDR, 8 << 20, 0, 8 },
        { PCI_EXT_CAP_ID_VNDR, 0x7fu << 20, 0, 0x7f },
        { PCI_EXT_CAP_ID_VNDR, 0xfffu << 20, 0, 0x100 },
        { PCI_EXT_CAP_ID_VNDR, 7 << 20, 0, 0 },
        { PCI_EXT_CAP_ID_DVSEC, 0x18 << 20, 0, 0x18 },
        { PCI_EXT_CAP_ID_VC, 0, 0, 0x1c },
        { PCI_EXT_CAP_ID_VC9, 7, 0, 0x70 },
        { PCI_EXT_CAP_ID_VC, 0x110, 0xffffff, 0x1c },
        { PCI_EXT_CAP_ID_MCAST, 0, 0, 0x28 },
        { PCI_EXT_CAP_ID_PWR, 0, 0, 0x10 },
        { PCI_EXT_CAP_ID_ARI, 0, 0, 8 },
        { PCI_EXT_CAP_ID_SRIOV, 0, 0, 0x40 },
        { PCI_EXT_CAP_ID_VC, 0, 1u << 24, 0 },
        { PCI_EXT_CAP_ID_VC, 0, 0x80u << 24, 0 },
        { PCI_EXT_CAP_ID_ACS, 0x5f, 0, 8 },
        { PCI_EXT_CAP_ID_ACS, 0x20 | 1 << 8, 0, 12 },
        { PCI_EXT_CAP_ID_ACS, 0x20 | 33 << 8, 0, 16 },
        { PCI_EXT_CAP_ID_ACS, 0x20 | 1 << 8 | 0xffffu << 16, 0, 12 },
        { PCI_EXT_CAP_ID_ACS, 0x20, 0, 40 },
        { PCI_EXT_CAP_ID_REBAR, 0, 1 << 5, 12 },
        { PCI_EXT_CAP_ID_REBAR, 0, 6 << 5, 52 },
        { PCI_EXT_CAP_ID_REBAR, ~0u, 1 << 5 | 0xffffff1fu, 12 },
        { PCI_EXT_CAP_ID_REBAR, 0, 0, 0 },
        { PCI_EXT_CAP_ID_TPH, 0, 0, 12 },
        { PCI_EXT_CAP_ID_TPH, 0x200, 0, 16 },
        { PCI_EXT_CAP_ID_TPH, 0x200 | 63 << 16, 0, 140 },
        { PCI_EXT_CAP_ID_TPH, 0x400 | 63 << 16, 0, 12 },
        { PCI_EXT_CAP_ID_PASID + 1, 0, 0, 0 },
        { 0xabc, 0, 0, 0 },
        { 0xffff, 0, 0, 0 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        unsigned size = cases[i].size;

        g_test_message("capability 0x%x, 0x%x, 0x%x", cases[i].id,
                       cases[i].word1, cases[i].word2);
        LAY_OUT(0, { 0x100, cases[i].id, cases[i].word1, cases[i].word2 },
                { 0x200, PCI_EXT_CAP_ID_ATS });
        check_cap(0, 0x100, size ? size : 0x100, size != 0);
        /* It never reaches into the next one, nor beyond the end */
        LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS },
                { 0xff8, cases[i].id, cases[i].word1 });
        check_cap(1, 0xff8, 8, true);
    }
    /* The last place where a size can be read */
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS }, { 0xff4, PCI_EXT_CAP_ID_DSN });
    check_cap(1, 0xff4, 12, true);
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS }, { 0xff4, 0xabc });
    check_cap(1, 0xff4, 12, false);
}

static void test_overlap(void)
{
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_DSN }, { 0x200, 0xabc },
            { 0x300, PCI_EXT_CAP_ID_ATS });
    for (unsigned at = 0x100; at <= 0xff8; at += 4) {
        const VFIOExtCap *cap = vfio_ext_caps_overlap(&caps, at, 8);
        unsigned want = 0;

        if (at <= 0x108) {
            want = 0x100;
        } else if (at >= 0x1fc && at <= 0x204) {
            want = 0x200;
        } else if (at >= 0x2fc && at <= 0x304) {
            want = 0x300;
        }
        g_test_message("0x%x", at);
        g_assert_cmphex(cap ? cap->offset : 0, ==, want);
    }
}

static unsigned room(void)
{
    return vfio_ext_caps_find_room(&caps, config, 8);
}

static void test_room(void)
{
    LAY_OUT(0, { 0 });
    g_assert_cmphex(room(), ==, 0xff8);
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS });
    g_assert_cmphex(room(), ==, 0xff8);
    /* A hidden capability, or registers: a lower place is better */
    config[0xff8] = 1;
    g_assert_cmphex(room(), ==, 0xff0);
    config[0xff8] = 0;
    config[0xfff] = 1;
    g_assert_cmphex(room(), ==, 0xff4);
    config[0xff8] = 1;
    g_assert_cmphex(room(), ==, 0xff0);
    /* ... but better than none */
    memset(config + 0x108, 1, 0xef8);
    g_assert_cmphex(room(), ==, 0xff8);

    /* ... and without any capability the first place is as good */
    LAY_OUT(0, { 0 });
    memset(config + 0x108, 1, 0xef8);
    g_assert_cmphex(room(), ==, 0x100);

    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS }, { 0xff8, PCI_EXT_CAP_ID_ATS });
    g_assert_cmphex(room(), ==, 0xff0);
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS }, { 0xff4, PCI_EXT_CAP_ID_ATS });
    g_assert_cmphex(room(), ==, 0xfec);

    /* One place is left, first, in the middle, last */
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_VNDR, 0xef8u << 20 });
    g_assert_cmphex(room(), ==, 0xff8);
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_VNDR, 0xefcu << 20 });
    g_assert_cmphex(room(), ==, 0);
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS },
            { 0x110, PCI_EXT_CAP_ID_VNDR, 0xef0u << 20 });
    g_assert_cmphex(room(), ==, 0x108);
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS },
            { 0x10c, PCI_EXT_CAP_ID_VNDR, 0xef4u << 20 });
    g_assert_cmphex(room(), ==, 0);

    /* A capability of unknown size has all up to the next, if possible */
    LAY_OUT(0, { 0x100, PCI_EXT_CAP_ID_ATS }, { 0x200, 0xabc });
    g_assert_cmphex(room(), ==, 0x1f8);
    LAY_OUT(0, { 0x100, 0xabc });
    g_assert_cmphex(room(), ==, 0xff8);
}

int main(int argc, char **argv)
{
    size_t page = MAX(qemu_real_host_page_size(), PCI_CFG_SPACE_EXP_SIZE);
    uint8_t *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert(pages != MAP_FAILED);
    g_assert_cmpint(mprotect(pages + page, page, PROT_NONE), ==, 0);
    config = pages + page - PCI_CFG_SPACE_EXP_SIZE;
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vfio-pci-ext-caps/lists", test_lists);
    g_test_add_func("/vfio-pci-ext-caps/broken-lists", test_broken_lists);
    g_test_add_func("/vfio-pci-ext-caps/longest-list", test_longest_list);
    g_test_add_func("/vfio-pci-ext-caps/sizes", test_sizes);
    g_test_add_func("/vfio-pci-ext-caps/overlap", test_overlap);
    g_test_add_func("/vfio-pci-ext-caps/room", test_room);
    return g_test_run();
}
