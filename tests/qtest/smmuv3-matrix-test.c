/*
 * QTest of accel=on: what the guest's ID registers say
 *
 * For each field, each value of its property and each value in the host:
 *
 *   cold     the device is there when QEMU starts
 *   hot      it comes when the guest has been told without any device
 *   second   it comes beside a first one, from its own or another physical SMMU
 *   replace  it comes when the first one has gone
 *
 * The expected result follows from the tables here and not from QEMU's. It is
 * what all ID registers hold, or the text with which the device is refused.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "smmuv3-host.h"

#define MAX_HOSTS   4
#define MAX_PROPS   5
#define AUTO        -1

enum { ATS, ASID16, CD2L, SSIDSIZE, RIL, BBML, OAS, GRAN4K, GRAN16K, GRAN64K,
       DS, VAX, N_FIELDS };

typedef struct Field {
    const char *name;           /* in the architecture */
    const char *key;            /* of the host model */
    const char *property;       /* of the SMMU, or NULL */
    unsigned baseline;          /* without a property and without a device */
    unsigned reg, shift, length;
    unsigned n_hosts, n_props;
    unsigned host[MAX_HOSTS];   /* the last one is the most that there is */
    int prop[MAX_PROPS];        /* what the user writes: AUTO or a number */
} Field;

/*
 * A host with pages of 4K has GRAN4K, and its stage 2 has 48 bits at most, also
 * where IDR5.OAS says 52
 */
static const Field fields[N_FIELDS] = {
    [ATS] = { "IDR0.ATS", "ats", "ats", 0, 0, 10, 1,
              2, 3, { 0, 1 }, { AUTO, 0, 1 } },
    [ASID16] = { "IDR0.ASID16", "asid16", NULL, 1, 0, 12, 1,
                 2, 1, { 0, 1 }, { AUTO } },
    [CD2L] = { "IDR0.CD2L", "cd2l", NULL, 0, 0, 19, 1,
               2, 1, { 0, 1 }, { AUTO } },
    [SSIDSIZE] = { "IDR1.SSIDSIZE", "ssidsize", "ssidsize", 0, 1, 6, 5,
                   3, 5, { 0, 8, 20 }, { AUTO, 0, 1, 8, 20 } },
    [RIL] = { "IDR3.RIL", "ril", "ril", 0, 3, 10, 1,
              2, 3, { 0, 1 }, { AUTO, 0, 1 } },
    [BBML] = { "IDR3.BBML", "bbml", NULL, 0, 3, 11, 2,
               3, 1, { 0, 1, 2 }, { AUTO } },
    [OAS] = { "IDR5.OAS", "oas", "oas", 4, 5, 0, 3,
              3, 5, { 2, 4, 5 }, { AUTO, 2, 4, 5, 6 } },
    [GRAN4K] = { "IDR5.GRAN4K", "gran4k", NULL, 1, 5, 4, 1,
                 1, 1, { 1 }, { AUTO } },
    [GRAN16K] = { "IDR5.GRAN16K", "gran16k", NULL, 0, 5, 5, 1,
                  2, 1, { 0, 1 }, { AUTO } },
    [GRAN64K] = { "IDR5.GRAN64K", "gran64k", NULL, 1, 5, 6, 1,
                  2, 1, { 0, 1 }, { AUTO } },
    [DS] = { "IDR5.DS", "ds", NULL, 0, 5, 7, 1,
             2, 1, { 0, 1 }, { AUTO } },
    [VAX] = { "IDR5.VAX", "vax", NULL, 0, 5, 10, 2,
              2, 1, { 0, 1 }, { AUTO } },
};

/* As a user and an error write a value of the field */
static unsigned as_written(unsigned f, unsigned value)
{
    static const unsigned bits[] = { 32, 36, 40, 42, 44, 48, 52 };

    return f == OAS ? bits[value] : value;
}

static char *property(unsigned f, int prop)
{
    const char *name = fields[f].property;

    if (!name) {
        return g_strdup("");
    }
    if (prop == AUTO) {
        return g_strdup_printf(",%s=auto", name);
    }
    return f == ATS || f == RIL ?
           g_strdup_printf(",%s=%s", name, prop ? "on" : "off") :
           g_strdup_printf(",%s=%u", name, as_written(f, prop));
}

/*
 * What the registers must hold
 */

