/*
 * Host model: an endpoint that moves any byte on demand
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "dma.h"
#include "model.h"

/* A translation of one 4 KiB page that the endpoint got by ATS */
typedef struct HmAtcEntry {
    uint32_t pasid;
    uint64_t page;                      /* IOVA / 4 KiB */
    uint8_t *host;
    unsigned prot;
} HmAtcEntry;

typedef struct HmDma {
    uint64_t reg[0x100 / 8];
    uint8_t buffer[DMA_BUFFER_SIZE];
    GArray *atc;                        /* of HmAtcEntry */
    uint64_t half;                      /* lower half of a register */
} HmDma;

#define REG(dma, name) ((dma)->reg[(name) / 8])

static uint64_t first_word(HmDma *dma)
{
    uint64_t value;

    memcpy(&value, dma->buffer, sizeof(value));
    return GUINT64_FROM_LE(value);
}

static uint32_t pasid_of(HmDma *dma)
{
    uint64_t pasid = REG(dma, DMA_PASID);

    return pasid == DMA_NO_PASID ? HM_NO_PASID : pasid;
}

static void done(HmDma *dma, int ret)
{
    REG(dma, DMA_STATUS) = ret ? DMA_FAULT : DMA_OK;
    REG(dma, DMA_RESULT) = first_word(dma);
}

static int transfer(HmDevice *dev, uint64_t iova, size_t len, bool write)
{
    HmDma *dma = dev->priv;

    return hm_dma(dev, pasid_of(dma), iova, dma->buffer, len, write);
}

static HmAtcEntry *atc_find(HmDma *dma, uint64_t iova)
{
    for (guint i = 0; i < dma->atc->len; i++) {
        HmAtcEntry *e = &g_array_index(dma->atc, HmAtcEntry, i);

        if (e->page == iova >> 12 && e->pasid == pasid_of(dma)) {
            return e;
        }
    }
    return NULL;
}

static int ats_request(HmDevice *dev, uint64_t iova)
{
    HmDma *dma = dev->priv;
    HmTranslation t = {
        .sid = dev->sid, .ssid = pasid_of(dma), .iova = iova & ~0xfffull,
        .access = HM_READ, .ats_request = true,
    };
    HmAtcEntry e;

    if (!dev->ats || hm_smmu_translate(dev->smmu, &t) ||
        t.host == HM_DOORBELL || t.len < 4096) {
        return -EFAULT;
    }
    e = (HmAtcEntry) {
        .pasid = t.ssid, .page = iova >> 12, .host = t.host, .prot = t.prot,
    };
    g_array_append_val(dma->atc, e);
    return 0;
}

/* Use what the ATC holds, however old.  Only an ATC_INV removes it. */
static int ats_access(HmDevice *dev, uint64_t iova, size_t len, bool write)
{
    HmDma *dma = dev->priv;
    HmAtcEntry *e = atc_find(dma, iova);
    size_t offset = iova & 0xfff;

    if (!e || offset + len > 4096 ||
        !(e->prot & (write ? HM_WRITE : HM_READ))) {
        return -EFAULT;
    }
    if (write) {
        memcpy(e->host + offset, dma->buffer, len);
    } else {
        memcpy(dma->buffer, e->host + offset, len);
    }
    return 0;
}

/* ATC_INV (IHI 0070 4.5.1) covers 2^Size pages, aligned to that size. */
static bool dma_atc_inv(HmDevice *dev, const uint64_t cmd[2])
{
    HmDma *dma = dev->priv;
    unsigned size = cmd[1] & 0x3f;
    bool ssv = cmd[0] & (1u << 11), global = cmd[0] & (1u << 9);
    uint32_t ssid = (cmd[0] >> 12) & 0xfffff;

    for (guint i = dma->atc->len; i--; ) {
        HmAtcEntry *e = &g_array_index(dma->atc, HmAtcEntry, i);
        bool same = global ? e->pasid != HM_NO_PASID
                           : ssv ? e->pasid == ssid
                                 : e->pasid == HM_NO_PASID;

        if ((global || same) &&
            (size >= 52 || e->page >> size == (cmd[1] >> 12) >> size)) {
            g_array_remove_index_fast(dma->atc, i);
        }
    }
    return true;
}

static int fetch_add(HmDevice *dev, uint64_t iova)
{
    HmDma *dma = dev->priv;
    uint64_t old, sum;
    int ret = transfer(dev, iova, 8, false);

    if (ret) {
        return ret;
    }
    old = first_word(dma);
    sum = GUINT64_TO_LE(old + REG(dma, DMA_VALUE));
    memcpy(dma->buffer, &sum, 8);
    ret = transfer(dev, iova, 8, true);
    old = GUINT64_TO_LE(old);
    memcpy(dma->buffer, &old, 8);
    return ret;
}

static void command(HmDevice *dev, uint64_t op)
{
    HmDma *dma = dev->priv;
    uint64_t iova = REG(dma, DMA_IOVA), len = REG(dma, DMA_LEN);

    if (len > DMA_BUFFER_SIZE) {
        REG(dma, DMA_STATUS) = DMA_BAD;
        return;
    }
    switch (op) {
    case DMA_OP_READ:
    case DMA_OP_WRITE:
        done(dma, transfer(dev, iova, len, op == DMA_OP_WRITE));
        break;
    case DMA_OP_ADD:
        done(dma, fetch_add(dev, iova));
        break;
    case DMA_OP_ATS:
        done(dma, ats_request(dev, iova));
        break;
    case DMA_OP_ATS_READ:
    case DMA_OP_ATS_WRITE:
        done(dma, ats_access(dev, iova, len, op == DMA_OP_ATS_WRITE));
        break;
    case DMA_OP_MSIX:
        hm_device_msix(dev, REG(dma, DMA_VALUE));
        done(dma, 0);
        break;
    default:
        REG(dma, DMA_STATUS) = DMA_BAD;
    }
}

