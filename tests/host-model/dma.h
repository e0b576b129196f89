/*
 * Host model: the registers of its DMA engine
 *
 * A PCI function that moves any byte on demand.  All registers are 64 bits
 * wide, little-endian and in BAR0, and accept accesses of 4 and 8 bytes.  A
 * register that starts something does so when its upper half, or all of it, is
 * written.
 *
 * It includes nothing, so that any kind of test can include it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HOST_MODEL_DMA_H
#define HOST_MODEL_DMA_H

#define DMA_VENDOR_ID       0x1b36
#define DMA_DEVICE_ID       0x0dea

#define DMA_BAR_SIZE        0x4000
#define DMA_MSIX_VECTORS    8           /* table and PBA in BAR2 */

/* Parameters of the next transfers */
#define DMA_IOVA            0x00
#define DMA_LEN             0x08        /* bytes, up to DMA_BUFFER_SIZE */
#define DMA_PASID           0x10        /* DMA_NO_PASID (reset): none */
#define DMA_NO_PASID        0xffffffffull
/* A write starts a DMA_OP_, which sets DMA_STATUS. */
#define DMA_COMMAND         0x18
#define DMA_OP_READ         1           /* memory to buffer */
#define DMA_OP_WRITE        2           /* buffer to memory */
#define DMA_OP_ADD          3           /* 8 bytes + DMA_VALUE, old to buffer */
#define DMA_OP_ATS          4           /* request DMA_IOVA to read, into ATC */
#define DMA_OP_ATS_READ     5           /* by what the ATC holds, or fault */
#define DMA_OP_ATS_WRITE    6
#define DMA_OP_MSIX         7           /* raise vector DMA_VALUE */
#define DMA_OP_ATS_RW       8           /* request DMA_IOVA to write as well */

/* A write of the IOVA is a whole transfer of 8 bytes. */
#define DMA_READ64          0x20        /* to DMA_RESULT */
#define DMA_VALUE           0x28
#define DMA_WRITE64         0x30        /* from DMA_VALUE */

/* The last transfer: DMA_OK or DMA_FAULT, and the first 8 buffer bytes */
#define DMA_STATUS          0x38
#define DMA_OK              1
#define DMA_FAULT           2
#define DMA_BAD             3           /* no such operation, length, PASID */
#define DMA_RESULT          0x40

/* Attributes of the next transfers.  Reset: 0 */
#define DMA_FLAGS           0x48
#define DMA_PRIV            1           /* only with a PASID, and if the */
#define DMA_EXEC            2           /* host has enabled that; reads only */
#define DMA_USE_ATC         4           /* request, cache, send translated */

#define DMA_ATC_ENTRIES     0x50        /* read-only: in the ATC */
/* The last ATS request: the answer, and what it allows (1 read, 2 write) */
#define DMA_ATS_REPLY       0x58
#define DMA_ATS_SUCCESS     0x100
#define DMA_ATS_UR          0x200       /* Unsupported Request */
#define DMA_ATS_CA          0x300       /* Completer Abort */
#define DMA_ATS_SIZE        0x60        /* bytes that it covers */

/*
 * While DMA_PROBE is 1, the engine reads 8 bytes at DMA_IOVA at each moment at
 * which hardware could see a half-changed STE, and counts the results.  A write
 * to DMA_PROBE clears the counts.
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
