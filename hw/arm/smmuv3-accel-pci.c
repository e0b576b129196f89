/*
 * Accelerated SMMUv3: devices
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Which devices may be below the SMMU, what address space and MSI doorbell they
 * have, and what happens when a device is added or removed.  Also warns of an
 * SMMU without devices, and of devices whose MSIs fault.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "exec/address-spaces.h"
#include "hw/arm/smmu-primary-bus.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/vfio/pci.h"
#include "system/system.h"
#include "trace.h"
#include "smmuv3-accel-internal.h"

static bool is_bridge(PCIDevice *dev)
{
    return IS_PCI_BRIDGE(dev) ||
           PCI_DEVICE_GET_CLASS(dev)->class_id == PCI_CLASS_BRIDGE_HOST;
}

static bool is_assigned(PCIDevice *dev)
{
    return object_dynamic_cast(OBJECT(dev), smmuv3_host_ops->pci_type);
}

PCIDevice *smmuv3_accel_device(const SMMUv3AccelEndpoint *ep)
{
    return ep->bus->devices[ep->devfn];
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
    bool no_iommufd, aliased;

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
    no_iommufd = !object_property_get_link(OBJECT(dev), "iommufd", NULL);
    aliased = !pci_bus_is_express(pci_get_bus(dev));
    if (no_iommufd || aliased) {
        error_setg(errp, "%s '%s' cannot be behind arm-smmuv3 '%s' with "
                   "accel=on %s%s%s", type, name, smmu,
                   no_iommufd ? "without an iommufd: add -object "
                   "iommufd,id=iommufd0 and give the device iommufd=iommufd0" :
                   "", no_iommufd && aliased ? "; nor " : "",
                   aliased ? "from a conventional PCI bus, where its requests "
                   "carry the bridge's StreamID: put it on a pcie-root-port" :
                   "");
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

/* Whether a device can use ATS is a question for that device (VFIO) */
static void get_features(PCIBus *bus, void *opaque, int devfn,
                         PCIIOMMUFeatures *features)
{
    SMMUv3State *s = opaque;
    const SMMUv3AccelCaps *caps = &s->accel_state->caps;

    *features = (PCIIOMMUFeatures) {
        .ats = caps->value[SMMUV3_CAP_ATS],
        .pasid_bits = caps->value[SMMUV3_CAP_SSIDSIZE],
    };
}

/*
 * A guest that ignores the RMR does not map the host's MSI window.  Then each
 * MSI of its assigned devices faults, and all that it sees is a silent device.
 * IHI 0070 7.3.13 to 7.3.16: InputAddr is word 2, RnW is bit 99.
 */
void smmuv3_accel_note_msi_fault(SMMUv3State *s, const SMMUv3HostEvent *event)
{
    SMMUv3Accel *accel = s->accel_state;
    uint8_t type = extract64(le64_to_cpu(event->word[0]), 0, 8);
    uint32_t sid = extract64(le64_to_cpu(event->word[0]), 32, 32);
    bool read = extract64(le64_to_cpu(event->word[1]), 35, 1);
    uint64_t addr = le64_to_cpu(event->word[2]);
    SMMUv3AccelStream *stream = smmuv3_accel_vsmmu_find(&accel->vsmmu, sid);
    SMMUv3AccelEndpoint *ep;

    if (type < SMMU_EVT_F_TRANSLATION || type > SMMU_EVT_F_PERMISSION || read ||
        addr - SMMUV3_HOST_MSI_BASE >= SMMUV3_HOST_MSI_SIZE || !stream) {
        return;
    }
    accel->msi_faults++;
    trace_smmuv3_accel_msi_fault(accel->name, sid, addr, accel->msi_faults);
    ep = smmuv3_accel_endpoint(stream);
    if (!ep->msi_reported) {
        g_autofree char *name =
            qdev_get_human_name(DEVICE(smmuv3_accel_device(ep)));

        ep->msi_reported = true;
        warn_report("vfio-pci '%s' behind %s: the guest gets no interrupts of "
                    "it, because it has not mapped the host's MSI window at "
                    "0x%x (StreamID 0x%x faults at 0x%" PRIx64 "); use a guest "
                    "that obeys the IORT's RMR (Linux 6.0 or later), boot "
                    "Linux with iommu.passthrough=1, or put the device on a "
                    "root complex without an SMMU",
                    name, accel->name, SMMUV3_HOST_MSI_BASE, sid, addr);
    }
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
     * So leave no TLB entry behind.  A slow host is not called, because QEMU
     * may have waited for it already.  Then the next stream does not translate
     * before the entries are gone, and who shares the VMID invalidates them.
     */
    if (vsmmu->n_streams == 1) {
        smmuv3_accel_cmdqv_host_gone(ep->smmu);
        smmuv3_accel_slow_cancel(ep->smmu);
        stream->detached = !vsmmu->ops->detach(stream->dev, NULL);
        if (vsmmu->slow) {
            smmuv3_accel_vsmmu_invalidated(vsmmu, -ETIMEDOUT);
        } else {
            int64_t start = get_clock();

            smmuv3_accel_vsmmu_resync(vsmmu);
            smmuv3_accel_slow_note_since(ep->smmu, start);
        }
        smmuv3_accel_tell_sharers(ep->smmu, true);
        smmuv3_accel_eventq_stop(ep->smmu);
    }
    smmuv3_accel_stream_fini(stream);
    object_unref(OBJECT(ep->hiod));
    g_free(ep->error);
    g_free(ep);
}

