/*
 * Host model: what its parts share
 *
 * A library that is preloaded into an unmodified QEMU (or any program of the
 * uapi) and plays the kernel's side in the process: /dev/iommu, VFIO device
 * fds, and behind them physical SMMUv3s and PCIe endpoints.  It is a test
 * instrument.  It must answer as Linux would, and its hardware may do all that
 * the architecture (Arm IHI 0070) allows.
 *
 *   preload.c   the C library's calls on our fds; only it sees fd numbers
 *   control.c   configuration, counters, failure injection, the control socket
 *   iommufd.c   Linux's iommufd core: objects, lifetimes, errors
 *   ioas.c      address spaces: map, unmap, ranges, dirty bits
 *   hw-queue.c  hardware queues, mmap()
 *   driver.c    Linux's arm-smmu-v3 driver: domains, STEs, vIOMMU, commands
 *   cmdqv.c     Linux's tegra241-cmdqv driver
 *   smmu.c      the physical SMMUv3: tables, caches, commands, events
 *   smmu-vcmdq.c  the physical CMDQV: queues of VMs
 *   vfio.c      Linux's vfio-pci: regions, interrupts, reset, configuration
 *   pci-config.c  extended configuration space, ATS and PASID capabilities
 *   dma.c       an endpoint that moves any byte on demand
 *   nvme.c      an endpoint that is an NVMe controller over a file
 *
 * One lock guards everything.  The entry points (preload.c, control.c) take it,
 * and everything declared here runs with it held.  A function that answers a
 * system call returns 0 (or a count) or -errno, as the kernel does.
 *
 * A host-physical address is an address in the process: user memory that is
 * mapped in an IOAS is the machine's memory.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HOST_MODEL_H
#define HOST_MODEL_H

#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#ifndef __counted_by                    /* the system's linux/stddef.h may be */
#define __counted_by(member)            /* older than the headers that we use */
#endif
#include <linux/iommufd.h>
#include <linux/vfio.h>

typedef struct HmCtx HmCtx;             /* an open /dev/iommu */
typedef struct HmDevice HmDevice;       /* a physical PCI function */
typedef struct HmDmaBuf HmDmaBuf;       /* of a BAR of memory */
typedef struct HmSmmu HmSmmu;           /* a physical SMMUv3 */
typedef struct HmS2 HmS2;               /* a stage 2 as hardware sees it */
typedef struct HmIoas HmIoas;
typedef struct HmVeventq HmVeventq;
typedef struct HmVintf HmVintf;         /* a virtual interface of a CMDQV */
typedef struct HmVfioFile HmVfioFile;   /* an open VFIO device fd */
typedef struct HmPci HmPci;             /* extended configuration space */

/*
 * control.c: configuration, counters, failures, log
 */

/* A counter by name, e.g. "smmu.stale".  It starts at 0 and never moves. */
uint64_t *hm_counter(const char *name);

#define HM_COUNT_N(name, n) do { \
        static uint64_t *counter_; \
        if (!counter_) { \
            counter_ = hm_counter(name); \
        } \
        *counter_ += (n); \
    } while (0)
#define HM_COUNT(name) HM_COUNT_N(name, 1)

/*
 * Whether the call of kind @kind that begins now must fail: 0, or a positive
 * errno.  Counts the call, in all ("calls") and by kind
 * ("call.IOMMU_HWPT_ALLOC").  A kind is the uapi's name of an ioctl, or one of
 * "open./dev/iommu", "veventq.read" and "smmu.sync" (the driver's wait for a
 * CMD_SYNC).
 */
int hm_fail(const char *kind);

/*
 * The same for what is no call on our fds: "pthread_create" (of the program) and
 * "vcmdq.command" (of a queue in hardware).  `*` does not mean it, and only
 * failures are counted.
 */
int hm_fail_only(const char *kind);

/* A line of the log, if one is kept (HOST_MODEL_LOG). */
void hm_log(const char *format, ...) G_GNUC_PRINTF(1, 2);

/*
 * A bug in the model or in the test: prints it to stderr and calls abort().  A
 * user of the uapi must never be able to cause this.
 */
void hm_bug(const char *format, ...) G_GNUC_PRINTF(1, 2) G_GNUC_NORETURN;

/*
 * The machine of the configuration, a GKeyFile named by HOST_MODEL_CONFIG:
 *
 *   [smmu NAME]    profile=grace   (see README.md), then single IDRs: idr5=0x…
 *   [device NAME]  kind=dma|nvme  smmu=NAME  sid=0x100  fds=100;101;…  and what
 *                  the kind itself knows
 *   [iommufd]      fds=90;91;…   each an open of /dev/iommu
 */
