/*
 * Tests of the host model as a whole: SubstreamIDs and ATS
 *
 * A program of the uapi on the model, with the machine of test-ats.ini.  The
 * nested bed's SMMU has neither, so that no kernel can confirm these points.
 *
 *   test-ats SOCKET      the control socket that the model was started with
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "dma.h"
#include "test-uapi.h"

#define PAGE        4096ull
#define MiB         (1ull << 20)
#define IPA         0x80000000ull
#define RAM_SIZE    (32 * MiB)
#define VSID        0x42ull
#define IOVA        0x40000000ull       /* 2 MiB of pages at their index */
#define NONE        UINT32_MAX          /* no SubstreamID */

/*
 * The device and its objects
 */

typedef struct World {
    int fd, dev;
    uint32_t dev_id, ioas, parent, viommu, vdev, hwpt, veventq;
    int events;
} World;

static uint8_t *ram;
static int next_fd = 100;

static World world_bind(int dev)
{
    World w = { .dev = dev };
    struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
    uint16_t on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    w.fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    need(w.fd < 0 ? -errno : 0, "/dev/iommu");
    bind.iommufd = w.fd;
    need(call(dev, VFIO_DEVICE_BIND_IOMMUFD, &bind), "bind");
    w.dev_id = bind.out_devid;
    need(pwrite(dev, &on, 2, (7ull << 40) + PCI_COMMAND), "bus master");
    return w;
}

static long hwpt_alloc(World *w, uint32_t pt, uint32_t flags, uint64_t *ste,
                       uint32_t *id)
{
    struct iommu_hwpt_alloc arg = {
        .size = sizeof(arg), .flags = flags, .dev_id = w->dev_id, .pt_id = pt,
        .data_type = ste ? IOMMU_HWPT_DATA_ARM_SMMUV3 : IOMMU_HWPT_DATA_NONE,
        .data_len = ste ? 16 : 0, .data_uptr = (uintptr_t)ste,
    };
    long ret = call(w->fd, IOMMU_HWPT_ALLOC, &arg);

    *id = arg.out_hwpt_id;
    return ret;
}

static long destroy(World *w, uint32_t id)
{
    struct iommu_destroy arg = { .size = sizeof(arg), .id = id };

    return call(w->fd, IOMMU_DESTROY, &arg);
}

static long attach(World *w, uint32_t pt, uint32_t pasid)
{
    struct vfio_device_attach_iommufd_pt arg = {
        .argsz = sizeof(arg), .pt_id = pt, .pasid = pasid,
        .flags = pasid == NONE ? 0 : VFIO_DEVICE_ATTACH_PASID,
    };

    return call(w->dev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &arg);
}

static World world_open(int dev)
{
    World w = world_bind(dev);
    struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
    struct iommu_ioas_map map = {
        .size = sizeof(map), .user_va = (uintptr_t)ram, .length = RAM_SIZE,
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
        .iova = IPA,
    };
    struct iommu_viommu_alloc viommu = {
        .size = sizeof(viommu), .type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
        .dev_id = w.dev_id,
    };
    struct iommu_vdevice_alloc vdev = {
        .size = sizeof(vdev), .dev_id = w.dev_id, .virt_id = VSID,
    };
    struct iommu_veventq_alloc queue = {
        .size = sizeof(queue), .type = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
        .veventq_depth = 64,
    };

    need(call(w.fd, IOMMU_IOAS_ALLOC, &ioas), "IOAS");
    map.ioas_id = w.ioas = ioas.out_ioas_id;
    need(call(w.fd, IOMMU_IOAS_MAP, &map), "map");
    need(hwpt_alloc(&w, w.ioas, IOMMU_HWPT_ALLOC_NEST_PARENT, NULL, &w.parent),
         "parent");
    viommu.hwpt_id = w.parent;
    need(call(w.fd, IOMMU_VIOMMU_ALLOC, &viommu), "vIOMMU");
    vdev.viommu_id = queue.viommu_id = w.viommu = viommu.out_viommu_id;
    need(call(w.fd, IOMMU_VDEVICE_ALLOC, &vdev), "vDEVICE");
    w.vdev = vdev.out_vdevice_id;
    need(call(w.fd, IOMMU_VEVENTQ_ALLOC, &queue), "vEVENTQ");
    w.events = queue.out_veventq_fd;
    fcntl(w.events, F_SETFL, O_NONBLOCK);
    return w;
}

static void world_close(World *w)
{
    close(w->events);
    close(w->dev);
    close(w->fd);
}

/* Take one event: its words 0 and 1.  False if there is none. */
static bool event(World *w, uint64_t *words)
{
    struct {
        struct iommufd_vevent_header header;
        uint64_t event[4];
    } record;

    if (read(w->events, &record, sizeof(record)) != sizeof(record)) {
        return false;
    }
    memcpy(words, record.event, 16);
    return true;
}

/* Returns the error, or 0; *done is entry_num. */
static long invalidate(World *w, uint64_t (*cmds)[2], uint32_t n,
                       uint32_t *done)
{
    struct iommu_hwpt_invalidate arg = {
        .size = sizeof(arg), .hwpt_id = w->viommu, .entry_len = 16,
        .data_type = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
        .data_uptr = (uintptr_t)cmds, .entry_num = n,
    };
    long ret = call(w->fd, IOMMU_HWPT_INVALIDATE, &arg);

    if (done) {
        *done = arg.entry_num;
    }
    return ret;
}

static long command(World *w, uint64_t word0, uint64_t word1)
{
    uint64_t cmd[1][2] = { { word0, word1 } };

    return invalidate(w, cmd, 1, NULL);
}

#define CFGI_CD         (5 | VSID << 32)
#define CFGI_CD_ALL     (6 | VSID << 32)
#define NH_ALL          0x10
#define NH_ASID(n)      (0x11 | (uint64_t)(n) << 48)
#define ATC_INV         (0x40 | VSID << 32)
#define SSID(n)         ((uint64_t)(n) << 12)
#define SSV             (1ull << 11)
#define GLOBAL          (1ull << 9)

