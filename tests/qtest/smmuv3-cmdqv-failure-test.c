/*
 * QTest of cmdqv=on: each call to a host with a CMDQV fails, with every errno
 *
 * As smmuv3-failure-test, with the calls that QEMU makes so that the hardware
 * has the guest's VCMDQs. A scenario (enable, plug, invalidate, a command that
 * is an error, reset, unplug) runs once to count them, and then once per call
 * and errno that Linux can return. If one of the CMDQV's own calls fails, QEMU
 * has the VCMDQs and the guest does not notice. Afterwards the hardware gets
 * them again, and nothing is left behind.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "smmuv3-cmdqv.h"

#define N_DEVS          2
#define ON              ",cmdqv=on"
#define HARDWARE        ",cmdqv=on,x-cmdqv-backend=hardware"
#define HOST            "cmdqv=1\n"

#define SAID_QEMU_HAS   "QEMU carries out the commands of VCMDQs"
#define SAID_NOT_FREED  "Failed to free id"
#define SAID_SLOW       "the host takes no invalidations: Connection timed out"

/*
 * Kinds of calls (tests/host-model/README.md), and what Linux 7.3 returns:
 * drivers/iommu/iommufd/{viommu,eventq,main,device}.c, tegra241-cmdqv.c
 */
typedef struct Kind {
    const char *name;
    const char *errnos[8];
    const char *said[4];        /* what QEMU must write about it */
    const char *counter;        /* of the calls, if not "call.NAME" */
    /* The guest may see faults, errors of its commands, or no device */
    bool disturbs;
    /* The host keeps an object that could not be freed until its fd closes */
    bool keeps_objects;
} Kind;

static const Kind kinds[] = {
    /* The CMDQV's own; ENOTTY and EOPNOTSUPP: an older kernel, or no CMDQV */
    { "IOMMU_GET_HW_INFO.cmdqv",
      { "EOPNOTSUPP", "ENOENT", "EFAULT", "ENOMEM" }, { SAID_QEMU_HAS } },
    { "IOMMU_VIOMMU_ALLOC.cmdqv",
      { "ENOSPC", "EOPNOTSUPP", "ENOMEM", "EINVAL", "ENOENT", "EFAULT",
        "ETIMEDOUT" }, { SAID_QEMU_HAS } },
    { "mmap", { "ENXIO", "ENOMEM", "EAGAIN", "EINVAL", "EPERM" },
      { "page 0 of a VINTF cannot be mapped" } },
    { "IOMMU_VEVENTQ_ALLOC.cmdqv",
      { "EEXIST", "EOPNOTSUPP", "ENOMEM", "EINVAL", "EMFILE", "ENFILE",
        "ENOENT" }, { SAID_QEMU_HAS } },
    { "IOMMU_HW_QUEUE_ALLOC",
      { "EFAULT", "EINVAL", "ENOMEM", "ENOENT", "EEXIST", "EIO",
        "EOPNOTSUPP" }, { "IOMMU_HW_QUEUE_ALLOC failed" } },
    { "IOMMU_DESTROY.hw_queue", { "EBUSY", "ENOENT" }, { SAID_NOT_FREED },
      .keeps_objects = true },
    { "veventq.read", { "EIO", "ENOMEM", "EFAULT", "EINVAL", "EAGAIN" },
      { "the host's errors cannot be read" } },
    /* An error of the hardware at a command that is none */
    { "vcmdq.command", { "EFAULT", "ETIMEDOUT", "EINVAL" },
      .counter = "vcmdq.command", .disturbs = true },
    /* Those around them */
    { "IOMMU_GET_HW_INFO", { "ENOMEM", "EOPNOTSUPP" }, .disturbs = true },
    { "IOMMU_VIOMMU_ALLOC", { "ENOMEM", "EOPNOTSUPP" }, .disturbs = true },
    { "IOMMU_VDEVICE_ALLOC",
      { "ENOSPC", "EINVAL", "EOPNOTSUPP", "ENOMEM", "EEXIST" },
      { SAID_CANNOT_MOVE }, .disturbs = true },
    { "IOMMU_HWPT_ALLOC", { "ENOMEM", "EINVAL", "EIO" }, { SAID_CANNOT_MOVE },
      .disturbs = true },
    { "IOMMU_HWPT_INVALIDATE", { "EIO", "ETIMEDOUT" }, .disturbs = true },
    { "IOMMU_IOAS_ALLOC", { "ENOMEM" }, .disturbs = true },
    { "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { "EBUSY", "ENOMEM" },
      { SAID_CANNOT_MOVE }, .disturbs = true },
    { "VFIO_DEVICE_DETACH_IOMMUFD_PT", { "ENODEV" },
      { "detach VFIO_FD", SAID_NOT_FREED }, .disturbs = true,
      .keeps_objects = true },
    { "IOMMU_DESTROY", { "EBUSY" }, { SAID_NOT_FREED }, .disturbs = true,
      .keeps_objects = true },
};

