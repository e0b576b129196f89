/*
 * VFIO's device, for any PCI function: information, interrupts, regions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "conformance.h"

#define NONE    VFIO_IRQ_SET_DATA_NONE
#define BOOL    VFIO_IRQ_SET_DATA_BOOL
#define EVENTFD VFIO_IRQ_SET_DATA_EVENTFD
#define TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER
#define MASK    VFIO_IRQ_SET_ACTION_MASK
#define UNMASK  VFIO_IRQ_SET_ACTION_UNMASK
#define MSIX    VFIO_PCI_MSIX_IRQ_INDEX
#define ERR     VFIO_PCI_ERR_IRQ_INDEX
#define REQ     VFIO_PCI_REQ_IRQ_INDEX

/* The number of the file leads to the device in sysfs */
static void group(int dev)
{
    char path[160], link[256] = "", text[16] = "";
    struct dirent *entry;
    unsigned others = 0;
    uint32_t config = 0;
    int file;
    const char *name;
    struct stat st;
    DIR *dir;

    is(fstat(dev, &st) < 0 ? -errno : 0, 0, "fstat()");
    is(S_ISCHR(st.st_mode), 1, "  a character device");
    snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/device",
             major(st.st_rdev), minor(st.st_rdev));
    is(readlink(path, link, sizeof(link) - 1) < 0 ? -errno : 0, 0,
       "The link from its number to the device");
    name = strrchr(link, '/');
    is(name && name[1], 1, "  ends in a name");
    strcat(path, "/iommu_group/devices");
    dir = opendir(path);
    is(dir ? 0 : -errno, 0, "The devices of its IOMMU group");
    while (dir && name && (entry = readdir(dir))) {
        others += entry->d_name[0] != '.' && strcmp(entry->d_name, name + 1);
    }
    is(others, 0, "  others than itself");
    if (dir) {
        closedir(dir);
    }
    /* base class, subclass and interface, as in the configuration space */
    snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s/class",
             name ? name + 1 : "");
    file = open(path, O_RDONLY);
    is(file < 0 ? -errno : 0, 0, "The class of the device");
    if (file >= 0) {
        is(read(file, text, sizeof(text) - 1) > 0, 1, "  has a text");
        close(file);
    }
    pread(dev, &config, sizeof(config), (7ull << 40) + 8);
    is_hex(strtoul(text, NULL, 16), config >> 8,
           "  which is that of the configuration space");
}

