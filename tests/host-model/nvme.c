/*
 * Host model: an endpoint that is an NVMe controller over a file
 *
 * It has what drivers of Linux and EDK2 use of NVM Express 1.4.  A write to a
 * doorbell executes everything that it asks for before it returns.  Every byte
 * of queues and data goes through the SMMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "model.h"

#define REG_CAP     0x00
#define REG_VS      0x08
#define REG_INTMS   0x0c
#define REG_INTMC   0x10
#define REG_CC      0x14
#define REG_CSTS    0x1c
#define REG_AQA     0x24
#define REG_ASQ     0x28
#define REG_ACQ     0x30
#define DOORBELLS   0x1000
#define BAR_SIZE    0x4000

#define CC_EN       1u
#define CC_SHN      (3u << 14)
#define CSTS_RDY    1u
#define CSTS_CFS    2u
#define CSTS_SHST   (2u << 2)           /* shutdown complete */

/* At most 1024 entries per queue, contiguous; doorbells 4 bytes apart; 1 s */
#define CAP_VALUE   (1023ull | 1ull << 16 | 2ull << 24 | 1ull << 37)
#define VERSION     0x10400

#define BLOCK_SHIFT 9
#define PAGE        4096u
#define MAX_TRANSFER (512u * 1024)      /* MDTS 7 */
#define N_QUEUES    8
#define N_VECTORS   9

/* Status: type << 8 | code, before the phase bit */
#define SC_OK               0x000
#define SC_BAD_OPCODE       0x001
#define SC_BAD_FIELD        0x002
#define SC_DATA_ERROR       0x004
#define SC_BAD_NAMESPACE    0x00b
#define SC_OUT_OF_RANGE     0x080
#define SC_BAD_CQ           0x100
#define SC_BAD_QUEUE        0x101
#define SC_BAD_SIZE         0x102
#define SC_BAD_LOG          0x109
#define SC_READ_ONLY        0x182
#define SC_HELD             0xffff      /* no completion now */

typedef struct Sqe {
    uint8_t opcode, flags;
    uint16_t cid;
    uint32_t nsid;
    uint64_t reserved, metadata;
    uint64_t prp[2];
    uint32_t dw[6];                     /* command dwords 10 to 15 */
} Sqe;

typedef struct Cqe {
    uint32_t result, reserved;
    uint16_t sq_head, sq_id, cid, status;
} Cqe;

typedef struct Queue {
    uint64_t base;
    uint32_t size;                      /* entries; 0: there is none */
    uint32_t head, tail;
    unsigned cq;                        /* of a submission queue */
    unsigned vector;                    /* of a completion queue */
    bool irq;
    bool phase;
} Queue;

typedef struct HmNvme {
    int fd;
    bool readonly;
    uint64_t blocks;
    uint32_t cc, csts, aqa, intm;
    uint64_t asq, acq;
    Queue sq[N_QUEUES + 1], cq[N_QUEUES + 1];
    uint32_t write_cache;
} HmNvme;

/*
 * Memory
 */

static bool dma(HmDevice *dev, uint64_t at, void *buf, size_t len, bool write)
{
    return hm_dma(dev, HM_NO_PASID, at, buf, len, write) == 0;
}

/* The controller stops until it is reset. */
static void fatal(HmDevice *dev, const char *what)
{
    HmNvme *n = dev->priv;

    HM_COUNT("nvme.fatal");
    hm_log("%s: %s cannot be reached", dev->name, what);
    n->csts |= CSTS_CFS;
}

/*
 * Move @len bytes between @buf and the memory that the command's PRPs name.
 * The first PRP may begin within a page.  The second is a page, or a list that
 * may continue in another list.
 */
