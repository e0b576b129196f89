/*
 * A host for tests of the accelerated SMMUv3: it records and checks calls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qapi/error.h"
#include "hw/misc/smmuv3-recorder.h"

/* Linux issues this many commands at a time, followed by a sync */
#define CHUNK 63

#define STE_CONFIG(ste) extract64((ste)[0], 1, 3)

static RecObject *find(const SMMUv3Host *host, uint32_t id)
{
    for (unsigned i = 0; i < host->objects->len; i++) {
        RecObject *obj = g_ptr_array_index(host->objects, i);

        if (obj->id == id) {
            return obj;
        }
    }
    return NULL;
}

static RecObject *object_of(const SMMUv3Host *host, uint32_t id, RecKind kind)
{
    RecObject *obj = find(host, id);

    return obj && obj->kind == kind ? obj : NULL;
}

static RecObject *new_object(SMMUv3Host *host, RecKind kind, RecObject *parent)
{
    RecObject *obj = g_new0(RecObject, 1);

    obj->kind = kind;
    obj->id = ++host->last_id;
    obj->parent = parent;
    if (parent) {
        parent->users++;
    }
    g_ptr_array_add(host->objects, obj);
    return obj;
}

/*
 * A call that can fail begins with this and ends with record().  In between it
 * holds the lock: a thread may invalidate while the BQL's owner attaches.
 */
static int injected(SMMUv3Host *host, const RecEvent *call)
{
    int ret = host->inject ? host->inject(host, call, host->opaque) : 0;

    g_mutex_lock(&host->lock);
    host->calls++;
    return ret;
}

static int record(SMMUv3Host *host, RecEvent event, int ret)
{
    event.ret = ret;
    event.cmds = NULL;
    g_array_append_val(host->events, event);
    g_mutex_unlock(&host->lock);
    return ret;
}

static int fail(int ret, const char *what, Error **errp)
{
    if (ret) {
        error_setg_errno(errp, -ret, "%s failed", what);
    }
    return ret;
}

static const char *rec_name(SMMUv3HostDevice *dev)
{
    return dev->name;
}

static SMMUv3Host *rec_host(SMMUv3HostDevice *dev)
{
    return dev->host;
}

static const char *rec_host_id(SMMUv3Host *host)
{
    return "recorder";
}

static uint32_t rec_stage2(SMMUv3HostDevice *dev)
{
    return dev->stage2;
}

static int rec_nest(SMMUv3HostDevice *dev, Error **errp)
{
    RecEvent call = { .call = REC_NEST, .dev = dev };

    return fail(record(dev->host, call, injected(dev->host, &call)), "nest",
                errp);
}

static int rec_info(SMMUv3HostDevice *dev, SMMUv3HostInfo *info, Error **errp)
{
    RecEvent call = { .call = REC_INFO, .dev = dev };
    int ret = injected(dev->host, &call);

    if (!ret) {
        *info = dev->info;
    }
    return fail(record(dev->host, call, ret), "info", errp);
}

static int rec_viommu_alloc(SMMUv3HostDevice *dev, uint32_t stage2,
                            uint32_t *id, Error **errp)
{
    SMMUv3Host *host = dev->host;
    RecEvent call = { .call = REC_VIOMMU_ALLOC, .dev = dev };
    RecObject *parent = object_of(host, stage2, REC_STAGE2);
    int ret = injected(host, &call);

    if (!ret && !parent) {
        ret = -ENOENT;
    }
    if (!ret) {
        call.id = *id = new_object(host, REC_VIOMMU, parent)->id;
    }
    return fail(record(host, call, ret), "viommu", errp);
}

/* Does @viommu have a child of @kind; a vDEVICE with this @sid? */
static bool has_child(SMMUv3Host *host, const RecObject *viommu, RecKind kind,
                      uint32_t sid)
{
    for (unsigned i = 0; i < host->objects->len; i++) {
        RecObject *obj = g_ptr_array_index(host->objects, i);

        if (obj->kind == kind && obj->parent == viommu && obj->sid == sid) {
            return true;
        }
    }
    return false;
}

