/*
 * What an assigned device shows a guest of ATS and PASIDs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * VFIO lets a user read the ATS capability, but ignores writes to it.  It hides
 * the PASID capability.  Where an IOMMU tells what it offers
 * (pci_device_iommu_features()), QEMU keeps the control register of ATS, and
 * makes a PASID capability from what the host says of the device.
 */
#ifndef HW_VFIO_PCI_PASID_H
#define HW_VFIO_PCI_PASID_H

#include "qapi/qapi-types-common.h"
#include "qemu/notify.h"

typedef struct VFIOPCIDevice VFIOPCIDevice;

typedef struct VFIOPCIPasid {
    OnOffAuto ats;              /* property */
    uint16_t wanted_offset;     /* property; 0: QEMU chooses */
    uint16_t ats_cap;           /* offset, if QEMU keeps its control register */
    uint16_t pasid_cap;         /* offset, if there is one */
    Notifier machine_done;
} VFIOPCIPasid;

/**
 * vfio_pci_pasid_realize: decide what the guest will see
 *
 * The capabilities of the device must have been added.  A device that is
 * plugged at start has to wait for the end of the machine's creation, because
 * its IOMMU may be created after it.  Then QEMU ends if ats=on cannot be.
 *
 * Returns: false, with @errp set, if what the user asks for cannot be
 */
bool vfio_pci_pasid_realize(VFIOPCIDevice *vdev, Error **errp);

/* The device goes, or failed to come; may be called twice */
void vfio_pci_pasid_exit(VFIOPCIDevice *vdev);

/* The function was reset: both features are off */
void vfio_pci_pasid_reset(VFIOPCIDevice *vdev);

/**
 * vfio_pci_pasid_write: the guest writes to configuration space
 *
 * Called before the write takes effect.  Notices function-level resets.
 *
 * Returns: true if the write must not reach the device, because what the guest
 * sees in this place is not what the device has there
 */
bool vfio_pci_pasid_write(VFIOPCIDevice *vdev, uint32_t addr, uint32_t val,
                          int len);

#endif /* HW_VFIO_PCI_PASID_H */
