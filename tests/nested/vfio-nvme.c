/*
 * A driver in user space for an NVMe disk: it reads by VFIO, and waits for each
 * completion by MSI-X and an eventfd, as a polling driver does not.
 *
 *   vfio-nvme group|cdev ADDRESS READS [VECTORS [PEER]]
 *   e.g. vfio-nvme group 0000:01:00.0 5000
 *
 * The device is bound to vfio-pci.  "group" opens it as DPDK and older
 * hypervisors do, through a container of type 1; "cdev" by iommufd.  Each of
 * VECTORS (2) gets an eventfd, and the reads use the last one; how long that
 * took is on a line of its own.  Prints how many commands it gave, how many
 * interrupts came, how many commands ended without one in two seconds, how many
 * writes a peer has refused, and the sum of what it has read: of 64-bit words,
 * modulo 2^64.  The reads are of 4 KiB each, from the start of the disk on.
 *
 * With PEER, the address of a second device, the disk writes what it reads into
 * BAR 2 of that device: peer to peer.  Each tenth read is tried once more before
 * that, while PEER does not decode its BARs.  It must change nothing there.
 *
 * Registers and commands are those of the NVM Express Base Specification 1.4.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* linux-libc-dev of our cross compiler may know it, or not */
#ifndef __counted_by
#define __counted_by(member)
#endif
#include <linux/iommufd.h>
#include <linux/vfio.h>

#define PAGE        4096ul
#define IOVA        0x40000000ul
#define ENTRIES     16          /* of each queue */
#define PATIENCE    2000        /* ms */
#define MAX_VECTORS 2048

enum { CAP = 0, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30,
       DOORBELLS = 0x1000 };
enum { ADMIN_CREATE_SQ = 1, ADMIN_CREATE_CQ = 5, IO_READ = 2 };
enum { ADMIN, IO, QUEUES };
enum { P_DATA, P_SQ, P_CQ = P_SQ + QUEUES, PAGES = P_CQ + QUEUES };

#define PEER_IOVA   0x50000000ul
#define PEER_OFF    10          /* reads between two times without decoding */

typedef struct {
    uint32_t opcode;            /* and the command's identifier */
    uint32_t nsid;
    uint64_t reserved, metadata;
    uint64_t prp[2];
    uint32_t cdw[6];
} Command;

typedef struct {
    uint32_t result, reserved;
    uint16_t sq_head, sq, id, status;   /* bit 0 of the status: phase */
} Completion;

static int device, event[QUEUES];
static bool by_group;
static int container = -1, iommu = -1;  /* by group, by cdev */
static uint32_t ioas_id;

/* The other device, and its BAR; NULL: there is none */
static int peer = -1;
static volatile uint8_t *peer_memory;
static struct vfio_region_info peer_bar = {
    .argsz = sizeof(peer_bar), .index = VFIO_PCI_BAR2_REGION_INDEX,
};
static unsigned vectors = QUEUES;       /* the last one is that of IO */
static volatile uint8_t *regs;
static uint8_t *memory;
static unsigned done[QUEUES];   /* commands */
static unsigned long commands, interrupts, lost, refused;

