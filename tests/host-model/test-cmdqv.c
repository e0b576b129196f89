/*
 * Tests of the host model as a whole: a Tegra241 CMDQV
 *
 * A program of the uapi on the model, with the machine of test-cmdqv.ini, and
 * with what only the model can show.  Much of it is in conformance-cmdqv.c as
 * well, which runs on Linux.  What a test expects is what Linux 7.3 says:
 * drivers/iommu/iommufd/viommu.c, main.c, and
 * drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c.
 *
 *   test-cmdqv SOCKET    the control socket that the model was started with
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "test-cmdqv.h"

uint8_t *ram;

/*
 * Objects
 */

long destroy(World *w, uint32_t id)
{
    struct iommu_destroy arg = { .size = sizeof(arg), .id = id };

    return call(w->fd, IOMMU_DESTROY, &arg);
}

static long map(World *w, uint64_t iova, void *at, uint64_t length,
                uint32_t flags)
{
    struct iommu_ioas_map arg = {
        .size = sizeof(arg), .ioas_id = w->ioas, .user_va = (uintptr_t)at,
        .length = length, .flags = IOMMU_IOAS_MAP_FIXED_IOVA | flags,
        .iova = iova,
    };

    return call(w->fd, IOMMU_IOAS_MAP, &arg);
}

#define RW (IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)

static long unmap(World *w, uint64_t iova, uint64_t length)
{
    struct iommu_ioas_unmap arg = {
        .size = sizeof(arg), .ioas_id = w->ioas, .iova = iova,
        .length = length,
    };

    return call(w->fd, IOMMU_IOAS_UNMAP, &arg);
}

int device_open(const char *name)
{
    int fd = value_of(control("open %s", name), "fd");

    need(fd, name);
    return fd;
}

/* A bound device, an IOAS with the RAM, and a nesting parent */
World world_bind(const char *name)
{
    World w = { .dev = device_open(name), .name = name };
    struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
    struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
    struct iommu_hwpt_alloc parent = {
        .size = sizeof(parent), .flags = IOMMU_HWPT_ALLOC_NEST_PARENT,
    };
    uint16_t on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    w.fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    need(w.fd < 0 ? -errno : 0, "/dev/iommu");
    bind.iommufd = w.fd;
    need(call(w.dev, VFIO_DEVICE_BIND_IOMMUFD, &bind), "bind");
    w.dev_id = bind.out_devid;
    need(pwrite(w.dev, &on, 2, (7ull << 40) + PCI_COMMAND), "bus master");
    need(call(w.fd, IOMMU_IOAS_ALLOC, &ioas), "IOAS");
    w.ioas = ioas.out_ioas_id;
    need(map(&w, IPA, ram, RAM_SIZE, RW), "map");
    parent.dev_id = w.dev_id;
    parent.pt_id = w.ioas;
    if (call(w.fd, IOMMU_HWPT_ALLOC, &parent) == 0) {
        w.parent = parent.out_hwpt_id;
    }
    return w;
}

long viommu_alloc(World *w, uint32_t type, void *data, uint32_t len)
{
    struct iommu_viommu_alloc arg = {
        .size = sizeof(arg), .type = type, .dev_id = w->dev_id,
        .hwpt_id = w->parent, .data_len = len, .data_uptr = (uintptr_t)data,
    };
    long ret = call(w->fd, IOMMU_VIOMMU_ALLOC, &arg);

    if (!ret) {
        w->viommu = arg.out_viommu_id;
    }
    return ret;
}

long cmdqv_alloc(World *w)
{
    struct iommu_viommu_tegra241_cmdqv data = {};
    long ret = viommu_alloc(w, CMDQV, &data, sizeof(data));

    w->offset = data.out_vintf_mmap_offset;
    w->length = data.out_vintf_mmap_length;
    return ret;
}

/* mmap(), but -errno */
static long map_page0(World *w, int prot, int flags, uint64_t offset,
                      uint64_t length)
{
    void *at = mmap(NULL, length, prot, flags, w->fd, offset);

    if (at == MAP_FAILED) {
        return -errno;
    }
    w->page0 = at;
    return 0;
}