HmSmmu *hm_smmu_by_name(const char *name);      /* NULL if there is none */
HmDevice *hm_device_by_name(const char *name);  /* NULL if there is none */

/* All devices, of HmDevice */
extern GPtrArray *hm_devices;
/* All SMMUs, of HmSmmu */
extern GPtrArray *hm_smmus;

/*
 * smmu.c: the physical SMMUv3.  It knows nothing of Linux.
 */

/*
 * The configuration that software finds at reset.  The driver enables the SMMU
 * at once (SMMUEN=1, CMDQ, EVENTQ) and fills the Stream Table.
 */
typedef struct HmSmmuConfig {
    char *name;
    uint32_t idr[6];
    uint32_t iidr;
    uint32_t aidr;
    /* From the host's firmware (IORT), not from a register */
    bool coherent;                      /* overrides IDR0.COHACC */
    bool canwbs;                        /* IORT's CANWBS: no S2FWB needed */
    uint32_t hw_info_flags;             /* flags of iommu_hw_info_arm_smmuv3 */
    /* Flips these bits in hw_info's registers, except for those listed there */
    uint32_t unlisted;
    bool no_hw_info;                    /* its driver has no hw_info() */
    bool vtd;                           /* it is an IOMMU of Intel */
    bool repeat;                        /* erratum T264-SMMU-3 */
    bool httu_update;                   /* walks set AF, dirty (IDR0.HTTU) */
    /* The Tegra241 CMDQV; each of the others is a logarithm */
    uint8_t cmdqv;                      /* version; 0: there is none */
    uint8_t cmdqv_vintfs;
    uint8_t cmdqv_vcmdqs;               /* of a VINTF */
    uint8_t cmdqv_sids;                 /* slots of a VINTF */
} HmSmmuConfig;

/*
 * This stands for stage 2's tables.  STE.S2TTB points to it (16-byte aligned).
 */
struct HmS2 {
    /*
     * The memory behind @ipa: its address in the process, how many bytes follow
     * contiguously (at least 1), and HM_READ|HM_WRITE.  The host's MSI doorbell
     * is HM_DOORBELL.  Returns false if nothing is mapped there.
     */
    bool (*lookup)(HmS2 *s2, uint64_t ipa, void **host, uint64_t *len,
                   unsigned *prot);
    /* Memory was written through this stage 2 (dirty tracking); may be NULL. */
    void (*dirty)(HmS2 *s2, uint64_t ipa, uint64_t len);
};

/*
 * Where interrupts of endpoints go.  It is not memory: do not dereference it.
 */
#define HM_DOORBELL ((void *)(uintptr_t)0x10)

/* Access of a transaction, and permission */
enum {
    HM_READ = 1,
    HM_WRITE = 2,
    HM_EXEC = 4,                        /* transaction: INST */
    HM_PRIV = 8,                        /* transaction: PnU */
};

#define HM_NO_PASID UINT32_MAX

/*
 * What the endpoint gets for an ATS request (3.9.1.2).  Success may allow
 * nothing: R=W=0, and hm_smmu_translate() returns -EFAULT.
 */
typedef enum HmAtsReply {
    HM_ATS_SUCCESS,
    HM_ATS_UR,                          /* Unsupported Request */
    HM_ATS_CA,                          /* Completer Abort */
} HmAtsReply;

typedef struct HmTranslation {
    /* in */
    uint32_t sid;
    uint32_t ssid;                      /* HM_NO_PASID: without SubstreamID */
    uint64_t iova;
    unsigned access;                    /* HM_READ ... of the transaction */
    bool ats_request;                   /* an ATS translation request */
    bool ats_translated;                /* @iova came from an ATS request */
    /* out, if the translation succeeds */
    void *host;                         /* or HM_DOORBELL */
    uint64_t len;                       /* bytes from there with this mapping */
    unsigned prot;                      /* HM_READ|HM_WRITE|HM_EXEC allowed */
    /* out, of an ATS request in any case */
    HmAtsReply reply;
} HmTranslation;

/*
 * The configuration of a kind of host, without a name: grace, kunpeng,
 * neoverse, lpa2, minimal, httu, no16k, noril, oas32, asid8, grace-cmdqv,
 * tegra264, nocoherent, onestage, nofwb (see smmu-profile.c).
 * False if there is no such profile.
 */
