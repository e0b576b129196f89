/*
 * Host model: Linux's vfio-pci, on device fds
 *
 * What drivers/vfio of Linux 7.3 answers (device_cdev.c, vfio_main.c,
 * pci/vfio_pci_core.c, _config.c, _intrs.c, _rdwr.c) for a function that has
 * MSI-X and can reset itself, but has no INTx pin, ROM or MSI.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <unistd.h>
#include "linux.h"

#define CAP_PM      0x40
#define CAP_MSIX    0x48
#define CAP_EXP     0x60
#define AFTER_CAPS  0xa0
#define MSIX_BAR    2
/* Of the BAR with the table, and with the PBA in its upper half */
#define MSIX_SIZE(n)    ((n) <= 128 ? 0x1000 : 0x10000)

#define REGION_SHIFT 40                 /* VFIO_PCI_OFFSET_SHIFT */

/* An open device fd */
struct HmVfioFile {
    HmDevice *dev;
    bool granted;                       /* bound by this fd */
};

/* State of which there is one per device */
typedef struct HmVfio {
    HmVfioFile *owner;                  /* the file that is bound */
    uint32_t devid;
    bool msix_on;
    bool host_resets;                   /* the host is resetting it */
    uint8_t writable[PCI_CFG_SPACE_SIZE];   /* bits that QEMU may set */
} HmVfio;

static uint16_t get16(const uint8_t *p)
{
    return p[0] | p[1] << 8;
}

static void put16(uint8_t *p, uint16_t value)
{
    p[0] = value;
    p[1] = value >> 8;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, value);
    put16(p + 2, value >> 16);
}

/*
 * The function
 */

static void init_bars(HmDevice *dev, HmVfio *vfio)
{
    for (unsigned bar = 0; bar < 6; bar += 2) {
        uint8_t *reg = dev->config + PCI_BASE_ADDRESS_0 + 4 * bar;
        uint64_t size = dev->bar_size[bar];

        if (size) {
            put32(reg, PCI_BASE_ADDRESS_MEM_TYPE_64);
            put32(vfio->writable + (reg - dev->config), ~(size - 1));
            put32(vfio->writable + (reg - dev->config) + 4,
                  ~(size - 1) >> 32);
        }
    }
}

