/*
 * SMMUv3: query-smmuv3 in a QEMU without accel=on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "smmuv3-query.h"

/* No SMMU has accel=on */

Smmuv3Accel *smmuv3_accel_query(SMMUv3State *s)
{
    g_assert_not_reached();
}

void smmuv3_accel_query_vcmdqs(SMMUv3State *s, Smmuv3QueueList **tail)
{
    g_assert_not_reached();
}
