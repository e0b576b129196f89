/*
 * The virt machine: ACPI tables for SMMUv3s
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Nodes of the IORT: SMMUv3s, and RMRs for the host's MSI window.  Devices of
 * the DSDT: command queues that the guest owns.
 */

#include "qemu/osdep.h"
#include "hw/acpi/aml-build.h"
#include "hw/arm/smmuv3.h"
#include "hw/arm/virt.h"
#include "hw/arm/virt-smmuv3.h"
#include "hw/boards.h"
#include "hw/intc/arm_gic_common.h"
#include "hw/pci/pci_bus.h"
#include "smmuv3-internal.h"
#include "virt-smmuv3-acpi.h"

#define SMMU_V3_ENTRY_SIZE 68
#define RMR_ENTRY_SIZE 28
#define RMR_MEM_RANGE_DESC_SIZE 20

/* Shared peripheral interrupts begin at this INTID */
#define SPI_BASE GIC_INTERNAL

typedef struct MSIWindowSearch {
    PCIBus *bus;
    bool found;
} MSIWindowSearch;

static int find_msi_window(Object *obj, void *opaque)
{
    MSIWindowSearch *search = opaque;

    if (object_dynamic_cast(obj, TYPE_ARM_SMMUV3) &&
        ARM_SMMU(obj)->primary_bus == search->bus &&
        ARM_SMMU(obj)->msi_window_size) {
        search->found = true;
    }
    return search->found;
}

bool virt_bus_has_msi_window(PCIBus *bus)
{
    MSIWindowSearch search = { .bus = bus };

    object_child_foreach_recursive(qdev_get_machine(), find_msi_window,
                                   &search);
    return search.found;
}

/*
 * Which bus numbers a root complex has: from its root bus to the last number
 * that firmware gave to the bridges on it. A guest that writes to the bridges
 * later cannot extend this into the next root complex.
 */
static void root_bus_range(VirtMachineState *vms, PCIBus *bus,
                           int *min_bus, int *max_bus)
{
    PCIBus *other;

    pci_bus_range(bus, min_bus, max_bus);
    /* The number is 0 in a bridge that has none yet */
    *min_bus = pci_bus_num(bus);

    QLIST_FOREACH(other, &vms->bus->child, sibling) {
        int num = pci_bus_num(other);

        if (pci_bus_is_root(other) && num > *min_bus) {
            *max_bus = MIN(*max_bus, num - 1);
        }
    }
}

static void collect_user_smmuv3s(VirtMachineState *vms, GArray *smmus,
                                 GArray *idmaps)
{
    g_autoptr(GSList) devs = virt_smmuv3_list(vms);
    GSList *l;

    for (l = devs; l; l = l->next) {
        AcpiIortIdMapping idmap = { .smmu = smmus->len };
        AcpiIortSMMUv3 smmu = {
            .id = ARM_SMMUV3(l->data)->accel_props.identifier.value,
            .msi_window_base = ARM_SMMU(l->data)->msi_window_base,
            .msi_window_size = ARM_SMMU(l->data)->msi_window_size,
            .ats = FIELD_EX32(ARM_SMMUV3(l->data)->idr[0], IDR0, ATS),
        };
        int min_bus, max_bus, irqs[NUM_SMMU_IRQS], i;

        virt_smmuv3_get_resources(vms, DEVICE(l->data), &smmu.base, irqs);
        for (i = 0; i < NUM_SMMU_IRQS; i++) {
            smmu.gsiv[i] = irqs[i] + SPI_BASE;
        }
        g_array_append_val(smmus, smmu);

        root_bus_range(vms, ARM_SMMU(l->data)->primary_bus,
                       &min_bus, &max_bus);
        idmap.input_base = min_bus << 8;
        idmap.id_count = (max_bus - min_bus + 1) << 8;
        g_array_append_val(idmaps, idmap);
    }
}