/* A nested HWPT of this STE takes the place of the device's */
static long set_ste(World *w, uint64_t word0, uint64_t word1)
{
    uint64_t ste[2] = { word0, word1 };
    uint32_t old = w->hwpt, id;
    long ret = hwpt_alloc(w, w->viommu, 0, ste, &id);

    if (ret) {
        return ret;
    }
    ret = attach(w, id, NONE);
    if (ret) {
        destroy(w, id);
        return ret;
    }
    w->hwpt = id;
    if (old) {
        need(destroy(w, old), "destroy");
    }
    return 0;
}

/*
 * The guest's memory.  Page n of IOVA, in the space of SSID s, is a page of its
 * own, which begins with the word that tag() gives.
 */

enum { CONFIG_ABORT, CONFIG_BYPASS = 4, CONFIG_S1 };
enum { TERMINATE, BYPASS, SSID0, RESERVED };
enum { LINEAR, FMT_4K, FMT_64K };

#define SPACES      12                  /* SSIDs with tables */
#define SPACE_PAGES 4
#define CD_TABLE    (4 * MiB)           /* offsets in RAM */
#define L1CDS       (1 * MiB)
#define DATA        (8 * MiB)
#define TABLES      (16 * MiB)
#define PTE         (3ull | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11)
#define PTE_RO      (1ull << 7)
#define EATS        (1ull << 28)

static uint64_t *at(uint64_t offset)
{
    return (uint64_t *)(ram + offset);
}

static uint64_t tag(unsigned space, unsigned n)
{
    return 0x1000 + space * 0x100 + n;
}

static uint64_t data(unsigned space, unsigned n)
{
    return DATA + (space * SPACE_PAGES + n) * PAGE;
}

static uint64_t *pte(unsigned space, unsigned n)
{
    return at(TABLES + space * 4 * PAGE + 2 * PAGE) + n;
}

static void make_space(unsigned space)
{
    uint64_t l1 = TABLES + space * 4 * PAGE;

    *(at(l1) + (IOVA >> 30)) = IPA + l1 + PAGE + 3;
    *(at(l1) + 512 + (IOVA >> 21) % 512) = IPA + l1 + 2 * PAGE + 3;
    for (unsigned n = 0; n < SPACE_PAGES; n++) {
        *pte(space, n) = (IPA + data(space, n)) | PTE;
        *at(data(space, n)) = tag(space, n);
    }
}

static void write_cd(uint64_t *cd, unsigned space, unsigned asid)
{
    cd[1] = IPA + TABLES + space * 4 * PAGE;
    cd[0] = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 30 | 1ull << 31 |
            5ull << 32 | 1ull << 41 | 1ull << 45 | 1ull << 46 |
            (uint64_t)asid << 48;
}

/* The CD of @ssid; makes the way to it */
static uint64_t *cd(unsigned fmt, uint32_t ssid)
{
    unsigned span = fmt == FMT_4K ? 6 : 10;
    uint64_t leaf = CD_TABLE + (uint64_t)(ssid >> span) * (64 << span);

    if (fmt == LINEAR) {
        return at(CD_TABLE + 64ull * ssid);
    }
    *(at(L1CDS) + (ssid >> span)) = (IPA + leaf) | 1;
    return at(leaf + 64 * (ssid & ((1 << span) - 1)));
}

static uint64_t ste0(unsigned fmt, unsigned cdmax)
{
    return 1 | CONFIG_S1 << 1 | fmt << 4 |
           (IPA + (fmt == LINEAR ? CD_TABLE : L1CDS)) | (uint64_t)cdmax << 59;
}

static void make_ram(void)
{
    memset(ram, 0, RAM_SIZE);
    for (unsigned space = 0; space < SPACES; space++) {
        make_space(space);
    }
}

/*
 * The device does something: "dma" of the control socket.  Returns the word
 * that was read; -1 after a fault, -2 if the device cannot do it.
 */
static int64_t dma(const char *op, uint32_t ssid, uint64_t iova,
                   const char *options)
{
    char text[32] = "";
    const char *answer;

    if (ssid != NONE) {
        snprintf(text, sizeof(text), " ssid=%u", ssid);
    }
    answer = control("dma dev0 %s 0x%" PRIx64 "%s%s", op, iova, text, options);
    return strstr(answer, "\"ok\"") ? value_of(answer, "value") :
           strstr(answer, "\"fault\"") ? -1 : -2;
}

static int64_t reads(uint32_t ssid, unsigned n)
{
    return dma("read", ssid, IOVA + n * PAGE, "");
}

static unsigned entries(void)
{
    return value_of(control("atc dev0"), "entries");
}

static bool ats_on(World *w)
{
    uint16_t ctrl = 0;

    need(pread(w->dev, &ctrl, 2, (7ull << 40) + 0xffe), "configuration");
    return ctrl & PCI_ATS_CTRL_ENABLE;
}

/*
 * What the host says of its devices
 */

static void test_hw_info(void)
{
    enum { NO_ATS = IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
           EXEC = IOMMU_HW_CAP_PCI_PASID_EXEC,
           PRIV = IOMMU_HW_CAP_PCI_PASID_PRIV };
    static const struct {
        int fd;
        unsigned bits;
        uint64_t capabilities;
        uint16_t ats_control;           /* of its ATS capability; 0: none */
        uint16_t at;
    } rows[] = {
        { 142, 20, EXEC | PRIV, 0, 0xff8 },
        /* Firmware says that the root complex has no ATS */
        { 120, 16, NO_ATS, 0, 0x100 },
        /* One SubstreamID, and so PASID 0 only, but Exec is enabled */
        { 121, 0, EXEC, 0, 0x100 },
        { 122, 8, NO_ATS | PRIV, 0, 0x100 },
        { 123, 0, NO_ATS, 0, 0 },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        World w = world_bind(rows[i].fd);
        struct iommu_hw_info_arm_smmuv3 info;
        struct iommu_hw_info hw = {
            .size = sizeof(hw), .dev_id = w.dev_id, .data_len = sizeof(info),
            .data_uptr = (uintptr_t)&info,
        };
        uint32_t cap = 0;

        need(call(w.fd, IOMMU_GET_HW_INFO, &hw), "IOMMU_GET_HW_INFO");
        is(hw.out_max_pasid_log2, rows[i].bits, "PASID bits of fd %d",
           rows[i].fd);
        is(hw.out_capabilities, rows[i].capabilities, "capabilities of fd %d",
           rows[i].fd);
        if (rows[i].at) {
            need(pread(w.dev, &cap, 4, (7ull << 40) + rows[i].at), "pread");
        }
        is(cap, rows[i].at ? 0x1000f : 0, "ATS capability of fd %d",
           rows[i].fd);
        close(w.dev);
        close(w.fd);
    }
}

