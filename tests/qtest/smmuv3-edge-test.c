/*
 * QTest of accel=on: every edge, from and to every state
 *
 * docs/devel/smmuv3-accel.rst has two tables. One says what a stream is
 * attached to in each state of registers and Stream Table. The other lists the
 * edges at which QEMU decides that again. The rows here have the same words.
 *
 * Each test puts a stream into a state, and changes tables or registers to
 * another state. It checks by DMA that nothing has moved, triggers the edge,
 * and checks the result. Runs on the host model.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "smmuv3-host.h"
#include "../host-model/dma.h"

/* Stream Tables of 2^14 StreamIDs, and the StreamIDs that devices get */
#define TABLE_LOG2      14
#define SPLIT           10
#define SHORT_LOG2      8
#define L2_LOG2         (SPLIT + 6)
#define SHORT_SPAN      8               /* 2^7 STEs */

#define BUS             1               /* 256 is not below 2^SHORT_LOG2 */
#define OTHER_BUS       9
#define NEIGHBOUR_BUS   13

#define NO_MEMORY       0x2000000000ull

/*
 * States
 */

/* How far a walk to the STE gets */
typedef enum Table {
    TABLE_GOOD,
    /* Set by registers, which a guest writes only with SMMUEN=0 */
    TABLE_SHORT,
    TABLE_NO_MEMORY,
    /* Set by a level-1 descriptor of a 2-level table */
    L1_INVALID,
    L1_SHORT,
    L1_NO_MEMORY,
} Table;

typedef struct State {
    const char *row;            /* row of the documentation */
    const char *name;
    uint64_t ste[2];            /* without the address of a CD */
    Table table;
    unsigned event;             /* event of a CFGI in this state */
    unsigned space;             /* space of the CD that it names */
} State;

#define CONFIG(n)   (STE_V | (uint64_t)(n) << 1)

static const State states[] = {
    { "0 0 any: bypass", "off-bypass" },
    { "0 1 any: abort", "off-abort" },
    { "1 any absent, unreadable: abort [1]", "table-short",
      { CONFIG(4) }, TABLE_SHORT, C_BAD_STREAMID },
    { "1 any absent, unreadable: abort [1]", "table-unreadable",
      { CONFIG(5) }, TABLE_NO_MEMORY, F_STE_FETCH },
    { "1 any absent, unreadable: abort [1]", "level-1-invalid",
      { CONFIG(5) }, L1_INVALID, C_BAD_STREAMID },
    { "1 any absent, unreadable: abort [1]", "level-1-short",
      { CONFIG(4) }, L1_SHORT, C_BAD_STREAMID },
    { "1 any absent, unreadable: abort [1]", "level-2-unreadable",
      { CONFIG(5) }, L1_NO_MEMORY, F_STE_FETCH },
    { "1 any V=0: abort", "v-0-bypass", { CONFIG(4) & ~STE_V } },
    { "1 any V=0: abort", "v-0-translate", { CONFIG(5) & ~STE_V } },
    { "1 any Config 0b0xx: abort", "config-0", { CONFIG(0) } },
    { "1 any Config 0b0xx: abort", "config-1", { CONFIG(1) } },
    { "1 any Config 0b100: bypass", "config-4", { CONFIG(4) } },
    { "1 any Config 0b101: translate", "config-5", { CONFIG(5) } },
    { "1 any Config 0b101: translate", "config-5-other",
      { CONFIG(5) }, .space = 1 },
    /* S1DSS: CD 0 is used, as without SubstreamIDs */
    { "1 any Config 0b101: translate", "s1cdmax",
      { CONFIG(5) | 4ull << 59, 2 } },
    { "1 any Config 0b101, field not supported: abort [1]", "s1stalld",
      { CONFIG(5), 1ull << 27 }, .event = C_BAD_STE },
    { "1 any Config 0b110, 0b111: abort [1]", "config-6",
      { CONFIG(6) }, .event = C_BAD_STE },
    { "1 any Config 0b110, 0b111: abort [1]", "config-7",
      { CONFIG(7) }, .event = C_BAD_STE },
};

static const State *state_called(const char *name)
{
    for (int n = 0; n < ARRAY_SIZE(states); n++) {
        if (!strcmp(states[n].name, name)) {
            return &states[n];
        }
    }
    g_assert_not_reached();
}

static bool is_off(const State *s)
{
    return s->row[0] == '0';
}

static bool gbpa_abort_of(const State *s)
{
    return s->row[2] == '1';
}

static bool by_registers(const State *s)
{
    return s->table == TABLE_SHORT || s->table == TABLE_NO_MEMORY;
}

/* Is a change of memory enough to get from @s to @t? True if they are equal */
static bool by_memory(const State *s, const State *t)
{
    return !is_off(s) && !is_off(t) &&
           (s == t || (!by_registers(s) && !by_registers(t)));
}

/* Where a stream is attached, as its DMA shows */
typedef enum Where { ABORTS, PASSES, SPACE_0, SPACE_1 } Where;

static const char *const where_names[] = {
    "aborts", "bypasses", "is in space 0", "is in space 1",
};

/* The result that the documentation says */
static Where want(const State *s)
{
    const char *result = strstr(s->row, ": ") + 2;

    if (g_str_has_prefix(result, "abort")) {
        return ABORTS;
    }
    if (g_str_has_prefix(result, "bypass")) {
        return PASSES;
    }
    g_assert_cmpstr(result, ==, "translate");
    return SPACE_0 + s->space;
}

/*
 * The guest
 */

typedef struct Tables {
    uint64_t linear, l1;
    uint64_t l2[1 << (TABLE_LOG2 - SPLIT)];
} Tables;

typedef struct Fixture {
    HostGuest *g;
    Tables tables[2];           /* of this kernel, and of the next */
    unsigned kernel;
    bool two_level;
    uint64_t page[3];           /* one per space, and one in none */
    uint64_t cd[2];
    uint64_t writes;
    unsigned n_cells;
    char *cell;                 /* the current one, for messages */
    const State *from, *to;
} Fixture;

static void set_cell(Fixture *f, const char *how)
{
    g_free(f->cell);
    f->cell = g_strdup_printf("%s, %s to %s%s%s",
                              f->two_level ? "2-level" : "linear",
                              f->from->name, f->to->name, how ? ", " : "",
                              how ?: "");
}

static uint64_t *l1_of(Fixture *f, uint32_t sid)
{
    return host_ram(f->g, f->tables[f->kernel].l1 + (sid >> SPLIT) * 8);
}

static uint64_t *ste_of(Fixture *f, uint32_t sid)
{
    const Tables *t = &f->tables[f->kernel];
    uint64_t at = f->two_level
        ? t->l2[sid >> SPLIT] + (sid & ((1 << SPLIT) - 1)) * 64
        : t->linear + sid * 64;

    return host_ram(f->g, at);
}

/* Write memory for @s, as if the registers led to the STE */
static void write_tables(Fixture *f, uint32_t sid, const State *s)
{
    uint64_t l2 = f->tables[f->kernel].l2[sid >> SPLIT];
    uint64_t *ste = ste_of(f, sid);
    uint64_t word0 = s->ste[0];

    if ((word0 & CONFIG(7) & ~STE_V) == (CONFIG(5) & ~STE_V)) {
        word0 |= f->cd[s->space];
    }
    ste[1] = cpu_to_le64(s->ste[1]);
    qatomic_set(&ste[0], cpu_to_le64(word0));
    if (f->two_level) {
        switch (s->table) {
        case L1_INVALID:
            l2 = 0;
            break;
        case L1_SHORT:
            l2 |= SHORT_SPAN;
            break;
        case L1_NO_MEMORY:
            l2 = NO_MEMORY | (SPLIT + 1);
            break;
        default:
            l2 |= SPLIT + 1;
        }
        qatomic_set(l1_of(f, sid), cpu_to_le64(l2));
    }
}