/* Two kinds: a call fails, and so do all calls that shall make up for it */
typedef struct Pair {
    const char *name, *first, *then;
    const char *counter;
    bool disturbs, keeps_objects;
} Pair;

static const Pair pairs[] = {
    { "no-vintf-no-viommu", "IOMMU_VIOMMU_ALLOC.cmdqv:%u=ENOSPC",
      "IOMMU_VIOMMU_ALLOC:2+*=ENOMEM", "call.IOMMU_VIOMMU_ALLOC.cmdqv",
      .disturbs = true },
    { "no-page-no-destroy", "mmap:%u=ENOMEM", "IOMMU_DESTROY:1+*=EBUSY",
      "call.mmap", .disturbs = true, .keeps_objects = true },
    { "no-events-no-destroy", "IOMMU_VEVENTQ_ALLOC.cmdqv:%u=ENOMEM",
      "IOMMU_DESTROY:1+*=EBUSY", "call.IOMMU_VEVENTQ_ALLOC.cmdqv",
      .disturbs = true, .keeps_objects = true },
    { "no-queue-no-destroy", "IOMMU_HW_QUEUE_ALLOC:%u=EFAULT",
      "IOMMU_DESTROY.hw_queue:1+*=EBUSY", "call.IOMMU_HW_QUEUE_ALLOC",
      .keeps_objects = true },
    { "no-queue-no-invalidation", "IOMMU_HW_QUEUE_ALLOC:%u+*=EFAULT",
      "IOMMU_HWPT_INVALIDATE:8+2=EIO", "call.IOMMU_HW_QUEUE_ALLOC",
      .disturbs = true },
    { "no-destroy-no-invalidation", "IOMMU_DESTROY.hw_queue:%u=EBUSY",
      "IOMMU_HWPT_INVALIDATE:1+*=EIO", "call.IOMMU_DESTROY.hw_queue",
      .disturbs = true, .keeps_objects = true },
    { "no-errors-no-destroy", "veventq.read:%u+*=EIO",
      "IOMMU_DESTROY.hw_queue:1+*=EBUSY", "call.veventq.read",
      .keeps_objects = true },
    { "no-errors-no-invalidation", "veventq.read:%u+*=EIO",
      "IOMMU_HWPT_INVALIDATE:1+*=EIO", "call.veventq.read",
      .disturbs = true },
    { "error-not-read", "vcmdq.command:%u=EFAULT", "veventq.read:1+*=EIO",
      "vcmdq.command", .disturbs = true },
};

typedef struct Fixture {
    CmdqvBed *bed;
    HostGuest *g;
    uint64_t page[N_DEVS][2], cd[N_DEVS];
    uint64_t *pte[N_DEVS];
    unsigned now[N_DEVS];       /* which page the device shall see */
    bool translates[N_DEVS];    /* the guest has let it */
    char *what;
    bool disturbed;             /* it may be */
    bool other_errors;          /* a command may halt that is none */
} Fixture;

