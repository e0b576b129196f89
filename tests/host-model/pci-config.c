/*
 * Host model: the extended configuration space of a function
 *
 * What the function has there, what Linux writes there by itself (pci/ats.c),
 * and what VFIO shows of it (vfio/pci/vfio_pci_config.c).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <linux/pci_regs.h>
#include "linux.h"

#define EXT_BASE        PCI_CFG_SPACE_SIZE
#define EXT_END         PCI_CFG_SPACE_EXP_SIZE
#define HEADER          4               /* bytes: ID, version, next */
#define LAST_ID         0x31            /* Linux 7.3's PCI_EXT_CAP_ID_MAX */
#define NO_OWNER        0xff            /* Linux's PCI_CAP_ID_INVALID */
#define ATS_STU_BASE    12              /* STU 0 is 4 KiB */

struct HmPci {
    /* The function */
    unsigned ats, pasid;                /* offsets; 0: absent */
    uint8_t writable[EXT_END];

    /* Linux: what it restores after a reset */
    bool pasid_enabled, ats_enabled;
    unsigned stu;

    /* VFIO's view: the capability of each byte, and headers as shown */
    uint8_t owner[EXT_END];
    uint8_t shown[EXT_END];
};

static uint16_t get16(const uint8_t *p)
{
    return p[0] | p[1] << 8;
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static void put16(uint8_t *p, uint16_t value)
{
    p[0] = value;
    p[1] = value >> 8;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, value);
    put16(p + 2, value >> 16);
}

/*
 * The function: capabilities where the configuration wants them
 */

typedef struct Kind {
    const char *name;
    uint16_t id;
    uint16_t size;                      /* unless the configuration says */
} Kind;

static const Kind kinds[] = {
    { "null", 0x00, 4 },
    { "aer", PCI_EXT_CAP_ID_ERR, 0x2c },
    { "vc", PCI_EXT_CAP_ID_VC, 0x1c },
    { "dsn", PCI_EXT_CAP_ID_DSN, 0x0c },
    { "pwr", PCI_EXT_CAP_ID_PWR, 0x10 },
    { "vndr", PCI_EXT_CAP_ID_VNDR, 0x10 },
    { "acs", PCI_EXT_CAP_ID_ACS, 0x08 },
    { "ari", PCI_EXT_CAP_ID_ARI, 0x08 },
    { "ats", PCI_EXT_CAP_ID_ATS, 0x08 },
    { "sriov", PCI_EXT_CAP_ID_SRIOV, 0x40 },
    { "pri", PCI_EXT_CAP_ID_PRI, 0x10 },
    { "rebar", PCI_EXT_CAP_ID_REBAR, 0x0c },
    { "tph", PCI_EXT_CAP_ID_TPH, 0x0c },
    { "ltr", PCI_EXT_CAP_ID_LTR, 0x08 },
    { "secpci", PCI_EXT_CAP_ID_SECPCI, 0x10 },
    { "pasid", PCI_EXT_CAP_ID_PASID, 0x08 },
    { "l1ss", PCI_EXT_CAP_ID_L1SS, 0x10 },
    { "ptm", PCI_EXT_CAP_ID_PTM, 0x0c },
    { "dvsec", PCI_EXT_CAP_ID_DVSEC, 0x10 },
    { "dlf", 0x25, 0x0c },
    { "doe", 0x2e, 0x18 },
};

/* NAME@OFFSET[:SIZE], where NAME may be a number, and all numbers are hex */
static bool parse_cap(const char *text, Kind *kind, unsigned *at)
{
    g_auto(GStrv) words = g_strsplit_set(text, "@:", 3);
    bool known = false;
    char *end;

    if (g_strv_length(words) < 2) {
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (!strcmp(kinds[i].name, g_strstrip(words[0]))) {
            *kind = kinds[i];
            known = true;
        }
    }
    if (!known) {
        *kind = (Kind) { words[0], g_ascii_strtoull(words[0], &end, 16), 8 };
        if (*end || end == words[0]) {
            return false;
        }
    }
    *at = g_ascii_strtoull(words[1], NULL, 16);
    if (words[2]) {
        kind->size = g_ascii_strtoull(words[2], NULL, 16);
    }
    return *at >= EXT_BASE && !(*at & 3) && kind->size >= HEADER &&
           *at + kind->size <= EXT_END;
}

