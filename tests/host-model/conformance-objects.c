/*
 * The calls of iommufd in general, and its objects: sizes, pointers, IDs, types
 * and lifetimes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "conformance.h"

#define ROW(request, Struct, last, zeros) \
    { #request, request, sizeof(struct Struct), \
      offsetof(struct Struct, last) + sizeof(((struct Struct *)0)->last), \
      zeros }

/* The last field that a caller must have, and what a call of zeros gives */
static const struct {
    const char *name;
    unsigned request;
    unsigned size;
    unsigned min_size;
    const char *zeros;
} calls[] = {
    ROW(IOMMU_DESTROY, iommu_destroy, id, "ENOENT"),
    ROW(IOMMU_IOAS_ALLOC, iommu_ioas_alloc, out_ioas_id, "0"),
    ROW(IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, allowed_iovas,
        "ENOENT"),
    ROW(IOMMU_IOAS_COPY, iommu_ioas_copy, src_iova, "EINVAL"),
    ROW(IOMMU_IOAS_IOVA_RANGES, iommu_ioas_iova_ranges, out_iova_alignment,
        "ENOENT"),
    ROW(IOMMU_IOAS_MAP, iommu_ioas_map, iova, "EINVAL"),
    ROW(IOMMU_IOAS_UNMAP, iommu_ioas_unmap, length, "ENOENT"),
    ROW(IOMMU_OPTION, iommu_option, val64, "EBUSY"),
    ROW(IOMMU_VFIO_IOAS, iommu_vfio_ioas, __reserved, "ENODEV"),
    ROW(IOMMU_HWPT_ALLOC, iommu_hwpt_alloc, __reserved, "ENOENT"),
    ROW(IOMMU_GET_HW_INFO, iommu_hw_info, __reserved, "ENOENT"),
    ROW(IOMMU_HWPT_SET_DIRTY_TRACKING, iommu_hwpt_set_dirty_tracking,
        __reserved, "ENOENT"),
    ROW(IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap, data,
        "ENOENT"),
    ROW(IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate, __reserved, "ENOENT"),
    ROW(IOMMU_FAULT_QUEUE_ALLOC, iommu_fault_alloc, out_fault_fd, "0"),
    ROW(IOMMU_IOAS_MAP_FILE, iommu_ioas_map_file, iova, "EINVAL"),
    ROW(IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, out_viommu_id, "EOPNOTSUPP"),
    ROW(IOMMU_VDEVICE_ALLOC, iommu_vdevice_alloc, virt_id, "ENOENT"),
    ROW(IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, __reserved,
        "0"),
    ROW(IOMMU_VEVENTQ_ALLOC, iommu_veventq_alloc, out_veventq_fd,
        "EOPNOTSUPP"),
    ROW(IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc, length, "EOPNOTSUPP"),
    ROW(IOMMU_IOAS_NOIOMMU_GET_PA, iommu_ioas_noiommu_get_pa, out_phys,
        "EOPNOTSUPP"),
};

/* A command of @size bytes of zeros, 64 with what follows them */
static uint32_t *zeros(uint8_t *at, uint32_t size)
{
    memset(at, 0, size + 64);
    *(uint32_t *)at = size;
    return (uint32_t *)at;
}

/* The only call of zeros that returns an fd */
static void close_queue(unsigned request)
{
    if (request == IOMMU_FAULT_QUEUE_ALLOC) {
        close(((struct iommu_fault_alloc *)edge)->out_fault_fd);
    }
}

static void sizes(void)
{
    int fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);

    for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
        unsigned request = calls[i].request, size = calls[i].size;
        const char *exact, *longer;
        char got[200], want[200];
        uint8_t *garbage;

        is(call(fd, request, zeros(edge, calls[i].min_size - 1)), -EINVAL,
           "%s of %u bytes", calls[i].name, calls[i].min_size - 1);

        garbage = (uint8_t *)zeros(edge, size + 8);
        garbage[size + 7] = 1;
        snprintf(got, sizeof(got), "%s, EFAULT is %s, %s, %s",
                 result_name(call(fd, request, garbage)),
                 result_name(call(fd, request, NULL)),
                 result_name(call(fd, request, edge + PAGE)),
                 result_name(call(fd, request,
                                  memcpy(edge + PAGE - 4, &size, 4))));
        is_text(got, "E2BIG, EFAULT is EFAULT, EFAULT, EFAULT",
                "%s with a byte after its end, and at a bad address",
                calls[i].name);

        exact = result_name(call(fd, request, zeros(edge, size)));
        close_queue(request);
        longer = result_name(call(fd, request, zeros(edge, size + 8)));
        close_queue(request);
        snprintf(got, sizeof(got), "%s, %s", exact, longer);
        snprintf(want, sizeof(want), "%s, %s", calls[i].zeros, calls[i].zeros);
        is_text(got, want, "%s of zeros, and longer by zeros", calls[i].name);
    }

    zeros(edge, 64);
    is(call(fd, _IO(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + ARRAY_SIZE(calls)), edge),
       -ENOTTY, "A call after the last");
    is(call(fd, _IO('x', IOMMUFD_CMD_DESTROY), edge), -ENOTTY,
       "A call with iommufd's number and another type");
    is(call(fd, _IOR(IOMMUFD_TYPE, IOMMUFD_CMD_DESTROY, int), edge), -ENOTTY,
       "A call with a size in its number");
    is(call(fd, _IO('x', 1), NULL), -ENOTTY, "An unknown ioctl");
    close(fd);
}

