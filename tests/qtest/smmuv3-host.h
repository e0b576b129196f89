/*
 * What the accel=on qtests on the host model share
 *
 * Starts a QEMU with tests/host-model preloaded and DMA engines assigned to
 * it. Plays the guest: PCI set-up, and the registers, queues and tables of an
 * SMMUv3 driver. Guest memory is shared with the test, so tables are plain
 * memory here; only register accesses go through QEMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SMMUV3_HOST_H
#define SMMUV3_HOST_H

#include "libqtest.h"
#include "qobject/qdict.h"

#define HOST_RAM_BASE   0x40000000ULL
#define HOST_RAM_SIZE   (256 * MiB)

#define HOST_MAX_SMMUS  16
#define HOST_MAX_PSMMUS 4
#define HOST_MAX_DEVS   64

/* One device: a DMA engine of the model behind a root port of its own */
typedef struct HostDeviceConfig {
    unsigned vsmmu;             /* index of the vSMMU it is below */
    unsigned psmmu;             /* index of the physical SMMU behind it */
    bool hotplug;               /* not there at start: host_guest_plug() */
    bool below_switch;          /* its port is on a switch: host_set_switch() */
    bool beside;                /* on the switch of the last one that has one */
    unsigned function;          /* of the last one's slot; 0: has its own */
    unsigned devfn;             /* without a port: on the root bus; or 0 */
    const char *keys;           /* further keys of its [device], or NULL */
    const char *properties;     /* of vfio-pci: ",ats=on" etc., or NULL */
} HostDeviceConfig;

typedef struct HostGuestConfig {
    unsigned n_vsmmus;          /* on pcie.0, then one per PXB */
    unsigned n_psmmus;
    unsigned n_devs;
    HostDeviceConfig dev[HOST_MAX_DEVS];
    const char *host;           /* keys of each [smmu] of the model, or NULL */
    const char *last_host;      /* of the last one, if it differs, or NULL */
    const char *each_host[HOST_MAX_PSMMUS];     /* of each, or NULL */
    const char *device;         /* keys of each [device], or NULL */
    const char *smmu_args;      /* ",ril=off" and the like, or NULL */
    const char *each_smmu_args[HOST_MAX_SMMUS];     /* after those, or NULL */
    const char *args;           /* further arguments, or NULL */
    const char *fail;           /* HOST_MODEL_FAIL, or NULL */
    bool no_iommufd;            /* the test creates the object iommufd0 */
    unsigned eventq_log2;       /* of event queues; 0: HOST_EVENTQ_LOG2 */
    bool numa;                  /* the memory is that of two nodes, halves */
    bool no_smmu;               /* the test writes -device arm-smmuv3, if any */
    bool iommufd_by_fd;         /* iommufd0 gets an open /dev/iommu */
    uint64_t memlock;           /* bytes, for another user; 0: as the test */
} HostGuestConfig;

typedef struct HostVsmmu {
    uint64_t base;              /* of its registers */
    uint64_t strtab, cmdq, eventq;      /* guest-physical */
    uint32_t strtab_cfg;        /* linear, unless the test has set it */
    uint32_t prod;              /* CMDQ_PROD as the guest will write it */
    uint32_t event_cons;        /* EVENTQ_CONS: RD and OVACKFLG */
    bool enabled;
} HostVsmmu;

typedef struct HostDevice {
    unsigned vsmmu;
    unsigned port_bus;          /* where its port is */
    unsigned port_devfn;
    unsigned bus;               /* secondary bus of the port, 0 if unnumbered */
    unsigned devfn;             /* of the device, on that bus */
    uint64_t bar;
    bool present;
} HostDevice;

typedef struct HostGuest HostGuest;

/* How to reach QEMU, if not by a qtest socket and QMP: a fuzzer is within it */
typedef struct HostHooks {
    /* As qtest_qmp(); takes the reference to @request */
    QDict *(*qmp)(HostGuest *g, QDict *request);
    /* Reset the machine; returns when that is done */
    void (*reset)(HostGuest *g);
    /* Let QEMU's main loop run; with @wait also other threads, for a moment */
    void (*pause)(HostGuest *g, bool wait);
    /* Accesses up to hold(g, false) change the memory map once, at the end */
    void (*hold)(HostGuest *g, bool on);
} HostHooks;

