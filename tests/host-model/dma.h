/*
 * Host model: the registers of its DMA engine
 *
 * A PCI function that moves any byte on demand.  All registers are 64 bits
 * wide, little-endian, in BAR0, and take accesses of 4 and 8 bytes; a write to
 * a register that starts something does so with its upper half, or as a whole.
 *
 * Free of includes, so that tests of any kind can have it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HOST_MODEL_DMA_H
#define HOST_MODEL_DMA_H

#define DMA_VENDOR_ID       0x1b36
#define DMA_DEVICE_ID       0x0dea

#define DMA_BAR_SIZE        0x4000
#define DMA_MSIX_VECTORS    8           /* table and PBA in BAR2 */

/* What the next transfers are made with */
#define DMA_IOVA            0x00
#define DMA_LEN             0x08        /* bytes, up to DMA_BUFFER_SIZE */
#define DMA_PASID           0x10        /* DMA_NO_PASID: none; so at reset */
#define DMA_NO_PASID        0xffffffffull
/* Write-starts: a DMA_OP_, which sets DMA_STATUS */
#define DMA_COMMAND         0x18
#define DMA_OP_READ         1           /* memory to buffer */
#define DMA_OP_WRITE        2           /* buffer to memory */
#define DMA_OP_ADD          3           /* 8 bytes + DMA_VALUE, old to buffer */
#define DMA_OP_ATS          4           /* translate DMA_IOVA, to ATC */
#define DMA_OP_ATS_READ     5           /* read by what the ATC holds */
#define DMA_OP_ATS_WRITE    6
#define DMA_OP_MSIX         7           /* raise vector DMA_VALUE */

/* A whole transfer of 8 bytes in one write of its IOVA */
#define DMA_READ64          0x20        /* to DMA_RESULT */
#define DMA_VALUE           0x28
#define DMA_WRITE64         0x30        /* from DMA_VALUE */

/* Of the last transfer: DMA_OK or DMA_FAULT; then the first 8 buffer bytes */
#define DMA_STATUS          0x38
#define DMA_OK              1
#define DMA_FAULT           2
#define DMA_BAD             3           /* no such operation, or length */
#define DMA_RESULT          0x40

/*
 * Probing: with DMA_PROBE set to 1, each moment at which hardware can see the
 * device's STE half changed reads 8 bytes at DMA_IOVA, and counts what came.
 * A write to DMA_PROBE clears the counts.
 */
#define DMA_PROBE           0x80
#define DMA_PROBE_A         0x88        /* one value that is right */
#define DMA_PROBE_B         0x90        /* and another */
#define DMA_PROBES_A        0x98        /* counts: value A came, */
#define DMA_PROBES_B        0xa0        /* value B, */
#define DMA_PROBES_OTHER    0xa8        /* another value, */
#define DMA_PROBES_FAULT    0xb0        /* or a fault */

#define DMA_BUFFER          0x1000
#define DMA_BUFFER_SIZE     0x1000

#endif /* HOST_MODEL_DMA_H */
