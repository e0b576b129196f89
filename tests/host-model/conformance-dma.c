/*
 * DMA of a device: an NVMe controller writes through a guest's tables, which
 * are made by hand
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include "conformance-cmdqv.h"
#include "conformance-nvme.h"

#define IPA     0x80000000ull           /* of the guest's memory */
#define FAR     0x90000000ull           /* of a page that is mapped by itself */
#define IOVA    0x40000000ull           /* what stage 1 translates */
#define PAGES   64

/* Pages of the guest's memory */
enum {
    P_CD, P_L1, P_L2, P_L3, P_MSI, P_OTHER, P_SQ, P_CQ, P_QUEUE = 12,
    P_DATA = 16, P_FAR = 63,
};

/* Entries of the last table: the queues, and then what tests use */
enum { E_SQ, E_CQ, E_DATA, E_NONE, E_READONLY, E_OLD, E_FAR };

#define PTE_TABLE   3ull
/* Attributes 0, privileged and not, inner shareable, used, not global */
#define PTE_PAGE    (3ull | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11)
#define PTE_RO      (1ull << 7)
#define PTE_AF      (1ull << 10)
#define PTE_DEVICE  (1ull | 1 << 2 | 1 << 6 | 1 << 10 | 1 << 11)

#define STE0        (1 | 5 << 1 | (IPA + P_CD * PAGE))
#define STE1        (1 << 2 | 1 << 4 | 3 << 6)

static uint8_t *memory;
static Nvme nvme;

static uint64_t *page(unsigned n)
{
    return (uint64_t *)(memory + n * PAGE);
}

static uint64_t ipa(unsigned n)
{
    return IPA + n * PAGE;
}

static void set_cd(unsigned table, unsigned asid)
{
    uint64_t *cd = page(P_CD);

    /* 39 bits of 4 KiB pages, write-back, TTB1 off; 44 bits out */
    cd[0] = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 30 | 1ull << 31 |
            4ull << 32 | 1ull << 41 | 1ull << 45 | 1ull << 46 | 1ull << 47 |
            (uint64_t)asid << 48;
    cd[1] = ipa(table);
    cd[3] = 0x04ff;                     /* MAIR: normal, device */
}

static void make_tables(void)
{
    uint64_t *l3 = page(P_L3);

    set_cd(P_L1, 1);
    page(P_L1)[1] = ipa(P_L2) | PTE_TABLE;
    page(P_L2)[0] = ipa(P_L3) | PTE_TABLE;
    l3[E_SQ] = ipa(P_SQ) | PTE_PAGE;
    l3[E_CQ] = ipa(P_CQ) | PTE_PAGE;
    l3[E_DATA] = ipa(P_DATA) | PTE_PAGE;
    l3[E_READONLY] = ipa(P_DATA) | PTE_PAGE | PTE_RO;
    l3[E_OLD] = ipa(P_DATA) | (PTE_PAGE & ~PTE_AF);
    l3[E_FAR] = FAR | PTE_PAGE;
}

static uint64_t iova(unsigned entry)
{
    return IOVA + entry * PAGE;
}

/*
 * Where the device's 4 bytes went.  A device may notice that they went nowhere,
 * but QEMU's does not.
 */
static const char *write_to(uint64_t to)
{
    static char text[64];
    bool answer;

    memset(page(P_DATA), 0xaa, (PAGES - P_DATA) * PAGE);
    answer = nvme_write_to(&nvme, to);
    for (unsigned n = P_DATA; n < PAGES; n++) {
        if (*page(n) != 0xaaaaaaaaaaaaaaaa) {
            snprintf(text, sizeof(text), "%spage %u",
                     answer ? "" : "no answer, ", n - P_DATA);
            return text;
        }
    }
    return answer ? "nowhere" : "no answer";
}

