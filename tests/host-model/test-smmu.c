/*
 * Tests of the host model's physical SMMUv3
 *
 * Other tests rely on the model, so each rule of it is here once more, as a row
 * with its answer.  Tables and CDs are in flat memory behind an opaque stage 2.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include "test-smmu.h"

/*
 * What the SMMU needs of the rest of the model
 */

GPtrArray *hm_devices, *hm_smmus;

static GHashTable *counters;
GString *log_lines;
unsigned atc_invs;
uint64_t atc_inv_last[2];
bool atc_answers = true;

uint64_t *hm_counter(const char *name)
{
    uint64_t *n;

    if (!counters) {
        counters = g_hash_table_new(g_str_hash, g_str_equal);
    }
    n = g_hash_table_lookup(counters, name);
    if (!n) {
        n = g_new0(uint64_t, 1);
        g_hash_table_insert(counters, g_strdup(name), n);
    }
    return n;
}

void hm_log(const char *format, ...)
{
    va_list ap;

    if (!log_lines) {
        log_lines = g_string_new(NULL);
    }
    va_start(ap, format);
    g_string_append_vprintf(log_lines, format, ap);
    va_end(ap);
    g_string_append_c(log_lines, '\n');
}

void hm_bug(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    abort();
}

bool hm_device_atc_inv(uint32_t sid, HmSmmu *smmu, const uint64_t cmd[2])
{
    atc_invs++;
    memcpy(atc_inv_last, cmd, sizeof(atc_inv_last));
    return atc_answers;
}

static World *the_world;                /* for hm_smmu_on_event() */

static uint64_t s2_until(uint64_t ipa, uint64_t edge, uint64_t size,
                         uint64_t len)
{
    if (!edge) {
        return len;
    }
    return ipa < edge ? MIN(len, edge - ipa)
           : ipa < edge + size ? MIN(len, edge + size - ipa) : len;
}

static bool s2_lookup(HmS2 *s2, uint64_t ipa, void **host, uint64_t *len,
                      unsigned *prot)
{
    World *w = (World *)s2;
    uint64_t page = ipa & ~0xfffull;

    if (ipa >= DOORBELL && ipa < DOORBELL + MiB) {
        *host = HM_DOORBELL;
        *len = DOORBELL + MiB - ipa;
        *prot = HM_READ | HM_WRITE;
        return true;
    }
    if (ipa < RAM || ipa >= RAM + RAM_SIZE) {
        return false;
    }
    if (page == HOLE || (w->gone && page == w->gone)) {
        /* After "false" these must not be used. */
        *host = w->ram + (ipa - RAM);
        *prot = HM_READ | HM_WRITE;
        *len = 4 * KiB;
        return false;
    }
    *len = RAM + RAM_SIZE - ipa;
    *len = s2_until(ipa, HOLE, 4 * KiB, *len);
    *len = s2_until(ipa, ROM, 64 * KiB, *len);
    *len = s2_until(ipa, WOM, 64 * KiB, *len);
    *len = s2_until(ipa, w->moved, 4 * KiB, *len);
    *len = s2_until(ipa, w->gone, 4 * KiB, *len);
    *len = s2_until(ipa, w->read_only, 4 * KiB, *len);
    *prot = HM_READ | HM_WRITE;
    if ((ipa >= ROM && ipa < ROM + 64 * KiB) ||
        (w->read_only && page == w->read_only)) {
        *prot = HM_READ;
    } else if (ipa >= WOM && ipa < WOM + 64 * KiB) {
        *prot = HM_WRITE;
    }
    if (w->moved && page == w->moved) {
        ipa = w->moved_to + (ipa & 0xfff);
    }
    *host = w->ram + (ipa - RAM);
    return true;
}

static void s2_dirty(HmS2 *s2, uint64_t ipa, uint64_t len)
{
    World *w = (World *)s2;

    w->dirties++;
    w->dirty = ipa;
    w->dirty_len = len;
}

