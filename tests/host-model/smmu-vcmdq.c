/*
 * Host model: the Tegra241 CMDQV of a physical SMMUv3
 *
 * The virtual interfaces (VINTF) that belong to VMs, with their command queues
 * (VCMDQ).  The interface is documented by Linux's driver alone
 * (drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c).  This file knows nothing of
 * Linux.
 *
 * Page 0 of a VINTF is plain memory.  A thread takes the part of the hardware:
 * it looks at the registers there, fetches commands from the VM's memory, and
 * executes them with the VM's VMID and with StreamIDs by the VINTF's slots.
 * A command takes effect at the latest moment that is allowed, which is the
 * queue's next CMD_SYNC.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "control.h"
#include "smmu-internal.h"

/* Registers of a VCMDQ, in page 0 at VCMDQ_STRIDE times its number */
#define VCMDQ_STRIDE    0x80
enum {
    VCMDQ_CONS          = 0x00,
    VCMDQ_PROD          = 0x04,
    VCMDQ_CONFIG        = 0x08,
    VCMDQ_STATUS        = 0x0c,
    VCMDQ_GERROR        = 0x10,
    VCMDQ_GERRORN       = 0x14,
};
#define VCMDQ_EN        1u              /* CONFIG; EN_OK in STATUS */
#define GERROR_CMDQ     1u              /* GERROR */
#define CONS_ERR_SHIFT  24

/* CONS.ERR (7.1, "Command queue errors") */
enum { CERROR_ILL = 1, CERROR_ABT = 2, CERROR_ATC_INV_SYNC = 3 };

#define SYNC_CS         (3ull << 12)
#define TLBI_VMID       (0xffffull << 32)

/* How many commands a queue runs before others get the lock */
#define BURST           64
/* How many can wait for a CMD_SYNC */
#define PENDING_MAX     4096
/* The longest pause between two looks at the registers */
#define IDLE_US         1000

typedef struct Vcmdq {
    bool mapped;                        /* to a queue in memory */
    uint64_t base;                      /* its address in this process */
    unsigned log2size;                  /* of its entries */
    bool enabled;
    uint32_t cons;                      /* with the wrap bit */
    uint32_t err;                       /* CERROR_*, as CONS has it */
    uint32_t gerror;
    bool timeout;                       /* an ATC_INV was not answered */
    GArray *pending;                    /* of uint64_t[2] */
} Vcmdq;

typedef struct Slot {
    bool enabled;
    uint32_t match, replace;            /* StreamIDs: the VM's, the host's */
} Slot;

struct HmVintf {
    HmSmmu *smmu;
    uint16_t vmid;
    HmVintfErrorFn *on_error;
    void *opaque;
    int fd;
    uint8_t *page0;
    Vcmdq *queues;
    unsigned n_queues, n_mapped;
    Slot *slots;
    unsigned n_slots;
    bool error;                         /* one that was not reported yet */
    bool running;                       /* the thread uses all this */
    bool freed;
};

/*
 * Registers.  The VM's vCPUs read and write them at any time.
 */

static uint32_t *reg(const HmVintf *v, unsigned i, unsigned offset)
{
    return (uint32_t *)(v->page0 + i * VCMDQ_STRIDE + offset);
}

static uint32_t reg_read(const HmVintf *v, unsigned i, unsigned offset)
{
    /* PROD is read before the commands that it announces. */
    return GUINT32_FROM_LE(__atomic_load_n(reg(v, i, offset),
                                           __ATOMIC_ACQUIRE));
}

/* Software's writes to what is read-only for it have no effect. */
static void reg_set(const HmVintf *v, unsigned i, unsigned offset,
                    uint32_t value)
{
    uint32_t *r = reg(v, i, offset);

    if (__atomic_load_n(r, __ATOMIC_RELAXED) != GUINT32_TO_LE(value)) {
        /* CONS is written after its command was executed. */
        __atomic_store_n(r, GUINT32_TO_LE(value), __ATOMIC_RELEASE);
    }
}

static bool halted(const HmVintf *v, unsigned i)
{
    return (v->queues[i].gerror ^ reg_read(v, i, VCMDQ_GERRORN)) & GERROR_CMDQ;
}

/*
 * Commands
 */

/* Executes what was fetched.  False if an ATC_INV was not answered. */
static bool complete(HmVintf *v, Vcmdq *q)
{
    bool answered = !q->timeout;

    for (unsigned i = 0; i < q->pending->len; i++) {
        const uint64_t *cmd = (const uint64_t *)q->pending->data + 2 * i;

        if (cmdq_execute(v->smmu, cmd) == -ETIMEDOUT) {
            answered = false;
        }
    }
    g_array_set_size(q->pending, 0);
    q->timeout = false;
    return answered;
}

