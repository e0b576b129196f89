/*
 * QTest of accel=on: devices of the guest reach each other's BARs
 * (hw/vfio/dma-file.c, hw/vfio/pci-flr.c)
 *
 * Runs on the host model. One device has a BAR of memory there, in which both
 * the CPU and other devices read and write. RAM that has a file behind it is
 * mapped by the same means.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_mem.h"
#include "standard-headers/linux/virtio_pci.h"
#include "standard-headers/linux/virtio_ring.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define MEMORY      0x10000u            /* bytes of the BAR */
#define ROUNDS      1000
#define WAYS        5                   /* of off_and_on() */
#define CAN_MEMORY  "memory=0x10000\n"
#define PM_D3       3

/* Where the guest has put the BAR of memory of device @dev */
static uint64_t memory_of(HostGuest *g, unsigned dev)
{
    return g->dev[dev].bar + 0x20000;
}

static void place_bar(HostGuest *g, unsigned dev, unsigned bar, uint64_t at)
{
    uint64_t reg = host_device_config(g, dev) + PCI_BASE_ADDRESS_0 + 4 * bar;

    qtest_writel(g->qts, reg, at);
    qtest_writel(g->qts, reg + 4, at >> 32);
}

static void place_memory(HostGuest *g, unsigned dev, uint64_t at)
{
    place_bar(g, dev, 4, at);
}

/* Decoding of the BARs, and with it the rest of the Command register */
static void decode(HostGuest *g, unsigned dev, bool on)
{
    qtest_writew(g->qts, host_device_config(g, dev) + PCI_COMMAND,
                 PCI_COMMAND_MASTER | (on ? PCI_COMMAND_MEMORY : 0));
}

static void set_power(HostGuest *g, unsigned dev, unsigned state)
{
    uint64_t config = host_device_config(g, dev);

    qtest_writew(g->qts, config + PCI_PM_CTRL +
                 host_find_cap(g, config, PCI_CAP_ID_PM), state);
}

/* The guest writes Device Control, with this bit */
static void write_control(HostGuest *g, unsigned dev, uint16_t bit)
{
    uint64_t control = host_device_config(g, dev) + PCI_EXP_DEVCTL +
        host_find_cap(g, host_device_config(g, dev), PCI_CAP_ID_EXP);

    qtest_writew(g->qts, control, qtest_readw(g->qts, control) | bit);
}

/* The guest resets the function, and does nothing else */
static void reset_alone(HostGuest *g, unsigned dev)
{
    write_control(g, dev, PCI_EXP_DEVCTL_BCR_FLR);
}

/* The devices are on the vSMMUs in turn. */
static HostGuest *start(const HostGuestConfig *more, unsigned n_vsmmus,
                        unsigned n_devs)
{
    HostGuestConfig config = *more;
    HostGuest *g;

    config.n_vsmmus = n_vsmmus;
    config.n_psmmus = config.n_psmmus ?: n_vsmmus;
    config.n_devs = n_devs;
    config.device = config.device ?: CAN_MEMORY;
    for (unsigned i = 0; i < n_devs; i++) {
        config.dev[i].vsmmu = config.dev[i].psmmu = i % n_vsmmus;
    }
    g = host_guest_new(&config);
    for (unsigned i = 0; i < n_devs; i++) {
        if (!config.dev[i].hotplug) {
            place_memory(g, i, memory_of(g, i));
        }
    }
    return g;
}

/* @from moves 8 bytes into the BAR of @to, and back; and the CPU sees them */
static void check_reaches(HostGuest *g, unsigned from, uint64_t iova,
                          uint64_t cpu, uint64_t value)
{
    uint64_t seen = 0;

    g_assert_true(host_dma_write64(g, from, iova, value));
    g_assert_cmphex(qtest_readq(g->qts, cpu), ==, value);
    qtest_writeq(g->qts, cpu, ~value);
    g_assert_true(host_dma_read64(g, from, iova, &seen));
    g_assert_cmphex(seen, ==, ~value);
}

static void check_reaches_all(HostGuest *g, unsigned from, unsigned to)
{
    static const unsigned ends[] = { 0, 0xff8, 0x1000, MEMORY - 8 };

    for (unsigned i = 0; i < G_N_ELEMENTS(ends); i++) {
        uint64_t at = memory_of(g, to) + ends[i];

        check_reaches(g, from, at, at, 0x1122334455667700 + i);
    }
    host_check_faults(g, from, memory_of(g, to) + MEMORY);
}

