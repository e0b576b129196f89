/*
 * Accelerated SMMUv3: the interface to the host, on iommufd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A thin layer: each operation makes one call of the uapi (linux/iommufd.h),
 * returns its errno and traces it.  When objects are made and freed is in
 * smmuv3-accel-stream.c.
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/iommufd.h>
#include "qemu/error-report.h"
#include "qemu/host-utils.h"
#include "qemu/sockets.h"
#include "qapi/error.h"
#include "trace.h"
#include "hw/arm/smmuv3.h"
#include "hw/vfio/pci.h"
#include "smmuv3-accel-host-iommufd.h"
#include "smmuv3-internal.h"     /* the architecture's constants */

/* The uapi's calls fail with -1 and errno, ours with -errno and an Error */
int smmuv3_iommufd_call(IOMMUFDBackend *iommufd, unsigned long request,
                        void *arg, const char *what, Error **errp)
{
    int ret = ioctl(iommufd->fd, request, arg) ? -errno : 0;

    trace_smmuv3_accel_iommufd(iommufd->fd, what, ret);
    if (ret) {
        error_setg_errno(errp, -ret, "%s failed", what);
    }
    return ret;
}

static SMMUv3HostDevice *host_device(HostIOMMUDevice *hiod)
{
    return (SMMUv3HostDevice *)HOST_IOMMU_DEVICE_IOMMUFD(hiod);
}

static int host_nest(SMMUv3HostDevice *dev, Error **errp)
{
    HostIOMMUDeviceIOMMUFD *idev = smmuv3_to_idev(dev);

    return HOST_IOMMU_DEVICE_IOMMUFD_GET_CLASS(idev)->nest(idev, errp)
           ? 0 : -EINVAL;
}

static const char *host_name(SMMUv3HostDevice *dev)
{
    return HOST_IOMMU_DEVICE(dev)->name;
}

static SMMUv3Host *host_host(SMMUv3HostDevice *dev)
{
    return (SMMUv3Host *)smmuv3_to_idev(dev)->iommufd;
}

static const char *host_id(SMMUv3Host *host)
{
    return object_get_canonical_path_component(OBJECT(host));
}

static uint32_t host_stage2(SMMUv3HostDevice *dev)
{
    return smmuv3_to_idev(dev)->hwpt_id;
}

/*
 * The fields of IDR0 to IDR5 that linux/iommufd.h lets one read, at struct
 * iommu_hw_info_arm_smmuv3.  A kernel may report anything in the other bits.
 */
static const uint32_t idr_mask[6] = {
    [0] = R_IDR0_STLEVEL_MASK | R_IDR0_TERM_MODEL_MASK |
          R_IDR0_STALL_MODEL_MASK | R_IDR0_TTENDIAN_MASK | R_IDR0_CD2L_MASK |
          R_IDR0_ASID16_MASK | R_IDR0_TTF_MASK,
    /* CMDQS: struct iommu_hw_queue_alloc */
    [1] = R_IDR1_SIDSIZE_MASK | R_IDR1_SSIDSIZE_MASK | R_IDR1_CMDQS_MASK,
    [3] = R_IDR3_BBML_MASK | R_IDR3_RIL_MASK,
    [5] = R_IDR5_VAX_MASK | R_IDR5_GRAN64K_MASK | R_IDR5_GRAN16K_MASK |
          R_IDR5_GRAN4K_MASK | R_IDR5_DS_MASK,
};

/*
 * Ask for the allowed ranges of the attached IOAS, which are as wide as the
 * stage 2 can be.  The call gives their number first.
 */
