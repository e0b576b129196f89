/*
 * Shared virtual addressing: processes bind their address spaces to the test
 * endpoint pasid-dma (driver: sva-dma.c), and what the endpoint reads and writes
 * must be what the processes have there now.
 *
 *   sva [-s] [-n ROUNDS] [-m PROCESSES] [DEVICE]     DEVICE: /dev/pasid-dma0
 *
 * -s allows a device that has no ATS. TAP on stdout. It runs in the host and in
 * the guest alike.
 *
 * The pages of a process are files in /tmp, which this program also maps
 * elsewhere: so it sees each byte that goes to, or comes from, a page which the
 * process no longer has. Those are the stale bytes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sva-dma.h"
#include "sva-endpoint.h"

#define AT      0x100000000000ul        /* where tests map what they unmap */

static const char *device = "/dev/pasid-dma0";
static int rounds = 1000, processes = 1100;
static bool without_ats;
static unsigned long stale;             /* bytes of pages that were gone */

static int fd;                          /* of the device, bound to us */
static uint32_t pasid;

static uint32_t dma_of(uint32_t id, const void *dst, const void *src,
                       uint32_t len)
{
    return dma_at(id, (uintptr_t)dst, (uintptr_t)src, len);
}

static uint32_t dma(const void *dst, const void *src, uint32_t len)
{
    return dma_of(pasid, dst, src, len);
}

static bool refused(uint32_t result)
{
    return result == PASID_DMA_SRC_REFUSED || result == PASID_DMA_DST_REFUSED;
}

static int bind_to(int file)
{
    return ioctl(file, SVA_DMA_BIND);
}

static int open_device(void)
{
    int file = open(device, O_RDWR);

    if (file < 0) {
        die(device);
    }
    return file;
}

static int pages(size_t count)
{
    char name[] = "/tmp/svaXXXXXX";
    int file = mkstemp(name);

    if (file < 0 || unlink(name) || ftruncate(file, count * PAGE)) {
        die(name);
    }
    return file;
}

static void *map_at(void *where, int file, size_t page)
{
    void *p = mmap(where, PAGE, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_POPULATE | (where ? MAP_FIXED : 0),
                   file, page * PAGE);

    if (p == MAP_FAILED) {
        die("mmap");
    }
    return p;
}

/* --- the tests ----------------------------------------------------------- */

static void test_enabled(void)
{
    uint32_t state = get(PASID_DMA_STATE);

    point(state & PASID_DMA_STATE_PASID &&
          (without_ats || state & PASID_DMA_STATE_ATS), "enabled",
          "PASID %s, ATS %s, our PASID is %u",
          state & PASID_DMA_STATE_PASID ? "on" : "off",
          state & PASID_DMA_STATE_ATS ? "on" : "off", pasid);
}

/* Copies of all kinds of sizes and places */
static void test_copy(const char *name)
{
    uint8_t *src = memory(32 * PAGE), *dst = memory(32 * PAGE);
    unsigned long wrong = 0, bytes = 0;
    int errors = 0;

    for (int n = 0; n < 200; n++) {
        size_t from = rand() % (16 * PAGE), to = rand() % (16 * PAGE);
        size_t len = rand() % (n % 4 ? 4 * PAGE : PASID_DMA_MAX_LEN);

        fill(src, 32 * PAGE);
        memset(dst, 0xee, 32 * PAGE);
        errors += dma(dst + to, src + from, len) != PASID_DMA_OK;
        wrong += differ(dst + to, src + from, len);
        for (size_t i = 0; i < 32 * PAGE; i++) {
            wrong += dst[i] != 0xee && (i < to || i >= to + len);
        }
        bytes += len;
    }
    point(!errors && !wrong, name, "200 copies, %lu bytes, %d refused, "
          "%lu wrong", bytes, errors, wrong);
    munmap(src, 32 * PAGE);
    munmap(dst, 32 * PAGE);
}

/* What must be refused, and leaves memory alone */
static void test_refused(void)
{
    uint8_t *src = memory(PAGE), *dst = memory(PAGE);
    uint32_t was = how, none, other, far, large;

    fill(src, PAGE);
    how &= ~(PASID_DMA_USE_PASID | PASID_DMA_USE_ATS);
    none = dma(dst, src, PAGE);
    how = was;
    other = dma_of(pasid + 1, dst, src, PAGE);
    far = dma_of(0xffff, dst, src, PAGE);
    large = dma_of(0xfffff, dst, src, PAGE);
    for (size_t n = 0; n < PAGE; n++) {
        stale += dst[n] != 0xee;
    }
    point(none != PASID_DMA_OK && refused(other) && refused(far) &&
          refused(large) && dst[0] == 0xee, "refused",
          "without a PASID %u, PASID %u: %u, 0xffff: %u, 0xfffff: %u", none,
          pasid + 1, other, far, large);
    munmap(src, PAGE);
    munmap(dst, PAGE);
}

