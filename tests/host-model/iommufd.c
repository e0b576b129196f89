/*
 * Host model: Linux's iommufd
 *
 * Objects and their references, devices and their attachments, vIOMMUs and
 * their queues.  The order of checks is as in Linux, because it decides which
 * error a wrong call gets.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <linux/pci_regs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>
#include "linux.h"

#define VEVENTQ_DEPTH_MAX   (1u << 19)
#define INVALIDATE_MAX      (1u << 19)

static void destroy(HmObject *obj);

/* All contexts, of HmCtx */
static GPtrArray *contexts;

/* The ID of a vDEVICE that was undone: no object has it, but it is not free. */
static HmObject tombstone;

/*
 * User memory.  The kernel reads and writes our own memory for us, so that a
 * bad address gives an errno.
 */

int hm_copy_from_user(void *to, uint64_t from, size_t len)
{
    struct iovec local = { to, len };
    struct iovec remote = { (void *)(uintptr_t)from, len };

    return !len || process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == len
           ? 0 : -EFAULT;
}

int hm_copy_to_user(uint64_t to, const void *from, size_t len)
{
    struct iovec local = { (void *)from, len };
    struct iovec remote = { (void *)(uintptr_t)to, len };

    return !len || process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == len
           ? 0 : -EFAULT;
}

int hm_clear_user(uint64_t to, uint64_t len)
{
    static const uint8_t zeros[HM_PAGE];

    while (len) {
        size_t n = MIN(len, HM_PAGE - to % HM_PAGE);

        if (hm_copy_to_user(to, zeros, n)) {
            return -EFAULT;
        }
        to += n;
        len -= n;
    }
    return 0;
}

/* 0 if all bytes are 0, -E2BIG if not, -EFAULT if they cannot be read */
static int check_zeroed_user(uint64_t from, uint64_t len)
{
    uint8_t buf[HM_PAGE];

    while (len) {
        size_t n = MIN(len, HM_PAGE - from % HM_PAGE);

        if (hm_copy_from_user(buf, from, n)) {
            return -EFAULT;
        }
        for (size_t i = 0; i < n; i++) {
            if (buf[i]) {
                return -E2BIG;
            }
        }
        from += n;
        len -= n;
    }
    return 0;
}

int hm_copy_struct_from_user(void *to, size_t size, uint64_t from,
                             uint64_t user_size)
{
    if (user_size < size) {
        memset((uint8_t *)to + user_size, 0, size - user_size);
    } else {
        int ret = check_zeroed_user(from + size, user_size - size);

        if (ret) {
            return ret;
        }
    }
    return hm_copy_from_user(to, from, MIN(size, user_size));
}

int hm_respond(HmCall *call, size_t size)
{
    return hm_copy_to_user(call->user, call->cmd, MIN(size, call->user_size));
}

/*
 * Objects
 */

void *hm_object_new(HmCtx *ctx, size_t size, HmObjectType type)
{
    HmObject *obj = g_malloc0(size);
    uint32_t id = 1;

    while (id < ctx->objects->len && ctx->objects->pdata[id]) {
        id++;
    }
    if (id >= ctx->objects->len) {
        g_ptr_array_set_size(ctx->objects, id + 1);
    }
    ctx->objects->pdata[id] = obj;
    obj->ctx = ctx;
    obj->type = type;
    obj->id = id;
    obj->users = 1;
    return obj;
}

void hm_object_publish(HmObject *obj)
{
    obj->published = true;
}

static void free_id(HmObject *obj, HmObject *instead)
{
    obj->ctx->objects->pdata[obj->id] = instead;
}

void hm_object_abort(HmObject *obj)
{
    destroy(obj);
    if (obj->users != 1) {
        hm_bug("object %u of type %d freed with %u users", obj->id, obj->type,
               obj->users);
    }
    free_id(obj, NULL);
    g_free(obj);
}

void *hm_object_get(HmCtx *ctx, uint32_t id, HmObjectType type)
{
    HmObject *obj = id < ctx->objects->len ? ctx->objects->pdata[id] : NULL;

    if (!obj || !obj->published || (type != HM_OBJ_ANY && obj->type != type)) {
        return NULL;
    }
    return obj;
}

/* Only an object without users can be destroyed. */
static int remove_object(HmObject *obj, HmObject *instead)
{
    HmCtx *ctx = obj->ctx;

    if (obj->users != 1) {
        return -EBUSY;
    }
    free_id(obj, instead);
    if (ctx->vfio_ioas && &ctx->vfio_ioas->obj == obj) {
        ctx->vfio_ioas = NULL;
    }
    destroy(obj);
    g_free(obj);
    return 0;
}

static int ioctl_destroy(HmCall *call)
{
    struct iommu_destroy *cmd = call->cmd;
    HmObject *obj = hm_object_get(call->ctx, cmd->id, HM_OBJ_ANY);

    return obj ? remove_object(obj, NULL) : -ENOENT;
}

/*
 * Contexts
 */

HmCtx *hm_iommufd_open(void)
{
    HmCtx *ctx = g_new0(HmCtx, 1);

    if (!contexts) {
        contexts = g_ptr_array_new();
    }
    ctx->refs = 1;
    ctx->objects = g_ptr_array_new();
    g_ptr_array_add(contexts, ctx);
    return ctx;
}

static const char *const type_names[HM_OBJ_TYPES] = {
    [HM_OBJ_DEVICE] = "device",
    [HM_OBJ_HWPT_PAGING] = "hwpt_paging",
    [HM_OBJ_HWPT_NESTED] = "hwpt_nested",
    [HM_OBJ_IOAS] = "ioas",
    [HM_OBJ_FAULT] = "fault",
    [HM_OBJ_VIOMMU] = "viommu",
    [HM_OBJ_VDEVICE] = "vdevice",
    [HM_OBJ_VEVENTQ] = "veventq",
    [HM_OBJ_HW_QUEUE] = "hw_queue",
    [HM_OBJ_ACCESS] = "access",
};

/* Count the objects that the user left.  The kernel frees them now. */
static void count_left(HmCtx *ctx)
{
    for (unsigned id = 0; id < ctx->objects->len; id++) {
        HmObject *obj = hm_object_get(ctx, id, HM_OBJ_ANY);

        if (obj) {
            char *name = g_strconcat("left.", type_names[obj->type], NULL);

            ++*hm_counter(name);
            g_free(name);
        }
    }
}

