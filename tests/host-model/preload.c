/*
 * Host model: the C library's calls on fds that are ours
 *
 * Each of our fds is a real one: an eventfd, so that it can be polled, closed
 * and duplicated.  This file knows which fds are ours.  Nothing else in the
 * model sees an fd number.  A call on any other fd goes to the C library at
 * once, without the lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
/* We define these ourselves, under both names */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>
#include "control.h"
#include "model.h"

typedef enum HmFileKind {
    HM_FILE_CTX,
    HM_FILE_DEVICE,
    HM_FILE_VEVENTQ,
    HM_FILE_DMABUF,
} HmFileKind;

/* An open file: what dup() shares */
typedef struct HmFile {
    HmFileKind kind;
    void *object;
    unsigned fds;
    unsigned polls;                     /* in progress; each holds the file */
    int fd;                             /* the first one; polled */
} HmFile;

/*
 * By fd number.  A first look without the lock lets other fds pass.  What it
 * finds counts only after a second look with the lock held.
 */
#define FDS 65536
static HmFile *files[FDS];

static pthread_mutex_t model_mutex = PTHREAD_MUTEX_INITIALIZER;

void hm_lock(void)
{
    pthread_mutex_lock(&model_mutex);
}

void hm_unlock(void)
{
    pthread_mutex_unlock(&model_mutex);
}

#define REAL(name) ({ \
        static __typeof__(name) *real_; \
        if (!real_) { \
            real_ = (__typeof__(name) *)dlsym(RTLD_NEXT, #name); \
        } \
        real_; \
    })

/* The file behind @fd, with the lock held; or NULL, without the lock */
static HmFile *enter(int fd)
{
    if (fd < 0 || fd >= FDS ||
        !__atomic_load_n(&files[fd], __ATOMIC_ACQUIRE)) {
        return NULL;
    }
    hm_lock();
    if (!files[fd]) {
        hm_unlock();
        return NULL;
    }
    return files[fd];
}

/* Release the lock, and turn a kernel's result into a C library's */
static ssize_t leave(ssize_t result)
{
    hm_unlock();
    if (result < 0) {
        errno = -result;
        return -1;
    }
    return result;
}

static void set_fd(int fd, HmFile *file)
{
    if (fd >= FDS) {
        hm_bug("fd %d is above what the model can hold", fd);
    }
    file->fds++;
    __atomic_store_n(&files[fd], file, __ATOMIC_RELEASE);
}

static void release(HmFile *file)
{
    if (file->fds || file->polls) {
        return;
    }
    switch (file->kind) {
    case HM_FILE_CTX:
        hm_iommufd_close(file->object);
        break;
    case HM_FILE_DEVICE:
        hm_vfio_close(file->object);
        break;
    case HM_FILE_VEVENTQ:
        hm_veventq_close(file->object);
        break;
    case HM_FILE_DMABUF:
        hm_dmabuf_put(file->object);
        break;
    }
    g_free(file);
}

/* Remove @fd.  The caller closes the real one. */
static void put_fd(int fd)
{
    HmFile *file = files[fd];

    __atomic_store_n(&files[fd], NULL, __ATOMIC_RELEASE);
    file->fds--;
    if (file->kind == HM_FILE_VEVENTQ && file->fd == fd) {
        /* The number may be reused before the next event. */
        hm_veventq_mute(file->object);
    }
    release(file);
}

static int new_fd(HmFileKind kind, void *object, int want)
{
    HmFile *file;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        return -errno;
    }
    if (want >= 0 && want != fd) {
        if (fcntl(want, F_GETFD) >= 0) {
            hm_bug("fd %d is taken", want);
        }
        if (REAL(dup3)(fd, want, O_CLOEXEC) < 0) {
            hm_bug("fd %d cannot be had: %s", want, strerror(errno));
        }
        REAL(close)(fd);
        fd = want;
    }
    file = g_new0(HmFile, 1);
    file->kind = kind;
    file->object = object;
    file->fd = fd;
    set_fd(fd, file);
    return fd;
}