static void ids(void)
{
    struct iommu_ioas_alloc bad_flags = {
        .size = sizeof(bad_flags),
        .flags = 1,
    };
    World w = world_open(), other = { .fd = open("/dev/iommu", O_RDWR) };
    uint32_t first, second, hwpt;

    for (unsigned i = 0; i < 6; i++) {
        is_hex(w.info.idr[i], w.info.idr[i], "IDR%u", i);
    }
    is_hex(w.info.iidr, w.info.iidr, "IIDR");
    is_hex(w.info.aidr, w.info.aidr, "AIDR");
    is_hex(w.info.flags, w.info.flags, "flags of the SMMU");

    is(w.dev_id, 1, "The first object's ID");
    is(w.ioas, 2, "The second object's ID");
    is(call(w.fd, IOMMU_IOAS_ALLOC, &bad_flags), -EOPNOTSUPP,
       "IOAS_ALLOC with a flag");
    ioas_alloc(w.fd, &first);
    ioas_alloc(w.fd, &second);
    destroy(w.fd, first);
    ioas_alloc(w.fd, &hwpt);
    is(hwpt, first, "The lowest ID that became free is the next");
    destroy(w.fd, first);
    is(destroy(w.fd, first), -ENOENT, "DESTROY a second time");
    is(destroy(w.fd, 0), -ENOENT, "DESTROY of ID 0");
    is(destroy(w.fd, 12345), -ENOENT, "DESTROY of an ID that never existed");
    is(destroy(w.fd, UINT32_MAX), -ENOENT, "DESTROY of the largest ID");
    is(destroy(other.fd, w.ioas), -ENOENT, "DESTROY of another iommufd's ID");
    is(destroy(w.fd, second), 0, "DESTROY of an empty IOAS");
    is(destroy(w.fd, w.dev_id), -EBUSY, "DESTROY of a bound device");
    is(destroy(w.fd, w.ioas), -EBUSY, "DESTROY of an IOAS with a HWPT");
    is(attach(&w, w.ioas), 0, "Attach to an IOAS");
    is(destroy(w.fd, first), -EBUSY, "DESTROY of the HWPT that this made");
    is(detach(&w), 0, "Detach");
    is(destroy(w.fd, first), -ENOENT, "DESTROY of it after the detach");
    is(attach(&w, w.parent), 0, "Attach to a HWPT");
    is(destroy(w.fd, w.parent), -EBUSY, "DESTROY of an attached HWPT");
    detach(&w);
    is(destroy(w.fd, w.parent), 0, "DESTROY of it after the detach");
    is(destroy(w.fd, w.ioas), 0, "DESTROY of its IOAS then");
    close(other.fd);
    world_close(&w);
}

/* An object in use cannot be destroyed. */
static void lifetimes(void)
{
    World w = world_open();
    uint32_t nested, id, dev_id;

    world_nest(&w);
    is(destroy(w.fd, w.parent), -EBUSY, "DESTROY of a vIOMMU's HWPT");
    is(destroy(w.fd, w.viommu), -EBUSY, "DESTROY of a vDEVICE's vIOMMU");
    nested_alloc(&w, 0, 0, &nested);
    is(destroy(w.fd, w.vdev), 0,
       "DESTROY of a vDEVICE while a nested HWPT is there");
    is(destroy(w.fd, w.viommu), -EBUSY, "DESTROY of a nested HWPT's vIOMMU");
    is(attach(&w, nested), 0, "Attach to a nested HWPT that aborts");
    is(destroy(w.fd, nested), -EBUSY, "DESTROY of an attached nested HWPT");
    is(vdevice_alloc(&w, VSID, &w.vdev), 0, "A vDEVICE again");
    is(destroy(w.fd, w.vdev), 0, "DESTROY of a vDEVICE of an attached device");
    detach(&w);
    is(destroy(w.fd, nested), 0, "DESTROY of an idle nested HWPT");
    vdevice_alloc(&w, VSID, &w.vdev);
    dev_id = w.dev_id;
    close(w.dev);
    is(destroy(w.fd, dev_id), -ENOENT, "DESTROY of a device that was closed");
    is(destroy(w.fd, w.vdev), -ENOENT, "DESTROY of its vDEVICE");
    ioas_alloc(w.fd, &id);
    is(id, dev_id, "The closed device's ID is free");
    ioas_alloc(w.fd, &id);
    is(id == w.vdev, 0, "The ID of its vDEVICE is free");
    is(destroy(w.fd, w.viommu), 0, "DESTROY of the vIOMMU after its device");
    is(destroy(w.fd, w.parent), 0, "DESTROY of the HWPT below");
    close(w.fd);

    /* A device, and what it is attached to, outlive the iommufd's fd. */
    w = world_open();
    attach(&w, w.parent);
    close(w.fd);
    is(detach(&w), 0, "Detach after the iommufd was closed");
    is(attach(&w, w.parent), 0, "Attach after the iommufd was closed");
    close(w.dev);
}

void test_objects(void)
{
    sizes();
    ids();
    lifetimes();
}
