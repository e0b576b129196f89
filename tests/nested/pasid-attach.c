/*
 * PASIDs of the test endpoint pasid-dma by iommufd: address spaces are attached
 * to them through VFIO's character device, and the endpoint must be in the one
 * that is attached now, at the pages that are mapped now.
 *
 *   pasid-attach [-n ROUNDS] /dev/vfio/devices/vfioN         TAP on stdout
 *
 * Unlike sva.c it chooses the PASIDs, so that it reaches the ends of the tables
 * of CDs. At the end it is a hypervisor, whose guest has stage 1 to itself: it
 * makes tables of CDs in all formats, and invalidates what it changes. It needs
 * no driver of ours, and runs in the host alone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* linux-libc-dev of our cross compiler may know it, or not */
#ifndef __counted_by
#define __counted_by(member)
#endif
#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "sva-endpoint.h"

#define IOVA    0x7ff0000000ul
#define SPACES  10
#define SIZE    (4 * PAGE)

/* The ends of leaves of 64 and of 1024 CDs, of 8, 16 and 20 bits */
static const uint32_t pasids[SPACES] = {
    1, 63, 64, 255, 256, 1023, 1024, 65535, 65536, 0xfffff
};

static int iommu, device;
static uint32_t device_id;
static struct {
    uint8_t *memory;            /* two times SIZE, of which one is mapped */
    uint32_t ioas;
    uint32_t hwpt;
} space[SPACES];
static unsigned long stale;

static void ask(int fd, unsigned long request, void *what, const char *name)
{
    if (ioctl(fd, request, what) < 0) {
        die(name);
    }
}

static uint32_t new_ioas(void)
{
    struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

    ask(iommu, IOMMU_IOAS_ALLOC, &alloc, "IOMMU_IOAS_ALLOC");
    return alloc.out_ioas_id;
}

static uint32_t new_hwpt(uint32_t ioas)
{
    struct iommu_hwpt_alloc alloc = {
        .size = sizeof(alloc),
        .flags = IOMMU_HWPT_ALLOC_PASID,
        .dev_id = device_id,
        .pt_id = ioas,
    };

    ask(iommu, IOMMU_HWPT_ALLOC, &alloc, "IOMMU_HWPT_ALLOC");
    return alloc.out_hwpt_id;
}

static void map(int n, int half)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = space[n].ioas,
        .user_va = (uintptr_t)space[n].memory + half * SIZE,
        .length = SIZE,
        .iova = IOVA,
    };

    ask(iommu, IOMMU_IOAS_MAP, &map, "IOMMU_IOAS_MAP");
}

static void unmap(int n)
{
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap),
        .ioas_id = space[n].ioas,
        .iova = IOVA,
        .length = SIZE,
    };

    ask(iommu, IOMMU_IOAS_UNMAP, &unmap, "IOMMU_IOAS_UNMAP");
}

