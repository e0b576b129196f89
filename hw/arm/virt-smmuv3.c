/*
 * The virt machine: SMMUv3s that a user creates, one per root complex
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Which SMMUs the machine supports, what the board sets in them (the guest's
 * MSI doorbell), their device tree node, identifiers, and bus numbers.
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "hw/arm/fdt.h"
#include "hw/arm/smmu-primary-bus.h"
#include "hw/arm/smmuv3.h"
#include "hw/arm/virt-smmuv3.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/platform-bus.h"
#include "hw/sysbus.h"
#include "system/device_tree.h"

void virt_smmuv3_add_fdt_node(const VirtMachineState *vms, hwaddr base,
                              hwaddr size, const int irqs[NUM_SMMU_IRQS],
                              uint32_t phandle)
{
    MachineState *ms = MACHINE(vms);
    const char compat[] = "arm,smmu-v3";
    const char irq_names[] = "eventq\0priq\0cmdq-sync\0gerror";
    g_autofree char *node = g_strdup_printf("/smmuv3@%" PRIx64, base);

    qemu_fdt_add_subnode(ms->fdt, node);
    qemu_fdt_setprop(ms->fdt, node, "compatible", compat, sizeof(compat));
    qemu_fdt_setprop_sized_cells(ms->fdt, node, "reg", 2, base, 2, size);

    qemu_fdt_setprop_cells(ms->fdt, node, "interrupts",
            GIC_FDT_IRQ_TYPE_SPI, irqs[0], GIC_FDT_IRQ_FLAGS_EDGE_LO_HI,
            GIC_FDT_IRQ_TYPE_SPI, irqs[1], GIC_FDT_IRQ_FLAGS_EDGE_LO_HI,
            GIC_FDT_IRQ_TYPE_SPI, irqs[2], GIC_FDT_IRQ_FLAGS_EDGE_LO_HI,
            GIC_FDT_IRQ_TYPE_SPI, irqs[3], GIC_FDT_IRQ_FLAGS_EDGE_LO_HI);

    qemu_fdt_setprop(ms->fdt, node, "interrupt-names", irq_names,
                     sizeof(irq_names));

    qemu_fdt_setprop(ms->fdt, node, "dma-coherent", NULL, 0);

    qemu_fdt_setprop_cell(ms->fdt, node, "#iommu-cells", 1);

    qemu_fdt_setprop_cell(ms->fdt, node, "phandle", phandle);
}

void virt_smmuv3_get_resources(VirtMachineState *vms, DeviceState *dev,
                               hwaddr *base, int irqs[NUM_SMMU_IRQS])
{
    PlatformBusDevice *pbus = PLATFORM_BUS_DEVICE(vms->platform_bus_dev);
    SysBusDevice *sbdev = SYS_BUS_DEVICE(dev);
    int i;

    *base = vms->memmap[VIRT_PLATFORM_BUS].base +
            platform_bus_get_mmio_addr(pbus, sbdev, 0);

    for (i = 0; i < NUM_SMMU_IRQS; i++) {
        irqs[i] = vms->irqmap[VIRT_PLATFORM_BUS] +
                  platform_bus_get_irqn(pbus, sbdev, i);
    }
}

int virt_smmuv3_get_cmdqv(VirtMachineState *vms, DeviceState *dev,
                          hwaddr *base, hwaddr *size)
{
    PlatformBusDevice *pbus = PLATFORM_BUS_DEVICE(vms->platform_bus_dev);
    SysBusDevice *sbdev = SYS_BUS_DEVICE(dev);

    *base = vms->memmap[VIRT_PLATFORM_BUS].base +
            platform_bus_get_mmio_addr(pbus, sbdev, 1);
    *size = memory_region_size(sysbus_mmio_get_region(sbdev, 1));
    return vms->irqmap[VIRT_PLATFORM_BUS] +
           platform_bus_get_irqn(pbus, sbdev, NUM_SMMU_IRQS);
}

/*
 * The guest boots by device tree if no firmware passes the ACPI tables to it,
 * or if the machine has no ACPI tables.
 */
static bool boots_by_device_tree(VirtMachineState *vms)
{
    return !vms->bootinfo.firmware_loaded || !virt_is_acpi_enabled(vms);
}

