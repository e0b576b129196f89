/*
 * Accelerated SMMUv3: devices
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Which devices may be below the SMMU, what address space and MSI doorbell they
 * have, and what happens when a device is added or removed.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "hw/arm/smmu-primary-bus.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/vfio/pci.h"
#include "smmuv3-accel-internal.h"

static bool is_bridge(PCIDevice *dev)
{
    return IS_PCI_BRIDGE(dev) ||
           PCI_DEVICE_GET_CLASS(dev)->class_id == PCI_CLASS_BRIDGE_HOST;
}

static bool is_assigned(PCIDevice *dev)
{
    return object_dynamic_cast(OBJECT(dev), TYPE_VFIO_PCI);
}

/*
 * Accept assigned devices only.  TLBI commands carry no StreamID: with an
 * emulated endpoint beside them each command would have to invalidate QEMU's
 * IOTLB too.  Bridges are accepted, because their only DMA is their own MSIs.
 */
static bool accept_device(PCIDevice *dev, void *opaque, Error **errp)
{
    SMMUv3State *s = opaque;
    const char *type = object_get_typename(OBJECT(dev));
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));
    g_autofree char *smmu = qdev_get_human_name(DEVICE(s));

    if (is_bridge(dev)) {
        return true;
    }
    if (!is_assigned(dev)) {
        error_setg(errp, "%s '%s' cannot be behind arm-smmuv3 '%s' with "
                   "accel=on, which translates assigned devices only: put it "
                   "on a root complex without accel=on, or leave it out "
                   "(-nic none for the machine's default NIC)",
                   type, name, smmu);
        return false;
    }
    /* The link property always exists, but may be unset */
    if (!object_property_get_link(OBJECT(dev), "iommufd", NULL)) {
        error_setg(errp, "%s '%s' cannot be behind arm-smmuv3 '%s' with "
                   "accel=on without an iommufd: add -object "
                   "iommufd,id=iommufd0 and give the device iommufd=iommufd0",
                   type, name, smmu);
        return false;
    }
    if (!pci_bus_is_express(pci_get_bus(dev))) {
        error_setg(errp, "%s '%s' cannot be behind arm-smmuv3 '%s' with "
                   "accel=on from a conventional PCI bus, where its requests "
                   "carry the bridge's StreamID: put it on a pcie-root-port",
                   type, name, smmu);
        return false;
    }
    return true;
}

static AddressSpace *get_address_space(PCIBus *bus, void *opaque, int devfn)
{
    PCIDevice *dev = bus->devices[devfn];

    /*
     * An assigned device's DMA never passes through QEMU.  VFIO maps the stage
     * 2, which is all of guest memory.  One pointer for all devices lets VFIO
     * keep one IOAS for the whole machine.
     */
    return dev && is_assigned(dev) ? &address_space_memory
                                   : smmu_find_add_as(bus, opaque, devfn);
}

static uint64_t get_viommu_flags(void *opaque)
{
    SMMUv3State *s = opaque;

    return VIOMMU_FLAG_WANT_NESTING_PARENT |
           (s->accel_props.share_stage2 ? VIOMMU_FLAG_SHARE_NESTING_PARENT : 0);
}

static bool get_msi_doorbell(PCIDevice *dev, void *opaque, hwaddr *gpa)
{
    SMMUv3State *s = opaque;

    if (!s->accel_props.msi_gpa || !is_assigned(dev)) {
        return false;
    }
    *gpa = s->accel_props.msi_gpa;
    return true;
}

/*
 * Adding and removing devices
 */

static void remove_endpoint(SMMUv3AccelEndpoint *ep)
{
    SMMUv3AccelStream *stream = &ep->stream;
    SMMUv3AccelVsmmu *vsmmu = stream->vsmmu;

    /*
     * Without streams this vSMMU forwards no TLBI.  But its stage 2 and VMID
     * live on until VFIO frees them, or longer if another vSMMU shares them.
     * So leave no TLB entry behind.
     */
    if (vsmmu->n_streams == 1) {
        smmuv3_accel_slow_cancel(ep->smmu);
        vsmmu->ops->detach(stream->dev, NULL);
        smmuv3_accel_vsmmu_resync(vsmmu);
        smmuv3_accel_eventq_stop(ep->smmu);
    }
    smmuv3_accel_stream_fini(stream);
    object_unref(OBJECT(ep->idev));
    g_free(ep);
}

/* Attach a new endpoint to what the guest wants, now or as soon as possible */
static bool attach_new(SMMUv3AccelEndpoint *ep, Error **errp)
{
    ERRP_GUARD();
    int ret = smmuv3_accel_refresh_stream(ep, SMMUV3_ACCEL_EDGE_OTHER, errp);

    if (!ret) {
        return true;
    }
    if (smmuv3_accel_passes_by_itself(ret)) {
        error_free(*errp);
        *errp = NULL;
        return true;
    }
    if (ret == -ENOENT) {
        error_prepend(errp, "the host's kernel must be Linux 6.19 or later, "
                      "which attaches a device before its StreamID is known: ");
    }
    return false;
}