/* Choose what smmu_enable() writes to STRTAB_BASE and STRTAB_BASE_CFG */
static void choose_table(Fixture *f, const State *s)
{
    const Tables *t = &f->tables[f->kernel];
    HostVsmmu *smmu = &f->g->smmu[0];

    smmu->strtab = s->table == TABLE_NO_MEMORY ? NO_MEMORY
                                               : f->two_level ? t->l1
                                                              : t->linear;
    smmu->strtab_cfg = (s->table == TABLE_SHORT ? SHORT_LOG2 : TABLE_LOG2) |
                       (f->two_level ? 1 << 16 | SPLIT << 6 : 0);
}

static void write_table_registers(Fixture *f)
{
    smmu_write64(f->g, 0, SMMU_STRTAB_BASE, f->g->smmu[0].strtab);
    smmu_write(f->g, 0, SMMU_STRTAB_CFG, f->g->smmu[0].strtab_cfg);
}

/*
 * A device reads and writes at @iova; sets @page to the page it reaches
 */
static bool touches(Fixture *f, unsigned dev, uint64_t iova, unsigned *page)
{
    HostGuest *g = f->g;
    uint64_t number = ++f->writes, got = 0;
    bool reads = host_dma_read64(g, dev, iova, &got);
    bool writes = host_dma_write64(g, dev, iova + 8, number);

    if (reads != writes) {
        g_error("%s: 0x%" PRIx64 " can be read or written, but not both",
                f->cell, iova);
    }
    for (*page = 0; *page < ARRAY_SIZE(f->page); (*page)++) {
        uint64_t *words = host_ram(g, f->page[*page]);

        if (reads && words[0] == got) {
            g_assert_cmphex(qatomic_read(&words[1]), ==, number);
            return true;
        }
        g_assert_cmphex(qatomic_read(&words[1]), !=, number);
    }
    if (reads) {
        g_error("%s: device %u reads 0x%" PRIx64 ", in no page", f->cell,
                dev, got);
    }
    return false;
}

static Where where(Fixture *f, unsigned dev)
{
    unsigned space, page;
    bool translates = touches(f, dev, HOST_VA, &space);
    bool passes = touches(f, dev, f->page[2], &page);

    if (translates && (passes || space > 1)) {
        g_error("%s: device %u is in two places at once", f->cell, dev);
    }
    if (passes) {
        g_assert_cmpuint(page, ==, 2);
        return PASSES;
    }
    return translates ? SPACE_0 + space : ABORTS;
}

/* The same from the host's STE, for a device that the guest cannot reach */
static Where where_in_host(Fixture *f, unsigned dev)
{
    QDict *answer = host_control(f->g, "state dma%u", dev);
    QList *ste = qdict_get_qlist(answer, "ste");
    uint64_t word0 = g_ascii_strtoull(
        qstring_get_str(qobject_to(QString, qlist_peek(ste))), NULL, 0);
    uint64_t cd = word0 & MAKE_64BIT_MASK(6, 46);

    qobject_unref(answer);
    if (!(extract64(word0, 1, 3) & 4)) {
        return ABORTS;
    }
    if (!(extract64(word0, 1, 3) & 1)) {
        return PASSES;
    }
    g_assert(cd == f->cd[0] || cd == f->cd[1]);
    return cd == f->cd[0] ? SPACE_0 : SPACE_1;
}

static void expect(Fixture *f, unsigned dev, const State *s, const char *when)
{
    Where got = where(f, dev);

    if (got != want(s)) {
        g_error("%s: device %u %s %s", f->cell, dev, where_names[got], when);
    }
}

/*
 * The stream is in the old state, in the new one, or aborts: never in a third
 * state. QEMU may move it from its main loop, between any two reads.
 */
static Where glimpse(Fixture *f, unsigned dev)
{
    Where from = want(f->from), to = want(f->to), seen = ABORTS;
    uint64_t got;

    if (host_dma_read64(f->g, dev, HOST_VA, &got)) {
        seen = got == *(uint64_t *)host_ram(f->g, f->page[0]) ? SPACE_0
                                                              : SPACE_1;
        g_assert_cmphex(got, ==, *(uint64_t *)
                        host_ram(f->g, f->page[seen - SPACE_0]));
    } else if (host_dma_read64(f->g, dev, f->page[2], &got)) {
        g_assert_cmphex(got, ==, *(uint64_t *)host_ram(f->g, f->page[2]));
        seen = PASSES;
    }
    if (seen != from && seen != to && seen != ABORTS) {
        g_error("%s: device %u %s in a move", f->cell, dev, where_names[seen]);
    }
    return seen;
}

/* Wait until the stream gets to @s; this may take a while, but not seconds */
static void comes_to(Fixture *f, unsigned dev, const State *s)
{
    for (int n = 0; n < 1000 && glimpse(f, dev) != want(s); n++) {
        g_usleep(2 * 1000);
    }
    expect(f, dev, s, "after two seconds");
}

/* Take all events; returns how many QEMU recorded, and sets @type */
static unsigned config_events(Fixture *f, unsigned *type)
{
    uint64_t event[4];
    unsigned n = 0;

    while (smmu_event(f->g, 0, event)) {
        switch (event[0] & 0xff) {
        case C_BAD_STREAMID:
        case F_STE_FETCH:
        case C_BAD_STE:
            g_assert_cmphex(event[0] >> 32, ==, host_sid(f->g, 0));
            *type = event[0] & 0xff;
            n++;
        }
    }
    g_assert_false(smmu_event_overflow(f->g, 0));
    return n;
}

static void expect_event(Fixture *f, unsigned want)
{
    unsigned type = 0, n = config_events(f, &type);

    if (n != !!want || type != want) {
        g_error("%s: %u events, of type 0x%x, not 0x%x", f->cell, n, type,
                want);
    }
}

static void put_off(Fixture *f, bool abort)
{
    smmu_gbpa(f->g, 0, abort);
    smmu_disable(f->g, 0);
}

/* Put the machine into state @f->from, with an edge */
static void enter(Fixture *f)
{
    const State *s = f->from;

    if (is_off(s)) {
        put_off(f, gbpa_abort_of(s));
    } else {
        if (f->g->smmu[0].enabled) {
            smmu_disable(f->g, 0);
        }
        choose_table(f, s);
        write_tables(f, host_sid(f->g, 0), s);
        smmu_enable(f->g, 0);
    }
    if (f->g->dev[0].present) {
        expect(f, 0, s, "at first");
    }
    expect_event(f, 0);
}

/* Change memory to state @f->to, without an edge */
static void aim(Fixture *f)
{
    write_tables(f, host_sid(f->g, 0), is_off(f->to) ? f->from : f->to);
}

static void cfgi(Fixture *f, HostCmd cmd)
{
    smmu_cmd(f->g, 0, cmd);
    smmu_sync_ok(f->g, 0);
}

/* All cells: for each table format and each state in it, the states to go to */

#define ALL     UINT_MAX

typedef bool Pair(const State *s, const State *t);
typedef void Cell(Fixture *f);

