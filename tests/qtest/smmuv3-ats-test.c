/*
 * QTest of accel=on with SubstreamIDs and ATS
 *
 * A guest makes CD tables and issues commands, and the devices of the host
 * model use PASIDs and ask for translations. Neither the model's SMMU nor its
 * devices forget anything by themselves. What is used after the tables have
 * changed counts as stale, and host_finish() finds it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define NO_SSID             UINT32_MAX

/* Fields of an STE */
#define S1CDMAX(n)          ((uint64_t)(n) << 59)
#define S1FMT_LINEAR        0ull
#define S1FMT_4K            (1ull << 4)
#define S1FMT_64K           (2ull << 4)
#define S1DSS_TERMINATE     0ull
#define S1DSS_BYPASS        1ull
#define S1DSS_SSID0         2ull
#define EATS                (1ull << 28)

#define ATC_ALL             52

#define INVALIDATE          "IOMMU_HWPT_INVALIDATE"

static HostGuest *start(unsigned n_devs, const char *smmu_args)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = n_devs,
        .smmu_args = smmu_args,
        .dev = { { .keys = "ats=on\npasid=20" }, { .keys = "pasid=20" } },
    };
    HostGuest *g = host_guest_new(&config);

    host_enable(g, 0);
    return g;
}

/* As host_set_ste(), with word 1; V comes last */
static void set_ste(HostGuest *g, unsigned dev, uint64_t word0, uint64_t word1)
{
    uint64_t *ste = smmu_ste(g, 0, host_sid(g, dev));

    host_set_ste(g, dev, 0);
    ste[1] = cpu_to_le64(word1);
    host_set_ste(g, dev, word0);
}

/* The device does something: false if the SMMU refuses */
static bool dma(HostGuest *g, unsigned dev, const char *op, uint32_t ssid,
                uint64_t iova, uint64_t *value)
{
    g_autofree char *with = ssid == NO_SSID ? g_strdup("") :
                            g_strdup_printf(" ssid=%u", ssid);
    QDict *rsp = host_control(g, "dma dma%u %s 0x%" PRIx64 "%s", dev, op, iova,
                              with);
    bool ok = !g_strcmp0(qdict_get_try_str(rsp, "status"), "ok");

    if (ok && value) {
        *value = g_ascii_strtoull(qdict_get_str(rsp, "value"), NULL, 0);
    }
    qobject_unref(rsp);
    return ok;
}

static void check_reads(HostGuest *g, const char *op, uint32_t ssid,
                        uint64_t want)
{
    uint64_t got = 0;

    if (!dma(g, 0, op, ssid, HOST_VA, &got) || got != want) {
        g_error("%s of SSID 0x%x: 0x%" PRIx64 ", not 0x%" PRIx64, op, ssid,
                got, want);
    }
}

static void check_faults(HostGuest *g, const char *op, uint32_t ssid)
{
    uint64_t got = 0;

    if (dma(g, 0, op, ssid, HOST_VA, &got)) {
        g_error("%s of SSID 0x%x: 0x%" PRIx64 ", not a fault", op, ssid, got);
    }
}

/* The next event that the guest gets, and its SSID, if it has one */
static void check_event(HostGuest *g, unsigned type, uint32_t ssid)
{
    uint64_t event[4];

    for (int i = 0; !smmu_event(g, 0, event); i++) {
        g_assert_cmpint(i, <, 20000);
        g_usleep(100);
    }
    g_assert_cmphex(event[0] & 0xff, ==, type);
    g_assert_cmphex(event[0] >> 32, ==, host_sid(g, 0));
    if (ssid != NO_SSID) {
        g_assert_cmphex(extract64(event[0], 12, 20), ==, ssid);
    }
}

/*
 * CD tables
 */

typedef struct CdTable {
    HostGuest *g;
    uint64_t base;
    uint64_t fmt;
    unsigned bits;
} CdTable;

static unsigned leaf_bits(uint64_t fmt)
{
    return fmt == S1FMT_4K ? 6 : 10;
}

static CdTable cd_table(HostGuest *g, uint64_t fmt, unsigned bits)
{
    unsigned leaf = leaf_bits(fmt);
    uint64_t size = fmt == S1FMT_LINEAR ? 64ull << bits :
                    bits > leaf ? 8ull << (bits - leaf) : 8;

    return (CdTable) { g, host_alloc(g, MAX(size, 64)), fmt, bits };
}

