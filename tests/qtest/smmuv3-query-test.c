/*
 * QTest of query-smmuv3, info smmuv3 and the events of QMP
 *
 * Brings streams, queues and the host into states that are known, and checks
 * what QEMU says of them. Runs on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "smmuv3-cmdqv.h"
#include "smmuv3-test-util.h"

#define ATTACH      "VFIO_DEVICE_ATTACH_IOMMUFD_PT"
#define INVALIDATE  "IOMMU_HWPT_INVALIDATE"
#define STE_CONFIG(config)  (STE_V | (uint64_t)(config) << 1)

static HostGuest *start(const char *host, const char *smmu_args)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .host = host, .smmu_args = smmu_args,
    };

    return host_guest_new(&config);
}

/* The same, and the device translates HOST_VA */
static HostGuest *start_translating(const char *host, const char *smmu_args)
{
    HostGuest *g = start(host, smmu_args);

    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    return g;
}

static void fail(HostGuest *g, const char *rule)
{
    qobject_unref(host_control(g, "fail %s", rule));
}

static const QDict *accel_of(const QDict *smmu)
{
    const QDict *accel = qobject_to(QDict, qdict_get(smmu, "accel"));

    g_assert_nonnull(accel);
    return accel;
}

static const QDict *stats_of(const QDict *smmu)
{
    return qobject_to(QDict, qdict_get(accel_of(smmu), "stats"));
}

static const QDict *stream_of(const QDict *smmu, const char *id)
{
    const QDict *stream = host_find(accel_of(smmu), "streams", "id", id);

    g_assert_nonnull(stream);
    return stream;
}

static uint32_t idr(const QDict *dict, unsigned n)
{
    const QListEntry *e = qlist_first(qdict_get_qlist(dict, "idr"));

    while (n--) {
        e = qlist_next(e);
    }
    return qnum_get_uint(qobject_to(QNum, qlist_entry_obj(e)));
}

static void check_str(const QDict *dict, const char *key, const char *want)
{
    g_assert_cmpstr(qdict_get_try_str(dict, key), ==, want);
}

/* `info smmuv3` says so to a person, too; \n as the monitor's end of a line */
static void human_says(HostGuest *g, const char *want)
{
    g_autofree char *text = qtest_hmp(g->qts, "info smmuv3");
    g_auto(GStrv) lines = g_strsplit(text, "\r\n", -1);
    g_autofree char *unix_text = g_strjoinv("\n", lines);

    if (!strstr(unix_text, want)) {
        g_error("no \"%s\" in:\n%s", want, unix_text);
    }
}

/*
 * Streams
 */

/* Check the only stream; returns its number of moves */
static unsigned check_stream(HostGuest *g, const char *attached,
                             const char *cause, const char *edge)
{
    QDict *smmu = host_query(g, 0);
    const QDict *stream = stream_of(smmu, "dev0");
    unsigned moves = qdict_get_int(stream, "moves");

    check_str(stream, "attached", attached);
    check_str(stream, "wanted", attached);
    check_str(stream, "cause", cause);
    check_str(stream, "edge", edge);
    check_str(stream, "qom-path", "/machine/peripheral/dev0");
    g_assert_cmphex(qdict_get_int(stream, "stream-id"), ==, host_sid(g, 0));
    g_assert_false(qdict_get_bool(stream, "pending"));
    g_assert_false(qdict_get_bool(stream, "msi-faults"));
    qobject_unref(smmu);
    return moves;
}

static void test_stream(void)
{
    unsigned moves, bus;
    HostGuest *g;
    QDict *smmu;
    uint64_t cd;

    if (host_skipped()) {
        return;
    }
    g = start(NULL, NULL);
    check_stream(g, "bypass", "disabled", "plug");
    smmu_gbpa(g, 0, true);
    moves = check_stream(g, "abort", "disabled", "gbpa");
    host_enable(g, 0);
    g_assert_cmpuint(check_stream(g, "abort", "ste-invalid", "gbpa"), ==,
                     moves);
    smmu = host_query(g, 0);
    g_assert_false(qdict_haskey(stream_of(smmu, "dev0"), "vdevice-stream-id"));
    qobject_unref(smmu);

    cd = host_one_page_cd(g, 1, host_new_page(g, 1));
    host_set_ste(g, 0, STE_S1(cd));
    g_assert_cmpuint(check_stream(g, "translate", "ste", "cfgi-ste"), ==,
                     moves + 1);
    smmu = host_query(g, 0);
    g_assert_cmphex(qdict_get_int(stream_of(smmu, "dev0"),
                                  "vdevice-stream-id"), ==, host_sid(g, 0));
    qobject_unref(smmu);
    host_set_ste(g, 0, STE_BYPASS);
    check_stream(g, "bypass", "ste", "cfgi-ste");
    host_set_ste(g, 0, STE_ABORT);
    check_stream(g, "abort", "ste", "cfgi-ste");
    host_set_ste(g, 0, STE_CONFIG(6));
    check_stream(g, "abort", "ste-illegal", "cfgi-ste");
    smmu_disable(g, 0);
    smmu_gbpa(g, 0, false);
    check_stream(g, "bypass", "disabled", "gbpa");

    /* Its new StreamID has an STE of its own */
    host_enable(g, 0);
    host_set_ste(g, 0, STE_BYPASS);
    bus = g->dev[0].bus;
    host_set_bus(g, 0, bus + 7);
    smmu_sync_ok(g, 0);
    check_stream(g, "abort", "ste-invalid", "renumbered");
    host_set_bus(g, 0, bus);
    smmu_sync_ok(g, 0);
    check_stream(g, "bypass", "ste", "renumbered");

    qtest_system_reset(g->qts);
    host_setup_pci(g);
    smmu = host_query(g, 0);
    check_str(stream_of(smmu, "dev0"), "attached", "bypass");
    check_str(stream_of(smmu, "dev0"), "cause", "disabled");
    qobject_unref(smmu);
    host_guest_unplug(g, 0);
    smmu = host_query(g, 0);
    g_assert_true(qlist_empty(qdict_get_qlist(accel_of(smmu), "streams")));
    g_assert_false(qdict_haskey(accel_of(smmu), "host"));
    qobject_unref(smmu);
    host_finish(g);
}