static uint16_t prp_transfer(HmDevice *dev, const Sqe *sqe, uint8_t *buf,
                             size_t len, bool to_host)
{
    uint64_t list = GUINT64_FROM_LE(sqe->prp[1]);
    uint64_t at = GUINT64_FROM_LE(sqe->prp[0]);
    size_t n = MIN(len, PAGE - at % PAGE);

    if (!dma(dev, at, buf, n, to_host)) {
        return SC_DATA_ERROR;
    }
    buf += n;
    len -= n;
    if (len && len <= PAGE) {
        return dma(dev, list, buf, len, to_host) ? SC_OK : SC_DATA_ERROR;
    }
    while (len) {
        uint64_t entry;

        if (!dma(dev, list, &entry, 8, false)) {
            return SC_DATA_ERROR;
        }
        /*
         * The last entry in a page of the list, with more to come: the next
         * page
         */
        if (list % PAGE == PAGE - 8 && len > PAGE) {
            list = GUINT64_FROM_LE(entry);
            continue;
        }
        n = MIN(len, PAGE);
        if (!dma(dev, GUINT64_FROM_LE(entry), buf, n, to_host)) {
            return SC_DATA_ERROR;
        }
        buf += n;
        len -= n;
        list += 8;
    }
    return SC_OK;
}

static void complete(HmDevice *dev, unsigned sq_id, const Sqe *sqe,
                     uint16_t status, uint32_t result)
{
    HmNvme *n = dev->priv;
    Queue *sq = &n->sq[sq_id], *cq = &n->cq[sq->cq];
    Cqe cqe = {
        .result = GUINT32_TO_LE(result),
        .sq_head = GUINT16_TO_LE(sq->head),
        .sq_id = GUINT16_TO_LE(sq_id),
        .cid = sqe->cid,
        .status = GUINT16_TO_LE(status << 1 | cq->phase),
    };

    if (!dma(dev, cq->base + cq->tail * sizeof(cqe), &cqe, sizeof(cqe), true)) {
        fatal(dev, "a completion queue");
        return;
    }
    cq->tail++;
    if (cq->tail == cq->size) {
        cq->tail = 0;
        cq->phase = !cq->phase;
    }
    if (cq->irq) {
        hm_device_msix(dev, cq->vector);
    }
}

/*
 * Admin commands
 */

static void put_text(uint8_t *to, size_t len, const char *text)
{
    memset(to, ' ', len);
    memcpy(to, text, MIN(len, strlen(text)));
}

static void put_le(uint8_t *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        to[i] = value >> (8 * i);
    }
}

/* A number that no other device of this machine has: drivers demand that */
static uint64_t unique_id(HmDevice *dev)
{
    return 0x0123456700000000ull | g_str_hash(dev->name);
}

static void identify_controller(HmDevice *dev, uint8_t *p)
{
    g_autofree char *nqn = g_strdup_printf(
        "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-%012llx",
        unique_id(dev) & 0xffffffffffffull);

    put_le(p + 0, 0x1b36, 2);           /* VID */
    put_le(p + 2, 0x1af4, 2);           /* SSVID */
    put_text(p + 4, 20, dev->name);     /* serial number */
    put_text(p + 24, 40, "Host model NVMe");
    put_text(p + 64, 8, "1");
    p[77] = 7;                          /* MDTS: 2^7 pages */
    put_le(p + 78, 1, 2);               /* CNTLID */
    put_le(p + 80, VERSION, 4);
    p[111] = 1;                         /* CNTRLTYPE: I/O */
    p[258] = 3;                         /* ACL */
    p[259] = 3;                         /* AERL */
    p[260] = 2;                         /* FRMW: one slot, read-write */
    put_le(p + 266, 343, 2);            /* WCTEMP, kelvin */
    put_le(p + 268, 353, 2);
    p[512] = 0x66;                      /* SQES: 64 bytes */
    p[513] = 0x44;                      /* CQES: 16 bytes */
    put_le(p + 516, 1, 4);              /* NN */
    put_le(p + 520, 0xc, 2);            /* ONCS: DSM, Write Zeroes */
    p[525] = 1;                         /* VWC */
    memcpy(p + 768, nqn, strlen(nqn));
}

