/*
 * QTest: an emulated SMMUv3 does what the base's does
 *
 * A random guest programs Stream Tables, CDs, page tables, commands and
 * registers, lets devices do DMA and reads the event queue. QEMU without the
 * series (QTEST_QEMU_PRISTINE) plays it, and ours with the machine's SMMU and
 * with one of the user's, accel=off. Each event, each error, each register and
 * all memory must be the same at the end.
 *
 * The series makes an emulated SMMU follow the book in places where the base
 * does not. The guest avoids these, and the points of differs/ show that they
 * are compared: each is seen to differ.
 *
 * SMMUV3_SEED replays one seed in the point "fresh". SMMUV3_OPERATIONS sets
 * the number of operations.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "hw/pci/pci_regs.h"
#include "smmuv3-host.h"
#include "smmuv3-test-util.h"

#define N_DEVS      3
#define N_PAGES     8               /* that page tables map */
#define TXSZ        25              /* 39 bits */
#define VA          0x1000000000ull /* of the pages; blocks are above them */
#define BLOCK_VA    (VA + 2 * GiB)
#define IPA         0x80000000ull   /* of the pages, for stage 2 */
#define EDU_SLOT(n) (2 + (n))
#define EDU_SID(n)  (EDU_SLOT(n) << 3)
#define EDU_BAR(n)  (VIRT_PCIE_MMIO_BASE + 0x1000000 * (1 + (n)))

/* Words of an STE, and of a CD */
#define STE_CONFIG(n)       (STE_V | (uint64_t)(n) << 1)
#define STE2_S2T0SZ(n)      ((uint64_t)(n) << 32)
#define STE2_S2SL0(n)       ((uint64_t)(n) << 38)
#define STE2_S2TG(n)        ((uint64_t)(n) << 46)
#define STE2_S2PS_44        (4ull << 48)
#define STE2_S2AA64         (1ull << 51)
#define STE2_S2R            (1ull << 58)
#define S2_DATA             (PTE_VALID | 0xfull << 2 | 3ull << 6 | PTE_AF)

/* Bits of one word that an operation sets at random, to what is listed */
typedef struct Field {
    unsigned word, shift, width;
    unsigned n;
    uint8_t values[12];
} Field;

/* Not S1CDMax and S1STALLD, see differs/; and S2AA64=0 ends the base's QEMU */
static const Field ste_fields[] = {
    { 0, 0, 1, 1, { 0 } },                              /* V */
    { 0, 1, 3, 8, { 0, 1, 2, 3, 4, 5, 6, 7 } },         /* Config */
    { 0, 4, 2, 4, { 0, 1, 2, 3 } },                     /* S1Fmt */
    { 0, 6, 1, 2, { 0, 1 } },                           /* S1ContextPtr */
    { 0, 40, 8, 4, { 0, 1, 0x80, 0xff } },
    { 0, 51, 1, 1, { 1 } },
    { 1, 0, 2, 4, { 0, 1, 2, 3 } },                     /* S1DSS */
    { 1, 30, 2, 4, { 0, 1, 2, 3 } },                    /* STRW */
    { 1, 44, 2, 4, { 0, 1, 2, 3 } },                    /* SHCFG */
    { 2, 0, 16, 3, { 0, 1, 0xff } },                    /* S2VMID */
    { 2, 32, 6, 11, { 0, 15, 16, 19, 20, 24, 25, 26, 39, 40, 63 } },
    { 2, 38, 2, 4, { 0, 1, 2, 3 } },                    /* S2SL0 */
    { 2, 46, 2, 4, { 0, 1, 2, 3 } },                    /* S2TG */
    { 2, 48, 3, 8, { 0, 1, 2, 3, 4, 5, 6, 7 } },        /* S2PS */
    { 2, 52, 1, 2, { 0, 1 } },                          /* S2ENDI */
    { 2, 53, 1, 2, { 0, 1 } },                          /* S2AFFD */
    { 2, 54, 1, 2, { 0, 1 } },                          /* S2PTW */
    { 2, 57, 1, 2, { 0, 1 } },                          /* S2S */
    { 2, 58, 1, 2, { 0, 1 } },                          /* S2R */
    { 3, 4, 8, 4, { 0, 1, 0x80, 0xff } },               /* S2TTB */
    { 3, 44, 8, 4, { 0, 1, 0x80, 0xff } },
};

