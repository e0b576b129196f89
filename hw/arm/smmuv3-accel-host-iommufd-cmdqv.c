/*
 * Accelerated SMMUv3: command queues in hardware, on iommufd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A thin layer, as smmuv3-accel-host-iommufd.c.
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/iommufd.h>
#include "qapi/error.h"
#include "trace.h"
#include "smmuv3-accel-host-iommufd.h"

/* Errors that the host may keep: each of them makes QEMU look at all VCMDQs */
#define ERRORS_DEPTH 16

static int cmdqv_info(SMMUv3HostDevice *dev, SMMUv3HostCmdqv *info,
                      Error **errp)
{
    HostIOMMUDeviceIOMMUFD *idev = smmuv3_to_idev(dev);
    struct iommu_hw_info_tegra241_cmdqv data = {};
    struct iommu_hw_info arg = {
        .size = sizeof(arg),
        .flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE,
        .dev_id = idev->devid,
        .in_data_type = IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
        .data_len = sizeof(data),
        .data_uptr = (uintptr_t)&data,
    };
    int ret = smmuv3_iommufd_call(idev->iommufd, IOMMU_GET_HW_INFO, &arg,
                                  "IOMMU_GET_HW_INFO of a CMDQV", errp);

    if (ret) {
        return ret;
    }
    if (arg.out_data_type != IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV) {
        error_setg(errp, "IOMMU_GET_HW_INFO of a CMDQV says type %u",
                   arg.out_data_type);
        return -EOPNOTSUPP;
    }
    info->log2_queues = data.log2vcmdqs;
    info->log2_sids = data.log2vsids;
    return 0;
}

static int cmdqv_viommu_alloc(SMMUv3HostDevice *dev, uint32_t stage2,
                              void *page, uint32_t *id, Error **errp)
{
    HostIOMMUDeviceIOMMUFD *idev = smmuv3_to_idev(dev);
    struct iommu_viommu_tegra241_cmdqv data = {};
    struct iommu_viommu_alloc arg = {
        .size = sizeof(arg),
        .type = IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
        .dev_id = idev->devid,
        .hwpt_id = stage2,
        .data_len = sizeof(data),
        .data_uptr = (uintptr_t)&data,
    };
    int ret = smmuv3_iommufd_call(idev->iommufd, IOMMU_VIOMMU_ALLOC, &arg,
                                  "IOMMU_VIOMMU_ALLOC with a VINTF", errp);

    if (ret) {
        return ret;
    }
    if (data.out_vintf_mmap_length != SMMUV3_HOST_VINTF_SIZE) {
        error_setg(errp, "page 0 of a VINTF has 0x%" PRIx64 " bytes",
                   (uint64_t)data.out_vintf_mmap_length);
        ret = -EINVAL;
    } else if (mmap(page, SMMUV3_HOST_VINTF_SIZE, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_FIXED, idev->iommufd->fd,
                    data.out_vintf_mmap_offset) == MAP_FAILED) {
        ret = -errno;
        error_setg_errno(errp, -ret, "page 0 of a VINTF cannot be mapped");
    }
    if (ret) {
        iommufd_backend_free_id(idev->iommufd, arg.out_viommu_id);
        return ret;
    }
    *id = arg.out_viommu_id;
    return 0;
}

static int cmdqv_queue_alloc(SMMUv3Host *host, uint32_t viommu, uint32_t index,
                             uint64_t base, uint64_t length, uint32_t *id,
                             Error **errp)
{
    struct iommu_hw_queue_alloc arg = {
        .size = sizeof(arg),
        .viommu_id = viommu,
        .type = IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
        .index = index,
        .nesting_parent_iova = base,
        .length = length,
    };
    int ret = smmuv3_iommufd_call(smmuv3_to_iommufd(host), IOMMU_HW_QUEUE_ALLOC,
                                  &arg, "IOMMU_HW_QUEUE_ALLOC", errp);

    if (!ret) {
        *id = arg.out_hw_queue_id;
    }
    return ret;
}

static int cmdqv_errors_alloc(SMMUv3Host *host, uint32_t viommu, uint32_t *id,
                              int *fd, Error **errp)
{
    return smmuv3_iommufd_veventq_alloc(host, viommu,
                                        IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
                                        ERRORS_DEPTH, id, fd, errp);
}

/* The VCMDQs' own registers say which of them halt, so the map is not read */
static int cmdqv_errors_read(SMMUv3Host *host, int fd)
{
    struct {
        struct iommufd_vevent_header header;
        struct iommu_vevent_tegra241_cmdqv map;
    } records[ERRORS_DEPTH];
    ssize_t len = read(fd, records, sizeof(records));

    return len < 0 ? -errno : DIV_ROUND_UP(len, sizeof(records[0]));
}

const SMMUv3HostCmdqvOps smmuv3_iommufd_cmdqv_ops = {
    .info = cmdqv_info,
    .viommu_alloc = cmdqv_viommu_alloc,
    .queue_alloc = cmdqv_queue_alloc,
    .errors_alloc = cmdqv_errors_alloc,
    .errors_read = cmdqv_errors_read,
};
