/*
 * Accelerated SMMUv3: property types
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "smmuv3-accel-props.h"
#include "hw/core/qdev-prop-internal.h"

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
