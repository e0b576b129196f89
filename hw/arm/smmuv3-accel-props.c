/*
 * Accelerated SMMUv3: properties, and which combinations are valid
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * All faults of a configuration are found and said at once, before the SMMU
 * is realized.  What a host must have for it is in smmuv3-accel-caps.c.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "hw/arm/smmu-primary-bus.h"
#include "hw/arm/smmuv3.h"
#include "hw/arm/smmuv3-accel.h"
#include "hw/core/qdev-prop-internal.h"
#include "smmuv3-internal.h"

static const char *const oas_names[] = {
    "auto", "32", "36", "40", "42", "44", "48", "52",
};

static const QEnumLookup oas_lookup = {
    .array = oas_names,
    .size = ARRAY_SIZE(oas_names),
};

int smmuv3_ssidsize_bits(int value)
{
    return value - SMMUV3_SSIDSIZE_0;
}

unsigned smmuv3_oas_bits(int value)
{
    return value == SMMUV3_OAS_AUTO ? 0 : atoi(oas_names[value]);
}

const PropertyInfo smmuv3_prop_oas = {
    .type = "OasMode",
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
    .enum_table = &ssidsize_lookup,
    .get = qdev_propinfo_get_enum,
    .set = qdev_propinfo_set_enum,
    .set_default_value = qdev_propinfo_set_default_value_enum,
};

static const char *const cmdqv_backend_names[] = {
    "auto", "hardware", "software",
};

static const QEnumLookup cmdqv_backend_lookup = {
    .array = cmdqv_backend_names,
    .size = ARRAY_SIZE(cmdqv_backend_names),
};

const PropertyInfo smmuv3_prop_cmdqv_backend = {
    .type = "CmdqvBackend",
    .enum_table = &cmdqv_backend_lookup,
    .get = qdev_propinfo_get_enum,
    .set = qdev_propinfo_set_enum,
    .set_default_value = qdev_propinfo_set_default_value_enum,
};

/*
 * auto is off.  The region and the interrupt must be there before a host is
 * known, and a VCMDQ that QEMU drains costs the guest more exits.
 */
bool smmuv3_has_cmdqv(const SMMUv3State *s)
{
    return s->accel && s->accel_props.cmdqv == ON_OFF_AUTO_ON;
}

static void get_identifier(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    SMMUv3Identifier *identifier = object_field_prop_ptr(obj, opaque);

    if (!identifier->chosen) {
        error_setg(errp, "there is no %s yet: the machine chooses one when all "
                   "devices are there", name);
        return;
    }
    visit_type_uint8(v, name, &identifier->value, errp);
}

static void set_identifier(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    SMMUv3Identifier *identifier = object_field_prop_ptr(obj, opaque);

    if (visit_type_uint8(v, name, &identifier->value, errp)) {
        identifier->chosen = true;
    }
}

const PropertyInfo smmuv3_prop_identifier = {
    .type = "uint8",
    .get = get_identifier,
    .set = set_identifier,
};

/* What `-device arm-smmuv3,help` says */
static const struct {
    const char *name;
    const char *text;
} descriptions[] = {
    { "accel", "The physical SMMUv3 translates for assigned devices, in nested "
      "mode" },
    { "ats", "accel=on: offer Address Translation Services; auto: if the host "
      "lets one of the devices use them" },
    { "cmdqv", "accel=on: command queues that the guest owns (Tegra241 CMDQV); "
      "auto: off" },
    { "cmdqv-poll-us", "cmdqv=on: a thread of QEMU waits for the next command "
      "for so many microseconds, so that it needs no exit; 0: there is none" },
    { "identifier", "Identifier of the SMMU's node in the ACPI table IORT, 0 "
      "to 255; default: the machine chooses a free one" },
    { "msi-gpa", "For the board: where the guest maps the host's MSI window" },
    { "oas", "accel=on: output address size in bits; auto: what all hosts "
      "have; a number: each host needs as much" },
    { "pasid", "Older name of ssidsize: on is rejected" },
    { "ril", "accel=on: range invalidation; auto: if all hosts have it; on: "
      "each host needs it" },
    { "s2fwb", "accel=off: advertise IDR3.FWB; needs stage=2 or nested" },
    { "share-stage2", "accel=on: one stage 2 for all SMMUs that have this, for "
      "guests that never use one ASID on two of them" },
    { "ssidsize", "accel=on: width of a SubstreamID (PASID) in bits; auto: "
      "what all hosts have; a number: each host needs as much" },
    { "stage", "accel=off: 1, 2 or nested" },
    { "x-cmdqv-backend", "cmdqv=on: who carries the commands out: software is "
      "QEMU, hardware needs a host with a CMDQV; auto: whoever can" },
    { "x-direct-registers", "accel=on: let the guest read registers without "
      "an exit" },
    { "x-drain-us", "accel=on: microseconds for which QEMU goes on to read "
      "commands in one exit" },
};

