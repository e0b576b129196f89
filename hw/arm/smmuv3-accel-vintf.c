/*
 * Accelerated SMMUv3: command queues in hardware
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The VINTF of a vIOMMU, its HW_QUEUEs, and their registers.
 * smmuv3-accel-cmdqv-hw.c decides when the guest has them.
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "trace.h"
#include "smmuv3-accel-stream.h"

/* How long a VCMDQ may take to stop; Linux waits for a second */
#define ENABLE_NS (1000 * 1000000ll)

/* Memory without effect at @page, or anywhere if that is NULL */
static void *map_nothing(void *page)
{
    return mmap(page, SMMUV3_HOST_VINTF_SIZE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | (page ? MAP_FIXED : 0), -1, 0);
}

bool smmuv3_accel_vintf_init(SMMUv3AccelVintf *vintf,
                             const SMMUv3HostCmdqvOps *ops, bool required,
                             Error **errp)
{
    void *page = map_nothing(NULL);

    if (page == MAP_FAILED) {
        error_setg_errno(errp, errno, "no memory for the registers of VCMDQs");
        return false;
    }
    *vintf = (SMMUv3AccelVintf) {
        .ops = ops, .page = page, .required = required, .errors_fd = -1,
    };
    return true;
}

void smmuv3_accel_vintf_fini(SMMUv3AccelVintf *vintf)
{
    if (vintf->page) {
        munmap(vintf->page, SMMUV3_HOST_VINTF_SIZE);
        vintf->page = NULL;
    }
}

/* Does the host have what the guest is told of, and can the guest use it? */
static int check_info(const SMMUv3HostCmdqv *cmdqv, const SMMUv3HostInfo *info,
                      Error **errp)
{
    if (cmdqv->log2_queues < SMMUV3_ACCEL_VINTF_LOG2_QUEUES) {
        error_setg(errp, "the host has fewer than %u VCMDQs for a guest",
                   SMMUV3_ACCEL_VINTF_QUEUES);
        return -ENODEV;
    }
    if (info->repeat) {
        error_setg(errp, "the host's SMMUv3 has erratum T264-SMMU-3");
        return -ENODEV;
    }
    return 0;
}

/* Without the vEVENTQ there is no VINTF either */
static int alloc(SMMUv3AccelVsmmu *vsmmu, SMMUv3HostDevice *dev,
                 uint32_t stage2, Error **errp)
{
    SMMUv3AccelVintf *vintf = &vsmmu->vintf;
    SMMUv3Host *host = vsmmu->ops->host(dev);
    int ret = vintf->ops->viommu_alloc(dev, stage2, vintf->page,
                                       &vsmmu->viommu, errp);

    if (ret) {
        /* A mapping that fails may have left a gap (mmap(2), MAP_FIXED) */
        map_nothing(vintf->page);
        return ret;
    }
    ret = vintf->ops->errors_alloc(host, vsmmu->viommu, &vintf->errors,
                                   &vintf->errors_fd, errp);
    if (ret) {
        map_nothing(vintf->page);
        vsmmu->ops->destroy(host, vsmmu->viommu);
        vsmmu->viommu = 0;
    }
    return ret;
}

