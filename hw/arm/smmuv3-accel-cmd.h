/*
 * Accelerated SMMUv3: what a command may be
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_SMMUV3_ACCEL_CMD_H
#define HW_ARM_SMMUV3_ACCEL_CMD_H

#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "smmuv3-accel-host.h"

/*
 * What a command may hold, by the guest's ID registers and the host's; made by
 * smmuv3_accel_cmd_rules()
 */
typedef struct SMMUv3AccelCmdRules {
    bool ril;           /* guest's IDR3.RIL, never without the host's */
    bool asid16;        /* guest's IDR0.ASID16, likewise */
    bool ats;           /* guest's IDR0.ATS, likewise */
    bool ds;            /* host's IDR5.DS */
    uint8_t ssidsize;   /* guest's IDR1.SSIDSIZE */
    /* Granules for smmuv3_accel_batch_to_ranges() */
    uint8_t page_ranges;
} SMMUv3AccelCmdRules;

typedef enum SMMUv3AccelCmdKind {
    SMMUV3_ACCEL_CMD_ILLEGAL,   /* CERROR_ILL */
    SMMUV3_ACCEL_CMD_LOCAL,     /* QEMU's, not forwarded */
    SMMUV3_ACCEL_CMD_TLB,       /* for the host; holds no StreamID */
    SMMUV3_ACCEL_CMD_STREAM,    /* for the host, if it knows the StreamID */
} SMMUv3AccelCmdKind;

/* What is known of a command by its opcode */
typedef struct SMMUv3AccelCmdType {
    SMMUv3AccelCmdKind kind;
    uint16_t bits;              /* which may be set, for smmuv3-accel-cmd.c */
    bool ssec;                  /* has SSec: there is no Secure state here */
    bool ats;                   /* ILLEGAL without ATS */
    bool all;                   /* invalidates all of the TLB */
    bool page;                  /* invalidates one page or range of the TLB */
} SMMUv3AccelCmdType;

/* Type of any opcode of 8 bits; kind ILLEGAL where there is none */
const SMMUv3AccelCmdType *smmuv3_accel_cmd_type(uint8_t opcode);

/**
 * smmuv3_accel_cmd_prepare: classify a command and clean it for the host
 * @rules: what it may hold
 * @cmd: two 64-bit words, host endian
 * @out: the command to forward, little endian; for TLB and STREAM only
 *
 * IHI 0070 4.1.1 (opcodes), 4.3 (CFGI), 4.4 (TLBI), 4.5 (ATC_INV), 4.7.3
 * (CMD_SYNC).  RES0 bits are dropped, as 4.1.5 lets an SMMU do.  So is a TG
 * beside NUM, SCALE and TTL of 0: 4.4.1.1 makes that ILLEGAL, and some Linux
 * guests issue it.  ILLEGAL are reserved opcodes, those of features that the
 * guest's SMMU does not have, SSec where a command has it, and a CMD_SYNC whose
 * CS is reserved.
 */
SMMUv3AccelCmdKind smmuv3_accel_cmd_prepare(const SMMUv3AccelCmdRules *rules,
                                            const uint64_t cmd[2],
                                            SMMUv3HostCmd *out);

/* A CFGI_CD_ALL for StreamID @sid, prepared (IHI 0070 4.3.4) */
SMMUv3HostCmd smmuv3_accel_cmd_cfgi_cd_all(uint32_t sid);

/* Have a prepared command of kind STREAM name StreamID @sid */
static inline void smmuv3_accel_cmd_set_sid(SMMUv3HostCmd *cmd, uint32_t sid)
{
    cmd->word[0] = cpu_to_le64(deposit64(le64_to_cpu(cmd->word[0]), 32, 32,
                                         sid));
}

#endif