static int rec_vdevice_alloc(SMMUv3HostDevice *dev, uint32_t viommu,
                             uint32_t sid, uint32_t *id, Error **errp)
{
    SMMUv3Host *host = dev->host;
    RecEvent call = { .call = REC_VDEVICE_ALLOC, .dev = dev, .sid = sid };
    RecObject *parent = object_of(host, viommu, REC_VIOMMU);
    int ret = injected(host, &call);

    if (!ret && !parent) {
        ret = -ENOENT;
    }
    if (!ret && (dev->vdevice || has_child(host, parent, REC_VDEVICE, sid))) {
        ret = -EEXIST;
    }
    if (!ret) {
        RecObject *obj = new_object(host, REC_VDEVICE, parent);

        obj->dev = dev;
        obj->sid = sid;
        dev->vdevice = obj;
        call.id = *id = obj->id;
    }
    return fail(record(host, call, ret), "vdevice", errp);
}

/* The masks of linux/iommufd.h */
static bool ste_acceptable(const uint64_t ste[2])
{
    const uint64_t word0 = BIT_ULL(0) | MAKE_64BIT_MASK(1, 3) |
        MAKE_64BIT_MASK(4, 2) | MAKE_64BIT_MASK(6, 46) | MAKE_64BIT_MASK(59, 5);
    const uint64_t word1 = MAKE_64BIT_MASK(0, 2) | MAKE_64BIT_MASK(2, 2) |
        MAKE_64BIT_MASK(4, 2) | MAKE_64BIT_MASK(6, 2) | BIT_ULL(27) |
        MAKE_64BIT_MASK(28, 2);
    unsigned config = STE_CONFIG(ste);

    if (!(ste[0] & 1)) {
        return true;
    }
    return !(ste[0] & ~word0) && !(ste[1] & ~word1) &&
           (config == 0 || config == 4 || config == 5) &&
           extract64(ste[1], 28, 2) <= 1;
}

static int rec_hwpt_alloc(SMMUv3HostDevice *dev, uint32_t viommu,
                          const uint64_t ste[2], uint32_t *id, Error **errp)
{
    SMMUv3Host *host = dev->host;
    RecEvent call = {
        .call = REC_HWPT_ALLOC, .dev = dev, .ste = { ste[0], ste[1] },
    };
    RecObject *parent = object_of(host, viommu, REC_VIOMMU);
    int ret = injected(host, &call);

    if (!ret && !parent) {
        ret = -ENOENT;
    }
    if (!ret && !ste_acceptable(ste)) {
        ret = -EIO;
    }
    if (!ret) {
        RecObject *obj = new_object(host, REC_HWPT, parent);

        obj->ste[0] = ste[0];
        obj->ste[1] = ste[1];
        call.id = *id = obj->id;
    }
    return fail(record(host, call, ret), "hwpt", errp);
}

static bool translates(const RecObject *hwpt)
{
    return (hwpt->ste[0] & 1) && STE_CONFIG(hwpt->ste) == 5;
}

static void move(SMMUv3HostDevice *dev, RecObject *to)
{
    if (to) {
        to->users++;
    }
    if (dev->attached) {
        dev->attached->users--;
    }
    dev->attached = to;
}

static int rec_attach(SMMUv3HostDevice *dev, uint32_t hwpt, Error **errp)
{
    SMMUv3Host *host = dev->host;
    RecEvent call = { .call = REC_ATTACH, .dev = dev, .id = hwpt };
    RecObject *obj = object_of(host, hwpt, REC_HWPT);
    int ret;

    if (obj) {
        memcpy(call.ste, obj->ste, sizeof(call.ste));
    }
    ret = injected(host, &call);
    if (!ret && (!obj || (translates(obj) &&
                          (!dev->vdevice ||
                           dev->vdevice->parent != obj->parent)))) {
        ret = -ENOENT;
    }
    if (!ret && obj->parent->parent->id != dev->stage2) {
        ret = -EINVAL;
    }
    if (!ret) {
        move(dev, obj);
    }
    return fail(record(host, call, ret), "attach", errp);
}

static int rec_detach(SMMUv3HostDevice *dev, Error **errp)
{
    RecEvent call = { .call = REC_DETACH, .dev = dev };
    int ret = injected(dev->host, &call);

    if (!ret) {
        move(dev, NULL);
    }
    return fail(record(dev->host, call, ret), "detach", errp);
}

