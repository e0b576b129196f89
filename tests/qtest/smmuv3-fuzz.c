/*
 * A hostile guest of accelerated SMMUv3s: the machine, and what must be true
 *
 * After each run, and at some operations within it, the guest becomes honest:
 * it restarts an SMMU and invalidates all. From then on
 *
 * - the queue works, without an error;
 * - each stream is attached to what the guest's tables say. This file decides
 *   that by IHI 0070 5.2, without a line of QEMU's own policy;
 * - DMA uses no stale entry of the physical SMMU;
 * - an honest unmap, by any legal sequence of TLBIs, leaves no page behind;
 * - when all devices are unplugged, the host has no object of theirs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "smmuv3-fuzz.h"
#include "smmuv3-test-util.h"
#include <sys/mman.h>

#define CMDQ_MASK       ((2u << HOST_CMDQ_LOG2) - 1)
#define CMDQ_INDEX      (CMDQ_MASK >> 1)

void hostile_fail(Fuzz *f, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("smmuv3-fuzz: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}

HostGuestConfig smmuv3_fuzz_config(void)
{
    HostGuestConfig config = {
        .n_vsmmus = FUZZ_SMMUS, .n_psmmus = 2, .n_devs = FUZZ_DEVS,
        .dev = {
            { .vsmmu = 0, .psmmu = 0 },
            { .vsmmu = 0, .psmmu = 0, .hotplug = true },
            { .vsmmu = 0, .psmmu = 0 },
            { .vsmmu = 1, .psmmu = 1 },
            { .vsmmu = 1, .psmmu = 1, .hotplug = true },
            { .vsmmu = 2, .psmmu = 1 },
        },
        .each_host = { "profile=grace\ncmdqv=1", "profile=kunpeng" },
        .device = "pasid=20\nats=on",
        .each_smmu_args = {
            ",cmdqv=on",
            ",cmdqv=on,x-drain-us=1,cmdqv-poll-us=2000,share-stage2=on",
            ",x-direct-registers=off,share-stage2=on",
            ",accel=off,stage=nested",
        },
        .args = "-device pcie-root-port,id=rp99,bus=pxb3,addr=1,chassis=99 "
                "-device edu,bus=rp99,dma_mask=0xffffffffffffffff ",
        .eventq_log2 = 3,
    };
    const char *host = getenv("SMMUV3_FUZZ_HOST");

    if (host) {
        config.each_host[0] = config.each_host[1] = host;
    }
    return config;
}

/*
 * To QEMU and to the model
 */

void hostile_pause(Fuzz *f)
{
    if (f->g->hooks) {
        f->g->hooks->pause(f->g, false);
    }
}

static void wait_a_moment(Fuzz *f)
{
    if (f->g->hooks) {
        f->g->hooks->pause(f->g, true);
    } else {
        qtest_readl(f->g->qts, f->g->smmu[0].base);
        g_usleep(10);
    }
}

bool hostile_qmp(Fuzz *f, const char *command, QDict *arguments)
{
    QDict *request = qdict_new(), *answer;
    bool ok;

    qdict_put_str(request, "execute", command);
    if (arguments) {
        qdict_put(request, "arguments", arguments);
    }
    answer = f->g->hooks ? f->g->hooks->qmp(f->g, request)
                         : qtest_qmp(f->g->qts, "%p", request);
    ok = answer && !qdict_haskey(answer, "error");
    if (!ok && answer && getenv("SMMUV3_FUZZ_VERBOSE")) {
        fprintf(stderr, "%s: %s\n", command,
                qdict_get_str(qdict_get_qdict(answer, "error"), "desc"));
    }
    qobject_unref(answer);
    return ok;
}

bool hostile_is_bound(Fuzz *f, unsigned dev)
{
    QDict *state = host_control(f->g, "state dma%u", dev);
    bool bound = qdict_get_bool(state, "bound");

    qobject_unref(state);
    return bound;
}

static QDict *id_of(unsigned dev)
{
    g_autofree char *id = g_strdup_printf("dev%u", dev);
    QDict *arguments = qdict_new();

    qdict_put_str(arguments, "id", id);
    return arguments;
}