static const Slot *slot_of(const HmVintf *v, uint32_t vsid)
{
    for (unsigned i = 0; i < v->n_slots; i++) {
        if (v->slots[i].enabled && v->slots[i].match == vsid) {
            return &v->slots[i];
        }
    }
    return NULL;
}

/* 0, or a CERROR_* that the test asks for */
static unsigned injected(void)
{
    switch (hm_fail_only("vcmdq.command")) {
    case 0:
        return 0;
    case EFAULT:
        return CERROR_ABT;
    case ETIMEDOUT:
        return CERROR_ATC_INV_SYNC;
    default:
        return CERROR_ILL;
    }
}

/* 0, or a CERROR_* */
static unsigned execute(HmVintf *v, Vcmdq *q, uint64_t cmd[2])
{
    const Slot *slot;

    switch (cmd[0] & 0xff) {
    case CMD_TLBI_NH_VA:
    case CMD_TLBI_NH_ASID:
        hm_driver_watch_command(cmd);
        cmd[0] = (cmd[0] & ~TLBI_VMID) | (uint64_t)v->vmid << 32;
        break;
    case CMD_ATC_INV:
        slot = slot_of(v, cmd[0] >> 32);
        if (!slot) {
            return CERROR_ILL;
        }
        cmd[0] = (uint32_t)cmd[0] | (uint64_t)slot->replace << 32;
        break;
    case CMD_SYNC:
        if (cmd[0] & SYNC_CS) {
            return CERROR_ILL;
        }
        if (!complete(v, q)) {
            return CERROR_ATC_INV_SYNC;
        }
        cmdq_synced(v->smmu);
        HM_COUNT("vcmdq.sync");
        return 0;
    default:
        return CERROR_ILL;
    }
    if (!cmdq_legal(v->smmu, cmd)) {
        return CERROR_ILL;
    }
    g_array_append_vals(q->pending, cmd, 1);
    if (q->pending->len >= PENDING_MAX && !complete(v, q)) {
        q->timeout = true;
    }
    return 0;
}

/*
 * Queues
 */

static void set_enabled(HmVintf *v, unsigned i, bool enabled)
{
    Vcmdq *q = &v->queues[i];

    if (q->enabled == enabled) {
        return;
    }
    q->enabled = enabled;
    if (enabled) {
        HM_COUNT("vcmdq.enabled");
        if (hm_vcmdqs_forget) {
            reg_set(v, i, VCMDQ_PROD, 0);
            reg_set(v, i, VCMDQ_CONS, 0);
        }
        q->cons = reg_read(v, i, VCMDQ_CONS) & low_mask(q->log2size + 1);
        q->err = 0;
    } else {
        /* What was fetched is executed, but nobody is told. */
        complete(v, q);
    }
    hm_log("vcmdq %u of VMID %u is %s", i, v->vmid, enabled ? "on" : "off");
}

static void publish(HmVintf *v, unsigned i)
{
    Vcmdq *q = &v->queues[i];

    if (q->enabled) {
        reg_set(v, i, VCMDQ_CONS, q->cons | q->err << CONS_ERR_SHIFT);
    }
    reg_set(v, i, VCMDQ_STATUS, q->enabled ? VCMDQ_EN : 0);
    reg_set(v, i, VCMDQ_GERROR, q->gerror);
}

static void raise_error(HmVintf *v, unsigned i, unsigned err)
{
    Vcmdq *q = &v->queues[i];

    HM_COUNT("vcmdq.error");
    hm_log("vcmdq %u of VMID %u: error %u at 0x%x", i, v->vmid, err, q->cons);
    q->err = err;
    /* CONS says why before GERROR says that there is an error. */
    publish(v, i);
    q->gerror ^= GERROR_CMDQ;
    publish(v, i);
    v->error = true;
}

bool hm_vcmdqs_held, hm_vcmdqs_forget;

/* Runs up to BURST commands.  Returns whether it did anything. */
static bool run_queue(HmVintf *v, unsigned i)
{
    Vcmdq *q = &v->queues[i];
    bool was = q->enabled;
    unsigned n = 0;

    if (hm_vcmdqs_held) {
        return false;
    }
    set_enabled(v, i, reg_read(v, i, VCMDQ_CONFIG) & VCMDQ_EN);
    while (q->enabled && !halted(v, i) && n < BURST) {
        uint32_t prod = reg_read(v, i, VCMDQ_PROD) & low_mask(q->log2size + 1);
        uint64_t at = q->base + (q->cons & low_mask(q->log2size)) * 16;
        uint64_t cmd[2];
        unsigned err = CERROR_ABT;

        if (q->cons == prod) {
            break;
        }
        if (process_read(at, cmd, sizeof(cmd))) {
            cmd[0] = GUINT64_FROM_LE(cmd[0]);
            cmd[1] = GUINT64_FROM_LE(cmd[1]);
            err = injected() ?: execute(v, q, cmd);
        }
        n++;
        if (err) {
            raise_error(v, i, err);
            break;
        }
        HM_COUNT("vcmdq.command");
        q->cons = (q->cons + 1) & low_mask(q->log2size + 1);
        q->err = 0;
        publish(v, i);
    }
    publish(v, i);
    return n || q->enabled != was;
}

