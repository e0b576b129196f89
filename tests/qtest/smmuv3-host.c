/*
 * What the accel=on qtests on the host model share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/units.h"
#include "qemu/bswap.h"
#include "qemu/bitops.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_regs.h"
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"
#include "../host-model/dma.h"

/* The fd of a device that is plugged at start; others come from the model */
#define HOST_FD(dev)            (100 + (dev))
#define HOST_IOMMUFD            90

/* Root complexes have bus numbers for all devices that a test has */
#define PXB_BUSES(g)            ((g)->config.n_vsmmus <= 4 ? 0x50 : 0x14)
#define PXB_BUS(g, vsmmu)       (PXB_BUSES(g) * (vsmmu))
#define PORT_DEVFN(dev)         (0x80 + (dev))
#define PORT_WINDOW(dev)        (VIRT_PCIE_MMIO_BASE + (dev) * 0x100000)
#define FUNCTION_WINDOW         0x20000
#define SMMU_STRIDE             0x20000

bool host_model_available(void)
{
    return getenv("QTEST_HOST_MODEL") != NULL;
}

/*
 * Memory
 */

void *host_ram(HostGuest *g, uint64_t gpa)
{
    g_assert_cmphex(gpa, >=, HOST_RAM_BASE);
    g_assert_cmphex(gpa, <, HOST_RAM_BASE + HOST_RAM_SIZE);
    return g->ram + (gpa - HOST_RAM_BASE);
}

uint64_t host_alloc(HostGuest *g, uint64_t size)
{
    uint64_t gpa = ROUND_UP(g->free_ram, size);

    g->free_ram = gpa + size;
    g_assert_cmphex(g->free_ram, <=, HOST_RAM_BASE + HOST_RAM_SIZE);
    return gpa;
}

static void map_ram(HostGuest *g, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, HOST_RAM_SIZE), ==, 0);
    g->ram = mmap(NULL, HOST_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                  fd, 0);
    g_assert(g->ram != MAP_FAILED);
    close(fd);
    /* The first MiB is for the firmware and the machine */
    g->free_ram = HOST_RAM_BASE + 1 * MiB;
}

/*
 * What QEMU writes to stderr
 */

/* These come whatever a test does */
static const char *const harmless[] = {
    /* Sanitizers, in each program with coroutines that jump between stacks */
    "ASan doesn't fully support makecontext/swapcontext",
};

typedef struct Pattern {
    const char *part;
    bool must;
} Pattern;

void host_expect(HostGuest *g, const char *part)
{
    g_array_append_val(g->patterns, ((Pattern) { part, true }));
}

void host_allow(HostGuest *g, const char *part)
{
    g_array_append_val(g->patterns, ((Pattern) { part, false }));
}

char *host_said_text(HostGuest *g)
{
    struct stat st;
    char *text;

    g_assert_cmpint(fstat(g->said, &st), ==, 0);
    text = g_malloc0(st.st_size + 1);
    g_assert_cmpint(pread(g->said, text, st.st_size, 0), ==, st.st_size);
    return text;
}

unsigned host_said(HostGuest *g, const char *part)
{
    g_autofree char *text = host_said_text(g);
    unsigned n = 0;

    for (char *p = text; (p = strstr(p, part)); p++) {
        n++;
    }
    if (n) {
        host_allow(g, part);
    }
    return n;
}

static bool may_say(HostGuest *g, const char *line)
{
    for (int i = 0; i < ARRAY_SIZE(harmless); i++) {
        if (strstr(line, harmless[i])) {
            return true;
        }
    }
    for (int i = 0; i < g->patterns->len; i++) {
        if (strstr(line, g_array_index(g->patterns, Pattern, i).part)) {
            return true;
        }
    }
    return !*line;
}

void host_check_said(HostGuest *g)
{
    g_autofree char *text = host_said_text(g);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (int i = 0; lines[i]; i++) {
        if (!may_say(g, lines[i])) {
            g_error("QEMU writes what the test does not expect: %s", lines[i]);
        }
    }
    for (int i = 0; i < g->patterns->len; i++) {
        Pattern *pattern = &g_array_index(g->patterns, Pattern, i);

        if (pattern->must && !strstr(text, pattern->part)) {
            g_error("QEMU does not write: %s", pattern->part);
        }
    }
}

/* A test that fails shows it */
static void show_said(void *opaque)
{
    g_autofree char *text = host_said_text(opaque);

    fputs(text, stderr);
}

/* g_error() ends with this, and libqtest tidies up after an abort() only */
static void trap(int signal)
{
    abort();
}

static void open_said(HostGuest *g, const char *path)
{
    g->said = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    g_assert_cmpint(g->said, >, 0);
    g->patterns = g_array_new(false, false, sizeof(Pattern));
    sigaction(SIGTRAP, &(struct sigaction) { .sa_handler = trap }, NULL);
    qtest_add_abrt_handler(show_said, g);
}

static void close_said(HostGuest *g)
{
    host_check_said(g);
    qtest_remove_abrt_handler(g);
    g_array_free(g->patterns, true);
    close(g->said);
}

/* In milliseconds, mostly a multiple of 10 */
static unsigned cpu_time(HostGuest *g)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat",
                                            (int)qtest_pid(g->qts));
    g_autofree char *text = NULL;
    unsigned user, system;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    /* Behind the name, which may hold anything: utime and stime */
    g_assert_cmpint(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u"
                           " %*u %*u %*u %*u %u %u", &user, &system), ==, 2);
    return (user + system) * 1000 / sysconf(_SC_CLK_TCK);
}

void host_check_rests(HostGuest *g)
{
    unsigned before = cpu_time(g);

    g_usleep(1000 * 1000);
    g_assert_cmpuint(cpu_time(g) - before, <, 100);
}

/*
 * PCI, through ECAM
 */

static uint64_t ecam(unsigned bus, unsigned devfn, unsigned offset)
{
    return VIRT_ECAM_BASE | bus << 20 | devfn << 12 | offset;
}

/* Function 0 of the slot of @dev, and whether @other is in that slot */
static unsigned slot_of(HostGuest *g, unsigned dev)
{
    while (g->config.dev[dev].function) {
        dev--;
    }
    return dev;
}

static bool in_slot(HostGuest *g, unsigned dev, unsigned other)
{
    return other < g->config.n_devs && slot_of(g, dev) == slot_of(g, other);
}

uint64_t host_port_config(HostGuest *g, unsigned dev)
{
    HostDevice *d = &g->dev[slot_of(g, dev)];

    return ecam(d->port_bus, d->port_devfn, 0);
}

static void port_write16(HostGuest *g, unsigned dev, unsigned reg, uint16_t v)
{
    qtest_writew(g->qts, host_port_config(g, dev) + reg, v);
}

uint64_t host_device_config(HostGuest *g, unsigned dev)
{
    return ecam(g->dev[dev].bus, g->dev[dev].devfn, 0);
}

static uint64_t device_config(HostGuest *g, unsigned dev, unsigned reg)
{
    return ecam(g->dev[dev].bus, g->dev[dev].devfn, reg);
}

uint32_t host_sid(HostGuest *g, unsigned dev)
{
    return g->dev[dev].bus << 8 | g->dev[dev].devfn;
}

/* The bridge at @config gets secondary bus @bus and subordinate bus @last */
static void set_buses(HostGuest *g, uint64_t config, unsigned bus,
                      unsigned last)
{
    qtest_writeb(g->qts, config + PCI_SECONDARY_BUS, bus);
    qtest_writeb(g->qts, config + PCI_SUBORDINATE_BUS, last);
}

void host_set_bus(HostGuest *g, unsigned dev, unsigned bus)
{
    set_buses(g, host_port_config(g, dev), bus, bus);
    for (unsigned n = slot_of(g, dev); in_slot(g, dev, n); n++) {
        g->dev[n].bus = bus;
    }
}

