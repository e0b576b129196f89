/*
 * The part of an NVMe driver that makes a controller move bytes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CONFORMANCE_NVME_H
#define CONFORMANCE_NVME_H

#include "conformance.h"

typedef struct Nvme {
    int dev;                            /* a VFIO device, bound */
    uint8_t *sq, *cq;                   /* a page each */
    unsigned at;                        /* the next entry of both */
} Nvme;

/* Whether the device is an NVMe controller */
bool nvme_is(int dev);

/* Turn it off, and on again with its queues at these addresses. */
bool nvme_start(Nvme *nvme, uint64_t sq, uint64_t cq);

/*
 * Make it write 4 bytes to @to, in one transaction.  Returns false if it does
 * not answer within 300 ms.
 */
bool nvme_write_to(Nvme *nvme, uint64_t to);

#endif /* CONFORMANCE_NVME_H */
