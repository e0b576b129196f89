/*
 * Accelerated SMMUv3: a QEMU that was built without iommufd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/arm/smmuv3-accel.h"

void smmuv3_accel_check_devices(SMMUv3State *s, GPtrArray *faults)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(s));

    g_ptr_array_add(faults, g_strdup_printf(
        "arm-smmuv3 '%s': accel=on needs iommufd, which this QEMU was built "
        "without (it exists on Linux only): drop accel=on, or use a QEMU with "
        "CONFIG_IOMMUFD", name));
}

/* No SMMU with accel=on passes the check above */

bool smmuv3_accel_realize(SMMUv3State *s, const MemoryRegionOps *ops,
                          Error **errp)
{
    g_assert_not_reached();
}

void smmuv3_accel_do_init_cmdqv(SMMUv3State *s)
{
    g_assert_not_reached();
}

void smmuv3_accel_do_reset(SMMUv3State *s)
{
    g_assert_not_reached();
}

void smmuv3_accel_do_cr0(SMMUv3State *s)
{
    g_assert_not_reached();
}

void smmuv3_accel_do_gbpa(SMMUv3State *s)
{
    g_assert_not_reached();
}

void smmuv3_accel_do_eventq_cons(SMMUv3State *s)
{
    g_assert_not_reached();
}

bool smmuv3_accel_do_write_begin(SMMUv3State *s, hwaddr offset, unsigned size,
                                 uint64_t value)
{
    g_assert_not_reached();
}

void smmuv3_accel_do_write_end(SMMUv3State *s, hwaddr offset)
{
    g_assert_not_reached();
}

void smmuv3_accel_do_publish_causes(SMMUv3State *s)
{
    g_assert_not_reached();
}

bool smmuv3_accel_do_drain_begin(SMMUv3State *s)
{
    g_assert_not_reached();
}

bool smmuv3_accel_drain_next(SMMUv3State *s, struct Cmd *cmd, unsigned *error)
{
    g_assert_not_reached();
}

unsigned smmuv3_accel_do_drain_end(SMMUv3State *s, unsigned error)
{
    g_assert_not_reached();
}

MemTxResult smmuv3_accel_write_event(SMMUv3State *s, const struct Evt *evt)
{
    g_assert_not_reached();
}

void smmuv3_accel_do_read(SMMUv3State *s, hwaddr offset)
{
    g_assert_not_reached();
}