static void identify_namespace(HmDevice *dev, uint8_t *p)
{
    HmNvme *n = dev->priv;

    put_le(p + 0, n->blocks, 8);        /* NSZE, NCAP, NUSE */
    put_le(p + 8, n->blocks, 8);
    put_le(p + 16, n->blocks, 8);
    p[99] = n->readonly;                /* NSATTR: write protected */
    p[130] = BLOCK_SHIFT;               /* LBAF0.LBADS */
    put_le(p + 120, unique_id(dev), 8); /* EUI64 */
}

static uint16_t identify(HmDevice *dev, const Sqe *sqe)
{
    g_autofree uint8_t *page = g_malloc0(PAGE);
    uint32_t nsid = GUINT32_FROM_LE(sqe->nsid);

    switch (GUINT32_FROM_LE(sqe->dw[0]) & 0xff) {
    case 0x00:
        if (nsid != 1) {
            return SC_BAD_NAMESPACE;
        }
        identify_namespace(dev, page);
        break;
    case 0x01:
        identify_controller(dev, page);
        break;
    case 0x02:                          /* active namespaces above nsid */
        if (nsid >= 0xfffffffe) {
            return SC_BAD_NAMESPACE;
        }
        page[0] = nsid < 1;
        break;
    case 0x03:                          /* descriptors: the EUI64 */
        if (nsid != 1) {
            return SC_BAD_NAMESPACE;
        }
        page[0] = 1;
        page[1] = 8;
        put_le(page + 4, unique_id(dev), 8);
        break;
    default:
        return SC_BAD_FIELD;
    }
    return prp_transfer(dev, sqe, page, PAGE, true);
}

static uint16_t create_cq(HmNvme *n, const Sqe *sqe)
{
    uint32_t id = GUINT32_FROM_LE(sqe->dw[0]) & 0xffff;
    uint32_t size = (GUINT32_FROM_LE(sqe->dw[0]) >> 16) + 1;
    uint32_t flags = GUINT32_FROM_LE(sqe->dw[1]);

    if (!id || id > N_QUEUES || n->cq[id].size) {
        return SC_BAD_QUEUE;
    }
    if (size < 2 || size > 1024) {
        return SC_BAD_SIZE;
    }
    if (!(flags & 1) || flags >> 16 >= N_VECTORS) {
        return SC_BAD_FIELD;
    }
    n->cq[id] = (Queue) {
        .base = GUINT64_FROM_LE(sqe->prp[0]), .size = size, .phase = true,
        .irq = flags & 2, .vector = flags >> 16,
    };
    return SC_OK;
}

static uint16_t create_sq(HmNvme *n, const Sqe *sqe)
{
    uint32_t id = GUINT32_FROM_LE(sqe->dw[0]) & 0xffff;
    uint32_t size = (GUINT32_FROM_LE(sqe->dw[0]) >> 16) + 1;
    uint32_t flags = GUINT32_FROM_LE(sqe->dw[1]);
    unsigned cq = flags >> 16;

    if (!id || id > N_QUEUES || n->sq[id].size) {
        return SC_BAD_QUEUE;
    }
    if (!cq || cq > N_QUEUES || !n->cq[cq].size) {
        return SC_BAD_CQ;
    }
    if (size < 2 || size > 1024) {
        return SC_BAD_SIZE;
    }
    if (!(flags & 1)) {
        return SC_BAD_FIELD;
    }
    n->sq[id] = (Queue) {
        .base = GUINT64_FROM_LE(sqe->prp[0]), .size = size, .cq = cq,
    };
    return SC_OK;
}

static uint16_t delete_queue(Queue *queues, const Sqe *sqe)
{
    uint32_t id = GUINT32_FROM_LE(sqe->dw[0]) & 0xffff;

    if (!id || id > N_QUEUES || !queues[id].size) {
        return SC_BAD_QUEUE;
    }
    queues[id] = (Queue) {};
    return SC_OK;
}

