/*
 * Accelerated SMMUv3: what a command may hold
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_SMMUV3_ACCEL_CMD_TABLE_H
#define HW_ARM_SMMUV3_ACCEL_CMD_TABLE_H

#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "smmuv3-accel-host.h"

/* Fields that all TLBIs of an address have (IHI 0070 4.4), and the opcode */
#define CMD0_OP         MAKE_64BIT_MASK(0, 8)
#define CMD1_LEAF       BIT_ULL(0)
#define CMD1_TG         MAKE_64BIT_MASK(10, 2)
#define CMD1_ADDR       MAKE_64BIT_MASK(12, 52)

/*
 * What a command may hold according to the ID registers of guest and host;
 * smmuv3_accel_cmd_rules() makes it
 */
typedef struct SMMUv3AccelCmdRules {
    bool ril;           /* guest's IDR3.RIL, never without the host's */
    bool asid16;        /* guest's IDR0.ASID16, likewise */
    bool ats;           /* guest's IDR0.ATS, likewise */
    bool ds;            /* guest's IDR5.DS, likewise */
    bool smmuen;        /* guest's CR0.SMMUEN, now */
    uint8_t ssidsize;   /* guest's IDR1.SSIDSIZE */
    /* Granules for smmuv3_accel_batch_to_ranges() */
    uint8_t page_ranges;
} SMMUv3AccelCmdRules;

typedef enum SMMUv3AccelCmdKind {
    SMMUV3_ACCEL_CMD_ILLEGAL,   /* CERROR_ILL */
    SMMUV3_ACCEL_CMD_LOCAL,     /* QEMU carries it out, it is not forwarded */
    SMMUV3_ACCEL_CMD_TLB,       /* for the host; holds no StreamID */
    SMMUV3_ACCEL_CMD_STREAM,    /* for the host, if it knows the StreamID */
    SMMUV3_ACCEL_CMD_IGNORED,   /* legal, without effect at present */
} SMMUv3AccelCmdKind;

/* What the opcode of a command determines */
typedef struct SMMUv3AccelCmdType {
    SMMUv3AccelCmdKind kind;
    uint16_t bits;              /* that may be set; private to the table */
    bool ssec;                  /* has SSec: there is no Secure state here */
    bool ats;                   /* ILLEGAL without ATS */
    bool smmuen;                /* IGNORED while SMMUEN is 0 */
    bool all;                   /* invalidates all of the TLB */
    bool page;                  /* invalidates one page or range of the TLB */
    bool vcmdq;                 /* a VCMDQ that a guest owns takes it too */
} SMMUv3AccelCmdType;

/* Type of any opcode of 8 bits; its kind is ILLEGAL if there is no command */
const SMMUv3AccelCmdType *smmuv3_accel_cmd_type(uint8_t opcode);

/**
 * smmuv3_accel_cmd_prepare: classify a command and clean it for the host
 * @rules: what it may hold
 * @cmd: two 64-bit words, host endian
 * @out: the command to forward, little endian; for TLB and STREAM only
 *
 * IHI 0070 4.1.1 (opcodes), 4.3 (CFGI), 4.4 (TLBI), 4.5 (ATC_INV), 4.7.3
 * (CMD_SYNC).  The function drops RES0 bits, which 4.1.5 allows.  These are
 * ILLEGAL: reserved opcodes, opcodes of features that the guest's SMMU does not
 * have, SSec in a command that has that bit, and a CMD_SYNC whose CS is
 * reserved.  An ATC_INV is IGNORED while SMMUEN is 0 (4.5.1), because no device
 * has a translation then; an ILLEGAL one is not (4.1.3).
 *
 * A command with TG whose NUM, SCALE and TTL are all 0 should be ILLEGAL too
 * (4.4.1.1), and a host refuses it (Linux, arm_vsmmu_validate_range()).  This
 * function drops the TG, so that the command invalidates the page in every
 * granule.  Some versions of Linux issue it for a single page whose level they
 * do not know.  Newer ones avoid that (arm_smmu_cmdq_batch_add_range(),
 * "num_pages++").  CERROR_ILL would stop the queue of a guest that works on
 * hardware.
 */
SMMUv3AccelCmdKind smmuv3_accel_cmd_prepare(const SMMUv3AccelCmdRules *rules,
                                            const uint64_t cmd[2],
                                            SMMUv3HostCmd *out);

/*
 * May a VCMDQ that a guest owns hold @cmd?  It takes TLBI_NH_VA, TLBI_NH_ASID,
 * ATC_INV, and a CMD_SYNC without a completion signal (Linux,
 * tegra241_guest_vcmdq_supports_cmd()).
 */
bool smmuv3_accel_cmd_is_for_vcmdq(const uint64_t cmd[2]);

/* A CFGI_CD_ALL for StreamID @sid, prepared (IHI 0070 4.3.4) */
SMMUv3HostCmd smmuv3_accel_cmd_cfgi_cd_all(uint32_t sid);

/* Is @cmd, which is prepared, an ATC_INV? (IHI 0070 4.5.1) */
bool smmuv3_accel_cmd_is_atc_inv(const SMMUv3HostCmd *cmd);

/* Set the StreamID of a prepared command of kind STREAM to @sid */
static inline void smmuv3_accel_cmd_set_sid(SMMUv3HostCmd *cmd, uint32_t sid)
{
    cmd->word[0] = cpu_to_le64(deposit64(le64_to_cpu(cmd->word[0]), 32, 32,
                                         sid));
}

#endif