/* A Stream Table that ends before the StreamID, and one that is nowhere */
static void test_table(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(NULL, NULL);
    host_enable(g, 0);
    check_stream(g, "abort", "ste-invalid", "smmuen");
    smmu_disable(g, 0);
    check_stream(g, "bypass", "disabled", "smmuen");
    g->smmu[0].strtab_cfg = 1;
    smmu_enable(g, 0);
    check_stream(g, "abort", "ste-absent", "smmuen");
    smmu_disable(g, 0);
    g->smmu[0].strtab_cfg = HOST_SID_BITS;
    g->smmu[0].strtab = 0x4000000000000;
    smmu_enable(g, 0);
    check_stream(g, "abort", "ste-unreadable", "smmuen");
    host_finish(g);
}

/*
 * Queues
 */

static void check_queue(HostGuest *g, const char *name, bool enabled,
                        uint64_t base, unsigned entries, unsigned used,
                        unsigned prod, unsigned cons)
{
    QDict *smmu = host_query(g, 0);
    const QDict *q = host_find(smmu, "queues", "name", name);

    g_assert_nonnull(q);
    g_assert_cmpint(qdict_get_bool(q, "enabled"), ==, enabled);
    g_assert_cmphex(qdict_get_int(q, "base"), ==, base);
    g_assert_cmpuint(qdict_get_int(q, "entries"), ==, entries);
    g_assert_cmpuint(qdict_get_int(q, "used"), ==, used);
    g_assert_cmphex(qdict_get_int(q, "prod"), ==, prod);
    g_assert_cmphex(qdict_get_int(q, "cons"), ==, cons);
    check_str(q, "owner", "qemu");
    qobject_unref(smmu);
}

static void check_cmdq_error(HostGuest *g, unsigned error)
{
    QDict *smmu = host_query(g, 0);

    g_assert_cmpuint(qdict_get_int(host_find(smmu, "queues", "name", "cmdq"),
                                   "error"), ==, error);
    qobject_unref(smmu);
}

static void test_queues(void)
{
    HostGuest *g;
    HostVsmmu *s;

    if (host_skipped()) {
        return;
    }
    g = start(NULL, ",cmdqv=on");
    s = &g->smmu[0];
    check_queue(g, "cmdq", false, 0, 1, 0, 0, 0);
    check_queue(g, "vcmdq0", false, 0, 1, 0, 0, 0);
    check_queue(g, "vcmdq1", false, 0, 1, 0, 0, 0);
    smmu_enable(g, 0);
    smmu_cmd(g, 0, CMD_TLBI_NSNH_ALL);
    smmu_sync_ok(g, 0);
    check_queue(g, "cmdq", true, s->cmdq, 1 << HOST_CMDQ_LOG2, 0, 2, 2);
    check_queue(g, "eventq", true, s->eventq, 1 << HOST_EVENTQ_LOG2, 0, 0, 0);
    check_cmdq_error(g, SMMU_CERROR_NONE);

    /* An event that the guest has not read, and commands after an error */
    host_set_ste(g, 0, STE_CONFIG(6));
    check_queue(g, "eventq", true, s->eventq, 1 << HOST_EVENTQ_LOG2, 1, 1, 0);
    smmu_cmd(g, 0, HOST_CMD(0xff, 0));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
    check_queue(g, "cmdq", true, s->cmdq, 1 << HOST_CMDQ_LOG2, 2, 6,
                4 | SMMU_CERROR_ILL << 24);
    check_cmdq_error(g, SMMU_CERROR_ILL);
    human_says(g, ", PROD 0x6, CONS 0x1000004, error 1\n  eventq: enabled, 1 "
               "of 128 used, at 0x");
    human_says(g, "  vcmdq0: disabled, 0 of 1 used, at 0x0, PROD 0x0, CONS 0x0"
               "\n");
    smmu_ack(g, 0);
    host_finish(g);
}

/*
 * Capabilities
 */

typedef struct Case {
    const char *name;
    const char *host, *smmu_args;
    bool no_device;
    struct {
        const char *field, *asked;
        int host, guest;
        const char *reason;
    } cap[4];
} Case;