struct HostGuest {
    QTestState *qts;
    const HostHooks *hooks;
    HostGuestConfig config;
    HostVsmmu smmu[HOST_MAX_SMMUS];
    HostDevice dev[HOST_MAX_DEVS];
    uint8_t *ram;               /* guest memory, from HOST_RAM_BASE */
    uint64_t free_ram;          /* guest-physical, next to allocate */
    char *dir;                  /* of this guest's files */
    FILE *control;
    unsigned cmdqv;             /* whose registers smmuv3-cmdqv.h accesses */
    int said;                   /* QEMU's stderr; 0 if the test shares it */
    GArray *patterns;           /* what QEMU may write there */
};

/**
 * host_model_available: whether QTEST_HOST_MODEL names the library
 *
 * A test that runs without it must be skipped, and say so.
 */
bool host_model_available(void);

/**
 * host_guest_new: start QEMU on the model, with PCI set up and all SMMUs off
 *
 * Root port n has secondary bus n + 1 after its root bus. Buses of switches
 * have no numbers yet. The test fails if QEMU does not start.
 */
HostGuest *host_guest_new(const HostGuestConfig *config);

/**
 * host_guest_emulated: start QEMU with no host model and no assigned device
 * @binary: the environment variable that names QEMU
 * @machine: the value of -machine
 * @args: further arguments
 * @smmu: where the registers of an emulated SMMU are
 *
 * The functions for memory, and those for the registers, queues and tables of
 * SMMU 0, work as with the model.
 */
HostGuest *host_guest_emulated(const char *binary, const char *machine,
                               const char *args, uint64_t smmu);

/**
 * host_guest_prepare: the first part of host_guest_new()
 * @config: as there
 * @dir: for this guest's files, which are overwritten
 * @program: the name of the program that the model is for begins with this
 * @args: set to the arguments for QEMU, to be freed by the caller
 *
 * Sets the environment for the host model. QEMU must be started after this, and
 * then host_guest_join() is called.
 */
HostGuest *host_guest_prepare(const HostGuestConfig *config, const char *dir,
                              const char *program, char **args);

/**
 * host_guest_join: the second part of host_guest_new()
 * @qts: QEMU
 * @hooks: how to reach QEMU, or NULL for the usual way
 *
 * Removes the guest's files.
 */
void host_guest_join(HostGuest *g, QTestState *qts, const HostHooks *hooks);

/* Number the buses and set up the devices, as after a reset of the machine */
void host_setup_pci(HostGuest *g);

/**
 * host_guest_refused: check that QEMU does not start
 *
 * Returns: what it wrote to stderr, to be freed by the caller. The test fails
 *          unless the exit status is 1.
 */
char *host_guest_refused(const HostGuestConfig *config);

/**
 * host_guest_free: end QEMU; its exit status must be 0, and host_check_said()
 */
void host_guest_free(HostGuest *g);

/*
 * What QEMU writes to stderr
 */

/*
 * A line with @part must come, or may come, until host_check_said(). One line
 * or more is meant. Each other line fails the test.
 */
void host_expect(HostGuest *g, const char *part);
void host_allow(HostGuest *g, const char *part);

/*
 * How often QEMU has written @part until now. A line that a test has counted is
 * one that may come.
 */
unsigned host_said(HostGuest *g, const char *part);

/* What QEMU writes when calls to the host fail */
#define SAID_TAKES_NONE     "the host SMMUv3 does not take invalidations"
#define SAID_CANNOT_MOVE    "cannot move StreamID"
#define SAID_NO_EVENTS      "faults of its devices show in the host's log only"
#define SAID_SHORT_QUEUES   "each queue of the guest holds 256 commands only"
#define SAID_NO_THREAD      "the host permits no further thread"

/* All that QEMU has written until now, to be freed by the caller */
char *host_said_text(HostGuest *g);

/* Check it; host_guest_free() does that too, after the end of QEMU */
void host_check_said(HostGuest *g);

/* Nothing is to happen, so QEMU needs no CPU for a second */
void host_check_rests(HostGuest *g);

