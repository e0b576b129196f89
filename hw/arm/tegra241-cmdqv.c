/*
 * A Tegra241 CMDQV beside an emulated SMMUv3: the device of a host
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The commands of a VCMDQ take effect as those of the SMMU's own queue do.  If
 * its VINTF is a guest's (HYP_OWN is 0), it takes those only that a guest may
 * issue by itself: invalidations of stage 1, with the VMID of the VINTF, and of
 * ATCs, with StreamIDs that the hypervisor has translated.  Anything else is an
 * error of that queue.
 *
 * A guest has its VINTF's page 0 and the memory of its VCMDQs, so it writes
 * anything there, at any time.
 */

#include "qemu/osdep.h"
#include "hw/arm/fdt.h"
#include "hw/arm/smmuv3.h"
#include "hw/arm/tegra241-cmdqv.h"
#include "hw/irq.h"
#include "hw/qdev-properties.h"
#include "hw/sysbus.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qemu/bitops.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "system/device_tree.h"
#include "trace.h"
#include "smmuv3-internal.h"
#include "virt-smmuv3-acpi.h"

OBJECT_DECLARE_SIMPLE_TYPE(Tegra241CmdqvState, TEGRA241_CMDQV)

#define LOG2_VINTFS     2
#define LOG2_VCMDQS     4
#define LOG2_SIDS       4
#define VINTFS          (1 << LOG2_VINTFS)
#define VCMDQS          (1 << LOG2_VCMDQS)
#define LVCMDQS         (VCMDQS / VINTFS)   /* of each VINTF */
#define SIDS            (1 << LOG2_SIDS)    /* of each VINTF */

/* Configuration, VCMDQs page 0 and 1, each VINTF's page 0 and 1 */
#define PAGE            0x10000
#define PAGES           (3 + 2 * VINTFS)

#define VERSION         1

/* In the configuration page */
REG32(CMDQV_CONFIG, 0x0000)
    FIELD(CMDQV_CONFIG, EN, 0, 1)
REG32(CMDQV_PARAM, 0x0004)
    FIELD(CMDQV_PARAM, VER, 0, 4)
    FIELD(CMDQV_PARAM, LOG2_VCMDQS, 4, 4)
    FIELD(CMDQV_PARAM, LOG2_VINTFS, 8, 4)
    FIELD(CMDQV_PARAM, LOG2_SIDS, 12, 4)
REG32(CMDQV_STATUS, 0x0008)
REG32(CMDQV_VINTF_ERR_MAP, 0x0014)
REG32(CMDQV_VINTF_INT_MASK, 0x001c)
REG32(CMDQV_CMDQ_ERR_MAP, 0x0024)
REG32(CMDQV_CMDQ_ALLOC, 0x0200)
    FIELD(CMDQV_CMDQ_ALLOC, ALLOCATED, 0, 1)
    FIELD(CMDQV_CMDQ_ALLOC, LVCMDQ, 1, 7)
    FIELD(CMDQV_CMDQ_ALLOC, VINTF, 15, 6)
#define VINTF_BASE      0x1000
#define VINTF_STRIDE    0x100

/* Of a VINTF */
REG32(VINTF_CONFIG, 0x00)
    FIELD(VINTF_CONFIG, EN, 0, 1)
    FIELD(VINTF_CONFIG, VMID, 1, 16)
    FIELD(VINTF_CONFIG, HYP_OWN, 17, 1)
REG32(VINTF_STATUS, 0x04)
REG32(VINTF_SID_MATCH, 0x40)
    FIELD(VINTF_SID_MATCH, EN, 0, 1)
    FIELD(VINTF_SID_MATCH, SID, 1, 20)
REG32(VINTF_SID_REPLACE, 0x80)
REG32(VINTF_LVCMDQ_ERR_MAP, 0xc0)

