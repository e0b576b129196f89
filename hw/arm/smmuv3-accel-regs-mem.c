/*
 * Accelerated SMMUv3: accesses to registers without an exit
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The guest reads registers from memory.  QEMU publishes a change there before
 * anything signals it.  If the guest writes 0 to a register that is 0, KVM ends
 * the write in an ioeventfd.  What a write does is in smmuv3-accel.c (CR0) and
 * smmuv3-accel-edges.c (GBPA).
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/log.h"
#include "qemu/range.h"
#include "qapi/error.h"
#include "system/kvm.h"
#include "trace.h"
#include "smmuv3-accel-internal.h"

/* In the uapi's linux/kvm.h since Linux 6.17; the base has an older copy */
#ifndef KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED
#define KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED 243
#endif

/* Page 1 is an alias of page 0 */
#define REG_PAGE 0x10000

/*
 * Reading
 */

/*
 * The guest maps registers as Device memory and bypasses the caches, unless
 * stage 2 overrides that (FEAT_S2FWB, Arm ARM D8.6.6).  KVM reports this by a
 * capability that is meant for VFIO's memory.  TCG has no caches.
 */
bool smmuv3_accel_can_read_memory(SMMUv3State *s)
{
    return s->accel_props.direct_registers &&
           (!kvm_enabled() ||
            kvm_vm_check_extension(kvm_state,
                                   KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED) > 0);
}

static void store(uint8_t *mem, hwaddr offset, uint32_t value)
{
    uint32_t *reg = (uint32_t *)(mem + offset);

    qatomic_set(reg, cpu_to_le32(value));
    qatomic_set(reg + REG_PAGE / 4, cpu_to_le32(value));
}

void smmuv3_accel_publish(SMMUv3State *s, hwaddr offset, uint32_t value)
{
    uint8_t *mem = s->accel_state->reg_mem;

    if (mem) {
        trace_smmuv3_accel_publish(s->accel_state->name, offset, value);
        /* A guest that sees a register change must see what has changed it */
        smp_wmb();
        store(mem, offset, value);
    }
}

static void publish_range(SMMUv3State *s, hwaddr first, hwaddr last)
{
    for (hwaddr offset = first; offset <= last; offset += 4) {
        uint64_t value;

        smmu_readl(s, offset, &value, MEMTXATTRS_UNSPECIFIED);
        store(s->accel_state->reg_mem, offset, value);
    }
}

static void publish_all(SMMUv3State *s)
{
    if (!s->accel_state->reg_mem) {
        return;
    }
    /* As in smmuv3_accel_publish() */
    smp_wmb();
    publish_range(s, A_IDR0, A_CR2);
    publish_range(s, A_STATUSR, A_GBPA);
    publish_range(s, A_IRQ_CTRL, A_IRQ_CTRL_ACK);
    publish_range(s, A_GERROR, A_GERROR_IRQ_CFG2);
    publish_range(s, A_STRTAB_BASE, A_STRTAB_BASE_CFG);
    publish_range(s, A_CMDQ_BASE, A_EVENTQ_IRQ_CFG2);
    publish_range(s, A_IDREGS, A_IDREGS + 0x2c);
}

/*
 * IHI 0070 7.1: CMDQ_CONS.ERR is visible before GERROR is.  EVENTQ_PROD is
 * published with each record.
 */
void smmuv3_accel_do_publish_causes(SMMUv3State *s)
{
    smmuv3_accel_publish(s, A_CMDQ_CONS, s->cmdq.cons);
    smmuv3_accel_publish(s, A_GERROR, s->gerror);
}

/*
 * Writes of 0 to a register that holds 0
 */

/*
 * Registers that Linux sets to 0 when it starts, the size of the write, and the
 * bit of CR0 that lets the register change without a write
 */
static const struct {
    hwaddr offset;
    unsigned size;
    uint32_t enable;
} zero_writes[] = {
    { A_CR0, 4 },
    { A_IRQ_CTRL, 4 },
    { A_GERROR_IRQ_CFG0, 8 },
    { A_CMDQ_PROD, 4, R_CR0_CMDQEN_MASK },
    { A_CMDQ_CONS, 4, R_CR0_CMDQEN_MASK },
    { REG_PAGE | A_EVENTQ_PROD, 4, R_CR0_EVENTQEN_MASK },
    { REG_PAGE | A_EVENTQ_CONS, 4, R_CR0_EVENTQEN_MASK },
    { A_EVENTQ_IRQ_CFG0, 8 },
};

