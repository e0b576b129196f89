/*
 * Host model: a BAR of memory, and dma-bufs of it
 *
 * What drivers/vfio/pci/vfio_pci_dmabuf.c of Linux 7.3 answers, and mmap() of
 * vfio_pci_core.c.  Unlike in Linux, memory that is mapped can be accessed by
 * the program while the function does not decode it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "linux.h"

#define BAR_AT  (1ull << 36)            /* the physical address of each BAR */

struct HmDmaBuf {
    unsigned refs;                      /* its fd, and mappings */
    HmDevice *dev;                      /* NULL: nobody has it open any more */
    uint64_t start;                     /* of the first range in the BAR */
    uint64_t size;                      /* of all ranges */
    uint32_t n_ranges;
    bool revoked;
    GPtrArray *importers;               /* of HmImport */
};

/* A user that is told when it must not use the memory any more */
typedef struct HmImport {
    HmDmaBufRevoke *revoke;
    void *opaque;
} HmImport;

bool hm_memory_init(HmDevice *dev, uint64_t size)
{
    void *memory;

    if (size < 16 || (size & (size - 1))) {
        return false;
    }
    dev->memory_fd = memfd_create(HM_MEMORY_NAME, MFD_CLOEXEC);
    if (dev->memory_fd < 0 || ftruncate(dev->memory_fd, size)) {
        hm_bug("no memory for a BAR: %s", strerror(errno));
    }
    /* Call the kernel directly: the C library's mmap() is ours. */
    memory = (void *)syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE,
                             MAP_SHARED, dev->memory_fd, 0);
    if (memory == MAP_FAILED) {
        hm_bug("a BAR cannot be mapped: %s", strerror(errno));
    }
    dev->memory = memory;
    dev->bar_size[dev->memory_bar] = size;
    return true;
}

int64_t hm_memory_mmap(HmDevice *dev, unsigned bar, void *addr, uint64_t len,
                       int prot, int flags, uint64_t offset)
{
    uint64_t size = MAX(dev->bar_size[bar], HM_PAGE);

    if (bar != dev->memory_bar || !dev->memory ||
        (flags & MAP_TYPE) == MAP_PRIVATE || offset > size ||
        len > size - offset) {
        return -EINVAL;
    }
    addr = (void *)syscall(SYS_mmap, addr, len, prot, flags, dev->memory_fd,
                           offset);
    return addr == MAP_FAILED ? -errno : (intptr_t)addr;
}

/*
 * dma-bufs
 */

void hm_dmabuf_put(HmDmaBuf *buf)
{
    if (--buf->refs) {
        return;
    }
    if (buf->dev) {
        g_ptr_array_remove(buf->dev->dmabufs, buf);
    }
    g_ptr_array_free(buf->importers, true);
    g_free(buf);
    HM_COUNT("dmabuf.freed");
}

/* The ranges that the user wants, in one BAR of @bar_size bytes */
static int load_ranges(HmDmaBuf *buf, uint64_t user, uint64_t bar_size)
{
    struct vfio_region_dma_range range;
    uint64_t end;

    for (uint32_t i = 0; i < buf->n_ranges; i++) {
        if (hm_copy_from_user(&range, user + i * sizeof(range),
                              sizeof(range))) {
            return -EFAULT;
        }
        if (!range.length || (range.offset | range.length) % HM_PAGE ||
            __builtin_add_overflow(buf->size, range.length, &buf->size) ||
            buf->size >> 63) {
            return -EINVAL;
        }
    }
    for (uint32_t i = 0; i < buf->n_ranges; i++) {
        if (hm_copy_from_user(&range, user + i * sizeof(range),
                              sizeof(range))) {
            return -EFAULT;
        }
        if (__builtin_add_overflow(range.offset, BAR_AT, &end) ||
            __builtin_add_overflow(end, range.length, &end)) {
            return -EOVERFLOW;
        }
        if (end > BAR_AT + bar_size) {
            return -EINVAL;
        }
        buf->start = i ? buf->start : range.offset;
    }
    return 0;
}

