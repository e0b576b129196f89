/*
 * Host model: what iommufd.c, ioas.c and driver.c share
 *
 * These three play Linux 7.3: drivers/iommu/iommufd on
 * drivers/iommu/arm/arm-smmu-v3, as far as a user of the uapi can see.  Each
 * device has an IOMMU group of its own, unless the configuration names one.
 * Only one thread runs here at a time (the model's lock).  So the locks of
 * Linux, and references that last as long as an ioctl, are absent.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HOST_MODEL_LINUX_H
#define HOST_MODEL_LINUX_H

#include "model.h"

/* PAGE_SIZE of the host's Linux */
#define HM_PAGE             4096ull
#define HM_PAGE_SHIFT       12

/* In Linux, RID attachments are those of PASID 0 (IOMMU_NO_PASID). */
#define HM_RID              0

typedef struct HmCmdqv HmCmdqv;         /* cmdqv.c: a VINTF of a vIOMMU */
typedef struct HmDomain HmDomain;
typedef struct HmDriver HmDriver;
typedef struct HmHwQueue HmHwQueue;
typedef struct HmHwpt HmHwpt;
typedef struct HmIdev HmIdev;
typedef struct HmVdevice HmVdevice;
typedef struct HmViommu HmViommu;

/* [start, start + length - 1], or false if that goes beyond 2^64 - 1 */
static inline bool hm_last(uint64_t start, uint64_t length, uint64_t *last)
{
    return !__builtin_add_overflow(start, length - 1, last);
}

/*
 * iommufd.c: objects
 */

typedef enum HmObjectType {
    HM_OBJ_ANY,
    HM_OBJ_DEVICE,
    HM_OBJ_HWPT_PAGING,
    HM_OBJ_HWPT_NESTED,
    HM_OBJ_IOAS,
    HM_OBJ_FAULT,
    HM_OBJ_VIOMMU,
    HM_OBJ_VDEVICE,
    HM_OBJ_VEVENTQ,
    HM_OBJ_HW_QUEUE,
    HM_OBJ_ACCESS,                      /* a queue's, to its memory */
    HM_OBJ_TYPES
} HmObjectType;

/* The first member of each object */
typedef struct HmObject {
    HmCtx *ctx;
    HmObjectType type;
    uint32_t id;
    unsigned users;                     /* 1: only its ID */
    bool published;                     /* can be found by its ID */
} HmObject;

struct HmCtx {
    unsigned refs;                      /* the file's: fds, devices, queues */
    GPtrArray *objects;                 /* by ID; NULL is a free ID */
    HmIoas *vfio_ioas;
    bool rlimit_mm;                     /* IOMMU_OPTION_RLIMIT_MODE */
};

/* Lowest free ID, not published, one user */
void *hm_object_new(HmCtx *ctx, size_t size, HmObjectType type);
#define HM_OBJECT_NEW(ctx, Type, type) \
    ((Type *)hm_object_new(ctx, sizeof(Type), type))
void hm_object_publish(HmObject *obj);
/* Ends an object that was not published, as its destruction would */
void hm_object_abort(HmObject *obj);
/* NULL stands for Linux's -ENOENT. */
void *hm_object_get(HmCtx *ctx, uint32_t id, HmObjectType type);

/* An ioctl in progress */
typedef struct HmCall {
    HmCtx *ctx;
    uint64_t user;                      /* address of the user's struct */
    uint32_t user_size;                 /* its first member */
    void *cmd;                          /* our copy of it */
} HmCall;

/* Copy @size bytes of call->cmd back, as far as the user's struct goes. */
int hm_respond(HmCall *call, size_t size);

/*
 * User memory: 0 or -EFAULT, whatever the address is
 */
int hm_copy_from_user(void *to, uint64_t from, size_t len);
int hm_copy_to_user(uint64_t to, const void *from, size_t len);
int hm_clear_user(uint64_t to, uint64_t len);
/* copy_struct_from_user(): also -E2BIG, if unknown bytes are not 0 */
int hm_copy_struct_from_user(void *to, size_t size, uint64_t from,
                             uint64_t user_size);

struct HmHwpt {
    HmObject obj;                       /* HM_OBJ_HWPT_PAGING or _NESTED */
    HmDomain *domain;
    HmVeventq *fault;                   /* a fault queue; NULL: none */
    bool pasid_compat;

    /* HM_OBJ_HWPT_PAGING */
    HmIoas *ioas;
    bool auto_domain;                   /* came with an attachment to @ioas */
    bool nest_parent;
    bool filled;                        /* is one of @ioas's domains */

    /* HM_OBJ_HWPT_NESTED */
    HmViommu *viommu;
};

struct HmViommu {
    HmObject obj;
    uint32_t type;
    HmHwpt *hwpt;                       /* the nesting parent */
    GHashTable *vdevs;                  /* of HmVdevice, by virtual ID */
    GPtrArray *veventqs;                /* of HmVeventq */