/* Where the guest's devices write their MSIs, or 0 */
static hwaddr msi_doorbell(const VirtMachineState *vms)
{
    switch (vms->msi_controller) {
    case VIRT_MSI_CTRL_ITS:
        return vms->memmap[VIRT_GIC_ITS].base + 0x10040; /* GITS_TRANSLATER */
    case VIRT_MSI_CTRL_GICV2M:
        return vms->memmap[VIRT_GIC_V2M].base + 0x40;    /* MSI_SETSPI_NS */
    default:
        return 0;
    }
}

/*
 * Each of these checks sets @errp and returns false if it finds a fault.  All
 * are made, so that one start shows all faults.
 */

/* A machine has only one kind of IOMMU */
static bool check_other_iommus(VirtMachineState *vms, const char *name,
                               Error **errp)
{
    if (vms->iommu == VIRT_IOMMU_SMMUV3) {
        error_setg(errp, "arm-smmuv3 '%s': the machine has an SMMU for all of "
                   "its root complexes already: leave out either "
                   "-machine iommu=smmuv3 or the arm-smmuv3 devices", name);
        return false;
    }
    if (vms->iommu == VIRT_IOMMU_VIRTIO) {
        error_setg(errp, "arm-smmuv3 '%s': the machine has a virtio-iommu-pci "
                   "already: leave out either that or the arm-smmuv3 devices",
                   name);
        return false;
    }
    return true;
}

/* Can the machine describe the SMMU, and the target of MSIs, to the guest? */
static bool check_description(VirtMachineState *vms, SMMUState *s,
                              const char *name, bool by_dt, Error **errp)
{
    /* With accel=on a device tree is a fault by itself */
    if (by_dt && s->primary_bus && s->primary_bus != vms->bus &&
        !ARM_SMMUV3(s)->accel) {
        error_setg(errp, "arm-smmuv3 '%s': primary-bus '%s' needs a guest that "
                   "boots by ACPI, since the device tree does not show '%s' to "
                   "it: %s, or write primary-bus=pcie.0",
                   name, BUS(s->primary_bus)->name, BUS(s->primary_bus)->name,
                   virt_is_acpi_enabled(vms) ?
                   "add UEFI firmware (-bios, pflash)" :
                   vms->bootinfo.firmware_loaded ?
                   "drop -machine acpi=off" :
                   "drop -machine acpi=off and add UEFI firmware "
                   "(-bios, pflash)");
        return false;
    }
    if (!by_dt && vms->msi_controller == VIRT_MSI_CTRL_NONE) {
        /*
         * With a GICv3 the IORT names an ITS as the target of all MSIs.  With a
         * GICv2 MSIs reach the GICv2m without an ITS, and a device tree can
         * omit msi-map.
         */
        error_setg(errp, "arm-smmuv3 '%s': the machine has no ITS, which the "
                   "ACPI tables (IORT) need behind an SMMU for MSIs: write "
                   "-machine its=on, or gic-version=2", name);
        return false;
    }
    return true;
}

/* A pxb-pcie without bus_nr has the number of the machine's own root bus */
static bool check_number(VirtMachineState *vms, SMMUState *s, const char *name,
                         Error **errp)
{
    if (s->primary_bus != vms->bus &&
        pci_bus_num(s->primary_bus) == pci_bus_num(vms->bus)) {
        error_setg(errp, "arm-smmuv3 '%s': primary-bus '%s' has bus number %d, "
                   "which '%s' has already: write bus_nr=1 or more for its "
                   "pxb-pcie, with room for the bridges of both", name,
                   BUS(s->primary_bus)->name, pci_bus_num(vms->bus),
                   BUS(vms->bus)->name);
        return false;
    }
    return true;
}

/* The SMMU that has this identifier, or NULL */
static DeviceState *find_identifier(GSList *smmus, unsigned value)
{
    for (GSList *l = smmus; l; l = l->next) {
        const SMMUv3Identifier *id = &ARM_SMMUV3(l->data)
                                      ->accel_props.identifier;

        if (id->chosen && id->value == value) {
            return l->data;
        }
    }
    return NULL;
}

