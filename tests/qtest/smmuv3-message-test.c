/*
 * QTest of accel=on: what a person reads
 *
 * One start shows all that is wrong with an SMMU, errors of the host come with
 * their remedy, and a running QEMU says what its guest cannot. Also what a user
 * without privileges may do, with file descriptors alone. Runs on the host
 * model, except for the first group.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include <glib/gstdio.h>
#include "hw/pci/pci_regs.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define SMMU "-device arm-smmuv3,id=s0,primary-bus=pcie.0"
/* A QEMU that does start fails at once: no file can be there */
#define ONE_START SMMUV3_MACHINE ",dumpdtb=/dev/null/none"
#define PORT " -device pcie-root-port,id=rp,bus=pcie.0,chassis=1"

static void check_contains(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        g_error("\"%s\" is not in: %s", part, text);
    }
}

/*
 * All faults at once
 */

typedef struct FaultRow {
    const char *name;
    const char *machine;
    bool firmware;
    const char *args;
    const char *texts[12];
    const char *absent;
} FaultRow;

static const FaultRow fault_rows[] = {
    { "properties", "", false,
      SMMU ",accel=on,stage=2,s2fwb=on,ats=on,x-cmdqv-backend=hardware,"
      "ssidsize=4,pasid=on",
      { "arm-smmuv3 's0': 5 faults: (1) ",
        ") accel=on needs a guest that boots by ACPI", ") stage=2 is not ",
        ") s2fwb=on is not possible",
        ") x-cmdqv-backend=hardware needs cmdqv=on",
        "; (5) pasid=on is an older name: write ssidsize=" } },
    { "devices", "", true,
      "-device virtio-rng-pci,id=r1 -device virtio-rng-pci,id=r2 "
      SMMU ",accel=on,stage=2",
      { "arm-smmuv3 's0': 3 faults: (1) virtio-rng-pci 'r1' cannot be behind ",
        "; (2) virtio-rng-pci 'r2' cannot be behind ",
        "; (3) stage=2 is not possible" } },
    { "board", ",its=off", true,
      SMMU ",accel=on,pasid=on",
      { "arm-smmuv3 's0': 2 faults: (1) the machine has no ITS",
        "; (2) pasid=on is an older name" } },
    { "no-bus", "", true, "-device arm-smmuv3,id=s0,accel=on,stage=2",
      { "2 faults: (1) no primary-bus is given", "; (2) stage=2 is not " } },
    { "device", "", true,
      SMMU ",accel=on -device pcie-pci-bridge,id=br,bus=pcie.0 "
      "-device vfio-pci,id=v0,host=0000:00:00.0,bus=br,addr=1",
      { "vfio-pci 'v0' cannot be behind arm-smmuv3 's0' with accel=on without "
        "an iommufd: add -object iommufd,id=iommufd0",
        "; nor from a conventional PCI bus" } },
    { "one", "", true, SMMU ",accel=on,x-cmdqv-backend=hardware",
      { "arm-smmuv3 's0': x-cmdqv-backend=hardware needs cmdqv=on" },
      "(1)" },
    { "pasid", "", true, SMMU ",accel=on,pasid=on",
      { "arm-smmuv3 's0': pasid=on is an older name: write ssidsize=auto, or "
        "ssidsize= with a number" }, "(1)" },
    { "emulated", "", true, SMMU ",stage=3,oas=32,pasid=on",
      { "3 faults: (1) stage=3 is not known",
        "; (2) ats, cmdqv, oas, ril, share-stage2 and ssidsize are for an ",
        "; (3) pasid=on is an older name" } },
};