/* Open the window of the bridge at @config for the BARs of @dev to @last */
static void open_windows(HostGuest *g, uint64_t config, unsigned dev,
                         unsigned last)
{
    qtest_writew(g->qts, config + PCI_MEMORY_BASE, PORT_WINDOW(dev) >> 16);
    qtest_writew(g->qts, config + PCI_MEMORY_LIMIT, PORT_WINDOW(last) >> 16);
    qtest_writew(g->qts, config + PCI_COMMAND,
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void open_window(HostGuest *g, uint64_t config, unsigned dev)
{
    open_windows(g, config, dev, dev);
}

static unsigned root_bus(HostGuest *g, unsigned dev)
{
    return PXB_BUS(g, g->dev[dev].vsmmu);
}

void host_setup_port(HostGuest *g, unsigned dev)
{
    qtest_writeb(g->qts, host_port_config(g, dev) + PCI_PRIMARY_BUS,
                 g->dev[dev].port_bus);
    host_set_bus(g, dev, g->dev[dev].port_bus + dev + 1);
    open_window(g, host_port_config(g, dev), dev);
}

void host_set_switch(HostGuest *g, unsigned dev, unsigned bus)
{
    uint64_t root_port = ecam(root_bus(g, dev), PORT_DEVFN(dev), 0);
    unsigned last = dev, number = bus + 2;

    while (last + 1 < g->config.n_devs && g->config.dev[last + 1].beside) {
        last++;
    }
    set_buses(g, root_port, bus, bus + 2 + last - dev);
    open_windows(g, root_port, dev, last);
    set_buses(g, ecam(bus, 0, 0), bus + 1, bus + 2 + last - dev);
    open_windows(g, ecam(bus, 0, 0), dev, last);
    for (unsigned n = dev; n <= last; n++) {
        g->dev[n].port_bus = bus + 1;
        g->dev[n].port_devfn = PCI_DEVFN(n - dev, 0);
        host_set_bus(g, n, number++);
        open_window(g, host_port_config(g, n), n);
    }
}

void host_setup_device(HostGuest *g, unsigned dev)
{
    HostDevice *d = &g->dev[dev];

    d->bar = PORT_WINDOW(slot_of(g, dev)) +
             g->config.dev[dev].function * FUNCTION_WINDOW;
    qtest_writel(g->qts, device_config(g, dev, PCI_BASE_ADDRESS_0), d->bar);
    qtest_writel(g->qts, device_config(g, dev, PCI_BASE_ADDRESS_1), 0);
    qtest_writel(g->qts, device_config(g, dev, PCI_BASE_ADDRESS_2),
                 d->bar + 0x10000);
    qtest_writel(g->qts, device_config(g, dev, PCI_BASE_ADDRESS_3), 0);
    qtest_writew(g->qts, device_config(g, dev, PCI_COMMAND),
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

unsigned host_look_for_cap(HostGuest *g, uint64_t config, unsigned id)
{
    unsigned at = qtest_readb(g->qts, config + PCI_CAPABILITY_LIST);

    /* A list is not longer, unless reads of it fail */
    for (int n = 0; at && n < 48; n++) {
        if (qtest_readb(g->qts, config + at) == id) {
            return at;
        }
        at = qtest_readb(g->qts, config + at + 1);
    }
    return 0;
}

unsigned host_find_cap(HostGuest *g, uint64_t config, unsigned id)
{
    unsigned at = host_look_for_cap(g, config, id);

    g_assert_cmpuint(at, !=, 0);
    return at;
}

void host_slot_power(HostGuest *g, unsigned dev, bool on)
{
    unsigned cap = host_find_cap(g, host_port_config(g, dev), PCI_CAP_ID_EXP);

    port_write16(g, dev, cap + PCI_EXP_SLTCTL,
                 on ? PCI_EXP_SLTCTL_PWR_IND_ON
                    : PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_PCC);
}

static void setup_slot(HostGuest *g, unsigned dev)
{
    for (unsigned n = slot_of(g, dev); in_slot(g, dev, n); n++) {
        if (g->dev[n].present) {
            host_setup_device(g, n);
        }
    }
}

void host_bus_reset(HostGuest *g, unsigned dev)
{
    port_write16(g, dev, PCI_BRIDGE_CONTROL, PCI_BRIDGE_CTL_BUS_RESET);
    port_write16(g, dev, PCI_BRIDGE_CONTROL, 0);
    setup_slot(g, dev);
}

void host_switch_reset(HostGuest *g, unsigned dev)
{
    uint64_t control = ecam(root_bus(g, dev), PORT_DEVFN(dev),
                            PCI_BRIDGE_CONTROL);

    qtest_writew(g->qts, control, PCI_BRIDGE_CTL_BUS_RESET);
    qtest_writew(g->qts, control, 0);
    g->dev[dev].bus = 0;
}

uint64_t host_slot_control(HostGuest *g, unsigned dev)
{
    uint64_t config = host_port_config(g, dev);

    return config + host_find_cap(g, config, PCI_CAP_ID_EXP) + PCI_EXP_SLTCTL;
}

uint32_t host_slot_off(HostGuest *g, unsigned dev)
{
    return PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_PCC;
}

uint32_t host_port_sid(HostGuest *g)
{
    return g->dev[0].port_bus << 8 | g->dev[0].port_devfn;
}

void host_enable_msix(HostGuest *g, unsigned dev, uint64_t to)
{
    host_enable_msix_data(g, dev, to, 0);
}

void host_enable_msix_data(HostGuest *g, unsigned dev, uint64_t to,
                           uint32_t data)
{
    uint64_t config = host_device_config(g, dev);
    unsigned cap = host_find_cap(g, config, PCI_CAP_ID_MSIX);
    uint32_t where = qtest_readl(g->qts, config + cap + PCI_MSIX_TABLE);
    uint64_t table = g->dev[dev].bar + 0x10000 +
                     (where & PCI_MSIX_TABLE_OFFSET);

    /* Which is 64 KiB behind BAR 0 */
    g_assert_cmphex(where & PCI_MSIX_TABLE_BIR, ==, 2);
    qtest_writeq(g->qts, table + PCI_MSIX_ENTRY_LOWER_ADDR, to);
    qtest_writel(g->qts, table + PCI_MSIX_ENTRY_DATA, data);
    qtest_writel(g->qts, table + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
    qtest_writew(g->qts, config + cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);
}

bool host_msi_arrives(HostGuest *g, unsigned dev)
{
    uint64_t arrived = host_counter(g, "msi.delivered");
    uint64_t lost = host_counter(g, "msi.lost");

    qobject_unref(host_control(g, "msix dma%u 0", dev));
    arrived = host_counter(g, "msi.delivered") - arrived;
    lost = host_counter(g, "msi.lost") - lost;
    g_assert_cmpuint(arrived + lost, ==, 1);
    return arrived;
}

/*
 * The distributor of the machine's GIC with accel=on (virt-msi-doorbell.c), and
 * its registers (GICv3, IHI 0069 12.9)
 */
#define GICD            0x08080000ull
#define GICD_ISPENDR    (GICD + 0x200)
#define GICD_ICPENDR    (GICD + 0x280)
#define GICD_ICFGR      (GICD + 0xc00)

void host_set_edge(HostGuest *g, unsigned gsiv)
{
    uint64_t icfgr = GICD_ICFGR + gsiv / 16 * 4;

    qtest_writel(g->qts, icfgr, qtest_readl(g->qts, icfgr) |
                                2u << (gsiv % 16 * 2));
}

bool host_take_irq(HostGuest *g, unsigned gsiv)
{
    uint32_t bit = 1u << (gsiv % 32);
    bool pending = qtest_readl(g->qts, GICD_ISPENDR + gsiv / 32 * 4) & bit;

    /* One that comes just now is for the next call */
    if (pending) {
        qtest_writel(g->qts, GICD_ICPENDR + gsiv / 32 * 4, bit);
    }
    return pending;
}

void host_enable_port_msi(HostGuest *g, uint64_t to)
{
    uint64_t table = VIRT_PCIE_MMIO_BASE + 0x8000000;
    uint64_t port = host_port_config(g, 0);

    qtest_writel(g->qts, port + PCI_BASE_ADDRESS_0, table);
    qtest_writeq(g->qts, table + PCI_MSIX_ENTRY_LOWER_ADDR, to);
    qtest_writel(g->qts, table + PCI_MSIX_ENTRY_DATA, 0xabcd);
    qtest_writel(g->qts, table + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
    qtest_writew(g->qts, port + host_find_cap(g, port, PCI_CAP_ID_MSIX) +
                 PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);
}

void host_signal_port(HostGuest *g)
{
    uint64_t status = host_slot_control(g, 0) + PCI_EXP_SLTSTA -
                      PCI_EXP_SLTCTL;

    qtest_writew(g->qts, status, PCI_EXP_SLTSTA_ABP);
    qtest_writew(g->qts, host_slot_control(g, 0),
                 PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_HPIE);
    qtest_qmp_assert_success(g->qts, "{'execute': 'device_del',"
                             " 'arguments': {'id': 'dev0'}}");
    qtest_writew(g->qts, status, PCI_EXP_SLTSTA_ABP);
}

uint32_t *host_map_port_msi(HostGuest *g, unsigned asid, uint64_t **pte)
{
    uint64_t page = host_new_page(g, 0), root = host_alloc(g, 4096);
    uint64_t cd = host_alloc(g, 64);
    uint32_t *target = host_ram(g, page);

    *pte = host_pte(g, root, 12, 25, HOST_VA, 3, true);
    **pte = cpu_to_le64(host_leaf(3, page, PTE_DATA));
    host_write_cd(g, cd, &(HostCd) {
        .asid = asid, .ttb = { root }, .txsz = { 25 }, .granule_shift = 12,
    });
    *smmu_ste(g, 0, host_port_sid(g)) = cpu_to_le64(STE_S1(cd));
    smmu_cmd(g, 0, CMD_CFGI_STE(host_port_sid(g)));
    smmu_sync_ok(g, 0);

    host_enable_port_msi(g, HOST_VA);
    host_signal_port(g);
    g_assert_cmphex(le32_to_cpu(qatomic_xchg(target, 0)), ==, 0xabcd);
    return target;
}

void host_turn_slot_off(HostGuest *g)
{
    qtest_writew(g->qts, host_slot_control(g, 0),
                 host_slot_off(g, 0) | PCI_EXP_SLTCTL_PDCE |
                 PCI_EXP_SLTCTL_HPIE);
    for (int i = 0; host_objects(g, "device"); i++) {
        g_assert_cmpint(i, <, 20000);
        g_usleep(100);
    }
}

void host_flr(HostGuest *g, unsigned dev)
{
    unsigned cap = host_find_cap(g, device_config(g, dev, 0), PCI_CAP_ID_EXP);

    qtest_writew(g->qts, device_config(g, dev, cap + PCI_EXP_DEVCTL),
                 PCI_EXP_DEVCTL_BCR_FLR);
    host_setup_device(g, dev);
}

static bool is_one_of_several(HostGuest *g, unsigned dev)
{
    return g->config.dev[dev].function || in_slot(g, dev, dev + 1);
}

char *host_guest_plug(HostGuest *g, unsigned dev)
{
    return host_guest_plug_other(g, dev, dev);
}

/* The human monitor takes the properties as a command line has them */
static char *plug_by_hmp(HostGuest *g, unsigned dev, const char *fd)
{
    char *error = qtest_hmp(g->qts, "device_add vfio-pci,id=dev%u,bus=rp%u,"
                            "fd=%s,iommufd=iommufd0%s", dev, dev, fd,
                            g->config.dev[dev].properties);

    if (*error) {
        return error;
    }
    g_free(error);
    return NULL;
}

char *host_guest_plug_other(HostGuest *g, unsigned dev, unsigned model)
{
    HostDevice *d = &g->dev[dev];
    QDict *answer = host_control(g, "open dma%u", model);
    g_autofree char *id = g_strdup_printf("dev%u", dev);
    g_autofree char *bus = g_strdup_printf("rp%u", slot_of(g, dev));
    g_autofree char *addr = g_strdup_printf("0.%u",
                                            g->config.dev[dev].function);
    g_autofree char *fd = g_strdup_printf("%d",
                                          (int)qdict_get_int(answer, "fd"));
    char *error = NULL;

    if (g->config.dev[dev].properties) {
        error = plug_by_hmp(g, dev, fd);
    } else {
        QDict *rsp = qtest_qmp(g->qts, "{'execute': 'device_add', 'arguments': "
                               "{'driver': 'vfio-pci', 'id': %s, 'bus': %s, "
                               "'addr': %s, 'multifunction': %i, 'fd': %s, "
                               "'iommufd': 'iommufd0'}}", id, bus, addr,
                               is_one_of_several(g, dev), fd);

        if (qdict_haskey(rsp, "error")) {
            error = g_strdup(qdict_get_str(qdict_get_qdict(rsp, "error"),
                                           "desc"));
        }
        qobject_unref(rsp);
    }
    if (!error) {
        d->present = true;
        host_slot_power(g, dev, true);
        if (g->dev[slot_of(g, dev)].present) {
            setup_slot(g, dev);
        }
    }
    qobject_unref(answer);
    return error;
}

void host_guest_unplug(HostGuest *g, unsigned dev)
{
    g_autofree char *id = g_strdup_printf("dev%u", dev);

    qtest_qmp_assert_success(g->qts, "{'execute': 'device_del', 'arguments': "
                             "{'id': %s}}", id);
    host_power_off(g, dev);
}

void host_power_off(HostGuest *g, unsigned dev)
{
    host_slot_power(g, dev, false);
    for (unsigned n = slot_of(g, dev); in_slot(g, dev, n); n++) {
        /* @dev is there, even if its plug came with a warning */
        if (n == dev || g->dev[n].present) {
            qobject_unref(host_wait_for_event(g, "DEVICE_DELETED"));
            g->dev[n].present = false;
        }
    }
}

void host_request(HostGuest *g, unsigned dev, unsigned model)
{
    uint64_t status = host_slot_control(g, dev) + PCI_EXP_SLTSTA -
                      PCI_EXP_SLTCTL;
    QDict *answer;

    qtest_writew(g->qts, status, PCI_EXP_SLTSTA_ABP);
    answer = host_control(g, "request dma%u", model);
    g_assert_cmpint(qdict_get_int(answer, "ret"), ==, 0);
    qobject_unref(answer);
    for (int n = 0; !(qtest_readw(g->qts, status) & PCI_EXP_SLTSTA_ABP); n++) {
        g_assert_cmpint(n, <, 10000);
        g_usleep(100);
    }
}

/*
 * Start and end
 */

static void write_host_file(HostGuest *g, const char *path)
{
    const HostGuestConfig *c = &g->config;
    g_autoptr(GString) ini = g_string_new(NULL);

    for (unsigned i = 0; i < c->n_psmmus; i++) {
        const char *host = c->last_host && i + 1 == c->n_psmmus ? c->last_host
                                                                : c->host;

        if (i < HOST_MAX_PSMMUS && c->each_host[i]) {
            host = c->each_host[i];
        }
        g_string_append_printf(ini, "[smmu smmu%u]\n%s\n", i,
                               host ? host : "profile=grace");
    }
    for (unsigned i = 0; i < c->n_devs; i++) {
        g_string_append_printf(ini, "[device dma%u]\nkind=dma\nsmmu=smmu%u\n"
                               "sid=0x%x\n%s\n%s\n", i, c->dev[i].psmmu,
                               0x1000 + i * 0x100, c->device ? c->device : "",
                               c->dev[i].keys ? c->dev[i].keys : "");
        if (!c->dev[i].hotplug) {
            g_string_append_printf(ini, "fds=%u\n", HOST_FD(i));
        }
    }
    if (c->iommufd_by_fd) {
        g_string_append_printf(ini, "[iommufd]\nfds=%u\n", HOST_IOMMUFD);
    }
    g_assert(g_file_set_contents(path, ini->str, ini->len, NULL));
}

/* Guest memory in a file, for a machine with memory-backend=ram */
static char *ram_argument(const char *path)
{
    return g_strdup_printf("-bios %s -object memory-backend-file,id=ram,"
                           "size=%" PRIu64 ",mem-path=%s,share=on",
                           smmuv3_firmware(), (uint64_t)HOST_RAM_SIZE, path);
}

/* The same for a machine with a node for each half */
static char *numa_argument(const char *path)
{
    uint64_t half = HOST_RAM_SIZE / 2;
    GString *args = g_string_new(NULL);

    g_string_append_printf(args, "-bios %s -m %" PRIu64 "M ",
                           smmuv3_firmware(), (uint64_t)(HOST_RAM_SIZE / MiB));
    for (unsigned n = 0; n < 2; n++) {
        g_string_append_printf(args, "-object memory-backend-file,id=ram%u,"
                               "size=%" PRIu64 ",offset=%" PRIu64
                               ",mem-path=%s,share=on -numa node,memdev=ram%u ",
                               n, half, n * half, path, n);
    }
    return g_string_free(args, FALSE);
}

static const char *properties(HostGuest *g, unsigned dev)
{
    return g->config.dev[dev].properties ? g->config.dev[dev].properties : "";
}

/* The switch that device @i is below, and the port there that it has */
static void add_switch(HostGuest *g, unsigned i, GString *args)
{
    const HostDeviceConfig *d = g->config.dev;
    unsigned top = i;

    if (d[i].below_switch) {
        g_string_append_printf(args, "-device x3130-upstream,id=up%u,"
                               "bus=top%u ", i, i);
    }
    while (d[top].beside) {
        top--;
    }
    if (d[top].below_switch) {
        g_string_append_printf(args, "-device xio3130-downstream,id=rp%u,"
                               "bus=up%u,addr=%u.0,chassis=%u ", i, top,
                               i - top, 0x40 + i);
    }
}

static char *arguments(HostGuest *g, const char *ram)
{
    const HostGuestConfig *c = &g->config;
    g_autofree char *memory = c->numa ? numa_argument(ram) : ram_argument(ram);
    GString *args = g_string_new(NULL);

    g_string_append_printf(args, "-machine " SMMUV3_MACHINE "%s -cpu "
                           "cortex-a57 -nic none %s %s ",
                           c->numa ? "" : ",memory-backend=ram", memory,
                           c->no_iommufd ? "" : c->iommufd_by_fd ?
                           "-object iommufd,id=iommufd0,fd="
                           stringify(HOST_IOMMUFD) :
                           "-object iommufd,id=iommufd0");
    for (unsigned i = 0; i < c->n_vsmmus; i++) {
        if (i) {
            g_string_append_printf(args, "-device pxb-pcie,id=pxb%u,"
                                   "bus=pcie.0,bus_nr=%u,addr=%x ", i,
                                   PXB_BUS(g, i), i);
        }
        if (c->no_smmu) {
            continue;
        }
        g_string_append_printf(args, "-device arm-smmuv3,id=s%u,accel=on,"
                               "primary-bus=%s%.0u%s%s ", i,
                               i ? "pxb" : "pcie.0", i,
                               c->smmu_args ?: "", c->each_smmu_args[i] ?: "");
    }
    for (unsigned i = 0; i < c->n_devs; i++) {
        HostDevice *d = &g->dev[i];

        d->vsmmu = c->dev[i].vsmmu;
        d->devfn = c->dev[i].devfn;
        if (d->devfn) {
            d->bus = PXB_BUS(g, d->vsmmu);
            d->present = true;
            g_string_append_printf(args, "-device vfio-pci,id=dev%u,"
                                   "bus=%s%.0u,addr=0x%x.%u,multifunction=on,"
                                   "fd=%u,iommufd=iommufd0%s ", i,
                                   d->vsmmu ? "pxb" : "pcie.0", d->vsmmu,
                                   PCI_SLOT(d->devfn), PCI_FUNC(d->devfn),
                                   HOST_FD(i), properties(g, i));
            continue;
        }
        d->port_bus = PXB_BUS(g, d->vsmmu);
        d->port_devfn = PORT_DEVFN(i);
        if (c->dev[i].function) {
            d->devfn = c->dev[i].function;
        } else if (!c->dev[i].beside) {
            g_string_append_printf(args, "-device pcie-root-port,id=%s%u,"
                                   "bus=%s%.0u,addr=0x%x.%u,multifunction=on,"
                                   "chassis=%u ",
                                   c->dev[i].below_switch ? "top" : "rp", i,
                                   d->vsmmu ? "pxb" : "pcie.0", d->vsmmu,
                                   PCI_SLOT(d->port_devfn),
                                   PCI_FUNC(d->port_devfn), i + 1);
        }
        add_switch(g, i, args);
        if (!c->dev[i].hotplug) {
            d->present = true;
            g_string_append_printf(args, "-device vfio-pci,id=dev%u,bus=rp%u,"
                                   "addr=0.%u,multifunction=%s,fd=%u,"
                                   "iommufd=iommufd0%s ", i, slot_of(g, i),
                                   c->dev[i].function,
                                   is_one_of_several(g, i) ? "on" : "off",
                                   HOST_FD(i), properties(g, i));
        }
    }
    g_string_append(args, c->args ? c->args : "");
    return g_string_free(args, FALSE);
}

static void connect_control(HostGuest *g, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)),
                    ==, 0);
    g->control = fdopen(fd, "r");
}

/*
 * A QEMU of another user, without capabilities, who may lock @memlock bytes.  A
 * test that does not run as root stays its own user.
 */
static QTestState *start_limited(HostGuest *g, const char *ram,
                                 const char *args)
{
    g_autofree char *command = g_strdup_printf(
        "%s %s", geteuid() ? "" : "setpriv --reuid=65534 --regid=65534 "
        "--clear-groups --inh-caps=-all", getenv("QTEST_QEMU_BINARY"));
    g_autofree char *limit = g_strdup_printf("%" PRIu64, g->config.memlock);
    mode_t old = umask(0);
    QTestState *qts;

    g_assert(!chmod(g->dir, 0777) && !chmod(ram, 0666) &&
             !chmod(smmuv3_firmware(), 0644));
    g_setenv("SMMUV3_LIMITED_QEMU", command, true);
    g_setenv("HOST_MODEL_MEMLOCK", limit, true);
    qts = qtest_init_with_env("SMMUV3_LIMITED_QEMU", args, true);
    g_unsetenv("HOST_MODEL_MEMLOCK");
    umask(old);
    return qts;
}

/*
 * A directory for a guest's files, its memory among them. VFIO maps files of a
 * tmpfs, which /tmp may be, in another way than those of a disk, and a test is
 * to see the same everywhere.
 */
static char *make_dir(void)
{
    char *dir = g_strdup("/var/tmp/smmuv3-host-XXXXXX");

    if (!g_mkdtemp(dir)) {
        g_error("%s: %s", dir, g_strerror(errno));
    }
    return dir;
}

char *host_guest_refused(const HostGuestConfig *config)
{
    g_autofree HostGuest *g = g_new0(HostGuest, 1);
    g_autofree char *dir = make_dir();
    g_autofree char *ini = g_build_filename(dir, "host.ini", NULL);
    g_autofree char *ram = g_build_filename(dir, "ram", NULL);
    g_autofree char *dtb = g_build_filename(dir, "dtb", NULL);
    g_autofree char *args = NULL, *all = NULL;
    char *err;
    int status;

    g->config = *config;
    write_host_file(g, ini);
    args = arguments(g, ram);
    /* A QEMU that does start exits with success */
    all = g_strconcat(args, " -machine dumpdtb=", dtb, NULL);
    g_setenv("LD_PRELOAD", getenv("QTEST_HOST_MODEL"), true);
    g_setenv("HOST_MODEL_PROGRAM", "qemu-system", true);
    g_setenv("HOST_MODEL_CONFIG", ini, true);
    g_unsetenv("HOST_MODEL_CONTROL");
    if (config->fail) {
        g_setenv("HOST_MODEL_FAIL", config->fail, true);
    }
    status = smmuv3_run("QTEST_QEMU_BINARY", all, &err);
    g_unsetenv("LD_PRELOAD");
    g_unsetenv("HOST_MODEL_FAIL");
    unlink(ini);
    unlink(ram);
    unlink(dtb);
    rmdir(dir);
    g_test_message("%s", err);
    g_assert_cmpint(status, ==, 1);
    return err;
}

HostGuest *host_guest_prepare(const HostGuestConfig *config, const char *dir,
                              const char *program, char **args)
{
    HostGuest *g = g_new0(HostGuest, 1);
    g_autofree char *ini = g_build_filename(dir, "host.ini", NULL);
    g_autofree char *control = g_build_filename(dir, "control", NULL);
    g_autofree char *ram = g_build_filename(dir, "ram", NULL);

    g->config = *config;
    g->config.eventq_log2 = config->eventq_log2 ?: HOST_EVENTQ_LOG2;
    g->dir = g_strdup(dir);
    write_host_file(g, ini);
    map_ram(g, ram);
    *args = arguments(g, ram);

    g_setenv("LD_PRELOAD", getenv("QTEST_HOST_MODEL"), true);
    g_setenv("HOST_MODEL_PROGRAM", program, true);
    g_setenv("HOST_MODEL_CONFIG", ini, true);
    g_setenv("HOST_MODEL_CONTROL", control, true);
    if (config->fail) {
        g_setenv("HOST_MODEL_FAIL", config->fail, true);
    }
    return g;
}

static bool is_below_switch(HostGuest *g, unsigned dev)
{
    return g->config.dev[dev].below_switch || g->config.dev[dev].beside;
}

void host_setup_pci(HostGuest *g)
{
    if (g->hooks) {
        g->hooks->hold(g, true);
    }
    for (unsigned i = 0; i < g->config.n_devs; i++) {
        if (is_below_switch(g, i)) {
            continue;
        }
        if (!g->config.dev[i].devfn && !g->config.dev[i].function) {
            host_setup_port(g, i);
        }
    }
    for (unsigned i = 0; i < g->config.n_devs; i++) {
        if (g->dev[i].present && !is_below_switch(g, i)) {
            host_setup_device(g, i);
        }
    }
    if (g->hooks) {
        g->hooks->hold(g, false);
    }
}

static void remove_files(HostGuest *g)
{
    static const char *const files[] = {
        "host.ini", "control", "ram", "stderr"
    };

    for (int i = 0; i < ARRAY_SIZE(files); i++) {
        g_autofree char *path = g_build_filename(g->dir, files[i], NULL);

        unlink(path);
    }
    rmdir(g->dir);
}

/* The test has failed: QEMU ends at once only if no call is held */
static void release_calls(void *opaque)
{
    HostGuest *g = opaque;

    if (dprintf(fileno(g->control), "fail clear\nrelease\n") < 0) {
        return;     /* QEMU has ended already */
    }
}

void host_guest_join(HostGuest *g, QTestState *qts, const HostHooks *hooks)
{
    g_autofree char *control = g_build_filename(g->dir, "control", NULL);

    g->qts = qts;
    g->hooks = hooks;
    g_unsetenv("LD_PRELOAD");
    g_unsetenv("HOST_MODEL_FAIL");
    connect_control(g, control);
    qtest_add_abrt_handler(release_calls, g);
    remove_files(g);
    for (unsigned i = 0; i < g->config.n_vsmmus; i++) {
        g->smmu[i].base = VIRT_PLATFORM_BUS_BASE + i * SMMU_STRIDE;
    }
    host_setup_pci(g);
}

HostGuest *host_guest_new(const HostGuestConfig *config)
{
    g_autofree char *dir = make_dir();
    g_autofree char *ram = g_build_filename(dir, "ram", NULL);
    g_autofree char *said = g_build_filename(dir, "stderr", NULL);
    g_autofree char *args = NULL, *all = NULL;
    HostGuest *g = host_guest_prepare(config, dir, "qemu-system", &args);

    open_said(g, said);
    all = g_strdup_printf("%s 2>>%s", args, said);
    host_guest_join(g, config->memlock ? start_limited(g, ram, all)
                                       : qtest_init(all), NULL);
    return g;
}

HostGuest *host_guest_emulated(const char *binary, const char *machine,
                               const char *args, uint64_t smmu)
{
    HostGuest *g = g_new0(HostGuest, 1);
    g_autofree char *ram = NULL, *said = NULL, *memory = NULL, *line = NULL;

    g->config.n_vsmmus = 1;
    g->config.eventq_log2 = HOST_EVENTQ_LOG2;
    g->smmu[0].base = smmu;
    g->dir = make_dir();
    ram = g_build_filename(g->dir, "ram", NULL);
    said = g_build_filename(g->dir, "stderr", NULL);
    memory = ram_argument(ram);
    map_ram(g, ram);
    open_said(g, said);
    line = g_strdup_printf("-nodefaults -cpu max -machine "
                           "%s,memory-backend=ram %s %s 2>>%s", machine,
                           memory, args, said);
    g->qts = qtest_init_with_env(binary, line, true);
    remove_files(g);
    return g;
}

void host_guest_free(HostGuest *g)
{
    if (g->control) {
        qtest_remove_abrt_handler(g);
        fclose(g->control);
    }
    qtest_quit(g->qts);
    if (g->said) {
        close_said(g);
    }
    munmap(g->ram, HOST_RAM_SIZE);
    g_free(g->dir);
    g_free(g);
}

/*
 * Registers and queues
 */

uint32_t smmu_read(HostGuest *g, unsigned i, unsigned reg)
{
    return qtest_readl(g->qts, g->smmu[i].base + reg);
}

void smmu_write(HostGuest *g, unsigned i, unsigned reg, uint32_t value)
{
    qtest_writel(g->qts, g->smmu[i].base + reg, value);
}

void smmu_write64(HostGuest *g, unsigned i, unsigned reg, uint64_t value)
{
    qtest_writeq(g->qts, g->smmu[i].base + reg, value);
}

static void set_cmdq(HostGuest *g, unsigned i, uint64_t queue, unsigned log2)
{
    smmu_write64(g, i, SMMU_CMDQ_BASE, queue | log2);
    smmu_write(g, i, SMMU_CMDQ_PROD, 0);
    smmu_write(g, i, SMMU_CMDQ_CONS, 0);
}

void smmu_use_cmdq(HostGuest *g, unsigned i, uint64_t queue, unsigned log2)
{
    smmu_write(g, i, SMMU_CR0, 0);
    set_cmdq(g, i, queue, log2);
    smmu_write(g, i, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_CMDQEN);
}

void smmu_enable(HostGuest *g, unsigned i)
{
    const uint32_t all = SMMU_CR0_SMMUEN | SMMU_CR0_EVENTQEN | SMMU_CR0_CMDQEN;
    HostVsmmu *s = &g->smmu[i];

    if (!s->strtab) {
        s->strtab = host_alloc(g, 64ull << HOST_SID_BITS);
        s->strtab_cfg = HOST_SID_BITS;
    }
    if (!s->cmdq) {
        s->cmdq = host_alloc(g, 16 << HOST_CMDQ_LOG2);
        s->eventq = host_alloc(g, 32 << g->config.eventq_log2);
    }
    smmu_write64(g, i, SMMU_STRTAB_BASE, s->strtab);
    smmu_write(g, i, SMMU_STRTAB_CFG, s->strtab_cfg);
    if (!(smmu_read(g, i, SMMU_CR0) & SMMU_CR0_CMDQEN)) {
        s->prod = s->event_cons = 0;
        set_cmdq(g, i, s->cmdq, HOST_CMDQ_LOG2);
        smmu_write64(g, i, SMMU_EVENTQ_BASE,
                     s->eventq | g->config.eventq_log2);
        smmu_write(g, i, SMMU_EVENTQ_PROD, 0);
        smmu_write(g, i, SMMU_EVENTQ_CONS, 0);
        smmu_write(g, i, SMMU_CR2, SMMU_CR2_RECINVSID);
    }
    smmu_write(g, i, SMMU_CR0, all);
    g_assert_cmphex(smmu_read(g, i, SMMU_CR0ACK), ==, all);
    s->enabled = true;
}

void smmu_disable(HostGuest *g, unsigned i)
{
    smmu_write(g, i, SMMU_CR0, SMMU_CR0_EVENTQEN | SMMU_CR0_CMDQEN);
    g->smmu[i].enabled = false;
}

void smmu_gbpa(HostGuest *g, unsigned i, bool abort)
{
    smmu_write(g, i, SMMU_GBPA,
               SMMU_GBPA_UPDATE | (abort ? SMMU_GBPA_ABORT : 0));
}

uint64_t *smmu_ste(HostGuest *g, unsigned i, uint32_t sid)
{
    g_assert_cmphex(sid, <, 1 << HOST_SID_BITS);
    return host_ram(g, g->smmu[i].strtab + sid * 64ull);
}

#define CMDQ_INDEX      ((1u << HOST_CMDQ_LOG2) - 1)
#define CMDQ_WRAP       ((2u << HOST_CMDQ_LOG2) - 1)

static void put(HostGuest *g, unsigned i, HostCmd cmd)
{
    HostVsmmu *s = &g->smmu[i];
    uint64_t *slot = host_ram(g, s->cmdq + (s->prod & CMDQ_INDEX) * 16);

    slot[0] = cpu_to_le64(cmd.word[0]);
    slot[1] = cpu_to_le64(cmd.word[1]);
    s->prod = (s->prod + 1) & CMDQ_WRAP;
}

/* QEMU's main loop may have to run before something happens */
static void host_pause(HostGuest *g)
{
    if (g->hooks) {
        g->hooks->pause(g, true);
    } else {
        g_usleep(10);
    }
}

/* Write PROD and poll CONS, as a driver does without MSIs */
static unsigned publish(HostGuest *g, unsigned i)
{
    smmu_kick(g, i);
    for (int n = 0; n < 100000; n++) {
        uint32_t cons = smmu_read(g, i, SMMU_CMDQ_CONS);

        if ((smmu_read(g, i, SMMU_GERROR) ^ smmu_read(g, i, SMMU_GERRORN)) &
            SMMU_GERROR_CMDQ) {
            return extract32(smmu_read(g, i, SMMU_CMDQ_CONS), 24, 7);
        }
        if ((cons & CMDQ_WRAP) == g->smmu[i].prod) {
            return SMMU_CERROR_NONE;
        }
        host_pause(g);
    }
    g_error("commands of SMMU %u are not consumed", i);
}

/* If the queue is full but for the CMD_SYNC, let the SMMU consume it */
static void make_room(HostGuest *g, unsigned i)
{
    uint32_t cons = smmu_read(g, i, SMMU_CMDQ_CONS) & CMDQ_WRAP;

    if (((g->smmu[i].prod - cons) & CMDQ_WRAP) >= CMDQ_INDEX) {
        g_assert_cmpuint(publish(g, i), ==, SMMU_CERROR_NONE);
    }
}

void smmu_kick(HostGuest *g, unsigned i)
{
    smmu_write(g, i, SMMU_CMDQ_PROD, g->smmu[i].prod);
}

void smmu_cmd(HostGuest *g, unsigned i, HostCmd cmd)
{
    make_room(g, i);
    put(g, i, cmd);
}

unsigned smmu_sync(HostGuest *g, unsigned i)
{
    smmu_cmd(g, i, CMD_SYNC);
    return publish(g, i);
}

void smmu_sync_msi(HostGuest *g, unsigned i)
{
    HostVsmmu *s = &g->smmu[i];
    uint64_t slot;

    make_room(g, i);
    slot = s->cmdq + (s->prod & CMDQ_INDEX) * 16ull;
    put(g, i, CMD_SYNC_MSI(slot, 0));
    smmu_write(g, i, SMMU_CMDQ_PROD, s->prod);
    for (int n = 0; qatomic_read((uint32_t *)host_ram(g, slot)); n++) {
        g_assert_cmpint(n, <, 100000);
        host_pause(g);
    }
}

void smmu_sync_ok(HostGuest *g, unsigned i)
{
    g_assert_cmpuint(smmu_sync(g, i), ==, SMMU_CERROR_NONE);
}

void smmu_ack(HostGuest *g, unsigned i)
{
    HostVsmmu *s = &g->smmu[i];
    uint32_t cons = smmu_read(g, i, SMMU_CMDQ_CONS) & CMDQ_WRAP;

    /* As in Linux, the rest of the queue becomes CMD_SYNCs */
    for (uint32_t at = cons; at != s->prod; at = (at + 1) & CMDQ_WRAP) {
        uint64_t *slot = host_ram(g, s->cmdq + (at & CMDQ_INDEX) * 16);

        slot[0] = cpu_to_le64(0x46);
        slot[1] = 0;
    }
    smmu_write(g, i, SMMU_GERRORN, smmu_read(g, i, SMMU_GERROR));
    publish(g, i);
}

#define EVENTQ_OVFLG    (1u << 31)

unsigned smmu_events(HostGuest *g, unsigned i, uint64_t (*events)[4],
                     unsigned max)
{
    HostVsmmu *s = &g->smmu[i];
    const uint32_t mask = (2u << g->config.eventq_log2) - 1;
    uint32_t prod = smmu_read(g, i, SMMU_EVENTQ_PROD);
    unsigned n;

    for (n = 0; n < max && ((prod ^ s->event_cons) & mask); n++) {
        uint64_t *slot = host_ram(g, s->eventq +
                                  (s->event_cons & (mask >> 1)) * 32ull);

        for (int w = 0; w < 4; w++) {
            events[n][w] = le64_to_cpu(slot[w]);
        }
        s->event_cons = (s->event_cons & EVENTQ_OVFLG) |
                        ((s->event_cons + 1) & mask);
    }
    if (n) {
        smmu_write(g, i, SMMU_EVENTQ_CONS, s->event_cons);
    }
    return n;
}

bool smmu_event(HostGuest *g, unsigned i, uint64_t event[4])
{
    return smmu_events(g, i, (uint64_t (*)[4])event, 1);
}

bool smmu_event_overflow(HostGuest *g, unsigned i)
{
    HostVsmmu *s = &g->smmu[i];
    uint32_t prod = smmu_read(g, i, SMMU_EVENTQ_PROD);

    if (!((prod ^ s->event_cons) & EVENTQ_OVFLG)) {
        return false;
    }
    s->event_cons ^= EVENTQ_OVFLG;
    smmu_write(g, i, SMMU_EVENTQ_CONS, s->event_cons);
    return true;
}

/*
 * Tables
 */

void host_clear_cd(HostGuest *g, uint64_t cd)
{
    uint64_t *words = host_ram(g, cd);

    qatomic_set(&words[0], 0);
}

void host_write_cd(HostGuest *g, uint64_t cd, const HostCd *what)
{
    static const unsigned tg[2][3] = { { 0, 2, 1 }, { 2, 1, 3 } };
    unsigned granule = (what->granule_shift - 12) / 2;
    uint64_t *words = host_ram(g, cd);
    uint64_t word0 = (uint64_t)what->asid << 48 |
                     1ull << 47 |       /* ASET: not shared with CPUs */
                     1ull << 46 |       /* A: faults abort */
                     1ull << 45 |       /* R: and are recorded */
                     1ull << 41 |       /* AA64 */
                     5ull << 32 |       /* IPS: 48 bits */
                     1ull << 31;        /* V */

    host_clear_cd(g, cd);
    for (int half = 0; half < 2; half++) {
        word0 |= ((uint64_t)what->txsz[half] |
                  (uint64_t)tg[half][granule] << 6 |
                  1ull << 8 | 1ull << 10 | 3ull << 12 |
                  (what->ttb[half] ? 0 : 1ull << 14)) << (half * 16);
        words[1 + half] = cpu_to_le64(what->ttb[half]);
    }
    words[3] = cpu_to_le64(0xff);       /* MAIR: write-back memory */
    qatomic_set(&words[0], cpu_to_le64(word0));
}

static unsigned stride(unsigned granule_shift)
{
    return granule_shift - 3;
}

int host_start_level(unsigned granule_shift, unsigned txsz)
{
    return 4 - DIV_ROUND_UP(64 - txsz - granule_shift, stride(granule_shift));
}

uint64_t host_level_size(unsigned granule_shift, int level)
{
    return 1ull << (granule_shift + (3 - level) * stride(granule_shift));
}

uint64_t *host_pte(HostGuest *g, uint64_t root, unsigned granule_shift,
                   unsigned txsz, uint64_t va, int level, bool make)
{
    uint64_t table = root, offset = va & MAKE_64BIT_MASK(0, 64 - txsz);

    for (int at = host_start_level(granule_shift, txsz); ; at++) {
        uint64_t size = host_level_size(granule_shift, at);
        uint64_t *pte = (uint64_t *)host_ram(g, table) + offset / size;

        offset %= size;
        if (at == level) {
            return pte;
        }
        if (!(le64_to_cpu(*pte) & PTE_VALID)) {
            if (!make) {
                return NULL;
            }
            *pte = cpu_to_le64(host_alloc(g, 1ull << granule_shift) | 3);
        }
        table = le64_to_cpu(*pte) & MAKE_64BIT_MASK(12, 36);
    }
}

uint64_t host_leaf(int level, uint64_t pa, uint64_t attributes)
{
    return pa | attributes | (level == 3 ? 2 : 0);
}

/*
 * The model
 */

QDict *host_control(HostGuest *g, const char *format, ...)
{
    g_autofree char *command = NULL;
    g_autofree char *line = NULL;
    size_t size = 0;
    va_list ap;
    QDict *answer;

    va_start(ap, format);
    command = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_assert_cmpint(dprintf(fileno(g->control), "%s\n", command), >, 0);
    g_assert_cmpint(getline(&line, &size, g->control), >, 0);
    answer = qobject_to(QDict, qobject_from_json(line, &error_abort));
    if (qdict_haskey(answer, "error")) {
        g_error("host model: %s: %s", command, qdict_get_str(answer, "error"));
    }
    return answer;
}

int host_wait_s(void)
{
    const char *seconds = g_getenv("HOST_WAIT_S");

    return seconds ? atoi(seconds) : 30;
}

QDict *host_wait_for_event(HostGuest *g, const char *name)
{
    QDict *event = NULL;

    /* An event is older than the answer that comes after it */
    HOST_WAIT((qtest_qmp_assert_success(g->qts, "{'execute': 'query-status'}"),
               event = qtest_qmp_event_ref(g->qts, name)));
    return event;
}

bool host_has_region(HostGuest *g, const char *name)
{
    /* It leaves out what is disabled */
    g_autofree char *tree = qtest_hmp(g->qts, "info mtree");
    g_autofree char *text = g_strdup_printf(": %s\r\n", name);

    return strstr(tree, text);
}

QDict *host_find(const QDict *dict, const char *list, const char *key,
                 const char *value)
{
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(dict, list), e) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(e));

        if (!g_strcmp0(qdict_get_try_str(d, key), value)) {
            return d;
        }
    }
    return NULL;
}

