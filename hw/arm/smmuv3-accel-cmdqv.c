/*
 * Accelerated SMMUv3: command queues that the guest owns (CMDQV)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The device is a Tegra241 CMDQV beside the SMMU, whose registers are those of
 * smmuv3-accel-tegra241.c.  Unless the hardware does it (-cmdqv-hw.c), QEMU
 * carries the commands out: a write to a register starts the drains of the
 * VCMDQs that run.  A drain has the same bound as that of the SMMU's own queue,
 * its commands enter the same batch, and it waits for the same thread if the
 * host is slow.
 *
 * The guest polls CONS and GERROR.  It reads page 0 of the VCMDQs from memory,
 * where QEMU publishes each change before anything signals it.  A guest that
 * issues many commands may write there too (-cmdqv-poll.c).
 *
 * A VCMDQ takes invalidations and CMD_SYNCs without a signal.  Anything else is
 * an error of that queue alone: it halts, bits in the error maps say so, and
 * the interrupt is raised.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "hw/irq.h"
#include "hw/sysbus.h"
#include "exec/ramblock.h"
#include "trace.h"
#include "smmuv3-accel-cmdqv.h"

/*
 * Registers in memory
 */

/*
 * A guest that sees CONS move must see what has moved it, and CONS.ERR is
 * visible before GERROR is (IHI 0070 7.1)
 */
static void publish_vcmdq(uint32_t *mem, const uint32_t *page0, bool writes)
{
    for (unsigned reg = 0; reg < TEGRA241_PAGE0_END / 4; reg++) {
        uint32_t value = cpu_to_le32(page0[reg]);

        if (mem[reg] != value &&
            !(writes && smmuv3_accel_cmdqv_poll_is_written(reg * 4))) {
            /* After what has moved it */
            smp_wmb();
            qatomic_set(&mem[reg], value);
        }
    }
}

/* If the guest @writes to the page, some registers there are its own */
static void publish_page(const SMMUv3AccelCmdqv *cmdqv, uint8_t *mem,
                         hwaddr offset, bool writes)
{
    for (unsigned n = 0; n < TEGRA241_VCMDQS; n++) {
        int i = offset == TEGRA241_GLOBAL ? n :
                tegra241_physical(&cmdqv->regs, n);
        uint32_t page0[TEGRA241_PAGE0_END / 4] = { 0 };

        if (i >= 0) {
            tegra241_give(&cmdqv->regs, i, page0);
        }
        publish_vcmdq((uint32_t *)(mem + n * TEGRA241_STRIDE), page0, writes);
    }
}

void smmuv3_accel_cmdqv_publish_polled(SMMUv3AccelCmdqv *cmdqv, uint8_t *mem,
                                       bool writes)
{
    publish_page(cmdqv, mem, TEGRA241_LOGICAL, writes);
}

void smmuv3_accel_cmdqv_publish(SMMUv3AccelCmdqv *cmdqv)
{
    uint8_t *polled = smmuv3_accel_cmdqv_poll_mem(cmdqv);

    if (polled) {
        smmuv3_accel_cmdqv_publish_polled(cmdqv, polled, true);
        return;
    }
    for (unsigned n = 0; n < ARRAY_SIZE(cmdqv->page0); n++) {
        const CmdqvPage *page = &cmdqv->page0[n];

        if (page->mem) {
            publish_page(cmdqv, page->mem, page->offset, false);
        }
    }
}

void smmuv3_accel_cmdqv_map_page0(SMMUv3AccelCmdqv *cmdqv, MemoryRegion *direct,
                                  bool on, bool published)
{
    memory_region_transaction_begin();
    memory_region_set_enabled(direct, on);
    for (unsigned n = 0; n < ARRAY_SIZE(cmdqv->page0); n++) {
        if (cmdqv->page0[n].mem) {
            memory_region_rom_device_set_romd(&cmdqv->page0[n].rom, published);
        }
    }
    memory_region_transaction_commit();
}

/*
 * Drains
 */

/*
 * QEMU caches translations of bridges.  They are few, so any TLBI discards all
 * of them.  What is cached after that is as new as the other commands that
 * were read ahead.
 */