static long map_it(World *w)
{
    return map_page0(w, PROT_READ | PROT_WRITE, MAP_SHARED, w->offset,
                     w->length);
}

long vdevice_alloc(World *w, uint32_t dev_id, uint64_t vsid,
                          uint32_t *id)
{
    struct iommu_vdevice_alloc arg = {
        .size = sizeof(arg), .viommu_id = w->viommu, .dev_id = dev_id,
        .virt_id = vsid,
    };
    long ret = call(w->fd, IOMMU_VDEVICE_ALLOC, &arg);

    *id = arg.out_vdevice_id;
    return ret;
}

long queue_alloc(World *w, uint32_t index, uint64_t iova,
                        uint64_t length, uint32_t *id)
{
    struct iommu_hw_queue_alloc arg = {
        .size = sizeof(arg), .viommu_id = w->viommu,
        .type = IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV, .index = index,
        .nesting_parent_iova = iova, .length = length,
    };
    long ret = call(w->fd, IOMMU_HW_QUEUE_ALLOC, &arg);

    if (id) {
        *id = arg.out_hw_queue_id;
    }
    return ret;
}

long veventq_alloc(World *w, uint32_t type)
{
    struct iommu_veventq_alloc arg = {
        .size = sizeof(arg), .viommu_id = w->viommu, .type = type,
        .veventq_depth = 16,
    };
    long ret = call(w->fd, IOMMU_VEVENTQ_ALLOC, &arg);

    if (!ret) {
        w->events = arg.out_veventq_fd;
        fcntl(w->events, F_SETFL, O_NONBLOCK);
    }
    return ret;
}

/* With a vIOMMU of the type, its page 0 and a vDEVICE */
World world_open(const char *name)
{
    World w = world_bind(name);

    need(cmdqv_alloc(&w), "vIOMMU");
    need(map_it(&w), "page 0");
    need(vdevice_alloc(&w, w.dev_id, VSID, &w.vdev), "vDEVICE");
    return w;
}

void world_close(World *w)
{
    if (w->page0) {
        munmap(w->page0, PAGE0);
    }
    if (w->events) {
        close(w->events);
    }
    close(w->dev);
    close(w->fd);
}

unsigned objects(const char *type)
{
    const char *json = control("objects");
    char text[64];
    const char *at;

    snprintf(text, sizeof(text), "\"%s\":", type);
    at = strstr(json, text);
    return at ? strtoul(at + strlen(text), NULL, 10) : 999;
}

/*
 * What the host says, and vIOMMUs
 */

static long hw_info(World *w, uint32_t type, uint32_t len, void *data,
                    uint32_t *out_len)
{
    struct iommu_hw_info arg = {
        .size = sizeof(arg), .flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE,
        .dev_id = w->dev_id, .in_data_type = type, .data_len = len,
        .data_uptr = (uintptr_t)data,
    };
    long ret = call(w->fd, IOMMU_GET_HW_INFO, &arg);

    *out_len = arg.data_len;
    return ret ? ret : arg.out_data_type;
}

static void test_hw_info(void)
{
    static const struct {
        const char *name;
        long want;
        uint8_t version, vcmdqs, sids;
    } rows[] = {
        { "dev0", IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, 1, 1, 4 },
        { "dev1", -EOPNOTSUPP },
        { "dev2", IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, 2, 2, 1 },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        struct {
            struct iommu_hw_info_tegra241_cmdqv info;
            uint32_t after;
        } got;
        World w = world_bind(rows[i].name);
        uint32_t len;

        memset(&got, 0xaa, sizeof(got));
        is(hw_info(&w, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, sizeof(got), &got,
                   &len), rows[i].want, "%s: CMDQV's information", w.name);
        if (rows[i].want >= 0) {
            is(len, 8, "%s: its length", w.name);
            is(got.info.version, rows[i].version, "%s: version", w.name);
            is(got.info.log2vcmdqs, rows[i].vcmdqs, "%s: VCMDQs", w.name);
            is(got.info.log2vsids, rows[i].sids, "%s: SIDs", w.name);
            is(got.info.flags | got.info.__reserved | got.after, 0,
               "%s: the rest", w.name);
            is(hw_info(&w, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, 4, &got, &len),
               rows[i].want, "%s: with room for 4 bytes", w.name);
            is(hw_info(&w, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, 8, NULL, &len),
               -EFAULT, "%s: with data at 0", w.name);
        }
        is(hw_info(&w, IOMMU_HW_INFO_TYPE_ARM_SMMUV3, 0, NULL, &len),
           IOMMU_HW_INFO_TYPE_ARM_SMMUV3, "%s: the SMMU's", w.name);
        world_close(&w);
    }
}