static void fill_cap(HmDevice *dev, const Kind *kind, unsigned at)
{
    uint8_t *c = dev->config + at, *w = dev->pci->writable + at;

    put32(c, kind->id | 1u << 16);
    switch (kind->id) {
    case PCI_EXT_CAP_ID_ERR:
        put32(w + PCI_ERR_UNCOR_MASK, UINT32_MAX);
        put32(w + PCI_ERR_UNCOR_SEVER, UINT32_MAX);
        put32(w + PCI_ERR_COR_MASK, UINT32_MAX);
        break;
    case PCI_EXT_CAP_ID_PWR:
        w[PCI_PWR_DSR] = 0xff;
        break;
    case PCI_EXT_CAP_ID_VNDR:
    case PCI_EXT_CAP_ID_DVSEC:
        put32(c + HEADER, (uint32_t)kind->size << 20 | 1);
        memset(w + 2 * HEADER, 0xff, kind->size - MIN(kind->size, 8));
        break;
    case PCI_EXT_CAP_ID_REBAR:
        put32(c + PCI_REBAR_CTRL, 1 << PCI_REBAR_CTRL_NBAR_SHIFT);
        break;
    case PCI_EXT_CAP_ID_ATS:
        dev->pci->ats = at;
        put16(c + PCI_ATS_CAP, PCI_ATS_CAP_PAGE_ALIGNED);
        put16(w + PCI_ATS_CTRL, PCI_ATS_CTRL_ENABLE | PCI_ATS_CTRL_STU(0x1f));
        break;
    case PCI_EXT_CAP_ID_PASID:
        dev->pci->pasid = at;
        put16(c + PCI_PASID_CAP,
              (dev->pasid_exec ? PCI_PASID_CAP_EXEC : 0) |
              (dev->pasid_priv ? PCI_PASID_CAP_PRIV : 0) |
              dev->pasid_bits << 8);
        put16(w + PCI_PASID_CTRL, PCI_PASID_CTRL_ENABLE |
              PCI_PASID_CTRL_EXEC | PCI_PASID_CTRL_PRIV);
        break;
    }
}

/* The first gap for a capability of 8 bytes, aligned to 16 if possible */
static unsigned find_gap(const bool *used)
{
    for (unsigned step = 16; step >= 4; step /= 4) {
        for (unsigned at = EXT_BASE; at + 8 <= EXT_END; at += step) {
            if (!used[at] && !used[at + 4]) {
                return at;
            }
        }
    }
    return 0;
}

typedef struct Chain {
    HmDevice *dev;
    bool used[EXT_END];
    unsigned last;                      /* offset; 0: none yet */
} Chain;

static bool add_cap(Chain *chain, const Kind *kind, unsigned at)
{
    for (unsigned i = at; i < at + kind->size; i++) {
        if (chain->used[i]) {
            return false;
        }
        chain->used[i] = true;
    }
    /* The first one is where the chain begins. */
    if (!chain->last && at != EXT_BASE) {
        return false;
    }
    fill_cap(chain->dev, kind, at);
    if (chain->last) {
        put16(chain->dev->config + chain->last + 2, 1 | at << 4);
    }
    chain->last = at;
    return true;
}

static bool add_default(Chain *chain, uint16_t id)
{
    const Kind kind = { "", id, 8 };
    unsigned at = find_gap(chain->used);

    return at && add_cap(chain, &kind, at);
}

/* Bytes of no capability; a device without any still has the first header. */
static void keep_scratch(const Chain *chain)
{
    for (unsigned at = EXT_BASE + HEADER; at < EXT_END; at++) {
        if (!chain->used[at]) {
            chain->dev->pci->writable[at] = 0xff;
        }
    }
}

bool hm_pci_init(HmDevice *dev, const char *ext_caps, unsigned ext_end,
                 char **error)
{
    g_auto(GStrv) caps = g_strsplit(ext_caps ? ext_caps : "", ";", -1);
    g_autofree Chain *chain = g_new0(Chain, 1);

    dev->pci = g_new0(HmPci, 1);
    chain->dev = dev;
    for (char **cap = caps; *cap; cap++) {
        unsigned at = 0;
        Kind kind;

        if (!*g_strstrip(*cap)) {
            continue;
        }
        if (!parse_cap(*cap, &kind, &at) || !add_cap(chain, &kind, at)) {
            *error = g_strdup_printf("ext_caps: %s does not fit", *cap);
            return false;
        }
    }
    dev->ats |= dev->pci->ats;
    if (dev->pci->pasid && !dev->pasid_bits) {
        *error = g_strdup("ext_caps: a PASID capability needs pasid=BITS");
        return false;
    }
    if ((dev->ats && !dev->pci->ats &&
         !add_default(chain, PCI_EXT_CAP_ID_ATS)) ||
        (dev->pasid_bits && !dev->pci->pasid &&
         !add_default(chain, PCI_EXT_CAP_ID_PASID))) {
        *error = g_strdup("ext_caps: no room for ats or pasid");
        return false;
    }
    if (chain->last) {
        put16(dev->config + chain->last + 2, 1 | (ext_end & 0xffc) << 4);
    }
    if (dev->scratch) {
        keep_scratch(chain);
    }
    return true;
}

