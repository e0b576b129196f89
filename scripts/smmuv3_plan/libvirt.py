"""libvirt's XML of a domain: writes one for a machine, and reads one.

What a property is called there is read off libvirt 12.9's schema (domaincommon.rng).
"""
# SPDX-License-Identifier: GPL-2.0-or-later

import re
import xml.etree.ElementTree as ET

from . import cmdline
from .cmdline import BadInput
from .machine import (KIB, MIB, Assigned, Machine, Node, Other, Port, RootBus, Smmu, size_of,
                      size_text)

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
# A reserve that firmware makes by itself for a port (OVMF's PciHotPlugInitDxe): not
# worth an override, which libvirt calls "tainted"
USUAL = 32 * MIB
ADDRESS = re.compile(r"([0-9a-f]+):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


# --- writing -----------------------------------------------------------------

def sub(parent, tag, text=None, **attributes):
    element = ET.SubElement(parent, tag, {k: str(v) for k, v in attributes.items()})
    element.text = text
    return element


def pci_address(parent, bus, slot=0):
    sub(parent, "address", type="pci", bus=f"{bus:#04x}", slot=f"{slot:#04x}", function="0x0")


def write(machine, bind=True):
    ET.register_namespace("qemu", QEMU)
    domain = ET.Element("domain", type="kvm")
    sub(domain, "name", "guest")
    sub(domain, "memory", str(machine.memory // KIB), unit="KiB")
    sub(domain, "vcpu", str(machine.cpus))
    if bind and any(n.host is not None for n in machine.nodes):
        tune = sub(domain, "numatune")
        for n, node in enumerate(machine.nodes):
            if node.memory:
                sub(tune, "memnode", cellid=n, mode="strict", nodeset=node.host)
    firmware = sub(domain, "os", firmware="efi")
    sub(firmware, "type", "hvm", arch="aarch64", machine=machine.options["type"])
    features = sub(domain, "features")
    sub(features, "acpi")
    sub(features, "gic", version=machine.options.get("gic-version", "3"))
    cpu = sub(domain, "cpu", mode="host-passthrough")
    if machine.nodes:
        if machine.sockets:
            sub(cpu, "topology", sockets=machine.sockets, threads=1,
                cores=machine.cpus // machine.sockets)
        numa = sub(cpu, "numa")
        for n, node in enumerate(machine.nodes):
            cpus = {"cpus": f"{node.cpus[0]}-{node.cpus[-1]}"} if node.cpus else {}
            sub(numa, "cell", id=n, memory=node.memory // KIB, unit="KiB", **cpus)
    overrides = devices(machine, sub(domain, "devices"))
    if overrides:
        override = sub(domain, f"{{{QEMU}}}override")
        for alias, properties in overrides:
            frontend = sub(sub(override, f"{{{QEMU}}}device", alias=alias), f"{{{QEMU}}}frontend")
            for name, value in properties.items():
                sub(frontend, f"{{{QEMU}}}property", name=name, type="unsigned", value=value)
    ET.indent(domain)
    text = ET.tostring(domain, encoding="unicode").replace('"', "'").replace(" />", "/>")
    return "\n".join(break_line(line) for line in text.splitlines())


def break_line(line):
    """Break before the last attribute that is beyond 80 columns."""
    if len(line) <= 80:
        return line
    cut = line.rfind(" ", 0, line.rfind("="))
    return line[:cut] + "\n" + " " * line.find(" ", line.find("<")) + line[cut:]


def devices(machine, parent):
    """Write all devices; returns overrides, (alias, properties)."""
    sub(parent, "emulator", "/usr/bin/qemu-system-aarch64")
    disk = sub(parent, "disk", type="file", device="disk")
    sub(disk, "driver", name="qemu", type="qcow2")
    sub(disk, "source", file="/var/lib/libvirt/images/guest.qcow2")
    sub(disk, "target", dev="vda", bus="virtio")
    root = sub(parent, "controller", type="pci", index=0, model="pcie-root")
    if "highmem-mmio-size" in machine.options:
        sub(root, "pcihole64", str(machine.mmio_size // KIB), unit="KiB")
    index, overrides = {"pcie.0": 0}, []
    for bus in machine.buses[1:]:
        index[bus.id] = len(index)
        controller = sub(parent, "controller", type="pci", index=index[bus.id],
                         model="pcie-expander-bus")
        target = sub(controller, "target", busNr=bus.number)
        if bus.node is not None:
            sub(target, "node", str(bus.node))
        for port in (p for p in machine.ports if p.bus == bus.id):
            index[port.id] = len(index)
            controller = sub(parent, "controller", type="pci", index=index[port.id],
                             model="pcie-root-port")
            if port.reserve.get("mem"):
                sub(controller, "target", memReserve=port.reserve["mem"] // KIB)
            pci_address(controller, index[bus.id], port.slot)
            if port.reserve.get("pref64", 0) > USUAL:
                overrides.append((f"pci.{index[port.id]}",
                                  {"pref64-reserve": port.reserve["pref64"]}))
    sub(parent, "controller", type="usb", model="none")
    sub(parent, "serial", type="pty")
    sub(parent, "console", type="pty")
    for smmu in machine.smmus:
        sub(sub(parent, "iommu", model="smmuv3"), "driver", pciBus=index[smmu.bus],
            accel="on" if smmu.accel else "off", **smmu.properties)
    for device in machine.assigned:
        hostdev = sub(parent, "hostdev", mode="subsystem", type="pci", managed="yes")
        sub(hostdev, "driver", iommufd="yes")
        domain, bus, slot, function = ADDRESS.fullmatch(device.host).groups()
        sub(sub(hostdev, "source"), "address", domain=f"0x{domain}", bus=f"0x{bus}",
            slot=f"0x{slot}", function=f"0x{function}")
        if device.initiators:
            sub(hostdev, "acpi", nodeset=f"{device.initiators[0]}-{device.initiators[-1]}")
        pci_address(hostdev, index[device.bus])
    sub(parent, "memballoon", model="none")
    return overrides


# --- reading -----------------------------------------------------------------

EXPANDERS = ("pcie-expander-bus", "pci-expander-bus")
# What libvirt puts on a PCI bus
ON_PCI = ("interface", "video", "rng", "sound", "vsock", "shmem", "crypto")


def value(element, name, doubts, default=None):
    text = element.get(name) if element is not None else None
    if text is None:
        return default
    try:
        return int(text, 0) if text[:2] == "0x" else int(text)
    except ValueError:
        doubts.append(f"<{element.tag}> has {name}={text!r}, which is no number")
        return default


def scaled(element, doubts):
    """Bytes, of an element with a unit; KiB without one."""
    unit = element.get("unit", "KiB")
    text = (element.text or "").strip()
    try:
        return size_of(text + {"b": "B", "bytes": "B"}.get(unit, unit))
    except ValueError:
        doubts.append(f"<{element.tag}> has {text} {unit}, which is no size")
        return None


def bus_name(index):
    return f"pci.{index}" if index else "pcie.0"


def read(text):
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadInput("an XML of libvirt has no DOCTYPE")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as e:
        raise BadInput(f"this is no XML: {e}") from None
    domain = root if root.tag == "domain" else root.find(".//domain")
    if domain is None:
        raise BadInput(f"this is an XML of <{root.tag}>, not of a <domain>")
    machine = Machine(source="XML")
    doubts = machine.doubts
    kind = domain.find("os/type")
    machine.options = {"type": (kind.get("machine") or "") if kind is not None else ""}
    os = domain.find("os")
    machine.firmware = os is not None and (os.get("firmware") == "efi"
                                           or os.find("loader") is not None)
    if domain.find("features/acpi") is None:
        machine.options["acpi"] = "off"
    memory = domain.find("memory")
    machine.memory = scaled(memory, doubts) if memory is not None else None
    read_nodes(machine, domain)
    parent = domain.find("devices")
    for element in parent if parent is not None else ():
        read_element(machine, element, doubts)
    for device in domain.iter(f"{{{QEMU}}}device"):
        read_override(machine, device, doubts)
    arguments = cmdline.pairs(a.get("value", "") for a in domain.iter(f"{{{QEMU}}}arg"))
    every = cmdline.settings(arguments).get("arm-smmuv3", {})
    machine.smmus = [cmdline.read_smmu(s.id, s.bus, {**every, **s.properties})
                     for s in machine.smmus]
    cmdline.read_options(machine, arguments)
    return machine


def read_nodes(machine, domain):
    hosts = {m.get("cellid"): m.get("nodeset", "") for m in domain.iter("memnode")}
    for cell in domain.findall("cpu/numa/cell"):
        host = hosts.get(cell.get("id"), "")
        size = ET.Element("cell", unit=cell.get("unit", "KiB"))
        size.text = cell.get("memory", "0")
        machine.nodes.append(Node(scaled(size, machine.doubts) or 0,
                                  host=int(host) if host.isdigit() else None))


def read_element(machine, element, doubts):
    where = element.find("address[@type='pci']")
    bus = bus_name(value(where, "bus", doubts, 0))
    if element.tag == "controller" and element.get("type") == "pci":
        read_controller(machine, element, bus, doubts)
    elif element.tag == "iommu":
        read_iommu(machine, element, doubts)
    elif element.tag == "hostdev" and element.get("type") == "pci":
        source = element.find("source/address")
        parts = [value(source, name, doubts, 0) for name in ("domain", "bus", "slot", "function")]
        host = "{:04x}:{:02x}:{:02x}.{:x}".format(*parts) if source is not None else None
        driver = element.find("driver")
        uses = driver is not None and driver.get("iommufd") == "yes"
        machine.assigned.append(Assigned(
            f"hostdev {host}", bus, host, "iommufd0" if uses else None))
    elif where is not None or element.tag in ON_PCI and element.get("model") != "none" or \
            element.tag == "memballoon" and element.get("model", "virtio") == "virtio" or \
            element.tag == "disk" and (t := element.find("target")) is not None \
            and t.get("bus") == "virtio":
        name = element.find("alias")
        name = name.get("name") if name is not None else element.tag
        machine.others.append(Other(name, f"<{element.tag}>", bus))


def read_controller(machine, element, bus, doubts):
    index, model = value(element, "index", doubts), element.get("model", "")
    target = element.find("target")
    if index is None and model != "pcie-root":
        # libvirt counts on
        index = len(machine.buses) + len(machine.ports)
    if model == "pcie-root":
        hole = element.find("pcihole64")
        size = scaled(hole, doubts) if hole is not None else None
        if size:
            machine.options["highmem-mmio-size"] = size_text(size)
    elif model in EXPANDERS:
        node = target.findtext("node") if target is not None else None
        machine.buses.append(RootBus(bus_name(index), value(target, "busNr", doubts),
                                     int(node) if node and node.isdigit() else None))
    elif model:
        port = Port(bus_name(index), bus, model)
        reserve = value(target, "memReserve", doubts)
        if reserve:
            port.reserve["mem"] = reserve * KIB
        machine.ports.append(port)


def read_iommu(machine, element, doubts):
    if element.get("model") != "smmuv3":
        doubts.append(f"<iommu model={element.get('model')!r}> is no SMMUv3")
        return
    driver = element.find("driver")
    attributes = dict(driver.attrib) if driver is not None else {}
    index = value(driver, "pciBus", doubts)
    attributes.pop("pciBus", None)
    machine.smmus.append(Smmu(f"iommu{len(machine.smmus)}",
                              bus_name(index) if index is not None else None,
                              properties=attributes))


def read_override(machine, element, doubts):
    for prop in element.iter(f"{{{QEMU}}}property"):
        for port in machine.ports:
            for key, name in Port.RESERVES.items():
                if port.id == element.get("alias") and prop.get("name") == name:
                    port.reserve[key] = value(prop, "value", doubts, 0)