static void init_config(HmDevice *dev, HmVfio *vfio)
{
    uint8_t *c = dev->config, *w = vfio->writable;

    put16(c + PCI_STATUS, PCI_STATUS_CAP_LIST);
    c[PCI_CAPABILITY_LIST] = CAP_PM;
    put16(w + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
          PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
    w[PCI_CACHE_LINE_SIZE] = w[PCI_LATENCY_TIMER] = 0xff;
    w[PCI_INTERRUPT_LINE] = 0xff;

    c[CAP_PM] = PCI_CAP_ID_PM;
    c[CAP_PM + 1] = CAP_MSIX;
    put16(c + CAP_PM + PCI_PM_PMC, 3);
    put16(c + CAP_PM + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET);

    c[CAP_MSIX] = PCI_CAP_ID_MSIX;
    c[CAP_MSIX + 1] = CAP_EXP;
    put16(c + CAP_MSIX + PCI_MSIX_FLAGS, dev->n_msix - 1);
    put32(c + CAP_MSIX + PCI_MSIX_TABLE,
          dev->msix_at ? dev->msix_at | dev->memory_bar : MSIX_BAR);
    put32(c + CAP_MSIX + PCI_MSIX_PBA, MSIX_SIZE(dev->n_msix) / 2 |
          (dev->msix_at ? dev->msix_at | dev->memory_bar : MSIX_BAR));

    c[CAP_EXP] = PCI_CAP_ID_EXP;
    put16(c + CAP_EXP + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
    put32(c + CAP_EXP + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_FLR |
          PCI_EXP_DEVCAP_RBER);
    put32(c + CAP_EXP + PCI_EXP_LNKCAP, 1 | 1 << 4);
    put16(c + CAP_EXP + PCI_EXP_LNKSTA, 1 | 1 << 4);
    put16(w + CAP_EXP + PCI_EXP_DEVCTL, 0x7fff);
    /* PASIDs are prefixes of TLPs. */
    put32(c + CAP_EXP + PCI_EXP_DEVCAP2,
          dev->pasid_bits ? PCI_EXP_DEVCAP2_EE_PREFIX : 0);

    if (dev->scratch) {
        memset(w + AFTER_CAPS, 0xff, PCI_CFG_SPACE_SIZE - AFTER_CAPS);
    }
}

static const HmEndpointOps *find_kind(const char *kind)
{
    static const HmEndpointOps *const all[] = { &hm_dma_ops, &hm_nvme_ops };

    for (size_t i = 0; kind && i < G_N_ELEMENTS(all); i++) {
        if (!strcmp(all[i]->kind, kind)) {
            return all[i];
        }
    }
    return NULL;
}

static uint64_t key(GKeyFile *file, const char *group, const char *name,
                    uint64_t otherwise)
{
    g_autofree char *text = g_key_file_get_string(file, group, name, NULL);

    return text ? g_ascii_strtoull(text, NULL, 0) : otherwise;
}

/* 1, on, yes, true; or 0, off, no, false */
static bool key_bool(GKeyFile *file, const char *group, const char *name,
                     bool otherwise)
{
    g_autofree char *text = g_key_file_get_string(file, group, name, NULL);

    if (!text) {
        return otherwise;
    }
    g_strstrip(text);
    if (!strcmp(text, "on") || !strcmp(text, "yes") || !strcmp(text, "true")) {
        return true;
    }
    return g_ascii_strtoull(text, NULL, 0);
}

HmDevice *hm_device_new(const char *name, GKeyFile *file, char **error)
{
    g_autofree char *group = g_strconcat("device ", name, NULL);
    g_autofree char *kind = g_key_file_get_string(file, group, "kind", NULL);
    g_autofree char *smmu = g_key_file_get_string(file, group, "smmu", NULL);
    g_autofree char *ext_caps = g_key_file_get_string(file, group, "ext_caps",
                                                      NULL);
    HmDevice *dev = g_new0(HmDevice, 1);
    HmVfio *vfio = g_new0(HmVfio, 1);
    uint64_t memory;
    unsigned class;

    dev->name = g_strdup(name);
    dev->vfio = vfio;
    dev->ops = find_kind(kind ? g_strstrip(kind) : NULL);
    dev->smmu = smmu ? hm_smmu_by_name(g_strstrip(smmu)) : NULL;
    if (!dev->ops || !dev->smmu) {
        *error = g_strdup_printf("no such %s", dev->ops ? "smmu" : "kind");
        return NULL;
    }
    dev->sid = key(file, group, "sid", 0);
    dev->n_sids = key(file, group, "sids", 1);
    dev->group = g_key_file_get_string(file, group, "group", NULL);
    dev->no_sysfs = key(file, group, "no_sysfs", 0);
    dev->ignores_resets = key(file, group, "ignores_resets", 0);
    dev->ats = key_bool(file, group, "ats", false);
    dev->rc_ats = key_bool(file, group, "rc_ats", true);
    dev->pasid_bits = key(file, group, "pasid", 0);
    dev->pasid_exec = key_bool(file, group, "pasid_exec", false);
    dev->pasid_priv = key_bool(file, group, "pasid_priv", false);
    dev->dead_atc = key_bool(file, group, "dead_atc", false);
    dev->intx_fd = dev->err_fd = dev->req_fd = -1;
    for (int n = 0; n < HM_MSIX_MAX; n++) {
        dev->msix_fd[n] = -1;
    }
    dev->scratch = dev->ops == &hm_nvme_ops;
    if (!hm_pci_init(dev, ext_caps, key(file, group, "ext_end", 0), error) ||
        !dev->ops->init(dev, file, group, error)) {
        return NULL;
    }
    dev->n_msix = key(file, group, "msix", dev->n_msix);
    if (!dev->n_msix || dev->n_msix > HM_MSIX_MAX) {
        *error = g_strdup("no such number of MSI-X vectors");
        return NULL;
    }
    dev->bar_size[MSIX_BAR] = MSIX_SIZE(dev->n_msix);
    dev->msix_at = key(file, group, "msix_at", 0);
    dev->memory_bar = key(file, group, "memory_bar", 4);
    if (dev->memory_bar % 2 || dev->memory_bar > 4 ||
        (dev->memory_bar == MSIX_BAR && !dev->msix_at)) {
        *error = g_strdup("memory_bar= is no place for the memory");
        return NULL;
    }
    memory = key(file, group, "memory", 0);
    if (memory && !hm_memory_init(dev, memory)) {
        *error = g_strdup("memory= is no power of two, or too small");
        return NULL;
    }
    if (dev->msix_at &&
        (dev->msix_at % MSIX_SIZE(dev->n_msix) ||
         dev->msix_at >= dev->bar_size[dev->memory_bar])) {
        *error = g_strdup("msix_at= is no place in the BAR of memory");
        return NULL;
    }
    init_bars(dev, vfio);
    init_config(dev, vfio);
    class = key(file, group, "class", 0);
    if (class) {
        put32(dev->config + PCI_CLASS_REVISION, class << 8);
    }
    if (!key_bool(file, group, "ee_prefix", true)) {
        put32(dev->config + CAP_EXP + PCI_EXP_DEVCAP2, 0);
    }
    hm_driver_device_probe(dev);
    return dev;
}

static void reset_function(HmDevice *dev)
{
    if (!dev->ignores_resets) {
        hm_pci_reset(dev);
        dev->ops->reset(dev);
    }
}

/* In D3hot a function answers at its configuration space only */
static bool is_asleep(HmDevice *dev)
{
    return dev->config[CAP_PM + PCI_PM_CTRL] & PCI_PM_CTRL_STATE_MASK;
}

static void wake_up(HmDevice *dev)
{
    dev->config[CAP_PM + PCI_PM_CTRL] &= ~PCI_PM_CTRL_STATE_MASK;
}

/* It knows D0 and D3hot, and keeps its state: NO_SOFT_RESET */
static void set_power_state(HmDevice *dev, unsigned state)
{
    if (state == 0) {
        wake_up(dev);
    } else if (state == 3) {
        HM_COUNT("device.d3hot");
        dev->config[CAP_PM + PCI_PM_CTRL] |= state;
    }
}

/* __vfio_pci_memory_enabled() */
static bool decodes(HmDevice *dev)
{
    return (get16(dev->config + PCI_COMMAND) & PCI_COMMAND_MEMORY) &&
           !is_asleep(dev);
}

static void reset(HmDevice *dev)
{
    HM_COUNT("device.reset");
    wake_up(dev);
    hm_dmabuf_move(dev, true);
    hm_iommufd_reset_prepare(dev);
    reset_function(dev);
    hm_iommufd_reset_done(dev);
    hm_dmabuf_move(dev, !decodes(dev));
}

/* The host resets the device by itself (sysfs, error recovery): a long time */
int hm_device_reset(HmDevice *dev, bool begin)
{
    HmVfio *vfio = dev->vfio;

    if (vfio->host_resets == begin) {
        return -EBUSY;
    }
    vfio->host_resets = begin;
    if (begin) {
        HM_COUNT("device.reset");
        wake_up(dev);
        hm_iommufd_reset_prepare(dev);
    } else {
        reset_function(dev);
        hm_iommufd_reset_done(dev);
    }
    return 0;
}

HmDevice *hm_vfio_device(HmVfioFile *file)
{
    return file->dev;
}

bool hm_device_atc_inv(uint32_t sid, HmSmmu *smmu, const uint64_t cmd[2])
{
    bool answered = true;

    for (guint i = 0; i < hm_devices->len; i++) {
        HmDevice *dev = hm_devices->pdata[i];

        if (dev->smmu != smmu || dev->sid != sid || !dev->ops->atc_inv) {
            continue;
        }
        /* While ATS is off, the answer is Unsupported Request: no error. */
        if (dev->dead_atc && hm_pci_does_ats(dev)) {
            answered = false;
        } else {
            dev->ops->atc_inv(dev, cmd);
        }
    }
    return answered;
}

bool hm_device_can_send(HmDevice *dev)
{
    return (get16(dev->config + PCI_COMMAND) & PCI_COMMAND_MASTER) &&
           !is_asleep(dev);
}

int hm_dma(HmDevice *dev, uint32_t pasid, uint64_t iova, void *buf, size_t len,
           bool write)
{
    return hm_dma_as(dev, pasid, iova, buf, len, write ? HM_WRITE : HM_READ);
}

int hm_dma_as(HmDevice *dev, uint32_t pasid, uint64_t iova, void *buf,
              size_t len, unsigned access)
{
    uint8_t *at = buf;

    if (!hm_device_can_send(dev)) {
        return -EFAULT;
    }
    while (len) {
        HmTranslation t = {
            .sid = dev->sid, .ssid = pasid, .iova = iova,
            .access = access,
        };
        size_t n;

        if (hm_smmu_translate(dev->smmu, &t) || t.host == HM_DOORBELL) {
            return -EFAULT;
        }
        n = MIN(len, MIN(t.len, HM_PAGE - iova % HM_PAGE));
        if (access & HM_WRITE) {
            memcpy(t.host, at, n);
        } else {
            memcpy(at, t.host, n);
        }
        at += n;
        iova += n;
        len -= n;
    }
    return 0;
}

static void signal_fd(int fd)
{
    uint64_t one = 1;

    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0) {
        HM_COUNT("msi.unheard");
    }
}

void hm_device_msix(HmDevice *dev, unsigned n)
{
    HmVfio *vfio = dev->vfio;
    HmTranslation t = {
        .sid = dev->sid, .ssid = HM_NO_PASID, .iova = HM_MSI_BASE + 0x40,
        .access = HM_WRITE,
    };

    if (n >= dev->n_msix || !vfio->msix_on || dev->msix_fd[n] < 0 ||
        is_asleep(dev)) {
        HM_COUNT("msi.off");
        return;
    }
    if (!(get16(dev->config + PCI_COMMAND) & PCI_COMMAND_MASTER) ||
        hm_smmu_translate(dev->smmu, &t) || t.host != HM_DOORBELL) {
        HM_COUNT("msi.lost");
        hm_log("%s: MSI-X %u does not reach the doorbell", dev->name, n);
        return;
    }
    HM_COUNT("msi.delivered");
    signal_fd(dev->msix_fd[n]);
}

int hm_device_request(HmDevice *dev)
{
    if (dev->req_fd < 0) {
        return -ENOENT;
    }
    signal_fd(dev->req_fd);
    return 0;
}

/*
 * Interrupts
 */

static void set_trigger(int *slot, int fd)
{
    if (*slot >= 0) {
        close(*slot);
    }
    *slot = fd;
}

static int take_eventfd(int fd, int *copy)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *target = NULL;

    *copy = -1;
    if (fd < 0) {
        return 0;
    }
    /* eventfd_ctx_fdget(): EBADF for no file, EINVAL for another kind */
    target = g_file_read_link(path, NULL);
    if (!target) {
        return -EBADF;
    }
    if (!strstr(target, "eventfd")) {
        return -EINVAL;
    }
    *copy = fcntl(fd, F_DUPFD_CLOEXEC, 512);
    return *copy < 0 ? -errno : 0;
}