static void on_event(HmSmmu *smmu, const uint64_t event[4])
{
    g_assert(smmu == the_world->smmu);
    memcpy(the_world->event, event, sizeof(the_world->event));
    the_world->events++;
}

uint64_t *mem(World *w, uint64_t ipa)
{
    g_assert(ipa >= RAM && ipa < RAM + RAM_SIZE);
    return (uint64_t *)(w->ram + (ipa - RAM));
}

/* Zeroed memory, aligned to its size, in the first 32 MiB */
uint64_t alloc(World *w, uint64_t size)
{
    uint64_t at = (w->used + size - 1) & ~(size - 1);

    w->used = at + size;
    g_assert(w->used <= 32 * MiB);
    memset(w->ram + at, 0, size);
    return RAM + at;
}

World *world_new(const HmSmmuConfig *config)
{
    World *w = aligned_alloc(16, (sizeof(World) + 15) & ~15ul);

    memset(w, 0, sizeof(*w));
    w->s2.lookup = s2_lookup;
    w->s2.dirty = s2_dirty;
    w->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert(w->ram != MAP_FAILED);
    w->smmu = hm_smmu_new(config);
    hm_smmu_on_event(w->smmu, on_event);
    the_world = w;
    return w;
}

World *world(const char *profile)
{
    HmSmmuConfig config;

    g_assert(hm_smmu_profile(profile, &config));
    config.name = (char *)"test";
    return world_new(&config);
}

void world_end(World *w)
{
    hm_smmu_free(w->smmu);
    munmap(w->ram, RAM_SIZE);
    free(w);
}

void world_endp(World **w)
{
    world_end(*w);
}
/* A failure prints the row and both values, and the test continues. */
void G_GNUC_PRINTF(4, 5) expect_at(int line, uint64_t got,
                                          uint64_t want, const char *format,
                                          ...)
{
    g_autofree char *what = NULL;
    va_list ap;

    if (got == want) {
        return;
    }
    va_start(ap, format);
    what = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_test_message("line %d: %s: 0x%" PRIx64 ", not 0x%" PRIx64, line, what,
                   got, want);
    g_test_fail();
}
/*
 * Stage 1 tables
 */

unsigned shift_of(unsigned granule, unsigned level)
{
    return granule + (3 - level) * (granule - 3);
}

unsigned start_level(const Space *s)
{
    unsigned bits = 64 - s->tsz;
    unsigned level = 3;

    while (bits > shift_of(s->granule, level) + s->granule - 3) {
        level--;
    }
    return level;
}

Space space(World *w, unsigned granule, unsigned tsz, unsigned asid)
{
    Space s = { w, granule, tsz, { alloc(w, 1ull << granule),
                                   alloc(w, 1ull << granule) }, asid };

    return s;
}

/* The descriptor of @level for @va.  Tables that are missing are made. */
uint64_t *desc(const Space *s, uint64_t va, unsigned level)
{
    uint64_t table = s->ttb[va >> 63];
    unsigned at = start_level(s);

    for (;; at++) {
        unsigned shift = shift_of(s->granule, at);
        unsigned bits = at == start_level(s) ? 64 - s->tsz - shift
                                             : s->granule - 3;
        uint64_t *d = mem(s->w, table) + ((va >> shift) & (BIT(bits) - 1));

        if (at == level) {
            return d;
        }
        if (!(*d & 1)) {
            *d = alloc(s->w, 1ull << s->granule) | 3;
        }
        table = *d & 0xfffffffff000ull;
    }
}

void map(const Space *s, uint64_t va, uint64_t out, unsigned level,
                uint64_t attrs)
{
    *desc(s, va, level) = out | attrs | (level == 3 ? 3 : 1);
}

