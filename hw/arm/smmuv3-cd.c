/*
 * SMMUv3: where a Context Descriptor is
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An STE has one CD, or a table with a CD for each SubstreamID.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/log.h"
#include "exec/address-spaces.h"
#include "system/dma.h"
#include "smmuv3-cd.h"

/* Values of STE.S1Fmt and STE.S1DSS; 3 acts as 0 */
enum { S1FMT_LINEAR, S1FMT_4K_LEAVES, S1FMT_64K_LEAVES };
enum { S1DSS_TERMINATE, S1DSS_BYPASS, S1DSS_SSID0 };

#define L1CD_V          BIT_ULL(0)
#define L1CD_L2PTR      MAKE_64BIT_MASK(12, 40)

/* The CD of SubstreamID 0 is the first that the first L1CD points at */
static int follow_l1cd(dma_addr_t *addr, SMMUEventInfo *event)
{
    uint64_t l1cd;

    if (dma_memory_read(&address_space_memory, *addr, &l1cd, sizeof(l1cd),
                        MEMTXATTRS_UNSPECIFIED) != MEMTX_OK) {
        event->type = SMMU_EVT_F_CD_FETCH;
        event->u.f_cd_fetch.addr = *addr;
        return -EINVAL;
    }
    le64_to_cpus(&l1cd);
    if (!(l1cd & L1CD_V)) {
        event->type = SMMU_EVT_C_BAD_SUBSTREAMID;
        return -EINVAL;
    }
    *addr = l1cd & L1CD_L2PTR;
    return 0;
}

int smmuv3_find_cd(SMMUv3State *s, const STE *ste, dma_addr_t *addr,
                   SMMUEventInfo *event)
{
    unsigned ssidsize = FIELD_EX32(s->idr[1], IDR1, SSIDSIZE);
    unsigned cdmax = ssidsize ? STE_S1CDMAX(ste) : 0;
    unsigned fmt = cdmax ? STE_S1FMT(ste) % 3 : S1FMT_LINEAR;

    if (cdmax > ssidsize ||
        (fmt != S1FMT_LINEAR && !FIELD_EX32(s->idr[0], IDR0, CD2L))) {
        qemu_log_mask(LOG_GUEST_ERROR, "SMMUv3: STE.S1CDMax %u or S1Fmt %u "
                      "is not supported\n", cdmax, fmt);
        event->type = SMMU_EVT_C_BAD_STE;
        return -EINVAL;
    }
    if (cdmax && STE_S1DSS(ste) == S1DSS_BYPASS) {
        return 1;
    }
    if (cdmax && STE_S1DSS(ste) != S1DSS_SSID0) {
        event->type = SMMU_EVT_F_STREAM_DISABLED;
        return -EINVAL;
    }
    *addr = STE_CTXPTR(ste);
    return fmt == S1FMT_LINEAR ? 0 : follow_l1cd(addr, event);
}