int hm_dmabuf_feature(HmDevice *dev, uint32_t flags, uint64_t arg,
                      uint64_t argsz, bool decodes)
{
    struct vfio_device_feature_dma_buf get;
    HmDmaBuf *buf;
    int ret;

    if (flags & VFIO_DEVICE_FEATURE_SET) {
        return -EINVAL;
    }
    if (flags & VFIO_DEVICE_FEATURE_PROBE) {
        return 0;
    }
    if (!(flags & VFIO_DEVICE_FEATURE_GET) || argsz < sizeof(get)) {
        return -EINVAL;
    }
    if (hm_copy_from_user(&get, arg, sizeof(get))) {
        return -EFAULT;
    }
    if (!get.nr_ranges || get.flags) {
        return -EINVAL;
    }
    if (get.region_index >= VFIO_PCI_ROM_REGION_INDEX ||
        !dev->bar_size[get.region_index]) {
        return -ENODEV;
    }
    /* The other BARs are no memory in the model. */
    if (get.region_index != dev->memory_bar) {
        return -EOPNOTSUPP;
    }
    buf = g_new0(HmDmaBuf, 1);
    buf->n_ranges = get.nr_ranges;
    ret = load_ranges(buf, arg + sizeof(get), dev->bar_size[dev->memory_bar]);
    if (ret) {
        g_free(buf);
        return ret;
    }
    buf->refs = 1;
    buf->dev = dev;
    buf->revoked = !decodes;
    buf->importers = g_ptr_array_new_with_free_func(g_free);
    if (!dev->dmabufs) {
        dev->dmabufs = g_ptr_array_new();
    }
    g_ptr_array_add(dev->dmabufs, buf);
    HM_COUNT("dmabuf.made");
    ret = hm_fd_new_dmabuf(buf);
    if (ret < 0) {
        hm_dmabuf_put(buf);
    }
    return ret;
}

void hm_dmabuf_move(HmDevice *dev, bool revoked)
{
    for (guint i = 0; dev->dmabufs && i < dev->dmabufs->len; i++) {
        HmDmaBuf *buf = dev->dmabufs->pdata[i];

        if (buf->revoked == revoked) {
            continue;
        }
        buf->revoked = revoked;
        /* What is revoked does not come back to those who had it. */
        while (revoked && buf->importers->len) {
            HmImport *import = buf->importers->pdata[0];

            import->revoke(import->opaque);
            g_ptr_array_remove_index_fast(buf->importers, 0);
            HM_COUNT("dmabuf.revoked");
        }
    }
}

void hm_dmabuf_close_device(HmDevice *dev)
{
    hm_dmabuf_move(dev, true);
    for (guint i = 0; dev->dmabufs && i < dev->dmabufs->len; i++) {
        ((HmDmaBuf *)dev->dmabufs->pdata[i])->dev = NULL;
    }
    g_clear_pointer(&dev->dmabufs, g_ptr_array_unref);
}

int hm_dmabuf_import(HmDmaBuf *buf, uint64_t start, uint64_t length,
                     HmDmaBufRevoke *revoke, void *opaque, uint8_t **memory)
{
    HmImport *import;

    if (buf->size <= start + length - 1) {
        return -EINVAL;
    }
    if (buf->revoked) {
        return -ENODEV;
    }
    if (buf->n_ranges != 1) {
        return -EOPNOTSUPP;
    }
    import = g_new0(HmImport, 1);
    import->revoke = revoke;
    import->opaque = opaque;
    g_ptr_array_add(buf->importers, import);
    buf->refs++;
    *memory = buf->dev->memory + buf->start + start;
    return 0;
}

void hm_dmabuf_unimport(HmDmaBuf *buf, void *opaque)
{
    for (guint i = 0; i < buf->importers->len; i++) {
        if (((HmImport *)buf->importers->pdata[i])->opaque == opaque) {
            g_ptr_array_remove_index_fast(buf->importers, i);
            break;
        }
    }
    hm_dmabuf_put(buf);
}
