/*
 * PASIDs of the test endpoint pasid-dma by iommufd: address spaces are attached
 * to them through VFIO's character device, and the endpoint must be in the one
 * that is attached now, at the pages that are mapped now.
 *
 *   pasid-attach [-n ROUNDS] /dev/vfio/devices/vfioN         TAP on stdout
 *
 * Unlike sva.c it chooses the PASIDs, so that it reaches the ends of the tables
 * of CDs. It needs no driver of ours, and runs in the host alone, because a
 * nesting parent has no PASIDs of its own.
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
    point(!stale, "stale", "%lu stale bytes in all", stale);
    printf("1..%d\n", number);
    return failed > 0;
}
