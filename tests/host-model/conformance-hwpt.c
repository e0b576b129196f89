/*
 * IOMMU_HWPT_ALLOC: flags, and which STEs of a guest the driver accepts
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include "conformance.h"

#define NEST    IOMMU_HWPT_ALLOC_NEST_PARENT
#define DIRTY   IOMMU_HWPT_ALLOC_DIRTY_TRACKING
#define FAULT   IOMMU_HWPT_FAULT_ID_VALID
#define PASID   IOMMU_HWPT_ALLOC_PASID

/* Whether the allocation succeeds.  The HWPT is destroyed again. */
static long try_hwpt(World *w, struct iommu_hwpt_alloc *arg)
{
    long ret;

    arg->size = sizeof(*arg);
    ret = call(w->fd, IOMMU_HWPT_ALLOC, arg);
    if (!ret) {
        destroy(w->fd, arg->out_hwpt_id);
    }
    return ret;
}

static void paging(World *w)
{
    /* The result of each combination of flags, without and with data */
    static const char *const want[16] = {
        "0", "0", "EOPNOTSUPP", "EOPNOTSUPP",
        "ENOENT", "EOPNOTSUPP", "EOPNOTSUPP", "EOPNOTSUPP",
        "0", "EOPNOTSUPP", "EOPNOTSUPP", "EOPNOTSUPP",
        "ENOENT", "EOPNOTSUPP", "EOPNOTSUPP", "EOPNOTSUPP",
    };
    struct iommu_hwpt_arm_smmuv3 ste = {};
    uint64_t accepted = 0;

    for (unsigned flags = 0; flags < 16; flags++) {
        struct iommu_hwpt_alloc arg = {
            .flags = flags,
            .dev_id = w->dev_id,
            .pt_id = w->ioas,
        };

        is_text(result_name(try_hwpt(w, &arg)), want[flags],
                "HWPT_ALLOC on an IOAS with %s%s%s%s%s", flags ? "" : "no flag",
                flags & NEST ? "|NEST_PARENT" : "",
                flags & DIRTY ? "|DIRTY_TRACKING" : "",
                flags & FAULT ? "|FAULT_ID_VALID" : "",
                flags & PASID ? "|PASID" : "");
    }
    for (unsigned bit = 0; bit < 32; bit++) {
        struct iommu_hwpt_alloc arg = {
            .flags = 1u << bit,
            .dev_id = w->dev_id,
            .pt_id = w->ioas,
        };

        accepted |= try_hwpt(w, &arg) != -EOPNOTSUPP ? 1ull << bit : 0;
    }
    is_hex(accepted, NEST | FAULT | PASID,
           "Single flags that HWPT_ALLOC knows");

    for (unsigned type = 0; type < 4; type++) {
        for (unsigned len = 0; len <= sizeof(ste); len += sizeof(ste)) {
            struct iommu_hwpt_alloc arg = {
                .dev_id = w->dev_id,
                .pt_id = w->ioas,
                .data_type = type,
                .data_len = len,
                .data_uptr = (uintptr_t)&ste,
            };

            is(try_hwpt(w, &arg), !type != !len ? -EINVAL :
               len ? -EOPNOTSUPP : 0,
               "HWPT_ALLOC on an IOAS with %u bytes of data type %u", len,
               type);
        }
    }
}

static void arguments(World *w)
{
    const struct {
        const char *name;
        struct iommu_hwpt_alloc arg;
        int want;
    } rows[] = {
        { "a reserved field", { .dev_id = w->dev_id, .pt_id = w->ioas,
          .__reserved = 1 }, -EOPNOTSUPP },
        { "a reserved field and no device", { .pt_id = w->ioas,
          .__reserved = 1 }, -EOPNOTSUPP },
        { "a second reserved field", { .dev_id = w->dev_id, .pt_id = w->ioas,
          .__reserved2 = 1 }, 0 },
        { "a fault ID without its flag", { .dev_id = w->dev_id,
          .pt_id = w->ioas, .fault_id = 777 }, 0 },
        { "no device", { .dev_id = 999, .pt_id = w->ioas }, -ENOENT },
        { "an IOAS as the device", { .dev_id = w->ioas, .pt_id = w->ioas },
          -ENOENT },
        { "an unknown parent", { .dev_id = w->dev_id, .pt_id = 999 },
          -EINVAL },
        { "a device as parent", { .dev_id = w->dev_id, .pt_id = w->dev_id },
          -EINVAL },
        { "a vDEVICE as parent", { .dev_id = w->dev_id, .pt_id = w->vdev },
          -EINVAL },
        { "a HWPT as parent", { .dev_id = w->dev_id, .pt_id = w->parent },
          -EOPNOTSUPP },
        { "a vIOMMU as parent, no data", { .dev_id = w->dev_id,
          .pt_id = w->viommu }, -EOPNOTSUPP },
        { "an unknown flag and no device", { .pt_id = w->ioas,
          .flags = 1 << 20 }, -ENOENT },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct iommu_hwpt_alloc arg = rows[i].arg;

        is(try_hwpt(w, &arg), rows[i].want, "HWPT_ALLOC with %s",
           rows[i].name);
    }
}

static long try_ste(World *w, uint64_t word0, uint64_t word1)
{
    uint32_t id;
    long ret = nested_alloc(w, word0, word1, &id);

    if (!ret) {
        destroy(w->fd, id);
    }
    return ret;
}

