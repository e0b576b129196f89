/*
 * VFIO: memory that devices reach by a file
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * iommufd maps memory by its address in QEMU, or by a file and an offset
 * (IOMMU_IOAS_MAP_FILE in linux/iommufd.h).  A BAR of an assigned device has no
 * pages that could be pinned, so that only the second way is open for it: VFIO
 * makes a dma-buf of it (VFIO_DEVICE_FEATURE_DMA_BUF in linux/vfio.h).  Other
 * devices of the guest then reach the BAR: peer to peer.
 */
#ifndef HW_VFIO_DMA_FILE_H
#define HW_VFIO_DMA_FILE_H

#include "hw/vfio/vfio-common.h"

/**
 * vfio_dma_map_region: let the devices of @bcontainer reach a part of @mr
 * @offset: of the part in @mr; page aligned in the host, as @iova and @size are
 * @iova: where the devices shall find it
 * @size: bytes
 * @readonly: they must not write to it
 *
 * A BAR that cannot be mapped is no error: the guest runs without peer to peer.
 * The user is told the reason once for each device.
 *
 * Returns: 0; or -errno, and then nothing is mapped
 */
int vfio_dma_map_region(VFIOContainerBase *bcontainer, MemoryRegion *mr,
                        hwaddr offset, hwaddr iova, hwaddr size,
                        bool readonly);

/**
 * vfio_region_map_again: map what the host's kernel has revoked
 *
 * The kernel revokes the dma-bufs of a device, for good, when the device stops
 * decoding its BARs.  This is for the one case in which QEMU does not unmap the
 * BARs itself meanwhile: the guest resets the function.
 */
void vfio_region_map_again(VFIORegion *region);

#endif /* HW_VFIO_DMA_FILE_H */