int hm_fd_new_veventq(HmVeventq *veventq)
{
    int fd = new_fd(HM_FILE_VEVENTQ, veventq, -1);

    if (fd >= 0) {
        /* Blocking, as from the kernel.  Our own reads never block. */
        fcntl(fd, F_SETFL, 0);
    }
    return fd;
}

void hm_fd_readable(int fd, bool readable)
{
    uint64_t n = 1;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    bool is = REAL(poll)(&p, 1, 0) == 1 && (p.revents & POLLIN);

    if (readable && !is) {
        if (REAL(write)(fd, &n, sizeof(n)) != sizeof(n)) {
            hm_bug("fd %d cannot be made readable: %s", fd, strerror(errno));
        }
    } else if (!readable && is) {
        if (REAL(read)(fd, &n, sizeof(n)) != sizeof(n)) {
            hm_bug("fd %d cannot be drained: %s", fd, strerror(errno));
        }
    }
}

int hm_fd_new_device(HmDevice *dev, int want)
{
    HmVfioFile *file = hm_vfio_open(dev);
    int fd = new_fd(HM_FILE_DEVICE, file, want);

    if (fd < 0) {
        hm_vfio_close(file);
    }
    return fd;
}

int hm_fd_new_dmabuf(HmDmaBuf *buf)
{
    return new_fd(HM_FILE_DMABUF, buf, -1);
}

HmDmaBuf *hm_fd_dmabuf(int fd)
{
    HmFile *file = fd >= 0 && fd < FDS ? files[fd] : NULL;

    return file && file->kind == HM_FILE_DMABUF ? file->object : NULL;
}

int hm_fd_new_ctx(int want)
{
    return new_fd(HM_FILE_CTX, hm_iommufd_open(), want);
}

int hm_fd_ctx(int fd, HmCtx **ctx)
{
    HmFile *file = fd >= 0 && fd < FDS ? files[fd] : NULL;

    if (!file) {
        return fcntl(fd, F_GETFD) < 0 ? -EBADF : -EBADFD;
    }
    if (file->kind != HM_FILE_CTX) {
        return -EBADFD;
    }
    *ctx = file->object;
    return 0;
}

/*
 * What sysfs says of a VFIO device: its character device's number leads to the
 * PCI device, and that to the devices of its IOMMU group.  The number is ours
 * (60 is for local use).
 */

#define DEVICE_MAJOR 60
#define DEVICE_LINK "/sys/dev/char/60:"

static bool is_device(const char *path)
{
    return hm_active() && path && g_str_has_prefix(path, DEVICE_LINK);
}

/* The device of a path, and what comes after it; NULL if there is none */
static HmDevice *device_of(const char *path, char **rest)
{
    guint64 n = g_ascii_strtoull(path + strlen(DEVICE_LINK), rest, 10);

    return n < hm_devices->len &&
           !((HmDevice *)hm_devices->pdata[n])->no_sysfs
           ? hm_devices->pdata[n] : NULL;
}

/* The file "class" of a device of the group: a file of its own for each open() */
static int open_class(const char *path)
{
    g_autofree char *text = NULL;
    HmDevice *dev, *member = NULL;
    char *rest;
    int fd;

    hm_lock();
    dev = device_of(path, &rest);
    for (unsigned n = 0; dev && (member = hm_group_member(dev, n)); n++) {
        g_autofree char *name =
            g_strdup_printf("/device/iommu_group/devices/%s/class",
                            member->name);

        if (!strcmp(rest, name)) {
            break;
        }
    }
    if (!member) {
        return leave(-ENOENT);
    }
    text = g_strdup_printf("0x%02x%02x%02x\n",
                           member->config[PCI_CLASS_DEVICE + 1],
                           member->config[PCI_CLASS_DEVICE],
                           member->config[PCI_CLASS_PROG]);
    fd = memfd_create("class", MFD_CLOEXEC);
    if (fd < 0) {
        return leave(-errno);
    }
    if (write(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET)) {
        int error = errno;

        close(fd);
        return leave(-error);
    }
    return leave(fd);
}