/* Not the reserved values of IPS, which end the base's QEMU */
static const Field cd_fields[] = {
    { 0, 0, 6, 11, { 0, 15, 16, 17, 24, 25, 26, 38, 39, 40, 63 } }, /* T0SZ */
    { 0, 6, 2, 4, { 0, 1, 2, 3 } },                     /* TG0 */
    { 0, 14, 1, 2, { 0, 1 } },                          /* EPD0 */
    { 0, 15, 1, 2, { 0, 1 } },                          /* ENDI */
    { 0, 16, 6, 7, { 0, 15, 16, 25, 39, 40, 63 } },     /* T1SZ */
    { 0, 22, 2, 4, { 0, 1, 2, 3 } },                    /* TG1 */
    { 0, 30, 1, 2, { 0, 1 } },                          /* EPD1 */
    { 0, 31, 1, 1, { 0 } },                             /* V */
    { 0, 32, 3, 6, { 0, 1, 2, 3, 4, 5 } },              /* IPS */
    { 0, 35, 1, 2, { 0, 1 } },                          /* AFFD */
    { 0, 38, 2, 4, { 0, 1, 2, 3 } },                    /* TBI */
    { 0, 41, 1, 1, { 0 } },                             /* AA64 */
    { 0, 42, 2, 4, { 0, 1, 2, 3 } },                    /* HD, HA */
    { 0, 44, 3, 8, { 0, 1, 2, 3, 4, 5, 6, 7 } },        /* S, R, A */
    { 0, 48, 16, 4, { 0, 1, 2, 0xff } },                /* ASID */
    { 1, 0, 1, 2, { 0, 1 } },
    { 1, 4, 8, 4, { 0, 1, 0x80, 0xff } },               /* TTB0 */
    { 1, 44, 8, 4, { 0, 1, 0x80, 0xff } },
    { 1, 60, 1, 2, { 0, 1 } },                          /* HAD0 */
    { 2, 44, 8, 4, { 0, 1, 0x80, 0xff } },              /* TTB1 */
};

static const Field pte_fields[] = {
    { 0, 0, 2, 4, { 0, 1, 2, 3 } },
    { 0, 6, 2, 4, { 0, 1, 2, 3 } },                     /* AP, S2AP */
    { 0, 10, 1, 2, { 0, 1 } },                          /* AF */
    { 0, 11, 1, 2, { 0, 1 } },
    { 0, 12, 4, 4, { 0, 1, 8, 15 } },                   /* the address */
    { 0, 40, 8, 5, { 0, 1, 0x10, 0x80, 0xff } },
    { 0, 48, 4, 4, { 0, 1, 8, 15 } },
    { 0, 53, 2, 4, { 0, 1, 2, 3 } },                    /* XN */
    { 0, 61, 2, 4, { 0, 1, 2, 3 } },                    /* APTable */
};

/* Not what is illegal by the book only: 0x18, 0x1a, SSec of 1 and 2 */
static const uint8_t opcodes[] = {
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x11, 0x12, 0x12,
    0x12, 0x13, 0x13, 0x20, 0x21, 0x22, 0x23, 0x28, 0x28, 0x2a, 0x2a, 0x30,
    0x40, 0x41, 0x44, 0x45, 0x46, 0x50, 0x7f, 0xff,
};

typedef enum OpKind {
    OP_DMA, OP_STE, OP_STE_FIELD, OP_CD, OP_CD_FIELD, OP_PTE, OP_PTE_FIELD,
    OP_CMD, OP_TOGGLE, OP_GBPA, OP_RESET, OP_KINDS
} OpKind;

static const struct {
    const char *name;
    unsigned weight;
} op_info[OP_KINDS] = {
    [OP_DMA] = { "dma", 50 },
    [OP_STE] = { "ste", 14 },
    [OP_STE_FIELD] = { "ste-field", 10 },
    [OP_CD] = { "cd", 8 },
    [OP_CD_FIELD] = { "cd-field", 12 },
    [OP_PTE] = { "pte", 8 },
    [OP_PTE_FIELD] = { "pte-field", 10 },
    [OP_CMD] = { "cmd", 12 },
    [OP_TOGGLE] = { "toggle", 2 },
    [OP_GBPA] = { "gbpa", 1 },
    [OP_RESET] = { "reset", 1 },
};

