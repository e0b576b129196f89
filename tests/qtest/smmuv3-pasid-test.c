/*
 * QTest of accel=on: what vfio-pci shows a guest of ATS and PASIDs
 *
 * The guest walks the capabilities of assigned devices. Runs on the host model,
 * which shows a device's configuration space as Linux does.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/units.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define AUTO        ",ats=auto,ssidsize=auto"
#define PASID       "pasid=16"
/* Where the capability must be found: nowhere */
#define NOWHERE     0

static uint16_t read16(HostGuest *g, unsigned dev, unsigned reg)
{
    return qtest_readw(g->qts, host_device_config(g, dev) + reg);
}

static uint32_t read32(HostGuest *g, unsigned dev, unsigned reg)
{
    return qtest_readl(g->qts, host_device_config(g, dev) + reg);
}

static void write16(HostGuest *g, unsigned dev, unsigned reg, uint16_t value)
{
    qtest_writew(g->qts, host_device_config(g, dev) + reg, value);
}

/*
 * Walk as a guest does. The list must end, and have no capability twice, and
 * none on the way may be out of place. Returns 0 if there is no such one.
 */
static unsigned find(HostGuest *g, unsigned dev, unsigned id)
{
    DECLARE_BITMAP(seen, 0x1000) = { };
    unsigned at = 0x100, found = 0;
    uint32_t header = read32(g, dev, at);

    for (; header && at; at = header >> 20) {
        header = read32(g, dev, at);
        g_assert_cmphex(at, >=, 0x100);
        g_assert_cmphex(at & 3, ==, 0);
        g_assert_false(test_and_set_bit(at, seen));
        if ((header & 0xffff) == id) {
            g_assert_cmphex(found, ==, 0);
            found = at;
        }
    }
    return found;
}

static unsigned exp_cap(HostGuest *g, unsigned dev)
{
    return host_find_cap(g, host_device_config(g, dev), PCI_CAP_ID_EXP);
}

/* The guest sees a PASID capability at @at, or none, and what it may hold */
static void check_pasid(HostGuest *g, unsigned dev, unsigned at, unsigned cap)
{
    uint16_t allowed = PCI_PASID_CTRL_ENABLE | (cap & 6);

    g_assert_cmphex(find(g, dev, PCI_EXT_CAP_ID_PASID), ==, at);
    if (!at) {
        return;
    }
    g_assert_cmphex(read32(g, dev, at) & 0xfffff, ==,
                    PCI_EXT_CAP_ID_PASID | 1 << 16);
    g_assert_cmphex(read16(g, dev, at + PCI_PASID_CAP), ==, cap);
    for (unsigned bits = 0; bits < 8; bits++) {
        write16(g, dev, at + PCI_PASID_CTRL, bits | 0xfff8);
        g_assert_cmphex(read16(g, dev, at + PCI_PASID_CTRL), ==,
                        bits & allowed);
    }
    write16(g, dev, at + PCI_PASID_CAP, 0xffff);
    write16(g, dev, at, 0xffff);
    g_assert_cmphex(read32(g, dev, at + PCI_PASID_CAP) & 0xffff, ==, cap);
    write16(g, dev, at + PCI_PASID_CTRL, 0);
    g_assert_true(read32(g, dev, exp_cap(g, dev) + PCI_EXP_DEVCAP2) &
                  PCI_EXP_DEVCAP2_EE_PREFIX);
    /* What the device has in the same place, the guest does not reach */
    g_assert_cmpuint(host_counter(g, "vfio.config.raw"), ==, 0);
}

static HostGuestConfig one(const char *smmu, const char *keys,
                           const char *properties)
{
    return (HostGuestConfig) {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .smmu_args = smmu,
        .dev = { { .keys = keys, .properties = properties } },
    };
}

/*
 * PASIDs
 */

typedef struct PasidCase {
    const char *keys;           /* of the host's device */
    const char *properties;     /* of vfio-pci */
    unsigned at, cap;           /* what the guest sees */
    const char *said;           /* what a person reads, or NULL */
} PasidCase;

#define BROKEN  "its list of extended capabilities is broken"

