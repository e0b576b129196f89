/*
 * Accelerated SMMUv3: command queues in hardware
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * On a host with a Tegra241 CMDQV a vIOMMU may have a virtual interface
 * (VINTF).  Its page 0 has the registers of the VCMDQs, which a guest can use
 * itself.  A VCMDQ works once the host knows where the guest has its commands
 * (linux/iommufd.h, struct iommu_hw_queue_alloc).
 *
 * Called with the BQL held.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_VINTF_H
#define HW_ARM_SMMUV3_ACCEL_VINTF_H

#include "smmuv3-accel-host.h"

typedef struct SMMUv3AccelVsmmu SMMUv3AccelVsmmu;

/* VCMDQs of a VINTF, which the guest is told of */
#define SMMUV3_ACCEL_VINTF_LOG2_QUEUES  1
#define SMMUV3_ACCEL_VINTF_QUEUES       (1 << SMMUV3_ACCEL_VINTF_LOG2_QUEUES)

/* Registers of a VCMDQ in page 0, in bytes, and where the next one has them */
#define SMMUV3_VCMDQ_CONS               0x00
#define SMMUV3_VCMDQ_PROD               0x04
#define SMMUV3_VCMDQ_CONFIG             0x08
#define SMMUV3_VCMDQ_STATUS             0x0c
#define SMMUV3_VCMDQ_GERROR             0x10
#define SMMUV3_VCMDQ_GERRORN            0x14
#define SMMUV3_ACCEL_VINTF_STRIDE       0x80

typedef struct SMMUv3AccelVintf {
    const SMMUv3HostCmdqvOps *ops;      /* NULL: never ask for a VINTF */
    /*
     * SMMUV3_HOST_VINTF_SIZE bytes, which stay where they are: page 0 while
     * @active, and memory without effect otherwise.  So whoever still has the
     * address can do no harm.
     */
    uint8_t *page;
    bool required;                      /* by the user: refuse a host without */

    bool active;                        /* the vIOMMU has one */
    unsigned sids;                      /* vDEVICEs that it may have */
    uint32_t errors;                    /* a vEVENTQ */
    int errors_fd;
    unsigned n_queues;
    uint32_t queue[SMMUV3_ACCEL_VINTF_QUEUES];  /* HW_QUEUEs */
} SMMUv3AccelVintf;

/**
 * smmuv3_accel_vintf_init: ask for a VINTF with each vIOMMU
 * @vintf: of a vSMMU without streams
 * @ops: the host's operations
 * @required: without a VINTF there shall be no vIOMMU
 * @errp: says that there is no memory
 *
 * Returns: false with @vintf unchanged.
 */
bool smmuv3_accel_vintf_init(SMMUv3AccelVintf *vintf,
                             const SMMUv3HostCmdqvOps *ops, bool required,
                             Error **errp);

/* Frees what smmuv3_accel_vintf_init() has allocated, if it was called */
void smmuv3_accel_vintf_fini(SMMUv3AccelVintf *vintf);

/**
 * smmuv3_accel_vintf_open: allocate a vIOMMU with a VINTF
 * @vsmmu: without a vIOMMU
 * @dev: the first device
 * @info: of the physical SMMUv3
 * @stage2: a nesting parent
 * @errp: why there is none, if one is required
 *
 * Warns if the host has a CMDQV that cannot be used.  It is not used on a host
 * with erratum T264-SMMU-3: each TLBI must be repeated there, which a guest
 * does not do (linux/iommufd.h).  Nor is it without a vEVENTQ for errors,
 * because Linux notices by the interrupt alone that a VCMDQ halts.
 *
 * Returns: 0; -EOPNOTSUPP without @errp if the caller is to allocate a vIOMMU
 * without a VINTF; or another negative errno with @errp.
 */
int smmuv3_accel_vintf_open(SMMUv3AccelVsmmu *vsmmu, SMMUv3HostDevice *dev,
                            const SMMUv3HostInfo *info, uint32_t stage2,
                            Error **errp);

/*
 * The vIOMMU is about to be freed.  Frees what depends on its VINTF, if it has
 * one; the file must have no handler any more.
 */
void smmuv3_accel_vintf_close(SMMUv3AccelVsmmu *vsmmu);

/**
 * smmuv3_accel_vintf_add_queue: let the host read the next VCMDQ
 * @vsmmu: with a VINTF that has fewer than SMMUV3_ACCEL_VINTF_QUEUES
 * @base: in the guest's memory; the guest's word
 * @length: in bytes
 * @errp: why the host refuses
 *
 * Returns: false with nothing changed; or true, and the VCMDQ is disabled.
 */
bool smmuv3_accel_vintf_add_queue(SMMUv3AccelVsmmu *vsmmu, uint64_t base,
                                  uint64_t length, Error **errp);

/* The host reads none any more */
void smmuv3_accel_vintf_remove_queues(SMMUv3AccelVsmmu *vsmmu);

/**
 * smmuv3_accel_vintf_read: a register of a VCMDQ
 * @vintf: active
 * @queue: below SMMUV3_ACCEL_VINTF_QUEUES
 * @reg: in bytes, below SMMUV3_ACCEL_VINTF_STRIDE
 */
uint32_t smmuv3_accel_vintf_read(const SMMUv3AccelVintf *vintf, unsigned queue,
                                 unsigned reg);

/* Write to one, after all that was written before */
void smmuv3_accel_vintf_write(const SMMUv3AccelVintf *vintf, unsigned queue,
                              unsigned reg, uint32_t value);

/**
 * smmuv3_accel_vintf_enable: set CONFIG.EN of a VCMDQ, and wait for it
 * @vintf: active
 * @queue: below SMMUV3_ACCEL_VINTF_QUEUES, and added
 * @enable: or clear it
 *
 * Waits a second at most.
 *
 * Returns: whether STATUS agrees.
 */
bool smmuv3_accel_vintf_enable(const SMMUv3AccelVintf *vintf, unsigned queue,
                               bool enable);

#endif
