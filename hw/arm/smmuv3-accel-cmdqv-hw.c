/*
 * Accelerated SMMUv3: the guest's own command queues, in hardware
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU has the VCMDQs at first, and carries their commands out.  Once the guest
 * has enabled all that it has allocated, and the vIOMMU has a VINTF, QEMU gives
 * them to the hardware: the host learns where the commands are, PROD and CONS
 * go on from where they are, and the guest gets page 0 of the VINTF in place of
 * QEMU's.  From then on it invalidates without an exit.
 *
 * A write to any other page takes the VCMDQs back, and so do a reset and the
 * removal of the last device.  The guest notices none of that.  If the host
 * refuses a VCMDQ, QEMU keeps all of them.  It may do so because the memory is
 * not contiguous there.
 *
 * The host tells of errors by a vEVENTQ.  Which VCMDQ halts is in its GERROR.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/hostmem.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "hw/boards.h"
#include "hw/irq.h"
#include "trace.h"
#include "smmuv3-accel-cmdqv.h"

static SMMUv3AccelVintf *vintf_of(SMMUv3State *s)
{
    return &s->accel_state->vsmmu.vintf;
}

/*
 * How many VCMDQs there are to give; 0 if the guest is not done with setting
 * them up.  The host wants them to be logical VCMDQs 0, 1, and so on.
 */
static unsigned n_ready(SMMUv3AccelCmdqv *cmdqv)
{
    const Tegra241 *t = &cmdqv->regs;
    unsigned n = 0;

    if (!tegra241_enabled(t)) {
        return 0;
    }
    for (unsigned l = 0; l < TEGRA241_VCMDQS; l++) {
        int i = tegra241_physical(t, l);

        if (i < 0) {
            continue;
        }
        if (n++ != l || !tegra241_runs(t, i) || tegra241_halted(t, i) ||
            cmdqv->queue[i].error || cmdqv->queue[i].sync_error) {
            return 0;
        }
    }
    return n;
}

/*
 * The host keeps the memory of a VCMDQ, and VFIO could not unmap it.  So it
 * must be memory that the machine never unmaps: no ROM, no BAR, and no DIMM.
 */
static bool is_machine_ram(hwaddr base, uint64_t length)
{
    MemoryRegion *ram = MACHINE(qdev_get_machine())->ram;
    MemoryRegionSection section = memory_region_find(get_system_memory(), base,
                                                     length);
    bool ok = section.mr && int128_get64(section.size) >= length &&
              !section.readonly &&
              (section.mr == ram || section.mr->container == ram);

    if (section.mr) {
        memory_region_unref(section.mr);
    }
    return ok;
}

static bool add_queues(SMMUv3State *s, unsigned n, Error **errp)
{
    Tegra241 *t = &s->accel_state->cmdqv->regs;

    for (unsigned l = 0; l < n; l++) {
        SMMUQueue *q = &t->vcmdq[tegra241_physical(t, l)].q;
        uint64_t length = sizeof(Cmd) << q->log2size;

        if (!is_machine_ram(Q_BASE(q), length)) {
            error_setg(errp, "logical VCMDQ %u is not in the machine's main "
                       "memory", l);
            return false;
        }
        if (!smmuv3_accel_vintf_add_queue(&s->accel_state->vsmmu, Q_BASE(q),
                                          length, errp)) {
            return false;
        }
    }
    return true;
}

/* The hardware goes on at CONS.  It must not start before it knows that. */
static bool start_queue(SMMUv3State *s, unsigned l, Error **errp)
{
    const Tegra241 *t = &s->accel_state->cmdqv->regs;
    const SMMUQueue *q = &t->vcmdq[tegra241_physical(t, l)].q;
    uint32_t cons = q->cons & WRAP_INDEX_MASK(q);

    smmuv3_accel_vintf_write(vintf_of(s), l, SMMUV3_VCMDQ_CONS, cons);
    smmuv3_accel_vintf_write(vintf_of(s), l, SMMUV3_VCMDQ_PROD, cons);
    if (!smmuv3_accel_vintf_enable(vintf_of(s), l, true)) {
        s->accel_state->cmdqv->broken = true;
        error_setg(errp, "logical VCMDQ %u does not start", l);
        return false;
    }
    if (smmuv3_accel_vintf_read(vintf_of(s), l, SMMUV3_VCMDQ_CONS) != cons) {
        s->accel_state->cmdqv->broken = true;
        error_setg(errp, "logical VCMDQ %u does not start at CONS", l);
        return false;
    }
    smmuv3_accel_vintf_write(vintf_of(s), l, SMMUV3_VCMDQ_PROD, q->prod);
    return true;
}

