/*
 * VFIO PCI: the guest resets a function
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The host's kernel carries out a function-level reset (PCIe, and Advanced
 * Features) within the write to configuration space.  Then it restores what the
 * guest has set there, so that nothing else tells of the reset.  Only the power
 * state is not as it was: the function is in D0.
 */
#ifndef HW_VFIO_PCI_FLR_H
#define HW_VFIO_PCI_FLR_H

typedef struct VFIOPCIDevice VFIOPCIDevice;

/* Does this write of @len bytes to configuration space reset the function? */
bool vfio_pci_is_flr(VFIOPCIDevice *vdev, uint32_t addr, uint32_t val,
                     int len);

/*
 * The host's kernel has seen such a write.  If it has reset the function, it
 * has also revoked what other devices had mapped of the BARs: map that again.
 */
void vfio_pci_flr_written(VFIOPCIDevice *vdev, uint32_t addr, uint32_t val,
                          int len);

#endif /* HW_VFIO_PCI_FLR_H */
