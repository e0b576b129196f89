/*
 * What a program asks of the driver in sva-dma.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef NESTED_SVA_DMA_H
#define NESTED_SVA_DMA_H

#include <linux/ioctl.h>

#define SVA_DMA_BIND    _IO('p', 0x60)
#define SVA_DMA_UNBIND  _IO('p', 0x61)

#endif