/* Of a VCMDQ, in page 0 */
#define VCMDQ_STRIDE    0x80
REG32(VCMDQ_CONS, 0x00)
REG32(VCMDQ_PROD, 0x04)
REG32(VCMDQ_CONFIG, 0x08)
    FIELD(VCMDQ_CONFIG, EN, 0, 1)
REG32(VCMDQ_STATUS, 0x0c)
REG32(VCMDQ_GERROR, 0x10)
    FIELD(VCMDQ_GERROR, CMDQ_ERR, 0, 1)
REG32(VCMDQ_GERRORN, 0x14)
/* In page 1 */
REG32(VCMDQ_BASE_L, 0x00)
REG32(VCMDQ_BASE_H, 0x04)
REG32(VCMDQ_CONS_INDX_BASE_L, 0x08)
REG32(VCMDQ_CONS_INDX_BASE_H, 0x0c)

#define INDEX           MAKE_64BIT_MASK(0, SMMU_CMDQS + 1)

/* Commands of a VCMDQ that take effect before other devices get their turn */
#define BURST           1024

typedef struct Vcmdq {
    Tegra241CmdqvState *t;
    SMMUQueue q;
    uint64_t cons_indx_base;    /* without effect */
    uint32_t config;
    uint32_t gerror;
    uint32_t gerrorn;
    uint32_t alloc;             /* its CMDQ_ALLOC */
    bool atc_timeout;           /* for the next CMD_SYNC */
    unsigned left;              /* of the burst */
} Vcmdq;

typedef struct Vintf {
    uint32_t config;
    uint32_t sid_match[SIDS];
    uint32_t sid_replace[SIDS];
} Vintf;

struct Tegra241CmdqvState {
    SysBusDevice parent_obj;

    MemoryRegion iomem;
    qemu_irq irq;
    SMMUv3State *smmu;
    QEMUBH *bh;                 /* continues with what a burst leaves */

    uint32_t config;
    uint32_t int_mask[2];
    Vintf vintf[VINTFS];
    Vcmdq vcmdq[VCMDQS];
};

/*
 * Which queues run
 */

static unsigned vintf_of(const Vcmdq *v)
{
    return FIELD_EX32(v->alloc, CMDQV_CMDQ_ALLOC, VINTF);
}

static unsigned logical_of(const Vcmdq *v)
{
    return FIELD_EX32(v->alloc, CMDQV_CMDQ_ALLOC, LVCMDQ);
}

/* The VCMDQ that a logical one is, or NULL; of two, the first */
static Vcmdq *find_logical(Tegra241CmdqvState *t, unsigned vintf,
                           unsigned lvcmdq)
{
    for (unsigned i = 0; i < VCMDQS; i++) {
        Vcmdq *v = &t->vcmdq[i];

        if (FIELD_EX32(v->alloc, CMDQV_CMDQ_ALLOC, ALLOCATED) &&
            vintf_of(v) == vintf && logical_of(v) == lvcmdq) {
            return v;
        }
    }
    return NULL;
}

static bool vintf_enabled(const Tegra241CmdqvState *t, unsigned vintf)
{
    return FIELD_EX32(t->config, CMDQV_CONFIG, EN) && vintf < VINTFS &&
           FIELD_EX32(t->vintf[vintf].config, VINTF_CONFIG, EN);
}

static bool runs(const Vcmdq *v)
{
    return vintf_enabled(v->t, vintf_of(v)) && logical_of(v) < LVCMDQS &&
           FIELD_EX32(v->config, VCMDQ_CONFIG, EN) &&
           find_logical(v->t, vintf_of(v), logical_of(v)) == v;
}

static bool halted(const Vcmdq *v)
{
    return v->gerror != v->gerrorn;
}

/*
 * Commands
 */

/* The StreamID of a guest's device becomes the hypervisor's */
static bool translate_sid(const Vintf *vintf, Cmd *cmd)
{
    for (unsigned i = 0; i < SIDS; i++) {
        uint32_t match = vintf->sid_match[i];

        if (FIELD_EX32(match, VINTF_SID_MATCH, EN) &&
            FIELD_EX32(match, VINTF_SID_MATCH, SID) == CMD_SID(cmd)) {
            cmd->word[1] = vintf->sid_replace[i];
            return true;
        }
    }
    return false;
}