/* [smmu fields] has a key for each field, with another value than minimal. */
static void test_fields(void)
{
    static const uint32_t want[6] = {
        /* The last two are COHACC and TTENDIAN. */
        [0] = 1 | 1 << 1 | 2 << 2 | 2 << 6 | 1 << 9 | 1 << 10 | 1 << 12 |
              1 << 13 | 1 << 16 | 1 << 18 | 1 << 19 | 2 << 24 | 1 << 4 |
              2 << 21,
        [1] = 17 | 5 << 6 | 9 << 11 | 10 << 16 | 11 << 21,
        [3] = 1 << 2 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11,
        [5] = 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10,
    };
    World w = world_bind(124);
    struct iommu_hw_info_arm_smmuv3 info = {};
    struct iommu_hw_info hw = {
        .size = sizeof(hw), .dev_id = w.dev_id, .data_len = sizeof(info),
        .data_uptr = (uintptr_t)&info,
    };

    need(call(w.fd, IOMMU_GET_HW_INFO, &hw), "IOMMU_GET_HW_INFO");
    for (unsigned i = 0; i < 6; i++) {
        is(info.idr[i], want[i], "IDR%u", i);
    }
    close(w.dev);
    close(w.fd);
}

/* A PASID that the host itself attaches */
static void test_host_pasids(void)
{
    static const struct {
        int fd;
        uint32_t pasid;
        long ret;
    } rows[] = {
        { 140, 0xfffff, 0 }, { 140, 0x100000, -EINVAL },
        /* Without two levels of CDs, 10 bits; but more are announced. */
        { 130, 1023, 0 }, { 130, 1024, -ENOMEM }, { 130, 65535, -ENOMEM },
        { 130, 65536, -EINVAL }, { 131, 1, -EINVAL },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        static World w;
        static uint32_t hwpt;
        struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };

        if (!i || rows[i].fd != rows[i - 1].fd) {
            w = world_bind(rows[i].fd);
            need(call(w.fd, IOMMU_IOAS_ALLOC, &ioas), "IOAS");
            need(hwpt_alloc(&w, ioas.out_ioas_id, IOMMU_HWPT_ALLOC_PASID, NULL,
                            &hwpt), "HWPT");
        }
        is(attach(&w, hwpt, rows[i].pasid), rows[i].ret,
           "attaching PASID 0x%x of fd %d", rows[i].pasid, rows[i].fd);
    }
}

/*
 * The kernel and ATS
 */

static void test_enable(void)
{
    World w = world_open(next_fd++);
    static const struct {
        const char *name;
        uint64_t word0, word1;
        bool on;
    } rows[] = {
        { "EATS", 0, EATS, true },
        { "no EATS", 0, 0, false },
        { "EATS again", 0, EATS, true },
        { "bypass without EATS", 1 | CONFIG_BYPASS << 1, 0, true },
        /* The kernel looks at EATS only if there is a stage 1. */
        { "abort", 1 | CONFIG_ABORT << 1, 0, true },
        { "no EATS behind abort", 0, 0, false },
        { "bypass with EATS", 1 | CONFIG_BYPASS << 1, EATS, true },
        { "V=0", 2 << 1, EATS, true },
        { "EATS at last", 0, EATS, true },
    };
    uint64_t bad[2] = { ste0(LINEAR, 3), 0 };
    uint32_t id;

    make_ram();
    write_cd(cd(LINEAR, 0), 0, 1);
    is(ats_on(&w), false, "ATS of a device that is bound");
    need(attach(&w, w.parent, NONE), "attach");
    is(ats_on(&w), true, "ATS with stage 2 alone");
    for (unsigned i = 0; i < N(rows); i++) {
        dma("ats", NONE, IPA + DATA, "");
        need(set_ste(&w, rows[i].word0 ?: ste0(LINEAR, 0), rows[i].word1),
             "attach");
        is(ats_on(&w), rows[i].on, "ATS with %s", rows[i].name);
        is(entries(), 0, "the ATC after %s", rows[i].name);
        if (rows[i].word0 == (1 | CONFIG_ABORT << 1)) {
            point(strstr(control("dma dev0 ats 0x%llx", IPA), "\"ur\""),
                  "a request while the STE says abort");
        }
        if (rows[i].on && !rows[i].word0) {
            is(dma("read", NONE, IOVA, " atc"), tag(0, 0), "DMA with %s",
               rows[i].name);
        }
    }
    for (unsigned eats = 2; eats < 4; eats++) {
        bad[1] = (uint64_t)eats << 28;
        is(hwpt_alloc(&w, w.viommu, 0, bad, &id), -EIO, "EATS=%u", eats);
    }
    /* A reset takes the ATC's entries, and Linux enables ATS again. */
    need(call(w.dev, VFIO_DEVICE_RESET, NULL), "reset");
    is(ats_on(&w), true, "ATS after a reset");
    is(entries(), 0, "the ATC after a reset");
    world_close(&w);
    w = world_bind(next_fd++);
    is(ats_on(&w), false, "ATS of a device that was closed");
    close(w.dev);
    close(w.fd);
}

