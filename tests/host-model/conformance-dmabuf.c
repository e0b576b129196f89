/*
 * dma-bufs of a BAR of memory, mapped by iommufd
 *
 * The other device of the program has such a BAR.  What reaches it by DMA is
 * another matter: tests/nested/run peer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "conformance.h"

#define RW  (IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | \
             IOMMU_IOAS_MAP_WRITEABLE)
#define AT          0x100000000ull      /* where most is mapped */
#define MEMORY      2                   /* bits of the Command register */
#define FLAG(op)    (VFIO_DEVICE_FEATURE_DMA_BUF | VFIO_DEVICE_FEATURE_##op)
#define RANGES      3

typedef struct Peer {
    int dev;
    uint64_t config;                    /* offset of configuration space */
    struct vfio_region_info bar;        /* its BAR of memory */
} Peer;

typedef struct Get {
    struct vfio_device_feature feature;
    struct vfio_device_feature_dma_buf buf;
    struct vfio_region_dma_range range[RANGES];
} Get;

/* A request for all of the BAR, as one range */
static Get get_all(const Peer *p)
{
    return (Get) {
        .feature = { .argsz = sizeof(Get), .flags = FLAG(GET) },
        .buf = { .region_index = p->bar.index, .nr_ranges = 1,
                 .open_flags = O_RDWR | O_CLOEXEC },
        .range = { { 0, p->bar.size } },
    };
}

static long get(const Peer *p, Get *g)
{
    return call(p->dev, VFIO_DEVICE_FEATURE, g);
}

/* 0 in place of a new fd, which is closed */
static long try(const Peer *p, Get g)
{
    long fd = get(p, &g);

    if (fd >= 0) {
        close(fd);
    }
    return fd < 0 ? fd : 0;
}

static int must_get(const Peer *p)
{
    Get g = get_all(p);
    long fd = get(p, &g);

    need(fd, "a dma-buf");
    return fd;
}

static long map(World *w, int fd, uint64_t start, uint64_t length,
                uint64_t iova)
{
    struct iommu_ioas_map_file arg = {
        .size = sizeof(arg), .flags = RW, .ioas_id = w->ioas, .fd = fd,
        .start = start, .length = length, .iova = iova,
    };

    return call(w->fd, IOMMU_IOAS_MAP_FILE, &arg);
}

static long unmap(World *w, uint64_t iova, uint64_t length)
{
    struct iommu_ioas_unmap arg = {
        .size = sizeof(arg), .ioas_id = w->ioas, .iova = iova,
        .length = length,
    };

    return call(w->fd, IOMMU_IOAS_UNMAP, &arg);
}

static void decode(const Peer *p, bool on)
{
    uint16_t command = on ? MEMORY : 0;

    need(pwrite(p->dev, &command, 2, p->config + 4) == 2 ? 0 : -EIO,
         "the Command register");
}

static void features(const Peer *p)
{
    const struct {
        const char *name;
        uint32_t flags;
        long want;
    } rows[] = {
        { "PROBE and GET", FLAG(PROBE) | FLAG(GET), 0 },
        { "PROBE", FLAG(PROBE), 0 },
        { "PROBE and SET", FLAG(PROBE) | FLAG(SET), -EINVAL },
        { "SET", FLAG(SET), -EINVAL },
        { "GET and SET", FLAG(GET) | FLAG(SET), -EINVAL },
        { "neither", VFIO_DEVICE_FEATURE_DMA_BUF, -EINVAL },
        { "an unknown flag", FLAG(GET) | 1u << 20, -EINVAL },
    };
    Get g;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        g = get_all(p);
        g.feature.flags = rows[i].flags;
        is(try(p, g), rows[i].want, "dma-buf, %s", rows[i].name);
    }
    g = get_all(p);
    g.feature.argsz = sizeof(g.feature) + sizeof(g.buf) - 1;
    is(try(p, g), -EINVAL, "dma-buf, a byte too short");
    g.feature.argsz = sizeof(g.feature) + sizeof(g.buf);
    is(try(p, g), 0, "dma-buf, its ranges not counted in argsz");
    g.feature.argsz = sizeof(g.feature) - 1;
    is(try(p, g), -EINVAL, "dma-buf, without a header");
}