/* Have KVM absorb writes of 0; bit n of @wanted stands for zero_writes[n] */
static void absorb_zeros(SMMUv3State *s, uint32_t wanted)
{
    SMMUv3Accel *accel = s->accel_state;
    MemoryRegion *mr = &s->smmu_state.iomem;
    uint32_t changed = wanted ^ accel->zero_writes;

    if (!changed || !accel->zero_written.initialized) {
        return;
    }
    memory_region_transaction_begin();
    for (int i = 0; i < ARRAY_SIZE(zero_writes); i++) {
        if (changed & wanted & BIT(i)) {
            memory_region_add_eventfd(mr, zero_writes[i].offset,
                                      zero_writes[i].size, true, 0,
                                      &accel->zero_written);
        } else if (changed & BIT(i)) {
            memory_region_del_eventfd(mr, zero_writes[i].offset,
                                      zero_writes[i].size, true, 0,
                                      &accel->zero_written);
        }
    }
    memory_region_transaction_commit();
    accel->zero_writes = wanted;
}

/*
 * After a write that may change a register, writes of 0 to that register exit
 * again.  They must do so before the write takes effect, because another vCPU
 * that sees the effect may clear the register.  They exit until the next reset,
 * so that a guest cannot make KVM add and remove ioeventfds at will.
 */
static void expose_zeros(SMMUv3State *s, hwaddr offset, unsigned size,
                         uint64_t value)
{
    uint32_t wanted = s->accel_state->zero_writes;

    for (int i = 0; i < ARRAY_SIZE(zero_writes); i++) {
        if (ranges_overlap(zero_writes[i].offset & ~REG_PAGE,
                           zero_writes[i].size, offset, size) ||
            (offset == A_CR0 && (value & zero_writes[i].enable))) {
            wanted &= ~BIT(i);
        }
    }
    absorb_zeros(s, wanted);
}

/*
 * The region
 */

static SMMUv3AccelExit exit_of(hwaddr offset)
{
    switch (offset) {
    case A_CMDQ_PROD:
        return SMMUV3_EXIT_CMDQ_PROD;
    case A_CMDQ_CONS:
        return SMMUV3_EXIT_CMDQ_CONS;
    case A_EVENTQ_PROD:
        return SMMUV3_EXIT_EVENTQ_PROD;
    case A_EVENTQ_CONS:
        return SMMUV3_EXIT_EVENTQ_CONS;
    default:
        return SMMUV3_EXIT_OTHER;
    }
}

void smmuv3_accel_do_read(SMMUv3State *s, hwaddr offset)
{
    s->accel_state->stats.read[exit_of(offset)]++;
}

/* memory.c does not guard a ROM device against a device that accesses itself */
bool smmuv3_accel_do_write_begin(SMMUv3State *s, hwaddr offset, unsigned size,
                                 uint64_t value)
{
    MemReentrancyGuard *guard = &DEVICE(s)->mem_reentrancy_guard;

    s->accel_state->stats.write[exit_of(offset)]++;

    if (s->accel_state->reg_mem) {
        if (guard->engaged_in_io) {
            qemu_log_mask(LOG_GUEST_ERROR, "%s: the SMMU itself writes to 0x%"
                          PRIx64 "\n", s->accel_state->name, offset);
            return false;
        }
        guard->engaged_in_io = true;
    }
    expose_zeros(s, offset, size, value);
    return true;
}

void smmuv3_accel_do_write_end(SMMUv3State *s, hwaddr offset)
{
    if (offset != A_CMDQ_PROD) {
        publish_all(s);
    } else if (!smmuv3_cmdq_enabled(s)) {
        /* A drain publishes it first of all */
        smmuv3_accel_publish(s, A_CMDQ_PROD, s->cmdq.prod);
    }
    if (s->accel_state->reg_mem) {
        DEVICE(s)->mem_reentrancy_guard.engaged_in_io = false;
    }
}

void smmuv3_accel_regs_realize(SMMUv3State *s, const MemoryRegionOps *ops)
{
    SMMUState *sys = ARM_SMMU(s);
    MemoryRegion *mr = &sys->iomem;
    Error *err = NULL;

    /* The region need not migrate, because accel=on blocks migration */
    if (smmuv3_accel_can_read_memory(s) &&
        memory_region_init_rom_device_nomigrate(mr, OBJECT(s), ops, sys,
                                                TYPE_ARM_SMMUV3, 2 * REG_PAGE,
                                                &err)) {
        s->accel_state->reg_mem = memory_region_get_ram_ptr(mr);
    } else {
        if (err) {
            warn_reportf_err(err, "%s: each read of a register exits to QEMU: ",
                             s->accel_state->name);
        }
        memory_region_init_io(mr, OBJECT(s), ops, sys, TYPE_ARM_SMMUV3,
                              2 * REG_PAGE);
    }
    /* If this fails, writes that change nothing exit like all others */
    if (s->accel_props.direct_registers) {
        event_notifier_init(&s->accel_state->zero_written, 0);
    }
}

void smmuv3_accel_regs_reset(SMMUv3State *s)
{
    publish_all(s);
    absorb_zeros(s, MAKE_64BIT_MASK(0, ARRAY_SIZE(zero_writes)));
}