static int cmd_error(SMMUv3Host *host, const RecObject *viommu,
                     const SMMUv3HostCmd *cmd)
{
    uint64_t word = le64_to_cpu(cmd->word[0]);
    unsigned op = word & 0xff;
    bool names_stream = op == 0x05 || op == 0x06 || op == 0x40;

    if (names_stream && !has_child(host, viommu, REC_VDEVICE, word >> 32)) {
        return -EIO;
    }
    return host->cmd_error ? host->cmd_error(host, cmd, host->opaque) : 0;
}

/* Was @cmd issued in one of the first @n issues?  If so, that issue is over. */
static bool was_issued(SMMUv3Host *host, const SMMUv3HostCmd *cmd, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (!memcmp(&g_array_index(host->issued, SMMUv3HostCmd, i), cmd,
                    sizeof(*cmd))) {
            g_array_remove_index(host->issued, i);
            return true;
        }
    }
    return false;
}

/* A chunk ends with a sync.  Only an ATC_INV needs no repetition after one. */
static void take_effect(SMMUv3Host *host, const SMMUv3HostCmd *cmds, uint32_t n)
{
    unsigned before_sync = host->issued->len;

    for (uint32_t i = 0; i < n; i++) {
        bool atc_inv = (le64_to_cpu(cmds[i].word[0]) & 0xff) == 0x40;

        if (!host->erratum || atc_inv) {
            g_array_append_val(host->done, cmds[i]);
        } else if (was_issued(host, &cmds[i], before_sync)) {
            before_sync--;
            g_array_append_val(host->done, cmds[i]);
        } else {
            g_array_append_val(host->issued, cmds[i]);
        }
    }
}

/* In the worst case a chunk takes effect as a whole or not at all */
static int issue_chunk(SMMUv3Host *host, const RecObject *viommu,
                       const SMMUv3HostCmd *cmds, uint32_t n)
{
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < n; i++) {
            int ret = cmd_error(host, viommu, &cmds[i]);

            if (ret && (ret == -EIO) == !pass) {
                return ret;
            }
        }
    }
    take_effect(host, cmds, n);
    return 0;
}

static int rec_invalidate(SMMUv3Host *host, uint32_t viommu,
                          const SMMUv3HostCmd *cmds, uint32_t n)
{
    RecEvent call = {
        .call = REC_INVALIDATE, .id = viommu, .n = n, .cmds = cmds,
    };
    int ret = injected(host, &call);
    RecObject *obj = object_of(host, viommu, REC_VIOMMU);

    if (!ret && !obj) {
        ret = -ENOENT;
    }
    for (uint32_t i = 0; !ret && i < n; i += CHUNK) {
        ret = issue_chunk(host, obj, &cmds[i], MIN(n - i, CHUNK));
    }
    return record(host, call, ret);
}

static int rec_events_alloc(SMMUv3Host *host, uint32_t viommu, uint32_t depth,
                            uint32_t *id, int *fd, Error **errp)
{
    RecEvent call = { .call = REC_EVENTS_ALLOC, .id = viommu };
    RecObject *parent = object_of(host, viommu, REC_VIOMMU);
    int ret = injected(host, &call);

    if (!ret && !parent) {
        ret = -ENOENT;
    }
    if (!ret && has_child(host, parent, REC_VEVENTQ, 0)) {
        ret = -EEXIST;
    }
    if (!ret) {
        RecObject *obj = new_object(host, REC_VEVENTQ, parent);
        int pair[2];

        g_assert(depth > 0);
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)) {
            g_error("socketpair: %s", g_strerror(errno));
        }
        *id = obj->id;
        *fd = obj->fd = pair[0];
        obj->feed = pair[1];
    }
    return fail(record(host, call, ret), "events", errp);
}

static int rec_events_read(SMMUv3Host *host, int fd, SMMUv3HostEvent *events,
                           unsigned max)
{
    RecEvent call = { .call = REC_EVENTS_READ };
    int ret = injected(host, &call);
    ssize_t len;

    if (!ret) {
        len = read(fd, events, max * sizeof(*events));
        ret = len < 0 ? -errno : len / sizeof(*events);
    }
    return record(host, call, ret);
}

void rec_put_event(SMMUv3Host *host, const SMMUv3HostEvent *event)
{
    for (unsigned i = 0; i < host->objects->len; i++) {
        RecObject *obj = g_ptr_array_index(host->objects, i);

        if (obj->kind == REC_VEVENTQ) {
            if (write(obj->feed, event, sizeof(*event)) != sizeof(*event)) {
                g_error("a vEVENTQ takes no more events");
            }
            return;
        }
    }
    g_error("there is no vEVENTQ");
}