static bool exists(Fixture *f, const State *s)
{
    return f->two_level || s->table < L1_INVALID;
}

static void for_cells(Fixture *f, Pair *pair, unsigned most, Cell *cell)
{
    for (int format = 0; format < 2; format++) {
        f->two_level = format;
        for (int i = 0; i < ARRAY_SIZE(states); i++) {
            unsigned n = 0;

            f->from = &states[i];
            if (!exists(f, f->from)) {
                continue;
            }
            for (int j = 0; j < ARRAY_SIZE(states) && n < most; j++) {
                f->to = &states[(i + 5 * j + 1) % ARRAY_SIZE(states)];
                if (exists(f, f->to) && pair(f->from, f->to)) {
                    set_cell(f, NULL);
                    f->n_cells++;
                    cell(f);
                    n++;
                }
            }
        }
    }
}

static bool any_pair(const State *s, const State *t)
{
    return true;
}

static bool both_on(const State *s, const State *t)
{
    return !is_off(s) && !is_off(t);
}

static bool same(const State *s, const State *t)
{
    return s == t;
}

static bool same_and_on(const State *s, const State *t)
{
    return s == t && !is_off(s);
}

/* Does DMA show that the edge moves the stream? (Where that is possible) */
static bool shows(const State *s, const State *t)
{
    return is_off(s) ? !strcmp(t->name, "config-5")
         : by_registers(s) ? s == t
         : by_memory(s, t) && want(s) != want(t);
}

static bool to_translate(const State *s, const State *t)
{
    return by_memory(s, t) && want(t) >= SPACE_0;
}

/* Does DMA show that a CFGI moves the stream? */
static bool on_and_shows(const State *s, const State *t)
{
    return !is_off(s) && shows(s, t);
}

static bool on_by_memory(const State *s, const State *t)
{
    return by_memory(s, t) && !by_registers(s);
}

static void make_tables(HostGuest *g, Tables *t)
{
    t->linear = host_alloc(g, 64ull << TABLE_LOG2);
    t->l1 = host_alloc(g, 4096);
    for (int n = 0; n < ARRAY_SIZE(t->l2); n++) {
        t->l2[n] = host_alloc(g, 1 << L2_LOG2);
    }
}

static Fixture *fixture_new(const HostGuestConfig *config)
{
    Fixture *f = g_new0(Fixture, 1);
    HostGuest *g = host_guest_new(config);

    f->g = g;
    f->cell = g_strdup("at start");
    for (int n = 0; n < ARRAY_SIZE(f->tables); n++) {
        make_tables(g, &f->tables[n]);
    }
    for (int n = 0; n < ARRAY_SIZE(f->page); n++) {
        f->page[n] = host_new_page(g, 0x5ac0 + n);
    }
    for (int n = 0; n < ARRAY_SIZE(f->cd); n++) {
        f->cd[n] = host_one_page_cd(g, 1 + n, f->page[n]);
    }
    f->from = f->to = &states[0];
    choose_table(f, f->from);
    smmu_enable(g, 0);
    smmu_disable(g, 0);
    return f;
}

static void fixture_free(Fixture *f)
{
    host_finish(f->g);
    g_free(f->cell);
    g_free(f);
}

/* One device; most edges work the same for any number of devices */
static Fixture *one_device(void)
{
    HostGuestConfig config = { .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1 };

    return fixture_new(&config);
}

/*
 * Commands
 */

static void cfgi_ste_cell(Fixture *f)
{
    HostGuest *g = f->g;
    uint32_t sid = host_sid(g, 0);
    bool leaf = f->from->table == f->to->table;

    enter(f);
    aim(f);
    smmu_cmd(g, 0, CMD_CFGI_STE(sid ^ 1));
    smmu_cmd(g, 0, CMD_CFGI_STE(sid + 0x100));
    smmu_cmd(g, 0, CMD_CFGI_STE_RANGE(sid + 0x80, 6));
    smmu_cmd(g, 0, CMD_CFGI_CD(sid, 0));
    smmu_cmd(g, 0, CMD_CFGI_CD_ALL(sid));
    cfgi(f, CMD_TLBI_NSNH_ALL);
    expect(f, 0, f->from, "after commands for other StreamIDs");
    expect_event(f, 0);
    cfgi(f, leaf ? CMD_CFGI_STE(sid)
                 : HOST_CMD(0x03 | (uint64_t)sid << 32, 0));
    expect_event(f, f->to->event);
    expect(f, 0, f->to, "after CFGI_STE");
    expect_event(f, 0);
}

/* The STE stays the same, and its CD changes */
static void cfgi_drops_cds(Fixture *f, HostCmd cmd)
{
    const State *s = f->from;

    enter(f);
    host_clear_cd(f->g, f->cd[s->space]);
    cfgi(f, cmd);
    if (where(f, 0) != ABORTS) {
        g_error("%s: the old CD is used after command 0x%" PRIx64, f->cell,
                cmd.word[0]);
    }
    f->cd[s->space] = host_one_page_cd(f->g, 1 + s->space, f->page[s->space]);
}

static void walk_cds(void)
{
    Fixture *f = one_device();

    f->from = f->to = state_called("config-5");
    set_cell(f, NULL);
    cfgi_drops_cds(f, CMD_CFGI_STE(host_sid(f->g, 0)));
    cfgi_drops_cds(f, CMD_CFGI_STE_RANGE(host_sid(f->g, 0), 0));
    cfgi_drops_cds(f, CMD_CFGI_ALL);
    /* A stream that translates no more has no CDs that the host could know */
    f->from = f->to = state_called("config-4");
    set_cell(f, NULL);
    enter(f);
    qobject_unref(host_control(f->g, "zero"));
    cfgi(f, CMD_CFGI_STE(host_sid(f->g, 0)));
    g_assert_cmpuint(host_counter(f->g, "call.IOMMU_HWPT_INVALIDATE"), ==, 0);
    fixture_free(f);
}

static void cfgi_all_cell(Fixture *f)
{
    /* The device is first in the range, last, or in the middle */
    static const HostCmd cmds[] = {
        CMD_CFGI_ALL, CMD_CFGI_STE_RANGE(BUS << 8 | 1, 0),
        CMD_CFGI_STE_RANGE(BUS << 8 | 0x7f, 6), CMD_CFGI_STE_RANGE(0, 8),
        CMD_CFGI_STE_RANGE(0x1234, 30),
    };
    HostCmd cmd = cmds[f->n_cells % ARRAY_SIZE(cmds)];

    enter(f);
    aim(f);
    expect(f, 0, f->from, "before the command");
    cfgi(f, CMD_CFGI_STE_RANGE(BUS << 8 | 0x80, 6));
    expect(f, 0, f->from, "after another range");
    expect_event(f, 0);
    cfgi(f, cmd);
    expect_event(f, f->to->event);
    expect(f, 0, f->to, "after CFGI_STE_RANGE");
}

/*
 * Ranges over many devices. If the range has fewer StreamIDs than there are
 * devices, QEMU walks the StreamIDs; otherwise it walks the devices.
 */

typedef struct RangeGuest {
    Fixture *f;
    unsigned n;
    bool passes[HOST_MAX_DEVS];         /* bypass; else it is in space 0 */
} RangeGuest;

static void range_ste(RangeGuest *r, unsigned dev, bool passes)
{
    qatomic_set(smmu_ste(r->f->g, 0, host_sid(r->f->g, dev)),
                cpu_to_le64(passes ? STE_BYPASS : STE_S1(r->f->cd[0])));
}