/* The ways in which a function stops to decode, and begins again */

static void off_and_on(HostGuest *g, unsigned dev, unsigned how, uint64_t at)
{
    switch (how) {
    case 0:
        decode(g, dev, false);
        host_check_faults(g, !dev, at);
        decode(g, dev, true);
        break;
    case 1:
        set_power(g, dev, PM_D3);
        host_check_faults(g, !dev, at);
        set_power(g, dev, 0);
        break;
    case 2:
        reset_alone(g, dev);
        break;
    case 3:
        /* Asleep while decoding comes back: not yet */
        decode(g, dev, false);
        set_power(g, dev, PM_D3);
        decode(g, dev, true);
        host_check_faults(g, !dev, at);
        set_power(g, dev, 0);
        break;
    case 4:
        /* The reset wakes it up, too */
        set_power(g, dev, PM_D3);
        host_check_faults(g, !dev, at);
        reset_alone(g, dev);
        break;
    }
}

/* By stage 2 alone */
static void test_bypass(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(&(HostGuestConfig) { }, 1, 2);
    check_reaches_all(g, 0, 1);
    check_reaches_all(g, 1, 0);
    /* Itself, too */
    check_reaches_all(g, 0, 0);
    /* The guest moves the BAR */
    place_memory(g, 1, memory_of(g, 1) + MEMORY);
    host_check_faults(g, 0, memory_of(g, 1));
    check_reaches(g, 0, memory_of(g, 1) + MEMORY, memory_of(g, 1) + MEMORY, 1);
    host_finish(g);
}

/* QEMU keeps the page with the tables of MSI-X: the BAR is in two parts */
static void test_parts(void)
{
    HostGuest *g;
    uint64_t at;

    if (host_skipped()) {
        return;
    }
    g = start(&(HostGuestConfig) { .device = CAN_MEMORY "msix_at=0x4000\n" },
              1, 2);
    at = memory_of(g, 1);
    check_reaches(g, 0, at, at, 1);
    check_reaches(g, 0, at + 0x3ff8, at + 0x3ff8, 2);
    host_check_faults(g, 0, at + 0x4000);
    host_check_faults(g, 0, at + 0x4ff8);
    check_reaches(g, 0, at + 0x5000, at + 0x5000, 3);
    check_reaches(g, 0, at + MEMORY - 8, at + MEMORY - 8, 4);
    reset_alone(g, 1);
    check_reaches(g, 0, at + 0x5000, at + 0x5000, 5);
    host_finish(g);
}

/* A BAR that is smaller than a page is left out, without a word */
static void test_small(void)
{
    g_autofree char *keys = NULL;
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(&(HostGuestConfig) { .dev[1].keys = "memory=0x800\n",
                                   .device = "ats=off\n" }, 1, 2);
    host_check_faults(g, 0, memory_of(g, 1));
    qtest_writeq(g->qts, memory_of(g, 1), 5);
    g_assert_cmphex(qtest_readq(g->qts, memory_of(g, 1)), ==, 5);
    off_and_on(g, 1, 2, memory_of(g, 1));
    host_check_faults(g, 0, memory_of(g, 1));
    host_finish(g);

    /* One page is no less than a page */
    keys = g_strdup_printf("memory=0x%zx\n",
                           (size_t)qemu_real_host_page_size());
    g = start(&(HostGuestConfig) { .dev[1].keys = keys }, 1, 2);
    check_reaches(g, 0, memory_of(g, 1), memory_of(g, 1), 1);
    host_finish(g);
}

/* By a stage 1 of the guest; one SMMU for both devices, or one for each */
static void check_translated(unsigned n_vsmmus)
{
    HostGuest *g = start(&(HostGuestConfig) { }, n_vsmmus, 2);

    for (unsigned from = 0; from < 2; from++) {
        uint64_t at = memory_of(g, !from) + 0x2000;
        uint64_t cd = host_one_page_cd(g, 5 + from, at);

        if (from < n_vsmmus) {
            host_enable(g, from);
        }
        host_set_ste(g, from, STE_S1(cd));
        check_reaches(g, from, HOST_VA, at, 0xabcd);
        /* Only what the guest has mapped */
        host_check_faults(g, from, at);
        host_check_faults(g, from, HOST_VA + 0x1000);
        host_set_ste(g, from, STE_ABORT);
        host_check_faults(g, from, HOST_VA);
        host_set_ste(g, from, STE_BYPASS);
        check_reaches_all(g, from, !from);
    }
    host_finish(g);
}

