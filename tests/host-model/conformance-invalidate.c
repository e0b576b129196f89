/*
 * IOMMU_HWPT_INVALIDATE: which commands the driver accepts, and its results
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include <stdlib.h>
#include "conformance.h"

enum {
    CFGI_CD = 0x05,
    CFGI_CD_ALL = 0x06,
    NH_ALL = 0x10,
    NH_ASID = 0x11,
    NH_VA = 0x12,
    NH_VAA = 0x13,
    NSNH_ALL = 0x30,
    ATC_INV = 0x40,
};

#define SID     ((uint64_t)VSID << 32)
#define TYPE    IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3

static long invalidate(World *w, const void *cmds, uint32_t *num)
{
    struct iommu_hwpt_invalidate arg = {
        .size = sizeof(arg),
        .hwpt_id = w->viommu,
        .data_type = TYPE,
        .data_uptr = (uintptr_t)cmds,
        .entry_len = 16,
        .entry_num = *num,
    };
    long ret = call(w->fd, IOMMU_HWPT_INVALIDATE, &arg);

    *num = arg.entry_num;
    return ret;
}

static long one(World *w, uint64_t word0, uint64_t word1)
{
    uint64_t cmd[2] = { word0, word1 };
    uint32_t num = 1;

    return invalidate(w, cmd, &num);
}

/* The result, and how many commands are reported as done */
static const char *with_num(long ret, uint32_t num)
{
    static char texts[2][64];
    static unsigned turn;
    char *text = texts[turn++ % 2];

    snprintf(text, sizeof(texts[0]), "%s, entry_num %u", result_name(ret), num);
    return text;
}

static void arguments(World *w, uint32_t nested)
{
    /* 32 bytes per command: the second has a byte after its end. */
    static const uint64_t cmds[8] = { NH_ALL, 0, 0, 0, NH_ALL, 0, 0, 1 };
    const struct {
        const char *name;
        struct iommu_hwpt_invalidate arg;
        const char *want;
    } rows[] = {
        { "no entry", { .entry_len = 16, .data_type = TYPE },
          "EINVAL, entry_num 0" },
        { "no entry of no length at 0", { .data_uptr = 0 },
          "EINVAL, entry_num 0" },
        { "no entry of another data type", { .data_type = 1 },
          "EINVAL, entry_num 0" },
        { "an entry at 0", { .data_type = TYPE, .entry_len = 16,
          .entry_num = 1 }, "EINVAL, entry_num 0" },
        { "an entry of no length", { .data_type = TYPE, .entry_num = 1,
          .data_uptr = (uintptr_t)cmds }, "EINVAL, entry_num 0" },
        { "an entry of 8 bytes", { .data_type = TYPE, .entry_num = 1,
          .entry_len = 8, .data_uptr = (uintptr_t)cmds },
          "0, entry_num 1" },
        { "an entry of 15 bytes", { .data_type = TYPE, .entry_num = 1,
          .entry_len = 15, .data_uptr = (uintptr_t)cmds },
          "0, entry_num 1" },
        { "an entry of 1 byte", { .data_type = TYPE, .entry_num = 1,
          .entry_len = 1, .data_uptr = (uintptr_t)cmds },
          "0, entry_num 1" },
        { "an entry of 32 bytes", { .data_type = TYPE, .entry_num = 1,
          .entry_len = 32, .data_uptr = (uintptr_t)cmds },
          "0, entry_num 1" },
        { "two entries of 32 bytes, the second with a byte too much",
          { .data_type = TYPE, .entry_num = 2, .entry_len = 32,
          .data_uptr = (uintptr_t)cmds }, "E2BIG, entry_num 0" },
        { "an entry of 4097 bytes", { .data_type = TYPE, .entry_num = 1,
          .entry_len = 4097, .data_uptr = (uintptr_t)cmds },
          "EINVAL, entry_num 0" },
        { "524289 entries", { .data_type = TYPE, .entry_num = 524289,
          .entry_len = 16, .data_uptr = (uintptr_t)cmds },
          "EINVAL, entry_num 0" },
        { "524288 entries", { .data_type = TYPE, .entry_num = 524288,
          .entry_len = 16, .data_uptr = (uintptr_t)cmds },
          "ENOMEM, entry_num 524288" },
        { "data type 0", { .data_type = 0, .entry_num = 1, .entry_len = 16,
          .data_uptr = (uintptr_t)cmds }, "EINVAL, entry_num 0" },
        { "data type 2", { .data_type = 2, .entry_num = 1, .entry_len = 16,
          .data_uptr = (uintptr_t)cmds }, "EINVAL, entry_num 0" },
        { "a reserved field", { .data_type = TYPE, .entry_num = 1,
          .entry_len = 16, .data_uptr = (uintptr_t)cmds, .__reserved = 1 },
          "EOPNOTSUPP, entry_num 0" },
        { "an entry that cannot be read", { .data_type = TYPE, .entry_num = 1,
          .entry_len = 16, .data_uptr = (uintptr_t)edge + PAGE },
          "EFAULT, entry_num 0" },
        { "a second entry that cannot be read", { .data_type = TYPE,
          .entry_num = 2, .entry_len = 16,
          .data_uptr = (uintptr_t)edge + PAGE - 16 }, "EFAULT, entry_num 0" },
        { "an unknown ID", { .hwpt_id = 999, .data_type = TYPE,
          .entry_num = 1, .entry_len = 16, .data_uptr = (uintptr_t)cmds },
          "ENOENT, entry_num 0" },
        { "an unknown ID and no entry", { .hwpt_id = 999 },
          "ENOENT, entry_num 0" },
        { "an IOAS", { .hwpt_id = w->ioas, .data_type = TYPE, .entry_num = 1,
          .entry_len = 16, .data_uptr = (uintptr_t)cmds },
          "EINVAL, entry_num 0" },
        { "a nesting parent", { .hwpt_id = w->parent, .data_type = TYPE,
          .entry_num = 1, .entry_len = 16, .data_uptr = (uintptr_t)cmds },
          "EINVAL, entry_num 0" },
        { "a nested HWPT", { .hwpt_id = nested, .data_type = TYPE,
          .entry_num = 1, .entry_len = 16, .data_uptr = (uintptr_t)cmds },
          "EOPNOTSUPP, entry_num 0" },
        { "a vDEVICE", { .hwpt_id = w->vdev, .data_type = TYPE,
          .entry_num = 1, .entry_len = 16, .data_uptr = (uintptr_t)cmds },
          "EINVAL, entry_num 0" },
    };

    memset(edge, 0, PAGE);
    edge[PAGE - 16] = NH_ALL;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct iommu_hwpt_invalidate arg = rows[i].arg;
        long ret;

        arg.size = sizeof(arg);
        arg.hwpt_id = arg.hwpt_id ?: w->viommu;
        ret = call(w->fd, IOMMU_HWPT_INVALIDATE, &arg);
        is_text(with_num(ret, arg.entry_num), rows[i].want,
                "HWPT_INVALIDATE with %s", rows[i].name);
    }
}

