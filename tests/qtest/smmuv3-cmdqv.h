/*
 * QTests of a CMDQV: what a guest's driver does
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The registers are those that Linux expects (tegra241-cmdqv.c).
 */
#ifndef TESTS_QTEST_SMMUV3_CMDQV_H
#define TESTS_QTEST_SMMUV3_CMDQV_H

#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

/* Where the board puts the registers: aligned to their size */
#define CMDQV           (VIRT_PLATFORM_BUS_BASE + CMDQV_STRIDE)
#define CMDQV_SIZE      0x50000
#define CMDQV_STRIDE    0x80000 /* to those of the next SMMU */

/* Pages of 64 KiB */
#define CONFIG_PAGE     0x00000
#define GLOBAL          0x10000 /* page 1 follows */
#define LOGICAL         0x30000

#define N_QUEUES        2

#define CONFIG          0x0000
#define PARAM           0x0004
#define STATUS          0x0008
#define VINTF_ERR_MAP   0x0014
#define VINTF_INT_MASK  0x001c
#define CMDQ_ERR_MAP    0x0024
#define ALLOC(q)        (0x0200 + 4 * (q))
#define VINTF_CONFIG    0x1000
#define VINTF_STATUS    0x1004
#define LVCMDQ_ERR_MAP  0x10c0

#define ALLOC_LVCMDQ(l) ((l) << 1)
#define ALLOC_ALLOCATED 1u
#define HYP_OWN         (1u << 17)
#define ENABLE          1u

/* Of a queue, in page 0 and page 1 */
#define CONS            0x00
#define PROD            0x04
#define QCONFIG         0x08
#define QSTATUS         0x0c
#define GERROR          0x10
#define GERRORN         0x14
#define BASE            0x10000

#define LOG2            4       /* of the entries of the test's queues */
#define WRAP            ((2u << LOG2) - 1)

#define GSIV_CMDQV      148
#define GSIVS           5       /* of an SMMU with its CMDQV */

#define TAG(n)          (0xc0de00ull + (n))
#define WATCHDOG_S      120

typedef struct CmdqvBed {
    HostGuest *g;
    unsigned dev;               /* which device, and which SMMU */
    uint64_t queue[N_QUEUES];
    uint32_t prod[N_QUEUES];
    uint64_t *pte;              /* of HOST_VA */
    uint64_t page[2];           /* with TAG(0) and TAG(1) */
} CmdqvBed;

/*
 * The bed: a device that translates HOST_VA to page[0], if @config has one at
 * start; the SMMU is enabled, the CMDQV is not.  Free it with cmdqv_bed_free().
 */
CmdqvBed *cmdqv_bed_new(HostGuestConfig config);

/* The device translates HOST_VA */
void cmdqv_bed_translate(CmdqvBed *bed);

/* The machine was reset: its firmware and driver start again, up to there */
void cmdqv_bed_restart(CmdqvBed *bed);

/* Fails the test if the host has objects left, or a stale access was seen */
void cmdqv_bed_free(CmdqvBed *bed);

/* A command of the model's control socket */
void cmdqv_control(CmdqvBed *bed, const char *command);

/* Wait until the model holds a call, as "fail CALL~hold" says */
void cmdqv_wait_until_held(CmdqvBed *bed);

/* A call takes long, so that QEMU makes the next ones in a thread */
void cmdqv_make_slow(CmdqvBed *bed);

/* Writes that exit whoever has the queues, and change nothing that matters */
typedef struct CmdqvWrite {
    uint32_t offset, value;
} CmdqvWrite;

#define CMDQV_WRITES    13
extern const CmdqvWrite cmdqv_writes[CMDQV_WRITES];

/*
 * A machine in which each of @config.n_vsmmus SMMUs has a CMDQV and one device.
 * @beds is an array of as many.  From cmdqv_select() on, the functions of this
 * file are about one of them.
 */
HostGuest *cmdqv_beds_new(HostGuestConfig config, CmdqvBed *beds);
void cmdqv_select(CmdqvBed *bed);

/* Registers, by their offset in the CMDQV */
uint32_t cmdqv_get(HostGuest *g, uint32_t offset);
void cmdqv_set(HostGuest *g, uint32_t offset, uint32_t value);

/* Where logical VCMDQ @lvcmdq has its register @offset */
uint32_t cmdqv_reg(unsigned lvcmdq, uint32_t offset);

/* The same for a logical VCMDQ */
uint32_t cmdqv_q(CmdqvBed *bed, unsigned q, uint32_t offset);
void cmdqv_set_q(CmdqvBed *bed, unsigned q, uint32_t offset, uint32_t value);
void cmdqv_set_base(CmdqvBed *bed, unsigned q, uint64_t base);

/* Write to @config, and wait until bit 0 of @status agrees */
void cmdqv_enable(HostGuest *g, uint32_t config, uint32_t status,
                  uint32_t value);
void cmdqv_queue_enable(CmdqvBed *bed, unsigned q);
void cmdqv_queue_off(CmdqvBed *bed, unsigned q);

/* An empty queue at bed->queue[q], enabled */
void cmdqv_queue_on(CmdqvBed *bed, unsigned q);

/* All of it */
void cmdqv_on(CmdqvBed *bed);

/* All queues are enabled and empty, in each page that shows them */
void cmdqv_check_registers(CmdqvBed *bed);

/* The guest reads both pages of the VCMDQs from memory, without an exit */
void cmdqv_check_in_memory(CmdqvBed *bed);

/* Who has the queues, as query-smmuv3 says it */
void cmdqv_check_owner(CmdqvBed *bed, const char *owner);

/* Wait until CONS of queue @q is @cons, without an error */
void cmdqv_wait_for_cons(CmdqvBed *bed, unsigned q, uint32_t cons);

/* Append a command, without a write to PROD */
void cmdqv_put(CmdqvBed *bed, unsigned q, HostCmd cmd);

bool cmdqv_halted(CmdqvBed *bed, unsigned q);

/* Write PROD, and wait until the queue is empty or halts; returns CONS.ERR */
unsigned cmdqv_run(CmdqvBed *bed, unsigned q);

/* The command and a CMD_SYNC, without an error */
void cmdqv_run_ok(CmdqvBed *bed, unsigned q, HostCmd cmd);

/* A CMD_SYNC reports that the host has failed, and is complete then */
void cmdqv_check_sync_fails(CmdqvBed *bed, unsigned q);

/* As Linux does it: a CMD_SYNC in place of the command, and acknowledge */
void cmdqv_skip_error(CmdqvBed *bed, unsigned q);

/* The guest lets HOST_VA lead to another page, and @cmd says so */
void cmdqv_remap(CmdqvBed *bed, unsigned q, HostCmd cmd, unsigned n);

/* The interrupt is an edge; take_irq() says whether there was one */
void cmdqv_set_edge(CmdqvBed *bed);
bool cmdqv_take_irq(CmdqvBed *bed);

/* Bits of the VCMDQs that halt, in all maps */
void cmdqv_check_error_maps(CmdqvBed *bed, uint32_t want);

/* @cmd is an error of queue @q alone; afterwards the queue goes on */
void cmdqv_check_illegal(CmdqvBed *bed, unsigned q, HostCmd cmd);

#endif