/* From here on, a function that is not static replaces the C library's. */
#pragma GCC visibility push(default)

/*
 * open
 */

static int open_iommufd(int flags)
{
    HmCtx *ctx;
    int err, fd;

    hm_lock();
    err = hm_call("open./dev/iommu");
    if (err) {
        return leave(-err);
    }
    ctx = hm_iommufd_open();
    fd = new_fd(HM_FILE_CTX, ctx, -1);
    if (fd >= 0 && !(flags & O_CLOEXEC)) {
        fcntl(fd, F_SETFD, 0);
    }
    return leave(fd);
}

#define OPEN_MODE(flags) ({ \
        mode_t mode_ = 0; \
        if ((flags) & (O_CREAT | __O_TMPFILE)) { \
            va_list ap; \
            va_start(ap, flags); \
            mode_ = va_arg(ap, mode_t); \
            va_end(ap); \
        } \
        mode_; \
    })

static bool is_iommu(const char *path)
{
    return hm_active() && path && !strcmp(path, "/dev/iommu");
}

static bool is_ours(const char *path)
{
    return is_iommu(path) || is_device(path);
}

static int our_open(const char *path, int flags)
{
    return is_device(path) ? open_class(path) : open_iommufd(flags);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);

    return is_ours(path) ? our_open(path, flags)
                         : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);

    return is_ours(path) ? our_open(path, flags)
                         : REAL(open64)(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);

    return is_ours(path) ? our_open(path, flags)
                         : REAL(openat)(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);

    return is_ours(path) ? our_open(path, flags)
                         : REAL(openat64)(dir, path, flags, mode);
}

/* Fortified programs call this instead. */
int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
    return is_ours(path) ? our_open(path, flags)
                         : REAL(__open_2)(path, flags);
}

int __open64_2(const char *path, int flags);
int __open64_2(const char *path, int flags)
{
    return is_ours(path) ? our_open(path, flags)
                         : REAL(__open64_2)(path, flags);
}

/* The limit that the model holds against the program, for its messages */
static bool fake_limit(__rlimit_resource_t resource, rlim64_t *cur)
{
    const char *text = g_getenv("HOST_MODEL_MEMLOCK");

    if (!hm_active() || resource != RLIMIT_MEMLOCK || !text) {
        return false;
    }
    *cur = g_ascii_strtoull(text, NULL, 0);
    return true;
}

int getrlimit(__rlimit_resource_t resource, struct rlimit *limit)
{
    int ret = REAL(getrlimit)(resource, limit);
    rlim64_t cur;

    if (!ret && fake_limit(resource, &cur)) {
        limit->rlim_cur = cur;
    }
    return ret;
}

int getrlimit64(__rlimit_resource_t resource, struct rlimit64 *limit)
{
    int ret = REAL(getrlimit64)(resource, limit);
    rlim64_t cur;

    if (!ret && fake_limit(resource, &cur)) {
        limit->rlim_cur = cur;
    }
    return ret;
}

/*
 * A link to the bus of mediated devices, which this computer need not have: a
 * test makes a device's directory with one, and QEMU looks where it leads.
 */
char *realpath(const char *path, char *resolved)
{
    static const char mdev[] = "/sys/bus/mdev";
    char buffer[PATH_MAX];
    char *result = resolved ?: buffer;
    char *found = REAL(realpath)(path, result);

    if (!found && hm_active()) {
        g_autofree char *target = g_file_read_link(path, NULL);

        if (target && !strcmp(target, mdev)) {
            found = strcpy(result, mdev);
        }
    }
    if (!found) {
        return NULL;
    }
    return resolved ?: strdup(buffer);
}

/*
 * ASan's allocator asks for the time, and dlsym() frees memory.  So this is
 * looked up when the library is loaded.  A system call answers until then.
 */
static __typeof__(clock_gettime) *real_clock_gettime;