/* Attach a new endpoint to what the guest wants, now or as soon as possible */
static bool attach_new(SMMUv3AccelEndpoint *ep, Error **errp)
{
    ERRP_GUARD();
    int ret = smmuv3_accel_refresh_stream(ep, SMMUV3_EDGE_PLUG, errp);
    SMMUv3AccelVsmmu *vsmmu = ep->stream.vsmmu;

    if (!ret) {
        return true;
    }
    /* A slow host is not waited for */
    if (smmuv3_accel_passes_by_itself(ret) ||
        (smmuv3_accel_stream_waits(&ep->stream) && vsmmu->slow)) {
        smmuv3_accel_slow_restore(ep->smmu);
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

/* A command of the guest for each of them fits into a batch, and leaves room */
#define STREAMS_MAX (SMMUV3_ACCEL_BATCH_MAX - 1)

/* vfio-pci,ats=off: the guest sees no ATS, and no STE of its enables it */
static bool hides_ats(PCIDevice *dev)
{
    g_autofree char *ats = object_property_get_str(OBJECT(dev), "ats", NULL);

    return !g_strcmp0(ats, "off");
}

static bool add_endpoint(SMMUv3State *s, PCIBus *bus, int devfn,
                         HostIOMMUDevice *hiod, Error **errp)
{
    SMMUv3Accel *accel = s->accel_state;
    const SMMUv3HostOps *ops = accel->vsmmu.ops;
    SMMUv3HostDevice *dev = ops->device(hiod);
    SMMUv3AccelCaps caps = accel->caps;
    SMMUv3AccelEndpoint *ep;
    SMMUv3HostInfo info;

    if (accel->vsmmu.n_streams == STREAMS_MAX) {
        error_setg(errp, "an SMMU has room for %u devices; put this one on a "
                   "root complex with an arm-smmuv3 of its own", STREAMS_MAX);
        return false;
    }
    if (ops->nest(dev, errp) || ops->info(dev, &info, errp)) {
        return false;
    }
    info.ats = info.ats && !hides_ats(bus->devices[devfn]);
    if (!smmuv3_accel_caps_add_host(&caps, &info, errp)) {
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
    ep->hiod = hiod;
    object_ref(OBJECT(hiod));
    if (accel->vsmmu.n_streams == 1) {
        smmuv3_accel_hear_of_sharers(s);
    }
    if (!attach_new(ep, errp)) {
        remove_endpoint(ep);
        return false;
    }
    accel->caps = caps;
    smmuv3_accel_eventq_update(s);
    if (accel->vsmmu.n_streams == 1) {
        smmuv3_accel_cmdqv_host_new(s);
    }
    return true;
}

static bool set_iommu_device(PCIBus *bus, void *opaque, int devfn,
                             HostIOMMUDevice *hiod, Error **errp)
{
    ERRP_GUARD();
    SMMUv3State *s = opaque;

    /* accept_device() has refused a device without an iommufd */
    if (!add_endpoint(s, bus, devfn, hiod, errp)) {
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
    .get_features = get_features,
    .bus_renumbered = smmuv3_accel_bus_renumbered,
    .bus_removed = smmu_bus_removed,
};

/*
 * Devices that are created before their SMMU
 */

void smmuv3_accel_check_devices(SMMUv3State *s, GPtrArray *faults)
{
    smmuv3_fault_check_devices(s, accept_device, faults);
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

/*
 * An SMMU without devices
 */

/* Find an assigned device that no accelerated SMMU is above */
static int find_elsewhere(Object *obj, void *opaque)
{
    PCIDevice **found = opaque;
    Object *dev = object_dynamic_cast(obj, TYPE_VFIO_PCI);

    if (dev && DEVICE(dev)->realized &&
        pci_device_root_bus(PCI_DEVICE(dev))->iommu_ops != &accel_iommu_ops) {
        *found = PCI_DEVICE(dev);
    }
    return *found != NULL;
}

/*
 * A user who adds accel=on wants it for a device.  If there are devices, but
 * elsewhere, this user has likely forgotten a bus=.
 */
static void hint_if_idle(Notifier *notifier, void *unused)
{
    SMMUv3Accel *accel = container_of(notifier, SMMUv3Accel, machine_done);
    const char *bus = BUS(accel->bus)->name;
    PCIDevice *dev = NULL;

    if (QLIST_EMPTY(&accel->vsmmu.streams)) {
        object_child_foreach_recursive(object_get_root(), find_elsewhere, &dev);
    }
    if (dev) {
        const char *other = BUS(pci_device_root_bus(dev))->name;
        g_autofree char *name = qdev_get_human_name(DEVICE(dev));

        warn_report("%s: no device is behind it, and nothing translates for "
                    "vfio-pci '%s', which is below '%s': give the device a "
                    "bus= below '%s', or the SMMU primary-bus=%s",
                    accel->name, name, other, bus, other);
    }
}

bool smmuv3_accel_pci_realize(SMMUv3State *s, Error **errp)
{
    SMMUv3Accel *accel = s->accel_state;
    PCIBus *bus = s->smmu_state.primary_bus;

    pci_setup_iommu_per_bus(bus, &accel_iommu_ops, s);
    accel->bus = bus;
    accel->machine_done.notify = hint_if_idle;
    qemu_add_machine_init_done_notifier(&accel->machine_done);
    return smmu_each_device_below(bus, adopt, s, errp);
}

void smmuv3_accel_pci_unrealize(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelStream *stream, *next;

    if (accel->machine_done.notify) {
        qemu_remove_machine_init_done_notifier(&accel->machine_done);
    }
    QLIST_FOREACH_SAFE(stream, &accel->vsmmu.streams, next, next) {
        remove_endpoint(smmuv3_accel_endpoint(stream));
    }
}
