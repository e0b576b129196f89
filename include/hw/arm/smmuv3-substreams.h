/*
 * SubstreamIDs and ATS of an emulated SMMUv3: what an endpoint says with a
 * request, and what it is asked in return.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_SMMUV3_SUBSTREAMS_H
#define HW_ARM_SMMUV3_SUBSTREAMS_H

#include "hw/arm/smmuv3.h"
#include "qom/object.h"

/*
 * The IOMMU index of a request, for IOMMUMemoryRegionClass.translate(): its
 * SubstreamID if SSV is set, and its kind. 0 is an ordinary request.
 */
#define SMMUV3_IDX_SSID         0x000fffff
#define SMMUV3_IDX_SSV          BIT(20)
/*
 * An ATS translation request. The flag is IOMMU_NONE; the answer has the access
 * that the page allows, and IOMMU_NONE if it is refused.
 */
#define SMMUV3_IDX_ATS_REQUEST  BIT(21)
/* The address is a translated one, from the answer to such a request */
#define SMMUV3_IDX_TRANSLATED   BIT(22)

/* An endpoint with an address translation cache (ATC) */
#define TYPE_SMMUV3_ATS_ENDPOINT "smmuv3-ats-endpoint"
typedef struct SMMUv3ATSEndpointClass SMMUv3ATSEndpointClass;
DECLARE_CLASS_CHECKERS(SMMUv3ATSEndpointClass, SMMUV3_ATS_ENDPOINT,
                       TYPE_SMMUV3_ATS_ENDPOINT)

/* An invalidation request. Without @ssv it is for all PASIDs and for none. */
typedef struct SMMUv3ATCInval {
    uint64_t addr;      /* in bytes, a multiple of @size */
    uint64_t size;      /* in bytes, a power of two; 0 for 2^64 */
    uint32_t ssid;      /* valid with @ssv and without @global */
    bool ssv;
    bool global;        /* for all PASIDs; only with @ssv */
} SMMUv3ATCInval;

struct SMMUv3ATSEndpointClass {
    InterfaceClass parent_class;

    /*
     * Forget the translations of @inval, at once. Returns false if there is no
     * answer; then the next CMD_SYNC fails with CERROR_ATC_INV_SYNC.
     */
    bool (*invalidate)(Object *endpoint, const SMMUv3ATCInval *inval);
};

/*
 * Cached configurations of substreams, by device and SubstreamID, in place of
 * SMMUState.configs, which has those of requests without one.
 */
void smmuv3_substreams_init(SMMUv3State *s);
SMMUTransCfg *smmuv3_substream_find(SMMUv3State *s, SMMUDevice *sdev,
                                    uint32_t ssid);
/* Takes @cfg, which g_free() must be able to free */
void smmuv3_substream_insert(SMMUv3State *s, SMMUDevice *sdev, uint32_t ssid,
                             SMMUTransCfg *cfg);
void smmuv3_substream_forget(SMMUv3State *s, SMMUDevice *sdev, uint32_t ssid);
/* Forget those of all StreamIDs in @range */
void smmuv3_substreams_forget(SMMUv3State *s, SMMUSIDRange range);

/*
 * Hand an ATC_INV to the endpoint with StreamID @sid. Returns false if it gives
 * no answer; one that has no ATC, or is not there, gives one.
 */
bool smmuv3_atc_invalidate(SMMUv3State *s, uint32_t sid,
                           const SMMUv3ATCInval *inval);

#endif