bool hostile_plug(Fuzz *f, unsigned dev)
{
    QDict *answer = host_control(f->g, "open dma%u", dev);
    g_autofree char *fd = g_strdup_printf("%d",
                                          (int)qdict_get_int(answer, "fd"));
    g_autofree char *bus = g_strdup_printf("rp%u", dev);
    QDict *arguments = id_of(dev);

    qobject_unref(answer);
    qdict_put_str(arguments, "driver", "vfio-pci");
    qdict_put_str(arguments, "bus", bus);
    qdict_put_str(arguments, "fd", fd);
    qdict_put_str(arguments, "iommufd", "iommufd0");
    if (!hostile_qmp(f, "device_add", arguments)) {
        return false;
    }
    f->g->dev[dev].present = f->moved = true;
    host_slot_power(f->g, dev, true);
    return true;
}

/* With @ask by device_del; without, the guest turns the slot off */
void hostile_unplug(Fuzz *f, unsigned dev, bool ask)
{
    if (ask) {
        hostile_qmp(f, "device_del", id_of(dev));
    }
    host_slot_power(f->g, dev, false);
    for (int n = 0; hostile_is_bound(f, dev); n++) {
        if (n == 20000) {
            hostile_fail(f, "device %u does not go", dev);
        }
        wait_a_moment(f);
    }
    f->g->dev[dev].present = false;
}

void hostile_reset(Fuzz *f)
{
    if (f->g->hooks) {
        f->g->hooks->hold(f->g, true);
        f->g->hooks->reset(f->g);
    } else {
        hostile_qmp(f, "system_reset", NULL);
        qtest_qmp_eventwait(f->g->qts, "RESET");
    }
    for (unsigned i = 0; i < FUZZ_SMMUS; i++) {
        f->g->smmu[i].enabled = false;
        f->g->smmu[i].prod = f->g->smmu[i].event_cons = 0;
        f->smmu[i].vcmdq_prod[0] = f->smmu[i].vcmdq_prod[1] = 0;
    }
    /* Requests to unplug end with a reset */
    for (unsigned dev = 0; dev < FUZZ_DEVS; dev++) {
        f->g->dev[dev].present = hostile_is_bound(f, dev);
    }
    host_setup_pci(f->g);
    f->moved = false;
    if (f->g->hooks) {
        f->g->hooks->hold(f->g, false);
    }
    hostile_pause(f);
}

/*
 * Commands
 */

uint32_t hostile_sid(Fuzz *f, unsigned dev)
{
    return dev < FUZZ_DEVS ? host_sid(f->g, dev) :
           dev == FUZZ_EDU ? FUZZ_EDU_SID : host_port_sid(f->g);
}

void hostile_kick(Fuzz *f, unsigned i)
{
    smmu_kick(f->g, i);
    hostile_pause(f);
}

void hostile_push(Fuzz *f, unsigned i, HostCmd cmd)
{
    HostVsmmu *s = &f->g->smmu[i];
    uint64_t *slot = host_ram(f->g, s->cmdq + (s->prod & CMDQ_INDEX) * 16);
    uint32_t used = s->prod - smmu_read(f->g, i, SMMU_CMDQ_CONS);

    if ((used & CMDQ_MASK) >= CMDQ_INDEX) {
        smmu_write(f->g, i, SMMU_GERRORN, smmu_read(f->g, i, SMMU_GERROR));
        hostile_kick(f, i);
        return;
    }
    slot[0] = cpu_to_le64(cmd.word[0]);
    slot[1] = cpu_to_le64(cmd.word[1]);
    s->prod = (s->prod + 1) & CMDQ_MASK;
}

/*
 * What the guest's tables say
 */