static void expect_range(RangeGuest *r, unsigned dev)
{
    uint64_t want = r->passes[dev] ? r->f->page[2] : r->f->page[0], got = 0;
    bool passes = host_dma_read64(r->f->g, dev, r->f->page[2], &got);

    if (passes != r->passes[dev] ||
        (!passes && !host_dma_read64(r->f->g, dev, HOST_VA, &got)) ||
        got != *(uint64_t *)host_ram(r->f->g, want)) {
        g_error("%u devices, %s: StreamID 0x%x %s", r->n, r->f->cell,
                host_sid(r->f->g, dev),
                r->passes[dev] ? "does not bypass" : "does not translate");
    }
}

static void range_round(RangeGuest *r, uint32_t sid, unsigned range)
{
    HostGuest *g = r->f->g;
    unsigned moved = 0;

    g_free(r->f->cell);
    r->f->cell = g_strdup_printf("CFGI_STE_RANGE 0x%x, %u", sid, range);
    for (unsigned dev = 0; dev < r->n; dev++) {
        range_ste(r, dev, !r->passes[dev]);
    }
    cfgi(r->f, CMD_CFGI_STE_RANGE(sid, range));
    for (unsigned dev = 0; dev < r->n; dev++) {
        if ((uint64_t)host_sid(g, dev) >> (range + 1) ==
            (uint64_t)sid >> (range + 1)) {
            r->passes[dev] ^= true;
            moved++;
        } else {
            range_ste(r, dev, r->passes[dev]);
        }
        expect_range(r, dev);
    }
    g_assert_cmpuint(moved, >, 0);
}

static void walk_range(unsigned n)
{
    static const unsigned few[] = { 0x41, 0x42, 0x4f, 0x70 };
    HostGuestConfig config = { .n_vsmmus = 1, .n_psmmus = 1, .n_devs = n };
    const unsigned n_ports = n > ARRAY_SIZE(few) + 1 ? 8 : 1;
    RangeGuest r = { .n = n };
    Fixture *f;

    for (unsigned dev = 0; dev < n - n_ports; dev++) {
        config.dev[dev].devfn = n_ports == 1 ? few[dev] : 0x41 + dev;
    }
    r.f = f = fixture_new(&config);
    f->g->smmu[0].strtab = 0;
    smmu_enable(f->g, 0);
    for (unsigned dev = 0; dev < n; dev++) {
        range_ste(&r, dev, false);
    }
    cfgi(f, CMD_CFGI_ALL);
    for (unsigned range = 0; range < 32; range++) {
        for (int round = 0; round < (range < 7 ? MIN(n, 8) : 1); round++) {
            unsigned dev = n <= 8 ? round : g_test_rand_int_range(0, n);
            uint32_t in = g_test_rand_int() & MAKE_64BIT_MASK(0, range + 1);

            range_round(&r, (host_sid(f->g, dev) &
                             ~MAKE_64BIT_MASK(0, range + 1)) | in, range);
        }
    }

    /* Devices without a port stay; they do not get more objects in the host */
    for (unsigned dev = 0; dev < n; dev++) {
        *smmu_ste(f->g, 0, host_sid(f->g, dev)) = 0;
    }
    cfgi(f, CMD_CFGI_ALL);
    g_assert_cmpuint(host_objects(f->g, "hwpt_nested"), ==, 2);
    g_assert_cmpuint(host_objects(f->g, "vdevice"), <=, n);
    fixture_free(f);
}

static void walk_range_few(void)
{
    walk_range(5);
}

static void walk_range_many(void)
{
    walk_range(HOST_MAX_DEVS);
}

/*
 * Registers
 */

static void smmuen_cell(Fixture *f)
{
    HostGuest *g = f->g;

    for (int abort = 0; abort < 2; abort++) {
        const State *off = &states[abort];

        set_cell(f, abort ? "GBPA.ABORT=1" : "GBPA.ABORT=0");
        put_off(f, abort);
        choose_table(f, f->from);
        write_tables(f, host_sid(g, 0), f->from);
        write_table_registers(f);
        cfgi(f, CMD_CFGI_ALL);
        expect(f, 0, off, "before SMMUEN");
        smmu_enable(g, 0);
        expect(f, 0, f->from, "after SMMUEN");
        aim(f);
        /* A write of the same value is no edge */
        smmu_write(g, 0, SMMU_CR0, smmu_read(g, 0, SMMU_CR0));
        expect(f, 0, f->from, "after a write that changes nothing");
        smmu_disable(g, 0);
        expect(f, 0, off, "after SMMUEN=0");
        expect_event(f, 0);
    }
}

static void check_gbpa(Fixture *f, bool abort)
{
    g_assert_cmpuint(!!(smmu_read(f->g, 0, SMMU_GBPA) & SMMU_GBPA_ABORT), ==,
                     abort);
}

static void gbpa_cell(Fixture *f)
{
    HostGuest *g = f->g;

    for (int n = 0; n < 4; n++) {
        bool before = n & 1, after = n >> 1;

        smmu_gbpa(g, 0, before);
        enter(f);
        if (is_off(f->from)) {
            smmu_gbpa(g, 0, before);
            expect(f, 0, &states[before], "after GBPA");
        }
        aim(f);
        /* Without UPDATE the write is ignored */
        smmu_write(g, 0, SMMU_GBPA, before ? 0 : SMMU_GBPA_ABORT);
        check_gbpa(f, before);
        expect(f, 0, is_off(f->from) ? &states[before] : f->from,
               "after GBPA without UPDATE");
        smmu_gbpa(g, 0, after);
        check_gbpa(f, after);
        expect(f, 0, is_off(f->from) ? &states[after] : f->from,
               "after GBPA with UPDATE");
        smmu_write(g, 0, SMMU_GBPA, after ? 0 : SMMU_GBPA_ABORT);
        smmu_disable(g, 0);
        expect(f, 0, &states[after], "after GBPA, then SMMUEN=0");
        expect_event(f, 0);
    }
}

/* The table of state @from; while the SMMU is off, that of state @to */
static void strtab_cell(Fixture *f)
{
    HostGuest *g = f->g;
    HostVsmmu *smmu = &g->smmu[0];
    const bool from_two_level = f->two_level;

    for (int to_two_level = 0; to_two_level < 2; to_two_level++) {
        bool abort = (f->n_cells ^ to_two_level) & 1;
        const State *off = &states[abort];

        f->two_level = from_two_level;
        set_cell(f, to_two_level ? "then 2-level" : "then linear");
        enter(f);
        put_off(f, abort);
        f->two_level = to_two_level;
        if (!exists(f, f->to)) {
            continue;
        }
        choose_table(f, f->to);
        write_tables(f, host_sid(g, 0), f->to);
        smmu_write(g, 0, SMMU_STRTAB_BASE, smmu->strtab);
        expect(f, 0, off, "after half of STRTAB_BASE");
        smmu_write(g, 0, SMMU_STRTAB_BASE + 4, smmu->strtab >> 32);
        expect(f, 0, off, "after STRTAB_BASE");
        smmu_write(g, 0, SMMU_STRTAB_CFG, smmu->strtab_cfg);
        expect(f, 0, off, "after STRTAB_BASE_CFG");
        smmu_write(g, 0, SMMU_CR0, SMMU_CR0_SMMUEN | SMMU_CR0_EVENTQEN |
                   SMMU_CR0_CMDQEN);
        smmu->enabled = true;
        expect(f, 0, f->to, "with the new table");
        expect_event(f, 0);
    }
    f->two_level = from_two_level;
}

