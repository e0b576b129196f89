/*
 * VFIO's side: bind a device, attach it, replace that, and detach it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "conformance.h"

static long try_bind(int dev, uint32_t argsz, uint32_t flags, int fd)
{
    struct vfio_device_bind_iommufd *arg = (void *)edge;

    memset(edge, 0, 256);
    arg->argsz = argsz;
    arg->flags = flags;
    arg->iommufd = fd;
    return call(dev, VFIO_DEVICE_BIND_IOMMUFD, arg);
}

static void binding(void)
{
    const uint32_t min = offsetof(struct vfio_device_bind_iommufd, out_devid)
                         + 4;
    const uint32_t size = sizeof(struct vfio_device_bind_iommufd);
    int fd = open("/dev/iommu", O_RDWR), other = open("/dev/iommu", O_RDWR);
    int null = open("/dev/null", O_RDWR);
    int dev = open_device(), second = open_device();
    struct vfio_device_attach_iommufd_pt pt = { .argsz = sizeof(pt) };
    struct vfio_device_info info = { .argsz = sizeof(info) };
    struct vfio_device_bind_iommufd bind = {
        .argsz = sizeof(bind),
        .flags = VFIO_DEVICE_BIND_FLAG_TOKEN,
        .token_uuid_ptr = (uintptr_t)edge,
    };
    uint32_t id, again;
    uint8_t byte;

    is(call(dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &pt), -EINVAL,
       "Attach before bind");
    is(call(dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &pt), -EINVAL,
       "Detach before bind");
    is(call(dev, VFIO_DEVICE_GET_INFO, &info), -EINVAL,
       "GET_INFO before bind");
    is(call(dev, VFIO_DEVICE_RESET, NULL), -EINVAL, "RESET before bind");
    is(call(dev, _IO('x', 1), NULL), -EINVAL, "Unknown ioctl before bind");
    is(pread(dev, &byte, 1, 7ull << 40) < 0 ? -errno : 0, -EINVAL,
       "pread() before bind");
    is(pwrite(dev, &byte, 1, 7ull << 40) < 0 ? -errno : 0, -EINVAL,
       "pwrite() before bind");

    is(call(dev, VFIO_DEVICE_BIND_IOMMUFD, NULL), -EFAULT, "Bind from 0");
    is(try_bind(dev, min - 1, 0, fd), -EINVAL, "Bind with a short argsz");
    is(try_bind(dev, min, 2, fd), -EINVAL, "Bind with an unknown flag");
    is(try_bind(dev, min, 0, -1), -EINVAL, "Bind to fd -1");
    is(try_bind(dev, min, 0, 999), -EBADF, "Bind to an fd that is not open");
    is(try_bind(dev, min, 0, null), -EBADFD, "Bind to /dev/null");
    is(try_bind(dev, min, 0, dev), -EBADFD, "Bind to the device itself");
    is(try_bind(dev, size, VFIO_DEVICE_BIND_FLAG_TOKEN, fd), -EFAULT,
       "Bind with a token at 0");
    bind.iommufd = fd;
    is(call(dev, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL,
       "Bind with a token, though the device has none");
    bind.iommufd = null;
    is(call(dev, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL,
       "Bind with such a token to /dev/null");
    memset(edge, 0, 256);
    edge[size + 8] = 1;
    edge[0] = size + 16;
    edge[8] = fd;
    is(call(dev, VFIO_DEVICE_BIND_IOMMUFD, edge), -E2BIG,
       "Bind with a byte after the end");

    is(bind_device(dev, fd, &id), 0, "Bind");
    is(id, 1, "Device ID");
    is(try_bind(dev, min, 0, fd), -EINVAL, "Bind again");
    is(try_bind(dev, min, 0, other), -EINVAL, "Bind to another iommufd then");
    is(try_bind(second, min, 0, fd), -EINVAL, "Bind by a second open");
    is(try_bind(second, min, 0, other), -EINVAL,
       "Bind by a second open to another iommufd");
    is(try_bind(second, min, 0, null), -EBADFD,
       "Bind by a second open to /dev/null");
    close(dev);
    is(bind_device(second, other, &again), 0,
       "Bind by the second open after the first was closed");
    is(call(second, VFIO_DEVICE_GET_INFO, &info), 0, "GET_INFO after bind");
    close(second);

    dev = open_device();
    is(try_bind(dev, min, 0, fd), 0, "Bind with the least argsz");
    close(dev);
    dev = open_device();
    is(try_bind(dev, size + 16, 0, fd), 0, "Bind with zeros after the end");
    close(dev);
    close(null);
    close(other);
    close(fd);
}

static long try_attach(World *w, uint32_t argsz, uint32_t flags, uint32_t pt,
                       uint32_t pasid)
{
    struct vfio_device_attach_iommufd_pt arg = {
        .argsz = argsz,
        .flags = flags,
        .pt_id = pt,
        .pasid = pasid,
    };

    return call(w->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &arg);
}

static long try_detach(World *w, uint32_t argsz, uint32_t flags,
                       uint32_t pasid)
{
    struct vfio_device_detach_iommufd_pt arg = {
        .argsz = argsz,
        .flags = flags,
        .pasid = pasid,
    };

    return call(w->dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &arg);
}

static void arguments(World *w)
{
    struct vfio_device_attach_iommufd_pt *arg = (void *)(edge + PAGE - 8);
    uint32_t id;

    is(detach(w), 0, "Detach while not attached");
    is(call(w->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, NULL), -EFAULT,
       "Attach from 0");
    is(try_attach(w, 11, 0, w->ioas, 0), -EINVAL, "Attach with argsz 11");
    is(try_attach(w, 12, 2, w->ioas, 0), -EINVAL,
       "Attach with an unknown flag");
    is(try_attach(w, 12, 1, w->ioas, 0), -EINVAL,
       "Attach with a PASID beyond argsz");
    is(try_attach(w, 100, 0, 999, 0), -ENOENT, "Attach to an unknown ID");
    is(try_attach(w, 12, 0, 0, 0), -ENOENT, "Attach to ID 0");
    is(attach(w, w->dev_id), -EINVAL, "Attach to a device");
    is(attach(w, w->viommu), -EINVAL, "Attach to a vIOMMU");
    is(attach(w, w->vdev), -EINVAL, "Attach to a vDEVICE");
    is(try_attach(w, 16, 1, w->ioas, 0), 0, "Attach PASID 0 to an IOAS");
    is(try_attach(w, 16, 1, w->ioas, UINT32_MAX), -ENOSPC,
       "Attach the largest PASID to an IOAS");
    is(try_attach(w, 16, 1, w->parent, 1), -EINVAL,
       "Attach a PASID to a HWPT that is not for PASIDs");
    hwpt_alloc(w, w->ioas, IOMMU_HWPT_ALLOC_PASID, &id);
    /* PASID 0 is on an automatic HWPT, which is not for PASIDs. */
    is(try_attach(w, 16, 1, id, 1), -EINVAL,
       "Attach a PASID to a HWPT for PASIDs");
    is(try_detach(w, 16, 1, 1), 0, "Detach the PASID");
    is(try_detach(w, 16, 1, 1), 0, "Detach the PASID again");
    is(try_detach(w, 16, 1, 0), 0, "Detach PASID 0");
    is(try_attach(w, 16, 1, id, 1), 0, "Attach a PASID to it without PASID 0");
    is(try_attach(w, 16, 1, id, 1), 0, "Attach the PASID again");
    is(try_attach(w, 16, 1, w->ioas, 1), -EINVAL,
       "Replace it by a HWPT that is not for PASIDs");
    is(attach(w, w->parent), -EINVAL,
       "Attach to such a HWPT while a PASID is attached");
    is(attach(w, id), 0, "Attach to a HWPT for PASIDs");
    is(attach(w, w->parent), -EINVAL, "Replace it by one that is not");
    is(destroy(w->fd, id), -EBUSY, "DESTROY of the HWPT of both");
    is(try_detach(w, 16, 1, 1), 0, "Detach the PASID");
    is(destroy(w->fd, id), -EBUSY, "DESTROY of the HWPT");
    is(detach(w), 0, "Detach");
    is(destroy(w->fd, id), 0, "DESTROY of the HWPT then");

    is(call(w->dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, NULL), -EFAULT,
       "Detach from 0");
    is(try_detach(w, 7, 0, 0), -EINVAL, "Detach with argsz 7");
    is(try_detach(w, 8, 2, 0), -EINVAL, "Detach with an unknown flag");
    is(try_detach(w, 8, 1, 0), -EINVAL, "Detach with a PASID beyond argsz");
    arg->argsz = 12;
    arg->flags = 0;
    is(call(w->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, arg), -EFAULT,
       "Attach with a pt_id that cannot be read");
}

