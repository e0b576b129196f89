/*
 * Accelerated SMMUv3: a thread that watches the guest's own command queues
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A guest that unmaps writes PROD of a VCMDQ, and that write exits to QEMU.
 * While a guest does so again and again, QEMU gives it page 0 of the VCMDQs as
 * plain memory, and a thread watches PROD there.  The guest has no exit then.
 * If the thread sees nothing new for some time, writes exit again and the
 * thread sleeps.
 *
 * Both changes cost as much as many exits, because the guest's memory map
 * changes.  So the thread starts only after a number of writes, none of which
 * it would have waited for too long.  That number doubles each time it was not
 * worth it.
 *
 * It is a thread of its own, and not an IOThread: it takes the BQL to drain the
 * queues.  The main loop waits for an IOThread with the BQL held, and neither
 * would go on.
 *
 * The guest writes CONFIG and GERRORN there as well.  The rest of the page is
 * QEMU's, and what a guest writes there has no effect on the queues.
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/processor.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "trace.h"
#include "smmuv3-accel-cmdqv.h"

/* So many writes of PROD start the thread, the first time and at most */
#define START_AFTER     64
#define START_AFTER_MAX 4096

/* It was worth it if the thread has seen so many */
#define WORTH           1024

/* After so long with the BQL, the thread lets others have it */
#define GIVE_WAY_NS     (NANOSECONDS_PER_SECOND / 1000)

/* The registers that the guest writes, by their offset for each VCMDQ */
static const hwaddr written[] = {
    SMMUV3_VCMDQ_CONFIG, SMMUV3_VCMDQ_GERRORN, SMMUV3_VCMDQ_PROD,
};

struct SMMUv3AccelPoll {
    SMMUv3State *s;
    MemoryRegion ram;           /* logical page 0, while @on */
    uint32_t *mem;              /* its memory, which stays */
    bool on;                    /* changes with the BQL held */
    bool late;                  /* not @on, but a write may be on its way */
    QEMUBH *thread_bh;          /* creates the thread when it is needed */
    GThread *thread;
    bool failed;                /* the host permits no thread */
    QemuEvent start;
    int64_t held;               /* ns; the thread's, with the BQL */
    QEMUBH *turn_bh;            /* the main loop has had its turn */
    QemuEvent turn;

    /* What the page had in it when QEMU last looked; with the BQL held */
    uint32_t seen[TEGRA241_VCMDQS][ARRAY_SIZE(written)];

    /* Whether to start */
    int64_t last;               /* ns; the last write of PROD that exited */
    unsigned n;                 /* writes in a row */
    unsigned start_after;
    unsigned served;            /* changes seen since the thread started */
};

static uint32_t look(const SMMUv3AccelPoll *poll, unsigned l, unsigned reg)
{
    hwaddr at = l * TEGRA241_STRIDE + written[reg];

    /* The commands are older than the PROD that is behind them */
    return qatomic_load_acquire(&poll->mem[at / 4]);
}

static bool has_changed(const SMMUv3AccelPoll *poll)
{
    for (unsigned l = 0; l < TEGRA241_VCMDQS; l++) {
        for (unsigned reg = 0; reg < ARRAY_SIZE(written); reg++) {
            if (look(poll, l, reg) != qatomic_read(&poll->seen[l][reg])) {
                return true;
            }
        }
    }
    return false;
}

/*
 * Do what the guest's writes would have done; the caller drains.
 * Returns: whether a queue was enabled or disabled, perhaps.
 */
static bool take(SMMUv3AccelPoll *poll)
{
    bool config = false;

    for (unsigned l = 0; l < TEGRA241_VCMDQS; l++) {
        for (unsigned reg = 0; reg < ARRAY_SIZE(written); reg++) {
            uint32_t value = look(poll, l, reg);

            if (value == poll->seen[l][reg]) {
                continue;
            }
            qatomic_set(&poll->seen[l][reg], value);
            poll->served++;
            config |= written[reg] == SMMUV3_VCMDQ_CONFIG;
            smmuv3_accel_cmdqv_set(poll->s, TEGRA241_LOGICAL +
                                   l * TEGRA241_STRIDE + written[reg],
                                   le32_to_cpu(value));
        }
    }
    return config;
}

static void note_seen(SMMUv3AccelPoll *poll)
{
    for (unsigned l = 0; l < TEGRA241_VCMDQS; l++) {
        for (unsigned reg = 0; reg < ARRAY_SIZE(written); reg++) {
            qatomic_set(&poll->seen[l][reg], look(poll, l, reg));
        }
    }
}

/*
 * The thread
 */

static void main_loop_runs(void *opaque)
{
    SMMUv3AccelPoll *poll = opaque;

    qemu_event_set(&poll->turn);
}

/*
 * The BQL is not fair, and a thread that takes it again and again keeps all
 * others from it
 */