/* Where the CD of @ssid is; the leaf is made if it is not there */
static uint64_t cd_at(CdTable *t, uint32_t ssid)
{
    unsigned leaf = leaf_bits(t->fmt);
    uint64_t *l1;

    if (t->fmt == S1FMT_LINEAR) {
        return t->base + ssid * 64ull;
    }
    l1 = host_ram(t->g, t->base + (ssid >> leaf) * 8ull);
    if (!*l1) {
        *l1 = cpu_to_le64(host_alloc(t->g, 64ull << leaf) | 1);
    }
    return (le64_to_cpu(*l1) & MAKE_64BIT_MASK(12, 40)) +
           (ssid & MAKE_64BIT_MASK(0, leaf)) * 64;
}

static void map_ssid(CdTable *t, uint32_t ssid, unsigned asid, uint64_t tag)
{
    uint64_t root = host_alloc(t->g, 4096), page = host_new_page(t->g, tag);

    *host_pte(t->g, root, 12, 25, HOST_VA, 3, true) =
        cpu_to_le64(host_leaf(3, page, PTE_DATA));
    host_write_cd(t->g, cd_at(t, ssid), &(HostCd) {
        .asid = asid, .ttb = { root }, .txsz = { 25 }, .granule_shift = 12,
    });
}

static void use_table(CdTable *t, uint64_t word1)
{
    set_ste(t->g, 0, STE_S1(t->base) | t->fmt | S1CDMAX(t->bits), word1);
}

/*
 * What the guest is told, on the command line that people use
 */
static void test_grace(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(2, ",ats=on,ril=off,ssidsize=20,oas=48");
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR0), 10, 1), ==, 1);
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR0), 19, 1), ==, 1);
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR1), 6, 5), ==, 20);
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR3), 10, 1), ==, 0);
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR5), 0, 3), ==, 5);
    host_finish(g);
}

/* Every format and width; the SSIDs at the ends and at the edges of leaves */
static void test_ssids(const void *opaque)
{
    static const uint32_t some[] = {
        0, 1, 2, 62, 63, 64, 65, 1022, 1023, 1024, 1025, 0x7fff, 0x8000,
        0xfffe, 0xffff, 0x10000, 0xfffff,
    };
    uint64_t fmt = *(const uint64_t *)opaque;
    const unsigned widths[] = { 1, 6, 7, 10, 11, 16, 20 };

    if (host_skipped()) {
        return;
    }
    for (int w = 0; w < ARRAY_SIZE(widths); w++) {
        unsigned asid = 1, bits = widths[w];
        HostGuest *g;
        CdTable t;

        if (fmt == S1FMT_LINEAR && bits > 16) {
            continue;
        }
        g = start(1, NULL);
        t = cd_table(g, fmt, bits);
        for (int i = 0; i < ARRAY_SIZE(some) && !(some[i] >> bits); i++) {
            map_ssid(&t, some[i], asid++, 0x5000 + some[i]);
        }
        use_table(&t, S1DSS_SSID0);
        for (int round = 0; round < 2; round++) {
            asid = 1;
            for (int i = 0; i < ARRAY_SIZE(some); i++, asid++) {
                uint32_t ssid = some[i];

                if (ssid >> bits) {
                    check_faults(g, "read", ssid);
                    check_event(g, C_BAD_SUBSTREAMID, ssid);
                    continue;
                }
                if (!ssid) {
                    /* With S1DSS 0b10 CD 0 is for those without an SSID */
                    check_reads(g, "read", NO_SSID, 0x5000 + 0x100000 * round);
                    check_faults(g, "read", 0);
                    check_event(g, F_STREAM_DISABLED, NO_SSID);
                } else {
                    check_reads(g, "read", ssid,
                                0x5000 + ssid + 0x100000 * round);
                }
                if (!round) {
                    /* Another page; the guest does what it must */
                    map_ssid(&t, ssid, asid, 0x105000 + ssid);
                    smmu_cmd(g, 0, CMD_CFGI_CD(host_sid(g, 0), ssid));
                    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(asid));
                    smmu_sync_ok(g, 0);
                }
            }
        }
        host_finish(g);
    }
}