static void test_viommu(void)
{
    struct iommu_viommu_tegra241_cmdqv data[2] = {};
    World w = world_bind("dev0"), other;
    struct iommu_hwpt_alloc plain = {
        .size = sizeof(plain), .dev_id = w.dev_id, .pt_id = w.ioas,
    };
    uint32_t parent = w.parent;
    void *readonly;

    is(viommu_alloc(&w, CMDQV, data, 0), -EINVAL, "a vIOMMU without data");
    is(viommu_alloc(&w, CMDQV, NULL, 16), -EFAULT, "with data at 0");
    readonly = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    is(viommu_alloc(&w, CMDQV, readonly, 16), -EFAULT,
       "with data that cannot be written");
    is(viommu_alloc(&w, CMDQV, data, 15), -EINVAL, "with 15 bytes");
    is(viommu_alloc(&w, CMDQV, data, 32), -EINVAL, "with 32 bytes");
    is(viommu_alloc(&w, 3, data, 16), -EOPNOTSUPP, "of type 3");
    need(call(w.fd, IOMMU_HWPT_ALLOC, &plain), "plain HWPT");
    w.parent = plain.out_hwpt_id;
    is(viommu_alloc(&w, CMDQV, data, 16), -EINVAL, "on no nesting parent");
    w.parent = parent;
    is(objects("viommu"), 0, "vIOMMUs after failures");

    is(viommu_alloc(&w, CMDQV, data, 16), 0, "a vIOMMU");
    is(data->out_vintf_mmap_offset, PAGE, "its offset");
    is(data->out_vintf_mmap_length, PAGE0, "its length");
    is(viommu_alloc(&w, CMDQV, data, 16), 0, "a second one");
    is(data->out_vintf_mmap_offset, PAGE + PAGE0, "its offset");
    is(destroy(&w, w.viommu - 1), 0, "DESTROY of the first");
    is(viommu_alloc(&w, CMDQV, data, 16), 0, "a third one");
    is(data->out_vintf_mmap_offset, PAGE, "its offset");
    other = world_bind("dev2");
    is(viommu_alloc(&other, CMDQV, data, 16), 0, "one of another iommufd");
    is(data->out_vintf_mmap_offset, PAGE, "its offset");
    is(viommu_alloc(&other, CMDQV, data, 16), -ENOSPC, "no VINTF is left");
    is(destroy(&other, other.viommu), 0, "DESTROY gives it back");
    is(viommu_alloc(&other, CMDQV, data, 16), 0, "the same again");
    world_close(&other);
    world_close(&w);

    w = world_bind("dev1");
    is(viommu_alloc(&w, CMDQV, data, 16), -EOPNOTSUPP, "without a CMDQV");
    is(viommu_alloc(&w, IOMMU_VIOMMU_TYPE_ARM_SMMUV3, data, 16), 0,
       "the plain type has no use for data");
    is(queue_alloc(&w, 0, QUEUE(0), PAGE, NULL), -EOPNOTSUPP,
       "a queue of such a vIOMMU");
    world_close(&w);
    w = world_bind("dev5");
    is(viommu_alloc(&w, CMDQV, data, 16), -EOPNOTSUPP, "without nesting");
    world_close(&w);
}