uint64_t *hostile_ste(Fuzz *f, unsigned i, uint32_t sid)
{
    HostVsmmu *s = &f->g->smmu[i];
    unsigned bits = s->strtab_cfg & 0x3f, split = s->strtab_cfg >> 6 & 0x1f;
    uint64_t l1, l2;
    unsigned span;

    if (sid >> bits) {
        return NULL;
    }
    if (!(s->strtab_cfg >> 16 & 3)) {
        return host_ram(f->g, s->strtab + sid * 64ull);
    }
    l1 = le64_to_cpu(*(uint64_t *)host_ram(f->g, s->strtab +
                                           (sid >> split) * 8ull));
    span = l1 & 0x1f;
    /* A Span of 12 and more is reserved; one above SPLIT + 1 as well */
    if (!span || span > split + 1 ||
        (sid & ((1u << split) - 1)) >> (span - 1)) {
        return NULL;
    }
    l2 = l1 & MAKE_64BIT_MASK(6, 46) & ~((64ull << (span - 1)) - 1);
    l2 += (sid & ((1u << split) - 1)) * 64ull;
    return l2 >= HOST_RAM_BASE && l2 <= HOST_RAM_BASE + HOST_RAM_SIZE - 64
           ? host_ram(f->g, l2) : NULL;
}

typedef struct Attachment {
    unsigned config;                    /* of the physical STE, 5.2 */
    uint64_t ste[2];                    /* fields of stage 1, if it has one */
} Attachment;

enum { HOST_ABORT = 0, HOST_STAGE2 = 6, HOST_NESTED = 7 };

/* 5.2: without a stage 2, and what the guest's ID registers say */
static Attachment wanted(Fuzz *f, unsigned dev)
{
    unsigned i = f->g->dev[dev].vsmmu;
    uint64_t *ste = hostile_ste(f, i, host_sid(f->g, dev));
    uint32_t idr0 = smmu_read(f->g, i, SMMU_IDR0);
    unsigned ssids = smmu_read(f->g, i, SMMU_IDR1) >> 6 & 0x1f;
    unsigned config, fmt, cdmax, dss, eats;
    uint64_t w0, w1;

    if (!ste) {
        return (Attachment) { HOST_ABORT };
    }
    w0 = le64_to_cpu(ste[0]);
    w1 = le64_to_cpu(ste[1]);
    config = w0 >> 1 & 7;
    if (!(w0 & 1) || config < 4 || config > 5) {
        return (Attachment) { HOST_ABORT };
    }
    if (config == 4) {
        return (Attachment) { HOST_STAGE2 };
    }
    cdmax = ssids ? w0 >> 59 : 0;
    fmt = cdmax ? w0 >> 4 & 3 : 0;
    fmt = fmt == 3 ? 0 : fmt;
    dss = cdmax ? w1 & 3 : 0;
    dss = dss == 3 ? 0 : dss;
    eats = idr0 & (1 << 10) ? w1 >> 28 & 3 : 0;
    eats = eats == 3 ? 0 : eats;
    if (cdmax > ssids || (fmt && !(idr0 & (1 << 19))) || eats == 2 ||
        (w1 & (1 << 27))) {
        return (Attachment) { HOST_ABORT };
    }
    return (Attachment) {
        HOST_NESTED,
        { (w0 & MAKE_64BIT_MASK(6, 46)) | fmt << 4 | (uint64_t)cdmax << 59,
          (w1 & 0xfc) | dss },
    };
}

static uint64_t word_of(QDict *state, unsigned n)
{
    QList *words = qdict_get_qlist(state, "ste");
    const QListEntry *entry = qlist_first(words);

    while (n--) {
        entry = qlist_next(entry);
    }
    return g_ascii_strtoull(qstring_get_str(qobject_to(QString, entry->value)),
                            NULL, 0);
}

static void check_stream(Fuzz *f, unsigned dev)
{
    Attachment want = wanted(f, dev);
    QDict *state = host_control(f->g, "state dma%u", dev);
    uint64_t w0 = word_of(state, 0), w1 = word_of(state, 1);
    uint64_t *ste = hostile_ste(f, f->g->dev[dev].vsmmu, host_sid(f->g, dev));

    if ((w0 >> 1 & 7) != want.config ||
        (want.config == HOST_NESTED &&
         ((w0 & (MAKE_64BIT_MASK(6, 46) | 0x30 | 0xfull << 59 | 1ull << 63)) !=
          want.ste[0] || (w1 & 0xff) != want.ste[1]))) {
        hostile_fail(f, "device %u, StreamID 0x%x: its STE is 0x%" PRIx64
                  " 0x%" PRIx64 ", so the host's should have Config %u and 0x%"
                  PRIx64 " 0x%" PRIx64 ", and is 0x%" PRIx64 " 0x%" PRIx64,
                  dev, host_sid(f->g, dev), ste ? le64_to_cpu(ste[0]) : 0,
                  ste ? le64_to_cpu(ste[1]) : 0, want.config, want.ste[0],
                  want.ste[1], w0, w1);
    }
    qobject_unref(state);
}

