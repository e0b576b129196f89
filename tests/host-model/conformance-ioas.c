/*
 * Address spaces: what can be mapped where, and unmapped again
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "conformance.h"

#define FIXED   IOMMU_IOAS_MAP_FIXED_IOVA
#define WRITE   IOMMU_IOAS_MAP_WRITEABLE
#define READ    IOMMU_IOAS_MAP_READABLE
#define RW      (FIXED | READ | WRITE)
#define GIB     (1ull << 30)

static uint8_t *memory;                 /* 16 pages */
#define VA(n)   ((uintptr_t)memory + (n) * PAGE)

static long map(int fd, uint32_t ioas, uint32_t flags, uint64_t va,
                uint64_t len, uint64_t iova)
{
    struct iommu_ioas_map arg = {
        .size = sizeof(arg),
        .flags = flags,
        .ioas_id = ioas,
        .user_va = va,
        .length = len,
        .iova = iova,
    };

    return call(fd, IOMMU_IOAS_MAP, &arg);
}

static uint64_t unmapped;               /* by the last unmap() */

static long unmap(int fd, uint32_t ioas, uint64_t iova, uint64_t len)
{
    struct iommu_ioas_unmap arg = {
        .size = sizeof(arg),
        .ioas_id = ioas,
        .iova = iova,
        .length = len,
    };
    long ret = call(fd, IOMMU_IOAS_UNMAP, &arg);

    unmapped = arg.length;
    return ret;
}