/* Those that the user leaves out are chosen when all SMMUs are there */
static bool check_identifier(VirtMachineState *vms, SMMUv3State *s,
                             const char *name, Error **errp)
{
    const SMMUv3Identifier *id = &s->accel_props.identifier;
    g_autoptr(GSList) smmus = virt_smmuv3_list(vms);
    g_autofree char *other_name = NULL;
    DeviceState *other = NULL;

    if (id->chosen) {
        other = find_identifier(smmus, id->value);
    }
    if (!other) {
        return true;
    }
    other_name = qdev_get_human_name(other);
    error_setg(errp, "arm-smmuv3 '%s': identifier=%u is that of arm-smmuv3 "
               "'%s' already: write another number, or leave it out", name,
               id->value, other_name);
    return false;
}

static bool check_interrupts(VirtMachineState *vms, const SMMUv3State *s,
                             const char *name, Error **errp)
{
    bool cmdqv = smmuv3_has_cmdqv(s);
    int needed = NUM_SMMU_IRQS + cmdqv;
    PlatformBusDevice *pbus = PLATFORM_BUS_DEVICE(vms->platform_bus_dev);
    int free_irqs = pbus->num_irqs - bitmap_count_one(pbus->used_irqs,
                                                      pbus->num_irqs);

    if (free_irqs < needed) {
        error_setg(errp, "arm-smmuv3 '%s': it needs %d interrupts, and the "
                   "platform bus has %d of its %u left: it carries %u SMMUs%s "
                   "at most, leave this one out%s", name, needed, free_irqs,
                   pbus->num_irqs, pbus->num_irqs / needed,
                   cmdqv ? " with cmdqv=on" : "",
                   cmdqv ? ", or its cmdqv=on" : "");
        return false;
    }
    return true;
}

void virt_smmuv3_pre_plug(VirtMachineState *vms, DeviceState *dev,
                          Error **errp)
{
    g_autoptr(GPtrArray) faults = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *name = qdev_get_human_name(dev);
    SMMUv3AccelProps *props = &ARM_SMMUV3(dev)->accel_props;
    bool by_dt = boots_by_device_tree(vms);
    SMMUState *s = ARM_SMMU(dev);
    Error *err[6] = {};

    /* The board creates the machine's own SMMU before those of the user */
    s->smmu_per_bus = phase_check(PHASE_MACHINE_INITIALIZED);
    if (!s->smmu_per_bus) {
        return;
    }
    /* An SMMU of the machine is above all buses */
    if (check_other_iommus(vms, name, &err[0]) &&
        smmu_check_primary_bus(s, &err[1])) {
        check_number(vms, s, name, &err[2]);
    }
    check_description(vms, s, name, by_dt, &err[3]);
    check_interrupts(vms, ARM_SMMUV3(dev), name, &err[4]);
    check_identifier(vms, ARM_SMMUV3(dev), name, &err[5]);
    for (int i = 0; i < ARRAY_SIZE(err); i++) {
        if (err[i]) {
            smmuv3_fault_take(faults, err[i]);
        }
    }
    props->msi_gpa = msi_doorbell(vms);
    props->device_tree = by_dt;
    if (faults->len) {
        smmuv3_find_faults(ARM_SMMUV3(dev), faults);
    }
    smmuv3_fault_report(ARM_SMMUV3(dev), faults, errp);
}

bool virt_smmuv3_allows(VirtMachineState *vms, DeviceState *dev, Error **errp)
{
    g_autofree char *name = qdev_get_human_name(dev);

    if (vms->iommu == VIRT_IOMMU_SMMUV3_DEV) {
        error_setg(errp, "%s '%s': the machine has arm-smmuv3 devices already: "
                   "leave out either those or the %s",
                   object_get_typename(OBJECT(dev)), name,
                   object_get_typename(OBJECT(dev)));
        return false;
    }
    return true;
}

void virt_smmuv3_plug(VirtMachineState *vms, DeviceState *dev)
{
    SMMUState *s = ARM_SMMU(dev);
    int irqs[NUM_SMMU_IRQS];
    hwaddr base;

    if (!s->smmu_per_bus) {
        return;
    }

    vms->iommu = VIRT_IOMMU_SMMUV3_DEV;

    /* A device tree has no node for the root complex of a PXB */
    if (s->primary_bus == vms->bus) {
        MachineState *ms = MACHINE(vms);

        vms->iommu_phandle = qemu_fdt_alloc_phandle(ms->fdt);
        virt_smmuv3_get_resources(vms, dev, &base, irqs);
        virt_smmuv3_add_fdt_node(vms, base, memory_region_size(&s->iomem),
                                 irqs, vms->iommu_phandle);
        qemu_fdt_setprop_cells(ms->fdt, vms->pciehb_nodename, "iommu-map",
                               0x0, vms->iommu_phandle, 0x0, 0x10000);
    }
}