/* All SSIDs of 16 bits have CDs, and every seventh does DMA; -m slow: all */
static void test_many(const void *opaque)
{
    enum { PAGES = 61 };
    uint64_t fmt = *(const uint64_t *)opaque, root[PAGES];
    HostGuest *g;
    CdTable t;

    if (host_skipped()) {
        return;
    }
    g = start(1, NULL);
    t = cd_table(g, fmt, 16);
    for (int i = 0; i < PAGES; i++) {
        root[i] = host_alloc(g, 4096);
        *host_pte(g, root[i], 12, 25, HOST_VA, 3, true) =
            cpu_to_le64(host_leaf(3, host_new_page(g, i), PTE_DATA));
    }
    for (uint32_t ssid = 0; ssid < 1 << 16; ssid++) {
        host_write_cd(g, cd_at(&t, ssid), &(HostCd) {
            .asid = ssid % PAGES + 1, .ttb = { root[ssid % PAGES] },
            .txsz = { 25 }, .granule_shift = 12,
        });
    }
    use_table(&t, S1DSS_TERMINATE);
    for (uint32_t ssid = 0; ssid < 1 << 16; ssid += g_test_slow() ? 1 : 7) {
        check_reads(g, "read", ssid, ssid % PAGES);
    }
    check_reads(g, "read", 0xffff, 0xffff % PAGES);
    check_faults(g, "read", 0x10000);
    host_finish(g);
}

/* CFGI_CD_ALL concerns each SSID */
static void test_cfgi_cd_all(void)
{
    HostGuest *g;
    CdTable t;

    if (host_skipped()) {
        return;
    }
    g = start(1, NULL);
    t = cd_table(g, S1FMT_64K, 20);
    for (uint32_t ssid = 1; ssid <= 0x80000; ssid <<= 1) {
        map_ssid(&t, ssid, 1 + ctz32(ssid), ssid);
    }
    use_table(&t, S1DSS_TERMINATE);
    for (int round = 0; round < 2; round++) {
        for (uint32_t ssid = 1; ssid <= 0x80000; ssid <<= 1) {
            check_reads(g, "read", ssid, ssid + round);
        }
        for (uint32_t ssid = 1; ssid <= 0x80000; ssid <<= 1) {
            map_ssid(&t, ssid, 1 + ctz32(ssid), ssid + 1);
        }
        smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, 0)));
        smmu_cmd(g, 0, CMD_TLBI_NH_ALL);
        smmu_sync_ok(g, 0);
    }
    host_finish(g);
}

/* What becomes of a transaction without an SSID */
static void test_s1dss(void)
{
    uint64_t page, got;
    HostGuest *g;
    CdTable t;

    if (host_skipped()) {
        return;
    }
    g = start(1, NULL);
    t = cd_table(g, S1FMT_LINEAR, 4);
    map_ssid(&t, 0, 1, 0xcd0);
    map_ssid(&t, 15, 2, 0xcd15);
    page = host_new_page(g, 0xb1a55);
    for (int round = 0; round < 2; round++) {
        /* 3 is reserved and acts as 0 */
        for (unsigned dss = 0; dss < 4; dss += 3) {
            use_table(&t, dss);
            check_faults(g, "read", NO_SSID);
            check_event(g, F_STREAM_DISABLED, NO_SSID);
            check_reads(g, "read", 0, 0xcd0);
            check_reads(g, "read", 15, 0xcd15);
        }
        use_table(&t, S1DSS_BYPASS);
        g_assert_true(dma(g, 0, "read", NO_SSID, page, &got));
        g_assert_cmphex(got, ==, 0xb1a55);
        check_reads(g, "read", 15, 0xcd15);
        use_table(&t, S1DSS_SSID0);
        check_reads(g, "read", NO_SSID, 0xcd0);
        check_reads(g, "read", 15, 0xcd15);
    }
    host_finish(g);
}

/* More SubstreamIDs than the guest was told, or than there are at all */
static void test_s1cdmax(void)
{
    HostGuest *g;
    CdTable t;

    if (host_skipped()) {
        return;
    }
    g = start(1, ",ssidsize=8");
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR1), 6, 5), ==, 8);
    t = cd_table(g, S1FMT_LINEAR, 8);
    map_ssid(&t, 255, 2, 0xcd255);
    use_table(&t, 0);
    check_reads(g, "read", 255, 0xcd255);
    t.bits = 9;
    use_table(&t, 0);
    check_event(g, C_BAD_STE, NO_SSID);
    check_faults(g, "read", 255);
    t.bits = 31;
    use_table(&t, 0);
    check_event(g, C_BAD_STE, NO_SSID);
    host_finish(g);

    /* Without SubstreamIDs both fields are ignored */
    g = start(1, ",ssidsize=0");
    t = cd_table(g, S1FMT_LINEAR, 0);
    map_ssid(&t, 0, 1, 0xcd0);
    t.bits = 31;
    t.fmt = S1FMT_64K;
    use_table(&t, 0);
    check_reads(g, "read", NO_SSID, 0xcd0);
    host_finish(g);
}

/*
 * ATS
 */

static uint64_t atc_invs(HostGuest *g)
{
    return host_counter(g, "smmu.cmd.ATC_INV");
}