/* Where a nesting parent changes, the kernel flushes all of the ATCs. */
static void test_unmap(void)
{
    World w = world_open(next_fd++);
    struct iommu_ioas_map map = {
        .size = sizeof(map), .user_va = (uintptr_t)ram, .length = PAGE,
        .ioas_id = w.ioas, .iova = IPA + RAM_SIZE,
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
    };
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap), .ioas_id = w.ioas, .iova = IPA + RAM_SIZE,
        .length = PAGE,
    };
    uint64_t invs;

    make_ram();
    write_cd(cd(LINEAR, 0), 0, 1);
    write_cd(cd(LINEAR, 5), 5, 6);
    for (unsigned ats = 0; ats < 2; ats++) {
        need(set_ste(&w, ste0(LINEAR, 3), SSID0 | (ats ? EATS : 0)), "STE");
        dma("ats", 5, IOVA, "");
        is(entries(), ats, "the ATC");
        map.iova = IPA + RAM_SIZE;
        need(call(w.fd, IOMMU_IOAS_MAP, &map), "map");
        invs = counter("smmu.cmd.ATC_INV");
        unmap.length = PAGE;
        need(call(w.fd, IOMMU_IOAS_UNMAP, &unmap), "unmap");
        is(counter("smmu.cmd.ATC_INV") - invs, ats, "ATC_INVs");
        is(entries(), 0, "the ATC after a page of stage 2 went");
    }
    world_close(&w);
}

/* PASIDs of the host and nesting exclude each other. */
static void test_exclusive(void)
{
    World w = world_open(next_fd++);
    uint64_t ste[2] = { ste0(LINEAR, 3), SSID0 };
    struct vfio_device_detach_iommufd_pt detach = {
        .argsz = sizeof(detach), .flags = VFIO_DEVICE_DETACH_PASID, .pasid = 5,
    };
    struct vfio_device_detach_iommufd_pt none = { .argsz = sizeof(none) };
    uint32_t id, pasids;

    make_ram();
    is(hwpt_alloc(&w, w.viommu, IOMMU_HWPT_ALLOC_PASID, ste, &id), -EOPNOTSUPP,
       "a nested HWPT for PASIDs");
    is(hwpt_alloc(&w, w.ioas, IOMMU_HWPT_ALLOC_PASID |
                  IOMMU_HWPT_ALLOC_NEST_PARENT, NULL, &id), -EOPNOTSUPP,
       "a nesting parent for PASIDs");
    need(hwpt_alloc(&w, w.ioas, IOMMU_HWPT_ALLOC_PASID, NULL, &pasids),
         "a HWPT for PASIDs");
    is(attach(&w, pasids, 5), 0, "attaching PASID 5");
    is(ats_on(&w), true, "ATS with a PASID, and the device itself blocked");
    is(attach(&w, pasids, NONE), 0, "attaching the device beside it");
    is(call(w.dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &none), 0, "detaching that");
    is(ats_on(&w), true, "ATS is needed by the PASID");
    is(set_ste(&w, ste0(LINEAR, 3), SSID0), -EINVAL, "attaching a nested HWPT");
    is(attach(&w, w.parent, NONE), -EINVAL, "attaching a nesting parent");
    is(call(w.dev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach), 0, "detaching");
    is(ats_on(&w), false, "ATS of a device that is blocked");
    is(set_ste(&w, ste0(LINEAR, 3), SSID0), 0, "attaching a nested HWPT now");
    is(attach(&w, pasids, 5), -EINVAL, "attaching PASID 5 beside it");
    world_close(&w);
}

/*
 * SubstreamIDs
 */

static void test_tables(void)
{
    static const struct {
        unsigned fmt, cdmax, shift;     /* SSIDs are 1 << shift apart */
    } rows[] = {
        { LINEAR, 4, 0 }, { LINEAR, 10, 6 }, { FMT_4K, 4, 0 },
        { FMT_4K, 12, 7 }, { FMT_64K, 4, 0 }, { FMT_64K, 12, 8 },
        { FMT_64K, 16, 12 },
    };

    for (unsigned i = 0; i < N(rows); i++) {
        World w = world_open(next_fd);
        uint64_t words[2];
        uint32_t ssid, past = 1u << rows[i].cdmax;

        next_fd++;
        make_ram();
        for (unsigned n = 0; n < 10; n++) {
            write_cd(cd(rows[i].fmt, n << rows[i].shift), n, n + 1);
        }
        need(set_ste(&w, ste0(rows[i].fmt, rows[i].cdmax), TERMINATE), "STE");
        for (unsigned n = 0; n < 10; n++) {
            ssid = n << rows[i].shift;
            is(reads(ssid, n % 4), tag(n, n % 4), "format %u, SSID 0x%x",
               rows[i].fmt, ssid);
        }
        /* A CD with V=0, and SSIDs beyond S1CDMax: events with the SSID */
        ssid = past - 1;
        cd(rows[i].fmt, ssid);
        is(reads(ssid, 0), -1, "a CD that is not valid");
        is(event(&w, words), true, "C_BAD_CD");
        is(words[0], 0x0a | SSV | SSID(ssid) | VSID << 32, "C_BAD_CD");
        is(reads(past, 0), -1, "SSID 0x%x with S1CDMax %u", past,
           rows[i].cdmax);
        is(event(&w, words), true, "C_BAD_SUBSTREAMID");
        is(words[0], 8 | SSV | SSID(past) | VSID << 32, "C_BAD_SUBSTREAMID");
        *pte(1, 0) = 0;
        ssid = 1 << rows[i].shift;
        command(&w, NH_ALL, 0);
        is(reads(ssid, 0), -1, "no page");
        is(event(&w, words), true, "F_TRANSLATION");
        is(words[0], 0x10 | SSV | SSID(ssid) | VSID << 32, "F_TRANSLATION");
        is(event(&w, words), false, "no more events");
        world_close(&w);
    }
}

