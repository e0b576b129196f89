/*
 * Queues of events and faults, queues in hardware, options, and host
 * information
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "conformance.h"

static long veventq(World *w, uint32_t depth, struct iommu_veventq_alloc *arg)
{
    *arg = (struct iommu_veventq_alloc) {
        .size = sizeof(*arg),
        .viommu_id = w->viommu,
        .type = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
        .veventq_depth = depth,
    };
    return call(w->fd, IOMMU_VEVENTQ_ALLOC, arg);
}

static long did(long result)
{
    return result < 0 ? -errno : result;
}

/* mmap() of a page, but -errno */
static long mapped(int fd, int prot, int flags, off_t offset, size_t length)
{
    void *at = mmap(NULL, length, prot, flags, fd, offset);

    if (at == MAP_FAILED) {
        return -errno;
    }
    munmap(at, length);
    return 0;
}

static void an_fd(int fd, bool events, const char *name)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    uint8_t buf[256] = {};

    is(did(poll(&pfd, 1, 0)), 0, "poll() of an empty %s", name);
    is(did(read(fd, buf, 240)), 0, "read() of an empty %s", name);
    is(did(read(fd, buf, 4)), events ? -EINVAL : -ESPIPE,
       "read() of 4 bytes of it");
    is(did(read(fd, buf, 8)), events ? 0 : -ESPIPE,
       "read() of 8 bytes of it");
    is(did(read(fd, edge + PAGE, 240)), 0, "read() of it to a bad address");
    is(did(write(fd, buf, 16)), -EINVAL, "write() to it");
    is(did(pread(fd, buf, 240, 0)), -ESPIPE, "pread() of it");
    is_hex(fcntl(fd, F_GETFD), FD_CLOEXEC, "F_GETFD of it");
    is_hex(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR, "F_GETFL of it");
    is(fcntl(fd, F_GETFL) & O_NONBLOCK, 0, "  whether it is non-blocking");
    is(call(fd, IOMMU_DESTROY, buf), -ENOTTY, "ioctl() on it");
    is(mapped(fd, PROT_READ, MAP_SHARED, 0, PAGE), -ENODEV, "mmap() of it");
}

static void veventqs(World *w)
{
    struct iommu_veventq_alloc q, again;
    const struct {
        const char *name;
        struct iommu_veventq_alloc arg;
        int want;
    } rows[] = {
        { "a flag", { .type = 1, .veventq_depth = 1, .flags = 1 },
          -EOPNOTSUPP },
        { "a reserved field", { .type = 1, .veventq_depth = 1,
          .__reserved = 1 }, -EOPNOTSUPP },
        { "type 0", { .type = 0, .veventq_depth = 1 }, -EOPNOTSUPP },
        { "type 0 and depth 0", { .type = 0 }, -EOPNOTSUPP },
        { "CMDQV's type", { .type = 2, .veventq_depth = 1 }, 0 },
        { "an unknown type", { .type = 77, .veventq_depth = 1 }, 0 },
        { "depth 0", { .type = 1 }, -EINVAL },
        { "depth 524289", { .type = 1, .veventq_depth = 524289 }, -EINVAL },
        { "the largest depth", { .type = 1, .veventq_depth = UINT32_MAX },
          -EINVAL },
        { "no vIOMMU", { .type = 1, .veventq_depth = 1, .viommu_id = 999 },
          -ENOENT },
        { "a HWPT as the vIOMMU", { .type = 1, .veventq_depth = 1,
          .viommu_id = w->parent }, -ENOENT },
        { "no vIOMMU and depth 0", { .type = 1, .viommu_id = 999 }, -EINVAL },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct iommu_veventq_alloc arg = rows[i].arg;
        long ret;

        arg.size = sizeof(arg);
        arg.viommu_id = arg.viommu_id ?: w->viommu;
        ret = call(w->fd, IOMMU_VEVENTQ_ALLOC, &arg);
        is(ret, rows[i].want, "VEVENTQ_ALLOC with %s", rows[i].name);
        if (!ret) {
            close(arg.out_veventq_fd);
            destroy(w->fd, arg.out_veventq_id);
        }
    }
    is(veventq(w, 524288, &q), 0, "VEVENTQ_ALLOC of 524288 events");
    close(q.out_veventq_fd);
    destroy(w->fd, q.out_veventq_id);
    is(veventq(w, 16, &q), 0, "VEVENTQ_ALLOC");
    is(veventq(w, 16, &again), -EEXIST, "VEVENTQ_ALLOC of a second");
    is(destroy(w->fd, w->viommu), -EBUSY, "DESTROY of its vIOMMU");
    is(destroy(w->fd, q.out_veventq_id), -EBUSY,
       "DESTROY of a VEVENTQ while its fd is open");
    an_fd(q.out_veventq_fd, true, "VEVENTQ");
    close(q.out_veventq_fd);
    is(veventq(w, 16, &again), -EEXIST,
       "VEVENTQ_ALLOC of a second after the fd was closed");
    is(destroy(w->fd, q.out_veventq_id), 0, "DESTROY of the VEVENTQ then");
    is(veventq(w, 16, &again), 0, "VEVENTQ_ALLOC of another");
    close(w->fd);
    close(w->dev);
    an_fd(again.out_veventq_fd, true,
          "VEVENTQ after the iommufd and the device were closed");
    close(again.out_veventq_fd);
}