/* With SMMUEN=1 the registers cannot be written (6.3.24, 6.3.25) */
static void strtab_while_enabled_cell(Fixture *f)
{
    HostVsmmu *smmu = &f->g->smmu[0];
    uint64_t strtab;
    uint32_t cfg;

    enter(f);
    strtab = smmu->strtab;
    cfg = smmu->strtab_cfg;
    f->two_level = !f->two_level;
    choose_table(f, state_called("config-5"));
    write_table_registers(f);
    f->two_level = !f->two_level;
    smmu->strtab = strtab;
    smmu->strtab_cfg = cfg;
    g_assert_cmphex(qtest_readq(f->g->qts, smmu->base + SMMU_STRTAB_BASE), ==,
                    strtab);
    g_assert_cmphex(smmu_read(f->g, 0, SMMU_STRTAB_CFG), ==, cfg);
    expect(f, 0, f->from, "after writes of STRTAB_BASE and its CFG");
    cfgi(f, CMD_CFGI_ALL);
    expect(f, 0, f->from, "after CFGI_ALL");
    expect_event(f, f->from->event);
}

/* EVENTQEN moves no stream; the vEVENTQ is allocated and destroyed */
static void toggle_eventqen(Fixture *f)
{
    HostGuest *g = f->g;
    uint32_t cr0 = smmu_read(g, 0, SMMU_CR0);

    g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);
    smmu_write(g, 0, SMMU_CR0, cr0 & ~SMMU_CR0_EVENTQEN);
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 0);
    expect(f, 0, f->from, "after EVENTQEN=0");
    smmu_write(g, 0, SMMU_CR0, cr0);
    g_assert_cmpuint(host_objects(g, "veventq"), ==, 1);
}

/*
 * Edges that move nothing, although the tables have changed: the stream stays,
 * no object is allocated, and the next CFGI moves the stream
 */

static uint64_t host_moves(Fixture *f)
{
    return host_counter(f->g, "call.VFIO_DEVICE_ATTACH_IOMMUFD_PT") +
           host_counter(f->g, "call.IOMMU_HWPT_ALLOC") +
           host_counter(f->g, "call.IOMMU_VDEVICE_ALLOC");
}

static void still(Fixture *f, void (*act)(Fixture *f))
{
    uint64_t moves;

    enter(f);
    aim(f);
    expect(f, 0, f->from, "before");
    moves = host_moves(f);
    act(f);
    expect(f, 0, f->from, "after an edge that moves nothing");
    g_assert_cmpuint(host_moves(f), ==, moves);
    expect_event(f, 0);
    if (!is_off(f->from)) {
        cfgi(f, CMD_CFGI_ALL);
        expect_event(f, f->to->event);
        expect(f, 0, f->to, "after CFGI_ALL");
    }
}

static void flr(Fixture *f)
{
    host_flr(f->g, 0);
}

static void bus_reset(Fixture *f)
{
    host_bus_reset(f->g, 0);
}

static void stop_cont(Fixture *f)
{
    qtest_qmp_assert_success(f->g->qts, "{'execute': 'stop'}");
    expect(f, 0, f->from, "while stopped");
    qtest_qmp_assert_success(f->g->qts, "{'execute': 'cont'}");
}

static void eventqen_cell(Fixture *f)
{
    still(f, toggle_eventqen);
}

static void flr_cell(Fixture *f)
{
    still(f, flr);
}

static void bus_reset_cell(Fixture *f)
{
    still(f, bus_reset);
}

static void stop_cont_cell(Fixture *f)
{
    still(f, stop_cont);
}

/*
 * Devices that are plugged and unplugged
 */

static void expect_objects(Fixture *f, const char *type, uint64_t want)
{
    if (host_objects(f->g, type) != want) {
        g_error("%s: %" PRIu64 " objects %s, not %" PRIu64, f->cell,
                host_objects(f->g, type), type, want);
    }
}

static void unplug_all(Fixture *f)
{
    static const char *const types[] = {
        "vdevice", "hwpt_nested", "viommu", "veventq", "device",
    };

    host_guest_unplug(f->g, 0);
    for (int n = 0; n < ARRAY_SIZE(types); n++) {
        expect_objects(f, types[n], 0);
    }
}

static void added_cell(Fixture *f)
{
    enter(f);
    g_assert_null(host_guest_plug(f->g, 0));
    expect(f, 0, f->from, "when it is plugged");
    expect_event(f, 0);
    expect_objects(f, "veventq", 1);
    /* Unplug it while the tables say another state */
    aim(f);
    unplug_all(f);
}

static void walk_plugged(unsigned most, Cell *cell)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .dev = { { .hotplug = true } },
    };
    Fixture *f = fixture_new(&config);

    for_cells(f, shows, most, cell);
    fixture_free(f);
}

static void walk_added(void)
{
    walk_plugged(1, added_cell);
}

/* Devices at start: SMMUEN and GBPA.ABORT are 0 */
static void walk_added_cold(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 2, .n_psmmus = 1, .n_devs = 3,
        .dev = { { .devfn = 0x49 }, { .vsmmu = 1 }, { .vsmmu = 1 } },
    };
    Fixture *f = fixture_new(&config);

    for (unsigned dev = 0; dev < config.n_devs; dev++) {
        expect(f, dev, &states[0], "at start");
    }
    fixture_free(f);
}

/* The state of the neighbour, which translates only in space 1 */
static const State *neighbour_state(const State *s)
{
    return is_off(s) || by_registers(s) ? s : state_called("config-5-other");
}

static void write_neighbour(Fixture *f)
{
    write_tables(f, host_sid(f->g, 1), state_called("config-5-other"));
}

static void removed_cell(Fixture *f)
{
    const State *to = f->to;

    write_neighbour(f);
    enter(f);
    g_assert_null(host_guest_plug(f->g, 0));
    expect(f, 0, f->from, "before it is unplugged");
    host_guest_unplug(f->g, 0);
    expect(f, 1, neighbour_state(f->from), "after the other is unplugged");
    expect_objects(f, "device", 1);
    expect_objects(f, "viommu", 1);
    expect_objects(f, "hwpt_nested",
                   2 + (want(neighbour_state(f->from)) == SPACE_1));
    expect_objects(f, "vdevice", 1);

    /* Everything changes while it is unplugged */
    f->from = to;
    enter(f);
    expect_objects(f, "device", 1);
    g_assert_null(host_guest_plug(f->g, 0));
    expect(f, 0, to, "when it is plugged again");
    expect(f, 1, neighbour_state(to), "when the other is plugged again");
    expect_event(f, 0);
    host_guest_unplug(f->g, 0);
}

static void walk_removed(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2,
        .dev = { { .hotplug = true } },
    };
    Fixture *f = fixture_new(&config);

    /* The neighbour always has a vDEVICE, so that they can be counted */
    host_set_bus(f->g, 1, NEIGHBOUR_BUS);
    write_neighbour(f);
    smmu_enable(f->g, 0);
    smmu_disable(f->g, 0);
    for_cells(f, any_pair, 2, removed_cell);
    fixture_free(f);
}

/*
 * Buses that are renumbered
 */