static void rec_destroy(SMMUv3Host *host, uint32_t id)
{
    RecObject *obj = find(host, id);
    RecEvent call = { .call = REC_DESTROY, .id = id };

    if (!obj || obj->kind == REC_STAGE2) {
        g_error("destroyed object %u, which is VFIO's or does not exist", id);
    }
    call.kind = obj->kind;
    if (obj->kind == REC_VEVENTQ) {
        if (obj->fd >= 0 && fcntl(obj->fd, F_GETFD) >= 0) {
            g_error("a vEVENTQ is destroyed with its fd open");
        }
        close(obj->feed);
    }
    memcpy(call.ste, obj->ste, sizeof(call.ste));
    g_mutex_lock(&host->lock);
    if (obj->users) {
        host->busy++;
        record(host, call, -EBUSY);
        return;
    }
    if (obj->kind == REC_VDEVICE) {
        obj->dev->vdevice = NULL;
    }
    obj->parent->users--;
    g_ptr_array_remove(host->objects, obj);
    record(host, call, 0);
}

static int rec_events_free(SMMUv3Host *host, uint32_t id, int fd, bool wait)
{
    if (fd >= 0) {
        close(fd);
        find(host, id)->fd = -1;
    }
    if (host->veventq_busy && !wait) {
        host->veventq_busy--;
        return -EBUSY;
    }
    rec_destroy(host, id);
    return 0;
}

const SMMUv3HostOps rec_ops = {
    .nest = rec_nest,
    .name = rec_name,
    .host = rec_host,
    .host_id = rec_host_id,
    .stage2 = rec_stage2,
    .info = rec_info,
    .viommu_alloc = rec_viommu_alloc,
    .vdevice_alloc = rec_vdevice_alloc,
    .hwpt_alloc = rec_hwpt_alloc,
    .attach = rec_attach,
    .detach = rec_detach,
    .invalidate = rec_invalidate,
    .events_alloc = rec_events_alloc,
    .events_read = rec_events_read,
    .events_free = rec_events_free,
    .destroy = rec_destroy,
};

SMMUv3Host *rec_host_new(void)
{
    SMMUv3Host *host = g_new0(SMMUv3Host, 1);

    g_mutex_init(&host->lock);
    host->objects = g_ptr_array_new_with_free_func(g_free);
    host->events = g_array_new(false, true, sizeof(RecEvent));
    host->done = g_array_new(false, true, sizeof(SMMUv3HostCmd));
    host->issued = g_array_new(false, true, sizeof(SMMUv3HostCmd));
    return host;
}

void rec_host_free(SMMUv3Host *host)
{
    for (unsigned i = 0; i < host->objects->len; i++) {
        RecObject *obj = g_ptr_array_index(host->objects, i);

        if (obj->kind != REC_STAGE2) {
            g_error("leaked object %u of kind %d, StreamID 0x%x, STE 0x%"
                    PRIx64 " 0x%" PRIx64, obj->id, obj->kind, obj->sid,
                    obj->ste[0], obj->ste[1]);
        }
    }
    g_ptr_array_unref(host->objects);
    g_array_unref(host->events);
    g_array_unref(host->done);
    g_array_unref(host->issued);
    g_mutex_clear(&host->lock);
    g_free(host);
}

uint32_t rec_stage2_new(SMMUv3Host *host)
{
    return new_object(host, REC_STAGE2, NULL)->id;
}

void rec_device_init(SMMUv3HostDevice *dev, SMMUv3Host *host, const char *name,
                     uint32_t stage2)
{
    *dev = (SMMUv3HostDevice) { .name = name, .host = host, .stage2 = stage2 };
    move(dev, object_of(host, stage2, REC_STAGE2));
}

SMMUv3AccelStream *rec_stream_new(SMMUv3AccelVsmmu *vsmmu,
                                  SMMUv3HostDevice *dev,
                                  const SMMUv3HostInfo *info, Error **errp)
{
    SMMUv3AccelStream *stream = g_new0(SMMUv3AccelStream, 1);

    if (!smmuv3_accel_stream_init(stream, vsmmu, dev, info, errp)) {
        g_free(stream);
        return NULL;
    }
    return stream;
}