static void test_faults(const void *opaque)
{
    const FaultRow *row = opaque;
    g_autofree char *args = NULL, *err = NULL;
    int status;

    args = g_strdup_printf("-machine " ONE_START "%s %s%s -nic none %s",
                           row->machine, row->firmware ? "-bios " : "",
                           row->firmware ? smmuv3_firmware() : "", row->args);
    status = smmuv3_run("QTEST_QEMU_BINARY", args, &err);
    g_test_message("%d: %s", status, err);
    g_assert_cmpint(status, ==, 1);
    for (int i = 0; i < ARRAY_SIZE(row->texts) && row->texts[i]; i++) {
        check_contains(err, row->texts[i]);
    }
    if (row->absent && strstr(err, row->absent)) {
        g_error("\"%s\" is in: %s", row->absent, err);
    }
}

/* What every SMMU has anyway may be written for it */
static void test_no_fault(const void *opaque)
{
    QTestState *qts = qtest_initf("-machine " SMMUV3_MACHINE " -bios %s "
                                  "-nic none " SMMU "%s", smmuv3_firmware(),
                                  (const char *)opaque);

    qtest_quit(qts);
}

/*
 * What stops a start, on the model
 */

typedef struct HostErrorRow {
    const char *name;
    const char *fail;           /* a rule of the model */
    const char *machine;
    const char *smmu;           /* NULL: with accel=on */
    const char *device;         /* NULL: by fd */
    const char *texts[4];
    const char *host;           /* further keys of its SMMU */
    uint64_t memlock;           /* RLIMIT_MEMLOCK, or 0 */
    const char *counted;        /* what the model has counted, or NULL */
    const char *absent;         /* what is not said, or NULL */
} HostErrorRow;

/* The SMMU comes after its devices: realize finds a fault behind one it took */
#define SECOND " -object iommufd,id=i1 -device pcie-root-port,id=rp1," \
               "bus=pcie.0,chassis=2 -device vfio-pci,id=v1,iommufd=i1," \
               "bus=rp1,fd=101 "

