/*
 * VFIO PCI: the guest resets a function
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci.h"
#include "pci.h"
#include "dma-file.h"
#include "pci-flr.h"

/* Does the guest write 1 to @bit of the byte at @reg? */
static bool sets_bit(uint32_t addr, uint32_t val, int len, unsigned reg,
                     unsigned bit)
{
    return range_covers_byte(addr, len, reg) &&
           extract32(val, 8 * (reg - addr) + bit, 1);
}

/* The host's kernel resets a function that can do this, and only such a one */
bool vfio_pci_is_flr(VFIOPCIDevice *vdev, uint32_t addr, uint32_t val, int len)
{
    PCIDevice *pdev = &vdev->pdev;
    uint8_t exp = pdev->exp.exp_cap;
    uint8_t af = pci_find_capability(pdev, PCI_CAP_ID_AF);

    QEMU_BUILD_BUG_ON(PCI_EXP_DEVCTL_BCR_FLR != 1 << 15 ||
                      PCI_AF_CTRL_FLR != 1);
    return vdev->has_flr &&
           ((exp && sets_bit(addr, val, len, exp + PCI_EXP_DEVCTL + 1, 7)) ||
            (af && sets_bit(addr, val, len, af + PCI_AF_CTRL, 0)));
}

/* Linux leaves the function in D0, if it could reset it (drivers/pci/pci.c) */
static void note_power_on(PCIDevice *pdev)
{
    unsigned ctrl = pdev->pm_cap + PCI_PM_CTRL;

    if (pdev->pm_cap &&
        !(vfio_pci_read_config(pdev, ctrl, 2) & PCI_PM_CTRL_STATE_MASK)) {
        uint16_t val = pci_get_word(pdev->config + ctrl);

        pci_default_write_config(pdev, ctrl, val & ~PCI_PM_CTRL_STATE_MASK, 2);
    }
}

void vfio_pci_flr_written(VFIOPCIDevice *vdev, uint32_t addr, uint32_t val,
                          int len)
{
    if (vfio_pci_is_flr(vdev, addr, val, len)) {
        note_power_on(&vdev->pdev);
        for (int bar = 0; bar < PCI_ROM_SLOT; bar++) {
            vfio_region_map_again(&vdev->bars[bar].region);
        }
    }
}
