/*
 * Accelerated SMMUv3: what its upper half shares
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The upper half knows SMMUv3State, and its files are named by what the guest
 * sees: the device (smmuv3-accel.c), PCI (-pci), the Stream Table (-ste), the
 * queues (-cmdq, -eventq), the registers (-regs).  The lower half knows the
 * seam to the host only, and its files are named by the host's objects.
 *
 * All functions are called with the BQL held, for an SMMU with accel=on.
 */
#ifndef HW_ARM_SMMUV3_ACCEL_INTERNAL_H
#define HW_ARM_SMMUV3_ACCEL_INTERNAL_H

#include "qemu/event_notifier.h"
#include "hw/pci/pci.h"
#include "migration/vmstate.h"
#include "system/iommufd.h"
#include "system/runstate.h"
#include "hw/arm/smmuv3-accel.h"
#include "smmuv3-internal.h"
#include "smmuv3-accel-batch.h"
#include "smmuv3-accel-caps.h"
#include "smmuv3-accel-stream.h"

/* An assigned device below the SMMU */
typedef struct SMMUv3AccelEndpoint {
    SMMUv3AccelStream stream;       /* the part that the lower half knows */
    SMMUv3State *smmu;
    PCIBus *bus;
    int devfn;
    HostIOMMUDeviceIOMMUFD *idev;   /* referenced */
    bool reported;                  /* the stream's error, to the user */
} SMMUv3AccelEndpoint;

/* Commands read from the guest's queue in one go */
#define SMMUV3_ACCEL_READ_AHEAD 64

/* The command queue's drain: smmuv3-accel-cmdq.c */
typedef struct SMMUv3AccelDrain {
    QEMUBH *bh;                 /* goes on in the main loop */
    VMChangeStateEntry *vm_state;
    bool in_bh;
    bool running;
    int64_t start;              /* ns */
    uint32_t first;             /* CMDQ_CONS at that time */
    bool worked;                /* a command took effect, not only its place */
    unsigned n;                 /* commands since the last look at the clock */

    /* Each slot is read once: a CMD_SYNC's message may overwrite its slot */
    unsigned next, n_read;
    uint64_t cmd[SMMUV3_ACCEL_READ_AHEAD][2];   /* host endian */
    bool no_cache;              /* QEMU had cached nothing when it read them */
} SMMUv3AccelDrain;

typedef struct SMMUv3Accel {
    char *name;                 /* for messages */
    Error *migration_blocker;
    VMStateDescription unmigratable;

    /*
     * The guest's: what it was promised, and what is under way.  With the
     * registers and msi_pending in SMMUv3State this is all that has to migrate.
     */
    SMMUv3AccelCaps caps;
    bool atc_timeout;           /* to be reported at the next CMD_SYNC */

    /*
     * The host's: between drains, made anew from the guest's registers and
     * tables
     */
    SMMUv3AccelVsmmu vsmmu;     /* its streams are endpoints' */
    uint32_t followed_cr0;      /* what the rest of this part is for */
    QEMUTimer *retry;
    unsigned retry_ms;          /* 0 while nothing is pending */
    QEMUBH *renumber;
    bool renumbered;            /* some streams have another StreamID now */
    SMMUv3AccelBatch batch;
    SMMUv3AccelDrain drain;
    bool events_paused;         /* until the guest makes room */
    bool events_refused;        /* by the host, and the user knows */
    uint8_t *reg_mem;           /* today's registers, for the guest to read */
    EventNotifier zero_written; /* that nobody waits for */
    uint32_t zero_writes;       /* which registers use it, as bits */
} SMMUv3Accel;

/* The endpoint that embeds @stream */
static inline SMMUv3AccelEndpoint *
smmuv3_accel_endpoint(SMMUv3AccelStream *stream)
{
    return container_of(stream, SMMUv3AccelEndpoint, stream);
}

/*
 * PCI (smmuv3-accel-pci.c)
 */

