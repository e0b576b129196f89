/*
 * A test endpoint that does DMA with PASIDs and asks for translations (ATS).
 *
 * It copies memory, within the address space that a PASID names or without one,
 * on each request or over and over. With ATS it keeps each translation that it
 * gets in its ATC until an invalidation request, so that a request which an
 * operating system or a hypervisor forgets shows as an access to a page that is
 * no longer there. include/hw/misc/pasid-dma.h has its registers.
 *
 * It must be behind an emulated SMMUv3.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "hw/arm/smmuv3-substreams.h"
#include "hw/misc/pasid-dma.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-properties.h"
#include "system/dma.h"

#define TYPE_PASID_DMA "pasid-dma"
OBJECT_DECLARE_SIMPLE_TYPE(PASIDDMAState, PASID_DMA)

/* The first capability must be at the beginning of the space for them */
#define ATS_OFFSET      0x100
#define PASID_OFFSET(d) ((d)->ats ? 0x110 : 0x100)

#define PAGE            (4 * KiB)       /* of an ATC entry */
#define LOOP_NS         (20 * SCALE_US) /* between the copies of a loop */

typedef struct PASIDDMAState {
    PCIDevice parent_obj;

    MemoryRegion bar;
    QEMUTimer timer;            /* runs while it copies in a loop */
    GHashTable *atc;            /* AtcKey to IOMMUTLBEntry */
    uint8_t pasid_width;        /* of the PASID capability; 0 for none */
    bool ats;                   /* whether there is an ATS capability */

    uint32_t flags;
    uint32_t pasid;
    uint64_t src, dst;
    uint32_t len;
    uint32_t result;
    uint64_t fault;             /* the address that the last copy ended at */
    uint32_t oks, failures;
    uint32_t hits, requests, invals;
    uint32_t mute;              /* invalidation requests that get no answer */
} PASIDDMAState;

typedef struct AtcKey {
    uint64_t page;
    uint32_t idx;               /* SMMUV3_IDX_SSV and SMMUV3_IDX_SSID */
} AtcKey;

static guint atc_hash(gconstpointer opaque)
{
    const AtcKey *key = opaque;

    return g_int64_hash(&key->page) ^ key->idx * 0x9e3779b1u;
}

static gboolean atc_equal(gconstpointer a, gconstpointer b)
{
    const AtcKey *one = a, *other = b;

    return one->page == other->page && one->idx == other->idx;
}

static bool pasid_enabled(PASIDDMAState *d)
{
    return d->pasid_width &&
           pci_get_word(PCI_DEVICE(d)->config + PASID_OFFSET(d) +
                        PCI_PASID_CTRL) & PCI_PASID_CTRL_ENABLE;
}

static bool ats_enabled(PASIDDMAState *d)
{
    return d->ats && pci_get_word(PCI_DEVICE(d)->config + ATS_OFFSET +
                                  PCI_ATS_CTRL) & PCI_ATS_CTRL_ENABLE;
}

static bool master_enabled(PASIDDMAState *d)
{
    return pci_get_word(PCI_DEVICE(d)->config + PCI_COMMAND) &
           PCI_COMMAND_MASTER;
}

static IOMMUTLBEntry iommu_translate(PASIDDMAState *d, uint64_t addr,
                                     IOMMUAccessFlags flag, int idx)
{
    AddressSpace *as = pci_device_iommu_address_space(PCI_DEVICE(d));
    IOMMUMemoryRegion *mr = memory_region_get_iommu(as->root);

    return memory_region_get_iommu_class_nocheck(mr)->translate(mr, addr, flag,
                                                                idx);
}