/* Memory */

/* The address in the test of guest-physical @gpa, which must be in RAM */
void *host_ram(HostGuest *g, uint64_t gpa);

/* @size bytes of zeroed guest memory, aligned to their size (a power of 2) */
uint64_t host_alloc(HostGuest *g, uint64_t size);

/* PCI */

/* Where the configuration space of device @dev is */
uint64_t host_device_config(HostGuest *g, unsigned dev);

/* The current StreamID of device @dev */
uint32_t host_sid(HostGuest *g, unsigned dev);

/*
 * Give the root port of @dev another secondary bus number, 0 for none. This
 * renumbers all functions of the slot.
 */
void host_set_bus(HostGuest *g, unsigned dev, unsigned bus);

/*
 * Number the buses of the switch that @dev is below: its upstream port is on
 * @bus, its downstream port on @bus + 1, which leads to @bus + 2. The ports of
 * those that are beside @dev lead to the next buses.
 */
void host_set_switch(HostGuest *g, unsigned dev, unsigned bus);

/* The guest resets @dev by FLR, and sets it up again */
void host_flr(HostGuest *g, unsigned dev);

/* The guest resets the bus of @dev, and sets the devices there up again */
void host_bus_reset(HostGuest *g, unsigned dev);

/*
 * Reset the bus of the switch that @dev is below. Afterwards the buses of the
 * switch have no numbers, and the guest cannot reach @dev.
 */
void host_switch_reset(HostGuest *g, unsigned dev);

/*
 * device_add and device_del. host_guest_plug() returns NULL, or an error that
 * the caller frees. host_guest_plug_other() plugs the host's device @model in
 * the place of @dev. host_guest_unplug() waits until the device is gone, with
 * all functions of its slot. The guest sees and sets up the functions of a slot
 * when function 0 arrives.
 */
char *host_guest_plug(HostGuest *g, unsigned dev);
char *host_guest_plug_other(HostGuest *g, unsigned dev, unsigned model);
void host_guest_unplug(HostGuest *g, unsigned dev);

/* The guest's part of hot-plug: power of the slot of @dev, and its indicator */
void host_slot_power(HostGuest *g, unsigned dev, bool on);

/*
 * The host requests its device @model, which is in the place of @dev. Returns
 * when the request has reached the guest.
 */
void host_request(HostGuest *g, unsigned dev, unsigned model);

/*
 * The guest turns the slot of @dev off, requested or not; the device is gone.
 */
void host_power_off(HostGuest *g, unsigned dev);

/* The configuration space of the port of @dev */
uint64_t host_port_config(HostGuest *g, unsigned dev);

/*
 * The offset of a capability in the configuration space at @config.  The second
 * one returns 0 if there is none; the first one fails the test.
 */
unsigned host_find_cap(HostGuest *g, uint64_t config, unsigned id);
unsigned host_look_for_cap(HostGuest *g, uint64_t config, unsigned id);

/* The slot control register of @dev, and the value that turns the slot off */
uint64_t host_slot_control(HostGuest *g, unsigned dev);
uint32_t host_slot_off(HostGuest *g, unsigned dev);

/*
 * The port of device 0 has a StreamID of its own. It signals by a message to
 * @to, once it has an event, and QEMU translates that address.
 */
uint32_t host_port_sid(HostGuest *g);
void host_enable_port_msi(HostGuest *g, uint64_t to);

/*
 * The same by HOST_VA and a stage 1 with @asid; @pte is set to the entry of its
 * page. Sees one message arrive, and returns where: 0 is there again.
 */
uint32_t *host_map_port_msi(HostGuest *g, unsigned asid, uint64_t **pte);

/*
 * Let the port of device 0 signal once, by a request for the device that the
 * guest does not follow. host_turn_slot_off() is another signal; it waits until
 * QEMU has freed the device.
 */
void host_signal_port(HostGuest *g);
void host_turn_slot_off(HostGuest *g);

/* The guest enables vector 0 of @dev; its message goes to guest-physical @to */
void host_enable_msix(HostGuest *g, unsigned dev, uint64_t to);
void host_enable_msix_data(HostGuest *g, unsigned dev, uint64_t to,
                           uint32_t data);