static int address_bits(HostIOMMUDeviceIOMMUFD *idev, uint8_t *bits,
                        Error **errp)
{
    g_autofree struct iommu_iova_range *ranges = NULL;
    struct iommu_ioas_iova_ranges arg = {
        .size = sizeof(arg),
        .ioas_id = idev->ioas_id,
    };
    uint64_t last = 0;
    int ret;

    if (!ioctl(idev->iommufd->fd, IOMMU_IOAS_IOVA_RANGES, &arg) ||
        errno == EMSGSIZE) {
        ranges = g_new0(struct iommu_iova_range, arg.num_iovas);
        arg.allowed_iovas = (uintptr_t)ranges;
    }
    ret = smmuv3_iommufd_call(idev->iommufd, IOMMU_IOAS_IOVA_RANGES, &arg,
                              "IOMMU_IOAS_IOVA_RANGES", errp);
    for (uint32_t i = 0; !ret && i < arg.num_iovas; i++) {
        last = MAX(last, ranges[i].last);
    }
    *bits = last == UINT64_MAX ? 64 : 63 - clz64(last + 1);
    return ret;
}

static int host_info(SMMUv3HostDevice *dev, SMMUv3HostInfo *info, Error **errp)
{
    ERRP_GUARD();
    HostIOMMUDeviceIOMMUFD *idev = smmuv3_to_idev(dev);
    struct iommu_hw_info_arm_smmuv3 data = {};
    struct iommu_hw_info arg = {
        .size = sizeof(arg),
        .dev_id = idev->devid,
        .data_len = sizeof(data),
        .data_uptr = (uintptr_t)&data,
    };
    int ret = smmuv3_iommufd_call(idev->iommufd, IOMMU_GET_HW_INFO, &arg,
                                  "IOMMU_GET_HW_INFO", errp);

    if (ret == -EOPNOTSUPP) {
        error_prepend(errp, "the host's kernel does not describe its SMMUv3 "
                      "(it must be Linux 6.19 or later): ");
    }
    if (ret) {
        return ret;
    }
    if (arg.out_data_type == IOMMU_HW_INFO_TYPE_NONE) {
        error_setg(errp, "the host's kernel says nothing of the device's IOMMU "
                   "(an SMMUv3 needs CONFIG_ARM_SMMU_V3_IOMMUFD); assign it "
                   "without accel=on");
        return -ENODEV;
    }
    if (arg.out_data_type != IOMMU_HW_INFO_TYPE_ARM_SMMUV3) {
        error_setg(errp, "the device is not behind an SMMUv3 of the host that "
                   "can nest (IOMMU_GET_HW_INFO says type %u); assign it "
                   "without accel=on", arg.out_data_type);
        return -ENODEV;
    }
    for (int i = 0; i < ARRAY_SIZE(info->idr); i++) {
        info->idr[i] = data.idr[i] & idr_mask[i];
    }
    info->ats = !(arg.out_capabilities & IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED);
    info->repeat = data.flags &
                   IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI;
    ret = address_bits(idev, &info->address_bits, errp);
    if (ret) {
        return ret;
    }
    trace_smmuv3_accel_host_info(host_name(dev), info->idr[0], info->idr[1],
                                 info->idr[3], info->idr[5],
                                 info->address_bits, data.flags);
    return 0;
}

static int host_viommu_alloc(SMMUv3HostDevice *dev, uint32_t stage2,
                             uint32_t *id, Error **errp)
{
    ERRP_GUARD();
    HostIOMMUDeviceIOMMUFD *idev = smmuv3_to_idev(dev);
    struct iommu_viommu_alloc arg = {
        .size = sizeof(arg),
        .type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
        .dev_id = idev->devid,
        .hwpt_id = stage2,
    };
    int ret = smmuv3_iommufd_call(idev->iommufd, IOMMU_VIOMMU_ALLOC, &arg,
                                  "IOMMU_VIOMMU_ALLOC", errp);

    if (ret == -EOPNOTSUPP) {
        error_prepend(errp, "the host's SMMUv3 must do both stages, and keep "
                      "the guest from bypassing caches (by S2FWB, or CANWBS in "
                      "the host's IORT): ");
    }
    if (ret == -ENOTTY) {
        error_prepend(errp, "the host's kernel must be Linux 6.19 or later, "
                      "with CONFIG_ARM_SMMU_V3_IOMMUFD: ");
    }
    if (!ret) {
        *id = arg.out_viommu_id;
    }
    return ret;
}