static long map(World *w, unsigned n, unsigned pages, uint64_t at)
{
    struct iommu_ioas_map arg = {
        .size = sizeof(arg),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = w->ioas,
        .user_va = (uintptr_t)page(n),
        .length = pages * PAGE,
        .iova = at,
    };

    return call(w->fd, IOMMU_IOAS_MAP, &arg);
}

static long unmap(World *w, uint64_t at, uint64_t len)
{
    struct iommu_ioas_unmap arg = {
        .size = sizeof(arg),
        .ioas_id = w->ioas,
        .iova = at,
        .length = len,
    };

    return call(w->fd, IOMMU_IOAS_UNMAP, &arg);
}

static void command(World *w, uint64_t word0, uint64_t word1)
{
    uint64_t cmd[2] = { word0, word1 };
    struct iommu_hwpt_invalidate arg = {
        .size = sizeof(arg),
        .hwpt_id = w->viommu,
        .data_type = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
        .data_uptr = (uintptr_t)cmd,
        .entry_len = 16,
        .entry_num = 1,
    };

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    need(call(w->fd, IOMMU_HWPT_INVALIDATE, &arg), "an invalidation");
}

/* Stage 2 alone: the device sees what is mapped in the IOAS. */
static void stage2(World *w)
{
    need(attach(w, w->parent), "attaching");
    is(nvme_start(&nvme, ipa(P_SQ), ipa(P_CQ)), 1, "The controller starts");
    is_text(write_to(ipa(P_DATA)), "page 0", "DMA through stage 2");
    is_text(write_to(FAR), "nowhere", "DMA to an unmapped IOVA");
    is(map(w, P_FAR, 1, FAR), 0, "IOAS_MAP of that");
    is_text(write_to(FAR), "page 47", "DMA to it then");
    is(unmap(w, FAR, PAGE), 0, "IOAS_UNMAP of that");
    is_text(write_to(FAR), "nowhere", "DMA to it after the unmap");
    is_text(write_to(ipa(P_DATA + 1)), "page 1", "DMA elsewhere");
}

/* A table changed: a command must invalidate what the SMMU has cached. */
static void invalidations(World *w)
{
    const uint64_t at = iova(E_DATA), asid = 1ull << 48;
    const struct {
        const char *name;
        uint64_t word0, word1;
    } rows[] = {
        { "TLBI_NH_VA", 0x12 | asid, at },
        { "TLBI_NH_VA for last level entries", 0x12 | asid, at | 1 },
        { "TLBI_NH_VAA", 0x13, at },
        { "TLBI_NH_ASID", 0x11 | asid, 0 },
        { "TLBI_NH_ALL", 0x10, 0 },
        { "TLBI_NSNH_ALL", 0x30, 0 },
        { "TLBI_NH_VA with a VMID from the guest", 0x12 | asid | 7ull << 32,
          at },
        { "TLBI_NH_VA of a range of 4 pages", 0x12 | asid | 3 << 12,
          iova(0) | 1 << 10 },
        { "TLBI_NH_VAA of a range of 64 pages, SCALE=1",
          0x13 | 31 << 12 | 1 << 20, iova(0) | 1 << 10 },
    };
    char want[64];
    unsigned n = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        page(P_L3)[E_DATA] = ipa(P_DATA + ++n) | PTE_PAGE;
        command(w, rows[i].word0, rows[i].word1);
        snprintf(want, sizeof(want), "page %u", n);
        is_text(write_to(at), want, "DMA after %s", rows[i].name);
    }

    /* Another table, for another ASID */
    page(P_OTHER)[1] = page(P_L1)[1];
    memcpy(page(P_OTHER + 4), page(P_L3), PAGE);
    memcpy(page(P_OTHER + 3), page(P_L2), PAGE);
    page(P_OTHER)[1] = ipa(P_OTHER + 3) | PTE_TABLE;
    page(P_OTHER + 3)[0] = ipa(P_OTHER + 4) | PTE_TABLE;
    page(P_OTHER + 4)[E_DATA] = ipa(P_DATA + 30) | PTE_PAGE;
    set_cd(P_OTHER, 2);
    command(w, 0x05 | (uint64_t)VSID << 32, 1);
    is_text(write_to(at), "page 30",
            "DMA after CFGI_CD to other tables and another ASID");
    set_cd(P_L1, 1);
    command(w, 0x06 | (uint64_t)VSID << 32, 0);
    snprintf(want, sizeof(want), "page %u", n);
    is_text(write_to(at), want, "DMA after CFGI_CD_ALL back to the first");
}