/*
 * The device signals vector 0, by a write to the address that the host has
 * given it. Returns whether that finds the physical doorbell behind the SMMU.
 */
bool host_msi_arrives(HostGuest *g, unsigned dev);

/* Set up the root port of @dev: bus number and window, as after a reset */
void host_setup_port(HostGuest *g, unsigned dev);

/* Set up BARs, memory space and bus mastering of @dev */
void host_setup_device(HostGuest *g, unsigned dev);

/* The SMMU's registers and queues */

#define SMMU_IDR0           0x0
#define SMMU_IDR1           0x4
#define SMMU_IDR3           0xc
#define SMMU_IDR5           0x14
#define SMMU_AIDR           0x1c
#define SMMU_CR0            0x20
#define SMMU_CR0ACK         0x24
#define SMMU_CR2            0x2c
#define SMMU_GBPA           0x44
#define SMMU_GERROR         0x60
#define SMMU_GERRORN        0x64
#define SMMU_STRTAB_BASE    0x80
#define SMMU_STRTAB_CFG     0x88
#define SMMU_CMDQ_BASE      0x90
#define SMMU_CMDQ_PROD      0x98
#define SMMU_CMDQ_CONS      0x9c
#define SMMU_EVENTQ_BASE    0xa0
#define SMMU_GERROR_IRQ_CFG 0x68
#define SMMU_EVENTQ_IRQ_CFG 0xb0
#define SMMU_IRQ_CTRL       0x50
#define SMMU_EVENTQ_PROD    0x100a8
#define SMMU_EVENTQ_CONS    0x100ac

#define SMMU_CR0_SMMUEN     1u
#define SMMU_CR0_EVENTQEN   4u
#define SMMU_CR0_CMDQEN     8u

#define SMMU_GERROR_CMDQ    1u
#define SMMU_GERROR_EVENTQ  4u

#define SMMU_CR2_RECINVSID  2u

#define SMMU_CERROR_NONE    0
#define SMMU_CERROR_ILL     1
#define SMMU_CERROR_ABT     2
#define SMMU_CERROR_ATC     3

#define SMMU_GBPA_UPDATE    (1u << 31)
#define SMMU_GBPA_ABORT     (1u << 20)

#define HOST_SID_BITS       16
#define HOST_CMDQ_LOG2      8
#define HOST_EVENTQ_LOG2    7

uint32_t smmu_read(HostGuest *g, unsigned i, unsigned reg);
void smmu_write(HostGuest *g, unsigned i, unsigned reg, uint32_t value);
void smmu_write64(HostGuest *g, unsigned i, unsigned reg, uint64_t value);

/*
 * Set SMMUEN, with empty queues and the Stream Table (linear with V=0, unless
 * the test has set another one). The first call allocates them. Nothing is
 * invalidated: the test does what a guest must do.
 */
void smmu_enable(HostGuest *g, unsigned i);

/*
 * Disable the SMMU, and enable it with an empty command queue at @queue, of
 * 2^@log2 entries, and no event queue. smmu_cmd() works with the queue of
 * smmu_enable() only, which needs CMDQEN cleared first.
 */
void smmu_use_cmdq(HostGuest *g, unsigned i, uint64_t queue, unsigned log2);

/* Clear SMMUEN, and leave the queues on */
void smmu_disable(HostGuest *g, unsigned i);

/* Write GBPA with UPDATE */
void smmu_gbpa(HostGuest *g, unsigned i, bool abort);

/* The STE of @sid in the linear Stream Table of smmu_enable() */
uint64_t *smmu_ste(HostGuest *g, unsigned i, uint32_t sid);

typedef struct HostCmd {
    uint64_t word[2];
} HostCmd;

#define HOST_CMD(word0, word1)  ((HostCmd) { { (word0), (word1) } })

/* Put a command into the queue; smmu_kick() or smmu_sync() writes PROD. */
void smmu_cmd(HostGuest *g, unsigned i, HostCmd cmd);

/* Write PROD, and do not wait. */
void smmu_kick(HostGuest *g, unsigned i);

/*
 * Put a CMD_SYNC, write PROD, and wait until everything is consumed or the
 * queue stops. Returns the SMMU_CERROR_ that stopped it. A test that goes on
 * after an error calls smmu_ack().
 */