/* Other pages come to an address at which the endpoint has been */
static void test_remap(const char *name)
{
    int file = pages(2), errors = 0, let = 0;
    uint8_t *page[2] = { map_at(NULL, file, 0), map_at(NULL, file, 1) };
    uint8_t *buf = memory(PAGE), *at = (uint8_t *)AT;
    unsigned long before = stale;

    for (int n = 0; n < rounds; n++) {
        uint8_t *now = page[n % 2], *old = page[!(n % 2)];

        fill(page[0], PAGE);
        fill(page[1], PAGE);
        map_at(at, file, n % 2);
        *(volatile uint8_t *)at = *at;  /* dirty, so that it may be written */
        errors += dma(buf, at, PAGE) != PASID_DMA_OK;
        stale += differ(buf, now, PAGE);
        fill(buf, PAGE);
        memcpy(now, old, PAGE);
        errors += dma(at, buf, PAGE) != PASID_DMA_OK;
        stale += differ(buf, now, PAGE);
        if (n % 3 == 0) {
            munmap(at, PAGE);
        } else if (n % 3 == 1) {
            mprotect(at, PAGE, PROT_NONE);
        } else {
            continue;                   /* the next one replaces it */
        }
        fill(buf, PAGE);
        let += dma(at, buf, PAGE) == PASID_DMA_OK;
        stale += memcmp(buf, now, PAGE) ? 0 : PAGE;
        let += dma(buf, at, PAGE) == PASID_DMA_OK;
    }
    point(!errors && !let && stale == before, name,
          "%d rounds, %d refused, %d let through, %lu stale bytes", rounds,
          errors, let, stale - before);
    munmap(at, PAGE);
    munmap(page[0], PAGE);
    munmap(page[1], PAGE);
    munmap(buf, PAGE);
    close(file);
}

/* A page that may be read alone, and one that moved */
static void test_permission(void)
{
    uint8_t *page = memory(PAGE), *buf = memory(PAGE), *moved;
    int errors = 0, let = 0;

    for (int n = 0; n < 100; n++) {
        fill(page, PAGE);
        errors += dma(page, page, PAGE) != PASID_DMA_OK;
        mprotect(page, PAGE, PROT_READ);
        errors += dma(buf, page, PAGE) != PASID_DMA_OK;
        let += dma(page, buf, PAGE) == PASID_DMA_OK;
        mprotect(page, PAGE, PROT_READ | PROT_WRITE);
        *(volatile uint8_t *)page = *page;
        moved = mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                       AT + (n % 2) * PAGE);
        if (moved == MAP_FAILED) {
            die("mremap");
        }
        let += dma(buf, page, PAGE) == PASID_DMA_OK;
        let += dma(page, buf, PAGE) == PASID_DMA_OK;
        *(volatile uint8_t *)moved = *moved;
        errors += dma(buf, moved, PAGE) != PASID_DMA_OK;
        stale += differ(buf, moved, PAGE);
        page = moved;
    }
    point(!errors && !let, "permission",
          "100 rounds, %d refused, %d let through", errors, let);
    munmap(page, PAGE);
    munmap(buf, PAGE);
}

/* After fork() each of two processes has its own copy */
static void test_fork(void)
{
    int file = pages(1), errors = 0, let = 0;
    uint8_t *shared = map_at(NULL, file, 0);
    uint8_t *page = memory(PAGE), *buf = memory(PAGE);
    unsigned long before = stale;

    for (int n = 0; n < 50; n++) {
        int go[2];
        pid_t child;

        fill(page, PAGE);
        errors += dma(page, page, PAGE) != PASID_DMA_OK;
        if (pipe(go)) {
            die("pipe");
        }
        child = fork();
        if (!child) {
            char c;

            close(go[1]);
            c = read(go[0], &c, 1);
            memcpy(shared, page, PAGE);
            _exit(0);
        }
        close(go[0]);
        *(volatile uint8_t *)buf = *buf;        /* the copy of this one */
        fill(buf, PAGE);
        let += dma(page, buf, PAGE) == PASID_DMA_OK;
        memcpy(shared, page, PAGE);
        *(volatile uint8_t *)page = *page;      /* and the one of that */
        errors += dma(page, buf, PAGE) != PASID_DMA_OK;
        stale += differ(page, buf, PAGE);
        memcpy(buf, shared, PAGE);
        close(go[1]);
        waitpid(child, NULL, 0);
        stale += differ(shared, buf, PAGE);
    }
    point(!errors && !let && stale == before, "fork",
          "50 children, %d refused, %d let through, %lu stale bytes", errors,
          let, stale - before);
    munmap(shared, PAGE);
    munmap(page, PAGE);
    munmap(buf, PAGE);
    close(file);
}