static void information(int dev)
{
    struct vfio_device_info info = { .argsz = sizeof(info) };
    struct vfio_region_info region = { .argsz = sizeof(region) };
    struct vfio_irq_info irq = { .argsz = sizeof(irq) };

    is(call(dev, VFIO_DEVICE_GET_INFO, &info), 0, "GET_INFO");
    is_hex(info.flags & (VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET),
           VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
           "  PCI, can be reset");
    is(info.num_regions, VFIO_PCI_NUM_REGIONS, "  regions");
    is(info.num_irqs, VFIO_PCI_NUM_IRQS, "  kinds of interrupts");
    info.argsz = 15;
    is(call(dev, VFIO_DEVICE_GET_INFO, &info), -EINVAL,
       "GET_INFO with argsz 15");
    memset(&info, 0xaa, sizeof(info));
    info.argsz = 16;
    is(call(dev, VFIO_DEVICE_GET_INFO, &info), 0, "GET_INFO with argsz 16");
    is_hex(info.cap_offset, 0xaaaaaaaa, "  and nothing after those changed");
    is(call(dev, VFIO_DEVICE_GET_INFO, NULL), -EFAULT, "GET_INFO at 0");

    for (unsigned i = 0; i <= VFIO_PCI_NUM_REGIONS; i++) {
        region.argsz = sizeof(region);
        region.index = i;
        is(call(dev, VFIO_DEVICE_GET_REGION_INFO, &region),
           i < VFIO_PCI_VGA_REGION_INDEX ? 0 : -EINVAL,
           "GET_REGION_INFO of region %u", i);
        if (i < VFIO_PCI_VGA_REGION_INDEX) {
            is_hex(region.offset, (uint64_t)i << 40, "  its offset");
        }
        if (i == VFIO_PCI_CONFIG_REGION_INDEX) {
            is(region.size, 4096, "  its size");
            is_hex(region.flags, VFIO_REGION_INFO_FLAG_READ |
                   VFIO_REGION_INFO_FLAG_WRITE, "  its flags");
        }
    }
    region.argsz = 31;
    region.index = 7;
    is(call(dev, VFIO_DEVICE_GET_REGION_INFO, &region), -EINVAL,
       "GET_REGION_INFO with argsz 31");
    is(call(dev, VFIO_DEVICE_GET_REGION_INFO, NULL), -EFAULT,
       "GET_REGION_INFO at 0");

    for (unsigned i = 0; i <= VFIO_PCI_NUM_IRQS; i++) {
        irq.argsz = sizeof(irq);
        irq.index = i;
        is(call(dev, VFIO_DEVICE_GET_IRQ_INFO, &irq),
           i < VFIO_PCI_NUM_IRQS ? 0 : -EINVAL,
           "GET_IRQ_INFO of kind %u", i);
        if (i >= ERR && i < VFIO_PCI_NUM_IRQS) {
            is(irq.count, 1, "  how many");
        }
        if (i < VFIO_PCI_NUM_IRQS) {
            is_hex(irq.flags, VFIO_IRQ_INFO_EVENTFD |
                   (i == 0 ? VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED :
                    i == MSIX ? 0 : VFIO_IRQ_INFO_NORESIZE), "  its flags");
        }
    }
    irq.argsz = 15;
    irq.index = REQ;
    is(call(dev, VFIO_DEVICE_GET_IRQ_INFO, &irq), -EINVAL,
       "GET_IRQ_INFO with argsz 15");
    is(call(dev, VFIO_DEVICE_GET_IRQ_INFO, NULL), -EFAULT, "GET_IRQ_INFO at 0");
    is(call(dev, _IO(VFIO_TYPE, VFIO_BASE + 99), NULL), -ENOTTY,
       "An unknown call of VFIO");
}

static long set_irqs(int dev, uint32_t argsz, uint32_t flags, uint32_t index,
                     uint32_t start, uint32_t count, int32_t fd)
{
    struct vfio_irq_set *arg = calloc(1, sizeof(*arg) + 16);
    long ret;

    arg->argsz = argsz;
    arg->flags = flags;
    arg->index = index;
    arg->start = start;
    arg->count = count;
    memcpy(arg->data, &fd, 4);
    ret = call(dev, VFIO_DEVICE_SET_IRQS, arg);
    free(arg);
    return ret;
}

typedef struct Irq {
    const char *name;
    uint32_t argsz, flags, index, start, count;
    int32_t fd;
    int want;
} Irq;

static void set_all(int dev, const Irq *rows, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        is(set_irqs(dev, rows[i].argsz, rows[i].flags, rows[i].index,
                    rows[i].start, rows[i].count, rows[i].fd), rows[i].want,
           "SET_IRQS with %s", rows[i].name);
    }
}