static void ctx_put(HmCtx *ctx)
{
    bool left, progress = true;

    if (--ctx->refs) {
        return;
    }
    count_left(ctx);
    /* Destroy users before the objects that they use. */
    do {
        left = false;
        if (!progress) {
            hm_bug("objects of an iommufd reference each other");
        }
        progress = false;
        for (unsigned id = 0; id < ctx->objects->len; id++) {
            HmObject *obj = hm_object_get(ctx, id, HM_OBJ_ANY);

            if (!obj) {
                continue;
            }
            left = true;
            if (!remove_object(obj, NULL)) {
                progress = true;
            }
        }
    } while (left);
    g_ptr_array_remove(contexts, ctx);
    g_ptr_array_free(ctx->objects, true);
    g_free(ctx);
}

void hm_iommufd_close(HmCtx *ctx)
{
    ctx_put(ctx);
}

/*
 * What a device is attached to
 */

static HmHwpt *paging_of(HmHwpt *hwpt)
{
    return hwpt->obj.type == HM_OBJ_HWPT_PAGING ? hwpt : hwpt->viommu->hwpt;
}

static HmHwpt *attached(HmIdev *idev, uint32_t pasid)
{
    return g_hash_table_lookup(idev->hwpts, (void *)(uintptr_t)pasid);
}

static void set_attached(HmIdev *idev, uint32_t pasid, HmHwpt *hwpt)
{
    void *key = (void *)(uintptr_t)pasid;

    if (hwpt) {
        g_hash_table_insert(idev->hwpts, key, hwpt);
    } else {
        g_hash_table_remove(idev->hwpts, key);
    }
}

/*
 * The next device of the same group that is attached, from number *@n on; NULL
 * after the last one.  It may be @idev itself.
 */
static HmIdev *next_attached(HmIdev *idev, uint32_t pasid, unsigned *n)
{
    HmDevice *dev;

    while ((dev = hm_group_member(idev->dev, (*n)++))) {
        if (dev->idev && attached(dev->idev, pasid)) {
            return dev->idev;
        }
    }
    return NULL;
}

/* What the group is attached to.  All devices that are attached have the same */
static HmHwpt *group_attached(HmIdev *idev, uint32_t pasid)
{
    unsigned n = 0;
    HmIdev *first = next_attached(idev, pasid, &n);

    return first ? attached(first, pasid) : NULL;
}

/* Drop a user.  An automatic HWPT goes with its last attachment. */
static void hwpt_put(HmHwpt *hwpt)
{
    hwpt->obj.users--;
    if (hwpt->obj.type == HM_OBJ_HWPT_PAGING && hwpt->auto_domain) {
        remove_object(&hwpt->obj, NULL);
    }
}

/* A RID and PASIDs go together only in HWPTs for PASIDs. */
static int check_pasid(HmHwpt *hwpt, HmIdev *idev, uint32_t pasid)
{
    HmHwpt *rid = attached(idev, HM_RID);

    if (pasid == HM_RID) {
        bool pasids = g_hash_table_size(idev->hwpts) > (rid ? 1 : 0);

        return !hwpt->pasid_compat && pasids ? -EINVAL : 0;
    }
    return !hwpt->pasid_compat || (rid && !rid->pasid_compat) ? -EINVAL : 0;
}

static int do_attach(HmIdev *idev, uint32_t pasid, HmHwpt *hwpt, HmHwpt **old)
{
    HmIoas *resv = pasid == HM_RID ? paging_of(hwpt)->ioas : NULL;
    HmHwpt *others = group_attached(idev, pasid);
    int ret;

    *old = NULL;
    if (attached(idev, pasid)) {
        return -EBUSY;
    }
    if (others && others != hwpt) {
        return -EINVAL;
    }
    if (resv) {
        ret = hm_ioas_reserve_for_device(resv, idev->dev);
        if (ret) {
            return ret;
        }
    }
    /* The first device attaches the whole group. */
    ret = others ? 0 : check_pasid(hwpt, idev, pasid);
    if (!ret && !others) {
        ret = pasid == HM_RID ?
              hm_group_attach(idev->dev, hwpt->domain) :
              hm_group_attach_pasid(idev->dev, pasid, hwpt->domain);
    }
    if (ret) {
        if (resv) {
            hm_ioas_unreserve(resv, idev->dev);
        }
        return ret;
    }
    hwpt->obj.users++;
    set_attached(idev, pasid, hwpt);
    return 0;
}

static int group_reserve(HmIdev *idev, HmIoas *ioas)
{
    unsigned n = 0;
    HmIdev *member;
    int ret = 0;

    while (!ret && (member = next_attached(idev, HM_RID, &n))) {
        ret = hm_ioas_reserve_for_device(ioas, member->dev);
    }
    return ret;
}

static void group_unreserve(HmIdev *idev, HmIoas *ioas)
{
    unsigned n = 0;
    HmIdev *member;

    while ((member = next_attached(idev, HM_RID, &n))) {
        hm_ioas_unreserve(ioas, member->dev);
    }
}

/*
 * This moves all devices of the group that are attached.  On success the caller
 * drops *old, if it is not NULL.
 */
static int do_replace(HmIdev *idev, uint32_t pasid, HmHwpt *hwpt, HmHwpt **old)
{
    HmIoas *resv = pasid == HM_RID ? paging_of(hwpt)->ioas : NULL;
    HmHwpt *was = attached(idev, pasid);
    HmIoas *old_ioas;
    HmIdev *member;
    unsigned n = 0;
    int ret;

    *old = NULL;
    if (!was) {
        return -EINVAL;
    }
    if (was == hwpt) {
        return 0;
    }
    old_ioas = paging_of(was)->ioas;
    if (resv && resv != old_ioas) {
        ret = group_reserve(idev, resv);
        if (ret) {
            group_unreserve(idev, resv);
            return ret;
        }
    }
    ret = check_pasid(hwpt, idev, pasid);
    if (!ret) {
        ret = pasid == HM_RID ?
              hm_group_replace(idev->dev, hwpt->domain) :
              hm_group_replace_pasid(idev->dev, pasid, hwpt->domain);
    }
    if (ret) {
        /* Linux does this even if the old HWPT has the same IOAS. */
        if (resv) {
            group_unreserve(idev, resv);
        }
        return ret;
    }
    if (resv && resv != old_ioas) {
        group_unreserve(idev, old_ioas);
    }
    while ((member = next_attached(idev, pasid, &n))) {
        hwpt->obj.users++;
        was->obj.users--;
        set_attached(member, pasid, hwpt);
    }
    was->obj.users++;                   /* for the caller */
    *old = was;
    return 0;
}