/* We bind and unbind, over and over */
static void test_rebind(void)
{
    uint8_t *src = memory(PAGE), *dst = memory(PAGE);
    int errors = 0, let = 0;
    unsigned long before = stale;

    for (int n = 0; n < rounds; n++) {
        if (ioctl(fd, SVA_DMA_UNBIND)) {
            die("unbind");
        }
        fill(src, PAGE);
        memset(dst, 0xee, PAGE);
        let += dma(dst, src, PAGE) == PASID_DMA_OK;
        for (size_t i = 0; i < PAGE; i++) {
            stale += dst[i] != 0xee;
        }
        if (bind_to(fd) < 0) {
            die("bind");
        }
        errors += dma(dst, src, PAGE) != PASID_DMA_OK;
        errors += differ(dst, src, PAGE) != 0;
    }
    point(!errors && !let && stale == before, "rebind",
          "%d times, %d refused, %d let through, %lu stale bytes", rounds,
          errors, let, stale - before);
    munmap(src, PAGE);
    munmap(dst, PAGE);
}

struct child {
    pid_t pid;
    uint32_t pasid;
};

/*
 * A child which has one page of @file at AT, and is bound if it can; it then
 * waits for the end of @go. Its page has its own bytes.
 */
static struct child start_child(int file, size_t page, int go[2], bool wait)
{
    struct child child;
    int back[2];