static void map_arguments(int fd, uint32_t ioas)
{
    const struct {
        const char *name;
        uint32_t flags;
        uint64_t va, len, iova;
        int want;
    } rows[] = {
        { "no flag", 0, VA(0), PAGE, GIB, -EINVAL },
        { "an unknown flag", RW | 8, VA(0), PAGE, GIB, -EOPNOTSUPP },
        { "neither READABLE nor WRITEABLE", FIXED, VA(0), PAGE, GIB, -EINVAL },
        { "READABLE alone", FIXED | READ, VA(0), PAGE, GIB, 0 },
        { "WRITEABLE alone", FIXED | WRITE, VA(0), PAGE, GIB, 0 },
        { "an IOVA that counts although it is not FIXED", READ, VA(0), PAGE,
          GIB + 1, 0 },
        { "an IOVA off a page", RW, VA(0), PAGE, GIB + 1, 0 },
        { "an IOVA off a page by half of one", RW, VA(0), PAGE, GIB + 2048,
          0 },
        { "an address off a page", RW, VA(0) + 1, PAGE, GIB, 0 },
        { "both off a page by the same", RW, VA(0) + 16, PAGE, GIB + 16, 0 },
        { "a length off a page", RW, VA(0), PAGE + 1, GIB, 0 },
        { "length 1", RW, VA(0), 1, GIB, 0 },
        { "length 0", RW, VA(0), 0, GIB, -EINVAL },
        { "a range beyond the end", RW, VA(0), PAGE, -(PAGE / 2),
          -EOVERFLOW },
        { "a length to the very end", RW, VA(0), PAGE, -PAGE, 0 },
        { "a length of 2^63", RW, VA(0), 1ull << 63, 0, 0 },
        { "a length of all", RW, VA(0), UINT64_MAX, 0, -EOVERFLOW },
        { "an address that wraps", RW, -(PAGE / 2), PAGE, GIB, -EOVERFLOW },
        { "memory that is not there", RW, (uintptr_t)edge + PAGE, PAGE, GIB,
          0 },
        { "IOVA 0", RW, VA(0), PAGE, 0, 0 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct iommu_ioas_map arg = {
            .size = sizeof(arg),
            .flags = rows[i].flags,
            .ioas_id = ioas,
            .user_va = rows[i].va,
            .length = rows[i].len,
            .iova = rows[i].iova,
        };
        long ret = call(fd, IOMMU_IOAS_MAP, &arg);

        is(ret, rows[i].want, "IOAS_MAP with %s", rows[i].name);
        if (!ret) {
            unmap(fd, ioas, 0, UINT64_MAX);
        }
    }
    {
        struct iommu_ioas_map arg = {
            .size = sizeof(arg),
            .flags = RW,
            .ioas_id = ioas,
            .__reserved = 1,
            .user_va = VA(0),
            .length = PAGE,
        };

        is(call(fd, IOMMU_IOAS_MAP, &arg), -EOPNOTSUPP,
           "IOAS_MAP with a reserved field");
        arg.__reserved = 0;
        arg.ioas_id = 999;
        is(call(fd, IOMMU_IOAS_MAP, &arg), -ENOENT,
           "IOAS_MAP to an unknown ID");
    }
}

static void overlaps(int fd, uint32_t ioas)
{
    const struct {
        const char *name;
        uint64_t iova, len;
        int want;
    } rows[] = {
        { "the same", GIB, 4 * PAGE, -EEXIST },
        { "its first page", GIB, PAGE, -EEXIST },
        { "its last page", GIB + 3 * PAGE, PAGE, -EEXIST },
        { "a page before to its first", GIB - PAGE, 2 * PAGE, -EEXIST },
        { "its last to a page after", GIB + 3 * PAGE, 2 * PAGE, -EEXIST },
        { "more than it", GIB - PAGE, 6 * PAGE, -EEXIST },
        { "the page before", GIB - PAGE, PAGE, 0 },
        { "the page after", GIB + 4 * PAGE, PAGE, 0 },
    };
    const struct {
        const char *name;
        uint64_t iova, len;
        int want;
        uint64_t done;
    } cuts[] = {
        { "its first page", GIB, PAGE, -ENOENT, 0 },
        { "its last page", GIB + 3 * PAGE, PAGE, -ENOENT, 0 },
        { "the middle", GIB + PAGE, 2 * PAGE, -ENOENT, 0 },
        { "a page before to its first", GIB - PAGE, 2 * PAGE, -ENOENT, 0 },
        { "its last and the page after", GIB + 3 * PAGE, 2 * PAGE, -ENOENT,
          0 },
        { "it and the first page after", GIB, 5 * PAGE, 0, 5 * PAGE },
        { "where nothing is", GIB, PAGE, -ENOENT, 0 },
        /* The call that failed unmapped what came before the failure. */
        { "the page before, again", GIB - PAGE, PAGE, -ENOENT, 0 },
        { "all, which is empty", 0, UINT64_MAX, 0, 0 },
        { "length 0", GIB, 0, -EINVAL, 0 },
        { "length 0 at 0", 0, 0, -EINVAL, 0 },
        { "a range beyond the end", UINT64_MAX, PAGE, -EOVERFLOW, 0 },
        { "all, but not from 0", PAGE, UINT64_MAX, -EOVERFLOW, 0 },
    };

    is(map(fd, ioas, RW, VA(0), 4 * PAGE, GIB), 0, "IOAS_MAP of four pages");
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        is(map(fd, ioas, RW, VA(0), rows[i].len, rows[i].iova), rows[i].want,
           "IOAS_MAP over four pages: %s", rows[i].name);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(cuts); i++) {
        long ret = unmap(fd, ioas, cuts[i].iova, cuts[i].len);

        is(ret, cuts[i].want, "IOAS_UNMAP of %s", cuts[i].name);
        if (!ret) {
            is_hex(unmapped, cuts[i].done, "  which unmapped");
        }
    }
    map(fd, ioas, RW, VA(0), PAGE, 0);
    map(fd, ioas, RW, VA(1), PAGE, 1ull << 40);
    is(unmap(fd, ioas, 0, UINT64_MAX), 0, "IOAS_UNMAP of all");
    is_hex(unmapped, 2 * PAGE, "  which unmapped");
    is(unmap(fd, 999, 0, UINT64_MAX), -ENOENT, "IOAS_UNMAP of an unknown ID");
}