static long map_msi_window(World *w)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
        .ioas_id = w->ioas,
        .user_va = (uintptr_t)edge,
        .length = PAGE,
        .iova = 0x8000000,
    };
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap),
        .ioas_id = w->ioas,
        .iova = map.iova,
        .length = PAGE,
    };
    long ret = call(w->fd, IOMMU_IOAS_MAP, &map);

    call(w->fd, IOMMU_IOAS_UNMAP, &unmap);
    return ret;
}

/* Which attachment can replace which */
static void replacing(World *w)
{
    struct vfio_device_attach_iommufd_pt pt = {
        .argsz = sizeof(pt),
        .pt_id = w->ioas,
    };
    uint32_t second_ioas, second_parent, plain, abort, bypass, translate;
    uint32_t off, automatic;

    ioas_alloc(w->fd, &second_ioas);
    need(hwpt_alloc(w, second_ioas, IOMMU_HWPT_ALLOC_NEST_PARENT,
                    &second_parent), "a second parent");
    need(hwpt_alloc(w, w->ioas, 0, &plain), "a plain HWPT");
    need(nested_alloc(w, 0, 0, &off), "a nested HWPT with V=0");
    need(nested_alloc(w, 1, 0, &abort), "a nested HWPT that aborts");
    need(nested_alloc(w, 1 | 4 << 1, 0, &bypass), "one that bypasses");
    need(nested_alloc(w, 1 | 5 << 1, 0, &translate), "one that translates");

    is(call(w->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &pt), 0,
       "Attach to an IOAS");
    automatic = pt.pt_id;
    is(automatic != w->ioas, 1, "The ID that comes back is another");
    is(destroy(w->fd, automatic), -EBUSY, "It is a HWPT and in use");
    is(attach(w, w->ioas), 0, "Attach to the same IOAS again");
    is(attach(w, automatic), 0, "Attach to the automatic HWPT by its own ID");
    is(attach(w, second_ioas), 0, "Replace an IOAS by another");
    is(destroy(w->fd, automatic), -ENOENT, "The first automatic HWPT is gone");
    is(attach(w, plain), 0, "Replace an IOAS by a HWPT");
    is(attach(w, plain), 0, "Replace a HWPT by itself");
    is(attach(w, w->parent), 0, "Replace a HWPT by a nesting parent");
    is(attach(w, second_parent), 0, "Replace it by a parent of another IOAS");
    is(attach(w, translate), 0, "Replace it by a nested one that translates");
    is(map_msi_window(w), -EINVAL, "IOAS_MAP in the MSI window");
    is(attach(w, 999), -ENOENT, "Replace by an unknown ID");
    is(attach(w, w->viommu), -EINVAL, "Replace by a vIOMMU");
    is(attach(w, abort), 0, "Replace translation by abort");
    is(attach(w, bypass), 0, "Replace abort by bypass");
    is(attach(w, off), 0, "Replace bypass by V=0");
    is(attach(w, translate), 0, "Replace V=0 by translation");
    is(destroy(w->fd, w->vdev), 0, "DESTROY of the vDEVICE meanwhile");
    is(attach(w, abort), 0, "Replace by abort without a vDEVICE");
    is(attach(w, bypass), 0, "Replace by bypass without a vDEVICE");
    is(attach(w, off), 0, "Replace by V=0 without a vDEVICE");
    is(attach(w, translate), -ENOENT,
       "Replace by translation without a vDEVICE");
    is(destroy(w->fd, off), -EBUSY, "The old one is still attached");
    /* The failed attach removed the IOAS's reserved ranges nevertheless. */
    is(map_msi_window(w), 0, "IOAS_MAP in the MSI window after the failure");
    is(detach(w), 0, "Detach");
    is(detach(w), 0, "Detach again");
    is(attach(w, translate), -ENOENT,
       "Attach to translation without a vDEVICE");
    is(attach(w, bypass), 0, "Attach to bypass without a vDEVICE");
    is(destroy(w->fd, bypass), -EBUSY, "That is attached");
    is(call(w->dev, VFIO_DEVICE_RESET, NULL), 0, "RESET");
    is(destroy(w->fd, bypass), -EBUSY, "It still is after a RESET");
    is(attach(w, w->ioas), 0, "Replace bypass by the IOAS");
    is(destroy(w->fd, bypass), 0, "DESTROY of the bypass");
    is(destroy(w->fd, translate), 0, "DESTROY of the translation");
    is(destroy(w->fd, off), 0, "DESTROY of V=0");
    is(destroy(w->fd, second_parent), 0, "DESTROY of the second parent");
    is(destroy(w->fd, second_ioas), 0, "DESTROY of the second IOAS");
}

void test_attach(void)
{
    World w;

    binding();
    w = world_open();
    world_nest(&w);
    arguments(&w);
    replacing(&w);
    world_close(&w);
}