/* Any DMA may fault now, but it may not use what was invalidated */
static void check_dma(Fuzz *f, unsigned dev)
{
    static const uint64_t at[] = { 0, HOST_RAM_BASE, 0xfffffffffffff000 };
    uint64_t got;

    for (unsigned n = 0; n < ARRAY_SIZE(at); n++) {
        host_dma_read64(f->g, dev, at[n], &got);
    }
}

void hostile_check_streams(Fuzz *f, unsigned i)
{
    uint64_t stale = host_counter(f->g, "smmu.stale");

    for (unsigned dev = 0; dev < FUZZ_DEVS; dev++) {
        if (f->g->dev[dev].vsmmu == i && f->g->dev[dev].present) {
            check_stream(f, dev);
            check_dma(f, dev);
        }
    }
    if (host_counter(f->g, "smmu.stale") != stale) {
        hostile_fail(f, "SMMU %u: stale after everything was invalidated", i);
    }
    f->checks++;
}

/*
 * An honest guest on a healthy host
 */

void hostile_calm(Fuzz *f)
{
    if (f->failing) {
        qobject_unref(host_control(f->g, "fail clear"));
        qobject_unref(host_control(f->g, "release"));
        /* A host that was slow is believed to be slow for a minute */
        qobject_unref(host_control(f->g, "advance 61000000"));
        f->failing = 0;
    }
    for (unsigned dev = 0; dev < FUZZ_DEVS; dev++) {
        if (f->resets & (1u << dev)) {
            qobject_unref(host_control(f->g, "reset dma%u end", dev));
        }
    }
    f->resets = 0;
    if (f->stopped) {
        hostile_check(f, hostile_qmp(f, "cont", NULL));
        f->stopped = false;
    }
    if (f->moved) {
        host_setup_pci(f->g);
        f->moved = false;
    }
    hostile_pause(f);
}

void hostile_restart(Fuzz *f, unsigned i)
{
    HostGuest *g = f->g;

    smmu_write(g, i, SMMU_IRQ_CTRL, 0);
    smmu_write(g, i, SMMU_CR0, 0);
    hostile_check(f, !smmu_read(g, i, SMMU_CR0ACK));
    /* Not before: the queue would go on, with the same error */
    smmu_write(g, i, SMMU_GERRORN, smmu_read(g, i, SMMU_GERROR));
    hostile_check(f, smmu_read(g, i, SMMU_GERRORN) ==
                     smmu_read(g, i, SMMU_GERROR));
    smmu_gbpa(g, i, false);
    smmu_enable(g, i);
    smmu_cmd(g, i, CMD_CFGI_ALL);
    smmu_cmd(g, i, CMD_TLBI_NSNH_ALL);
    smmu_sync_ok(g, i);
    for (unsigned dev = 0; dev < FUZZ_DEVS; dev++) {
        if (g->dev[dev].vsmmu == i && g->dev[dev].present &&
            (smmu_read(g, i, SMMU_IDR0) & (1 << 10))) {
            smmu_cmd(g, i, CMD_ATC_INV(host_sid(g, dev), 0, 52));
            smmu_cmd(g, i, CMD_ATC_INV_SSID(host_sid(g, dev), 0, 1, 0, 52));
        }
    }
    smmu_sync_ok(g, i);
    /* A slow host is quick again by now, or QEMU looks again */
    smmu_sync_ok(g, i);
}

static void check_objects(Fuzz *f)
{
    static const char *const types[] = {
        "veventq", "vdevice", "hwpt_nested", "viommu",
    };

    for (unsigned dev = 0; dev < FUZZ_DEVS; dev++) {
        if (f->g->dev[dev].present) {
            hostile_unplug(f, dev, true);
        }
    }
    hostile_pause(f);
    for (int n = 0; n < ARRAY_SIZE(types); n++) {
        if (host_objects(f->g, types[n])) {
            hostile_fail(f, "all devices are gone, and the host has a %s",
                      types[n]);
        }
    }
}