static void interrupts(World *w)
{
    int fd = eventfd(0, 0), not = dup(1), dev = w->dev;
    uint64_t n = 0;
    const Irq single[] = {
        { "argsz 19", 19, NONE | TRIGGER, ERR, 0, 0, -1, -EINVAL },
        { "an unknown kind", 20, NONE | TRIGGER, 5, 0, 0, -1, -EINVAL },
        { "an unknown flag", 20, NONE | TRIGGER | 64, ERR, 0, 1, -1, -EINVAL },
        { "no flag", 24, 0, ERR, 0, 1, -1, -EINVAL },
        { "no action", 24, EVENTFD, ERR, 0, 1, fd, -ENOTTY },
        { "no data type", 24, TRIGGER, ERR, 0, 1, fd, -EINVAL },
        { "two data types", 24, NONE | EVENTFD | TRIGGER, ERR, 0, 1, fd,
          -EINVAL },
        { "two actions", 24, EVENTFD | TRIGGER | MASK, ERR, 0, 1, fd,
          -ENOTTY },
        { "a start after the last", 24, EVENTFD | TRIGGER, ERR, 1, 1, fd,
          -EINVAL },
        { "a count beyond the last", 28, EVENTFD | TRIGGER, ERR, 0, 2, fd,
          -EINVAL },
        { "a start and a count that wrap", 24, NONE | TRIGGER, ERR, 1,
          UINT32_MAX, fd, -EINVAL },
        { "an eventfd beyond argsz", 23, EVENTFD | TRIGGER, ERR, 0, 1, fd,
          -EINVAL },
        { "MASK of it", 24, EVENTFD | MASK, ERR, 0, 1, fd, -ENOTTY },
        { "UNMASK of it", 24, EVENTFD | UNMASK, ERR, 0, 1, fd, -ENOTTY },
        { "NONE without an eventfd", 20, NONE | TRIGGER, ERR, 0, 1, -1,
          -EINVAL },
        { "an fd that is not open", 24, EVENTFD | TRIGGER, ERR, 0, 1, 999,
          -EBADF },
        { "an fd that is no eventfd", 24, EVENTFD | TRIGGER, ERR, 0, 1, not,
          -EINVAL },
        { "an eventfd", 24, EVENTFD | TRIGGER, ERR, 0, 1, fd, 0 },
        { "NONE: fire", 20, NONE | TRIGGER, ERR, 0, 1, -1, 0 },
        { "BOOL 0: don't", 21, BOOL | TRIGGER, ERR, 0, 1, 0, 0 },
        { "BOOL 1: fire", 21, BOOL | TRIGGER, ERR, 0, 1, 1, 0 },
        { "fd -1: no more", 24, EVENTFD | TRIGGER, ERR, 0, 1, -1, 0 },
        { "an eventfd again", 24, EVENTFD | TRIGGER, ERR, 0, 1, fd, 0 },
        { "count 0", 20, NONE | TRIGGER, ERR, 0, 0, -1, 0 },
        { "count 0 again", 20, NONE | TRIGGER, ERR, 0, 0, -1, -EINVAL },
        { "an eventfd for requests", 24, EVENTFD | TRIGGER, REQ, 0, 1, fd, 0 },
        { "NONE: fire a request", 20, NONE | TRIGGER, REQ, 0, 1, -1, 0 },
        { "count 0 of requests", 20, NONE | TRIGGER, REQ, 0, 0, -1, 0 },
    };
    /* Without a domain the doorbell cannot be reached. */
    const Irq detached[] = {
        { "MSI-X: an eventfd while not attached", 24, EVENTFD | TRIGGER, MSIX,
          0, 1, fd, -ENOSPC },
        { "MSI-X: no fd while not attached", 24, EVENTFD | TRIGGER, MSIX,
          0, 1, -1, -ENOSPC },
        { "MSI-X: a closed fd while not attached", 24,
          EVENTFD | TRIGGER, MSIX, 0, 1, 999, -ENOSPC },
    };
    const Irq msix[] = {
        { "MSI-X: disable while off", 20, NONE | TRIGGER, MSIX, 0, 0, -1,
          -EINVAL },
        { "MSI-X: fire while off", 20, NONE | TRIGGER, MSIX, 0, 1, -1,
          -EINVAL },
        { "MSI-X: MASK", 20, NONE | MASK, MSIX, 0, 1, -1, -ENOTTY },
        { "MSI-X: vector 5000", 24, EVENTFD | TRIGGER, MSIX, 5000, 1, fd,
          -EINVAL },
        { "MSI-X: an fd that is not open", 24, EVENTFD | TRIGGER, MSIX, 0, 1,
          999, -EBADF },
        { "MSI-X: an eventfd", 24, EVENTFD | TRIGGER, MSIX, 0, 1, fd, 0 },
        { "MSI-X: fire", 20, NONE | TRIGGER, MSIX, 0, 1, -1, 0 },
        { "MSI-X: another fd", 24, EVENTFD | TRIGGER, MSIX, 0, 1, fd, 0 },
        { "MSI-X: fd -1", 24, EVENTFD | TRIGGER, MSIX, 0, 1, -1, 0 },
        { "MSI-X: fire without an fd", 20, NONE | TRIGGER, MSIX, 0, 1, -1,
          0 },
        { "MSI-X: disable", 20, NONE | TRIGGER, MSIX, 0, 0, -1, 0 },
    };

    set_all(dev, single, ARRAY_SIZE(single));
    set_all(dev, detached, ARRAY_SIZE(detached));
    is(attach(w, w->parent), 0, "Attach");
    set_all(dev, msix, ARRAY_SIZE(msix));
    is(set_irqs(dev, 24, EVENTFD | TRIGGER, MSIX, 0, 1, fd), 0,
       "SET_IRQS with MSI-X: an eventfd again");
    is(detach(w), 0, "Detach with MSI-X on");
    is(set_irqs(dev, 24, EVENTFD | TRIGGER, MSIX, 0, 1, fd), 0,
       "SET_IRQS with MSI-X: an eventfd then");
    is(set_irqs(dev, 20, NONE | TRIGGER, MSIX, 0, 0, -1), 0,
       "SET_IRQS with MSI-X: disable");
    is(set_irqs(dev, 24, EVENTFD | TRIGGER, MSIX, 0, 1, fd), -ENOSPC,
       "SET_IRQS with MSI-X: an eventfd then");
    read(fd, &n, sizeof(n));
    is(n, 4, "How often it fired");
    is(call(dev, VFIO_DEVICE_SET_IRQS, NULL), -EFAULT, "SET_IRQS at 0");
    close(fd);
    close(not);
}