/* "FIRST-LAST ..., alignment N", or why not; @room for how many ranges */
static const char *ranges(int fd, uint32_t ioas, uint32_t room)
{
    static char text[1000];
    struct iommu_iova_range found[16];
    struct iommu_ioas_iova_ranges arg = {
        .size = sizeof(arg),
        .ioas_id = ioas,
        .num_iovas = room,
        .allowed_iovas = (uintptr_t)found,
    };
    long ret = call(fd, IOMMU_IOAS_IOVA_RANGES, &arg);
    char *at = text;

    at += sprintf(at, "%s,", result_name(ret));
    for (unsigned i = 0; i < arg.num_iovas && i < room; i++) {
        at += sprintf(at, " %llx-%llx", (unsigned long long)found[i].start,
                      (unsigned long long)found[i].last);
    }
    sprintf(at, ", %u in all, alignment %llu", arg.num_iovas,
            (unsigned long long)arg.out_iova_alignment);
    return text;
}

static long allow(int fd, uint32_t ioas, const struct iommu_iova_range *r,
                  uint32_t n)
{
    struct iommu_ioas_allow_iovas arg = {
        .size = sizeof(arg),
        .ioas_id = ioas,
        .num_iovas = n,
        .allowed_iovas = (uintptr_t)r,
    };

    return call(fd, IOMMU_IOAS_ALLOW_IOVAS, &arg);
}

static void allowed(int fd)
{
    const struct iommu_iova_range two[] = {
        { GIB, 2 * GIB - 1 }, { 4 * GIB, 5 * GIB - 1 },
    };
    const struct iommu_iova_range wrong[] = { { 2 * GIB, GIB } };
    const struct iommu_iova_range twice[] = {
        { GIB, 2 * GIB }, { 2 * GIB, 3 * GIB },
    };
    struct iommu_ioas_map arg;
    uint32_t ioas, plain;

    ioas_alloc(fd, &ioas);
    is_text(ranges(fd, ioas, 16),
            "0, 0-ffffffffffffffff, 1 in all, alignment 1",
            "IOVA_RANGES of a new IOAS");
    is(allow(fd, ioas, two, 2), 0, "ALLOW_IOVAS");
    is_text(ranges(fd, ioas, 16),
            "0, 0-ffffffffffffffff, 1 in all, alignment 1",
            "IOVA_RANGES then");
    is(map(fd, ioas, RW, VA(0), PAGE, 3 * GIB), 0,
       "IOAS_MAP to a fixed IOVA outside");
    is(allow(fd, ioas, wrong, 1), -EINVAL,
       "ALLOW_IOVAS with the last before the first");
    is(allow(fd, ioas, twice, 2), -EINVAL, "ALLOW_IOVAS that overlap");
    is(allow(fd, ioas, (void *)(edge + PAGE), 1), -EFAULT,
       "ALLOW_IOVAS that cannot be read");
    is(allow(fd, 999, two, 2), -ENOENT, "ALLOW_IOVAS of an unknown ID");
    arg = (struct iommu_ioas_map) {
        .size = sizeof(arg),
        .flags = READ,
        .ioas_id = ioas,
        .user_va = VA(0),
        .length = PAGE,
    };
    is(call(fd, IOMMU_IOAS_MAP, &arg), 0, "IOAS_MAP to any IOVA");
    is(arg.iova >= GIB && arg.iova < 5 * GIB, 1, "  which is an allowed one");
    arg.length = 2 * GIB;
    is(call(fd, IOMMU_IOAS_MAP, &arg), -ENOSPC,
       "IOAS_MAP of more than any allowed range has");
    is(allow(fd, ioas, NULL, 0), 0, "ALLOW_IOVAS of none");
    arg.length = PAGE;
    is(call(fd, IOMMU_IOAS_MAP, &arg), 0, "IOAS_MAP to any IOVA then");
    unmap(fd, ioas, 0, UINT64_MAX);
    ioas_alloc(fd, &plain);
    is(destroy(fd, ioas), 0, "DESTROY of an IOAS with allowed IOVAs");
    is(map(fd, plain, RW, VA(0), PAGE, GIB), 0, "IOAS_MAP to another");
    is(destroy(fd, plain), 0, "DESTROY of an IOAS with something mapped");
}

