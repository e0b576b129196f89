"""A virtual machine, as far as SMMUv3s and assigned devices matter.

The planner makes one, and so do the readers of a command line and of an XML; the
writers of both take one.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import math
import re
from dataclasses import dataclass, field

KIB, MIB, GIB, TIB = (1 << n for n in (10, 20, 30, 40))
SIZE = re.compile(r"(\d+)([bkmgtpe]?)(?:i?b)?", re.I)


def size_of(text, unit=1):
    """Bytes, of a size as QEMU writes it (4G); UNIT is that of a plain number."""
    found = SIZE.fullmatch(str(text).strip())
    if not found:
        raise ValueError(f"{text!r} is no size; write 4G, for example")
    if not found[2]:
        return int(found[1]) * unit
    return int(found[1]) << 10 * "bkmgtpe".index(found[2].lower())


def size_text(size):
    for letter, unit in zip("TGMK", (TIB, GIB, MIB, KIB)):
        if size and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def power_of_2(size):
    """The lowest power of 2 that is not below SIZE."""
    return 1 << (size - 1).bit_length() if size > 1 else 1


@dataclass
class RootBus:
    id: str
    number: int = 0             # bus_nr
    node: int = None            # NUMA node of the guest


@dataclass
class Smmu:
    id: str
    bus: str                    # primary-bus
    accel: bool = True
    properties: dict = field(default_factory=dict)
    host: str = None            # the physical SMMU; the planner knows it


@dataclass
class Port:
    """Whatever has a bus below it but is no root complex: a port, a bridge."""
    id: str
    bus: str
    kind: str = "pcie-root-port"
    slot: int = None            # on its bus
    chassis: int = None
    number: int = 0             # "slot" of QEMU, "port" of libvirt
    reserve: dict = field(default_factory=dict)     # bus, io, mem, pref64, pref32

    RESERVES = {"bus": "bus-reserve", "io": "io-reserve", "mem": "mem-reserve",
                "pref64": "pref64-reserve", "pref32": "pref32-reserve"}


@dataclass
class Assigned:
    """A device of the host."""
    id: str
    bus: str
    host: str = None            # its address there; None if it comes by fd
    iommufd: str = None         # id of the object
    properties: dict = field(default_factory=dict)
    initiators: list = field(default_factory=list)  # nodes of its memory


@dataclass
class Other:
    """Any other device."""
    id: str
    driver: str
    bus: str


@dataclass
class Node:
    """A NUMA node of the guest."""
    memory: int = 0
    cpus: list = field(default_factory=list)
    host: int = None


@dataclass
class Machine:
    buses: list = field(default_factory=lambda: [RootBus("pcie.0")])
    smmus: list = field(default_factory=list)
    ports: list = field(default_factory=list)
    assigned: list = field(default_factory=list)
    others: list = field(default_factory=list)
    nodes: list = field(default_factory=list)
    iommufds: list = field(default_factory=list)
    options: dict = field(default_factory=dict)     # of -machine, with "type"
    memory: int = None
    cpus: int = None
    firmware: bool = True
    default_nic: bool = False
    source: str = "plan"
    doubts: list = field(default_factory=list)      # what the reader did not understand

    def bus(self, name):
        return next((b for b in self.buses if b.id == name), None)

    def root_of(self, name):
        """The root complex above a bus, or None if a bus is missing on the way."""
        ports = {p.id: p for p in self.ports}
        for _ in range(len(ports) + 1):
            if name in ports:
                name = ports[name].bus
        return self.bus(name)

    def below(self, root):
        """Ports, assigned devices and others below a root complex."""
        return [x for x in (*self.ports, *self.assigned, *self.others)
                if self.root_of(x.bus) is root]

    def smmu_of(self, root):
        return next((s for s in self.smmus if root and s.bus == root.id), None)

    @property
    def sockets(self):
        """How many sockets are needed for none to have CPUs of two nodes, or 0.  QEMU warns
        of one that has (validate_cpu_cluster_to_numa_boundary() in hw/core/machine.c)."""
        counts = [len(n.cpus) for n in self.nodes if n.cpus]
        return self.cpus // math.gcd(*counts) if len(counts) > 1 else 0

    @property
    def mmio_size(self):
        """Bytes of the window above 4 GiB, as QEMU has it unless it is told another."""
        size = self.options.get("highmem-mmio-size")
        return size_of(size) if size else 512 * GIB     # DEFAULT_HIGH_PCIE_MMIO_SIZE


def windows(bars):
    """(I/O, below 4 GiB, above 4 GiB) that a port needs for BARS, powers of 2 or 0.

    A bridge's window for 64-bit addresses is that for prefetchable memory, so that a
    64-bit BAR which is not prefetchable goes below 4 GiB (PCI-to-PCI Bridge 1.2, 3.2.5).
    """
    sums = [0, 0, 0]
    for bar in bars:
        sums[0 if bar.io else 2 if bar.wide and bar.prefetch else 1] += bar.size
    # What a bridge can decode, and at least what firmware keeps free below a port
    least = (4 * KIB, 2 * MIB, 2 * MIB)
    return [max(power_of_2(s), low) if s else 0 for s, low in zip(sums, least)]


def mmio_needed(per_root):
    """Bytes above 4 GiB for root complexes, each a list of windows of its ports.

    Each root complex has one range, aligned to its largest window.
    """
    end = 0
    for need in sorted((sorted(n, reverse=True) for n in per_root if any(n)), reverse=True):
        largest = need[0]
        end = (end + largest - 1) // largest * largest
        for size in need:
            end += size
    return end


def mmio_size_for(per_root):
    """A size of the window above 4 GiB that has room for them, and some for pcie.0."""
    return power_of_2(mmio_needed(per_root) + GIB)
