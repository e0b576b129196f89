/*
 * A Tegra241 CMDQV beside an emulated SMMUv3: the device of a host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A hypervisor has it all: virtual interfaces (VINTF) for itself and for its
 * guests, and command queues (VCMDQ) that it allocates to them.  A guest has
 * page 0 of its VINTF at most.  The interface has no public specification; it
 * is that which Linux expects (tegra241-cmdqv.c).
 */
#ifndef HW_ARM_TEGRA241_CMDQV_H
#define HW_ARM_TEGRA241_CMDQV_H

#include "hw/acpi/aml-build.h"
#include "hw/arm/virt.h"
#include "hw/platform-bus.h"

#define TYPE_TEGRA241_CMDQV "tegra241-cmdqv"

/**
 * tegra241_cmdqv_add_fdt_node: describe it in the device tree
 * @pbus: the platform bus that has it
 * @dev: a TYPE_TEGRA241_CMDQV
 * @fdt: with the node of the SMMU
 * @parent: the platform bus's node
 * @irq: of the platform bus's first interrupt
 *
 * The SMMU becomes compatible to that of Tegra264, because Linux asks no other
 * for a CMDQV.  So Linux works around erratum T264-SMMU-3.
 */
void tegra241_cmdqv_add_fdt_node(PlatformBusDevice *pbus, SysBusDevice *dev,
                                 void *fdt, const char *parent, int irq);

/* Describe it in the DSDT, if the machine has one; without that erratum */
void tegra241_cmdqv_add_aml(Aml *scope, VirtMachineState *vms);

#endif