/* r[] picks what an operation works on */
typedef struct Op {
    OpKind kind;
    uint32_t r[4];
} Op;

static const unsigned granules[] = { 12, 14, 16 };
static const char *const stages[] = { "1", "2", "nested" };

typedef struct Row {
    unsigned granule;
    const char *stage;
    unsigned seed;                  /* 0: a fresh one */
} Row;

typedef struct Run {
    HostGuest *g;
    const Row *row;
    GPtrArray *log;                 /* a line for each thing to compare */
    uint64_t page;                  /* the first of N_PAGES */
    uint64_t l1;                    /* a two-level Stream Table, or 0 */
    uint64_t cd[N_DEVS], s1[N_DEVS], s2[N_DEVS];
    int at;
    const char *what;
    bool exact;                     /* compare what the series has moved, too */
} Run;

static void G_GNUC_PRINTF(2, 3) say(Run *run, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_ptr_array_add(run->log, g_strdup_printf("operation %d, %s: %s", run->at,
                                              run->what, text));
}

static uint64_t page_size(const Run *run)
{
    return 1ull << run->row->granule;
}

/*
 * Tables
 */

static uint64_t *pte_of(Run *run, unsigned dev, bool s2, unsigned n)
{
    uint64_t root = s2 ? run->s2[dev] : run->s1[dev];
    unsigned granule = run->row->granule;

    if (n < N_PAGES) {
        return host_pte(run->g, root, granule, TXSZ,
                        (s2 ? IPA : VA) + n * page_size(run), 3, true);
    }
    return host_pte(run->g, root, granule, TXSZ, BLOCK_VA, 2, true);
}

/* Stage 1 leads to the pages, or with stage 2 to where that maps them */
static void map_page(Run *run, unsigned dev, bool s2, unsigned n, bool ipa)
{
    uint64_t to = run->page + n * page_size(run);

    if (n == N_PAGES) {
        /* The block that has the pages: here is the same VA offset */
        to = HOST_RAM_BASE & -host_level_size(run->row->granule, 2);
    } else if (ipa && !s2) {
        to = IPA + n * page_size(run);
    }
    *pte_of(run, dev, s2, n) = cpu_to_le64(
        host_leaf(n < N_PAGES ? 3 : 2, to, s2 ? S2_DATA : PTE_DATA));
}

/* Stage 2 has all of RAM at its own address too, for CDs and tables */
static void map_ram_identically(Run *run, unsigned dev)
{
    unsigned granule = run->row->granule;
    uint64_t block = host_level_size(granule, 2);

    for (uint64_t at = 0; at < HOST_RAM_SIZE; at += block) {
        *host_pte(run->g, run->s2[dev], granule, TXSZ, HOST_RAM_BASE + at, 2,
                  true) = cpu_to_le64((HOST_RAM_BASE + at) | S2_DATA);
    }
}

/* Some with TBI0: the upper 8 bits of an address do not matter */
static void write_cd(Run *run, unsigned dev, unsigned asid)
{
    uint64_t *cd = host_ram(run->g, run->cd[dev]);

    host_write_cd(run->g, run->cd[dev], &(HostCd) {
        .asid = asid, .ttb = { run->s1[dev] }, .txsz = { TXSZ },
        .granule_shift = run->row->granule,
    });
    cd[0] |= cpu_to_le64(asid == 1 ? 1ull << 38 : 0);
}

static void write_ste(Run *run, unsigned dev, unsigned config, unsigned vmid)
{
    static const unsigned tg[] = { 0, 2, 1 };
    unsigned granule = run->row->granule;
    unsigned sl0 = (granule == 12 ? 2 : 3) - host_start_level(granule, TXSZ);
    uint64_t *ste = smmu_ste(run->g, 0, EDU_SID(dev));

    memset(ste, 0, 64);
    ste[0] = cpu_to_le64(STE_CONFIG(config) | run->cd[dev]);
    ste[2] = cpu_to_le64(vmid | STE2_S2T0SZ(TXSZ) | STE2_S2SL0(sl0) |
                         STE2_S2TG(tg[(granule - 12) / 2]) | STE2_S2PS_44 |
                         STE2_S2AA64 | STE2_S2R);
    ste[3] = cpu_to_le64(run->s2[dev]);
}