/* Make @cmd one of the hypervisor's, or refuse it */
static bool take_from_guest(const Vintf *vintf, Cmd *cmd)
{
    switch (CMD_TYPE(cmd)) {
    case SMMU_CMD_TLBI_NH_ASID:
    case SMMU_CMD_TLBI_NH_VA:
        cmd->word[1] = deposit32(cmd->word[1], 0, 16,
                                 FIELD_EX32(vintf->config, VINTF_CONFIG, VMID));
        return true;
    case SMMU_CMD_ATC_INV:
        return translate_sid(vintf, cmd);
    case SMMU_CMD_SYNC:
        return !CMD_SYNC_CS(cmd);
    default:
        return false;
    }
}

static bool next_command(SMMUv3State *s, void *opaque, Cmd *cmd,
                         SMMUCmdError *error)
{
    Vcmdq *v = opaque;
    const Vintf *vintf = &v->t->vintf[vintf_of(v)];
    bool hyp_own = FIELD_EX32(vintf->config, VINTF_CONFIG, HYP_OWN);

    if (!v->left) {
        return false;
    }
    v->left--;
    if (dma_memory_read(&address_space_memory, Q_CONS_ENTRY(&v->q), cmd,
                        sizeof(*cmd), MEMTXATTRS_UNSPECIFIED) != MEMTX_OK) {
        *error = SMMU_CERROR_ABT;
        return false;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(cmd->word); i++) {
        le32_to_cpus(&cmd->word[i]);
    }
    trace_tegra241_cmdqv_command(vintf_of(v), logical_of(v),
                                 smmu_cmd_string(CMD_TYPE(cmd)), cmd->word[1]);
    if (!hyp_own && !take_from_guest(vintf, cmd)) {
        *error = SMMU_CERROR_ILL;
        return false;
    }
    return true;
}

static void set_error(Vcmdq *v, SMMUCmdError error)
{
    unsigned vintf = vintf_of(v);

    trace_tegra241_cmdqv_error(vintf, logical_of(v), v->q.cons, error);
    v->q.cons = FIELD_DP32(v->q.cons, CMDQ_CONS, ERR, error);
    v->gerror ^= R_VCMDQ_GERROR_CMDQ_ERR_MASK;
    if (!(v->t->int_mask[vintf / 32] & BIT(vintf % 32))) {
        qemu_irq_pulse(v->t->irq);
    }
}

static void drain(Vcmdq *v)
{
    SMMUCmdError error;
    bool smmu_timeout;

    if (!runs(v) || halted(v) || smmuv3_q_empty(&v->q)) {
        return;
    }
    /* A CMD_SYNC tells of the ATCs that commands of its own queue waited for */
    smmu_timeout = v->t->smmu->atc_timeout;
    v->t->smmu->atc_timeout = v->atc_timeout;
    v->left = BURST;
    error = smmuv3_run_commands(v->t->smmu, &v->q, next_command, v);
    v->atc_timeout = v->t->smmu->atc_timeout;
    v->t->smmu->atc_timeout = smmu_timeout;
    if (error) {
        set_error(v, error);
    } else if (!smmuv3_q_empty(&v->q)) {
        qemu_bh_schedule(v->t->bh);
    }
}

static void drain_all(void *opaque)
{
    Tegra241CmdqvState *t = opaque;

    for (unsigned i = 0; i < VCMDQS; i++) {
        drain(&t->vcmdq[i]);
    }
}

/*
 * Registers of a VCMDQ
 */