typedef struct Told {
    unsigned field[N_FIELDS];
} Told;

#define N_REGS  7

static const unsigned id_regs[N_REGS] = {
    SMMU_IDR0, SMMU_IDR1, 0x8, SMMU_IDR3, 0x10, SMMU_IDR5, SMMU_AIDR,
};

/* What one is told of one host, or of none: the user decides about @f only */
static Told told(unsigned f, int prop, const unsigned *host)
{
    Told t;

    for (int i = 0; i < N_FIELDS; i++) {
        t.field[i] = host ? fields[i].host[fields[i].n_hosts - 1]
                          : fields[i].baseline;
    }
    if (host) {
        t.field[f] = *host;
    }
    if (prop != AUTO) {
        t.field[f] = prop;
    }
    /* DS is of SMMUv3.4, and needs RIL, BBML and 52 bits */
    if (!t.field[RIL] || !t.field[BBML] || !t.field[VAX]) {
        t.field[DS] = 0;
    }
    return t;
}

static void registers(const Told *t, uint32_t regs[N_REGS])
{
    bool v3_1 = t->field[RIL] || t->field[BBML];

    memset(regs, 0, sizeof(uint32_t) * N_REGS);
    /* S1P, TTF, COHACC, MSI, TTENDIAN, STALL_MODEL, TERM_MODEL, ST_LEVEL */
    regs[0] = 1 << 1 | 2 << 2 | 1 << 4 | 1 << 13 | 2 << 21 | 1 << 24 |
              1 << 26 | 1 << 27;
    /* SIDSIZE, EVENTQS, CMDQS */
    regs[1] = 16 | 19 << 16 | 19 << 21;
    /* HAD */
    regs[3] = v3_1 << 2;
    for (int i = 0; i < N_FIELDS; i++) {
        regs[fields[i].reg] |= t->field[i] << fields[i].shift;
    }
    regs[6] = t->field[DS] ? 3 : v3_1;
}

static void check_registers(HostGuest *g, unsigned vsmmu, const Told *t)
{
    uint32_t want[N_REGS];

    registers(t, want);
    for (int i = 0; i < N_REGS; i++) {
        uint32_t got = smmu_read(g, vsmmu, id_regs[i]);

        if (got != want[i]) {
            g_test_message("register 0x%x: 0x%x, not 0x%x", id_regs[i], got,
                           want[i]);
            g_test_fail();
        }
    }
}

/*
 * Why a host is refused, or NULL. @least is what @f must have there: what the
 * user wrote, or what the guest was told (@frozen).
 */
static char *refusal(unsigned f, int prop, unsigned host, unsigned least,
                     bool frozen)
{
    const char *name = fields[f].property;
    g_autofree char *remedy = NULL;

    if (f == ATS || host >= least) {
        return NULL;
    }
    if (name && prop > 0) {
        remedy = g_strdup_printf("use %s=auto", name);
    } else if (name) {
        remedy = g_strdup_printf("set %s on the SMMU to what the host has, or "
                                 "start QEMU with the device", name);
    } else {
        remedy = g_strdup("start QEMU with the device, so that the guest is "
                          "told what its host has");
    }
    return g_strdup_printf("the host SMMUv3 has %s %u, the guest %s %u; %s",
                           fields[f].name, as_written(f, host),
                           frozen ? "was told" : "is to have",
                           as_written(f, least), remedy);
}

static void check_text(const char *text, const char *want)
{
    if (!text || !want) {
        if (text != want) {
            g_test_message("%s, not %s", text ?: "accepted",
                           want ?: "accepted");
            g_test_fail();
        }
    } else if (!strstr(text, want)) {
        g_test_message("'%s', not '%s'", text, want);
        g_test_fail();
    }
}

/*
 * One QEMU serves all cases of a field and a value of its property. vSMMU 0 has
 * no device. Each other one has one with another value in the host. The hosts'
 * OAS is an exception: the whole machine has one IOAS, which has the least.
 */

typedef struct Case {
    enum { COLD, HOT, SECOND, REPLACE } way;
    unsigned f, p;              /* fields[f].prop[p] */
    unsigned first, host;       /* fields[f].host[]; @first: there before */
} Case;