/* The page goes: TLBI, CMD_SYNC, ATC_INV, CMD_SYNC; returns the last error */
static unsigned unmap(HostGuest *g, CdTable *t, uint32_t ssid, unsigned asid,
                      HostCmd atc_inv)
{
    host_clear_cd(g, cd_at(t, ssid));
    smmu_cmd(g, 0, CMD_CFGI_CD(host_sid(g, 0), ssid));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(asid));
    smmu_sync_ok(g, 0);
    smmu_cmd(g, 0, atc_inv);
    return smmu_sync(g, 0);
}

/* Each way to name what goes from a device's cache */
static void test_atc_inv(void)
{
    const struct {
        uint32_t ssid;
        bool ssv, global;
        unsigned size;
    } rows[] = {
        { NO_SSID, false, false, 0 }, { NO_SSID, false, false, ATC_ALL },
        { NO_SSID, false, false, 63 },
        { 5, true, false, 0 }, { 5, true, false, 1 }, { 5, true, false, 36 },
        { 5, true, false, ATC_ALL }, { 5, true, true, ATC_ALL },
        { 0xfffff, true, false, ATC_ALL }, { 0xfffff, false, false, ATC_ALL },
    };

    if (host_skipped()) {
        return;
    }
    for (int i = 0; i < ARRAY_SIZE(rows); i++) {
        uint32_t ssid = rows[i].ssid, index = ssid == NO_SSID ? 0 : ssid;
        uint64_t va = rows[i].size ? HOST_VA & ~0xfffull : HOST_VA;
        HostGuest *g = start(1, NULL);
        CdTable t = cd_table(g, S1FMT_64K, 20);
        HostCmd cmd = rows[i].ssv ?
            CMD_ATC_INV_SSID(host_sid(g, 0), ssid, rows[i].global, va,
                             rows[i].size) :
            CMD_ATC_INV(host_sid(g, 0), va, rows[i].size);

        map_ssid(&t, index, 7, 0xa7c);
        use_table(&t, S1DSS_SSID0 | EATS);
        g_assert_true(dma(g, 0, "ats", ssid, HOST_VA, NULL));
        g_assert_cmpuint(host_atc_entries(g, 0), ==, 1);
        check_reads(g, "translated-read", ssid, 0xa7c);
        g_assert_cmpuint(unmap(g, &t, index, 7, cmd), ==, SMMU_CERROR_NONE);
        if (host_atc_entries(g, 0)) {
            g_error("row %d: the device still has a translation", i);
        }
        check_faults(g, "translated-read", ssid);
        host_finish(g);
    }
}

/* What stays when some goes: of SSIDs 5 and 6, and of none */
static void test_atc_inv_exact(void)
{
    const struct {
        uint32_t ssid;          /* NO_SSID: the command has no SSV */
        bool global;
        uint64_t va;
        unsigned size;
        unsigned left;          /* bit 0: without, bits 1, 2: SSIDs 5, 6 */
    } rows[] = {
        { 5, false, HOST_VA, 0, 5 }, { 6, false, 0, ATC_ALL, 3 },
        { 0, true, 0, ATC_ALL, 1 }, { 0, true, HOST_VA, 0, 1 },
        { 0xfffff, true, HOST_VA, 3, 1 }, { NO_SSID, false, HOST_VA, 0, 0 },
        { 7, false, 0, ATC_ALL, 7 }, { 0, false, 0, ATC_ALL, 7 },
        { 5, false, HOST_VA + 4096, 0, 7 }, { 0, true, 0, 20, 7 },
        { NO_SSID, false, HOST_VA - 4096, 0, 7 },
    };
    static const uint32_t ssids[] = { NO_SSID, 5, 6 };
    HostGuest *g;
    CdTable t;

    if (host_skipped()) {
        return;
    }
    g = start(1, NULL);
    t = cd_table(g, S1FMT_64K, 20);
    map_ssid(&t, 0, 7, 0xa7c);
    map_ssid(&t, 5, 8, 0xa7c + 1);
    map_ssid(&t, 6, 9, 0xa7c + 2);
    use_table(&t, S1DSS_SSID0 | EATS);
    for (int i = 0; i < ARRAY_SIZE(rows); i++) {
        for (int n = 0; n < ARRAY_SIZE(ssids); n++) {
            g_assert_true(dma(g, 0, "ats", ssids[n], HOST_VA, NULL));
        }
        g_test_message("row %d", i);
        smmu_cmd(g, 0, rows[i].ssid == NO_SSID ?
                 CMD_ATC_INV(host_sid(g, 0), rows[i].va, rows[i].size) :
                 CMD_ATC_INV_SSID(host_sid(g, 0), rows[i].ssid, rows[i].global,
                                  rows[i].va, rows[i].size));
        smmu_sync_ok(g, 0);
        for (int n = 0; n < ARRAY_SIZE(ssids); n++) {
            if (rows[i].left & BIT(n)) {
                check_reads(g, "translated-read", ssids[n], 0xa7c + n);
            } else {
                check_faults(g, "translated-read", ssids[n]);
            }
        }
    }
    host_finish(g);
}

