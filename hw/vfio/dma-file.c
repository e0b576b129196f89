/*
 * VFIO: memory that devices reach by a file
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/vfio.h>
#include "exec/memory.h"
#include "hw/vfio/vfio-common.h"
#include "qemu/error-report.h"
#include "dma-file.h"
#include "trace.h"

/* The region of a device that @mr is an mmap() of; NULL if it is none */
static VFIORegion *region_of(MemoryRegion *mr)
{
    MemoryRegion *slow = mr->container;

    return memory_region_is_ram_device(mr) && slow &&
           slow->ops == &vfio_region_ops ? slow->opaque : NULL;
}

/* An fd of these bytes of @region, or -errno; the caller closes it */
static int region_dma_buf(VFIORegion *region, hwaddr offset, hwaddr size)
{
    size_t argsz = sizeof(struct vfio_device_feature) +
                   sizeof(struct vfio_device_feature_dma_buf) +
                   sizeof(struct vfio_region_dma_range);
    g_autofree struct vfio_device_feature *feature = g_malloc0(argsz);
    struct vfio_device_feature_dma_buf *dma_buf = (void *)feature->data;
    int fd;

    feature->argsz = argsz;
    feature->flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
    dma_buf->region_index = region->nr;
    dma_buf->open_flags = O_RDWR | O_CLOEXEC;
    dma_buf->nr_ranges = 1;
    dma_buf->dma_ranges[0].offset = offset;
    dma_buf->dma_ranges[0].length = size;
    fd = ioctl(region->vbasedev->fd, VFIO_DEVICE_FEATURE, feature);
    return fd < 0 ? -errno : fd;
}

/*
 * Warn once for each device.  What Linux 7.3 means by @err is in its
 * vfio_pci_dmabuf.c, and in iommufd's pages.c if there was a dma-buf.
 */
static void tell_no_peers(VFIODevice *vbasedev, int err, bool dma_buf)
{
    const char *why = "the host's kernel does not map a BAR for them";

    if (vbasedev->peers_told) {
        return;
    }
    vbasedev->peers_told = true;
    if (err == -ENOTTY || err == -EOPNOTSUPP) {
        why = dma_buf ?
              "the host's iommufd maps no dma-buf of a BAR (Linux does since "
              "6.19, with CONFIG_PCI_P2PDMA)" :
              "the host's kernel, or the device's driver there, makes no "
              "dma-buf of a BAR (vfio-pci does since Linux 6.19, with "
              "CONFIG_PCI_P2PDMA)";
    } else if (err == -EINVAL && dma_buf) {
        why = "the host's iommufd refuses the address of a BAR or its dma-buf "
              "(is the BAR above what the host's IOMMU translates, or the "
              "host's Linux older than 6.19?)";
    }
    warn_report(VFIO_MSG_PREFIX "the guest's other devices cannot reach its "
                "BARs (no peer to peer): %s: %s", vbasedev->name, why,
                strerror(-err));
}

static void map_bar(VFIOContainerBase *bcontainer, VFIORegion *region,
                    hwaddr offset, hwaddr iova, hwaddr size, bool readonly)
{
    VFIOIOMMUClass *vioc = VFIO_IOMMU_GET_CLASS(bcontainer);
    VFIODevice *vbasedev = region->vbasedev;
    int fd, ret;

    /* The rest of such a page belongs to nobody: there is no dma-buf of it */
    if (region->size < qemu_real_host_page_size()) {
        return;
    }
    ret = fd = region_dma_buf(region, offset, size);
    if (fd >= 0) {
        readonly |= !(region->flags & VFIO_REGION_INFO_FLAG_WRITE);
        ret = vioc->dma_map_file(bcontainer, iova, size, fd, readonly);
        /* The mapping holds the dma-buf. */
        close(fd);
    }
    trace_vfio_dma_map_bar(vbasedev->name, region->nr, offset, iova, size,
                           ret < 0 ? ret : 0);
    if (ret >= 0) {
        vbasedev->peers_reach_bars = true;
    } else if (fd >= 0 && ret == -ENODEV) {
        /* Decoding is off again.  It comes back, and this function with it. */
    } else {
        tell_no_peers(vbasedev, ret, fd >= 0);
    }
}

int vfio_dma_map_region(VFIOContainerBase *bcontainer, MemoryRegion *mr,
                        hwaddr offset, hwaddr iova, hwaddr size,
                        bool readonly)
{
    VFIOIOMMUClass *vioc = VFIO_IOMMU_GET_CLASS(bcontainer);
    VFIORegion *region = region_of(mr);

    if (vioc->dma_map_file && region) {
        map_bar(bcontainer, region, mr->addr + offset, iova, size, readonly);
        return 0;
    }
    /*
     * RAM is mapped by its address, even if it has a file.  What is not there
     * yet is taken as for the VMA then, so that mbind() and madvise() hold
     * (policy=bind of a memory backend).  By the file it would not be: Linux,
     * memfd_alloc_folio().
     */
    return vfio_container_dma_map(bcontainer, iova, size,
                                  memory_region_get_ram_ptr(mr) + offset,
                                  readonly);
}

static void set_mapped(VFIORegion *region, bool mapped, unsigned long *which)
{
    memory_region_transaction_begin();
    for (unsigned i = find_first_bit(which, region->nr_mmaps);
         i < region->nr_mmaps;
         i = find_next_bit(which, region->nr_mmaps, i + 1)) {
        memory_region_set_enabled(&region->mmaps[i].mem, mapped);
    }
    memory_region_transaction_commit();
}

void vfio_region_map_again(VFIORegion *region)
{
    g_autofree unsigned long *mapped = bitmap_new(region->nr_mmaps);

    if (!region->mem || !region->vbasedev->peers_reach_bars) {
        return;
    }
    /* Some may be off because of a pending INTx. */
    for (unsigned i = 0; i < region->nr_mmaps; i++) {
        if (region->mmaps[i].mmap && region->mmaps[i].mem.enabled) {
            set_bit(i, mapped);
        }
    }
    /* All listeners, those of other containers among them, unmap and map. */
    set_mapped(region, false, mapped);
    set_mapped(region, true, mapped);
}