static const PasidCase pasid_cases[] = {
    /* width, Exec and Priv are the host's */
    { "pasid=1", "", 0xff8, 0x100 },
    { "pasid=16\npasid_exec=on", "", 0xff8, 0x1002 },
    { "pasid=20\npasid_priv=on", "", 0xff8, 0x1404 },
    { "pasid=20\npasid_exec=on\npasid_priv=on\nats=on", "", 0xff8, 0x1406 },
    { "pasid=8\nee_prefix=off", "", 0xff8, 0x800 },
    { "pasid=0", "", NOWHERE, 0 },
    { "pasid=0", ",x-vpasid-cap-offset=0xff8", NOWHERE, 0 },
    { "", "", NOWHERE, 0 },
    /* where the user wants it */
    { PASID, ",x-vpasid-cap-offset=0", 0xff8, 0x1000 },
    { PASID, ",x-vpasid-cap-offset=0xff8", 0xff8, 0x1000 },
    { PASID, ",x-vpasid-cap-offset=0x200", 0x200, 0x1000 },
    /* the real one is at 0x110, and the kernel hides it */
    { "ats=on\n" PASID, ",x-vpasid-cap-offset=0x110", 0x110, 0x1000 },
    { "ats=on\n" PASID, ",x-vpasid-cap-offset=0x108", 0x108, 0x1000 },
    /* the list is empty, or all of it is hidden */
    { PASID "\next_caps=pasid@100", "", 0xff8, 0x1000 },
    { PASID "\next_caps=pasid@100;l1ss@200", "", 0xff8, 0x1000 },
    { PASID "\next_caps=pasid@100", ",x-vpasid-cap-offset=0x100", 0x100,
      0x1000 },
    /* something is in the best place */
    { PASID "\next_caps=ats@100;dsn@ff4", "", 0xfec, 0x1000 },
    { PASID "\next_caps=ats@100;pasid@ff8", "", 0xff0, 0x1000 },
    { PASID "\next_caps=vndr@100:ee8;pasid@ff0;dsn@fe8:8", "", 0xff8, 0x1000 },
    /* all is full but one place, and full */
    { PASID "\next_caps=ats@100;vndr@110:ef0;pasid@108", "", 0x108, 0x1000 },
    { PASID "\next_caps=pasid@100;vndr@108:ef8", "", NOWHERE, 0,
      "its configuration space has no 8 bytes left" },
    { PASID "\next_caps=ats@100;vndr@108:eec;pasid@ff4:8", "", 0xff8, 0x1000 },
    /* lists that are none */
    { PASID "\next_caps=ats@100;pasid@200;dsn@300\next_end=0x100", "", 0xff8,
      0x1000, BROKEN },
    { PASID "\next_caps=ats@100;pasid@200;dsn@300\next_end=0x304", "", 0xff8,
      0x1000 },
    { PASID "\next_caps=ats@100;pasid@200;dsn@300\next_end=0x40", "", 0xff8,
      0x1000, BROKEN },
    { PASID "\next_caps=ats@100;pasid@200;dsn@300\next_end=0xffc", "", 0xff8,
      0x1000 },
};

static void test_pasid(const void *opaque)
{
    const PasidCase *c = opaque;
    HostGuestConfig config = one(AUTO, c->keys, c->properties);
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    if (c->said) {
        host_expect(g, c->said);
    }
    check_pasid(g, 0, c->at, c->cap);
    host_finish(g);
}

/* A place that is fine, and one that QEMU chooses: nothing to read */
static void test_silent(void)
{
    static const char *const properties[] = {
        "", ",x-vpasid-cap-offset=0", ",x-vpasid-cap-offset=0xff8",
        ",x-vpasid-cap-offset=0x200",
    };

    if (host_skipped()) {
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(properties); i++) {
        HostGuestConfig config = one(AUTO, PASID, properties[i]);
        HostGuest *g = host_guest_new(&config);

        host_finish(g);
    }
}

/* Places that cannot be, at start and when the device is plugged */

typedef struct OffsetCase {
    const char *offset;
    const char *keys;
    const char *error;          /* what the message must have */
    const char *place;          /* and this, or NULL */
} OffsetCase;

