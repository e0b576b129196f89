/*
 * The list of extended capabilities in a device's configuration space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "pci-ext-caps.h"

#define EXT_BASE    PCI_CFG_SPACE_SIZE
#define EXT_END     PCI_CFG_SPACE_EXP_SIZE

/* Sizes of capabilities that have one size only, in bytes */
static const uint8_t fixed_size[] = {
    [PCI_EXT_CAP_ID_ERR] = 0x48,        /* with a TLP prefix log */
    [PCI_EXT_CAP_ID_DSN] = PCI_EXT_CAP_DSN_SIZEOF,
    [PCI_EXT_CAP_ID_PWR] = PCI_EXT_CAP_PWR_SIZEOF,
    [PCI_EXT_CAP_ID_ARI] = PCI_EXT_CAP_ARI_SIZEOF,
    [PCI_EXT_CAP_ID_ATS] = PCI_EXT_CAP_ATS_SIZEOF,
    [PCI_EXT_CAP_ID_SRIOV] = PCI_EXT_CAP_SRIOV_SIZEOF,
    [PCI_EXT_CAP_ID_MCAST] = PCI_EXT_CAP_MCAST_ENDPOINT_SIZEOF,
    [PCI_EXT_CAP_ID_PRI] = PCI_EXT_CAP_PRI_SIZEOF,
    [PCI_EXT_CAP_ID_LTR] = PCI_EXT_CAP_LTR_SIZEOF,
    [PCI_EXT_CAP_ID_PASID] = PCI_EXT_CAP_PASID_SIZEOF,
};

static uint32_t acs_size(uint32_t cap)
{
    unsigned bits = (cap >> 8) & 0xff;

    if (!(cap & PCI_ACS_EC)) {
        return 8;
    }
    return 8 + DIV_ROUND_UP(bits ? bits : 256, 32) * 4;
}

static uint32_t tph_size(uint32_t cap)
{
    if ((cap & PCI_TPH_CAP_LOC_MASK) != PCI_TPH_LOC_CAP) {
        return PCI_TPH_BASE_SIZEOF;
    }
    return ROUND_UP(PCI_TPH_BASE_SIZEOF +
                    2 * (((cap & PCI_TPH_CAP_ST_MASK) >> PCI_TPH_CAP_ST_SHIFT) +
                         1), 4);
}

/*
 * The size of a capability, from its ID and contents; 0 if it is not known.
 * @c: the capability, of which 12 bytes or more can be read
 */
static uint32_t size_of(unsigned id, const uint8_t *c)
{
    uint32_t word1 = ldl_le_p(c + 4), word2 = ldl_le_p(c + 8);

    switch (id) {
    case PCI_EXT_CAP_ID_VNDR:
    case PCI_EXT_CAP_ID_DVSEC:
        return word1 >> 20;
    case PCI_EXT_CAP_ID_VC:
    case PCI_EXT_CAP_ID_VC9:
        /* Behind the registers may be tables for arbitration */
        return word2 >> 24 ? 0 : PCI_CAP_VC_BASE_SIZEOF +
               ((word1 & PCI_VC_CAP1_EVCC) + 1) * PCI_CAP_VC_PER_VC_SIZEOF;
    case PCI_EXT_CAP_ID_ACS:
        return acs_size(word1);
    case PCI_EXT_CAP_ID_REBAR:
        return 4 + 8 * ((word2 & PCI_REBAR_CTRL_NBAR_MASK) >>
                        PCI_REBAR_CTRL_NBAR_SHIFT);
    case PCI_EXT_CAP_ID_TPH:
        return tph_size(word1);
    default:
        return id < ARRAY_SIZE(fixed_size) ? fixed_size[id] : 0;
    }
}

static void set_size(VFIOExtCaps *caps, VFIOExtCap *cap, const uint8_t *config)
{
    unsigned end = EXT_END, size = 0;

    for (unsigned i = 0; i < caps->n; i++) {
        if (caps->cap[i].offset > cap->offset) {
            end = MIN(end, caps->cap[i].offset);
        }
    }
    if (cap->offset <= EXT_END - 12) {
        size = size_of(cap->id, config + cap->offset);
    }
    cap->sized = size >= VFIO_EXT_CAP_MIN_SIZE;
    cap->size = MIN(cap->sized ? size : EXT_END, end - cap->offset);
    /* At the end there is room for the least size only */
    cap->sized |= cap->size <= VFIO_EXT_CAP_MIN_SIZE;
}

void vfio_ext_caps_walk(VFIOExtCaps *caps, const uint8_t *config)
{
    DECLARE_BITMAP(owned, EXT_END / 4) = { };
    unsigned at, words;
    uint32_t header = ldl_le_p(config + EXT_BASE);

    caps->n = 0;
    caps->broken = header == UINT32_MAX;
    if (!header || caps->broken) {
        return;
    }
    for (at = EXT_BASE; at; at = PCI_EXT_CAP_NEXT(header)) {
        if (at < EXT_BASE || at > EXT_END - VFIO_EXT_CAP_MIN_SIZE) {
            caps->broken = true;
            break;
        }
        header = ldl_le_p(config + at);
        words = PCI_EXT_CAP_ID(header) ? VFIO_EXT_CAP_MIN_SIZE / 4 : 1;
        if (find_next_bit(owned, at / 4 + words, at / 4) < at / 4 + words) {
            caps->broken = true;
            break;
        }
        bitmap_set(owned, at / 4, words);
        caps->cap[caps->n++] = (VFIOExtCap) {
            .offset = at, .id = PCI_EXT_CAP_ID(header),
        };
    }
    for (unsigned i = 0; i < caps->n; i++) {
        set_size(caps, &caps->cap[i], config);
    }
}

const VFIOExtCap *vfio_ext_caps_find(const VFIOExtCaps *caps, unsigned offset)
{
    for (unsigned i = 0; i < caps->n; i++) {
        if (caps->cap[i].offset == offset) {
            return &caps->cap[i];
        }
    }
    return NULL;
}

static const VFIOExtCap *overlap(const VFIOExtCaps *caps, unsigned offset,
                                 unsigned size, bool strict)
{
    for (unsigned i = 0; i < caps->n; i++) {
        const VFIOExtCap *cap = &caps->cap[i];
        unsigned cap_size = strict || cap->sized ? cap->size
                            : MIN(cap->size, VFIO_EXT_CAP_MIN_SIZE);

        if (offset < cap->offset + cap_size && cap->offset < offset + size) {
            return cap;
        }
    }
    return NULL;
}

const VFIOExtCap *vfio_ext_caps_overlap(const VFIOExtCaps *caps,
                                        unsigned offset, unsigned size)
{
    return overlap(caps, offset, size, false);
}

static bool reads_zero(const uint8_t *config, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        if (config[i]) {
            return false;
        }
    }
    return true;
}

unsigned vfio_ext_caps_find_room(const VFIOExtCaps *caps, const uint8_t *config,
                                 unsigned size)
{
    enum { ZERO, ANY, NOT_STRICT, N_PASSES };

    for (int pass = ZERO; pass < N_PASSES; pass++) {
        for (unsigned at = EXT_END - size; at >= EXT_BASE; at -= 4) {
            if (!overlap(caps, at, size, pass != NOT_STRICT) &&
                (pass != ZERO || reads_zero(config + at, size))) {
                return at;
            }
        }
    }
    return 0;
}
