/*
 * Accelerated SMMUv3: the interface to the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * These are all operations that the accelerated SMMUv3 needs of its host.
 * smmuv3-accel-host-iommufd.c implements them on iommufd, and
 * hw/misc/smmuv3-recorder.c for tests.  The objects are those of iommufd
 * (linux/iommufd.h).
 *
 * An operation with an @errp returns 0, or a negative errno with @errp set.
 * The comments say what the others return.  An operation that fails has created
 * nothing and has moved nothing, except for invalidate().
 */
#ifndef HW_ARM_SMMUV3_ACCEL_HOST_H
#define HW_ARM_SMMUV3_ACCEL_HOST_H

#include "system/host_iommu_device.h"

/* A device that the host knows, and the connection to the host: both opaque */
typedef struct SMMUv3HostDevice SMMUv3HostDevice;
typedef struct SMMUv3Host SMMUv3Host;

/*
 * What is known of the physical SMMUv3.  Of its ID registers the fields that
 * linux/iommufd.h names (struct iommu_hw_info_arm_smmuv3) are valid; all other
 * bits are 0.
 */
typedef struct SMMUv3HostInfo {
    uint32_t idr[6];
    /* Width of an intermediate address: the IOAS takes all that are lower */
    uint8_t address_bits;
    /* A TLBI or CFGI takes effect when it is repeated after a sync */
    bool repeat;
    /* The device that was asked about can use ATS */
    bool ats;
} SMMUv3HostInfo;

/* ATC_INV.Size that means all of a StreamID's addresses (IHI 0070 4.5.1) */
#define SMMUV3_ATC_SIZE_ALL 52

/* Where Linux's SMMUv3 driver maps MSI doorbells (its MSI_IOVA_BASE) */
#define SMMUV3_HOST_MSI_BASE 0x08000000
#define SMMUV3_HOST_MSI_SIZE 0x00100000

/* A command as the guest's queue has it: 16 bytes, little endian */
typedef struct SMMUv3HostCmd {
    uint64_t word[2];
} SMMUv3HostCmd;

/* Events in one call to the host */
#define SMMUV3_HOST_EVENTS_MAX 64

/* A record of a transaction's fault, or a note that records were lost */
typedef struct SMMUv3HostEvent {
    uint64_t word[4];           /* IHI 0070 7.3, little endian; virtual SID */
    uint32_t sequence;          /* 0 to INT_MAX, then 0 again */
    bool lost;                  /* records were lost here, @word is not valid */
} SMMUv3HostEvent;

typedef struct SMMUv3HostCmdqvOps SMMUv3HostCmdqvOps;