static void __attribute__((constructor)) find_clock_gettime(void)
{
    real_clock_gettime = (__typeof__(clock_gettime) *)dlsym(RTLD_NEXT,
                                                            "clock_gettime");
}

/* Time passes as "advance" and rules with "^" say, and by itself */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int ret = real_clock_gettime ? real_clock_gettime(clock, now)
                                 : syscall(SYS_clock_gettime, clock, now);
    uint64_t ns = __atomic_load_n(&hm_advanced_ns, __ATOMIC_RELAXED);

    if (!ret && clock == CLOCK_MONOTONIC && ns) {
        ns += now->tv_nsec;
        now->tv_sec += ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return ret;
}

/* Some programs check this first, for a message of their own. */
int access(const char *path, int mode)
{
    if (is_iommu(path)) {
        errno = EACCES;
        return mode & X_OK ? -1 : 0;
    }
    return REAL(access)(path, mode);
}

/* close and dup */

int close(int fd)
{
    if (enter(fd)) {
        put_fd(fd);
        hm_unlock();
    }
    return REAL(close)(fd);
}

static int duplicated(HmFile *file, int fd)
{
    if (fd >= 0 && files[fd] != file) {
        if (files[fd]) {
            put_fd(fd);
        }
        set_fd(fd, file);
    }
    return fd;
}

int dup(int fd)
{
    HmFile *file = enter(fd);
    int copy;

    if (!file) {
        return REAL(dup)(fd);
    }
    copy = duplicated(file, REAL(dup)(fd));
    hm_unlock();
    return copy;
}

static int dup_to(int fd, int to, int flags, bool three)
{
    HmFile *file;
    int copy;

    if (fd != to && enter(to)) {
        put_fd(to);
        hm_unlock();
    }
    file = enter(fd);
    copy = three ? REAL(dup3)(fd, to, flags) : REAL(dup2)(fd, to);
    if (file) {
        duplicated(file, copy);
        hm_unlock();
    }
    return copy;
}

int dup2(int fd, int to)
{
    return dup_to(fd, to, 0, false);
}

int dup3(int fd, int to, int flags)
{
    return dup_to(fd, to, flags, true);
}

static int do_fcntl(__typeof__(fcntl) *real, int fd, int cmd, void *arg)
{
    HmFile *file = NULL;
    int ret;

    if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) {
        file = enter(fd);
    }
    ret = real(fd, cmd, arg);
    if (file) {
        duplicated(file, ret);
        hm_unlock();
    }
    return ret;
}

int fcntl(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    return do_fcntl(REAL(fcntl), fd, cmd, arg);
}

int fcntl64(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    return do_fcntl(REAL(fcntl64), fd, cmd, arg);
}

/*
 * ioctl
 */

#define NAME(request) [_IOC_NR(request)] = #request
static const char *const names[256] = {
    NAME(IOMMU_DESTROY), NAME(IOMMU_IOAS_ALLOC), NAME(IOMMU_IOAS_ALLOW_IOVAS),
    NAME(IOMMU_IOAS_COPY), NAME(IOMMU_IOAS_IOVA_RANGES), NAME(IOMMU_IOAS_MAP),
    NAME(IOMMU_IOAS_UNMAP), NAME(IOMMU_OPTION), NAME(IOMMU_VFIO_IOAS),
    NAME(IOMMU_HWPT_ALLOC), NAME(IOMMU_GET_HW_INFO),
    NAME(IOMMU_HWPT_SET_DIRTY_TRACKING), NAME(IOMMU_HWPT_GET_DIRTY_BITMAP),
    NAME(IOMMU_HWPT_INVALIDATE), NAME(IOMMU_FAULT_QUEUE_ALLOC),
    NAME(IOMMU_IOAS_MAP_FILE), NAME(IOMMU_VIOMMU_ALLOC),
    NAME(IOMMU_VDEVICE_ALLOC), NAME(IOMMU_IOAS_CHANGE_PROCESS),
    NAME(IOMMU_VEVENTQ_ALLOC), NAME(IOMMU_HW_QUEUE_ALLOC),
    NAME(VFIO_DEVICE_GET_INFO), NAME(VFIO_DEVICE_GET_REGION_INFO),
    NAME(VFIO_DEVICE_GET_IRQ_INFO), NAME(VFIO_DEVICE_SET_IRQS),
    NAME(VFIO_DEVICE_RESET), NAME(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO),
    NAME(VFIO_DEVICE_PCI_HOT_RESET), NAME(VFIO_DEVICE_IOEVENTFD),
    NAME(VFIO_DEVICE_FEATURE), NAME(VFIO_DEVICE_BIND_IOMMUFD),
    NAME(VFIO_DEVICE_ATTACH_IOMMUFD_PT), NAME(VFIO_DEVICE_DETACH_IOMMUFD_PT),
};