static const Case cases[] = {
    { "auto", "ril=1\noas=5\nssidsize=12", NULL, false, {
        { "IDR3.RIL", "auto", 1, 1, "host" },
        { "IDR5.OAS", "auto", 48, 48, "host" },
        { "IDR1.SSIDSIZE", "auto", 12, 12, "host" },
        { "IDR0.ATS", "auto", -1, 0, "host" },
    } },
    { "less", "ril=0\noas=2\ngran16k=0", NULL, false, {
        { "IDR3.RIL", "auto", 0, 0, "host" },
        { "IDR5.OAS", "auto", 40, 40, "host" },
        { "IDR5.GRAN16K", NULL, 0, 0, "host" },
        { "IDR5.GRAN4K", NULL, 1, 1, "host" },
    } },
    { "property", "ril=1\noas=5\nssidsize=12",
      ",ril=off,oas=44,ssidsize=4,ats=off", false, {
        { "IDR3.RIL", "off", 1, 0, "property" },
        { "IDR5.OAS", "44", 48, 44, "property" },
        { "IDR1.SSIDSIZE", "4", 12, 4, "property" },
        { "IDR0.ATS", "off", -1, 0, "property" },
    } },
    { "just-enough", "ril=1\noas=4\nssidsize=4",
      ",ril=on,oas=44,ssidsize=4,ats=off", false, {
        { "IDR3.RIL", "on", 1, 1, "property" },
        { "IDR5.OAS", "44", 44, 44, "property" },
        { "IDR1.SSIDSIZE", "4", 4, 4, "property" },
        { "IDR0.ATS", "off", -1, 0, "property" },
    } },
    { "baseline", NULL, ",oas=48", true, {
        { "IDR3.RIL", "auto", -1, 0, "baseline" },
        { "IDR5.OAS", "48", -1, 48, "property" },
        { "IDR5.GRAN64K", NULL, -1, 1, "baseline" },
        { "IDR0.ATS", "auto", -1, 0, "baseline" },
    } },
};

static void test_capabilities(const void *opaque)
{
    const Case *c = opaque;
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = c->host,
        .smmu_args = c->smmu_args, .dev[0].hotplug = c->no_device,
    };
    const QDict *accel;
    HostGuest *g;
    QDict *smmu;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_allow(g, "(SVA)");
    smmu = host_query(g, 0);
    accel = accel_of(smmu);
    g_assert_true(qdict_get_bool(accel, "fixed"));
    g_assert_cmpint(qdict_haskey(accel, "host"), ==, !c->no_device);
    for (unsigned i = 0; i < ARRAY_SIZE(c->cap); i++) {
        const QDict *cap = host_find(accel, "capabilities", "name",
                                c->cap[i].field);

        g_assert_nonnull(cap);
        check_str(cap, "asked", c->cap[i].asked);
        g_assert_cmpint(qdict_haskey(cap, "property"), ==, !!c->cap[i].asked);
        g_assert_cmpint(qdict_get_try_int(cap, "host", -1), ==, c->cap[i].host);
        g_assert_cmpint(qdict_get_int(cap, "guest"), ==, c->cap[i].guest);
        check_str(cap, "reason", c->cap[i].reason);
    }
    for (unsigned i = 0; i < 6; i++) {
        g_assert_cmphex(idr(smmu, i), ==, smmu_read(g, 0, SMMU_IDR0 + 4 * i));
    }
    qobject_unref(smmu);
    host_finish(g);
}

/* Two SMMUs on one physical SMMU, with and without a stage 2 of their own */
static const char *ids_of(const QDict *host, char *text, size_t size)
{
    snprintf(text, size, "stage 2 HWPT %" PRId64 ", vIOMMU %" PRId64 ",",
             qdict_get_int(host, "stage2"), qdict_get_int(host, "viommu"));
    return text;
}

static void test_share(void)
{
    for (int share = 0; share < 2; share++) {
        const HostGuestConfig config = {
            .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 2,
            .dev[1].vsmmu = 1,
            .smmu_args = share ? ",share-stage2=on" : NULL,
        };
        QDict *host[2], *smmu[2];
        char text[64];
        HostGuest *g;

        if (host_skipped()) {
            return;
        }
        g = host_guest_new(&config);
        for (int i = 0; i < 2; i++) {
            QList *with;

            smmu[i] = host_query(g, i);
            host[i] = qdict_get_qdict(accel_of(smmu[i]), "host");
            check_str(host[i], "iommufd", "iommufd0");
            with = qdict_get_qlist(host[i], "shares-stage2-with");
            g_assert_cmpuint(qlist_size(with), ==, share);
            if (share) {
                QString *path = qobject_to(QString, qlist_peek(with));

                g_assert_cmpstr(qstring_get_str(path), ==,
                                i ? "/machine/peripheral/s0" :
                                    "/machine/peripheral/s1");
                human_says(g, i ? "\n  shares its stage 2 with "
                                  "/machine/peripheral/s0\n" :
                                  "\n  shares its stage 2 with "
                                  "/machine/peripheral/s1\n");
            }
            human_says(g, ids_of(host[i], text, sizeof(text)));
        }
        g_assert_cmpint(qdict_get_int(host[0], "stage2") ==
                        qdict_get_int(host[1], "stage2"), ==, share);
        g_assert_cmpint(qdict_get_int(host[0], "viommu"), !=,
                        qdict_get_int(host[1], "viommu"));
        qobject_unref(smmu[0]);
        qobject_unref(smmu[1]);
        host_finish(g);
    }
}

/* An emulated SMMU beside it is none of those */
static void test_beside(void)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .smmu_args = ",share-stage2=on",
        .args = "-device pxb-pcie,id=e,bus_nr=200 "
                "-device arm-smmuv3,id=e0,primary-bus=e",
    };
    QDict *smmu, *rsp;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    smmu = host_query(g, 0);
    g_assert_true(qlist_empty(qdict_get_qlist(
        qdict_get_qdict(accel_of(smmu), "host"), "shares-stage2-with")));
    qobject_unref(smmu);
    rsp = qtest_qmp(g->qts, "{'execute': 'query-smmuv3'}");
    smmu = host_find(rsp, "return", "id", "e0");
    g_assert_nonnull(smmu);
    g_assert_false(qdict_haskey(smmu, "accel"));
    qobject_unref(rsp);
    host_finish(g);
}