/* The data around the STE */
static void nested_data(World *w)
{
    uint64_t *ste = (uint64_t *)edge;
    const struct {
        const char *name;
        struct iommu_hwpt_alloc arg;
        int want;
    } rows[] = {
        { "an STE", { .data_type = 2, .data_len = 16 }, 0 },
        { "15 bytes of it", { .data_type = 2, .data_len = 15 }, -EINVAL },
        { "8 bytes of it", { .data_type = 2, .data_len = 8 }, -EINVAL },
        { "zeros after it", { .data_type = 2, .data_len = 24 },
          -EINVAL },
        { "a byte after it", { .data_type = 2, .data_len = 32 },
          -EINVAL },
        { "VT-d's data type", { .data_type = 1, .data_len = 16 }, -EINVAL },
        { "an unknown data type", { .data_type = 9, .data_len = 16 }, -EINVAL },
        { "no data type, but data", { .data_type = 0, .data_len = 16 },
          -EINVAL },
        { "a data type, but no data", { .data_type = 2 }, -EINVAL },
        { "NEST_PARENT", { .data_type = 2, .data_len = 16, .flags = NEST },
          -EOPNOTSUPP },
        { "DIRTY_TRACKING", { .data_type = 2, .data_len = 16, .flags = DIRTY },
          -EOPNOTSUPP },
        { "PASID", { .data_type = 2, .data_len = 16, .flags = PASID },
          -EOPNOTSUPP },
        { "an unknown fault queue", { .data_type = 2, .data_len = 16,
          .flags = FAULT, .fault_id = 999 }, -ENOENT },
        { "a vIOMMU as the fault queue", { .data_type = 2, .data_len = 16,
          .flags = FAULT, .fault_id = w->viommu }, -ENOENT },
    };

    memset(edge, 0, PAGE);
    edge[30] = 1;
    ste[0] = 1 | 4 << 1;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct iommu_hwpt_alloc arg = rows[i].arg;

        arg.dev_id = w->dev_id;
        arg.pt_id = w->viommu;
        arg.data_uptr = (uintptr_t)ste;
        is(try_hwpt(w, &arg), rows[i].want, "HWPT_ALLOC on a vIOMMU with %s",
           rows[i].name);
    }
    for (unsigned i = 0; i < 3; i++) {
        struct iommu_hwpt_alloc arg = {
            .dev_id = w->dev_id,
            .pt_id = w->viommu,
            .data_type = 2,
            .data_len = 16,
            .data_uptr = i == 0 ? 0 : (uintptr_t)edge + PAGE - (i == 2) * 8,
        };

        is(try_hwpt(w, &arg), -EFAULT, "HWPT_ALLOC with an STE %s",
           i == 0 ? "at 0" : i == 1 ? "that cannot be read" :
           "whose end cannot be read");
    }
}

/* Find the single bits that may change in @word0 and @word1. */
static void bits(World *w, const char *name, uint64_t word0, uint64_t word1,
                 uint64_t want0, uint64_t want1)
{
    uint64_t taken[2] = {};

    for (unsigned bit = 0; bit < 128; bit++) {
        uint64_t flip = 1ull << (bit & 63);

        if (!try_ste(w, word0 ^ (bit < 64 ? flip : 0),
                     word1 ^ (bit < 64 ? 0 : flip))) {
            taken[bit / 64] |= flip;
        }
    }
    is_hex(taken[0], want0, "Bits of word 0 that can change in %s", name);
    is_hex(taken[1], want1, "Bits of word 1 that can change in %s", name);
}

static void stes(World *w)
{
    /* S1Fmt, S1ContextPtr, S1CDMax */
    const uint64_t fields0 = 0xf80ffffffffffff0;
    /* S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS */
    const uint64_t fields1 = 0x180000ff;

    for (unsigned config = 0; config < 8; config++) {
        bool good = config == 0 || config == 4 || config == 5;

        is(try_ste(w, 1 | config << 1, 0), good ? 0 : -EIO,
           "An STE with V=1 Config=%u", config);
        is(try_ste(w, config << 1, 0), 0, "An STE with V=0 Config=%u", config);
    }
    for (unsigned eats = 0; eats < 4; eats++) {
        is(try_ste(w, 1 | 5 << 1, (uint64_t)eats << 28),
           eats < 2 ? 0 : -EIO, "A translating STE with EATS=%u", eats);
        is(try_ste(w, 1 | 4 << 1, (uint64_t)eats << 28),
           eats < 2 ? 0 : -EIO, "A bypass STE with EATS=%u", eats);
        is(try_ste(w, 1, (uint64_t)eats << 28),
           eats < 2 ? 0 : -EIO, "An abort STE with EATS=%u", eats);
    }
    is(try_ste(w, 0, 3ull << 28), 0, "An STE with V=0 EATS=3");
    is(try_ste(w, ~1ull, ~0ull), 0, "An STE of ones except V");
    is(try_ste(w, ~0ull, ~0ull), -EIO, "An STE of ones");
    bits(w, "an STE with V=0", 0, 0, ~0ull, ~0ull);
    /* bit 3: abort to bypass */
    bits(w, "an abort STE", 1, 0, fields0 | 1 | 1 << 3, fields1);
    bits(w, "a bypass STE", 1 | 4 << 1, 0, fields0 | 1 | 1 << 1 | 1 << 3,
         fields1);
    bits(w, "a translating STE", 1 | 5 << 1, 0, fields0 | 1 | 1 << 1, fields1);
    bits(w, "a translating STE with all fields", fields0 | 1 | 5 << 1,
         fields1, fields0 | 1 | 1 << 1, fields1);
}

void test_hwpt(void)
{
    World w = world_open();

    world_nest(&w);
    paging(&w);
    arguments(&w);
    nested_data(&w);
    stes(&w);
    world_close(&w);
}
