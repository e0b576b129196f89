/*
 * The list of extended capabilities in a device's configuration space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Pure functions over the bytes that the host shows.  A device may hold
 * anything there, so nothing here relies on the list having an end.
 */
#ifndef HW_VFIO_PCI_EXT_CAPS_H
#define HW_VFIO_PCI_EXT_CAPS_H

/* Every capability has at least 8 bytes */
#define VFIO_EXT_CAP_MIN_SIZE   8
/* A header without an ID has at least 4 */
#define VFIO_EXT_CAPS_MAX       ((4096 - 256) / 4)

typedef struct VFIOExtCap {
    uint16_t offset;            /* a multiple of 4, 0x100 to 0xff8 */
    uint16_t id;                /* 0: the kernel hides a capability here */
    uint16_t size;              /* in bytes; never into the next capability */
    bool sized;                 /* its ID and contents say that size */
} VFIOExtCap;

typedef struct VFIOExtCaps {
    unsigned n;
    bool broken;                /* the list goes on in a place that it cannot */
    VFIOExtCap cap[VFIO_EXT_CAPS_MAX];
} VFIOExtCaps;

/**
 * vfio_ext_caps_walk: list the extended capabilities
 * @caps: filled, in the order of the device's list
 * @config: PCIE_CONFIG_SPACE_SIZE bytes of configuration space
 *
 * The walk ends where the list leads into a capability that it has been to, or
 * out of the extended configuration space.
 */
void vfio_ext_caps_walk(VFIOExtCaps *caps, const uint8_t *config);

/**
 * vfio_ext_caps_find: the capability at an offset
 * Returns: the capability that starts at @offset, or NULL
 */
const VFIOExtCap *vfio_ext_caps_find(const VFIOExtCaps *caps, unsigned offset);

/**
 * vfio_ext_caps_overlap: the capability that is in the way
 * @offset: in bytes
 * @size: in bytes
 *
 * A capability whose size is not known counts as VFIO_EXT_CAP_MIN_SIZE bytes.
 *
 * Returns: a capability that has a byte of the range, or NULL
 */
const VFIOExtCap *vfio_ext_caps_overlap(const VFIOExtCaps *caps,
                                        unsigned offset, unsigned size);

/**
 * vfio_ext_caps_find_room: the best place for another capability
 * @caps: the capabilities of the device
 * @config: PCIE_CONFIG_SPACE_SIZE bytes of configuration space
 * @size: in bytes, a multiple of 4
 *
 * The highest place that no capability has, not even one whose size is not
 * known.  A place that reads as 0 is better: elsewhere may be registers of the
 * device, or a capability that the kernel hides.
 *
 * Returns: the offset, or 0 if there is no room
 */
unsigned vfio_ext_caps_find_room(const VFIOExtCaps *caps, const uint8_t *config,
                                 unsigned size);

#endif /* HW_VFIO_PCI_EXT_CAPS_H */