typedef struct Machine {
    HostGuest *g;
    unsigned f, p, cold;
    unsigned vsmmu[MAX_HOSTS];  /* of the first device from that host */
    unsigned first[MAX_HOSTS];  /* that device */
    unsigned place[1 + MAX_HOSTS];      /* hot-plug here, by vSMMU */
    unsigned spare[MAX_HOSTS];  /* the model's device that is plugged */
} Machine;

static Machine machine;

static int prop_of(const Case *c)
{
    return fields[c->f].prop[c->p];
}

static unsigned host_of(const Case *c)
{
    return fields[c->f].host[c->host];
}

/* Which devices there are from the start, as a mask of hosts */
static unsigned cold_mask(const Case *c)
{
    unsigned mask = 0;

    if (c->f == OAS) {
        return c->way == HOT ? 0 : BIT(c->way == COLD ? c->host : c->first);
    }
    for (int v = 0; v < fields[c->f].n_hosts; v++) {
        g_autofree char *why = refusal(c->f, prop_of(c), fields[c->f].host[v],
                                       MAX(prop_of(c), 0), false);

        mask |= why ? 0 : BIT(v);
    }
    return mask;
}

static HostDeviceConfig *new_device(HostGuestConfig *config, unsigned vsmmu,
                                    unsigned psmmu, bool hotplug)
{
    HostDeviceConfig *dev = &config->dev[config->n_devs++];

    dev->vsmmu = vsmmu;
    dev->psmmu = psmmu;
    dev->hotplug = hotplug;
    dev->keys = "ats=on\npasid=20";
    return dev;
}

static void configure(const Case *c, unsigned mask, Machine *m,
                      HostGuestConfig *config, char **text)
{
    const Field *field = &fields[c->f];

    *m = (Machine) { .f = c->f, .p = c->p, .cold = mask };
    *config = (HostGuestConfig) {
        .n_vsmmus = 1, .n_psmmus = field->n_hosts, .smmu_args = text[MAX_HOSTS],
    };
    for (int v = 0; v < field->n_hosts; v++) {
        text[v] = g_strdup_printf("profile=lpa2\n%s=%u", field->key,
                                  field->host[v]);
        config->each_host[v] = text[v];
        if (mask & BIT(v)) {
            m->vsmmu[v] = config->n_vsmmus++;
            m->first[v] = config->n_devs;
            new_device(config, m->vsmmu[v], v, false);
        }
    }
    for (int v = 0; v < MAX(field->n_hosts, config->n_vsmmus); v++) {
        m->place[v] = m->spare[v] = config->n_devs;
        new_device(config, MIN(v, config->n_vsmmus - 1),
                   MIN(v, field->n_hosts - 1), true);
    }
}

static void machine_end(void)
{
    if (machine.g) {
        host_guest_free(machine.g);
    }
    machine.g = NULL;
}

static void machine_begin(const Case *c)
{
    char *text[MAX_HOSTS + 1] = { [MAX_HOSTS] = property(c->f, prop_of(c)) };
    unsigned mask = cold_mask(c);
    HostGuestConfig config;

    if (!machine.g || machine.f != c->f || machine.p != c->p ||
        machine.cold != mask) {
        machine_end();
        configure(c, mask, &machine, &config, text);
        machine.g = host_guest_new(&config);
        if (g_str_equal(fields[c->f].name, "IDR5.OAS")) {
            /* Where the CPUs have 44 */
            host_allow(machine.g, "addresses have 40 bits (IDR5.OAS)");
        }
    }
    for (int i = 0; i < ARRAY_SIZE(text); i++) {
        g_free(text[i]);
    }
}

/* Plug a device, check the result and what the guest sees, and unplug it */
static void check_plug(const Case *c, unsigned vsmmu, const Told *t,
                       const char *want)
{
    unsigned place = machine.place[vsmmu];
    g_autofree char *error = NULL;

    check_registers(machine.g, vsmmu, t);
    error = host_guest_plug_other(machine.g, place, machine.spare[c->host]);
    check_text(error, want);
    check_registers(machine.g, vsmmu, t);
    if (!error) {
        host_guest_unplug(machine.g, place);
    }
}