/* A device that does not answer: one error, at the CMD_SYNC, and DMA goes on */
static void test_dead_atc(void)
{
    HostGuest *g;
    uint32_t at;
    CdTable t;

    if (host_skipped()) {
        return;
    }
    g = start(1, NULL);
    t = cd_table(g, S1FMT_4K, 8);
    map_ssid(&t, 5, 7, 0xa7c);
    map_ssid(&t, 6, 8, 0xa7d);
    use_table(&t, S1DSS_SSID0 | EATS);
    g_assert_true(dma(g, 0, "ats", 5, HOST_VA, NULL));
    qobject_unref(host_control(g, "atc dma0 dead"));
    at = g->smmu[0].prod + 4;
    g_assert_cmpuint(unmap(g, &t, 5, 7, CMD_ATC_INV_SSID(host_sid(g, 0), 5, 0,
                                                         HOST_VA, 0)),
                     ==, SMMU_CERROR_ATC);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS) & 0xfffff, ==, at);
    smmu_ack(g, 0);
    check_reads(g, "read", 6, 0xa7d);
    qobject_unref(host_control(g, "atc dma0 alive"));
    smmu_cmd(g, 0, CMD_ATC_INV(host_sid(g, 0), 0, ATC_ALL));
    smmu_sync_ok(g, 0);
    g_assert_cmpuint(host_atc_entries(g, 0), ==, 0);
    host_finish(g);
}

/* The host fails a batch: what QEMU invalidates then has the device's cache */
static void test_resync(void)
{
    HostGuest *g;
    CdTable t;

    if (host_skipped()) {
        return;
    }
    g = start(1, NULL);
    t = cd_table(g, S1FMT_4K, 8);
    map_ssid(&t, 5, 7, 0xa7c);
    use_table(&t, S1DSS_SSID0 | EATS);
    g_assert_true(dma(g, 0, "ats", 5, HOST_VA, NULL));
    host_clear_cd(g, cd_at(&t, 5));
    qobject_unref(host_control(g, "fail " INVALIDATE ":1+2=ENOMEM"));
    smmu_cmd(g, 0, CMD_CFGI_CD(host_sid(g, 0), 5));
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(7));
    smmu_cmd(g, 0, CMD_ATC_INV_SSID(host_sid(g, 0), 5, 0, HOST_VA, 0));
    smmu_sync_ok(g, 0);
    g_assert_cmpuint(host_atc_entries(g, 0), ==, 0);
    check_faults(g, "translated-read", 5);
    host_finish(g);
}

/* Who gets an ATC_INV: devices whose STE has EATS, and that have ATS */
static void test_no_ats(void)
{
    HostGuest *g;
    uint64_t n;
    CdTable t;

    if (host_skipped()) {
        return;
    }
    g = start(2, NULL);
    t = cd_table(g, S1FMT_LINEAR, 4);
    map_ssid(&t, 0, 1, 0xcd0);
    /* The second device has none, and EATS changes nothing */
    set_ste(g, 1, STE_S1(host_one_page_cd(g, 2, host_new_page(g, 1))), EATS);
    host_check_reads(g, 1, HOST_VA, 1);
    use_table(&t, S1DSS_SSID0);
    n = atc_invs(g);    /* the host's own */
    smmu_cmd(g, 0, CMD_ATC_INV(host_sid(g, 0), 0, ATC_ALL));
    smmu_cmd(g, 0, CMD_ATC_INV(host_sid(g, 1), 0, ATC_ALL));
    smmu_cmd(g, 0, CMD_ATC_INV(0xffff, 0, ATC_ALL));
    smmu_sync_ok(g, 0);
    g_assert_cmpuint(atc_invs(g) - n, ==, 0);
    check_faults(g, "ats", NO_SSID);

    use_table(&t, S1DSS_SSID0 | EATS);
    g_assert_true(dma(g, 0, "ats", NO_SSID, HOST_VA, NULL));
    n = atc_invs(g);
    smmu_cmd(g, 0, CMD_ATC_INV(host_sid(g, 0), 0, ATC_ALL));
    smmu_cmd(g, 0, CMD_ATC_INV(host_sid(g, 1), 0, ATC_ALL));
    smmu_sync_ok(g, 0);
    g_assert_cmpuint(atc_invs(g) - n, ==, 1);
    g_assert_cmpuint(host_atc_entries(g, 0), ==, 0);
    host_finish(g);

    /* Without ATS an ATC_INV is illegal, and EATS is ignored */
    g = start(1, ",ats=off");
    t = cd_table(g, S1FMT_LINEAR, 4);
    map_ssid(&t, 0, 1, 0xcd0);
    use_table(&t, S1DSS_SSID0 | EATS);
    check_faults(g, "ats", NO_SSID);
    check_reads(g, "read", NO_SSID, 0xcd0);
    smmu_cmd(g, 0, CMD_ATC_INV(host_sid(g, 0), 0, ATC_ALL));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
    smmu_ack(g, 0);
    host_finish(g);
}

