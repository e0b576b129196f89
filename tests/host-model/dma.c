/*
 * Host model: an endpoint that moves any byte on demand
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <linux/pci_regs.h>
#include <stdlib.h>
#include "dma.h"
#include "model.h"

/*
 * A translation that the endpoint got by ATS.  The ATC keeps it until an
 * ATC_INV or a reset, and uses the oldest that fits.
 */
typedef struct HmAtcEntry {
    uint32_t pasid;
    uint64_t first, last;               /* IOVA; aligned to its size */
    uint8_t *host;
    unsigned prot;
    bool priv;                          /* requested for privileged access */
} HmAtcEntry;

typedef struct HmDma {
    uint64_t reg[0x100 / 8];
    uint8_t buffer[DMA_BUFFER_SIZE];
    GHashTable *atc;                    /* of GArray of HmAtcEntry, by PASID */
    unsigned atc_entries;
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

/* A function sends a PASID only if it has PASIDs, and they are enabled. */
static bool pasid_good(HmDevice *dev)
{
    uint64_t pasid = REG((HmDma *)dev->priv, DMA_PASID);

    return pasid == DMA_NO_PASID ||
           ((hm_pci_pasid_control(dev) & PCI_PASID_CTRL_ENABLE) &&
            !(pasid >> dev->pasid_bits));
}

/* HM_READ or HM_WRITE, and the attributes that the host has enabled */
static unsigned access_of(HmDevice *dev, bool write)
{
    HmDma *dma = dev->priv;
    unsigned control = hm_pci_pasid_control(dev), access = HM_READ;

    if (write) {
        access = HM_WRITE;
    } else if ((REG(dma, DMA_FLAGS) & DMA_EXEC) &&
               (control & PCI_PASID_CTRL_EXEC)) {
        access |= HM_EXEC;
    }
    if ((REG(dma, DMA_FLAGS) & DMA_PRIV) && (control & PCI_PASID_CTRL_PRIV)) {
        access |= HM_PRIV;
    }
    return pasid_of(dma) == HM_NO_PASID ? access & (HM_READ | HM_WRITE)
                                        : access;
}

static void done(HmDma *dma, int ret)
{
    REG(dma, DMA_STATUS) = ret == -EINVAL ? DMA_BAD : ret ? DMA_FAULT : DMA_OK;
    REG(dma, DMA_RESULT) = first_word(dma);
}

/*
 * ATS
 */

static void atc_forget(HmDma *dma)
{
    g_hash_table_remove_all(dma->atc);
    dma->atc_entries = 0;
}

/* The oldest that allows @access */
static HmAtcEntry *atc_find(HmDma *dma, uint64_t iova, unsigned access)
{
    GArray *list = g_hash_table_lookup(dma->atc,
                                       GUINT_TO_POINTER(pasid_of(dma)));
    unsigned prot = access & (HM_READ | HM_WRITE | HM_EXEC);

    for (guint i = 0; list && i < list->len; i++) {
        HmAtcEntry *e = &g_array_index(list, HmAtcEntry, i);

        if (iova >= e->first && iova <= e->last && !(prot & ~e->prot) &&
            e->priv == !!(access & HM_PRIV)) {
            return e;
        }
    }
    return NULL;
}

static void atc_insert(HmDma *dma, const HmAtcEntry *new)
{
    void *key = GUINT_TO_POINTER(new->pasid);
    GArray *list = g_hash_table_lookup(dma->atc, key);

    if (!list) {
        list = g_array_new(false, false, sizeof(HmAtcEntry));
        g_hash_table_insert(dma->atc, key, list);
    }
    for (guint i = 0; i < list->len; i++) {
        const HmAtcEntry *e = &g_array_index(list, HmAtcEntry, i);

        if (e->first == new->first && e->last == new->last &&
            e->host == new->host && e->prot == new->prot &&
            e->priv == new->priv) {
            return;
        }
    }
    g_array_append_vals(list, new, 1);
    dma->atc_entries++;
}

/* The largest aligned block that begins at @iova and has at most @len bytes */
static uint64_t block_size(uint64_t iova, uint64_t len)
{
    uint64_t size = 4096;

    while (!(iova & (2 * size - 1)) && 2 * size <= len && size < 1ull << 40) {
        size *= 2;
    }
    return size;
}

static int ats_request(HmDevice *dev, uint64_t iova, unsigned access)
{
    HmDma *dma = dev->priv;
    HmTranslation t = {
        .sid = dev->sid, .ssid = pasid_of(dma), .iova = iova & ~0xfffull,
        .access = access | HM_READ, .ats_request = true,
    };
    HmAtcEntry e;
    int ret;

    REG(dma, DMA_ATS_REPLY) = REG(dma, DMA_ATS_SIZE) = 0;
    if (!hm_pci_does_ats(dev) || !hm_device_can_send(dev)) {
        return -EFAULT;
    }
    HM_COUNT("atc.request");
    ret = hm_smmu_translate(dev->smmu, &t);
    REG(dma, DMA_ATS_REPLY) = t.reply == HM_ATS_UR ? DMA_ATS_UR :
                              t.reply == HM_ATS_CA ? DMA_ATS_CA :
                                                     DMA_ATS_SUCCESS;
    if (ret || t.host == HM_DOORBELL || t.len < 4096) {
        return -EFAULT;
    }
    e = (HmAtcEntry) {
        .pasid = t.ssid, .first = t.iova, .host = t.host, .prot = t.prot,
        .last = t.iova + (block_size(t.iova, t.len) - 1),
        .priv = access & HM_PRIV,
    };
    REG(dma, DMA_ATS_REPLY) |= t.prot & (HM_READ | HM_WRITE);
    REG(dma, DMA_ATS_SIZE) = e.last - e.first + 1;
    atc_insert(dma, &e);
    return 0;
}

/* A translated transaction of up to a page, by an entry however old it is */
static int send_translated(HmDevice *dev, const HmAtcEntry *e, uint64_t iova,
                           void *buf, size_t len, unsigned access)
{
    HmTranslation t = {
        .sid = dev->sid, .ssid = e->pasid, .iova = iova, .access = access,
        .host = e->host + (iova - e->first), .prot = e->prot,
    };

    if (!hm_device_can_send(dev)) {
        return -EFAULT;
    }
    HM_COUNT("atc.hit");
    hm_smmu_check_atc(dev->smmu, &t);
    t.iova = (uintptr_t)t.host;
    t.ats_translated = true;
    if (hm_smmu_translate(dev->smmu, &t)) {
        return -EFAULT;
    }
    if (access & HM_WRITE) {
        memcpy(t.host, buf, len);
    } else {
        memcpy(buf, t.host, len);
    }
    return 0;
}

/* Through the ATC.  With @ask, a miss leads to a request. */
static int ats_transfer(HmDevice *dev, uint64_t iova, size_t len,
                        unsigned access, bool ask)
{
    HmDma *dma = dev->priv;

    for (size_t at = 0; at < len; ) {
        size_t n = MIN(len - at, 4096 - iova % 4096);
        HmAtcEntry *e = atc_find(dma, iova, access);
        int ret;

        if (!e && ask && !ats_request(dev, iova, access)) {
            e = atc_find(dma, iova, access);
        }
        ret = e ? send_translated(dev, e, iova, dma->buffer + at, n, access)
                : -EFAULT;
        if (ret) {
            return ret;
        }
        at += n;
        iova += n;
    }
    return 0;
}

static int transfer(HmDevice *dev, uint64_t iova, size_t len, bool write)
{
    HmDma *dma = dev->priv;
    unsigned access = access_of(dev, write);

    if (!pasid_good(dev)) {
        return -EINVAL;
    }
    if ((REG(dma, DMA_FLAGS) & DMA_USE_ATC) && hm_pci_does_ats(dev)) {
        return ats_transfer(dev, iova, len, access, true);
    }
    return hm_dma_as(dev, pasid_of(dma), iova, dma->buffer, len, access);
}

/*
 * ATC_INV (IHI 0070 4.5.1): 2^Size pages, aligned to that.  Without SSV it has
 * no PASID, and then drops entries with any PASID and with none: PCIe can name
 * those with none in no other way.
 */
static void dma_atc_inv(HmDevice *dev, const uint64_t cmd[2])
{
    HmDma *dma = dev->priv;
    unsigned size = cmd[1] & 0x3f;
    bool ssv = cmd[0] & (1u << 11), global = cmd[0] & (1u << 9);
    uint32_t ssid = (cmd[0] >> 12) & 0xfffff;
    uint64_t span = size >= 52 ? UINT64_MAX : (4096ull << size) - 1;
    uint64_t first = cmd[1] & ~0xfffull & ~span, last = first | span;
    GHashTableIter iter;
    void *key, *value;

    HM_COUNT("atc.inv");
    g_hash_table_iter_init(&iter, dma->atc);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        uint32_t pasid = GPOINTER_TO_UINT(key);
        GArray *list = value;

        if (ssv && (global ? pasid == HM_NO_PASID : pasid != ssid)) {
            continue;
        }
        for (guint i = list->len; i--; ) {
            HmAtcEntry *e = &g_array_index(list, HmAtcEntry, i);

            if (e->first <= last && e->last >= first) {
                HM_COUNT("atc.dropped");
                g_array_remove_index(list, i);
                dma->atc_entries--;
            }
        }
    }
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
    case DMA_OP_ATS_RW:
        done(dma, !pasid_good(dev) ? -EINVAL :
                  ats_request(dev, iova, access_of(dev, op == DMA_OP_ATS_RW)));
        break;
    case DMA_OP_ATS_READ:
    case DMA_OP_ATS_WRITE:
        done(dma, ats_transfer(dev, iova, len,
                               access_of(dev, op == DMA_OP_ATS_WRITE), false));
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
    case DMA_ATC_ENTRIES:
    case DMA_ATS_REPLY:
    case DMA_ATS_SIZE:
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
    REG(dma, DMA_ATC_ENTRIES) = dma->atc_entries;
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
    if (!pasid_good(dev) ||
        hm_dma(dev, pasid_of(dma), REG(dma, DMA_IOVA), &value, 8, false)) {
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
    atc_forget(dma);
}

/*
 * The control socket
 */

/* "ssid=5 value=0x10 priv exec atc" in @words.  False: one is unknown */
static bool control_options(HmDevice *dev, char **words)
{
    HmDma *dma = dev->priv;

    for (; *words; words++) {
        const char *value = strchr(*words, '=');
        uint64_t n = value ? g_ascii_strtoull(value + 1, NULL, 0) : 0;

        if (g_str_has_prefix(*words, "ssid=")) {
            REG(dma, DMA_PASID) = n;
        } else if (g_str_has_prefix(*words, "value=")) {
            REG(dma, DMA_VALUE) = n;
        } else if (!strcmp(*words, "priv")) {
            REG(dma, DMA_FLAGS) |= DMA_PRIV;
        } else if (!strcmp(*words, "exec")) {
            REG(dma, DMA_FLAGS) |= DMA_EXEC;
        } else if (!strcmp(*words, "atc")) {
            REG(dma, DMA_FLAGS) |= DMA_USE_ATC;
        } else {
            return false;
        }
    }
    return true;
}

static bool control_dma(HmDevice *dev, char **words, GString *json)
{
    static const struct {
        const char *name;
        unsigned op;
    } ops[] = {
        { "read", DMA_OP_READ }, { "write", DMA_OP_WRITE },
        { "add", DMA_OP_ADD }, { "ats", DMA_OP_ATS },
        { "ats-write", DMA_OP_ATS_RW }, { "translated-read", DMA_OP_ATS_READ },
        { "translated-write", DMA_OP_ATS_WRITE },
    };
    static const char *const replies[] = { "none", "success", "ur", "ca" };
    HmDma *dma = dev->priv, saved = *dma;
    unsigned op = 0;
    uint64_t le;

    for (unsigned i = 0; words[0] && i < G_N_ELEMENTS(ops); i++) {
        op = strcmp(words[0], ops[i].name) ? op : ops[i].op;
    }
    if (!op || !words[1]) {
        return false;
    }
    REG(dma, DMA_PASID) = DMA_NO_PASID;
    REG(dma, DMA_FLAGS) = 0;
    REG(dma, DMA_IOVA) = g_ascii_strtoull(words[1], NULL, 0);
    REG(dma, DMA_LEN) = 8;
    if (!control_options(dev, words + 2)) {
        *dma = saved;
        return false;
    }
    le = GUINT64_TO_LE(REG(dma, DMA_VALUE));
    memcpy(dma->buffer, &le, 8);
    command(dev, op);
    g_string_append_printf(json, "{\"status\": \"%s\", \"value\": \"0x%"
                           G_GINT64_MODIFIER "x\"",
                           REG(dma, DMA_STATUS) == DMA_OK ? "ok" :
                           REG(dma, DMA_STATUS) == DMA_FAULT ? "fault" : "bad",
                           REG(dma, DMA_RESULT));
    if (op == DMA_OP_ATS || op == DMA_OP_ATS_RW) {
        uint64_t reply = REG(dma, DMA_ATS_REPLY);

        g_string_append_printf(json, ", \"reply\": \"%s\", \"prot\": %u, "
                               "\"size\": %" G_GUINT64_FORMAT,
                               replies[reply >> 8 & 3], (unsigned)reply & 3,
                               REG(dma, DMA_ATS_SIZE));
    }
    g_string_append_c(json, '}');
    /* The guest's registers are as they were. */
    memcpy(dma->reg, saved.reg, sizeof(dma->reg));
    memcpy(dma->buffer, saved.buffer, sizeof(dma->buffer));
    return true;
}

#define ATC_LISTED 64

static void list_entry(GString *json, const HmAtcEntry *e, bool first)
{
    g_string_append_printf(json, "%s{\"ssid\": %" G_GINT64_FORMAT
                           ", \"iova\": \"0x%" G_GINT64_MODIFIER "x\", "
                           "\"size\": %" G_GUINT64_FORMAT ", \"prot\": %u}",
                           first ? "" : ", ", e->pasid == HM_NO_PASID ?
                           (gint64)-1 : (gint64)e->pasid, e->first,
                           e->last - e->first + 1, e->prot);
}

static bool control_atc(HmDevice *dev, const char *what, GString *json)
{
    HmDma *dma = dev->priv;
    GHashTableIter iter;
    unsigned listed = 0;
    void *value;

    if (what && !strcmp(what, "forget")) {
        atc_forget(dma);
    } else if (what && (!strcmp(what, "dead") || !strcmp(what, "alive"))) {
        dev->dead_atc = *what == 'd';
    } else if (what) {
        return false;
    }
    g_string_append_printf(json, "{\"enabled\": %s, \"dead\": %s, "
                           "\"entries\": %u, \"list\": [",
                           hm_pci_does_ats(dev) ? "true" : "false",
                           dev->dead_atc ? "true" : "false", dma->atc_entries);
    g_hash_table_iter_init(&iter, dma->atc);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        GArray *entries = value;

        for (guint i = 0; i < entries->len && listed < ATC_LISTED; i++) {
            list_entry(json, &g_array_index(entries, HmAtcEntry, i),
                       !listed++);
        }
    }
    g_string_append(json, "]}");
    return true;
}

bool hm_dma_control(HmDevice *dev, char **words, GString *json)
{
    if (dev->ops != &hm_dma_ops) {
        return false;
    }
    return !strcmp(words[0], "dma") ? control_dma(dev, words + 2, json)
                                    : control_atc(dev, words[2], json);
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

    dma->atc = g_hash_table_new_full(NULL, NULL, NULL,
                                     (GDestroyNotify)g_array_unref);
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