    /* driver.c */
    HmDriver *driver;
    HmDomain *s2_parent;
    uint16_t vmid;
    HmCmdqv *cmdqv;                     /* NULL: it has no VINTF */
};

struct HmVdevice {
    HmObject obj;
    HmViommu *viommu;
    HmIdev *idev;
    uint64_t virt_id;
    unsigned slot;                      /* of its vIOMMU's VINTF, from 1 */
};

struct HmIdev {
    HmObject obj;
    HmDevice *dev;
    HmVdevice *vdev;
    GHashTable *hwpts;                  /* of HmHwpt, by PASID */

    /* The attachments that VFIO made */
    bool attached;
    GHashTable *pasids;
};

/* It locks the memory of a queue in its IOAS. */
typedef struct HmAccess {
    HmObject obj;
    HmIoas *ioas;                       /* NULL: nothing is locked yet */
    uint64_t iova, length;
} HmAccess;

/* A queue of a guest that hardware runs */
struct HmHwQueue {
    HmObject obj;
    HmViommu *viommu;
    HmAccess *access;
    uint64_t length;                    /* bytes */

    /* cmdqv.c */
    bool ready;
    unsigned index;
    HmHwQueue *prev;                    /* of the next lower index; held */
};

/* Send to the vEVENTQ of @type; -EOPNOTSUPP if @viommu has none. */
int hm_viommu_report_event(HmViommu *viommu, uint32_t type, const void *data,
                           size_t len);

/*
 * ioas.c: address spaces
 */

struct HmIoas {
    HmObject obj;
    GPtrArray *areas;                   /* of HmArea, by IOVA */
    GArray *allowed;                    /* of HmSpan, by start */
    GArray *reserved;                   /* of HmSpan, by start; may overlap */
    GPtrArray *domains;                 /* of HmDomain: all are filled */
    GPtrArray *hwpts;                   /* of HmHwpt, in order of creation */
    uint64_t alignment;
    bool no_large_pages;
};

/* The ioctls.  Their commands were checked for size only. */
int hm_ioas_alloc(HmCall *call);
int hm_ioas_allow_iovas(HmCall *call);
int hm_ioas_change_process(HmCall *call);
int hm_ioas_copy(HmCall *call);
int hm_ioas_iova_ranges(HmCall *call);
int hm_ioas_map(HmCall *call);
int hm_ioas_map_file(HmCall *call);
int hm_ioas_unmap(HmCall *call);
int hm_ioas_option(HmCall *call);
int hm_hwpt_set_dirty_tracking(HmCall *call);
int hm_hwpt_get_dirty_bitmap(HmCall *call);
/* VFIO_IOMMU_MAP_DMA and _UNMAP_DMA on the compatibility IOAS */
int hm_ioas_vfio_map(HmIoas *ioas, uint64_t arg);
int hm_ioas_vfio_unmap(HmIoas *ioas, uint64_t arg);
int hm_ioas_disable_large_pages(HmIoas *ioas);

void hm_ioas_destroy(HmIoas *ioas);

/*
 * Lock the areas of a range of whole pages, which must be mapped, readable and
 * physically contiguous: -ENOENT, -EPERM, -EFAULT.  *host is its address.
 */
int hm_ioas_lock(HmIoas *ioas, uint64_t iova, uint64_t length, void **host);
void hm_ioas_unlock(HmIoas *ioas, uint64_t iova, uint64_t length);

int hm_ioas_add_domain(HmIoas *ioas, HmDomain *domain);
void hm_ioas_remove_domain(HmIoas *ioas, HmDomain *domain);
/* Reserve what @dev cannot use: Linux's software MSI window. */
int hm_ioas_reserve_for_device(HmIoas *ioas, HmDevice *dev);
void hm_ioas_unreserve(HmIoas *ioas, void *owner);

/* HmS2's functions for a domain of an IOAS */
bool hm_ioas_lookup(HmS2 *s2, uint64_t ipa, void **host, uint64_t *len,
                    unsigned *prot);
void hm_ioas_dirty(HmS2 *s2, uint64_t ipa, uint64_t len);

/*
 * driver.c: arm-smmu-v3, and the part of iommu.c between it and iommufd
 */

typedef enum HmDomainType {
    HM_DOMAIN_BLOCKED,
    HM_DOMAIN_PAGING,
    HM_DOMAIN_NESTED,
} HmDomainType;

struct HmDomain {
    HmS2 s2;                            /* first: STE.S2TTB points to it */
    HmDomainType type;