static void features(int dev)
{
    const uint32_t get = VFIO_DEVICE_FEATURE_GET;
    const uint32_t set = VFIO_DEVICE_FEATURE_SET;
    const uint32_t probe = VFIO_DEVICE_FEATURE_PROBE;
    const struct {
        const char *name;
        uint32_t argsz, flags;
        int want;
    } rows[] = {
        { "argsz 7", 7, get | 0x7fff, -EINVAL },
        { "an unknown feature", 8, get | 0x7fff, -ENOTTY },
        { "a probe of an unknown feature", 8, probe | get | 0x7fff, -ENOTTY },
        { "GET and SET", 8, get | set | 0x7fff, -EINVAL },
        { "a probe of GET and SET", 8, probe | get | set | 0x7fff, -ENOTTY },
        { "an unknown flag", 8, get | 1 << 20, -EINVAL },
        { "a probe of the token of virtual functions", 8, probe | set | 0,
          -ENOTTY },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        uint32_t arg[16] = { rows[i].argsz, rows[i].flags };

        is(call(dev, VFIO_DEVICE_FEATURE, arg), rows[i].want,
           "FEATURE with %s", rows[i].name);
    }
}

static long rw(int dev, bool write, void *buf, size_t len, uint64_t at)
{
    ssize_t ret = write ? pwrite(dev, buf, len, at) : pread(dev, buf, len, at);

    return ret < 0 ? -errno : ret;
}

/*
 * A device without extended capabilities.  Bytes of none are raw: what is
 * written there reaches the device.  QEMU's keeps it, but for the header.
 */
static void raw_config(int dev)
{
    static const struct {
        unsigned at;
        uint64_t kept;
    } rows[] = {
        { 0xf8, UINT64_MAX }, { 0xfc, UINT32_MAX },
        { 0x100, UINT64_MAX << 32 }, { 0x104, UINT64_MAX },
        { 0x880, UINT64_MAX }, { 0xff8, UINT64_MAX },
    };
    const uint64_t config = 7ull << 40;
    uint64_t value;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        value = UINT64_MAX;
        is(rw(dev, true, &value, 8, config + rows[i].at), 8,
           "pwrite() at 0x%x of configuration space", rows[i].at);
        value = 0;
        is(rw(dev, false, &value, 8, config + rows[i].at), 8,
           "  pread() there");
        is_hex(value, rows[i].kept, "  what the device kept");
        value = 0;
        rw(dev, true, &value, 8, config + rows[i].at);
    }
}