QDict *host_query(HostGuest *g, unsigned i)
{
    QDict *rsp = qtest_qmp(g->qts, "{'execute': 'query-smmuv3'}");
    g_autofree char *id = g_strdup_printf("s%u", i);
    QDict *smmu = host_find(rsp, "return", "id", id);

    g_assert_nonnull(smmu);
    qobject_ref(smmu);
    qobject_unref(rsp);
    return smmu;
}

bool host_is_slow(HostGuest *g, unsigned i)
{
    QDict *smmu = host_query(g, i);
    QDict *accel = qdict_get_qdict(smmu, "accel");
    QDict *host = accel ? qdict_get_qdict(accel, "host") : NULL;
    bool slow = host && qdict_get_bool(host, "slow");

    qobject_unref(smmu);
    return slow;
}

void host_make_slow(HostGuest *g, unsigned i)
{
    qobject_unref(host_control(g, "fail IOMMU_HWPT_INVALIDATE~150000"));
    smmu_cmd(g, i, CMD_TLBI_NH_ASID(99));
    smmu_sync_ok(g, i);
    qobject_unref(host_control(g, "fail clear"));
}

uint64_t host_counter(HostGuest *g, const char *name)
{
    QDict *all = host_control(g, "counters");
    uint64_t value = qdict_get_try_int(all, name, 0);

    qobject_unref(all);
    return value;
}