/* What the host is, and not what the guest is given of it */
static void test_host(void)
{
    static const struct {
        const char *host, *smmu_args;
        unsigned address_bits;
        bool ril, repeats;
    } rows[] = {
        { "profile=grace", ",ril=off", 48, true, false },
        { "profile=noril", NULL, 48, false, false },
        { "profile=tegra264", NULL, 48, true, true },
        { "profile=oas32", NULL, 32, true, false },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        const QDict *host;
        HostGuest *g;
        QDict *smmu;

        if (host_skipped()) {
            return;
        }
        g = start(rows[i].host, rows[i].smmu_args);
        host_allow(g, "(SVA)");
        smmu = host_query(g, 0);
        host = qdict_get_qdict(accel_of(smmu), "host");
        g_assert_cmpuint(qdict_get_int(host, "address-bits"), ==,
                         rows[i].address_bits);
        g_assert_cmpint(idr(host, 3) >> 10 & 1, ==, rows[i].ril);
        g_assert_cmpint(qdict_get_bool(host, "repeats-invalidations"), ==,
                        rows[i].repeats);
        g_assert_false(qdict_get_bool(host, "slow"));
        g_assert_false(qdict_get_bool(host, "stale"));
        g_assert_cmpuint(qlist_size(qdict_get_qlist(host, "idr")), ==, 6);
        human_says(g, rows[i].repeats ? " bits, repeats invalidations\n" :
                                        " bits\n");
        qobject_unref(smmu);
        host_finish(g);
    }
}

/* ATS of the device, and whether the guest has enabled it */
static void test_ats(void)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2,
        .dev[0].keys = "ats=on",
    };
    static const struct {
        uint64_t word1;
        bool translates, enabled;
    } steps[] = {
        { 0, true, false }, { 1ull << 28, true, true },
        { 1ull << 28, false, false }, { 1ull << 28, true, true },
    };
    uint64_t cd;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    cd = host_one_page_cd(g, 1, host_new_page(g, 1));
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        QDict *smmu;

        host_set_ste(g, 0, 0);
        smmu_ste(g, 0, host_sid(g, 0))[1] = cpu_to_le64(steps[i].word1);
        host_set_ste(g, 0, steps[i].translates ? STE_S1(cd) : STE_ABORT);
        smmu = host_query(g, 0);
        g_assert_true(qdict_get_bool(stream_of(smmu, "dev0"), "ats"));
        g_assert_cmpint(qdict_get_bool(stream_of(smmu, "dev0"), "ats-enabled"),
                        ==, steps[i].enabled);
        g_assert_false(qdict_get_bool(stream_of(smmu, "dev1"), "ats"));
        g_assert_false(qdict_get_bool(stream_of(smmu, "dev1"), "ats-enabled"));
        human_says(g, steps[i].enabled ? " moves, ATS on\n" :
                                         " moves, ATS off\n");
        human_says(g, " dev1: abort (cause ste-invalid, edge smmuen), 2 moves"
                   "\n");
        qobject_unref(smmu);
    }
    host_finish(g);
}

/*
 * Counters
 */

static uint64_t counter(const QDict *stats, const char *list, const char *name)
{
    const QDict *c = host_find(stats, list, "name", name);

    return c ? qdict_get_int(c, "count") : 0;
}

/* Of the bin of values below @below, 0 for the last one */
static uint64_t bin(const QDict *stats, const char *list, uint64_t below)
{
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(stats, list), e) {
        const QDict *d = qobject_to(QDict, qlist_entry_obj(e));

        if (qdict_get_try_int(d, "below", 0) == below) {
            return qdict_get_int(d, "count");
        }
    }
    return 0;
}

static uint64_t sum(const QDict *stats, const char *list)
{
    const QListEntry *e;
    uint64_t all = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(stats, list), e) {
        all += qdict_get_int(qobject_to(QDict, qlist_entry_obj(e)), "count");
    }
    return all;
}

#define CHECK_ADDED(after, before, n) \
    g_assert_cmpuint((after) - (before), ==, n)

/* Ten TLBIs in a call, and five unmaps of a page each */
static void test_commands(void)
{
    const QDict *a, *b;
    QDict *before, *after;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_translating("ril=0", NULL);
    before = host_query(g, 0);
    for (int i = 0; i < 10; i++) {
        smmu_cmd(g, 0, CMD_TLBI_NH_VA(1, HOST_VA + i * 0x1000, 1));
    }
    smmu_sync_ok(g, 0);
    for (int i = 0; i < 5; i++) {
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1 + i));
        smmu_sync_ok(g, 0);
    }
    after = host_query(g, 0);
    a = stats_of(after);
    b = stats_of(before);
    CHECK_ADDED(counter(a, "commands", "TLBI_NH_VA"),
                counter(b, "commands", "TLBI_NH_VA"), 10);
    CHECK_ADDED(counter(a, "commands", "TLBI_NH_ASID"),
                counter(b, "commands", "TLBI_NH_ASID"), 5);
    CHECK_ADDED(counter(a, "commands", "SYNC"), counter(b, "commands", "SYNC"),
                6);
    CHECK_ADDED(counter(a, "register-writes", "CMDQ_PROD"),
                counter(b, "register-writes", "CMDQ_PROD"), 6);
    CHECK_ADDED(sum(a, "register-writes"), sum(b, "register-writes"), 6);
    CHECK_ADDED(sum(a, "drains"), sum(b, "drains"), 6);
    CHECK_ADDED(bin(a, "host-calls", 16), bin(b, "host-calls", 16), 1);
    CHECK_ADDED(bin(a, "host-calls", 2), bin(b, "host-calls", 2), 5);
    CHECK_ADDED(sum(a, "host-calls"), sum(b, "host-calls"), 6);
    g_assert_cmpuint(qdict_get_int(a, "host-call-errors"), ==, 0);
    g_assert_cmpuint(qdict_get_int(a, "retries"), ==, 0);
    g_assert_cmpuint(qdict_get_int(a, "jobs"), ==, 0);
    qobject_unref(before);
    qobject_unref(after);
    host_finish(g);
}