static void copying(int fd)
{
    struct iommu_ioas_copy arg;
    uint32_t src, dst;

    ioas_alloc(fd, &src);
    ioas_alloc(fd, &dst);
    map(fd, src, RW, VA(0), 8 * PAGE, GIB);
    arg = (struct iommu_ioas_copy) {
        .size = sizeof(arg),
        .flags = RW,
        .dst_ioas_id = dst,
        .src_ioas_id = src,
        .length = 8 * PAGE,
        .dst_iova = 0x10000,
        .src_iova = GIB,
    };
    is(call(fd, IOMMU_IOAS_COPY, &arg), 0, "IOAS_COPY");
    is(call(fd, IOMMU_IOAS_COPY, &arg), -EEXIST, "IOAS_COPY again");
    arg.dst_iova = 0x100000;
    arg.src_iova = GIB + PAGE;
    arg.length = 2 * PAGE;
    is(call(fd, IOMMU_IOAS_COPY, &arg), 0, "IOAS_COPY of a part");
    arg.dst_iova = 0x200000;
    arg.length = 8 * PAGE;
    is(call(fd, IOMMU_IOAS_COPY, &arg), -ENOENT, "IOAS_COPY of too much");
    arg.src_iova = 2 * GIB;
    is(call(fd, IOMMU_IOAS_COPY, &arg), -ENOENT, "IOAS_COPY of a hole");
    arg.length = 0;
    is(call(fd, IOMMU_IOAS_COPY, &arg), -EINVAL, "IOAS_COPY of length 0");
    arg.length = UINT64_MAX;
    is(call(fd, IOMMU_IOAS_COPY, &arg), -EOVERFLOW, "IOAS_COPY of all");
    arg.length = PAGE;
    arg.src_iova = GIB;
    arg.flags = RW | 8;
    is(call(fd, IOMMU_IOAS_COPY, &arg), -EOPNOTSUPP,
       "IOAS_COPY with an unknown flag");
    arg.flags = FIXED;
    is(call(fd, IOMMU_IOAS_COPY, &arg), -EINVAL,
       "IOAS_COPY neither readable nor writeable");
    arg.flags = READ;
    is(call(fd, IOMMU_IOAS_COPY, &arg), 0, "IOAS_COPY to any IOVA");
    arg.flags = RW;
    arg.src_ioas_id = 999;
    is(call(fd, IOMMU_IOAS_COPY, &arg), -ENOENT, "IOAS_COPY from an unknown");
    arg.src_ioas_id = src;
    arg.dst_ioas_id = 999;
    is(call(fd, IOMMU_IOAS_COPY, &arg), -ENOENT, "IOAS_COPY to an unknown");
    arg.dst_ioas_id = src;
    arg.dst_iova = 2 * GIB;
    is(call(fd, IOMMU_IOAS_COPY, &arg), 0, "IOAS_COPY within an IOAS");
    is(unmap(fd, src, 0, UINT64_MAX), 0, "IOAS_UNMAP of the source");
    is(unmap(fd, dst, 0x10000, 8 * PAGE), 0, "IOAS_UNMAP of the copy");
    destroy(fd, src);
    destroy(fd, dst);
}