void smmuv3_describe_properties(ObjectClass *klass)
{
    for (size_t i = 0; i < ARRAY_SIZE(descriptions); i++) {
        object_class_property_set_description(klass, descriptions[i].name,
                                              descriptions[i].text);
    }
}

/*
 * Faults: all of them are looked for, and reported in one Error
 */

void smmuv3_fault_take(GPtrArray *faults, Error *err)
{
    g_ptr_array_add(faults, g_strdup(error_get_pretty(err)));
    error_free(err);
}

/* A fault of the SMMU @s, which it names */
static void G_GNUC_PRINTF(3, 4)
fault(GPtrArray *faults, SMMUv3State *s, const char *format, ...)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(s));
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_ptr_array_add(faults,
                    g_strdup_printf("arm-smmuv3 '%s': %s", name, text));
}

typedef struct DeviceCheck {
    SMMUv3State *s;
    SMMUv3AcceptDevice *accept;
    GPtrArray *faults;
} DeviceCheck;

/* Go on after a device that does not fit */
static bool check_device(PCIDevice *dev, void *opaque, Error **errp)
{
    DeviceCheck *check = opaque;
    Error *err = NULL;

    if (!check->accept(dev, check->s, &err)) {
        smmuv3_fault_take(check->faults, err);
    }
    return true;
}

void smmuv3_fault_check_devices(SMMUv3State *s, SMMUv3AcceptDevice *accept,
                                GPtrArray *faults)
{
    DeviceCheck check = { s, accept, faults };

    /* The base class refuses an SMMU without a bus */
    if (s->smmu_state.primary_bus) {
        smmu_each_device_below(s->smmu_state.primary_bus, check_device, &check,
                               NULL);
    }
}

bool smmuv3_fault_report(SMMUv3State *s, const GPtrArray *faults, Error **errp)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(s));
    g_autofree char *prefix = g_strdup_printf("arm-smmuv3 '%s': ", name);
    g_autoptr(GString) all = g_string_new(NULL);

    if (faults->len < 2) {
        if (faults->len) {
            error_setg(errp, "%s", (char *)faults->pdata[0]);
        }
        return faults->len;
    }
    for (guint i = 0; i < faults->len; i++) {
        const char *text = faults->pdata[i];

        g_string_append_printf(all, "%s(%u) %s", i ? "; " : "", i + 1,
                               g_str_has_prefix(text, prefix) ?
                               text + strlen(prefix) : text);
    }
    error_setg(errp, "%s%u faults: %s", prefix, faults->len, all->str);
    return true;
}

static void check_stage(SMMUv3State *s, GPtrArray *faults)
{
    bool stage2 = s->stage && (!strcmp("2", s->stage) ||
                               !strcmp("nested", s->stage));

    /* For the SMMU of a board any other value has always meant 1 */
    if (s->smmu_state.smmu_per_bus && s->stage && !stage2 &&
        strcmp("1", s->stage)) {
        fault(faults, s, "stage=%s is not known: write stage=1, stage=2 or "
              "stage=nested", s->stage);
    }
    /* STE.S2FWB, which IDR3.FWB announces, is a field of stage 2 */
    if (s->s2fwb && !stage2) {
        fault(faults, s, "s2fwb=on needs stage 2, which stage=%s does not "
              "have: write stage=nested or stage=2, or leave s2fwb out",
              s->stage ?: "1");
    }
}

/* An exit takes some microseconds.  The thread keeps a processor busy. */
#define CMDQV_POLL_US_MIN 10
#define CMDQV_POLL_US_MAX 10000000

static void check_cmdqv(SMMUv3State *s, GPtrArray *faults)
{
    int backend = s->accel_props.cmdqv_backend;
    uint32_t poll_us = s->accel_props.cmdqv_poll_us;

    if (backend != SMMUV3_CMDQV_AUTO && !smmuv3_has_cmdqv(s)) {
        fault(faults, s, "x-cmdqv-backend=%s needs cmdqv=on: add that, or "
              "leave it out", cmdqv_backend_names[backend]);
    }
    if (poll_us && !smmuv3_has_cmdqv(s)) {
        fault(faults, s, "cmdqv-poll-us=%" PRIu32 " needs cmdqv=on: add that, "
              "or leave it out", poll_us);
    }
    if (poll_us && (poll_us < CMDQV_POLL_US_MIN ||
                    poll_us > CMDQV_POLL_US_MAX)) {
        fault(faults, s, "cmdqv-poll-us=%" PRIu32 " is out of range: write %u "
              "to %u microseconds, 1000 for one, or 0 for no thread", poll_us,
              CMDQV_POLL_US_MIN, CMDQV_POLL_US_MAX);
    }
}

