/*
 * Dirty tracking, as far as a host without HTTU supports it; and VFIO's
 * container calls on an iommufd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <unistd.h>
#include "conformance.h"

static void dirty(World *w)
{
    uint64_t bitmap[64] = {};
    struct iommu_hwpt_set_dirty_tracking set = {
        .size = sizeof(set),
        .hwpt_id = w->parent,
    };
    struct iommu_hwpt_get_dirty_bitmap get = {
        .size = sizeof(get),
        .hwpt_id = w->parent,
        .length = PAGE,
        .page_size = PAGE,
        .data = (uintptr_t)bitmap,
    };

    is(call(w->fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set), -EOPNOTSUPP,
       "SET_DIRTY_TRACKING off without dirty tracking");
    set.flags = IOMMU_HWPT_DIRTY_TRACKING_ENABLE;
    is(call(w->fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set), -EOPNOTSUPP,
       "SET_DIRTY_TRACKING on without dirty tracking");
    set.flags = 2;
    is(call(w->fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set), -EOPNOTSUPP,
       "SET_DIRTY_TRACKING with an unknown flag");
    set.flags = 0;
    set.hwpt_id = w->ioas;
    is(call(w->fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set), -ENOENT,
       "SET_DIRTY_TRACKING of an IOAS");

    is(call(w->fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), -EOPNOTSUPP,
       "GET_DIRTY_BITMAP without dirty tracking");
    get.page_size = 0;
    is(call(w->fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), -EINVAL,
       "GET_DIRTY_BITMAP with page size 0");
    get.page_size = PAGE;
    get.flags = 2;
    is(call(w->fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), -EOPNOTSUPP,
       "GET_DIRTY_BITMAP with an unknown flag");
    get.flags = 0;
    get.hwpt_id = w->ioas;
    is(call(w->fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), -ENOENT,
       "GET_DIRTY_BITMAP of an IOAS");
}

static void container(void)
{
    int fd = open("/dev/iommu", O_RDWR);
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ,
        .vaddr = (uintptr_t)edge,
        .iova = 0x10000,
        .size = PAGE,
    };
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap),
        .iova = 0x10000,
        .size = PAGE,
    };
    struct iommu_vfio_ioas ioas = {
        .size = sizeof(ioas),
        .op = IOMMU_VFIO_IOAS_GET,
    };
    uint32_t id;

    is(call(fd, VFIO_GET_API_VERSION, NULL), 0, "VFIO_GET_API_VERSION");
    is(call(fd, VFIO_CHECK_EXTENSION, (void *)VFIO_TYPE1v2_IOMMU), 1,
       "VFIO_CHECK_EXTENSION of type 1 v2");
    is(call(fd, VFIO_CHECK_EXTENSION, (void *)VFIO_NOIOMMU_IOMMU), 0,
       "VFIO_CHECK_EXTENSION of no IOMMU");
    is(call(fd, VFIO_CHECK_EXTENSION, (void *)VFIO_DMA_CC_IOMMU), -ENODEV,
       "VFIO_CHECK_EXTENSION of cache coherency without an IOAS");
    is(call(fd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU), -ENODEV,
       "VFIO_SET_IOMMU without an IOAS");
    is(call(fd, VFIO_SET_IOMMU, (void *)99), -EINVAL,
       "VFIO_SET_IOMMU to an unknown type");
    is(call(fd, VFIO_IOMMU_MAP_DMA, &map), -ENODEV,
       "VFIO_IOMMU_MAP_DMA without an IOAS");
    is(call(fd, IOMMU_VFIO_IOAS, &ioas), -ENODEV, "VFIO_IOAS without one");
    ioas_alloc(fd, &id);
    ioas.op = IOMMU_VFIO_IOAS_SET;
    ioas.ioas_id = 999;
    is(call(fd, IOMMU_VFIO_IOAS, &ioas), -ENOENT, "VFIO_IOAS to an unknown ID");
    ioas.ioas_id = id;
    is(call(fd, IOMMU_VFIO_IOAS, &ioas), 0, "VFIO_IOAS");
    ioas.op = 77;
    is(call(fd, IOMMU_VFIO_IOAS, &ioas), -EOPNOTSUPP,
       "VFIO_IOAS with an unknown operation");
    ioas.ioas_id = 0;
    ioas.op = IOMMU_VFIO_IOAS_GET;
    is(call(fd, IOMMU_VFIO_IOAS, &ioas), 0, "VFIO_IOAS, get");
    is(ioas.ioas_id == id, 1, "  it is that one");
    is(call(fd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU), 0,
       "VFIO_SET_IOMMU with an IOAS");
    is(call(fd, VFIO_IOMMU_MAP_DMA, &map), 0, "VFIO_IOMMU_MAP_DMA");
    is(call(fd, VFIO_IOMMU_MAP_DMA, &map), -EEXIST,
       "VFIO_IOMMU_MAP_DMA again");
    map.flags = 1 << 20;
    is(call(fd, VFIO_IOMMU_MAP_DMA, &map), -EINVAL,
       "VFIO_IOMMU_MAP_DMA with an unknown flag");
    map.argsz = 8;
    is(call(fd, VFIO_IOMMU_MAP_DMA, &map), -EINVAL,
       "VFIO_IOMMU_MAP_DMA with a short argsz");
    is(call(fd, VFIO_IOMMU_UNMAP_DMA, &unmap), 0, "VFIO_IOMMU_UNMAP_DMA");
    is_hex(unmap.size, PAGE, "  which unmapped");
    is(destroy(fd, id), 0, "DESTROY of VFIO's IOAS");
    is(call(fd, IOMMU_VFIO_IOAS, &ioas), -ENODEV, "VFIO_IOAS after that");
    close(fd);
}

void test_dirty(void)
{
    World w = world_open();

    dirty(&w);
    container();
    world_close(&w);
}