static uint16_t features(HmNvme *n, const Sqe *sqe, bool set, uint32_t *result)
{
    switch (GUINT32_FROM_LE(sqe->dw[0]) & 0xff) {
    case 0x01:                          /* arbitration and the like: as asked */
    case 0x02:
    case 0x04:
    case 0x05:
    case 0x08:
    case 0x09:
    case 0x0a:
    case 0x0b:
        *result = 0;
        return SC_OK;
    case 0x06:
        if (set) {
            n->write_cache = GUINT32_FROM_LE(sqe->dw[1]) & 1;
        }
        *result = n->write_cache;
        return SC_OK;
    case 0x07:                          /* number of queues, from 0 */
        *result = (N_QUEUES - 1) | (N_QUEUES - 1) << 16;
        return SC_OK;
    default:
        return SC_BAD_FIELD;
    }
}

static uint16_t get_log(HmDevice *dev, const Sqe *sqe)
{
    g_autofree uint8_t *page = g_malloc0(PAGE);
    uint32_t dw10 = GUINT32_FROM_LE(sqe->dw[0]);
    size_t len = ((dw10 >> 16) + 1) * 4;

    switch (dw10 & 0xff) {
    case 0x01:                          /* errors: none */
        break;
    case 0x02:                          /* health */
        put_le(page + 1, 300, 2);
        page[3] = page[4] = 100;
        break;
    case 0x03:                          /* firmware */
        page[0] = 1;
        put_text(page + 8, 8, "1");
        break;
    default:
        return SC_BAD_LOG;
    }
    return prp_transfer(dev, sqe, page, MIN(len, PAGE), true);
}

static uint16_t admin(HmDevice *dev, const Sqe *sqe, uint32_t *result)
{
    HmNvme *n = dev->priv;

    switch (sqe->opcode) {
    case 0x00:
        return delete_queue(n->sq, sqe);
    case 0x01:
        return create_sq(n, sqe);
    case 0x02:
        return get_log(dev, sqe);
    case 0x04:
        return delete_queue(n->cq, sqe);
    case 0x05:
        return create_cq(n, sqe);
    case 0x06:
        return identify(dev, sqe);
    case 0x08:                          /* abort: always too late */
        *result = 1;
        return SC_OK;
    case 0x09:
    case 0x0a:
        return features(n, sqe, sqe->opcode == 0x09, result);
    case 0x0c:                          /* no event ever comes */
        return SC_HELD;
    default:
        return SC_BAD_OPCODE;
    }
}

/*
 * I/O commands
 */

static uint16_t read_write(HmDevice *dev, const Sqe *sqe, uint64_t lba,
                           uint32_t blocks)
{
    HmNvme *n = dev->priv;
    size_t len = (size_t)blocks << BLOCK_SHIFT;
    g_autofree uint8_t *buf = NULL;
    bool is_read = sqe->opcode == 0x02;
    uint16_t status;

    if (len > MAX_TRANSFER) {
        return SC_BAD_FIELD;
    }
    buf = g_malloc0(len);
    if (is_read) {
        if (pread(n->fd, buf, len, lba << BLOCK_SHIFT) != (ssize_t)len) {
            return SC_DATA_ERROR;
        }
        HM_COUNT_N("nvme.read.bytes", len);
        return prp_transfer(dev, sqe, buf, len, true);
    }
    status = prp_transfer(dev, sqe, buf, len, false);
    if (!status &&
        pwrite(n->fd, buf, len, lba << BLOCK_SHIFT) != (ssize_t)len) {
        status = SC_DATA_ERROR;
    }
    HM_COUNT_N("nvme.write.bytes", status ? 0 : len);
    return status;
}

static uint16_t write_zeroes(HmNvme *n, uint64_t lba, uint32_t blocks)
{
    uint8_t zero[1 << BLOCK_SHIFT] = {};

    for (; blocks; blocks--, lba++) {
        if (pwrite(n->fd, zero, sizeof(zero), lba << BLOCK_SHIFT) !=
            sizeof(zero)) {
            return SC_DATA_ERROR;
        }
    }
    return SC_OK;
}