static void files(int fd)
{
    int file = memfd_create("memory", 0), null = open("/dev/null", O_RDWR);
    struct iommu_ioas_change_process change = { .size = sizeof(change) };
    struct iommu_ioas_map_file arg;
    uint32_t ioas;

    ftruncate(file, 4 * PAGE);
    ioas_alloc(fd, &ioas);
    arg = (struct iommu_ioas_map_file) {
        .size = sizeof(arg),
        .flags = RW,
        .ioas_id = ioas,
        .fd = file,
        .length = 4 * PAGE,
        .iova = GIB,
    };
    is(call(fd, IOMMU_IOAS_MAP_FILE, &arg), 0, "MAP_FILE of a memfd");
    is(call(fd, IOMMU_IOAS_MAP_FILE, &arg), -EEXIST, "MAP_FILE again");
    arg.iova = 2 * GIB;
    arg.fd = null;
    is(call(fd, IOMMU_IOAS_MAP_FILE, &arg), 0, "MAP_FILE of /dev/null");
    arg.fd = fd;
    is(call(fd, IOMMU_IOAS_MAP_FILE, &arg), -EEXIST,
       "MAP_FILE of the iommufd to that IOVA");
    arg.fd = 999;
    is(call(fd, IOMMU_IOAS_MAP_FILE, &arg), -EBADF,
       "MAP_FILE of an fd that is not open");
    arg.fd = file;
    arg.flags = FIXED;
    is(call(fd, IOMMU_IOAS_MAP_FILE, &arg), -EINVAL,
       "MAP_FILE neither readable nor writeable");
    arg.flags = RW | 8;
    is(call(fd, IOMMU_IOAS_MAP_FILE, &arg), -EOPNOTSUPP,
       "MAP_FILE with an unknown flag");
    arg.flags = RW;
    arg.length = 0;
    is(call(fd, IOMMU_IOAS_MAP_FILE, &arg), -EINVAL, "MAP_FILE of length 0");
    is(call(fd, IOMMU_IOAS_CHANGE_PROCESS, &change), 0,
       "CHANGE_PROCESS with files mapped");
    map(fd, ioas, RW, VA(0), PAGE, 8 * GIB);
    is(call(fd, IOMMU_IOAS_CHANGE_PROCESS, &change), -EINVAL,
       "CHANGE_PROCESS with memory mapped");
    change.__reserved = 1;
    is(call(fd, IOMMU_IOAS_CHANGE_PROCESS, &change), -EOPNOTSUPP,
       "CHANGE_PROCESS with a reserved field");
    destroy(fd, ioas);
    close(file);
    close(null);
}