static void test_translated(void)
{
    if (!host_skipped()) {
        check_translated(1);
        check_translated(2);
    }
}

static void test_revoked(void)
{
    HostGuest *g;
    uint64_t at, made;

    if (host_skipped()) {
        return;
    }
    g = start(&(HostGuestConfig) { .device = CAN_MEMORY "ats=on\n",
                                   .smmu_args = ",ats=on" }, 1, 2);
    at = memory_of(g, 1) + 0x3000;
    host_enable(g, 0);
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 7, at)));
    for (unsigned i = 0; i < ROUNDS; i++) {
        off_and_on(g, 1, i % WAYS, HOST_VA);
        check_reaches(g, 0, HOST_VA, at, 0x5a5a000000000000 + i);
    }
    g_assert_cmpuint(host_counter(g, "dmabuf.revoked"), >=, ROUNDS);
    /* Other writes to the register of the reset map nothing again. */
    made = host_counter(g, "dmabuf.made");
    write_control(g, 1, 0);
    write_control(g, 1, PCI_EXP_DEVCTL_RELAX_EN);
    g_assert_cmpuint(host_counter(g, "dmabuf.made"), ==, made);
    /* What is written to a BAR that is off reaches nothing */
    decode(g, 1, false);
    host_check_faults(g, 0, HOST_VA);
    /* A reset then maps nothing. */
    reset_alone(g, 1);
    host_check_faults(g, 0, HOST_VA);
    decode(g, 1, true);
    check_reaches(g, 0, HOST_VA, at, 1);
    host_finish(g);
}

/* Memory that is another BAR, in place of the registers or of MSI-X's tables */
static void test_bars(void)
{
    static const char *const keys[] = { [0] = CAN_MEMORY "memory_bar=0\n",
        [2] = CAN_MEMORY "memory_bar=2\nmsix_at=0x4000\n" };

    if (host_skipped()) {
        return;
    }
    for (unsigned bar = 0; bar <= 2; bar += 2) {
        HostGuest *g = start(&(HostGuestConfig) { .dev[1].keys = keys[bar],
                                                  .device = "ats=off\n" },
                             1, 2);
        uint64_t at = memory_of(g, 1);

        place_bar(g, 1, bar, at);
        for (unsigned how = 0; how < WAYS; how++) {
            off_and_on(g, 1, how, at);
            check_reaches(g, 0, at, at, how);
            check_reaches(g, 0, at + 0x5000, at + 0x5000, how);
        }
        host_finish(g);
    }
}

/* An ATC must not keep what was revoked, and gets it again */
static void test_atc(void)
{
    HostGuest *g;
    uint64_t at, value;

    if (host_skipped()) {
        return;
    }
    g = start(&(HostGuestConfig) { .device = CAN_MEMORY "ats=on\n",
                                   .smmu_args = ",ats=on" }, 1, 2);
    at = memory_of(g, 1);
    host_enable(g, 0);
    smmu_ste(g, 0, host_sid(g, 0))[1] = 1ull << 28;     /* EATS: full ATS */
    host_set_ste(g, 0, STE_S1(host_one_page_cd(g, 9, at)));
    for (unsigned how = 0; how < WAYS; how++) {
        g_assert_cmphex(host_ats_request(g, 0, HOST_VA, true), ==,
                        HOST_ATS_SUCCESS | HOST_ATS_READ | HOST_ATS_WRITE);
        qtest_writeq(g->qts, at, how);
        g_assert_true(host_ats_read64(g, 0, HOST_VA, &value));
        g_assert_cmphex(value, ==, how);
        off_and_on(g, 1, how, HOST_VA);
        g_assert_cmpuint(host_atc_entries(g, 0), ==, 0);
        g_assert_false(host_ats_read64(g, 0, HOST_VA, &value));
    }
    host_finish(g);
}