int iort_collect_smmuv3s(VirtMachineState *vms, GArray *smmus, GArray *idmaps)
{
    int nb_windows = 0;

    if (vms->iommu == VIRT_IOMMU_SMMUV3) {
        g_autoptr(GSList) devs = virt_smmuv3_list(vms);
        AcpiIortSMMUv3 smmu = {
            .id = ARM_SMMUV3(devs->data)->accel_props.identifier.value,
            .base = vms->memmap[VIRT_SMMU].base,
        };

        for (int i = 0; i < NUM_SMMU_IRQS; i++) {
            smmu.gsiv[i] = vms->irqmap[VIRT_SMMU] + SPI_BASE + i;
        }
        g_array_append_val(smmus, smmu);
    } else if (vms->iommu == VIRT_IOMMU_SMMUV3_DEV) {
        collect_user_smmuv3s(vms, smmus, idmaps);
    }
    for (int i = 0; i < smmus->len; i++) {
        nb_windows += !!g_array_index(smmus, AcpiIortSMMUv3, i).msi_window_size;
    }
    return nb_windows;
}

static bool is_taken(const GArray *smmus, uint32_t id)
{
    for (int i = 0; i < smmus->len; i++) {
        if (g_array_index(smmus, AcpiIortSMMUv3, i).id == id) {
            return true;
        }
    }
    return false;
}

uint32_t iort_next_id(const GArray *smmus, uint32_t *next)
{
    while (is_taken(smmus, *next)) {
        ++*next;
    }
    return (*next)++;
}

uint32_t iort_ats_attribute(const GArray *smmus)
{
    for (int i = 0; i < smmus->len; i++) {
        if (g_array_index(smmus, AcpiIortSMMUv3, i).ats) {
            return 1;
        }
    }
    return 0;
}

void build_iort_smmuv3(GArray *table_data, const AcpiIortSMMUv3 *smmu,
                       bool has_its)
{
    int nb_mappings = has_its ? 1 : 0;
    size_t node_size = SMMU_V3_ENTRY_SIZE + nb_mappings * ID_MAPPING_ENTRY_SIZE;

    build_append_int_noprefix(table_data, 4 /* SMMUv3 */, 1); /* Type */
    build_append_int_noprefix(table_data, node_size, 2); /* Length */
    build_append_int_noprefix(table_data, 4, 1); /* Revision */
    build_append_int_noprefix(table_data, smmu->id, 4); /* Identifier */
    /* Number of ID mappings */
    build_append_int_noprefix(table_data, nb_mappings, 4);
    /* Reference to ID Array */
    build_append_int_noprefix(table_data, SMMU_V3_ENTRY_SIZE, 4);
    /* Base address */
    build_append_int_noprefix(table_data, smmu->base, 8);
    /* Flags */
    build_append_int_noprefix(table_data, 1 /* COHACC Override */, 4);
    build_append_int_noprefix(table_data, 0, 4); /* Reserved */
    build_append_int_noprefix(table_data, 0, 8); /* VATOS address */
    /* Model */
    build_append_int_noprefix(table_data, 0 /* Generic SMMU-v3 */, 4);
    /*
     * In this revision of the node none of the four may be 0. Otherwise the ID
     * mapping below would be read as that of the SMMU's own MSIs.
     */
    build_append_int_noprefix(table_data, smmu->gsiv[SMMU_IRQ_EVTQ], 4);
    build_append_int_noprefix(table_data, smmu->gsiv[SMMU_IRQ_PRIQ], 4);
    build_append_int_noprefix(table_data, smmu->gsiv[SMMU_IRQ_GERROR], 4);
    build_append_int_noprefix(table_data, smmu->gsiv[SMMU_IRQ_CMD_SYNC], 4);
    build_append_int_noprefix(table_data, 0, 4); /* Proximity domain */
    /* DeviceID mapping index (ignored since interrupts are GSIV based) */
    build_append_int_noprefix(table_data, 0, 4);

    if (has_its) {
        /* output IORT node is the ITS group node (the first node) */
        build_iort_id_mapping(table_data, 0, 0x10000, IORT_NODE_OFFSET);
    }
}