unsigned smmu_sync(HostGuest *g, unsigned i);

/* As smmu_sync(), and the test fails if the queue stops. */
void smmu_sync_ok(HostGuest *g, unsigned i);

/*
 * Wait as Linux does if IDR0.MSI is set: the message of the CMD_SYNC
 * overwrites the command, and no register is read. The test fails if that does
 * not happen.
 */
void smmu_sync_msi(HostGuest *g, unsigned i);

/* Acknowledge a command error and skip what is in the queue. */
void smmu_ack(HostGuest *g, unsigned i);

/* Types of events, IHI 0070 7.3 */
#define C_BAD_STREAMID  0x02
#define F_STE_FETCH     0x03
#define C_BAD_STE       0x04
#define F_STREAM_DISABLED   0x06
#define C_BAD_SUBSTREAMID   0x08
#define F_CD_FETCH      0x09
#define C_BAD_CD        0x0a
#define F_TRANSLATION   0x10

/*
 * Take up to @max events from the guest's event queue, as Linux does: one read
 * of PROD, one write of CONS. Returns how many.
 */
unsigned smmu_events(HostGuest *g, unsigned i, uint64_t (*events)[4],
                     unsigned max);

/* Take one event from the guest's event queue. */
bool smmu_event(HostGuest *g, unsigned i, uint64_t event[4]);

/* Returns whether events were lost since the last call; acknowledges that */
bool smmu_event_overflow(HostGuest *g, unsigned i);

/* Commands, IHI 0070 chapter 4 */
#define CMD_CFGI_STE(sid)   HOST_CMD(0x03 | (uint64_t)(sid) << 32, 1)
#define CMD_CFGI_STE_RANGE(sid, range) \
    HOST_CMD(0x04 | (uint64_t)(sid) << 32, range)
#define CMD_CFGI_ALL        HOST_CMD(0x04, 31)
#define CMD_CFGI_CD(sid, ssid) \
    HOST_CMD(0x05 | (uint64_t)(ssid) << 12 | (uint64_t)(sid) << 32, 1)
#define CMD_CFGI_CD_ALL(sid) HOST_CMD(0x06 | (uint64_t)(sid) << 32, 0)
#define CMD_TLBI_NH_ALL     HOST_CMD(0x10, 0)
#define CMD_TLBI_NH_ASID(asid) HOST_CMD(0x11 | (uint64_t)(asid) << 48, 0)
#define CMD_TLBI_NH_VA(asid, va, leaf) \
    HOST_CMD(0x12 | (uint64_t)(asid) << 48, ((va) & ~0xfffULL) | (leaf))
#define CMD_TLBI_NH_VAA(va, leaf) \
    HOST_CMD(0x13, ((va) & ~0xfffULL) | (leaf))
#define CMD_TLBI_NSNH_ALL   HOST_CMD(0x30, 0)
/* @size is log2 of 4 KiB pages; 52 is all. */
#define CMD_ATC_INV(sid, iova, size) \
    HOST_CMD(0x40 | (uint64_t)(sid) << 32, ((iova) & ~0xfffULL) | (size))
#define CMD_ATC_INV_SSID(sid, ssid, global, iova, size) \
    HOST_CMD(0x40 | (uint64_t)(global) << 9 | 1 << 11 | \
             (uint64_t)(ssid) << 12 | (uint64_t)(sid) << 32, \
             ((iova) & ~0xfffULL) | (size))
#define CMD_SYNC            HOST_CMD(0x46, 0)
#define CMD_SYNC_IRQ        HOST_CMD(0x46 | 1ull << 12, 0)
#define CMD_SYNC_MSI(addr, data) \
    HOST_CMD(0x46 | 1ull << 12 | (uint64_t)(data) << 32, addr)

/* STEs and CDs */
#define STE_V                   1ull
#define STE_ABORT               (STE_V | 0ull << 1)
#define STE_BYPASS              (STE_V | 4ull << 1)
#define STE_S1(cd)              (STE_V | 5ull << 1 | (cd))

