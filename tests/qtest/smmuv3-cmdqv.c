/*
 * QTests of a CMDQV: what a guest's driver does
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "smmuv3-cmdqv.h"

static uint64_t base(HostGuest *g)
{
    return CMDQV + g->cmdqv * CMDQV_STRIDE;
}

uint32_t cmdqv_get(HostGuest *g, uint32_t offset)
{
    return qtest_readl(g->qts, base(g) + offset);
}

void cmdqv_set(HostGuest *g, uint32_t offset, uint32_t value)
{
    qtest_writel(g->qts, base(g) + offset, value);
}

uint32_t cmdqv_reg(unsigned lvcmdq, uint32_t offset)
{
    return LOGICAL + 0x80 * lvcmdq + offset;
}

uint32_t cmdqv_q(CmdqvBed *bed, unsigned q, uint32_t offset)
{
    return cmdqv_get(bed->g, cmdqv_reg(q, offset));
}

void cmdqv_set_q(CmdqvBed *bed, unsigned q, uint32_t offset, uint32_t value)
{
    cmdqv_set(bed->g, cmdqv_reg(q, offset), value);
}

void cmdqv_set_base(CmdqvBed *bed, unsigned q, uint64_t value)
{
    qtest_writeq(bed->g->qts, base(bed->g) + cmdqv_reg(q, BASE), value);
}

void cmdqv_control(CmdqvBed *bed, const char *command)
{
    qobject_unref(host_control(bed->g, "%s", command));
}

void cmdqv_wait_until_held(CmdqvBed *bed)
{
    for (int i = 0; !host_counter(bed->g, "held"); i++) {
        g_assert_cmpint(i, <, 100000);
        g_usleep(100);
    }
}

void cmdqv_make_slow(CmdqvBed *bed)
{
    cmdqv_control(bed, "fail IOMMU_HWPT_INVALIDATE~150000");
    cmdqv_run_ok(bed, 0, CMD_TLBI_NH_ASID(99));
    cmdqv_control(bed, "fail clear");
}

const CmdqvWrite cmdqv_writes[] = {
    { VINTF_INT_MASK, 1 }, { VINTF_INT_MASK, 0 }, { CONFIG, ENABLE },
    { VINTF_CONFIG, ENABLE }, { 0x1040, 0x12345 }, { 0x1080, 0x54321 },
    { ALLOC(0), ALLOC_ALLOCATED }, { GLOBAL + QCONFIG, ENABLE },
    { GLOBAL + GERROR, 1 }, { GLOBAL + BASE, 0xffffffff },
    { LOGICAL + BASE + 4, 0xffffffff }, { PARAM, 0 }, { 0xfffc, 0 },
};

void cmdqv_check_registers(CmdqvBed *bed)
{
    for (unsigned q = 0; q < N_QUEUES; q++) {
        uint32_t global = GLOBAL + 0x80 * q;

        g_assert_cmphex(cmdqv_get(bed->g, global + CONS), ==, bed->prod[q]);
        g_assert_cmphex(cmdqv_get(bed->g, global + PROD), ==, bed->prod[q]);
        g_assert_cmphex(cmdqv_get(bed->g, global + QCONFIG), ==, ENABLE);
        g_assert_cmphex(cmdqv_get(bed->g, global + QSTATUS), ==, ENABLE);
        g_assert_cmphex(cmdqv_get(bed->g, global + BASE), ==,
                        bed->queue[q] | LOG2);
        g_assert_cmphex(cmdqv_q(bed, q, CONS), ==, bed->prod[q]);
        g_assert_cmphex(cmdqv_q(bed, q, PROD), ==, bed->prod[q]);
        g_assert_cmphex(cmdqv_q(bed, q, QCONFIG), ==, ENABLE);
        g_assert_cmphex(cmdqv_q(bed, q, QSTATUS), ==, ENABLE);
    }
    g_assert_cmphex(cmdqv_get(bed->g, STATUS), ==, ENABLE);
    g_assert_cmphex(cmdqv_get(bed->g, VINTF_STATUS), ==, ENABLE);
    cmdqv_check_error_maps(bed, 0);
}

void cmdqv_check_in_memory(CmdqvBed *bed)
{
    g_autofree char *tree = qtest_hmp(bed->g->qts, "info mtree");

    g_assert_nonnull(strstr(tree, "c090000-000000000c09ffff (prio 0, romd): "
                            "arm-smmuv3-vcmdq"));
    g_assert_nonnull(strstr(tree, "c0b0000-000000000c0bffff (prio 0, romd): "
                            "arm-smmuv3-vcmdq"));
}

void cmdqv_check_owner(CmdqvBed *bed, const char *owner)
{
    QDict *smmu = host_query(bed->g, 0);

    for (unsigned q = 0; q < N_QUEUES; q++) {
        g_autofree char *name = g_strdup_printf("vcmdq%u", q);
        const QDict *info = host_find(smmu, "queues", "name", name);

        g_assert_cmpstr(qdict_get_str(info, "owner"), ==, owner);
        g_assert_true(qdict_get_bool(info, "enabled"));
        g_assert_cmphex(qdict_get_int(info, "base"), ==, bed->queue[q]);
        g_assert_cmphex(qdict_get_int(info, "prod"), ==, bed->prod[q]);
    }
    qobject_unref(smmu);
}

void cmdqv_wait_for_cons(CmdqvBed *bed, unsigned q, uint32_t cons)
{
    for (int n = 0; cmdqv_q(bed, q, CONS) != cons; n++) {
        g_assert_cmpint(n, <, 50000);
        g_usleep(100);
    }
}

/*
 * What a driver does
 */