/*
 * One of the commands is illegal.  Those before it are reported as done, but
 * those since the last submitted chunk are never issued.  The SMMU keeps what
 * it has cached, and so it shows where chunks end.
 */
static void cut(World *w)
{
    static const struct {
        unsigned tlbi, bad;
        bool issued;
    } rows[] = {
        { 0, 62, false }, { 0, 63, true }, { 62, 63, true },
        { 63, 100, false }, { 63, 126, true }, { 125, 130, true },
        { 126, 130, false },
    };
    uint64_t cmds[140][2];
    char want[64];

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct iommu_hwpt_invalidate arg = {
            .size = sizeof(arg),
            .hwpt_id = w->viommu,
            .data_type = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
            .data_uptr = (uintptr_t)cmds,
            .entry_len = 16,
            .entry_num = ARRAY_SIZE(cmds),
        };

        page(P_L3)[E_DATA] = ipa(P_DATA) | PTE_PAGE;
        command(w, 0x10, 0);
        is_text(write_to(iova(E_DATA)), "page 0", "DMA before a change");
        page(P_L3)[E_DATA] = ipa(P_DATA + 1) | PTE_PAGE;
        for (unsigned n = 0; n < ARRAY_SIZE(cmds); n++) {
            cmds[n][0] = n == rows[i].bad ? 0 : 0x13;
            cmds[n][1] = n == rows[i].tlbi ? iova(E_DATA) : iova(256);
        }
        is(call(w->fd, IOMMU_HWPT_INVALIDATE, &arg), -EIO,
           "%zu commands, number %u is illegal", ARRAY_SIZE(cmds), rows[i].bad);
        is(arg.entry_num, rows[i].bad, "  entry_num");
        snprintf(want, sizeof(want), "page %u", rows[i].issued);
        is_text(write_to(iova(E_DATA)), want,
                "DMA, if number %u of them was to tell of the change",
                rows[i].tlbi);
    }
    command(w, 0x10, 0);
    is_text(write_to(iova(E_DATA)), "page 1", "DMA after TLBI_NH_ALL");
}

static void translated(World *w)
{
    uint32_t translate, abort, bypass;

    need(nested_alloc(w, STE0, STE1, &translate), "a HWPT that translates");
    need(nested_alloc(w, 1, 0, &abort), "a HWPT that aborts");
    need(nested_alloc(w, 1 | 4 << 1, 0, &bypass), "a HWPT that bypasses");

    is(attach(w, translate), 0, "Replace stage 2 by both stages");
    is(nvme_start(&nvme, iova(E_SQ), iova(E_CQ)), 1,
       "The controller starts behind both");
    is_text(write_to(iova(E_DATA)), "page 0", "DMA through both");
    is_text(write_to(ipa(P_DATA)), "nowhere", "DMA to an IPA");
    invalidations(w);
    cut(w);
    is(map(w, P_FAR, 1, FAR), 0, "IOAS_MAP of a page that stage 1 leads to");
    is_text(write_to(iova(E_FAR)), "page 47", "DMA to it");
    is(unmap(w, FAR, PAGE), 0, "IOAS_UNMAP of that");
    is_text(write_to(iova(E_FAR)), "nowhere", "DMA to it after the unmap");
    is(attach(w, bypass), 0, "Replace translation by bypass");
    is(nvme_start(&nvme, ipa(P_SQ), ipa(P_CQ)), 1,
       "The controller starts behind bypass");
    is_text(write_to(ipa(P_DATA + 3)), "page 3", "DMA to an IPA");
    is(attach(w, abort), 0, "Replace bypass by abort");
    is_text(write_to(ipa(P_DATA + 3)), "no answer", "DMA behind abort");
    is(attach(w, translate), 0, "Replace abort by translation");
    is(nvme_start(&nvme, iova(E_SQ), iova(E_CQ)), 1,
       "The controller starts again");
    is_text(write_to(iova(E_FAR)), "nowhere", "DMA to an unmapped IOVA");
    is(detach(w), 0, "Detach");
    is_text(write_to(iova(E_DATA)), "no answer", "DMA of a detached device");
    is(attach(w, translate), 0, "Attach again");
    is(nvme_start(&nvme, iova(E_SQ), iova(E_CQ)), 1,
       "The controller starts again");
    is(destroy(w->fd, abort), 0, "DESTROY of the abort");
    is(destroy(w->fd, bypass), 0, "DESTROY of the bypass");
}

