/*
 * Host model: Linux's iommufd: queues in hardware, and mmap()
 *
 * IOMMU_HW_QUEUE_ALLOC (drivers/iommu/iommufd/viommu.c), with the access that
 * pins a queue's memory, and what an iommufd lets one map (main.c, driver.c).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "linux.h"

/* The largest kvmalloc(), for an array of pointers to pages */
#define PAGES_MAX           ((uint64_t)INT32_MAX / sizeof(void *))

/*
 * Queues
 */

/*
 * The memory of a queue, in whole pages.  *host is the address of its first
 * byte in this process.
 */
static int access_new(HmViommu *viommu, uint64_t iova, uint64_t length,
                      HmAccess **out, uint64_t *host)
{
    uint64_t offset = iova % HM_PAGE, bytes;
    HmAccess *access;
    void *first;
    int ret;

    if (__builtin_add_overflow(offset, length, &bytes) ||
        __builtin_add_overflow(bytes, HM_PAGE - 1, &bytes)) {
        return -ERANGE;
    }
    if (bytes / HM_PAGE > PAGES_MAX) {
        return -ENOMEM;
    }
    access = HM_OBJECT_NEW(viommu->obj.ctx, HmAccess, HM_OBJ_ACCESS);
    ret = hm_ioas_lock(viommu->hwpt->ioas, iova - offset, bytes & -HM_PAGE,
                       &first);
    if (ret) {
        hm_object_abort(&access->obj);
        return ret;
    }
    access->ioas = viommu->hwpt->ioas;
    access->ioas->obj.users++;
    access->iova = iova - offset;
    access->length = bytes & -HM_PAGE;
    access->obj.users++;                /* by the queue */
    hm_object_publish(&access->obj);
    *out = access;
    *host = (uintptr_t)first + offset;
    return 0;
}

void hm_access_destroy(HmAccess *access)
{
    if (access->ioas) {
        hm_ioas_unlock(access->ioas, access->iova, access->length);
        access->ioas->obj.users--;
    }
}

void hm_hw_queue_destroy(HmHwQueue *queue)
{
    if (queue->ready) {
        hm_cmdqv_queue_destroy(queue);
    }
    if (queue->access) {
        queue->access->obj.users--;
        hm_object_abort(&queue->access->obj);
    }
    if (queue->viommu) {
        queue->viommu->obj.users--;
    }
}

static int queue_init(HmHwQueue *queue, HmViommu *viommu,
                      const struct iommu_hw_queue_alloc *cmd)
{
    uint64_t host;
    int ret;

    ret = access_new(viommu, cmd->nesting_parent_iova, cmd->length,
                     &queue->access, &host);
    if (ret) {
        return ret;
    }
    queue->viommu = viommu;
    viommu->obj.users++;
    queue->length = cmd->length;
    ret = hm_cmdqv_queue_init(queue, cmd->index, host);
    queue->ready = !ret;
    return ret;
}

int hm_hw_queue_alloc(HmCall *call)
{
    struct iommu_hw_queue_alloc *cmd = call->cmd;
    HmViommu *viommu;
    HmHwQueue *queue;
    uint64_t last;
    int ret;

    if (cmd->flags || cmd->type == IOMMU_HW_QUEUE_TYPE_DEFAULT) {
        return -EOPNOTSUPP;
    }
    if (!cmd->length) {
        return -EINVAL;
    }
    if (!hm_last(cmd->nesting_parent_iova, cmd->length, &last)) {
        return -EOVERFLOW;
    }
    viommu = hm_object_get(call->ctx, cmd->viommu_id, HM_OBJ_VIOMMU);
    if (!viommu) {
        return -ENOENT;
    }
    if (!viommu->cmdqv || cmd->type != IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV) {
        return -EOPNOTSUPP;
    }
    queue = HM_OBJECT_NEW(call->ctx, HmHwQueue, HM_OBJ_HW_QUEUE);
    ret = queue_init(queue, viommu, cmd);
    if (!ret) {
        cmd->out_hw_queue_id = queue->obj.id;
        ret = hm_respond(call, sizeof(*cmd));
    }
    if (ret) {
        hm_object_abort(&queue->obj);
        return ret;
    }
    hm_object_publish(&queue->obj);
    return 0;
}