void rec_stream_free(SMMUv3AccelStream *stream)
{
    smmuv3_accel_stream_fini(stream);
    g_free(stream);
}

void rec_device_release(SMMUv3HostDevice *dev)
{
    move(dev, NULL);
}

unsigned rec_count(const SMMUv3Host *host, RecKind kind)
{
    unsigned n = 0;

    for (unsigned i = 0; i < host->objects->len; i++) {
        RecObject *obj = g_ptr_array_index(host->objects, i);

        n += obj->kind == kind;
    }
    return n;
}

const uint64_t *rec_attached_ste(const SMMUv3HostDevice *dev)
{
    return dev->attached && dev->attached->kind == REC_HWPT ? dev->attached->ste
                                                            : NULL;
}

void rec_forget(SMMUv3Host *host)
{
    g_mutex_lock(&host->lock);
    g_array_set_size(host->events, 0);
    g_array_set_size(host->done, 0);
    g_array_set_size(host->issued, 0);
    host->calls = 0;
    host->busy = 0;
    g_mutex_unlock(&host->lock);
}

const char *rec_config_name(const uint64_t ste[2])
{
    switch (STE_CONFIG(ste)) {
    case 4:
        return "bypass";
    case 5:
        return "s1";
    default:
        return "abort";
    }
}

const char *rec_call_name(RecCall call)
{
    static const char *const names[REC__MAX] = {
        [REC_NEST] = "nest",
        [REC_INFO] = "info",
        [REC_VIOMMU_ALLOC] = "viommu",
        [REC_VDEVICE_ALLOC] = "vdevice",
        [REC_HWPT_ALLOC] = "hwpt",
        [REC_ATTACH] = "attach",
        [REC_DETACH] = "detach",
        [REC_INVALIDATE] = "invalidate",
        [REC_EVENTS_ALLOC] = "events",
        [REC_EVENTS_READ] = "read",
        [REC_DESTROY] = "destroy",
    };

    return names[call];
}

static const char *kind_name(const RecEvent *e)
{
    return e->kind == REC_VIOMMU ? "viommu" :
           e->kind == REC_VDEVICE ? "vdevice" :
           e->kind == REC_VEVENTQ ? "veventq" : rec_config_name(e->ste);
}

char *rec_story(SMMUv3Host *host)
{
    GString *s = g_string_new(NULL);

    g_mutex_lock(&host->lock);
    for (unsigned i = 0; i < host->events->len; i++) {
        const RecEvent *e = &g_array_index(host->events, RecEvent, i);

        g_string_append_printf(s, "%s%s", i ? " " : "", rec_call_name(e->call));
        switch (e->call) {
        case REC_VDEVICE_ALLOC:
            g_string_append_printf(s, ":%x", e->sid);
            break;
        case REC_HWPT_ALLOC:
        case REC_ATTACH:
            g_string_append_printf(s, ":%s", rec_config_name(e->ste));
            break;
        case REC_INVALIDATE:
            g_string_append_printf(s, ":%u", e->n);
            break;
        case REC_DESTROY:
            g_string_append_printf(s, ":%s", kind_name(e));
            break;
        default:
            break;
        }
        if (e->ret) {
            g_string_append_printf(s, "(%d)", e->ret);
        }
    }
    g_mutex_unlock(&host->lock);
    return g_string_free(s, false);
}

char *rec_commands(SMMUv3Host *host)
{
    GString *s = g_string_new(NULL);

    g_mutex_lock(&host->lock);
    for (unsigned i = 0; i < host->done->len; i++) {
        const SMMUv3HostCmd *cmd = &g_array_index(host->done, SMMUv3HostCmd, i);

        g_string_append_printf(s, "%s%" PRIx64 ":%" PRIx64, i ? " " : "",
                               le64_to_cpu(cmd->word[0]),
                               le64_to_cpu(cmd->word[1]));
    }
    g_mutex_unlock(&host->lock);
    return g_string_free(s, false);
}

int rec_fail_nth(SMMUv3Host *host, const RecEvent *call, void *opaque)
{
    RecFailNth *fail_nth = opaque;

    return fail_nth->nth && !--fail_nth->nth ? fail_nth->err : 0;
}