/* What a device and hardware page tables exclude from an address space */
static void with_hardware(World *w)
{
    uint8_t *readonly = mmap(NULL, PAGE, PROT_READ,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t plain, small, late;
    int fd = w->fd;
    const struct iommu_iova_range low = { 0x9000000, 0xfffffff };
    const struct iommu_iova_range msi = { 0x8000000, 0x8000fff };
    const struct {
        const char *name;
        uint32_t flags;
        uint64_t va, len, iova;
        int want;
    } rows[] = {
        { "a page", RW, VA(0), PAGE, GIB, 0 },
        { "an IOVA off a page", RW, VA(1), PAGE, 2 * GIB + 1, -EINVAL },
        { "an address off a page", RW, VA(1) + 16, PAGE, 2 * GIB, -EINVAL },
        { "a length off a page", RW, VA(1), PAGE + 1, 2 * GIB, -EINVAL },
        { "memory that is not there", RW, (uintptr_t)edge + PAGE, PAGE,
          2 * GIB, -EFAULT },
        { "memory whose end is not there", RW, (uintptr_t)edge, 2 * PAGE,
          2 * GIB, -EFAULT },
        { "memory at 0", RW, 0, PAGE, 2 * GIB, -EFAULT },
        { "read-only memory to write to", RW, (uintptr_t)readonly, PAGE,
          2 * GIB, -EFAULT },
        { "read-only memory to read", FIXED | READ, (uintptr_t)readonly, PAGE,
          3 * GIB, 0 },
        { "an IOVA that failed before", RW, VA(0), PAGE, 2 * GIB, 0 },
        { "the last IOVA", RW, VA(0), PAGE, (1ull << 44) - PAGE, 0 },
        { "the first IOVA that is too large", RW, VA(0), PAGE, 1ull << 44,
          -EINVAL },
        { "the MSI window", RW, VA(0), PAGE, 0x8000000, 0 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        is(map(fd, w->ioas, rows[i].flags, rows[i].va, rows[i].len,
               rows[i].iova), rows[i].want,
           "IOAS_MAP below a nesting parent of %s", rows[i].name);
    }
    is_text(ranges(fd, w->ioas, 16),
            "0, 0-fffffffffff, 1 in all, alignment 4096",
            "IOVA_RANGES below a nesting parent");
    is(attach(w, w->parent), -EADDRINUSE,
       "Attach with something mapped in the MSI window");
    unmap(fd, w->ioas, 0x8000000, PAGE);
    is(attach(w, w->parent), 0, "Attach without");
    is_text(ranges(fd, w->ioas, 16),
            "0, 0-7ffffff 8100000-fffffffffff, 2 in all, alignment 4096",
            "IOVA_RANGES with a device");
    is_text(ranges(fd, w->ioas, 1),
            "EMSGSIZE, 0-7ffffff, 2 in all, alignment 4096",
            "IOVA_RANGES with room for one");
    is_text(ranges(fd, w->ioas, 0), "EMSGSIZE,, 2 in all, alignment 4096",
            "IOVA_RANGES with room for none");
    is(map(fd, w->ioas, RW, VA(0), PAGE, 0x8000000), -EINVAL,
       "IOAS_MAP in the MSI window");
    is(map(fd, w->ioas, RW, VA(0), 2 * PAGE, 0x7fff000), -EINVAL,
       "IOAS_MAP into the MSI window");
    is(map(fd, w->ioas, RW, VA(0), PAGE, 0x80ff000), -EINVAL,
       "IOAS_MAP at the end of the MSI window");
    is(map(fd, w->ioas, RW, VA(0), PAGE, 0x8100000), 0,
       "IOAS_MAP after the MSI window");
    is(allow(fd, w->ioas, &msi, 1), -EADDRINUSE,
       "ALLOW_IOVAS in the MSI window");
    is(allow(fd, w->ioas, &low, 1), 0, "ALLOW_IOVAS after the MSI window");
    is(hwpt_alloc(w, w->ioas, 0, &plain), 0,
       "A plain HWPT of the same IOAS");
    is_text(ranges(fd, w->ioas, 16),
            "0, 0-7ffffff 8100000-fffffffffff, 2 in all, alignment 4096",
            "IOVA_RANGES with both");
    destroy(fd, plain);

    ioas_alloc(fd, &small);
    map(fd, small, RW, VA(0) + 16, PAGE, 16);
    is(hwpt_alloc(w, small, IOMMU_HWPT_ALLOC_NEST_PARENT, &late),
       -EADDRINUSE, "A HWPT for an IOAS with something off a page");
    unmap(fd, small, 0, UINT64_MAX);
    map(fd, small, RW, VA(0), PAGE, 1ull << 50);
    is(hwpt_alloc(w, small, IOMMU_HWPT_ALLOC_NEST_PARENT, &late),
       -EADDRINUSE, "A HWPT for an IOAS with something too high");
    unmap(fd, small, 0, UINT64_MAX);
    map(fd, small, RW, (uintptr_t)edge + PAGE, PAGE, GIB);
    is(hwpt_alloc(w, small, IOMMU_HWPT_ALLOC_NEST_PARENT, &late), -EFAULT,
       "A HWPT for an IOAS with memory that is not there");
    unmap(fd, small, 0, UINT64_MAX);
    is(hwpt_alloc(w, small, IOMMU_HWPT_ALLOC_NEST_PARENT, &late), 0,
       "A HWPT for an empty IOAS");
    is(attach(w, small), 0, "Replace by another IOAS");
    is_text(ranges(fd, w->ioas, 16),
            "0, 0-fffffffffff, 1 in all, alignment 4096",
            "IOVA_RANGES of the IOAS that it left");
    munmap(readonly, PAGE);
}

/*
 * RLIMIT_MEMLOCK, for a process without CAP_IPC_LOCK.  The capability counts
 * when the memory is mapped, the limit when a domain needs it.
 */
static bool set_ipc_lock(bool on)
{
    struct __user_cap_header_struct header = {
        .version = _LINUX_CAPABILITY_VERSION_3,
    };
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) ||
        !(data[0].permitted & (1u << CAP_IPC_LOCK))) {
        return false;
    }
    data[0].effective &= ~(1u << CAP_IPC_LOCK);
    data[0].effective |= (uint32_t)on << CAP_IPC_LOCK;
    return !syscall(SYS_capset, &header, data);
}

