/*
 * What the tests of a Tegra241 CMDQV share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HOST_MODEL_TEST_CMDQV_H
#define HOST_MODEL_TEST_CMDQV_H

#include "test-uapi.h"

#define PAGE        4096ull
#define MiB         (1ull << 20)
#define IPA         0x80000000ull
#define RAM_SIZE    (16 * MiB)
#define VSID        0x42ull
#define IOVA        0x40000000ull
#define PAGE0       0x10000ull          /* of a VINTF */
#define CMDQV       IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV

/* Offsets in RAM */
#define QUEUES      (1 * MiB)           /* each 64 KiB from the next */
#define CD_TABLE    (4 * MiB)
#define TABLES      (5 * MiB)
#define DATA        (8 * MiB)

extern uint8_t *ram;

#define QUEUE(n) (IPA + QUEUES + (n) * 0x10000ull)

typedef struct World {
    int fd, dev;
    const char *name;                   /* of the device */
    uint32_t dev_id, ioas, parent, viommu, vdev, hwpt;
    uint64_t offset, length;            /* what VIOMMU_ALLOC said */
    uint8_t *page0;
    int events;                         /* a vEVENTQ; 0: none */
} World;

/* Each returns 0 or -errno */
long destroy(World *w, uint32_t id);
long viommu_alloc(World *w, uint32_t type, void *data, uint32_t len);
long cmdqv_alloc(World *w);
long vdevice_alloc(World *w, uint32_t dev_id, uint64_t vsid, uint32_t *id);
long veventq_alloc(World *w, uint32_t type);
/* @id may be NULL */
long queue_alloc(World *w, uint32_t index, uint64_t iova, uint64_t length,
                 uint32_t *id);

int device_open(const char *name);
/* A bound device, an IOAS with the RAM, and a nesting parent */
World world_bind(const char *name);
/* With a vIOMMU of the type, its page 0 and a vDEVICE */
World world_open(const char *name);
void world_close(World *w);
/* How many objects of a type there are */
unsigned objects(const char *type);

/* test-cmdqv-hardware.c */
void test_hardware(void);

#endif /* HOST_MODEL_TEST_CMDQV_H */
