/*
 * The virt machine: a doorbell of MSIs that a guest's own VFIO can use
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The host programs an assigned device with an address in its MSI window, and
 * its stage 2 maps the window's first page to the physical doorbell.  A guest
 * that gives such a device to VFIO, for a driver in user space or a guest of
 * its own, maps the same address to the doorbell that it knows: Linux's driver
 * of the SMMUv3 names the same window everywhere.  The device's write then
 * leaves the guest's stage 1 with the address of the guest's doorbell, which
 * the host's stage 2 does not map.
 *
 * So the guest's doorbell gets the address of the window.  Then stage 1 maps
 * the window one to one, and the write finds the physical doorbell.  Neither
 * guest nor host takes notice: both learn addresses from ACPI or the device
 * tree.  virt-smmuv3-acpi.c describes the window to the guest, as RMRs.
 *
 *              without               with
 * distributor  0x08000000            0x08080000
 * ITS          0x08080000            0x07ff0000, its doorbell is in the second
 *                                    64 KiB
 * or GICv2m    0x08020000            0x08000000
 *
 * The ITS covers the last 64 KiB of the second flash device.  Firmware keeps
 * its variables at the start of that.
 */

#include "qemu/osdep.h"
#include <libfdt.h>
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/arm/smmuv3.h"
#include "hw/arm/virt-msi-doorbell.h"
#include "hw/intc/arm_gicv3_its_common.h"
#include "hw/sysbus.h"
#include "system/device_tree.h"

/* The doorbell is in the second frame of an ITS; a GICv2m has one frame */
#define DOORBELL_FRAME (64 * KiB)

/* All of these give their first register's address first */
static void move_node(void *fdt, const char *path, const char *name,
                      hwaddr base)
{
    g_autofree char *unit = g_strdup_printf("%s@%" PRIx64, name, base);
    int len;
    const void *old = qemu_fdt_getprop(fdt, path, "reg", &len, &error_abort);
    g_autofree void *reg = g_memdup2(old, len);

    stq_be_p(reg, base);
    qemu_fdt_setprop(fdt, path, "reg", reg, len);
    fdt_set_name(fdt, fdt_path_offset(fdt, path), unit);
}

static void move(SysBusDevice *dev, MemMapEntry *entry, hwaddr base)
{
    entry->base = base;
    sysbus_mmio_map_overlap(dev, 0, base, 1);
}

static SysBusDevice *find_device(const char *type)
{
    return SYS_BUS_DEVICE(object_resolve_path_type("", type, NULL));
}

static void move_doorbell(VirtMachineState *vms, hwaddr window)
{
    void *fdt = MACHINE(vms)->fdt;
    MemMapEntry *map = vms->memmap;
    hwaddr dist = map[VIRT_GIC_ITS].base;

    memory_region_transaction_begin();
    move(SYS_BUS_DEVICE(vms->gic), &map[VIRT_GIC_DIST], dist);
    if (vms->msi_controller == VIRT_MSI_CTRL_ITS) {
        hwaddr its = window - DOORBELL_FRAME;

        move(find_device(TYPE_ARM_GICV3_ITS_COMMON), &map[VIRT_GIC_ITS], its);
        move_node(fdt, "/intc/its", "its", its);
    } else {
        move(find_device("arm-gicv2m"), &map[VIRT_GIC_V2M], window);
        move_node(fdt, "/intc/v2m", "v2m", window);
    }
    move_node(fdt, "/intc", "intc", dist);
    memory_region_transaction_commit();
}

void virt_msi_window_plug(VirtMachineState *vms, DeviceState *dev)
{
    SMMUv3AccelProps *props = &ARM_SMMUV3(dev)->accel_props;
    hwaddr window = ARM_SMMU(dev)->msi_window_base;

    if (!ARM_SMMU(dev)->msi_window_size || !props->msi_gpa ||
        vms->no_msi_window || vms->memmap[VIRT_GIC_DIST].base != window) {
        return;
    }
    move_doorbell(vms, window);
    props->msi_gpa = window + props->msi_gpa % DOORBELL_FRAME;
}

static bool get_msi_window(Object *obj, Error **errp)
{
    return !VIRT_MACHINE(obj)->no_msi_window;
}

static void set_msi_window(Object *obj, bool value, Error **errp)
{
    VIRT_MACHINE(obj)->no_msi_window = !value;
}

void virt_msi_window_add_property(ObjectClass *oc)
{
    object_class_property_add_bool(oc, "msi-window", get_msi_window,
                                   set_msi_window);
    object_class_property_set_description(oc, "msi-window",
        "With an SMMUv3 with accel=on, place the doorbell of MSIs where VFIO "
        "in the guest can use it");
}
