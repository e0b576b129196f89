/*
 * A driver in user space for an NVMe disk: it reads by VFIO, and waits for each
 * completion by MSI-X and an eventfd, as a polling driver does not.
 *
 *   vfio-nvme group|cdev ADDRESS READS       e.g. vfio-nvme group 0000:01:00.0 5000
 *
 * The device is bound to vfio-pci.  "group" opens it as DPDK and older
 * hypervisors do, through a container of type 1; "cdev" by iommufd.  Prints how
 * many commands it gave, how many interrupts came, how many commands ended
 * without one in two seconds, and the sum of what it has read: of 64-bit words,
 * modulo 2^64.  The reads are of 4 KiB each, from the start of the disk on.
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

enum { CAP = 0, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30,
       DOORBELLS = 0x1000 };
enum { ADMIN_CREATE_SQ = 1, ADMIN_CREATE_CQ = 5, IO_READ = 2 };
enum { ADMIN, IO, QUEUES };     /* and the vectors of both */
enum { P_DATA, P_SQ, P_CQ = P_SQ + QUEUES, PAGES = P_CQ + QUEUES };

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
static volatile uint8_t *regs;
static uint8_t *memory;
static unsigned done[QUEUES];   /* commands */
static unsigned long commands, interrupts, lost;

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

static void open_by_group(const char *address)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)memory, .iova = IOVA, .size = PAGES * PAGE,
    };
    char path[128], link[256] = "";
    int container = must_open("/dev/vfio/vfio"), group;

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
    if (readlink(path, link, sizeof(link) - 1) < 0) {
        die(path);
    }
    snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
    group = must_open(path);
    ask(group, VFIO_GROUP_SET_CONTAINER, &container, "VFIO_GROUP_SET_CONTAINER");
    ask(container, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU, "VFIO_SET_IOMMU");
    ask(container, VFIO_IOMMU_MAP_DMA, &map, "VFIO_IOMMU_MAP_DMA");
    device = ask(group, VFIO_GROUP_GET_DEVICE_FD, (void *)address,
                 "VFIO_GROUP_GET_DEVICE_FD");
}

static void open_by_cdev(const char *address)
{
    struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
    struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
    struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
        .user_va = (uintptr_t)memory, .length = PAGES * PAGE, .iova = IOVA,
    };
    int iommu = must_open("/dev/iommu");
    struct dirent *entry;
    char path[512];
    DIR *dir;

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", address);
    dir = opendir(path);
    do {
        entry = dir ? readdir(dir) : NULL;
        if (!entry) {
            die(path);
        }
    } while (entry->d_name[0] == '.');
    snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
    device = must_open(path);
    bind.iommufd = iommu;
    ask(device, VFIO_DEVICE_BIND_IOMMUFD, &bind, "VFIO_DEVICE_BIND_IOMMUFD");
    ask(iommu, IOMMU_IOAS_ALLOC, &ioas, "IOMMU_IOAS_ALLOC");
    map.ioas_id = ioas.out_ioas_id;
    ask(iommu, IOMMU_IOAS_MAP, &map, "IOMMU_IOAS_MAP");
    attach.pt_id = ioas.out_ioas_id;
    ask(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach,
        "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

/* Memory and bus mastering on; a vector and an eventfd for each queue */
static void set_up_device(void)
{
    struct vfio_region_info bar = {
        .argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX,
    }, config = {
        .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX,
    };
    struct {
        struct vfio_irq_set set;
        int32_t fds[QUEUES];
    } irq = { .set = {
        .argsz = sizeof(irq),
        .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
        .index = VFIO_PCI_MSIX_IRQ_INDEX, .count = QUEUES,
    } };
    uint16_t command = 6;

    ask(device, VFIO_DEVICE_GET_REGION_INFO, &config, "the configuration space");
    if (pwrite(device, &command, 2, config.offset + 4) != 2) {
        die("the Command register");
    }
    ask(device, VFIO_DEVICE_GET_REGION_INFO, &bar, "BAR 0");
    regs = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, device,
                bar.offset);
    if (regs == MAP_FAILED) {
        die("mapping BAR 0");
    }
    for (int i = 0; i < QUEUES; i++) {
        irq.fds[i] = event[i] = eventfd(0, EFD_NONBLOCK);
    }
    ask(device, VFIO_DEVICE_SET_IRQS, &irq, "VFIO_DEVICE_SET_IRQS");
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

/* Waits for the interrupt; without one the command counts as lost */
static void execute(int queue, Command c)
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
    if (!completed(queue, &status) || status >> 1) {
        errno = EIO;
        die("a command");
    }
    done[queue]++;
    write32(DOORBELLS + 8 * queue + 4, done[queue] % ENTRIES);
}

static void create_queues(void)
{
    uint32_t size = (ENTRIES - 1) << 16 | IO;

    execute(ADMIN, (Command) {
        .opcode = ADMIN_CREATE_CQ, .prp = { address_of(P_CQ + IO) },
        .cdw = { size, IO << 16 | 3 },          /* interrupts, contiguous */
    });
    execute(ADMIN, (Command) {
        .opcode = ADMIN_CREATE_SQ, .prp = { address_of(P_SQ + IO) },
        .cdw = { size, IO << 16 | 1 },          /* contiguous */
    });
}

int main(int argc, char **argv)
{
    unsigned long reads = argc == 4 ? strtoul(argv[3], NULL, 0) : 0;
    uint64_t sum = 0;

    if (!reads) {
        printf("vfio-nvme group|cdev ADDRESS READS\n");
        return 1;
    }
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        die("memory");
    }
    if (!strcmp(argv[1], "group")) {
        open_by_group(argv[2]);
    } else {
        open_by_cdev(argv[2]);
    }
    set_up_device();
    start_controller();
    create_queues();
    for (unsigned long i = 0; i < reads && lost < 3; i++) {
        execute(IO, (Command) {
            .opcode = IO_READ, .nsid = 1, .prp = { address_of(P_DATA) },
            .cdw = { i * 8, 0, 7 },             /* eight blocks of 512 bytes */
        });
        for (unsigned word = 0; word < PAGE / 8; word++) {
            sum += ((uint64_t *)(memory + P_DATA * PAGE))[word];
        }
    }
    printf("%lu commands, %lu interrupts, %lu lost, sum %016lx\n", commands,
           interrupts, lost, (unsigned long)sum);
    return lost != 0;
}
