/*
 * Does this kernel do what Linux does?
 *
 *   conformance DEVICE      TAP on stdout
 *
 * DEVICE is an unused VFIO device behind an SMMUv3 that can nest:
 * /dev/vfio/devices/vfio0, or fd:100-115 for opens of it that exist from the
 * start, as on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "conformance.h"

static unsigned points, failures;
static const char *device_path;
static int first_fd = -1, last_fd;

uint8_t *edge;

/*
 * Points
 */

const char *result_name(long result)
{
    static char texts[4][24];
    static unsigned turn;
    char *text = texts[turn++ % ARRAY_SIZE(texts)];
    const char *name = result < 0 ? strerrorname_np(-result) : NULL;

    if (name) {
        return name;
    }
    snprintf(text, sizeof(texts[0]), "%ld", result);
    return text;
}

static void point(const char *got, const char *want, const char *format,
                  va_list args)
{
    bool good = !strcmp(got, want);

    printf("%sok %u - ", good ? "" : "not ", ++points);
    vprintf(format, args);
    if (good) {
        printf(": %s\n", got);
    } else {
        printf(": got %s, want %s\n", got, want);
        failures++;
    }
    fflush(stdout);
}

void is(long got, long want, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    point(result_name(got), result_name(want), format, args);
    va_end(args);
}

void is_hex(uint64_t got, uint64_t want, const char *format, ...)
{
    char got_text[24], want_text[24];
    va_list args;

    snprintf(got_text, sizeof(got_text), "0x%llx", (unsigned long long)got);
    snprintf(want_text, sizeof(want_text), "0x%llx", (unsigned long long)want);
    va_start(args, format);
    point(got_text, want_text, format, args);
    va_end(args);
}

void is_text(const char *got, const char *want, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    point(got, want, format, args);
    va_end(args);
}

void need(long result, const char *what)
{
    if (result < 0) {
        printf("Bail out! %s: %s\n", what, result_name(result));
        exit(1);
    }
}

/*
 * Calls
 */

long call(int fd, unsigned long request, void *arg)
{
    int ret = ioctl(fd, request, arg);

    return ret < 0 ? -errno : ret;
}

int open_device(void)
{
    int fd;

    if (device_path) {
        fd = open(device_path, O_RDWR | O_CLOEXEC);
        need(fd < 0 ? -errno : fd, device_path);
    } else {
        need(first_fd > last_fd ? -EMFILE : 0, "opens of the device");
        fd = first_fd++;
    }
    return fd;
}

long bind_device(int dev, int fd, uint32_t *dev_id)
{
    struct vfio_device_bind_iommufd bind = {
        .argsz = sizeof(bind),
        .iommufd = fd,
    };
    long ret = call(dev, VFIO_DEVICE_BIND_IOMMUFD, &bind);

    if (dev_id) {
        *dev_id = bind.out_devid;
    }
    return ret;
}

long attach(World *w, uint32_t pt_id)
{
    struct vfio_device_attach_iommufd_pt arg = {
        .argsz = sizeof(arg),
        .pt_id = pt_id,
    };

    return call(w->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &arg);
}

long detach(World *w)
{
    struct vfio_device_detach_iommufd_pt arg = { .argsz = sizeof(arg) };

    return call(w->dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &arg);
}

long destroy(int fd, uint32_t id)
{
    struct iommu_destroy arg = { .size = sizeof(arg), .id = id };

    return call(fd, IOMMU_DESTROY, &arg);
}

long ioas_alloc(int fd, uint32_t *id)
{
    struct iommu_ioas_alloc arg = { .size = sizeof(arg) };
    long ret = call(fd, IOMMU_IOAS_ALLOC, &arg);

    *id = arg.out_ioas_id;
    return ret;
}

long hwpt_alloc(World *w, uint32_t pt_id, uint32_t flags, uint32_t *id)
{
    struct iommu_hwpt_alloc arg = {
        .size = sizeof(arg),
        .flags = flags,
        .dev_id = w->dev_id,
        .pt_id = pt_id,
    };
    long ret = call(w->fd, IOMMU_HWPT_ALLOC, &arg);

    *id = arg.out_hwpt_id;
    return ret;
}