static void test_system_reset(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(&(HostGuestConfig) { }, 2, 4);
    for (unsigned i = 0; i < 3; i++) {
        check_reaches_all(g, 0, 1);
        check_reaches_all(g, 3, 2);
        qtest_system_reset(g->qts);
        host_setup_pci(g);
        host_check_faults(g, 0, memory_of(g, 1));
        for (unsigned dev = 0; dev < 4; dev++) {
            place_memory(g, dev, memory_of(g, dev));
        }
    }
    host_finish(g);
}

/* In any order; with one and with two vSMMUs */
static void check_plug(unsigned n_vsmmus)
{
    HostGuestConfig config = { .dev[1].hotplug = true };
    HostGuest *g = start(&config, n_vsmmus, 3);

    for (unsigned i = 0; i < 3; i++) {
        host_check_faults(g, 0, memory_of(g, 0) + 0x100000);
        g_assert_null(host_guest_plug(g, 1));
        place_memory(g, 1, memory_of(g, 1));
        check_reaches_all(g, 0, 1);
        check_reaches_all(g, 1, 0);
        check_reaches_all(g, 2, 1);
        if (i == 1) {
            host_guest_unplug(g, 0);
            host_check_faults(g, 1, memory_of(g, 0));
            check_reaches_all(g, 1, 2);
            g_assert_null(host_guest_plug(g, 0));
            place_memory(g, 0, memory_of(g, 0));
            check_reaches_all(g, 1, 0);
        }
        host_guest_unplug(g, 1);
        host_check_faults(g, 0, memory_of(g, 1));
        check_reaches_all(g, 0, 2);
    }
    host_check_empty(g);
    g_assert_cmpuint(host_counter(g, "dmabuf.made"), ==,
                     host_counter(g, "dmabuf.freed"));
    host_finish(g);
}

static void test_plug(void)
{
    if (!host_skipped()) {
        check_plug(1);
        check_plug(2);
    }
}

/* Hosts that cannot do it: a line for each device, and the reason in it */

#define SAID "cannot reach its BARs (no peer to peer): "

typedef struct Host {
    const char *fail;
    const char *said;                   /* NULL: nothing */
} Host;

static const Host hosts[] = {
    { "VFIO_DEVICE_FEATURE:1+*=ENOTTY", "vfio-pci does since Linux 6.19" },
    { "VFIO_DEVICE_FEATURE:1+*=EOPNOTSUPP", "the device's driver there" },
    { "VFIO_DEVICE_FEATURE:1+*=EINVAL", "does not map a BAR for them" },
    { "VFIO_DEVICE_FEATURE:1+*=ENOMEM", "Cannot allocate memory" },
    { "VFIO_DEVICE_FEATURE:1+*=ENODEV", "No such device" },
    { "IOMMU_IOAS_MAP_FILE:1+*=ENOTTY", "maps no dma-buf of a BAR" },
    { "IOMMU_IOAS_MAP_FILE:1+*=EOPNOTSUPP", "maps no dma-buf of a BAR" },
    { "IOMMU_IOAS_MAP_FILE:1+*=EINVAL", "older than 6.19" },
    { "IOMMU_IOAS_MAP_FILE:1+*=EEXIST", "File exists" },
    { "IOMMU_IOAS_MAP_FILE:1+*=ENODEV", NULL },
};

static void test_old_hosts(void)
{
    if (host_skipped()) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(hosts); i++) {
        const Host *h = &hosts[i];
        HostGuest *g = start(&(HostGuestConfig) { .fail = h->fail }, 2, 2);

        /* The devices work, and so does the CPU's access. */
        host_check_reads(g, 0, host_new_page(g, 0x77), 0x77);
        host_check_faults(g, 0, memory_of(g, 1));
        qtest_writeq(g->qts, memory_of(g, 1), 5);
        g_assert_cmphex(qtest_readq(g->qts, memory_of(g, 1)), ==, 5);
        for (unsigned n = 0; n < WAYS; n++) {
            off_and_on(g, 0, n, memory_of(g, 0));
        }
        g_assert_cmpuint(host_said(g, SAID), ==, h->said ? 2 : 0);
        g_assert_cmpuint(h->said ? host_said(g, h->said) : 2, ==, 2);
        /* What was only for a while is over. */
        qobject_unref(host_control(g, "fail clear"));
        decode(g, 1, false);
        decode(g, 1, true);
        check_reaches_all(g, 0, 1);
        host_finish(g);
    }
}

