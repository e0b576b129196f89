/*
 * VFIO by iommufd: what an admin has to know when a device is refused
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The kernel has one errno for many reasons.  These functions name the reason,
 * as far as sysfs shows it, and the remedy.  They change nothing.
 */
#ifndef HW_VFIO_IOMMUFD_CHECK_H
#define HW_VFIO_IOMMUFD_CHECK_H

typedef struct VFIODevice VFIODevice;

/**
 * vfio_iommufd_explain_open: say why a device may have no file to open
 * @errp: of the attempt; prepended to
 * @vbasedev: the device, named by its directory in sysfs
 *
 * VFIO can give a device a group without an IOMMU.  It does so for each
 * mediated device, which needs none.  Of that nothing is said.
 */
void vfio_iommufd_explain_open(Error **errp, const VFIODevice *vbasedev);

/**
 * vfio_iommufd_explain_bind: say why the kernel may have refused to bind
 * @errp: of the ioctl; prepended to
 * @err: its errno, positive (VFIO_DEVICE_BIND_IOMMUFD in Linux 6.19)
 */
void vfio_iommufd_explain_bind(Error **errp, int err);

/**
 * vfio_iommufd_check_group: may a device nest?
 * @vbasedev: the device, opened
 * @errp: the other devices of its IOMMU group, and what to do
 *
 * Linux attaches all devices of an IOMMU group together.  It attaches none to a
 * stage 1 unless each has a StreamID of the same vIOMMU, so a device that nests
 * must be alone in its group.  Otherwise the guest's first STE would fail.
 */
bool vfio_iommufd_check_group(const VFIODevice *vbasedev, Error **errp);

#endif /* HW_VFIO_IOMMUFD_CHECK_H */