static const OffsetCase offset_cases[] = {
    { "0xffc", PASID, "a multiple of 4 from 0x100 to 0xff8" },
    { "0xfc", PASID, "a multiple of 4 from 0x100 to 0xff8" },
    { "1", PASID, "a multiple of 4 from 0x100 to 0xff8" },
    { "0x1000", PASID, "a multiple of 4 from 0x100 to 0xff8" },
    { "0xfffc", PASID, "a multiple of 4 from 0x100 to 0xff8" },
    { "0xff6", PASID, "a multiple of 4 from 0x100 to 0xff8" },
    { "0x100", "ats=on\n" PASID, "overlaps capability 0xf at 0x100" },
    { "0x104", "ats=on\n" PASID, "overlaps capability 0xf at 0x100",
      "0xff8 is free" },
    { "0x1fc", PASID "\next_caps=ats@100;dsn@200",
      "overlaps capability 0x3 at 0x200" },
    { "0x208", PASID "\next_caps=ats@100;dsn@200",
      "overlaps capability 0x3 at 0x200" },
    { "0xff8", PASID "\next_caps=pasid@100;vndr@108:ef8",
      "no free place" },
    /* without PASIDs as well: the line is wrong, whatever the host */
    { "0x104", "ats=on", "overlaps capability 0xf at 0x100" },
};

static void test_offset(const void *opaque)
{
    const OffsetCase *c = opaque;
    g_autofree char *properties = g_strconcat(",x-vpasid-cap-offset=",
                                              c->offset, NULL);
    HostGuestConfig config = one(AUTO, c->keys, properties);
    g_autofree char *cold = NULL, *hot = NULL;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    cold = host_guest_refused(&config);
    g_assert_nonnull(strstr(cold, c->error));
    g_assert_nonnull(strstr(cold, "leave it out"));
    g_assert_true(!c->place || strstr(cold, c->place));

    config.dev[0].hotplug = true;
    g = host_guest_new(&config);
    hot = host_guest_plug(g, 0);
    g_assert_nonnull(hot);
    g_assert_nonnull(strstr(hot, c->error));
    host_finish(g);
}

/*
 * A new device cannot be read: the last read of the whole space looks for a
 * place, or whether the user's place is free
 */
static void test_read_error(const void *properties)
{
    HostGuestConfig config = one(",ssidsize=16", PASID, properties);
    bool found = false;
    uint64_t n;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    config.dev[0].hotplug = true;
    g = host_guest_new(&config);
    host_expect(g, "vfio_pci_read_config(VFIO_FD");
    host_expect(g, "failed to read PCI_INTERRUPT_PIN");
    qobject_unref(host_control(g, "zero"));
    g_assert_cmpstr(host_guest_plug(g, 0), ==, NULL);
    host_guest_unplug(g, 0);
    for (n = host_counter(g, "call.vfio.read"); !found; n--) {
        g_autofree char *error = NULL;

        g_assert_cmpuint(n, >, 1);
        qobject_unref(host_control(g, "fail vfio.read:%u=EIO", (unsigned)n));
        error = host_guest_plug(g, 0);
        qobject_unref(host_control(g, "fail clear"));
        if (!error || !g_str_has_prefix(error, "Error: ")) {
            host_guest_unplug(g, 0);    /* no error, but perhaps a warning */
            continue;
        }
        found = strstr(error, "failed to read device config space: "
                              "Input/output error");
    }
    /* The read that any device needs is the first one */
    g_assert_cmpuint(n, >, 1);
    g_assert_cmpstr(host_guest_plug(g, 0), ==, NULL);
    check_pasid(g, 0, 0xff8, 0x1000);
    host_finish(g);
}

/*
 * ATS: the user's word, the host's, the SMMU's
 */

typedef struct AtsCase {
    const char *user;           /* ats= of vfio-pci */
    const char *keys;           /* of the host's device */
    const char *smmu;           /* properties of the SMMU; NULL: no SMMU */
    bool shown;
    const char *error;
} AtsCase;

static const AtsCase ats_cases[] = {
    { "auto", "ats=on", ",ats=on", true },
    { "auto", "ats=on", ",ats=auto", true },
    { "auto", "ats=on", ",ats=off", false },
    { "auto", "ats=on", NULL, true },
    { "auto", "ats=on\nrc_ats=off", ",ats=on", false },
    { "auto", "ats=on\nrc_ats=off", ",ats=auto", false },
    { "auto", "ats=on\nrc_ats=off", NULL, true },
    { "auto", "ats=off", ",ats=on", false },
    { "auto", "ats=off", NULL, false },
    { "on", "ats=on", ",ats=on", true },
    { "on", "ats=on", ",ats=auto", true },
    { "on", "ats=on", ",ats=off", false, "offers the guest no ATS" },
    { "on", "ats=on", NULL, false, "no IOMMU that offers the guest ATS" },
    { "on", "ats=on\nrc_ats=off", ",ats=on", false, "the host does not let" },
    { "on", "ats=on\nrc_ats=off", NULL, false, "the host does not let" },
    { "on", "ats=off", ",ats=on", false, "has none" },
    { "off", "ats=on", ",ats=on", false },
    { "off", "ats=on", ",ats=off", false },
    { "off", "ats=on", NULL, false },
    { "off", "ats=off", ",ats=on", false },
    { "off", "ats=on\next_caps=dsn@100;ats@200;ltr@300", ",ats=on", false },
    { "off", "ats=on\next_caps=dsn@100;ats@200", ",ats=on", false },
    { "off", "ats=on\next_caps=dsn@100;ltr@180;ats@200;acs@300", ",ats=on",
      false },
};

