/*
 * Host model: Linux's I/O address spaces
 *
 * What is mapped where, which IOVAs are reserved, and dirty tracking.  There
 * are no page tables: hardware finds the IOAS itself in a domain's stage 2,
 * through HmS2.
 *
 * As in Linux, memory is checked when the first domain is added, not when it is
 * mapped to an IOAS without one.  Unlike in Linux, pages are not pinned, only
 * counted against RLIMIT_MEMLOCK: if the owner unmaps memory that is in an
 * IOAS, it is gone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "linux.h"

#define HUGE_PAGE           (2ull << 20)

typedef struct HmSpan {
    uint64_t start;
    uint64_t last;
    void *owner;                        /* of a reserved span */
} HmSpan;

/* Memory that one call mapped.  Copies of the mapping share it. */
typedef struct HmPages {
    unsigned refs;
    bool writable;
    uint64_t n;                         /* pages */
    uint64_t uptr;                      /* address of the first; 0: a file */
    int fd;                             /* -1: not a file */
    uint64_t file_start;                /* offset of the first page */
    void *map;                          /* of the file; NULL until needed */
    HmDmaBuf *dmabuf;                   /* or a BAR; NULL: not one */
    uint8_t *bar;                       /* the memory there */
    bool revoked;                       /* it must not be used any more */
    GPtrArray *areas;                   /* of HmArea; of a BAR only */
    bool unlimited;                     /* by CAP_IPC_LOCK, when it was made */
    unsigned pins;                      /* areas that need it pinned */
} HmPages;

typedef struct HmArea {
    HmIoas *ioas;
    uint64_t iova;
    uint64_t last;
    unsigned prot;                      /* HM_READ, HM_WRITE */
    HmPages *pages;
    uint64_t start_byte;                /* where in @pages it starts */
    bool pinned;                        /* a domain needs it */
    unsigned locks;                     /* by queues in hardware */
} HmArea;

/* A piece of memory to map */
typedef struct HmPiece {
    HmPages *pages;
    uint64_t start_byte;
    uint64_t length;
} HmPiece;

/*
 * Spans
 */

static bool spans_overlap(const GArray *spans, uint64_t start, uint64_t last)
{
    for (unsigned i = 0; i < spans->len; i++) {
        HmSpan *s = &g_array_index(spans, HmSpan, i);

        if (s->start <= last && start <= s->last) {
            return true;
        }
    }
    return false;
}

static void spans_add(GArray *spans, uint64_t start, uint64_t last, void *owner)
{
    HmSpan span = { start, last, owner };
    unsigned i = 0;

    while (i < spans->len && g_array_index(spans, HmSpan, i).start <= start) {
        i++;
    }
    g_array_insert_val(spans, i, span);
}

/* The spans of @a and @b, in order, merged where they overlap or touch */
static GArray *spans_union(const GArray *a, const GPtrArray *areas)
{
    GArray *all = g_array_new(false, false, sizeof(HmSpan));
    unsigned i = 0, j = 0;

    while (i < a->len || (areas && j < areas->len)) {
        HmSpan *top = all->len ? &g_array_index(all, HmSpan, all->len - 1)
                               : NULL;
        HmSpan next = {};

        if (areas && j < areas->len) {
            HmArea *area = areas->pdata[j];

            next = (HmSpan){ area->iova, area->last, NULL };
        }
        if (!(areas && j < areas->len) ||
            (i < a->len && g_array_index(a, HmSpan, i).start < next.start)) {
            next = g_array_index(a, HmSpan, i);
            i++;
        } else {
            j++;
        }
        if (top && (top->last == UINT64_MAX || next.start <= top->last + 1)) {
            top->last = MAX(top->last, next.last);
        } else {
            g_array_append_val(all, next);
        }
    }
    return all;
}

/* The parts of [start, last] outside @spans, which are as of spans_union() */
static GArray *spans_holes(const GArray *spans, uint64_t start, uint64_t last)
{
    GArray *holes = g_array_new(false, false, sizeof(HmSpan));

    for (unsigned i = 0; i < spans->len; i++) {
        HmSpan *s = &g_array_index(spans, HmSpan, i);

        if (s->last < start) {
            continue;
        }
        if (s->start > last) {
            break;
        }
        if (s->start > start) {
            spans_add(holes, start, s->start - 1, NULL);
        }
        if (s->last >= last) {
            return holes;
        }
        start = s->last + 1;
    }
    spans_add(holes, start, last, NULL);
    return holes;
}

/*
 * Pages
 */

/*
 * The pages that RLIMIT_MEMLOCK counts.  Linux counts those of all processes of
 * a user.  The model has one process.
 */
static uint64_t locked_pages;

/*
 * The limit that this process begins with is a user's on this computer.  The
 * model's host has none, unless the process sets another one.
 */
static struct rlimit first_limit;

__attribute__((constructor)) static void remember_limit(void)
{
    getrlimit(RLIMIT_MEMLOCK, &first_limit);
}

/* HOST_MODEL_MEMLOCK, or what this process has set; in bytes */
static uint64_t memlock_limit(void)
{
    const char *text = g_getenv("HOST_MODEL_MEMLOCK");
    struct rlimit limit;

    if (text) {
        return g_ascii_strtoull(text, NULL, 0);
    }
    if (getrlimit(RLIMIT_MEMLOCK, &limit)) {
        hm_bug("getrlimit: %s", strerror(errno));
    }
    return limit.rlim_cur == first_limit.rlim_cur ? UINT64_MAX : limit.rlim_cur;
}

/* The C library has no wrapper for this call */
static bool capable_ipc_lock(void)
{
    struct __user_cap_header_struct header = {
        .version = _LINUX_CAPABILITY_VERSION_3,
    };
    struct __user_cap_data_struct data[2] = {};

    return !g_getenv("HOST_MODEL_MEMLOCK") &&
           !syscall(SYS_capget, &header, data) &&
           (data[0].effective & (1u << CAP_IPC_LOCK));
}