static const HostErrorRow host_error_rows[] = {
    { "emulated", "", "", SMMU, NULL,
      { "vfio-pci 'v0' cannot be behind arm-smmuv3 's0', which is emulated and "
        "never sees its DMA: add accel=on to the SMMU, or put the device on "
        "another root complex" } },
    { "emulated-last", "", "", "", "fd=100 " SMMU,
      { "vfio-pci 'v0' cannot be behind arm-smmuv3 's0', which is emulated and "
        "never sees its DMA: add accel=on to the SMMU" } },
    { "machine-smmu", "", ",iommu=smmuv3", "", NULL,
      { "vfio-pci 'v0' cannot be behind the SMMUv3 of -machine iommu=smmuv3, "
        "which is emulated and never sees its DMA: drop iommu=smmuv3 and write "
        "-device arm-smmuv3,primary-bus=BUS,accel=on" } },
    { "memlock", "IOMMU_IOAS_MAP:1+*=ENOMEM", "", NULL, NULL,
      { "RLIMIT_MEMLOCK, which is ", "the guest has 128 MiB",
        "ulimit -l, LimitMEMLOCK=" } },
    { "memory", "IOMMU_IOAS_MAP:1+*=ENOMEM", "", NULL, NULL,
      { "the host has not enough memory: " }, .memlock = UINT64_MAX },
    { "bind-einval", "VFIO_DEVICE_BIND_IOMMUFD=EINVAL", "", NULL, NULL,
      { "the device is in use already", "it has no IOMMU in the host",
        "\"Firmware has requested this device have a 1:1 IOMMU mapping\"" } },
    { "bind-eperm", "VFIO_DEVICE_BIND_IOMMUFD=EPERM", "", NULL, NULL,
      { "another device of its IOMMU group", "bind all of them to vfio-pci" } },
    { "bind-ebusy", "VFIO_DEVICE_BIND_IOMMUFD=EBUSY", "", NULL, NULL,
      { "its IOMMU group is open by /dev/vfio/GROUP" } },
    { "bind-enodev", "VFIO_DEVICE_BIND_IOMMUFD=ENODEV", "", NULL, NULL,
      { "the device has no IOMMU in the host" } },
    { "attach-einval", "VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+*=EINVAL", "", NULL,
      NULL,
      { "one device of an IOMMU group can nest, "
        "is another one assigned too?" } },
    { "info-eopnotsupp", "IOMMU_GET_HW_INFO=EOPNOTSUPP", "", NULL, NULL,
      { "the device has no IOMMU in the host" } },
    { "sysfs-no-iommu", "", "", NULL, "sysfsdev=%s/plain",
      { "the device has no IOMMU in the host: ",
        "/plain has no iommu_group" } },
    { "sysfs-noiommu", "", "", NULL, "sysfsdev=%s/noiommu",
      { "the device has no IOMMU in the host: ", "'vfio-noiommu'" } },
    { "no-hw-info", "", "", NULL, NULL,
      { "the host's kernel says nothing of the device's IOMMU (an SMMUv3 "
        "needs CONFIG_ARM_SMMU_V3_IOMMUFD); assign it without accel=on" },
      "no_hw_info=1" },
    { "other-iommu", "", "", NULL, NULL,
      { "the device is not behind an SMMUv3 of the host that "
        "can nest (IOMMU_GET_HW_INFO says type 1); assign it without "
        "accel=on" }, "vtd=1" },
    { "offset-conventional", "", "",
      "-device pcie-pci-bridge,id=br,bus=pcie.0",
      "fd=100,bus=br,addr=1,x-vpasid-cap-offset=0x200",
      { "x-vpasid-cap-offset=0x200: the guest sees no extended configuration "
        "space of the device: leave it out, or put a PCI Express device on a "
        "pcie-root-port" } },
    /* The first HWPT is one that does not nest */
    { "no-parent-last", "IOMMU_HWPT_ALLOC:2=ENOMEM", "", "",
      "fd=100 " SMMU ",accel=on",
      { "cannot be behind arm-smmuv3 's0': ", "Cannot allocate memory" },
      /* and the device goes back to it */
      .counted = "\"call.VFIO_DEVICE_ATTACH_IOMMUFD_PT\": 2" },
    { "second-last", "", "", "", "fd=100" SECOND SMMU ",accel=on",
      { "cannot be behind arm-smmuv3 's0': the other devices behind this SMMU "
        "use another iommufd object" } },
    { "mediated", "", "", NULL, "fd=100,sysfsdev=%s/mdev",
      { "a mediated device has no stage 1 in the host's IOMMU: it cannot be "
        "placed behind an accelerated vIOMMU; use another root complex" } },
    { "mediated-last", "", "", "", "fd=100,sysfsdev=%s/mdev " SMMU ",accel=on",
      { "vfio-pci 'v0' is a mediated device, which has no stage 1 in the "
        "host's IOMMU: put it on a root complex without accel=on" } },
    { "mediated-by-sysfs", "", "", "", "sysfsdev=%s/mdev",
      { ": vfio mdev: vfio /",
        "/mdev/vfio-dev: Failed to open /dev/vfio/devices/vfio65535" } },
    { "sysfs-cdev", "", "", NULL, "sysfsdev=%s/cdev",
      { "/cdev/vfio-dev: Failed to open /dev/vfio/devices/vfio65535" },
      .absent = "bound to vfio-pci" },
    { "sysfs-no-cdev", "", "", NULL, "sysfsdev=%s/nocdev",
      { "is the device bound to vfio-pci, and does the host's kernel have "
        "CONFIG_VFIO_DEVICE_CDEV?" } },
};

/*
 * Four devices as sysfs shows them; the model has none of these files.  Linux
 * puts each mediated device into a group of this name, too
 * (vfio_register_emulated_iommu_dev()).
 */