typedef struct SMMUv3HostOps {
    /* The QOM type of PCI devices that are assigned from this host */
    const char *pci_type;

    /* Command queues in hardware; NULL if this host never has any */
    const SMMUv3HostCmdqvOps *cmdqv;

    /* Returns what the other operations know @hiod as; not referenced */
    SMMUv3HostDevice *(*device)(HostIOMMUDevice *hiod);

    /* Move @dev to a stage 2 that can be a nesting parent: see stage2() */
    int (*nest)(SMMUv3HostDevice *dev, Error **errp);

    /* Returns the name of @dev for messages, owned by the device */
    const char *(*name)(SMMUv3HostDevice *dev);

    /* Returns the connection that @dev's objects belong to; not referenced */
    SMMUv3Host *(*host)(SMMUv3HostDevice *dev);

    /* Returns what users call @host, owned by it */
    const char *(*host_id)(SMMUv3Host *host);

    /* Returns the id of VFIO's stage-2 HWPT (a nesting parent) for @dev */
    uint32_t (*stage2)(SMMUv3HostDevice *dev);

    /* Ask about the physical SMMUv3 above @dev and about its attached IOAS */
    int (*info)(SMMUv3HostDevice *dev, SMMUv3HostInfo *info, Error **errp);

    /* IOMMU_VIOMMU_ALLOC on @dev's physical SMMUv3 over HWPT @stage2 */
    int (*viommu_alloc)(SMMUv3HostDevice *dev, uint32_t stage2, uint32_t *id,
                        Error **errp);

    /* IOMMU_VDEVICE_ALLOC: @dev is StreamID @sid of @viommu */
    int (*vdevice_alloc)(SMMUv3HostDevice *dev, uint32_t viommu, uint32_t sid,
                         uint32_t *id, Error **errp);

    /* IOMMU_HWPT_ALLOC: a nested HWPT of @viommu from @ste, host endian */
    int (*hwpt_alloc)(SMMUv3HostDevice *dev, uint32_t viommu,
                      const uint64_t ste[2], uint32_t *id, Error **errp);

    /* Attach @dev to @hwpt, in place of its present attachment if any */
    int (*attach)(SMMUv3HostDevice *dev, uint32_t hwpt, Error **errp);

    /* Attach @dev to nothing: its DMA is blocked */
    int (*detach)(SMMUv3HostDevice *dev, Error **errp);

    /*
     * IOMMU_HWPT_INVALIDATE: have @viommu carry out @n commands.  Returns 0 or
     * a negative errno.  After an error each command may be complete or not
     * (the host's count is not reliable).
     */
    int (*invalidate)(SMMUv3Host *host, uint32_t viommu,
                      const SMMUv3HostCmd *cmds, uint32_t n);

    /*
     * IOMMU_VEVENTQ_ALLOC: keep up to @depth events of @viommu.  @fd is
     * readable while there are any; events_free() closes it.
     */
    int (*events_alloc)(SMMUv3Host *host, uint32_t viommu, uint32_t depth,
                        uint32_t *id, int *fd, Error **errp);

    /*
     * Read up to @max events from @fd.  Returns their number, or a negative
     * errno, which is -EAGAIN if there are none.  Never blocks.
     */
    int (*events_read)(SMMUv3Host *host, int fd, SMMUv3HostEvent *events,
                       unsigned max);

    /*
     * Close @fd, which must have no fd handler, and free vEVENTQ @id.  Returns
     * 0, or -EBUSY while the host still uses the closed file: call again with
     * @fd -1.  With @wait this waits for the host, but not for long, and gives
     * up.  Reports an error that stays, and returns 0 then.
     */
    int (*events_free)(SMMUv3Host *host, uint32_t id, int fd, bool wait);

    /*
     * IOMMU_DESTROY: free object @id, which nothing uses any more.  Reports an
     * error itself.
     */
    void (*destroy)(SMMUv3Host *host, uint32_t id);
} SMMUv3HostOps;

/* Size of page 0 of a VINTF, in bytes (Linux, tegra241-cmdqv.c) */
#define SMMUV3_HOST_VINTF_SIZE 0x10000

/* What is known of the Tegra241 CMDQV beside the physical SMMUv3 */
typedef struct SMMUv3HostCmdqv {
    uint8_t log2_queues;        /* VCMDQs that a vIOMMU may have */
    uint8_t log2_sids;          /* vDEVICEs that it may have */
} SMMUv3HostCmdqv;

/*
 * Command queues in hardware.  A vIOMMU with a VINTF serves as any other, and
 * may have VCMDQs that the host's SMMUv3 itself reads from guest memory.
 */
struct SMMUv3HostCmdqvOps {
    /* Returns -EOPNOTSUPP, among others, if there is no CMDQV */
    int (*info)(SMMUv3HostDevice *dev, SMMUv3HostCmdqv *info, Error **errp);

    /*
     * IOMMU_VIOMMU_ALLOC of a vIOMMU with a VINTF.  Maps its page 0 at @page in
     * place of what is there: SMMUV3_HOST_VINTF_SIZE bytes, aligned to pages.
     */
    int (*viommu_alloc)(SMMUv3HostDevice *dev, uint32_t stage2, void *page,
                        uint32_t *id, Error **errp);

    /*
     * IOMMU_HW_QUEUE_ALLOC: VCMDQ @index of @viommu is at @base in the guest's
     * memory, @length bytes.  It is not enabled, and PROD and CONS are 0.  The
     * VCMDQ before it must exist, and must not be freed before it.
     */
    int (*queue_alloc)(SMMUv3Host *host, uint32_t viommu, uint32_t index,
                       uint64_t base, uint64_t length, uint32_t *id,
                       Error **errp);

    /* A vEVENTQ that tells of errors in VCMDQs; as events_alloc() */
    int (*errors_alloc)(SMMUv3Host *host, uint32_t viommu, uint32_t *id,
                        int *fd, Error **errp);

    /*
     * Read what is in @fd.  Returns how many errors there were, or a negative
     * errno, which is -EAGAIN if there were none.  Never blocks.
     */
    int (*errors_read)(SMMUv3Host *host, int fd);
};

/*
 * The host of all SMMUs: iommufd, unless a test has put its own in place before
 * the first SMMU is created (hw/misc/smmuv3-testdev.c)
 */
extern const SMMUv3HostOps *smmuv3_host_ops;

#endif