/* A host that is slow once, and a thread that calls it from then on */
static void test_slow(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_translating(NULL, NULL);
    for (unsigned jobs = 0; jobs < 3; jobs++) {
        QDict *smmu;

        if (!jobs) {
            fail(g, INVALIDATE "~150000");
        }
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        smmu_sync_ok(g, 0);
        smmu = host_query(g, 0);
        g_assert_cmpuint(qdict_get_int(stats_of(smmu), "jobs"), ==, jobs);
        g_assert_true(qdict_get_bool(qdict_get_qdict(accel_of(smmu), "host"),
                                     "slow"));
        human_says(g, " bits, slow\n");
        qobject_unref(smmu);
    }
    host_finish(g);
}

/* Reads exit where the guest may not read memory, and are counted there */
static void test_reads(void)
{
    for (int direct = 0; direct < 2; direct++) {
        const QDict *a, *b;
        QDict *before, *after;
        HostGuest *g;

        if (host_skipped()) {
            return;
        }
        g = start(NULL, direct ? NULL : ",x-direct-registers=off");
        before = host_query(g, 0);
        smmu_read(g, 0, SMMU_CMDQ_CONS);
        smmu_read(g, 0, SMMU_EVENTQ_PROD);
        smmu_read(g, 0, SMMU_CR0ACK);
        smmu_read(g, 0, SMMU_IDR0);
        after = host_query(g, 0);
        a = stats_of(after);
        b = stats_of(before);
        CHECK_ADDED(counter(a, "register-reads", "CMDQ_CONS"),
                    counter(b, "register-reads", "CMDQ_CONS"), !direct);
        CHECK_ADDED(counter(a, "register-reads", "EVENTQ_PROD"),
                    counter(b, "register-reads", "EVENTQ_PROD"), !direct);
        CHECK_ADDED(counter(a, "register-reads", "other"),
                    counter(b, "register-reads", "other"), direct ? 0 : 2);
        if (!direct) {
            human_says(g, "\n  register reads that exit: CMDQ_CONS 1, "
                       "EVENTQ_PROD 1, other ");
        }
        qobject_unref(before);
        qobject_unref(after);
        host_finish(g);
    }
}

/* The same of the registers of VCMDQs, and writes of them */
static void test_cmdqv_exits(void)
{
    for (int direct = 0; direct < 2; direct++) {
        const QDict *a, *b;
        QDict *before, *after;
        HostGuest *g;

        if (host_skipped()) {
            return;
        }
        g = start(NULL, direct ? ",cmdqv=on,x-cmdqv-backend=software" :
                  ",cmdqv=on,x-cmdqv-backend=software,x-direct-registers=off");
        before = host_query(g, 0);
        cmdqv_get(g, GLOBAL + CONS);
        cmdqv_get(g, LOGICAL + CONS);
        cmdqv_get(g, GLOBAL + QSTATUS);
        cmdqv_get(g, CONFIG);
        cmdqv_set(g, GLOBAL + PROD, 0);
        cmdqv_set(g, LOGICAL + PROD, 0);
        cmdqv_set(g, CONFIG, 0);
        after = host_query(g, 0);
        a = stats_of(after);
        b = stats_of(before);
        CHECK_ADDED(counter(a, "register-reads", "VCMDQ_CONS"),
                    counter(b, "register-reads", "VCMDQ_CONS"),
                    direct ? 0 : 2);
        CHECK_ADDED(counter(a, "register-reads", "CMDQV other"),
                    counter(b, "register-reads", "CMDQV other"),
                    direct ? 1 : 2);
        CHECK_ADDED(counter(a, "register-writes", "VCMDQ_PROD"),
                    counter(b, "register-writes", "VCMDQ_PROD"), 2);
        CHECK_ADDED(counter(a, "register-writes", "CMDQV other"),
                    counter(b, "register-writes", "CMDQV other"), 1);
        qobject_unref(before);
        qobject_unref(after);
        host_finish(g);
    }
}

/*
 * Events of QMP
 */

/* Wait for the event; returns its data, to be freed by the caller */
static QDict *wait_for_event(HostGuest *g, const char *name)
{
    QDict *event = host_wait_for_event(g, name);
    QDict *data = qobject_ref(qdict_get_qdict(event, "data"));

    check_str(data, "qom-path", "/machine/peripheral/s0");
    qobject_unref(event);
    return data;
}

static void check_stream_error(HostGuest *g, const char *error)
{
    QDict *data = wait_for_event(g, "SMMUV3_STREAM_ERROR");

    check_str(data, "device", "/machine/peripheral/dev0");
    g_assert_cmphex(qdict_get_int(data, "stream-id"), ==, host_sid(g, 0));
    g_assert_nonnull(strstr(qdict_get_str(data, "error"), error));
    qobject_unref(data);
}