/* QEMU keeps what the guest writes there, if there is an SMMU to use it */
static void check_ats(HostGuest *g, unsigned dev, bool shown, bool kept)
{
    static const uint16_t words[] = { 0x8000, 0x801f, 0x001f, 0xffff, 0 };
    static const struct {
        const char *key;
        unsigned id, at;
    } others[] = {
        { "dsn@100", PCI_EXT_CAP_ID_DSN, 0x100 },
        { "ltr@180", PCI_EXT_CAP_ID_LTR, 0x180 },
        { "acs@300", PCI_EXT_CAP_ID_ACS, 0x300 },
    };
    unsigned at = find(g, dev, PCI_EXT_CAP_ID_ATS);

    g_assert_cmpint(at != 0, ==, shown);
    /* The others are in the list, before it and behind */
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        if (strstr(g->config.dev[dev].keys, others[i].key)) {
            g_assert_cmphex(find(g, dev, others[i].id), ==, others[i].at);
        }
    }
    if (!shown) {
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(words) && kept; i++) {
        write16(g, dev, at + PCI_ATS_CTRL, words[i]);
        g_assert_cmphex(read16(g, dev, at + PCI_ATS_CTRL), ==,
                        words[i] & 0x801f);
    }
    if (!kept) {
        uint16_t host = read16(g, dev, at + PCI_ATS_CTRL);

        write16(g, dev, at + PCI_ATS_CTRL, ~host);
        g_assert_cmphex(read16(g, dev, at + PCI_ATS_CTRL), ==, host);
    }
}

static void test_ats(const void *opaque)
{
    const AtsCase *c = opaque;
    g_autofree char *properties = g_strconcat(",ats=", c->user, NULL);
    HostGuestConfig config = one(c->smmu, c->keys, properties);
    g_autofree char *cold = NULL, *hot = NULL;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    config.no_smmu = !c->smmu;
    if (c->error) {
        cold = host_guest_refused(&config);
        g_assert_nonnull(strstr(cold, c->error));
        g_assert_nonnull(strstr(cold, "leave ats=on out"));
    } else {
        g = host_guest_new(&config);
        check_ats(g, 0, c->shown, c->smmu);
        host_finish(g);
    }
    /* Hot plug: a device at start lets ats=auto of the SMMU see the host */
    config.dev[1] = config.dev[0];
    config.dev[1].hotplug = true;
    config.dev[0].properties = "";
    config.n_devs = 2;
    g = host_guest_new(&config);
    hot = host_guest_plug(g, 1);
    if (c->error) {
        g_assert_nonnull(hot);
        g_assert_nonnull(strstr(hot, c->error));
    } else {
        g_assert_cmpstr(hot, ==, NULL);
        check_ats(g, 1, c->shown, c->smmu);
    }
    host_finish(g);
}

/*
 * When
 */

/* The SMMU is created after its device */
static void test_smmu_after_device(void)
{
    HostGuestConfig config = one(NULL, "ats=on\n" PASID, ",ats=on");
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    config.no_smmu = true;
    config.args = "-device arm-smmuv3,id=s0,accel=on,primary-bus=pcie.0,"
                  "ats=on,ssidsize=16";
    g = host_guest_new(&config);
    check_pasid(g, 0, 0xff8, 0x1000);
    check_ats(g, 0, true, true);
    host_finish(g);
}

/* An SMMU that offers no PASIDs, and none at all */
static void test_no_pasids(void)
{
    HostGuestConfig config = one(",ssidsize=0", PASID,
                                 ",x-vpasid-cap-offset=0xff8");
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    for (int no_smmu = 0; no_smmu < 2; no_smmu++) {
        config.no_smmu = no_smmu;
        g = host_guest_new(&config);
        check_pasid(g, 0, NOWHERE, 0);
        host_finish(g);
    }
}

