/*
 * A test endpoint that does DMA with PASIDs and asks for translations (ATS):
 * its registers. The driver in the nested bed's kernel and the program that
 * uses it include this file too, so it has nothing but constants.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_MISC_PASID_DMA_H
#define HW_MISC_PASID_DMA_H

#define PASID_DMA_VENDOR_ID     0x1234
#define PASID_DMA_DEVICE_ID     0x11ea

/* BAR 0: 32-bit little-endian registers; those of addresses have 64 bits */
#define PASID_DMA_BAR_SIZE      0x1000

#define PASID_DMA_ID            0x00
#define PASID_DMA_ID_VALUE      0x44495350

/* What configuration space has enabled */
#define PASID_DMA_STATE         0x04
#define PASID_DMA_STATE_PASID   0x1
#define PASID_DMA_STATE_ATS     0x2
#define PASID_DMA_STATE_MASTER  0x4

/* How the next copy accesses memory */
#define PASID_DMA_FLAGS         0x08
#define PASID_DMA_USE_PASID     0x1
#define PASID_DMA_USE_ATS       0x2     /* through the ATC */
#define PASID_DMA_TRANSLATED    0x4     /* the addresses are translated ones */
#define PASID_DMA_PASID         0x0c
#define PASID_DMA_SRC           0x10
#define PASID_DMA_DST           0x18
#define PASID_DMA_LEN           0x20    /* in bytes */
#define PASID_DMA_MAX_LEN       0x10000

/* A write of ONCE has copied when it returns; LOOP copies until STOP */
#define PASID_DMA_GO            0x24
#define PASID_DMA_STOP          0
#define PASID_DMA_ONCE          1
#define PASID_DMA_LOOP          2

/* How the last copy ended, and the address that it ended at */
#define PASID_DMA_RESULT        0x28
#define PASID_DMA_OK            0
#define PASID_DMA_SRC_REFUSED   1
#define PASID_DMA_DST_REFUSED   2
#define PASID_DMA_OFF           3       /* not enabled in configuration space */
#define PASID_DMA_BUS_ERROR     4
#define PASID_DMA_FAULT         0x30

/* Counters, from reset on */
#define PASID_DMA_OKS           0x38
#define PASID_DMA_FAILURES      0x3c
#define PASID_DMA_ATC_ENTRIES   0x40
#define PASID_DMA_ATC_HITS      0x44
#define PASID_DMA_ATC_REQUESTS  0x48    /* translation requests */
#define PASID_DMA_ATC_INVALS    0x4c    /* invalidation requests */

/* So many invalidation requests from now on get no answer, and do nothing */
#define PASID_DMA_MUTE          0x50

#endif