static void test_vdevices(void)
{
    World w = world_bind("dev2");
    struct vfio_device_bind_iommufd bind = {
        .argsz = sizeof(bind), .iommufd = w.fd,
    };
    int devs[] = { device_open("dev3"), device_open("dev4") };
    uint32_t ids[3], dev_ids[2];

    need(cmdqv_alloc(&w), "vIOMMU");
    for (unsigned i = 0; i < N(devs); i++) {
        need(call(devs[i], VFIO_DEVICE_BIND_IOMMUFD, &bind), "bind");
        dev_ids[i] = bind.out_devid;
    }
    is(vdevice_alloc(&w, w.dev_id, 0x100000, &ids[0]), -EINVAL,
       "a StreamID of 21 bits");
    is(vdevice_alloc(&w, w.dev_id, 0xfffff, &ids[0]), 0, "one of 20 bits");
    is(vdevice_alloc(&w, dev_ids[0], 0xfffff, &ids[1]), -EEXIST,
       "the same one");
    is(vdevice_alloc(&w, dev_ids[0], 0, &ids[1]), 0, "StreamID 0");
    is(vdevice_alloc(&w, dev_ids[1], 2, &ids[2]), -ENOSPC, "a third slot");
    is(objects("vdevice"), 2, "vDEVICEs");
    is(destroy(&w, ids[0]), 0, "DESTROY gives a slot back");
    is(vdevice_alloc(&w, dev_ids[1], 2, &ids[2]), 0, "a third vDEVICE");
    is(destroy(&w, w.viommu), -EBUSY, "DESTROY of their vIOMMU");
    close(devs[0]);
    close(devs[1]);
    world_close(&w);

    w = world_bind("dev8");
    need(cmdqv_alloc(&w), "vIOMMU");
    is(vdevice_alloc(&w, w.dev_id, 0x100000, &ids[0]), -EINVAL,
       "a device with two StreamIDs, and one of 21 bits");
    is(vdevice_alloc(&w, w.dev_id, 1, &ids[0]), -EOPNOTSUPP,
       "a device with two StreamIDs");
    world_close(&w);
}

/*
 * mmap()
 */