static void check_cold(const Case *c)
{
    g_autofree char *want = refusal(c->f, prop_of(c), host_of(c),
                                    MAX(prop_of(c), 0), false);
    unsigned host = host_of(c);
    Told t;

    if (want) {
        char *text[MAX_HOSTS + 1] = {
            [MAX_HOSTS] = property(c->f, prop_of(c))
        };
        g_autofree char *got = NULL;
        HostGuestConfig config;
        Machine m;

        configure(c, BIT(c->host), &m, &config, text);
        got = host_guest_refused(&config);
        check_text(got, want);
        for (int i = 0; i < ARRAY_SIZE(text); i++) {
            g_free(text[i]);
        }
        return;
    }
    machine_begin(c);
    t = told(c->f, prop_of(c), &host);
    check_registers(machine.g, machine.vsmmu[c->host], &t);
}

static void check_hot(const Case *c)
{
    Told t = told(c->f, prop_of(c), NULL);
    g_autofree char *want = refusal(c->f, prop_of(c), host_of(c),
                                    t.field[c->f], true);

    machine_begin(c);
    check_plug(c, 0, &t, want);
}

static void check_later(const Case *c)
{
    unsigned first = fields[c->f].host[c->first];
    Told t = told(c->f, prop_of(c), &first);
    g_autofree char *want = refusal(c->f, prop_of(c), host_of(c),
                                    t.field[c->f], true);
    HostDevice *dev;

    machine_begin(c);
    dev = &machine.g->dev[machine.first[c->first]];
    if (c->way == REPLACE && dev->present) {
        host_guest_unplug(machine.g, machine.first[c->first]);
    }
    if (c->way == SECOND && !want && c->host != c->first) {
        want = g_strdup("another physical SMMUv3");
    }
    g_assert_true(dev->present == (c->way == SECOND));
    check_plug(c, machine.vsmmu[c->first], &t, want);
}

static void check_case(const void *opaque)
{
    const Case *c = opaque;

    if (host_skipped()) {
        return;
    }
    switch (c->way) {
    case COLD:
        check_cold(c);
        break;
    case HOT:
        check_hot(c);
        break;
    default:
        check_later(c);
    }
}

static void add_case(Case c)
{
    static const char *const ways[] = { "cold", "hot", "second", "replace" };
    const Field *field = &fields[c.f];
    g_autofree char *prop = property(c.f, prop_of(&c));
    g_autofree char *hosts = c.way < SECOND ?
        g_strdup_printf("%u", as_written(c.f, host_of(&c))) :
        g_strdup_printf("%u-%u", as_written(c.f, field->host[c.first]),
                        as_written(c.f, host_of(&c)));
    g_autofree char *path = g_strdup_printf("/smmuv3-matrix/%s/%s,%s,%s",
                                            field->name,
                                            *prop ? prop + 1 : "default",
                                            ways[c.way], hosts);

    qtest_add_data_func_full(path, g_memdup2(&c, sizeof(c)), check_case,
                             g_free);
}

static void add_later(unsigned f, unsigned p, int way, unsigned first)
{
    g_autofree char *why = refusal(f, fields[f].prop[p], fields[f].host[first],
                                   MAX(fields[f].prop[p], 0), false);

    for (int v = 0; !why && v < fields[f].n_hosts; v++) {
        add_case((Case) { way, f, p, first, v });
    }
}

/* Cases that one QEMU serves follow each other; those of a replacement last */
static void add_cases(unsigned f, unsigned p)
{
    unsigned n = fields[f].n_hosts;

    for (int v = 0; v < n; v++) {
        add_case((Case) { HOT, f, p, 0, v });
    }
    for (int v = 0; v < n; v++) {
        add_case((Case) { COLD, f, p, 0, v });
        if (f == OAS) {
            add_later(f, p, SECOND, v);
            add_later(f, p, REPLACE, v);
        }
    }
    for (int way = SECOND; f != OAS && way <= REPLACE; way++) {
        for (int v = 0; v < n; v++) {
            add_later(f, p, way, v);
        }
    }
}

/*
 * What a guest is told on hosts that there are, in full
 */

#define GRACE_LINE  ",ats=on,ril=off,ssidsize=20,oas=48"
#define ALL_AUTO    ",ats=auto,ril=auto,ssidsize=auto,oas=auto"

typedef struct Profile {
    const char *name;
    unsigned has[N_FIELDS];             /* the host */
    uint32_t all_auto[N_REGS], grace_line[N_REGS];
    const char *refused;                /* the latter, and why */
} Profile;

