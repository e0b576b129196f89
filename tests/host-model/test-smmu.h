/*
 * Tests of the host model's physical SMMUv3: the machine that they share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TEST_SMMU_H
#define TEST_SMMU_H

#include <inttypes.h>
#include <stdlib.h>
#include "model.h"

#define KiB 0x400ull
#define MiB 0x100000ull
#define GiB 0x40000000ull
#define BIT(n) (1ull << (n))
#define N G_N_ELEMENTS
#define NONE UINT64_MAX

/*
 * The machine: 64 MiB at RAM, behind stage 2.  32 MiB of it can be written to
 * without limits.  Some single pages differ from the rest.
 */

#define RAM         0x40000000ull
#define RAM_SIZE    (64 * MiB)
#define DOORBELL    0x08000000ull
#define HOLE        (RAM + 48 * MiB)            /* not mapped: 4K */
#define ROM         (RAM + 50 * MiB)            /* may be read: 64K */
#define WOM         (RAM + 52 * MiB)            /* may be written: 64K */
#define SID         0x105u

typedef struct World {
    HmS2 s2;                                    /* 16-byte aligned */
    HmSmmu *smmu;
    uint8_t *ram;
    uint64_t used;
    uint64_t moved;                             /* a page that is elsewhere, */
    uint64_t moved_to;                          /* in RAM; 0 none */
    uint64_t gone;                              /* a page that is unmapped */
    uint64_t read_only;                         /* a page that is now */
    uint64_t dirty, dirty_len;                  /* the last of s2.dirty */
    unsigned dirties;
    uint64_t event[4];
    unsigned events;
} World;

/* An SMMU by its profile's name or by a configuration; the machine is empty. */
World *world(const char *profile);
World *world_new(const HmSmmuConfig *config);
void world_end(World *w);
void world_endp(World **w);
#define g_world __attribute__((cleanup(world_endp))) World

/* Memory at @ipa; zeroed memory, aligned to its size */
uint64_t *mem(World *w, uint64_t ipa);
uint64_t alloc(World *w, uint64_t size);

uint64_t count(const char *name);
extern GString *log_lines;

/* Endpoints, as an ATC_INV finds them */
extern unsigned atc_invs;
extern uint64_t atc_inv_last[2];
extern bool atc_answers;

/* A failure prints the row and both values, and the test continues. */
void G_GNUC_PRINTF(4, 5) expect_at(int line, uint64_t got, uint64_t want,
                                   const char *format, ...);
#define expect(got, want, ...) expect_at(__LINE__, got, want, __VA_ARGS__)

/*
 * Stage 1 tables, CDs and STEs
 */

#define PAGE_AF     BIT(10)
#define PAGE_NG     BIT(11)
#define PAGE_USER   BIT(6)
#define PAGE_RO     BIT(7)
#define PAGE_DBM    BIT(51)
#define PAGE_PXN    BIT(53)
#define PAGE_UXN    BIT(54)
#define PAGE        (PAGE_AF | PAGE_NG | PAGE_USER)

#define CD_V        BIT(31)
#define CD_AA64     BIT(41)
#define CD_HD       BIT(42)
#define CD_HA       BIT(43)
#define CD_S        BIT(44)
#define CD_R        BIT(45)
#define CD_A        BIT(46)
#define CD_EPD0     BIT(14)
#define CD_EPD1     BIT(30)
#define CD_BASE     (CD_V | CD_AA64 | CD_R | CD_A)

typedef struct Space {
    World *w;
    unsigned granule, tsz;
    uint64_t ttb[2];
    unsigned asid;
} Space;

unsigned shift_of(unsigned granule, unsigned level);
unsigned start_level(const Space *s);
Space space(World *w, unsigned granule, unsigned tsz, unsigned asid);
/* The descriptor of @level for @va.  Tables that are missing are made. */
uint64_t *desc(const Space *s, uint64_t va, unsigned level);
void map(const Space *s, uint64_t va, uint64_t out, unsigned level,
         uint64_t attrs);
void set_cd(const Space *s, uint64_t at);
uint64_t new_cd(const Space *s);

enum { ABORT = 0, BYPASS = 4, S1 = 5, S2 = 6, NESTED = 7 };

uint64_t *set_ste(World *w, uint32_t sid, unsigned config, uint64_t cd,
                  unsigned vmid);
uint64_t s1cdmax(unsigned n);
/* A space with its CD, nested on SID, VMID 1 */
Space nested(World *w, unsigned granule, unsigned tsz);

/*
 * Transactions and commands
 */

extern HmTranslation last;

/* The IPA whose memory was reached, or NONE */
uint64_t go_as(World *w, uint32_t sid, uint32_t ssid, uint64_t va,
               unsigned access);
uint64_t go(World *w, uint64_t va);
/* Does @va hit the TLB?  Was the answer stale? */
bool hits(World *w, uint32_t sid, uint64_t va);
bool stale(World *w, uint64_t va);
/* A command and a CMD_SYNC */
int command(World *w, uint64_t w0, uint64_t w1);
/* Invalidate everything */
void flush(World *w);

enum {
    CFGI_STE = 3, CFGI_RANGE, CFGI_CD, CFGI_CD_ALL,
    NH_ALL = 0x10, NH_ASID, NH_VA, NH_VAA,
    EL2_ALL = 0x20, EL2_ASID, EL2_VA, EL2_VAA,
    S12_VMALL = 0x28, S2_IPA = 0x2a, NSNH_ALL = 0x30, ATC_INV = 0x40,
    PRI_RESP, RESUME = 0x44, STALL_TERM, SYNC,
};

#define C_SID(n)    ((uint64_t)(n) << 32)
#define C_SSID(n)   ((uint64_t)(n) << 12)
#define C_VMID(n)   ((uint64_t)(n) << 32)
#define C_ASID(n)   ((uint64_t)(n) << 48)
#define C_NUM(n)    ((uint64_t)(n) << 12)
#define C_SCALE(n)  ((uint64_t)(n) << 20)
#define C_TTL(n)    ((n) << 8)
#define C_TG(n)     ((n) << 10)
#define TG4K C_TG(1)
#define TG16K C_TG(2)
#define TG64K C_TG(3)
#define LEAF 1

/* Events: words 0 and 1 */
#define E0(id, sid) ((id) | (uint64_t)(sid) << 32)
#define E0_SSID(n)  (BIT(11) | (uint64_t)(n) << 12)
#define E1_PRIV     BIT(33)
#define E1_INST     BIT(34)
#define E1_READ     BIT(35)
#define E1_S2       BIT(39)
#define E1_TT       BIT(40)
#define E1_IN       BIT(41)
#define E1_TTREAD   BIT(44)

/* The last transaction raised exactly this event; 0: none. */
void expect_event_at(int line, World *w, const char *name, uint64_t w0,
                     uint64_t w1, uint64_t w2, uint64_t w3);
#define expect_event(...) expect_event_at(__LINE__, __VA_ARGS__)

void add_walk_tests(void);
void add_cache_tests(void);
void add_command_tests(void);

#endif /* TEST_SMMU_H */