static void set_field(uint64_t *words, const Field *field, uint32_t r)
{
    uint64_t *word = &words[field->word];

    *word = cpu_to_le64(deposit64(le64_to_cpu(*word), field->shift,
                                  field->width,
                                  field->values[r % field->n]));
}

/* Not so that stage 2's start level has no bit: see differs/start-level */
static void set_ste_field(uint64_t *ste, const Field *field, uint32_t r)
{
    uint64_t old = ste[field->word], word2;
    unsigned tg, shift;
    int level;

    set_field(ste, field, r);
    word2 = le64_to_cpu(ste[2]);
    tg = extract64(word2, 46, 2);
    shift = tg == 0 ? 12 : tg == 1 ? 16 : 14;
    level = (shift == 12 ? 2 : 3) - (int)extract64(word2, 38, 2);
    if (64 - extract64(word2, 32, 6) <= shift + (3 - level) * (shift - 3)) {
        ste[field->word] = old;
    }
}

/*
 * What a guest does
 */

static void cmd(Run *run, HostCmd c)
{
    unsigned error;

    smmu_cmd(run->g, 0, c);
    error = smmu_sync(run->g, 0);
    if (error) {
        say(run, "CERROR %u of %016" PRIx64 " %016" PRIx64 ", CONS %x", error,
            c.word[0], c.word[1], smmu_read(run->g, 0, SMMU_CMDQ_CONS));
        smmu_ack(run->g, 0);
    }
}

/* Mostly as a driver does; else QEMU may go on with what it has cached */
static void cfgi(Run *run, unsigned dev, uint32_t r)
{
    if (r % 8) {
        cmd(run, r % 8 == 1 ? CMD_CFGI_ALL : CMD_CFGI_STE(EDU_SID(dev)));
    }
}

static void tlbi(Run *run, uint32_t r)
{
    if (r % 4) {
        cmd(run, CMD_TLBI_NSNH_ALL);
    }
}

static void enable(Run *run)
{
    HostGuest *g = run->g;

    smmu_enable(g, 0);
    if (run->l1) {
        smmu_disable(g, 0);
        smmu_write64(g, 0, SMMU_STRTAB_BASE, run->l1);
        smmu_write(g, 0, SMMU_STRTAB_CFG, 1 << 16 | 8 << 6 | HOST_SID_BITS);
        smmu_write(g, 0, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_EVENTQEN |
                                   SMMU_CR0_CMDQEN);
    }
    for (unsigned n = 0; n < N_DEVS; n++) {
        smmuv3_edu_enable(g->qts, VIRT_ECAM_BASE + (EDU_SID(n) << 12),
                          EDU_BAR(n));
    }
}

static void take_events(Run *run)
{
    uint64_t event[4];

    while (smmu_event(run->g, 0, event)) {
        if ((event[0] & 0xff) == F_CD_FETCH && !run->exact) {
            event[3] |= event[2];
            event[2] = 0;
        }
        say(run, "event %016" PRIx64 " %016" PRIx64 " %016" PRIx64
            " %016" PRIx64, event[0], event[1], event[2], event[3]);
    }
}

static uint64_t pick_iova(Run *run, const Op *op)
{
    static const uint64_t odd[] = {
        0, 1ull << 39, 1ull << 43, 1ull << 44, 1ull << 47, 1ull << 48, -4096ull,
        IPA + 64 * MiB, VA + 64 * MiB,
    };
    uint64_t size = page_size(run);
    /* At the beginning, in the middle, and over the end */
    const uint64_t offsets[] = { 0, 8, size / 2, size - 4 };
    uint64_t in_page = offsets[op->r[2] % ARRAY_SIZE(offsets)];
    unsigned n = op->r[2] / 4 % N_PAGES;

    switch (op->r[1] % 16) {
    case 0:
        return odd[op->r[2] % ARRAY_SIZE(odd)];
    case 1 ... 2:
        return run->page + n * size + in_page;
    case 3 ... 5:
        return IPA + n * size + in_page;
    case 6:
        return BLOCK_VA + (run->page - HOST_RAM_BASE) + n * size + in_page;
    case 7:
        return (0x5aull << 56) + VA + n * size + in_page;
    default:
        return VA + n * size + in_page;
    }
}