static uint64_t tag(unsigned dev, unsigned n)
{
    return 0xfa110000ull + dev * 0x100 + n;
}

static Fixture *fixture_new(const char *smmu_args)
{
    Fixture *f = g_new0(Fixture, 1);

    f->bed = cmdqv_bed_new((HostGuestConfig) {
        .n_devs = N_DEVS, .no_iommufd = true, .smmu_args = smmu_args,
        .host = HOST, .dev = { { .hotplug = true }, { .hotplug = true } },
    });
    f->g = f->bed->g;
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        uint64_t root = host_alloc(f->g, 4096);

        for (unsigned n = 0; n < 2; n++) {
            f->page[dev][n] = host_new_page(f->g, tag(dev, n));
        }
        f->pte[dev] = host_pte(f->g, root, 12, 25, HOST_VA, 3, true);
        f->cd[dev] = host_alloc(f->g, 64);
        host_write_cd(f->g, f->cd[dev], &(HostCd) {
            .asid = 1 + dev, .ttb = { root }, .txsz = { 25 },
            .granule_shift = 12,
        });
    }
    return f;
}

static void fixture_free(Fixture *f)
{
    host_guest_free(f->g);
    g_free(f->bed);
    g_free(f->what);
    g_free(f);
    alarm(0);
}

G_GNUC_PRINTF(2, 3)
static void check_disturbed(Fixture *f, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    /* A busy computer makes the host look slow, and then streams wait */
    if (!f->disturbed && !host_is_slow(f->g, 0)) {
        g_error("%s: %s", f->what, text);
    }
}

/* Does the hardware have the queues? */
static bool in_hardware(Fixture *f)
{
    return host_has_region(f->g, "arm-smmuv3-vintf");
}

/*
 * What the guest does
 */

/* CMD_SYNC in the SMMU's own queue, with recovery */
static bool own_sync(Fixture *f)
{
    unsigned error = smmu_sync(f->g, 0);

    if (error) {
        check_disturbed(f, "the SMMU's queue stops with %u", error);
        smmu_ack(f->g, 0);
    }
    return !error;
}

static bool set_ste(Fixture *f, unsigned dev, uint64_t word0)
{
    uint32_t sid = host_sid(f->g, dev);

    f->translates[dev] = word0 == STE_S1(f->cd[dev]);
    qatomic_set(smmu_ste(f->g, 0, sid), cpu_to_le64(word0));
    smmu_cmd(f->g, 0, CMD_CFGI_STE(sid));
    return own_sync(f);
}

static void set_page(Fixture *f, unsigned dev, unsigned n)
{
    f->now[dev] = n;
    qatomic_set(f->pte[dev], cpu_to_le64(host_leaf(3, f->page[dev][n],
                                                   PTE_DATA)));
}

/* The device sees its page, or a fault if disturbed */
static bool reads(Fixture *f, unsigned dev)
{
    uint64_t got = 0;

    if (!f->g->dev[dev].present || !host_dma_read64(f->g, dev, HOST_VA, &got)) {
        if (f->translates[dev]) {
            check_disturbed(f, "device %u faults", dev);
        }
        return false;
    }
    if (!f->translates[dev] || got != tag(dev, f->now[dev])) {
        g_error("%s: device %u read 0x%" PRIx64, f->what, dev, got);
    }
    return true;
}

/* As Linux does after an error; returns how many errors there were */
static unsigned drain(Fixture *f, unsigned q)
{
    unsigned error, n = 0;

    while ((error = cmdqv_run(f->bed, q))) {
        check_disturbed(f, "VCMDQ %u halts with %u", q, error);
        g_assert_cmpuint(n++, <, 8);
        cmdqv_skip_error(f->bed, q);
    }
    return n;
}