static void die(const char *what)
{
    printf("vfio-nvme: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int ask(int fd, unsigned long request, void *what, const char *name)
{
    int ret = ioctl(fd, request, what);

    if (ret < 0) {
        die(name);
    }
    return ret;
}

static int must_open(const char *path)
{
    int fd = open(path, O_RDWR);

    if (fd < 0) {
        die(path);
    }
    return fd;
}

/* The device of the group of @address, which joins the container */
static int open_by_group(const char *address)
{
    char path[128], link[256] = "";
    bool first = container < 0;
    int group;

    if (first) {
        container = must_open("/dev/vfio/vfio");
    }
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
    if (readlink(path, link, sizeof(link) - 1) < 0) {
        die(path);
    }
    snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
    group = must_open(path);
    ask(group, VFIO_GROUP_SET_CONTAINER, &container, "VFIO_GROUP_SET_CONTAINER");
    if (first) {
        ask(container, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU, "VFIO_SET_IOMMU");
    }
    return ask(group, VFIO_GROUP_GET_DEVICE_FD, (void *)address,
               "VFIO_GROUP_GET_DEVICE_FD");
}

/* The device at @address, which is attached to the address space */
static int open_by_cdev(const char *address)
{
    struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
    struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
    struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
    struct dirent *entry;
    char path[512];
    DIR *dir;
    int fd;

    if (iommu < 0) {
        iommu = must_open("/dev/iommu");
        ask(iommu, IOMMU_IOAS_ALLOC, &ioas, "IOMMU_IOAS_ALLOC");
        ioas_id = ioas.out_ioas_id;
    }
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", address);
    dir = opendir(path);
    do {
        entry = dir ? readdir(dir) : NULL;
        if (!entry) {
            die(path);
        }
    } while (entry->d_name[0] == '.');
    snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
    fd = must_open(path);
    bind.iommufd = iommu;
    ask(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind, "VFIO_DEVICE_BIND_IOMMUFD");
    attach.pt_id = ioas_id;
    ask(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
    return fd;
}

static int open_device(const char *address)
{
    return by_group ? open_by_group(address) : open_by_cdev(address);
}

/* @size bytes at @va: memory, or by group also a BAR */
static void map(volatile void *va, uint64_t iova, uint64_t size)
{
    struct vfio_iommu_type1_dma_map by_container = {
        .argsz = sizeof(by_container),
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)va, .iova = iova, .size = size,
    };
    struct iommu_ioas_map by_iommufd = {
        .size = sizeof(by_iommufd),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = ioas_id, .user_va = (uintptr_t)va, .length = size, .iova = iova,
    };

    if (by_group) {
        ask(container, VFIO_IOMMU_MAP_DMA, &by_container, "VFIO_IOMMU_MAP_DMA");
    } else {
        ask(iommu, IOMMU_IOAS_MAP, &by_iommufd, "IOMMU_IOAS_MAP");
    }
}

static void write_command(int fd, uint16_t command)
{
    struct vfio_region_info config = {
        .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX,
    };

    ask(fd, VFIO_DEVICE_GET_REGION_INFO, &config, "the configuration space");
    if (pwrite(fd, &command, 2, config.offset + 4) != 2) {
        die("the Command register");
    }
}

/* iommufd maps a BAR by a dma-buf of it */
static void map_dma_buf(void)
{
    struct {
        struct vfio_device_feature feature;
        struct vfio_device_feature_dma_buf buf;
        struct vfio_region_dma_range range;
    } get = {
        .feature = {
            .argsz = sizeof(get),
            .flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF,
        },
        .buf = {
            .region_index = peer_bar.index, .open_flags = O_RDWR | O_CLOEXEC,
            .nr_ranges = 1,
        },
        .range = { .length = peer_bar.size },
    };
    struct iommu_ioas_map_file file = {
        .size = sizeof(file),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = ioas_id, .length = peer_bar.size, .iova = PEER_IOVA,
    };

    file.fd = ask(peer, VFIO_DEVICE_FEATURE, &get, "VFIO_DEVICE_FEATURE_DMA_BUF");
    ask(iommu, IOMMU_IOAS_MAP_FILE, &file, "IOMMU_IOAS_MAP_FILE");
    close(file.fd);
}

static void open_peer(const char *address)
{
    peer = open_device(address);
    write_command(peer, 2);
    ask(peer, VFIO_DEVICE_GET_REGION_INFO, &peer_bar, "BAR 2");
    peer_memory = mmap(NULL, peer_bar.size, PROT_READ | PROT_WRITE, MAP_SHARED,
                       peer, peer_bar.offset);
    if (peer_memory == MAP_FAILED) {
        die("mapping BAR 2");
    }
    if (by_group) {
        map(peer_memory, PEER_IOVA, peer_bar.size);
    } else {
        map_dma_buf();
    }
}

/* The kernel revokes a dma-buf for good, so it has to be mapped again. */
static void decode_peer(bool on)
{
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap), .ioas_id = ioas_id, .iova = PEER_IOVA,
        .length = peer_bar.size,
    };

    write_command(peer, on ? 2 : 0);
    if (on && !by_group) {
        ask(iommu, IOMMU_IOAS_UNMAP, &unmap, "IOMMU_IOAS_UNMAP");
        map_dma_buf();
    }
}

static unsigned long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void enable_vectors(void)
{
    static struct {
        struct vfio_irq_set set;
        int32_t fds[MAX_VECTORS];
    } irq;
    struct rlimit files = { 2 * MAX_VECTORS, 2 * MAX_VECTORS };
    unsigned long start;

    setrlimit(RLIMIT_NOFILE, &files);
    irq.set = (struct vfio_irq_set) {
        .argsz = sizeof(irq.set) + vectors * sizeof(irq.fds[0]),
        .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
        .index = VFIO_PCI_MSIX_IRQ_INDEX, .count = vectors,
    };
    for (unsigned i = 0; i < vectors; i++) {
        irq.fds[i] = eventfd(0, EFD_NONBLOCK);
        if (irq.fds[i] < 0) {
            die("eventfd");
        }
    }
    event[ADMIN] = irq.fds[0];
    event[IO] = irq.fds[vectors - 1];
    start = now_ms();
    ask(device, VFIO_DEVICE_SET_IRQS, &irq, "VFIO_DEVICE_SET_IRQS");
    printf("%u vectors in %lu ms\n", vectors, now_ms() - start);
}

/* Memory and bus mastering on; an eventfd for each vector */
static void set_up_device(void)
{
    struct vfio_region_info bar = {
        .argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX,
    };

    write_command(device, 6);
    ask(device, VFIO_DEVICE_GET_REGION_INFO, &bar, "BAR 0");
    regs = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, device,
                bar.offset);
    if (regs == MAP_FAILED) {
        die("mapping BAR 0");
    }
    enable_vectors();
}