uint64_t host_objects(HostGuest *g, const char *type)
{
    QDict *all = host_control(g, "objects");
    uint64_t value = qdict_get_try_int(all, type, 0);

    qobject_unref(all);
    return value;
}

/*
 * DMA
 */

static uint64_t reg(HostGuest *g, unsigned dev, unsigned offset)
{
    return g->dev[dev].bar + offset;
}

/* The last transfer in one access: its status, and the first eight bytes */
static bool outcome(HostGuest *g, unsigned dev, uint64_t *value)
{
    uint64_t words[2];

    QEMU_BUILD_BUG_ON(DMA_RESULT != DMA_STATUS + 8);
    qtest_memread(g->qts, reg(g, dev, DMA_STATUS), words, sizeof(words));
    words[0] = le64_to_cpu(words[0]);
    g_assert(words[0] == DMA_OK || words[0] == DMA_FAULT);
    *value = le64_to_cpu(words[1]);
    return words[0] == DMA_OK;
}

bool host_dma_read64(HostGuest *g, unsigned dev, uint64_t iova, uint64_t *value)
{
    qtest_writeq(g->qts, reg(g, dev, DMA_READ64), iova);
    return outcome(g, dev, value);
}

bool host_dma_write64(HostGuest *g, unsigned dev, uint64_t iova, uint64_t value)
{
    uint64_t words[2] = { cpu_to_le64(value), cpu_to_le64(iova) };

    /* The second of these accesses starts the transfer */
    QEMU_BUILD_BUG_ON(DMA_WRITE64 != DMA_VALUE + 8);
    qtest_memwrite(g->qts, reg(g, dev, DMA_VALUE), words, sizeof(words));
    return outcome(g, dev, &value);
}

