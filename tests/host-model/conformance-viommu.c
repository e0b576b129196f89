/*
 * IOMMU_VIOMMU_ALLOC and IOMMU_VDEVICE_ALLOC
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "conformance.h"

void test_viommu(void)
{
    World w = world_open();
    uint32_t plain, pasid, ids[3];
    const struct {
        const char *name;
        struct iommu_viommu_alloc arg;
        int want;
    } rows[] = {
        { "no type", { .type = 0 }, -EOPNOTSUPP },
        { "CMDQV's type", { .type = 2 }, w.cmdqv ? -EINVAL : -EOPNOTSUPP },
        { "CMDQV's type and its data", { .type = 2, .data_len = 16,
          .data_uptr = (uintptr_t)edge }, w.cmdqv ? 0 : -EOPNOTSUPP },
        { "CMDQV's type and no HWPT", { .type = 2, .hwpt_id = 999 },
          w.cmdqv ? -ENOENT : -EOPNOTSUPP },
        { "CMDQV's type and no device", { .type = 2, .dev_id = 999 },
          -ENOENT },
        { "an unknown type", { .type = 77 }, -EOPNOTSUPP },
        { "a flag", { .type = 1, .flags = 1 }, -EOPNOTSUPP },
        { "a reserved field", { .type = 1, .__reserved = 1 }, 0 },
        { "data though the type has none", { .type = 1, .data_len = 16,
          .data_uptr = (uintptr_t)edge }, 0 },
        { "no device", { .type = 1, .dev_id = 999 }, -ENOENT },
        { "no HWPT", { .type = 1, .hwpt_id = 999 }, -ENOENT },
        { "an unknown type and no HWPT", { .type = 77, .hwpt_id = 999 },
          -EOPNOTSUPP },
        { "an IOAS as its HWPT", { .type = 1, .hwpt_id = w.ioas }, -ENOENT },
        { "the device as its HWPT", { .type = 1, .hwpt_id = w.dev_id },
          -ENOENT },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct iommu_viommu_alloc arg = rows[i].arg;
        long ret;

        arg.size = sizeof(arg);
        arg.dev_id = arg.dev_id ?: w.dev_id;
        arg.hwpt_id = arg.hwpt_id ?: w.parent;
        ret = call(w.fd, IOMMU_VIOMMU_ALLOC, &arg);
        is(ret, rows[i].want, "VIOMMU_ALLOC with %s", rows[i].name);
        if (!ret) {
            destroy(w.fd, arg.out_viommu_id);
        }
    }
    hwpt_alloc(&w, w.ioas, 0, &plain);
    is(viommu_alloc(&w, plain, &ids[0]), -EINVAL,
       "VIOMMU_ALLOC on a HWPT that is no nesting parent");
    hwpt_alloc(&w, w.ioas, IOMMU_HWPT_ALLOC_PASID, &pasid);
    is(viommu_alloc(&w, pasid, &ids[0]), -EINVAL,
       "VIOMMU_ALLOC on a HWPT for PASIDs");
    is(viommu_alloc(&w, w.parent, &w.viommu), 0, "VIOMMU_ALLOC");
    is(viommu_alloc(&w, w.parent, &ids[0]), 0,
       "A second vIOMMU on the same HWPT");
    is(nested_alloc(&w, 1 | 4 << 1, 0, &ids[1]), 0, "A nested HWPT");
    is(viommu_alloc(&w, ids[1], &ids[2]), -ENOENT,
       "VIOMMU_ALLOC on a nested HWPT");

    is(vdevice_alloc(&w, 1ull << 32, &w.vdev), 0,
       "A vDEVICE with an ID of 33 bits");
    is(vdevice_alloc(&w, 5, &ids[2]), -EEXIST,
       "A second vDEVICE of the same device");
    destroy(w.fd, w.vdev);
    is(vdevice_alloc(&w, ~0ull, &w.vdev), 0, "A vDEVICE with an ID of 64 ones");
    destroy(w.fd, w.vdev);
    is(vdevice_alloc(&w, 0, &w.vdev), 0, "A vDEVICE with ID 0");
    {
        const struct {
            const char *name;
            struct iommu_vdevice_alloc arg;
            int want;
        } bad[] = {
            { "no vIOMMU", { .viommu_id = 999, .dev_id = w.dev_id }, -ENOENT },
            { "no device", { .viommu_id = w.viommu, .dev_id = 999 }, -ENOENT },
            { "neither", { .viommu_id = 999, .dev_id = 998 }, -ENOENT },
            { "both IDs swapped", { .viommu_id = w.dev_id,
              .dev_id = w.viommu }, -ENOENT },
            { "a HWPT as the vIOMMU", { .viommu_id = w.parent,
              .dev_id = w.dev_id }, -ENOENT },
            { "another vIOMMU, though it has one", { .viommu_id = ids[0],
              .dev_id = w.dev_id, .virt_id = 7 }, -EEXIST },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
            struct iommu_vdevice_alloc arg = bad[i].arg;

            arg.size = sizeof(arg);
            is(call(w.fd, IOMMU_VDEVICE_ALLOC, &arg), bad[i].want,
               "VDEVICE_ALLOC with %s", bad[i].name);
        }
    }
    world_close(&w);
}
