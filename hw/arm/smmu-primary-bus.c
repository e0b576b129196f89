/*
 * SMMUs: one per root complex
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "hw/arm/smmu-primary-bus.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"

bool smmu_each_device_below(PCIBus *bus,
                            bool (*fn)(PCIDevice *dev, void *opaque,
                                       Error **errp),
                            void *opaque, Error **errp)
{
    for (int devfn = 0; devfn < ARRAY_SIZE(bus->devices); devfn++) {
        PCIDevice *dev = bus->devices[devfn];

        if (!dev) {
            continue;
        }
        if (!fn(dev, opaque, errp)) {
            return false;
        }
        if (IS_PCI_BRIDGE(dev) &&
            !smmu_each_device_below(pci_bridge_get_sec_bus(PCI_BRIDGE(dev)),
                                    fn, opaque, errp)) {
            return false;
        }
    }
    return true;
}

bool smmu_check_primary_bus(SMMUState *s, Error **errp)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(s));
    const char *type = object_get_typename(OBJECT(s));
    PCIBus *bus = s->primary_bus;
    const char *bus_name;

    if (!bus) {
        error_setg(errp, "%s '%s': no primary-bus is given: write "
                   "primary-bus=pcie.0, or the id of a pxb-pcie", type, name);
        return false;
    }
    bus_name = BUS(bus)->name;

    if (!pci_bus_is_root(bus)) {
        error_setg(errp, "%s '%s': primary-bus '%s' is not a root bus: write "
                   "primary-bus=%s, the root bus that it is below",
                   type, name, bus_name,
                   BUS(pci_device_root_bus(bus->parent_dev))->name);
        return false;
    }
    if (pci_bus_is_cxl(bus)) {
        error_setg(errp, "%s '%s': primary-bus '%s' is the root bus of a "
                   "pxb-cxl, which cannot have an SMMU: use a pxb-pcie",
                   type, name, bus_name);
        return false;
    }
    if (!pci_bus_is_express(bus) ||
        (bus->parent_dev &&
         !object_dynamic_cast(OBJECT(bus->parent_dev), TYPE_PXB_PCIE_DEV))) {
        error_setg(errp, "%s '%s': primary-bus '%s' is not the root bus of a "
                   "PCI Express root complex: write primary-bus=pcie.0, or "
                   "the id of a pxb-pcie", type, name, bus_name);
        return false;
    }
    if (bus->iommu_ops) {
        error_setg(errp, "%s '%s': primary-bus '%s' has an IOMMU already: "
                   "write another root bus (pcie.0, or the id of a pxb-pcie), "
                   "or leave one of the two out", type, name, bus_name);
        return false;
    }
    if (pci_bus_bypass_iommu(bus)) {
        error_setg(errp, "%s '%s': primary-bus '%s' bypasses IOMMUs: drop %s, "
                   "or leave this SMMU out", type, name, bus_name,
                   bus->parent_dev ? "bypass_iommu=on from its pxb-pcie" :
                   "-machine default-bus-bypass-iommu=on");
        return false;
    }
    return true;
}

/*
 * primary-bus is a link property, except for the error when the bus is not
 * found.  QOM's own ("Device 'x' not found") neither names the SMMU nor
 * distinguishes a bus from a device.
 */
static void smmu_get_primary_bus(Object *obj, Visitor *v, const char *name,
                                 void *opaque, Error **errp)
{
    PCIBus **bus = object_field_prop_ptr(obj, opaque);
    g_autofree char *path = *bus ? object_get_canonical_path(OBJECT(*bus)) :
                                   g_strdup("");

    visit_type_str(v, name, &path, errp);
}

static void smmu_set_primary_bus(Object *obj, Visitor *v, const char *name,
                                 void *opaque, Error **errp)
{
    PCIBus **bus = object_field_prop_ptr(obj, opaque);
    g_autofree char *path = NULL;
    bool ambiguous = false;
    Object *target = NULL;

    if (!visit_type_str(v, name, &path, errp)) {
        return;
    }
    if (*path) {
        target = object_resolve_path_type(path, TYPE_PCI_BUS, &ambiguous);
    }
    if (*path && !target) {
        g_autofree char *dev_name = qdev_get_human_name(DEVICE(obj));
        const char *type = object_get_typename(obj);

        if (ambiguous) {
            error_setg(errp, "%s '%s': there is more than one PCI bus '%s': "
                       "give the device with the other one another id, or "
                       "write %s= with the QOM path of the bus",
                       type, dev_name, path, name);
        } else {
            error_setg(errp, "%s '%s': there is no PCI bus '%s': write "
                       "%s=pcie.0, or the id of a pxb-pcie that stands before "
                       "this device on the command line",
                       type, dev_name, path, name);
        }
        return;
    }
    object_ref(target);
    object_unref(OBJECT(*bus));
    *bus = target ? PCI_BUS(target) : NULL;
}

static void smmu_release_primary_bus(Object *obj, const char *name,
                                     void *opaque)
{
    PCIBus **bus = object_field_prop_ptr(obj, opaque);

    object_unref(OBJECT(*bus));
    *bus = NULL;
}

const PropertyInfo smmu_prop_primary_bus = {
    .type = "link<" TYPE_PCI_BUS ">",
    .description = "Root bus of the root complex that is behind this SMMU",
    .get = smmu_get_primary_bus,
    .set = smmu_set_primary_bus,
    .release = smmu_release_primary_bus,
};
