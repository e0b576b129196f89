/*
 * Host model: Linux's driver of the Tegra241 CMDQV
 *
 * What drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c does for user space: a
 * VINTF for a vIOMMU, a slot for the StreamID of a vDEVICE, and the VCMDQs.
 * The kernel's own VINTF 0 is not modelled.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "linux.h"

#define IDR1_CMDQS(idr1)    (((idr1) >> 21) & 0x1f)
#define VCMDQ_ADDR          0x0000ffffffffffe0ull
#define COMMAND_SHIFT       4
#define VSID_MAX            0xfffffu

/* What Linux has of a VINTF that a vIOMMU owns */
struct HmCmdqv {
    HmVintf *vintf;
    HmHwQueue **queues;                 /* by index */
    bool *slots;                        /* in use */
    unsigned *used;                     /* VINTFs of the SMMU, the kernel's
                                           among them */
};

/* Of each SMMU: how many VINTFs are in use */
static GHashTable *vintfs;

static unsigned *vintfs_used(HmSmmu *smmu)
{
    unsigned *used;

    if (!vintfs) {
        vintfs = g_hash_table_new(NULL, NULL);
    }
    used = g_hash_table_lookup(vintfs, smmu);
    if (!used) {
        used = g_new(unsigned, 1);
        *used = 1;
        g_hash_table_insert(vintfs, smmu, used);
    }
    return used;
}

int hm_cmdqv_hw_info(HmDevice *dev, struct iommu_hw_info_tegra241_cmdqv *info)
{
    const HmSmmuConfig *config = hm_smmu_config(dev->smmu);

    if (!config->cmdqv) {
        return -EOPNOTSUPP;
    }
    *info = (struct iommu_hw_info_tegra241_cmdqv) {
        .version = config->cmdqv,
        .log2vcmdqs = config->cmdqv_vcmdqs,
        .log2vsids = config->cmdqv_sids,
    };
    return 0;
}

/* The driver reads the map, and that is all that it does for a VM. */
static void on_error(void *opaque, const uint64_t map[2])
{
    struct iommu_vevent_tegra241_cmdqv vevent = {
        .lvcmdq_err_map = { GUINT64_TO_LE(map[0]), GUINT64_TO_LE(map[1]) },
    };

    if (hm_viommu_report_event(opaque, IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
                               &vevent, sizeof(vevent))) {
        HM_COUNT("event.host");
    } else {
        HM_COUNT("event.guest");
    }
}

int hm_cmdqv_viommu_init(HmViommu *viommu, HmSmmu *smmu, uint64_t data,
                         uint32_t len)
{
    const HmSmmuConfig *config = hm_smmu_config(smmu);
    struct iommu_viommu_tegra241_cmdqv arg;
    unsigned *used = vintfs_used(smmu);
    HmCmdqv *cmdqv;

    if (len != sizeof(arg)) {
        return -EINVAL;
    }
    if (hm_copy_from_user(&arg, data, sizeof(arg))) {
        return -EFAULT;
    }
    if (*used == 1u << config->cmdqv_vintfs) {
        return -ENOSPC;
    }
    arg.out_vintf_mmap_length = HM_VINTF_PAGE0;
    arg.out_vintf_mmap_offset = hm_mmap_offset(viommu->obj.ctx,
                                               HM_VINTF_PAGE0);
    if (hm_copy_to_user(data, &arg, sizeof(arg))) {
        return -EFAULT;
    }
    cmdqv = g_new0(HmCmdqv, 1);
    cmdqv->vintf = hm_vintf_new(smmu, viommu->vmid, on_error, viommu);
    cmdqv->queues = g_new0(HmHwQueue *, 1u << config->cmdqv_vcmdqs);
    cmdqv->slots = g_new0(bool, 1u << config->cmdqv_sids);
    cmdqv->used = used;
    ++*used;
    viommu->cmdqv = cmdqv;
    hm_mmap_add(&viommu->obj, arg.out_vintf_mmap_offset, HM_VINTF_PAGE0,
                hm_vintf_fd(cmdqv->vintf));
    return 0;
}

void hm_cmdqv_viommu_destroy(HmViommu *viommu)
{
    HmCmdqv *cmdqv = viommu->cmdqv;

    if (!cmdqv) {
        return;
    }
    hm_mmap_remove(&viommu->obj);
    hm_vintf_free(cmdqv->vintf);
    --*cmdqv->used;
    g_free(cmdqv->queues);
    g_free(cmdqv->slots);
    g_free(cmdqv);
}

int hm_cmdqv_vdevice_init(HmVdevice *vdev)
{
    HmDevice *dev = vdev->idev->dev;
    const HmSmmuConfig *config = hm_smmu_config(dev->smmu);
    HmCmdqv *cmdqv = vdev->viommu->cmdqv;

    if (vdev->virt_id > VSID_MAX) {
        return -EINVAL;
    }
    if (dev->n_sids > 1) {
        return -EOPNOTSUPP;
    }
    for (unsigned i = 0; i < 1u << config->cmdqv_sids; i++) {
        if (!cmdqv->slots[i]) {
            cmdqv->slots[i] = true;
            vdev->slot = i + 1;
            hm_vintf_set_slot(cmdqv->vintf, i, true, vdev->virt_id, dev->sid);
            return 0;
        }
    }
    return -ENOSPC;
}

void hm_cmdqv_vdevice_destroy(HmVdevice *vdev)
{
    HmCmdqv *cmdqv = vdev->viommu->cmdqv;

    if (vdev->slot) {
        cmdqv->slots[vdev->slot - 1] = false;
        hm_vintf_set_slot(cmdqv->vintf, vdev->slot - 1, false, 0, 0);
    }
}

int hm_cmdqv_queue_init(HmHwQueue *queue, uint32_t index, uint64_t base)
{
    HmViommu *viommu = queue->viommu;
    HmSmmu *smmu = hm_driver_smmu(viommu->driver);
    const HmSmmuConfig *config = hm_smmu_config(smmu);
    HmCmdqv *cmdqv = viommu->cmdqv;
    unsigned max = IDR1_CMDQS(config->idr[1]) + COMMAND_SHIFT;

    if (index >= 1u << config->cmdqv_vcmdqs) {
        return -EINVAL;
    }
    if (cmdqv->queues[index]) {
        return -EEXIST;
    }
    if (index && !cmdqv->queues[index - 1]) {
        return -EIO;
    }
    if ((queue->length & (queue->length - 1)) ||
        queue->length < 2 << COMMAND_SHIFT || queue->length > 1ull << max) {
        return -EINVAL;
    }
    if ((base & ~VCMDQ_ADDR) || (base & (queue->length - 1))) {
        return -EINVAL;
    }
    if (index) {
        queue->prev = cmdqv->queues[index - 1];
        queue->prev->obj.users++;
    }
    queue->index = index;
    cmdqv->queues[index] = queue;
    hm_vintf_map(cmdqv->vintf, index, base,
                 __builtin_ctzll(queue->length) - COMMAND_SHIFT);
    /* Linux resets the registers, and waits for what an old queue issued. */
    hm_smmu_sync(smmu);
    return 0;
}

void hm_cmdqv_queue_destroy(HmHwQueue *queue)
{
    HmCmdqv *cmdqv = queue->viommu->cmdqv;

    hm_vintf_unmap(cmdqv->vintf, queue->index);
    hm_smmu_sync(hm_driver_smmu(queue->viommu->driver));
    cmdqv->queues[queue->index] = NULL;
    if (queue->prev) {
        queue->prev->obj.users--;
    }
}