static void do_dma(Run *run, unsigned dev, const Op *op)
{
    static const unsigned lens[] = { 1, 4, 8, 16, 64 };

    smmuv3_edu_dma(run->g->qts, EDU_BAR(dev), op->r[3] & 1, pick_iova(run, op),
                   lens[(op->r[3] >> 1) % ARRAY_SIZE(lens)]);
    take_events(run);
}

static HostCmd pick_cmd(Run *run, const Op *op)
{
    unsigned code = opcodes[op->r[1] % ARRAY_SIZE(opcodes)];
    uint64_t word0 = code, word1 = 0;

    if (code >= 0x03 && code <= 0x06) {
        word0 |= (uint64_t)EDU_SID(op->r[2] % (N_DEVS + 1)) << 32;
        word1 = op->r[2] >> 8 & 0x1f;
    } else if (code >= 0x10 && code < 0x40) {
        /* NUM, SCALE, VMID, ASID; Leaf, TTL, TG and the address */
        word0 |= (uint64_t)(op->r[2] & 0x1f) << 12 |
                 (uint64_t)(op->r[2] >> 5 & 0x1f) << 20 |
                 (uint64_t)(op->r[2] >> 10 & 3) << 32 |
                 (uint64_t)(op->r[2] >> 12 & 3) << 48;
        word1 = pick_iova(run, &(Op) { .r = { 0, op->r[3], op->r[0] } });
        word1 = (word1 & ~0xfffull) | (op->r[2] >> 14 & 1) |
                (op->r[2] >> 15 & 3) << 8 | (op->r[2] >> 17 & 3) << 10;
    }
    return HOST_CMD(word0, word1);
}

static void execute(Run *run, const Op *op)
{
    static const unsigned configs[] = { 5, 5, 5, 6, 6, 7, 7, 4, 0 };
    unsigned dev = op->r[0] % N_DEVS, n = op->r[1] % (N_PAGES + 1);
    bool s2 = op->r[3] & 1;
    HostGuest *g = run->g;
    const Field *field;

    run->what = op_info[op->kind].name;
    switch (op->kind) {
    case OP_DMA:
        do_dma(run, dev, op);
        break;
    case OP_STE:
        write_ste(run, dev, configs[op->r[1] % ARRAY_SIZE(configs)],
                  op->r[2] % 3);
        cfgi(run, dev, op->r[3]);
        break;
    case OP_STE_FIELD:
        field = &ste_fields[op->r[1] % ARRAY_SIZE(ste_fields)];
        set_ste_field(smmu_ste(g, 0, EDU_SID(dev)), field, op->r[2]);
        cfgi(run, dev, op->r[3]);
        break;
    case OP_CD:
        write_cd(run, dev, op->r[1] % 3);
        cfgi(run, dev, op->r[3]);
        break;
    case OP_CD_FIELD:
        field = &cd_fields[op->r[1] % ARRAY_SIZE(cd_fields)];
        set_field(host_ram(g, run->cd[dev]), field, op->r[2]);
        cfgi(run, dev, op->r[3]);
        break;
    case OP_PTE:
        map_page(run, dev, s2, n, op->r[2] & 1);
        tlbi(run, op->r[3] >> 1);
        break;
    case OP_PTE_FIELD:
        field = &pte_fields[op->r[2] % ARRAY_SIZE(pte_fields)];
        set_field(pte_of(run, dev, s2, n), field, op->r[2] >> 8);
        tlbi(run, op->r[3] >> 1);
        break;
    case OP_CMD:
        cmd(run, pick_cmd(run, op));
        break;
    case OP_TOGGLE:
        smmu_disable(g, 0);
        do_dma(run, dev, op);
        enable(run);
        break;
    case OP_GBPA:
        smmu_disable(g, 0);
        smmu_gbpa(g, 0, op->r[0] & 1);
        do_dma(run, dev, op);
        enable(run);
        break;
    case OP_RESET:
        qtest_system_reset(g->qts);
        enable(run);
        cmd(run, CMD_CFGI_ALL);
        cmd(run, CMD_TLBI_NSNH_ALL);
        break;
    default:
        g_assert_not_reached();
    }
    say(run, "CONS %x GERROR %x", smmu_read(g, 0, SMMU_CMDQ_CONS),
        smmu_read(g, 0, SMMU_GERROR));
}