static bool transfer(HostGuest *g, unsigned dev, unsigned op, uint64_t iova,
                     unsigned len)
{
    uint64_t ignored;

    g_assert_cmpuint(len, <=, DMA_BUFFER_SIZE);
    qtest_writeq(g->qts, reg(g, dev, DMA_IOVA), iova);
    qtest_writeq(g->qts, reg(g, dev, DMA_LEN), len);
    qtest_writeq(g->qts, reg(g, dev, DMA_COMMAND), op);
    return outcome(g, dev, &ignored);
}

bool host_dma_read(HostGuest *g, unsigned dev, uint64_t iova, void *buf,
                   unsigned len)
{
    bool ok = transfer(g, dev, DMA_OP_READ, iova, len);

    qtest_memread(g->qts, reg(g, dev, DMA_BUFFER), buf, len);
    return ok;
}

bool host_dma_write(HostGuest *g, unsigned dev, uint64_t iova, const void *buf,
                    unsigned len)
{
    qtest_memwrite(g->qts, reg(g, dev, DMA_BUFFER), buf, len);
    return transfer(g, dev, DMA_OP_WRITE, iova, len);
}

void host_dma_as(HostGuest *g, unsigned dev, uint32_t pasid, unsigned flags)
{
    QEMU_BUILD_BUG_ON(HOST_NO_PASID != DMA_NO_PASID);
    QEMU_BUILD_BUG_ON(HOST_DMA_PRIV != DMA_PRIV || HOST_DMA_EXEC != DMA_EXEC ||
                      HOST_DMA_ATC != DMA_USE_ATC);
    qtest_writeq(g->qts, reg(g, dev, DMA_PASID), pasid);
    qtest_writeq(g->qts, reg(g, dev, DMA_FLAGS), flags);
}

