/*
 * Accelerated SMMUv3: the life cycle of the device
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Realize, reset, and the enable bits of CR0 (SMMUEN, EVENTQEN, CMDQEN), each
 * of which concerns another file.  Also blocks migration.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "hw/pci/pci_bus.h"
#include "migration/blocker.h"
#include "target/arm/cpu.h"
#include "target/arm/internals.h"
#include "trace.h"
#include "smmuv3-accel-internal.h"

/*
 * The state of the host's SMMUv3 can be neither saved nor restored.  The
 * blocker serves -only-migratable.  The state section serves everything else,
 * because -incoming and loadvm check it too.
 */
static bool block_migration(SMMUv3Accel *accel, Error **errp)
{
    static const VMStateField nothing[] = { VMSTATE_END_OF_LIST() };

    error_setg(&accel->migration_blocker, "%s: with accel=on, its state and "
               "that of the host's SMMUv3 cannot be migrated or saved yet",
               accel->name);
    if (migrate_add_blocker(&accel->migration_blocker, errp) < 0) {
        return false;
    }
    accel->unmigratable = (VMStateDescription) {
        .name = g_strdup_printf("%s with accel=on (its state cannot be "
                                "migrated, saved or loaded yet)", accel->name),
        .unmigratable = true,
        .fields = nothing,      /* xen-save-devices-state does not ask */
    };
    vmstate_register(NULL, VMSTATE_INSTANCE_ID_ANY, &accel->unmigratable,
                     accel);
    return true;
}

static void unblock_migration(SMMUv3Accel *accel)
{
    migrate_del_blocker(&accel->migration_blocker);
    if (accel->unmigratable.name) {
        vmstate_unregister(NULL, &accel->unmigratable, accel);
        g_free((char *)accel->unmigratable.name);
    }
}

static void accel_destroy(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;

    smmuv3_accel_pci_unrealize(s);
    unblock_migration(accel);
    smmuv3_accel_vsmmu_fini(&accel->vsmmu);
    smmuv3_accel_vintf_fini(&accel->vsmmu.vintf);
    smmuv3_accel_eventq_unrealize(s);
    smmuv3_accel_cmdq_unrealize(s);
    smmuv3_accel_drain_unrealize(s);
    smmuv3_accel_edges_unrealize(s);
    g_free(accel->name);
    g_free(accel);
    s->accel_state = NULL;
}

/* Devices that are there already are adopted next */
static bool ask_for_vintf(SMMUv3State *s, Error **errp)
{
    SMMUv3AccelVsmmu *vsmmu = &s->accel_state->vsmmu;
    int backend = s->accel_props.cmdqv_backend;

    return !smmuv3_has_cmdqv(s) || backend == SMMUV3_CMDQV_SOFTWARE ||
           !vsmmu->ops->cmdqv ||
           smmuv3_accel_vintf_init(&vsmmu->vintf, vsmmu->ops->cmdqv,
                                   backend == SMMUV3_CMDQV_HARDWARE, errp);
}

bool smmuv3_accel_realize(SMMUv3State *s, const MemoryRegionOps *ops,
                          Error **errp)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(s));
    const SMMUv3AccelWishes wishes = {
        .ats = s->accel_props.ats,
        .ril = s->accel_props.ril,
        .oas = smmuv3_oas_bits(s->accel_props.oas),
        .ssidsize = smmuv3_ssidsize_bits(s->accel_props.ssidsize),
    };
    SMMUv3Accel *accel = g_new0(SMMUv3Accel, 1);

    s->accel_state = accel;
    accel->name = g_strdup_printf("arm-smmuv3 '%s'", name);
    smmuv3_accel_vsmmu_init(&accel->vsmmu, smmuv3_host_ops, accel->name);
    smmuv3_accel_caps_init(&accel->caps, &wishes);
    smmuv3_accel_edges_realize(s);
    smmuv3_accel_drain_realize(s);
    smmuv3_accel_cmdq_realize(s);
    smmuv3_accel_eventq_realize(s);

    if (!block_migration(accel, errp) || !ask_for_vintf(s, errp) ||
        !smmuv3_accel_pci_realize(s, errp)) {
        s->smmu_state.primary_bus->iommu_ops = NULL;
        accel_destroy(s);
        return false;
    }
    smmuv3_accel_regs_realize(s, ops);
    s->smmu_state.msi_window_base = SMMUV3_HOST_MSI_BASE;
    s->smmu_state.msi_window_size = SMMUV3_HOST_MSI_SIZE;
    object_property_add_uint64_ptr(OBJECT(s), "msi-faults", &accel->msi_faults,
                                   OBJ_PROP_FLAG_READ);
    object_property_set_description(OBJECT(s), "msi-faults", "MSIs of assigned "
                                    "devices that the guest has not let pass");
    return true;
}