/* The translation of @addr by the ATC, which asks for it if it has none */
static IOMMUTLBEntry atc_translate(PASIDDMAState *d, uint64_t addr,
                                   IOMMUAccessFlags flag, int idx)
{
    AtcKey key = { .page = addr / PAGE, .idx = idx };
    IOMMUTLBEntry *entry = g_hash_table_lookup(d->atc, &key);

    if (entry && (entry->perm & flag)) {
        d->hits++;
        return *entry;
    }
    /* it asks again too where it may not yet do what it wants to */
    entry = g_new(IOMMUTLBEntry, 1);
    *entry = iommu_translate(d, ROUND_DOWN(addr, PAGE), IOMMU_NONE,
                             idx | SMMUV3_IDX_ATS_REQUEST);
    entry->translated_addr = ROUND_DOWN(entry->translated_addr, PAGE);
    entry->addr_mask = PAGE - 1;
    d->requests++;
    if (entry->perm == IOMMU_NONE) {
        IOMMUTLBEntry none = *entry;

        g_hash_table_remove(d->atc, &key);
        g_free(entry);
        return none;
    }
    g_hash_table_replace(d->atc, g_memdup2(&key, sizeof(key)), entry);
    return *entry;
}

/* Access @len bytes, which must not cross a page, at @addr */
static uint32_t access_page(PASIDDMAState *d, uint64_t addr, uint8_t *buf,
                            uint32_t len, bool write)
{
    IOMMUAccessFlags flag = write ? IOMMU_WO : IOMMU_RO;
    int idx = d->flags & PASID_DMA_USE_PASID ?
              SMMUV3_IDX_SSV | (d->pasid & SMMUV3_IDX_SSID) : 0;
    uint32_t refused = write ? PASID_DMA_DST_REFUSED : PASID_DMA_SRC_REFUSED;
    uint64_t at = addr;
    IOMMUTLBEntry entry;
    MemTxResult r;

    if (d->flags & PASID_DMA_USE_ATS) {
        entry = atc_translate(d, addr, flag, idx);
        if (!(entry.perm & flag)) {
            return refused;
        }
        at = entry.translated_addr | (addr & entry.addr_mask);
    }
    if (d->flags & (PASID_DMA_USE_ATS | PASID_DMA_TRANSLATED)) {
        idx = SMMUV3_IDX_TRANSLATED;
    }
    entry = iommu_translate(d, at, flag, idx);
    if (!(entry.perm & flag)) {
        return refused;
    }
    at = (entry.translated_addr & ~entry.addr_mask) | (at & entry.addr_mask);
    r = dma_memory_rw(entry.target_as, at, buf, len,
                      write ? DMA_DIRECTION_FROM_DEVICE :
                              DMA_DIRECTION_TO_DEVICE,
                      MEMTXATTRS_UNSPECIFIED);
    return r == MEMTX_OK ? PASID_DMA_OK : PASID_DMA_BUS_ERROR;
}

static uint32_t access_all(PASIDDMAState *d, uint64_t addr, uint8_t *buf,
                           uint32_t len, bool write)
{
    while (len) {
        uint32_t n = MIN(len, PAGE - addr % PAGE);
        uint32_t result = access_page(d, addr, buf, n, write);

        if (result != PASID_DMA_OK) {
            d->fault = addr;
            return result;
        }
        addr += n;
        buf += n;
        len -= n;
    }
    return PASID_DMA_OK;
}

static void copy(PASIDDMAState *d)
{
    g_autofree uint8_t *buf = g_malloc(PASID_DMA_MAX_LEN);

    d->fault = 0;
    if (!master_enabled(d) ||
        ((d->flags & PASID_DMA_USE_PASID) && !pasid_enabled(d)) ||
        ((d->flags & (PASID_DMA_USE_ATS | PASID_DMA_TRANSLATED)) &&
         !ats_enabled(d))) {
        d->result = PASID_DMA_OFF;
    } else {
        d->result = access_all(d, d->src, buf, d->len, false);
        if (d->result == PASID_DMA_OK) {
            d->result = access_all(d, d->dst, buf, d->len, true);
        }
    }
    if (d->result == PASID_DMA_OK) {
        d->oks++;
    } else {
        d->failures++;
    }
}

static void copy_again(void *opaque)
{
    PASIDDMAState *d = opaque;

    copy(d);
    timer_mod(&d->timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + LOOP_NS);
}

static gboolean atc_matches(gpointer opaque_key, gpointer value,
                            gpointer opaque)
{
    const AtcKey *key = opaque_key;
    const SMMUv3ATCInval *inval = opaque;
    uint64_t addr = key->page * PAGE;

    if (inval->size && addr - inval->addr >= inval->size) {
        return false;
    }
    /* a request without a PASID is for entries with one too */
    return !inval->ssv || (key->idx & SMMUV3_IDX_SSV &&
                           (inval->global ||
                            (key->idx & SMMUV3_IDX_SSID) == inval->ssid));
}