/*
 * mmap()
 */

/* What can be mapped of a context */
typedef struct HmMmap {
    HmObject *owner;
    uint64_t offset, length;
    int fd;
} HmMmap;

/* A mapping.  It holds the owner and the context. */
typedef struct HmVma {
    HmObject *owner;
    uint64_t start, end;
} HmVma;

static GArray *mmaps;                   /* of HmMmap, of all contexts */
static GArray *vmas;                    /* of HmVma */
static unsigned n_vmas;

uint64_t hm_mmap_offset(HmCtx *ctx, uint64_t length)
{
    uint64_t offset = HM_PAGE;          /* never 0 */

    for (unsigned i = 0; mmaps && i < mmaps->len; i++) {
        HmMmap *m = &g_array_index(mmaps, HmMmap, i);

        if (m->owner->ctx == ctx && m->offset < offset + length &&
            offset < m->offset + m->length) {
            offset = m->offset + m->length;
            i = -1;
        }
    }
    return offset;
}

void hm_mmap_add(HmObject *owner, uint64_t offset, uint64_t length, int fd)
{
    HmMmap m = { owner, offset, length, fd };

    if (!mmaps) {
        mmaps = g_array_new(false, false, sizeof(HmMmap));
    }
    g_array_append_val(mmaps, m);
}

void hm_mmap_remove(HmObject *owner)
{
    for (unsigned i = 0; i < mmaps->len; i++) {
        if (g_array_index(mmaps, HmMmap, i).owner == owner) {
            g_array_remove_index(mmaps, i);
            return;
        }
    }
}

static void vma_add(HmObject *owner, uint64_t start, uint64_t end)
{
    HmVma vma = { owner, start, end };

    if (!vmas) {
        vmas = g_array_new(false, false, sizeof(HmVma));
    }
    g_array_append_val(vmas, vma);
    owner->users++;
    owner->ctx->refs++;
    __atomic_fetch_add(&n_vmas, 1, __ATOMIC_RELAXED);
}

bool hm_iommufd_is_mapped(void)
{
    return __atomic_load_n(&n_vmas, __ATOMIC_RELAXED);
}

void hm_iommufd_unmapped(uint64_t start, uint64_t length)
{
    uint64_t end = start + ((length + HM_PAGE - 1) & -HM_PAGE);

    for (unsigned i = vmas ? vmas->len : 0; i--; ) {
        HmVma vma = g_array_index(vmas, HmVma, i);

        if (vma.end <= start || end <= vma.start) {
            continue;
        }
        g_array_remove_index(vmas, i);
        if (vma.start < start) {
            vma_add(vma.owner, vma.start, start);
        }
        if (end < vma.end) {
            vma_add(vma.owner, end, vma.end);
        }
        __atomic_fetch_sub(&n_vmas, 1, __ATOMIC_RELAXED);
        vma.owner->users--;
        hm_iommufd_close(vma.owner->ctx);
    }
}

int64_t hm_iommufd_mmap(HmCtx *ctx, void *addr, uint64_t len, int prot,
                        int flags, uint64_t offset)
{
    uint64_t length = (len + HM_PAGE - 1) & -HM_PAGE;
    int type = flags & MAP_TYPE;
    HmMmap *found = NULL;
    long at;

    if (!len || offset % HM_PAGE ||
        (type != MAP_SHARED && type != MAP_SHARED_VALIDATE)) {
        return -EINVAL;
    }
    if (prot & PROT_EXEC) {
        return -EPERM;
    }
    for (unsigned i = 0; mmaps && i < mmaps->len; i++) {
        HmMmap *m = &g_array_index(mmaps, HmMmap, i);

        if (m->owner->ctx == ctx && m->offset == offset &&
            m->length == length) {
            found = m;
        }
    }
    if (!found) {
        return -ENXIO;
    }
    at = syscall(SYS_mmap, addr, length, prot, flags, found->fd, 0);
    if (at == -1) {
        return -errno;
    }
    if (flags & MAP_FIXED) {
        hm_iommufd_unmapped(at, length);
    }
    vma_add(found->owner, at, at + length);
    return at;
}