/*
 * One guest on each QEMU
 */

static const struct {
    const char *name, *binary, *iommu, *args;
    uint64_t smmu;
} players[] = {
    { "the base", SMMUV3_PRISTINE, ",iommu=smmuv3", "", VIRT_SMMU_BASE },
    { "the machine's SMMU", "QTEST_QEMU_BINARY", ",iommu=smmuv3", "",
      VIRT_SMMU_BASE },
    { "the user's SMMU", "QTEST_QEMU_BINARY", "",
      "-device arm-smmuv3,primary-bus=pcie.0,accel=off",
      VIRT_PLATFORM_BUS_BASE },
};

static Run *run_new(const Row *row, int player)
{
    g_autofree char *args = g_strdup_printf(
        "-global arm-smmuv3.stage=%s %s", row->stage, players[player].args);
    g_autofree char *machine = NULL;
    Run *run = g_new0(Run, 1);

    for (unsigned n = 0; n < N_DEVS; n++) {
        g_autofree char *before = args;

        args = g_strdup_printf("%s -device edu,bus=pcie.0,addr=%u.0,dma_mask="
                               "0xffffffffffffffff", before, EDU_SLOT(n));
    }
    /* A newer machine gives its SMMU both stages, whatever the user writes */
    machine = g_strdup_printf("%s,gic-version=3,dtb-randomness=off%s",
                              g_str_equal(row->stage, "nested") ? "virt" :
                              "virt-9.1", players[player].iommu);
    run->g = host_guest_emulated(players[player].binary, machine, args,
                                 players[player].smmu);
    run->row = row;
    run->what = "begin";
    run->log = g_ptr_array_new_with_free_func(g_free);
    return run;
}

static void run_free(Run *run)
{
    host_guest_free(run->g);
    g_ptr_array_unref(run->log);
    g_free(run);
}

static void begin(Run *run, uint32_t seed)
{
    HostGuest *g = run->g;
    uint64_t size = page_size(run);

    run->page = host_alloc(g, N_PAGES * size);
    for (unsigned n = 0; n < N_PAGES * size / 8; n++) {
        ((uint64_t *)host_ram(g, run->page))[n] = cpu_to_le64(seed + n);
    }
    smmu_enable(g, 0);
    if (seed & 1) {
        run->l1 = host_alloc(g, 4096);
        *(uint64_t *)host_ram(g, run->l1) = cpu_to_le64(g->smmu[0].strtab | 9);
    }
    for (unsigned dev = 0; dev < N_DEVS; dev++) {
        run->cd[dev] = host_alloc(g, 128);
        run->s1[dev] = host_alloc(g, size);
        run->s2[dev] = host_alloc(g, size);
        map_ram_identically(run, dev);
        for (unsigned n = 0; n <= N_PAGES; n++) {
            map_page(run, dev, true, n, false);
            map_page(run, dev, false, n, n & 1);
        }
        write_cd(run, dev, dev);
        write_ste(run, dev, 5 + dev % 3, 0);
    }
    smmu_disable(g, 0);
    enable(run);
}

static void say_registers(Run *run)
{
    run->what = "registers";
    for (unsigned reg = 0; reg < 0xe0; reg += 4) {
        say(run, "0x%x is 0x%x", reg, smmu_read(run->g, 0, reg));
    }
    say(run, "EVENTQ_PROD %x CONS %x", smmu_read(run->g, 0, SMMU_EVENTQ_PROD),
        smmu_read(run->g, 0, SMMU_EVENTQ_CONS));
}