/* @overflow: the guest reads its queue too slowly; else nobody could know */
static void check_events_lost(HostGuest *g, bool overflow)
{
    QDict *data = wait_for_event(g, "SMMUV3_EVENTS_LOST");

    g_assert_cmpint(qdict_get_bool(data, "overflow"), ==, overflow);
    qobject_unref(data);
}

/* The host refuses to move a stream; then it does not */
static void test_stream_error(void)
{
    const QDict *stream;
    HostGuest *g;
    QDict *smmu;

    if (host_skipped()) {
        return;
    }
    g = start(NULL, NULL);
    host_enable(g, 0);
    host_expect(g, SAID_CANNOT_MOVE);
    fail(g, ATTACH ":1=EIO");
    host_set_ste(g, 0, STE_BYPASS);
    check_stream_error(g, "to bypass");
    smmu = host_query(g, 0);
    stream = stream_of(smmu, "dev0");
    check_str(stream, "attached", "abort");
    check_str(stream, "wanted", "bypass");
    g_assert_true(qdict_get_bool(stream, "pending"));
    g_assert_nonnull(strstr(qdict_get_str(stream, "last-error"),
                            strerror(EIO)));
    human_says(g, " dev0: abort (cause ste, edge cfgi-ste), wanted: bypass, 3 "
               "moves, pending\n    last error: ");
    qobject_unref(smmu);

    /* It refuses the abort too */
    fail(g, "clear");
    host_set_ste(g, 0, STE_BYPASS);
    fail(g, ATTACH ":1+*=EIO");
    host_set_ste(g, 0, STE_ABORT);
    smmu = host_query(g, 0);
    stream = stream_of(smmu, "dev0");
    check_str(stream, "attached", "blocked");
    check_str(stream, "wanted", "abort");
    qobject_unref(smmu);

    fail(g, "clear");
    host_set_ste(g, 0, STE_BYPASS);
    check_stream(g, "bypass", "ste", "cfgi-ste");
    smmu = host_query(g, 0);
    g_assert_true(qdict_haskey(stream_of(smmu, "dev0"), "last-error"));
    qobject_unref(smmu);

    /* The host knows it by a StreamID that the guest has given up */
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    qobject_unref(host_control(g, "advance 11000000"));
    fail(g, ATTACH ":1+*=EIO");
    host_set_bus(g, 0, g->dev[0].bus + 7);
    smmu_sync_ok(g, 0);
    check_stream_error(g, "to abort");
    /* A command with the new one is legal, and names the old one to the host */
    smmu_cmd(g, 0, CMD_CFGI_CD_ALL(host_sid(g, 0)));
    smmu_sync_ok(g, 0);
    fail(g, "clear");
    host_finish(g);
}

/* One failure is one event, however long it lasts; the next one is another */
static void test_one_error(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(NULL, NULL);
    host_enable(g, 0);
    for (unsigned n = 1; n <= 2; n++) {
        fail(g, ATTACH ":1+*=EIO");
        for (unsigned i = 0; i < 3; i++) {
            host_set_ste(g, 0, STE_BYPASS);
            qobject_unref(host_control(g, "advance 11000000"));
        }
        check_stream_error(g, "to bypass");
        qtest_qmp_assert_success(g->qts, "{'execute': 'query-status'}");
        g_assert_null(qtest_qmp_event_ref(g->qts, "SMMUV3_STREAM_ERROR"));
        g_assert_cmpuint(host_said(g, SAID_CANNOT_MOVE), ==, n);
        fail(g, "clear");
        host_set_ste(g, 0, STE_BYPASS);
        check_stream(g, "bypass", "ste", "cfgi-ste");
        host_set_ste(g, 0, STE_ABORT);
    }
    host_finish(g);
}

/* It is busy, and QEMU tries again by itself */
static void test_retries(void)
{
    HostGuest *g;
    QDict *smmu;

    if (host_skipped()) {
        return;
    }
    g = start(NULL, NULL);
    host_enable(g, 0);
    fail(g, ATTACH ":1=EBUSY");
    host_set_ste(g, 0, STE_BYPASS);
    for (int i = 0; ; i++) {
        bool pending;

        smmu = host_query(g, 0);
        pending = qdict_get_bool(stream_of(smmu, "dev0"), "pending");
        if (!pending) {
            break;
        }
        qobject_unref(smmu);
        g_assert_cmpint(i, <, 10000);
        g_usleep(1000);
    }
    g_assert_cmpuint(qdict_get_int(stats_of(smmu), "retries"), ==, 1);
    human_says(g, ", jobs 0, retries 1\n");
    qobject_unref(smmu);
    check_stream(g, "bypass", "ste", "retry");
    host_finish(g);
}

/* The host does not carry out a TLBI, nor an invalidation of everything */
static void test_invalidations(void)
{
    const QDict *stream;
    HostGuest *g;
    QDict *smmu;

    if (host_skipped()) {
        return;
    }
    g = start_translating(NULL, NULL);
    host_expect(g, SAID_TAKES_NONE);
    host_allow(g, SAID_CANNOT_MOVE);
    fail(g, INVALIDATE ":1+*=ENOMEM");
    smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ABT);
    qobject_unref(wait_for_event(g, "SMMUV3_INVALIDATIONS_LOST"));
    smmu = host_query(g, 0);
    stream = stream_of(smmu, "dev0");
    check_str(stream, "attached", "abort");
    check_str(stream, "cause", "recovery");
    check_str(stream, "edge", "recovery");
    g_assert_true(qdict_get_bool(qdict_get_qdict(accel_of(smmu), "host"),
                                 "stale"));
    human_says(g, " bits, has lost invalidations\n");
    g_assert_cmpuint(qdict_get_int(stats_of(smmu), "host-call-errors"), >=, 2);
    g_assert_cmpuint(qdict_get_int(stats_of(smmu), "invalidated-all"), >=, 1);
    qobject_unref(smmu);

    fail(g, "clear");
    smmu_ack(g, 0);
    host_set_ste(g, 0, STE_BYPASS);
    check_stream(g, "bypass", "ste", "cfgi-ste");
    host_finish(g);
}

