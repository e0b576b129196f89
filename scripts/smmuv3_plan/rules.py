"""What is wrong in a machine: the rules that a command line or an XML must obey.

Each rule names where it is from.  A fault makes QEMU refuse the machine, or the guest
loses something; an advice does neither.
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
from dataclasses import dataclass

from .machine import (GIB, MIB, Port, mmio_needed, mmio_size_for, power_of_2, size_of, size_text,
                      windows)
from .planner import MOST_SMMUS, coherent

FAULT, ADVICE = "wrong", "advice"
RULES = []


class Numbers:
    """The texts of one number, and of those from LOW to HIGH."""

    def __init__(self, one, low, high):
        self.one, self.low, self.high = one, low, high

    def __contains__(self, text):
        return text.isdecimal() and (int(text) == self.one or self.low <= int(text) <= self.high)


# hw/arm/smmuv3-accel-props.c; those in the last two lines are ours
VALUES = {
    "accel": ("on", "off"),
    "ats": ("on", "off", "auto"), "ril": ("on", "off", "auto"), "cmdqv": ("on", "off", "auto"),
    "ssidsize": ("auto", *(str(n) for n in range(21))),
    "oas": ("auto", "32", "36", "40", "42", "44", "48", "52"),
    "share-stage2": ("on", "off"), "x-cmdqv-backend": ("auto", "software", "hardware"),
    "identifier": tuple(str(n) for n in range(256)), "cmdqv-poll-us": Numbers(0, 10, 10_000_000),
}
RANGES = {"ssidsize": "0..20 or auto", "identifier": "0..255", "cmdqv-poll-us": "10..10000000 or 0"}
# What an emulated SMMUv3 may have of these
EMULATED = {
    "ats": ("off", "auto"), "cmdqv": ("off", "auto"), "ril": ("on", "auto"),
    "ssidsize": ("0", "auto"), "oas": ("44", "auto"), "share-stage2": ("off",),
    "x-cmdqv-backend": ("auto",), "cmdqv-poll-us": ("0",),
}
OTHER_PROPERTIES = ("stage", "s2fwb", "msi-gpa")
IN_XML = ("ats", "ril", "cmdqv", "ssidsize", "oas")
NEWEST = (10, 0)            # versions of virt that QEMU 10.0 has


@dataclass
class Finding:
    rule: str
    verdict: str
    text: str
    remedy: str
    origin: str


def rule(name, origin):
    def register(function):
        RULES.append((name, origin, function))
        return function
    return register


def judge(machine, host, answers=None):
    """All findings, for a machine on a host.  HOST may know none of its devices."""
    found = []
    for name, origin, function in RULES:
        for verdict, text, remedy in function(machine, host, answers or {}):
            found.append(Finding(name, verdict, text, remedy, origin))
    return found


def accelerated(machine):
    """(SMMU, its root complex, what is below that), of each with accel=on."""
    for smmu in machine.smmus:
        root = machine.bus(smmu.bus)
        if smmu.accel and root:
            yield smmu, root, machine.below(root)


def hosted(machine, host, things=None):
    """(assigned device, the host's) of those that the host has."""
    for device in machine.assigned if things is None else things:
        if device in machine.assigned and device.host in host.devices:
            yield device, host.devices[device.host]


# --- the machine -------------------------------------------------------------

@rule("machine type", "smmuv3.rst, Limits")
def machine_type(m, *_):
    name = m.options.get("type", "")
    version = re.fullmatch(r"virt-(\d+)\.(\d+)", name)
    if name != "virt" and not version:
        yield (FAULT, f"the machine is {name or 'none'}, and only virt has SMMUv3s",
               "write -machine virt" if m.source != "XML" else "write machine='virt'")
    elif version and tuple(map(int, version.groups())) > NEWEST:
        yield FAULT, f"QEMU 10.0 does not know {name}", "write virt without a version"


@rule("ACPI", "virt-smmuv3.c: boots_by_device_tree()")
def acpi(m, *_):
    if not any(s.accel for s in m.smmus):
        return
    if m.options.get("acpi") == "off":
        yield (FAULT, "without ACPI the guest cannot learn of the host's MSI window",
               "add <acpi/> to <features>" if m.source == "XML" else "drop acpi=off")
    if not m.firmware:
        yield (FAULT, "without UEFI firmware the guest boots by device tree, which cannot "
               "describe the host's MSI window",
               "write <os firmware='efi'>" if m.source == "XML" else
               "add the two -drive if=pflash, or -bios")


@rule("MSIs", "virt-smmuv3.c: check_description()")
def msis(m, *_):
    if m.smmus and m.options.get("its") == "off" and m.options.get("gic-version") != "2":
        yield FAULT, "the machine has no ITS, the target of MSIs", "write its=on, or drop its=off"


@rule("one kind of IOMMU", "virt-smmuv3.c: check_other_iommus()")
def other_iommu(m, *_):
    kind = m.options.get("iommu", "none")
    if kind != "none" and m.smmus:
        yield (FAULT, f"iommu={kind} is there beside -device arm-smmuv3", f"drop iommu={kind}")
    for other in m.others:
        if other.driver == "virtio-iommu-pci" and m.smmus:
            yield FAULT, "a virtio-iommu-pci is there beside arm-smmuv3", "drop it"


@rule("there is an SMMU", "smmuv3.rst")
def any_smmu(m, *_):
    if not m.smmus:
        yield (FAULT, "no arm-smmuv3 is there, so nothing of this is accelerated",
               "add <iommu model='smmuv3'>" if m.source == "XML" else
               "add -device arm-smmuv3,primary-bus=BUS,accel=on")


@rule("number of SMMUs", "virt's platform bus: 64 interrupts, four or (cmdqv) five for each")
def count(m, *_):
    irqs = sum(5 if s.properties.get("cmdqv") == "on" else 4 for s in m.smmus)
    if irqs > 4 * MOST_SMMUS:
        yield (FAULT, f"{len(m.smmus)} SMMUs need {irqs} interrupts, and there are 64",
               "16 SMMUs fit, or 12 with cmdqv=on")


@rule("primary-bus", "smmuv3.rst; hw/arm/smmu-primary-bus.c")
def primary_bus(m, *_):
    seen = {}
    for smmu in m.smmus:
        word = "pciBus" if m.source == "XML" else "primary-bus"
        if smmu.bus is None:
            yield FAULT, f"{smmu.id} has no {word}", f"write {word}= with a root complex"
        elif m.bus(smmu.bus) is None:
            yield (FAULT, f"{smmu.id}: {word} {smmu.bus} is no root complex",
                   "name pcie.0 or a pxb-pcie" if m.source != "XML" else
                   "write the index of a pcie-expander-bus, or 0")
        elif smmu.bus in seen:
            yield (FAULT, f"{smmu.id} and {seen[smmu.bus]} are both on {smmu.bus}",
                   "one SMMU per root complex: make one more pxb-pcie")
        else:
            seen[smmu.bus] = smmu.id


@rule("ids", "QEMU: an id is given once; a bus must exist")
def ids(m, *_):
    names = [x.id for x in (*m.buses, *m.smmus, *m.ports, *m.assigned)]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield FAULT, f"{name} is there {names.count(name)} times", "give each its own name"
    for thing in (*m.ports, *m.assigned, *m.others):
        if m.root_of(thing.bus) is None:
            yield FAULT, f"{thing.id}: there is no bus {thing.bus}", "name one that exists"


@rule("bus numbers", "virt-smmuv3.c: check_number(), check_bus_numbers()")
def bus_numbers(m, *_):
    roots = sorted(m.buses, key=lambda b: (b.number is None, b.number))
    word = "busNr" if m.source == "XML" else "bus_nr"
    roots = [r for r in roots if r.number is not None]      # libvirt chooses the others
    for root, following in zip(roots, [*roots[1:], None]):
        end = following.number if following else 256
        bridges = sum(isinstance(x, Port) for x in m.below(root))
        if following and following.number == root.number:
            yield (FAULT, f"{root.id} and {following.id} both have bus number {root.number}",
                   f"write another {word}")
        elif root.number + bridges >= end:
            yield (FAULT, f"{root.id} has bus numbers {root.number} to {end - 1}, and each of "
                   f"its {bridges} ports needs one more: the guest does not see the devices "
                   "behind a port without one", f"leave more room between the {word}s")


@rule("chassis and slot", "hw/pci/pcie_port.c: pcie_chassis_add_slot()")
def chassis(m, *_):
    seen = {}
    for port in m.ports:
        if port.chassis is None or port.kind not in ("pcie-root-port", "ioh3420",
                                                     "xio3130-downstream"):
            continue
        key = port.chassis, port.number
        if key in seen:
            yield (FAULT, f"{port.id} and {seen[key]} have the same chassis and slot",
                   "give each another chassis=")
        seen.setdefault(key, port.id)


@rule("reserves", "hw/pci/pci_bridge.c: pci_bridge_qemu_reserve_cap_init()")
def reserves(m, *_):
    for port in m.ports:
        if "pref32" in port.reserve and "pref64" in port.reserve:
            yield FAULT, f"{port.id} has pref32-reserve and pref64-reserve", "drop pref32-reserve"
        for name in ("mem", "pref32"):
            if port.reserve.get(name, 0) >= 4 * GIB:
                yield (FAULT, f"{port.id} has {Port.RESERVES[name]} of 4 GiB or more",
                       "use pref64-reserve, for 64-bit prefetchable BARs")


@rule("window above 4 GiB", "hw/arm/virt.c: virt_set_highmem_mmio_size()")
def mmio_size(m, host, _):
    text = m.options.get("highmem-mmio-size")
    if text:
        try:
            size = size_of(text)
        except ValueError as e:
            yield FAULT, f"highmem-mmio-size: {e}", "write 2T, for example"
            return
        if size & (size - 1) or size < 512 * GIB:
            yield (FAULT, f"highmem-mmio-size={text} is not a power of 2 from 512G on",
                   f"write {size_text(max(power_of_2(size), 512 * GIB))}")
            return
    needs = []
    for root in m.buses:
        below = m.below(root)
        reserved = {p.id: p.reserve.get("pref64", 0) for p in below if isinstance(p, Port)}
        for device, real in hosted(m, host, below):
            high = windows(real.bars)[2]
            reserved[device.bus] = max(reserved.get(device.bus, 0), high)
        needs.append([power_of_2(n) for n in reserved.values() if n])
    need = mmio_needed(needs)
    if need >= m.mmio_size:             # pcie.0 needs some of it too
        size = size_text(mmio_size_for(needs))
        yield (FAULT, f"BARs and reserves need {size_text(need)} above 4 GiB, and the window "
               f"has {size_text(m.mmio_size)}",
               f"write highmem-mmio-size={size}" if m.source != "XML" else
               f"give pcie-root <pcihole64 unit='KiB'>{size_of(size) >> 10}</pcihole64>")


@rule("window below 4 GiB", "hw/arm/virt.c: VIRT_PCIE_MMIO, 767 MiB")
def low_window(m, host, _):
    need = sum(windows(real.bars)[1] for _, real in hosted(m, host))
    if need > 700 * MIB:
        yield (FAULT, f"32-bit BARs need {size_text(need)}, and a machine has 767M for all of "
               "them", "assign fewer such devices to one guest")


@rule("NUMA", "hw/pci-bridge/pci_expander_bridge.c: Illegal numa node")
def numa(m, host, _):
    for root in m.buses:
        if root.node is not None and root.node >= len(m.nodes):
            yield (FAULT, f"{root.id} is on NUMA node {root.node}, and the guest has "
                   f"{len(m.nodes)} of them", "add -numa node,... or drop numa_node")
            continue
        real = {d.node for _, d in hosted(m, host, m.below(root)) if d.node is not None}
        mine = m.nodes[root.node].host if root.node is not None else None
        if mine is not None and real and mine not in real:
            yield (ADVICE, f"{root.id} is on a node with memory of the host's node {mine}, and "
                   f"its devices are on node {', '.join(map(str, sorted(real)))}",
                   "give it the node with that memory")


# --- what is behind an SMMU --------------------------------------------------

@rule("assigned devices only", "smmuv3-accel-pci.c: an accelerated SMMUv3 has no others")
def others(m, *_):
    for smmu, root, below in accelerated(m):
        for thing in below:
            if thing in m.others:
                yield (FAULT, f"{thing.id} ({thing.driver}) is behind {smmu.id}, which "
                       "translates assigned devices only",
                       "put it on a root complex without accel=on" if m.source != "XML" else
                       "put it on another bus, by <address type='pci' bus=...>")
        if root.id == "pcie.0" and m.default_nic:
            yield (FAULT, f"the machine's default NIC is behind {smmu.id}", "add -nic none")


@rule("iommufd", "smmuv3-accel-pci.c; smmuv3-accel-stream.c")
def iommufd(m, *_):
    remedy = ("write <driver iommufd='yes'/> in the hostdev" if m.source == "XML" else
              "add -object iommufd,id=iommufd0 and iommufd=iommufd0")
    for smmu, _, below in accelerated(m):
        mine = [d for d in below if d in m.assigned]
        for device in mine:
            if not device.iommufd:
                yield FAULT, f"{device.id} behind {smmu.id} has no iommufd", remedy
            elif m.source != "XML" and device.iommufd not in m.iommufds:
                yield FAULT, f"{device.id}: there is no object {device.iommufd}", remedy
        if len({d.iommufd for d in mine if d.iommufd}) > 1:
            yield (FAULT, f"the devices behind {smmu.id} use several iommufd objects",
                   "give all of them the same one")


@rule("one physical SMMU", "smmuv3-accel-stream.c; Linux arm-smmu-v3-iommufd.c: arm_vsmmu_init()")
def one_physical(m, host, _):
    for smmu, _, below in accelerated(m):
        real = {}
        for device, found in hosted(m, host, below):
            real.setdefault(found.smmu, []).append(device.host)
        if len(real) > 1:
            parts = "; ".join(f"{' '.join(a)} behind {n or 'none'}"
                              for n, a in sorted(real.items(), key=lambda i: str(i[0])))
            yield (FAULT, f"the devices behind {smmu.id} are behind several of the host's: {parts}",
                   "one root complex and one arm-smmuv3 per physical SMMU")


@rule("SMMUs of one physical SMMU", "smmuv3.rst, share-stage2")
def split(m, host, _):
    users = {}
    for smmu, _, below in accelerated(m):
        for _, found in hosted(m, host, below):
            users.setdefault(found.smmu, {})[smmu.id] = None
    for name, mine in users.items():
        if name and len(mine) > 1:
            yield (ADVICE, f"{' and '.join(mine)} are both on the host's {name}: right, but the "
                   "guest needs one only", "put their devices behind one")


@rule("translated at all", "smmuv3-accel-pci.c: a warning of QEMU")
def translated(m, *_):
    for device in m.assigned:
        root = m.root_of(device.bus)
        smmu = m.smmu_of(root)
        if smmu and not smmu.accel:
            yield (FAULT, f"{device.id} is behind {smmu.id}, which is emulated and never sees "
                   "its DMA", "add accel=on to the SMMU, or use another root complex")
        elif root and not smmu and any(s.accel for s in m.smmus):
            yield (ADVICE, f"{device.id} is on {root.id}, which has no SMMU",
                   "give it a bus= below the root complex of an accelerated SMMU")
    for smmu, root, below in accelerated(m):
        if not any(d in m.assigned for d in below):
            yield (ADVICE, f"no device is behind {smmu.id} at start: it gets 44 bits of address "
                   "and no range invalidation, PASIDs or ATS, unless properties say so",
                   "name a device, or set oas=, ril=, ssidsize=, ats=")


@rule("host's devices", "the host's sysfs")
def known(m, host, _):
    for device in m.assigned:
        if device.host is None:
            if "fd" not in device.properties and "sysfsdev" not in device.properties:
                yield FAULT, f"{device.id} has neither host= nor fd=", "write host=ADDRESS"
        elif "$" in device.host:
            continue                    # a variable of a shell
        elif device.host not in host.devices:
            yield (FAULT, f"the host has no device {device.host}",
                   "see lspci -D; for a machine of another host use --root=DIR")
        else:
            real = host.devices[device.host]
            if real.smmu not in host.smmus:
                yield (FAULT, f"{device.host} is not behind an SMMUv3 of the host",
                       "put it on a root complex without accel=on")


@rule("IOMMU group", "hw/vfio/iommufd-check.c: vfio_iommufd_check_group()")
def groups(m, host, _):
    for smmu, _, below in accelerated(m):
        for device, real in hosted(m, host, below):
            mates = host.group_of(real)
            if mates:
                yield (FAULT, f"{device.host} behind {smmu.id} shares its IOMMU group with "
                       f"{', '.join(mates)}",
                       "use a slot with ACS, remove the others in the host, or assign all of "
                       "them without accel=on")


# --- properties --------------------------------------------------------------

@rule("properties", "hw/arm/smmuv3-accel-props.c; libvirt's domaincommon.rng")
def properties(m, *_):
    for smmu in m.smmus:
        for name, text in smmu.properties.items():
            if name == "pasid":
                yield (FAULT, f"{smmu.id}: pasid= is an older name",
                       "write ssidsize=auto, or a number of bits")
            elif m.source == "XML" and name not in VALUES:
                yield (FAULT, f"{smmu.id}: libvirt does not know {name}='{text}' and drops it",
                       f"<driver> has {', '.join(IN_XML)}")
            elif name not in VALUES and name not in OTHER_PROPERTIES and name[:2] != "x-":
                yield (FAULT, f"{smmu.id} has no property {name}",
                       f"it has {', '.join(('primary-bus', *VALUES))}")
            elif text not in VALUES.get(name, (text,)):
                yield (FAULT, f"{smmu.id}: {name}={text} is not possible",
                       "write " + (RANGES.get(name) or ", ".join(VALUES[name])))
            elif smmu.accel and name == "stage" and text != "1" or \
                    smmu.accel and name == "s2fwb" and text == "on":
                yield (FAULT, f"{smmu.id}: with accel=on stage 2 belongs to the host",
                       f"drop {name}=")
            elif not smmu.accel and text not in EMULATED.get(name, (text,)):
                yield (FAULT, f"{smmu.id}: {name}={text} needs accel=on",
                       "add accel=on, or leave it out")
        for name, none in ("x-cmdqv-backend", "auto"), ("cmdqv-poll-us", "0"):
            if smmu.properties.get(name, none) != none and smmu.properties.get("cmdqv") != "on":
                yield FAULT, f"{smmu.id}: {name} needs cmdqv=on", "add that, or leave it out"
    numbers = [s.properties.get("identifier") for s in m.smmus]
    for one in sorted({n for n in numbers if n is not None and numbers.count(n) > 1}):
        yield FAULT, f"identifier={one} is there twice", "leave it out: the machine chooses"


@rule("what the host has", "smmuv3-accel-caps.c")
def host_has(m, host, answers):
    for smmu, _, below in accelerated(m):
        for device, real in hosted(m, host, below):
            answer = answers.get(real.address)
            if not answer:
                continue
            have = {"ssidsize": answer.get("ssidsize"), "oas": answer.address_bits or 48,
                    "ril": answer.get("ril")}
            for name, most in have.items():
                text = smmu.properties.get(name, "auto")
                want = 1 if text == "on" else int(text) if text.isdigit() else 0
                if want > most:
                    yield (FAULT, f"{smmu.id}: {name}={text}, and the host SMMUv3 of "
                           f"{device.host} has {most}", f"use {name}=auto")


@rule("PASID capability", "hw/vfio/pci-pasid.c")
def vpasid(m, *_):
    for device in m.assigned:
        text = device.properties.get("x-vpasid-cap-offset")
        if text is None:
            continue
        try:
            offset = int(text, 0)
        except ValueError:
            offset = -1
        if offset and (offset % 4 or not 0x100 <= offset <= 0xff8):
            yield (FAULT, f"{device.id}: x-vpasid-cap-offset={text} is no place for a capability",
                   "a multiple of 4 from 0x100 to 0xff8, or 0")
    for smmu, _, below in accelerated(m):
        if smmu.properties.get("ssidsize", "0") in ("0", "auto"):
            continue
        for port in below:
            if isinstance(port, Port) and port.kind in ("xio3130-downstream",
                                                        "pcie-switch-downstream-port"):
                yield (ADVICE, f"{port.id} has no ACS, so that Linux enables no PASIDs below it",
                       "use a pcie-root-port")


@rule("memory of a GPU", "Linux drivers/vfio/pci/nvgrace-gpu/main.c")
def gpu_memory(m, host, _):
    for device, real in hosted(m, host):
        if coherent(real) and len(m.nodes) < 2:
            yield (ADVICE, f"{device.host} has memory that the guest can use by NUMA nodes, and "
                   "the guest has none for it",
                   "add -numa node and -object acpi-generic-initiator, as a plan shows")


@rule("memory lock", "smmuv3.rst, Hosts")
def locked(m, host, _):
    if host.live and m.source != "XML" and m.memory and host.memlock is not None \
            and host.memlock <= m.memory:
        yield (ADVICE, f"this user may lock {size_text(host.memlock)}, and the guest has "
               f"{size_text(m.memory)}", "raise the limit (ulimit -l)")