/* vfio-pci,ats=off: nor does an STE's EATS enable what the guest cannot see */
static void test_hidden(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&(HostGuestConfig) {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2,
        .dev = { { .keys = "ats=on", .properties = ",ats=off" },
                 { .keys = "ats=on" } },
    });
    host_enable(g, 0);
    for (unsigned dev = 0; dev < 2; dev++) {
        set_ste(g, dev, STE_S1(host_one_page_cd(g, 1 + dev,
                                                host_new_page(g, dev))), EATS);
        host_check_reads(g, dev, HOST_VA, dev);
        g_assert_cmpint(dma(g, dev, "ats", NO_SSID, HOST_VA, NULL), ==, dev);
    }
    host_finish(g);
}

/* While SMMUEN is 0 an ATC_INV is legal, and does nothing (4.5.1) */
static void test_disabled(void)
{
    HostGuest *g;
    uint64_t n;
    CdTable t;

    if (host_skipped()) {
        return;
    }
    g = start(1, NULL);
    t = cd_table(g, S1FMT_LINEAR, 4);
    map_ssid(&t, 0, 1, 0xcd0);
    use_table(&t, S1DSS_SSID0 | EATS);
    g_assert_true(dma(g, 0, "ats", NO_SSID, HOST_VA, NULL));
    smmu_disable(g, 0);
    n = atc_invs(g);
    for (unsigned size = 0; size < 64; size++) {
        smmu_cmd(g, 0, CMD_ATC_INV(host_sid(g, 0), 0, size));
        smmu_cmd(g, 0, CMD_ATC_INV_SSID(host_sid(g, 0), 5, size & 1, 0, size));
        smmu_cmd(g, 0, CMD_ATC_INV(0xffff, 0, size));
    }
    smmu_sync_ok(g, 0);
    g_assert_cmpuint(atc_invs(g) - n, ==, 0);

    /* They are not kept until SMMUEN is 1 */
    smmu_enable(g, 0);
    smmu_cmd(g, 0, CMD_CFGI_ALL);
    smmu_cmd(g, 0, CMD_TLBI_NSNH_ALL);
    smmu_sync_ok(g, 0);
    g_assert_true(dma(g, 0, "ats", NO_SSID, HOST_VA, NULL));
    n = atc_invs(g);
    smmu_sync_ok(g, 0);
    g_assert_cmpuint(atc_invs(g) - n, ==, 0);
    check_reads(g, "translated-read", NO_SSID, 0xcd0);
    host_finish(g);
}

/*
 * QEMU translates the MSIs of bridges itself. The port of device 0 has a CD
 * table, and signals that its slot is turned off.
 */
#define NO_MEMORY   (HOST_RAM_BASE + HOST_RAM_SIZE)

typedef struct BridgeRow {
    const char *name;
    uint64_t word0, word1;      /* of the STE, besides the table's address */
    /* What is first in it; or the table is where no memory is */
    enum { CD, L1CD, L1CD_INVALID, L1CD_NOWHERE } table;
    enum { BY_CD, BY_PASS, BY_EVENT } way;
    unsigned event;
} BridgeRow;

