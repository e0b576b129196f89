/*
 * Tests of the accelerated SMMUv3 without a host: devices that do nothing
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *   -device smmuv3-test-host,id=h0
 *   -device arm-smmuv3,primary-bus=pcie.0,accel=on
 *   -device smmuv3-testdev,iommufd=h0,id=d0
 *
 * smmuv3-test-host takes the place of iommufd for all SMMUs with accel=on, and
 * smmuv3-testdev that of vfio-pci.  Such a device has no BAR and does no DMA:
 * what a test sees is where the SMMU attaches it, and each call to the host
 * (smmuv3-recorder.h).  Only qtests can create them.
 *
 * Properties of the host, by qom-get and qom-set:
 *   story      read: the calls since it was last written; see rec_story()
 *   commands   read: the invalidations that took effect since then; see
 *              rec_commands()
 *   objects    read: how many there are, "viommu 1 vdevice 1 hwpt 1 veventq 1"
 *   fail       write: "CALL ERRNO TIMES": the next calls of that name fail
 *   slow       write: "CALL MS TIMES": the next calls of that name take so long
 *   event      write: "WORD0 WORD1 WORD2 WORD3" in hex comes from the oldest
 *              vEVENTQ, or a loss of events: "lost"
 *
 * And of the device:
 *   attached   read: "stage2", "blocked", or the STE: "s1 WORD0 WORD1"
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-properties.h"
#include "system/host_iommu_device.h"
#include "system/qtest.h"
#include "hw/misc/smmuv3-recorder.h"

/* What is to happen to the next calls of one kind */
typedef struct TestFault {
    RecCall call;
    int value;                  /* positive errno, or ms */
    int times;                  /* atomic; 0 or less: no more */
} TestFault;

#define TYPE_SMMUV3_TEST_HOST "smmuv3-test-host"
OBJECT_DECLARE_SIMPLE_TYPE(SMMUv3TestHost, SMMUV3_TEST_HOST)

struct SMMUv3TestHost {
    DeviceState parent_obj;

    SMMUv3Host *host;
    uint32_t stage2;
    unsigned sequence;          /* of the next event */
    TestFault fail, slow;
};

/* What a vIOMMU gets of the device: the recorder's view of it */
#define TYPE_SMMUV3_TEST_HIOD "smmuv3-test-host-iommu-device"
OBJECT_DECLARE_SIMPLE_TYPE(SMMUv3TestHiod, SMMUV3_TEST_HIOD)

struct SMMUv3TestHiod {
    HostIOMMUDevice parent_obj;

    SMMUv3HostDevice dev;
};

#define TYPE_SMMUV3_TESTDEV "smmuv3-testdev"
OBJECT_DECLARE_SIMPLE_TYPE(SMMUv3Testdev, SMMUV3_TESTDEV)

struct SMMUv3Testdev {
    PCIDevice parent_obj;

    SMMUv3TestHost *host;
    SMMUv3TestHiod *hiod;
};

/* An SMMUv3.2 with all that the guest may be told of */
static const SMMUv3HostInfo test_info = {
    .idr = {
        /* 2-level STEs and CDs, TERM, no stalls, LE, ASID16, AArch64 */
        [0] = 1 << 27 | 1 << 19 | 1 << 26 | 1 << 24 | 2 << 21 | 1 << 12 |
              2 << 2,
        /* SSIDSIZE 20, SIDSIZE 32 */
        [1] = 20 << 6 | 32,
        /* RIL */
        [3] = 1 << 10,
        /* 4K, 16K and 64K, 48 bits */
        [5] = 7 << 4 | 5,
    },
    .address_bits = 48,
    .ats = true,
};

/*
 * The host
 */

static SMMUv3HostDevice *test_device(HostIOMMUDevice *hiod)
{
    return &SMMUV3_TEST_HIOD(hiod)->dev;
}

/* The recorder's, with what a whole QEMU needs */
static SMMUv3HostOps test_ops;

static bool test_fault_due(TestFault *fault, const RecEvent *call)
{
    return fault->call == call->call && qatomic_read(&fault->times) > 0 &&
           qatomic_fetch_dec(&fault->times) > 0;
}

