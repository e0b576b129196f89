/*
 * QTest of accel=on without a host: no kernel, no hardware, no preloaded model
 *
 * hw/misc/smmuv3-testdev.c takes the place of iommufd and VFIO. It keeps
 * iommufd's rules for objects and says where each device is attached, but moves
 * no data: tests that do DMA need tests/host-model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qobject/qdict.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

/* A device on the root bus, and one below a root port */
#define ROOT_DEVICE "-device smmuv3-testdev,id=dev0,iommufd=h0,addr=8.0 "
#define ROOT_SID    0x40
#define PORT_DEVICE "-device smmuv3-testdev,id=dev0,iommufd=h0,bus=rp0 "

#define CD          (HOST_RAM_BASE + 0x10000)   /* nobody reads it */
#define LINUX_CHUNK 63      /* commands that Linux takes at a time */
#define NO_OBJECTS  "viommu 0 vdevice 0 hwpt 0 veventq 0"

/* QEMU with an SMMU above pcie.0 and a root port there, whose bus is 1 */
static HostGuest *start(const char *args)
{
    g_autofree char *all = g_strdup_printf(
        "-bios %s -device smmuv3-test-host,id=h0 "
        "-device arm-smmuv3,id=s0,primary-bus=pcie.0,accel=on "
        "-device pcie-root-port,id=rp0,bus=pcie.0,addr=1.0,chassis=1 %s",
        smmuv3_firmware(), args);
    HostGuest *g = host_guest_emulated("QTEST_QEMU_BINARY", SMMUV3_MACHINE, all,
                                       VIRT_PLATFORM_BUS_BASE);

    g->config.n_devs = 1;
    g->dev[0].port_devfn = 1 << 3;
    host_setup_port(g, 0);
    return g;
}

static char *get(HostGuest *g, const char *id, const char *property)
{
    QDict *rsp = qtest_qmp(g->qts, "{'execute': 'qom-get', 'arguments': "
                           "{'path': %s, 'property': %s}}", id, property);
    char *value = g_strdup(qdict_get_str(rsp, "return"));

    qobject_unref(rsp);
    return value;
}

static void set(HostGuest *g, const char *property, const char *value)
{
    qtest_qmp_assert_success(g->qts, "{'execute': 'qom-set', 'arguments': "
                             "{'path': 'h0', 'property': %s, 'value': %s}}",
                             property, value);
}

/* Is the property @want, or does it begin with those words? */
static bool begins(const char *value, const char *want)
{
    size_t len = strlen(want);

    return !strncmp(value, want, len) && (!value[len] || value[len] == ' ');
}

static bool is(HostGuest *g, const char *id, const char *property,
               const char *want)
{
    g_autofree char *value = get(g, id, property);

    return begins(value, want);
}

static void expect(HostGuest *g, const char *id, const char *property,
                   const char *want)
{
    g_autofree char *value = get(g, id, property);

    if (!begins(value, want)) {
        g_autofree char *story = get(g, "h0", "story");

        g_error("%s of %s is '%s' and not '%s' after: %s", property, id, value,
                want, story);
    }
}

/* The same, within the time that a busy host may take */
static void comes_to(HostGuest *g, const char *id, const char *property,
                     const char *want)
{
    for (int n = 0; n < 10000 && !is(g, id, property, want); n++) {
        g_usleep(1000);
    }
    expect(g, id, property, want);
}

static void set_ste(HostGuest *g, uint32_t sid, uint64_t word0, HostCmd cmd)
{
    smmu_ste(g, 0, sid)[0] = word0;
    smmu_cmd(g, 0, cmd);
    smmu_sync_ok(g, 0);
}

/* The stream's STE, with its CFGI_STE */
static void configure(HostGuest *g, uint32_t sid, uint64_t word0)
{
    set_ste(g, sid, word0, CMD_CFGI_STE(sid));
}

/* What the device is attached to if the guest's STE has @word0 */
static const char *s1(uint64_t word0)
{
    static char text[32];

    snprintf(text, sizeof(text), "s1 %" PRIx64, word0);
    return text;
}

/*
 * As many devices as an SMMU takes.  A CFGI_ALL that moves none is a command
 * for the host for each.
 */