static uint64_t cd0(const Space *s)
{
    static const uint8_t tg0[] = { [12] = 0, [14] = 2, [16] = 1 };
    static const uint8_t tg1[] = { [12] = 2, [14] = 1, [16] = 3 };

    return CD_BASE | s->tsz | (uint64_t)s->tsz << 16 |
           (uint64_t)tg0[s->granule] << 6 | (uint64_t)tg1[s->granule] << 22 |
           5ull << 32 | (uint64_t)s->asid << 48;
}

void set_cd(const Space *s, uint64_t at)
{
    uint64_t *cd = mem(s->w, at);

    cd[1] = s->ttb[0];
    cd[2] = s->ttb[1];
    cd[0] = cd0(s);
}

uint64_t new_cd(const Space *s)
{
    uint64_t at = alloc(s->w, 64);

    set_cd(s, at);
    return at;
}

uint64_t *set_ste(World *w, uint32_t sid, unsigned config, uint64_t cd,
                         unsigned vmid)
{
    uint64_t *ste = hm_smmu_ste(w->smmu, sid);

    memset(ste, 0, 64);
    ste[0] = 1 | config << 1 | cd;
    ste[1] = 2;                                 /* S1DSS: substream 0 */
    ste[2] = vmid | BIT(58);                    /* S2R */
    ste[3] = (uintptr_t)&w->s2;
    return ste;
}

uint64_t s1cdmax(unsigned n)
{
    return (uint64_t)n << 59;
}

/* A space with its CD, nested on SID, VMID 1 */
Space nested(World *w, unsigned granule, unsigned tsz)
{
    Space s = space(w, granule, tsz, 1);

    set_ste(w, SID, NESTED, new_cd(&s), 1);
    return s;
}

/*
 * Transactions and commands
 */

HmTranslation last;

/* The IPA whose memory was reached, or NONE */
uint64_t go_as(World *w, uint32_t sid, uint32_t ssid, uint64_t va,
                      unsigned access)
{
    last = (HmTranslation) { .sid = sid, .ssid = ssid, .iova = va,
                             .access = access };

    w->events = 0;
    memset(w->event, 0, sizeof(w->event));
    if (hm_smmu_translate(w->smmu, &last)) {
        return NONE;
    }
    if (last.host == HM_DOORBELL) {
        return DOORBELL;
    }
    return (uint8_t *)last.host - w->ram + RAM;
}

uint64_t go(World *w, uint64_t va)
{
    return go_as(w, SID, HM_NO_PASID, va, HM_READ);
}

uint64_t count(const char *name)
{
    return *hm_counter(name);
}

/* Does @va hit the TLB? */
bool hits(World *w, uint32_t sid, uint64_t va)
{
    uint64_t before = count("smmu.tlb.hit");

    go_as(w, sid, HM_NO_PASID, va, HM_READ);
    return count("smmu.tlb.hit") != before;
}

bool stale(World *w, uint64_t va)
{
    uint64_t before = count("smmu.stale");

    go(w, va);
    return count("smmu.stale") != before;
}

int command(World *w, uint64_t w0, uint64_t w1)
{
    uint64_t cmd[2] = { w0, w1 };

    hm_smmu_command(w->smmu, cmd);
    return hm_smmu_sync(w->smmu);
}

void flush(World *w)
{
    g_assert(command(w, NSNH_ALL, 0) == 0);
    g_assert(command(w, CFGI_RANGE, 31) == 0);
}

void expect_event_at(int line, World *w, const char *name, uint64_t w0,
                            uint64_t w1, uint64_t w2, uint64_t w3)
{
    uint64_t want[4] = { w0, w1, w2, w3 };

    expect_at(line, w->events, w0 ? 1 : 0, "%s: events", name);
    for (int i = 0; i < 4; i++) {
        expect_at(line, w->event[i], want[i], "%s: event word %d", name, i);
    }
}

int main(int argc, char **argv)
{
    g_unsetenv("HOST_MODEL_CHECK");
    g_test_init(&argc, &argv, NULL);
    g_test_set_nonfatal_assertions();
    add_walk_tests();
    add_cache_tests();
    add_command_tests();
    return g_test_run();
}