static void test_s1dss(void)
{
    World w = world_open(next_fd++);
    static const struct {
        unsigned dss;
        uint32_t ssid;
        int64_t want;                   /* the tag of a space; or the event */
    } rows[] = {
        { TERMINATE, NONE, -6 }, { RESERVED, NONE, -6 }, { SSID0, NONE, 0 },
        { TERMINATE, 0, 0 }, { BYPASS, 0, 0 }, { SSID0, 0, -6 },
        { RESERVED, 0, 0 }, { SSID0, 3, 3 }, { BYPASS, 3, 3 },
    };
    uint64_t words[2];

    make_ram();
    for (unsigned n = 0; n < 8; n++) {
        write_cd(cd(FMT_64K, n), n, n + 1);
    }
    for (unsigned i = 0; i < N(rows); i++) {
        need(set_ste(&w, ste0(FMT_64K, 3), rows[i].dss), "STE");
        is(reads(rows[i].ssid, 0), rows[i].want < 0 ? -1
                                   : (int64_t)tag(rows[i].want, 0),
           "S1DSS %u, SSID 0x%x", rows[i].dss, rows[i].ssid);
        if (rows[i].want < 0) {
            is(event(&w, words), true, "an event");
            is(words[0], -rows[i].want | VSID << 32 |
               (rows[i].ssid == NONE ? 0 : SSV | SSID(rows[i].ssid)),
               "F_STREAM_DISABLED");
        }
    }
    need(set_ste(&w, ste0(FMT_64K, 3), BYPASS), "STE");
    is(dma("read", NONE, IPA + data(5, 1), ""), tag(5, 1), "S1DSS bypass");
    /* A stream without stage 1 has no SubstreamIDs. */
    need(set_ste(&w, 1 | CONFIG_BYPASS << 1, 0), "STE");
    is(reads(3, 0), -1, "an SSID in bypass");
    is(dma("read", NONE, IPA + data(5, 1), ""), tag(5, 1), "bypass");
    /* The device has 20 bits of PASID. */
    is(reads(0x100000, 0), -2, "a PASID that the device cannot send");
    world_close(&w);
}

/* What is cached of CDs and their translations stays until it is invalidated */
static void test_cfgi_cd(void)
{
    World w = world_open(next_fd++);
    static const struct {
        uint64_t word0, word1;
        bool cd, l1cd;                  /* drops the CD of SSID 5; its L1CD */
    } rows[] = {
        { CFGI_CD | SSID(5), 1, true, false },
        { CFGI_CD | SSID(5), 0, true, true },
        { CFGI_CD | SSID(6), 1, false, false },
        { CFGI_CD | SSID(6), 0, false, true },
        { CFGI_CD | SSID(1024 + 5), 0, false, false },
        { CFGI_CD, 1, false, false },
        { CFGI_CD_ALL, 0, true, true },
    };

    make_ram();
    need(set_ste(&w, ste0(FMT_64K, 12), TERMINATE), "STE");
    for (unsigned i = 0; i < N(rows); i++) {
        uint64_t stales;

        write_cd(cd(FMT_64K, 5), 5, 5);
        write_cd(at(CD_TABLE + 2 * MiB + 5 * 64), 7, 7);
        command(&w, CFGI_CD_ALL, 0);
        is(reads(5, 0), tag(5, 0), "SSID 5");
        stales = counter("smmu.stale");
        write_cd(cd(FMT_64K, 5), 6, 6);
        is(command(&w, rows[i].word0, rows[i].word1), 0, "row %u", i);
        is(reads(5, 0), tag(rows[i].cd ? 6 : 5, 0), "a new CD, row %u", i);
        is(counter("smmu.stale") - stales, !rows[i].cd, "stale, row %u", i);
        /* Another leaf table, with the CD dropped in any case */
        *(at(L1CDS)) = (IPA + CD_TABLE + 2 * MiB) | 1;
        command(&w, rows[i].word0, rows[i].word1);
        command(&w, CFGI_CD | SSID(5), 1);
        is(reads(5, 0), tag(rows[i].l1cd ? 7 : 6, 0), "a new L1CD, row %u", i);
    }
    is(command(&w, CFGI_CD | SSV | SSID(5), 1), -EIO, "CFGI_CD with SSV");
    /* TLB entries belong to an ASID, whatever SSID made them. */
    command(&w, CFGI_CD_ALL, 0);
    write_cd(cd(FMT_64K, 8), 8, 6);
    write_cd(cd(FMT_64K, 9), 9, 9);
    command(&w, CFGI_CD_ALL, 0);
    command(&w, NH_ALL, 0);
    is(reads(9, 0), tag(9, 0), "ASID 9");
    is(reads(8, 0), tag(8, 0), "ASID 6");
    *pte(9, 0) = *pte(9, 1);
    *pte(8, 0) = *pte(8, 1);
    command(&w, NH_ASID(6), 0);
    is(reads(8, 0), tag(8, 1), "NH_ASID");
    is(reads(9, 0), tag(9, 0), "NH_ASID of another");
    world_close(&w);
}

/* Every SSID of 2^16, with two levels of 64K */
static void test_many(void)
{
    World w = world_open(next_fd++);

    for (unsigned fmt = LINEAR; fmt <= FMT_64K; fmt++) {
        unsigned good = 0, step = fmt == FMT_64K ? 1 : 15, tries = 0;

        make_ram();
        for (unsigned n = 0; n < 1 << 16; n++) {
            write_cd(cd(fmt, n), n % SPACES, n);
        }
        need(set_ste(&w, ste0(fmt, 16), TERMINATE | EATS), "STE");
        command(&w, NH_ALL, 0);
        for (unsigned n = 0; n < 1 << 16; n += step, tries++) {
            good += dma("read", n, IOVA, n & 1 ? " atc" : "") ==
                    (int64_t)tag(n % SPACES, 0);
        }
        is(good, tries, "DMA with %u of 2^16 SSIDs, format %u", tries, fmt);
        is(entries(), tries / 2, "the ATC");
        is(command(&w, ATC_INV, 52), 0, "ATC_INV of all");
        is(entries(), 0, "the ATC after ATC_INV");
    }
    world_close(&w);
}

/*
 * A guest changes pages and CDs at random, and invalidates what it must, but
 * for @forgotten.  Returns how many hits were stale, or -1 if a byte was wrong
 * without that.
 */
enum { NOTHING, FORGET_CFGI, FORGET_TLBI, FORGET_ATC };