static void make_sysfs(const char *dir)
{
    static const char noiommu[] = "vfio-noiommu\n";
    g_autofree char *plain = g_build_filename(dir, "plain", NULL);
    g_autofree char *fake = g_build_filename(dir, "noiommu/iommu_group", NULL);
    g_autofree char *name = g_build_filename(fake, "name", NULL);
    g_autofree char *group = g_build_filename(dir, "nocdev/iommu_group", NULL);
    g_autofree char *mdev = g_build_filename(dir, "mdev/iommu_group", NULL);
    g_autofree char *bus = g_build_filename(dir, "mdev/subsystem", NULL);
    g_autofree char *mdev_name = g_build_filename(mdev, "name", NULL);
    g_autofree char *cdev = g_build_filename(dir, "mdev/vfio-dev/vfio65535",
                                             NULL);
    g_autofree char *number = g_build_filename(cdev, "dev", NULL);
    g_autofree char *bound = g_build_filename(dir, "cdev", NULL);
    g_autofree char *bound_group = g_build_filename(bound, "iommu_group", NULL);
    g_autofree char *bound_cdev = g_build_filename(bound, "vfio-dev", NULL);
    g_autofree char *of_mdev = g_build_filename(dir, "mdev/vfio-dev", NULL);

    g_assert(!g_mkdir_with_parents(plain, 0755) &&
             !g_mkdir_with_parents(fake, 0755) &&
             !g_mkdir_with_parents(group, 0755) &&
             !g_mkdir_with_parents(mdev, 0755) &&
             !g_mkdir_with_parents(cdev, 0755) &&
             !g_mkdir_with_parents(bound_group, 0755) &&
             !symlink(of_mdev, bound_cdev) &&
             !symlink("/sys/bus/mdev", bus) &&
             g_file_set_contents(number, "511:65535\n", -1, NULL) &&
             g_file_set_contents(name, noiommu, -1, NULL) &&
             g_file_set_contents(mdev_name, noiommu, -1, NULL));
}

static void remove_tree(const char *dir)
{
    g_autofree char *command = g_strdup_printf("rm -r '%s'", dir);

    g_assert_cmpint(system(command), ==, 0);
}

static void test_host_error(const void *opaque)
{
    const HostErrorRow *row = opaque;
    g_autofree char *dir = g_dir_make_tmp("smmuv3-message-XXXXXX", NULL);
    g_autofree char *ini = g_build_filename(dir, "host.ini", NULL);
    g_autofree char *counters = g_build_filename(dir, "counters", NULL);
    g_autofree char *args = NULL, *device = NULL, *err = NULL, *text = NULL;
    g_autofree char *counted = NULL;
    int status;

    if (host_skipped()) {
        rmdir(dir);
        return;
    }
    make_sysfs(dir);
    text = g_strdup_printf("[smmu smmu0]\n%s\n"
                           "[device dma0]\nkind=dma\n"
                           "smmu=smmu0\nsid=0x100\nfds=100\n"
                           "[device dma1]\nkind=dma\n"
                           "smmu=smmu0\nsid=0x200\nfds=101\n",
                           row->host ?: "");
    g_assert(g_file_set_contents(ini, text, -1, NULL));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    device = g_strdup_printf(row->device ?: "fd=100", dir);
#pragma GCC diagnostic pop
    args = g_strdup_printf("-machine " ONE_START "%s -bios %s -nic none "
                           "-m 128 -object iommufd,id=i0 %s" PORT
                           " -device vfio-pci,id=v0,iommufd=i0,bus=rp,%s",
                           row->machine, smmuv3_firmware(),
                           row->smmu ?: SMMU ",accel=on", device);
    g_setenv("LD_PRELOAD", getenv("QTEST_HOST_MODEL"), true);
    g_setenv("HOST_MODEL_PROGRAM", "qemu-system", true);
    g_setenv("HOST_MODEL_CONFIG", ini, true);
    g_setenv("HOST_MODEL_FAIL", row->fail, true);
    if (row->memlock) {
        g_autofree char *limit = g_strdup_printf("%" PRIu64, row->memlock);

        g_setenv("HOST_MODEL_MEMLOCK", limit, true);
    }
    g_setenv("HOST_MODEL_COUNTERS", counters, true);
    g_unsetenv("HOST_MODEL_CONTROL");
    status = smmuv3_run("QTEST_QEMU_BINARY", args, &err);
    g_unsetenv("LD_PRELOAD");
    g_unsetenv("HOST_MODEL_FAIL");
    g_unsetenv("HOST_MODEL_MEMLOCK");
    g_unsetenv("HOST_MODEL_COUNTERS");
    g_assert(g_file_get_contents(counters, &counted, NULL, NULL));
    remove_tree(dir);

    g_test_message("%d: %s", status, err);
    g_assert_cmpint(status, ==, 1);
    for (int i = 0; i < ARRAY_SIZE(row->texts) && row->texts[i]; i++) {
        check_contains(err, row->texts[i]);
    }
    if (row->counted) {
        check_contains(counted, row->counted);
    }
    g_assert_true(!row->absent || !strstr(err, row->absent));
}

