/*
 * SubstreamIDs and ATS of an emulated SMMUv3: cached configurations, and
 * invalidation of the endpoints' ATCs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/arm/smmuv3-substreams.h"
#include "hw/pci/pci_bus.h"
#include "qemu/module.h"

typedef struct Substream {
    SMMUDevice *sdev;
    uint32_t ssid;
} Substream;

static guint substream_hash(gconstpointer opaque)
{
    const Substream *substream = opaque;

    return g_direct_hash(substream->sdev) ^ substream->ssid * 0x9e3779b1u;
}

static gboolean substream_equal(gconstpointer a, gconstpointer b)
{
    const Substream *one = a, *other = b;

    return one->sdev == other->sdev && one->ssid == other->ssid;
}

void smmuv3_substreams_init(SMMUv3State *s)
{
    s->substreams = g_hash_table_new_full(substream_hash, substream_equal,
                                          g_free, g_free);
}

SMMUTransCfg *smmuv3_substream_find(SMMUv3State *s, SMMUDevice *sdev,
                                    uint32_t ssid)
{
    Substream key = { .sdev = sdev, .ssid = ssid };

    return g_hash_table_lookup(s->substreams, &key);
}

void smmuv3_substream_insert(SMMUv3State *s, SMMUDevice *sdev, uint32_t ssid,
                             SMMUTransCfg *cfg)
{
    Substream *key = g_new(Substream, 1);

    *key = (Substream) { .sdev = sdev, .ssid = ssid };
    g_hash_table_replace(s->substreams, key, cfg);
}

void smmuv3_substream_forget(SMMUv3State *s, SMMUDevice *sdev, uint32_t ssid)
{
    Substream key = { .sdev = sdev, .ssid = ssid };

    g_hash_table_remove(s->substreams, &key);
}

static gboolean substream_in_range(gpointer key, gpointer value,
                                   gpointer opaque)
{
    Substream *substream = key;
    SMMUSIDRange *range = opaque;
    uint32_t sid = smmu_get_sid(substream->sdev);

    return sid >= range->start && sid <= range->end;
}

void smmuv3_substreams_forget(SMMUv3State *s, SMMUSIDRange range)
{
    g_hash_table_foreach_remove(s->substreams, substream_in_range, &range);
}

bool smmuv3_atc_invalidate(SMMUv3State *s, uint32_t sid,
                           const SMMUv3ATCInval *inval)
{
    SMMUDevice *sdev = sid <= UINT16_MAX ?
                       smmu_find_sdev(ARM_SMMU(s), sid) : NULL;
    Object *endpoint = sdev ? OBJECT(sdev->bus->devices[sdev->devfn]) : NULL;

    if (!endpoint ||
        !object_dynamic_cast(endpoint, TYPE_SMMUV3_ATS_ENDPOINT)) {
        return true;
    }
    return SMMUV3_ATS_ENDPOINT_GET_CLASS(endpoint)->invalidate(endpoint,
                                                               inval);
}

static const TypeInfo ats_endpoint_info = {
    .name = TYPE_SMMUV3_ATS_ENDPOINT,
    .parent = TYPE_INTERFACE,
    .class_size = sizeof(SMMUv3ATSEndpointClass),
};

static void smmuv3_substreams_register_types(void)
{
    type_register_static(&ats_endpoint_info);
}

type_init(smmuv3_substreams_register_types)