/* PASID @id, or requests without one if it is 0 */
static void attach(uint32_t hwpt, uint32_t id)
{
    struct vfio_device_attach_iommufd_pt attach = {
        .argsz = sizeof(attach),
        .flags = id ? VFIO_DEVICE_ATTACH_PASID : 0,
        .pt_id = hwpt,
        .pasid = id,
    };

    ask(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach,
        "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

static void detach(uint32_t id)
{
    struct vfio_device_detach_iommufd_pt detach = {
        .argsz = sizeof(detach),
        .flags = VFIO_DEVICE_DETACH_PASID,
        .pasid = id,
    };

    ask(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach,
        "VFIO_DEVICE_DETACH_IOMMUFD_PT");
}

static void open_device(const char *path)
{
    struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
    struct vfio_region_info bar = {
        .argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX,
    };
    struct vfio_region_info config = {
        .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX,
    };
    uint16_t on = 6;                    /* memory and bus mastering */

    iommu = open("/dev/iommu", O_RDWR);
    device = open(path, O_RDWR);
    if (iommu < 0 || device < 0) {
        die(path);
    }
    bind.iommufd = iommu;
    ask(device, VFIO_DEVICE_BIND_IOMMUFD, &bind, "VFIO_DEVICE_BIND_IOMMUFD");
    device_id = bind.out_devid;
    ask(device, VFIO_DEVICE_GET_REGION_INFO, &bar, "BAR 0");
    ask(device, VFIO_DEVICE_GET_REGION_INFO, &config, "configuration space");
    attach(new_hwpt(new_ioas()), 0);
    if (pwrite(device, &on, sizeof(on), config.offset + 4) != sizeof(on)) {
        die("configuration space");
    }
    regs = mmap(NULL, PASID_DMA_BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                device, bar.offset);
    if (regs == MAP_FAILED) {
        die("mmap of the device");
    }
}

/*
 * The endpoint copies in PASID number @n. That must reach the mapped half of
 * the memory of space @m, and no other byte of any space.
 */
static bool right(int n, int m, int half)
{
    uint8_t *mapped = space[m].memory + half * SIZE;
    uint32_t result;

    for (int i = 0; i < SPACES; i++) {
        fill(space[i].memory, 2 * SIZE);
    }
    memset(mapped, 0xee, PAGE);
    result = dma_at(pasids[n], IOVA, IOVA + 2 * PAGE, PAGE);
    stale += differ(mapped, mapped + 2 * PAGE, PAGE);
    return result == PASID_DMA_OK;
}

static bool is_refused(int n)
{
    uint32_t result = dma_at(pasids[n], IOVA, IOVA + 2 * PAGE, PAGE);

    return result == PASID_DMA_SRC_REFUSED || result == PASID_DMA_DST_REFUSED;
}

static void test_spaces(const char *name)
{
    unsigned long before = stale;
    int errors = 0;

    for (int n = 0; n < SPACES; n++) {
        attach(space[n].hwpt, pasids[n]);
    }
    for (int n = 0; n < 3 * SPACES; n++) {
        errors += !right(n % SPACES, n % SPACES, 0);
    }
    for (int n = 0; n < SPACES; n++) {
        detach(pasids[n]);
    }
    point(!errors && stale == before, name,
          "%d PASIDs up to %u, %d refused, %lu wrong bytes", SPACES,
          pasids[SPACES - 1], errors, stale - before);
}

/* Other pages of the same address space */
static void test_remap(const char *name, int rounds)
{
    unsigned long before = stale;
    int errors = 0, let = 0;

    for (int n = 0; n < SPACES; n++) {
        attach(space[n].hwpt, pasids[n]);
    }
    for (int round = 0; round < rounds; round++) {
        int n = round % SPACES;

        errors += !right(n, n, 0);
        unmap(n);
        let += !is_refused(n);
        map(n, 1);
        errors += !right(n, n, 1);
        unmap(n);
        map(n, 0);
    }
    for (int n = 0; n < SPACES; n++) {
        detach(pasids[n]);
    }
    point(!errors && !let && stale == before, name,
          "%d rounds, %d refused, %d let through, %lu stale bytes", rounds,
          errors, let, stale - before);
}

/* Other address spaces of the same PASID: at once, and after none at all */
static void test_attach(const char *name, int rounds)
{
    unsigned long before = stale;
    int errors = 0, let = 0;

    for (int round = 0; round < rounds; round++) {
        int n = round % SPACES, m = round / SPACES % SPACES;

        attach(space[m].hwpt, pasids[n]);
        errors += !right(n, m, 0);
        if (round % 2) {
            m = (m + 1) % SPACES;
            attach(space[m].hwpt, pasids[n]);
            errors += !right(n, m, 0);
        }
        detach(pasids[n]);
        let += !is_refused(n);
    }
    point(!errors && !let && stale == before, name,
          "%d times, %d refused, %d let through, %lu stale bytes", rounds,
          errors, let, stale - before);
}

/* --- a stage 1 of our own, above a stage 2 ------------------------------- */

#define IPA             0x800000000ul   /* where the host has no memory */
#define GUEST_SIZE      (8ul << 20)
#define VIRTUAL_SID     0x77ul

static uint8_t *guest;          /* its memory, at IPA */
static size_t used;             /* of it, in bytes */
static uint32_t viommu;
static uint64_t *cd[SPACES];    /* the CD of each PASID */
static uint64_t *leaf[SPACES];  /* the last level of each stage 1 */
static uint64_t root[SPACES];   /* and its first one, as an IPA */

static void *take(size_t size, size_t align)
{
    used = (used + align - 1) / align * align;
    used += size;
    if (used > GUEST_SIZE) {
        die("the guest's memory is too small");
    }
    memset(guest + used - size, 0, size);
    return guest + used - size;
}

static uint64_t ipa(void *p)
{
    return IPA + ((uint8_t *)p - guest);
}

static void invalidate(uint64_t low, uint64_t high)
{
    struct iommu_viommu_arm_smmuv3_invalidate command = {
        .cmd = { low, high },
    };
    struct iommu_hwpt_invalidate invalidate = {
        .size = sizeof(invalidate),
        .hwpt_id = viommu,
        .data_uptr = (uintptr_t)&command,
        .data_type = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
        .entry_len = sizeof(command),
        .entry_num = 1,
    };

    ask(iommu, IOMMU_HWPT_INVALIDATE, &invalidate, "IOMMU_HWPT_INVALIDATE");
}

/* The ATC of a PASID */
static void atc_inv(uint32_t id)
{
    invalidate(0x40 | 1 << 11 | (uint64_t)id << 12 | VIRTUAL_SID << 32, 52);
}

/* Map the half of space @n, without invalidation */
static void map_stage1(int n, int half)
{
    for (size_t i = 0; i < SIZE / PAGE; i++) {
        leaf[n][IOVA / PAGE % 512 + i] =
            (ipa(space[n].memory) + half * SIZE + i * PAGE) | 0xf43;
    }
}

/* 39-bit addresses, 4 KiB pages, an ASID for each space */
static void make_stage1(int n)
{
    uint64_t *first = take(PAGE, PAGE), *second = take(PAGE, PAGE);

    leaf[n] = take(PAGE, PAGE);
    root[n] = ipa(first);
    first[IOVA >> 30] = ipa(second) | 3;
    second[IOVA >> 21 & 511] = ipa(leaf[n]) | 3;
    space[n].memory = take(2 * SIZE, PAGE);
    map_stage1(n, 0);
}

/* That CD is for space @m, without invalidation */
static void write_cd(uint64_t *entry, int m)
{
    entry[1] = root[m];
    entry[3] = 0xff;
    entry[0] = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1ul << 30 | 1ul << 31 |
               5ul << 32 | 1ul << 41 | 1ul << 45 | 1ul << 46 | 1ul << 47 |
               (100ul + m) << 48;
}

/* A table of CDs in format @fmt of the STE; returns its IPA */
static uint64_t make_cds(unsigned fmt, unsigned cdmax)
{
    unsigned bits = fmt == 1 ? 6 : 10;
    size_t size = fmt ? 8ul << (cdmax - bits) : 64ul << cdmax;
    uint64_t *table = take(size, size);

    for (int n = 0; n < SPACES; n++) {
        uint32_t id = pasids[n];

        if (id >> cdmax) {
            cd[n] = NULL;
            continue;
        }
        if (fmt && !table[id >> bits]) {
            table[id >> bits] = ipa(take(64ul << bits, 64ul << bits)) | 1;
        }
        cd[n] = fmt ? (void *)(guest + (table[id >> bits] & ~1ul) - IPA +
                               (id & ((1u << bits) - 1)) * 64)
                    : (void *)((uint8_t *)table + id * 64);
        write_cd(cd[n], n);
    }
    return ipa(table);
}

static void make_guest(void)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = new_ioas(),
        .length = GUEST_SIZE,
        .iova = IPA,
    };
    struct iommu_hwpt_alloc parent = {
        .size = sizeof(parent),
        .flags = IOMMU_HWPT_ALLOC_NEST_PARENT,
        .dev_id = device_id,
        .pt_id = map.ioas_id,
    };
    struct iommu_viommu_alloc alloc = {
        .size = sizeof(alloc),
        .type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
        .dev_id = device_id,
    };
    struct iommu_vdevice_alloc vdevice = {
        .size = sizeof(vdevice),
        .dev_id = device_id,
        .virt_id = VIRTUAL_SID,
    };

    guest = memory(GUEST_SIZE);
    map.user_va = (uintptr_t)guest;
    ask(iommu, IOMMU_IOAS_MAP, &map, "IOMMU_IOAS_MAP");
    ask(iommu, IOMMU_HWPT_ALLOC, &parent, "a nesting parent");
    alloc.hwpt_id = parent.out_hwpt_id;
    ask(iommu, IOMMU_VIOMMU_ALLOC, &alloc, "IOMMU_VIOMMU_ALLOC");
    viommu = vdevice.viommu_id = alloc.out_viommu_id;
    ask(iommu, IOMMU_VDEVICE_ALLOC, &vdevice, "IOMMU_VDEVICE_ALLOC");
    for (int n = 0; n < SPACES; n++) {
        make_stage1(n);
    }
}