static const BridgeRow bridge_rows[] = {
    { "linear", S1CDMAX(20), S1DSS_SSID0 },
    { "two-level-4k", S1CDMAX(20) | S1FMT_4K, S1DSS_SSID0, L1CD },
    { "two-level-64k", S1CDMAX(1) | S1FMT_64K, S1DSS_SSID0, L1CD },
    { "one", S1FMT_64K, S1DSS_TERMINATE },
    { "format-3", S1CDMAX(20) | 3 << 4, S1DSS_SSID0 },
    { "no-leaf", S1CDMAX(20) | S1FMT_4K, S1DSS_SSID0, L1CD_INVALID, BY_EVENT,
      C_BAD_SUBSTREAMID },
    { "no-table", S1CDMAX(20) | S1FMT_4K, S1DSS_SSID0, L1CD_NOWHERE, BY_EVENT,
      F_CD_FETCH },
    { "terminate", S1CDMAX(20), S1DSS_TERMINATE, CD, BY_EVENT,
      F_STREAM_DISABLED },
    { "terminate-3", S1CDMAX(1), 3, CD, BY_EVENT, F_STREAM_DISABLED },
    { "bypass", S1CDMAX(20), S1DSS_BYPASS, CD, BY_PASS },
    { "bypass-one", S1CDMAX(0), S1DSS_BYPASS },
    { "too-many", S1CDMAX(21), S1DSS_SSID0, CD, BY_EVENT, C_BAD_STE },
    { "all-ones", S1CDMAX(31), 3, CD, BY_EVENT, C_BAD_STE },
};

/*
 * With IDR5.DS the SCALE of a range has six bits: 32 is 2^32 pages, from 0 to
 * far above HOST_VA, and more than 39 is 39. QEMU must forget the translation
 * of the first message.
 */
static void test_bridge_range(const void *scale)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = "profile=lpa2",
    };
    uint32_t *target;
    uint64_t *pte;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR5), 7, 1), ==, 1);
    host_enable(g, 0);
    target = host_map_port_msi(g, 1, &pte);
    qatomic_set(pte, 0);
    smmu_cmd(g, 0, HOST_CMD(0x12 | (uint64_t)(uintptr_t)scale << 20 |
                            1ull << 48, 1 << 10));
    smmu_sync_ok(g, 0);
    host_turn_slot_off(g);
    g_assert_cmphex(qatomic_read(target), ==, 0);
    host_guest_free(g);
}

/* With IDR5.VAX the bridge's VAs have 52 bits, by a granule of 64K */
static void test_bridge_vax(void)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = "profile=lpa2",
    };
    const uint64_t va = HOST_VA | 1ull << 51;
    uint64_t page, root, cd;
    uint32_t sid;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    g_assert_cmpuint(extract32(smmu_read(g, 0, SMMU_IDR5), 10, 2), ==, 1);
    host_enable(g, 0);
    sid = host_port_sid(g);
    page = host_alloc(g, 64 * KiB);
    root = host_alloc(g, 64 * KiB);
    cd = host_alloc(g, 64);
    *host_pte(g, root, 16, 12, va, 3, true) =
        cpu_to_le64(host_leaf(3, page, PTE_DATA));
    host_write_cd(g, cd, &(HostCd) {
        .asid = 1, .ttb = { root }, .txsz = { 12 }, .granule_shift = 16,
    });
    *smmu_ste(g, 0, sid) = cpu_to_le64(STE_S1(cd));
    smmu_cmd(g, 0, CMD_CFGI_STE(sid));
    smmu_sync_ok(g, 0);
    host_enable_port_msi(g, va);
    host_turn_slot_off(g);
    g_assert_cmphex(le32_to_cpu(*(uint32_t *)host_ram(g, page)), ==, 0xabcd);
    host_guest_free(g);
}

static void test_bridge(const void *opaque)
{
    const BridgeRow *row = opaque;
    uint64_t event[4] = {};
    uint64_t page, cd;
    uint32_t *target;
    uint32_t sid;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(1, NULL);
    page = host_new_page(g, 0);
    target = host_ram(g, page);
    cd = host_one_page_cd(g, 1, page);
    if (row->table != CD) {
        uint64_t l1 = host_alloc(g, 4096), leaf = host_alloc(g, 4096);

        memcpy(host_ram(g, leaf), host_ram(g, cd), 64);
        *(uint64_t *)host_ram(g, l1) =
            cpu_to_le64(leaf | (row->table == L1CD));
        cd = row->table == L1CD_NOWHERE ? NO_MEMORY : l1;
    }
    sid = host_port_sid(g);
    smmu_ste(g, 0, sid)[1] = cpu_to_le64(row->word1);
    smmu_ste(g, 0, sid)[0] = cpu_to_le64(STE_S1(cd) | row->word0);
    smmu_cmd(g, 0, CMD_CFGI_STE(sid));
    smmu_sync_ok(g, 0);

    host_enable_port_msi(g, row->way == BY_PASS ? page : HOST_VA);
    host_turn_slot_off(g);

    g_assert_cmphex(le32_to_cpu(qatomic_read(target)), ==,
                    row->way == BY_EVENT ? 0 : 0xabcd);
    g_assert_cmpint(smmu_event(g, 0, event), ==, row->way == BY_EVENT);
    g_assert_cmphex(event[0] & 0xff, ==, row->event);
    if (row->event == F_CD_FETCH) {
        g_assert_cmphex(event[3], ==, NO_MEMORY);
    }
    host_guest_free(g);
}