/* The list of extended capabilities: ATS cannot be changed, PASID is hidden */
static void extended_caps(int dev, unsigned at)
{
    const uint64_t config = 7ull << 40, ones = UINT64_MAX;
    unsigned pasids = 0, n = 0;

    while (at && n++ < 960) {
        uint32_t cap[2], now[2];

        rw(dev, false, cap, 8, config + at);
        if ((cap[0] & 0xffff) == 0xf) {
            is(rw(dev, true, (void *)&ones, 8, config + at), 8,
               "pwrite() to the ATS capability at 0x%x", at);
            rw(dev, false, now, 8, config + at);
            is(!memcmp(cap, now, sizeof(cap)), 1, "  which stays as it was");
        }
        pasids += (cap[0] & 0xffff) == 0x1b;
        at = cap[0] >> 20 & 0xffc;
    }
    is(n < 960, 1, "The list of extended capabilities has an end");
    is(pasids, 0, "  and shows no PASID");
}

static void extended_config(int dev)
{
    const uint64_t config = 7ull << 40;
    static uint8_t all[4096];
    uint64_t value = UINT64_MAX;
    uint32_t header;

    is(rw(dev, false, all, sizeof(all), config), sizeof(all),
       "pread() of all configuration space");
    memcpy(&header, all + 0x100, sizeof(header));
    is(rw(dev, true, &value, 8, config + 0xffc), -EFAULT,
       "pwrite() over the end of configuration space");
    if (header) {
        extended_caps(dev, 0x100);
    } else {
        raw_config(dev);
    }
}

static void regions(int dev)
{
    const uint64_t config = 7ull << 40;
    uint8_t buf[16] = {}, before[2];
    uint16_t command;

    is(rw(dev, false, buf, 4, config), 4, "pread() of configuration space");
    memcpy(before, buf, 2);
    is(rw(dev, true, "\x11\x22", 2, config), 2, "pwrite() to the vendor ID");
    rw(dev, false, buf, 2, config);
    is(!memcmp(before, buf, 2), 1, "  which stays as it was");
    is(rw(dev, false, buf, 3, config + 1), 3, "pread() off its alignment");
    is(rw(dev, false, buf, 0, config), 0, "pread() of nothing");
    is(rw(dev, false, buf, 4, config + 4094), -EFAULT,
       "pread() over the end of configuration space");
    is(rw(dev, false, buf, 4, config + 4096), -EFAULT,
       "pread() after the end of configuration space");
    is(rw(dev, true, buf, 4, config + 4096), -EFAULT,
       "pwrite() after the end of configuration space");
    extended_config(dev);
    is(rw(dev, false, edge + PAGE, 4, config), -EFAULT,
       "pread() to a bad address");
    is(rw(dev, true, edge + PAGE, 4, config + 4), -EFAULT,
       "pwrite() from a bad address");
    is(rw(dev, false, buf, 4, 9ull << 40), -EINVAL, "pread() of region 9");
    is(rw(dev, true, buf, 4, 9ull << 40), -EINVAL, "pwrite() to region 9");
    is(rw(dev, false, buf, 4, 8ull << 40), -EINVAL, "pread() of VGA");
    is(rw(dev, true, buf, 4, 6ull << 40), -EINVAL, "pwrite() to the ROM");
    rw(dev, false, &command, 2, config + 4);
    is_hex(command & 7, 2, "Command after bind: memory, no bus master");
    command |= 4;
    rw(dev, true, &command, 2, config + 4);
    rw(dev, false, &command, 2, config + 4);
    is_hex(command & 7, 6, "Command with bus master");
    is(call(dev, VFIO_DEVICE_RESET, NULL), 0, "RESET");
    rw(dev, false, &command, 2, config + 4);
    is_hex(command & 7, 6, "Command after RESET");
}