/* Returns whether there was an attachment. */
static bool do_detach(HmIdev *idev, uint32_t pasid)
{
    HmHwpt *hwpt = attached(idev, pasid);

    if (!hwpt) {
        return false;
    }
    set_attached(idev, pasid, NULL);
    /* The others of its group keep it attached. */
    if (!group_attached(idev, pasid)) {
        if (pasid == HM_RID) {
            hm_group_detach(idev->dev);
        } else {
            hm_group_detach_pasid(idev->dev, pasid);
        }
    }
    if (pasid == HM_RID) {
        hm_ioas_unreserve(paging_of(hwpt)->ioas, idev->dev);
    }
    hwpt_put(hwpt);
    return true;
}

/*
 * A new HWPT of @ioas, filled but not published.  With @attach the device is
 * attached to it at once.
 */
static int alloc_paging(HmIoas *ioas, HmIdev *idev, uint32_t pasid,
                        uint32_t flags, bool attach, bool data, HmHwpt **out)
{
    const uint32_t valid = IOMMU_HWPT_ALLOC_NEST_PARENT |
                           IOMMU_HWPT_ALLOC_DIRTY_TRACKING |
                           IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID;
    HmHwpt *hwpt, *none;
    int ret;

    if (flags & ~valid) {
        return -EOPNOTSUPP;
    }
    if ((flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) &&
        !hm_driver_dirty_capable(idev->dev)) {
        return -EOPNOTSUPP;
    }
    if ((flags & IOMMU_HWPT_FAULT_ID_VALID) &&
        (flags & IOMMU_HWPT_ALLOC_NEST_PARENT)) {
        return -EOPNOTSUPP;
    }
    hwpt = HM_OBJECT_NEW(ioas->obj.ctx, HmHwpt, HM_OBJ_HWPT_PAGING);
    hwpt->pasid_compat = flags & IOMMU_HWPT_ALLOC_PASID;
    hwpt->nest_parent = flags & IOMMU_HWPT_ALLOC_NEST_PARENT;
    hwpt->ioas = ioas;
    ioas->obj.users++;

    ret = hm_domain_alloc_paging(idev->dev, flags & ~IOMMU_HWPT_FAULT_ID_VALID,
                                 data, &hwpt->domain);
    if (ret) {
        goto fail;
    }
    /* This never changes: a device without it cannot be attached later. */
    hwpt->domain->enforce_cc = hm_driver_canwbs(idev->dev);
    if (attach) {
        ret = do_attach(idev, pasid, hwpt, &none);
        if (ret) {
            goto fail;
        }
    }
    ret = hm_ioas_add_domain(ioas, hwpt->domain);
    if (ret) {
        if (attach) {
            do_detach(idev, pasid);
        }
        goto fail;
    }
    hwpt->filled = true;
    g_ptr_array_add(ioas->hwpts, hwpt);
    *out = hwpt;
    return 0;

fail:
    hm_object_abort(&hwpt->obj);
    return ret;
}

/* Attach to an IOAS: to its first automatic HWPT that fits, or to a new one. */
static int change_ioas(HmIdev *idev, uint32_t pasid, HmIoas *ioas,
                       uint32_t *pt_id, bool replace, HmHwpt **old)
{
    HmHwpt *hwpt;
    int ret;

    for (unsigned i = 0; i < ioas->hwpts->len; i++) {
        hwpt = ioas->hwpts->pdata[i];
        if (!hwpt->auto_domain) {
            continue;
        }
        ret = replace ? do_replace(idev, pasid, hwpt, old)
                      : do_attach(idev, pasid, hwpt, old);
        /* This one does not fit: it may be for another SMMU. */
        if (ret == -EINVAL) {
            continue;
        }
        if (!ret) {
            *pt_id = hwpt->obj.id;
        }
        return ret;
    }

    ret = alloc_paging(ioas, idev, pasid, 0, !replace, false, &hwpt);
    if (ret) {
        return ret;
    }
    *old = NULL;
    if (replace) {
        ret = do_replace(idev, pasid, hwpt, old);
        if (ret) {
            hm_object_abort(&hwpt->obj);
            return ret;
        }
    }
    hwpt->auto_domain = true;
    *pt_id = hwpt->obj.id;
    hm_object_publish(&hwpt->obj);
    return 0;
}

static int change_pt(HmIdev *idev, uint32_t pasid, uint32_t *pt_id,
                     bool replace)
{
    HmObject *obj = hm_object_get(idev->obj.ctx, *pt_id, HM_OBJ_ANY);
    HmHwpt *old = NULL;
    int ret;

    if (!obj) {
        return -ENOENT;
    }
    switch (obj->type) {
    case HM_OBJ_HWPT_PAGING:
    case HM_OBJ_HWPT_NESTED:
        ret = replace ? do_replace(idev, pasid, (HmHwpt *)obj, &old)
                      : do_attach(idev, pasid, (HmHwpt *)obj, &old);
        break;
    case HM_OBJ_IOAS:
        ret = change_ioas(idev, pasid, (HmIoas *)obj, pt_id, replace, &old);
        break;
    default:
        ret = -EINVAL;
    }
    if (!ret && old) {
        hwpt_put(old);
    }
    return ret;
}

static int idev_attach(HmIdev *idev, uint32_t pasid, uint32_t *pt_id)
{
    int ret = change_pt(idev, pasid, pt_id, false);

    if (!ret) {
        idev->obj.users++;
    }
    return ret;
}

static void idev_detach(HmIdev *idev, uint32_t pasid)
{
    if (do_detach(idev, pasid)) {
        idev->obj.users--;
    }
}

/*
 * Devices, as VFIO has them
 */

int hm_iommufd_bind(HmCtx *ctx, HmDevice *dev, uint32_t *devid)
{
    HmIdev *idev;
    int ret;

    if (dev->idev) {
        return -EINVAL;
    }
    if (!hm_driver_coherent(dev)) {
        return -EINVAL;
    }
    ret = hm_group_claim(dev, ctx);
    if (ret) {
        return ret;
    }
    idev = HM_OBJECT_NEW(ctx, HmIdev, HM_OBJ_DEVICE);
    idev->dev = dev;
    idev->hwpts = g_hash_table_new(NULL, NULL);
    idev->pasids = g_hash_table_new(NULL, NULL);
    /* VFIO holds it until it unbinds the device. */
    idev->obj.users++;
    ctx->refs++;
    dev->idev = idev;
    dev->ctx = ctx;
    hm_object_publish(&idev->obj);
    *devid = idev->obj.id;
    return 0;
}

static void destroy_device(HmIdev *idev)
{
    HmCtx *ctx = idev->obj.ctx;

    hm_group_release(idev->dev);
    idev->dev->idev = NULL;
    idev->dev->ctx = NULL;
    g_hash_table_destroy(idev->hwpts);
    g_hash_table_destroy(idev->pasids);
    ctx->refs--;
}