static gint compare_by_bus(gconstpointer a, gconstpointer b)
{
    return pci_bus_num(ARM_SMMU(a)->primary_bus) -
           pci_bus_num(ARM_SMMU(b)->primary_bus);
}

/* An SMMU that is not realized may have no bus */
static int list_smmuv3(Object *obj, void *opaque)
{
    GSList **smmus = opaque;

    if (object_dynamic_cast(obj, TYPE_ARM_SMMUV3) && DEVICE(obj)->realized) {
        *smmus = g_slist_insert_sorted(*smmus, obj, compare_by_bus);
    }
    return 0;
}

GSList *virt_smmuv3_list(VirtMachineState *vms)
{
    GSList *smmus = NULL;

    object_child_foreach_recursive(OBJECT(vms), list_smmuv3, &smmus);
    return smmus;
}

static bool count_bridge(PCIDevice *dev, void *opaque, Error **errp)
{
    if (IS_PCI_BRIDGE(dev)) {
        ++*(int *)opaque;
    }
    return true;
}

/* Returns the root bus whose number follows that of @bus, or NULL */
static PCIBus *next_root_bus(VirtMachineState *vms, PCIBus *bus)
{
    PCIBus *other, *next = NULL;

    QLIST_FOREACH(other, &vms->bus->child, sibling) {
        if (pci_bus_is_root(other) && pci_bus_num(other) > pci_bus_num(bus) &&
            (!next || pci_bus_num(other) < pci_bus_num(next))) {
            next = other;
        }
    }
    return next;
}

static void check_bus_numbers(VirtMachineState *vms, PCIBus *bus)
{
    PCIBus *next = next_root_bus(vms, bus);
    int first = pci_bus_num(bus), end = next ? pci_bus_num(next) : PCI_BUS_MAX;
    const char *name = BUS(bus)->name;
    g_autofree char *remedy = NULL;
    int bridges = 0;

    smmu_each_device_below(bus, count_bridge, &bridges, &error_abort);
    if (bridges < end - first) {
        return;
    }
    if (!next) {
        remedy = g_strdup_printf("give '%s' bus_nr=%d or less", name,
                                 PCI_BUS_MAX - 1 - bridges);
    } else {
        remedy = g_strdup_printf("give '%s' bus_nr=%d or more",
                                 BUS(next)->name, first + 1 + bridges);
    }
    warn_report("root bus '%s' has bus numbers %d to %d, but each bridge below "
                "it (%d) needs one of its own; the guest does not see what is "
                "behind a bridge without one: %s", name, first, end - 1,
                bridges, remedy);
}

/* Of a user's SMMUs: other tables always had an ITS */
bool virt_smmuv3_has_its_node(const VirtMachineState *vms)
{
    return vms->iommu != VIRT_IOMMU_SMMUV3_DEV ||
           vms->msi_controller == VIRT_MSI_CTRL_ITS;
}

/* The lowest ones that are free, behind that of the ITS */
static void choose_identifiers(VirtMachineState *vms)
{
    g_autoptr(GSList) smmus = virt_smmuv3_list(vms);
    unsigned next = virt_smmuv3_has_its_node(vms);

    for (GSList *l = smmus; l; l = l->next) {
        SMMUv3Identifier *id = &ARM_SMMUV3(l->data)->accel_props.identifier;

        if (!id->chosen) {
            while (find_identifier(smmus, next)) {
                next++;
            }
            *id = (SMMUv3Identifier) { true, next };
        }
    }
}

/*
 * Firmware gives each bridge a bus number between that of its root bus and that
 * of the next root bus.  Without a number, devices behind the bridge have no
 * StreamID, and the guest does not see them.
 */
void virt_smmuv3_machine_done(VirtMachineState *vms)
{
    PCIBus *bus;

    choose_identifiers(vms);
    if (vms->iommu != VIRT_IOMMU_SMMUV3_DEV) {
        return;
    }
    check_bus_numbers(vms, vms->bus);
    QLIST_FOREACH(bus, &vms->bus->child, sibling) {
        if (pci_bus_is_root(bus)) {
            check_bus_numbers(vms, bus);
        }
    }
}