/* The offset of a capability in configuration space, or 0 */
static unsigned find_cap(int dev, unsigned id)
{
    const uint64_t config = 7ull << 40;
    uint8_t at = 0, cap[2];

    rw(dev, false, &at, 1, config + 0x34);
    while (at) {
        rw(dev, false, cap, 2, config + at);
        if (cap[0] == id) {
            break;
        }
        at = cap[1];
    }
    return at;
}

static void power(int dev)
{
    const uint64_t config = 7ull << 40;
    unsigned pm = find_cap(dev, 1);
    const uint64_t control = config + pm + 4;
    uint8_t bar[4];
    uint16_t state;

    is(pm != 0, 1, "There is a capability for power management");
    is(rw(dev, false, bar, 4, 0), 4, "pread() of BAR 0 in D0");
    for (unsigned d = 1; d <= 3; d++) {
        state = d;
        is(rw(dev, true, &state, 2, control), 2, "pwrite() of power state %u",
           d);
        rw(dev, false, &state, 2, control);
        is(state & 3, d == 3 ? 3 : 0, "  the state");
    }
    is(rw(dev, false, bar, 4, 0), -EIO, "pread() of BAR 0 in D3hot");
    is(rw(dev, true, bar, 4, 0), -EIO, "pwrite() to BAR 0 in D3hot");
    state = 1;
    is(rw(dev, true, &state, 2, control), 2, "pwrite() of power state 1");
    rw(dev, false, &state, 2, control);
    is(state & 3, 3, "  the state");
    state = 0;
    is(rw(dev, true, &state, 2, control), 2, "pwrite() of power state 0");
    rw(dev, false, &state, 2, control);
    is(state & 3, 0, "  the state");
    is(rw(dev, false, bar, 4, 0), 4, "pread() of BAR 0 in D0");
    state = 3;
    rw(dev, true, &state, 2, control);
    is(call(dev, VFIO_DEVICE_RESET, NULL), 0, "RESET in D3hot");
    rw(dev, false, &state, 2, control);
    is(state & 3, 0, "  the state");
}

static void hot_reset(World *w)
{
    struct {
        struct vfio_pci_hot_reset_info info;
        struct vfio_pci_dependent_device devices[16];
    } arg = { .info.argsz = 11 };
    struct vfio_pci_hot_reset reset = { .argsz = 11 };

    is(call(w->dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &arg), -EINVAL,
       "GET_PCI_HOT_RESET_INFO with argsz 11");
    arg.info.argsz = 12;
    is(call(w->dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &arg), -ENOSPC,
       "GET_PCI_HOT_RESET_INFO with argsz 12");
    is(arg.info.count, 1, "  how many");
    arg.info.argsz = sizeof(arg);
    is(call(w->dev, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &arg), 0,
       "GET_PCI_HOT_RESET_INFO");
    is_hex(arg.info.flags, VFIO_PCI_HOT_RESET_FLAG_DEV_ID |
           VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED, "  its flags");
    is(arg.info.count, 1, "  how many");
    is(arg.devices[0].devid == w->dev_id, 1, "  by its ID of iommufd");
    is(call(w->dev, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL,
       "PCI_HOT_RESET with argsz 11");
    reset.argsz = 12;
    reset.flags = 1;
    is(call(w->dev, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL,
       "PCI_HOT_RESET with a flag");
    reset.flags = 0;
    reset.count = 1;
    is(call(w->dev, VFIO_DEVICE_PCI_HOT_RESET, &reset), -EINVAL,
       "PCI_HOT_RESET with a group");
    reset.count = 0;
    is(call(w->dev, VFIO_DEVICE_PCI_HOT_RESET, &reset), 0, "PCI_HOT_RESET");
}

void test_vfio(void)
{
    World w = world_open();

    group(w.dev);
    information(w.dev);
    interrupts(&w);
    features(w.dev);
    regions(w.dev);
    power(w.dev);
    hot_reset(&w);
    world_close(&w);
}