static void change(World *w, unsigned forgotten, uint32_t ssid,
                   unsigned *space, unsigned (*shows)[SPACE_PAGES])
{
    unsigned n = rand() % SPACE_PAGES;
    uint64_t cmds[4][2];
    unsigned c = 0;

    if (rand() % 4) {
        unsigned to = rand() % SPACE_PAGES;

        *pte(space[ssid], n) = (IPA + data(space[ssid], to)) | PTE;
        shows[space[ssid]][n] = to;
    } else {
        space[ssid] ^= 1;
        write_cd(cd(FMT_64K, ssid), space[ssid], ssid + 1);
        if (forgotten != FORGET_CFGI) {
            cmds[c][0] = CFGI_CD | SSID(ssid);
            cmds[c++][1] = 1;
        }
    }
    if (forgotten != FORGET_TLBI) {
        cmds[c][0] = NH_ASID(ssid + 1);
        cmds[c++][1] = 0;
    }
    if (c) {
        need(invalidate(w, cmds, c, NULL), "invalidate");
    }
    /* A TLBI and its CMD_SYNC come first (3.9.1). */
    if (forgotten != FORGET_ATC) {
        command(w, ATC_INV | (ssid ? SSV | SSID(ssid) : 0), 52);
    }
}

static int64_t random_run(World *w, unsigned forgotten)
{
    enum { SSIDS = SPACES / 2 };
    unsigned space[SSIDS], shows[SPACES][SPACE_PAGES];
    uint64_t stales = counter("smmu.stale");
    unsigned wrong = 0;

    make_ram();
    for (uint32_t ssid = 0; ssid < SSIDS; ssid++) {
        space[ssid] = 2 * ssid;
        write_cd(cd(FMT_64K, ssid), space[ssid], ssid + 1);
    }
    for (unsigned s = 0; s < SPACES; s++) {
        for (unsigned n = 0; n < SPACE_PAGES; n++) {
            shows[s][n] = n;
        }
    }
    need(set_ste(w, ste0(FMT_64K, 3), SSID0 | EATS), "STE");
    /* Linux sends no CFGI_STE if the STE does not change. */
    command(w, CFGI_CD_ALL, 0);
    command(w, NH_ALL, 0);
    srand(forgotten + 1);
    for (unsigned i = 0; i < 4000; i++) {
        uint32_t ssid = rand() % SSIDS;
        unsigned n = rand() % SPACE_PAGES;

        if (i % 4 == 3) {
            change(w, forgotten, ssid, space, shows);
        } else {
            wrong += dma("read", ssid ? ssid : NONE, IOVA + n * PAGE,
                         rand() & 1 ? " atc" : "") !=
                     (int64_t)tag(space[ssid], shows[space[ssid]][n]);
        }
    }
    stales = counter("smmu.stale") - stales;
    return wrong && !stales ? -1 : stales;
}

static void test_random(void)
{
    World w = world_open(next_fd++);
    uint64_t atc;

    is(random_run(&w, NOTHING), 0, "stale hits of a guest that is right");
    point(random_run(&w, FORGET_CFGI) > 0, "without CFGI_CD");
    point(random_run(&w, FORGET_TLBI) > 0, "without TLBI");
    atc = counter("atc.stale");
    is(random_run(&w, FORGET_ATC), counter("atc.stale") - atc,
       "without ATC_INV only the ATC is stale");
    point(counter("atc.stale") > atc, "and it is");
    world_close(&w);
}

/*
 * ATS
 */

/* Which requests get what */
static void test_requests(void)
{
    World w = world_open(next_fd++);
    static const struct {
        unsigned dss;
        uint32_t ssid;
        uint64_t iova;
        const char *op, *reply;
        unsigned prot, size;
    } rows[] = {
        { TERMINATE, 1, IOVA, "ats", "success", 3, 4096 },
        { TERMINATE, 1, IOVA + 0x567, "ats", "success", 3, 4096 },
        { TERMINATE, 1, IOVA + 2 * PAGE, "ats", "success", 1, 4096 },
        { TERMINATE, 1, IOVA + 2 * PAGE, "ats-write", "success", 1, 4096 },
        { TERMINATE, 1, IOVA + 3 * PAGE, "ats", "success", 0, 0 },
        { TERMINATE, 1, IOVA + 8 * PAGE, "ats", "success", 0, 0 },
        { TERMINATE, 1, IOVA + 2 * MiB, "ats", "success", 3, 2 * MiB },
        { TERMINATE, 1, IOVA + 3 * MiB, "ats", "success", 3, 1 * MiB },
        { TERMINATE, NONE, IOVA, "ats", "ca", 0, 0 },
        { TERMINATE, 8, IOVA, "ats", "ca", 0, 0 },
        { TERMINATE, 7, IOVA, "ats", "ca", 0, 0 },
        { SSID0, NONE, IOVA, "ats", "success", 3, 4096 },
        { SSID0, 0, IOVA, "ats", "ca", 0, 0 },
        { BYPASS, NONE, IPA + DATA, "ats", "success", 3, 0 },
    };
    uint64_t words[2];

    make_ram();
    for (unsigned n = 0; n < 7; n++) {
        write_cd(cd(LINEAR, n), n, n + 1);
    }
    *pte(1, 2) |= PTE_RO;
    *pte(1, 3) = 0;
    *(at(TABLES + 4 * PAGE) + 512 + (IOVA >> 21) % 512 + 1) =
        (IPA + 4 * MiB) | (PTE & ~2);
    for (unsigned i = 0; i < N(rows); i++) {
        const char *answer;
        char ssid[32] = "";

        need(set_ste(&w, ste0(LINEAR, 3), rows[i].dss | EATS), "STE");
        if (rows[i].ssid != NONE) {
            snprintf(ssid, sizeof(ssid), " ssid=%u", rows[i].ssid);
        }
        answer = control("dma dev0 %s 0x%" PRIx64 "%s", rows[i].op,
                         rows[i].iova, ssid);
        point(strstr(answer, rows[i].reply), "row %u: %s", i, rows[i].reply);
        is(value_of(answer, "prot"), rows[i].prot, "row %u: access", i);
        if (rows[i].dss != BYPASS) {
            is(value_of(answer, "size"), rows[i].size, "row %u: size", i);
        }
        is(entries(), rows[i].prot != 0, "row %u: the ATC", i);
        command(&w, ATC_INV, 52);
    }
    is(event(&w, words), false, "requests leave no event for a guest");
    /* Privileged pages: only with a PASID that the host lets have it */
    need(set_ste(&w, ste0(LINEAR, 3), SSID0 | EATS), "STE");
    *pte(2, 0) &= ~(1ull << 6);
    *pte(0, 0) &= ~(1ull << 6);
    command(&w, NH_ALL, 0);
    is(dma("read", 2, IOVA, ""), -1, "a privileged page");
    is(dma("read", 2, IOVA, " priv"), tag(2, 0), "a privileged access");
    is(dma("read", 2, IOVA, " priv atc"), tag(2, 0), "and through the ATC");
    is(dma("read", 2, IOVA, " atc"), -1, "an access that is not");
    is(dma("read", NONE, IOVA, " priv"), -1, "a privileged one without PASID");
    *pte(3, 0) |= 1ull << 54;
    is(dma("read", 3, IOVA, " exec"), -1, "a page that must not be executed");
    is(dma("read", 3, IOVA, ""), tag(3, 0), "but may be read");
    world_close(&w);
}