void hm_iommufd_unbind(HmDevice *dev)
{
    HmIdev *idev = dev->idev;
    GHashTableIter iter;
    HmCtx *ctx;
    void *key;

    if (!idev) {
        return;
    }
    g_hash_table_iter_init(&iter, idev->pasids);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        idev_detach(idev, (uintptr_t)key);
    }
    if (idev->attached) {
        idev_detach(idev, HM_RID);
    }
    /* The vDEVICE's ID stays reserved: the user may still use it. */
    if (idev->vdev && remove_object(&idev->vdev->obj, &tombstone)) {
        hm_bug("%s: its vDEVICE has users", dev->name);
    }
    ctx = idev->obj.ctx;
    ctx->refs++;
    idev->obj.users--;
    if (remove_object(&idev->obj, NULL)) {
        hm_bug("%s: unbound in use", dev->name);
    }
    ctx_put(ctx);
}

int hm_iommufd_attach(HmDevice *dev, uint32_t pasid, uint32_t *pt_id)
{
    HmIdev *idev = dev->idev;
    void *key = (void *)(uintptr_t)pasid;
    int ret;

    if (!idev) {
        return -EINVAL;
    }
    if (pasid == HM_NO_PASID) {
        ret = idev->attached ? change_pt(idev, HM_RID, pt_id, true)
                             : idev_attach(idev, HM_RID, pt_id);
        if (!ret) {
            idev->attached = true;
        }
        return ret;
    }
    if (g_hash_table_contains(idev->pasids, key)) {
        return change_pt(idev, pasid, pt_id, true);
    }
    if (pasid > INT32_MAX) {
        return -ENOSPC;
    }
    ret = idev_attach(idev, pasid, pt_id);
    if (!ret) {
        g_hash_table_add(idev->pasids, key);
    }
    return ret;
}

int hm_iommufd_detach(HmDevice *dev, uint32_t pasid)
{
    HmIdev *idev = dev->idev;

    if (!idev) {
        return -EINVAL;
    }
    if (pasid == HM_NO_PASID) {
        if (idev->attached) {
            idev_detach(idev, HM_RID);
            idev->attached = false;
        }
    } else if (g_hash_table_remove(idev->pasids, (void *)(uintptr_t)pasid)) {
        idev_detach(idev, pasid);
    }
    return 0;
}

static int ioctl_hw_info(HmCall *call)
{
    struct iommu_hw_info *cmd = call->cmd;
    HmHwInfo info;
    uint32_t len, size, max_pasids;
    HmIdev *idev;
    int ret;

    if ((cmd->flags & ~IOMMU_HW_INFO_FLAG_INPUT_TYPE) || cmd->__reserved[0] ||
        cmd->__reserved[1] || cmd->__reserved[2]) {
        return -EOPNOTSUPP;
    }
    if (!(cmd->flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE)) {
        cmd->in_data_type = IOMMU_HW_INFO_TYPE_DEFAULT;
    }
    idev = hm_object_get(call->ctx, cmd->dev_id, HM_OBJ_DEVICE);
    if (!idev) {
        return -ENOENT;
    }
    ret = hm_driver_hw_info(idev->dev, &cmd->out_data_type, &info, &size);
    if (ret) {
        return ret;
    }
    len = MIN(cmd->data_len, size);
    if (hm_copy_to_user(cmd->data_uptr, &info, len) ||
        hm_clear_user(cmd->data_uptr + len, cmd->data_len - len)) {
        return -EFAULT;
    }
    cmd->data_len = size;
    cmd->out_capabilities = 0;
    if (hm_driver_dirty_capable(idev->dev)) {
        cmd->out_capabilities |= IOMMU_HW_CAP_DIRTY_TRACKING;
    }
    if (!hm_driver_ats_supported(idev->dev)) {
        cmd->out_capabilities |= IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED;
    }
    /* Exec and Priv are those that the host enabled, even for one PASID. */
    max_pasids = hm_driver_max_pasids(idev->dev);
    cmd->out_max_pasid_log2 = 0;
    if (max_pasids) {
        unsigned control = hm_pci_pasid_control(idev->dev);

        cmd->out_max_pasid_log2 = __builtin_ctz(max_pasids);
        if (control & PCI_PASID_CTRL_EXEC) {
            cmd->out_capabilities |= IOMMU_HW_CAP_PCI_PASID_EXEC;
        }
        if (control & PCI_PASID_CTRL_PRIV) {
            cmd->out_capabilities |= IOMMU_HW_CAP_PCI_PASID_PRIV;
        }
    }
    return hm_respond(call, sizeof(*cmd));
}

/*
 * HWPTs
 */

static void destroy_hwpt(HmHwpt *hwpt)
{
    if (hwpt->obj.type == HM_OBJ_HWPT_PAGING && hwpt->filled) {
        g_ptr_array_remove(hwpt->ioas->hwpts, hwpt);
        hm_ioas_remove_domain(hwpt->ioas, hwpt->domain);
    }
    if (hwpt->domain) {
        hm_domain_free(hwpt->domain);
    }
    if (hwpt->fault) {
        ((HmObject *)hwpt->fault)->users--;
    }
    if (hwpt->obj.type == HM_OBJ_HWPT_PAGING) {
        hwpt->ioas->obj.users--;
    } else {
        hwpt->viommu->obj.users--;
    }
}

static int alloc_nested(HmViommu *viommu, const struct iommu_hwpt_alloc *cmd,
                        HmHwpt **out)
{
    HmHwpt *hwpt;
    int ret;

    if ((cmd->flags & ~(IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID)) ||
        !cmd->data_len) {
        return -EOPNOTSUPP;
    }
    hwpt = HM_OBJECT_NEW(viommu->obj.ctx, HmHwpt, HM_OBJ_HWPT_NESTED);
    hwpt->pasid_compat = cmd->flags & IOMMU_HWPT_ALLOC_PASID;
    hwpt->viommu = viommu;
    viommu->obj.users++;
    ret = hm_domain_alloc_nested(viommu,
                                 cmd->flags & ~IOMMU_HWPT_FAULT_ID_VALID,
                                 cmd->data_type, cmd->data_uptr, cmd->data_len,
                                 &hwpt->domain);
    if (ret) {
        hm_object_abort(&hwpt->obj);
        return ret;
    }
    *out = hwpt;
    return 0;
}