static const Profile profiles[] = {
    { "grace", { 1, 1, 1, 20, 1, 2, 5, 1, 1, 1, 0, 0 },
      { 0x0d48341a, 0x02730510, 0, 0x1404, 0, 0x75, 1 },
      { 0x0d48341a, 0x02730510, 0, 0x1004, 0, 0x75, 1 } },
    { "kunpeng", { 1, 1, 1, 20, 0, 0, 5, 1, 0, 1, 0, 0 },
      { 0x0d48341a, 0x02730510, 0, 0, 0, 0x55, 0 },
      { 0x0d48341a, 0x02730510, 0, 0, 0, 0x55, 0 } },
    { "neoverse", { 1, 1, 1, 20, 1, 2, 5, 1, 1, 1, 0, 0 },
      { 0x0d48341a, 0x02730510, 0, 0x1404, 0, 0x75, 1 },
      { 0x0d48341a, 0x02730510, 0, 0x1004, 0, 0x75, 1 } },
    { "lpa2", { 1, 1, 1, 20, 1, 2, 6, 1, 1, 1, 1, 1 },
      { 0x0d48341a, 0x02730510, 0, 0x1404, 0, 0x4f5, 3 },
      { 0x0d48341a, 0x02730510, 0, 0x1004, 0, 0x475, 1 } },
    { "minimal", { 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0 },
      { 0x0d40201a, 0x02730010, 0, 0, 0, 0x12, 0 },
      .refused = "the host SMMUv3 has IDR1.SSIDSIZE 0, the guest is to have 20;"
                 " use ssidsize=auto; and the host SMMUv3 has IDR5.OAS 40, the "
                 "guest is to have 48; use oas=auto" },
};

static void check_golden(const HostGuestConfig *config,
                         const uint32_t want[N_REGS], const unsigned *has)
{
    HostGuest *g = host_guest_new(config);
    uint32_t got[N_REGS];

    for (int i = 0; i < N_REGS; i++) {
        got[i] = smmu_read(g, 0, id_regs[i]);
        g_assert_cmphex(got[i], ==, want[i]);
    }
    for (int i = 0; has && i < N_FIELDS; i++) {
        g_assert_cmpuint(extract32(got[fields[i].reg], fields[i].shift,
                                   fields[i].length), <=, has[i]);
    }
    host_guest_free(g);
}

static void test_profile(const void *opaque)
{
    const Profile *profile = opaque;
    g_autofree char *host = g_strdup_printf("profile=%s", profile->name);
    HostGuestConfig config = {
        .n_vsmmus = 1, .n_psmmus = 1, .n_devs = 1, .host = host,
        .device = profile->has[ATS] ? "ats=on\npasid=20" : NULL,
    };

    if (host_skipped()) {
        return;
    }
    check_golden(&config, profile->all_auto, profile->has);
    config.smmu_args = ALL_AUTO;
    check_golden(&config, profile->all_auto, profile->has);
    config.smmu_args = GRACE_LINE;
    if (profile->refused) {
        g_autofree char *text = host_guest_refused(&config);

        g_assert_nonnull(strstr(text, profile->refused));
    } else {
        check_golden(&config, profile->grace_line, profile->has);
    }
}

/* The same for all hosts */
static void test_no_device(void)
{
    static const uint32_t baseline[N_REGS] = {
        0x0d40301a, 0x02730010, 0, 0, 0, 0x54, 0,
    };
    static const uint32_t grace_line[N_REGS] = {
        0x0d40341a, 0x02730510, 0, 0, 0, 0x55, 0,
    };
    HostGuestConfig config = { .n_vsmmus = 1 };

    if (host_skipped()) {
        return;
    }
    check_golden(&config, baseline, NULL);
    config.smmu_args = ALL_AUTO;
    check_golden(&config, baseline, NULL);
    config.smmu_args = GRACE_LINE;
    check_golden(&config, grace_line, NULL);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    for (int f = 0; f < N_FIELDS; f++) {
        for (int p = 0; p < fields[f].n_props; p++) {
            add_cases(f, p);
        }
    }
    for (int i = 0; i < ARRAY_SIZE(profiles); i++) {
        g_autofree char *path = g_strdup_printf("/smmuv3-matrix/profile/%s",
                                                profiles[i].name);

        qtest_add_data_func(path, &profiles[i], test_profile);
    }
    qtest_add_func("/smmuv3-matrix/profile/no-device", test_no_device);
    ret = g_test_run();
    machine_end();
    return ret;
}