static void forget_own_translations(SMMUv3State *s)
{
    SMMUState *bs = ARM_SMMU(s);

    if (s->accel_state->drain.no_cache) {
        return;
    }
    QEMU_LOCK_GUARD(&s->mutex);
    smmu_inv_notifiers_all(bs);
    smmu_iotlb_inv_all(bs);
    s->accel_state->drain.no_cache = true;
}

static SMMUCmdError carry_out(SMMUv3State *s, const uint64_t words[2])
{
    SMMUCmdError error;
    bool local;

    if (!smmuv3_accel_cmd_is_for_vcmdq(words)) {
        return SMMU_CERROR_ILL;
    }
    error = smmuv3_accel_cmdq_forward(s, words, &local);
    if (error || smmuv3_accel_busy(s)) {
        return error;
    }
    if (!local) {
        forget_own_translations(s);
        return SMMU_CERROR_NONE;
    }
    /* A CMD_SYNC */
    error = smmuv3_accel_flush(s);
    return error || smmuv3_accel_busy(s) ? error :
           smmuv3_accel_cmdq_sync(s);
}

static SMMUCmdError drain(SMMUv3State *s, SMMUv3AccelQueue *queue)
{
    SMMUCmdError error = queue->error;

    queue->error = SMMU_CERROR_NONE;
    while (!error && !smmuv3_q_empty(queue->q)) {
        const uint64_t *words;

        if (!smmuv3_accel_drain_fetch(s, &words, &error)) {
            return error;
        }
        trace_smmuv3_cmdq_opcode(smmu_cmd_string(extract64(words[0], 0, 8)));
        error = carry_out(s, words);
        if (error || smmuv3_accel_busy(s)) {
            return error;
        }
        smmuv3_accel_drain_note(s, extract64(words[0], 0, 8));
        smmuv3_accel_drain_take_pages(s);
    }
    return error;
}

static void drain_vcmdq(SMMUv3State *s, unsigned i)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;
    SMMUv3AccelQueue *queue = &cmdqv->queue[i];
    SMMUCmdError error;

    if (!tegra241_runs(&cmdqv->regs, i) || tegra241_halted(&cmdqv->regs, i) ||
        (smmuv3_q_empty(queue->q) && !queue->error)) {
        return;
    }
    if (!smmuv3_accel_drain_start(s, queue)) {
        /* The end of a job continues; the end of another drain does not */
        if (s->accel_state->drain.running) {
            qemu_bh_schedule(s->accel_state->drain.bh);
        }
        return;
    }
    cmdqv->next = (i + 1) % TEGRA241_VCMDQS;
    error = smmuv3_accel_drain_stop(s, drain(s, queue));
    if (error) {
        trace_smmuv3_accel_vcmdq_error(s->accel_state->name, i, queue->q->cons,
                                       error);
        if (tegra241_set_error(&cmdqv->regs, i, error)) {
            smmuv3_accel_cmdqv_publish(cmdqv);
            qemu_irq_pulse(cmdqv->irq);
        }
    }
}

void smmuv3_accel_cmdqv_failed(SMMUv3State *s)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;

    for (unsigned i = 0; cmdqv && !cmdqv->hw && i < TEGRA241_VCMDQS; i++) {
        SMMUv3AccelQueue *queue = &cmdqv->queue[i];

        /* One that nobody uses would keep all from the hardware for ever */
        if (tegra241_runs(&cmdqv->regs, i) && queue->used) {
            smmuv3_accel_cmdq_note(queue, SMMUV3_ACCEL_FLUSH_FAILED);
        }
    }
}

/* A job of the thread has moved CONS too, so publish what there is */
void smmuv3_accel_cmdqv_drain(SMMUv3State *s)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;
    unsigned first;

    if (!cmdqv) {
        return;
    }
    if (!smmuv3_accel_cmdqv_poll_busy(cmdqv)) {
        smmuv3_accel_cmdqv_hw_enter(s);
    }
    if (cmdqv->hw) {
        return;
    }
    first = cmdqv->next;
    for (unsigned i = 0; i < TEGRA241_VCMDQS; i++) {
        drain_vcmdq(s, (first + i) % TEGRA241_VCMDQS);
    }
    smmuv3_accel_cmdqv_publish(cmdqv);
}

/*
 * Registers
 */

/* Is @offset that of @reg of a VCMDQ, in the page 0 that is at @page? */
static bool is_vcmdq(hwaddr offset, hwaddr page, hwaddr reg)
{
    return offset / TEGRA241_PAGE == page / TEGRA241_PAGE &&
           offset % TEGRA241_STRIDE == reg;
}