static void renumbered_way(Fixture *f, int way)
{
    HostGuest *g = f->g;
    const uint64_t numbers = host_port_config(g, 0) + PCI_PRIMARY_BUS;
    const uint64_t read64 = g->dev[0].bar + DMA_READ64;
    bool hits, translates = want(f->to) >= SPACE_0;
    uint64_t got = 0, va = 0;

    switch (way) {
    case 0:                     /* a command follows */
        host_set_bus(g, 0, OTHER_BUS);
        glimpse(f, 0);
        smmu_sync_ok(g, 0);
        break;
    case 1:                     /* nothing follows */
        host_set_bus(g, 0, OTHER_BUS);
        comes_to(f, 0, f->to);
        break;
    default:
        /*
         * QEMU gets no chance in between: one drain of the queue writes the
         * numbers, and then makes the device read at HOST_VA.
         */
        g_assert_cmphex(HOST_VA & UINT32_MAX, ==, 0);
        smmu_cmd(g, 0, CMD_SYNC_MSI(numbers, OTHER_BUS << 16 | OTHER_BUS << 8));
        smmu_cmd(g, 0, CMD_SYNC_MSI(read64 + 4, HOST_VA >> 32));
        qtest_writel(g->qts, read64, 0);
        qtest_memwrite(g->qts, g->dev[0].bar + DMA_BUFFER, &va, sizeof(va));
        smmu_kick(g, 0);
        g->dev[0].bus = OTHER_BUS;
        hits = qtest_readq(g->qts, g->dev[0].bar + DMA_STATUS) == DMA_OK;
        got = qtest_readq(g->qts, g->dev[0].bar + DMA_RESULT);
        if (hits != translates ||
            (hits && got != *(uint64_t *)host_ram(g, f->page[f->to->space]))) {
            g_error("%s: a command ran before the stream moved", f->cell);
        }
    }
}

static void renumbered_cell(Fixture *f)
{
    static const char *const ways[] = {
        "then a command", "then nothing", "between commands",
    };
    HostGuest *g = f->g;
    const State *from = f->from, *to = f->to;

    for (int way = 0; way < ARRAY_SIZE(ways); way++) {
        set_cell(f, ways[way]);
        write_tables(f, OTHER_BUS << 8, is_off(to) ? from : to);
        enter(f);
        smmu_sync_ok(g, 0);
        expect(f, 0, from, "before its bus is renumbered");
        renumbered_way(f, way);
        expect(f, 0, to, "after its bus is renumbered");

        /* No device has the old StreamID */
        write_tables(f, BUS << 8, to);
        write_tables(f, OTHER_BUS << 8, from);
        smmu_cmd(g, 0, CMD_CFGI_STE(BUS << 8));
        cfgi(f, CMD_CFGI_CD_ALL(BUS << 8));
        expect(f, 0, to, "after commands for the old number");
        expect_event(f, 0);
        if (!is_off(from)) {
            cfgi(f, CMD_CFGI_STE(OTHER_BUS << 8));
            expect_event(f, from->event);
            expect(f, 0, from, "after a command for the new number");
        }
        host_set_bus(g, 0, BUS);
        smmu_sync_ok(g, 0);
        expect(f, 0, to, "after its bus has the old number again");
        expect_event(f, 0);
    }
}

static bool renumbers(const State *s, const State *t)
{
    return by_memory(s, t) || (is_off(s) && s == t);
}

/* No table is too short for StreamID 0 */
static bool renumbers_to_0(const State *s, const State *t)
{
    return renumbers(s, t) && t->table != TABLE_SHORT && t->table != L1_SHORT;
}

/* Both StreamIDs have the same STE; the host must still get the new StreamID */
static void walk_same_ste(void)
{
    Fixture *f = one_device();
    const State *s = state_called("config-5");

    for (int round = 0; round < 3; round++) {
        f->from = f->to = s;
        set_cell(f, "the same STE");
        write_tables(f, OTHER_BUS << 8, s);
        enter(f);
        host_set_bus(f->g, 0, OTHER_BUS);
        comes_to(f, 0, s);
        expect_objects(f, "vdevice", 1);
        host_clear_cd(f->g, f->cd[0]);
        cfgi(f, CMD_CFGI_CD(OTHER_BUS << 8, 0));
        expect(f, 0, state_called("config-0"), "after CFGI_CD for its number");
        f->cd[0] = host_one_page_cd(f->g, 1, f->page[0]);
        host_set_bus(f->g, 0, BUS);
        smmu_sync_ok(f->g, 0);
    }
    fixture_free(f);
}

#define SWITCH_BUS      0x20

/* After its reset a switch has only buses 0; StreamID 0 has an STE too */
static void bridge_reset_cell(Fixture *f)
{
    HostGuest *g = f->g;

    write_tables(f, 0, is_off(f->to) ? f->from : f->to);
    enter(f);
    host_switch_reset(g, 0);
    for (int n = 0; n < 200 && where_in_host(f, 0) != want(f->to); n++) {
        g_usleep(1000);
    }
    if (where_in_host(f, 0) != want(f->to)) {
        g_error("%s: %s with all buses 0", f->cell,
                where_names[where_in_host(f, 0)]);
    }
    host_set_switch(g, 0, SWITCH_BUS);
    host_setup_device(g, 0);
    glimpse(f, 0);
    smmu_sync_ok(g, 0);
    expect(f, 0, f->from, "after the switch has numbers again");
    expect_event(f, 0);
}

static void walk_bridge_reset(void)
{
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1,
        .dev = { { .below_switch = true } },
    };
    Fixture *f = fixture_new(&config);

    host_set_switch(f->g, 0, SWITCH_BUS);
    host_setup_device(f->g, 0);
    for_cells(f, renumbers_to_0, ALL, bridge_reset_cell);
    fixture_free(f);
}

/*
 * A host that refuses for a while
 */

static void fail(Fixture *f, const char *rule)
{
    qobject_unref(host_control(f->g, "fail %s", rule));
}

/* One failed call parks the stream; with three, parking and a retry fail too */
static void busy_cell(Fixture *f)
{
    static const char *const rules[] = {
        "VFIO_DEVICE_ATTACH_IOMMUFD_PT=EBUSY",
        "VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+3=EBUSY",
    };

    for (int n = 0; n < ARRAY_SIZE(rules); n++) {
        set_cell(f, rules[n]);
        enter(f);
        aim(f);
        fail(f, rules[n]);
        if (n) {
            host_flr(f->g, 0);
            expect(f, 0, f->from, "after FLR");
        }
        cfgi(f, CMD_CFGI_STE(host_sid(f->g, 0)));
        glimpse(f, 0);
        comes_to(f, 0, f->to);
        expect_event(f, f->to->event);
        fail(f, "clear");
    }
}

/* The same at SMMUEN and GBPA */
static void busy_smmuen_cell(Fixture *f)
{
    const State *s = f->from;

    for (int abort = 0; abort < 2; abort++) {
        set_cell(f, abort ? "busy at SMMUEN, ABORT" : "busy at SMMUEN");
        enter(f);
        f->to = &states[abort];
        smmu_gbpa(f->g, 0, abort);
        fail(f, "VFIO_DEVICE_ATTACH_IOMMUFD_PT=EBUSY");
        smmu_disable(f->g, 0);
        comes_to(f, 0, f->to);
        fail(f, "clear");
        fail(f, "VFIO_DEVICE_ATTACH_IOMMUFD_PT=EBUSY");
        host_bus_reset(f->g, 0);
        smmu_enable(f->g, 0);
        comes_to(f, 0, s);
        expect_event(f, 0);
        fail(f, "clear");
    }
}

