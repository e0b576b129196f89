/*
 * The virt machine: ACPI tables for SMMUv3s
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * IO Remapping Table System Software on ARM Platforms (IORT), ARM DEN 0049.
 */
#ifndef HW_ARM_VIRT_SMMUV3_ACPI_H
#define HW_ARM_VIRT_SMMUV3_ACPI_H

#include "hw/acpi/aml-build.h"
#include "hw/arm/smmu-common.h"
#include "hw/arm/virt.h"
#include "hw/arm/virt-smmuv3.h"

#define ID_MAPPING_ENTRY_SIZE 20

/* Offset of the first node, which is the ITS group node if there is one */
#define IORT_NODE_OFFSET 48

/* A range of requester IDs */
typedef struct AcpiIortIdMapping {
    uint32_t input_base;
    uint32_t id_count;
    unsigned smmu;                  /* index of their SMMUv3, if any */
} AcpiIortIdMapping;

/* The node of one SMMUv3 */
typedef struct AcpiIortSMMUv3 {
    uint32_t id;                    /* the property identifier */
    hwaddr base;
    uint32_t gsiv[NUM_SMMU_IRQS];   /* by SMMUIrq */
    size_t offset;                  /* in the table, once the node is written */
    uint64_t msi_window_base;       /* the guest must map it 1:1 */
    uint64_t msi_window_size;       /* 0 for none */
    bool ats;                       /* IDR0.ATS */
} AcpiIortSMMUv3;

/* Append an ID mapping (table 4); defined in virt-acpi-build.c */
void build_iort_id_mapping(GArray *table_data, uint32_t input_base,
                           uint32_t id_count, uint32_t out_ref);

/**
 * iort_collect_smmuv3s: list the SMMUv3s and the requester IDs that they cover
 * @vms: the machine
 * @smmus: an AcpiIortSMMUv3 is appended for each
 * @idmaps: an AcpiIortIdMapping is appended for each SMMU that a user created,
 *          in the order of requester IDs
 *
 * Returns: how many of the SMMUs have an MSI window.
 */
int iort_collect_smmuv3s(VirtMachineState *vms, GArray *smmus, GArray *idmaps);

/**
 * iort_next_id: an identifier for a node that is not an SMMUv3
 * @smmus: as iort_collect_smmuv3s(), whose identifiers are taken
 * @next: 0 at first; the lowest that is not used yet
 */
uint32_t iort_next_id(const GArray *smmus, uint32_t *next);

/**
 * iort_ats_attribute: the ATS attribute of the root complex node (table 15)
 * @smmus: as iort_collect_smmuv3s()
 *
 * All root complexes of the machine are one PCI segment, and Linux takes one
 * node for a segment.  So the node says that ATS works if any SMMU has it.  A
 * guest knows from IDR0.ATS where it does not.
 */
uint32_t iort_ats_attribute(const GArray *smmus);

/**
 * build_iort_smmuv3: append the node of an SMMUv3 (table 9)
 * @table_data: the table
 * @smmu: the SMMU
 * @has_its: true if MSIs behind the SMMU go to the ITS group node
 */
void build_iort_smmuv3(GArray *table_data, const AcpiIortSMMUv3 *smmu,
                       bool has_its);

/**
 * acpi_dsdt_add_cmdqv: describe a Tegra241 CMDQV
 * @scope: \_SB
 * @id: the identifier of its SMMU's node in the IORT, by which the guest finds
 *      that SMMU
 * @base: guest physical address of its registers
 * @size: of its registers, in bytes
 * @gsiv: its interrupt, an edge
 */
void acpi_dsdt_add_cmdqv(Aml *scope, unsigned id, hwaddr base, hwaddr size,
                         uint32_t gsiv);

/**
 * acpi_dsdt_add_cmdqvs: describe the command queues that the guest owns
 * @scope: \_SB
 * @vms: the machine
 */
void acpi_dsdt_add_cmdqvs(Aml *scope, VirtMachineState *vms);

/**
 * build_iort_rmrs: append a Reserved Memory Range node for each MSI window
 * @table_data: the table, with the nodes of all SMMUs
 * @smmus: as iort_collect_smmuv3s()
 * @idmaps: likewise
 * @next_id: for iort_next_id()
 */
void build_iort_rmrs(GArray *table_data, GArray *smmus, GArray *idmaps,
                     uint32_t next_id);

/**
 * virt_bus_has_msi_window: does the SMMU of this bus have an MSI window?
 * @bus: a root bus
 *
 * The RMR node of the window lists StreamIDs.  So it is valid only while bus
 * numbers stay as firmware set them (DEN 0049E.d, 3.1.1.5).
 */
bool virt_bus_has_msi_window(PCIBus *bus);

#endif