static void test_room(void)
{
    enum { ROOM = 251, AT_ROOT = 24 * 8, FIRST = 8 << 3, PORT = 2 };
    g_autoptr(GString) args = g_string_new(NULL);
    const char *desc;
    HostGuest *g;
    QDict *rsp;

    for (unsigned n = 0; n < ROOM; n++) {
        unsigned devfn = n < AT_ROOT ? FIRST + n : (n - AT_ROOT) % 8;
        unsigned port = n < AT_ROOT ? 0 : 1 + (n - AT_ROOT) / 8;

        if (port && !devfn) {
            g_string_append_printf(args, "-device pcie-root-port,id=p%u,"
                                   "bus=pcie.0,addr=%u.%u,chassis=%u,"
                                   "multifunction=on ", port, PORT, port - 1,
                                   1 + port);
        }
        g_string_append_printf(args, "-device smmuv3-testdev,id=t%u,iommufd=h0,"
                               "multifunction=on,addr=%x.%x,bus=%s%u ", n,
                               devfn >> 3, devfn & 7, port ? "p" : "pcie.",
                               port);
    }
    g = start(args->str);
    rsp = qtest_qmp(g->qts, "{'execute': 'device_add', 'arguments': "
                    "{'driver': 'smmuv3-testdev', 'id': 'more', 'bus': 'rp0', "
                    "'iommufd': 'h0'}}");
    desc = qdict_get_str(qdict_get_qdict(rsp, "error"), "desc");
    g_assert_nonnull(strstr(desc, "an SMMU has room for 251 devices; put this "
                            "one on a root complex with an arm-smmuv3 of its "
                            "own"));
    qobject_unref(rsp);

    host_enable(g, 0);
    /* Others have no StreamID of their own, as no bus has a number */
    for (unsigned n = 0; n < AT_ROOT; n++) {
        smmu_ste(g, 0, FIRST + n)[0] = STE_S1(CD);
    }
    for (unsigned n = 0; n < 2; n++) {
        smmu_cmd(g, 0, CMD_CFGI_ALL);
        smmu_sync_ok(g, 0);
        for (unsigned dev = 0; dev < AT_ROOT; dev++) {
            g_autofree char *id = g_strdup_printf("t%u", dev);

            expect(g, id, "attached", s1(STE_S1(CD)));
        }
    }
    host_guest_free(g);
}

/*
 * Each event at which a stream may move
 */
static void test_edges(void)
{
    HostGuest *g = start(ROOT_DEVICE);
    uint64_t *ste;

    expect(g, "dev0", "attached", "bypass");
    smmu_gbpa(g, 0, true);
    expect(g, "dev0", "attached", "abort");
    smmu_gbpa(g, 0, false);
    expect(g, "dev0", "attached", "bypass");

    host_enable(g, 0);
    expect(g, "dev0", "attached", "abort");
    ste = smmu_ste(g, 0, ROOT_SID);
    *ste = STE_S1(CD);
    expect(g, "dev0", "attached", "abort");
    configure(g, ROOT_SID, STE_S1(CD));
    expect(g, "dev0", "attached", s1(STE_S1(CD)));
    configure(g, ROOT_SID, STE_S1(CD + 64));
    expect(g, "dev0", "attached", s1(STE_S1(CD + 64)));
    set_ste(g, ROOT_SID, STE_BYPASS, CMD_CFGI_STE_RANGE(ROOT_SID, 0));
    expect(g, "dev0", "attached", "bypass");
    set_ste(g, ROOT_SID, STE_ABORT, CMD_CFGI_ALL);
    expect(g, "dev0", "attached", "abort");
    /* Not this one's */
    set_ste(g, ROOT_SID, STE_S1(CD), CMD_CFGI_STE(ROOT_SID + 1));
    expect(g, "dev0", "attached", "abort");
    set_ste(g, ROOT_SID, STE_S1(CD), CMD_CFGI_STE_RANGE(ROOT_SID + 2, 0));
    expect(g, "dev0", "attached", "abort");
    configure(g, ROOT_SID, STE_S1(CD));
    expect(g, "h0", "objects", "viommu 1 vdevice 1 hwpt 3 veventq 1");

    smmu_disable(g, 0);
    expect(g, "dev0", "attached", "bypass");
    smmu_enable(g, 0);
    expect(g, "dev0", "attached", s1(STE_S1(CD)));
    qtest_system_reset(g->qts);
    expect(g, "dev0", "attached", "bypass");
    expect(g, "h0", "objects", "viommu 1 vdevice 1 hwpt 2 veventq 0");
    host_guest_free(g);
}