static void compare_logs(const GPtrArray *base, const Run *run, int player)
{
    for (unsigned n = 0; n < MIN(base->len, run->log->len); n++) {
        const char *was = base->pdata[n], *is = run->log->pdata[n];

        if (strcmp(was, is)) {
            g_error("%s: %s\n%s: %s", players[0].name, was,
                    players[player].name, is);
        }
    }
    g_assert_cmpuint(base->len, ==, run->log->len);
}

static void compare_memory(const uint8_t *base, const HostGuest *g, size_t len)
{
    for (size_t at = 1 * MiB; at < len; at++) {
        if (base[at] != g->ram[at]) {
            g_error("memory differs at 0x%zx: 0x%x, was 0x%x",
                    (size_t)HOST_RAM_BASE + at, g->ram[at], base[at]);
        }
    }
}

static Op random_op(GRand *rand)
{
    unsigned sum = 0, pick;
    Op op = { 0 };

    for (int kind = 0; kind < OP_KINDS; kind++) {
        sum += op_info[kind].weight;
    }
    pick = g_rand_int_range(rand, 0, sum);
    while (pick >= op_info[op.kind].weight) {
        pick -= op_info[op.kind++].weight;
    }
    for (int n = 0; n < ARRAY_SIZE(op.r); n++) {
        op.r[n] = g_rand_int(rand);
    }
    return op;
}

static unsigned from_env(const char *name, unsigned fallback)
{
    const char *text = g_getenv(name);

    return text ? g_ascii_strtoull(text, NULL, 0) : fallback;
}

static void play(Run *run, uint32_t seed)
{
    unsigned n = from_env("SMMUV3_OPERATIONS", 300);
    GRand *rand = g_rand_new_with_seed(seed);

    begin(run, seed);
    for (run->at = 0; run->at < n; run->at++) {
        Op op = random_op(rand);

        execute(run, &op);
    }
    say_registers(run);
    g_rand_free(rand);
    /* Its records were compared when they were taken */
    memset(host_ram(run->g, run->g->smmu[0].eventq), 0,
           32 << HOST_EVENTQ_LOG2);
}

static bool skipped(void)
{
    if (!qtest_has_device("edu")) {
        g_test_skip("no device to do DMA");
        return true;
    }
    return smmuv3_no_pristine();
}

static void test_random(const void *opaque)
{
    Row row = *(const Row *)opaque;
    g_autofree uint8_t *ram = NULL;
    g_autoptr(GPtrArray) log = NULL;
    unsigned dmas = 0, faults = 0;
    size_t len = 0;

    if (skipped()) {
        return;
    }
    if (!row.seed) {
        row.seed = from_env("SMMUV3_SEED", g_test_rand_int());
        row.granule = granules[row.seed / 2 % 3];
        row.stage = stages[row.seed / 6 % 3];
        g_test_message("SMMUV3_SEED=%u", row.seed);
    }
    for (int player = 0; player < ARRAY_SIZE(players); player++) {
        Run *run = run_new(&row, player);

        play(run, row.seed);
        if (player) {
            compare_logs(log, run, player);
            g_assert_cmphex(run->g->free_ram - HOST_RAM_BASE, ==, len);
            compare_memory(ram, run->g, len);
        } else {
            len = run->g->free_ram - HOST_RAM_BASE;
            ram = g_memdup2(run->g->ram, len);
            log = g_ptr_array_ref(run->log);
        }
        run_free(run);
    }
    for (unsigned n = 1; n < log->len; n++) {
        if (strstr(log->pdata[n], "dma: CONS")) {
            dmas++;
            faults += strstr(log->pdata[n - 1], "dma: event") != NULL;
        }
    }
    g_test_message("%u transfers, %u of them have faults", dmas, faults);
    g_assert_cmpuint(faults, >, 10);
    g_assert_cmpuint(faults, <, dmas - 10);
}

/*
 * What the series has changed: the comparison sees it
 */

static void differ_s1cdmax(Run *run)
{
    *smmu_ste(run->g, 0, EDU_SID(0)) |= cpu_to_le64(1ull << 59);
}

static void differ_s1stalld(Run *run)
{
    uint64_t *ste = smmu_ste(run->g, 0, EDU_SID(0));

    ste[0] = cpu_to_le64(STE_CONFIG(6));
    ste[1] = cpu_to_le64(1 << 27);
}