static void ranges(const Peer *p)
{
    uint64_t size = p->bar.size;
    const struct {
        const char *name;
        uint64_t offset, length;
        long want;
    } rows[] = {
        { "the first page", 0, PAGE, 0 },
        { "the last page", size - PAGE, PAGE, 0 },
        { "no length", 0, 0, -EINVAL },
        { "half a page", 0, PAGE / 2, -EINVAL },
        { "from half a page", PAGE / 2, PAGE, -EINVAL },
        { "a page too long", 0, size + PAGE, -EINVAL },
        { "behind the end", size, PAGE, -EINVAL },
        { "from 2^63", 1ull << 63, PAGE, -EINVAL },
        { "of 2^62", 0, 1ull << 62, -EINVAL },
        { "of 2^63", 0, 1ull << 63, -EINVAL },
        { "of 2^64 - 4096", 0, -PAGE, -EINVAL },
        { "from 2^64 - 4096", -PAGE, PAGE, -EOVERFLOW },
        { "from 2^64 - 8192", -2 * PAGE, PAGE, -EOVERFLOW },
    };
    const struct {
        const char *name;
        uint32_t index;
    } regions[] = {
        { "a BAR that it does not have", VFIO_PCI_BAR5_REGION_INDEX },
        { "the ROM", VFIO_PCI_ROM_REGION_INDEX },
        { "configuration space", VFIO_PCI_CONFIG_REGION_INDEX },
        { "VGA", VFIO_PCI_VGA_REGION_INDEX },
        { "region 2^32 - 1", UINT32_MAX },
    };
    Get g;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        g = get_all(p);
        g.range[0].offset = rows[i].offset;
        g.range[0].length = rows[i].length;
        is(try(p, g), rows[i].want, "dma-buf, %s", rows[i].name);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(regions); i++) {
        g = get_all(p);
        g.buf.region_index = regions[i].index;
        is(try(p, g), -ENODEV, "dma-buf, %s", regions[i].name);
    }
    g = get_all(p);
    g.buf.nr_ranges = 0;
    is(try(p, g), -EINVAL, "dma-buf of no range");
    g.buf.nr_ranges = 1;
    g.buf.flags = 1;
    is(try(p, g), -EINVAL, "dma-buf with a flag");
    g.buf.flags = 0;
    g.buf.nr_ranges = 2;
    g.range[0].length = PAGE;
    g.range[1].length = PAGE;
    is(try(p, g), 0, "dma-buf of a range twice");
    g.range[1].length = 0;
    is(try(p, g), -EINVAL, "dma-buf whose second range is empty");
    g.range[1] = (struct vfio_region_dma_range) { size, PAGE };
    is(try(p, g), -EINVAL, "dma-buf whose second range is behind the end");
}

static void mappings(World *w, const Peer *p)
{
    uint64_t size = p->bar.size;
    int fd = must_get(p);
    const struct {
        const char *name;
        uint64_t start, length;
        long want;
    } rows[] = {
        { "all", 0, size, 0 },
        { "all but a page", PAGE, size - PAGE, 0 },
        { "the last page", size - PAGE, PAGE, 0 },
        { "nothing", 0, 0, -EINVAL },
        { "a page too much", PAGE, size, -EINVAL },
        { "what is behind the end", size, PAGE, -EINVAL },
        { "half a page", 0, PAGE / 2, -EINVAL },
        { "from half a page on", PAGE / 2, PAGE, -EINVAL },
        { "the end of all numbers", -PAGE, PAGE, -EINVAL },
        { "more than that", -PAGE, 2 * PAGE, -EOVERFLOW },
    };
    struct iommu_ioas_copy copy = {
        .size = sizeof(copy), .flags = RW, .src_ioas_id = w->ioas,
        .src_iova = AT, .dst_iova = 4 * AT, .length = size,
    };
    struct iommu_ioas_change_process change = { .size = sizeof(change) };
    uint32_t other;
    Get g = get_all(p);
    long two;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        is(map(w, fd, rows[i].start, rows[i].length, AT), rows[i].want,
           "Mapping, %s", rows[i].name);
        is(unmap(w, AT, size), rows[i].want ? -ENOENT : 0, "  and its end");
    }
    is(map(w, fd, 0, size, AT), 0, "Mapping once");
    is(map(w, fd, 0, size, 2 * AT), 0, "  twice");
    is(map(w, fd, 0, PAGE, AT), -EEXIST, "  over itself");
    is(unmap(w, AT, PAGE), -ENOENT, "  its first page goes");
    is(unmap(w, AT + PAGE, size - PAGE), -ENOENT, "  all others go");
    need(ioas_alloc(w->fd, &other), "another IOAS");
    copy.dst_ioas_id = other;
    is(call(w->fd, IOMMU_IOAS_COPY, &copy), 0, "  copied to another IOAS");
    is(call(w->fd, IOMMU_IOAS_CHANGE_PROCESS, &change), -EINVAL,
       "  CHANGE_PROCESS");
    is(destroy(w->fd, other), 0, "  the other IOAS goes");
    close(fd);
    is(unmap(w, AT, size), 0, "  the end, without an fd");
    is(unmap(w, 2 * AT, size), 0, "  the end of the other");
    is(map(w, fd, 0, size, AT), -EBADF, "Mapping of a closed fd");

    g.buf.nr_ranges = 2;
    g.range[0].length = g.range[1].length = PAGE;
    two = get(p, &g);
    need(two, "a dma-buf of two ranges");
    is(map(w, two, 0, PAGE, AT), -EOPNOTSUPP, "Mapping of one of two ranges");
    is(map(w, two, 0, 2 * PAGE, AT), -EOPNOTSUPP, "  of both");
    is(map(w, two, 0, 3 * PAGE, AT), -EINVAL, "  of three");
    close(two);
}