static bool give(SMMUv3State *s, unsigned n, Error **errp)
{
    if (!add_queues(s, n, errp)) {
        return false;
    }
    for (unsigned l = 0; l < n; l++) {
        if (!start_queue(s, l, errp)) {
            return false;
        }
    }
    return true;
}

/*
 * While the guest invalidates without QEMU, QEMU must not cache translations,
 * which it makes for the MSIs of bridges
 */
static void set_uncached(SMMUv3State *s, bool uncached)
{
    QEMU_LOCK_GUARD(&s->mutex);
    ARM_SMMU(s)->uncached = uncached;
    smmu_iotlb_inv_all(ARM_SMMU(s));
}

static void map_page0(SMMUv3AccelCmdqv *cmdqv, bool hw, bool published)
{
    smmuv3_accel_cmdqv_map_page0(cmdqv, &cmdqv->vintf, hw, published);
}

void smmuv3_accel_cmdqv_hw_enter(SMMUv3State *s)
{
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelCmdqv *cmdqv = accel->cmdqv;
    Error *err = NULL;
    unsigned n;

    if (cmdqv->hw || cmdqv->refused || cmdqv->broken || !vintf_of(s)->active ||
        smmuv3_accel_busy(s) || accel->drain.running) {
        return;
    }
    n = n_ready(cmdqv);
    if (!n) {
        return;
    }
    set_uncached(s, true);
    if (!give(s, n, &err)) {
        smmuv3_accel_vintf_remove_queues(&accel->vsmmu);
        set_uncached(s, false);
        cmdqv->refused = true;
        if (!cmdqv->warned) {
            cmdqv->warned = true;
            warn_reportf_err(err, "%s: QEMU carries out the commands of "
                             "VCMDQs, because the host's CMDQV cannot (a "
                             "machine with huge pages has contiguous memory "
                             "for them): ", accel->name);
        } else {
            error_free(err);
        }
        return;
    }
    cmdqv->hw = true;
    map_page0(cmdqv, true, false);
    trace_smmuv3_accel_cmdqv_hw(accel->name, n);
}

/* Read what the guest and the hardware have written */
static void take(SMMUv3State *s, unsigned l)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;
    int i = tegra241_physical(&cmdqv->regs, l);
    uint32_t page0[TEGRA241_PAGE0_END / 4];

    for (unsigned reg = 0; reg < ARRAY_SIZE(page0); reg++) {
        page0[reg] = smmuv3_accel_vintf_read(vintf_of(s), l, reg * 4);
    }
    tegra241_take(&cmdqv->regs, i, page0);
    /* Unless the guest has put in just as many as make PROD 0 again */
    cmdqv->queue[i].used |= cmdqv->queue[i].q->prod != 0;
}

void smmuv3_accel_cmdqv_hw_look(SMMUv3State *s)
{
    if (s->accel_state->cmdqv->hw) {
        for (unsigned l = 0; l < vintf_of(s)->n_queues; l++) {
            take(s, l);
        }
    }
}

/* CONFIG is the guest's, so read it before the hardware is stopped */
static void stop_queue(SMMUv3State *s, unsigned l)
{
    Tegra241 *t = &s->accel_state->cmdqv->regs;
    uint32_t config = smmuv3_accel_vintf_read(vintf_of(s), l,
                                              SMMUV3_VCMDQ_CONFIG);

    if (!smmuv3_accel_vintf_enable(vintf_of(s), l, false)) {
        s->accel_state->cmdqv->broken = true;
        warn_report("%s: QEMU carries out the commands of VCMDQs from now on, "
                    "because logical VCMDQ %u does not stop in the host",
                    s->accel_state->name, l);
    }
    take(s, l);
    t->vcmdq[tegra241_physical(t, l)].config = config & 1;
    /* The guest's to acknowledge, but Linux would log it */
    smmuv3_accel_vintf_write(vintf_of(s), l, SMMUV3_VCMDQ_GERRORN,
                             smmuv3_accel_vintf_read(vintf_of(s), l,
                                                     SMMUV3_VCMDQ_GERROR));
}

/*
 * The hardware may have read invalidations whose CMD_SYNC QEMU will read, which
 * waits for none of them (IHI 0070 4.7.3).  If the host cannot make up for them
 * now, the queues wait until it has.
 */
static void complete_commands(SMMUv3State *s)
{
    SMMUv3AccelVsmmu *vsmmu = &s->accel_state->vsmmu;
    int64_t start = get_clock();
    bool stale = vsmmu->stale;
    bool done = !vsmmu->slow && smmuv3_accel_vsmmu_try_resync(vsmmu);

    smmuv3_accel_slow_note_since(s, start);
    if (!done) {
        smmuv3_accel_slow_everything(s);
    } else if (stale) {
        smmuv3_accel_retry_pending(s);
    }
}