unsigned host_ats_request(HostGuest *g, unsigned dev, uint64_t iova,
                          bool write)
{
    QEMU_BUILD_BUG_ON(HOST_ATS_SUCCESS != DMA_ATS_SUCCESS ||
                      HOST_ATS_UR != DMA_ATS_UR || HOST_ATS_CA != DMA_ATS_CA);
    transfer(g, dev, write ? DMA_OP_ATS_RW : DMA_OP_ATS, iova, 0);
    return qtest_readq(g->qts, reg(g, dev, DMA_ATS_REPLY));
}

bool host_ats_read64(HostGuest *g, unsigned dev, uint64_t iova,
                     uint64_t *value)
{
    bool ok = transfer(g, dev, DMA_OP_ATS_READ, iova, 8);

    *value = qtest_readq(g->qts, reg(g, dev, DMA_RESULT));
    return ok;
}

uint64_t host_atc_entries(HostGuest *g, unsigned dev)
{
    return qtest_readq(g->qts, reg(g, dev, DMA_ATC_ENTRIES));
}

void host_probe_begin(HostGuest *g, unsigned dev, uint64_t iova, uint64_t a,
                      uint64_t b)
{
    qtest_writeq(g->qts, reg(g, dev, DMA_IOVA), iova);
    qtest_writeq(g->qts, reg(g, dev, DMA_PROBE_A), a);
    qtest_writeq(g->qts, reg(g, dev, DMA_PROBE_B), b);
    qtest_writeq(g->qts, reg(g, dev, DMA_PROBE), 1);
}

