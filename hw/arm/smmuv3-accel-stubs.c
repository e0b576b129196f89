/*
 * Accelerated SMMUv3: a QEMU that was built without iommufd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "smmuv3-accel.h"

bool smmuv3_accel_check(SMMUv3State *s, Error **errp)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(s));

    error_setg(errp, "arm-smmuv3 '%s': accel=on needs iommufd, which this QEMU "
               "was built without (it exists on Linux only): drop accel=on, or "
               "use a QEMU with CONFIG_IOMMUFD", name);
    return false;
}

/* No SMMU with accel=on gets beyond the check above */

bool smmuv3_accel_realize(SMMUv3State *s, Error **errp)
{
    g_assert_not_reached();
}

void smmuv3_accel_init_regs(SMMUv3State *s)
{
    g_assert_not_reached();
}

bool smmuv3_accel_regs_direct(void)
{
    g_assert_not_reached();
}

void smmuv3_accel_regs_reset(SMMUv3State *s)
{
    g_assert_not_reached();
}

void smmuv3_accel_regs_write(SMMUv3State *s, hwaddr offset, unsigned size,
                             uint64_t value)
{
    g_assert_not_reached();
}

void smmuv3_accel_refresh(SMMUv3State *s)
{
    g_assert_not_reached();
}

void smmuv3_accel_cr0(SMMUv3State *s, uint32_t before)
{
    g_assert_not_reached();
}

void smmuv3_accel_eventq_moved(SMMUv3State *s)
{
    g_assert_not_reached();
}

SMMUCmdError smmuv3_accel_command(SMMUv3State *s, const Cmd *cmd,
                                  bool *caches_only)
{
    g_assert_not_reached();
}

unsigned smmuv3_accel_collect_pages(SMMUv3State *s, const Cmd *cmd, unsigned n)
{
    g_assert_not_reached();
}

bool smmuv3_accel_collecting(SMMUv3State *s)
{
    g_assert_not_reached();
}

SMMUCmdError smmuv3_accel_drained(SMMUv3State *s)
{
    g_assert_not_reached();
}