static uint32_t vcmdq_read(const Vcmdq *v, bool page1, unsigned reg)
{
    if (page1) {
        switch (reg) {
        case A_VCMDQ_BASE_L:
            return v->q.base;
        case A_VCMDQ_BASE_H:
            return v->q.base >> 32;
        case A_VCMDQ_CONS_INDX_BASE_L:
            return v->cons_indx_base;
        case A_VCMDQ_CONS_INDX_BASE_H:
            return v->cons_indx_base >> 32;
        }
        return 0;
    }
    switch (reg) {
    case A_VCMDQ_CONS:
        return v->q.cons;
    case A_VCMDQ_PROD:
        return v->q.prod;
    case A_VCMDQ_CONFIG:
        return v->config;
    case A_VCMDQ_STATUS:
        return runs(v);
    case A_VCMDQ_GERROR:
        return v->gerror;
    case A_VCMDQ_GERRORN:
        return v->gerrorn;
    }
    return 0;
}

/* Where the queue is, and CONS, are the hardware's while it runs */
static void vcmdq_write_page1(Vcmdq *v, unsigned reg, uint32_t value)
{
    unsigned shift = reg & 4 ? 32 : 0;

    if (runs(v)) {
        return;
    }
    switch (reg) {
    case A_VCMDQ_BASE_L:
    case A_VCMDQ_BASE_H:
        v->q.base = deposit64(v->q.base, shift, 32, value) &
                    MAKE_64BIT_MASK(0, 48);
        v->q.log2size = MIN(v->q.base & 0x1f, SMMU_CMDQS);
        break;
    case A_VCMDQ_CONS_INDX_BASE_L:
    case A_VCMDQ_CONS_INDX_BASE_H:
        v->cons_indx_base = deposit64(v->cons_indx_base, shift, 32, value);
        break;
    }
}

static void vcmdq_write_page0(Vcmdq *v, unsigned reg, uint32_t value)
{
    switch (reg) {
    case A_VCMDQ_CONS:
        if (!runs(v)) {
            v->q.cons = value & (INDEX | R_CMDQ_CONS_ERR_MASK);
        }
        break;
    case A_VCMDQ_PROD:
        v->q.prod = value & INDEX;
        break;
    case A_VCMDQ_CONFIG:
        v->config = value & R_VCMDQ_CONFIG_EN_MASK;
        if (!v->config) {
            v->atc_timeout = false;
        }
        trace_tegra241_cmdqv_enable(vintf_of(v), logical_of(v), runs(v),
                                    v->q.base, v->q.prod, v->q.cons);
        break;
    case A_VCMDQ_GERRORN:
        v->gerrorn = value & R_VCMDQ_GERROR_CMDQ_ERR_MASK;
        break;
    default:
        return;
    }
    drain(v);
}

/*
 * The configuration page
 */

/* Bit @i of a map is whether VCMDQ @i halts; of a VINTF, its logical VCMDQ */
static uint32_t err_map(Tegra241CmdqvState *t, int vintf)
{
    uint32_t map = 0;

    for (unsigned i = 0; i < (vintf < 0 ? VCMDQS : LVCMDQS); i++) {
        const Vcmdq *v = vintf < 0 ? &t->vcmdq[i] : find_logical(t, vintf, i);

        map |= (v && halted(v)) << i;
    }
    return map;
}

static uint32_t vintf_err_map(Tegra241CmdqvState *t)
{
    uint32_t map = 0;

    for (unsigned i = 0; i < VINTFS; i++) {
        map |= !!err_map(t, i) << i;
    }
    return map;
}

static uint32_t vintf_read(Tegra241CmdqvState *t, unsigned i, unsigned reg)
{
    const Vintf *vintf = &t->vintf[i];
    unsigned sid = (reg & 0x3f) / 4;

    switch (reg & ~0x3f) {
    case A_VINTF_SID_MATCH:
        return vintf->sid_match[sid];
    case A_VINTF_SID_REPLACE:
        return vintf->sid_replace[sid];
    }
    switch (reg) {
    case A_VINTF_CONFIG:
        return vintf->config;
    case A_VINTF_STATUS:
        return vintf_enabled(t, i);
    case A_VINTF_LVCMDQ_ERR_MAP:
        return err_map(t, i);
    }
    return 0;
}