/* The interrupt is an edge: it says that there is a new error. */
static void interrupt(HmVintf *v)
{
    uint64_t map[2] = {};

    if (!v->error) {
        return;
    }
    v->error = false;
    for (unsigned i = 0; i < v->n_queues; i++) {
        if (halted(v, i)) {
            map[i / 64] |= 1ull << i % 64;
        }
    }
    v->on_error(v->opaque, map);
}

static void release(HmVintf *v)
{
    for (unsigned i = 0; i < v->n_queues; i++) {
        g_array_free(v->queues[i].pending, true);
    }
    syscall(SYS_munmap, v->page0, HM_VINTF_PAGE0);
    syscall(SYS_close, v->fd);
    g_free(v->queues);
    g_free(v->slots);
    g_free(v);
}

static void *hardware(void *opaque)
{
    HmVintf *v = opaque;
    unsigned pause = 1;

    hm_lock();
    HM_COUNT("vintf.started");
    while (v->n_mapped) {
        bool busy = false;

        for (unsigned i = 0; i < v->n_queues; i++) {
            busy |= v->queues[i].mapped && run_queue(v, i);
        }
        interrupt(v);
        hm_unlock();
        /* Without a pause nobody else would get the lock. */
        pause = busy ? 1 : MIN(pause * 2, IDLE_US);
        g_usleep(pause);
        hm_lock();
    }
    v->running = false;
    HM_COUNT("vintf.ended");
    if (v->freed) {
        release(v);
    }
    hm_unlock();
    return NULL;
}

static void start_thread(HmVintf *v)
{
    sigset_t all, old;

    if (v->running) {
        return;
    }
    v->running = true;
    /* Signals are for the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (hm_thread_create(hardware, v)) {
        hm_bug("no thread for a VINTF");
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/*
 * What the host's software does
 */

HmVintf *hm_vintf_new(HmSmmu *smmu, uint16_t vmid, HmVintfErrorFn *on_error,
                      void *opaque)
{
    const HmSmmuConfig *config = hm_smmu_config(smmu);
    HmVintf *v = g_new0(HmVintf, 1);

    v->smmu = smmu;
    v->vmid = vmid;
    v->on_error = on_error;
    v->opaque = opaque;
    v->n_queues = 1u << config->cmdqv_vcmdqs;
    v->n_slots = 1u << config->cmdqv_sids;
    v->queues = g_new0(Vcmdq, v->n_queues);
    v->slots = g_new0(Slot, v->n_slots);
    for (unsigned i = 0; i < v->n_queues; i++) {
        v->queues[i].pending = g_array_new(false, false, 2 * sizeof(uint64_t));
    }
    v->fd = memfd_create(HM_VINTF_NAME, MFD_CLOEXEC);
    if (v->fd < 0 || ftruncate(v->fd, HM_VINTF_PAGE0)) {
        hm_bug("no memory for a VINTF: %s", strerror(errno));
    }
    /* Call the kernel directly: the C library's mmap() is ours. */
    v->page0 = (void *)syscall(SYS_mmap, NULL, HM_VINTF_PAGE0,
                               PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->page0 == MAP_FAILED) {
        hm_bug("a VINTF cannot be mapped: %s", strerror(errno));
    }
    return v;
}

void hm_vintf_free(HmVintf *v)
{
    if (v->n_mapped) {
        hm_bug("a VINTF is freed with queues");
    }
    if (v->running) {
        v->freed = true;                /* The thread does the rest. */
    } else {
        release(v);
    }
}

int hm_vintf_fd(const HmVintf *v)
{
    return v->fd;
}

void hm_vintf_set_slot(HmVintf *v, unsigned n, bool enabled, uint32_t match,
                       uint32_t replace)
{
    v->slots[n] = (Slot){ enabled, match, replace };
}

static void reset_queue(HmVintf *v, unsigned i)
{
    set_enabled(v, i, false);
    reg_set(v, i, VCMDQ_CONFIG, 0);
    reg_set(v, i, VCMDQ_PROD, 0);
    reg_set(v, i, VCMDQ_CONS, 0);
    publish(v, i);
    reg_set(v, i, VCMDQ_GERRORN, v->queues[i].gerror);
}

void hm_vintf_map(HmVintf *v, unsigned i, uint64_t base, unsigned log2size)
{
    Vcmdq *q = &v->queues[i];

    reset_queue(v, i);
    q->base = base;
    q->log2size = log2size;
    q->mapped = true;
    v->n_mapped++;
    start_thread(v);
}

void hm_vintf_unmap(HmVintf *v, unsigned i)
{
    reset_queue(v, i);
    v->queues[i].mapped = false;
    v->n_mapped--;
}
