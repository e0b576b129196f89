/*
 * SMMUv3: query-smmuv3
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What smmuv3-query.c and smmuv3-accel-query.c share.  Called with the BQL
 * held.  The caller frees what a function returns.
 */
#ifndef HW_ARM_SMMUV3_QUERY_H
#define HW_ARM_SMMUV3_QUERY_H

#include "hw/arm/smmuv3.h"
#include "qapi/qapi-types-smmuv3.h"
#include "smmuv3-internal.h"

/* IDR0 to IDR5 */
uint32List *smmuv3_query_idr(const uint32_t idr[6]);

/* A queue of the guest, without a name */
Smmuv3Queue *smmuv3_query_queue(const SMMUQueue *q, bool enabled,
                                Smmuv3QueueOwner owner);

/* @info is one of commands: its CONS has a field ERR (IHI 0070 6.3.28) */
void smmuv3_query_cons_error(Smmuv3Queue *info);

/* The part about accel=on, of an SMMU that has it */
Smmuv3Accel *smmuv3_accel_query(SMMUv3State *s);

/* Append the VCMDQs of an SMMU with accel=on, if it has a CMDQV */
void smmuv3_accel_query_vcmdqs(SMMUv3State *s, Smmuv3QueueList **tail);

#endif