static void vintf_write(Tegra241CmdqvState *t, unsigned i, unsigned reg,
                        uint32_t value)
{
    Vintf *vintf = &t->vintf[i];
    unsigned sid = (reg & 0x3f) / 4;

    switch (reg & ~0x3f) {
    case A_VINTF_SID_MATCH:
        vintf->sid_match[sid] = value & (R_VINTF_SID_MATCH_EN_MASK |
                                         R_VINTF_SID_MATCH_SID_MASK);
        trace_tegra241_cmdqv_sid(i, sid,
                                 FIELD_EX32(value, VINTF_SID_MATCH, EN),
                                 FIELD_EX32(value, VINTF_SID_MATCH, SID),
                                 vintf->sid_replace[sid]);
        return;
    case A_VINTF_SID_REPLACE:
        vintf->sid_replace[sid] = value;
        return;
    }
    if (reg == A_VINTF_CONFIG) {
        /* Whose it is does not change while it is enabled */
        if (vintf->config & value & R_VINTF_CONFIG_EN_MASK) {
            return;
        }
        vintf->config = value & (R_VINTF_CONFIG_EN_MASK |
                                 R_VINTF_CONFIG_VMID_MASK |
                                 R_VINTF_CONFIG_HYP_OWN_MASK);
        trace_tegra241_cmdqv_vintf(i, FIELD_EX32(value, VINTF_CONFIG, EN),
                                   FIELD_EX32(value, VINTF_CONFIG, HYP_OWN),
                                   FIELD_EX32(value, VINTF_CONFIG, VMID));
        drain_all(t);
    }
}

static uint32_t config_read(Tegra241CmdqvState *t, unsigned reg)
{
    unsigned vintf = (reg - VINTF_BASE) / VINTF_STRIDE;
    unsigned i = (reg - A_CMDQV_CMDQ_ALLOC) / 4;

    if (reg >= VINTF_BASE) {
        return vintf < VINTFS ? vintf_read(t, vintf, reg % VINTF_STRIDE) : 0;
    }
    if (reg >= A_CMDQV_CMDQ_ALLOC) {
        return i < VCMDQS ? t->vcmdq[i].alloc : 0;
    }
    switch (reg) {
    case A_CMDQV_CONFIG:
    case A_CMDQV_STATUS:
        return t->config;
    case A_CMDQV_PARAM:
        return FIELD_DP32(0, CMDQV_PARAM, VER, VERSION) |
               FIELD_DP32(0, CMDQV_PARAM, LOG2_VCMDQS, LOG2_VCMDQS) |
               FIELD_DP32(0, CMDQV_PARAM, LOG2_VINTFS, LOG2_VINTFS) |
               FIELD_DP32(0, CMDQV_PARAM, LOG2_SIDS, LOG2_SIDS);
    case A_CMDQV_VINTF_ERR_MAP:
        return vintf_err_map(t);
    case A_CMDQV_VINTF_INT_MASK:
    case A_CMDQV_VINTF_INT_MASK + 4:
        return t->int_mask[reg != A_CMDQV_VINTF_INT_MASK];
    case A_CMDQV_CMDQ_ERR_MAP:
        return err_map(t, -1);
    }
    return 0;
}

static void config_write(Tegra241CmdqvState *t, unsigned reg, uint32_t value)
{
    unsigned vintf = (reg - VINTF_BASE) / VINTF_STRIDE;
    unsigned i = (reg - A_CMDQV_CMDQ_ALLOC) / 4;

    if (reg >= VINTF_BASE) {
        if (vintf < VINTFS) {
            vintf_write(t, vintf, reg % VINTF_STRIDE, value);
        }
    } else if (reg >= A_CMDQV_CMDQ_ALLOC) {
        if (i < VCMDQS) {
            t->vcmdq[i].alloc = value & (R_CMDQV_CMDQ_ALLOC_ALLOCATED_MASK |
                                         R_CMDQV_CMDQ_ALLOC_LVCMDQ_MASK |
                                         R_CMDQV_CMDQ_ALLOC_VINTF_MASK);
            drain_all(t);
        }
    } else if (reg == A_CMDQV_CONFIG) {
        t->config = value & R_CMDQV_CONFIG_EN_MASK;
        drain_all(t);
    } else if (reg == A_CMDQV_VINTF_INT_MASK ||
               reg == A_CMDQV_VINTF_INT_MASK + 4) {
        t->int_mask[reg != A_CMDQV_VINTF_INT_MASK] = value;
    }
}