uint64_t host_probes(HostGuest *g, unsigned dev, HostProbes which)
{
    return qtest_readq(g->qts, reg(g, dev, DMA_PROBES_A + 8 * which));
}

/*
 * What most tests use
 */

bool host_skipped(void)
{
    if (host_model_available()) {
        return false;
    }
    g_test_skip("QTEST_HOST_MODEL does not name the host model");
    return true;
}

HostGuest *host_start(unsigned n_vsmmus, unsigned n_devs)
{
    HostGuestConfig config = {
        .n_vsmmus = n_vsmmus, .n_psmmus = 1, .n_devs = n_devs,
    };

    for (unsigned dev = 0; dev < n_devs; dev++) {
        config.dev[dev].vsmmu = dev % n_vsmmus;
    }
    return host_guest_new(&config);
}

void host_check_empty(HostGuest *g)
{
    static const char *const types[] = {
        "veventq", "vdevice", "hw_queue", "access", "hwpt_nested", "viommu",
        "hwpt_paging", "ioas",
    };

    bool stay = false;

    for (unsigned dev = 0; dev < g->config.n_devs; dev++) {
        if (g->config.dev[dev].devfn) {
            stay = true;
        } else if (g->dev[dev].present) {
            host_guest_unplug(g, dev);
        }
    }
    for (int n = 0; n < ARRAY_SIZE(types); n++) {
        g_autofree char *left = g_strconcat("left.", types[n], NULL);

        if (!stay) {
            g_assert_cmpuint(host_objects(g, types[n]), ==, 0);
        }
        g_assert_cmpuint(host_counter(g, left), ==, 0);
    }
}

