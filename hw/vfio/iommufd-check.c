/*
 * VFIO by iommufd: what an admin has to know when a device is refused
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/sysmacros.h>
#include "hw/pci/pci_ids.h"
#include "hw/vfio/vfio-common.h"
#include "qapi/error.h"
#include "iommufd-check.h"

void vfio_iommufd_explain_open(Error **errp, const VFIODevice *vbasedev)
{
    g_autofree char *group = g_build_filename(vbasedev->sysfsdev,
                                              "iommu_group", NULL);
    g_autofree char *file = g_build_filename(group, "name", NULL);
    g_autofree char *vfio_dev = g_build_filename(vbasedev->sysfsdev, "vfio-dev",
                                                 NULL);
    g_autofree char *name = NULL;

    if (vbasedev->mdev) {
        return;
    }
    if (access(group, F_OK)) {
        error_prepend(errp, "the device has no IOMMU in the host: %s has no "
                      "iommu_group; is the SMMU off in the host's firmware "
                      "settings, or its driver not in the kernel? ",
                      vbasedev->sysfsdev);
    } else if (g_file_get_contents(file, &name, NULL, NULL) &&
               g_str_has_prefix(name, "vfio-noiommu")) {
        error_prepend(errp, "the device has no IOMMU in the host: its group is "
                      "'vfio-noiommu', which cannot be assigned: ");
    } else if (access(vfio_dev, F_OK)) {
        error_prepend(errp, "is the device bound to vfio-pci, and does the "
                      "host's kernel have CONFIG_VFIO_DEVICE_CDEV? ");
    }
}

void vfio_iommufd_explain_bind(Error **errp, int err)
{
    switch (err) {
    case EINVAL:
        error_prepend(errp, "one of these: the device is in use already; it "
                      "has no IOMMU in the host; its DMA is not cache coherent "
                      "there; or the host's firmware wants a 1:1 mapping for "
                      "it, and then the host's log says \"Firmware has "
                      "requested this device have a 1:1 IOMMU mapping\": ");
        break;
    case EPERM:
        error_prepend(errp, "a driver of the host or another iommufd owns "
                      "another device of its IOMMU group: bind all of them to "
                      "vfio-pci, and give all of them the same iommufd=; or "
                      "the host does not isolate MSIs: ");
        break;
    case EBUSY:
        error_prepend(errp, "its IOMMU group is open by /dev/vfio/GROUP, or "
                      "the host itself uses the group: ");
        break;
    case ENODEV:
        error_prepend(errp, "the device has no IOMMU in the host: ");
        break;
    }
}

/* Is the device a bridge of PCI to PCI?  @dir: where sysfs has it */
static bool is_bridge(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, "class", NULL);
    g_autofree char *text = NULL;

    /* base class, subclass and interface: three bytes */
    return g_file_get_contents(path, &text, NULL, NULL) &&
           g_ascii_strtoull(text, NULL, 16) >> 8 == PCI_CLASS_BRIDGE_PCI;
}

/*
 * Returns the names of the other devices of the IOMMU group, or NULL if there
 * are none or sysfs does not tell.  The file's number leads there, even if QEMU
 * got the open file and nothing else.
 * @bridge: set to whether one of them is a bridge
 */
static char *group_mates(const VFIODevice *vbasedev, bool *bridge)
{
    g_autofree char *device = NULL, *link = NULL, *group = NULL, *self = NULL;
    g_autoptr(GString) mates = g_string_new(NULL);
    g_autoptr(GDir) dir = NULL;
    const char *name;
    struct stat st;

    if (fstat(vbasedev->fd, &st) < 0) {
        return NULL;
    }
    device = g_strdup_printf("/sys/dev/char/%u:%u/device", major(st.st_rdev),
                             minor(st.st_rdev));
    link = g_file_read_link(device, NULL);
    group = g_build_filename(device, "iommu_group", "devices", NULL);
    dir = g_dir_open(group, 0, NULL);
    if (!link || !dir) {
        return NULL;
    }
    self = g_path_get_basename(link);
    while ((name = g_dir_read_name(dir))) {
        if (strcmp(name, self)) {
            bool bridges = is_bridge(group, name);

            g_string_append_printf(mates, "%s%s%s", mates->len ? ", " : "",
                                   name, bridges ? " (a bridge)" : "");
            *bridge |= bridges;
        }
    }
    return mates->len ? g_strdup(mates->str) : NULL;
}

bool vfio_iommufd_check_group(const VFIODevice *vbasedev, Error **errp)
{
    bool bridge = false;
    g_autofree char *mates = group_mates(vbasedev, &bridge);

    if (mates) {
        error_setg(errp, "%s shares its IOMMU group in the host with %s, and "
                   "the host translates a guest's stage 1 only for a device "
                   "that is alone in its group: use a slot with ACS, or %s",
                   vbasedev->name, mates, bridge ?
                   "assign the device without accel=on; the bridge must stay, "
                   "because the device is behind it" :
                   "remove the other device in the host (echo 1 > "
                   "/sys/bus/pci/devices/NAME/remove), or assign both without "
                   "accel=on");
        return false;
    }
    return true;
}