/*
 * Runs
 */

void hostile_fill_page(Fuzz *f, unsigned n)
{
    uint64_t *page = host_ram(f->g, f->pages[n]);

    for (unsigned at = 0; at < 512; at++) {
        page[at] = FUZZ_TAG(n);
    }
}

/* All that a guest has ever written is 0 again, but for what the board wrote */
static void clear_memory(Fuzz *f)
{
    HostGuest *g = f->g;
    uint64_t size = g->free_ram - f->first;
    uint8_t *at = host_ram(g, f->first);

    /* This takes time for what was touched, which is little */
    if (madvise(at, size, MADV_REMOVE)) {
        memset(at, 0, size);
    }
    g->free_ram = f->first_free;
    for (unsigned n = 0; n < 2; n++) {
        hostile_fill_page(f, n);
    }
}

static void begin(Fuzz *f)
{
    HostGuest *g = f->g;

    hostile_reset(f);
    clear_memory(f);
    for (unsigned i = 0; i < FUZZ_SMMUS; i++) {
        FuzzSmmu *s = &f->smmu[i];
        uint64_t cds = host_alloc(g, 64 * FUZZ_CDS);

        g->smmu[i].strtab = s->linear;
        g->smmu[i].strtab_cfg = HOST_SID_BITS;
        for (unsigned n = 0; n < FUZZ_CDS; n++) {
            s->cd[n] = cds + 64 * n;
            s->root[n][0] = host_alloc(g, 4096);
            s->root[n][1] = host_alloc(g, 4096);
        }
        s->vcmdq[0] = host_alloc(g, 16 << FUZZ_VCMDQ_LOG2);
        s->vcmdq[1] = host_alloc(g, 16 << FUZZ_VCMDQ_LOG2);
    }
    for (unsigned i = 0; i < FUZZ_SMMUS; i++) {
        smmu_enable(g, i);
    }
}

static void end(Fuzz *f, bool unplug)
{
    HostGuest *g = f->g;

    hostile_calm(f);
    for (unsigned i = 0; i < FUZZ_SMMUS; i++) {
        hostile_restart(f, i);
        hostile_check_streams(f, i);
    }
    if (unplug) {
        check_objects(f);
    }
    for (unsigned dev = 0; dev < FUZZ_DEVS; dev++) {
        bool want = !g->config.dev[dev].hotplug;

        if (want && !g->dev[dev].present) {
            if (!hostile_plug(f, dev)) {
                hostile_fail(f, "device %u cannot be plugged again", dev);
            }
        } else if (!want && g->dev[dev].present) {
            hostile_unplug(f, dev, true);
        }
    }
}

void hostile_run(Fuzz *f, const uint8_t *data, size_t size)
{
    size_t n = MIN(size / sizeof(FuzzOp), FUZZ_MAX_OPS);
    bool unplug = false;

    begin(f);
    for (size_t at = 0; at < n; at++) {
        FuzzOp op;

        memcpy(&op, data + at * sizeof(op), sizeof(op));
        op.e = le16_to_cpu(op.e);
        op.x = le64_to_cpu(op.x);
        /* Unplugging takes time, so one run in 16 does it all */
        unplug = !(op.d & 15);
        hostile_op(f, &op);
        hostile_pause(f);
    }
    end(f, unplug);
}

Fuzz *hostile_new(HostGuest *g)
{
    Fuzz *f = g_new0(Fuzz, 1);

    f->g = g;
    f->first = g->free_ram;
    f->edu = VIRT_PCIE_MMIO_BASE + 0x9000000;
    for (unsigned i = 0; i < FUZZ_SMMUS; i++) {
        smmu_enable(g, i);
        f->smmu[i].linear = g->smmu[i].strtab;
    }
    for (unsigned n = 0; n < 2; n++) {
        f->pages[n] = host_alloc(g, 4096);
    }
    f->first_free = g->free_ram = ROUND_UP(g->free_ram, MiB);
    return f;
}

void hostile_free(Fuzz *f)
{
    g_free(f);
}