/* Find the single bits that may change in a command. */
static void bits(World *w, const char *name, uint64_t word0, uint64_t word1,
                 uint64_t want0, uint64_t want1)
{
    uint64_t taken[2] = {};

    is(one(w, word0, word1), 0, "%s", name);
    for (unsigned bit = 0; bit < 128; bit++) {
        uint64_t flip = 1ull << (bit & 63);

        if (bit >= 8 && !one(w, word0 ^ (bit < 64 ? flip : 0),
                             word1 ^ (bit < 64 ? 0 : flip))) {
            taken[bit / 64] |= flip;
        }
    }
    is_hex(taken[0], want0, "Bits of word 0 that can change in %s", name);
    is_hex(taken[1], want1, "Bits of word 1 that can change in %s", name);
}

static void commands(World *w)
{
    const uint64_t vmid = 0xffffull << 32, asid = 0xffffull << 48;
    const uint64_t addr = ~0xfffull, num = 0x1f000, scale = 0x1f00000;
    const uint64_t num1 = 1 << 12, tg4k = 1 << 10, ssv = 1 << 11;
    const uint64_t ssid = ssid_bits(w) ? 0xfffff000 : 0;
    char got[400] = "";

    for (unsigned op = 0; op < 256; op++) {
        if (!one(w, op | SID, 0) || !one(w, op, 0)) {
            sprintf(got + strlen(got), " %02x", op);
        }
    }
    is_text(got, has_ats(w) ? " 05 06 10 11 12 13 30 40"
                            : " 05 06 10 11 12 13 30",
            "Opcodes that are accepted");

    bits(w, "TLBI_NSNH_ALL", NSNH_ALL, 0, 0, 0);
    bits(w, "TLBI_NH_ALL", NH_ALL, 0, vmid, 0);
    bits(w, "TLBI_NH_ASID", NH_ASID, 0, vmid | asid, 0);
    bits(w, "TLBI_NH_VA", NH_VA, 0, vmid | asid, addr | 1);
    bits(w, "TLBI_NH_VAA", NH_VAA, 0, vmid, addr | 1);
    bits(w, "TLBI_NH_VA of a range", NH_VA | num1, tg4k,
         vmid | asid | (num ^ num1) | scale, addr | 1 | 3 << 8 | 1 << 11);
    bits(w, "TLBI_NH_VAA of a range", NH_VAA | num1, tg4k,
         vmid | (num ^ num1) | scale, addr | 1 | 3 << 8 | 1 << 11);
    bits(w, "TLBI_NH_VA with TTL=3", NH_VA, tg4k | 3 << 8,
         vmid | asid | num | scale, addr | 1 | 3 << 8 | 1 << 11);
    bits(w, "CFGI_CD", CFGI_CD | SID, 0, ssid, 1);
    bits(w, "CFGI_CD_ALL", CFGI_CD_ALL | SID, 0, 0, 0);

    if (has_ats(w)) {
        /* Without SSV, SSID and Global are ignored, but they are no error. */
        bits(w, "ATC_INV", ATC_INV | SID, 0, ssid ? ssid | ssv | 1 << 9 : 0,
             addr | 0x3f);
        is(one(w, ATC_INV | SID, addr | 52), 0, "ATC_INV of all");
        is(one(w, ATC_INV | SID, 53), -EIO, "ATC_INV with Size=53");
        is(one(w, ATC_INV | SID, 63), -EIO, "ATC_INV with Size=63");
        is(one(w, ATC_INV, 0), -EIO, "ATC_INV with StreamID 0");
    } else {
        is(one(w, ATC_INV | SID, 0), -EIO, "ATC_INV without ATS on the host");
        is(one(w, ATC_INV | SID, 52), -EIO, "ATC_INV of all without that");
    }
    is(one(w, CFGI_CD, 0), -EIO, "CFGI_CD with StreamID 0");
    is(one(w, CFGI_CD | SID << 8, 0), -EIO, "CFGI_CD with another StreamID");
    is(one(w, CFGI_CD_ALL | 0xffffffffull << 32, 0), -EIO,
       "CFGI_CD_ALL with the largest StreamID");
    is(one(w, CFGI_CD | SID | ssv, 0), -EIO, "CFGI_CD with SSV");
    is(one(w, NH_VA | vmid | asid, addr | 1), 0,
       "TLBI_NH_VA with all of VMID, ASID, address and Leaf");
}

