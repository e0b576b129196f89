/*
 * What an assigned device shows a guest of ATS and PASIDs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/iommufd.h>
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/range.h"
#include "hw/pci/pci_bus.h"
#include "hw/qdev-core.h"
#include "system/system.h"
#include "pci.h"
#include "pci-ext-caps.h"
#include "pci-flr.h"

/* The widest PASID that PCIe has */
#define PASID_BITS_MAX      20
#define PASID_CAP_VERSION   1
/* Any ID that is not 0: an anchor for the first capability */
#define ANCHOR_ID           0xffff

/* Does the guest see an extended configuration space? */
static bool has_extended_space(VFIOPCIDevice *vdev)
{
    PCIDevice *pdev = &vdev->pdev;

    return pci_is_express(pdev) && pci_bus_is_express(pci_get_bus(pdev)) &&
           vdev->config_size >= PCIE_CONFIG_SPACE_SIZE;
}

/* PCIE_CONFIG_SPACE_SIZE bytes as the host shows them */
static bool read_host_config(VFIOPCIDevice *vdev, uint8_t *config, Error **errp)
{
    ssize_t ret = pread(vdev->vbasedev.fd, config, PCIE_CONFIG_SPACE_SIZE,
                        vdev->config_offset);

    if (ret != PCIE_CONFIG_SPACE_SIZE) {
        error_setg_errno(errp, ret < 0 ? errno : EIO,
                         "failed to read device config space");
        return false;
    }
    return true;
}

/*
 * ATS
 */

static uint16_t find_ats(VFIOPCIDevice *vdev)
{
    return has_extended_space(vdev) ?
           pcie_find_capability(&vdev->pdev, PCI_EXT_CAP_ID_ATS) : 0;
}

static bool host_allows_ats(VFIOPCIDevice *vdev)
{
    HostIOMMUDevice *hiod = vdev->vbasedev.hiod;

    return !hiod ||
           !(hiod->caps.hw_caps & IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED);
}

/* What ats=on needs of the device; its IOMMU may not exist yet */
static bool check_ats(VFIOPCIDevice *vdev, Error **errp)
{
    if (vdev->pasid.ats != ON_OFF_AUTO_ON) {
        return true;
    }
    if (!find_ats(vdev)) {
        error_setg(errp, "ats=on: the guest would see no ATS capability, "
                   "because the device has none, or is not on a PCI Express "
                   "bus: leave ats=on out");
        return false;
    }
    if (!host_allows_ats(vdev)) {
        error_setg(errp, "ats=on: the host does not let the device use ATS: "
                   "leave ats=on out, or see in the host's kernel log whether "
                   "its IOMMU, firmware or pci=noats is the reason");
        return false;
    }
    return true;
}

/* Take a capability out of the list that the guest walks */
static void hide(PCIDevice *pdev, uint16_t offset)
{
    uint8_t *first = pdev->config + PCI_CONFIG_SPACE_SIZE;
    uint32_t header = pci_get_long(pdev->config + offset);
    uint16_t at = PCI_CONFIG_SPACE_SIZE, next;

    if (offset == at) {
        /* The list must begin there.  A header without an ID is passed over. */
        pci_set_long(first, header & PCI_EXT_CAP_NEXT_MASK);
        return;
    }
    while ((next = PCI_EXT_CAP_NEXT(pci_get_long(pdev->config + at))) !=
           offset) {
        at = next;
    }
    pci_set_long(pdev->config + at,
                 (pci_get_long(pdev->config + at) & ~PCI_EXT_CAP_NEXT_MASK) |
                 (header & PCI_EXT_CAP_NEXT_MASK));
}

static bool show_ats(VFIOPCIDevice *vdev, const PCIIOMMUFeatures *iommu,
                     Error **errp)
{
    PCIDevice *pdev = &vdev->pdev;
    uint16_t cap = find_ats(vdev);

    if (vdev->pasid.ats == ON_OFF_AUTO_ON && !(iommu && iommu->ats)) {
        error_setg(errp, "ats=on: %s: leave ats=on out, or put the device "
                   "behind an arm-smmuv3 with accel=on and ats=on",
                   iommu ? "the IOMMU of the device offers the guest no ATS" :
                   "no IOMMU that offers the guest ATS is above the device");
        return false;
    }
    if (!cap) {
        return true;
    }
    if (vdev->pasid.ats == ON_OFF_AUTO_OFF ||
        (iommu && !(iommu->ats && host_allows_ats(vdev)))) {
        hide(pdev, cap);
    } else if (iommu) {
        vdev->pasid.ats_cap = cap;
        pci_set_word(pdev->config + cap + PCI_ATS_CTRL, 0);
        pci_set_word(pdev->wmask + cap + PCI_ATS_CTRL,
                     PCI_ATS_CTRL_ENABLE | PCI_ATS_CTRL_STU(~0));
        pci_set_word(vdev->emulated_config_bits + cap + PCI_ATS_CTRL, ~0);
    }
    return true;
}