/* A STE that is no STE aborts, and so does what the host refuses */
static void test_refused(void)
{
    static const char *const calls[] = { "vdevice", "hwpt", "attach" };
    HostGuest *g = start(ROOT_DEVICE);

    host_enable(g, 0);
    configure(g, ROOT_SID, STE_S1(CD) | 2 << 1);
    expect(g, "dev0", "attached", "abort");
    for (int i = 0; i < ARRAY_SIZE(calls); i++) {
        g_autofree char *rule = g_strdup_printf("%s 12 1", calls[i]);

        g_test_message("%s", rule);
        qtest_system_reset(g->qts);
        g->smmu[0].enabled = false;
        host_enable(g, 0);
        configure(g, ROOT_SID, STE_BYPASS);
        expect(g, "dev0", "attached", "bypass");
        set(g, "fail", rule);
        configure(g, ROOT_SID, STE_S1(CD));
        expect(g, "dev0", "attached", "abort");
        host_expect(g, SAID_CANNOT_MOVE);
        host_check_said(g);
        configure(g, ROOT_SID, STE_S1(CD));
        expect(g, "dev0", "attached", s1(STE_S1(CD)));
    }
    host_guest_free(g);
}

/* A busy host is asked again, and the guest does nothing for that */
static void test_retry(void)
{
    static const char *const rules[] = { "vdevice 17 3", "attach 16 5" };
    HostGuest *g = start(ROOT_DEVICE);

    host_enable(g, 0);
    for (int i = 0; i < ARRAY_SIZE(rules); i++) {
        configure(g, ROOT_SID, STE_BYPASS);
        set(g, "fail", rules[i]);
        configure(g, ROOT_SID, STE_S1(CD));
        g_assert_false(is(g, "dev0", "attached", "bypass"));
        g_assert_false(is(g, "dev0", "attached", "s1"));
        comes_to(g, "dev0", "attached", s1(STE_S1(CD)));
    }
    host_guest_free(g);
}

/* The port's bus gets another number, and the device another StreamID */
static void test_renumber(void)
{
    HostGuest *g = start(PORT_DEVICE);
    g_autofree char *story = NULL;

    host_enable(g, 0);
    configure(g, 0x100, STE_S1(CD));
    smmu_ste(g, 0, 0x700)[0] = STE_S1(CD + 64);
    expect(g, "dev0", "attached", s1(STE_S1(CD)));
    set(g, "story", "");
    host_set_bus(g, 0, 7);
    comes_to(g, "dev0", "attached", s1(STE_S1(CD + 64)));
    story = get(g, "h0", "story");
    g_assert_nonnull(strstr(story, "vdevice:700"));
    /* The old StreamID is nobody's */
    configure(g, 0x100, STE_BYPASS);
    expect(g, "dev0", "attached", s1(STE_S1(CD + 64)));
    configure(g, 0x700, STE_BYPASS);
    expect(g, "dev0", "attached", "bypass");
    host_guest_free(g);
}

/* Queue @n invalidations; returns what the host is to take of them */
static char *queue_invalidations(HostGuest *g, unsigned n)
{
    GString *want = g_string_new(NULL);

    for (unsigned i = 0; i < n; i++) {
        HostCmd cmd = i % 7 ? CMD_TLBI_NH_VA(i, (uint64_t)i << 12, i & 1)
                            : CMD_CFGI_CD(ROOT_SID, 0);

        smmu_cmd(g, 0, cmd);
        g_string_append_printf(want, "%s%" PRIx64 ":%" PRIx64, i ? " " : "",
                               cmd.word[0], cmd.word[1]);
    }
    return g_string_free(want, false);
}

/* Check that these commands took effect in this order, and no others */
static void expect_commands(HostGuest *g, const char *want)
{
    g_autofree char *value = get(g, "h0", "commands");

    g_assert_cmpstr(value, ==, want);
}