static void msix_disable(HmDevice *dev)
{
    for (unsigned n = 0; n < HM_MSIX_MAX; n++) {
        set_trigger(&dev->msix_fd[n], -1);
    }
    ((HmVfio *)dev->vfio)->msix_on = false;
}

static int msix_set_block(HmDevice *dev, unsigned start, unsigned count,
                          const int32_t *fds)
{
    for (unsigned n = 0; n < count; n++) {
        int copy, ret = take_eventfd(fds[n], &copy);

        if (ret) {
            while (n--) {
                set_trigger(&dev->msix_fd[start + n], -1);
            }
            return ret;
        }
        set_trigger(&dev->msix_fd[start + n], copy);
    }
    return 0;
}

static int set_msix(HmDevice *dev, unsigned start, unsigned count,
                    uint32_t type, const void *data)
{
    HmVfio *vfio = dev->vfio;
    int ret;

    if (vfio->msix_on && !count && type == VFIO_IRQ_SET_DATA_NONE) {
        msix_disable(dev);
        return 0;
    }
    if (type == VFIO_IRQ_SET_DATA_EVENTFD) {
        bool was_on = vfio->msix_on;

        /* For Linux, these vectors cannot be allocated. */
        if (!was_on && !hm_iommufd_has_msi(dev)) {
            return -ENOSPC;
        }
        vfio->msix_on = true;
        ret = msix_set_block(dev, start, count, data);
        if (ret && !was_on) {
            msix_disable(dev);
        }
        return ret;
    }
    if (!vfio->msix_on) {
        return -EINVAL;
    }
    for (unsigned n = 0; n < count; n++) {
        if (type == VFIO_IRQ_SET_DATA_NONE || ((const uint8_t *)data)[n]) {
            signal_fd(dev->msix_fd[start + n]);
        }
    }
    return 0;
}