/*
 * What a running QEMU says
 */

/* An SMMU that nothing is behind, while an assigned device is elsewhere */
static void test_idle(void)
{
    static const char hint[] =
        "arm-smmuv3 's9': no device is behind it, and nothing translates for "
        "vfio-pci 'dev0', which is below 'pxb1': give the device a bus= below "
        "'pcie.0', or the SMMU primary-bus=pxb1";
    static const char smmu[] =
        "-device arm-smmuv3,id=s9,primary-bus=pcie.0,accel=on";
    /* Then: the device comes later, has an SMMU, is not the only one */
    const HostGuestConfig rows[] = {
        { .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 1, .no_smmu = true,
          .dev = { { .vsmmu = 1 } }, .args = smmu },
        { .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 1, .no_smmu = true,
          .dev = { { .vsmmu = 1, .hotplug = true } }, .args = smmu },
        { .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 1,
          .dev = { { .vsmmu = 1 } } },
        { .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 2, .no_smmu = true,
          .dev = { { .vsmmu = 1 }, {} }, .args = smmu },
    };

    if (host_skipped()) {
        return;
    }
    for (int row = 0; row < ARRAY_SIZE(rows); row++) {
        HostGuest *g = host_guest_new(&rows[row]);

        g_assert_cmpuint(host_said(g, hint), ==, row == 0);
        g_assert_cmpuint(host_said(g, "no device is behind it"), ==,
                         row == 0);
        host_guest_free(g);
    }
}

static uint64_t msi_faults(HostGuest *g, unsigned i)
{
    g_autofree char *path = g_strdup_printf("/machine/peripheral/s%u", i);
    QDict *rsp = qtest_qmp(g->qts, "{'execute': 'qom-get', 'arguments': "
                           "{'path': %s, 'property': 'msi-faults'}}", path);
    uint64_t n = qdict_get_int(rsp, "return");

    qobject_unref(rsp);
    return n;
}

/* Wait until the SMMU has counted @n */
static void expect_msi_faults(HostGuest *g, unsigned i, uint64_t n)
{
    for (int tries = 0; msi_faults(g, i) != n && tries < 1000; tries++) {
        g_usleep(1000);
    }
    g_assert_cmpuint(msi_faults(g, i), ==, n);
}

static void raise_event(HostGuest *g, unsigned dev, unsigned type, bool read,
                  uint64_t addr)
{
    qobject_unref(host_control(g, "event dma%u 0x%x 0x%" PRIx64 " 0x%" PRIx64
                               " 0", dev, type, (uint64_t)read << 35, addr));
}