static void test_mmap(void)
{
    const int rw = PROT_READ | PROT_WRITE;
    World w = world_bind("dev0");
    void *first;

    is(map_page0(&w, rw, MAP_SHARED, PAGE, PAGE0), -ENXIO,
       "mmap() without a VINTF");
    need(cmdqv_alloc(&w), "vIOMMU");
    is(map_page0(&w, rw, MAP_PRIVATE, w.offset, PAGE0), -EINVAL,
       "a private mapping");
    is(map_page0(&w, rw | PROT_EXEC, MAP_SHARED, w.offset, PAGE0), -EPERM,
       "an executable mapping");
    is(map_page0(&w, rw, MAP_SHARED, 0, PAGE0), -ENXIO, "at offset 0");
    is(map_page0(&w, rw, MAP_SHARED, w.offset + PAGE, PAGE0), -ENXIO,
       "from its second page");
    is(map_page0(&w, rw, MAP_SHARED, w.offset, PAGE0 - PAGE), -ENXIO,
       "without its last page");
    is(map_page0(&w, rw, MAP_SHARED, w.offset, PAGE0 + PAGE), -ENXIO,
       "with a page behind it");
    is(map_page0(&w, rw, MAP_SHARED, w.offset + 1, PAGE0), -EINVAL,
       "at an odd offset");
    is(destroy(&w, w.viommu), 0, "no failure holds the vIOMMU");
    need(cmdqv_alloc(&w), "vIOMMU");

    is(map_page0(&w, rw, MAP_SHARED, w.offset, PAGE0 - 1), 0,
       "a length is rounded up");
    first = w.page0;
    is(map_page0(&w, PROT_READ, MAP_SHARED, w.offset, PAGE0), 0,
       "a second mapping");
    *(volatile uint32_t *)(first + 0xff00) = 0x1234;
    is(*(volatile uint32_t *)(w.page0 + 0xff00), 0x1234, "is the same memory");
    is(map(&w, IPA + RAM_SIZE, first, PAGE0, RW), -EFAULT,
       "IOAS_MAP of registers");
    is(destroy(&w, w.viommu), -EBUSY, "DESTROY of what is mapped twice");
    munmap(first, PAGE0);
    is(destroy(&w, w.viommu), -EBUSY, "DESTROY of what is mapped");
    munmap(w.page0 + PAGE, PAGE);
    is(destroy(&w, w.viommu), -EBUSY, "DESTROY of what has a hole");
    munmap(w.page0, PAGE);
    is(destroy(&w, w.viommu), -EBUSY, "DESTROY of what has an end");
    need(mmap(w.page0 + 3 * PAGE, PAGE0 - 3 * PAGE, rw, MAP_PRIVATE |
              MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -errno : 0,
         "other memory");
    is(destroy(&w, w.viommu), -EBUSY, "DESTROY of what has one page");
    munmap(w.page0 + 2 * PAGE, PAGE);
    is(destroy(&w, w.viommu), 0, "DESTROY of what is not mapped any more");
    munmap(w.page0, PAGE0);
    w.page0 = NULL;

    /* A mapping holds the iommufd. */
    need(cmdqv_alloc(&w), "vIOMMU");
    need(map_it(&w), "mmap");
    close(w.dev);
    close(w.fd);
    is(objects("viommu"), 1, "a mapping holds the iommufd");
    munmap(w.page0, PAGE0);
    is(objects("viommu"), 0, "which goes with it");
}

/*
 * Queues
 */

static void test_queue_errors(void)
{
    World w = world_open("dev0");
    uint32_t id;
    static const struct {
        const char *name;
        struct iommu_hw_queue_alloc arg;
        long want;
    } rows[] = {
        { "a flag", { .flags = 1 }, -EOPNOTSUPP },
        { "type 0", { .type = -1u }, -EOPNOTSUPP },
        { "type 2", { .type = 1 }, -EOPNOTSUPP },
        { "no length", { .length = -PAGE }, -EINVAL },
        { "a range that wraps", { .nesting_parent_iova = -PAGE - QUEUE(0),
          .length = 1 }, -EOVERFLOW },
        { "no vIOMMU", { .viommu_id = 999 }, -ENOENT },
        { "pages whose count wraps", { .nesting_parent_iova = 1 - QUEUE(0),
          .length = -1 - PAGE }, -ERANGE },
        { "2^28 pages", { .length = 1ull << 40 }, -ENOMEM },
        { "an address without memory", { .nesting_parent_iova = -IPA },
          -ENOENT },
        { "memory that ends", { .nesting_parent_iova = RAM_SIZE - QUEUES - PAGE,
          .length = PAGE }, -ENOENT },
        { "index 2", { .index = 2 }, -EINVAL },
        { "an index before its turn", { .index = 1 }, -EIO },
        { "a length of 1", { .length = 1 - PAGE }, -EINVAL },
        { "a length of 16", { .length = 16 - PAGE }, -EINVAL },
        { "a length of 48", { .length = 48 - PAGE }, -EINVAL },
        { "more than CMDQS has", { .length = (32 << 10) - PAGE }, -EINVAL },
        { "an address within it", { .nesting_parent_iova = PAGE / 2 },
          -EINVAL },
        { "an odd address", { .nesting_parent_iova = 8,
          .length = 32 - PAGE }, -EINVAL },
        { "an index before its turn, and a wrong length", { .index = 1,
          .length = 48 - PAGE }, -EIO },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        struct iommu_hw_queue_alloc arg = rows[i].arg;

        arg.size = sizeof(arg);
        arg.viommu_id += arg.viommu_id ? 0 : w.viommu;
        arg.type += IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV;
        arg.nesting_parent_iova += QUEUE(0);
        arg.length += PAGE;
        is(call(w.fd, IOMMU_HW_QUEUE_ALLOC, &arg), rows[i].want,
           "a queue with %s", rows[i].name);
    }
    is(objects("hw_queue") + objects("access"), 0, "queues after failures");
    need(queue_alloc(&w, 0, QUEUE(0), PAGE, &id), "queue");
    is(id, w.vdev + 1, "failures leave no queue's ID in use");
    is(destroy(&w, id + 1), -EBUSY, "and no access's");
    need(destroy(&w, id), "destroy");
    is(unmap(&w, IPA, RAM_SIZE), 0, "IOAS_UNMAP after failures");
    is(queue_alloc(&w, 0, QUEUE(0), PAGE, NULL), -ENOENT, "nothing is mapped");
    need(map(&w, IPA, ram, RAM_SIZE, IOMMU_IOAS_MAP_WRITEABLE), "map");
    is(queue_alloc(&w, 0, QUEUE(0), PAGE, NULL), -EPERM,
       "memory that cannot be read");
    world_close(&w);
}

static void test_queue_life(void)
{
    World w = world_open("dev0");
    uint32_t ids[2];

    is(queue_alloc(&w, 0, QUEUE(0), 16 << 10, &ids[0]), 0, "queue 0");
    is(queue_alloc(&w, 0, QUEUE(1), PAGE, NULL), -EEXIST, "queue 0 again");
    is(queue_alloc(&w, 1, QUEUE(1) + 32, 32, &ids[1]), 0,
       "queue 1 with two commands");
    is(ids[1], ids[0] + 2, "an access has an ID of its own");
    is(objects("hw_queue"), 2, "queues");
    is(objects("access"), 2, "accesses");
    is(destroy(&w, ids[0] + 1), -EBUSY, "DESTROY of an access");
    is(destroy(&w, ids[0]), -EBUSY, "DESTROY of queue 0 before queue 1");
    is(destroy(&w, w.viommu), -EBUSY, "DESTROY of the vIOMMU");
    is(unmap(&w, IPA, RAM_SIZE), -EBUSY, "IOAS_UNMAP of their memory");
    is(unmap(&w, 0, UINT64_MAX), -EBUSY, "IOAS_UNMAP of everything");
    is(unmap(&w, QUEUE(1), PAGE), -EBUSY, "IOAS_UNMAP of a part of it");
    is(destroy(&w, ids[1]), 0, "DESTROY of queue 1");
    is(unmap(&w, IPA, RAM_SIZE), -EBUSY, "IOAS_UNMAP with queue 0");
    is(queue_alloc(&w, 1, QUEUE(1), PAGE, &ids[1]), 0, "queue 1 once more");
    is(destroy(&w, ids[1]), 0, "and its DESTROY");
    is(destroy(&w, ids[0]), 0, "DESTROY of queue 0");
    is(unmap(&w, IPA, RAM_SIZE), 0, "IOAS_UNMAP without a queue");
    munmap(w.page0, PAGE0);
    w.page0 = NULL;
    is(destroy(&w, w.vdev), 0, "DESTROY of the vDEVICE");
    is(destroy(&w, w.viommu), 0, "DESTROY of the vIOMMU");
    world_close(&w);
}

/* A call whose answer cannot be written, because its struct is read-only */
static long unanswered(World *w, unsigned long request, const void *arg,
                       size_t size)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long ret;

    memcpy(page, arg, size);
    mprotect(page, PAGE, PROT_READ);
    ret = call(w->fd, request, page);
    munmap(page, PAGE);
    return ret;
}