/* ERR and REQ have one trigger each. */
static int set_single(int *slot, unsigned count, uint32_t type,
                      const void *data)
{
    int copy, ret;

    switch (type) {
    case VFIO_IRQ_SET_DATA_NONE:
        if (*slot >= 0) {
            if (count) {
                signal_fd(*slot);
            } else {
                set_trigger(slot, -1);
            }
            return 0;
        }
        return -EINVAL;
    case VFIO_IRQ_SET_DATA_BOOL:
        if (!count) {
            return -EINVAL;
        }
        if (*(const uint8_t *)data) {
            signal_fd(*slot);
        }
        return 0;
    default:
        if (!count) {
            return -EINVAL;
        }
        ret = take_eventfd(*(const int32_t *)data, &copy);
        if (!ret) {
            set_trigger(slot, copy);
        }
        return ret;
    }
}

static unsigned irq_count(HmDevice *dev, unsigned index)
{
    switch (index) {
    case VFIO_PCI_MSIX_IRQ_INDEX:
        return dev->n_msix;
    case VFIO_PCI_ERR_IRQ_INDEX:
    case VFIO_PCI_REQ_IRQ_INDEX:
        return 1;
    default:
        return 0;
    }
}

static int check_irq_set(const struct vfio_irq_set *hdr, unsigned num,
                         size_t *data_size)
{
    const size_t minsz = offsetof(struct vfio_irq_set, data);
    size_t size;

    if (hdr->argsz < minsz || hdr->index >= VFIO_PCI_NUM_IRQS ||
        hdr->count >= UINT32_MAX - hdr->start ||
        (hdr->flags & ~(VFIO_IRQ_SET_DATA_TYPE_MASK |
                        VFIO_IRQ_SET_ACTION_TYPE_MASK)) ||
        hdr->start >= num || hdr->start + hdr->count > num) {
        return -EINVAL;
    }
    switch (hdr->flags & VFIO_IRQ_SET_DATA_TYPE_MASK) {
    case VFIO_IRQ_SET_DATA_NONE:
        size = 0;
        break;
    case VFIO_IRQ_SET_DATA_BOOL:
        size = 1;
        break;
    case VFIO_IRQ_SET_DATA_EVENTFD:
        size = sizeof(int32_t);
        break;
    default:
        return -EINVAL;
    }
    *data_size = hdr->count * size;
    return hdr->argsz - minsz < *data_size ? -EINVAL : 0;
}

