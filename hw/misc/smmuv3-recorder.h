/*
 * A host for tests of the accelerated SMMUv3: it records and checks calls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Implements SMMUv3HostOps in memory, with iommufd's rules for its objects
 * (linux/iommufd.h).  Children are destroyed before parents.  An object in use
 * cannot be destroyed.  A translating HWPT needs the device's vDEVICE.  A
 * device has one vDEVICE, and a virtual StreamID belongs to one vDEVICE.  A
 * test may make any call fail, and can read back all calls in order.
 *
 * Unit tests link it.  smmuv3-testdev.c puts it behind a whole QEMU.
 */
#ifndef HW_MISC_SMMUV3_RECORDER_H
#define HW_MISC_SMMUV3_RECORDER_H

#include "hw/arm/smmuv3-accel-stream.h"

typedef enum RecCall {
    REC_NEST,
    REC_INFO,
    REC_VIOMMU_ALLOC,
    REC_VDEVICE_ALLOC,
    REC_HWPT_ALLOC,
    REC_ATTACH,
    REC_DETACH,
    REC_INVALIDATE,
    REC_EVENTS_ALLOC,
    REC_EVENTS_READ,
    REC_DESTROY,
    REC__MAX,
} RecCall;

typedef enum RecKind {
    REC_STAGE2,         /* a nesting parent: only VFIO may destroy it */
    REC_VIOMMU,
    REC_VDEVICE,
    REC_HWPT,           /* nested */
    REC_VEVENTQ,
} RecKind;

typedef struct RecObject {
    RecKind kind;
    uint32_t id;
    struct RecObject *parent;
    unsigned users;             /* children and attached devices */
    SMMUv3HostDevice *dev;      /* REC_VDEVICE */
    uint32_t sid;               /* REC_VDEVICE */
    uint64_t ste[2];            /* REC_HWPT */
    int fd;                     /* REC_VEVENTQ: the caller owns it */
    int feed;                   /* its other end, where a test writes events */
} RecObject;

/* A call to the host */
typedef struct RecEvent {
    RecCall call;
    SMMUv3HostDevice *dev;      /* NULL for REC_INVALIDATE and REC_DESTROY */
    uint32_t id;                /* made, attached, destroyed, invalidated */
    uint32_t sid;               /* REC_VDEVICE_ALLOC */
    uint64_t ste[2];            /* of the HWPT made, attached or destroyed */
    uint32_t n;                 /* REC_INVALIDATE: commands in the call */
    RecKind kind;               /* REC_DESTROY */
    const SMMUv3HostCmd *cmds;  /* REC_INVALIDATE: during the call only */
    int ret;
} RecEvent;

struct SMMUv3HostDevice {
    const char *name;
    SMMUv3Host *host;
    uint32_t stage2;            /* VFIO attached the device to it at first */
    RecObject *attached;        /* NULL: blocked */
    RecObject *vdevice;
    SMMUv3HostInfo info;
};

/* May make a call slow, or fail: returns 0, or the call's negative errno */
typedef int RecInject(SMMUv3Host *host, const RecEvent *call, void *opaque);

/*
 * Result of one command in the host: 0, -EIO (the conversion refuses it) or
 * another negative errno (its issue fails)
 */
typedef int RecCmdError(SMMUv3Host *host, const SMMUv3HostCmd *cmd,
                        void *opaque);

struct SMMUv3Host {
    GMutex lock;                /* held during a call, after @inject */
    GPtrArray *objects;         /* RecObject, those that exist */
    GArray *events;             /* RecEvent */
    GArray *done;               /* SMMUv3HostCmd that took effect, in order */
    bool erratum;               /* TLBIs, CFGIs must be repeated after a sync */
    GArray *issued;             /* SMMUv3HostCmd issued once, with @erratum */
    uint32_t last_id;
    unsigned calls;             /* calls so far that can fail */
    unsigned busy;              /* attempts to destroy what is in use */
    unsigned veventq_busy;      /* attempts that find a closed one in use */
    RecInject *inject;
    RecCmdError *cmd_error;
    void *opaque;               /* passed to both */
};

/*
 * The operations, on devices that rec_device_init() made.  There is no PCI type
 * and no way from a HostIOMMUDevice: smmuv3-testdev.c adds them.
 */
extern const SMMUv3HostOps rec_ops;

SMMUv3Host *rec_host_new(void);

/* Fails the test if an object other than nesting parents is left */
void rec_host_free(SMMUv3Host *host);

/* A nesting parent, as VFIO makes one: returns its id */
uint32_t rec_stage2_new(SMMUv3Host *host);

/* A device that VFIO attached to @stage2 */
void rec_device_init(SMMUv3HostDevice *dev, SMMUv3Host *host, const char *name,
                     uint32_t stage2);

/*
 * A stream by itself, on the heap; rec_stream_new() returns NULL with @errp set
 * if smmuv3_accel_stream_init() refuses it
 */
SMMUv3AccelStream *rec_stream_new(SMMUv3AccelVsmmu *vsmmu,
                                  SMMUv3HostDevice *dev,
                                  const SMMUv3HostInfo *info, Error **errp);
void rec_stream_free(SMMUv3AccelStream *stream);

/* VFIO closes the device: its HWPT is no longer in use */
void rec_device_release(SMMUv3HostDevice *dev);

/* Number of objects of @kind that exist */
unsigned rec_count(const SMMUv3Host *host, RecKind kind);

/* The nested STE of @dev, NULL if it is attached to a stage 2 or blocked */
const uint64_t *rec_attached_ste(const SMMUv3HostDevice *dev);

/* Write an event to the oldest vEVENTQ, of which there must be one */
void rec_put_event(SMMUv3Host *host, const SMMUv3HostEvent *event);

/* Forget all calls and commands so far */
void rec_forget(SMMUv3Host *host);

/* The word for @call with which rec_story() begins */
const char *rec_call_name(RecCall call);

/* What an STE is for, in a word: abort, bypass or s1 */
const char *rec_config_name(const uint64_t ste[2]);

/*
 * The calls since rec_forget() as a line of text, one word per call: viommu,
 * vdevice:SID, hwpt:CONFIG, attach:CONFIG, detach, invalidate:N,
 * destroy:viommu, ...  The errno follows a call that failed.  The caller frees
 * the text.
 */
char *rec_story(SMMUv3Host *host);

/*
 * The commands that took effect since rec_forget(), in order, as WORD0:WORD1 in
 * hex.  The caller frees the text.
 */
char *rec_commands(SMMUv3Host *host);

/* Ready-made injection: only call number @nth from now on fails */
typedef struct RecFailNth {
    unsigned nth;               /* counts down; 0: it has failed */
    int err;                    /* negative errno */
} RecFailNth;
RecInject rec_fail_nth;

#endif