/* A write that reaches the function */
static void hardware_write(HmDevice *dev, unsigned at, uint8_t value)
{
    uint8_t mask = dev->pci->writable[at];

    dev->config[at] = (dev->config[at] & ~mask) | (value & mask);
}

static void hardware_write16(HmDevice *dev, unsigned at, uint16_t value)
{
    hardware_write(dev, at, value);
    hardware_write(dev, at + 1, value >> 8);
}

bool hm_pci_does_ats(const HmDevice *dev)
{
    const HmPci *pci = dev->pci;

    return pci->ats && (get16(dev->config + pci->ats + PCI_ATS_CTRL) &
                        PCI_ATS_CTRL_ENABLE);
}

unsigned hm_pci_pasid_control(const HmDevice *dev)
{
    const HmPci *pci = dev->pci;

    return pci->pasid ? get16(dev->config + pci->pasid + PCI_PASID_CTRL) : 0;
}

/*
 * Linux, for the function's sake
 */

static void write_ats(HmDevice *dev)
{
    const HmPci *pci = dev->pci;

    hardware_write16(dev, pci->ats + PCI_ATS_CTRL, PCI_ATS_CTRL_STU(pci->stu) |
                     (pci->ats_enabled ? PCI_ATS_CTRL_ENABLE : 0));
}

static void write_pasid(HmDevice *dev)
{
    unsigned at = dev->pci->pasid;

    hardware_write16(dev, at + PCI_PASID_CTRL, PCI_PASID_CTRL_ENABLE |
                     (get16(dev->config + at + PCI_PASID_CAP) &
                      (PCI_PASID_CAP_EXEC | PCI_PASID_CAP_PRIV)));
}

void hm_pci_enable_pasid(HmDevice *dev)
{
    dev->pci->pasid_enabled = dev->pci->pasid;
    if (dev->pci->pasid_enabled) {
        write_pasid(dev);
    }
}

void hm_pci_prepare_ats(HmDevice *dev, unsigned page_shift)
{
    dev->pci->stu = page_shift - ATS_STU_BASE;
    write_ats(dev);
}

void hm_pci_set_ats(HmDevice *dev, bool enable)
{
    dev->pci->ats_enabled = enable;
    hm_log("%s: ATS %s", dev->name, enable ? "on" : "off");
    write_ats(dev);
}

void hm_pci_reset(HmDevice *dev)
{
    HmPci *pci = dev->pci;

    if (pci->ats) {
        put16(dev->config + pci->ats + PCI_ATS_CTRL, 0);
    }
    if (pci->pasid) {
        put16(dev->config + pci->pasid + PCI_PASID_CTRL, 0);
    }
    /* pci_restore_state() */
    if (pci->pasid_enabled) {
        write_pasid(dev);
    }
    if (pci->ats_enabled) {
        write_ats(dev);
    }
}

/*
 * VFIO
 */

/* vfio_vc_cap_len() */
static unsigned vc_length(const uint8_t *c)
{
    uint32_t cap2 = get32(c + 8);
    unsigned phases = cap2 & 8 ? 128 : cap2 & 4 ? 64 : cap2 & 2 ? 32 : 0;
    unsigned length = 0x10 + 12 * (1 + (get32(c + 4) & 7));

    return phases ? (length + 15) / 16 * 16 + phases / 2 : length;
}

/* pci_ext_cap_length[] and vfio_ext_cap_len(): 0 hides a capability. */
static unsigned shown_length(const HmDevice *dev, unsigned id, unsigned at)
{
    const uint8_t *c = dev->config + at;

    switch (id) {
    case PCI_EXT_CAP_ID_ERR:
        return 0x2c;
    case PCI_EXT_CAP_ID_VC:
    case PCI_EXT_CAP_ID_VC9:
    case PCI_EXT_CAP_ID_MFVC:
        return vc_length(c);
    case PCI_EXT_CAP_ID_DSN:
        return 0x0c;
    case PCI_EXT_CAP_ID_PWR:
    case PCI_EXT_CAP_ID_PRI:
        return 0x10;
    case PCI_EXT_CAP_ID_VNDR:
    case PCI_EXT_CAP_ID_DVSEC:
        return get32(c + HEADER) >> 20;
    case PCI_EXT_CAP_ID_ACS:                /* without egress control */
    case PCI_EXT_CAP_ID_ARI:
    case PCI_EXT_CAP_ID_ATS:
    case PCI_EXT_CAP_ID_LTR:
        return 8;
    case PCI_EXT_CAP_ID_SRIOV:
        return 0x40;
    case PCI_EXT_CAP_ID_MCAST:
        return 0x28;
    case PCI_EXT_CAP_ID_REBAR:
        return 4 + 8 * (c[PCI_REBAR_CTRL] >> PCI_REBAR_CTRL_NBAR_SHIFT);
    case PCI_EXT_CAP_ID_DPA:
        return 16 + (c[4] & 0x1f) + 1;
    case PCI_EXT_CAP_ID_TPH:                /* without a table here */
        return 0x0c;
    default:
        return 0;
    }
}