/*
 * The guest gives the device another page, and invalidates by queue @q, until
 * there is no error
 */
static bool remap(Fixture *f, unsigned dev, unsigned q)
{
    unsigned errors = 0, n;

    set_page(f, dev, !f->now[dev]);
    do {
        cmdqv_put(f->bed, q, q ? CMD_TLBI_NH_ASID(1 + dev) :
                                 CMD_TLBI_NH_VA(1 + dev, HOST_VA, 1));
        cmdqv_put(f->bed, q, CMD_SYNC);
        n = drain(f, q);
        errors += n;
        g_assert_cmpuint(errors, <, 8);
    } while (n);
    return reads(f, dev) && !errors;
}

/* Both queues work for all devices that the guest uses; returns whether well */
static bool works(Fixture *f, bool hardware)
{
    bool well = true;

    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        for (unsigned q = 0; f->translates[dev] && q < N_QUEUES; q++) {
            well &= remap(f, dev, q);
        }
    }
    return in_hardware(f) == hardware && well;
}

static bool wait_irq(Fixture *f)
{
    for (int n = 0; n < 20000; n++) {
        if (cmdqv_take_irq(f->bed)) {
            return true;
        }
        g_usleep(10);
    }
    return false;
}

/* The guest's own mistake is reported, whoever has the queues and what fails */
static void mistake(Fixture *f, unsigned q)
{
    uint32_t at = f->bed->prod[q];

    cmdqv_take_irq(f->bed);
    cmdqv_put(f->bed, q, CMD_CFGI_ALL);
    cmdqv_put(f->bed, q, CMD_SYNC);
    if (cmdqv_run(f->bed, q) != SMMU_CERROR_ILL && !f->other_errors) {
        g_error("%s: an illegal command is not reported", f->what);
    }
    if (!f->other_errors) {
        g_assert_cmphex(cmdqv_q(f->bed, q, CONS), ==,
                        at | SMMU_CERROR_ILL << 24);
        cmdqv_check_error_maps(f->bed, 1u << q);
    }
    if (!wait_irq(f)) {
        g_error("%s: there is no interrupt", f->what);
    }
    cmdqv_skip_error(f->bed, q);
    drain(f, q);
}

static bool enable(Fixture *f)
{
    bool well;

    smmu_enable(f->g, 0);
    smmu_cmd(f->g, 0, CMD_CFGI_ALL);
    smmu_cmd(f->g, 0, CMD_TLBI_NSNH_ALL);
    well = own_sync(f);
    cmdqv_on(f->bed);
    cmdqv_set_edge(f->bed);
    return well;
}

static void shut_down(Fixture *f)
{
    for (unsigned q = N_QUEUES; q--; ) {
        cmdqv_queue_off(f->bed, q);
    }
    cmdqv_enable(f->g, CONFIG, STATUS, 0);
    smmu_disable(f->g, 0);
}

static bool plug(Fixture *f, unsigned dev)
{
    g_autofree char *error = host_guest_plug(f->g, dev);

    if (error) {
        check_disturbed(f, "device %u cannot be plugged: %s", dev, error);
        return false;
    }
    return set_ste(f, dev, STE_S1(f->cd[dev]));
}

static void unplug(Fixture *f, unsigned dev)
{
    f->translates[dev] = false;
    if (f->g->dev[dev].present) {
        host_guest_unplug(f->g, dev);
    }
}

/* Devices use no tables until the guest has set the SMMU up again */
static bool machine_reset(Fixture *f)
{
    bool well;

    qtest_system_reset(f->g->qts);
    f->g->smmu[0].enabled = false;
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        f->translates[dev] = false;
        host_setup_port(f->g, dev);
        if (f->g->dev[dev].present) {
            host_setup_device(f->g, dev);
            reads(f, dev);
        }
    }
    well = enable(f);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        if (f->g->dev[dev].present) {
            well &= set_ste(f, dev, STE_S1(f->cd[dev]));
        }
    }
    return well;
}