static int ioctl_hwpt_alloc(HmCall *call)
{
    struct iommu_hwpt_alloc *cmd = call->cmd;
    HmHwpt *hwpt = NULL;
    HmObject *pt, *fault;
    HmIdev *idev;
    int ret;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    if ((cmd->data_type == IOMMU_HWPT_DATA_NONE) != !cmd->data_len) {
        return -EINVAL;
    }
    idev = hm_object_get(call->ctx, cmd->dev_id, HM_OBJ_DEVICE);
    if (!idev) {
        return -ENOENT;
    }
    pt = hm_object_get(call->ctx, cmd->pt_id, HM_OBJ_ANY);
    if (!pt) {
        return -EINVAL;
    }
    switch (pt->type) {
    case HM_OBJ_IOAS:
        ret = alloc_paging((HmIoas *)pt, idev, HM_RID, cmd->flags, false,
                           cmd->data_len, &hwpt);
        break;
    case HM_OBJ_VIOMMU:
        ret = ((HmViommu *)pt)->driver != hm_driver_of(idev->dev) ? -EINVAL :
              alloc_nested((HmViommu *)pt, cmd, &hwpt);
        break;
    case HM_OBJ_HWPT_PAGING:
        /* This driver nests only on a vIOMMU. */
        ret = -EOPNOTSUPP;
        break;
    default:
        ret = -EINVAL;
    }
    if (ret) {
        return ret;
    }
    if (cmd->flags & IOMMU_HWPT_FAULT_ID_VALID) {
        fault = hm_object_get(call->ctx, cmd->fault_id, HM_OBJ_FAULT);
        if (!fault) {
            hm_object_abort(&hwpt->obj);
            return -ENOENT;
        }
        hwpt->fault = (HmVeventq *)fault;
        fault->users++;
    }
    cmd->out_hwpt_id = hwpt->obj.id;
    ret = hm_respond(call, sizeof(*cmd));
    if (ret) {
        hm_object_abort(&hwpt->obj);
        return ret;
    }
    hm_object_publish(&hwpt->obj);
    return 0;
}

/* entry_num goes back to the user in any case. */
static int ioctl_hwpt_invalidate(HmCall *call)
{
    struct iommu_hwpt_invalidate *cmd = call->cmd;
    uint32_t num = cmd->entry_num;
    HmObject *obj;
    int ret;

    cmd->entry_num = 0;
    if (cmd->__reserved) {
        ret = -EOPNOTSUPP;
    } else if (num && (!cmd->data_uptr || !cmd->entry_len ||
                       cmd->entry_len > HM_PAGE || num > INVALIDATE_MAX)) {
        ret = -EINVAL;
    } else {
        obj = hm_object_get(call->ctx, cmd->hwpt_id, HM_OBJ_ANY);
        if (!obj) {
            ret = -ENOENT;
        } else if (obj->type == HM_OBJ_HWPT_NESTED) {
            ret = -EOPNOTSUPP;
        } else if (obj->type == HM_OBJ_VIOMMU) {
            ret = hm_driver_invalidate((HmViommu *)obj, cmd->data_type,
                                       cmd->data_uptr, cmd->entry_len, &num);
            cmd->entry_num = num;
        } else {
            ret = -EINVAL;
        }
    }
    return hm_respond(call, sizeof(*cmd)) ?: ret;
}

/*
 * vIOMMUs and vDEVICEs
 */

static int ioctl_viommu_alloc(HmCall *call)
{
    struct iommu_viommu_alloc *cmd = call->cmd;
    HmViommu *viommu;
    HmIdev *idev;
    HmHwpt *hwpt;
    int ret;

    if (cmd->flags || cmd->type == IOMMU_VIOMMU_TYPE_DEFAULT) {
        return -EOPNOTSUPP;
    }
    idev = hm_object_get(call->ctx, cmd->dev_id, HM_OBJ_DEVICE);
    if (!idev) {
        return -ENOENT;
    }
    if (!hm_driver_viommu_type(idev->dev, cmd->type)) {
        return -EOPNOTSUPP;
    }
    hwpt = hm_object_get(call->ctx, cmd->hwpt_id, HM_OBJ_HWPT_PAGING);
    if (!hwpt) {
        return -ENOENT;
    }
    if (!hwpt->nest_parent) {
        return -EINVAL;
    }
    viommu = HM_OBJECT_NEW(call->ctx, HmViommu, HM_OBJ_VIOMMU);
    viommu->type = cmd->type;
    viommu->hwpt = hwpt;
    hwpt->obj.users++;
    viommu->vdevs = g_hash_table_new(g_int64_hash, g_int64_equal);
    viommu->veventqs = g_ptr_array_new();
    ret = hm_driver_viommu_init(viommu, idev->dev, cmd->data_uptr,
                                cmd->data_len);
    if (!ret) {
        cmd->out_viommu_id = viommu->obj.id;
        ret = hm_respond(call, sizeof(*cmd));
    }
    if (ret) {
        hm_object_abort(&viommu->obj);
        return ret;
    }
    hm_object_publish(&viommu->obj);
    return 0;
}

static void destroy_viommu(HmViommu *viommu)
{
    hm_cmdqv_viommu_destroy(viommu);
    viommu->hwpt->obj.users--;
    g_hash_table_destroy(viommu->vdevs);
    g_ptr_array_free(viommu->veventqs, true);
}

static int ioctl_vdevice_alloc(HmCall *call)
{
    struct iommu_vdevice_alloc *cmd = call->cmd;
    HmViommu *viommu;
    HmVdevice *vdev;
    HmIdev *idev;
    int ret;

    viommu = hm_object_get(call->ctx, cmd->viommu_id, HM_OBJ_VIOMMU);
    if (!viommu) {
        return -ENOENT;
    }
    idev = hm_object_get(call->ctx, cmd->dev_id, HM_OBJ_DEVICE);
    if (!idev) {
        return -ENOENT;
    }
    if (viommu->driver != hm_driver_of(idev->dev)) {
        return -EINVAL;
    }
    if (idev->vdev) {
        return -EEXIST;
    }
    vdev = HM_OBJECT_NEW(call->ctx, HmVdevice, HM_OBJ_VDEVICE);
    vdev->virt_id = cmd->virt_id;
    vdev->viommu = viommu;
    viommu->obj.users++;
    /* This takes no reference to the device: see unbind. */
    vdev->idev = idev;
    idev->vdev = vdev;
    if (g_hash_table_contains(viommu->vdevs, &vdev->virt_id)) {
        ret = -EEXIST;
        goto fail;
    }
    ret = hm_driver_vdevice_init(vdev);
    if (ret) {
        goto fail;
    }
    g_hash_table_insert(viommu->vdevs, &vdev->virt_id, vdev);
    cmd->out_vdevice_id = vdev->obj.id;
    ret = hm_respond(call, sizeof(*cmd));
    if (ret) {
        goto fail;
    }
    hm_object_publish(&vdev->obj);
    return 0;

fail:
    hm_object_abort(&vdev->obj);
    return ret;
}