static void faults(World *w)
{
    struct iommu_fault_alloc arg = { .size = sizeof(arg), .flags = 1 };
    struct iommu_hwpt_alloc hwpt = {
        .size = sizeof(hwpt),
        .flags = IOMMU_HWPT_FAULT_ID_VALID,
        .dev_id = w->dev_id,
        .pt_id = w->ioas,
    };

    is(call(w->fd, IOMMU_FAULT_QUEUE_ALLOC, &arg), -EOPNOTSUPP,
       "FAULT_QUEUE_ALLOC with a flag");
    arg.flags = 0;
    is(call(w->fd, IOMMU_FAULT_QUEUE_ALLOC, &arg), 0, "FAULT_QUEUE_ALLOC");
    is(destroy(w->fd, arg.out_fault_id), -EBUSY,
       "DESTROY of a fault queue while its fd is open");
    an_fd(arg.out_fault_fd, false, "fault queue");
    hwpt.fault_id = arg.out_fault_id;
    is(call(w->fd, IOMMU_HWPT_ALLOC, &hwpt), 0, "A HWPT with a fault queue");
    close(arg.out_fault_fd);
    is(destroy(w->fd, arg.out_fault_id), -EBUSY,
       "DESTROY of the fault queue of a HWPT");
    is(attach(w, hwpt.out_hwpt_id), 0, "Attach to that HWPT");
    detach(w);
    is(destroy(w->fd, hwpt.out_hwpt_id), 0, "DESTROY of that HWPT");
    is(destroy(w->fd, arg.out_fault_id), 0, "DESTROY of its fault queue");
}

/* Nothing of an iommufd can be mapped that no call has told of. */
static void mappings(World *w)
{
    const int rw = PROT_READ | PROT_WRITE;

    is(mapped(w->fd, rw, MAP_SHARED, 0, PAGE), -ENXIO,
       "mmap() of an iommufd at 0");
    is(mapped(w->fd, rw, MAP_SHARED, PAGE, 16 * PAGE), -ENXIO,
       "mmap() of an iommufd at 4096");
    is(mapped(w->fd, PROT_NONE, MAP_SHARED, PAGE, PAGE), -ENXIO,
       "mmap() of it without any access");
    is(mapped(w->fd, rw, MAP_PRIVATE, PAGE, PAGE), -EINVAL,
       "mmap() of it with MAP_PRIVATE");
    is(mapped(w->fd, rw | PROT_EXEC, MAP_SHARED, PAGE, PAGE), -EPERM,
       "mmap() of it with PROT_EXEC");
    is(mapped(w->fd, rw, MAP_SHARED, PAGE, 0), -EINVAL,
       "mmap() of no byte of it");
    is(mapped(w->fd, rw, MAP_SHARED, 8, PAGE), -EINVAL,
       "mmap() of it at an odd offset");
}