/* Translated transactions, and hits that are stale */
static void test_translated(void)
{
    World w = world_open(next_fd++);
    uint64_t stales, atc, words[2];

    make_ram();
    for (unsigned n = 0; n < 8; n++) {
        write_cd(cd(LINEAR, n), n, n + 1);
    }
    need(set_ste(&w, ste0(LINEAR, 3), SSID0 | EATS), "STE");
    stales = counter("smmu.stale");
    atc = counter("atc.stale");
    is(dma("translated-read", 3, IOVA, ""), -1, "nothing in the ATC");
    is(dma("ats", 3, IOVA, "") >= 0, true, "a request");
    is(dma("translated-read", 3, IOVA, ""), tag(3, 0), "a read");
    is(dma("translated-read", 4, IOVA, ""), -1, "another PASID");
    is(dma("translated-read", NONE, IOVA, ""), -1, "no PASID");
    is(dma("translated-write", 3, IOVA + 8, " value=0x1234") >= 0, true,
       "a write");
    is(*(at(data(3, 0)) + 1), 0x1234, "what was written");
    is(counter("smmu.stale") - stales, 0, "no stale hit");

    /* A guest changes a page, and forgets the ATC. */
    *pte(3, 0) = *pte(3, 1);
    command(&w, NH_ASID(4), 0);
    is(dma("translated-read", 3, IOVA, ""), tag(3, 0), "an old page");
    is(counter("smmu.stale") - stales, 1, "smmu.stale");
    is(counter("atc.stale") - atc, 1, "atc.stale");
    is(command(&w, ATC_INV | SSV | SSID(3), IOVA), 0, "ATC_INV");
    is(dma("read", 3, IOVA, " atc"), tag(3, 1), "the new page");
    /* Its permission goes: that is stale for a write only. */
    *pte(3, 0) |= PTE_RO;
    command(&w, NH_ASID(4), 0);
    is(dma("translated-read", 3, IOVA, ""), tag(3, 1), "a read");
    is(counter("atc.stale") - atc, 1, "is not stale");
    dma("translated-write", 3, IOVA + 8, "");
    is(counter("atc.stale") - atc, 2, "a write is stale");
    /* The CD goes. */
    *cd(LINEAR, 3) = 0;
    command(&w, CFGI_CD | SSID(3), 1);
    dma("translated-read", 3, IOVA, "");
    is(counter("atc.stale") - atc, 3, "a CD that is gone");

    /* The kernel turns ATS off: the device cannot ask, nor send. */
    need(set_ste(&w, ste0(LINEAR, 3), SSID0), "STE");
    point(strstr(control("dma dev0 ats 0x%llx ssid=4", IOVA), "none"),
          "a request while ATS is off");
    is(dma("read", 4, IOVA, " atc"), tag(4, 0), "DMA is as ever");
    is(entries(), 0, "and caches nothing");
    is(event(&w, words), false, "no event");
    world_close(&w);
}

/* Which entries an ATC_INV drops: PASID or none, pages 0 to 3 and a far one */
static void test_atc_inv(void)
{
    World w = world_open(next_fd++);
    enum { A = 1, B = 2, C = 4, D = 8, FAR = 16, NO_PASID = 32 };
    static const struct {
        uint64_t word0, word1;
        unsigned gone;
        long ret;
    } rows[] = {
        { ATC_INV | SSV | SSID(1), IOVA, A },
        { ATC_INV | SSV | SSID(1), IOVA + 0x3000, D },
        { ATC_INV | SSV | SSID(1), IOVA | 1, A | B },
        { ATC_INV | SSV | SSID(1), (IOVA + 0x1000) | 1, A | B },
        { ATC_INV | SSV | SSID(1), (IOVA + 0x2000) | 1, C | D },
        { ATC_INV | SSV | SSID(1), (IOVA + 0x3000) | 2, A | B | C | D },
        { ATC_INV | SSV | SSID(1), 18, 0 },
        { ATC_INV | SSV | SSID(1), 19, A | B | C | D | FAR },
        { ATC_INV | SSV | SSID(1), 51, A | B | C | D | FAR },
        { ATC_INV | SSV | SSID(1), 1ull << 63 | 51, 0 },
        { ATC_INV | SSV | SSID(1), 52, A | B | C | D | FAR },
        { ATC_INV | SSV | SSID(1), ~0xfffull | 52, A | B | C | D | FAR },
        { ATC_INV | SSV | SSID(1), 53, 0, -EIO },
        { ATC_INV | SSV | SSID(1), 63, 0, -EIO },
        { ATC_INV | SSV | SSID(2), 52, 0 },
        { ATC_INV | SSV | SSID(0), 52, 0 },
        { ATC_INV | SSV | GLOBAL, 52, A | B | C | D | FAR },
        { ATC_INV | SSV | GLOBAL | SSID(7), IOVA, A },
        /* Without SSV: SSID and G are ignored, and all PASIDs are hit. */
        { ATC_INV, IOVA, A | NO_PASID },
        { ATC_INV | GLOBAL | SSID(7), IOVA, A | NO_PASID },
        { ATC_INV, 52, A | B | C | D | FAR | NO_PASID },
        { ATC_INV, (IOVA + 0x1000), B },
        /* In the middle of a large entry */
        { ATC_INV | SSV | SSID(1), IOVA + 0x3ff000, FAR },
        { ATC_INV | SSV | SSID(1), IOVA + 0x400000, 0 },
        { ATC_INV | 1ull << 10, 52, 0, -EIO },
        { ATC_INV | SSV | SSID(1), 1 << 6, 0, -EIO },
        { ATC_INV ^ 1ull << 32, 52, 0, -EIO },
    };

    make_ram();
    write_cd(cd(LINEAR, 0), 0, 1);
    write_cd(cd(LINEAR, 1), 1, 2);
    *(at(TABLES + 4 * PAGE) + 512 + (IOVA >> 21) % 512 + 1) =
        (IPA + 4 * MiB) | (PTE & ~2);
    need(set_ste(&w, ste0(LINEAR, 3), SSID0 | EATS), "STE");
    for (unsigned i = 0; i < N(rows); i++) {
        unsigned gone = 0;

        control("atc dev0 forget");
        for (unsigned n = 0; n < 4; n++) {
            dma("ats", 1, IOVA + n * PAGE, "");
        }
        dma("ats", 1, IOVA + 2 * MiB, "");
        dma("ats", NONE, IOVA, "");
        is(entries(), 6, "row %u: the ATC", i);
        is(command(&w, rows[i].word0, rows[i].word1), rows[i].ret,
           "row %u: ATC_INV", i);
        for (unsigned n = 0; n < 4; n++) {
            gone |= dma("translated-read", 1, IOVA + n * PAGE, "") < 0 ? 1 << n
                                                                      : 0;
        }
        gone |= dma("translated-read", 1, IOVA + 2 * MiB, "") < 0 ? FAR : 0;
        gone |= dma("translated-read", NONE, IOVA, "") < 0 ? NO_PASID : 0;
        is(gone, rows[i].gone, "row %u: what is gone", i);
    }
    world_close(&w);
}