static World dma_world_of(World w)
{
    memset(memory, 0, PAGES * PAGE);
    make_tables();
    need(map(&w, 0, P_FAR, IPA), "the guest's memory");
    nvme = (Nvme) {
        .dev = w.dev,
        .sq = (uint8_t *)page(P_SQ),
        .cq = (uint8_t *)page(P_CQ),
    };
    return w;
}

static World dma_world(void)
{
    World w = world_open();

    world_nest(&w);
    return dma_world_of(w);
}

/* As invalidations(), by a command queue that the VM owns */
static void through_a_queue(void)
{
    const uint64_t at = iova(E_DATA), asid = 1ull << 48;
    const struct {
        const char *name;
        uint64_t word0, word1;
    } rows[] = {
        { "TLBI_NH_VA", 0x12 | asid, at },
        { "TLBI_NH_VA for last level entries", 0x12 | asid, at | 1 },
        { "TLBI_NH_ASID", 0x11 | asid, 0 },
        { "TLBI_NH_VA with a VMID from the guest", 0x12 | asid | 7ull << 32,
          at },
        { "TLBI_NH_ASID with one", 0x11 | asid | 7ull << 32, 0 },
        { "TLBI_NH_VA of a range of 4 pages", 0x12 | asid | 3 << 12,
          iova(0) | 1 << 10 },
    };
    World w = world_open();
    uint32_t translate;
    uint8_t *page0;
    char want[64];
    Vcmdq queue;

    if (!w.cmdqv) {
        world_close(&w);
        return;
    }
    need(cmdqv_alloc(&w), "a VINTF");
    need(vdevice_alloc(&w, VSID, &w.vdev), "a vDEVICE");
    w = dma_world_of(w);
    page0 = cmdqv_map(&w);
    need(page0 ? 0 : -ENOMEM, "page 0");
    need(vcmdq_open(&w, page0, 0, page(P_QUEUE), ipa(P_QUEUE), &queue),
         "a queue");
    need(nested_alloc(&w, STE0, STE1, &translate), "a HWPT that translates");
    is(attach(&w, translate), 0, "Attach to a nested HWPT of a VINTF");
    is(nvme_start(&nvme, iova(E_SQ), iova(E_CQ)), 1, "The controller starts");
    is_text(write_to(at), "page 0", "DMA through both stages");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        page(P_L3)[E_DATA] = ipa(P_DATA + 1 + i) | PTE_PAGE;
        is(vcmdq_run(&queue, rows[i].word0, rows[i].word1), 0,
           "%s in the VM's queue", rows[i].name);
        is(vcmdq_run(&queue, VCMDQ_SYNC, 0), 0, "  and CMD_SYNC");
        snprintf(want, sizeof(want), "page %u", 1 + i);
        is_text(write_to(at), want, "  DMA then");
    }
    munmap(page0, VINTF_PAGE0);
    world_close(&w);
}

/*
 * Events
 */