static SMMUv3AccelExit exit_of(hwaddr offset)
{
    if (is_vcmdq(offset, TEGRA241_GLOBAL, SMMUV3_VCMDQ_PROD) ||
        is_vcmdq(offset, TEGRA241_LOGICAL, SMMUV3_VCMDQ_PROD)) {
        return SMMUV3_EXIT_VCMDQ_PROD;
    }
    if (is_vcmdq(offset, TEGRA241_GLOBAL, SMMUV3_VCMDQ_CONS) ||
        is_vcmdq(offset, TEGRA241_LOGICAL, SMMUV3_VCMDQ_CONS)) {
        return SMMUV3_EXIT_VCMDQ_CONS;
    }
    return SMMUV3_EXIT_CMDQV_OTHER;
}

void smmuv3_accel_cmdqv_look(SMMUv3State *s)
{
    smmuv3_accel_cmdqv_hw_look(s);
    smmuv3_accel_cmdqv_poll_look(s);
}

static uint64_t cmdqv_read(void *opaque, hwaddr offset, unsigned size)
{
    SMMUv3State *s = opaque;
    uint32_t value;

    s->accel_state->stats.read[exit_of(offset)]++;
    smmuv3_accel_cmdqv_look(s);
    value = tegra241_read(&s->accel_state->cmdqv->regs, offset);
    trace_smmuv3_accel_cmdqv_read(s->accel_state->name, offset, value);
    return value;
}

void smmuv3_accel_cmdqv_set(SMMUv3State *s, hwaddr offset, uint32_t value)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;
    bool ran[TEGRA241_VCMDQS];

    for (unsigned i = 0; i < TEGRA241_VCMDQS; i++) {
        ran[i] = tegra241_runs(&cmdqv->regs, i);
    }
    if (!tegra241_write(&cmdqv->regs, offset, value)) {
        qemu_log_mask(LOG_GUEST_ERROR, "%s: CMDQV: write to 0x%" HWADDR_PRIx
                      " is ignored\n", s->accel_state->name, offset);
    }
    for (unsigned i = 0; i < TEGRA241_VCMDQS; i++) {
        if (ran[i] != tegra241_runs(&cmdqv->regs, i)) {
            smmuv3_accel_queue_reset(s, &cmdqv->queue[i]);
            cmdqv->refused = false;
        }
    }
}

static void cmdqv_write(void *opaque, hwaddr offset, uint64_t value,
                        unsigned size)
{
    SMMUv3State *s = opaque;

    trace_smmuv3_accel_cmdqv_write(s->accel_state->name, offset, value);
    s->accel_state->stats.write[exit_of(offset)]++;
    if (smmuv3_accel_cmdqv_poll_forward(s, offset, value)) {
        return;
    }
    /* The guest writes PROD itself, so this may change anything else */
    smmuv3_accel_cmdqv_hw_leave(s);
    smmuv3_accel_cmdqv_poll_leave(s);
    smmuv3_accel_cmdqv_set(s, offset, value);
    smmuv3_accel_cmdqv_publish(s->accel_state->cmdqv);
    smmuv3_accel_cmdqv_drain(s);
    if (is_vcmdq(offset, TEGRA241_LOGICAL, SMMUV3_VCMDQ_PROD)) {
        smmuv3_accel_cmdqv_poll_doorbell(s);
    }
}

/* An access of 8 bytes is one to either half */
static const MemoryRegionOps cmdqv_ops = {
    .read = cmdqv_read,
    .write = cmdqv_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid.min_access_size = 4,
    .valid.max_access_size = 8,
    .impl.min_access_size = 4,
    .impl.max_access_size = 4,
};

/* While the guest reads a page from memory, only its writes come here */
static uint64_t page_read(void *opaque, hwaddr offset, unsigned size)
{
    const CmdqvPage *page = opaque;

    return cmdqv_read(page->s, page->offset + offset, size);
}

