/*
 * SMMUv3: which bits of which register a guest may write, and when
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A table of all registers that can be written.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/log.h"
#include "smmuv3-regs.h"
#include "smmuv3-internal.h"

/* Fields that no other file needs */
#define CR0_ATSCHK          BIT(4)
#define CR1_QUEUES          MAKE_64BIT_MASK(0, 6)
#define CR1_TABLES          MAKE_64BIT_MASK(6, 6)
#define CR2_E2H             BIT(0)
#define CR2_PTM             BIT(2)
#define GBPA_ATTRIBUTES     0x000f3f1f
#define MSI_ADDR_LOW        MAKE_64BIT_MASK(2, 30)
#define MSI_ADDR_HIGH       MAKE_64BIT_MASK(0, 24)  /* bits 55:32 */
#define MSI_ATTRIBUTES      MAKE_64BIT_MASK(0, 6)
#define STRTAB_ADDR_LOW     MAKE_64BIT_MASK(6, 26)
#define QUEUE_ADDR_LOW      MAKE_64BIT_MASK(5, 27)
#define QUEUE_LOG2SIZE      MAKE_64BIT_MASK(0, 5)
#define BASE_ADDR_HIGH      MAKE_64BIT_MASK(0, 20)  /* bits 51:32 */
#define BASE_ALLOCATE       BIT(30)                 /* bit 62: RA, WA */
#define QUEUE_INDEX         MAKE_64BIT_MASK(0, 20)

#define SMMUEN              R_CR0_SMMU_ENABLE_MASK
#define CMDQEN              R_CR0_CMDQEN_MASK
#define EVENTQEN            R_CR0_EVENTQEN_MASK
#define GERROR_IRQEN        R_IRQ_CTRL_GERROR_IRQEN_MASK
#define EVENTQ_IRQEN        R_IRQ_CTRL_EVENTQ_IRQEN_MASK

/* Bits of a register that can be written under the same conditions */
typedef struct RegBits {
    uint16_t offset;        /* of a 32-bit register, or of half of another */
    uint32_t bits;
    uint32_t idr0;          /* they exist with this feature only, or 0 */
    uint32_t cr0;           /* they keep their value while CR0 or CR0ACK has */
    uint32_t irq_ctrl;      /* any of these bits, or IRQ_CTRL any of these */
} RegBits;