/*
 * Accesses
 */

/* The VCMDQ at @offset, behind the configuration page; NULL if there is none */
static Vcmdq *vcmdq_at(Tegra241CmdqvState *t, hwaddr offset)
{
    unsigned page = offset / PAGE, i = offset % PAGE / VCMDQ_STRIDE;

    if (page < 3) {
        return i < VCMDQS ? &t->vcmdq[i] : NULL;
    }
    return i < LVCMDQS ? find_logical(t, (page - 3) / 2, i) : NULL;
}

/* Configuration is page 0; then page 0 and page 1 alternate */
static bool is_page1(hwaddr offset)
{
    return offset / PAGE % 2 == 0;
}

static uint64_t cmdqv_read(void *opaque, hwaddr offset, unsigned size)
{
    Tegra241CmdqvState *t = opaque;
    const Vcmdq *v;

    if (offset < PAGE) {
        return config_read(t, offset);
    }
    v = vcmdq_at(t, offset);
    return v ? vcmdq_read(v, is_page1(offset), offset % VCMDQ_STRIDE) : 0;
}

static void cmdqv_write(void *opaque, hwaddr offset, uint64_t value,
                        unsigned size)
{
    Tegra241CmdqvState *t = opaque;
    Vcmdq *v;

    if (offset < PAGE) {
        config_write(t, offset, value);
        return;
    }
    v = vcmdq_at(t, offset);
    if (!v) {
        return;
    }
    if (is_page1(offset)) {
        vcmdq_write_page1(v, offset % VCMDQ_STRIDE, value);
    } else {
        vcmdq_write_page0(v, offset % VCMDQ_STRIDE, value);
    }
}

/* An access of 8 bytes is one to either half */
static const MemoryRegionOps cmdqv_ops = {
    .read = cmdqv_read,
    .write = cmdqv_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid.min_access_size = 4,
    .valid.max_access_size = 8,
    .impl.min_access_size = 4,
    .impl.max_access_size = 4,
};

/*
 * How an operating system finds it
 */

void tegra241_cmdqv_add_fdt_node(PlatformBusDevice *pbus, SysBusDevice *dev,
                                 void *fdt, const char *parent, int irq)
{
    static const char compat[] = "nvidia,tegra264-smmu\0arm,smmu-v3";
    uint64_t base = platform_bus_get_mmio_addr(pbus, dev, 0);
    g_autofree char *node = g_strdup_printf("%s/cmdqv@%" PRIx64, parent, base);
    char **smmu = qemu_fdt_node_path(fdt, NULL, "arm,smmu-v3", &error_fatal);
    uint32_t phandle = qemu_fdt_alloc_phandle(fdt);

    qemu_fdt_add_subnode(fdt, node);
    qemu_fdt_setprop_string(fdt, node, "compatible", "nvidia,tegra264-cmdqv");
    qemu_fdt_setprop_cells(fdt, node, "reg", base, PAGES * PAGE);
    qemu_fdt_setprop_cells(fdt, node, "interrupts", GIC_FDT_IRQ_TYPE_SPI,
                           irq + platform_bus_get_irqn(pbus, dev, 0),
                           GIC_FDT_IRQ_FLAGS_EDGE_LO_HI);
    qemu_fdt_setprop_cell(fdt, node, "phandle", phandle);

    qemu_fdt_setprop(fdt, smmu[0], "compatible", compat, sizeof(compat));
    qemu_fdt_setprop_cell(fdt, smmu[0], "nvidia,cmdqv", phandle);
    g_strfreev(smmu);
}