static void raise_events(HostGuest *g, unsigned n)
{
    qobject_unref(host_control(g, "event dma0 0x%x 0x0 0x0 0x0 %u",
                               F_TRANSLATION, n));
}

static void wait_for_source(HostGuest *g, const char *want)
{
    for (int i = 0; ; i++) {
        QDict *smmu = host_query(g, 0);
        bool done = !g_strcmp0(qdict_get_str(accel_of(smmu), "event-source"),
                               want);

        qobject_unref(smmu);
        if (done) {
            return;
        }
        g_assert_cmpint(i, <, 1000);
        g_usleep(1000);
    }
}

/* The guest's event queue is full, and QEMU has one event more */
static void test_events(void)
{
    const unsigned slots = 1 << HOST_EVENTQ_LOG2;
    HostGuest *g;
    QDict *smmu;

    if (host_skipped()) {
        return;
    }
    g = start(NULL, NULL);
    wait_for_source(g, "closed");
    host_enable(g, 0);
    wait_for_source(g, "open");
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    raise_events(g, slots);
    wait_for_source(g, "paused");
    host_set_ste(g, 0, STE_CONFIG(6));
    check_events_lost(g, true);
    smmu = host_query(g, 0);
    g_assert_cmpuint(counter(stats_of(smmu), "events", "F_TRANSLATION"), ==,
                     slots);
    g_assert_cmpuint(qdict_get_int(stats_of(smmu), "overflows"), ==, 1);
    human_says(g, "\n  records: F_TRANSLATION 128\n");
    g_assert_cmpuint(qdict_get_int(host_find(smmu, "queues", "name", "eventq"),
                                   "used"), ==, slots);
    qobject_unref(smmu);

    /* One more in ten seconds would be one too many */
    g_assert_true(smmu_event_overflow(g, 0));
    host_set_ste(g, 0, STE_CONFIG(6));
    smmu = host_query(g, 0);
    g_assert_cmpuint(qdict_get_int(stats_of(smmu), "overflows"), ==, 2);
    qobject_unref(smmu);
    g_assert_null(qtest_qmp_event_ref(g->qts, "SMMUV3_EVENTS_LOST"));
    qobject_unref(host_control(g, "advance 11000000"));
    g_assert_true(smmu_event_overflow(g, 0));
    host_set_ste(g, 0, STE_CONFIG(6));
    check_events_lost(g, true);
    host_finish(g);
}

/* EVENTQEN off and on again */
static void toggle_events(HostGuest *g)
{
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 3);
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
}

/* An event queue that the host refuses, and one that it breaks */
static void test_no_events(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(NULL, NULL);
    host_expect(g, SAID_NO_EVENTS);
    fail(g, "IOMMU_VEVENTQ_ALLOC:1+*=ENOSPC");
    host_enable(g, 0);
    wait_for_source(g, "refused");
    check_events_lost(g, false);
    /* It is told once, and once more if it was otherwise in between */
    toggle_events(g);
    wait_for_source(g, "refused");
    g_assert_cmpuint(host_said(g, SAID_NO_EVENTS), ==, 1);
    fail(g, "clear");
    toggle_events(g);
    wait_for_source(g, "open");
    qobject_unref(host_control(g, "advance 11000000"));
    fail(g, "IOMMU_VEVENTQ_ALLOC:1+*=ENOSPC");
    toggle_events(g);
    wait_for_source(g, "refused");
    check_events_lost(g, false);
    g_assert_cmpuint(host_said(g, SAID_NO_EVENTS), ==, 2);
    /* The host is not asked while it still frees the old one */
    fail(g, "clear");
    toggle_events(g);
    wait_for_source(g, "open");
    fail(g, "IOMMU_DESTROY:1+*=EBUSY");
    toggle_events(g);
    wait_for_source(g, "closing");
    fail(g, "clear");
    wait_for_source(g, "open");
    host_finish(g);

    g = start(NULL, NULL);
    host_enable(g, 0);
    wait_for_source(g, "open");
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    host_expect(g, SAID_NO_EVENTS);
    fail(g, "veventq.read:1=EIO");
    raise_events(g, 1);
    wait_for_source(g, "failed");
    check_events_lost(g, false);
    fail(g, "clear");
    toggle_events(g);
    wait_for_source(g, "open");
    host_finish(g);
}

/* The host has no room, while the machine is stopped and the guest has some */
static void test_host_loses_events(void)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .eventq_log2 = 13,
    };
    HostGuest *g;
    QDict *smmu;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    wait_for_source(g, "open");
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 1, host_new_page(g, 1))));
    qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    /* It keeps 4096 of them */
    raise_events(g, 5000);
    qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
    check_events_lost(g, false);
    smmu = host_query(g, 0);
    g_assert_cmpuint(qdict_get_int(stats_of(smmu), "events-lost"), ==, 1);
    g_assert_cmpuint(qdict_get_int(stats_of(smmu), "overflows"), ==, 0);
    human_says(g, "  event queue overflows 0, events lost 1, MSI faults 0\n");
    qobject_unref(smmu);
    host_finish(g);
}