static HmPages *pages_new(uint64_t start_byte, uint64_t length, bool writable)
{
    HmPages *pages = g_new0(HmPages, 1);

    pages->refs = 1;
    pages->fd = -1;
    pages->writable = writable;
    pages->unlimited = capable_ipc_lock();
    pages->n = (length + start_byte + HM_PAGE - 1) / HM_PAGE;
    return pages;
}

static void pages_put(HmPages *pages)
{
    if (--pages->refs) {
        return;
    }
    if (pages->map) {
        /* The C library's munmap() is ours. */
        syscall(SYS_munmap, pages->map, pages->n * HM_PAGE);
    }
    if (pages->fd >= 0) {
        syscall(SYS_close, pages->fd);
    }
    if (pages->dmabuf) {
        hm_dmabuf_unimport(pages->dmabuf, pages);
        g_ptr_array_free(pages->areas, true);
    }
    g_free(pages);
}

/*
 * Whether the user may access all of [start, start + length - 1].  Linux's
 * pin_user_pages() checks the VMAs.  It does not pin registers (VM_PFNMAP).
 */
static bool user_memory(uint64_t start, uint64_t length, bool write)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uint64_t from, to, next = start, end = start + length;
    char line[4096], r, w;

    if (!maps) {
        hm_bug("cannot read /proc/self/maps: %s", strerror(errno));
    }
    while (next != end && fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %c%c", &from, &to, &r,
                   &w) != 4 || to <= next) {
            continue;
        }
        if (from > next || (write ? w != 'w' : r != 'r') ||
            strstr(line, "[vvar") || strstr(line, "/memfd:" HM_VINTF_NAME) ||
            strstr(line, "/memfd:" HM_MEMORY_NAME)) {
            break;
        }
        next = end - 1 < to ? end : to;
    }
    fclose(maps);
    return next == end;
}

/*
 * Linux accepts memory of a shmem or hugetlbfs file only, and only what is
 * within the file's current size.
 */
static int pages_map_file(HmPages *pages)
{
    uint64_t size = pages->n * HM_PAGE;
    struct statfs fs;
    struct stat st;
    void *map;

    if (pages->map) {
        return 0;
    }
    if (fstatfs(pages->fd, &fs) || fstat(pages->fd, &st) ||
        (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC) ||
        size > st.st_size || pages->file_start > st.st_size - size) {
        return -EINVAL;
    }
    /* Call the kernel directly: the C library's mmap() is ours. */
    map = (void *)syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE,
                          MAP_SHARED, pages->fd, pages->file_start);
    if (map == MAP_FAILED && errno == EACCES) {
        /* The fd is read-only.  Linux does not check that. */
        map = (void *)syscall(SYS_mmap, NULL, size, PROT_READ, MAP_SHARED,
                              pages->fd, pages->file_start);
    }
    if (map == MAP_FAILED) {
        return -errno;
    }
    pages->map = map;
    return 0;
}

/*
 * Check that the memory is there, because a domain needs it, and count it
 * against RLIMIT_MEMLOCK.  Linux counts what is mapped; the model counts all of
 * @pages at once.
 */
static int pages_pin(HmPages *pages, uint64_t start_byte, uint64_t length)
{
    uint64_t first = start_byte & -HM_PAGE;
    int ret = 0;

    if (pages->dmabuf) {
        return 0;                       /* It has no pages. */
    }
    if (pages->fd >= 0) {
        ret = pages_map_file(pages);
    } else {
        length = (start_byte + length - first + HM_PAGE - 1) & -HM_PAGE;
        if (!user_memory(pages->uptr + first, length, pages->writable)) {
            ret = -EFAULT;
        }
    }
    if (ret) {
        return ret;
    }
    if (!pages->pins && !pages->unlimited) {
        if (locked_pages + pages->n > memlock_limit() / HM_PAGE) {
            return -ENOMEM;
        }
        locked_pages += pages->n;
    }
    pages->pins++;
    return 0;
}

static void pages_unpin(HmPages *pages)
{
    if (pages->dmabuf) {
        return;
    }
    pages->pins--;
    if (!pages->pins && !pages->unlimited) {
        locked_pages -= pages->n;
    }
}

static void area_unpin(HmArea *area)
{
    if (area->pinned) {
        area->pinned = false;
        pages_unpin(area->pages);
    }
}

static uint8_t *area_host(const HmArea *area)
{
    const HmPages *pages = area->pages;

    return (uint8_t *)(pages->map ?: pages->bar ?:
                       (void *)(uintptr_t)pages->uptr) + area->start_byte;
}

static uint64_t area_length(const HmArea *area)
{
    return area->last - area->iova + 1;
}

static void area_free(HmArea *area)
{
    area_unpin(area);
    if (area->pages->areas) {
        g_ptr_array_remove_fast(area->pages->areas, area);
    }
    pages_put(area->pages);
    g_free(area);
}