/* A life of the guest; returns true if all of it worked, in the hardware */
static bool scenario(Fixture *f)
{
    bool well = enable(f);

    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        set_page(f, dev, 0);
        well &= set_ste(f, dev, 0);
    }
    well &= works(f, false);
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        well &= plug(f, dev);
        well &= works(f, true);
    }
    mistake(f, 1);
    /* The guest disables and enables a queue, and writes to another page */
    cmdqv_queue_off(f->bed, 1);
    cmdqv_queue_on(f->bed, 1);
    well &= works(f, true);
    cmdqv_set(f->g, VINTF_INT_MASK, 0);
    well &= works(f, true);
    /* A stream stops and goes on */
    if (f->g->dev[1].present) {
        well &= set_ste(f, 1, STE_ABORT);
        reads(f, 1);
        well &= set_ste(f, 1, STE_S1(f->cd[1]));
    }
    well &= works(f, true);
    well &= machine_reset(f);
    well &= works(f, true);
    /* The first device goes; then the last one, and the first one comes */
    unplug(f, 0);
    well &= works(f, true);
    unplug(f, 1);
    well &= works(f, false);
    mistake(f, 0);
    well &= plug(f, 0);
    well &= works(f, true);
    mistake(f, 0);
    well &= works(f, true);
    unplug(f, 0);
    shut_down(f);
    return well;
}

/*
 * Failures
 */

/* If the host was slow, it is not for long */
static void begin(Fixture *f)
{
    alarm(WATCHDOG_S);
    cmdqv_control(f->bed, "advance 61000000");
    cmdqv_control(f->bed, "zero");
    g_assert_true(host_add_iommufd(f->g));
}

/* Nothing disturbs the guest */
static void begin_well(Fixture *f)
{
    f->disturbed = f->other_errors = false;
    begin(f);
}

/* Returns whether all went well */
static bool try_again(Fixture *f, bool *slow)
{
    bool well;

    begin_well(f);
    well = enable(f);
    well &= plug(f, 0);
    well &= works(f, true);
    *slow = host_is_slow(f->g, 0);
    unplug(f, 0);
    shut_down(f);
    host_check_freed(f->g, f->what, false);
    return well;
}

/* The hardware has the VCMDQs of the next device again */
static void check_afterwards(Fixture *f)
{
    bool slow = true;

    for (unsigned n = 0; slow && n < 3; n++) {
        if (try_again(f, &slow)) {
            return;
        }
    }
    g_error("%s: does not work afterwards", f->what);
}

/* How often @counter counts in a scenario that nothing disturbs */
static unsigned count(Fixture *f, const char *counter)
{
    bool well = false;
    unsigned n;

    f->what = g_strdup("without a failure");
    for (unsigned tries = 0; !well; tries++) {
        g_assert_cmpuint(tries, <, 3);
        begin_well(f);
        well = scenario(f);
        n = host_counter(f->g, counter);
        host_check_freed(f->g, f->what, false);
    }
    /* A kind that the scenario never calls tests nothing */
    g_assert_cmpuint(n, >, 0);
    return n;
}

/* Returns how many calls failed */
static unsigned inject(Fixture *f, const char *rule, const char *second,
                       bool disturbed, bool keeps_objects)
{
    unsigned injected;

    g_free(f->what);
    f->what = g_strdup_printf("%s %s", rule, second ?: "");
    f->disturbed = f->other_errors = disturbed;
    begin(f);
    cmdqv_control(f->bed, rule);
    if (second) {
        cmdqv_control(f->bed, second);
    }
    scenario(f);
    injected = host_counter(f->g, "injected") +
               host_counter(f->g, "call.vcmdq.command");
    cmdqv_control(f->bed, "fail clear");
    g_assert_cmpuint(host_counter(f->g, "smmu.stale"), ==, 0);
    host_check_freed(f->g, f->what, keeps_objects);

    check_afterwards(f);
    return injected;
}