static void give_way(SMMUv3AccelPoll *poll)
{
    if (poll->held < GIVE_WAY_NS) {
        return;
    }
    poll->held = 0;
    qemu_event_reset(&poll->turn);
    qemu_bh_schedule(poll->turn_bh);
    qemu_event_wait(&poll->turn);
}

static void serve_locked(SMMUv3AccelPoll *poll)
{
    SMMUv3State *s = poll->s;
    MemReentrancyGuard *guard = &DEVICE(s)->mem_reentrancy_guard;

    /* A queue that stops or starts may be one for the hardware */
    if (take(poll)) {
        smmuv3_accel_cmdqv_poll_leave(s);
    }
    if (!runstate_is_running() || guard->engaged_in_io) {
        qemu_bh_schedule(s->accel_state->drain.bh);
        return;
    }
    /* As in an access, or in a bottom half that is guarded */
    guard->engaged_in_io = true;
    smmuv3_accel_cmdqv_drain(s);
    guard->engaged_in_io = false;
}

static void serve(SMMUv3AccelPoll *poll)
{
    int64_t start;

    bql_lock();
    start = get_clock();
    serve_locked(poll);
    poll->held += get_clock() - start;
    bql_unlock();
    give_way(poll);
}

static void watch(SMMUv3AccelPoll *poll)
{
    int64_t ns = poll->s->accel_props.cmdqv_poll_us * 1000LL;
    int64_t last = get_clock();

    while (qatomic_read(&poll->on)) {
        if (has_changed(poll)) {
            serve(poll);
            last = get_clock();
        } else if (get_clock() - last < ns) {
            cpu_relax();
        } else {
            BQL_LOCK_GUARD();
            if (poll->on && !has_changed(poll)) {
                smmuv3_accel_cmdqv_poll_leave(poll->s);
                qemu_bh_schedule(poll->s->accel_state->drain.bh);
            }
        }
    }
}

/*
 * A vCPU of TCG, or an access by the emulator, may have found the page before
 * it went, and may write to it afterwards.  Either is within a reader's section
 * of RCU.
 */
static void wait_for_late_writes(SMMUv3AccelPoll *poll)
{
    synchronize_rcu();
    if (has_changed(poll)) {
        serve(poll);
    }
    bql_lock();
    poll->late = false;
    qemu_bh_schedule(poll->s->accel_state->drain.bh);
    bql_unlock();
}

static void *poll_thread(void *opaque)
{
    SMMUv3AccelPoll *poll = opaque;

    rcu_register_thread();
    for (;;) {
        qemu_event_reset(&poll->start);
        if (!qatomic_read(&poll->on) && !qatomic_read(&poll->late)) {
            qemu_event_wait(&poll->start);
        }
        watch(poll);
        wait_for_late_writes(poll);
    }
    return NULL;
}

/* In the main loop: a thread has the CPUs and the priority of its creator */
static void create_thread(void *opaque)
{
    SMMUv3AccelPoll *poll = opaque;

    if (poll->thread || poll->failed) {
        return;
    }
    poll->thread = smmuv3_accel_thread_new("smmuv3-poll", poll_thread, poll);
    if (!poll->thread) {
        poll->failed = true;
        warn_report_once("the host permits no further thread: cmdqv-poll-us "
                         "has no effect; raise pids.max or RLIMIT_NPROC");
    }
}

/*
 * Start and stop
 */

/* CONS of a VCMDQ that is disabled is the guest's to write, but not here */
static bool all_run(const Tegra241 *t)
{
    for (unsigned l = 0; l < TEGRA241_VCMDQS; l++) {
        int i = tegra241_physical(t, l);

        if (i >= 0 && !tegra241_runs(t, i)) {
            return false;
        }
    }
    return true;
}

static bool may_enter(SMMUv3AccelPoll *poll)
{
    SMMUv3Accel *accel = poll->s->accel_state;
    SMMUv3AccelCmdqv *cmdqv = accel->cmdqv;
    bool hw_can = accel->vsmmu.vintf.active && !cmdqv->refused &&
                  !cmdqv->broken;

    return poll->thread && !poll->late && runstate_is_running() && !hw_can &&
           all_run(&cmdqv->regs);
}

static void enter(SMMUv3AccelPoll *poll)
{
    SMMUv3AccelCmdqv *cmdqv = poll->s->accel_state->cmdqv;

    poll->n = poll->served = 0;
    smmuv3_accel_cmdqv_publish_polled(cmdqv, (uint8_t *)poll->mem, false);
    note_seen(poll);
    smmuv3_accel_cmdqv_map_page0(cmdqv, &poll->ram, true, false);
    qatomic_set(&poll->on, true);
    qemu_event_set(&poll->start);
    trace_smmuv3_accel_cmdqv_poll(poll->s->accel_state->name, true);
}