static void set_next(uint8_t *header, unsigned next)
{
    put32(header, (get32(header) & ~(0xffcu << 20)) | next << 20);
}

/*
 * vfio_ecap_init().  A hidden capability is taken out of the chain, and nobody
 * owns its bytes.  At the chain's beginning its header stays without ID and
 * version.
 */
void hm_pci_open(HmDevice *dev)
{
    HmPci *pci = dev->pci;
    unsigned at = EXT_BASE, prev = 0, loops = (EXT_END - EXT_BASE) / HEADER;
    bool any = false;

    memset(pci->owner, NO_OWNER, sizeof(pci->owner));
    memset(pci->shown, 0, sizeof(pci->shown));
    if (!get32(dev->config + EXT_BASE)) {
        return;
    }
    while (loops-- && at >= EXT_BASE) {
        uint32_t header = get32(dev->config + at);
        unsigned id = header & 0xffff, next = header >> 20 & 0xffc;
        unsigned length = shown_length(dev, id, at);
        bool hidden = !length;

        if (hidden && prev) {
            set_next(pci->shown + prev, next);
            at = next;
            continue;
        }
        length = hidden ? HEADER : MIN(length, EXT_END - at);
        memset(pci->owner + at, id, length);
        put32(pci->shown + at, hidden ? header & 0xffcu << 20 : header);
        any |= !hidden;
        prev = at;
        at = next;
    }
    if (!any) {
        put32(pci->shown + EXT_BASE, 0);
    }
}

/* Its offset in the capability that owns it: vfio_find_cap_start() */
static unsigned offset_in_cap(const HmPci *pci, unsigned at)
{
    unsigned start = at;

    while (start > EXT_BASE && pci->owner[start - 1] == pci->owner[at]) {
        start--;
    }
    return at - start;
}

uint8_t hm_pci_read(HmDevice *dev, unsigned at)
{
    const HmPci *pci = dev->pci;

    return pci->owner[at] != NO_OWNER && offset_in_cap(pci, at) < HEADER ?
           pci->shown[at] : dev->config[at];
}

/* The bits of a byte of AER that init_pci_ext_cap_err_perm() lets through */
static uint8_t aer_mask(unsigned offset)
{
    static const struct {
        unsigned at;
        uint32_t bits;
    } fields[] = {
        { PCI_ERR_UNCOR_STATUS, 0x03fff031 },
        { PCI_ERR_UNCOR_MASK, 0x03fff031 },
        { PCI_ERR_UNCOR_SEVER, 0x03fff031 },
        { PCI_ERR_COR_STATUS, 0xf1c1 }, { PCI_ERR_COR_MASK, 0xf1c1 },
        { PCI_ERR_CAP, PCI_ERR_CAP_ECRC_GENE | PCI_ERR_CAP_ECRC_CHKE },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (fields[i].at == (offset & ~3u)) {
            return fields[i].bits >> 8 * (offset & 3);
        }
    }
    return 0;
}

void hm_pci_write(HmDevice *dev, unsigned at, uint8_t value)
{
    HmPci *pci = dev->pci;
    unsigned offset = offset_in_cap(pci, at);
    uint8_t mask = 0;

    switch (pci->owner[at]) {
    case NO_OWNER:
        HM_COUNT("vfio.config.raw");
        hm_log("%s: a write to 0x%x of its configuration space, which no "
               "capability has", dev->name, at);
        /* fall through */
    case PCI_EXT_CAP_ID_VNDR:
    case PCI_EXT_CAP_ID_DVSEC:
        mask = 0xff;
        break;
    case PCI_EXT_CAP_ID_ERR:
        mask = aer_mask(offset);
        break;
    case PCI_EXT_CAP_ID_PWR:
        mask = offset == PCI_PWR_DATA ? 0xff : 0;
        break;
    }
    if (mask) {
        hardware_write(dev, at, (dev->config[at] & ~mask) | (value & mask));
    } else {
        HM_COUNT("vfio.config.ignored");
    }
}