static void write32(unsigned reg, uint32_t value)
{
    __sync_synchronize();
    *(volatile uint32_t *)(regs + reg) = value;
}

static void write64(unsigned reg, uint64_t value)
{
    write32(reg, value);
    write32(reg + 4, value >> 32);
}

static uint64_t address_of(int page)
{
    return IOVA + page * PAGE;
}

static void wait_ready(bool ready)
{
    for (int ms = 0; (*(volatile uint32_t *)(regs + CSTS) & 1) != ready; ms++) {
        if (ms == 10000) {
            errno = ETIMEDOUT;
            die("CSTS.RDY");
        }
        usleep(1000);
    }
}

static void start_controller(void)
{
    write32(CC, 0);
    wait_ready(false);
    write32(AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
    write64(ASQ, address_of(P_SQ));
    write64(ACQ, address_of(P_CQ));
    write32(CC, 4 << 20 | 6 << 16 | 1);
    wait_ready(true);
}

static bool completed(int queue, uint16_t *status)
{
    volatile Completion *cq = (void *)(memory + (P_CQ + queue) * PAGE);
    unsigned n = done[queue];

    *status = cq[n % ENTRIES].status;
    return (*status & 1) == !(n / ENTRIES % 2);
}

/*
 * Waits for the interrupt; without one the command counts as lost.  Returns
 * whether the command succeeded.
 */
static bool try(int queue, Command c)
{
    Command *sq = (void *)(memory + (P_SQ + queue) * PAGE);
    struct pollfd pfd = { .fd = event[queue], .events = POLLIN };
    unsigned n = done[queue];
    uint16_t status;
    uint64_t times;

    c.opcode |= (n & 0xffff) << 16;
    sq[n % ENTRIES] = c;
    write32(DOORBELLS + 8 * queue, (n + 1) % ENTRIES);
    commands++;
    if (poll(&pfd, 1, PATIENCE) == 1 && read(event[queue], &times, 8) == 8) {
        interrupts += times;
    } else {
        lost++;
    }
    if (!completed(queue, &status)) {
        errno = EIO;
        die("a command");
    }
    done[queue]++;
    write32(DOORBELLS + 8 * queue + 4, done[queue] % ENTRIES);
    return !(status >> 1);
}

static void execute(int queue, Command c)
{
    if (!try(queue, c)) {
        errno = EIO;
        die("a command");
    }
}

static void create_queues(void)
{
    uint32_t size = (ENTRIES - 1) << 16 | IO;

    execute(ADMIN, (Command) {
        .opcode = ADMIN_CREATE_CQ, .prp = { address_of(P_CQ + IO) },
        .cdw = { size, (vectors - 1) << 16 | 3 },   /* interrupts, contiguous */
    });
    execute(ADMIN, (Command) {
        .opcode = ADMIN_CREATE_SQ, .prp = { address_of(P_SQ + IO) },
        .cdw = { size, IO << 16 | 1 },          /* contiguous */
    });
}

/* Block @n of the disk goes into a page of memory, or of the peer's BAR. */
static uint64_t read_block(unsigned long n)
{
    uint64_t at = peer_memory ? n * PAGE % peer_bar.size : P_DATA * PAGE;
    Command c = {
        .opcode = IO_READ, .nsid = 1,
        .prp = { (peer_memory ? PEER_IOVA : IOVA) + at },
        .cdw = { n * 8, 0, 7 },                 /* eight blocks of 512 bytes */
    };
    volatile uint8_t *data = (peer_memory ?: memory) + at;
    uint64_t sum = 0;

    if (peer_memory && n % PEER_OFF == 0) {
        volatile uint64_t *first = (volatile uint64_t *)data;
        uint64_t before = *first = ~*first;

        decode_peer(false);
        try(IO, c);                             /* The disk may not tell. */
        decode_peer(true);
        refused += *first == before;
    }
    execute(IO, c);
    for (unsigned word = 0; word < PAGE / 8; word++) {
        sum += ((volatile uint64_t *)data)[word];
    }
    return sum;
}

int main(int argc, char **argv)
{
    unsigned long reads = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;
    uint64_t sum = 0;

    if (argc > 4) {
        vectors = strtoul(argv[4], NULL, 0);
    }
    if (!reads || vectors < QUEUES || vectors > MAX_VECTORS || argc > 6) {
        printf("vfio-nvme group|cdev ADDRESS READS [VECTORS [PEER]]\n");
        return 1;
    }
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        die("memory");
    }
    by_group = !strcmp(argv[1], "group");
    device = open_device(argv[2]);
    map(memory, IOVA, PAGES * PAGE);
    if (argc == 6) {
        open_peer(argv[5]);
    }
    set_up_device();
    start_controller();
    create_queues();
    for (unsigned long i = 0; i < reads && lost < 3; i++) {
        sum += read_block(i);
    }
    printf("%lu commands, %lu interrupts, %lu lost, %lu refused, sum %016lx\n",
           commands, interrupts, lost, refused, (unsigned long)sum);
    return lost != 0;
}