static void walk_busy_gbpa(void)
{
    Fixture *f = one_device();

    for (int n = 0; n < 4; n++) {
        f->from = &states[n & 1];
        f->to = &states[!(n & 1)];
        set_cell(f, NULL);
        enter(f);
        fail(f, "VFIO_DEVICE_ATTACH_IOMMUFD_PT=EBUSY");
        smmu_gbpa(f->g, 0, gbpa_abort_of(f->to));
        comes_to(f, 0, f->to);
        fail(f, "clear");
    }
    fixture_free(f);
}

/*
 * At plug VFIO has attached the device to the stage 2, where it bypasses, and
 * the next attachment fails. Then the device is unplugged before the host is
 * ready.
 */
static void busy_plug_cell(Fixture *f)
{
    f->to = &states[0];
    set_cell(f, "busy at plug");
    enter(f);
    fail(f, "VFIO_DEVICE_ATTACH_IOMMUFD_PT:2=EBUSY");
    g_assert_null(host_guest_plug(f->g, 0));
    comes_to(f, 0, f->from);
    expect_event(f, 0);
    unplug_all(f);
    fail(f, "clear");
    fail(f, "VFIO_DEVICE_ATTACH_IOMMUFD_PT:2+*=EBUSY");
    g_assert_null(host_guest_plug(f->g, 0));
    unplug_all(f);
    fail(f, "clear");
}

static void walk_busy_plug(void)
{
    walk_plugged(1, busy_plug_cell);
}

/* The host is busy until after a machine reset */
static void busy_reset_cell(Fixture *f)
{
    enter(f);
    aim(f);
    fail(f, "VFIO_DEVICE_ATTACH_IOMMUFD_PT:1+5=EBUSY");
    cfgi(f, CMD_CFGI_STE(host_sid(f->g, 0)));
    qtest_system_reset(f->g->qts);
    f->g->smmu[0].enabled = false;
    host_setup_port(f->g, 0);
    host_setup_device(f->g, 0);
    f->to = &states[0];
    for (int n = 0; n < 1000 && where_in_host(f, 0) != PASSES; n++) {
        g_usleep(2 * 1000);
    }
    expect(f, 0, f->to, "after reset");
    fail(f, "clear");
    smmu_enable(f->g, 0);
    smmu_disable(f->g, 0);
}

/* For a while the host reports that the StreamID has a vDEVICE already */
static void exists_cell(Fixture *f)
{
    HostGuest *g = f->g;

    write_tables(f, OTHER_BUS << 8, f->to);
    enter(f);
    fail(f, "IOMMU_VDEVICE_ALLOC:1+2=EEXIST");
    host_set_bus(g, 0, OTHER_BUS);
    glimpse(f, 0);
    smmu_sync_ok(g, 0);
    comes_to(f, 0, f->to);
    fail(f, "clear");
    host_set_bus(g, 0, BUS);
    smmu_sync_ok(g, 0);
    expect(f, 0, f->from, "at its old number");
    expect_event(f, 0);
}

/* It really has one: two devices have the StreamID until one is renumbered */
static void exists_twice_cell(Fixture *f)
{
    HostGuest *g = f->g;
    const State *s = state_called("config-5"), *from = f->from;

    f->to = s;
    write_neighbour(f);
    write_tables(f, OTHER_BUS << 8, from);
    f->from = s;
    enter(f);
    f->from = from;
    expect(f, 1, state_called("config-5-other"), "at first");
    host_set_bus(g, 1, BUS);
    smmu_sync_ok(g, 0);
    expect(f, 1, state_called("config-0"), "with the StreamID of the other");
    expect(f, 0, s, "when the other has its StreamID");
    host_set_bus(g, 0, OTHER_BUS);
    smmu_sync_ok(g, 0);
    expect(f, 0, from, "at its new number");
    comes_to(f, 1, s);
    host_set_bus(g, 1, NEIGHBOUR_BUS);
    host_set_bus(g, 0, BUS);
    smmu_sync_ok(g, 0);
    expect(f, 0, s, "at its old number");
    expect(f, 1, state_called("config-5-other"), "at its old number");
}

static void walk_exists(void)
{
    HostGuestConfig config = { .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 2 };
    Fixture *f = fixture_new(&config);

    host_set_bus(f->g, 1, NEIGHBOUR_BUS);
    for_cells(f, to_translate, ALL, exists_cell);
    for_cells(f, on_by_memory, 1, exists_twice_cell);
    fixture_free(f);
}

/*
 * Machine reset and kexec
 */

/* Stop the queue at an illegal command, with others behind it */
static void stop_queue(Fixture *f)
{
    smmu_cmd(f->g, 0, HOST_CMD(0xff, 0));
    smmu_cmd(f->g, 0, CMD_CFGI_ALL);
    g_assert_cmpuint(smmu_sync(f->g, 0), ==, SMMU_CERROR_ILL);
}

static void reset_machine(Fixture *f, bool stopped)
{
    HostGuest *g = f->g;
    const State *s = f->from;

    f->to = &states[0];
    smmu_gbpa(g, 0, true);
    enter(f);
    stop_queue(f);
    if (!is_off(s)) {
        expect(f, 0, s, "with its queue stopped");
    }
    if (stopped) {
        qtest_qmp_assert_success(g->qts, "{'execute': 'stop'}");
    }
    qtest_system_reset(g->qts);
    if (stopped) {
        qtest_qmp_assert_success(g->qts, "{'execute': 'cont'}");
    }
    if (where_in_host(f, 0) != PASSES) {
        g_error("%s: %s after reset", f->cell,
                where_names[where_in_host(f, 0)]);
    }
    g_assert_cmphex(smmu_read(g, 0, SMMU_CR0), ==, 0);
    g_assert_cmphex(smmu_read(g, 0, SMMU_GERROR), ==, 0);
    check_gbpa(f, false);
    expect_objects(f, "veventq", 0);
    g->smmu[0].enabled = false;
    host_setup_port(g, 0);
    host_setup_device(g, 0);
    expect(f, 0, &states[0], "after reset");

    /* Nothing of the old state is left, so SMMUEN is enough to start */
    if (!is_off(s)) {
        smmu_enable(g, 0);
        expect(f, 0, s, "when it is enabled again");
        smmu_sync_ok(g, 0);
    } else {
        smmu_enable(g, 0);
        smmu_disable(g, 0);
    }
}

static void reset_cell(Fixture *f)
{
    reset_machine(f, false);
}

/* After a panic, or if an admin has stopped the machine, no vCPU runs */
static void stopped_reset_cell(Fixture *f)
{
    reset_machine(f, true);
}

/*
 * A kernel that was not shut down leaves its queues in the middle. The next
 * kernel does what Linux does in arm_smmu_device_reset().
 */