static bool pasid_dma_invalidate(Object *obj, const SMMUv3ATCInval *inval)
{
    PASIDDMAState *d = PASID_DMA(obj);

    d->invals++;
    if (d->mute) {
        d->mute--;
        return false;
    }
    g_hash_table_foreach_remove(d->atc, atc_matches, (gpointer)inval);
    return true;
}

static uint64_t pasid_dma_read(void *opaque, hwaddr addr, unsigned size)
{
    PASIDDMAState *d = opaque;

    switch (addr) {
    case PASID_DMA_ID:
        return PASID_DMA_ID_VALUE;
    case PASID_DMA_STATE:
        return (pasid_enabled(d) ? PASID_DMA_STATE_PASID : 0) |
               (ats_enabled(d) ? PASID_DMA_STATE_ATS : 0) |
               (master_enabled(d) ? PASID_DMA_STATE_MASTER : 0);
    case PASID_DMA_FLAGS:
        return d->flags;
    case PASID_DMA_PASID:
        return d->pasid;
    case PASID_DMA_SRC:
    case PASID_DMA_SRC + 4:
        return extract64(d->src, (addr & 4) * 8, 32);
    case PASID_DMA_DST:
    case PASID_DMA_DST + 4:
        return extract64(d->dst, (addr & 4) * 8, 32);
    case PASID_DMA_LEN:
        return d->len;
    case PASID_DMA_GO:
        return timer_pending(&d->timer) ? PASID_DMA_LOOP : PASID_DMA_STOP;
    case PASID_DMA_RESULT:
        return d->result;
    case PASID_DMA_FAULT:
    case PASID_DMA_FAULT + 4:
        return extract64(d->fault, (addr & 4) * 8, 32);
    case PASID_DMA_OKS:
        return d->oks;
    case PASID_DMA_FAILURES:
        return d->failures;
    case PASID_DMA_ATC_ENTRIES:
        return g_hash_table_size(d->atc);
    case PASID_DMA_ATC_HITS:
        return d->hits;
    case PASID_DMA_ATC_REQUESTS:
        return d->requests;
    case PASID_DMA_ATC_INVALS:
        return d->invals;
    case PASID_DMA_MUTE:
        return d->mute;
    default:
        return 0;
    }
}

static void pasid_dma_write(void *opaque, hwaddr addr, uint64_t value,
                            unsigned size)
{
    PASIDDMAState *d = opaque;

    switch (addr) {
    case PASID_DMA_FLAGS:
        d->flags = value;
        break;
    case PASID_DMA_PASID:
        d->pasid = value;
        break;
    case PASID_DMA_SRC:
    case PASID_DMA_SRC + 4:
        d->src = deposit64(d->src, (addr & 4) * 8, 32, value);
        break;
    case PASID_DMA_DST:
    case PASID_DMA_DST + 4:
        d->dst = deposit64(d->dst, (addr & 4) * 8, 32, value);
        break;
    case PASID_DMA_LEN:
        d->len = MIN(value, PASID_DMA_MAX_LEN);
        break;
    case PASID_DMA_GO:
        timer_del(&d->timer);
        if (value == PASID_DMA_ONCE) {
            copy(d);
        } else if (value == PASID_DMA_LOOP) {
            copy_again(d);
        }
        break;
    case PASID_DMA_MUTE:
        d->mute = value;
        break;
    default:
        break;
    }
}

static const MemoryRegionOps pasid_dma_ops = {
    .read = pasid_dma_read,
    .write = pasid_dma_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 8 },
    .impl = { .min_access_size = 4, .max_access_size = 4 },
};

static void pasid_dma_config_write(PCIDevice *dev, uint32_t addr,
                                   uint32_t value, int len)
{
    PASIDDMAState *d = PASID_DMA(dev);
    bool had_ats = ats_enabled(d);

    pci_default_write_config(dev, addr, value, len);
    pcie_cap_flr_write_config(dev, addr, value, len);
    if (ats_enabled(d) && !had_ats) {
        g_hash_table_remove_all(d->atc);        /* it begins empty */
    }
}