/* A guest that has not mapped the host's MSI window, as one without RMRs */
static void test_msi_faults(void)
{
    static const char text[] = "the guest gets no interrupts of it";
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2,
    };
    uint64_t lost;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    for (unsigned dev = 0; dev < 2; dev++) {
        host_enable_msix(g, dev, HOST_MSI_WINDOW + 0x40);
        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, dev + 1,
                                      host_new_page(g, dev))));
    }
    for (unsigned n = 1; n <= 3; n++) {
        lost = host_counter(g, "msi.lost");
        qobject_unref(host_control(g, "msix dma0 0"));
        g_assert_cmpuint(host_counter(g, "msi.lost"), ==, lost + 1);
        expect_msi_faults(g, 0, n);
        g_assert_cmpuint(host_said(g, text), ==, 1);
    }
    g_assert_cmpuint(host_said(g, "vfio-pci 'dev0' behind arm-smmuv3 's0'"),
                     ==, 1);
    g_assert_cmpuint(host_said(g, "iommu.passthrough=1"), ==, 1);
    g_assert_cmpuint(host_said(g, "Linux 6.0 or later"), ==, 1);

    /* Another device is another warning */
    qobject_unref(host_control(g, "msix dma1 0"));
    expect_msi_faults(g, 0, 4);
    g_assert_cmpuint(host_said(g, "vfio-pci 'dev1' behind arm-smmuv3 's0'"),
                     ==, 1);

    /* The ends of the window; what is no translation fault, and no write */
    raise_event(g, 0, F_TRANSLATION, false, 0x8000000 - 1);
    raise_event(g, 0, F_TRANSLATION, false, 0x8100000);
    raise_event(g, 0, F_TRANSLATION, false, -1ull);
    raise_event(g, 0, F_TRANSLATION, false, 0);
    raise_event(g, 0, F_TRANSLATION, true, 0x8000040);
    raise_event(g, 0, 0xf, false, 0x8000040);
    raise_event(g, 0, 0x14, false, 0x8000040);
    raise_event(g, 0, F_TRANSLATION, false, 0x8000000);
    raise_event(g, 0, 0x13, false, 0x80fffff);
    expect_msi_faults(g, 0, 6);
    g_assert_cmpuint(host_said(g, text), ==, 2);

    /* With bypass, the remedy, they arrive */
    lost = host_counter(g, "msi.lost");
    host_set_ste(g, 0, STE_BYPASS);
    qobject_unref(host_control(g, "msix dma0 0"));
    g_assert_cmpuint(host_counter(g, "msi.lost"), ==, lost);
    g_assert_cmpuint(msi_faults(g, 0), ==, 6);
    host_finish(g);
}

/*
 * The first host tracks dirty pages. A person reads that the second one does
 * not, unless its device is behind a vIOMMU that nests: that answers for itself
 */
static void test_dirty_tracking(void)
{
    static const char text[] = "doesn't support dirty tracking";
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 2, .n_devs = 2, .no_smmu = true,
        .dev = { {}, { .vsmmu = 1, .psmmu = 1, .hotplug = true } },
        .each_host = { "profile=httu", "profile=grace" },
    };

    if (host_skipped()) {
        return;
    }
    for (int nests = 0; nests < 2; nests++) {
        g_autofree char *error = NULL;
        HostGuest *g;

        if (nests) {
            config.args = "-device arm-smmuv3,id=s9,primary-bus=pxb1,accel=on";
        }
        g = host_guest_new(&config);
        if (nests) {
            host_expect(g, "'s9': no device is behind it");
        }
        /* A warning goes to whoever has plugged the device */
        error = host_guest_plug(g, 1);
        g_assert_cmpuint(host_said(g, text) + (error && strstr(error, text)),
                         ==, !nests);
        host_guest_free(g);
    }
}

/*
 * The guest turns its event queue on and off. Each time the host refuses the
 * queue that QEMU reads, and a person hears it once. What cannot be freed is
 * heard of too.
 */
static void test_event_queue(void)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    qobject_unref(host_control(g, "fail IOMMU_VEVENTQ_ALLOC:1+*=ENOMEM"));
    host_enable(g, 0);
    for (unsigned on = 0; on < 5; on++) {
        smmu_write(g, 0, SMMU_CR0, 1 | (on % 2) << 2 | 1 << 3);
    }
    g_assert_cmpuint(host_counter(g, "call.IOMMU_VEVENTQ_ALLOC"), ==, 3);
    g_assert_cmpuint(host_said(g, "arm-smmuv3 's0': faults of its devices "
                                "show in the host's log only: "), ==, 1);
    qobject_unref(host_control(g, "fail clear"));
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 2 | 1 << 3);
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);
    qobject_unref(host_control(g, "fail IOMMU_DESTROY:1=ENOENT"));
    smmu_write(g, 0, SMMU_CR0, 1 | 1 << 3);
    g_assert_cmpuint(host_said(g, "a vEVENTQ cannot be freed: No such file "
                                "or directory"), ==, 1);
    host_guest_free(g);
}