/* The IORT has one node for all root complexes, and their ATS attribute */
static void test_iort(void)
{
    static const char ats[] = "ats=on";
    static const struct {
        const char *smmu_args, *keys[2];
        unsigned n_devs, want;
    } rows[] = {
        { NULL, {}, 0, 0 }, { ",ats=on", {}, 0, 1 },
        { NULL, {}, 2, 0 }, { NULL, { ats }, 2, 1 },
        { NULL, { NULL, ats }, 2, 1 },
        { ",ats=auto", { ats, ats }, 2, 1 }, { ",ats=off", { ats, ats }, 2, 0 },
        { ",ats=on", {}, 2, 1 },
    };

    if (host_skipped()) {
        return;
    }
    for (int i = 0; i < ARRAY_SIZE(rows); i++) {
        const HostGuestConfig config = {
            .n_vsmmus = 2, .n_psmmus = 1, .n_devs = rows[i].n_devs,
            .smmu_args = rows[i].smmu_args,
            .dev = { { .keys = rows[i].keys[0] },
                     { .vsmmu = 1, .keys = rows[i].keys[1] } },
        };
        HostGuest *g = host_guest_new(&config);
        g_autofree uint8_t *iort = NULL;
        unsigned found = 0;
        uint32_t at;
        size_t len;

        iort = smmuv3_acpi_table(g->qts, "IORT", &len);
        g_assert_nonnull(iort);
        g_test_message("row %d", i);
        for (at = ldl_le_p(iort + 40); at < len;
             at += lduw_le_p(iort + at + 1)) {
            if (iort[at] == 2) {
                g_assert_cmpuint(ldl_le_p(iort + at + 24), ==, rows[i].want);
                found++;
            }
        }
        g_assert_cmpuint(found, ==, 1);
        host_guest_free(g);
    }
}

int main(int argc, char **argv)
{
    static const unsigned scales[] = { 32, 39, 40, 52, 63 };
    static const uint64_t formats[] = { S1FMT_LINEAR, S1FMT_4K, S1FMT_64K };

    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3-ats/grace", test_grace);
    qtest_add_data_func("/smmuv3-ats/ssids/linear", &formats[0], test_ssids);
    qtest_add_data_func("/smmuv3-ats/ssids/4k", &formats[1], test_ssids);
    qtest_add_data_func("/smmuv3-ats/ssids/64k", &formats[2], test_ssids);
    qtest_add_data_func("/smmuv3-ats/many/linear", &formats[0], test_many);
    qtest_add_data_func("/smmuv3-ats/many/4k", &formats[1], test_many);
    qtest_add_data_func("/smmuv3-ats/many/64k", &formats[2], test_many);
    qtest_add_func("/smmuv3-ats/cfgi-cd-all", test_cfgi_cd_all);
    qtest_add_func("/smmuv3-ats/s1dss", test_s1dss);
    qtest_add_func("/smmuv3-ats/s1cdmax", test_s1cdmax);
    qtest_add_func("/smmuv3-ats/atc-inv", test_atc_inv);
    qtest_add_func("/smmuv3-ats/atc-inv-exact", test_atc_inv_exact);
    qtest_add_func("/smmuv3-ats/iort", test_iort);
    qtest_add_func("/smmuv3-ats/dead-atc", test_dead_atc);
    qtest_add_func("/smmuv3-ats/resync", test_resync);
    qtest_add_func("/smmuv3-ats/no-ats", test_no_ats);
    qtest_add_func("/smmuv3-ats/hidden", test_hidden);
    qtest_add_func("/smmuv3-ats/disabled", test_disabled);
    for (int i = 0; i < ARRAY_SIZE(scales); i++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-ats/bridge-range/%u",
                                                scales[i]);

        qtest_add_data_func(path, GUINT_TO_POINTER(scales[i]),
                            test_bridge_range);
    }
    qtest_add_func("/smmuv3-ats/bridge-vax", test_bridge_vax);
    for (int i = 0; i < ARRAY_SIZE(bridge_rows); i++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-ats/bridge/%s",
                                                bridge_rows[i].name);

        qtest_add_data_func(path, &bridge_rows[i], test_bridge);
    }
    return g_test_run();
}