/* The calls that @n invalidations take */
static char *fewest_calls(unsigned n)
{
    GString *calls = g_string_new(NULL);

    for (; n > LINUX_CHUNK; n -= LINUX_CHUNK) {
        g_string_append_printf(calls, "invalidate:%u ", LINUX_CHUNK);
    }
    g_string_append_printf(calls, "invalidate:%u", n);
    return g_string_free(calls, false);
}

/* Commands reach the host in the guest's order, in as few calls as it takes */
static void test_drain(void)
{
    HostGuest *g = start(ROOT_DEVICE);
    g_autofree char *want = NULL;

    host_enable(g, 0);
    configure(g, ROOT_SID, STE_S1(CD));
    for (unsigned n = 1; n < 250; n += n) {
        g_autofree char *calls = fewest_calls(n);

        g_free(want);
        set(g, "story", "");
        want = queue_invalidations(g, n);
        smmu_sync_ok(g, 0);
        expect_commands(g, want);
        expect(g, "h0", "story", calls);
    }
    /* The guest alone decides what is illegal */
    smmu_cmd(g, 0, CMD_TLBI_NSNH_ALL);
    smmu_cmd(g, 0, HOST_CMD(0xff, 0));
    g_assert_cmpuint(smmu_sync(g, 0), ==, SMMU_CERROR_ILL);
    smmu_ack(g, 0);
    host_guest_free(g);
}

/* A thread makes the calls to a host that is slow, and QEMU goes on */
static void test_slow(void)
{
    HostGuest *g = start(ROOT_DEVICE);
    g_autofree char *want = NULL;

    host_enable(g, 0);
    configure(g, ROOT_SID, STE_S1(CD));
    set(g, "slow", "invalidate 100 3");
    smmu_cmd(g, 0, CMD_TLBI_NH_ALL);
    smmu_sync_ok(g, 0);
    set(g, "story", "");
    want = queue_invalidations(g, 100);
    smmu_kick(g, 0);
    g_assert_cmphex(smmu_read(g, 0, SMMU_CMDQ_CONS), !=, g->smmu[0].prod);
    qtest_qmp_assert_success(g->qts, "{'execute': 'query-status'}");
    smmu_sync_ok(g, 0);
    expect_commands(g, want);
    configure(g, ROOT_SID, STE_BYPASS);
    comes_to(g, "dev0", "attached", "bypass");
    host_guest_free(g);
}

static bool plug(HostGuest *g)
{
    QDict *rsp = qtest_qmp(g->qts, "{'execute': 'device_add', 'arguments': {"
                           "'driver': 'smmuv3-testdev', 'id': 'dev0', "
                           "'bus': 'rp0', 'iommufd': 'h0'}}");
    bool ok = !qdict_haskey(rsp, "error");

    if (!ok) {
        g_test_message("%s", qdict_get_str(qdict_get_qdict(rsp, "error"),
                                           "desc"));
    }
    qobject_unref(rsp);
    return ok;
}

/* Each call that plugging makes fails once: the device is refused, no more */
static void test_plug(void)
{
    static const char *const calls[] = {
        "nest", "info", "viommu", "hwpt", "attach",
    };
    HostGuest *g = start("");

    host_enable(g, 0);
    smmu_ste(g, 0, 0x100)[0] = STE_S1(CD);
    for (int i = 0; i < ARRAY_SIZE(calls); i++) {
        g_autofree char *rule = g_strdup_printf("%s 12 1", calls[i]);

        set(g, "fail", rule);
        g_assert_false(plug(g));
        expect(g, "h0", "objects", NO_OBJECTS);
        g_assert_true(plug(g));
        host_slot_power(g, 0, true);
        comes_to(g, "dev0", "attached", s1(STE_S1(CD)));
        host_guest_unplug(g, 0);
        comes_to(g, "h0", "objects", NO_OBJECTS);
    }
    host_guest_free(g);
}

/* @n events of different addresses come from the host */
static void put_events(HostGuest *g, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *words = g_strdup_printf(
            "%" PRIx64 " %x %x000 0",
            F_TRANSLATION | (uint64_t)ROOT_SID << 32, i, i);

        set(g, "event", words);
    }
}