/*
 * A user without privileges
 */

/* The limit is enough: all works, and what is unplugged is given back */
static void test_memlock_enough(void)
{
    const HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 3,
        .dev = { {}, { .vsmmu = 1 }, { .vsmmu = 1, .hotplug = true } },
        .memlock = HOST_RAM_SIZE + 64 * MiB,
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    host_enable(g, 1);
    for (int round = 0; round < 3; round++) {
        g_assert_null(host_guest_plug(g, 2));
        for (unsigned dev = 0; dev < 3; dev++) {
            unsigned asid = 8 * round + dev + 1;    /* a new one: no TLBI */

            host_set_ste(g, dev, STE_S1(host_one_page_cd(g, asid,
                                        host_new_page(g, dev))));
            host_check_reads(g, dev, HOST_VA, dev);
        }
        host_guest_unplug(g, 2);
    }
    host_finish(g);
}

/* The limit is too low: device_add says so, and the machine goes on */
static void test_memlock_low(void)
{
    const HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .dev = { { .hotplug = true } }, .memlock = 16 * MiB,
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = host_guest_new(&config);
    for (int round = 0; round < 2; round++) {
        g_autofree char *error = host_guest_plug(g, 0);

        g_assert_nonnull(error);
        check_contains(error, "RLIMIT_MEMLOCK, which is 16384 KiB");
        check_contains(error, "the guest has 256 MiB");
        qtest_qmp_assert_success(g->qts, "{ 'execute': 'query-status' }");
    }
    host_finish(g);
}

/* Nothing is opened by name, and QEMU may do nothing else that it need not */
static void test_by_fd(void)
{
    static const char sandbox[] = "-sandbox on,obsolete=deny,"
        "elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    g_autofree char *err = NULL;
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2,
        .dev = { {}, { .hotplug = true } }, .iommufd_by_fd = true,
        .memlock = HOST_RAM_SIZE + 64 * MiB,
        .fail = "open./dev/iommu:1+*=EACCES",
    };
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    if (smmuv3_run("QTEST_QEMU_BINARY", "-sandbox on -version", &err)) {
        g_test_message("without -sandbox: this QEMU has none");
    } else {
        config.args = sandbox;
        /* LeakSanitizer starts a process, when QEMU ends */
        g_setenv("LSAN_OPTIONS", "detect_leaks=0", true);
    }
    g = host_guest_new(&config);
    host_enable(g, 0);
    g_assert_null(host_guest_plug(g, 1));
    for (unsigned dev = 0; dev < 2; dev++) {
        host_set_ste(g, dev, STE_S1(host_one_page_cd(g, dev + 1,
                                    host_new_page(g, dev))));
        host_check_reads(g, dev, HOST_VA, dev);
        host_flr(g, dev);
        host_check_reads(g, dev, HOST_VA, dev);
        host_check_faults(g, dev, HOST_VA + 0x1000);
    }
    /* The second of these calls is made by a thread, which is new */
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE~150000"));
    for (unsigned n = 0; n < 2; n++) {
        smmu_cmd(g, 0, CMD_TLBI_NH_ASID(1));
        smmu_sync_ok(g, 0);
    }
    qobject_unref(host_control(g, "fail clear"));
    qtest_system_reset(g->qts);
    g_assert_cmpuint(host_counter(g, "call.open./dev/iommu"), ==, 0);
    host_guest_free(g);
    g_unsetenv("LSAN_OPTIONS");
}