/*
 * Linux shares the addresses of a process with a device (SVA) only if the SMMU
 * has what the CPUs have, and says nothing if not (arm_smmu_sva_supported()).
 * A user who gets SubstreamIDs wants to know.
 */
static void hint_sva(SMMUv3State *s)
{
    unsigned oas = oas2bits(FIELD_EX32(s->idr[5], IDR5, OAS));
    ARMCPU *cpu = ARM_CPU(first_cpu);

    if (!FIELD_EX32(s->idr[1], IDR1, SSIDSIZE) ||
        !arm_feature(&cpu->env, ARM_FEATURE_AARCH64)) {
        return;
    }
    if (oas < arm_pamax(cpu)) {
        warn_report("%s: addresses have %u bits (IDR5.OAS), and those of the "
                    "CPUs %u, so Linux lets no device use the addresses of a "
                    "process (SVA); choose a -cpu with fewer, or %s",
                    s->accel_state->name, oas, arm_pamax(cpu),
                    s->accel_props.oas == SMMUV3_OAS_AUTO ?
                    "write oas= if all hosts have more" :
                    "write oas=auto");
    } else if (cpu_isar_feature(aa64_lva, cpu) &&
               !FIELD_EX32(s->idr[5], IDR5, VAX)) {
        warn_report("%s: virtual addresses have 48 bits (IDR5.VAX), and those "
                    "of the CPUs up to 52, so a Linux that uses these lets no "
                    "device use the addresses of a process (SVA); boot it with "
                    "arm64.nolva", s->accel_state->name);
    }
}

void smmuv3_accel_do_reset(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    bool first = !accel->caps.frozen;

    smmuv3_accel_caps_freeze(&accel->caps);
    smmuv3_accel_caps_to_regs(&accel->caps, s->idr, &s->aidr);
    if (first) {
        accel->cmdqs = smmuv3_accel_cmdqv_cmdqs(s);
        hint_sva(s);
    }
    s->idr[1] = FIELD_DP32(s->idr[1], IDR1, CMDQS, accel->cmdqs);
    trace_smmuv3_accel_idr(accel->name, s->idr[0], s->idr[1], s->idr[3],
                           s->idr[5], s->aidr, accel->caps.seen_host);
    s->eventq_irq_cfg0 = 0;
    s->gerror_irq_cfg0 = 0;
    s->msi_pending = 0;
    accel->followed_cr0 = 0;
    smmuv3_accel_cmdq_reset(s);
    smmuv3_accel_cmdqv_reset(s);
    smmuv3_accel_eventq_stop(s);
    accel->renumbered = accel->smmuen_due = false;
    smmuv3_accel_refresh_all(s, SMMUV3_EDGE_RESET);
    smmuv3_accel_regs_reset(s);
}

void smmuv3_accel_do_cr0(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    uint32_t changed = s->cr[0] ^ accel->followed_cr0;

    accel->followed_cr0 = s->cr[0];
    if (FIELD_EX32(changed, CR0, EVENTQEN)) {
        smmuv3_accel_eventq_update(s);
    }
    if (FIELD_EX32(changed, CR0, CMDQEN)) {
        /* What happens to commands of the old queue no longer matters */
        smmuv3_accel_cmdq_reset(s);
    }
    if (FIELD_EX32(changed, CR0, SMMU_ENABLE)) {
        accel->smmuen_due |= !smmuv3_accel_refresh_all(s, SMMUV3_EDGE_SMMUEN);
    }
    if (accel->smmuen_due) {
        /* IHI 0070 6.3.9: the old value, until all streams have followed */
        s->cr0ack ^= R_CR0_SMMU_ENABLE_MASK;
    }
}