/* memory.c does not guard a ROM device against a device that accesses itself */
static MemTxResult page_write(void *opaque, hwaddr offset, uint64_t value,
                              unsigned size, MemTxAttrs attrs)
{
    const CmdqvPage *page = opaque;
    MemReentrancyGuard *guard = &DEVICE(page->s)->mem_reentrancy_guard;

    if (guard->engaged_in_io) {
        qemu_log_mask(LOG_GUEST_ERROR, "%s: CMDQV: the SMMU itself writes to "
                      "0x%" PRIx64 "\n", page->s->accel_state->name,
                      page->offset + offset);
        return MEMTX_ACCESS_ERROR;
    }
    guard->engaged_in_io = true;
    cmdqv_write(page->s, page->offset + offset, value, size);
    guard->engaged_in_io = false;
    return MEMTX_OK;
}

static const MemoryRegionOps page_ops = {
    .read = page_read,
    .write_with_attrs = page_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid.min_access_size = 4,
    .valid.max_access_size = 8,
    .impl.min_access_size = 4,
    .impl.max_access_size = 4,
};

/*
 * Life
 */

/* Without memory for it each read exits, as from other pages */
static void add_page(SMMUv3State *s, CmdqvPage *page, hwaddr offset)
{
    Error *err = NULL;

    page->s = s;
    page->offset = offset;
    /* The region need not migrate, because accel=on blocks migration */
    if (!memory_region_init_rom_device_nomigrate(&page->rom, OBJECT(s),
                                                 &page_ops, page,
                                                 TYPE_ARM_SMMUV3 "-vcmdq",
                                                 TEGRA241_PAGE, &err)) {
        warn_reportf_err(err, "%s: each read of a register exits to QEMU: ",
                         s->accel_state->name);
        return;
    }
    page->mem = memory_region_get_ram_ptr(&page->rom);
    memory_region_add_subregion(&s->accel_state->cmdqv->iomem, offset,
                                &page->rom);
}

void smmuv3_accel_cmdqv_add_direct(SMMUv3State *s, MemoryRegion *mr,
                                   const char *name, void *mem)
{
    memory_region_init_ram_device_ptr(mr, OBJECT(s), name, TEGRA241_PAGE, mem);
    mr->ram_block->flags |= RAM_PROTECTED;
    memory_region_set_enabled(mr, false);
    memory_region_add_subregion_overlap(&s->accel_state->cmdqv->iomem,
                                        TEGRA241_LOGICAL, mr, 1);
}

void smmuv3_accel_cmdqv_stopped(SMMUv3State *s)
{
    if (s->accel_state->cmdqv) {
        smmuv3_accel_cmdqv_poll_leave(s);
    }
}

void smmuv3_accel_cmdqv_reset(SMMUv3State *s)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;

    if (!cmdqv) {
        return;
    }
    smmuv3_accel_cmdqv_hw_leave(s);
    s->accel_state->slow.everything = false;    /* no queue is left to hear */
    smmuv3_accel_cmdqv_poll_reset(s);
    tegra241_reset(&cmdqv->regs);
    for (unsigned i = 0; i < TEGRA241_VCMDQS; i++) {
        smmuv3_accel_queue_reset(s, &cmdqv->queue[i]);
    }
    smmuv3_accel_cmdqv_publish(cmdqv);
}

void smmuv3_accel_do_init_cmdqv(SMMUv3State *s)
{
    SysBusDevice *dev = SYS_BUS_DEVICE(s);
    SMMUv3AccelCmdqv *cmdqv;

    if (!smmuv3_has_cmdqv(s)) {
        return;
    }
    cmdqv = s->accel_state->cmdqv = g_new0(SMMUv3AccelCmdqv, 1);
    for (unsigned i = 0; i < TEGRA241_VCMDQS; i++) {
        cmdqv->queue[i].q = &cmdqv->regs.vcmdq[i].q;
    }
    memory_region_init_io(&cmdqv->iomem, OBJECT(s), &cmdqv_ops, s,
                          TYPE_ARM_SMMUV3 "-cmdqv", TEGRA241_SIZE);
    if (smmuv3_accel_can_read_memory(s)) {
        add_page(s, &cmdqv->page0[0], TEGRA241_GLOBAL);
        add_page(s, &cmdqv->page0[1], TEGRA241_LOGICAL);
    }
    smmuv3_accel_cmdqv_hw_init(s);
    smmuv3_accel_cmdqv_poll_init(s);
    sysbus_init_mmio(dev, &cmdqv->iomem);
    sysbus_init_irq(dev, &cmdqv->irq);
    /* Devices that were created before their SMMU */
    smmuv3_accel_cmdqv_host_new(s);
}
