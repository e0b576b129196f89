/*
 * What the parts of the conformance program share
 *
 * One program of uapi calls for Linux and for the host model.  Each point says
 * what was observed.  The expected value is what Linux does, so both must print
 * the same lines.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifndef __counted_by                    /* the system's linux/stddef.h may be */
#define __counted_by(member)            /* older than the headers that we use */
#endif
#include <linux/iommufd.h>
#include <linux/vfio.h>

#define PAGE            4096ull
#define ARRAY_SIZE(a)   (sizeof(a) / sizeof((a)[0]))
#define FORMAT(n)       __attribute__((format(printf, n, n + 1)))

/*
 * Points.  The result of a call is 0 or more, or -errno, which is printed by
 * name.  A point's name is a sentence without the result.
 */
void is(long got, long want, const char *format, ...) FORMAT(3);
void is_hex(uint64_t got, uint64_t want, const char *format, ...) FORMAT(3);
void is_text(const char *got, const char *want, const char *format, ...)
    FORMAT(3);
const char *result_name(long result);

/* Everything later needs this to succeed.  If not, "Bail out!" and exit. */
void need(long result, const char *what);

/* ioctl(), but -errno instead of -1 */
long call(int fd, unsigned long request, void *arg);

/* One page that can be read and written, followed by one that cannot */
extern uint8_t *edge;

/*
 * A bound device, and the objects that most tests need.  Each has an iommufd of
 * its own, and its own open of the device.
 */
typedef struct World {
    int fd;                             /* /dev/iommu */
    int dev;                            /* the VFIO device */
    uint32_t dev_id;
    uint32_t ioas;
    uint32_t parent;                    /* stage-2 HWPT */
    uint32_t viommu;                    /* by world_nest() */
    uint32_t vdev;
    struct iommu_hw_info_arm_smmuv3 info;
    bool cmdqv;                         /* the SMMU has a Tegra241 CMDQV */
} World;

#define VSID 0x42                       /* of the vDEVICE */

/* What the SMMU has.  Linux reports these fields as they are. */
static inline bool has_ats(const World *w)
{
    return w->info.idr[0] >> 10 & 1;
}

static inline unsigned ssid_bits(const World *w)
{
    return w->info.idr[1] >> 6 & 0x1f;
}

World world_open(void);
void world_nest(World *w);              /* make the vIOMMU and the vDEVICE */
void world_close(World *w);

/* An open of the device that is not used yet */
int open_device(void);
long bind_device(int dev, int fd, uint32_t *dev_id);
long attach(World *w, uint32_t pt_id);
long detach(World *w);
long destroy(int fd, uint32_t id);
long ioas_alloc(int fd, uint32_t *id);
long hwpt_alloc(World *w, uint32_t pt_id, uint32_t flags, uint32_t *id);
long nested_alloc(World *w, uint64_t word0, uint64_t word1, uint32_t *id);
long viommu_alloc(World *w, uint32_t hwpt, uint32_t *id);
long vdevice_alloc(World *w, uint64_t vsid, uint32_t *id);

/* The parts, in this order */
void test_objects(void);
void test_hwpt(void);
void test_viommu(void);
void test_attach(void);
void test_invalidate(void);
void test_ioas(void);
void test_queues(void);
void test_cmdqv(void);                  /* if the SMMU has one */
void test_dirty(void);
void test_vfio(void);
void test_dma(void);                    /* if the device is an NVMe */
/* Alone: @dev is another device, with a BAR of memory; it is closed */
void test_dmabuf(int dev);

#endif /* CONFORMANCE_H */
