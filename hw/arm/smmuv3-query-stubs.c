/*
 * SMMUv3: query-smmuv3 in a QEMU without SMMUv3
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/qapi-commands-smmuv3.h"

Smmuv3InfoList *qmp_query_smmuv3(Error **errp)
{
    return NULL;
}