/* The next @n events are those of put_events() */
static void expect_events(HostGuest *g, unsigned n)
{
    uint64_t event[4];

    for (unsigned i = 0; i < n; i++) {
        for (int t = 0; !smmu_event(g, 0, event); t++) {
            g_assert_cmpint(t, <, 10000);
            g_usleep(1000);
        }
        g_assert_cmphex(event[0], ==,
                        F_TRANSLATION | (uint64_t)ROOT_SID << 32);
        g_assert_cmphex(event[1], ==, i);
        g_assert_cmphex(event[2], ==, (uint64_t)i << 12);
    }
    g_assert_false(smmu_event(g, 0, event));
}

static void test_events(void)
{
    const unsigned many = 2 << HOST_EVENTQ_LOG2;
    HostGuest *g = start(ROOT_DEVICE);
    uint64_t event[4];

    host_enable(g, 0);
    configure(g, ROOT_SID, STE_S1(CD));
    put_events(g, 1);
    expect_events(g, 1);
    /* A full queue: the rest waits in the host, and is not lost */
    put_events(g, many);
    expect_events(g, many);
    g_assert_false(smmu_event_overflow(g, 0));
    /* What the host loses while there is room is no overflow */
    set(g, "event", "lost");
    put_events(g, 1);
    expect_events(g, 1);
    g_assert_false(smmu_event_overflow(g, 0));
    /* What it loses while the queue is full, the guest has lost */
    put_events(g, many / 2);
    set(g, "event", "lost");
    expect_events(g, many / 2);
    for (int t = 0; !smmu_event_overflow(g, 0); t++) {
        g_assert_cmpint(t, <, 10000);
        g_usleep(1000);
    }
    put_events(g, 1);
    expect_events(g, 1);
    /* Without EVENTQEN the host keeps none */
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_CMDQEN);
    comes_to(g, "h0", "objects", "viommu 1 vdevice 1 hwpt 3 veventq 0");
    g_assert_false(smmu_event(g, 0, event));
    host_guest_free(g);
}

/* Two SMMUs on one host: each has its own objects, and its own edges */
static void test_two(void)
{
    HostGuest *g = start(ROOT_DEVICE "-device pxb-pcie,id=pcie.1,bus=pcie.0,"
                         "bus_nr=64,addr=9.0 "
                         "-device arm-smmuv3,id=s1,primary-bus=pcie.1,accel=on "
                         "-device pcie-root-port,id=rp1,bus=pcie.1,chassis=2 "
                         "-device smmuv3-testdev,id=dev1,iommufd=h0,bus=rp1 ");

    g->config.n_vsmmus = 2;
    g->config.n_devs = 2;
    g->dev[1].port_bus = 64;
    host_setup_port(g, 1);
    g->smmu[1].base = VIRT_PLATFORM_BUS_BASE + 0x20000;
    expect(g, "h0", "objects", "viommu 2 vdevice 0 hwpt 4 veventq 0");
    host_enable(g, 0);
    expect(g, "dev0", "attached", "abort");
    expect(g, "dev1", "attached", "bypass");
    smmu_gbpa(g, 1, true);
    expect(g, "dev1", "attached", "abort");
    configure(g, ROOT_SID, STE_S1(CD));
    expect(g, "dev0", "attached", "s1");
    host_enable(g, 1);
    smmu_ste(g, 1, host_sid(g, 1))[0] = STE_BYPASS;
    smmu_cmd(g, 1, CMD_CFGI_ALL);
    smmu_sync_ok(g, 1);
    expect(g, "dev1", "attached", "bypass");
    expect(g, "dev0", "attached", "s1");
    host_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("smmuv3-testdev/edges", test_edges);
    qtest_add_func("smmuv3-testdev/room", test_room);
    qtest_add_func("smmuv3-testdev/refused", test_refused);
    qtest_add_func("smmuv3-testdev/retry", test_retry);
    qtest_add_func("smmuv3-testdev/renumber", test_renumber);
    qtest_add_func("smmuv3-testdev/drain", test_drain);
    qtest_add_func("smmuv3-testdev/slow", test_slow);
    qtest_add_func("smmuv3-testdev/plug", test_plug);
    qtest_add_func("smmuv3-testdev/events", test_events);
    qtest_add_func("smmuv3-testdev/two", test_two);
    return g_test_run();
}