static const char *request_name(unsigned long request)
{
    const char *name = names[_IOC_NR(request)];

    return name ? name : "ioctl.unknown";
}

static int our_ioctl(HmFile *file, unsigned long request, void *arg)
{
    const char *name = request_name(request);
    bool injected;
    int ret;

    if (file->kind == HM_FILE_CTX) {
        name = hm_iommufd_kind(file->object, request, arg) ?: name;
    }
    ret = -hm_call(name);
    injected = ret;

    if (!injected) {
        switch (file->kind) {
        case HM_FILE_CTX:
            ret = hm_iommufd_ioctl(file->object, request, arg);
            break;
        case HM_FILE_DEVICE:
            ret = hm_vfio_ioctl(file->object, request, arg);
            break;
        default:
            ret = -ENOTTY;
        }
    }
    hm_log("%s = %d%s", name, ret, injected ? " (injected)" : "");
    return leave(ret);
}

int ioctl(int fd, unsigned long request, ...)
{
    HmFile *file = enter(fd);
    va_list ap;
    void *arg;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    return file ? our_ioctl(file, request, arg)
                : REAL(ioctl)(fd, request, arg);
}

/*
 * read and write
 */

static ssize_t veventq_read(HmFile *file, int fd, void *buf, size_t len)
{
    bool nonblock = fcntl(fd, F_GETFL) & O_NONBLOCK;
    int err = hm_call("veventq.read");
    ssize_t ret = err == HM_NOTHING ? 0 : err ? -err :
                  hm_veventq_read(file->object, buf, len, true);
    struct pollfd p = { .fd = fd, .events = POLLIN };

    if (ret == -EAGAIN && !err && !nonblock) {
        hm_unlock();
        poll(&p, 1, -1);
        return read(fd, buf, len);
    }
    return leave(ret);
}

ssize_t read(int fd, void *buf, size_t len)
{
    HmFile *file = enter(fd);

    if (!file) {
        return REAL(read)(fd, buf, len);
    }
    return file->kind == HM_FILE_VEVENTQ ? veventq_read(file, fd, buf, len)
                                         : leave(-EINVAL);
}

ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
    return read(fd, buf, len);
}

ssize_t write(int fd, const void *buf, size_t len)
{
    HmFile *file = enter(fd);

    return file ? leave(-EINVAL) : REAL(write)(fd, buf, len);
}

/*
 * poll().  The kernel holds the files that it looks at until it returns: a file
 * that is closed meanwhile is not released before.
 */

#define POLLED_MAX 32

static unsigned begin_poll(const struct pollfd *fds, nfds_t n, HmFile **held)
{
    unsigned n_held = 0;

    for (nfds_t i = 0; i < n && n_held < POLLED_MAX; i++) {
        HmFile *file = enter(fds[i].fd);

        if (file) {
            file->polls++;
            held[n_held++] = file;
            hm_unlock();
        }
    }
    return n_held;
}

static int end_poll(HmFile **held, unsigned n, int ret)
{
    int err = errno;

    if (n) {
        hm_lock();
        while (n--) {
            held[n]->polls--;
            release(held[n]);
        }
        hm_unlock();
    }
    errno = err;
    return ret;
}