static void differ_cd_fetch(Run *run)
{
    *smmu_ste(run->g, 0, EDU_SID(0)) =
        cpu_to_le64(STE_CONFIG(5) | (HOST_RAM_BASE + HOST_RAM_SIZE));
}

/* 4K granule: level 1 begins at bit 30 */
static void differ_start_level(Run *run)
{
    uint64_t *ste = smmu_ste(run->g, 0, EDU_SID(0));

    ste[0] = cpu_to_le64(STE_CONFIG(6));
    ste[2] = cpu_to_le64((le64_to_cpu(ste[2]) & ~MAKE_64BIT_MASK(32, 8)) |
                         STE2_S2T0SZ(34) | STE2_S2SL0(1));
}

/* The table is enabled, so the register cannot be written */
static void differ_register(Run *run)
{
    smmu_write64(run->g, 0, SMMU_STRTAB_BASE, 0);
}

/* Of two entries */
static void differ_overflow(Run *run)
{
    *smmu_ste(run->g, 0, EDU_SID(0)) = 0;
    smmu_write(run->g, 0, SMMU_CR0, 0);
    smmu_write64(run->g, 0, SMMU_EVENTQ_BASE, run->g->smmu[0].eventq);
    run->g->config.eventq_log2 = 0;
    smmu_write(run->g, 0, SMMU_EVENTQ_PROD, 1);
    smmu_write(run->g, 0, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_EVENTQEN |
                                    SMMU_CR0_CMDQEN);
}

static const struct {
    const char *name;
    void (*differ)(Run *run);
} differences[] = {
    { "s1cdmax", differ_s1cdmax },
    { "s1stalld", differ_s1stalld },
    { "cd-fetch", differ_cd_fetch },
    { "start-level", differ_start_level },
    { "register", differ_register },
    { "overflow", differ_overflow },
};

static void test_differs(const void *opaque)
{
    void (*const *differ)(Run *) = opaque;
    static const Row row = { 12, "nested", 0 };
    g_autoptr(GString) first = NULL;

    if (skipped()) {
        return;
    }
    for (int player = 0; player < ARRAY_SIZE(players); player++) {
        const Op dma = { .kind = OP_DMA, .r = { 0, 15, 0, 3 } };
        g_autoptr(GString) all = g_string_new(NULL);
        Run *run = run_new(&row, player);

        run->exact = true;
        begin(run, 2);
        (*differ)(run);
        cmd(run, CMD_CFGI_ALL);
        execute(run, &dma);
        say_registers(run);
        for (unsigned n = 0; n < run->log->len; n++) {
            g_string_append_printf(all, "%s\n", (char *)run->log->pdata[n]);
        }
        run_free(run);
        if (player) {
            g_assert_cmpstr(first->str, !=, all->str);
        } else {
            first = g_steal_pointer(&all);
        }
    }
}

int main(int argc, char **argv)
{
    static Row rows[ARRAY_SIZE(granules) * ARRAY_SIZE(stages) * 3 + 1];
    unsigned n = 0;

    g_test_init(&argc, &argv, NULL);
    if (!qtest_has_machine("virt")) {
        return g_test_run();
    }
    for (int i = 0; i < ARRAY_SIZE(granules); i++) {
        for (int j = 0; j < ARRAY_SIZE(stages); j++) {
            for (int k = 0; k < 3; k++, n++) {
                g_autofree char *path = g_strdup_printf(
                    "/smmuv3-emulated/%uK/stage-%s/%u",
                    1u << (granules[i] - 10), stages[j], n + 1);

                rows[n] = (Row) { granules[i], stages[j], n + 1 };
                qtest_add_data_func(path, &rows[n], test_random);
            }
        }
    }
    rows[n] = (Row) { 0 };
    qtest_add_data_func("/smmuv3-emulated/fresh", &rows[n], test_random);
    for (int i = 0; i < ARRAY_SIZE(differences); i++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-emulated/differs/%s",
                                                differences[i].name);

        qtest_add_data_func(path, &differences[i].differ, test_differs);
    }
    return g_test_run();
}