/* A device that is plugged into a running machine, twice */
static void test_hot_plug(void)
{
    HostGuestConfig config = one(AUTO, PASID "\nats=on", "");
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    config.dev[1] = config.dev[0];
    config.dev[1].hotplug = true;
    config.n_devs = 2;
    g = host_guest_new(&config);
    for (int n = 0; n < 2; n++) {
        g_assert_cmpstr(host_guest_plug(g, 1), ==, NULL);
        check_pasid(g, 1, 0xff8, 0x1000);
        check_ats(g, 1, true, true);
        host_guest_unplug(g, 1);
    }
    host_finish(g);
}

static void switch_on(HostGuest *g, unsigned ats, unsigned pasid)
{
    write16(g, 0, ats + PCI_ATS_CTRL, 0x8003);
    write16(g, 0, pasid + PCI_PASID_CTRL, 1);
    g_assert_cmphex(read16(g, 0, ats + PCI_ATS_CTRL), ==, 0x8003);
    g_assert_cmphex(read16(g, 0, pasid + PCI_PASID_CTRL), ==, 1);
}

static void check_off(HostGuest *g, unsigned ats, unsigned pasid)
{
    g_assert_cmphex(read16(g, 0, ats + PCI_ATS_CTRL), ==, 0);
    g_assert_cmphex(read16(g, 0, pasid + PCI_PASID_CTRL), ==, 0);
}

static void test_resets(void)
{
    HostGuestConfig config = one(AUTO, PASID "\nats=on", "");
    unsigned ats, pasid, devctl;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    ats = find(g, 0, PCI_EXT_CAP_ID_ATS);
    pasid = find(g, 0, PCI_EXT_CAP_ID_PASID);
    devctl = exp_cap(g, 0) + PCI_EXP_DEVCTL;

    switch_on(g, ats, pasid);
    write16(g, 0, devctl, 0x7fff);
    qtest_writeb(g->qts, host_device_config(g, 0) + devctl, 0x80);
    switch_on(g, ats, pasid);
    host_flr(g, 0);
    check_off(g, ats, pasid);

    switch_on(g, ats, pasid);
    qtest_writeb(g->qts, host_device_config(g, 0) + devctl + 1, 0x80);
    check_off(g, ats, pasid);

    switch_on(g, ats, pasid);
    host_bus_reset(g, 0);
    check_off(g, ats, pasid);

    switch_on(g, ats, pasid);
    qtest_system_reset(g->qts);
    host_setup_port(g, 0);
    host_setup_device(g, 0);
    check_off(g, ats, pasid);
    host_finish(g);
}

/*
 * Linux asks each bridge above whether it can forward End-End TLP prefixes
 * (pci_configure_eetlp_prefix()), and ports to have ACS (pci_enable_pasid()).
 */
static void test_ports(void)
{
    HostGuestConfig config = one(AUTO, PASID, "");
    uint64_t port, cap;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    port = host_port_config(g, 0);
    cap = port + host_find_cap(g, port, PCI_CAP_ID_EXP);
    g_assert_true(qtest_readl(g->qts, cap + PCI_EXP_DEVCAP2) &
                  PCI_EXP_DEVCAP2_EE_PREFIX);
    host_finish(g);
}

static void add_case(const char *group, unsigned i, const void *c,
                     void (*test)(const void *))
{
    g_autofree char *path = g_strdup_printf("smmuv3-pasid/%s/%u", group, i);

    qtest_add_data_func(path, c, test);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(pasid_cases); i++) {
        add_case("pasid", i, &pasid_cases[i], test_pasid);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(offset_cases); i++) {
        add_case("offset", i, &offset_cases[i], test_offset);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(ats_cases); i++) {
        add_case("ats", i, &ats_cases[i], test_ats);
    }
    qtest_add_data_func("smmuv3-pasid/read-error/room", "", test_read_error);
    qtest_add_data_func("smmuv3-pasid/read-error/offset",
                        ",x-vpasid-cap-offset=0xff8", test_read_error);
    qtest_add_func("smmuv3-pasid/silent", test_silent);
    qtest_add_func("smmuv3-pasid/smmu-after-device", test_smmu_after_device);
    qtest_add_func("smmuv3-pasid/no-pasids", test_no_pasids);
    qtest_add_func("smmuv3-pasid/hot-plug", test_hot_plug);
    qtest_add_func("smmuv3-pasid/resets", test_resets);
    qtest_add_func("smmuv3-pasid/ports", test_ports);
    return g_test_run();
}