    if (pipe(back)) {
        die("pipe");
    }
    child.pid = fork();
    if (child.pid < 0) {
        die("fork");
    }
    if (!child.pid) {
        int own = open_device();
        char c;

        close(go[1]);
        close(back[0]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        map_at((void *)AT, file, page);
        memset((void *)AT, 0xee, PAGE / 2);
        fill((uint8_t *)AT + PAGE / 2, PAGE / 2);
        ((uint32_t *)AT)[PAGE / 8] = getpid();
        child.pasid = bind_to(own);
        if (write(back[1], &child.pasid, sizeof(child.pasid)) < 0) {
            _exit(1);
        }
        c = read(go[0], &c, 1);
        if (!wait) {
            _exit(0);
        }
        for (;;) {
            pause();
        }
    }
    close(back[1]);
    if (read(back[0], &child.pasid, sizeof(child.pasid)) !=
        sizeof(child.pasid)) {
        die("a child that binds");
    }
    close(back[0]);
    return child;
}

/* Processes that come and go: their PASIDs are used again */
static void test_processes(void)
{
    int file = pages(2), errors = 0, let = 0;
    uint8_t *page[2] = { map_at(NULL, file, 0), map_at(NULL, file, 1) };
    uint8_t *at = (uint8_t *)AT;
    unsigned long before = stale;
    static bool seen[1 << 20];
    uint32_t last, again = 0;

    for (int n = 0; n < rounds; n++) {
        uint8_t *now = page[n % 2], *old = page[!(n % 2)];
        struct child child;
        int go[2];

        memset(old, n, PAGE);
        if (pipe(go)) {
            die("pipe");
        }
        child = start_child(file, n % 2, go, false);
        last = child.pasid & 0xfffff;
        again += seen[last];
        seen[last] = true;
        errors += dma_of(last, at, at + PAGE / 2, PAGE / 2) != PASID_DMA_OK;
        stale += differ(now, now + PAGE / 2, PAGE / 2);
        for (size_t i = 0; i < PAGE; i++) {
            stale += old[i] != (uint8_t)n;
        }
        close(go[0]);
        close(go[1]);
        waitpid(child.pid, NULL, 0);
        memset(now, 0xaa, PAGE);
        let += dma_of(last, at, at + PAGE / 2, PAGE / 2) == PASID_DMA_OK;
    }
    point(!errors && !let && stale == before && again, "processes",
          "%d processes, %u with an earlier one's PASID, %d refused, "
          "%d let through, %lu stale bytes", rounds, again, errors, let,
          stale - before);
    munmap(page[0], PAGE);
    munmap(page[1], PAGE);
    close(file);
}

/* Many at once, all with other bytes at the same address */
static void test_many(void)
{
    struct child *child = calloc(processes, sizeof(*child));
    int file = pages(processes), errors = 0, let = 0, go[2];
    uint8_t *all = mmap(NULL, processes * PAGE, PROT_READ | PROT_WRITE,
                        MAP_SHARED, file, 0);
    uint8_t *at = (uint8_t *)AT;
    unsigned long wrong = 0;
    uint32_t highest = 0;

    if (pipe(go) || all == MAP_FAILED) {
        die("pipe");
    }
    for (int n = 0; n < processes; n++) {
        child[n] = start_child(file, n, go, false);
        highest = child[n].pasid > highest ? child[n].pasid : highest;
    }
    for (int n = processes - 1; n >= 0; n--) {
        errors += dma_of(child[n].pasid, at, at + PAGE / 2, PAGE / 2) !=
                  PASID_DMA_OK;
    }
    for (int n = 0; n < processes; n++) {
        uint8_t *page = all + n * PAGE;

        wrong += differ(page, page + PAGE / 2, PAGE / 2);
        wrong += *(pid_t *)page != child[n].pid;
    }
    close(go[0]);
    close(go[1]);
    for (int n = 0; n < processes; n++) {
        waitpid(child[n].pid, NULL, 0);
    }
    for (int n = 0; n < processes; n++) {
        let += dma_of(child[n].pasid, at, at + PAGE / 2, PAGE / 2) ==
               PASID_DMA_OK;
    }
    stale += wrong;
    point(!errors && !let && !wrong, "many",
          "%d processes at once, PASIDs up to %u, %d refused, %d let through, "
          "%lu wrong bytes", processes, highest, errors, let, wrong);
    munmap(all, processes * PAGE);
    close(file);
    free(child);
}

/* Processes that are killed while the endpoint copies in them */
static void test_death(void)
{
    int file = pages(1), let = 0, idle = 0, quiet = 0, deaths = 30;
    uint8_t *page = map_at(NULL, file, 0);
    unsigned long copies = 0, before = stale;

    for (int n = 0; n < deaths; n++) {
        uint32_t oks, failures;
        struct child child;
        int go[2];

        if (pipe(go)) {
            die("pipe");
        }
        child = start_child(file, 0, go, true);
        oks = get(PASID_DMA_OKS);
        aim(child.pasid, AT, AT + PAGE / 2, PAGE / 2);
        set(PASID_DMA_GO, PASID_DMA_LOOP);
        usleep(5000 + rand() % 5000);
        idle += get(PASID_DMA_OKS) == oks;
        kill(child.pid, SIGKILL);
        waitpid(child.pid, NULL, 0);
        copies += get(PASID_DMA_OKS) - oks;
        memset(page, n, PAGE);
        /* still at it, and refused each time */
        oks = get(PASID_DMA_OKS);
        failures = get(PASID_DMA_FAILURES);
        usleep(5000);
        let += get(PASID_DMA_OKS) - oks;
        quiet += get(PASID_DMA_FAILURES) == failures;
        set(PASID_DMA_GO, PASID_DMA_STOP);
        for (size_t i = 0; i < PAGE; i++) {
            stale += page[i] != (uint8_t)n;
        }
        close(go[0]);
        close(go[1]);
    }
    point(!let && !idle && !quiet && stale == before, "death",
          "%d deaths, %lu copies before, %d after, %d without any before, "
          "%d without an attempt after, %lu stale bytes", deaths, copies, let,
          idle, quiet, stale - before);
    munmap(page, PAGE);
    close(file);
}

static void test_atc(void)
{
    uint32_t hits = get(PASID_DMA_ATC_HITS);
    uint32_t requests = get(PASID_DMA_ATC_REQUESTS);
    uint32_t invals = get(PASID_DMA_ATC_INVALS);

    point(hits && requests && invals, "atc", "%u hits, %u requests, "
          "%u invalidations, %u entries left", hits, requests, invals,
          get(PASID_DMA_ATC_ENTRIES));
}

int main(int argc, char **argv)
{
    int opt;

    setvbuf(stdout, NULL, _IOLBF, 0);
    while ((opt = getopt(argc, argv, "sn:m:")) != -1) {
        switch (opt) {
        case 's':
            without_ats = true;
            break;
        case 'n':
            rounds = atoi(optarg);
            break;
        case 'm':
            processes = atoi(optarg);
            break;
        default:
            return 2;
        }
    }
    if (optind < argc) {
        device = argv[optind];
    }
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    fd = open_device();
    regs = mmap(NULL, PASID_DMA_BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                fd, 0);
    if (regs == MAP_FAILED) {
        die("mmap of the device");
    }
    pasid = bind_to(fd);
    if ((int)pasid < 0) {
        die("bind");
    }
    how = PASID_DMA_USE_PASID;
    test_enabled();
    test_copy("copy-without-atc");
    test_remap("remap-without-atc");
    if (get(PASID_DMA_STATE) & PASID_DMA_STATE_ATS) {
        how |= PASID_DMA_USE_ATS;
        test_copy("copy");
        test_remap("remap");
    }
    test_refused();
    test_permission();
    test_fork();
    test_rebind();
    test_processes();
    test_many();
    test_death();
    if (how & PASID_DMA_USE_ATS) {
        test_atc();
    }
    point(!stale, "stale", "%lu stale bytes in all", stale);
    printf("1..%d\n", number);
    return failed > 0;
}