typedef struct HostCd {
    unsigned asid;
    uint64_t ttb[2];            /* guest-physical; 0 disables the half */
    unsigned txsz[2];
    unsigned granule_shift;     /* 12, 14 or 16 */
} HostCd;

/* Write the CD at guest-physical @cd: first V=0, then the rest, then V=1 */
void host_write_cd(HostGuest *g, uint64_t cd, const HostCd *what);
void host_clear_cd(HostGuest *g, uint64_t cd);

/* Stage-1 tables */

#define PTE_VALID       1ull
#define PTE_RO          (1ull << 7)
#define PTE_USER        (1ull << 6)
#define PTE_AF          (1ull << 10)
#define PTE_NG          (1ull << 11)
/* Inner shareable, attribute 0, unprivileged read and write, not global */
#define PTE_DATA        (PTE_VALID | PTE_USER | 3ull << 8 | PTE_AF | PTE_NG)

/* The level at which the walk of a region of 2^(64 - @txsz) bytes begins */
int host_start_level(unsigned granule_shift, unsigned txsz);

/* Bytes that an entry of @level maps */
uint64_t host_level_size(unsigned granule_shift, int level);

/*
 * The entry of @va at @level, below the table at guest-physical @root. If
 * tables in between are missing they are made, or NULL is returned if @make is
 * false.
 */
uint64_t *host_pte(HostGuest *g, uint64_t root, unsigned granule_shift,
                   unsigned txsz, uint64_t va, int level, bool make);

/* The value for a leaf entry: a page or block of memory at @pa */
uint64_t host_leaf(int level, uint64_t pa, uint64_t attributes);

/* DMA */

/* Read @len bytes (up to 4096) at @iova; false if the SMMU refuses. */
bool host_dma_read(HostGuest *g, unsigned dev, uint64_t iova, void *buf,
                   unsigned len);
bool host_dma_write(HostGuest *g, unsigned dev, uint64_t iova, const void *buf,
                    unsigned len);
/* Eight bytes; false if the SMMU refuses */
bool host_dma_read64(HostGuest *g, unsigned dev, uint64_t iova,
                     uint64_t *value);
bool host_dma_write64(HostGuest *g, unsigned dev, uint64_t iova,
                      uint64_t value);

/*
 * SubstreamIDs and ATS, for devices with the model's keys pasid and ats
 */

#define HOST_NO_PASID   UINT32_MAX
#define HOST_DMA_PRIV   1           /* attributes that need a PASID */
#define HOST_DMA_EXEC   2
#define HOST_DMA_ATC    4           /* ask for translations, and cache them */

/*
 * The PASID and the attributes of all later transfers of @dev, until a reset.
 * The device must have PASIDs of that width.
 */
void host_dma_as(HostGuest *g, unsigned dev, uint32_t pasid, unsigned flags);

/* The answer to an ATS request, and what it allows */
#define HOST_ATS_NONE       0       /* ATS is off at the device */
#define HOST_ATS_READ       1
#define HOST_ATS_WRITE      2
#define HOST_ATS_SUCCESS    0x100
#define HOST_ATS_UR         0x200
#define HOST_ATS_CA         0x300

/* Ask for a translation of @iova; what comes goes into the ATC. */
unsigned host_ats_request(HostGuest *g, unsigned dev, uint64_t iova,
                          bool write);
/* Read by what the ATC holds, old or not; false if that is nothing. */
bool host_ats_read64(HostGuest *g, unsigned dev, uint64_t iova,
                     uint64_t *value);
/* How many translations the ATC of @dev holds */
uint64_t host_atc_entries(HostGuest *g, unsigned dev);

/*
 * Let the device read eight bytes at @iova at each moment at which the host
 * has half changed its STE, and count the results: @a, @b, another value, a
 * fault.
 */
typedef enum HostProbes {
    HOST_PROBES_A, HOST_PROBES_B, HOST_PROBES_OTHER, HOST_PROBES_FAULT,
} HostProbes;

void host_probe_begin(HostGuest *g, unsigned dev, uint64_t iova, uint64_t a,
                      uint64_t b);
uint64_t host_probes(HostGuest *g, unsigned dev, HostProbes which);

/* The model */

/*
 * Send a command to the control socket (tests/host-model/README.md); returns
 * the answer
 */