static void write_reg(HmDevice *dev, uint64_t offset, uint64_t value)
{
    HmDma *dma = dev->priv;
    uint64_t le;

    switch (offset) {
    case DMA_COMMAND:
        command(dev, value);
        break;
    case DMA_READ64:
        done(dma, transfer(dev, value, 8, false));
        break;
    case DMA_WRITE64:
        le = GUINT64_TO_LE(REG(dma, DMA_VALUE));
        memcpy(dma->buffer, &le, 8);
        done(dma, transfer(dev, value, 8, true));
        break;
    case DMA_STATUS:
    case DMA_RESULT:
        break;
    case DMA_PROBE:
        REG(dma, DMA_PROBES_A) = REG(dma, DMA_PROBES_B) = 0;
        REG(dma, DMA_PROBES_OTHER) = REG(dma, DMA_PROBES_FAULT) = 0;
        /* fall through */
    default:
        dma->reg[offset / 8] = value;
    }
}

static uint64_t dma_read(HmDevice *dev, unsigned bar, uint64_t offset,
                         unsigned size)
{
    HmDma *dma = dev->priv;
    uint64_t value = 0;

    if (bar != 0 || offset + size > DMA_BAR_SIZE) {
        return 0;
    }
    if (offset >= DMA_BUFFER && offset + size <= DMA_BUFFER + DMA_BUFFER_SIZE) {
        memcpy(&value, dma->buffer + offset - DMA_BUFFER, size);
        return GUINT64_FROM_LE(value);
    }
    if (offset >= sizeof(dma->reg)) {
        return 0;
    }
    value = dma->reg[offset / 8] >> (offset % 8 * 8);
    return size == 8 ? value : value & ((1ull << (size * 8)) - 1);
}

static void dma_write(HmDevice *dev, unsigned bar, uint64_t offset,
                      uint64_t value, unsigned size)
{
    HmDma *dma = dev->priv;
    uint64_t le = GUINT64_TO_LE(value);

    if (bar != 0 || offset + size > DMA_BAR_SIZE) {
        return;
    }
    if (offset >= DMA_BUFFER && offset + size <= DMA_BUFFER + DMA_BUFFER_SIZE) {
        memcpy(dma->buffer + offset - DMA_BUFFER, &le, size);
    } else if (offset < sizeof(dma->reg) && size == 8) {
        write_reg(dev, offset & ~7ull, value);
    } else if (offset < sizeof(dma->reg) && size == 4) {
        if (offset % 8) {
            write_reg(dev, offset & ~7ull, dma->half | value << 32);
        } else {
            dma->half = value;
        }
    }
}

static void dma_ste_step(HmDevice *dev)
{
    HmDma *dma = dev->priv;
    uint64_t value = 0;

    if (!(REG(dma, DMA_PROBE) & 1)) {
        return;
    }
    /* A reset clears the device's registers, but not the counters. */
    HM_COUNT("probe.done");
    if (hm_dma(dev, pasid_of(dma), REG(dma, DMA_IOVA), &value, 8, false)) {
        REG(dma, DMA_PROBES_FAULT)++;
        return;
    }
    value = GUINT64_FROM_LE(value);
    if (value == REG(dma, DMA_PROBE_A)) {
        REG(dma, DMA_PROBES_A)++;
    } else if (value == REG(dma, DMA_PROBE_B)) {
        REG(dma, DMA_PROBES_B)++;
    } else {
        REG(dma, DMA_PROBES_OTHER)++;
        HM_COUNT("probe.other");
    }
}

static void dma_reset(HmDevice *dev)
{
    HmDma *dma = dev->priv;

    memset(dma->reg, 0, sizeof(dma->reg));
    memset(dma->buffer, 0, sizeof(dma->buffer));
    REG(dma, DMA_PASID) = DMA_NO_PASID;
    g_array_set_size(dma->atc, 0);
}

static void put16(uint8_t *config, unsigned at, uint16_t value)
{
    config[at] = value;
    config[at + 1] = value >> 8;
}

static bool dma_init(HmDevice *dev, GKeyFile *config, const char *group,
                     char **error)
{
    HmDma *dma = g_new0(HmDma, 1);

    dma->atc = g_array_new(FALSE, FALSE, sizeof(HmAtcEntry));
    dev->priv = dma;
    put16(dev->config, 0x00, DMA_VENDOR_ID);
    put16(dev->config, 0x02, DMA_DEVICE_ID);
    dev->config[0x0b] = 0xff;           /* class: none of those defined */
    dev->bar_size[0] = DMA_BAR_SIZE;
    dev->n_msix = DMA_MSIX_VECTORS;
    dma_reset(dev);
    return true;
}

const HmEndpointOps hm_dma_ops = {
    .kind = "dma",
    .init = dma_init,
    .read = dma_read,
    .write = dma_write,
    .reset = dma_reset,
    .ste_step = dma_ste_step,
    .atc_inv = dma_atc_inv,
};