static uint16_t io(HmDevice *dev, const Sqe *sqe, uint32_t *result)
{
    HmNvme *n = dev->priv;
    uint64_t lba = GUINT32_FROM_LE(sqe->dw[0]) |
                   (uint64_t)GUINT32_FROM_LE(sqe->dw[1]) << 32;
    uint32_t blocks = (GUINT32_FROM_LE(sqe->dw[2]) & 0xffff) + 1;

    *result = 0;
    if (sqe->opcode == 0x00 || sqe->opcode == 0x09) {
        return SC_OK;                   /* flush; a hint about data */
    }
    if (GUINT32_FROM_LE(sqe->nsid) != 1) {
        return SC_BAD_NAMESPACE;
    }
    if (lba >= n->blocks || blocks > n->blocks - lba) {
        return SC_OUT_OF_RANGE;
    }
    if (sqe->opcode != 0x02 && n->readonly) {
        return SC_READ_ONLY;
    }
    HM_COUNT("nvme.io");
    switch (sqe->opcode) {
    case 0x01:
    case 0x02:
        return read_write(dev, sqe, lba, blocks);
    case 0x08:
        return write_zeroes(n, lba, blocks);
    default:
        return SC_BAD_OPCODE;
    }
}

/*
 * Registers
 */

static void submit(HmDevice *dev, unsigned id, uint32_t tail)
{
    HmNvme *n = dev->priv;
    Queue *sq = &n->sq[id];

    if (tail >= sq->size) {
        return;
    }
    sq->tail = tail;
    while (sq->size && sq->head != sq->tail && !(n->csts & CSTS_CFS)) {
        uint16_t status;
        uint32_t result = 0;
        Sqe sqe;

        if (!dma(dev, sq->base + sq->head * sizeof(sqe), &sqe, sizeof(sqe),
                 false)) {
            fatal(dev, "a submission queue");
            return;
        }
        sq->head = (sq->head + 1) % sq->size;
        status = id ? io(dev, &sqe, &result) : admin(dev, &sqe, &result);
        if (status != SC_HELD) {
            complete(dev, id, &sqe, status, result);
        }
    }
}

static void doorbell(HmDevice *dev, unsigned n, uint32_t value)
{
    HmNvme *nvme = dev->priv;
    unsigned id = n / 2;

    if (!(nvme->csts & CSTS_RDY) || id > N_QUEUES) {
        return;
    }
    if (n % 2 == 0) {
        submit(dev, id, value & 0xffff);
    } else if (value < nvme->cq[id].size) {
        nvme->cq[id].head = value;
    }
}

static void stop(HmNvme *n)
{
    memset(n->sq, 0, sizeof(n->sq));
    memset(n->cq, 0, sizeof(n->cq));
    n->csts = 0;
}

static void start(HmNvme *n)
{
    n->sq[0] = (Queue) { .base = n->asq, .size = (n->aqa & 0xfff) + 1 };
    n->cq[0] = (Queue) {
        .base = n->acq, .size = (n->aqa >> 16 & 0xfff) + 1, .irq = true,
        .phase = true,
    };
    n->csts = CSTS_RDY;
}

static void write_cc(HmNvme *n, uint32_t value)
{
    uint32_t changed = n->cc ^ value;

    n->cc = value;
    if (changed & CC_EN) {
        if (value & CC_EN) {
            start(n);
        } else {
            stop(n);
        }
    }
    if (value & CC_SHN) {
        fdatasync(n->fd);
        n->csts |= CSTS_SHST;
    } else {
        n->csts &= ~CSTS_SHST;
    }
}