/* Returns false if QEMU had the VCMDQs already */
static bool take_back(SMMUv3State *s)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;

    if (!cmdqv->hw) {
        return false;
    }
    /*
     * Under KVM the guest waits for the BQL now, whatever it reads or writes.
     * Under TCG a vCPU that has just found the page may still write there, and
     * that is lost: no host with a CMDQV runs TCG, but for tests.
     */
    map_page0(cmdqv, false, false);
    for (unsigned l = 0; l < vintf_of(s)->n_queues; l++) {
        stop_queue(s, l);
    }
    cmdqv->hw = false;
    smmuv3_accel_vintf_remove_queues(&s->accel_state->vsmmu);
    set_uncached(s, false);
    smmuv3_accel_cmdqv_publish(cmdqv);
    map_page0(cmdqv, false, true);
    trace_smmuv3_accel_cmdqv_hw(s->accel_state->name, 0);
    return true;
}

void smmuv3_accel_cmdqv_hw_leave(SMMUv3State *s)
{
    if (take_back(s)) {
        complete_commands(s);
    }
}

/*
 * Errors
 */

static void signal_errors(SMMUv3State *s)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;

    smmuv3_accel_cmdqv_hw_look(s);
    if (tegra241_interrupts(&cmdqv->regs)) {
        qemu_irq_pulse(cmdqv->irq);
    }
}

static void errors_readable(void *opaque)
{
    SMMUv3State *s = opaque;
    SMMUv3Accel *accel = s->accel_state;
    SMMUv3AccelVintf *vintf = vintf_of(s);
    int n = vintf->ops->errors_read(accel->vsmmu.host, vintf->errors_fd);

    trace_smmuv3_accel_cmdqv_errors(accel->name, n);
    if (n == -EAGAIN || n == -EINTR) {
        return;
    }
    if (n < 0) {
        qemu_set_fd_handler(vintf->errors_fd, NULL, NULL, NULL);
        warn_report("%s: QEMU carries out the commands of VCMDQs from now on, "
                    "because the host's errors cannot be read: %s",
                    accel->name, strerror(-n));
        accel->cmdqv->broken = true;
        smmuv3_accel_cmdqv_hw_leave(s);
        qemu_bh_schedule(accel->drain.bh);
    }
    signal_errors(s);
}

/*
 * Life
 */

void smmuv3_accel_cmdqv_host_new(SMMUv3State *s)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;
    SMMUv3AccelVintf *vintf = vintf_of(s);

    if (!cmdqv || !vintf->active) {
        return;
    }
    qemu_set_fd_handler(vintf->errors_fd, errors_readable, NULL, s);
    cmdqv->refused = cmdqv->broken = false;
    smmuv3_accel_cmdqv_poll_leave(s);
    /* It gives them, in a machine that runs */
    qemu_bh_schedule(s->accel_state->drain.bh);
}

void smmuv3_accel_cmdqv_host_gone(SMMUv3State *s)
{
    SMMUv3AccelVintf *vintf = vintf_of(s);

    if (!s->accel_state->cmdqv || !vintf->active) {
        return;
    }
    qemu_set_fd_handler(vintf->errors_fd, NULL, NULL, NULL);
    take_back(s);
    /* The host may not have told of an error yet; and QEMU drains the rest */
    signal_errors(s);
    qemu_bh_schedule(s->accel_state->drain.bh);
}

/* Linux needs more than 2^6 commands */
#define CMDQS_MIN 7

unsigned smmuv3_accel_cmdqv_cmdqs(SMMUv3State *s)
{
    SMMUv3AccelVsmmu *vsmmu = &s->accel_state->vsmmu;
    unsigned host = FIELD_EX32(vsmmu->info.idr[1], IDR1, CMDQS);
    uint64_t page = qemu_minrampagesize();
    unsigned fits = 63 - clz64(page / sizeof(Cmd));

    if (!vsmmu->vintf.active) {
        return SMMU_CMDQS;
    }
    if (page == qemu_real_host_page_size() && fits < host) {
        info_report("%s: each queue of the guest holds %u commands only, so "
                    "that the host's CMDQV can read it; give the machine huge "
                    "pages for more", s->accel_state->name, 1u << fits);
    }
    fits = MIN(fits, host);
    return MIN(MAX(fits, CMDQS_MIN), SMMU_CMDQS);
}

void smmuv3_accel_cmdqv_hw_init(SMMUv3State *s)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;

    if (!vintf_of(s)->page) {
        return;
    }
    QEMU_BUILD_BUG_ON(SMMUV3_HOST_VINTF_SIZE != TEGRA241_PAGE);
    smmuv3_accel_cmdqv_add_direct(s, &cmdqv->vintf, TYPE_ARM_SMMUV3 "-vintf",
                                  vintf_of(s)->page);
}
