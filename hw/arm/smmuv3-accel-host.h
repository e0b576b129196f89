/*
 * Accelerated SMMUv3: the seam to the host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * All that the accelerated SMMUv3 asks of its host, a dozen operations.  They
 * are implemented on iommufd (smmuv3-accel-iommufd.c); a unit test puts a
 * recorder there.  The objects are iommufd's: linux/iommufd.h.
 *
 * Every operation returns 0 or a negative errno and sets @errp on failure.  An
 * operation that failed has created nothing and has moved nothing.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_HOST_H
#define HW_ARM_SMMUV3_ACCEL_HOST_H

/* A device that the host knows, and the connection to the host: both opaque */
typedef struct SMMUv3HostDevice SMMUv3HostDevice;
typedef struct SMMUv3Host SMMUv3Host;

/* ID registers of the physical SMMUv3 (linux/iommufd.h, IOMMU_GET_HW_INFO) */
typedef struct SMMUv3HostInfo {
    uint32_t idr[6];
    uint32_t iidr;
    uint32_t aidr;
} SMMUv3HostInfo;

/* Opcodes of the commands that the host takes (IHI 0070 4.1.1) */
enum {
    SMMUV3_OP_CFGI_CD       = 0x05,
    SMMUV3_OP_CFGI_CD_ALL   = 0x06,
    SMMUV3_OP_TLBI_NH_ALL   = 0x10,
    SMMUV3_OP_TLBI_NH_ASID  = 0x11,
    SMMUV3_OP_TLBI_NH_VA    = 0x12,
    SMMUV3_OP_TLBI_NH_VAA   = 0x13,
    SMMUV3_OP_TLBI_NSNH_ALL = 0x30,
    SMMUV3_OP_ATC_INV       = 0x40,
};

/* ATC_INV.Size that means all of a StreamID's addresses (IHI 0070 4.5.1) */
#define SMMUV3_ATC_SIZE_ALL 52

/* A command as the guest's queue has it: 16 bytes, little endian */
typedef struct SMMUv3HostCmd {
    uint64_t word[2];
} SMMUv3HostCmd;

/* Events in one call to the host */
#define SMMUV3_HOST_EVENTS_MAX 64

/* What a device's transaction ran into, or a note that such records are lost */
typedef struct SMMUv3HostEvent {
    uint64_t word[4];           /* IHI 0070 7.3, little endian; virtual SID */
    uint32_t sequence;          /* 0 to INT_MAX, then 0 again */
    bool lost;                  /* there is no event, and there was one */
} SMMUv3HostEvent;

typedef struct SMMUv3HostOps {
    /* Name of @dev for messages; belongs to the device */
    const char *(*name)(SMMUv3HostDevice *dev);

    /* Connection by which @dev's objects live; belongs to the host side */
    SMMUv3Host *(*host)(SMMUv3HostDevice *dev);

    /* Id of the stage-2 HWPT (a nesting parent) that @dev was attached to */
    uint32_t (*stage2)(SMMUv3HostDevice *dev);

    /* Read the ID registers of the physical SMMUv3 above @dev into @info */
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

    /* Attach @dev to @hwpt, in place of what it was attached to */
    int (*attach)(SMMUv3HostDevice *dev, uint32_t hwpt, Error **errp);

    /* Attach @dev to nothing: its DMA is blocked */
    int (*detach)(SMMUv3HostDevice *dev, Error **errp);

    /*
     * IOMMU_HWPT_INVALIDATE: hand @n commands to @viommu.  On failure any of
     * them may or may not have been done (the host's count is no measure).
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
     * Take up to @max events from @fd.  Returns how many, or a negative errno:
     * -EAGAIN if there are none.  Never blocks.
     */
    int (*events_read)(SMMUv3Host *host, int fd, SMMUv3HostEvent *events,
                       unsigned max);

    /* Free vEVENTQ @id and close its @fd, which no fd handler is set for */
    void (*events_free)(SMMUv3Host *host, uint32_t id, int fd);

    /* IOMMU_DESTROY: free object @id, which nothing uses any more */
    void (*destroy)(SMMUv3Host *host, uint32_t id);
} SMMUv3HostOps;

/* The real thing: @dev is a HostIOMMUDeviceIOMMUFD, @host an IOMMUFDBackend */
extern const SMMUv3HostOps smmuv3_iommufd_ops;

#endif
