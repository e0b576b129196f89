/*
 * Tests of RAM that VFIO maps for devices: by its address
 *
 * The rest of QEMU is played by the stand-ins below.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "hw/vfio/vfio-common.h"
#include "hw/vfio/dma-file.h"

#define OFFSET  0x5000ull               /* of the part in the RAM */
#define IOVA    0x80000000ull
#define SIZE    0x3000ull
#define FD      77

static uint8_t memory[OFFSET + SIZE];

/* How the part was mapped last */
static struct {
    unsigned by_file, by_address;
    bool readonly;
} seen;

const MemoryRegionOps vfio_region_ops;

bool memory_region_is_ram_device(MemoryRegion *mr)
{
    return mr->ram_device;
}

void *memory_region_get_ram_ptr(MemoryRegion *mr)
{
    return mr->ram_block->host;
}

void memory_region_transaction_begin(void)
{
}

void memory_region_transaction_commit(void)
{
}

void memory_region_set_enabled(MemoryRegion *mr, bool enabled)
{
}

int vfio_container_dma_map(VFIOContainerBase *bcontainer, hwaddr iova,
                           ram_addr_t size, void *vaddr, bool readonly)
{
    g_assert_cmphex(iova, ==, IOVA);
    g_assert_cmphex(size, ==, SIZE);
    g_assert(vaddr == memory + OFFSET);
    seen.by_address++;
    seen.readonly = readonly;
    return 0;
}

static int map_file(const VFIOContainerBase *bcontainer, hwaddr iova,
                    ram_addr_t size, int fd, bool readonly)
{
    g_assert_cmphex(iova, ==, IOVA);
    g_assert_cmphex(size, ==, SIZE);
    g_assert_cmpint(fd, ==, FD);
    seen.by_file++;
    seen.readonly = readonly;
    return 0;
}

static const TypeInfo container_info = {
    .name = TYPE_VFIO_IOMMU,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(VFIOContainerBase),
    .class_size = sizeof(VFIOIOMMUClass),
};

/* Map a part of RAM, or with @bar of a BAR, where files can(not) be mapped */
static void map(bool files, bool bar, int fd, bool shared, bool readonly)
{
    Object *obj = object_new(TYPE_VFIO_IOMMU);
    RAMBlock block = {
        .host = memory, .fd = fd,
        .flags = shared ? RAM_SHARED : 0,
    };
    MemoryRegion slow = { .ops = &vfio_region_ops, .opaque = &block };
    MemoryRegion mr = {
        .ram_block = &block, .ram_device = bar, .container = bar ? &slow : NULL,
    };

    VFIO_IOMMU_GET_CLASS(obj)->dma_map_file = files ? map_file : NULL;
    seen.by_file = seen.by_address = 0;
    g_assert_cmpint(vfio_dma_map_region(VFIO_IOMMU(obj), &mr, OFFSET, IOVA,
                                        SIZE, readonly), ==, 0);
    g_assert_cmpint(seen.readonly, ==, readonly);
    object_unref(obj);
}

static void check(unsigned by_file, unsigned by_address)
{
    g_assert_cmpuint(seen.by_file, ==, by_file);
    g_assert_cmpuint(seen.by_address, ==, by_address);
}

/* By the file Linux would take its pages without regard to mbind() */
static void test_ram(void)
{
    for (int readonly = 0; readonly < 2; readonly++) {
        map(true, false, FD, true, readonly);
        check(0, 1);
        map(true, false, FD, false, readonly);
        check(0, 1);
        map(true, false, -1, true, readonly);
        check(0, 1);
    }
}

/* VFIO's own container maps by address only */
static void test_no_files(void)
{
    for (int readonly = 0; readonly < 2; readonly++) {
        map(false, false, FD, true, readonly);
        check(0, 1);
        map(false, false, -1, false, readonly);
        check(0, 1);
        map(false, true, -1, false, readonly);
        check(0, 1);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    module_call_init(MODULE_INIT_QOM);
    type_register_static(&container_info);
    g_test_add_func("/vfio/dma-file/ram", test_ram);
    g_test_add_func("/vfio/dma-file/no-files", test_no_files);
    return g_test_run();
}