/*
 * PASIDs
 */

/* A place that the user chose */
static bool check_offset(VFIOPCIDevice *vdev, Error **errp)
{
    g_autofree uint8_t *config = g_malloc(PCIE_CONFIG_SPACE_SIZE);
    unsigned offset = vdev->pasid.wanted_offset;
    const VFIOExtCap *cap;
    VFIOExtCaps caps;

    if (!offset) {
        return true;
    }
    if (offset < PCI_CONFIG_SPACE_SIZE || offset % PCI_EXT_CAP_ALIGN ||
        offset > PCIE_CONFIG_SPACE_SIZE - PCI_EXT_CAP_PASID_SIZEOF) {
        error_setg(errp, "x-vpasid-cap-offset=0x%x is no place for a PASID "
                   "capability: write a multiple of 4 from 0x100 to 0xff8, or "
                   "leave it out", offset);
        return false;
    }
    if (!has_extended_space(vdev)) {
        error_setg(errp, "x-vpasid-cap-offset=0x%x: the guest sees no extended "
                   "configuration space of the device: leave it out, or put "
                   "a PCI Express device on a pcie-root-port", offset);
        return false;
    }
    if (!read_host_config(vdev, config, errp)) {
        return false;
    }
    vfio_ext_caps_walk(&caps, config);
    cap = vfio_ext_caps_overlap(&caps, offset, PCI_EXT_CAP_PASID_SIZEOF);
    if (cap) {
        unsigned free_place = vfio_ext_caps_find_room(&caps, config,
                                                      PCI_EXT_CAP_PASID_SIZEOF);

        error_setg(errp, "x-vpasid-cap-offset=0x%x overlaps capability 0x%x at "
                   "0x%x: leave it out%s", offset, cap->id, cap->offset,
                   free_place ? "" : "; the device has no free place");
        if (free_place) {
            error_append_hint(errp, "0x%x is free.\n", free_place);
        }
        return false;
    }
    return true;
}

static void add_pasid_cap(VFIOPCIDevice *vdev, uint16_t offset, unsigned width)
{
    PCIDevice *pdev = &vdev->pdev;
    uint64_t host = vdev->vbasedev.hiod->caps.hw_caps;
    uint8_t *first = pdev->config + PCI_CONFIG_SPACE_SIZE;
    uint16_t exec = host & IOMMU_HW_CAP_PCI_PASID_EXEC ? PCI_PASID_CAP_EXEC : 0;
    uint16_t priv = host & IOMMU_HW_CAP_PCI_PASID_PRIV ? PCI_PASID_CAP_PRIV : 0;
    bool anchor = !pci_get_long(first) && offset != PCI_CONFIG_SPACE_SIZE;

    /* The list begins at 0x100, if only with a header without an ID */
    if (anchor) {
        pci_set_long(first, PCI_EXT_CAP(ANCHOR_ID, 0, 0));
        pci_set_long(pdev->wmask + PCI_CONFIG_SPACE_SIZE, 0);
        pci_set_long(vdev->emulated_config_bits + PCI_CONFIG_SPACE_SIZE, ~0);
    }
    pcie_add_capability(pdev, PCI_EXT_CAP_ID_PASID, PASID_CAP_VERSION, offset,
                        PCI_EXT_CAP_PASID_SIZEOF);
    if (anchor) {
        pci_set_word(first, 0);
    }
    memset(vdev->emulated_config_bits + offset, 0xff, PCI_EXT_CAP_PASID_SIZEOF);
    pci_set_word(pdev->config + offset + PCI_PASID_CAP,
                 exec | priv | width << 8);
    pci_set_word(pdev->config + offset + PCI_PASID_CTRL, 0);
    /* The bits that allow Exec and Priv are where those say that they exist */
    QEMU_BUILD_BUG_ON(PCI_PASID_CTRL_EXEC != PCI_PASID_CAP_EXEC ||
                      PCI_PASID_CTRL_PRIV != PCI_PASID_CAP_PRIV);
    pci_set_word(pdev->wmask + offset + PCI_PASID_CTRL,
                 PCI_PASID_CTRL_ENABLE | exec | priv);
    vdev->pasid.pasid_cap = offset;
}

/*
 * PASIDs travel as End-End TLP prefixes.  Linux enables PASIDs of a device only
 * if it and each bridge above it say that they can have these.  QEMU's ports
 * do.  The host has enabled PASIDs, so the device does its part as well, even
 * if its own register is of another opinion (a VF, or one with a quirk).
 */