static void test_unanswered(void)
{
    struct iommu_viommu_tegra241_cmdqv data;
    World w = world_bind("dev0");
    struct iommu_viommu_alloc viommu = {
        .size = sizeof(viommu), .type = CMDQV, .dev_id = w.dev_id,
        .hwpt_id = w.parent, .data_len = sizeof(data),
        .data_uptr = (uintptr_t)&data,
    };
    struct iommu_hw_queue_alloc queue = {
        .size = sizeof(queue), .type = IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
        .nesting_parent_iova = QUEUE(0), .length = PAGE,
    };

    is(unanswered(&w, IOMMU_VIOMMU_ALLOC, &viommu, sizeof(viommu)), -EFAULT,
       "a vIOMMU whose ID cannot be told");
    need(cmdqv_alloc(&w), "vIOMMU");
    is(w.offset, PAGE, "  is undone");
    queue.viommu_id = w.viommu;
    is(unanswered(&w, IOMMU_HW_QUEUE_ALLOC, &queue, sizeof(queue)), -EFAULT,
       "a queue whose ID cannot be told");
    is(unmap(&w, IPA, RAM_SIZE), 0, "  is undone");
    is(destroy(&w, w.viommu), 0, "  and its vIOMMU has no user");
    world_close(&w);
}

/* Two mappings side by side, runs of physical memory, and what is left */
static void test_contiguous(void)
{
    World w = world_open("dev0");
    uint64_t iova = IPA + RAM_SIZE;

    need(map(&w, iova, ram + PAGE, PAGE, RW), "map");
    need(map(&w, iova + PAGE, ram + 2 * PAGE, PAGE, RW), "map");
    need(map(&w, iova + 2 * PAGE, ram, PAGE, RW), "map");
    /* The host's address of the first page is odd: only its length fits. */
    is(queue_alloc(&w, 0, iova, 2 * PAGE, NULL), -EINVAL,
       "an address that only the guest sees aligned");
    is(queue_alloc(&w, 0, iova + PAGE, 2 * PAGE, NULL), -EFAULT,
       "mappings that are apart");
    is(unmap(&w, iova, 3 * PAGE), 0, "nothing is locked");
    need(map(&w, iova, ram + 2 * PAGE, PAGE, RW), "map");
    need(map(&w, iova + PAGE, ram + 3 * PAGE, PAGE, RW), "map");
    is(queue_alloc(&w, 0, iova, 2 * PAGE, NULL), 0,
       "two mappings that are contiguous");
    is(unmap(&w, iova, PAGE), -EBUSY, "the first one is locked");
    is(unmap(&w, iova + PAGE, PAGE), -EBUSY, "the second one is locked");

    control("contiguous 4096");
    is(queue_alloc(&w, 1, QUEUE(0), 2 * PAGE, NULL), -EFAULT,
       "two pages without huge pages");
    is(queue_alloc(&w, 1, QUEUE(0), PAGE, NULL), 0, "one page");
    control("contiguous 0");
    world_close(&w);
    is(counter("left.hw_queue"), 2, "queues that were left");
    is(objects("hw_queue") + objects("access") + objects("viommu"), 0,
       "queues after the iommufd was closed");
}