bool hm_smmu_profile(const char *name, HmSmmuConfig *out);

HmSmmu *hm_smmu_new(const HmSmmuConfig *config);
void hm_smmu_free(HmSmmu *smmu);                /* NULL does nothing */
const HmSmmuConfig *hm_smmu_config(HmSmmu *smmu);

/*
 * The physical Stream Table: the eight 64-bit words of the STE of @sid, which
 * the driver writes to.  They are 0 (V=0) at first.  What the SMMU has cached
 * stays until a CFGI_STE or CFGI_ALL.
 */
uint64_t *hm_smmu_ste(HmSmmu *smmu, uint32_t sid);

/*
 * Translate a transaction with what is cached, and fill the caches from memory
 * where they are empty.  A hit that today's tables would not give counts as
 * stale ("smmu.stale") and is logged with its cause.
 *
 * Returns: 0, or -EFAULT if the transaction is terminated; its event, if the
 *          architecture records one, went to the event queue.
 */
int hm_smmu_translate(HmSmmu *smmu, HmTranslation *t);

/*
 * The same by what the tables say now: no cache is used or filled, nothing is
 * counted or recorded, and no descriptor changes.
 */
int hm_smmu_translate_fresh(HmSmmu *smmu, HmTranslation *t);

/*
 * An endpoint uses a translation that it has cached: @t as of an ATS request,
 * with its result.  If the tables do not say so any more, this is counted
 * ("smmu.stale", "atc.stale") and logged.
 */
void hm_smmu_check_atc(HmSmmu *smmu, const HmTranslation *t);

/*
 * Put a command (IHI 0070 chapter 4, with physical StreamID and VMID) into the
 * command queue.  It takes effect at the next hm_smmu_sync() at the latest.
 */
void hm_smmu_command(HmSmmu *smmu, const uint64_t cmd[2]);

/*
 * Issue a CMD_SYNC and wait for it.
 *
 * Returns: 0; -EIO if a command was illegal (all others were executed);
 *          -ETIMEDOUT if an ATC_INV was not answered
 */
int hm_smmu_sync(HmSmmu *smmu);

/* Receives events: four 64-bit words each, as in the physical event queue */
typedef void HmSmmuEventFn(HmSmmu *smmu, const uint64_t event[4]);
void hm_smmu_on_event(HmSmmu *smmu, HmSmmuEventFn *fn);

/*
 * Send an ATC_INV to the endpoint's ATC, if it has one (dma.c).  The fields are
 * as in the command.  Returns false if the endpoint does not answer.
 */
bool hm_device_atc_inv(uint32_t sid, HmSmmu *smmu, const uint64_t cmd[2]);

/*
 * smmu-vcmdq.c: VINTFs of the SMMU's CMDQV.  A queue is run by a thread, from
 * hm_vintf_map() to hm_vintf_unmap().
 */

#define HM_VINTF_PAGE0 0x10000          /* bytes */
#define HM_VINTF_NAME "host-model-vintf" /* of its memfd */

/* There is a new error; @map has a bit for each queue that is halted. */
typedef void HmVintfErrorFn(void *opaque, const uint64_t map[2]);

HmVintf *hm_vintf_new(HmSmmu *smmu, uint16_t vmid, HmVintfErrorFn *on_error,
                      void *opaque);
void hm_vintf_free(HmVintf *vintf);     /* without queues */
/* Its page 0, from the start of this file on; the VINTF keeps it */
int hm_vintf_fd(const HmVintf *vintf);
/* Slot @n turns StreamID @match of an ATC_INV into @replace. */
void hm_vintf_set_slot(HmVintf *vintf, unsigned n, bool enabled,
                       uint32_t match, uint32_t replace);
/*
 * Queue @i has 2^@log2size commands at @base in this process.  Its registers
 * are reset, now and when it is unmapped.
 */
void hm_vintf_map(HmVintf *vintf, unsigned i, uint64_t base,
                  unsigned log2size);
void hm_vintf_unmap(HmVintf *vintf, unsigned i);

/*
 * driver.c and iommufd.c: Linux.  VFIO calls these functions of iommufd.
 */

HmCtx *hm_iommufd_open(void);
void hm_iommufd_close(HmCtx *ctx);      /* the last fd of it was closed */
int hm_iommufd_ioctl(HmCtx *ctx, unsigned long request, void *arg);
/*
 * The kind of a call that is about a CMDQV, for failures and counters; or NULL.
 * It is the ioctl's name with a suffix.
 */