/* Without mmap() the CPU's accesses go through QEMU, and there is no BAR */
static void test_no_mmap(void)
{
    HostGuest *g;

    if (host_skipped()) {
        return;
    }
    g = start(&(HostGuestConfig) { .dev[1].properties = ",x-no-mmap=on" }, 1,
              2);
    host_check_faults(g, 0, memory_of(g, 1));
    check_reaches_all(g, 1, 0);
    g_assert_cmpuint(host_counter(g, "dmabuf.made"), >, 0);
    host_finish(g);
}

/* RAM is mapped by its address, so that Linux takes its pages by mbind() */
static void test_ram(void)
{
    static const char *const kinds[] = {
        "memfd", "memfd,share=off", "ram", "file,mem-path=/dev/shm,share=on",
        "file,mem-path=/dev/shm,share=off",
    };

    if (host_skipped()) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *args =
            g_strdup_printf("-m 256M,maxmem=1G,slots=2 -device pc-dimm,"
                            "id=dimm,memdev=more -object memory-backend-%s,"
                            "id=more,size=64M", kinds[i]);
        HostGuest *g = start(&(HostGuestConfig) {
            .args = args, .device = "ats=off\n" }, 1, 1);

        g_assert_cmpuint(host_counter(g, "ioas.files"), ==, 0);
        host_check_reads(g, 0, host_new_page(g, 0x99), 0x99);
        host_finish(g);
    }
}

/*
 * The bytes themselves: RAM whose file begins elsewhere, and virtio-mem, whose
 * blocks are mapped one by one.  There is no SMMU.
 */

#define DIMM        0x80000000ull
#define DIMM_SIZE   (64 * MiB)
/* Of the DIMM in its file, which is sparse: above 4 GiB */
#define FILE_OFFSET (4 * GiB + PART)
#define PART        (2 * MiB)
#define BLOCKS      0x90000000ull       /* of virtio-mem */
#define BLOCK       (2 * MiB)
#define VMEM_SLOT   4
#define VMEM_CONFIG (VIRT_ECAM_BASE + (VMEM_SLOT << 15))
#define VMEM_BAR    (VIRT_PCIE_MMIO_BASE + 0x9000000)

/* A file of @size bytes of shmem, open; its path must be unlinked */
static int shm_file(char *path, uint64_t size)
{
    int fd = g_mkstemp(path);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, size), ==, 0);
    return fd;
}

static HostGuest *start_without_smmu(const char *args)
{
    return host_guest_new(&(HostGuestConfig) {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .no_smmu = true,
        .args = args,
    });
}

/* A driver of virtio-mem: one queue of two descriptors, and one request */
typedef struct Vmem {
    struct vring_desc desc[2];
    struct vring_avail avail;
    uint16_t ring[2];
    struct vring_used used QEMU_ALIGNED(8);
    struct vring_used_elem used_ring[2];
    struct virtio_mem_req req;
    struct virtio_mem_resp resp;
} Vmem;

static uint64_t vmem_part(HostGuest *g, unsigned type)
{
    unsigned at = qtest_readb(g->qts, VMEM_CONFIG + PCI_CAPABILITY_LIST);

    while (qtest_readb(g->qts, VMEM_CONFIG + at) != PCI_CAP_ID_VNDR ||
           qtest_readb(g->qts, VMEM_CONFIG + at + VIRTIO_PCI_CAP_CFG_TYPE) !=
           type) {
        at = qtest_readb(g->qts, VMEM_CONFIG + at + PCI_CAP_LIST_NEXT);
        g_assert_cmpuint(at, !=, 0);
    }
    return VMEM_BAR + qtest_readl(g->qts, VMEM_CONFIG + at +
                                  VIRTIO_PCI_CAP_OFFSET);
}