/* In the order of IHI 0070 6.3.  What is not here is RES0 or read-only. */
static const RegBits reg_bits[] = {
    { A_CR0, SMMUEN | EVENTQEN | CMDQEN },
    { A_CR0, CR0_ATSCHK, .idr0 = R_IDR0_ATS_MASK },
    { A_CR1, CR1_QUEUES, .cr0 = CMDQEN | EVENTQEN },
    { A_CR1, CR1_TABLES, .cr0 = SMMUEN },
    { A_CR2, CR2_E2H, .idr0 = R_IDR0_HYP_MASK, .cr0 = SMMUEN },
    { A_CR2, R_CR2_RECINVSID_MASK | CR2_PTM, .cr0 = SMMUEN },
    { A_GBPA, GBPA_ATTRIBUTES | R_GBPA_ABORT_MASK | R_GBPA_UPDATE_MASK },
    { A_IRQ_CTRL, GERROR_IRQEN | EVENTQ_IRQEN },
    { A_GERRORN, R_GERROR_CMDQ_ERR_MASK | R_GERROR_EVENTQ_ABT_ERR_MASK },
    { A_GERRORN, R_GERROR_MSI_CMDQ_ABT_ERR_MASK |
                 R_GERROR_MSI_EVENTQ_ABT_ERR_MASK |
                 R_GERROR_MSI_GERROR_ABT_ERR_MASK, .idr0 = R_IDR0_MSI_MASK },
    { A_GERROR_IRQ_CFG0, MSI_ADDR_LOW,
      .idr0 = R_IDR0_MSI_MASK, .irq_ctrl = GERROR_IRQEN },
    { A_GERROR_IRQ_CFG0 + 4, MSI_ADDR_HIGH,
      .idr0 = R_IDR0_MSI_MASK, .irq_ctrl = GERROR_IRQEN },
    { A_GERROR_IRQ_CFG1, UINT32_MAX,
      .idr0 = R_IDR0_MSI_MASK, .irq_ctrl = GERROR_IRQEN },
    { A_GERROR_IRQ_CFG2, MSI_ATTRIBUTES,
      .idr0 = R_IDR0_MSI_MASK, .irq_ctrl = GERROR_IRQEN },
    { A_STRTAB_BASE, STRTAB_ADDR_LOW, .cr0 = SMMUEN },
    { A_STRTAB_BASE + 4, BASE_ADDR_HIGH | BASE_ALLOCATE, .cr0 = SMMUEN },
    { A_STRTAB_BASE_CFG, R_STRTAB_BASE_CFG_FMT_MASK |
                         R_STRTAB_BASE_CFG_SPLIT_MASK |
                         R_STRTAB_BASE_CFG_LOG2SIZE_MASK, .cr0 = SMMUEN },
    { A_CMDQ_BASE, QUEUE_ADDR_LOW | QUEUE_LOG2SIZE, .cr0 = CMDQEN },
    { A_CMDQ_BASE + 4, BASE_ADDR_HIGH | BASE_ALLOCATE, .cr0 = CMDQEN },
    { A_CMDQ_PROD, QUEUE_INDEX },
    { A_CMDQ_CONS, QUEUE_INDEX | R_CMDQ_CONS_ERR_MASK, .cr0 = CMDQEN },
    { A_EVENTQ_BASE, QUEUE_ADDR_LOW | QUEUE_LOG2SIZE, .cr0 = EVENTQEN },
    { A_EVENTQ_BASE + 4, BASE_ADDR_HIGH | BASE_ALLOCATE, .cr0 = EVENTQEN },
    { A_EVENTQ_PROD, QUEUE_INDEX | R_EVENTQ_PROD_OVFLG_MASK, .cr0 = EVENTQEN },
    { A_EVENTQ_CONS, QUEUE_INDEX | R_EVENTQ_PROD_OVFLG_MASK },
    { A_EVENTQ_IRQ_CFG0, MSI_ADDR_LOW,
      .idr0 = R_IDR0_MSI_MASK, .irq_ctrl = EVENTQ_IRQEN },
    { A_EVENTQ_IRQ_CFG0 + 4, MSI_ADDR_HIGH,
      .idr0 = R_IDR0_MSI_MASK, .irq_ctrl = EVENTQ_IRQEN },
    { A_EVENTQ_IRQ_CFG1, UINT32_MAX,
      .idr0 = R_IDR0_MSI_MASK, .irq_ctrl = EVENTQ_IRQEN },
    { A_EVENTQ_IRQ_CFG2, MSI_ATTRIBUTES,
      .idr0 = R_IDR0_MSI_MASK, .irq_ctrl = EVENTQ_IRQEN },
};

static uint32_t read_reg(SMMUv3State *s, hwaddr offset)
{
    uint64_t value;

    smmu_readl(s, offset, &value, MEMTXATTRS_UNSPECIFIED);
    return value;
}

/* What a write of @value may change of a 32-bit register, or of a half */
static bool may_write_32(SMMUv3State *s, hwaddr offset, uint32_t *value)
{
    uint32_t open = 0, kept = 0;

    for (int i = 0; i < ARRAY_SIZE(reg_bits); i++) {
        const RegBits *r = &reg_bits[i];

        if (r->offset != offset || (r->idr0 && !(s->idr[0] & r->idr0))) {
            continue;
        }
        if (((s->cr[0] | s->cr0ack) & r->cr0) ||
            (s->irq_ctrl & r->irq_ctrl) ||
            (offset == A_GBPA && (s->gbpa & R_GBPA_UPDATE_MASK))) {
            kept |= r->bits;
        } else {
            open |= r->bits;
        }
    }
    if (kept) {
        qemu_log_mask(LOG_GUEST_ERROR, "SMMUv3: bits 0x%x of register 0x%"
                      HWADDR_PRIx " cannot change while they are in use\n",
                      kept, offset);
    }
    *value &= open;
    *value |= kept ? read_reg(s, offset) & kept : 0;
    return open;
}

bool smmuv3_may_write(SMMUv3State *s, hwaddr offset, unsigned size,
                      uint64_t *value)
{
    uint32_t half[2] = { extract64(*value, 0, 32), extract64(*value, 32, 32) };
    bool change = may_write_32(s, offset, &half[0]);

    if (size == 8) {
        change |= may_write_32(s, offset + 4, &half[1]);
    }
    *value = deposit64(half[0], 32, 32, size == 8 ? half[1] : 0);
    return change;
}

MemTxResult smmuv3_read_pair(SMMUv3State *s, hwaddr offset, uint64_t *value)
{
    *value = deposit64(read_reg(s, offset), 32, 32, read_reg(s, offset + 4));
    return MEMTX_OK;
}