const char *hm_iommufd_kind(HmCtx *ctx, unsigned long request, void *arg);
/* mmap() of a context: an address or -errno.  It maps by itself. */
int64_t hm_iommufd_mmap(HmCtx *ctx, void *addr, uint64_t len, int prot,
                        int flags, uint64_t offset);
/* That range of the process was unmapped, or other memory was mapped there. */
void hm_iommufd_unmapped(uint64_t start, uint64_t length);
/* Whether there can be a mapping of a context; needs no lock */
bool hm_iommufd_is_mapped(void);
/* Queues in hardware stand still: see "vcmdqs" of the control socket */
extern bool hm_vcmdqs_held;
/* They are empty, at 0, when they begin */
extern bool hm_vcmdqs_forget;

/* How memory is contiguous: see "contiguous" of the control socket */
extern uint64_t hm_contiguous;

/* VFIO_DEVICE_BIND_IOMMUFD and unbind; errors as in Linux */
int hm_iommufd_bind(HmCtx *ctx, HmDevice *dev, uint32_t *devid);
void hm_iommufd_unbind(HmDevice *dev);
/*
 * VFIO_DEVICE_ATTACH_IOMMUFD_PT and _DETACH_: @pt_id is in and out as in the
 * uapi; @pasid is HM_NO_PASID without VFIO_DEVICE_ATTACH_PASID.
 */
int hm_iommufd_attach(HmDevice *dev, uint32_t pasid, uint32_t *pt_id);
int hm_iommufd_detach(HmDevice *dev, uint32_t pasid);
/* Whether the doorbell can be mapped: only while the device is attached */
bool hm_iommufd_has_msi(HmDevice *dev);

/* The IOMMU side of a function-level reset: park the device, then restore it */
void hm_iommufd_reset_prepare(HmDevice *dev);
void hm_iommufd_reset_done(HmDevice *dev);

/* The devices of the group of @dev, @n from 0 on; NULL after the last one */
HmDevice *hm_group_member(HmDevice *dev, unsigned n);

/* The driver takes over an SMMU.  Called once, after hm_smmu_new(). */
void hm_driver_probe(HmSmmu *smmu);
/* A device appears behind an SMMU and gets the kernel's DMA API domain. */
void hm_driver_device_probe(HmDevice *dev);

/* Live objects by type, for "objects" of the control socket and for exit */
void hm_iommufd_objects(GString *json);

/* Raise an event as if the device had caused it; words as in hardware. */
int hm_driver_raise_event(HmDevice *dev, const uint64_t event[4]);

/*
 * Compare each TLBI_NH_VA of a guest with the 32-bit word at @iova of @dev.
 * The page number in the command is its sequence number.  "watch.late" counts
 * those that are not above the word.
 */
void hm_driver_watch(HmDevice *dev, uint64_t iova);
void hm_driver_watch_command(const uint64_t cmd[2]);

/*
 * preload.c
 */

/*
 * Make an fd for @veventq (or a fault queue), for iommufd.c.  The fd can be
 * polled: hm_fd_readable() says when.
 * Returns: the fd, or -errno
 */
int hm_fd_new_veventq(HmVeventq *veventq);
void hm_fd_readable(int fd, bool readable);
/* What read() and the last close() of such an fd do; in iommufd.c */
ssize_t hm_veventq_read(HmVeventq *veventq, void *buf, size_t len,
                        bool nonblock);
void hm_veventq_close(HmVeventq *veventq);
/* From now on, events do not make its fd readable. */
void hm_veventq_mute(HmVeventq *veventq);

/* An fd of a dma-buf; it holds a reference */
int hm_fd_new_dmabuf(HmDmaBuf *buf);
/* The dma-buf open at @fd; NULL if that is another file, or none */
HmDmaBuf *hm_fd_dmabuf(int fd);

/* A new open of /dev/iommu; @want >= 0 asks for that number. */
int hm_fd_new_ctx(int want);

/* The context open at @fd; -EBADF, or -EBADFD if it is not a /dev/iommu */
int hm_fd_ctx(int fd, HmCtx **ctx);

/* A new VFIO device fd of @dev; @want >= 0 asks for that number. */
int hm_fd_new_device(HmDevice *dev, int want);

/*
 * vfio.c and the endpoints
 */