static void check_accel(SMMUv3State *s, GPtrArray *faults)
{
    /* This comes first in a QEMU without iommufd */
    smmuv3_accel_check_devices(s, faults);
    if (!s->smmu_state.smmu_per_bus) {
        fault(faults, s, "the SMMU that the machine creates cannot have "
              "accel=on: drop -machine iommu=smmuv3 and write "
              "-device arm-smmuv3,primary-bus=pcie.0,accel=on");
    }
    if (s->accel_props.device_tree) {
        fault(faults, s, "accel=on needs a guest that boots by ACPI, since a "
              "device tree cannot tell it to map the host's MSI window: add "
              "UEFI firmware (-bios, pflash) and do not write "
              "-machine acpi=off");
    }
    if (s->stage && strcmp(s->stage, "1")) {
        fault(faults, s, "stage=%s is not possible with accel=on, where stage "
              "2 belongs to the host: drop stage=", s->stage);
    }
    if (s->s2fwb) {
        fault(faults, s, "s2fwb=on is not possible with accel=on, where stage "
              "2 belongs to the host: drop s2fwb=");
    }
    check_cmdqv(s, faults);
}

/*
 * VFIO asks for a device's address space once, when the device is realized.  So
 * a device that is assigned before its SMMU is created would use the guest's
 * IOVAs as physical addresses.  smmuv3_refuse_assigned() refuses one that comes
 * later.
 */
static bool is_not_assigned(PCIDevice *dev, void *opaque, Error **errp)
{
    return !smmuv3_refuse_assigned(opaque, dev, errp);
}

bool smmuv3_refuse_assigned(SMMUv3State *s, PCIDevice *dev, Error **errp)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));
    g_autofree char *smmu = qdev_get_human_name(DEVICE(s));

    if (!object_dynamic_cast(OBJECT(dev), "vfio-pci")) {
        return false;
    }
    if (s->smmu_state.smmu_per_bus) {
        error_setg(errp, "vfio-pci '%s' cannot be behind arm-smmuv3 '%s', "
                   "which is emulated and never sees its DMA: add accel=on to "
                   "the SMMU, or put the device on another root complex",
                   name, smmu);
    } else {
        error_setg(errp, "vfio-pci '%s' cannot be behind the SMMUv3 of "
                   "-machine iommu=smmuv3, which is emulated and never sees "
                   "its DMA: drop iommu=smmuv3 and write -device "
                   "arm-smmuv3,primary-bus=BUS,accel=on for the root complex "
                   "of the device, or put the device on a pxb-pcie with "
                   "bypass_iommu=on", name);
    }
    return true;
}

static void check_emulated(SMMUv3State *s, GPtrArray *faults)
{
    const SMMUv3AccelProps *props = &s->accel_props;
    unsigned oas = smmuv3_oas_bits(props->oas);

    /* The values that an emulated SMMU has anyway are allowed */
    if (props->ats == ON_OFF_AUTO_ON || props->cmdqv == ON_OFF_AUTO_ON ||
        props->ril == ON_OFF_AUTO_OFF || props->ssidsize > SMMUV3_SSIDSIZE_0 ||
        (oas && oas != oas2bits(SMMU_IDR5_OAS)) || props->share_stage2 ||
        props->cmdqv_backend != SMMUV3_CMDQV_AUTO || props->cmdqv_poll_us) {
        fault(faults, s, "ats, cmdqv, oas, ril, share-stage2 and ssidsize are "
              "for an accelerated SMMU: add accel=on, or leave them out");
    }
    if (s->smmu_state.smmu_per_bus) {
        smmuv3_fault_check_devices(s, is_not_assigned, faults);
    }
}

void smmuv3_find_faults(SMMUv3State *s, GPtrArray *faults)
{
    if (s->accel) {
        check_accel(s, faults);
    } else {
        check_stage(s, faults);
        check_emulated(s, faults);
    }
    if (s->accel_props.pasid) {
        fault(faults, s, "pasid=on is an older name: write ssidsize=auto, or "
              "ssidsize= with a number of SubstreamID bits (and accel=on)");
    }
}

bool smmuv3_check_properties(SMMUv3State *s, Error **errp)
{
    g_autoptr(GPtrArray) faults = g_ptr_array_new_with_free_func(g_free);

    smmuv3_find_faults(s, faults);
    return !smmuv3_fault_report(s, faults, errp);
}