/*
 * Stage 1 of the guest: its STE has such a table of CDs, that S1DSS, and EATS.
 * Returns the table.
 */
static uint64_t *attach_guest(unsigned fmt, unsigned cdmax, unsigned dss)
{
    uint64_t table = make_cds(fmt, cdmax);
    struct iommu_hwpt_arm_smmuv3 ste = { .ste = {
        1 | 5 << 1 | fmt << 4 | table | (uint64_t)cdmax << 59,
        dss | 1 << 2 | 1 << 4 | 3 << 6 | 1 << 28,
    } };
    struct iommu_hwpt_alloc nested = {
        .size = sizeof(nested),
        .dev_id = device_id,
        .pt_id = viommu,
        .data_type = IOMMU_HWPT_DATA_ARM_SMMUV3,
        .data_len = sizeof(ste),
        .data_uptr = (uintptr_t)&ste,
    };

    ask(iommu, IOMMU_HWPT_ALLOC, &nested, "a nested HWPT");
    attach(nested.out_hwpt_id, 0);
    return (void *)(guest + table - IPA);
}

static void test_nested(const char *name, unsigned fmt, unsigned cdmax,
                        int rounds)
{
    unsigned long before = stale;
    int errors = 0, let = 0, tried = 0;

    attach_guest(fmt, cdmax, 2);
    for (int round = 0; round < rounds; round++) {
        int n = round % SPACES, m = (n + 1) % SPACES;

        if (!cd[n]) {
            let += !is_refused(n);
            continue;
        }
        tried++;
        errors += !right(n, n, 0);
        /* other pages: TLBI_NH_VA of each, ATC_INV */
        map_stage1(n, 1);
        for (size_t i = 0; i < SIZE; i += PAGE) {
            invalidate(0x12 | (100ul + n) << 48, (IOVA + i) | 1);
        }
        atc_inv(pasids[n]);
        errors += !right(n, n, 1);
        map_stage1(n, 0);
        invalidate(0x11 | (100ul + n) << 48, 0);
        atc_inv(pasids[n]);
        /* another address space, and none: CFGI_CD, ATC_INV */
        write_cd(cd[n], m);
        invalidate(0x05 | (uint64_t)pasids[n] << 12 | VIRTUAL_SID << 32, 1);
        atc_inv(pasids[n]);
        errors += !right(n, m, 0);
        cd[n][0] = 0;
        invalidate(0x05 | (uint64_t)pasids[n] << 12 | VIRTUAL_SID << 32, 1);
        atc_inv(pasids[n]);
        let += !is_refused(n);
        write_cd(cd[n], n);
        invalidate(0x05 | (uint64_t)pasids[n] << 12 | VIRTUAL_SID << 32, 1);
    }
    point(!errors && !let && stale == before && tried, name,
          "%d rounds, %d of them with CDs, %d refused, %d let through, "
          "%lu stale bytes", rounds, tried, errors, let, stale - before);
}