/* A guest that has not mapped the host's MSI window */
static void test_msi_faults(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_translating(NULL, NULL);
    host_expect(g, "the guest gets no interrupts of it");
    host_enable_msix(g, 0, HOST_MSI_WINDOW + 0x40);
    for (unsigned n = 0; n <= 2; n++) {
        for (int i = 0; ; i++) {
            QDict *smmu = host_query(g, 0);
            unsigned seen = qdict_get_int(stats_of(smmu), "msi-faults");

            g_assert_cmpint(qdict_get_bool(stream_of(smmu, "dev0"),
                                           "msi-faults"), ==, seen > 0);
            qobject_unref(smmu);
            if (seen == n) {
                human_says(g, n ? " moves, MSIs fault\n" : " moves\n");
                break;
            }
            g_assert_cmpint(i, <, 10000);
            g_usleep(1000);
        }
        qobject_unref(host_control(g, "msix dma0 0"));
    }
    host_finish(g);
}

/*
 * For a person
 */

static void test_human(void)
{
    static const char *const want[] = {
        "arm-smmuv3 s0: accel=on, bus pcie.0, SMMUEN=1\n",
        "  cmdq: enabled, 0 of 256 used, at 0x",
        "  eventq: enabled, 0 of 128 used, at 0x",
        "  host: iommufd iommufd0, stage 2 HWPT ",
        ", addresses of 48 bits\n  host's IDR0 to IDR5: 0x",
        "  capabilities:\n    IDR0.ATS       0  by host, ats=auto\n",
        "    IDR3.RIL       0  by property, host has 1, ril=off\n",
        "    IDR5.GRAN64K   1  by host, host has 1\n",
        " dev0: translate (cause ste, edge cfgi-ste), 3 moves\n",
        "  host's events: open\n",
        "  commands: CFGI_STE 1, CFGI_STE_RANGE 1, TLBI_NSNH_ALL 1, SYNC 2\n",
        "  register writes that exit: CMDQ_PROD ",
        ", other ",
        "  calls to the host, by commands: <2: ",
        "  drains, by microseconds: <",
        "  host call errors 0, all invalidated 0, jobs 0, retries 0\n"
        "  event queue overflows 0, events lost 0, MSI faults 0\n",
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start_translating("ril=1", ",ril=off");
    for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
        human_says(g, want[i]);
    }
    host_finish(g);
}

/* An emulated SMMU, a machine's own and a user's; and no SMMU */
static void test_emulated(void)
{
    static const struct {
        const char *args, *id, *bus, *human;
    } machines[] = {
        { "-machine virt,iommu=smmuv3", NULL, "pcie.0", ": emulated, bus " },
        { "-machine virt -device arm-smmuv3,id=smmu,primary-bus=pcie.0", "smmu",
          "pcie.0", "arm-smmuv3 smmu: emulated, bus pcie.0, SMMUEN=0\r\n" },
        { "-machine virt", NULL, NULL, "No SMMUv3\r\n" },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(machines); i++) {
        QTestState *qts = qtest_initf("%s -cpu max -m 64 -nic none",
                                      machines[i].args);
        QDict *rsp = qtest_qmp(qts, "{'execute': 'query-smmuv3'}");
        g_autofree char *text = qtest_hmp(qts, "info smmuv3");
        QList *list = qdict_get_qlist(rsp, "return");
        QDict *smmu = qobject_to(QDict, qlist_peek(list));

        g_assert_cmpuint(qlist_size(list), ==, !!machines[i].bus);
        if (smmu) {
            check_str(smmu, "id", machines[i].id);
            check_str(smmu, "bus", machines[i].bus);
            g_assert_false(qdict_haskey(smmu, "accel"));
            g_assert_cmpuint(qlist_size(qdict_get_qlist(smmu, "queues")), ==,
                             2);
        }
        g_assert_nonnull(strstr(text, machines[i].human));
        qobject_unref(rsp);
        qtest_quit(qts);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3-query/stream", test_stream);
    qtest_add_func("/smmuv3-query/table", test_table);
    qtest_add_func("/smmuv3-query/queues", test_queues);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-query/%s",
                                                cases[i].name);

        qtest_add_data_func(path, &cases[i], test_capabilities);
    }
    qtest_add_func("/smmuv3-query/share", test_share);
    qtest_add_func("/smmuv3-query/beside", test_beside);
    qtest_add_func("/smmuv3-query/host", test_host);
    qtest_add_func("/smmuv3-query/ats", test_ats);
    qtest_add_func("/smmuv3-query/commands", test_commands);
    qtest_add_func("/smmuv3-query/slow", test_slow);
    qtest_add_func("/smmuv3-query/reads", test_reads);
    qtest_add_func("/smmuv3-query/stream-error", test_stream_error);
    qtest_add_func("/smmuv3-query/one-error", test_one_error);
    qtest_add_func("/smmuv3-query/cmdqv-exits", test_cmdqv_exits);
    qtest_add_func("/smmuv3-query/retries", test_retries);
    qtest_add_func("/smmuv3-query/invalidations", test_invalidations);
    qtest_add_func("/smmuv3-query/events", test_events);
    qtest_add_func("/smmuv3-query/no-events", test_no_events);
    qtest_add_func("/smmuv3-query/host-loses-events", test_host_loses_events);
    qtest_add_func("/smmuv3-query/msi-faults", test_msi_faults);
    qtest_add_func("/smmuv3-query/human", test_human);
    qtest_add_func("/smmuv3-query/emulated", test_emulated);
    return g_test_run();
}