static void test_dead(void)
{
    World w = world_open(next_fd++);
    uint64_t cmds[3][2] = {
        { NH_ALL, 0 }, { ATC_INV, 52 }, { CFGI_CD_ALL, 0 },
    };
    uint32_t done;

    make_ram();
    write_cd(cd(LINEAR, 0), 0, 1);
    need(set_ste(&w, ste0(LINEAR, 0), EATS), "STE");
    dma("ats", NONE, IOVA, "");
    control("atc dev0 dead");
    is(reads(NONE, 1), tag(0, 1), "SSID 0");
    *pte(0, 1) = *pte(0, 2);
    is(invalidate(&w, cmds, 3, &done), -ETIMEDOUT, "an ATC_INV without answer");
    is(done, 2, "entry_num");
    is(entries(), 1, "the ATC keeps its entries");
    /* The others were done; those without an ATC_INV still can be. */
    is(reads(NONE, 1), tag(0, 2), "the TLBI");
    is(command(&w, NH_ALL, 0), 0, "a TLBI alone");
    /* The kernel does not see that: it ignores the time-out. */
    is(set_ste(&w, ste0(LINEAR, 0), 0), 0, "EATS off");
    is(ats_on(&w), false, "ATS");
    is(command(&w, ATC_INV, 52), 0, "no answer is needed while ATS is off");
    is(entries(), 0, "the ATC");
    control("atc dev0 alive");
    need(set_ste(&w, ste0(LINEAR, 0), EATS), "STE");
    is(command(&w, ATC_INV, 52), 0, "an ATC that lives");
    world_close(&w);
}

/* The registers in BAR0 do the same as the control socket. */
static void write_reg(World *w, unsigned reg, uint64_t value)
{
    need(pwrite(w->dev, &value, 8, reg) - 8, "BAR0");
}

static uint64_t read_reg(World *w, unsigned reg)
{
    uint64_t value;

    need(pread(w->dev, &value, 8, reg) - 8, "BAR0");
    return value;
}

static void test_registers(void)
{
    World w = world_open(next_fd++);

    make_ram();
    write_cd(cd(LINEAR, 0), 0, 1);
    write_cd(cd(LINEAR, 5), 5, 6);
    need(set_ste(&w, ste0(LINEAR, 3), SSID0 | EATS), "STE");
    write_reg(&w, DMA_PASID, 5);
    write_reg(&w, DMA_READ64, IOVA);
    is(read_reg(&w, DMA_RESULT), tag(5, 0), "DMA with a PASID");
    is(read_reg(&w, DMA_ATC_ENTRIES), 0, "the ATC");
    write_reg(&w, DMA_FLAGS, DMA_USE_ATC);
    write_reg(&w, DMA_READ64, IOVA);
    is(read_reg(&w, DMA_RESULT), tag(5, 0), "DMA through the ATC");
    is(read_reg(&w, DMA_ATC_ENTRIES), 1, "the ATC");
    is(read_reg(&w, DMA_ATS_REPLY), DMA_ATS_SUCCESS | 3, "the reply");
    is(read_reg(&w, DMA_ATS_SIZE), 4096, "its size");
    write_reg(&w, DMA_VALUE, 0x77);
    write_reg(&w, DMA_WRITE64, IOVA + 8);
    is(*(at(data(5, 0)) + 1), 0x77, "a write through the ATC");
    is(read_reg(&w, DMA_ATC_ENTRIES), 1, "the ATC");
    write_reg(&w, DMA_PASID, 1 << 20);
    write_reg(&w, DMA_READ64, IOVA);
    is(read_reg(&w, DMA_STATUS), DMA_BAD, "a PASID of 21 bits");
    /* "dma" of the control socket leaves the registers alone. */
    dma("read", 3, IOVA, "");
    is(read_reg(&w, DMA_PASID), 1 << 20, "DMA_PASID");
    is(read_reg(&w, DMA_STATUS), DMA_BAD, "DMA_STATUS");
    world_close(&w);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test-ats SOCKET\n");
        return 2;
    }
    ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    control_open(argv[1]);
    puts("TAP version 13");
    test_hw_info();
    test_fields();
    test_enable();
    test_unmap();
    test_exclusive();
    test_tables();
    test_s1dss();
    test_cfgi_cd();
    test_requests();
    test_translated();
    test_atc_inv();
    test_dead();
    test_registers();
    test_many();
    test_random();
    test_host_pasids();
    return points_end();
}
