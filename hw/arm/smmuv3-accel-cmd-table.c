/*
 * Accelerated SMMUv3: what a command may hold
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A table of all opcodes: which are legal, which are forwarded, which of their
 * bits the host accepts, and what each bit depends on.  The fields of a guest's
 * own range invalidations too.  What a command does is in smmuv3-accel-cmdq.c.
 */

#include "qemu/osdep.h"
#include "hw/arm/smmuv3.h"
#include "smmuv3-accel-cmd-table.h"
#include "smmuv3-internal.h"     /* the architecture's constants */

/* Fields: the commands' own sections of IHI 0070, 4.3 to 4.7 */
#define CMD0_GLOBAL     BIT_ULL(9)              /* ATC_INV */
#define CMD0_SSEC       BIT_ULL(10)
#define CMD0_SSV        BIT_ULL(11)
#define CMD0_CS         MAKE_64BIT_MASK(12, 2)  /* CMD_SYNC */
#define CMD0_NUM        MAKE_64BIT_MASK(12, 5)  /* TLBI */
#define CMD0_SSID       MAKE_64BIT_MASK(12, 20)
#define CMD0_SCALE      MAKE_64BIT_MASK(20, 5)  /* TLBI, 6 bits with DS */
#define CMD0_SCALE_DS   BIT_ULL(25)
#define CMD0_SID        MAKE_64BIT_MASK(32, 32)
#define CMD0_ASID_LOW   MAKE_64BIT_MASK(48, 8)
#define CMD0_ASID_HIGH  MAKE_64BIT_MASK(56, 8)

#define CMD1_TTL        MAKE_64BIT_MASK(8, 2)
#define CMD1_ATC_SIZE   MAKE_64BIT_MASK(0, 6)

#define TG_16K          2

/*
 * Groups of bits that a command can have, and what the host needs in order to
 * accept them
 */
typedef enum CmdBits {
    BITS_ASID, BITS_ASID16, BITS_VA, BITS_RANGE, BITS_RANGE_DS, BITS_LEAF,
    BITS_SID, BITS_SSID, BITS_ATC, BITS_ATC_SSID,
    BITS__MAX,
} CmdBits;

typedef enum CmdNeed {
    NEED_NOTHING, NEED_ASID16, NEED_RIL, NEED_DS, NEED_SSIDS,
} CmdNeed;

static const struct {
    uint64_t word[2];
    CmdNeed need;
} cmd_bits[BITS__MAX] = {
    [BITS_ASID]     = { { CMD0_ASID_LOW, 0 } },
    [BITS_ASID16]   = { { CMD0_ASID_HIGH, 0 }, NEED_ASID16 },
    [BITS_VA]       = { { 0, CMD1_ADDR } },
    [BITS_RANGE]    = { { CMD0_NUM | CMD0_SCALE, CMD1_TG | CMD1_TTL },
                        NEED_RIL },
    [BITS_RANGE_DS] = { { CMD0_SCALE_DS, 0 }, NEED_DS },
    [BITS_LEAF]     = { { 0, CMD1_LEAF } },
    [BITS_SID]      = { { CMD0_SID, 0 } },
    [BITS_SSID]     = { { CMD0_SSID, 0 }, NEED_SSIDS },
    [BITS_ATC]      = { { 0, CMD1_ADDR | CMD1_ATC_SIZE } },
    [BITS_ATC_SSID] = { { CMD0_SSV | CMD0_SSID | CMD0_GLOBAL, 0 }, NEED_SSIDS },
};

#define BITS_PAGE (BIT(BITS_VA) | BIT(BITS_RANGE) | BIT(BITS_RANGE_DS) | \
                  BIT(BITS_LEAF))
#define BITS_ANY_ASID (BIT(BITS_ASID) | BIT(BITS_ASID16))

/*
 * Every legal command of an SMMU that has stage 1 only, and that has no EL2
 * regime, Secure state, stalls, PRI, MPAM and DPT; IHI 0070 4.1.1.
 */
static const SMMUv3AccelCmdType types[0x100] = {
    [SMMU_CMD_PREFETCH_CONFIG] = { SMMUV3_ACCEL_CMD_LOCAL, .ssec = true },
    [SMMU_CMD_PREFETCH_ADDR] = { SMMUV3_ACCEL_CMD_LOCAL, .ssec = true },
    [SMMU_CMD_CFGI_STE] = { SMMUV3_ACCEL_CMD_LOCAL, .ssec = true },
    [SMMU_CMD_CFGI_STE_RANGE] = { SMMUV3_ACCEL_CMD_LOCAL, .ssec = true },
    [SMMU_CMD_CFGI_CD] = {
        SMMUV3_ACCEL_CMD_STREAM,
        BIT(BITS_SID) | BIT(BITS_SSID) | BIT(BITS_LEAF), .ssec = true,
    },
    [SMMU_CMD_CFGI_CD_ALL] = {
        SMMUV3_ACCEL_CMD_STREAM, BIT(BITS_SID), .ssec = true,
    },
    [SMMU_CMD_TLBI_NH_ALL] = { SMMUV3_ACCEL_CMD_TLB, .all = true },
    [SMMU_CMD_TLBI_NH_ASID] = {
        SMMUV3_ACCEL_CMD_TLB, BITS_ANY_ASID, .vcmdq = true,
    },
    [SMMU_CMD_TLBI_NH_VA] = {
        SMMUV3_ACCEL_CMD_TLB, BITS_ANY_ASID | BITS_PAGE, .page = true,
        .vcmdq = true,
    },
    [SMMU_CMD_TLBI_NH_VAA] = {
        SMMUV3_ACCEL_CMD_TLB, BITS_PAGE, .page = true,
    },
    [SMMU_CMD_TLBI_NSNH_ALL] = { SMMUV3_ACCEL_CMD_TLB, .all = true },
    [SMMU_CMD_ATC_INV] = {
        SMMUV3_ACCEL_CMD_STREAM,
        BIT(BITS_SID) | BIT(BITS_ATC) | BIT(BITS_ATC_SSID), .ats = true,
        .smmuen = true, .vcmdq = true,
    },
    [SMMU_CMD_SYNC] = { SMMUV3_ACCEL_CMD_LOCAL, .vcmdq = true },
};

