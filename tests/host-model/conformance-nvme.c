/*
 * The part of an NVMe driver that makes a controller move bytes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <unistd.h>
#include "conformance-nvme.h"

#define REG_CC      0x14
#define REG_CSTS    0x1c
#define REG_AQA     0x24
#define REG_ASQ     0x28
#define REG_ACQ     0x30
#define DOORBELLS   0x1000              /* of the admin queues: SQ, CQ */
#define ENTRIES     32

static void put32(int dev, unsigned at, uint32_t value)
{
    if (pwrite(dev, &value, 4, at) != 4) {
        need(-errno, "a register of the NVMe controller");
    }
}

static uint32_t get32(int dev, unsigned at)
{
    uint32_t value = 0;

    if (pread(dev, &value, 4, at) != 4) {
        need(-errno, "a register of the NVMe controller");
    }
    return value;
}

bool nvme_is(int dev)
{
    uint32_t class = 0;

    pread(dev, &class, 4, (7ull << 40) + 8);
    return class >> 8 == 0x010802;
}

static bool wait_ready(int dev, uint32_t want)
{
    for (unsigned i = 0; i < 3000; i++) {
        if ((get32(dev, REG_CSTS) & 1) == want) {
            return true;
        }
        usleep(1000);
    }
    return false;
}

bool nvme_start(Nvme *nvme, uint64_t sq, uint64_t cq)
{
    uint16_t command = 6;

    pwrite(nvme->dev, &command, 2, (7ull << 40) + 4);
    put32(nvme->dev, REG_CC, 0);
    if (!wait_ready(nvme->dev, 0)) {
        return false;
    }
    memset(nvme->sq, 0, PAGE);
    memset(nvme->cq, 0, PAGE);
    nvme->at = 0;
    put32(nvme->dev, REG_AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
    put32(nvme->dev, REG_ASQ, sq);
    put32(nvme->dev, REG_ASQ + 4, sq >> 32);
    put32(nvme->dev, REG_ACQ, cq);
    put32(nvme->dev, REG_ACQ + 4, cq >> 32);
    /* entries of 64 and 16 bytes, pages of 4 KiB, enabled */
    put32(nvme->dev, REG_CC, 4 << 20 | 6 << 16 | 1);
    return wait_ready(nvme->dev, 1);
}

bool nvme_write_to(Nvme *nvme, uint64_t to)
{
    uint32_t *sqe = (uint32_t *)(nvme->sq + nvme->at % ENTRIES * 64);
    volatile uint32_t *cqe = (void *)(nvme->cq + nvme->at % ENTRIES * 16);
    uint32_t phase = !(nvme->at / ENTRIES % 2);

    memset(sqe, 0, 64);
    sqe[0] = 0x02 | nvme->at << 16;     /* Get Log Page */
    sqe[1] = UINT32_MAX;                /* of the controller */
    sqe[6] = to;
    sqe[7] = to >> 32;
    sqe[10] = 1;                        /* errors; one word */
    nvme->at++;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    put32(nvme->dev, DOORBELLS, nvme->at % ENTRIES);
    for (unsigned i = 0; i < 300; i++) {
        uint32_t status = cqe[3];

        if ((status >> 16 & 1) == phase) {
            put32(nvme->dev, DOORBELLS + 4, nvme->at % ENTRIES);
            return true;
        }
        usleep(1000);
    }
    return false;
}