static int host_vdevice_alloc(SMMUv3HostDevice *dev, uint32_t viommu,
                              uint32_t sid, uint32_t *id, Error **errp)
{
    ERRP_GUARD();
    HostIOMMUDeviceIOMMUFD *idev = smmuv3_to_idev(dev);
    struct iommu_vdevice_alloc arg = {
        .size = sizeof(arg),
        .viommu_id = viommu,
        .dev_id = idev->devid,
        .virt_id = sid,
    };
    int ret = smmuv3_iommufd_call(idev->iommufd, IOMMU_VDEVICE_ALLOC, &arg,
                                  "IOMMU_VDEVICE_ALLOC", errp);

    if (ret == -EOPNOTSUPP) {
        error_prepend(errp, "the host's kernel takes no device that has more "
                      "than one StreamID in the host: ");
    }
    if (!ret) {
        *id = arg.out_vdevice_id;
    }
    return ret;
}

static int host_hwpt_alloc(SMMUv3HostDevice *dev, uint32_t viommu,
                           const uint64_t ste[2], uint32_t *id, Error **errp)
{
    HostIOMMUDeviceIOMMUFD *idev = smmuv3_to_idev(dev);
    struct iommu_hwpt_arm_smmuv3 data = {
        .ste = { cpu_to_le64(ste[0]), cpu_to_le64(ste[1]) },
    };
    struct iommu_hwpt_alloc arg = {
        .size = sizeof(arg),
        .dev_id = idev->devid,
        .pt_id = viommu,
        .data_type = IOMMU_HWPT_DATA_ARM_SMMUV3,
        .data_len = sizeof(data),
        .data_uptr = (uintptr_t)&data,
    };
    int ret = smmuv3_iommufd_call(idev->iommufd, IOMMU_HWPT_ALLOC, &arg,
                                  "IOMMU_HWPT_ALLOC of a nested HWPT", errp);

    if (!ret) {
        *id = arg.out_hwpt_id;
    }
    return ret;
}

static int host_attach(SMMUv3HostDevice *dev, uint32_t hwpt, Error **errp)
{
    HostIOMMUDeviceIOMMUFD *idev = smmuv3_to_idev(dev);

    return HOST_IOMMU_DEVICE_IOMMUFD_GET_CLASS(idev)->attach_hwpt(idev, hwpt,
                                                                  errp);
}

static int host_detach(SMMUv3HostDevice *dev, Error **errp)
{
    HostIOMMUDeviceIOMMUFD *idev = smmuv3_to_idev(dev);

    return HOST_IOMMU_DEVICE_IOMMUFD_GET_CLASS(idev)->detach_hwpt(idev, errp);
}

static int host_invalidate(SMMUv3Host *host, uint32_t viommu,
                           const SMMUv3HostCmd *cmds, uint32_t n)
{
    struct iommu_hwpt_invalidate arg = {
        .size = sizeof(arg),
        .hwpt_id = viommu,
        .data_uptr = (uintptr_t)cmds,
        .data_type = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
        .entry_len = sizeof(*cmds),
        .entry_num = n,
    };

    QEMU_BUILD_BUG_ON(sizeof(*cmds) !=
                      sizeof(struct iommu_viommu_arm_smmuv3_invalidate));
    return ioctl(smmuv3_to_iommufd(host)->fd, IOMMU_HWPT_INVALIDATE, &arg)
           ? -errno : 0;
}

int smmuv3_iommufd_veventq_alloc(SMMUv3Host *host, uint32_t viommu,
                                 uint32_t type, uint32_t depth, uint32_t *id,
                                 int *fd, Error **errp)
{
    IOMMUFDBackend *iommufd = smmuv3_to_iommufd(host);
    struct iommu_veventq_alloc arg = {
        .size = sizeof(arg),
        .viommu_id = viommu,
        .type = type,
        .veventq_depth = depth,
    };
    int ret = smmuv3_iommufd_call(iommufd, IOMMU_VEVENTQ_ALLOC, &arg,
                                  "IOMMU_VEVENTQ_ALLOC", errp);

    if (ret) {
        return ret;
    }
    ret = qemu_socket_try_set_nonblock(arg.out_veventq_fd);
    if (ret) {
        error_setg_errno(errp, -ret, "a vEVENTQ cannot be read without "
                         "blocking");
        close(arg.out_veventq_fd);
        iommufd_backend_free_id(iommufd, arg.out_veventq_id);
        return ret;
    }
    *id = arg.out_veventq_id;
    *fd = arg.out_veventq_fd;
    return 0;
}