static void show_prefixes(VFIOPCIDevice *vdev)
{
    PCIDevice *pdev = &vdev->pdev;
    uint8_t cap = pdev->exp.exp_cap;

    if (cap && pcie_cap_get_version(pdev) >= PCI_EXP_FLAGS_VER2) {
        pci_long_test_and_set_mask(pdev->config + cap + PCI_EXP_DEVCAP2,
                                   PCI_EXP_DEVCAP2_EETLPP);
        pci_long_test_and_set_mask(vdev->emulated_config_bits + cap +
                                   PCI_EXP_DEVCAP2, PCI_EXP_DEVCAP2_EETLPP);
    }
}

static bool show_pasids(VFIOPCIDevice *vdev, const PCIIOMMUFeatures *iommu,
                        Error **errp)
{
    g_autofree uint8_t *config = g_malloc(PCIE_CONFIG_SPACE_SIZE);
    HostIOMMUDevice *hiod = vdev->vbasedev.hiod;
    unsigned offset = vdev->pasid.wanted_offset;
    VFIOExtCaps caps;

    if (!iommu || !iommu->pasid_bits || !hiod || !hiod->caps.max_pasid_log2 ||
        !has_extended_space(vdev)) {
        return true;
    }
    if (!offset) {
        if (!read_host_config(vdev, config, errp)) {
            return false;
        }
        vfio_ext_caps_walk(&caps, config);
        offset = vfio_ext_caps_find_room(&caps, config,
                                         PCI_EXT_CAP_PASID_SIZEOF);
    }
    if (!offset) {
        warn_report(VFIO_MSG_PREFIX "the guest gets no PASIDs of it, because "
                    "its configuration space has no 8 bytes left for the "
                    "capability", vdev->vbasedev.name);
        return true;
    }
    add_pasid_cap(vdev, offset, MIN(hiod->caps.max_pasid_log2, PASID_BITS_MAX));
    show_prefixes(vdev);
    return true;
}

/*
 * When
 */

static bool show(VFIOPCIDevice *vdev, Error **errp)
{
    PCIIOMMUFeatures features, *iommu = NULL;

    if (pci_device_iommu_features(&vdev->pdev, &features)) {
        iommu = &features;
    }
    return show_ats(vdev, iommu, errp) && show_pasids(vdev, iommu, errp);
}

static void machine_done(Notifier *notifier, void *unused)
{
    VFIOPCIDevice *vdev = container_of(notifier, VFIOPCIDevice,
                                       pasid.machine_done);
    Error *err = NULL;

    if (!show(vdev, &err)) {
        error_reportf_err(err, VFIO_MSG_PREFIX, vdev->vbasedev.name);
        exit(EXIT_FAILURE);
    }
}

bool vfio_pci_pasid_realize(VFIOPCIDevice *vdev, Error **errp)
{
    if (!check_ats(vdev, errp) || !check_offset(vdev, errp)) {
        return false;
    }
    if (phase_check(PHASE_MACHINE_READY)) {
        return show(vdev, errp);
    }
    vdev->pasid.machine_done.notify = machine_done;
    qemu_add_machine_init_done_notifier(&vdev->pasid.machine_done);
    return true;
}

void vfio_pci_pasid_exit(VFIOPCIDevice *vdev)
{
    if (vdev->pasid.machine_done.notify) {
        qemu_remove_machine_init_done_notifier(&vdev->pasid.machine_done);
        vdev->pasid.machine_done.notify = NULL;
    }
}

void vfio_pci_pasid_reset(VFIOPCIDevice *vdev)
{
    uint8_t *config = vdev->pdev.config;

    if (vdev->pasid.ats_cap) {
        pci_set_word(config + vdev->pasid.ats_cap + PCI_ATS_CTRL, 0);
    }
    if (vdev->pasid.pasid_cap) {
        pci_set_word(config + vdev->pasid.pasid_cap + PCI_PASID_CTRL, 0);
    }
}

bool vfio_pci_pasid_write(VFIOPCIDevice *vdev, uint32_t addr, uint32_t val,
                          int len)
{
    if (!vdev->pasid.ats_cap && !vdev->pasid.pasid_cap) {
        return false;
    }
    if (vfio_pci_is_flr(vdev, addr, val, len)) {
        vfio_pci_pasid_reset(vdev);
    }
    /* What the device has there is its own business, and often writable */
    return vdev->pasid.pasid_cap &&
           ranges_overlap(addr, len, vdev->pasid.pasid_cap,
                          PCI_EXT_CAP_PASID_SIZEOF);
}