void smmuv3_accel_cmdqv_poll_doorbell(SMMUv3State *s)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;
    SMMUv3AccelPoll *poll = cmdqv->poll;
    int64_t now;

    if (!poll || cmdqv->hw || poll->on) {
        return;
    }
    now = get_clock();
    if (now - poll->last > s->accel_props.cmdqv_poll_us * 1000LL) {
        poll->n = 0;
    }
    poll->last = now;
    if (++poll->n == poll->start_after / 2) {
        qemu_bh_schedule(poll->thread_bh);
    }
    if (poll->n >= poll->start_after && may_enter(poll)) {
        enter(poll);
    }
}

bool smmuv3_accel_cmdqv_poll_forward(SMMUv3State *s, hwaddr offset,
                                     uint32_t value)
{
    SMMUv3AccelPoll *poll = s->accel_state->cmdqv->poll;
    hwaddr at = offset - TEGRA241_LOGICAL;
    bool ours = poll && poll->on && offset >= TEGRA241_LOGICAL &&
                at < TEGRA241_VCMDQS * TEGRA241_STRIDE &&
                smmuv3_accel_cmdqv_poll_is_written(at % TEGRA241_STRIDE);

    if (ours) {
        qatomic_store_release(&poll->mem[at / 4], cpu_to_le32(value));
    }
    return ours;
}

void smmuv3_accel_cmdqv_poll_leave(SMMUv3State *s)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;
    SMMUv3AccelPoll *poll = cmdqv->poll;

    if (!poll) {
        return;
    }
    if (!poll->on) {
        take(poll);
        return;
    }
    /* Under KVM the guest waits for the BQL now, whatever it reads or writes */
    smmuv3_accel_cmdqv_map_page0(cmdqv, &poll->ram, false, false);
    poll->late = true;
    qatomic_set(&poll->on, false);
    take(poll);
    poll->start_after = poll->served >= WORTH ? START_AFTER :
                        MIN(poll->start_after * 2, START_AFTER_MAX);
    smmuv3_accel_cmdqv_publish(cmdqv);
    smmuv3_accel_cmdqv_map_page0(cmdqv, &poll->ram, false, true);
    trace_smmuv3_accel_cmdqv_poll(s->accel_state->name, false);
}

void smmuv3_accel_cmdqv_poll_look(SMMUv3State *s)
{
    SMMUv3AccelPoll *poll = s->accel_state->cmdqv->poll;

    if (!poll || !has_changed(poll)) {
        return;
    }
    /* The thread has nothing to see now, so the main loop drains */
    if (take(poll)) {
        smmuv3_accel_cmdqv_poll_leave(s);
    }
    qemu_bh_schedule(s->accel_state->drain.bh);
}

void smmuv3_accel_cmdqv_poll_reset(SMMUv3State *s)
{
    SMMUv3AccelPoll *poll = s->accel_state->cmdqv->poll;

    smmuv3_accel_cmdqv_poll_leave(s);
    if (poll) {
        poll->start_after = START_AFTER;
        poll->n = 0;
    }
}

uint8_t *smmuv3_accel_cmdqv_poll_mem(SMMUv3AccelCmdqv *cmdqv)
{
    return cmdqv->poll && cmdqv->poll->on ? (uint8_t *)cmdqv->poll->mem : NULL;
}

bool smmuv3_accel_cmdqv_poll_busy(SMMUv3AccelCmdqv *cmdqv)
{
    return cmdqv->poll && (cmdqv->poll->on || cmdqv->poll->late);
}

bool smmuv3_accel_cmdqv_poll_is_written(hwaddr reg)
{
    for (unsigned n = 0; n < ARRAY_SIZE(written); n++) {
        if (written[n] == reg) {
            return true;
        }
    }
    return false;
}

void smmuv3_accel_cmdqv_poll_init(SMMUv3State *s)
{
    SMMUv3AccelCmdqv *cmdqv = s->accel_state->cmdqv;
    SMMUv3AccelPoll *poll;

    if (!s->accel_props.cmdqv_poll_us) {
        return;
    }
    if (!smmuv3_accel_can_read_memory(s)) {
        warn_report("%s: cmdqv-poll-us has no effect, because the guest cannot "
                    "share registers in memory with QEMU (it needs "
                    "x-direct-registers=on, and under KVM a CPU with "
                    "FEAT_S2FWB and KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)",
                    s->accel_state->name);
        return;
    }
    poll = cmdqv->poll = g_new0(SMMUv3AccelPoll, 1);
    poll->s = s;
    poll->start_after = START_AFTER;
    poll->mem = qemu_memalign(TEGRA241_PAGE, TEGRA241_PAGE);
    memset(poll->mem, 0, TEGRA241_PAGE);
    qemu_event_init(&poll->start, false);
    qemu_event_init(&poll->turn, false);
    poll->thread_bh = qemu_bh_new(create_thread, poll);
    poll->turn_bh = qemu_bh_new(main_loop_runs, poll);
    smmuv3_accel_cmdqv_add_direct(s, &poll->ram, TYPE_ARM_SMMUV3 "-polled",
                                  poll->mem);
}
