/*
 * What the programs that use the test endpoint pasid-dma share: they program it,
 * fill memory with bytes of their own, and report in TAP.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef NESTED_SVA_ENDPOINT_H
#define NESTED_SVA_ENDPOINT_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pasid-dma.h"

#define PAGE    4096ul

static int number, failed;
static volatile uint8_t *regs;
static uint32_t how;                    /* flags of a copy */

static void die(const char *what)
{
    printf("Bail out! %s: %s\n", what, strerror(errno));
    exit(1);
}

static void point(bool ok, const char *name, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    printf("%sok %d - %s: ", ok ? "" : "not ", ++number, name);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    failed += !ok;
}

static uint32_t get(unsigned reg)
{
    return *(volatile uint32_t *)(regs + reg);
}

static void set(unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(regs + reg) = value;
}

static void set64(unsigned reg, uint64_t value)
{
    set(reg, value);
    set(reg + 4, value >> 32);
}

static void aim(uint32_t id, uint64_t dst, uint64_t src, uint32_t len)
{
    set(PASID_DMA_FLAGS, how);
    set(PASID_DMA_PASID, id);
    set64(PASID_DMA_SRC, src);
    set64(PASID_DMA_DST, dst);
    set(PASID_DMA_LEN, len);
}

/* One copy by the endpoint, in the address space of PASID @id */
static uint32_t dma_at(uint32_t id, uint64_t dst, uint64_t src, uint32_t len)
{
    aim(id, dst, src, len);
    __sync_synchronize();
    set(PASID_DMA_GO, PASID_DMA_ONCE);
    __sync_synchronize();
    return get(PASID_DMA_RESULT);
}

/* Memory that is there, and may be written: the endpoint cannot fault it in */
static uint8_t *memory(size_t size)
{
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (p == MAP_FAILED) {
        die("mmap");
    }
    memset(p, 0xee, size);
    return p;
}

static void fill(uint8_t *p, size_t size)
{
    static uint32_t seed = 0x2545f491;

    for (size_t n = 0; n < size; n++) {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        p[n] = seed >> 11;
    }
}

static unsigned long differ(const uint8_t *a, const uint8_t *b, size_t size)
{
    unsigned long n = 0;

    while (size--) {
        n += *a++ != *b++;
    }
    return n;
}

#endif
