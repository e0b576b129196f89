/*
 * Accelerated SMMUv3: what the files on iommufd share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_SMMUV3_ACCEL_HOST_IOMMUFD_H
#define HW_ARM_SMMUV3_ACCEL_HOST_IOMMUFD_H

#include "system/iommufd.h"
#include "smmuv3-accel-host.h"

static inline HostIOMMUDeviceIOMMUFD *smmuv3_to_idev(SMMUv3HostDevice *dev)
{
    return HOST_IOMMU_DEVICE_IOMMUFD(dev);
}

static inline IOMMUFDBackend *smmuv3_to_iommufd(SMMUv3Host *host)
{
    return IOMMUFD_BACKEND(host);
}

/* Command queues in hardware (smmuv3-accel-host-iommufd-cmdqv.c) */
extern const SMMUv3HostCmdqvOps smmuv3_iommufd_cmdqv_ops;

/**
 * smmuv3_iommufd_call: make a call of linux/iommufd.h, and trace it
 * @iommufd: where
 * @request: IOMMU_*
 * @arg: its struct
 * @what: its name, for messages
 * @errp: says that it has failed
 *
 * Returns: 0, or a negative errno.
 */
int smmuv3_iommufd_call(IOMMUFDBackend *iommufd, unsigned long request,
                        void *arg, const char *what, Error **errp);

/**
 * smmuv3_iommufd_veventq_alloc: IOMMU_VEVENTQ_ALLOC
 * @host: the connection to the host
 * @viommu: whose events
 * @type: an enum iommu_veventq_type
 * @depth: how many events the host keeps
 * @id: set to the vEVENTQ
 * @fd: set to its file, which never blocks
 * @errp: why there is none; @id and @fd are unchanged then
 *
 * Returns: 0, or a negative errno.
 */
int smmuv3_iommufd_veventq_alloc(SMMUv3Host *host, uint32_t viommu,
                                 uint32_t type, uint32_t depth, uint32_t *id,
                                 int *fd, Error **errp);

#endif