static int set_irqs(HmDevice *dev, uint64_t arg)
{
    const size_t minsz = offsetof(struct vfio_irq_set, data);
    struct vfio_irq_set hdr;
    g_autofree void *data = NULL;
    uint32_t type;
    size_t size;
    int ret;

    if (hm_copy_from_user(&hdr, arg, minsz)) {
        return -EFAULT;
    }
    ret = check_irq_set(&hdr, irq_count(dev, hdr.index), &size);
    if (ret) {
        return ret;
    }
    data = g_malloc0(size + 1);
    if (size && hm_copy_from_user(data, arg + minsz, size)) {
        return -EFAULT;
    }
    type = hdr.flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
    if ((hdr.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) !=
        VFIO_IRQ_SET_ACTION_TRIGGER) {
        return -ENOTTY;
    }
    switch (hdr.index) {
    case VFIO_PCI_MSIX_IRQ_INDEX:
        return set_msix(dev, hdr.start, hdr.count, type, data);
    case VFIO_PCI_ERR_IRQ_INDEX:
        return set_single(&dev->err_fd, hdr.count, type, data);
    case VFIO_PCI_REQ_IRQ_INDEX:
        return set_single(&dev->req_fd, hdr.count, type, data);
    default:
        return -ENOTTY;
    }
}

/*
 * Open, bind, attach
 */

HmVfioFile *hm_vfio_open(HmDevice *dev)
{
    HmVfioFile *file = g_new0(HmVfioFile, 1);

    file->dev = dev;
    dev->open_count++;
    return file;
}

static void unbind(HmDevice *dev)
{
    HmVfio *vfio = dev->vfio;

    hm_dmabuf_close_device(dev);
    msix_disable(dev);
    set_trigger(&dev->err_fd, -1);
    set_trigger(&dev->req_fd, -1);
    put16(dev->config + PCI_COMMAND, 0);
    wake_up(dev);
    reset_function(dev);
    hm_iommufd_unbind(dev);
    vfio->owner->granted = false;
    vfio->owner = NULL;
    dev->ctx = NULL;
}

void hm_vfio_close(HmVfioFile *file)
{
    if (file->granted) {
        unbind(file->dev);
    }
    file->dev->open_count--;
    g_free(file);
}

static int do_bind(HmVfioFile *file, uint64_t arg)
{
    struct vfio_device_bind_iommufd bind;
    HmDevice *dev = file->dev;
    HmVfio *vfio = dev->vfio;
    const uint32_t minsz = offsetof(struct vfio_device_bind_iommufd,
                                    out_devid) + 4;
    uint32_t size;
    HmCtx *ctx;
    int ret;

    if (hm_copy_from_user(&size, arg, sizeof(size))) {
        return -EFAULT;
    }
    if (size < minsz) {
        return -EINVAL;
    }
    ret = hm_copy_struct_from_user(&bind, sizeof(bind), arg, size);
    if (ret) {
        return ret;
    }
    if (bind.iommufd < 0 || (bind.flags & ~VFIO_DEVICE_BIND_FLAG_TOKEN) ||
        file->granted) {
        return -EINVAL;
    }
    /* A function without virtual functions accepts no token. */
    if (bind.flags & VFIO_DEVICE_BIND_FLAG_TOKEN) {
        uint8_t token[16];

        return hm_copy_from_user(token, bind.token_uuid_ptr, sizeof(token))
               ?: -EINVAL;
    }
    ret = hm_fd_ctx(bind.iommufd, &ctx);
    if (ret) {
        return ret;
    }
    if (vfio->owner) {
        return -EINVAL;
    }
    ret = hm_iommufd_bind(ctx, dev, &vfio->devid);
    if (ret) {
        return ret;
    }
    if (hm_copy_to_user(arg + offsetof(struct vfio_device_bind_iommufd,
                                       out_devid), &vfio->devid, 4)) {
        hm_iommufd_unbind(dev);
        return -EFAULT;
    }
    dev->ctx = ctx;
    vfio->owner = file;
    file->granted = true;
    put16(dev->config + PCI_COMMAND, PCI_COMMAND_MEMORY);
    reset_function(dev);
    hm_pci_open(dev);
    return 0;
}