/* The index of the first area that ends at @iova or above */
static unsigned area_index(const HmIoas *ioas, uint64_t iova)
{
    unsigned low = 0, high = ioas->areas->len;

    while (low < high) {
        unsigned mid = (low + high) / 2;
        HmArea *area = ioas->areas->pdata[mid];

        if (area->last < iova) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* The lowest area that overlaps [start, last] */
static HmArea *area_first(const HmIoas *ioas, uint64_t start, uint64_t last)
{
    unsigned i = area_index(ioas, start);
    HmArea *area = i < ioas->areas->len ? ioas->areas->pdata[i] : NULL;

    return area && area->iova <= last ? area : NULL;
}

/*
 * What hardware sees
 */

bool hm_ioas_lookup(HmS2 *s2, uint64_t ipa, void **host, uint64_t *len,
                    unsigned *prot)
{
    HmDomain *domain = (HmDomain *)s2;
    HmArea *area;

    if (domain->msi_page && ipa - HM_MSI_BASE < HM_PAGE) {
        *host = HM_DOORBELL;
        *len = HM_MSI_BASE + HM_PAGE - ipa;
        *prot = HM_READ | HM_WRITE;
        return true;
    }
    area = domain->ioas ? area_first(domain->ioas, ipa, ipa) : NULL;
    if (!area || area->pages->revoked) {
        return false;
    }
    *host = area_host(area) + (ipa - area->iova);
    *len = area->last - ipa + 1;
    *prot = area->prot;
    return true;
}

void hm_ioas_dirty(HmS2 *s2, uint64_t ipa, uint64_t len)
{
    HmDomain *domain = (HmDomain *)s2;
    uint64_t page = ipa >> HM_PAGE_SHIFT;
    uint64_t last = (ipa + len - 1) >> HM_PAGE_SHIFT;

    if (!domain->dirty || !len) {
        return;
    }
    for (; page <= last; page++) {
        g_hash_table_add(domain->dirty, (void *)(uintptr_t)page);
    }
}

/*
 * Mapping
 */

static int check_iova(HmIoas *ioas, uint64_t iova, uint64_t length)
{
    uint64_t last;

    if (iova & (ioas->alignment - 1)) {
        return -EINVAL;
    }
    if (!hm_last(iova, length, &last)) {
        return -EOVERFLOW;
    }
    if (spans_overlap(ioas->reserved, iova, last)) {
        return -EINVAL;
    }
    return area_first(ioas, iova, last) ? -EEXIST : 0;
}

/* Whether @length fits in [*start, last] with the wanted alignment */
static bool fits(uint64_t *start, uint64_t last, uint64_t length,
                 uint64_t alignment, uint64_t page_offset)
{
    uint64_t aligned;

    if (__builtin_add_overflow(*start, alignment - 1, &aligned)) {
        return false;
    }
    aligned = (aligned & -alignment) | page_offset;
    if (aligned >= last || last - aligned < length - 1) {
        return false;
    }
    *start = aligned;
    return true;
}

/* The lowest IOVA for @length bytes of user memory at @addr; never 0 */
static int alloc_iova(HmIoas *ioas, uint64_t *iova, uint64_t addr,
                      uint64_t length)
{
    uint64_t page_offset = addr % HM_PAGE;
    g_autoptr(GArray) used = NULL;
    g_autoptr(GArray) allowed = NULL;
    uint64_t alignment = 1;

    if (!length || length >= UINT64_MAX / 2) {
        return -EOVERFLOW;
    }
    while (alignment < length) {
        alignment <<= 1;
    }
    if (addr) {
        alignment = MIN(alignment, addr & -addr);
    }
    alignment = MIN(alignment, HUGE_PAGE);
    if (alignment < ioas->alignment) {
        return -EINVAL;
    }

    allowed = spans_union(ioas->allowed, NULL);
    if (!allowed->len) {
        spans_add(allowed, HM_PAGE, UINT64_MAX - HM_PAGE, NULL);
    }
    used = spans_union(ioas->reserved, ioas->areas);
    for (unsigned i = 0; i < allowed->len; i++) {
        HmSpan *span = &g_array_index(allowed, HmSpan, i);
        uint64_t start = MAX(span->start, HM_PAGE);
        uint64_t last = MIN(span->last, UINT64_MAX - HM_PAGE);
        g_autoptr(GArray) holes = NULL;

        if (start > last ||
            !fits(&start, last, length, alignment, page_offset)) {
            continue;
        }
        holes = spans_holes(used, start, last);
        for (unsigned j = 0; j < holes->len; j++) {
            HmSpan *hole = &g_array_index(holes, HmSpan, j);

            if (fits(&hole->start, hole->last, length, alignment,
                     page_offset)) {
                *iova = hole->start;
                return 0;
            }
        }
    }
    return -ENOSPC;
}

/* Map @pieces in order.  Takes references to their pages. */
static int map_pieces(HmIoas *ioas, const GArray *pieces, uint64_t length,
                      uint64_t *iova, unsigned prot, bool alloc)
{
    const HmPiece *piece = (const HmPiece *)pieces->data;
    uint64_t at, last;
    unsigned index;
    int ret;

    if (!length || (length & (ioas->alignment - 1))) {
        return -EINVAL;
    }
    if (alloc) {
        const HmPages *pages = piece->pages;
        uint64_t base = pages->fd >= 0 || pages->dmabuf ? pages->file_start
                                                        : pages->uptr;

        ret = alloc_iova(ioas, iova, base + piece->start_byte, length);
    } else {
        ret = check_iova(ioas, *iova, length);
    }
    if (ret) {
        return ret;
    }

    at = *iova;
    for (unsigned i = 0; i < pieces->len; i++, at += piece[i - 1].length) {
        if ((prot & HM_WRITE) && !piece[i].pages->writable) {
            return -EPERM;
        }
        if (piece[i].start_byte % HM_PAGE & (ioas->alignment - 1)) {
            return -EINVAL;
        }
        if (!hm_last(at, piece[i].length, &last)) {
            return -EOVERFLOW;
        }
    }
    for (unsigned i = 0; ioas->domains->len && i < pieces->len; i++) {
        ret = pages_pin(piece[i].pages, piece[i].start_byte, piece[i].length);
        if (ret) {
            while (i--) {
                pages_unpin(piece[i].pages);
            }
            return ret;
        }
    }

    index = area_index(ioas, *iova);
    at = *iova;
    for (unsigned i = 0; i < pieces->len; i++) {
        HmArea *area = g_new0(HmArea, 1);

        area->iova = at;
        area->last = at + piece[i].length - 1;
        area->prot = prot;
        area->pages = piece[i].pages;
        area->pages->refs++;
        if (area->pages->areas) {
            g_ptr_array_add(area->pages->areas, area);
        }
        area->ioas = ioas;
        area->pinned = ioas->domains->len;
        area->start_byte = piece[i].start_byte;
        g_ptr_array_insert(ioas->areas, index + i, area);
        at += piece[i].length;
    }
    return 0;
}

/* Map new pages.  This consumes the caller's reference. */
static int map_pages(HmIoas *ioas, HmPages *pages, uint64_t start_byte,
                     uint64_t length, uint64_t *iova, unsigned prot,
                     bool alloc)
{
    HmPiece piece = { pages, start_byte, length };
    g_autoptr(GArray) pieces = g_array_new(false, false, sizeof(HmPiece));
    int ret;

    g_array_append_val(pieces, piece);
    ret = map_pieces(ioas, pieces, length, iova, prot, alloc);
    pages_put(pages);
    return ret;
}

static int map_user(HmIoas *ioas, uint64_t uptr, uint64_t length,
                    uint64_t *iova, unsigned prot, bool alloc)
{
    uint64_t start_byte = uptr % HM_PAGE, end;
    HmPages *pages;

    if (__builtin_add_overflow(uptr, length, &end)) {
        return -EOVERFLOW;
    }
    if (!length || length > SIZE_MAX - HM_PAGE) {
        return -EINVAL;
    }
    pages = pages_new(start_byte, length, prot & HM_WRITE);
    pages->uptr = uptr - start_byte;
    return map_pages(ioas, pages, start_byte, length, iova, prot, alloc);
}

/* iopt_revoke_notify() */
static void revoke_pages(void *opaque)
{
    HmPages *pages = opaque;

    pages->revoked = true;
    for (guint i = 0; i < pages->areas->len; i++) {
        HmArea *area = pages->areas->pdata[i];

        for (guint j = 0; j < area->ioas->domains->len; j++) {
            hm_domain_unmapped(area->ioas->domains->pdata[j], area->iova,
                               area_length(area));
        }
    }
}

static int map_dmabuf(HmIoas *ioas, HmDmaBuf *buf, uint64_t start,
                      uint64_t length, uint64_t *iova, unsigned prot,
                      bool alloc)
{
    uint64_t start_byte = start % HM_PAGE;
    HmPages *pages = pages_new(start_byte, length, prot & HM_WRITE);
    int ret = hm_dmabuf_import(buf, start, length, revoke_pages, pages,
                               &pages->bar);

    if (ret) {
        g_free(pages);
        return ret;
    }
    pages->bar -= start_byte;
    pages->file_start = start - start_byte;
    pages->dmabuf = buf;
    pages->areas = g_ptr_array_new();
    return map_pages(ioas, pages, start_byte, length, iova, prot, alloc);
}

static int map_file(HmIoas *ioas, int fd, uint64_t start, uint64_t length,
                    uint64_t *iova, unsigned prot, bool alloc)
{
    uint64_t start_byte = start % HM_PAGE, last;
    HmDmaBuf *buf = hm_fd_dmabuf(fd);
    HmPages *pages;

    if (!length) {
        return -EINVAL;
    }
    if (!hm_last(start, length, &last)) {
        return -EOVERFLOW;
    }
    if (buf) {
        return map_dmabuf(ioas, buf, start, length, iova, prot, alloc);
    }
    fd = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return -EBADF;
    }
    if (length > SIZE_MAX - HM_PAGE) {
        syscall(SYS_close, fd);
        return -EINVAL;
    }
    pages = pages_new(start_byte, length, prot & HM_WRITE);
    pages->fd = fd;
    pages->file_start = start - start_byte;
    return map_pages(ioas, pages, start_byte, length, iova, prot, alloc);
}

/* The pieces behind [iova, iova + length - 1], which must have no gap */
static int get_pieces(HmIoas *ioas, uint64_t iova, uint64_t length,
                      GArray *pieces)
{
    uint64_t last;

    if (!length) {
        return -EINVAL;
    }
    if (!hm_last(iova, length, &last)) {
        return -EOVERFLOW;
    }
    for (;;) {
        HmArea *area = area_first(ioas, iova, iova);
        HmPiece piece;

        if (!area) {
            return -ENOENT;
        }
        piece.pages = area->pages;
        piece.start_byte = area->start_byte + (iova - area->iova);
        piece.length = MIN(last, area->last) - iova + 1;
        g_array_append_val(pieces, piece);
        if (area->last >= last) {
            return 0;
        }
        iova = area->last + 1;
    }
}

static void forget_dirty(HmDomain *domain, uint64_t iova, uint64_t last)
{
    GHashTableIter iter;
    void *page;

    if (!domain->dirty) {
        return;
    }
    g_hash_table_iter_init(&iter, domain->dirty);
    while (g_hash_table_iter_next(&iter, &page, NULL)) {
        uint64_t at = (uint64_t)(uintptr_t)page << HM_PAGE_SHIFT;

        if (at >= iova && at <= last) {
            g_hash_table_iter_remove(&iter);
        }
    }
}

/* Unmap all areas in the range.  Stop at one that is only partly in it. */
static int unmap_range(HmIoas *ioas, uint64_t start, uint64_t last,
                       uint64_t *unmapped)
{
    HmArea *area;

    *unmapped = 0;
    while ((area = area_first(ioas, start, last))) {
        uint64_t area_last = area->last;

        if (area->locks) {
            return -EBUSY;
        }
        if (area->iova < start || area->last > last) {
            return -ENOENT;
        }
        g_ptr_array_remove_index(ioas->areas, area_index(ioas, area->iova));
        for (unsigned i = 0; i < ioas->domains->len; i++) {
            HmDomain *domain = ioas->domains->pdata[i];

            forget_dirty(domain, area->iova, area->last);
            if (!area->pages->revoked) {
                hm_domain_unmapped(domain, area->iova, area_length(area));
            }
        }
        *unmapped += area_length(area);
        area_free(area);
        if (area_last >= last) {
            break;
        }
        start = area_last + 1;
    }
    return 0;
}

static int unmap_iova(HmIoas *ioas, uint64_t iova, uint64_t length,
                      uint64_t *unmapped)
{
    uint64_t last;

    *unmapped = 0;
    if (!length) {
        return -EINVAL;
    }
    if (!hm_last(iova, length, &last)) {
        return -EOVERFLOW;
    }
    return unmap_range(ioas, iova, last, unmapped);
}

/*
 * Memory that hardware uses by its physical address
 */

/* 0: what is contiguous in the process is contiguous.  Otherwise in such runs */
uint64_t hm_contiguous;

int hm_ioas_lock(HmIoas *ioas, uint64_t iova, uint64_t length, void **host)
{
    uint64_t last = iova + length - 1, at = iova, first = 0, next = 0;
    bool contiguous = true;

    /* A domain's pages are no smaller: everything is aligned. */
    for (HmArea *area;; at = area->last + 1) {
        area = area_first(ioas, at, at);
        if (!area) {
            return -ENOENT;
        }
        if (!(area->prot & HM_READ)) {
            return -EPERM;
        }
        if (area->pages->dmabuf) {
            return -EINVAL;
        }
        next = (uintptr_t)area_host(area) + (at - area->iova);
        if (at == iova) {
            first = next;
        }
        contiguous &= next - first == at - iova;
        if (area->last >= last) {
            break;
        }
    }
    if (!contiguous || (hm_contiguous && first / hm_contiguous !=
                        (first + length - 1) / hm_contiguous)) {
        return -EFAULT;
    }
    for (unsigned i = area_index(ioas, iova); i < ioas->areas->len; i++) {
        HmArea *area = ioas->areas->pdata[i];

        if (area->iova > last) {
            break;
        }
        area->locks++;
    }
    *host = (void *)(uintptr_t)first;
    return 0;
}

void hm_ioas_unlock(HmIoas *ioas, uint64_t iova, uint64_t length)
{
    uint64_t last = iova + length - 1;

    for (unsigned i = area_index(ioas, iova); i < ioas->areas->len; i++) {
        HmArea *area = ioas->areas->pdata[i];

        if (area->iova > last) {
            break;
        }
        area->locks--;
    }
}

/*
 * Domains
 */

static int reserve(HmIoas *ioas, uint64_t start, uint64_t last, void *owner)
{
    if (area_first(ioas, start, last) ||
        spans_overlap(ioas->allowed, start, last)) {
        return -EADDRINUSE;
    }
    spans_add(ioas->reserved, start, last, owner);
    return 0;
}

void hm_ioas_unreserve(HmIoas *ioas, void *owner)
{
    for (unsigned i = ioas->reserved->len; i--; ) {
        if (g_array_index(ioas->reserved, HmSpan, i).owner == owner) {
            g_array_remove_index(ioas->reserved, i);
        }
    }
}

int hm_ioas_reserve_for_device(HmIoas *ioas, HmDevice *dev)
{
    int ret = reserve(ioas, HM_MSI_BASE, HM_MSI_BASE + HM_MSI_SIZE - 1, dev);

    if (ret) {
        hm_ioas_unreserve(ioas, dev);
    }
    return ret;
}

static int check_alignment(HmIoas *ioas, uint64_t alignment)
{
    for (unsigned i = 0; i < ioas->areas->len; i++) {
        HmArea *area = ioas->areas->pdata[i];

        if ((area->iova | area_length(area) | area->start_byte % HM_PAGE) &
            (alignment - 1)) {
            return -EADDRINUSE;
        }
    }
    return 0;
}

static int update_alignment(HmIoas *ioas)
{
    uint64_t alignment = ioas->no_large_pages ? HM_PAGE : 1;
    int ret = 0;

    for (unsigned i = 0; i < ioas->domains->len; i++) {
        HmDomain *domain = ioas->domains->pdata[i];

        alignment = MAX(alignment, domain->page_size);
    }
    if (alignment > ioas->alignment) {
        ret = check_alignment(ioas, alignment);
    }
    if (!ret) {
        ioas->alignment = alignment;
    }
    return ret;
}

int hm_ioas_add_domain(HmIoas *ioas, HmDomain *domain)
{
    uint64_t alignment = MAX(domain->page_size, ioas->alignment);
    int ret;

    if (alignment > HM_PAGE) {
        return -EINVAL;
    }
    if (alignment != ioas->alignment) {
        ret = check_alignment(ioas, alignment);
        if (ret) {
            return ret;
        }
    }
    if (domain->aperture_last != UINT64_MAX) {
        ret = reserve(ioas, domain->aperture_last + 1, UINT64_MAX, domain);
        if (ret) {
            return ret;
        }
    }
    /* If there is another domain, the pages were checked before. */
    for (unsigned i = 0; !ioas->domains->len && i < ioas->areas->len; i++) {
        HmArea *area = ioas->areas->pdata[i];

        ret = pages_pin(area->pages, area->start_byte, area_length(area));
        if (ret) {
            while (i--) {
                area_unpin(ioas->areas->pdata[i]);
            }
            hm_ioas_unreserve(ioas, domain);
            return ret;
        }
        area->pinned = true;
    }
    ioas->alignment = alignment;
    domain->ioas = ioas;
    g_ptr_array_add(ioas->domains, domain);
    return 0;
}

void hm_ioas_remove_domain(HmIoas *ioas, HmDomain *domain)
{
    if (!g_ptr_array_remove_fast(ioas->domains, domain)) {
        hm_bug("a domain is not in its IOAS");
    }
    domain->ioas = NULL;
    for (unsigned i = 0; i < ioas->areas->len; i++) {
        HmArea *area = ioas->areas->pdata[i];

        if (!area->pages->revoked) {
            hm_domain_unmapped(domain, area->iova, area_length(area));
        }
        if (!ioas->domains->len) {
            area_unpin(area);
        }
    }
    hm_ioas_unreserve(ioas, domain);
    update_alignment(ioas);
}

int hm_ioas_disable_large_pages(HmIoas *ioas)
{
    int ret;

    if (ioas->no_large_pages) {
        return 0;
    }
    if (ioas->domains->len && ioas->areas->len) {
        return -EINVAL;
    }
    ioas->no_large_pages = true;
    ret = update_alignment(ioas);
    if (ret) {
        ioas->no_large_pages = false;
    }
    return ret;
}

/*
 * Dirty tracking
 */

/* The user's bitmap; bit 0 stands for @iova. */
typedef struct Bitmap {
    uint64_t user;
    uint64_t iova;
    unsigned shift;
} Bitmap;

/*
 * Set bits first..last of the user's bitmap.  As in Linux, a part of it that
 * cannot be written is skipped without an error.
 */
static void set_bits(const Bitmap *b, uint64_t first, uint64_t last)
{
    uint8_t buf[HM_PAGE];

    while (first <= last) {
        uint64_t addr = b->user + first / 8;
        /* Bits up to the end of a page of the bitmap */
        uint64_t end = first / 8 * 8 + (HM_PAGE - addr % HM_PAGE) * 8 - 1;
        uint64_t n;

        end = MIN(end, last);
        n = end / 8 - first / 8 + 1;
        if (!hm_copy_from_user(buf, addr, n)) {
            for (uint64_t bit = first; bit <= end; bit++) {
                buf[bit / 8 - first / 8] |= 1 << bit % 8;
            }
            hm_copy_to_user(addr, buf, n);
        }
        first = end + 1;
    }
}

static int compare_pages(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Report dirty pages of [iova, last] in @bitmap, if any, and clear them */
static void read_dirty(HmDomain *domain, uint64_t iova, uint64_t last,
                       const Bitmap *bitmap, bool clear)
{
    g_autoptr(GArray) pages = g_array_new(false, false, sizeof(uint64_t));
    GHashTableIter iter;
    void *key;

    g_hash_table_iter_init(&iter, domain->dirty);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        uint64_t page = (uintptr_t)key;

        if (page >= iova >> HM_PAGE_SHIFT && page <= last >> HM_PAGE_SHIFT) {
            g_array_append_val(pages, page);
            if (clear) {
                g_hash_table_iter_remove(&iter);
            }
        }
    }
    if (!pages->len) {
        return;
    }
    g_array_sort(pages, compare_pages);
    for (unsigned i = 0, j; bitmap && i < pages->len; i = j) {
        uint64_t *page = &g_array_index(pages, uint64_t, i);
        uint64_t start, end;

        j = i + 1;
        while (j < pages->len && page[j - i] == page[0] + j - i) {
            j++;
        }
        start = MAX(page[0] << HM_PAGE_SHIFT, iova);
        end = MIN(((page[0] + (j - i)) << HM_PAGE_SHIFT) - 1, last);
        set_bits(bitmap, (start - bitmap->iova) >> bitmap->shift,
                 (end - bitmap->iova) >> bitmap->shift);
    }
    if (clear) {
        uint64_t first = g_array_index(pages, uint64_t, 0);
        uint64_t end = g_array_index(pages, uint64_t, pages->len - 1) + 1;

        hm_domain_unmapped(domain, first << HM_PAGE_SHIFT,
                           (end - first) << HM_PAGE_SHIFT);
    }
}

int hm_hwpt_set_dirty_tracking(HmCall *call)
{
    struct iommu_hwpt_set_dirty_tracking *cmd = call->cmd;
    HmHwpt *hwpt;

    if (cmd->flags & ~IOMMU_HWPT_DIRTY_TRACKING_ENABLE) {
        return -EOPNOTSUPP;
    }
    hwpt = hm_object_get(call->ctx, cmd->hwpt_id, HM_OBJ_HWPT_PAGING);
    if (!hwpt) {
        return -ENOENT;
    }
    if (!hwpt->domain->dirty) {
        return -EOPNOTSUPP;
    }
    /* Tracking is always on.  This only clears it. */
    if (cmd->flags & IOMMU_HWPT_DIRTY_TRACKING_ENABLE) {
        for (unsigned i = 0; i < hwpt->ioas->areas->len; i++) {
            HmArea *area = hwpt->ioas->areas->pdata[i];

            read_dirty(hwpt->domain, area->iova, area->last, NULL, true);
        }
    }
    return 0;
}

static int check_dirty_range(HmIoas *ioas,
                             const struct iommu_hwpt_get_dirty_bitmap *cmd)
{
    uint64_t last, mask = ioas->alignment - 1;

    if (!cmd->length) {
        return -EINVAL;
    }
    if (!hm_last(cmd->iova, cmd->length, &last)) {
        return -EOVERFLOW;
    }
    if ((cmd->iova & mask) || ((last + 1) & mask) || !cmd->page_size) {
        return -EINVAL;
    }
    mask = cmd->page_size - 1;
    return (cmd->iova & mask) || ((last + 1) & mask) ? -EINVAL : 0;
}

int hm_hwpt_get_dirty_bitmap(HmCall *call)
{
    struct iommu_hwpt_get_dirty_bitmap *cmd = call->cmd;
    uint64_t iova, last;
    HmHwpt *hwpt;
    Bitmap bitmap;
    int ret;

    if ((cmd->flags & ~IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR) ||
        cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    hwpt = hm_object_get(call->ctx, cmd->hwpt_id, HM_OBJ_HWPT_PAGING);
    if (!hwpt) {
        return -ENOENT;
    }
    ret = check_dirty_range(hwpt->ioas, cmd);
    if (ret) {
        return ret;
    }
    if (!hwpt->domain->dirty) {
        return -EOPNOTSUPP;
    }
    bitmap.user = cmd->data;
    bitmap.iova = cmd->iova;
    bitmap.shift = __builtin_ctzll(cmd->page_size);
    iova = cmd->iova;
    last = cmd->iova + cmd->length - 1;
    for (;;) {
        HmArea *area = area_first(hwpt->ioas, iova, iova);

        /* A gap ends the loop.  It is not an error. */
        if (!area) {
            break;
        }
        read_dirty(hwpt->domain, iova, MIN(last, area->last), &bitmap,
                   !(cmd->flags & IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR));
        if (area->last >= last) {
            break;
        }
        iova = area->last + 1;
    }
    return 0;
}

/*
 * The other ioctls
 */

int hm_ioas_alloc(HmCall *call)
{
    struct iommu_ioas_alloc *cmd = call->cmd;
    HmIoas *ioas;
    int ret;

    if (cmd->flags) {
        return -EOPNOTSUPP;
    }
    ioas = HM_OBJECT_NEW(call->ctx, HmIoas, HM_OBJ_IOAS);
    ioas->areas = g_ptr_array_new();
    ioas->allowed = g_array_new(false, false, sizeof(HmSpan));
    ioas->reserved = g_array_new(false, false, sizeof(HmSpan));
    ioas->domains = g_ptr_array_new();
    ioas->hwpts = g_ptr_array_new();
    ioas->alignment = 1;

    cmd->out_ioas_id = ioas->obj.id;
    ret = hm_respond(call, sizeof(*cmd));
    if (ret) {
        hm_object_abort(&ioas->obj);
        return ret;
    }
    hm_object_publish(&ioas->obj);
    return 0;
}

void hm_ioas_destroy(HmIoas *ioas)
{
    uint64_t unmapped;

    unmap_range(ioas, 0, UINT64_MAX, &unmapped);
    if (ioas->domains->len || ioas->hwpts->len || ioas->reserved->len) {
        hm_bug("an IOAS is freed in use");
    }
    g_ptr_array_free(ioas->areas, true);
    g_array_free(ioas->allowed, true);
    g_array_free(ioas->reserved, true);
    g_ptr_array_free(ioas->domains, true);
    g_ptr_array_free(ioas->hwpts, true);
}

int hm_ioas_iova_ranges(HmCall *call)
{
    struct iommu_ioas_iova_ranges *cmd = call->cmd;
    g_autoptr(GArray) reserved = NULL;
    g_autoptr(GArray) holes = NULL;
    uint32_t max = cmd->num_iovas;
    HmIoas *ioas;
    int ret;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    ioas = hm_object_get(call->ctx, cmd->ioas_id, HM_OBJ_IOAS);
    if (!ioas) {
        return -ENOENT;
    }
    reserved = spans_union(ioas->reserved, NULL);
    holes = spans_holes(reserved, 0, UINT64_MAX);
    cmd->num_iovas = holes->len;
    cmd->out_iova_alignment = ioas->alignment;
    for (unsigned i = 0; i < MIN(holes->len, max); i++) {
        HmSpan *hole = &g_array_index(holes, HmSpan, i);
        struct iommu_iova_range range = { hole->start, hole->last };

        if (hm_copy_to_user(cmd->allowed_iovas + i * sizeof(range), &range,
                            sizeof(range))) {
            return -EFAULT;
        }
    }
    ret = hm_respond(call, sizeof(*cmd));
    return ret ?: holes->len > max ? -EMSGSIZE : 0;
}

static int load_iovas(GArray *spans, uint64_t user, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct iommu_iova_range range;

        if (hm_copy_from_user(&range, user + i * sizeof(range),
                              sizeof(range))) {
            return -EFAULT;
        }
        if (range.start >= range.last ||
            spans_overlap(spans, range.start, range.last)) {
            return -EINVAL;
        }
        spans_add(spans, range.start, range.last, NULL);
    }
    return 0;
}

int hm_ioas_allow_iovas(HmCall *call)
{
    struct iommu_ioas_allow_iovas *cmd = call->cmd;
    GArray *allowed;
    HmIoas *ioas;
    int ret;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    ioas = hm_object_get(call->ctx, cmd->ioas_id, HM_OBJ_IOAS);
    if (!ioas) {
        return -ENOENT;
    }
    allowed = g_array_new(false, false, sizeof(HmSpan));
    ret = load_iovas(allowed, cmd->allowed_iovas, cmd->num_iovas);
    for (unsigned i = 0; !ret && i < allowed->len; i++) {
        HmSpan *span = &g_array_index(allowed, HmSpan, i);

        if (spans_overlap(ioas->reserved, span->start, span->last)) {
            ret = -EADDRINUSE;
        }
    }
    if (ret) {
        g_array_free(allowed, true);
        return ret;
    }
    g_array_free(ioas->allowed, true);
    ioas->allowed = allowed;
    return 0;
}

#define MAP_FLAGS (IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | \
                   IOMMU_IOAS_MAP_READABLE)