const SMMUv3AccelCmdType *smmuv3_accel_cmd_type(uint8_t opcode)
{
    return &types[opcode];
}

static bool is_met(const SMMUv3AccelCmdRules *rules, CmdNeed need)
{
    switch (need) {
    case NEED_ASID16:
        return rules->asid16;
    case NEED_RIL:
        return rules->ril;
    case NEED_DS:
        return rules->ril && rules->ds;
    case NEED_SSIDS:
        return rules->ssidsize;
    default:
        return true;
    }
}

/*
 * Drop reserved values of the range fields that the table cannot express (IHI
 * 0070 4.4.1.1).  TTL is a hint that names one level; without it the command
 * concerns all levels.  So the command invalidates at least as much as before.
 */
static void clean_range(uint64_t cmd[2])
{
    const uint64_t range = CMD0_NUM | CMD0_SCALE | CMD0_SCALE_DS;
    unsigned tg = extract64(cmd[1], 10, 2);
    unsigned ttl = extract64(cmd[1], 8, 2);

    if (tg == TG_16K && ttl == 1) {
        cmd[1] &= ~CMD1_TTL;
    }
    if (!tg || !((cmd[0] & range) | (cmd[1] & CMD1_TTL))) {
        cmd[0] &= ~range;
        cmd[1] &= ~(CMD1_TG | CMD1_TTL);
    }
}

static bool is_legal(const SMMUv3AccelCmdRules *rules,
                     const SMMUv3AccelCmdType *type, const uint64_t cmd[2])
{
    if (type->kind == SMMUV3_ACCEL_CMD_ILLEGAL ||
        (type->ssec && (cmd[0] & CMD0_SSEC)) || (type->ats && !rules->ats)) {
        return false;
    }
    return (cmd[0] & CMD0_OP) != SMMU_CMD_SYNC ||
           (cmd[0] & CMD0_CS) != CMD0_CS;
}

SMMUv3AccelCmdKind smmuv3_accel_cmd_prepare(const SMMUv3AccelCmdRules *rules,
                                            const uint64_t cmd[2],
                                            SMMUv3HostCmd *out)
{
    const SMMUv3AccelCmdType *type = smmuv3_accel_cmd_type(cmd[0] & CMD0_OP);
    uint64_t clean[2], may[2] = { CMD0_OP, 0 };

    if (!is_legal(rules, type, cmd)) {
        return SMMUV3_ACCEL_CMD_ILLEGAL;
    }
    if (type->smmuen && !rules->smmuen) {
        return SMMUV3_ACCEL_CMD_IGNORED;
    }
    if (type->kind == SMMUV3_ACCEL_CMD_LOCAL) {
        return type->kind;
    }
    for (unsigned bits = type->bits; bits; bits &= bits - 1) {
        unsigned group = ctz32(bits);

        if (is_met(rules, cmd_bits[group].need)) {
            may[0] |= cmd_bits[group].word[0];
            may[1] |= cmd_bits[group].word[1];
        }
    }
    clean[0] = cmd[0] & may[0];
    clean[1] = cmd[1] & may[1];
    if (type->page) {
        clean_range(clean);
    }
    if ((type->bits & BIT(BITS_ATC)) &&
        (clean[1] & CMD1_ATC_SIZE) > SMMUV3_ATC_SIZE_ALL) {
        clean[1] = SMMUV3_ATC_SIZE_ALL;
    }
    out->word[0] = cpu_to_le64(clean[0]);
    out->word[1] = cpu_to_le64(clean[1]);
    return type->kind;
}

bool smmuv3_accel_cmd_is_for_vcmdq(const uint64_t cmd[2])
{
    return smmuv3_accel_cmd_type(cmd[0] & CMD0_OP)->vcmdq &&
           ((cmd[0] & CMD0_OP) != SMMU_CMD_SYNC || !(cmd[0] & CMD0_CS));
}

bool smmuv3_accel_cmd_is_atc_inv(const SMMUv3HostCmd *cmd)
{
    return (le64_to_cpu(cmd->word[0]) & CMD0_OP) == SMMU_CMD_ATC_INV;
}

SMMUv3HostCmd smmuv3_accel_cmd_cfgi_cd_all(uint32_t sid)
{
    SMMUv3HostCmd cmd = { { cpu_to_le64(SMMU_CMD_CFGI_CD_ALL), 0 } };

    smmuv3_accel_cmd_set_sid(&cmd, sid);
    return cmd;
}