/* glibc's headers say that poll() does not read @fds */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    HmFile *held[POLLED_MAX];
    unsigned n_held = begin_poll(fds, n, held);

    return end_poll(held, n_held, REAL(poll)(fds, n, timeout));
}

int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
          const sigset_t *mask)
{
    HmFile *held[POLLED_MAX];
    unsigned n_held = begin_poll(fds, n, held);

    return end_poll(held, n_held, REAL(ppoll)(fds, n, timeout, mask));
}

/* Fortified programs call this instead. */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
    return poll(fds, n, timeout);
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                const sigset_t *mask, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                const sigset_t *mask, size_t size)
{
    return ppoll(fds, n, timeout, mask);
}

#pragma GCC diagnostic pop

static ssize_t our_pread(HmFile *file, void *buf, size_t len, off64_t offset)
{
    int err;

    if (file->kind != HM_FILE_DEVICE) {
        return leave(-ESPIPE);
    }
    err = hm_call("vfio.read");
    return leave(err ? -err : hm_vfio_pread(file->object, buf, len, offset));
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
    HmFile *file = enter(fd);

    return file ? our_pread(file, buf, len, offset)
                : REAL(pread)(fd, buf, len, offset);
}

ssize_t pread64(int fd, void *buf, size_t len, off64_t offset)
{
    HmFile *file = enter(fd);

    return file ? our_pread(file, buf, len, offset)
                : REAL(pread64)(fd, buf, len, offset);
}

ssize_t __pread_chk(int fd, void *buf, size_t len, off_t offset, size_t size);
ssize_t __pread_chk(int fd, void *buf, size_t len, off_t offset, size_t size)
{
    return pread(fd, buf, len, offset);
}

ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t offset,
                      size_t size);
ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t offset,
                      size_t size)
{
    return pread64(fd, buf, len, offset);
}

static ssize_t our_pwrite(HmFile *file, const void *buf, size_t len,
                          off64_t offset)
{
    int err;

    if (file->kind != HM_FILE_DEVICE) {
        return leave(-ESPIPE);
    }
    err = hm_call("vfio.write");
    return leave(err ? -err : hm_vfio_pwrite(file->object, buf, len, offset));
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    HmFile *file = enter(fd);

    return file ? our_pwrite(file, buf, len, offset)
                : REAL(pwrite)(fd, buf, len, offset);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t offset)
{
    HmFile *file = enter(fd);

    return file ? our_pwrite(file, buf, len, offset)
                : REAL(pwrite64)(fd, buf, len, offset);
}

static void device_number(HmFile *file, mode_t *mode, dev_t *rdev)
{
    guint n;

    if (file->kind == HM_FILE_DEVICE &&
        g_ptr_array_find(hm_devices, hm_vfio_device(file->object), &n)) {
        *mode = S_IFCHR | 0600;
        *rdev = makedev(DEVICE_MAJOR, n);
    }
}

#define OUR_FSTAT(name, fd, st) ({ \
        int ret_ = REAL(name)(fd, st); \
        HmFile *file_ = ret_ ? NULL : enter(fd); \
        if (file_) { \
            device_number(file_, &(st)->st_mode, &(st)->st_rdev); \
            hm_unlock(); \
        } \
        ret_; \
    })

int fstat(int fd, struct stat *st)
{
    return OUR_FSTAT(fstat, fd, st);
}

int fstat64(int fd, struct stat64 *st)
{
    return OUR_FSTAT(fstat64, fd, st);
}

static ssize_t device_link(const char *path, char *buf, size_t len)
{
    g_autofree char *link = NULL;
    HmDevice *dev;
    char *rest;

    hm_lock();
    dev = device_of(path, &rest);
    if (!dev || strcmp(rest, "/device")) {
        return leave(-ENOENT);
    }
    link = g_strdup_printf("../../../%s", dev->name);
    len = MIN(len, strlen(link));
    memcpy(buf, link, len);
    return leave(len);
}