    /* HM_DOMAIN_PAGING */
    HmDriver *driver;
    HmIoas *ioas;                       /* what is mapped; NULL: nothing */
    bool stage1;                        /* a stage 1 to Linux: see driver.c */
    bool nest_parent;
    bool s2fwb;
    bool enforce_cc;
    bool msi_page;                      /* the doorbell is mapped */
    GHashTable *dirty;                  /* pages by number; NULL: no tracking */
    uint16_t asid;
    uint16_t vmid;
    uint64_t aperture_last;
    uint64_t page_size;                 /* the smallest */
    uint64_t vtcr;                      /* STE.VTCR */
    GArray *users;                      /* of HmDomainUser */

    /* HM_DOMAIN_NESTED */
    HmViommu *viommu;
    uint64_t ste[2];
    bool enable_ats;
};

bool hm_driver_coherent(HmDevice *dev);
bool hm_driver_canwbs(HmDevice *dev);
bool hm_driver_dirty_capable(HmDevice *dev);
bool hm_driver_ats_supported(HmDevice *dev);
/*
 * dev->iommu->max_pasids: 0 if the device has no PASID capability, and 1 if the
 * SMMU has no SubstreamIDs
 */
uint32_t hm_driver_max_pasids(HmDevice *dev);
/* The physical SMMU that @dev is behind */
HmDriver *hm_driver_of(HmDevice *dev);
typedef union HmHwInfo {
    struct iommu_hw_info_arm_smmuv3 smmuv3;
    struct iommu_hw_info_tegra241_cmdqv cmdqv;
} HmHwInfo;

/* @type is in and out; *len is the size of what it says, or 0 */
int hm_driver_hw_info(HmDevice *dev, uint32_t *type, HmHwInfo *info,
                      uint32_t *len);
HmSmmu *hm_driver_smmu(HmDriver *driver);

int hm_domain_alloc_paging(HmDevice *dev, uint32_t flags, bool data,
                           HmDomain **domain);
int hm_domain_alloc_nested(HmViommu *viommu, uint32_t flags, uint32_t type,
                           uint64_t data, uint32_t len, HmDomain **domain);
void hm_domain_free(HmDomain *domain);
/* The range is not mapped any more. */
void hm_domain_unmapped(HmDomain *domain, uint64_t iova, uint64_t size);

/* Whether the SMMU of @dev supports vIOMMUs of @type */
bool hm_driver_viommu_type(HmDevice *dev, uint32_t type);
/* @data is the user's, of @len bytes, or @len is 0 */
int hm_driver_viommu_init(HmViommu *viommu, HmDevice *dev, uint64_t data,
                          uint32_t len);
int hm_driver_vdevice_init(HmVdevice *vdev);
/* @num: in, how many; out, how many Linux reports as handled */
int hm_driver_invalidate(HmViommu *viommu, uint32_t type, uint64_t data,
                         uint32_t entry_len, uint32_t *num);

int hm_group_claim(HmDevice *dev, HmCtx *owner);
void hm_group_release(HmDevice *dev);
int hm_group_attach(HmDevice *dev, HmDomain *domain);
int hm_group_replace(HmDevice *dev, HmDomain *domain);
void hm_group_detach(HmDevice *dev);
int hm_group_attach_pasid(HmDevice *dev, uint32_t pasid, HmDomain *domain);
int hm_group_replace_pasid(HmDevice *dev, uint32_t pasid, HmDomain *domain);
void hm_group_detach_pasid(HmDevice *dev, uint32_t pasid);

/*
 * cmdqv.c: the driver of the Tegra241 CMDQV
 */

int hm_cmdqv_hw_info(HmDevice *dev, struct iommu_hw_info_tegra241_cmdqv *info);
/* Gives the vIOMMU a VINTF of @smmu */
int hm_cmdqv_viommu_init(HmViommu *viommu, HmSmmu *smmu, uint64_t data,
                         uint32_t len);
/* The same for the vDEVICE: a slot.  These also undo what was not done. */
int hm_cmdqv_vdevice_init(HmVdevice *vdev);
void hm_cmdqv_vdevice_destroy(HmVdevice *vdev);
void hm_cmdqv_viommu_destroy(HmViommu *viommu);
/* @base is an address in the process, which stands for a physical one. */
int hm_cmdqv_queue_init(HmHwQueue *queue, uint32_t index, uint64_t base);
void hm_cmdqv_queue_destroy(HmHwQueue *queue);

/*
 * hw-queue.c: IOMMU_HW_QUEUE_ALLOC, and what can be mapped
 */

int hm_hw_queue_alloc(HmCall *call);
void hm_hw_queue_destroy(HmHwQueue *queue);
void hm_access_destroy(HmAccess *access);

/* Where the next @length bytes of @ctx can be mapped */
uint64_t hm_mmap_offset(HmCtx *ctx, uint64_t length);
/* @fd is mapped from its start.  Each mapping is a user of @owner. */
void hm_mmap_add(HmObject *owner, uint64_t offset, uint64_t length, int fd);
void hm_mmap_remove(HmObject *owner);

#endif /* HOST_MODEL_LINUX_H */