static int do_attach(HmDevice *dev, uint64_t arg)
{
    struct vfio_device_attach_iommufd_pt attach = {};
    const size_t minsz = offsetof(struct vfio_device_attach_iommufd_pt,
                                  pt_id) + 4;
    uint32_t pasid = HM_NO_PASID;
    int ret;

    if (hm_copy_from_user(&attach, arg, minsz)) {
        return -EFAULT;
    }
    if (attach.argsz < minsz || (attach.flags & ~VFIO_DEVICE_ATTACH_PASID)) {
        return -EINVAL;
    }
    if (attach.flags & VFIO_DEVICE_ATTACH_PASID) {
        const size_t size = offsetof(struct vfio_device_attach_iommufd_pt,
                                     pasid) + 4;

        if (attach.argsz < size) {
            return -EINVAL;
        }
        if (hm_copy_from_user(&attach, arg, size)) {
            return -EFAULT;
        }
        pasid = attach.pasid;
        if (pasid == HM_NO_PASID) {
            return -ENOSPC;
        }
    }
    ret = hm_iommufd_attach(dev, pasid, &attach.pt_id);
    if (ret) {
        return ret;
    }
    if (hm_copy_to_user(arg + offsetof(struct vfio_device_attach_iommufd_pt,
                                       pt_id), &attach.pt_id, 4)) {
        hm_iommufd_detach(dev, pasid);
        return -EFAULT;
    }
    return 0;
}

static int do_detach(HmDevice *dev, uint64_t arg)
{
    struct vfio_device_detach_iommufd_pt detach = {};
    const size_t minsz = offsetof(struct vfio_device_detach_iommufd_pt,
                                  flags) + 4;
    uint32_t pasid = HM_NO_PASID;

    if (hm_copy_from_user(&detach, arg, minsz)) {
        return -EFAULT;
    }
    if (detach.argsz < minsz || (detach.flags & ~VFIO_DEVICE_DETACH_PASID)) {
        return -EINVAL;
    }
    if (detach.flags & VFIO_DEVICE_DETACH_PASID) {
        const size_t size = offsetof(struct vfio_device_detach_iommufd_pt,
                                     pasid) + 4;

        if (detach.argsz < size) {
            return -EINVAL;
        }
        if (hm_copy_from_user(&detach, arg, size)) {
            return -EFAULT;
        }
        pasid = detach.pasid;
    }
    return hm_iommufd_detach(dev, pasid);
}

/*
 * Information
 */

static int get_info(uint64_t arg)
{
    const size_t minsz = offsetof(struct vfio_device_info, num_irqs) + 4;
    struct vfio_device_info info = {};

    if (hm_copy_from_user(&info, arg, minsz)) {
        return -EFAULT;
    }
    if (info.argsz < minsz) {
        return -EINVAL;
    }
    info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
    info.num_regions = VFIO_PCI_NUM_REGIONS;
    info.num_irqs = VFIO_PCI_NUM_IRQS;
    return hm_copy_to_user(arg, &info, MIN(info.argsz, sizeof(info)));
}

static int get_region_info(HmDevice *dev, uint64_t arg)
{
    const size_t minsz = offsetof(struct vfio_region_info, offset) + 8;
    struct vfio_region_info info = {};

    if (hm_copy_from_user(&info, arg, minsz)) {
        return -EFAULT;
    }
    if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_REGIONS ||
        info.index == VFIO_PCI_VGA_REGION_INDEX) {
        return -EINVAL;
    }
    info.flags = 0;
    info.size = 0;
    info.cap_offset = 0;
    info.offset = (uint64_t)info.index << REGION_SHIFT;
    if (info.index == VFIO_PCI_CONFIG_REGION_INDEX) {
        info.size = sizeof(dev->config);
    } else if (info.index <= VFIO_PCI_BAR5_REGION_INDEX) {
        info.size = dev->bar_size[info.index];
    }
    if (info.size) {
        info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    }
    if (info.index == dev->memory_bar && dev->memory) {
        info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
    }
    return hm_copy_to_user(arg, &info, minsz);
}

static int get_irq_info(HmDevice *dev, uint64_t arg)
{
    const size_t minsz = offsetof(struct vfio_irq_info, count) + 4;
    struct vfio_irq_info info = {};

    if (hm_copy_from_user(&info, arg, minsz)) {
        return -EFAULT;
    }
    if (info.argsz < minsz || info.index >= VFIO_PCI_NUM_IRQS) {
        return -EINVAL;
    }
    info.flags = VFIO_IRQ_INFO_EVENTFD;
    info.count = irq_count(dev, info.index);
    if (info.index == VFIO_PCI_INTX_IRQ_INDEX) {
        info.flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
    } else if (info.index != VFIO_PCI_MSIX_IRQ_INDEX) {
        info.flags |= VFIO_IRQ_INFO_NORESIZE;
    }
    return hm_copy_to_user(arg, &info, minsz);
}