int smmuv3_accel_vintf_open(SMMUv3AccelVsmmu *vsmmu, SMMUv3HostDevice *dev,
                            const SMMUv3HostInfo *info, uint32_t stage2,
                            Error **errp)
{
    SMMUv3AccelVintf *vintf = &vsmmu->vintf;
    SMMUv3HostCmdqv cmdqv = {};
    Error *err = NULL;
    int ret;

    if (!vintf->ops) {
        return -EOPNOTSUPP;
    }
    ret = vintf->ops->info(dev, &cmdqv, &err);
    if (ret == -EOPNOTSUPP && !vintf->required) {
        error_free(err);
        return ret;
    }
    ret = ret ?: check_info(&cmdqv, info, &err);
    ret = ret ?: alloc(vsmmu, dev, stage2, &err);
    if (ret && vintf->required) {
        error_propagate_prepend(errp, err, "x-cmdqv-backend=hardware needs a "
                                "host with a CMDQV; leave it out, and QEMU "
                                "carries the commands out: ");
        return ret == -EOPNOTSUPP ? -ENODEV : ret;
    }
    if (ret) {
        warn_reportf_err(err, "%s: QEMU carries out the commands of VCMDQs, "
                         "because the host's CMDQV cannot: ", vsmmu->name);
        return -EOPNOTSUPP;
    }
    vintf->active = true;
    vintf->sids = 1u << MIN(cmdqv.log2_sids, 16);
    trace_smmuv3_accel_vintf_open(vsmmu->name, vsmmu->viommu, vintf->sids);
    return 0;
}

void smmuv3_accel_vintf_close(SMMUv3AccelVsmmu *vsmmu)
{
    SMMUv3AccelVintf *vintf = &vsmmu->vintf;

    if (!vintf->active) {
        return;
    }
    smmuv3_accel_vintf_remove_queues(vsmmu);
    vsmmu->ops->events_free(vsmmu->host, vintf->errors, vintf->errors_fd, true);
    vintf->errors = 0;
    vintf->errors_fd = -1;
    /* The mapping keeps the vIOMMU in use */
    if (map_nothing(vintf->page) == MAP_FAILED) {
        error_report("%s: the registers of VCMDQs cannot be unmapped: %s",
                     vsmmu->name, strerror(errno));
    }
    vintf->active = false;
}

bool smmuv3_accel_vintf_add_queue(SMMUv3AccelVsmmu *vsmmu, uint64_t base,
                                  uint64_t length, Error **errp)
{
    SMMUv3AccelVintf *vintf = &vsmmu->vintf;
    unsigned n = vintf->n_queues;
    int ret = vintf->ops->queue_alloc(vsmmu->host, vsmmu->viommu, n, base,
                                      length, &vintf->queue[n], errp);

    trace_smmuv3_accel_vintf_queue(vsmmu->name, n, base, length, ret);
    if (ret) {
        return false;
    }
    vintf->n_queues++;
    return true;
}

void smmuv3_accel_vintf_remove_queues(SMMUv3AccelVsmmu *vsmmu)
{
    SMMUv3AccelVintf *vintf = &vsmmu->vintf;

    while (vintf->n_queues) {
        vsmmu->ops->destroy(vsmmu->host, vintf->queue[--vintf->n_queues]);
    }
}

static uint32_t *reg_at(const SMMUv3AccelVintf *vintf, unsigned queue,
                        unsigned reg)
{
    return (uint32_t *)(vintf->page + queue * SMMUV3_ACCEL_VINTF_STRIDE + reg);
}

uint32_t smmuv3_accel_vintf_read(const SMMUv3AccelVintf *vintf, unsigned queue,
                                 unsigned reg)
{
    return le32_to_cpu(qatomic_read(reg_at(vintf, queue, reg)));
}

void smmuv3_accel_vintf_write(const SMMUv3AccelVintf *vintf, unsigned queue,
                              unsigned reg, uint32_t value)
{
    /* The hardware reads commands after it has seen PROD */
    smp_mb();
    qatomic_set(reg_at(vintf, queue, reg), cpu_to_le32(value));
}

bool smmuv3_accel_vintf_enable(const SMMUv3AccelVintf *vintf, unsigned queue,
                               bool enable)
{
    int64_t start = get_clock();

    smmuv3_accel_vintf_write(vintf, queue, SMMUV3_VCMDQ_CONFIG, enable);
    while ((smmuv3_accel_vintf_read(vintf, queue, SMMUV3_VCMDQ_STATUS) & 1) !=
           enable) {
        if (get_clock() - start >= ENABLE_NS) {
            return false;
        }
        g_usleep(1);
    }
    return true;
}