static int test_inject(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    SMMUv3TestHost *h = opaque;

    if (test_fault_due(&h->slow, call)) {
        g_usleep(h->slow.value * 1000);
    }
    return test_fault_due(&h->fail, call) ? -h->fail.value : 0;
}

static char *get_story(Object *obj, Error **errp)
{
    return rec_story(SMMUV3_TEST_HOST(obj)->host);
}

static void set_story(Object *obj, const char *value, Error **errp)
{
    if (*value) {
        error_setg(errp, "the story can be forgotten, by an empty one, and not "
                   "be rewritten");
        return;
    }
    rec_forget(SMMUV3_TEST_HOST(obj)->host);
}

static char *get_commands(Object *obj, Error **errp)
{
    return rec_commands(SMMUV3_TEST_HOST(obj)->host);
}

static char *get_objects(Object *obj, Error **errp)
{
    const SMMUv3Host *host = SMMUV3_TEST_HOST(obj)->host;

    return g_strdup_printf("viommu %u vdevice %u hwpt %u veventq %u",
                           rec_count(host, REC_VIOMMU),
                           rec_count(host, REC_VDEVICE),
                           rec_count(host, REC_HWPT),
                           rec_count(host, REC_VEVENTQ));
}

static void set_fault(TestFault *fault, const char *text, Error **errp)
{
    char name[16];
    int value;
    int times;

    if (sscanf(text, "%15s %d %d", name, &value, &times) == 3 && value > 0) {
        for (int call = 0; call < REC__MAX; call++) {
            if (!strcmp(rec_call_name(call), name)) {
                fault->call = call;
                fault->value = value;
                qatomic_set(&fault->times, times);
                return;
            }
        }
    }
    error_setg(errp, "'%s' is not a call, a number and how many times", text);
}

static void set_fail(Object *obj, const char *value, Error **errp)
{
    set_fault(&SMMUV3_TEST_HOST(obj)->fail, value, errp);
}

static void set_slow(Object *obj, const char *value, Error **errp)
{
    set_fault(&SMMUV3_TEST_HOST(obj)->slow, value, errp);
}

static void set_event(Object *obj, const char *value, Error **errp)
{
    SMMUv3TestHost *h = SMMUV3_TEST_HOST(obj);
    SMMUv3HostEvent event = { .sequence = h->sequence };
    uint64_t *word = event.word;

    event.lost = !strcmp(value, "lost");
    if (!event.lost &&
        sscanf(value, "%" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64, &word[0],
               &word[1], &word[2], &word[3]) != 4) {
        error_setg(errp, "'%s' is not four words, nor 'lost'", value);
        return;
    }
    if (!rec_count(h->host, REC_VEVENTQ)) {
        error_setg(errp, "there is no vEVENTQ");
        return;
    }
    for (int i = 0; i < ARRAY_SIZE(event.word); i++) {
        word[i] = cpu_to_le64(word[i]);
    }
    h->sequence++;
    rec_put_event(h->host, &event);
}

static void test_host_realize(DeviceState *dev, Error **errp)
{
    SMMUv3TestHost *h = SMMUV3_TEST_HOST(dev);

    if (!qtest_enabled()) {
        error_setg(errp, TYPE_SMMUV3_TEST_HOST " is for qtests only");
        return;
    }
    if (smmuv3_host_ops == &test_ops) {
        error_setg(errp, "there is a " TYPE_SMMUV3_TEST_HOST " already");
        return;
    }
    test_ops = rec_ops;
    test_ops.pci_type = TYPE_SMMUV3_TESTDEV;
    test_ops.device = test_device;
    smmuv3_host_ops = &test_ops;
    h->host->inject = test_inject;
    h->host->opaque = h;
    h->stage2 = rec_stage2_new(h->host);
}

static void test_host_init(Object *obj)
{
    SMMUV3_TEST_HOST(obj)->host = rec_host_new();
}

static void test_host_finalize(Object *obj)
{
    rec_host_free(SMMUV3_TEST_HOST(obj)->host);
}