ssize_t readlink(const char *path, char *buf, size_t len)
{
    return is_device(path) ? device_link(path, buf, len)
                           : REAL(readlink)(path, buf, len);
}

ssize_t __readlink_chk(const char *path, char *buf, size_t len, size_t size);
ssize_t __readlink_chk(const char *path, char *buf, size_t len, size_t size)
{
    return readlink(path, buf, len);
}

/* The directory of a group has an entry for each device. */

typedef struct HmDir {
    HmDevice *dev;                      /* NULL: not open */
    int next;                           /* -2 and -1: . and .. */
    union {
        struct dirent entry;
        struct dirent64 entry64;
    };
} HmDir;

static HmDir group_dirs[4];

static DIR *open_group(const char *path)
{
    HmDevice *dev;
    char *rest;

    hm_lock();
    dev = device_of(path, &rest);
    if (!dev || strcmp(rest, "/device/iommu_group/devices")) {
        leave(-ENOENT);
        return NULL;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(group_dirs); i++) {
        if (!group_dirs[i].dev) {
            group_dirs[i].dev = dev;
            group_dirs[i].next = -2;
            hm_unlock();
            return (DIR *)&group_dirs[i];
        }
    }
    leave(-EMFILE);
    return NULL;
}

static HmDir *group_dir(DIR *dir)
{
    HmDir *d = (HmDir *)dir;

    return d >= group_dirs && d < group_dirs + G_N_ELEMENTS(group_dirs) ? d
                                                                        : NULL;
}

/* The name of the next entry, NULL after the last one */
static const char *next_of_group(HmDir *dir)
{
    const char *name;

    hm_lock();
    if (dir->next < 0) {
        name = dir->next == -2 ? "." : "..";
    } else {
        HmDevice *dev = hm_group_member(dir->dev, dir->next);

        name = dev ? dev->name : NULL;
    }
    dir->next++;
    hm_unlock();
    return name;
}

DIR *opendir(const char *path)
{
    return is_device(path) ? open_group(path) : REAL(opendir)(path);
}

struct dirent *readdir(DIR *dir)
{
    HmDir *ours = group_dir(dir);
    const char *name;

    if (!ours) {
        return REAL(readdir)(dir);
    }
    name = next_of_group(ours);
    g_strlcpy(ours->entry.d_name, name ?: "", sizeof(ours->entry.d_name));
    return name ? &ours->entry : NULL;
}

struct dirent64 *readdir64(DIR *dir)
{
    HmDir *ours = group_dir(dir);
    const char *name;

    if (!ours) {
        return REAL(readdir64)(dir);
    }
    name = next_of_group(ours);
    g_strlcpy(ours->entry64.d_name, name ?: "", sizeof(ours->entry64.d_name));
    return name ? &ours->entry64 : NULL;
}

int closedir(DIR *dir)
{
    HmDir *ours = group_dir(dir);

    if (!ours) {
        return REAL(closedir)(dir);
    }
    ours->dev = NULL;
    return 0;
}

/*
 * Of a device, the BAR of memory can be mapped; no other, so that the model
 * sees every access.  Of an iommufd, what it has told an offset of can be.  A
 * mapping at a fixed address that fails by a rule leaves a gap there.  mmap(2)
 * permits that.
 */

static void *our_mmap(HmFile *file, void *addr, size_t len, int prot,
                      int flags, off64_t offset)
{
    int64_t ret = file->kind == HM_FILE_VEVENTQ ? -ENODEV : -EINVAL;

    if (file->kind == HM_FILE_CTX) {
        ret = -hm_call("mmap");
        if (ret && (flags & MAP_FIXED) && !REAL(munmap)(addr, len)) {
            hm_iommufd_unmapped((uintptr_t)addr, len);
            *hm_counter("mmap.gap") = (uintptr_t)addr;
        }
        ret = ret ?: hm_iommufd_mmap(file->object, addr, len, prot, flags,
                                     offset);
        hm_log("mmap = %" PRId64, ret);
    } else if (file->kind == HM_FILE_DEVICE) {
        ret = hm_vfio_mmap(file->object, addr, len, prot, flags, offset);
    }
    return (void *)leave(ret);
}