typedef struct HmEndpointOps {
    const char *kind;                   /* as in the configuration */
    /*
     * Fill dev->config, dev->bar_size and dev->priv.  Returns false if the
     * configuration is wrong; *error says why (the caller frees it).
     */
    bool (*init)(HmDevice *dev, GKeyFile *config, const char *group,
                 char **error);
    uint64_t (*read)(HmDevice *dev, unsigned bar, uint64_t offset,
                     unsigned size);
    void (*write)(HmDevice *dev, unsigned bar, uint64_t offset, uint64_t value,
                  unsigned size);
    void (*reset)(HmDevice *dev);
    /*
     * The physical STE of the device has just changed during its DMA, and
     * hardware could see it now.  May be NULL.
     */
    void (*ste_step)(HmDevice *dev);
    void (*atc_inv)(HmDevice *dev, const uint64_t cmd[2]);  /* may be NULL */
} HmEndpointOps;

extern const HmEndpointOps hm_dma_ops, hm_nvme_ops;

#define HM_MSIX_MAX 2048                /* PCI's own limit */

struct HmDevice {
    char *name;
    const HmEndpointOps *ops;
    HmSmmu *smmu;
    uint32_t sid;                       /* physical StreamID */
    char *group;                        /* its IOMMU group's name; NULL: own */
    bool no_sysfs;                      /* the program sees no sysfs for it */
    bool ats;                           /* has an ATS capability */
    bool rc_ats;                        /* IORT: its root complex does ATS */
    unsigned pasid_bits;                /* has a PASID capability: its width */
    bool pasid_exec, pasid_priv;
    bool dead_atc;                      /* answers no ATC_INV */
    bool scratch;                       /* gaps of config[] keep what is
                                           written, as in QEMU's devices */
    unsigned n_sids;                    /* if more, VDEVICE_ALLOC fails */
    bool ignores_resets;                /* goes on with what it was doing */

    /* vfio.c */
    uint8_t config[4096];               /* physical configuration space */
    uint64_t bar_size[6];               /* 0: none; all are 64-bit memory BARs
                                           at even numbers */
    unsigned n_msix;                    /* vectors of the MSI-X table */
    unsigned open_count;                /* open VFIO device fds */
    uint8_t *memory;                    /* dmabuf.c: its BAR of memory; or NULL */
    int memory_fd;                      /* of the same */
    unsigned memory_bar;                /* which BAR that is */
    uint32_t msix_at;                   /* where MSI-X is there; 0: in BAR 2 */
    GPtrArray *dmabufs;                 /* of HmDmaBuf, alive; or NULL */
    int msix_fd[HM_MSIX_MAX];           /* eventfds of VFIO_DEVICE_SET_IRQS */
    int intx_fd, err_fd, req_fd;
    HmCtx *ctx;                         /* bound to; NULL if not */
    void *vfio;                         /* vfio.c's own */
    HmPci *pci;                         /* pci-config.c's own */
    void *priv;                         /* the endpoint's own */

    /* iommufd.c and driver.c */
    void *idev;                         /* iommufd's device object */
    void *master;                       /* the driver's struct for it */
};

/*
 * The device [device NAME] of the configuration, after the driver's probe.  If
 * the configuration is wrong, returns NULL; *error says why (the caller frees
 * it).
 */
HmDevice *hm_device_new(const char *name, GKeyFile *config, char **error);

/*
 * pci-config.c: bytes 0x100 to 0xfff of configuration space
 */

/*
 * Lay out the capabilities of the function.  @ext_caps (or NULL) names them in
 * the order of the chain, and @ext_end is where the last one points to.  False
 * if that is impossible; *error says why (the caller frees it).
 */
bool hm_pci_init(HmDevice *dev, const char *ext_caps, unsigned ext_end,
                 char **error);
/* The function is reset, and Linux restores what it had enabled. */
void hm_pci_reset(HmDevice *dev);

/* What the function obeys: ATS Enable; the control register of PASID */
bool hm_pci_does_ats(const HmDevice *dev);
unsigned hm_pci_pasid_control(const HmDevice *dev);

/* Linux: pci_enable_pasid(), pci_prepare_ats(), pci_enable_ats(), _disable_ */
void hm_pci_enable_pasid(HmDevice *dev);
void hm_pci_prepare_ats(HmDevice *dev, unsigned page_shift);
void hm_pci_set_ats(HmDevice *dev, bool enable);

/* VFIO opens the device, and then reads and writes a byte of it. */
void hm_pci_open(HmDevice *dev);
uint8_t hm_pci_read(HmDevice *dev, unsigned at);
void hm_pci_write(HmDevice *dev, unsigned at, uint8_t value);