static void destroy_vdevice(HmVdevice *vdev)
{
    GHashTable *vdevs = vdev->viommu->vdevs;

    hm_cmdqv_vdevice_destroy(vdev);
    /* Not if the virtual ID belongs to another vDEVICE. */
    if (g_hash_table_lookup(vdevs, &vdev->virt_id) == vdev) {
        g_hash_table_remove(vdevs, &vdev->virt_id);
    }
    vdev->viommu->obj.users--;
    vdev->idev->vdev = NULL;
}

/*
 * Event queues; and fault queues, which never receive anything
 */

typedef struct HmVevent {
    struct iommufd_vevent_header header;
    size_t len;
    uint8_t data[32];
} HmVevent;

struct HmVeventq {
    HmObject obj;                       /* HM_OBJ_VEVENTQ or HM_OBJ_FAULT */
    int fd;
    HmViommu *viommu;
    uint32_t type;
    uint32_t depth;
    uint32_t sequence;
    GQueue events;                      /* of HmVevent: at most depth */
    /* Report this after all of them: more events were lost. */
    bool lost;
    uint32_t lost_sequence;
};

static void update_readable(HmVeventq *q)
{
    if (q->fd >= 0) {
        hm_fd_readable(q->fd, !g_queue_is_empty(&q->events) || q->lost);
    }
}

void hm_veventq_mute(HmVeventq *q)
{
    q->fd = -1;
}

int hm_viommu_report_event(HmViommu *viommu, uint32_t type, const void *data,
                           size_t len)
{
    HmVeventq *q = NULL;
    HmVevent *event;

    for (unsigned i = 0; i < viommu->veventqs->len; i++) {
        HmVeventq *one = viommu->veventqs->pdata[i];

        if (one->type == type) {
            q = one;
        }
    }
    if (!q || len > sizeof(event->data)) {
        return -EOPNOTSUPP;
    }
    /* The sequence of the next event shows what was lost before it. */
    q->lost = false;
    if (g_queue_get_length(&q->events) == q->depth) {
        HM_COUNT("event.lost");
        q->lost = true;
        q->lost_sequence = q->sequence;
    } else {
        event = g_new0(HmVevent, 1);
        event->header.sequence = q->sequence;
        event->len = len;
        memcpy(event->data, data, len);
        g_queue_push_tail(&q->events, event);
    }
    q->sequence = (q->sequence + 1) & INT32_MAX;
    update_readable(q);
    return 0;
}

/* As many as fit.  As in Linux, an empty queue gives 0 and never waits. */
ssize_t hm_veventq_read(HmVeventq *q, void *buf, size_t len, bool nonblock)
{
    uint64_t to = (uintptr_t)buf;
    size_t done = 0;
    int ret = 0;

    if (q->obj.type == HM_OBJ_FAULT) {
        return len % sizeof(struct iommu_hwpt_pgfault) ? -ESPIPE : 0;
    }
    if (len < sizeof(struct iommufd_vevent_header)) {
        return -EINVAL;
    }
    while (!g_queue_is_empty(&q->events) || q->lost) {
        HmVevent *event = g_queue_peek_head(&q->events);
        HmVevent lost = {
            .header.flags = IOMMU_VEVENTQ_FLAG_LOST_EVENTS,
            .header.sequence = q->lost_sequence,
        };
        HmVevent *next = event ?: &lost;

        if (sizeof(next->header) > len - done) {
            break;
        }
        if (sizeof(next->header) + next->len > len - done) {
            ret = done ? 0 : -EINVAL;
            break;
        }
        if (hm_copy_to_user(to + done, &next->header, sizeof(next->header)) ||
            hm_copy_to_user(to + done + sizeof(next->header), next->data,
                            next->len)) {
            ret = -EFAULT;
            break;
        }
        done += sizeof(next->header) + next->len;
        if (event) {
            g_free(g_queue_pop_head(&q->events));
        } else {
            q->lost = false;
        }
    }
    update_readable(q);
    return done ? done : ret;
}

void hm_veventq_close(HmVeventq *q)
{
    HmCtx *ctx = q->obj.ctx;

    q->obj.users--;
    ctx_put(ctx);
}

/*
 * Make an fd that holds @q.  Linux undoes that if it cannot report the fd to
 * the user; here this is checked first.
 */
static int open_queue(HmVeventq *q, HmCall *call, size_t size)
{
    int fd;

    if (hm_respond(call, size)) {
        return -EFAULT;
    }
    fd = hm_fd_new_veventq(q);
    if (fd < 0) {
        return fd;
    }
    q->fd = fd;
    q->obj.users++;
    q->obj.ctx->refs++;
    return 0;
}

static int ioctl_veventq_alloc(HmCall *call)
{
    struct iommu_veventq_alloc *cmd = call->cmd;
    HmViommu *viommu;
    HmVeventq *q;
    int ret;

    if (cmd->flags || cmd->__reserved ||
        cmd->type == IOMMU_VEVENTQ_TYPE_DEFAULT) {
        return -EOPNOTSUPP;
    }
    if (!cmd->veventq_depth || cmd->veventq_depth > VEVENTQ_DEPTH_MAX) {
        return -EINVAL;
    }
    viommu = hm_object_get(call->ctx, cmd->viommu_id, HM_OBJ_VIOMMU);
    if (!viommu) {
        return -ENOENT;
    }
    for (unsigned i = 0; i < viommu->veventqs->len; i++) {
        q = viommu->veventqs->pdata[i];
        if (q->type == cmd->type) {
            return -EEXIST;
        }
    }
    q = HM_OBJECT_NEW(call->ctx, HmVeventq, HM_OBJ_VEVENTQ);
    q->type = cmd->type;
    q->depth = cmd->veventq_depth;
    q->viommu = viommu;
    viommu->obj.users++;
    g_ptr_array_add(viommu->veventqs, q);
    ret = open_queue(q, call, sizeof(*cmd));
    if (ret) {
        hm_object_abort(&q->obj);
        return ret;
    }
    cmd->out_veventq_id = q->obj.id;
    cmd->out_veventq_fd = q->fd;
    hm_object_publish(&q->obj);
    return hm_respond(call, sizeof(*cmd));
}