static void pasid_dma_reset(DeviceState *dev)
{
    PASIDDMAState *d = PASID_DMA(dev);
    uint8_t *config = PCI_DEVICE(d)->config;

    timer_del(&d->timer);
    g_hash_table_remove_all(d->atc);
    d->flags = d->pasid = d->len = d->result = 0;
    d->src = d->dst = d->fault = 0;
    d->oks = d->failures = d->hits = d->requests = d->invals = d->mute = 0;
    if (d->pasid_width) {
        pci_set_word(config + PASID_OFFSET(d) + PCI_PASID_CTRL, 0);
    }
    if (d->ats) {
        pci_set_word(config + ATS_OFFSET + PCI_ATS_CTRL, 0);
    }
}

static void pasid_dma_realize(PCIDevice *dev, Error **errp)
{
    PASIDDMAState *d = PASID_DMA(dev);

    if (d->pasid_width > 20) {
        error_setg(errp, "pasid-width has up to 20 bits");
        return;
    }
    if (pcie_endpoint_cap_init(dev, 0x40) < 0) {
        error_setg(errp, "%s must be on a PCI Express bus", TYPE_PASID_DMA);
        return;
    }
    pcie_cap_flr_init(dev);
    if (d->ats) {
        pcie_ats_init(dev, ATS_OFFSET, true);
    }
    if (d->pasid_width) {
        pcie_add_capability(dev, PCI_EXT_CAP_ID_PASID, 1, PASID_OFFSET(d),
                            PCI_EXT_CAP_PASID_SIZEOF);
        pci_set_word(dev->config + PASID_OFFSET(d) + PCI_PASID_CAP,
                     d->pasid_width << 8);
        pci_set_word(dev->wmask + PASID_OFFSET(d) + PCI_PASID_CTRL,
                     PCI_PASID_CTRL_ENABLE);
    }
    d->atc = g_hash_table_new_full(atc_hash, atc_equal, g_free, g_free);
    timer_init_ns(&d->timer, QEMU_CLOCK_VIRTUAL, copy_again, d);
    memory_region_init_io(&d->bar, OBJECT(d), &pasid_dma_ops, d,
                          TYPE_PASID_DMA, PASID_DMA_BAR_SIZE);
    pci_register_bar(dev, 0, PCI_BASE_ADDRESS_SPACE_MEMORY, &d->bar);
}

static void pasid_dma_exit(PCIDevice *dev)
{
    PASIDDMAState *d = PASID_DMA(dev);

    timer_del(&d->timer);
    g_hash_table_destroy(d->atc);
    pcie_cap_exit(dev);
}

static const Property pasid_dma_properties[] = {
    DEFINE_PROP_UINT8("pasid-width", PASIDDMAState, pasid_width, 20),
    DEFINE_PROP_BOOL("ats", PASIDDMAState, ats, true),
};

static void pasid_dma_class_init(ObjectClass *class, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(class);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(class);

    k->realize = pasid_dma_realize;
    k->exit = pasid_dma_exit;
    k->config_write = pasid_dma_config_write;
    k->vendor_id = PASID_DMA_VENDOR_ID;
    k->device_id = PASID_DMA_DEVICE_ID;
    k->class_id = PCI_CLASS_OTHERS;
    SMMUV3_ATS_ENDPOINT_CLASS(class)->invalidate = pasid_dma_invalidate;
    device_class_set_legacy_reset(dc, pasid_dma_reset);
    device_class_set_props(dc, pasid_dma_properties);
    dc->desc = "Test endpoint: DMA with PASIDs and ATS";
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo pasid_dma_info = {
    .name = TYPE_PASID_DMA,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(PASIDDMAState),
    .class_init = pasid_dma_class_init,
    .interfaces = (InterfaceInfo[]) {
        { INTERFACE_PCIE_DEVICE },
        { TYPE_SMMUV3_ATS_ENDPOINT },
        { },
    },
};

static void pasid_dma_register_types(void)
{
    type_register_static(&pasid_dma_info);
}

type_init(pasid_dma_register_types)