static long veventq(World *w, uint32_t depth, int *fd, uint32_t *id)
{
    struct iommu_veventq_alloc arg = {
        .size = sizeof(arg),
        .viommu_id = w->viommu,
        .type = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
        .veventq_depth = depth,
    };
    long ret = call(w->fd, IOMMU_VEVENTQ_ALLOC, &arg);

    *fd = arg.out_veventq_fd;
    *id = arg.out_veventq_id;
    if (!ret) {
        fcntl(*fd, F_SETFL, O_NONBLOCK);
    }
    return ret;
}

/* All that there is to read, each record as "sequence: event" */
static const char *events(int fd, size_t room)
{
    static char text[1000];
    uint64_t buf[64];
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    char *at = text;
    ssize_t len;

    /* The host reads its event queue a little later. */
    *text = '\0';
    if (poll(&pfd, 1, 200) > 0) {
        usleep(50000);
    }
    len = read(fd, buf, room);
    if (len < 0) {
        return result_name(-errno);
    }
    for (uint64_t *p = buf; (uint8_t *)p < (uint8_t *)buf + len; ) {
        struct iommufd_vevent_header *header = (void *)p++;

        at += sprintf(at, "%s%u", at == text ? "" : ", ", header->sequence);
        if (header->flags & IOMMU_VEVENTQ_FLAG_LOST_EVENTS) {
            at += sprintf(at, ": lost");
            continue;
        }
        /* Type, StreamID, read or write, and address */
        at += sprintf(at, ": %02x of %x %s %llx", (unsigned)(p[0] & 0xff),
                      (unsigned)(p[0] >> 32),
                      p[1] >> 35 & 1 ? "reading" : "writing",
                      (unsigned long long)p[2]);
        p += 4;
    }
    return at == text ? "none" : text;
}

static void faults(World *w)
{
    uint32_t translate, abort, queue, small;
    int fd;

    need(nested_alloc(w, STE0, STE1, &translate), "a HWPT that translates");
    need(nested_alloc(w, 1, 0, &abort), "a HWPT that aborts");
    need(veventq(w, 16, &fd, &queue), "a VEVENTQ");
    need(attach(w, translate), "attaching");
    is(nvme_start(&nvme, iova(E_SQ), iova(E_CQ)), 1, "The controller starts");
    is_text(events(fd, 512), "none", "Events before any fault");
    write_to(iova(E_NONE));
    is_text(events(fd, 512), "0: 10 of 42 writing 40003000",
            "Events after DMA to what stage 1 does not map");
    is_text(events(fd, 512), "none", "Events then");
    write_to(iova(E_READONLY));
    is_text(events(fd, 512), "1: 13 of 42 writing 40004000",
            "Events after DMA to a read-only page");
    write_to(iova(E_OLD));
    is_text(events(fd, 512), "2: 12 of 42 writing 40005000",
            "Events after DMA to a page without access flag");
    write_to(iova(E_FAR));
    is_text(events(fd, 512), "none",
            "Events after DMA to what stage 2 does not map");
    write_to(1ull << 40);
    is_text(events(fd, 512), "3: 10 of 42 writing 10000000000",
            "Events after DMA beyond stage 1's input");
    write_to(iova(E_NONE));
    write_to(iova(E_NONE) + PAGE * 64);
    is_text(events(fd, 8), "EINVAL", "Events with room for a header");
    is_text(events(fd, 79), "4: 10 of 42 writing 40003000",
            "Events with room for one");
    is_text(events(fd, 40), "5: 10 of 42 writing 40043000",
            "Events with room for the next");

    need(attach(w, abort), "attaching");
    write_to(iova(E_NONE));
    is_text(events(fd, 512), "none", "Events behind abort");
    close(fd);
    destroy(w->fd, queue);

    need(veventq(w, 2, &fd, &small), "a VEVENTQ for two");
    need(attach(w, translate), "attaching");
    is(nvme_start(&nvme, iova(E_SQ), iova(E_CQ)), 1, "The controller starts");
    for (unsigned i = 0; i < 5; i++) {
        write_to(iova(64 + i));
    }
    is_text(events(fd, 512), "0: 10 of 42 writing 40040000, "
            "1: 10 of 42 writing 40041000, 4: lost",
            "Events of five that go to a queue for two");
    write_to(iova(70));
    is_text(events(fd, 512), "5: 10 of 42 writing 40046000",
            "Events after those");
    for (unsigned i = 0; i < 3; i++) {
        write_to(iova(80 + i));
    }
    is_text(events(fd, 40), "6: 10 of 42 writing 40050000",
            "Events of three, with room for one");
    write_to(iova(90));
    is_text(events(fd, 512), "7: 10 of 42 writing 40051000, "
            "9: 10 of 42 writing 4005a000", "Events of the rest and one more");
    page(P_CD)[0] &= ~(1ull << 31);
    command(w, 0x05 | (uint64_t)VSID << 32, 1);
    write_to(iova(E_DATA));
    is_text(events(fd, 40), "10: 0a of 42 writing 0",
            "Events after DMA with a CD that is not valid");
    close(fd);
    set_cd(P_L1, 1);
}

