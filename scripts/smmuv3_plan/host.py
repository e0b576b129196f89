"""A host as its sysfs shows it, or a copy of that below another directory.

Nothing here fails because of what a file says.  What is missing is None, and what
cannot be understood is a line in Host.problems as well.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import gzip
import os
import re
import resource
import stat
import zlib
from dataclasses import dataclass, field
from functools import cached_property

from . import iort

ADDRESS = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.I)
LARGEST = 1 << 20           # of a file that is read
MOST_LINKS = 40             # on the way to a file

# include/linux/ioport.h: the flags in the third column of "resource"
IORESOURCE_IO = 0x100
IORESOURCE_MEM = 0x200
IORESOURCE_PREFETCH = 0x2000
IORESOURCE_MEM_64 = 0x100000
BARS = 6
ROM = 6                     # its line in "resource" (include/linux/pci.h)

# include/uapi/linux/pci_regs.h
CAP_EXPRESS = 0x10
EXT_CAP_ATS = 0x0f
EXT_CAP_PASID = 0x1b
EXPRESS_TO_PCI_BRIDGE = 7

CLASSES = {0x01: "storage", 0x02: "network", 0x03: "display", 0x04: "multimedia",
           0x06: "bridge", 0x0b: "processor", 0x0c: "serial bus", 0x12: "accelerator"}
BRIDGES = (0x0600, 0x0604, 0x0607, 0x0609)      # include/linux/pci_ids.h
NAMES = {0x0106: "SATA", 0x0107: "SAS", 0x0108: "NVMe", 0x0302: "GPU", 0x0403: "audio",
         0x0c03: "USB", 0x1000: "crypto", 0x0b40: "co-processor"}


def full_address(text):
    """TEXT as sysfs writes a PCI address, or None."""
    found = ADDRESS.fullmatch(text)
    if not found:
        return None
    return f"{found[1] or '0000'}:{found[2]}:{found[3]}.{found[4]}".lower()


@dataclass
class Bar:
    number: int
    size: int
    io: bool
    wide: bool              # may be above 4 GiB
    prefetch: bool


@dataclass
class Device:
    address: str
    vendor: int = None
    device: int = None
    cls: int = None         # 24 bits
    node: int = None        # NUMA node
    bars: list = field(default_factory=list)
    driver: str = None
    smmu: str = None        # name of the IOMMU in /sys/class/iommu
    group: str = None
    vfio: str = None        # vfioN, if a VFIO driver has it
    ats: bool = None        # has the capability
    pasid: int = None       # its width, 0: no capability
    behind: str = None      # a PCIe-to-PCI bridge
    header: int = 0         # type of its configuration space

    @property
    def segment(self):
        return int(self.address.split(":")[0], 16)

    @property
    def bridge(self):
        return self.header in (1, 2) or self.cls is not None and self.cls >> 8 in BRIDGES

    @property
    def kind(self):
        if self.cls is None:
            return "unknown class"
        return NAMES.get(self.cls >> 8) or CLASSES.get(self.cls >> 16, f"class {self.cls:06x}")


@dataclass
class Smmu:
    name: str
    base: int = None
    identifier: int = None  # of its node in the IORT
    cmdqv: bool = None
    erratum: bool = False   # T264-SMMU-3
    devices: list = field(default_factory=list)


class Host:
    def __init__(self, root="/"):
        self.root = os.path.realpath(root)
        self.live = self.root == "/"
        self.problems = []

    # --- files ---------------------------------------------------------------

    def problem(self, path, why):
        line = f"{path}: {why}"
        if line not in self.problems:
            self.problems.append(line)

    def find(self, path):
        """Where PATH is, with links followed as if the root were that of the host."""
        left = [p for p in path.split("/") if p]
        done, links = [], 0
        while left:
            part = left.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            here = "/".join([self.root.rstrip("/"), *done, part])
            if part == "." or not os.path.islink(here):
                done += [part] if part != "." else []
                continue
            links += 1
            if links > MOST_LINKS:
                return None
            target = os.readlink(here)
            if target.startswith("/"):
                done = []
            left = [p for p in target.split("/") if p] + left
        return "/".join([self.root.rstrip("/"), *done]) or "/"

    def exists(self, path):
        place = self.find(path)
        return place is not None and os.path.exists(place)

    def names(self, path):
        """The names in a directory, sorted; empty if there is none."""
        place = self.find(path)
        try:
            return sorted(os.listdir(place)) if place else []
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as e:
            self.problem(path, e.strerror)
            return []

    def link(self, path):
        """The last part of what a link points to, or None."""
        parent, name = os.path.split(path)
        place = self.find(parent)
        try:
            return os.path.basename(os.readlink(os.path.join(place, name))) if place else None
        except OSError:
            return None

    def data(self, path, most=LARGEST, quiet=False):
        """The bytes of a file, or None."""
        place = self.find(path)
        try:
            if place is None:
                raise OSError(0, "its links do not end")
            if not stat.S_ISREG(os.stat(place).st_mode):
                raise OSError(0, "it is not a file")
            with open(place, "rb") as f:
                return f.read(most)
        except FileNotFoundError:
            return None
        except PermissionError:
            if not quiet:
                self.problem(path, "may not be read by this user")
            return None
        except (OSError, ValueError) as e:
            self.problem(path, getattr(e, "strerror", None) or str(e))
            return None

    def text(self, path):
        data = self.data(path)
        # What tar pads a file of sysfs with is no text
        return None if data is None else data.decode(errors="replace").strip("\0 \t\r\n")

    def number(self, path, base=0):
        text = self.text(path)
        if text is None:
            return None
        try:
            return int(text, base)
        except ValueError:
            self.problem(path, f"is not a number: {text[:20]!r}")
            return None

    # --- the kernel ----------------------------------------------------------

    @cached_property
    def arch(self):
        """The architecture (/proc/sys/kernel/arch is there since Linux 6.1), or None."""
        arch = self.text("/proc/sys/kernel/arch")
        return arch or (os.uname().machine if self.live else None)

    @cached_property
    def release(self):
        release = self.text("/proc/sys/kernel/osrelease")
        if not release:
            found = re.match(r"Linux version (\S+)", self.text("/proc/version") or "")
            release = found[1] if found else None
        return release or None

    @cached_property
    def version(self):
        """(major, minor) of the kernel, or None."""
        found = re.match(r"(\d+)\.(\d+)", self.release or "")
        if self.release and not found:
            self.problem("/proc/sys/kernel/osrelease", f"is no version: {self.release[:30]!r}")
        return (int(found[1]), int(found[2])) if found else None

    @cached_property
    def config(self):
        """The kernel's options: NAME to value, or None if no file has them."""
        for path in ("/proc/config.gz", f"/boot/config-{self.release}",
                     f"/lib/modules/{self.release}/config"):
            data = self.data(path, 8 * LARGEST)
            if data is None:
                continue
            if path.endswith(".gz"):
                try:
                    data = gzip.decompress(data)
                except (OSError, EOFError, zlib.error) as e:
                    self.problem(path, f"cannot be unpacked: {e}")
                    continue
            found = re.findall(r"^CONFIG_(\w+)=(.*)$", data.decode(errors="replace"), re.M)
            if found:
                return dict(found)
            self.problem(path, "has no options")
        return None

    def rights(self, path):
        """May this user read and write the device node?  None: there is none."""
        place = self.find(path)
        if not self.exists(path):
            return None
        return os.access(place, os.R_OK | os.W_OK)

    @cached_property
    def memlock(self):
        """Bytes that a process of this user may lock, or None for any number."""
        caps = re.search(r"^CapEff:\s*([0-9a-f]+)$", self.text("/proc/self/status") or "", re.M)
        if caps and int(caps[1], 16) >> 14 & 1:             # CAP_IPC_LOCK
            return None
        soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        return None if soft == resource.RLIM_INFINITY else soft

    @cached_property
    def nodes(self):
        """NUMA nodes that have CPUs."""
        top = "/sys/devices/system/node"
        return [int(n[4:]) for n in self.names(top) if re.fullmatch(r"node\d{1,5}", n)
                and self.text(f"{top}/{n}/cpulist")]

    # --- SMMUs ---------------------------------------------------------------

    @cached_property
    def iort(self):
        path = "/sys/firmware/acpi/tables/IORT"
        data = self.data(path, quiet=True)
        if data is None:
            return None
        try:
            return iort.parse(data)
        except iort.BadTable as e:
            self.problem(path, str(e))
            return None

    @cached_property
    def iommus(self):
        """Names of all IOMMUs, of any kind."""
        return self.names("/sys/class/iommu")

    @cached_property
    def smmus(self):
        """SMMUv3s, by name.  The driver names them smmu3.0xBASE (arm-smmu-v3.c)."""
        found = {}
        for name in self.iommus:
            match = re.fullmatch(r"smmu3\.(?:0x)?([0-9a-f]{1,16})", name)
            if match:
                smmu = found[name] = Smmu(name, int(match[1], 16))
                self._companions(smmu)
        for device in self.devices.values():
            if device.smmu in found:
                found[device.smmu].devices.append(device.address)
        return found

    def _companions(self, smmu):
        # acpi_smmu_dsdt_probe_tegra241_cmdqv(): NVDA200C with the node's identifier
        if self.iort:
            smmu.identifier = self.iort.smmus.get(smmu.base)
            smmu.cmdqv = smmu.identifier is not None and str(smmu.identifier) in self.cmdqvs
        elif not self.cmdqvs:
            smmu.cmdqv = False
        # The key is set for this compatible only (arm_smmu_device_dt_probe())
        node = f"/sys/class/iommu/{smmu.name}/device/of_node"
        compatible = self.text(f"{node}/compatible") or ""
        smmu.erratum = "nvidia,tegra264-smmu" in compatible.split("\0")
        if self.exists(f"{node}/nvidia,cmdqv"):
            smmu.cmdqv = True

    @cached_property
    def cmdqvs(self):
        """The _UIDs of the ACPI devices NVDA200C."""
        top = "/sys/bus/acpi/devices"
        return [self.text(f"{top}/{n}/uid") for n in self.names(top)
                if n.startswith("NVDA200C:")]

    # --- PCI devices ---------------------------------------------------------

    @cached_property
    def devices(self):
        """All PCI devices, by address."""
        found = {}
        for name in self.names("/sys/bus/pci/devices"):
            address = full_address(name)
            if address != name:
                self.problem(f"/sys/bus/pci/devices/{name[:40]!r}", "is no PCI address")
                continue
            found[address] = self._device(address)
        return found

    def _device(self, address):
        top = f"/sys/bus/pci/devices/{address}"
        device = Device(address)
        device.vendor = self.number(f"{top}/vendor")
        device.device = self.number(f"{top}/device")
        device.cls = self.number(f"{top}/class")
        if device.cls is None:
            self.problem(f"{top}/class", "is missing or unreadable")
        node = self.number(f"{top}/numa_node", 10)
        if node is not None and not -1 <= node < 1024:
            self.problem(f"{top}/numa_node", f"is not a node: {node}")
            node = None
        device.node = None if node == -1 else node
        device.bars = self._bars(f"{top}/resource")
        device.driver = self.link(f"{top}/driver")
        device.smmu = self.link(f"{top}/iommu")
        device.group = self.link(f"{top}/iommu_group")
        vfio = [n for n in self.names(f"{top}/vfio-dev") if re.fullmatch(r"vfio\d+", n)]
        device.vfio = vfio[0] if vfio else None
        config = self.data(f"{top}/config", 4096, quiet=True) or b""
        device.header = config[14] & 0x7f if len(config) > 14 else 0
        device.ats, device.pasid = ext_caps(config)
        device.behind = self._pci_bridge_above(address)
        return device

    def _bars(self, path):
        text = self.text(path)
        if text is None:
            self.problem(path, "is missing or unreadable")
            return []
        bars = []
        for number, line in enumerate(text.splitlines()[:BARS + 1]):
            try:
                start, end, flags = (int(word, 16) for word in line.split())
            except ValueError:
                self.problem(path, f"line {number + 1} is no resource: {line[:30]!r}")
                continue
            if not flags & (IORESOURCE_IO | IORESOURCE_MEM) or end <= start:
                continue
            size = end - start + 1
            if end >= 1 << 64 or size & (size - 1):
                self.problem(path, f"line {number + 1} has {size:#x} bytes, which no BAR has")
                continue
            bars.append(Bar(number, size, bool(flags & IORESOURCE_IO),
                            bool(flags & IORESOURCE_MEM_64), bool(flags & IORESOURCE_PREFETCH)))
        return bars

    def _pci_bridge_above(self, address):
        """A PCIe-to-PCI bridge on the way to the device, whose StreamID it would have."""
        place = self.find(f"/sys/bus/pci/devices/{address}") or ""
        for part in place.split("/")[:-1]:
            if full_address(part) == part:
                config = self.data(f"/sys/bus/pci/devices/{part}/config", 256, quiet=True) or b""
                if express_type(config) == EXPRESS_TO_PCI_BRIDGE:
                    return part
        return None

    def complex_of(self, device):
        """What the IORT says of the device's root complex, or None."""
        return self.iort.complex_of(device.segment) if self.iort else None

    def group_of(self, device):
        """Addresses of the other devices of its IOMMU group.  QEMU counts bridges too
        (group_mates() in hw/vfio/iommufd-check.c)."""
        if device.group is None:
            return []
        names = self.names(f"/sys/kernel/iommu_groups/{device.group}/devices")
        return [n for n in names if n != device.address]

    def direct_regions(self, device):
        """What firmware wants mapped one to one for the device's group."""
        text = self.text(f"/sys/kernel/iommu_groups/{device.group}/reserved_regions") or ""
        return [line for line in text.splitlines() if line.split()[-1:] == ["direct"]]


def express_type(config):
    """The port type of a PCI Express function, or None (or not readable)."""
    if len(config) < 256 or not config[6] & 0x10:
        return None
    offset, seen = config[0x34] & 0xfc, 0
    while offset >= 0x40 and seen < 48:
        if config[offset] == CAP_EXPRESS:
            return config[offset + 2] >> 4
        offset, seen = config[offset + 1] & 0xfc, seen + 1
    return None


def ext_caps(config):
    """Has it ATS, and how wide are its PASIDs; None: only root may read that far."""
    if len(config) < 256:           # pci_read_config(): 64 bytes for other users than root
        return None, None
    if len(config) < 4096:
        return False, 0
    ats, pasid, offset, seen = False, 0, 0x100, 0
    while offset >= 0x100 and seen < 960:
        head = int.from_bytes(config[offset:offset + 4], "little")
        if head in (0, 0xffffffff):
            break
        if head & 0xffff == EXT_CAP_ATS:
            ats = True
        elif head & 0xffff == EXT_CAP_PASID:
            # 0 for one that would end behind the configuration space
            pasid = int.from_bytes(config[offset + 5:offset + 6], "little") & 0x1f
        offset, seen = head >> 20 & 0xffc, seen + 1
    return ats, pasid