void cmdqv_enable(HostGuest *g, uint32_t config, uint32_t status,
                  uint32_t value)
{
    cmdqv_set(g, config, value);
    for (int n = 0; n < 100000; n++) {
        if (cmdqv_get(g, status) == (value & ENABLE)) {
            return;
        }
        g_usleep(10);
    }
    g_error("0x%x does not follow 0x%x = 0x%x", status, config, value);
}

void cmdqv_queue_enable(CmdqvBed *bed, unsigned q)
{
    cmdqv_enable(bed->g, cmdqv_reg(q, QCONFIG), cmdqv_reg(q, QSTATUS), ENABLE);
}

void cmdqv_queue_off(CmdqvBed *bed, unsigned q)
{
    cmdqv_enable(bed->g, cmdqv_reg(q, QCONFIG), cmdqv_reg(q, QSTATUS), 0);
}

void cmdqv_queue_on(CmdqvBed *bed, unsigned q)
{
    cmdqv_set_q(bed, q, PROD, 0);
    cmdqv_set_q(bed, q, CONS, 0);
    bed->prod[q] = 0;
    cmdqv_set_base(bed, q, bed->queue[q] | LOG2);
    cmdqv_queue_enable(bed, q);
}

void cmdqv_on(CmdqvBed *bed)
{
    HostGuest *g = bed->g;

    cmdqv_enable(g, CONFIG, STATUS, 0);
    cmdqv_enable(g, CONFIG, STATUS, ENABLE);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_set(g, ALLOC(q), ALLOC_LVCMDQ(q));
    }
    cmdqv_enable(g, VINTF_CONFIG, VINTF_STATUS, HYP_OWN | ENABLE);
    /* A guest does not own the hypervisor's VINTF */
    g_assert_cmphex(cmdqv_get(g, VINTF_CONFIG), ==, ENABLE);
    for (unsigned q = 0; q < N_QUEUES; q++) {
        cmdqv_set(g, ALLOC(q), cmdqv_get(g, ALLOC(q)) | ALLOC_ALLOCATED);
        cmdqv_queue_on(bed, q);
    }
}

void cmdqv_put(CmdqvBed *bed, unsigned q, HostCmd cmd)
{
    uint64_t *slot = host_ram(bed->g, bed->queue[q] +
                              16 * (bed->prod[q] & (WRAP >> 1)));

    slot[0] = cpu_to_le64(cmd.word[0]);
    slot[1] = cpu_to_le64(cmd.word[1]);
    bed->prod[q] = (bed->prod[q] + 1) & WRAP;
}

bool cmdqv_halted(CmdqvBed *bed, unsigned q)
{
    return cmdqv_q(bed, q, GERROR) != cmdqv_q(bed, q, GERRORN);
}