static void hw_queues(World *w)
{
    const struct {
        const char *name;
        struct iommu_hw_queue_alloc arg;
        int want;
    } rows[] = {
        { "a flag", { .type = 1, .length = 4096, .flags = 1 }, -EOPNOTSUPP },
        { "type 0", { .type = 0, .length = 4096 }, -EOPNOTSUPP },
        { "length 0", { .type = 1 }, -EINVAL },
        { "an address that wraps", { .type = 1, .length = 4096,
          .nesting_parent_iova = -2048ull }, -EOVERFLOW },
        { "no vIOMMU", { .type = 1, .length = 4096, .viommu_id = 999 },
          -ENOENT },
        { "length 0 and no vIOMMU", { .type = 1, .viommu_id = 999 }, -EINVAL },
        { "an address that wraps and no vIOMMU", { .type = 1, .length = 2,
          .nesting_parent_iova = -1ull, .viommu_id = 999 }, -EOVERFLOW },
        { "the last address and no vIOMMU", { .type = 1, .length = 1,
          .nesting_parent_iova = -1ull, .viommu_id = 999 }, -ENOENT },
        { "a HWPT as the vIOMMU", { .type = 1, .length = 4096,
          .viommu_id = w->parent }, -ENOENT },
        { "a vIOMMU without any", { .type = 1, .length = 4096 },
          -EOPNOTSUPP },
        { "a vIOMMU without any, and the largest length", { .type = 1,
          .length = -1ull }, -EOPNOTSUPP },
        { "a vIOMMU without any, and a wrong index", { .type = 1,
          .length = 4096, .index = 999 }, -EOPNOTSUPP },
        { "an unknown type", { .type = 9, .length = 4096 }, -EOPNOTSUPP },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct iommu_hw_queue_alloc arg = rows[i].arg;

        arg.size = sizeof(arg);
        arg.viommu_id = arg.viommu_id ?: w->viommu;
        is(call(w->fd, IOMMU_HW_QUEUE_ALLOC, &arg), rows[i].want,
           "HW_QUEUE_ALLOC with %s", rows[i].name);
    }
}

static long option(int fd, uint32_t id, uint16_t op, uint32_t object,
                   uint64_t *value)
{
    struct iommu_option arg = {
        .size = sizeof(arg),
        .option_id = id,
        .op = op,
        .object_id = object,
        .val64 = *value,
    };
    long ret = call(fd, IOMMU_OPTION, &arg);

    *value = arg.val64;
    return ret;
}

static void options(World *w)
{
    const unsigned set = IOMMU_OPTION_OP_SET, get = IOMMU_OPTION_OP_GET;
    int fd = open("/dev/iommu", O_RDWR);
    uint64_t value = 1;
    uint32_t ioas;

    is(option(fd, 0, set, 0, &value), 0, "OPTION RLIMIT_MODE to 1");
    value = 0;
    is(option(fd, 0, get, 0, &value), 0, "OPTION RLIMIT_MODE, get");
    is(value, 1, "  its value");
    value = 2;
    is(option(fd, 0, set, 0, &value), -EINVAL, "OPTION RLIMIT_MODE to 2");
    value = 0;
    is(option(fd, 0, set, 5, &value), -EOPNOTSUPP,
       "OPTION RLIMIT_MODE of an object");
    is(option(fd, 0, 2, 0, &value), -EOPNOTSUPP,
       "OPTION RLIMIT_MODE with an unknown operation");
    is(option(fd, 9, get, 0, &value), -EOPNOTSUPP, "An unknown OPTION");
    is(option(w->fd, 0, set, 0, &value), -EBUSY,
       "OPTION RLIMIT_MODE while there are objects");

    ioas_alloc(fd, &ioas);
    is(option(fd, 1, get, ioas, &value), 0, "OPTION HUGE_PAGES, get");
    is(value, 1, "  its value");
    value = 0;
    is(option(fd, 1, set, ioas, &value), 0, "OPTION HUGE_PAGES to 0");
    is(option(fd, 1, get, ioas, &value), 0, "OPTION HUGE_PAGES, get");
    is(value, 0, "  its value");
    value = 2;
    is(option(fd, 1, set, ioas, &value), -EINVAL, "OPTION HUGE_PAGES to 2");
    is(option(fd, 1, get, 0, &value), -ENOENT, "OPTION HUGE_PAGES of ID 0");
    is(option(fd, 1, 3, ioas, &value), -EOPNOTSUPP,
       "OPTION HUGE_PAGES with an unknown operation");
    close(fd);
}

