/*
 * The virt machine: a doorbell of MSIs that a guest's own VFIO can use
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_VIRT_MSI_DOORBELL_H
#define HW_ARM_VIRT_MSI_DOORBELL_H

#include "hw/arm/virt.h"

/**
 * virt_msi_window_plug: an SMMUv3 of a user has its place
 * @vms: the machine, whose devices were cold-plugged only so far
 * @dev: an arm-smmuv3 after virt_smmuv3_plug()
 *
 * If it is the first one with a window for the host's MSIs, this function moves
 * the ITS or the GICv2m, and the distributor: in the guest's memory, the
 * machine's map and its device tree.  Tells @dev where the doorbell is.  Does
 * nothing with -machine msi-window=off.
 */
void virt_msi_window_plug(VirtMachineState *vms, DeviceState *dev);

/**
 * virt_msi_window_add_property: the machine's property msi-window
 * @oc: the class of all virt machines
 */
void virt_msi_window_add_property(ObjectClass *oc);

#endif
