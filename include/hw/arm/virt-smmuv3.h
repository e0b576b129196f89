/*
 * The virt machine: SMMUv3s that a user creates, one per root complex
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_VIRT_SMMUV3_H
#define HW_ARM_VIRT_SMMUV3_H

#include "hw/arm/smmu-common.h"
#include "hw/arm/virt.h"

/**
 * virt_smmuv3_pre_plug: an SMMUv3 is about to be realized
 * @vms: the machine
 * @dev: an arm-smmuv3 with its properties set
 * @errp: why the machine cannot carry it, or cannot describe it to the guest,
 *        and all else that is wrong with it then
 *
 * Decides whether the machine or the user has created it, and sets what only
 * the board knows.  On error nothing has to be undone.
 */
void virt_smmuv3_pre_plug(VirtMachineState *vms, DeviceState *dev,
                          Error **errp);

/**
 * virt_smmuv3_plug: an SMMUv3 has its place on the platform bus
 * @vms: the machine
 * @dev: an arm-smmuv3 that virt_smmuv3_pre_plug() has accepted
 *
 * Adds the device tree's node of a user's SMMU.
 */
void virt_smmuv3_plug(VirtMachineState *vms, DeviceState *dev);

/**
 * virt_smmuv3_allows: may another kind of IOMMU be plugged?
 * @vms: the machine
 * @dev: that IOMMU
 * @errp: set if a user has created SMMUv3s already
 */
bool virt_smmuv3_allows(VirtMachineState *vms, DeviceState *dev, Error **errp);

/**
 * virt_smmuv3_get_resources: where a user's SMMUv3 sits
 * @vms: the machine
 * @dev: an arm-smmuv3 on its platform bus
 * @base: set to the guest physical address of its registers
 * @irqs: set to its SPIs, numbered from 0, by SMMUIrq
 */
void virt_smmuv3_get_resources(VirtMachineState *vms, DeviceState *dev,
                               hwaddr *base, int irqs[NUM_SMMU_IRQS]);

/**
 * virt_smmuv3_get_cmdqv: where the command queues that the guest owns are
 * @vms: the machine
 * @dev: an arm-smmuv3 on its platform bus, with smmuv3_has_cmdqv()
 * @base: set to the guest physical address of their registers
 * @size: set to the size of those, in bytes
 *
 * Returns: their SPI, numbered from 0.
 */
int virt_smmuv3_get_cmdqv(VirtMachineState *vms, DeviceState *dev,
                          hwaddr *base, hwaddr *size);

/**
 * virt_smmuv3_add_fdt_node: describe an SMMUv3 in the device tree
 * @vms: the machine
 * @base: guest physical address of its registers
 * @size: of its registers, in bytes
 * @irqs: its SPIs, numbered from 0, by SMMUIrq
 * @phandle: iommu-map refers to it by this
 */
void virt_smmuv3_add_fdt_node(const VirtMachineState *vms, hwaddr base,
                              hwaddr size, const int irqs[NUM_SMMU_IRQS],
                              uint32_t phandle);

/**
 * virt_smmuv3_list: the SMMUv3s of the machine that are realized
 * @vms: the machine
 *
 * Returns: a list of SMMUv3State *, whose cells the caller frees.  Those of a
 * user are in the order of their bus numbers.
 */
GSList *virt_smmuv3_list(VirtMachineState *vms);

/**
 * virt_smmuv3_has_its_node: does the IORT have an ITS group node?
 * @vms: the machine
 */
bool virt_smmuv3_has_its_node(const VirtMachineState *vms);

/**
 * virt_smmuv3_machine_done: all cold-plugged devices are there
 * @vms: the machine
 *
 * Gives identifiers to the SMMUv3s that have none.  Warns if bridges will get
 * no bus number; only where a user has created SMMUv3s.
 */
void virt_smmuv3_machine_done(VirtMachineState *vms);

#endif