static int get_hot_reset_info(HmDevice *dev, uint64_t arg)
{
    const size_t minsz = offsetof(struct vfio_pci_hot_reset_info, count) + 4;
    struct vfio_pci_hot_reset_info hdr = {};
    struct vfio_pci_dependent_device one = {};

    if (hm_copy_from_user(&hdr, arg, minsz)) {
        return -EFAULT;
    }
    if (hdr.argsz < minsz) {
        return -EINVAL;
    }
    hdr.flags = 0;
    hdr.count = 1;
    if (hdr.argsz - minsz < sizeof(one)) {
        return hm_copy_to_user(arg, &hdr, minsz) ? -EFAULT : -ENOSPC;
    }
    hdr.flags = VFIO_PCI_HOT_RESET_FLAG_DEV_ID |
                VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
    one.devid = ((HmVfio *)dev->vfio)->devid;
    one.bus = dev->sid >> 8;
    one.devfn = dev->sid;
    return hm_copy_to_user(arg + minsz, &one, sizeof(one)) ? -EFAULT
           : hm_copy_to_user(arg, &hdr, minsz);
}

static int hot_reset(HmDevice *dev, uint64_t arg)
{
    const size_t minsz = offsetof(struct vfio_pci_hot_reset, count) + 4;
    struct vfio_pci_hot_reset hdr = {};

    if (hm_copy_from_user(&hdr, arg, minsz)) {
        return -EFAULT;
    }
    /* With the cdev, a caller must not name groups. */
    if (hdr.argsz < minsz || hdr.flags || hdr.count) {
        return -EINVAL;
    }
    reset(dev);
    return 0;
}

static int feature(HmDevice *dev, uint64_t arg)
{
    const size_t minsz = offsetof(struct vfio_device_feature, flags) + 4;
    struct vfio_device_feature hdr = {};
    uint32_t ops = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_GET;

    if (hm_copy_from_user(&hdr, arg, minsz)) {
        return -EFAULT;
    }
    if (hdr.argsz < minsz ||
        (hdr.flags & ~(VFIO_DEVICE_FEATURE_MASK | ops |
                       VFIO_DEVICE_FEATURE_PROBE)) ||
        (!(hdr.flags & VFIO_DEVICE_FEATURE_PROBE) &&
         (hdr.flags & ops) == ops)) {
        return -EINVAL;
    }
    /* Such a device is one of a host that can do it. */
    if ((hdr.flags & VFIO_DEVICE_FEATURE_MASK) == VFIO_DEVICE_FEATURE_DMA_BUF &&
        dev->memory) {
        return hm_dmabuf_feature(dev, hdr.flags, arg + minsz,
                                 hdr.argsz - minsz, decodes(dev));
    }
    return -ENOTTY;
}

int hm_vfio_ioctl(HmVfioFile *file, unsigned long request, void *user)
{
    HmDevice *dev = file->dev;
    uint64_t arg = (uintptr_t)user;

    if (request == VFIO_DEVICE_BIND_IOMMUFD) {
        return do_bind(file, arg);
    }
    if (!file->granted) {
        return -EINVAL;
    }
    switch (request) {
    case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
        return do_attach(dev, arg);
    case VFIO_DEVICE_DETACH_IOMMUFD_PT:
        return do_detach(dev, arg);
    case VFIO_DEVICE_GET_INFO:
        return get_info(arg);
    case VFIO_DEVICE_GET_REGION_INFO:
        return get_region_info(dev, arg);
    case VFIO_DEVICE_GET_IRQ_INFO:
        return get_irq_info(dev, arg);
    case VFIO_DEVICE_SET_IRQS:
        return set_irqs(dev, arg);
    case VFIO_DEVICE_RESET:
        reset(dev);
        return 0;
    case VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
        return get_hot_reset_info(dev, arg);
    case VFIO_DEVICE_PCI_HOT_RESET:
        return hot_reset(dev, arg);
    case VFIO_DEVICE_FEATURE:
        return feature(dev, arg);
    default:
        return -ENOTTY;
    }
}

/*
 * Regions
 */