static void revoked(World *w, const Peer *p)
{
    uint64_t size = p->bar.size;
    int fd = must_get(p), late;
    uint32_t parent;

    is(map(w, fd, 0, size, AT), 0, "Mapping, before decoding goes off");
    decode(p, false);
    is(map(w, fd, 0, size, 2 * AT), -ENODEV, "  another, while it is off");
    is(map(w, fd, 0, size + PAGE, 2 * AT), -EINVAL, "  and too long");
    is(map(w, fd, 0, size, AT), -ENODEV, "  over the first");
    late = must_get(p);
    is(map(w, late, 0, size, 2 * AT), -ENODEV, "  of a new dma-buf");
    is(hwpt_alloc(w, w->ioas, IOMMU_HWPT_ALLOC_NEST_PARENT, &parent), 0,
       "  a new stage 2 with what was revoked");
    is(destroy(w->fd, parent), 0, "  which goes");
    decode(p, true);
    is(map(w, fd, 0, size, 2 * AT), 0, "  another, when it is on again");
    is(map(w, late, 0, size, 3 * AT), 0, "  of the new dma-buf");
    is(map(w, fd, 0, size, AT), -EEXIST, "  over the first");
    is(unmap(w, AT, size), 0, "  the end of the first");
    is(map(w, fd, 0, size, AT), 0, "  the first again");
    is(call(p->dev, VFIO_DEVICE_RESET, NULL), 0, "  a reset");
    is(unmap(w, 2 * AT, size), 0, "  the end of the second");
    is(map(w, fd, 0, size, 2 * AT), 0, "  the second again");
    decode(p, false);
    is(call(p->dev, VFIO_DEVICE_RESET, NULL), 0, "  a reset while it is off");
    is(map(w, fd, 0, size, 4 * AT), -ENODEV, "  another after that");
    decode(p, true);
    is(unmap(w, 0, UINT64_MAX), 0, "  the end of all");
    is(map(w, fd, 0, size, AT), 0, "Mapping, before the device is closed");
    close(p->dev);
    is(map(w, fd, 0, size, 2 * AT), -ENODEV, "  another after that");
    is(unmap(w, AT, size), 0, "  the end of the first");
    close(fd);
    close(late);
}

static void by_address(World *w, const Peer *p)
{
    uint64_t size = p->bar.size;
    struct iommu_ioas_map arg = {
        .size = sizeof(arg), .flags = RW, .ioas_id = w->ioas, .length = size,
        .iova = AT,
    };
    const struct {
        const char *name;
        int flags;
        uint64_t offset, length;
        long want;
    } rows[] = {
        { "all", MAP_SHARED, 0, size, 0 },
        { "the last page", MAP_SHARED, size - PAGE, PAGE, 0 },
        { "a private copy", MAP_PRIVATE, 0, size, -EINVAL },
        { "a page too much", MAP_SHARED, 0, size + PAGE, -EINVAL },
        { "what is behind the end", MAP_SHARED, size, PAGE, -EINVAL },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        void *va = mmap(NULL, rows[i].length, PROT_READ | PROT_WRITE,
                        rows[i].flags, p->dev, p->bar.offset + rows[i].offset);

        is(va == MAP_FAILED ? -errno : 0, rows[i].want, "mmap() of %s",
           rows[i].name);
        if (va == MAP_FAILED) {
            continue;
        }
        if (!i) {
            arg.user_va = (uintptr_t)va;
            is(call(w->fd, IOMMU_IOAS_MAP, &arg), -EFAULT,
               "  mapped by its address");
        }
        munmap(va, rows[i].length);
    }
}

/* The first BAR that can be mapped and has some pages */
static void find_memory(Peer *p)
{
    struct vfio_region_info config = {
        .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX,
    };

    need(call(p->dev, VFIO_DEVICE_GET_REGION_INFO, &config),
         "the configuration space");
    p->config = config.offset;
    for (unsigned i = 0; i <= VFIO_PCI_BAR5_REGION_INDEX; i++) {
        p->bar = (struct vfio_region_info) {
            .argsz = sizeof(p->bar), .index = i,
        };
        need(call(p->dev, VFIO_DEVICE_GET_REGION_INFO, &p->bar), "a BAR");
        if ((p->bar.flags & VFIO_REGION_INFO_FLAG_MMAP) &&
            p->bar.size >= 8 * PAGE) {
            return;
        }
    }
    need(-ENODEV, "a BAR of memory");
}

void test_dmabuf(int dev)
{
    World w = world_open();
    Peer p = { .dev = dev };

    need(bind_device(dev, w.fd, NULL), "binding the other device");
    need(attach(&w, w.parent), "attaching the device");
    find_memory(&p);
    decode(&p, true);
    features(&p);
    ranges(&p);
    by_address(&w, &p);
    mappings(&w, &p);
    revoked(&w, &p);
    world_close(&w);
}