/* Returns: the guest-physical address of its Vmem */
static uint64_t vmem_begin(HostGuest *g)
{
    uint64_t at = host_alloc(g, 4096), common;
    unsigned status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

    qtest_writel(g->qts, VMEM_CONFIG + PCI_BASE_ADDRESS_4, VMEM_BAR);
    qtest_writel(g->qts, VMEM_CONFIG + PCI_BASE_ADDRESS_5, 0);
    qtest_writew(g->qts, VMEM_CONFIG + PCI_COMMAND,
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    common = vmem_part(g, VIRTIO_PCI_CAP_COMMON_CFG);
    qtest_writeb(g->qts, common + VIRTIO_PCI_COMMON_STATUS, status);
    qtest_writel(g->qts, common + VIRTIO_PCI_COMMON_GFSELECT, 0);
    qtest_writel(g->qts, common + VIRTIO_PCI_COMMON_GF,
                 1u << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);
    qtest_writel(g->qts, common + VIRTIO_PCI_COMMON_GFSELECT, 1);
    qtest_writel(g->qts, common + VIRTIO_PCI_COMMON_GF,
                 1u << (VIRTIO_F_VERSION_1 - 32));
    status |= VIRTIO_CONFIG_S_FEATURES_OK;
    qtest_writeb(g->qts, common + VIRTIO_PCI_COMMON_STATUS, status);
    qtest_writew(g->qts, common + VIRTIO_PCI_COMMON_Q_SELECT, 0);
    qtest_writew(g->qts, common + VIRTIO_PCI_COMMON_Q_SIZE, 2);
    qtest_writel(g->qts, common + VIRTIO_PCI_COMMON_Q_DESCLO,
                 at + offsetof(Vmem, desc));
    qtest_writel(g->qts, common + VIRTIO_PCI_COMMON_Q_AVAILLO,
                 at + offsetof(Vmem, avail));
    qtest_writel(g->qts, common + VIRTIO_PCI_COMMON_Q_USEDLO,
                 at + offsetof(Vmem, used));
    qtest_writew(g->qts, common + VIRTIO_PCI_COMMON_Q_ENABLE, 1);
    qtest_writeb(g->qts, common + VIRTIO_PCI_COMMON_STATUS,
                 status | VIRTIO_CONFIG_S_DRIVER_OK);
    return at;
}

/* Plug or unplug @count blocks from block @n on */
static void vmem_request(HostGuest *g, uint64_t at, unsigned type, unsigned n,
                         unsigned count)
{
    Vmem *v = host_ram(g, at);
    uint16_t idx = le16_to_cpu(v->avail.idx) + 1;

    v->req.type = cpu_to_le16(type);
    v->req.u.plug.addr = cpu_to_le64(BLOCKS + n * BLOCK);
    v->req.u.plug.nb_blocks = cpu_to_le16(count);
    v->resp.type = cpu_to_le16(VIRTIO_MEM_RESP_ERROR);
    v->desc[0] = (struct vring_desc) {
        cpu_to_le64(at + offsetof(Vmem, req)), cpu_to_le32(sizeof(v->req)),
        cpu_to_le16(VRING_DESC_F_NEXT), cpu_to_le16(1),
    };
    v->desc[1] = (struct vring_desc) {
        cpu_to_le64(at + offsetof(Vmem, resp)), cpu_to_le32(sizeof(v->resp)),
        cpu_to_le16(VRING_DESC_F_WRITE),
    };
    qatomic_set(&v->avail.idx, cpu_to_le16(idx));
    qtest_writew(g->qts, vmem_part(g, VIRTIO_PCI_CAP_NOTIFY_CFG), 0);
    for (int i = 0; qatomic_read(&v->used.idx) != cpu_to_le16(idx); i++) {
        g_assert_cmpint(i, <, 100000);
        g_usleep(100);
    }
    g_assert_cmphex(le16_to_cpu(v->resp.type), ==, VIRTIO_MEM_RESP_ACK);
}

/* What the CPU writes the device reads at the same address, and vice versa */
static void check_ram(HostGuest *g, const uint64_t *at, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        qtest_writeq(g->qts, at[i], 0xabc000 + i);
    }
    for (unsigned i = 0; i < n; i++) {
        host_check_reads(g, 0, at[i], 0xabc000 + i);
    }
    for (unsigned i = 0; i < n; i++) {
        g_assert_true(host_dma_write64(g, 0, at[i], 0xdef000 + i));
    }
    for (unsigned i = 0; i < n; i++) {
        g_assert_cmphex(qtest_readq(g->qts, at[i]), ==, 0xdef000 + i);
    }
}