static void limited(World *w)
{
    struct rlimit old, limit;
    uint32_t ioas, hwpt;

    /* A user has it in a namespace, which is enough for the host model */
    if (!set_ipc_lock(true)) {
        unshare(CLONE_NEWUSER);
    }
    getrlimit(RLIMIT_MEMLOCK, &old);
    limit = old;
    limit.rlim_cur = 8 * PAGE;
    setrlimit(RLIMIT_MEMLOCK, &limit);
    ioas_alloc(w->fd, &ioas);
    unmap(w->fd, w->ioas, 0, UINT64_MAX);
    is(map(w->fd, w->ioas, RW, VA(0), 16 * PAGE, GIB), 0,
       "IOAS_MAP above RLIMIT_MEMLOCK with CAP_IPC_LOCK");
    unmap(w->fd, w->ioas, 0, UINT64_MAX);

    set_ipc_lock(false);
    is(map(w->fd, w->ioas, RW, VA(0), 8 * PAGE, GIB), 0,
       "IOAS_MAP of all that RLIMIT_MEMLOCK allows");
    is(map(w->fd, w->ioas, RW, VA(8), PAGE, 2 * GIB), -ENOMEM,
       "IOAS_MAP of one page more");
    unmap(w->fd, w->ioas, 0, UINT64_MAX);
    is(map(w->fd, w->ioas, RW, VA(0), 9 * PAGE, GIB), -ENOMEM,
       "IOAS_MAP of more than RLIMIT_MEMLOCK allows");
    is(map(w->fd, w->ioas, RW, VA(8), 8 * PAGE, 2 * GIB), 0,
       "IOAS_MAP of all that it allows, after that");
    unmap(w->fd, w->ioas, 0, UINT64_MAX);
    is(map(w->fd, ioas, RW, VA(0), 9 * PAGE, GIB), 0,
       "IOAS_MAP above RLIMIT_MEMLOCK, without a domain");
    is(hwpt_alloc(w, ioas, IOMMU_HWPT_ALLOC_NEST_PARENT, &hwpt), -ENOMEM,
       "A HWPT for that IOAS");
    set_ipc_lock(true);
    is(hwpt_alloc(w, ioas, IOMMU_HWPT_ALLOC_NEST_PARENT, &hwpt), -ENOMEM,
       "A HWPT for that IOAS, with CAP_IPC_LOCK");
    destroy(w->fd, ioas);
    setrlimit(RLIMIT_MEMLOCK, &old);
}

void test_ioas(void)
{
    World w = world_open();
    uint32_t ioas;

    memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ioas_alloc(w.fd, &ioas);
    map_arguments(w.fd, ioas);
    overlaps(w.fd, ioas);
    destroy(w.fd, ioas);
    allowed(w.fd);
    copying(w.fd);
    files(w.fd);
    with_hardware(&w);
    limited(&w);
    world_close(&w);
}