static int ioctl_fault_alloc(HmCall *call)
{
    struct iommu_fault_alloc *cmd = call->cmd;
    HmVeventq *q;
    int ret;

    if (cmd->flags) {
        return -EOPNOTSUPP;
    }
    q = HM_OBJECT_NEW(call->ctx, HmVeventq, HM_OBJ_FAULT);
    ret = open_queue(q, call, sizeof(*cmd));
    if (ret) {
        hm_object_abort(&q->obj);
        return ret;
    }
    cmd->out_fault_id = q->obj.id;
    cmd->out_fault_fd = q->fd;
    hm_object_publish(&q->obj);
    return hm_respond(call, sizeof(*cmd));
}

static void destroy_queue(HmVeventq *q)
{
    g_queue_clear_full(&q->events, g_free);
    if (q->viommu) {
        g_ptr_array_remove(q->viommu->veventqs, q);
        q->viommu->obj.users--;
    }
}

static void destroy(HmObject *obj)
{
    switch (obj->type) {
    case HM_OBJ_DEVICE:
        destroy_device((HmIdev *)obj);
        break;
    case HM_OBJ_HWPT_PAGING:
    case HM_OBJ_HWPT_NESTED:
        destroy_hwpt((HmHwpt *)obj);
        break;
    case HM_OBJ_IOAS:
        hm_ioas_destroy((HmIoas *)obj);
        break;
    case HM_OBJ_FAULT:
    case HM_OBJ_VEVENTQ:
        destroy_queue((HmVeventq *)obj);
        break;
    case HM_OBJ_VIOMMU:
        destroy_viommu((HmViommu *)obj);
        break;
    case HM_OBJ_VDEVICE:
        destroy_vdevice((HmVdevice *)obj);
        break;
    case HM_OBJ_HW_QUEUE:
        hm_hw_queue_destroy((HmHwQueue *)obj);
        break;
    case HM_OBJ_ACCESS:
        hm_access_destroy((HmAccess *)obj);
        break;
    default:
        hm_bug("an object of type %d", obj->type);
    }
}

/*
 * The rest
 */

static int ioctl_noiommu_get_pa(HmCall *call)
{
    return -EOPNOTSUPP;
}

static bool has_objects(HmCtx *ctx)
{
    for (unsigned id = 0; id < ctx->objects->len; id++) {
        if (ctx->objects->pdata[id]) {
            return true;
        }
    }
    return false;
}