/* New memory in the place of old memory is an munmap() as well. */
#define OUR_MMAP(name, addr, len, prot, flags, fd, offset) ({ \
        HmFile *file_ = (flags) & MAP_ANONYMOUS ? NULL : enter(fd); \
        void *at_; \
        if (file_) { \
            at_ = our_mmap(file_, addr, len, prot, flags, offset); \
        } else { \
            bool locked_ = ((flags) & MAP_FIXED) && hm_iommufd_is_mapped(); \
            if (locked_) { \
                hm_lock(); \
            } \
            at_ = REAL(name)(addr, len, prot, flags, fd, offset); \
            if (locked_) { \
                if (at_ != MAP_FAILED) { \
                    hm_iommufd_unmapped((uintptr_t)at_, len); \
                } \
                hm_unlock(); \
            } \
        } \
        at_; \
    })

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    return OUR_MMAP(mmap, addr, len, prot, flags, fd, offset);
}

int munmap(void *addr, size_t len)
{
    int ret;

    if (!hm_iommufd_is_mapped()) {
        return REAL(munmap)(addr, len);
    }
    hm_lock();
    ret = REAL(munmap)(addr, len);
    if (!ret) {
        hm_iommufd_unmapped((uintptr_t)addr, len);
    }
    hm_unlock();
    return ret;
}

void *mmap64(void *addr, size_t len, int prot, int flags, int fd,
             off64_t offset)
{
    return OUR_MMAP(mmap64, addr, len, prot, flags, fd, offset);
}

/* A file that the program maps is one of huge pages, if the test says so. */

#define HUGETLBFS_MAGIC     0x958458f6

#define FSTATFS(name, fd, fs) ({ \
        const char *huge_ = hm_active() ? g_getenv("HOST_MODEL_HUGE_PAGES") \
                                        : NULL; \
        int ret_ = REAL(name)(fd, fs); \
        if (!ret_ && huge_) { \
            (fs)->f_type = HUGETLBFS_MAGIC; \
            (fs)->f_bsize = g_ascii_strtoull(huge_, NULL, 0); \
        } \
        ret_; \
    })

int fstatfs(int fd, struct statfs *fs)
{
    return FSTATFS(fstatfs, fd, fs);
}

int fstatfs64(int fd, struct statfs64 *fs)
{
    return FSTATFS(fstatfs64, fd, fs);
}

/* Like a host whose limit of processes is reached. */

int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                   void *(*start)(void *), void *arg)
{
    int err = 0;

    if (hm_active()) {
        hm_lock();
        err = hm_fail_only("pthread_create");
        hm_unlock();
    }
    return err ?: REAL(pthread_create)(thread, attr, start, arg);
}

typedef struct HmStart {
    void *(*start)(void *);
    void *arg;
} HmStart;

/* In a program that was built with LeakSanitizer */
void __lsan_disable(void) __attribute__((weak));

/*
 * A sanitizer does not know a thread of ours, and does not look at its stack:
 * what the thread uses when the program ends looks like a leak.
 */
static void *run_thread(void *opaque)
{
    HmStart start = *(HmStart *)opaque;

    g_free(opaque);
    if (__lsan_disable) {
        __lsan_disable();
    }
    return start.start(start.arg);
}

int hm_thread_create(void *(*start)(void *), void *arg)
{
    HmStart *s = g_new(HmStart, 1);
    pthread_attr_t attr;
    pthread_t thread;
    int err;

    *s = (HmStart) { start, arg };
    pthread_attr_init(&attr);
    /* From the start: ASan's pthread_detach() aborts, since GCC 14 */
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    err = REAL(pthread_create)(&thread, &attr, run_thread, s);
    pthread_attr_destroy(&attr);
    if (err) {
        g_free(s);
    }
    return err;
}