/* Whether the endpoint copies in space 0, from @base on */
static bool copies(uint32_t flags, uint32_t id, uint64_t base)
{
    uint32_t was = how, result;

    fill(space[0].memory, SIZE);
    how = flags | (how & PASID_DMA_USE_ATS);
    result = dma_at(id, base, base + 2 * PAGE, PAGE);
    how = was;
    return result == PASID_DMA_OK &&
           !differ(space[0].memory, space[0].memory + 2 * PAGE, PAGE);
}

/* What requests without a PASID are, and those with PASID 0 */
static void test_s1dss(const char *name)
{
    unsigned found = 0;

    for (unsigned dss = 0; dss < 4; dss++) {
        write_cd(attach_guest(0, 10, dss), 0);
        /* by CD 0; past stage 1; PASID 0; another one */
        found = found << 4 | copies(0, 0, IOVA) << 3 |
                copies(0, 0, ipa(space[0].memory)) << 2 |
                copies(PASID_DMA_USE_PASID, 0, IOVA) << 1 |
                copies(PASID_DMA_USE_PASID, pasids[0], IOVA);
    }
    point(found == 0x3793, name, "%04x is let through", found);
}

int main(int argc, char **argv)
{
    int rounds = 1000, opt;

    setvbuf(stdout, NULL, _IOLBF, 0);
    while ((opt = getopt(argc, argv, "n:")) != -1) {
        if (opt != 'n') {
            return 2;
        }
        rounds = atoi(optarg);
    }
    if (optind >= argc) {
        return 2;
    }
    open_device(argv[optind]);
    for (int n = 0; n < SPACES; n++) {
        space[n].memory = memory(2 * SIZE);
        space[n].ioas = new_ioas();
        map(n, 0);
        space[n].hwpt = new_hwpt(space[n].ioas);
    }
    how = PASID_DMA_USE_PASID;
    test_spaces("spaces-without-atc");
    test_remap("remap-without-atc", rounds);
    test_attach("attach-without-atc", rounds);
    how |= PASID_DMA_USE_ATS;
    test_spaces("spaces");
    test_remap("remap", rounds);
    test_attach("attach", rounds);
    make_guest();
    test_nested("nested-linear", 0, 10, rounds);
    test_nested("nested-4k", 1, 20, rounds);
    test_nested("nested-64k", 2, 20, rounds);
    test_s1dss("s1dss");
    how &= ~PASID_DMA_USE_ATS;
    test_nested("nested-without-atc", 2, 17, rounds);
    test_s1dss("s1dss-without-atc");
    point(!stale, "stale", "%lu stale bytes in all", stale);
    printf("1..%d\n", number);
    return failed > 0;
}
