/*
 * Accelerated SMMUv3: property types
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_SMMUV3_ACCEL_PROPS_H
#define HW_ARM_SMMUV3_ACCEL_PROPS_H

#include "hw/qdev-properties.h"

/* Values of ssidsize: auto, or a number of bits from 0 to 20 */
enum { SMMUV3_SSIDSIZE_AUTO = 0, SMMUV3_SSIDSIZE_0 = 1 };

/* Values of oas: auto, or one of smmuv3_oas_bits() */
enum { SMMUV3_OAS_AUTO = 0 };

/* Output address size in bits for a value of oas, 0 for auto */
unsigned smmuv3_oas_bits(int value);

extern const PropertyInfo smmuv3_prop_oas;
extern const PropertyInfo smmuv3_prop_ssidsize;

/* @f is an int; the names of the types are what management software reads */
#define DEFINE_PROP_SMMUV3_OAS(n, s, f) \
    DEFINE_PROP_SIGNED(n, s, f, SMMUV3_OAS_AUTO, smmuv3_prop_oas, int)
#define DEFINE_PROP_SMMUV3_SSIDSIZE(n, s, f) \
    DEFINE_PROP_SIGNED(n, s, f, SMMUV3_SSIDSIZE_AUTO, \
                       smmuv3_prop_ssidsize, int)

#endif