/* Whether Linux can share the addresses of a process with a device */
static void test_sva_hint(void)
{
    static const char device[] = "ats=on\npasid=20";
    static const struct {
        const char *host, *smmu, *cpu, *hint;
        bool no_device;
    } rows[] = {
        { NULL, NULL, "max", "arm-smmuv3 's0': addresses have 48 bits "
          "(IDR5.OAS), and those of the CPUs 52, so Linux lets no device use "
          "the addresses of a process (SVA); choose a -cpu with fewer, or "
          "write oas= if all hosts have more\n" },
        { NULL, ",oas=40", "cortex-a57", "addresses have 40 bits (IDR5.OAS), "
          "and those of the CPUs 44, so Linux lets no device use the addresses "
          "of a process (SVA); choose a -cpu with fewer, or write oas=auto\n" },
        { NULL, ",ssidsize=20", "max", "addresses have 44 bits", true },
        { NULL, ",ssidsize=20,oas=52", "max", "virtual addresses have 48 bits "
          "(IDR5.VAX), and those of the CPUs up to 52, so a Linux that uses "
          "these lets no device use the addresses of a process (SVA); boot it "
          "with arm64.nolva\n", true },
        /* As many as the CPUs; no SubstreamIDs, asked for or not */
        { NULL, ",oas=44", "cortex-a57" },
        { NULL, ",ssidsize=20", "cortex-a57", NULL, true },
        { NULL, ",ssidsize=0", "max" },
        { "profile=minimal", NULL, "max" },
        { NULL, NULL, "max", NULL, true },
    };

    if (host_skipped()) {
        return;
    }
    for (int row = 0; row < ARRAY_SIZE(rows); row++) {
        /* Without TCG "max" is a cortex-a57; nothing runs */
        g_autofree char *cpu = g_strdup_printf("-cpu %s -accel tcg -S",
                                               rows[row].cpu);
        const HostGuestConfig config = {
            .n_vsmmus = 1, .n_psmmus = 1, .n_devs = !rows[row].no_device,
            .host = rows[row].host, .smmu_args = rows[row].smmu,
            .device = rows[row].host ? NULL : device, .args = cpu,
        };
        HostGuest *g = host_guest_new(&config);

        qtest_system_reset(g->qts);
        g_test_message("row %d", row);
        g_assert_cmpuint(host_said(g, "(SVA)"), ==, !!rows[row].hint);
        if (rows[row].hint) {
            g_assert_cmpuint(host_said(g, rows[row].hint), ==, 1);
        }
        host_guest_free(g);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    for (int i = 0; i < ARRAY_SIZE(fault_rows); i++) {
        g_autofree char *path = g_strdup_printf("smmuv3-message/faults/%s",
                                                fault_rows[i].name);

        qtest_add_data_func(path, &fault_rows[i], test_faults);
    }
    qtest_add_data_func("smmuv3-message/pasid-off", ",accel=on,pasid=off",
                        test_no_fault);
    qtest_add_data_func("smmuv3-message/emulated-has",
                        ",ats=off,cmdqv=off,oas=44,pasid=off,ril=on,"
                        "ssidsize=0,share-stage2=off", test_no_fault);
    for (int i = 0; i < ARRAY_SIZE(host_error_rows); i++) {
        g_autofree char *path = g_strdup_printf("smmuv3-message/host/%s",
                                                host_error_rows[i].name);

        qtest_add_data_func(path, &host_error_rows[i], test_host_error);
    }
    qtest_add_func("smmuv3-message/idle", test_idle);
    qtest_add_func("smmuv3-message/sva-hint", test_sva_hint);
    qtest_add_func("smmuv3-message/msi-faults", test_msi_faults);
    qtest_add_func("smmuv3-message/dirty-tracking", test_dirty_tracking);
    qtest_add_func("smmuv3-message/event-queue", test_event_queue);
    qtest_add_func("smmuv3-message/memlock/enough", test_memlock_enough);
    qtest_add_func("smmuv3-message/memlock/low", test_memlock_low);
    qtest_add_func("smmuv3-message/by-fd", test_by_fd);
    return g_test_run();
}