static void check_ram_bytes(const char *kind)
{
    static const uint64_t at[] = {
        DIMM, DIMM + 0x1000, DIMM + PART, DIMM + DIMM_SIZE - 8,
        BLOCKS, BLOCKS + BLOCK - 8, BLOCKS + 3 * BLOCK, BLOCKS + 30 * BLOCK,
        BLOCKS + 31 * BLOCK + 0x1000, BLOCKS + 32 * BLOCK - 8,
    };
    char path[] = "/dev/shm/smmuv3-peer-XXXXXX";
    int fd = shm_file(path, FILE_OFFSET + DIMM_SIZE);
    g_autofree char *args = g_strdup_printf(
        "-m 256M,maxmem=2G,slots=2 -object memory-backend-file,id=m0,share=on,"
        "size=64M,mem-path=%s,offset=%" PRId64 " -device pc-dimm,memdev=m0,"
        "addr=0x%llx -object memory-backend-%s,id=m1,size=64M "
        "-device virtio-mem-pci,bus=pcie.0,addr=%u,memdev=m1,block-size=2M,"
        "memaddr=0x%llx,requested-size=64M",
        path, FILE_OFFSET, DIMM, kind, VMEM_SLOT, BLOCKS);
    HostGuest *g = start_without_smmu(args);
    uint64_t vmem = vmem_begin(g), value = 0;

    unlink(path);
    vmem_request(g, vmem, VIRTIO_MEM_REQ_PLUG, 30, 2);
    vmem_request(g, vmem, VIRTIO_MEM_REQ_PLUG, 0, 1);
    vmem_request(g, vmem, VIRTIO_MEM_REQ_PLUG, 3, 1);
    check_ram(g, at, G_N_ELEMENTS(at));
    g_assert_cmpint(pread(fd, &value, 8, FILE_OFFSET), ==, 8);
    g_assert_cmphex(le64_to_cpu(value), ==, 0xdef000);
    host_check_faults(g, 0, BLOCKS + BLOCK);
    vmem_request(g, vmem, VIRTIO_MEM_REQ_UNPLUG, 3, 1);
    host_check_faults(g, 0, BLOCKS + 3 * BLOCK);
    check_ram(g, at, 6);
    host_finish(g);
    close(fd);
}

static void test_ram_bytes(void)
{
    if (!host_skipped()) {
        check_ram_bytes("memfd");
        check_ram_bytes("ram");
    }
}

/* No device writes to what the guest cannot write to */
static void test_readonly(void)
{
    char path[] = "/dev/shm/smmuv3-peer-XXXXXX";
    const uint64_t tag = 0x600df00d12345678;
    g_autofree char *args = NULL;
    uint64_t value = 0;
    HostGuest *g;
    int fd;

    if (host_skipped()) {
        return;
    }
    fd = shm_file(path, DIMM_SIZE);
    g_assert_cmpint(pwrite(fd, &tag, 8, 0x3000), ==, 8);
    args = g_strdup_printf("-machine nvdimm=on -m 256M,maxmem=2G,slots=2 "
                           "-object memory-backend-file,id=m0,size=64M,"
                           "share=on,readonly=on,mem-path=%s -device nvdimm,"
                           "memdev=m0,unarmed=on,addr=0x%llx", path, DIMM);
    g = start_without_smmu(args);
    unlink(path);
    host_check_reads(g, 0, DIMM + 0x3000, tag);
    g_assert_false(host_dma_write64(g, 0, DIMM + 0x3000, ~tag));
    g_assert_cmpint(pread(fd, &value, 8, 0x3000), ==, 8);
    g_assert_cmphex(value, ==, tag);
    host_finish(g);
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/smmuv3/peer/bypass", test_bypass);
    qtest_add_func("/smmuv3/peer/parts", test_parts);
    qtest_add_func("/smmuv3/peer/small", test_small);
    qtest_add_func("/smmuv3/peer/translated", test_translated);
    qtest_add_func("/smmuv3/peer/revoked", test_revoked);
    qtest_add_func("/smmuv3/peer/bars", test_bars);
    qtest_add_func("/smmuv3/peer/atc", test_atc);
    qtest_add_func("/smmuv3/peer/system-reset", test_system_reset);
    qtest_add_func("/smmuv3/peer/plug", test_plug);
    qtest_add_func("/smmuv3/peer/old-hosts", test_old_hosts);
    qtest_add_func("/smmuv3/peer/no-mmap", test_no_mmap);
    qtest_add_func("/smmuv3/peer/ram", test_ram);
    qtest_add_func("/smmuv3/peer/ram-bytes", test_ram_bytes);
    qtest_add_func("/smmuv3/peer/readonly", test_readonly);
    return g_test_run();
}