long nested_alloc(World *w, uint64_t word0, uint64_t word1, uint32_t *id)
{
    struct iommu_hwpt_arm_smmuv3 ste = { { word0, word1 } };
    struct iommu_hwpt_alloc arg = {
        .size = sizeof(arg),
        .dev_id = w->dev_id,
        .pt_id = w->viommu,
        .data_type = IOMMU_HWPT_DATA_ARM_SMMUV3,
        .data_len = sizeof(ste),
        .data_uptr = (uintptr_t)&ste,
    };
    long ret = call(w->fd, IOMMU_HWPT_ALLOC, &arg);

    *id = arg.out_hwpt_id;
    return ret;
}

long viommu_alloc(World *w, uint32_t hwpt, uint32_t *id)
{
    struct iommu_viommu_alloc arg = {
        .size = sizeof(arg),
        .type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
        .dev_id = w->dev_id,
        .hwpt_id = hwpt,
    };
    long ret = call(w->fd, IOMMU_VIOMMU_ALLOC, &arg);

    *id = arg.out_viommu_id;
    return ret;
}

long vdevice_alloc(World *w, uint64_t vsid, uint32_t *id)
{
    struct iommu_vdevice_alloc arg = {
        .size = sizeof(arg),
        .viommu_id = w->viommu,
        .dev_id = w->dev_id,
        .virt_id = vsid,
    };
    long ret = call(w->fd, IOMMU_VDEVICE_ALLOC, &arg);

    *id = arg.out_vdevice_id;
    return ret;
}

World world_open(void)
{
    World w = {};
    struct iommu_hw_info hw = {
        .size = sizeof(hw),
        .data_len = sizeof(w.info),
        .data_uptr = (uintptr_t)&w.info,
    };

    w.fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    need(w.fd < 0 ? -errno : 0, "/dev/iommu");
    w.dev = open_device();
    need(bind_device(w.dev, w.fd, &w.dev_id), "binding the device");
    hw.dev_id = w.dev_id;
    need(call(w.fd, IOMMU_GET_HW_INFO, &hw), "the SMMU's registers");
    hw.flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE;
    hw.in_data_type = IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV;
    hw.data_len = 0;
    w.cmdqv = !call(w.fd, IOMMU_GET_HW_INFO, &hw);
    need(ioas_alloc(w.fd, &w.ioas), "an IOAS");
    need(hwpt_alloc(&w, w.ioas, IOMMU_HWPT_ALLOC_NEST_PARENT, &w.parent),
         "a nesting parent");
    return w;
}

void world_nest(World *w)
{
    need(viommu_alloc(w, w->parent, &w->viommu), "a vIOMMU");
    need(vdevice_alloc(w, VSID, &w->vdev), "a vDEVICE");
}

void world_close(World *w)
{
    close(w->dev);
    close(w->fd);
}

int main(int argc, char **argv)
{
    int peer = -1;

    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: conformance /dev/vfio/devices/NAME|fd:N-M"
                " [/dev/vfio/devices/OTHER|fd:N]\n");
        return 2;
    }
    if (sscanf(argv[1], "fd:%d-%d", &first_fd, &last_fd) != 2) {
        device_path = argv[1];
    }
    edge = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(edge + PAGE, PAGE, PROT_NONE);

    puts("TAP version 13");
    if (argc == 3) {
        if (sscanf(argv[2], "fd:%d", &peer) != 1) {
            peer = open(argv[2], O_RDWR | O_CLOEXEC);
            need(peer < 0 ? -errno : 0, argv[2]);
        }
        test_dmabuf(peer);
        printf("1..%u\n", points);
        return failures != 0;
    }
    test_objects();
    test_hwpt();
    test_viommu();
    test_attach();
    test_invalidate();
    test_ioas();
    test_queues();
    test_cmdqv();
    test_dirty();
    test_vfio();
    test_dma();
    printf("1..%u\n", points);
    return failures != 0;
}