/* How often a write raised its interrupt */
static long fired(int fd, uint64_t to)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    uint64_t n = 0;

    write_to(to);
    if (poll(&pfd, 1, 200) > 0 && read(fd, &n, sizeof(n)) < 0) {
        return -errno;
    }
    return n;
}

/* The doorbell is an IOVA too: with stage 2 alone, and with both stages. */
static void msix(World *w)
{
    struct {
        struct vfio_irq_set set;
        int32_t fd;
    } irq = {
        .set = {
            .argsz = sizeof(irq),
            .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
            .index = VFIO_PCI_MSIX_IRQ_INDEX,
            .count = 1,
        },
        .fd = eventfd(0, 0),
    };
    uint32_t translate, queue;
    int fd;

    need(nested_alloc(w, STE0, STE1, &translate), "a HWPT that translates");
    need(veventq(w, 16, &fd, &queue), "a VEVENTQ");
    need(attach(w, w->parent), "attaching");
    is(call(w->dev, VFIO_DEVICE_SET_IRQS, &irq), 0, "MSI-X for the controller");
    is(nvme_start(&nvme, ipa(P_SQ), ipa(P_CQ)), 1, "The controller starts");
    is(fired(irq.fd, ipa(P_DATA)), 1, "MSI-X through stage 2");
    need(attach(w, translate), "attaching");
    is(nvme_start(&nvme, iova(E_SQ), iova(E_CQ)), 1,
       "The controller starts behind both");
    is(fired(irq.fd, iova(E_DATA)), 0,
       "MSI-X while stage 1 does not map the doorbell");
    is_text(events(fd, 512), "0: 10 of 42 writing 8000040", "  and events");
    page(P_MSI)[64] = 0x8000000 | PTE_DEVICE;
    page(P_L1)[0] = ipa(P_MSI) | PTE_TABLE;
    command(w, 0x10, 0);
    is(fired(irq.fd, iova(E_DATA)), 1, "MSI-X while it does");
    is_text(events(fd, 512), "none", "  and events");
    need(attach(w, w->parent), "attaching");
    is(nvme_start(&nvme, ipa(P_SQ), ipa(P_CQ)), 1,
       "The controller starts behind stage 2");
    is(fired(irq.fd, ipa(P_DATA)), 1, "MSI-X through stage 2 again");
    close(irq.fd);
    close(fd);
}

void test_dma(void)
{
    World w = world_open();
    bool is_nvme = nvme_is(w.dev);

    world_close(&w);
    if (!is_nvme) {
        return;
    }
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    w = dma_world();
    stage2(&w);
    translated(&w);
    world_close(&w);
    w = dma_world();
    faults(&w);
    world_close(&w);
    w = dma_world();
    msix(&w);
    world_close(&w);
    through_a_queue();
}