static uint32_t read32(HmNvme *n, uint64_t offset)
{
    switch (offset) {
    case REG_CAP:
        return (uint32_t)CAP_VALUE;
    case REG_CAP + 4:
        return CAP_VALUE >> 32;
    case REG_VS:
        return VERSION;
    case REG_INTMS:
    case REG_INTMC:
        return n->intm;
    case REG_CC:
        return n->cc;
    case REG_CSTS:
        return n->csts;
    case REG_AQA:
        return n->aqa;
    case REG_ASQ:
        return n->asq;
    case REG_ASQ + 4:
        return n->asq >> 32;
    case REG_ACQ:
        return n->acq;
    case REG_ACQ + 4:
        return n->acq >> 32;
    default:
        return 0;
    }
}

static void put_half(uint64_t *reg, bool high, uint32_t value)
{
    *reg = high ? (uint32_t)*reg | (uint64_t)value << 32
                : (*reg >> 32 << 32) | value;
}

static void write32(HmDevice *dev, uint64_t offset, uint32_t value)
{
    HmNvme *n = dev->priv;

    switch (offset) {
    case REG_INTMS:
        n->intm |= value;
        break;
    case REG_INTMC:
        n->intm &= ~value;
        break;
    case REG_CC:
        write_cc(n, value);
        break;
    case REG_AQA:
        n->aqa = value;
        break;
    case REG_ASQ:
    case REG_ASQ + 4:
        put_half(&n->asq, offset != REG_ASQ, value & (offset == REG_ASQ
                 ? ~(PAGE - 1) : UINT32_MAX));
        break;
    case REG_ACQ:
    case REG_ACQ + 4:
        put_half(&n->acq, offset != REG_ACQ, value & (offset == REG_ACQ
                 ? ~(PAGE - 1) : UINT32_MAX));
        break;
    default:
        if (offset >= DOORBELLS) {
            doorbell(dev, (offset - DOORBELLS) / 4, value);
        }
    }
}

static uint64_t nvme_read(HmDevice *dev, unsigned bar, uint64_t offset,
                          unsigned size)
{
    uint64_t value;

    if (bar != 0) {
        return 0;
    }
    value = read32(dev->priv, offset & ~3ull) >> (offset % 4 * 8);
    if (size == 8) {
        value |= (uint64_t)read32(dev->priv, offset + 4) << 32;
    }
    return size >= 4 ? value : value & ((1u << (size * 8)) - 1);
}

static void nvme_write(HmDevice *dev, unsigned bar, uint64_t offset,
                       uint64_t value, unsigned size)
{
    if (bar == 0 && size >= 4) {
        write32(dev, offset, value);
        if (size == 8) {
            write32(dev, offset + 4, value >> 32);
        }
    }
}

static void nvme_reset(HmDevice *dev)
{
    HmNvme *n = dev->priv;

    stop(n);
    n->cc = n->aqa = n->intm = 0;
    n->asq = n->acq = 0;
    n->write_cache = 1;
}

static bool nvme_init(HmDevice *dev, GKeyFile *config, const char *group,
                      char **error)
{
    g_autofree char *path = g_key_file_get_string(config, group, "file", NULL);
    HmNvme *n = g_new0(HmNvme, 1);
    struct stat st;

    n->readonly = g_key_file_get_boolean(config, group, "readonly", NULL);
    n->fd = path ? open(g_strstrip(path),
                        (n->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC) : -1;
    if (n->fd < 0 || fstat(n->fd, &st)) {
        *error = g_strdup_printf("file=%s: %s", path ? path : "",
                                 path ? strerror(errno) : "not given");
        return false;
    }
    n->blocks = st.st_size >> BLOCK_SHIFT;
    dev->priv = n;
    put_le(dev->config + 0x00, 0x1b36, 2);
    put_le(dev->config + 0x02, 0x0010, 2);
    put_le(dev->config + 0x09, 0x010802, 3);
    dev->bar_size[0] = BAR_SIZE;
    dev->n_msix = N_VECTORS;
    nvme_reset(dev);
    return true;
}

const HmEndpointOps hm_nvme_ops = {
    .kind = "nvme",
    .init = nvme_init,
    .read = nvme_read,
    .write = nvme_write,
    .reset = nvme_reset,
};
