/*
 * Accelerated SMMUv3: properties
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_SMMUV3_ACCEL_PROPS_H
#define HW_ARM_SMMUV3_ACCEL_PROPS_H

#include "hw/qdev-properties.h"

typedef struct SMMUv3State SMMUv3State;

/* Values of ssidsize: auto, or a number of bits from 0 to 20 */
enum { SMMUV3_SSIDSIZE_AUTO = 0, SMMUV3_SSIDSIZE_0 = 1 };

/* Values of oas: auto, or one that smmuv3_oas_bits() converts */
enum { SMMUV3_OAS_AUTO = 0 };

/* Of the SMMU's node in the IORT; zero is "nobody has chosen one" */
typedef struct SMMUv3Identifier {
    bool chosen;
    uint8_t value;              /* valid if @chosen */
} SMMUv3Identifier;

/* Values of x-cmdqv-backend */
typedef enum SMMUv3CmdqvBackend {
    SMMUV3_CMDQV_AUTO,
    SMMUV3_CMDQV_HARDWARE,
    SMMUV3_CMDQV_SOFTWARE,
} SMMUv3CmdqvBackend;

/* What the user or the board asks of an SMMUv3, besides accel itself */
typedef struct SMMUv3AccelProps {
    OnOffAuto ats;
    OnOffAuto cmdqv;
    int cmdqv_backend;          /* an SMMUv3CmdqvBackend */
    /* A thread watches VCMDQs for so long after a command, in us; 0: none */
    uint32_t cmdqv_poll_us;
    OnOffAuto ril;
    int oas;                    /* a value of smmuv3_prop_oas */
    int ssidsize;               /* a value of smmuv3_prop_ssidsize */
    SMMUv3Identifier identifier;
    bool pasid;                 /* an older name of ssidsize, always refused */
    bool share_stage2;          /* with all SMMUs that have it set */
    /* Reads, and writes that keep 0, need not exit if the host allows that */
    bool direct_registers;
    /* After this time, in us, the main loop drains the rest; 0: all of it */
    uint32_t drain_us;
    uint64_t msi_gpa;           /* the guest's MSI doorbell, 0 without */
    bool device_tree;           /* the guest boots by it, and not by ACPI */
} SMMUv3AccelProps;

/* Output address size in bits for a value of oas, 0 for auto */
unsigned smmuv3_oas_bits(int value);

/* SubstreamID size in bits for a value of ssidsize, -1 for auto */
int smmuv3_ssidsize_bits(int value);

/**
 * smmuv3_has_cmdqv: does the SMMU have command queues that the guest owns?
 * @s: with its properties set
 *
 * It has one more region and one more interrupt then.
 */
bool smmuv3_has_cmdqv(const SMMUv3State *s);

/**
 * smmuv3_check_properties: can this SMMUv3 be what its properties ask for?
 * @s: any SMMUv3 before it is realized
 * @errp: names all properties and devices that do not fit, with their remedies
 *
 * Checks the properties, and the devices that are below the SMMU's bus already.
 * Changes nothing, so on error nothing has to be undone.
 */
bool smmuv3_check_properties(SMMUv3State *s, Error **errp);

/**
 * smmuv3_find_faults: the same, for a board that finds more faults
 * @s: as smmuv3_check_properties()
 * @faults: of char *, owned by the array; each fault found is appended
 */
void smmuv3_find_faults(SMMUv3State *s, GPtrArray *faults);

/* Append @err to @faults, and free it */
void smmuv3_fault_take(GPtrArray *faults, Error *err);

/* May @dev be below the SMMUv3State @opaque?  Otherwise @errp is set. */
typedef bool SMMUv3AcceptDevice(PCIDevice *dev, void *opaque, Error **errp);

/**
 * smmuv3_fault_check_devices: check devices that are created before their SMMU
 * @s: the SMMU, which may be without a bus
 * @accept: called once for each device below the root complex of @s
 * @faults: of char *; what @accept says is appended
 */
void smmuv3_fault_check_devices(SMMUv3State *s, SMMUv3AcceptDevice *accept,
                                GPtrArray *faults);

/**
 * smmuv3_fault_report: put all faults into one Error
 * @s: the SMMU that they are about
 * @faults: of char *
 * @errp: set if there are any
 *
 * Returns: whether there are any.
 */
bool smmuv3_fault_report(SMMUv3State *s, const GPtrArray *faults, Error **errp);

/**
 * smmuv3_refuse_assigned: an emulated SMMUv3 refuses an assigned device
 * @s: an SMMU with accel=off
 * @dev: a device behind it
 * @errp: names the device, and what to do; set if it is refused
 *
 * Returns: whether it is refused, because QEMU never sees its DMA.
 */
bool smmuv3_refuse_assigned(SMMUv3State *s, PCIDevice *dev, Error **errp);

/* Say what each property is for, of a class that has all of them */
void smmuv3_describe_properties(ObjectClass *klass);

extern const PropertyInfo smmuv3_prop_cmdqv_backend;
extern const PropertyInfo smmuv3_prop_identifier;
extern const PropertyInfo smmuv3_prop_oas;
extern const PropertyInfo smmuv3_prop_ssidsize;

/* @_f is an SMMUv3Identifier */
#define DEFINE_PROP_SMMUV3_IDENTIFIER(_n, _s, _f) \
    DEFINE_PROP(_n, _s, _f, smmuv3_prop_identifier, SMMUv3Identifier)

/* @_f is an int */
#define DEFINE_PROP_SMMUV3_CMDQV_BACKEND(_n, _s, _f) \
    DEFINE_PROP_SIGNED(_n, _s, _f, SMMUV3_CMDQV_AUTO, \
                       smmuv3_prop_cmdqv_backend, int)
#define DEFINE_PROP_SMMUV3_OAS(_n, _s, _f) \
    DEFINE_PROP_SIGNED(_n, _s, _f, SMMUV3_OAS_AUTO, smmuv3_prop_oas, int)
#define DEFINE_PROP_SMMUV3_SSIDSIZE(_n, _s, _f) \
    DEFINE_PROP_SIGNED(_n, _s, _f, SMMUV3_SSIDSIZE_AUTO, \
                       smmuv3_prop_ssidsize, int)

#endif