static void hw_info(World *w)
{
    const struct {
        const char *name;
        struct iommu_hw_info arg;
        const char *want;
    } rows[] = {
        { "room for all", { .data_len = sizeof(w->info) },
          "0, type 2, length 40" },
        { "room for 8 bytes", { .data_len = 8 }, "0, type 2, length 40" },
        { "room for a page", { .data_len = PAGE }, "0, type 2, length 40" },
        { "room for more than a page", { .data_len = PAGE + 1 },
          "EFAULT, type 0, length 4097" },
        { "no room", { .data_len = 0 }, "0, type 2, length 40" },
        { "the type as input", { .flags = 1, .in_data_type = 2 },
          "0, type 2, length 40" },
        { "type 0 as input", { .flags = 1, .in_data_type = 0 },
          "0, type 2, length 40" },
        { "VT-d's type as input", { .flags = 1, .in_data_type = 1 },
          "EOPNOTSUPP, type 1, length 0" },
        { "CMDQV's type as input", { .flags = 1, .in_data_type = 3 },
          w->cmdqv ? "0, type 3, length 8" : "EOPNOTSUPP, type 3, length 0" },
        { "CMDQV's type as input and room", { .flags = 1, .in_data_type = 3,
          .data_len = 8 }, w->cmdqv ? "0, type 3, length 8" :
          "EOPNOTSUPP, type 3, length 8" },
        { "a type without its flag", { .in_data_type = 1 },
          "0, type 2, length 40" },
        { "an unknown flag", { .flags = 2 }, "EOPNOTSUPP, type 0, length 0" },
        { "a reserved field", { .__reserved = { 0, 0, 1 } },
          "EOPNOTSUPP, type 0, length 0" },
        { "no device", { .dev_id = 999 }, "ENOENT, type 0, length 0" },
        { "an IOAS", { .dev_id = w->ioas }, "ENOENT, type 0, length 0" },
    };
    struct iommu_hw_info arg;

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        char got[100];
        long ret;

        memset(edge, 0xaa, PAGE);
        arg = rows[i].arg;
        arg.size = sizeof(arg);
        arg.dev_id = arg.dev_id ?: w->dev_id;
        arg.data_uptr = (uintptr_t)edge;
        ret = call(w->fd, IOMMU_GET_HW_INFO, &arg);
        snprintf(got, sizeof(got), "%s, type %u, length %u", result_name(ret),
                 arg.out_data_type, arg.data_len);
        is_text(got, rows[i].want, "GET_HW_INFO with %s", rows[i].name);
        if (!ret && rows[i].arg.data_len == 8) {
            is(edge[8], 0xaa, "  and nothing after those changed");
        }
        if (!ret && rows[i].arg.data_len == PAGE) {
            is(edge[40] | edge[PAGE - 1], 0, "  and after it are zeros");
        }
    }
    is_hex(arg.out_capabilities, 0, "Capabilities after a failure");
    arg = (struct iommu_hw_info) {
        .size = sizeof(arg),
        .dev_id = w->dev_id,
        .data_len = 40,
    };
    is(call(w->fd, IOMMU_GET_HW_INFO, &arg), -EFAULT,
       "GET_HW_INFO with its data at 0");
    arg.data_len = 0;
    is(call(w->fd, IOMMU_GET_HW_INFO, &arg), 0, "GET_HW_INFO without data");
    if (!has_ats(w)) {
        is(!!(arg.out_capabilities & IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED), 1,
           "No ATS without ATS on the SMMU");
    }
    if (!ssid_bits(w)) {
        is(arg.out_max_pasid_log2, 0, "PASID bits without SubstreamIDs");
    } else {
        is(arg.out_max_pasid_log2 <= ssid_bits(w), 1,
           "PASID bits are not more than those of SubstreamIDs");
    }
    is_hex(arg.out_capabilities & IOMMU_HW_CAP_DIRTY_TRACKING, 0,
           "Capabilities: dirty tracking without HTTU");
}

void test_queues(void)
{
    World w = world_open();

    world_nest(&w);
    hw_info(&w);
    options(&w);
    faults(&w);
    hw_queues(&w);
    mappings(&w);
    veventqs(&w);
}