/*
 * If there are more calls of a kind, one after the other fails with the errnos
 * in turn.  With -m slow each of them fails with each.
 */
#define MANY 8

/* So many of the commands of a scenario fail, unless it may be slow */
#define SOME 20

/* One of so many calls fails */
static unsigned step(unsigned calls, const char *counter)
{
    return !g_test_slow() && g_str_equal(counter, "vcmdq.command") ?
           MAX(calls / SOME, 1) : 1;
}

static void test_kind(const void *opaque)
{
    const Kind *kind = opaque;
    g_autofree char *counter = kind->counter ? g_strdup(kind->counter) :
                               g_strconcat("call.", kind->name, NULL);
    unsigned injected = 0, n_errnos = 0, calls, each;
    Fixture *f;
    bool all;

    if (host_skipped()) {
        return;
    }
    f = fixture_new(ON);
    for (int i = 0; i < ARRAY_SIZE(kind->said) && kind->said[i]; i++) {
        host_expect(f->g, kind->said[i]);
    }
    host_allow(f->g, "arm-smmuv3");
    host_allow(f->g, "vfio");
    host_allow(f->g, "IOMMU");
    host_allow(f->g, "a vEVENTQ cannot be freed");
    host_allow(f->g, SAID_SLOW);
    calls = count(f, counter);
    while (kind->errnos[n_errnos]) {
        n_errnos++;
    }
    all = g_test_slow() || calls <= MANY;
    each = step(calls, counter);
    for (unsigned n = 0; n < (all ? n_errnos : 1) * calls; n += each) {
        g_autofree char *rule = g_strdup_printf(
            "fail %s:%u=%s", kind->name, n % calls + 1,
            kind->errnos[all ? n / calls : n / each % n_errnos]);

        injected += inject(f, rule, NULL, kind->disturbs, kind->keeps_objects);
    }
    g_test_message("%u failures of %u calls", injected, calls);
    g_assert_cmpuint(injected, >=, calls / each);
    fixture_free(f);
}

static void test_pair(const void *opaque)
{
    const Pair *pair = opaque;
    g_autofree char *second = g_strdup_printf("fail %s", pair->then);
    g_auto(GStrv) first = g_strsplit(pair->first, "%u", 2);
    unsigned injected = 0, calls, each;
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    f = fixture_new(ON);
    host_allow(f->g, "");
    calls = count(f, pair->counter);
    each = step(calls, pair->counter);
    for (unsigned n = 1; n <= calls; n += each) {
        g_autofree char *rule = g_strdup_printf("fail %s%u%s", first[0], n,
                                                first[1]);

        injected += inject(f, rule, second, pair->disturbs,
                           pair->keeps_objects);
    }
    g_test_message("%u failures of %u calls", injected, calls);
    g_assert_cmpuint(injected, >, calls / each);
    fixture_free(f);
}

/*
 * The user insists on the hardware: a device is refused, and nothing is left
 */

static const char *const opening[] = {
    "IOMMU_GET_HW_INFO.cmdqv", "IOMMU_VIOMMU_ALLOC.cmdqv", "mmap",
    "IOMMU_VEVENTQ_ALLOC.cmdqv",
};

static const Kind *find_kind(const char *name)
{
    for (int n = 0; n < ARRAY_SIZE(kinds); n++) {
        if (g_str_equal(kinds[n].name, name)) {
            return &kinds[n];
        }
    }
    g_assert_not_reached();
}