static unsigned map_prot(uint32_t flags)
{
    return (flags & IOMMU_IOAS_MAP_READABLE ? HM_READ : 0) |
           (flags & IOMMU_IOAS_MAP_WRITEABLE ? HM_WRITE : 0);
}

int hm_ioas_map(HmCall *call)
{
    struct iommu_ioas_map *cmd = call->cmd;
    uint64_t iova = cmd->iova;
    HmIoas *ioas;
    int ret;

    if ((cmd->flags & ~MAP_FLAGS) || cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    if (cmd->iova == UINT64_MAX || cmd->length == UINT64_MAX) {
        return -EOVERFLOW;
    }
    if (!map_prot(cmd->flags)) {
        return -EINVAL;
    }
    ioas = hm_object_get(call->ctx, cmd->ioas_id, HM_OBJ_IOAS);
    if (!ioas) {
        return -ENOENT;
    }
    ret = map_user(ioas, cmd->user_va, cmd->length, &iova,
                   map_prot(cmd->flags),
                   !(cmd->flags & IOMMU_IOAS_MAP_FIXED_IOVA));
    if (ret) {
        return ret;
    }
    cmd->iova = iova;
    return hm_respond(call, sizeof(*cmd));
}

int hm_ioas_map_file(HmCall *call)
{
    struct iommu_ioas_map_file *cmd = call->cmd;
    uint64_t iova = cmd->iova;
    HmIoas *ioas;
    int ret;

    if (cmd->flags & ~MAP_FLAGS) {
        return -EOPNOTSUPP;
    }
    if (cmd->iova == UINT64_MAX || cmd->length == UINT64_MAX) {
        return -EOVERFLOW;
    }
    if (!map_prot(cmd->flags)) {
        return -EINVAL;
    }
    ioas = hm_object_get(call->ctx, cmd->ioas_id, HM_OBJ_IOAS);
    if (!ioas) {
        return -ENOENT;
    }
    ret = map_file(ioas, cmd->fd, cmd->start, cmd->length, &iova,
                   map_prot(cmd->flags),
                   !(cmd->flags & IOMMU_IOAS_MAP_FIXED_IOVA));
    if (ret) {
        return ret;
    }
    HM_COUNT("ioas.files");
    cmd->iova = iova;
    return hm_respond(call, sizeof(*cmd));
}

int hm_ioas_copy(HmCall *call)
{
    struct iommu_ioas_copy *cmd = call->cmd;
    g_autoptr(GArray) pieces = g_array_new(false, false, sizeof(HmPiece));
    uint64_t iova = cmd->dst_iova;
    HmIoas *src, *dst;
    int ret;

    if (cmd->flags & ~MAP_FLAGS) {
        return -EOPNOTSUPP;
    }
    if (cmd->length == UINT64_MAX || cmd->src_iova == UINT64_MAX ||
        cmd->dst_iova == UINT64_MAX) {
        return -EOVERFLOW;
    }
    if (!map_prot(cmd->flags)) {
        return -EINVAL;
    }
    src = hm_object_get(call->ctx, cmd->src_ioas_id, HM_OBJ_IOAS);
    if (!src) {
        return -ENOENT;
    }
    ret = get_pieces(src, cmd->src_iova, cmd->length, pieces);
    if (ret) {
        return ret;
    }
    dst = hm_object_get(call->ctx, cmd->dst_ioas_id, HM_OBJ_IOAS);
    if (!dst) {
        return -ENOENT;
    }
    ret = map_pieces(dst, pieces, cmd->length, &iova, map_prot(cmd->flags),
                     !(cmd->flags & IOMMU_IOAS_MAP_FIXED_IOVA));
    if (ret) {
        return ret;
    }
    cmd->dst_iova = iova;
    return hm_respond(call, sizeof(*cmd));
}

int hm_ioas_unmap(HmCall *call)
{
    struct iommu_ioas_unmap *cmd = call->cmd;
    uint64_t unmapped;
    HmIoas *ioas;
    int ret;

    ioas = hm_object_get(call->ctx, cmd->ioas_id, HM_OBJ_IOAS);
    if (!ioas) {
        return -ENOENT;
    }
    if (!cmd->iova && cmd->length == UINT64_MAX) {
        ret = unmap_range(ioas, 0, UINT64_MAX, &unmapped);
        if (ret) {
            return ret;
        }
    } else {
        if (cmd->iova == UINT64_MAX || cmd->length == UINT64_MAX) {
            return -EOVERFLOW;
        }
        ret = unmap_iova(ioas, cmd->iova, cmd->length, &unmapped);
        if (ret) {
            return ret;
        }
        if (!unmapped) {
            return -ENOENT;
        }
    }
    cmd->length = unmapped;
    return hm_respond(call, sizeof(*cmd));
}

int hm_ioas_change_process(HmCall *call)
{
    struct iommu_ioas_change_process *cmd = call->cmd;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    /* Only files can come from another process. */
    for (unsigned id = 0; id < call->ctx->objects->len; id++) {
        HmIoas *ioas = hm_object_get(call->ctx, id, HM_OBJ_IOAS);

        for (unsigned i = 0; ioas && i < ioas->areas->len; i++) {
            HmArea *area = ioas->areas->pdata[i];

            if (area->pages->fd < 0) {
                return -EINVAL;
            }
        }
    }
    return 0;
}

/* IOMMU_OPTION_HUGE_PAGES; the caller copies val64 back. */
int hm_ioas_option(HmCall *call)
{
    struct iommu_option *cmd = call->cmd;
    HmIoas *ioas = hm_object_get(call->ctx, cmd->object_id, HM_OBJ_IOAS);

    if (!ioas) {
        return -ENOENT;
    }
    switch (cmd->op) {
    case IOMMU_OPTION_OP_GET:
        cmd->val64 = !ioas->no_large_pages;
        return 0;
    case IOMMU_OPTION_OP_SET:
        if (cmd->val64 > 1) {
            return -EINVAL;
        }
        if (!cmd->val64) {
            return hm_ioas_disable_large_pages(ioas);
        }
        ioas->no_large_pages = false;
        update_alignment(ioas);
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

/*
 * VFIO's own ioctls on an iommufd.  Version 1 of type 1 can cut through a
 * mapping; the model does not have it.
 */
int hm_ioas_vfio_map(HmIoas *ioas, uint64_t arg)
{
    struct vfio_iommu_type1_dma_map map;
    uint32_t flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    uint64_t iova;

    if (hm_copy_from_user(&map, arg, sizeof(map))) {
        return -EFAULT;
    }
    if (map.argsz < sizeof(map) || (map.flags & ~flags)) {
        return -EINVAL;
    }
    if (!ioas) {
        return -ENODEV;
    }
    iova = map.iova;
    return map_user(ioas, map.vaddr, map.size, &iova,
                    (map.flags & VFIO_DMA_MAP_FLAG_READ ? HM_READ : 0) |
                    (map.flags & VFIO_DMA_MAP_FLAG_WRITE ? HM_WRITE : 0),
                    false);
}

int hm_ioas_vfio_unmap(HmIoas *ioas, uint64_t arg)
{
    struct vfio_iommu_type1_dma_unmap unmap;
    size_t size = offsetof(struct vfio_iommu_type1_dma_unmap, size) +
                  sizeof(unmap.size);
    uint64_t unmapped;
    int ret;

    if (hm_copy_from_user(&unmap, arg, size)) {
        return -EFAULT;
    }
    if (unmap.argsz < size || (unmap.flags & ~VFIO_DMA_UNMAP_FLAG_ALL)) {
        return -EINVAL;
    }
    if (!ioas) {
        return -ENODEV;
    }
    if (!(unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL)) {
        ret = unmap_iova(ioas, unmap.iova, unmap.size, &unmapped);
    } else if (unmap.iova || unmap.size) {
        return -EINVAL;
    } else {
        ret = unmap_range(ioas, 0, UINT64_MAX, &unmapped);
    }
    unmap.size = unmapped;
    return hm_copy_to_user(arg, &unmap, size) ?: ret;
}