/*
 * dmabuf.c: a BAR that is memory, and dma-bufs of parts of it
 */

#define HM_MEMORY_NAME "host-model-bar" /* of its memfd */

/* False if @size is no power of two, or too small for a BAR */
bool hm_memory_init(HmDevice *dev, uint64_t size);
/* mmap() of BAR @bar at @offset: an address or -errno */
int64_t hm_memory_mmap(HmDevice *dev, unsigned bar, void *addr, uint64_t len,
                       int prot, int flags, uint64_t offset);
/*
 * VFIO_DEVICE_FEATURE_DMA_BUF: an fd, or -errno.  @arg is where the user has
 * the struct, @argsz its size; @decodes: the function decodes its BARs.
 */
int hm_dmabuf_feature(HmDevice *dev, uint32_t flags, uint64_t arg,
                      uint64_t argsz, bool decodes);
/* The function stops, or begins, to decode its BARs. */
void hm_dmabuf_move(HmDevice *dev, bool revoked);
/* VFIO closes the device: nothing comes back. */
void hm_dmabuf_close_device(HmDevice *dev);
/* The last close() of an fd of it */
void hm_dmabuf_put(HmDmaBuf *buf);

/* The memory must not be used any more; called once. */
typedef void HmDmaBufRevoke(void *opaque);
/*
 * Use [@start, @start + @length) of @buf, which is at *@memory, until
 * hm_dmabuf_unimport().  Errors are those of IOMMU_IOAS_MAP_FILE.
 */
int hm_dmabuf_import(HmDmaBuf *buf, uint64_t start, uint64_t length,
                     HmDmaBufRevoke *revoke, void *opaque, uint8_t **memory);
void hm_dmabuf_unimport(HmDmaBuf *buf, void *opaque);

/* vfio.c: file operations on an open device fd, as in the kernel */
HmVfioFile *hm_vfio_open(HmDevice *dev);
void hm_vfio_close(HmVfioFile *file);   /* the last dup of the fd was closed */
HmDevice *hm_vfio_device(HmVfioFile *file);
int hm_vfio_ioctl(HmVfioFile *file, unsigned long request, void *arg);
int64_t hm_vfio_mmap(HmVfioFile *file, void *addr, uint64_t len, int prot,
                     int flags, uint64_t offset);
ssize_t hm_vfio_pread(HmVfioFile *file, void *buf, size_t len, off_t offset);
ssize_t hm_vfio_pwrite(HmVfioFile *file, const void *buf, size_t len,
                       off_t offset);

/*
 * DMA of an endpoint through its SMMU, split at page boundaries.  Nothing moves
 * while bus mastering is off.
 *
 * Returns: 0, or -EFAULT; what came before the fault is done
 */
int hm_dma(HmDevice *dev, uint32_t pasid, uint64_t iova, void *buf, size_t len,
           bool write);
/* The same; @access is HM_READ or HM_WRITE, with HM_PRIV and HM_EXEC. */
int hm_dma_as(HmDevice *dev, uint32_t pasid, uint64_t iova, void *buf,
              size_t len, unsigned access);
/* Whether it can send anything: bus mastering is on, and it is not asleep. */
bool hm_device_can_send(HmDevice *dev);

/*
 * dma.c: "dma" and "atc" of the control socket.  False if @dev is no DMA engine
 * or the command makes no sense.
 */
bool hm_dma_control(HmDevice *dev, char **words, GString *json);

/*
 * Raise MSI-X vector @n: write to the doorbell through the SMMU, at the address
 * that Linux programmed (in its software MSI window at 0x08000000).  "msi.lost"
 * counts the writes that do not arrive, "msi.delivered" the others.
 */
void hm_device_msix(HmDevice *dev, unsigned n);

/*
 * The host wants the device back, as when its driver is unbound.  Linux signals
 * VFIO_PCI_REQ_IRQ_INDEX.  Returns -ENOENT if nobody has asked for that.
 */
int hm_device_request(HmDevice *dev);

/*
 * The host begins or ends a reset of the device.  -EBUSY if it has begun
 * already, or has not.
 */
int hm_device_reset(HmDevice *dev, bool begin);

#define HM_MSI_BASE 0x08000000u         /* Linux's MSI_IOVA_BASE */
#define HM_MSI_SIZE 0x00100000u         /* and MSI_IOVA_LENGTH */

#endif /* HOST_MODEL_H */
