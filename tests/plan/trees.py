"""Sysfs trees of hosts, made from the descriptions in layouts/.

A description has a line for each thing:

  arch ARCH
  kernel RELEASE
  without OPTION...               of the kernel
  node N CPUS                     a NUMA node with CPUs
  smmu BASE IDENTIFIER [cmdqv]    an SMMUv3, and the identifier of its IORT node
  iommu NAME SEGMENT              another IOMMU
  segment SEGMENT SMMU [ats] [canwbs] [node=N]
  bus SEGMENT:BUS SMMU [node=N]   a root complex in such a segment, by its first bus
  bridge ADDRESS PORT             a PCIe-to-PCI bridge below a port
  dev ADDRESS VENDOR:DEVICE CLASS bars=SIZE:KIND,... [driver=NAME] [group=N] [ats]
      [pasid=BITS] [direct] [under=BRIDGE]

KIND is 32, 64, 64p (prefetchable), io or rom.  A device is below a root port which
is made for it, in a group of its own unless it names one.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import os
import struct

HERE = os.path.dirname(os.path.realpath(__file__))
LAYOUTS = os.path.join(HERE, "layouts")
OPTIONS = ("IOMMUFD", "VFIO_DEVICE_CDEV", "VFIO_PCI", "ARM_SMMU_V3", "ARM_SMMU_V3_IOMMUFD",
           "TEGRA241_CMDQV", "PCI_P2PDMA")
KINDS = {"32": 0x40200, "64": 0x140204, "64p": 0x14220c, "io": 0x40101, "rom": 0x46200}
VFIO = ("vfio-pci", "nvgrace_gpu_vfio_pci", "hisi_acc_vfio_pci")


def size_of(text):
    return int(text.rstrip("KMGT")) << 10 * " KMGT".index(text[-1] if text[-1] in "KMGT" else " ")


class Tree:
    def __init__(self, top):
        self.top = top
        self.groups = 0
        self.vfios = 0
        self.roots = {}             # (segment, first bus): (SMMU's path, node)
        self.ports = set()

    # --- files ---------------------------------------------------------------

    def write(self, path, data):
        path = self.top + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)

    def mkdir(self, path):
        os.makedirs(self.top + path, exist_ok=True)

    def link(self, path, target):
        """A relative link, as sysfs has them."""
        self.mkdir(os.path.dirname(path))
        self.mkdir(target)
        os.symlink(os.path.relpath(target, os.path.dirname(path)), self.top + path)

    # --- the description -----------------------------------------------------

    def build(self, text):
        lines = [line.split() for line in text.splitlines()
                 if line.strip() and not line.startswith("#")]
        of = {}
        for name, *words in lines:
            of.setdefault(name, []).append(words)
        self.kernel(of)
        for number, cpus in of.get("node", []):
            self.write(f"/sys/devices/system/node/node{number}/cpulist", cpus + "\n")
        smmus, nodes = {}, []
        for n, (base, identifier, *flags) in enumerate(of.get("smmu", [])):
            smmus[base] = self.smmu(n, int(base, 16))
            nodes.append((4, int(identifier), struct.pack("<Q", int(base, 16)) + bytes(40)))
            if "cmdqv" in flags:
                path = f"/sys/devices/LNXSYSTM:00/LNXSYBUS:00/NVDA200C:{n:02x}"
                self.link(f"/sys/bus/acpi/devices/NVDA200C:{n:02x}", path)
                self.write(path + "/uid", f"{identifier}\n")
        for name, segment in of.get("iommu", []):
            path = f"/sys/devices/virtual/iommu/{name}"
            self.link(f"/sys/class/iommu/{name}", path)
            self.roots[int(segment, 16), 0] = path, None
        for segment, base, *flags in of.get("segment", []):
            number = int(segment, 16)
            self.roots[number, 0] = smmus[base], self.option(flags, "node")
            memory = struct.pack("<IBHB", 1, 0, 0, 7 if "canwbs" in flags else 3)
            nodes.append((2, 0, memory + struct.pack("<II", "ats" in flags, number) + bytes(8)))
        for where, base, *flags in of.get("bus", []):
            segment, bus = where.split(":")
            self.roots[int(segment, 16), int(bus, 16)] = smmus[base], self.option(flags, "node")
        if smmus:
            self.write("/sys/firmware/acpi/tables/IORT", iort(nodes))
        for address, port in of.get("bridge", []):
            self.port(port)
            self.pci(address, port, config(0x060400, 1, express=7), 0x060400, "0x1b21", "0x1080")
        for words in of.get("dev", []):
            self.device(*words)

    @staticmethod
    def option(flags, name):
        return next((f.split("=")[1] for f in flags if f.startswith(name + "=")), None)

    def kernel(self, of):
        release = of["kernel"][0][0]
        self.write("/proc/sys/kernel/arch", of["arch"][0][0] + "\n")
        self.write("/proc/sys/kernel/osrelease", release + "\n")
        without = [w for words in of.get("without", []) for w in words]
        self.write(f"/boot/config-{release}", "".join(
            f"# CONFIG_{o} is not set\n" if o in without else f"CONFIG_{o}=y\n" for o in OPTIONS))

    def smmu(self, n, base):
        path = f"/sys/devices/platform/arm-smmu-v3.{n}.auto/iommu/smmu3.0x{base:016x}"
        self.link(f"/sys/class/iommu/smmu3.0x{base:016x}", path)
        self.mkdir(path + "/devices")
        return path

    def root_of(self, address):
        segment, bus = (int(p, 16) for p in address.split(":")[:2])
        first = max(b for s, b in self.roots if s == segment and b <= bus)
        return segment, first

    def pci(self, address, parent, data, cls, vendor, device):
        """A PCI function below PARENT, or on its root bus; returns its path."""
        if parent:
            above = os.path.realpath(f"{self.top}/sys/bus/pci/devices/{parent}")
            path = f"{above[len(os.path.realpath(self.top)):]}/{address}"
        else:
            segment, first = self.root_of(address)
            path = f"/sys/devices/pci{segment:04x}:{first:02x}/{address}"
        self.write(path + "/class", f"0x{cls:06x}\n")
        self.write(path + "/vendor", vendor + "\n")
        self.write(path + "/device", device + "\n")
        self.write(path + "/config", data)
        self.write(path + "/resource", "0x0000000000000000 0x0000000000000000 "
                   "0x0000000000000000\n" * 13)
        self.link(f"/sys/bus/pci/devices/{address}", path)
        smmu, node = self.roots[self.root_of(address)]
        self.write(path + "/numa_node", f"{node or -1}\n")
        self.link(f"{smmu}/devices/{address}", path)
        self.link(path + "/iommu", smmu)
        return path

    def group(self, path, address, number=None, direct=False):
        self.groups += number is None
        top = f"/sys/kernel/iommu_groups/{number or 100 + self.groups}"
        self.link(path + "/iommu_group", top)
        self.link(f"{top}/devices/{address}", path)
        self.write(top + "/reserved_regions",
                   ("0x00000000a0000000 0x00000000a00fffff direct\n" if direct else "")
                   + "0x0000000008000000 0x00000000080fffff msi\n")

    def port(self, address):
        if address not in self.ports:
            self.ports.add(address)
            path = self.pci(address, None, config(0x060400, 1, express=4), 0x060400,
                            "0x19e5", "0xa120")
            self.group(path, address)

    def device(self, address, ids, cls, *flags):
        parent = self.option(flags, "under")
        if not parent:
            segment, bus, slot = address.split(".")[0].split(":")
            first = self.root_of(address)[1]
            if int(bus, 16) != first:
                parent = f"{segment}:{first:02x}:{int(bus, 16) % 32:02x}.0"
                self.port(parent)
        vendor, device = ids.split(":")
        data = config(int(cls, 16), 0, 0, "ats" in flags, int(self.option(flags, "pasid") or 0))
        path = self.pci(address, parent, data, int(cls, 16), "0x" + vendor, "0x" + device)
        self.write(path + "/resource", resources(self.option(flags, "bars") or ""))
        self.group(path, address, self.option(flags, "group"), "direct" in flags)
        driver = self.option(flags, "driver")
        if driver:
            self.link(path + "/driver", f"/sys/bus/pci/drivers/{driver}")
        if driver in VFIO:
            self.mkdir(f"{path}/vfio-dev/vfio{self.vfios}")
            self.vfios += 1


def resources(bars):
    lines, place, rom = [], 1 << 44, (0, 0, 0)
    for bar in filter(None, bars.split(",")):
        size, kind = bar.split(":")
        size = size_of(size)
        place = (place + size - 1) // size * size
        line = place, place + size - 1, KINDS[kind]
        place += size
        if kind == "rom":
            rom = line
            continue
        lines.append(line)
        if kind.startswith("64"):
            lines.append((0, 0, 0))
    lines = lines + [(0, 0, 0)] * (6 - len(lines)) + [rom] + [(0, 0, 0)] * 6
    return "".join("0x%016x 0x%016x 0x%016x\n" % line for line in lines)


def config(cls, header, express, ats=False, pasid=0):
    """Configuration space: a PCI Express capability, and extended ones."""
    data = bytearray(4096)
    data[6] = 0x10
    data[9:12] = cls.to_bytes(3, "little")
    data[14] = header
    data[0x34] = 0x40
    struct.pack_into("<BBH", data, 0x40, 0x10, 0, 2 | express << 4)
    caps = [(1, 0x48)] + ([(0x0f, 8)] if ats else []) + ([(0x1b, 8)] if pasid else [])
    offset = 0x100
    for n, (cap, size) in enumerate(caps):
        following = offset + size if n + 1 < len(caps) else 0
        struct.pack_into("<I", data, offset, cap | 1 << 16 | following << 20)
        if cap == 0x1b:
            struct.pack_into("<H", data, offset + 4, pasid << 8)
        offset += size
    return bytes(data)


def iort(nodes):
    body = b"".join(struct.pack("<BHBIII", kind, 16 + len(data), 3, identifier, 0, 0) + data
                    for kind, identifier, data in nodes)
    head = struct.pack("<4sIBB6s8sIII", b"IORT", 48 + len(body), 6, 0, b"TESTS ", b"LAYOUT  ",
                       1, 0, 0)
    return head + struct.pack("<III", len(nodes), 48, 0) + body


def make(name, top):
    """The tree of the layout NAME in the directory TOP."""
    with open(os.path.join(LAYOUTS, name)) as f:
        Tree(top).build(f.read())
    return top
