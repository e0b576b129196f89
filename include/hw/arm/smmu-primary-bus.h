/*
 * SMMUs: one per root complex
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_SMMU_PRIMARY_BUS_H
#define HW_ARM_SMMU_PRIMARY_BUS_H

#include "hw/arm/smmu-common.h"
#include "hw/qdev-properties.h"

/* The property primary-bus: a link to a PCIBus, with messages of its own */
extern const PropertyInfo smmu_prop_primary_bus;

/**
 * smmu_check_primary_bus: may an SMMU for one root complex sit on its bus?
 * @s: an SMMU whose properties are set, before it is realized
 * @errp: names the device and the remedy
 *
 * A board calls this for an SMMU with smmu_per_bus set.  The bus has to be the
 * root bus of a PCI Express host bridge or of a pxb-pcie.  It must not have an
 * IOMMU yet, and must not be set to bypass IOMMUs.  Changes nothing.
 *
 * Returns: true if the bus can be used.
 */
bool smmu_check_primary_bus(SMMUState *s, Error **errp);

/**
 * smmu_each_device_below: call a function for each device below a bus
 * @bus: a root bus; PXBs that are plugged into it are other root complexes
 * @fn: called until it returns false, with an Error set
 * @opaque: passed to @fn
 * @errp: passed to @fn
 *
 * Returns: false if @fn returned false.
 */
bool smmu_each_device_below(PCIBus *bus,
                            bool (*fn)(PCIDevice *dev, void *opaque,
                                       Error **errp),
                            void *opaque, Error **errp);

#endif