static void test_host_class_init(ObjectClass *oc, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);

    dc->realize = test_host_realize;
    dc->desc = "Host of smmuv3-testdev, for tests";
    /* It stays as long as the SMMUs that it is the host of */
    dc->hotpluggable = false;
    dc->user_creatable = true;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    object_class_property_add_str(oc, "story", get_story, set_story);
    object_class_property_add_str(oc, "commands", get_commands, NULL);
    object_class_property_add_str(oc, "objects", get_objects, NULL);
    object_class_property_add_str(oc, "fail", NULL, set_fail);
    object_class_property_add_str(oc, "slow", NULL, set_slow);
    object_class_property_add_str(oc, "event", NULL, set_event);
}

/*
 * The device
 */

static char *get_attached(Object *obj, Error **errp)
{
    const SMMUv3Testdev *t = SMMUV3_TESTDEV(obj);
    const uint64_t *ste = t->hiod ? rec_attached_ste(&t->hiod->dev) : NULL;

    if (ste) {
        return g_strdup_printf("%s %" PRIx64 " %" PRIx64, rec_config_name(ste),
                               ste[0], ste[1]);
    }
    return g_strdup(t->hiod && t->hiod->dev.attached ? "stage2" : "blocked");
}

/* VFIO lets go of the device after its vIOMMU has */
static void testdev_release(SMMUv3Testdev *t)
{
    rec_device_release(&t->hiod->dev);
    object_unref(t->hiod);
    t->hiod = NULL;
}

static void testdev_realize(PCIDevice *pdev, Error **errp)
{
    SMMUv3Testdev *t = SMMUV3_TESTDEV(pdev);
    HostIOMMUDevice *hiod;

    if (!t->host) {
        error_setg(errp, "iommufd= must name a " TYPE_SMMUV3_TEST_HOST);
        return;
    }
    if (pcie_endpoint_cap_init(pdev, 0) < 0) {
        error_setg(errp, "there is no room for a PCI Express capability");
        return;
    }
    t->hiod = SMMUV3_TEST_HIOD(object_new(TYPE_SMMUV3_TEST_HIOD));
    hiod = HOST_IOMMU_DEVICE(t->hiod);
    hiod->name = qdev_get_human_name(DEVICE(t));
    rec_device_init(&t->hiod->dev, t->host->host, hiod->name, t->host->stage2);
    t->hiod->dev.info = test_info;
    if (!pci_device_set_iommu_device(pdev, hiod, errp)) {
        testdev_release(t);
    }
}

static void testdev_exit(PCIDevice *pdev)
{
    pci_device_unset_iommu_device(pdev);
    testdev_release(SMMUV3_TESTDEV(pdev));
}

static const Property testdev_properties[] = {
    DEFINE_PROP_LINK("iommufd", SMMUv3Testdev, host, TYPE_SMMUV3_TEST_HOST,
                     SMMUv3TestHost *),
};

static void testdev_class_init(ObjectClass *oc, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(oc);

    pc->realize = testdev_realize;
    pc->exit = testdev_exit;
    pc->vendor_id = PCI_VENDOR_ID_REDHAT;
    pc->device_id = PCI_DEVICE_ID_REDHAT_TEST;
    pc->class_id = PCI_CLASS_OTHERS;
    dc->desc = "Device without DMA for tests of arm-smmuv3,accel=on";
    device_class_set_props(dc, testdev_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    object_class_property_add_str(oc, "attached", get_attached, NULL);
}

static const TypeInfo types[] = {
    {
        .name = TYPE_SMMUV3_TEST_HOST,
        .parent = TYPE_DEVICE,
        .instance_size = sizeof(SMMUv3TestHost),
        .instance_init = test_host_init,
        .instance_finalize = test_host_finalize,
        .class_init = test_host_class_init,
    }, {
        .name = TYPE_SMMUV3_TEST_HIOD,
        .parent = TYPE_HOST_IOMMU_DEVICE,
        .instance_size = sizeof(SMMUv3TestHiod),
    }, {
        .name = TYPE_SMMUV3_TESTDEV,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(SMMUv3Testdev),
        .class_init = testdev_class_init,
        .interfaces = (InterfaceInfo[]) {
            { INTERFACE_PCIE_DEVICE },
            { }
        },
    },
};

DEFINE_TYPES(types)