/*
 * Failures that are asked for
 */

static void test_failures(void)
{
    struct iommu_hw_info_tegra241_cmdqv info;
    World w = world_bind("dev0");
    uint32_t cmdqv, id, len;

    control("fail IOMMU_GET_HW_INFO.cmdqv=ENOMEM");
    is(hw_info(&w, IOMMU_HW_INFO_TYPE_ARM_SMMUV3, 0, NULL, &len),
       IOMMU_HW_INFO_TYPE_ARM_SMMUV3, "the SMMU's information does not fail");
    is(hw_info(&w, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, 8, &info, &len),
       -ENOMEM, "CMDQV's does");
    control("fail IOMMU_VIOMMU_ALLOC.cmdqv=EIO");
    is(viommu_alloc(&w, IOMMU_VIOMMU_TYPE_ARM_SMMUV3, NULL, 0), 0,
       "a plain vIOMMU does not fail");
    is(cmdqv_alloc(&w), -EIO, "one of the type does");
    need(cmdqv_alloc(&w), "vIOMMU");
    cmdqv = w.viommu;
    control("fail mmap=EAGAIN");
    is(map_it(&w), -EAGAIN, "mmap() fails");
    need(map_it(&w), "mmap");
    control("fail IOMMU_HW_QUEUE_ALLOC=ENOSPC");
    is(queue_alloc(&w, 0, QUEUE(0), PAGE, &id), -ENOSPC, "a queue fails");
    need(queue_alloc(&w, 0, QUEUE(0), PAGE, &id), "queue");
    control("fail IOMMU_DESTROY.hw_queue=EBUSY");
    is(destroy(&w, cmdqv - 1), 0, "DESTROY of a vIOMMU does not fail");
    is(destroy(&w, id), -EBUSY, "DESTROY of a queue does");
    control("fail IOMMU_DESTROY=EINTR");
    is(destroy(&w, id), -EINTR, "and so with a rule for all objects");
    is(destroy(&w, id), 0, "DESTROY of a queue");
    control("fail IOMMU_VEVENTQ_ALLOC.cmdqv=ENFILE");
    is(veventq_alloc(&w, IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV), -ENFILE,
       "a vEVENTQ of the type");
    control("fail clear");
    world_close(&w);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test-cmdqv SOCKET\n");
        return 2;
    }
    ram = mmap(NULL, 2 * RAM_SIZE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ram += -(uintptr_t)ram % RAM_SIZE;
    control_open(argv[1]);
    puts("TAP version 13");
    test_hw_info();
    test_viommu();
    test_vdevices();
    test_mmap();
    test_queue_errors();
    test_queue_life();
    test_unanswered();
    test_contiguous();
    test_failures();
    test_hardware();
    return points_end();
}