static bool add_endpoint(SMMUv3State *s, PCIBus *bus, int devfn,
                         HostIOMMUDeviceIOMMUFD *idev, Error **errp)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3HostDevice *dev = (SMMUv3HostDevice *)idev;
    SMMUv3AccelCaps caps = accel->caps;
    SMMUv3AccelEndpoint *ep;
    SMMUv3HostInfo info;

    if (!HOST_IOMMU_DEVICE_IOMMUFD_GET_CLASS(idev)->nest(idev, errp) ||
        accel->vsmmu.ops->info(dev, &info, errp) ||
        !smmuv3_accel_caps_add_host(&caps, &info, errp)) {
        return false;
    }
    ep = g_new0(SMMUv3AccelEndpoint, 1);
    ep->smmu = s;
    ep->bus = bus;
    ep->devfn = devfn;
    if (!smmuv3_accel_stream_init(&ep->stream, &accel->vsmmu, dev, &info,
                                  errp)) {
        g_free(ep);
        return false;
    }
    ep->idev = idev;
    object_ref(OBJECT(idev));
    if (!attach_new(ep, errp)) {
        remove_endpoint(ep);
        return false;
    }
    accel->caps = caps;
    smmuv3_accel_eventq_update(s);
    return true;
}

static bool set_iommu_device(PCIBus *bus, void *opaque, int devfn,
                             HostIOMMUDevice *hiod, Error **errp)
{
    ERRP_GUARD();
    SMMUv3State *s = opaque;
    Object *idev = object_dynamic_cast(OBJECT(hiod),
                                       TYPE_HOST_IOMMU_DEVICE_IOMMUFD);

    if (!idev) {
        error_setg(errp, "%s has no iommufd: add -object iommufd,id=iommufd0 "
                   "and give the device iommufd=iommufd0", hiod->name);
        return false;
    }
    if (!add_endpoint(s, bus, devfn, HOST_IOMMU_DEVICE_IOMMUFD(idev), errp)) {
        error_prepend(errp, "%s cannot be behind %s: ", hiod->name,
                      s->accel_state->name);
        return false;
    }
    return true;
}

static void unset_iommu_device(PCIBus *bus, void *opaque, int devfn)
{
    SMMUv3State *s = opaque;
    SMMUv3AccelStream *stream;

    QLIST_FOREACH(stream, &s->accel_state->vsmmu.streams, next) {
        SMMUv3AccelEndpoint *ep = smmuv3_accel_endpoint(stream);

        if (ep->bus == bus && ep->devfn == devfn) {
            remove_endpoint(ep);
            return;
        }
    }
}

static const PCIIOMMUOps accel_iommu_ops = {
    .get_address_space = get_address_space,
    .set_iommu_device = set_iommu_device,
    .unset_iommu_device = unset_iommu_device,
    .accept_device = accept_device,
    .get_viommu_flags = get_viommu_flags,
    .get_msi_doorbell = get_msi_doorbell,
    .bus_renumbered = smmuv3_accel_bus_renumbered,
    .bus_removed = smmu_bus_removed,
};

/*
 * Devices that are created before their SMMU
 */

bool smmuv3_accel_check_devices(SMMUv3State *s, Error **errp)
{
    PCIBus *bus = s->smmu_state.primary_bus;

    /* The base class refuses an SMMU without a bus */
    return !bus || smmu_each_device_below(bus, accept_device, s, errp);
}

static bool adopt(PCIDevice *dev, void *opaque, Error **errp)
{
    if (!is_assigned(dev)) {
        return true;
    }
    if (!dev->host_iommu_device) {
        g_autofree char *name = qdev_get_human_name(DEVICE(dev));

        error_setg(errp, "vfio-pci '%s' is a mediated device, which has no "
                   "stage 1 in the host's IOMMU: put it on a root complex "
                   "without accel=on", name);
        return false;
    }
    return set_iommu_device(pci_get_bus(dev), opaque, dev->devfn,
                            dev->host_iommu_device, errp);
}

bool smmuv3_accel_pci_realize(SMMUv3State *s, Error **errp)
{
    PCIBus *bus = s->smmu_state.primary_bus;

    pci_setup_iommu_per_bus(bus, &accel_iommu_ops, s);
    return smmu_each_device_below(bus, adopt, s, errp);
}

void smmuv3_accel_pci_unrealize(SMMUv3State *s)
{
    SMMUv3AccelStream *stream, *next;

    QLIST_FOREACH_SAFE(stream, &s->accel_state->vsmmu.streams, next, next) {
        remove_endpoint(smmuv3_accel_endpoint(stream));
    }
}