static int host_events_alloc(SMMUv3Host *host, uint32_t viommu, uint32_t depth,
                             uint32_t *id, int *fd, Error **errp)
{
    return smmuv3_iommufd_veventq_alloc(host, viommu,
                                        IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, depth,
                                        id, fd, errp);
}

/* A record is a header, then an event, unless the header notes a loss */
static int host_events_read(SMMUv3Host *host, int fd, SMMUv3HostEvent *events,
                            unsigned max)
{
    struct iommufd_vevent_header header;
    struct iommu_vevent_arm_smmuv3 event;
    char buf[SMMUV3_HOST_EVENTS_MAX * (sizeof(header) + sizeof(event))];
    ssize_t len = read(fd, buf, MIN(max, SMMUV3_HOST_EVENTS_MAX) *
                                (sizeof(header) + sizeof(event)));
    const char *p = buf, *end = buf + len;
    unsigned n;

    QEMU_BUILD_BUG_ON(sizeof(event) != sizeof(events->word));
    if (len < 0) {
        return -errno;
    }
    for (n = 0; n < max && end - p >= sizeof(header); n++) {
        memcpy(&header, p, sizeof(header));
        p += sizeof(header);
        events[n].sequence = header.sequence;
        events[n].lost = header.flags & IOMMU_VEVENTQ_FLAG_LOST_EVENTS;
        if (!events[n].lost) {
            if (end - p < sizeof(event)) {
                break;
            }
            memcpy(events[n].word, p, sizeof(event));
            p += sizeof(event);
        }
    }
    return n;
}

/*
 * The open file keeps the object in use, and a poll() in another thread keeps
 * the file open.  That thread runs the main loop: the removal of the fd's
 * handler has woken it, but it may not have left the kernel yet.
 */
static int host_events_free(SMMUv3Host *host, uint32_t id, int fd, bool wait)
{
    const int tries = wait ? 1000 : 1, pause_us = 100;
    int iommufd = smmuv3_to_iommufd(host)->fd;
    struct iommu_destroy arg = { .size = sizeof(arg), .id = id };
    int ret;

    if (fd >= 0) {
        close(fd);
    }
    for (int n = 0; n < tries; n++) {
        ret = ioctl(iommufd, IOMMU_DESTROY, &arg) ? -errno : 0;
        if (ret != -EBUSY) {
            break;
        }
        if (wait) {
            g_usleep(pause_us);
        }
    }
    trace_smmuv3_accel_iommufd(iommufd, "IOMMU_DESTROY", ret);
    if (ret == -EBUSY && !wait) {
        return ret;
    }
    if (ret) {
        error_report("a vEVENTQ cannot be freed: %s", strerror(-ret));
    }
    return 0;
}

static void host_destroy(SMMUv3Host *host, uint32_t id)
{
    iommufd_backend_free_id(smmuv3_to_iommufd(host), id);
}

/* Each @dev is a HostIOMMUDeviceIOMMUFD, and each @host an IOMMUFDBackend */
static const SMMUv3HostOps iommufd_ops = {
    .pci_type = TYPE_VFIO_PCI,
    .cmdqv = &smmuv3_iommufd_cmdqv_ops,
    .device = host_device,
    .nest = host_nest,
    .name = host_name,
    .host = host_host,
    .host_id = host_id,
    .stage2 = host_stage2,
    .info = host_info,
    .viommu_alloc = host_viommu_alloc,
    .vdevice_alloc = host_vdevice_alloc,
    .hwpt_alloc = host_hwpt_alloc,
    .attach = host_attach,
    .detach = host_detach,
    .invalidate = host_invalidate,
    .events_alloc = host_events_alloc,
    .events_read = host_events_read,
    .events_free = host_events_free,
    .destroy = host_destroy,
};

const SMMUv3HostOps *smmuv3_host_ops = &iommufd_ops;
