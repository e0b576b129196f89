/*
 * Accelerated SMMUv3: properties, and which combinations are valid
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/arm/smmu-primary-bus.h"
#include "hw/arm/smmuv3.h"
#include "hw/arm/smmuv3-accel.h"
#include "hw/core/qdev-prop-internal.h"
#include "smmuv3-internal.h"

static const char *const oas_names[] = {
    "auto", "32", "36", "40", "42", "44", "48",
};

static const QEnumLookup oas_lookup = {
    .array = oas_names,
    .size = ARRAY_SIZE(oas_names),
};

unsigned smmuv3_oas_bits(int value)
{
    return value == SMMUV3_OAS_AUTO ? 0 : atoi(oas_names[value]);
}

const PropertyInfo smmuv3_prop_oas = {
    .type = "OasMode",
    .description = "Output address size in bits that an accelerated SMMUv3 "
                   "has: auto (the host's) or 32 to 48",
    .enum_table = &oas_lookup,
    .get = qdev_propinfo_get_enum,
    .set = qdev_propinfo_set_enum,
    .set_default_value = qdev_propinfo_set_default_value_enum,
};

static const char *const ssidsize_names[] = {
    "auto", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10",
    "11", "12", "13", "14", "15", "16", "17", "18", "19", "20",
};

static const QEnumLookup ssidsize_lookup = {
    .array = ssidsize_names,
    .size = ARRAY_SIZE(ssidsize_names),
};

const PropertyInfo smmuv3_prop_ssidsize = {
    .type = "SsidSizeMode",
    .description = "Number of SubstreamID bits that an accelerated SMMUv3 "
                   "has: auto or 0 to 20",
    .enum_table = &ssidsize_lookup,
    .get = qdev_propinfo_get_enum,
    .set = qdev_propinfo_set_enum,
    .set_default_value = qdev_propinfo_set_default_value_enum,
};

/* An Error about the SMMU @s, which it names */
static void G_GNUC_PRINTF(3, 4)
refuse(Error **errp, SMMUv3State *s, const char *format, ...)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(s));
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    error_setg(errp, "arm-smmuv3 '%s': %s", name, text);
}

static bool check_stage(SMMUv3State *s, Error **errp)
{
    bool stage2 = s->stage && (!strcmp("2", s->stage) ||
                               !strcmp("nested", s->stage));

    /* For the SMMU of a board any other value has always meant 1 */
    if (s->smmu_state.smmu_per_bus && s->stage && !stage2 &&
        strcmp("1", s->stage)) {
        refuse(errp, s, "stage=%s is not known: write stage=1, stage=2 or "
               "stage=nested", s->stage);
        return false;
    }
    /* STE.S2FWB, which IDR3.FWB announces, is a field of stage 2 */
    if (s->s2fwb && !stage2) {
        refuse(errp, s, "s2fwb=on needs stage 2, which stage=%s does not have: "
               "write stage=nested or stage=2, or leave s2fwb out",
               s->stage ?: "1");
        return false;
    }
    return true;
}

/* Refuse what is not implemented yet; never ignore it */
static bool check_built(SMMUv3State *s, Error **errp)
{
    const SMMUv3AccelProps *props = &s->accel_props;
    const char *missing = props->ats == ON_OFF_AUTO_ON ? "ats=on" :
                          props->cmdqv == ON_OFF_AUTO_ON ? "cmdqv=on" :
                          props->ssidsize > SMMUV3_SSIDSIZE_0 ?
                          "ssidsize above 0" : NULL;

    if (missing) {
        refuse(errp, s, "%s is not supported yet: leave it out, or set it to "
               "auto or off (0 for ssidsize)", missing);
        return false;
    }
    return true;
}

static bool check_accel(SMMUv3State *s, Error **errp)
{
    if (!s->smmu_state.smmu_per_bus) {
        refuse(errp, s, "the SMMU that the machine creates cannot have "
               "accel=on: drop -machine iommu=smmuv3 and write "
               "-device arm-smmuv3,primary-bus=pcie.0,accel=on");
        return false;
    }
    if (!check_built(s, errp)) {
        return false;
    }
    if (s->stage && strcmp(s->stage, "1")) {
        refuse(errp, s, "stage=%s is not possible with accel=on, where stage 2 "
               "belongs to the host: drop stage=", s->stage);
        return false;
    }
    if (s->s2fwb) {
        refuse(errp, s, "s2fwb=on is not possible with accel=on, where stage 2 "
               "belongs to the host: drop s2fwb=");
        return false;
    }
    if (s->accel_props.device_tree) {
        refuse(errp, s, "accel=on needs a guest that boots by ACPI, since a "
               "device tree cannot tell it to map the host's MSI window: add "
               "UEFI firmware (-bios, pflash) and do not write "
               "-machine acpi=off");
        return false;
    }
    return smmuv3_accel_check_devices(s, errp);
}

/*
 * VFIO asks for a device's address space once, when the device is realized.  So
 * a device that is assigned before its SMMU is created would use the guest's
 * IOVAs as physical addresses.  VFIO itself refuses one that comes later.
 */
static bool check_not_assigned(PCIDevice *dev, void *opaque, Error **errp)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));
    g_autofree char *smmu = qdev_get_human_name(DEVICE(opaque));

    if (object_dynamic_cast(OBJECT(dev), "vfio-pci")) {
        error_setg(errp, "vfio-pci '%s' cannot be behind arm-smmuv3 '%s', "
                   "which is emulated and never sees its DMA: add accel=on to "
                   "the SMMU, or put the device on another root complex",
                   name, smmu);
        return false;
    }
    return true;
}

static bool check_emulated(SMMUv3State *s, Error **errp)
{
    const SMMUv3AccelProps *props = &s->accel_props;
    unsigned oas = smmuv3_oas_bits(props->oas);

    /* The values that an emulated SMMU has anyway are allowed */
    if (props->ats == ON_OFF_AUTO_ON || props->cmdqv == ON_OFF_AUTO_ON ||
        props->ril == ON_OFF_AUTO_OFF || props->ssidsize > SMMUV3_SSIDSIZE_0 ||
        (oas && oas != oas2bits(SMMU_IDR5_OAS)) || props->share_stage2) {
        refuse(errp, s, "ats, cmdqv, oas, ril, share-stage2 and ssidsize are "
               "for an accelerated SMMU: add accel=on, or leave them out");
        return false;
    }
    return !s->smmu_state.smmu_per_bus || !s->smmu_state.primary_bus ||
           smmu_each_device_below(s->smmu_state.primary_bus,
                                  check_not_assigned, s, errp);
}

bool smmuv3_check_properties(SMMUv3State *s, Error **errp)
{
    return check_stage(s, errp) &&
           (s->accel ? check_accel(s, errp) : check_emulated(s, errp));
}