static void kexec_cell(Fixture *f)
{
    HostGuest *g = f->g;
    HostVsmmu *smmu = &g->smmu[0];
    const bool two_level = f->two_level;
    const bool abort = f->n_cells & 1;
    const State *off = &states[abort];
    Tables *old;

    enter(f);
    if (abort) {
        stop_queue(f);
    } else {
        /* A command without a write of PROD */
        smmu_cmd(g, 0, CMD_CFGI_ALL);
    }
    expect(f, 0, f->from, "before kexec");

    smmu_gbpa(g, 0, abort);
    if (!is_off(f->from)) {
        expect(f, 0, f->from, "before CR0 is 0");
    }
    smmu_write(g, 0, SMMU_CR0, 0);
    expect(f, 0, off, "when CR0 is 0");
    smmu_write(g, 0, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR));

    /* The memory of the old kernel has other contents now */
    old = &f->tables[f->kernel];
    memset(host_ram(g, old->linear), 0xff, 64 << TABLE_LOG2);
    memset(host_ram(g, old->l1), 0xff, 4096);
    memset(host_ram(g, smmu->cmdq), 0xff, 16 << HOST_CMDQ_LOG2);
    f->kernel ^= 1;
    f->two_level ^= exists(f, f->to) && f->to->table < L1_INVALID;
    for (int n = 0; n < ARRAY_SIZE(old->l2); n++) {
        memset(host_ram(g, f->tables[f->kernel].l2[n]), 0, 1 << L2_LOG2);
    }
    memset(host_ram(g, f->tables[f->kernel].l1), 0, 4096);
    memset(host_ram(g, f->tables[f->kernel].linear), 0, 64 << TABLE_LOG2);
    smmu->cmdq ^= 16 << HOST_CMDQ_LOG2;
    smmu->eventq ^= 32 << HOST_EVENTQ_LOG2;

    if (is_off(f->to)) {
        smmu_gbpa(g, 0, gbpa_abort_of(f->to));
        smmu_enable(g, 0);
        smmu_disable(g, 0);
    } else {
        choose_table(f, f->to);
        write_tables(f, host_sid(g, 0), f->to);
        write_table_registers(f);
        expect(f, 0, off, "with the new kernel's table");
        smmu_enable(g, 0);
    }
    expect(f, 0, f->to, "after kexec");
    expect_event(f, 0);
    cfgi(f, CMD_CFGI_ALL);
    expect_event(f, is_off(f->to) ? 0 : f->to->event);
    expect(f, 0, f->to, "after CFGI_ALL");
    f->two_level = two_level;
}

/*
 * A crash kernel that keeps SMMUEN moves the queues, and the stream stays. The
 * next CFGI moves it.
 */
static void crash_cell(Fixture *f)
{
    HostGuest *g = f->g;
    HostVsmmu *smmu = &g->smmu[0];
    uint64_t moves;

    enter(f);
    aim(f);
    if (f->n_cells & 1) {
        stop_queue(f);
    } else {
        smmu_cmd(g, 0, CMD_CFGI_ALL);
    }
    moves = host_moves(f);
    smmu_write(g, 0, SMMU_CR0, SMMU_CR0_SMMUEN);
    expect(f, 0, f->from, "without queues");
    smmu_write(g, 0, SMMU_GERRORN, smmu_read(g, 0, SMMU_GERROR));
    smmu->cmdq ^= 16 << HOST_CMDQ_LOG2;
    smmu->eventq ^= 32 << HOST_EVENTQ_LOG2;
    smmu_enable(g, 0);
    expect(f, 0, f->from, "with other queues");
    g_assert_cmpuint(host_moves(f), ==, moves);
    expect_event(f, 0);
    cfgi(f, CMD_CFGI_ALL);
    expect(f, 0, f->to, "after CFGI_ALL");
    expect_event(f, f->to->event);
}

/* Two queues of each kind, side by side */
static Fixture *with_two_queues(void)
{
    Fixture *f = one_device();
    HostVsmmu *smmu = &f->g->smmu[0];

    smmu_write(f->g, 0, SMMU_CR0, 0);
    smmu->cmdq = host_alloc(f->g, 32 << HOST_CMDQ_LOG2);
    smmu->eventq = host_alloc(f->g, 64 << HOST_EVENTQ_LOG2);
    smmu_enable(f->g, 0);
    return f;
}

static void walk_kexec(void)
{
    Fixture *f = with_two_queues();

    for_cells(f, any_pair, ALL, kexec_cell);
    fixture_free(f);
}

static void walk_crash(void)
{
    Fixture *f = with_two_queues();

    for_cells(f, by_memory, ALL, crash_cell);
    fixture_free(f);
}

/*
 * Edges
 */

typedef struct Edge {
    const char *row;            /* row of the documentation */
    const char *name;
    Cell *cell;
    Pair *pair;
    unsigned most;
    void (*walk)(void);         /* instead of cells of one device */
} Edge;

static const Edge edges[] = {
    { "CMD_CFGI_STE", "cfgi-ste", cfgi_ste_cell, by_memory, ALL },
    { "CMD_CFGI_STE", "cds", .walk = walk_cds },
    { "CMD_CFGI_STE_RANGE", "range/states",
      cfgi_all_cell, by_memory, ALL },
    { "CMD_CFGI_STE_RANGE", "range/few", .walk = walk_range_few },
    { "CMD_CFGI_STE_RANGE", "range/many", .walk = walk_range_many },
    { "CR0.SMMUEN, both ways", "smmuen", smmuen_cell, by_memory, ALL },
    { "GBPA with UPDATE", "gbpa", gbpa_cell, shows, 4 },
    { "STRTAB_BASE, STRTAB_BASE_CFG", "strtab/disabled",
      strtab_cell, both_on, ALL },
    { "STRTAB_BASE, STRTAB_BASE_CFG", "strtab/enabled",
      strtab_while_enabled_cell, same_and_on, 1 },
    { "device added, cold or hot", "added/cold", .walk = walk_added_cold },
    { "device added, cold or hot", "added/hot", .walk = walk_added },
    { "device removed", "removed", .walk = walk_removed },
    { "bus renumbered, bridge reset", "renumbered/states",
      renumbered_cell, renumbers, ALL },
    { "bus renumbered, bridge reset", "renumbered/same",
      .walk = walk_same_ste },
    { "bus renumbered, bridge reset", "bridge-reset",
      .walk = walk_bridge_reset },
    { "FLR, secondary-bus reset", "flr", flr_cell, shows, ALL },
    { "FLR, secondary-bus reset", "bus-reset",
      bus_reset_cell, shows, ALL },
    { "EBUSY, EEXIST from the host", "busy/cfgi",
      busy_cell, on_and_shows, 2 },
    { "EBUSY, EEXIST from the host", "busy/smmuen",
      busy_smmuen_cell, on_and_shows, 1 },
    { "EBUSY, EEXIST from the host", "busy/gbpa", .walk = walk_busy_gbpa },
    { "EBUSY, EEXIST from the host", "busy/plug", .walk = walk_busy_plug },
    { "EBUSY, EEXIST from the host", "busy/reset",
      busy_reset_cell, on_and_shows, 1 },
    { "EBUSY, EEXIST from the host", "exists", .walk = walk_exists },
    { "machine reset, guest reboot", "reset/running",
      reset_cell, same, 1 },
    { "machine reset, guest reboot", "reset/stopped",
      stopped_reset_cell, same, 1 },
    { "kexec that clears SMMUEN", "kexec", .walk = walk_kexec },
    { "kexec that keeps SMMUEN", "crash", .walk = walk_crash },
    { "stop, cont", "stop-cont", stop_cont_cell, shows, ALL },
    { "CR0.EVENTQEN", "eventqen", eventqen_cell, shows, ALL },
};

static void test_edge(const void *opaque)
{
    const Edge *edge = opaque;
    Fixture *f;

    if (host_skipped()) {
        return;
    }
    if (edge->walk) {
        edge->walk();
        return;
    }
    f = one_device();
    for_cells(f, edge->pair, edge->most, edge->cell);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int n = 0; n < ARRAY_SIZE(edges); n++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-edge/%s",
                                                edges[n].name);

        qtest_add_data_func(path, &edges[n], test_edge);
    }
    return g_test_run();
}