bool host_add_iommufd(HostGuest *g)
{
    QDict *rsp = qtest_qmp(g->qts, "{'execute': 'object-add', 'arguments': "
                           "{'qom-type': 'iommufd', 'id': 'iommufd0'}}");
    bool ok = !qdict_haskey(rsp, "error");

    qobject_unref(rsp);
    return ok;
}

/* The first entry of the answer to @command that counts something, or NULL */
static char *find_count(HostGuest *g, const char *command, const char *prefix)
{
    QDict *dict = host_control(g, "%s", command);
    char *found = NULL;

    for (const QDictEntry *e = qdict_first(dict); e && !found;
         e = qdict_next(dict, e)) {
        if (g_str_has_prefix(qdict_entry_key(e), prefix) &&
            qnum_get_int(qobject_to(QNum, qdict_entry_value(e)))) {
            found = g_strdup(qdict_entry_key(e));
        }
    }
    qobject_unref(dict);
    return found;
}

static void check_released(HostGuest *g, const char *what, unsigned dev)
{
    QDict *state = host_control(g, "state dma%u", dev);

    if (qdict_get_int(state, "fds") || qdict_get_bool(state, "bound")) {
        g_error("%s: device %u is still open", what, dev);
    }
    qobject_unref(state);
}

void host_check_freed(HostGuest *g, const char *what, bool but_kept)
{
    g_autofree char *left = NULL, *object = NULL;

    for (unsigned dev = 0; dev < g->config.n_devs; dev++) {
        check_released(g, what, dev);
    }
    qtest_qmp_assert_success(g->qts, "{'execute': 'object-del', "
                             "'arguments': {'id': 'iommufd0'}}");
    /* QEMU closes /dev/iommu with the last device, and the host frees all */
    left = but_kept ? NULL : find_count(g, "counters", "left.");
    if (left) {
        g_error("%s: %s when /dev/iommu was closed", what, left);
    }
    object = find_count(g, "objects", "");
    if (object) {
        g_error("%s: objects %s left at the end", what, object);
    }
}

/* Nothing stale was used, and nothing is left behind */
void host_finish(HostGuest *g)
{
    g_assert_cmpuint(host_counter(g, "smmu.stale"), ==, 0);
    g_assert_cmpuint(host_counter(g, "smmu.conflict"), ==, 0);
    host_check_empty(g);
    host_guest_free(g);
}

void host_enable(HostGuest *g, unsigned i)
{
    smmu_enable(g, i);
    smmu_cmd(g, i, CMD_CFGI_ALL);
    smmu_cmd(g, i, CMD_TLBI_NSNH_ALL);
    smmu_sync_ok(g, i);
}

void host_set_ste(HostGuest *g, unsigned dev, uint64_t word0)
{
    unsigned i = g->dev[dev].vsmmu;

    qatomic_set(smmu_ste(g, i, host_sid(g, dev)), cpu_to_le64(word0));
    smmu_cmd(g, i, CMD_CFGI_STE(host_sid(g, dev)));
    smmu_sync_ok(g, i);
}

uint64_t host_new_page(HostGuest *g, uint64_t tag)
{
    uint64_t gpa = host_alloc(g, 4096);

    *(uint64_t *)host_ram(g, gpa) = tag;
    return gpa;
}

uint64_t host_page_cd(HostGuest *g, unsigned asid, uint64_t va, uint64_t page)
{
    uint64_t root = host_alloc(g, 4096), cd = host_alloc(g, 64);

    *host_pte(g, root, 12, 25, va, 3, true) =
        cpu_to_le64(host_leaf(3, page, PTE_DATA));
    host_write_cd(g, cd, &(HostCd) {
        .asid = asid, .ttb = { root }, .txsz = { 25 }, .granule_shift = 12,
    });
    return cd;
}

uint64_t host_one_page_cd(HostGuest *g, unsigned asid, uint64_t page)
{
    return host_page_cd(g, asid, HOST_VA, page);
}

void host_check_reads(HostGuest *g, unsigned dev, uint64_t iova,
                        uint64_t want)
{
    uint64_t got = 0;

    g_assert_true(host_dma_read64(g, dev, iova, &got));
    g_assert_cmphex(got, ==, want);
}

void host_check_faults(HostGuest *g, unsigned dev, uint64_t iova)
{
    uint64_t got;

    g_assert_false(host_dma_read64(g, dev, iova, &got));
    g_assert_false(host_dma_write64(g, dev, iova, 0x600df00d));
}