unsigned cmdqv_run(CmdqvBed *bed, unsigned q)
{
    cmdqv_set_q(bed, q, PROD, bed->prod[q]);
    for (int n = 0; n < 100000; n++) {
        uint32_t cons = cmdqv_q(bed, q, CONS);

        if (cmdqv_halted(bed, q)) {
            return extract32(cmdqv_q(bed, q, CONS), 24, 7);
        }
        if ((cons & WRAP) == bed->prod[q]) {
            return SMMU_CERROR_NONE;
        }
        g_usleep(10);
    }
    g_error("the commands of VCMDQ %u are not consumed", q);
}

void cmdqv_run_ok(CmdqvBed *bed, unsigned q, HostCmd cmd)
{
    cmdqv_put(bed, q, cmd);
    cmdqv_put(bed, q, CMD_SYNC);
    g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_NONE);
}

void cmdqv_check_sync_fails(CmdqvBed *bed, unsigned q)
{
    cmdqv_put(bed, q, CMD_SYNC);
    g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_ABT);
    cmdqv_set_q(bed, q, GERRORN, cmdqv_q(bed, q, GERROR));
    g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_NONE);
}

void cmdqv_skip_error(CmdqvBed *bed, unsigned q)
{
    uint32_t cons = cmdqv_q(bed, q, CONS) & (WRAP >> 1);
    uint64_t *slot = host_ram(bed->g, bed->queue[q] + 16 * cons);

    slot[0] = cpu_to_le64(CMD_SYNC.word[0]);
    slot[1] = 0;
    cmdqv_set_q(bed, q, GERRORN, cmdqv_q(bed, q, GERROR));
}

/*
 * The bed
 */

void cmdqv_bed_translate(CmdqvBed *bed)
{
    HostGuest *g = bed->g;
    uint64_t cd = host_alloc(g, 64), root = host_alloc(g, 4096);

    bed->pte = host_pte(g, root, 12, 25, HOST_VA, 3, true);
    for (unsigned n = 0; n < 2; n++) {
        bed->page[n] = host_new_page(g, TAG(n));
    }
    *bed->pte = cpu_to_le64(host_leaf(3, bed->page[0], PTE_DATA));
    host_write_cd(g, cd, &(HostCd) {
        .asid = 1, .ttb = { root }, .txsz = { 25 }, .granule_shift = 12,
    });
    host_set_ste(g, bed->dev, STE_S1(cd));
    host_check_reads(g, bed->dev, HOST_VA, TAG(0));
}

void cmdqv_bed_restart(CmdqvBed *bed)
{
    host_setup_port(bed->g, 0);
    host_setup_device(bed->g, 0);
    host_enable(bed->g, 0);
    cmdqv_bed_translate(bed);
}

static void alloc_queues(CmdqvBed *bed)
{
    for (unsigned q = 0; q < N_QUEUES; q++) {
        bed->queue[q] = host_alloc(bed->g, 16 << LOG2);
    }
}

void cmdqv_select(CmdqvBed *bed)
{
    bed->g->cmdqv = bed->dev;
}

/* The board fills its gaps: four SMMUs are below the first CMDQV */
static uint64_t smmu_offset(unsigned i)
{
    return i < 4 ? i * 0x20000 : (i - 3) * CMDQV_STRIDE + 0x60000;
}

HostGuest *cmdqv_beds_new(HostGuestConfig config, CmdqvBed *beds)
{
    HostGuest *g;

    config.n_psmmus = 1;
    config.n_devs = config.n_vsmmus;
    for (unsigned i = 0; i < config.n_vsmmus; i++) {
        config.dev[i].vsmmu = i;
    }
    g = host_guest_new(&config);
    host_allow(g, SAID_SHORT_QUEUES);
    alarm(WATCHDOG_S);
    for (unsigned i = 0; i < config.n_vsmmus; i++) {
        beds[i] = (CmdqvBed) { .g = g, .dev = i };
        g->smmu[i].base = VIRT_PLATFORM_BUS_BASE + smmu_offset(i);
        host_enable(g, i);
        alloc_queues(&beds[i]);
        cmdqv_bed_translate(&beds[i]);
    }
    return g;
}