static int option_rlimit_mode(HmCtx *ctx, struct iommu_option *cmd)
{
    if (cmd->object_id) {
        return -EOPNOTSUPP;
    }
    switch (cmd->op) {
    case IOMMU_OPTION_OP_GET:
        cmd->val64 = ctx->rlimit_mm;
        return 0;
    case IOMMU_OPTION_OP_SET:
        /* The user of the model is root. */
        if (has_objects(ctx)) {
            return -EBUSY;
        }
        if (cmd->val64 > 1) {
            return -EINVAL;
        }
        ctx->rlimit_mm = cmd->val64;
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

static int ioctl_option(HmCall *call)
{
    struct iommu_option *cmd = call->cmd;
    int ret;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    switch (cmd->option_id) {
    case IOMMU_OPTION_RLIMIT_MODE:
        ret = option_rlimit_mode(call->ctx, cmd);
        break;
    case IOMMU_OPTION_HUGE_PAGES:
        ret = hm_ioas_option(call);
        break;
    default:
        ret = -EOPNOTSUPP;
    }
    return ret ?: hm_copy_to_user(call->user +
                                  offsetof(struct iommu_option, val64),
                                  &cmd->val64, sizeof(cmd->val64));
}

static int ioctl_vfio_ioas(HmCall *call)
{
    struct iommu_vfio_ioas *cmd = call->cmd;
    HmIoas *ioas;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    switch (cmd->op) {
    case IOMMU_VFIO_IOAS_GET:
        if (!call->ctx->vfio_ioas) {
            return -ENODEV;
        }
        cmd->ioas_id = call->ctx->vfio_ioas->obj.id;
        return hm_respond(call, sizeof(*cmd));
    case IOMMU_VFIO_IOAS_SET:
        ioas = hm_object_get(call->ctx, cmd->ioas_id, HM_OBJ_IOAS);
        if (!ioas) {
            return -ENOENT;
        }
        call->ctx->vfio_ioas = ioas;
        return 0;
    case IOMMU_VFIO_IOAS_CLEAR:
        call->ctx->vfio_ioas = NULL;
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

/* VFIO's container ioctls, except VFIO_IOMMU_GET_INFO */
static int vfio_ioctl(HmCtx *ctx, unsigned request, uint64_t arg)
{
    HmIoas *ioas = ctx->vfio_ioas;

    switch (request) {
    case VFIO_GET_API_VERSION:
        return VFIO_API_VERSION;
    case VFIO_CHECK_EXTENSION:
        switch (arg) {
        case VFIO_TYPE1_IOMMU:
        case VFIO_TYPE1v2_IOMMU:
        case VFIO_UNMAP_ALL:
            return 1;
        case VFIO_DMA_CC_IOMMU:
            for (unsigned i = 0; ioas && i < ioas->hwpts->len; i++) {
                HmHwpt *hwpt = ioas->hwpts->pdata[i];

                if (!hwpt->domain->enforce_cc) {
                    return 0;
                }
            }
            return ioas ? 1 : -ENODEV;
        default:
            return 0;
        }
    case VFIO_SET_IOMMU:
        if (arg != VFIO_TYPE1_IOMMU && arg != VFIO_TYPE1v2_IOMMU) {
            return -EINVAL;
        }
        if (!ioas) {
            return -ENODEV;
        }
        return arg == VFIO_TYPE1_IOMMU ? hm_ioas_disable_large_pages(ioas) : 0;
    case VFIO_IOMMU_MAP_DMA:
        return hm_ioas_vfio_map(ioas, arg);
    case VFIO_IOMMU_UNMAP_DMA:
        return hm_ioas_vfio_unmap(ioas, arg);
    default:
        return -ENOTTY;
    }
}

#define OP(request, function, Struct, last) \
    [_IOC_NR(request) - IOMMUFD_CMD_BASE] = { \
        request, sizeof(struct Struct), \
        offsetof(struct Struct, last) + sizeof(((struct Struct *)0)->last), \
        function \
    }

static const struct {
    unsigned request;
    unsigned size;
    unsigned min_size;
    int (*function)(HmCall *call);
} ops[] = {
    OP(IOMMU_DESTROY, ioctl_destroy, iommu_destroy, id),
    OP(IOMMU_IOAS_ALLOC, hm_ioas_alloc, iommu_ioas_alloc, out_ioas_id),
    OP(IOMMU_IOAS_ALLOW_IOVAS, hm_ioas_allow_iovas, iommu_ioas_allow_iovas,
       allowed_iovas),
    OP(IOMMU_IOAS_COPY, hm_ioas_copy, iommu_ioas_copy, src_iova),
    OP(IOMMU_IOAS_IOVA_RANGES, hm_ioas_iova_ranges, iommu_ioas_iova_ranges,
       out_iova_alignment),
    OP(IOMMU_IOAS_MAP, hm_ioas_map, iommu_ioas_map, iova),
    OP(IOMMU_IOAS_UNMAP, hm_ioas_unmap, iommu_ioas_unmap, length),
    OP(IOMMU_OPTION, ioctl_option, iommu_option, val64),
    OP(IOMMU_VFIO_IOAS, ioctl_vfio_ioas, iommu_vfio_ioas, __reserved),
    OP(IOMMU_HWPT_ALLOC, ioctl_hwpt_alloc, iommu_hwpt_alloc, __reserved),
    OP(IOMMU_GET_HW_INFO, ioctl_hw_info, iommu_hw_info, __reserved),
    OP(IOMMU_HWPT_SET_DIRTY_TRACKING, hm_hwpt_set_dirty_tracking,
       iommu_hwpt_set_dirty_tracking, __reserved),
    OP(IOMMU_HWPT_GET_DIRTY_BITMAP, hm_hwpt_get_dirty_bitmap,
       iommu_hwpt_get_dirty_bitmap, data),
    OP(IOMMU_HWPT_INVALIDATE, ioctl_hwpt_invalidate, iommu_hwpt_invalidate,
       __reserved),
    OP(IOMMU_FAULT_QUEUE_ALLOC, ioctl_fault_alloc, iommu_fault_alloc,
       out_fault_fd),
    OP(IOMMU_IOAS_MAP_FILE, hm_ioas_map_file, iommu_ioas_map_file, iova),
    OP(IOMMU_VIOMMU_ALLOC, ioctl_viommu_alloc, iommu_viommu_alloc,
       out_viommu_id),
    OP(IOMMU_VDEVICE_ALLOC, ioctl_vdevice_alloc, iommu_vdevice_alloc, virt_id),
    OP(IOMMU_IOAS_CHANGE_PROCESS, hm_ioas_change_process,
       iommu_ioas_change_process, __reserved),
    OP(IOMMU_VEVENTQ_ALLOC, ioctl_veventq_alloc, iommu_veventq_alloc,
       out_veventq_fd),
    OP(IOMMU_HW_QUEUE_ALLOC, hm_hw_queue_alloc, iommu_hw_queue_alloc, length),
    OP(IOMMU_IOAS_NOIOMMU_GET_PA, ioctl_noiommu_get_pa,
       iommu_ioas_noiommu_get_pa, out_phys),
};

int hm_iommufd_ioctl(HmCtx *ctx, unsigned long request, void *arg)
{
    unsigned nr = _IOC_NR(request) - IOMMUFD_CMD_BASE;
    HmCall call = { .ctx = ctx, .user = (uintptr_t)arg };
    uint64_t cmd[16];
    int ret;

    /* The kernel uses 32 bits of it. */
    request = (unsigned)request;
    if (_IOC_NR(request) < IOMMUFD_CMD_BASE || nr >= G_N_ELEMENTS(ops)) {
        return vfio_ioctl(ctx, request, call.user);
    }
    if (hm_copy_from_user(&call.user_size, call.user, sizeof(uint32_t))) {
        return -EFAULT;
    }
    if (ops[nr].request != request) {
        return -ENOTTY;
    }
    if (call.user_size < ops[nr].min_size) {
        return -EINVAL;
    }
    if (ops[nr].size > sizeof(cmd)) {
        hm_bug("a command of %u bytes", ops[nr].size);
    }
    call.cmd = cmd;
    ret = hm_copy_struct_from_user(cmd, ops[nr].size, call.user,
                                   call.user_size);
    return ret ?: ops[nr].function(&call);
}

const char *hm_iommufd_kind(HmCtx *ctx, unsigned long request, void *arg)
{
    union {
        struct iommu_destroy destroy;
        struct iommu_hw_info info;
        struct iommu_viommu_alloc viommu;
        struct iommu_veventq_alloc veventq;
    } u;
    uint64_t user = (uintptr_t)arg;

    switch ((unsigned)request) {
    case IOMMU_DESTROY:
        return !hm_copy_from_user(&u.destroy, user, sizeof(u.destroy)) &&
               hm_object_get(ctx, u.destroy.id, HM_OBJ_HW_QUEUE)
               ? "IOMMU_DESTROY.hw_queue" : NULL;
    case IOMMU_GET_HW_INFO:
        return !hm_copy_from_user(&u.info, user, sizeof(u.info)) &&
               (u.info.flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE) &&
               u.info.in_data_type == IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV
               ? "IOMMU_GET_HW_INFO.cmdqv" : NULL;
    case IOMMU_VIOMMU_ALLOC:
        return !hm_copy_from_user(&u.viommu, user, sizeof(u.viommu)) &&
               u.viommu.type == IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV
               ? "IOMMU_VIOMMU_ALLOC.cmdqv" : NULL;
    case IOMMU_VEVENTQ_ALLOC:
        return !hm_copy_from_user(&u.veventq, user, sizeof(u.veventq)) &&
               u.veventq.type == IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV
               ? "IOMMU_VEVENTQ_ALLOC.cmdqv" : NULL;
    default:
        return NULL;
    }
}

/*
 * {"iommufd":1,"device":0,...}
 */
void hm_iommufd_objects(GString *json)
{
    unsigned n[HM_OBJ_TYPES] = {}, ranges = 0;
    unsigned n_contexts = contexts ? contexts->len : 0;

    for (unsigned i = 0; i < n_contexts; i++) {
        HmCtx *ctx = contexts->pdata[i];

        for (unsigned id = 0; id < ctx->objects->len; id++) {
            HmObject *obj = hm_object_get(ctx, id, HM_OBJ_ANY);

            if (obj) {
                n[obj->type]++;
            }
            if (obj && obj->type == HM_OBJ_IOAS) {
                ranges += ((HmIoas *)obj)->areas->len;
            }
        }
    }
    g_string_append_printf(json, "{\"iommufd\":%u", n_contexts);
    for (unsigned type = HM_OBJ_ANY + 1; type < HM_OBJ_TYPES; type++) {
        g_string_append_printf(json, ",\"%s\":%u", type_names[type], n[type]);
    }
    g_string_append_printf(json, ",\"range\":%u}", ranges);
}
