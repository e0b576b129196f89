/*
 * A command queue of a Tegra241 CMDQV, as a VM uses it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CONFORMANCE_CMDQV_H
#define CONFORMANCE_CMDQV_H

#include "conformance.h"

#define VINTF_PAGE0     0x10000ull

typedef struct Vcmdq {
    volatile uint32_t *regs;            /* in page 0 */
    volatile uint64_t *commands;        /* a page of them */
    uint32_t prod;
    uint32_t id;                        /* of the HW_QUEUE */
} Vcmdq;

/* A vIOMMU with a VINTF becomes @w's; returns -errno */
long cmdqv_alloc(World *w);
/* Page 0 of it; NULL if it cannot be mapped */
uint8_t *cmdqv_map(World *w);

/* Queue @n of @w, whose page of commands @at has at @iova.  It is enabled. */
long vcmdq_open(World *w, uint8_t *page0, unsigned n, void *at, uint64_t iova,
                Vcmdq *queue);

/* Put a command there, and PROD behind it.  Returns CONS.ERR, or 0; 99 if
 * nothing happens within 2 s. */
unsigned vcmdq_run(Vcmdq *queue, uint64_t word0, uint64_t word1);

#define VCMDQ_SYNC 0x46ull

#endif /* CONFORMANCE_CMDQV_H */