/**
 * smmuv3_accel_pci_realize: replace the bus's IOMMU handlers
 * @s: being realized
 * @errp: names the device in the way
 *
 * Adopts the assigned devices that are below the bus already.  On failure
 * smmuv3_accel_pci_unrealize() has to remove those that were adopted.
 */
bool smmuv3_accel_pci_realize(SMMUv3State *s, Error **errp);

/* Remove all endpoints; their devices are detached, and stay where they are */
void smmuv3_accel_pci_unrealize(SMMUv3State *s);

/*
 * Streams (smmuv3-accel-ste.c)
 */

/* What makes QEMU ask where a stream is to be attached */
typedef enum SMMUv3AccelEdge {
    SMMUV3_ACCEL_EDGE_CFGI,     /* an error in the STE is recorded */
    SMMUV3_ACCEL_EDGE_OTHER,
} SMMUv3AccelEdge;

void smmuv3_accel_ste_realize(SMMUv3State *s);
void smmuv3_accel_ste_unrealize(SMMUv3State *s);

/* The errors of the host that pass by themselves: EBUSY and EEXIST */
bool smmuv3_accel_passes_by_itself(int error);

/**
 * smmuv3_accel_refresh_stream: attach a stream to what the guest wants now
 * @ep: the endpoint
 * @edge: what has changed
 * @errp: what the host has against it
 *
 * Returns: 0, or a negative errno; see smmuv3_accel_stream_apply().  One that
 * passes by itself is tried again later.
 */
int smmuv3_accel_refresh_stream(SMMUv3AccelEndpoint *ep, SMMUv3AccelEdge edge,
                                Error **errp);

/* The same, for edges without a caller that could take an Error */
void smmuv3_accel_refresh_and_report(SMMUv3AccelEndpoint *ep,
                                     SMMUv3AccelEdge edge);

/* The same for all streams of @s: reset, CR0.SMMUEN, GBPA */
void smmuv3_accel_refresh_all(SMMUv3State *s);

/* Some stream is not where the guest wants it: try again in a while */
void smmuv3_accel_retry_pending(SMMUv3State *s);

/* A bus has another number: IHI 0070 knows StreamIDs only */
void smmuv3_accel_bus_renumbered(PCIBus *bus, void *opaque);

/* Move the streams of renumbered buses, before a command takes effect */
void smmuv3_accel_refresh_renumbered(SMMUv3State *s);

/*
 * The command queue (smmuv3-accel-cmdq.c)
 */

void smmuv3_accel_cmdq_realize(SMMUv3State *s);
void smmuv3_accel_cmdq_unrealize(SMMUv3State *s);
void smmuv3_accel_cmdq_reset(SMMUv3State *s);

/*
 * The event queue (smmuv3-accel-eventq.c)
 */

/**
 * smmuv3_accel_eventq_update: should the host keep events?
 * @s: whose EVENTQEN or endpoints have changed
 *
 * It keeps them while the guest has its queue on, and while there is a device
 * that they may come from.
 */
void smmuv3_accel_eventq_update(SMMUv3State *s);

/* The host keeps no events any more */
void smmuv3_accel_eventq_stop(SMMUv3State *s);

/*
 * Registers in memory (smmuv3-accel-regs.c)
 */

/**
 * smmuv3_accel_regs_realize: initialize the region of the registers
 * @s: being realized
 * @ops: accesses to the registers
 *
 * The guest reads them from memory where the host allows it, and where there is
 * memory for it.
 */
void smmuv3_accel_regs_realize(SMMUv3State *s, const MemoryRegionOps *ops);

/* All registers are at their reset values */
void smmuv3_accel_regs_reset(SMMUv3State *s);

/**
 * smmuv3_accel_publish: let the guest read today's registers
 * @s: any with accel=on; does nothing if reads exit to QEMU
 * @first: offset in page 0 of the first register, in bytes
 * @last: offset of the last one
 */
void smmuv3_accel_publish(SMMUv3State *s, hwaddr first, hwaddr last);

#endif
