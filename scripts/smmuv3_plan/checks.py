"""Can this host do it, and what is missing: one list of checks.

A check says what it reads, where its rule is from, what it found and what to do.
"Linux" is 7.3's source.  "smmuv3.rst" is docs/system/arm/smmuv3.rst.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

from dataclasses import dataclass

from .host import Device, Host
from .machine import size_text

OK, MISSING, UNKNOWN, NOTE = "ok", "missing", "unknown", "note"
LEAST_KERNEL = (6, 19)


@dataclass
class Result:
    check: str
    verdict: str
    text: str
    remedy: str = None
    device: str = None
    reads: str = ""
    rule: str = ""


@dataclass
class Check:
    name: str
    reads: str
    rule: str
    function: object
    of_device: bool


CHECKS = []


def check(name, reads, rule, of_device=False):
    def register(function):
        CHECKS.append(Check(name, reads, rule, function, of_device))
        return function
    return register


@dataclass
class Question:
    """What the checks are asked about."""
    host: Host
    memory: int
    devices: list
    answers: dict               # of probe.ask(), by address
    refusals: dict              # why a device could not be asked


def run(question):
    """The results of all checks, those of the host first."""
    results = []
    other = question.host.arch not in (None, "aarch64", "arm64")
    for one in (c for c in CHECKS if not c.of_device):
        # On another architecture the rest is of no use
        if other and one.name not in ("architecture", "SMMUv3"):
            continue
        for result in one.function(question):
            results.append(finish(result, one))
    for device in question.devices:
        for one in (c for c in CHECKS if c.of_device):
            # Without an SMMUv3 the rest is of no use
            if device.smmu not in question.host.smmus and one.name not in ("SMMU", "kind"):
                continue
            for result in one.function(question, device):
                results.append(finish(result, one, device.address))
    return results


def finish(result, one, device=None):
    verdict, text, *remedy = result
    return Result(one.name, verdict, text, remedy[0] if remedy else None, device,
                  one.reads, one.rule)


# --- the host ----------------------------------------------------------------

@check("architecture", "/proc/sys/kernel/arch", "Linux drivers/iommu/arm/Kconfig: ARM64")
def architecture(q):
    arch = q.host.arch
    if arch is None:
        yield (OK, "arm64, since it has an SMMUv3") if q.host.smmus else (
            UNKNOWN, "the host does not say what it is", "copy /proc/sys/kernel/arch too")
    elif arch in ("aarch64", "arm64"):
        yield OK, "arm64"
    else:
        yield (MISSING, f"{arch}: only an Arm server has an SMMUv3",
               "for this computer use -device intel-iommu or -device amd-iommu")


@check("kernel", "/proc/sys/kernel/osrelease",
       "smmuv3.rst, Requirements: a bypass vSTE attaches without a vDEVICE since 6.19")
def kernel(q):
    least = "{}.{}".format(*LEAST_KERNEL)
    if q.host.version is None:
        yield UNKNOWN, "the host does not say its version", f"it needs Linux {least} or later"
    elif q.host.version < LEAST_KERNEL:
        yield (MISSING, f"Linux {q.host.release} is too old",
               f"install Linux {least} or later")
    else:
        yield OK, f"Linux {q.host.release}"


OPTIONS = {
    # Linux drivers/iommu/iommufd/Kconfig, drivers/vfio/Kconfig, drivers/vfio/pci/Kconfig,
    # drivers/iommu/arm/Kconfig
    "IOMMUFD": "my",
    "VFIO_DEVICE_CDEV": "y",
    "VFIO_PCI": "my",
    "ARM_SMMU_V3": "my",
    "ARM_SMMU_V3_IOMMUFD": "y",
}


@check("kernel options", "/proc/config.gz, /boot/config-RELEASE",
       "smmuv3.rst, Requirements; Linux Kconfig files")
def options(q):
    config = q.host.config
    if config is None:
        yield (UNKNOWN, "no file with the kernel's options can be read",
               "see that these are set: " + " ".join("CONFIG_" + n for n in OPTIONS))
        return
    lacking = [n for n, values in OPTIONS.items() if config.get(n, "n") not in values]
    if lacking:
        yield (MISSING, "not set: " + " ".join("CONFIG_" + n for n in lacking),
               "use a kernel that has them; Debian's arm64 kernels up to 7.3 do not")
    else:
        yield OK, " ".join(OPTIONS)
    if any(s.cmdqv for s in q.host.smmus.values()) and config.get("TEGRA241_CMDQV") != "y":
        yield (NOTE, "CONFIG_TEGRA241_CMDQV is not set, so that cmdqv=on runs in software",
               "set it, to let guests use the host's CMDQV")


@check("peer to peer", "/proc/config.gz, /boot/config-RELEASE",
       "smmuv3.rst, Peer to peer; Linux drivers/vfio/pci/Kconfig, VFIO_PCI_DMABUF")
def peers(q):
    if q.host.config is None:
        yield UNKNOWN, "it needs CONFIG_PCI_P2PDMA", "see that it is set, if drivers want it"
    elif q.host.config.get("PCI_P2PDMA") != "y":
        yield (NOTE, "CONFIG_PCI_P2PDMA is not set, so that the devices of a guest do not reach "
               "each other's BARs", "set it, for drivers that want that")
    else:
        yield OK, "CONFIG_PCI_P2PDMA"


@check("/dev/iommu", "/dev/iommu", "Linux drivers/iommu/iommufd/main.c: mode 0660")
def dev_iommu(q):
    if not q.host.live:
        yield UNKNOWN, "a copy does not show /dev", "see that QEMU's user may open /dev/iommu"
        return
    rights = q.host.rights("/dev/iommu")
    if rights is None:
        yield MISSING, "it does not exist", "modprobe iommufd"
    elif not rights:
        yield (MISSING, "this user may not open it",
               "run QEMU as root or by libvirt, or pass the open file: -object iommufd,"
               "id=iommufd0,fd=N, or give the user rights by a udev rule")
    else:
        yield OK, "may be opened"


@check("memory lock", "RLIMIT_MEMLOCK, /proc/self/status",
       "smmuv3.rst, Hosts: the kernel locks all of the guest's memory")
def memlock(q):
    if not q.host.live:
        yield (UNKNOWN, "a copy does not show the limit",
               f"see that 'ulimit -l' is above {q.memory >> 10} (KiB)")
        return
    limit = q.host.memlock
    if limit is None:
        yield OK, "no limit for this user"
    elif limit <= q.memory:
        yield (MISSING, f"this user may lock {size_text(limit)}, and the guest has "
               f"{size_text(q.memory)}",
               "raise it: ulimit -l, LimitMEMLOCK= in systemd, <hard_limit> in libvirt; "
               "it counts all machines of the user")
    else:
        yield OK, f"{size_text(limit)}"


@check("SMMUv3", "/sys/class/iommu", "Linux arm-smmu-v3.c: smmu3.BASE for each")
def smmus(q):
    host = q.host
    if host.smmus:
        yield OK, f"{len(host.smmus)} of them"
    elif host.iommus:
        names = ", ".join(host.iommus[:4]) + (", ..." if len(host.iommus) > 4 else "")
        yield (MISSING, f"the host's IOMMUs are no SMMUv3s: {names}",
               "assign devices without an accelerated SMMUv3 on this host")
    elif host.arch not in (None, "aarch64", "arm64"):
        yield MISSING, "there is none"
    else:
        yield (MISSING, "the host has no IOMMU that is in use",
               "turn the SMMU on in the firmware's settings, and see that the kernel has "
               "CONFIG_ARM_SMMU_V3")


@check("firmware", "/sys/firmware/acpi/tables/IORT", "Linux drivers/acpi/arm64/iort.c")
def firmware(q):
    host = q.host
    if not host.smmus:
        return
    if host.iort:
        yield OK, f"an IORT, in which SMMUv3s: {len(host.iort.smmus)}"
    elif host.exists("/sys/firmware/acpi/tables"):
        yield (UNKNOWN, "the table IORT cannot be read", "run this as root")
    elif host.exists("/sys/firmware/devicetree/base"):
        yield NOTE, "a device tree, which cannot promise CANWBS: the SMMU must have FWB"
    else:
        yield UNKNOWN, "neither ACPI tables nor a device tree can be read"


@check("CMDQV", "/sys/bus/acpi/devices/NVDA200C*",
       "Linux arm-smmu-v3.c: acpi_smmu_dsdt_probe_tegra241_cmdqv()")
def cmdqv(q):
    known = [s for s in q.host.smmus.values() if s.cmdqv is not None]
    if not q.host.smmus:
        return
    count = sum(bool(s.cmdqv) for s in known)
    if len(known) < len(q.host.smmus):
        yield UNKNOWN, "which SMMUs have one stands in the IORT", "run this as root"
    elif count:
        yield OK, f"{count} of {len(known)} SMMUs have one; cmdqv=on lets a guest use it"
    else:
        yield OK, "none; cmdqv=on works all the same, in software"


@check("erratum", "/sys/class/iommu/*/device/of_node/compatible",
       "Linux arm-smmu-v3.c: arm_smmu_erratum_repeat_tlbi_cfgi_key")
def erratum(q):
    bad = [s.name for s in q.host.smmus.values() if s.erratum]
    asked = [a for a in q.answers.values() if a.erratum]
    if bad or asked:
        yield NOTE, "T264-SMMU-3: QEMU repeats the commands; nothing is to be done"
    elif q.host.smmus:
        yield OK, "T264-SMMU-3 is not here"


# --- each device -------------------------------------------------------------

@check("SMMU", "iommu in the device's sysfs", "Linux drivers/iommu/iommu-sysfs.c", True)
def smmu(q, device):
    if device.smmu is None:
        yield (MISSING, "no IOMMU of the host translates for it",
               "see that the SMMU is on in the firmware's settings, and that its driver "
               "is in the kernel")
    elif device.smmu not in q.host.smmus:
        yield (MISSING, f"its IOMMU {device.smmu} is no SMMUv3", "assign it without accel=on")
    else:
        yield OK, device.smmu


@check("kind", "class in the device's sysfs", "Linux vfio_pci_core.c: normal headers only", True)
def endpoint(_, device):
    if device.cls is None:
        yield MISSING, "its class cannot be read", "see whether the device answers: lspci"
    elif device.bridge:
        yield MISSING, "it is a bridge", "name the devices behind it"
    else:
        yield OK, device.kind


@check("above it", "config of the bridges", "smmuv3.rst, Limits", True)
def above(_, device):
    if device.behind:
        yield (MISSING, f"the PCIe-to-PCI bridge {device.behind} is above it, and requests "
               "have that one's StreamID", "use another slot")


@check("IOMMU group", "/sys/kernel/iommu_groups/N/devices", "smmuv3.rst, Hosts", True)
def group(q, device):
    others = q.host.group_of(device)
    if device.group is None:
        if device.smmu:
            yield MISSING, "it has no IOMMU group", "see the host's log for its SMMU"
    elif others:
        bridges = [o for o in others if o in q.host.devices and q.host.devices[o].bridge]
        yield (MISSING, f"group {device.group} has {', '.join(others)} as well, and Linux has "
               "one translation for all of a group",
               "use a slot with ACS, or assign the device without accel=on"
               + (f"; the bridge {bridges[0]} must stay" if bridges else
                  ", or remove what the guest does not need: "
                  f"echo 1 > /sys/bus/pci/devices/{others[0]}/remove"))
    else:
        yield OK, f"alone in group {device.group}"


@check("1:1 mapping", "/sys/kernel/iommu_groups/N/reserved_regions",
       "Linux drivers/iommu/iommu.c: require_direct", True)
def direct(q, device):
    regions = q.host.direct_regions(device) if device.group else []
    if regions:
        yield (MISSING, f"firmware wants {regions[0].split()[0]} mapped one to one, so that "
               "Linux gives the device to nobody",
               "ask the vendor for firmware without an RMR for this device")


@check("driver", "driver and vfio-dev in the device's sysfs",
       "Linux Documentation/ABI/testing/sysfs-devices-vfio-dev", True)
def driver(_, device):
    top = f"/sys/bus/pci/devices/{device.address}"
    bind = (f"echo vfio-pci > {top}/driver_override; "
            + (f"echo {device.address} > {top}/driver/unbind; " if device.driver else "")
            + f"echo {device.address} > /sys/bus/pci/drivers_probe"
            + " (libvirt does it by itself: managed='yes')")
    if device.vfio:
        yield OK, f"{device.driver} ({device.vfio})"
    elif device.driver and "vfio" in device.driver:
        yield (MISSING, f"{device.driver} has it, but it has no vfio-dev directory",
               "use a kernel with CONFIG_VFIO_DEVICE_CDEV")
    elif device.driver:
        yield MISSING, f"{device.driver} has it", f"modprobe vfio-pci; {bind}"
    else:
        yield MISSING, "no driver has it", f"modprobe vfio-pci; {bind}"


@check("rights", "/dev/vfio/devices", "Linux drivers/vfio/device_cdev.c", True)
def rights(q, device):
    if not device.vfio or not q.host.live:
        return
    path = f"/dev/vfio/devices/{device.vfio}"
    may = q.host.rights(path)
    if may is None:
        yield MISSING, f"{path} does not exist", "use a kernel with CONFIG_VFIO_DEVICE_CDEV"
    elif not may:
        yield (MISSING, f"this user may not open {path}",
               "run QEMU as root or by libvirt, or pass the open file: vfio-pci,fd=N")
    else:
        yield OK, path


@check("nesting", "IORT; IOMMU_VIOMMU_ALLOC with --probe",
       "Linux arm-smmu-v3-iommufd.c: arm_smmu_get_viommu_size()", True)
def nesting(q, device):
    answer = q.answers.get(device.address)
    complex_ = q.host.complex_of(device)
    if answer:
        if answer.nests:
            yield OK, "the kernel made a vIOMMU for it"
            return
        fwb = "" if answer.get("fwb") or not answer.smmuv3 else (
            "; IDR3.FWB is 0, so that firmware must promise CANWBS")
        old = answer.old_revision()
        yield (MISSING, answer.why_not + (f" ({old})" if old else "") + fwb,
               "see smmuv3.rst, Requirements; assign it without accel=on")
    elif device.smmu in q.host.smmus:
        wbs = ("firmware promises CANWBS, but whether the SMMU has both stages is unknown"
               if complex_ and complex_.canwbs else
               "FWB is unknown, and firmware does not promise CANWBS" if complex_ else
               "FWB is unknown")
        reason = q.refusals.get(device.address)
        yield (UNKNOWN, wbs + (f" (not asked: {reason})" if reason else ""),
               "run this with --probe, as root, when a VFIO driver has the device")


@check("ATS", "IORT; config; IOMMU_GET_HW_INFO with --probe",
       "Linux iort.c: iort_pci_rc_supports_ats()", True)
def ats(q, device):
    answer = q.answers.get(device.address)
    complex_ = q.host.complex_of(device)
    if answer:
        yield OK, "the host lets it use ATS" if answer.ats else "none"
    elif device.ats is False:
        yield OK, "the device has none"
    elif complex_ and not complex_.ats:
        yield OK, "none: firmware says that the root complex has none"
    elif device.ats and complex_:
        yield OK, "the device and the root complex have it"
    elif device.smmu in q.host.smmus:
        yield UNKNOWN, "the device's capabilities or the IORT cannot be read", "run this as root"


@check("PASIDs", "config; IOMMU_GET_HW_INFO with --probe",
       "Linux iommufd/device.c: out_max_pasid_log2", True)
def pasids(q, device):
    answer = q.answers.get(device.address)
    if answer:
        yield OK, f"{answer.pasid} bits" if answer.pasid else "none"
    elif device.pasid == 0:
        yield OK, "the device has none"
    elif device.pasid:
        yield OK, f"the device has {device.pasid} bits; the SMMU may have fewer"
    elif device.smmu in q.host.smmus:
        yield UNKNOWN, "the device's capabilities cannot be read", "run this as root"


# The checks without which a device cannot be in a plan.  A driver can be bound later.
BLOCKING = ("SMMU", "kind", "above it", "IOMMU group", "1:1 mapping")


def blocking(host, device):
    """Why the device cannot be behind an accelerated SMMUv3, or None."""
    assert isinstance(device, Device)
    question = Question(host, 0, [device], {}, {})
    for one in CHECKS:
        if one.name in BLOCKING and one.of_device:
            for verdict, text, *_ in one.function(question, device):
                if verdict == MISSING:
                    return text
    return None