QDict *host_control(HostGuest *g, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Does the machine have a region of this name, enabled? */
bool host_has_region(HostGuest *g, const char *name);

/* What query-smmuv3 says of SMMU @i, to be freed by the caller */
QDict *host_query(HostGuest *g, unsigned i);

/* Does it say that the host of SMMU @i is slow?  Not without a device */
bool host_is_slow(HostGuest *g, unsigned i);

/* So that it does: QEMU has waited for one slow call */
void host_make_slow(HostGuest *g, unsigned i);

/* The first entry of the list @list whose @key is @value, or NULL */
QDict *host_find(const QDict *dict, const char *list, const char *key,
                 const char *value);

/*
 * Wait until @cond holds. A test that waits without an end does not say why, so
 * this fails after a time that no machine needs, or HOST_WAIT_S of the
 * environment: scripts/mutate breaks QEMU often, and does not want to wait.
 */
#define HOST_WAIT_S host_wait_s()
int host_wait_s(void);
#define HOST_WAIT(cond) do { \
    int64_t until_ = g_get_monotonic_time() + \
                     HOST_WAIT_S * G_TIME_SPAN_SECOND; \
    while (!(cond)) { \
        if (g_get_monotonic_time() > until_) { \
            g_error("%s:%d: in vain: %s", __func__, __LINE__, #cond); \
        } \
        g_usleep(500); \
    } \
} while (0)

/* The same for an event of QMP, which the caller frees; those before it go */
QDict *host_wait_for_event(HostGuest *g, const char *name);

/* A counter of the model, 0 if it has never counted */
uint64_t host_counter(HostGuest *g, const char *name);

/* Live objects of a type of iommufd, e.g. "vdevice" */
uint64_t host_objects(HostGuest *g, const char *type);

/*
 * What most tests use
 */

#define HOST_VA     0x1000000000ull

/* Where Linux in the host maps the physical doorbell of MSIs */
#define HOST_MSI_WINDOW     0x08000000ull

/*
 * Make interrupt @gsiv of the machine's GIC edge-triggered; and take it, which
 * no vCPU does. Returns whether it was pending.
 */
void host_set_edge(HostGuest *g, unsigned gsiv);
bool host_take_irq(HostGuest *g, unsigned gsiv);

/* Without the model: mark the test as skipped; the caller must return */
bool host_skipped(void);

/* One physical SMMU, devices on the vSMMUs in turn */
HostGuest *host_start(unsigned n_vsmmus, unsigned n_devs);

/*
 * Unplug all devices that have a port; the test fails if any of their objects
 * is left
 */
void host_check_empty(HostGuest *g);

/* object-add of iommufd0, where no_iommufd is set; false if QEMU refuses */
bool host_add_iommufd(HostGuest *g);

/*
 * object-del of iommufd0, after the last device. The test fails with @what if
 * something is left: objects, address spaces, device fds, bindings.
 * @but_kept: the host has kept objects until /dev/iommu was closed
 */
void host_check_freed(HostGuest *g, const char *what, bool but_kept);

/* Check that nothing stale was used and nothing is left, and end QEMU */
void host_finish(HostGuest *g);

/* smmu_enable(), and invalidate everything */
void host_enable(HostGuest *g, unsigned i);

/* Write word 0 of the device's STE; CFGI_STE, CMD_SYNC */
void host_set_ste(HostGuest *g, unsigned dev, uint64_t word0);

/* A page whose first eight bytes are @tag */
uint64_t host_new_page(HostGuest *g, uint64_t tag);

/* A CD that maps @page at @va, and nothing else; @va is below 2^39 */
uint64_t host_page_cd(HostGuest *g, unsigned asid, uint64_t va, uint64_t page);

/* The same at HOST_VA */
uint64_t host_one_page_cd(HostGuest *g, unsigned asid, uint64_t page);

/*
 * Check that the device reads @want at @iova, or that both reads and writes
 * fault
 */
void host_check_reads(HostGuest *g, unsigned dev, uint64_t iova,
                      uint64_t want);
void host_check_faults(HostGuest *g, unsigned dev, uint64_t iova);

#endif /* SMMUV3_HOST_H */
