/*
 * A hostile guest of accelerated SMMUv3s, and how to see that they survive it
 *
 * An input is a sequence of operations of 16 bytes each. Every byte is good for
 * something, so any input is a run. Two programs play inputs: one within QEMU,
 * by libFuzzer (fuzz/smmuv3_accel_fuzz.c), and a qtest (smmuv3-fuzz-test.c).
 * The machine has four SMMUs, on hosts that differ; see smmuv3_fuzz_config().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SMMUV3_FUZZ_H
#define SMMUV3_FUZZ_H

#include "smmuv3-host.h"

#define FUZZ_SMMUS      4
#define FUZZ_DEVS       6               /* assigned devices */
#define FUZZ_CDS        4               /* per SMMU */
#define FUZZ_MAX_OPS    96

/* The last SMMU is emulated: an edu device is below it */
#define FUZZ_EMULATED   3
#define FUZZ_EDU        FUZZ_DEVS       /* as the number of a device */
#define FUZZ_EDU_SID    0xf100          /* below a port on the root bus */
#define FUZZ_PORT       (FUZZ_DEVS + 1) /* the root port of device 0 */

/* Commands in VCMDQs of SMMUs 0 and 1 */
#define FUZZ_VCMDQ_LOG2 4

/* One operation of an input, as it is there: little-endian */
typedef struct QEMU_PACKED FuzzOp {
    uint8_t kind;                       /* modulo the number of kinds */
    uint8_t target;                     /* which SMMU, which device */
    uint8_t a, b, c, d;                 /* choices */
    uint16_t e;
    uint64_t x;                         /* a value, or what makes one */
} FuzzOp;

typedef struct FuzzSmmu {
    uint64_t cd[FUZZ_CDS];              /* of 64 bytes, one table of 2 bits */
    uint64_t root[FUZZ_CDS][2];         /* of 48 bits, for TTB0 and TTB1 */
    uint64_t vcmdq[2];
    uint32_t vcmdq_prod[2];
    uint64_t linear;                    /* the Stream Table of smmu_enable() */
} FuzzSmmu;

typedef struct Fuzz {
    HostGuest *g;
    FuzzSmmu smmu[FUZZ_SMMUS];
    uint64_t pages[2];                  /* full of FUZZ_TAG() */
    uint64_t first;                     /* of the memory that runs change */
    uint64_t first_free;                /* where the memory of a run begins */
    uint64_t edu;                       /* its BAR */
    bool stopped;                       /* the machine */
    bool moved;                         /* buses or BARs, since calm */
    unsigned failing;                   /* rules that the model has */
    unsigned resets;                    /* devices that the host resets */
    unsigned long checks, honest;       /* for a message */
} Fuzz;

#define FUZZ_TAG(n)     (0xfeed000000000000ull + (n))

/* Prints where the run is, and aborts */
void G_GNUC_PRINTF(2, 3) G_GNUC_NORETURN
hostile_fail(Fuzz *f, const char *format, ...);
#define hostile_check(f, cond) do { \
        if (!(cond)) { \
            hostile_fail(f, "%s:%d: %s", __func__, __LINE__, #cond); \
        } \
    } while (0)

/* What the machine is; the program may add arguments */
HostGuestConfig smmuv3_fuzz_config(void);

/* A guest that host_guest_join() has joined */
Fuzz *hostile_new(HostGuest *g);
void hostile_free(Fuzz *f);

/**
 * hostile_run: play an input, and check what is left of it
 * @data: any number of operations; of these up to FUZZ_MAX_OPS are played
 *
 * Aborts, or leaves a machine that is as before.
 */
void hostile_run(Fuzz *f, const uint8_t *data, size_t size);

/*
 * smmuv3-fuzz.c, for the operations
 */

/* The StreamID of device @dev, of the edu or of the port */
uint32_t hostile_sid(Fuzz *f, unsigned dev);

/* The STE of @sid of SMMU @i by its tables in RAM; NULL if there is none */
uint64_t *hostile_ste(Fuzz *f, unsigned i, uint32_t sid);

/* pages[@n] is as it should be */
void hostile_fill_page(Fuzz *f, unsigned n);

/* Put a command into the queue. If it does not go on, the command is lost. */
void hostile_push(Fuzz *f, unsigned i, HostCmd cmd);
/* Write PROD, and let the main loop run */
void hostile_kick(Fuzz *f, unsigned i);

/* QEMU's main loop runs */
void hostile_pause(Fuzz *f);

/* Returns whether QEMU obeyed */
bool hostile_qmp(Fuzz *f, const char *command, QDict *arguments);

bool hostile_is_bound(Fuzz *f, unsigned dev);
bool hostile_plug(Fuzz *f, unsigned dev);
void hostile_unplug(Fuzz *f, unsigned dev, bool ask);
void hostile_reset(Fuzz *f);

/* The host is healthy, the machine runs, and buses have their numbers */
void hostile_calm(Fuzz *f);
/* After hostile_calm(): SMMU @i is restarted, and all its caches are empty */
void hostile_restart(Fuzz *f, unsigned i);
/* After that: each stream is where the tables say */
void hostile_check_streams(Fuzz *f, unsigned i);

/* smmuv3-fuzz-ops.c */
void hostile_op(Fuzz *f, const FuzzOp *op);

#endif /* SMMUV3_FUZZ_H */