static void config_write(HmDevice *dev, unsigned at, const uint8_t *buf,
                         size_t len)
{
    HmVfio *vfio = dev->vfio;
    uint8_t *devctl = dev->config + CAP_EXP + PCI_EXP_DEVCTL;
    bool flr = false;

    for (size_t n = 0; n < len; n++) {
        uint8_t mask = vfio->writable[at + n];

        if (at + n >= PCI_CFG_SPACE_SIZE) {
            hm_pci_write(dev, at + n, buf[n]);
            continue;
        }
        if (at + n == CAP_PM + PCI_PM_CTRL) {
            set_power_state(dev, buf[n] & PCI_PM_CTRL_STATE_MASK);
            hm_dmabuf_move(dev, !decodes(dev));
        }
        if (at + n == CAP_EXP + PCI_EXP_DEVCTL + 1) {
            flr = buf[n] & (PCI_EXP_DEVCTL_BCR_FLR >> 8);
        }
        dev->config[at + n] = (dev->config[at + n] & ~mask) | (buf[n] & mask);
        if (at + n == PCI_COMMAND) {
            hm_dmabuf_move(dev, !decodes(dev));
        }
    }
    if (flr) {
        put16(devctl, get16(devctl) & ~PCI_EXP_DEVCTL_BCR_FLR);
        reset(dev);
    }
}

static ssize_t bar_rw(HmDevice *dev, unsigned bar, uint8_t *buf, size_t len,
                      uint64_t at, bool is_write)
{
    size_t left;

    if (at >= dev->bar_size[bar]) {
        return -EINVAL;
    }
    len = MIN(len, dev->bar_size[bar] - at);
    if (!decodes(dev)) {
        return -EIO;
    }
    if (bar == dev->memory_bar && dev->memory) {
        memcpy(is_write ? dev->memory + at : buf,
               is_write ? buf : dev->memory + at, len);
        return len;
    }
    for (left = len; left; ) {
        unsigned size = left >= 8 && !(at % 8) ? 8
                        : left >= 4 && !(at % 4) ? 4
                        : left >= 2 && !(at % 2) ? 2 : 1;
        uint64_t value = 0;

        if (is_write) {
            memcpy(&value, buf, size);
            dev->ops->write(dev, bar, at, GUINT64_FROM_LE(value), size);
        } else {
            value = GUINT64_TO_LE(dev->ops->read(dev, bar, at, size));
            memcpy(buf, &value, size);
        }
        buf += size;
        at += size;
        left -= size;
    }
    return len;
}

static ssize_t region_rw(HmVfioFile *file, uint8_t *buf, size_t len,
                         off_t offset, bool is_write)
{
    HmDevice *dev = file->dev;
    uint64_t index = (uint64_t)offset >> REGION_SHIFT;
    uint64_t at = offset & ((1ull << REGION_SHIFT) - 1);

    if (!file->granted || index >= VFIO_PCI_NUM_REGIONS) {
        return -EINVAL;
    }
    if (index <= VFIO_PCI_BAR5_REGION_INDEX) {
        return bar_rw(dev, index, buf, len, at, is_write);
    }
    if (index != VFIO_PCI_CONFIG_REGION_INDEX) {
        return -EINVAL;
    }
    if (at >= sizeof(dev->config) || len > sizeof(dev->config) - at) {
        return -EFAULT;
    }
    if (is_write) {
        config_write(dev, at, buf, len);
    } else {
        for (size_t n = 0; n < len; n++) {
            buf[n] = at + n < PCI_CFG_SPACE_SIZE ? dev->config[at + n]
                                                 : hm_pci_read(dev, at + n);
        }
    }
    return len;
}

int64_t hm_vfio_mmap(HmVfioFile *file, void *addr, uint64_t len, int prot,
                     int flags, uint64_t offset)
{
    uint64_t index = offset >> REGION_SHIFT;

    return file->granted && index <= VFIO_PCI_BAR5_REGION_INDEX ?
           hm_memory_mmap(file->dev, index, addr, len, prot, flags,
                          offset & ((1ull << REGION_SHIFT) - 1)) : -EINVAL;
}

ssize_t hm_vfio_pread(HmVfioFile *file, void *buf, size_t len, off_t offset)
{
    g_autofree uint8_t *copy = NULL;
    ssize_t ret;

    len = MIN(len, 1u << 20);
    copy = g_malloc0(len + 1);
    ret = region_rw(file, copy, len, offset, false);
    return ret > 0 && hm_copy_to_user((uintptr_t)buf, copy, ret) ? -EFAULT
                                                                 : ret;
}

ssize_t hm_vfio_pwrite(HmVfioFile *file, const void *buf, size_t len,
                       off_t offset)
{
    g_autofree uint8_t *copy = NULL;

    len = MIN(len, 1u << 20);
    copy = g_malloc0(len + 1);
    if (hm_copy_from_user(copy, (uintptr_t)buf, len)) {
        return -EFAULT;
    }
    return region_rw(file, copy, len, offset, true);
}