void tegra241_cmdqv_add_aml(Aml *scope, VirtMachineState *vms)
{
    Object *obj = object_resolve_path_type("", TYPE_TEGRA241_CMDQV, NULL);
    PlatformBusDevice *pbus;
    SysBusDevice *dev;
    unsigned id;

    if (!obj) {
        return;
    }
    pbus = PLATFORM_BUS_DEVICE(vms->platform_bus_dev);
    dev = SYS_BUS_DEVICE(obj);
    id = TEGRA241_CMDQV(obj)->smmu->accel_props.identifier.value;
    acpi_dsdt_add_cmdqv(scope, id,
                        vms->memmap[VIRT_PLATFORM_BUS].base +
                        platform_bus_get_mmio_addr(pbus, dev, 0),
                        PAGES * PAGE,
                        GIC_INTERNAL + vms->irqmap[VIRT_PLATFORM_BUS] +
                        platform_bus_get_irqn(pbus, dev, 0));
}

/*
 * Life
 */

static void cmdqv_reset_hold(Object *obj, ResetType type)
{
    Tegra241CmdqvState *t = TEGRA241_CMDQV(obj);

    qemu_bh_cancel(t->bh);
    t->config = 0;
    memset(t->int_mask, 0, sizeof(t->int_mask));
    memset(t->vintf, 0, sizeof(t->vintf));
    for (unsigned i = 0; i < VCMDQS; i++) {
        t->vcmdq[i] = (Vcmdq) { .t = t, .q.entry_size = sizeof(Cmd) };
    }
}

static void cmdqv_realize(DeviceState *dev, Error **errp)
{
    Tegra241CmdqvState *t = TEGRA241_CMDQV(dev);
    bool ambiguous = false;
    Object *smmu = object_resolve_path_type("", TYPE_ARM_SMMUV3, &ambiguous);

    if (!smmu || ambiguous || ARM_SMMUV3(smmu)->accel) {
        error_setg(errp, TYPE_TEGRA241_CMDQV " needs a machine with one SMMUv3 "
                   "that is emulated");
        return;
    }
    t->smmu = ARM_SMMUV3(smmu);
    t->bh = qemu_bh_new_guarded(drain_all, t, &dev->mem_reentrancy_guard);
}

static void cmdqv_init(Object *obj)
{
    Tegra241CmdqvState *t = TEGRA241_CMDQV(obj);

    memory_region_init_io(&t->iomem, obj, &cmdqv_ops, t, TYPE_TEGRA241_CMDQV,
                          PAGES * PAGE);
    sysbus_init_mmio(SYS_BUS_DEVICE(obj), &t->iomem);
    sysbus_init_irq(SYS_BUS_DEVICE(obj), &t->irq);
}

static const VMStateDescription vmstate_cmdqv = {
    .name = TYPE_TEGRA241_CMDQV,
    .unmigratable = 1,
};

static void cmdqv_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->desc = "Tegra241 CMDQV of a host with an emulated SMMUv3";
    dc->realize = cmdqv_realize;
    dc->vmsd = &vmstate_cmdqv;
    dc->user_creatable = true;
    dc->hotpluggable = false;
    RESETTABLE_CLASS(klass)->phases.hold = cmdqv_reset_hold;
}

static const TypeInfo cmdqv_info = {
    .name = TYPE_TEGRA241_CMDQV,
    .parent = TYPE_DYNAMIC_SYS_BUS_DEVICE,
    .instance_size = sizeof(Tegra241CmdqvState),
    .instance_init = cmdqv_init,
    .class_init = cmdqv_class_init,
};

static void cmdqv_register_types(void)
{
    type_register_static(&cmdqv_info);
}

type_init(cmdqv_register_types)