/* Which combinations of TG, TTL, NUM and SCALE are illegal */
static void ranges(World *w)
{
    static const char *const want[4][4] = {
        /* TTL=0, 1, 2, 3: with neither, NUM, SCALE, both */
        { "1000", "0000", "0000", "0000" },
        { "0111", "1111", "1111", "1111" },
        { "0111", "0000", "1111", "1111" },
        { "0111", "1111", "1111", "1111" },
    };

    for (unsigned tg = 0; tg < 4; tg++) {
        for (unsigned ttl = 0; ttl < 4; ttl++) {
            char got[5] = "";

            for (unsigned i = 0; i < 4; i++) {
                uint64_t word0 = NH_VA | (i & 1 ? 2 << 12 : 0) |
                                 (i & 2 ? 3 << 20 : 0);

                got[i] = one(w, word0, tg << 10 | ttl << 8) ? '0' : '1';
            }
            is_text(got, want[tg][ttl], "TLBI_NH_VA with TG=%u TTL=%u and "
                    "nothing, NUM, SCALE, both: taken", tg, ttl);
        }
    }
    is(one(w, NH_VA | 31 << 20 | 31 << 12, 1 << 10), 0,
       "TLBI_NH_VA with SCALE=31 NUM=31 TG=1");
    is(one(w, NH_VA | 32 << 20, 1 << 10), -EIO, "TLBI_NH_VA with SCALE=32");
}

/* @n commands, of which number @bad is wrong */
static void batch(World *w, unsigned n, unsigned bad, uint64_t cmd,
                  const char *want)
{
    uint64_t (*cmds)[2] = calloc(n, sizeof(*cmds));
    uint32_t num = n;
    long ret;

    for (unsigned i = 0; i < n; i++) {
        cmds[i][0] = i == bad ? cmd : NH_VA;
        cmds[i][1] = (uint64_t)i << 12;
    }
    ret = invalidate(w, cmds, &num);
    if (bad < n) {
        is_text(with_num(ret, num), want, "%u commands, number %u is %s", n,
                bad, cmd ? "for another device" : "illegal");
    } else {
        is_text(with_num(ret, num), want, "%u commands", n);
    }
    free(cmds);
}

static void batches(World *w)
{
    static const unsigned sizes[] = {
        1, 2, 62, 63, 64, 65, 126, 127, 128, 200, 1000, 65536, 262144,
    };
    static const unsigned bad[] = { 0, 1, 61, 62, 63, 64, 65, 125, 126, 127,
                                    199 };
    char want[64];

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        snprintf(want, sizeof(want), "0, entry_num %u", sizes[i]);
        batch(w, sizes[i], UINT32_MAX, 0, want);
    }
    batch(w, 262145, UINT32_MAX, 0, "ENOMEM, entry_num 262145");
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(want, sizeof(want), "EIO, entry_num %u", bad[i]);
        batch(w, 200, bad[i], 0, want);
    }
    batch(w, 1, 0, 0, "EIO, entry_num 0");
    batch(w, 64, 63, 0, "EIO, entry_num 63");
    batch(w, 200, 100, CFGI_CD, "EIO, entry_num 100");
}

void test_invalidate(void)
{
    World w = world_open();
    uint32_t nested;

    world_nest(&w);
    nested_alloc(&w, 0, 0, &nested);
    arguments(&w, nested);
    commands(&w);
    ranges(&w);
    batches(&w);
    is(destroy(w.fd, w.vdev), 0, "DESTROY of the vDEVICE");
    is(one(&w, CFGI_CD | SID, 0), -EIO, "CFGI_CD without the vDEVICE");
    is(one(&w, NH_ALL, 0), 0, "TLBI_NH_ALL without a vDEVICE");
    world_close(&w);
}