void acpi_dsdt_add_cmdqv(Aml *scope, unsigned id, hwaddr base, hwaddr size,
                         uint32_t gsiv)
{
    Aml *dev = aml_device("CQ%.02X", id);
    Aml *crs = aml_resource_template();

    aml_append(dev, aml_name_decl("_HID", aml_string("NVDA200C")));
    aml_append(dev, aml_name_decl("_UID", aml_int(id)));
    aml_append(dev, aml_name_decl("_CCA", aml_int(1)));
    aml_append(crs, aml_memory32_fixed(base, size, AML_READ_WRITE));
    aml_append(crs, aml_interrupt(AML_CONSUMER, AML_EDGE, AML_ACTIVE_HIGH,
                                  AML_EXCLUSIVE, &gsiv, 1));
    aml_append(dev, aml_name_decl("_CRS", crs));
    aml_append(scope, dev);
}

void acpi_dsdt_add_cmdqvs(Aml *scope, VirtMachineState *vms)
{
    g_autoptr(GSList) smmus = virt_smmuv3_list(vms);

    for (GSList *l = smmus; l; l = l->next) {
        const SMMUv3State *smmu = l->data;
        hwaddr base, size;
        int irq;

        if (!smmuv3_has_cmdqv(smmu)) {
            continue;
        }
        irq = virt_smmuv3_get_cmdqv(vms, l->data, &base, &size);
        acpi_dsdt_add_cmdqv(scope, smmu->accel_props.identifier.value, base,
                            size, SPI_BASE + irq);
    }
}

/*
 * Reserved Memory Range node of one SMMU's MSI window
 * Conforms to "IO Remapping Table System Software on ARM Platforms",
 * Document number: ARM DEN 0049E.d, Feb 2022, 3.1.1.5
 *
 * @idmap has the StreamIDs that use the window. The OS gives each of them an
 * STE that bypasses until a driver takes over. So it must not name StreamIDs of
 * another root complex.
 */
static void build_rmr(GArray *table_data, const AcpiIortSMMUv3 *smmu,
                      const AcpiIortIdMapping *idmap, uint32_t id)
{
    /*
     * Bit 0: the OS may move the devices to another mapping, as it does when
     * it assigns them to a guest of its own. Without it Linux refuses that.
     * Bits 9:2: Device-nGnRE, like any doorbell.
     */
    uint32_t flags = BIT(0) | 1 << 2;

    build_append_int_noprefix(table_data, 6 /* RMR */, 1); /* Type */
    build_append_int_noprefix(table_data, RMR_ENTRY_SIZE +
                              RMR_MEM_RANGE_DESC_SIZE +
                              ID_MAPPING_ENTRY_SIZE, 2); /* Length */
    build_append_int_noprefix(table_data, 3, 1); /* Revision */
    build_append_int_noprefix(table_data, id, 4); /* Identifier */
    build_append_int_noprefix(table_data, 1, 4); /* Number of ID mappings */
    /* Reference to ID Array */
    build_append_int_noprefix(table_data, RMR_ENTRY_SIZE +
                              RMR_MEM_RANGE_DESC_SIZE, 4);
    build_append_int_noprefix(table_data, flags, 4); /* Flags */
    /* Number of Memory Range Descriptors */
    build_append_int_noprefix(table_data, 1, 4);
    /* Reference to Memory Range Descriptors */
    build_append_int_noprefix(table_data, RMR_ENTRY_SIZE, 4);

    /* Memory Range Descriptor */
    build_append_int_noprefix(table_data, smmu->msi_window_base, 8);
    build_append_int_noprefix(table_data, smmu->msi_window_size, 8);
    build_append_int_noprefix(table_data, 0, 4); /* Reserved */

    build_iort_id_mapping(table_data, idmap->input_base, idmap->id_count,
                          smmu->offset);
}

void build_iort_rmrs(GArray *table_data, GArray *smmus, GArray *idmaps,
                     uint32_t next_id)
{
    for (int i = 0; i < idmaps->len; i++) {
        const AcpiIortIdMapping *idmap =
            &g_array_index(idmaps, AcpiIortIdMapping, i);
        const AcpiIortSMMUv3 *smmu =
            &g_array_index(smmus, AcpiIortSMMUv3, idmap->smmu);

        if (smmu->msi_window_size) {
            build_rmr(table_data, smmu, idmap, iort_next_id(smmus, &next_id));
        }
    }
}