/* What QEMU must say of an errno */
static const char *reason(const char *name)
{
    static const struct {
        const char *name;
        int value;
    } errnos[] = {
        { "EAGAIN", EAGAIN }, { "EEXIST", EEXIST }, { "EFAULT", EFAULT },
        { "EINVAL", EINVAL }, { "EMFILE", EMFILE }, { "ENFILE", ENFILE },
        { "ENOENT", ENOENT }, { "ENOMEM", ENOMEM }, { "ENOSPC", ENOSPC },
        { "ENXIO", ENXIO }, { "EOPNOTSUPP", EOPNOTSUPP }, { "EPERM", EPERM },
        { "ETIMEDOUT", ETIMEDOUT },
    };

    for (int n = 0; n < ARRAY_SIZE(errnos); n++) {
        if (g_str_equal(errnos[n].name, name)) {
            return g_strerror(errnos[n].value);
        }
    }
    g_assert_not_reached();
}

static void check_refusal(const char *text, const char *errno_name)
{
    if (!strstr(text, "x-cmdqv-backend=hardware needs a host with a CMDQV") ||
        !strstr(text, reason(errno_name))) {
        g_error("%s: %s", errno_name, text);
    }
}

/* At hot plug */
static void test_required(const void *opaque)
{
    const Kind *kind = find_kind(opaque);
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    f = fixture_new(HARDWARE);
    host_allow(f->g, SAID_SLOW);
    f->what = g_strdup(kind->name);
    for (const char *const *e = kind->errnos; *e; e++) {
        g_autofree char *rule = g_strdup_printf("fail %s:1=%s", kind->name, *e);
        g_autofree char *error = NULL;

        g_assert_true(host_add_iommufd(f->g));
        cmdqv_control(f->bed, rule);
        error = host_guest_plug(f->g, 0);
        cmdqv_control(f->bed, "fail clear");
        g_assert_nonnull(error);
        check_refusal(error, *e);
        qobject_unref(host_control(f->g, "zero"));
        host_check_freed(f->g, f->what, false);

        check_afterwards(f);
    }
    fixture_free(f);
}

/* At start: QEMU refuses, or it has the VCMDQs until the next device comes */
static void test_cold(const void *opaque)
{
    const Kind *kind = find_kind(opaque);
    g_autofree char *rule = g_strdup_printf("%s:1=%s", kind->name,
                                            kind->errnos[0]);
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = HOST,
        .smmu_args = HARDWARE, .fail = rule,
    };
    g_autofree char *text = NULL;
    CmdqvBed *bed;

    if (host_skipped()) {
        return;
    }
    text = host_guest_refused(&config);
    check_refusal(text, kind->errnos[0]);

    config.smmu_args = ON;
    bed = cmdqv_bed_new(config);
    host_allow(bed->g, SAID_QEMU_HAS);
    cmdqv_on(bed);
    for (unsigned n = 0; n < 2; n++) {
        g_assert_cmpint(host_has_region(bed->g, "arm-smmuv3-vintf"), ==, n);
        cmdqv_remap(bed, 0, CMD_TLBI_NH_ASID(1), 1);
        cmdqv_remap(bed, 1, CMD_TLBI_NH_VA(1, HOST_VA, 1), 0);
        host_guest_unplug(bed->g, 0);
        g_assert_null(host_guest_plug(bed->g, 0));
    }
    cmdqv_bed_free(bed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int n = 0; n < ARRAY_SIZE(kinds); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-cmdqv-failure/%s",
                                                kinds[n].name);

        qtest_add_data_func(path, &kinds[n], test_kind);
    }
    for (int n = 0; n < ARRAY_SIZE(pairs); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-cmdqv-failure/pair/%s",
                                                pairs[n].name);

        qtest_add_data_func(path, &pairs[n], test_pair);
    }
    for (int n = 0; n < ARRAY_SIZE(opening); n++) {
        g_autofree char *hot = g_strdup_printf("/smmuv3-cmdqv-failure/required/"
                                               "%s", opening[n]);
        g_autofree char *cold = g_strdup_printf("/smmuv3-cmdqv-failure/cold/%s",
                                                opening[n]);

        qtest_add_data_func(hot, opening[n], test_required);
        qtest_add_data_func(cold, opening[n], test_cold);
    }
    return g_test_run();
}