CmdqvBed *cmdqv_bed_new(HostGuestConfig config)
{
    CmdqvBed *bed = g_new0(CmdqvBed, 1);

    config.n_vsmmus = MAX(config.n_vsmmus, 1);
    config.n_psmmus = 1;
    bed->g = host_guest_new(&config);
    /* If the host's CMDQV reads a queue of the guest in small pages */
    host_allow(bed->g, SAID_SHORT_QUEUES);
    alarm(WATCHDOG_S);
    host_enable(bed->g, 0);
    alloc_queues(bed);
    if (config.n_devs && !config.dev[0].hotplug) {
        cmdqv_bed_translate(bed);
    }
    return bed;
}

void cmdqv_bed_free(CmdqvBed *bed)
{
    host_finish(bed->g);
    g_free(bed);
    alarm(0);
}

void cmdqv_remap(CmdqvBed *bed, unsigned q, HostCmd cmd, unsigned n)
{
    qatomic_set(bed->pte, cpu_to_le64(host_leaf(3, bed->page[n], PTE_DATA)));
    cmdqv_run_ok(bed, q, cmd);
    host_check_reads(bed->g, bed->dev, HOST_VA, TAG(n));
}

/*
 * Errors
 */

static unsigned gsiv(CmdqvBed *bed)
{
    return GSIV_CMDQV + bed->g->cmdqv * GSIVS;
}

void cmdqv_set_edge(CmdqvBed *bed)
{
    host_set_edge(bed->g, gsiv(bed));
}

bool cmdqv_take_irq(CmdqvBed *bed)
{
    return host_take_irq(bed->g, gsiv(bed));
}

void cmdqv_check_error_maps(CmdqvBed *bed, uint32_t want)
{
    g_assert_cmphex(cmdqv_get(bed->g, VINTF_ERR_MAP), ==, !!want);
    g_assert_cmphex(cmdqv_get(bed->g, VINTF_ERR_MAP + 4), ==, 0);
    g_assert_cmphex(cmdqv_get(bed->g, LVCMDQ_ERR_MAP), ==, want);
    g_assert_cmphex(qtest_readq(bed->g->qts, base(bed->g) + LVCMDQ_ERR_MAP),
                    ==, want);
    g_assert_cmphex(cmdqv_get(bed->g, CMDQ_ERR_MAP), ==, want);
    g_assert_cmphex(cmdqv_get(bed->g, CMDQ_ERR_MAP + 4), ==, 0);
}

void cmdqv_check_illegal(CmdqvBed *bed, unsigned q, HostCmd cmd)
{
    uint32_t at = bed->prod[q];
    unsigned n = 1 - (le64_to_cpu(*bed->pte) ==
                      host_leaf(3, bed->page[1], PTE_DATA));
    bool masked = cmdqv_get(bed->g, VINTF_INT_MASK);

    cmdqv_put(bed, q, cmd);
    cmdqv_put(bed, q, CMD_TLBI_NH_VA(1, HOST_VA, 1));
    cmdqv_put(bed, q, CMD_SYNC);
    if (cmdqv_run(bed, q) != SMMU_CERROR_ILL) {
        g_error("0x%" PRIx64 " 0x%" PRIx64 " is taken", cmd.word[0],
                cmd.word[1]);
    }
    g_assert_cmphex(cmdqv_q(bed, q, CONS), ==, at | SMMU_CERROR_ILL << 24);
    cmdqv_check_error_maps(bed, 1u << q);
    g_assert_cmpint(cmdqv_take_irq(bed), ==, !masked);
    /* A halted queue does nothing, and raises nothing again */
    cmdqv_set_q(bed, q, PROD, bed->prod[q]);
    g_assert_false(cmdqv_take_irq(bed));
    g_assert_cmphex(cmdqv_q(bed, q, CONS) & WRAP, ==, at);
    /* The other one does, and so does the SMMU's own */
    cmdqv_remap(bed, !q, CMD_TLBI_NH_VA(1, HOST_VA, 1), n);
    smmu_sync_ok(bed->g, bed->dev);
    qatomic_set(bed->pte, cpu_to_le64(host_leaf(3, bed->page[!n], PTE_DATA)));
    cmdqv_skip_error(bed, q);
    g_assert_cmpuint(cmdqv_run(bed, q), ==, SMMU_CERROR_NONE);
    cmdqv_check_error_maps(bed, 0);
    host_check_reads(bed->g, bed->dev, HOST_VA, TAG(!n));
}
